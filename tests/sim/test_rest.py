"""REST as the venue's documents and probes describe it, over a real socket with a third-party client."""

from __future__ import annotations

import datetime as dt
import json
import re
import ssl
from decimal import Decimal
from itertools import islice

import httpx
import pytest

from tests.sim.conftest import START_NS, HandClock, Rest, dial, read, subscribe
from watchhamster.core.ports import UsageError
from watchhamster.core.timeframes import timeframe
from watchhamster.sim import Simulator
from watchhamster.sim.listings import BY_SYMBOL

MISSING = {"error": {"name": 400, "message": "Missing request parameter error. Check the required parameters!"}}
MISMATCH = {"error": {"name": 400, "message": "Type mismatch error. Check the parameters type!"}}
INVALID = {"error": {"name": 400, "message": "Invalid parameter. Check the given value!"}}
NOT_FOUND = {"error": {"name": 404, "message": "Code not found"}}


async def test_markets_with_and_without_details(rest: Rest) -> None:
    plain = await rest.rows("/v1/market/all")
    assert {"market": "KRW-BTC", "korean_name": "비트코인", "english_name": "Bitcoin"} in plain
    assert len(plain) >= 32
    detailed = {row["market"]: row["market_event"] for row in await rest.rows("/v1/market/all", is_details="true")}
    assert detailed["KRW-LAMB"]["warning"] is True
    assert set(detailed["KRW-BTC"]["caution"]) == {
        "PRICE_FLUCTUATIONS",
        "TRADING_VOLUME_SOARING",
        "DEPOSIT_AMOUNT_SOARING",
        "GLOBAL_PRICE_DIFFERENCES",
        "CONCENTRATION_OF_SMALL_ACCOUNTS",
    }
    assert (await rest("/v1/market/all", is_details="maybe")).json() == MISMATCH


async def test_candles_come_newest_first_with_the_fields_of_their_unit(rest: Rest) -> None:
    common = {
        "market",
        "candle_date_time_utc",
        "candle_date_time_kst",
        "opening_price",
        "high_price",
        "low_price",
        "trade_price",
        "timestamp",
        "candle_acc_trade_price",
        "candle_acc_trade_volume",
    }
    extras = {
        "/v1/candles/seconds": set(),
        "/v1/candles/minutes/1": {"unit"},
        "/v1/candles/minutes/240": {"unit"},
        "/v1/candles/days": {"prev_closing_price", "change_price", "change_rate"},
        "/v1/candles/weeks": {"first_day_of_period"},
        "/v1/candles/months": {"first_day_of_period"},
        "/v1/candles/years": {"first_day_of_period"},
    }
    for path, extra in extras.items():
        rows = await rest.rows(path, market="KRW-BTC", count=3)
        assert [set(row) for row in rows] == [common | extra] * 3
        opens = [row["candle_date_time_utc"] for row in rows]
        assert opens == sorted(opens, reverse=True)
        utc, kst = (dt.datetime.fromisoformat(rows[0][f"candle_date_time_{zone}"]) for zone in ("utc", "kst"))
        assert kst - utc == dt.timedelta(hours=9)
    week = (await rest.rows("/v1/candles/weeks", market="KRW-BTC"))[0]  # and the default count is 1
    assert dt.date.fromisoformat(week["first_day_of_period"]).weekday() == 0


async def test_day_candles_compare_with_the_day_before(rest: Rest) -> None:
    newer, older = await rest.rows("/v1/candles/days", market="BTC-ETH", count=2, converting_price_unit="KRW")
    assert newer["prev_closing_price"] == older["trade_price"]
    assert newer["change_price"] == pytest.approx(newer["trade_price"] - older["trade_price"], abs=1e-12)
    assert newer["converted_trade_price"] == pytest.approx(newer["trade_price"] * 135e6, rel=0.35)
    won = (await rest.rows("/v1/candles/days", market="KRW-BTC", converting_price_unit="KRW"))[0]
    assert won["converted_trade_price"] is None


