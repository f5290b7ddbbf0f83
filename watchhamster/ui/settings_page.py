"""Settings, made from their declarations: each says what it does, its default and its place, and acts at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QSignalBlocker, Qt, QTimer, Signal
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QKeySequenceEdit,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from watchhamster.core.ports import WatchHamsterError
from watchhamster.core.text import _, pgettext, say
from watchhamster.monitor.alerts import Delivery
from watchhamster.settings import Setting, Value
from watchhamster.ui import theme
from watchhamster.ui.bridge import Errands
from watchhamster.ui.controls import Check, Combo, without_buttons
from watchhamster.ui.finder import rank
from watchhamster.ui.inbox import channel_name, delivery_state
from watchhamster.ui.language import LANGUAGES, Translated

if TYPE_CHECKING:
    from watchhamster.engine.engine import Engine

WRITE_AFTER_MS = 400  # of quiet typing

_SECTIONS: tuple[tuple[Callable[[], str], tuple[str, ...]], ...] = (
    (
        lambda: _("Appearance"),
        ("language", "theme", "colours", "text_size", "compact_rows", "flash", "time_zone", "frame_rate"),
    ),
    (
        lambda: _("Alerts"),
        ("sounds", "notifications", "quiet_hours", "alert_lifetime_minutes", "fold_seconds", "alert_retention_days"),
    ),
    (lambda: _("Starting and closing"), ("close_to_tray", "start_at_login")),
    (lambda: _("Markets"), ("trading_hours",)),
    (lambda: _("History"), ("history_limit_mb",)),
    (lambda: _("Backup"), ("backup", "backup_time", "backups_kept")),
    (lambda: _("Connections and secrets"), ("upbit_url", "yahoo_url", "credentials_in")),
)


def title_of(setting: Setting) -> str:
    """A setting's short name; the description stands under it."""
    titles = {
        "language": _("Language"),
        "theme": _("Theme"),
        "colours": _("Up and down colours"),
        "text_size": _("Text size"),
        "compact_rows": _("Compact rows"),
        "flash": _("Flash changed prices"),
        "sounds": _("Sounds"),
        "notifications": _("Desktop notifications"),
        "quiet_hours": _("Quiet hours"),
        "time_zone": _("Time zone"),
        "close_to_tray": _("Keep watching when closed"),
        "start_at_login": _("Start at login"),
        "trading_hours": _("Trading hours"),
        "upbit_url": _("Upbit address"),
        "yahoo_url": _("Yahoo address"),
        "alert_lifetime_minutes": _("Lifetime of an unsent alert"),
        "fold_seconds": _("Fold equal alerts"),
        "credentials_in": _("Where secrets are kept"),
        "history_limit_mb": _("Size limit of history"),
        "backup": _("Daily backup"),
        "backup_time": _("Backup time"),
        "backups_kept": _("Backups kept"),
        "alert_retention_days": _("Keep alerts for"),
        "frame_rate": _("Frame rate"),
    }
    if setting.name in titles:
        return titles[setting.name]
    if setting.name.startswith("retention_days_"):
        return _("Keep {timeframe} candles for").format(timeframe=setting.name.removeprefix("retention_days_"))
    return setting.name.replace("_", " ").capitalize()


def choice_name(setting: Setting, choice: str) -> str:
    """What a choice is called. Languages are called in themselves."""
    if setting.name == "language" and choice in LANGUAGES:
        return LANGUAGES[choice]
    return {
        "auto": pgettext("choice", "automatic"),
        "system": pgettext("choice", "as the desktop"),
        "dark": pgettext("choice", "dark"),
        "light": pgettext("choice", "light"),
        "korea": pgettext("choice", "Korean: red up, blue down"),
        "west": pgettext("choice", "Western: green up, red down"),
        "colour-blind": pgettext("choice", "Colour-blind: blue up, orange down"),
        "keyring": pgettext("choice", "system keyring"),
        "vault": pgettext("choice", "encrypted file"),
    }.get(choice, choice)


def unit_name(unit: str) -> str:
    """A setting's unit, after its number."""
    names = {
        "days": pgettext("unit", "days"),
        "minutes": pgettext("unit", "minutes"),
        "copies": pgettext("unit", "copies"),
        "s": pgettext("unit", "s"),
    }
    return f" {names.get(unit, unit)}" if unit else ""


