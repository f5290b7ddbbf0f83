"""What formulas cost, in one run.

    python tests/benchmarks/bench_formula.py [rounds]

- A 29-node formula one bar at a time (at most 10 µs a bar), beside the TA-Lib handles it cannot do without.
- The same over arrays, and opening a stepper on history instead of pushing it.
- What depends on a position, asked bar by bar; and a longer timeframe, both ways.
- 1,000 parameter sets of an SMA cross, its entry and its exit, over 100,000 bars.
- The watch: a closed candle through one rule, and a trade through 100 rules that do not want it.

Best of interleaved rounds, in CPU time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import msgspec
import numpy as np

from watchhamster.core.bars import Bars
from watchhamster.core.market import Trade
from watchhamster.core.timeframes import timeframe
from watchhamster.formula import Sweep, compile_many
from watchhamster.formula.indicators import _stream
from watchhamster.monitor.alerts import Rule
from watchhamster.monitor.watch import Watch

BARS = 20_000
BTC = "upbit:KRW-BTC"
TEXTS = [
    "cross_above(sma(close, 10), sma(close, 50)) and rsi(close, 14) < 70",
    "cross_below(sma(close, 10), sma(close, 50)) or close < sma(close, 10) - atr(14) * 3"
    " or highest(high, 20) > ema(close, 12) * 2",
]


def walk(count: int) -> Bars:
    """A seeded random walk of minutes."""
    rng = np.random.default_rng(7)
    close = 100 * np.exp(np.cumsum(rng.standard_normal(count)) * 0.001)
    volume = rng.lognormal(3.0, 1.0, count)
    times = np.arange(count, dtype=np.int64) * 60_000_000_000
    return Bars(times, close, close * 1.001, close * 0.999, close, volume, volume * close)


def main(rounds: int) -> None:
    """Measure and print."""
    bars = walk(BARS)
    candles = list(bars.candles(BTC, "1m", "live"))
    program = compile_many(TEXTS)
    closes, highs, lows = bars.close.tolist(), bars.high.tolist(), bars.low.tolist()

    def stepwise() -> None:
        push = program.stepper().push
        for candle in candles:
            push(candle)

    def handles() -> None:
        close, high, low = bars.close[:60], bars.high[:60], bars.low[:60]
        a, b, c, d = (_stream.SMA(close, 10), _stream.SMA(close, 50), _stream.RSI(close, 14), _stream.EMA(close, 12))
        e, f = _stream.MAX(high, 20), _stream.ATR(high, low, close, 14)
        for x, y, z in zip(closes, highs, lows, strict=True):
            a.update(x), b.update(x), c.update(x), d.update(x), e.update(y), f.update(y, z, x)

    def arrays() -> None:
        program.over(bars)

    def opening() -> None:
        program.stepper(bars)

    rule = Rule(id=1, name="bench", formula=TEXTS[0], instruments=(BTC,))
    trade = Trade(BTC, 1, 1, 1, 100.0, 1.0, "buy")
    many = Watch()
    many.set_rules([msgspec.structs.replace(rule, id=k) for k in range(1, 101)])

    def watched() -> None:
        watch = Watch()
        watch.set_rules([rule])
        watch.warm(1, BTC, Bars.empty())
        for candle in candles:
            watch.observe(candle)

    def trades() -> None:
        for _ in range(BARS):
            many.observe(trade)

    held = compile_many(["profit_pct > 3 or close < entry_price - atr(14) * 2"], inputs=("profit_pct", "entry_price"))
    moments, given = held.moments(bars), {"profit_pct": 1.0, "entry_price": 100.0}
    hourly = compile_many(['close > at("1h", sma(close, 20))'], timeframe=timeframe("1m"))

    def position() -> None:
        at = moments.at
        for bar in range(BARS):
            at(bar, given)

    def longer() -> None:
        push = hourly.stepper().push
        for candle in candles:
            push(candle)

    def longer_arrays() -> None:
        hourly.over(bars)

    tasks: dict[str, Callable[[], None]] = {
        f"{len(program.nodes)} nodes, one bar at a time": stepwise,
        "its TA-Lib handles alone": handles,
        "over arrays": arrays,
        "a stepper opened on history": opening,
        "on a position, bar by bar": position,
        "a longer timeframe, bar by bar": longer,
        "a longer timeframe over arrays": longer_arrays,
        "the watch: a closed candle, one rule": watched,
        "the watch: a trade, 100 rules": trades,
    }
    best = dict.fromkeys(tasks, float("inf"))
    for _ in range(rounds):
        for name, task in tasks.items():
            start = time.process_time()
            task()
            best[name] = min(best[name], time.process_time() - start)
    for name, seconds in best.items():
        print(f"{name:40} {seconds / BARS * 1e6:8.3f} µs a bar")
    sweep(walk(100_000))


def sweep(bars: Bars) -> None:
    """Many parameters over the same bars."""
    texts = ["cross_above(sma(close, fast), sma(close, slow))", "cross_below(sma(close, fast), sma(close, slow))"]
    sets = [{"fast": float(fast), "slow": float(slow)} for fast in range(5, 55, 2) for slow in range(60, 260, 5)]
    start = time.process_time()
    sweeping = Sweep(texts, bars)
    for values in sets:
        sweeping.over(values)
    seconds = time.process_time() - start
    print(f"{len(sets)} parameter sets x {len(bars)} bars {seconds:.2f} s, {seconds / len(sets) * 1e6:.0f} µs a set")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
