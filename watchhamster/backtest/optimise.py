"""Optimisation: many runs of a strategy with other parameters, chosen, recorded, checked, and judged.

What happens next is decided here, as a generator without any I/O: it yields a `Step`, the calls that should now be
made (in workers, side by side) and the trials that are new, and is sent the answers in the order of the calls. So the
same plan runs over a pool of processes, over a cluster, or in a loop of a test, and which one makes no difference to
a single trial: batches, numbers and seeds follow from the plan alone.

Every trial has a number, in the order of the plan, and is kept by whoever drives it. Given those trials, a plan that
was cut off goes on with exactly the trials it would have had: what is known is not run again.

    search -> (walk forward: choose and test, window by window; or train, validate, test) -> neighbours of the best
    -> the best under worse conditions -> trust
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from itertools import product
from typing import Any, Final, Literal, Protocol, TypeAlias, TypeVar

import msgspec
import numpy as np

from watchhamster.backtest.definitions import DEFINITIONS
from watchhamster.backtest.landscape import neighbourhood
from watchhamster.backtest.methods import Axis, Method, Parameters, Problem, Values, cells, check, propose
from watchhamster.backtest.metrics import DAY_NS, Digest, Metrics, measure, returns_of
from watchhamster.backtest.splits import Span, Split, apart, combinatorial, paths, three_ways, walk_forward
from watchhamster.backtest.trials import COUNTED, Number, Score, Stage, Trial, pack, unpack_held, unpack_returns
from watchhamster.backtest.trust import Change, Stress, Trust, assess
from watchhamster.core.bars import Floats
from watchhamster.core.ports import UsageError, WatchHamsterError
from watchhamster.core.text import Text

T = TypeVar("T")
Candidate: TypeAlias = Parameters | str  # what is tried: parameters, or, in a search among conditions, a formula
Check: TypeAlias = Literal["none", "walk_forward", "three_ways"]

FEWEST_TRADES: Final = 30
_VALIDATED: Final = 10
_NEIGHBOURS_MOST: Final = 80
_RANDOM_ENTRIES: Final = 39  # with the run itself 40: the best of them all is a chance of 2.5 %
_WEIGHED: Final = 2000  # trials whose returns are weighed against each other
_CROSSED: Final = 200
_LEAST_PACE: Final = 0.01  # a year inside, below which there is nothing to keep up with
_ATTEMPTS: Final = 3  # of what killed its worker, before it is blamed
_NOBODYS_FAULT: Final = ("pool_closed", "pool_full", "worker_not_started")


class Objective(Protocol):
    """What is optimised. It is sent to workers, so it must be importable and small; `data` comes beside it."""

    def score(self, data: Any, candidates: Sequence[Any], span: Span, change: Change) -> list[Score]:
        """A run for each candidate over a span of time."""

    def digest(self, data: Any, candidate: Any, span: Span) -> Digest:
        """One run, whole enough to be judged."""


# ---------------------------------------------------------------- goals and constraints


class Goal(msgspec.Struct, frozen=True):
    """A metric to be made large, or small."""

    metric: str
    sign: int  # 1: more is better

    def value(self, metrics: Mapping[str, Number | None]) -> float | None:
        """More is better; None where it is not defined."""
        value = metrics.get(self.metric)
        return None if value is None or not math.isfinite(value) else self.sign * value


def goals(text: str) -> tuple[Goal, ...]:
    """The goals in `"sharpe"` or `"cagr_percent, max_drawdown_percent"`.

    Raises `UsageError` (`unknown_metric`, `bad_metric`).
    """
    found = []
    for name in filter(None, (part.strip() for part in text.split(","))):
        better = _definition(name).better
        if better == "neither":
            raise UsageError(
                "bad_metric",
                Text("Neither more nor less of {name} is better.", {"name": name}),
                Text("Take another one, such as sharpe."),
            )
        found.append(Goal(name, 1 if better == "more" else -1))
    if not found:
        raise UsageError("bad_metric", Text("No metric is named."), Text("Name one, such as sharpe."))
    return tuple(found)


class Constraint(msgspec.Struct, frozen=True):
    """What a run must keep to be the best."""

    metric: str
    sign: Literal["<", "<=", ">", ">="]
    limit: float

    def __str__(self) -> str:
        return f"{self.metric}{self.sign}{self.limit:g}"

    def excess(self, metrics: Mapping[str, Number | None]) -> float:
        """How far it is broken, as a share of the limit; 0 where it is kept."""
        value = metrics.get(self.metric)
        if value is None or not math.isfinite(value):
            return 1.0
        over = value - self.limit if self.sign in ("<", "<=") else self.limit - value
        kept = over < 0 or (over == 0 and "=" in self.sign)
        return 0.0 if kept else min(10.0, 1e-9 + over / max(abs(self.limit), 1e-9))

    def broken(self, metrics: Mapping[str, Number | None]) -> Text:
        """Why it is broken."""
        value = metrics.get(self.metric)
        values = {
            "label": _definition(self.metric).label,
            "value": "–" if value is None else f"{value:g}",
            "limit": f"{self.limit:g}",
        }
        if self.sign == ">=":
            return Text("{label} is {value}, at least {limit} were asked for", values)
        if self.sign == "<=":
            return Text("{label} is {value}, at most {limit} were asked for", values)
        if self.sign == ">":
            return Text("{label} is {value}, more than {limit} was asked for", values)
        return Text("{label} is {value}, less than {limit} was asked for", values)


_CONSTRAINT = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|<|>)\s*([-+]?[\d_]*\.?\d+(?:[eE][-+]?\d+)?)\s*%?\s*")


def constraints(texts: Sequence[str]) -> tuple[Constraint, ...]:
    """Constraints such as `"max_drawdown_percent<20"`; at least 30 trades, unless `trades` is constrained otherwise.

    Raises `UsageError` (`bad_constraint`, `unknown_metric`).
    """
    found = []
    for text in texts:
        match = _CONSTRAINT.fullmatch(text)
        if match is None:
            raise UsageError(
                "bad_constraint",
                Text("{text!r} is not a constraint.", {"text": text}),
                Text("Write a metric, a sign and a number: max_drawdown_percent<20."),
            )
        name, sign, limit = match.groups()
        _definition(name)
        found.append(Constraint(name, sign, float(limit)))  # type: ignore[arg-type]
    if not any(constraint.metric == "trades" for constraint in found):
        found.append(Constraint("trades", ">=", FEWEST_TRADES))
    return tuple(found)


def _definition(name: str) -> Any:
    known = DEFINITIONS.get(name)
    if known is None:
        near = difflib.get_close_matches(name, DEFINITIONS, n=1, cutoff=0.4)
        raise UsageError(
            "unknown_metric",
            Text("There is no metric {name!r}.", {"name": name}),
            Text("Did you mean {name}?", {"name": near[0]})
            if near
            else Text("Known ones are {names}.", {"names": ", ".join(DEFINITIONS)}),
            nearest=near[0] if near else None,
        )
    return known


# ---------------------------------------------------------------- what is to be done, and what came of it


class Optimisation(msgspec.Struct, frozen=True, kw_only=True):
    """A search: over what, how, how long. Equal ones give equal trials."""

    run: str  # its name, under which its trials are kept
    axes: tuple[Axis, ...]
    method: Method
    goals: tuple[Goal, ...]
    span: Span
    trials: int = 200  # each window's, of a walk forward; a grid is walked whole where it is 0
    seed: int = 1
    constraints: tuple[Constraint, ...] = ()
    check: Check = "none"
    windows: int = 5
    train_share: float = 0.75
    anchored: bool = False
    batch: int = 128
    past_trials: int = 0  # run before on the same data, by whoever


class Call(msgspec.Struct, frozen=True):
    """A function to be called in a worker. `data` stands for the shared data, first, where `with_data`."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    home: str = ""
    with_data: bool = False
    trials: int = 0  # that it makes: for whoever shows how far things are


