"""A live table paints what changed, keeps its selection through every change, and leaves other keys to the window."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QContextMenuEvent, QGuiApplication, QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.modeltest import ModelTester
from pytestqt.qtbot import QtBot

from tests.ui.pixels import count
from watchhamster.ui import format as fmt
from watchhamster.ui import rows, theme
from watchhamster.ui.rows import Column, RowView

Row = dict[str, Any]


def _columns() -> list[Column]:
    return [
        Column(lambda: "Name", lambda r: r["name"], width=80, stretch=True, order=lambda r: r["name"]),
        Column(lambda: "", lambda _r: "", width=60, spark=lambda r: (r["version"], r["line"])),
        Column(
            lambda: "Price",
            lambda r: fmt.price(r["price"], decimals=0),
            align="right",
            width=90,
            order=lambda r: r["price"],
            exact=lambda r: fmt.exact(r["price"]),
            flash=True,
        ),
    ]


def _row(name: str, price: float | None = 100.0, version: int = 0) -> Row:
    return {"name": name, "price": price, "version": version, "line": np.arange(20.0) * (1 if version == 0 else -1)}


@pytest.fixture
def view(look: QApplication, qtbot: QtBot) -> RowView:
    theme.apply(look)
    view = RowView(_columns(), "Watch list")
    qtbot.addWidget(view)
    view.resize(320, 240)
    view.set_rows([(name, _row(name, 100.0 + i)) for i, name in enumerate("abcdef")])
    with qtbot.waitExposed(view):
        view.show()
    return view


def _picture(view: RowView) -> QImage:
    return view.viewport().grab().toImage()


def _strip(view: RowView, row: int) -> QImage:
    """The pixels of one row."""
    height = theme.current().row_height
    return _picture(view).copy(0, row * height, view.viewport().width(), height)


def test_only_the_changed_row_is_painted_again(view: RowView, qtbot: QtBot) -> None:
    painted: list[str] = []

    class Spy(RowView):
        def _paint_row(self, p, key, *rest):  # type: ignore[no-untyped-def]
            painted.append(key)
            super()._paint_row(p, key, *rest)

    spy = Spy(_columns(), "Watch list")
    qtbot.addWidget(spy)
    spy.resize(320, 240)
    spy.set_rows([(name, _row(name)) for name in "abcdef"])
    with qtbot.waitExposed(spy):
        spy.show()
    QApplication.processEvents()
    painted.clear()
    spy.update_row("b", _row("b", 101.0))
    spy.update_row("e", _row("e", 102.0))
    QApplication.processEvents()
    assert sorted(set(painted)) == ["b", "e"]


def test_a_new_price_shows_and_flashes_its_direction(
    view: RowView, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "_FLASH_MS", 1000)  # long enough to be seen on a busy machine
    t = theme.current()
    rising, falling = t.mixed(t.up, 0.28), t.mixed(t.down, 0.28)
    before = _strip(view, 1)
    view.update_row("b", _row("b", 250.0))
    assert count(_strip(view, 1), rising) > 100
    view.update_row("c", _row("c", 1.0))
    assert count(_strip(view, 2), falling) > 100
    qtbot.waitUntil(lambda: count(_strip(view, 1), rising) == 0)
    assert _strip(view, 1) != before


def test_nothing_flashes_where_motion_is_not_wished(view: RowView, look: QApplication) -> None:
    t = theme.apply(look, motion=False)
    _picture(view)
    view.update_row("b", _row("b", 250.0))
    assert count(_strip(view, 1), t.mixed(t.up, 0.28)) == 0


def test_an_unknown_value_is_three_dots_and_sorts_last(view: RowView) -> None:
    view.update_row("a", _row("a", None))
    assert view.copied("a") == "a\t…"
    view.sort_by(2)
    assert view.keys() == ["b", "c", "d", "e", "f", "a"]
    view.sort_by(2, descending=True)
    assert view.keys() == ["f", "e", "d", "c", "b", "a"]


def test_a_click_on_the_head_sorts_both_ways_and_back(view: RowView, qtbot: QtBot) -> None:
    head = view.horizontalHeader()

    def click() -> None:
        place = QPoint(head.sectionViewportPosition(2) + 10, 5)
        QTest.mouseClick(head.viewport(), Qt.MouseButton.LeftButton, pos=place)

    view.update_row("a", _row("a", 103.5))
    click()
    assert view.keys() == ["b", "c", "d", "a", "e", "f"]
    assert view.model().headerData(2, Qt.Orientation.Horizontal) == "▴ Price"
    click()
    assert view.keys() == ["f", "e", "a", "d", "c", "b"]
    click()
    assert view.keys() == list("abcdef")


def test_values_do_not_move_rows_until_asked(view: RowView) -> None:
    view.sort_by(2)
    view.update_row("a", _row("a", 999.0))
    assert view.keys() == list("abcdef")
    view.resort()
    assert view.keys() == list("bcdefa")


names = st.lists(st.sampled_from("abcdefghij"), unique=True, max_size=10)


@given(st.lists(st.tuples(names, st.booleans()), max_size=6), st.sampled_from("abcdef"))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_selection_stays_with_its_row(view: RowView, changes: list[tuple[list[str], bool]], chosen: str) -> None:
    view.sort_by(None)
    view.set_rows([(name, _row(name)) for name in "abcdef"])
    view.select(chosen)
    alive = True
    for order, sort in changes:
        view.set_rows([(name, _row(name, float(ord(name) * 7 % 13))) for name in order])
        if sort:
            view.sort_by(2)
        assert set(view.keys()) == set(order)
        alive = alive and chosen in order
        if alive:
            assert view.current_key() == chosen
        else:
            assert view.current_key() != chosen or chosen in order


def test_the_model_behaves_as_qt_expects(view: RowView, qtmodeltester: ModelTester) -> None:
    qtmodeltester.check(view.model())  # type: ignore[no-untyped-call]
    view.set_rows([(name, _row(name)) for name in "xaby"])
    view.set_rows([])


def test_keys_move_choose_and_copy_and_others_are_left_to_the_window(view: RowView, qtbot: QtBot) -> None:
    view.setFocus()
    view.select("b")
    QTest.keyClick(view, Qt.Key.Key_Down)
    assert view.current_key() == "c"
    assert "c" in view.accessibleDescription() and "Price 102" in view.accessibleDescription()
    with qtbot.waitSignal(view.row_chosen) as chosen:
        QTest.keyClick(view, Qt.Key.Key_Return)
    assert chosen.args == ["c"]
    QTest.keyClick(view, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QGuiApplication.clipboard().text() == "c\t102"
    QTest.keyClick(view, Qt.Key.Key_F)  # no row is searched for
    assert view.current_key() == "c"


def test_the_menu_is_asked_for_with_the_row_below_the_mouse(view: RowView, qtbot: QtBot) -> None:
    place = QPoint(20, theme.current().row_height * 3 + 4)
    with qtbot.waitSignal(view.menu_requested) as asked:
        event = QContextMenuEvent(QContextMenuEvent.Reason.Mouse, place, view.viewport().mapToGlobal(place))
        QApplication.sendEvent(view.viewport(), event)
    assert asked.args is not None and asked.args[0] == "d"
    assert view.current_key() == "d"


def test_a_stale_row_is_dim(view: RowView) -> None:
    t = theme.current()
    assert count(_strip(view, 2), t.text) > 0
    view.set_dim(["c"])
    assert count(_strip(view, 2), t.text) == 0 < count(_strip(view, 2), t.disabled)
    view.set_dim([])
    assert count(_strip(view, 2), t.text) > 0


def test_a_sparkline_is_drawn_again_only_for_a_new_version_or_theme(view: RowView, look: QApplication) -> None:
    left = view.columnViewportPosition(1)

    def spark(row: int) -> QImage:
        return _strip(view, row).copy(left, 2, 60, theme.current().row_height - 4)

    dark = spark(0)
    row = _row("a")
    row["line"] = -row["line"]
    view.update_row("a", row)  # the same version: what it was
    assert spark(0) == dark
    view.update_row("a", _row("a", version=1))
    falling = spark(0)
    assert falling != dark
    theme.apply(look, "light")
    assert spark(0) != falling


def test_no_rows_say_why(view: RowView) -> None:
    view.set_rows([])
    blank = _picture(view)
    view.set_empty("Nothing is watched yet.")
    assert _picture(view) != blank


def test_rows_grow_with_the_text(view: RowView, look: QApplication) -> None:
    theme.apply(look, text_percent=200)
    assert view.verticalHeader().defaultSectionSize() == 48
    assert view.font().pixelSize() == 26


def test_in_little_room_what_matters_least_goes_and_nothing_is_cut_off(look: QApplication, qtbot: QtBot) -> None:
    columns = [replace(column, optional=optional) for column, optional in zip(_columns(), (0, 2, 0), strict=True)]
    view = RowView(columns, "Watch list")
    qtbot.addWidget(view)
    view.set_rows([("a", _row("a"))])
    view.resize(300, 200)
    with qtbot.waitExposed(view):
        view.show()
    assert [view.isColumnHidden(i) for i in range(3)] == [False, False, False]
    for width in (200, 120):
        view.resize(width, 200)
        QApplication.processEvents()
        assert [view.isColumnHidden(i) for i in range(3)] == [False, True, False]
        assert view.columnViewportPosition(2) + view.columnWidth(2) <= view.viewport().width()
    view.resize(300, 200)
    QApplication.processEvents()
    assert not view.isColumnHidden(1)
