"""Candles from trades, in one order of addition, so that any way of hearing of the trades gives the same bits.

Theory of operation. A second's candle adds its trades left to right by (`event_ns`, `id`). Every larger candle folds
closed seconds, left to right. Floating-point addition depends on its order and nothing else, so whoever keeps this
order gets these bits: live, late, duplicated or rebuilt in a batch.

A late trade re-adds its second and re-folds the candles above it. For that the builder keeps the trades of the last
`horizon_s`; what is older is frozen: folded once into each larger candle's base, its trades dropped. A trade for a
frozen second is refused (`too_late` counts it): its candle has to be rebuilt from the venue's history.

The builder is pure. It never asks what time it is: a second closes when a trade of a later one comes, or when
`close_until` says that nothing can come any more.

Where a venue tells no trades, `MinuteBuilder` shows the open minute by its tickers until the venue's candle comes, and
`OpenBars` the larger ones by such minutes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgspec
import numpy as np

from watchhamster.core.bars import Bars, Ints
from watchhamster.core.market import Candle, Origin, Ticker, Trade
from watchhamster.core.timeframes import SECOND_NS, UTC, Grid, Timeframe, timeframe

SECOND, MINUTE, DAY = timeframe("1s"), timeframe("1m"), timeframe("1d")
FOREVER = 1 << 62
_SILENCE_NS = 300 * SECOND_NS  # of tickers, after which a count says nothing of a minute
_WEEK_NS = 7 * 86400 * SECOND_NS

# open, high, low, close, volume, value
_Sum: TypeAlias = tuple[float, float, float, float, float, float]
_Print: TypeAlias = tuple[int, "int | str", float, float]  # event_ns, id, price, size


class _Second:
    """The trades of one second, in order, and their sum."""

    __slots__ = ("ids", "prints", "revision", "sum")

    def __init__(self) -> None:
        self.prints: list[_Print] = []
        self.ids: set[int | str] = set()
        self.sum: _Sum | None = None
        self.revision = 0

    def add(self, event_ns: int, id: int | str, price: float, size: float) -> bool:
        """Whether the trade was new."""
        if id in self.ids:
            return False
        self.ids.add(id)
        entry = (event_ns, id, price, size)
        if not self.prints or entry > self.prints[-1]:
            self.prints.append(entry)
            self.sum = _with_trade(self.sum, price, size)
        else:
            insort(self.prints, entry)
            self.sum = None
            for _event_ns, _id, price, size in self.prints:
                self.sum = _with_trade(self.sum, price, size)
        return True


class _Frame:
    """One timeframe above the second: what is folded into its candles."""

    __slots__ = ("bases", "open_ns", "revisions", "running", "timeframe")

    def __init__(self, timeframe: Timeframe) -> None:
        self.timeframe = timeframe
        self.bases: dict[int, _Sum] = {}  # open -> frozen seconds folded
        self.revisions: dict[int, int] = {}  # open -> of candles that were corrected
        self.open_ns = -FOREVER  # the candle that is still open
        self.running: _Sum | None = None  # its base and closed seconds


class CandleBuilder:
    """The candles of one instrument, from its trades in any order.

    `timeframes` may leave out `1s`, which is always built. `horizon_s` bounds how late a trade may come, `trades_max`
    how many are kept for that; past it seconds freeze early.
    """

    def __init__(
        self,
        instrument: str,
        timeframes: Sequence[Timeframe],
        origin: Origin = "live",
        *,
        horizon_s: float = 600.0,
        trades_max: int = 20_000,
    ) -> None:
        self.instrument = instrument
        self.too_late = 0  # trades refused because their second is frozen
        self.last_ns = -FOREVER  # the newest trade's time
        self._origin = origin
        self._frames = [_Frame(tf) for tf in sorted(timeframes, key=lambda tf: tf.approximate_ns) if tf is not SECOND]
        self._seconds: dict[int, _Second] = {}
        self._order: list[int] = []  # the seconds' open times, ascending
        self._closed_ns = -FOREVER  # seconds that open before this are closed
        self._frozen_ns = -FOREVER  # and those before this are frozen
        self._horizon_ns = int(horizon_s * SECOND_NS)
        self._trades_max = trades_max
        self._kept = 0

    @property
    def timeframes(self) -> tuple[Timeframe, ...]:
        """What is built, shortest first."""
        return (SECOND, *(frame.timeframe for frame in self._frames))

    def seed(self, candles: Iterable[Candle], until_ns: int) -> None:
        """Begin with closed candles of before `until_ns` (a multiple of theirs), oldest first, in place of trades.

        They become the beginning of each larger candle that is open at `until_ns`. Call it before the first trade.
        """
        assert not self._order, "the builder has already begun"
        rows = list(candles)
        self._closed_ns = self._frozen_ns = until_ns
        for frame in self._frames:
            frame.open_ns = frame.timeframe.open_ns(until_ns)
            for candle in rows:
                if frame.open_ns <= candle.open_ns < until_ns:
                    frame.running = _with_sum(frame.running, _sum_of(candle))
            if frame.running is not None:
                frame.bases[frame.open_ns] = frame.running

    def add(self, trade: Trade) -> list[Candle]:
        """The candles this trade closed or corrected, in the order they ended; mostly none.

        A duplicate changes nothing. A corrected candle comes again with a higher `revision`; one that begins to exist
        after its time was called closed counts as corrected. Forming candles are had from `forming`.
        """
        return self._add(trade.event_ns, trade.id, trade.price, trade.size)

    def widened(self, timeframes: Sequence[Timeframe], candles: Iterable[Candle], until_ns: int) -> CandleBuilder:
        """A builder of other timeframes that goes on from here: seeded before `until_ns`, with the trades kept since.

        Its closed candles have been told before, except those of the new timeframes. Raises `ValueError` when the
        trades since `until_ns` are no longer all kept.
        """
        if until_ns < self._frozen_ns:
            raise ValueError("the trades since then are frozen")
        wide = CandleBuilder(self.instrument, timeframes, self._origin)
        wide._horizon_ns, wide._trades_max, wide.too_late = self._horizon_ns, self._trades_max, self.too_late
        wide.seed(candles, until_ns)
        for open_ns in self._order[bisect_left(self._order, until_ns) :]:
            for entry in self._seconds[open_ns].prints:
                wide._add(*entry)
        wide._close(self._closed_ns)
        return wide

    def _add(self, event_ns: int, id: int | str, price: float, size: float) -> list[Candle]:
        open_ns = event_ns - event_ns % SECOND_NS
        if open_ns < self._frozen_ns:
            self.too_late += 1
            return []
        if event_ns > self.last_ns:
            self.last_ns = event_ns
        changed = self._close(open_ns) if open_ns > self._closed_ns else []
        second = self._seconds.get(open_ns)
        new = second is None
        if second is None:
            second = self._seconds[open_ns] = _Second()
            if not self._order or open_ns > self._order[-1]:
                self._order.append(open_ns)
            else:
                insort(self._order, open_ns)
        if not second.add(event_ns, id, price, size):
            return changed
        self._kept += 1
        if open_ns < self._closed_ns:
            second.revision += 1
            changed += self._correct(open_ns, open_ns + SECOND_NS, (open_ns,))
        elif new:
            self._freeze()
        return changed

    @property
    def closed_ns(self) -> int:
        """Every candle that ends by then has been closed."""
        return self._closed_ns

    def close_until(self, now_ns: int) -> list[Candle]:
        """Close every candle that ends at or before `now_ns`: the caller knows that no trade is missing."""
        until_ns = now_ns - now_ns % SECOND_NS
        if until_ns <= self._closed_ns:
            return []
        changed = self._close(until_ns)
        self._freeze()
        return changed

    def forming(self, timeframe: Timeframe) -> Candle | None:
        """The candle that is still open, None while nothing has traded in it."""
        last = self._order[-1] if self._order else -FOREVER
        second = self._seconds[last] if self._order and last >= self._closed_ns else None
        if timeframe is SECOND:
            return None if second is None else self._candle(SECOND, last, second.sum, False, 0)
        for frame in self._frames:
            if frame.timeframe is timeframe:
                total, open_ns = frame.running, frame.open_ns
                if second is not None:
                    if timeframe.open_ns(last) != open_ns:
                        total, open_ns = None, timeframe.open_ns(last)
                    assert second.sum is not None
                    total = _with_sum(total, second.sum)
                return None if total is None else self._candle(timeframe, open_ns, total, False, 0)
        return None

    def _close(self, until_ns: int) -> list[Candle]:
        """Close the seconds before `until_ns`, and the larger candles that end by then."""
        closed: list[tuple[int, int, Candle]] = []  # end, length, candle
        start = bisect_left(self._order, self._closed_ns)
        stop = bisect_left(self._order, until_ns, start)
        self._closed_ns = max(self._closed_ns, until_ns)
        for open_ns in self._order[start:stop]:
            second = self._seconds[open_ns]
            assert second.sum is not None
            end_ns = open_ns + SECOND_NS
            closed.append((end_ns, 0, self._candle(SECOND, open_ns, second.sum, True, second.revision)))
            for rank, frame in enumerate(self._frames, 1):
                bar = frame.timeframe.open_ns(open_ns)
                if bar != frame.open_ns:
                    self._end(frame, rank, closed)
                    frame.open_ns = bar
                    frame.running = frame.bases.get(bar)
                frame.running = _with_sum(frame.running, second.sum)
        for rank, frame in enumerate(self._frames, 1):
            if frame.running is not None and frame.timeframe.next_ns(frame.open_ns) <= until_ns:
                self._end(frame, rank, closed)
        closed.sort(key=lambda entry: entry[:2])
        return [entry[2] for entry in closed]

    def _end(self, frame: _Frame, rank: int, closed: list[tuple[int, int, Candle]]) -> None:
        if frame.running is not None:
            candle = self._candle(frame.timeframe, frame.open_ns, frame.running, True, 0)
            closed.append((frame.timeframe.next_ns(frame.open_ns), rank, candle))
            frame.running = None

    def _correct(self, since_ns: int, until_ns: int, seconds: Sequence[int]) -> list[Candle]:
        """Fold again what holds these seconds; the closed ones of it, shortest first."""
        changed = []
        for open_ns in seconds:
            second = self._seconds.get(open_ns)
            if second is not None and open_ns < self._closed_ns:
                changed.append(self._candle(SECOND, open_ns, second.sum, True, second.revision))
        for frame in self._frames:
            tf = frame.timeframe
            bar = tf.open_ns(since_ns)
            while bar < until_ns:
                total = frame.bases.get(bar)
                end_ns = tf.next_ns(bar)
                start = bisect_left(self._order, max(bar, self._frozen_ns))
                stop = bisect_left(self._order, min(end_ns, self._closed_ns), start)
                for open_ns in self._order[start:stop]:
                    second = self._seconds[open_ns]
                    assert second.sum is not None
                    total = _with_sum(total, second.sum)
                if end_ns > self._closed_ns:
                    if bar >= frame.open_ns:
                        frame.open_ns, frame.running = bar, total
                elif total is not None:
                    revision = frame.revisions[bar] = frame.revisions.get(bar, 0) + 1
                    changed.append(self._candle(tf, bar, total, True, revision))
                bar = end_ns
        return changed

    def _freeze(self) -> None:
        """Freeze what is past the horizon, or more than may be kept."""
        limit_ns = self._closed_ns - self._horizon_ns
        count = 0
        for open_ns in self._order:
            if open_ns >= self._closed_ns or (open_ns >= limit_ns and self._kept <= self._trades_max):
                break
            second = self._seconds.pop(open_ns)
            self._kept -= len(second.prints)
            assert second.sum is not None
            for frame in self._frames:
                bar = frame.timeframe.open_ns(open_ns)
                frame.bases[bar] = _with_sum(frame.bases.get(bar), second.sum)
            self._frozen_ns = open_ns + SECOND_NS
            count += 1
        if count == 0:
            return
        del self._order[:count]
        for frame in self._frames:
            for bar in [bar for bar in frame.bases if frame.timeframe.next_ns(bar) <= self._frozen_ns]:
                del frame.bases[bar]
                frame.revisions.pop(bar, None)

    def _candle(self, tf: Timeframe, open_ns: int, total: _Sum | None, closed: bool, revision: int) -> Candle:
        assert total is not None
        return Candle(self.instrument, tf.name, open_ns, *total, closed, self._origin, revision)


class MinuteBuilder:
    """The open minute of an instrument whose venue tells tickers but no trades. Its candles are provisional.

    A minute has the prices that were told of it, so it may lack some; its volume is what the count of the day grew by,
    None in the first minute after a silence, whose share of the count nobody knows. A count that fell on a new day, or
    to less than half, began anew at zero; a smaller fall is a correction. Where a market never closes the count is one
    of 24 hours that slides, and tells nothing of a minute.
    """

    def __init__(self, instrument: str) -> None:
        self.instrument = instrument
        self._candle: Candle | None = None
        self._event_ns = -FOREVER
        self._day_ns = -FOREVER
        self._slides = False  # the count
        self._count: float | None = None  # of the day, as told last
        self._base: float | None = None  # what it was when the minute began
        self._before = 0.0  # what the minute had when the count began anew

    def lose(self) -> None:
        """Tickers may have been missed: what the count grew by meanwhile is of no one minute."""
        self._event_ns = -FOREVER

    def add(self, ticker: Ticker, grid: Grid) -> Candle | None:
        """The minute with this ticker in it; None for one that is older than the last, or of no regular session."""
        open_ns = grid.open_ns(MINUTE, ticker.event_ns)
        is_regular = ticker.regular is None and ticker.event_ns < grid.end_ns(MINUTE, open_ns)
        if not is_regular or ticker.event_ns < self._event_ns:
            return None
        day_ns = grid.open_ns(DAY, ticker.event_ns)
        is_new_day = day_ns != self._day_ns
        if is_new_day:
            self._slides = _never_closes(grid, day_ns)
        count, last = None if self._slides else ticker.volume_24h, self._count
        anew = count is not None and last is not None and (count < last if is_new_day else 2 * count < last)
        candle, price = self._candle, ticker.price
        if candle is None or candle.open_ns != open_ns:
            followed = ticker.event_ns - self._event_ns <= _SILENCE_NS
            knows = followed or (anew and not grid.room(MINUTE, day_ns, open_ns))  # the session's first minute is
            self._base = None if not knows else 0.0 if anew else last
            self._before = 0.0
            prices = price, price, price
        else:
            if anew and self._base is not None and last is not None:
                self._before += max(0.0, last - self._base)
                self._base = 0.0
            prices = candle.open, max(candle.high, price), min(candle.low, price)
        self._event_ns, self._day_ns = ticker.event_ns, day_ns
        self._count = last if count is None else count
        volume = None
        if self._count is not None and self._base is not None:
            volume = self._before + max(0.0, self._count - self._base)
        self._candle = Candle(
            self.instrument, MINUTE.name, open_ns, *prices, price, volume, None, closed=False, origin="live"
        )
        return self._candle


class OpenBars:
    """The bars that are still open of an instrument whose venue tells no trades: of its minutes.

    A minute is the venue's own where that has been told, and until then a provisional one: what the venue said of it so
    far, and the tickers since. A bar is given if all of it is known: its minutes were told from its beginning to where
    the provisional ones begin, or it began after them.
    `since_ns` is when watching begins: a minute that is older has only been seen in part.
    """

    _MINUTES_MAX = 3_000  # two days' and more; older ones are of no open bar

    def __init__(self, since_ns: int) -> None:
        self._since_ns = since_ns
        self._minutes: dict[int, Candle] = {}
        self._told = (FOREVER, FOREVER)  # the stretch of which the venue told every minute
        self._seen_ns: int | None = None  # bars that begin later have been seen whole

    def is_told_since(self, at_ns: int) -> bool:
        """Whether the venue has told every minute from then on, as far as it has told any."""
        return self._told[0] <= at_ns

    def add(self, candle: Candle) -> None:
        """A provisional minute, as it is now."""
        if self._seen_ns is None:
            self._seen_ns = candle.open_ns - (candle.open_ns >= self._since_ns)
        known = self._minutes.get(candle.open_ns)
        if known is None or not known.closed:
            self._minutes[candle.open_ns] = candle if known is None else _both(known, candle)

    def tell(self, candles: Iterable[Candle], since_ns: int, until_ns: int) -> None:
        """The venue's minutes of `[since_ns, until_ns)`, which are all there are; those still open as they are now."""
        before = {at: c for at, c in self._minutes.items() if since_ns <= at < until_ns}
        minutes = {at: c for at, c in self._minutes.items() if at not in before}
        for candle in candles:
            seen = before.get(candle.open_ns)
            minutes[candle.open_ns] = candle if candle.closed or seen is None else _both(candle, seen)
        self._minutes = dict(sorted(minutes.items())[-self._MINUTES_MAX :])
        first_ns, last_ns = self._told
        if first_ns <= until_ns and since_ns <= last_ns:
            since_ns, until_ns = min(first_ns, since_ns), max(last_ns, until_ns)
        if len(minutes) > self._MINUTES_MAX:
            since_ns = max(since_ns, next(iter(self._minutes)))
        self._told = since_ns, until_ns

    def forming(self, frame: Timeframe, grid: Grid, now_ns: int, ticker: Ticker | None = None) -> Candle | None:
        """The open bar of a timeframe up to a day; a day's from the last ticker, which tells of the whole day."""
        if frame is DAY and ticker is not None and (day := self._day(ticker, grid, now_ns)) is not None:
            return day
        if not self._minutes:
            return None
        open_ns = grid.open_ns(frame, max(self._minutes))
        if open_ns < grid.settled_ns(frame, now_ns) or not self._is_whole(open_ns, grid):
            return None
        minutes = [self._minutes[at] for at in sorted(self._minutes) if at >= open_ns]
        return msgspec.structs.replace(fold(minutes, frame, grid)[-1], closed=False, origin="live")

    def _is_whole(self, open_ns: int, grid: Grid) -> bool:
        since_ns, until_ns = self._told
        if self._seen_ns is None:
            return since_ns <= open_ns
        if not grid.room(MINUTE, open_ns, self._seen_ns + 1):
            return True  # nothing could trade in it before it was watched
        return since_ns <= open_ns and self._seen_ns < until_ns

    @staticmethod
    def _day(ticker: Ticker, grid: Grid, now_ns: int) -> Candle | None:
        open_ns = grid.open_ns(DAY, ticker.event_ns)
        if open_ns < grid.settled_ns(DAY, now_ns) or ticker.open is None or ticker.high is None or ticker.low is None:
            return None
        if not grid.room(MINUTE, open_ns, ticker.event_ns + 1):
            return None  # before the first session these are of the day before
        close = ticker.price if ticker.regular is None else ticker.regular
        volume = None if _never_closes(grid, open_ns) else ticker.volume_24h
        high, low = max(ticker.high, ticker.open, close), min(ticker.low, ticker.open, close)
        return Candle(
            ticker.instrument,
            DAY.name,
            open_ns,
            ticker.open,
            high,
            low,
            close,
            volume,
            None,
            closed=False,
            origin="live",
        )


