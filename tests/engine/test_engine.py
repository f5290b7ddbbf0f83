"""The engine whole: real sockets to the simulated exchange, real files, and what really happened as the measure.

Exchange and engine share a clock that runs twenty times as fast, so that minutes close while a test waits seconds.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.notify.receiver import receiving
from tests.virtual_time import LeapingClock
from watchhamster.app import Options, build_engine
from watchhamster.commands import act
from watchhamster.core.bars import Bars
from watchhamster.core.candles import build
from watchhamster.core.market import Event, FeedChanged, Trade
from watchhamster.core.ports import Clock, Unavailable
from watchhamster.core.timeframes import SECOND_NS, timeframe
from watchhamster.engine.clock import ScaledClock
from watchhamster.engine.engine import Engine
from watchhamster.engine.owner import Owner
from watchhamster.monitor.alerts import Alert, Rule
from watchhamster.monitor.replay import replay
from watchhamster.monitor.watch import price_rule
from watchhamster.settings import Home
from watchhamster.sim import Simulator
from watchhamster.storage.market import MarketStore

SPEED = 20.0
PATIENCE_S = 90.0  # for what must come: how soon, on a machine that has other work, is not what is tested
START_NS = 1_795_000_020 * SECOND_NS  # on a minute
MINUTE_NS = 60 * SECOND_NS
BUSY, QUIET = "upbit:KRW-BTC", "upbit:KRW-LINK"

# A connection that is given up in the very turn in which it is made is left to the garbage collector by anyio.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collect() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def exchange(clock: Clock, activity: float = 2.0) -> Simulator:
    return Simulator(clock=clock, activity=activity)


_building = asyncio.Lock()  # the address is in the environment, which all tests in a loop share


@asynccontextmanager
async def watching(home: Home, simulator: Simulator, *instruments: str) -> AsyncIterator[Engine]:
    """A running engine that owns its home, and finds the exchange where it looks for Upbit."""
    owner = Owner.claim(home.prepare())
    async with _building:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("WATCHHAMSTER_UPBIT_URL", simulator.venues["upbit"])
            options = Options(home, clock=simulator.exchange.clock, instruments=instruments)
            engine = await build_engine(options, owner)
    await engine.start()
    try:
        yield engine
    finally:
        async with asyncio.timeout(PATIENCE_S):
            await engine.stop()
        await asyncio.sleep(0.05)  # for the sockets' last turns of the loop


async def until(condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Wait for something that must come; how soon is not what is tested."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - it is a state, and nobody tells when it begins
            await asyncio.sleep(0.02)


async def pass_by(clock: Clock, at_ns: int) -> None:
    while clock.now_ns() < at_ns:
        await clock.sleep((at_ns - clock.now_ns()) / 1e9)


def stored(home: Home, instrument: str, frame: str, since_ns: int, until_ns: int) -> tuple[Bars, list[tuple[int, int]]]:
    """What a later reader finds in the file: the bars, and the spans that nobody fetched."""
    store = MarketStore(home.market_db, ScaledClock(0))
    store.open(read_only=True)
    try:
        spans = store.read_coverage(instrument, frame, since_ns, until_ns)
        unknown = [(span.since_ns, span.until_ns) for span in spans if span.state == "not_fetched"]
        return store.read_bars(instrument, frame, since_ns, until_ns), unknown
    finally:
        store.close()


def rows(bars: Bars) -> list[tuple[float | None, ...]]:
    columns = (bars.open_ns, bars.open, bars.high, bars.low, bars.close, bars.volume, bars.value)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def check_history(home: Home, simulator: Simulator, instrument: str, since_ns: int, until_ns: int) -> None:
    """Every second and minute is known and is the true one: bit for bit what its trades fold to."""
    symbol = instrument.partition(":")[2]
    trades = list(simulator.exchange.true_trades(symbol, since_ns, until_ns))
    true = build(instrument, trades, [timeframe("1m")])
    for frame in ("1s", "1m"):
        bars, unknown = stored(home, instrument, frame, since_ns, until_ns)
        assert unknown == [], (instrument, frame)
        assert rows(bars) == [(c.open_ns, c.open, c.high, c.low, c.close, c.volume, c.value) for c in true[frame]], (
            instrument,
            frame,
        )
        told = list(simulator.exchange.true_candles(symbol, frame, since_ns, until_ns))
        assert [row[:5] for row in rows(bars)] == [(c.open_ns, c.open, c.high, c.low, c.close) for c in told]


FAULTS = (
    "drop@5s,mute@10s+15s,drop:1001@30s,reset@45s,drop:1000@55s",
    "lose:0.2,duplicate:0.3,reorder:0.3,garbage:0.05,corrupt:0.02,absurd:0.02,unknown:0.05",
    "http429:0.3,http5xx:0.1,stall@20s+10s",
)


async def test_what_is_stored_is_what_happened(tmp_path: Path) -> None:
    """Busy or quiet, whatever happens on the way: no bar is missing, wrong or invented, and quiet is not unknown."""
    async with asyncio.TaskGroup() as lives:  # side by side, for each waits most of its time
        for number, faults in enumerate(FAULTS):
            lives.create_task(live_through(faults, Home(tmp_path / str(number))))


async def settled(engine: Engine, instrument: str) -> None:
    """Compared with REST, as an audit does; a stall of this machine looks like sleep and costs the connections."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(Unavailable):
                return await engine._parts["upbit"].feed.settle(instrument, "urgent")
            await asyncio.sleep(0.05)


