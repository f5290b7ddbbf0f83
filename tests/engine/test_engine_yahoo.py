"""The engine on a market with sessions: bars on its own grid, and what is open beside what is over.

Exchange and engine share a clock that leaps from one moment worth seeing to the next once everything is ready for it,
so that no machine is too slow. To the engine a leap is a machine that slept.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.virtual_time import LeapingClock
from watchhamster.app import Options, build_engine
from watchhamster.core.market import Candle, Event
from watchhamster.core.timeframes import SECOND_NS
from watchhamster.engine.engine import Engine
from watchhamster.engine.owner import Owner
from watchhamster.monitor.alerts import Alert, Rule
from watchhamster.settings import Home
from watchhamster.sim import Simulator

pytest.importorskip("holidays")

MINUTE_NS, HOUR_NS = 60 * SECOND_NS, 3600 * SECOND_NS
APPLE = "yahoo:AAPL"
SPEED = 8.0

# A request that is given up leaves httpcore's socket to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(300),
]


@pytest.fixture(autouse=True)
def collect() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def at(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp()) * SECOND_NS


@asynccontextmanager
async def watching(home: Home, simulator: Simulator, *instruments: str) -> AsyncIterator[Engine]:
    with pytest.MonkeyPatch.context() as environment:
        for venue, url in simulator.venues.items():
            environment.setenv(f"WATCHHAMSTER_{venue.upper()}_URL", url)
        options = Options(home, clock=simulator.exchange.clock, instruments=instruments)
        engine = await build_engine(options, Owner.claim(home.prepare()))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()
        await asyncio.sleep(0.05)  # for the sockets' last turns of the loop


async def until(condition: Callable[[], object] | Callable[[], Awaitable[object]]) -> None:
    """Wait for something that must come; how soon is not what is tested."""
    async with asyncio.timeout(90.0):
        while True:
            found = condition()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.02)


async def truth(simulator: Simulator, name: str, since_ns: int, until_ns: int) -> list[dict[str, Any]]:
    params = {"instrument": APPLE, "timeframe": name, "since_ns": str(since_ns), "until_ns": str(until_ns)}
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{simulator.url}/sim/truth/candles", params=params)
    return [json.loads(line) for line in answer.text.splitlines()]


def single(prices: list[float]) -> list[np.float32]:
    """As the venue has them."""
    return [np.float32(price) for price in prices]


class Seen:
    """What an engine told, by timeframe."""

    def __init__(self, engine: Engine) -> None:
        self.candles: list[Candle] = []
        self.alerts: list[Alert] = []
        engine.observe(self._note)

    def _note(self, event: Event | Alert) -> None:
        if isinstance(event, Candle):
            self.candles.append(event)
        elif isinstance(event, Alert):
            self.alerts.append(event)

    def closed(self, name: str) -> list[Candle]:
        return [candle for candle in self.candles if candle.closed and candle.timeframe == name]

    def opened(self, name: str = "1m") -> list[Candle]:
        return [candle for candle in self.candles if not candle.closed and candle.timeframe == name]


async def test_a_half_day_ends_early_and_its_bars_with_it(home: Home) -> None:
    """The day after Thanksgiving: the hour's bar that began at 12:30 is over at 13:00, and so are day and week.

    Those settle within an hour; they are told then by an engine that was off meanwhile.
    """
    half, close = at("2026-11-27T12:30-05:00"), at("2026-11-27T13:00-05:00")
    day, week = at("2026-11-27T00:00-05:00"), at("2026-11-23T00:00-05:00")
    frames = ("5m", "1h", "1d", "1w", "1M")
    clock = LeapingClock(at("2026-11-27T12:55:03-05:00"), SPEED)
    async with Simulator(clock=clock) as simulator, watching(home, simulator) as engine:
        seen = Seen(engine)
        await engine.set_watch_list([APPLE])
        for name in frames:
            rule = Rule(name=f"open {name}", formula="close > 0", instruments=(APPLE,), timeframe=name, forming=True)
            await engine.save_rule(rule)
        for name in ("1h", "1d", "1w"):
            await engine.save_rule(Rule(name=name, formula="close > 0", instruments=(APPLE,), timeframe=name))

        now: dict[str, Candle] = {}

        def all_opened() -> bool:
            for name in frames:
                candle = engine.forming(APPLE, name)
                if candle is not None and candle.open_ns + 5 * MINUTE_NS <= close:
                    now[name] = candle
            return len(now) == len(frames)

        await until(lambda: engine.forming(APPLE, "1m") is not None and waiting(engine) == 0)
        clock.leap(close - 2 * MINUTE_NS + 30 * SECOND_NS)
        await until(all_opened)
        clock.leap(close + 5 * SECOND_NS)
        assert now["5m"].open_ns == close - 5 * MINUTE_NS
        month = at("2026-11-01T00:00-04:00")  # it began in summer time
        assert [now[name].open_ns for name in frames[1:]] == [half, day, week, month]
        assert all(not candle.closed and candle.origin == "live" for candle in now.values())
        highs, lows = (single([getattr(now[name], side) for name in frames]) for side in ("high", "low"))
        assert highs == sorted(highs) and lows == sorted(lows, reverse=True)
        volumes = [now[name].volume for name in frames]
        known = [volume for volume in volumes if volume is not None]  # of a minute with a silence in it none is
        assert volumes[2:] == known[-3:] and min(known) > 0 and known == sorted(known)

        await clock.sleep(3.0)
        assert not seen.closed("1h"), "the venue's word is not final yet"
        clock.leap(close + MINUTE_NS + 5 * SECOND_NS)
        await until(lambda: seen.closed("1h"))
        (hour,) = seen.closed("1h")
        (true,) = await truth(simulator, "1h", half, close)
        assert clock.now_ns() >= close + MINUTE_NS and (hour.open_ns, hour.origin) == (half, "backfill")
        assert single([hour.open, hour.high, hour.low, hour.close]) == single(
            [true[name] for name in ("open", "high", "low", "close")]
        )
        await until(lambda: "1h" in [alert.name for alert in seen.alerts])
        (alert,) = [alert for alert in seen.alerts if alert.name == "1h"]
        assert alert.fired_ns == close, "the bar was over with its session"
        await until(lambda: {f"open {name}" for name in frames} <= {alert.name for alert in seen.alerts})
        (alert,) = [alert for alert in seen.alerts if alert.name == "open 1d"]
        assert day < alert.fired_ns < close
        assert engine.forming(APPLE, "1h") is None and engine.forming(APPLE, "1m") is None

        def is_at_the_close() -> bool:
            evening = engine.forming(APPLE, "1d")
            return evening is not None and np.float32(evening.close) == np.float32(true["close"])

        await until(is_at_the_close)  # whatever trades after hours
        assert not seen.closed("1d") and not seen.closed("1w"), "the auction may still change them"
        missing = [
            (since_ns, until_ns)
            for since_ns, until_ns in await unknown(engine, "1m", at("2026-11-25T16:00-05:00"), clock.now_ns())
        ]
        assert missing == [], "Thanksgiving, the night and the time since the close are no gap"
    clock = LeapingClock(at("2026-11-27T13:54:00-05:00"), SPEED)
    async with Simulator(clock=clock) as simulator, watching(home, simulator) as engine:
        seen = Seen(engine)
        away = await engine.away()
        assert away is not None and away.seconds > 3000 and away.unknown_s == 0
        before = await engine.bars(APPLE, "1d", week, clock.now_ns())
        assert before.open_ns.tolist() == [day - n * 24 * HOUR_NS for n in (4, 3, 2)]  # Thanksgiving has none
        await until(lambda: waiting(engine) == 0)
        clock.leap(at("2026-11-27T14:00:05-05:00"))
        await until(lambda: seen.closed("1d") and seen.closed("1w"))
        for name, open_ns in (("1d", day), ("1w", week)):
            (candle,) = seen.closed(name)
            (true,) = await truth(simulator, name, open_ns, close)
            assert (candle.open_ns, candle.volume) == (open_ns, true["volume"])
            assert single([candle.open, candle.close]) == single([true["open"], true["close"]])
        await until(lambda: {"1d", "1w"} <= {alert.name for alert in seen.alerts})
        assert {alert.fired_ns for alert in seen.alerts if alert.name in ("1d", "1w")} == {close}
        assert engine.forming(APPLE, "1d") is None and engine.forming(APPLE, "1w") is None
        assert await unknown(engine, "1d", week, clock.now_ns()) == []


async def test_a_first_minute_after_a_weekend_in_which_summer_time_ended(home: Home) -> None:
    """The count of the day begins anew, the grid moves by an hour; then the stream is lost, and polling carries on."""
    opening = at("2026-11-02T09:30-05:00")
    clock = LeapingClock(at("2026-11-02T09:26:00-05:00"), SPEED)
    async with Simulator(clock=clock) as simulator, watching(home, simulator, APPLE) as engine:
        seen = Seen(engine)
        mean = Rule(name="mean", formula="sma(close, 5) > 0", instruments=(APPLE,), timeframe="1h", forming=True)
        await engine.save_rule(mean)  # which needs the hours of Friday
        await until(lambda: engine.board.price(APPLE) is not None and waiting(engine) == 0)
        clock.leap(opening + 10 * SECOND_NS)
        await until(lambda: seen.opened() and seen.alerts)
        clock.leap(opening + 90 * SECOND_NS)
        await until(lambda: len({candle.open_ns for candle in seen.opened()}) >= 2)
        hour, day = engine.forming(APPLE, "1h"), engine.forming(APPLE, "1d")
        assert hour is not None and hour.open_ns == opening
        assert day is not None and day.open_ns == at("2026-11-02T00:00-05:00")
        assert [alert.name for alert in seen.alerts if alert.kind == "rule"] == ["mean"]
        hours = (await engine.bars(APPLE, "1h", at("2026-10-30T00:00-04:00"), opening)).open_ns.tolist()
        assert hours == [at("2026-10-30T09:30-04:00") + n * HOUR_NS for n in range(7)]
        clock.leap(opening + 135 * SECOND_NS)
        await until(lambda: seen.closed("1m"))
        check_minutes(seen, await truth(simulator, "1m", opening, clock.now_ns()), opening)

        simulator.exchange.faults.set("drop,refuse:503")
        await until(lambda: engine.metrics().feeds["yahoo"] == "fallback")
        lost_ns = clock.now_ns()
        clock.leap(lost_ns + 75 * SECOND_NS)
        await until(lambda: any(c.open_ns > lost_ns for c in seen.opened()))
        clock.leap(lost_ns + 195 * SECOND_NS)
        await until(lambda: any(c.open_ns > lost_ns for c in seen.closed("1m")))
        assert engine.metrics().feeds["yahoo"] == "fallback"
        check_minutes(seen, await truth(simulator, "1m", opening, clock.now_ns()), opening)
        assert await unknown(engine, "1m", at("2026-10-30T16:00-04:00"), clock.now_ns()) == []


async def test_a_bar_that_is_open_is_shown_from_its_beginning_at_once(home: Home) -> None:
    """Whoever chooses five minutes or an hour sees what traded in them so far, before its minutes have settled."""
    start_ns = at("2026-11-27T12:57:50-05:00")
    clock = LeapingClock(start_ns, 1.0)
    async with Simulator(clock=clock) as simulator, watching(home, simulator, APPLE) as engine:
        for name, open_ns in (("5m", at("2026-11-27T12:55-05:00")), ("1h", at("2026-11-27T12:30-05:00"))):
            engine.focus(APPLE, name)
            await until(lambda name=name: engine.forming(APPLE, name))
            bar = engine.forming(APPLE, name)
            assert bar is not None and (bar.open_ns, bar.closed, bar.origin) == (open_ns, False, "live")
            minutes = await truth(simulator, "1m", open_ns, clock.now_ns())
            before = [row for row in minutes if row["open_ns"] + MINUTE_NS <= start_ns]
            assert single([bar.open]) == single([minutes[0]["open"]])
            assert max(single([row["high"] for row in before])) <= np.float32(bar.high)
            assert min(single([row["low"] for row in before])) >= np.float32(bar.low)
        assert clock.now_ns() < start_ns + MINUTE_NS, "the minute in which it was chosen cannot have settled"


async def test_minutes_of_what_is_only_listed_are_stored_as_they_settle(home: Home) -> None:
    """Nobody waits for them, but they are few: `run` stores what it watches."""
    start_ns = at("2026-11-27T10:00:10-05:00")
    clock = LeapingClock(start_ns, 2.0)
    async with Simulator(clock=clock) as simulator, watching(home, simulator, APPLE) as engine:
        seen = Seen(engine)
        await until(lambda: engine.board.price(APPLE) is not None)
        clock.leap(start_ns + 125 * SECOND_NS)
        await until(lambda: seen.closed("1m"))
        assert clock.now_ns() < start_ns + 200 * SECOND_NS
        first_ns, last_ns = (seen.closed("1m")[place].open_ns for place in (0, -1))
        assert first_ns <= start_ns - 10 * SECOND_NS <= last_ns, "the minute in which watching began is the venue's"
        assert await unknown(engine, "1m", first_ns, last_ns + 4 * MINUTE_NS) == []


def check_minutes(seen: Seen, true: list[dict[str, Any]], opening: int) -> None:
    """Provisional minutes are of the session and within what happened; each is replaced, once, by the venue's."""
    opened, closed = seen.opened(), seen.closed("1m")
    assert {c.origin for c in opened} == {"live"} and {c.origin for c in closed} == {"backfill"}
    assert min(c.open_ns for c in opened) >= opening, "neither Friday's last minute nor one of before the market"
    stamps = [c.open_ns for c in closed]
    assert stamps == sorted(set(stamps))
    rows = {row["open_ns"]: row for row in true}
    assert stamps == [open_ns for open_ns in rows if open_ns in stamps]
    for candle in closed:
        row = rows[candle.open_ns]
        assert (single([candle.close]), candle.volume) == (single([row["close"]]), row["volume"])
    last = {candle.open_ns: number for number, candle in enumerate(seen.candles) if candle.closed}
    for number, candle in enumerate(seen.candles):
        assert candle.closed or number < last.get(candle.open_ns, 1 << 62), "what is over does not open again"
    first = [c for c in opened if c.open_ns == opening][-1]
    assert first.volume is not None and 0 < first.volume <= rows[opening]["volume"], "from a count that fell"


def waiting(engine: Engine) -> int:
    """Rules that have no history yet."""
    return sum(status.waiting for status in engine._watch.states())


async def unknown(engine: Engine, name: str, since_ns: int, until_ns: int) -> list[tuple[int, int]]:
    """What was never fetched though it has settled."""
    spans = await engine.coverage(APPLE, name, since_ns, until_ns - 3 * MINUTE_NS)
    return [(span.since_ns, span.until_ns) for span in spans if span.state == "not_fetched"]
