"""WebSocket as the venue speaks it, to the `websockets` library as it is."""

from __future__ import annotations

import asyncio
import json
import re
from itertools import islice
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from tests.sim.conftest import START_NS, HandClock, Rest, dial, read, silent, subscribe
from watchhamster.core.timeframes import timeframe
from watchhamster.sim import Simulator
from watchhamster.sim.world import MS

TICKER = {"type": "ticker", "codes": ["KRW-BTC"]}
TRADE = {"type": "trade", "codes": ["KRW-BTC"]}


async def until_next_trade(sim: Simulator, clock: HandClock, symbol: str = "KRW-BTC") -> int:
    """Let the market run to the next trade; its id."""
    coming = sim.world.next_trade(symbol, sim.now_ns())
    clock.advance((coming.ms * MS - sim.now_ns()) / 1e9 + 1e-6)
    return coming.id


async def test_snapshots_come_first_then_every_trade(sim: Simulator, clock: HandClock) -> None:
    async with dial(sim) as stream:
        await subscribe(stream, TICKER, TRADE)
        ticker, trade = await read(stream, 2)
        last = sim.world.last_trade("KRW-BTC", START_NS)
        assert last is not None
        assert (ticker["type"], ticker["stream_type"], ticker["trade_timestamp"]) == ("ticker", "SNAPSHOT", last.ms)
        assert (trade["type"], trade["stream_type"], trade["sequential_id"]) == ("trade", "SNAPSHOT", last.id)
        clock.advance(20.0)
        truth = [one.id for one in sim.world.trades("KRW-BTC", START_NS + 1, sim.now_ns() + 1)]
        frames = await read(stream, len(truth) + 1)
        assert [frame["sequential_id"] for frame in frames if frame["type"] == "trade"] == truth
        assert frames[-1]["type"] == "ticker" and frames[-1]["stream_type"] == "REALTIME"


