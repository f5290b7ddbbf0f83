"""The exchanges' closed days, where they are known to differ from what others list."""

from __future__ import annotations

import datetime as dt
import pickle

import pytest

from watchhamster.core.sessions import MARKETS, overrides_of
from watchhamster.venues.calendars import calendar_of, closed_days


@pytest.mark.parametrize(
    ("code", "shut", "trades"),
    [
        ("XNYS", "2026-04-03 2026-06-19 2026-07-03 2026-11-26 2027-12-24", "2026-04-06 2026-07-02 2026-10-12"),
        # Local elections and Constitution Day of 2026, a substitute holiday, the year's last day.
        ("XKRX", "2026-06-03 2026-07-17 2026-03-02 2026-12-31 2022-12-30", "2026-12-30 2026-07-16 2026-06-04"),
        ("XLON", "2026-04-06 2026-12-28", "2026-12-24 2026-06-19"),
        ("XTKS", "2026-01-02 2026-05-05", "2026-12-30"),
        ("XHKG", "2026-02-17 2026-10-01", "2026-02-16"),
        ("XETR", "2026-05-01 2026-12-24", "2026-10-30"),
    ],
)
def test_days_a_market_is_closed(code: str, shut: str, trades: str) -> None:
    calendar = calendar_of(code)
    assert not any(calendar.regular(dt.date.fromisoformat(text)) for text in shut.split())
    assert all(calendar.regular(dt.date.fromisoformat(text)) for text in trades.split())


def test_the_user_may_say_otherwise() -> None:
    calendar = calendar_of("XKRX", overrides_of({"2026-07-17": "09:00-15:30", "2026-07-16": "closed"}))
    assert calendar.regular(dt.date(2026, 7, 17)) and not calendar.regular(dt.date(2026, 7, 16))


def test_markets_without_a_list_close_for_no_day() -> None:
    assert closed_days("24/7", 2026) == {} and closed_days("XNYS", 2026)[dt.date(2026, 12, 25)] == "Christmas Day"
    assert all(calendar_of(code).market is market for code, market in MARKETS.items())


def test_a_calendar_goes_to_another_process() -> None:
    calendar = pickle.loads(pickle.dumps(calendar_of("XNYS")))
    assert calendar.regular(dt.date(2026, 7, 2)) and not calendar.regular(dt.date(2026, 7, 3))
