"""What a formula computes, as a graph of shared nodes.

A node is an operation on other nodes. Equal nodes are the same node, so a sub-expression that is written twice, or in
two formulas compiled together, is computed once. An operation can be done in two ways, over whole arrays and one bar
at a time; `evaluators` does them.

Nodes may stand on other bars than the given ones: those of a longer timeframe (folded from them) or of another
instrument. Such bars are a `Frame`; an `Align` node carries a value from one frame to another: what it was on the last
bar that had closed when this one closes, so nothing is known before its time. Bars that began before the first one
given are not complete, and are left out.

Both ways give the same bits. Where numpy's own function would not (`**`), the array evaluator loops over the
scalar one.

**Undefined** is a third value: NaN for numbers (an infinity is one too: nothing here is ever infinite), None for
conditions one bar at a time, and in arrays of conditions 1 is true, -1 false and 0 undefined, so that `and`, `or` and
`not` of three-valued logic are minimum, maximum and minus. An undefined input ends a *run*: whatever remembers more
than single bars (see `indicators`) starts again after it, in both evaluators.
"""

from __future__ import annotations

import math
import operator
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

Kind = Literal["number", "bool"]
Value: TypeAlias = float | bool | None
Array: TypeAlias = NDArray[Any]  # float64 for numbers, int8 for conditions
Column: TypeAlias = Array | float  # a node's values over bars; a constant is not spread out
Closure: TypeAlias = Callable[[], None]
NAN = math.nan
_CHUNK = 1 << 15  # bars at a time: what a processor keeps at hand
COLUMNS = ("open", "high", "low", "close", "volume", "value")
NOTHING: Mapping[Any, Any] = MappingProxyType({})


