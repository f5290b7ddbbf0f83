"""When the simulated markets are open: sessions in their own zones, holidays and half days by rule.

The rules are the exchanges' published ones, typed here anew; a year's odd closures are left out. Lunar holidays of
Korea are a table, its substitute holidays are left out.
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

EPOCH = dt.date(1970, 1, 1)
_SEOLLAL = (
    "2017-01-28 2018-02-16 2019-02-05 2020-01-25 2021-02-12 2022-02-01 2023-01-22 2024-02-10 2025-01-29 2026-02-17 "
    "2027-02-07 2028-01-27 2029-02-13 2030-02-03"
)
_CHUSEOK = (
    "2017-10-04 2018-09-24 2019-09-13 2020-10-01 2021-09-21 2022-09-10 2023-09-29 2024-09-17 2025-10-06 2026-09-25 "
    "2027-09-15 2028-10-03 2029-09-22 2030-09-12"
)
_BUDDHA = (
    "2017-05-03 2018-05-22 2019-05-12 2020-04-30 2021-05-19 2022-05-08 2023-05-27 2024-05-15 2025-05-05 2026-05-24 "
    "2027-05-13 2028-05-02 2029-05-20 2030-05-09"
)


_EXAMS = (  # of entrance to the universities, for which Seoul begins and ends an hour later
    "2017-11-23 2018-11-15 2019-11-14 2020-12-03 2021-11-18 2022-11-17 2023-11-16 2024-11-14 2025-11-13 2026-11-19"
)


def day_of(text: str) -> int:
    """Days since 1970 of an ISO date."""
    return (dt.date.fromisoformat(text) - EPOCH).days


def date_of(day: int) -> dt.date:
    """The date so many days after 1970-01-01."""
    return EPOCH + dt.timedelta(days=day)


class Market(msgspec.Struct, frozen=True):
    """A place with sessions. Times are minutes of its own day; without pre and post market they equal open and close.

    `told` is what the venue's own table of the day says, where that is not the truth.
    """

    name: str
    zone: str
    pre: int
    open: int
    close: int
    post: int
    half_close: int = 0
    half_post: int = 0
    told: tuple[int, int, int, int] | None = None
    week: int = 5  # days a week that it trades
    auctions: bool = True  # busiest at its open and close, and a minute without trades is told as such

    @property
    def extended(self) -> bool:
        """Whether it trades before and after hours."""
        return self.pre < self.open


class Session(NamedTuple):
    """One trading day: seconds since 1970 at which its parts begin and end."""

    day: int  # of the market's own date
    pre: int
    open: int
    close: int
    post: int
    told: tuple[int, int, int, int]  # the same four as the venue's table has them
    half: bool


MARKETS = {
    market.name: market
    for market in (
        Market("us", "America/New_York", 240, 570, 960, 1200, half_close=780, half_post=1020),
        # Yahoo's table for Korea was recorded to end at 15:00 while trading goes on until 15:30.
        Market("kr", "Asia/Seoul", 540, 540, 930, 930, told=(450, 540, 900, 1080)),
        Market("uk", "Europe/London", 480, 480, 990, 990, half_close=750, half_post=750),
        Market("fx", "Europe/London", 0, 0, 1439, 1439, auctions=False),
        Market("coin", "UTC", 0, 0, 1440, 1440, told=(0, 0, 1439, 1439), week=7, auctions=False),
    )
}


def trades_on(market: Market, day: int) -> bool:
    """Whether the market opens on this day of its own."""
    return (day + 3) % 7 < market.week and day not in _holidays(market.name, date_of(day).year)[0]


@lru_cache(maxsize=8192)
def session_of(market: Market, day: int) -> Session | None:
    """The session of a day, None if the market is closed."""
    if not trades_on(market, day):
        return None
    half = day in _holidays(market.name, date_of(day).year)[1]
    midnight = dt.datetime.combine(date_of(day), dt.time(), ZoneInfo(market.zone))

    def at(minutes: int) -> int:
        # Wall-clock arithmetic: the zone's offset is taken at the time that results.
        return int((midnight + dt.timedelta(minutes=minutes)).timestamp())

    close, post = (market.half_close, market.half_post) if half else (market.close, market.post)
    late, over_late = _late(market, day)
    hours = (market.pre + late, market.open + late, close + over_late, post + over_late)
    pre, opened, closed, over = (at(minutes) for minutes in hours)
    told = tuple(at(minutes) for minutes in market.told) if market.told else (pre, opened, closed, over)
    return Session(day, pre, opened, closed, over, (told[0], told[1], told[2], told[3]), half)


def _late(market: Market, day: int) -> tuple[int, int]:
    """How many minutes later than usual a day begins and ends."""
    if market.name != "kr":
        return 0, 0
    date = date_of(day)
    if date.isoformat() in _EXAMS:
        return 60, 60
    new_year = date.replace(month=1, day=1)
    first = next(n for n in range(1, 9) if trades_on(market, (new_year - EPOCH).days + n))
    return (60, 0) if (date - new_year).days == first else (0, 0)


def local_day(market: Market, at_s: float) -> int:
    """The market's own date at a moment, as days since 1970."""
    return (dt.datetime.fromtimestamp(at_s, ZoneInfo(market.zone)).date() - EPOCH).days


