"""Text to a typed graph, or a refusal that says where, why and what was probably meant.

Python's own grammar reads the text; a whitelist decides what of it means something here. Nothing is ever `eval`ed.
Every expression is a number or a condition; constants and parameters are known while parsing, so periods and lags are
checked here, and what can only ever be one thing (`rsi(close, 14) > 200`, `close > close`) is refused rather than
watched for ever.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from keyword import iskeyword
from typing import Protocol

import msgspec

from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text
from watchhamster.core.timeframes import COMMON, SECOND_NS, Grid, Timeframe, timeframe
from watchhamster.formula import graph as g
from watchhamster.formula.evaluators import everywhere_utc
from watchhamster.formula.functions import FUNCTIONS
from watchhamster.formula.graph import NOTHING, OWN, Align, Frame, Graph, Node
from watchhamster.formula.rolling import Session
from watchhamster.formula.table import DAYS, FACTS, LIVE, PERIOD_MAX, SERIES, Function, Parameter

TEXT_MAX = 4000  # characters
DEPTH_MAX = 100  # operations within operations
NODES_MAX = 2000
PRODUCT_MAX = 16  # whole powers up to here are written as products, which have the same bits everywhere
_DAY_NS = 86400 * SECOND_NS
_MINUTE = timeframe("1m")

HELD: Mapping[str, Text] = {  # what is known of a position, while there is one
    "entry_price": Text("Price at which the position was entered"),
    "profit_pct": Text("Profit of the position at this close, in percent of its entry"),
    "peak_profit_pct": Text("Highest profit the position has had, in percent of its entry"),
    "bars_held": Text("Bars since the position was entered"),
}


class Definition(msgspec.Struct, frozen=True):
    """A saved formula: `text` is `name(x, n=14) = ...`, what is computed begins at `start`."""

    function: Function
    text: str
    start: int


class Saved(Protocol):
    """Formulas that others may call."""

    def get(self, name: str) -> Definition | None:
        """The one of this name. Raises `UsageError` where it is wrong by itself."""

    def names(self) -> Collection[str]:
        """Of all there are."""

    def functions(self) -> Sequence[Function]:
        """Those that are right."""


class _NoneSaved:
    def get(self, name: str) -> Definition | None:
        return None

    def names(self) -> Collection[str]:
        return ()

    def functions(self) -> Sequence[Function]:
        return ()


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What a formula may count on.

    `timeframe` is that of the bars; without it any longer timeframe is taken for one, and nothing can be evaluated that
    names one. `instruments` may be named in `of`; None: any. `inputs` are numbers given with each bar, such as
    `entry_price`. `grids` says where an instrument's bars and days begin; the empty name is that of the formula's own.
    """

    timeframe: Timeframe | None = None
    instruments: Collection[str] | None = None
    inputs: tuple[str, ...] = ()
    library: Saved = _NoneSaved()
    grids: Callable[[str], Grid] = everywhere_utc


# ---------------------------------------------------------------- refusals


def refusal(position: int, text: Text, hint: Text | None = None, nearest: str | None = None) -> UsageError:
    """A `bad_formula`: what is wrong at which column, what to do, and the name that was probably meant."""
    details: dict[str, object] = {"position": position}
    if nearest is not None:
        details["nearest"] = nearest
        hint = hint or Text("Did you mean {name}?", {"name": nearest})
    return UsageError("bad_formula", text, hint, **details)


def _nearest(name: str, names: Sequence[str]) -> str | None:
    folded = {n.lower(): n for n in names}
    found = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.5)
    return folded[found[0]] if found else None


# What people write out of habit, found where Python's grammar has already given up, and what it is here.
_SLIPS: tuple[tuple[re.Pattern[str], Text], ...] = (
    (re.compile(r"&&"), Text("Write and.")),
    (re.compile(r"\|\|"), Text("Write or.")),
    (re.compile(r"!(?!=)"), Text("Write not.")),
    (re.compile(r"=>"), Text("Write >=.")),
    (re.compile(r"=<"), Text("Write <=.")),
    (re.compile(r"<>"), Text("Write !=.")),
    (re.compile(r"\?"), Text("There is no if here: join conditions with and, or, not.")),
    (re.compile(r"(?<![=<>!:])=(?!=)"), Text("Write == to compare.")),
    (re.compile(r"\bAND\b"), Text("Write and.")),
    (re.compile(r"\bOR\b"), Text("Write or.")),
    (re.compile(r"\bNOT\b"), Text("Write not.")),
    (re.compile(r"(?<=\d),(?=\d{3}\b)"), Text("Write large numbers without commas: 1000000 or 1_000_000.")),
    (re.compile(r"\d\s*%(?=\s*($|and\b|or\b|\)))"), Text("Write percent as a number: roc(close, 1) > 3 is 3 percent.")),
)

_ENDS = (("#", Text("Comments are no part of a formula.")), (";", Text("A formula is one expression.")))