class Bar(Protocol):
    """What a stepper reads of a bar; `core.market.Candle` is one. It may have live fields, and an `adjustment`."""

    @property
    def open_ns(self) -> int: ...
    @property
    def open(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def close(self) -> float: ...
    @property
    def volume(self) -> float | None: ...
    @property
    def value(self) -> float | None: ...


class Values(msgspec.Struct, frozen=True, eq=False):
    """A formula's value on every bar. `data` is float64 with NaN, or int8 with 1 true, -1 false, 0 undefined."""

    kind: Kind
    data: Array

    def __len__(self) -> int:
        return len(self.data)

    @property
    def true(self) -> NDArray[np.bool_]:
        """Where a condition holds; undefined does not. All false for numbers."""
        return self.data > 0 if self.kind == "bool" else np.zeros(len(self.data), np.bool_)

    @property
    def defined(self) -> NDArray[np.bool_]:
        """Where there is a value at all."""
        return self.data != 0 if self.kind == "bool" else ~np.isnan(self.data)

    def list(self) -> list[Value]:
        """As a stepper gives them: float, True, False, or None where undefined."""
        return [shown(value) for value in scalars(self.data)]


def shown(value: Value) -> Value:
    """A stepper's inner value as others see it: NaN is None."""
    return None if value != value else value


def scalars(column: Array) -> list[Value]:
    """An array as inner values of a stepper: floats (NaN undefined), or True, False, None."""
    if column.dtype == np.int8:
        return [_TRUTH[code] for code in column.tolist()]
    return column.tolist()  # type: ignore[no-any-return]


_TRUTH = {1: True, -1: False, 0: None}


def finite(column: Array) -> Array:
    """Floats with every infinity and odd NaN made the one NaN. May be the array itself."""
    if has_holes(column):
        bad = ~np.isfinite(column)
        if bad.any():
            column = np.where(bad, NAN, column)
    return column


def has_holes(column: Array) -> bool:
    """Whether a value may not be finite: their sum tells, at the speed of memory. Rarely true for nothing."""
    with np.errstate(all="ignore"):
        return not math.isfinite(column.sum())


# ---------------------------------------------------------------- operations


class Operation(Protocol):
    """What a node does with its arguments. Operations compare by value: equal ones on equal arguments are one node."""

    @property
    def kind(self) -> Kind:
        """Of the result."""

    def arrays(self, *arguments: Column) -> Any:
        """The result over whole arrays; floats are finite or NaN, conditions int8."""

    def steps(
        self, values: list[Any], result: int, arguments: Sequence[int], history: Sequence[Column]
    ) -> tuple[Closure, Closure]:
        """Two closures that read `values[argument]` and set `values[result]`; the second remembers nothing of the bar.

        `history` are the arguments over the bars before the first call (empty arrays: none).
        """


class Frame(msgspec.Struct, frozen=True):
    """Whose bars, and how long ones; empty words mean the bars that are given."""

    instrument: str = ""
    timeframe: str = ""


OWN = Frame()


class Series(msgspec.Struct, frozen=True):
    """A column of the bars, or an input.

    Besides `COLUMNS` there are `adjustment` (1 where there is none), `open_ns` and `day` (where the bar's day begins;
    these two are integers). Any other name is an input: what the caller gives by that name, else the bar's attribute.
    """

    name: str
    frame: Frame = OWN
    kind: Kind = "number"

    def arrays(self, *arguments: Column) -> Any:
        raise AssertionError("bars give it")

    def steps(self, values: Any, result: int, arguments: Any, history: Any) -> tuple[Closure, Closure]:
        raise AssertionError("bars give it")


class Align(msgspec.Struct, frozen=True):
    """A node of one frame, on the bars of another: its value on the last bar that has closed by then."""

    frame: Frame
    kind: Kind

    def arrays(self, *arguments: Column) -> Any:
        raise AssertionError("the evaluator knows which bars")

    def steps(self, values: list[Any], result: int, arguments: Sequence[int], history: Any) -> tuple[Closure, Closure]:
        (only,) = arguments

        def step() -> None:
            values[result] = values[only]  # it stands there since that bar closed

        return step, step


class Constant(msgspec.Struct, frozen=True):
    """A number written in the formula, or a parameter's."""

    number: float
    kind: Kind = "number"

    def arrays(self, *arguments: Column) -> Any:
        return self.number

    def steps(self, values: Any, result: int, arguments: Any, history: Any) -> tuple[Closure, Closure]:
        raise AssertionError("it is there from the start")


class Arithmetic(msgspec.Struct, frozen=True):
    """Numbers to a number, bar by bar. `scalar` takes finite numbers or NaN and never raises."""

    name: str
    scalar: Callable[..., float]
    whole: Callable[..., Any] | None = None  # the same bits over arrays; None: loop over `scalar`
    kind: Kind = "number"

    def arrays(self, *arguments: Column) -> Any:
        if self.whole is not None:
            with np.errstate(all="ignore"):
                return finite(self.whole(*arguments))
        columns = np.broadcast_arrays(*arguments)
        return finite(np.array(list(map(self.scalar, *(c.tolist() for c in columns))), np.float64))

    def steps(self, values: list[Any], result: int, arguments: Sequence[int], history: Any) -> tuple[Closure, Closure]:
        scalar = self.scalar
        first, last = arguments[0], arguments[-1]

        def one() -> None:
            x = scalar(values[first])
            values[result] = x if x - x == 0.0 else NAN  # what is infinite is undefined

        def two() -> None:
            x = scalar(values[first], values[last])
            values[result] = x if x - x == 0.0 else NAN

        step = one if len(arguments) == 1 else two
        return step, step


class Comparison(msgspec.Struct, frozen=True):
    """Two numbers to a condition; undefined where either is. `against` is true where both are known and it is not."""

    name: str
    compare: Callable[[Any, Any], Any]
    against: Callable[[Any, Any], Any]
    kind: Kind = "bool"

    def arrays(self, *arguments: Column) -> Any:
        left, right = np.broadcast_arrays(*arguments)
        truth = np.empty(len(left), np.int8)
        for start in range(0, len(left), _CHUNK):
            x, y = left[start : start + _CHUNK], right[start : start + _CHUNK]
            np.subtract(
                self.compare(x, y).view(np.int8), self.against(x, y).view(np.int8), out=truth[start : start + _CHUNK]
            )
        return truth

    def steps(self, values: list[Any], result: int, arguments: Sequence[int], history: Any) -> tuple[Closure, Closure]:
        (left, right), compare = arguments, self.compare

        def step() -> None:
            x = values[left]
            y = values[right]
            values[result] = compare(x, y) if x == x and y == y else None

        return step, step


class Logic(msgspec.Struct, frozen=True):
    """`and`, `or`, `not` of Kleene's three-valued logic."""

    name: Literal["and", "or", "not"]
    kind: Kind = "bool"

    def arrays(self, *arguments: Column) -> Any:
        if self.name == "not":
            return -arguments[0]
        left, right = arguments
        return np.minimum(left, right) if self.name == "and" else np.maximum(left, right)

    def steps(self, values: list[Any], result: int, arguments: Sequence[int], history: Any) -> tuple[Closure, Closure]:
        left, right = arguments[0], arguments[-1]
        decides = self.name == "or"  # one argument of this truth decides

        def negate() -> None:
            x = values[left]
            values[result] = None if x is None else not x

        def join() -> None:
            x = values[left]
            y = values[right]
            if x is decides or y is decides:
                values[result] = decides
            else:
                values[result] = None if x is None or y is None else not decides

        step = negate if self.name == "not" else join
        return step, step


class Lag(msgspec.Struct, frozen=True):
    """What something was some bars ago."""

    bars: int
    kind: Kind

    def arrays(self, *arguments: Column) -> Any:
        (column,) = arguments
        assert isinstance(column, np.ndarray)
        late = np.full_like(column, NAN if self.kind == "number" else 0)
        late[self.bars :] = column[: max(0, len(column) - self.bars)]
        return late

    def steps(
        self, values: list[Any], result: int, arguments: Sequence[int], history: Sequence[Column]
    ) -> tuple[Closure, Closure]:
        (only,) = arguments
        (before,) = history
        assert isinstance(before, np.ndarray)
        kept: deque[Value] = deque([NAN if self.kind == "number" else None] * self.bars, maxlen=self.bars)
        kept.extend(scalars(before[-self.bars :]))

        def push() -> None:
            values[result] = kept[0]
            kept.append(values[only])

        def peek() -> None:
            values[result] = kept[0]

        return push, peek


def _divide(x: float, y: float) -> float:
    return x / y if y else NAN


def _floor_divide(x: float, y: float) -> float:
    return x // y if y else NAN


def _remainder(x: float, y: float) -> float:
    return x % y if y else NAN


def _power(x: float, y: float) -> float:
    if x != x or y != y:  # 1 ** NaN would be 1
        return NAN
    try:
        return math.pow(x, y)
    except (ValueError, OverflowError):
        return NAN


def _larger(x: float, y: float) -> float:
    return x if x != x or x > y else y


def _smaller(x: float, y: float) -> float:
    return x if x != x or x < y else y


ADD = Arithmetic("+", operator.add, np.add)
SUBTRACT = Arithmetic("-", operator.sub, np.subtract)
MULTIPLY = Arithmetic("*", operator.mul, np.multiply)
DIVIDE = Arithmetic("/", _divide, np.divide)
FLOOR_DIVIDE = Arithmetic("//", _floor_divide, np.floor_divide)
REMAINDER = Arithmetic("%", _remainder, np.remainder)
POWER = Arithmetic("**", _power)  # numpy's differs from math's in the last bit
NEGATE = Arithmetic("negate", operator.neg, np.negative)
ABSOLUTE = Arithmetic("abs", abs, np.abs)
LARGER = Arithmetic("larger", _larger, lambda x, y: np.where(np.isnan(x) | (x > y), x, y))
SMALLER = Arithmetic("smaller", _smaller, lambda x, y: np.where(np.isnan(x) | (x < y), x, y))


def _unequal(x: Any, y: Any) -> Any:
    return (x < y) | (x > y)


COMPARISONS = {
    ">": Comparison(">", operator.gt, operator.le),
    "<": Comparison("<", operator.lt, operator.ge),
    ">=": Comparison(">=", operator.ge, operator.lt),
    "<=": Comparison("<=", operator.le, operator.gt),
    "==": Comparison("==", operator.eq, _unequal),
    "!=": Comparison("!=", _unequal, operator.eq),
}
AND, OR, NOT = Logic("and"), Logic("or"), Logic("not")


# ---------------------------------------------------------------- the graph


class Node(msgspec.Struct, frozen=True, eq=False):
    """An operation on nodes before it."""

    index: int
    operation: Any
    arguments: tuple[Node, ...]
    first_value: int  # bars before it is defined (a condition may be decided earlier)
    warm_up: int  # bars after which its value no longer depends, in practice, on where the evaluation began
    frame: Frame | None  # the bars it has values on; None: a constant has the same on all
    bounds: tuple[float, float] | None = None  # no value lies outside
    fleeting: bool = False  # it depends on an input of the moment, which has no history

    @property
    def kind(self) -> Kind:
        """Number or condition."""
        return self.operation.kind  # type: ignore[no-any-return]

    @property
    def constant(self) -> float | None:
        """The number, of a constant."""
        return self.operation.number if isinstance(self.operation, Constant) else None


class Graph:
    """Nodes, each once. Arguments come before what uses them."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[object, ...], Node] = {}
        self.frame = OWN  # of the columns asked for from now on

    def __len__(self) -> int:
        return len(self._nodes)

    def node(
        self,
        operation: Operation,
        *arguments: Node,
        first_value: int = 0,
        warm_up: int = 0,
        bounds: tuple[float, float] | None = None,
        fleeting: bool = False,
    ) -> Node:
        """The node of this operation on these arguments; `first_value` and `warm_up` come on top of theirs."""
        key = (operation, *(a.index for a in arguments))
        node = self._nodes.get(key)
        if node is None:
            frame = getattr(operation, "frame", None)
            if frame is None:
                frame = next((a.frame for a in arguments if a.frame is not None), None)
            node = self._nodes[key] = Node(
                len(self._nodes),
                operation,
                arguments,
                first_value + max((a.first_value for a in arguments), default=0),
                warm_up + max((a.warm_up for a in arguments), default=0),
                frame,
                bounds,
                fleeting or any(a.fleeting for a in arguments),
            )
        return node

    def series(self, name: str, *, fleeting: bool = False) -> Node:
        """A column of the present frame's bars, or an input."""
        bounds = (0.0, math.inf) if name in ("volume", "value") else None
        return self.node(Series(name, self.frame), bounds=bounds, fleeting=fleeting)

    def number(self, number: float) -> Node:
        """A constant."""
        return self.node(Constant(number))

    def arithmetic(self, operation: Arithmetic, *arguments: Node) -> Node:
        """Numbers to a number; computed here and now where all are constants."""
        numbers = [a.constant for a in arguments]
        if None not in numbers:
            return self.number(operation.scalar(*numbers))
        return self.node(operation, *arguments)

    def lag(self, node: Node, bars: int) -> Node:
        """What the node was so many bars ago."""
        if bars == 0 or node.constant is not None:
            return node
        return self.node(Lag(bars, node.kind), node, first_value=bars, warm_up=bars, bounds=node.bounds)
