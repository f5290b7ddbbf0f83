"""The functions a formula may call: one table for the parser, completion, signatures and the reference.

A TA-Lib function is one row (`_talib`), one of ours one definition (`_own`): how it becomes nodes of the graph. Names,
order and defaults of parameters are TA-Lib's; a test holds the rows against it.

Warm-up: a smoother of weight a forgets its start, to the last bit, within 36.7/a bars: 18.4 (n + 1) for an EMA of n,
36.7 n for Wilder's. Windows forget at once. Lines that add up for ever (OBV, AD) never do: their level is where they
began.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec

from watchhamster.core.text import Text
from watchhamster.formula import graph as g
from watchhamster.formula.graph import Graph, Kind, Node
from watchhamster.formula.indicators import Indicator, Output

PERIOD_MAX = 100_000  # TA-Lib's own limit, and ours for lags

SERIES: Mapping[str, Text] = {
    "open": Text("First price of the bar"),
    "high": Text("Highest price of the bar"),
    "low": Text("Lowest price of the bar"),
    "close": Text("Last price of the bar"),
    "volume": Text("Amount traded in the bar, in the base asset"),
    "value": Text("Amount traded in the bar, in the quote asset"),
}


class Parameter(msgspec.Struct, frozen=True):
    """A number that a function takes: a constant or a parameter of the formula, never a series."""

    name: str
    default: float | None  # None: it must be given
    least: float
    most: float
    whole: bool = True


Build = Callable[[Graph, Sequence[Node], Sequence[float]], "tuple[Node, ...]"]


class Function(msgspec.Struct, frozen=True):
    """One function of the language."""

    name: str
    description: Text
    group: str
    series: tuple[str, ...]  # names of the series it takes first; empty: it reads whole bars
    parameters: tuple[Parameter, ...]
    build: Build  # its nodes, one an output
    outputs: tuple[str, ...] = ()  # of a function with several; it alone means the first
    kind: Kind = "number"
    constants: bool = False  # plain numbers may stand for its series
    reads: tuple[str, ...] = ()  # columns of the bars, for a function of whole bars

    @property
    def signature(self) -> str:
        """As it is written: `rsi(x, timeperiod=14)`."""
        words = [*self.series]
        words += [p.name if p.default is None else f"{p.name}={p.default:g}" for p in self.parameters]
        return f"{self.name}({', '.join(words)})"

    @property
    def example(self) -> str:
        """A call one could type: `rsi(close, 14)`."""
        words = ["close", "open"][: len(self.series)]
        words += [f"{10 if p.default is None else p.default:g}" for p in self.parameters]
        return f"{self.name}({', '.join(words)})"


def describe(function: Function) -> dict[str, object]:
    """The function's row of `formula --functions --json`."""
    return {
        "name": function.name,
        "signature": function.signature,
        "series": list(function.series),
        "parameters": [
            {"name": p.name, "default": p.default, "min": p.least, "max": p.most, "integer": p.whole}
            for p in function.parameters
        ],
        "outputs": list(function.outputs),
        "kind": function.kind,
        "group": function.group,
        "description": str(function.description),
    }


def functions() -> tuple[Function, ...]:
    """Every function, by name."""
    return tuple(FUNCTIONS[name] for name in sorted(FUNCTIONS))


FUNCTIONS: dict[str, Function] = {}


# ---------------------------------------------------------------- TA-Lib's

Memory = Callable[..., float]  # bars that a function of these parameters remembers, beyond its windows


def _window(*_: float) -> float:
    return 0


def _ema(n: float, *more: float) -> float:
    return 18.4 * (n + 1)


def _wilder(n: float, *more: float) -> float:
    return 36.7 * n


def _period(default: float, least: float = 2, name: str = "timeperiod") -> Parameter:
    return Parameter(name, default, least, PERIOD_MAX)


def _factor(name: str, default: float, least: float = -3e37, most: float = 3e37) -> Parameter:
    return Parameter(name, default, least, most, whole=False)


def _talib(
    name: str,
    takes: str,
    description: Text,
    *parameters: Parameter,
    group: str,
    memory: Memory = _window,
    outputs: str = "",
    order: Sequence[int] = (),
    bounds: tuple[float, float] | None = None,
    called: str = "",
) -> None:
    """A row. `takes`: `x` or other names for series arguments, or the bars' columns in TA-Lib's order.

    `outputs` are our names in our order, `order` their places among TA-Lib's; `called`: TA-Lib's name, if not ours.
    """
    words = tuple(takes.split())
    of_bars = words[0] in SERIES
    names = tuple(outputs.split())
    places = tuple(order) or tuple(range(len(names)))

    def build(graph: Graph, series: Sequence[Node], numbers: Sequence[float]) -> tuple[Node, ...]:
        inputs = [graph.node(g.Series(word)) for word in words] if of_bars else list(series)
        given = tuple((p.name, int(n) if p.whole else float(n)) for p, n in zip(parameters, numbers, strict=True))
        indicator = Indicator((called or name).upper(), given, max(1, len(names)))
        need = indicator.lookback
        node = graph.node(
            indicator,
            *inputs,
            first_value=need,
            warm_up=max(need, math.ceil(memory(*numbers))),
            bounds=None if names else bounds,
        )
        return tuple(graph.node(Output(k), node, bounds=bounds) for k in places) if names else (node,)

    FUNCTIONS[name] = Function(
        name,
        description,
        group,
        () if of_bars else words,
        tuple(parameters),
        build,
        names,
        reads=words if of_bars else (),
    )


