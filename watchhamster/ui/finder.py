"""Find by typing: the search over instruments in the top bar and the palette of every action (Ctrl+K).

One field, one list under it. The list is a child of the window rather than a popup, so it never grabs the mouse and
works on every platform; arrows move, Enter takes, Escape leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QAction, QKeyEvent
from PySide6.QtWidgets import (
    QFrame,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)
from shiboken6 import isValid

from watchhamster.core.text import _
from watchhamster.ui import theme
from watchhamster.ui.language import Translated

if TYPE_CHECKING:
    from watchhamster.core.instruments import InstrumentInfo
    from watchhamster.ui.choices import ChoiceList

ROWS_MAX = 12  # of the list


@dataclass(frozen=True)
class Choice:
    """Something that can be found: its title, a second word beside it, a key at the right, and what taking it does.

    One that does nothing (None) is a remark under the others.
    """

    title: str
    detail: str = ""
    key: str = ""
    take: Callable[[], None] | None = lambda: None


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
        self._list: ChoiceList | None = None  # once something has been typed
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
        from watchhamster.ui.choices import ChoiceList

        self._offered = self._choices(self.text())
        if self._list is None:
            self._list = ChoiceList(self)
        self._list.fill(self._offered, _("Nothing is called that."))
        self._list.place()

    def offer_more(self) -> None:
        """The choices have become more: show them, if the list is open, and leave the hand where it is."""
        if self._list is not None and self.is_open():
            row = self._list.currentRow()
            self.offer()
            self._list.setCurrentRow(max(0, min(row, len(self._offered) - 1)))

    def offered(self) -> list[Choice]:
        """What the list holds."""
        return self._offered if self.is_open() else []

    def take(self, row: int) -> None:
        """Take a row of the list."""
        if 0 <= row < len(self._offered) and (take := self._offered[row].take) is not None:
            self.leave()
            take()

    def leave(self) -> None:
        """Close the list and clear the field."""
        self.close_list()
        self.clear()
        self.left.emit()

    def is_open(self) -> bool:
        """Whether choices are shown."""
        return self._list is not None and self._list.isVisible()

    def close_list(self) -> None:
        """Show no choices."""
        if self._list is not None:
            self._list.hide()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Qt's: arrows, Enter and Escape are the list's."""
        key = event.key()
        if key in (Qt.Key.Key_Down, Qt.Key.Key_Up, Qt.Key.Key_PageDown, Qt.Key.Key_PageUp):
            if self._list is None or not self._list.isVisible():
                self.offer()
            else:
                self._list.step({Qt.Key.Key_Down: 1, Qt.Key.Key_Up: -1, Qt.Key.Key_PageDown: 8}.get(Qt.Key(key), -8))
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            if self._list is not None and self._list.isVisible():
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
        self.close_list()


class Palette(Translated, QFrame):
    """Every action with its key, found by typing; lies over the top of the window and goes when left."""

    def __init__(self, window: QWidget, actions: Callable[[], list[QAction]]) -> None:
        super().__init__(window)
        self._window = window
        self._actions = actions
        self.more: Callable[[str], list[Choice]] = lambda _query: []  # under the actions
        self.field = Finder(self, self._matching, lambda: (_("What would you like to do?"), _("Commands")))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(*[theme.BETWEEN] * 4)
        layout.addWidget(self.field)
        self.field.left.connect(self._leave)
        self._before: QWidget | None = None  # had the focus
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
        if not self.isVisible():
            self._before = self._window.focusWidget()
        self.show()
        self.raise_()
        self.field.setFocus(Qt.FocusReason.ShortcutFocusReason)
        self.field.offer()

    def _leave(self) -> None:
        """Go, and give the focus back."""
        before, self._before = self._before, None
        self.hide()
        if before is not None and isValid(before) and before.isVisible():
            before.setFocus(Qt.FocusReason.OtherFocusReason)

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
        ] + self.more(query)


def _key(action: QAction) -> str:
    return action.shortcut().toString(action.shortcut().SequenceFormat.NativeText)
