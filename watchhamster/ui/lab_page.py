"""The lab: a strategy is chosen and run on history; its account, trades and figures are read, compared, improved.

The form stands at the left, what came out of the last run at the right. Whatever takes time happens elsewhere
(`engine.bench.Bench`) and can be cancelled; what cannot be done is said under the form, where it was asked for.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from PySide6.QtCore import (
    QAbstractTableModel,
    QModelIndex,
    QPersistentModelIndex,
    Qt,
    QUrl,
    Signal,
)
from PySide6.QtGui import QColor, QDesktopServices, QResizeEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QDoubleSpinBox,
    QFileDialog,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSpinBox,
    QSplitter,
    QStackedWidget,
    QTabBar,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from watchhamster.backtest.breakdown import monthly
from watchhamster.backtest.definitions import DEFINITIONS, GROUPS, MINUS, grouped, shown
from watchhamster.backtest.drawing import is_daily, reason_text
from watchhamster.backtest.methods import METHODS
from watchhamster.backtest.metrics import drawdowns
from watchhamster.backtest.results import Result, Trade
from watchhamster.core.bars import Bars
from watchhamster.core.instruments import instrument_of, split_instrument
from watchhamster.core.ports import UsageError, WatchHamsterError
from watchhamster.core.text import _, ngettext, pgettext, say
from watchhamster.core.timeframes import COMMON, SECOND_NS, timeframe
from watchhamster.ui import format, theme
from watchhamster.ui.bridge import Errands
from watchhamster.ui.chart import ChartView, Mark
from watchhamster.ui.controls import Combo, plain_text, table_style, without_buttons
from watchhamster.ui.curve import CurveView
from watchhamster.ui.language import Translated, language
from watchhamster.ui.lookup import Lookup
from watchhamster.ui.rule_form import InstrumentsField
from watchhamster.ui.shell import ElidedText

if TYPE_CHECKING:
    from watchhamster.backtest.strategy import Parameter
    from watchhamster.engine.bench import Bench, Offer, Outcome, Past, Treasure, Wanted
    from watchhamster.engine.engine import Engine
    from watchhamster.engine.searching import Progress

DAY_NS = 86_400 * SECOND_NS
PERIODS = (30, 90, 180, 365, 3 * 365)  # days
WARM_BARS = 400  # asked for before the period, for the averages to settle
BATCH_BARS = 5000  # candles that are asked for at once: between two such the progress moves
PAST_MOST = 200
POSE_TURNS = 6000  # of 20 ms: until the picture's run is made
TRIALS_SHOWN = 50
SEARCH_METRICS = ("sharpe", "sortino", "calmar", "total_return_percent", "profit_factor", "sqn", "max_drawdown_percent")
TILES = (
    *("total_return_percent", "cagr_percent", "max_drawdown_percent", "sharpe", "sortino"),
    *("trades", "win_rate_percent", "profit_factor", "average_trade_percent", "exposure_percent"),
)
_SIGNED = ("total_return_percent", "cagr_percent", "average_trade_percent", "buy_and_hold_percent")
_MARKS = {"good": "ok", "fair": "warning", "poor": "critical"}

Index = QModelIndex | QPersistentModelIndex


def period_name(days: int) -> str:
    """A period up to now."""
    if days % 365 == 0:
        years = days // 365
        return ngettext("Last year", "Last {count} years", years).format(count=years)
    months = days // 30
    return ngettext("Last month", "Last {count} months", months).format(count=months)


def method_name(method: str) -> str:
    """What a way of searching is called."""
    return {
        "grid": _("Grid (all of them)"),
        "random": _("Random"),
        "tpe": _("TPE (learns)"),
        "cmaes": _("CMA-ES"),
        "genetic": _("Genetic"),
        "coordinate": _("One after the other"),
        "walkforward": _("Walk forward"),
    }[method]


def metric_text(name: str, value: float | None) -> str:
    """A metric as people read it; a drawdown is a loss."""
    text = shown(value, DEFINITIONS[name].unit, name in _SIGNED)
    return MINUS + text if name == "max_drawdown_percent" and value else text


# ---------------------------------------------------------------- the form


class RunForm(Translated, QScrollArea):
    """What is to be run on what. `request()` reads it, or refuses it beside the field."""

    run_wanted = Signal()
    cancel_wanted = Signal()

    def __init__(self, engine: Engine, lookup: Lookup, zone: Callable[[], dt.tzinfo]) -> None:
        super().__init__()
        self._engine, self._zone = engine, zone
        self._offers: list[Offer] = []
        self._problem: Callable[[], str] = lambda: ""
        self._doing: Callable[[], str] = lambda: ""
        self.strategy = Combo()
        self.description = plain_text("")
        self.instruments = InstrumentsField(self, lookup, "")
        self.timeframe = Combo()
        self.timeframe.addItems([name for name in COMMON if name != "1s"])
        self.timeframe.setCurrentText("1h")
        self.period = Combo()
        self.since, self.until = QLineEdit(), QLineEdit()
        self.cash = QDoubleSpinBox()
        self.cash.setRange(1, 1e14)
        self.cash.setDecimals(0)
        self.cash.setGroupSeparatorShown(True)
        self.cash.setValue(10_000_000)
        without_buttons(self.cash)
        self.run = QPushButton()
        self.run.setDefault(True)
        self.cancel = QPushButton()
        self.cancel.hide()
        self._status = plain_text("")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.hide()
        self._spins: dict[str, QDoubleSpinBox] = {}
        self._labels: list[tuple[QLabel, Callable[[], str]]] = []
        self._heads: list[QLabel] = []
        self.reset = QPushButton()
        self.reset.clicked.connect(lambda: self.set_parameters({}))

        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(*[theme.AROUND] * 4)
        column.setSpacing(theme.INSIDE)
        self._field(column, lambda: _("Strategy"), self.strategy)
        column.addWidget(self.description)
        self._field(column, lambda: _("Instruments"), self.instruments)
        self._field(column, lambda: _("Candles"), self.timeframe)
        self._field(column, lambda: _("Period"), self.period)
        dates = QHBoxLayout()
        dates.setSpacing(theme.BETWEEN)
        dates.addWidget(self.since)
        dates.addWidget(self.until)
        column.addLayout(dates)
        self._field(column, lambda: _("Cash at the start"), self.cash)
        column.addSpacing(theme.BETWEEN)
        self._parameters_head = QLabel()
        column.addWidget(self._parameters_head)
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(theme.BETWEEN)
        self._grid.setVerticalSpacing(theme.INSIDE)
        self._grid.setColumnStretch(0, 1)
        column.addLayout(self._grid)
        column.addWidget(self.reset)
        column.addStretch(1)
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

        foot = QWidget()
        below = QVBoxLayout(foot)
        below.setContentsMargins(theme.AROUND, theme.BETWEEN, theme.AROUND, theme.AROUND)
        below.setSpacing(theme.INSIDE)
        below.addWidget(self._status)
        below.addWidget(self.bar)
        below.addWidget(self.run)
        below.addWidget(self.cancel)
        self.foot = foot  # under the form, always in sight

        self.strategy.currentIndexChanged.connect(lambda _i: self._chosen())
        self.period.currentIndexChanged.connect(lambda _i: self._preset())
        for edit in (self.since, self.until):
            edit.textEdited.connect(lambda _text: self._dates_written())
            edit.returnPressed.connect(self.run.click)
        self.run.clicked.connect(self.run_wanted)
        self.cancel.clicked.connect(self.cancel_wanted)
        theme.changed.connect(self._themed)
        self.words()
        self._themed()

    def _field(self, column: QVBoxLayout, title: Callable[[], str], widget: QWidget) -> None:
        label = QLabel()
        label.setBuddy(widget)
        self._labels.append((label, title))
        column.addSpacing(theme.INSIDE)
        column.addWidget(label)
        column.addWidget(widget)

    def words(self) -> None:
        """Labels, periods and the strategy's description."""
        for label, title in self._labels:
            label.setText(title())
            buddy = label.buddy()
            if buddy is not None:
                buddy.setAccessibleName(title())
        self.setAccessibleName(_("What to run"))
        self.since.setAccessibleName(_("From"))
        self.until.setAccessibleName(_("To"))
        for edit, hint in ((self.since, _("From")), (self.until, _("To"))):
            edit.setPlaceholderText(hint)
            edit.setToolTip(_("{field}: year-month-day, such as 2025-03-01").format(field=hint))
        i = self.period.currentIndex() if self.period.count() else PERIODS.index(90)
        self.period.blockSignals(True)
        self.period.clear()
        self.period.addItems([*(period_name(days) for days in PERIODS), _("These dates")])
        self.period.setCurrentIndex(i)
        self.period.blockSignals(False)
        self._parameters_head.setText(_("Parameters"))
        self.reset.setText(_("As the strategy says"))
        self.reset.setAccessibleName(_("Parameters as the strategy says"))
        self.run.setText(_("Run"))
        self.cancel.setText(_("Cancel"))
        self.bar.setAccessibleName(_("Progress"))
        for name, spin in self._spins.items():
            spin.setAccessibleName(_("Parameter {name}").format(name=name))
        if not self.since.text():
            self._preset()
        self._describe()
        self._say_status()

    # ------------------------------------------------------------ what is chosen

    def set_offers(self, offers: Sequence[Offer]) -> None:
        """The strategies there are; the one in hand stays."""
        before = self.offer
        self._offers = list(offers)
        self.strategy.blockSignals(True)
        self.strategy.clear()
        for offer in self._offers:
            self.strategy.addItem(_title(offer))
        names = [offer.name for offer in self._offers]
        wanted = before.name if before is not None else "golden-cross"
        self.strategy.setCurrentIndex(names.index(wanted) if wanted in names else 0)
        self.strategy.blockSignals(False)
        self.strategy.updateGeometry()
        self._chosen(keep=before is not None)

    @property
    def offer(self) -> Offer | None:
        """The strategy in hand."""
        i = self.strategy.currentIndex()
        return self._offers[i] if 0 <= i < len(self._offers) else None

    def choose(self, wanted: Wanted) -> None:
        """Write a run's request into the form, where its strategy is still known."""
        for i, offer in enumerate(self._offers):
            if offer.text == wanted.text or (offer.strategy is not None and offer.strategy.name == wanted.name):
                self.strategy.setCurrentIndex(i)
                break
        self.instruments.setText(", ".join(wanted.instruments))
        self.timeframe.setCurrentText(wanted.timeframe)
        self.period.setCurrentIndex(len(PERIODS))
        zone = self._zone()
        self.since.setText(format.date(wanted.since_ns, zone))
        self.until.setText(format.date(wanted.until_ns - 1, zone))
        self.cash.setValue(wanted.cash)
        self.set_parameters(wanted.parameters)

    def set_parameters(self, values: Mapping[str, float]) -> None:
        """These values; of the others the strategy's own."""
        strategy = self.offer.strategy if self.offer is not None else None
        for name, spin in self._spins.items():
            default = strategy.parameters[name].default if strategy is not None else spin.value()
            spin.setValue(values.get(name, default))

    def parameters(self) -> dict[str, float]:
        """Values that differ from the strategy's own."""
        strategy = self.offer.strategy if self.offer is not None else None
        if strategy is None:
            return {}
        return {
            name: spin.value()
            for name, spin in self._spins.items()
            if not math.isclose(spin.value(), strategy.parameters[name].default)
        }

    def request(self) -> Wanted | None:
        """What is asked for; None, and the reason under the form, where it cannot be."""
        from watchhamster.engine.bench import Wanted

        offer = self.offer
        self.refuse(lambda: "")
        if offer is None:
            return None
        if offer.problem is not None:
            return self._refused(self.strategy, lambda: say(offer.problem) if offer.problem is not None else "")
        names = [part.strip() for part in self.instruments.text().split(",") if part.strip()]
        try:
            instruments = tuple(dict.fromkeys(instrument_of(*split_instrument(name, "upbit")) for name in names))
        except UsageError as error:
            text = error.text
            return self._refused(self.instruments, lambda: say(text))
        if not instruments:
            return self._refused(self.instruments, lambda: _("Name an instrument, such as KRW-BTC."))
        bounds = []
        for edit in (self.since, self.until):
            try:
                bounds.append(dt.date.fromisoformat(edit.text().strip()))
            except ValueError:
                return self._refused(edit, lambda: _("Write the day as year-month-day, such as 2025-03-01."))
        since_ns = _midnight_ns(bounds[0], self._zone())
        closed_ns = timeframe(self.timeframe.currentText()).open_ns(self._engine.clock.now_ns())
        until_ns = min(_midnight_ns(bounds[1] + dt.timedelta(days=1), self._zone()), closed_ns)
        if since_ns >= until_ns:
            return self._refused(self.since, lambda: _("The period ends before it begins."))
        return Wanted(
            name=offer.name,
            text=offer.text,
            version=offer.version,
            instruments=instruments,
            timeframe=self.timeframe.currentText(),
            since_ns=since_ns,
            until_ns=until_ns,
            cash=self.cash.value(),
            parameters=self.parameters(),
        )

    # ------------------------------------------------------------ what happens

    def refuse(self, problem: Callable[[], str]) -> None:
        """Say what is wrong; nothing, where the text is empty."""
        self._problem = problem
        self._say_status()

    def begin(self, doing: Callable[[], str]) -> None:
        """Something is under way, and this is what."""
        self._doing = doing
        self._problem = lambda: ""
        self.run.hide()
        self.cancel.show()
        self.bar.setRange(0, 0)
        self.bar.show()
        self._say_status()

    def progress(self, doing: Callable[[], str], done: int = 0, total: int = 0) -> None:
        """How far it is; without a total, that it goes on."""
        self._doing = doing
        self.bar.setRange(0, total)
        self.bar.setValue(done)
        self._say_status()

    def end(self, remark: Callable[[], str] = lambda: "") -> None:
        """It is over; perhaps there is something to say about it."""
        self._doing = remark
        had = self.cancel.hasFocus()
        self.cancel.hide()
        self.bar.hide()
        self.run.show()
        if had:
            self.run.setFocus(Qt.FocusReason.OtherFocusReason)
        self._say_status()

    def status(self) -> str:
        """What stands under the form."""
        return self._status.text()

    def _say_status(self) -> None:
        t = theme.current()
        problem, doing = self._problem(), self._doing()
        sign = t.sign("critical")
        self._status.setText(f"{sign.glyph} {problem}" if problem else doing)
        self._status.setStyleSheet(f"color: {(sign.colour if problem else t.secondary).name()};")
        self._status.setVisible(bool(problem or doing))

    def _refused(self, field: QWidget, problem: Callable[[], str]) -> Wanted | None:
        self.refuse(problem)
        field.setFocus(Qt.FocusReason.OtherFocusReason)
        self.ensureWidgetVisible(field)
        return None

    def _chosen(self, keep: bool = False) -> None:
        offer = self.offer
        values = {name: spin.value() for name, spin in self._spins.items()} if keep else {}
        while self._grid.count():
            item = self._grid.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        self._spins = {}
        strategy = offer.strategy if offer is not None else None
        parameters = strategy.parameters if strategy is not None else {}
        for row, (name, parameter) in enumerate(parameters.items()):
            spin = self._spins[name] = _spin(parameter)
            spin.setValue(values.get(name, parameter.default))
            spin.setAccessibleName(_("Parameter {name}").format(name=name))
            label = plain_text(name)
            label.setBuddy(spin)
            tip = "\n".join(filter(None, (parameter.description, _range_text(parameter))))
            for widget in (label, spin):
                widget.setToolTip(tip)
            self._grid.addWidget(label, row, 0)
            self._grid.addWidget(spin, row, 1)
        if strategy is not None and strategy.timeframe is not None:
            self.timeframe.setCurrentText(strategy.timeframe)
        for widget in (self._parameters_head, self.reset):
            widget.setVisible(bool(parameters))
        self.refuse(lambda: "")
        self._describe()
        self._themed()

    def _describe(self) -> None:
        offer = self.offer
        if offer is None:
            self.description.setText("")
        elif offer.problem is not None:
            self.description.setText(say(offer.problem))
        elif offer.strategy is not None:
            korean = offer.strategy.description_ko if language() == "ko" else ""
            self.description.setText(korean or offer.strategy.description)
        self.description.setVisible(bool(self.description.text()))

    def _preset(self) -> None:
        i = self.period.currentIndex()
        if 0 <= i < len(PERIODS):
            now = self._engine.clock.now_ns()
            self.since.setText(format.date(now - PERIODS[i] * DAY_NS, self._zone()))
            self.until.setText(format.date(now, self._zone()))

    def _dates_written(self) -> None:
        self.period.blockSignals(True)
        self.period.setCurrentIndex(len(PERIODS))
        self.period.blockSignals(False)

    def _themed(self) -> None:
        t = theme.current()
        self.description.setStyleSheet(f"color: {t.secondary.name()};")
        self._parameters_head.setFont(t.font("base", bold=True))
        for label, _title_of in self._labels:
            label.setStyleSheet(f"color: {t.secondary.name()};")
        for spin in self._spins.values():
            spin.setFixedWidth(t.px(96))
        self.bar.setFixedHeight(t.px(6))
        self.bar.setStyleSheet(
            f"QProgressBar {{ background: {t.raised.name()}; border: 0; border-radius: {t.px(3)}px; }}"
            f"QProgressBar::chunk {{ background: {t.accent.name()}; border-radius: {t.px(3)}px; }}"
        )
        self.setStyleSheet(f"RunForm, RunForm > QWidget > QWidget {{ background: {t.panel.name()}; }}")
        self.foot.setStyleSheet(f".QWidget {{ background: {t.panel.name()}; }}")
        self._say_status()


