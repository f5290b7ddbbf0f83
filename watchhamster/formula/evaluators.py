"""The two ways to evaluate a graph: a `Program` is some of its nodes and what they need,

- over arrays: `Program.over(bars)` gives each root's value on every bar, a numpy call a node;
- one bar at a time: `Program.stepper()` keeps one value a node and a closure each; `push` takes the next closed bar,
  `peek` values a forming one without remembering it.

Bars of other frames close between the given ones, in the order of time: of what closes together the longer comes first,
and another instrument's before ours, since those may be read. A longer bar is over when the last bar that belongs to it
closes, or when a later one opens; another instrument's also when one of ours closes that late.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec
import numpy as np

from watchhamster.core.bars import Bars, Ints
from watchhamster.core.candles import fold_bars
from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text
from watchhamster.core.timeframes import UTC, Grid, Timeframe, timeframe
from watchhamster.formula.graph import (
    COLUMNS,
    NAN,
    NOTHING,
    OWN,
    Align,
    Array,
    Bar,
    Closure,
    Column,
    Constant,
    Frame,
    Kind,
    Node,
    Series,
    Value,
    Values,
    finite,
    scalars,
)

FED_MAX = 100_000
DAY, MINUTE = timeframe("1d"), timeframe("1m")


def everywhere_utc(_instrument: str) -> Grid:
    """Bars and days by UTC, as of venues that never close."""
    return UTC


V = TypeVar("V")


class _Rows(msgspec.Struct, eq=False):
    """The closed bars of a frame."""

    bars: Bars
    ends_ns: Ints | None  # when each closes; None: of the given bars, whose timeframe nobody asks for


Rows: TypeAlias = Mapping[Frame, _Rows]


class _Folded(msgspec.Struct, gc=False):
    """A longer bar, from the bars that open in it; a `Bar`."""

    open_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    value: float
    adjustment: float

    @classmethod
    def begun(cls, open_ns: int, bar: Bar) -> _Folded:
        volume, value = bar.volume, bar.value
        return cls(
            open_ns,
            bar.open,
            bar.high,
            bar.low,
            bar.close,
            NAN if volume is None else 0.0 + volume,
            NAN if value is None else 0.0 + value,
            _adjustment(bar),
        )

    def and_then(self, bar: Bar) -> _Folded:
        volume, value = bar.volume, bar.value
        return _Folded(
            self.open_ns,
            self.open,
            bar.high if bar.high > self.high else self.high,
            bar.low if bar.low < self.low else self.low,
            bar.close,
            self.volume + (NAN if volume is None else volume),
            self.value + (NAN if value is None else value),
            _adjustment(bar),
        )


def _adjustment(bar: Bar) -> float:
    factor: float | None = getattr(bar, "adjustment", None)
    return 1.0 if factor is None else factor


class _Fold:
    """A frame's bars as they grow out of shorter ones."""

    def __init__(self, frame: Frame, base: Timeframe, grid: Grid) -> None:
        self.frame = frame
        self.longer = timeframe(frame.timeframe)
        self.base = base
        self.grid = grid
        self.open_ns: int | None = None  # of the bar that is growing; None: none has come
        self.growing: _Folded | None = None  # None: it has closed, or is not complete

    def late(self, moment: int) -> tuple[int, Bar] | None:
        """The bar that is over though none came that ends it, since it is a later moment, and when it closed."""
        if self.growing is None or self.open_ns is None:
            return None
        end_ns = self.grid.end_ns(self.longer, self.open_ns)
        if moment < end_ns:
            return None
        bar, self.growing = self.growing, None
        return end_ns, bar

    def grown(self, bar: Bar) -> tuple[int, int, _Folded | None]:
        """Where the bar that holds this one opens and closes, and itself with this one."""
        open_ns = self.grid.open_ns(self.longer, bar.open_ns)
        grown: _Folded | None = None
        if open_ns != self.open_ns:
            if self.open_ns is not None or bar.open_ns <= _first_ns(self.grid, self.base, self.longer, open_ns):
                grown = _Folded.begun(open_ns, bar)
        elif self.growing is not None:
            grown = self.growing.and_then(bar)
        return open_ns, self.grid.end_ns(self.longer, open_ns), grown

    def add(self, bar: Bar) -> tuple[int, Bar] | None:
        """The bar that is over with this one, and when it closed."""
        self.open_ns, end_ns, self.growing = self.grown(bar)
        if self.growing is None or self.grid.end_ns(self.base, bar.open_ns) < end_ns:
            return None
        closed, self.growing = self.growing, None
        return end_ns, closed


