"""The lie of the land around the best parameters: a real edge is a plateau, a lucky one a needle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Final, Protocol

import msgspec
import numpy as np

from watchhamster.core.bars import Floats

_CELLS_MOST: Final = 60  # values of a parameter that are shown one by one
_PARTS: Final = 24


class Scored(Protocol):
    """A trial, as far as its place and its numbers go."""

    @property
    def parameters(self) -> Mapping[str, float]:
        """What it was run with."""

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """What came of it, by the metric's name; None where not defined."""


class Neighbourhood(msgspec.Struct, frozen=True):
    """What the trials next to the best one reached."""

    best: float
    values: tuple[float, ...]
    median: float | None  # None: the best stands alone, nothing was tried beside it

    @property
    def stability(self) -> float | None:
        """Median over best, from 0 to 1."""
        if self.median is None or self.best <= 0:
            return None
        return min(1.0, max(0.0, self.median / self.best))


class HeatMap(msgspec.Struct, frozen=True, eq=False):
    """One metric over two parameters: rows are `ys`, columns `xs`, NaN where nothing was tried.

    Trials that differ only in other parameters share a cell, which holds their median: their maximum would flatter.
    """

    x: str
    y: str
    metric: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    values: Floats
    best: tuple[int, int] | None  # row and column of the best trial


def varied(trials: Iterable[Scored]) -> dict[str, list[float]]:
    """The parameters that differ between trials, each with its values in order."""
    values: dict[str, set[float]] = {}
    for trial in trials:
        for name, value in trial.parameters.items():
            values.setdefault(name, set()).add(value)
    return {name: sorted(found) for name, found in values.items() if len(found) > 1}


def neighbourhood(trials: Sequence[Scored], best: Scored, metric: str) -> Neighbourhood | None:
    """The trials around the best: in every parameter within one step or a tenth of its range, whichever is more.

    None where the best has no such metric. A metric that is better when smaller has no neighbourhood here.
    """
    height = best.metrics.get(metric)
    if height is None:
        return None
    reach = {
        name: max(min(b - a for a, b in pairwise(values)), (values[-1] - values[0]) / 10) * (1 + 1e-9)
        for name, values in varied(trials).items()
    }
    values = tuple(
        value
        for trial in trials
        if (value := trial.metrics.get(metric)) is not None
        and trial.parameters != best.parameters
        and all(abs(trial.parameters[name] - best.parameters[name]) <= far for name, far in reach.items())
    )
    return Neighbourhood(height, values, float(np.median(values)) if values else None)


def heat_map(trials: Sequence[Scored], metric: str, x: str, y: str, best: Scored | None = None) -> HeatMap:
    """A metric over two parameters, as a matrix: coloured it is a heat map, raised it is a surface.

    A parameter with more values than can be shown is cut into equal parts, named by their middles.
    """
    values = varied(trials)
    across, up = _Axis(values.get(x, [])), _Axis(values.get(y, []))
    cells: dict[tuple[int, int], list[float]] = {}
    for trial in trials:
        value = trial.metrics.get(metric)
        if value is not None and x in trial.parameters and y in trial.parameters and across.marks and up.marks:
            cells.setdefault((up.at(trial.parameters[y]), across.at(trial.parameters[x])), []).append(value)
    matrix = np.full((len(up.marks), len(across.marks)), np.nan)
    for place, found in cells.items():
        matrix[place] = float(np.median(found))
    at = None
    if best is not None and across.marks and up.marks:
        at = up.at(best.parameters[y]), across.at(best.parameters[x])
    return HeatMap(x, y, metric, across.marks, up.marks, matrix, at)


class _Axis:
    """Where a parameter's values lie on one side of a heat map."""

    def __init__(self, values: Sequence[float]) -> None:
        self.marks = tuple(values)
        self._edges: Floats | None = None
        if len(values) > _CELLS_MOST:
            self._edges = np.linspace(values[0], values[-1], _PARTS + 1)
            self.marks = tuple(((self._edges[1:] + self._edges[:-1]) / 2).tolist())

    def at(self, value: float) -> int:
        if self._edges is None:
            return self.marks.index(value)
        return min(_PARTS - 1, int(np.searchsorted(self._edges, value, side="right")) - 1)


def heat_maps(trials: Sequence[Scored], metric: str, best: Scored | None = None) -> list[HeatMap]:
    """One for each pair of parameters that were varied, in the order they are named."""
    return [heat_map(trials, metric, x, y, best) for x, y in combinations(varied(trials), 2)]
