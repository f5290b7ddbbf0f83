"""What backtests cost beside a hand-written C loop, in one run.

    python tests/benchmarks/bench_backtest.py [rounds] [--peers PYTHON]

Needs a C compiler (`CC`, else cc). The first run on a machine compiles the kernel, which takes half a minute and is not
measured. CPU time, best of interleaved rounds; the C loop keeps neither curve nor trades. With an interpreter that has
other engines (see `peer_speed.py`) theirs is measured in the same run.

- one SMA cross on 1 M bars, all in: formula, fills, equity, trades, metrics (at most 2.5 x C)
- RSI below 30, stop 2 %, target 4 %, 1 M bars (at most 2.5 x C)
- 1,000 sets of the cross on 100 k bars (at most 2 x C; `rounds` times 100 of the sets are run)
- 100 instruments x 20 k bars in one purse (at most 80 ms, the kernel 15)
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from watchhamster.backtest import kernel
from watchhamster.backtest.metrics import measure
from watchhamster.backtest.run import History, Plan, _Run, backtest, sweep
from watchhamster.backtest.strategy import Strategy, read
from watchhamster.core.bars import Bars

FEE = 0.0005
CASH = 1e12
CROSS = read("""
name = "cross"
[parameters.fast]
default = 10
[parameters.slow]
default = 50
[entry]
long = "cross_above(sma(close, fast), sma(close, slow))"
[[exit]]
name = "dead cross"
when = "cross_below(sma(close, fast), sma(close, slow))"
[costs]
fee_percent = 0.05
""")
BRACKET = read("""
name = "bracket"
[entry]
long = "rsi(close, 14) < 30"
[protect]
stop_percent = 2
target_percent = 4
[costs]
fee_percent = 0.05
""")
SHARED = read(
    """
name = "one purse"
[entry]
long = "cross_above(sma(close, 10), sma(close, 50))"
size = { cash_percent = 5 }
[[exit]]
name = "dead cross"
when = "cross_below(sma(close, 10), sma(close, 50))"
[costs]
fee_percent = 0.05
"""
)
OURS = {"cross": "  to the metrics", "bracket": "  to the metrics, too", "purse": "100 instruments x 20 k bars"}
SETS = [{"fast": float(fast), "slow": float(slow)} for fast in range(2, 42) for slow in range(45, 170, 5)]


def walk(count: int, seed: int) -> Bars:
    """A seeded geometric walk of minutes: a small gap, then four steps within the bar."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((count, 5))
    steps[:, 0] *= 0.0001
    steps[:, 1:] *= 0.0012 / 2
    path = np.exp(np.cumsum(steps.ravel()) + np.log(100.0)).reshape(count, 5)
    volume = rng.lognormal(3.0, 1.0, count)
    times = np.arange(count, dtype=np.int64) * 60_000_000_000
    columns = (path[:, 0].copy(), path.max(1), path.min(1), path[:, -1].copy())
    return Bars(times, *columns, volume, volume * columns[3])


class Bound:
    """The C loops."""

    def __init__(self, folder: str) -> None:
        source = Path(__file__).with_name("backtest_bound.c")
        built = Path(folder) / "bound.so"
        flags = ["-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC"]
        subprocess.run([os.environ.get("CC", "cc"), *flags, str(source), "-o", str(built)], check=True)
        self.library = ctypes.CDLL(str(built))

    def _call(self, name: str, *arguments: object) -> None:
        words: list[object] = []
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                words.append(ctypes.c_void_p(argument.ctypes.data))
            else:
                words.append(ctypes.c_double(argument) if isinstance(argument, float) else ctypes.c_size_t(argument))  # type: ignore[arg-type]
        getattr(self.library, name)(*words)

    def sma(self, bars: Bars, window: int) -> np.ndarray:
        """A moving average of the closes."""
        out = np.empty(len(bars))
        self._call("sma", bars.close, len(bars), window, out)
        return out

    def cross(self, bars: Bars, fast: np.ndarray, slow: np.ndarray, since: int) -> np.ndarray:
        """Equity, trades, drawdown, sums of returns and of their squares."""
        out = np.empty(5)
        self._call("cross", bars.open, bars.close, fast, slow, len(bars), since, CASH, FEE, out)
        return out

    def bracket(self, bars: Bars) -> np.ndarray:
        """The same, of stop and target."""
        index, out = np.empty(len(bars)), np.empty(5)
        self._call("rsi", bars.close, len(bars), 14, index)
        self._call(
            "bracket", bars.open, bars.high, bars.low, bars.close, index, len(bars), 30.0, 0.02, 0.04, CASH, FEE, out
        )
        return out


