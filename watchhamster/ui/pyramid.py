"""Any number of candles, ready to be drawn on any number of pixels.

Candles stand in time slots (see `Slots`), so a missing candle is a missing slot. Above the candles themselves lie
levels that merge them: each level joins what falls into equal groups of slots, four times as wide as the level below
(wider where candles are too sparse for that to shrink anything). A frame reads the coarsest level that is still finer
than a pixel, so its cost depends on the pixels and not on the candles.

The candles are float64 and exact; the levels above are float32, which is for pixels and not for labels.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from watchhamster.core.bars import Bars, Floats, Ints
from watchhamster.core.market import Candle
from watchhamster.core.sessions import Calendar, Part
from watchhamster.core.timeframes import SECOND_NS, Timeframe

OPEN, HIGH, LOW, CLOSE, VOLUME, VALUE, _SUM = range(7)  # rows; the last is the running sum of closes
_MERGED = 5  # rows that the upper levels have: open to volume
_TOP = 4096  # a level this small needs none above it
_DAY = dt.timedelta(days=1)
_DAY_NS = 86400 * SECOND_NS
_DAYS_AT_ONCE = (14, 366)  # the calendar is asked about so many days: for bars within a day, and for longer ones
_FULL_SHARE = 1 / 3  # of the longest day in a week; a day of less (an evening's opening) has no candle of its own


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

    def since(self, ns: int) -> int:
        """The slot that holds a moment, or the first after it."""
        return self.at(ns)

    def end_ns(self, slot: int) -> int:
        """When a slot's candle closes."""
        return self.open_ns(slot + 1)

    def hold(self, open_ns: Ints) -> bool:
        """Whether there is a slot for each of these."""
        return True

    def admit(self, open_ns: Ints, keep_ns: int | None = None) -> None:
        """Make slots for those that have none. Others get other numbers by that, but not the one of `keep_ns`."""

    def times(self, slots: Ints) -> Ints:
        """When these slots begin."""
        return np.array([self.open_ns(slot) for slot in slots.tolist()], np.int64)


class Stretch(NamedTuple):
    """A stretch of trading without a pause, and the slot it begins in."""

    since_ns: int
    until_ns: int
    slot: int


