"""The tokens keep what the desk promises: readable text, told-apart signals, one switch for everything."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from PySide6.QtCore import QSize
from PySide6.QtGui import QColor, QFontMetricsF, QIcon
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from watchhamster.ui import theme


@pytest.fixture(autouse=True)
def restored(qapp: QApplication):  # type: ignore[no-untyped-def]
    yield
    theme.apply(qapp)


def _contrast(a: QColor, b: QColor) -> float:
    """The WCAG 2 ratio."""

    def luminance(colour: QColor) -> float:
        red, green, blue = (
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in (colour.redF(), colour.greenF(), colour.blueF())
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(("name", "colours"), [*product(("dark", "light"), ("korea", "west", "colour_blind"))])
def test_text_and_signals_can_be_read_on_the_panel(
    qapp: QApplication, name: theme.Theme, colours: theme.Colours
) -> None:
    t = theme.apply(qapp, name, colours)
    signals = [t.text, t.secondary, t.accent, t.up, t.down, t.simulated, *(s.colour for s in t.signs.values())]
    for colour in signals:
        assert _contrast(colour, t.panel) >= 4.5, colour.name()
        assert theme.contrast(colour, t.panel) == pytest.approx(_contrast(colour, t.panel))


def test_every_severity_differs_in_shape_and_word_not_only_in_colour(qapp: QApplication) -> None:
    signs = theme.current().signs
    assert len({s.glyph for s in signs.values()}) == len(signs) == len({s.word for s in signs.values()})
    assert [signs[s].glyph for s in ("ok", "info", "warning", "critical", "unknown", "muted")] == list("●◐▲■○‖")
    assert theme.current().sign("never heard of") is signs["unknown"]


def test_one_call_switches_palette_font_and_open_views(qapp: QApplication, qtbot: QtBot) -> None:
    widget = QWidget()
    qtbot.addWidget(widget)
    theme.apply(qapp, "dark")
    with qtbot.waitExposed(widget):
        widget.show()
    assert widget.grab().toImage().pixelColor(5, 5) == QColor("#0F1317")
    with qtbot.waitSignal(theme.changed):
        theme.apply(qapp, "light", "korea", text_percent=200)
    assert theme.current().name == "light"
    assert widget.grab().toImage().pixelColor(5, 5) == theme.current().ground == QColor("#F3F5F7")
    assert theme.current().up == QColor("#D02F3C")
    assert qapp.font().pixelSize() == 26
    assert theme.current().row_height == 48


def test_digits_are_equally_wide_and_hangul_is_at_hand(qapp: QApplication) -> None:
    metrics = QFontMetricsF(theme.current().font())
    assert len({metrics.horizontalAdvance(digit) for digit in "0123456789"}) == 1
    if any("CJK" in family for family in theme.families()):
        assert theme.has_korean()


def test_an_icon_takes_the_theme_s_colours(qapp: QApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "icons").mkdir()
    (tmp_path / "icons" / "block.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">'
        '<rect width="16" height="16" fill="currentColor"/></svg>'
    )
    monkeypatch.setattr(theme, "RESOURCES", tmp_path)

    def middle(icon: QIcon, mode: QIcon.Mode = QIcon.Mode.Normal) -> QColor:
        return icon.pixmap(QSize(16, 16), 1.0, mode).toImage().pixelColor(8, 8)

    dark = theme.apply(qapp, "dark")
    assert middle(theme.icon("block")) == dark.text
    assert middle(theme.icon("block"), QIcon.Mode.Disabled) == dark.disabled
    assert middle(theme.icon("block", "accent")) == dark.accent
    light = theme.apply(qapp, "light")
    assert middle(theme.icon("block")) == light.text
    with pytest.raises(FileNotFoundError):
        theme.icon("no such icon")
