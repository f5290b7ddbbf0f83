"""How the next parameters to try are found: grid, random, TPE, CMA-ES, genetic (NSGA-II), coordinate search.

A method is asked for a batch and told, in the order of asking, what came of it. Batches have a size that follows from
the problem alone, never from how many processes work on it, so one seed tries the same wherever it runs. And since a
method is nothing but its problem and what it was told, `propose` needs no state: it keeps one for speed, and builds it
again from the record where there is none, as after a kill.

Every method searches on whole numbers: the steps of each axis. Only an axis without a step is searched as it is.
Optuna does TPE, CMA-ES and NSGA-II; it takes a third of a second and 60 MB to import, so `propose` belongs into a
worker.
"""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Literal, Protocol, TypeAlias, get_args

import msgspec
import numpy as np

from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text

Method: TypeAlias = Literal["grid", "random", "tpe", "cmaes", "genetic", "coordinate"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)
Parameters: TypeAlias = dict[str, float]
Values: TypeAlias = tuple[float, ...]  # one a goal, more is better

CELLS_MOST: Final = 1_000_000
_LOOSE_STEPS: Final = 200  # what an axis without a step is cut into, by methods that need steps
_TRIES: Final = 1000
_KEPT: Final = 4


class Axis(msgspec.Struct, frozen=True):
    """A parameter and where to look for it. Without `step` any number between is one."""

    name: str
    low: float
    high: float
    step: float | None = None
    whole: bool = False
    default: float | None = None

    @property
    def count(self) -> int | None:
        """How many values there are."""
        return None if self.step is None else math.floor((self.high - self.low) / self.step + 1e-9) + 1

    def at(self, place: int) -> float:
        """The value of a step. Multiples of a decimal step are its decimals: 0.3, not 0.30000000000000004."""
        assert self.step is not None
        value = round(self.low + place * self.step, 12)
        return int(value) if self.whole else value

    def stepped(self) -> Axis:
        """Itself, or cut into steps."""
        return self if self.step is not None else msgspec.structs.replace(self, step=self._loose)

    @property
    def _loose(self) -> float:
        return (self.high - self.low) / _LOOSE_STEPS or 1.0

    def place(self, value: float) -> int:
        """The nearest step to a value."""
        assert self.step is not None and self.count is not None
        return min(self.count - 1, max(0, round((value - self.low) / self.step)))


class Problem(msgspec.Struct, frozen=True):
    """What a method is to search, and for how long."""

    method: Method
    axes: tuple[Axis, ...]
    seed: int
    trials: int
    goals: int = 1
    batch: int = 128  # of methods that learn nothing from what they are told


def check(problem: Problem) -> None:
    """Raise `UsageError` for what cannot be searched.

    Its code is `nothing_to_optimise`, `bad_range`, `too_many_cells`, `too_many_goals` or `bad_trials`.
    """
    if problem.goals > 1 and problem.method in ("cmaes", "coordinate"):
        raise UsageError(
            "too_many_goals",
            Text("{method} works towards one metric only.", {"method": problem.method}),
            Text("Take the method genetic for several."),
        )
    if not problem.axes:
        raise UsageError(
            "nothing_to_optimise",
            Text("The strategy has no parameter with a range."),
            Text("Give one min, max and step, such as [parameters.fast] default = 10, min = 5, max = 50, step = 5."),
        )
    for axis in problem.axes:
        values = {"name": axis.name, "low": f"{axis.low:g}", "high": f"{axis.high:g}"}
        if not (math.isfinite(axis.low) and math.isfinite(axis.high) and axis.low <= axis.high):
            raise UsageError(
                "bad_range", Text("{name} goes from {low} to {high}.", values), Text("The first must be the smaller.")
            )
        if axis.step is not None and not axis.step > 0:
            raise UsageError("bad_range", Text("The step of {name} is not above 0.", values), Text("Give another."))
    if problem.method == "grid":
        for axis in problem.axes:
            if axis.step is None:
                raise UsageError(
                    "bad_range",
                    Text("{name} has no step, so there is no grid.", {"name": axis.name}),
                    Text("Give it a step, or take another method, such as tpe."),
                )
        if cells(problem.axes) > CELLS_MOST:
            raise UsageError(
                "too_many_cells",
                Text("The grid has {count:,} cells.", {"count": cells(problem.axes)}),
                Text("Take larger steps or narrower ranges, or another method, such as tpe."),
            )
    elif problem.trials < 1:
        raise UsageError("bad_trials", Text("At least one trial is needed."), Text("Give a number, such as 200."))


