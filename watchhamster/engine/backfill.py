"""History: what the store has, and from the venue only what was never fetched.

The store keeps a ledger of the spans that were fetched, so that a missing candle means "no trade" inside of them and
"not fetched" outside. A request asks the ledger, fetches the newest missing page, stores and marks it, and asks again;
requests for the same series take turns page by page, so that none fetches what another just has. Whatever stops a
request, the pages it had are kept.

Only bars that are over, and that the venue calls closed, are stored, and nothing is marked beyond what a page knows.
Where bars lie the venue's grid says; time in which its market was closed is never asked for, and known without.

Shares pay and are split, and a venue that has them rescales all of its past at a split. So before a page is stored,
the store learns what was done to the shares up to then, also in time that nobody asked candles of. What a new split
has made worthless is fetched again before the request that met it is answered.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

import msgspec

from watchhamster.core.actions import Learned, adjustment
from watchhamster.core.bars import Bars, Span
from watchhamster.core.candles import fold_bars
from watchhamster.core.instruments import split_instrument
from watchhamster.core.market import Action, Candle, Trade
from watchhamster.core.ports import (
    BadFrame,
    Clock,
    Distributing,
    Page,
    Query,
    RateLimited,
    Rejected,
    Unavailable,
    WatchHamsterError,
)
from watchhamster.core.sessions import closures_told
from watchhamster.core.text import Text
from watchhamster.core.timeframes import COMMON, SECOND_NS, Grid, Timeframe
from watchhamster.core.timeframes import timeframe as timeframe_of
from watchhamster.engine.limits import Priority
from watchhamster.engine.routing import Caller

T = TypeVar("T")

_FRESH_NS = 2 * SECOND_NS  # a bar that ended so recently may lack its last trades in the venue's answer
_OVERLAP_NS = 2 * 86400 * SECOND_NS  # a day that began before something was known may have told of it later
_LONG_NS = 30 * 86400 * SECOND_NS  # in so much time there was a session
_KEPT_NS = 600 * SECOND_NS  # how far is known is noted no more often than that
_DAY = timeframe_of("1d")
_TRIES = 3
_PATIENCE_S = 10.0  # with a refusal; after a longer one whoever asked is told, and asks again
_PAUSE_S = 0.25  # before the second try; doubled before the third
_BASES = tuple(reversed(COMMON))  # what missing timeframes are folded from: the largest that fits


class CandleStore(Protocol):
    """What backfill needs of a store of candles."""

    def append(self, candles: Sequence[Candle]) -> None:
        """Buffer closed (or revised) candles; never blocks."""

    def mark(self, instrument: str, timeframe: str, since_ns: int, until_ns: int) -> None:
        """This span is fetched: where it has no candle there was no trade."""

    async def bars(self, instrument: str, timeframe: str, since_ns: int, until_ns: int) -> Bars:
        """The candles that open in the span, those appended before the call included."""

    async def coverage(self, instrument: str, timeframe: str, since_ns: int, until_ns: int) -> list[Span]:
        """What is known of the span, oldest first and without holes; what was marked before the call included."""

    async def learn(
        self,
        instrument: str,
        actions: Sequence[Action],
        until_ns: int,
        adjusted: Mapping[str, Mapping[int, float]] | None = None,
    ) -> Learned:
        """Keep what was done to shares, of which all is known up to `until_ns`, before what is told in its scale."""

    async def known_until_ns(self, instrument: str) -> int | None:
        """Up to when every action of an instrument is known; None where nothing was ever told."""


class MemoryStore:
    """Candles for as long as the program runs. Beyond `rows_max` the series least recently asked about go."""

    def __init__(self, rows_max: int = 1_000_000) -> None:
        self._rows_max = rows_max
        self._series: OrderedDict[tuple[str, str], tuple[dict[int, Candle], list[tuple[int, int]]]] = OrderedDict()
        self._actions: dict[str, dict[tuple[int, str], Action]] = {}
        self._known_ns: dict[str, int] = {}

    def append(self, candles: Sequence[Candle]) -> None:
        """Keep them; a later one of the same moment replaces the earlier."""
        for candle in candles:
            self._of(candle.instrument, candle.timeframe)[0][candle.open_ns] = candle
        while len(self._series) > 1 and sum(len(rows) for rows, _ in self._series.values()) > self._rows_max:
            self._series.popitem(last=False)

    def mark(self, instrument: str, timeframe: str, since_ns: int, until_ns: int) -> None:
        """Note the span as fetched."""
        spans = self._of(instrument, timeframe)[1]
        spans.append((since_ns, until_ns))
        spans.sort()
        joined: list[tuple[int, int]] = []
        for start, stop in spans:
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
            else:
                joined.append((start, stop))
        spans[:] = joined

    async def bars(self, instrument: str, timeframe: str, since_ns: int, until_ns: int) -> Bars:
        """The candles that open in the span, adjusted for what was distributed since."""
        rows, _ = self._of(instrument, timeframe)
        bars = Bars.of(rows[at] for at in sorted(rows) if since_ns <= at)
        paid = self._actions.get(instrument, {}).values()
        if paid and len(bars):
            length_ns = timeframe_of(timeframe).approximate_ns
            bars = msgspec.structs.replace(
                bars, adjustment=adjustment(bars.open_ns, bars.close, paid, length_ns=length_ns)
            )
        return bars.between(since_ns, until_ns)

    async def learn(
        self,
        instrument: str,
        actions: Sequence[Action],
        until_ns: int,
        adjusted: Mapping[str, Mapping[int, float]] | None = None,
    ) -> Learned:
        """Keep them; a new split drops what is kept of the time before."""
        known = self._actions.setdefault(instrument, {})
        new = tuple(action for action in actions if (action.at_ns, action.kind) not in known)
        known.update(((action.at_ns, action.kind), action) for action in actions)
        self._known_ns[instrument] = max(until_ns, self._known_ns.get(instrument, until_ns))
        at_ns = max((action.at_ns for action in new if action.kind == "split"), default=None)
        stale = []
        for (name, frame), (rows, fetched) in self._series.items():
            if at_ns is not None and name == instrument and fetched and fetched[0][0] < at_ns:
                stale.append((frame, fetched[0][0], at_ns))
                for open_ns in [open_ns for open_ns in rows if open_ns < at_ns]:
                    del rows[open_ns]
                fetched[:] = [(max(start, at_ns), stop) for start, stop in fetched if stop > at_ns]
        return Learned(new, tuple(stale))

    async def known_until_ns(self, instrument: str) -> int | None:
        """As it was learnt."""
        return self._known_ns.get(instrument)

    async def coverage(self, instrument: str, timeframe: str, since_ns: int, until_ns: int) -> list[Span]:
        """Fetched stretches (`candles`, or `no_trade` where they hold none) and the holes between them."""
        rows, fetched = self._of(instrument, timeframe)
        spans: list[Span] = []
        at = since_ns
        for start, stop in [*fetched, (until_ns, until_ns)]:
            start, stop = max(start, at), min(stop, until_ns)
            if at < min(start, until_ns):
                spans.append(Span(at, min(start, until_ns), "not_fetched", 0))
            if start < stop:
                count = sum(start <= open_ns < stop for open_ns in rows)
                spans.append(Span(start, stop, "candles" if count else "no_trade", count))
            at = max(at, stop)
        return spans

    def _of(self, instrument: str, timeframe: str) -> tuple[dict[int, Candle], list[tuple[int, int]]]:
        key = (instrument, timeframe)
        series = self._series.setdefault(key, ({}, []))
        self._series.move_to_end(key)
        return series


class Backfill:
    """Candles and trades of the past, for any instrument whose venue `caller_for` knows."""

    def __init__(
        self,
        caller_for: Callable[[str], Caller],
        store: CandleStore,
        clock: Clock,
        on_learned: Callable[[str, Learned], None] | None = None,
    ) -> None:
        self.on_learned = on_learned  # told at once what was news of an instrument's shares
        self._caller_for = caller_for  # raises UsageError for a venue it does not know
        self._store = store
        self._clock = clock
        self._turns: dict[tuple[str, str], _Turn] = {}
        self._stale: dict[str, list[tuple[str, int, int]]] = {}

    async def candles(
        self,
        instrument: str,
        timeframe: Timeframe | str,
        since_ns: int,
        until_ns: int,
        *,
        network: bool = True,
        priority: Priority = "bulk",
    ) -> Bars:
        """Closed candles that open in `[since_ns, until_ns)`, from the store and, where it was never told, the venue.

        `until_ns` is cut to the last bar that is over. A timeframe the venue does not serve, and with
        `network=False` what was never fetched of one that it does, is folded from smaller candles where the store
        has those complete; where it has nothing else of the timeframe, each bar that can be. Raises `Unavailable` when
        the venue cannot be reached; what came before that is stored.
        """
        tf = timeframe_of(timeframe) if isinstance(timeframe, str) else timeframe
        venue, symbol = split_instrument(instrument)
        caller = self._caller_for(venue)
        grid = caller.venue.grid(symbol)
        until_ns = min(until_ns, grid.settled_ns(tf, self._clock.now_ns() - caller.ahead_ns - _FRESH_NS))
        if until_ns <= since_ns:
            return Bars.empty()
        if network:
            if tf.name in caller.venue.timeframes:
                await self._fetch(caller, instrument, tf, since_ns, until_ns, priority)
            elif (base := _base_of(tf, caller.venue.timeframes)) is not None:
                await self._fetch(caller, instrument, base, *_whole(grid, tf, since_ns, until_ns), priority)
            for name, first_ns, last_ns in self._stale.pop(instrument, ()):
                with suppress(WatchHamsterError):  # it stays unmarked, and is asked for when it is next wanted
                    await self._fetch(caller, instrument, timeframe_of(name), first_ns, last_ns, priority)
        bars = await self._store.bars(instrument, tf.name, since_ns, until_ns)
        missing = await self._missing(instrument, grid, tf, since_ns, until_ns)
        folded = [await self._fold(instrument, grid, tf, span, partly=not len(bars)) for span in missing]
        pieces = [piece.between(since_ns, until_ns) for piece in folded if len(piece)]
        return Bars.merged([bars, *pieces]) if pieces else bars

    async def coverage(self, instrument: str, timeframe: Timeframe | str, since_ns: int, until_ns: int) -> list[Span]:
        """What is known of a span, oldest first and without holes. Of a closed market nothing is `not_fetched`."""
        tf = timeframe_of(timeframe) if isinstance(timeframe, str) else timeframe
        venue, symbol = split_instrument(instrument)
        spans = await self._store.coverage(instrument, tf.name, since_ns, until_ns)
        return closures_told(spans, self._caller_for(venue).venue.grid(symbol), tf)

    def fetched_as(self, instrument: str, timeframe: Timeframe) -> Timeframe:
        """The timeframe whose candles the venue is asked for where these are wanted: the same, or what they fold from.

        So this is the one whose coverage tells what was never fetched.
        """
        served = self._caller_for(split_instrument(instrument)[0]).venue.timeframes
        return timeframe if timeframe.name in served else _base_of(timeframe, served) or timeframe

    async def trades(
        self, instrument: str, since_ns: int, until_ns: int, *, priority: Priority = "bulk"
    ) -> list[Trade]:
        """Every trade in `[since_ns, until_ns)` that the venue still has, ordered by (`event_ns`, `id`).

        Raises `Rejected` (`history_too_short`) when the venue no longer knows all of the span.
        """
        venue_name, symbol = split_instrument(instrument)
        caller = self._caller_for(venue_name)
        found: dict[int | str, Trade] = {}
        cursor: str | None = None
        known_since_ns = until_ns
        while known_since_ns > since_ns:
            page = await self._ask(caller, caller.venue.trades(symbol, until_ns, cursor), priority, symbol)
            found.update((trade.id, trade) for trade in page.rows if since_ns <= trade.event_ns < until_ns)
            if page.since_ns < page.until_ns:
                known_since_ns = min(known_since_ns, page.since_ns)
            cursor = page.cursor
            if cursor is None and known_since_ns > since_ns:
                raise Rejected(
                    "history_too_short",
                    Text("{venue} no longer knows all trades of {symbol} in this time.", _named(venue_name, symbol)),
                    Text("Ask for its candles instead."),
                )
        return sorted(found.values(), key=lambda trade: (trade.event_ns, str(trade.id)))

    async def _fetch(
        self, caller: Caller, instrument: str, tf: Timeframe, since_ns: int, until_ns: int, priority: Priority
    ) -> None:
        """Have the span in the store, newest page first. A part the venue no longer has stays `not_fetched`."""
        key = (instrument, tf.name)
        grid = caller.venue.grid(split_instrument(instrument)[1])
        turn = self._turns.setdefault(key, _Turn())
        turn.takers += 1
        try:
            while until_ns > since_ns:
                async with turn.lock:
                    missing = await self._missing(instrument, grid, tf, since_ns, until_ns)
                    if not missing:
                        return
                    until_ns = await self._fetch_page(caller, instrument, tf, missing[-1], priority)
        finally:
            turn.takers -= 1
            if not turn.takers:
                del self._turns[key]

    async def _fetch_page(self, caller: Caller, instrument: str, tf: Timeframe, span: Span, priority: Priority) -> int:
        """Store and mark the newest page of a span; until where the next one is to be looked for."""
        symbol = split_instrument(instrument)[1]
        query = caller.venue.candles(symbol, tf, span.since_ns, span.until_ns)
        page = await self._ask(caller, query, priority, symbol)
        known_since_ns = max(page.since_ns, span.since_ns)
        known_until_ns = min(page.until_ns, span.until_ns)
        if isinstance(caller.venue, Distributing):
            await self._learn(caller, caller.venue, instrument, tf, page, priority)
        self._store.append([c for c in page.rows if c.closed and known_since_ns <= c.open_ns < known_until_ns])
        if known_since_ns < known_until_ns:
            self._store.mark(instrument, tf.name, known_since_ns, known_until_ns)
        if page.cursor is None or page.since_ns >= span.until_ns:
            return span.since_ns  # nothing before that the venue could tell
        return known_since_ns

    async def _learn(
        self,
        caller: Caller,
        venue: Distributing,
        instrument: str,
        tf: Timeframe,
        page: Page[Candle],
        priority: Priority,
    ) -> None:
        """Have the store know what was done to shares until the end of a page, before its candles are stored."""
        symbol = split_instrument(instrument)[1]
        known_ns = await self._store.known_until_ns(instrument)
        actions = list(page.actions)
        until_ns = page.until_ns
        if known_ns is not None and self._is_behind(caller.venue.grid(symbol), tf, known_ns, page):
            until_ns = max(until_ns, self._clock.now_ns() - caller.ahead_ns)
            since_ns = max(0, known_ns - _OVERLAP_NS)
            found = await self._ask(caller, venue.actions(symbol, since_ns, until_ns), priority, symbol)
            actions = list(dict.fromkeys([*actions, *found]))
        adjusted = {tf.name: page.adjusted} if page.adjusted else None
        if not actions and adjusted is None and known_ns is not None and until_ns - known_ns < _KEPT_NS:
            return
        learned = await self._store.learn(instrument, actions, until_ns, adjusted)
        self._stale.setdefault(instrument, []).extend(learned.stale)
        if learned.new and self.on_learned is not None:
            self.on_learned(instrument, learned)

    def _is_behind(self, grid: Grid, tf: Timeframe, known_ns: int, page: Page[Candle]) -> bool:
        """Whether something may have been done to shares that neither was known nor comes with the page.

        That is in a stretch before the page, or today: what happens to a day is in the prices before its session opens.
        """
        gap_ns, told_ns, now_ns = page.since_ns - known_ns, max(known_ns, page.until_ns), self._clock.now_ns()
        if gap_ns > 0 and (gap_ns > _LONG_NS or grid.room(tf, known_ns, page.since_ns)):
            return True
        return now_ns > told_ns and any(begin_ns > told_ns for begin_ns, _ in grid.room(_DAY, told_ns, now_ns))

    async def _ask(self, caller: Caller, query: Query[T], priority: Priority, symbol: str) -> T:
        """The answer, after up to three tries: a hiccup should not end a download of hours."""
        pause_s = _PAUSE_S
        for _ in range(_TRIES - 1):
            try:
                return await caller.call(query, priority, market=symbol)
            except RateLimited as refusal:
                if refusal.banned or (refusal.retry_after_s or 0.0) > _PATIENCE_S:
                    raise
            except (Unavailable, BadFrame):
                pass
            await self._clock.sleep(pause_s)
            pause_s *= 2
        return await caller.call(query, priority, market=symbol)

    async def _missing(self, instrument: str, grid: Grid, tf: Timeframe, since_ns: int, until_ns: int) -> list[Span]:
        """The stretches never fetched, each from the first to the last moment of it at which the market was open."""
        spans = await self._store.coverage(instrument, tf.name, since_ns, until_ns)
        rooms = [grid.room(tf, span.since_ns, span.until_ns) for span in spans if span.state == "not_fetched"]
        return [Span(room[0][0], room[-1][1], "not_fetched", 0) for room in rooms if room]

    async def _fold(self, instrument: str, grid: Grid, tf: Timeframe, span: Span, *, partly: bool) -> Bars:
        """What was not fetched, folded from the largest smaller candles the store has all of.

        `partly`: where it has all of none, each bar that smaller candles fill from end to end.
        """
        since_ns, until_ns = _whole(grid, tf, span.since_ns, span.until_ns)
        pieces: list[Bars] = []
        for name in _BASES:
            base = timeframe_of(name)
            if not _fits(base, tf):
                continue
            holes = await self._missing(instrument, grid, base, since_ns, until_ns)
            if holes and not partly:
                continue
            starts, ends = [since_ns, *(h.until_ns for h in holes)], [*(h.since_ns for h in holes), until_ns]
            insides = [_inside(grid, tf, start, end) for start, end in zip(starts, ends, strict=True) if start < end]
            found = [
                fold_bars(await self._store.bars(instrument, base.name, start, end), tf, grid)
                for start, end in insides
                if start < end
            ]
            if found and not holes:
                return found[0]
            pieces += [bars for bars in found if len(bars)]
        return Bars.merged(pieces) if pieces else Bars.empty()


class _Turn:
    """Who fetches a series just now, and how many want to."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.takers = 0


