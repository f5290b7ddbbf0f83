"""Alerts: what fired, when, why, whether anybody has seen it, and who was told.

`AlertBook` holds the alerts the window knows, newest first; the list on the desk and the page share it. It is fed by
the bridge and reads again from its last id when the bridge says that some were missed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from PySide6.QtCore import (
    QAbstractListModel,
    QItemSelectionModel,
    QModelIndex,
    QPersistentModelIndex,
    QPoint,
    QRect,
    QSize,
    Qt,
    Signal,
)
from PySide6.QtGui import QFontMetrics, QKeyEvent, QPainter, QPaintEvent, QPalette, QShowEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QListView,
    QMenu,
    QPushButton,
    QScrollArea,
    QSplitter,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from watchhamster.core.text import _, ngettext, pgettext, say
from watchhamster.monitor.alerts import Alert, Delivery
from watchhamster.ui import format, theme
from watchhamster.ui.bridge import Errands, Occurrence
from watchhamster.ui.controls import plain_text, table_style
from watchhamster.ui.language import Translated, named

if TYPE_CHECKING:
    from watchhamster.engine.engine import Engine

ALERTS_MAX = 2000  # kept in the window; the store has all of them
_ALERT = Qt.ItemDataRole.UserRole
Index = QModelIndex | QPersistentModelIndex
_NOWHERE = QModelIndex()


class AlertBook(QAbstractListModel):
    """The alerts the window knows, newest first."""

    counted = Signal(int)  # how many fire and nobody has acknowledged

    def __init__(self, engine: Engine, errands: Errands) -> None:
        super().__init__()
        self._engine = engine
        self._errands = errands
        self._alerts: list[Alert] = []
        self._unseen = -1

    def read(self) -> None:
        """Ask the engine for the newest: also what became of those known here."""
        self._errands.run(self, self._engine.alerts(limit=ALERTS_MAX), self.put)

    def take(self, happened: list[Occurrence], missed: bool) -> None:
        """The bridge's news."""
        self.put([event for event in happened if isinstance(event, Alert)])
        if missed:
            self.read()

    def put(self, alerts: Iterable[Alert]) -> None:
        """Add alerts, or what has become of them."""
        for alert in sorted(alerts, key=lambda a: a.id or 0):
            row = next((i for i, known in enumerate(self._alerts) if known.id == alert.id), None)
            if row is not None:
                self._alerts[row] = alert
                self.dataChanged.emit(self.index(row), self.index(row))
                continue
            self.beginInsertRows(QModelIndex(), 0, 0)
            self._alerts.insert(0, alert)
            self.endInsertRows()
        if len(self._alerts) > ALERTS_MAX:
            self.beginRemoveRows(QModelIndex(), ALERTS_MAX, len(self._alerts) - 1)
            del self._alerts[ALERTS_MAX:]
            self.endRemoveRows()
        unseen = sum(alert.acknowledged_ns is None and alert.resolved_ns is None for alert in self._alerts)
        if unseen != self._unseen:
            self._unseen = unseen
            self.counted.emit(unseen)

    def alert(self, index: Index) -> Alert:
        """The alert of a row."""
        return self._alerts[index.row()]

    def alerts(self) -> list[Alert]:
        """All of them, newest first."""
        return list(self._alerts)

    def rowCount(self, parent: Index = _NOWHERE) -> int:
        """Qt's."""
        return 0 if parent.isValid() else len(self._alerts)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        """Qt's: the alert itself, or a line of text (for copying and for those who cannot see)."""
        if not index.isValid():
            return None
        alert = self._alerts[index.row()]
        if role == _ALERT:
            return alert
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole, Qt.ItemDataRole.ToolTipRole):
            return self.line(alert)
        return None

    def name(self, alert: Alert) -> str:
        """What the alert's instrument is called."""
        return named(alert.instrument, self._engine.info(alert.instrument)) if alert.instrument else ""

    def when(self, alert: Alert) -> str:
        """When it fired: the clock today, else the date too."""
        zone = self.zone()
        today = format.date(self._engine.clock.now_ns(), zone) == format.date(alert.fired_ns, zone)
        return format.clock(alert.fired_ns, zone) if today else format.moment(alert.fired_ns, zone, seconds=False)

    def zone(self) -> ZoneInfo:
        """The person's zone."""
        return ZoneInfo(self._engine.settings.text("time_zone"))

    def life(self, alert: Alert) -> tuple[str, str]:
        """What has become of it: a state for its colour, and the words."""
        if alert.acknowledged_ns is not None:
            return "muted", pgettext("alert", "seen")
        if alert.resolved_ns is not None:
            lasted = format.age((alert.resolved_ns - alert.fired_ns) / 1e9)
            return "ok", _("over after {age}").format(age=lasted)
        return alert.severity, _("since {age}").format(
            age=format.age(max(0, self._engine.clock.now_ns() - alert.fired_ns) / 1e9)
        )

    def line(self, alert: Alert) -> str:
        """One alert as one sentence."""
        sign = theme.current().sign(alert.severity)
        parts = (sign.word, self.when(alert), self.name(alert), say(alert.text), self.life(alert)[1])
        return "  ".join(filter(None, parts))


