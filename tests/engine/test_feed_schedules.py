"""The feed through ten minutes of misfortune, many times over, each seed its own: what must hold in every one.

The numbers that `pytest -m slow -s -k statistics` prints are the ones the README quotes.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

import msgspec
import pytest

from tests.engine.test_limits import most_in_a_window
from tests.engine.venue_in_memory import FAULTS, NO_ROUTE, Exchange, MemoryVenue
from tests.virtual_time import VirtualClock, run
from watchhamster.core.market import Event, FeedChanged, Trade, to_json
from watchhamster.core.ports import Subscription
from watchhamster.engine.feed import FEED_REASONS, Feed
from watchhamster.engine.limits import Limiter
from watchhamster.engine.routing import Caller

LIFE_S = 600.0
CALM_S = 100.0  # at the end, in which everything must heal
WANTS = (
    Subscription("trade", "AAA"),
    Subscription("ticker", "AAA"),
    Subscription("book", "AAA"),
    Subscription("trade", "BBB"),
    Subscription("ticker", "BBB"),
)
HEALTHY = ("live", "recovered")


class Schedule(msgspec.Struct):
    """What one life of the feed came to."""

    exchange: Exchange
    passed: list[tuple[float, Event]]
    states: list[tuple[float, str, str]]  # when, what the feed said, what was so

    def silences(self) -> list[tuple[str, float]]:
        """Per fault, the longest time without a fresh trade after it, less the time in which no route was open.

        A trade is fresh when it passes within 1.5 s. The wait for the next trade of a market in a lull counts too.
        """
        truth = {(t.instrument, t.id): t.event_ns for ts in self.exchange.trades.values() for t in ts}
        fresh = [
            at
            for at, event in self.passed
            if isinstance(event, Trade)
            and at - (truth[event.instrument, event.id] - self.exchange.epoch_ns) / 1e9 < 1.5
        ]
        closed = [(a, b) for a, b, kind in self.exchange.faults if kind in NO_ROUTE]
        starts = [a for a, _, _ in self.exchange.faults]
        worst = [0.0] * len(starts)
        for a, b in zip(fresh, [*fresh[1:], LIFE_S], strict=True):
            i = bisect_left(starts, a)
            if not (i < len(starts) and starts[i] <= b):
                i -= 1
            if i >= 0:
                shut = sum(max(0.0, min(b, y) - max(a, x)) for x, y in closed)
                worst[i] = max(worst[i], b - a - shut)
        return [(kind, seconds) for (_, _, kind), seconds in zip(self.exchange.faults, worst, strict=True)]

    def trace(self) -> str:
        """A digest of everything that passed, and when."""
        digest = hashlib.sha256()
        for at, event in self.passed:
            digest.update(repr(at).encode() + to_json(event))
        return digest.hexdigest()


def live(seed: int, kinds: Sequence[str] = FAULTS) -> Schedule:
    """One schedule, from start to a clean stop."""
    passed: list[tuple[float, Event]] = []
    states: list[tuple[float, str, str]] = []

    async def main(clock: VirtualClock) -> Exchange:
        exchange = Exchange(clock, seed, {"AAA": 4.0, "BBB": 0.3})
        venue = MemoryVenue()
        caller = Caller(venue, exchange, Limiter(clock, venue.quotas))
        rng = random.Random(seed + 1)
        feed = Feed(venue, exchange, caller, clock, lambda event: passed.append((clock.monotonic(), event)), rng)
        feed.set_wants(WANTS)
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(exchange.trade()),
                tasks.create_task(exchange.suffer(LIFE_S - CALM_S, kinds)),
                tasks.create_task(feed.run()),
            ]
            while clock.monotonic() < LIFE_S:
                await clock.sleep(0.5)
                states.append((clock.monotonic(), feed.state, exchange.truth()))
            for task in running:
                task.cancel()
        return exchange

    return Schedule(run(main), passed, states)


def check(schedule: Schedule) -> None:
    """Everything but the statistics over many schedules."""
    exchange = schedule.exchange

    # Each trade since the first one seen passed exactly once.
    passed = Counter((e.instrument, e.id) for _, e in schedule.passed if isinstance(e, Trade))
    assert max(passed.values()) == 1
    for symbol, trades in exchange.trades.items():
        ids = [trade.id for trade in trades]
        instrument = f"memory:{symbol}"
        first = next(e.id for _, e in schedule.passed if isinstance(e, Trade) and e.instrument == instrument)
        due = [t for t in trades[ids.index(first) :] if t.event_ns < exchange.epoch_ns + (LIFE_S - 5) * 1e9]
        lost = [trade for trade in due if (instrument, trade.id) not in passed]
        assert not lost, f"{len(lost)} trades lost, the first at {(lost[0].event_ns - exchange.epoch_ns) / 1e9}"

    # Silence.
    for kind, seconds in schedule.silences():
        assert seconds <= 5.0, f"{seconds:.1f} s of silence after {kind}"

    # Quotas, as the venue counts them; what it refused was its fault, and it was heeded.
    for group in MemoryVenue.quotas:
        arrived = [when for when, g, _ in exchange.calls if g == group]
        assert most_in_a_window(arrived, 1.0) <= 10
        refused = [when for when, g, status in exchange.calls if g == group and status == 429]
        assert not [when for when in arrived if any(r + 0.1 < when < r + 0.95 for r in refused)]
    assert exchange.blocks == 0
    assert most_in_a_window(exchange.dialled, 1.0) <= 3
    assert most_in_a_window(exchange.dialled, 60.0) <= 20
    for stream in exchange.all_streams:
        assert most_in_a_window(stream.sent, 1.0) <= 5

    # What it says of itself is true: two seconds after a change that nobody hides, five after one that must be found.
    truths = [truth for _, _, truth in schedule.states]
    for i, (at, said, _) in enumerate(schedule.states):
        if i >= 5 and set(truths[i - 4 : i + 1]) == {"delivers"}:
            assert said in HEALTHY, f"{said} at {at}, though the stream delivers"
        if i >= 10 and set(truths[i - 10 : i + 1]) == {"down"}:
            assert said not in HEALTHY, f"{said} at {at}, though no stream delivers"

    # Every loss is told, and every gap ends in an answer.
    told = [e for _, e in schedule.passed if isinstance(e, FeedChanged) and e.instrument is None]
    assert all(a.state != b.state or b.state == "recovered" for a, b in pairwise(told))
    assert all(FEED_REASONS[e.reason].format(**e.values) for e in told)
    assert told[-1].state == "closed"
    assert told[-2].state in HEALTHY
    if any(e.state == "reconnecting" for e in told[1:]):
        recovered = [e for e in told if e.state == "recovered"]
        assert recovered
        assert all(e.gap_filled for e in recovered)


@pytest.mark.parametrize("seed", range(38))
def test_nothing_is_lost_nothing_is_hidden_and_no_quota_is_crossed(seed: int) -> None:
    check(live(seed))


@pytest.mark.parametrize("kind", FAULTS)
def test_each_kind_of_fault_alone(kind: str) -> None:
    check(live(1000, [kind]))


def test_the_same_seed_gives_the_same_trace() -> None:
    assert live(7).trace() == live(7).trace() != live(8).trace()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_schedules_and_their_statistics() -> None:
    silences: dict[str, list[float]] = defaultdict(list)
    trades = 0
    for seed in range(1000):
        schedule = live(seed)
        check(schedule)
        trades += sum(len(printed) for printed in schedule.exchange.trades.values())
        for kind, silence in schedule.silences():
            silences[kind].append(silence)
    everything = sorted(seconds for of_kind in silences.values() for seconds in of_kind)
    p95, p99, most = everything[int(0.95 * len(everything))], everything[int(0.99 * len(everything))], everything[-1]
    print(f"\n{trades} trades, {len(everything)} faults: silence p95 {p95:.2f} p99 {p99:.2f} max {most:.2f} s")
    for kind, of_kind in sorted(silences.items()):
        print(f"{kind:14} median {sorted(of_kind)[len(of_kind) // 2]:.2f}  max {max(of_kind):.2f}")
    assert p99 <= 2.5
