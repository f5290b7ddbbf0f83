"""The shell: pages, actions and keys, search, messages, closing, the tray."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QLineEdit
from pytestqt.qtbot import QtBot

from tests.ui.fakes import FakeEngine
from watchhamster.core.ports import StoreError
from watchhamster.core.text import Text
from watchhamster.monitor.status import StatusNode, node
from watchhamster.ui import theme
from watchhamster.ui.finder import Choice, instruments_matching, rank
from watchhamster.ui.language import switch_language
from watchhamster.ui.shell import PAGES, UNDO_S, Shell
from watchhamster.ui.tray import Tray, first_lines, state_icon


@pytest.fixture
def shell(look: QApplication, qtbot: QtBot) -> Iterator[Shell]:
    shell = Shell(simulated="demo")
    qtbot.addWidget(shell, before_close_func=lambda s: setattr(s, "_leaving", True))
    for name in PAGES:
        shell.add_page(name, QLabel(name))
    shell.show()
    shell.activateWindow()
    QTest.qWaitForWindowActive(shell)
    yield shell
    theme.changed.disconnect(shell._themed)


def key(shell: Shell, text: str) -> None:
    """Press a key sequence as a person would."""
    sequence: Any = QKeySequence(text)
    combination = sequence[0]
    QTest.keyClick(QApplication.focusWidget() or shell, combination.key(), combination.keyboardModifiers())


def test_the_first_page_replaces_the_outline_and_keys_turn_pages(shell: Shell) -> None:
    assert shell.current_page() == "desk"
    assert shell.stack.count() == len(PAGES)
    for i, name in enumerate(PAGES, 1):
        key(shell, f"Alt+{i}")
        assert shell.current_page() == name


def test_every_action_is_in_the_palette_with_its_key_and_runs_from_there(shell: Shell) -> None:
    ran = []
    shell.add_action("feed", lambda: "Feed the hamster", lambda: ran.append(1), "Ctrl+Shift+H")
    key(shell, "Ctrl+K")
    field = shell.palette_box.field
    assert field.hasFocus()
    QTest.keyClicks(field, "feed ham")
    assert [(c.title, c.key) for c in field.offered()][:1] == [("Feed the hamster", "Ctrl+Shift+H")]
    QTest.keyClick(field, Qt.Key.Key_Return)
    assert ran == [1]
    assert not shell.palette_box.isVisible()


def test_escape_leaves_the_palette_and_gives_the_focus_back(shell: Shell) -> None:
    shell.top.search.setEnabled(True)
    shell.top.search.setFocus()
    key(shell, "Ctrl+K")
    QTest.keyClick(shell.palette_box.field, Qt.Key.Key_Escape)
    assert not shell.palette_box.isVisible()
    assert shell.focusWidget() is shell.top.search


def test_no_two_actions_share_a_key(shell: Shell) -> None:
    keys = [action.shortcut().toString() for action in shell.actions() if not action.shortcut().isEmpty()]
    assert len(keys) == len(set(keys))


def test_slash_and_plain_typing_start_a_search(shell: Shell) -> None:
    taken: list[str] = []

    def choices(query: str) -> list[Choice]:
        return [Choice(query.upper(), take=lambda: taken.append(query))]

    shell.top.choices = choices
    shell.top.search.setEnabled(True)
    shell.stack.setFocus()
    key(shell, "/")
    assert shell.top.search.hasFocus()
    assert shell.top.search.text() == ""
    shell.top.search.leave()
    shell.stack.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    shell.stack.setFocus()
    key(shell, "b")
    assert shell.top.search.text() == "b"
    QTest.keyClicks(shell.top.search, "tc")
    QTest.keyClick(shell.top.search, Qt.Key.Key_Return)
    assert taken == ["btc"]


def test_typing_into_a_field_is_not_a_search(shell: Shell) -> None:
    shell.top.search.setEnabled(True)
    field = QLineEdit(shell)
    field.show()
    field.setFocus()
    QTest.keyClicks(field, "btc")
    assert field.text() == "btc"
    assert not shell.top.search.hasFocus()


def test_the_list_of_choices_walks_by_arrows_and_ends(shell: Shell) -> None:
    taken: list[int] = []
    shell.top.choices = lambda _query: [Choice(str(i), take=lambda i=i: taken.append(i)) for i in range(3)]  # type: ignore[misc]
    shell.top.search.setEnabled(True)
    shell.start_search()
    for _press in range(5):
        QTest.keyClick(shell.top.search, Qt.Key.Key_Down)
    QTest.keyClick(shell.top.search, Qt.Key.Key_Up)
    QTest.keyClick(shell.top.search, Qt.Key.Key_Return)
    assert taken == [1]


@pytest.mark.parametrize(
    ("query", "symbol"),
    [
        ("btc", "KRW-BTC"),
        ("비트", "KRW-BTC"),
        ("shiba", "KRW-SHIB"),
        ("inu", "KRW-SHIB"),
        ("krw-sol", "KRW-SOL"),
        ("이더", "KRW-ETH"),
        ("upbit:KRW-ADA", "KRW-ADA"),
    ],
)
def test_instruments_are_found_by_symbol_korean_and_english(query: str, symbol: str, engine: FakeEngine) -> None:
    assert instruments_matching(query, engine._infos.values())[0].symbol == symbol


def test_the_watch_list_comes_first_among_equals_and_nonsense_finds_nothing(engine: FakeEngine) -> None:
    listed = ["upbit:KRW-TRX", "upbit:KRW-DOT"]
    assert [i.instrument for i in instruments_matching("", engine._infos.values(), listed)][:2] == listed
    assert instruments_matching("zzzz", engine._infos.values()) == []
    assert rank("btc", "KRW-BTC") == 2
    assert rank("btc", "BTC") == 0


# ---------------------------------------------------------------- messages


def test_a_message_waits_for_its_turn_and_its_button_acts_once(shell: Shell) -> None:
    done: list[str] = []
    line = shell.messages
    assert not line.isVisible()
    line.say(lambda: "first", act=lambda: "Undo", run=lambda: done.append("undone"), gone=lambda: done.append("gone"))
    line.say(lambda: "second")
    assert "second" in line.text() and "1" in line.text()
    line._next()
    assert line.text() == "first"
    line.press()
    assert done == ["undone"]
    assert not line.isVisible()


def test_an_undo_that_nobody_used_is_final_after_its_time(shell: Shell) -> None:
    done: list[str] = []
    shell.messages.say(lambda: "removed", act=lambda: "Undo", seconds=UNDO_S, gone=lambda: done.append("gone"))
    for _second in range(UNDO_S - 1):
        shell.messages._tick()
    assert done == []
    shell.messages._tick()
    assert done == ["gone"]
    assert shell.messages.text() == ""


def test_leaving_settles_what_could_still_be_undone(shell: Shell) -> None:
    done: list[int] = []
    for i in range(3):
        shell.messages.say(lambda: "removed", gone=lambda i=i: done.append(i))  # type: ignore[misc]
    shell.messages.finish()
    assert sorted(done) == [0, 1, 2]


def test_a_failure_is_told_with_its_hint(shell: Shell) -> None:
    shell.tell(StoreError("full", Text("The disk is full."), Text("Make room.")))
    assert shell.messages.text() == "The disk is full. Make room."
    shell.tell(ValueError("oops"))
    assert "our fault" in shell.messages.text() and "oops" in shell.messages.text()


# ---------------------------------------------------------------- closing


def test_closing_hides_only_where_somebody_can_call_it_back(shell: Shell) -> None:
    hidden, quits = [], []
    shell.hidden_to_tray.connect(lambda: hidden.append(1))
    shell.quit_wanted.connect(lambda: quits.append(1))
    shell.close()
    assert (shell.isVisible(), hidden, quits) == (True, [], [1])
    shell.may_hide = lambda: True
    shell.close()
    assert (shell.isVisible(), hidden, quits) == (False, [1], [1])
    shell.come_forward()
    assert shell.isVisible()
    shell.leave()
    assert not shell.isVisible()


# ---------------------------------------------------------------- status line


def test_a_part_of_the_status_line_comes_changes_and_goes(shell: Shell) -> None:
    line, clicked = shell.status, list[str]()
    line.clicked.connect(clicked.append)
    line.show_part("upbit", "upbit 38 ms", "ok")
    line.show_part("mute", "", "muted", at_end=True)
    assert (line.text("upbit"), line.text("mute")) == ("upbit 38 ms", "")
    line.show_part("mute", "muted until 14:00", "muted", at_end=True)
    part = line._parts["mute"]
    assert part.accessibleName() == "muted until 14:00 Muted"
    part.click()
    assert clicked == ["mute"]
    line.show_part("mute", "", "muted")
    assert line.text("mute") == ""


# ---------------------------------------------------------------- tray


class Available:
    """A tray that may come late."""

    def __init__(self, there: bool) -> None:
        self.there = there

    def __call__(self) -> bool:
        return self.there


def test_without_a_tray_nothing_claims_to_be_in_it(shell: Shell) -> None:
    available = Available(False)
    tray = Tray(shell, available)
    came: list[int] = []
    tray.came.connect(lambda: came.append(1))
    assert not tray.is_there()
    available.there = True
    tray._look_for_tray()
    assert tray.is_there()
    assert came == [1]
    tray.remove()
    assert not tray.is_there()


def tree(*children: StatusNode) -> StatusNode:
    return node("watchhamster", None, *children)


def test_the_tray_says_the_worst_first(shell: Shell, engine: FakeEngine) -> None:
    tray = Tray(shell, Available(True))
    tray.show_state(engine.tree, muted=False)
    lines = tray.tooltip().split("\n")
    assert len(lines) == 3
    assert lines[0].startswith("▲")
    assert "almost at its limit" in "\n".join(lines)
    tray.remove()


def test_first_lines_of_a_tree_that_is_well() -> None:
    calm = tree(node("feeds", None, node("upbit", "ok")))
    assert first_lines(calm, 3)[0] == "● WatchHamster: OK"


@pytest.mark.parametrize("state", ["ok", "pending", "warning", "critical", "unknown", "muted"])
def test_each_state_has_an_icon_of_its_own(look: QApplication, state: Any) -> None:
    def pixels(name: Any) -> bytes:
        return bytes(state_icon(name).pixmap(32, 32).toImage().constBits())

    others = {"ok", "pending", "warning", "critical", "unknown", "muted"} - {state}
    assert all(pixels(state) != pixels(other) for other in others)


def test_the_tray_menu_asks_for_everything_it_offers(shell: Shell) -> None:
    tray = Tray(shell, Available(True))
    asked: list[object] = []
    tray.open_wanted.connect(lambda: asked.append("open"))
    tray.what_is_wrong_wanted.connect(lambda: asked.append("wrong"))
    tray.status_wanted.connect(lambda: asked.append("status"))
    tray.mute_wanted.connect(asked.append)
    tray.quit_wanted.connect(lambda: asked.append("quit"))
    for action in tray.menu().actions():
        action.trigger()
    assert asked == ["open", "wrong", "status", 300, 3600, "today", "quit"]
    tray.show_state(tree(node("upbit", "ok")), muted=True)
    assert "Hear alerts again" in [action.text() for action in tray.menu().actions()]
    tray.remove()


# ---------------------------------------------------------------- languages and sizes


@pytest.mark.parametrize("language", ["en", "ko", "qps"])
@pytest.mark.parametrize("percent", [100, 200])
def test_the_top_bar_fits_1024(shell: Shell, qapp: QApplication, language: str, percent: int) -> None:
    theme.apply(qapp, "dark", "west", percent)
    switch_language(qapp, language)
    shell.top.instrument.show_instrument("비트코인캐시에스브이", "KRW-BCHSV")
    shell.top.instrument.show_price("95,123,000", "▲ +12.23 %", 0.1, "")
    shell.top.clock.show_time("14:03:12 KST")
    shell.resize(1024, 640)
    qapp.processEvents()
    assert shell.width() == 1024
    top = shell.top
    parts = [w for w in (top.search, top.instrument, top.timeframes, top.clock) if w.isVisible()]
    edges = [(w.geometry().left(), w.geometry().right()) for w in parts]
    assert all(a[1] < b[0] for a, b in itertools.pairwise(edges)), edges
    assert edges[-1][1] <= top.width()
    assert top.timeframes.sizeHint().width() <= top.timeframes.width() + 1
    buttons = shell.rail.findChildren(type(shell.rail._buttons["desk"]))
    assert all(b.width() >= b.sizeHint().width() for b in buttons)
    assert shell.rail.mapTo(shell, QPoint(0, shell.rail.height())).y() <= shell.height()


def test_texts_follow_the_language_while_it_runs(shell: Shell, qapp: QApplication) -> None:
    before = shell.rail._buttons["desk"].text()
    shell.messages.say(lambda: theme.current().sign("warning").word)
    switch_language(qapp, "qps")
    assert shell.rail._buttons["desk"].text() not in ("", before)
    assert shell.action("quit").text().startswith("[")
    assert shell.top.search.placeholderText().startswith("[")
    switch_language(qapp, "en")
    assert shell.rail._buttons["desk"].text() == before
