"""A whole window around an engine: what a person does is asked of the engine, what happens is shown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QEvent, QPoint, Qt
from PySide6.QtGui import QAccessible, QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QLabel, QWidget

from tests.ui.conftest import Drive, settled, until
from tests.ui.fakes import NOW_NS, FakeEngine, feed_down
from watchhamster.core.bars import Bars
from watchhamster.core.timeframes import SECOND_NS
from watchhamster.engine.away import Away, Gap
from watchhamster.formula import Library
from watchhamster.monitor.alerts import Rule
from watchhamster.ui import sound, theme
from watchhamster.ui.bridge import Errands
from watchhamster.ui.language import switch_language
from watchhamster.ui.session import Session
from watchhamster.ui.shell import PAGES, Shell
from watchhamster.ui.start import LogLines, Look

BTC, ETH = "upbit:KRW-BTC", "upbit:KRW-ETH"


@asynccontextmanager
async def window(
    app: QApplication, engine: FakeEngine, home: Path | None = None, size: tuple[int, int] = (1440, 900)
) -> AsyncIterator[Session]:
    """A window that shows this engine, all read and painted."""
    shell = Shell(simulated="demo")
    shell.resize(*size)
    session = None
    try:
        async with asyncio.TaskGroup() as group:
            errands = Errands(group, shell.tell)
            session = Session(app, shell, engine, errands, Look(theme="dark", language="en"), home, LogLines())  # type: ignore[arg-type]
            session.started()
            shell.show()
            await settled(errands)
            session.bridge.beat()
            session.bridge.beat()
            await asyncio.sleep(0.02)
            yield session
            await session.close()
            await settled(errands)
            errands.close()
    finally:
        shell.leave()
        shell.deleteLater()
        app.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)


@pytest.fixture
def inside(
    drive: Drive[Any], look: QApplication, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Run a test's steps inside a window."""
    monkeypatch.setattr(sound, "find_player", lambda: None)

    def run(steps: Callable[[Session], Awaitable[None]], **options: Any) -> None:
        async def case() -> None:
            async with window(look, engine, **options) as session:
                await steps(session)

        drive(case())

    return run


def test_the_first_instrument_of_the_list_is_shown_everywhere(inside: Any, engine: FakeEngine, tmp_path: Path) -> None:
    async def steps(s: Session) -> None:
        assert engine.focused == (BTC, "1m")
        assert [row.instrument for row in s.watch_list.rows()] == engine.watch_list()
        assert s.watch_list.view.current_key() == BTC
        assert "candles" in s.chart.summary()
        assert "Bitcoin KRW-BTC" in s.shell.top.instrument.accessibleName()
        assert s.shell.top.clock.accessibleName() == "13:43:12 KST"
        assert s.shell.status.text("upbit").startswith("upbit")
        assert s.shell.status.text("rate") == "1,204 msg/s"
        assert s.shell.status.text("simulated")

    inside(steps, home=tmp_path)


def test_trades_come_to_price_book_tape_and_list(inside: Any, engine: FakeEngine) -> None:
    async def steps(s: Session) -> None:
        engine.tick(BTC)
        s.bridge.beat()
        s.bridge.beat()
        price = engine.board.price(BTC)
        shown = f"{price:,.0f}"
        assert shown in s.shell.top.instrument.accessibleName()
        assert shown in s.book.summary()
        assert len(s.tape.keys()) == 1
        assert s.watch_list.rows()[0].price == price

    inside(steps)


def test_search_takes_an_instrument_in_hand(inside: Any, engine: FakeEngine) -> None:
    async def steps(s: Session) -> None:
        s.shell.start_search("이더")
        assert s.shell.top.search.offered()[0].detail == "KRW-ETH"
        s.shell.top.search.take(0)
        await settled(s.errands)
        assert s.instrument == ETH
        assert engine.focused == (ETH, "1m")
        assert ("bars", ETH, "1m") in [asked[:3] for asked in engine.asked]

    inside(steps)


def test_timeframes_by_key_and_button(inside: Any, engine: FakeEngine) -> None:
    async def steps(s: Session) -> None:
        s.shell.action("timeframe-1h").trigger()
        await settled(s.errands)
        assert engine.focused == (BTC, "1h")
        s.shell.top.timeframes._buttons["1d"].click()
        await settled(s.errands)
        assert engine.focused == (BTC, "1d")
        assert s.shell.action("timeframe-1m").shortcut().toString() == "Ctrl+1"

    inside(steps)


