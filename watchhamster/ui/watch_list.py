"""The watch list: lamp, name, the last day as a line, price, change and value traded, live."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import QPoint, QTimer, Signal
from PySide6.QtWidgets import QMenu, QVBoxLayout, QWidget

from watchhamster.core.instruments import PriceSteps
from watchhamster.core.ports import Unavailable
from watchhamster.core.text import _, pgettext
from watchhamster.core.timeframes import SECOND_NS
from watchhamster.monitor.status import State
from watchhamster.ui import format, theme
from watchhamster.ui.bridge import Errands, News
from watchhamster.ui.language import Translated, named
from watchhamster.ui.rows import Column, Key, RowView
from watchhamster.ui.shell import UNDO_S, MessageLine

if TYPE_CHECKING:
    from watchhamster.engine.engine import Engine

SPARK_TIMEFRAME, SPARK_NS = "15m", 86400 * SECOND_NS
SPARK_AGAIN_MS = 15 * 60 * 1000
LEAST_WIDTH = 22 + 64 + 88 + 68 + 12  # lamp, name, price, change, scroll bar
LARGEST_LEAST = 300  # with larger text columns share the room instead of taking the chart's
STALE_STATES = ("stale", "reconnecting", "closed")


class Row(msgspec.Struct):
    """One line of the list, as it is now."""

    instrument: str
    name: str
    steps: PriceSteps | None
    state: State = "pending"
    price: float | None = None
    rate: float | None = None  # since the day before, as a fraction
    value: float | None = None  # of 24 h, in the quote asset
    closes: tuple[float, ...] = ()  # the last day


def _glyph(row: Row) -> str:
    return theme.current().sign(row.state).glyph


def _lamp_word(row: Row) -> str:
    return theme.current().sign(row.state).word


COLUMNS = (
    Column(lambda: "", _glyph, 22, colour=lambda row, t: t.sign(row.state).colour, exact=_lamp_word),
    Column(
        lambda: _("Name"),
        lambda row: row.name,
        64,
        stretch=True,
        order=lambda row: row.name.casefold(),
        exact=lambda row: f"{row.name} {row.instrument}",
    ),
    Column(lambda: "", lambda row: "", 48, optional=1, spark=lambda row: (row.closes, row.closes)),
    Column(
        lambda: _("Price"),
        lambda row: format.price(row.price, row.steps),
        84,
        align="right",
        colour=lambda row, t: t.direction(row.rate),
        order=lambda row: row.price,
        flash=True,
    ),
    Column(
        lambda: pgettext("column", "Change"),
        lambda row: format.percent(row.rate, arrow=False),
        66,
        align="right",
        colour=lambda row, t: t.direction(row.rate),
        order=lambda row: row.rate,
    ),
    Column(
        lambda: pgettext("column", "Value"),
        lambda row: format.money(row.value),
        66,
        align="right",
        optional=2,
        colour=lambda row, t: t.secondary,
        order=lambda row: row.value,
        exact=lambda row: _("{value} in 24 hours").format(value=format.exact(row.value)),
    ),
)


class WatchList(Translated, QWidget):
    """The instruments watched. Choosing one takes it in hand everywhere."""

    chosen = Signal(str)
    add_wanted = Signal()
    changed = Signal()

    def __init__(self, engine: Engine, errands: Errands, messages: MessageLine) -> None:
        super().__init__()
        self._engine, self._errands, self._messages = engine, errands, messages
        self._rows: dict[str, Row] = {}
        self._mark = ""
        self.view = RowView(COLUMNS, _("Watch list"), self, compact=engine.settings.on("compact_rows"))
        self.view.selected.connect(self._selected)
        self.view.row_chosen.connect(self._selected)
        self.view.menu_requested.connect(self._menu)
        self.setFocusProxy(self.view)
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.addWidget(self.view)
        self._sparks = QTimer(self)
        self._sparks.setInterval(SPARK_AGAIN_MS)
        self._sparks.timeout.connect(self._ask_sparks)
        self._sparks.start()
        theme.changed.connect(self._themed)
        self._themed()
        self.words()

    def words(self) -> None:
        """Names of instruments, and what an empty list says."""
        self.view.setAccessibleName(_("Watch list"))
        self.view.set_empty(_("Nothing is watched yet. Press / and type a name, then Ctrl+D to put it here."))
        for row in self._rows.values():
            row.name = named(row.instrument, self._engine.info(row.instrument))
        self._show_all()

    def read(self) -> None:
        """Take over the engine's list."""
        known = self._rows
        self._rows = {}
        for instrument in self._engine.watch_list():
            info = self._engine.info(instrument)
            row = known.get(instrument) or Row(instrument, "", None)
            row.name, row.steps = named(instrument, info), info.steps if info is not None else None
            self._rows[instrument] = row
        self.refresh()
        self._ask_sparks()

    def refresh(self) -> None:
        """Read every row from the board."""
        for row in self._rows.values():
            self._update(row)
        self._show_all()

    def take(self, news: News) -> None:
        """The bridge's news: only the rows that changed."""
        for instrument in news.tickers.keys() | news.trades.keys():
            row = self._rows.get(instrument)
            if row is not None:
                self._update(row)
                self.view.update_row(instrument, row)

    def mark(self, instrument: str) -> None:
        """This one is in hand."""
        self._mark = instrument
        self.view.blockSignals(True)
        if instrument in self._rows:
            self.view.select(instrument)
        else:
            self.view.clearSelection()
        self.view.blockSignals(False)

    def rows(self) -> list[Row]:
        """The lines, as they stand."""
        order = self.view.keys()
        return [self._rows[str(key)] for key in order]

    def toggle(self, instrument: str) -> None:
        """Put an instrument on the list, or take it off."""
        if instrument in self._rows:
            self.remove(instrument)
        else:
            self._set([*self._rows, instrument])

    def remove(self, instrument: str) -> None:
        """Take one off; this can be undone for a while."""
        before = list(self._rows)
        name = self._rows[instrument].name
        self._set([other for other in before if other != instrument])
        self._messages.say(
            lambda: _("{name} is no longer watched.").format(name=name),
            act=lambda: _("Undo"),
            run=lambda: self._set(before),
            seconds=UNDO_S,
        )

    def shift(self, instrument: str, rows: int) -> None:
        """Move one up or down."""
        order = list(self._rows)
        at = order.index(instrument)
        order.insert(max(0, min(len(order) - 1, at + rows)), order.pop(at))
        self._set(order)

    def _set(self, instruments: Iterable[str]) -> None:
        def done(_none: object) -> None:
            self.read()
            self.changed.emit()

        self._errands.run(self, self._engine.set_watch_list(tuple(instruments)), done)

    def _update(self, row: Row) -> None:
        board = self._engine.board
        ticker = board.ticker(row.instrument)
        row.price = board.price(row.instrument)
        if ticker is not None:
            row.value = ticker.value_24h
            if row.price is not None and ticker.previous_close:
                row.rate = row.price / ticker.previous_close - 1
        feed = board.feed(row.instrument.partition(":")[0])
        if feed is not None and feed.state in STALE_STATES:
            row.state = "warning"
        else:
            row.state = "pending" if row.price is None else "ok"

    def _show_all(self) -> None:
        self.view.set_rows(list(self._rows.items()))
        self.view.set_dim({row.instrument for row in self._rows.values() if row.state == "warning"})
        if self._mark:
            self.mark(self._mark)

    def _ask_sparks(self) -> None:
        if self._rows:
            self._errands.run(self, self._fetch_sparks(list(self._rows)), failed=_no_sparks)

    async def _fetch_sparks(self, instruments: list[str]) -> None:
        """One after another: what is on screen matters more to a venue's limits."""
        now = self._engine.clock.now_ns()
        for instrument in instruments:
            bars = await self._engine.bars(instrument, SPARK_TIMEFRAME, now - SPARK_NS, now)
            row = self._rows.get(instrument)
            if row is not None and len(bars):
                row.closes = tuple(bars.close.tolist())
                self.view.update_row(instrument, row)

    def _themed(self) -> None:
        self.setMinimumWidth(min(theme.current().px(LEAST_WIDTH), LARGEST_LEAST))

    def _selected(self, key: Key | None) -> None:
        if key is not None and key != self._mark:
            self._mark = str(key)
            self.chosen.emit(str(key))

    def _menu(self, key: Key | None, at: QPoint) -> None:
        menu = self.menu(None if key is None else str(key))
        menu.popup(at)

    def menu(self, instrument: str | None) -> QMenu:
        """What applies to a row, or beside the rows."""
        menu = QMenu(self)
        menu.aboutToHide.connect(menu.deleteLater)
        menu.addAction(_("Add an instrument…"), self.add_wanted.emit)
        if instrument is not None:
            menu.addSeparator()
            menu.addAction(_("Move up"), lambda: self.shift(instrument, -1))
            menu.addAction(_("Move down"), lambda: self.shift(instrument, 1))
            menu.addAction(_("Take off the list"), lambda: self.remove(instrument))
        return menu


def _no_sparks(error: Exception) -> None:
    if not isinstance(error, Unavailable):
        raise error  # without history in reach the lines stay away; prices say enough