class SessionSlots(Slots):
    """The slots of a market that closes: the last one of a session is next to the first one of the next.

    Slots within a day lie on the grid of their session; those of a day or a week are one for each in which there is
    regular trading. The calendar is read as far as it is asked about. It may be wrong about a day, or know nothing of
    its market: where a candle stands and it has no session, `admit` makes a slot for that candle.
    """

    def __init__(self, timeframe: Timeframe, calendar: Calendar, open_ns: Ints) -> None:
        super().__init__(timeframe)
        self.zone: dt.tzinfo = calendar.zone
        self._calendar = calendar
        self._is_daily = timeframe.approximate_ns >= _DAY_NS
        self._step = timeframe.approximate_ns
        # Candles folded from shorter ones lie on the grid of UTC, which is not always that of the session.
        self._on_utc = bool(len(open_ns)) and not (open_ns % self._step).any()
        self._per_week = 7 if timeframe.unit == "w" else 1
        self._full = _FULL_SHARE * max((sum(p[2] - p[1] for p in _regular(h)) for h in calendar.market.week), default=0)
        centre = int(open_ns[-1]) if len(open_ns) else 0
        self._begin = self._end = self._first_day(calendar.day(centre))  # what is read of the calendar, end exclusive
        self._since, self._until, self._slot = (np.empty(0, np.int64) for _ in range(3))
        self._stop = 0  # the slot after the last
        if len(open_ns):
            self._read(int(open_ns[0]), int(open_ns[-1]))
            self.admit(open_ns)

    @staticmethod
    def suits(timeframe: Timeframe) -> bool:
        """Whether candles of a timeframe know of sessions: those of months and years do not."""
        return timeframe.ns is not None

    # ------------------------------------------------------------------ as other slots

    def of(self, open_ns: Ints) -> Ints:
        """The slots of these opening times."""
        if not len(open_ns):
            return open_ns
        self._read(int(open_ns[0]), int(open_ns[-1]))
        return self._at(open_ns)

    def at(self, ns: int) -> int:
        """The slot that holds a moment, or the last before it."""
        self._read(ns, ns)
        return int(self._at(np.array([ns], np.int64))[0])

    def since(self, ns: int) -> int:
        """The slot that holds a moment, or the first after it."""
        self._read(ns, ns)
        i = int(np.searchsorted(self._since, ns, side="right")) - 1
        held = 0 <= i < len(self._since) - 1 and ns >= self._until[i]
        return self.at(ns) + held

    def open_ns(self, slot: int) -> int:
        """When a slot begins."""
        return int(self.times(np.array([slot], np.int64))[0])

    def end_ns(self, slot: int) -> int:
        """When a slot's candle closes: a day's with its last session."""
        open_ns = self.open_ns(slot)
        i = int(np.searchsorted(self._since, open_ns, side="right")) - 1
        if self._is_daily:
            regular = self._calendar.regular(self._calendar.day(open_ns))
            return regular[-1].until_ns if regular and self._per_week == 1 else int(self._until[i])
        return min(open_ns + self._step, int(self._until[i])) if i >= 0 else open_ns + self._step

    def hold(self, open_ns: Ints) -> bool:
        """Whether there is a slot for each of these."""
        if not len(open_ns):
            return True
        self._read(int(open_ns[0]), int(open_ns[-1]))
        return not self._outside(open_ns).any()

    def admit(self, open_ns: Ints, keep_ns: int | None = None) -> None:
        """Make slots for those that have none. Others get other numbers by that, but not the one of `keep_ns`."""
        fresh = np.unique(open_ns[self._outside(open_ns)])
        if not len(fresh):
            return
        place = int(np.searchsorted(self._since, fresh[-1] if keep_ns is None else keep_ns, side="right")) - 1
        kept = (int(self._since[place]), int(self._slot[place])) if len(self._since) else (int(fresh[0]), 0)
        since = np.concatenate((self._since, fresh))
        until = np.concatenate((self._until, fresh + self._step))
        order = np.argsort(since, kind="stable")
        since, until = since[order], until[order]
        until[:-1] = np.minimum(until[:-1], since[1:])
        self._since, self._until = since, until
        self._number(int(np.searchsorted(since, kept[0])), kept[1])

    def times(self, slots: Ints) -> Ints:
        """When these slots begin."""
        if not len(slots):
            return slots
        self._read_slots(int(slots[0]), int(slots[-1]))
        if not len(self._since):
            return slots * self._step
        i = np.clip(np.searchsorted(self._slot, slots, side="right") - 1, 0, None)
        return np.asarray(self._since[i] + (slots - self._slot[i]) * self._step, np.int64)

    # ------------------------------------------------------------------ of sessions

    def stretches(self, first: int, last: int) -> list[Stretch]:
        """The stretches of trading that the slots `[first, last]` belong to."""
        self._read_slots(first, last)
        i = max(0, int(np.searchsorted(self._slot, first, side="right")) - 1)
        j = int(np.searchsorted(self._slot, last, side="right"))
        columns = (self._since[i:j].tolist(), self._until[i:j].tolist(), self._slot[i:j].tolist())
        return [Stretch(*row) for row in zip(*columns, strict=True)]

    def _at(self, ns: Ints) -> Ints:
        if not len(self._since):
            return ns // self._step
        i = np.searchsorted(self._since, ns, side="right") - 1
        j = np.clip(i, 0, None)
        slots = self._slot[j] + (ns - self._since[j]) // self._step
        # In a pause it is the last before; beyond what the calendar tells, time runs on without pauses.
        last = np.append(self._slot[1:], self._stop) - 1
        return np.asarray(np.where(j < len(self._since) - 1, np.minimum(slots, last[j]), slots), np.int64)

    def _outside(self, open_ns: Ints) -> NDArray[np.bool_]:
        if not len(self._since):
            return np.ones(len(open_ns), bool)
        i = np.searchsorted(self._since, open_ns, side="right") - 1
        return np.asarray((i < 0) | (open_ns >= self._until[np.clip(i, 0, None)]), bool)

    def _number(self, place: int, number: int) -> None:
        """Count the slots anew, so that the stretch at a place begins with a number."""
        counts = np.ones(len(self._since), np.int64)
        if not self._is_daily:
            counts = -((self._since - self._until) // self._step)
        ends = np.cumsum(counts)
        starts = ends - counts
        self._slot = starts - starts[place] + number
        self._stop = int(self._slot[-1] + counts[-1]) if len(counts) else number

    def _read(self, since_ns: int, until_ns: int) -> None:
        """Have the calendar read around this time."""
        if not self._calendar.market.has_hours:
            return
        first = self._first_day(self._calendar.day(since_ns))
        last = self._calendar.day(until_ns)
        margin = _DAYS_AT_ONCE[self._is_daily] * _DAY
        if first - 7 * _DAY < self._begin or not len(self._since):
            self._extend(self._first_day(first - margin), self._begin)
        if last + 7 * _DAY >= self._end:
            self._extend(self._end, self._first_day(last + margin))

    def _read_slots(self, first: int, last: int) -> None:
        """Have it read as far as these slots."""
        margin = _DAYS_AT_ONCE[self._is_daily] * _DAY
        if not self._calendar.market.has_hours or not len(self._since):
            return
        years = 200
        while first < self._slot[0] and self._begin.year > 1800 and years:
            self._extend(self._first_day(self._begin - margin), self._begin)
            years -= 1
        while last >= self._stop and self._end.year < 2200 and years:
            self._extend(self._end, self._first_day(self._end + margin))
            years -= 1

    def _extend(self, begin: dt.date, end: dt.date) -> None:
        """Take in the days `[begin, end)`, which are next to those that have been."""
        rows = list(self._stretches_of(begin, end))
        before = begin < self._begin
        self._begin, self._end = min(self._begin, begin), max(self._end, end)
        if not rows:
            return
        since, until = (np.array(column, np.int64) for column in zip(*rows, strict=True))
        if len(self._since):  # candles of days nobody had read may have been admitted
            free = ~np.array([bool(((s < self._until) & (u > self._since)).any()) for s, u in rows])
            since, until = since[free], until[free]
        anchor = (int(self._since[0]), int(self._slot[0])) if len(self._since) else None
        parts = ((since, self._since), (until, self._until)) if before else ((self._since, since), (self._until, until))
        self._since, self._until = (np.concatenate(part) for part in parts)
        if not len(self._since):
            return
        order = np.argsort(self._since, kind="stable")
        self._since, self._until = self._since[order], self._until[order]
        place, number = (int(np.searchsorted(self._since, anchor[0])), anchor[1]) if anchor is not None else (0, 0)
        self._number(place, number)

    def _stretches_of(self, begin: dt.date, end: dt.date) -> list[tuple[int, int]]:
        calendar, day = self._calendar, begin
        rows: list[tuple[int, int]] = []
        while day < end:
            after = day + self._per_week * _DAY
            regular = calendar.regular(day)
            if self._per_week > 1:
                rows.append((calendar.midnight_ns(day), calendar.midnight_ns(after)))
            elif self._is_daily:
                if sum(s.until_ns - s.since_ns for s in regular) / (60 * SECOND_NS) > self._full:
                    rows.append((calendar.midnight_ns(day), calendar.midnight_ns(after)))
            else:
                for segment in regular:
                    since, until = segment.since_ns, segment.until_ns
                    if self._on_utc:
                        since = self.timeframe.open_ns(since)
                    if rows and since <= rows[-1][1] and (since - rows[-1][0]) % self._step == 0:
                        rows[-1] = (rows[-1][0], max(until, rows[-1][1]))  # it runs on, past midnight
                    else:
                        rows.append((max(since, rows[-1][1]) if rows else since, until))
            day = after
        return rows

    def _first_day(self, day: dt.date) -> dt.date:
        return day - day.weekday() * _DAY if self._per_week > 1 else day


def _regular(hours: Iterable[Part]) -> list[Part]:
    return [part for part in hours if part[0] == "regular"]


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
        self._runs = [_Run(np.empty(0, np.int64), np.empty((_SUM + 1, 0)))]
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

    def bars(self) -> Bars:
        """The candles themselves."""
        base = self._runs[0]
        return Bars(self.slots.times(base.keys), *(np.array(row, np.float64) for row in base.rows[:_SUM]))

    # ------------------------------------------------------------------ change

    def put(self, candle: Candle) -> None:
        """Add a candle, or replace the one in its slot; at the newest slots that touches one group a level."""
        nan = float("nan")
        volume, value = (nan if x is None else x for x in (candle.volume, candle.value))
        row = np.array([candle.open, candle.high, candle.low, candle.close, volume, value, 0.0])
        self._admit(np.array([candle.open_ns], np.int64))
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

    def _admit(self, open_ns: Ints) -> None:
        """Have a slot for each of these, even if what is here has to be numbered anew."""
        if not self.slots.hold(open_ns):
            base = self._runs[0]
            times = self.slots.times(base.keys)
            self.slots.admit(open_ns, int(times[-1]) if len(times) else None)
            self._replace(self.slots.of(times), base.rows.astype(np.float64))

    def _columns_of(self, bars: Bars) -> tuple[Ints, Floats]:
        self._admit(bars.open_ns)
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
