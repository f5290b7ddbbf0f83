"""The order book (호가창) and the tape of trades (체결) beside it."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

import numpy as np
from PySide6.QtCore import QEvent, QRect, QSize, Qt, Signal
from PySide6.QtGui import (
    QAction,
    QActionGroup,
    QColor,
    QEnterEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QResizeEvent,
)
from PySide6.QtWidgets import QMenu, QToolButton, QWidget

from watchhamster.core.instruments import InstrumentInfo
from watchhamster.core.market import Book, Level, Trade
from watchhamster.core.text import _, ngettext
from watchhamster.ui import format as fmt
from watchhamster.ui import theme
from watchhamster.ui.rows import Column, RowView
from watchhamster.ui.strokes import Strokes
from watchhamster.ui.theme import Lettering, Tokens

LEVELS = 15  # a side
_GROUPS = (1, 2, 5, 10, 20, 50, 100, 500, 1000)  # ticks that may make one row
_TAPE = 200


def grouped(levels: Sequence[Level], step: float, *, asks: bool) -> list[Level]:
    """Levels joined on a coarser grid: asks at the price above, bids at the one below. Best first, as given."""
    if step <= 0:
        return list(levels)
    sizes: dict[int, float] = {}
    for price, size in levels:
        steps = price / step
        place = math.ceil(steps - 1e-9) if asks else math.floor(steps + 1e-9)
        sizes[place] = sizes.get(place, 0.0) + size
    digits = max(0, -Decimal(repr(step)).normalize().as_tuple().exponent)  # type: ignore[operator]  # finite
    return [(round(place * step, digits), size) for place, size in sizes.items()]


def strength(trades: Sequence[Trade]) -> float | None:
    """체결강도: volume bought by takers over volume sold by takers, in percent. None without sales."""
    bought = math.fsum(t.size for t in trades if t.side == "buy")
    sold = math.fsum(t.size for t in trades if t.side == "sell")
    return bought / sold * 100 if sold > 0 else None


class _Shown(NamedTuple):
    """The book as it is painted: best level first, with running sums."""

    asks: list[tuple[float, float, float]]
    bids: list[tuple[float, float, float]]
    most: float  # the larger side's sum


class BookView(QWidget):
    """Asks above, bids below, the spread always in the middle: a level keeps its place while the book moves.

    While the mouse is over the rows the book stands still, and says so, so that a click hits what one saw.
    """

    price_chosen = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._info: InstrumentInfo | None = None
        self._book: Book | None = None  # shown
        self._waiting: Book | None = None  # came while the book stood still
        self._paused = False
        self._group = 1
        self._strength: float | None = None
        self._last: float | None = None
        self._previous_close: float | None = None
        self._message = ""
        self._chosen: int | None = None  # rows from the spread, asks above 0, by keyboard
        self._strokes = Strokes()
        self._grouping = QToolButton(self)
        self._grouping.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self._grouping.setAutoRaise(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        theme.changed.connect(self._retheme)
        self._retheme()

    # ------------------------------------------------------------------ data

    def set_instrument(self, info: InstrumentInfo | None) -> None:
        """Another instrument; its book is unknown until it comes."""
        self._info, self._book, self._waiting, self._paused = info, None, None, False
        self._group, self._strength, self._last, self._previous_close, self._chosen = 1, None, None, None, None
        self._message = _("Waiting for the order book…")
        self._words()

    def set_message(self, text: str) -> None:
        """Why there is no book."""
        self._message = text
        self.update()

    def set_book(self, book: Book) -> None:
        """The book as it is now."""
        if self._paused:
            self._waiting = book
            return
        fresh = self._book is None
        self._book = book
        if fresh:
            self._words()
        self.update()

    def set_trades(self, trades: Sequence[Trade]) -> None:
        """Recent trades, oldest first: they make the strength and the last price."""
        self._strength = strength(trades)
        self._last = trades[-1].price if trades else None
        self.update()

    def set_previous_close(self, price: float | None) -> None:
        """The day's base, which each level's change is told from."""
        self._previous_close = price
        self.update()

    @property
    def grouping(self) -> int:
        """Ticks a row."""
        return self._group

    def set_grouping(self, ticks: int) -> None:
        """Join so many ticks in a row."""
        self._group = ticks
        self._words()

    @property
    def paused(self) -> bool:
        """Whether it stands still under the mouse."""
        return self._paused

    def spread(self) -> tuple[float, float, float] | None:
        """Between best ask and best bid: in the quote asset, in ticks and as a fraction. None with a side empty."""
        book = self._book
        if book is None or not book.asks or not book.bids:
            return None
        ask, bid = book.asks[0][0], book.bids[0][0]
        tick = float(self._info.steps.step(bid)) if self._info else 0.0
        return ask - bid, (round((ask - bid) / tick, 1) if tick else math.nan), (ask - bid) / ((ask + bid) / 2)

    def summary(self) -> str:
        """The book in a sentence."""
        book, spread = self._book, self.spread()
        if book is None or spread is None:
            return self._message
        return _("Best ask {ask}, best bid {bid}, spread {spread}, trade strength {strength}.").format(
            ask=self._price(book.asks[0][0]),
            bid=self._price(book.bids[0][0]),
            spread=self._spread_words(spread),
            strength=self._strength_words(),
        )

    # ------------------------------------------------------------------ words

    def _price(self, price: float) -> str:
        return fmt.price(price, self._info.steps if self._info else None)

    def _strength_words(self) -> str:
        return fmt.UNKNOWN if self._strength is None else f"{self._strength:,.1f} %"

    def _spread_words(self, spread: tuple[float, float, float]) -> str:
        amount, ticks, fraction = spread
        parts = [self._price(amount) if self._info is None else self._spread_price(amount)]
        if ticks == ticks:
            count = f"{ticks:,.0f}" if ticks == int(ticks) else f"{ticks:,.1f}"
            parts.append(ngettext("{n} tick", "{n} ticks", round(ticks)).format(n=count))
        parts.append(f"{fmt.size(fraction * 100, decimals=3)} %")
        return "  ".join(parts)

    def _spread_price(self, amount: float) -> str:
        """A spread has the decimals of the prices around it, not those of its own size."""
        assert self._info is not None and self._book is not None
        return fmt.price(amount, decimals=self._info.steps.decimals(self._book.bids[0][0]))

    def _words(self) -> None:
        t = theme.current()
        self.setAccessibleName(_("Order book"))
        tick = self._tick()
        shown = self._price(tick * self._group) if tick else ""
        self._grouping.setText(f"{shown or '×1'} ▾")
        self._grouping.setStyleSheet(
            f"QToolButton {{ border: 1px solid {t.line.name()}; border-radius: {theme.RADIUS}px;"
            f" padding: 0 {t.px(6)}px; color: {t.secondary.name()}; font-size: {t.px(11)}px; }}"
            f"QToolButton:hover, QToolButton:focus {{ color: {t.text.name()}; border-color: {t.disabled.name()}; }}"
            "QToolButton::menu-indicator { image: none; width: 0; }"
        )
        self._grouping.setToolTip(_("Price grouping: how much one row holds"))
        self._grouping.setAccessibleName(_("Price grouping"))
        self._grouping.setFont(t.font("small"))
        old = self._grouping.menu()
        menu = QMenu(self._grouping)
        group = QActionGroup(menu)
        for ticks in _GROUPS:
            label = f"{self._price(tick * ticks)}  (×{ticks})" if tick else f"×{ticks}"
            action = QAction(label, menu, checkable=True, checked=ticks == self._group)
            action.triggered.connect(lambda _on=False, n=ticks: self.set_grouping(n))
            group.addAction(action)
            menu.addAction(action)
        self._grouping.setMenu(menu)
        if old is not None:
            old.deleteLater()
        self._place_button()
        self.update()

    def _tick(self) -> float:
        if self._info is None or self._book is None or not (self._book.bids or self._book.asks):
            return 0.0
        best = (self._book.bids or self._book.asks)[0][0]
        return float(self._info.steps.step(best))

    # ------------------------------------------------------------------ places

    @property
    def _head(self) -> int:
        return theme.current().px(26)

    @property
    def _titles(self) -> int:
        return theme.current().px(20)

    def _rows(self) -> tuple[int, int, int]:
        """Levels a side, a row's height, and where the spread's row begins."""
        t = theme.current()
        top = self._head + self._titles
        room = max(0, self.height() - top)
        least, most = t.px(16), t.px(22)
        levels = max(1, min(LEVELS, (room // least - 1) // 2))
        height = max(least, min(most, room // (2 * levels + 1)))
        return levels, height, top + levels * height + max(0, room - (2 * levels + 1) * height) // 2

    def sizeHint(self) -> QSize:
        """All levels at an easy height."""
        t = theme.current()
        return QSize(t.px(260), self._head + self._titles + (2 * LEVELS + 1) * t.px(20))

    def minimumSizeHint(self) -> QSize:
        """A few levels."""
        t = theme.current()
        return QSize(t.px(160), self._head + self._titles + 5 * t.px(16))

    def price_at(self, y: int) -> float | None:
        """The level's price at a height in the widget."""
        levels, height, middle = self._rows()
        shown = self._shown(levels)
        if y < middle:
            place = (middle - 1 - y) // height
            return shown.asks[place][0] if 0 <= place < len(shown.asks) else None
        place = (y - middle - height) // height if y >= middle + height else -1
        return shown.bids[place][0] if 0 <= place < len(shown.bids) else None

    def _shown(self, levels: int) -> _Shown:
        sides = []
        for raw, asks in ((self._book.asks, True), (self._book.bids, False)) if self._book else ():
            step = self._tick() * self._group if self._group > 1 else 0.0
            total, rows = 0.0, []
            for price, size in grouped(raw, step, asks=asks)[:levels]:
                total += size
                rows.append((price, size, total))
            sides.append(rows)
        if not sides:
            return _Shown([], [], 0.0)
        return _Shown(sides[0], sides[1], max((side[-1][2] for side in sides if side), default=0.0))

    # ------------------------------------------------------------------ painting

    def _retheme(self) -> None:
        self.setFont(theme.current().font())
        self._words()
        self.updateGeometry()

    def changeEvent(self, event: QEvent) -> None:
        """Another language has other words."""
        if event.type() == QEvent.Type.LanguageChange:
            self._words()
        super().changeEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._place_button()

    def _place_button(self) -> None:
        self._grouping.setFixedHeight(self._head - theme.INSIDE)
        self._grouping.adjustSize()
        self._grouping.move(self.width() - self._grouping.width() - theme.INSIDE, theme.INSIDE // 2)

    def paintEvent(self, event: QPaintEvent) -> None:
        t = theme.current()
        with QPainter(self) as p:
            p.fillRect(self.rect(), t.panel)
            self._paint_head(p, t)
            if self._book is None or not (self._book.asks or self._book.bids):
                p.setPen(t.secondary)
                p.setFont(t.font())
                margin = theme.AROUND
                box = self.rect().adjusted(margin, self._head, -margin, -margin)
                text = self._message if self._book is None else _("The order book is empty.")
                p.drawText(box, Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap, text)
            else:
                self._paint_titles(p, t)
                self._paint_levels(p, t)
            if self.hasFocus():
                p.setPen(t.focus)
                p.setBrush(Qt.BrushStyle.NoBrush)
                for inset in (0, 1):
                    p.drawRect(self.rect().adjusted(inset, inset, -1 - inset, -1 - inset))

    def _paint_head(self, p: QPainter, t: Tokens) -> None:
        letters = t.lettering("small")
        p.setFont(letters.font)
        right = self._grouping.x() - theme.BETWEEN
        baseline = (self._head + letters.cap) // 2
        if self._paused:
            words = _("Paused")
            right -= letters.width(words)
            p.setPen(t.accent)
            p.drawText(right, baseline, words)
            right -= theme.BETWEEN
        words, value = _("Trade strength"), self._strength_words()
        x = theme.BETWEEN
        if x + letters.width(f"{words}  {value}") <= right:
            p.setPen(t.secondary)
            p.drawText(x, baseline, words)
            x += letters.width(words) + theme.INSIDE
        p.setPen(t.text if self._strength is None else t.direction(self._strength - 100))
        p.drawText(x, baseline, value)

    def _columns(self) -> tuple[int, int, int, bool]:
        """Right edges of price, size and sum, and whether there is room for each level's change."""
        t = theme.current()
        margin = theme.BETWEEN
        wide = self.width() >= t.px(250) and self._previous_close is not None
        inside = self.width() - 2 * margin
        price = margin + int(inside * (0.50 if wide else 0.40))
        return price, margin + int(inside * (0.76 if wide else 0.70)), self.width() - margin, wide

    def _paint_titles(self, p: QPainter, t: Tokens) -> None:
        letters = t.lettering("small")
        p.setFont(letters.font)
        p.setPen(t.secondary)
        baseline = self._head + (self._titles + letters.cap) // 2
        price, size, total, _wide = self._columns()
        quote, base = (self._info.quote, self._info.base) if self._info else ("", "")
        titles = ((price, _("Price"), quote, 0), (size, _("Size"), base, price), (total, _("Sum"), base, size))
        for right, title, unit, left in titles:
            text = f"{title} ({unit})" if unit else title
            if letters.width(text) > right - left - theme.INSIDE:
                text = title
            p.drawText(right - letters.width(text), baseline, text)

    def _paint_levels(self, p: QPainter, t: Tokens) -> None:
        """Column by column, so that fonts and pens change a few times and not for every level."""
        levels, height, middle = self._rows()
        shown = self._shown(levels)
        above = [(level, middle - (i + 1) * height) for i, level in enumerate(shown.asks)]
        below = [(level, middle + (i + 1) * height) for i, level in enumerate(shown.bids)]
        right_price, right_size, right_sum, wide = self._columns()
        for side, colour in ((above, t.down), (below, t.up)):
            self._paint_bars(p, t, side, height, shown.most, right_price, colour)
        if self._chosen is not None:
            top = middle - self._chosen * height
            p.fillRect(0, top, right_price, height - 1, t.mixed(t.accent, 0.22))
            p.fillRect(0, top, t.px(2), height - 1, t.accent)
        decimals = max(0, min(8, 3 - math.floor(math.log10(shown.most)))) if shown.most > 0 else 0
        best = (shown.bids or shown.asks)[0][0]
        places = self._info.steps.decimals(best) if self._info else None
        letters = t.lettering()
        p.setFont(letters.font)
        baseline = (height + letters.cap) // 2
        for side, colour in ((above, t.down), (below, t.up)):
            prices = [(fmt.price(level[0], decimals=places), top) for level, top in side]
            self._paint_texts(p, letters, prices, right_price, baseline, colour)
        both = above + below
        for row, left, right, colour in ((1, right_price, right_size, t.text), (2, right_size, right_sum, t.secondary)):
            figures = [fmt.size(level[row], decimals=max(0, decimals + 1 - row)) for level, _top in both]
            if max(map(letters.width, figures)) > right - left - theme.BETWEEN:  # billions of a coin that costs nothing
                figures = [fmt.money(level[row]) for level, _top in both]
            texts = [(text, top) for text, (_level, top) in zip(figures, both, strict=True)]
            self._paint_texts(p, letters, texts, right, baseline, colour)
        for level, top in both:
            if level[0] == self._last and self._group == 1:  # where the last trade was
                p.setPen(t.text)
                p.setBrush(Qt.BrushStyle.NoBrush)
                left = right_price - letters.width(fmt.price(level[0], decimals=places))
                p.drawRect(left - theme.INSIDE, top, right_price - left + 2 * theme.INSIDE, height - 2)
        letters = t.lettering("small")
        p.setFont(letters.font)
        if wide and self._previous_close:
            for level, top in both:
                change = level[0] / self._previous_close - 1
                p.setPen(t.direction(round(change, 4)))
                p.drawText(theme.BETWEEN, top + baseline, fmt.percent(change, arrow=False))
        p.fillRect(0, middle, self.width(), height, t.raised)
        spread = self.spread()
        p.setPen(t.secondary)
        words = _("one side is empty") if spread is None else self._spread_words(spread)
        title = f"{_('Spread')}  {words}"
        if letters.width(title) > self.width() - 2 * theme.BETWEEN:
            title = words
        p.drawText(QRect(0, middle, self.width(), height), Qt.AlignmentFlag.AlignCenter, title)

    def _paint_bars(
        self,
        p: QPainter,
        t: Tokens,
        side: list[tuple[tuple[float, float, float], int]],
        height: int,
        most: float,
        left: int,
        colour: QColor,
    ) -> None:
        """From the right edge: the running sum, and darker in it the level's own size."""
        if not side or most <= 0:
            return
        tops = np.array([top for _level, top in side], np.int32)
        room = (self.width() - left) / most
        for row, share in ((2, 0.14), (1, 0.32)):
            lengths = np.array([level[row] * room for level, _top in side]).astype(np.int32)
            self._strokes.rects(p, self.width() - lengths, lengths, tops, tops + (height - 2), t.mixed(colour, share))

    def _paint_texts(
        self, p: QPainter, letters: Lettering, texts: list[tuple[str, int]], right: int, baseline: int, colour: QColor
    ) -> None:
        p.setPen(colour)
        for text, top in texts:
            p.drawText(right - letters.width(text), top + baseline, text)

    # ------------------------------------------------------------------ mouse and keyboard

    def _pause(self, paused: bool) -> None:
        if paused == self._paused:
            return
        self._paused = paused
        if not paused and self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self.set_book(waiting)
        self.update()

    def enterEvent(self, event: QEnterEvent) -> None:
        self._pause(event.position().y() > self._head and self._book is not None)
        super().enterEvent(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        over = event.position().y() > self._head and self._book is not None
        self._pause(over)
        hit = over and self.price_at(int(event.position().y())) is not None
        self.setCursor(Qt.CursorShape.PointingHandCursor if hit else Qt.CursorShape.ArrowCursor)

    def leaveEvent(self, event: QEvent) -> None:
        self._pause(False)
        super().leaveEvent(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        price = self.price_at(int(event.position().y()))
        if price is not None and event.button() == Qt.MouseButton.LeftButton:
            self.price_chosen.emit(price)
        else:
            super().mousePressEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Up and Down go from level to level, Enter chooses its price, Escape goes away."""
        levels = self._rows()[0]
        shown = self._shown(levels)
        keys = Qt.Key
        places = [*range(len(shown.asks), 0, -1), *range(-1, -len(shown.bids) - 1, -1)]  # top to bottom
        if event.key() in (keys.Key_Up, keys.Key_Down) and places:
            if self._chosen not in places:
                self._chosen = 1 if event.key() == keys.Key_Up and shown.asks else places[len(shown.asks) % len(places)]
            else:
                step = 1 if event.key() == keys.Key_Down else -1
                self._chosen = places[min(max(places.index(self._chosen) + step, 0), len(places) - 1)]
            self.setAccessibleDescription(f"{self._price(self._level(shown, self._chosen)[0])}")
            self.update()
        elif event.key() in (keys.Key_Return, keys.Key_Enter) and self._chosen is not None and self._chosen in places:
            self.price_chosen.emit(self._level(shown, self._chosen)[0])
        elif event.key() == keys.Key_Escape and self._chosen is not None:
            self._chosen = None
            self.update()
        else:
            super().keyPressEvent(event)

    @staticmethod
    def _level(shown: _Shown, place: int) -> tuple[float, float, float]:
        return shown.asks[place - 1] if place > 0 else shown.bids[-place - 1]


class TapeView(RowView):
    """Trades as they come, the newest on top."""

    price_chosen = Signal(float)

    def __init__(self, parent: QWidget | None = None, zone: dt.tzinfo | None = None) -> None:
        self._zone = zone or fmt.local_zone()
        self._info: InstrumentInfo | None = None
        columns = [
            Column(
                lambda: _("Time"),
                lambda t: fmt.clock(t.event_ns, self._zone),
                width=64,
                optional=1,
                colour=lambda _t, tokens: tokens.secondary,
                exact=lambda t: fmt.moment(t.event_ns, self._zone),
            ),
            Column(
                lambda: self._with_unit(_("Price"), "quote"),
                lambda t: f"{'▲' if t.side == 'buy' else '▼'} {self._price(t.price)}",
                width=104,
                stretch=True,
                align="right",
                colour=lambda t, tokens: tokens.up if t.side == "buy" else tokens.down,
                exact=lambda t: fmt.exact(t.price),
            ),
            Column(
                lambda: self._with_unit(_("Size"), "base"),
                lambda t: fmt.quantity(t.size),
                width=80,
                align="right",
                exact=lambda t: fmt.exact(t.size),
            ),
        ]
        super().__init__(columns, _("Trades"), parent, compact=True)
        self.set_empty(_("Waiting for the first trade…"))
        self.row_chosen.connect(lambda key: self.price_chosen.emit(self.row(key).price))

    def set_instrument(self, info: InstrumentInfo | None) -> None:
        """Another instrument; its trades are unknown until they come."""
        self._info = info
        self.set_rows([])
        self.retitle()

    def set_zone(self, zone: dt.tzinfo) -> None:
        """Tell times in another zone."""
        self._zone = zone
        self.reformat()

    def set_trades(self, trades: Sequence[Trade]) -> None:
        """Recent trades, oldest first. Who has scrolled down keeps what they look at."""
        newest_first = trades[: -_TAPE - 1 : -1]
        old = self.keys()
        bar = self.verticalScrollBar()
        scrolled = bar.value()
        self.set_rows((t.id, t) for t in newest_first)
        if scrolled and old:
            self.executeDelayedItemsLayout()  # the bar is to know of the new rows
            fresh = next((i for i, t in enumerate(newest_first) if t.id == old[0]), 0)
            bar.setValue(scrolled + fresh * self.verticalHeader().defaultSectionSize())

    def _price(self, price: float) -> str:
        return fmt.price(price, self._info.steps if self._info else None)

    def _with_unit(self, title: str, unit: str) -> str:
        return f"{title} ({getattr(self._info, unit)})" if self._info else title