async def live_through(faults: str, home: Home) -> None:
    instruments = (BUSY, "upbit:KRW-ETH", QUIET)
    series = [(instrument, frame) for instrument in instruments for frame in ("1s", "1m")]
    clock = LeapingClock(START_NS, SPEED)
    async with exchange(clock) as simulator:
        async with watching(home, simulator, *instruments) as engine:
            since_ns = timeframe("1m").open_ns(clock.now_ns())
            await until(lambda: engine.metrics().feeds["upbit"] == "live")
            simulator.exchange.faults.set(faults)
            await pass_by(clock, since_ns + MINUTE_NS + 10 * SECOND_NS)
            simulator.exchange.faults.clear()
            await pass_by(clock, since_ns + 2 * MINUTE_NS)

            async def unknown() -> list[object]:
                found = [await engine.coverage(i, f, since_ns, since_ns + 2 * MINUTE_NS) for i, f in series]
                return [span for spans in found for span in spans if span.state == "not_fetched"]

            async with asyncio.timeout(PATIENCE_S):
                while await unknown():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            for instrument in instruments:  # the audit, which waits by the wall's clock
                await settled(engine, instrument)
        for instrument in instruments:
            check_history(home, simulator, instrument, since_ns, since_ns + 2 * MINUTE_NS)
        before, never = stored(home, BUSY, "1m", START_NS - 5 * MINUTE_NS, START_NS)
        assert len(before) == 0 and never, "nobody asked for what was before"


@pytest.mark.slow
async def test_what_was_not_on_air_is_filled_once_the_venue_is_there(home: Home) -> None:
    """Stopped for a quarter of an hour and started without a network: the time between is whole in the end."""
    clock = ScaledClock(START_NS, 120.0)
    async with exchange(clock) as simulator:
        async with watching(home, simulator, BUSY, QUIET):
            await pass_by(clock, START_NS + 2 * MINUTE_NS + 20 * SECOND_NS)
        simulator.exchange.faults.set("down")
        await pass_by(clock, START_NS + 17 * MINUTE_NS)
        async with watching(home, simulator, BUSY, QUIET) as engine:
            await clock.sleep(60.0)
            simulator.exchange.faults.clear()
            end_ns = START_NS + 20 * MINUTE_NS
            await pass_by(clock, end_ns)

            async def unknown() -> list[object]:
                first_ns = START_NS + 2 * MINUTE_NS
                spans = [await engine.coverage(i, f, first_ns, end_ns) for i in (BUSY, QUIET) for f in ("1s", "1m")]
                return [span for found in spans for span in found if span.state == "not_fetched"]

            async with asyncio.timeout(PATIENCE_S):
                while await unknown():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        for instrument in (BUSY, QUIET):
            symbol = instrument.partition(":")[2]
            for frame in ("1s", "1m"):
                true = simulator.exchange.true_candles(symbol, frame, START_NS + 2 * MINUTE_NS, end_ns)
                bars, _ = stored(home, instrument, frame, START_NS + 2 * MINUTE_NS, end_ns)
                assert [row[:5] for row in rows(bars)] == [(c.open_ns, c.open, c.high, c.low, c.close) for c in true]


