"""Rules: the list of them, the form that makes or changes one, and the short way from a price on the chart to a rule.

The form reads the formula at every key and says under the field what is wrong, where, and what was probably meant;
what it would have done in the last 30 days is tried in the engine while one types on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import QEvent, QObject, QPoint, QRect, QSize, QStringListModel, Qt, QTimer, Signal
from PySide6.QtGui import QFont, QFontDatabase, QFontMetrics, QKeyEvent, QPainter, QPaintEvent, QPalette
from PySide6.QtWidgets import (
    QAbstractItemView,
    QCompleter,
    QDialog,
    QDialogButtonBox,
    QDoubleSpinBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QMenu,
    QPushButton,
    QSizePolicy,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from watchhamster.core.ports import UsageError, WatchHamsterError
from watchhamster.core.text import Text, _, ngettext, pgettext, say
from watchhamster.core.timeframes import COMMON, SECOND_NS, Timeframe, timeframe
from watchhamster.formula import DAYS, FACTS, LIVE, SERIES, Formula, Library, functions, parse
from watchhamster.monitor.alerts import Rule
from watchhamster.monitor.watch import price_rule as make_price_rule
from watchhamster.ui import format, theme
from watchhamster.ui.bridge import Errands
from watchhamster.ui.controls import Check, Combo, table_style, without_buttons
from watchhamster.ui.finder import Choice, Finder
from watchhamster.ui.inbox import channel_name
from watchhamster.ui.language import Translated, named
from watchhamster.ui.lookup import Lookup
from watchhamster.ui.shell import UNDO_S, MessageLine

if TYPE_CHECKING:
    from watchhamster.engine.engine import Engine
    from watchhamster.monitor.replay import Replay

TRY_DAYS_MAX = 30
TRY_BARS = 10_000  # about so many are asked for: some seconds, where none of them is stored yet
TRY_AFTER_MS = 500  # of quiet typing
CHANNELS = ("desktop", "inbox", "webhook", "dooray")


def price_alert(
    engine: Engine, instrument: str, price: float, *, repeat: bool, former: Rule | None = None
) -> Rule | None:
    """A rule that fires when the price gets to a line, from whichever side it is on now; None while that is unknown.

    `former` is the alert whose line was moved there.
    """
    last = engine.board.price(instrument)
    if last is None:
        return None
    bar = engine.forming(instrument, "1m")
    info = engine.info(instrument)
    rule = make_price_rule(
        instrument,
        price,
        last,
        repeat=repeat,
        bar_high=bar.high if bar is not None else None,
        bar_low=bar.low if bar is not None else None,
        created_ns=engine.clock.now_ns(),
    )
    shown = format.price(price, info.steps if info is not None else None)
    rule = msgspec.structs.replace(rule, name=f"{named(instrument, info)} {'≥' if price > last else '≤'} {shown}")
    if former is None:
        return rule
    return msgspec.structs.replace(
        former, name=rule.name, formula=rule.formula, created_ns=rule.created_ns, enabled=True, first_bar_ns=None
    )


def price_of(rule: Rule) -> float | None:
    """The price that a price alert waits for; None for any other rule."""
    line = re.fullmatch(r"(?:close|high|low) [<>]= (\d+(?:\.\d+)?(?:e[+-]?\d+)?)", rule.formula)
    return float(line[1]) if line is not None and rule.forming and len(rule.instruments) == 1 else None


# ---------------------------------------------------------------- the formula's field


class FormulaField(Translated, QWidget):
    """A line for a formula, with completion, and under it what is wrong with it; it may use saved ones."""

    changed = Signal()  # the text changed; `formula` is what it means now

    def __init__(self, library: Library | None = None) -> None:
        super().__init__()
        self._library = library or Library()
        self._timeframe: Timeframe | None = None  # of the bars; None: not known
        self.formula: Formula | None = None
        self.error: WatchHamsterError | None = None
        self.edit = QLineEdit()
        self.edit.setMaxLength(4000)
        self._mark = _Mark(self.edit)
        self._sentence = QLabel()
        self._sentence.setWordWrap(True)
        self._sentence.setTextFormat(Qt.TextFormat.PlainText)
        self._fix = QPushButton()
        self._fix.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Maximum)
        self._completer = QCompleter(self)
        self._completer.setWidget(self.edit)
        self._completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        self._completer.setFilterMode(Qt.MatchFlag.MatchStartsWith)
        self._completer.activated.connect(self._complete)
        self._says: dict[str, str] = {}
        below = QHBoxLayout()
        below.addWidget(self._sentence, 1)
        below.addWidget(self._fix, 0, Qt.AlignmentFlag.AlignTop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.edit)
        layout.addWidget(self._mark)
        layout.addLayout(below)
        self.setFocusProxy(self.edit)
        self.edit.textChanged.connect(self._read)
        self.edit.textEdited.connect(self._offer)
        self.edit.installEventFilter(self)
        self._fix.clicked.connect(self._take_hint)
        theme.changed.connect(self._themed)
        self.words()
        self._themed()
        self._read()

    def words(self) -> None:
        """Hint, names, and the refusal in the new language."""
        self.edit.setPlaceholderText(_("such as cross_above(close, sma(close, 20))"))
        self.edit.setAccessibleName(_("Formula"))
        known = (*functions(), *self._library.functions())
        self._says = {function.signature: say(function.description) for function in known}
        self._says |= {name: say(text) for name, text in {**SERIES, **LIVE}.items()}
        self._says |= {f"{day}.{fact}": say(text) for day, text in DAYS.items() for fact in FACTS}
        model = QStringListModel(sorted(self._says), self)
        self._completer.setModel(model)
        self._show()

    def set_timeframe(self, name: str) -> None:
        """Of the bars it will be about."""
        self._timeframe = timeframe(name)
        self._read()

    def text(self) -> str:
        """What is written."""
        return self.edit.text()

    def set_text(self, text: str) -> None:
        """Write it."""
        self.edit.setText(text)

    def sentence(self) -> str:
        """What stands under the field."""
        return self._sentence.text()

    def _read(self) -> None:
        self.formula, self.error = None, None
        if self.text().strip():
            try:
                formula = parse(self.text(), timeframe=self._timeframe, instruments=(), library=self._library)
                if formula.kind != "bool":
                    raise UsageError(
                        "bad_formula",
                        Text("This is a number, not a condition."),
                        Text("Compare it: {text} > 0.", {"text": self.text().strip()}),
                        position=0,
                    )
                self.formula = formula
            except WatchHamsterError as error:
                self.error = error
        self._show()
        self.changed.emit()

    def _show(self) -> None:
        t = theme.current()
        error = self.error
        position = error.details.get("position") if error is not None else None
        self._mark.show_at(position if isinstance(position, int) else None)
        nearest = error.details.get("nearest") if error is not None else None
        self._fix.setVisible(isinstance(nearest, str))
        if isinstance(nearest, str):
            self._fix.setText(_("Write {name}").format(name=nearest))
        if error is None:
            self._sentence.setText(self._help())
            self._sentence.setStyleSheet(f"color: {t.secondary.name()};")
            self.edit.setAccessibleDescription("")
        else:
            hint = f" {say(error.hint)}" if error.hint is not None else ""
            self._sentence.setText(f"{t.sign('critical').glyph} {say(error.text)}{hint}")
            self._sentence.setStyleSheet(f"color: {t.sign('critical').colour.name()};")
            self.edit.setAccessibleDescription(self._sentence.text())

    def _help(self) -> str:
        """What the word at the cursor means, or how much history the formula needs."""
        word = _word_at(self.text(), self.edit.cursorPosition())
        for signature, meaning in self._says.items():
            if word and signature.partition("(")[0] == word:
                return f"{signature}: {meaning}"
        if self.formula is not None and self.formula.first_value > 1:
            count = self.formula.first_value
            return ngettext("Known from the first bar on.", "Known from bar {count} on.", count).format(count=count)
        return _("True or false on every bar. Type a name for what there is.") if not self.text().strip() else ""

    def _popup(self) -> QAbstractItemView:
        popup = self._completer.popup()
        assert popup is not None  # a completer has one as soon as it is asked
        return popup

    def _offer(self) -> None:
        cursor = self.edit.cursorPosition()
        start = re.search(r"[A-Za-z_]\w*$", self.text()[:cursor])
        if start is None or len(start[0]) < 2:
            self._popup().hide()
            return
        self._completer.setCompletionPrefix(start[0])
        if self._completer.completionCount() == 0 or self._completer.currentCompletion() == start[0]:
            self._popup().hide()
            return
        popup = self._popup()
        popup.setCurrentIndex(self._completer.completionModel().index(0, 0))
        width = max(theme.current().px(320), popup.sizeHintForColumn(0) + 2 * theme.AROUND)
        metrics = QFontMetrics(self.edit.font())
        left = metrics.horizontalAdvance(self.text()[: start.start()])
        self._completer.complete(QRect(min(left, self.edit.width() - 60), 0, width, self.edit.height()))

    def _complete(self, signature: str) -> None:
        cursor = self.edit.cursorPosition()
        start = re.search(r"[A-Za-z_]\w*$", self.text()[:cursor])
        begin = start.start() if start else cursor
        name, bracket, _rest = signature.partition("(")
        written = f"{name}({')' if not self.text()[cursor:].startswith('(') else ''}" if bracket else name
        if bracket and self.text()[cursor:].startswith("("):
            written = name
        self.edit.setText(self.text()[:begin] + written + self.text()[cursor:])
        self.edit.setCursorPosition(begin + len(written) - (1 if written.endswith(")") else 0))

    def _take_hint(self) -> None:
        if self.error is None:
            return
        position, nearest = self.error.details.get("position"), self.error.details.get("nearest")
        if not isinstance(position, int) or not isinstance(nearest, str):
            return
        wrong = re.match(r"\w+", self.text()[position:])
        end = position + (wrong.end() if wrong else 0)
        self.edit.setText(self.text()[:position] + nearest + self.text()[end:])
        self.edit.setFocus()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Qt's: Enter and Tab in the field take the completion while it is offered."""
        popup = self._popup()
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress and popup.isVisible():
            if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Tab):
                index = popup.currentIndex()
                if index.isValid():
                    popup.hide()
                    self._complete(str(index.data()))
                    return True
            if event.key() == Qt.Key.Key_Escape:
                popup.hide()
                return True
        return super().eventFilter(watched, event)

    def _themed(self) -> None:
        t = theme.current()
        self.edit.setFont(fixed_font())
        self._popup().setStyleSheet(
            f"background: {t.raised.name()}; color: {t.text.name()}; border: 1px solid {t.line.name()};"
        )
        self._show()