async def test_frames_are_binary_json_with_the_documented_fields(sim: Simulator) -> None:
    async with dial(sim) as stream:
        await subscribe(stream, TICKER, TRADE, {"type": "orderbook", "codes": ["KRW-BTC.5"]})
        raw = [await stream.recv(decode=False) for _ in range(3)]
        assert all(isinstance(frame, bytes) for frame in raw)
        ticker, trade, book = (json.loads(frame) for frame in raw)
        assert len(ticker) == 33 and ticker["market_state"] == "ACTIVE" and ticker["delisting_date"] is None
        assert re.fullmatch(r"\d{8}", ticker["trade_date"]) and re.fullmatch(r"\d{6}", ticker["trade_time"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", trade["trade_date"])
        assert re.fullmatch(r"\d\d:\d\d:\d\d", trade["trade_time"])
        assert trade["change_price"] >= 0 and trade["best_bid_price"] < trade["best_ask_price"]
        assert (book["code"], len(book["orderbook_units"]), book["level"]) == ("KRW-BTC", 5, 0)
        # Large prices come with an exponent, sizes with their trailing zeros.
        assert re.search(rb'"trade_price":1\.\d+E8,', raw[0]) and re.search(rb'"trade_volume":\d+\.\d{8},', raw[1])


async def test_simple_format_has_short_names_and_other_spellings(sim: Simulator) -> None:
    async with dial(sim) as stream:
        book = {"type": "orderbook", "codes": ["KRW-BTC.1"]}
        await subscribe(stream, TICKER, TRADE, book, {"type": "candle.1m", "codes": ["KRW-BTC"]}, style="SIMPLE")
        raw = [await stream.recv(decode=False) for _ in range(4)]
        ticker, trade, depth, candle = (json.loads(frame) for frame in raw)
        assert (ticker["ty"], ticker["cd"], ticker["st"]) == ("ticker", "KRW-BTC", "SNAPSHOT")
        assert len(ticker["tdt"]) == 8 and len(trade["td"]) == 10
        assert {
            "ty",
            "cd",
            "tp",
            "tv",
            "ab",
            "pcp",
            "c",
            "cp",
            "ttms",
            "tms",
            "sid",
            "bap",
            "bas",
            "bbp",
            "bbs",
        } <= set(trade)
        assert set(depth["obu"][0]) == {"ap", "bp", "as", "bs"} and {"tas", "tbs", "lv"} <= set(depth)
        assert set(candle) == {"ty", "cd", "cdttmu", "cdttmk", "op", "hp", "lp", "tp", "catv", "catp", "tms", "st"}
        assert re.search(rb'"tp":\d{9},', raw[0])


@pytest.mark.parametrize(("style", "key"), [("JSON_LIST", "type"), ("SIMPLE_LIST", "ty")])
async def test_list_formats_wrap_each_frame(sim: Simulator, style: str, key: str) -> None:
    async with dial(sim) as stream:
        await subscribe(stream, TICKER, style=style)
        assert (await read(stream))[0][0][key] == "ticker"  # type: ignore[index,unused-ignore]


async def test_only_snapshot_only_realtime(sim: Simulator, clock: HandClock) -> None:
    async with dial(sim) as once, dial(sim) as later:
        await subscribe(once, {**TRADE, "is_only_snapshot": True})
        await subscribe(later, {**TRADE, "is_only_realtime": True})
        assert (await read(once))[0]["stream_type"] == "SNAPSHOT"
        assert await silent(later)
        identity = await until_next_trade(sim, clock)
        (frame,) = await read(later)
        assert (frame["stream_type"], frame["sequential_id"]) == ("REALTIME", identity)
        assert await silent(once)


async def test_a_new_request_replaces_the_old_one(sim: Simulator, clock: HandClock) -> None:
    async with dial(sim) as stream:
        await subscribe(stream, TRADE)
        await read(stream)
        await subscribe(stream, {"type": "trade", "codes": ["KRW-ETH"]})
        assert (await read(stream))[0]["code"] == "KRW-ETH"
        clock.advance(30.0)
        truth = list(sim.world.trades("KRW-ETH", START_NS + 1, sim.now_ns() + 1))
        frames = await read(stream, len(truth))
        assert {frame["code"] for frame in frames} == {"KRW-ETH"}
        await subscribe(stream, TRADE)  # and a repeated one sends its snapshots again
        assert (await read(stream))[0]["stream_type"] == "SNAPSHOT"


async def test_unknown_and_lower_case_codes_are_met_with_silence(sim: Simulator) -> None:
    async with dial(sim) as stream:
        await subscribe(stream, {"type": "ticker", "codes": ["KRW-NOPE", "krw-btc", "KRW-ETH"]})
        assert (await read(stream))[0]["code"] == "KRW-ETH"
        assert await silent(stream)


async def test_levels_and_units(sim: Simulator) -> None:
    async with dial(sim) as stream:
        for codes, units in ((["KRW-BTC.15"], 15), (["KRW-BTC"], 30), (["KRW-BTC.20"], 30)):
            await subscribe(stream, {"type": "orderbook", "codes": codes, "is_only_snapshot": True})
            assert len((await read(stream))[0]["orderbook_units"]) == units
    async with dial(sim) as stream:
        types = [
            {"type": "orderbook", "codes": ["KRW-BTC"], "level": 10000, "is_only_snapshot": True},
            {"type": "orderbook", "codes": ["KRW-BTC"], "level": 7, "is_only_snapshot": True},
            {"type": "orderbook", "codes": ["BTC-ETH"], "level": 10, "is_only_snapshot": True},
            {"type": "orderbook", "codes": ["BTC-XRP"], "is_only_snapshot": True},
        ]
        await subscribe(stream, *types)
        grouped, thin = await read(stream, 2)
        assert grouped["level"] == 10000 and grouped["orderbook_units"][0]["bid_price"] % 10000 == 0
        assert thin["orderbook_units"][-1] == {"ask_price": 0.0, "bid_price": 0.0, "ask_size": 0.0, "bid_size": 0.0}
        assert await silent(stream)  # unsupported levels: no data and no error


async def test_every_book_is_whole_and_equals_rest(sim: Simulator, clock: HandClock, rest: Rest) -> None:
    async with dial(sim) as stream:
        await subscribe(stream, {"type": "orderbook", "codes": ["KRW-BTC"]})
        book = (await read(stream))[0]
        (other,) = await rest.rows("/v1/orderbook", markets="KRW-BTC")
        for unit, same in zip(book["orderbook_units"], other["orderbook_units"], strict=True):
            assert unit == same
        stamps = [book["timestamp"]]
        for _ in range(5):
            while stamps[-1] == sim.world.book("KRW-BTC", sim.now_ns()).ms:
                clock.advance(0.11)
            frame = (await read(stream))[0]
            assert len(frame["orderbook_units"]) == 30 and frame["stream_type"] == "REALTIME"
            stamps.append(frame["timestamp"])
        assert stamps == sorted(set(stamps))  # only when changed


async def test_candles_about_once_a_second_and_the_last_one_wins(sim: Simulator, clock: HandClock) -> None:
    kinds = ["candle.1s", "candle.1m", "candle.240m"]
    latest: dict[tuple[str, str], Any] = {}
    async with dial(sim) as stream:
        await subscribe(stream, *({"type": kind, "codes": ["KRW-ETH"]} for kind in kinds))
        frames = await read(stream, 3)
        assert [frame["type"] for frame in frames] == kinds
        assert {frame["stream_type"] for frame in frames} == {"SNAPSHOT"}
        for _ in range(70):
            clock.advance(1.0)
            await asyncio.sleep(0.006)
        while not await silent(stream, 0.1):
            pass
        clock.advance(1.0)
        await subscribe(stream, *({"type": kind, "codes": ["KRW-ETH"]} for kind in kinds))
        for frame in await read(stream, 3):
            latest[frame["type"], frame["candle_date_time_utc"]] = frame
    for kind, name in (("candle.1m", "1m"), ("candle.240m", "4h")):
        bar = next(sim.world.candles("KRW-ETH", timeframe(name), sim.now_ns() + 1, sim.now_ns()))
        frame = next(frame for (at, _open), frame in latest.items() if at == kind)
        assert frame["trade_price"] == bar.close
        assert frame["candle_acc_trade_volume"] == bar.lots / 10**8
        assert "unit" not in frame


async def test_a_finished_candle_is_sent_complete(sim: Simulator, clock: HandClock) -> None:
    async with dial(sim) as stream:
        await subscribe(stream, {"type": "candle.1m", "codes": ["KRW-BTC"]})
        await read(stream)
        clock.advance(57.0)
        await read(stream)
        clock.advance(20.0)  # into the next minute: the last update of the one before is still owed
        frames = await read(stream, 2)
        bars = list(islice(sim.world.candles("KRW-BTC", timeframe("1m"), sim.now_ns() + 1, sim.now_ns()), 2))
        assert [frame["trade_price"] for frame in frames] == [bars[1].close, bars[0].close]
        assert frames[0]["candle_acc_trade_volume"] == bars[1].lots / 10**8


async def test_text_ping_starts_a_series_of_up(sim: Simulator, clock: HandClock) -> None:
    async with dial(sim) as stream:
        await stream.send("PING")
        assert await silent(stream)
        for _ in range(3):
            clock.advance(10.0)
            assert await read(stream) == [{"status": "UP"}]
        assert await (await stream.ping()) >= 0  # and protocol pings get their pong


async def test_an_idle_stream_is_cut_without_a_close_frame(sim: Simulator, clock: HandClock) -> None:
    async with dial(sim) as idle, dial(sim) as busy:
        clock.advance(40.0)
        await (await busy.ping())
        clock.advance(21.0)
        with pytest.raises(ConnectionClosedError) as cut:
            await asyncio.wait_for(idle.recv(), 60)
        assert cut.value.rcvd is None
        assert await silent(busy)


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ('[{"type":"ticker","codes":["KRW-BTC"]}]', "NO_TICKET"),
        ('[{"ticket":"x"}]', "NO_TYPE"),
        ('[{"ticket":"x"},{"codes":["KRW-BTC"]}]', "NO_TYPE"),
        ('[{"ticket":"x"},{"type":"ticker"}]', "NO_CODES"),
        ('[{"ticket":"x"},{"type":"nope","codes":["KRW-BTC"]}]', "INVALID_PARAM"),
        ('[{"ticket":"x"},{"type":"myOrder"}]', "INVALID_AUTH"),
        ('[{"ticket":"x"},{"type":"ticker","codes":["KRW-BTC"]},{"format":"XML"}]', "WRONG_FORMAT"),
        ('{"ticket":"x"}', "WRONG_FORMAT"),
        ("hello", "WRONG_FORMAT"),
    ],
)
async def test_a_wrong_request_gets_an_error_and_then_1000(
    sim: Simulator, clock: HandClock, message: str, name: str
) -> None:
    async with dial(sim) as stream:
        await stream.send(message)
        assert (await read(stream))[0]["error"]["name"] == name
        clock.advance(0.2)
        with pytest.raises(ConnectionClosedOK) as closed:
            await asyncio.wait_for(stream.recv(), 60)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1000


