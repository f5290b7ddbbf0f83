"""Strategies as documents: the TOML of the contracts, as values.

`read` understands a document or refuses it, naming the key, its line, the reason and what was probably meant; `write`
gives it back: reading what was written gives an equal strategy. A number may be the name of a parameter
(`stop_percent = "stop"`), so that it can be optimised; `Strategy.resolve` puts the values in.

A strategy decides on closed bars; what it decides fills no earlier than the next one. Source: the contracts'
"Strategies (TOML)"; how orders fill is the kernel's.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from watchhamster.backtest.kernel import EXITS_MAX, LEGS_MAX, REASONS
from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text
from watchhamster.core.timeframes import timeframe
from watchhamster.formula import HELD, SERIES, Library, functions, parse

Number: TypeAlias = float | str  # a number, or the name of a parameter
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TEXT_MAX = 100_000  # characters of a document
PARAMETERS_MAX = 64


class Parameter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A number that can be set for a run, and where an optimisation looks for better ones."""

    default: float
    min: float | None = None
    max: float | None = None
    step: float | None = None
    description: str = ""


class Size(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How much an entry buys: one of the first seven. The fee is counted in wherever money is named."""

    equity_percent: Number | None = None  # of what the account is worth
    cash_percent: Number | None = None  # of the cash that is free
    money: Number | None = None  # in the quote asset
    amount: Number | None = None  # in the base asset
    risk_percent: Number | None = None  # of equity, lost if the stop is hit
    volatility_percent: Number | None = None  # of equity, moved by `atr_multiple` ATR of the deciding bar
    weight: Number | None = None  # fraction of equity the whole position is brought to
    atr_multiple: Number = 1.0

    @property
    def mode(self) -> str:
        """The name of the one that is given."""
        return next(name for name in SIZES if getattr(self, name) is not None)


SIZES = ("equity_percent", "cash_percent", "money", "amount", "risk_percent", "volatility_percent", "weight")


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """When to go in, by which order, with how much.

    A `limit` or `stop` formula is the order's price (`short_…`: of short entries, where it differs); the order waits
    until it fills, is replaced by a newer decision or called off by an exit, or `valid_bars` have passed.
    """

    long: str | None = None
    short: str | None = None
    limit: str | None = None
    stop: str | None = None
    short_limit: str | None = None
    short_stop: str | None = None
    valid_bars: Number = 0
    score: str | None = None  # which instruments come first when not all fit: the highest
    size: Size = Size(equity_percent=100.0)
    cooldown_bars: Number = 0  # after a position is closed
    max_entries: Number = 1  # above 1: pyramids
    sessions: tuple[str, ...] = ()  # "09:00-15:30", of the opens of the bars that decide
    weekdays: tuple[Day, ...] = ()


class Exit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A reason to go out. With a share below 1 it closes so much of all that was entered, once a position."""

    name: str
    when: str
    share: Number = 1.0
    side: Literal["both", "long", "short"] = "both"  # of the position


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A leg: a limit order at some percent of profit, for a share of all that was entered. The last takes the rest."""

    percent: Number
    share: Number = 1.0


class Protect(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Orders that rest while a position is open, and how long it may last."""

    stop_percent: Number | None = None
    stop_atr: Number | None = None  # so many ATR of the deciding bar; of two stops the nearer holds
    atr_period: Number = 14
    target_percent: Number | None = None
    targets: tuple[Target, ...] = ()
    trailing_percent: Number | None = None
    trailing_arm_percent: Number | None = None
    break_even_percent: Number | None = None  # from this profit on the stop is at the entry price
    max_bars: Number | None = None


class Slippage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """By how much market and stop orders fill worse, and how much of a bar's volume they may be."""

    basis_points: Number | None = None
    ticks: Number | None = None
    volume_share: Number | None = None  # of the bar's volume: no fill is larger


class Costs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What trading costs beyond the price."""

    fee_percent: Number | None = None  # a side; None: the venue's own
    slippage: Slippage = Slippage()
    borrow_percent: Number = 0.0  # of a short's value, a year


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limits of the whole account."""

    max_positions: Number | None = None


class Strategy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What to trade when: a document. Only `name` and an entry are required."""

    name: str
    entry: Entry
    description: str = ""
    description_ko: str = ""
    timeframe: str | None = None  # None: as the run says
    parameters: dict[str, Parameter] = {}
    exit: tuple[Exit, ...] = ()
    protect: Protect = Protect()
    costs: Costs = Costs()
    limits: Limits = Limits()

    def values(self, given: Mapping[str, float] | None = None) -> dict[str, float]:
        """Every parameter's value: given, or its default. Raises `UsageError` (`bad_parameter`)."""
        values = {name: float(parameter.default) for name, parameter in self.parameters.items()}
        for name, value in (given or {}).items():
            if name not in values:
                nearest = _nearest(name, tuple(values))
                raise UsageError(
                    "bad_parameter",
                    Text("The strategy {name} has no parameter {parameter}.", {"name": self.name, "parameter": name}),
                    Text("Did you mean {name}?", {"name": nearest})
                    if nearest
                    else Text("It has {names}.", {"names": ", ".join(values) or "-"}),
                    nearest=nearest,
                )
            if not math.isfinite(value):
                raise UsageError(
                    "bad_parameter", Text("The parameter {name} is not a finite number.", {"name": name}), None
                )
            values[name] = float(value)
        return values

    def resolve(self, given: Mapping[str, float] | None = None) -> Strategy:
        """The strategy with numbers where names of parameters stood, checked once more with these values."""
        resolved = self._with(self.values(given))
        _check_numbers(resolved, "")
        return resolved

    def _with(self, values: Mapping[str, float]) -> Strategy:

        def put(thing: Any) -> Any:
            if isinstance(thing, tuple):
                return tuple(put(one) for one in thing)
            if not isinstance(thing, msgspec.Struct):
                return thing
            numbers = _number_fields(type(thing))
            return msgspec.structs.replace(
                thing,
                **{
                    name: values[value] if name in numbers and isinstance(value, str) else put(value)
                    for name in thing.__struct_fields__
                    if (value := getattr(thing, name)) is not None
                },
            )

        parts = ("entry", "exit", "protect", "costs", "limits")
        return msgspec.structs.replace(self, **{part: put(getattr(self, part)) for part in parts})

    def formulas(self) -> Iterator[tuple[str, str, Literal["bool", "number"]]]:
        """Every formula: its key, its text, and what it must be."""
        entry = self.entry
        for key in ("long", "short"):
            if (text := getattr(entry, key)) is not None:
                yield f"entry.{key}", text, "bool"
        for key in ("limit", "stop", "short_limit", "short_stop", "score"):
            if (text := getattr(entry, key)) is not None:
                yield f"entry.{key}", text, "number"
        for number, exit in enumerate(self.exit):
            yield f"exit[{number}].when", exit.when, "bool"


def _number_fields(kind: type[msgspec.Struct]) -> frozenset[str]:
    """Names of the fields in which a number or a parameter stands."""
    found = _NUMBERS.get(kind)
    if found is None:
        types = {field.name: field.type for field in msgspec.structs.fields(kind)}
        found = _NUMBERS[kind] = frozenset(
            name for name, type_ in types.items() if set(getattr(type_, "__args__", ())) >= {float, str}
        )
    return found


_NUMBERS: dict[type[msgspec.Struct], frozenset[str]] = {}


# ---------------------------------------------------------------- reading

# Least and most of every number, by its place in the document (without the numbers of a list).
_RANGES: Mapping[str, tuple[float, float]] = {
    "entry.size.equity_percent": (1e-6, 100.0),
    "entry.size.cash_percent": (1e-6, 100.0),
    "entry.size.money": (1e-12, 1e18),
    "entry.size.amount": (1e-12, 1e18),
    "entry.size.risk_percent": (1e-6, 100.0),
    "entry.size.volatility_percent": (1e-6, 100.0),
    "entry.size.weight": (1e-8, 1.0),
    "entry.size.atr_multiple": (1e-6, 1e6),
    "entry.valid_bars": (0, 1e6),
    "entry.cooldown_bars": (0, 1e6),
    "entry.max_entries": (1, 1000),
    "exit.share": (1e-6, 1.0),
    "protect.stop_percent": (1e-6, 99.9999),
    "protect.stop_atr": (1e-6, 1e6),
    "protect.atr_period": (1, 100_000),
    "protect.target_percent": (1e-6, 1e6),
    "protect.targets.percent": (1e-6, 1e6),
    "protect.targets.share": (1e-6, 1.0),
    "protect.trailing_percent": (1e-6, 99.9999),
    "protect.trailing_arm_percent": (0.0, 1e6),
    "protect.break_even_percent": (1e-6, 1e6),
    "protect.max_bars": (1, 1e9),
    "costs.fee_percent": (0.0, 50.0),
    "costs.borrow_percent": (0.0, 1e4),
    "costs.slippage.basis_points": (0.0, 5000.0),
    "costs.slippage.ticks": (0.0, 1e6),
    "costs.slippage.volume_share": (1e-9, 1.0),
    "limits.max_positions": (1, 1e6),
}
_WHOLE = ("_bars", "max_bars", "max_entries", "max_positions", "atr_period")


def read(text: str, library: Library | None = None) -> Strategy:
    """The strategy a TOML document describes.

    Raises `UsageError` (`bad_strategy`, or `bad_formula` with `position` for a formula) with `key`, such as
    `protect.stop_percent`, and `line` (1-based) where it is known. `library` holds saved formulas.
    """
    if len(text) > TEXT_MAX:
        raise _refusal(text, "", Text("The document is {count} characters long.", {"count": len(text)}))
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        raise UsageError(
            "bad_strategy",
            Text("The document is not TOML: {reason}.", {"reason": str(error).partition(" (at ")[0].rstrip(".")}),
            Text("Text stands in quotes, a list in [ ], a section begins with [its name]."),
            key="",
            line=int(found[1]) if found else None,
        ) from None
    _check_keys(text, document, Strategy, "")
    try:
        strategy = msgspec.convert(document, Strategy)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        key = path.rstrip("`").lstrip(".").replace("[...]", "")
        raise _refusal(text, key, Text("{key}: {reason}.", {"key": key or "name", "reason": reason})) from None
    check(strategy, text, library)
    return strategy


def check(strategy: Strategy, text: str = "", library: Library | None = None) -> None:
    """Refuse a strategy that makes no sense with its defaults. Raises as `read` does."""
    _check_parameters(strategy, text)
    for key, formula in _names_of_numbers(strategy):
        if formula not in strategy.parameters:
            nearest = _nearest(formula, tuple(strategy.parameters))
            raise _refusal(
                text,
                key,
                Text("{key}: {name} is no parameter of the strategy.", {"key": key, "name": formula}),
                Text("Write a number, or the name of a parameter."),
                nearest,
            )
    resolved = strategy._with(strategy.values())
    _check_numbers(resolved, text)
    _check_sense(resolved, text)
    values = strategy.values()
    for key, formula, kind in strategy.formulas():
        check_formula(formula, values, kind, key, _line(text, key), of_position=key.startswith("exit"), library=library)


def check_formula(
    formula: str,
    values: Mapping[str, float],
    kind: Literal["bool", "number"],
    key: str,
    line: int | None = None,
    *,
    of_position: bool = False,
    library: Library | None = None,
) -> None:
    """Refuse a formula that is wrong, or not of the kind its place needs."""
    try:
        parsed = parse(formula, values, inputs=tuple(HELD) if of_position else (), library=library or Library())
    except UsageError as error:
        error.details.update(key=key, line=line)
        raise
    if parsed.kind != kind:
        raise UsageError(
            "bad_formula",
            Text("{key} needs a condition, this is a number.", {"key": key})
            if kind == "bool"
            else Text("{key} needs a number, this is a condition.", {"key": key}),
            Text("Compare it with something, such as {text} > 0.", {"text": formula.strip()[:60]})
            if kind == "bool"
            else Text("Write a price or a number, such as close - atr(14)."),
            position=0,
            key=key,
            line=line,
        )


def uses_position(formula: str) -> bool:
    """Whether a formula asks about the open position, so that it cannot be evaluated before the run."""
    return re.search(rf"\b({'|'.join(HELD)})\b", formula) is not None


def _refusal(text: str, key: str, message: Text, hint: Text | None = None, nearest: str | None = None) -> UsageError:
    if nearest is not None:
        hint = Text("Did you mean {name}?", {"name": nearest})
    return UsageError("bad_strategy", message, hint, key=key, line=_line(text, key), nearest=nearest)


def _nearest(name: str, names: Sequence[str]) -> str | None:
    found = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    return found[0] if found else None


def _line(text: str, key: str) -> int | None:
    """The line on which a key such as `exit[1].when` stands, as far as a look at the text can tell."""
    if not text or not key:
        return None
    parts = [(name, int(place or 0)) for name, place in re.findall(r"([\w-]+)(?:\[(\d+)\])?", key)]
    lines = text.splitlines()
    first, seen, depth = 0, 0, 0
    for number, line in enumerate(lines):
        header = re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line)
        if header is None:
            continue
        names = [part.strip().strip("\"'") for part in header[1].split(".")]
        if names == [name for name, _ in parts[: len(names)]] and len(names) >= depth:
            if len(names) > depth:
                seen = 0
            if seen == parts[len(names) - 1][1] or not line.lstrip().startswith("[["):
                first, depth = number + 1, len(names)
            seen += 1
    if depth == len(parts):
        return first
    for number in range(first, len(lines)):
        if re.match(r"\s*\[", lines[number]) and depth:
            break
        if re.match(rf"\s*[\"']?{re.escape(parts[depth][0])}[\"']?\s*[=.]", lines[number]):
            return number + 1
    return first or None


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    """The struct that a field's type is, or is a list of."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    for inner in getattr(kind, "__args__", ()):
        if (found := _struct_in(inner)) is not None:
            return found
    return None


def _check_keys(text: str, table: Mapping[str, Any], kind: type[msgspec.Struct], path: str) -> None:
    """Refuse keys that mean nothing, and missing ones, before the types are looked at."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for name, value in table.items():
        key = f"{path}.{name}" if path else name
        if name not in fields:
            nearest = _nearest(name, tuple(fields))
            raise _refusal(
                text,
                key,
                Text("{key} means nothing here.", {"key": key}),
                Text("Known keys are {names}.", {"names": ", ".join(fields)}),
                nearest,
            )
        inner = _struct_in(fields[name].type)
        if inner is None:
            continue
        if inner is Parameter:
            inner_tables = list(value.items()) if isinstance(value, dict) else []
            for word, one in inner_tables:
                if isinstance(one, dict):
                    _check_keys(text, one, Parameter, f"{key}.{word}")
        elif isinstance(value, list):
            for number, one in enumerate(value):
                if isinstance(one, dict):
                    _check_keys(text, one, inner, f"{key}[{number}]")
        elif isinstance(value, dict):
            _check_keys(text, value, inner, key)
    for name, field in fields.items():
        if field.required and name not in table:
            key = f"{path}.{name}" if path else name
            raise _refusal(
                text,
                path,
                Text("{key} is missing.", {"key": key}),
                Text("A strategy needs at least a name and [entry] with long or short."),
            )


