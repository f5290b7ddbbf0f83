"""All functions: those of ours are here, each as how it becomes nodes of the graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from watchhamster.core.text import Text
from watchhamster.formula import graph as g
from watchhamster.formula.graph import Graph, Kind, Node
from watchhamster.formula.rolling import Count, Since, Window
from watchhamster.formula.table import PERIOD_MAX, Function, Parameter
from watchhamster.formula.talib_functions import FUNCTIONS

__all__ = ["FUNCTIONS", "functions"]

WINDOW_MAX = 5000  # of windows that are added up whole at every bar
SINCE_BARS = 1000  # of history, so that something rare is likely to be in it


def functions() -> tuple[Function, ...]:
    """Every function, by name."""
    return tuple(FUNCTIONS[name] for name in sorted(FUNCTIONS))


def _bars(default: float, least: float = 1, name: str = "n", most: float = PERIOD_MAX) -> Parameter:
    return Parameter(name, default, least, most)


def _own(
    name: str,
    takes: str,
    description: Text,
    *parameters: Parameter,
    group: str = "ours",
    kind: Kind = "number",
    compares: bool = False,
    conditions: tuple[str, ...] = (),
    constants: bool = False,
    outputs: str = "",
    momentary: bool = False,
    word: str = "",
) -> Callable[[Callable[..., Node | tuple[Node, ...]]], None]:
    """A function of ours: the decorated one makes its nodes from the graph, its series and its numbers."""

    def add(make: Callable[..., Node | tuple[Node, ...]]) -> None:
        def build(graph: Graph, series: Sequence[Node], numbers: Sequence[float]) -> tuple[Node, ...]:
            made = make(graph, *series, *numbers)
            return made if isinstance(made, tuple) else (made,)

        FUNCTIONS[name] = Function(
            name,
            description,
            group,
            tuple(takes.split()),
            tuple(parameters),
            build,
            tuple(outputs.split()),
            kind,
            constants or compares,
            momentary,
            compares,
            conditions,
            word=word,
        )

    return add


def _call(graph: Graph, name: str, series: Sequence[Node], *numbers: float) -> Node:
    return FUNCTIONS[name].build(graph, series, numbers)[0]


# ---------------------------------------------------------------- other bars


@_own(
    "at",
    "x",
    Text('A longer timeframe: what x was on its last closed bar, such as at("1h", sma(close, 20))'),
    group="frames",
    word="timeframe",
)
def _(graph: Graph, x: Node) -> Node:
    return x


@_own(
    "of",
    "x",
    Text('Another instrument: what x was on its last closed bar, such as of("upbit:KRW-BTC", close)'),
    group="frames",
    word="instrument",
)
def _(graph: Graph, x: Node) -> Node:
    return x


@_own("adjusted", "x", Text("A price as if splits and dividends since had already been"), group="frames")
def _(graph: Graph, x: Node) -> Node:
    return graph.arithmetic(g.MULTIPLY, x, graph.series("adjustment"))


# ---------------------------------------------------------------- bar by bar


@_own("abs", "x", Text("Size without the sign"), group="math", momentary=True)
def _(graph: Graph, x: Node) -> Node:
    return graph.arithmetic(g.ABSOLUTE, x)


@_own("larger", "a b", Text("The larger of two"), group="math", constants=True, momentary=True)
def _(graph: Graph, a: Node, b: Node) -> Node:
    return graph.arithmetic(g.LARGER, a, b)


@_own("smaller", "a b", Text("The smaller of two"), group="math", constants=True, momentary=True)
def _(graph: Graph, a: Node, b: Node) -> Node:
    return graph.arithmetic(g.SMALLER, a, b)


# ---------------------------------------------------------------- changes


@_own("change", "x", Text("Change over some bars: x - x[n]"), _bars(1))
def _(graph: Graph, x: Node, n: float) -> Node:
    return graph.arithmetic(g.SUBTRACT, x, graph.lag(x, int(n)))


def _streak(graph: Graph, x: Node, n: float, sign: str) -> Node:
    moved = graph.node(g.COMPARISONS[sign], x, graph.lag(x, 1))
    if n == 1:
        return moved
    count = graph.node(Count(int(n)), moved, first_value=int(n) - 1, warm_up=int(n) - 1)
    return graph.node(g.COMPARISONS["=="], count, graph.number(n))


@_own("rising", "x", Text("Each of the last n changes was upward"), _bars(1), kind="bool")
def _(graph: Graph, x: Node, n: float) -> Node:
    return _streak(graph, x, n, ">")


@_own("falling", "x", Text("Each of the last n changes was downward"), _bars(1), kind="bool")
def _(graph: Graph, x: Node, n: float) -> Node:
    return _streak(graph, x, n, "<")


def _cross(graph: Graph, a: Node, b: Node, sign: str) -> Node:
    now = graph.node(g.COMPARISONS[sign], a, b)
    return graph.node(g.AND, now, graph.node(g.NOT, graph.lag(now, 1)))


@_own(
    "cross_above",
    "a b",
    Text("The first rises above the second: a > b and a[1] <= b[1]"),
    kind="bool",
    compares=True,
)
def _(graph: Graph, a: Node, b: Node) -> Node:
    return _cross(graph, a, b, ">")


@_own(
    "cross_below",
    "a b",
    Text("The first falls below the second: a < b and a[1] >= b[1]"),
    kind="bool",
    compares=True,
)
def _(graph: Graph, a: Node, b: Node) -> Node:
    return _cross(graph, a, b, "<")


@_own(
    "count",
    "condition",
    Text("On how many of the last n bars a condition was true"),
    _bars(10),
    conditions=("condition",),
)
def _(graph: Graph, condition: Node, n: float) -> Node:
    bars = int(n)
    return graph.node(Count(bars), condition, first_value=bars - 1, warm_up=bars - 1, bounds=(0.0, n))


@_own(
    "since",
    "condition",
    Text("Bars since a condition was last true, 0 where it is; undefined before"),
    conditions=("condition",),
)
def _(graph: Graph, condition: Node) -> Node:
    return graph.node(Since(), condition, warm_up=SINCE_BARS, bounds=(0.0, float("inf")))


# ---------------------------------------------------------------- windows


def _extreme(graph: Graph, x: Node, n: float, name: str) -> Node:
    return x if n == 1 else _call(graph, name, [x], n)  # TA-Lib's begin at 2


@_own("highest", "x", Text("Highest value of the last n bars, this one included"), _bars(20))
def _(graph: Graph, x: Node, n: float) -> Node:
    return _extreme(graph, x, n, "max")


@_own("lowest", "x", Text("Lowest value of the last n bars, this one included"), _bars(20))
def _(graph: Graph, x: Node, n: float) -> Node:
    return _extreme(graph, x, n, "min")


def _window(graph: Graph, x: Node, n: float, window: Window, bounds: tuple[float, float] | None = None) -> Node:
    return graph.node(window, x, first_value=int(n) - 1, warm_up=int(n) - 1, bounds=bounds)


def _mean(graph: Graph, x: Node, n: float) -> Node:
    return _window(graph, x, n, Window("mean", int(n)))


def _deviation(graph: Graph, x: Node, n: float) -> Node:
    return _window(graph, x, n, Window("deviation", int(n)), (0.0, float("inf")))


_LENGTH = _bars(20, 2, most=WINDOW_MAX)

_own("mean", "x", Text("Mean of the last n bars, added up anew at each: sma without its rounding"), _LENGTH)(_mean)
_own("std", "x", Text("Standard deviation (of the whole) of the last n bars, in two passes"), _LENGTH)(_deviation)


@_own("zscore", "x", Text("Distance from the mean, in standard deviations: (x - mean(x, n)) / std(x, n)"), _LENGTH)
def _(graph: Graph, x: Node, n: float) -> Node:
    away = graph.arithmetic(g.SUBTRACT, x, _mean(graph, x, n))
    return graph.arithmetic(g.DIVIDE, away, _deviation(graph, x, n))


@_own("rank", "x", Text("Rank among the last n bars, from 1/n to 1; equal values share theirs"), _LENGTH)
def _(graph: Graph, x: Node, n: float) -> Node:
    return _window(graph, x, n, Window("rank", int(n)), (0.0, 1.0))


@_own(
    "ichimoku",
    "",
    Text("Ichimoku: conversion and base line, and the cloud as it lies over this bar"),
    _bars(9, 2, "conversion"),
    _bars(26, 2, "base"),
    _bars(52, 2, "span"),
    _bars(26, 0, "displacement"),
    outputs="conversion base span_a span_b",
)
def _(graph: Graph, conversion: float, base: float, span: float, displacement: float) -> tuple[Node, ...]:
    lines = [_call(graph, "midprice", (), n) for n in (conversion, base, span)]
    middle = graph.arithmetic(g.DIVIDE, graph.arithmetic(g.ADD, lines[0], lines[1]), graph.number(2.0))
    return lines[0], lines[1], graph.lag(middle, int(displacement)), graph.lag(lines[2], int(displacement))
