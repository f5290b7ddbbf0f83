"""When markets are open: hours, half days, summer time, the venue's word and the user's."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from itertools import pairwise
from typing import Literal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchhamster.core.bars import Span
from watchhamster.core.ports import UsageError
from watchhamster.core.sessions import (
    MARKETS,
    Calendar,
    Market,
    Segment,
    SessionGrid,
    always_open,
    closures_told,
    holding,
    overrides_of,
)
from watchhamster.core.timeframes import SECOND_NS, UTC, timeframe

HOUR_NS = 3600 * SECOND_NS


def ns(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp()) * SECOND_NS


def day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


def closed(*days: str) -> Mapping[dt.date, str]:
    return {day(text): "a holiday" for text in days}


def hours(calendar: Calendar, text: str) -> list[str]:
    """A day's segments in local time."""
    found = []
    for segment in calendar.segments(day(text)):
        ends = (dt.datetime.fromtimestamp(t // SECOND_NS, calendar.zone) for t in (segment.since_ns, segment.until_ns))
        found.append(f"{segment.phase} " + "-".join(f"{moment:%H:%M}" for moment in ends))
    return found


def test_an_ordinary_day_in_new_york() -> None:
    calendar = Calendar(MARKETS["XNYS"])
    for at, phase, until in (
        ("2026-08-26T03:59:59-04:00", "closed", "2026-08-26T04:00-04:00"),
        ("2026-08-26T04:00-04:00", "pre", "2026-08-26T09:30-04:00"),
        ("2026-08-26T09:30-04:00", "regular", "2026-08-26T16:00-04:00"),
        ("2026-08-26T15:59:59-04:00", "regular", "2026-08-26T16:00-04:00"),
        ("2026-08-26T16:00-04:00", "post", "2026-08-26T20:00-04:00"),
        ("2026-08-28T20:00-04:00", "closed", "2026-08-31T04:00-04:00"),
    ):
        session = calendar.session(ns(at))
        assert (session.phase, session.until_ns) == (phase, ns(until)), at
        assert calendar.state(ns(at)) == phase and session.is_open == (phase != "closed")
    assert calendar.next_open_ns(ns("2026-08-28T16:30-04:00")) == ns("2026-08-31T09:30-04:00")
    assert calendar.next_open_ns(ns("2026-08-26T10:00-04:00")) == ns("2026-08-27T09:30-04:00")


def test_summer_time_moves_the_session_not_its_hours() -> None:
    calendar = Calendar(MARKETS["XNYS"])
    before, after = (calendar.regular(day(d))[0].since_ns for d in ("2026-03-06", "2026-03-09"))
    assert after - before == 71 * HOUR_NS
    assert hours(calendar, "2026-03-06") == hours(calendar, "2026-03-09")
    assert calendar.midnight_ns(day("2026-03-09")) - calendar.midnight_ns(day("2026-03-08")) == 23 * HOUR_NS


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("2026-11-27", "13:00"),  # after Thanksgiving
        ("2025-11-28", "13:00"),
        ("2026-12-24", "13:00"),  # a Thursday
        ("2027-12-24", "16:00"),  # a Friday: the holiday observed; a closed day where the list is asked
        ("2025-07-03", "13:00"),
        ("2026-07-02", "16:00"),
        ("2026-11-20", "16:00"),
    ],
)
def test_half_days_of_new_york(text: str, end: str) -> None:
    calendar = Calendar(MARKETS["XNYS"])
    assert f"regular 09:30-{end}" in hours(calendar, text)
    assert hours(calendar, text)[-1] == ("post 13:00-17:00" if end == "13:00" else "post 16:00-20:00")


def test_korea_begins_late_on_its_first_day_and_on_exam_days_and_rests_on_the_last() -> None:
    calendar = Calendar(MARKETS["XKRX"], lambda year: closed(f"{year}-01-01"))
    assert "regular 10:00-15:30" in hours(calendar, "2026-01-02")
    assert "regular 09:00-15:30" in hours(calendar, "2026-01-05")
    assert "regular 10:00-15:30" in hours(calendar, "2028-01-03")  # the 1st is a Saturday
    assert "regular 10:00-16:30" in hours(calendar, "2026-11-19")
    assert "regular 09:00-15:30" in hours(calendar, "2026-11-20")
    assert hours(calendar, "2026-12-31") == []


def test_a_lunch_break_is_a_pause_that_says_when_it_ends() -> None:
    session = Calendar(MARKETS["XTKS"]).session(ns("2026-08-26T12:00+09:00"))
    assert (session.phase, session.next_open_ns) == ("closed", ns("2026-08-26T12:30+09:00"))
    assert "regular 12:30-15:00" in hours(Calendar(MARKETS["XTKS"]), "2024-11-01")  # it became longer then
    assert "regular 12:30-15:30" in hours(Calendar(MARKETS["XTKS"]), "2024-11-05")


