"""Our fills beside those of backtesting.py and vectorbt, to the last one; every difference must have a named rule.

    python -m venv /tmp/peers && /tmp/peers/bin/pip install backtesting vectorbt TA-Lib
    python -m tests.benchmarks.compare_backtests --peers /tmp/peers/bin/python [CSV...] [--record tests/data/peers]

Compares on backtesting.py's own GOOG and EURUSD and on the CSV files given. `--record` keeps the peers' answers for the
files, without their bars, for `tests/backtest/test_peers.py`. Exits with 1 if a fill differs without a reason.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from watchhamster.backtest import strategy as documents
from watchhamster.backtest.results import Fill
from watchhamster.backtest.run import InstrumentRules, backtest
from watchhamster.core.bars import Bars

HERE = Path(__file__).parent
ENGINES = ("backtesting.py", "vectorbt")
NAME = "sim:PEER"
_COSTS = "[costs]\nfee_percent = 0.05\n"
STRATEGIES = {
    "cross": """
name = "cross"
[entry]
long = "cross_above(sma(close, 10), sma(close, 30))"
[[exit]]
name = "dead cross"
when = "cross_below(sma(close, 10), sma(close, 30))"
"""
    + _COSTS,
    "rsi": """
name = "rsi"
[entry]
long = "rsi(close, 14) < 30"
[protect]
stop_percent = 2
target_percent = 4
"""
    + _COSTS,
    "macd": """
name = "macd"
[entry]
long = "cross_above(macd(close).macd, macd(close).signal)"
short = "cross_below(macd(close).macd, macd(close).signal)"
size = { amount = 100 }
"""
    + _COSTS,
}
# Why fills of an engine may differ from ours.
Trip: TypeAlias = tuple[int, float, int | None, float | None]  # bar and price of the entry, and of the exit
ENTRY_BAR = "vectorbt does not look at the stop and the target in the bar of the entry"


def ours(bars: Bars, name: str, cash: float) -> tuple[list[list[float]], float]:
    """Fills as `[bar, signed size, price]`, and the last equity."""
    result = backtest(
        documents.read(STRATEGIES[name]),
        {NAME: bars},
        frame="1d",
        cash=cash,
        rules={NAME: InstrumentRules(lot=Decimal(1))},
    )
    sums: dict[tuple[int, float], float] = {}
    for fill in result.fills:
        key = (int(np.searchsorted(bars.open_ns, fill.at_ns)), fill.price)
        sums[key] = sums.get(key, 0.0) + _signed(fill)
    fills = [[bar, size, price] for (bar, price), size in sorted(sums.items()) if size]
    return fills, float(result.curve.equity[-1])


def _signed(fill: Fill) -> float:
    return fill.size if fill.side == "buy" else -fill.size


def differences(mine: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]], engine: str) -> list[str]:
    """What differs, in words; those that begin with `unexplained` have no rule."""
    if _same(mine, theirs):
        return []
    if engine != "vectorbt":
        return [f"unexplained: {_first(mine, theirs)}"]
    return _entry_bar(mine, theirs)


def _same(mine: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> bool:
    return len(mine) == len(theirs) and all(
        a[:2] == b[:2] and _close(a[2], b[2]) for a, b in zip(mine, theirs, strict=True)
    )


def _first(mine: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> str:
    for a, b in zip(mine, theirs, strict=False):
        if not _same([a], [b]):
            return f"ours {a}, theirs {b}"
    return f"ours has {len(mine)} fills, theirs {len(theirs)}"


def _trips(fills: Sequence[Sequence[float]]) -> list[Trip]:
    """Entry bar and price, exit bar and price of each round trip of a long-only run. Exits of a bar come first, but
    those of the position that was entered in it."""
    trips: list[Trip] = []
    held: tuple[int, float] | None = None
    by_bar: dict[int, list[Sequence[float]]] = {}
    for fill in fills:
        by_bar.setdefault(int(fill[0]), []).append(fill)
    for bar, some in sorted(by_bar.items()):
        for fill in sorted(some, key=lambda fill: fill[1] > 0 if held is not None else fill[1] < 0):
            if fill[1] > 0:
                held = (bar, fill[2])
            elif held is not None:
                trips.append((*held, bar, fill[2]))
                held = None
    if held is not None:
        trips.append((*held, None, None))
    return trips


def _entry_bar(mine: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> list[str]:
    """Round trips side by side: equal ones, ones that ours left in the bar of the entry, and what follows from those:
    an engine cannot enter while it still holds what the other had left."""
    found = []
    ours, other = {trip[0]: trip for trip in _trips(mine)}, {trip[0]: trip for trip in _trips(theirs)}
    for bar in sorted(ours.keys() | other.keys()):
        a, b = ours.get(bar), other.get(bar)
        if a is not None and b is not None:
            if a[2] == b[2] and _close(a[1], b[1]) and _close(a[3], b[3]):
                continue
            known = a[2] == bar  # ours left at once
            found.append(f"{ENTRY_BAR}: bar {bar}" if known else f"unexplained: ours {a}, theirs {b}")
        else:
            held = _holding(other.values() if b is None else ours.values(), bar)
            who = "theirs" if b is None else "ours"
            found.append(
                f"follows from it: {who} was in on bar {bar}" if held else f"unexplained: {a or b} by one alone"
            )
    return found


def _close(a: float | None, b: float | None) -> bool:
    return a == b or (a is not None and b is not None and abs(a - b) <= 1e-12 * abs(b))


def _holding(trips: Iterable[Trip], bar: int) -> bool:
    """Whether a position from before a bar is open at its open, or was left in it."""
    return any(since < bar and (until is None or bar <= until) for since, _, until, _ in trips)


def ask(peers: str, engine: str, dataset: str) -> dict[str, Any]:
    """A peer's answer."""
    command = [peers, str(HERE / "peer_fills.py"), engine, dataset]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def bars_of(answer: dict[str, Any]) -> Bars:
    """The bars the peer ran on."""
    open_ns = np.array(answer["open_ns"], np.int64)
    open_, high, low, close, volume = (np.array(column, np.float64) for column in answer["bars"])
    return Bars(open_ns, open_, high, low, close, volume, np.full(len(open_ns), np.nan))


def main() -> int:
    """Compare, print a line each, and say whether all is explained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*")
    parser.add_argument("--peers", required=True, help="a Python with backtesting, vectorbt and TA-Lib")
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    unexplained = 0
    for dataset in ("GOOG", "EURUSD", *options.files):
        for engine in ENGINES:
            answer = ask(options.peers, engine, dataset)
            bars = bars_of(answer)
            for name, run in answer["runs"].items():
                fills, equity = ours(bars, name, answer["cash"])
                found = differences(fills, run["fills"], engine)
                wrong = sum(line.startswith("unexplained") for line in found)
                if not found and abs(equity - run["equity"]) > 1e-9 * abs(equity):
                    wrong, found = 1, [f"unexplained: equity {equity}, theirs {run['equity']}"]
                unexplained += wrong
                print(f"{Path(dataset).stem:32} {name:6} {engine:15} {len(fills):4} fills", end="  ")
                print("the same" if not found else f"{len(found)} differences, {wrong} unexplained")
                for line in found[:4]:
                    print("    ", line)
            if options.record and dataset in options.files:
                options.record.mkdir(parents=True, exist_ok=True)
                kept = {key: answer[key] for key in ("cash", "runs")}
                path = options.record / f"{Path(dataset).stem}.{engine}.json"
                path.write_text(json.dumps(kept, separators=(",", ":")) + "\n", encoding="utf-8")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
