"""The language of conditions: text to a typed graph, or a refusal that says where, why and what was probably meant.

Python's own grammar reads the text; a whitelist decides what of it means something here. Nothing is ever `eval`ed.
Every expression is a number or a condition; constants and parameters are known while parsing, so periods and lags are
checked here, and what can only ever be one thing (`rsi(close, 14) > 200`, `close > close`) is refused rather than
watched for ever.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Mapping, Sequence

from watchhamster.core.bars import Bars
from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text
from watchhamster.formula import graph as g
from watchhamster.formula.functions import FUNCTIONS, PERIOD_MAX, SERIES, Function, Parameter
from watchhamster.formula.graph import Graph, Kind, Node, Program, Stepper, Value, Values

TEXT_MAX = 4000  # characters
DEPTH_MAX = 100  # operations within operations
NODES_MAX = 2000
PRODUCT_MAX = 16  # whole powers up to here are written as products, which have the same bits everywhere


class Formula:
    """A formula that was understood, with its parameters' values.

    `kind` says whether it is a condition; `warm_up` how many bars before the first one that counts it should be given
    so that where history began no longer matters; `first_value` how many bars it needs before it can be defined.
    `parts` are the numbers that its comparisons are about, by their text: the evidence when it fires.
    """

    def __init__(self, text: str, parameters: Mapping[str, float], root: Node, parts: Mapping[str, Node]) -> None:
        self.text = text
        self.parameters = dict(parameters)
        self.root = root
        self.parts = dict(parts)
        self.kind: Kind = root.kind
        self.warm_up = root.warm_up
        self.first_value = root.first_value
        self._program = Program([root])

    def __repr__(self) -> str:
        return f"Formula({self.text!r})"

    def with_parameters(self, parameters: Mapping[str, float]) -> Formula:
        """The same formula with other values for some parameters. Raises `UsageError` as `parse` does."""
        return parse(self.text, {**self.parameters, **parameters})

    def over(self, bars: Bars, parameters: Mapping[str, float] | None = None) -> Values:
        """Its value on every bar, by the array evaluator."""
        formula = self.with_parameters(parameters) if parameters else self
        return formula._program.over(bars)[0]

    def stepper(self, parameters: Mapping[str, float] | None = None, history: Bars | None = None) -> Stepper[Value]:
        """The same, bar by bar: `push(bar)` and `peek(bar)` give float, True, False, or None for undefined.

        With `history` it starts as if those bars had been pushed.
        """
        formula = self.with_parameters(parameters) if parameters else self
        return formula._program.stepper_of_first(history)

    def program_with_parts(self) -> Program:
        """The formula, then its parts in order, to be evaluated together."""
        return Program([self.root, *self.parts.values()])


def parse(text: str, parameters: Mapping[str, float] | None = None) -> Formula:
    """Understand a formula. `parameters` are further names it may use, with their values.

    Raises `UsageError` (`bad_formula`) with `position`, the 0-based column of the mistake, and in `nearest` the name
    that was probably meant, where one comes close.
    """
    return _parse(text, parameters or {}, Graph())


def compile_many(texts: Sequence[str], parameters: Mapping[str, float] | None = None) -> Program:
    """Several formulas as one program, which computes what they share once. Raises `UsageError` as `parse` does."""
    graph = Graph()
    return Program([_parse(text, parameters or {}, graph).root for text in texts])


def _parse(text: str, parameters: Mapping[str, float], graph: Graph) -> Formula:
    parser = _Parser(text, parameters, graph)
    root = parser.formula()
    return Formula(text, parameters, root, parser.parts)


# ---------------------------------------------------------------- refusals


def _refusal(position: int, text: Text, hint: Text | None = None, nearest: str | None = None) -> UsageError:
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


class _Parser:
    """One text. Each `_…` method turns a piece of Python's tree into a node, or refuses it."""

    def __init__(self, text: str, parameters: Mapping[str, float], graph: Graph) -> None:
        self.text = text
        self.parameters = parameters
        self.graph = graph
        self.parts: dict[str, Node] = {}
        self.names = [*SERIES, *FUNCTIONS, *parameters]
        self.source = ""  # the text without what it is indented by
        self.indent = 0

    # -- the text

    def formula(self) -> Node:
        if len(self.text) > TEXT_MAX:
            raise _refusal(
                TEXT_MAX,
                Text("The formula is {count} characters long.", {"count": len(self.text)}),
                Text("At most {limit} are read.", {"limit": TEXT_MAX}),
            )
        for name in self.parameters:
            if not name.isidentifier() or name in SERIES or name in FUNCTIONS:
                raise _refusal(
                    0,
                    Text("{name} cannot be the name of a parameter.", {"name": name}),
                    Text("Use a word that is neither a series nor a function."),
                )
        body = self._tree()
        node = self._node(body, 0)
        if node.constant is not None:
            raise _refusal(
                self._at(body),
                Text("This is always {value}.", {"value": f"{node.constant:g}"}),
                Text("A formula reads at least one series, such as close."),
            )
        return node

    def _tree(self) -> ast.expr:
        line = re.sub(r"\s", " ", self.text)  # a formula may be broken over lines, wherever it likes
        source = line.lstrip(" ")
        self.indent = len(line) - len(source)
        if not source:
            raise _refusal(0, Text("The formula is empty."), Text("Write a condition, such as rsi(close, 14) < 30."))
        for sign, text in (
            ("#", Text("Comments are no part of a formula.")),
            (";", Text("A formula is one expression.")),
        ):
            if sign in source:
                raise _refusal(self.indent + source.index(sign), text, Text("Leave out what begins here."))
        for place, sign in enumerate(line):
            if not sign.isprintable():
                raise _refusal(
                    place, Text("The character {sign!r} is not text.", {"sign": sign}), Text("Take it away.")
                )
        self.source = source
        try:
            return ast.parse(source, mode="eval").body
        except SyntaxError as error:
            raise self._syntax(source, error) from None
        except (ValueError, RecursionError, MemoryError):
            raise _refusal(0, Text("The formula cannot be read."), Text("Write it simpler.")) from None

    def _syntax(self, source: str, error: SyntaxError) -> UsageError:
        position = min(error.offset - 1, len(source)) if error.offset else len(source)
        if "keyword" in error.msg:
            return _refusal(
                self.indent + position,
                Text("A named argument stands before one without a name."),
                Text("Write the named ones last."),
            )
        for slip, hint in _SLIPS:
            if match := slip.search(source):
                return _refusal(
                    self.indent + match.start(),
                    Text("{text!r} means nothing here.", {"text": match[0]}),
                    hint,
                )
        depth = 0
        for place, sign in enumerate(source):
            depth += (sign in "([{") - (sign in ")]}")
            if depth < 0:
                return _refusal(self.indent + place, Text("This bracket was never opened."), Text("Take it away."))
        if depth > 0:
            return _refusal(
                self.indent + position, Text("A bracket is not closed."), Text("Add the missing ) or ] at its end.")
            )
        if not source[position:].strip():
            return _refusal(
                self.indent + len(source), Text("The formula ends too early."), Text("Something follows here.")
            )
        return _refusal(
            self.indent + position,
            Text("The formula cannot be read from here on: {text!r}.", {"text": source[position : position + 20]}),
            Text("Is an operator or a comma missing?"),
        )

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
        if depth > DEPTH_MAX or len(self.graph) > NODES_MAX:
            raise _refusal(
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
        raise _refusal(self._at(tree), Text("{text!r} is not part of the language.", {"text": written[:40]}), hint)

    def _number(self, tree: ast.expr, depth: int) -> Node:
        node = self._node(tree, depth + 1)
        if node.kind != "number":
            raise _refusal(
                self._at(tree),
                Text("A number is needed here, this is a condition."),
                Text("Conditions are joined with and, or, not."),
            )
        return node

    def _condition(self, tree: ast.expr, depth: int) -> Node:
        node = self._node(tree, depth + 1)
        if node.kind != "bool":
            raise _refusal(
                self._at(tree),
                Text("A condition is needed here, this is a number."),
                Text("Compare it with something, such as {text} > 0.", {"text": self._written(tree)}),
            )
        return node

    def _written(self, tree: ast.expr) -> str:
        return ast.unparse(tree)[:40]

    def _constant(self, tree: ast.Constant) -> Node:
        if isinstance(tree.value, bool):
            raise _refusal(
                self._at(tree),
                Text("{value} never changes.", {"value": tree.value}),
                Text("Leave it out: a condition is true by itself."),
            )
        if not isinstance(tree.value, int | float):
            raise _refusal(
                self._at(tree),
                Text("{text!r} is not a number.", {"text": self._written(tree)}),
                Text("Names of series and functions are written without quotes."),
            )
        try:
            number = float(tree.value)
        except OverflowError:
            number = float("inf")
        if number == float("inf"):
            raise _refusal(self._at(tree), Text("This number is too large."), Text("Numbers go up to 1.8e308."))
        return self.graph.number(number)

    def _name(self, tree: ast.Name) -> Node:
        name = tree.id
        if name in SERIES:
            return self.graph.node(g.Series(name), bounds=(0.0, float("inf")) if name in ("volume", "value") else None)
        if name in self.parameters:
            number = float(self.parameters[name])
            if number - number != 0.0:
                raise _refusal(self._at(tree), Text("The parameter {name} is not a finite number.", {"name": name}))
            return self.graph.number(number)
        if name in FUNCTIONS:
            raise _refusal(
                self._at(tree),
                Text("{name} is a function.", {"name": name}),
                Text("Write it with its arguments: {example}.", {"example": FUNCTIONS[name].example}),
            )
        raise self._unknown(tree, name, self.names)

    def _unknown(self, tree: ast.expr, name: str, names: Sequence[str], *, called: bool = False) -> UsageError:
        nearest = _nearest(name, names)
        hint = None
        if nearest is None and called:
            hint = Text("watchhamster formula --functions lists the functions.")
        elif nearest is None:
            hint = Text("Series are {names}.", {"names": ", ".join(SERIES)})
        return _refusal(self._at(tree), Text("{name} is not known.", {"name": name}), hint, nearest)

    def _unary(self, tree: ast.UnaryOp, depth: int) -> Node:
        match tree.op:
            case ast.Not():
                return self.graph.node(g.NOT, self._condition(tree.operand, depth))
            case ast.USub():
                return self.graph.arithmetic(g.NEGATE, self._number(tree.operand, depth))
            case ast.UAdd():
                return self._number(tree.operand, depth)
        raise _refusal(self._at(tree), Text("{text!r} means nothing here.", {"text": "~"}), Text("Write not."))

    def _binary(self, tree: ast.BinOp, depth: int) -> Node:
        if type(tree.op) in _BITWISE:
            sign, word = _BITWISE[type(tree.op)]
            raise _refusal(
                self._between(tree.left, tree.right, sign),
                Text("{text!r} means nothing here.", {"text": sign}),
                Text("Write {word}.", {"word": word}),
            )
        operation = _BINARY.get(type(tree.op))
        if operation is None:
            raise _refusal(
                self._column(tree.left.end_col_offset or 0),
                Text("This operator is not part of the language."),
                Text("There are + - * / // % **; a power is written x ** 2."),
            )
        left, right = self._number(tree.left, depth), self._number(tree.right, depth)
        if operation in (g.DIVIDE, g.FLOOR_DIVIDE, g.REMAINDER) and right.constant == 0:
            raise _refusal(self._at(tree.right), Text("Nothing can be divided by zero."))
        node = self._power(left, right) if operation is g.POWER else self.graph.arithmetic(operation, left, right)
        if node.constant is not None and node.constant - node.constant != 0.0:
            raise _refusal(self._at(tree), Text("This has no value."), Text("It is too large, or not a real number."))
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
            raise _refusal(
                self._column(left.end_col_offset or 0) + 1,
                Text("This comparison is not part of the language."),
                Text("There are > < >= <= == !=."),
            )
        a, b = self._node(left, depth + 1), self._node(right, depth + 1)
        for node, tree in ((a, left), (b, right)):
            if node.kind != "number":
                raise _refusal(
                    self._at(tree),
                    Text("A condition cannot be compared, only numbers can."),
                    Text("Conditions are joined with and, or, not."),
                )
        where = self._between(left, right, written)
        if a is b:
            raise _refusal(
                where, Text("Both sides are the same."), Text("Compare with a lag, such as close > close[1].")
            )
        if a.constant is not None and b.constant is not None:
            raise _refusal(
                where,
                Text("This never changes: both sides are plain numbers."),
                Text("Compare a series with something."),
            )
        self._check_bounds(a, b, written, where)
        self._evidence(left, a)
        self._evidence(right, b)
        return self.graph.node(g.COMPARISONS[written], a, b)

    def _check_bounds(self, a: Node, b: Node, sign: str, where: int) -> None:
        """Refuse a comparison with a number that the other side never passes."""
        node, constant = (a, b.constant) if b.constant is not None else (b, a.constant)
        if constant is None or node.bounds is None or node.bounds[0] <= constant <= node.bounds[1]:
            return
        low, high = node.bounds
        raise _refusal(
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
        if node.constant is None:
            self.parts.setdefault(ast.unparse(tree), node)

    def _lag(self, tree: ast.Subscript, depth: int) -> Node:
        node = self._node(tree.value, depth + 1)
        if isinstance(tree.slice, ast.Slice | ast.Tuple):
            raise _refusal(
                self._at(tree.slice) if isinstance(tree.slice, ast.Tuple) else self._at(tree),
                Text("A lag is one number: x[3] is three bars ago."),
                Text("For a span, use highest(x, 3), lowest(x, 3) or sma(x, 3)."),
            )
        bars = self._plain(tree.slice, depth, Text("A lag is a plain number or a parameter: x[3] is three bars ago."))
        if bars < 0:
            raise _refusal(
                self._at(tree.slice),
                Text("A negative lag would look into the future."),
                Text("x[1] is one bar ago."),
            )
        if bars != int(bars) or bars > PERIOD_MAX:
            raise _refusal(
                self._at(tree.slice),
                Text("A lag is a whole number of bars, at most {limit}.", {"limit": PERIOD_MAX}),
                Text("x[1] is one bar ago."),
            )
        return self.graph.lag(node, int(bars))

    def _plain(self, tree: ast.expr, depth: int, otherwise: Text) -> float:
        """A constant's number."""
        node = self._node(tree, depth + 1)
        if node.constant is None:
            raise _refusal(self._at(tree), otherwise, Text("It has to be known before any bar is seen."))
        return node.constant

    # -- calls

    def _output(self, tree: ast.Attribute, depth: int) -> Node:
        if isinstance(tree.value, ast.Call):
            nodes, function = self._call(tree.value, depth)
            if tree.attr in function.outputs:
                return nodes[function.outputs.index(tree.attr)]
            place = self._column(tree.value.end_col_offset or 0) + 1
            if function.outputs:
                raise _refusal(
                    place,
                    Text("{name} has no output {output}.", {"name": function.name, "output": tree.attr}),
                    Text("It has {names}.", {"names": ", ".join(function.outputs)}),
                    _nearest(tree.attr, function.outputs),
                )
            raise _refusal(
                place, Text("{name} has only one output.", {"name": function.name}), Text("Leave out what follows it.")
            )
        raise _refusal(
            self._at(tree),
            Text("{text!r} is not part of the language.", {"text": self._written(tree)}),
            Text("Only functions with several outputs have a dot, such as macd(close).hist."),
        )

    def _call(self, tree: ast.Call, depth: int) -> tuple[tuple[Node, ...], Function]:
        """The outputs of a call, and what was called."""
        if not isinstance(tree.func, ast.Name):
            raise _refusal(
                self._at(tree),
                Text("Only functions can be called."),
                Text("A call is a name and its arguments: {example}.", {"example": "sma(close, 20)"}),
            )
        name = tree.func.id
        function = FUNCTIONS.get(name)
        if function is None:
            if name in SERIES or name in self.parameters:
                raise _refusal(
                    self._at(tree),
                    Text("{name} is not a function.", {"name": name}),
                    Text("Three bars ago is written {example}.", {"example": f"{name}[3]"}) if name in SERIES else None,
                )
            raise self._unknown(tree.func, name, list(FUNCTIONS), called=True)
        arguments = self._arguments(tree, function)
        series = []
        for word in function.series:
            argument = arguments[word]
            node = self._number(argument, depth)
            if node.constant is not None and not function.constants:
                raise _refusal(
                    self._at(argument),
                    Text("{name} takes a series first, this is a plain number.", {"name": name}),
                    Text("For example {example}.", {"example": function.example}),
                )
            series.append(node)
        if function.kind == "bool":
            if series[0] is series[1]:
                raise _refusal(self._at(tree), Text("Both sides are the same."), None)
            if series[0].constant is not None and series[1].constant is not None:
                raise _refusal(self._at(tree), Text("This never changes: both sides are plain numbers."))
            for word, node in zip(function.series, series, strict=True):
                self._evidence(arguments[word], node)
        numbers = [self._parameter(arguments.get(p.name), p, function, tree, depth) for p in function.parameters]
        return function.build(self.graph, series, numbers), function

    def _arguments(self, tree: ast.Call, function: Function) -> dict[str, ast.expr]:
        """Arguments by name: those without one in the function's order."""
        words = [*function.series, *(p.name for p in function.parameters)]
        example = (
            Text("Write {signature}.", {"signature": function.signature})
            if function.series
            else Text("It reads whole bars: write {signature}.", {"signature": function.signature})
        )
        if len(tree.args) > len(words):
            extra = tree.args[len(words)]
            if not function.series and isinstance(tree.args[0], ast.Name) and tree.args[0].id in SERIES:
                extra = tree.args[0]
            raise _refusal(
                self._at(extra),
                Text(
                    "{name} takes {count} arguments, not {given}.",
                    {"name": function.name, "count": len(words), "given": len(tree.args)},
                ),
                example,
            )
        found: dict[str, ast.expr] = {}
        for word, argument in zip(words, tree.args, strict=False):
            if isinstance(argument, ast.Starred):
                raise _refusal(
                    self._at(argument), Text("{text!r} is not part of the language.", {"text": "*"}), example
                )
            found[word] = argument
        for keyword in tree.keywords:
            if keyword.arg not in words:
                nearest = _nearest(keyword.arg or "", words)
                raise _refusal(
                    self._at(keyword),
                    Text(
                        "{name} has no argument {argument}.", {"name": function.name, "argument": keyword.arg or "**"}
                    ),
                    example if nearest is None else None,
                    nearest,
                )
            if keyword.arg in found:
                raise _refusal(
                    self._at(keyword), Text("{argument} is given twice.", {"argument": keyword.arg}), example
                )
            found[keyword.arg] = keyword.value
        required = [*function.series, *(p.name for p in function.parameters if p.default is None)]
        for word in required:
            if word not in found:
                raise _refusal(
                    self._at(tree),
                    Text("{name} misses its argument {argument}.", {"name": function.name, "argument": word}),
                    example,
                )
        return found

    def _parameter(
        self, argument: ast.expr | None, parameter: Parameter, function: Function, call: ast.Call, depth: int
    ) -> float:
        if argument is None:
            assert parameter.default is not None
            return parameter.default
        names = {"name": function.name, "argument": parameter.name}
        number = self._plain(
            argument, depth, Text("{argument} of {name} is a plain number or a parameter, not a series.", names)
        )
        if parameter.whole and number != int(number):
            raise _refusal(
                self._at(argument),
                Text("{argument} of {name} is a whole number.", names),
                Text("Write {signature}.", {"signature": function.signature}),
            )
        if not parameter.least <= number <= parameter.most:
            raise _refusal(
                self._at(argument),
                Text("{argument} of {name} is out of range.", names),
                Text(
                    "It goes from {least} to {most}.", {"least": f"{parameter.least:g}", "most": f"{parameter.most:g}"}
                ),
            )
        return number
