"""Bars and formulas for property tests: believable, flat, tiny, huge, with holes."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import strategies as st

from watchhamster.core.bars import Bars
from watchhamster.core.market import Candle
from watchhamster.formula import Parameter, Value, functions

MINUTE_NS = 60_000_000_000


def walk(count: int, seed: int = 1, start: float = 100.0) -> Bars:
    """A seeded random walk of minutes."""
    rng = np.random.default_rng(seed)
    close = start * np.exp(np.cumsum(rng.standard_normal(count)) * 0.01)
    opened = np.concatenate(([start], close[:-1])) if count else close
    high = np.maximum(opened, close) * (1 + rng.random(count) * 0.01)
    low = np.minimum(opened, close) * (1 - rng.random(count) * 0.01)
    volume = rng.lognormal(0.0, 1.0, count)
    with np.errstate(over="ignore"):
        high, value = np.minimum(high, 1.7e308), volume * close
    return Bars(np.arange(count, dtype=np.int64) * MINUTE_NS, opened, high, low, close, volume, value)


def of_closes(*closes: float, volume: float = 1.0) -> Bars:
    """Bars that open and stay at their close."""
    price = np.array(closes, np.float64)
    size = np.full(len(price), volume)
    with np.errstate(over="ignore", invalid="ignore"):
        value = size * price
    return Bars(np.arange(len(price), dtype=np.int64) * MINUTE_NS, price, price, price, price, size, value)


def candles(bars: Bars) -> list[Candle]:
    """The bars as a venue would have sent them."""
    return list(bars.candles("upbit:KRW-BTC", "1m", "live"))


def bits(value: Value) -> object:
    """What two values must share to be the same to the last bit."""
    return struct.pack("d", value) if isinstance(value, float) else value


_prices = st.one_of(
    st.floats(0.01, 1000.0),
    st.sampled_from([1.0, 100.0, 100.0, 101.0, 1e-8, 5e-324, 1e8, 1e15, 1e15 + 1, 1e300]),
)
_amounts = st.one_of(st.floats(0.0, 1e6), st.sampled_from([0.0, 0.0, float("nan"), float("inf"), 1e15]))


@st.composite
def hostile_bars(draw: st.DrawFn, most: int = 60) -> Bars:
    """Few bars, constants, jumps over many magnitudes, amounts that are absent here and there."""
    count = draw(st.integers(0, most))
    shape = draw(st.sampled_from(["any", "flat", "walk"]))
    if shape == "walk":
        return walk(count, draw(st.integers(0, 1000)), draw(_prices))
    if shape == "flat":
        return of_closes(*[draw(_prices)] * count, volume=draw(_amounts))
    columns = [np.array(draw(st.lists(_prices, min_size=count, max_size=count)), np.float64) for _ in range(4)]
    amounts = [np.array(draw(st.lists(_amounts, min_size=count, max_size=count)), np.float64) for _ in range(2)]
    times = np.arange(count, dtype=np.int64) * MINUTE_NS
    low, a, b, high = np.sort(np.array(columns), axis=0)
    return Bars(times, a.copy(), high.copy(), low.copy(), b.copy(), *amounts)


_leaves = st.sampled_from(["open", "high", "low", "close", "volume", "value", "(close - open)", "(close - close[1])"])
_constants = st.sampled_from(["0.5", "2", "3", "-1", "100", "1e-8", "1e15"])


def _argument(parameter: Parameter) -> st.SearchStrategy[str]:
    """A small period, any type of average, a number that is allowed."""
    if parameter.choices:
        return st.sampled_from(parameter.choices)
    if parameter.whole:
        return st.integers(int(parameter.least), 6).map(str)
    return st.sampled_from([x for x in (0.3, 0.02, 1.5) if parameter.least <= x <= parameter.most]).map(str)


def _calls(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """A call of any function that gives a number, with small periods, and any of its outputs."""

    @st.composite
    def call(draw: st.DrawFn) -> str:
        function = draw(st.sampled_from([f for f in functions() if f.kind == "number" and not f.word]))
        words = [
            f"({draw(inner)} > {draw(inner)})" if w in function.conditions else draw(inner) for w in function.series
        ]
        words += [draw(_argument(parameter)) for parameter in function.parameters]
        output = "." + draw(st.sampled_from(function.outputs)) if function.outputs else ""
        return f"{function.name}({', '.join(words)}){output}"

    return call()


numbers: st.SearchStrategy[str] = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%", "**"]), st.one_of(inner, _constants)).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        ),
        st.tuples(_constants, st.sampled_from(["-", "/", "**"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda x: f"-{x}"),
        st.tuples(inner, st.integers(0, 4)).map(lambda t: f"{t[0]}[{t[1]}]"),
        _calls(inner),
    ),
    max_leaves=6,
)
_comparisons = st.tuples(
    numbers, st.sampled_from([">", "<", ">=", "<=", "==", "!="]), st.one_of(numbers, _constants)
).map(lambda t: f"{t[0]} {t[1]} {t[2]}")
_crosses = st.tuples(st.sampled_from(["cross_above", "cross_below"]), numbers, st.one_of(numbers, _constants)).map(
    lambda t: f"{t[0]}({t[1]}, {t[2]})"
)
conditions: st.SearchStrategy[str] = st.recursive(
    st.one_of(_comparisons, _crosses),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda x: f"(not {x})"),
        st.tuples(inner, st.integers(0, 3)).map(lambda t: f"({t[0]})[{t[1]}]"),
    ),
    max_leaves=4,
)
