"""The watch list: lamp, name, the last day as a line, price, change and value traded, live.

Where it holds instruments of several markets, each market has a heading that says its currency and its session. A price
of pre or post market has a line of its own under that of regular trading, and is compared with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec
from PySide6.QtCore import QPoint, QTimer, Signal
from PySide6.QtWidgets import QMenu, QVBoxLayout, QWidget

from watchhamster.core.instruments import PriceSteps, split_instrument
from watchhamster.core.ports import Unavailable
from watchhamster.core.text import _, pgettext
from watchhamster.core.timeframes import SECOND_NS
from watchhamster.monitor.status import State
from watchhamster.ui import format, theme
from watchhamster.ui.bridge import Errands, News
from watchhamster.ui.language import Translated, named
from watchhamster.ui.market import last_session_ns, market_title, phase_of, session_line, unit_of
from watchhamster.ui.rows import Column, Heading, Key, RowView
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
    market: tuple[str, str] = ("", "")  # venue, and the code of its market where it has several
    unit: str = ""  # what prices are in
    has_value: bool = True  # its venue tells what was traded
    note: str = ""  # what is the matter with it alone


class Margin(msgspec.Struct):
    """The line under an instrument whose price is one of pre or post market just now."""

    instrument: str
    phase: str  # its word
    steps: PriceSteps | None
    price: float
    rate: float | None  # since regular trading
    unit: str = ""
    name = ""
    state: State = "muted"
    value: float | None = None
    has_value = False
    note = ""
    closes: tuple[float, ...] = ()


def _glyph(row: Row | Margin) -> str:
    return "" if isinstance(row, Margin) else theme.current().sign(row.state).glyph


def _name(row: Row | Margin) -> str:
    return f"   {row.phase}" if isinstance(row, Margin) else row.name


def _lamp_word(row: Row | Margin) -> str:
    return row.note or theme.current().sign(row.state).word


COLUMNS = (
    Column(lambda: "", _glyph, 22, colour=lambda row, t: t.sign(row.state).colour, exact=_lamp_word),
    Column(
        lambda: _("Name"),
        _name,
        64,
        stretch=True,
        colour=lambda row, t: t.secondary if isinstance(row, Margin) else t.text,
        order=lambda row: row.name.casefold(),
        exact=lambda row: f"{row.name} {row.instrument} {row.note}".strip(),
    ),
    Column(lambda: "", lambda row: "", 48, optional=1, spark=lambda row: (row.closes, row.closes)),
    Column(
        lambda: _("Price"),
        lambda row: format.price(row.price, row.steps),
        84,
        align="right",
        colour=lambda row, t: t.direction(row.rate),
        order=lambda row: row.price,
        exact=lambda row: f"{format.exact(row.price)} {row.unit}".strip(),
        flash=True,
    ),
    Column(
        lambda: pgettext("column", "Change"),
        lambda row: format.percent(row.rate, arrow=False) if row.rate is not None or row.price is None else "",
        66,
        align="right",
        colour=lambda row, t: t.direction(row.rate),
        order=lambda row: row.rate,
    ),
    Column(
        lambda: pgettext("column", "Value"),
        lambda row: format.money(row.value) if row.has_value else "",
        66,
        align="right",
        optional=2,
        colour=lambda row, t: t.secondary,
        order=lambda row: row.value,
        exact=lambda row: _("{value} in 24 hours").format(value=format.exact(row.value)) if row.has_value else "",
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
        self._headings: dict[tuple[str, str], Heading] = {}
        self._margins: dict[str, Margin] = {}
        self.view = RowView(
            COLUMNS,
            _("Watch list"),
            self,
            compact=engine.settings.on("compact_rows"),
            follows=lambda row: isinstance(row, Margin),
        )
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
            self._describe(row)
            self._update(row)
        self._show_all()

    def read(self) -> None:
        """Take over the engine's list."""
        known = self._rows
        self._rows = {}
        for instrument in self._engine.watch_list():
            row = known.get(instrument) or Row(instrument, "", None)
            self._describe(row)
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
        moved = False
        for instrument in news.tickers.keys() | news.trades.keys():
            row = self._rows.get(instrument)
            if row is not None:
                before = self._margins.get(instrument)
                self._update(row)
                self.view.update_row(instrument, row)
                margin = self._margins.get(instrument)
                moved = moved or (before is None) != (margin is None)
                if margin is not None:
                    self.view.update_row((instrument, "margin"), margin)
        if moved:
            self._show_all()

    def tick(self) -> None:
        """Once a second: sessions begin and end, and names are learnt."""
        unnamed = [row for row in self._rows.values() if row.steps is None]
        for row in unnamed:
            self._describe(row)
        headings = self._headings
        self._headings = self._make_headings()
        if unnamed or headings.keys() != self._headings.keys():
            self._show_all()
            return
        for market, heading in self._headings.items():
            if heading != headings[market]:
                self.view.update_row(market, heading)

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
        return [self._rows[key] for key in order if isinstance(key, str)]

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
        """Move one up or down, among those of its market."""
        order = list(self._rows)
        market = self._rows[instrument].market
        places = [i for i, name in enumerate(order) if self._rows[name].market == market]
        at = places.index(order.index(instrument))
        to = places[max(0, min(len(places) - 1, at + rows))]
        order.insert(to, order.pop(places[at]))
        self._set(order)

    def _set(self, instruments: Iterable[str]) -> None:
        def done(_none: object) -> None:
            self.read()
            self.changed.emit()

        self._errands.run(self, self._engine.set_watch_list(tuple(instruments)), done)

    def _describe(self, row: Row) -> None:
        """What a row says of its instrument, as far as that is known."""
        engine, instrument = self._engine, row.instrument
        info, calendar = engine.info(instrument), engine.calendar(instrument)
        row.name, row.steps = named(instrument, info), info.steps if info is not None else None
        row.unit = unit_of(info)
        row.market = (split_instrument(instrument)[0], "" if calendar is None else calendar.market.code)
        row.has_value = "trade" in engine.kinds(instrument)

    def _update(self, row: Row) -> None:
        board = self._engine.board
        ticker = board.ticker(row.instrument)
        row.price = board.price(row.instrument)
        self._margins.pop(row.instrument, None)
        if ticker is not None:
            row.value = ticker.value_24h
            if ticker.regular is not None:
                rate = ticker.price / ticker.regular - 1
                phase = phase_of(ticker.state)
                self._margins[row.instrument] = Margin(row.instrument, phase, row.steps, ticker.price, rate, row.unit)
                row.price = ticker.regular
            row.rate = None
            # Before the first trade of a day its close before is the price itself, which tells nothing.
            if row.price is not None and ticker.previous_close and ticker.previous_close != ticker.regular:
                row.rate = row.price / ticker.previous_close - 1
        feed = board.feed(row.instrument.partition(":")[0])
        session = self._engine.session(row.instrument)
        asleep = session is not None and session.phase == "closed"  # nothing can be missed
        row.note = ""
        if session is not None and session.halted_ns is not None and session.is_open:
            row.note = session_line(session, self._engine.clock.now_ns(), self._zone())
            row.state = "warning"
        elif feed is not None and feed.state in STALE_STATES and not asleep:
            row.state = "warning"
        else:
            row.state = "pending" if row.price is None else "ok"

    def _make_headings(self) -> dict[tuple[str, str], Heading]:
        """A heading for each market, in the order of the list; none where there is one market only."""
        members: dict[tuple[str, str], list[Row]] = {}
        for row in self._rows.values():
            members.setdefault(row.market, []).append(row)
        if len(members) < 2:
            return {}
        headings = {}
        now_ns, zone = self._engine.clock.now_ns(), self._zone()
        for market, rows in members.items():
            units = {row.unit for row in rows if row.unit}
            title = market_title(*market)
            text = f"{title} · {units.pop()}" if len(units) == 1 else title
            session = self._engine.session(rows[0].instrument)
            if session is not None:  # a halt is that of one symbol
                session = msgspec.structs.replace(session, halted_ns=None)
            headings[market] = Heading(text, session_line(session, now_ns, zone))
        return headings

    def _zone(self) -> ZoneInfo:
        return ZoneInfo(self._engine.settings.text("time_zone"))

    def _show_all(self) -> None:
        self._headings = self._make_headings()
        shown: list[tuple[Key, Any]] = []
        for market in dict.fromkeys(row.market for row in self._rows.values()):
            if market in self._headings:
                shown.append((market, self._headings[market]))
            for name, row in self._rows.items():
                if row.market == market:
                    shown.append((name, row))
                    if name in self._margins:
                        shown.append(((name, "margin"), self._margins[name]))
        self.view.set_rows(shown)
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
            since = last_session_ns(self._engine.calendar(instrument), now) or now - SPARK_NS
            bars = await self._engine.bars(instrument, SPARK_TIMEFRAME, since, now)
            row = self._rows.get(instrument)
            if row is not None and len(bars):
                row.closes = tuple(bars.close.tolist())
                self.view.update_row(instrument, row)

    def _themed(self) -> None:
        self.setMinimumWidth(min(theme.current().px(LEAST_WIDTH), LARGEST_LEAST))

    def _selected(self, key: Key | None) -> None:
        instrument = self._instrument(key)
        if instrument is not None and instrument != self._mark:
            self._mark = instrument
            self.chosen.emit(instrument)

    def _instrument(self, key: Key | None) -> str | None:
        """What a row is about: a price of pre or post market about the instrument above it."""
        row = None if key is None else self.view.row(key)
        return row.instrument if isinstance(row, Row | Margin) else None

    def _menu(self, key: Key | None, at: QPoint) -> None:
        menu = self.menu(self._instrument(key))
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
