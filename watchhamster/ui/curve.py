"""The account over time: equity beside buy-and-hold, and under them how far it was below its best.

Painted from arrays: a column of pixels that stands for many bars shows the lowest and the highest of them, so a dip
of one minute is seen in ten years.
"""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
from PySide6.QtCore import QEvent, QLineF, QPointF, QRect, QSize, Qt
from PySide6.QtGui import QColor, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QWidget

from watchhamster.backtest.definitions import MINUS, money, shown
from watchhamster.core.bars import Floats, Ints
from watchhamster.core.text import _
from watchhamster.ui import format, theme
from watchhamster.ui.language import Translated

_MARGIN = 0.06  # above the highest and below the lowest


class CurveView(Translated, QWidget):
    """Curves on one axis of time. Arrow keys and the mouse read a bar; its figures stand in the head."""

    def __init__(self) -> None:
        super().__init__()
        self._at: Ints = np.empty(0, np.int64)
        self._curves: list[Floats] = []
        self._names: list[str] = []
        self._own_names = False  # those of equity and buy-and-hold are said in the language in use
        self._down: Floats = np.empty(0)
        self._zone: dt.tzinfo = dt.UTC
        self._cross: int | None = None  # the bar that is read
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(200, 120)
        theme.changed.connect(self.update)
        self.words()

    def words(self) -> None:
        """Its name, and those of its curves."""
        if self._own_names:
            self._names = [_("Equity"), _("Buy and hold")][: len(self._curves)]
        self.setAccessibleName(_("Equity and drawdown"))
        self.setAccessibleDescription(self.summary())
        self.update()

    def show_run(self, at_ns: Ints, equity: Floats, hold: Floats, down: Floats, zone: dt.tzinfo) -> None:
        """An account at these moments, what holding would have been worth, and its drawdown as a share (0 to 1)."""
        curves = [equity, hold] if len(hold) == len(equity) else [equity]
        self._own_names = True
        self._show(at_ns, curves, down, zone)

    def show_several(self, at_ns: Ints, names: list[str], curves: list[Floats], zone: dt.tzinfo) -> None:
        """Runs beside each other, each beginning at 100."""
        self._own_names, self._names = False, names
        self._show(at_ns, curves, np.empty(0), zone)

    def _show(self, at_ns: Ints, curves: list[Floats], down: Floats, zone: dt.tzinfo) -> None:
        self._at, self._curves, self._down, self._zone = at_ns, curves, down, zone
        self._cross = None
        self.words()

    def summary(self) -> str:
        """The figures of the bar that is read, else of the last."""
        return "   ".join(text for text, _place in self._figures())

    def _figures(self) -> list[tuple[str, int | None]]:
        """The same, each with the place of the curve it is of: it is written in that one's colour."""
        if not len(self._at):
            return []
        i = len(self._at) - 1 if self._cross is None else self._cross
        parts: list[tuple[str, int | None]] = [(format.moment(int(self._at[i]), self._zone, seconds=False), None)]
        parts += [
            (f"{name} {money(float(curve[i]))}", place)
            for place, (name, curve) in enumerate(zip(self._names, self._curves, strict=True))
            if math.isfinite(float(curve[i]))
        ]
        if len(self._down):
            parts.append((f"{_('Drawdown')} {_percent(float(self._down[i]))}", -1))
        return parts

    # ------------------------------------------------------------ Qt's

    def sizeHint(self) -> QSize:
        """Qt's."""
        t = theme.current()
        return QSize(t.px(560), t.px(300))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Qt's: reads the bar under the mouse."""
        self._read(event.position().x())

    def leaveEvent(self, event: QEvent) -> None:
        """Qt's."""
        self._cross = None
        self.update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Qt's: arrows move over the bars, a pixel's worth at a time."""
        steps = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}.get(Qt.Key(event.key()))
        if steps is None or not len(self._at):
            super().keyPressEvent(event)
            return
        last = len(self._at) - 1
        stride = max(1, round(len(self._at) / max(1, self._plot().width())))
        self._cross = min(max((last if self._cross is None else self._cross) + steps * stride, 0), last)
        self.setAccessibleDescription(self.summary())
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Qt's."""
        t = theme.current()
        p = QPainter(self)
        p.fillRect(self.rect(), t.panel)
        plot = self._plot()
        if not len(self._at) or plot.width() < 20 or plot.height() < 20:
            return
        upper, lower = self._panes(plot)
        self._paint_head(p, t)
        self._paint_times(p, plot, t)
        low, high = _range(self._curves)
        self._paint_scale(p, upper, low, high, t, money)
        for place in reversed(range(len(self._curves))):
            self._paint_line(p, upper, self._curves[place], low, high, _colours(t)[place % 4])
        if len(self._down):
            deepest = max(float(self._down.max()), 0.001)
            p.fillRect(QRect(lower.left(), lower.top() - 1, lower.width(), 1), t.line)
            self._paint_scale(p, lower, -deepest * 1.08, 0.0, t, lambda value: _percent(-value), most=2)
            self._paint_fall(p, lower, deepest * 1.08, t)
        if self._cross is not None:
            x = self._x(plot, np.array([self._at[self._cross]]))[0]
            p.setPen(QPen(t.secondary, 1, Qt.PenStyle.DashLine))
            p.drawLine(QLineF(x, plot.top(), x, plot.bottom()))
        if self.hasFocus():
            p.setPen(QPen(t.focus, 2))
            p.drawRect(self.rect().adjusted(1, 1, -1, -1))

    # ------------------------------------------------------------ where things are

    def _plot(self) -> QRect:
        t = theme.current()
        low, high = _range(self._curves)
        letters = t.lettering("small")
        widest = max(letters.width(money(value)) for value in (low, high, -100.0)) + 2 * theme.BETWEEN
        return self.rect().adjusted(theme.BETWEEN, t.px(28), -widest, -t.px(24))

    def _panes(self, plot: QRect) -> tuple[QRect, QRect]:
        if not len(self._down):
            return plot, QRect()
        height = plot.height() * 28 // 100
        upper = plot.adjusted(0, 0, 0, -height - theme.BETWEEN)
        return upper, QRect(plot.left(), plot.bottom() - height, plot.width(), height)

    def _x(self, plot: QRect, at_ns: Ints) -> Floats:
        first, last = int(self._at[0]), int(self._at[-1])
        return np.asarray(plot.left() + (at_ns - first) * (plot.width() / max(1, last - first)), np.float64)

    def _read(self, x: float) -> None:
        if not len(self._at):
            return
        plot = self._plot()
        first, last = int(self._at[0]), int(self._at[-1])
        at = first + (x - plot.left()) / max(1, plot.width()) * (last - first)
        i = int(np.searchsorted(self._at, at))
        if i > 0 and (i == len(self._at) or at - self._at[i - 1] < self._at[i] - at):
            i -= 1
        self._cross = i
        self.update()

    # ------------------------------------------------------------ strokes

    def _paint_head(self, p: QPainter, t: theme.Tokens) -> None:
        letters = t.lettering("small")
        p.setFont(letters.font)
        x = theme.BETWEEN
        for text, place in self._figures():
            p.setPen(t.text if place is None else t.down if place < 0 else _colours(t)[place % 4])
            room = self.width() - theme.BETWEEN - x
            p.drawText(QRect(x, 0, room, t.px(26)), Qt.AlignmentFlag.AlignVCenter, letters.elided(text, room))
            x += letters.width(text) + theme.AROUND

    def _paint_times(self, p: QPainter, plot: QRect, t: theme.Tokens) -> None:
        letters = t.lettering("small")
        p.setFont(letters.font)
        word = letters.width("2026-00-00")
        first, last = int(self._at[0]), int(self._at[-1])
        count = max(1, plot.width() // (word + 3 * theme.BETWEEN))
        free = plot.left()  # of words so far
        intraday = last - first < 3 * 86_400_000_000_000
        for n in range(count + 1):
            at = first + (last - first) * n // count
            x = plot.left() + plot.width() * n // count
            text = format.clock(at, self._zone, seconds=False) if intraday else format.date(at, self._zone)
            width = letters.width(text)
            left = min(max(x - width // 2, plot.left()), self.width() - width - 2)
            p.fillRect(x, plot.top(), 1, plot.height(), t.mixed(t.line, 0.55))
            if left < free:
                continue
            free = left + width + theme.BETWEEN
            p.setPen(t.secondary)
            box = QRect(left, plot.bottom() + 1, width + 2, t.px(22))
            p.drawText(box, Qt.AlignmentFlag.AlignVCenter, text)

    def _paint_scale(
        self, p: QPainter, pane: QRect, low: float, high: float, t: theme.Tokens, say: object, most: int = 6
    ) -> None:
        assert callable(say)
        letters = t.lettering("small")
        p.setFont(letters.font)
        for value in _ticks(low, high, max(1, min(most, pane.height() // t.px(34)))):
            y = round(pane.bottom() - (value - low) / (high - low) * pane.height())
            p.fillRect(pane.left(), y, pane.width(), 1, t.mixed(t.line, 0.55))
            p.setPen(t.secondary)
            box = QRect(pane.right() + theme.BETWEEN, y - t.px(10), self.width() - pane.right(), t.px(20))
            p.drawText(box, Qt.AlignmentFlag.AlignVCenter, str(say(value)))

    def _paint_line(self, p: QPainter, pane: QRect, values: Floats, low: float, high: float, colour: QColor) -> None:
        x, y = self._thinned(pane, values)
        if not len(x):
            return
        rows = pane.bottom() - (y - low) / (high - low) * pane.height()
        p.setRenderHint(QPainter.RenderHint.Antialiasing, True)
        p.setPen(QPen(colour, 1.5))
        p.drawPolyline(QPolygonF([QPointF(a, b) for a, b in zip(x.tolist(), rows.tolist(), strict=True)]))
        p.setRenderHint(QPainter.RenderHint.Antialiasing, False)

    def _paint_fall(self, p: QPainter, pane: QRect, deepest: float, t: theme.Tokens) -> None:
        x, y = self._thinned(pane, self._down)
        rows = pane.top() + y / deepest * pane.height()
        points = [QPointF(a, b) for a, b in zip(x.tolist(), rows.tolist(), strict=True)]
        area = [QPointF(x[0], pane.top()), *points, QPointF(x[-1], pane.top())]
        p.setRenderHint(QPainter.RenderHint.Antialiasing, True)
        p.setPen(Qt.PenStyle.NoPen)
        p.setBrush(t.mixed(t.down, 0.30))
        p.drawPolygon(QPolygonF(area))
        p.setBrush(Qt.BrushStyle.NoBrush)
        p.setPen(QPen(t.down, 1))
        p.drawPolyline(QPolygonF(points))
        p.setRenderHint(QPainter.RenderHint.Antialiasing, False)

    def _thinned(self, pane: QRect, values: Floats) -> tuple[Floats, Floats]:
        """Points of a line; where a column holds many, its first, lowest, highest and last."""
        known = np.isfinite(values)
        at, values = self._at[known], values[known]
        x = self._x(pane, at)
        if len(x) <= 3 * pane.width():
            return x, values
        column = np.floor(x).astype(np.int64)
        starts = np.flatnonzero(np.diff(column, prepend=column[0] - 1))
        ends = np.append(starts[1:], len(x)) - 1
        rows = (values[starts], np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts), values[ends])
        return np.repeat(column[starts].astype(np.float64), 4), np.stack(rows, 1).ravel()


def _colours(t: theme.Tokens) -> tuple[QColor, ...]:
    return t.accent, t.secondary, t.focus, t.simulated


def _percent(share: float) -> str:
    text = shown(share * 100, "percent")
    return f"{MINUS}{text}" if share > 0 else text


def _range(curves: list[Floats]) -> tuple[float, float]:
    known = [curve[np.isfinite(curve)] for curve in curves]
    low = min((float(curve.min()) for curve in known if len(curve)), default=0.0)
    high = max((float(curve.max()) for curve in known if len(curve)), default=1.0)
    room = (high - low) * _MARGIN or abs(high) * 0.01 or 1.0
    return low - room, high + room


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round values between, `most` at most."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
