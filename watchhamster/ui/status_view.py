"""The status tree: what is watched, how each part is, since when and why. The worst child colours its parent."""

from __future__ import annotations

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QSize, Qt, Signal
from PySide6.QtGui import QColor, QResizeEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from watchhamster.core.text import _, pgettext, say
from watchhamster.monitor.status import StatusNode, title, worst
from watchhamster.ui import format, theme
from watchhamster.ui.controls import table_style
from watchhamster.ui.language import Translated

NAME, STATE, VALUE, AGE, DETAIL = range(5)
_NODE = Qt.ItemDataRole.UserRole
_PATH = Qt.ItemDataRole.UserRole + 1


class StatusView(Translated, QWidget):
    """The tree in a table of name, state, value, age and reason. `node_chosen` gives the path of the line clicked.

    `levels` of it stand open at first, and whatever is not well.
    """

    node_chosen = Signal(tuple)

    def __init__(self, parent: QWidget | None = None, *, levels: int = 3) -> None:
        super().__init__(parent)
        self._levels = levels
        self._wide = False
        self._tree = QTreeWidget(self)
        self._tree.setColumnCount(5)
        self._tree.setFrameShape(QTreeWidget.Shape.NoFrame)
        self._tree.setUniformRowHeights(True)
        self._tree.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self._tree.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self._tree.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._tree.setItemDelegate(_Cell(self._tree))
        self._tree.itemActivated.connect(lambda item: self.node_chosen.emit(item.data(0, _PATH)))
        self._tree.itemClicked.connect(lambda item: self.node_chosen.emit(item.data(0, _PATH)))
        self._items: dict[tuple[str, ...], QTreeWidgetItem] = {}
        self._root: StatusNode | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._tree)
        self.setFocusProxy(self._tree)
        theme.changed.connect(self._themed)
        self.words()
        self._themed()

    def words(self) -> None:
        """Column heads and every line."""
        self._tree.setAccessibleName(_("Status tree"))
        self._tree.setHeaderLabels([_("Part"), _("State"), _("Value"), _("Age"), _("Why")])
        for column in (VALUE, AGE):
            self._tree.headerItem().setTextAlignment(
                column, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            )
        if self._root is not None:
            self.show_tree(self._root)

    def show_tree(self, root: StatusNode) -> None:
        """Show this tree; lines that stay keep their place, selection and whether they are open."""
        self._root = root
        stale = set(self._items)
        self._place(None, root, (), stale, 0)
        for path in sorted(stale, key=len, reverse=True):
            item = self._items.pop(path)
            parent = item.parent()
            if parent is not None:
                parent.removeChild(item)
            else:
                self._tree.takeTopLevelItem(self._tree.indexOfTopLevelItem(item))

    def select_worst(self) -> None:
        """Open the way to the worst line and select it."""
        if self._root is None:
            return
        state = worst(item.data(0, _NODE).state for item in self._items.values())
        paths = [path for path, item in self._items.items() if item.data(0, _NODE).state == state]
        if paths:
            item = self._items[max(paths, key=len)]
            self._tree.setCurrentItem(item)
            self._tree.scrollToItem(item)
            self._tree.setFocus()

    def lines(self) -> list[str]:
        """Every visible line as text, in order."""
        return [" ".join(filter(None, (item.text(column) for column in range(5)))) for item in self._items.values()]

    def _place(
        self,
        parent: QTreeWidgetItem | None,
        node: StatusNode,
        path: tuple[str, ...],
        stale: set[tuple[str, ...]],
        row: int,
    ) -> None:
        here = (*path, node.name)
        item = self._items.get(here)
        stale.discard(here)
        if item is None:
            item = QTreeWidgetItem()
            if parent is None:
                self._tree.insertTopLevelItem(row, item)
            else:
                parent.insertChild(row, item)
            item.setData(0, _PATH, here)
            item.setTextAlignment(VALUE, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            item.setTextAlignment(AGE, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            item.setExpanded(len(here) < self._levels or node.state not in ("ok", "muted"))
            self._items[here] = item
        item.setData(0, _NODE, node)
        value = node.value
        texts = (
            title(node),
            theme.current().sign(node.state).word,
            "" if value is None else _word(value) if isinstance(value, str) else format.exact(float(value)),
            "" if node.age_s is None else format.age(node.age_s),
            say(node.detail) if node.detail else "",
        )
        for column, text in enumerate(texts):
            if item.text(column) != text:
                item.setText(column, text)
                item.setToolTip(column, text)
        for i, child in enumerate(node.children):
            self._place(item, child, here, stale, i)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Qt's: where there is room, names have more of it."""
        super().resizeEvent(event)
        t = theme.current()
        wide = self.width() >= t.px(1000)
        if wide != self._wide:
            self._wide = wide
            self._tree.header().resizeSection(NAME, t.px(320 if wide else 210))

    def _themed(self) -> None:
        t = theme.current()
        head = self._tree.header()
        head.setStretchLastSection(True)
        head.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        head.setMinimumSectionSize(t.px(48))
        for column, width in ((NAME, 320 if self._wide else 210), (STATE, 92), (VALUE, 110), (AGE, 84)):
            head.resizeSection(column, t.px(width))
        self._tree.setIndentation(t.px(16))
        self._tree.setStyleSheet(table_style(t))


def _word(value: str) -> str:
    """A value that is a word: how a feed stands is translated, everything else says what it is."""
    return {
        "live": pgettext("feed", "live"),
        "stale": pgettext("feed", "stale"),
        "reconnecting": pgettext("feed", "reconnecting"),
        "fallback": pgettext("feed", "by REST"),
        "recovered": pgettext("feed", "live again"),
        "closed": pgettext("feed", "closed"),
    }.get(value, value)


class _Cell(QStyledItemDelegate):
    """Draws a line: the state's shape and colour before its word."""

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        return QSize(0, theme.current().row_height)

    def initStyleOption(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> None:
        super().initStyleOption(option, index)
        t = theme.current()
        option.font = t.font()
        node: StatusNode | None = index.sibling(index.row(), 0).data(_NODE)
        if node is None:
            return
        sign = t.sign(node.state)
        colour: QColor = t.secondary if index.column() in (VALUE, AGE, DETAIL) and node.state == "ok" else t.text
        if index.column() == STATE:
            option.text = f"{sign.glyph} {option.text}"
            colour = sign.colour
        option.palette.setColor(option.palette.ColorRole.Text, colour)
        option.palette.setColor(option.palette.ColorRole.HighlightedText, colour)
