"""Find by typing: the search over instruments in the top bar and the palette of every action (Ctrl+K).

One field, one list under it. The list is a child of the window rather than a popup, so it never grabs the mouse and
works on every platform; arrows move, Enter takes, Escape leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QObject, QPoint, QRect, QSize, Qt, Signal
from PySide6.QtGui import QAction, QFontMetrics, QKeyEvent, QPainter
from PySide6.QtWidgets import (
    QFrame,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from watchhamster.core.instruments import InstrumentInfo
from watchhamster.core.text import _
from watchhamster.ui import theme
from watchhamster.ui.language import Translated

ROWS_MAX = 12


@dataclass(frozen=True)
class Choice:
    """Something that can be found: its title, a second word beside it, a key at the right, and what taking it does."""

    title: str
    detail: str = ""
    key: str = ""
    take: Callable[[], None] = lambda: None


def rank(query: str, *words: str) -> int | None:
    """How well the query fits the words, 0 best; None not at all. A whole word, a start, a part, letters in order."""
    wanted = query.casefold().strip()
    if not wanted:
        return 3
    best: int | None = None
    for word in words:
        text = word.casefold()
        if text == wanted:
            score = 0
        elif text.startswith(wanted):
            score = 1
        elif any(part.startswith(wanted) for part in text.replace("-", " ").replace(":", " ").split()):
            score = 2
        elif wanted in text:
            score = 3
        elif len(wanted) > 2 and _in_order(wanted, text):
            score = 4
        else:
            continue
        best = score if best is None else min(best, score)
    return best


def _in_order(letters: str, text: str) -> bool:
    rest = iter(text)
    return all(letter in rest for letter in letters)


def instruments_matching(
    query: str, known: Iterable[InstrumentInfo], first: Sequence[str] = ()
) -> list[InstrumentInfo]:
    """Instruments by symbol, base, Korean or English name; the watch list's before others of the same fit."""
    place = {name: i for i, name in enumerate(first)}
    found = [
        (score, place.get(info.instrument, len(place)), info.quote != "KRW", i, info)
        for i, info in enumerate(known)
        if (score := rank(query, info.symbol, info.base, *info.names.values(), info.instrument)) is not None
    ]
    return [row[-1] for row in sorted(found, key=lambda row: row[:4])[:ROWS_MAX]]


class Finder(Translated, QLineEdit):
    """A field that offers choices while one types. `choices(query)` makes the list; `spoken()` its hint and name."""

    left = Signal()  # Escape, or a choice was taken

    def __init__(
        self, parent: QWidget, choices: Callable[[str], list[Choice]], spoken: Callable[[], tuple[str, str]]
    ) -> None:
        super().__init__(parent)
        self._choices = choices
        self._spoken = spoken
        self._offered: list[Choice] = []
        self._list = _List(self)
        self.textEdited.connect(lambda _text: self.offer())
        self.setClearButtonEnabled(False)
        self.words()

    def words(self) -> None:
        """Its hint and its name."""
        hint, name = self._spoken()
        self.setPlaceholderText(hint)
        self.setAccessibleName(name)

    def offer(self) -> None:
        """Fill and show the list for what is typed."""
        self._offered = self._choices(self.text())
        self._list.fill(self._offered, _("Nothing is called that."))
        self._list.place()

    def offered(self) -> list[Choice]:
        """What the list holds."""
        return self._offered if self._list.isVisible() else []

    def take(self, row: int) -> None:
        """Take a row of the list."""
        if 0 <= row < len(self._offered):
            choice = self._offered[row]
            self.leave()
            choice.take()

    def leave(self) -> None:
        """Close the list and clear the field."""
        self._list.hide()
        self.clear()
        self.left.emit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Qt's: arrows, Enter and Escape are the list's."""
        key = event.key()
        if key in (Qt.Key.Key_Down, Qt.Key.Key_Up, Qt.Key.Key_PageDown, Qt.Key.Key_PageUp):
            if not self._list.isVisible():
                self.offer()
            else:
                self._list.step({Qt.Key.Key_Down: 1, Qt.Key.Key_Up: -1, Qt.Key.Key_PageDown: 8}.get(Qt.Key(key), -8))
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            if self._list.isVisible():
                self.take(self._list.currentRow())
            else:
                self.offer()
        elif key == Qt.Key.Key_Escape:
            self.leave()
        else:
            super().keyPressEvent(event)

    def focusOutEvent(self, event: QEvent) -> None:
        """Qt's: the list closes when the field is left."""
        super().focusOutEvent(event)  # type: ignore[arg-type]
        self._list.hide()


