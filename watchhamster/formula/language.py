"""The language of conditions: formulas that were understood, alone, together, under many parameters, and saved ones.

`parsing` reads the text, `graph` evaluates what it means.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, TypedDict, Unpack

import msgspec

from watchhamster.core.bars import Bars
from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text
from watchhamster.core.timeframes import Grid, Timeframe
from watchhamster.formula.evaluators import Program, Stepper
from watchhamster.formula.graph import (
    NOTHING,
    Array,
    Frame,
    Graph,
    Kind,
    Node,
    Series,
    Value,
    Values,
)
from watchhamster.formula.indicators import Indicator
from watchhamster.formula.parsing import HELD, Definition, Memory, Parser, Saved, Scope, check_name, refusal
from watchhamster.formula.rolling import Window
from watchhamster.formula.table import Function, Parameter

LIBRARY_KEY = "formulas"  # of the small state that holds them
CACHE_BYTES = 64 << 20
GRAPH_MAX = 100_000  # nodes of a sweep, before it begins anew
SAVED_MAX = 3e37


class Words(TypedDict, total=False):
    """The fields of a `Scope`, as keywords."""

    timeframe: Timeframe | None
    instruments: Collection[str] | None
    inputs: tuple[str, ...]
    library: Saved
    grids: Callable[[str], Grid]


class Formula:
    """A formula that was understood, with its parameters' values.

    `kind` says whether it is a condition; `warm_up` how many bars before the first one that counts it should be given
    so that where history began no longer matters; `first_value` how many bars it needs before it can be defined.
    `parts` are the numbers that its comparisons are about, by their text: the evidence when it fires. `given` are the
    frames whose bars have to be given besides its own (see `Program`), `uses` the saved formulas that it calls, however
    deep, by name. It is `fleeting` if it depends on an input.
    """

    def __init__(self, parser: Parser, root: Node) -> None:
        self.text = parser.text
        self.parameters = dict(parser.parameters)
        self.root = root
        self.parts: Mapping[str, Node] = parser.parts
        self.uses: Mapping[str, str] = parser.uses
        self.scope = scope = parser.scope
        self.kind: Kind = root.kind
        self.warm_up = root.warm_up
        self.first_value = root.first_value
        self.fleeting = root.fleeting
        self._program = Program([root], scope.timeframe, scope.grids)
        self.given = self._program.given

    def __repr__(self) -> str:
        return f"Formula({self.text!r})"

    def with_parameters(self, parameters: Mapping[str, float]) -> Formula:
        """The same formula with other values for some parameters. Raises `UsageError` as `parse` does."""
        return _parse(self.text, {**self.parameters, **parameters}, Graph(), self.scope)

    def over(
        self,
        bars: Bars,
        parameters: Mapping[str, float] | None = None,
        *,
        others: Mapping[Frame, Bars] = NOTHING,
        inputs: Mapping[str, Array] = NOTHING,
    ) -> Values:
        """Its value on every bar, by the array evaluator."""
        formula = self.with_parameters(parameters) if parameters else self
        return formula._program.over(bars, others, inputs)[0]

    def stepper(
        self,
        parameters: Mapping[str, float] | None = None,
        history: Bars | None = None,
        *,
        others: Mapping[Frame, Bars] = NOTHING,
    ) -> Stepper[Value]:
        """The same, bar by bar: `push(bar)` and `peek(bar)` give float, True, False, or None for undefined.

        With `history` it starts as if those bars had been pushed.
        """
        formula = self.with_parameters(parameters) if parameters else self
        return formula._program.stepper_of_first(history, others)

    def program_with_parts(self, grid: Grid | None = None) -> Program:
        """The formula, then its parts in order, to be evaluated together; `grid`: of the instrument it is for."""
        grids = self.scope.grids if grid is None else (lambda name: self.scope.grids(name) if name else grid)
        return Program([self.root, *self.parts.values()], self.scope.timeframe, grids)


def parse(text: str, parameters: Mapping[str, float] | None = None, **scope: Unpack[Words]) -> Formula:
    """Understand a formula. `parameters` are further names it may use, with their values; `scope` see `Scope`.

    Raises `UsageError` (`bad_formula`) with `position`, the 0-based column of the mistake, and in `nearest` the name
    that was probably meant, where one comes close. A mistake inside a saved formula has its name and the column there
    as `inside` and `inside_position`.
    """
    return _parse(text, parameters or {}, Graph(), Scope(**scope))


def compile_many(
    texts: Sequence[str], parameters: Mapping[str, float] | None = None, **scope: Unpack[Words]
) -> Program:
    """Several formulas as one program, which computes what they share once. Raises `UsageError` as `parse` does."""
    return _compiled(texts, parameters or {}, Graph(), Scope(**scope))


def _compiled(
    texts: Sequence[str], parameters: Mapping[str, float], graph: Graph, scope: Scope, memory: Memory | None = None
) -> Program:
    roots = [Parser(text, parameters, graph, scope, evidence=False, memory=memory).formula() for text in texts]
    return Program(roots, scope.timeframe, scope.grids)


def _parse(text: str, parameters: Mapping[str, float], graph: Graph, scope: Scope) -> Formula:
    parser = Parser(text, parameters, graph, scope)
    return Formula(parser, parser.formula())


# ---------------------------------------------------------------- many parameters over the same bars


class _Cache(MutableMapping[int, Any]):
    """Columns by node: all of the present evaluation, of earlier ones the dear ones, the newest, up to a size."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._now: dict[int, Any] = {}

    def __getitem__(self, index: int) -> Any:
        if index in self._now:
            return self._now[index]
        self._kept.move_to_end(index)
        return self._kept[index]

    def __contains__(self, index: object) -> bool:
        return index in self._now or index in self._kept

    def __setitem__(self, index: int, column: Any) -> None:
        self._now[index] = column

    def __delitem__(self, index: int) -> None:
        del self._now[index]

    def __iter__(self) -> Iterator[int]:
        return itertools.chain(self._now, self._kept)

    def __len__(self) -> int:
        return len(self._now) + len(self._kept)

    def finish(self, dear: Collection[int]) -> None:
        """Forget this evaluation's columns but the dear ones."""
        for index in dear:
            if index in self._now:
                self._kept[index] = self._now[index]
                self._size += _bytes(self._now[index])
        self._now.clear()
        while self._size > self._limit:
            _index, column = self._kept.popitem(last=False)
            self._size -= _bytes(column)


