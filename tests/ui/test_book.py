"""The order book keeps its place, stands still under the mouse, and adds up; the tape runs."""

from __future__ import annotations

import math
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QColor, QEnterEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from tests.ui.pixels import count, where
from watchhamster.core.instruments import InstrumentInfo, PriceSteps
from watchhamster.core.market import Book, Level, Side, Trade
from watchhamster.ui import theme
from watchhamster.ui.book_view import LEVELS, BookView, TapeView, grouped, strength

INSTRUMENT = "upbit:KRW-BTC"
STEPS = PriceSteps((Decimal(0), Decimal(1_000_000)), (Decimal(1), Decimal(1000)))
INFO = InstrumentInfo(INSTRUMENT, "KRW-BTC", "BTC", "KRW", {"ko": "비트코인"}, STEPS, Decimal(5000))
MIDDLE = 95_123_000.0


def _book(levels: int = LEVELS, middle: float = MIDDLE, size: float = 1.0) -> Book:
    asks = [(middle + 1000 * (i + 1), size) for i in range(levels)]
    bids = [(middle - 1000 * i, size) for i in range(levels)]
    return Book(INSTRUMENT, 0, 0, True, bids, asks)


def _trade(n: int, side: Side, size: float = 1.0, price: float = MIDDLE) -> Trade:
    return Trade(INSTRUMENT, 1_582_197_540_000_000_000 + n * 10**9, None, n, price, size, side)


@pytest.fixture
def view(look: QApplication, qtbot: QtBot) -> BookView:
    view = BookView()
    qtbot.addWidget(view)
    view.resize(280, 680)
    view.set_instrument(INFO)
    with qtbot.waitExposed(view):
        view.show()
    return view


def _rows_with(view: BookView, colour: QColor) -> list[int]:
    """The heights at which a colour is seen."""
    return [int(y) for y in np.flatnonzero(where(view.grab().toImage(), colour).any(axis=1))]


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.floats(0.001, 1000)), max_size=30, unique_by=lambda level: level[0]),
    st.sampled_from([1.0, 5.0, 0.5, 0.001, 1000.0]),
    st.sampled_from([1, 2, 5, 10, 100]),
    st.booleans(),
)
def test_grouping_keeps_every_size_and_never_makes_a_price_better(
    raw: list[tuple[int, float]], tick: float, ticks: int, asks: bool
) -> None:
    levels: list[Level] = sorted(((n * tick, size) for n, size in raw), reverse=not asks)
    step = tick * ticks
    rows = grouped(levels, step, asks=asks)
    assert math.isclose(math.fsum(s for _p, s in rows), math.fsum(s for _p, s in levels), abs_tol=1e-9)
    assert [price for price, _size in rows] == sorted({price for price, _size in rows}, reverse=not asks)
    for price, _size in levels:  # each level is in the row at its price or, by less than a step, the worse one
        assert any(0 <= ((row - price) if asks else (price - row)) + step * 1e-6 < step * 1.001 for row, _s in rows)


def test_trade_strength_is_bought_over_sold() -> None:
    assert strength([_trade(0, "buy", 3.0), _trade(1, "sell", 2.0)]) == 150.0
    assert strength([_trade(0, "buy", 3.0)]) is None
    assert strength([]) is None


def test_the_spread_in_money_ticks_and_percent(view: BookView) -> None:
    assert view.spread() is None
    view.set_book(_book())
    spread = view.spread()
    assert spread is not None
    assert spread[:2] == (1000.0, 1.0)
    assert spread[2] == pytest.approx(1000 / 95_123_500)
    view.set_trades([_trade(0, "buy", 3.0), _trade(1, "sell", 2.0)])
    assert view.summary() == (
        "Best ask 95,124,000, best bid 95,123,000, spread 1,000  1 tick  0.001 %, trade strength 150.0 %."
    )


def test_asks_lie_above_bids_and_bars_grow_away_from_the_spread(view: BookView) -> None:
    t = theme.current()
    view.set_book(_book())
    asks, bids = _rows_with(view, t.down), _rows_with(view, t.up)
    assert asks and bids and max(asks) < min(bids)
    sums = where(view.grab().toImage(), t.mixed(t.down, 0.14)).sum(axis=1)
    assert sums[min(asks)] > sums[max(asks)]


def test_a_level_keeps_its_place_whatever_the_other_side_has(view: BookView) -> None:
    full = _book()
    view.set_book(full)
    places = {view.price_at(y): y for y in range(view.height())}
    view.set_book(Book(INSTRUMENT, 0, 0, True, full.bids, full.asks[:2]))  # thin: the rest stays blank
    assert {price: y for price, y in places.items() if price in dict(full.bids)} == {
        price: y for price, y in ((view.price_at(y), y) for y in range(view.height())) if price in dict(full.bids)
    }
    assert view.price_at(places[full.asks[1][0]]) == full.asks[1][0]
    assert view.price_at(places[full.asks[2][0]]) is None
    view.set_book(Book(INSTRUMENT, 0, 0, True, [], []))
    assert view.spread() is None and all(view.price_at(y) is None for y in range(view.height()))