PERCENT = (0.0, 100.0)

_talib("sma", "x", Text("Simple moving average"), _period(30, 1), group="overlap")
_talib("ema", "x", Text("Exponential moving average"), _period(30, 1), group="overlap", memory=_ema)
_talib("wma", "x", Text("Weighted moving average"), _period(30, 1), group="overlap")
_talib(
    "dema",
    "x",
    Text("Double exponential moving average"),
    _period(30, 1),
    group="overlap",
    memory=lambda n: 2 * _ema(n),
)
_talib(
    "tema",
    "x",
    Text("Triple exponential moving average"),
    _period(30, 1),
    group="overlap",
    memory=lambda n: 3 * _ema(n),
)
_talib("trima", "x", Text("Triangular moving average"), _period(30, 1), group="overlap")
# Kaufman's weight is never below (2/31)^2.
_talib("kama", "x", Text("Kaufman adaptive moving average"), _period(30, 1), group="overlap", memory=lambda n: 8817 + n)
_talib("hma", "x", Text("Hull moving average"), _period(20, 1), group="overlap")
_talib("midpoint", "x", Text("Middle of the highest and the lowest value"), _period(14), group="overlap")
_talib(
    "bbands",
    "x",
    Text("Bollinger bands: a moving average and lines some standard deviations from it"),
    _period(20),
    _factor("nbdevup", 2.0),
    _factor("nbdevdn", 2.0),
    group="overlap",
    outputs="upper middle lower",
)
_talib("rsi", "x", Text("Relative strength index"), _period(14), group="momentum", memory=_wilder, bounds=PERCENT)
_talib(
    "cmo",
    "x",
    Text("Chande momentum oscillator"),
    _period(14),
    group="momentum",
    memory=_wilder,
    bounds=(-100.0, 100.0),
)
_talib("mom", "x", Text("Momentum: the change over some bars"), _period(10, 1), group="momentum")
_talib("roc", "x", Text("Rate of change, in percent"), _period(10, 1), group="momentum")
_talib("rocp", "x", Text("Rate of change, as a fraction"), _period(10, 1), group="momentum")
_talib("rocr", "x", Text("Rate of change, as a ratio"), _period(10, 1), group="momentum")
_talib("rocr100", "x", Text("Rate of change, as a ratio times 100"), _period(10, 1), group="momentum")
_talib(
    "trix",
    "x",
    Text("Rate of change of a triple smoothed average"),
    _period(30, 1),
    group="momentum",
    memory=lambda n: 3 * _ema(n),
)
_talib(
    "macd",
    "x",
    Text("Moving average convergence and divergence"),
    _period(12, name="fastperiod"),
    _period(26, name="slowperiod"),
    _period(9, 1, name="signalperiod"),
    group="momentum",
    memory=lambda fast, slow, signal: _ema(max(fast, slow)) + _ema(signal),
    outputs="macd signal hist",
)
_talib("willr", "high low close", Text("Williams' %R"), _period(14), group="momentum", bounds=(-100.0, 0.0))
_talib("cci", "high low close", Text("Commodity channel index"), _period(14), group="momentum")
_talib(
    "adx",
    "high low close",
    Text("Average directional movement index"),
    _period(14),
    group="momentum",
    memory=lambda n: 2 * _wilder(n),
    bounds=PERCENT,
)
_talib(
    "plus_di", "high low close", Text("Plus directional indicator"), _period(14, 1), group="momentum", memory=_wilder
)
_talib(
    "minus_di", "high low close", Text("Minus directional indicator"), _period(14, 1), group="momentum", memory=_wilder
)
_talib("mfi", "high low close volume", Text("Money flow index"), _period(14), group="momentum", bounds=PERCENT)
_talib(
    "aroon", "high low", Text("Aroon"), _period(14), group="momentum", outputs="up down", order=(1, 0), bounds=PERCENT
)
_talib("atr", "high low close", Text("Average true range"), _period(14, 1), group="volatility", memory=_wilder)
_talib(
    "natr",
    "high low close",
    Text("Average true range, in percent of the close"),
    _period(14, 1),
    group="volatility",
    memory=_wilder,
)
_talib("trange", "high low close", Text("True range"), group="volatility")
_talib("obv", "close volume", Text("On-balance volume"), group="volume")
_talib("ad", "high low close volume", Text("Chaikin's accumulation and distribution line"), group="volume")
_talib("avgprice", "open high low close", Text("Average of open, high, low and close"), group="price")
_talib("medprice", "high low", Text("Middle of high and low"), group="price")
_talib("typprice", "high low close", Text("Average of high, low and close"), group="price")
_talib("wclprice", "high low close", Text("Average of high, low and twice the close"), group="price")
_talib("linearreg", "x", Text("End of the regression line"), _period(14), group="statistics")
_talib("linearreg_slope", "x", Text("Slope of the regression line, per bar"), _period(14), group="statistics")
_talib("linearreg_angle", "x", Text("Angle of the regression line, in degrees"), _period(14), group="statistics")
_talib("linearreg_intercept", "x", Text("Start of the regression line"), _period(14), group="statistics")
_talib("tsf", "x", Text("The regression line one bar ahead"), _period(14), group="statistics")
_talib("stddev", "x", Text("Standard deviation (of the whole)"), _period(5), _factor("nbdev", 1.0), group="statistics")
_talib("var", "x", Text("Variance (of the whole)"), _period(5, 1), _factor("nbdev", 1.0), group="statistics")
_talib("correl", "x y", Text("Correlation of two series"), _period(30, 1), group="statistics", bounds=(-1.0, 1.0))
_talib("sum", "x", Text("Sum over some bars"), _period(30), group="math")
_talib("max", "x", Text("Highest value of some bars"), _period(30), group="math")
_talib("min", "x", Text("Lowest value of some bars"), _period(30), group="math")
_talib("sqrt", "x", Text("Square root"), group="math")
_talib("exp", "x", Text("Exponential"), group="math")
_talib("ln", "x", Text("Natural logarithm"), group="math")
_talib("log", "x", Text("Natural logarithm"), group="math", called="ln")
_talib("log10", "x", Text("Logarithm to base 10"), group="math")
_talib("floor", "x", Text("Largest whole number not above"), group="math")
_talib("ceil", "x", Text("Smallest whole number not below"), group="math")