def _check_parameters(strategy: Strategy, text: str) -> None:
    known = {*SERIES, *HELD, *(function.name for function in functions())}
    if len(strategy.parameters) > PARAMETERS_MAX:
        raise _refusal(text, "parameters", Text("There are more than {limit} parameters.", {"limit": PARAMETERS_MAX}))
    for name, parameter in strategy.parameters.items():
        key = f"parameters.{name}"
        if not name.isidentifier() or name in known:
            raise _refusal(
                text,
                key,
                Text("{name} cannot be the name of a parameter.", {"name": name}),
                Text("Use a word that is neither a series nor a function."),
            )
        least = -math.inf if parameter.min is None else parameter.min
        most = math.inf if parameter.max is None else parameter.max
        numbers = (parameter.default, parameter.min or 0.0, parameter.max or 0.0, parameter.step or 1.0)
        if not all(map(math.isfinite, numbers)) or not least <= parameter.default <= most:
            raise _refusal(
                text,
                key,
                Text("{key}: the default is not between min and max.", {"key": key}),
                Text("min <= default <= max, all of them finite."),
            )
        if parameter.step is not None and parameter.step <= 0:
            raise _refusal(text, key, Text("{key}: the step is not above 0.", {"key": key}))


def _numbers(strategy: Strategy) -> Iterator[tuple[str, Number]]:
    """Every number of a strategy outside its parameters, with its key."""

    def walk(thing: Any, path: str) -> Iterator[tuple[str, Number]]:
        if isinstance(thing, tuple):
            for number, one in enumerate(thing):
                yield from walk(one, f"{path}[{number}]")
        elif isinstance(thing, msgspec.Struct):
            numbers = _number_fields(type(thing))
            for name in thing.__struct_fields__:
                value = getattr(thing, name)
                if name in numbers and value is not None:
                    yield f"{path}.{name}", value
                else:
                    yield from walk(value, f"{path}.{name}")

    for name in ("entry", "exit", "protect", "costs", "limits"):
        yield from walk(getattr(strategy, name), name)


