"""What stands in place of an order book and a tape where a venue has neither: the day, the year, and the news.

The quote is painted like the order book beside which it lies: plain rows, numbers at the right, two ranges as bars.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from PySide6.QtCore import QRect, QSize, Qt, QUrl
from PySide6.QtGui import QDesktopServices, QFontMetrics, QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QFrame,
    QListWidget,
    QListWidgetItem,
    QStackedLayout,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QWidget,
)

from watchhamster.core.instruments import Headline, InstrumentInfo
from watchhamster.core.market import Ticker
from watchhamster.core.sessions import Session
from watchhamster.core.text import _, pgettext
from watchhamster.core.timeframes import SECOND_NS
from watchhamster.ui import format as fmt
from watchhamster.ui import theme
from watchhamster.ui.controls import plain_text
from watchhamster.ui.language import Translated
from watchhamster.ui.market import market_title, phase_of, session_line, unit_of
from watchhamster.ui.theme import Tokens

Row = tuple[str, str, float | None]  # what, how much, and the direction that colours it


class QuoteView(Translated, QWidget):
    """One instrument's day and year."""

    def __init__(self, parent: QWidget | None = None, zone: dt.tzinfo | None = None) -> None:
        super().__init__(parent)
        self._zone = zone or fmt.local_zone()
        self._info: InstrumentInfo | None = None
        self._market = self._venue = ""
        self._ticker: Ticker | None = None
        self._session: Session | None = None
        self._year: tuple[float, float] | None = None  # lowest and highest
        self._now_ns = 0
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        theme.changed.connect(self.update)
        self.words()

    def set_instrument(self, info: InstrumentInfo | None, venue: str, market: str) -> None:
        """Another instrument; nothing is known of it yet."""
        self._info, self._venue, self._market = info, venue, market
        self._ticker, self._session, self._year = None, None, None
        self._changed()

    def set_quote(self, ticker: Ticker | None, session: Session | None, now_ns: int) -> None:
        """The day as it is now."""
        if (ticker, session, now_ns // SECOND_NS) != (self._ticker, self._session, self._now_ns // SECOND_NS):
            self._ticker, self._session, self._now_ns = ticker, session, now_ns
            self._changed()

    def set_year(self, low: float, high: float) -> None:
        """The lowest and the highest price of the last 52 weeks."""
        self._year = low, high
        self._changed()

    def set_zone(self, zone: dt.tzinfo) -> None:
        """Tell times in another zone."""
        self._zone = zone
        self._changed()

    def words(self) -> None:
        """Its name, and everything it says."""
        self._changed()

    def summary(self) -> str:
        """All of it in a line, for those who do not see it."""
        ranges = [(title, *(self._price(x) for x in span)) for title, span in self._ranges()]
        parts = [self._headline(), *(f"{what} {value}" for what, value, _direction in self._rows())]
        return ", ".join([*parts, *(f"{title} {low} – {high}" for title, low, high in ranges)])

    def sizeHint(self) -> QSize:
        """Qt's."""
        t = theme.current()
        return QSize(t.px(264), t.px(360))

    def minimumSizeHint(self) -> QSize:
        """Qt's."""
        t = theme.current()
        return QSize(t.px(160), t.px(120))

    # ------------------------------------------------------------ what is said

    def _changed(self) -> None:
        self.setAccessibleName(_("Quote"))
        self.setAccessibleDescription(self.summary())
        self.update()

    def _price(self, value: float | None) -> str:
        return fmt.price(value, self._info.steps if self._info is not None else None)

    def _headline(self) -> str:
        line = session_line(self._session, self._now_ns, self._zone)
        return " · ".join(filter(None, (market_title(self._venue, self._market), line)))

    def _rows(self) -> list[Row]:
        ticker = self._ticker
        if ticker is None:
            return []
        regular = ticker.price if ticker.regular is None else ticker.regular
        before = None if ticker.previous_close == ticker.regular else ticker.previous_close
        rate = regular / before - 1 if before else None
        unit = unit_of(self._info)
        rows: list[Row] = [(_("Price"), f"{self._price(regular)} {unit}".strip(), rate)]
        if rate is not None and before is not None:
            change = fmt.change(regular - before, self._info.steps if self._info else None, at=regular)
            rows.append((pgettext("column", "Change"), f"{change}  {fmt.percent(rate, arrow=False)}", rate))
        if ticker.regular is not None:
            extended = ticker.price / ticker.regular - 1
            told = f"{self._price(ticker.price)}  {fmt.percent(extended, arrow=False)}"
            phase = phase_of(ticker.state)
            rows.append((phase[:1].upper() + phase[1:], told, extended))
        if ticker.open is not None:
            rows.append((_("Open"), self._price(ticker.open), None))
        if ticker.previous_close is not None:
            rows.append((_("Previous close"), self._price(ticker.previous_close), None))
        if ticker.volume_24h:
            rows.append((_("Volume"), fmt.quantity(ticker.volume_24h), None))
        if ticker.trade_ns is not None:
            age_s = (self._now_ns - ticker.trade_ns) / SECOND_NS
            same_day = fmt.date(ticker.trade_ns, self._zone) == fmt.date(self._now_ns, self._zone)
            at = (fmt.clock if same_day else fmt.moment)(ticker.trade_ns, self._zone, seconds=age_s < 86400)
            rows.append((_("Last trade"), at, None))
        return rows

    def _ranges(self) -> list[tuple[str, tuple[float, float]]]:
        ticker = self._ticker
        ranges = []
        if ticker is not None and ticker.low is not None and ticker.high is not None:
            ranges.append((_("Day"), (ticker.low, ticker.high)))
        if self._year is not None:
            low, high = self._year
            if ticker is not None:
                low = min(low, *(x for x in (ticker.low, ticker.price) if x is not None))
                high = max(high, *(x for x in (ticker.high, ticker.price) if x is not None))
            ranges.append((_("52 weeks"), (low, high)))
        return ranges

    # ------------------------------------------------------------ painting

    def paintEvent(self, event: QPaintEvent) -> None:
        """Qt's."""
        t = theme.current()
        with QPainter(self) as p:
            p.fillRect(self.rect(), t.panel)
            left, right = theme.BETWEEN, self.width() - theme.BETWEEN
            y = theme.INSIDE
            p.setFont(t.font("small", bold=True))
            p.setPen(t.text)
            metrics = QFontMetrics(p.font())
            middle, wrapped = Qt.AlignmentFlag.AlignVCenter, Qt.TextFlag.TextWordWrap
            box = metrics.boundingRect(QRect(left, y, right - left, self.height()), wrapped, self._headline())
            p.drawText(QRect(left, y, right - left, box.height()), wrapped, self._headline())
            y += box.height() + theme.BETWEEN
            row = t.px(22)
            p.setFont(t.font())
            if self._ticker is None:
                p.setPen(t.secondary)
                p.drawText(QRect(left, y, right - left, row), middle, _("Waiting for a price…"))
                y += row
            for what, value, direction in self._rows():
                p.setPen(t.secondary)
                p.drawText(QRect(left, y, right - left, row), middle, what)
                p.setPen(t.text if direction is None else t.direction(round(direction, 4)))
                p.drawText(QRect(left, y, right - left, row), middle | Qt.AlignmentFlag.AlignRight, value)
                y += row
            for title, span in self._ranges():
                y = self._paint_range(p, t, title, span, y + theme.INSIDE)
            p.setPen(t.secondary)
            p.setFont(t.font("small"))
            words = _("{venue} has no order book and no single trades.").format(venue=self._venue.capitalize())
            rest = QRect(left, y + theme.BETWEEN, right - left, self.height() - y - theme.BETWEEN)
            if rest.height() >= QFontMetrics(p.font()).boundingRect(rest, wrapped, words).height():
                p.drawText(rest, wrapped, words)
            if self.hasFocus():
                p.setPen(t.focus)
                for inset in (0, 1):
                    p.drawRect(self.rect().adjusted(inset, inset, -1 - inset, -1 - inset))

    def _paint_range(self, p: QPainter, t: Tokens, title: str, span: tuple[float, float], y: int) -> int:
        """Lowest and highest with a bar between them, and the price's place on it."""
        left, right, line = theme.BETWEEN, self.width() - theme.BETWEEN, t.px(18)
        low, high = span
        box = QRect(left, y, right - left, line)
        p.setFont(t.font("small"))
        p.setPen(t.secondary)
        p.drawText(box, Qt.AlignmentFlag.AlignCenter, title)
        p.setPen(t.text)
        p.drawText(box, Qt.AlignmentFlag.AlignVCenter, self._price(low))
        p.drawText(box, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight, self._price(high))
        bar = QRect(left, y + line + t.px(3), right - left, t.px(3))
        p.fillRect(bar, t.line)
        if self._ticker is not None and high > low:
            price = self._ticker.price if self._ticker.regular is None else self._ticker.regular
            share = min(1.0, max(0.0, (price - low) / (high - low)))
            x = left + round(share * (bar.width() - 1))
            p.fillRect(QRect(left, bar.top(), x - left, bar.height()), t.mixed(t.accent, 0.5))
            p.fillRect(QRect(x - t.px(1), bar.top() - t.px(3), t.px(3), bar.height() + t.px(6)), t.accent)
        return bar.bottom() + t.px(6)


class NewsView(Translated, QWidget):
    """Headlines, the newest on top. A double click or Enter opens one in the browser."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._now_ns = 0
        self._headlines: Sequence[Headline] | None = None
        self._problem = ""
        self.list = QListWidget()
        self.list.setFrameShape(QFrame.Shape.NoFrame)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setVerticalScrollMode(QListWidget.ScrollMode.ScrollPerPixel)
        self.list.setResizeMode(QListWidget.ResizeMode.Adjust)  # another width wraps otherwise
        self.list.setItemDelegate(_Story(self.list))
        self.list.itemActivated.connect(
            lambda item: QDesktopServices.openUrl(QUrl(item.data(Qt.ItemDataRole.UserRole).url))
        )
        self._empty = plain_text("")
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._empty.setMargin(theme.AROUND)
        self._stack = QStackedLayout(self)
        self._stack.addWidget(self.list)
        self._stack.addWidget(self._empty)
        self.setFocusProxy(self.list)
        theme.changed.connect(self._themed)
        self._themed()
        self.words()

    def wait(self) -> None:
        """They are on their way."""
        self._headlines, self._problem = None, ""
        self.words()

    def set_headlines(self, headlines: Sequence[Headline], now_ns: int) -> None:
        """Show these."""
        self._headlines, self._now_ns, self._problem = headlines, now_ns, ""
        self.words()

    def set_problem(self, text: str) -> None:
        """There are none, and why."""
        self._headlines, self._problem = (), text
        self.words()

    def words(self) -> None:
        """The list, with ages in the language in use."""
        self.list.setAccessibleName(_("News"))
        self.list.clear()
        for headline in self._headlines or ():
            item = QListWidgetItem(headline.title, self.list)
            item.setData(Qt.ItemDataRole.UserRole, headline)
            item.setToolTip(f"{headline.title}\n{headline.url}")
            age = fmt.age((self._now_ns - headline.published_ns) / SECOND_NS)
            item.setData(_AGE, _("{publisher}, {age} ago").format(publisher=headline.publisher, age=age))
        self._empty.setText(
            self._problem or (_("Asking for news…") if self._headlines is None else _("There is no news."))
        )
        self._stack.setCurrentWidget(self.list if self._headlines else self._empty)

    def _themed(self) -> None:
        t = theme.current()
        self.list.setStyleSheet(f"QListWidget {{ background: {t.panel.name()}; border: 0; }}")
        self._empty.setStyleSheet(f"background: {t.panel.name()}; color: {t.secondary.name()};")


_AGE = Qt.ItemDataRole.UserRole + 1


class _Story(QStyledItemDelegate):
    """A title in at most three lines, and under it who wrote it and when."""

    def __init__(self, stories: QListWidget) -> None:
        super().__init__(stories)
        self._list = stories

    def _title(self, width: int, text: str) -> QRect:
        t = theme.current()
        metrics = QFontMetrics(t.font())
        room = QRect(0, 0, max(40, width - 2 * theme.BETWEEN), 3 * metrics.lineSpacing())
        return metrics.boundingRect(room, Qt.TextFlag.TextWordWrap, text).intersected(room)

    def sizeHint(self, option: QStyleOptionViewItem, index: object) -> QSize:
        t = theme.current()
        width = self._list.viewport().width()
        title = self._title(width, index.data())  # type: ignore[attr-defined]
        return QSize(width, title.height() + QFontMetrics(t.font("small")).lineSpacing() + t.px(10))

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: object) -> None:
        t = theme.current()
        rect = option.rect
        chosen = self._list.currentIndex() == index
        if chosen:
            painter.fillRect(rect, t.mixed(t.accent, 0.18))
        painter.fillRect(rect.left(), rect.bottom(), rect.width(), 1, t.line)
        title = self._title(rect.width(), index.data())  # type: ignore[attr-defined]
        box = rect.adjusted(theme.BETWEEN, t.px(4), -theme.BETWEEN, 0)
        box.setHeight(title.height())
        painter.setFont(t.font())
        painter.setPen(t.text)
        painter.drawText(box, Qt.TextFlag.TextWordWrap, index.data())  # type: ignore[attr-defined]
        painter.setFont(t.font("small"))
        painter.setPen(t.secondary)
        below = QRect(box.left(), box.bottom() + 1, box.width(), rect.bottom() - box.bottom())
        painter.drawText(below, Qt.AlignmentFlag.AlignVCenter, index.data(_AGE))  # type: ignore[attr-defined]