def _enter(view: BookView, y: int) -> None:
    place = QPointF(100, y)
    QApplication.sendEvent(view, QEnterEvent(place, place, QPointF(view.mapToGlobal(place))))


def test_it_stands_still_under_the_mouse_and_then_shows_the_newest(view: BookView) -> None:
    view.set_book(_book())
    y = next(y for y in range(view.height()) if view.price_at(y) == MIDDLE)
    _enter(view, y)
    assert view.paused
    for step in range(3):
        view.set_book(_book(middle=MIDDLE + 7000 * (step + 1)))
    assert view.price_at(y) == MIDDLE
    QApplication.sendEvent(view, QEvent(QEvent.Type.Leave))
    assert view.price_at(y) == MIDDLE + 21_000
    _enter(view, 5)  # the head is no price: no reason to stop
    view.set_book(_book())
    assert view.price_at(y) == MIDDLE


def test_a_click_and_enter_choose_a_price(view: BookView, qtbot: QtBot) -> None:
    view.set_book(_book())
    y = next(y for y in range(view.height()) if view.price_at(y) == MIDDLE - 3000)
    with qtbot.waitSignal(view.price_chosen) as chosen:
        QTest.mouseClick(view, Qt.MouseButton.LeftButton, pos=QPoint(100, y + 3))
    assert chosen.args == [MIDDLE - 3000]
    view.setFocus()
    QTest.keyClick(view, Qt.Key.Key_Down)
    QTest.keyClick(view, Qt.Key.Key_Down)
    with qtbot.waitSignal(view.price_chosen) as chosen:
        QTest.keyClick(view, Qt.Key.Key_Return)
    assert chosen.args == [MIDDLE - 1000]
    assert view.accessibleDescription() == "95,122,000"
    for _n in range(3):
        QTest.keyClick(view, Qt.Key.Key_Up)
    with qtbot.waitSignal(view.price_chosen) as chosen:
        QTest.keyClick(view, Qt.Key.Key_Return)
    assert chosen.args == [MIDDLE + 2000]


def test_grouped_rows_are_chosen_and_shown_on_the_coarser_grid(view: BookView) -> None:
    view.set_book(_book())
    view.set_grouping(5)
    prices = [price for price in dict.fromkeys(view.price_at(y) for y in range(view.height())) if price is not None]
    assert all(price % 5000 == 0 for price in prices)
    assert prices == sorted(prices, reverse=True)


def test_a_small_place_shows_fewer_levels_on_both_sides(view: BookView) -> None:
    view.set_book(_book())
    view.resize(180, 220)
    prices = {view.price_at(y) for y in range(view.height())} - {None}
    asks = {price for price in prices if price is not None and price > MIDDLE}
    assert len(asks) == len(prices) - len(asks) >= 3


def test_figures_of_a_coin_that_costs_nothing_stay_in_their_columns(view: BookView) -> None:
    t = theme.current()
    view.set_book(_book(size=1_649_153_320.0))
    picture = view.grab().toImage()
    price, size, total, _wide = view._columns()
    for colour, left, right in ((t.text, price, size), (t.secondary, size, total)):
        column = where(picture, colour)[60 : view.height() // 2 - 20, left + 2 : right]
        assert column.any() and not column[:, :4].any()


def test_before_the_first_book_it_says_so(view: BookView) -> None:
    waiting = view.grab().toImage()
    assert count(waiting, theme.current().secondary) > 20
    view.set_message("Upbit has no book for it.")
    assert view.grab().toImage() != waiting and view.summary() == "Upbit has no book for it."
    view.set_book(_book())
    view.set_instrument(INFO)
    assert view.spread() is None


def test_the_tape_runs_newest_first_and_keeps_what_one_looks_at(look: QApplication, qtbot: QtBot) -> None:
    tape = TapeView(zone=ZoneInfo("Asia/Seoul"))
    qtbot.addWidget(tape)
    tape.resize(280, 200)
    tape.set_instrument(INFO)
    with qtbot.waitExposed(tape):
        tape.show()
    trades = [_trade(n, "buy" if n % 3 else "sell", price=MIDDLE + n * 1000) for n in range(300)]
    tape.set_trades(trades[:100])
    assert tape.keys()[:2] == [99, 98] and len(tape.keys()) == 100
    assert tape.copied(99) == "2020-02-20 20:20:39\t95,222,000\t1"
    QApplication.processEvents()
    tape.verticalScrollBar().setValue(tape.verticalScrollBar().maximum())
    looked_at = tape.key_at(QPoint(10, 10))
    assert looked_at != 99
    tape.set_trades(trades[:107])
    assert tape.key_at(QPoint(10, 10)) == looked_at
    tape.set_trades(trades)
    assert len(tape.keys()) == 200
    tape.select(299)
    with qtbot.waitSignal(tape.price_chosen) as chosen:
        QTest.keyClick(tape, Qt.Key.Key_Return)
    assert chosen.args == [MIDDLE + 299_000]
