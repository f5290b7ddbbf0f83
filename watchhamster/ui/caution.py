"""What is to be known before a venue's first use, said once: a box in the window that leaves everything else usable."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from watchhamster.core.text import Text, _, say
from watchhamster.ui import theme
from watchhamster.ui.controls import plain_text
from watchhamster.ui.language import Translated
from watchhamster.ui.market import market_title


class CautionBox(Translated, QFrame):
    """One caution at a time, in the middle of the window; the newest question counts."""

    def __init__(self, window: QWidget) -> None:
        super().__init__(window)
        self._window = window
        self.venue = ""
        self._text: Text | None = None
        self._accepted: Callable[[], None] = lambda: None
        self._before: QWidget | None = None  # had the focus
        self._title = QLabel()
        self._words = plain_text("")
        self.accept, self.decline = QPushButton(), QPushButton()
        self.accept.setDefault(True)
        self.accept.clicked.connect(self._accept)
        self.decline.clicked.connect(self.leave)
        buttons = QHBoxLayout()
        buttons.addStretch(1)
        buttons.addWidget(self.decline)
        buttons.addWidget(self.accept)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(*[theme.AROUND] * 4)
        layout.setSpacing(theme.AROUND)
        layout.addWidget(self._title)
        layout.addWidget(self._words)
        layout.addLayout(buttons)
        self.hide()
        window.installEventFilter(self)
        theme.changed.connect(self._themed)
        self._themed()
        self.words()

    def ask(self, venue: str, text: Text, accepted: Callable[[], None]) -> None:
        """Show a venue's caution; `accepted` once a person says that it was read. Otherwise nothing happens."""
        self.venue, self._text, self._accepted = venue, text, accepted
        if not self.isVisible():
            self._before = self._window.focusWidget()
        self.words()
        self.show()
        self._place()
        self.raise_()
        self.accept.setFocus(Qt.FocusReason.OtherFocusReason)

    def text(self) -> str:
        """What it says."""
        return self._words.text()

    def leave(self) -> None:
        """Go, unread."""
        self.hide()
        before, self._before = self._before, None
        if before is not None and before.isVisible():
            before.setFocus(Qt.FocusReason.OtherFocusReason)

    def words(self) -> None:
        """Title, text and buttons."""
        title = _("Before you use {venue}").format(venue=market_title(self.venue))
        self._title.setText(title)
        self.setAccessibleName(title)
        self._words.setText("" if self._text is None else say(self._text))
        self.setAccessibleDescription(self._words.text())
        self.accept.setText(_("I have read this"))
        self.decline.setText(_("Not now"))
        self._place()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Qt's: Escape leaves, Enter presses the button with the focus."""
        if event.key() == Qt.Key.Key_Escape:
            self.leave()
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            (self.decline if self.decline.hasFocus() else self.accept).click()
        else:
            super().keyPressEvent(event)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Qt's: stays in the middle of the window."""
        if event.type() == QEvent.Type.Resize and self.isVisible():
            self._place()
        return False

    def _accept(self) -> None:
        accepted, self._accepted = self._accepted, lambda: None
        self.leave()
        accepted()

    def _place(self) -> None:
        window = self._window
        width = min(theme.current().px(520), window.width() - 2 * theme.AROUND)
        height = max(self.heightForWidth(width), self.minimumSizeHint().height())
        self.setGeometry((window.width() - width) // 2, max(0, (window.height() - height) // 3), width, height)

    def _themed(self) -> None:
        t = theme.current()
        self._title.setFont(t.font("base", bold=True))
        self.setStyleSheet(
            f"CautionBox {{ background: {t.raised.name()}; border: 1px solid {t.accent.name()};"
            f" border-radius: {theme.RADIUS}px; }}"
        )
        self._place()
