"""The machine and the program on it: what it costs, how late its loop turns, and its log."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QGridLayout, QLabel, QPlainTextEdit, QVBoxLayout, QWidget

from watchhamster.core.text import _
from watchhamster.ui import format, theme
from watchhamster.ui.bridge import Bridge
from watchhamster.ui.language import Translated

if TYPE_CHECKING:
    from watchhamster.engine.engine import Engine
    from watchhamster.ui.start import LogLines


class LogView(Translated, QPlainTextEdit):
    """The last log lines; new ones are added while it is seen."""

    def __init__(self, lines: LogLines, zone: Callable[[], dt.tzinfo]) -> None:
        super().__init__()
        self._lines, self._zone = lines, zone
        self._shown = 0
        self.setReadOnly(True)
        self.setMaximumBlockCount(2000)
        self.setLineWrapMode(QPlainTextEdit.LineWrapMode.WidgetWidth)
        self.setFrameShape(QPlainTextEdit.Shape.NoFrame)
        theme.changed.connect(self._again)
        self.words()

    def words(self) -> None:
        """Its name."""
        self.setAccessibleName(_("Log"))
        self.setPlaceholderText(_("Nothing out of the ordinary has been logged."))

    def refresh(self) -> None:
        """Add what is new."""
        new = self._lines.count - self._shown
        if new <= 0:
            return
        self._shown = self._lines.count
        bar = self.verticalScrollBar()
        at_end = bar.value() >= bar.maximum() - 4
        for record in list(self._lines.lines)[-new:]:
            self._append(record)
        if at_end:
            bar.setValue(bar.maximum())

    def _append(self, record: logging.LogRecord) -> None:
        t = theme.current()
        at = format.clock(int(record.created * 1e9), self._zone())
        colour: QColor = t.text
        if record.levelno >= logging.ERROR:
            colour = t.sign("critical").colour
        elif record.levelno >= logging.WARNING:
            colour = t.sign("warning").colour
        look = QTextCharFormat()
        look.setForeground(colour)
        cursor = QTextCursor(self.document())
        cursor.movePosition(QTextCursor.MoveOperation.End)
        if not self.document().isEmpty():
            cursor.insertBlock()
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        cursor.insertText(f"{at}  {record.levelname.lower():<8} {record.name}  {text}", look)

    def _again(self) -> None:
        self.clear()
        self._shown = 0
        self.refresh()


class SystemPage(Translated, QWidget):
    """Figures about the program itself, and its log."""

    def __init__(self, engine: Engine, bridge: Bridge, log: LogView) -> None:
        super().__init__()
        self._engine, self._bridge, self._log = engine, bridge, log
        self._figures = QGridLayout()
        self._figures.setHorizontalSpacing(theme.AROUND)
        self._figures.setVerticalSpacing(theme.INSIDE)
        self._rows: dict[str, tuple[QLabel, QLabel, QLabel]] = {}
        for i, name in enumerate(("up", "feed", "rate", "memory", "loop", "dropped")):
            labels = (QLabel(), QLabel(), QLabel())
            for column, label in enumerate(labels):
                label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
                self._figures.addWidget(label, i, column)
            labels[2].setWordWrap(True)
            self._rows[name] = labels
        self._figures.setColumnStretch(2, 1)
        self._head = QLabel()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        top = QWidget()
        top.setLayout(self._figures)
        self._figures.setContentsMargins(*[theme.AROUND] * 4)
        layout.addWidget(top)
        self._head.setContentsMargins(theme.AROUND, 0, 0, theme.INSIDE)
        layout.addWidget(self._head)
        layout.addWidget(log, 1)
        theme.changed.connect(self._themed)
        self.words()
        self._themed()

    def words(self) -> None:
        """What each figure is."""
        self._head.setText(_("Log"))
        for name, title, meaning in (
            ("up", _("Running for"), _("since this start")),
            ("feed", _("Latency"), _("of a ping's round trip, to the slowest venue")),
            ("rate", _("Messages"), _("from all feeds together")),
            ("memory", _("Memory"), _("of this process, resident")),
            (
                "loop",
                _("Loop lateness"),
                _("of a 10 ms heartbeat: one beat in a hundred is later than the first figure"),
            ),
            ("dropped", _("Received"), _("events since the window opened")),
        ):
            labels = self._rows[name]
            labels[0].setText(title)
            labels[2].setText(meaning)
        self.refresh()

    def refresh(self) -> None:
        """Show the figures of now."""
        metrics = self._engine.metrics()
        late, latest = self._bridge.lateness.p99_ms(), self._bridge.lateness.max_ms
        up_s = (self._engine.clock.now_ns() - self._engine.started_ns) / 1e9
        for name, text in (
            ("up", format.age(up_s)),
            ("feed", format.latency(metrics.latency_ms)),
            ("rate", _("{count:,.0f} a second").format(count=metrics.messages_per_s)),
            ("memory", f"{metrics.rss_mb:,.0f} MB"),
            ("loop", _("{p99:.1f} ms, at most {most:.0f} ms").format(p99=late, most=latest)),
            ("dropped", f"{self._bridge.received:,}"),
        ):
            self._rows[name][1].setText(text)
        self._log.refresh()

    def _themed(self) -> None:
        t = theme.current()
        for name, value, meaning in self._rows.values():
            name.setStyleSheet(f"color: {t.secondary.name()};")
            value.setFont(t.font("base", bold=True))
            meaning.setStyleSheet(f"color: {t.secondary.name()};")
        self._head.setFont(t.font("base", bold=True))