def _names_of_numbers(strategy: Strategy) -> Iterator[tuple[str, str]]:
    for key, value in _numbers(strategy):
        if isinstance(value, str):
            yield key, value


def _check_numbers(strategy: Strategy, text: str) -> None:
    for key, value in _numbers(strategy):
        least, most = _RANGES[re.sub(r"\[\d+\]", "", key)]
        assert not isinstance(value, str)
        whole = key.endswith(_WHOLE)
        if not least <= value <= most or (whole and value != int(value)):
            raise _refusal(
                text,
                key,
                Text("{key} is {value}.", {"key": key, "value": f"{value:g}"}),
                Text("It is a whole number from {least} to {most}.", {"least": f"{least:g}", "most": f"{most:g}"})
                if whole
                else Text("It goes from {least} to {most}.", {"least": f"{least:g}", "most": f"{most:g}"}),
            )


def _check_sense(strategy: Strategy, text: str) -> None:
    """What no single number shows."""
    entry, protect = strategy.entry, strategy.protect
    if not strategy.name.strip():
        raise _refusal(text, "name", Text("The strategy has no name."), Text("Give it one."))
    if strategy.timeframe is not None:
        timeframe(strategy.timeframe)
    if entry.long is None and entry.short is None:
        raise _refusal(
            text,
            "entry",
            Text("The strategy never enters."),
            Text('Write long = "…" or short = "…" below [entry]: a condition.'),
        )
    modes = [name for name in SIZES if getattr(entry.size, name) is not None]
    if len(modes) != 1:
        raise _refusal(
            text,
            "entry.size",
            Text("entry.size says {count} things.", {"count": len(modes)}),
            Text("It is one of {names}.", {"names": ", ".join(SIZES)}),
        )
    if modes[0] == "risk_percent" and protect.stop_percent is None and protect.stop_atr is None:
        raise _refusal(
            text,
            "entry.size",
            Text("risk_percent needs to know where the stop is."),
            Text("Add stop_percent or stop_atr below [protect]."),
        )
    limits = entry.limit is not None or entry.short_limit is not None
    stops = entry.stop is not None or entry.short_stop is not None
    if limits and stops:
        raise _refusal(
            text, "entry", Text("An entry is a limit or a stop order, not both."), Text("Leave out one of them.")
        )
    for span in entry.sessions:
        minutes(span, text)
    names = [exit.name for exit in strategy.exit]
    for number, name in enumerate(names):
        key = f"exit[{number}].name"
        if not name.strip() or name in names[:number] or name in REASONS.values():
            raise _refusal(
                text,
                key,
                Text("{name!r} cannot be the name of an exit.", {"name": name}),
                Text("Names are the reasons shown: each its own, and none of {names}.", {"names": "stop, target, …"}),
            )
    if len(names) > EXITS_MAX:
        raise _refusal(text, "exit", Text("There are more than {limit} exits.", {"limit": EXITS_MAX}))
    if protect.targets and protect.target_percent is not None:
        raise _refusal(
            text, "protect", Text("target_percent and targets say the same."), Text("Leave out one of them.")
        )
    if len(protect.targets) > LEGS_MAX:
        raise _refusal(text, "protect.targets", Text("There are more than {limit} targets.", {"limit": LEGS_MAX}))
    if protect.trailing_arm_percent is not None and protect.trailing_percent is None:
        raise _refusal(
            text,
            "protect.trailing_arm_percent",
            Text("There is nothing to arm."),
            Text("Add trailing_percent below [protect]."),
        )
    percents = [float(leg.percent) for leg in protect.targets]
    if percents != sorted(percents):
        raise _refusal(text, "protect.targets", Text("The targets are not in order."), Text("The nearest comes first."))
    if math.fsum(float(leg.share) for leg in protect.targets[:-1]) >= 1.0:
        raise _refusal(
            text,
            "protect.targets",
            Text("The targets sell more than there is."),
            Text("Their shares add up to 1; the last takes the rest."),
        )


