"""A market that closes has an axis without pauses: every candle keeps its own place, and its own time."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from watchhamster.core.bars import Bars, Span
from watchhamster.core.instruments import InstrumentInfo, PriceSteps
from watchhamster.core.market import Candle
from watchhamster.core.sessions import Calendar, Market
from watchhamster.core.timeframes import SECOND_NS, timeframe
from watchhamster.ui.chart import ChartStyle, ChartView
from watchhamster.ui.pyramid import CLOSE, Pyramid, SessionSlots
from watchhamster.ui.ticks import session_ticks
from watchhamster.venues.calendars import calendar_of

NEW_YORK = ZoneInfo("America/New_York")
NAME = "yahoo:AAPL"
INFO = InstrumentInfo(
    NAME, "AAPL", "AAPL", "USD", {"en": "Apple"}, PriceSteps((Decimal(0),), (Decimal("0.01"),)), Decimal(0)
)


def ns(text: str, zone: ZoneInfo = NEW_YORK) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) * SECOND_NS


def times(name: str, *days: str, zone: str = "America/New_York", calendar: Calendar | None = None) -> list[int]:
    """Where the bars of these days open."""
    calendar, step = calendar or calendar_of("XNYS"), timeframe(name).approximate_ns
    found: list[int] = []
    for day in days:
        for part in calendar.regular(dt.date.fromisoformat(day)):
            found += range(part.since_ns, part.until_ns, step)
    return found


def bars(open_ns: list[int], first: float = 250.0) -> Bars:
    prices = [first + i * 0.01 for i in range(len(open_ns))]
    close, high, low = (np.array([price + more for price in prices]) for more in (0.0, 1.0, -1.0))
    volume = np.full(len(open_ns), 100.0)
    return Bars(np.array(open_ns, np.int64), close, high, low, close, volume, volume)


def slots(name: str, open_ns: list[int], market: str = "XNYS") -> SessionSlots:
    return SessionSlots(timeframe(name), calendar_of(market), np.array(open_ns, np.int64))


@pytest.mark.parametrize(
    ("name", "before", "after", "why"),
    [
        ("1m", "2025-10-31 15:59", "2025-11-03 09:30", "a weekend in which summer time ends"),
        ("5m", "2025-11-26 15:55", "2025-11-28 09:30", "Thanksgiving"),
        ("15m", "2025-11-28 12:45", "2025-12-01 09:30", "a half day, and the weekend after it"),
        ("1h", "2025-11-20 15:30", "2025-11-21 09:30", "a night; the last hour is half an hour"),
        ("4h", "2025-11-20 13:30", "2025-11-21 09:30", "the same, by the session's grid"),
        ("1d", "2025-11-28 09:30", "2025-12-01 09:30", "a weekend of days"),
        ("1w", "2025-11-24 00:00", "2025-12-01 00:00", "weeks have no pauses"),
    ],
)
def test_the_last_candle_of_a_session_is_next_to_the_first_of_the_next(
    name: str, before: str, after: str, why: str
) -> None:
    axis = slots(name, [ns(before)])
    assert axis.at(ns(after)) == axis.at(ns(before)) + 1, why
    assert axis.hold(np.array([ns(before), ns(after)], np.int64))


def test_a_moment_in_a_pause_lies_between_two_slots() -> None:
    axis = slots("1m", [ns("2025-11-21 15:59")])
    saturday = ns("2025-11-22 12:00")
    assert axis.at(saturday) == axis.at(ns("2025-11-21 15:59"))  # the last before it
    assert axis.since(saturday) == axis.at(ns("2025-11-24 09:30"))  # the first after it
    assert axis.end_ns(axis.at(saturday)) == ns("2025-11-21 16:00")
    lunch = slots("5m", [ns("2025-11-20 11:25", ZoneInfo("Asia/Tokyo"))], "XTKS")
    assert lunch.at(ns("2025-11-20 12:30", ZoneInfo("Asia/Tokyo"))) == lunch.at(ns("2025-11-20 11:25", lunch.zone)) + 1  # type: ignore[arg-type]


@settings(max_examples=40)
@given(
    name=st.sampled_from(["1m", "5m", "1h", "4h", "1d", "1w"]),
    market=st.sampled_from(["XNYS", "XKRX", "XTKS", "XLON", "CME", "FX", "24/7"]),
    far=st.integers(-3000, 3000),
)
def test_a_slot_is_found_again_by_its_time_however_far_it_is(name: str, market: str, far: int) -> None:
    axis = slots(name, [ns("2025-11-20 10:30", ZoneInfo("UTC"))], market)
    known = axis.at(ns("2025-11-20 10:30", ZoneInfo("UTC")))
    opens = axis.open_ns(known + far)
    assert axis.at(opens) == known + far
    assert axis.open_ns(known + far + 1) > opens
    assert axis.at(ns("2025-11-20 10:30", ZoneInfo("UTC"))) == known  # reading on has renumbered nothing


def test_folded_candles_on_the_grid_of_utc_stand_side_by_side_too() -> None:
    open_ns = [ns(f"2025-11-{day} {hour}:00", ZoneInfo("UTC")) for day in (20, 21, 24) for hour in ("12", "16", "20")]
    axis = slots("4h", open_ns)
    assert np.diff(axis.of(np.array(open_ns, np.int64))).tolist() == [1] * 8
    assert axis.times(axis.of(np.array(open_ns, np.int64))).tolist() == open_ns


def test_a_candle_on_a_day_the_calendar_calls_closed_gets_a_place_and_no_other_is_lost() -> None:
    known = times("5m", "2025-11-20", "2025-11-21")
    pyramid = Pyramid(bars(known), SessionSlots(timeframe("5m"), calendar_of("XNYS"), np.array(known, np.int64)))
    newest, count = pyramid.last, len(pyramid)
    saturday = range(ns("2025-11-15 10:00"), ns("2025-11-15 11:00"), 300 * SECOND_NS)
    pyramid.add(bars([*saturday, *times("5m", "2025-11-17", "2025-11-18", "2025-11-19")], first=200.0))
    assert len(pyramid) == count + len(saturday) + 3 * 78
    assert pyramid.last == newest  # what was newest has kept its number
    first = pyramid.candle(pyramid.slots.at(saturday[0]))
    assert first is not None and first[CLOSE] == 200.0
    assert pyramid.slots.at(ns("2025-11-17 09:30")) == pyramid.slots.at(saturday[-1]) + 1
    pyramid.put(Candle(NAME, "5m", ns("2025-11-22 12:00"), 1, 1, 1, 1, None, None, False, "live"))
    assert pyramid.last == newest + 1


def test_of_a_market_without_a_table_the_candles_alone_make_the_axis() -> None:
    calendar = Calendar(Market("?", "America/Sao_Paulo", ((),) * 7))
    known = times("1m", "2025-11-20", "2025-11-21")
    pyramid = Pyramid(bars(known), SessionSlots(timeframe("1m"), calendar, np.array(known, np.int64)))
    assert pyramid.last - pyramid.first == len(known) - 1
    older = times("1m", "2025-11-19")
    pyramid.add(bars(older))
    assert pyramid.last - pyramid.first == len(known) + len(older) - 1
    pyramid.put(Candle(NAME, "1m", known[-1] + 60 * SECOND_NS, 1, 1, 1, 1, None, None, False, "live"))
    assert pyramid.last - pyramid.first == len(known) + len(older)


def test_labels_say_dates_where_sessions_begin_and_times_within() -> None:
    open_ns = times("5m", "2025-11-19", "2025-11-20", "2025-11-21")
    axis = slots("5m", open_ns)
    first = axis.at(open_ns[0])
    ticks = session_ticks(axis, first, first + 3 * 78, 10)
    assert [tick.label for tick in ticks if tick.strong] == ["11-19", "11-20", "11-21", "11-24"]
    assert {tick.label for tick in ticks if not tick.strong} <= {"11:00", "12:00", "13:00", "14:00", "15:00"}
    places = [axis.since(tick.ns) for tick in ticks]
    assert all(b - a >= 15 for a, b in pairwise(places))  # none upon another
    daily = slots("1d", times("1d", "2025-11-03"))
    begin = daily.at(ns("2025-10-01 09:30"))
    labels = [tick.label for tick in session_ticks(daily, begin, begin + 60, 8)]
    assert "2025-11" in labels and len(labels) == len(set(labels))


@pytest.fixture
def chart(look: QApplication, qtbot: QtBot) -> ChartView:
    chart = ChartView(zone=ZoneInfo("Asia/Seoul"))
    qtbot.addWidget(chart)
    chart.resize(900, 500)
    chart.set_style(ChartStyle(averages=()))
    known = bars(times("5m", "2025-11-20", "2025-11-21"))
    chart.set_series(NAME, "5m", known, INFO, calendar=calendar_of("XNYS"))
    with qtbot.waitExposed(chart):
        chart.show()
    QApplication.processEvents()
    return chart


def test_a_chart_shows_the_weekend_as_nothing_and_tells_the_exchanges_time(chart: ChartView) -> None:
    friday, monday = (chart.position(ns(at), 250.0).x() for at in ("2025-11-21 15:55", "2025-11-24 09:30"))
    night = chart.position(ns("2025-11-21 09:30"), 250.0).x() - chart.position(ns("2025-11-20 15:55"), 250.0).x()
    assert monday - friday == pytest.approx(8.0, abs=1.0) and night == pytest.approx(8.0, abs=1.0)
    assert "2025-11-21 15:55 EST" in chart.legend()
    chart._hover(QPoint(int(chart.position(ns("2025-11-20 12:00"), 250.0).x()), 100))
    assert "2025-11-20 12:00 EST" in chart.legend()


def test_the_live_candle_counts_down_to_the_sessions_end_and_history_is_asked_for_by_sessions(
    chart: ChartView, qtbot: QtBot
) -> None:
    opens = ns("2025-11-24 15:55")
    chart.update_forming(Candle(NAME, "5m", opens, 251, 252, 250, 251, 5.0, None, False, "live"))
    chart.refresh(opens + 240 * SECOND_NS)
    assert chart._countdown == "1:00"
    with qtbot.waitSignal(chart.history_needed) as asked:
        QTest.keyClick(chart, Qt.Key.Key_PageUp)
    since, until = asked.args
    assert until == ns("2025-11-20 09:30") and since < ns("2025-11-13 09:30")  # 500 bars are over six sessions
    chart.prepend(bars(times("5m", *(f"2025-11-{day}" for day in (12, 13, 14, 17, 18, 19)))))
    assert len(chart._pyramid) == 8 * 78 + 1
    chart.jump_to_latest()
    assert chart.visible_ns[0] > ns("2025-11-20 09:30")


def test_what_was_not_fetched_is_hatched_and_a_closed_night_is_not(chart: ChartView) -> None:
    begins, ends = ns("2025-11-20 16:00"), ns("2025-11-21 09:30")
    chart.set_spans([Span(begins, ends, "not_fetched", 0)])
    grabbed = chart.grab().toImage()
    chart.set_spans([])
    assert chart.grab().toImage() == grabbed
    chart.set_spans([Span(begins, ns("2025-11-21 12:00"), "not_fetched", 0)])
    assert chart.grab().toImage() != grabbed


def test_prices_are_adjusted_on_wish_and_a_distribution_is_marked(chart: ChartView, qtbot: QtBot) -> None:
    open_ns = times("1d", "2025-11-19", "2025-11-20", "2025-11-21")
    open_ns = [ns(f"2025-11-{day} 09:30") for day in (18, 19, 20, 21)]
    raw = bars(open_ns, 100.0)
    factors = np.array([0.98, 0.98, 1.0, 1.0])
    paid = Bars(raw.open_ns, raw.open, raw.high, raw.low, raw.close, raw.volume, raw.value, factors)
    chart.set_series(NAME, "1d", paid, INFO, calendar=calendar_of("XNYS"))
    first = chart._pyramid.first
    candle = chart._pyramid.candle(first)
    assert candle is not None and candle[CLOSE] == 100.0
    chart.update_forming(Candle(NAME, "1d", ns("2025-11-24 09:30"), 101, 102, 100, 101.5, None, None, False, "live"))
    with qtbot.waitSignal(chart.adjusted_changed) as told:
        chart.toggle_adjusted()
    assert told.args == [True] and chart.adjusted
    prices = [chart._pyramid.candle(first + i) for i in range(5)]
    assert [price[CLOSE] for price in prices if price] == pytest.approx([98.0, 98.0098, 100.02, 100.03, 101.5])
    QApplication.processEvents()
    chart.grab()
    texts = [mark.text for _box, mark in chart._canvas.painter.mark_places]
    assert texts == ["Distributed: 2 a share"]
    chart.toggle_adjusted()
    candle = chart._pyramid.candle(first)
    assert candle is not None and candle[CLOSE] == 100.0


def test_a_chart_without_factors_offers_no_adjustment(chart: ChartView) -> None:
    chart.toggle_adjusted()
    assert not chart.adjusted and chart._adjust.isHidden()