def _bytes(column: Any) -> int:
    if isinstance(column, tuple):
        return sum(map(_bytes, column))
    return int(getattr(column, "nbytes", 0))


class Family:
    """Programs of one graph, in which equal calls are understood once, whatever program they are in."""

    def __init__(self, **scope: Unpack[Words]) -> None:
        self._scope = Scope(**scope)
        self._graph, self._memory = Graph(), Memory()
        self.generation = 0  # programs of different ones share nothing

    def program(self, texts: Sequence[str], parameters: Mapping[str, float]) -> Program:
        """As `compile_many`. The next call may begin another generation."""
        if len(self._graph) > GRAPH_MAX:
            self._graph, self._memory = Graph(), Memory()
            self.generation += 1
        return _compiled(texts, parameters, self._graph, self._scope, self._memory)


class Sweep:
    """Formulas over the same bars under many parameters; what they share is computed once.

    What is dear (indicators, series, windows) is kept up to `cache_bytes`, across parameter sets. Sweeps over other
    bars may be of the same `family`.
    """

    def __init__(
        self,
        texts: Sequence[str],
        bars: Bars,
        *,
        others: Mapping[Frame, Bars] = NOTHING,
        cache_bytes: int = CACHE_BYTES,
        family: Family | None = None,
        **scope: Unpack[Words],
    ) -> None:
        self.texts = tuple(texts)
        self._bars = bars
        self._others = others
        self._family = family or Family(**scope)
        self._limit = cache_bytes
        self._rows: Any = None
        self._cache = _Cache(cache_bytes)
        self._generation = self._family.generation

    def over(self, parameters: Mapping[str, float]) -> tuple[Values, ...]:
        """Each formula's value on every bar. Raises `UsageError` as `parse` does."""
        return self.of(self._family.program(self.texts, parameters))

    def of(self, program: Program) -> tuple[Values, ...]:
        """The same of the family's newest program of these texts."""
        if self._generation != self._family.generation:
            self._generation = self._family.generation
            self._cache = _Cache(self._limit)
        if self._rows is None:
            self._rows = program.rows(self._bars, self._others)
        found = program.evaluate(self._rows, self._cache)
        dear = [node.index for node in program.nodes if isinstance(node.operation, Series | Indicator | Window)]
        self._cache.finish(dear)
        return found


