"""When markets are open: a week of hours, the days that differ, and what the venue itself said.

A `Calendar` answers for any day. What a day's hours are is decided in this order: the user's own word, what the venue
told about that day, the days a market is closed, its days of other hours (half days, late openings), its week. Nothing
here asks what time it is, and closed days come from whoever makes the calendar.

Times of day are minutes of the market's local day, summer time included: 570 is 09:30. A day may have any number of
segments, so a lunch break is a pause between two regular ones.

Hours: the exchanges' published ones. Korea's late days and the New York half days were compared with a second source
from 2021 to 2026.
"""

from __future__ import annotations

import datetime as dt
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

import msgspec

from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text
from watchhamster.core.timeframes import SECOND_NS, Grid, Timeframe

if TYPE_CHECKING:
    from watchhamster.core.bars import Span

Phase = Literal["pre", "regular", "post", "closed"]
Part: TypeAlias = tuple[Literal["pre", "regular", "post"], int, int]  # from and until a minute of the local day
Hours: TypeAlias = tuple[Part, ...]
ClosedDays: TypeAlias = Callable[[int], Mapping[dt.date, str]]  # year -> days without trading, and why

_DAY: Final = dt.timedelta(days=1)
_HORIZON: Final = 21  # days looked ahead for the next opening; the longest closure known here is 12
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_DAY_NS: Final = 86400 * SECOND_NS


class Segment(msgspec.Struct, frozen=True, order=True):
    """A stretch of trading."""

    since_ns: int
    until_ns: int  # exclusive
    phase: Literal["pre", "regular", "post"]


class Session(msgspec.Struct, frozen=True):
    """What a market is doing at a moment."""

    phase: Phase
    until_ns: int | None  # when that ends; None: not within the days looked ahead
    next_open_ns: int | None  # when regular trading begins next; None: it has not closed, or nobody knows
    halted_ns: int | None = None  # since when the symbol does not trade although its market may

    @property
    def is_open(self) -> bool:
        """Whether prices may move: in regular, pre and post market."""
        return self.phase != "closed"


class Market(msgspec.Struct, frozen=True):
    """The ordinary hours of a market."""

    code: str  # ISO 10383 where it has one
    zone: str
    week: tuple[Hours, Hours, Hours, Hours, Hours, Hours, Hours]  # from Monday
    obeys_venue: bool = True  # whether what a data venue tells of its periods is better than these

    @property
    def has_hours(self) -> bool:
        """Whether anything is known of its week."""
        return any(self.week)


def _weekdays(*parts: Part) -> tuple[Hours, Hours, Hours, Hours, Hours, Hours, Hours]:
    return (parts, parts, parts, parts, parts, (), ())


def _at(hour: int, minute: int = 0) -> int:
    return hour * 60 + minute


_ALL_DAY: Final[Hours] = (("regular", 0, _at(24)),)
_GLOBEX: Final[Hours] = (("regular", 0, _at(17)), ("regular", _at(18), _at(24)))

MARKETS: Final[Mapping[str, Market]] = {
    market.code: market
    for market in (
        Market(
            "XNYS",
            "America/New_York",
            _weekdays(("pre", _at(4), _at(9, 30)), ("regular", _at(9, 30), _at(16)), ("post", _at(16), _at(20))),
        ),
        Market(
            "XKRX",
            "Asia/Seoul",
            # The closing auction prints after 15:30, so the after-market begins at 15:40.
            _weekdays(("pre", _at(8, 30), _at(9)), ("regular", _at(9), _at(15, 30)), ("post", _at(15, 40), _at(18))),
            obeys_venue=False,  # Yahoo has been seen to end it at 15:00
        ),
        Market("XLON", "Europe/London", _weekdays(("regular", _at(8), _at(16, 30)))),
        Market("XETR", "Europe/Berlin", _weekdays(("regular", _at(9), _at(17, 30)))),
        Market(
            "XTKS", "Asia/Tokyo", _weekdays(("regular", _at(9), _at(11, 30)), ("regular", _at(12, 30), _at(15, 30)))
        ),
        Market("XHKG", "Asia/Hong_Kong", _weekdays(("regular", _at(9, 30), _at(12)), ("regular", _at(13), _at(16)))),
        Market(
            "FX",  # from Sunday to Friday 17:00 New York, which is mostly 22:00 London, by whose days Yahoo stamps
            "Europe/London",
            (*(_ALL_DAY,) * 4, (("regular", 0, _at(22)),), (), (("regular", _at(22), _at(24)),)),
            obeys_venue=False,
        ),
        Market(
            "CME",  # futures: an hour's pause a day
            "America/New_York",
            (*(_GLOBEX,) * 4, (("regular", 0, _at(17)),), (), (("regular", _at(18), _at(24)),)),
            obeys_venue=False,
        ),
        Market("24/7", "UTC", (_ALL_DAY,) * 7, obeys_venue=False),
    )
}


