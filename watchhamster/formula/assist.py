"""Help while a formula is written: what could stand here, and which argument of which function this is.

Both read an unfinished text and never refuse it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from watchhamster.core.text import Text
from watchhamster.core.timeframes import COMMON, timeframe
from watchhamster.formula.functions import FUNCTIONS
from watchhamster.formula.graph import NOTHING
from watchhamster.formula.parsing import HELD, Scope
from watchhamster.formula.table import DAYS, FACTS, LIVE, SERIES, Function

_WORD = re.compile(r"[^\W\d]\w*$")
_QUOTED = re.compile(r"""["']([^"']*)$""")


class Candidate(msgspec.Struct, frozen=True):
    """What could be written from `start` to the cursor."""

    name: str  # "rsi"
    written: str  # what goes into the text: "rsi("
    start: int  # column where it begins
    kind: Literal["series", "function", "parameter", "output", "text"]
    description: Text
    signature: str = ""


class Signature(msgspec.Struct, frozen=True):
    """The function whose brackets hold the cursor, and which of its arguments that is."""

    function: Function
    argument: int | None  # place in `function.words`; None: past the last one


def complete(
    text: str, position: int, parameters: Mapping[str, float] = NOTHING, scope: Scope | None = None
) -> list[Candidate]:
    """What could stand at the cursor, likeliest first: what begins with the word there, then what holds it.

    Inside quotes timeframes or instruments, after a dot outputs; with nothing written, everything that fits.
    """
    scope = scope or Scope()
    before = text[:position]
    if (quoted := _QUOTED.search(before)) is not None and before.count(quoted[0][0]) % 2:
        inside = signature(before[: quoted.start()], quoted.start(), scope)
        word = "" if inside is None else inside.function.word
        names: Sequence[str] = ()
        if word == "timeframe":
            base = 0 if scope.timeframe is None else scope.timeframe.approximate_ns
            names = [name for name in COMMON if timeframe(name).approximate_ns > base]
        elif word == "instrument":
            names = sorted(scope.instruments or ())
        start = quoted.start(1)
        return _ranked(quoted[1], [Candidate(name, name, start, "text", Text("")) for name in names])
    if (dotted := _dotted(before, scope)) is not None:
        outputs, start = dotted
        found = [Candidate(name, name, start, "output", Text("")) for name in outputs]
        return _ranked(before[start:], found)
    begun = _WORD.search(before)
    start = position if begun is None else begun.start()
    return _ranked(before[start:], list(_names(start, parameters, scope, signature(text, position, scope))))


def signature(text: str, position: int, scope: Scope | None = None) -> Signature | None:
    """Which function's brackets hold the cursor."""
    scope = scope or Scope()
    depth, commas = 0, 0
    place = position
    while place > 0:
        place -= 1
        sign = text[place]
        if sign in ")]":
            depth += 1
        elif sign in "([":
            if depth:
                depth -= 1
                continue
            name = _WORD.search(text[:place].rstrip())
            function = None if name is None or sign == "[" else _function(name[0], scope)
            if function is not None:
                return Signature(function, _argument(function, text[place + 1 : position], commas))
            commas = 0  # brackets of arithmetic
        elif sign == "," and depth == 0:
            commas += 1
    return None


def _argument(function: Function, written: str, commas: int) -> int | None:
    """Which argument the cursor is in, a named one by its name."""
    named = re.match(r"\s*([^\W\d]\w*)\s*=(?!=)", written.rpartition(",")[2])
    if named is not None and named[1] in function.words:
        return function.words.index(named[1])
    return commas if commas < len(function.words) else None


def _function(name: str, scope: Scope) -> Function | None:
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    return next((f for f in scope.library.functions() if f.name == name), None)


def _dotted(before: str, scope: Scope) -> tuple[Sequence[str], int] | None:
    """The outputs that could follow a dot, and where they begin."""
    after = re.search(r"\.\s*([^\W\d]\w*)?$", before)
    if after is None:
        return None
    start = len(before) - len(after[1] or "")
    head = before[: after.start()].rstrip()
    if head.endswith(")"):
        depth = 0
        for place in range(len(head) - 1, -1, -1):
            depth += (head[place] == ")") - (head[place] == "(")
            if depth == 0:
                head = head[:place].rstrip()
                break
        name = _WORD.search(head)
        function = None if name is None else _function(name[0], scope)
        return None if function is None else (function.outputs, start)
    name = _WORD.search(head)
    return (FACTS, start) if name is not None and name[0] in DAYS else None


def _names(start: int, parameters: Mapping[str, float], scope: Scope, inside: Signature | None) -> Iterator[Candidate]:
    if inside is not None and inside.argument is not None:
        word = inside.function.words[inside.argument]
        choices = next((p.choices for p in inside.function.parameters if p.name == word), ())
        yield from (Candidate(name, name, start, "text", Text("")) for name in choices)
    for name in parameters:
        yield Candidate(name, name, start, "parameter", Text("A parameter of this formula"))
    known = {**SERIES, **{name: HELD.get(name, Text("")) for name in scope.inputs}, **LIVE}
    for name, description in known.items():
        yield Candidate(name, name, start, "series", description)
    for name, description in DAYS.items():
        yield Candidate(name, f"{name}.", start, "series", description)
    for function in (*scope.library.functions(), *FUNCTIONS.values()):
        written = f"{function.name}(" + ("" if function.words else ")")
        yield Candidate(function.name, written, start, "function", function.description, function.signature)


def _ranked(begun: str, found: Sequence[Candidate]) -> list[Candidate]:
    """Those that begin with what is written, then those that hold it; in either case in their order."""
    word = begun.casefold()
    first = [c for c in found if c.name.casefold().startswith(word)]
    return first + [c for c in found if word in c.name.casefold() and not c.name.casefold().startswith(word)]
