"""How the window looks: colours, fonts, icons, and the one place that switches them.

Views read `current()` when they paint and connect `changed` to drop what they cached; nobody writes a colour or a
font size of their own. Price direction is always told by sign or arrow too, severity by shape and word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

from PySide6.QtCore import QByteArray, QObject, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QBrush, QColor, QFont, QFontDatabase, QFontMetrics, QIcon, QPainter, QPalette, QPixmap
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QApplication

from watchhamster.core.text import _

Theme = Literal["system", "dark", "light"]
Colours = Literal["korea", "west", "colour_blind"]
TextSize = Literal["small", "base", "large"]

_HERE = Path(__file__).resolve()
RESOURCES = next(
    (p for p in (_HERE.parents[1] / "resources", _HERE.parents[2] / "resources") if p.is_dir()), _HERE.parents[1]
)

# On a grid of 4 px at 100 % text: 4 inside, 8 between, 16 around.
INSIDE, BETWEEN, AROUND, RADIUS = 4, 8, 16, 4
_PIXELS: Mapping[TextSize, int] = {"small": 11, "base": 13, "large": 20}
_AS_ZEROS = str.maketrans("123456789", "000000000")
_WORDS = {  # state or severity -> its shape and its English word
    "ok": ("●", "OK"),
    "info": ("◐", "Info"),
    "pending": ("◔", "Pending"),
    "warning": ("▲", "Warning"),
    "critical": ("■", "Critical"),
    "unknown": ("○", "Unknown"),
    "muted": ("‖", "Muted"),
}


@dataclass(frozen=True)
class Sign:
    """How a severity or state shows itself: always shape, colour and word together."""

    glyph: str
    colour: QColor
    message: str

    @property
    def word(self) -> str:
        """Its name in the language in use."""
        return _(self.message)


class Lettering:
    """A font and its measures in whole pixels. Do not change the font: it is shared."""

    def __init__(self, font: QFont) -> None:
        self.font = font
        self._metrics = QFontMetrics(font)
        self.height = self._metrics.height()
        self.ascent = self._metrics.ascent()
        self.cap = self._metrics.capHeight()
        self._widths: dict[str, int] = {}

    def width(self, text: str) -> int:
        """How wide a text is. Digits are equally wide, so few numbers differ, and those are remembered."""
        pattern = text.translate(_AS_ZEROS)
        width = self._widths.get(pattern)
        if width is None:
            if len(self._widths) > 20_000:
                self._widths.clear()
            width = self._widths[pattern] = self._metrics.horizontalAdvance(pattern)
        return width

    def elided(self, text: str, width: int) -> str:
        """The text, cut to a width by three dots."""
        return self._metrics.elidedText(text, Qt.TextElideMode.ElideRight, width)


@dataclass(frozen=True)
class Tokens:
    """Everything that is a matter of taste, for one theme, set of price colours and text size."""

    name: Literal["dark", "light"]
    ground: QColor  # the deepest of three depths
    panel: QColor
    raised: QColor
    line: QColor
    text: QColor
    secondary: QColor
    disabled: QColor
    accent: QColor  # selection and brand
    focus: QColor
    up: QColor
    down: QColor
    simulated: QColor  # whatever does not come from the market
    signs: Mapping[str, Sign] = field(default_factory=dict)
    text_percent: int = 100
    motion: bool = True  # a changed price flashes

    def sign(self, state: str) -> Sign:
        """Shape, colour and word of a state or severity; `unknown` for one nobody has heard of."""
        return self.signs.get(state, self.signs["unknown"])

    def direction(self, change: float | None) -> QColor:
        """The colour of a change of price: up, down, or plain text."""
        if change is None or change != change or change == 0:
            return self.text
        return self.up if change > 0 else self.down

    def px(self, pixels: float) -> int:
        """A length given at 100 % text, at the text size in use."""
        return max(1, round(pixels * self.text_percent / 100))

    @property
    def row_height(self) -> int:
        """Logical pixels of a table's row."""
        return self.px(24)

    def font(self, size: TextSize = "base", bold: bool = False) -> QFont:
        """A font of the interface, with digits of one width."""
        return QFont(self.lettering(size, bold).font)

    def lettering(self, size: TextSize = "base", bold: bool = False, scale: float = 1.0) -> Lettering:
        """The same font with its measures, for painting; `scale` is device pixels a unit where that is not one."""
        return _lettering(round(self.px(_PIXELS[size]) * scale), bold)

    def mixed(self, colour: QColor, share: float, ground: QColor | None = None) -> QColor:
        """`share` (0 to 1) of a colour on the panel (or another ground), opaque: cheaper to paint than alpha."""
        under, rest = ground or self.panel, 1 - share
        return QColor(
            round(colour.red() * share + under.red() * rest),
            round(colour.green() * share + under.green() * rest),
            round(colour.blue() * share + under.blue() * rest),
        )

    def hatch(self) -> QBrush:
        """The diagonal hatch of what is simulated."""
        return QBrush(self.mixed(self.simulated, 0.35), Qt.BrushStyle.BDiagPattern)

    def gap_hatch(self) -> QBrush:
        """The hatch of time whose market data was never fetched."""
        return QBrush(self.mixed(self.disabled, 0.30), Qt.BrushStyle.FDiagPattern)