async def test_subscriptions_can_be_listed_and_their_format_switched(sim: Simulator, clock: HandClock) -> None:
    async with dial(sim) as stream:
        await subscribe(stream, TRADE, {"type": "orderbook", "codes": ["KRW-ETH.5"], "is_only_snapshot": True})
        await read(stream, 2)
        await stream.send('[{"ticket":"unique"},{"method":"LIST_SUBSCRIPTIONS"}]')
        (answer,) = await read(stream)
        assert answer == {
            "method": "LIST_SUBSCRIPTIONS",
            "result": [
                {"type": "trade", "codes": ["KRW-BTC"]},
                {"type": "orderbook", "codes": ["KRW-ETH.5"], "level": 0},
            ],
            "ticket": "unique",
        }
        await stream.send('[{"ticket":"unique"},{"method":"LIST_SUBSCRIPTIONS"},{"format":"SIMPLE"}]')
        assert (await read(stream))[0]["mthd"] == "LIST_SUBSCRIPTIONS"
        await until_next_trade(sim, clock)
        assert (await read(stream))[0]["ty"] == "trade"  # the running stream too


async def ask(stream: ClientConnection, times: int) -> list[str]:
    """The names of the errors that so many requests get."""
    names = []
    for _ in range(times):
        await stream.send('[{"ticket":"x"},{"method":"LIST_SUBSCRIPTIONS"}]')
        frame = (await read(stream))[0]
        names += [frame["error"]["name"]] if "error" in frame else []
    return names