class AlertList(Translated, QListView):
    """Alerts, one line each (`dense`) or two. Space acknowledges."""

    chosen = Signal(object)  # Alert
    opened = Signal(object)  # Alert

    def __init__(self, book: AlertBook, engine: Engine, errands: Errands, *, dense: bool) -> None:
        super().__init__()
        self._book, self._engine, self._errands = book, engine, errands
        self.dense = dense
        self.setModel(book)
        self.setItemDelegate(_AlertRow(self, book))
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setUniformItemSizes(True)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.customContextMenuRequested.connect(self._menu)
        self.selectionModel().currentChanged.connect(
            lambda now, _before: self.chosen.emit(book.alert(now)) if now.isValid() else None
        )
        self.activated.connect(lambda index: self.opened.emit(book.alert(index)))
        theme.changed.connect(self._themed)
        self.words()
        self._themed()

    def words(self) -> None:
        """Its name."""
        self.setAccessibleName(_("Alerts"))
        self.viewport().update()

    def acknowledge(self) -> None:
        """Acknowledge what is selected."""
        for index in self.selectionModel().selectedIndexes():
            alert = self._book.alert(index)
            if alert.id is not None and alert.acknowledged_ns is None:
                self._errands.run(self, self._engine.acknowledge(alert.id))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Qt's: Space acknowledges."""
        if event.key() == Qt.Key.Key_Space:
            self.acknowledge()
            return
        super().keyPressEvent(event)

    def select(self, alert: Alert) -> None:
        """Bring this alert into sight and select it."""
        for row, known in enumerate(self._book.alerts()):
            if known.id == alert.id:
                index = self._book.index(row)
                self.selectionModel().setCurrentIndex(index, QItemSelectionModel.SelectionFlag.ClearAndSelect)
                self.scrollTo(index)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Qt's: an empty list says what would be here."""
        super().paintEvent(event)
        if self._book.rowCount():
            return
        t = theme.current()
        painter = QPainter(self.viewport())
        painter.setFont(t.font())
        painter.setPen(t.secondary)
        room = self.viewport().rect().adjusted(theme.AROUND, theme.AROUND, -theme.AROUND, -theme.AROUND)
        painter.drawText(
            room,
            Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap,
            _("Nothing has fired. A rule tells you when something does: press A on the chart, or add one."),
        )

    def _menu(self, at: QPoint) -> None:
        if not self.selectionModel().selectedIndexes():
            return
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction(_("Acknowledge"), self.acknowledge)
        menu.addAction(_("Copy"), self._copy)
        menu.popup(self.viewport().mapToGlobal(at))

    def _copy(self) -> None:
        from PySide6.QtWidgets import QApplication

        rows = sorted(index.row() for index in self.selectionModel().selectedIndexes())
        QApplication.clipboard().setText("\n".join(self._book.line(self._book.alerts()[row]) for row in rows))

    def _themed(self) -> None:
        self.setStyleSheet(table_style(theme.current()))
        self.scheduleDelayedItemsLayout()