def _tokens(name: Literal["dark", "light"], colours: Colours, text_percent: int, motion: bool) -> Tokens:
    plain = {
        "dark": "#0F1317 #151A20 #1D242C #2B343F #E6EAEF #9CA7B5 #6C7785 #F0A63A #5AA9FF",
        "light": "#F3F5F7 #FFFFFF #E9EDF1 #D3DAE1 #141920 #515C69 #7B8693 #A35F00 #1667C7",
    }[name]
    up_down = {
        ("dark", "korea"): "#F2616B #5292FF",
        ("light", "korea"): "#D02F3C #1F5FD0",
        ("dark", "west"): "#2FBF8A #F4525F",
        ("light", "west"): "#0B7F57 #CE2F3D",
        ("dark", "colour_blind"): "#4FA3F0 #F0A030",
        ("light", "colour_blind"): "#1C67B5 #A65A00",
    }[name, colours]
    shades = {
        "dark": "#3DB88C #6FA8E5 #6FA8E5 #E9B43C #F05B5B #94A0AE #7C8795",
        "light": "#11805B #2A69AE #2A69AE #8A6100 #C62B33 #5D6875 #6B7683",
    }[name]
    signs = {
        state: Sign(glyph, QColor(shade), word)
        for (state, (glyph, word)), shade in zip(_WORDS.items(), shades.split(), strict=True)
    }
    simulated = QColor("#A98BF5" if name == "dark" else "#6D46CF")
    names = ["ground", "panel", "raised", "line", "text", "secondary", "disabled", "accent", "focus", "up", "down"]
    palette = {key: QColor(value) for key, value in zip(names, f"{plain} {up_down}".split(), strict=True)}
    return Tokens(name=name, **palette, simulated=simulated, signs=signs, text_percent=text_percent, motion=motion)


def contrast(one: QColor, other: QColor) -> float:
    """How well two colours are told apart, from 1 to 21, as WCAG 2 reckons it."""

    def luminance(colour: QColor) -> float:
        parts = (colour.redF(), colour.greenF(), colour.blueF())
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@lru_cache(maxsize=32)
def _lettering(pixels: int, bold: bool) -> Lettering:
    font = QFont(families())
    font.setPixelSize(pixels)
    font.setFeature(QFont.Tag("tnum"), 1)  # fonts without tabular figures ignore it
    if bold:
        font.setWeight(QFont.Weight.DemiBold)
    return Lettering(font)


@lru_cache(maxsize=1)
def families() -> list[str]:
    """The system's sans and, behind it, a font with Hangul. A desktop that names no font of its own gets Noto."""
    system = QFontDatabase.systemFont(QFontDatabase.SystemFont.GeneralFont).family()
    known = set(QFontDatabase.families())
    korean = [f for f in ("Noto Sans CJK KR", "Noto Sans KR", "Malgun Gothic", "Apple SD Gothic Neo") if f in known]
    if system in ("Sans Serif", "DejaVu Sans") and korean:
        return [*korean, system]
    return [system, *korean]


def has_korean() -> bool:
    """Whether the fonts in use can write Hangul; without one, Korean shows as boxes."""
    return QFontMetrics(_lettering(_PIXELS["base"], False).font).inFontUcs4(ord("가"))


class _Notifier(QObject):
    changed = Signal()


_notifier = _Notifier()
changed = _notifier.changed  # after every `apply`; sent once, with the new tokens already current
_current = _tokens("dark", "west", 100, True)


def current() -> Tokens:
    """The tokens in use."""
    return _current


def apply(
    app: QApplication,
    theme: Theme = "dark",
    colours: Colours = "west",
    text_percent: int = 100,
    motion: bool = True,
) -> Tokens:
    """Switch the whole application at once, and tell every view by `changed`. `system` follows the desktop's wish."""
    global _current
    name: Literal["dark", "light"] = "light" if theme == "light" else "dark"
    if theme == "system" and app.styleHints().colorScheme() == Qt.ColorScheme.Light:
        name = "light"
    _current = tokens = _tokens(name, colours, text_percent, motion)
    icon.cache_clear()
    app.setPalette(_palette(tokens))
    app.setFont(tokens.font())
    app.setStyleSheet(_style_sheet(tokens))
    changed.emit()
    return tokens


def _palette(t: Tokens) -> QPalette:
    role = QPalette.ColorRole
    palette = QPalette()
    for name, colour in {
        role.Window: t.ground,
        role.Base: t.panel,
        role.AlternateBase: t.raised,
        role.Button: t.raised,
        role.ToolTipBase: t.raised,
        role.WindowText: t.text,
        role.Text: t.text,
        role.ButtonText: t.text,
        role.ToolTipText: t.text,
        role.BrightText: t.text,
        role.PlaceholderText: t.secondary,
        role.Highlight: t.mixed(t.accent, 0.28),
        role.HighlightedText: t.text,
        role.Accent: t.accent,
        role.Link: t.focus,
        role.LinkVisited: t.focus,
        role.Light: t.raised,
        role.Midlight: t.raised,
        role.Mid: t.line,
        role.Dark: t.line,
        role.Shadow: t.ground,
    }.items():
        palette.setColor(name, colour)
    for name in (role.WindowText, role.Text, role.ButtonText, role.HighlightedText):
        palette.setColor(QPalette.ColorGroup.Disabled, name, t.disabled)
    return palette


