"""Inbox, status tree, settings, autostart, sounds: each through its widgets."""

from __future__ import annotations

import plistlib
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtTest import QAbstractItemModelTester
from PySide6.QtWidgets import QApplication, QLabel, QLineEdit, QPushButton, QSpinBox, QWidget
from pytestqt.qtbot import QtBot

from tests.ui.conftest import Drive, errands, settled, until
from tests.ui.fakes import NOW_NS, FakeEngine
from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text
from watchhamster.monitor.status import node
from watchhamster.settings import TABLE
from watchhamster.ui import sound, theme
from watchhamster.ui.autostart import Autostart, command
from watchhamster.ui.inbox import AlertBook, AlertDetail, AlertList
from watchhamster.ui.language import switch_language
from watchhamster.ui.settings_page import SettingsPage, choice_name, title_of
from watchhamster.ui.status_view import StatusView


def texts(widget: QWidget | None) -> list[str]:
    """Every label's text."""
    assert widget is not None
    return [label.text() for label in widget.findChildren(QLabel)]


# ---------------------------------------------------------------- inbox


def test_the_book_keeps_the_newest_first_and_updates_in_place(drive: Drive[Any], engine: FakeEngine) -> None:
    async def case() -> None:
        async with errands() as (work, _told):
            book = AlertBook(engine, work)  # type: ignore[arg-type]
            tester = QAbstractItemModelTester(book, QAbstractItemModelTester.FailureReportingMode.Fatal)
            counts: list[int] = []
            book.counted.connect(counts.append)
            book.put([engine.alert(2), engine.alert(1)])
            book.put([engine.alert(3)])
            assert [alert.id for alert in book.alerts()] == [3, 2, 1]
            book.put([engine.alert(2, resolved_ns=NOW_NS)])
            assert [alert.id for alert in book.alerts()] == [3, 2, 1]
            assert counts == [2, 3, 2]
            assert book.life(book.alerts()[1])[1].startswith("over after")
            del tester

    drive(case())


def test_several_alerts_are_acknowledged_at_once(drive: Drive[Any], engine: FakeEngine) -> None:
    async def case() -> None:
        async with errands() as (work, _told):
            book = AlertBook(engine, work)  # type: ignore[arg-type]
            for i in (1, 2, 3):
                engine._alerts.append(engine.alert(i))
            book.read()
            await settled(work)
            view = AlertList(book, engine, work, dense=False)  # type: ignore[arg-type]
            view.show()
            view.selectAll()
            view.acknowledge()
            await settled(work)
            assert {asked for asked in engine.asked if asked[0] == "acknowledge"} == {
                ("acknowledge", i) for i in (1, 2, 3)
            }
            view.deleteLater()

    drive(case())


def test_an_alert_in_full_shows_evidence_and_who_was_told(drive: Drive[Any], engine: FakeEngine) -> None:
    async def case() -> None:
        async with errands() as (work, _told):
            book = AlertBook(engine, work)  # type: ignore[arg-type]
            detail = AlertDetail(book, engine, work)  # type: ignore[arg-type]
            detail.show_alert(engine.alert(1, late_s=600.0, revised=True))
            await settled(work)
            shown = texts(detail.widget())
            assert "sma(close, 20)" in shown
            assert "94,880,120.5" in shown
            assert any("10 m after" in text for text in shown)
            assert any("Desktop notification: delivered" in text for text in shown)
            assert any("could not be delivered" in text and "HTTP 404" in text for text in shown)
            inner: Any = detail.widget()
            again = next(b for b in inner.findChildren(QPushButton) if b.text() == "Send again")
            again.click()
            await settled(work)
            assert ("resend", 2) in engine.asked
            detail.deleteLater()

    drive(case())


# ---------------------------------------------------------------- status tree


def test_the_tree_is_updated_where_it_stands(look: QApplication, qtbot: QtBot, engine: FakeEngine) -> None:
    view = StatusView()
    qtbot.addWidget(view)
    view.show()
    view.show_tree(engine.tree)
    items = dict(view._items)
    assert any("almost at its limit" in line for line in view.lines())
    feeds = node("feeds", None, node("upbit", "critical", detail=Text("mute")))
    view.show_tree(node("watchhamster", None, feeds))
    assert view._items["watchhamster", "feeds", "upbit"] is items["watchhamster", "feeds", "upbit"]
    assert len(view._items) == 3
    assert any("Critical" in line and "mute" in line for line in view.lines())
    view.select_worst()
    worst: Any = view._tree.currentItem()
    assert worst.text(0) == "upbit"


# ---------------------------------------------------------------- settings


def settings_page(drive: Drive[Any], engine: FakeEngine, steps: Any) -> None:
    async def case() -> None:
        async with errands() as (work, told):
            page = SettingsPage(engine, work)  # type: ignore[arg-type]
            page.show()
            await steps(page, work)
            await settled(work)
            page.deleteLater()
        assert told == []

    drive(case())


