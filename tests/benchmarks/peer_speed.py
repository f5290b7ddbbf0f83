# mypy: ignore-errors
"""What other engines take for the tasks of `bench_backtest.py`, which runs this file in an environment that has them.

    pip install phasor-trader vectorbt vectorbt-rust TA-Lib

    python tests/benchmarks/peer_speed.py BARS.npz

Answers every task that is named on a line of its input with a line of JSON: milliseconds of CPU and what came out, or
why not. Decisions at a close fill at the next open. Each is given what is quickest for it; signals are computed by
numpy, as its users do. Of one instrument its statistics are asked for, else nothing but final equity and trades.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np

FEE, CASH = 0.0005, 1e12


def sma(close, window):
    """By a running sum."""
    out = np.full(len(close), np.nan)
    sums = np.cumsum(close)
    out[window - 1] = sums[window - 1] / window
    out[window:] = (sums[window:] - sums[:-window]) / window
    return out


def cross(fast, slow):
    """Entries and exits, on the bars at whose open they fill."""
    above, below = np.zeros(len(fast), bool), np.zeros(len(fast), bool)
    with np.errstate(invalid="ignore"):
        above[2:] = (fast[1:-1] > slow[1:-1]) & (fast[:-2] <= slow[:-2])
        below[2:] = (fast[1:-1] < slow[1:-1]) & (fast[:-2] >= slow[:-2])
    return above, below


def columns(pairs):
    """Equally long pairs, side by side."""
    return (np.ascontiguousarray(np.column_stack(side)) for side in zip(*pairs, strict=True))


def late(signals):
    """One bar later."""
    return np.concatenate(([False], signals[:-1]))


def phasor_tasks(data) -> dict[str, Callable[[], object]]:
    """phasor-trader, in Rust."""
    import phasor
    import talib

    o, h, lo, c = data["long"]

    def one():
        run = phasor.from_signals(c, *cross(sma(c, 10), sma(c, 50)), price=o[:, None], fees=FEE, init_cash=CASH)
        run.stats()
        return float(run.value(0)[-1]), int(np.sum(run.trade_count()))

    def bracket():
        entries = late(talib.RSI(c, 14) < 30)
        run = phasor.from_signals(
            c, entries, np.zeros(len(c), bool), open=o, high=h, low=lo, price=o[:, None], fees=FEE, init_cash=CASH,
            sl_stop=0.02, tp_stop=0.04, stop_entry_price="fillprice", stop_exit_price="stopmarket",
        )  # fmt: skip
        run.stats()
        return float(run.value(0)[-1]), int(np.sum(run.trade_count()))

    def sweep():
        so, sh, sl, sc = data["short"]
        averages = {window: sma(sc, window) for window in np.unique(data["sets"]).tolist()}
        trades = 0
        for start in range(0, len(data["sets"]), 100):
            part = data["sets"][start : start + 100].tolist()
            entries, exits = columns(cross(averages[fast], averages[slow]) for fast, slow in part)
            run = phasor.from_signals(
                sc[:, None], entries, exits, open=so[:, None], high=sh[:, None], low=sl[:, None], price=-np.inf,
                column_map=np.zeros(len(part), np.int64), fees=FEE, init_cash=CASH,
            )  # fmt: skip
            trades += int(np.sum(run.trade_count()))
            last = [run.value(number)[-1] for number in range(len(part))]
        return float(last[-1]), trades

    return {"cross": one, "bracket": bracket, "sweep": sweep}


def vectorbt_tasks(data) -> dict[str, Callable[[], object]]:
    """vectorbt, by its Rust engine."""
    import pandas as pd
    import vectorbt as vbt

    vbt.settings["engine"] = "rust"
    vbt.settings.array_wrapper["freq"] = "1min"

    def of(close, opens, entries, exits, cash):
        run = vbt.Portfolio.from_signals(
            pd.DataFrame(close, index=pd.date_range("2023-01-01", periods=len(close), freq="min")),
            entries=entries, exits=exits, price=opens, fees=FEE, init_cash=cash,
        )  # fmt: skip
        if close.shape[1] == 1:
            run.iloc[0].stats()
        return float(np.sum(run.final_value())), int(np.sum(run.trades.closed.count()))

    def one():
        o, _, _, c = data["long"]
        return of(c[:, None], o[:, None], *(side[:, None] for side in cross(sma(c, 10), sma(c, 50))), CASH)

    def purse():
        o, c = data["purse_open"], data["purse_close"]
        return of(c, o, *columns(cross(sma(one, 10), sma(one, 50)) for one in c.T), CASH / c.shape[1])

    return {"cross": one, "purse": purse}


def main() -> None:
    """Answer until the input ends."""
    with np.load(sys.argv[1]) as given:
        data = dict(given)
    tasks: dict[str, Callable[[], object]] = {}
    for name, make in (("phasor-trader", phasor_tasks), ("vectorbt with Rust", vectorbt_tasks)):
        try:
            tasks |= {f"{name}: {task}": run for task, run in make(data).items()}
        except ImportError as error:
            print(f"{name} is missing: {error}", file=sys.stderr)
    print(json.dumps(list(tasks)), flush=True)
    for line in sys.stdin:
        start = time.process_time()
        found = tasks[line.strip()]()
        print(json.dumps([(time.process_time() - start) * 1e3, found]), flush=True)


if __name__ == "__main__":
    main()
