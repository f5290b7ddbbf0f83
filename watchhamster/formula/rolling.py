"""Operations of ours that remember more than single bars: windows, counts, sessions.

Each is one step over explicit state, and the same arithmetic over arrays. A window is added up whole at every bar, from
its oldest value to its newest, so its bits never depend on where history began; TA-Lib's running sums are quicker and
not quite so exact.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from watchhamster.formula.graph import NAN, Array, Closure, Column, Kind, finite
from watchhamster.formula.indicators import runs
from watchhamster.formula.table import Fact

_CHUNK = 8192  # outputs at a time: what the processor's nearest cache holds


def _mean(window: Array) -> float:
    return float(np.add.accumulate(window)[-1]) / len(window)


def _means(x: Array, n: int) -> Array:
    total = x[: len(x) - n + 1].copy()
    for k in range(1, n):
        total += x[k : k + len(total)]
    return total / n


def _deviation(window: Array) -> float:
    away = window - _mean(window)
    return math.sqrt(float(np.add.accumulate(away * away)[-1]) / len(window))


def _deviations(x: Array, n: int) -> Array:
    means = _means(x, n)
    total = np.zeros(len(means))
    for k in range(n):
        away = x[k : k + len(total)] - means
        total += away * away
    return np.sqrt(total / n)


def _rank(window: Array) -> float:
    last = window[-1]
    below, equal = int(np.count_nonzero(window < last)), int(np.count_nonzero(window == last))
    return (below + (equal + 1) / 2) / len(window)


def _ranks(x: Array, n: int) -> Array:
    last = x[n - 1 :]
    below, equal = np.zeros(len(last)), np.zeros(len(last))
    for k in range(n):
        other = x[k : k + len(last)]
        below += other < last
        equal += other == last
    return (below + (equal + 1) / 2) / n


_WINDOWS: dict[str, tuple[Callable[[Array], float], Callable[[Array, int], Array]]] = {
    "mean": (_mean, _means),  # 1/n sum x
    "deviation": (_deviation, _deviations),  # sqrt(1/n sum (x - mean)^2), in two passes
    "rank": (_rank, _ranks),  # of the newest: (below + (equal + 1) / 2) / n, itself among the equal
}


class Window(msgspec.Struct, frozen=True):
    """A statistic of the last `bars` values, this one included."""

    statistic: Literal["mean", "deviation", "rank"]
    bars: int
    kind: Kind = "number"

    def arrays(self, *arguments: Column) -> Any:
        (column,) = arguments
        assert isinstance(column, np.ndarray)
        n, over = self.bars, _WINDOWS[self.statistic][1]
        result = np.full(len(column), NAN)
        with np.errstate(all="ignore"):
            for start, stop in runs([column], n):
                for first in range(start, stop - n + 1, _CHUNK):
                    last = min(first + _CHUNK, stop - n + 1)  # windows that begin before it
                    result[first + n - 1 : last + n - 1] = over(column[first : last + n - 1], n)
        return finite(result)

    def steps(
        self, values: list[Any], result: int, arguments: Sequence[int], history: Sequence[Column]
    ) -> tuple[Closure, Closure]:
        (only,), (before,) = arguments, history
        assert isinstance(before, np.ndarray)
        n, statistic = self.bars, _WINDOWS[self.statistic][0]
        kept = np.empty(2 * n)  # the values of the run, newest at `stop`; slides back when it is full
        stop = 0

        def value(x: float, *, keep: bool) -> float:
            nonlocal stop
            if stop == 2 * n:
                kept[: n - 1] = kept[n + 1 :]
                stop = n - 1
            kept[stop] = x
            stop += 1
            found = NAN
            if stop >= n:
                with np.errstate(all="ignore"):
                    found = statistic(kept[stop - n : stop])
            if not keep:
                stop -= 1
            return found if found - found == 0.0 else NAN

        def push() -> None:
            nonlocal stop
            x = values[only]
            if x != x:
                stop = 0
                values[result] = NAN
            else:
                values[result] = value(x, keep=True)

        def peek() -> None:
            x = values[only]
            values[result] = NAN if x != x else value(x, keep=False)

        for x in before[-n:].tolist():
            if x != x:
                stop = 0
            else:
                kept[stop] = x
                stop += 1
        return push, peek


class Count(msgspec.Struct, frozen=True):
    """On how many of the last `bars` bars a condition was true; undefined where it was on any of them."""

    bars: int
    kind: Kind = "number"

    def arrays(self, *arguments: Column) -> Any:
        (column,) = arguments
        assert isinstance(column, np.ndarray)
        n = self.bars
        result = np.full(len(column), NAN)
        if len(column) >= n:
            true = np.concatenate(([0], np.cumsum(column > 0)))
            unknown = np.concatenate(([0], np.cumsum(column == 0)))
            known = unknown[n:] == unknown[:-n]
            result[n - 1 :][known] = (true[n:] - true[:-n])[known]
        return result

    def steps(
        self, values: list[Any], result: int, arguments: Sequence[int], history: Sequence[Column]
    ) -> tuple[Closure, Closure]:
        (only,), (before,) = arguments, history
        assert isinstance(before, np.ndarray)
        n = self.bars
        kept: deque[bool] = deque(maxlen=n)
        true = 0

        def push() -> None:
            nonlocal true
            x = values[only]
            if x is None:
                kept.clear()
                true = 0
                values[result] = NAN
                return
            if len(kept) == n:
                true -= kept[0]
            kept.append(x)
            true += x
            values[result] = float(true) if len(kept) == n else NAN

        def peek() -> None:
            x = values[only]
            if x is None or len(kept) + 1 < n:
                values[result] = NAN
            else:
                values[result] = float(true + x - (kept[0] if len(kept) == n else 0))

        for code in before[-n:].tolist():
            if code == 0:
                kept.clear()
            else:
                kept.append(code > 0)
        true = sum(kept)
        return push, peek


class Since(msgspec.Struct, frozen=True):
    """Bars since a condition was last true, 0 where it is; undefined until then, and again after it was undefined."""

    kind: Kind = "number"

    def arrays(self, *arguments: Column) -> Any:
        (column,) = arguments
        assert isinstance(column, np.ndarray)
        places = np.arange(len(column))
        true = np.maximum.accumulate(np.where(column > 0, places, -1))
        unknown = np.maximum.accumulate(np.where(column == 0, places, -1))
        return np.where(true > unknown, places - true, NAN)

    def steps(
        self, values: list[Any], result: int, arguments: Sequence[int], history: Sequence[Column]
    ) -> tuple[Closure, Closure]:
        (only,), (before,) = arguments, history
        found = self.arrays(before)
        bars = float(found[-1]) if len(found) else NAN

        def step(*, keep: bool) -> None:
            nonlocal bars
            x = values[only]
            now = NAN if x is None else 0.0 if x else bars + 1.0
            values[result] = now
            if keep:
                bars = now

        return (lambda: step(keep=True)), (lambda: step(keep=False))


class Session(msgspec.Struct, frozen=True):
    """The day so far, this bar included, or the whole of the last day before it that had bars.

    Its arguments are the column, `day` and `open_ns`. The first day is undefined unless the first bar opens with it.
    """

    fact: Fact  # volume stands for all that is added up
    previous: bool
    kind: Kind = "number"

    def _grown(self, column: Array) -> Array:
        """What the fact is at each of one day's bars."""
        with np.errstate(all="ignore"):
            if self.fact == "open":
                return np.full(len(column), column[0])
            if self.fact == "high":
                return np.maximum.accumulate(column)
            if self.fact == "low":
                return np.minimum.accumulate(column)
            return column if self.fact == "close" else np.add.accumulate(column)

    def _grow(self, total: float, x: float) -> float:
        if self.fact == "open" or total != total:
            return total
        if self.fact == "high":
            return x if x != x or x > total else total
        if self.fact == "low":
            return x if x != x or x < total else total
        return total + x

    def arrays(self, *arguments: Column) -> Any:
        column, days, open_ns = arguments
        assert isinstance(column, np.ndarray) and isinstance(days, np.ndarray) and isinstance(open_ns, np.ndarray)
        count = len(column)
        result = np.full(count, NAN)
        if count == 0:
            return result
        edges = np.flatnonzero(days[1:] != days[:-1]) + 1
        starts, stops = [0, *edges.tolist()], [*edges.tolist(), count]
        whole = bool(open_ns[0] <= days[0])
        last = NAN
        for start, stop in zip(starts, stops, strict=True):
            today = self._grown(column[start:stop])
            if self.previous:
                result[start:stop] = last
            elif whole:
                result[start:stop] = today
            last = today[-1] if whole else NAN
            whole = True
        return finite(result)

    def steps(
        self, values: list[Any], result: int, arguments: Sequence[int], history: Sequence[Column]
    ) -> tuple[Closure, Closure]:
        only, of_day, of_time = arguments
        column, days, open_ns = history
        assert isinstance(column, np.ndarray) and isinstance(days, np.ndarray) and isinstance(open_ns, np.ndarray)
        fact, previous, grow = self.fact, self.previous, self._grow
        day: float | None = None
        whole, total, last = False, NAN, NAN
        if len(column):
            day = float(days[-1])
            start = int(np.flatnonzero(days == days[-1])[0])
            total = float(self._grown(column[start:])[-1])
            whole = start > 0 or bool(open_ns[0] <= days[0])
            yesterday = Session(fact, True).arrays(column, days, open_ns)
            last = float(yesterday[-1])

        def step(*, keep: bool) -> None:
            nonlocal day, whole, total, last
            x, today = values[only], values[of_day]
            if today != day:
                before = total if whole else NAN
                now, complete = x, day is not None or values[of_time] <= today
            else:
                before, complete = last, whole
                now = x if fact == "close" else grow(total, x)
            if keep:
                day, whole, total, last = today, complete, now, before
            found = before if previous else now if complete else NAN
            values[result] = found if found - found == 0.0 else NAN

        return (lambda: step(keep=True)), (lambda: step(keep=False))