class _Mark(QWidget):
    """A caret under the column of the mistake, following the field as it scrolls."""

    def __init__(self, edit: QLineEdit) -> None:
        super().__init__()
        self._edit = edit
        self._position: int | None = None
        edit.cursorPositionChanged.connect(lambda *_: self.update())

    def show_at(self, position: int | None) -> None:
        self._position = position
        self.setVisible(position is not None)
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(10, theme.current().px(10))

    def paintEvent(self, event: QPaintEvent) -> None:
        if self._position is None:
            return
        t = theme.current()
        metrics = QFontMetrics(self._edit.font())
        text, cursor = self._edit.text(), self._edit.cursorPosition()
        # cursorRect is where the field shows the cursor; the mistake is so much text to the left or right of it
        at = self._edit.cursorRect().center().x()
        at += metrics.horizontalAdvance(text[: self._position]) - metrics.horizontalAdvance(text[:cursor])
        painter = QPainter(self)
        painter.setFont(self._edit.font())
        painter.setPen(t.sign("critical").colour)
        width = metrics.horizontalAdvance("^")
        painter.drawText(QRect(min(max(0, at), self.width() - width), -2, 2 * width, self.height() + 8), 0, "^")


def fixed_font() -> QFont:
    """A font whose characters are all as wide, at the size in use."""
    font = QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont)
    font.setPixelSize(theme.current().px(13))
    return font