class Step(msgspec.Struct, frozen=True):
    """What is to be done next, and how far things are."""

    calls: tuple[Call, ...]
    trials: tuple[Trial, ...] = ()  # new since the last step: to be kept before anything else
    done: int = 0
    total: int = 0
    best: Trial | None = None
    stage: Stage | Literal["judging"] = "search"


Answer: TypeAlias = Any  # of a call, or the `WatchHamsterError` it raised
Plan: TypeAlias = Generator[Step, list[Answer], T]


class Outside(msgspec.Struct, frozen=True):
    """What the chosen parameters did in time they were not chosen on."""

    inside: tuple[Trial, ...]  # the choice of each window, where it was made
    outside: tuple[Trial, ...]  # the same parameters in the time that followed
    spans: tuple[Span, ...]
    returns: bytes  # of all those days together, see `pack`
    metrics: Mapping[str, Number | None]
    efficiency: float | None  # yearly return outside / inside; None where there was next to none inside


class Crossed(msgspec.Struct, frozen=True):
    """Combinatorial purged cross-validation: choose on some groups of days, test on the others, in every way."""

    groups: int
    tested: int
    sharpes: tuple[float, ...]  # a path through all the days each, not made yearly
    returns: tuple[float, ...]  # total return of each path
    chosen: int  # different sets that were chosen somewhere

    @property
    def loss_probability(self) -> float:
        """Share of paths that lost money."""
        return sum(value <= 0 for value in self.returns) / len(self.returns)