@pytest.mark.parametrize(
    ("to", "newest"),
    [
        ("2025-06-24T04:56:00Z", "2025-06-24T04:55:00"),  # exclusive
        ("2025-06-24T04:56:01Z", "2025-06-24T04:56:00"),
        ("2025-06-24 04:56:53", "2025-06-24T04:56:00"),  # no offset is UTC
        ("2025-06-24T13:56:53+09:00", "2025-06-24T04:56:00"),
    ],
)
async def test_to_is_exclusive_and_utc(rest: Rest, to: str, newest: str) -> None:
    rows = await rest.rows("/v1/candles/minutes/1", market="KRW-BTC", to=to)
    assert [row["candle_date_time_utc"] for row in rows] == [newest]


async def test_an_unescaped_offset_is_an_invalid_parameter(rest: Rest, sim: Simulator) -> None:
    path = "/v1/candles/minutes/1?market=KRW-BTC&to=2025-06-24T13:56:53+09:00"
    answer = await rest.control("GET", "/upbit" + path)
    assert (answer.status_code, answer.json()) == (400, INVALID)


async def test_pages_join_without_a_gap_and_skip_minutes_without_trades(rest: Rest, sim: Simulator) -> None:
    seen: list[str] = []
    to = "2026-11-21T12:00:00Z"
    for _ in range(3):
        rows = await rest.rows("/v1/candles/minutes/1", market="KRW-POKT", to=to, count=20)
        seen += [row["candle_date_time_utc"] for row in rows]
        to = seen[-1] + "Z"
    bars = islice(sim.world.candles("KRW-POKT", timeframe("1m"), START_NS, START_NS), 60)
    assert seen == [f"{dt.datetime.fromtimestamp(bar.open_ns // 10**9, dt.UTC):%Y-%m-%dT%H:%M:%S}" for bar in bars]
    opens = [dt.datetime.fromisoformat(text) for text in seen]
    assert opens[0] - opens[-1] > dt.timedelta(minutes=61)


async def test_second_candles_are_kept_three_months(rest: Rest) -> None:
    assert await rest.rows("/v1/candles/seconds", market="KRW-BTC", to="2026-07-01T00:00:00Z", count=5) == []
    assert len(await rest.rows("/v1/candles/seconds", market="KRW-BTC", to="2026-10-01T00:00:00Z", count=200)) == 200


@pytest.mark.parametrize(
    ("path", "params", "status", "body"),
    [
        ("/v1/ticker", {}, 400, MISSING),
        ("/v1/ticker", {"markets": "KRW-BTC,KRW-NOPE"}, 404, NOT_FOUND),  # one unknown name fails them all
        ("/v1/ticker/all", {}, 400, MISSING),
        ("/v1/ticker/all", {"quote_currencies": "EUR"}, 400, INVALID),
        ("/v1/orderbook", {"markets": "nope"}, 404, NOT_FOUND),
        ("/v1/candles/days", {}, 400, MISSING),
        ("/v1/candles/days", {"market": "KRW-BTC", "count": "abc"}, 400, MISMATCH),
        ("/v1/candles/days", {"market": "KRW-BTC", "count": "201"}, 400, INVALID),
        ("/v1/candles/minutes/7", {"market": "KRW-BTC"}, 400, INVALID),
        ("/v1/candles/minutes/x", {"market": "KRW-BTC"}, 400, MISMATCH),
        ("/v1/candles/minutes/1", {"market": "KRW-BTC", "to": "yesterday"}, 400, INVALID),
        ("/v1/trades/ticks", {"market": "KRW-BTC", "count": "501"}, 400, INVALID),
        ("/v1/trades/ticks", {"market": "KRW-BTC", "days_ago": "8"}, 400, INVALID),
        ("/v1/trades/ticks", {"market": "KRW-BTC", "cursor": "x"}, 400, MISMATCH),
        ("/v1/trades/ticks", {"market": "KRW-BTC", "to": "25:00:00"}, 400, INVALID),
    ],
)
async def test_wrong_calls_get_the_documented_errors(
    rest: Rest, path: str, params: dict[str, str], status: int, body: object
) -> None:
    answer = await rest(path, **params)
    assert (answer.status_code, answer.json()) == (status, body)
    assert answer.headers["remaining-req"].startswith("group=")


async def test_an_unrouted_path_has_a_string_name_and_no_limit_header(rest: Rest) -> None:
    answer = await rest("/v1/nope")
    assert answer.status_code == 404
    assert answer.json() == {"error": {"name": "not_found", "message": "no Route matched with those values"}}
    assert "remaining-req" not in answer.headers