def midnight_s(market: Market, day: int) -> int:
    """The moment a day begins in the market's zone."""
    return int(dt.datetime.combine(date_of(day), dt.time(), ZoneInfo(market.zone)).timestamp())


def offset_of(market: Market, at_s: float) -> tuple[int, str]:
    """(seconds east of UTC, abbreviation) of the market's zone at a moment."""
    local = dt.datetime.fromtimestamp(at_s, ZoneInfo(market.zone))
    offset = local.utcoffset()
    assert offset is not None
    return int(offset.total_seconds()), local.strftime("%Z")


# ---------------------------------------------------------------- holidays


@lru_cache(maxsize=512)
def _holidays(market: str, year: int) -> tuple[frozenset[int], frozenset[int]]:
    """(days on which a market is closed, days it closes early) in a year; weekends aside."""
    closed, half = {"us": _new_york, "uk": _london, "kr": _seoul, "fx": _banks}.get(market, _never)(year)
    return frozenset((d - EPOCH).days for d in closed), frozenset((d - EPOCH).days for d in half - closed)


def _never(_year: int) -> tuple[set[dt.date], set[dt.date]]:
    return set(), set()


def _banks(year: int) -> tuple[set[dt.date], set[dt.date]]:
    return {dt.date(year, 1, 1), dt.date(year, 12, 25)}, set()


def _nth(year: int, month: int, weekday: int, n: int) -> dt.date:
    """The n-th such weekday of a month; -1 is the last."""
    if n > 0:
        first = dt.date(year, month, 1)
        return first + dt.timedelta(days=(weekday - first.weekday()) % 7 + 7 * (n - 1))
    last = dt.date(year + month // 12, month % 12 + 1, 1) - dt.timedelta(days=1)
    return last - dt.timedelta(days=(last.weekday() - weekday) % 7)


def _easter(year: int) -> dt.date:
    """Easter Sunday (the anonymous Gregorian rule)."""
    a, b, c = year % 19, year // 100, year % 100
    h = (19 * a + b - b // 4 - (b - (b + 8) // 25 + 1) // 3 + 15) % 30
    k = (32 + 2 * (b % 4) + 2 * (c // 4) - h - c % 4) % 7
    m = (a + 11 * h + 22 * k) // 451
    month, day = divmod(h + k - 7 * m + 114, 31)
    return dt.date(year, month, day + 1)


def _new_york(year: int) -> tuple[set[dt.date], set[dt.date]]:
    def observed(month: int, day: int) -> dt.date:
        date = dt.date(year, month, day)
        return date + dt.timedelta(days={5: -1, 6: 1}.get(date.weekday(), 0))

    new_year = observed(1, 1)
    closed = {
        *({new_year} if new_year.year == year else set()),  # on a Saturday it is not made up for
        _nth(year, 1, 0, 3),
        _nth(year, 2, 0, 3),
        _easter(year) - dt.timedelta(days=2),
        _nth(year, 5, 0, -1),
        *({observed(6, 19)} if year >= 2022 else set()),
        observed(7, 4),
        _nth(year, 9, 0, 1),
        _nth(year, 11, 3, 4),
        observed(12, 25),
    }
    half = {dt.date(year, 7, 3), _nth(year, 11, 3, 4) + dt.timedelta(days=1), dt.date(year, 12, 24)}
    return closed, half


def _london(year: int) -> tuple[set[dt.date], set[dt.date]]:
    closed = {
        _easter(year) - dt.timedelta(days=2),
        _easter(year) + dt.timedelta(days=1),
        _nth(year, 5, 0, 1),
        _nth(year, 5, 0, -1),
        _nth(year, 8, 0, -1),
    }
    for month, day in ((1, 1), (12, 25), (12, 26)):
        date = dt.date(year, month, day)
        while date.weekday() >= 5 or date in closed:
            date += dt.timedelta(days=1)
        closed.add(date)
    return closed, {dt.date(year, 12, 24), dt.date(year, 12, 31)}


def _seoul(year: int) -> tuple[set[dt.date], set[dt.date]]:
    fixed = ((1, 1), (3, 1), (5, 1), (5, 5), (6, 6), (8, 15), (10, 3), (10, 9), (12, 25), (12, 31))
    closed = {dt.date(year, month, day) for month, day in fixed}
    for table, days in ((_SEOLLAL, (-1, 0, 1)), (_CHUSEOK, (-1, 0, 1)), (_BUDDHA, (0,))):
        for text in table.split():
            if text.startswith(str(year)):
                closed |= {dt.date.fromisoformat(text) + dt.timedelta(days=k) for k in days}
    return closed, set()