def _both(earlier: Candle, later: Candle) -> Candle:
    """An open minute that two have told in part."""
    high, low = max(earlier.high, later.high), min(earlier.low, later.low)
    return msgspec.structs.replace(later, open=earlier.open, high=high, low=low)


def _never_closes(grid: Grid, at_ns: int) -> bool:
    return len(grid.room(MINUTE, at_ns, at_ns + _WEEK_NS)) == 1


def build(
    instrument: str, trades: Iterable[Trade], timeframes: Sequence[Timeframe], origin: Origin = "live"
) -> dict[str, list[Candle]]:
    """All candles of these trades, closed, by timeframe (`1s` included): the same additions as live, in one batch."""
    builder = CandleBuilder(instrument, timeframes, origin, horizon_s=0.0)
    candles: dict[str, list[Candle]] = {tf.name: [] for tf in builder.timeframes}
    for trade in sorted(trades, key=lambda trade: (trade.event_ns, trade.id)):
        for candle in builder.add(trade):
            candles[candle.timeframe].append(candle)
    for candle in builder.close_until(FOREVER):
        candles[candle.timeframe].append(candle)
    return candles


def fold(candles: Iterable[Candle], tf: Timeframe, grid: Grid = UTC) -> list[Candle]:
    """Closed candles of a larger timeframe from those of a smaller one, oldest first, of one instrument.

    The last one is closed only if the caller knows that nothing more belongs to it; it is returned all the same.
    """
    folded: list[Candle] = []
    bar, total, last = 0, None, None
    for candle in candles:
        open_ns = grid.open_ns(tf, candle.open_ns)
        if last is not None and total is not None and open_ns != bar:
            folded.append(_folded(last, tf, bar, total))
            total = None
        bar, last = open_ns, candle
        total = _with_sum(total, _sum_of(candle))
    if last is not None and total is not None:
        folded.append(_folded(last, tf, bar, total))
    return folded


