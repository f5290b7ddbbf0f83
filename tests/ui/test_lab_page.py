"""The lab page through its widgets, on the real laboratory: real files, a real worker, real searches."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QModelIndex, Qt
from PySide6.QtGui import QDesktopServices
from PySide6.QtTest import QAbstractItemModelTester, QTest
from PySide6.QtWidgets import QApplication

from tests.backtest.examples import walk
from tests.ui.conftest import Drive, errands, until
from tests.ui.fakes import FakeEngine
from watchhamster import cli
from watchhamster.backtest.results import Trade
from watchhamster.commands import perform
from watchhamster.core.ports import StoreError
from watchhamster.core.text import Text
from watchhamster.core.timeframes import SECOND_NS
from watchhamster.engine.clock import SystemClock
from watchhamster.services import Services
from watchhamster.settings import Home
from watchhamster.ui import theme
from watchhamster.ui.bridge import Errands
from watchhamster.ui.lab_page import LabPage, Rows, trade_columns
from watchhamster.ui.language import switch_language
from watchhamster.ui.lookup import Lookup
from watchhamster.workshop import Workshop

ETH = "upbit:KRW-ETH"


@pytest.fixture(scope="module")
def hours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with 1,500 hourly bars."""
    home = tmp_path_factory.mktemp("lab") / "home"
    bars = walk(1500)
    file = home.parent / "hours.csv"
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("time", "open", "high", "low", "close", "volume", "value"))
        columns = (bars.open, bars.high, bars.low, bars.close, bars.volume, bars.value)
        for n, at_ns in enumerate(bars.open_ns.tolist()):
            time = dt.datetime.fromtimestamp(at_ns // SECOND_NS, dt.UTC).isoformat()
            writer.writerow((time, *(float(column[n]) for column in columns)))
    assert cli.run(["--home", str(home), "data", "import", str(file), "--instrument", ETH]) == 0
    return home


class Bench:
    """A page, and what it stands on."""

    def __init__(self, page: LabPage, engine: FakeEngine, work: Errands, home: Home) -> None:
        self.page, self.engine, self.work, self.home = page, engine, work, home

    async def idle(self) -> None:
        """Until nothing is under way: as long as a loaded machine needs to start a process."""
        await asyncio.sleep(0)
        await until(lambda: not self.work.busy(), "errands end", turns=12_000)

    def fill(self) -> None:
        """What stands in the form of every test: golden cross on all hours there are."""
        form = self.page.form
        first, last = (int(walk(1500).open_ns[i]) for i in (0, -1))
        form.instruments.setText("KRW-ETH")
        form.timeframe.setCurrentText("1h")
        for edit, at_ns in ((form.since, first), (form.until, last)):
            edit.clear()
            QTest.keyClicks(edit, dt.datetime.fromtimestamp(at_ns // SECOND_NS, dt.UTC).date().isoformat())

    async def run(self) -> None:
        """Fill the form, and press the button."""
        self.fill()
        QTest.mouseClick(self.page.form.run, Qt.MouseButton.LeftButton)
        await self.idle()
        assert self.page.outcome is not None, self.page.form.status()


@pytest.fixture
def inside(
    drive: Drive[Any], look: QApplication, engine: FakeEngine, hours: Path, tmp_path: Path
) -> Callable[[Callable[[Bench], Awaitable[None]]], None]:
    """Run a test's steps with a page on a copy of the home."""
    shutil.copytree(hours, tmp_path / "home")
    home = Home(tmp_path / "home")

    @asynccontextmanager
    async def bench() -> AsyncIterator[Bench]:
        services = Services(home, SystemClock())
        services.open()
        workshop = Workshop(home, services.desk, lambda name, values: perform(name, values, services), lambda: "en")
        engine.bench = lambda: workshop
        engine.clock.at_ns = SystemClock().now_ns()
        try:
            async with errands() as (work, told):
                page = LabPage(engine, work, Lookup(engine, work), lambda: dt.UTC)  # type: ignore[arg-type]
                page.setAttribute(Qt.WidgetAttribute.WA_QuitOnClose, False)
                page.resize(960, 600)
                page.show()
                found = Bench(page, engine, work, home)
                page.open(ETH)
                await found.idle()
                yield found
                await found.idle()
                assert told == []
                page.deleteLater()
        finally:
            await workshop.close()
            await services.close()

    def run(steps: Callable[[Bench], Awaitable[None]]) -> None:
        async def case() -> None:
            async with bench() as found:
                await steps(found)

        drive(case())

    return run


def test_a_strategy_is_run_read_reported_and_exported(
    inside: Any, look: QApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the form to the curves, the trades and their candles, the months and the files; in both languages."""
    opened: list[Path] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(Path(url.toLocalFile())))

    async def steps(b: Bench) -> None:
        page, form = b.page, b.page.form
        assert form.strategy.count() >= 12
        assert form.offer is not None and form.offer.name == "golden-cross"
        assert "fast average" in form.description.text()
        assert form._spins["fast"].maximum() == 60
        page.tabs.setCurrentIndex(0)
        assert page.stack.currentWidget() is page._nothing and not page.report.isEnabled()
        await b.run()
        outcome = page.outcome
        assert outcome is not None
        result, metrics = outcome.result, outcome.metrics
        assert result.instruments == (ETH,) and result.timeframe == "1h" and metrics.trades > 5
        assert page.stack.currentWidget() is page.overview
        assert page.overview.tiles["trades"].text() == str(metrics.trades)
        assert page.overview.tiles["sharpe"].toolTip().startswith("Mean daily return against its spread")
        assert f"{result.curve.equity[-1]:,.0f}" in page.overview.curve.summary()
        assert page.overview.verdict.text()
        assert "next bar's open" in page.overview.notes.text()
        whole = page.overview.curve.summary()
        QTest.keyClick(page.overview.curve, Qt.Key.Key_Left)
        assert page.overview.curve.summary() != whole

        page.tabs.setCurrentIndex(1)
        assert page.trades.table.rows.rowCount() == metrics.trades + len(result.open_trades)
        page.trades.table.selectRow(0)
        await b.idle()
        _bars, name, frame, since_ns, until_ns = next(asked for asked in reversed(b.engine.asked) if asked[0] == "bars")
        assert (name, frame) == (ETH, "1h") and since_ns < result.trades[0].entry_ns < until_ns
        page.tabs.setCurrentIndex(2)
        assert page.months.table.rows.rowCount() >= 1
        page.tabs.setCurrentIndex(3)
        shown = {page.figures.rows.row(i).name for i in range(page.figures.rows.rowCount())}
        assert {"sharpe", "ulcer_percent", "sqn", "turnover"} <= shown

        switch_language(look, "ko")
        page.words()
        for part in (page.overview, page.form):
            part.words()
        assert "체결" in page.overview.notes.text() and "이동평균" in form.description.text()
        theme.apply(look, "light", "korea", 100)
        page.repaint()
        switch_language(look, "en")

        page.export_to(tmp_path / "trades.csv")
        await b.idle()
        rows = list(csv.DictReader((tmp_path / "trades.csv").read_text(encoding="utf-8").splitlines()))
        assert len(rows) == metrics.trades + len(result.open_trades)
        assert float(rows[0]["profit"]) == result.trades[0].profit
        page.report.click()
        await b.idle()
        assert opened and "Golden cross" in opened[0].read_text(encoding="utf-8")

    inside(steps)


def test_runs_are_kept_compared_annotated_repeated_and_forgotten(inside: Any) -> None:
    async def steps(b: Bench) -> None:
        page = b.page
        await b.run()
        first = page.outcome
        assert first is not None
        page.form.set_parameters({"fast": 4, "slow": 20})
        assert page.form.parameters() == {"fast": 4, "slow": 20}
        await b.run()
        second = page.outcome
        assert second is not None and second.result.parameters == {"fast": 4, "slow": 20}
        past = page.past
        assert [run.id for run in (past.table.rows.row(0), past.table.rows.row(1))] == [second.id, first.id]

        past.table.selectRow(1)
        QTest.keyClicks(past.note, "the plain one")
        QTest.keyClick(past.note, Qt.Key.Key_Return)
        await b.idle()
        assert past.table.rows.row(1).notes == "the plain one"
        past.table.selectRow(1)
        past.open.click()
        await b.idle()
        assert page.outcome is not None and page.outcome.id == first.id
        assert page.outcome.result.trades == first.result.trades  # the same, run again
        past.again.click()
        assert page.form.parameters() == {}

        page.tabs.setCurrentIndex(4)
        past.table.selectAll()
        past.compare.click()
        line = next(page.figures.rows.row(i) for i in range(40) if page.figures.rows.row(i).name == "final_equity")
        assert line.values == (first.metrics.final_equity, second.metrics.final_equity)
        assert line.best == (0 if line.values[0] > line.values[1] else 1,)

        past.table.selectRow(0)
        past.forget.click()
        await b.idle()
        assert past.table.rows.rowCount() == 1

    inside(steps)


def test_what_cannot_be_run_is_said_under_the_form(inside: Any) -> None:
    async def steps(b: Bench) -> None:
        form = b.page.form
        b.fill()
        for field, text, problem in (
            (form.instruments, "", "Name an instrument"),
            (form.since, "yesterday", "year-month-day"),
            (form.since, "2030-01-01", "ends before it begins"),
        ):
            before = field.text()
            field.setText(text)
            form.run.click()
            assert problem in form.status()
            field.setText(before)
        form.instruments.setText("KRW-XRP")
        form.run.click()
        assert form.cancel.isVisible() and not form.run.isVisible()
        await b.idle()
        assert "No candles of upbit:KRW-XRP" in form.status() or "KRW-XRP" in form.status()
        assert form.run.isVisible() and not form.cancel.isVisible()
        assert b.page.outcome is None

        async def refused(*_asked: object) -> None:
            raise StoreError("disk_full", Text("The disk is full."), Text("Make room."))

        b.engine.bars = refused  # type: ignore[method-assign,assignment]
        form.instruments.setText("KRW-ETH")
        form.run.click()
        await b.idle()
        assert "The disk is full. Make room." in form.status()

    inside(steps)


def test_a_run_is_cancelled_and_another_can_follow(inside: Any) -> None:
    async def steps(b: Bench) -> None:
        b.fill()
        b.page.form.run.click()
        await until(lambda: b.page._running is not None)
        b.page.form.cancel.click()
        await b.idle()
        assert b.page.outcome is None and not b.page.is_busy()
        assert b.page.form.status() == "Cancelled."
        await b.run()

    inside(steps)


def test_better_values_are_searched_and_used(inside: Any) -> None:
    async def steps(b: Bench) -> None:
        page, search = b.page, b.page.search
        b.fill()
        search.trials.setValue(6)
        search.least.setValue(1)
        search.method.setCurrentIndex([search.method.itemText(i) for i in range(7)].index("Random"))
        search.start.click()
        assert search.cancel.isVisibleTo(search)
        await b.idle()
        treasure = search._treasure
        assert treasure is not None and treasure.best is not None, search._told.text()
        assert search.verdict.text() and "runs" in search._told.text()
        scores = [search.table.rows.row(i).metrics["sharpe"] for i in range(search.table.rows.rowCount())]
        assert scores == sorted(scores, reverse=True)
        search.use.click()
        assert page.form._spins["fast"].value() == treasure.best.parameters["fast"]

    inside(steps)


def test_a_search_is_cancelled_and_what_it_found_is_kept(inside: Any) -> None:
    async def steps(b: Bench) -> None:
        search = b.page.search
        b.fill()
        search.trials.setValue(5000)
        search.least.setValue(1)
        search.method.setCurrentIndex([search.method.itemText(i) for i in range(7)].index("Random"))
        search.start.click()
        await until(lambda: search.bar.value() > 0, "runs come home", turns=12_000)
        search.cancel.click()
        await b.idle()
        assert search._treasure is None and "Cancelled" in search._told.text()
        assert search.start.isVisibleTo(search) and not search.cancel.isVisibleTo(search)

    inside(steps)


def test_tables_sort_by_values_and_keep_the_undefined_last() -> None:
    trades = [
        Trade(ETH, "long", n * SECOND_NS, 100.0, None, None, 1.0, 0.0, 0.0, 0.0, 1, None, best_percent=best)
        for n, best in enumerate((10.0, None, 9.0, 100.0))
    ]
    rows = Rows(trade_columns(dt.UTC, lambda _trade, value: f"{value}"))
    tester = QAbstractItemModelTester(rows, QAbstractItemModelTester.FailureReportingMode.Fatal)
    rows.set_rows(trades)
    percent = next(i for i, column in enumerate(rows.columns) if column.head() == "Best %")
    for order in (Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder):
        rows.sort(percent, order)
        values = [rows.row(i).best_percent for i in range(rows.rowCount(QModelIndex()))]
        assert values[-1] is None
        assert values[:-1] == sorted(values[:-1], reverse=order == Qt.SortOrder.DescendingOrder)
    del tester