class SettingsPage(Translated, QWidget):
    """Every setting, in sections, with a search; below them backup and the channels with their secrets."""

    restored = Signal()

    def __init__(self, engine: Engine, errands: Errands, actions: Sequence[QAction] = ()) -> None:
        super().__init__()
        self._engine, self._errands = engine, errands
        self._rows: dict[str, SettingRow] = {}
        self._heads: list[tuple[QLabel, Callable[[], str], list[QWidget]]] = []
        self.search = QLineEdit()
        self.search.setClearButtonEnabled(True)
        self.search.textChanged.connect(self._filter)
        self._nothing = QLabel()
        content = QWidget()
        self._column = QVBoxLayout(content)
        self._column.setContentsMargins(theme.AROUND, 0, theme.AROUND, theme.AROUND)
        self._column.setSpacing(theme.INSIDE)
        self._column.addWidget(self._nothing)
        declared = {setting.name: (setting, value) for setting, value in engine.settings}
        placed: set[str] = set()
        for title, names in _SECTIONS:
            rows: list[QWidget] = []
            wanted = [name for name in names if name in declared]
            if "history_limit_mb" in names:
                wanted += [name for name in declared if name.startswith("retention_days_")]
            if "backup" in names:
                rest = [name for name in declared if name not in placed and not self._has_section(name)]
            else:
                rest = []
            self._head(title, rows)
            for name in (*wanted, *rest):
                placed.add(name)
                row = self._rows[name] = SettingRow(*declared[name], engine, errands)
                rows.append(row)
                self._column.addWidget(row)
            if "history_limit_mb" in names:
                self.usage = HistoryUsage(engine)
                rows.append(self.usage)
                self._column.addWidget(self.usage)
            if "backup" in names:
                self.copies = BackupRow(engine, errands)
                self.copies.restored.connect(self.restored)
                rows.append(self.copies)
                self._column.addWidget(self.copies)
            if "upbit_url" in names:
                self.channels = ChannelsBox(engine, errands)
                rows.append(self.channels)
                self._column.addWidget(self.channels)
        self.keys = KeysBox(actions)
        self._head(lambda: _("Keys"), [self.keys])
        self._column.addWidget(self.keys)
        self._column.addStretch(1)
        self._scroll = scroll = QScrollArea()
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        content.setMaximumWidth(theme.current().px(860))
        holder = QWidget()
        middle = QHBoxLayout(holder)
        middle.setContentsMargins(0, 0, 0, 0)
        middle.addWidget(content, 1)
        middle.addStretch(0)
        scroll.setWidget(holder)
        self._content = content
        top = QHBoxLayout()
        top.setContentsMargins(theme.AROUND, theme.AROUND, theme.AROUND, theme.BETWEEN)
        top.addWidget(self.search)
        top.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(top)
        layout.addWidget(scroll, 1)
        theme.changed.connect(self._themed)
        stop = engine.settings.observe(self._changed)
        self.destroyed.connect(lambda *_gone: stop())
        self._themed()
        self.words()

    def words(self) -> None:
        """Heads and the search's hint."""
        self.search.setPlaceholderText(_("Search settings"))
        self.search.setAccessibleName(_("Search settings"))
        self._scroll.setAccessibleName(_("Settings"))
        self._nothing.setText(_("No setting is called that."))
        for label, title, _rows in self._heads:
            label.setText(title())
        self._filter()

    def row(self, name: str) -> SettingRow:
        """A setting's row."""
        return self._rows[name]

    def _has_section(self, name: str) -> bool:
        return name.startswith("retention_days_") or any(name in names for _title, names in _SECTIONS)

    def _head(self, title: Callable[[], str], rows: list[QWidget]) -> None:
        label = QLabel()
        self._heads.append((label, title, rows))
        self._column.addSpacing(theme.BETWEEN)
        self._column.addWidget(label)

    def _changed(self, name: str, value: Value) -> None:
        if name in self._rows:
            self._rows[name].show_value(value)

    def _filter(self) -> None:
        query = self.search.text()
        any_shown = False
        for label, title, rows in self._heads:
            whole = bool(query) and rank(query, title()) is not None
            shown = 0
            for row in rows:
                found = (
                    row.found_by()
                    if isinstance(row, SettingRow | BackupRow | ChannelsBox | HistoryUsage | KeysBox)
                    else ""
                )
                fits = not query.strip() or whole or query.casefold().strip() in found.casefold()
                row.setVisible(fits)
                shown += fits
            label.setVisible(shown > 0)
            any_shown = any_shown or shown > 0
        self._nothing.setVisible(not any_shown)

    def _themed(self) -> None:
        t = theme.current()
        self.search.setMinimumWidth(t.px(260))
        self._content.setMaximumWidth(t.px(860))
        self._nothing.setStyleSheet(f"color: {t.secondary.name()};")
        for label, _title, _rows in self._heads:
            label.setStyleSheet("font-weight: 600;")