# ---------------------------------------------------------------- ours


def _own(
    name: str,
    takes: str,
    description: Text,
    *parameters: Parameter,
    group: str,
    kind: Kind = "number",
    constants: bool = False,
) -> Callable[[Callable[..., Node]], None]:
    """A function of ours: the decorated one makes its node from the graph, its series and its numbers."""

    def add(make: Callable[..., Node]) -> None:
        def build(graph: Graph, series: Sequence[Node], numbers: Sequence[float]) -> tuple[Node, ...]:
            return (make(graph, *series, *numbers),)

        FUNCTIONS[name] = Function(
            name, description, group, tuple(takes.split()), tuple(parameters), build, kind=kind, constants=constants
        )

    return add


@_own("abs", "x", Text("Size without the sign"), group="math")
def _(graph: Graph, x: Node) -> Node:
    return graph.arithmetic(g.ABSOLUTE, x)


@_own("larger", "a b", Text("The larger of two"), group="math", constants=True)
def _(graph: Graph, a: Node, b: Node) -> Node:
    return graph.arithmetic(g.LARGER, a, b)


@_own("smaller", "a b", Text("The smaller of two"), group="math", constants=True)
def _(graph: Graph, a: Node, b: Node) -> Node:
    return graph.arithmetic(g.SMALLER, a, b)


@_own("change", "x", Text("Change over some bars: x - x[n]"), _period(1, 1, "n"), group="ours")
def _(graph: Graph, x: Node, n: float) -> Node:
    return graph.arithmetic(g.SUBTRACT, x, graph.lag(x, int(n)))


def _extreme(graph: Graph, x: Node, n: float, name: str) -> Node:
    return x if n == 1 else FUNCTIONS[name].build(graph, [x], [n])[0]  # TA-Lib's begin at 2


@_own("highest", "x", Text("Highest value of the last n bars, this one included"), _period(20, 1, "n"), group="ours")
def _(graph: Graph, x: Node, n: float) -> Node:
    return _extreme(graph, x, n, "max")


@_own("lowest", "x", Text("Lowest value of the last n bars, this one included"), _period(20, 1, "n"), group="ours")
def _(graph: Graph, x: Node, n: float) -> Node:
    return _extreme(graph, x, n, "min")


def _cross(graph: Graph, a: Node, b: Node, now: str, before: str) -> Node:
    return graph.node(
        g.AND,
        graph.node(g.COMPARISONS[now], a, b),
        graph.node(g.COMPARISONS[before], graph.lag(a, 1), graph.lag(b, 1)),
    )


@_own(
    "cross_above",
    "a b",
    Text("The first rises above the second: a > b and a[1] <= b[1]"),
    group="ours",
    kind="bool",
    constants=True,
)
def _(graph: Graph, a: Node, b: Node) -> Node:
    return _cross(graph, a, b, ">", "<=")


@_own(
    "cross_below",
    "a b",
    Text("The first falls below the second: a < b and a[1] >= b[1]"),
    group="ours",
    kind="bool",
    constants=True,
)
def _(graph: Graph, a: Node, b: Node) -> Node:
    return _cross(graph, a, b, "<", ">=")