# ---------------------------------------------------------------- saved formulas


class Library:
    """Saved formulas by name, each with its definition `name(x, n=14) = ...`; they may use one another.

    Arguments without a default are series or conditions, as the formula uses them; with one they are numbers.
    """

    def __init__(self, definitions: Mapping[str, str] = NOTHING) -> None:
        self._texts = dict(definitions)
        self._known: dict[str, Definition | UsageError] = {}
        self._asked: list[str] = []  # those that are being understood, outermost first

    def names(self) -> Collection[str]:
        """Of all formulas."""
        return self._texts.keys()

    def get(self, name: str) -> Definition | None:
        """The formula of this name. Raises `UsageError` (`bad_formula`) where it is wrong."""
        if name not in self._texts:
            return None
        if name not in self._known:
            if name in self._asked:
                chain = " → ".join([*self._asked[self._asked.index(name) :], name])
                raise refusal(
                    self._texts[name].find("=") + 1,
                    Text("The formula uses itself: {chain}.", {"chain": chain}),
                    Text("Leave one of them out."),
                )
            self._asked.append(name)
            try:
                self._known[name] = _define(self._texts[name], self)
            except UsageError as error:
                self._known[name] = error
            finally:
                self._asked.pop()
        found = self._known[name]
        if isinstance(found, UsageError):
            raise UsageError(found.code, found.text, found.hint, **found.details)
        return found

    def functions(self) -> tuple[Function, ...]:
        """Those that are right, by name."""
        found = []
        for name in sorted(self._texts):
            try:
                definition = self.get(name)
            except UsageError:
                continue
            assert definition is not None
            found.append(definition.function)
        return tuple(found)

    def with_(self, definition: str) -> tuple[Library, Function]:
        """This library and one more formula, or another for one it had. Raises `UsageError` where that is wrong.

        Formulas that use it are checked with it.
        """
        name = definition.partition("=")[0].partition("(")[0].strip()
        grown = Library({**self._texts, name: definition})
        found = grown.get(name)
        if found is None:
            raise refusal(0, Text("The formula has no name."), _HOW)
        for other in self._texts:
            if other != name and self._is_right(other):
                grown.get(other)
        return grown, found.function

    def _is_right(self, name: str) -> bool:
        try:
            self.get(name)
        except UsageError:
            return False
        return True

    def without(self, name: str) -> Library:
        """This library and one formula less. Raises `UsageError` where there is none, or another uses it."""
        if name not in self._texts:
            raise UsageError(
                "unknown_formula",
                Text("There is no saved formula {name}.", {"name": name}),
                Text("watchhamster formula list shows what there is."),
            )
        left = Library({other: text for other, text in self._texts.items() if other != name})
        for other in left.names():
            if self._is_right(other) and not left._is_right(other):
                raise UsageError(
                    "formula_used",
                    Text("{other} uses {name}.", {"other": other, "name": name}),
                    Text("Change or remove {other} first.", {"other": other}),
                )
        return left

    @property
    def definitions(self) -> Mapping[str, str]:
        """The texts, by name."""
        return dict(self._texts)

    @classmethod
    def stored(cls, data: bytes | None) -> Library:
        """What `to_bytes` gave; None: nothing was saved yet."""
        return cls({} if data is None else msgspec.json.decode(data, type=dict[str, str]))

    def to_bytes(self) -> bytes:
        """The definitions, as a small state of the desk's store keeps them."""
        return msgspec.json.encode(self._texts)


