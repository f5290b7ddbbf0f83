"""Text for people, kept as a code with values until it meets one.

Below the window and the command line nobody knows the reader's language, so a message is a `Text`: an English
sentence that is also its gettext key, and the values that go into it. `say()` renders it in the language in use;
`str()` renders it in English, which is what logs and JSON carry.
"""

from __future__ import annotations

import gettext as _gettext
from collections.abc import Mapping

import msgspec

_translations: _gettext.NullTranslations = _gettext.NullTranslations()


def use_translations(translations: _gettext.NullTranslations) -> None:
    """Switch every later `say`, `_`, `ngettext` and `pgettext` to these translations."""
    global _translations
    _translations = translations


def _(message: str) -> str:
    """The message in the language in use. Literals only: they are extracted from the source."""
    return _translations.gettext(message)


def ngettext(singular: str, plural: str, n: int) -> str:
    """The right plural form for `n`, in the language in use."""
    return _translations.ngettext(singular, plural, n)


def pgettext(context: str, message: str) -> str:
    """A word with more than one meaning, told apart by `context`."""
    return _translations.pgettext(context, message)


class Text(msgspec.Struct, frozen=True):
    """An English sentence with `{named}` places, and what goes into them."""

    message: str
    values: Mapping[str, object] = {}

    def __str__(self) -> str:
        return self.message.format(**self.values)


def say(text: Text | str) -> str:
    """The text in the language in use; values that are texts themselves are translated too."""
    if isinstance(text, str):
        return _(text) if text else ""
    values = {k: say(v) if isinstance(v, Text) else v for k, v in text.values.items()}
    return _(text.message).format(**values)
