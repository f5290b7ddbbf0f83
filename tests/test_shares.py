"""Dividends, splits and adjusted closes, fetched from the built-in exchange: stored, exported, mended."""

from __future__ import annotations

import asyncio
import csv
import gc
import io
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest

from tests.storage.kit import tamper
from tests.virtual_time import LeapingClock
from watchhamster.app import Options, build_engine
from watchhamster.commands import export, perform
from watchhamster.core.market import Candle, Event
from watchhamster.core.ports import Clock, Quota, Request, Response
from watchhamster.core.timeframes import SECOND_NS, timeframe
from watchhamster.engine.clock import ScaledClock
from watchhamster.engine.engine import Engine
from watchhamster.engine.owner import Owner
from watchhamster.monitor.alerts import Alert, Rule
from watchhamster.services import Services
from watchhamster.settings import Home
from watchhamster.sim import Simulator
from watchhamster.venues.yahoo import Yahoo

pytest.importorskip("holidays")

# A request that is given up leaves httpcore's socket to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

NVDA = "yahoo:NVDA"
DAY_NS = 86_400 * SECOND_NS
FRIDAY_NS = 1_796_400_003 * SECOND_NS  # 2026-12-04 16:00:03 UTC: New York trades
MONDAY_NS = FRIDAY_NS + 3 * DAY_NS  # on which the share is split, two for one
SPLIT_NS = 1_796_619_600 * SECOND_NS  # midnight in New York
DAYS, MINUTES = timeframe("1d"), timeframe("1m")


@pytest.fixture(autouse=True)
def collect() -> Iterator[None]:
    yield
    gc.collect()


C = TypeVar("C", bound=Clock)


@asynccontextmanager
async def exchange_at(clock: C) -> AsyncIterator[tuple[C, Simulator]]:
    await clock.sleep(0.0)  # from now on it runs
    with pytest.MonkeyPatch.context() as environment:
        async with Simulator(clock=clock) as simulator:
            for venue, url in simulator.venues.items():
                environment.setenv(f"WATCHHAMSTER_{venue.upper()}_URL", url)
            hurried = {group: Quota(quota.count, 0.1) for group, quota in Yahoo.quotas.items()}
            environment.setattr(Yahoo, "quotas", hurried)
            yield clock, simulator
            await asyncio.sleep(0.05)  # for the sockets' last turns of the loop


def exchange(now_ns: int) -> AbstractAsyncContextManager[tuple[ScaledClock, Simulator]]:
    return exchange_at(ScaledClock(now_ns, 8.0))


@asynccontextmanager
async def writing(home: Home, clock: ScaledClock) -> AsyncIterator[Services]:
    home.prepare()
    services = Services(home, clock)
    services.open()
    try:
        yield services
    finally:
        await services.close()


async def update(services: Services, tf: str, since_ns: int | None = None, until_ns: int | None = None) -> Any:
    arguments = {"instrument": NVDA, "timeframe": tf, "since_ns": since_ns, "until_ns": until_ns}
    return await perform("data.update", arguments, services)


async def truth(simulator: Simulator, tf: str, since_ns: int, until_ns: int) -> dict[int, float]:
    params = {"instrument": NVDA, "timeframe": tf, "since_ns": str(since_ns), "until_ns": str(until_ns)}
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{simulator.url}/sim/truth/candles", params=params)
    return {row["open_ns"]: float(np.float32(row["close"])) for row in map(json.loads, answer.text.splitlines())}


