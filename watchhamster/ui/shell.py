"""The main window: rail, top bar, pages, message line, status bar.

It is made and painted before anything heavy is imported, so this file knows neither the engine nor the chart. The desk
and the other pages are put into it once they are there (`start.py` tells the order).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

from PySide6.QtCore import QEvent, QRect, QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QAction,
    QCloseEvent,
    QColor,
    QEnterEvent,
    QFontMetrics,
    QIcon,
    QKeyEvent,
    QKeySequence,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QResizeEvent,
)
from PySide6.QtWidgets import (
    QAbstractButton,
    QApplication,
    QButtonGroup,
    QComboBox,
    QHBoxLayout,
    QLineEdit,
    QMainWindow,
    QPlainTextEdit,
    QPushButton,
    QSizePolicy,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from watchhamster.core.ports import WatchHamsterError
from watchhamster.core.text import _, pgettext, say
from watchhamster.ui import theme
from watchhamster.ui.controls import Combo
from watchhamster.ui.finder import Choice, Finder, Palette
from watchhamster.ui.language import Translated

log = logging.getLogger("watchhamster.ui")
PAGES = ("desk", "watch", "alerts", "lab", "system", "settings")
TIMEFRAMES = ("1m", "5m", "15m", "1h", "4h", "1d", "1w")
MESSAGE_S = 8
UNDO_S = 10


def page_title(page: str) -> str:
    """The word under a page's icon."""
    return {
        "desk": pgettext("page", "Desk"),
        "watch": pgettext("page", "Watch"),
        "alerts": pgettext("page", "Alerts"),
        "lab": pgettext("page", "Lab"),
        "system": pgettext("page", "System"),
        "settings": pgettext("page", "Settings"),
    }[page]


