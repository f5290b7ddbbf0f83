"""Any number of candles, ready to be drawn on any number of pixels.

Candles stand in time slots (see `Slots`), so a missing candle is a missing slot. Above the candles themselves lie
levels that merge them: each level joins what falls into equal groups of slots, four times as wide as the level below
(wider where candles are too sparse for that to shrink anything). A frame reads the coarsest level that is still finer
than a pixel, so its cost depends on the pixels and not on the candles.

The candles are float64 and exact; the levels above are float32, which is for pixels and not for labels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from watchhamster.core.bars import Bars, Floats, Ints
from watchhamster.core.market import Candle
from watchhamster.core.timeframes import Timeframe

OPEN, HIGH, LOW, CLOSE, VOLUME, VALUE, _SUM = range(7)  # rows; the last is the running sum of closes
_MERGED = 5  # rows that the upper levels have: open to volume
_TOP = 4096  # a level this small needs none above it


class Slots:
    """The places in time where candles of a timeframe may stand, numbered; a slot's number never changes."""

    def __init__(self, timeframe: Timeframe) -> None:
        self.timeframe = timeframe
        self._ns = timeframe.ns or 0
        self._months = timeframe.count * (12 if timeframe.unit == "y" else 1) if timeframe.ns is None else 0
        self._anchor = timeframe.open_ns(0) if timeframe.ns is not None else 0

    def of(self, open_ns: Ints) -> Ints:
        """The slots of these opening times."""
        if self._months:
            months = open_ns.view("datetime64[ns]").astype("datetime64[M]").astype(np.int64)
            return np.asarray(months // self._months, np.int64)
        return (open_ns - self._anchor) // self._ns

    def at(self, ns: int) -> int:
        """The slot that holds a moment."""
        if self._ns:
            return (ns - self._anchor) // self._ns
        return int(self.of(np.array([ns], np.int64))[0])

    def open_ns(self, slot: int) -> int:
        """When a slot begins."""
        if self._months:
            return int(np.datetime64(slot * self._months, "M").astype("datetime64[ns]").astype(np.int64))
        return slot * self._ns + self._anchor


class Columns(NamedTuple):
    """What there is to draw. `values` has the rows open, high, low, close, volume (0 where unknown).

    `x` holds slots where every candle has a pixel or more to itself; else (`merged`) pixel columns from the left edge,
    each of which shows all candles in it as one. Either way ascending, and without the empty ones.
    """

    x: Ints
    values: NDArray[np.floating]
    merged: bool


class _Run:
    """Rows of numbers under ascending keys, with room to grow at both ends."""

    def __init__(self, keys: Ints, rows: NDArray[np.floating]) -> None:
        self._keys, self._rows = keys, rows
        self._start, self._stop = 0, len(keys)

    @property
    def keys(self) -> Ints:
        return self._keys[self._start : self._stop]

    @property
    def rows(self) -> NDArray[np.floating]:
        return self._rows[:, self._start : self._stop]

    def __len__(self) -> int:
        return self._stop - self._start

    def insert(self, at: int, keys: Ints, rows: NDArray[np.floating]) -> None:
        """Put rows before position `at`. At either end that costs no more than the rows themselves, on average."""
        n = len(keys)
        if at == len(self) and self._stop + n <= len(self._keys):
            start, self._stop = self._stop, self._stop + n
        elif at == 0 and self._start >= n:
            self._start -= n
            start = self._start
        else:
            start = self._reallocate(at, n)
        self._keys[start : start + n] = keys
        self._rows[:, start : start + n] = rows

    def _reallocate(self, at: int, n: int) -> int:
        """Make a hole of `n` at a position, and room at the end that grows; returns where the hole begins."""
        size = len(self) + n
        room = 256 + size // 2
        left = room if at == 0 else 0
        keys = np.empty(size + room, np.int64)
        rows = np.empty((len(self._rows), size + room), self._rows.dtype)
        for new, old in ((keys, self.keys), *zip(rows, self.rows, strict=True)):
            new[left : left + at] = old[:at]
            new[left + at + n : left + size] = old[at:]
        self._keys, self._rows, self._start, self._stop = keys, rows, left, left + size
        return left + at


class Pyramid:
    """The candles of one series and the levels above them."""

    def __init__(self, bars: Bars, slots: Slots) -> None:
        self.slots = slots
        self._replace(*self._columns_of(bars))

    def __len__(self) -> int:
        return len(self._runs[0])

    @property
    def first(self) -> int:
        """The oldest candle's slot. There must be one."""
        return int(self._runs[0].keys[0])

    @property
    def last(self) -> int:
        """The newest candle's slot. There must be one."""
        return int(self._runs[0].keys[-1])

    @property
    def nbytes(self) -> int:
        """Memory of all levels, room to grow included."""
        return sum(run._keys.nbytes + run._rows.nbytes for run in self._runs)

    def candle(self, slot: int) -> tuple[float, float, float, float, float, float] | None:
        """Open, high, low, close, volume and value in a slot (exact; NaN: unknown), or None: no candle there."""
        base = self._runs[0]
        i = int(np.searchsorted(base.keys, slot))
        if i == len(base) or base.keys[i] != slot:
            return None
        o, h, lo, c, v, q = base.rows[:_SUM, i].tolist()
        return o, h, lo, c, v, q

    def before(self, slot: int) -> int | None:
        """The nearest slot with a candle before this one."""
        keys = self._runs[0].keys
        i = int(np.searchsorted(keys, slot))
        return int(keys[i - 1]) if i else None

    # ------------------------------------------------------------------ change

    def put(self, candle: Candle) -> None:
        """Add a candle, or replace the one in its slot; at the newest slots that touches one group a level."""
        nan = float("nan")
        volume, value = (nan if x is None else x for x in (candle.volume, candle.value))
        row = np.array([candle.open, candle.high, candle.low, candle.close, volume, value, 0.0])
        slot = self.slots.at(candle.open_ns)
        base = self._runs[0]
        i = int(np.searchsorted(base.keys, slot))
        if i == len(base) or base.keys[i] != slot:
            base.insert(i, np.array([slot], np.int64), row[:, None])
        else:
            base.rows[:, i] = row
        closes = base.rows[CLOSE, i:]
        base.rows[_SUM, i:] = np.cumsum(closes) + (base.rows[_SUM, i - 1] if i else 0.0)
        self._merge_again(slot)
        self._raise()

    def add(self, bars: Bars) -> None:
        """Add many candles; where a slot has one already, the new one counts. Older history is cheap to add."""
        keys, rows = self._columns_of(bars)
        base = self._runs[0]
        if not len(keys):
            return
        if len(base) and keys[-1] >= base.keys[0]:
            kept = ~np.isin(base.keys, keys)
            both = np.concatenate((base.keys[kept], keys))
            order = np.argsort(both, kind="stable")
            self._replace(both[order], np.concatenate((base.rows[:, kept], rows), axis=1)[:, order])
            return
        rows[_SUM] = np.cumsum(rows[CLOSE])
        if len(base):  # only differences of the sums matter, so older ones may start anywhere that fits
            rows[_SUM] += base.rows[_SUM, 0] - base.rows[CLOSE, 0] - rows[_SUM, -1]
        base.insert(0, keys, rows)
        for lower, run, by in zip(self._runs, self._runs[1:], self._steps, strict=False):
            boundary = int(run.keys[0]) << by  # the group on the seam may have gained members
            fresh = slice(0, int(np.searchsorted(lower.keys, boundary)))
            if fresh.stop:
                run.insert(0, *_merged(lower.keys[fresh], lower.rows[:, fresh], by))
            self._merge_group(lower, run, by, boundary >> by)
        self._raise()

    def _columns_of(self, bars: Bars) -> tuple[Ints, Floats]:
        rows = np.empty((7, len(bars)))
        for i, column in enumerate((bars.open, bars.high, bars.low, bars.close, bars.volume, bars.value)):
            rows[i] = column
        keys = self.slots.of(bars.open_ns)
        if len(keys) and (keys[1:] == keys[:-1]).any():  # a venue may answer the open day twice: the later counts
            last = np.append(keys[1:] != keys[:-1], True)
            return keys[last], rows[:, last]
        return keys, rows

    def _replace(self, keys: Ints, rows: Floats) -> None:
        rows[_SUM] = np.cumsum(rows[CLOSE])
        self._runs = [_Run(keys, rows)]
        self._steps: list[int] = []  # of each level above the first: log2 of how many keys below make one of its own
        self._raise()

    def _raise(self) -> None:
        """Build levels until the top is small."""
        while len(top := self._runs[-1]) > _TOP:
            by = 2
            while by < 40 and np.count_nonzero(np.diff(top.keys >> by)) >= len(top) // 2:
                by += 2  # too sparse to be worth a level: try wider groups
            self._runs.append(_Run(*_merged(top.keys, top.rows, by)))
            self._steps.append(by)

    def _merge_again(self, slot: int) -> None:
        """Recompute the groups that hold a slot, level by level."""
        key = slot
        for lower, run, by in zip(self._runs, self._runs[1:], self._steps, strict=False):
            key >>= by
            self._merge_group(lower, run, by, key)

    @staticmethod
    def _merge_group(lower: _Run, run: _Run, by: int, key: int) -> None:
        members = slice(*np.searchsorted(lower.keys, (key << by, (key + 1) << by)).tolist())
        group = _merged(lower.keys[members], lower.rows[:, members], by)
        i = int(np.searchsorted(run.keys, key))
        if i < len(run) and run.keys[i] == key:
            run.rows[:, i] = group[1][:, 0]
        else:
            run.insert(i, *group)

    # ------------------------------------------------------------------ read

    def columns(self, first: float, last: float, width: int) -> Columns:
        """What `[first, last)`, in slots, shows on `width` pixels: at most `width` + 2 columns.

        Merged columns are cut at multiples of their own width counted from slot 0, so they keep their shapes while the
        view moves; a candle is drawn less than a pixel from its place.
        """
        pitch = (last - first) / width  # slots a pixel
        level, shift = 0, 0
        while level < len(self._steps) and 1 << (shift + self._steps[level]) <= pitch:
            shift += self._steps[level]
            level += 1
        run = self._runs[level]
        # A group belongs to the view when its first slot does; the group on the left edge belongs to it too.
        start, stop = np.searchsorted(run.keys, (int(np.floor(first)) >> shift, -(-int(np.ceil(last)) >> shift)))
        keys, rows = run.keys[start:stop], run.rows[:_MERGED, start:stop]
        if pitch <= 1.0:
            values = rows.astype(np.float64)
            np.nan_to_num(values[VOLUME], copy=False)
            return Columns(keys, values, merged=False)
        x = np.floor((keys << shift) / pitch).astype(np.int64) - int(np.floor(first / pitch))
        starts = _starts(x)
        return Columns(x[starts], _reduced(rows, starts), merged=True)

    def average(self, period: int, slots: Ints) -> Floats:
        """The mean close of the `period` candles up to each slot (or the candle before it); NaN where too few."""
        base = self._runs[0]
        result = np.full(len(slots), np.nan)
        end = np.searchsorted(base.keys, slots, side="right")
        enough = end >= period
        i = end[enough]
        sums, closes = base.rows[_SUM], base.rows[CLOSE]
        before = sums[i - period] - closes[i - period]  # the sum up to, without, the first of them
        result[enough] = (sums[i - 1] - before) / period
        return result


def _starts(keys: Ints) -> Ints:
    """Where runs of equal keys begin."""
    if not len(keys):
        return np.empty(0, np.int64)
    return np.concatenate(([0], np.flatnonzero(keys[1:] != keys[:-1]) + 1))


def _merged(keys: Ints, rows: NDArray[np.floating], by: int) -> tuple[Ints, NDArray[np.floating]]:
    """Rows joined where their keys, shifted right by `by` bits, are equal."""
    groups = keys >> by
    starts = _starts(groups)
    return groups[starts], _reduced(rows, starts)


def _reduced(rows: NDArray[np.floating], starts: Ints) -> NDArray[np.floating]:
    """One candle for each stretch of candles, in float32."""
    result = np.empty((_MERGED, len(starts)), np.float32)
    if len(starts):
        result[OPEN] = rows[OPEN, starts]
        result[HIGH] = np.maximum.reduceat(rows[HIGH], starts)
        result[LOW] = np.minimum.reduceat(rows[LOW], starts)
        result[CLOSE] = rows[CLOSE, np.append(starts[1:], rows.shape[1]) - 1]
        result[VOLUME] = np.add.reduceat(np.nan_to_num(rows[VOLUME]), starts)
    return result
