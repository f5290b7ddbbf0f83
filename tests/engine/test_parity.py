"""What is traded on paper is what the backtest of the same bars trades: fills, equity and signals, to the bit.

The bars are those that the live path (a simulated exchange or a recording, sockets, feed, candles) closed, as they were
when they were first judged; a backtest of them begins at the same first bar.
"""

from __future__ import annotations

import asyncio
import heapq
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.backtest.examples import upbit_days
from tests.engine.test_engine import PATIENCE_S, watching
from watchhamster.app import Options, build_engine, recorded_kinds
from watchhamster.backtest import kernel as k
from watchhamster.backtest.account import Account
from watchhamster.backtest.paper import Begun, Entry, Moment, Paper, Trader, from_bytes, journal_bars, proof, to_bytes
from watchhamster.backtest.run import Plan
from watchhamster.backtest.strategy import read
from watchhamster.core.bars import Bars
from watchhamster.core.market import Candle
from watchhamster.core.ports import UsageError
from watchhamster.core.timeframes import SECOND_NS, UTC, timeframe
from watchhamster.engine.clock import ScaledClock
from watchhamster.engine.engine import Engine
from watchhamster.engine.owner import Owner
from watchhamster.lab import EXAMPLES, rules_of
from watchhamster.settings import Home
from watchhamster.sim import Simulator
from watchhamster.storage.desk import DeskStore
from watchhamster.storage.market import MarketStore
from watchhamster.venues.upbit import parse_candles

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

START_NS = 1_795_000_020 * SECOND_NS
COINS = ("upbit:KRW-BTC", "upbit:KRW-ETH")
STRATEGIES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(EXAMPLES.glob("*.toml"))}


def on_paper(name: str, frame: str, instruments: Sequence[str], *, shortest: bool = False) -> Paper:
    """`shortest`: with the least its parameters may be, where there are few bars."""
    text = STRATEGIES[name]
    least = {key: one.min for key, one in read(text).parameters.items() if shortest and one.min is not None}
    return Paper(
        name=name,
        text=text,
        instruments=tuple(instruments),
        timeframe=frame,
        cash=10_000_000.0,
        parameters=least,
        rules={instrument: rules_of(instrument) for instrument in instruments},
        channels=("inbox",),
    )