_HOW = Text("Write it as {example}.", {"example": "spike(x, n=20) = x > 2 * sma(x, n)"})
_HEAD = re.compile(r"\s*([^\s(=]*)\s*(\(([^()]*)\))?\s*=(?!=)")


def _define(text: str, library: Library) -> Definition:
    head = _HEAD.match(text)
    if head is None or not head[1]:
        raise refusal(0, Text("The formula has no name."), _HOW)
    check_name(head[1], head.start(1))
    series, parameters = _arguments(head[3] or "", head.start(3) if head[2] else 0)
    start = head.end()
    if not text[start:].strip():
        raise refusal(len(text.rstrip()), Text("The formula ends too early."), _HOW)

    def function(kind: Kind = "number", conditions: tuple[str, ...] = ()) -> Function:
        return Function(
            head[1],
            Text("{definition}", {"definition": text.strip()}),
            "saved",
            series,
            parameters,
            _unbuilt,
            kind=kind,
            constants=True,
            conditions=conditions,
            momentary=True,  # its own text is checked
            definition=text,
        )

    refused: UsageError | None = None
    for kinds in itertools.product(("number", "bool"), repeat=len(series)):  # which of them are conditions
        conditions = tuple(word for word, kind in zip(series, kinds, strict=True) if kind == "bool")
        try:
            root = _trial(text, start, series, parameters, conditions, library)
        except UsageError as error:
            refused = refused or error
            continue
        return Definition(function(root.kind, conditions), text, start)
    assert refused is not None
    raise refused


def _unbuilt(graph: Graph, series: Sequence[Node], numbers: Sequence[float]) -> tuple[Node, ...]:
    raise AssertionError("the parser writes a saved formula out")


_SERIES_MAX = 4  # arguments without a default


def _arguments(words: str, offset: int) -> tuple[tuple[str, ...], tuple[Parameter, ...]]:
    """The names in the brackets: series first, then numbers with their defaults."""
    series: list[str] = []
    parameters: list[Parameter] = []
    if not words.strip():
        return (), ()
    for part in re.finditer(r"[^,]*(?:,|$)", words):
        written = part[0].rstrip(",")
        if not part[0]:
            break
        name, equals, default = (piece.strip() for piece in written.partition("="))
        place = offset + part.start() + len(written) - len(written.lstrip())
        check_name(name, place)
        if name in series or any(p.name == name for p in parameters):
            raise refusal(place, Text("{argument} is given twice.", {"argument": name}), _HOW)
        if not equals:
            if parameters:
                raise refusal(place, Text("A series comes after a number."), Text("Name the series first."))
            series.append(name)
            continue
        try:
            number = float(ast.literal_eval(default))
        except (ValueError, TypeError, SyntaxError):
            raise refusal(place, Text("The default of {name} is not a number.", {"name": name}), _HOW) from None
        if not abs(number) <= SAVED_MAX:
            raise refusal(place, Text("The default of {name} is not a number.", {"name": name}), _HOW)
        parameters.append(Parameter(name, number, -SAVED_MAX, SAVED_MAX, whole=False))
    if len(series) > _SERIES_MAX:
        raise refusal(
            offset,
            Text("A saved formula takes at most {limit} series.", {"limit": _SERIES_MAX}),
            Text("Give numbers a default, such as n=14."),
        )
    return tuple(series), tuple(parameters)


def _trial(
    text: str,
    start: int,
    series: Sequence[str],
    parameters: Sequence[Parameter],
    conditions: Collection[str],
    library: Library,
) -> Node:
    """What it would compute of arguments of these kinds: nobody has called it yet."""
    graph = Graph()
    arguments: dict[str, Node] = {p.name: graph.number(p.default or 0.0) for p in parameters}
    for place, word in enumerate(series):
        some = graph.lag(graph.series("close"), 1000 + place)  # a series like no other
        if word in conditions:
            some = Parser("some > 1", {}, graph, Scope(), {"some": some}).body()
        arguments[word] = some
    scope = Scope(inputs=tuple(HELD), library=library)
    return Parser(" " * start + text[start:], {}, graph, scope, arguments).body()
