"""The window's language, switched while it runs.

Every widget with words of its own is `Translated`: `words()` says all of them, once when it is made and again after a
switch. Qt sends `LanguageChange` from the top window down to every child, so nobody keeps a list.
"""

from __future__ import annotations

import gettext
import re

from PySide6.QtCore import QCoreApplication, QEvent, QLibraryInfo, QLocale, QTranslator
from PySide6.QtWidgets import QApplication, QWidget

from watchhamster.core.instruments import InstrumentInfo
from watchhamster.core.text import use_translations
from watchhamster.settings import load_translations

LANGUAGES = {"ko": "한국어", "en": "English"}  # each in itself, for someone who cannot read the other
PSEUDO = "qps"  # what a longer language would look like; for tests and translators


class Translated:
    """A widget whose words follow the language. First among the bases; `__init__` ends with `self.words()`."""

    def words(self) -> None:
        """Say every text of this widget (not its children's)."""
        raise NotImplementedError

    def changeEvent(self, event: QEvent) -> None:
        """Qt's: something about the widget's surroundings changed."""
        if event.type() == QEvent.Type.LanguageChange:
            self.words()
        super().changeEvent(event)  # type: ignore[misc]


_qt: QTranslator | None = None
_code = "en"


def named(instrument: str, info: InstrumentInfo | None) -> str:
    """What an instrument is called in the language in use, else in English, else its symbol."""
    names = info.names if info is not None else {}
    return names.get(_code) or names.get("en") or instrument.partition(":")[2]


def language() -> str:
    """The code of the language in use."""
    return _code


def switch_language(app: QApplication, language: str = "auto") -> str:
    """Speak a language everywhere (our catalogue, Qt's own dialogs, dates, every open window) and return its code."""
    global _code, _qt
    if language == PSEUDO:
        use_translations(Pseudo())
    else:
        language = load_translations(language)
    _code = language
    QLocale.setDefault(QLocale(language) if language in LANGUAGES else QLocale.c())
    if _qt is not None:
        app.removeTranslator(_qt)
    _qt = QTranslator(app)
    if _qt.load(f"qtbase_{language}", QLibraryInfo.path(QLibraryInfo.LibraryPath.TranslationsPath)):
        app.installTranslator(_qt)
    for window in app.topLevelWidgets():
        if isinstance(window, QWidget):
            QCoreApplication.sendEvent(window, QEvent(QEvent.Type.LanguageChange))
    return language


class Pseudo(gettext.NullTranslations):
    """Every message 40 % longer and accented, `{places}` untouched: what clips or is not translated shows at once."""

    _accents = str.maketrans("aeiouyAEIOUYcns", "áéíóúýÁÉÍÓÚÝçñš")

    def gettext(self, message: str) -> str:
        """The message, lengthened."""
        parts = re.split(r"(\{[^}]*\}|&|\n)", message)
        text = "".join(p if i % 2 else p.translate(self._accents) for i, p in enumerate(parts))
        return f"[{text}{'·' * max(1, round(len(message) * 0.4) - 2)}]" if message.strip() else message

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        """The plural form, lengthened."""
        return self.gettext(msgid1 if n == 1 else msgid2)

    def pgettext(self, context: str, message: str) -> str:
        """The word, lengthened; its context stays with the translator. `format.money` reads units, so they stay."""
        return message if context == "large numbers" else self.gettext(message)