async def test_a_price_alert_goes_out_once_as_a_row_and_then_a_message(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = LeapingClock(START_NS, SPEED)
    passphrase, ours = os.pipe()
    os.write(ours, b"open sesame\n")
    os.close(ours)
    monkeypatch.setenv("WATCHHAMSTER_VAULT_FD", str(passphrase))
    async with exchange(clock, 8.0) as simulator, receiving() as hook, watching(home, simulator, BUSY) as engine:
        await act(home, "alert.channel", webhook(f"{hook.url}/here"))
        seen: list[Event | Alert] = []
        engine.observe(seen.append)
        await until(lambda: engine.board.price(BUSY) is not None)
        price = engine.board.price(BUSY)
        assert price is not None
        # Its price is where the market is, so the next trade of this minute touches it.
        rule = await engine.save_rule(price_rule(BUSY, price, price - 1, channels=("hook", "inbox", "desktop")))
        await until(lambda: hook.received)
        (alert,) = [a for a in await engine.alerts() if a.kind == "rule"]
        assert hook.received[0].headers["webhook-id"] == f"alert_{alert.id}", "the row had its id before the message"
        assert json.loads(hook.received[0].body)["data"]["alert"]["instrument"] == BUSY
        assert (alert.rule_id, alert.key, alert.late_s) == (rule.id, f"rule:{rule.id}:{BUSY}", 0.0)
        trade = next(e for e in seen if isinstance(e, Trade) and e.event_ns == alert.fired_ns)
        assert trade.price == alert.price
        assert any(isinstance(e, Alert) and e.id == alert.id for e in seen), "the window hears of it"
        await clock.sleep(10.0)
        assert len(hook.received) == 1
        assert alert.id is not None
        by_channel = {d.channel: d for d in await engine.deliveries(alert.id)}
        assert {name: d.state for name, d in by_channel.items() if name != "desktop"} == {
            "hook": "delivered",
            "inbox": "delivered",
        }
        assert by_channel["hook"].receipt and by_channel["hook"].attempts == 1
        up = Rule(name="up", formula="close > close[1]", instruments=(BUSY,), timeframe="1s", repeat=False)
        up = await engine.save_rule(up)
        await until(lambda: any(not r.enabled for r in engine.rules()))  # once the rise is over
        await engine.outbox.flush()
        (alert,) = [a for a in await engine.alerts() if a.rule_id == up.id]
        assert alert.resolved_ns is not None
        assert [r.enabled for r in engine.rules() if r.id == up.id] == [False]


def webhook(url: str) -> dict[str, object]:
    return {
        "name": "hook",
        "type": "webhook",
        "url": url,
        "secret": None,
        "local": True,
        "remove": False,
    }


async def test_a_rule_fires_live_as_it_does_on_history(home: Home) -> None:
    """`for`, cooldown and a restart in the middle: the firings are those of the same rule over the stored bars."""
    clock = LeapingClock(START_NS, SPEED)
    rule = Rule(
        name="above its mean",
        formula="close >= sma(close, 3)",
        instruments=(BUSY,),
        timeframe="1s",
        for_s=2.0,
        cooldown_s=10.0,
        channels=("inbox",),
    )
    async with exchange(clock, 8.0) as simulator:
        async with watching(home, simulator, BUSY) as engine:
            rule = await engine.save_rule(rule)
            await until(lambda: _bar_ns(engine) is not None)
            await pass_by(clock, START_NS + 45 * SECOND_NS)
        async with watching(home, simulator, BUSY) as engine:
            await until(lambda: _bar_ns(engine) is not None)
            await pass_by(clock, START_NS + 90 * SECOND_NS)
            last_ns = _bar_ns(engine)
            assert last_ns is not None
            bars = await engine.bars(BUSY, "1s", START_NS, last_ns + SECOND_NS)
            fired = [a.fired_ns for a in await engine.alerts() if a.rule_id == rule.id and a.fired_ns <= last_ns]
    assert len(fired) > 2
    # It was first judged on one of the bars before it fired; which, depends on how busy the machine is.
    begins = [START_NS, *(at_ns + 1 for at_ns in bars.open_ns.tolist() if at_ns < fired[0])]
    expected = [[firing.fired_ns for firing in replay(rule, bars, BUSY, at_ns).firings] for at_ns in begins]
    assert fired in [[at_ns for at_ns in firings if at_ns <= last_ns] for firings in expected]


def _bar_ns(engine: Engine) -> int | None:
    (status,) = engine._watch.states()
    return status.bar_ns


async def test_what_happened_while_it_was_off_is_told_late_and_reported(home: Home) -> None:
    clock = LeapingClock(START_NS)
    async with exchange(clock, 8.0) as simulator:
        async with watching(home, simulator, BUSY) as engine:
            assert await engine.away() is None
            await engine.save_rule(Rule(name="any", formula="close > 0", instruments=(BUSY,), channels=("inbox",)))
            await until(lambda: not any(s.waiting for s in engine._watch.states()))
        clock.leap(START_NS + 2 * MINUTE_NS)
        async with watching(home, simulator, BUSY) as engine:
            await until(lambda: any(s.state == "firing" for s in engine._watch.states()))
            await engine.outbox.flush()
            (alert,) = [a for a in await engine.alerts() if a.kind == "rule"]
            assert alert.fired_ns == START_NS + MINUTE_NS
            assert alert.late_s >= 55
            away = await engine.away()
            assert away is not None and (away.gap.reason, away.fired, away.late) == ("off", 1, 1)
            assert away.alert_ids == (alert.id,)
            assert await engine.away() is None, "it is said once"


async def test_a_mute_market_is_called_so_and_back_again(home: Home) -> None:
    """The feed is watched itself: its alert fires and is resolved, and the tree says what is wrong."""
    clock = LeapingClock(START_NS, SPEED)
    async with exchange(clock, 8.0) as simulator, watching(home, simulator, BUSY) as engine:
        await until(lambda: engine.metrics().feeds["upbit"] == "live")
        simulator.exchange.faults.set("hang:all,mute")
        states: list[str] = []
        engine.observe(lambda e: states.append(e.state) if isinstance(e, FeedChanged) else None)
        await until(lambda: "stale" in states)
        tree = engine.status()
        assert tree.state == "critical"
        simulator.exchange.faults.clear()
        await until(lambda: engine.metrics().feeds["upbit"] in ("live", "recovered"))
        await engine.outbox.flush()

        async def resolved() -> bool:
            return any(a.kind == "feed" and a.resolved_ns for a in await engine.alerts())

        async with asyncio.timeout(PATIENCE_S):
            while not await resolved():  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_a_fault_of_ours_is_shown_and_not_swallowed(home: Home) -> None:
    """Who looks at the tree of an engine that broke down sees it, and who waits for it is told why."""
    async with exchange(ScaledClock(START_NS, SPEED)) as simulator:
        engine = None
        with pytest.raises(ZeroDivisionError):
            async with watching(home, simulator, BUSY) as engine:
                assert engine.status().children[0].name == "feeds"
                engine._watch.tick = lambda now_ns: 1 / 0  # type: ignore
                with pytest.raises(ZeroDivisionError):
                    await engine.wait()
                tree = engine.status()
                assert (tree.state, tree.children[0].name) == ("critical", "engine")
                assert engine.metrics().feeds == {"upbit": "closed"}
