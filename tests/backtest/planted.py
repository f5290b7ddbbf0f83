"""A market with a secret: after an hour in which RSI(14) was below 30 it tends to rise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
import numpy as np

from watchhamster.backtest.metrics import DAY_NS, Digest, measure
from watchhamster.backtest.optimise import as_metrics
from watchhamster.backtest.splits import Span
from watchhamster.backtest.trials import Score, pack
from watchhamster.backtest.trust import Change
from watchhamster.core.bars import Bars
from watchhamster.core.market import Candle
from watchhamster.formula import parse

HOUR_NS = DAY_NS // 24
COUNT = 4800
SPAN = (0, COUNT * HOUR_NS)


@cache
def market(seed: int = 1, lift: float = 0.006) -> Bars:
    """Bars of a random walk that `lift`s the bar after a low RSI."""
    generator = np.random.default_rng(seed)
    secret, rows, close, low = parse("rsi(close, 14) < 30").stepper(), [], 100.0, False
    for n in range(COUNT):
        before = close
        close *= 1 + 0.006 * float(generator.standard_normal()) + (lift if low else 0.0)
        edge = 0.002 * float(generator.random())
        row = Candle(
            "x:Y", "1h", n * HOUR_NS, before, max(before, close) * (1 + edge), min(before, close) * (1 - edge), close,
            100 * float(generator.random()), None, True, "simulated",
        )  # fmt: skip
        rows.append(row)
        low = secret.push(row) is True
    return Bars.of(rows)


class Hold(msgspec.Struct, frozen=True):
    """In the market for the bar after each on which the formula holds; a little is paid for going in."""

    fee: float = 0.0002

    def bars(self, data: Bars, span: Span) -> Bars:
        return data.between(*span)

    def score(self, data: Bars, candidates: Sequence[str], span: Span, change: Change) -> list[Score]:
        found = []
        for one in candidates:
            digest, held = self._run(data, one, span, change)
            found.append(Score(as_metrics(measure(digest)), pack(np.diff(digest.daily) / digest.daily[:-1]), held))
        return found

    def digest(self, data: Bars, candidate: str, span: Span) -> Digest:
        return self._run(data, candidate, span, Change())[0]

    def _run(self, data: Bars, formula: str, span: Span, change: Change) -> tuple[Digest, bytes]:
        bars = data.between(*span)
        held = parse(formula).over(bars).true.copy()
        if change.random_entries is not None:
            held = np.random.default_rng(change.random_entries).permutation(held)
        held = np.roll(held, 1 + change.later_bars)
        held[: 1 + change.later_bars] = False
        entered = held & ~np.roll(held, 1)
        steps = np.diff(bars.close, prepend=bars.close[0]) / np.roll(bars.close, 1) * held
        steps -= self.fee * change.costs * entered
        equity = 1000 * np.cumprod(1 + steps)
        daily = np.concatenate(([1000.0], equity[23::24]))
        profits = np.diff(np.append(equity[entered], equity[-1])) if entered.any() else np.empty(0)
        days = np.flatnonzero(entered) // 24
        digest = Digest(
            cash=1000.0,
            final_equity=float(equity[-1]),
            elapsed_ns=span[1] - span[0],
            year_days=365,
            daily=daily,
            profits=profits,
            profit_percents=profits / 10,
            bars_held=np.ones(len(profits), np.int64),
        )
        return digest, pack(np.concatenate((days, days)))


def no_edge(data: Any) -> Bars:
    """The same without the secret."""
    return market(lift=0.0)