_BINARY: Mapping[type[ast.operator], g.Arithmetic] = {
    ast.Add: g.ADD,
    ast.Sub: g.SUBTRACT,
    ast.Mult: g.MULTIPLY,
    ast.Div: g.DIVIDE,
    ast.FloorDiv: g.FLOOR_DIVIDE,
    ast.Mod: g.REMAINDER,
    ast.Pow: g.POWER,
}
_BITWISE: Mapping[type[ast.operator], tuple[str, str]] = {ast.BitAnd: ("&", "and"), ast.BitOr: ("|", "or")}
_COMPARE: Mapping[type[ast.cmpop], str] = {
    ast.Gt: ">",
    ast.Lt: "<",
    ast.GtE: ">=",
    ast.LtE: "<=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}


@lru_cache(maxsize=256)
def _read(text: str) -> tuple[str, int, ast.expr]:
    """A text without what it is indented by, by how much, and Python's tree of it."""
    line = re.sub(r"\s", " ", text)  # a formula may be broken over lines, wherever it likes
    source = line.lstrip(" ")
    indent = len(line) - len(source)
    if not source:
        raise refusal(0, Text("The formula is empty."), Text("Write a condition, such as rsi(close, 14) < 30."))
    for sign, reason in _ENDS:
        if sign in source:
            raise refusal(indent + source.index(sign), reason, Text("Leave out what begins here."))
    if not line.isprintable():
        place, sign = next((place, sign) for place, sign in enumerate(line) if not sign.isprintable())
        raise refusal(place, Text("The character {sign!r} is not text.", {"sign": sign}), Text("Take it away."))
    try:
        return source, indent, ast.parse(source, mode="eval").body
    except SyntaxError as error:
        raise _syntax(source, indent, error) from None
    except (ValueError, RecursionError, MemoryError):
        raise refusal(0, Text("The formula cannot be read."), Text("Write it simpler.")) from None


def _syntax(source: str, indent: int, error: SyntaxError) -> UsageError:
    position = min(error.offset - 1, len(source)) if error.offset else len(source)
    if "keyword" in error.msg:
        return refusal(
            indent + position,
            Text("A named argument stands before one without a name."),
            Text("Write the named ones last."),
        )
    for slip, hint in _SLIPS:
        if match := slip.search(source):
            return refusal(
                indent + match.start(),
                Text("{text!r} means nothing here.", {"text": match[0]}),
                hint,
            )
    depth = 0
    for place, sign in enumerate(source):
        depth += (sign in "([{") - (sign in ")]}")
        if depth < 0:
            return refusal(indent + place, Text("This bracket was never opened."), Text("Take it away."))
    if depth > 0:
        return refusal(indent + position, Text("A bracket is not closed."), Text("Add the missing ) or ] at its end."))
    if not source[position:].strip():
        return refusal(indent + len(source), Text("The formula ends too early."), Text("Something follows here."))
    return refusal(
        indent + position,
        Text("The formula cannot be read from here on: {text!r}.", {"text": source[position : position + 20]}),
        Text("Is an operator or a comma missing?"),
    )


RESERVED = frozenset((*SERIES, *LIVE, *DAYS, "adjustment", "open_ns", "day"))


def check_name(name: str, position: int) -> None:
    """Refuse what cannot be the name of a parameter."""
    if not name.isidentifier() or iskeyword(name) or name in RESERVED or name in FUNCTIONS:
        raise refusal(
            position,
            Text("{name} cannot be the name of a parameter.", {"name": name}),
            Text("Use a word that is neither a series nor a function."),
        )


class Memory:
    """Calls that a graph holds already, by their place in the text and the parameters in them."""

    def __init__(self) -> None:
        self.calls: dict[tuple[object, ...], tuple[tuple[Node, ...], Function]] = {}
        self._names: dict[int, tuple[ast.expr, tuple[str, ...]]] = {}  # with the tree, which keeps its id its own

    def names(self, tree: ast.expr) -> tuple[str, ...]:
        """The names in a tree."""
        found = self._names.get(id(tree))
        if found is None:
            names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            found = self._names[id(tree)] = tree, tuple(sorted(names))
        return found[1]


class Parser:
    """One text. Each `_…` method turns a piece of Python's tree into a node, or refuses it.

    `arguments` are further names with what they stand for: those of a saved formula, which is called in `caller`.
    Without `evidence` its `parts` are not looked for. With a `memory`, which belongs to the graph, calls that were
    understood before with the same numbers are not understood again.
    """

    def __init__(
        self,
        text: str,
        parameters: Mapping[str, float],
        graph: Graph,
        scope: Scope,
        arguments: Mapping[str, Node] = NOTHING,
        *,
        evidence: bool = True,
        caller: Parser | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.text = text
        self.evidence = evidence and caller is None
        self.parameters = parameters
        self.graph = graph
        self.scope = scope
        self.arguments = arguments
        self.parts: dict[str, Node] = {}
        self.uses: dict[str, str] = {}  # saved formulas it calls, and what those call: definitions by name
        self.called: dict[tuple[object, ...], Node] = {}  # what those calls gave
        self.memory = memory
        self.around: list[tuple[str, Frame]] = []  # the calls of `at` and `of` that this is in, each with where it is
        self.nodes_max = len(graph) + NODES_MAX
        if caller is not None:
            self.uses, self.called, self.nodes_max = caller.uses, caller.called, caller.nodes_max
        self.source = ""  # the text without what it is indented by
        self.indent = 0

    @property
    def names(self) -> list[str]:
        """All that may be written here."""
        saved = self.scope.library.names()
        return [*SERIES, *LIVE, *DAYS, *self.scope.inputs, *FUNCTIONS, *saved, *self.parameters, *self.arguments]

    # -- the text

    def formula(self) -> Node:
        if len(self.text) > TEXT_MAX:
            raise refusal(
                TEXT_MAX,
                Text("The formula is {count} characters long.", {"count": len(self.text)}),
                Text("At most {limit} are read.", {"limit": TEXT_MAX}),
            )
        for name in self.parameters:
            check_name(name, 0)
        body = self._tree()
        node = self._node(body, 0)
        if node.constant is not None:
            raise refusal(
                self._at(body),
                Text("This is always {value}.", {"value": f"{node.constant:g}"}),
                Text("A formula reads at least one series, such as close."),
            )
        return node

    def body(self, depth: int = 0) -> Node:
        """The same for what a saved formula computes, which may be a plain number; `depth` is that of its call."""
        return self._node(self._tree(), depth)

    def _tree(self) -> ast.expr:
        self.source, self.indent, tree = _read(self.text)
        return tree

    def _column(self, offset: int) -> int:
        """The column of an offset in UTF-8 bytes, which is how Python's tree counts."""
        return self.indent + len(self.source.encode()[:offset].decode(errors="replace"))

    def _at(self, tree: ast.expr | ast.keyword) -> int:
        return self._column(tree.col_offset)

    def _between(self, left: ast.expr, right: ast.expr, sign: str) -> int:
        """Where an operator stands."""
        start = self._column(left.end_col_offset or 0)
        place = self.text.find(sign, start, self._at(right))
        return place if place >= 0 else start

    # -- the tree

    def _node(self, tree: ast.expr, depth: int) -> Node:
        if depth > DEPTH_MAX or len(self.graph) > self.nodes_max:
            raise refusal(
                self._at(tree),
                Text("The formula is too deep from here on."),
                Text("Split it into several rules, or write it simpler."),
            )
        match tree:
            case ast.Constant():
                return self._constant(tree)
            case ast.Name():
                return self._name(tree)
            case ast.UnaryOp():
                return self._unary(tree, depth)
            case ast.BinOp():
                return self._binary(tree, depth)
            case ast.BoolOp():
                operation = g.AND if isinstance(tree.op, ast.And) else g.OR
                node = self._condition(tree.values[0], depth)
                for value in tree.values[1:]:
                    node = self.graph.node(operation, node, self._condition(value, depth))
                return node
            case ast.Compare():
                return self._compare(tree, depth)
            case ast.Subscript():
                return self._lag(tree, depth)
            case ast.Call():
                return self._call(tree, depth)[0][0]
            case ast.Attribute():
                return self._output(tree, depth)
            case ast.IfExp():
                hint = Text("There is no if here: join conditions with and, or, not.")
            case ast.Tuple():
                hint = Text("A comma only parts the arguments of a function; large numbers are written 1000000.")
            case _:
                hint = Text(
                    "A formula has numbers, series, functions, + - * / // % **, comparisons, and, or, not, x[n]."
                )
        written = ast.get_source_segment(self.source, tree) or ""
        raise refusal(self._at(tree), Text("{text!r} is not part of the language.", {"text": written[:40]}), hint)

    def _number(self, tree: ast.expr, depth: int) -> Node:
        node = self._node(tree, depth + 1)
        if node.kind != "number":
            raise refusal(
                self._at(tree),
                Text("A number is needed here, this is a condition."),
                Text("Conditions are joined with and, or, not."),
            )
        return node

    def _condition(self, tree: ast.expr, depth: int) -> Node:
        node = self._node(tree, depth + 1)
        if node.kind != "bool":
            raise refusal(
                self._at(tree),
                Text("A condition is needed here, this is a number."),
                Text("Compare it with something, such as {text} > 0.", {"text": self._written(tree)}),
            )
        return node

    def _written(self, tree: ast.expr) -> str:
        return ast.unparse(tree)[:40]

    def _constant(self, tree: ast.Constant) -> Node:
        if isinstance(tree.value, bool):
            raise refusal(
                self._at(tree),
                Text("{value} never changes.", {"value": tree.value}),
                Text("Leave it out: a condition is true by itself."),
            )
        if not isinstance(tree.value, int | float):
            raise refusal(
                self._at(tree),
                Text("{text!r} is not a number.", {"text": self._written(tree)}),
                Text("Names of series and functions are written without quotes."),
            )
        try:
            number = float(tree.value)
        except OverflowError:
            number = float("inf")
        if number == float("inf"):
            raise refusal(self._at(tree), Text("This number is too large."), Text("Numbers go up to 1.8e308."))
        return self.graph.number(number)

    def _name(self, tree: ast.Name) -> Node:
        name = tree.id
        if name in self.arguments:
            return self.arguments[name]
        if name in self.parameters:
            number = float(self.parameters[name])
            if number - number != 0.0:
                raise refusal(self._at(tree), Text("The parameter {name} is not a finite number.", {"name": name}))
            return self.graph.number(number)
        if name in SERIES:
            return self.graph.series(name)
        if name in LIVE or name in self.scope.inputs:
            if self.graph.frame != OWN:
                raise refusal(
                    self._at(tree),
                    Text("{name} is known of the present bars only.", {"name": name}),
                    Text("Take it out of at and of."),
                )
            return self.graph.series(name, fleeting=name in self.scope.inputs)
        if name in HELD:
            raise refusal(
                self._at(tree),
                Text("{name} is only known of a position.", {"name": name}),
                Text("Use it in the exits of a strategy."),
            )
        if name in DAYS:
            raise refusal(
                self._at(tree),
                Text("{name} has several values.", {"name": name}),
                Text("Write one of {names}.", {"names": ", ".join(f"{name}.{fact}" for fact in FACTS)}),
            )
        if name in FUNCTIONS or name in self.scope.library.names():
            function = self._function(tree, name)
            assert function is not None
            raise refusal(
                self._at(tree),
                Text("{name} is a function.", {"name": name}),
                Text("Write it with its arguments: {example}.", {"example": function.example}),
            )
        raise self._unknown(tree, name, self.names)

    def _function(self, tree: ast.expr, name: str) -> Function | None:
        function = FUNCTIONS.get(name)
        if function is None:
            definition = self._definition(tree, name)
            function = None if definition is None else definition.function
        return function

    def _definition(self, tree: ast.expr, name: str) -> Definition | None:
        try:
            return self.scope.library.get(name)
        except UsageError as error:
            raise self._inside(tree, name, error) from None

    def _inside(self, tree: ast.expr, name: str, error: UsageError) -> UsageError:
        """What is wrong in a saved formula that is called here."""
        found = refusal(self._at(tree), Text("In {name}: {reason}", {"name": name, "reason": error.text}), error.hint)
        deeper = "inside" in error.details
        found.details["inside"] = error.details["inside"] if deeper else name
        found.details["inside_position"] = error.details["inside_position" if deeper else "position"]
        return found

    def _unknown(self, tree: ast.expr, name: str, names: Sequence[str], *, called: bool = False) -> UsageError:
        nearest = _nearest(name, names)
        hint = None
        if nearest is None and called:
            hint = Text("watchhamster formula --functions lists the functions.")
        elif nearest is None:
            hint = Text("Series are {names}.", {"names": ", ".join(SERIES)})
        return refusal(self._at(tree), Text("{name} is not known.", {"name": name}), hint, nearest)

    def _unary(self, tree: ast.UnaryOp, depth: int) -> Node:
        match tree.op:
            case ast.Not():
                return self.graph.node(g.NOT, self._condition(tree.operand, depth))
            case ast.USub():
                return self.graph.arithmetic(g.NEGATE, self._number(tree.operand, depth))
            case ast.UAdd():
                return self._number(tree.operand, depth)
        raise refusal(self._at(tree), Text("{text!r} means nothing here.", {"text": "~"}), Text("Write not."))

    def _binary(self, tree: ast.BinOp, depth: int) -> Node:
        if type(tree.op) in _BITWISE:
            sign, word = _BITWISE[type(tree.op)]
            raise refusal(
                self._between(tree.left, tree.right, sign),
                Text("{text!r} means nothing here.", {"text": sign}),
                Text("Write {word}.", {"word": word}),
            )
        operation = _BINARY.get(type(tree.op))
        if operation is None:
            raise refusal(
                self._column(tree.left.end_col_offset or 0),
                Text("This operator is not part of the language."),
                Text("There are + - * / // % **; a power is written x ** 2."),
            )
        left, right = self._number(tree.left, depth), self._number(tree.right, depth)
        if operation in (g.DIVIDE, g.FLOOR_DIVIDE, g.REMAINDER) and right.constant == 0:
            raise refusal(self._at(tree.right), Text("Nothing can be divided by zero."))
        node = self._power(left, right) if operation is g.POWER else self.graph.arithmetic(operation, left, right)
        if node.constant is not None and node.constant - node.constant != 0.0:
            raise refusal(self._at(tree), Text("This has no value."), Text("It is too large, or not a real number."))
        return node

    def _power(self, base: Node, exponent: Node) -> Node:
        power = exponent.constant
        if power is None or power != int(power) or not 1 <= abs(power) <= PRODUCT_MAX:
            return self.graph.arithmetic(g.POWER, base, exponent)
        node = base
        for _ in range(int(abs(power)) - 1):
            node = self.graph.arithmetic(g.MULTIPLY, node, base)
        return node if power > 0 else self.graph.arithmetic(g.DIVIDE, self.graph.number(1.0), node)

    def _compare(self, tree: ast.Compare, depth: int) -> Node:
        """A comparison; `a < b < c` is `a < b and b < c`, as in Python and on paper."""
        operands = [tree.left, *tree.comparators]
        result: Node | None = None
        for left, right, sign in zip(operands, operands[1:], tree.ops, strict=False):
            one = self._comparison(left, right, sign, depth)
            result = one if result is None else self.graph.node(g.AND, result, one)
        assert result is not None
        return result

    def _comparison(self, left: ast.expr, right: ast.expr, sign: ast.cmpop, depth: int) -> Node:
        written = _COMPARE.get(type(sign))
        if written is None:
            raise refusal(
                self._column(left.end_col_offset or 0) + 1,
                Text("This comparison is not part of the language."),
                Text("There are > < >= <= == !=."),
            )
        a, b = self._node(left, depth + 1), self._node(right, depth + 1)
        for node, tree in ((a, left), (b, right)):
            if node.kind != "number":
                raise refusal(
                    self._at(tree),
                    Text("A condition cannot be compared, only numbers can."),
                    Text("Conditions are joined with and, or, not."),
                )
        where = self._between(left, right, written)
        if a is b:
            raise refusal(
                where, Text("Both sides are the same."), Text("Compare with a lag, such as close > close[1].")
            )
        if a.constant is not None and b.constant is not None:
            raise refusal(
                where,
                Text("This never changes: both sides are plain numbers."),
                Text("Compare a series with something."),
            )
        self._check_order(a, b, written, where)
        self._check_bounds(a, b, written, where)
        self._evidence(left, a)
        self._evidence(right, b)
        return self.graph.node(g.COMPARISONS[written], a, b)

    def _check_order(self, a: Node, b: Node, sign: str, where: int) -> None:
        """Refuse what no bar can be: a close above its high, a low above its open."""
        one, other = a.operation, b.operation
        if not (isinstance(one, g.Series) and isinstance(other, g.Series)) or one.frame != other.frame:
            return
        for above, below, never, always in ((one.name, other.name, "<", ">="), (other.name, one.name, ">", "<=")):
            if "value" in (above, below) or "volume" in (above, below):
                continue
            if (above == "high" or below == "low") and above in SERIES and below in SERIES and sign in (never, always):
                raise refusal(
                    where,
                    Text("This never changes: {above} is never below {below}.", {"above": above, "below": below}),
                    Text("Compare with a lag, such as close > close[1]."),
                )

    def _check_bounds(self, a: Node, b: Node, sign: str, where: int) -> None:
        """Refuse a comparison with a number that the other side never passes."""
        node, constant = (a, b.constant) if b.constant is not None else (b, a.constant)
        if constant is None or node.bounds is None or node.bounds[0] <= constant <= node.bounds[1]:
            return
        low, high = node.bounds
        raise refusal(
            where,
            Text(
                "This never changes: the other side is never below {low} and never above {high}.",
                {"low": f"{low:g}", "high": f"{high:g}"},
            )
            if high != float("inf")
            else Text("This never changes: the other side is never below {low}.", {"low": f"{low:g}"}),
            Text("Compare with a number in between."),
        )

    def _evidence(self, tree: ast.expr, node: Node) -> None:
        if node.constant is not None or not self.evidence:
            return
        text = ast.unparse(tree)
        for call, outer in reversed(self.around):
            text, node = f"{call}{text})", self._aligned(node, outer)
        self.parts.setdefault(text, node)

    def _lag(self, tree: ast.Subscript, depth: int) -> Node:
        node = self._node(tree.value, depth + 1)
        self._check_remembered(tree, node)
        if isinstance(tree.slice, ast.Slice | ast.Tuple):
            raise refusal(
                self._at(tree.slice) if isinstance(tree.slice, ast.Tuple) else self._at(tree),
                Text("A lag is one number: x[3] is three bars ago."),
                Text("For a span, use highest(x, 3), lowest(x, 3) or sma(x, 3)."),
            )
        bars = self._node(tree.slice, depth + 1).constant
        if bars is None:
            raise refusal(
                self._at(tree.slice),
                Text("A lag is a plain number or a parameter: x[3] is three bars ago."),
                Text("It has to be known before any bar is seen."),
            )
        if bars < 0:
            raise refusal(
                self._at(tree.slice),
                Text("A negative lag would look into the future."),
                Text("x[1] is one bar ago."),
            )
        if bars != int(bars) or bars > PERIOD_MAX:
            raise refusal(
                self._at(tree.slice),
                Text("A lag is a whole number of bars, at most {limit}.", {"limit": PERIOD_MAX}),
                Text("x[1] is one bar ago."),
            )
        return self.graph.lag(node, int(bars))

    def _check_remembered(self, tree: ast.expr, node: Node) -> None:
        """Refuse to remember what belongs to a position: it has no past before its entry."""
        if node.fleeting:
            raise refusal(
                self._at(tree),
                Text("What belongs to a position cannot be looked at over several bars."),
                Text("Use it in comparisons and arithmetic only."),
            )

    # -- outputs

    def _output(self, tree: ast.Attribute, depth: int) -> Node:
        if isinstance(tree.value, ast.Name) and tree.value.id in DAYS and tree.value.id not in self.arguments:
            return self._of_day(tree, tree.value.id)
        if isinstance(tree.value, ast.Call):
            nodes, function = self._call(tree.value, depth)
            if tree.attr in function.outputs:
                return nodes[function.outputs.index(tree.attr)]
            place = self._column(tree.value.end_col_offset or 0) + 1
            if function.outputs:
                raise refusal(
                    place,
                    Text("{name} has no output {output}.", {"name": function.name, "output": tree.attr}),
                    Text("It has {names}.", {"names": ", ".join(function.outputs)}),
                    _nearest(tree.attr, function.outputs),
                )
            raise refusal(
                place, Text("{name} has only one output.", {"name": function.name}), Text("Leave out what follows it.")
            )
        raise refusal(
            self._at(tree),
            Text("{text!r} is not part of the language.", {"text": self._written(tree)}),
            Text("Only functions with several outputs have a dot, such as macd(close).hist."),
        )

    def _of_day(self, tree: ast.Attribute, name: str) -> Node:
        fact = next((known for known in FACTS if known == tree.attr), None)
        if fact is None:
            raise refusal(
                self._column(tree.value.end_col_offset or 0) + 1,
                Text("{name} has no output {output}.", {"name": name, "output": tree.attr}),
                Text("It has {names}.", {"names": ", ".join(FACTS)}),
                _nearest(tree.attr, FACTS),
            )
        frame = self.graph.frame
        bar = timeframe(frame.timeframe) if frame.timeframe else self.scope.timeframe or _MINUTE
        day = max(1, _DAY_NS // bar.approximate_ns) + 1  # and one more: a day of 25 hours, or of none
        previous = name == "previous_day"
        return self.graph.node(
            Session(fact, previous),
            *(self.graph.series(column) for column in (fact, "day", "open_ns")),
            warm_up=day * (2 if previous else 1),
            bounds=(0.0, float("inf")) if fact == "volume" else None,
        )

    # -- other bars

    def _aligned(self, node: Node, outer: Frame) -> Node:
        """A node of another frame, on the bars of this one."""
        if node.frame is None or node.frame == outer:
            return node
        inner = self._length(node.frame).approximate_ns
        ours = self._length(outer).approximate_ns
        ratio = max(1, -(-inner // ours))
        bars = node.warm_up + (1 if ratio > 1 else 0)  # the first may not be complete
        # Its own count is of longer bars; the graph adds what follows to that.
        return self.graph.node(
            Align(outer, node.kind),
            node,
            first_value=0,
            warm_up=bars * ratio - node.warm_up,
            bounds=node.bounds,
        )

    def _length(self, frame: Frame) -> Timeframe:
        return timeframe(frame.timeframe) if frame.timeframe else self.scope.timeframe or _MINUTE

    def _elsewhere(self, tree: ast.Call, function: Function, depth: int) -> Node:
        """`at("1h", x)`, `of("upbit:KRW-BTC", x)`: x on other bars, brought back to these."""
        arguments = self._arguments(tree, function)
        word, inner = arguments[function.word], arguments["x"]
        if not (isinstance(word, ast.Constant) and isinstance(word.value, str)):
            raise refusal(
                self._at(word),
                Text("{name} takes a text in quotes first.", {"name": function.name}),
                Text("For example {example}.", {"example": function.example}),
            )
        outer = self.graph.frame
        choose = self._longer if function.name == "at" else self._other
        frame = choose(word, word.value, outer)
        self.graph.frame = frame
        self.around.append((f"{function.name}({ast.unparse(word)}, ", outer))
        try:
            node = self._node(inner, depth + 1)
        finally:
            self.graph.frame = outer
            self.around.pop()
        if node.constant is not None:
            raise refusal(
                self._at(inner),
                Text("{name} takes a series, this is a plain number.", {"name": function.name}),
                Text("For example {example}.", {"example": function.example}),
            )
        if node.fleeting:
            raise refusal(
                self._at(inner),
                Text("What belongs to a position is known of the present bars only."),
                Text("Take it out of at and of."),
            )
        return self._aligned(node, outer)

    def _longer(self, tree: ast.expr, text: str, outer: Frame) -> Frame:
        try:
            longer = timeframe(text)
        except UsageError as error:
            raise refusal(self._at(tree), error.text, error.hint, _nearest(text, COMMON)) from None
        base = timeframe(outer.timeframe) if outer.timeframe else self.scope.timeframe
        if base is not None and not _nests(base, longer):
            known = longer.approximate_ns <= base.approximate_ns
            raise refusal(
                self._at(tree),
                Text(
                    "{longer} is not longer than the bars, which are {base}.",
                    {"longer": longer.name, "base": base.name},
                )
                if known
                else Text(
                    "{longer} is not a whole number of bars of {base}.", {"longer": longer.name, "base": base.name}
                ),
                Text("at reads longer timeframes than the one the formula runs on."),
            )
        return Frame(outer.instrument, longer.name)

    def _other(self, tree: ast.expr, text: str, outer: Frame) -> Frame:
        if outer.instrument:
            raise refusal(self._at(tree), Text("One of stands inside another."), Text("Name one instrument at a time."))
        known = self.scope.instruments
        venue, _, symbol = text.partition(":")
        if known is not None and text not in known:
            if not known:
                raise refusal(
                    self._at(tree),
                    Text("Other instruments cannot be read here."),
                    Text("Leave out of, and name the instrument with the rule."),
                )
            nearest = _nearest(text, list(known))
            raise refusal(
                self._at(tree),
                Text("There are no bars of {instrument} here.", {"instrument": text}),
                None if nearest else Text("An instrument is written {example}.", {"example": "upbit:KRW-BTC"}),
                nearest,
            )
        if not venue or not symbol:
            raise refusal(
                self._at(tree),
                Text("{text!r} is not an instrument.", {"text": text}),
                Text("An instrument is written {example}.", {"example": "upbit:KRW-BTC"}),
            )
        return Frame(text, outer.timeframe)

    # -- calls

    def _call(self, tree: ast.Call, depth: int) -> tuple[tuple[Node, ...], Function]:
        """The outputs of a call, and what was called."""
        if self.memory is None:
            return self._called(tree, depth)
        key = (id(tree), self.graph.frame, *(self.parameters.get(name) for name in self.memory.names(tree)))
        found = self.memory.calls.get(key)
        if found is None:
            found = self.memory.calls[key] = self._called(tree, depth)
        return found

    def _called(self, tree: ast.Call, depth: int) -> tuple[tuple[Node, ...], Function]:
        if not isinstance(tree.func, ast.Name):
            raise refusal(
                self._at(tree),
                Text("Only functions can be called."),
                Text("A call is a name and its arguments: {example}.", {"example": "sma(close, 20)"}),
            )
        name = tree.func.id
        function = self._function(tree, name)
        if function is None:
            if name in SERIES or name in self.parameters or name in self.arguments:
                raise refusal(
                    self._at(tree),
                    Text("{name} is not a function.", {"name": name}),
                    Text("Three bars ago is written {example}.", {"example": f"{name}[3]"}) if name in SERIES else None,
                )
            raise self._unknown(tree.func, name, [*FUNCTIONS, *self.scope.library.names()], called=True)
        if function.word:
            return (self._elsewhere(tree, function, depth),), function
        arguments = self._arguments(tree, function)
        series = []
        for word in function.series:
            argument = arguments[word]
            if word in function.conditions:
                node = self._condition(argument, depth)
            else:
                node = self._number(argument, depth)
                if node.constant is not None and not function.constants:
                    raise refusal(
                        self._at(argument),
                        Text("{name} takes a series first, this is a plain number.", {"name": name}),
                        Text("For example {example}.", {"example": function.example}),
                    )
            if not function.momentary:
                self._check_remembered(argument, node)
            series.append(node)
        if function.compares:
            if series[0] is series[1]:
                raise refusal(self._at(tree), Text("Both sides are the same."), None)
            if series[0].constant is not None and series[1].constant is not None:
                raise refusal(self._at(tree), Text("This never changes: both sides are plain numbers."))
            for word, node in zip(function.series, series, strict=True):
                self._evidence(arguments[word], node)
        numbers = [self._parameter(arguments.get(p.name), p, function, tree, depth) for p in function.parameters]
        if function.definition:
            return (self._expanded(tree, function, series, numbers, depth),), function
        try:
            return function.build(self.graph, series, numbers), function
        except ValueError:  # the only one: each is in its range, but not together
            raise refusal(
                self._at(tree),
                Text("The arguments of {name} do not fit together.", {"name": name}),
                Text("Write {signature}.", {"signature": function.signature}),
            ) from None

    def _expanded(
        self, tree: ast.Call, function: Function, series: Sequence[Node], numbers: Sequence[float], depth: int
    ) -> Node:
        """What a saved formula computes of these arguments."""
        key = (function.name, self.graph.frame, *(node.index for node in series), *numbers)
        if key in self.called:
            return self.called[key]
        definition = self._definition(tree, function.name)
        assert definition is not None
        constants = [self.graph.number(number) for number in numbers]
        bound = dict(zip(function.words, [*series, *constants], strict=True))
        text = " " * definition.start + definition.text[definition.start :]
        try:
            node = Parser(text, {}, self.graph, self.scope, bound, caller=self).body(depth + 1)
        except UsageError as error:
            raise self._inside(tree, function.name, error) from None
        self.uses[function.name] = definition.text
        self.called[key] = node
        return node

    def _arguments(self, tree: ast.Call, function: Function) -> dict[str, ast.expr]:
        """Arguments by name: those without one in the function's order."""
        words = function.words

        def example() -> Text:
            signature = {"signature": function.signature}
            if function.series or function.definition:
                return Text("Write {signature}.", signature)
            return Text("It reads whole bars: write {signature}.", signature)

        if len(tree.args) > len(words):
            extra = tree.args[len(words)]
            if not function.series and isinstance(tree.args[0], ast.Name) and tree.args[0].id in SERIES:
                extra = tree.args[0]
            raise refusal(
                self._at(extra),
                Text(
                    "{name} takes {count} arguments, not {given}.",
                    {"name": function.name, "count": len(words), "given": len(tree.args)},
                ),
                example(),
            )
        found: dict[str, ast.expr] = {}
        for word, argument in zip(words, tree.args, strict=False):
            if isinstance(argument, ast.Starred):
                raise refusal(
                    self._at(argument), Text("{text!r} is not part of the language.", {"text": "*"}), example()
                )
            found[word] = argument
        for keyword in tree.keywords:
            if keyword.arg not in words:
                nearest = _nearest(keyword.arg or "", words)
                raise refusal(
                    self._at(keyword),
                    Text(
                        "{name} has no argument {argument}.", {"name": function.name, "argument": keyword.arg or "**"}
                    ),
                    example() if nearest is None else None,
                    nearest,
                )
            if keyword.arg in found:
                raise refusal(
                    self._at(keyword), Text("{argument} is given twice.", {"argument": keyword.arg}), example()
                )
            found[keyword.arg] = keyword.value
        required = [*([function.word] if function.word else []), *function.series]
        required += [*(p.name for p in function.parameters if p.default is None)]
        for word in required:
            if word not in found:
                raise refusal(
                    self._at(tree),
                    Text("{name} misses its argument {argument}.", {"name": function.name, "argument": word}),
                    example(),
                )
        return found

    def _parameter(
        self, argument: ast.expr | None, parameter: Parameter, function: Function, call: ast.Call, depth: int
    ) -> float:
        if argument is None:
            assert parameter.default is not None
            return parameter.default
        names = {"name": function.name, "argument": parameter.name}
        if parameter.choices and isinstance(argument, ast.Name) and argument.id not in self.parameters:
            if argument.id in parameter.choices:
                return parameter.choices.index(argument.id)
            if argument.id not in self.arguments:
                raise refusal(
                    self._at(argument),
                    Text("{name} is not known.", {"name": argument.id}),
                    Text("It is one of {names}.", {"names": ", ".join(parameter.choices)}),
                    _nearest(argument.id, parameter.choices),
                )
        number = self._node(argument, depth + 1).constant
        if number is None:
            raise refusal(
                self._at(argument),
                Text("{argument} of {name} is a plain number or a parameter, not a series.", names),
                Text("It has to be known before any bar is seen."),
            )
        if parameter.whole and number != int(number):
            raise refusal(
                self._at(argument),
                Text("{argument} of {name} is a whole number.", names),
                Text("Write {signature}.", {"signature": function.signature}),
            )
        if not parameter.least <= number <= parameter.most:
            raise refusal(
                self._at(argument),
                Text("{argument} of {name} is out of range.", names),
                Text(
                    "It goes from {least} to {most}.", {"least": f"{parameter.least:g}", "most": f"{parameter.most:g}"}
                ),
            )
        return number


def _nests(base: Timeframe, longer: Timeframe) -> bool:
    """Whether every bar of the longer timeframe holds whole ones of the base."""
    if longer.ns is None:
        if base.ns is None:
            return longer.months > base.months and longer.months % base.months == 0
        return _DAY_NS % base.ns == 0
    if base.ns is None or longer.ns <= base.ns or longer.ns % base.ns:
        return False
    # Weeks begin on Mondays, days are counted from 1970.
    return (longer.unit == "w") == (base.unit == "w") or _DAY_NS % base.ns == 0
