"""The list under a search field. Apart from `finder`, because the first paint has the field and no list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QPoint, QRect, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPainter
from PySide6.QtWidgets import QFrame, QListWidget, QListWidgetItem, QStyledItemDelegate, QStyleOptionViewItem

from watchhamster.ui import theme
from watchhamster.ui.finder import ROWS_MAX

if TYPE_CHECKING:
    from watchhamster.ui.finder import Choice, Finder


class ChoiceList(QListWidget):
    """The list of a `Finder`: a child of its window, under its field."""

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
        """Show these, or the sentence where there are none."""
        self.clear()
        self.setAccessibleName(self._field.accessibleName())
        for choice in choices:
            item = QListWidgetItem(choice.title, self)
            item.setData(Qt.ItemDataRole.UserRole, choice)
            item.setData(Qt.ItemDataRole.AccessibleTextRole, " ".join((choice.title, choice.detail, choice.key)))
            if choice.take is None:
                item.setFlags(Qt.ItemFlag.NoItemFlags)
        if not choices:
            item = QListWidgetItem(empty, self)
            item.setFlags(Qt.ItemFlag.NoItemFlags)
        self.setCurrentRow(0)

    def place(self) -> None:
        """Open it under the field, within the window."""
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
        """Move the current row."""
        self.setCurrentRow(max(0, min(self.count() - 1, self.currentRow() + rows)))


class _Row(QStyledItemDelegate):
    """Title, quieter detail, key at the right."""

    def __init__(self, choices: QListWidget) -> None:
        super().__init__(choices)
        self._list = choices

    def sizeHint(self, option: QStyleOptionViewItem, index: object) -> QSize:
        return QSize(100, theme.current().row_height + theme.INSIDE)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: object) -> None:
        t = theme.current()
        choice = index.data(Qt.ItemDataRole.UserRole)  # type: ignore[attr-defined]
        rect = option.rect
        if self._list.currentIndex() == index:
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
        painter.setPen(t.text if choice.take is not None else t.secondary)
        title = metrics.elidedText(choice.title, Qt.TextElideMode.ElideRight, inner.width())
        painter.drawText(inner, middle, title)
        inner.setLeft(inner.left() + metrics.horizontalAdvance(title) + theme.BETWEEN)
        painter.setPen(t.secondary)
        painter.drawText(inner, middle, metrics.elidedText(choice.detail, Qt.TextElideMode.ElideRight, inner.width()))