class _Steps(msgspec.Struct, eq=False):
    """What happens when a bar of a frame closes."""

    columns: list[tuple[int, Callable[[Any], Any]]]  # place, how to read it of a bar
    inputs: list[tuple[int, str]]
    pushes: list[Closure]
    peeks: list[Closure]

    def read(self, values: list[Any], bar: Bar, inputs: Mapping[str, float]) -> None:
        for place, column in self.columns:
            x = column(bar)
            values[place] = NAN if x is None or x - x != 0.0 else float(x)
        for place, name in self.inputs:
            x = inputs.get(name)
            if x is None:
                x = getattr(bar, name, None)
            values[place] = NAN if x is None or x - x != 0.0 else float(x)


class Stepper(Generic[V]):
    """Evaluates one bar at a time. Give it every closed bar once, in order.

    `inputs` are numbers of this very bar by name, for formulas that have some: what is absent is undefined.
    """

    def __init__(self, values: list[Any], steps: _Steps, result: Callable[[list[Any]], V]) -> None:
        self._values = values
        self._steps = steps
        self._result = result

    def push(self, bar: Bar, inputs: Mapping[str, float] = NOTHING) -> V:
        """The value on the next closed bar."""
        values = self._values
        self._steps.read(values, bar, inputs)
        for step in self._steps.pushes:
            step()
        return self._result(values)

    def peek(self, bar: Bar, inputs: Mapping[str, float] = NOTHING) -> V:
        """What `push(bar)` would give; nothing is remembered, so a forming bar may be shown as often as it changes."""
        values = self._values
        self._steps.read(values, bar, inputs)
        for step in self._steps.peeks:
            step()
        return self._result(values)

    def feed(self, frame: Frame, bar: Bar) -> None:
        """A closed bar of a frame that is given rather than folded, oldest first.

        A formula reads it on bars that close no earlier, so it must be fed before those are pushed; it may be sooner,
        by less than `FED_MAX` bars.
        """
        raise AssertionError(f"no formula reads {frame}")


_Event: TypeAlias = tuple[int, int, bool, Frame, Bar]  # when it closed, its negative length, whether ours


class _FramedStepper(Stepper[V]):
    """One whose formulas read other frames too: their bars close between ours, in the order of time."""

    def __init__(
        self,
        values: list[Any],
        steps: Mapping[Frame, _Steps],
        result: Callable[[list[Any]], V],
        base: Timeframe,
        grids: Callable[[str], Grid],
        folds: Sequence[_Fold],
        fed: Iterable[Frame],
    ) -> None:
        super().__init__(values, steps[OWN], result)
        self._frames = steps
        self._base = base
        self._grids = grids
        self._folds: dict[str, list[_Fold]] = {}
        for fold in folds:
            self._folds.setdefault(fold.frame.instrument, []).append(fold)
        self._queues: dict[Frame, deque[Bar]] = {frame: deque() for frame in fed}

    def feed(self, frame: Frame, bar: Bar) -> None:
        queue = self._queues[frame]
        assert len(queue) < FED_MAX, f"{FED_MAX} bars of {frame} were fed, and none of ours was pushed"
        queue.append(bar)

    def wait(self, frame: Frame, bars: Iterable[Bar]) -> None:
        """Bars that were given with the history, and close after it."""
        self._queues[frame].extend(bars)

    def push(self, bar: Bar, inputs: Mapping[str, float] = NOTHING) -> V:
        events = list(self._closed_before(bar))
        for fold in self._folds.get("", ()):
            closed = fold.add(bar)
            events += [] if closed is None else [_event(fold, closed)]
        self._run(events)
        return super().push(bar, inputs)

    def peek(self, bar: Bar, inputs: Mapping[str, float] = NOTHING) -> V:
        self._run(self._closed_before(bar))  # over, whatever becomes of this bar
        values, before = self._values, self._values.copy()
        closing = []
        for fold in self._folds.get("", ()):
            _open_ns, end_ns, grown = fold.grown(bar)
            if grown is not None and self._grids("").end_ns(self._base, bar.open_ns) >= end_ns:
                closing.append(_event(fold, (end_ns, grown)))
        for *_, frame, longer in sorted(closing, key=_in_time):
            steps = self._frames[frame]
            steps.read(values, longer, NOTHING)
            for step in steps.peeks:
                step()
        found = super().peek(bar, inputs)
        values[:] = before
        return found

    def _run(self, events: Iterable[_Event]) -> None:
        for *_, frame, bar in sorted(events, key=_in_time):
            steps = self._frames.get(frame)
            if steps is not None:
                steps.read(self._values, bar, NOTHING)
                for step in steps.pushes:
                    step()

    def _closed_before(self, bar: Bar) -> Iterator[_Event]:
        """What closed without this bar, and no later than it."""
        for fold in self._folds.get("", ()):
            if (closed := fold.late(bar.open_ns)) is not None:
                yield _event(fold, closed)
        until_ns = self._grids("").end_ns(self._base, bar.open_ns)
        for frame, queue in self._queues.items():
            length = timeframe(frame.timeframe) if frame.timeframe else self._base
            grid = self._grids(frame.instrument)
            while queue and (end_ns := grid.end_ns(length, queue[0].open_ns)) <= until_ns:
                other = queue.popleft()
                yield end_ns, -length.approximate_ns, frame.instrument == "", frame, other
                if not frame.timeframe:
                    for fold in self._folds.get(frame.instrument, ()):
                        if (closed := fold.late(other.open_ns)) is not None:
                            yield _event(fold, closed)
                        if (closed := fold.add(other)) is not None:
                            yield _event(fold, closed)
        for instrument, folds in self._folds.items():
            for fold in folds if instrument else ():
                if (closed := fold.late(until_ns)) is not None:
                    yield _event(fold, closed)


