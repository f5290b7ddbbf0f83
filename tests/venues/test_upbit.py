"""Upbit's wire formats, against documented and recorded frames and a model of its REST side."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.venues.conformance import Case, Conformance, is_sane
from watchhamster.core.candles import fold
from watchhamster.core.market import Book, Candle, Ticker, Trade, to_json
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
from watchhamster.core.timeframes import SECOND_NS, Timeframe, timeframe
from watchhamster.venues.capture import Captured, read_capture
from watchhamster.venues.upbit import Upbit, parse_candles, price_steps

DATA = Path(__file__).resolve().parents[1] / "data" / "upbit"
DAY_NS = 86_400 * SECOND_NS


def texts(name: str) -> list[str]:
    found = []
    for entry in read_capture(DATA / name):
        assert isinstance(entry, Captured) and isinstance(entry.frame, str)
        found.append(entry.frame)
    return found


SIMPLE_TRADE, SIMPLE_BOOK = texts("ws-simple-2021-04-17-head.jsonl")[:2]
DOCUMENTED = {json.loads(frame)["type"]: frame for frame in texts("ws-default-documented.jsonl")}
SIMPLE_TICKER = (
    '{"ty":"ticker","cd":"KRW-BTC","op":116233000,"hp":117000000,"lp":115000000,"tp":1.16606E+8,"pcp":116233000,'
    '"c":"FALL","cp":5000,"scp":-5000,"cr":0.00004,"scr":-0.00004,"tv":7.9276E-4,"atv":1.5,"atv24h":1807.38027625,'
    '"atp":1,"atp24h":198189163442.74924,"ttms":1787729040682,"ms":"ACTIVE","dd":null,"tms":1787729042606,'
    '"st":"REALTIME"}'
)


def iso(ns: int) -> str:
    return dt.datetime.fromtimestamp(ns // SECOND_NS, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")


class UpbitCase(Case):
    """Three days of one market: a trade every few minutes, bursts within a millisecond, a silent day before them."""

    venue = Upbit()
    symbols = ("KRW-BTC", "KRW-XRP")
    frames = (SIMPLE_TRADE, SIMPLE_BOOK, SIMPLE_TICKER, *DOCUMENTED.values())
    quiet = (
        '{"status":"UP"}',
        '{"method":"LIST_SUBSCRIPTIONS","result":[{"type":"ticker","codes":["KRW-BTC"]}],"ticket":"x"}',
        '{"mthd":"LIST_SUBSCRIPTIONS","rslt":[],"tckt":"x"}',
    )
    errors = (
        '{"error":{"name":"NO_TICKET","message":"티켓이 존재하지 않거나, 유효하지 않습니다."}}',
        '{"error":{"message":"Format 이 맞지 않습니다.","name":"WRONG_FORMAT"}}',
        '{"error":"?"}',
    )
    now_ns = 1_787_731_717 * SECOND_NS + 250_000_000  # 2026-08-26T08:08:37.25Z, a Wednesday

    def __init__(self) -> None:
        self.trades = []
        at_ns = (self.now_ns // DAY_NS - 3) * DAY_NS + 100 * SECOND_NS
        while at_ns < self.now_ns:
            burst = 3 if len(self.trades) % 11 == 0 else 1
            for _ in range(burst):
                n = len(self.trades)
                price = 100_000_000.0 + n % 997 * 1000
                self.trades.append(
                    # An id that is unique and not in order, as Upbit's are.
                    Trade(
                        "upbit:KRW-BTC",
                        at_ns,
                        None,
                        at_ns // 1_000_000 * 10_000 + n * 7 % 10,
                        price,
                        0.01 + n % 13,
                        "buy",
                    )
                )
            at_ns += (40 + len(self.trades) % 5 * 90) * 1_000_000_000 + len(self.trades) % 3 * 1_000_000
            if at_ns % DAY_NS // SECOND_NS > 80_000 and at_ns // DAY_NS == self.now_ns // DAY_NS - 2:
                at_ns += DAY_NS - 3600 * SECOND_NS
        self.trades.sort(key=lambda t: (t.event_ns, str(t.id)))

    def candles(self, frame: Timeframe, since_ns: int, until_ns: int) -> list[Candle]:
        # A deterministic market without trades behind it: a candle in two of three slots.
        found, open_ns = [], frame.open_ns(max(since_ns, 1_506_816_000 * SECOND_NS))  # the market opened in 2017
        while open_ns < until_ns:
            n = open_ns // frame.approximate_ns
            if open_ns >= since_ns and (n % 3 or frame.next_ns(open_ns) > self.now_ns):
                price = 1000.0 + n % 100
                closed = frame.next_ns(open_ns) <= self.now_ns
                found.append(
                    Candle(
                        "upbit:KRW-BTC",
                        frame.name,
                        open_ns,
                        price,
                        price + 2,
                        price - 2,
                        price + 1,
                        1.5,
                        1500.25,
                        closed,
                        "live",
                    )
                )
            open_ns = frame.next_ns(open_ns)
        return found

    def serve(self, request: Request) -> Response:
        p = request.params
        market = p.get("market", "")
        path = request.path
        if path == "/v1/market/all":
            return self._answer(MARKETS)
        if path == "/v1/ticker":
            return self._answer([{**TICKER, "market": code} for code in p["markets"].split(",")])
        if path == "/v1/orderbook":
            return self._answer([{**BOOK, "market": code} for code in p["markets"].split(",")])
        if path == "/v1/trades/ticks":
            rows = [t for t in self.trades if t.event_ns // DAY_NS == self.now_ns // DAY_NS - int(p.get("days_ago", 0))]
            if "to" in p:
                clock = int(p["to"][:2]) * 3600 + int(p["to"][2:4]) * 60 + int(p["to"][4:])
                rows = [t for t in rows if t.event_ns % DAY_NS < clock * SECOND_NS]
            if "cursor" in p:
                index = next((i for i, t in enumerate(self.trades) if str(t.id) == p["cursor"]), 0)
                rows = [t for t in rows if self.trades.index(t) < index]
            return self._answer(
                [
                    {"market": market, "timestamp": t.event_ns // 1_000_000, "trade_price": t.price,
                     "trade_volume": t.size, "prev_closing_price": 1, "change_price": -2,
                     "ask_bid": "BID" if t.side == "buy" else "ASK", "sequential_id": t.id}
                    for t in reversed(rows[-min(100, int(p["count"])) :])
                ]
            )  # fmt: skip
        unit = path.removeprefix("/v1/candles/")
        names = {"seconds": "1s", "days": "1d", "weeks": "1w", "months": "1M", "years": "1y"}
        frame = timeframe(names.get(unit, unit.removeprefix("minutes/") + "m"))
        to_ns = int(dt.datetime.fromisoformat(p["to"]).timestamp()) * SECOND_NS
        length = frame.approximate_ns
        rows_ = self.candles(frame, to_ns - 500 * length, min(to_ns, self.now_ns))[-int(p["count"]) :]
        return self._answer([candle_row(market, candle) for candle in reversed(rows_)])

    def _answer(self, rows: Sequence[Any]) -> Response:
        date = format_datetime(dt.datetime.fromtimestamp(self.now_ns // SECOND_NS, dt.UTC), usegmt=True)
        headers = {"date": date, "remaining-req": "group=candles; min=600; sec=7"}
        return Response(200, headers, json.dumps(rows).encode())


def candle_row(market: str, c: Candle) -> dict[str, Any]:
    return {
        "market": market, "candle_date_time_utc": iso(c.open_ns),
        "candle_date_time_kst": iso(c.open_ns + 9 * 3600 * SECOND_NS),
        "opening_price": c.open, "high_price": c.high, "low_price": c.low, "trade_price": c.close,
        "timestamp": 1751327999833, "candle_acc_trade_price": c.value, "candle_acc_trade_volume": c.volume,
    }  # fmt: skip


MARKETS = [
    {"market": "KRW-BTC", "korean_name": "비트코인", "english_name": "Bitcoin",
     "market_event": {"warning": False, "caution": {"PRICE_FLUCTUATIONS": False, "GLOBAL_PRICE_DIFFERENCES": True}}},
    {"market": "KRW-XRP", "korean_name": "엑스알피", "english_name": "XRP",
     "market_event": {"warning": True, "caution": {}}},
    {"market": "BTC-ETH", "korean_name": "이더리움", "english_name": "Ethereum"},
    {"market": "USDT-BTC", "korean_name": "비트코인", "english_name": "Bitcoin", "market_warning": "CAUTION"},
]  # fmt: skip
TICKER = {
    "trade_date": "20250704", "trade_time": "051400", "trade_timestamp": 1751606040365, "opening_price": 148737000,
    "high_price": 149360000, "low_price": 148288000, "trade_price": 148601000, "prev_closing_price": 148737000,
    "change": "FALL", "change_price": 136000, "change_rate": 0.0009143656, "signed_change_price": -136000,
    "signed_change_rate": -0.0009143656, "acc_trade_price_24h": 178448329314.96686,
    "acc_trade_volume_24h": 1198.26954807, "timestamp": 1751606040403,
}  # fmt: skip
BOOK = {
    "timestamp": 1751606867762, "total_ask_size": 10.37591054, "total_bid_size": 9.49577219,
    "orderbook_units": [
        {"ask_price": 148520000, "bid_price": 148490000, "ask_size": 0.0134662, "bid_size": 0.04296774},
        {"ask_price": 148590000, "bid_price": 0, "ask_size": 0.00075646, "bid_size": 0},
    ],
}  # fmt: skip


class TestConformance(Conformance):
    case = UpbitCase()


upbit = Upbit()

# ---------------------------------------------------------------- frames


def test_a_recorded_trade_reads_as_a_person_reads_it() -> None:
    [event] = upbit.decode(SIMPLE_TRADE, 1618678263010785000)
    assert to_json(event) == (
        b'{"kind":"trade","instrument":"upbit:KRW-LAMB","event_ns":1618678262000000000,'
        b'"received_ns":1618678263010785000,"id":1618678262000003,"price":127.0,"size":46.48838371,"side":"buy"}'
    )


def test_documented_frames() -> None:
    [trade] = upbit.decode(DOCUMENTED["trade"], None)
    assert trade == Trade(
        "upbit:KRW-BTC", 1787728554797 * 1_000_000, None, 17877285547970000, 109847000.0, 0.00509799, "sell"
    )
    [ticker] = upbit.decode(DOCUMENTED["ticker"], None)
    assert ticker == Ticker(
        "upbit:KRW-BTC", 1787729042606 * 1_000_000, None, 109868000.0, 109165000.0, 110117000.0, 108958000.0,
        109165000.0, 703000.0, 0.006439793, 1807.38027625, 198189163442.74924, 1787729040682 * 1_000_000, "ACTIVE",
    )  # fmt: skip
    [book] = upbit.decode(DOCUMENTED["orderbook"], None)
    assert book == Book(
        "upbit:KRW-BTC", 1787727947526 * 1_000_000, None, True, [(109880000.0, 0.18819864)], [(109950000.0, 0.00342134)]
    )
    [candle] = upbit.decode(DOCUMENTED["candle.1m"], None)
    assert candle == Candle(
        "upbit:KRW-BTC", "1m", 1787731680 * SECOND_NS, 109715000.0, 109756000.0, 109714000.0, 109756000.0,
        0.71326612, 78269528.64757, False, "live",
    )  # fmt: skip


def test_a_fall_is_signed_and_numbers_may_be_spelled_with_exponents() -> None:
    [ticker] = upbit.decode(SIMPLE_TICKER, None)
    assert isinstance(ticker, Ticker)
    assert (ticker.price, ticker.change, ticker.change_rate) == (116606000.0, -5000.0, -0.00004)


def test_every_recorded_frame_gives_one_event(shared_data: Path) -> None:
    frames = [e for e in read_capture(shared_data / "upbit" / "ws-simple-2021-04-17.jsonl") if isinstance(e, Captured)]
    assert len(frames) == 299
    for received_ns, frame in frames:
        [event] = upbit.decode(frame, received_ns)
        raw = json.loads(frame, parse_float=Decimal)
        assert isinstance(event, (Trade, Book)) and event.received_ns == received_ns
        assert event.event_ns == raw["ttms" if raw["ty"] == "trade" else "tms"] * 1_000_000
        if isinstance(event, Trade):
            assert (event.id, event.price, event.size) == (raw["sid"], float(raw["tp"]), float(raw["tv"]))
        else:
            assert event.bids == [(float(u["bp"]), float(u["bs"])) for u in raw["obu"]]
            assert event.asks == [(float(u["ap"]), float(u["as"])) for u in raw["obu"]]


@pytest.mark.parametrize("first", ["ty", "cd", "sid"])
def test_the_format_is_decided_per_frame_whatever_the_order_of_keys(first: str) -> None:
    fields = json.loads(SIMPLE_TRADE)
    turned = {first: fields[first], **fields}
    assert upbit.decode(json.dumps(turned), None) == upbit.decode(SIMPLE_TRADE, None)
    assert upbit.decode(" \n" + SIMPLE_TRADE, None) == upbit.decode(SIMPLE_TRADE, None)


def test_list_formats_give_one_event_an_element() -> None:
    both = upbit.decode(f"[{SIMPLE_TRADE},{DOCUMENTED['ticker']}]", 3)
    assert both == upbit.decode(SIMPLE_TRADE, 3) + upbit.decode(DOCUMENTED["ticker"], 3)
    assert upbit.decode(f"[{DOCUMENTED['candle.1m']}]", 3) == upbit.decode(DOCUMENTED["candle.1m"], 3)
    assert upbit.decode("[]", 3) == []


def test_short_candles() -> None:
    frame = (
        '{"ty":"candle.240m","cd":"KRW-BTC","cdttmu":"2026-08-26T08:00:00","cdttmk":"2026-08-26T17:00:00","op":5,"hp":9,'
        '"lp":4,"tp":6,"catv":0.5,"catp":3,"tms":1787731717049,"st":"REALTIME"}'
    )
    assert upbit.decode(frame, None) == [
        Candle("upbit:KRW-BTC", "4h", 1787731200 * SECOND_NS, 5.0, 9.0, 4.0, 6.0, 0.5, 3.0, False, "live")
    ]


def unit(ask: float, bid: float, ask_size: float = 1.0, bid_size: float = 1.0) -> dict[str, float]:
    return {"ap": ask, "bp": bid, "as": ask_size, "bs": bid_size}


def book_frame(*units: dict[str, float]) -> str:
    return json.dumps({"ty": "orderbook", "cd": "BTC-GRS", "tms": 1618678262640, "obu": units, "st": "REALTIME"})


def test_zero_padded_levels_are_dropped() -> None:
    [book] = upbit.decode(book_frame(unit(3e-6, 2e-6), unit(0, 1e-6, 0, 5.0), unit(0, 0, 0, 0)), None)
    assert isinstance(book, Book)
    assert book.asks == [(3e-6, 1.0)] and book.bids == [(2e-6, 1.0), (1e-6, 5.0)]
    [one_sided] = upbit.decode(book_frame(unit(0, 2e-6, 0), unit(0, 1e-6, 0)), None)
    assert isinstance(one_sided, Book) and one_sided.asks == []


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (book_frame(), "empty"),
        (book_frame(unit(0, 0, 0, 0)), "empty"),
        (book_frame(unit(5, 6)), "crossed"),
        (book_frame(unit(5, 5)), "crossed"),
        (book_frame(unit(5, 6), unit(0, 0, 0, 0)), "crossed"),
        (book_frame(unit(5, 4), unit(5, 3)), "order"),
        (book_frame(unit(5, 4), unit(6, 4)), "order"),
        (book_frame(unit(7, 4), unit(6, 3), unit(0, 0, 0, 0)), "order"),
        (book_frame(unit(1e15, 4)), "< 1"),
        (book_frame(unit(5, -4)), "> 0|>= 0"),
        (book_frame(unit(5, 4, 1e15)), "< 1"),
        (SIMPLE_TRADE.replace('"tp":127.0', '"tp":0'), "> 0"),
        (SIMPLE_TRADE.replace('"tp":127.0', '"tp":1e400'), "out of range"),
        (SIMPLE_TRADE.replace('"tp":127.0', '"tp":NaN'), "malformed"),
        (SIMPLE_TRADE.replace('"tp":127.0', '"tp":null'), "null"),
        (SIMPLE_TRADE.replace('"ab":"BID"', '"ab":"BOTH"'), "BOTH"),
        (SIMPLE_TRADE.replace('"ttms":1618678262000', '"ttms":1618678262'), "ttms"),
        (SIMPLE_TRADE.replace('"ttms":1618678262000', '"ttms":16186782620000'), "ttms"),
        (SIMPLE_TRADE.replace("KRW-LAMB", "krw-lamb"), "not a market"),
        (SIMPLE_TRADE.replace("KRW-LAMB", "KRW LAMB"), "not a market"),
        (SIMPLE_TRADE.replace('"trade"', '"myOrder"'), "unknown type 'myOrder'"),
        (SIMPLE_TRADE.replace('"ty":"trade",', ""), "no type"),
        (DOCUMENTED["candle.1m"].replace("08:08:00", "08:08:01"), "does not begin"),
        (DOCUMENTED["candle.1m"].replace('"low_price":109714000.0', '"low_price":109720000.0'), "outside"),
        (DOCUMENTED["candle.1m"].replace("2026-08-26T08:08:00", "0001-01-01T00:00:00+09:00", 1), "no candle begins"),
        (DOCUMENTED["candle.1m"].replace("2026-08-26T08:08:00", "2026-08-26T08:08:00.5", 1), "does not begin"),
        (DOCUMENTED["candle.1m"].replace("candle.1m", "candle.7m"), "unknown type 'candle.7m'"),
        ("", "truncated"),
        ("[1]", "object"),
        ("[" * 100_000, "deeply"),
        ("\ud800", "UTF-8"),
        (b'{"ty":"\xff"}', "UTF-8|utf-8"),
    ],
)
def test_what_cannot_be_becomes_a_bad_frame_that_says_why(frame: str | bytes, reason: str) -> None:
    with pytest.raises(BadFrame) as bad:
        upbit.decode(frame, None)
    assert any(word in bad.value.reason for word in reason.split("|")), bad.value.reason


@pytest.mark.parametrize("name", ["TOO_MANY_REQUEST", "Too Many Requests", "I'm a teapot"])
def test_a_refusal_for_haste_has_one_code(name: str) -> None:
    with pytest.raises(Rejected) as refused:
        upbit.decode(json.dumps({"error": {"name": name, "message": "m"}}), None)
    assert refused.value.code == "too_many_requests"


@given(st.floats(1e-12, 1e14, allow_nan=False, allow_infinity=False))
def test_a_number_prints_back_as_it_came(price: float) -> None:
    [trade] = upbit.decode(SIMPLE_TRADE.replace('"tp":127.0', f'"tp":{price!r}'), None)
    assert isinstance(trade, Trade) and repr(trade.price) == repr(price)


def test_a_subscription_is_one_request_that_replaces_the_last() -> None:
    wants = [
        Subscription("ticker", "KRW-BTC"),
        Subscription("ticker", "KRW-ETH"),
        Subscription("book", "KRW-BTC"),
        Subscription("candle", "KRW-BTC", "60m"),
    ]
    [frame] = upbit.subscribe(wants, "t")
    assert json.loads(frame) == [
        {"ticket": "t"},
        {"type": "ticker", "codes": ["KRW-BTC", "KRW-ETH"]},
        {"type": "orderbook", "codes": ["KRW-BTC.15"]},
        {"type": "candle.60m", "codes": ["KRW-BTC"]},
        {"format": "SIMPLE"},
    ]
    with pytest.raises(UsageError):
        upbit.subscribe([Subscription("candle", "KRW-BTC", "1d")], "t")


# ---------------------------------------------------------------- instruments


@pytest.mark.parametrize(
    ("symbol", "price", "step"),
    [
        ("KRW-BTC", 1_000_000, "1000"), ("KRW-BTC", 999_999, "500"), ("KRW-BTC", 500_000, "500"),
        ("KRW-BTC", 499_999, "100"), ("KRW-BTC", 50_000, "50"), ("KRW-BTC", 10_000, "10"), ("KRW-BTC", 5_000, "5"),
        ("KRW-XRP", 4_999, "1"), ("KRW-XRP", 1_000, "1"), ("KRW-XRP", 100, "1"), ("KRW-XRP", 99.9, "0.1"),
        ("KRW-XRP", 10, "0.1"), ("KRW-XRP", 9.99, "0.01"), ("KRW-X", 1, "0.01"), ("KRW-X", 0.999, "0.001"),
        ("KRW-X", 0.1, "0.001"), ("KRW-X", 0.0999, "0.0001"), ("KRW-X", 0.01, "0.0001"), ("KRW-X", 0.001, "0.00001"),
        ("KRW-X", 0.0001, "0.000001"), ("KRW-X", 0.00001, "0.0000001"), ("KRW-X", 0.000009, "0.00000001"),
        ("KRW-USDT", 1_450, "0.5"), ("KRW-USDT", 999, "1"), ("KRW-USDC", 9_999.5, "0.5"), ("KRW-USDT", 10_000, "10"),
        ("BTC-ETH", 0.05, "0.00000001"), ("BTC-ETH", 20, "0.00000001"),
        ("USDT-BTC", 10, "0.01"), ("USDT-X", 9.999, "0.001"), ("USDT-X", 0.1, "0.0001"), ("USDT-X", 0.01, "0.00001"),
        ("USDT-X", 0.001, "0.000001"), ("USDT-X", 0.0001, "0.0000001"), ("USDT-X", 0.00009, "0.00000001"),
    ],
)  # fmt: skip
def test_tick_sizes(symbol: str, price: float, step: str) -> None:
    assert price_steps(symbol).step(price) == Decimal(step)


def test_markets_carry_names_warnings_and_least_totals() -> None:
    btc, xrp, eth, usdt = upbit.markets().parse(Response(200, {}, json.dumps(MARKETS).encode()))
    assert btc.names == {"ko": "비트코인", "en": "Bitcoin"} and (btc.base, btc.quote) == ("BTC", "KRW")
    assert btc.cautions == ("GLOBAL_PRICE_DIFFERENCES",) and not btc.warning
    assert xrp.warning and usdt.warning and not eth.warning
    assert [info.least_total for info in (btc, eth, usdt)] == [Decimal(5000), Decimal("0.00005"), Decimal("0.5")]


def test_the_recorded_market_list_reads(shared_data: Path) -> None:
    body = (shared_data / "upbit" / "rest-market-all-2021.json").read_bytes()
    infos = upbit.markets().parse(Response(200, {}, body))
    assert len(infos) == len(json.loads(body)) and infos[0].instrument == "upbit:KRW-BTC"


# ---------------------------------------------------------------- REST


def ask(body: Any, status: int = 200, **headers: str) -> Response:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return Response(status, named, body if isinstance(body, bytes) else json.dumps(body).encode())


def test_many_tickers_are_asked_by_quote() -> None:
    query = upbit.tickers([f"KRW-C{n}" for n in range(150)] + ["BTC-ETH"])
    assert query.request == Request("/v1/ticker/all", {"quote_currencies": "KRW,BTC"}, "ticker")
    rows = [{**TICKER, "market": "KRW-C7"}, {**TICKER, "market": "KRW-OTHER"}]
    assert [t.instrument for t in query.parse(ask(rows))] == ["upbit:KRW-C7"]


def test_calls_left() -> None:
    assert upbit.remaining(ask([], remaining_req="group=default; min=1800; sec=29")) == 29
    assert upbit.remaining(ask([], remaining_req="group=origin; min=6; sec=0")) == 0
    assert upbit.remaining(ask([], remaining_req="sec=x")) is None
    assert upbit.remaining(ask([])) is None


def test_refusals_and_waits() -> None:
    query = upbit.tickers(["KRW-NOPE"])
    with pytest.raises(Rejected) as unknown:
        query.parse(ask({"error": {"name": 404, "message": "Code not found"}}, 404))
    assert unknown.value.code == "unknown_instrument" and "KRW-NOPE" in str(unknown.value)
    with pytest.raises(Rejected) as route:
        query.parse(ask({"error": {"name": "not_found", "message": "no Route matched with those values"}}, 404))
    assert route.value.code == "not_found"
    with pytest.raises(Rejected) as wrong:
        query.parse(ask({"error": {"name": 400, "message": "Type mismatch error. Check the parameters type!"}}, 400))
    assert "Type mismatch" in str(wrong.value)
    with pytest.raises(Unavailable) as inside:
        query.parse(ask({"error": {"name": 500, "message": "internal"}}))
    assert not isinstance(inside.value, RateLimited)
    for message, seconds in (
        ("60초 동안 차단", 60),
        ("blocked for 2 minutes", 120),
        ("wait 5 seconds", 5),
        ("no", None),
    ):
        with pytest.raises(RateLimited) as banned:
            query.parse(ask({"error": {"name": 418, "message": message}}, 418))
        assert banned.value.banned and banned.value.retry_after_s == seconds


def minutes(*opens: str, market: str = "KRW-BTC") -> list[dict[str, Any]]:
    candle = Candle("", "1m", 0, 5.0, 6.0, 4.0, 5.0, 1.0, 5.0, True, "live")
    return [{**candle_row(market, candle), "candle_date_time_utc": text, "unit": 1} for text in opens]


def ns(text: str) -> int:
    return int(dt.datetime.fromisoformat(text + "+00:00").timestamp()) * SECOND_NS


def test_a_candle_is_closed_only_when_the_venue_says_its_end_has_passed() -> None:
    since, until = ns("2026-08-26T08:00:00"), ns("2026-08-26T08:05:00")
    query = upbit.candles("KRW-BTC", timeframe("1m"), since, until)
    assert query.request.params == {"market": "KRW-BTC", "count": "6", "to": "2026-08-26T08:05:00Z"}
    rows = minutes("2026-08-26T08:04:00", "2026-08-26T08:02:00")
    dated = query.parse(ask(rows, date="Wed, 26 Aug 2026 08:04:30 GMT"))
    assert [c.closed for c in dated.rows] == [True, False] and dated.until_ns == ns("2026-08-26T08:04:00")
    undated = query.parse(ask(rows))
    assert [c.closed for c in undated.rows] == [True, True] and undated.until_ns == until
    ended = upbit.candles("KRW-BTC", timeframe("1m"), since, until - 1).parse(ask(rows))
    assert [c.closed for c in ended.rows] == [True, False] and ended.until_ns == ns("2026-08-26T08:04:00")


def test_a_short_page_goes_on_and_an_empty_one_ends() -> None:
    since, until = ns("2026-08-26T00:00:00"), ns("2026-08-26T08:05:00")
    query = upbit.candles("KRW-BTC", timeframe("1m"), since, until)
    page = query.parse(ask(minutes("2026-08-26T08:04:00")))
    assert page.cursor is not None and page.since_ns == ns("2026-08-26T08:04:00")
    empty = query.parse(ask([]))
    assert (empty.rows, empty.since_ns, empty.until_ns, empty.cursor) == ([], since, until, None)


def test_forgotten_seconds_are_not_called_silent() -> None:
    until = ns("2026-08-26T08:05:00")
    day = 86_400 * SECOND_NS
    query = upbit.candles("KRW-BTC", timeframe("1s"), until - 200 * day, until)
    page = query.parse(ask([], date="Wed, 26 Aug 2026 08:05:00 GMT"))
    assert (page.since_ns, page.until_ns) == (until - 89 * day, until)
    old = upbit.candles("KRW-BTC", timeframe("1s"), until - 200 * day, until - 100 * day)
    assert (page := old.parse(ask([], date="Wed, 26 Aug 2026 08:05:00 GMT"))).since_ns == page.until_ns


@pytest.mark.parametrize(
    "rows",
    [
        minutes("2026-08-26T08:04:30"),
        minutes("2026-08-26T09:04:00"),
        minutes("2026-08-26T08:04:00", market="KRW-ETH"),
        [{**minutes("2026-08-26T08:04:00")[0], "high_price": 4.5}],
        [{**minutes("2026-08-26T08:04:00")[0], "trade_price": 0}],
    ],
)
def test_a_page_with_a_wrong_row_is_refused_whole(rows: list[dict[str, Any]]) -> None:
    query = upbit.candles("KRW-BTC", timeframe("1m"), ns("2026-08-26T08:00:00"), ns("2026-08-26T08:05:00"))
    with pytest.raises(BadFrame):
        query.parse(ask(rows))


def test_a_walk_through_the_trades_survives_midnight() -> None:
    """Asked before midnight and gone on after it, "today" has moved; nothing is claimed that was not seen."""
    before, after = "Tue, 25 Aug 2026 23:59:59 GMT", "Wed, 26 Aug 2026 00:00:01 GMT"
    row = {
        "market": "KRW-BTC", "timestamp": 1787702340000, "trade_price": 5, "trade_volume": 1, "ask_bid": "ASK",
        "sequential_id": 17877023400000000,
    }  # fmt: skip
    first = upbit.trades("KRW-BTC").parse(ask([row], date=before))
    onward = upbit.trades("KRW-BTC", cursor=first.cursor)
    assert onward.request.params["cursor"] == "17877023400000000" and "days_ago" not in onward.request.params
    empty = onward.parse(ask([], date=after))
    assert empty.since_ns == empty.until_ns and empty.cursor is not None
    assert upbit.trades("KRW-BTC", cursor=empty.cursor).request.params["days_ago"] == "1"


def test_a_market_without_trades_for_a_week_is_known_to_be_silent() -> None:
    cursor, pages = None, []
    for _ in range(20):
        page = upbit.trades("KRW-BTC", cursor=cursor).parse(ask([], date="Wed, 26 Aug 2026 08:00:00 GMT"))
        pages.append(page)
        cursor = page.cursor
        if cursor is None:
            break
    assert len(pages) == 8
    assert pages[0].until_ns == ns("2026-08-26T08:00:00") and pages[-1].since_ns == ns("2026-08-19T00:00:00")


def test_a_made_up_cursor_is_refused() -> None:
    with pytest.raises(UsageError):
        upbit.trades("KRW-BTC", cursor="nonsense")


# ---------------------------------------------------------------- recorded answers


def test_a_recorded_answer_comes_out_oldest_first() -> None:
    body = (DATA / "rest-candles-3m-head.json").read_bytes()
    found = parse_candles(body)
    rows = json.loads(body)
    assert found.rejected == [] and len(found.candles) == len(rows)
    for candle, row in zip(found.candles, reversed(rows), strict=True):
        assert candle == Candle(
            "upbit:KRW-BTC", "3m", ns(row["candle_date_time_utc"]), row["opening_price"], row["high_price"],
            row["low_price"], row["trade_price"], row["candle_acc_trade_volume"], row["candle_acc_trade_price"],
            True, "import",
        )  # fmt: skip


def test_bad_rows_are_named_and_the_good_ones_kept() -> None:
    rows = json.loads((DATA / "rest-candles-3m-head.json").read_bytes())
    rows[1]["high_price"] = 1
    rows[3]["market"] = "KRW-ETH"
    rows[5].pop("trade_price")
    rows[6] = 7
    found = parse_candles(json.dumps(rows).encode())
    assert [index for index, _ in found.rejected] == [1, 3, 5, 6] and len(found.candles) == len(rows) - 4
    assert all(reason for _, reason in found.rejected)
    cut = parse_candles(json.dumps(rows[7:]).encode()[:-40])
    assert len(cut.candles) == 4 and cut.rejected == [(4, "the file ends within this row")]
    with pytest.raises(BadFrame):
        parse_candles(b"time,open,high,low,close")


@given(
    st.binary(max_size=300), st.integers(0, 4000), st.sampled_from(["0", "1e999", "null", "[]", '"9999-12-31"', "-5"])
)
def test_a_spoiled_file_gives_good_rows_or_a_bad_frame(noise: bytes, at: int, value: str) -> None:
    body = (DATA / "rest-candles-3m-head.json").read_bytes()
    at %= len(body)
    spelled = body.replace(b"11490000.0", value.encode())
    for spoiled in (noise, body[:at] + noise, body[:at] + noise + body[at:], spelled, b"[" + noise + b"]"):
        try:
            found = parse_candles(spoiled)
        except BadFrame:
            continue
        for candle in found.candles:
            is_sane(candle, upbit)
        assert [candle.open_ns for candle in found.candles] == sorted({candle.open_ns for candle in found.candles})


@pytest.mark.parametrize("name", ["1s", "1m", "1h", "4h", "1d", "1w", "1M", "1y"])
def test_an_answer_names_its_own_timeframe(name: str) -> None:
    frame = timeframe(name)
    opens = [frame.open_ns(UpbitCase.now_ns)]
    while len(opens) < 4:
        opens.append(frame.open_ns(opens[-1] - 1))
    extra: dict[str, Any] = {}
    if name in ("1m", "1h", "4h"):
        extra = {"unit": {"1m": 1, "1h": 60, "4h": 240}[name]}
    elif name != "1s":
        extra = {"prev_closing_price": 5.0} if name == "1d" else {"first_day_of_period": "2026-01-01"}
    rows = [{**row, **extra} for row in minutes(*(iso(open_ns) for open_ns in opens))]
    for row in rows:
        row.pop("unit") if "unit" not in extra else None
    found = parse_candles(json.dumps(rows).encode())
    assert {candle.timeframe for candle in found.candles} == {name} and len(found.candles) == 4


def test_folding_streamed_minutes_agrees_with_the_documented_layout() -> None:
    [minute] = upbit.decode(DOCUMENTED["candle.1m"], None)
    assert isinstance(minute, Candle)
    later = msgspec.structs.replace(minute, open_ns=minute.open_ns + 60 * SECOND_NS)
    [hour] = fold([minute, later], timeframe("1h"))
    assert hour.volume == 2 * 0.71326612 and hour.open_ns == ns("2026-08-26T08:00:00")