def minutes(span: str, text: str = "") -> tuple[int, int]:
    """`09:00-15:30` as minutes of the day; the end is exclusive, and may lie beyond midnight."""
    match = re.fullmatch(r"\s*(\d{1,2}):(\d\d)\s*-\s*(\d{1,2}):(\d\d)\s*", span)
    if match is not None:
        since, until = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
        if since < 1440 and until <= 1440 and since != until:
            return since, until if until > since else until + 1440
    raise _refusal(
        text,
        "entry.sessions",
        Text("{text!r} is no part of a day.", {"text": span}),
        Text('Write it as "09:00-15:30".'),
    )


# ---------------------------------------------------------------- writing


def write(strategy: Strategy) -> str:
    """The strategy as a TOML document; `read` gives an equal one back."""
    plain: dict[str, Any] = msgspec.to_builtins(strategy)
    lines = [f"{name} = {_toml(plain[name])}" for name in _TOP if name in plain]
    for name, parameter in plain.get("parameters", {}).items():
        lines += ["", f"[parameters.{name}]", *_pairs(parameter)]
    lines += ["", "[entry]", *_pairs(plain["entry"])]
    for exit in plain.get("exit", ()):
        lines += ["", "[[exit]]", *_pairs(exit)]
    for name in ("protect", "costs", "limits"):
        if plain.get(name):
            lines += ["", f"[{name}]", *_pairs(plain[name])]
    return "\n".join(lines) + "\n"