class Shell(Translated, QMainWindow):
    """The window. Closing asks `may_hide` whether somebody keeps an eye on things from the tray."""

    quit_wanted = Signal()
    hidden_to_tray = Signal()
    first_painted = Signal()
    page_changed = Signal(str)
    search_started = Signal()

    def __init__(self, *, simulated: Literal["", "demo", "replay"] = "") -> None:
        super().__init__()
        self.simulated = simulated
        self.may_hide: Callable[[], bool] = lambda: False
        self._painted = False
        self._pages: dict[str, QWidget] = {}
        self._leaving = False

        self.rail = Rail(self)
        self.top = TopBar(self)
        self.away = MessageLine(self)
        self.stack = QStackedWidget()
        self.status = StatusLine(self)
        self.messages = MessageLine(self, slim=True)
        self.status.hold(self.messages)
        self.palette_box = Palette(self, self.actions)

        right = QVBoxLayout()
        right.setContentsMargins(0, 0, 0, 0)
        right.setSpacing(0)
        for widget in (self.top, self.away):
            right.addWidget(widget)
        right.addWidget(self.stack, 1)
        body = QHBoxLayout()
        body.setContentsMargins(0, 0, 0, 0)
        body.setSpacing(0)
        body.addWidget(self.rail)
        body.addLayout(right, 1)
        whole = QVBoxLayout()
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        if simulated:
            whole.addWidget(_Edge(self))
        whole.addLayout(body, 1)
        whole.addWidget(self.status)
        centre = QWidget()
        centre.setLayout(whole)
        self.setCentralWidget(centre)
        self.stack.addWidget(_Outline(self))
        self.setWindowIcon(QIcon(str(theme.RESOURCES / "icons" / "app.svg")))
        self.setMinimumSize(720, 480)
        self.resize(1440, 900)

        self.rail.chosen.connect(self.go)
        theme.changed.connect(self._themed)
        self._actions()
        self.words()
        self._themed()

    # ------------------------------------------------------------ pages

    def add_page(self, name: str, page: QWidget) -> None:
        """Put a page in; the first one replaces the outline that was painted while it was made."""
        outline = self.stack.widget(0) if not self._pages else None
        self._pages[name] = page
        self.stack.addWidget(page)
        if outline is not None:
            self.stack.removeWidget(outline)
            outline.deleteLater()
        self.rail.offer(name)

    def page(self, name: str) -> QWidget:
        """A page that was put in."""
        return self._pages[name]

    def current_page(self) -> str:
        """The page in front; empty before the first."""
        return next((name for name, page in self._pages.items() if page is self.stack.currentWidget()), "")

    def go(self, name: str) -> None:
        """Bring a page to the front."""
        if name in self._pages:
            self.stack.setCurrentWidget(self._pages[name])
            self.rail.mark(name)
            if self._pages[name].focusProxy() is not None:  # keys go to what came to the front
                self._pages[name].setFocus(Qt.FocusReason.OtherFocusReason)
            self.page_changed.emit(name)

    # ------------------------------------------------------------ what went wrong

    def tell(self, error: Exception) -> None:
        """Say in the message line that something asked for could not be done."""
        if isinstance(error, WatchHamsterError):
            self.messages.say(lambda: _sentence(error), state="critical", seconds=15)
            return
        log.error("an exception nobody expected", exc_info=error)
        self.messages.say(
            lambda: _("That did not work, and it is our fault: {problem}. The log has the details.").format(
                problem=f"{type(error).__name__}: {error}"
            ),
            state="critical",
            seconds=None,
        )

    def refuse(self, error: WatchHamsterError) -> None:
        """There will be no desk: say why, and what to do."""
        outline = self.stack.widget(0)
        if isinstance(outline, _Outline):
            outline.say(lambda: _sentence(error))

    # ------------------------------------------------------------ actions

    def add_action(self, name: str, title: Callable[[], str], run: Callable[[], object], key: str = "") -> QAction:
        """An action of the window: in the palette by its title, and by its key anywhere in the window."""
        action = QAction(self)
        action.setObjectName(name)
        action.setProperty("title", title)
        action.setText(title())
        if key:
            action.setShortcut(QKeySequence(key))
        action.setProperty("default_key", key)
        action.triggered.connect(lambda *_checked: run())
        self.addAction(action)
        return action

    def action(self, name: str) -> QAction:
        """The action of this name. Raises `KeyError`."""
        for action in self.actions():
            if action.objectName() == name:
                return action
        raise KeyError(name)

    def _actions(self) -> None:
        self.add_action("palette", lambda: _("Commands"), self.palette_box.open, "Ctrl+K")
        self.add_action("search", lambda: _("Search instruments"), self.start_search, "/")
        for i, name in enumerate(PAGES, 1):
            self.add_action(
                f"page-{name}",
                lambda name=name: _("Go to {page}").format(page=page_title(name)),  # type: ignore[misc]
                lambda name=name: self.go(name),  # type: ignore[misc]
                f"Alt+{i}",
            )
        self.add_action("full-screen", lambda: _("Full screen"), self._full_screen, "F11")
        self.add_action("quit", lambda: _("Quit WatchHamster"), self.quit_wanted.emit, "Ctrl+Q")

    def start_search(self, typed: str = "") -> None:
        """Put the cursor into the search field, with what was already typed."""
        field = self.top.search
        if not field.isEnabled():
            return
        self.search_started.emit()
        field.setFocus(Qt.FocusReason.ShortcutFocusReason)
        field.setText(typed)
        field.offer()

    def _full_screen(self) -> None:
        if self.isFullScreen():
            self.showNormal()
        else:
            self.showFullScreen()

    def come_forward(self) -> None:
        """Show the window in front of others."""
        if self.isMinimized():
            self.showNormal()
        self.show()
        self.raise_()
        self.activateWindow()

    # ------------------------------------------------------------ Qt's

    def words(self) -> None:
        """Title and actions."""
        self.setWindowTitle(
            {
                "": _("WatchHamster"),
                "demo": _("WatchHamster (built-in exchange)"),
                "replay": _("WatchHamster (recording)"),
            }[self.simulated]
        )
        for action in self.actions():
            title = action.property("title")
            if title is not None:
                action.setText(title())
                action.setToolTip(title())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Qt's: the first one starts the heavy part."""
        super().paintEvent(event)
        if not self._painted:
            self._painted = True
            QTimer.singleShot(0, self.first_painted.emit)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Qt's: letters nobody wanted start a search."""
        typed = event.text()
        plain = not event.modifiers() & ~(Qt.KeyboardModifier.ShiftModifier | Qt.KeyboardModifier.KeypadModifier)
        if plain and typed.isprintable() and typed.strip() and not _is_typing(QApplication.focusWidget()):
            self.start_search(typed)
            return
        super().keyPressEvent(event)

    def closeEvent(self, event: QCloseEvent) -> None:
        """Qt's: keeps watching from the tray where there is one; otherwise leaving is leaving."""
        event.ignore()
        if self._leaving:
            event.accept()
        elif self.may_hide():
            self.hide()
            self.hidden_to_tray.emit()
        else:
            self.quit_wanted.emit()

    def leave(self) -> None:
        """Close for good."""
        self._leaving = True
        self.close()

    def _themed(self) -> None:
        t = theme.current()
        self.setIconSize(QSize(t.px(16), t.px(16)))
        self.update()