async def test_trades_page_back_by_cursor_through_the_truth(rest: Rest, sim: Simulator) -> None:
    truth = list(islice(sim.world.trades_before("KRW-ETH", START_NS + 1), 900))
    seen = await rest.rows("/v1/trades/ticks", market="krw-eth", count=300)
    for _ in range(2):
        seen += await rest.rows("/v1/trades/ticks", market="KRW-ETH", count=300, cursor=seen[-1]["sequential_id"])
    assert [row["sequential_id"] for row in seen] == [one.id for one in truth]
    assert [row["ask_bid"] for row in seen] == ["BID" if one.buy else "ASK" for one in truth]
    row, one = seen[7], truth[7]
    assert (row["timestamp"], row["trade_price"]) == (one.ms, one.price)
    assert row["change_price"] == row["trade_price"] - row["prev_closing_price"]
    ids = [row["sequential_id"] for row in seen]
    assert len(set(ids)) == len(ids) and ids != sorted(ids, reverse=True)  # unique, but no order


async def test_trades_stay_within_their_day(rest: Rest) -> None:
    rows = await rest.rows("/v1/trades/ticks", market="KRW-LAMB", days_ago=2, count=500)
    assert {row["trade_date_utc"] for row in rows} == {"2026-11-19"}
    early = await rest.rows("/v1/trades/ticks", market="KRW-LAMB", days_ago=2, to="120000", count=500)
    assert early and all(row["trade_time_utc"] < "12:00:00" for row in early)
    assert early == await rest.rows("/v1/trades/ticks", market="KRW-LAMB", days_ago=2, to="12:00:00", count=500)


async def test_a_ticker_agrees_with_candles_and_trades(rest: Rest) -> None:
    ticker, small = await rest.rows("/v1/ticker", markets="krw-btc,KRW-SHIB")
    day = (await rest.rows("/v1/candles/days", market="KRW-BTC"))[0]
    for name in ("opening_price", "high_price", "low_price", "trade_price", "prev_closing_price"):
        assert ticker[name] == day[name]
    assert ticker["acc_trade_volume"] == day["candle_acc_trade_volume"]
    assert ticker["acc_trade_price"] == pytest.approx(day["candle_acc_trade_price"], rel=1e-9)
    trade = (await rest.rows("/v1/trades/ticks", market="KRW-BTC"))[0]
    assert (ticker["trade_timestamp"], ticker["trade_volume"]) == (trade["timestamp"], trade["trade_volume"])
    assert ticker["signed_change_price"] == ticker["trade_price"] - ticker["prev_closing_price"]
    assert ticker["change"] == ("RISE" if ticker["signed_change_price"] > 0 else "FALL")
    assert (
        ticker["lowest_52_week_price"] < ticker["low_price"] <= ticker["high_price"] < ticker["highest_52_week_price"]
    )
    assert re.fullmatch(r"\d{8}", ticker["trade_date"]) and re.fullmatch(r"\d{6}", ticker["trade_time"])
    assert small["trade_price"] < 1
    everyone = await rest.rows("/v1/ticker/all", quote_currencies="KRW,BTC")
    assert ticker in [row | {"timestamp": ticker["timestamp"]} for row in everyone]
    assert {row["market"].split("-")[0] for row in everyone} == {"KRW", "BTC"}


async def test_books_are_full_padded_and_grouped(rest: Rest) -> None:
    whole, thin = await rest.rows("/v1/orderbook", markets="KRW-BTC,BTC-XRP")
    assert len(whole["orderbook_units"]) == len(thin["orderbook_units"]) == 30
    assert thin["orderbook_units"][29] == {"bid_price": 0, "bid_size": 0, "ask_price": 0, "ask_size": 0}
    best = whole["orderbook_units"][0]
    assert list(best) == ["bid_price", "bid_size", "ask_price", "ask_size"]
    assert best["bid_price"] < best["ask_price"]
    assert whole["total_ask_size"] == pytest.approx(sum(unit["ask_size"] for unit in whole["orderbook_units"]))
    assert whole["timestamp"] <= START_NS // 10**6
    (five,) = await rest.rows("/v1/orderbook", markets="KRW-BTC", count=5)
    assert five["orderbook_units"] == whole["orderbook_units"][:5]
    (odd,) = await rest.rows("/v1/orderbook", markets="KRW-BTC", count=31)
    assert len(odd["orderbook_units"]) == 30
    (grouped,) = await rest.rows("/v1/orderbook", markets="KRW-BTC", level=10000)
    assert grouped["level"] == 10000 and grouped["orderbook_units"][0]["ask_price"] % 10000 == 0
    assert await rest.rows("/v1/orderbook", markets="KRW-BTC", level=7) == []
    assert await rest.rows("/v1/orderbook", markets="BTC-ETH", level=10) == []