async def chart(simulator: Simulator, since_ns: int, until_ns: int) -> tuple[list[float], dict[str, Any]]:
    """The exchange's own adjusted closes and events, read without the venue's help."""
    params = {"interval": "1d", "period1": str(since_ns // SECOND_NS), "period2": str(until_ns // SECOND_NS)}
    params |= {"events": "div,splits,capitalGains"}
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{simulator.venues['yahoo']}/v8/finance/chart/NVDA", params=params)
    (result,) = answer.json()["chart"]["result"]
    return result["indicators"]["adjclose"][0]["adjclose"], result.get("events", {})


def stored(services: Services, tf: str, *, first: bool = False) -> dict[int, float]:
    bars = services.market.read_bars(NVDA, tf, 0, 1 << 62, first=first)
    return dict(zip(bars.open_ns.tolist(), bars.close.tolist(), strict=True))


async def test_what_was_paid_is_fetched_with_the_candles_and_exported(tmp_path: Path) -> None:
    """A span of the past is told adjusted for what came after it; what was paid meanwhile is asked for once."""
    home = Home(tmp_path / "home")
    since_ns, until_ns = FRIDAY_NS - 950 * DAY_NS, FRIDAY_NS - 300 * DAY_NS
    async with exchange(FRIDAY_NS) as (clock, simulator), writing(home, clock) as services:
        await update(services, "1d", since_ns, until_ns)
        adjusted, events = await chart(simulator, since_ns, until_ns + DAY_NS)
        out = tmp_path / "days.csv"
        services.market.flush()
        count = export(home, NVDA, DAYS, None, None, "csv", out, events=True)
        rows = list(csv.DictReader(io.StringIO(out.read_text())))
        assert len(rows) == count > 400
        assert [float(row["adj close"]) for row in rows] == adjusted[: len(rows)]
        for column, kind in (("dividends", "dividends"), ("capital gains", "capitalGains")):
            told = [event["amount"] for _, event in sorted(events.get(kind, {}).items())]
            assert [float(row[column]) for row in rows if row[column]] == told
        assert sum(bool(row["dividends"]) for row in rows) >= 6
        assert [float(row["stock splits"]) for row in rows if row["stock splits"]] == [10.0]
        # The factors are the venue's although it paid on after the span; those of hours are the day's.
        bars = services.market.read_bars(NVDA, "1d", 0, 1 << 62)
        assert bars.adjustment is not None and bars.adjustment[-1] < 1.0
        np.testing.assert_allclose(bars.close * bars.adjustment, adjusted[: len(bars)], rtol=5e-7)
        await update(services, "1d", FRIDAY_NS - 3 * DAY_NS)
        known = services.market.read_actions(NVDA, 0, 1 << 62)
        adjusted, events = await chart(simulator, since_ns, FRIDAY_NS)
        assert [a.amount for a in known if a.kind == "dividend" and a.at_ns >= since_ns] == [
            event["amount"] for _, event in sorted(events["dividends"].items())
        ]
        again = services.market.read_bars(NVDA, "1d", 0, 1 << 62)
        assert again.adjustment is not None and again.adjustment[-1] == 1.0
        np.testing.assert_allclose(again.adjustment[: len(bars)], bars.adjustment, rtol=1e-6)
        hours = await services.backfill().candles(NVDA, "1h", FRIDAY_NS - 400 * DAY_NS, FRIDAY_NS - 390 * DAY_NS)
        assert hours.adjustment is not None
        day = np.searchsorted(again.open_ns, hours.open_ns, side="right") - 1
        np.testing.assert_allclose(hours.adjustment, again.adjustment[day], rtol=1e-6)


@pytest.mark.parametrize(("later_ns", "asked"), [(MONDAY_NS + DAY_NS, "1d"), (MONDAY_NS - DAY_NS // 4, "1m")])
async def test_a_new_split_puts_the_past_out_of_scale_and_it_is_fetched_again(
    tmp_path: Path, later_ns: int, asked: str
) -> None:
    """Of every timeframe, by the first update that meets it, before the session, too; what was first seen is kept."""
    home = Home(tmp_path / "home")
    async with exchange(FRIDAY_NS) as (clock, _), writing(home, clock) as services:
        for tf, days in (("1d", 400), ("1w", 900), ("1m", 3)):
            await update(services, tf, FRIDAY_NS - days * DAY_NS)
        services.market.flush()
        before = {tf: stored(services, tf) for tf in ("1d", "1w", "1m")}
        assert services.market.notices == []
    async with exchange(later_ns) as (clock, simulator), writing(home, clock) as services:
        await update(services, asked)
        for tf, old in before.items():
            now, frame = stored(services, tf), timeframe(tf)
            true = await truth(simulator, tf, min(old), frame.next_ns(max(now)))
            # The week of the split is open, so nobody asked for it.
            assert now == {at: close for at, close in true.items() if at in now}, tf
            assert set(old) <= set(now), tf
            assert all(abs(old[at] / now[at] - 2) < 1e-3 for at in old), tf
            first = stored(services, tf, first=True)
            assert {at: close for at, close in first.items() if at in old} == old, tf
            spans = services.market.read_coverage(NVDA, tf, min(old), max(old))
            assert all(span.state != "not_fetched" for span in spans), tf
        (notice,) = services.market.notices
        assert (notice.code, "2 shares for 1" in str(notice.text)) == ("rescaled", True)
        # Amounts are told in the new scale, too, and the split is known: it is news once.
        paid = [a for a in services.market.read_actions(NVDA, SPLIT_NS - 400 * DAY_NS, 1 << 62) if a.kind != "split"]
        _, events = await chart(simulator, SPLIT_NS - 400 * DAY_NS, MONDAY_NS)
        assert [a.amount for a in paid] == [e["amount"] for _, e in sorted(events["dividends"].items())]
        await update(services, "1d", FRIDAY_NS - 500 * DAY_NS)
        assert len(services.market.notices) == 1
        assert (await services.market.verify()).damaged == 0


async def test_a_split_met_in_history_alone_makes_nothing_worthless(tmp_path: Path) -> None:
    """Years older than a split of long ago were told in its scale; what comes between need not be fetched twice."""
    home = Home(tmp_path / "home")
    async with exchange(FRIDAY_NS) as (clock, _simulator), writing(home, clock) as services:
        await update(services, "1d", FRIDAY_NS - 1500 * DAY_NS, FRIDAY_NS - 1400 * DAY_NS)
        old = stored(services, "1d")
        await update(services, "1d", FRIDAY_NS - 1500 * DAY_NS)  # split ten for one in 2024
        assert services.market.notices == []
        assert old.items() <= stored(services, "1d").items()
        assert stored(services, "1d", first=True) == stored(services, "1d")
        assert [a.amount for a in services.market.read_actions(NVDA, 0, 1 << 62) if a.kind == "split"][-1] == 10.0


async def test_what_is_known_is_not_asked_again(tmp_path: Path) -> None:
    """What candles came with is known; for what lies between, and for what is damaged, there is one request."""
    home = Home(tmp_path / "home")
    async with exchange(FRIDAY_NS) as (clock, _), writing(home, clock) as services:
        asked: list[Any] = []
        ask = services.wire("yahoo").request

        async def noted(request: Request) -> Response:
            asked.append(request.params["interval"])
            return await ask(request)

        services.wire("yahoo").request = noted  # type: ignore[method-assign]
        for days in (4, 1, 7):
            await update(services, "1m", FRIDAY_NS - days * DAY_NS, FRIDAY_NS - (days - 1) * DAY_NS)
        assert asked == ["1m", "1m", "1d", "1m"]
        await update(services, "1d", FRIDAY_NS - 400 * DAY_NS)
        del asked[:]
        before = services.market.read_actions(NVDA, 0, 1 << 62)
        tamper(home.market_db, "UPDATE action SET amount = amount * 2")
        assert (await services.market.verify()).damaged == len(before)
        await update(services, "1m", FRIDAY_NS - 9 * DAY_NS, FRIDAY_NS - 8 * DAY_NS)
        assert asked == ["1m", "1d"]
        again = services.market.read_actions(NVDA, 0, 1 << 62)
        assert len(before) == 4 and again[-len(before) :] == before


@asynccontextmanager
async def watching(home: Home, clock: Clock) -> AsyncIterator[tuple[Engine, list[Candle], list[Alert]]]:
    candles: list[Candle] = []
    alerts: list[Alert] = []

    def note(event: Event | Alert) -> None:
        if isinstance(event, Candle) and event.closed:
            candles.append(event)
        elif isinstance(event, Alert):
            alerts.append(event)

    engine = await build_engine(Options(home, clock=clock, instruments=(NVDA,)), Owner.claim(home.prepare()))
    engine.observe(note)
    await engine.start()
    try:
        yield engine, candles, alerts
    finally:
        await engine.stop()


async def test_an_engine_that_wakes_after_a_split_mixes_no_scales(tmp_path: Path) -> None:
    """Its store was filled before. A rule on falls does not fire, the split is told, and all history is anew."""
    home = Home(tmp_path / "home")
    since_ns = FRIDAY_NS - 60 * DAY_NS
    fall = Rule(name="fall", formula="close < close[1] * 0.8", instruments=(NVDA,), timeframe="1m", channels=("inbox",))
    days = Rule(name="days", formula="adjusted(close) > 0", instruments=(NVDA,), timeframe="1d", channels=("inbox",))
    friday = exchange_at(LeapingClock(FRIDAY_NS, 20.0))
    async with friday as (clock, _), watching(home, clock) as (engine, candles, _alerts):
        for rule in (fall, days):
            await engine.save_rule(rule)
        before = await engine.bars(NVDA, "1d", since_ns, FRIDAY_NS)
        clock.leap(FRIDAY_NS + 4 * MINUTES.approximate_ns)
        async with asyncio.timeout(90):
            while len(candles) < 2:
                await clock.sleep(1.0)
        minutes = {candle.open_ns: candle.close for candle in candles if candle.timeframe == "1m"}
    monday = exchange_at(LeapingClock(MONDAY_NS, 20.0))
    async with monday as (clock, simulator), watching(home, clock) as (engine, candles, alerts):
        async with asyncio.timeout(90):
            while not any(alert.kind == "system" and "split" in alert.key for alert in alerts) or not candles:
                await clock.sleep(1.0)
            while any("waiting" in str(child.detail) for child in engine.status().children[1].children):
                await clock.sleep(1.0)
        told = next(alert for alert in alerts if alert.kind == "system")
        assert told.instrument == NVDA and "2 shares for 1" in str(told.text)
        after = await engine.bars(NVDA, "1d", since_ns, SPLIT_NS)
        true = await truth(simulator, "1d", since_ns, SPLIT_NS)
        assert dict(zip(after.open_ns.tolist(), after.close.tolist(), strict=True)) == true
        assert len(after) >= len(before) > 30
        again = await engine.bars(NVDA, "1m", min(minutes), max(minutes) + MINUTES.approximate_ns)
        true = await truth(simulator, "1m", min(minutes), max(minutes) + MINUTES.approximate_ns)
        assert dict(zip(again.open_ns.tolist(), again.close.tolist(), strict=True)) == true
        assert all(abs(minutes[at] / true[at] - 2) < 1e-3 for at in minutes)
        assert not [alert for alert in alerts if alert.name == "fall"]