def _is_typing(widget: QWidget | None) -> bool:
    return isinstance(widget, QLineEdit | QPlainTextEdit | QComboBox)


class _Edge(QWidget):
    """The violet top edge: nothing in this window comes from the market."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setFixedHeight(3)
        theme.changed.connect(self.update)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.fillRect(self.rect(), theme.current().simulated)


class _Outline(QWidget):
    """The desk's panels before there is anything to put into them; or why there will be nothing."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._text: Callable[[], str] = lambda: _("Reading what is stored…")

    def say(self, text: Callable[[], str]) -> None:
        self._text = text
        self.setAccessibleName(text())
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        t = theme.current()
        painter = QPainter(self)
        painter.fillRect(self.rect(), t.line)
        width, height = self.width(), self.height()
        left, right, low = min(t.px(300), width // 4), min(t.px(280), width // 4), min(t.px(200), height // 4)
        for x, y, w, h in (
            (0, 0, left, height),
            (left + 1, 0, width - left - right - 2, height - low - 1),
            (left + 1, height - low, width - left - right - 2, low),
            (width - right, 0, right, height),
        ):
            painter.fillRect(QRect(x, y, w, h), t.panel)
        painter.setPen(t.secondary)
        painter.setFont(t.font())
        middle = QRect(left, 0, width - left - right, height - low).adjusted(theme.AROUND, 0, -theme.AROUND, 0)
        painter.drawText(middle, Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap, self._text())


def _sentence(error: WatchHamsterError) -> str:
    return f"{say(error.text)} {say(error.hint)}" if error.hint is not None else say(error.text)


# ---------------------------------------------------------------- rail


class Rail(QWidget):
    """The pages, a word under each icon."""

    chosen = Signal(str)

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._buttons = {name: _RailButton(name, self) for name in PAGES}
        self._group = QButtonGroup(self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, theme.BETWEEN, 0, theme.BETWEEN)
        layout.setSpacing(theme.INSIDE)
        for name, button in self._buttons.items():
            if name == "settings":
                layout.addStretch(1)
            layout.addWidget(button)
            self._group.addButton(button)
            button.clicked.connect(lambda _on=False, name=name: self.chosen.emit(name))
            button.setEnabled(False)
        self._buttons["desk"].setChecked(True)
        theme.changed.connect(self.update)

    def offer(self, name: str) -> None:
        """The page exists now."""
        self._buttons[name].setEnabled(True)

    def mark(self, name: str) -> None:
        """This page is in front."""
        self._buttons[name].setChecked(True)

    def count(self, name: str, number: int) -> None:
        """A number at a page's icon: how many wait there to be seen."""
        self._buttons[name].number = number
        self._buttons[name].words()
        self._buttons[name].update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Qt's."""
        t = theme.current()
        painter = QPainter(self)
        painter.fillRect(self.rect(), t.ground)
        painter.fillRect(self.width() - 1, 0, 1, self.height(), t.line)


class _RailButton(Translated, QAbstractButton):
    def __init__(self, name: str, parent: QWidget) -> None:
        super().__init__(parent)
        self.name = name
        self.number = 0
        self.setCheckable(True)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        theme.changed.connect(self.updateGeometry)
        self.words()

    def words(self) -> None:
        title = page_title(self.name)
        self.setText(title)
        self.setToolTip(f"{title}  Alt+{PAGES.index(self.name) + 1}")
        self.setAccessibleName(
            _("{page}, {count} to see").format(page=title, count=self.number) if self.number else title
        )
        self.updateGeometry()

    def sizeHint(self) -> QSize:
        t = theme.current()
        text = QFontMetrics(t.font("small")).horizontalAdvance(self.text())
        return QSize(max(t.px(64), text + 2 * theme.BETWEEN), t.px(52))

    def enterEvent(self, event: QEnterEvent) -> None:
        self.update()

    def leaveEvent(self, event: QEvent) -> None:
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        t = theme.current()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        box = self.rect().adjusted(0, 0, -1, 0)
        if self.isChecked():
            painter.fillRect(box, t.panel)
            painter.fillRect(QRect(0, box.top(), 3, box.height()), t.accent)
        elif self.underMouse() and self.isEnabled():
            painter.fillRect(box, t.mixed(t.text, 0.06, t.ground))
        if self.hasFocus():
            painter.setPen(t.focus)
            painter.drawRect(box.adjusted(1, 1, -1, -1))
            painter.drawRect(box.adjusted(2, 2, -2, -2))
        side = t.px(18)
        colour = None if self.isChecked() else ("secondary" if self.isEnabled() else "disabled")
        x, y = (self.width() - side) // 2, t.px(9)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawPixmap(QRect(x, y, side, side), theme.icon(self.name, colour).pixmap(QSize(24, 24), 2.0))
        painter.setFont(t.font("small"))
        painter.setPen(t.text if self.isChecked() else t.secondary if self.isEnabled() else t.disabled)
        words = QRect(0, y + side + t.px(2), self.width(), t.px(18))
        painter.drawText(words, Qt.AlignmentFlag.AlignCenter, self.text())
        if self.number:
            text = str(self.number) if self.number < 100 else "99+"
            metrics = QFontMetrics(t.font("small", bold=True))
            badge = QRect(x + side - t.px(4), t.px(4), metrics.horizontalAdvance(text) + t.px(8), t.px(15))
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(t.accent)
            painter.drawRoundedRect(badge, badge.height() / 2, badge.height() / 2)
            painter.setPen(t.ground)
            painter.setFont(t.font("small", bold=True))
            painter.drawText(badge, Qt.AlignmentFlag.AlignCenter, text)


# ---------------------------------------------------------------- top bar


class TopBar(QWidget):
    """Search, the instrument in hand with its price, timeframes, the clock."""

    timeframe_chosen = Signal(str)

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.choices: Callable[[str], list[Choice]] = lambda _query: []
        self.search = Finder(self, lambda query: self.choices(query), lambda: (_("Search  /"), _("Search instruments")))
        self.search.setEnabled(False)
        self._glass = self.search.addAction(theme.icon("search", "secondary"), QLineEdit.ActionPosition.LeadingPosition)
        self.instrument = _InstrumentLabel(self)
        self.timeframes = _Timeframes(self)
        self.clock = _Clock(self)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(theme.BETWEEN, theme.INSIDE, theme.AROUND, theme.INSIDE)
        layout.setSpacing(theme.AROUND)
        layout.addWidget(self.search)
        layout.addWidget(self.instrument, 1)
        layout.addWidget(self.timeframes)
        layout.addWidget(self.clock)
        self.timeframes.chosen.connect(self.timeframe_chosen)
        self.instrument.resized.connect(self._fit)
        theme.changed.connect(self._themed)
        self._themed()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Qt's: what matters least goes first when there is little room."""
        super().resizeEvent(event)
        self._fit()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Qt's."""
        t = theme.current()
        painter = QPainter(self)
        painter.fillRect(self.rect(), t.ground)
        painter.fillRect(0, self.height() - 1, self.width(), 1, t.line)

    def _themed(self) -> None:
        t = theme.current()
        self.setFixedHeight(t.px(44))
        self._glass.setIcon(theme.icon("search", "secondary"))
        self._fit()

    def _fit(self) -> None:
        layout = self.layout()
        assert layout is not None
        search = min(theme.current().px(190), max(120, self.width() // 4))
        self.search.setFixedWidth(search)
        wide, narrow, clock = self.timeframes.wide_hint(), self.timeframes.narrow_hint(), self.clock.sizeHint().width()
        room = self.width() - 5 * theme.AROUND - search - self.instrument.least_width()
        if room < narrow:  # the price counts for more than a wide field to search in
            self.search.setFixedWidth(max(theme.current().px(56), search + room - narrow))
        self.timeframes.set_narrow(room < wide + clock)
        self.clock.setVisible(room >= narrow + clock)


class _InstrumentLabel(Translated, QWidget):
    """`비트코인 KRW-BTC  95,123,000  ▲ +1.23 %`; shortened from the name on when there is little room."""

    resized = Signal()  # it says more or less than before

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._name = self._symbol = ""
        self._price = self._change = "…"
        self._direction: float | None = None
        self._stale = ""
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        theme.changed.connect(self.update)
        self.words()

    def words(self) -> None:
        """Its description for those who cannot see it."""
        self.setAccessibleName(
            f"{self._name} {self._symbol} {self._price} {self._change} {self._stale}".strip()
            if self._symbol
            else _("No instrument chosen")
        )

    def show_instrument(self, name: str, symbol: str) -> None:
        self._name, self._symbol, self._price, self._change, self._direction = name, symbol, "…", "", None
        if name == symbol:  # nobody has told us a better one
            self._name = ""
        self.setToolTip(f"{name} {symbol}")
        self.words()
        self.update()

    def show_price(self, price: str, change: str, direction: float | None, stale: str) -> None:
        if (price, change, direction, stale) != (self._price, self._change, self._direction, self._stale):
            longer = len(price) != len(self._price) or len(change) != len(self._change)
            self._price, self._change, self._direction, self._stale = price, change, direction, stale
            self.words()
            if longer:
                self.updateGeometry()
                self.resized.emit()
            self.update()

    def least_width(self) -> int:
        t = theme.current()
        large, base = QFontMetrics(t.font("large", bold=True)), QFontMetrics(t.font())
        return (
            large.horizontalAdvance(self._price or "95,123,000")
            + base.horizontalAdvance(self._symbol or "KRW-BTC")
            + base.horizontalAdvance(self._change or "▲ +1.23 %")
            + 2 * theme.BETWEEN
        )

    def minimumSizeHint(self) -> QSize:
        return QSize(min(self.least_width(), theme.current().px(230)), theme.current().px(30))

    def paintEvent(self, event: QPaintEvent) -> None:
        if not self._symbol:
            return
        t = theme.current()
        painter = QPainter(self)
        middle = Qt.AlignmentFlag.AlignVCenter
        fixed = self.least_width() + (
            QFontMetrics(t.font()).horizontalAdvance(self._stale) + theme.BETWEEN if self._stale else 0
        )
        x = 0

        def put(text: str, colour: QColor, font_size: Literal["base", "large"], bold: bool, room: int) -> None:
            nonlocal x
            font = t.font(font_size, bold)
            metrics = QFontMetrics(font)
            shown = metrics.elidedText(text, Qt.TextElideMode.ElideRight, room)
            painter.setFont(font)
            painter.setPen(colour)
            painter.drawText(QRect(x, 0, room, self.height()), middle, shown)
            x += metrics.horizontalAdvance(shown) + theme.BETWEEN

        spare = self.width() - fixed - theme.BETWEEN
        if spare > t.px(48) and self._name:
            put(self._name, t.text, "base", True, spare)
        put(self._symbol, t.secondary, "base", False, self.width() - x)
        number = t.disabled if self._stale else t.direction(self._direction)
        put(self._price, number, "large", True, self.width() - x)
        put(self._change, number, "base", False, self.width() - x)
        if self._stale:
            put(self._stale, t.sign("warning").colour, "base", False, self.width() - x)


class _Timeframes(Translated, QWidget):
    """One button a timeframe; a single one with a menu where there is no room."""

    chosen = Signal(str)

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._group = QButtonGroup(self)
        self._buttons: dict[str, QToolButton] = {}
        self._layout = QHBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(2)
        for name in TIMEFRAMES:
            button = QToolButton(self)
            button.setText(name)
            button.setCheckable(True)
            button.setAutoRaise(True)
            button.clicked.connect(lambda _on=False, name=name: self.chosen.emit(name))
            self._group.addButton(button)
            self._buttons[name] = button
            self._layout.addWidget(button)
        self._short = Combo()
        self._short.addItems(TIMEFRAMES)
        self._short.textActivated.connect(self.chosen)
        self._short.hide()
        self._layout.addWidget(self._short)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)
        theme.changed.connect(self._themed)
        self.setEnabled(False)
        self._themed()
        self.words()

    def words(self) -> None:
        """Names for those who cannot see them."""
        for i, (name, button) in enumerate(self._buttons.items(), 1):
            button.setAccessibleName(_("Timeframe {name}").format(name=name))
            button.setToolTip(_("{name} candles  Ctrl+{digit}").format(name=name, digit=i))
        self._short.setAccessibleName(_("Timeframe"))

    def mark(self, name: str) -> None:
        if name in self._buttons:
            self._buttons[name].setChecked(True)
            self._short.setCurrentText(name)

    def set_narrow(self, narrow: bool) -> None:
        for button in self._buttons.values():
            button.setVisible(not narrow)
        self._short.setVisible(narrow)

    def wide_hint(self) -> int:
        return sum(button.sizeHint().width() + 2 for button in self._buttons.values())

    def narrow_hint(self) -> int:
        return self._short.sizeHint().width()

    def _themed(self) -> None:
        t = theme.current()
        self.setStyleSheet(
            f"QToolButton {{ border: 0; border-radius: {theme.RADIUS}px; padding: {t.px(3)}px {t.px(6)}px;"
            f" color: {t.secondary.name()}; background: transparent; }}"
            f"QToolButton:hover {{ background: {t.raised.name()}; }}"
            f"QToolButton:checked {{ background: {t.mixed(t.accent, 0.25, t.ground).name()};"
            f" color: {t.text.name()}; }}"
            f"QToolButton:focus {{ border: 2px solid {t.focus.name()}; padding: {t.px(3) - 2}px {t.px(6) - 2}px; }}"
        )


class _Clock(QWidget):
    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._text = ""
        theme.changed.connect(self.updateGeometry)

    def show_time(self, text: str) -> None:
        if text != self._text:
            longer = len(text) != len(self._text)
            self._text = text
            self.setAccessibleName(text)
            if longer:
                self.updateGeometry()
            self.update()

    def sizeHint(self) -> QSize:
        t = theme.current()
        return QSize(QFontMetrics(t.font()).horizontalAdvance(self._text or "00:00:00 KST") + 2, t.px(30))

    def paintEvent(self, event: QPaintEvent) -> None:
        t = theme.current()
        painter = QPainter(self)
        painter.setFont(t.font())
        painter.setPen(t.secondary)
        painter.drawText(self.rect(), Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight, self._text)


# ---------------------------------------------------------------- messages


class MessageLine(Translated, QWidget):
    """One sentence with at most one button, where it hides no data. Newest first, others wait.

    It has a line of its own, or (`slim`) the free place in the status bar, where nothing moves when it comes and goes.
    """

    def __init__(self, parent: QWidget, *, slim: bool = False) -> None:
        super().__init__(parent)
        self._slim = slim
        self._waiting: list[_Message] = []
        self._glyph = _Glyph(self)
        self._text = ElidedText(self)
        self._act = QPushButton(self)
        self._close = QToolButton(self)
        self._close.setAutoRaise(True)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(theme.AROUND, 2, theme.BETWEEN, 2)
        if slim:
            layout.setContentsMargins(theme.BETWEEN, 0, 0, 0)
        layout.setSpacing(theme.BETWEEN)
        layout.addWidget(self._glyph)
        layout.addWidget(self._text, 1)
        layout.addWidget(self._act)
        layout.addWidget(self._close)
        self._timer = QTimer(self)
        self._timer.setInterval(1000)
        self._timer.timeout.connect(self._tick)
        self._act.clicked.connect(self._acted)
        self._close.clicked.connect(self._next)
        theme.changed.connect(self._themed)
        self.hide()
        self.words()
        self._themed()

    def words(self) -> None:
        """Its buttons."""
        self._close.setAccessibleName(_("Dismiss"))
        self._close.setToolTip(_("Dismiss"))
        self._show()

    def say(
        self,
        text: Callable[[], str],
        *,
        state: str = "info",
        act: Callable[[], str] | None = None,
        run: Callable[[], None] | None = None,
        seconds: int | None = MESSAGE_S,
        gone: Callable[[], None] | None = None,
    ) -> None:
        """Show a sentence, perhaps with a button, for some seconds (None: till dismissed); `gone` if it went unused."""
        self._waiting.insert(0, _Message(text, state, act, run, seconds, gone))
        for old in self._waiting[20:]:  # nobody reads further back; what matters is in the inbox and the log
            if old.gone is not None:
                old.gone()
        del self._waiting[20:]
        self._show()

    def text(self) -> str:
        """What it says now."""
        return self._text.text() if self._waiting else ""

    def press(self) -> None:
        """Press its button."""
        self._acted()

    def undo(self) -> None:
        """Take back the last act that can still be taken back."""
        for message in self._waiting:
            if message.act is not None and message.act() == _("Undo") and message.run is not None:
                self._waiting.remove(message)
                self._show()
                message.run()
                return

    def finish(self) -> None:
        """Let everything that waits go, unused."""
        while self._waiting:
            self._next()

    def _show(self) -> None:
        self.setVisible(bool(self._waiting))
        if not self._waiting:
            self._timer.stop()
            return
        message = self._waiting[0]
        self._glyph.show_state(message.state)
        more = len(self._waiting) - 1
        self._text.setText(message.text() + (_("  (+{count} more)").format(count=more) if more else ""))
        self._act.setVisible(message.act is not None)
        if message.act is not None:
            left = f" ({message.seconds})" if message.seconds is not None and message.gone is not None else ""
            self._act.setText(message.act() + left)
        if message.seconds is not None:
            self._timer.start()
        else:
            self._timer.stop()

    def _tick(self) -> None:
        for message in list(self._waiting):
            if message.seconds is not None:
                message.seconds -= 1
                if message.seconds <= 0:
                    self._waiting.remove(message)
                    if message.gone is not None:
                        message.gone()
        self._show()

    def _acted(self) -> None:
        if self._waiting:
            message = self._waiting.pop(0)
            self._show()
            if message.run is not None:
                message.run()

    def _next(self) -> None:
        if self._waiting:
            message = self._waiting.pop(0)
            self._show()
            if message.gone is not None:
                message.gone()

    def _themed(self) -> None:
        t = theme.current()
        self.setFixedHeight(t.px(28 if self._slim else 36))
        if self._slim:
            self._act.setStyleSheet(f"padding: 0 {t.px(8)}px; min-height: {t.px(20)}px; max-height: {t.px(20)}px;")
        self._close.setIcon(theme.icon("close", "secondary"))
        self._show()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Qt's."""
        t = theme.current()
        painter = QPainter(self)
        painter.fillRect(self.rect(), t.raised)
        painter.fillRect(0, 0, self.width(), 1, t.line)
        if not self._slim:
            painter.fillRect(0, self.height() - 1, self.width(), 1, t.line)


class _Message:
    def __init__(
        self,
        text: Callable[[], str],
        state: str,
        act: Callable[[], str] | None,
        run: Callable[[], None] | None,
        seconds: int | None,
        gone: Callable[[], None] | None,
    ) -> None:
        self.text, self.state, self.act, self.run, self.seconds, self.gone = text, state, act, run, seconds, gone


class _Glyph(QWidget):
    """A state's shape in its colour."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._state = "unknown"
        theme.changed.connect(self.updateGeometry)

    def show_state(self, state: str) -> None:
        self._state = state
        self.setToolTip(theme.current().sign(state).word)
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(theme.current().px(16), theme.current().px(20))

    def paintEvent(self, event: QPaintEvent) -> None:
        t = theme.current()
        sign = t.sign(self._state)
        painter = QPainter(self)
        painter.setFont(t.font())
        painter.setPen(sign.colour)
        painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, sign.glyph)


class ElidedText(QWidget):
    """A line of text that ends in … where there is no room, whole in its tooltip."""

    def __init__(self, parent: QWidget, *, bold: bool = False, quiet: bool = False) -> None:
        super().__init__(parent)
        self._text = ""
        self._bold, self._quiet = bold, quiet
        theme.changed.connect(self.updateGeometry)

    def setText(self, text: str) -> None:
        self._text = text
        self.setToolTip(text)
        self.setAccessibleName(text)
        self.update()

    def text(self) -> str:
        return self._text

    def minimumSizeHint(self) -> QSize:
        return QSize(theme.current().px(40), theme.current().px(20))

    def paintEvent(self, event: QPaintEvent) -> None:
        t = theme.current()
        painter = QPainter(self)
        font = t.font("base", self._bold)
        painter.setFont(font)
        painter.setPen(t.secondary if self._quiet else t.text)
        shown = QFontMetrics(font).elidedText(self._text, Qt.TextElideMode.ElideRight, self.width())
        painter.drawText(self.rect(), Qt.AlignmentFlag.AlignVCenter, shown)


# ---------------------------------------------------------------- status bar


class StatusLine(QWidget):
    """Feeds with their lamps, messages a second, store, memory, tenant, and what is unusual (muted, simulated)."""

    clicked = Signal(str)  # the part: a feed's venue, "store", "mute", …

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._parts: dict[str, StatusPart] = {}
        self._layout = QHBoxLayout(self)
        self._layout.setContentsMargins(theme.BETWEEN, 0, theme.BETWEEN, 0)
        self._layout.setSpacing(theme.INSIDE)
        self._layout.addStretch(1)
        theme.changed.connect(self._themed)
        self._themed()

    def hold(self, widget: QWidget) -> None:
        """Let a widget have the free place between the parts, while it is shown."""
        self._layout.insertWidget(self._layout.count(), widget, 1000)

    def show_part(self, name: str, text: str, state: str = "", detail: str = "", *, at_end: bool = False) -> None:
        """Write one part; an empty text takes it away. `state` gives it a lamp, or `simulated` the violet."""
        part = self._parts.get(name)
        if part is None:
            if not text:
                return
            part = self._parts[name] = StatusPart(self)
            part.clicked.connect(lambda: self.clicked.emit(name))
            place = (
                self._layout.count()
                if at_end
                else next(
                    i
                    for i in range(self._layout.count())
                    if self._layout.itemAt(i).spacerItem() is not None  # type: ignore[union-attr]
                )
            )
            self._layout.insertWidget(place, part)
        part.show_text(text, state, detail)
        part.setVisible(bool(text))

    def text(self, name: str) -> str:
        """What a part says; empty when it is not there."""
        part = self._parts.get(name)
        return part.text() if part is not None and not part.isHidden() else ""

    def paintEvent(self, event: QPaintEvent) -> None:
        """Qt's."""
        t = theme.current()
        painter = QPainter(self)
        painter.fillRect(self.rect(), t.ground)
        painter.fillRect(0, 0, self.width(), 1, t.line)

    def _themed(self) -> None:
        self.setFixedHeight(theme.current().px(28))


class StatusPart(QAbstractButton):
    """One part of the status bar: a lamp and words."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._state = ""
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.updateGeometry)

    def show_text(self, text: str, state: str, detail: str) -> None:
        if (text, state) != (self.text(), self._state):
            resized = len(text) != len(self.text()) or bool(state) != bool(self._state)
            self._state = state
            self.setText(text)
            if resized:
                self.updateGeometry()
            self.update()
        word = theme.current().sign(state).word if state and state != "simulated" else ""
        self.setAccessibleName(f"{text} {word}".strip())
        self.setToolTip(detail or word)

    def sizeHint(self) -> QSize:
        t = theme.current()
        width = QFontMetrics(t.font("small")).horizontalAdvance(self.text()) + 2 * theme.BETWEEN
        return QSize(width + (t.px(14) if self._state else 0), t.px(24))

    def minimumSizeHint(self) -> QSize:
        return QSize(theme.current().px(24), theme.current().px(24))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        super().mousePressEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        t = theme.current()
        painter = QPainter(self)
        font = t.font("small")
        painter.setFont(font)
        box = self.rect().adjusted(theme.BETWEEN, 0, -theme.BETWEEN, 0)
        middle = Qt.AlignmentFlag.AlignVCenter
        colour = t.secondary
        if self._state == "simulated":
            painter.fillRect(self.rect().adjusted(2, 3, -2, -3), t.mixed(t.simulated, 0.25, t.ground))
            painter.setPen(t.simulated)
            painter.drawText(box, middle, "▨")
            colour = t.text
        elif self._state:
            sign = t.sign(self._state)
            painter.setPen(sign.colour)
            painter.drawText(box, middle, sign.glyph)
            colour = t.text
        if self._state:
            box.setLeft(box.left() + t.px(14))
        if self.hasFocus():
            painter.setPen(t.focus)
            painter.drawRect(self.rect().adjusted(1, 2, -2, -3))
        painter.setPen(colour)
        shown = QFontMetrics(font).elidedText(self.text(), Qt.TextElideMode.ElideRight, box.width() + 1)
        painter.drawText(box, middle, shown)