def test_an_answer_for_a_series_no_longer_in_hand_is_dropped(inside: Any, engine: FakeEngine) -> None:
    async def steps(s: Session) -> None:
        gate = asyncio.Event()
        real = engine.bars

        async def slow(instrument: str, *rest: Any) -> Any:
            if instrument == ETH:
                await gate.wait()
            return await real(instrument, *rest)

        engine.bars = slow  # type: ignore[method-assign, assignment]
        s.choose(ETH)
        s.choose("upbit:KRW-XRP")
        gate.set()
        await settled(s.errands)
        assert "KRW-XRP" in s.chart.summary()

    inside(steps)


def test_older_history_is_asked_for_when_one_goes_back(inside: Any, engine: FakeEngine) -> None:
    async def steps(s: Session) -> None:
        first = min(asked[3] for asked in engine.asked if asked[:3] == ("bars", BTC, "1m"))
        s.chart.pan(-600)
        await settled(s.errands)
        assert min(asked[3] for asked in engine.asked if asked[:3] == ("bars", BTC, "1m")) < first
        assert len(s.chart._pyramid) > 700

    inside(steps)


# ---------------------------------------------------------------- alerts by price


def test_an_alert_is_made_at_a_price_moved_and_removed_with_undo(inside: Any, engine: FakeEngine) -> None:
    async def steps(s: Session) -> None:
        s.chart.alert_requested.emit(96_000_000.0, False)
        await settled(s.errands)
        (rule,) = engine.rules()
        assert (rule.formula, rule.repeat, rule.forming, rule.sound) == ("high >= 96000000", False, True, True)
        assert rule.name == "Bitcoin ≥ 96,000,000"
        assert list(s.chart._lines) == [rule.id]

        s.chart.line_moved.emit(rule.id, 90_000_000.0)
        await settled(s.errands)
        (moved,) = engine.rules()
        assert (moved.id, moved.formula) == (rule.id, "low <= 90000000")

        s.chart.line_removed.emit(rule.id)
        await settled(s.errands)
        assert not engine.rules()[0].enabled  # it cannot fire while it may still come back
        assert list(s.chart._lines) == []
        s.shell.messages.press()
        await settled(s.errands)
        assert engine.rules() == [moved]
        assert list(s.chart._lines) == [rule.id]

        s.chart.line_removed.emit(rule.id)
        await settled(s.errands)
        s.shell.messages._next()
        await settled(s.errands)
        assert engine.rules() == []

    inside(steps)


def test_a_removal_nobody_undid_holds_when_the_window_is_left(
    inside: Any, engine: FakeEngine, drive: Drive[Any]
) -> None:
    async def steps(s: Session) -> None:
        s.chart.alert_requested.emit(96_000_000.0, True)
        await settled(s.errands)
        s.rules.remove(engine.rules()[0])
        await settled(s.errands)
        assert len(engine.rules()) == 1

    inside(steps)
    assert engine.rules() == []


def test_a_dragged_line_says_how_often_it_would_have_fired(inside: Any, engine: FakeEngine) -> None:
    async def steps(s: Session) -> None:
        s.chart.alert_requested.emit(96_000_000.0, False)
        await settled(s.errands)
        number = engine.rules()[0].id
        s.chart.line_dragging.emit(number, 95_900_000.0)
        s._drag_wait.timeout.emit()
        await settled(s.errands)
        assert "7 times" in s.chart._notes[number]
        tried = [asked[1] for asked in engine.asked if asked[0] == "try_rule"]
        assert tried[-1].formula == "high >= 95900000"

    inside(steps)


def test_a_click_in_the_book_only_offers_an_alert(inside: Any, engine: FakeEngine) -> None:
    async def steps(s: Session) -> None:
        s.book.price_chosen.emit(95_000_000.0)
        await settled(s.errands)
        assert engine.rules() == []
        assert "95,000,000" in s.shell.messages.text()
        s.shell.messages.press()
        await settled(s.errands)
        assert len(engine.rules()) == 1

    inside(steps)


# ---------------------------------------------------------------- what happens


