"""Yahoo's wire formats, against recorded frames and answers and a model of its chart."""

from __future__ import annotations

import asyncio
import base64
import csv
import datetime as dt
import json
import struct
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.venues.conformance import Case, Conformance
from watchhamster.core.actions import Action, adjustment, as_traded
from watchhamster.core.market import Candle, Ticker
from watchhamster.core.ports import (
    BadFrame,
    RateLimited,
    Rejected,
    Request,
    Response,
    Subscription,
    Unavailable,
    UsageError,
)
from watchhamster.core.secret import Secret
from watchhamster.core.sessions import hours_of
from watchhamster.core.timeframes import SECOND_NS, Timeframe, timeframe
from watchhamster.venues.wire import HttpWire
from watchhamster.venues.yahoo import Yahoo, known_instruments, major_unit, parse_chart, read_pricing

DATA = Path(__file__).resolve().parents[1] / "data" / "yahoo"
NEW_YORK = ZoneInfo("America/New_York")
DAY_S = 86_400
FRAMES = [json.dumps(frame) for frame in json.loads((DATA / "ws-pricing-frames.json").read_text())]
CHART = (DATA / "rest-chart-AAPL-1d.json").read_bytes()

# Recorded (the first three) and made by hand: what they hold was decoded with another protobuf reader.
APPLE = "CgRBQVBMFaSQnkMYgMK+iYloKgNOTVMwCDgBRSuETz9I1sW3AmWAMyNAsAFk2AEE"
OPTION = "ChNOVkRBMjYwODI4UDAwMjI1MDAwFaRwfT8YoImIiYloKgNPUFIwDTgBRRF3fb9IrhllANcjvJIBBE5WREGwAQK9AaRwfT/NAVyPgj/YAQg="
BITCOIN = (
    "CgdCVEMtVVNEFYoMuUcYwLCVgIplIgNVU0QqA0NDQzApOAFFPWrEP0iAgOrxvANVx/25R12csrRHZYD8skR9/7i0R7ABgIDq8bwD2AEE4AGA"
    "gOrxvAPoAYCA6vG8A/IBA0JUQ4ECAAAAwPrjckGJAgAA2P5ZT3tC"
)
SAMSUNG = "CgkwMDU5MzAuS1MVAKaLRxiAsNzS8WYqA0tTQzAIOAFFb4+1P0icheMLZQAAekSwAawC2AEE"
TESLA = "CgRUU0xBFQBAekMYgLDc0vFmKgNOTVMwCEUAAMC/SAFlyeVzwNgBBA=="


# ---------------------------------------------------------------- a writer of frames, and a model of the chart


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def pricing(**fields: Any) -> str:
    """A frame, written here without the venue's help."""
    numbers = {"price": 2, "change_percent": 8, "high": 10, "low": 11, "change": 12, "open": 15, "previous_close": 16}
    out = b""
    for name, value in fields.items():
        if name in ("id", "currency", "exchange"):
            data = value.encode()
            out += bytes([{"id": 1, "currency": 4, "exchange": 5}[name] << 3 | 2]) + varint(len(data)) + data
        elif name in numbers:
            out += varint(numbers[name] << 3 | 5) + struct.pack("<f", value)
        elif name in ("time", "day_volume", "last_size"):
            zigzag = value << 1 if value >= 0 else (-value << 1) - 1
            out += varint({"time": 3, "day_volume": 9, "last_size": 22}[name] << 3) + varint(zigzag)
        elif name == "unknown":
            out += varint(99 << 3 | 2) + varint(3) + b"???"
        else:
            out += varint({"quote_type": 6, "market_hours": 7}[name] << 3) + varint(value)
    return json.dumps({"type": "pricing", "message": base64.b64encode(out).decode()})


def ms(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp() * 1000)


def decoded(venue: Yahoo, frame: str, received_ns: int | None = None) -> Ticker:
    [ticker] = venue.decode(frame, received_ns)
    assert isinstance(ticker, Ticker)
    return ticker


def stamp(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp())


def midnight(at: int, zone: ZoneInfo = NEW_YORK) -> int:
    """Where the local day of a moment begins."""
    return int(dt.datetime.combine(dt.datetime.fromtimestamp(at, zone).date(), dt.time(), zone).timestamp())


def reply(body: object, at: int | None = None, status: int = 200, **headers: str) -> Response:
    if at is not None:
        headers["date"] = format_datetime(dt.datetime.fromtimestamp(at, dt.UTC), usegmt=True)
    return Response(status, headers, body if isinstance(body, bytes) else json.dumps(body).encode())


def period(day: dt.date, since: str, until: str, zone: ZoneInfo = NEW_YORK) -> dict[str, Any]:
    start, end = (int(dt.datetime.combine(day, dt.time.fromisoformat(t), zone).timestamp()) for t in (since, until))
    return {"timezone": "?", "start": start, "end": end, "gmtoffset": -1}


def chart_body(
    symbol: str, rows: list[tuple[int, Any, Any, Any, Any, Any]], granularity: str = "1d", **more: Any
) -> dict[str, Any]:
    """An answer of the shape that was recorded."""
    meta: dict[str, Any] = {
        "currency": "USD",
        "symbol": symbol,
        "exchangeName": "NMS",
        "instrumentType": "EQUITY",
        "exchangeTimezoneName": "America/New_York",
        "gmtoffset": -14400,
        "priceHint": 2,
        "dataGranularity": granularity,
        "range": "",
        "regularMarketPrice": 100.0,
        "regularMarketTime": 1_790_971_201,
        **more.pop("meta", {}),
    }
    names = ("open", "high", "low", "close", "volume")
    result: dict[str, Any] = {"meta": meta, "indicators": {"quote": [{}]}, **more}
    if rows:
        times, *columns = zip(*rows, strict=True)
        result["timestamp"] = list(times)
        result["indicators"] = {"quote": [dict(zip(names, map(list, columns), strict=True))]}
        result["indicators"].update(more.get("indicators", {}))
    return {"chart": {"result": [result], "error": None}}


