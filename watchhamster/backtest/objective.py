"""Backtests as something to optimise: the parameters of a strategy, or its entry condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from watchhamster.backtest.methods import Axis
from watchhamster.backtest.metrics import Digest, daily_equity, digest, measure, returns_of
from watchhamster.backtest.optimise import Candidate, as_metrics
from watchhamster.backtest.results import Result
from watchhamster.backtest.run import History, backtest
from watchhamster.backtest.splits import Span
from watchhamster.backtest.strategy import Entry, Strategy
from watchhamster.backtest.trials import Score, pack
from watchhamster.backtest.trust import Change
from watchhamster.core.bars import Bars
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
        return [self._score(self._run(data, candidate, span, change)) for candidate in candidates]

    def digest(self, data: History, candidate: Candidate, span: Span) -> Digest:
        """One run, to be judged."""
        return digest(self._run(data, candidate, span, Change()))

    def bars(self, data: History, span: Span) -> Bars:
        """Of the first instrument."""
        return data.bars[0].between(*span)

    def _run(self, data: History, candidate: Candidate, span: Span, change: Change) -> Result:
        strategy, parameters = self.strategy, {}
        if isinstance(candidate, str):
            other = {"long": "short", "short": "long"}[self.side]
            entry = msgspec.structs.replace(strategy.entry, **{self.side: candidate, other: None})
            strategy = msgspec.structs.replace(strategy, entry=entry)
        else:
            parameters = candidate
        return backtest(
            strategy,
            data,
            parameters={**self.fixed, **parameters},
            since_ns=span[0],
            until_ns=span[1],
            cash=self.cash,
            close_at_end=self.close_at_end,
            year_days=self.year_days,
            change=change,
            library=Library(self.formulas) if self.formulas else None,
            compiled=self.compiled,
        )

    def _score(self, result: Result) -> Score:
        ends, daily = daily_equity(result)
        entries = np.array([trade.entry_ns for trade in result.trades], np.int64)
        exits = np.array([trade.exit_ns for trade in result.trades], np.int64)
        # The first of the ends is the start, so that day n lies between ends n and n + 1.
        days = np.searchsorted(ends, np.concatenate((entries, exits)), side="right") - 1
        return Score(as_metrics(measure(result)), pack(returns_of(daily)), pack(days))
