"""The picture of a candle chart: where everything is on the pixels, and the strokes that put it there.

A `Frame` is computed once for a view, a size and the data as they are; axes, candles, crosshair and mouse all ask the
same one. Everything is counted in device pixels from the plot's top left corner, and costs what the pixels cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QColor, QPainter

from watchhamster.core.bars import Span
from watchhamster.core.text import _
from watchhamster.ui.pyramid import CLOSE, HIGH, LOW, OPEN, VOLUME, Columns, Pyramid
from watchhamster.ui.strokes import Strokes
from watchhamster.ui.theme import Tokens
from watchhamster.ui.ticks import TimeTick

_MARGIN = 0.07  # of the price pane, above the highest and below the lowest; the legend lies in the upper one
Pixels = NDArray[np.int32]


@dataclass(frozen=True)
class ChartStyle:
    """How candles are drawn, as the user likes it."""

    log: bool = False  # equal distances are equal ratios
    hollow: bool = False  # candles that rose are outlines
    volume: bool = True
    averages: tuple[int, ...] = (20, 60)  # of closes, over so many candles


class PriceLine(NamedTuple):
    """A horizontal line one can drag: a rule's threshold. `state` is a rule's or `disabled`."""

    id: Any
    price: float
    label: str
    state: str = "inactive"


class Mark(NamedTuple):
    """Something that happened, shown at its candle: an alert (`sign` is its severity), a fill (`buy`, `sell`), a
    distribution (`paid`)."""

    id: Any
    at_ns: int
    price: float | None
    sign: str
    text: str


class Curve(NamedTuple):
    """A formula's value on candles: their slots, ascending, and a number for each, NaN where undefined."""

    label: str
    slots: NDArray[np.int64]
    values: NDArray[np.float64]

    def at(self, slots: NDArray[np.int64]) -> NDArray[np.float64]:
        """The values in these slots; NaN where there is no candle."""
        if not len(self.slots):
            return np.full(len(slots), np.nan)
        place = np.minimum(np.searchsorted(self.slots, slots), len(self.slots) - 1)
        return np.where(self.slots[place] == slots, self.values[place], np.nan)


@dataclass(frozen=True)
class Frame:
    """Where everything is. Slots are the candles' places in time; y counts down from the top of the plot."""

    first: float  # slots, at the left edge
    last: float  # at the right edge
    width: int  # device pixels
    height: int
    price_height: int  # the rest, below, is volume
    dpr: float
    columns: Columns
    x: Pixels  # the middle of each column
    body: int  # width of a candle
    log: bool
    low: float  # of the price pane, on its scale (log10 where `log`)
    high: float

    @property
    def pitch(self) -> float:
        """Device pixels a slot."""
        return self.width / (self.last - self.first)

    def x_of(self, slot: float) -> int:
        """The middle of a slot."""
        return math.floor((slot + 0.5 - self.first) * self.pitch)

    def edge(self, slot: float) -> int:
        """The left edge of a slot."""
        return math.floor((slot - self.first) * self.pitch)

    def slot_at(self, x: float) -> int:
        """The slot under a pixel."""
        return math.floor(self.first + x / self.pitch)

    def y(self, prices: NDArray[Any]) -> Pixels:
        """The rows of prices, kept within a screen of the plot."""
        scaled = np.log10(np.maximum(prices, 1e-300)) if self.log else prices
        rows = (self.high - scaled) * (self.price_height / (self.high - self.low))
        return np.clip(np.floor(rows), -self.height, 2 * self.height).astype(np.int32)

    def y_of(self, price: float) -> int:
        """The row of one price."""
        scaled = math.log10(max(price, 1e-300)) if self.log else price
        row = math.floor((self.high - scaled) * (self.price_height / (self.high - self.low)))
        return min(max(row, -self.height), 2 * self.height)

    def price_at(self, y: float) -> float:
        """The price in the middle of a row."""
        scaled = self.high - (y + 0.5) * (self.high - self.low) / self.price_height
        return float(10.0**scaled) if self.log else scaled

    @property
    def lowest(self) -> float:
        """The price at the price pane's lower edge."""
        return float(10.0**self.low) if self.log else self.low

    @property
    def highest(self) -> float:
        """The price at its upper edge."""
        return float(10.0**self.high) if self.log else self.high