class YahooCase(Case):
    """A Wednesday morning in New York. Every weekday trades; every 13th bar has no trade; the last row is live."""

    venue = Yahoo()
    symbols = ("AAPL", "BRK-B")
    kinds = ("ticker", "candle")
    tickers_a_call = 1
    on_utc_grid = False
    frames = (
        *FRAMES,
        *(json.dumps({"type": "pricing", "message": text}) for text in (APPLE, OPTION, BITCOIN, SAMSUNG, TESLA)),
    )
    quiet = ('{"type":"heartbeat"}', '{"type":"news","message":"?"}', pricing(id="", quote_type=7))
    errors = ()
    now = stamp("2026-08-26T11:08:37-04:00")
    now_ns = now * SECOND_NS
    paid: tuple[tuple[Literal["dividend", "split"], str, float], ...] = (
        ("dividend", "2026-05-11", 0.26),
        ("split", "2026-07-15", 4.0),
        ("dividend", "2026-08-10", 0.27),
    )
    actions = tuple(
        Action("yahoo:AAPL", stamp(f"{day}T00:00:00-04:00") * SECOND_NS, kind, amount) for kind, day, amount in paid
    )
    granularities = {"1h": "60m", "1w": "1wk", "1M": "1mo", "3M": "3mo"}
    first_trade = 345_479_400

    def opens(self, name: str, since: int, until: int) -> Iterator[tuple[int, int]]:
        """Where bars begin and end that begin in the span."""
        day = dt.datetime.fromtimestamp(max(since, self.first_trade) - 100 * DAY_S, NEW_YORK).date()
        last = dt.datetime.fromtimestamp(min(until, self.now), NEW_YORK).date()
        while day <= last:
            session = period(day, "09:30", "16:00")
            midnight = period(day, "00:00", "00:00")["start"]
            begins: list[tuple[int, int]] = []
            if name == "1d" and day.weekday() < 5:
                begins = [(session["start"], session["end"])]
            elif (name == "1w" and day.weekday() == 0) or (
                day.day == 1 and (name == "1M" or (name == "3M" and day.month % 3 == 1))
            ):
                days = {"1M": 31, "3M": 92}.get(name)
                later = day + dt.timedelta(7) if days is None else (day + dt.timedelta(days)).replace(day=1)
                begins = [(midnight, period(later, "00:00", "00:00")["start"])]
            elif name[-1] in "mh" and day.weekday() < 5:
                step = int(name[:-1]) * (60 if name[-1] == "m" else 3600)
                begins = [(t, min(t + step, session["end"])) for t in range(session["start"], session["end"], step)]
            yield from (pair for pair in begins if max(since, self.first_trade) <= pair[0] < until)
            day += dt.timedelta(1)

    def prices(self, open_s: int) -> tuple[float, float, float, float, int] | None:
        base = 100 + open_s // 60 % 97 / 8
        if open_s // 60 % 13 == 0:
            return None
        return base, base + 1.5, base - 0.25, base + 0.125, open_s // 60 % 1000

    def is_over(self, name: str, end_s: int) -> bool:
        return end_s + (60 if name[-1] in "mh" else 3600) <= self.now

    def candles(self, frame: Timeframe, since_ns: int, until_ns: int) -> list[Candle]:
        found = []
        since, until = since_ns // SECOND_NS, -(-until_ns // SECOND_NS)
        for open_s, end_s in self.opens(frame.name, since, until + DAY_S):
            begin = midnight(open_s) if frame.name == "1d" else open_s
            if not since <= begin < until:
                continue
            live = open_s <= self.now < end_s
            if (values := self.prices(open_s)) is None and not live:
                continue
            o, h, lo, c, v = values or (100.0, 101.0, 99.0, 100.5, 7)
            closed = self.is_over(frame.name, end_s)
            found.append(
                Candle("yahoo:AAPL", frame.name, begin * SECOND_NS, o, h, lo, c, float(v), None, closed, "live")
            )
        return found

    def asked_since_ns(self, frame: Timeframe) -> int:
        days = {"1m": 20, "5m": 45, "15m": 50, "1h": 700}.get(frame.name)
        return super().asked_since_ns(frame) if days is None else self.now_ns - days * DAY_S * SECOND_NS

    def known_until_ns(self, frame: Timeframe) -> int:
        day = dt.datetime.fromtimestamp(self.now, NEW_YORK).date()
        match frame.name:
            case "1w":
                day -= dt.timedelta(day.weekday())
            case "1M":
                day = day.replace(day=1)
            case "3M":
                day = day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
            case name if name[-1] in "mh":
                step = int(name[:-1]) * (60 if name[-1] == "m" else 3600)
                begin: int = period(day, "09:30", "16:00")["start"]
                return (begin + (self.now - 60 - begin) // step * step) * SECOND_NS
        return int(period(day, "00:00", "00:00")["start"]) * SECOND_NS

    def serve(self, request: Request) -> Response:
        if request.path.startswith("/v1/finance/trending/"):
            quotes = [{"symbol": symbol} for symbol in self.symbols]
            return reply({"finance": {"result": [{"count": 2, "quotes": quotes}], "error": None}}, self.now)
        assert request.path.startswith("/v8/finance/chart/")
        symbol = request.path.rpartition("/")[2]
        today = dt.datetime.fromtimestamp(self.now, NEW_YORK).date()
        current = {
            "pre": period(today, "04:00", "09:30"),
            "regular": period(today, "09:30", "16:00"),
            "post": period(today, "16:00", "20:00"),
        }
        meta: dict[str, Any] = {
            "currentTradingPeriod": current,
            "firstTradeDate": self.first_trade,
            "regularMarketTime": self.now - 2,
            "regularMarketPrice": 101.5,
            "regularMarketDayHigh": 103.0,
            "regularMarketDayLow": 99.5,
            "regularMarketVolume": 5_000_000,
            "chartPreviousClose": 100.25,
            "longName": "A name",
        }
        if "range" in request.params:
            assert request.params["range"] == request.params["interval"] == "1d"
            row = (self.now - 2, 100.5, 103.0, 99.5, 101.5, 5_000_000)
            return reply(chart_body(symbol, [row], meta=meta | {"range": "1d"}), self.now)
        interval, since, until = (request.params[key] for key in ("interval", "period1", "period2"))
        name = next((ours for ours, theirs in self.granularities.items() if theirs == interval), interval)
        rows: list[tuple[int, Any, Any, Any, Any, Any]] = []
        periods: list[list[dict[str, Any]]] = []
        for open_s, end_s in self.opens(name, int(since), int(until)):
            values = self.prices(open_s)
            if open_s <= self.now < end_s:
                rows.append((self.now - 2, *(values or (100.0, 101.0, 99.0, 100.5, 7))))
            elif open_s <= self.now:
                rows.append((open_s, *(values or (None,) * 5)))
            if name[-1] in "mh":
                day = dt.datetime.fromtimestamp(open_s, NEW_YORK).date()
                session = period(day, "09:30", "16:00")
                if not periods or periods[-1][0] != session:
                    periods.append([session])
        if periods:
            meta |= {"tradingPeriods": periods, "previousClose": 100.25}
        events: dict[str, Any] = {"dividends": {}, "splits": {}}
        for kind, on_day, amount in reversed(self.paid):  # it keeps no order
            opened = stamp(f"{on_day}T09:30:00-04:00")
            if int(since) <= opened < int(until) and kind == "split":
                events["splits"][str(opened)] = {"date": opened, "numerator": amount, "denominator": 1}
            elif int(since) <= opened < int(until):
                events["dividends"][str(opened)] = {"date": opened, "amount": amount}
        return reply(chart_body(symbol, rows, interval, meta=meta, events=events), self.now)


class TestConformance(Conformance):
    case = YahooCase()


# ---------------------------------------------------------------- the stream


def test_recorded_frames_say_what_another_reader_found() -> None:
    tickers = [decoded(Yahoo(), frame) for frame in FRAMES]
    assert [(t.event_ns, t.price, t.change, t.change_rate, t.volume_24h, t.state) for t in tickers] == [
        (1785937395000000000, 307.2, -2.1799927, -0.007046327, 5422202.0, "REGULAR"),
        (1589820933000000000, 314.765, 7.055023, 0.022927508, 17557274.0, "REGULAR"),
        (1709757487000000000, 168.99, -1.1299896, -0.0066423094, 53985930.0, "REGULAR"),
        (1779437422000000000, 305.76, 0.77001953, 0.002524737, None, "PRE"),
    ]
    assert all((t.open, t.high, t.low, t.previous_close, t.value_24h) == (None,) * 5 for t in tickers)


def test_each_frame_of_a_mixed_recording_stands_for_its_own_day() -> None:
    """In the recording the days are out of order; nothing of one shows on another."""
    venue = Yahoo()
    assert [decoded(venue, frame) for frame in FRAMES] == [decoded(Yahoo(), frame) for frame in FRAMES]


def test_both_versions_of_the_stream_and_all_kinds_of_symbols() -> None:
    found = {t.instrument: t for t in (decoded(Yahoo(), text) for text in (APPLE, OPTION, BITCOIN, SAMSUNG, TESLA))}
    apple, option, bitcoin = (found[f"yahoo:{s}"] for s in ("AAPL", "NVDA260828P00225000", "BTC-USD"))
    assert (apple.price, apple.change, apple.change_rate, apple.volume_24h) == (317.13, 2.5500183, 0.008106105, 2552171)
    assert (option.price, option.change, option.volume_24h) == (0.99, -0.00999999, 1623)
    assert (bitcoin.price, bitcoin.open, bitcoin.high, bitcoin.low) == (94745.08, 92529.99, 95227.555, 92517.22)
    assert bitcoin.volume_24h == 59712028672
    samsung, tesla = found["yahoo:005930.KS"], found["yahoo:TSLA"]
    assert (samsung.price, samsung.change, samsung.state) == (71500.0, 1000.0, "REGULAR")
    # Absent hours are zero, which is pre-market; a volume of -1 is none.
    assert (tesla.price, tesla.change, tesla.state, tesla.volume_24h) == (250.25, -3.8109, "PRE", None)


def test_fields_are_told_apart_from_zeros() -> None:
    fields, unknown = read_pricing(base64.b64decode(APPLE))
    assert fields["last_size"] == 50 and fields["price_hint"] == 2 and "bid" not in fields and unknown == []
    fields, _ = read_pricing(base64.b64decode(OPTION))
    assert (fields["bid"], fields["ask"], fields["underlying_symbol"]) == (0.99, 1.02, "NVDA")
    fields, _ = read_pricing(base64.b64decode(BITCOIN))
    assert (fields["circulating_supply"], fields["market_cap"]) == (19808172.0, 1876726640000.0)


@given(st.floats(-(2.0**100), 2.0**100, width=32))
def test_float32_values_are_their_shortest_decimal(value: float) -> None:
    fields, _ = read_pricing(b"\x65" + struct.pack("<f", value))
    shortest = fields["change"]
    assert isinstance(shortest, float) and struct.pack("<f", shortest) == struct.pack("<f", value)
    digits = len(Decimal(repr(shortest)).normalize().as_tuple().digits)
    fewer = [float(f"{value:.{count}g}") for count in range(1, digits)]
    assert all(struct.pack("<f", shorter) != struct.pack("<f", value) for shorter in fewer)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("", "empty"),
        ("{", "truncated"),
        ("not base64!", "base64"),
        ('{"type":"pricing"}', "message"),
        ('{"type":"pricing","message":""}', "empty"),
        ('{"type":"pricing","message":"AAAA"}', "number 0"),
        ('{"type":"pricing","message":"GIA="}', "within a number"),
        ('{"type":"pricing","message":"CgRBQVA="}', "within field 1"),
        ('{"type":"pricing","message":"CAE="}', "wire type 0"),
        ('{"type":"pricing","message":"Cw=="}', "wire type 3"),
        ('{"type":"pricing","message":"GICAgICAgICAgICAgAE="}', "64 bits"),
        (pricing(id="AAPL", time=ms("2026-08-26T15:00Z")), "no price"),
        (pricing(id="AAPL", price=1.0), "no time"),
        (pricing(price=1.0, time=ms("2026-08-26T15:00Z")), "not a symbol"),
        (pricing(id="A B", price=1.0, time=ms("2026-08-26T15:00Z")), "not a symbol"),
        (pricing(id="AAPL", price=0.0, time=ms("2026-08-26T15:00Z")), "its price"),
        (pricing(id="AAPL", price=-1.0, time=ms("2026-08-26T15:00Z")), "its price"),
        (pricing(id="AAPL", price=float("nan"), time=ms("2026-08-26T15:00Z")), "nan"),
        (pricing(id="AAPL", price=1.0, time=5), "its time"),
    ],
)
def test_broken_frames_are_refused_with_the_reason(frame: str, reason: str) -> None:
    venue = seeded()
    with pytest.raises(BadFrame) as bad:
        Yahoo().decode(frame, 1)
    assert reason in bad.value.reason
    good = pricing(id="AAPL", price=102.0, time=ms("2026-08-26T11:09:00-04:00"), market_hours=1)
    expected = decoded(seeded(), good)
    with suppress(BadFrame):
        venue.decode(frame, None)
    assert decoded(venue, good) == expected  # and nothing was learnt of it