def cells(axes: Sequence[Axis]) -> int:
    """How many sets of parameters there are, axes without a step counted as 200 steps."""
    return math.prod(axis.stepped().count or 1 for axis in axes)


# ---------------------------------------------------------------- from any process


class _State:
    """A method, how much it has been told, and what it asked last."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.told = 0
        self._method = _method(problem)
        self._asked: list[Parameters] | None = None

    def next(self, told: Sequence[Values]) -> list[Parameters]:
        while True:
            if self._asked is None:
                self._asked = self._method.ask(self.problem.trials - self.told)
            if not self._asked or self.told == len(told):
                return self._asked
            self._method.tell(told[self.told : self.told + len(self._asked)])
            self.told += len(self._asked)
            self._asked = None


_states: OrderedDict[str, _State] = OrderedDict()


def propose(key: str, problem: Problem, told: Sequence[Values]) -> list[Parameters]:
    """The batch that follows after so many results; empty once there is nothing more to try.

    `told` holds the values of all earlier batches, whole ones, in the order they were asked for. `key` names the run:
    a process that knows it goes on, another begins by asking and telling all over again.
    """
    state = _states.pop(key, None)
    if state is None or state.problem != problem or state.told > len(told):
        state = _State(problem)
    found = state.next(told)
    _states[key] = state
    if len(_states) > _KEPT:
        _states.popitem(last=False)
    return found


class _Asked(Protocol):
    """A method."""

    def ask(self, most: int) -> list[Parameters]:
        """Up to so many sets to try; none when all were tried."""

    def tell(self, values: Sequence[Values]) -> None:
        """What came of the last batch, in its order."""


def _method(problem: Problem) -> _Asked:
    if problem.method == "grid":
        return _Listed(_grid(problem), problem.batch)
    if problem.method == "random":
        return _Listed(_random(problem), problem.batch)
    if problem.method == "coordinate":
        return _Coordinate(problem)
    return _Optuna(problem)


# ---------------------------------------------------------------- methods that do not learn


class _Listed:
    """Sets that are known beforehand."""

    def __init__(self, sets: Iterator[Parameters], batch: int) -> None:
        self._sets = sets
        self._batch = batch

    def ask(self, most: int) -> list[Parameters]:
        return list(islice(self._sets, min(most, self._batch)))

    def tell(self, values: Sequence[Values]) -> None:
        pass


def _grid(problem: Problem) -> Iterator[Parameters]:
    """Every cell, the last axis quickest; where fewer trials are allowed, cells spread evenly over the walk."""
    whole = cells(problem.axes)
    count = min(whole, problem.trials)
    for n in range(count):
        rest, found = n * whole // count, {}
        for axis in reversed(problem.axes):
            assert axis.count is not None
            rest, place = divmod(rest, axis.count)
            found[axis.name] = axis.at(place)
        yield {axis.name: found[axis.name] for axis in problem.axes}


def _random(problem: Problem) -> Iterator[Parameters]:
    """Independent draws, none twice."""
    generator = np.random.default_rng(problem.seed)
    seen: set[Values] = set()
    while True:
        for _ in range(_TRIES):
            drawn = tuple(_draw(axis, generator) for axis in problem.axes)
            if drawn not in seen:
                break
        else:
            return
        seen.add(drawn)
        yield {axis.name: value for axis, value in zip(problem.axes, drawn, strict=True)}


def _draw(axis: Axis, generator: np.random.Generator) -> float:
    if axis.count is not None:
        return axis.at(int(generator.integers(axis.count)))
    return float(generator.uniform(axis.low, axis.high))


# ---------------------------------------------------------------- one axis at a time


class _Coordinate:
    """Walks one axis at a time to the best of the places 1, 2, 4, 8 … steps to either side.

    Begins at the defaults. When no axis leads further up, it begins again somewhere random.
    """

    def __init__(self, problem: Problem) -> None:
        self._axes = [axis.stepped() for axis in problem.axes]
        self._generator = np.random.default_rng(problem.seed)
        self._seen: set[tuple[int, ...]] = set()
        self._asked: list[tuple[int, ...]] = []
        self._at = tuple(axis.place(_middle(axis)) for axis in self._axes)
        self._height = -math.inf
        self._axis = -1  # none yet: the start itself is to be tried
        self._stuck = 0  # axes in a row that led nowhere

    def ask(self, most: int) -> list[Parameters]:
        for _ in range(_TRIES):
            places = [self._at] if self._axis < 0 else list(self._line())
            self._asked = [place for place in places if place not in self._seen][:most]
            if self._asked:
                self._seen.update(self._asked)
                return [
                    {axis.name: axis.at(n) for axis, n in zip(self._axes, place, strict=True)} for place in self._asked
                ]
            self._turn(moved=False)
        return []

    def tell(self, values: Sequence[Values]) -> None:
        best = max(range(len(values)), key=lambda n: values[n][0])
        moved = values[best][0] > self._height
        if moved:
            self._at, self._height = self._asked[best], values[best][0]
        self._turn(moved=moved)

    def _line(self) -> Iterator[tuple[int, ...]]:
        n, axis = self._axis, self._axes[self._axis]
        assert axis.count is not None
        far = 1
        while far < axis.count:
            for place in (self._at[n] - far, self._at[n] + far):
                if 0 <= place < axis.count:
                    yield (*self._at[:n], place, *self._at[n + 1 :])
            far *= 2

    def _turn(self, *, moved: bool) -> None:
        """On to the next axis; after a round that led nowhere, to another start."""
        self._stuck = 0 if moved else self._stuck + 1
        self._axis = (self._axis + 1) % len(self._axes)
        if self._stuck > len(self._axes):
            self._stuck, self._axis, self._height = 0, -1, -math.inf
            self._at = tuple(int(self._generator.integers(axis.count or 1)) for axis in self._axes)


def _middle(axis: Axis) -> float:
    return (axis.low + axis.high) / 2 if axis.default is None else axis.default


# ---------------------------------------------------------------- Optuna's


class _Optuna:
    """A study that is asked and told in order."""

    def __init__(self, problem: Problem) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._axes = problem.axes
        self._trials: list[Any] = []
        self._goals = problem.goals
        # A generation is told whole. TPE learns from each, so its batches are small.
        self._batch = {
            "tpe": 8,
            "cmaes": 4 + math.floor(3 * math.log(max(2, len(problem.axes)))),
            "genetic": 24,
        }[problem.method]
        seed = problem.seed % 2**32
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "experimental"; the version is pinned
            sampler: Any
            if problem.method == "tpe":
                sampler = optuna.samplers.TPESampler(
                    seed=seed, n_startup_trials=16, multivariate=True, constant_liar=True
                )
            elif problem.method == "cmaes":
                sampler = optuna.samplers.CmaEsSampler(seed=seed, popsize=self._batch, warn_independent_sampling=False)
            else:
                sampler = optuna.samplers.NSGAIISampler(seed=seed, population_size=self._batch)
            self._study = optuna.create_study(directions=["maximize"] * problem.goals, sampler=sampler)
            self._where: Mapping[str, Any] = {
                axis.name: optuna.distributions.IntDistribution(0, axis.count - 1)
                if axis.count is not None
                else optuna.distributions.FloatDistribution(axis.low, axis.high)
                for axis in problem.axes
            }

    def ask(self, most: int) -> list[Parameters]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._trials = [self._study.ask(dict(self._where)) for _ in range(min(most, self._batch))]
        return [
            {
                axis.name: axis.at(trial.params[axis.name]) if axis.step is not None else trial.params[axis.name]
                for axis in self._axes
            }
            for trial in self._trials
        ]

    def tell(self, values: Sequence[Values]) -> None:
        for trial, found in zip(self._trials, values, strict=True):
            self._study.tell(trial, list(found))