def _title(offer: Offer) -> str:
    name = offer.strategy.name if offer.strategy is not None else offer.name
    return name if offer.version is None else f"{name}  v{offer.version}"


def _spin(parameter: Parameter) -> QDoubleSpinBox:
    spin = QDoubleSpinBox()
    numbers = (parameter.default, parameter.min or 0.0, parameter.max or 0.0, parameter.step or 1.0)
    decimals = max(len(f"{number:.6f}".rstrip("0").partition(".")[2]) for number in numbers)
    spin.setDecimals(decimals)
    spin.setRange(
        parameter.min if parameter.min is not None else -1e9, parameter.max if parameter.max is not None else 1e9
    )
    spin.setSingleStep(parameter.step or (1.0 if decimals == 0 else 10.0**-decimals))
    without_buttons(spin)
    return spin


def _range_text(parameter: Parameter) -> str:
    if parameter.min is None or parameter.max is None:
        return ""
    text = _("{low} to {high}").format(low=f"{parameter.min:g}", high=f"{parameter.max:g}")
    return (
        text
        if parameter.step is None
        else _("{range} in steps of {step}").format(range=text, step=f"{parameter.step:g}")
    )


def _midnight_ns(day: dt.date, zone: dt.tzinfo) -> int:
    return int(dt.datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * SECOND_NS


# ---------------------------------------------------------------- tables


class Column(msgspec.Struct, frozen=True):
    """A column of a table: its head, what a row shows in it, what it is sorted by, and how it looks."""

    head: Callable[[], str]
    text: Callable[[Any], str]
    key: Callable[[Any], Any] | None = None  # None: not sorted
    number: bool = True  # at the right
    colour: Callable[[Any], QColor | None] | None = None
    tip: Callable[[Any], str] | None = None
    head_tip: Callable[[], str] | None = None


class Rows(QAbstractTableModel):
    """Rows of values, shown by columns; sorting moves an index, not the values."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        self.columns = list(columns)
        self._rows: Sequence[Any] = ()
        self._order: list[int] = []
        self._sorted: tuple[int, Qt.SortOrder] | None = None

    def set_rows(self, rows: Sequence[Any], columns: Sequence[Column] | None = None) -> None:
        """Show these."""
        self.beginResetModel()
        if columns is not None:
            self.columns = list(columns)
            self._sorted = None
        self._rows = rows
        self._arrange()
        self.endResetModel()

    def row(self, at: int) -> Any:
        """The value in a line of the table."""
        return self._rows[self._order[at]]

    def line_of(self, row: Any) -> int:
        """The line of a value, or -1."""
        return next((i for i, place in enumerate(self._order) if self._rows[place] is row), -1)

    def rowCount(self, parent: Index | None = None) -> int:
        """Qt's."""
        return 0 if parent is not None and parent.isValid() else len(self._order)

    def columnCount(self, parent: Index | None = None) -> int:
        """Qt's."""
        return len(self.columns)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Qt's."""
        if not index.isValid():
            return None
        column, row = self.columns[index.column()], self.row(index.row())
        if role == Qt.ItemDataRole.DisplayRole:
            return column.text(row)
        if role == Qt.ItemDataRole.ForegroundRole and column.colour is not None:
            return column.colour(row)
        if role == Qt.ItemDataRole.ToolTipRole and column.tip is not None:
            return column.tip(row)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            side = Qt.AlignmentFlag.AlignRight if column.number else Qt.AlignmentFlag.AlignLeft
            return int(side | Qt.AlignmentFlag.AlignVCenter)
        return None

    def headerData(self, section: int, way: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Qt's."""
        if way != Qt.Orientation.Horizontal:
            return None
        column = self.columns[section]
        if role == Qt.ItemDataRole.DisplayRole:
            return column.head()
        if role == Qt.ItemDataRole.ToolTipRole and column.head_tip is not None:
            return column.head_tip()
        if role == Qt.ItemDataRole.TextAlignmentRole:
            side = Qt.AlignmentFlag.AlignRight if column.number else Qt.AlignmentFlag.AlignLeft
            return int(side | Qt.AlignmentFlag.AlignVCenter)
        return None

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Qt's."""
        if column < 0 or self.columns[column].key is None:
            self._sorted = None
        else:
            self._sorted = column, order
        self.beginResetModel()
        self._arrange()
        self.endResetModel()

    def _arrange(self) -> None:
        self._order = list(range(len(self._rows)))
        if self._sorted is None:
            return
        column, order = self._sorted
        key = self.columns[column].key
        assert key is not None
        known = [i for i in self._order if key(self._rows[i]) is not None]
        unknown = [i for i in self._order if key(self._rows[i]) is None]
        known.sort(key=lambda i: key(self._rows[i]), reverse=order == Qt.SortOrder.DescendingOrder)
        self._order = known + unknown


class Table(Translated, QTableView):
    """A quiet table of `Rows`. `chosen` gives the value of the line in hand."""

    chosen = Signal(object)

    def __init__(
        self,
        model: Rows,
        name: Callable[[], str],
        *,
        several: bool = False,
        sortable: bool = True,
        stretch: bool = True,
    ) -> None:
        super().__init__()
        self.rows, self._name, self._stretch = model, name, stretch
        self.setModel(model)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        modes = QAbstractItemView.SelectionMode
        self.setSelectionMode(modes.ExtendedSelection if several else modes.SingleSelection)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.verticalHeader().hide()
        head = self.horizontalHeader()
        head.setHighlightSections(False)
        head.setMinimumSectionSize(24)
        if sortable:
            head.setSortIndicatorClearable(True)
            head.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
            self.setSortingEnabled(True)
        self.selectionModel().selectionChanged.connect(lambda *_: self._select())
        model.modelReset.connect(self.fit)
        theme.changed.connect(self._themed)
        self.words()
        self._themed()

    def words(self) -> None:
        """Its name and heads."""
        self.setAccessibleName(self._name())
        self.rows.headerDataChanged.emit(Qt.Orientation.Horizontal, 0, max(0, len(self.rows.columns) - 1))
        self.fit()
        self.viewport().update()

    def values(self) -> list[Any]:
        """Those of the lines that are selected."""
        return [self.rows.row(index.row()) for index in self.selectionModel().selectedRows()]

    def _select(self) -> None:
        if values := self.values():
            self.chosen.emit(values[-1])

    def fit(self) -> None:
        """Columns as wide as their first hundred rows and their heads want."""
        t = theme.current()
        letters, heads = t.lettering(), t.lettering("small")
        some = [self.rows.row(i) for i in range(min(100, self.rows.rowCount()))]
        if self.rows.rowCount() > 100:
            some.append(self.rows.row(self.rows.rowCount() - 1))
        for i, column in enumerate(self.rows.columns):
            widest = max((letters.width(column.text(row)) for row in some), default=0)
            self.setColumnWidth(i, max(widest, heads.width(column.head()) + t.px(14)) + t.px(18))
        self.horizontalHeader().setStretchLastSection(self._stretch)

    def _themed(self) -> None:
        t = theme.current()
        self.setFont(t.font())
        self.verticalHeader().setDefaultSectionSize(t.row_height)
        self.setStyleSheet(table_style(t))
        self.fit()


def trade_columns(
    zone: dt.tzinfo, price: Callable[[Trade, float | None], str], *, daily: bool = False, several: bool = False
) -> list[Column]:
    """The columns of trades; the instrument's only where there are several, the time of day where it says something."""

    def at(ns: int) -> str:
        return format.date(ns, zone) if daily else format.moment(ns, zone, seconds=False)

    def colour(trade: Trade) -> QColor:
        return theme.current().direction(trade.profit)

    columns = [
        Column(lambda: _("Entry"), lambda x: at(x.entry_ns), lambda x: x.entry_ns, False),
        Column(
            lambda: _("Exit"),
            lambda x: at(x.exit_ns) if x.exit_ns is not None else _("still open"),
            lambda x: x.exit_ns if x.exit_ns is not None else math.inf,
            False,
        ),
        Column(lambda: _("Side"), lambda x: _("Long") if x.side == "long" else _("Short"), lambda x: x.side, False),
        Column(lambda: _("Entry price"), lambda x: price(x, x.entry_price), lambda x: x.entry_price),
        Column(lambda: _("Exit price"), lambda x: price(x, x.exit_price), lambda x: x.exit_price),
        Column(
            lambda: _("Profit %"),
            lambda x: metric_text("average_trade_percent", x.profit_percent),
            lambda x: x.profit_percent,
            colour=colour,
        ),
        Column(lambda: _("Profit"), lambda x: shown(x.profit, "money", signed=True), lambda x: x.profit, colour=colour),
        Column(lambda: _("Bars"), lambda x: grouped(x.bars, 0), lambda x: x.bars),
        Column(
            lambda: _("Reason"),
            lambda x: reason_text(x.exit_reason) if x.exit_reason else "",
            lambda x: x.exit_reason or "",
            False,
        ),
        Column(lambda: _("Size"), lambda x: format.size(x.size), lambda x: x.size),
        Column(lambda: _("Fees"), lambda x: shown(x.fees, "money"), lambda x: x.fees),
        Column(
            lambda: _("Best %"),
            lambda x: shown(x.best_percent, "percent", signed=True),
            lambda x: x.best_percent,
            head_tip=lambda: DEFINITIONS["mfe_percent"].explanation,
        ),
        Column(
            lambda: _("Worst %"),
            lambda x: shown(x.worst_percent, "percent", signed=True),
            lambda x: x.worst_percent,
            head_tip=lambda: DEFINITIONS["mae_percent"].explanation,
        ),
    ]
    if several:
        columns.insert(
            0, Column(lambda: _("Instrument"), lambda x: x.instrument.partition(":")[2], lambda x: x.instrument, False)
        )
    return columns


# ---------------------------------------------------------------- what came out


class Tile(Translated, QWidget):
    """A headline metric: its name, its value; what it means on hovering."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self._value: float | None = None
        self._label, self._figure = plain_text(""), QLabel()
        self._figure.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._label)
        layout.addWidget(self._figure)
        layout.addStretch(1)
        theme.changed.connect(self._themed)
        self.words()
        self._themed()

    def words(self) -> None:
        """Its name, value and meaning."""
        definition = DEFINITIONS[self.name]
        self._label.setText(say(definition.label))
        self._figure.setText(metric_text(self.name, self._value))
        self.setToolTip(definition.explanation)
        self.setAccessibleName(f"{say(definition.label)}: {self._figure.text()}")

    def show_value(self, value: float | None) -> None:
        """Show another."""
        self._value = value
        self.words()
        self._themed()

    def text(self) -> str:
        """The figure as it is shown."""
        return self._figure.text()

    def _themed(self) -> None:
        t = theme.current()
        self._label.setFont(t.font("small"))
        self._label.setStyleSheet(f"color: {t.secondary.name()};")
        self._figure.setFont(t.font("base", bold=True))
        colour = t.direction(self._value) if self.name in _SIGNED else t.text
        self._figure.setStyleSheet(f"color: {colour.name()};")


class Overview(Translated, QScrollArea):
    """Headline figures, verdict, curves, warnings and what was assumed."""

    def __init__(self) -> None:
        super().__init__()
        self._outcome: Outcome | None = None
        self.tiles = {name: Tile(name) for name in TILES}
        self.verdict, self.notes = plain_text(""), plain_text("")
        self.curve = CurveView()
        self._head = QLabel()
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(*[theme.AROUND] * 4)
        layout.setSpacing(theme.BETWEEN)
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(theme.AROUND)
        self._grid.setVerticalSpacing(theme.BETWEEN)
        self._across = 0
        layout.addLayout(self._grid)
        layout.addWidget(self.verdict)
        layout.addWidget(self.curve, 1)
        layout.addWidget(self._head)
        layout.addWidget(self.notes)
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        theme.changed.connect(self._themed)
        self.words()
        self._themed()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Qt's: so many figures side by side as there is room for."""
        super().resizeEvent(event)
        self._place()

    def _place(self) -> None:
        across = next((n for n in (10, 5, 4, 3) if self.width() // n >= theme.current().px(116)), 2)
        if across == self._across:
            return
        self._across = across
        for column in range(10):
            self._grid.setColumnStretch(column, 1 if column < across else 0)
        for i, tile in enumerate(self.tiles.values()):
            self._grid.addWidget(tile, i // across, i % across)

    def show_outcome(self, outcome: Outcome, zone: dt.tzinfo) -> None:
        """Show a run."""
        self._outcome = outcome
        result = outcome.result
        for name, tile in self.tiles.items():
            tile.show_value(getattr(outcome.metrics, name))
        down = drawdowns(result.curve.equity, result.cash) if len(result.curve) else np.empty(0)
        self.curve.show_run(result.curve.close_ns, result.curve.equity, result.hold, down, zone)
        self.words()
        self._themed()
        self.verticalScrollBar().setValue(0)

    def words(self) -> None:
        """Verdict, warnings, assumptions."""
        self.setAccessibleName(_("Overview"))
        self._head.setText(_("How it was reckoned"))
        outcome = self._outcome
        if outcome is None:
            return
        t = theme.current()
        trust = outcome.trust
        self.verdict.setText("" if trust is None else f"{t.sign(_grade_sign(trust.grade)).glyph}  {say(trust.verdict)}")
        lines = [f"{t.sign('warning').glyph}  {say(warning)}" for warning in outcome.warnings]
        self.notes.setText("\n".join([*lines, *assumptions(outcome)]))

    def _themed(self) -> None:
        t = theme.current()
        self._head.setFont(t.font("base", bold=True))
        self.notes.setStyleSheet(f"color: {t.secondary.name()};")
        trust = self._outcome.trust if self._outcome is not None else None
        colour = t.sign(_grade_sign(trust.grade)).colour if trust is not None else t.text
        self.verdict.setStyleSheet(
            f"background: {t.mixed(colour, 0.12).name()}; border-left: {t.px(3)}px solid {colour.name()};"
            f" padding: {t.px(6)}px {t.px(8)}px;"
        )
        self.verdict.setVisible(trust is not None)
        self.curve.setMinimumHeight(t.px(250))
        self._place()
        self.setStyleSheet(f"Overview > QWidget > QWidget {{ background: {t.panel.name()}; }}")


def _grade_sign(grade: str) -> str:
    return {"trustworthy": "ok", "plausible": "info", "doubtful": "warning", "too_few": "warning"}.get(
        grade, "critical"
    )


def assumptions(outcome: Outcome) -> list[str]:
    """What a run takes for granted, a sentence each."""
    result = outcome.result
    lines = [
        _("What a bar's close decides is filled at the next bar's open at the earliest."),
        _("A bar that touches both stop and target counts as stopped, unless finer bars tell otherwise."),
        _("Market and stop orders pay the slippage; limits and targets do not. Every fill pays its fee."),
        _("A position still open at the end is valued at the last close and is no trade in the statistics."),
        _("Daily returns are of the account at 00:00 UTC, days without trading included.")
        if result.year_days == 365
        else _("Daily returns are of the account at each session's last bar."),
    ]
    for name, finer in outcome.finer.items():
        lines.append(
            _("Inside the bars of {instrument}, candles of {timeframe} decided.").format(
                instrument=name, timeframe=finer
            )
        )
    if result.ambiguous_bars:
        lines.append(
            ngettext(
                "{n} bar held both stop and target; the stop was assumed to come first.",
                "{n} bars held both stop and target; the stop was assumed to come first.",
                result.ambiguous_bars,
            ).format(n=f"{result.ambiguous_bars:,}")
        )
    lines.append(
        _("{bars} bars; fingerprint of the data {fingerprint}").format(
            bars=f"{result.bars:,}", fingerprint=result.data_fingerprint[:12]
        )
    )
    return lines


class TradesView(Translated, QSplitter):
    """Trades, and the candles of the one in hand."""

    def __init__(self, engine: Engine, errands: Errands, zone: Callable[[], dt.tzinfo], simulated: bool) -> None:
        super().__init__(Qt.Orientation.Vertical)
        self._engine, self._errands, self._zone, self._simulated = engine, errands, zone, simulated
        self._outcome: Outcome | None = None
        self._asked = 0
        self.table = Table(Rows(trade_columns(zone(), self._price)), lambda: pgettext("lab", "Trades"))
        self.chart = ChartView(zone=zone())
        self.addWidget(self.table)
        self.addWidget(self.chart)
        self.setStretchFactor(0, 1)
        self.setStretchFactor(1, 1)
        self.setChildrenCollapsible(False)
        self.setSizes([400, 500])
        self.table.chosen.connect(self.show_trade)
        self.words()

    def words(self) -> None:
        """The chart's hint."""
        if self._outcome is None or not self.table.values():
            self.chart.set_message(_("Choose a trade to see its candles."))

    def show_outcome(self, outcome: Outcome, zone: dt.tzinfo) -> None:
        """Show a run's trades."""
        self._outcome = outcome
        result = outcome.result
        self.table.rows.set_rows(
            [*result.trades, *result.open_trades],
            trade_columns(zone, self._price, daily=is_daily(result), several=len(result.instruments) > 1),
        )
        self.chart.set_zone(zone)
        first = result.instruments[0]
        self._set_bars(first, Bars.empty())
        self.chart.set_message(
            _("Choose a trade to see its candles.")
            if self.table.rows.rowCount()
            else _("The strategy never traded: its entry never came true in this period.")
        )

    def _price(self, trade: Trade, value: float | None) -> str:
        """A mean of fills, as finely as the venue writes prices."""
        info = self._engine.info(trade.instrument)
        return format.price(value, info.steps) if info is not None else format.exact(_figures(value))

    def show_trade(self, trade: Trade) -> None:
        """Show the candles around a trade, with what was bought and sold."""
        assert self._outcome is not None
        result = self._outcome.result
        frame = timeframe(result.timeframe)
        end_ns = trade.exit_ns if trade.exit_ns is not None else result.until_ns
        held = (end_ns - trade.entry_ns) // frame.approximate_ns
        room = max(12, min(100, held // 4))
        since_ns = trade.entry_ns - 5 * room * frame.approximate_ns
        until_ns = min(end_ns + room * frame.approximate_ns, self._engine.clock.now_ns())
        self._asked += 1
        number = self._asked

        def shown_(bars: Bars) -> None:
            if number != self._asked:
                return
            self._set_bars(trade.instrument, bars)
            first_ns, last_ns = self.chart.visible_ns
            wanted, seen = held + 2 * room, (last_ns - first_ns) // frame.approximate_ns
            if wanted > seen > 0:
                self.chart.zoom(wanted / seen)
            fills = [
                fill
                for fill in result.fills
                if fill.instrument == trade.instrument and since_ns <= fill.at_ns < until_ns
            ]
            self.chart.set_marks(
                [
                    Mark(i, fill.at_ns, fill.price, fill.side, f"{reason_text(fill.reason)} {format.exact(fill.price)}")
                    for i, fill in enumerate(fills)
                ]
            )

        def failed(error: Exception) -> None:
            if not isinstance(error, WatchHamsterError):
                raise error
            if number == self._asked:
                self.chart.set_message(say(error.text))

        self.chart.set_message(_("Loading candles…"))
        work = self._engine.bars(trade.instrument, result.timeframe, since_ns, until_ns)
        self._errands.run(self.chart, work, shown_, failed)

    def _set_bars(self, instrument: str, bars: Bars) -> None:
        assert self._outcome is not None
        self.chart.set_marks([])
        self.chart.set_series(
            instrument,
            self._outcome.result.timeframe,
            bars,
            self._engine.info(instrument),
            simulated=self._simulated,
            calendar=self._engine.calendar(instrument),
        )
        if len(bars):
            self.chart.reset_view()


def _figures(value: float | None) -> float | None:
    return value if value is None else float(f"{value:.8g}")


class MonthsView(Translated, QWidget):
    """Return by month, a year a line."""

    def __init__(self) -> None:
        super().__init__()
        self._result: Result | None = None
        self.table = Table(Rows([]), lambda: _("Return by month, in percent"), sortable=False)
        self._head = QLabel()
        self._head.setContentsMargins(theme.AROUND, theme.AROUND, theme.AROUND, theme.BETWEEN)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._head)
        layout.addWidget(self.table, 1)
        self.words()

    def words(self) -> None:
        """The head and the months' names."""
        self._head.setText(_("Return by month, in percent"))
        self.table.words()

    def show_outcome(self, outcome: Outcome) -> None:
        """Show a run's months."""

        def month(n: int) -> Column:
            return Column(
                lambda: pgettext("months", "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec").split()[n],
                lambda year: "" if year.months[n] is None else _signed(year.months[n]),
                colour=lambda year: theme.current().direction(year.months[n]),
            )

        columns = [
            Column(lambda: _("Year"), lambda year: str(year.year), number=False),
            *(month(n) for n in range(12)),
            Column(
                lambda: _("Whole year"),
                lambda year: _signed(year.total),
                colour=lambda year: theme.current().direction(year.total),
            ),
        ]
        self.table.rows.set_rows(list(reversed(monthly(outcome.result))), columns)


def _signed(value: float) -> str:
    return f"+{grouped(value, 1)}" if round(value, 1) > 0 else grouped(value, 1)


class _Figure(msgspec.Struct):
    """A line of the figures: a head of a group, or a metric of one or more runs."""

    name: str
    group: str
    values: tuple[float | None, ...] = ()
    best: tuple[int, ...] = ()


class FiguresView(Table):
    """Every metric with its definition; of several runs side by side, the better in bold words."""

    def __init__(self) -> None:
        super().__init__(Rows([]), lambda: _("All numbers"), sortable=False)
        self._titles: list[Callable[[], str]] = []

    def show_metrics(self, runs: Sequence[tuple[Callable[[], str], Mapping[str, float | None]]]) -> None:
        """Show the metrics of runs."""
        lines = []
        for group in GROUPS:
            for name, definition in DEFINITIONS.items():
                if definition.group != group:
                    continue
                values = tuple(metrics.get(name) for _title_of, metrics in runs)
                known = [value for value in values if value is not None]
                best: tuple[int, ...] = ()
                if len(runs) > 1 and definition.better != "neither" and len(set(known)) > 1:
                    target = max(known) if definition.better == "more" else min(known)
                    best = tuple(i for i, value in enumerate(values) if value == target)
                lines.append(_Figure(name, group, values, best))

        def value(n: int, title: Callable[[], str]) -> Column:
            return Column(
                title,
                lambda line: f"{metric_text(line.name, line.values[n])}{' ◀' if n in line.best else ''}",
                colour=lambda line: theme.current().up if n in line.best else theme.current().text,
                tip=lambda line: DEFINITIONS[line.name].explanation,
            )

        columns = [
            Column(
                lambda: _("Metric"),
                lambda line: say(DEFINITIONS[line.name].label),
                number=False,
                tip=lambda line: DEFINITIONS[line.name].explanation,
            ),
            *(value(n, title) for n, (title, _metrics) in enumerate(runs)),
            Column(
                lambda: _("What it says"),
                lambda line: say(DEFINITIONS[line.name].meaning),
                number=False,
                colour=lambda _line: theme.current().secondary,
                tip=lambda line: DEFINITIONS[line.name].explanation,
            ),
        ]
        self.rows.set_rows(lines, columns)


# ---------------------------------------------------------------- runs that are kept


class PastView(Translated, QWidget):
    """Kept runs: shown again, run anew, compared, annotated, forgotten."""

    open_wanted = Signal(object)  # Past: repeat and show
    form_wanted = Signal(object)  # Past: into the form
    compare_wanted = Signal(object)  # list[Past]
    forget_wanted = Signal(object)
    noted = Signal(object, str)

    def __init__(self, zone: Callable[[], dt.tzinfo]) -> None:
        super().__init__()
        self._zone = zone
        self.table = Table(Rows(self._columns()), lambda: _("Past runs"), several=True)
        self.open, self.again, self.compare, self.forget = (QPushButton() for _n in range(4))
        self.note = QLineEdit()
        self.note.setMaxLength(2000)
        self._empty = plain_text("")
        self._empty.setContentsMargins(*[theme.AROUND] * 4)
        buttons = QHBoxLayout()
        buttons.setContentsMargins(theme.BETWEEN, theme.BETWEEN, theme.BETWEEN, 0)
        buttons.setSpacing(theme.BETWEEN)
        for button in (self.open, self.again, self.compare, self.forget):
            buttons.addWidget(button)
        buttons.addStretch(1)
        below = QHBoxLayout()
        below.setContentsMargins(theme.BETWEEN, theme.BETWEEN, theme.BETWEEN, theme.BETWEEN)
        below.addWidget(self.note)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(theme.BETWEEN)
        layout.addLayout(buttons)
        layout.addWidget(self._empty)
        layout.addWidget(self.table, 1)
        layout.addLayout(below)
        self.table.selectionModel().selectionChanged.connect(lambda *_: self._follow())
        self.table.doubleClicked.connect(lambda _index: self.open.click())
        self.open.clicked.connect(lambda: self._with_one(self.open_wanted))
        self.again.clicked.connect(lambda: self._with_one(self.form_wanted))
        self.forget.clicked.connect(lambda: self._with_one(self.forget_wanted))
        self.compare.clicked.connect(lambda: self.compare_wanted.emit(self.table.values()))
        self.note.editingFinished.connect(self._write_note)
        self._annotated: Past | None = None
        theme.changed.connect(self._themed)
        self.words()
        self._themed()
        self._follow()

    def words(self) -> None:
        """Buttons and hints."""
        for button, title, tip in (
            (self.open, _("Show again"), _("Run it again on the same candles, and show it")),
            (self.again, _("Into the form"), _("Write its strategy, period and values into the form")),
            (self.compare, _("Compare"), _("Choose two or more with Ctrl or Shift")),
            (self.forget, _("Forget"), _("Forget this run; it no longer counts as a trial")),
        ):
            button.setText(title)
            button.setToolTip(tip)
        self.note.setPlaceholderText(_("A note on this run"))
        self.note.setAccessibleName(_("A note on this run"))
        self._empty.setText(_("Every run is kept here, with all it takes to repeat it. There is none yet."))

    def set_runs(self, runs: Sequence[Past]) -> None:
        """Show these, newest first."""
        chosen = {past.id for past in self.table.values()}
        self.table.rows.set_rows(list(runs))
        for past in runs:
            if past.id in chosen:
                self.table.selectRow(self.table.rows.line_of(past))
                break
        self._empty.setVisible(not runs)
        self.table.setVisible(bool(runs))
        self._follow()

    def _columns(self) -> list[Column]:
        def metric(name: str) -> Column:
            return Column(
                lambda: say(DEFINITIONS[name].label),
                lambda past: metric_text(name, past.metrics.get(name)),
                lambda past: past.metrics.get(name),
                colour=(lambda past: theme.current().direction(past.metrics.get(name))) if name in _SIGNED else None,
                head_tip=lambda: DEFINITIONS[name].explanation,
            )

        return [
            Column(lambda: _("Run"), lambda past: str(past.id), lambda past: past.id),
            Column(lambda: _("Strategy"), lambda past: past.wanted.name, lambda past: past.wanted.name, False),
            Column(lambda: _("On"), _on_text, _on_text, False),
            Column(lambda: _("Values"), lambda past: _values_text(past.wanted.parameters), number=False),
            metric("total_return_percent"),
            metric("max_drawdown_percent"),
            metric("sharpe"),
            metric("trades"),
            Column(lambda: _("Note"), lambda past: past.notes, lambda past: past.notes, False),
            Column(
                lambda: _("Made"),
                lambda past: format.moment(past.made_ns, self._zone(), seconds=False),
                lambda past: past.made_ns,
                False,
            ),
        ]

    def _with_one(self, signal: Any) -> None:
        if len(chosen := self.table.values()) == 1:
            signal.emit(chosen[0])

    def _follow(self) -> None:
        chosen = self.table.values()
        one = len(chosen) == 1
        self.open.setEnabled(one and not chosen[0].python)
        self.again.setEnabled(one and not chosen[0].python)
        self.forget.setEnabled(one)
        self.compare.setEnabled(len(chosen) > 1)
        self.note.setEnabled(one)
        self._annotated = chosen[0] if one else None
        self.note.setText(chosen[0].notes if one else "")

    def _write_note(self) -> None:
        past = self._annotated
        if past is not None and self.note.text() != past.notes:
            self.noted.emit(past, self.note.text())

    def _themed(self) -> None:
        self._empty.setStyleSheet(f"color: {theme.current().secondary.name()};")


def _on_text(past: Past) -> str:
    names = [name.partition(":")[2] for name in past.wanted.instruments]
    more = f" +{len(names) - 1}" if len(names) > 1 else ""
    return f"{names[0]}{more} {past.wanted.timeframe}"


# ---------------------------------------------------------------- looking for better values


class SearchView(Translated, QWidget):
    """Better parameters: how they are looked for, how far that is, what was found and how far to trust it."""

    search_wanted = Signal()
    cancel_wanted = Signal()
    use_wanted = Signal(object)  # values of parameters

    def __init__(self) -> None:
        super().__init__()
        self._treasure: Treasure | None = None
        self._line: Callable[[], str] = lambda: ""
        self._running = False
        self.method, self.goal = Combo(), Combo()
        self.trials, self.least = QSpinBox(), QSpinBox()
        self.trials.setRange(1, 100_000)
        self.trials.setValue(200)
        self.least.setRange(0, 100_000)
        self.least.setValue(30)
        self.trials.setGroupSeparatorShown(True)
        for spin in (self.trials, self.least):
            without_buttons(spin)
        self.start, self.cancel, self.use = QPushButton(), QPushButton(), QPushButton()
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self._labels = [plain_text("") for _n in range(4)]
        self._told, self.best, self.verdict = (plain_text("") for _n in range(3))
        self.table = Table(Rows([]), lambda: _("Best trials"), stretch=False)
        grid = QGridLayout()
        grid.setContentsMargins(theme.AROUND, theme.AROUND, theme.AROUND, theme.BETWEEN)
        grid.setHorizontalSpacing(theme.BETWEEN)
        grid.setVerticalSpacing(theme.INSIDE)
        for i, (label, widget) in enumerate(zip(self._labels, self._fields(), strict=True)):
            label.setBuddy(widget)
            grid.addWidget(label, 0, i, Qt.AlignmentFlag.AlignBottom)
            grid.addWidget(widget, 1, i)
        grid.addWidget(self.start, 1, 4)
        grid.addWidget(self.cancel, 1, 4)
        grid.setColumnStretch(0, 3)
        grid.setColumnStretch(1, 3)
        texts = QVBoxLayout()
        texts.setContentsMargins(theme.AROUND, 0, theme.AROUND, 0)
        texts.setSpacing(theme.INSIDE)
        for widget in (self.bar, self._told, self.verdict):
            texts.addWidget(widget)
        best = QHBoxLayout()
        best.addWidget(self.best, 1)
        best.addWidget(self.use)
        texts.addLayout(best)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(theme.BETWEEN)
        layout.addLayout(grid)
        layout.addLayout(texts)
        layout.addWidget(self.table, 1)
        layout.addStretch(0)
        self.start.clicked.connect(self.search_wanted)
        self.cancel.clicked.connect(self.cancel_wanted)
        self.use.clicked.connect(self._use)
        self.table.chosen.connect(lambda _trial: self._show())
        theme.changed.connect(self._themed)
        self.words()
        self._show()
        self._themed()

    def _fields(self) -> tuple[QWidget, ...]:
        return self.method, self.goal, self.trials, self.least

    def words(self) -> None:
        """Labels, choices, what was found."""
        titles = (_("Method"), _("Best by"), _("Trials"), _("Trades at least"))
        for label, field, title in zip(self._labels, self._fields(), titles, strict=True):
            label.setText(title)
            field.setAccessibleName(title)
        for combo, texts in (
            (self.method, [method_name(name) for name in ("tpe", *(m for m in METHODS if m != "tpe"), "walkforward")]),
            (self.goal, [say(DEFINITIONS[name].label) for name in SEARCH_METRICS]),
        ):
            i = max(0, combo.currentIndex())
            combo.clear()
            combo.addItems(texts)
            combo.setCurrentIndex(i)
        self.start.setText(_("Search"))
        self.cancel.setText(_("Cancel the search"))
        self.use.setText(_("Use these values"))
        self.bar.setAccessibleName(_("Progress"))
        self._show()

    def quest(self) -> Any:
        """How it is to be looked for."""
        from watchhamster.engine.bench import Quest

        methods = ("tpe", *(m for m in METHODS if m != "tpe"), "walkforward")
        return Quest(
            method=methods[self.method.currentIndex()],
            metric=SEARCH_METRICS[self.goal.currentIndex()],
            trials=self.trials.value(),
            least_trades=self.least.value(),
        )

    def begin(self) -> None:
        """A search is under way."""
        self._running, self._treasure = True, None
        self.table.rows.set_rows([], [])
        self.bar.setRange(0, 0)
        self.tell(lambda: _("Reading candles, starting workers…"))

    def progress(self, progress: Progress) -> None:
        """How far it is, and the best so far."""
        self.bar.setRange(0, max(1, progress.total))
        self.bar.setValue(progress.done)

        def line() -> str:
            text = _("{done} of {total} runs").format(done=f"{progress.done:,}", total=f"{progress.total:,}")
            if progress.left_s is not None:
                text += "   " + _("{time} left").format(time=format.countdown(progress.left_s))
            if progress.best is not None:
                text += "   " + _("best so far: {values}").format(values=_values_text(progress.best.parameters))
            return text

        self.tell(line)

    def stopping(self) -> None:
        """It is to end."""
        self.bar.setRange(0, 0)
        self.tell(lambda: _("Ending the search…"))

    def end(self, treasure: Treasure | None, line: Callable[[], str]) -> None:
        """It is over: with what it found, or with a remark."""
        self._running, self._treasure = False, treasure
        if treasure is not None:
            self._fill(treasure)
        self.tell(line)

    def tell(self, line: Callable[[], str]) -> None:
        """Say how it goes."""
        self._line = line
        self._show()

    def _fill(self, treasure: Treasure) -> None:
        metric = SEARCH_METRICS[self.goal.currentIndex()]
        more = DEFINITIONS[metric].better == "more"
        known = [
            trial
            for trial in treasure.trials
            if trial.rejected is None and trial.stage == "search" and trial.metrics.get(metric) is not None
        ]
        known.sort(key=lambda trial: float(trial.metrics[metric] or 0), reverse=more)
        known = list({tuple(trial.parameters.items()): trial for trial in reversed(known)}.values())[::-1]
        names = list(treasure.best.parameters) if treasure.best is not None else []

        def parameter(name: str) -> Column:
            return Column(
                lambda: name,
                lambda trial: f"{trial.parameters.get(name, math.nan):g}",
                lambda trial: trial.parameters.get(name),
            )

        def figure(name: str) -> Column:
            return Column(
                lambda: say(DEFINITIONS[name].label),
                lambda trial: metric_text(name, trial.metrics.get(name)),
                lambda trial: trial.metrics.get(name),
                head_tip=lambda: DEFINITIONS[name].explanation,
            )

        figures = dict.fromkeys((metric, "total_return_percent", "max_drawdown_percent", "trades"))
        self.table.rows.set_rows(known[:TRIALS_SHOWN], [*map(parameter, names), *map(figure, figures)])

    def _show(self) -> None:
        self.start.setVisible(not self._running)
        self.cancel.setVisible(self._running)
        self.bar.setVisible(self._running)
        self._told.setText(
            self._line()
            or _("Looks for the parameters that did best in the form's period, with every core. Nothing is traded.")
        )
        treasure = self._treasure
        best = treasure.best if treasure is not None else None
        chosen = self.table.values()
        trial = chosen[0] if chosen else best
        self.best.setText("" if trial is None else _values_text(trial.parameters))
        self.use.setVisible(trial is not None)
        self.verdict.setText("" if treasure is None else say(treasure.verdict))
        self.verdict.setVisible(treasure is not None)
        self.table.setVisible(self.table.rows.rowCount() > 0)

    def _use(self) -> None:
        chosen = self.table.values()
        best = self._treasure.best if self._treasure is not None else None
        trial = chosen[0] if chosen else best
        if trial is not None:
            self.use_wanted.emit(dict(trial.parameters))

    def _themed(self) -> None:
        t = theme.current()
        for label in (*self._labels, self._told):
            label.setStyleSheet(f"color: {t.secondary.name()};")
        self.best.setFont(t.font("base", bold=True))
        for spin in (self.trials, self.least):
            spin.setFixedWidth(t.px(84))
        self.bar.setFixedHeight(t.px(6))
        self.bar.setStyleSheet(
            f"QProgressBar {{ background: {t.raised.name()}; border: 0; border-radius: {t.px(3)}px; }}"
            f"QProgressBar::chunk {{ background: {t.accent.name()}; border-radius: {t.px(3)}px; }}"
        )


def _values_text(parameters: Mapping[str, float]) -> str:
    return "   ".join(f"{name} {value:g}" for name, value in parameters.items())


# ---------------------------------------------------------------- the page


class LabPage(Translated, QWidget):
    """Form at the left, results at the right."""

    def __init__(
        self,
        engine: Engine,
        errands: Errands,
        lookup: Lookup,
        zone: Callable[[], dt.tzinfo],
        *,
        simulated: bool = False,
    ) -> None:
        super().__init__()
        self._engine, self._errands, self._zone = engine, errands, zone
        self.with_caution: Callable[[str, Callable[[], None]], None] = lambda _venue, go_on: go_on()
        self.outcome: Outcome | None = None
        self._opened = False
        self._busy = False
        self._running: asyncio.Task[None] | None = None  # what is under way, once it has begun
        self._remark: Callable[[], str] = lambda: ""
        self.form = RunForm(engine, lookup, zone)
        self.overview = Overview()
        self.trades = TradesView(engine, errands, zone, simulated)
        self.months, self.figures = MonthsView(), FiguresView()
        self.past = PastView(zone)
        self.search = SearchView()
        self.tabs = QTabBar()
        self.tabs.setDrawBase(False)
        self.tabs.setExpanding(False)
        self.title, self._line = ElidedText(self, bold=True), ElidedText(self, quiet=True)
        self.report, self.export = QPushButton(), QPushButton()
        self._views: tuple[QWidget, ...] = (
            self.overview,
            self.trades,
            self.months,
            self.figures,
            self.past,
            self.search,
        )
        self.stack = QStackedWidget()
        for view in self._views:
            self.tabs.addTab("")
            self.stack.addWidget(view)
        self._nothing = QLabel()
        self._nothing.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._nothing.setWordWrap(True)
        self.stack.addWidget(self._nothing)

        left = QWidget()
        self._left = left
        form = QVBoxLayout(left)
        form.setContentsMargins(0, 0, 0, 0)
        form.setSpacing(0)
        form.addWidget(self.form, 1)
        form.addWidget(self.form.foot)
        head = QHBoxLayout()
        head.setContentsMargins(theme.AROUND, theme.BETWEEN, theme.BETWEEN, theme.BETWEEN)
        head.setSpacing(theme.BETWEEN)
        titles = QVBoxLayout()
        titles.setSpacing(0)
        titles.addWidget(self.title)
        titles.addWidget(self._line)
        head.addLayout(titles, 1)
        head.addWidget(self.report)
        head.addWidget(self.export)
        right = QVBoxLayout()
        right.setContentsMargins(0, 0, 0, 0)
        right.setSpacing(0)
        right.addLayout(head)
        right.addWidget(self.tabs)
        right.addWidget(self.stack, 1)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(1)
        layout.addWidget(left)
        layout.addLayout(right, 1)

        self.tabs.currentChanged.connect(lambda _i: self._show())
        self.form.run_wanted.connect(self.run)
        self.form.cancel_wanted.connect(self.cancel)
        self.report.clicked.connect(self.open_report)
        self.export.clicked.connect(self._ask_export)
        self.past.open_wanted.connect(self.repeat)
        self.past.form_wanted.connect(lambda past: self.form.choose(past.wanted))
        self.past.compare_wanted.connect(self.compare)
        self.past.forget_wanted.connect(self._forget)
        self.past.noted.connect(self._note)
        self.search.search_wanted.connect(self.start_search)
        self.search.cancel_wanted.connect(self._cancel_search)
        self.search.use_wanted.connect(self._use)
        self.setFocusProxy(self.form.strategy)
        theme.changed.connect(self._themed)
        self.words()
        self._themed()
        self._show()

    def words(self) -> None:
        """Tabs, head, empty states."""
        for i, text in enumerate(
            (_("Overview"), pgettext("lab", "Trades"), _("Months"), _("All numbers"), _("Past runs"), _("Optimise"))
        ):
            self.tabs.setTabText(i, text)
        self.tabs.setAccessibleName(_("Results"))
        self.report.setText(_("Open report"))
        self.report.setToolTip(_("One HTML file with everything, in the browser"))
        self.export.setText(_("Export trades…"))
        self.export.setToolTip(_("As CSV or Parquet"))
        self._say_head()
        self._show()

    # ------------------------------------------------------------ beginning

    def open(self, instrument: str) -> None:
        """The page came to the front: read what there is, once; `instrument` is what the desk has in hand."""
        if not self.form.instruments.text() and instrument:
            self.form.instruments.setText(instrument)
        if self._opened or self._engine.bench is None:
            return
        self._opened = True
        self.read()

    def read(self) -> None:
        """Ask for the strategies and past runs anew."""
        bench = self._bench()
        self._ask(bench.strategies(), self.form.set_offers)
        self._ask(bench.past(PAST_MOST), self.past.set_runs)

    def _bench(self) -> Bench:
        assert self._engine.bench is not None
        return self._engine.bench()

    async def pose(self) -> None:
        """For a picture: run what stands in the form once the strategies are there."""
        for _turn in range(POSE_TURNS):
            await asyncio.sleep(0.02)
            if not self._errands.busy():
                break
        self.run()
        for _turn in range(POSE_TURNS):
            await asyncio.sleep(0.02)
            if not self._errands.busy():
                break

    def _ask(self, work: Coroutine[Any, Any, Any], done: Callable[[Any], object] | None = None) -> None:
        self._errands.run(self, work, done, self._failed)

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, WatchHamsterError):
            raise error
        self.form.refuse(lambda: _sentence(error))

    # ------------------------------------------------------------ one run

    def run(self) -> None:
        """Run what the form says."""
        wanted = self.form.request()
        if wanted is not None:
            self._with_cautions(
                list(wanted.instruments), lambda: self._begin(lambda: self._run(wanted), lambda: _("Fetching candles…"))
            )

    def repeat(self, past: Past) -> None:
        """Run a kept one again, and show it."""

        async def work() -> None:
            self.show_outcome(await self._bench().repeat(past.id))

        self._begin(work, lambda: _("Repeating run {id}…").format(id=past.id))

    def cancel(self) -> None:
        """End what is under way."""
        if self._running is not None:
            self._running.cancel()

    def is_busy(self) -> bool:
        """Whether a run is under way."""
        return self._busy

    def _with_cautions(self, instruments: list[str], go_on: Callable[[], None]) -> None:
        venues = list(dict.fromkeys(name.partition(":")[0] for name in instruments))

        def one(rest: list[str]) -> None:
            if rest:
                self.with_caution(rest[0], lambda: one(rest[1:]))
            else:
                go_on()

        one(venues)

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]], doing: Callable[[], str]) -> None:
        if self._busy or self._engine.bench is None:
            return
        self._busy = True
        self.form.begin(doing)

        async def carry() -> None:
            self._running = asyncio.current_task()
            try:
                await work()
            except asyncio.CancelledError:
                self._over(lambda: _("Cancelled."))
                raise
            self._over()

        def failed(error: Exception) -> None:
            self._over()
            self._failed(error)

        self._errands.run(self, carry(), None, failed)

    def _over(self, remark: Callable[[], str] = lambda: "") -> None:
        self._busy, self._running = False, None
        self.form.end(remark)

    async def _run(self, wanted: Wanted) -> None:
        await self._fetch(wanted)
        self.form.progress(lambda: _("Running…"))
        outcome = await self._bench().run(wanted, self._staged)
        self.show_outcome(outcome)
        self.past.set_runs(await self._bench().past(PAST_MOST))

    def _staged(self, stage: str) -> None:
        texts = {"run": lambda: _("Running…"), "judge": lambda: _("Trying it again under worse conditions…")}
        self.form.progress(texts.get(stage, lambda: ""))

    async def _fetch(self, wanted: Wanted) -> None:
        """Have what is missing of the period fetched. Out of reach, the run says what it lacks."""
        step = timeframe(wanted.timeframe).approximate_ns
        pieces = []
        for name in wanted.instruments:
            at = wanted.since_ns - WARM_BARS * step
            while at < wanted.until_ns:
                pieces.append((name, at, min(at + BATCH_BARS * step, wanted.until_ns)))
                at += BATCH_BARS * step
        for n, (name, since_ns, until_ns) in enumerate(pieces):
            if len(pieces) > 1:
                self.form.progress(lambda: _("Fetching candles…"), n, len(pieces))
            try:
                await self._engine.bars(name, wanted.timeframe, since_ns, until_ns)
            except WatchHamsterError as error:
                if error.code != "no_data":
                    raise

    def show_outcome(self, outcome: Outcome) -> None:
        """Show a run."""
        self.outcome = outcome
        zone = ZoneInfo(outcome.result.zone) if outcome.result.zone != "UTC" else self._zone()
        self.overview.show_outcome(outcome, zone)
        self.trades.show_outcome(outcome, zone)
        self.months.show_outcome(outcome)
        metrics = msgspec.to_builtins(outcome.metrics)
        self.figures.show_metrics([(lambda: _("Value"), metrics)])
        self._remark = lambda: ""
        self._say_head()
        if self.tabs.currentIndex() > 3:
            self.tabs.setCurrentIndex(0)
        self._show()

    # ------------------------------------------------------------ past runs

    def compare(self, runs: list[Past]) -> None:
        """Show the figures of several kept runs side by side."""

        def title(past: Past) -> Callable[[], str]:
            return lambda: _("Run {id}").format(id=past.id)

        self.figures.show_metrics([(title(past), past.metrics) for past in sorted(runs, key=lambda past: past.id)])
        self.tabs.setCurrentIndex(3)
        self._show()

    def _forget(self, past: Past) -> None:
        async def work() -> list[Past]:
            await self._bench().forget(past.id)
            return await self._bench().past(PAST_MOST)

        self._ask(work(), self.past.set_runs)

    def _note(self, past: Past, notes: str) -> None:
        async def work() -> list[Past]:
            await self._bench().annotate(past.id, notes)
            return await self._bench().past(PAST_MOST)

        self._ask(work(), self.past.set_runs)

    # ------------------------------------------------------------ files

    def open_report(self) -> None:
        """Write the report, and have the desktop open it."""
        outcome = self.outcome
        if outcome is None:
            return

        def written(path: Path) -> None:
            self._tell(lambda: _("Report: {file}").format(file=path))
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(path)))

        self._tell(lambda: _("Writing the report…"))
        self._ask(self._bench().report(outcome), written)

    def _ask_export(self) -> None:
        if self.outcome is None:
            return
        name = f"trades-{self.outcome.id}.csv"
        path, _filter = QFileDialog.getSaveFileName(self, _("Export trades…"), name, "CSV (*.csv);;Parquet (*.parquet)")
        if path:
            self.export_to(Path(path))

    def export_to(self, path: Path) -> None:
        """Write the trades to a file."""
        if self.outcome is not None:
            self._ask(
                self._bench().export(self.outcome, path),
                lambda rows: self._tell(lambda: _("{rows} trades in {file}").format(rows=rows, file=path)),
            )

    # ------------------------------------------------------------ searches

    def start_search(self) -> None:
        """Look for better parameters of what the form says."""
        wanted = self.form.request()
        if wanted is None or self._engine.bench is None:
            return
        self._with_cautions(list(wanted.instruments), lambda: self._begin_search(wanted))

    def _begin_search(self, wanted: Wanted) -> None:
        quest = self.search.quest()
        self.search.begin()

        async def work() -> Treasure | None:
            await self._fetch(wanted)
            return await self._bench().search(wanted, quest, self.search.progress)

        def done(treasure: Treasure | None) -> None:
            if treasure is None:
                self.search.end(None, lambda: _("Cancelled. What was found so far is kept: search again to go on."))
            else:
                count = len(treasure.trials)
                self.search.end(treasure, lambda: _("{count} runs").format(count=f"{count:,}"))

        def failed(error: Exception) -> None:
            if not isinstance(error, WatchHamsterError):
                self.search.end(None, lambda: "")
                raise error
            self.search.end(None, lambda: _sentence(error))

        self._errands.run(self, work(), done, failed)

    def _cancel_search(self) -> None:
        self._bench().cancel_search()
        self.search.stopping()

    def _use(self, values: Mapping[str, float]) -> None:
        self.form.set_parameters(values)
        self.form.run.setFocus(Qt.FocusReason.OtherFocusReason)

    # ------------------------------------------------------------ what is seen

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Qt's: large text leaves the results most of a small window."""
        super().resizeEvent(event)
        self._left.setFixedWidth(min(theme.current().px(292), max(200, self.width() * 2 // 5)))

    def _tell(self, remark: Callable[[], str]) -> None:
        self._remark = remark
        self._say_head()

    def _say_head(self) -> None:
        outcome = self.outcome
        self.report.setEnabled(outcome is not None)
        self.export.setEnabled(outcome is not None)
        if outcome is None:
            self.title.setText(_("Run a strategy on history"))
            self._line.setText(_("Nothing here trades: orders are filled on stored candles."))
            return
        result, zone = outcome.result, self._zone()
        names = ", ".join(name.partition(":")[2] for name in result.instruments[:3])
        if len(result.instruments) > 3:
            names = _("{names} and {count} more").format(names=names, count=len(result.instruments) - 3)
        self.title.setText(f"{result.strategy}  ·  {names}  ·  {result.timeframe}")
        span = f"{format.date(result.since_ns, zone)} – {format.date(result.until_ns - 1, zone)}"
        values = "  ".join(f"{name} {value:g}" for name, value in result.parameters.items())
        self._line.setText(self._remark() or "   ".join(filter(None, (span, values))))

    def _show(self) -> None:
        i = self.tabs.currentIndex()
        empty = self.outcome is None and i < 4 and not (i == 3 and self.figures.rows.rowCount())
        self._nothing.setText(
            _("Choose a strategy, an instrument and a period, then press Run.")
            if self._engine.bench is not None
            else _("Strategies cannot be run here.")
        )
        self.stack.setCurrentWidget(self._nothing if empty else self._views[max(0, i)])

    def _themed(self) -> None:
        t = theme.current()
        self._left.setFixedWidth(min(t.px(292), max(200, self.width() * 2 // 5)))
        self._nothing.setStyleSheet(f"color: {t.secondary.name()}; background: {t.panel.name()};")
        self.tabs.setFont(t.font("small", bold=True))
        self.stack.setStyleSheet(f"QStackedWidget {{ background: {t.panel.name()}; }}")


def _sentence(error: WatchHamsterError) -> str:
    return f"{say(error.text)} {say(error.hint)}" if error.hint is not None else say(error.text)
