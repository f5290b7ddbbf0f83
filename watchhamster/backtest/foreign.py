"""A strategy in Python, from its source: for what formulas cannot say.

The source is somebody's, so this belongs into a worker process that ends with it, with limits of time and memory. A
class has a `document` (a `Strategy`, or its TOML), and `signals(bars, parameters)`; see `run.PythonStrategy`. Its
`warm_up`, where it has one, is how many bars before the period it wants to see.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from watchhamster.backtest.results import Result
from watchhamster.backtest.run import History, PythonStrategy, Signals, backtest, looks_ahead
from watchhamster.backtest.strategy import Strategy, read
from watchhamster.core.bars import Bars
from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text

WARM_UP_MOST = 1_000_000


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of the run."""

    since_ns: int
    until_ns: int
    cash: float
    parameters: Mapping[str, float] = {}
    close_at_end: bool = False
    first_bar_ns: int | None = None
    year_days: int = 365


def run(history: History, source: str, name: str, options: Options) -> Result:
    """Run it once. Raises what `backtest` does, and `UsageError` (`bad_python`, `looks_ahead`)."""
    strategy = load(source, name)
    first_ns = options.first_bar_ns
    wanted = min(WARM_UP_MOST, int(getattr(strategy, "warm_up", 0)))
    if first_ns is None and wanted > 0:
        opens = [bars.open_ns for bars in history.bars if len(bars)]
        first_ns = min(int(at[max(0, int(np.searchsorted(at, options.since_ns)) - wanted)]) for at in opens)
    values = strategy.document.values(options.parameters)
    for instrument, bars in zip(history.instruments, history.bars, strict=True):
        seen = bars.between(options.since_ns if first_ns is None else first_ns, options.until_ns)
        place = looks_ahead(strategy, seen, values) if len(seen) else None
        if place is not None:
            time = str(np.datetime64(int(seen.open_ns[place]), "ns").astype("datetime64[s]")) + "Z"
            raise UsageError(
                "looks_ahead",
                Text(
                    "{name} knows the future: what it says of the bar of {instrument} at {time} changes with the bars "
                    "after it.",
                    {"name": name, "instrument": instrument, "time": time},
                ),
                Text("Use only bars up to the one that is answered: no shift(-1), no mean of the whole series."),
                instrument=instrument,
                open_ns=int(seen.open_ns[place]),
            )
    return backtest(
        strategy,
        history,
        parameters=options.parameters,
        since_ns=options.since_ns,
        until_ns=options.until_ns,
        cash=options.cash,
        close_at_end=options.close_at_end,
        first_bar_ns=first_ns,
        year_days=options.year_days,
    )


def load(source: str, name: str) -> PythonStrategy:
    """The strategy that a class in a source makes. Raises `UsageError` (`bad_python`)."""
    scope: dict[str, Any] = {"__name__": "strategy", "__file__": "<strategy>"}
    try:
        exec(compile(source, "<strategy>", "exec"), scope)
    except SyntaxError as error:
        raise _refused(
            Text("The source is not Python: {reason} (line {line}).", {"reason": error.msg, "line": error.lineno or 0})
        ) from None
    made = scope.get(name)
    if not isinstance(made, type):
        classes = [key for key, value in scope.items() if isinstance(value, type) and value.__module__ == "strategy"]
        near = difflib.get_close_matches(name, classes, 1, 0.4) or classes[:1]
        raise _refused(
            Text("The source has no class {name}.", {"name": name}),
            Text("Did you mean {name}?", {"name": near[0]}) if near else None,
        )
    strategy = made()
    document = getattr(strategy, "document", None)
    if isinstance(document, str):
        document = read(document)
    if not isinstance(document, Strategy) or not callable(getattr(strategy, "signals", None)):
        raise _refused(Text("{name} has no document, or no signals(bars, parameters).", {"name": name}))
    return _Checked(strategy, document, name)


class _Checked:
    """The strategy, whose answers are looked at before the kernel gets them."""

    def __init__(self, inner: Any, document: Strategy, name: str) -> None:
        self.document = document
        self.warm_up = getattr(inner, "warm_up", 0)
        self._inner = inner
        self._name = name

    def signals(self, bars: Bars, parameters: Mapping[str, float]) -> Signals:
        said = self._inner.signals(bars, parameters)
        if not isinstance(said, Signals):
            raise _refused(
                Text("{name}.signals gave {kind}.", {"name": self._name, "kind": type(said).__name__}),
                Text("It gives a watchhamster.backtest.run.Signals."),
            )
        exits = [exit.name for exit in self.document.exit]
        for key in said.exits:
            if key not in exits:
                raise _refused(
                    Text(
                        "{name} goes out by {exit!r}, which its document does not name.",
                        {"name": self._name, "exit": key},
                    )
                )
        flags: dict[str, Any] = {f"exits[{key!r}]": column for key, column in said.exits.items()}
        flags |= {"long": said.long, "short": said.short}
        numbers = {"long_price": said.long_price, "short_price": said.short_price, "score": said.score}
        columns: dict[str, Any] = {
            **{key: None if c is None else np.ascontiguousarray(c, np.bool_) for key, c in flags.items()},
            **{key: None if c is None else np.ascontiguousarray(c, np.float64) for key, c in numbers.items()},
        }
        for key, column in columns.items():
            if column is not None and column.shape != (len(bars),):
                raise _refused(
                    Text(
                        "{name}: {key} has {count} values for {bars} bars.",
                        {"name": self._name, "key": key, "count": column.size, "bars": len(bars)},
                    )
                )
        return Signals(
            columns["long"],
            columns["short"],
            {key: columns[f"exits[{key!r}]"] for key in said.exits},
            columns["long_price"],
            columns["short_price"],
            columns["score"],
        )


def _refused(text: Text, hint: Text | None = None) -> UsageError:
    return UsageError(
        "bad_python",
        text,
        hint or Text("A class has a document (its TOML), and signals(bars, parameters) that gives Signals."),
    )