class SettingRow(Translated, QWidget):
    """One setting: title, meaning, its control, and in small print its default and where it is stored."""

    def __init__(self, setting: Setting, value: Value, engine: Engine, errands: Errands) -> None:
        super().__init__()
        self.setting, self._engine, self._errands = setting, engine, errands
        self._value = value
        self._title, self._small = QLabel(), QLabel()
        for label in (self._title, self._small):
            label.setWordWrap(True)
            label.setTextFormat(Qt.TextFormat.PlainText)
        self._reset = QPushButton()
        self._reset.clicked.connect(lambda: self._set(setting.default))
        self._problem = QLabel()
        self._problem.setWordWrap(True)
        self.control = self._make()
        self._title.setBuddy(self.control)
        texts = QVBoxLayout()
        texts.setSpacing(0)
        texts.addWidget(self._title)
        texts.addWidget(self._small)
        texts.addWidget(self._problem)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, theme.INSIDE, 0, theme.INSIDE)
        layout.setSpacing(theme.AROUND)
        layout.addLayout(texts, 1)
        layout.addWidget(self._reset)
        layout.addWidget(self.control)
        self._wait = QTimer(self)
        self._wait.setSingleShot(True)
        self._wait.setInterval(WRITE_AFTER_MS)
        self._wait.timeout.connect(lambda: self._set(self._written()))
        theme.changed.connect(self._themed)
        self._themed()
        self.words()

    def words(self) -> None:
        """Everything it says."""
        setting = self.setting
        self._title.setText(title_of(setting))
        told = _("{description} Default: {default}. Kept in {place} as {name}.").format(
            description=say(setting.description),
            default=self._say_value(setting.default),
            place="watchhamster.db",
            name=setting.name,
        )
        later = _("A change holds from the next start on.")
        self._small.setText(f"{told} {later}" if setting.at_start else told)
        self._reset.setText(_("Default"))
        self._reset.setAccessibleName(_("{name}: back to its default").format(name=title_of(setting)))
        self.control.setAccessibleName(title_of(setting))
        self.control.setAccessibleDescription(say(setting.description))
        if isinstance(self.control, QComboBox):
            for i, choice in enumerate(setting.choices):
                self.control.setItemText(i, choice_name(setting, choice))
        elif isinstance(self.control, QSpinBox):
            self.control.setSuffix(unit_name(setting.unit))
        elif isinstance(self.control, QLineEdit):
            self.control.setPlaceholderText(setting.example)
        self.show_value(self._value)

    def found_by(self) -> str:
        """What the search looks at."""
        return f"{self._title.text()} {self._small.text()}"

    def problem(self) -> str:
        """Why the last value was refused."""
        return self._problem.text()

    def show_value(self, value: Value) -> None:
        """Show a value that holds now."""
        self._value = value
        control = self.control
        with QSignalBlocker(control):
            if isinstance(control, QComboBox):
                control.setCurrentIndex(control.findData(value))
            elif isinstance(control, QCheckBox):
                control.setChecked(bool(value))
            elif isinstance(control, QSpinBox):
                if not control.hasFocus():
                    control.setValue(int(value))
            elif isinstance(control, QLineEdit) and control.text().strip() != value:
                control.setText(str(value))
        self._reset.setVisible(value != self.setting.default)
        self._problem.hide()

    def _make(self) -> QWidget:
        setting = self.setting
        if setting.choices:
            box = Combo()
            for choice in setting.choices:
                box.addItem(choice, choice)
            box.activated.connect(lambda _row: self._set(box.currentData()))
            return box
        if setting.type is bool:
            check = Check()
            check.toggled.connect(self._set)
            return check
        if setting.type is int:
            spin = QSpinBox()
            spin.setRange(int(setting.minimum or 0), int(setting.maximum or 2**31 - 1))
            spin.setKeyboardTracking(False)
            without_buttons(spin)
            spin.setGroupSeparatorShown(True)
            spin.setAlignment(Qt.AlignmentFlag.AlignRight)
            if setting.name == "text_size":
                spin.setSingleStep(10)
            spin.valueChanged.connect(lambda _value: self._wait.start())
            return spin
        line = QLineEdit()
        line.textEdited.connect(lambda _text: self._wait.start())
        return line

    def _written(self) -> object:
        control = self.control
        if isinstance(control, QSpinBox):
            return control.value()
        assert isinstance(control, QLineEdit)
        return control.text()

    def _set(self, value: object) -> None:
        self._errands.run(self, self._engine.settings.set(self.setting.name, value), self._taken, self._refused)

    def _taken(self, _none: object) -> None:
        self._problem.hide()

    def _refused(self, error: Exception) -> None:
        if not isinstance(error, WatchHamsterError):
            raise error
        hint = f" {say(error.hint)}" if error.hint else ""
        self._problem.setText(f"{theme.current().sign('critical').glyph} {say(error.text)}{hint}")
        self._problem.show()

    def _say_value(self, value: Value) -> str:
        if isinstance(value, bool):
            return pgettext("setting", "on") if value else pgettext("setting", "off")
        if value == "":
            return pgettext("setting", "none")
        if isinstance(value, str):
            return choice_name(self.setting, value)
        return f"{value:,}{unit_name(self.setting.unit)}"

    def _themed(self) -> None:
        t = theme.current()
        self._small.setFont(t.font("small"))
        self._small.setStyleSheet(f"color: {t.secondary.name()};")
        self._problem.setStyleSheet(f"color: {t.sign('critical').colour.name()};")
        if not isinstance(self.control, QCheckBox):
            self.control.setFixedWidth(t.px(230))


