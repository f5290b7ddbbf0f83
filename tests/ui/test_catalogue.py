"""Every message of the source is in the catalogues, translated, with its places, and compiled as it is written."""

from __future__ import annotations

import functools
import importlib.util
import re
import string
from pathlib import Path
from types import ModuleType

import pytest
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from PySide6.QtCore import QLibraryInfo
from PySide6.QtWidgets import QApplication, QDialogButtonBox, QLabel, QWidget
from pytestqt.qtbot import QtBot

from watchhamster.core.text import Text, _, ngettext, pgettext, say
from watchhamster.ui import format
from watchhamster.ui.language import LANGUAGES, PSEUDO, Translated, named, switch_language

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def messages() -> ModuleType:
    """The extractor: a script beside the package. It reads the source once."""
    spec = importlib.util.spec_from_file_location("messages", ROOT / "packaging" / "messages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module)["extract"] = functools.cache(module.extract)
    return module


@pytest.mark.parametrize("language", ["ko"])
def test_every_message_is_translated_with_its_places(messages: ModuleType, language: str) -> None:
    problems = messages.problems(messages.extract(), messages.read(language))
    assert problems == [], "run packaging/locale.sh and translate what it names"


def test_the_template_agrees_with_the_source_and_has_not_shrunk(messages: ModuleType) -> None:
    with (ROOT / "resources/locale/watchhamster.pot").open("rb") as file:
        template = read_po(file)
    written = {(str(m.id), m.context) for m in template if m.id}
    assert written == {(str(m.id), m.context) for m in messages.extract() if m.id}
    assert len(written) > 900  # a broken extractor would agree with an empty template


def test_the_compiled_catalogue_is_the_written_one(messages: ModuleType) -> None:
    with (ROOT / "resources/locale/ko/LC_MESSAGES/watchhamster.mo").open("rb") as file:
        compiled = read_mo(file)
    assert {(_forms(m.id), _text(m.context)): _forms(m.string) for m in compiled if m.id} == {
        (_forms(m.id), m.context): _forms(m.string) for m in messages.read("ko") if m.id
    }


def _text(context: str | bytes | None) -> str | None:
    """Babel reads contexts of compiled catalogues as bytes."""
    return context.decode() if isinstance(context, bytes) else context


def test_every_translation_can_be_filled_in(messages: ModuleType) -> None:
    """With a value for each place, every message gives a sentence in every language, formats included."""
    for message in messages.read("ko"):
        if not message.id:
            continue
        for form in [*_forms(message.id), *_forms(message.string)]:
            values = {
                name: 7 if spec or conversion is None else "x"
                for _literal, name, spec, conversion in string.Formatter().parse(form)
                if name
            }
            assert form.format(**values)


def _forms(texts: str | list[str] | tuple[str, ...] | None) -> tuple[str, ...]:
    assert texts is not None
    return (texts,) if isinstance(texts, str) else tuple(texts)


def test_the_extractor_sees_branches_tables_plurals_and_contexts(messages: ModuleType) -> None:
    found = {str(m.id): m.context for m in messages.extract() if m.id}
    assert "The stream delivers." in found  # of a table
    assert "Warning" in found
    assert any(key.startswith("Asleep for") for key in found)  # one branch of a choice
    assert any(key.startswith("Off for") for key in found)  # the other
    assert "('{n} tick', '{n} ticks')" in found
    assert found["3 K M B T"] == "large numbers"


def test_no_message_is_built_at_run_time(messages: ModuleType) -> None:
    """An f-string or a name as the message would never be in the catalogue; passing one on is the exception."""
    import ast

    allowed = {"core/text.py", "engine/engine.py", "engine/owner.py", "storage/desk.py", "ui/theme.py", "commands.py"}
    for path in sorted(messages.SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and messages.called(node) in ("Text", "_"):
                assert not isinstance(node.args[0], ast.JoinedStr), f"{path.name}:{node.lineno}"
                if messages.literals(node.args[0]) is None:
                    assert path.relative_to(messages.SOURCE).as_posix() in allowed, f"{path.name}:{node.lineno}"


def test_korean_is_spoken_everywhere(look: QApplication) -> None:
    assert switch_language(look, "ko") == "ko"
    assert pgettext("page", "Alerts") == "알림"
    assert ngettext("{n} tick", "{n} ticks", 1).format(n=1) == "1틱"
    assert say(Text("There is no rule {id}.", {"id": 7})) == "규칙 7은(는) 없습니다."
    assert format.money(123_400_000_000.0) == "1,234억"
    assert format.age(11_520) == "3시간 12분"


def test_qts_own_words_are_translated_too(look: QApplication, qtbot: QtBot) -> None:
    assert (Path(QLibraryInfo.path(QLibraryInfo.LibraryPath.TranslationsPath)) / "qtbase_ko.qm").exists()
    switch_language(look, "ko")
    box = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
    qtbot.addWidget(box)
    assert box.buttons()[0].text().startswith("취소")


class Word(Translated, QLabel):
    """A widget with one word."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.words()

    def words(self) -> None:
        self.setText(_("Remove"))


def test_a_switch_reaches_children_hidden_ones_included(look: QApplication, qtbot: QtBot) -> None:
    window = QWidget()
    qtbot.addWidget(window)
    inner = QWidget(window)
    word = Word(inner)
    inner.hide()
    assert word.text() == "Remove"
    switch_language(look, "ko")
    assert word.text() == "삭제"
    switch_language(look, "en")
    assert word.text() == "Remove"


def test_pseudo_is_longer_and_keeps_places(look: QApplication, messages: ModuleType) -> None:
    switch_language(look, PSEUDO)
    for message in messages.extract():
        if not message.id or message.context == "large numbers":
            continue
        first = _forms(message.id)[0]
        said = pgettext(message.context, first) if message.context else _(first)
        assert len(said) >= len(first) * 1.2
        assert re.findall(r"\{[^}]*\}", said) == re.findall(r"\{[^}]*\}", first)


def test_an_instrument_is_called_as_the_reader_calls_it(look: QApplication) -> None:
    from tests.ui.fakes import FakeEngine

    info = FakeEngine().info("upbit:KRW-BTC")
    switch_language(look, "ko")
    assert named("upbit:KRW-BTC", info) == "비트코인"
    switch_language(look, "en")
    assert named("upbit:KRW-BTC", info) == "Bitcoin"
    assert named("upbit:KRW-NEW", None) == "KRW-NEW"


def test_languages_are_called_in_themselves() -> None:
    assert LANGUAGES == {"ko": "한국어", "en": "English"}
