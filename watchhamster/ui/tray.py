"""The tray: the worst state as shape and colour on the hamster's face, and what one needs without opening the window.

Only `QSystemTrayIcon.isSystemTrayAvailable()` tells whether there is one; trays may come late, so it is asked again
after 2, 10 and 60 s.
"""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QObject, QPointF, QRectF, Qt, QTimer, Signal
from PySide6.QtGui import QColor, QIcon, QPainter, QPainterPath, QPen, QPixmap
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QMenu, QSystemTrayIcon

from watchhamster.core.text import _, say
from watchhamster.monitor.status import State, StatusNode, title
from watchhamster.ui import theme

ASK_AGAIN_S = (2, 10, 60)


class Tray(QObject):
    """The icon in the system's tray, where there is one."""

    open_wanted = Signal()
    what_is_wrong_wanted = Signal()
    status_wanted = Signal()
    mute_wanted = Signal(object)  # seconds, "today", or None to hear again
    quit_wanted = Signal()
    came = Signal()  # a tray appeared

    def __init__(self, parent: QObject, available: Callable[[], bool] = QSystemTrayIcon.isSystemTrayAvailable) -> None:
        super().__init__(parent)
        self._available = available
        self._icon = QSystemTrayIcon(self)
        self._menu = QMenu()
        self._worst: State = "unknown"
        self._tree: StatusNode | None = None
        self._muted = False
        self._icon.setContextMenu(self._menu)
        self._icon.activated.connect(self._activated)
        self._icon.messageClicked.connect(self.open_wanted)
        theme.changed.connect(self._draw)
        self.words()
        self._draw()
        self._look_for_tray()
        for seconds in ASK_AGAIN_S:
            QTimer.singleShot(seconds * 1000, self, self._look_for_tray)

    def is_there(self) -> bool:
        """Whether a person can see it: only then may the window hide."""
        return self._icon.isVisible() and self._available()

    def show_state(self, tree: StatusNode, muted: bool) -> None:
        """Let icon and tooltip say the tree's state."""
        worst: State = "muted" if muted and tree.state != "critical" else tree.state
        if worst != self._worst or muted != self._muted:
            self._worst, self._muted = worst, muted
            self._draw()
            self.words()
        self._tree = tree
        self._icon.setToolTip("\n".join(first_lines(tree, 3)))

    def say(self, title: str, text: str) -> bool:
        """A notification; False where there is no tray to show it."""
        there = self.is_there()
        if there:
            self._icon.showMessage(title, text, self._icon.icon(), 8000)
        return there

    def words(self) -> None:
        """Build the menu in the language in use."""
        menu = self._menu
        menu.clear()
        menu.addAction(_("Open WatchHamster"), self.open_wanted.emit)
        menu.addAction(_("What is wrong now"), self.what_is_wrong_wanted.emit)
        menu.addAction(_("Status"), self.status_wanted.emit)
        menu.addSeparator()
        if self._muted:
            menu.addAction(_("Hear alerts again"), lambda: self.mute_wanted.emit(None))
        menu.addAction(_("Mute for 5 minutes"), lambda: self.mute_wanted.emit(300))
        menu.addAction(_("Mute for an hour"), lambda: self.mute_wanted.emit(3600))
        menu.addAction(_("Mute for today"), lambda: self.mute_wanted.emit("today"))
        menu.addSeparator()
        menu.addAction(_("Quit"), self.quit_wanted.emit)

    def menu(self) -> QMenu:
        """Its menu."""
        return self._menu

    def tooltip(self) -> str:
        """What hovering it says."""
        return self._icon.toolTip()

    def picture(self) -> QIcon:
        """Its icon."""
        return self._icon.icon()

    def remove(self) -> None:
        """Take it away (at quit; some systems keep a ghost otherwise)."""
        self._icon.hide()

    def _look_for_tray(self) -> None:
        if self._available() and not self._icon.isVisible():
            self._icon.show()
            self.came.emit()

    def _activated(self, reason: QSystemTrayIcon.ActivationReason) -> None:
        if reason in (QSystemTrayIcon.ActivationReason.Trigger, QSystemTrayIcon.ActivationReason.DoubleClick):
            self.open_wanted.emit()

    def _draw(self) -> None:
        self._icon.setIcon(state_icon(self._worst))


def first_lines(tree: StatusNode, count: int) -> list[str]:
    """The worst lines of a tree first: `▲ upbit: what is the matter`; the root alone when all is well."""
    lines: list[tuple[int, str]] = []
    order = ("critical", "warning", "unknown", "pending", "muted", "ok")

    def walk(node: StatusNode, path: str) -> None:
        name = f"{path} › {title(node)}" if path else title(node)
        sign = theme.current().sign(node.state)
        detail = say(node.detail) if node.detail else sign.word
        lines.append((order.index(node.state), f"{sign.glyph} {name}: {detail}"))
        for child in node.children:
            walk(child, name if path or node is not tree else "")

    for child in tree.children:
        walk(child, "")
    sign = theme.current().sign(tree.state)
    head = f"{sign.glyph} WatchHamster: {say(tree.detail) if tree.detail else sign.word}"
    worst = [text for _order, text in sorted(lines, key=lambda line: line[0])]
    return [head, *worst][:count]


def state_icon(state: State) -> QIcon:
    """The hamster with the state's lamp at its lower right, in the sizes trays ask for."""
    icon = QIcon()
    renderer = QSvgRenderer(str(theme.RESOURCES / "icons" / "tray.svg"))
    for side in (16, 22, 24, 32, 48, 64):
        pixmap = QPixmap(side, side)
        pixmap.fill(Qt.GlobalColor.transparent)
        painter = QPainter(pixmap)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        renderer.render(painter, QRectF(0, 0, side, side))
        if state != "ok":  # all well needs no lamp: a lamp then means something
            box = QRectF(side * 0.45, side * 0.45, side * 0.55, side * 0.55)
            _lamp(painter, state, box, theme.current().sign(state).colour)
        painter.end()
        icon.addPixmap(pixmap)
    return icon


def _lamp(painter: QPainter, state: State, box: QRectF, colour: QColor) -> None:
    shape = QPainterPath()
    if state == "warning":
        shape.moveTo(box.center().x(), box.top())
        shape.lineTo(box.bottomRight())
        shape.lineTo(box.bottomLeft())
        shape.closeSubpath()
    elif state == "critical":
        shape.addRect(box.adjusted(box.width() * 0.08, box.width() * 0.08, 0, 0))
    elif state == "muted":
        bar = box.width() * 0.32
        shape.addRect(QRectF(box.left(), box.top(), bar, box.height()))
        shape.addRect(QRectF(box.right() - bar, box.top(), bar, box.height()))
    else:
        shape.addEllipse(box)
    painter.setPen(QPen(QColor("#10151A"), max(1.0, box.width() / 7)))
    painter.setBrush(QColor("#E6EAEF") if state in ("unknown", "pending") else colour)
    painter.drawPath(shape)
    if state in ("unknown", "pending"):
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colour)
        inner = box.adjusted(*[box.width() * 0.25] * 2, *[-box.width() * 0.25] * 2)
        if state == "pending":
            painter.drawPie(inner, 90 * 16, -90 * 16)
        else:
            painter.drawEllipse(QPointF(inner.center()), inner.width() / 6, inner.width() / 6)