def test_what_nobody_knows_is_counted() -> None:
    venue = Yahoo()
    frame = pricing(id="AAPL", price=1.5, time=ms("2026-08-26T15:00Z"), unknown=True)
    assert decoded(venue, frame).price == 1.5
    assert venue.decode('{"type":"surprise","message":"x"}', None) == []
    assert venue.unread == {"field 99": 1, "type surprise": 1}


def test_what_was_not_sent_has_not_changed() -> None:
    venue = seeded()
    at = ms("2026-08-26T11:09:00-04:00")
    first = decoded(venue, pricing(id="AAPL", price=102.0, time=at, market_hours=1, day_volume=5_000_100))
    # The change is counted from the close before, which REST told.
    assert (first.open, first.high, first.low, first.previous_close) == (100.5, 103.0, 99.5, 100.25)
    assert (first.change, first.volume_24h) == (1.75, 5_000_100)
    assert first.change_rate == pytest.approx(1.75 / 100.25)
    second = decoded(
        venue, pricing(id="AAPL", price=104.0, time=at + 1000, market_hours=1, change=3.5, change_percent=3.4913)
    )
    assert (second.high, second.low, second.change, second.volume_24h) == (104.0, 99.5, 3.5, 5_000_100)
    third = decoded(venue, pricing(id="AAPL", price=105.0, time=at + 2000, market_hours=1))
    assert (third.change, third.high) == (4.5, 105.0)
    quiet = decoded(venue, pricing(id="AAPL", time=at + 3000, day_volume=5_000_200, market_hours=1))
    assert (quiet.price, quiet.change, quiet.volume_24h) == (105.0, 4.5, 5_000_200)
    after = decoded(venue, pricing(id="AAPL", price=90.0, time=at + 4000, market_hours=2))
    assert (after.low, after.state) == (99.5, "POST")  # the day's range is of regular hours


def test_a_new_day_forgets_the_old_ones_range_and_count() -> None:
    venue = seeded()
    ticker = decoded(
        venue, pricing(id="AAPL", price=99.0, time=ms("2026-08-27T05:00-04:00"), change=-2.5, change_percent=-2.46)
    )
    assert (ticker.open, ticker.high, ticker.low, ticker.previous_close, ticker.volume_24h) == (None,) * 5
    assert (ticker.change, ticker.state) == (-2.5, "PRE")
    venue.subscribe([Subscription("ticker", "AAPL")], "t")
    assert venue.unseeded() == ["AAPL"]  # REST has to tell of the new day
    query = venue.tickers(["AAPL"])
    query.parse(YahooCase().serve(query.request))  # it still tells of the old: its last price is the close before
    ticker = decoded(venue, pricing(id="AAPL", price=99.5, time=ms("2026-08-27T05:01-04:00")))
    assert venue.unseeded() == []
    assert (ticker.previous_close, ticker.open, ticker.high, ticker.volume_24h) == (101.5, None, None, None)


def test_an_older_frame_changes_nothing() -> None:
    venue = seeded()
    at = ms("2026-08-26T11:09:00-04:00")
    new = pricing(id="AAPL", price=102.0, time=at, market_hours=1, day_volume=5_000_100)
    expected = decoded(venue, new)
    assert decoded(venue, pricing(id="AAPL", price=120.0, time=at - 5000, market_hours=1, day_volume=9)).price == 120.0
    tomorrow_and_more = at + 3 * DAY_S * 1000
    decoded(venue, pricing(id="AAPL", price=500.0, time=tomorrow_and_more, market_hours=1), at * 1_000_000)
    assert decoded(venue, new) == expected


def seeded() -> Yahoo:
    venue, case = Yahoo(), YahooCase()
    query = venue.tickers(["AAPL"])
    query.parse(case.serve(query.request))
    return venue


def test_a_frame_is_a_ticker_whether_candles_are_wanted_or_not() -> None:
    venue = seeded()
    venue.subscribe([Subscription("candle", "AAPL", "1m"), Subscription("ticker", "TSLA")], "t")
    at = ms("2026-08-26T11:09:00-04:00")
    for symbol in ("AAPL", "TSLA"):
        decoded(venue, pricing(id=symbol, price=1.0, time=at, market_hours=1))


def test_subscriptions_end_what_is_not_wanted_any_more() -> None:
    venue = Yahoo()
    tickers = [Subscription("ticker", symbol) for symbol in ("AAPL", "005930.KS", "BTC-USD")]
    assert venue.subscribe(tickers, "a") == ['{"subscribe":["AAPL","005930.KS","BTC-USD"]}']
    assert venue.keepalive() == '{"subscribe":["AAPL","005930.KS","BTC-USD"]}'
    for _ in range(2):  # the first may have been a rehearsal
        frames = venue.subscribe(tickers[1:2], "b")
        assert frames == ['{"unsubscribe":["AAPL","BTC-USD"]}', '{"subscribe":["005930.KS"]}']
    assert venue.keepalive() == '{"subscribe":["005930.KS"]}'
    many = [Subscription("ticker", f"S{n}") for n in range(1200)]
    counts = [len(json.loads(frame).get("subscribe", [])) for frame in venue.subscribe(many, "c")]
    assert [count for count in counts if count] == [500, 500, 200]
    assert venue.subscribe([], "d") == [] and venue.keepalive() is None
    with pytest.raises(UsageError):
        venue.subscribe([Subscription("ticker", "a/b")], "e")


def test_what_rest_has_to_tell_first() -> None:
    venue, case = Yahoo(), YahooCase()
    venue.subscribe([Subscription("ticker", "AAPL"), Subscription("ticker", "TSLA")], "t")
    assert venue.unseeded() == ["AAPL", "TSLA"]
    query = venue.tickers(["AAPL"])
    query.parse(case.serve(query.request))
    assert venue.unseeded() == ["TSLA"]


def test_addresses_of_the_stream() -> None:
    venue = Yahoo()
    assert venue.stream_url(venue.url) == "wss://streamer.finance.yahoo.com/?version=2"
    assert venue.stream_url("http://127.0.0.1:5/yahoo/") == "ws://127.0.0.1:5/yahoo/?version=2"


# ---------------------------------------------------------------- the chart


def ask_candles(venue: Yahoo, name: str, since: str, until: str, response: Response, symbol: str = "AAPL") -> Any:
    query = venue.candles(symbol, timeframe(name), stamp(since) * SECOND_NS, stamp(until) * SECOND_NS)
    return query.parse(response)


def test_requests_of_the_chart() -> None:
    query = Yahoo().candles("^GSPC", timeframe("60m"), 10**9 * SECOND_NS, 1_000_000_060 * SECOND_NS - 1)
    assert query.request == Request(
        "/v8/finance/chart/^GSPC",
        {
            "interval": "60m",
            "period1": "1000000000",
            "period2": "1000000060",
            "includePrePost": "false",
            "events": "div,splits,capitalGains",
        },
        "finance",
        life_s=10.0,
    )
    for symbol in ("a b", "../x", "", "A?b", "x" * 40):
        with pytest.raises(UsageError):
            Yahoo().candles(symbol, timeframe("1d"), 0, SECOND_NS)


def test_null_rows_are_no_candles_and_no_zeros() -> None:
    day = stamp("2026-08-24T09:30-04:00")
    rows = [
        (day, 10.0, 11.0, 9.0, 10.5, None),
        (day + DAY_S, None, None, None, None, None),
        (day + 2 * DAY_S, 10.0, None, 9.0, 10.5, 5),
        (day + 3 * DAY_S, 10.0, 11.0, 9.0, 20.0, 5),  # its close is none of its range
        (day + 4 * DAY_S, 10.0, 11.0, 9.0, 11.0000001, 5),  # float32's noise
    ]
    page = ask_candles(
        Yahoo(),
        "1d",
        "2026-08-24T00:00Z",
        "2026-09-01T00:00Z",
        reply(chart_body("AAPL", rows), stamp("2026-09-10T00Z")),
    )
    assert [(c.open_ns, c.close, c.volume) for c in page.rows] == [
        (midnight(day) * SECOND_NS, 10.5, None),
        (midnight(day + 4 * DAY_S) * SECOND_NS, 11.0000001, 5.0),
    ]
    assert page.rows[1].high == 11.0000001