def test_an_alert_is_counted_heard_said_and_marked(
    inside: Any, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    monkeypatch.setattr(sound, "play", lambda severity, player: heard.append(severity))

    async def steps(s: Session) -> None:
        engine.say(engine.alert(1, severity="critical"))
        s.bridge.beat()
        s.bridge.beat()
        assert heard == ["critical"]
        assert "95,123,000" in s.shell.messages.text()
        assert s.shell.rail._buttons["alerts"].number == 1
        assert len(s.chart._marks) == 1
        s.shell.messages.press()
        assert s.shell.current_page() == "alerts"
        await settled(s.errands)
        s.alerts_page.list.setFocus()
        QTest.keyClick(s.alerts_page.list, Qt.Key.Key_Space)
        await settled(s.errands)
        s.bridge.beat()
        s.bridge.beat()
        assert ("acknowledge", 1) in engine.asked
        assert s.shell.rail._buttons["alerts"].number == 0
        assert heard == ["critical"]  # an acknowledgement makes no sound

    inside(steps)


@pytest.mark.parametrize("how", ["muted", "setting", "rule"])
def test_sound_can_be_kept_off(inside: Any, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    heard: list[str] = []
    monkeypatch.setattr(sound, "play", lambda severity, player: heard.append(severity))

    async def steps(s: Session) -> None:
        if how == "muted":
            s.mute(300)
            await settled(s.errands)
        elif how == "setting":
            await engine.settings.set("sounds", False)
        engine.say(engine.alert(1, sound=how != "rule"))
        s.bridge.beat()
        s.bridge.beat()
        assert heard == []

    inside(steps)


def test_more_alerts_than_fit_are_read_from_the_store(inside: Any, engine: FakeEngine) -> None:
    async def steps(s: Session) -> None:
        for i in range(300):
            engine.say(engine.alert(i + 1))
        s.bridge.beat()
        s.bridge.beat()
        await settled(s.errands)
        assert [alert.id for alert in s.alerts.alerts()] == list(range(300, 0, -1))

    inside(steps)


def test_a_feed_that_is_down_dims_the_price_and_says_its_age(inside: Any, engine: FakeEngine) -> None:
    async def steps(s: Session) -> None:
        engine.say(feed_down())
        engine.clock.at_ns += 12 * SECOND_NS
        s.bridge.beat()
        s.bridge.beat()
        s.slow_beat()
        assert "12 s old" in s.shell.top.instrument.accessibleName()
        s.watch_list.refresh()
        assert {row.state for row in s.watch_list.rows()} == {"warning"}

    inside(steps)


@pytest.mark.parametrize(
    ("how", "until_ns"),
    [
        (300, NOW_NS + 300 * SECOND_NS),
        (3600, NOW_NS + 3600 * SECOND_NS),
        ("today", 1_763_737_200 * SECOND_NS),  # midnight in Seoul
    ],
)
def test_mute(inside: Any, engine: FakeEngine, how: Any, until_ns: int) -> None:
    async def steps(s: Session) -> None:
        s.mute(how)
        await settled(s.errands)
        assert engine.muted_until_ns == until_ns
        assert s.shell.status.text("mute").startswith("muted until")
        s.shell.status.clicked.emit("mute")
        await settled(s.errands)
        assert vars(engine)["muted_until_ns"] is None
        assert s.shell.status.text("mute") == ""

    inside(steps)


def test_what_happened_while_away_is_said_until_dismissed(inside: Any, engine: FakeEngine) -> None:
    gap = Gap(NOW_NS - 11_520 * SECOND_NS, NOW_NS, "off")
    told = [Away(gap, fired=2, late=1, unknown_s=840)]

    async def away() -> Any:
        return told.pop() if told else None

    engine.away = away  # type: ignore[method-assign]

    async def steps(s: Session) -> None:
        await until(lambda: s.shell.away.isVisible(), "the banner shows")
        for _second in range(60):
            s.shell.away._tick()
        assert "3 h 12 m" in s.shell.away.text()
        assert "14 m" in s.shell.away.text()
        s.shell.away.press()
        assert s.shell.current_page() == "alerts"

    inside(steps)


# ---------------------------------------------------------------- watch list


def test_the_watch_list_is_edited_with_undo(inside: Any, engine: FakeEngine) -> None:
    async def steps(s: Session) -> None:
        before = engine.watch_list()
        s.watch_list.remove(ETH)
        await settled(s.errands)
        assert engine.watch_list() == [name for name in before if name != ETH]
        s.shell.action("undo").trigger()
        await settled(s.errands)
        assert engine.watch_list() == before
        s.shell.action("undo").trigger()  # there is nothing left to take back
        s.watch_list.shift(ETH, -1)
        await settled(s.errands)
        assert engine.watch_list()[:2] == [ETH, BTC]
        s.shell.action("watch-this").trigger()
        await settled(s.errands)
        assert BTC not in engine.watch_list()

    inside(steps)


def test_a_narrow_list_keeps_name_price_and_change(inside: Any) -> None:
    async def steps(s: Session) -> None:
        def titles() -> list[str]:
            view = s.watch_list.view
            return [c.title() for i, c in enumerate(view._columns) if not view.isColumnHidden(i)]

        s.watch_list.view.resize(400, 300)
        assert titles() == ["", "Name", "", "Price", "Change", "Value"]
        s.watch_list.view.resize(s.watch_list.minimumWidth(), 300)
        assert titles() == ["", "Name", "Price", "Change"]

    inside(steps)


# ---------------------------------------------------------------- settings, language, layout


def test_settings_act_at_once(inside: Any, engine: FakeEngine, tmp_path: Path) -> None:
    async def steps(s: Session) -> None:
        await engine.settings.set("theme", "light")
        assert theme.current().name == "light"
        await engine.settings.set("text_size", 150)
        assert theme.current().text_percent == 150
        await engine.settings.set("language", "ko")
        assert s.shell.top.instrument.accessibleName().startswith("비트코인")
        assert s.watch_list.rows()[0].name == "비트코인"
        await engine.settings.set("time_zone", "America/New_York")
        assert s.shell.top.clock.accessibleName().endswith("EST")
        assert Look.read(tmp_path).language == "ko"

    inside(steps, home=tmp_path)


def test_the_desk_comes_back_as_it_was_left(inside: Any, engine: FakeEngine, tmp_path: Path) -> None:
    async def leave(s: Session) -> None:
        s.choose(ETH, "1h")
        s.desk.dock("trades").close()
        await settled(s.errands)

    async def come_back(s: Session) -> None:
        assert (s.instrument, s.timeframe) == (ETH, "1h")
        assert s.desk.dock("trades").isHidden()
        assert not s.desk.dock("order-book").isHidden()
        s.shell.action("reset-desk").trigger()
        assert not s.desk.dock("trades").isHidden()

    inside(leave, home=tmp_path)
    inside(come_back, home=tmp_path)


@pytest.mark.parametrize("layout", [b"", b"{}", b'{"instrument": "upbit:KRW-GONE", "state": "AAAA"}'])
def test_a_layout_of_another_time_does_no_harm(inside: Any, engine: FakeEngine, layout: bytes, tmp_path: Path) -> None:
    engine._layouts["desk"] = layout

    async def steps(s: Session) -> None:
        assert s.instrument == BTC

    inside(steps, home=tmp_path)


def test_an_empty_watch_list_says_how_to_fill_it(inside: Any, engine: FakeEngine) -> None:
    engine._watch_list = []

    async def steps(s: Session) -> None:
        assert "Press /" in s.chart.summary()
        assert s.watch_list.rows() == []

    inside(steps)


def test_a_notification_is_shown_by_the_window_only_while_it_is_in_sight(inside: Any, engine: FakeEngine) -> None:
    async def steps(s: Session) -> None:
        assert engine.on_notify is not None and engine.on_show is not None
        assert engine.on_notify("BTC", "above 95 M")
        s.shell.hide()
        assert not engine.on_notify("BTC", "above 95 M")  # offscreen there is no tray either
        engine.on_show()
        assert s.shell.isVisible()

    inside(steps)
    assert engine.on_notify is None


def test_what_is_wrong_leads_to_the_worst_line(inside: Any) -> None:
    async def steps(s: Session) -> None:
        s.shell.hide()
        s.tray.what_is_wrong_wanted.emit()
        assert s.shell.isVisible()
        assert s.shell.current_page() == "watch"
        worst: Any = s.tree._tree.currentItem()
        assert "History" in worst.text(0)

    inside(steps)


def test_a_failing_errand_is_said_and_the_window_lives(inside: Any, engine: FakeEngine) -> None:
    async def broken(until_ns: int | None) -> None:
        raise RuntimeError("boom")

    engine.mute = broken  # type: ignore[method-assign]

    async def steps(s: Session) -> None:
        s.mute(300)
        await settled(s.errands)
        assert "boom" in s.shell.messages.text()

    logging.getLogger("watchhamster.ui").disabled = True
    try:
        inside(steps)
    finally:
        logging.getLogger("watchhamster.ui").disabled = False


# ---------------------------------------------------------------- for everyone


def focusable(root: QWidget) -> list[QWidget]:
    return [
        w
        for w in [root, *root.findChildren(QWidget)]
        if w.focusPolicy() != Qt.FocusPolicy.NoFocus and w.isVisibleTo(root) and w.focusProxy() is None
    ]


def test_whatever_takes_the_focus_has_a_name(inside: Any, engine: FakeEngine) -> None:
    engine.say(engine.alert(1))

    async def steps(s: Session) -> None:
        nameless = []
        form = s.rules.edit(None)
        for root, page in [*((s.shell, name) for name in PAGES), (form, "rule form")]:
            if page in PAGES:
                s.shell.go(page)
            await settled(s.errands)
            for widget in focusable(root):
                interface = QAccessible.queryAccessibleInterface(widget)
                if interface is None or not interface.text(QAccessible.Text.Name).strip():
                    nameless.append(f"{page}: {type(widget).__name__} {widget.objectName()}")
        form.close()
        assert nameless == []

    inside(steps)


def clipped(root: QWidget) -> list[str]:
    """Labels and buttons that are narrower than the words they hold (those that wrap may be)."""
    found = []
    for widget in root.findChildren(QWidget):
        if not widget.isVisible() or not isinstance(widget, QLabel | QAbstractButton) or not widget.text():
            continue
        if isinstance(widget, QLabel) and widget.wordWrap():
            continue
        if widget.width() + 1 < widget.minimumSizeHint().width():
            found.append(f"{type(widget).__name__} {widget.text()!r} {widget.width()} < {widget.sizeHint().width()}")
    return found


@pytest.mark.parametrize("language", ["en", "ko", "qps"])
def test_nothing_is_clipped_at_1024(inside: Any, look: QApplication, language: str) -> None:
    async def steps(s: Session) -> None:
        switch_language(look, language)
        found = []
        for page in PAGES:
            s.shell.go(page)
            s.slow_beat()
            await asyncio.sleep(0.02)
            found += [f"{page}: {text}" for text in clipped(s.shell)]
        assert s.shell.size().width() == 1024
        assert found == []

    inside(steps, size=(1024, 640))


@pytest.mark.parametrize("language", ["ko", "qps"])
def test_a_switch_of_language_reaches_every_page(inside: Any, look: QApplication, language: str) -> None:
    """What is said in English before the switch must not be left anywhere after it."""

    def texts(s: Session) -> set[str]:
        said: set[str] = set()
        for widget in s.shell.findChildren(QWidget):
            if not widget.isVisibleTo(s.shell):
                continue  # Qt keeps buttons of its own there, and speaks for them itself
            if isinstance(widget, QLabel | QAbstractButton) and widget.text():
                said.add(widget.text())
            if widget.accessibleName():
                said.add(widget.accessibleName())
        return said

    async def steps(s: Session) -> None:
        english = {text for text in texts(s) if any(c.isascii() and c.isalpha() for c in text)}
        switch_language(look, language)
        s._retell()
        left = english & texts(s)
        names = {"1m", "5m", "15m", "1h", "4h", "1d", "1w", "Dooray", "Webhook", "Dooray!"}
        proper = ("upbit", "KRW-", "MB", "38 ms", "default", "KST", "msg/s")
        kept = {text for text in left - names if not any(word in text for word in proper)}
        assert sorted(kept) == []

    inside(steps)


def test_the_context_menu_of_the_list_holds_what_applies(inside: Any) -> None:
    async def steps(s: Session) -> None:
        menu = s.watch_list.menu(BTC)
        assert len([action for action in menu.actions() if action.text()]) == 4
        menu.deleteLater()
        beside = s.watch_list.menu(None)
        assert len([action for action in beside.actions() if action.text()]) == 1
        beside.deleteLater()

    inside(steps)


def test_a_saved_formula_is_a_line_on_the_chart(inside: Any, engine: FakeEngine) -> None:
    """Chosen in the chart's menu, it stands in the legend with the average that the chart reckons itself."""
    definitions = {"trend": "trend(x, n=20) = sma(x, n)", "dear": "dear(x) = x > 1", "broken": "broken(x) = nothing(x)"}
    engine.library = lambda: Library(definitions)  # type: ignore[method-assign]

    async def steps(s: Session) -> None:
        def titles() -> list[str]:
            menu = s.chart.menu_at(QPoint(10, 10))
            found = [action.text() for action in menu.actions() if action.text().startswith("Line: ")]
            next(a for a in menu.actions() if a.text() == "Line: trend(close)").trigger()
            menu.deleteLater()
            return found

        whole = await engine.bars(BTC, "1m", 0, NOW_NS)

        async def same(instrument: str, timeframe_: str, since_ns: int, until_ns: int) -> Bars:
            return whole.between(since_ns, until_ns)

        engine.bars = same  # type: ignore[method-assign]
        s.load_chart()
        await settled(s.errands)
        assert titles() == ["Line: trend(close)"]
        await settled(s.errands)
        shown = s.chart.legend()
        own = shown.split("MA 20  ")[1].split()[0].replace(",", "")
        line = shown.split("trend(close)  ")[1].split()[0].replace(",", "")
        assert float(line) == pytest.approx(float(own), rel=1e-5)
        s.chart.grab()
        titles()
        await settled(s.errands)
        assert "trend(close)" not in s.chart.legend()

    inside(steps)


def test_rules_that_are_no_price_alert_draw_no_line(inside: Any, engine: FakeEngine) -> None:
    engine._rules = [Rule(id=1, name="x", formula="close > sma(close, 20)", instruments=(BTC,))]

    async def steps(s: Session) -> None:
        assert s.chart._lines == {}

    inside(steps)


def test_a_key_can_be_changed_is_kept_and_belongs_to_one_action(
    inside: Any, engine: FakeEngine, tmp_path: Path
) -> None:
    async def first(s: Session) -> None:
        keys = s.settings.keys
        theme_key, palette = s.shell.action("theme"), s.shell.action("palette")
        keys._take(theme_key, QKeySequence("Ctrl+K"))
        assert "Ctrl+K is already the key of: Commands." in keys.problem()
        assert theme_key.shortcut().isEmpty() and palette.shortcut() == QKeySequence("Ctrl+K")
        field = keys._fields["theme"][1]
        field.setKeySequence(QKeySequence("Ctrl+T"))
        field.editingFinished.emit()
        keys._take(palette, QKeySequence())  # none at all is a choice, too
        assert theme_key.shortcut() == QKeySequence("Ctrl+T") and not keys.problem()
        await settled(s.errands)

    async def second(s: Session) -> None:
        assert s.shell.action("theme").shortcut() == QKeySequence("Ctrl+T")
        assert s.shell.action("palette").shortcut().isEmpty()
        _label, _field, reset = s.settings.keys._fields["palette"]
        reset.click()
        assert s.shell.action("palette").shortcut() == QKeySequence("Ctrl+K")
        s.settings.search.setText("keys")
        assert not s.settings.keys.isHidden()

    inside(first, home=tmp_path)
    inside(second, home=tmp_path)


def test_a_setting_that_is_read_at_the_start_says_so(inside: Any) -> None:
    async def steps(s: Session) -> None:
        later = "A change holds from the next start on."
        assert s.settings.row("upbit_url").found_by().endswith(later)
        assert later not in s.settings.row("theme").found_by()

    inside(steps)


def test_a_message_moves_nothing(inside: Any) -> None:
    async def steps(s: Session) -> None:
        await asyncio.sleep(0.02)
        before = s.chart.size()
        s.shell.messages.say(lambda: "Something was said.", act=lambda: "Undo")
        await asyncio.sleep(0.02)
        assert s.shell.messages.isVisible() and s.chart.size() == before
        s.shell.messages.finish()

    inside(steps)