def frame_of(
    pyramid: Pyramid, first: float, last: float, width: int, height: int, dpr: float, style: ChartStyle
) -> Frame | None:
    """The frame of a view, or None where there is nothing that gives it a scale."""
    if width < 2 or height < 2 or last <= first or not len(pyramid):
        return None
    columns = pyramid.columns(first, last, width)
    low, high, log = _price_range(pyramid, columns, last, style.log)
    price_height = height - (height // 5 if style.volume else 0)
    pitch = width / (last - first)
    if columns.merged:
        x, body = columns.x.astype(np.int32), 1
    else:
        x = np.floor((columns.x + 0.5 - first) * pitch).astype(np.int32)
        body = max(1, int(pitch * 0.75))
        body -= (body - _line(dpr)) % 2  # as odd or even as its wick, which then is in its middle
        body = max(1, body)
    return Frame(first, last, width, height, price_height, dpr, columns, x, body, log, low, high)


def _line(dpr: float) -> int:
    """How many device pixels a thin line is wide."""
    return max(1, int(dpr))


def _price_range(pyramid: Pyramid, columns: Columns, last: float, log: bool) -> tuple[float, float, bool]:
    if len(columns.x):
        high, low = float(columns.values[HIGH].max()), float(columns.values[LOW].min())
    else:  # the view lies in a gap: the price before it, or after
        slot = pyramid.before(math.ceil(last))
        candle = pyramid.candle(pyramid.first if slot is None else slot)
        assert candle is not None
        high = low = candle[CLOSE]
    if high == low:
        high, low = high + abs(high) * 0.005 + 1e-12, low - abs(low) * 0.005 - 1e-12
    log = log and low > 0
    if log:
        high, low = math.log10(high), math.log10(low)
    margin = (high - low) * _MARGIN
    return low - margin, high + margin * 1.6, log


@dataclass
class Scene:
    """What there is to paint besides the frame."""

    pyramid: Pyramid
    style: ChartStyle
    price_ticks: Sequence[float]
    time_ticks: Sequence[TimeTick]
    spans: Sequence[Span]
    marks: Sequence[Mark]
    forming: int | None  # the slot whose candle is not closed yet
    curves: Sequence[Curve] = ()  # of formulas, on the axis of prices


class Painter:
    """Paints frames; keeps the buffers that Qt reads."""

    def __init__(self) -> None:
        self._strokes = Strokes()
        self.mark_places: list[tuple[QRect, Mark]] = []  # where the last picture shows them

    def paint(self, p: QPainter, frame: Frame, scene: Scene, t: Tokens) -> None:
        """The plot, without axes. The painter's unit is a device pixel, its origin the plot's corner."""
        p.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        self._paint_spans(p, frame, scene, t)
        self._paint_grid(p, frame, scene, t)
        values = frame.columns.values
        up = values[CLOSE] >= values[OPEN]
        if scene.style.volume:
            self._paint_volume(p, frame, up, t)
        self._paint_candles(p, frame, scene, up, t)
        self._paint_averages(p, frame, scene, t)
        self._paint_marks(p, frame, scene, t)

    def _paint_spans(self, p: QPainter, frame: Frame, scene: Scene, t: Tokens) -> None:
        slots = scene.pyramid.slots
        letters = t.lettering("small", scale=frame.dpr)
        for span in scene.spans:
            if span.state != "not_fetched":
                continue
            left = max(-1, frame.edge(slots.since(span.since_ns)))
            right = min(frame.width + 1, frame.edge(slots.at(span.until_ns - 1) + 1))
            if right <= left:
                continue
            p.fillRect(left, 0, right - left, frame.height, t.gap_hatch())
            p.setFont(letters.font)
            words = _("not fetched")
            if letters.width(words) + 8 < right - left:
                box = QRect(left, 0, right - left, frame.price_height)
                p.setPen(t.secondary)
                p.drawText(box, Qt.AlignmentFlag.AlignCenter, words)

    def _paint_grid(self, p: QPainter, frame: Frame, scene: Scene, t: Tokens) -> None:
        colour, thin = t.mixed(t.line, 0.55), 1
        y = frame.y(np.array(scene.price_ticks, float))
        self._strokes.rects(p, np.zeros(len(y), np.int32), frame.width, y, y + (thin - 1), colour)
        slots = scene.pyramid.slots
        for strong, shade in ((False, colour), (True, t.line)):
            x = np.array([frame.x_of(slots.since(k.ns)) for k in scene.time_ticks if k.strong == strong], np.int32)
            self._strokes.rects(p, x, thin, 0, frame.height, shade)

    def _paint_volume(self, p: QPainter, frame: Frame, up: NDArray[np.bool_], t: Tokens) -> None:
        volumes = frame.columns.values[VOLUME]
        room = frame.height - frame.price_height
        p.fillRect(0, frame.price_height, frame.width, 1, t.line)
        most = float(volumes.max()) if len(volumes) else 0.0
        if most <= 0:
            return
        heights = np.ceil(volumes * ((room - 6 * frame.dpr) / most)).astype(np.int32)
        left = frame.x - frame.body // 2
        traded = heights > 0
        for which, colour in ((up & traded, t.up), (~up & traded, t.down)):
            self._strokes.rects(
                p, left[which], frame.body, frame.height - heights[which], frame.height - 1, t.mixed(colour, 0.45)
            )

    def _paint_candles(self, p: QPainter, frame: Frame, scene: Scene, up: NDArray[np.bool_], t: Tokens) -> None:
        values, x, body = frame.columns.values, frame.x, frame.body
        wick = 1 if frame.columns.merged else min(_line(frame.dpr), body)
        opened, high, low, close = (frame.y(values[row]) for row in (OPEN, HIGH, LOW, CLOSE))
        top, bottom = np.minimum(opened, close), np.maximum(opened, close)
        left, middle = x - body // 2, x - wick // 2
        closed = np.ones(len(x), bool)
        if scene.forming is not None and not frame.columns.merged:
            closed = frame.columns.x != scene.forming
        border = _line(frame.dpr)
        for direction, colour in ((up, t.up), (~up, t.down)):
            self._strokes.rects(p, middle[direction], wick, high[direction], low[direction], colour)
            if body <= wick:
                continue
            self._strokes.rects(p, left[direction], body, top[direction], bottom[direction], colour)
            # A hollow candle, and the live one, is that rectangle with a smaller one taken out.
            hollow = direction & closed if scene.style.hollow and direction is up else np.zeros(len(x), bool)
            for which, inside in ((hollow, t.panel), (direction & ~closed, t.mixed(colour, 0.25))):
                which = which & (bottom - top >= 2 * border)
                if body > 2 * border and which.any():
                    self._strokes.rects(
                        p,
                        left[which] + border,
                        body - 2 * border,
                        top[which] + border,
                        bottom[which] - border,
                        inside,
                    )

    def _paint_averages(self, p: QPainter, frame: Frame, scene: Scene, t: Tokens) -> None:
        columns = frame.columns
        if columns.merged:
            pitch = (frame.last - frame.first) / frame.width
            slots = np.ceil((columns.x + 1 + math.floor(frame.first / pitch)) * pitch).astype(np.int64) - 1
        else:
            slots = columns.x
        holes = [scene.pyramid.slots.since(span.since_ns) for span in scene.spans if span.state == "not_fetched"]
        piece = np.searchsorted(np.array(sorted(holes), np.int64), slots, side="right")
        lines = [
            (scene.pyramid.average(period, slots), colour)
            for period, colour in zip(scene.style.averages, average_colours(t), strict=False)
        ]
        for i, curve in enumerate(scene.curves):
            lines.append((curve.at(slots), curve_colour(i, t)))
        for means, colour in lines:
            known = ~np.isnan(means)
            x, y, pieces = frame.x[known], frame.y(means[known]), piece[known]
            joined = pieces[1:] == pieces[:-1]  # no line leads across what was not fetched
            self._strokes.lines(
                p, x[:-1][joined], y[:-1][joined], x[1:][joined], y[1:][joined], colour, int(joined.sum())
            )

    def _paint_marks(self, p: QPainter, frame: Frame, scene: Scene, t: Tokens) -> None:
        self.mark_places = []
        if not scene.marks:
            return
        letters = t.lettering(scale=frame.dpr)
        p.setFont(letters.font)
        side = letters.height
        for mark in scene.marks:
            slot = scene.pyramid.slots.at(mark.at_ns)
            x = frame.x_of(slot)
            if not -side <= x <= frame.width + side:
                continue
            glyph, colour, below = mark_sign(mark.sign, t)
            y = self._mark_row(frame, scene.pyramid, mark, slot, below, side)
            box = QRect(x - side // 2, y, side, side)
            p.setPen(colour)
            p.drawText(box, Qt.AlignmentFlag.AlignCenter, glyph)
            self.mark_places.append((box, mark))

    @staticmethod
    def _mark_row(frame: Frame, pyramid: Pyramid, mark: Mark, slot: int, below: bool, side: int) -> int:
        """Beside the candle rather than on it; without a candle, at the mark's own price; of a day, at the axis."""
        if mark.sign == "paid":
            return frame.price_height - side
        candle = pyramid.candle(slot)
        if candle is not None:
            y = frame.y_of(candle[LOW]) + side // 4 if below else frame.y_of(candle[HIGH]) - side - side // 4
        else:
            y = frame.y_of(mark.price) - side // 2 if mark.price is not None else 0
        return min(max(y, 0), frame.price_height - side)


def average_colours(t: Tokens) -> Iterable[QColor]:
    """One for each average, in the order of the style."""
    return (t.accent, t.focus, t.simulated, t.secondary)


def curve_colour(place: int, t: Tokens) -> QColor:
    """That of a formula's line, by its place among them."""
    shades = (t.simulated, t.sign("ok").colour, t.sign("warning").colour, t.secondary)
    return shades[place % len(shades)]


def mark_sign(sign: str, t: Tokens) -> tuple[str, QColor, bool]:
    """A mark's glyph and colour, and whether it belongs below its candle."""
    if sign in ("buy", "sell"):
        return ("▲", t.up, True) if sign == "buy" else ("▼", t.down, False)
    if sign == "paid":
        return "D", t.secondary, True
    known = t.sign(sign)
    return known.glyph, known.colour, False


def line_colour(line: PriceLine, t: Tokens) -> QColor:
    """An alert line's colour, by its rule's state."""
    if line.state in ("disabled", "muted"):
        return t.disabled
    if line.state == "firing":
        return t.sign("critical").colour
    return t.accent