class KeysBox(Translated, QWidget):
    """Every action of the window with its key, to be changed. A key belongs to one action."""

    changed = Signal(dict)  # action name -> key, those only that are not the default

    def __init__(self, actions: Sequence[QAction]) -> None:
        super().__init__()
        self._actions = [action for action in actions if action.objectName()]
        self._problem = QLabel()
        self._problem.setWordWrap(True)
        self._problem.hide()
        self._fields: dict[str, tuple[QLabel, QKeySequenceEdit, QPushButton]] = {}
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(theme.AROUND)
        grid.setColumnStretch(0, 1)
        for row, action in enumerate(self._actions):
            label, field, reset = QLabel(), QKeySequenceEdit(), QPushButton()
            field.setMaximumSequenceLength(1)
            field.setClearButtonEnabled(True)
            label.setBuddy(field)
            field.editingFinished.connect(lambda action=action, field=field: self._take(action, field.keySequence()))
            reset.clicked.connect(lambda _on=False, action=action: self._take(action, _default_key(action)))
            self._fields[action.objectName()] = (label, field, reset)
            for column, widget in enumerate((label, reset, field)):
                grid.addWidget(widget, row, column)
        grid.addWidget(self._problem, len(self._actions), 0, 1, 3)
        theme.changed.connect(self._themed)
        self._themed()
        self.words()

    def words(self) -> None:
        """Titles of actions and what the keys are now."""
        for action in self._actions:
            label, field, reset = self._fields[action.objectName()]
            title = str(action.property("title")())
            label.setText(title)
            field.setAccessibleName(title)
            reset.setText(_("Default"))
            reset.setAccessibleName(_("{name}: back to its default").format(name=title))
        self._show()

    def use(self, keys: Mapping[str, str]) -> None:
        """Give actions the keys that were kept, all others their default."""
        for action in self._actions:
            kept = keys.get(action.objectName())
            action.setShortcut(_default_key(action) if kept is None else QKeySequence(kept))
        self._show()

    def found_by(self) -> str:
        """What the search looks at."""
        return " ".join([_("Keys"), *(action.text() for action in self._actions)])

    def problem(self) -> str:
        """Why the last key was refused."""
        return self._problem.text()

    def _take(self, action: QAction, key: QKeySequence) -> None:
        """Give an action a key, unless another has it."""
        other = next((a for a in self._actions if a is not action and not key.isEmpty() and a.shortcut() == key), None)
        if other is not None:
            text = _("{key} is already the key of: {action}.").format(
                key=key.toString(QKeySequence.SequenceFormat.NativeText), action=other.text()
            )
            self._problem.setText(f"{theme.current().sign('warning').glyph} {text}")
            self._problem.show()
            self._show()
            return
        self._problem.clear()
        self._problem.hide()
        if key != action.shortcut():
            action.setShortcut(key)
            self.changed.emit(
                {a.objectName(): a.shortcut().toString() for a in self._actions if a.shortcut() != _default_key(a)}
            )
        self._show()

    def _show(self) -> None:
        for action in self._actions:
            _label, field, reset = self._fields[action.objectName()]
            with QSignalBlocker(field):
                field.setKeySequence(action.shortcut())
            reset.setVisible(action.shortcut() != _default_key(action))

    def _themed(self) -> None:
        t = theme.current()
        self._problem.setStyleSheet(f"color: {t.sign('warning').colour.name()};")
        for _label, field, _reset in self._fields.values():
            field.setFixedWidth(t.px(230))