# ---------------------------------------------------------------- days of other hours

# The day of Korea's university entrance exam: everyone begins an hour later. It is announced year by year.
_EXAM_DAYS: Final = frozenset(
    map(
        dt.date.fromisoformat,
        (
            *("2018-11-15", "2019-11-14", "2020-12-03", "2021-11-18", "2022-11-17"),
            *("2023-11-16", "2024-11-14", "2025-11-13", "2026-11-19"),
        ),
    )
)
_TOKYO_LONGER: Final = dt.date(2024, 11, 5)
_OpenDay: TypeAlias = Callable[[dt.date], bool]  # whether it is neither weekend nor holiday


def _new_york(day: dt.date, is_open: _OpenDay, _closed: Mapping[dt.date, str]) -> Hours | None:
    """Until 13:00, after-market until 17:00: the day after Thanksgiving, Christmas Eve, the eve of 4 July."""
    after_thanksgiving = day.month == 11 and day.weekday() == 4 and 23 <= day.day <= 29
    # A Friday's eve is no half day: the holiday then lies on the weekend, or the eve is the holiday observed.
    eve = (day.month, day.day) in ((12, 24), (7, 3)) and day.weekday() < 4
    if not (after_thanksgiving or eve):
        return None
    return (("pre", _at(4), _at(9, 30)), ("regular", _at(9, 30), _at(13)), ("post", _at(13), _at(17)))


def _seoul(day: dt.date, is_open: _OpenDay, _closed: Mapping[dt.date, str]) -> Hours | None:
    """The year's first trading day and exam days begin at 10:00; those also end an hour late. 31 December is closed."""
    if day in _EXAM_DAYS:
        return (("pre", _at(9, 30), _at(10)), ("regular", _at(10), _at(16, 30)), ("post", _at(16, 40), _at(18)))
    if day.month == 1 and day.day <= 7 and not any(is_open(day.replace(day=n)) for n in range(1, day.day)):
        return (("pre", _at(9, 30), _at(10)), ("regular", _at(10), _at(15, 30)), ("post", _at(15, 40), _at(18)))
    if (day.month, day.day) == (12, 31):
        return ()
    return None


def _london(day: dt.date, is_open: _OpenDay, _closed: Mapping[dt.date, str]) -> Hours | None:
    """Until 12:30 on the last trading day before Christmas and before New Year."""
    if day.month == 12 and 22 <= day.day <= 31:
        last = dt.date(day.year, 12, 24 if day.day <= 24 else 31)
        if day == max((last - n * _DAY for n in range(7) if is_open(last - n * _DAY)), default=None):
            return (("regular", _at(8), _at(12, 30)),)
    return None


def _frankfurt(day: dt.date, is_open: _OpenDay, _closed: Mapping[dt.date, str]) -> Hours | None:
    """Until 14:00 on the year's last trading day."""
    if day.month == 12 and day.day >= 27 and not any(is_open(day.replace(day=n)) for n in range(day.day + 1, 32)):
        return (("regular", _at(9), _at(14)),)
    return None


def _tokyo(day: dt.date, is_open: _OpenDay, _closed: Mapping[dt.date, str]) -> Hours | None:
    if day < _TOKYO_LONGER:
        return (("regular", _at(9), _at(11, 30)), ("regular", _at(12, 30), _at(15)))
    return None