def _event(fold: _Fold, closed: tuple[int, Bar]) -> _Event:
    return closed[0], -fold.longer.approximate_ns, fold.frame.instrument == "", fold.frame, closed[1]


def _in_time(event: _Event) -> tuple[int, int, bool]:
    """Of what closes together the longer come first, and others' before ours: those that may be read."""
    return event[:3]


class Program:
    """Some nodes of one graph, and what they need, ready to be evaluated together.

    `timeframe` is that of the bars that will be given; only formulas with other frames need it. `given` holds the
    frames whose bars have to be given besides (see `others` of `over` and `stepper`, and `Stepper.feed`). `grids` says
    where an instrument's bars and days begin; the empty name is that of the bars given. `inputs` are the names of what
    comes with each bar from elsewhere, live fields included.
    """

    def __init__(
        self, roots: Sequence[Node], timeframe: Timeframe | None = None, grids: Callable[[str], Grid] = everywhere_utc
    ) -> None:
        self.roots = tuple(roots)
        self.timeframe = timeframe
        self.grids = grids
        needed: dict[int, Node] = {}
        waiting = list(roots)
        while waiting:
            node = waiting.pop()
            if node.index not in needed:
                needed[node.index] = node
                waiting.extend(node.arguments)
        self.nodes = [needed[index] for index in sorted(needed)]
        self.first_value = max((root.first_value for root in roots), default=0)
        self.warm_up = max((root.warm_up for root in roots), default=0)
        frames = {node.frame for node in self.nodes if node.frame is not None} - {OWN}
        self.frames = sorted(frames, key=lambda f: (f.instrument, f.timeframe))
        self.given = tuple(sorted({Frame(f.instrument) for f in frames if f.instrument}, key=lambda f: f.instrument))
        self.inputs = frozenset(
            node.operation.name
            for node in self.nodes
            if isinstance(node.operation, Series) and is_input(node.operation)
        )
        self._place = {node.index: place for place, node in enumerate(self.nodes)}
        self._last_use = {a.index: node.index for node in self.nodes for a in node.arguments}
        self._last_use |= {root.index: -1 for root in roots}

    # -- over arrays

    def over(
        self,
        bars: Bars,
        others: Mapping[Frame, Bars] = NOTHING,
        inputs: Mapping[str, Array] = NOTHING,
    ) -> tuple[Values, ...]:
        """Each root's value on every bar.

        `others` are the bars of other frames: those of another instrument, in our timeframe; a longer timeframe's,
        which otherwise are folded from the shorter ones. What is absent has no bars. `inputs`: a column a name.
        """
        columns = self._columns(self.rows(bars, others), inputs, {}, keep=False)
        return self._values(columns, len(bars))

    def evaluate(self, rows: Rows, columns: MutableMapping[int, Any]) -> tuple[Values, ...]:
        """The same with the columns that are known already, by node; those it computes are added to them."""
        return self._values(self._columns(rows, NOTHING, columns, keep=True), len(rows[OWN].bars))

    def _values(self, columns: Mapping[int, Any], count: int) -> tuple[Values, ...]:
        return tuple(Values(root.kind, self._spread(columns[root.index], count)) for root in self.roots)

    @staticmethod
    def _spread(column: Column, count: int) -> Array:
        return column if isinstance(column, np.ndarray) else np.full(count, column)

    def rows(self, bars: Bars, others: Mapping[Frame, Bars]) -> dict[Frame, _Rows]:
        """The closed bars of every frame."""
        if not self.frames:
            return {OWN: _Rows(bars, None)}
        if self.timeframe is None:
            raise UsageError(
                "bad_formula",
                Text("at and of need to know how long the bars are."),
                Text("Name the timeframe of the bars."),
                position=0,
            )
        found: dict[Frame, _Rows] = {}
        for frame in (OWN, *self.given):
            rows = bars if frame == OWN else others.get(frame, _EMPTY)
            found[frame] = _Rows(rows, _ends(rows, self.timeframe, self.grids(frame.instrument)))
        for frame in self.frames:
            if frame in found:
                continue
            length = timeframe(frame.timeframe)
            longer = others.get(frame)
            if longer is None:
                found[frame] = _folded(
                    found[Frame(frame.instrument)], self.timeframe, length, self.grids(frame.instrument)
                )
            else:
                found[frame] = _Rows(longer, _ends(longer, length, self.grids(frame.instrument)))
        return found

    def _columns(
        self,
        rows: Rows,
        inputs: Mapping[str, Array],
        columns: MutableMapping[int, Any],
        *,
        keep: bool,
    ) -> MutableMapping[int, Any]:
        """Every node's values by node index; without `keep`, those that nobody needs any more are dropped."""
        for node in self.nodes:
            index, operation = node.index, node.operation
            if index in columns:
                continue
            if isinstance(operation, Series):
                columns[index] = self._leaf(rows[operation.frame].bars, operation, inputs)
                continue
            if isinstance(operation, Align):
                (inner,) = node.arguments
                assert inner.frame is not None
                columns[index] = _aligned(columns[inner.index], rows[inner.frame], rows[operation.frame])
            else:
                columns[index] = operation.arrays(*(columns[a.index] for a in node.arguments))
            if not keep:
                for argument in {a.index for a in node.arguments}:
                    if self._last_use[argument] == index:
                        del columns[argument]
        return columns

    def _leaf(self, bars: Bars, series: Series, inputs: Mapping[str, Array]) -> Array:
        name = series.name
        if name in COLUMNS:
            return finite(getattr(bars, name))
        if name == "open_ns":
            return bars.open_ns
        if name == "day":
            return self._days(series).all(bars.open_ns)
        if name == "adjustment":
            return np.ones(len(bars)) if bars.adjustment is None else finite(bars.adjustment)
        given = inputs.get(name)
        if given is None:
            return np.full(len(bars), NAN)
        return finite(np.ascontiguousarray(given, np.float64))

    def _days(self, series: Series) -> _Days:
        return _Days(self.grids(series.frame.instrument), self.timeframe or MINUTE)

    def moments(self, bars: Bars, others: Mapping[Frame, Bars] = NOTHING) -> Moments:
        """For formulas with inputs that are only known as a run goes along: all the rest is evaluated now."""
        return Moments(self, self.rows(bars, others))

    # -- one bar at a time

    def stepper(
        self, history: Bars | None = None, others: Mapping[Frame, Bars] = NOTHING
    ) -> Stepper[tuple[Value, ...]]:
        """A stepper that stands where pushing the history's bars would have brought it; it gives one value a root.

        `others` is the history of other frames. A longer timeframe that is named there (its bars may be none) is fed
        from then on, not folded.
        """
        roots = [self._place[root.index] for root in self.roots]

        def result(values: list[Any]) -> tuple[Value, ...]:
            return tuple([None if (x := values[root]) != x else x for root in roots])

        return self._stepper(history, others, result)

    def stepper_of_first(self, history: Bars | None = None, others: Mapping[Frame, Bars] = NOTHING) -> Stepper[Value]:
        """The same for the first root alone: a bare value a bar."""
        root = self._place[self.roots[0].index]

        def result(values: list[Any]) -> Value:
            x: Value = values[root]
            return None if x != x else x

        return self._stepper(history, others, result)

    def _stepper(
        self, history: Bars | None, others: Mapping[Frame, Bars], result: Callable[[list[Any]], V]
    ) -> Stepper[V]:
        rows = self.rows(_EMPTY if history is None else history, others)
        early: dict[Frame, Bars] = {}  # bars that were given too soon to be known yet
        for frame, own in rows.items():
            if frame != OWN:
                rows[frame], early[frame] = _known(own, rows[OWN])
        before = self._columns(rows, NOTHING, {}, keep=True)
        values: list[Any] = [None] * len(self.nodes)
        steps = {frame: _Steps([], [], [], []) for frame in rows}
        for place, node in enumerate(self.nodes):
            operation = node.operation
            if isinstance(operation, Constant):
                values[place] = operation.number
                continue
            assert node.frame is not None
            its = steps[node.frame]
            if isinstance(operation, Series):
                if (read := self._reader(operation)) is None:
                    its.inputs.append((place, operation.name))
                else:
                    its.columns.append((place, read))
            else:
                places = [self._place[a.index] for a in node.arguments]
                push, peek = operation.steps(values, place, places, [before[a.index] for a in node.arguments])
                its.pushes.append(push)
                its.peeks.append(peek)
            if node.frame != OWN:
                column = before[node.index]
                values[place] = _last(column, node.kind)
        if not self.frames:
            return Stepper(values, steps[OWN], result)
        assert self.timeframe is not None
        fed = [frame for frame in rows if frame != OWN and (frame in self.given or frame in others)]
        folds = [
            _Fold(frame, self.timeframe, self.grids(frame.instrument))
            for frame in rows
            if frame.timeframe and frame not in fed
        ]
        for fold in folds:
            for bar in _tail(rows[Frame(fold.frame.instrument)].bars, fold):
                fold.late(bar.open_ns)
                fold.add(bar)
            if history is not None and len(history):
                fold.late(int(_ends(history, self.timeframe, self.grids(""))[-1]))
        stepper = _FramedStepper(values, steps, result, self.timeframe, self.grids, folds, fed)
        for frame in fed:
            stepper.wait(frame, early[frame].candles(frame.instrument, frame.timeframe, "live"))
        return stepper

    def _reader(self, series: Series) -> Callable[[Any], Any] | None:
        """How a column is read of a bar; None: it is an input."""
        name = series.name
        if name in COLUMNS or name == "open_ns":
            return operator.attrgetter(name)
        if name == "day":
            days = self._days(series)
            return lambda bar: days.of(bar.open_ns)
        return _adjustment if name == "adjustment" else None