class _AlertRow(QStyledItemDelegate):
    def __init__(self, view: AlertList, book: AlertBook) -> None:
        super().__init__(view)
        self._view, self._book = view, book

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        t = theme.current()
        return QSize(0, t.row_height if self._view.dense else 2 * t.row_height)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        t = theme.current()
        alert = self._book.alert(index)
        rect: QRect = option.rect
        if option.state & QStyle.StateFlag.State_Selected:
            painter.fillRect(rect, t.mixed(t.accent, 0.18))
        quiet = alert.acknowledged_ns is not None or alert.resolved_ns is not None
        sign = t.sign(alert.severity)
        state, life = self._book.life(alert)
        middle = Qt.AlignmentFlag.AlignVCenter
        box = rect.adjusted(theme.BETWEEN, 0, -theme.BETWEEN, 0)
        base, small = t.font(), t.font("small")
        metrics = QFontMetrics(base)

        def put(text: str, width: int, colour: object, line: QRect, *, bold: bool = False) -> None:
            font = t.font("base", bold) if bold else base
            painter.setFont(font)
            painter.setPen(colour)
            shown = QFontMetrics(font).elidedText(text, Qt.TextElideMode.ElideRight, width)
            painter.drawText(QRect(line.left(), line.top(), width, line.height()), middle, shown)
            line.setLeft(line.left() + width + theme.BETWEEN)

        def put_right(text: str, colour: object, line: QRect) -> None:
            painter.setFont(small)
            painter.setPen(colour)
            painter.drawText(line, middle | Qt.AlignmentFlag.AlignRight, text)
            line.setRight(line.right() - QFontMetrics(small).horizontalAdvance(text) - theme.BETWEEN)

        first = QRect(box)
        if not self._view.dense:
            first.setHeight(box.height() // 2)
        if box.width() > t.px(300):  # else the sentence matters more
            put_right(life, t.sign(state).colour if not quiet else t.secondary, first)
        put(sign.glyph, t.px(14), t.secondary if quiet else sign.colour, first)
        # With colour and shape comes the word, as wide as the longest so that the columns stand.
        widest = max(metrics.horizontalAdvance(t.sign(s).word) for s in ("info", "warning", "critical"))
        put(sign.word, widest + 2, t.secondary if quiet else sign.colour, first)
        when = self._book.when(alert)
        put(when, max(metrics.horizontalAdvance("00:00:00"), metrics.horizontalAdvance(when)) + 4, t.secondary, first)
        name = self._book.name(alert) or alert.name
        wide = first.width() // 3 if self._view.dense else first.width()
        put(
            name,
            min(metrics.horizontalAdvance(name) * 11 // 10 + 4, max(t.px(40), wide)),
            t.text,
            first,
            bold=True,
        )
        if self._view.dense:
            put(say(alert.text), max(0, first.width()), t.secondary if quiet else t.text, first)
            return
        second = QRect(box.left() + t.px(14) + theme.BETWEEN, first.bottom(), box.width(), box.height() // 2)
        second.setRight(box.right())
        put(say(alert.text), second.width(), t.secondary if quiet else t.text, second)


class AlertDetail(Translated, QScrollArea):
    """One alert in full: evidence, what became of it, who was told and what they answered."""

    instrument_wanted = Signal(str)
    rule_wanted = Signal(int)

    def __init__(self, book: AlertBook, engine: Engine, errands: Errands) -> None:
        super().__init__()
        self._book, self._engine, self._errands = book, engine, errands
        self._alert: Alert | None = None
        self._deliveries: list[Delivery] = []
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        book.dataChanged.connect(lambda *_: self._again())
        theme.changed.connect(self.words)
        self.words()

    def show_alert(self, alert: Alert) -> None:
        """Show this one, and ask who was told."""
        if self._alert is None or self._alert.id != alert.id:
            self._deliveries = []
        self._alert = alert
        self.words()
        if alert.id is not None:
            self._errands.run(self, self._engine.deliveries(alert.id), self._told)

    def _again(self) -> None:
        if self._alert is not None:
            newer = next((a for a in self._book.alerts() if a.id == self._alert.id), None)
            if newer is not None and newer is not self._alert:
                self.show_alert(newer)

    def _told(self, deliveries: list[Delivery]) -> None:
        if deliveries and self._alert is not None and deliveries[0].alert_id == self._alert.id:
            self._deliveries = deliveries
            self.words()

    def words(self) -> None:
        """Everything."""
        self.setAccessibleName(_("Alert in full"))
        t = theme.current()
        page = QWidget()
        page.setBackgroundRole(QPalette.ColorRole.Base)
        page.setAutoFillBackground(True)
        layout = QVBoxLayout(page)
        layout.setContentsMargins(*[theme.AROUND] * 4)
        layout.setSpacing(theme.BETWEEN)
        alert = self._alert
        if alert is None:
            layout.addWidget(plain_text(_("Choose an alert to see why it fired and who was told."), t.secondary.name()))
        else:
            self._fill(layout, alert)
        layout.addStretch(1)
        former = self.takeWidget()
        if former is not None:
            former.deleteLater()  # not at once: Qt may just be telling it of the new language
        self.setWidget(page)

    def _fill(self, layout: QVBoxLayout, alert: Alert) -> None:
        t = theme.current()
        sign = t.sign(alert.severity)
        zone = self._book.zone()
        head = plain_text(f"{sign.glyph} {sign.word}", sign.colour.name())
        layout.addWidget(head)
        title = plain_text(alert.name)
        title.setFont(t.font("base", bold=True))
        layout.addWidget(title)
        layout.addWidget(plain_text(say(alert.text)))
        facts = QFormLayout()
        facts.setHorizontalSpacing(theme.AROUND)
        facts.setVerticalSpacing(theme.INSIDE)
        facts.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        named_zone = format.zone_name(zone, alert.fired_ns)
        rows = [(_("Fired"), f"{format.moment(alert.fired_ns, zone)} {named_zone}")]
        if alert.instrument:
            steps = info.steps if (info := self._engine.info(alert.instrument)) else None
            rows.append(
                (_("Instrument"), f"{self._book.name(alert)} {alert.instrument} {alert.timeframe or ''}".strip())
            )
            if alert.price is not None:
                rows.append((_("Price then"), format.price(alert.price, steps)))
        if alert.resolved_ns is not None:
            rows.append((_("Over"), format.moment(alert.resolved_ns, zone)))
        if alert.acknowledged_ns is not None:
            rows.append((_("Acknowledged"), format.moment(alert.acknowledged_ns, zone)))
        if alert.late_s > 0:
            rows.append((_("Noticed late"), _("{age} after the market's moment").format(age=format.age(alert.late_s))))
        if alert.revised:
            rows.append((_("Revised"), _("The venue has since corrected the bar that fired it.")))
        rows += [(name, _evidence(value)) for name, value in alert.values.items()]
        for name, value in rows:
            facts.addRow(plain_text(name, t.secondary.name()), plain_text(value))
        layout.addLayout(facts)
        buttons = QVBoxLayout()  # one under the other: the column is narrow, and words grow in other languages
        buttons.setSpacing(theme.INSIDE)
        if alert.acknowledged_ns is None and alert.id is not None:
            number = alert.id
            acknowledge = QPushButton(_("Acknowledge  (Space)"))
            acknowledge.clicked.connect(lambda: self._errands.run(self, self._engine.acknowledge(number)))
            buttons.addWidget(acknowledge, 0, Qt.AlignmentFlag.AlignLeft)
        if alert.instrument:
            instrument = alert.instrument
            show = QPushButton(_("Show on the chart"))
            show.clicked.connect(lambda: self.instrument_wanted.emit(instrument))
            buttons.addWidget(show, 0, Qt.AlignmentFlag.AlignLeft)
        if alert.rule_id is not None:
            rule = alert.rule_id
            edit = QPushButton(_("Edit the rule"))
            edit.clicked.connect(lambda: self.rule_wanted.emit(rule))
            buttons.addWidget(edit, 0, Qt.AlignmentFlag.AlignLeft)
        layout.addLayout(buttons)
        if self._deliveries:
            told = plain_text(_("Who was told"), t.secondary.name())
            layout.addWidget(told)
        for delivery in self._deliveries:
            layout.addLayout(self._delivery(delivery, zone))

    def _delivery(self, delivery: Delivery, zone: ZoneInfo) -> QHBoxLayout:
        t = theme.current()
        state, word = delivery_state(delivery)
        sign = t.sign(state)
        line = QHBoxLayout()
        line.addWidget(plain_text(sign.glyph, sign.colour.name()), 0, Qt.AlignmentFlag.AlignTop)
        parts = [f"{channel_name(delivery.channel)}: {word}"]
        if delivery.done_ns is not None:
            parts.append(format.moment(delivery.done_ns, zone))
        if delivery.attempts > 1:
            parts.append(
                ngettext("{count} attempt", "{count} attempts", delivery.attempts).format(count=delivery.attempts)
            )
        if delivery.repeated:
            parts.append(_("may have arrived twice"))
        if delivery.channel != "inbox":  # its receipt is the row one looks at
            parts += [text for text in (delivery.receipt, delivery.error) if text and text != delivery.state]
        line.addWidget(plain_text(" · ".join(parts)), 1)
        if delivery.state in ("expired", "dead", "muted") and delivery.id is not None:
            number = delivery.id
            again = QPushButton(_("Send again"))
            again.setAccessibleName(_("Send again by {channel}").format(channel=channel_name(delivery.channel)))
            again.clicked.connect(
                lambda: self._errands.run(self, self._engine.resend(number), lambda _none: self._ask())
            )
            line.addWidget(again)
        return line

    def _ask(self) -> None:
        if self._alert is not None and self._alert.id is not None:
            self._errands.run(self, self._engine.deliveries(self._alert.id), self._told)


class AlertsPage(QWidget):
    """The page: rules at the left, alerts in the middle, one of them in full at the right."""

    def __init__(self, rules: QWidget, book: AlertBook, engine: Engine, errands: Errands) -> None:
        super().__init__()
        self._book = book
        self.list = AlertList(book, engine, errands, dense=False)
        self.detail = AlertDetail(book, engine, errands)
        self.list.chosen.connect(self.detail.show_alert)
        splitter = QSplitter()
        splitter.setChildrenCollapsible(False)
        splitter.setHandleWidth(1)
        for widget, stretch in ((rules, 3), (self.list, 4), (self.detail, 4)):
            splitter.addWidget(widget)
            splitter.setStretchFactor(splitter.count() - 1, stretch)
        splitter.setSizes([330, 430, 430])
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(splitter)
        self.setFocusProxy(self.list)

    def select(self, alert: Alert) -> None:
        """Show this alert in full."""
        self.list.select(alert)

    def showEvent(self, event: QShowEvent) -> None:
        """Qt's: the newest is in full until another one is chosen."""
        super().showEvent(event)
        alerts = self._book.alerts()
        if alerts and not self.list.selectionModel().hasSelection():
            self.list.select(alerts[0])


def channel_name(channel: str) -> str:
    """What a channel is called."""
    return {
        "desktop": _("Desktop notification"),
        "inbox": _("Inbox"),
        "webhook": _("Webhook"),
        "dooray": _("Dooray"),
    }.get(channel, channel)


def delivery_state(delivery: Delivery) -> tuple[str, str]:
    """How a delivery stands: a state for its lamp, and the word."""
    return {
        "queued": ("pending", _("on its way")),
        "delivered": ("ok", _("delivered")),
        "expired": ("warning", _("too old to be sent")),
        "dead": ("critical", _("could not be delivered")),
        "muted": ("muted", _("muted")),
    }[delivery.state]


def _evidence(value: float | bool | None) -> str:
    if value is None:
        return _("undefined")
    if isinstance(value, bool):
        return _("true") if value else _("false")
    return format.exact(float(f"{value:.10g}"))
