"""The desk: the chart in the middle, watch list, order book, trades and journal around it in docks.

Docks move, float to another screen, and come back where they were left. A dock's head is one thin line; its buttons
float or close it, and every closed dock is in the palette to be opened again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from PySide6.QtCore import QByteArray, QRect, QSize, Qt
from PySide6.QtGui import QFontMetrics, QMouseEvent, QPainter, QPaintEvent, QShowEvent
from PySide6.QtWidgets import QDockWidget, QHBoxLayout, QMainWindow, QStackedWidget, QTabBar, QToolButton, QWidget

from watchhamster.core.text import _
from watchhamster.ui import theme
from watchhamster.ui.language import Translated

DockName = Literal["watch-list", "order-book", "trades", "journal"]
LAYOUT_VERSION = 1


def dock_title(name: DockName) -> str:
    """What a dock is called."""
    return {
        "watch-list": _("Watch list"),
        "order-book": _("Order book"),
        "trades": _("Trades"),
        "journal": _("Alerts and status"),
    }[name]


class DeskPage(QMainWindow):
    """Docks around the chart. `state` and `restore` keep their places."""

    def __init__(self, chart: QWidget, docks: dict[DockName, QWidget]) -> None:
        super().__init__()
        self.setWindowFlags(Qt.WindowType.Widget)
        self.setDockOptions(
            QMainWindow.DockOption.AllowNestedDocks
            | QMainWindow.DockOption.AllowTabbedDocks
            | QMainWindow.DockOption.GroupedDragging
        )
        # The book runs the whole height at the right, the journal lies under the chart.
        self.setCorner(Qt.Corner.BottomLeftCorner, Qt.DockWidgetArea.LeftDockWidgetArea)
        self.setCorner(Qt.Corner.BottomRightCorner, Qt.DockWidgetArea.RightDockWidgetArea)
        self.setCentralWidget(chart)
        self._docks = {name: Dock(name, widget, self) for name, widget in docks.items()}
        self._placed = False
        self.reset()

    def dock(self, name: DockName) -> Dock:
        """A dock."""
        return self._docks[name]

    def docks(self) -> list[Dock]:
        """All of them."""
        return list(self._docks.values())

    def reset(self) -> None:
        """Every dock where it was at first, in sizes that suit the window."""
        area = Qt.DockWidgetArea
        t = theme.current()
        width, height = max(self.width(), 700), max(self.height(), 400)
        narrow, low = width < t.px(760), height < t.px(400)  # large text on a small screen
        places = {
            "watch-list": area.RightDockWidgetArea if narrow else area.LeftDockWidgetArea,
            "order-book": area.RightDockWidgetArea,
            "trades": area.RightDockWidgetArea,
            "journal": area.BottomDockWidgetArea,
        }
        for name, dock in self._docks.items():
            dock.setFloating(False)
            self.addDockWidget(places[name], dock)
            dock.setVisible(not (low and name == "journal"))
        side, right = self._docks["watch-list"], self._docks["order-book"]
        if narrow:
            self.tabifyDockWidget(right, self._docks["trades"])
            self.tabifyDockWidget(right, side)
            side.raise_()
            self.resizeDocks([side], [width * 53 // 100], Qt.Orientation.Horizontal)
        else:
            wide = max(min(t.px(290), width * 25 // 100), min(t.px(264), width * 30 // 100))
            self.resizeDocks([side, right], [min(t.px(372), width * 27 // 100), wide], Qt.Orientation.Horizontal)
            self.resizeDocks([right, self._docks["trades"]], [t.px(500), t.px(240)], Qt.Orientation.Vertical)
        self.resizeDocks([self._docks["journal"]], [t.px(180)], Qt.Orientation.Vertical)

    def showEvent(self, event: QShowEvent) -> None:
        """Qt's: only now the window has its size."""
        super().showEvent(event)
        if not self._placed:
            self._placed = True
            self.reset()

    def state(self) -> bytes:
        """Where everything is."""
        return bytes(self.saveState(LAYOUT_VERSION).data())

    def restore(self, state: bytes) -> bool:
        """Put everything where it was; False when the layout is of another version (nothing moves then)."""
        self._placed = self.restoreState(QByteArray(state), LAYOUT_VERSION) or self._placed
        return self._placed


class Dock(Translated, QDockWidget):
    """A dock with a thin head."""

    def __init__(self, name: DockName, widget: QWidget, parent: QWidget) -> None:
        super().__init__(parent)
        self.name: DockName = name
        self.title: Callable[[], str] = lambda: dock_title(name)
        self.setObjectName(f"dock-{name}")
        self.setWidget(widget)
        self._head = _Head(self)
        self.setTitleBarWidget(self._head)
        self.words()

    def words(self) -> None:
        """Its title."""
        self.setWindowTitle(self.title())
        self.setAccessibleName(self.title())
        self._head.words()
        self._head.update()

    def call(self, title: Callable[[], str]) -> None:
        """Let it have another title: it shows something else."""
        self.title = title
        self.words()

    def add_tool(self, icon: str, spoken: Callable[[], str], run: Callable[[], object]) -> None:
        """Give the head a button of the dock's own."""
        self._head.add_tool(icon, spoken, run)

    def put_into_head(self, widget: QWidget) -> None:
        """Show a widget in place of the title."""
        self._head.hold(widget)