def is_input(series: Series) -> bool:
    """Whether it is no column of the bars."""
    return series.name not in COLUMNS and series.name not in ("open_ns", "day", "adjustment")


class Moments:
    """Roots that depend on inputs, on any of the bars: the rest was evaluated before. Same bits as of a stepper."""

    def __init__(self, program: Program, rows: Rows) -> None:
        steady = Program(
            [a for n in program.nodes if n.fleeting for a in n.arguments if not a.fleeting]
            + [root for root in program.roots if not root.fleeting],
            program.timeframe,
            program.grids,
        )
        fleeting = [node for node in program.nodes if node.fleeting]
        place = {node.index: k for k, node in enumerate([*steady.roots, *fleeting])}
        self._columns = [scalars(values.data) for values in steady.evaluate(rows, {})]
        self._values: list[Any] = [None] * (len(steady.roots) + len(fleeting))
        self._inputs = [(place[n.index], n.operation.name) for n in fleeting if isinstance(n.operation, Series)]
        self._steps = [
            node.operation.steps(self._values, place[node.index], [place[a.index] for a in node.arguments], ())[1]
            for node in fleeting
            if not isinstance(node.operation, Series)
        ]
        self._roots = [place[root.index] for root in program.roots]

    def at(self, bar: int, inputs: Mapping[str, float]) -> tuple[Value, ...]:
        """Each root's value on the bar of this number; inputs that are absent are undefined."""
        values = self._values
        for place, column in enumerate(self._columns):
            values[place] = column[bar]
        for place, name in self._inputs:
            x = inputs.get(name)
            values[place] = NAN if x is None or x - x != 0.0 else float(x)
        for step in self._steps:
            step()
        return tuple([None if (x := values[root]) != x else x for root in self._roots])


