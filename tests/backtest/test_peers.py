"""Fills of two independent engines on recorded markets, to the last one.

`tests/data/peers` holds what backtesting.py and vectorbt answered (see `tests/benchmarks/compare_backtests.py`).
"""

from __future__ import annotations

import csv
import datetime as dt
import json
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.compare_backtests import ENGINES, ENTRY_BAR, STRATEGIES, differences, ours
from watchhamster.core.bars import Bars

RECORDED = Path(__file__).parents[1] / "data" / "peers"
SETS = ("upbit/candles-1d-KRW-BTC-2024-2025.csv", "yahoo/CALM-1d.csv", "yahoo/EWG-1d.csv")


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("path", SETS)
def test_fills_are_those_of(path: str, engine: str, strategy: str, shared_data: Path) -> None:
    answer = json.loads((RECORDED / f"{Path(path).stem}.{engine}.json").read_text())
    bars = _bars(shared_data / path)
    fills, equity = ours(bars, strategy, answer["cash"])
    theirs = answer["runs"][strategy]
    found = differences(fills, theirs["fills"], engine)
    assert len(fills) >= 8
    assert not [line for line in found if line.startswith("unexplained")]
    if not found:
        assert equity == pytest.approx(theirs["equity"], rel=1e-9)
    else:  # then the only rule is this one, and it was met
        assert (engine, strategy) == ("vectorbt", "rsi")
        assert any(line.startswith(ENTRY_BAR) for line in found)


def _bars(path: Path) -> Bars:
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    names = [name.lower() for name in header]
    open_, high, low, close = (
        np.array([float(row[names.index(name)]) for row in rows]) for name in ("open", "high", "low", "close")
    )
    times = [dt.datetime.fromisoformat(row[0]) for row in rows]
    open_ns = [int((t if t.tzinfo else t.replace(tzinfo=dt.UTC)).timestamp()) * 1_000_000_000 for t in times]
    absent = np.full(len(rows), np.nan)
    return Bars(np.array(open_ns, np.int64), open_, high, low, close, absent, absent)
