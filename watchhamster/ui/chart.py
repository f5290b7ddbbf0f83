"""The candle chart: history and the live bar, a crosshair, alert lines one can drag, marks one can click.

Three layers share one `Frame` (see `plot`). The ground (grid, candles, axes) is painted inside pyqtgraph, whose ViewBox
keeps the visible slots and turns wheel and drags into them. What moves without the data (crosshair, legend, price tags,
alert lines) is painted over it, and while only that changes, over a picture of the ground kept for the purpose.

Nothing here runs per message: setters note what changed and ask for one repaint.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PySide6.QtCore import QEvent, QPoint, QPointF, QRect, QRectF, Qt, Signal
from PySide6.QtGui import (
    QAction,
    QColor,
    QContextMenuEvent,
    QFocusEvent,
    QGuiApplication,
    QHelpEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QWheelEvent,
)
from PySide6.QtWidgets import QMenu, QToolButton, QToolTip, QVBoxLayout, QWidget

from watchhamster.core.bars import Bars, Floats, Ints, Span
from watchhamster.core.instruments import InstrumentInfo
from watchhamster.core.market import Candle
from watchhamster.core.sessions import Calendar
from watchhamster.core.text import _, pgettext
from watchhamster.core.timeframes import SECOND_NS, Timeframe
from watchhamster.core.timeframes import timeframe as timeframe_of
from watchhamster.ui import format as fmt
from watchhamster.ui import theme
from watchhamster.ui.pg import pg
from watchhamster.ui.plot import (
    ChartStyle,
    Curve,
    Frame,
    Mark,
    Painter,
    PriceLine,
    Scene,
    average_colours,
    curve_colour,
    frame_of,
    line_colour,
)
from watchhamster.ui.pyramid import CLOSE, Pyramid, SessionSlots, Slots
from watchhamster.ui.strokes import to_device_pixels
from watchhamster.ui.ticks import TimeTick, log_price_ticks, price_ticks, session_ticks, time_ticks

__all__ = ["ChartStyle", "ChartView", "Mark", "PriceLine"]

_PITCH = 8.0  # logical pixels a candle, at first and after a double click
_LEAST_SLOTS = 10  # no closer than this
_ASK_SLOTS = 500  # history is asked for at least in such pieces
_LEGEND_ROWS, _LEGEND_SHARE = 2, 0.2  # as many, or as fill such a share of the price pane
# What leaves a legend that needs more rows, as places in it: averages, volume, open, then high and low.
_LEGEND_LEAST = (slice(8, None), slice(7, None), slice(6, None), slice(1, 2), slice(1, 3))
_GRAB = 5  # logical pixels around a line that take hold of it


class ChartView(QWidget):
    """One instrument's candles in one timeframe."""

    alert_requested = Signal(float, bool)  # price, repeating
    line_dragging = Signal(object, float)  # id, price: while the mouse is down
    line_moved = Signal(object, float)  # id, price: when it is let go
    line_removed = Signal(object)
    mark_clicked = Signal(object)
    history_needed = Signal(object, object)  # since_ns, until_ns: once for each span
    style_changed = Signal(object)  # ChartStyle, changed from the chart's own menu
    adjusted_changed = Signal(bool)  # the same of adjusted prices
    formula_toggled = Signal(str)  # the line of a formula is wanted, or no more

    def __init__(self, parent: QWidget | None = None, zone: dt.tzinfo | None = None) -> None:
        super().__init__(parent)
        self._zone = zone or fmt.local_zone()
        self._instrument = ""
        self._info: InstrumentInfo | None = None
        self._timeframe = timeframe_of("1m")
        self._simulated = False
        self.badge: Callable[[], str] = lambda: _("Simulated")  # what stands on a market that is not the real one now
        self._calendar: Calendar | None = None
        self._raw: list[Bars] = []  # pieces as they came, where they have factors to adjust prices with
        self._adjusted = False
        self._paid: Sequence[Mark] = ()  # what was distributed
        self._pyramid = Pyramid(Bars.empty(), Slots(self._timeframe))
        self._style = ChartStyle()
        self._spans: Sequence[Span] = ()
        self._marks: Sequence[Mark] = ()
        self._values: tuple[Ints, Mapping[str, Floats]] = (np.empty(0, np.int64), {})  # of formulas
        self._formulas: Sequence[str] = ()  # that the menu offers
        self._drawn: Sequence[str] = ()
        self._lines: dict[Any, PriceLine] = {}
        self._notes: dict[Any, str] = {}
        self._forming: int | None = None
        self._asked_from: int | None = None  # history from this slot on is here or on its way
        self._message = ""
        self._stale = ""
        self._countdown = ""
        self._decimals = 0
        self._pitch = _PITCH  # logical pixels a slot
        self._keeping_pitch = False  # while the program moves the view, rather than the user
        self._most_slots = 1e9
        self._anchored = True  # at the newest candles, where nobody has moved it from
        self._frame: Frame | None = None
        self._ticks: tuple[list[float], list[TimeTick]] = ([], [])  # of the frame
        self._cross: QPoint | None = None  # device pixels from the plot's corner
        self._dragged: tuple[PriceLine, PriceLine] | None = None  # as it was, as it is
        self._focus_ring = False

        self._canvas = _Canvas(self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._canvas)
        self._latest = QToolButton(self)
        self._latest.clicked.connect(self.jump_to_latest)
        self._latest.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # End does the same
        self._latest.hide()
        self._adjust = QToolButton(self)
        self._adjust.setCheckable(True)
        self._adjust.clicked.connect(self.toggle_adjusted)
        self._adjust.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # it is in the menu, too
        self._adjust.hide()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(240, 160)
        self._canvas.view.sigXRangeChanged.connect(self._range_changed)
        self._canvas.view.sigResized.connect(self._resized)
        theme.changed.connect(self._retheme)
        self._retheme()

    # ------------------------------------------------------------------ data

    def set_series(
        self,
        instrument: str,
        timeframe: Timeframe | str,
        bars: Bars,
        info: InstrumentInfo | None = None,
        *,
        simulated: bool = False,
        calendar: Calendar | None = None,
        adjusted: bool = False,
    ) -> None:
        """Show another series, from its newest candle back. Lines, marks and spans of the former go.

        With a calendar its nights, weekends and holidays take no room, and times are those of its exchange. `adjusted`
        prices can be compared across what was distributed, where the bars have factors for that.
        """
        self._instrument, self._info, self._simulated = instrument, info, simulated
        self._timeframe = timeframe_of(timeframe) if isinstance(timeframe, str) else timeframe
        self._calendar = calendar if SessionSlots.suits(self._timeframe) else None
        self._raw = [bars] if bars.adjustment is not None else []
        self._paid = _distributions(self._raw)
        self._adjusted = adjusted
        self._adjust.setChecked(adjusted)
        self._pyramid = Pyramid(self._shown(bars), self._slots(bars))
        self._spans, self._marks, self._lines, self._notes = (), (), {}, {}
        self._values = np.empty(0, np.int64), {}
        self._forming, self._dragged, self._cross = None, None, None
        self._countdown = self._stale = self._message = ""
        if not len(bars):
            self._message = _("No candles of {instrument} in {timeframe} yet.").format(
                instrument=instrument, timeframe=self._timeframe
            )
        self._begin()

    def set_message(self, text: str) -> None:
        """Words in place of candles while there are none: what is loading, or why there is no data."""
        self._message = text
        self._canvas.update_overlay()

    def prepend(self, bars: Bars) -> None:
        """Add history. It may overlap what is here: then the new candles count."""
        if self._raw or bars.adjustment is not None:
            if not self._raw:
                self._raw = [self._pyramid.bars()]
            self._raw.append(bars)
            self._paid = _distributions(self._raw)
        self._pyramid.add(self._shown(bars))
        self._series_changed()

    def set_adjusted(self, adjusted: bool) -> None:
        """Show prices adjusted for what was distributed, so that they can be compared; or as they were traded."""
        self._adjusted = adjusted
        self._adjust.setChecked(adjusted)
        if self._raw:
            pyramid = Pyramid(self._shown(self._raw[0]), self._pyramid.slots)
            for bars in self._raw[1:]:
                pyramid.add(self._shown(bars))
            live = None if self._forming is None else self._pyramid.candle(self._forming)
            self._pyramid = pyramid
            if live is not None and self._forming is not None:
                open_ns = pyramid.slots.open_ns(self._forming)
                self._pyramid.put(Candle(self._instrument, self._timeframe.name, open_ns, *live, False, "live"))
            self._series_changed()
            self._describe()

    @property
    def adjusted(self) -> bool:
        """Whether prices are adjusted, where there is something to adjust them for."""
        return self._adjusted and bool(self._raw)

    def _slots(self, bars: Bars) -> Slots:
        if self._calendar is None:
            return Slots(self._timeframe)
        return SessionSlots(self._timeframe, self._calendar, bars.open_ns)

    def _shown(self, bars: Bars) -> Bars:
        """The bars as they are to be drawn."""
        factor = bars.adjustment
        if factor is None or not self._adjusted:
            return bars
        o, h, lo, c = (column * factor for column in (bars.open, bars.high, bars.low, bars.close))
        return Bars(bars.open_ns, o, h, lo, c, bars.volume, bars.value)

    def update_forming(self, candle: Candle) -> None:
        """Show the live candle as it is now. One of another series is none of this chart's."""
        self._put(candle)

    def append_closed(self, candle: Candle) -> None:
        """Add a candle that closed, or the revision of one."""
        self._put(candle)
        self._describe()

    def _put(self, candle: Candle) -> None:
        if candle.instrument != self._instrument or candle.timeframe != self._timeframe.name:
            return
        was_empty = not len(self._pyramid)
        newest = None if was_empty else self._pyramid.last
        following = newest is not None and self._last > newest
        if self._raw and candle.closed:
            self._raw.append(Bars.of([candle]))
        self._pyramid.put(candle)
        slot = self._pyramid.slots.at(candle.open_ns)
        if not candle.closed:
            self._forming = slot
        elif slot == self._forming:
            self._forming, self._countdown = None, ""
        if was_empty:
            self._begin()
        elif newest is not None and slot > newest:
            self._limit()
            if following:
                self._move(self._first + slot - newest, self._last + slot - newest)
        self._changed()

    def set_spans(self, spans: Sequence[Span]) -> None:
        """What is known of the time shown: what was not fetched is hatched, what had no trade stays blank."""
        missing = sorted((span.since_ns, span.until_ns) for span in spans if span.state == "not_fetched")
        joined: list[Span] = []
        for since_ns, until_ns in missing:  # answers for neighbouring times meet, and may overlap
            if joined and since_ns <= joined[-1].until_ns:
                since_ns, until_ns = joined[-1].since_ns, max(until_ns, joined.pop().until_ns)
            joined.append(Span(since_ns, until_ns, "not_fetched", 0))
        self._spans = (*joined, *(span for span in spans if span.state != "not_fetched"))
        self._changed()

    def set_marks(self, marks: Sequence[Mark]) -> None:
        """Alerts and fills."""
        self._marks = tuple(marks)
        self._changed()

    def set_formulas(self, names: Sequence[str], drawn: Sequence[str]) -> None:
        """The formulas that the menu offers as lines, and which of them are drawn."""
        self._formulas, self._drawn = tuple(names), tuple(drawn)

    def set_curves(self, open_ns: Ints, curves: Mapping[str, Floats]) -> None:
        """Lines of formulas: a value for each candle that opened then, by what the legend calls them."""
        self._values = open_ns, dict(curves)
        self._changed()

    def _curves(self) -> list[Curve]:
        open_ns, curves = self._values
        slots = self._pyramid.slots.of(open_ns) if curves else open_ns  # a session that is learned of renumbers them
        return [Curve(label, slots, values) for label, values in curves.items()]

    def set_lines(self, lines: Sequence[PriceLine | tuple[Any, float, str, str]]) -> None:
        """Alert lines. One that is being dragged stays in the hand."""
        self._lines = {line[0]: PriceLine(*line) for line in lines}
        self._notes = {i: note for i, note in self._notes.items() if i in self._lines}
        if self._dragged and self._dragged[0].id not in self._lines:
            self._dragged = None
        self._canvas.update_overlay()

    def note_line(self, line_id: object, text: str) -> None:
        """Say something on a line, such as how often it would have fired; empty to say no more."""
        self._notes[line_id] = text
        self._canvas.update_overlay()

    def set_stale(self, text: str) -> None:
        """Dim the last price and say why, such as `12 s old`; empty when it is fresh again."""
        if text != self._stale:
            self._stale = text
            self._canvas.update_overlay()

    def refresh(self, now_ns: int) -> None:
        """Let the countdown to the live candle's close run on."""
        text = ""
        if self._forming is not None:
            left_ns = self._pyramid.slots.end_ns(self._forming) - now_ns
            text = fmt.countdown(left_ns / SECOND_NS) if left_ns > 0 else ""
        if text != self._countdown:
            self._countdown = text
            self._canvas.update_overlay()

    # ------------------------------------------------------------------ view

    @property
    def style_options(self) -> ChartStyle:
        """How candles are drawn."""
        return self._style

    def set_style(self, style: ChartStyle) -> None:
        """Draw candles otherwise."""
        self._style = style
        self._changed()

    def set_zone(self, zone: dt.tzinfo) -> None:
        """Tell times in another zone."""
        self._zone = zone
        self._changed()

    def reset_view(self) -> None:
        """The newest candles, as wide as at first."""
        self._pitch = _PITCH
        self._show_latest()

    def jump_to_latest(self) -> None:
        """The newest candles, as wide as they are."""
        self._show_latest()

    def zoom(self, factor: float) -> None:
        """Show `factor` times as many candles, around the crosshair or with the newest one kept in its place."""
        span = (self._last - self._first) * factor
        if self._cross is not None and self._frame is not None:
            share = self._cross.x() / self._frame.width
            centre = self._first + share * (self._last - self._first)
            self._show(centre - share * span, centre + (1 - share) * span)
        else:
            self._show(self._last - span, self._last)

    def pan(self, slots: float) -> None:
        """Move by so many candles; to the newer side if positive."""
        self._anchored = False
        self._move(self._first + slots, self._last + slots)

    @property
    def first_ns(self) -> int | None:
        """When the oldest candle opened; None without any."""
        return self._pyramid.slots.open_ns(self._pyramid.first) if len(self._pyramid) else None

    @property
    def visible_ns(self) -> tuple[int, int]:
        """The time shown, until exclusive."""
        slots = self._pyramid.slots
        return slots.open_ns(math.floor(self._first)), slots.open_ns(math.ceil(self._last))

    @property
    def cross_price(self) -> float | None:
        """The price at the crosshair, on the venue's grid."""
        frame = self._current_frame()
        if self._cross is None or frame is None or not 0 <= self._cross.y() < frame.price_height:
            return None
        return self._price_on_grid(frame.price_at(self._cross.y()), frame)

    def position(self, at_ns: int, price: float) -> QPointF:
        """Where a moment's candle and a price are, in this widget."""
        frame = self._current_frame()
        if frame is None:
            return QPointF()
        x, y = frame.x_of(self._pyramid.slots.at(at_ns)) + 0.5, frame.y_of(price) + 0.5
        plot = self._canvas.plot_rect()
        return QPointF((plot.x() + x) / frame.dpr, (plot.y() + y) / frame.dpr)

    def summary(self) -> str:
        """The chart in a sentence, for those who do not see it."""
        if not len(self._pyramid):
            return self._message
        last = self._pyramid.candle(self._pyramid.last)
        assert last is not None
        shown = self._candle_values(self._pyramid.last)
        text = _("{name} {timeframe}, {price}, {change} to the candle before; {count} candles since {since}.").format(
            name=self._instrument,
            timeframe=self._timeframe,
            price=self._price(last[CLOSE]),
            change=fmt.percent(shown[0] if shown else None, arrow=False),
            count=f"{len(self._pyramid):,}",
            since=self._moment(self._pyramid.first),
        )
        return f"{self.badge()}: {text}" if self._simulated else text

    def legend(self) -> str:
        """What the legend says, as plain text."""
        return "  ".join(text for text, _colour in self._legend_parts())

    @property
    def _first(self) -> float:
        return float(self._canvas.view.viewRange()[0][0])

    @property
    def _last(self) -> float:
        return float(self._canvas.view.viewRange()[0][1])

    def _show(self, first: float, last: float) -> None:
        """Show these slots; a span that is too long or too short keeps its right edge."""
        span = min(max(last - first, _LEAST_SLOTS), self._most_slots)
        self._canvas.view.setXRange(last - span, last, padding=0)

    def _move(self, first: float, last: float) -> None:
        """The same, without changing how wide a candle is to be: what is too narrow now may not stay so."""
        self._keeping_pitch = True
        self._show(first, last)
        self._keeping_pitch = False

    def _show_latest(self) -> None:
        slots = self._canvas.view.width() / self._pitch
        newest = self._pyramid.last + 1 if len(self._pyramid) else 0
        right = newest + max(3.0, slots * 0.05)
        self._anchored = True
        self._move(right - slots, right)

    def _limit(self) -> None:
        """Keep the view near the candles."""
        if not len(self._pyramid):
            return
        first, last = self._pyramid.first, self._pyramid.last + 1
        self._most_slots = most = max((last - first) * 1.15, self._canvas.view.width() / _PITCH, 2 * _LEAST_SLOTS)
        margin = most if last - first < most / 2 else 0.15 * most
        self._canvas.view.setLimits(xMin=first - margin, xMax=last + margin, minXRange=_LEAST_SLOTS, maxXRange=most)

    def _range_changed(self) -> None:
        if not self._keeping_pitch:
            self._anchored = False
            self._pitch = self._canvas.view.width() / (self._last - self._first)
        self._changed()
        self._ask_for_history()
        self._latest.setVisible(len(self._pyramid) > 0 and self._last <= self._pyramid.last)

    def _resized(self) -> None:
        """Another width shows more or fewer candles, as wide as before; the newest stay where they were."""
        last = self._last
        self._keeping_pitch = True
        self._limit()
        if self._anchored:
            self._show_latest()
        else:
            self._move(last - self._canvas.view.width() / self._pitch, last)
        self._changed()
        self._place_button()

    def _ask_for_history(self) -> None:
        if self._asked_from is None:
            return
        span = math.ceil(self._last - self._first)
        if self._first - span / 2 >= self._asked_from:
            return
        until = self._asked_from
        self._asked_from = min(math.floor(self._first), until) - max(_ASK_SLOTS, span)
        slots = self._pyramid.slots
        self.history_needed.emit(slots.open_ns(self._asked_from), slots.open_ns(until))

    def _begin(self) -> None:
        """Show a series from its newest candle, and ask for what it lacks of the screen only then."""
        self._asked_from = None
        self._series_changed()
        self.reset_view()
        if len(self._pyramid):
            self._asked_from = self._pyramid.first
            self._ask_for_history()
        self._describe()

    def _series_changed(self) -> None:
        if len(self._pyramid):
            if self._asked_from is not None:
                self._asked_from = min(self._pyramid.first, self._asked_from)
            last = self._pyramid.candle(self._pyramid.last)
            assert last is not None
            if self._info is not None:
                self._decimals = self._info.steps.decimals(last[CLOSE])
            else:
                self._decimals = max(len(fmt.exact(price).partition(".")[2]) for price in last[:4])
            self._message = ""
        self._limit()
        self._place_button()
        self._changed()

    def _changed(self) -> None:
        """The ground is to be painted anew."""
        self._frame = None
        self._canvas.update_ground()

    def _retheme(self) -> None:
        t = theme.current()
        self._canvas.setBackground(t.panel)
        self._latest.setText(_("Latest") + " »")
        self._latest.setToolTip(_("Show the newest candles (End)"))
        self._latest.setAccessibleName(_("Show the newest candles"))
        self._adjust.setText(_("Adjusted"))
        self._adjust.setToolTip(_("Prices adjusted for dividends, so that they can be compared; else as traded"))
        for button in (self._latest, self._adjust):
            button.setFont(t.font("small"))
        self._canvas.fit_axes(t)
        self._place_button()
        self._describe()
        self._changed()

    def _place_button(self) -> None:
        self._latest.adjustSize()
        plot = self._canvas.plot_rect()
        dpr = self._canvas.devicePixelRatioF()
        self._latest.move(
            int(plot.right() / dpr) - self._latest.width() - theme.BETWEEN,
            int(plot.bottom() / dpr) - self._latest.height() - theme.BETWEEN,
        )
        self._adjust.adjustSize()
        self._adjust.move(theme.BETWEEN, int(plot.bottom() / dpr) - self._adjust.height() - theme.BETWEEN)
        self._adjust.setVisible(bool(self._raw))

    def toggle_adjusted(self) -> None:
        """Adjusted prices, or as traded; nothing changes where there is nothing to adjust for."""
        if not self._raw:
            return
        self.set_adjusted(not self._adjusted)
        self.adjusted_changed.emit(self._adjusted)

    def _describe(self) -> None:
        self.setAccessibleName(_("Chart {instrument}").format(instrument=self._instrument))
        self.setAccessibleDescription(self.summary())

    def changeEvent(self, event: QEvent) -> None:
        """Another language or screen asks for another picture."""
        if event.type() == QEvent.Type.LanguageChange:
            self._retheme()
        super().changeEvent(event)

    # ------------------------------------------------------------------ picture

    def _current_frame(self) -> Frame | None:
        plot = self._canvas.plot_rect()
        dpr = self._canvas.devicePixelRatioF()
        frame = self._frame
        if frame is None or (frame.width, frame.height, frame.dpr) != (plot.width(), plot.height(), dpr):
            frame = frame_of(self._pyramid, self._first, self._last, plot.width(), plot.height(), dpr, self._style)
            self._frame = frame
            if frame is not None:
                self._ticks = (self._price_ticks(frame), self._time_ticks(frame))
                self._canvas.widen_axis(max(self._price(frame.highest), self._price(frame.lowest), key=len))
        return frame

    def _price_ticks(self, frame: Frame) -> list[float]:
        spacing = theme.current().px(46) * frame.dpr
        least = float(self._info.steps.step(abs(frame.highest))) if self._info else 10.0**-self._decimals
        ticks = log_price_ticks if frame.log else price_ticks
        return ticks(frame.lowest, frame.highest, max(1, int(frame.price_height / spacing)), least)

    def _time_ticks(self, frame: Frame) -> list[TimeTick]:
        most = max(1, int(frame.width / (theme.current().px(84) * frame.dpr)))
        slots = self._pyramid.slots
        if isinstance(slots, SessionSlots):
            return session_ticks(slots, math.floor(self._first), math.ceil(self._last), most)
        return time_ticks(*self.visible_ns, most, self._timeframe, self._zone)

    def _scene(self) -> Scene:
        return Scene(
            self._pyramid,
            self._style,
            *self._ticks,
            self._spans,
            (*self._paid, *self._marks),
            self._forming,
            self._curves(),
        )

    def _price(self, price: float) -> str:
        return fmt.price(price, decimals=self._decimals)

    def _last_rows(self) -> list[str]:
        """What the newest candle's tag on the price axis says."""
        last = self._pyramid.candle(self._pyramid.last) if len(self._pyramid) else None
        if last is None:
            return []
        return [self._price(last[CLOSE]), *(text for text in (self._countdown, self._stale) if text)]

    def _price_on_grid(self, price: float, frame: Frame) -> float:
        if self._info is not None:
            return self._info.steps.round(price)
        return round(price, self._decimals)

    def _moment(self, slot: int) -> str:
        """A candle's opening, as precisely as the timeframe asks."""
        slots = self._pyramid.slots
        ns = slots.open_ns(slot)
        sessions = slots.zone if isinstance(slots, SessionSlots) else None
        if self._timeframe.approximate_ns >= 86400 * SECOND_NS:
            return fmt.date(ns, sessions or dt.UTC)
        text = fmt.moment(ns, sessions or self._zone, seconds=self._timeframe.unit == "s")
        return f"{text} {fmt.zone_name(sessions, ns)}" if sessions is not None else text

    def _candle_values(self, slot: int) -> tuple[float, bool] | None:
        """A candle's change to the one before it as a fraction (to its own open if it is the first), and if it rose."""
        candle = self._pyramid.candle(slot)
        if candle is None:
            return None
        before = self._pyramid.before(slot)
        earlier = self._pyramid.candle(before) if before is not None else None
        base = earlier[CLOSE] if earlier else candle[0]
        return (candle[CLOSE] / base - 1 if base else 0.0), candle[CLOSE] >= candle[0]

    def _slot_told(self) -> int | None:
        """The candle the legend tells of: under the crosshair, else the newest."""
        if not len(self._pyramid):
            return None
        frame = self._current_frame()
        if self._cross is None or frame is None:
            return self._pyramid.last
        slot = frame.slot_at(self._cross.x())
        if frame.columns.merged:  # several candles lie under the pixel: its last
            end = max(slot, frame.slot_at(self._cross.x() + 1) - 1)
            before = self._pyramid.before(end + 1)
            return before if before is not None and before >= slot else slot
        return slot

    def _legend_parts(self) -> list[tuple[str, QColor]]:
        t = theme.current()
        slot = self._slot_told()
        if slot is None:
            return []
        parts = [(self._moment(slot), t.secondary)]
        candle = self._pyramid.candle(slot)
        if candle is None:
            return [*parts, (self._why_blank(slot), t.secondary)]
        change, rose = self._candle_values(slot) or (0.0, True)
        colour = t.up if rose else t.down
        letters = (pgettext("open", "O"), pgettext("high", "H"), pgettext("low", "L"), pgettext("close", "C"))
        parts += [(f"{letter} {self._price(price)}", colour) for letter, price in zip(letters, candle, strict=False)]
        parts.append((fmt.percent(change), t.direction(change)))
        parts.append((f"{_('Vol')} {fmt.quantity(candle[4])}", t.text))
        for period, shade in zip(self._style.averages, average_colours(t), strict=False):
            mean = self._mean(period, slot)
            if mean is not None:
                parts.append((f"{_('MA')} {period}  {self._price(mean)}", shade))
        for i, curve in enumerate(self._curves()):
            value = float(curve.at(np.array([slot]))[0])
            if not math.isnan(value):
                parts.append((f"{curve.label}  {fmt.exact(float(f'{value:.7g}'))}", curve_colour(i, t)))
        return parts

    def _mean(self, period: int, slot: int) -> float | None:
        mean = float(self._pyramid.average(period, np.array([slot]))[0])
        return None if math.isnan(mean) else mean

    def _why_blank(self, slot: int) -> str:
        """Why there is no candle in a slot."""
        ns = self._pyramid.slots.open_ns(slot)
        if slot > self._pyramid.last:
            return ""
        state = next((s.state for s in self._spans if s.since_ns <= ns < s.until_ns), None)
        if state == "not_fetched" or (state is None and slot < self._pyramid.first):
            return _("not fetched")
        return _("no trade")

    # ------------------------------------------------------------------ keyboard and menu

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Arrows move the view and the crosshair, + and - zoom, Home and End jump, A makes an alert."""
        key, shift = event.key(), bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        keys = Qt.Key
        span = self._last - self._first
        if key in (keys.Key_Left, keys.Key_Right):
            direction = 1 if key == keys.Key_Right else -1
            if shift:
                self._step_cross(direction, 0)
            else:
                self.pan(direction * max(1, round(span / 10)))
        elif key in (keys.Key_Up, keys.Key_Down):
            self._step_cross(0, 1 if key == keys.Key_Down else -1)
        elif key in (keys.Key_PageUp, keys.Key_PageDown):
            self.pan(span if key == keys.Key_PageDown else -span)
        elif key in (keys.Key_Plus, keys.Key_Equal):
            self.zoom(1 / 1.25)
        elif key == keys.Key_Minus:
            self.zoom(1.25)
        elif key == keys.Key_Home and len(self._pyramid):
            self._show(self._pyramid.first, self._pyramid.first + span)
        elif key == keys.Key_End:
            self.jump_to_latest()
        elif key == keys.Key_A and self.cross_price is not None:
            self.alert_requested.emit(self.cross_price, shift)
        elif key in (keys.Key_Delete, keys.Key_Backspace) and (line := self._line_near(self._cross)):
            self.line_removed.emit(line.id)
        elif key == keys.Key_Escape and (self._dragged or self._cross):
            self._let_go(keep=False)
            self._cross = None
            self._canvas.update_overlay()
        elif key == keys.Key_Menu and (frame := self._current_frame()):
            self._popup(self._cross or QPoint(frame.width // 2, frame.price_height // 2))
        else:
            super().keyPressEvent(event)

    def _step_cross(self, slots: int, rows: int) -> None:
        """Move the crosshair by candles and by fiftieths of the price pane; it appears at the newest candle."""
        frame = self._current_frame()
        if frame is None:
            return
        if self._cross is None:
            last = self._pyramid.candle(self._pyramid.last)
            assert last is not None
            slot = min(self._pyramid.last, math.ceil(self._last) - 1)
            self._cross = QPoint(frame.x_of(slot), frame.y_of(last[CLOSE]))
        slot = frame.slot_at(self._cross.x()) + slots
        if not self._first <= slot < self._last - 1:
            self.pan(slots)
            frame = self._current_frame() or frame
        y = self._cross.y()
        if rows:  # a fiftieth of the pane, but at least to the next price there is
            least = float(self._info.steps.step(frame.highest)) if self._info else 10.0**-self._decimals
            far = max((frame.highest - frame.lowest) / 50, least)
            y = frame.y_of(self._price_on_grid(frame.price_at(y) - rows * far, frame))
        self._cross = QPoint(frame.x_of(slot), min(max(y, 0), frame.price_height - 1))
        self._canvas.update_overlay()

    def focusInEvent(self, event: QFocusEvent) -> None:
        """A ring shows where keys go, when they are what brought one here."""
        self._focus_ring = event.reason() in (Qt.FocusReason.TabFocusReason, Qt.FocusReason.BacktabFocusReason)
        self._describe()
        self._canvas.update_overlay()
        super().focusInEvent(event)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """The ring goes with the focus."""
        self._focus_ring = False
        self._canvas.update_overlay()
        super().focusOutEvent(event)

    def menu_at(self, point: QPoint) -> QMenu:
        """The menu for a place in the plot (device pixels from its corner): only what applies there."""
        menu = QMenu(self)
        frame = self._current_frame()

        def add(text: str, act: Any, *, checked: bool | None = None) -> None:
            action = QAction(text, menu)
            if checked is not None:
                action.setCheckable(True)
                action.setChecked(checked)
            action.triggered.connect(lambda _checked=False: act())
            menu.addAction(action)

        if frame is not None and 0 <= point.y() < frame.price_height:
            line = self._line_near(point)
            price = line.price if line else self._price_on_grid(frame.price_at(point.y()), frame)
            shown = self._price(price)
            if line is not None:
                add(_("Remove the alert at {price}").format(price=shown), lambda: self.line_removed.emit(line.id))
            else:
                add(_("Alert at {price}, once").format(price=shown), lambda: self.alert_requested.emit(price, False))
                add(
                    _("Alert at {price}, repeating").format(price=shown),
                    lambda: self.alert_requested.emit(price, True),
                )
            add(_("Copy price {price}").format(price=shown), lambda: self._copy(shown.replace(",", "")))
            menu.addSeparator()
        style = self._style
        add(_("Equal ratios (logarithmic axis)"), lambda: self._restyle(log=not style.log), checked=style.log)
        add(_("Hollow candles"), lambda: self._restyle(hollow=not style.hollow), checked=style.hollow)
        add(_("Volume"), lambda: self._restyle(volume=not style.volume), checked=style.volume)
        if self._raw:
            add(_("Prices adjusted for dividends"), self.toggle_adjusted, checked=self._adjusted)
        if self._formulas:
            menu.addSeparator()
        for name in self._formulas:
            add(
                _("Line: {formula}").format(formula=name),
                lambda name=name: self.formula_toggled.emit(name),
                checked=name in self._drawn,
            )
        menu.addSeparator()
        add(_("Newest candles"), self.jump_to_latest)
        add(_("Reset the view"), self.reset_view)
        add(_("Copy the picture"), lambda: QGuiApplication.clipboard().setPixmap(self.grab()))
        return menu

    def _copy(self, text: str) -> None:
        QGuiApplication.clipboard().setText(text)

    def _restyle(self, **changes: Any) -> None:
        self.set_style(replace(self._style, **changes))
        self.style_changed.emit(self._style)

    def _popup(self, point: QPoint) -> None:
        menu = self.menu_at(point)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        plot = self._canvas.plot_rect()
        menu.popup(self._canvas.mapToGlobal((plot.topLeft() + point) / self._canvas.devicePixelRatioF()))

    # ------------------------------------------------------------------ mouse: device pixels from the plot's corner

    def _line_near(self, point: QPoint | None) -> PriceLine | None:
        frame = self._current_frame()
        if frame is None or point is None or not 0 <= point.y() < frame.price_height:
            return None
        reach = _GRAB * frame.dpr
        near = [(abs(frame.y_of(line.price) - point.y()), i) for i, line in enumerate(self._lines.values())]
        distance, i = min(near, default=(reach + 1, -1))
        return list(self._lines.values())[i] if distance <= reach else None

    def _mark_near(self, point: QPoint) -> Mark | None:
        return next((mark for box, mark in reversed(self._canvas.painter.mark_places) if box.contains(point)), None)

    def _hover(self, point: QPoint | None) -> None:
        self._cross = point
        shape = Qt.CursorShape.CrossCursor
        if point is None:
            shape = Qt.CursorShape.ArrowCursor
        elif self._line_near(point):
            shape = Qt.CursorShape.SizeVerCursor
        elif self._mark_near(point):
            shape = Qt.CursorShape.PointingHandCursor
        self._canvas.viewport().setCursor(shape)
        self._canvas.update_overlay()

    def _take(self, point: QPoint) -> bool:
        """Take hold of the line here, if there is one."""
        line = self._line_near(point)
        if line is not None:
            self._dragged = (line, line)
        return line is not None

    def _drag(self, point: QPoint) -> None:
        frame = self._current_frame()
        if frame is None or self._dragged is None:
            return
        price = self._price_on_grid(frame.price_at(min(max(point.y(), 0), frame.price_height - 1)), frame)
        original, line = self._dragged
        if price != line.price:
            self._dragged = (original, line._replace(price=price))
            self.line_dragging.emit(line.id, price)
        self._cross = point
        self._canvas.update_overlay()

    def _let_go(self, *, keep: bool = True) -> None:
        if self._dragged is None:
            return
        original, line = self._dragged
        self._dragged = None
        if keep and line.price != original.price:
            self._lines[line.id] = line  # where it was dropped, until its owner says otherwise
            self.line_moved.emit(line.id, line.price)
        self._canvas.update_overlay()


def _distributions(pieces: Sequence[Bars]) -> list[Mark]:
    """A mark where the factors step: the first bar that trades without a dividend or a distributed gain."""
    if not pieces:
        return []
    bars = Bars.merged(pieces) if len(pieces) > 1 else pieces[0]
    factor = bars.adjustment
    if factor is None or len(factor) < 2:
        return []
    ratio = factor[:-1] / factor[1:]
    marks = []
    for i in np.flatnonzero(np.abs(ratio - 1.0) > 1e-9).tolist():
        amount = float(bars.close[i]) * (1.0 - float(ratio[i]))
        at_ns = int(bars.open_ns[i + 1])
        words = _("Distributed: {amount} a share").format(amount=fmt.size(amount))
        marks.append(Mark(("paid", at_ns), at_ns, None, "paid", words))
    return marks


class _Canvas(pg.PlotWidget):
    """pyqtgraph's view with our candles and axes in it, and what lies over them."""

    def __init__(self, chart: ChartView) -> None:
        self._chart = chart
        self._ground: QPixmap | None = None  # a picture of the ground, kept while only what lies over it changes
        self._ground_is_old = True
        self._axis_text = ""
        self._plot: tuple[float, QRect] | None = None
        self.painter = Painter()
        self._price_axis = _Axis("right", self._paint_prices)
        self._time_axis = _Axis("bottom", self._paint_times)
        super().__init__(chart, axisItems={"right": self._price_axis, "bottom": self._time_axis}, enableMenu=False)
        item = self.plotItem
        item.hideButtons()
        for side in ("left", "top"):  # hidden ones would still lay out their labels at every change
            item.getAxis(side).unlinkFromView()
            item.hideAxis(side)
        item.showAxis("right")
        item.layout.setContentsMargins(0, 0, 0, 0)
        item.layout.setSpacing(0)
        self.view = item.vb
        self.view.sigResized.connect(self._forget_plot)
        self.view.disableAutoRange()
        self.view.setMouseEnabled(x=True, y=False)
        self.view.setDefaultPadding(0)
        self._candles = _Candles(self.view, self._paint_plot)
        self.setRenderHints(QPainter.RenderHint(0))
        self.setViewportUpdateMode(self.ViewportUpdateMode.FullViewportUpdate)
        self.setCacheMode(self.CacheModeFlag(0))
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setFocusProxy(chart)

    # -- geometry

    def plot_rect(self) -> QRect:
        """The plot in device pixels of the viewport."""
        dpr = self.devicePixelRatioF()
        if self._plot is None or self._plot[0] != dpr:
            corner, view = self.view.mapToScene(QPointF(0, 0)), self.view
            width, height = max(0, round(view.width() * dpr)), max(0, round(view.height() * dpr))
            self._plot = (dpr, QRect(round(corner.x() * dpr), round(corner.y() * dpr), width, height))
        return self._plot[1]

    def _forget_plot(self) -> None:
        self._plot = None

    def fit_axes(self, t: theme.Tokens) -> None:
        """Axes as large as their labels."""
        self._time_axis.setHeight(t.px(22))
        self.widen_axis(self._axis_text)

    def widen_axis(self, text: str) -> None:
        """Make room for a price. The axis never shrinks while a series is shown, so that the chart keeps its place."""
        t = theme.current()
        self._axis_text = text
        small = t.lettering("small")
        width = max(t.px(56), max(small.width(row) for row in (text, *self._chart._last_rows())) + t.px(18))
        if width != self._price_axis.width():
            self._price_axis.setWidth(width)

    # -- painting

    def update_ground(self) -> None:
        """Paint all of it."""
        self._ground_is_old = True
        self.viewport().update()

    def update_overlay(self) -> None:
        """Paint what lies over the ground."""
        self.viewport().update()

    def paintEvent(self, event: QPaintEvent) -> None:
        dpr = self.devicePixelRatioF()
        moving = self._chart._cross is not None or self._chart._dragged is not None
        size = self.viewport().size() * dpr
        if self._ground_is_old and not moving:
            self._ground = None
            super().paintEvent(event)
        else:
            if self._ground is None or self._ground_is_old or self._ground.size() != size:
                self._ground = QPixmap(size)
                self._ground.setDevicePixelRatio(dpr)
                with QPainter(self._ground) as p:
                    self.render(p, QRectF(self.viewport().rect()), self.viewport().rect())
            with QPainter(self.viewport()) as p:
                p.drawPixmap(0, 0, self._ground)
        self._ground_is_old = False
        with QPainter(self.viewport()) as p:
            to_device_pixels(p)
            _Overlay(self._chart, p, self.plot_rect(), QRect(0, 0, size.width(), size.height())).paint()

    def _paint_plot(self, p: QPainter) -> None:
        frame = self._chart._current_frame()
        if frame is not None:
            to_device_pixels(p)
            self.painter.paint(p, frame, self._chart._scene(), theme.current())

    def _paint_prices(self, p: QPainter) -> None:
        frame = self._chart._current_frame()
        if frame is None:
            return
        t = theme.current()
        dpr = to_device_pixels(p)
        letters = t.lettering("small", scale=dpr)
        p.setFont(letters.font)
        p.setPen(t.secondary)
        half = letters.cap // 2
        ticks, _times = self._chart._ticks
        under = _tag_span(frame, letters, self._chart)
        for price, y in zip(ticks, frame.y(np.array(ticks, float)).tolist(), strict=True):
            if half < y < frame.price_height - half and not under[0] - half <= y <= under[1] + half:
                p.drawText(round(8 * dpr), y + half, self._chart._price(price))

    def _paint_times(self, p: QPainter) -> None:
        frame = self._chart._current_frame()
        if frame is None:
            return
        t = theme.current()
        dpr = to_device_pixels(p)
        slots = self._chart._pyramid.slots
        baseline = round((self._time_axis.height() * dpr + t.lettering("small", scale=dpr).cap) / 2)
        end = -math.inf
        for tick in self._chart._ticks[1]:
            letters = t.lettering("small", tick.strong, dpr)
            width = letters.width(tick.label)
            x = frame.x_of(slots.since(tick.ns)) - width // 2
            if x < end + 8 * dpr or x < 0 or x + width > frame.width:
                continue
            p.setFont(letters.font)
            p.setPen(t.text if tick.strong else t.secondary)
            p.drawText(x, baseline, tick.label)
            end = x + width

    # -- mouse

    def _point(self, position: QPointF) -> QPoint | None:
        """A place in the viewport as device pixels in the plot; None outside of it."""
        plot = self.plot_rect()
        point = (position * self.devicePixelRatioF()).toPoint()
        return point - plot.topLeft() if plot.contains(point) else None

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        point = self._point(event.position())
        if self._chart._dragged is not None:
            plot = self.plot_rect()
            self._chart._drag((event.position() * self.devicePixelRatioF()).toPoint() - plot.topLeft())
            return
        self._chart._hover(point)
        super().mouseMoveEvent(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        point = self._point(event.position())
        button = event.button()
        if point is not None and button == Qt.MouseButton.LeftButton:
            mark = self._chart._mark_near(point)
            if mark is not None:
                self._chart.mark_clicked.emit(mark.id)
                return
            if self._chart._take(point):
                return
        elif point is not None and button == Qt.MouseButton.MiddleButton and (line := self._chart._line_near(point)):
            self._chart.line_removed.emit(line.id)
            return
        elif button == Qt.MouseButton.RightButton:
            return  # contextMenuEvent; pyqtgraph would zoom
        super().mousePressEvent(event)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if self._chart._dragged is not None:
            self._chart._let_go()
            return
        if event.button() != Qt.MouseButton.RightButton:
            super().mouseReleaseEvent(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton and self._point(event.position()) is not None:
            self._chart.reset_view()

    def wheelEvent(self, event: QWheelEvent) -> None:
        sideways = event.angleDelta().x()
        if sideways and abs(sideways) > abs(event.angleDelta().y()):
            self._chart.pan(-sideways / 120 * (self._chart._last - self._chart._first) / 20)
            event.accept()
        else:
            super().wheelEvent(event)

    def leaveEvent(self, event: QEvent) -> None:
        if self._chart._dragged is None:
            self._chart._hover(None)
        super().leaveEvent(event)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        point = self._point(QPointF(event.pos()))
        if point is not None:
            self._chart._popup(point)
        event.accept()

    def viewportEvent(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            point = self._point(QPointF(event.pos()))
            mark = self._chart._mark_near(point) if point is not None else None
            if mark is not None:
                QToolTip.showText(event.globalPos(), mark.text, self)
            else:
                QToolTip.hideText()
            return True
        return bool(super().viewportEvent(event))


def _tag_span(frame: Frame, letters: theme.Lettering, chart: ChartView) -> tuple[int, int]:
    """Where the newest price's tag lies on the price axis: no label looks out from under it."""
    last = chart._pyramid.candle(chart._pyramid.last)
    if last is None:
        return 0, -1
    top = min(max(frame.y_of(last[CLOSE]), 0), frame.price_height) - letters.height // 2
    return top, top + letters.height * len(chart._last_rows())


class _Axis(pg.AxisItem):
    """Keeps pyqtgraph's place and linking of an axis, and paints our labels: its own cost more than the candles."""

    def __init__(self, orientation: str, paint: Any) -> None:
        super().__init__(orientation)
        self._paint = paint
        self.enableAutoSIPrefix(False)
        self.setStyle(autoExpandTextSpace=False)

    def boundingRect(self) -> QRectF:
        return QRectF(0, 0, self.size().width(), self.size().height())

    def paint(self, p: QPainter, option: object, widget: object) -> None:
        p.save()
        self._paint(p)
        p.restore()


class _Candles(pg.GraphicsObject):
    """A child of the ViewBox itself, not of its scaled group: its coordinates are pixels, and it is clipped."""

    def __init__(self, view: Any, paint: Any) -> None:
        super().__init__()
        self._view, self._paint = view, paint
        self.setParentItem(view)
        self.setZValue(-1)
        view.sigResized.connect(self._resized)

    def _resized(self) -> None:
        self.prepareGeometryChange()

    def boundingRect(self) -> QRectF:
        return QRectF(self._view.rect())

    def viewTransformChanged(self) -> None:
        """Nothing here hangs on the transform of the data."""

    def paint(self, p: QPainter, option: object, widget: object) -> None:
        p.save()
        self._paint(p)
        p.restore()


def _wrapped(
    parts: Sequence[tuple[str, QColor]], letters: theme.Lettering, room: int, gap: int
) -> list[list[tuple[str, QColor]]]:
    """The parts in rows no wider than the room."""
    rows: list[list[tuple[str, QColor]]] = []
    x = room
    for part in parts:
        width = letters.width(part[0])
        if x + width > room:
            rows.append([])
            x = 0
        rows[-1].append(part)
        x += width + gap
    return rows


class _Overlay:
    """What lies over the ground: lines, tags, crosshair, legend, badge, words for an empty chart."""

    def __init__(self, chart: ChartView, p: QPainter, plot: QRect, whole: QRect) -> None:
        self._chart, self._p, self._plot, self._whole = chart, p, plot, whole
        self._t = theme.current()
        self._frame = chart._current_frame()
        self._dpr: float = chart._canvas.devicePixelRatioF()
        self._small = self._t.lettering("small", scale=self._dpr)

    def paint(self) -> None:
        p, t = self._p, self._t
        if self._chart._simulated:
            p.fillRect(0, 0, self._whole.width(), round(4 * self._dpr), t.hatch())
        if self._frame is None or not len(self._chart._pyramid):
            self._paint_message()
        else:
            p.fillRect(self._plot.right() + 1, 0, 1, self._plot.bottom() + 1, t.line)
            p.fillRect(0, self._plot.bottom() + 1, self._whole.width(), 1, t.line)
            self._paint_lines(self._frame)
            self._paint_last_price(self._frame)
            self._paint_cross(self._frame)
            self._paint_legend(self._frame)
        if self._chart._focus_ring:
            width = round(2 * self._dpr)
            p.setBrush(Qt.BrushStyle.NoBrush)
            p.setPen(QPen(t.focus, width, j=Qt.PenJoinStyle.MiterJoin))
            inset = width // 2
            p.drawRect(self._whole.adjusted(inset, inset, -inset - width % 2, -inset - width % 2))

    def _paint_message(self) -> None:
        p, t = self._p, self._t
        p.setFont(t.lettering(scale=self._dpr).font)
        p.setPen(t.secondary)
        margin = round(theme.AROUND * self._dpr)
        box = self._whole.adjusted(margin, margin, -margin, -margin)
        p.drawText(box, Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap, self._chart._message)

    def _dashed(self, y: int, colour: QColor, width: int = 1) -> None:
        pen = QPen(colour, width, Qt.PenStyle.CustomDashLine)
        pen.setDashPattern([4 * self._dpr / width, 3 * self._dpr / width])
        pen.setCapStyle(Qt.PenCapStyle.FlatCap)
        self._p.setPen(pen)
        self._p.drawLine(self._plot.left(), self._plot.top() + y, self._plot.right(), self._plot.top() + y)

    def _tag(self, y: int, rows: Sequence[str], fill: QColor, ink: QColor, border: QColor | None = None) -> None:
        """A box on the price axis, its first row at `y`."""
        p = self._p
        letters = self._small
        p.setFont(letters.font)
        height = letters.height
        left = self._plot.right() + 1
        top = min(max(self._plot.top() + y - height // 2, 0), self._plot.bottom() - height * len(rows))
        box = QRect(left, top, self._whole.width() - left, height * len(rows))
        p.fillRect(box, fill)
        if border is not None:
            p.setPen(border)
            p.setBrush(Qt.BrushStyle.NoBrush)
            p.drawRect(box.adjusted(0, 0, -1, -1))
        p.setPen(ink)
        for i, row in enumerate(rows):
            p.drawText(left + round(8 * self._dpr), top + i * height + letters.ascent, row)

    def _paint_last_price(self, frame: Frame) -> None:
        chart, t = self._chart, self._t
        last = chart._pyramid.candle(chart._pyramid.last)
        assert last is not None
        y = frame.y_of(last[CLOSE])
        colour = t.up if last[CLOSE] >= last[0] else t.down
        if chart._stale:
            colour = t.disabled
        if 0 <= y < frame.price_height:
            self._dashed(y, t.mixed(colour, 0.7))
        self._tag(min(max(y, 0), frame.price_height), chart._last_rows(), colour, self._ink(colour))

    def _ink(self, ground: QColor) -> QColor:
        """Black or white, whichever reads better on a colour."""
        return max(QColor("#0B0E11"), QColor("#FFFFFF"), key=lambda ink: theme.contrast(ink, ground))

    def _paint_lines(self, frame: Frame) -> None:
        chart, p, t = self._chart, self._p, self._t
        dragged = chart._dragged[1] if chart._dragged else None
        for line in [*(k for k in chart._lines.values() if dragged is None or k.id != dragged.id), dragged]:
            if line is None:
                continue
            y = frame.y_of(line.price)
            if not 0 <= y < frame.price_height:
                continue
            colour = line_colour(line, t)
            held = line is dragged
            self._dashed(y, colour, round((2 if held else 1) * self._dpr))
            words = "  ".join(text for text in (line.label, chart._notes.get(line.id, "")) if text)
            if words:
                letters = self._small
                p.setFont(letters.font)
                x = self._plot.left() + round(8 * self._dpr)
                baseline = self._plot.top() + y - round(4 * self._dpr)
                if baseline - letters.ascent < self._plot.top():
                    baseline = self._plot.top() + y + letters.ascent + round(3 * self._dpr)
                box = QRect(x, baseline - letters.ascent, letters.width(words), letters.height)
                p.fillRect(box.adjusted(-2, 0, 2, 0), t.panel)
                p.setPen(colour)
                p.drawText(x, baseline, words)
            self._tag(y, [chart._price(line.price)], t.panel, colour, border=colour)

    def _paint_cross(self, frame: Frame) -> None:
        chart, p, t = self._chart, self._p, self._t
        cross = chart._cross
        if cross is None:
            return
        x = frame.x_of(frame.slot_at(cross.x())) if not frame.columns.merged else cross.x()
        pen = QPen(t.disabled, 1, Qt.PenStyle.CustomDashLine)
        pen.setDashPattern([3 * self._dpr, 3 * self._dpr])
        p.setPen(pen)
        left, top = self._plot.left(), self._plot.top()
        p.drawLine(left + x, top, left + x, self._plot.bottom())
        if 0 <= cross.y() < frame.height:
            p.drawLine(left, top + cross.y(), self._plot.right(), top + cross.y())
        price = chart.cross_price
        if price is not None and chart._dragged is None:
            self._tag(cross.y(), [chart._price(price)], t.raised, t.text, border=t.line)
        slot = chart._slot_told()
        if slot is not None:
            self._time_tag(x, chart._moment(slot))

    def _time_tag(self, x: int, text: str) -> None:
        p, t = self._p, self._t
        letters = self._small
        p.setFont(letters.font)
        width = letters.width(text) + round(12 * self._dpr)
        left = min(max(self._plot.left() + x - width // 2, 0), self._plot.right() - width)
        box = QRect(left, self._plot.bottom() + 2, width, self._whole.bottom() - self._plot.bottom() - 1)
        p.fillRect(box, t.raised)
        p.setPen(t.text)
        p.drawText(box, Qt.AlignmentFlag.AlignCenter, text)

    def _paint_legend(self, frame: Frame) -> None:
        """From the top left, wrapped; a badge at the right when the market is not a real one."""
        p, t, dpr = self._p, self._t, self._dpr
        right = self._plot.right() - round(8 * dpr)
        if self._chart._simulated:
            right -= self._paint_badge(self._chart.badge(), t.simulated, right)
        letters = self._small
        p.setFont(letters.font)
        gap, line = round(10 * dpr), letters.height + round(2 * dpr)
        start = self._plot.left() + round(8 * dpr)
        x, y = start, self._plot.top() + round(8 * dpr) + letters.ascent
        ground = QColor(t.panel)
        ground.setAlphaF(0.8)
        parts = self._chart._legend_parts()
        rows = _wrapped(parts, letters, right - start, gap)
        for least in _LEGEND_LEAST:  # large text on a narrow chart: the candles matter more than every number of one
            if len(rows) <= max(_LEGEND_ROWS, int(frame.price_height * _LEGEND_SHARE / line)):
                break
            del parts[least]
            rows = _wrapped(parts, letters, right - start, gap)
        for row in rows:
            for text, colour in row:
                width = letters.width(text)
                p.fillRect(x - gap // 2, y - letters.ascent, width + gap, line, ground)
                p.setPen(colour)
                p.drawText(x, y, text)
                x += width + gap
            x, y = start, y + line

    def _paint_badge(self, text: str, colour: QColor, right: int) -> int:
        """A word in a box that ends at `right`; returns how much room it took."""
        p, dpr = self._p, float(self._dpr)
        letters = self._t.lettering("small", True, dpr)
        p.setFont(letters.font)
        width = letters.width(text) + round(12 * dpr)
        box = QRect(right - width, self._plot.top() + round(8 * dpr), width, letters.height + round(2 * dpr))
        p.fillRect(box, self._t.mixed(colour, 0.18))
        p.setPen(colour)
        p.drawText(box, Qt.AlignmentFlag.AlignCenter, text)
        return width + round(8 * dpr)