def _default_key(action: QAction) -> QKeySequence:
    return QKeySequence(str(action.property("default_key") or ""))


class HistoryUsage(Translated, QWidget):
    """How much of its limit history takes."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self._bytes: int | None = None
        self._label, self._bar = QLabel(), QProgressBar()
        self._bar.setTextVisible(False)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, theme.INSIDE, 0, theme.INSIDE)
        layout.setSpacing(theme.AROUND)
        layout.addWidget(self._label)
        layout.addWidget(self._bar, 1)
        self.words()

    def words(self) -> None:
        """What is used of how much."""
        limit = self._engine.settings.number("history_limit_mb")
        self._bar.setAccessibleName(_("History used"))
        if self._bytes is None:
            self._label.setText(_("History used: …"))
            return
        used = self._bytes / 1e6
        self._label.setText(_("History used: {used:,.0f} of {limit:,} MB").format(used=used, limit=limit))
        self._bar.setRange(0, limit)
        self._bar.setValue(min(limit, round(used)))

    def show_bytes(self, count: int | None) -> None:
        """So many bytes are used."""
        if count != self._bytes:
            self._bytes = count
            self.words()

    def found_by(self) -> str:
        """What the search looks at."""
        return self._label.text()


class BackupRow(Translated, QWidget):
    """One step out, one step in: settings, rules, alerts and layouts in a file."""

    restored = Signal()

    def __init__(self, engine: Engine, errands: Errands) -> None:
        super().__init__()
        self._engine, self._errands = engine, errands
        self._save, self._restore, self._said = QPushButton(), QPushButton(), QLabel()
        self._said.setWordWrap(True)
        self._save.clicked.connect(self._ask_save)
        self._restore.clicked.connect(self._ask_restore)
        self._told: Callable[[], str] = lambda: ""
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, theme.INSIDE, 0, theme.INSIDE)
        for widget in (self._save, self._restore):
            layout.addWidget(widget)
        layout.addWidget(self._said, 1)
        self.words()

    def words(self) -> None:
        """Buttons, and what happened last."""
        self._save.setText(_("Back up to a file…"))
        self._restore.setText(_("Restore from a file…"))
        self._said.setText(self._told())

    def found_by(self) -> str:
        """What the search looks at."""
        return f"{self._save.text()} {self._restore.text()}"

    def back_up(self, path: Path) -> None:
        """Write everything that is not market data to a file."""
        self._errands.run(
            self, self._engine.backup(path), lambda _none: self._tell(lambda: _("Written: {file}").format(file=path))
        )

    def restore(self, path: Path) -> None:
        """Take everything from a file; what was there is kept as a copy by the store."""

        def done(_none: object) -> None:
            self._tell(lambda: _("Restored from {file}.").format(file=path))
            self.restored.emit()

        self._errands.run(self, self._engine.restore(path), done)

    def said(self) -> str:
        """What happened last."""
        return self._said.text()

    def _tell(self, what: Callable[[], str]) -> None:
        self._told = what
        self.words()

    def _ask_save(self) -> None:
        dialog = QFileDialog(self, _("Back up to a file"), "watchhamster-backup.db")
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        self._open(dialog, self.back_up)

    def _ask_restore(self) -> None:
        dialog = QFileDialog(self, _("Restore from a file"))
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        self._open(dialog, self.restore)

    def _open(self, dialog: QFileDialog, act: Callable[[Path], None]) -> None:
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(lambda name: act(Path(name)))
        dialog.open()


class ChannelsBox(Translated, QWidget):
    """Each channel: where it leads (a secret that can be written, never read back) and a test."""

    SECRETS = ("webhook", "dooray")

    def __init__(self, engine: Engine, errands: Errands) -> None:
        super().__init__()
        self._engine, self._errands = engine, errands
        self._lines: dict[str, tuple[QLabel, QLineEdit | None, QPushButton | None, QPushButton, QLabel]] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for channel in ("desktop", "webhook", "dooray"):
            name, test, answer = QLabel(), QPushButton(), QLabel()
            answer.setWordWrap(True)
            field: QLineEdit | None = None
            store: QPushButton | None = None
            row = QHBoxLayout()
            row.addWidget(name)
            if channel in self.SECRETS:
                field = QLineEdit()
                field.setEchoMode(QLineEdit.EchoMode.Password)
                store = QPushButton()
                store.clicked.connect(lambda _on=False, channel=channel: self.store_secret(channel))
                field.returnPressed.connect(lambda channel=channel: self.store_secret(channel))
                row.addWidget(field, 1)
                row.addWidget(store)
            else:
                row.addStretch(1)
            test.clicked.connect(lambda _on=False, channel=channel: self.test(channel))
            row.addWidget(test)
            layout.addLayout(row)
            layout.addWidget(answer)
            answer.hide()
            self._lines[channel] = (name, field, store, test, answer)
        theme.changed.connect(self._themed)
        self._themed()
        self.words()

    def words(self) -> None:
        """Names, hints, buttons."""
        for channel, (name, field, store, test, _answer) in self._lines.items():
            title = channel_name(channel)
            name.setText(title)
            test.setText(_("Test"))
            test.setAccessibleName(_("Test {channel}").format(channel=title))
            if field is not None and store is not None:
                field.setPlaceholderText(_("Address (kept secret, not shown again)"))
                field.setAccessibleName(_("Secret address of {channel}").format(channel=title))
                store.setText(_("Keep"))
                store.setAccessibleName(_("Keep the address of {channel}").format(channel=title))

    def found_by(self) -> str:
        """What the search looks at."""
        return " ".join(name.text() for name, *_rest in self._lines.values())

    def test(self, channel: str) -> None:
        """Send a test message and show what came of it."""
        self._say(channel, "pending", _("Sending a test…"))

        def done(delivery: Delivery) -> None:
            state, word = delivery_state(delivery)
            self._say(channel, state, " · ".join(filter(None, (word, delivery.receipt, delivery.error))))

        self._errands.run(self, self._engine.test_channel(channel), done, lambda error: self._failed(channel, error))

    def store_secret(self, channel: str) -> None:
        """Keep what is written in the channel's field."""
        field = self._lines[channel][1]
        if field is None or not field.text().strip():
            return
        work = self._engine.set_secret(channel, field.text().strip())
        field.clear()  # it is not needed here a moment longer
        self._errands.run(
            self,
            work,
            lambda _none: self._say(channel, "ok", _("Kept. Press Test to see whether it works.")),
            lambda error: self._failed(channel, error),
        )

    def answer(self, channel: str) -> str:
        """What a channel's last test or change came to."""
        return self._lines[channel][4].text()

    def _failed(self, channel: str, error: Exception) -> None:
        if not isinstance(error, WatchHamsterError):
            raise error
        hint = f" {say(error.hint)}" if error.hint else ""
        self._say(channel, "critical", f"{say(error.text)}{hint}")

    def _say(self, channel: str, state: str, text: str) -> None:
        answer = self._lines[channel][4]
        sign = theme.current().sign(state)
        answer.setText(f"{sign.glyph} {text}")
        answer.setStyleSheet(f"color: {sign.colour.name()};")
        answer.show()

    def _themed(self) -> None:
        for name, *_rest in self._lines.values():
            name.setMinimumWidth(theme.current().px(150))