class _Head(Translated, QWidget):
    def __init__(self, dock: Dock) -> None:
        super().__init__(dock)
        self._dock = dock
        self._own: list[tuple[QToolButton, Callable[[], str]]] = []
        self._float = self._button("float", lambda: dock.setFloating(not dock.isFloating()))
        self._close = self._button("close", dock.close)
        self._held: QWidget | None = None
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 2, 0)
        self._row.setSpacing(0)
        self._row.addStretch(1)
        self._row.addWidget(self._float)
        self._row.addWidget(self._close)
        theme.changed.connect(self._themed)
        self.words()
        self._themed()

    def words(self) -> None:
        title = self._dock.title()
        for button, text in (
            (self._float, _("Float or dock {name}").format(name=title)),
            (self._close, _("Close {name}").format(name=title)),
            *((button, spoken()) for button, spoken in self._own),
        ):
            button.setToolTip(text)
            button.setAccessibleName(text)

    def add_tool(self, icon: str, spoken: Callable[[], str], run: Callable[[], object]) -> None:
        button = self._button(icon, run)
        self._own.append((button, spoken))
        self._row.insertWidget(self._row.indexOf(self._float), button)
        self.words()
        self._themed()

    def hold(self, widget: QWidget) -> None:
        self._held = widget
        self._row.insertWidget(0, widget)

    def sizeHint(self) -> QSize:
        return QSize(theme.current().px(80), theme.current().px(28))

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        event.ignore()  # the dock moves itself

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        event.ignore()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        event.ignore()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        event.ignore()

    def paintEvent(self, event: QPaintEvent) -> None:
        t = theme.current()
        painter = QPainter(self)
        painter.fillRect(self.rect(), t.panel)
        if self._held is not None:
            return
        font = t.font("small", bold=True)
        painter.setFont(font)
        painter.setPen(t.secondary)
        first = self._own[0][0] if self._own else self._float
        room = QRect(theme.BETWEEN, 0, max(0, first.x() - theme.BETWEEN - theme.INSIDE), self.height())
        text = QFontMetrics(font).elidedText(self._dock.windowTitle(), Qt.TextElideMode.ElideRight, room.width())
        painter.drawText(room, Qt.AlignmentFlag.AlignVCenter, text)

    def _button(self, icon: str, run: Callable[[], object]) -> QToolButton:
        button = QToolButton(self)
        button.setAutoRaise(True)
        button.setProperty("icon-name", icon)
        button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        button.clicked.connect(lambda _on=False: run())
        return button

    def _themed(self) -> None:
        t = theme.current()
        for button in (self._float, self._close, *(button for button, _spoken in self._own)):
            button.setIcon(theme.icon(str(button.property("icon-name")), "secondary"))
            button.setIconSize(QSize(t.px(14), t.px(14)))
            button.setFixedSize(t.px(24), t.px(24))
        self.updateGeometry()


class Journal(Translated, QStackedWidget):
    """Under the chart: alerts, the status tree and the log, one in front. `tabs` lie in the dock's head."""

    def __init__(self, alerts: QWidget, status: QWidget, log: QWidget) -> None:
        super().__init__()
        self._unseen = 0
        self.tabs = QTabBar()
        self.tabs.setDrawBase(False)
        self.tabs.setExpanding(False)
        for widget in (alerts, status, log):
            self.addWidget(widget)
            self.tabs.addTab("")
        self.tabs.currentChanged.connect(self.setCurrentIndex)
        theme.changed.connect(self._themed)
        self.words()
        self._themed()

    def words(self) -> None:
        """The tabs' names."""
        count = f"  {self._unseen}" if self._unseen else ""
        for i, text in enumerate((_("Alerts") + count, _("Status tree"), _("Log"))):
            self.tabs.setTabText(i, text)
        self.tabs.setAccessibleName(dock_title("journal"))

    def count_unseen(self, number: int) -> None:
        """So many alerts wait to be seen."""
        self._unseen = number
        self.words()

    def _themed(self) -> None:
        t = theme.current()
        self.tabs.setFont(t.font("small", bold=True))
        self.tabs.setStyleSheet(
            f"QTabBar::tab {{ background: {t.panel.name()}; color: {t.secondary.name()}; border: 0;"
            f" padding: {t.px(4)}px {t.px(10)}px; border-bottom: 2px solid {t.panel.name()}; }}"
            f"QTabBar::tab:selected {{ color: {t.text.name()}; border-bottom: 2px solid {t.accent.name()}; }}"
            f"QTabBar::tab:hover {{ color: {t.text.name()}; }}"
            f"QTabBar::tab:focus {{ border: 1px solid {t.focus.name()}; }}"
        )
