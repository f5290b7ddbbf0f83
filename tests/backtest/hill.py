"""Something to optimise whose true height is known: a hill of 58 x 180 cells under noise, found in no time."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from watchhamster.backtest.methods import Axis
from watchhamster.backtest.metrics import DAY_NS, Digest, measure
from watchhamster.backtest.optimise import Goal, Optimisation, as_metrics
from watchhamster.backtest.splits import Span
from watchhamster.backtest.trials import Score, pack
from watchhamster.backtest.trust import Change
from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text

AXES = (Axis("a", 2, 59, 1, True), Axis("b", 20, 199, 1, True))
SPAN = (0, 400 * DAY_NS)


def height(a: float, b: float) -> float:
    """Without the noise; 1 at the top."""
    return math.exp(-(((a - 17) / 8) ** 2) - ((b - 90) / 40) ** 2)


class Hill(msgspec.Struct, frozen=True):
    """`sharpe` is the noisy height. Daily returns drift by it, and are noise otherwise."""

    noise: float = 0.045
    fatal_a: int | None = None  # parameters that kill their worker, and a file: once only
    once: str = ""
    refused_a: int | None = None
    fewest: int = 100

    def score(self, data: Any, candidates: Sequence[Mapping[str, float]], span: Span, change: Change) -> list[Score]:
        found = []
        for one in candidates:
            if one["a"] == self.fatal_a and not (self.once and Path(self.once).exists()):
                if self.once:
                    Path(self.once).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if one["a"] == self.refused_a:
                raise UsageError("bad_formula", Text("It cannot be {a}.", {"a": one["a"]}))
            digest = self._run(one, span, change)
            metrics = as_metrics(measure(digest))
            noise = np.random.default_rng([int(one["a"]), int(one["b"])]).standard_normal()
            metrics["sharpe"] = height(one["a"], one["b"]) + self.noise * float(noise)
            days = np.arange(len(digest.profits)) * 3
            found.append(
                Score(metrics, pack(np.diff(digest.daily) / digest.daily[:-1]), pack(np.append(days, days + 1)))
            )
        return found

    def digest(self, data: Any, candidate: Mapping[str, float], span: Span) -> Digest:
        return self._run(candidate, span, Change())

    def _run(self, one: Mapping[str, float], span: Span, change: Change) -> Digest:
        days = (span[1] - span[0]) // DAY_NS
        drift = 0.0 if change.random_entries is not None else height(one["a"], one["b"]) * 0.01 / change.costs
        generator = np.random.default_rng([int(one["a"]), int(one["b"]), span[0] // DAY_NS, change.random_entries or 0])
        daily = 1000 * np.cumprod(np.append(1.0, 1 + drift + 0.01 * generator.standard_normal(days)))
        profits = np.diff(daily)[: min(self.fewest, days)]
        return Digest(
            cash=1000.0,
            final_equity=float(daily[-1]),
            elapsed_ns=span[1] - span[0],
            year_days=365,
            daily=daily,
            hold_final=1100.0,
            max_drawdown=min(1.0, abs(one["a"] - 30) / 60),
            profits=profits,
            profit_percents=profits / 10,
            bars_held=np.ones(len(profits), np.int64),
        )


def plan(**changes: Any) -> Optimisation:
    """A search of the hill."""
    settings: dict[str, Any] = {
        "run": "hill",
        "axes": AXES,
        "method": "genetic",
        "goals": (Goal("sharpe", 1),),
        "span": SPAN,
        "trials": 100,
    }
    return Optimisation(**{**settings, **changes})