class Witness:
    """What accounts were and said as they lived, moment by moment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.equity: dict[int, list[float]] = {}
        self.signals: dict[int, list[dict[str, int]]] = {}
        self._seen: dict[int, Account] = {}  # kept, so that no id comes twice
        step = Account.step

        def watched(account: Account, bars: dict[str, Candle]) -> object:
            told = step(account, bars)
            self._seen[id(account)] = account
            self.equity.setdefault(id(account), []).append(account.equity)
            blocks = {name: k.BLOCKS + n * k.BLOCK for n, name in enumerate(account.instruments) if name in bars}
            said = {name: int(account._x[b + k.SIGNAL]) for name, b in blocks.items()}
            self.signals.setdefault(id(account), []).append(said)
            return told

        monkeypatch.setattr(Account, "step", watched)


def check_parity(trader: Trader, entries: Sequence[Entry], witness: Witness) -> int:
    """The trader did what the backtest of its journal does; how many fills there were."""
    paper, account = trader.paper, trader.account
    assert account is not None
    result = proof(paper, entries, lambda _: UTC)
    assert result.fills == tuple(trader.fills), paper.name
    assert result.curve.equity.tolist() == witness.equity[id(account)], paper.name
    assert tuple(account.pending) == result.pending, paper.name
    assert result.first_bar_ns == trader.first_bar_ns
    signals = witness.signals[id(account)]
    plan = Plan(read(paper.text), paper.parameters, timeframe(paper.timeframe))
    if not plan.held_exits:  # what asks about the position cannot be said without it; its fills were compared
        assert plan.program is not None
        (begun,) = (entry for entry in entries if isinstance(entry, Begun))
        moments = [entry for entry in entries if isinstance(entry, Moment)]
        for name in paper.instruments:
            bars = journal_bars(trader, begun, moments, name)
            bits = plan.signals(bars, paper.zone, plan.program.over(bars)).bits[
                np.searchsorted(bars.open_ns, begun.since_ns) :
            ]
            assert bits.tolist() == [said[name] for said in signals if name in said], (paper.name, name)
    return len(trader.fills)


async def journal(home: Home, paper_id: int) -> list[Entry]:
    desk = DeskStore(home.desk_db, ScaledClock(0))
    desk.open(read_only=True)
    try:
        return [entry for content in await desk.journal(paper_id) for entry in from_bytes(content)]
    finally:
        desk.close()


class SteppedClock:
    """Time that a test moves on, once what happened before has passed the sockets: as fast as the machine allows."""

    def __init__(self, start_ns: int) -> None:
        self._start_ns = start_ns
        self._at_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now_ns(self) -> int:
        return self._start_ns + round(self._at_s * 1e9)

    def monotonic(self) -> float:
        return self._at_s

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._at_s + max(0.0, seconds), self._count, woken))
        await woken

    def step(self, seconds: float) -> None:
        self._at_s += seconds
        while self._sleepers and self._sleepers[0][0] <= self._at_s:
            *_, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)


async def live(clock: SteppedClock, simulator: Simulator, engine: Engine, enough: Callable[[], bool]) -> None:
    """Let the market and the engine go through time together until it is enough."""
    feed = engine._parts["upbit"].feed
    async with asyncio.timeout(PATIENCE_S * 4):
        while not enough():
            clock.step(1.0)
            simulator.exchange.wake()
            seen = -1
            while seen != feed.messages:
                seen = feed.messages
                await asyncio.sleep(0.001)


def judged(engine: Engine) -> int:
    """How many moments the slowest strategy has lived through."""
    return min(int(record["bars"]) for record in engine.papers.records())


async def all_on_paper(engine: Engine, frame: str, instruments: Sequence[str], shortest: bool = False) -> None:
    for name in STRATEGIES:
        several = name == "momentum-rotation"  # one purse for all
        await engine.papers.add(on_paper(name, frame, instruments if several else instruments[:1], shortest=shortest))


async def check_all(engine: Engine, home: Home, witness: Witness) -> dict[str, int]:
    """Every strategy against its backtest: the fills of each. The engine has ended."""
    fills = {}
    for one in engine.papers._running.values():
        assert one.trader is not None and one.paper.id is not None
        fills[one.paper.name] = check_parity(one.trader, await journal(home, one.paper.id), witness)
    return fills


async def live_market(home: Home, witness: Witness, bars: int, faults: str = "") -> tuple[dict[str, int], int]:
    """Simulator, sockets, feed, candles, paper; the fills of each strategy, and how many bars came otherwise later."""
    clock = SteppedClock(START_NS)
    async with Simulator(clock=clock, activity=1.5) as simulator:
        async with watching(home, simulator, *COINS) as engine:
            await all_on_paper(engine, "1s", COINS)
            await live(clock, simulator, engine, lambda: judged(engine) >= 10)
            simulator.exchange.faults.set(faults)
            await live(clock, simulator, engine, lambda: judged(engine) >= bars)
            await engine.papers.flush()
        revised = sum(record["revised"] for record in engine.papers.records())
        return await check_all(engine, home, witness), revised


async def test_every_example_trades_live_as_in_its_backtest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the bars are the true ones: those that the market's trades make, as the store has them."""
    home = Home(tmp_path / "home")
    fills, revised = await live_market(home, Witness(monkeypatch), 150)
    assert sum(map(bool, fills.values())) >= 6 and revised == 0
    store = MarketStore(home.market_db, ScaledClock(0))
    store.open(read_only=True)
    try:
        for paper_id in (1, 4):
            begun, *moments = await journal(home, paper_id)
            assert isinstance(begun, Begun)
            lived = [(m.open_ns, *m.rows[0][1:5]) for m in moments if isinstance(m, Moment)]
            bars = store.read_bars(COINS[0], "1s", lived[0][0], lived[-1][0] + 1)
            columns = (bars.open_ns, bars.open, bars.high, bars.low, bars.close)
            assert lived == list(zip(*(column.tolist() for column in columns), strict=True))
    finally:
        store.close()


FAULTS = "drop:1001@5s,mute@20s+12s,lose:0.1,duplicate:0.2,reorder:0.3,reset@60s"


