"""Backtests as something to optimise: the parameters of a strategy, or its entry condition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from watchhamster.backtest.methods import Axis
from watchhamster.backtest.metrics import DAY_NS, Digest, local_days, measure, returns_of
from watchhamster.backtest.optimise import Candidate, as_metrics
from watchhamster.backtest.run import History, Swept, backtest, sweep
from watchhamster.backtest.splits import Span
from watchhamster.backtest.strategy import Entry, Strategy
from watchhamster.backtest.trials import Score, pack
from watchhamster.backtest.trust import Change
from watchhamster.core.bars import Bars, Ints
from watchhamster.core.timeframes import SECOND_NS
from watchhamster.formula import Library


def axes_of(strategy: Strategy) -> tuple[Axis, ...]:
    """The parameters that have a least and a most. Where default, least, most and step are whole, so is each value."""
    found = []
    for name, parameter in strategy.parameters.items():
        if parameter.min is None or parameter.max is None:
            continue
        numbers = (parameter.default, parameter.min, parameter.max, parameter.step or 1.0)
        whole = all(float(number).is_integer() for number in numbers)
        step = parameter.step or (1.0 if whole else None)
        found.append(Axis(name, parameter.min, parameter.max, step, whole, parameter.default))
    return tuple(found)


def warm() -> None:
    """Load what compiled backtests run on; the first time on a machine, compile it. For workers, when they start."""
    level = np.full(4, 100.0)
    bars = Bars(np.arange(4) * 60 * SECOND_NS, level, level, level, level, level, level)
    strategy = Strategy(name="warm", entry=Entry(long="close > open"))
    backtest(strategy, History({"x:Y": bars}, "1m"), compiled=True)


class Backtests(msgspec.Struct, frozen=True):
    """Runs of one strategy. Candidates are values of some of its parameters, or formulas for its entry.

    The data is a `History`. `fixed` are values of parameters that are not searched; `compiled` where a second's
    warm-up pays: in workers.
    """

    strategy: Strategy
    fixed: Mapping[str, float] = {}
    cash: float = 10_000_000.0
    year_days: int = 365
    close_at_end: bool = False
    formulas: Mapping[str, str] = {}  # saved ones that the strategy may use, by name
    side: Literal["long", "short"] = "long"  # of the entry that formulas are for
    compiled: bool = True

    def score(self, data: History, candidates: Sequence[Candidate], span: Span, change: Change) -> list[Score]:
        """Each run's metrics, days and trades."""
        days = _Days(data, span, self.year_days)
        return [
            Score(
                as_metrics(measure(run.digest)),
                pack(returns_of(run.digest.daily)),
                pack(days.of(np.concatenate((run.entry_ns, run.exit_ns)))),
            )
            for run in self._runs(data, candidates, span, change)
        ]

    def digest(self, data: History, candidate: Candidate, span: Span) -> Digest:
        """One run, to be judged."""
        (run,) = self._runs(data, [candidate], span, Change())
        return run.digest

    def bars(self, data: History, span: Span) -> Bars:
        """Of the first instrument."""
        return data.bars[0].between(*span)

    def _runs(self, data: History, candidates: Sequence[Candidate], span: Span, change: Change) -> Iterator[Swept]:
        sets = [{**self.fixed, **candidate} for candidate in candidates if not isinstance(candidate, str)]
        if sets:
            yield from self._sweep(self.strategy, data, sets, span, change)
        for candidate in candidates:
            if isinstance(candidate, str):
                other = {"long": "short", "short": "long"}[self.side]
                entry = msgspec.structs.replace(self.strategy.entry, **{self.side: candidate, other: None})
                strategy = msgspec.structs.replace(self.strategy, entry=entry)
                yield from self._sweep(strategy, data, [self.fixed], span, change)

    def _sweep(
        self, strategy: Strategy, data: History, sets: Sequence[Mapping[str, float]], span: Span, change: Change
    ) -> Iterator[Swept]:
        return sweep(
            strategy,
            data,
            sets,
            since_ns=span[0],
            until_ns=span[1],
            cash=self.cash,
            close_at_end=self.close_at_end,
            year_days=self.year_days,
            change=change,
            library=Library(self.formulas) if self.formulas else None,
            compiled=self.compiled,
        )


class _Days:
    """Which daily return a bar belongs to, as `metrics.daily_equity` counts days."""

    def __init__(self, data: History, span: Span, year_days: int) -> None:
        opens = [bars.between(*span).open_ns for bars in data.bars]
        self._opens = opens[0] if len(opens) == 1 else np.unique(np.concatenate(opens))
        if year_days == 365:
            days = self._opens // DAY_NS
            self._index = days - days[:1]
        else:
            days = local_days(self._opens, data.zone)
            self._index = np.searchsorted(np.unique(days), days)

    def of(self, open_ns: Ints) -> Ints:
        """The days of bars, by their opens; the first is 0."""
        found: Ints = self._index[np.searchsorted(self._opens, open_ns)]
        return found
