"""Live tables: rows under keys, painted by one method that touches only what changed.

Qt's delegates ask a model some seven questions a cell; thirty rows at frame rate then cost more than the chart. Here
the view paints straight from the rows, and only the rectangles that are dirty. The model stays, thin, for what is not
painting: selection, keyboard, accessibility.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import (
    QAbstractTableModel,
    QDeadlineTimer,
    QEvent,
    QModelIndex,
    QPersistentModelIndex,
    QPoint,
    QRect,
    QSize,
    Qt,
    QTimer,
    Signal,
)
from PySide6.QtGui import (
    QColor,
    QContextMenuEvent,
    QGuiApplication,
    QHelpEvent,
    QKeyEvent,
    QKeySequence,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPixmap,
    QResizeEvent,
)
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QToolTip, QWidget

from watchhamster.ui import theme
from watchhamster.ui.strokes import Strokes
from watchhamster.ui.theme import Lettering, Tokens

Key = Hashable
Index = QModelIndex | QPersistentModelIndex
_NOWHERE = QModelIndex()
_FLASH_MS = 150


@dataclass(frozen=True)
class Column:
    """What one column shows of a row. `title` is asked again when the language changes."""

    title: Callable[[], str]
    text: Callable[[Any], str]
    width: int = 80  # logical pixels at 100 % text; with `stretch`, the least
    stretch: bool = False  # takes the room that is left; one column should
    align: Literal["left", "right"] = "left"
    optional: int = 0  # where there is too little room, columns above 0 go, the highest first
    colour: Callable[[Any, Tokens], QColor] | None = None  # of the text; the plain one if None
    order: Callable[[Any], Any] | None = None  # what it sorts by; None values come last. Not sortable if None
    exact: Callable[[Any], str] | None = None  # for the tooltip and the clipboard, where `text` is shortened
    flash: bool = False  # the cell flashes when `order` changes
    spark: Callable[[Any], tuple[Any, Sequence[float] | NDArray[Any]]] | None = None  # a version, and the line's values
    paint: Callable[[QPainter, QRect, Any, Tokens], None] | None = None  # under the text


@dataclass(frozen=True)
class Heading:
    """A row that is a line across the table: what the rows under it are, and how they stand. It cannot be chosen."""

    text: str
    detail: str = ""


class _Model(QAbstractTableModel):
    """The rows as Qt knows them."""

    def __init__(self, columns: Sequence[Column], parent: QWidget) -> None:
        super().__init__(parent)
        self.columns = columns
        self.keys: list[Key] = []
        self.rows: dict[Key, Any] = {}
        self.sorted_by: tuple[int, bool] | None = None  # column, descending; None: as given

    def rowCount(self, parent: Index = _NOWHERE) -> int:
        return 0 if parent.isValid() else len(self.keys)

    def columnCount(self, parent: Index = _NOWHERE) -> int:
        return 0 if parent.isValid() else len(self.columns)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole) and index.isValid():
            row = self.rows[self.keys[index.row()]]
            if isinstance(row, Heading):
                return f"{row.text} {row.detail}".strip() if index.column() == 0 else ""
            return self.columns[index.column()].text(row)
        return None

    def flags(self, index: Index) -> Qt.ItemFlag:
        is_heading = index.isValid() and isinstance(self.rows.get(self.keys[index.row()]), Heading)
        return Qt.ItemFlag.NoItemFlags if is_heading else super().flags(index)

    def headerData(self, section: int, side: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if side != Qt.Orientation.Horizontal:
            return None
        column = self.columns[section]
        if role == Qt.ItemDataRole.DisplayRole:
            arrow = (
                "" if self.sorted_by is None or self.sorted_by[0] != section else "▾ " if self.sorted_by[1] else "▴ "
            )
            return arrow + column.title()
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(column)
        return None

    def set_order(self, keys: list[Key]) -> None:
        """Other rows, or another order; what was selected stays selected."""
        if keys == self.keys:
            return
        common = min(len(keys), len(self.keys))
        if len(keys) < len(self.keys):
            self.layoutAboutToBeChanged.emit()
            self._reorder([*(k for k in self.keys if k in set(keys)), *(k for k in self.keys if k not in set(keys))])
            self.layoutChanged.emit()
            self.beginRemoveRows(QModelIndex(), common, len(self.keys) - 1)
            del self.keys[common:]
            self.endRemoveRows()
        elif len(keys) > len(self.keys):
            present = set(self.keys)
            fresh = [k for k in keys if k not in present][: len(keys) - common]
            self.beginInsertRows(QModelIndex(), common, len(keys) - 1)
            self.keys += fresh
            self.endInsertRows()
        self.layoutAboutToBeChanged.emit()
        self._reorder(keys)
        self.layoutChanged.emit()

    def _reorder(self, keys: list[Key]) -> None:
        places = {key: row for row, key in enumerate(keys)}
        old = self.persistentIndexList()
        new = [
            self.index(places[self.keys[i.row()]], i.column()) if self.keys[i.row()] in places else QModelIndex()
            for i in old
        ]
        self.keys = list(keys)
        self.changePersistentIndexList(old, new)


@dataclass
class _Cells:
    """What was last shown of a row."""

    texts: list[str]
    values: list[Any]
    flashing: dict[int, tuple[QDeadlineTimer, QColor]] = field(default_factory=dict)


class RowView(QTableView):
    """A table of live rows. `set_rows` says which there are, `update_row` what one of them is now."""

    row_chosen = Signal(object)  # key: Enter or a double click
    selected = Signal(object)  # key, or None
    menu_requested = Signal(object, QPoint)  # key, or None beside the rows; where on the screen

    def __init__(
        self,
        columns: Sequence[Column],
        name: str,
        parent: QWidget | None = None,
        *,
        compact: bool = False,
        header: bool = True,
        follows: Callable[[Any], bool] = lambda _row: False,
    ) -> None:
        """`follows` tells rows that belong under the row before them, wherever that is sorted to."""
        super().__init__(parent)
        self._columns = list(columns)
        self._follows = follows
        self._compact = compact
        self._model = _Model(self._columns, self)
        self._given: list[Key] = []  # the order rows were given in
        self._cells: dict[Key, _Cells] = {}
        self._sparks: dict[Key, tuple[Any, QPixmap]] = {}
        self._strokes = Strokes()
        self._hovered = -1
        self._dim: set[Key] = set()
        self._empty = ""
        self._flash_timer = QTimer(self, interval=_FLASH_MS // 3)
        self._flash_timer.timeout.connect(self._end_flashes)
        self.setModel(self._model)
        self.setAccessibleName(name)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFrameShape(QTableView.Shape.NoFrame)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setMouseTracking(True)
        self.setTabKeyNavigation(False)  # Tab goes to the next part of the window
        self.viewport().setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.verticalHeader().hide()
        head = self.horizontalHeader()
        head.setVisible(header)
        head.setHighlightSections(False)
        head.setSectionsClickable(True)
        head.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        head.sectionClicked.connect(self._head_clicked)
        self.selectionModel().currentRowChanged.connect(self._current_changed)
        theme.changed.connect(self._retheme)
        self._retheme()

    # ------------------------------------------------------------------ rows

    def set_rows(self, rows: Iterable[tuple[Key, Any]]) -> None:
        """All rows there are, in order; equal keys are the same row, whatever became of it."""
        pairs = list(rows)
        known = self._model.rows
        fresh = dict(pairs)
        for key, row in pairs:
            if key in known:
                self._note_change(key, row)
        for key in known.keys() - fresh.keys():
            self._cells.pop(key, None)
            self._sparks.pop(key, None)
            self._dim.discard(key)
        gone_rows = {key: known[key] for key in known.keys() - fresh.keys()}
        self._model.rows = gone_rows | fresh  # Qt may still ask for those that go while they go
        self._given = [key for key, _row in pairs]
        self._model.set_order(self._in_order())
        self._model.rows = fresh
        self.viewport().update()

    def update_row(self, key: Key, row: Any) -> None:
        """What a row is now; only it is painted again. A key nobody gave is ignored."""
        if key not in self._model.rows:
            return
        self._note_change(key, row)
        self._model.rows[key] = row
        self._update_rect(key)

    def set_dim(self, keys: Iterable[Key]) -> None:
        """These rows' values are stale, all others are not."""
        keys = set(keys)
        for key in keys ^ self._dim:
            self._update_rect(key)
        self._dim = keys

    def set_empty(self, text: str) -> None:
        """A sentence that stands where there are no rows."""
        self._empty = text
        self.viewport().update()

    def keys(self) -> list[Key]:
        """The rows' keys, as they stand."""
        return list(self._model.keys)

    def row(self, key: Key) -> Any:
        """What was given under a key. Raises KeyError."""
        return self._model.rows[key]

    def current_key(self) -> Key | None:
        """The selected row's key."""
        index = self.currentIndex()
        return self._model.keys[index.row()] if index.isValid() else None

    def select(self, key: Key) -> None:
        """Select a row and scroll to it."""
        if key in self._model.rows:
            self.setCurrentIndex(self._model.index(self._model.keys.index(key), 0))

    def key_at(self, position: QPoint) -> Key | None:
        """The row at a place in the viewport."""
        row = self.rowAt(position.y())
        return self._model.keys[row] if row >= 0 else None

    def sort_by(self, column: int | None, descending: bool = False) -> None:
        """Sort by a column, or None: as given. Rows move when this or `resort` is called, never under the hand."""
        self._model.sorted_by = None if column is None else (column, descending)
        self.retitle()
        self.resort()

    def resort(self) -> None:
        """Put the rows where their values belong now."""
        self._model.set_order(self._in_order())
        self.viewport().update()

    def _in_order(self) -> list[Key]:
        if self._model.sorted_by is None:
            return list(self._given)
        column, descending = self._model.sorted_by
        value = self._columns[column].order
        assert value is not None
        rows = self._model.rows
        ordered: list[Key] = []
        block: list[list[Key]] = []  # the rows under a heading, each with those that follow it

        def settle() -> None:
            known = [unit for unit in block if value(rows[unit[0]]) is not None]
            unknown = [unit for unit in block if value(rows[unit[0]]) is None]
            for unit in sorted(known, key=lambda unit: value(rows[unit[0]]), reverse=descending) + unknown:
                ordered.extend(unit)
            block.clear()

        for key in self._given:
            if isinstance(rows[key], Heading):
                settle()
                ordered.append(key)
            elif block and self._follows(rows[key]):
                block[-1].append(key)
            else:
                block.append([key])
        settle()
        return ordered

    def _head_clicked(self, column: int) -> None:
        """Ascending, descending, as given."""
        if self._columns[column].order is None:
            return
        if self._model.sorted_by == (column, False):
            self.sort_by(column, descending=True)
        elif self._model.sorted_by == (column, True):
            self.sort_by(None)
        else:
            self.sort_by(column)

    def _note_change(self, key: Key, row: Any) -> None:
        """Forget what was formatted of a row, and let what changed flash."""
        cells = self._cells.get(key)
        if cells is None or isinstance(row, Heading):
            return
        if self._top_of(key) is None:
            del self._cells[key]  # formatted again when it comes into sight
            return
        fresh = self._formatted(row)
        t = theme.current()
        if t.motion and self.isVisible():
            for i, column in enumerate(self._columns):
                before, now = cells.values[i], fresh.values[i]
                if column.flash and before is not None and now is not None and before != now:
                    colour = t.mixed(t.up if now > before else t.down, 0.28)
                    cells.flashing[i] = (QDeadlineTimer(_FLASH_MS), colour)
                    self._flash_timer.start()
        cells.texts, cells.values = fresh.texts, fresh.values

    def _formatted(self, row: Any) -> _Cells:
        columns = self._columns
        return _Cells(
            [column.text(row) for column in columns],
            [column.order(row) if column.flash and column.order else None for column in columns],
        )

    def _end_flashes(self) -> None:
        still = False
        for key, cells in self._cells.items():
            over = [i for i, (deadline, _colour) in cells.flashing.items() if deadline.hasExpired()]
            for i in over:
                del cells.flashing[i]
            if over:
                self._update_rect(key)
            still = still or bool(cells.flashing)
        if not still:
            self._flash_timer.stop()

    def _update_rect(self, key: Key) -> None:
        """Ask for one row to be painted, if it is in sight."""
        top = self._top_of(key)
        if top is not None:
            self.viewport().update(0, top, self.viewport().width(), self.verticalHeader().defaultSectionSize())

    def _top_of(self, key: Key) -> int | None:
        """Where a row begins in the viewport, if it is in sight."""
        height, offset = self.verticalHeader().defaultSectionSize(), self.verticalOffset()
        first = offset // height
        visible = self._model.keys[first : first + self.viewport().height() // height + 2]
        return (first + visible.index(key)) * height - offset if key in visible else None

    # ------------------------------------------------------------------ looks

    def _retheme(self) -> None:
        t = theme.current()
        self._sparks.clear()
        self._cells.clear()
        self.setFont(t.font())
        height = t.px(20 if self._compact else 24)
        self.verticalHeader().setMinimumSectionSize(1)
        self.verticalHeader().setDefaultSectionSize(height)
        head = self.horizontalHeader()
        head.setFont(t.font("small"))
        head.setMinimumSectionSize(t.px(16))
        head.setFixedHeight(t.px(22))
        head.setStyleSheet(
            f"QHeaderView {{ background: {t.panel.name()}; border: 0; }}"
            f"QHeaderView::section {{ background: {t.panel.name()}; color: {t.secondary.name()};"
            f" border: 0; border-bottom: 1px solid {t.line.name()}; padding: 0 {t.px(theme.INSIDE)}px;"
            f" font-size: {t.px(11)}px; }}"
        )
        self._fit_columns()
        self.viewport().update()

    def _fit_columns(self) -> None:
        t = theme.current()
        head = self.horizontalHeader()
        room = self.viewport().width()
        shown = dict(enumerate(self._columns))
        widths = {i: t.px(column.width) for i, column in shown.items()}
        while sum(widths.values()) > room and any(shown[i].optional for i in widths):
            del widths[max(widths, key=lambda i: shown[i].optional)]
        for i in (i for i in widths if shown[i].stretch):  # a shortened name still says more than a shortened number
            spare = widths[i] - t.px(min(32, shown[i].width))
            widths[i] -= min(spare, max(0, sum(widths.values()) - room))
        short = sum(widths.values()) - room
        if short > 0:  # each gives a share, and long texts end in three dots
            widths = {i: width * room // (room + short) for i, width in widths.items()}
        stretching = [i for i in widths if shown[i].stretch]
        for i in stretching:
            widths[i] += max(0, -short) // len(stretching)
        for i in shown:
            head.setSectionHidden(i, i not in widths)
            if i in widths:
                head.resizeSection(i, widths[i])

    def sizeHint(self) -> QSize:
        """Wide enough for its columns."""
        t = theme.current()
        return QSize(sum(t.px(column.width) for column in self._columns) + t.px(12), t.px(240))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit_columns()

    def retitle(self) -> None:
        """Ask the columns for their titles again."""
        self._model.headerDataChanged.emit(Qt.Orientation.Horizontal, 0, len(self._columns) - 1)

    def reformat(self) -> None:
        """Ask the columns for every text again: the zone or the language has changed."""
        self._cells.clear()
        self.viewport().update()

    def changeEvent(self, event: QEvent) -> None:
        """Another language has other titles and other words in the cells."""
        if event.type() == QEvent.Type.LanguageChange:
            self.retitle()
            self.reformat()
        super().changeEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Every dirty rectangle, row by row. The bounding box of two far rows would be all between them."""
        t = theme.current()
        with QPainter(self.viewport()) as p:
            letters = t.lettering()
            p.setFont(letters.font)
            height = self.verticalHeader().defaultSectionSize()
            offset = self.verticalOffset()
            baseline = (height + letters.cap) // 2
            every = range(len(self._columns))
            places = [(i, self.columnViewportPosition(i), self.columnWidth(i)) for i in every if self.columnWidth(i)]
            current = self.currentIndex().row()
            dirty: set[int] = set()
            for rect in event.region():  # type: ignore[attr-defined]  # the stubs forget
                p.fillRect(rect, t.panel)
                dirty.update(range((rect.top() + offset) // height, (rect.bottom() + offset) // height + 1))
            for row in sorted(dirty):
                if row >= len(self._model.keys):
                    break
                top = row * height - offset
                if row == current:
                    strong = 0.22 if self.hasFocus() else 0.14
                    p.fillRect(0, top, self.viewport().width(), height, t.mixed(t.accent, strong))
                    p.fillRect(0, top, t.px(2), height, t.accent)
                elif row == self._hovered:
                    p.fillRect(0, top, self.viewport().width(), height, t.mixed(t.text, 0.05))
                self._paint_row(p, self._model.keys[row], top, height, baseline, places, letters, t)
            if not self._model.keys and self._empty:
                p.setPen(t.secondary)
                margin = t.px(theme.AROUND)
                box = self.viewport().rect().adjusted(margin, margin, -margin, -margin)
                p.drawText(box, Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap, self._empty)
            if self.hasFocus():
                p.setPen(t.focus)
                p.setBrush(Qt.BrushStyle.NoBrush)
                for inset in (0, 1):
                    p.drawRect(self.viewport().rect().adjusted(inset, inset, -1 - inset, -1 - inset))

    def _paint_row(
        self,
        p: QPainter,
        key: Key,
        top: int,
        height: int,
        baseline: int,
        places: Sequence[tuple[int, int, int]],
        letters: Lettering,
        t: Tokens,
    ) -> None:
        row = self._model.rows[key]
        if isinstance(row, Heading):
            self._paint_heading(p, row, top, height, t)
            return
        cells = self._cells.get(key)
        if cells is None:
            cells = self._cells[key] = self._formatted(row)
        dim = key in self._dim
        inside = t.px(theme.INSIDE)
        for i, left, width in places:
            column = self._columns[i]
            if i in cells.flashing and not cells.flashing[i][0].hasExpired():
                p.fillRect(left, top + 1, width, height - 2, cells.flashing[i][1])
            if column.paint is not None:
                column.paint(p, QRect(left, top, width, height), row, t)
            if column.spark is not None:
                self._paint_spark(p, key, column.spark(row), QRect(left + inside, top, width - 2 * inside, height), t)
            text = cells.texts[i]
            if not text:
                continue
            room = width - 2 * inside
            wide = letters.width(text)
            if wide > room:
                text = letters.elided(text, room)
                wide = min(wide, room)
            p.setPen(t.disabled if dim else column.colour(row, t) if column.colour else t.text)
            x = left + inside if column.align == "left" else left + width - inside - wide
            p.drawText(x, top + baseline, text)

    def _paint_heading(self, p: QPainter, row: Heading, top: int, height: int, t: Tokens) -> None:
        """The words at the left, how it stands at the right; the words give way."""
        width, between = self.viewport().width(), theme.BETWEEN
        p.fillRect(0, top, width, height, t.mixed(t.raised, 0.55))
        bold, plain = t.lettering("small", True), t.lettering("small")
        baseline = (height + bold.cap) // 2
        detail = row.detail
        if plain.width(detail) > width - 3 * between:
            detail = plain.elided(detail, width - 3 * between)
        right = width - between - plain.width(detail)
        text = row.text
        room = right - 2 * between if detail else width - 2 * between
        if bold.width(text) > room:
            text = bold.elided(text, room) if room > t.px(24) else ""
        p.setFont(bold.font)
        p.setPen(t.text)
        p.drawText(between, top + baseline, text)
        p.setFont(plain.font)
        p.setPen(t.secondary)
        p.drawText(right, top + baseline, detail)
        p.setFont(t.lettering().font)

    def _paint_spark(
        self, p: QPainter, key: Key, line: tuple[Any, Sequence[float] | NDArray[Any]], box: QRect, t: Tokens
    ) -> None:
        """A line of recent prices, kept as a picture until its version changes."""
        version, values = line
        if len(values) < 2 or box.width() < 4:
            return
        dpr = self.devicePixelRatioF()
        made_for = (version, box.width(), box.height(), dpr, t.name, t.up.rgb())
        kept = self._sparks.get(key)
        if kept is None or kept[0] != made_for:
            kept = self._sparks[key] = (made_for, self._spark(np.asarray(values, float), box.size(), dpr, t))
        p.drawPixmap(box.topLeft(), kept[1])

    def _spark(self, values: NDArray[np.float64], size: QSize, dpr: float, t: Tokens) -> QPixmap:
        picture = QPixmap(size * dpr)
        picture.fill(Qt.GlobalColor.transparent)
        wide, high = picture.width(), picture.height()
        margin = round(5 * dpr)
        low, span = values.min(), float(np.ptp(values)) or 1.0
        y = (high - 1 - margin - (values - low) * ((high - 2 * margin - 1) / span)).astype(np.int32)
        x = np.linspace(0, wide - 1, len(values)).astype(np.int32)
        with QPainter(picture) as p:
            p.setRenderHint(QPainter.RenderHint.Antialiasing)
            self._strokes.lines(p, x[:-1], y[:-1], x[1:], y[1:], t.secondary, len(x) - 1)
        picture.setDevicePixelRatio(dpr)
        return picture

    # ------------------------------------------------------------------ keyboard and mouse

    def _current_changed(self, current: QModelIndex, previous: QModelIndex) -> None:
        key = self._model.keys[current.row()] if current.isValid() else None
        self.setAccessibleDescription("" if key is None else self._spoken(key))
        self.viewport().update()
        self.selected.emit(key)

    def _spoken(self, key: Key) -> str:
        """A row as a sentence: titles and texts."""
        row = self._model.rows[key]
        if isinstance(row, Heading):
            return f"{row.text} {row.detail}".strip()
        pairs = ((column.title(), column.text(row)) for column in self._columns)
        return ", ".join(f"{title} {text}".strip() for title, text in pairs if text)

    def copied(self, key: Key) -> str:
        """A row as the clipboard gets it: exact values, tabs between them."""
        row = self._model.rows[key]
        return "\t".join((column.exact or column.text)(row) for column in self._columns if column.spark is None)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Moving, choosing, copying, the menu; every other key is the window's."""
        keys = Qt.Key
        moves = (keys.Key_Up, keys.Key_Down, keys.Key_Home, keys.Key_End, keys.Key_PageUp, keys.Key_PageDown)
        key = self.current_key()
        if event.key() in moves and event.modifiers() in (
            Qt.KeyboardModifier.NoModifier,
            Qt.KeyboardModifier.KeypadModifier,
        ):
            super().keyPressEvent(event)
        elif event.key() in (keys.Key_Return, keys.Key_Enter) and key is not None:
            self.row_chosen.emit(key)
        elif event.matches(QKeySequence.StandardKey.Copy) and key is not None:
            QGuiApplication.clipboard().setText(self.copied(key))
        elif event.key() == keys.Key_Menu:
            place = (
                self.visualRect(self.currentIndex()).center() if key is not None else self.viewport().rect().center()
            )
            self.menu_requested.emit(key, self.viewport().mapToGlobal(place))
        else:
            event.ignore()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """A double click chooses."""
        key = self.key_at(event.position().toPoint())
        if key is not None and event.button() == Qt.MouseButton.LeftButton:
            self.row_chosen.emit(key)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self._hover(self.rowAt(event.position().toPoint().y()))
        super().mouseMoveEvent(event)

    def leaveEvent(self, event: QEvent) -> None:
        self._hover(-1)
        super().leaveEvent(event)

    def _hover(self, row: int) -> None:
        if row != self._hovered:
            rows, self._hovered = (self._hovered, row), row
            for changed in rows:
                if 0 <= changed < len(self._model.keys):
                    self._update_rect(self._model.keys[changed])

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """The owner knows what applies to a row."""
        key = self.key_at(event.pos())
        if key is not None:
            self.select(key)
        self.menu_requested.emit(key, event.globalPos())

    def viewportEvent(self, event: QEvent) -> bool:
        """The tooltip is a cell's exact value."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            key, column = self.key_at(event.pos()), self.columnAt(event.pos().x())
            if key is not None and column >= 0 and self._columns[column].spark is None:
                row = self._model.rows[key]
                heading = isinstance(row, Heading)
                exact = self._columns[column].exact or self._columns[column].text
                text = f"{row.text}: {row.detail}" if heading else exact(row)
                QToolTip.showText(event.globalPos(), text, self)
                return True
            QToolTip.hideText()
            return True
        return super().viewportEvent(event)


def _alignment(column: Column) -> Qt.AlignmentFlag:
    side = Qt.AlignmentFlag.AlignLeft if column.align == "left" else Qt.AlignmentFlag.AlignRight
    return side | Qt.AlignmentFlag.AlignVCenter
