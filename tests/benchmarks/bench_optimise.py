"""What workers and optimisation cost, in one run.

    python tests/benchmarks/bench_optimise.py [sets] [bars]

- A job to a warm worker and back (at most 10 ms), alone and with 1 M shared bars.
- So many parameter sets of a moving-average cross over so many bars, on every core: CPU seconds and memory a process,
  and what the plan around it takes.
- What each method takes to find the next set, and a generation of conditions to be bred.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from watchhamster.backtest.methods import METHODS, Axis, Problem, propose
from watchhamster.backtest.objective import Backtests, axes_of, warm
from watchhamster.backtest.optimise import Optimisation, constraints, goals, optimise
from watchhamster.backtest.run import History
from watchhamster.backtest.search import ConditionSearch, search_conditions
from watchhamster.backtest.strategy import read
from watchhamster.core.bars import Bars
from watchhamster.engine.clock import SystemClock
from watchhamster.engine.searching import Progress, carry_out
from watchhamster.engine.workers import WorkerPool

MINUTE_NS = 60_000_000_000
STRATEGY = read("""
name = "Golden cross"
[parameters.fast]
default = 10
min = 2
max = 21
[parameters.slow]
default = 50
min = 30
max = 79
[entry]
long = "cross_above(sma(close, fast), sma(close, slow))"
[[exit]]
name = "dead cross"
when = "cross_below(sma(close, fast), sma(close, slow))"
[costs]
fee_percent = 0.05
""")


def walk(count: int) -> Bars:
    """A seeded random walk of minutes."""
    rng = np.random.default_rng(7)
    close = 100 * np.exp(np.cumsum(rng.standard_normal(count)) * 0.001)
    start = np.concatenate(([100.0], close[:-1]))
    times = np.arange(count, dtype=np.int64) * MINUTE_NS
    volume = rng.lognormal(3.0, 1.0, count)
    top, bottom = np.maximum(start, close) * 1.0005, np.minimum(start, close) * 0.9995
    return Bars(times, start, top, bottom, close, volume, volume * close)


def total(bars: Bars) -> float:
    """Something a worker does with bars in no time."""
    return float(bars.close[-1])


def nothing() -> None:
    """Less than that."""


def used() -> tuple[float, float]:
    """CPU seconds and MB of the worker that is asked."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, psutil.Process().memory_info().rss / 1e6


async def workers(pool: WorkerPool) -> list[tuple[float, float]]:
    """What every worker has used so far."""
    return list(await asyncio.gather(*(pool.run(used, home=f"{n}") for n in range(pool.size))))


async def trips(pool: WorkerPool, function: Callable[..., object], *args: object) -> str:
    """Times of a hundred jobs there and back."""
    seconds = []
    for _ in range(100):
        began = time.perf_counter()
        await pool.run(function, *args, home="0")
        seconds.append(time.perf_counter() - began)
    ordered = sorted(seconds)
    return f"{ordered[0] * 1e3:.2f} ms best, {ordered[50] * 1e3:.2f} median, {ordered[-1] * 1e3:.2f} worst"


async def main(sets: int, bars: int) -> None:
    """Measure and print."""
    async with WorkerPool(warm=warm) as pool:
        began = time.perf_counter()
        await pool.warm_up()
        await asyncio.gather(*(pool.run(nothing, home=f"{n}") for n in range(pool.size)))
        print(f"{pool.size} workers spawned and warm in {time.perf_counter() - began:.2f} s")
        print(f"there and back: {await trips(pool, nothing)}")
        async with pool.sharing(walk(1_000_000)) as million:
            print(f"with 1 M bars in shared memory: {await trips(pool, total, million)}")

        history = History({"x:Y": walk(bars)}, "1m")
        span = (0, bars * MINUTE_NS)
        objective = Backtests(STRATEGY)
        marks: list[float] = []

        def watch(progress: Progress) -> None:
            if progress.stage == "neighbour" and not marks:
                marks.append(time.perf_counter())

        async with pool.sharing(history) as data:
            for name, count in (("warm", 4), ("measured", sets)):
                plan = Optimisation(
                    run=name,
                    axes=axes_of(STRATEGY),
                    method="grid",
                    goals=goals("sharpe"),
                    constraints=constraints([]),
                    span=span,
                    trials=count,
                    batch=512,
                )
                before, began, own = await workers(pool), time.perf_counter(), time.process_time()
                marks.clear()
                found = await carry_out(
                    optimise(plan, objective, width=pool.size), pool, name, clock=SystemClock(), data=data,
                    on_progress=watch,
                )  # fmt: skip
                after = await workers(pool)
                cpu = sum(a[0] - b[0] for a, b in zip(after, before, strict=True))
                searched = (marks[0] if marks else time.perf_counter()) - began
                print(
                    f"{name}: {count} sets x {bars:,} bars: {searched:.2f} s wall until judged,"
                    f" {cpu:.2f} CPU s in workers, {time.process_time() - own:.2f} here,"
                    f" {max(a[1] for a in after):.0f} MB a worker; {found.verdict}"
                )
            conditions = ConditionSearch(
                run="gp", goal=goals("sharpe")[0], span=span, trials=200, constraints=constraints([])
            )
            before, began = await workers(pool), time.perf_counter()
            best = await carry_out(
                search_conditions(conditions, objective, width=pool.size), pool, "gp", clock=SystemClock(), data=data
            )
            after = await workers(pool)
            cpu = sum(a[0] - b[0] for a, b in zip(after, before, strict=True))
            print(
                f"200 conditions: {time.perf_counter() - began:.2f} s wall, {cpu:.2f} CPU s,"
                f" {max(a[1] for a in after):.0f} MB a worker; best {best.best and best.best.formula}"
            )
    axes = (Axis("a", 2, 59, 1, True), Axis("b", 20, 199, 1, True))
    for method in METHODS:
        told: list[tuple[float, ...]] = []
        problem = Problem(method, axes, 1, 300)
        propose(f"import {method}", problem, [])
        began_s = time.process_time()
        while asked := propose(method, problem, told):
            told += [(-abs(one["a"] - 17) - abs(one["b"] - 90),) for one in asked]
        print(f"{method}: {(time.process_time() - began_s) / 300 * 1e3:.2f} ms a trial")


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    asyncio.run(main(*(given + [1000, 100_000][len(given) :])))
