"""Bars and strategies for the tests: what a signal is on stands in the volume, so real formulas read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np

from watchhamster.backtest.run import InstrumentRules, backtest
from watchhamster.backtest.results import Result
from watchhamster.backtest.strategy import Strategy
from watchhamster.core.bars import Bars

MINUTE_NS = 60_000_000_000
BTC = "upbit:KRW-BTC"
FLAT = (100.0, 100.5, 99.5, 100.0)
Row = tuple[float, float, float, float] | None


def bars_of(rows: Iterable[Row], entries: Iterable[int] = (), exits: Iterable[int] = ()) -> Bars:
    """Minutes of these prices (None: no bar). Volume 1, plus 1 where an entry and 2 where an exit is true."""
    entries, exits = set(entries), set(exits)
    kept = [(i, row) for i, row in enumerate(rows) if row is not None]
    prices = np.array([row for _, row in kept], np.float64).reshape(-1, 4).T.copy()
    volume = np.array([1.0 + (i in entries) + 2.0 * (i in exits) for i, _ in kept])
    times = np.array([i * MINUTE_NS for i, _ in kept], np.int64)
    return Bars(times, *prices, volume, volume * prices[3])


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
    rules: InstrumentRules = InstrumentRules(),
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
