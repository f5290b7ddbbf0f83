"""Axis labels are round, few, and stay so across days, zones and changes of the clock."""

from __future__ import annotations

import datetime as dt
import math
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchhamster.core.timeframes import timeframe
from watchhamster.ui.ticks import log_price_ticks, price_ticks, time_ticks

SEOUL, NEW_YORK = ZoneInfo("Asia/Seoul"), ZoneInfo("America/New_York")
NS = 1_000_000_000


def _ns(text: str, zone: dt.tzinfo) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) * NS


@pytest.mark.parametrize(
    ("low", "high", "most", "least", "ticks"),
    [
        (0.0, 10.0, 5, 0.0, [0, 2, 4, 6, 8, 10]),
        (95_000_100.0, 95_003_900.0, 4, 1000.0, [95_001_000, 95_002_000, 95_003_000]),
        (95_000_100.0, 95_001_900.0, 10, 1000.0, [95_001_000]),
        (0.01213, 0.01267, 5, 0.0, [0.0122, 0.0124, 0.0126]),
        (0.0186, 0.0199, 6, 0.0001, [0.019, 0.0195]),  # a quarter of a thousandth would be no price there
        (5.0, 5.0, 5, 0.0, []),
        (float("nan"), 5.0, 5, 0.0, []),
    ],
)
def test_price_ticks(low: float, high: float, most: int, least: float, ticks: list[float]) -> None:
    assert price_ticks(low, high, most, least) == ticks


@given(st.floats(1e-6, 1e9), st.floats(1.0001, 1e6), st.integers(1, 20))
def test_there_are_never_many_and_all_are_inside(low: float, ratio: float, most: int) -> None:
    high = low * ratio
    for ticks in (price_ticks(low, high, most), log_price_ticks(low, high, max(most, 8))):
        assert len(ticks) <= max(most, 8) + 1
        assert ticks == sorted(set(ticks))
        assert all(low * (1 - 1e-9) <= tick <= high * (1 + 1e-9) for tick in ticks)


def test_a_logarithmic_axis_labels_decades() -> None:
    assert log_price_ticks(1.0, 1000.0, 8) == [1, 3, 10, 30, 100, 300, 1000]
    assert log_price_ticks(100.0, 110.0, 5) == price_ticks(100.0, 110.0, 5)


def test_minutes_are_labelled_in_the_zone_and_midnight_says_the_day() -> None:
    ticks = time_ticks(_ns("2020-02-20 22:10", SEOUL), _ns("2020-02-21 02:05", SEOUL), 5, timeframe("1m"), SEOUL)
    assert [t.label for t in ticks] == ["23:00", "02-21", "01:00", "02:00"]
    assert [t.strong for t in ticks] == [False, True, False, False]


def test_labels_stay_round_on_both_sides_of_a_change_of_the_clock() -> None:
    spring = time_ticks(
        _ns("2024-03-09 20:00", NEW_YORK), _ns("2024-03-10 13:00", NEW_YORK), 6, timeframe("5m"), NEW_YORK
    )
    assert [t.label for t in spring] == ["21:00", "03-10", "03:00", "06:00", "09:00", "12:00"]
    hours = {b.ns - a.ns for a, b in pairwise(spring)}
    assert hours == {2 * 3600 * NS, 3 * 3600 * NS}  # the night of spring is an hour short
    autumn = time_ticks(
        _ns("2024-11-03 00:00", NEW_YORK), _ns("2024-11-03 06:30", NEW_YORK), 8, timeframe("5m"), NEW_YORK
    )
    assert [t.label for t in autumn] == ["11-03", "01:00", "02:00", "03:00", "04:00", "05:00", "06:00"]


def test_days_and_months_are_the_venue_s_own() -> None:
    since, until = _ns("2024-10-15 00:00", dt.UTC), _ns("2025-10-15 00:00", dt.UTC)
    labels = [t.label for t in time_ticks(since, until, 7, timeframe("1d"), NEW_YORK)]
    assert labels == ["2024-11", "2025", "2025-03", "2025-05", "2025-07", "2025-09"]
    labels = [t.label for t in time_ticks(since, since + 20 * 86400 * NS, 10, timeframe("1d"), SEOUL)]
    assert labels == ["10-15", "10-17", "10-19", "10-21", "10-23", "10-25", "10-27", "10-29", "2024-11", "11-03"]


@given(st.integers(0, 2 * 10**18), st.integers(1, 4 * 10**17), st.integers(1, 15), st.sampled_from(["1s", "1m", "1d"]))
def test_there_are_never_many_moments(since: int, span: int, most: int, name: str) -> None:
    ticks = time_ticks(since, since + span, most, timeframe(name), SEOUL)
    assert len(ticks) <= 2 * most + 2
    assert all(since <= t.ns < since + span for t in ticks)
    assert all(a.ns < b.ns for a, b in pairwise(ticks))
    assert all(math.isclose(t.ns % NS, 0) for t in ticks)