async def test_whatever_happens_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost streams, mute ones, and trades that come late: what was judged then is what the backtest judges."""
    fills, _ = await live_market(Home(tmp_path / "home"), Witness(monkeypatch), 100, FAULTS)
    assert any(fills.values())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("faults", ["", FAULTS])
async def test_thousands_of_live_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: str) -> None:
    """`pytest -m slow tests/engine/test_parity.py`: as above, for 2,000 bars of each strategy, off the wire."""
    fills, _ = await live_market(Home(tmp_path / "home"), Witness(monkeypatch), 2000, faults)
    assert sum(map(bool, fills.values())) >= 9


async def replayed(
    home: Home, capture: Path, frame: str, instruments: Sequence[str], *, shortest: bool = False
) -> Engine:
    """All strategies on a recording, to its end."""
    owner = Owner.claim(home.prepare())
    engine = await build_engine(Options(home, replay=capture, speed=float("inf")), owner)
    try:
        await all_on_paper(engine, frame, instruments, shortest)
        await engine.start()
        async with asyncio.timeout(PATIENCE_S * 4):
            await engine.replayed()
            await engine.papers.flush()
    finally:
        await engine.stop()
    return engine


def recorded_market(path: Path, seconds: int) -> None:
    """A capture of trades of two coins, a few a second, in Upbit's frames."""
    rng = np.random.default_rng(11)
    prices = {"KRW-BTC": 131_000_000.0, "KRW-ETH": 4_400_000.0}
    begin_ms = 1_795_000_020_000
    with path.open("w") as file:
        for second in range(seconds):
            for code, price in prices.items():
                for n in range(int(rng.integers(0, 5))):
                    at_ms = begin_ms + second * 1000 + 100 + 200 * n
                    prices[code] = price = round(price * float(np.exp(rng.normal(0, 0.0006))), -3)
                    frame = {"type": "trade", "code": code, "trade_timestamp": at_ms, "timestamp": at_ms}
                    frame |= {"trade_price": price, "trade_volume": round(float(rng.exponential(0.2)) + 1e-4, 8)}
                    frame |= {"ask_bid": "BID" if rng.random() < 0.5 else "ASK", "sequential_id": at_ms * 10_000 + n}
                    file.write(json.dumps({"received": at_ms / 1000 + 0.02, "frame": json.dumps(frame)}) + "\n")


async def test_a_thousand_bars_of_a_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    witness, home = Witness(monkeypatch), Home(tmp_path / "home")
    recorded_market(tmp_path / "market.jsonl", 1280)
    engine = await replayed(home, tmp_path / "market.jsonl", "1s", COINS)
    assert judged(engine) > 1000
    fills = await check_all(engine, Options(home, replay=tmp_path / "market.jsonl").place, witness)
    assert all(count > 3 for count in fills.values()), fills