def test_every_setting_has_a_row_with_title_default_and_place(drive: Drive[Any], engine: FakeEngine) -> None:
    async def steps(page: SettingsPage, work: Any) -> None:
        for name, setting in TABLE.items():
            row = page.row(name)
            assert row.control.accessibleName() == title_of(setting)
            said = " ".join(texts(row))
            assert "Default: " in said
            assert f"watchhamster.db as {name}" in said
            assert all(choice_name(setting, choice) for choice in setting.choices)

    settings_page(drive, engine, steps)


def test_a_choice_a_number_and_a_text_are_stored_as_they_change(drive: Drive[Any], engine: FakeEngine) -> None:
    async def steps(page: SettingsPage, work: Any) -> None:
        combo: Any = page.row("theme").control
        combo.setCurrentIndex(combo.findData("light"))
        combo.activated.emit(combo.currentIndex())
        spin = page.row("backups_kept").control
        assert isinstance(spin, QSpinBox)
        spin.setValue(9)
        page.row("backups_kept")._wait.timeout.emit()
        line = page.row("quiet_hours").control
        assert isinstance(line, QLineEdit)
        line.setText("22:00-07:00")
        page.row("quiet_hours")._wait.timeout.emit()
        check: Any = page.row("sounds").control
        check.click()
        await settled(work)
        settings = engine.settings
        assert settings.text("theme") == "light"
        assert settings.number("backups_kept") == 9
        assert settings.text("quiet_hours") == "22:00-07:00"
        assert not settings.on("sounds")
        assert page.row("theme")._reset.isVisible()
        page.row("theme")._reset.click()
        await settled(work)
        assert settings.text("theme") == "system"
        assert combo.currentData() == "system"
        assert not page.row("theme")._reset.isVisible()

    settings_page(drive, engine, steps)


def test_a_value_that_cannot_be_is_refused_at_its_row(drive: Drive[Any], engine: FakeEngine) -> None:
    async def steps(page: SettingsPage, work: Any) -> None:
        row = page.row("time_zone")
        assert isinstance(row.control, QLineEdit)
        row.control.setText("Moon/Base")
        row._wait.timeout.emit()
        await settled(work)
        assert "Moon/Base" in row.problem()
        assert engine.settings.text("time_zone") == "Asia/Seoul"

    settings_page(drive, engine, steps)


def test_search_shows_what_fits_and_says_when_nothing_does(drive: Drive[Any], engine: FakeEngine) -> None:
    async def steps(page: SettingsPage, work: Any) -> None:
        page.search.setText("quiet")
        shown = [name for name in TABLE if page.row(name).isVisible()]
        assert shown == ["quiet_hours"] or set(shown) == {"quiet_hours", "time_zone"}
        page.search.setText("zzzz")
        assert page._nothing.isVisible()
        page.search.clear()
        assert all(page.row(name).isVisible() for name in TABLE)

    settings_page(drive, engine, steps)


def test_a_secret_is_written_and_never_shown(drive: Drive[Any], engine: FakeEngine) -> None:
    async def steps(page: SettingsPage, work: Any) -> None:
        field = page.channels._lines["dooray"][1]
        assert field is not None
        assert field.echoMode() == QLineEdit.EchoMode.Password
        field.setText("https://hook.example/secret")
        page.channels.store_secret("dooray")
        assert field.text() == ""
        await settled(work)
        assert ("set_secret", "dooray", 27) in engine.asked
        page.channels.test("dooray")
        await settled(work)
        assert "HTTP 200" in page.channels.answer("dooray")

    settings_page(drive, engine, steps)


def test_backup_and_restore_are_one_step_each(drive: Drive[Any], engine: FakeEngine, tmp_path: Path) -> None:
    async def steps(page: SettingsPage, work: Any) -> None:
        restored: list[bool] = []
        page.restored.connect(lambda: restored.append(True))
        page.copies.back_up(tmp_path / "copy.db")
        await settled(work)
        assert (tmp_path / "copy.db").exists()
        assert "copy.db" in page.copies.said()
        page.copies.restore(tmp_path / "copy.db")
        await until(lambda: restored, "it was restored")

    settings_page(drive, engine, steps)


def test_history_says_how_much_of_its_limit_it_takes(drive: Drive[Any], engine: FakeEngine) -> None:
    async def steps(page: SettingsPage, work: Any) -> None:
        page.usage.show_bytes(3_900_000_000)
        assert texts(page.usage) == ["History used: 3,900 of 4,096 MB"]
        await engine.settings.set("history_limit_mb", 8192)
        page.usage.words()
        assert texts(page.usage) == ["History used: 3,900 of 8,192 MB"]

    settings_page(drive, engine, steps)