def test_half_days_elsewhere() -> None:
    christmas = Calendar(MARKETS["XLON"], lambda _: closed("2026-12-25", "2026-12-28"))
    assert hours(christmas, "2026-12-24") == hours(christmas, "2026-12-31") == ["regular 08:00-12:30"]
    assert hours(christmas, "2026-12-23") == ["regular 08:00-16:30"]
    assert hours(christmas, "2027-12-24") == ["regular 08:00-12:30"]
    weekend = Calendar(MARKETS["XLON"], lambda _: closed("2023-12-25", "2023-12-26"))
    assert hours(weekend, "2023-12-22") == ["regular 08:00-12:30"]  # the 24th was a Sunday
    frankfurt = Calendar(MARKETS["XETR"], lambda year: closed(f"{year}-12-31"))
    assert hours(frankfurt, "2026-12-30") == ["regular 09:00-14:00"]
    new_year = {day("2026-02-17"): "Chinese New Year", day("2024-02-12"): "The third day of Chinese New Year"}
    hong_kong = Calendar(MARKETS["XHKG"], lambda _: new_year)
    assert hours(hong_kong, "2026-02-16") == hours(hong_kong, "2024-02-09") == ["regular 09:30-12:00"]
    assert len(hours(hong_kong, "2026-02-13")) == 2


def test_markets_of_the_week() -> None:
    money = Calendar(MARKETS["FX"])
    friday = money.session(ns("2026-08-28T21:00+01:00"))
    assert (friday.phase, friday.until_ns) == ("regular", ns("2026-08-28T22:00+01:00"))
    assert friday.next_open_ns == ns("2026-08-30T22:00+01:00")
    assert money.session(ns("2026-08-31T00:30+01:00")).until_ns == ns("2026-09-04T22:00+01:00")  # one long session
    assert Calendar(MARKETS["CME"]).session(ns("2026-08-26T17:30-04:00")).next_open_ns == ns("2026-08-26T18:00-04:00")


@given(st.integers(1_230_768_000, 4_102_444_800))
def test_what_never_closes_never_opens(second: int) -> None:
    session = always_open().session(second * SECOND_NS)
    assert (session.phase, session.until_ns, session.next_open_ns) == ("regular", None, None)


def test_a_market_nobody_knows_says_nothing() -> None:
    calendar = Calendar(Market("?", "UTC", ((),) * 7))
    session = calendar.session(ns("2026-08-26T12:00Z"))
    assert (session.phase, session.until_ns, session.next_open_ns) == ("closed", None, None)
    assert not calendar.market.has_hours


def segments(
    text: str, *parts: tuple[Literal["pre", "regular", "post"], str, str], zone: str = "America/New_York"
) -> list[Segment]:
    where = ZoneInfo(zone)
    found = []
    for phase, since, until in parts:
        ends = [dt.datetime.combine(day(text), dt.time.fromisoformat(t), where).timestamp() for t in (since, until)]
        found.append(Segment(int(ends[0]) * SECOND_NS, int(ends[1]) * SECOND_NS, phase))
    return found


def test_the_venue_knows_better_than_the_table_but_not_than_the_user() -> None:
    half = segments("2026-09-09", ("pre", "04:00", "09:30"), ("regular", "09:30", "12:00"))
    calendar = Calendar(MARKETS["XNYS"])
    assert "regular 09:30-16:00" in hours(calendar, "2026-09-09")
    calendar.tell(half)
    assert hours(calendar, "2026-09-09") == ["pre 04:00-09:30", "regular 09:30-12:00"]
    assert "regular 09:30-16:00" in hours(calendar, "2026-09-10")
    held = Calendar(MARKETS["XNYS"], overrides=overrides_of({"2026-09-09": "10:00-11:00"}))
    held.tell(half)
    assert hours(held, "2026-09-09") == ["regular 10:00-11:00"]
    holiday = Calendar(MARKETS["XNYS"], lambda _: closed("2026-09-09"))
    assert hours(holiday, "2026-09-09") == []
    holiday.tell(half)
    assert hours(holiday, "2026-09-09") == ["pre 04:00-09:30", "regular 09:30-12:00"]