def fold_bars(bars: Bars, tf: Timeframe, grid: Grid = UTC) -> Bars:
    """The same over columns: sums run left to right, so the bits are those of `fold`."""
    if len(bars) == 0:
        return bars
    opens = _opens(bars.open_ns, tf, grid)
    starts = np.flatnonzero(np.concatenate(([True], opens[1:] != opens[:-1])))
    ends = np.append(starts[1:], len(opens))
    groups = np.repeat(np.arange(len(starts)), ends - starts)
    # bincount adds in the order of the rows, unlike reduceat, which may pair them
    return Bars(
        opens[starts],
        bars.open[starts],
        np.maximum.reduceat(bars.high, starts),
        np.minimum.reduceat(bars.low, starts),
        bars.close[ends - 1],
        np.bincount(groups, bars.volume).astype(np.float64),
        np.bincount(groups, bars.value).astype(np.float64),
        None if bars.adjustment is None else bars.adjustment[ends - 1],
    )


def _opens(times: Ints, tf: Timeframe, grid: Grid) -> Ints:
    if tf.ns is not None and grid is UTC:
        first = tf.open_ns(int(times[0]))
        return (times - first) // tf.ns * tf.ns + first
    opens = np.empty_like(times)
    at = 0
    while at < len(times):
        bar = grid.open_ns(tf, int(times[at]))
        stop = max(at + 1, int(np.searchsorted(times, grid.next_ns(tf, bar))))
        opens[at:stop] = bar
        at = stop
    return opens


def _folded(candle: Candle, tf: Timeframe, open_ns: int, total: _Sum) -> Candle:
    volume, value = (None if x != x else x for x in total[4:])
    return Candle(candle.instrument, tf.name, open_ns, *total[:4], volume, value, True, candle.origin)


def _sum_of(candle: Candle) -> _Sum:
    nan = float("nan")
    volume = nan if candle.volume is None else candle.volume
    value = nan if candle.value is None else candle.value
    return candle.open, candle.high, candle.low, candle.close, volume, value


def _with_trade(total: _Sum | None, price: float, size: float) -> _Sum:
    if total is None:
        return price, price, price, price, size, price * size
    opened, high, low, _close, volume, value = total
    return (
        opened,
        price if price > high else high,
        price if price < low else low,
        price,
        volume + size,
        value + price * size,
    )


def _with_sum(total: _Sum | None, more: _Sum) -> _Sum:
    if total is None:
        return more
    return (
        total[0],
        more[1] if more[1] > total[1] else total[1],
        more[2] if more[2] < total[2] else total[2],
        more[3],
        total[4] + more[4],
        total[5] + more[5],
    )
