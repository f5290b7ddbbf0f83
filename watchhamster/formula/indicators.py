"""TA-Lib in both evaluators: its array functions, and its stream handles, which give the same bits (0.8 and later).

TA-Lib must never see what is not finite inside a series: a sum would be poisoned for good, and handles refuse it. So
inputs are cut into runs of bars on which all of them are defined. Each run is evaluated by itself: over arrays one call
a run, one bar at a time a fresh handle, which opens once the run is long enough.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np

from watchhamster.formula.graph import NAN, Array, Closure, Column, Kind, has_holes


def _import_talib() -> tuple[Any, Any, Any]:
    """TA-Lib without pandas and polars: where they are installed it imports them (0.2 s, 47 MB), and we have no use."""
    hidden = {name: sys.modules.get(name) for name in ("pandas", "polars")}
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: "not installed"
    try:
        import talib
        from talib import abstract, stream
    finally:
        for name, module in hidden.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    return talib, abstract, stream


talib, _abstract, _stream = _import_talib()


@lru_cache(maxsize=4096)
def lookback(name: str, parameters: tuple[tuple[str, float], ...]) -> int:
    """Bars before the function's first value; -1 where TA-Lib refuses the parameters."""
    function = _abstract.Function(name)
    if parameters:
        function.parameters = dict(parameters)
    return int(function.lookback)


def defaults(name: str) -> dict[str, float]:
    """A function's parameters with TA-Lib's defaults, in its order."""
    return dict(_abstract.Function(name).parameters)


class Indicator(msgspec.Struct, frozen=True):
    """A TA-Lib function with its parameters. A function with several outputs gives a tuple; see `Output`."""

    name: str  # "RSI"
    parameters: tuple[tuple[str, float], ...] = ()  # in TA-Lib's order
    outputs: int = 1
    kind: Kind = "number"

    @property
    def lookback(self) -> int:
        """Bars of a run before its first value."""
        return lookback(self.name, self.parameters)

    def arrays(self, *arguments: Column) -> Any:
        columns = [np.ascontiguousarray(a, np.float64) for a in arguments]
        function = partial(getattr(talib, self.name), **dict(self.parameters))
        count, need = len(columns[0]), self.lookback
        spans = runs(columns, need + 1)
        if spans == [(0, count)]:
            found = function(*columns)
            results = [_cleaned(part, need) for part in (found if self.outputs > 1 else (found,))]
        else:
            results = [np.full(count, NAN) for _ in range(self.outputs)]
            for start, stop in spans:
                found = function(*(c[start:stop] for c in columns))
                for result, part in zip(results, found if self.outputs > 1 else (found,), strict=True):
                    result[start:stop] = _cleaned(part, need)
        return results[0] if self.outputs == 1 else tuple(results)

    def steps(
        self, values: list[Any], result: int, arguments: Sequence[int], history: Sequence[Column]
    ) -> tuple[Closure, Closure]:
        open_handle = getattr(_stream, self.name)
        parameters = dict(self.parameters)
        need = self.lookback + 1
        nothing: Any = NAN if self.outputs == 1 else (NAN,) * self.outputs
        rows: list[tuple[float, ...]] = []  # the run so far, while it is too short for a handle
        handle: Any = None
        update: Callable[..., Any] | None = None
        first = arguments[0]
        pick = itemgetter(*arguments) if len(arguments) > 1 else lambda values: (values[first],)
        clean = _clean_one if self.outputs == 1 else _clean_all

        def open_on(columns: list[Array]) -> Any:
            if len(columns[0]) >= need:
                try:
                    return open_handle(*columns, **parameters)
                except talib.InsufficientHistory:  # some need a little more than their lookback to be seeded
                    pass
            return None

        def start(row: tuple[float, ...], *, keep: bool) -> Any:
            """The value of a bar that comes while there is no handle."""
            nonlocal handle, update
            rows.append(row)
            opened = open_on([np.array(c) for c in zip(*rows, strict=True)]) if len(rows) >= need else None
            if not keep:
                rows.pop()
            elif opened is not None:
                handle, update = opened, opened.update
                rows.clear()
            return nothing if opened is None else clean(opened.value)

        def end() -> None:
            nonlocal handle, update
            handle = update = None
            rows.clear()

        before = [np.ascontiguousarray(h, np.float64) for h in history]
        if len(before[0]):
            bad = np.flatnonzero(~_defined(before))
            before = [c[bad[-1] + 1 :] if len(bad) else c for c in before]
            if len(before[0]):
                handle = open_on(before)
                if handle is None:
                    rows.extend(zip(*(c.tolist() for c in before), strict=True))
                else:
                    update = handle.update

        def inputs() -> Any:
            """The bar's inputs, if all are defined."""
            row = pick(values)
            for x in row:
                if x != x:
                    return None
            return row

        def push() -> None:
            row = inputs()
            if row is None:
                end()
                values[result] = nothing
            else:
                values[result] = clean(update(*row)) if update is not None else start(row, keep=True)

        def peek() -> None:
            row = inputs()
            if row is None:
                values[result] = nothing
            else:
                values[result] = clean(handle.peek(*row)) if handle is not None else start(row, keep=False)

        def quick() -> None:
            """`push` for the commonest shape: one input, one output, an open handle."""
            x = values[first]
            if update is None or x != x:
                push()
            else:
                y = update(x)
                values[result] = y + 0.0 if y - y == 0 else NAN

        return (quick if len(arguments) == self.outputs == 1 else push), peek


class Output(msgspec.Struct, frozen=True):
    """One of the outputs of an indicator that has several."""

    number: int
    kind: Kind = "number"

    def arrays(self, *arguments: Any) -> Any:
        return arguments[0][self.number]

    def steps(self, values: list[Any], result: int, arguments: Sequence[int], history: Any) -> tuple[Closure, Closure]:
        (only,), number = arguments, self.number

        def step() -> None:
            values[result] = values[only][number]

        return step, step


def _cleaned(part: Array, need: int) -> Array:
    """A run's values: undefined before the first, and where they are not finite.

    Of 0.0 and -0.0 in a window either may come, so neither is told from the other.
    """
    if part.dtype == np.float64:
        part += 0.0  # TA-Lib has just made it
    else:
        part = part.astype(np.float64)
    part[:need] = NAN
    known = part[need:]
    if has_holes(known):
        known[~np.isfinite(known)] = NAN
    return part


def _clean_one(x: Any) -> float:
    return x + 0.0 if x - x == 0 else NAN


def _clean_all(xs: Any) -> tuple[float, ...]:
    return tuple([x + 0.0 if x - x == 0 else NAN for x in xs])


def _defined(columns: Sequence[Array]) -> Any:
    """Where every column is (all are finite or NaN)."""
    defined = ~np.isnan(columns[0])
    for column in columns[1:]:
        defined &= ~np.isnan(column)
    return defined


def runs(columns: Sequence[Array], least: int) -> list[tuple[int, int]]:
    """Spans of bars on which every column is defined, at least so long."""
    count = len(columns[0])
    if not any(map(has_holes, columns)):
        return [(0, count)] if count >= least else []
    defined = _defined(columns)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], defined, [False])).astype(np.int8)))
    starts, stops = edges[::2], edges[1::2]
    long = stops - starts >= least
    return list(zip(starts[long].tolist(), stops[long].tolist(), strict=True))