async def test_book_policies_are_strings_here_and_numbers_there(rest: Rest) -> None:
    big, small, cross = await rest.rows("/v1/orderbook/instruments", markets="KRW-BTC,KRW-SHIB,BTC-ETH")
    assert (big["tick_size"], big["supported_levels"][:3]) == ("1000", ["0", "10000", "100000"])
    assert small["tick_size"] == "0.0001"
    assert (cross["quote_currency"], cross["tick_size"], cross["supported_levels"]) == ("BTC", "0.00000001", ["0"])
    (row,) = await rest.rows("/v1/orderbook/supported_levels", markets="KRW-XRP")
    assert row["supported_levels"] == [0, 10, 100, 1000]


async def test_numbers_are_plain_and_spelled_differently_by_channel(rest: Rest) -> None:
    for path in ("/v1/candles/minutes/1", "/v1/candles/days", "/v1/trades/ticks"):
        assert not re.search(r":-?[\d.]+[eE]", (await rest(path, market="BTC-XRP", count=50)).text)
    minute = (await rest("/v1/candles/minutes/1", market="KRW-BTC")).text
    second = (await rest("/v1/candles/seconds", market="KRW-BTC")).text
    assert re.search(r'"trade_price":\d+,', minute) and re.search(r'"trade_price":\d+\.0,', second)
    row = json.loads((await rest("/v1/ticker", markets="KRW-SHIB")).text, parse_float=Decimal)[0]
    step = BY_SYMBOL["KRW-SHIB"].grid.step(int(row["trade_price"] * 10**8))
    assert int(row["trade_price"] * 10**8) % step == 0


async def test_ten_a_second_and_group_then_429_then_418(rest: Rest, clock: HandClock) -> None:
    answers = [await rest("/v1/ticker", markets="KRW-BTC") for _ in range(12)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429] * 2
    assert answers[2].headers["remaining-req"] == "group=ticker; min=600; sec=7"
    assert answers[2].headers["limit-by-ip"] == "Yes"
    assert answers[10].text == "Too many API requests."
    assert (await rest("/v1/orderbook", markets="KRW-BTC")).status_code == 200  # another group
    clock.advance(1.0)
    assert (await rest("/v1/ticker", markets="KRW-BTC")).status_code == 200  # the next calendar second
    statuses = [(await rest("/v1/ticker", markets="KRW-BTC")).status_code for _ in range(25)]
    assert statuses[-1] == 418
    blocked = await rest("/v1/ticker", markets="KRW-BTC")
    assert "10 seconds" in blocked.json()["error"]["message"]
    clock.advance(5.0)
    assert (await rest("/v1/ticker", markets="KRW-BTC")).status_code == 418
    clock.advance(6.0)
    assert (await rest("/v1/ticker", markets="KRW-BTC")).status_code == 200
    again = [await rest("/v1/ticker", markets="KRW-BTC") for _ in range(30)]
    assert "20 seconds" in again[-1].json()["error"]["message"]  # longer each time


async def test_an_origin_header_costs_nine_tenths(sim: Simulator, clock: HandClock) -> None:
    async with httpx.AsyncClient(headers={"Origin": "http://localhost"}) as browser:
        url = sim.venues["upbit"] + "/v1/ticker?markets=KRW-BTC"
        first, second = await browser.get(url), await browser.get(url)
        assert (first.status_code, second.status_code) == (200, 429)
        assert first.headers["remaining-req"] == "group=origin; min=6; sec=0"
        clock.advance(10.0)
        assert (await browser.get(url)).status_code == 200