def _named(venue: str, symbol: str) -> dict[str, object]:
    return {"venue": venue, "symbol": symbol}


def _fits(base: Timeframe, tf: Timeframe) -> bool:
    """Whether candles of `tf` are made of whole candles of `base`."""
    if base.ns is None or base.ns > 86400 * SECOND_NS or base.name == tf.name:
        return False
    return (tf.ns or 86400 * SECOND_NS) % base.ns == 0  # months and years are whole days


def _base_of(tf: Timeframe, served: Sequence[str]) -> Timeframe | None:
    bases = [base for name in served if _fits(base := timeframe_of(name), tf)]
    return max(bases, key=lambda base: base.approximate_ns, default=None)


def _whole(grid: Grid, tf: Timeframe, since_ns: int, until_ns: int) -> tuple[int, int]:
    """The span of whole candles around a span."""
    last_ns = grid.open_ns(tf, until_ns - 1)
    return grid.open_ns(tf, since_ns), grid.end_ns(tf, last_ns)


def _inside(grid: Grid, tf: Timeframe, since_ns: int, until_ns: int) -> tuple[int, int]:
    """The span of the candles that lie whole within a span."""
    first_ns, last_ns = grid.open_ns(tf, since_ns), grid.open_ns(tf, until_ns - 1)
    if first_ns < since_ns:
        first_ns = grid.next_ns(tf, first_ns)
    end_ns = grid.end_ns(tf, last_ns)
    return first_ns, end_ns if end_ns <= until_ns else last_ns