def _hong_kong(day: dt.date, is_open: _OpenDay, closed: Mapping[dt.date, str]) -> Hours | None:
    """Mornings only on the eves of Christmas, New Year and Chinese New Year."""
    eve = (day.month, day.day) in ((12, 24), (12, 31)) or closed.get(day + _DAY, "") == "Chinese New Year"
    third = closed.get(day + 3 * _DAY, "")  # of a New Year on a Saturday only the later days are listed
    if not eve and not (day.weekday() == 4 and third.startswith("The third day of Chinese")):
        return None
    return (("regular", _at(9, 30), _at(12)),)


_OTHER_HOURS: Final = {
    "XNYS": _new_york,
    "XKRX": _seoul,
    "XLON": _london,
    "XETR": _frankfurt,
    "XTKS": _tokyo,
    "XHKG": _hong_kong,
}


# ---------------------------------------------------------------- the calendar


def _never(_year: int) -> Mapping[dt.date, str]:
    return {}


class Calendar:
    """One market's trading days and hours. `overrides` (local day -> hours, `()` for closed) is the user's word."""

    def __init__(
        self, market: Market, closed: ClosedDays = _never, overrides: Mapping[dt.date, Hours] | None = None
    ) -> None:
        self.market = market
        self.zone = _zone(market.zone)
        self._closed = closed
        self._overrides = dict(overrides or {})
        self._told: dict[dt.date, tuple[Segment, ...]] = {}
        self._days: dict[dt.date, tuple[Segment, ...]] = {}

    def overridden(self, overrides: Mapping[dt.date, Hours]) -> Calendar:
        """The same market with this word of the user in place of the one before; what the venue told is kept."""
        other = Calendar(self.market, self._closed, overrides)
        other._told = dict(self._told)
        return other

    def tell(self, periods: Iterable[Segment], told_ns: int | None = None) -> None:
        """Take the venue's word on the days of these periods (whole days: every segment of a day at once).

        With `told_ns` they are its current or next session, as a venue says it: a regular session still ahead means
        that the days from then until its own have none.
        """
        if not self.market.obeys_venue:
            return
        days: dict[dt.date, list[Segment]] = {}
        for segment in periods:
            if segment.since_ns < segment.until_ns:
                days.setdefault(self.day(segment.since_ns), []).append(segment)
        if told_ns is not None and days:
            day, first = self.day(told_ns), min(days)
            ends = [s.until_ns for s in self.segments(day) if s.phase == "regular"]
            if ends and ends[-1] <= told_ns:  # today's is over
                day += _DAY
            while day < first and (first - day).days < _HORIZON:
                days[day] = []
                day += _DAY
        for day, segments in days.items():
            if len(self._told) >= 4_000:
                del self._told[min(self._told)]
            self._told[day] = tuple(sorted(segments))
            self._days.pop(day, None)

    def day(self, at_ns: int) -> dt.date:
        """The market's local date at a moment."""
        return (_EPOCH + dt.timedelta(seconds=at_ns // SECOND_NS)).astimezone(self.zone).date()

    def midnight_ns(self, day: dt.date) -> int:
        """When a local day begins."""
        return _wall_ns(day, 0, self.zone)

    def hours(self, day: dt.date) -> Hours:
        """A day's hours by the tables, without what the venue told."""
        if (given := self._overrides.get(day)) is not None:
            return given
        closed = self._closed(day.year)
        if day in closed or not self.market.week[day.weekday()]:
            return ()

        def is_open(other: dt.date) -> bool:
            return bool(self.market.week[other.weekday()]) and other not in self._closed(other.year)

        other = _OTHER_HOURS.get(self.market.code)
        special = other(day, is_open, closed) if other is not None else None
        return self.market.week[day.weekday()] if special is None else special

    def segments(self, day: dt.date) -> tuple[Segment, ...]:
        """A local day's segments, in order."""
        found = self._days.get(day)
        if found is None:
            if day in self._told and day not in self._overrides:
                found = self._told[day]
            else:
                found = tuple(
                    Segment(_wall_ns(day, since, self.zone), _wall_ns(day, until, self.zone), phase)
                    for phase, since, until in self.hours(day)
                )
            if len(self._days) >= 4_000:
                self._days.clear()
            self._days[day] = found
        return found

    def regular(self, day: dt.date) -> tuple[Segment, ...]:
        """A local day's regular segments; none on a day without trading."""
        return tuple(segment for segment in self.segments(day) if segment.phase == "regular")

    def between(self, since_ns: int, until_ns: int) -> list[Segment]:
        """Every segment that touches `[since_ns, until_ns)`, in order."""
        day, last = self.day(since_ns), self.day(max(since_ns, until_ns - 1))
        found: list[Segment] = []
        while day <= last:
            found += (s for s in self.segments(day) if s.since_ns < until_ns and s.until_ns > since_ns)
            day += _DAY
        return found

    def session(self, now_ns: int) -> Session:
        """What the market is doing, until when, and when it opens next."""
        today = self.day(now_ns)
        ahead: list[Segment] = []
        for n in range(_HORIZON):
            for segment in self.segments(today + n * _DAY):
                if segment.until_ns <= now_ns:
                    continue
                last = ahead[-1] if ahead else None
                if last is not None and last.phase == segment.phase and last.until_ns >= segment.since_ns:
                    ahead[-1] = Segment(last.since_ns, max(last.until_ns, segment.until_ns), last.phase)
                else:
                    ahead.append(segment)
        end_ns = self.midnight_ns(today + _HORIZON * _DAY)
        current = ahead[0] if ahead and ahead[0].since_ns <= now_ns else None
        opens = (s.since_ns for s in ahead if s.phase == "regular" and s.since_ns > now_ns)
        if current is None:
            return Session("closed", ahead[0].since_ns if ahead else None, next(opens, None))
        return Session(current.phase, current.until_ns if current.until_ns < end_ns else None, next(opens, None))

    def state(self, now_ns: int) -> Phase:
        """`pre`, `regular`, `post` or `closed`."""
        return self.session(now_ns).phase

    def next_open_ns(self, now_ns: int) -> int | None:
        """When regular trading begins next; None where it never stops, or nobody knows."""
        return self.session(now_ns).next_open_ns


def holding(segments: Sequence[Segment], at_ns: int) -> Segment | None:
    """Which of the ordered segments holds a moment."""
    index = bisect_right(segments, at_ns, key=lambda segment: segment.since_ns) - 1
    return segments[index] if index >= 0 and at_ns < segments[index].until_ns else None


def always_open() -> Calendar:
    """The calendar of a market that never closes."""
    return Calendar(MARKETS["24/7"])


# ---------------------------------------------------------------- where bars lie


class SessionGrid(Grid):
    """The bars of a market with sessions, on its calendar's local days.

    Bars below a day are counted from a regular session's beginning and end with it at the latest. A day's bar begins at
    local midnight, is over with the day's last regular session, and one of several days with their last. `settles_ns`
    and `day_settles_ns` are how long after its end what the venue says of a bar (of a day or more) is final.
    Where nothing is known of the hours, bars below a day lie by UTC and days end at midnight.
    """

    def __init__(self, calendar: Calendar, settles_ns: int = 0, day_settles_ns: int = 0) -> None:
        self.calendar = calendar
        self._settles_ns = settles_ns
        self._day_settles_ns = day_settles_ns

    def open_ns(self, frame: Timeframe, at_ns: int) -> int:
        """Where the bar that holds a moment begins, on any day; between sessions, the last one before it."""
        if _is_daily(frame):
            return self.calendar.midnight_ns(_first_day(frame, self.calendar.day(at_ns)))
        segment = self._last_before(at_ns)
        if segment is None:
            return frame.open_ns(at_ns)
        assert frame.ns is not None
        return segment.since_ns + (min(at_ns, segment.until_ns - 1) - segment.since_ns) // frame.ns * frame.ns

    def end_ns(self, frame: Timeframe, open_ns: int) -> int:
        """When a bar is over: its length after it began, or with its session."""
        calendar = self.calendar
        if _is_daily(frame):
            first = _first_day(frame, calendar.day(open_ns))
            after = _next_first_day(frame, first)
            days = (after - n * _DAY for n in range(1, min((after - first).days, _HORIZON) + 1))
            regular = next((found for day in days if (found := calendar.regular(day))), None)
            return regular[-1].until_ns if regular else calendar.midnight_ns(after)
        segment = self._last_before(open_ns)
        if segment is None or open_ns >= segment.until_ns:
            return frame.next_ns(open_ns)
        assert frame.ns is not None
        return min(open_ns + frame.ns, segment.until_ns)

    def next_ns(self, frame: Timeframe, open_ns: int) -> int:
        """Where the bar after it may begin: at its end, with the next session, or with the next day."""
        if _is_daily(frame):
            return self.calendar.midnight_ns(_next_first_day(frame, _first_day(frame, self.calendar.day(open_ns))))
        end_ns = self.end_ns(frame, open_ns)
        if self._last_before(end_ns) is None:
            return end_ns
        ahead = self.calendar.between(end_ns, end_ns + _HORIZON * _DAY_NS)
        return next((max(s.since_ns, end_ns) for s in ahead if s.phase == "regular"), end_ns)

    def settled_ns(self, frame: Timeframe, now_ns: int) -> int:
        """Every bar that opens before is over, and what the venue says of it is final."""
        now_ns -= self._day_settles_ns if _is_daily(frame) else self._settles_ns
        open_ns = self.open_ns(frame, now_ns)
        end_ns = self.end_ns(frame, open_ns)
        return end_ns if end_ns <= now_ns else open_ns

    def before_ns(self, frame: Timeframe, at_ns: int, bars: int) -> int:
        """Where to begin for so many bars before a moment, if all of them traded."""
        calendar, day = self.calendar, self.calendar.day(at_ns)
        if frame.approximate_ns > _DAY_NS or not calendar.market.has_hours:
            return super().before_ns(frame, at_ns, bars)
        begin_ns, closed = at_ns, 0
        while bars > 0 and closed < _HORIZON:
            regular = [s for s in calendar.regular(day) if s.since_ns < at_ns]
            closed = 0 if regular else closed + 1
            for segment in reversed(regular):
                if bars > 0:
                    length_ns = min(segment.until_ns, at_ns) - segment.since_ns
                    bars -= 1 if _is_daily(frame) else max(1, length_ns // frame.approximate_ns)
                    begin_ns = segment.since_ns
            day -= _DAY
        return self.open_ns(frame, begin_ns)

    def room(self, frame: Timeframe, since_ns: int, until_ns: int) -> list[tuple[int, int]]:
        """The stretches of `[since_ns, until_ns)` that bars may lie in: regular sessions, or days that have some."""
        calendar = self.calendar
        if frame.approximate_ns > _DAY_NS or not calendar.market.has_hours:
            return super().room(frame, since_ns, until_ns)
        found: list[tuple[int, int]] = []
        day, last = calendar.day(since_ns), calendar.day(max(since_ns, until_ns - 1))
        while day <= last:
            regular = calendar.regular(day)
            spans = [(s.since_ns, s.until_ns) for s in regular]
            if _is_daily(frame) and regular:  # of a day that is over nothing more can come
                ends = regular[-1].until_ns > since_ns
                spans = [(calendar.midnight_ns(day), calendar.midnight_ns(day + _DAY))] if ends else []
            for begin_ns, end_ns in spans:
                begin_ns, end_ns = max(begin_ns, since_ns), min(end_ns, until_ns)
                if found and found[-1][1] == begin_ns < end_ns:
                    found[-1] = (found[-1][0], end_ns)
                elif begin_ns < end_ns:
                    found.append((begin_ns, end_ns))
            day += _DAY
        return found

    def _last_before(self, at_ns: int) -> Segment | None:
        """The regular segment that holds a moment, or else the last one that began before it."""
        day = self.calendar.day(at_ns)
        for n in range(_HORIZON if self.calendar.market.has_hours else 1):
            for segment in reversed(self.calendar.regular(day - n * _DAY)):
                if segment.since_ns <= at_ns and (self.calendar.market.has_hours or at_ns < segment.until_ns):
                    return segment
        return None


def closures_told(spans: Iterable[Span], grid: Grid, frame: Timeframe) -> list[Span]:
    """Coverage in which the time a market was closed is known to have no trade, whether it was fetched or not."""
    from watchhamster.core.bars import Span  # numpy comes with it, which is nothing for the first frame of a window

    found: list[Span] = []

    def add(since_ns: int, until_ns: int, state: Literal["no_trade", "not_fetched"]) -> None:
        if found and found[-1].state == state and state == "no_trade":
            since_ns = found.pop().since_ns
        if since_ns < until_ns:
            found.append(Span(since_ns, until_ns, state, 0))

    for span in spans:
        if span.state == "candles":
            found.append(span)
            continue
        at_ns = span.since_ns
        missing = span.state == "not_fetched"
        for since_ns, until_ns in grid.room(frame, span.since_ns, span.until_ns) if missing else ():
            if at_ns < since_ns:
                add(at_ns, since_ns, "no_trade")
            add(since_ns, until_ns, "not_fetched")
            at_ns = until_ns
        if at_ns < span.until_ns:
            add(at_ns, span.until_ns, "no_trade")
    return found


def _is_daily(frame: Timeframe) -> bool:
    return frame.approximate_ns >= _DAY_NS


def _first_day(frame: Timeframe, day: dt.date) -> dt.date:
    """The first local day of the period that holds a day."""
    return _day_of(frame.open_ns(_days_ns(day)))


def _next_first_day(frame: Timeframe, first: dt.date) -> dt.date:
    return _day_of(frame.next_ns(_days_ns(first)))


def _days_ns(day: dt.date) -> int:
    return (day - _EPOCH.date()).days * _DAY_NS


def _day_of(days_ns: int) -> dt.date:
    return _EPOCH.date() + dt.timedelta(days=days_ns // _DAY_NS)


# ---------------------------------------------------------------- the user's word

_PART: Final = re.compile(r"(?:(pre|regular|post)\s+)?(\d{1,2}):(\d\d)\s*-\s*(\d{1,2}):(\d\d)")


def overrides_of(days: Mapping[str, str]) -> dict[dt.date, Hours]:
    """Overrides from text: `{"2026-12-24": "09:00-12:00", "2026-12-31": "closed"}`.

    Several parts are separated by commas; `pre`, `regular` (the default) or `post` may stand before each. Raises
    `UsageError` (`bad_hours`) naming the day.
    """
    found: dict[dt.date, Hours] = {}
    for text, hours in days.items():
        try:
            day = dt.date.fromisoformat(text.strip())
            parts = [] if hours.strip() == "closed" else [_part(part) for part in hours.split(",")]
            if any(later[1] < earlier[2] for earlier, later in pairwise(parts)):
                raise ValueError
        except ValueError:
            raise UsageError(
                "bad_hours",
                Text("{day}: {hours!r} are no trading hours.", {"day": text, "hours": hours}),
                Text("Write a day as 2026-12-24 and its hours as 09:00-12:00, or as closed."),
            ) from None
        found[day] = tuple(parts)
    return found


def hours_of(text: str) -> dict[str, dict[dt.date, Hours]]:
    """Overrides by market or symbol from one line: `XKRX 2026-12-24 closed; AAPL 2026-11-27 09:30-13:00`.

    Raises `UsageError` (`bad_hours`) naming the day, or the part that names none.
    """
    found: dict[str, dict[dt.date, Hours]] = {}
    for entry in filter(None, map(str.strip, text.split(";"))):
        name, _, rest = entry.partition(" ")
        day, _, hours = rest.strip().partition(" ")
        if not hours.strip():
            raise UsageError(
                "bad_hours",
                Text("{entry!r} names no market, day and hours.", {"entry": entry}),
                Text("Write XKRX 2026-12-24 closed, or AAPL 2026-12-24 09:30-13:00; a semicolon goes between two."),
            )
        found.setdefault(name, {}).update(overrides_of({day: hours}))
    return found


def _part(text: str) -> Part:
    match = _PART.fullmatch(text.strip())
    if match is None:
        raise ValueError
    since, until = _at(int(match[2]), int(match[3])), _at(int(match[4]), int(match[5]))
    if not 0 <= since < until <= _at(24) or int(match[3]) > 59 or int(match[5]) > 59:
        raise ValueError
    phase: Literal["pre", "regular", "post"] = "regular"
    if match[1] == "pre" or match[1] == "post":
        phase = "pre" if match[1] == "pre" else "post"
    return phase, since, until


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _wall_ns(day: dt.date, minute: int, zone: ZoneInfo) -> int:
    """UTC of a local time of day; minute 1440 is the next midnight."""
    days, rest = divmod(minute, 1440)
    moment = dt.datetime.combine(day + days * _DAY, dt.time(rest // 60, rest % 60), zone)
    return int((moment - _EPOCH).total_seconds()) * SECOND_NS