async def test_five_messages_a_second_and_a_hundred_a_minute(sim: Simulator, clock: HandClock) -> None:
    async with dial(sim) as hasty, dial(sim) as patient:
        assert await ask(hasty, 5) == []
        assert await ask(hasty, 1) == ["TOO_MANY_REQUEST"]
        for _ in range(25):
            assert await ask(patient, 4) == []
            clock.advance(1.01)
        assert await ask(patient, 1) == ["TOO_MANY_REQUEST"]
        clock.advance(1.0)


async def test_five_connects_a_second_and_no_browser(sim: Simulator, clock: HandClock) -> None:
    for _ in range(5):
        async with dial(sim) as stream:
            assert stream.response is not None and "group=websocket" in stream.response.headers["remaining-req"]
    with pytest.raises(InvalidStatus) as refused:
        async with dial(sim):
            pass
    assert refused.value.response.status_code == 429
    clock.advance(1.0)
    async with dial(sim, origin="http://localhost"):
        pass
    with pytest.raises(InvalidStatus):
        async with dial(sim, origin="http://localhost"):
            pass


async def test_private_and_unknown_streams_are_refused(sim: Simulator) -> None:
    for path, status in (("/websocket/v1/private", 401), ("/websocket/v2", 404)):
        with pytest.raises(InvalidStatus) as refused:
            async with dial_path(sim, path):
                pass
        assert refused.value.response.status_code == status


def dial_path(sim: Simulator, path: str) -> Any:
    from websockets.asyncio.client import connect

    return connect(sim.venues["upbit"].replace("http", "ws", 1) + path)


async def test_everything_at_once_is_served(sim: Simulator) -> None:
    symbols = [listing.symbol for listing in sim.world.listings]
    async with dial(sim) as stream:
        await subscribe(stream, *({"type": kind, "codes": symbols} for kind in ("ticker", "trade", "orderbook")))
        frames = await read(stream, 3 * len(symbols))
        assert {(frame["type"], frame["code"]) for frame in frames} == {
            (kind, symbol) for kind in ("ticker", "trade", "orderbook") for symbol in symbols
        }


async def test_stopping_ends_every_stream_and_call(clock: HandClock) -> None:
    sim = Simulator(clock=clock, faults="hang:rest")
    await sim.start()
    async with dial(sim) as stream:
        await subscribe(stream, TICKER)
        await read(stream)
        await asyncio.wait_for(sim.stop(), 60)
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(stream.recv(), 60)
    await sim.stop()  # twice does no harm