_TOP = ("name", "description", "description_ko", "timeframe")


def _pairs(table: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {_toml(value)}" for name, value in table.items() if value is not None]


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return '"' + "".join(_ESCAPES.get(sign) or _sign(sign) for sign in value) + '"'
    if isinstance(value, float):
        return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
    if isinstance(value, int):
        return repr(value)
    if isinstance(value, dict):
        return "{ " + ", ".join(_pairs(value)) + " }"
    return "[" + ", ".join(map(_toml, value)) + "]"


def _sign(sign: str) -> str:
    return f"\\u{ord(sign):04x}" if ord(sign) < 32 or ord(sign) == 127 else sign


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


# ---------------------------------------------------------------- versions


def diff(old: Strategy, new: Strategy) -> list[Text]:
    """What has changed from one version to the next, a sentence each, in the order of the document."""
    before, after = _flat(old), _flat(new)
    found = []
    for key in dict.fromkeys((*before, *after)):
        values: dict[str, object] = {"key": key, "old": before.get(key), "new": after.get(key)}
        if key not in before:
            found.append(Text("{key} is new: {new}.", values))
        elif key not in after:
            found.append(Text("{key} is gone; it was {old}.", values))
        elif before[key] != after[key]:
            found.append(Text("{key} was {old}, now {new}.", values))
    return found


def _flat(strategy: Strategy) -> dict[str, str]:
    """Every value that is not a default, by its key; exits by their names."""
    found: dict[str, str] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(inner, f"{path}.{name}" if path else name)
        elif isinstance(value, list | tuple) and path == "exit":
            for inner in value:
                walk({k: v for k, v in inner.items() if k != "name"}, f"exit {inner['name']}")
        elif value is not None:
            found[path] = _toml(value)

    walk(msgspec.to_builtins(strategy), "")
    return found