def test_the_next_session_told_means_none_before_it() -> None:
    """On a Thursday morning the venue says that its current or next session is Monday's."""
    monday = segments("2026-09-14", ("regular", "09:30", "16:00"))
    morning = Calendar(MARKETS["XNYS"])
    morning.tell(monday, ns("2026-09-10T08:00-04:00"))
    assert morning.next_open_ns(ns("2026-09-10T08:00-04:00")) == ns("2026-09-14T09:30-04:00")
    assert morning.state(ns("2026-09-10T10:00-04:00")) == "closed"
    evening = Calendar(MARKETS["XNYS"])
    evening.tell(monday, ns("2026-09-10T16:30-04:00"))
    assert evening.state(ns("2026-09-10T16:30-04:00")) == "post"  # today's was, and its evening goes on
    assert evening.next_open_ns(ns("2026-09-10T16:30-04:00")) == ns("2026-09-14T09:30-04:00")
    same = Calendar(MARKETS["XNYS"])
    same.tell(monday, ns("2026-09-14T10:00-04:00"))
    assert "regular 09:30-16:00" in hours(same, "2026-09-11")


def test_korea_believes_its_table() -> None:
    calendar = Calendar(MARKETS["XKRX"])
    calendar.tell(segments("2026-08-26", ("regular", "09:00", "15:00"), zone="Asia/Seoul"))
    assert "regular 09:00-15:30" in hours(calendar, "2026-08-26")


def test_overrides_are_read_from_text() -> None:
    found = overrides_of({"2026-12-31": "closed", "2026-12-30": "pre 08:00-09:00, 09:00-12:00,13:00-15:00"})
    assert found[day("2026-12-31")] == ()
    assert found[day("2026-12-30")] == (("pre", 480, 540), ("regular", 540, 720), ("regular", 780, 900))
    for text, value in (
        ("2026-13-01", "closed"),
        ("2026-12-01", "shut"),
        ("2026-12-01", "15:00-09:00"),
        ("2026-12-01", "09:00-25:00"),
        ("2026-12-01", "09:70-10:00"),
        ("2026-12-01", "09:00-12:00,11:00-13:00"),
        ("2026-12-01", ""),
    ):
        with pytest.raises(UsageError) as refused:
            overrides_of({text: value})
        assert refused.value.code == "bad_hours" and text in str(refused.value)


@given(st.sampled_from(sorted(MARKETS)), st.integers(1_262_304_000, 2_000_000_000))
def test_a_session_is_what_its_segments_say(code: str, second: int) -> None:
    calendar, now_ns = Calendar(MARKETS[code]), second * SECOND_NS
    session = calendar.session(now_ns)
    around = calendar.between(now_ns - 86400 * SECOND_NS, now_ns + 86400 * SECOND_NS)
    segment = holding(around, now_ns)
    assert session.phase == ("closed" if segment is None else segment.phase)
    assert around == sorted(around)
    assert all(earlier.until_ns <= later.since_ns for earlier, later in pairwise(around))
    if session.until_ns is not None:
        assert session.until_ns > now_ns and calendar.state(session.until_ns) != session.phase
        assert calendar.state(session.until_ns - SECOND_NS) == session.phase
    if session.next_open_ns is not None:
        assert calendar.state(session.next_open_ns) == "regular"
        assert calendar.state(session.next_open_ns - SECOND_NS) != "regular"


# ---------------------------------------------------------------- where bars lie

HOLIDAYS = {dt.date(2026, 11, 26): "Thanksgiving"}
GRID = SessionGrid(Calendar(MARKETS["XNYS"], lambda _: HOLIDAYS), 60 * SECOND_NS, 3600 * SECOND_NS)


@pytest.mark.parametrize(
    ("name", "moment", "opens", "ends", "following", "settled"),
    [
        ("1m", "2026-11-25T10:00:30", "2026-11-25T10:00", "2026-11-25T10:01", "2026-11-25T10:01", "2026-11-25T09:59"),
        ("1h", "2026-11-25T10:31:00", "2026-11-25T10:30", "2026-11-25T11:30", "2026-11-25T11:30", "2026-11-25T10:30"),
        ("1h", "2026-11-25T15:59:00", "2026-11-25T15:30", "2026-11-25T16:00", "2026-11-27T09:30", "2026-11-25T15:30"),
        ("1h", "2026-11-26T12:00:00", "2026-11-25T15:30", "2026-11-25T16:00", "2026-11-27T09:30", "2026-11-25T16:00"),
        ("1h", "2026-11-27T12:45:00", "2026-11-27T12:30", "2026-11-27T13:00", "2026-11-30T09:30", "2026-11-27T12:30"),
        ("4h", "2026-11-25T14:00:00", "2026-11-25T13:30", "2026-11-25T16:00", "2026-11-27T09:30", "2026-11-25T13:30"),
        ("1d", "2026-11-25T16:30:00", "2026-11-25T00:00", "2026-11-25T16:00", "2026-11-26T00:00", "2026-11-25T00:00"),
        ("1d", "2026-11-25T17:00:00", "2026-11-25T00:00", "2026-11-25T16:00", "2026-11-26T00:00", "2026-11-25T16:00"),
        ("1w", "2026-11-28T10:00:00", "2026-11-23T00:00", "2026-11-27T13:00", "2026-11-30T00:00", "2026-11-27T13:00"),
        ("1M", "2026-11-28T10:00:00", "2026-11-01T00:00", "2026-11-30T16:00", "2026-12-01T00:00", "2026-11-01T00:00"),
    ],
)
def test_a_bar_on_the_grid_of_a_market(
    name: str, moment: str, opens: str, ends: str, following: str, settled: str
) -> None:
    """In New York's time, which left summer on 1 November."""
    frame, open_ns = timeframe(name), new_york(opens)
    assert GRID.open_ns(frame, new_york(moment)) == open_ns
    assert GRID.end_ns(frame, open_ns) == new_york(ends)
    assert GRID.next_ns(frame, open_ns) == new_york(following)
    assert GRID.settled_ns(frame, new_york(moment)) == new_york(settled)