def _style_sheet(t: Tokens) -> str:
    """Only what a palette cannot say: flat edges, thin separators, a focus ring one can see."""
    line, focus, raised = t.line.name(), t.focus.name(), t.raised.name()
    hover = t.mixed(t.text, 0.10, t.raised).name()
    return f"""
    QToolTip {{ background: {raised}; color: {t.text.name()}; border: 1px solid {line}; padding: {t.px(4)}px; }}
    QMainWindow::separator {{ background: {line}; width: 1px; height: 1px; }}
    QSplitter::handle {{ background: {line}; }}
    QStatusBar::item {{ border: 0; }}
    QDialogButtonBox {{ dialogbuttonbox-buttons-have-icons: 0; }}
    QPushButton {{ background: {raised}; border: 1px solid {line}; border-radius: {RADIUS}px;
                   padding: {t.px(4)}px {t.px(12)}px; }}
    QPushButton:hover {{ background: {hover}; }}
    QPushButton:pressed, QPushButton:checked {{ background: {t.mixed(t.accent, 0.28).name()}; }}
    QPushButton:default {{ border-color: {t.accent.name()}; }}
    QPushButton:disabled {{ color: {t.disabled.name()}; }}
    QLineEdit, QPlainTextEdit, QSpinBox, QDoubleSpinBox {{ background: {t.panel.name()}; border: 1px solid {line};
                   border-radius: {RADIUS}px; padding: {t.px(3)}px {t.px(6)}px; }}
    QTabBar::tab {{ background: {t.ground.name()}; color: {t.secondary.name()}; border: 0;
                   border-top: 2px solid {line}; padding: {t.px(4)}px {t.px(10)}px; }}
    QTabBar::tab:selected {{ background: {t.panel.name()}; color: {t.text.name()};
                   border-top-color: {t.accent.name()}; }}
    QTabBar::tab:hover {{ color: {t.text.name()}; }}
    QPushButton:focus, QLineEdit:focus, QPlainTextEdit:focus, QSpinBox:focus, QDoubleSpinBox:focus
                   {{ border: 2px solid {focus}; padding: {t.px(3) - 1}px {t.px(6) - 1}px; }}
    QPushButton:focus {{ padding: {t.px(4) - 1}px {t.px(12) - 1}px; }}
    QSpinBox, QDoubleSpinBox, QSpinBox:focus, QDoubleSpinBox:focus {{ padding: 1px 0; }}
    QScrollBar {{ background: transparent; border: 0; }}
    QScrollBar:vertical {{ width: {t.px(10)}px; }}
    QScrollBar:horizontal {{ height: {t.px(10)}px; }}
    QScrollBar::handle {{ background: {line}; border-radius: {RADIUS}px; margin: 2px; min-height: 24px;
                   min-width: 24px; }}
    QScrollBar::handle:hover {{ background: {t.disabled.name()}; }}
    QScrollBar::add-line, QScrollBar::sub-line, QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent;
                   width: 0; height: 0; }}
    """


@lru_cache(maxsize=256)
def icon(name: str, colour: str | None = None) -> QIcon:
    """Our icon of this name (`resources/icons/<name>.svg`, drawn with `currentColor`), in the theme's colours.

    `colour` (a token's name, such as `accent`) replaces the text colour. Ask again after `changed`.
    Raises `FileNotFoundError` for a name we do not have.
    """
    source = (RESOURCES / "icons" / f"{name}.svg").read_text(encoding="utf-8")
    t = current()
    normal: QColor = getattr(t, colour) if colour else t.text
    result = QIcon()
    for modes, shade in (((QIcon.Mode.Normal, QIcon.Mode.Selected), normal), ((QIcon.Mode.Disabled,), t.disabled)):
        renderer = QSvgRenderer(QByteArray(source.replace("currentColor", shade.name()).encode()))
        for logical, dpr in ((16, 1.0), (16, 2.0), (24, 1.0), (24, 2.0)):
            pixmap = _rendered(renderer, logical, dpr)
            for mode in modes:
                result.addPixmap(pixmap, mode)
    return result


def _rendered(renderer: QSvgRenderer, logical: int, dpr: float) -> QPixmap:
    side = round(logical * dpr)
    pixmap = QPixmap(QSize(side, side))
    pixmap.setDevicePixelRatio(dpr)
    pixmap.fill(Qt.GlobalColor.transparent)
    with QPainter(pixmap) as painter:
        renderer.render(painter, QRectF(0, 0, logical, logical))
    return pixmap