class Findings(msgspec.Struct, frozen=True):
    """What an optimisation came to."""

    trials: tuple[Trial, ...]  # all of them, in their order
    best: Trial | None
    front: tuple[Trial, ...] = ()  # with several goals: those that no other beats in all; of conditions, the best ones
    outside: Outside | None = None
    crossed: Crossed | None = None
    trust: Trust | None = None

    @property
    def verdict(self) -> Text:
        """One or two plain sentences."""
        if self.trust is None:
            return Text("No trial keeps every constraint.")
        if self.outside is None:
            return self.trust.verdict
        values = {"verdict": self.trust.verdict, "kept": self.outside.metrics.get("total_return_percent")}
        if self.outside.efficiency is None:
            return Text("{verdict} Outside the time it was chosen on it returned {kept:+,.1f} %.", values)
        return Text(
            "{verdict} Outside the time it was chosen on it returned {kept:+,.1f} %, {share:.0f} % of its pace inside.",
            {**values, "share": self.outside.efficiency * 100},
        )

    def line(self) -> dict[str, object]:
        """The last line of `optimize --json`."""
        trust = self.trust
        searched = sum(trial.stage in COUNTED for trial in self.trials)
        found: dict[str, object] = {
            "best": None if self.best is None else self.best.line(),
            "trust": {
                "trials": searched if trust is None else trust.trials,
                "deflated_sharpe_probability": None if trust is None else trust.deflated_sharpe_probability,
                "pbo": None if trust is None else trust.pbo,
                "pbo_trials": None if trust is None else trust.pbo_trials,
                "pbo_blocks": None if trust is None else trust.pbo_blocks,
                "stability": None if trust is None else trust.stability,
                "verdict": str(self.verdict),
            },
        }
        if self.front:
            found["front"] = [trial.line() for trial in self.front]
        if self.outside is not None:
            found["outside"] = {"metrics": dict(self.outside.metrics), "efficiency": self.outside.efficiency}
        if self.crossed is not None:
            found["crossed"] = {
                "groups": self.crossed.groups,
                "tested": self.crossed.tested,
                "paths": len(self.crossed.returns),
                "loss_probability": self.crossed.loss_probability,
            }
        return found


# ---------------------------------------------------------------- what runs in a worker


def _score(data: Any, objective: Objective, candidates: Sequence[Candidate], span: Span, change: Change) -> list[Score]:
    return objective.score(data, candidates, span, change)


def _digest(data: Any, objective: Objective, candidate: Candidate, span: Span) -> Digest:
    return objective.digest(data, candidate, span)


def _judge(
    digest: Digest,
    packed: Sequence[bytes],
    trials: int,
    stability: float | None,
    stressed: Stress | None,
    seed: int,
) -> Trust:
    returns = _matrix(packed)
    return assess(
        digest,
        measure(digest),
        np.random.default_rng(seed),
        trials=trials,
        trial_returns=returns,
        stability=stability,
        stressed=stressed,
    )


def _matrix(packed: Sequence[bytes]) -> Floats | None:
    """Days by trials; None where there are not two trials over the same days."""
    columns = [unpack_returns(one) for one in packed]
    length = len(columns[0]) if columns else 0
    columns = [column for column in columns if len(column) == length]
    return np.column_stack(columns) if length > 1 and len(columns) > 1 else None