def new_york(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("America/New_York")).timestamp()) * SECOND_NS


@given(
    st.sampled_from(("1m", "5m", "30m", "1h", "90m", "4h", "1d", "1w", "1M", "3M", "1y")),
    st.sampled_from(("XNYS", "XTKS", "FX", "CME", "24/7")),
    st.integers(1_700_000_000, 1_800_000_000),
)
def test_bars_of_a_grid_follow_one_another(name: str, market: str, second: int) -> None:
    """A moment's bar begins before it; bars neither overlap nor begin while one is on; the settled ones are over."""
    frame, grid = timeframe(name), SessionGrid(Calendar(MARKETS[market]))
    open_ns = grid.open_ns(frame, second * SECOND_NS)
    end_ns, next_ns = grid.end_ns(frame, open_ns), grid.next_ns(frame, open_ns)
    assert open_ns <= second * SECOND_NS < next_ns
    assert open_ns < end_ns <= next_ns
    assert (
        grid.open_ns(frame, open_ns) == grid.open_ns(frame, end_ns - 1) == grid.open_ns(frame, next_ns - 1) == open_ns
    )
    assert grid.open_ns(frame, next_ns) == next_ns
    settled_ns = grid.settled_ns(frame, second * SECOND_NS)
    assert settled_ns in (open_ns, end_ns) and settled_ns <= second * SECOND_NS


def test_history_of_so_many_bars_reaches_back_over_closures() -> None:
    at_ns = new_york("2026-11-30T09:35")
    assert GRID.before_ns(timeframe("1m"), at_ns, 5) == new_york("2026-11-30T09:30")
    assert GRID.before_ns(timeframe("1m"), at_ns, 6) == new_york("2026-11-27T09:30")
    assert GRID.before_ns(timeframe("1d"), at_ns, 3) == new_york("2026-11-25T00:00")
    assert UTC.before_ns(timeframe("1h"), at_ns, 3) == at_ns - 3 * 3600 * SECOND_NS


State = Literal["candles", "no_trade", "not_fetched"]


def clock(at_ns: int) -> str:
    return f"{dt.datetime.fromtimestamp(at_ns // SECOND_NS, ZoneInfo('America/New_York')):%d %H:%M}"


def test_closed_hours_are_no_gap() -> None:
    """Nights, a weekend and Thanksgiving need not be fetched; a session that was not, and half of one, do."""

    def told(name: str, *spans: tuple[str, str, State, int]) -> list[tuple[str, str, State, int]]:
        given = [Span(new_york(a), new_york(b), state, count) for a, b, state, count in spans]
        found = closures_told(given, GRID, timeframe(name))
        return [(clock(span.since_ns), clock(span.until_ns), span.state, span.count) for span in found]

    assert told(
        "1m",
        ("2026-11-24T09:30", "2026-11-25T12:00", "candles", 540),
        ("2026-11-25T12:00", "2026-11-28T00:00", "not_fetched", 0),
        ("2026-11-28T00:00", "2026-11-29T00:00", "no_trade", 0),
    ) == [
        ("24 09:30", "25 12:00", "candles", 540),
        ("25 12:00", "25 16:00", "not_fetched", 0),
        ("25 16:00", "27 09:30", "no_trade", 0),
        ("27 09:30", "27 13:00", "not_fetched", 0),
        ("27 13:00", "29 00:00", "no_trade", 0),
    ]
    assert told("1d", ("2026-11-25T16:00", "2026-11-30T00:00", "not_fetched", 0)) == [
        ("25 16:00", "27 00:00", "no_trade", 0),
        ("27 00:00", "28 00:00", "not_fetched", 0),
        ("28 00:00", "30 00:00", "no_trade", 0),
    ]
    spans = [Span(0, 10, "not_fetched", 0), Span(10, 20, "candles", 1)]
    assert closures_told(spans, UTC, timeframe("1m")) == spans
