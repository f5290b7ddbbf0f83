"""Controls that the platform's style draws too faintly on our grounds, and the look that quiet tables share."""

from __future__ import annotations

from PySide6.QtCore import QPoint, QPointF, QRect, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent, QPen, QPolygonF, QWheelEvent
from PySide6.QtWidgets import QAbstractSpinBox, QCheckBox, QComboBox, QLabel

from watchhamster.ui import theme


class Check(QCheckBox):
    """A check box with an edge one can see."""

    def __init__(self) -> None:
        super().__init__()
        theme.changed.connect(self.updateGeometry)

    def sizeHint(self) -> QSize:
        """Qt's."""
        t = theme.current()
        text = QFontMetrics(t.font()).horizontalAdvance(self.text()) + theme.BETWEEN if self.text() else 0
        return QSize(t.px(18) + text + 4, t.px(24))

    def minimumSizeHint(self) -> QSize:
        """Qt's."""
        return self.sizeHint()

    def hitButton(self, at: QPoint) -> bool:
        """Qt's: the text belongs to it."""
        return self.rect().contains(at)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Qt's."""
        t = theme.current()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        side = t.px(16)
        box = QRect(2, (self.height() - side) // 2, side, side)
        on, able = self.isChecked(), self.isEnabled()
        edge = t.focus if self.hasFocus() else t.accent if on and able else t.secondary if able else t.disabled
        painter.setPen(QPen(edge, 2 if self.hasFocus() else 1))
        painter.setBrush(t.mixed(t.accent, 0.28) if on and able else t.panel)
        painter.drawRoundedRect(box, theme.RADIUS - 1, theme.RADIUS - 1)
        if on:
            painter.setPen(QPen(t.text if able else t.disabled, max(1.5, side / 9)))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            points = [
                QPointF(box.left() + side * x, box.top() + side * y)
                for x, y in ((0.24, 0.53), (0.43, 0.7), (0.78, 0.3))
            ]
            painter.drawPolyline(QPolygonF(points))
        painter.setPen(t.text if able else t.disabled)
        painter.setFont(t.font())
        words = self.rect().adjusted(side + 2 + theme.BETWEEN, 0, 0, 0)
        painter.drawText(words, Qt.AlignmentFlag.AlignVCenter, self.text())


class Combo(QComboBox):
    """A flat choice of one of several. The wheel scrolls the page under it, not its value."""

    def __init__(self) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        theme.changed.connect(self.updateGeometry)

    def sizeHint(self) -> QSize:
        """Qt's."""
        t = theme.current()
        metrics = QFontMetrics(t.font())
        widest = max((metrics.horizontalAdvance(self.itemText(i)) for i in range(self.count())), default=0)
        return QSize(widest + t.px(40), t.px(28))

    def minimumSizeHint(self) -> QSize:
        """Qt's."""
        return QSize(theme.current().px(64), theme.current().px(28))

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Qt's."""
        event.ignore()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Qt's."""
        t = theme.current()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        focused = self.hasFocus()
        painter.setPen(QPen(t.focus if focused else t.line, 2 if focused else 1))
        painter.setBrush(t.raised)
        painter.drawRoundedRect(self.rect().adjusted(1, 1, -1, -1), theme.RADIUS, theme.RADIUS)
        painter.setPen(t.text if self.isEnabled() else t.disabled)
        painter.setFont(t.font())
        words = self.rect().adjusted(theme.BETWEEN, 0, -t.px(24), 0)
        text = QFontMetrics(t.font()).elidedText(self.currentText(), Qt.TextElideMode.ElideRight, words.width())
        painter.drawText(words, Qt.AlignmentFlag.AlignVCenter, text)
        side = t.px(14)
        picture = theme.icon("chevron-down", "secondary").pixmap(QSize(side, side), self.devicePixelRatioF())
        painter.drawPixmap(self.width() - side - theme.BETWEEN, (self.height() - side) // 2, picture)


def without_buttons(spin: QAbstractSpinBox) -> None:
    """A number is typed, or stepped by the arrow keys; step buttons would be two dark specks."""
    spin.setStyleSheet("QAbstractSpinBox::up-button, QAbstractSpinBox::down-button { width: 0; height: 0; border: 0; }")
    spin.lineEdit().setTextMargins(theme.INSIDE, 0, theme.INSIDE, 0)  # a style sheet's padding does not reach it


def plain_text(text: str, colour: str = "") -> QLabel:
    """A line of plain text that wraps and can be selected."""
    label = QLabel(text)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    if colour:
        label.setStyleSheet(f"color: {colour};")
    return label


def table_style(t: theme.Tokens) -> str:
    """The look of the quieter tables: flat, a thin line under the head."""
    return (
        f"QTreeView, QListView, QTableView {{ background: {t.panel.name()}; border: 0; outline: 0; }}"
        f"QTreeView::item:selected, QTableView::item:selected {{ background: {t.mixed(t.accent, 0.18).name()}; }}"
        f"QHeaderView::section {{ background: {t.panel.name()}; color: {t.secondary.name()}; border: 0;"
        f" border-bottom: 1px solid {t.line.name()}; padding: {t.px(4)}px {t.px(6)}px;"
        f" font-size: {t.px(11)}px; }}"
        f"QTreeView:focus, QListView:focus, QTableView:focus {{ border: 1px solid {t.focus.name()}; }}"
    )