class _List(QListWidget):
    def __init__(self, field: Finder) -> None:
        super().__init__(field.window())
        self._field = field
        self.hide()
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setItemDelegate(_Row(self))
        self.itemClicked.connect(lambda item: field.take(self.row(item)))

    def fill(self, choices: list[Choice], empty: str) -> None:
        self.clear()
        self.setAccessibleName(self._field.accessibleName())
        for choice in choices:
            item = QListWidgetItem(choice.title, self)
            item.setData(Qt.ItemDataRole.UserRole, choice)
            item.setData(Qt.ItemDataRole.AccessibleTextRole, " ".join((choice.title, choice.detail, choice.key)))
        if not choices:
            item = QListWidgetItem(empty, self)
            item.setFlags(Qt.ItemFlag.NoItemFlags)
        self.setCurrentRow(0)

    def place(self) -> None:
        window = self._field.window()
        if self.parent() is not window:
            self.setParent(window)
        t = theme.current()
        corner = self._field.mapTo(window, QPoint(0, self._field.height() + theme.INSIDE))
        width = min(max(self._field.width(), t.px(360)), window.width() - corner.x() - theme.BETWEEN)
        rows = min(ROWS_MAX, max(1, self.count()))
        height = min(rows * (t.row_height + theme.INSIDE) + 2, window.height() - corner.y() - theme.BETWEEN)
        self.setGeometry(QRect(corner, QSize(width, height)))
        self.setStyleSheet(f"QListWidget {{ background: {t.raised.name()}; border: 1px solid {t.line.name()}; }}")
        self.show()
        self.raise_()

    def step(self, rows: int) -> None:
        self.setCurrentRow(max(0, min(self.count() - 1, self.currentRow() + rows)))


class _Row(QStyledItemDelegate):
    """Title, quieter detail, key at the right."""

    def sizeHint(self, option: QStyleOptionViewItem, index: object) -> QSize:
        return QSize(100, theme.current().row_height + theme.INSIDE)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: object) -> None:
        t = theme.current()
        choice = index.data(Qt.ItemDataRole.UserRole)  # type: ignore[attr-defined]
        rect = option.rect
        if option.state & QStyle.StateFlag.State_Selected:
            painter.fillRect(rect, t.mixed(t.accent, 0.22, t.raised))
        inner = rect.adjusted(theme.BETWEEN + 2, 0, -theme.BETWEEN - 2, 0)
        painter.setFont(t.font())
        metrics = QFontMetrics(t.font())
        middle = Qt.AlignmentFlag.AlignVCenter
        if choice is None:
            painter.setPen(t.secondary)
            painter.drawText(inner, middle, index.data())  # type: ignore[attr-defined]
            return
        if choice.key:
            painter.setPen(t.secondary)
            painter.drawText(inner, middle | Qt.AlignmentFlag.AlignRight, choice.key)
            inner.setRight(inner.right() - metrics.horizontalAdvance(choice.key) - theme.BETWEEN)
        painter.setPen(t.text)
        title = metrics.elidedText(choice.title, Qt.TextElideMode.ElideRight, inner.width())
        painter.drawText(inner, middle, title)
        inner.setLeft(inner.left() + metrics.horizontalAdvance(title) + theme.BETWEEN)
        painter.setPen(t.secondary)
        painter.drawText(inner, middle, metrics.elidedText(choice.detail, Qt.TextElideMode.ElideRight, inner.width()))


class Palette(Translated, QFrame):
    """Every action with its key, found by typing; lies over the top of the window and goes when left."""

    def __init__(self, window: QWidget, actions: Callable[[], list[QAction]]) -> None:
        super().__init__(window)
        self._window = window
        self._actions = actions
        self.field = Finder(self, self._matching, lambda: (_("What would you like to do?"), _("Commands")))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(*[theme.BETWEEN] * 4)
        layout.addWidget(self.field)
        self.field.left.connect(self.hide)
        self.hide()
        window.installEventFilter(self)
        self.words()

    def words(self) -> None:
        """Its name."""
        self.setAccessibleName(_("Commands"))

    def open(self) -> None:
        """Show it, ready to type."""
        t = theme.current()
        self.setStyleSheet(
            f"Palette {{ background: {t.raised.name()}; border: 1px solid {t.line.name()};"
            f" border-radius: {theme.RADIUS}px; }}"
        )
        self._place()
        self.show()
        self.raise_()
        self.field.setFocus(Qt.FocusReason.ShortcutFocusReason)
        self.field.offer()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Qt's: stays in the middle of the window."""
        if event.type() == QEvent.Type.Resize and self.isVisible():
            self._place()
        return False

    def _place(self) -> None:
        window = self._window
        width = min(theme.current().px(560), window.width() - 2 * theme.AROUND)
        self.setGeometry((window.width() - width) // 2, theme.current().px(64), width, self.sizeHint().height())

    def _matching(self, query: str) -> list[Choice]:
        found = []
        for i, action in enumerate(self._actions()):
            title = action.text().replace("&", "")
            score = rank(query, title, action.objectName())
            if score is not None and action.isEnabled() and title:
                found.append((score, i, action, title))
        return [
            Choice(title, action.toolTip() if action.toolTip() != title else "", _key(action), action.trigger)
            for _score, _i, action, title in sorted(found, key=lambda row: row[:2])
        ]


def _key(action: QAction) -> str:
    return action.shortcut().toString(action.shortcut().SequenceFormat.NativeText)