@pytest.mark.parametrize(
    "body",
    [
        chart_body("AAPL", []),
        chart_body("AAPL", [], indicators={"quote": [{}], "adjclose": [{}]}),
        chart_body("AAPL", [], indicators={"quote": [{"open": [None], "close": [None]}]}),
        chart_body("AAPL", [], timestamp=[]),
        chart_body("AAPL", [], timestamp=None),
    ],
)
def test_an_empty_window_is_known_to_be_empty(body: Any) -> None:
    page = ask_candles(Yahoo(), "1m", "2026-08-22T10:00Z", "2026-08-22T20:00Z", reply(body, stamp("2026-08-26T10:00Z")))
    assert (page.rows, page.since_ns, page.until_ns, page.cursor) == (
        [],
        stamp("2026-08-22T10:00Z") * SECOND_NS,
        stamp("2026-08-22T20:00Z") * SECOND_NS,
        None,
    )


@pytest.mark.parametrize("shape", ["lists", "named", "empty", "broken", "absent"])
def test_both_shapes_of_trading_periods(shape: str) -> None:
    """An hour's bars begin with the session; rows of pre and post market were not asked for."""
    day = dt.date(2026, 8, 25)
    regular, pre, post = (period(day, *hours) for hours in (("09:30", "16:00"), ("04:00", "09:30"), ("16:00", "20:00")))
    periods: Any = {
        "lists": [[regular]],
        "named": {"pre": [[pre]], "regular": [[regular]], "post": [[post]]},
        "empty": {"pre": [], "post": []},
        "broken": [["?", {"start": "x"}], 5],
        "absent": None,
    }[shape]
    rows = [(regular["start"] + n * 1800, 10.0, 11.0, 9.0, 10.5, 5) for n in (-1, 0, 2, 12, 13, 14)]
    body = chart_body("AAPL", rows, "60m", meta={"tradingPeriods": periods})
    page = ask_candles(Yahoo(), "1h", "2026-08-25T00:00Z", "2026-08-26T00:00Z", reply(body, stamp("2026-08-26T10:00Z")))
    assert [(c.open_ns // SECOND_NS - regular["start"]) / 3600 for c in page.rows] == [0, 1, 6]
    assert all(c.closed for c in page.rows)


def test_extended_hours_have_bars_of_their_own() -> None:
    day = dt.date(2026, 8, 25)
    phases = {"pre": ("04:00", "09:30"), "regular": ("09:30", "16:00"), "post": ("16:00", "20:00")}
    periods = {phase: [[period(day, *ends)]] for phase, ends in phases.items()}
    begin = period(day, "04:00", "09:30")["start"]
    rows = [(begin + int(h * 3600), 10.0, 11.0, 9.0, 10.5, 5) for h in (0, 5, 5.5, 12, 15)]
    body = chart_body("AAPL", rows, "60m", meta={"tradingPeriods": periods})
    since, until = (stamp(f"2026-08-{d}T00:00Z") * SECOND_NS for d in (25, 26))
    response = reply(body, stamp("2026-08-26T10:00Z"))
    chart = Yahoo().chart("AAPL", timeframe("1h"), since, until, extended=True).parse(response)
    assert [c.open_ns // SECOND_NS for c in chart.candles] == [row[0] for row in rows]
    regular = Yahoo().chart("AAPL", timeframe("1h"), since, until).parse(response)
    assert [c.open_ns // SECOND_NS for c in regular.candles] == [rows[2][0]]


def test_the_live_row_is_where_its_bar_begins_and_open() -> None:
    case, venue = YahooCase(), Yahoo()
    for name in ("1m", "5m", "1h", "1d", "1w", "1M"):
        since_ns = (case.now - 40 * DAY_S) * SECOND_NS
        query = venue.candles("AAPL", timeframe(name), since_ns, case.now_ns)
        last = query.parse(case.serve(query.request)).rows[-1]
        truth = case.candles(timeframe(name), since_ns, case.now_ns)[-1]
        assert (last.closed, last.open_ns) == (False, truth.open_ns), name


def test_a_live_row_beside_its_bar_is_one_candle() -> None:
    begin = stamp("2026-08-26T09:30-04:00")
    rows = [
        (begin - DAY_S, 9.0, 9.5, 8.5, 9.0, 100),
        (begin, 10.0, 11.0, 9.0, 10.5, 100),
        (begin + 5917, 10.0, 12.0, 9.5, 11.5, 150),
    ]
    response = reply(chart_body("AAPL", rows), begin + 5920)
    page = ask_candles(Yahoo(), "1d", "2026-08-20T00Z", "2026-08-27T00Z", response)
    candle = page.rows[-1]
    assert len(page.rows) == 2
    assert (candle.open_ns, candle.high, candle.low, candle.close, candle.volume, candle.closed) == (
        midnight(begin) * SECOND_NS,
        12.0,
        9.0,
        11.5,
        150.0,
        False,
    )


@pytest.mark.parametrize(
    ("now", "closed", "known_until"),
    [
        ("2026-08-26T15:59-04:00", False, "2026-08-26T00:00-04:00"),
        ("2026-08-26T16:30-04:00", False, "2026-08-26T00:00-04:00"),  # the auction may still correct it
        ("2026-08-26T17:01-04:00", True, "2026-08-26T16:01-04:00"),
        ("2026-08-29T12:00-04:00", True, "2026-08-29T11:00-04:00"),  # a Saturday
    ],
)
def test_a_day_is_closed_an_hour_after_its_session(now: str, closed: bool, known_until: str) -> None:
    rows = [(stamp("2026-08-26T09:30-04:00"), 10.0, 11.0, 9.0, 10.5, 5)]
    page = ask_candles(Yahoo(), "1d", "2026-08-20T00Z", "2026-09-26T00Z", reply(chart_body("AAPL", rows), stamp(now)))
    assert [c.closed for c in page.rows] == [closed]
    assert page.until_ns == stamp(known_until) * SECOND_NS


def test_summer_time_days_begin_at_midnight() -> None:
    """Either side of both changes, and an evening's stamp that is one hour early."""
    days = ["2026-03-06", "2026-03-09", "2026-10-30", "2026-11-02"]
    stamps = [period(dt.date.fromisoformat(day), "09:30", "16:00")["start"] for day in days]
    assert len({s % DAY_S for s in stamps}) == 2
    rows = [(s, 10.0, 11.0, 9.0, 10.5, 5) for s in stamps]
    page = ask_candles(
        Yahoo(), "1d", "2026-03-01T00Z", "2026-11-10T00Z", reply(chart_body("AAPL", rows), stamp("2026-11-20T00Z"))
    )
    assert [c.open_ns // SECOND_NS for c in page.rows] == [midnight(s) for s in stamps]
    berlin = {"exchangeTimezoneName": "Europe/Berlin", "exchangeName": "GER", "currency": "EUR"}
    rows = [
        (stamp("2026-03-27T00:00+01:00"), 1.0, 1.0, 1.0, 1.0, 5),
        (stamp("2026-03-29T23:00+02:00"), 2.0, 2.0, 2.0, 2.0, 5),
    ]
    body = chart_body("SAP.DE", rows, meta=berlin)
    page = ask_candles(
        Yahoo(), "1d", "2026-03-01T00Z", "2026-04-10T00Z", reply(body, stamp("2026-04-20T00Z")), "SAP.DE"
    )
    assert [c.open_ns // SECOND_NS for c in page.rows] == [
        stamp("2026-03-27T00:00+01:00"),
        stamp("2026-03-30T00:00+02:00"),
    ]


def test_a_live_day_late_in_the_evening_is_still_that_day() -> None:
    meta = {"exchangeName": "CCC", "exchangeTimezoneName": "UTC", "currency": "USD"}
    for live in ("2026-08-26T22:00:00Z", "2026-08-26T23:10:00Z"):
        rows = [(stamp(t), 1.0, 1.0, 1.0, 1.0, 5) for t in ("2026-08-25T00:00:00Z", live)]
        response = reply(chart_body("BTC-USD", rows, meta=meta), stamp(live) + 5)
        page = ask_candles(Yahoo(), "1d", "2026-08-20T00Z", "2026-08-30T00Z", response, "BTC-USD")
        assert [(c.open_ns // SECOND_NS, c.closed) for c in page.rows] == [
            (stamp("2026-08-25T00:00Z"), True),
            (stamp("2026-08-26T00:00Z"), False),
        ]


def test_quarters_that_are_no_quarters_are_left_out() -> None:
    starts = ("2026-02-01", "2026-04-01", "2026-07-01")
    rows = [(stamp(f"{day}T00:00{'-05:00' if day < '2026-03' else '-04:00'}"), 1.0, 1.0, 1.0, 1.0, 5) for day in starts]
    response = reply(chart_body("AAPL", rows, "3mo"), stamp("2026-08-26T00Z"))
    page = ask_candles(Yahoo(), "3M", "2026-01-01T00Z", "2026-08-30T00Z", response)
    assert [(c.open_ns // SECOND_NS, c.closed) for c in page.rows] == [(rows[1][0], True), (rows[2][0], False)]
    assert page.until_ns == rows[2][0] * SECOND_NS


@pytest.mark.parametrize("time", [10**12, -(10**12), -6_000_000_000, 4_200_000_000])
@pytest.mark.parametrize("name", ["1m", "1d"])
def test_absurd_times_are_refused(time: int, name: str) -> None:
    rows = [(stamp("2026-08-25T10:00-04:00"), 1.0, 1.0, 1.0, 1.0, 1), (time, 1.0, 1.0, 1.0, 1.0, 1)]
    odd = {
        "currentTradingPeriod": {"regular": {"start": time, "end": time + 9}},
        "tradingPeriods": [[{"start": time, "end": time + 9}]],
    }
    since, until = "2026-08-20T00Z", "2026-08-30T00Z"
    response = reply(chart_body("AAPL", rows, name), stamp("2026-08-30T00Z"))
    with pytest.raises(BadFrame):
        ask_candles(Yahoo(), name, since, until, response)
    events = {
        "dividends": {"1": {"amount": 1.0, "date": time}},
        "splits": {"1": {"numerator": 2, "denominator": 1, "date": time}},
    }
    body = chart_body("AAPL", rows[:1], name, meta=odd, events=events)
    assert len(ask_candles(Yahoo(), name, since, until, reply(body, stamp("2026-08-30T00Z"))).rows) == 1
    chart = Yahoo().chart("AAPL", timeframe(name), stamp(since) * SECOND_NS, stamp(until) * SECOND_NS)
    assert chart.parse(reply(body)).actions == []
    assert parse_chart(json.dumps(body).encode()).candles
    if name == "1m":
        years = [rows[0], (rows[0][0] - 2000 * DAY_S, 1.0, 1.0, 1.0, 1.0, 1)]
        with pytest.raises(BadFrame):
            ask_candles(Yahoo(), name, since, until, reply(chart_body("AAPL", years, name)))


def test_korea_is_late_and_ends_when_the_exchange_does() -> None:
    """Yahoo has said that Korea's session ends at 15:00, and its data come twenty minutes late."""
    seoul = ZoneInfo("Asia/Seoul")
    day = dt.date(2026, 8, 26)
    begin = period(day, "09:00", "15:00", seoul)["start"]
    meta = {
        "exchangeName": "KSC",
        "exchangeTimezoneName": "Asia/Seoul",
        "currency": "KRW",
        "currentTradingPeriod": {"regular": period(day, "09:00", "15:00", seoul)},
        "tradingPeriods": [[period(day, "09:00", "15:00", seoul)]],
    }
    venue = Yahoo()
    rows = [(begin + n * 900, 71000.0, 71500.0, 70900.0, 71200.0, 5) for n in range(26)]
    response = reply(chart_body("005930.KS", rows, "15m", meta=meta), stamp("2026-08-26T15:31+09:00"))
    page = ask_candles(venue, "15m", "2026-08-25T23:00Z", "2026-08-26T23:00Z", response, "005930.KS")
    assert len(page.rows) == 26 and [c.closed for c in page.rows] == [True] * 24 + [False] * 2
    assert page.until_ns == (begin + 24 * 900) * SECOND_NS
    assert venue.session("005930.KS", stamp("2026-08-26T15:10+09:00") * SECOND_NS).phase == "regular"


def test_half_days_are_believed() -> None:
    venue = Yahoo()
    day = dt.date(2026, 9, 9)  # no table knows of it
    current = {
        "pre": period(day, "04:00", "09:30"),
        "regular": period(day, "09:30", "12:00"),
        "post": period(day, "12:00", "15:00"),
    }
    body = chart_body("AAPL", [], meta={"currentTradingPeriod": current})
    query = venue.tickers(["AAPL"])
    query.parse(reply(body, stamp("2026-09-09T08:00-04:00")))
    assert venue.session("AAPL", stamp("2026-09-09T12:30-04:00") * SECOND_NS).phase == "post"
    assert venue.session("MSFT", stamp("2026-09-09T15:30-04:00") * SECOND_NS).phase == "closed"


def test_an_unknown_exchange_is_known_by_what_is_told() -> None:
    venue = Yahoo()
    zone = ZoneInfo("Australia/Sydney")
    meta = {
        "exchangeName": "ASX",
        "exchangeTimezoneName": "Australia/Sydney",
        "currency": "AUD",
        "currentTradingPeriod": {"regular": period(dt.date(2026, 8, 26), "10:00", "16:00", zone)},
    }
    query = venue.tickers(["BHP.AX"])
    assert venue.session("BHP.AX", 0).next_open_ns is None
    query.parse(reply(chart_body("BHP.AX", [], meta=meta), stamp("2026-08-26T08:00+10:00")))
    session = venue.session("BHP.AX", stamp("2026-08-26T08:00+10:00") * SECOND_NS)
    assert (session.phase, session.next_open_ns) == ("closed", stamp("2026-08-26T10:00+10:00") * SECOND_NS)


def test_a_time_that_yahoo_no_longer_serves() -> None:
    error = {
        "code": "Unprocessable Entity",
        "description": "1m data not available for startTime=1 and endTime=2. Only 8 days worth of 1m granularity data "
        "are allowed to be fetched per request.",
    }
    response = reply({"chart": {"result": None, "error": error}}, status=422)
    page = ask_candles(Yahoo(), "1m", "2020-01-01T00Z", "2020-01-02T00Z", response)
    assert page.rows == [] and page.since_ns == page.until_ns and page.cursor is None  # nothing is known of it
    chart = Yahoo().chart("AAPL", timeframe("1m"), 0, 86400 * SECOND_NS)
    with pytest.raises(Rejected) as refused:
        chart.parse(response)
    assert refused.value.code == "too_far_back"
    none = {"code": "Bad Request", "description": "Data doesn't exist for startDate = 1, endDate = 2"}
    page = ask_candles(
        Yahoo(), "1d", "1970-01-01T00Z", "1970-02-01T00Z", reply({"chart": {"result": None, "error": none}}, status=400)
    )
    assert page.rows == [] and page.until_ns - page.since_ns == 31 * DAY_S * SECOND_NS


def test_history_limits_are_declared_for_every_short_interval() -> None:
    now_ns = stamp("2026-09-10T00Z") * SECOND_NS
    for names, most in (("1m", 30), ("2m 5m 15m 30m 90m", 60), ("1h", 730)):
        for name in names.split():
            since_ns = Yahoo().served_since_ns(timeframe(name), now_ns)
            assert since_ns is not None and now_ns - most * DAY_S * SECOND_NS < since_ns < now_ns
    assert all(Yahoo().served_since_ns(timeframe(name), now_ns) is None for name in ("1d", "1w", "1M"))


def error(top: str, code: str, description: str) -> dict[str, Any]:
    return {top: {"result": None, "error": {"code": code, "description": description}}}


DENIED = b"<html>Yahoo! - 999 Unable to process request at this time -- error 999</html>"
CONSENT = b'<html><form action="https://consent.yahoo.com/v2/collectConsent?sessionId=1"></html>'
TWO_CLOSES = chart_body("AAPL", [(1, 1.0, 1.0, 1.0, 1.0, 1)], indicators={"quote": [{"close": [1.0, 2.0]}]})


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (404, error("chart", "Not Found", "No data found, symbol may be delisted"), Rejected, "unknown_instrument"),
        (400, error("chart", "Bad Request", "Invalid input - interval=7d is not supported."), Rejected, "refused"),
        (401, error("finance", "Unauthorized", "Invalid Crumb"), Unavailable, "unauthorized"),
        (500, error("chart", "internal-error", "?"), Unavailable, "unavailable"),
        (200, {"chart": None}, BadFrame, "bad_frame"),
        (200, {"chart": {"result": None, "error": None}}, Unavailable, "unavailable"),
        (200, {"chart": {"result": [], "error": None}}, Unavailable, "unavailable"),
        (200, TWO_CLOSES, BadFrame, "bad_frame"),
        (200, chart_body("MSFT", []), BadFrame, "bad_frame"),
        (200, chart_body("AAPL", [(1_787_000_000, 1.0, 1.0, 1.0, 1.0, 1)], "60m"), BadFrame, "bad_frame"),
        (429, b"Too Many Requests\r\n", RateLimited, "rate_limited"),
        (200, b"Edge: Too Many Requests", RateLimited, "rate_limited"),
        (999, DENIED, RateLimited, "rate_limited"),
        (200, DENIED, RateLimited, "rate_limited"),
        (200, CONSENT, Unavailable, "consent_needed"),
        (502, b"<html>Will be right back</html>", Unavailable, "unavailable"),
        (200, b"", Unavailable, "unavailable"),
        (200, b"{", BadFrame, "bad_frame"),
        (200, b"\xff\xfe", Unavailable, "unavailable"),
    ],
)
def test_everything_but_data_is_a_typed_error(status: int, body: Any, kind: type[Exception], code: str) -> None:
    query = Yahoo().candles("AAPL", timeframe("1d"), 0, 20 * 365 * DAY_S * SECOND_NS)
    with pytest.raises(kind) as failure:
        query.parse(reply(body, status=status))
    assert getattr(failure.value, "code", "") == code and str(failure.value)


def test_the_consent_page_is_recognised_by_where_it_sends() -> None:
    response = Response(302, {"location": "https://guce.yahoo.com/consent?brandType=nonEu"}, b"")
    with pytest.raises(Unavailable) as failure:
        Yahoo().tickers(["AAPL"]).parse(response)
    assert failure.value.code == "consent_needed" and failure.value.hint is not None


def test_refusals_rest_longer_each_time_until_an_answer() -> None:
    venue, case = Yahoo(), YahooCase()
    query = venue.tickers(["AAPL"])

    def rest_s() -> float | None:
        with pytest.raises(RateLimited) as refused:
            query.parse(Response(429, {}, b"Too Many Requests"))
        return refused.value.retry_after_s

    assert [rest_s() for _ in range(7)] == [60, 120, 240, 480, 960, 1800, 1800]
    query.parse(case.serve(query.request))
    assert rest_s() == 60


# ---------------------------------------------------------------- tickers, quotes, search


def test_a_ticker_from_the_chart() -> None:
    case, venue = YahooCase(), Yahoo()
    query = venue.tickers(["AAPL"])
    [ticker] = query.parse(case.serve(query.request))
    assert ticker == Ticker(
        "yahoo:AAPL",
        (case.now - 2) * SECOND_NS,
        None,
        101.5,
        100.5,
        103.0,
        99.5,
        100.25,
        1.25,
        1.25 / 100.25,
        5_000_000.0,
        None,
        (case.now - 2) * SECOND_NS,
        "REGULAR",
    )
    with pytest.raises(UsageError):
        venue.tickers(["AAPL", "TSLA"])


def test_the_close_before_a_window_is_not_yesterdays() -> None:
    """`chartPreviousClose` of a longer window lies years back; the recorded day of 2020 has 73.412."""
    assert parse_chart(CHART).candles
    quote = Yahoo().quote("AAPL").parse(Response(200, {}, CHART))
    assert quote.ticker.price == 333.69
    assert quote.ticker.previous_close is None and quote.ticker.change is None and quote.ticker.open is None
    assert (quote.currency, quote.exchange, quote.kind, quote.extended_price) == ("USD", "NMS", "EQUITY", 333.54)


def test_no_currency_no_periods_no_zone_and_no_price() -> None:
    venue = Yahoo()
    bare = chart_body(
        "QQQQX", [], meta={"currency": None, "exchangeTimezoneName": "Mars/Olympus", "exchangeName": None}
    )
    quote = venue.quote("QQQQX").parse(reply(bare))
    assert quote.currency == "XXX" and quote.ticker.price == 100.0
    info = venue.info("QQQQX").parse(reply(bare))
    assert (info.base, info.quote, info.steps.decimals(5.0)) == ("QQQQX", "XXX", 2)
    gone = chart_body("QQQQX", [], meta={"regularMarketPrice": None})
    with pytest.raises(Rejected) as refused:
        venue.tickers(["QQQQX"]).parse(reply(gone))
    assert refused.value.code == "no_price"


def test_pence_and_other_small_units() -> None:
    assert major_unit("GBp") == ("GBP", 100) and major_unit("KWF") == ("KWD", 1000) and major_unit("USD") == ("USD", 1)
    at = stamp("2026-08-26T08:00+01:00")
    meta = {"currency": "GBp", "exchangeName": "LSE", "exchangeTimezoneName": "Europe/London"}
    events = {
        "dividends": {
            str(at): {"amount": 0.05, "date": at, "currency": "GBP"},
            str(at + DAY_S): {"amount": 4.0, "date": at + DAY_S},
        }
    }
    body = chart_body("VOD.L", [(at + n * DAY_S, 70.0, 71.0, 69.0, 70.5, 5) for n in (0, 1)], meta=meta, events=events)
    chart = Yahoo().chart("VOD.L", timeframe("1d"), (at - DAY_S) * SECOND_NS, (at + 9 * DAY_S) * SECOND_NS)
    found = chart.parse(reply(body, at + 9 * DAY_S))
    assert [(action.at_ns, action.amount) for action in found.actions] == [
        ((at - 8 * 3600) * SECOND_NS, 5.0),
        ((at + DAY_S - 8 * 3600) * SECOND_NS, 4.0),
    ]
    assert Yahoo().info("VOD.L").parse(reply(body)).quote == "GBp"


def quote_row(symbol: str, **more: Any) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "quoteType": "EQUITY",
        "longName": f"{symbol} Inc.",
        "currency": "USD",
        "exchange": "NMS",
        "exchangeTimezoneName": "America/New_York",
        "marketState": "POST",
        "exchangeDataDelayedBy": 15,
        "regularMarketPrice": 244.87,
        "regularMarketTime": 1_739_998_801,
        "regularMarketChange": 0.4,
        "regularMarketChangePercent": 0.16,
        "regularMarketDayHigh": {"raw": 246.01, "fmt": "246.01"},
        "regularMarketDayLow": {},
        "regularMarketPreviousClose": 244.47,
        "postMarketPrice": 245.1,
        "postMarketTime": 1_740_000_000,
        **more,
    }


NOW_NS = stamp("2026-09-10T15:00Z") * SECOND_NS


def admitted(venue: Yahoo, now_ns: int = NOW_NS) -> Request:
    """Give the venue a pass; the request that its crumb was had by."""
    page = venue.admission(now_ns)
    assert page is not None and page.request.host == "fc.yahoo.com"
    page.parse(Response(404, {"set-cookie": "A3=d=AQAB&S=x; Expires=Fri; Domain=.yahoo.com"}, b"<html>"))
    crumb = venue.admission(now_ns)
    assert crumb is not None
    for body in (b"", b"<html></html>", b"Too Many Requests", b'{"finance":{}}', b"x" * 33):
        with pytest.raises(Unavailable):
            crumb.parse(Response(200, {}, body))
    crumb.parse(Response(200, {}, b"haT3/ykh.qZ"))
    assert venue.admission(now_ns) is None and venue.tickers_a_call == 50 and venue.admitted
    return crumb.request


def test_a_pass_and_what_it_opens() -> None:
    venue = Yahoo()
    with pytest.raises(UsageError):
        venue.quotes(["AAPL"])
    assert venue.admitted is None
    asked = admitted(venue)
    assert asked.secret_headers == {"Cookie": Secret("A3=d=AQAB&S=x")}
    query = venue.tickers(["AAPL", "GONE", "TSLA"])
    assert query.request.params["symbols"] == "AAPL,GONE,TSLA"
    assert query.request.secret_params == {"crumb": Secret("haT3/ykh.qZ")}
    for shown in (repr(asked), repr(query), str(query.request), repr(venue.__dict__)):
        assert "haT3" not in shown and "AQAB" not in shown
    rows = [quote_row("TSLA", marketState="PREPRE", preMarketPrice=1.0, preMarketTime=5), quote_row("AAPL")]
    answer = reply({"quoteResponse": {"result": rows, "error": None}})
    tickers = query.parse(answer)
    assert [t.instrument for t in tickers] == ["yahoo:AAPL", "yahoo:TSLA"]
    assert (tickers[0].high, tickers[0].low, tickers[0].change, tickers[0].state) == (246.01, None, 0.4, "POST")
    quotes = venue.quotes(["AAPL", "TSLA"]).parse(answer)
    assert [(q.extended_price, q.delay_s) for q in quotes] == [(245.1, 900), (1.0, 900)]
    with pytest.raises(Rejected) as unknown:
        venue.tickers(["GONE"]).parse(answer)
    assert unknown.value.code == "unknown_instrument"


INVALID_CRUMB = {"finance": {"result": None, "error": {"code": "Unauthorized", "description": "Invalid Crumb"}}}
NO_QUOTES: dict[str, Any] = {"quoteResponse": {"result": [], "error": None}}


def test_a_pass_that_worked_is_renewed_at_once_and_one_that_never_did_is_not() -> None:
    venue = Yahoo()
    admitted(venue)
    venue.quotes(["AAPL"]).parse(reply(NO_QUOTES))
    with pytest.raises(Unavailable) as refused:
        venue.quotes(["AAPL"]).parse(reply(INVALID_CRUMB, status=401))
    assert refused.value.code == "unauthorized" and venue.tickers_a_call == 1  # by the chart meanwhile
    assert venue.admitted is False and "Invalid Crumb" in str(venue.refusal)
    admitted(venue)
    with pytest.raises(Unavailable):
        venue.quotes(["AAPL"]).parse(Response(401, {}, b""))
    assert venue.admission(NOW_NS) is None
    assert venue.admission(NOW_NS + 800 * SECOND_NS) is None
    admitted(venue, NOW_NS + 901 * SECOND_NS)


@pytest.mark.parametrize(
    ("answer", "code", "rests_s"),
    [
        (Response(429, {}, b"Too Many Requests"), "rate_limited", 900),
        (Response(429, {"retry-after": "7000"}, b""), "rate_limited", 7000),
        (Response(999, {}, b"<html>error 999"), "rate_limited", 900),
        (Response(302, {"location": "https://guce.yahoo.com/consent"}, b""), "consent_needed", 900),
        (Response(200, {}, b"<html>"), "unavailable", 900),
    ],
)
def test_whoever_is_refused_goes_on_by_the_chart_and_rests(answer: Response, code: str, rests_s: int) -> None:
    venue = Yahoo()
    admitted(venue)
    with pytest.raises(Unavailable) as refused:
        venue.tickers(["AAPL", "TSLA"]).parse(answer)
    assert refused.value.code == code and venue.tickers_a_call == 1 and str(venue.refusal) == str(refused.value)
    assert venue.admission(NOW_NS) is None and venue.tickers_a_call == 1
    assert venue.admission(NOW_NS + (rests_s - 1) * SECOND_NS) is None and venue.tickers_a_call == 1
    assert venue.admission(NOW_NS + rests_s * SECOND_NS) is None and venue.tickers_a_call == 50  # the pass was kept
    with pytest.raises(Unavailable):
        venue.tickers(["AAPL", "TSLA"]).parse(answer)
    assert venue.admission(NOW_NS) is None
    assert venue.admission(NOW_NS + 1799 * SECOND_NS) is None and venue.tickers_a_call == 1  # each for twice as long


def test_no_cookie_is_said_so_and_asked_for_again_later() -> None:
    venue = Yahoo()
    page = venue.admission(NOW_NS)
    assert page is not None
    with pytest.raises(Unavailable) as failure:
        page.parse(Response(404, {}, b""))
    assert failure.value.code == "no_cookie"
    venue.turned_away(failure.value)
    assert venue.admission(NOW_NS) is None and "cookie" in str(venue.refusal)
    assert venue.admission(NOW_NS + 900 * SECOND_NS) is not None


def test_retry_after_is_honoured_as_seconds_and_as_a_date() -> None:
    for told, seconds in (("120", 120.0), ("Thu, 10 Sep 2026 00:05:00 GMT", 300.0), ("soon", 60.0)):
        with pytest.raises(RateLimited) as refused:
            Yahoo().quote("AAPL").parse(reply({}, stamp("2026-09-10T00Z"), 429, **{"retry-after": told}))
        assert refused.value.retry_after_s == seconds


def test_a_halt_is_told_by_the_quote_and_ended_by_a_trade() -> None:
    venue, at = Yahoo(), stamp("2026-09-10T15:00Z")
    admitted(venue)
    body = reply({"quoteResponse": {"result": [quote_row("TSLA", marketState="HALTED", regularMarketTime=at)]}})
    (ticker,) = [quote.ticker for quote in venue.quotes(["TSLA"]).parse(body)]
    assert ticker.state == "HALTED" and venue.session("TSLA", at * SECOND_NS).halted_ns == at * SECOND_NS
    assert venue.session("AAPL", at * SECOND_NS).halted_ns is None
    chart = chart_body("TSLA", [], meta={"regularMarketTime": at})
    assert venue.quote("TSLA").parse(reply(chart, at + 600)).ticker.state == "HALTED"  # of which a chart does not tell
    chart = chart_body("TSLA", [], meta={"regularMarketTime": at + 600})
    assert venue.quote("TSLA").parse(reply(chart, at + 601)).ticker.state == "REGULAR"
    assert venue.session("TSLA", at * SECOND_NS).halted_ns is None


def test_the_users_word_on_hours_holds_at_once_and_for_a_symbol_alone() -> None:
    venue, at = Yahoo(), stamp("2026-12-24T15:00Z") * SECOND_NS
    venue.session("AAPL", at)
    assert venue.session("AAPL", at).phase == "regular"
    venue.keep_hours(hours_of("XNYS 2026-12-24 closed; TSLA 2026-12-24 09:30-10:30; TSLA 2026-12-28 closed"))
    assert venue.session("AAPL", at).phase == "closed"
    assert venue.session("TSLA", at).until_ns == stamp("2026-12-24T15:30Z") * SECOND_NS
    monday = stamp("2026-12-28T15:00Z") * SECOND_NS
    assert [venue.session(symbol, monday).phase for symbol in ("AAPL", "TSLA")] == ["regular", "closed"]
    told = chart_body("AAPL", [], meta={"regularMarketTime": at // SECOND_NS})
    venue.quote("AAPL").parse(reply(told, at // SECOND_NS))
    assert venue.session("AAPL", at).phase == "closed"  # whatever Yahoo says
    venue.keep_hours({})
    assert [venue.session(symbol, at).phase for symbol in ("AAPL", "TSLA")] == ["regular", "regular"]


def test_an_instrument_is_described_by_its_symbol_alone() -> None:
    assert Yahoo().described("005930.KS").names["ko"] == "삼성전자"
    assert [Yahoo().described(s).quote for s in ("IBM", "VOD.L", "7203.T", "EURUSD=X")] == ["USD", "GBp", "JPY", "USD"]
    assert Yahoo().described("IBM").steps.step(100.0) == Decimal("0.01")


def test_search_finds_by_symbol_name_and_korean_name() -> None:
    venue = Yahoo()
    body = {
        "quotes": [
            {"symbol": "005930.KS", "longname": "Samsung Electronics Co., Ltd.", "exchange": "KSC"},
            {"symbol": "SMSN.IL", "shortname": "SAMSUNG GDR", "exchange": "IOB", "quoteType": "EQUITY"},
            {"index": "ab12", "name": "A private company", "isYahooFinance": False},
        ],
        "news": [],
    }
    query = venue.search("삼성전자")
    assert query.request.params["q"] == "005930.KS"  # Yahoo itself knows Latin names only
    found = query.parse(reply(body))
    assert [(i.instrument, i.quote) for i in found] == [("yahoo:005930.KS", "KRW"), ("yahoo:SMSN.IL", "XXX")]
    assert found[0].names["ko"] == "삼성전자"
    assert venue.search("btc").parse(reply({"quotes": []}))[0].quote == "USD"
    assert venue.search("zzzz").parse(reply({"quotes": []})) == []
    assert venue.search("x").request.params["q"] == "x"
    with pytest.raises(Rejected):
        venue.search("x").parse(
            reply(
                {"finance": {"result": None, "error": {"code": "Bad Request", "description": "Missing q"}}}, status=400
            )
        )


def test_known_instruments_are_well_formed() -> None:
    symbols = [info.symbol for info in known_instruments()]
    assert len(set(symbols)) == len(symbols) > 50
    assert all({"en", "ko"} <= set(info.names) and info.base != info.quote for info in known_instruments())
    quotes = {info.symbol: (info.base, info.quote) for info in known_instruments()}
    assert quotes["KRW=X"] == ("USD", "KRW") and quotes["EURUSD=X"] == ("EUR", "USD")
    assert quotes["^KS11"] == ("^KS11", "XXX") and quotes["005930.KS"] == ("005930.KS", "KRW")


def test_news_are_newest_first_and_name_what_they_are_about() -> None:
    story = {"uuid": "1", "title": "A", "publisher": "P", "link": "https://x/1", "providerPublishTime": 1_700_000_000}
    body = {
        "news": [
            story | {"relatedTickers": ["BRK-B", "no symbol"]},
            story | {"uuid": "2", "providerPublishTime": 1_700_000_100},
            story | {"uuid": "3", "link": "javascript:alert(1)"},
        ]
    }
    found = Yahoo().news("AAPL").parse(reply(body))
    assert [(h.id, h.instruments) for h in found] == [("2", ()), ("1", ("yahoo:BRK-B",))]


def test_trending_is_of_a_region() -> None:
    query = Yahoo().trending("KR")
    assert query.request.path == "/v1/finance/trending/KR"
    body = {"finance": {"result": [{"count": 2, "quotes": [{"symbol": "BTC-USD"}, {"symbol": "AAPL"}]}], "error": None}}
    assert [info.symbol for info in query.parse(reply(body))] == ["BTC-USD", "AAPL"]
    with pytest.raises(UsageError):
        Yahoo().trending("../x")


# ---------------------------------------------------------------- actions and adjusted closes


def daily_file(path: Path) -> tuple[Any, Any, Any, list[Action]]:
    with path.open() as file:
        rows = list(csv.DictReader(file))
    times = np.array([stamp(row["Datetime"]) * SECOND_NS for row in rows])
    actions = []
    for at_ns, row in zip(times.tolist(), rows, strict=True):
        if dividend := float(row["Dividends"]):
            actions.append(Action("yahoo:X", at_ns, "dividend", dividend))
        if gain := float(row.get("Capital Gains", 0)):
            actions.append(Action("yahoo:X", at_ns, "gain", gain))
    closes, adjusted = (np.array([float(row[name]) for row in rows]) for name in ("Close", "Adj Close"))
    return times, closes, adjusted, actions


def check_adjusted(path: Path) -> None:
    times, closes, adjusted, actions = daily_file(path)
    assert actions
    ours = closes * adjustment(times, closes, actions, last=adjusted[-1] / closes[-1])
    assert np.max(np.abs(ours / adjusted - 1)) < 5e-7


def test_adjusted_closes_follow_from_the_dividends() -> None:
    check_adjusted(DATA / "CALM-1d-tail.csv")


@pytest.mark.parametrize("name", ["CALM-1d.csv", "EWG-1d.csv"])
def test_adjusted_closes_of_whole_recordings(shared_data: Path, name: str) -> None:
    check_adjusted(shared_data / "yahoo" / name)


def test_adjustment_where_data_are_odd() -> None:
    times, closes = np.arange(4) * 10, np.array([10.0, 20.0, 10.0, 10.0])
    none = adjustment(times, closes, [])
    assert none.tolist() == [1.0] * 4
    paid = [Action("x", at, "dividend", 1.0) for at in (-5, 0, 12)] + [Action("x", 12, "gain", 1.0)]
    assert adjustment(times, closes, paid).tolist() == [0.8, 1.0, 1.0, 1.0]  # before the first bar there is no price
    absurd = adjustment(times, closes, [Action("x", 20, "dividend", 25.0)])
    assert np.isnan(absurd[:2]).all() and absurd[2:].tolist() == [1.0, 1.0]
    assert len(adjustment(times[:0], closes[:0], paid)) == 0


def test_prices_as_they_traded() -> None:
    times = np.arange(5) * 10
    splits = [Action("x", 20, "split", 4.0), Action("x", 41, "split", 0.5), Action("x", 30, "dividend", 1.0)]
    assert as_traded(times, splits).tolist() == [2.0, 2.0, 0.5, 0.5, 1.0]


def test_a_page_tells_of_what_was_paid_and_split() -> None:
    """A day's bar begins at midnight, so one asked for until the morning is that day's, too."""
    page = ask_candles(
        Yahoo(), "1d", "2020-08-27T04:00Z", "2020-08-31T05:00Z", reply(split_chart(), stamp("2020-09-10T00Z"))
    )
    opens = [candle.open_ns for candle in page.rows]
    assert opens == [midnight(stamp(f"2020-08-{d}T12-04:00")) * SECOND_NS for d in (27, 28, 31)]
    assert [(a.kind, a.at_ns) for a in page.actions] == [
        ("dividend", opens[1]),
        ("gain", opens[1]),
        ("split", opens[2]),
    ]
    assert page.adjusted == {opens[0]: 124.0, opens[2]: 129.0}


def split_chart() -> dict[str, Any]:
    days = [period(dt.date(2020, 8, d), "09:30", "16:00")["start"] for d in (27, 28, 31)]
    rows = [(t, 120.0, 131.0, 119.0, close, 5) for t, close in zip(days, (125.0, 124.5, 129.0), strict=True)]
    events = {
        "splits": {str(days[2]): {"date": days[2], "numerator": 4, "denominator": 1, "splitRatio": "4:1"}},
        "dividends": {str(days[1]): {"amount": 0.205, "date": days[1]}},
        "capitalGains": {str(days[1]): {"amount": 0.1, "date": days[1]}},
    }
    body = chart_body("AAPL", rows, events=events)
    body["chart"]["result"][0]["indicators"]["adjclose"] = [{"adjclose": [124.0, None, 129.0]}]
    return body


def test_a_chart_with_actions_read_whole() -> None:
    since, until = stamp("2020-08-01T00Z"), stamp("2020-09-10T00Z")
    query = Yahoo().chart("AAPL", timeframe("1d"), since * SECOND_NS, until * SECOND_NS, extended=True)
    assert query.request.params["includePrePost"] == "true"
    chart = query.parse(reply(split_chart(), until))
    assert [(a.kind, a.amount) for a in chart.actions] == [("dividend", 0.205), ("gain", 0.1), ("split", 4.0)]
    opens = [candle.open_ns for candle in chart.candles]
    assert [a.at_ns for a in chart.actions] == [opens[1], opens[1], opens[2]]
    actions = Yahoo().actions("AAPL", since * SECOND_NS, until * SECOND_NS)
    assert actions.parse(reply(split_chart(), until)) == chart.actions
    assert chart.adjusted == [124.0, None, 129.0] and chart.quote is not None and chart.quote.ticker.price == 100.0


# ---------------------------------------------------------------- recorded answers


def test_a_recorded_chart_is_imported() -> None:
    found = parse_chart(CHART)
    [candle] = found.candles
    assert candle == Candle(
        "yahoo:AAPL",
        "1d",
        (1577975400 - 9 * 3600 - 1800) * SECOND_NS,
        74.05999755859375,
        75.1500015258789,
        73.79750061035156,
        75.0875015258789,
        135480400.0,
        None,
        True,
        "import",
    )
    assert found.rejected == [] and found.extras == [(candle.open_ns, 72.27154541015625, None, None, None)]


def test_an_import_keeps_actions_and_refuses_what_was_open() -> None:
    found = parse_chart(json.dumps(split_chart()).encode())
    assert [extra[1:] for extra in found.extras] == [
        (124.0, None, None, None),
        (None, 0.205, None, 0.1),
        (129.0, None, 4.0, None),
    ]
    begin = stamp("2026-08-26T09:30-04:00")
    rows = [(begin - DAY_S, 9.0, 9.5, 8.5, 9.0, 100), (begin + 5917, 10.0, 12.0, 9.5, 11.5, 150)]
    live = chart_body("AAPL", rows, meta={"regularMarketTime": begin + 5917})
    found = parse_chart(json.dumps(live).encode())
    assert len(found.candles) == 1 and found.rejected == [(1, "it was still open when this was recorded")]
    over = chart_body("AAPL", rows, meta={"regularMarketTime": begin + 23401})
    assert len(parse_chart(json.dumps(over).encode()).candles) == 2
    # The last trade came early that day, and the next session was already the current one.
    current = {"regular": period(dt.date(2026, 8, 27), "09:30", "16:00")}
    quiet = chart_body("AAPL", rows, meta={"regularMarketTime": begin + 5917, "currentTradingPeriod": current})
    assert len(parse_chart(json.dumps(quiet).encode()).candles) == 2


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"<html>", CHART[:900], CHART.replace(b'"1d"', b'"9d"', 1)])
def test_what_is_no_chart_is_not_imported(body: bytes) -> None:
    with pytest.raises((BadFrame, Unavailable)):
        parse_chart(body)


@given(st.data())
def test_spoiled_recordings_store_nothing_wrong(data: st.DataObject) -> None:
    body = json.dumps(split_chart()).encode()
    at = data.draw(st.integers(0, len(body) - 1))
    spoiled = body[:at] + data.draw(st.sampled_from([b"-", b"9", b"null", b"e", b"", b"1e9", b"{}"])) + body[at + 1 :]
    try:
        found = parse_chart(spoiled)
    except (BadFrame, Unavailable, Rejected):
        return
    for candle in found.candles:
        assert 0 < candle.low <= min(candle.open, candle.close) <= max(candle.open, candle.close) <= candle.high < 1e15
        assert candle.closed
    assert all(earlier.open_ns < later.open_ns for earlier, later in pairwise(found.candles))


# ---------------------------------------------------------------- on the wire


async def test_headers_travel_and_a_base_elsewhere_stands_for_every_host() -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        body = b"a.crumb" if b"getcrumb" in asked[-1] else b"<html>"
        head = b"HTTP/1.1 %d x\r\nset-cookie: A3=d=1; Path=/\r\nset-cookie: B=2\r\ncontent-length: %d\r\n"
        writer.write(head % (200 if body == b"a.crumb" else 404, len(body)) + b"connection: close\r\n\r\n" + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        wire = HttpWire(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/yahoo", "Yahoo", "WatchHamster/test")
        venue = Yahoo()
        while (query := venue.admission(NOW_NS)) is not None:
            query.parse(await wire.request(query.request))
        await wire.request(venue.quote("^GSPC").request)
        await wire.request(venue.quotes(["AAPL"]).request)
        await wire.close()
    assert asked[2].startswith(b"GET /yahoo/v8/finance/chart/%5EGSPC?range=1d&")
    assert b"cookie" not in asked[2].lower()  # a cookie goes only where it is needed
    assert asked[3].startswith(b"GET /yahoo/v7/finance/quote?symbols=AAPL&formatted=false&crumb=a.crumb ")
    assert asked[0].startswith(b"GET /yahoo/ ") and asked[1].startswith(b"GET /yahoo/v1/test/getcrumb ")
    assert b"cookie: a3=d=1" in asked[1].lower()