def interleaved(tasks: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Best CPU milliseconds of each."""
    best = dict.fromkeys(tasks, float("inf"))
    for _ in range(rounds):
        for name, task in tasks.items():
            start = time.process_time()
            task()
            best[name] = min(best[name], (time.process_time() - start) * 1e3)
    return best


class Peers:
    """Other engines, in a process of theirs."""

    def __init__(self, python: str, folder: str, data: dict[str, np.ndarray]) -> None:
        np.savez(Path(folder) / "bars.npz", **data)  # type: ignore[arg-type]
        command = [python, str(Path(__file__).with_name("peer_speed.py")), str(Path(folder) / "bars.npz")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.tasks: list[str] = json.loads(self._line())
        for task in self.tasks:  # once, to compile and to see that they trade the same
            print(f"{task:40} {self.ask(task)[1]}")

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def ask(self, task: str) -> tuple[float, object]:
        """CPU milliseconds of one run, and its last equity and trades."""
        assert self.process.stdin is not None
        self.process.stdin.write(task + "\n")
        self.process.stdin.flush()
        milliseconds, found = json.loads(self._line())
        return milliseconds, found


def whole(strategy: Strategy, history: History) -> float | None:
    """One warm run to its metrics, as a sweep does it: fills, curve and trades as arrays."""
    (swept,) = sweep(strategy, history, [{}], cash=CASH, compiled=True)
    return measure(swept.digest).sharpe


def main(rounds: int, python: str | None) -> None:
    """Measure and print."""
    kernel.compiled()
    with tempfile.TemporaryDirectory() as folder:
        bound = Bound(folder)
        bars = walk(1_000_000, 7)
        history = History({"x:A": bars}, "1m")
        short = walk(100_000, 7)
        swept = History({"x:A": short}, "1m")
        purse = History({f"x:{number}": walk(20_000, 7 + number) for number in range(100)}, "1m")
        for one in (history, swept, purse):
            assert one.fingerprint
        fast, slow = (bound.sma(bars, window) for window in (10, 50))
        mine = backtest(CROSS, history, cash=CASH, compiled=True)
        equity, trades, *_ = bound.cross(bars, fast, slow, 50)
        assert trades == len(mine.trades) and abs(mine.curve.equity[-1] / equity - 1) < 1e-9
        equity, trades, *_ = bound.bracket(bars)
        mine = backtest(BRACKET, history, cash=CASH, compiled=True)
        assert trades == len(mine.trades) and abs(mine.curve.equity[-1] / equity - 1) < 1e-9

        plan = Plan(SHARED, None, purse.frame)
        window = purse.window(None, None, plan.warm_up)
        columns = [plan.signals(one, "UTC", plan.evaluate(one, {})) for one in window.bars]
        part = SETS[:: len(SETS) // min(len(SETS), 100 * rounds)]
        averages = {w: bound.sma(short, w) for w in sorted({int(w) for s in SETS for w in s.values()})}

        peers = None
        if python is not None:
            given = {
                name: np.stack((one.open, one.high, one.low, one.close))
                for name, one in (("long", bars), ("short", short))
            }
            given["sets"] = np.array([[int(one["fast"]), int(one["slow"])] for one in part])
            for name in ("open", "close"):
                given[f"purse_{name}"] = np.column_stack([getattr(one, name) for one in window.bars])
            peers = Peers(python, folder, given)

        def c_cross() -> None:
            bound.cross(bars, bound.sma(bars, 10), bound.sma(bars, 50), 50)

        def c_sweep() -> None:
            for one in part:
                bound.cross(short, averages[int(one["fast"])], averages[int(one["slow"])], int(one["slow"]))

        def kernel_alone() -> None:
            _Run(plan, window, columns, CASH, True).go(False)

        best = interleaved(
            {
                "SMA cross, 1 M bars: C": c_cross,
                "  to the metrics": lambda: whole(CROSS, history),
                "  to a result of values": lambda: backtest(CROSS, history, cash=CASH, compiled=True),
                "RSI, stop and target, 1 M bars: C": lambda: bound.bracket(bars),
                "  to the metrics, too": lambda: whole(BRACKET, history),
                "100 instruments x 20 k bars": lambda: whole(SHARED, purse),
                "  its kernel": kernel_alone,
            },
            rounds,
        )
        theirs = {task: min(peers.ask(task)[0] for _ in range(rounds)) for task in peers.tasks} if peers else {}
        once = interleaved(
            {
                f"{len(part)} sets x 100 k bars: C": c_sweep,
                f"{len(part)} sets x 100 k bars: ours": lambda: [
                    measure(s.digest) for s in sweep(CROSS, swept, part, cash=CASH, compiled=True)
                ],
            },
            1,
        )
    previous = 0.0
    for name, milliseconds in (best | once).items():
        if name.endswith(": C") or name in OURS["purse"]:
            previous = milliseconds
        print(f"{name:40} {milliseconds:9.1f} ms   {milliseconds / previous:6.2f} x")
    for name, milliseconds in theirs.items():
        own_ms = {**best, **once}[OURS.get(name.partition(": ")[2]) or f"{len(part)} sets x 100 k bars: ours"]
        print(f"{name:40} {milliseconds:9.1f} ms   {milliseconds / own_ms:6.2f} x ours")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("rounds", type=int, nargs="?", default=5)
    arguments.add_argument("--peers")
    given = arguments.parse_args()
    main(given.rounds, given.peers)