def cross_validate(
    returns: Sequence[bytes], held: Sequence[bytes], groups: int = 8, tested: int = 2, embargo: float = 0.01
) -> Crossed | None:
    """CPCV of trials by their days. What is chosen is the highest Sharpe ratio of the days that may be learnt from.

    For each split a trial's days count as learnt from unless they are tested on, lie in the embargo, or a trade that
    was open on them reaches into either. None for fewer than two trials, or ten days a group.
    """
    matrix = _matrix(returns)
    if matrix is None or len(matrix) < 10 * groups:
        return None
    days, trials = matrix.shape
    splits = combinatorial(0, days, groups, tested, embargo=embargo)
    spans = [unpack_held(one) for one in held[:trials]]
    embargo_days = int(days * embargo)
    choices = []
    for split in splits:
        learnt = np.zeros(days, np.bool_)
        for since, until in split.train:
            learnt[since:until] = True
        usable = np.repeat(learnt[:, None], trials, axis=1)
        for n, (entries, exits) in enumerate(spans):
            reaching = ~apart(entries, exits + 1, split, embargo_days)  # a trade is open on its day of exit, too
            change = np.zeros(days + 2)
            np.add.at(change, np.minimum(entries[reaching], days), 1)
            np.add.at(change, np.minimum(exits[reaching] + 1, days), -1)
            usable[np.cumsum(change)[:days] > 0, n] = False
        count = np.maximum(usable.sum(0), 2)
        mean = (matrix * usable).sum(0) / count
        spread = np.sqrt(((matrix - mean) ** 2 * usable).sum(0) / (count - 1))
        sharpe = np.divide(mean, spread, out=np.full(trials, -np.inf), where=spread > 0)
        choices.append(int(sharpe.argmax()))
    edges = [days * n // groups for n in range(groups + 1)]
    sharpes, totals = [], []
    for path in paths(groups, tested):
        walked = np.concatenate([matrix[edges[g] : edges[g + 1], choices[split]] for g, split in enumerate(path)])
        spread = float(walked.std(ddof=1))
        sharpes.append(float(walked.mean()) / spread if spread > 0 else 0.0)
        totals.append(float(np.prod(1 + walked) - 1))
    return Crossed(groups, tested, tuple(sharpes), tuple(totals), len(set(choices)))


# ---------------------------------------------------------------- the plan


def optimise(
    plan: Optimisation, objective: Objective, known: Sequence[Trial] = (), *, width: int = 1
) -> Plan[Findings]:
    """The whole of an optimisation, see the top. `known` are the trials kept so far, `width` the workers there are.

    Raises `UsageError` for what cannot be searched, at once, and `run_differs` where the kept trials are not of this
    plan.
    """
    runner = Runner(plan.run, objective, plan.goals, plan.constraints, known, width)
    problem = _problem(plan)
    outside: Outside | None = None
    spans = [plan.span]
    if plan.check == "walk_forward":
        splits = walk_forward(*plan.span, plan.windows, plan.train_share, anchored=plan.anchored)
        spans = [split.train[0] for split in splits]
        runner.total = (problem.trials + 1) * len(splits)
        outside = yield from _walk(runner, plan, problem, splits)
        best = outside.inside[-1] if outside is not None else None
    elif plan.check == "three_ways":
        train, validate, test = three_ways(*plan.span)
        spans = [train]
        runner.total = problem.trials + _VALIDATED + 1
        outside = yield from _in_three(runner, problem, train, validate, test)
        best = outside.inside[0] if outside is not None else None
    else:
        runner.total = problem.trials
        best = runner.best((yield from _search(runner, problem, plan.span)))
    if best is None:
        yield runner.step(())
        return Findings(runner.trials, None)
    peers = [trial for trial in runner.trials if trial.stage == "search" and trial.fold == best.fold]
    beside = beside_of(best.parameters, plan.axes)
    trust, crossed = yield from judge(
        runner, best, peers, beside, spans[max(0, best.fold - 1)], plan.goals[0], plan.seed, plan.past_trials
    )
    front = runner.front(peers) if len(plan.goals) > 1 else ()
    return Findings(runner.trials, best, front, outside, crossed, trust)


def _problem(plan: Optimisation) -> Problem:
    problem = Problem(plan.method, plan.axes, plan.seed, plan.trials, len(plan.goals), plan.batch)
    check(problem)
    if plan.method == "grid" and plan.trials < 1:
        return msgspec.structs.replace(problem, trials=cells(plan.axes))
    return problem


class Runner:
    """Runs sets of parameters as trials: numbers them, skips what is known or was run already, keeps count."""

    def __init__(
        self,
        run: str,
        objective: Objective,
        goals: tuple[Goal, ...],
        constraints: tuple[Constraint, ...],
        known: Sequence[Trial],
        width: int,
    ) -> None:
        self.run = run
        self.objective = objective
        self.total = 0
        self._goals = goals
        self._constraints = constraints
        self._known = {trial.number: trial for trial in known}
        self._width = max(1, width)
        self._trials: list[Trial] = []
        self._new: list[Trial] = []
        self._scores: dict[tuple[object, ...], Score | Text] = {}
        self._best: Trial | None = None
        self._floor = 0.0  # lowest value of a trial that was not rejected

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All so far."""
        return tuple(self._trials)

    def step(self, calls: Sequence[Call], stage: Stage | Literal["judging"] = "search") -> Step:
        """A step that also hands over what is new."""
        new, self._new = tuple(self._new), []
        return Step(tuple(calls), new, len(self._trials), max(self.total, len(self._trials)), self._best, stage)

    def ask(self, call: Call, stage: Stage | Literal["judging"] = "search") -> Plan[Any]:
        """The answer of one call, asked again if its worker was killed. Raises what it raised."""
        for _ in range(_ATTEMPTS):
            (answer,) = yield self.step([call], stage)
            if not isinstance(answer, WatchHamsterError):
                return answer
            if answer.code != "worker_died":
                break
        raise answer

    def evaluate(
        self,
        candidates: Sequence[Candidate],
        span: Span,
        stage: Stage = "search",
        fold: int = 0,
        changes: Sequence[Change] | None = None,
    ) -> Plan[list[Trial]]:
        """One trial a candidate, in their order. What cannot be run is a rejected trial that says why."""
        first = len(self._trials)
        changes = changes or [Change()] * len(candidates)
        keys = [_key(one, span, change) for one, change in zip(candidates, changes, strict=True)]
        fresh: dict[Change, dict[tuple[object, ...], Candidate]] = {}
        for number, (key, one, change) in enumerate(zip(keys, candidates, changes, strict=True), first):
            known = self._known.get(number)
            if known is not None:
                if _of(known) != one or known.stage != stage or known.fold != fold:
                    raise _differs(self.run, number)
                failed = known.rejected if not known.metrics else None
                self._scores[key] = failed or Score(known.metrics, known.returns, known.held)
            elif key not in self._scores:
                fresh.setdefault(change, {})[key] = one
        yield from self._run(fresh, span, stage)
        found = []
        for number, (key, one) in enumerate(zip(keys, candidates, strict=True), first):
            trial = self._trial(number, one, self._scores[key], stage, fold)
            found.append(trial)
            self._trials.append(trial)
            if number not in self._known:
                self._new.append(trial)
            if stage == "search" and trial.rejected is None:
                self._best = self.best([trial] if self._best is None else [self._best, trial])
        return found

    def _run(
        self, fresh: Mapping[Change, Mapping[tuple[object, ...], Candidate]], span: Span, stage: Stage
    ) -> Plan[None]:
        """Score what is new, in pieces. A piece that failed is tried again one by one, to find who is to blame."""
        pieces = []
        for change, candidates in fresh.items():
            items = list(candidates.items())
            size = -(-len(items) // self._width)
            pieces += [(change, items[n : n + size]) for n in range(0, len(items), size)]
        attempt = 0
        while pieces:
            attempt += 1
            calls = [
                Call(
                    _score,
                    (self.objective, [one for _, one in items], span, change),
                    with_data=True,
                    trials=len(items),
                )
                for change, items in pieces
            ]
            answers = yield self.step(calls, stage)
            again = []
            for (change, items), answer in zip(pieces, answers, strict=True):
                if not isinstance(answer, WatchHamsterError):
                    self._scores.update({key: score for (key, _), score in zip(items, answer, strict=True)})
                elif answer.code in _NOBODYS_FAULT:
                    raise answer
                elif len(items) > 1 or (answer.code == "worker_died" and attempt < _ATTEMPTS):
                    again += [(change, [item]) for item in items]
                else:
                    self._scores[items[0][0]] = answer.text
            pieces = again

    def _trial(self, number: int, candidate: Candidate, score: Score | Text, stage: Stage, fold: int) -> Trial:
        trial = Trial(
            number=number,
            parameters={} if isinstance(candidate, str) else candidate,
            formula=candidate if isinstance(candidate, str) else "",
            metrics={},
            stage=stage,
            fold=fold,
        )
        if isinstance(score, Text):
            return msgspec.structs.replace(trial, rejected=score)
        return msgspec.structs.replace(
            trial,
            metrics=score.metrics,
            rejected=self._rejected(score.metrics, stage),
            returns=score.returns,
            held=score.held,
        )

    def _rejected(self, metrics: Mapping[str, Number | None], stage: Stage) -> Text | None:
        for constraint in self._constraints if stage == "search" else ():
            if constraint.excess(metrics) > 0:
                return constraint.broken(metrics)
        for goal in self._goals:
            if goal.value(metrics) is None:
                return Text("{label} is not defined", {"label": _definition(goal.metric).label})
        return None

    def values(self, trials: Sequence[Trial]) -> list[Values]:
        """What a method is told: one number a goal, more is better. Rejected ones lie below all others, by how much."""
        found: list[Values] = []
        for trial in trials:
            known = [goal.value(trial.metrics) for goal in self._goals]
            if trial.rejected is None:
                values = [value for value in known if value is not None]
                self._floor = min(self._floor, *values)
                found.append(tuple(values))
            else:
                excess = max((c.excess(trial.metrics) for c in self._constraints), default=0.0)
                found.append((self._floor - 1.0 - excess,) * len(self._goals))
        return found

    def rank(self, trial: Trial) -> float:
        """By the first goal, more is better; nothing is below a rejected one."""
        value = self._goals[0].value(trial.metrics)
        return -math.inf if value is None or trial.rejected is not None else value

    def best(self, trials: Sequence[Trial]) -> Trial | None:
        """By the first goal; the earliest among equals. None where all are rejected."""
        allowed = [trial for trial in trials if trial.rejected is None]
        return max(allowed, key=self.rank, default=None)

    def ranked(self, trials: Sequence[Trial]) -> list[Trial]:
        """Those that are not rejected, best first, each set of parameters once."""
        unique = {_key(_of(t), (0, 0), Change()): t for t in reversed(trials) if t.rejected is None}
        return sorted(unique.values(), key=lambda trial: (-self.rank(trial), trial.number))

    def front(self, trials: Sequence[Trial]) -> tuple[Trial, ...]:
        """Those that no other beats in one goal without losing in another, by the first goal."""
        allowed = self.ranked(trials)
        points = [tuple(goal.value(t.metrics) or 0.0 for goal in self._goals) for t in allowed]
        return tuple(
            trial
            for trial, point in zip(allowed, points, strict=True)
            if not any(other != point and all(a >= b for a, b in zip(other, point, strict=True)) for other in points)
        )


def _key(candidate: Candidate, span: Span, change: Change) -> tuple[object, ...]:
    return candidate if isinstance(candidate, str) else tuple(candidate.items()), span, change


def _of(trial: Trial) -> Candidate:
    return trial.formula or dict(trial.parameters)


def _differs(run: str, number: int) -> UsageError:
    return UsageError(
        "run_differs",
        Text("Trial {number} of the run {run} is not of this search.", {"number": number, "run": run}),
        Text("Begin a new run: this one was made with other settings, or by another version."),
    )


def _search(runner: Runner, problem: Problem, span: Span, fold: int = 0) -> Plan[list[Trial]]:
    """Ask, run, tell."""
    home = f"{runner.run}/{fold}"
    told: list[Values] = []
    found: list[Trial] = []
    while True:
        sets = yield from runner.ask(Call(propose, (home, problem, tuple(told)), home))
        if not sets:
            return found
        trials = yield from runner.evaluate(sets, span, fold=fold)
        told += runner.values(trials)
        found += trials


def _walk(runner: Runner, plan: Optimisation, problem: Problem, splits: Sequence[Split]) -> Plan[Outside | None]:
    """Choose on each window, and apply to the time that follows. A window without a choice stays out of the market."""
    inside: list[Trial] = []
    outside: list[Trial] = []
    spans = []
    for fold, split in enumerate(splits, 1):
        seeded = msgspec.structs.replace(problem, seed=seed_of(plan.seed, fold))
        trials = yield from _search(runner, seeded, split.train[0], fold)
        best = runner.best(trials)
        if best is None:
            continue
        applied = yield from runner.evaluate([dict(best.parameters)], split.test[0], "outside", fold)
        inside.append(best)
        outside += applied
        spans.append(split.test[0])
    if not inside:
        return None
    return (yield from _outside(runner, inside, outside, spans))


def _in_three(runner: Runner, problem: Problem, train: Span, validate: Span, test: Span) -> Plan[Outside | None]:
    """Search, choose among the best by another span, and look at the third once."""
    trials = yield from _search(runner, problem, train)
    ranked = runner.ranked(trials)[:_VALIDATED]
    if not ranked:
        return None
    again = yield from runner.evaluate([dict(trial.parameters) for trial in ranked], validate, "validate")
    chosen = ranked[max(range(len(again)), key=lambda n: (runner.rank(again[n]), -n))]
    applied = yield from runner.evaluate([dict(chosen.parameters)], test, "outside")
    return (yield from _outside(runner, [chosen], applied, [test]))


def _outside(runner: Runner, inside: Sequence[Trial], outside: Sequence[Trial], spans: Sequence[Span]) -> Plan[Outside]:
    """Stitch what the choices did, and compare it with what had been promised."""
    digests: list[Digest] = []
    for trial, span in zip(outside, spans, strict=True):
        call = Call(_digest, (runner.objective, dict(trial.parameters), span), with_data=True)
        digests.append((yield from runner.ask(call, "outside")))
    stitched = stitch(digests)
    promised = np.concatenate([unpack_returns(trial.returns) for trial in inside])
    kept = returns_of(stitched.daily)
    before, after = _yearly(promised, stitched.year_days), _yearly(kept, stitched.year_days)
    return Outside(
        tuple(inside),
        tuple(outside),
        tuple(spans),
        pack(kept),
        as_metrics(measure(stitched)),
        after / before if before is not None and after is not None and before >= _LEAST_PACE else None,
    )


def _yearly(returns: Floats, year_days: int) -> float | None:
    """What a year of such days returns."""
    if not len(returns):
        return None
    growth = float(np.log1p(np.maximum(returns, -0.999999)).mean()) * year_days
    return math.expm1(min(growth, 700.0))


def stitch(digests: Sequence[Digest]) -> Digest:
    """Runs of spans that follow each other as one account, each beginning with what the one before ended with."""
    first = digests[0]
    daily = [first.daily[:1]]
    profits = []
    for digest in digests:
        growth = float(daily[-1][-1]) / digest.cash
        daily.append(digest.daily[1:] * growth)
        profits.append(digest.profits * growth)
    curve = np.concatenate(daily)
    weights = np.array([digest.elapsed_ns for digest in digests], np.float64)

    def joined(name: str) -> Any:
        return np.concatenate([getattr(digest, name) for digest in digests])

    def mean(name: str) -> float | None:
        values = [getattr(digest, name) for digest in digests]
        return None if None in values or not weights.sum() else float(np.average(values, weights=weights))

    hold = [digest.hold_final / digest.cash for digest in digests if digest.hold_final is not None]
    fall = 1 - curve / np.maximum.accumulate(curve)
    return Digest(
        cash=first.cash,
        final_equity=float(curve[-1]),
        elapsed_ns=int(weights.sum()),
        year_days=first.year_days,
        daily=curve,
        hold_final=first.cash * math.prod(hold) if len(hold) == len(digests) else None,
        max_drawdown=max(float(fall.max()), *(digest.max_drawdown for digest in digests)),
        ulcer=float(np.sqrt((fall * fall).mean())),
        longest_drawdown_ns=_longest_fall(fall) * DAY_NS,
        exposure=mean("exposure"),
        average_exposure=mean("average_exposure"),
        traded=math.fsum(digest.traded for digest in digests),
        average_equity=mean("average_equity"),
        fees=math.fsum(digest.fees for digest in digests),
        profits=np.concatenate(profits),
        profit_percents=joined("profit_percents"),
        risks=joined("risks"),
        best_percents=joined("best_percents"),
        worst_percents=joined("worst_percents"),
        bars_held=joined("bars_held"),
    )


def _longest_fall(fall: Floats) -> int:
    peaks = np.flatnonzero(np.concatenate((fall, [0.0])) == 0)
    return int(np.diff(peaks, prepend=-1).max()) - 1


def judge(
    runner: Runner,
    best: Trial,
    peers: Sequence[Trial],
    beside: Sequence[Candidate],
    span: Span,
    goal: Goal,
    seed: int,
    past_trials: int,
) -> Plan[tuple[Trust, Crossed | None]]:
    """Try what lies beside the best, make the market harder for it, and weigh it against all that was tried."""
    chosen, fold = _of(best), best.fold
    tried = [_of(trial) for trial in peers]
    beside = [one for one in beside if one not in tried]
    runner.total = len(runner.trials) + len(beside) + 2 + _RANDOM_ENTRIES
    neighbours = yield from runner.evaluate(beside, span, "neighbour", fold)
    stability = _stability(best, peers, neighbours, goal)
    (costs,) = yield from runner.evaluate([chosen], span, "doubled_costs", fold, [Change(costs=2.0)])
    (late,) = yield from runner.evaluate([chosen], span, "one_bar_later", fold, [Change(later_bars=1)])
    draws = [Change(random_entries=seed_of(seed, n)) for n in range(_RANDOM_ENTRIES)]
    chance = yield from runner.evaluate([chosen] * len(draws), span, "random_entries", fold, draws)
    metric = "total_return_percent"
    stressed = Stress(
        metric,
        best.metrics.get(metric),
        costs.metrics.get(metric),
        late.metrics.get(metric),
        tuple(one.metrics.get(metric) for one in chance),
    )
    others = [trial for trial in peers if trial.number != best.number and trial.returns][: _WEIGHED - 1]
    returns, held = [best.returns, *(t.returns for t in others)], [best.held, *(t.held for t in others)]
    digest = yield from runner.ask(Call(_digest, (runner.objective, chosen, span), with_data=True), "judging")
    trials = past_trials + sum(trial.stage in COUNTED for trial in runner.trials)
    trust = yield from runner.ask(Call(_judge, (digest, returns, trials, stability, stressed, seed)), "judging")
    crossed = yield from runner.ask(Call(cross_validate, (returns[:_CROSSED], held[:_CROSSED])), "judging")
    return trust, crossed


def _stability(best: Trial, peers: Sequence[Trial], neighbours: Sequence[Trial], goal: Goal) -> float | None:
    """What is around the best against it, from 0 to 1. Formulas have no landscape: what was tried beside it counts."""
    if best.parameters:
        around = neighbourhood([*peers, *neighbours], best, goal.metric) if goal.sign > 0 else None
        return None if around is None else around.stability
    height, values = goal.value(best.metrics), [goal.value(trial.metrics) or 0.0 for trial in neighbours]
    if not values or height is None or height <= 0:
        return None
    return min(1.0, max(0.0, float(np.median(values)) / height))


def beside_of(parameters: Mapping[str, Number], axes: Sequence[Axis]) -> list[Candidate]:
    """The sets one step away: around every corner, or, where those are many, along every axis."""
    ways: list[list[float]] = []
    for axis in axes:
        here = parameters[axis.name]
        step = axis.step or (axis.high - axis.low) / 50
        places = [here, *(n for n in (here - step, here + step) if axis.low - 1e-9 <= n <= axis.high + 1e-9)]
        ways.append([round(n) if axis.whole else round(n, 12) for n in places])
    names = [axis.name for axis in axes]
    corners = math.prod(len(values) for values in ways) - 1
    sets: list[tuple[float, ...]]
    if corners <= _NEIGHBOURS_MOST:
        sets = list(product(*ways))[1:]
    else:
        base = tuple(values[0] for values in ways)
        sets = [(*base[:n], value, *base[n + 1 :]) for n, values in enumerate(ways) for value in values[1:]]
    return [dict(zip(names, one, strict=True)) for one in sets[:_NEIGHBOURS_MOST]]


def as_metrics(metrics: Metrics) -> dict[str, float | None]:
    """Metrics by their names."""
    return {name: getattr(metrics, name) for name in DEFINITIONS if hasattr(metrics, name)}


def seed_of(seed: int, part: int) -> int:
    """Another seed for a part of a search."""
    return int(np.random.SeedSequence([seed % 2**63, part]).generate_state(1)[0])
