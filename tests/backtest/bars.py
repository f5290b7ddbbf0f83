"""Bars and strategies for the tests: what a signal is on stands in the volume, so real formulas read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np

from watchhamster.backtest.results import Result
from watchhamster.backtest.run import InstrumentRules, backtest
from watchhamster.backtest.strategy import Strategy
from watchhamster.core.bars import Bars

MINUTE_NS = 60_000_000_000
BTC = "upbit:KRW-BTC"
FLAT = (100.0, 100.5, 99.5, 100.0)
FREE = InstrumentRules()
Row = tuple[float, float, float, float] | None


def bars_of(rows: Iterable[Row], entries: Iterable[int] = (), exits: Iterable[int] = ()) -> Bars:
    """Minutes of these prices (None: no bar). Volume 1, plus 1 where an entry and 2 where an exit is true."""
    entries, exits = set(entries), set(exits)
    kept = [(i, row) for i, row in enumerate(rows) if row is not None]
    o, h, lo, c = np.array([row for _, row in kept], np.float64).reshape(-1, 4).T.copy()
    volume = np.array([1.0 + (i in entries) + 2.0 * (i in exits) for i, _ in kept])
    times = np.array([i * MINUTE_NS for i, _ in kept], np.int64)
    return Bars(times, o, h, lo, c, volume, volume * c)


def strategy(*, side: str = "long", exits: bool = True, **parts: Any) -> Strategy:
    """A strategy that reads the volume of `bars_of`; `parts` are sections of the document."""
    document: dict[str, Any] = {"name": "micro", "timeframe": "1m", **parts}
    document["entry"] = {side: "volume == 2 or volume == 4", **document.get("entry", {})}
    if exits:
        document["exit"] = [{"name": "signal", "when": "volume >= 3"}]
    return msgspec.convert(document, Strategy)


def run(
    rows: Mapping[int, Row] | None = None,
    *,
    entries: Iterable[int] = (),
    exits: Iterable[int] = (),
    count: int = 8,
    cash: float = 1000.0,
    rules: InstrumentRules = FREE,
    side: str = "long",
    options: Mapping[str, Any] | None = None,
    **parts: Any,
) -> Result:
    """The micro strategy on flat bars but those shown."""
    prices: list[Row] = [(rows or {}).get(i, FLAT) for i in range(count)]
    return backtest(
        strategy(side=side, **parts),
        {BTC: bars_of(prices, entries, exits)},
        cash=cash,
        rules={BTC: rules},
        **(options or {}),
    )


def walk(count: int, seed: int = 1, start: float = 100.0, sigma: float = 0.004) -> Bars:
    """A seeded random walk of minutes, with gaps between bars."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((count, 4)) * sigma
    steps[:, 0] *= 0.5
    path = np.exp(np.cumsum(steps.ravel()) + np.log(start)).reshape(count, 4)
    volume = rng.lognormal(3.0, 1.0, count)
    times = np.arange(count, dtype=np.int64) * MINUTE_NS
    columns = (path[:, 0].copy(), path.max(1), path.min(1), path[:, -1].copy())
    return Bars(times, *columns, volume, volume * columns[3])


def document(**sections: Any) -> Strategy:
    """A strategy from its sections."""
    return msgspec.convert({"name": "tried", "timeframe": "1m", **sections}, Strategy)


CROSS = {"long": "cross_above(sma(close, 5), sma(close, 15))"}
BOTH = {**CROSS, "short": "cross_below(sma(close, 5), sma(close, 15))"}
DEAD = [{"name": "dead cross", "when": "cross_below(sma(close, 5), sma(close, 15))"}]

# Every part of a document once: what holds for all of them holds for the kernel.
DOCUMENTS: dict[str, Strategy] = {
    "cross": document(entry=CROSS, exit=DEAD),
    "reversing": document(entry=BOTH, protect={"stop_percent": 2}),
    "stop and target": document(
        entry={"long": "rsi(close, 7) < 35", "size": {"risk_percent": 1}},
        protect={"stop_percent": 0.8, "target_percent": 1.5},
    ),
    "legs, trail, break-even": document(
        entry={"long": "close > close[1]", "cooldown_bars": 3},
        protect={
            "targets": [{"percent": 0.5, "share": 0.3}, {"percent": 1, "share": 0.3}, {"percent": 3}],
            "trailing_percent": 1.2,
            "trailing_arm_percent": 0.4,
            "break_even_percent": 0.7,
            "stop_atr": 3,
        },
    ),
    "limits": document(
        entry={"long": "rsi(close, 7) < 45", "limit": "close * 0.998", "valid_bars": 4, "size": {"money": 5000}},
        exit=[{"name": "high", "when": "rsi(close, 7) > 60"}],
        protect={"target_percent": 1, "stop_percent": 1},
    ),
    "breakouts": document(
        entry={
            "long": "close > sma(close, 10)",
            "stop": "highest(high, 10)",
            "short": "close < sma(close, 10)",
            "short_stop": "lowest(low, 10)",
            "size": {"volatility_percent": 2, "atr_multiple": 2},
        },
        protect={"trailing_percent": 1, "max_bars": 30},
    ),
    "pyramids and parts": document(
        entry={"long": "close > highest(close[1], 8)", "max_entries": 4, "size": {"cash_percent": 30}},
        exit=[
            {"name": "part", "when": "rsi(close, 7) > 70", "share": 0.5},
            {"name": "low", "when": "close < lowest(close[1], 12)"},
        ],
    ),
    "of its position": document(
        entry={"long": "close > sma(close, 5)", "size": {"weight": 0.7}},
        exit=[
            {"name": "enough", "when": "profit_pct > 0.6 or bars_held >= 20"},
            {"name": "given back", "when": "peak_profit_pct - profit_pct > 0.5"},
        ],
    ),
    "costly": document(
        entry={**BOTH, "size": {"equity_percent": 80}, "weekdays": ["thu"], "sessions": ["00:10-09:00"]},
        exit=[{"name": "low", "when": "close < lowest(close[1], 9)", "side": "long"}],
        costs={"fee_percent": 0.05, "slippage": {"basis_points": 3, "volume_share": 0.02}, "borrow_percent": 900},
    ),
}
