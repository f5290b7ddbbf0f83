"""The market store, measured: `python -m tests.benchmarks.bench_store`.

One million one-minute candles (Upbit-like: some minutes without trades, prices on a grid of 1,000) out of the store
into arrays, beside SQLite rows by fetchall in the same run; what they take on the disk; candles written a second.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np

from watchhamster.core.bars import Bars
from watchhamster.engine.clock import SystemClock
from watchhamster.storage.market import MarketStore

COUNT = 1_000_000
BTC = "upbit:KRW-BTC"
MINUTE_NS = 60_000_000_000
FAR_NS = 1 << 62


def make_bars(count: int) -> Bars:
    """Candles with the statistics of a busy Korean market."""
    rng = np.random.default_rng(2)
    times = 1_640_995_200_000_000_000 + np.arange(int(count * 1.003), dtype=np.int64) * MINUTE_NS
    times = times[rng.random(len(times)) > 0.002][:count]
    assert len(times) == count
    close = np.round(60_000_000 * np.exp(np.cumsum(rng.normal(0, 4e-4, count))), -3)
    open_ = np.concatenate((close[:1], close[:-1]))
    high = np.maximum(open_, close) + np.round(rng.exponential(20_000, count), -3)
    low = np.minimum(open_, close) - np.round(rng.exponential(20_000, count), -3)
    volume = np.round(rng.lognormal(0, 1.2, count), 8)
    return Bars(times, open_, high, low, close, volume, np.round(volume * close, 5))


def median_ms(work: Callable[[], object], rounds: int) -> float:
    """The median of some runs after a warm one."""
    work()
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return statistics.median(found) * 1e3


def main() -> None:
    """Measure and print."""
    folder = Path(tempfile.mkdtemp(prefix="bench-store-"))
    try:
        measure(folder)
    finally:
        shutil.rmtree(folder)


def measure(folder: Path) -> None:
    """Everything, in one process, so that the ratios mean something."""
    print(f"SQLite {sqlite3.sqlite_version}, Python {sys.version.split()[0]}, numpy {np.__version__}")
    bars = make_bars(COUNT)
    candles = list(bars.candles(BTC, "1m", "backfill"))
    store = MarketStore(folder / "market.db", SystemClock())
    store.open()
    start = time.perf_counter()
    store.write(candles, [(BTC, "1m", int(bars.open_ns[0]), int(bars.open_ns[-1]) + MINUTE_NS)])
    print(f"write, past days (blocks):      {COUNT / (time.perf_counter() - start):>11,.0f} candles/s")
    store.close()
    store.open()
    megabytes = store.size() / 1e6

    rows = list(
        zip(*(getattr(bars, name).tolist() for name in bars.__struct_fields__[:-1]), strict=True)
    )  # the plainest table there is
    with closing(sqlite3.connect(folder / "rows.db")) as plain:
        plain.execute("CREATE TABLE candle (t INTEGER PRIMARY KEY, o REAL, h REAL, l REAL, c REAL, v REAL, q REAL)")
        with plain:
            plain.executemany("INSERT INTO candle VALUES (?,?,?,?,?,?,?)", rows)
        rows_megabytes = (folder / "rows.db").stat().st_size / 1e6

        def fetchall() -> object:
            return np.array(plain.execute("SELECT * FROM candle ORDER BY t").fetchall())

        def from_store() -> object:
            return store.read_bars(BTC, "1m", 0, FAR_NS)

        ours, theirs = median_ms(from_store, 15), median_ms(fetchall, 3)
    found = store.read_bars(BTC, "1m", 0, FAR_NS)
    assert all(np.array_equal(getattr(found, name), getattr(bars, name)) for name in bars.__struct_fields__)
    print(f"1 M candles into arrays:        {ours:>8.1f} ms {megabytes:>7.1f} MB")
    print(f"sqlite3 rows, fetchall:         {theirs:>8.1f} ms {rows_megabytes:>7.1f} MB   {theirs / ours:.0f} x")
    last = int(bars.open_ns[-1]) + MINUTE_NS
    recent = median_ms(lambda: store.read_bars(BTC, "1m", last - 500 * MINUTE_NS, last), 50)
    print(f"last 500 candles:               {recent:>8.2f} ms")
    known = median_ms(lambda: store.read_coverage(BTC, "1m", 0, FAR_NS), 3)
    print(f"coverage of all of it:          {known:>8.1f} ms")
    start = time.perf_counter()
    report = asyncio.run(store.verify())
    print(f"verify:                         {(time.perf_counter() - start) * 1e3:>8.1f} ms, damaged {report.damaged}")

    today_ns = time.time_ns() // 86_400_000_000_000 * 86_400_000_000_000
    day = bars.slice(0, 1000)
    day = msgspec.structs.replace(day, open_ns=day.open_ns - day.open_ns[0] + today_ns)
    live = [candle for number in range(100) for candle in day.candles(f"upbit:KRW-{number}", "1m", "live")]
    start = time.perf_counter()
    for at in range(0, len(live), 1000):
        store.append(live[at : at + 1000])
    store.flush()
    print(f"append and commit, today (rows):{len(live) / (time.perf_counter() - start):>11,.0f} candles/s")
    store.close()


if __name__ == "__main__":
    main()