async def test_the_recorded_stream(tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is short: with long periods nothing can be decided, and the backtest says so."""
    capture = shared_data / "upbit" / "ws-simple-2021-04-17.jsonl"
    name = max(recorded := recorded_kinds(capture, "upbit"), key=lambda one: "trade" in recorded[one])
    compared = 0
    for frame in ("1s", "1m"):
        witness, home = Witness(monkeypatch), Home(tmp_path / frame)
        engine = await replayed(home, capture, frame, [name], shortest=True)
        for one in engine.papers._running.values():
            assert one.trader is not None and one.paper.id is not None
            entries = await journal(Options(home, replay=capture).place, one.paper.id)
            try:
                check_parity(one.trader, entries, witness)
            except UsageError as error:
                assert error.code in ("too_little_history", "not_begun") and one.trader.fills == []
            else:
                compared += 1
    assert compared >= 6


def recorded_candles(shared: Path) -> Iterator[tuple[str, Bars]]:
    """The recorded REST candles of KRW-BTC, and the daily ones of a file."""
    for pattern, frame in (("rest-candles-1m-*.json", "1m"), ("rest-candles-3m-*.json", "3m")):
        pieces = []
        for path in sorted((shared / "upbit").glob(pattern)):
            rows = parse_candles(path.read_bytes()).candles
            pieces.append(Bars.of(msgspec.structs.replace(row, instrument=COINS[0]) for row in rows))
        yield frame, Bars.merged(pieces)
    yield "1d", upbit_days(shared)


def test_the_recorded_candles(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a first bar on as they close, and all at once."""
    monkeypatch.setattr("watchhamster.backtest.paper.CHECKPOINT", 50)
    filled = 0
    for frame, bars in recorded_candles(shared_data):
        witness = Witness(monkeypatch)
        known = len(bars) // 5
        for name in STRATEGIES:
            trader = Trader(on_paper(name, frame, COINS[:1]), lambda _: UTC)
            since_ns = int(bars.open_ns[known])
            entries: list[Entry] = [trader.begin({COINS[0]: bars.slice(0, known)}, since_ns)]
            for candle in bars.slice(known, len(bars)).candles(COINS[0], frame, "import"):
                trader.observe(candle)
                end_ns = timeframe(frame).next_ns(candle.open_ns)
                entries += [entry for told in trader.judge({COINS[0]: end_ns}) for entry in told.entries]
            filled += check_parity(trader, entries, witness)
            check_lives_again(trader, entries)
    assert filled > 100


def check_lives_again(trader: Trader, entries: Sequence[Entry]) -> None:
    """From its journal, in whatever pieces it was written, it is what it was, and goes on so."""
    again = Trader(trader.paper, lambda _: UTC)
    again.live_again([to_bytes(entries[at : at + 7]) for at in range(0, len(entries), 7)])
    assert again.account is not None and trader.account is not None
    assert again.account._x == trader.account._x
    assert (again.fills, again.moments, again.judged_ns) == (trader.fills, trader.moments, trader.judged_ns)
    assert again.first_bar_ns == trader.first_bar_ns and again.price(COINS[0]) == trader.price(COINS[0])


def test_a_moment_waits_for_every_instrument_and_is_judged_once() -> None:
    """What comes after it was judged, or again otherwise, changes nothing; who did not trade is known not to."""
    one, other = COINS
    trader = Trader(on_paper("momentum-rotation", "1s", COINS), lambda _: UTC)
    trader.begin({}, START_NS)

    def bar(name: str, second: int, price: float) -> Candle:
        at_ns = START_NS + second * SECOND_NS
        return Candle(name, "1s", at_ns, price, price, price, price, 1.0, price, True, "live")

    def judge(first: int, second: int) -> list[tuple[int, int]]:
        until = {one: START_NS + first * SECOND_NS, other: START_NS + second * SECOND_NS}
        moments = [entry for told in trader.judge(until) for entry in told.entries if isinstance(entry, Moment)]
        return [((moment.open_ns - START_NS) // SECOND_NS, len(moment.rows)) for moment in moments]

    trader.observe(bar(one, 0, 100.0))
    trader.observe(bar(one, 1, 101.0))
    assert judge(2, 0) == [], "the other may still trade"
    trader.observe(bar(other, 1, 5.0))
    trader.observe(bar(one, 1, 102.0))  # corrected before it is judged
    assert judge(2, 2) == [(0, 1), (1, 2)]
    assert trader.price(one) == 102.0
    assert trader.observe(bar(one, 1, 103.0)) and trader.observe(bar(other, 0, 4.0))
    assert judge(3, 3) == [] and trader.price(one) == 102.0
    assert trader.revised == 1


async def test_the_tree_and_a_backup(tmp_path: Path) -> None:
    """The tree says what is held; after a backup is put back the journals in it are gone on with."""
    clock = SteppedClock(START_NS)
    home = Home(tmp_path / "home")
    always = Paper(
        name="Always in",
        text='name = "Always in"\n[entry]\nlong = "close > 0"\n',
        instruments=COINS[:1],
        timeframe="1s",
        cash=1_000_000.0,
        rules={COINS[0]: rules_of(COINS[0])},
        channels=("inbox",),
    )
    async with Simulator(clock=clock, activity=1.5) as simulator, watching(home, simulator, *COINS[:1]) as engine:
        assert all(child.name != "paper" for child in engine.status().children)
        added = await engine.papers.add(always)
        assert await engine.papers.add(always) == added, "the same again goes on as it is"
        with pytest.raises(UsageError, match="other settings"):
            await engine.papers.add(msgspec.structs.replace(always, cash=5.0))
        await live(clock, simulator, engine, lambda: bool(engine.papers.records()[0]["positions"]))
        (branch,) = (child for child in engine.status().children if child.name == "paper")
        (line,) = branch.children
        (held,) = line.children
        assert (line.name, held.name) == ("Always in · 1s", "KRW-BTC")
        assert held.detail is not None and str(held.detail).startswith("long 0.0076")
        await engine.papers.flush()
        await engine.backup(tmp_path / "backup.zip")
        then = engine.papers.record("Always in")
        await live(clock, simulator, engine, lambda: judged(engine) >= then["bars"] + 10)
        await engine.restore(tmp_path / "backup.zip")
        await live(clock, simulator, engine, lambda: judged(engine) > then["bars"] + 10)
        record = engine.papers.record("Always in")
        assert record["fills"] == then["fills"] and record["since_ns"] == then["since_ns"]
        stopped = await engine.papers.remove("Always in")
        assert stopped["positions"] and engine.papers.records() == []
        with pytest.raises(UsageError, match="not on paper"):
            engine.papers.record("Always in")
