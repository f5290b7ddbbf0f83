"""History: nothing is asked twice, nothing is stored that is not over, and whatever was fetched is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.venue_in_memory import MemoryVenue, down
from tests.virtual_time import START_NS, VirtualClock, run
from watchhamster.core.bars import Span
from watchhamster.core.market import Candle, Trade
from watchhamster.core.ports import (
    FrameSink,
    Page,
    Quota,
    RateLimited,
    Rejected,
    Request,
    Response,
    Stream,
    Unavailable,
)
from watchhamster.core.text import Text
from watchhamster.core.timeframes import SECOND_NS, timeframe
from watchhamster.engine.backfill import Backfill, MemoryStore
from watchhamster.engine.limits import Limiter
from watchhamster.engine.routing import Caller

MINUTE_NS = 60 * SECOND_NS
NOW_NS = START_NS // (86400 * SECOND_NS) * 86400 * SECOND_NS + 12 * 3600 * SECOND_NS + 30 * SECOND_NS  # 12:00:30
PAGE = 50


def candle(open_ns: int, name: str = "1m") -> Candle:
    n = open_ns // MINUTE_NS % 977
    return Candle("memory:AAA", name, open_ns, n, n + 2.0, n - 1.0, n + 1.0, 1.5, 150.0, True, "backfill")


def traded(open_ns: int) -> bool:
    """Every seventh minute nobody traded."""
    return open_ns // MINUTE_NS % 7 != 0


class Archive:
    """A wire that answers history only: pages of candles, and of trades one a second."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.asked: list[Mapping[str, str]] = []
        self.failures: list[Exception] = []
        self.oldest_ns = 0  # the venue knows nothing before

    async def request(self, request: Request) -> Response:
        self.asked.append(request.params)
        await self.clock.sleep(0.05)
        if self.failures:
            raise self.failures.pop(0)
        page = self._candles(request) if request.group == "candle" else self._trades(request)
        return Response(200, {}, msgspec.json.encode(page))

    def _candles(self, request: Request) -> Page[Candle]:
        tf = timeframe(request.params["timeframe"])
        since_ns, until_ns = int(request.params["since"]), int(request.params["until"])
        rows: list[Candle] = []
        at = tf.open_ns(until_ns - 1)
        while at >= max(since_ns, self.oldest_ns) and len(rows) < PAGE:
            if traded(at):
                closed = tf.next_ns(at) <= self.clock.now_ns()
                rows.insert(0, msgspec.structs.replace(candle(at, tf.name), closed=closed))
            at = tf.open_ns(at - 1)
        known_until_ns = min(until_ns, tf.open_ns(self.clock.now_ns()))
        if len(rows) == PAGE:
            return Page(rows, rows[0].open_ns, known_until_ns, "more")
        return Page(rows, max(since_ns, self.oldest_ns), known_until_ns)

    def _trades(self, request: Request) -> Page[Trade]:
        end_ns = int(request.params["cursor"] or self.clock.now_ns())
        opens = [end_ns // SECOND_NS * SECOND_NS - i * SECOND_NS for i in range(1, PAGE + 1)]
        rows = [Trade("memory:AAA", at, None, at // SECOND_NS, 1.0, 1.0, "buy") for at in opens if at >= self.oldest_ns]
        if not rows:
            return Page([], end_ns, end_ns)
        more = str(rows[-1].event_ns) if len(rows) == PAGE else None
        return Page(rows[::-1], rows[-1].event_ns, end_ns, more)

    async def open(self, url: str, on_frame: FrameSink, *, timeout_s: float) -> Stream:
        raise down("no streams here")

    async def close(self) -> None:
        pass


class Past:
    """A backfill over an archive, and its store."""

    def __init__(self, clock: VirtualClock, timeframes: Sequence[str]) -> None:
        venue = MemoryVenue()
        venue.timeframes = tuple(timeframes)
        venue.quotas = {"candle": Quota(1000), "trade": Quota(1000)}
        self.archive = Archive(clock)
        self.store = MemoryStore()
        caller = Caller(venue, self.archive, Limiter(clock, venue.quotas))
        self.backfill = Backfill(lambda _: caller, self.store, clock)


def with_past(
    main: Callable[[Past, VirtualClock], Awaitable[None]], timeframes: Sequence[str] = ("1m", "5m", "1d")
) -> None:
    async def outer(clock: VirtualClock) -> None:
        clock.step((NOW_NS - START_NS) / 1e9)
        await main(Past(clock, timeframes), clock)

    run(outer)


def minutes(since_ns: int, until_ns: int) -> list[int]:
    return [at for at in range(-(-since_ns // MINUTE_NS) * MINUTE_NS, until_ns, MINUTE_NS) if traded(at)]


MIDDAY_NS = NOW_NS - 30 * SECOND_NS


def test_every_bar_comes_from_the_venue_once_and_then_from_the_store() -> None:
    async def main(past: Past, clock: VirtualClock) -> None:
        since_ns, until_ns = MIDDAY_NS - 300 * MINUTE_NS, MIDDAY_NS - 10 * MINUTE_NS
        bars = await past.backfill.candles("memory:AAA", "1m", since_ns, until_ns)
        assert bars.open_ns.tolist() == minutes(since_ns, until_ns)
        asked = len(past.archive.asked)
        assert asked == -(-len(bars) // PAGE)
        again = await past.backfill.candles("memory:AAA", "1m", since_ns, until_ns)
        assert len(past.archive.asked) == asked
        assert np.array_equal(again.close, bars.close)
        # A wider request asks only for what is new.
        await past.backfill.candles("memory:AAA", "1m", since_ns - 10 * MINUTE_NS, until_ns + 5 * MINUTE_NS)
        news = [(int(params["since"]), int(params["until"])) for params in past.archive.asked[asked:]]
        assert news == [(until_ns, until_ns + 5 * MINUTE_NS), (since_ns - 10 * MINUTE_NS, since_ns)]

    with_past(main)


def test_a_bar_that_is_still_open_is_neither_given_nor_stored_nor_marked() -> None:
    async def main(past: Past, clock: VirtualClock) -> None:
        bars = await past.backfill.candles("memory:AAA", "1m", MIDDAY_NS - 5 * MINUTE_NS, MIDDAY_NS + 3600 * SECOND_NS)
        assert bars.open_ns.tolist() == minutes(MIDDAY_NS - 5 * MINUTE_NS, MIDDAY_NS)
        spans = await past.store.coverage("memory:AAA", "1m", MIDDAY_NS - MINUTE_NS, MIDDAY_NS + MINUTE_NS)
        assert spans[-1] == Span(MIDDAY_NS, MIDDAY_NS + MINUTE_NS, "not_fetched", 0)
        await clock.sleep(31)  # 12:01:01: the bar is over, but its last trades may be on their way
        bars = await past.backfill.candles("memory:AAA", "1m", MIDDAY_NS, MIDDAY_NS + 3600 * SECOND_NS)
        assert len(bars) == 0
        await clock.sleep(2)
        bars = await past.backfill.candles("memory:AAA", "1m", MIDDAY_NS, MIDDAY_NS + 3600 * SECOND_NS)
        assert bars.open_ns.tolist() == minutes(MIDDAY_NS, MIDDAY_NS + MINUTE_NS)

    with_past(main)


def test_a_bar_the_venue_calls_open_is_not_stored_though_our_clock_is_ahead() -> None:
    async def main(past: Past, clock: VirtualClock) -> None:
        clock.step(40)
        behind = VirtualClock(asyncio.get_running_loop(), START_NS)  # type: ignore[arg-type]
        behind.step((NOW_NS - START_NS) / 1e9)
        past.archive.clock = behind
        await past.backfill.candles("memory:AAA", "1m", MIDDAY_NS - MINUTE_NS, MIDDAY_NS + MINUTE_NS)
        spans = await past.store.coverage("memory:AAA", "1m", MIDDAY_NS, MIDDAY_NS + MINUTE_NS)
        assert [span.state for span in spans] == ["not_fetched"]

    with_past(main)


def test_requests_at_the_same_time_share_the_work() -> None:
    async def main(past: Past, clock: VirtualClock) -> None:
        since_ns, until_ns = MIDDAY_NS - 300 * MINUTE_NS, MIDDAY_NS
        async with asyncio.TaskGroup() as tasks:
            for i in range(8):
                tasks.create_task(past.backfill.candles("memory:AAA", "1m", since_ns + i * MINUTE_NS, until_ns))
        spans = [(int(params["since"]), int(params["until"])) for params in past.archive.asked]
        pages = -(-len(minutes(since_ns, until_ns)) // PAGE)
        assert len(spans) <= pages + 8
        bars = await past.backfill.candles("memory:AAA", "1m", since_ns, until_ns, network=False)
        assert bars.open_ns.tolist() == minutes(since_ns, until_ns)

    with_past(main)


def test_a_hiccup_is_tried_again_and_a_failure_keeps_what_came() -> None:
    async def main(past: Past, clock: VirtualClock) -> None:
        since_ns, until_ns = MIDDAY_NS - 300 * MINUTE_NS, MIDDAY_NS
        past.archive.failures = [down("a hiccup"), down("another")]
        bars = await past.backfill.candles("memory:AAA", "1m", until_ns - 20 * MINUTE_NS, until_ns)
        assert len(bars) == len(minutes(until_ns - 20 * MINUTE_NS, until_ns))

        async def unplug() -> None:
            await clock.sleep(0.07)  # in the second page
            past.archive.failures = [down("unplugged")] * 3

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(unplug())
            with pytest.raises(Unavailable):
                await past.backfill.candles("memory:AAA", "1m", since_ns, until_ns)
        kept = await past.backfill.candles("memory:AAA", "1m", since_ns, until_ns, network=False)
        assert len(kept) >= PAGE
        assert kept.open_ns.tolist() == minutes(int(kept.open_ns[0]), until_ns)

        past.archive.failures = [RateLimited("banned", Text("blocked"), retry_after_s=60, banned=True)]
        with pytest.raises(RateLimited):  # a block is not tried again
            await past.backfill.candles("memory:AAA", "1m", since_ns, until_ns)

    with_past(main)


def test_what_the_venue_has_forgotten_stays_not_fetched() -> None:
    async def main(past: Past, clock: VirtualClock) -> None:
        past.archive.oldest_ns = MIDDAY_NS - 30 * MINUTE_NS
        since_ns = MIDDAY_NS - 60 * MINUTE_NS
        bars = await past.backfill.candles("memory:AAA", "1m", since_ns, MIDDAY_NS)
        assert bars.open_ns.tolist() == minutes(past.archive.oldest_ns, MIDDAY_NS)
        spans = await past.store.coverage("memory:AAA", "1m", since_ns, MIDDAY_NS)
        assert spans[0] == Span(since_ns, past.archive.oldest_ns, "not_fetched", 0)
        with pytest.raises(Rejected, match="no longer knows"):
            await past.backfill.trades("memory:AAA", since_ns, MIDDAY_NS)

    with_past(main)


@pytest.mark.parametrize("network", [True, False])
def test_a_timeframe_the_venue_lacks_is_folded_from_the_largest_that_fits(network: bool) -> None:
    async def main(past: Past, clock: VirtualClock) -> None:
        hour = timeframe("1h")
        since_ns, until_ns = hour.open_ns(MIDDAY_NS) - 3 * 3600 * SECOND_NS, hour.open_ns(MIDDAY_NS)
        if not network:
            await past.backfill.candles("memory:AAA", "1m", since_ns, until_ns)
            past.archive.asked.clear()
        bars = await past.backfill.candles("memory:AAA", "1h", since_ns, until_ns, network=network)
        assert {params["timeframe"] for params in past.archive.asked} == ({"5m"} if network else set())
        assert bars.open_ns.tolist() == list(range(since_ns, until_ns, 3600 * SECOND_NS))
        base = await past.store.bars("memory:AAA", "5m" if network else "1m", since_ns, since_ns + 3600 * SECOND_NS)
        assert (bars.open[0], bars.close[0]) == (base.open[0], base.close[-1])
        assert bars.high[0] == base.high.max()
        assert bars.volume[0] == pytest.approx(base.volume.sum())

    with_past(main)


def test_of_what_is_stored_in_part_the_bars_that_are_whole_are_folded() -> None:
    async def main(past: Past, clock: VirtualClock) -> None:
        hour_ns = 3600 * SECOND_NS
        since_ns = timeframe("1h").open_ns(MIDDAY_NS) - 6 * hour_ns
        await past.backfill.candles("memory:AAA", "1m", since_ns - hour_ns // 2, since_ns + 2 * hour_ns + hour_ns // 3)
        await past.backfill.candles("memory:AAA", "1m", since_ns + 3 * hour_ns, since_ns + 5 * hour_ns)
        bars = await past.backfill.candles("memory:AAA", "1h", since_ns - 9 * hour_ns, MIDDAY_NS, network=False)
        assert bars.open_ns.tolist() == [since_ns + n * hour_ns for n in (0, 1, 3, 4)]

    with_past(main)


@settings(max_examples=30)
@given(pieces=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 200)), min_size=1, max_size=6))
def test_any_order_of_requests_gives_the_same_history(pieces: list[tuple[int, int]]) -> None:
    async def main(past: Past, clock: VirtualClock) -> None:
        for start, length in pieces:
            since_ns = MIDDAY_NS - 600 * MINUTE_NS + start * MINUTE_NS
            until_ns = since_ns + length * MINUTE_NS
            bars = await past.backfill.candles("memory:AAA", "1m", since_ns, until_ns)
            assert bars.open_ns.tolist() == minutes(since_ns, until_ns)

    with_past(main)


def test_trades_come_whole_ordered_and_once() -> None:
    async def main(past: Past, clock: VirtualClock) -> None:
        since_ns, until_ns = NOW_NS - 130 * SECOND_NS, NOW_NS - 5 * SECOND_NS
        trades = await past.backfill.trades("memory:AAA", since_ns, until_ns)
        assert [trade.event_ns for trade in trades] == list(range(since_ns, until_ns, SECOND_NS))

    with_past(main)


def test_the_memory_store_forgets_the_series_that_was_asked_for_longest_ago() -> None:
    async def main(past: Past, clock: VirtualClock) -> None:
        store = MemoryStore(rows_max=20)
        for name in ("1m", "5m", "1h"):
            store.append([candle(MIDDAY_NS - i * MINUTE_NS, name) for i in range(8)])
            store.mark("memory:AAA", name, MIDDAY_NS - 8 * MINUTE_NS, MIDDAY_NS + 1)
        for name, state in (("1m", "not_fetched"), ("5m", "candles"), ("1h", "candles")):
            spans = await store.coverage("memory:AAA", name, MIDDAY_NS - 8 * MINUTE_NS, MIDDAY_NS)
            assert [span.state for span in spans] == [state]

    with_past(main)
