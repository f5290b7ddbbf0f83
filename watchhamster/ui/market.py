"""What a market is called, what its prices are in, and what it is doing, in the words of the language in use."""

from __future__ import annotations

import datetime as dt

from watchhamster.core.instruments import InstrumentInfo
from watchhamster.core.sessions import Calendar, Session
from watchhamster.core.text import _, pgettext
from watchhamster.core.timeframes import SECOND_NS
from watchhamster.ui import format

_NO_CURRENCY = "XXX"  # ISO 4217's own
_YOUNG_NS = 2 * 3600 * SECOND_NS  # a day that began later than so long ago has hardly a line
_DAYS_BACK = 15  # a session is looked for; the longest closure known is 12 days


def market_title(venue: str, code: str = "") -> str:
    """What a market is called, by its venue and the code of its calendar."""
    names = {
        "XNYS": _("United States"),
        "XKRX": _("Korea"),
        "XLON": _("London"),
        "XETR": _("Frankfurt"),
        "XTKS": _("Tokyo"),
        "XHKG": _("Hong Kong"),
        "FX": _("Currencies"),
        "CME": _("Futures"),
        "24/7": _("Cryptocurrencies"),
    }
    return names.get(code) or f"{venue.capitalize()} {code}".strip()


def unit_of(info: InstrumentInfo | None) -> str:
    """What prices of an instrument are in; empty where nobody has told, or where they are points of an index."""
    return "" if info is None or info.quote == _NO_CURRENCY else info.quote


def phase_of(state: str | None) -> str:
    """The part of the day that a price is of, by the word of its ticker."""
    return {"PRE": _("pre-market"), "POST": _("after-market")}.get(state or "", _("out of hours"))


def session_line(session: Session | None, now_ns: int, zone: dt.tzinfo) -> str:
    """What a market is doing: until when it is open, or when it opens. Empty where it never closes."""
    if session is None:
        return ""
    if session.halted_ns is not None and session.is_open:
        return _("halted since {time}").format(time=format.clock(session.halted_ns, zone, seconds=False))
    opens_ns = session.next_open_ns
    minutes = 0 if opens_ns is None else -(-(opens_ns - now_ns) // (60 * SECOND_NS))
    opens = "" if opens_ns is None else format.age(60 * minutes)
    match session.phase:
        case "regular" if session.until_ns is None:
            return pgettext("market", "open")
        case "regular":
            return _("open until {time}").format(time=format.clock(session.until_ns, zone, seconds=False))
        case "pre":
            return _("pre-market, opens in {time}").format(time=opens) if opens else _("pre-market")
        case "post":
            return _("after-market")
    return _("closed, opens in {time}").format(time=opens) if opens else pgettext("market", "closed")


def last_session_ns(calendar: Calendar | None, now_ns: int) -> int | None:
    """When the last day of regular trading began that is worth a line; None where the market never closes."""
    if calendar is None:
        return None
    today = calendar.day(now_ns)
    for back in range(_DAYS_BACK):
        regular = calendar.regular(today - dt.timedelta(days=back))
        if regular and regular[0].since_ns <= now_ns - _YOUNG_NS:
            whole = regular[-1].until_ns - regular[0].since_ns >= 86_000 * SECOND_NS
            return None if whole else regular[0].since_ns
    return None
