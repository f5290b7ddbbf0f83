"""A rule tried on history: when it would have fired, and what the price did then.

The same formula, by its array evaluator, and the same `Life` as in `watch`: what fires here is what would have fired
live on these bars, closed bar by closed bar.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from watchhamster.core.bars import Bars
from watchhamster.core.timeframes import SECOND_NS, UTC, Grid, Timeframe, timeframe
from watchhamster.formula import Library, Value
from watchhamster.monitor.alerts import Rule
from watchhamster.monitor.watch import Life, check

WEEK_NS = 7 * 86400 * SECOND_NS
LATER = (("5m", 300 * SECOND_NS), ("1h", 3600 * SECOND_NS), ("1d", 86400 * SECOND_NS))


class Firing(msgspec.Struct, frozen=True):
    """One time the rule would have fired: a line of `alert replay --json`.

    `after` is the change of the price from the firing to so long after it, as a fraction (0.01 is one percent); None
    where the bars do not reach that far, or are longer than that.
    """

    fired_ns: int  # close of the bar that fired it
    price: float
    resolved_ns: int | None
    values: Mapping[str, Value]
    after: Mapping[str, float | None]


class Summary(msgspec.Struct, frozen=True):
    """How often it fired, over which bars."""

    fired: int
    per_week: float | None  # None: no bars
    bars: int
    since_ns: int | None
    until_ns: int | None


class Replay(msgspec.Struct, frozen=True):
    """What `replay` found."""

    firings: tuple[Firing, ...]
    summary: Summary


def replay(
    rule: Rule,
    bars: Bars,
    instrument: str,
    since_ns: int | None = None,
    grid: Grid = UTC,
    library: Library | None = None,
) -> Replay:
    """Live through bars of the rule's timeframe, oldest first. Those that open before `since_ns` only warm it up.

    A rule that also looks at forming bars is tried on their closed ones, which is all that history has. Raises
    `UsageError` where the rule makes no sense. `instrument` is only a name here, `grid` says when its bars are over;
    `library` as in `check`.
    """
    formula = check(rule, library)
    first = 0 if since_ns is None else int(np.searchsorted(bars.open_ns, since_ns))
    if first >= len(bars):
        return Replay((), Summary(0, None, 0, None, None))
    truth, *parts = formula.program_with_parts(grid).over(bars)
    closes_ns = close_times(bars, timeframe(rule.timeframe), grid)
    life = Life(rule)
    firings: list[tuple[int, int | None]] = []  # bar, resolved
    turn_at = zip(truth.list()[first:], closes_ns[first:].tolist(), strict=True)
    for bar, (value, at_ns) in enumerate(turn_at, first):
        turn = life.turn(value, at_ns)
        if turn == "fired":
            firings.append((bar, None))
        elif turn == "resolved":
            firings[-1] = (firings[-1][0], at_ns)
    evidence = {text: column.list() for text, column in zip(formula.parts, parts, strict=True)} if firings else {}
    span_ns = int(closes_ns[-1] - bars.open_ns[first])
    return Replay(
        tuple(
            Firing(
                int(closes_ns[bar]),
                float(bars.close[bar]),
                resolved_ns,
                {text: column[bar] for text, column in evidence.items()},
                _after(bars, closes_ns, bar),
            )
            for bar, resolved_ns in firings
        ),
        Summary(
            len(firings),
            len(firings) * WEEK_NS / span_ns,
            len(bars) - first,
            int(bars.open_ns[first]),
            int(closes_ns[-1]),
        ),
    )


def close_times(bars: Bars, frame: Timeframe, grid: Grid) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """When each bar ends, exclusive."""
    if frame.ns is not None and grid is UTC:
        return bars.open_ns + frame.ns
    return np.array([grid.end_ns(frame, t) for t in bars.open_ns.tolist()], np.int64)


def _after(bars: Bars, closes_ns: np.ndarray[tuple[int, ...], np.dtype[np.int64]], bar: int) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    fired_ns, price = int(closes_ns[bar]), float(bars.close[bar])
    for name, later_ns in LATER:
        known = fired_ns + later_ns <= closes_ns[-1] and later_ns >= fired_ns - bars.open_ns[bar]
        place = int(np.searchsorted(closes_ns, fired_ns + later_ns, side="right")) - 1
        found[name] = float(bars.close[place]) / price - 1 if known and price else None
    return found