_EMPTY = Bars.empty()


def _ends(bars: Bars, length: Timeframe, grid: Grid) -> Ints:
    if length.ns is not None and grid is UTC:
        return bars.open_ns + length.ns
    return np.array([grid.end_ns(length, t) for t in bars.open_ns.tolist()], np.int64)


def _first_ns(grid: Grid, base: Timeframe, length: Timeframe, open_ns: int) -> int:
    """Where the first shorter bar of a longer one may begin: at its own beginning, or with the first session."""
    if grid is UTC:
        return open_ns
    room = grid.room(base, open_ns, grid.end_ns(length, open_ns))
    return room[0][0] if room else open_ns


class _Days:
    """To each moment where its day begins: with midnight, or with its first session."""

    def __init__(self, grid: Grid, base: Timeframe) -> None:
        self._grid = grid
        self._base = base
        self._known: tuple[int, int] = (-1, 0)  # the last midnight asked for, and where that day begins

    def of(self, moment: int) -> int:
        midnight = self._grid.open_ns(DAY, moment)
        if midnight != self._known[0]:
            self._known = midnight, _first_ns(self._grid, self._base, DAY, midnight)
        return self._known[1]

    def all(self, times: Ints) -> Ints:
        if self._grid is UTC:
            assert DAY.ns is not None
            return times - times % DAY.ns
        return np.array([self.of(t) for t in times.tolist()], np.int64)


