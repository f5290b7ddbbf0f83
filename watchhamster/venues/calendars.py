"""Calendars of the exchanges: our table of hours, and the days they are closed.

Closed days are those of the `holidays` library, which knows Korea's elections and substitute holidays where others do
not. It is imported when the first calendar is made, since most runs need none.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from functools import lru_cache, partial
from importlib import import_module
from typing import Final

from watchhamster.core.sessions import MARKETS, Calendar, Hours

# Our code -> the library's. The others close for no day of their own.
_LISTS: Final = {"XNYS": "XNYS", "XKRX": "XKRX", "XLON": "XLON", "XETR": "XETR", "XTKS": "XJPX", "XHKG": "XHKG"}


def calendar_of(code: str, overrides: Mapping[dt.date, Hours] | None = None) -> Calendar:
    """A new calendar of a market of `core.sessions.MARKETS`. Raises `KeyError` for another code."""
    return Calendar(MARKETS[code], partial(closed_days, code), overrides)  # not a lambda: it goes to workers


@lru_cache(maxsize=512)
def closed_days(code: str, year: int) -> Mapping[dt.date, str]:
    """The days of a year on which a market does not trade, and why (in English). Weekends are not listed."""
    name = _LISTS.get(code)
    if name is None:
        return {}
    days = import_module("holidays").financial_holidays(name, years=[year], language="en_US")
    return {day: str(why) for day, why in days.items()}
