"""What a function of the language is: one table for the parser, completion, signatures and the reference.

`talib_functions` fills it with TA-Lib's, `functions` with ours; a saved formula makes a `Function` of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import msgspec

from watchhamster.core.text import Text, say
from watchhamster.formula.graph import Graph, Kind, Node

PERIOD_MAX = 100_000  # TA-Lib's own limit, and ours for lags

SERIES: Mapping[str, Text] = {
    "open": Text("First price of the bar"),
    "high": Text("Highest price of the bar"),
    "low": Text("Lowest price of the bar"),
    "close": Text("Last price of the bar"),
    "volume": Text("Amount traded in the bar, in the base asset"),
    "value": Text("Amount traded in the bar, in the quote asset"),
}

LIVE: Mapping[str, Text] = {  # known while the market runs; over history undefined, unless it was stored
    "bid": Text("Best price somebody would pay now"),
    "ask": Text("Lowest price somebody would sell at now"),
    "spread": Text("Lowest ask less best bid"),
    "imbalance": Text("Share of the bids in the order book, from -1 to 1: (bids - asks) / (bids + asks)"),
    "strength": Text("Amounts bought in proportion to amounts sold, in percent"),
}

DAYS: Mapping[str, Text] = {
    "today": Text("The day so far, this bar included"),
    "previous_day": Text("The last day before this one that had bars"),
}
Fact = Literal["open", "high", "low", "close", "volume"]
FACTS: tuple[Fact, ...] = get_args(Fact)  # of a day


class Parameter(msgspec.Struct, frozen=True):
    """A number that a function takes: a constant or a parameter of the formula, never a series."""

    name: str
    default: float | None  # None: it must be given
    least: float
    most: float
    whole: bool = True
    choices: tuple[str, ...] = ()  # words for the numbers from 0 on, which may be written instead

    @property
    def shown(self) -> str:
        """Its default as one would write it; empty where it has none."""
        if self.default is None:
            return ""
        return self.choices[int(self.default)] if self.choices else f"{self.default:g}"


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
    momentary: bool = False  # it looks at no other bar than this
    compares: bool = False  # its two series with one another
    conditions: tuple[str, ...] = ()  # those of `series` that are conditions
    reads: tuple[str, ...] = ()  # columns of the bars, for a function of whole bars
    word: str = ""  # what the text is that it takes before everything: `at("1h", x)`
    definition: str = ""  # of a saved formula: its text

    @property
    def words(self) -> tuple[str, ...]:
        """The names of all its arguments, in order."""
        return (*((self.word,) if self.word else ()), *self.series, *(p.name for p in self.parameters))

    @property
    def signature(self) -> str:
        """As it is written: `rsi(x, timeperiod=14)`."""
        words = list(self.words[: len(self.words) - len(self.parameters)])
        words += [p.name if p.default is None else f"{p.name}={p.shown}" for p in self.parameters]
        return f"{self.name}({', '.join(words)})"

    @property
    def example(self) -> str:
        """A call one could type: `rsi(close, 14)`."""
        numbers = iter(("close", "open", "high", "low"))
        words = [_EXAMPLES[self.word]] if self.word else []
        words += ["close > open" if word in self.conditions else next(numbers, "close") for word in self.series]
        words += [p.shown or "10" for p in self.parameters if not p.choices]
        return f"{self.name}({', '.join(words)})"


def describe(function: Function) -> dict[str, object]:
    """The function's row of `formula --functions --json`; its description is in the language in use."""
    return {
        "name": function.name,
        "signature": function.signature,
        "series": list(function.series),
        "conditions": list(function.conditions),
        "parameters": [
            {"name": p.name, "default": p.default, "min": p.least, "max": p.most, "integer": p.whole}
            | ({"choices": list(p.choices)} if p.choices else {})
            for p in function.parameters
        ],
        "outputs": list(function.outputs),
        "kind": function.kind,
        "group": function.group,
        "description": say(function.description),
        "description_en": str(function.description),
    }


_EXAMPLES = {"timeframe": '"1h"', "instrument": '"upbit:KRW-BTC"'}