def _word_at(text: str, cursor: int) -> str:
    for word in re.finditer(r"[A-Za-z_]\w*", text):
        if word.start() <= cursor <= word.end():
            return word[0]
    return ""


# ---------------------------------------------------------------- the form


class InstrumentsField(Finder):
    """Instruments, separated by commas. What is typed last is looked for; taking one writes it out."""

    def __init__(self, parent: QWidget, lookup: Lookup, text: str) -> None:
        self._lookup = lookup
        super().__init__(parent, self._matching, lambda: ("upbit:KRW-BTC, yahoo:AAPL", _("Instruments")))
        self.setText(text)
        lookup.changed.connect(self.offer_more)

    def leave(self) -> None:
        """Close the list; what is written stays."""
        self.close_list()

    def offer(self) -> None:
        """Look for what is typed last; there is nothing to offer behind a comma."""
        if self._last():
            super().offer()
        else:
            self.close_list()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Qt's: without a list Enter and Escape are the form's."""
        if self.is_open() or event.key() in (Qt.Key.Key_Down, Qt.Key.Key_Up):
            super().keyPressEvent(event)
        else:
            QLineEdit.keyPressEvent(self, event)

    def _last(self) -> str:
        return self.text().rpartition(",")[2].strip()

    def _matching(self, _text: str) -> list[Choice]:
        return self._lookup.choices(self._last(), self._write, lambda _instrument: "")

    def _write(self, instrument: str) -> None:
        before, comma, _last = self.text().rpartition(",")
        self.setText(f"{before}{comma}{' ' if comma else ''}{instrument}")


class RuleForm(Translated, QDialog):
    """Adds or changes one rule, beside the window rather than in its way."""

    saved = Signal(object)  # the stored Rule

    def __init__(
        self, parent: QWidget, engine: Engine, errands: Errands, rule: Rule, lookup: Lookup | None = None
    ) -> None:
        super().__init__(parent)
        self._engine, self._errands, self._rule = engine, errands, rule
        self._touched = self._trying = False
        self._tries = 0
        self.setModal(False)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)

        self.name = QLineEdit(rule.name)
        self.formula = FormulaField(engine.library())
        self.instruments = InstrumentsField(self, lookup or Lookup(engine, errands, self), ", ".join(rule.instruments))
        self.timeframe = Combo()
        self.timeframe.addItems([*COMMON] if rule.timeframe in COMMON else [*COMMON, rule.timeframe])
        self.timeframe.setCurrentText(rule.timeframe)
        self.formula.set_timeframe(rule.timeframe)
        self.lasting = _Duration(rule.for_s, lambda: _("at once"))
        self.cooldown = _Duration(rule.cooldown_s, lambda: _("no time"))
        self.severity = Combo()
        for choice in (self.timeframe, self.severity):
            choice.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.channels = {name: Check() for name in dict.fromkeys((*CHANNELS, *rule.channels))}
        self.repeat, self.forming, self.sound = Check(), Check(), Check()
        for box, on in ((self.repeat, rule.repeat), (self.forming, rule.forming), (self.sound, rule.sound)):
            box.setChecked(on)
        for channel, box in self.channels.items():
            box.setChecked(channel in rule.channels)
        self._problem = QLabel()
        self._problem.setWordWrap(True)
        self._trial = QLabel()
        self._trial.setWordWrap(True)
        self._labels: dict[QWidget, QLabel] = {}

        self._form = QFormLayout()
        self._form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.DontWrapRows)
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._form.setHorizontalSpacing(theme.AROUND)
        self._form.setVerticalSpacing(theme.BETWEEN)
        channels = QWidget()
        row = QHBoxLayout(channels)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.AROUND)
        for box in self.channels.values():
            row.addWidget(box)
        row.addStretch(1)
        options = QWidget()
        column = QVBoxLayout(options)
        column.setContentsMargins(0, 0, 0, 0)
        for box in (self.repeat, self.forming, self.sound):
            column.addWidget(box)
        for field in (
            self.name,
            self.formula,
            self._trial,
            self.instruments,
            self.timeframe,
            self.lasting,
            self.cooldown,
            self.severity,
            channels,
            options,
        ):
            label = QLabel()
            label.setBuddy(field)
            self._labels[field] = label
            self._form.addRow(label, field)
        self._channels_box, self._options_box = channels, options
        self._buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Save | QDialogButtonBox.StandardButton.Cancel)
        self._buttons.accepted.connect(self.save)
        self._buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(*[theme.AROUND] * 4)
        layout.setSpacing(theme.AROUND)
        layout.addLayout(self._form)
        layout.addWidget(self._problem)
        layout.addStretch(1)
        layout.addWidget(self._buttons)

        self._wait = QTimer(self)
        self._wait.setSingleShot(True)
        self._wait.setInterval(TRY_AFTER_MS)
        self._wait.timeout.connect(self._try)
        self.formula.changed.connect(self._changed)
        self.instruments.textChanged.connect(self._changed)
        self.timeframe.currentTextChanged.connect(self.formula.set_timeframe)
        self.timeframe.currentTextChanged.connect(self._changed)
        self.lasting.changed.connect(self._changed)
        self.cooldown.changed.connect(self._changed)
        self.name.textEdited.connect(lambda _text: setattr(self, "_touched", True))
        self.formula.set_text(rule.formula)
        theme.changed.connect(self._themed)
        self._themed()
        self.words()
        (self.formula if not rule.formula else self.name).setFocus()

    def words(self) -> None:
        """Every label."""
        self.setWindowTitle(_("Add a rule") if self._rule.id is None else _("Change a rule"))
        for field, text in (
            (self.name, _("Name")),
            (self.formula, _("When")),
            (self._trial, ""),
            (self.instruments, _("Instruments")),
            (self.timeframe, _("Timeframe")),
            (self.lasting, _("True for")),
            (self.cooldown, _("Then quiet for")),
            (self.severity, _("Severity")),
            (self._channels_box, _("Tell by")),
            (self._options_box, ""),
        ):
            self._labels[field].setText(text)
            if text:
                field.setAccessibleName(text)
        self.name.setPlaceholderText(_("What it is called in messages"))
        self.lasting.setToolTip(_("How long it must stay true, in the venue's time, before it fires"))
        self.cooldown.setToolTip(_("How long it stays quiet after it fired, in the venue's time"))
        chosen = self.severity.currentData() or self._rule.severity
        self.severity.clear()
        for severity in ("info", "warning", "critical"):
            sign = theme.current().sign(severity)
            self.severity.addItem(f"{sign.glyph} {sign.word}", severity)
        self.severity.setCurrentIndex(self.severity.findData(chosen))
        for channel, box in self.channels.items():
            box.setText(channel_name(channel))
        self.repeat.setText(_("Fire again and again, not once"))
        self.forming.setText(_("Look at every trade, not only at closed bars"))
        self.sound.setText(_("With a sound"))
        save = self._buttons.button(QDialogButtonBox.StandardButton.Save)
        save.setText(_("Save"))
        self._buttons.button(QDialogButtonBox.StandardButton.Cancel).setText(_("Cancel"))

    def rule(self) -> Rule:
        """What the form says now. Raises `UsageError` naming the field that keeps it from being a rule."""
        if not self.formula.text().strip():
            raise UsageError("usage", Text("A rule needs a condition."), Text("Write one into the second field."))
        if self.formula.error is not None:
            raise self.formula.error
        instruments = tuple(dict.fromkeys(part for part in re.split(r"[\s,]+", self.instruments.text()) if part))
        if not instruments:
            raise UsageError("usage", Text("A rule needs an instrument."), Text("Write one, such as upbit:KRW-BTC."))
        for instrument in instruments:
            if self._engine.info(instrument) is None and instrument.partition(":")[0] not in self._engine.searches():
                raise UsageError(
                    "unknown_instrument",
                    Text("{text!r} is not an instrument.", {"text": instrument}),
                    Text("Write venue:SYMBOL, such as upbit:KRW-BTC."),
                )
        channels = tuple(name for name, box in self.channels.items() if box.isChecked())
        return msgspec.structs.replace(
            self._rule,
            name=self.name.text().strip() or self.formula.text().strip(),
            formula=self.formula.text().strip(),
            instruments=instruments,
            timeframe=self.timeframe.currentText(),
            for_s=self.lasting.seconds(),
            cooldown_s=self.cooldown.seconds(),
            severity=self.severity.currentData(),
            channels=channels,
            repeat=self.repeat.isChecked(),
            forming=self.forming.isChecked(),
            sound=self.sound.isChecked(),
            created_ns=self._rule.created_ns or self._engine.clock.now_ns(),
        )

    def save(self) -> None:
        """Store the rule and close; say what is missing otherwise."""
        try:
            rule = self.rule()
        except WatchHamsterError as error:
            self._refuse(error)
            return
        self._errands.run(self, self._engine.save_rule(rule), self._stored, self._refuse)

    def problem(self) -> str:
        """What keeps it from being saved, as it was last said."""
        return self._problem.text()

    def trial(self) -> str:
        """What the rule would have done."""
        return self._trial.text()

    def is_waiting(self) -> bool:
        """Whether it is still to say what would have come of what was typed."""
        return self._wait.isActive() or self._trying

    def _stored(self, rule: Rule) -> None:
        self.saved.emit(rule)
        self.accept()

    def _refuse(self, error: Exception) -> None:
        if error is self.formula.error:
            self.formula.setFocus()  # where it is said already
        elif isinstance(error, WatchHamsterError):
            hint = f" {say(error.hint)}" if error.hint is not None else ""
            self._problem.setText(f"{theme.current().sign('critical').glyph} {say(error.text)}{hint}")
        else:
            raise error

    def _changed(self) -> None:
        self._problem.clear()
        self._tries += 1
        if self.formula.formula is None:
            self._trial.setText("")
            self._wait.stop()
            return
        self._trial.setText(_("Trying it on the last {days} days…").format(days=try_days(self.timeframe.currentText())))
        self._wait.start()

    def _try(self) -> None:
        try:
            rule = self.rule()
        except WatchHamsterError as error:
            self._trial.setText(say(error.text))
            return
        now = self._engine.clock.now_ns()
        number, self._trying = self._tries, True
        days = try_days(rule.timeframe)
        work = self._engine.try_rule(rule, now - days * 86400 * SECOND_NS, now)
        self._errands.run(self, work, lambda result: self._tried(number, result, days), self._not_tried)

    def _tried(self, number: int, result: Replay, days: int) -> None:
        self._trying = False
        if number == self._tries:  # else the form has changed since it was asked
            self._trial.setText(trial_sentence(result, days))

    def _not_tried(self, error: Exception) -> None:
        self._trying = False
        if not isinstance(error, WatchHamsterError):
            raise error
        self._trial.setText(say(error.text))

    def _themed(self) -> None:
        t = theme.current()
        self._trial.setStyleSheet(f"color: {t.secondary.name()};")
        self._problem.setStyleSheet(f"color: {t.sign('critical').colour.name()};")
        self.resize(t.px(620), self.sizeHint().height())
        self.setMinimumWidth(min(t.px(480), 900))


def try_days(timeframe_name: str) -> int:
    """On how many days of history a rule of this timeframe is tried while somebody waits for the answer."""
    bars_a_day = 86400 * SECOND_NS / timeframe(timeframe_name).approximate_ns
    return max(1, min(TRY_DAYS_MAX, int(TRY_BARS / bars_a_day)))


def trial_sentence(result: Replay, days: int) -> str:
    """What a rule would have done on so many days of history, in a sentence."""
    count = len(result.firings)
    if count == 0:
        return _("It would not have fired in the last {days} days.").format(days=days)
    return ngettext(
        "It would have fired once in the last {days} days.",
        "It would have fired {count} times in the last {days} days.",
        count,
    ).format(count=count, days=days)


class _Duration(Translated, QWidget):
    """A number and its unit."""

    changed = Signal()
    UNITS = (("s", 1), ("m", 60), ("h", 3600), ("d", 86400))

    def __init__(self, seconds: float, zero: Callable[[], str]) -> None:
        super().__init__()
        self._zero = zero  # what no time at all is called
        self._number = QDoubleSpinBox()
        self._number.setRange(0, 9999)
        without_buttons(self._number)
        self._number.setDecimals(0 if seconds == int(seconds) else 3)
        self._unit = Combo()
        unit = next((i for i in (3, 2, 1) if seconds and seconds % self.UNITS[i][1] == 0), 0)
        for name, _seconds in self.UNITS:
            self._unit.addItem(name)
        self._unit.setCurrentIndex(unit)
        self._number.setValue(seconds / self.UNITS[unit][1])
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._number)
        layout.addWidget(self._unit)
        layout.addStretch(1)
        self.setFocusProxy(self._number)
        self._number.setMinimumWidth(theme.current().px(96))
        self._number.valueChanged.connect(self.changed)
        self._unit.currentIndexChanged.connect(self.changed)
        self.words()

    def words(self) -> None:
        names = (
            pgettext("unit", "seconds"),
            pgettext("unit", "minutes"),
            pgettext("unit", "hours"),
            pgettext("unit", "days"),
        )
        for i, name in enumerate(names):
            self._unit.setItemText(i, name)
        self._unit.setAccessibleName(_("Unit"))
        self._number.setSpecialValueText(self._zero())

    def setAccessibleName(self, name: str) -> None:
        super().setAccessibleName(name)
        self._number.setAccessibleName(name)

    def seconds(self) -> float:
        return self._number.value() * self.UNITS[self._unit.currentIndex()][1]


# ---------------------------------------------------------------- the list of rules


class RuleList(Translated, QWidget):
    """Every rule: what it waits for, on what, whether it is on. Removal can be undone for a while."""

    changed = Signal()  # some rule was added, changed or removed
    form_opened = Signal(object)

    def __init__(self, engine: Engine, errands: Errands, messages: MessageLine) -> None:
        super().__init__()
        self._engine, self._errands, self._messages = engine, errands, messages
        self._going: set[int] = set()  # removed, but it can still be undone
        self.instrument: Callable[[], str] = lambda: ""  # what a new rule is about
        self.lookup: Lookup | None = None  # finds instruments by name
        self._title = QLabel()
        self._add = QPushButton()
        self._add.clicked.connect(lambda: self.edit(None))
        self.list = QListWidget()
        self.list.setFrameShape(QFrame.Shape.NoFrame)
        self.list.setItemDelegate(_RuleRow(self.list, engine))
        self.list.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.list.customContextMenuRequested.connect(self._menu)
        self.list.itemActivated.connect(lambda item: self.edit(item.data(Qt.ItemDataRole.UserRole)))
        self.list.itemSelectionChanged.connect(self._offer)
        self._edit, self._switch, self._remove = QPushButton(), QPushButton(), QPushButton()
        self._edit.clicked.connect(lambda: self._selected() and self.edit(self._selected()))
        self._switch.clicked.connect(self._toggle)
        self._remove.clicked.connect(self._remove_selected)
        self._empty = QLabel()
        self._empty.setWordWrap(True)
        self.setBackgroundRole(QPalette.ColorRole.Base)
        self.setAutoFillBackground(True)
        head = QHBoxLayout()
        head.setContentsMargins(theme.AROUND, theme.BETWEEN, theme.BETWEEN, theme.BETWEEN)
        head.addWidget(self._title, 1)
        head.addWidget(self._add)
        foot = QHBoxLayout()
        foot.setContentsMargins(*[theme.BETWEEN] * 4)
        foot.setSpacing(theme.BETWEEN)
        for button in (self._edit, self._switch, self._remove):
            foot.addWidget(button)
        foot.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(head)
        layout.addWidget(self._empty)
        layout.addWidget(self.list, 1)
        layout.addLayout(foot)
        self._empty.setContentsMargins(theme.AROUND, 0, theme.AROUND, theme.AROUND)
        theme.changed.connect(self._themed)
        self._themed()
        self.words()
        self.read()

    def words(self) -> None:
        """Buttons and texts."""
        self._title.setText(_("Rules"))
        self._add.setText(_("Add a rule"))
        self._edit.setText(_("Change"))
        self._remove.setText(_("Remove"))
        self.list.setAccessibleName(_("Rules"))
        self._empty.setText(_("A rule watches an instrument and tells you when its condition comes true."))
        self._offer()
        self.list.viewport().update()

    def read(self) -> None:
        """Show what rules there are."""
        chosen = self._selected()
        self.list.clear()
        for rule in self._engine.rules():
            if rule.id in self._going:
                continue
            item = QListWidgetItem(rule.name, self.list)
            item.setData(Qt.ItemDataRole.UserRole, rule)
            item.setData(Qt.ItemDataRole.AccessibleTextRole, f"{rule.name}: {rule.formula}")
            item.setToolTip(f"{rule.formula}\n{', '.join(rule.instruments)} {rule.timeframe}")
            if chosen is not None and rule.id == chosen.id:
                self.list.setCurrentItem(item)
        self._empty.setVisible(self.list.count() == 0)
        self._offer()

    def rules(self) -> list[Rule]:
        """The rules shown."""
        return [self.list.item(i).data(Qt.ItemDataRole.UserRole) for i in range(self.list.count())]

    def edit(self, rule: Rule | None) -> RuleForm:
        """Open the form on a rule, or on a new one about the instrument in hand."""
        if rule is None:
            instrument = self.instrument()
            rule = Rule(name="", formula="", instruments=(instrument,) if instrument else ())
        form = RuleForm(self.window(), self._engine, self._errands, rule, self.lookup)
        form.saved.connect(self._saved)
        form.show()
        self.form_opened.emit(form)
        return form

    def edit_id(self, rule_id: int) -> None:
        """Open the form on the rule of this id, if it still exists."""
        for rule in self._engine.rules():
            if rule.id == rule_id:
                self.edit(rule)

    def save(self, rule: Rule, done: Callable[[Rule], object] = lambda _rule: None) -> None:
        """Store a rule that needs no form."""

        def stored(new: Rule) -> None:
            self._saved(new)
            done(new)

        self._errands.run(self, self._engine.save_rule(rule), stored)

    def remove(self, rule: Rule) -> None:
        """Switch a rule off and take it from the list; it goes for good when the undo has passed."""
        if rule.id is None:
            return
        number = rule.id
        self._going.add(number)
        off = msgspec.structs.replace(rule, enabled=False)
        self._errands.run(self, self._engine.save_rule(off), self._saved)

        def undo() -> None:
            self._going.discard(number)
            self.save(rule)

        def gone() -> None:
            self._going.discard(number)
            self._errands.run(self, self._engine.remove_rule(number), lambda _none: self._saved(off))

        self._messages.say(
            lambda: _("The rule {name} was removed.").format(name=rule.name),
            act=lambda: _("Undo"),
            run=undo,
            seconds=UNDO_S,
            gone=gone,
        )
        self.read()

    def remove_now(self, rule: Rule) -> None:
        """Remove a rule for good: the undo of having made it."""
        if rule.id is not None:
            self._errands.run(self, self._engine.remove_rule(rule.id), lambda _none: self._saved(rule))

    def _saved(self, _rule: Rule) -> None:
        self.read()
        self.changed.emit()

    def _selected(self) -> Rule | None:
        items = self.list.selectedItems()
        return items[0].data(Qt.ItemDataRole.UserRole) if items else None

    def _toggle(self) -> None:
        rule = self._selected()
        if rule is not None:
            self.save(msgspec.structs.replace(rule, enabled=not rule.enabled))

    def _remove_selected(self) -> None:
        rule = self._selected()
        if rule is not None:
            self.remove(rule)

    def _offer(self) -> None:
        rule = self._selected()
        for button in (self._edit, self._switch, self._remove):
            button.setEnabled(rule is not None)
        self._switch.setText(_("Switch on") if rule is not None and not rule.enabled else _("Switch off"))

    def _menu(self, at: QPoint) -> None:
        rule = self._selected()
        if rule is None:
            return
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction(self._edit.text(), lambda: self.edit(rule))
        menu.addAction(self._switch.text(), self._toggle)
        menu.addAction(self._remove.text(), self._remove_selected)
        menu.popup(self.list.viewport().mapToGlobal(at))

    def _themed(self) -> None:
        t = theme.current()
        self.setStyleSheet(table_style(t))
        self._title.setFont(t.font("base", bold=True))
        self._empty.setStyleSheet(f"color: {t.secondary.name()};")
        self.list.scheduleDelayedItemsLayout()


class _RuleRow(QStyledItemDelegate):
    """Two lines: lamp, name, severity; formula and where."""

    def __init__(self, parent: QWidget, engine: Engine) -> None:
        super().__init__(parent)
        self._engine = engine

    def sizeHint(self, option: QStyleOptionViewItem, index: object) -> QSize:
        return QSize(0, 2 * theme.current().row_height)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: object) -> None:
        t = theme.current()
        rule: Rule = index.data(Qt.ItemDataRole.UserRole)  # type: ignore[attr-defined]
        rect: QRect = option.rect
        if option.state & QStyle.StateFlag.State_Selected:
            painter.fillRect(rect, t.mixed(t.accent, 0.18))
        box = rect.adjusted(theme.AROUND, 2, -theme.BETWEEN, -2)
        first, second = QRect(box), QRect(box)
        first.setHeight(box.height() // 2)
        second.setTop(first.bottom() + 1)
        sign = t.sign(rule.severity)
        middle, right = Qt.AlignmentFlag.AlignVCenter, Qt.AlignmentFlag.AlignRight
        small = t.font("small")
        note = pgettext("rule", "off") if not rule.enabled else "" if rule.repeat else pgettext("rule", "once")
        painter.setFont(small)
        painter.setPen(t.secondary)
        painter.drawText(first, middle | right, note)
        first.setRight(first.right() - QFontMetrics(small).horizontalAdvance(note) - theme.BETWEEN)
        painter.setFont(t.font())
        painter.setPen(sign.colour if rule.enabled else t.disabled)
        painter.drawText(first, middle, sign.glyph)
        first.setLeft(first.left() + t.px(18))
        second.setLeft(first.left())
        painter.setPen(t.text if rule.enabled else t.disabled)
        metrics = QFontMetrics(t.font())
        painter.drawText(first, middle, metrics.elidedText(rule.name, Qt.TextElideMode.ElideRight, first.width()))
        painter.setFont(small)
        painter.setPen(t.secondary if rule.enabled else t.disabled)
        text = f"{_where(rule.instruments, self._engine)} {rule.timeframe}  {rule.formula}"
        painter.drawText(
            second, middle, QFontMetrics(small).elidedText(text, Qt.TextElideMode.ElideRight, second.width())
        )


def _where(instruments: Sequence[str], engine: Engine) -> str:
    first = named(instruments[0], engine.info(instruments[0])) if instruments else ""
    if len(instruments) < 2:
        return first
    return _("{first} and {count} more").format(first=first, count=len(instruments) - 1)
