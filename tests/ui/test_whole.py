"""The window around the real engine on the built-in exchange: from the wire to the pixel, and back to a row."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from tests.ui.conftest import Drive, settled, until
from watchhamster.app import Options, build_engine
from watchhamster.engine.clock import SystemClock
from watchhamster.settings import Home
from watchhamster.storage.desk import DeskStore
from watchhamster.ui.bridge import Errands
from watchhamster.ui.session import Session
from watchhamster.ui.shell import Shell
from watchhamster.ui.start import LogLines, Look


def test_a_market_a_rule_an_alert_and_what_is_left_on_the_disk(
    drive: Drive[Any], look: QApplication, tmp_path: Path
) -> None:
    async def case() -> None:
        engine = await build_engine(Options(home=Home(tmp_path), demo=True))
        shell = Shell(simulated="demo")
        try:
            async with asyncio.TaskGroup() as group:
                errands = Errands(group, shell.tell)
                s = Session(look, shell, engine, errands, Look(theme="dark", language="en"), tmp_path, LogLines())
                shell.show()
                await engine.start()
                s.started()

                await until(lambda: engine.board.price(s.instrument) is not None, "a price comes", 2000)
                await until(lambda: len(s.chart._pyramid) > 100, "history is drawn", 2000)
                await until(lambda: "135," in s.book.summary() or "Best" in s.book.summary(), "a book comes", 2000)
                await until(lambda: s.tape.keys(), "trades come", 2000)
                assert s.shell.top.search.isEnabled()

                form = s.rules.edit(None)
                form.name.setText("Always")
                form.formula.set_text("close > 0")
                form.forming.setChecked(True)
                form.save()
                await until(lambda: s.rules.rules(), "the rule is stored")
                await until(lambda: s.alerts.alerts(), "it fires", 2000)
                s.shell.go("alerts")
                s.alerts_page.select(s.alerts.alerts()[0])
                QTest.keyClick(s.alerts_page.list, Qt.Key.Key_Space)
                await until(lambda: s.alerts.alerts()[0].acknowledged_ns, "it is acknowledged")

                await s.close()
                await settled(errands)
                errands.close()
        finally:
            await engine.stop()
            shell.leave()
            shell.deleteLater()

    drive(case())
    left = DeskStore(Home(tmp_path).demo.desk_db, SystemClock())
    left.open()
    try:
        assert [rule.name for rule in left.rules("default")] == ["Always"]
        assert all(alert.acknowledged_ns for alert in left.alerts()[:1])
        assert left.layout("desk")
    finally:
        left.close()
