"""Timeframes: `1s`, `1m`, `4h`, `1d`, `1w`, `1M`, `1y`, and where their candles begin: by UTC, or on another grid."""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from typing import Final

from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text

SECOND_NS = 1_000_000_000
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_EPOCH = dt.date(1970, 1, 1)
_MONDAY_NS = 4 * 86400 * SECOND_NS  # 1970-01-05 was a Monday
COMMON = ("1s", "1m", "3m", "5m", "10m", "15m", "30m", "1h", "4h", "1d", "1w", "1M", "1y")


class Timeframe:
    """How long a candle lasts. Equal names are the same object; `str()` gives the name."""

    __slots__ = ("count", "name", "ns", "unit")

    def __init__(self, name: str, count: int, unit: str) -> None:
        self.name = name
        self.count = count
        self.unit = unit  # s m h d w M y
        # Length in nanoseconds; None for months and years, which differ.
        self.ns: int | None = None
        if unit in _UNIT_S:
            self.ns = count * _UNIT_S[unit] * SECOND_NS
        elif unit == "w":
            self.ns = count * 7 * 86400 * SECOND_NS

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Timeframe({self.name!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return (timeframe, (self.name,))

    @property
    def approximate_ns(self) -> int:
        """The length, or a typical one for months and years: for sorting and screen widths only."""
        if self.ns is not None:
            return self.ns
        return self.count * (30 if self.unit == "M" else 365) * 86400 * SECOND_NS

    def open_ns(self, at_ns: int) -> int:
        """Where the candle that holds this moment begins."""
        if self.unit == "w":
            assert self.ns is not None
            return (at_ns - _MONDAY_NS) // self.ns * self.ns + _MONDAY_NS
        if self.ns is not None:
            return at_ns // self.ns * self.ns
        day = _EPOCH + dt.timedelta(days=at_ns // (86400 * SECOND_NS))
        months = (day.year * 12 + day.month - 1) // self.months * self.months
        return _month_ns(months)

    def next_ns(self, open_ns: int) -> int:
        """Where the candle after the one that begins here begins: its exclusive end."""
        if self.ns is not None:
            return open_ns + self.ns
        day = _EPOCH + dt.timedelta(days=open_ns // (86400 * SECOND_NS))
        return _month_ns(day.year * 12 + day.month - 1 + self.months)

    @property
    def months(self) -> int:
        """The length in months, of months and years."""
        return self.count * (12 if self.unit == "y" else 1)


class Grid:
    """Where an instrument's bars begin and end: here by UTC, as at a venue that never closes.

    Where markets close, `core.sessions.SessionGrid` answers the same questions.
    """

    def open_ns(self, frame: Timeframe, at_ns: int) -> int:
        """Where the bar that holds a moment begins; between sessions, the last one before it."""
        return frame.open_ns(at_ns)

    def end_ns(self, frame: Timeframe, open_ns: int) -> int:
        """When a bar is over: nothing that trades from then on belongs to it."""
        return frame.next_ns(open_ns)

    def next_ns(self, frame: Timeframe, open_ns: int) -> int:
        """Where the bar after it begins: at its end, or with the next session."""
        return self.end_ns(frame, open_ns)

    def settled_ns(self, frame: Timeframe, now_ns: int) -> int:
        """Every bar that opens before is over, and what the venue says of it is final."""
        return frame.open_ns(now_ns)

    def before_ns(self, frame: Timeframe, at_ns: int, bars: int) -> int:
        """Where to begin for so many bars before a moment, if all of them traded."""
        return at_ns - bars * frame.approximate_ns

    def room(self, frame: Timeframe, since_ns: int, until_ns: int) -> list[tuple[int, int]]:
        """The stretches of `[since_ns, until_ns)` that bars may lie in."""
        return [(since_ns, until_ns)] if since_ns < until_ns else []


UTC: Final = Grid()


def _month_ns(months: int) -> int:
    return (dt.date(months // 12, months % 12 + 1, 1) - _EPOCH).days * 86400 * SECOND_NS


@lru_cache(maxsize=256)
def timeframe(text: str) -> Timeframe:
    """The timeframe a text names; `60m` is `1h`, `1D` is `1d`. Raises `UsageError` (`bad_timeframe`)."""
    match = re.fullmatch(r"([1-9]\d{0,3})(s|m|h|d|D|w|W|M|mo|y|Y)", text.strip())
    if match is None:
        raise UsageError(
            "bad_timeframe",
            Text("{text!r} is not a timeframe.", {"text": text}),
            Text("Known ones are {names}.", {"names": ", ".join(COMMON)}),
        )
    count, unit = int(match[1]), match[2]
    unit = {"D": "d", "W": "w", "Y": "y", "mo": "M"}.get(unit, unit)
    for small, large, factor in (("s", "m", 60), ("m", "h", 60), ("h", "d", 24), ("M", "y", 12)):
        if unit == small and count % factor == 0:
            count, unit = count // factor, large
    name = f"{count}{unit}"
    return _known(name, count, unit)


@lru_cache(maxsize=256)
def _known(name: str, count: int, unit: str) -> Timeframe:
    return Timeframe(name, count, unit)