def _folded(rows: _Rows, base: Timeframe, length: Timeframe, grid: Grid) -> _Rows:
    """The longer bars of these, but a first one that is not complete."""
    bars = rows.bars
    if len(bars) == 0:
        return _Rows(_EMPTY, np.empty(0, np.int64))
    longer = fold_bars(bars, length, grid)
    ends_ns = _ends(longer, length, grid)
    first = int(bars.open_ns[0] > _first_ns(grid, base, length, int(longer.open_ns[0])))
    return _Rows(longer.slice(first, len(longer)), ends_ns[first:])


def _aligned(column: Array, inner: _Rows, outer: _Rows) -> Array:
    """A column of one frame on the bars of another."""
    assert inner.ends_ns is not None and outer.ends_ns is not None
    places = np.searchsorted(inner.ends_ns, outer.ends_ns, side="right") - 1
    undefined = NAN if column.dtype == np.float64 else 0
    return np.append(column, np.array([undefined], column.dtype))[places]  # -1 is the one appended


def _known(rows: _Rows, own: _Rows) -> tuple[_Rows, Bars]:
    """Another frame's bars that closed by the end of ours, and the others."""
    assert rows.ends_ns is not None and own.ends_ns is not None
    until_ns = own.ends_ns[-1] if len(own.ends_ns) else -(1 << 62)
    count = int(np.searchsorted(rows.ends_ns, until_ns, side="right"))
    bars = rows.bars
    return _Rows(bars.slice(0, count), rows.ends_ns[:count]), bars.slice(count, len(bars))


def _last(column: Any, kind: Kind) -> Any:
    """The last value of a column, as a stepper keeps it."""
    if isinstance(column, tuple):  # of an indicator with several outputs
        return tuple(_last(c, kind) for c in column)
    if len(column) == 0:
        return NAN if kind == "number" else None
    return scalars(column[-1:])[0]


def _tail(bars: Bars, fold: _Fold) -> Iterator[Bar]:
    """The first bar, and those from where the last longer one begins."""
    if len(bars) == 0:
        return
    start = int(np.searchsorted(bars.open_ns, fold.grid.open_ns(fold.longer, int(bars.open_ns[-1]))))
    for at in sorted({0, *range(start, len(bars))}):
        yield from bars.slice(at, at + 1).candles(fold.frame.instrument, "", "live")