async def test_long_answers_are_compressed_for_who_asks(rest: Rest) -> None:
    long, short = await rest("/v1/market/all"), await rest("/v1/ticker", markets="KRW-BTC")
    assert long.headers["content-encoding"] == "gzip" and long.json()
    assert "content-encoding" not in short.headers


async def test_the_truth_is_told_as_events(rest: Rest, sim: Simulator) -> None:
    span = {"instrument": "upbit:KRW-BTC", "since_ns": START_NS - 60 * 10**9, "until_ns": START_NS}
    answer = await rest.control("GET", "/sim/truth/trades", params=span)
    events = [json.loads(line) for line in answer.text.splitlines()]
    truth = list(sim.world.trades("KRW-BTC", START_NS - 60 * 10**9, START_NS))
    assert [event["id"] for event in events] == [one.id for one in truth]
    assert events[0]["kind"] == "trade" and events[0]["side"] in ("buy", "sell")
    answer = await rest.control("GET", "/sim/truth/candles", params=span | {"timeframe": "1s"})
    candles = [json.loads(line) for line in answer.text.splitlines()]
    assert sum(candle["volume"] for candle in candles) == pytest.approx(sum(event["size"] for event in events))
    assert {candle["origin"] for candle in candles} == {"simulated"}
    running = await rest.control(
        "GET", "/sim/truth/candles", params={"instrument": "upbit:KRW-BTC", "timeframe": "1y", "since_ns": 0}
    )
    years = [json.loads(line) for line in running.text.splitlines()]
    assert [year["closed"] for year in years] == [True] * 9 + [False]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/sim/truth/trades?instrument=upbit:NOPE", "unknown_instrument"),
        ("/sim/truth/trades?instrument=binance:BTCUSDT", "unknown_instrument"),
        ("/sim/truth/trades?instrument=upbit:KRW-BTC&since_ns=now", "bad_time"),
        ("/sim/truth/candles?instrument=upbit:KRW-BTC&timeframe=7x", "bad_timeframe"),
        ("/sim/nope", "unknown_path"),
    ],
)
async def test_wrong_questions_about_the_truth_are_explained(rest: Rest, path: str, code: str) -> None:
    answer = await rest.control("GET", path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


async def test_time_may_start_elsewhere_and_run_faster(clock: HandClock) -> None:
    start_ns = 1_600_000_000 * 10**9
    async with Simulator(clock=clock, start_ns=start_ns, speed=60.0) as sim, httpx.AsyncClient() as client:
        assert sim.now_ns() == start_ns
        clock.advance(2.0)
        assert sim.now_ns() == start_ns + 120 * 10**9
        (ticker,) = (await client.get(sim.venues["upbit"] + "/v1/ticker?markets=KRW-BTC")).json()
        assert ticker["timestamp"] == sim.now_ns() // 10**6
        assert (await client.get(sim.venues["upbit"] + "/v1/ticker?markets=KRW-PEPE")).status_code == 404  # not yet


async def test_tls_with_a_certificate_authority_of_its_own(clock: HandClock) -> None:
    async with Simulator(clock=clock, tls=True) as sim:
        line = sim.ready()
        assert str(line["listening"]).startswith("https://127.0.0.1:")
        trusting = ssl.create_default_context(cafile=str(line["ca"]))
        async with httpx.AsyncClient(verify=trusting) as client:
            assert (await client.get(sim.venues["upbit"] + "/v1/market/all")).status_code == 200
        async with dial(sim, ssl=trusting) as stream:
            await subscribe(stream, {"type": "ticker", "codes": ["KRW-BTC"]})
            assert (await read(stream))[0]["code"] == "KRW-BTC"
        async with httpx.AsyncClient() as suspicious:
            with pytest.raises(httpx.ConnectError):
                await suspicious.get(sim.venues["upbit"] + "/v1/market/all")
    assert sim.ca is None


async def test_a_taken_port_and_impossible_times_are_refused(sim: Simulator) -> None:
    port = int(sim.url.rpartition(":")[2])
    with pytest.raises(UsageError) as refused:
        await Simulator(port=port).start()
    assert refused.value.code == "port_in_use"
    with pytest.raises(UsageError):
        Simulator(speed=0)
    with pytest.raises(UsageError):
        Simulator(start_ns=0)
