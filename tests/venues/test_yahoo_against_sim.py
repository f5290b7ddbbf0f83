"""Yahoo's venue and the wire against the simulated Yahoo, which shares no code with either."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import numpy as np
import pytest

from watchhamster.core.market import Candle, Event, Ticker
from watchhamster.core.ports import BadFrame, Query, RateLimited, Rejected, Request, Subscription, Unavailable
from watchhamster.core.timeframes import SECOND_NS, timeframe
from watchhamster.sim.server import Simulator
from watchhamster.venues.wire import HttpWire
from watchhamster.venues.yahoo import Yahoo

T = TypeVar("T")
DAY_NS = 86_400 * SECOND_NS
FRIDAY_NS = int(dt.datetime.fromisoformat("2026-11-20T16:00:03+00:00").timestamp()) * SECOND_NS  # Seoul is closed


@asynccontextmanager
async def market(
    faults: str = "", speed: float = 1.0, start_ns: int = FRIDAY_NS
) -> AsyncIterator[tuple[Simulator, HttpWire, Yahoo]]:
    async with Simulator(start_ns=start_ns, faults=faults, speed=speed) as sim:
        wire = HttpWire(sim.venues["yahoo"], "Yahoo", "WatchHamster/test")
        try:
            yield sim, wire, Yahoo()
        finally:
            await wire.close()


async def call(wire: HttpWire, query: Query[T]) -> T:
    return query.parse(await wire.request(query.request))


async def truth(sim: Simulator, symbol: str, name: str, since_ns: int, until_ns: int) -> list[dict[str, Any]]:
    wire = HttpWire(sim.url, "sim", "test")
    params = {"instrument": f"yahoo:{symbol}", "timeframe": name, "since_ns": str(since_ns), "until_ns": str(until_ns)}
    answer = await wire.request(Request("/sim/truth/candles", params))
    await wire.close()
    return [json.loads(line) for line in answer.body.splitlines()]


@pytest.mark.parametrize("symbol", ["AAPL", "005930.KS", "BTC-USD"])
async def test_candles_are_what_happened(symbol: str) -> None:
    """Every page back through days with a change of summer time in them; the open bar is open."""
    async with market() as (sim, wire, venue):
        for name, days in (("1m", 9), ("15m", 20), ("1h", 30), ("1d", 60), ("1w", 100), ("1M", 200)):
            frame, now_ns = timeframe(name), sim.now_ns()
            since_ns = until_ns = frame.open_ns(now_ns - days * DAY_NS)
            found: dict[int, Candle] = {}
            until_ns, known_until_ns = now_ns, None
            for _ in range(20):
                page = await call(wire, venue.candles(symbol, frame, since_ns, until_ns))
                known_until_ns = known_until_ns or page.until_ns
                found.update((candle.open_ns, candle) for candle in page.rows)
                until_ns = page.since_ns
                if page.cursor is None:
                    break
            assert until_ns == since_ns and known_until_ns is not None
            real = await truth(sim, symbol, name, since_ns, known_until_ns)
            assert [at for at in sorted(found) if at < known_until_ns] == [row["open_ns"] for row in real], name
            for row in real:
                candle = found[row["open_ns"]]
                assert candle.closed
                for field in ("open", "high", "low", "close"):
                    assert np.float32(row[field]) == np.float32(getattr(candle, field)), (name, field)
            assert not any(candle.closed for at, candle in found.items() if at >= known_until_ns)


def moment(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp()) * SECOND_NS


@pytest.mark.parametrize(
    ("day", "begins", "ends"),
    [
        ("2026-11-20", "09:00", "15:30"),
        ("2026-11-19", "10:00", "16:30"),  # the exam for the universities
        ("2026-01-02", "10:00", "15:30"),  # the year's first day
    ],
)
@pytest.mark.parametrize("name", ["1m", "30m", "1h"])
async def test_seouls_session_is_whole_whatever_the_venues_table_says(
    day: str, begins: str, ends: str, name: str
) -> None:
    """Which says 15:00, while trading goes on until 15:30, and an hour longer on the day of the exam."""
    frame = timeframe(name)
    step = frame.approximate_ns
    since_ns, until_ns = moment(f"{day}T00:00+09:00"), moment(f"{day}T23:00+09:00")
    start_ns = moment(f"{day}T18:30+09:00")
    async with market(start_ns=start_ns) as (sim, wire, venue):
        page = await call(wire, venue.candles("005930.KS", frame, since_ns, sim.now_ns()))
        opens = [candle.open_ns for candle in page.rows]
        assert opens[0] == moment(f"{day}T{begins}+09:00")
        assert moment(f"{day}T{ends}+09:00") - step <= opens[-1] < moment(f"{day}T{ends}+09:00")
        assert all(candle.closed for candle in page.rows)
        real = await truth(sim, "005930.KS", name, since_ns, until_ns)
        assert opens == [row["open_ns"] for row in real]


async def test_the_forming_week_has_the_volume_of_its_days_and_of_today() -> None:
    async with market() as (sim, wire, venue):
        now_ns = sim.now_ns()
        week = timeframe("1w")
        page = await call(wire, venue.candles("AAPL", week, now_ns - 30 * DAY_NS, now_ns))
        days = await call(wire, venue.candles("AAPL", timeframe("1d"), page.rows[-1].open_ns, now_ns))
        forming = page.rows[-1]
        assert len(days.rows) == 5 and not forming.closed and not days.rows[-1].closed
        before = sum(day.volume or 0 for day in days.rows[:-1])
        assert before < (forming.volume or 0) <= sum(day.volume or 0 for day in days.rows)
        assert (forming.volume or 0) - before > 0.9 * (days.rows[-1].volume or 0)
        assert forming.high == max(day.high for day in days.rows)


async def test_a_halted_symbol_stands_still_and_its_quote_says_so() -> None:
    """Until trading goes on: then the stream does, and of what was not told nothing is."""
    frames: list[bytes | str] = []
    async with market("yahoo.halt:AAPL", speed=20.0) as (sim, wire, venue):
        while (admission := venue.admission(sim.now_ns())) is not None:
            await call(wire, admission)
        stream = await wire.open(venue.stream_url(wire.base_url), frames.append, timeout_s=5)
        wants = [Subscription("ticker", "AAPL"), Subscription("ticker", "BTC-USD")]
        for frame in venue.subscribe(wants, "t"):
            await stream.send(frame)
        halted, other = await call(wire, venue.tickers(["AAPL", "BTC-USD"]))
        await until(lambda: len(decoded(venue, frames, sim)) >= 5)
        assert halted.state == "HALTED" and other.state == "REGULAR"
        assert {e.instrument for e in decoded(venue, frames, sim)} == {"yahoo:BTC-USD"}
        since_ns = venue.session("AAPL", sim.now_ns()).halted_ns
        assert since_ns == halted.event_ns
        again, _ = await call(wire, venue.tickers(["AAPL", "BTC-USD"]))
        assert (again.price, again.event_ns, again.state) == (halted.price, halted.event_ns, "HALTED")
        minute = timeframe("1m")
        await until(lambda: sim.now_ns() >= since_ns + 150 * SECOND_NS)
        page = await call(wire, venue.candles("AAPL", minute, since_ns - 600 * SECOND_NS, sim.now_ns()))
        assert page.rows[-1].open_ns == minute.open_ns(since_ns)
        sim.exchange.faults.clear()
        await until(lambda: any(e.instrument == "yahoo:AAPL" for e in decoded(venue, frames, sim)))
        assert venue.session("AAPL", sim.now_ns()).halted_ns is None
        await stream.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 (what a simulator in this loop does tells nobody)
            await asyncio.sleep(0.05)


def decoded(venue: Yahoo, frames: list[bytes | str], sim: Simulator) -> list[Ticker]:
    events = [event for frame in list(frames) for event in venue.decode(frame, sim.now_ns())]
    return [event for event in events if isinstance(event, Ticker)]


async def test_what_rest_knows_of_instruments() -> None:
    async with market() as (sim, wire, venue):
        infos = {info.symbol: info for info in await call(wire, venue.markets())}
        assert {"AAPL", "005930.KS", "BTC-USD"} <= set(infos)
        assert (await call(wire, venue.info("VOD.L"))).quote == "GBp"
        samsung = await call(wire, venue.quote("005930.KS"))
        assert (samsung.currency, samsung.ticker.state) == ("KRW", "CLOSED")
        opens_ns = venue.session("005930.KS", sim.now_ns()).next_open_ns
        assert opens_ns == int(dt.datetime.fromisoformat("2026-11-23T09:00+09:00").timestamp()) * SECOND_NS
        assert venue.session("AAPL", sim.now_ns()).phase == "regular"
        assert "AAPL" in [info.symbol for info in await call(wire, venue.search("apple"))]
        assert "005930.KS" in [info.symbol for info in await call(wire, venue.search("삼성전자"))]
        assert all(headline.url for headline in await call(wire, venue.news("AAPL")))
        while (admission := venue.admission(sim.now_ns())) is not None:
            await call(wire, admission)
        tickers = await call(wire, venue.tickers(["AAPL", "NOPE", "005930.KS"]))
        assert [ticker.instrument for ticker in tickers] == ["yahoo:AAPL", "yahoo:005930.KS"]
        assert tickers[1].price == samsung.ticker.price and tickers[1].change == samsung.ticker.change
        with pytest.raises(Rejected) as unknown:
            await call(wire, venue.quote("NOPE"))
        assert unknown.value.code == "unknown_instrument"
        with pytest.raises(Rejected) as old:
            await call(
                wire, venue.chart("AAPL", timeframe("1m"), sim.now_ns() - 90 * DAY_NS, sim.now_ns() - 89 * DAY_NS)
            )
        assert old.value.code == "too_far_back"
        page = await call(
            wire, venue.candles("AAPL", timeframe("1m"), sim.now_ns() - 90 * DAY_NS, sim.now_ns() - 89 * DAY_NS)
        )
        assert page.rows == [] and page.since_ns == page.until_ns


async def test_the_stream_goes_on_from_what_rest_told() -> None:
    frames: list[bytes | str] = []
    async with market(speed=8.0) as (sim, wire, venue):
        stream = await wire.open(venue.stream_url(wire.base_url), frames.append, timeout_s=5)
        wants = [
            Subscription("ticker", "AAPL"),
            Subscription("candle", "AAPL", "1m"),
            Subscription("ticker", "BTC-USD"),
        ]
        sent = venue.subscribe(wants, "t")
        assert venue.unseeded() == ["AAPL", "BTC-USD"]
        for symbol in venue.unseeded():
            await call(wire, venue.tickers([symbol]))
        assert venue.unseeded() == []
        for frame in sent:
            await stream.send(frame)
        events: list[Event] = []
        async with asyncio.timeout(90):
            while len({e.instrument for e in events if isinstance(e, Ticker)}) < 2 or len(events) < 8:
                await asyncio.sleep(0.1)
                while frames:
                    events += venue.decode(frames.pop(0), sim.now_ns())
        for event in events:
            if isinstance(event, Ticker):
                assert event.open is not None and event.high is not None and event.low is not None
                assert event.low <= event.price <= event.high and event.state == "REGULAR"
                assert event.previous_close is not None and event.change is not None
                assert event.price - event.previous_close == pytest.approx(event.change, abs=0.02)
        assert all(isinstance(event, Ticker) for event in events) and not venue.unread
        for frame in venue.subscribe(wants[2:], "t"):
            await stream.send(frame)
        await asyncio.sleep(0.5)
        frames.clear()
        await asyncio.sleep(0.7)
        later = [event for frame in frames for event in venue.decode(frame, sim.now_ns())]
        assert {event.instrument for event in later if isinstance(event, Ticker)} <= {"yahoo:BTC-USD"}
        await stream.close()


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ("http429", RateLimited, "rate_limited"),
        ("http999", RateLimited, "rate_limited"),
        ("busy200", RateLimited, "rate_limited"),
        ("consent", Unavailable, "consent_needed"),
        ("html", Unavailable, "unavailable"),
        ("empty", Unavailable, "unavailable"),
        ("http5xx", Unavailable, "unavailable"),
        ("maintenance", Unavailable, "unavailable"),
        ("delist:AAPL", Rejected, "unknown_instrument"),
    ],
)
async def test_every_fault_has_its_error(fault: str, kind: type[Exception], code: str) -> None:
    async with market(fault) as (sim, wire, venue):
        now_ns = sim.now_ns()
        candles = venue.candles("AAPL", timeframe("1d"), now_ns - 9 * DAY_NS, now_ns)
        queries: list[Query[Any]] = [venue.tickers(["AAPL"]), candles]
        for query in queries:
            with pytest.raises(kind) as failure:
                await call(wire, query)
            assert getattr(failure.value, "code", "") == code


@pytest.mark.parametrize("fault", ["nulls:0.3", "no_meta", "live_row", "skew:120"])
async def test_odd_answers_store_nothing_wrong(fault: str) -> None:
    """What is closed is what happened, whatever else the answer lacks."""
    frame = timeframe("1m")
    async with market(fault) as (sim, wire, venue):
        until_ns = frame.open_ns(sim.now_ns())
        since_ns = until_ns - 3600 * SECOND_NS
        page = await call(wire, venue.candles("AAPL", frame, since_ns, until_ns))
        closed = [candle for candle in page.rows if candle.closed]
        real = {row["open_ns"]: row for row in await truth(sim, "AAPL", "1m", since_ns, until_ns) if row["closed"]}
        assert closed and page.until_ns <= until_ns
        for candle in closed:
            assert np.float32(real[candle.open_ns]["close"]) == np.float32(candle.close)


@pytest.mark.parametrize("fault", ["garbage:0.5", "absurd:0.5", "unknown:0.5", "corrupt:0.3"])
async def test_a_spoiled_stream_gives_nothing_insane(fault: str) -> None:
    frames: list[bytes | str] = []
    async with market(fault, speed=8.0) as (sim, wire, venue):
        await call(wire, venue.tickers(["BTC-USD"]))
        stream = await wire.open(venue.stream_url(wire.base_url), frames.append, timeout_s=5)
        for frame in venue.subscribe([Subscription("ticker", "BTC-USD")], "t"):
            await stream.send(frame)
        good = bad = 0
        async with asyncio.timeout(90):
            while good < 4 or not (bad or venue.unread):
                await asyncio.sleep(0.1)
                while frames:
                    try:
                        events = venue.decode(frames.pop(0), sim.now_ns())
                    except BadFrame:
                        bad += 1
                        continue
                    for event in events:
                        if isinstance(event, Ticker) and fault != "corrupt:0.3":
                            assert event.instrument != "yahoo:BTC-USD" or 80_000 < event.price < 110_000
                        good += 1
        await stream.close()