# ---------------------------------------------------------------- start at login

WORDS = ["/opt/my apps/python", "-m", "watchhamster", "--minimized", "--home", '/home/ha"m$ter/100%']


def test_a_desktop_entry_starts_exactly_our_command(tmp_path: Path) -> None:
    entry = Autostart(WORDS, platform="linux", user_home=tmp_path)
    assert not entry.is_enabled()
    entry.enable()
    assert entry.is_enabled()
    assert entry.path is not None
    lines = dict(line.split("=", 1) for line in entry.path.read_text().splitlines() if "=" in line)
    # The file doubles backslashes; Exec's own quoting puts one before " ` $ \\; %% is a percent.
    unescaped = lines["Exec"].replace("\\\\", "\\").replace("%%", "%")
    words = [re.sub(r"\\(.)", r"\1", quoted) for quoted in re.findall(r'"((?:[^"\\]|\\.)*)"', unescaped)]
    assert words == WORDS
    assert lines["Terminal"] == "false"
    entry.disable()
    assert not entry.is_enabled()
    entry.disable()


@pytest.mark.skipif(
    sys.platform != "linux" or subprocess.run(["which", "desktop-file-validate"], capture_output=True).returncode != 0,
    reason="desktop-file-validate is not installed",
)
def test_the_desktop_entry_is_valid(tmp_path: Path) -> None:
    entry = Autostart(WORDS, platform="linux", user_home=tmp_path)
    entry.enable()
    assert subprocess.run(["desktop-file-validate", str(entry.path)], capture_output=True).returncode == 0


def test_a_launch_agent_is_a_property_list(tmp_path: Path) -> None:
    entry = Autostart(WORDS, platform="darwin", user_home=tmp_path)
    entry.enable()
    assert entry.path is not None
    held = plistlib.loads(entry.path.read_bytes())
    assert held["ProgramArguments"] == WORDS
    assert held["RunAtLoad"] is True


def test_a_place_that_cannot_be_written_is_said_with_the_command(tmp_path: Path) -> None:
    (tmp_path / ".config").write_text("in the way")
    with pytest.raises(UsageError) as refused:
        Autostart(WORDS, platform="linux", user_home=tmp_path).enable()
    assert refused.value.code == "autostart_refused"
    assert "--minimized" in str(refused.value.hint)


def test_the_command_is_absolute_and_minimised(tmp_path: Path) -> None:
    words = command(tmp_path)
    assert Path(words[0]).is_absolute()
    assert words[-3:] == ["--minimized", "--home", str(tmp_path)]


# ---------------------------------------------------------------- sounds


@pytest.mark.parametrize("severity", ["info", "warning", "critical"])
def test_each_severity_has_a_short_sound(severity: Any) -> None:
    import wave

    with wave.open(str(sound.sound_file(severity))) as file:
        assert 0.1 < file.getnframes() / file.getframerate() < 1.5


def test_the_first_player_there_is_plays() -> None:
    there: Sequence[str] = ("aplay",)
    assert sound.find_player(lambda name: f"/usr/bin/{name}" if name in there else None) == ("/usr/bin/aplay", "-q")
    assert sound.find_player(lambda _name: None) is None


def test_a_player_is_given_the_file_and_without_one_it_beeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: QtBot
) -> None:
    heard = tmp_path / "heard"
    player = tmp_path / "player"
    player.write_text(f'#!/bin/sh\necho "$1" > "{heard}.new" && mv "{heard}.new" "{heard}"\n')
    player.chmod(0o755)
    sound.play("critical", (str(player),))
    qtbot.waitUntil(heard.exists)
    assert heard.read_text().strip() == str(sound.sound_file("critical"))
    beeps: list[int] = []
    monkeypatch.setattr(QApplication, "beep", lambda: beeps.append(1))
    sound.play("info", None)
    sound.play("info", (str(tmp_path / "gone"),))
    assert len(beeps) == 2


# ---------------------------------------------------------------- icons


def test_every_icon_we_ship_is_drawn_and_used(look: QApplication) -> None:
    source = "\n".join(p.read_text() for p in (Path(theme.__file__).parent).glob("*.py"))
    for path in sorted((theme.RESOURCES / "icons").glob("*.svg")):
        assert not theme.icon(path.stem).pixmap(24, 24).isNull()
        assert f'"{path.stem}"' in source or f"{path.name}" in source, f"{path.name} is used nowhere"


def test_switching_back_and_forth_changes_nothing(look: QApplication, qtbot: QtBot, engine: FakeEngine) -> None:
    view = StatusView()
    qtbot.addWidget(view)
    view.show_tree(engine.tree)
    before = view.lines()
    switch_language(look, "qps")
    assert view.lines() != before
    switch_language(look, "en")
    assert view.lines() == before
