"""An engine in the shell: the pages are made, kept told, and what a person does there is asked of the engine.

The shell knows no engine and the engine no window; this is where they meet. What changes many times a second comes by
the bridge; what may be a second old (clock, status line, tray, tree) by one slow timer.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
from PySide6.QtCore import QObject, Qt, QTimer
from PySide6.QtWidgets import QApplication, QStackedWidget, QVBoxLayout, QWidget

from watchhamster.core.bars import Bars, Floats, Span
from watchhamster.core.instruments import Headline
from watchhamster.core.market import FeedChanged
from watchhamster.core.ports import WatchHamsterError
from watchhamster.core.text import _, pgettext, say
from watchhamster.core.timeframes import SECOND_NS, timeframe
from watchhamster.engine.away import Away, Gap
from watchhamster.formula import Function, compile_many
from watchhamster.monitor.alerts import Alert, Rule
from watchhamster.monitor.status import StatusNode, title
from watchhamster.settings import Value
from watchhamster.ui import autostart, format, sound, theme
from watchhamster.ui.book_view import BookView, TapeView
from watchhamster.ui.bridge import Bridge, Errands, News, Occurrence, seen
from watchhamster.ui.caution import CautionBox
from watchhamster.ui.chart import ChartView, Mark, PriceLine
from watchhamster.ui.desk import DeskPage, Journal, dock_title
from watchhamster.ui.finder import Choice
from watchhamster.ui.inbox import AlertBook, AlertList, AlertsPage
from watchhamster.ui.language import named, switch_language
from watchhamster.ui.lookup import Lookup
from watchhamster.ui.market import unit_of
from watchhamster.ui.pyramid import SessionSlots
from watchhamster.ui.quote_view import NewsView, QuoteView
from watchhamster.ui.rule_form import RuleForm, RuleList, price_alert, price_of, trial_sentence, try_days
from watchhamster.ui.settings_page import SettingsPage
from watchhamster.ui.shell import TIMEFRAMES, Shell
from watchhamster.ui.status_view import StatusView
from watchhamster.ui.system_page import LogView, SystemPage
from watchhamster.ui.tray import Tray, first_lines
from watchhamster.ui.watch_list import WatchList

if TYPE_CHECKING:
    from watchhamster.engine.engine import Engine
    from watchhamster.monitor.replay import Replay
    from watchhamster.ui.lab_page import LabPage
    from watchhamster.ui.start import LogLines, Look

log = logging.getLogger("watchhamster.ui")
FIRST_BARS = 600  # of a series, until more is asked for
SLOW_MS = 1000
AWAY_EVERY = 5  # slow beats
LAST_TURNS = 25  # of 20 ms: errands that are done after the window was left
DRAG_TRY_MS = 250
LAYOUT, KEYS = "desk", "keys"
YEAR_NS = 364 * 86400 * SECOND_NS
NEWS_NS = 600 * SECOND_NS  # news are asked for again after this


class Session(QObject):
    """The window with an engine in it."""

    def __init__(
        self,
        app: QApplication,
        shell: Shell,
        engine: Engine,
        errands: Errands,
        look: Look,
        home: Path | None,
        lines: LogLines,
    ) -> None:
        super().__init__(shell)
        self.app, self.shell, self.engine, self.errands = app, shell, engine, errands
        self._look, self._home = look, home  # no home: a picture is taken, nothing is remembered
        self._player = sound.find_player()
        self._told_of_tray = False
        self._beats = 0
        self._engine_started = False
        self.instrument = ""
        self.timeframe = "1m"
        self._asked_ns = 0  # when the chart's candles were last asked for
        self._spans: list[Span] = []
        self._loading = self._loaded_last = 0  # numbers of what the chart was asked to show, and shows
        self.bridge = Bridge(self, beat_ms=max(4, 500 // engine.settings.number("frame_rate")))

        self.chart = ChartView(zone=self.zone())
        self.chart.badge = lambda: _("Recording") if shell.simulated == "replay" else _("Simulated")
        self.book = BookView()
        self.tape = TapeView(zone=self.zone())
        self.quote, self.news = QuoteView(zone=self.zone()), NewsView()  # where a venue has no book and no trades
        self._news: dict[str, tuple[int, list[Headline]]] = {}  # by instrument, and when they came
        self.lookup = Lookup(engine, errands, self)
        self.caution = CautionBox(shell)
        self._adjusted_ones: set[str] = set()  # instruments whose prices are shown adjusted
        self._drawn: list[str] = []  # saved formulas that are lines on the chart
        self._adding = False  # what the search finds is put on the watch list
        self.watch_list = WatchList(engine, errands, shell.messages)
        self.alerts = AlertBook(engine, errands)
        self.rules = RuleList(engine, errands, shell.messages)
        self.alert_strip = AlertList(self.alerts, engine, errands, dense=True)
        self.desk_tree, self.tree = StatusView(), StatusView(levels=4)
        self.desk_log, self.system_log = LogView(lines, self.zone), LogView(lines, self.zone)
        self.journal = Journal(self.alert_strip, self.desk_tree, self.desk_log)
        self.desk = DeskPage(
            _framed(self.chart),
            {
                "watch-list": self.watch_list,
                "order-book": _stacked(self.book, self.quote),
                "trades": _stacked(self.tape, self.news),
                "journal": self.journal,
            },
        )
        self.desk.dock("journal").put_into_head(self.journal.tabs)
        self.desk.dock("watch-list").add_tool("plus", lambda: _("Add an instrument…"), self._search_to_add)
        self.alerts_page = AlertsPage(self.rules, self.alerts, engine, errands)
        self._lab_place = _framed()
        self.system = SystemPage(engine, self.bridge, self.system_log)
        for name, page in (
            ("desk", self.desk),
            ("watch", self.tree),
            ("alerts", self.alerts_page),
            ("lab", self._lab_place),
            ("system", self.system),
        ):
            shell.add_page(name, page)
        self.desk.setFocusProxy(self.chart)
        self.tray = Tray(self)
        shell.may_hide = lambda: self.tray.is_there() and engine.settings.on("close_to_tray")
        shell.top.choices = self._find
        shell.top.search.setEnabled(True)
        shell.top.timeframes.setEnabled(True)
        self._name_panels()
        self._actions()
        self.settings = SettingsPage(engine, errands, shell.actions())
        self.settings.keys.changed.connect(self._keep_keys)
        shell.add_page("settings", self.settings)
        self._wire()
        self._slow = QTimer(self)
        self._slow.setInterval(SLOW_MS)
        self._slow.timeout.connect(self.slow_beat)
        self._drag_wait = QTimer(self)
        self._drag_wait.setSingleShot(True)
        self._drag_wait.setInterval(DRAG_TRY_MS)
        self._drag_wait.timeout.connect(self._try_dragged)
        self._dragged: tuple[Any, float] | None = None
        self._stop_observing = engine.observe(self.bridge.receive)
        self._stop_settings = engine.settings.observe(self._setting)
        self._follow_settings()
        self.bridge.start()
        self._slow.start()
        self.slow_beat()

    @cached_property
    def lab(self) -> LabPage:
        """The lab page, made when it is first wanted: with the laboratory it would delay the first picture."""
        from watchhamster.ui.lab_page import LabPage

        page = LabPage(self.engine, self.errands, self.lookup, self.zone, simulated=self._simulated())
        page.with_caution = self._with_caution
        place = self._lab_place.layout()
        assert place is not None
        place.addWidget(page)
        return page

    # ------------------------------------------------------------ beginning and end

    def started(self) -> None:
        """The engine has recovered: read everything, and say what happened meanwhile."""
        self._engine_started = True
        self.errands.run(self, self._first_look())

    async def _first_look(self) -> None:
        saved = await self.engine.layout(LAYOUT)
        place: dict[str, str] = json.loads(saved) if saved else {}
        keys = await self.engine.layout(KEYS)
        self.settings.keys.use(json.loads(keys) if keys else {})
        self._adjusted_ones = set(place.get("adjusted", "").split())
        self._drawn = place.get("formulas", "").splitlines()
        self.lookup.known = await self.engine.instruments()
        self.watch_list.read()
        self.alerts.read()
        self.rules.read()
        listed = self.engine.watch_list()
        wanted = place.get("instrument", "")
        if self.engine.info(wanted) is None:
            wanted = listed[0] if listed else ""
        if place.get("state"):
            self.desk.restore(base64.b64decode(place["state"]))
        if wanted:
            self.choose(wanted, place.get("timeframe", "1m"))
        else:
            self.chart.set_message(_("Press / and type a name to choose an instrument."))
        if self.app.focusWidget() is None:
            self.chart.setFocus()
        self.engine.on_show = self.shell.come_forward
        self.engine.on_notify = self._notify
        await self._ask_away()
        self.slow_beat()

    def _keep_keys(self, keys: dict[str, str]) -> None:
        self.errands.run(self, self.engine.save_layout(KEYS, json.dumps(keys).encode() if keys else None))

    async def _ask_away(self) -> None:
        away = await self.engine.away()
        if away is not None:
            self.show_away(away)
            self.alerts.read()

    async def close(self) -> None:
        """Stop showing; keep what the person arranged."""
        self.bridge.stop()
        self._slow.stop()
        self._stop_observing()
        self._stop_settings()
        self.engine.on_show = self.engine.on_notify = None
        self.tray.remove()
        if self._home is not None and self.instrument:
            place = {
                "instrument": self.instrument,
                "timeframe": self.timeframe,
                "state": base64.b64encode(self.desk.state()).decode(),
                "adjusted": " ".join(sorted(self._adjusted_ones)),
                "formulas": "\n".join(self._drawn),
            }
            await self.engine.save_layout(LAYOUT, json.dumps(place).encode())
        self.shell.messages.finish()
        for _turn in range(LAST_TURNS):  # what the messages asked for at last is still done
            if not self.errands.busy():
                break
            await asyncio.sleep(0.02)

    # ------------------------------------------------------------ what is in hand

    def zone(self) -> ZoneInfo:
        """The person's zone."""
        return ZoneInfo(self.engine.settings.text("time_zone"))

    def choose(self, instrument: str, timeframe_name: str = "") -> None:
        """Take an instrument (and timeframe) in hand: every panel follows."""
        changed = instrument != self.instrument
        self.instrument, self.timeframe = instrument, timeframe_name or self.timeframe
        self.engine.focus(instrument, self.timeframe)
        info = self.engine.info(instrument)
        top = self.shell.top
        top.timeframes.mark(self.timeframe)
        if changed:
            top.instrument.show_instrument(named(instrument, info), self._symbol())
            self.book.set_instrument(info)
            self.tape.set_instrument(info)
            self.watch_list.mark(instrument)
            self._fit_panels()
            self._fill_book()
        self._show_price()
        self.load_chart()

    def choose_timeframe(self, name: str) -> None:
        """Show the instrument in hand in another timeframe."""
        if self.instrument:
            self.choose(self.instrument, name)

    def _step(self, rows: int) -> None:
        listed = self.engine.watch_list()
        if listed:
            at = listed.index(self.instrument) if self.instrument in listed else -rows
            self.choose(listed[(at + rows) % len(listed)])

    def load_chart(self) -> None:
        """Ask for the newest candles of what is in hand."""
        now = self._asked_ns = self.engine.clock.now_ns()
        since = self._bars_back(now, FIRST_BARS)
        self._loading += 1
        number = self._loading
        key = (self.instrument, self.timeframe)
        self._set_series(*key, Bars.empty())
        self.chart.set_message(_("Loading candles…"))
        self.errands.run(
            self.chart,
            self._history(*key, since, now + timeframe(self.timeframe).approximate_ns),
            lambda found: self._loaded(number, *key, *found),
            lambda error: self._not_loaded(number, error),
        )

    def _bars_back(self, now_ns: int, count: int) -> int:
        """When the candle opened that lies so many back; the time a market was closed does not count."""
        frame, calendar = timeframe(self.timeframe), self.engine.calendar(self.instrument)
        if calendar is None or not SessionSlots.suits(frame):
            return now_ns - count * frame.approximate_ns
        axis = SessionSlots(frame, calendar, np.array([now_ns], np.int64))
        return axis.open_ns(axis.at(now_ns) - count)

    async def _history(self, instrument: str, name: str, since_ns: int, until_ns: int) -> tuple[Bars, list[Span]]:
        """Candles, and what is known of the time up to the last of them: what has yet to come is no gap."""
        bars = await self.engine.bars(instrument, name, since_ns, until_ns)
        if len(bars):
            until_ns = min(until_ns, timeframe(name).next_ns(int(bars.open_ns[-1])))
        return bars, await self.engine.coverage(instrument, name, since_ns, until_ns)

    def _loaded(self, number: int, instrument: str, name: str, bars: Bars, spans: list[Span]) -> None:
        if number != self._loading:
            return  # something else is in hand by now
        self._loaded_last = number
        self._spans = spans
        self._set_series(instrument, name, bars)
        self.chart.set_spans(spans)
        forming = self.engine.forming(instrument, name)
        if forming is not None:
            self.chart.update_forming(forming)
        self._show_lines()
        self._show_marks()
        self._show_formulas()

    def _show_formulas(self) -> None:
        """Draw the saved formulas that are wanted as lines, on all candles that the chart has."""
        library = self.engine.library()
        known = [call for function in library.functions() if (call := _as_line(function))]
        drawn = [name for name in self._drawn if name in known]
        self.chart.set_formulas(known, drawn)
        number, instrument, frame = self._loading, self.instrument, timeframe(self.timeframe)
        since_ns, now_ns = self.chart.first_ns, self.engine.clock.now_ns()
        if not drawn or since_ns is None:
            self.chart.set_curves(np.empty(0, np.int64), {})
            return

        async def work() -> tuple[Bars, dict[str, Floats]]:
            program = compile_many(drawn, timeframe=frame, library=library)
            room_ns = program.warm_up * frame.approximate_ns
            bars = await self.engine.bars(instrument, frame.name, since_ns - room_ns, now_ns)
            found = await asyncio.to_thread(program.over, bars)
            return bars, {name: values.data for name, values in zip(drawn, found, strict=True)}

        def draw(found: tuple[Bars, dict[str, Floats]]) -> None:
            if number == self._loading:
                self.chart.set_curves(found[0].open_ns, found[1])

        self.errands.run(self.chart, work(), draw, self._older_failed)

    def _toggle_formula(self, call: str) -> None:
        """Draw a formula, or no more."""
        self._drawn = [name for name in self._drawn if name != call] + ([] if call in self._drawn else [call])
        self._show_formulas()

    def _set_series(self, instrument: str, name: str, bars: Bars) -> None:
        info, calendar = self.engine.info(instrument), self.engine.calendar(instrument)
        adjusted = instrument in self._adjusted_ones
        self.chart.set_series(
            instrument, name, bars, info, simulated=self._simulated(), calendar=calendar, adjusted=adjusted
        )

    def _adjusted(self, adjusted: bool) -> None:
        """Remember it for the instrument."""
        (self._adjusted_ones.add if adjusted else self._adjusted_ones.discard)(self.instrument)

    def _not_loaded(self, number: int, error: Exception) -> None:
        if not isinstance(error, WatchHamsterError):
            raise error
        if number == self._loading:
            self._loaded_last = number
            hint = f" {say(error.hint)}" if error.hint else ""
            self.chart.set_message(f"{say(error.text)}{hint}")

    def _older(self, since_ns: int, until_ns: int) -> None:
        number = self._loading

        def prepend(found: tuple[Bars, list[Span]]) -> None:
            bars, spans = found
            if number == self._loading:
                self._spans = [*spans, *self._spans]
                self.chart.prepend(bars)
                self.chart.set_spans(self._spans)
                self._show_formulas()

        work = self._history(self.instrument, self.timeframe, since_ns, until_ns)
        self.errands.run(self.chart, work, prepend, self._older_failed)

    def _older_failed(self, error: Exception) -> None:
        if not isinstance(error, WatchHamsterError):
            raise error
        log.warning("older candles: %s", error)  # the hatch says "not fetched"; the log says why

    def _simulated(self) -> bool:
        return bool(self.shell.simulated)

    # ------------------------------------------------------------ what the engine tells

    def _take_chart(self, news: News) -> None:
        key = (self.instrument, self.timeframe)
        if key in news.flooded:
            self.load_chart()
        for candle in news.closed.get(key, ()):
            self.chart.append_closed(candle)
        if self._drawn and news.closed.get(key):
            self._show_formulas()
        moved = self.instrument in news.trades or self.instrument in news.tickers
        forming = self.engine.forming(*key) if moved else news.candles.get(key)
        if forming is not None:
            self.chart.update_forming(forming)
        self.chart.refresh(self.engine.clock.now_ns())

    def _take_book(self, news: News) -> None:
        book = news.books.get(self.instrument)
        if book is not None:
            self.book.set_book(book)
        if self.instrument in news.trades:
            self.book.set_trades(list(self.engine.board.trades(self.instrument)))
        if self.instrument in news.tickers:
            ticker = self.engine.board.ticker(self.instrument)
            self.book.set_previous_close(ticker.previous_close if ticker is not None else None)
        if self.instrument in news.trades or self.instrument in news.tickers:
            self._show_price()

    def _symbol(self) -> str:
        """The symbol in hand, and what its prices are in where the symbol does not say so."""
        symbol = self.instrument.partition(":")[2]
        unit = unit_of(self.engine.info(self.instrument))
        return symbol if not unit or unit in symbol else f"{symbol}  {unit}"

    def _fit_panels(self) -> None:
        """Show a book and trades of a venue that has them, of another its quote and news."""
        kinds, venue = self.engine.kinds(self.instrument), self.instrument.partition(":")[0]
        calendar = self.engine.calendar(self.instrument)
        market = "" if calendar is None else calendar.market.code
        has_book, has_trades = "book" in kinds, "trade" in kinds
        book, trades = self.desk.dock("order-book"), self.desk.dock("trades")
        _show_in(book.widget(), self.book if has_book else self.quote)
        _show_in(trades.widget(), self.tape if has_trades else self.news)
        book.call((lambda: dock_title("order-book")) if has_book else (lambda: _("Quote")))
        trades.call((lambda: dock_title("trades")) if has_trades else (lambda: _("News")))
        if not has_book:
            self.quote.set_instrument(self.engine.info(self.instrument), venue, market)
            self._fill_quote()
            self._ask_year()
        if not has_trades:
            self._ask_news()

    def _fill_quote(self) -> None:
        ticker, session = self.engine.board.ticker(self.instrument), self.engine.session(self.instrument)
        self.quote.set_quote(ticker, session, self.engine.clock.now_ns())

    def _ask_year(self) -> None:
        """The range of 52 weeks, from the candles of days."""
        instrument, now_ns = self.instrument, self.engine.clock.now_ns()

        def told(bars: Bars) -> None:
            if len(bars) and instrument == self.instrument:
                self.quote.set_year(float(bars.low.min()), float(bars.high.max()))

        work = self.engine.bars(instrument, "1d", now_ns - YEAR_NS, now_ns)
        self.errands.run(self.quote, work, told, _ignored)

    def _ask_news(self) -> None:
        instrument, now_ns = self.instrument, self.engine.clock.now_ns()
        kept = self._news.get(instrument)
        if kept is not None and now_ns - kept[0] < NEWS_NS:
            self.news.set_headlines(kept[1], now_ns)
            return
        self.news.wait()

        def told(headlines: list[Headline]) -> None:
            self._news[instrument] = (now_ns, headlines)
            if instrument == self.instrument:
                self.news.set_headlines(headlines, now_ns)

        def failed(error: Exception) -> None:
            if not isinstance(error, WatchHamsterError):
                raise error
            if instrument == self.instrument:
                self.news.set_problem(say(error.text))

        self.errands.run(self.news, self.engine.news(instrument), told, failed)

    def _take_quote(self, news: News) -> None:
        if self.instrument in news.tickers:
            self._fill_quote()
            self._show_price()

    def _take_tape(self, news: News) -> None:
        if self.instrument in news.trades:
            self.tape.set_trades(list(self.engine.board.trades(self.instrument)))

    def _fill_book(self) -> None:
        """Everything the board knows of the instrument in hand."""
        board = self.engine.board
        book, ticker = board.book(self.instrument), board.ticker(self.instrument)
        trades = list(board.trades(self.instrument))
        if book is not None:
            self.book.set_book(book)
        self.book.set_trades(trades)
        self.tape.set_trades(trades)
        self.book.set_previous_close(ticker.previous_close if ticker is not None else None)

    def _show_price(self) -> None:
        ticker = self.engine.board.ticker(self.instrument)
        price = self.engine.board.price(self.instrument)
        info = self.engine.info(self.instrument)
        rate = None
        if ticker is not None and ticker.regular is not None:
            price = ticker.regular  # that of pre or post market stands in the list and the quote, beside it
        if price is not None and ticker is not None and ticker.previous_close not in (None, 0, ticker.regular):
            rate = price / ticker.previous_close - 1
        stale = self._stale()
        self.shell.top.instrument.show_price(
            format.price(price, info.steps if info is not None else None),
            format.percent(rate) if rate is not None else "",
            rate,
            stale,
        )
        self.chart.set_stale(stale)

    def _stale(self) -> str:
        """How old the price is, once its feed no longer vouches for it. Of a closed market nothing can be missed."""
        session = self.engine.session(self.instrument)
        if session is not None and session.phase == "closed":
            return ""
        feed = self.engine.board.feed(self.instrument.partition(":")[0])
        if feed is None or feed.state in ("live", "recovered", "fallback"):
            return ""
        ticker = self.engine.board.ticker(self.instrument)
        since = feed.at_ns if ticker is None else max(ticker.event_ns, ticker.trade_ns or 0)
        age = max(0.0, (self.engine.clock.now_ns() - since) / SECOND_NS)
        return _("{age} old").format(age=format.age(age))

    def _happened(self, happened: list[Occurrence], missed: bool) -> None:
        self.alerts.take(happened, missed)
        for event in happened:
            if isinstance(event, Alert):
                self._alerted(event)
            elif isinstance(event, FeedChanged):
                log.info("%s %s: %s", event.instrument or event.venue, event.state, event.reason)
        if any(isinstance(event, Alert) for event in happened):
            self._show_marks()
            self._show_lines()
            self.rules.read()
        if any(isinstance(event, FeedChanged) for event in happened):
            self.slow_beat()

    def _alerted(self, alert: Alert) -> None:
        if alert.key.startswith(f"split:{self.instrument}:") and alert.resolved_ns is not None:
            self.load_chart()  # its prices are of the scale of before
        if alert.resolved_ns is not None or alert.acknowledged_ns is not None:
            return
        muted = self._muted()
        if alert.sound and not muted and self.engine.settings.on("sounds"):
            sound.play(alert.severity, self._player)
        self.shell.messages.say(
            lambda: say(alert.text),
            state=alert.severity,
            act=lambda: _("Show"),
            run=lambda: self.show_alert(alert),
            seconds=15 if alert.severity != "info" else 8,
        )

    def _notify(self, title: str, text: str) -> bool:
        """A desktop notification by the tray. Without one, a window in sight says it in its message line."""
        return self.tray.say(title, text) or seen(self.shell)

    def show_alert(self, alert: Alert) -> None:
        """Bring the window and this alert to the front."""
        self.shell.come_forward()
        self.shell.go("alerts")
        self.alerts_page.select(alert)

    # ------------------------------------------------------------ once a second

    def slow_beat(self) -> None:
        """Clock, status line, tray, trees, figures."""
        now = self.engine.clock.now_ns()
        zone = self.zone()
        self.shell.top.clock.show_time(f"{format.clock(now, zone)} {format.zone_name(zone, now)}")
        tree = self.engine.status()
        self.tray.show_state(tree, self._muted())
        self._show_status(tree)
        for view in (self.tree, self.desk_tree):
            if seen(view):
                view.show_tree(tree)
        if seen(self.system):
            self.system.refresh()
        if seen(self.desk_log):
            self.desk_log.refresh()
        if seen(self.alert_strip):
            self.alert_strip.viewport().update()
        if seen(self.settings):
            self.settings.usage.show_bytes(self.engine.metrics().history_bytes)
        if seen(self.watch_list):
            self.watch_list.tick()
        if seen(self.quote):
            self._fill_quote()
        if self.instrument:
            self._show_price()
        self._beats += 1
        if self._engine_started and self._beats % AWAY_EVERY == 0:  # the machine may have slept
            self.errands.run(self, self._ask_away())

    def _show_status(self, tree: StatusNode) -> None:
        line, metrics = self.shell.status, self.engine.metrics()
        latency = "" if metrics.latency_ms is None else f"  {format.latency(metrics.latency_ms)}"
        rate, memory = _("{count:,.0f} msg/s").format(count=metrics.messages_per_s), f"{metrics.rss_mb:,.0f} MB"
        if self._home is None:  # a picture leaves out what differs from run to run
            latency = rate = memory = ""
        for part in tree.children:
            if part.name == "feeds":
                for feed in part.children:
                    line.show_part(feed.name, f"{title(feed)}{latency}", feed.state, _tip(feed))
            elif part.name in ("storage", "channels"):
                line.show_part(part.name, title(part), part.state, _tip(part))
        line.show_part("rate", rate, "", _("Messages a second"))
        line.show_part("memory", memory, "", _("Memory of this program"))
        line.show_part("tenant", _("Desk: {name}").format(name=self.engine.tenant), "", _("Whose rules these are"))
        muted = ""
        if self._muted():
            until = format.clock(self.engine.muted_until_ns, self.zone(), seconds=False)
            muted = _("muted until {time}").format(time=until)
        line.show_part("mute", muted, "muted", _("Click to hear alerts again"), at_end=True)
        simulated = {"demo": _("built-in exchange"), "replay": _("recording"), "": ""}[self.shell.simulated]
        line.show_part("simulated", simulated, "simulated", _("Nothing here comes from a real market."), at_end=True)

    def _muted(self) -> bool:
        until = self.engine.muted_until_ns
        return until is not None and until > self.engine.clock.now_ns()

    # ------------------------------------------------------------ alerts by price

    def _alert_at(self, price: float, repeat: bool) -> None:
        rule = price_alert(self.engine, self.instrument, price, repeat=repeat)
        if rule is None:
            self.shell.messages.say(lambda: _("There is no price yet to tell which way it must go."), state="warning")
            return
        self.rules.save(rule, self._alert_made)

    def _offer_alert(self, price: float) -> None:
        """A price was clicked in the book or on the tape: that may have been by accident, so it is only offered."""
        info = self.engine.info(self.instrument)
        shown = format.price(price, info.steps if info is not None else None)
        self.shell.messages.say(
            lambda: _("Price {price}").format(price=shown),
            act=lambda: _("Alert here"),
            run=lambda: self._alert_at(price, False),
        )

    def _alert_made(self, rule: Rule) -> None:
        self.shell.messages.say(
            lambda: _("Alert: {name}").format(name=rule.name),
            act=lambda: _("Undo"),
            run=lambda: self.rules.remove_now(rule),
        )

    def _price_rules(self) -> list[tuple[Rule, float]]:
        found = [(rule, price_of(rule)) for rule in self.rules.rules() if rule.instruments == (self.instrument,)]
        return [(rule, price) for rule, price in found if price is not None]

    def _show_lines(self) -> None:
        once, repeating = pgettext("alert", "Alert once"), pgettext("alert", "Alert each time")
        self.chart.set_lines(
            [
                PriceLine(
                    rule.id, price, repeating if rule.repeat else once, "inactive" if rule.enabled else "disabled"
                )
                for rule, price in self._price_rules()
            ]
        )

    def _show_marks(self) -> None:
        marks = [
            Mark(alert.id, alert.fired_ns, alert.price, alert.severity, say(alert.text))
            for alert in self.alerts.alerts()
            if alert.instrument == self.instrument and alert.kind == "rule"
        ]
        self.chart.set_marks(marks)

    def _mark_clicked(self, alert_id: object) -> None:
        """An alert comes to the front; of what was distributed the tooltip says all there is."""
        for alert in self.alerts.alerts():
            if alert.id == alert_id:
                self.show_alert(alert)

    def _rule_of(self, rule_id: object) -> Rule | None:
        return next((rule for rule, _price in self._price_rules() if rule.id == rule_id), None)

    def _dragging(self, rule_id: object, price: float) -> None:
        self._dragged = (rule_id, price)
        self._drag_wait.start()

    def _try_dragged(self) -> None:
        if self._dragged is None:
            return
        rule_id, price = self._dragged
        rule = self._rule_of(rule_id)
        moved = price_alert(self.engine, self.instrument, price, repeat=True, former=rule) if rule else None
        if moved is None:
            return
        now = self.engine.clock.now_ns()

        def tried(result: Replay) -> None:
            if self._dragged == (rule_id, price):
                self.chart.note_line(rule_id, trial_sentence(result, days))

        days = try_days(moved.timeframe)
        self.chart.note_line(rule_id, _("Trying it on the last {days} days…").format(days=days))
        since_ns = now - days * 86400 * SECOND_NS
        self.errands.run(self.chart, self.engine.try_rule(moved, since_ns, now), tried, _ignored)

    def _moved(self, rule_id: object, price: float) -> None:
        self._dragged = None
        self.chart.note_line(rule_id, "")
        rule = self._rule_of(rule_id)
        moved = price_alert(self.engine, self.instrument, price, repeat=rule.repeat, former=rule) if rule else None
        if moved is not None:
            self.rules.save(moved)

    def _line_removed(self, rule_id: object) -> None:
        rule = self._rule_of(rule_id)
        if rule is not None:
            self.rules.remove(rule)

    # ------------------------------------------------------------ wiring

    def _wire(self) -> None:
        bridge, chart, shell = self.bridge, self.chart, self.shell
        bridge.show_to(chart, self._take_chart, "chart", self._chart_seen_again)
        bridge.show_to(self.watch_list, self.watch_list.take, "tables", self.watch_list.refresh)
        bridge.show_to(self.book, self._take_book, "tables", self._fill_book)
        bridge.show_to(self.tape, self._take_tape, "tables", self._fill_book)
        bridge.show_to(self.quote, self._take_quote, "tables", self._fill_quote)
        bridge.listen(self._happened)
        chart.alert_requested.connect(self._alert_at)
        chart.line_dragging.connect(self._dragging)
        chart.line_moved.connect(self._moved)
        chart.line_removed.connect(self._line_removed)
        chart.mark_clicked.connect(self._mark_clicked)
        chart.history_needed.connect(self._older)
        chart.adjusted_changed.connect(self._adjusted)
        chart.formula_toggled.connect(self._toggle_formula)
        self.watch_list.chosen.connect(self.choose)
        self.watch_list.add_wanted.connect(self._search_to_add)
        self.rules.lookup = self.lookup
        for field in (shell.top.search, shell.palette_box.field):
            field.left.connect(self.lookup.forget_failures)
            self.lookup.changed.connect(field.offer_more)
        self.lookup.caution_wanted.connect(self._search_with_caution)
        shell.search_started.connect(self._search_to_show)
        shell.palette_box.more = lambda query: self._find_to_show(query) if query.strip() else []
        self.book.price_chosen.connect(self._offer_alert)
        self.tape.price_chosen.connect(self._offer_alert)
        self.alerts.counted.connect(lambda count: shell.rail.count("alerts", count))
        self.alerts.counted.connect(self.journal.count_unseen)
        self.alert_strip.opened.connect(self.show_alert)
        self.alerts_page.detail.instrument_wanted.connect(self._show_instrument)
        self.alerts_page.detail.rule_wanted.connect(self.rules.edit_id)
        self.rules.instrument = lambda: self.instrument
        self.rules.changed.connect(self._show_lines)
        for view in (self.tree, self.desk_tree):
            view.node_chosen.connect(self._node_chosen)
        shell.top.timeframe_chosen.connect(self.choose_timeframe)
        shell.status.clicked.connect(self._status_clicked)
        shell.page_changed.connect(lambda _name: self.slow_beat())
        shell.page_changed.connect(lambda name: self.lab.open(self.instrument) if name == "lab" else None)
        shell.hidden_to_tray.connect(self._hidden)
        self.settings.restored.connect(self.started)
        tray = self.tray
        tray.open_wanted.connect(shell.come_forward)
        tray.what_is_wrong_wanted.connect(self.show_what_is_wrong)
        tray.status_wanted.connect(self.show_status)
        tray.mute_wanted.connect(self.mute)
        tray.quit_wanted.connect(shell.quit_wanted)
        self.app.styleHints().colorSchemeChanged.connect(self._scheme_changed)

    def _actions(self) -> None:
        add = self.shell.add_action
        for i, name in enumerate(TIMEFRAMES, 1):
            add(
                f"timeframe-{name}",
                lambda name=name: _("Timeframe {name}").format(name=name),  # type: ignore[misc]
                lambda name=name: self.choose_timeframe(name),  # type: ignore[misc]
                f"Ctrl+{i}",
            )
        add("next-instrument", lambda: _("Next instrument of the watch list"), lambda: self._step(1), "Ctrl+Down")
        add(
            "previous-instrument", lambda: _("Previous instrument of the watch list"), lambda: self._step(-1), "Ctrl+Up"
        )
        add("watch-this", lambda: _("Put on the watch list, or take off it"), self._toggle_watched, "Ctrl+D")
        add("undo", lambda: _("Undo"), self.shell.messages.undo, "Ctrl+Z")
        add("new-rule", lambda: _("Add a rule"), lambda: self.rules.edit(None), "Ctrl+N")
        add("alert-here", lambda: _("Alert at the crosshair's price"), self._alert_at_crosshair)
        add("acknowledge-all", lambda: _("Acknowledge every alert"), self._acknowledge_all)
        add("mute-5m", lambda: _("Mute for 5 minutes"), lambda: self.mute(300), "Ctrl+Shift+M")
        add("mute-1h", lambda: _("Mute for an hour"), lambda: self.mute(3600))
        add("mute-today", lambda: _("Mute for today"), lambda: self.mute("today"))
        add("unmute", lambda: _("Hear alerts again"), lambda: self.mute(None))
        add("what-is-wrong", lambda: _("What is wrong now"), self.show_what_is_wrong)
        add("reset-desk", lambda: _("Put the desk's panels back in place"), self.desk.reset)
        for dock in self.desk.docks():
            add(
                f"dock-{dock.name}",
                lambda dock=dock: _("Show or hide: {name}").format(name=dock.windowTitle()),  # type: ignore[misc]
                lambda dock=dock: dock.setVisible(not dock.isVisible()),  # type: ignore[misc]
            )
        add("adjusted", lambda: _("Prices adjusted for dividends, or as traded"), self.chart.toggle_adjusted)
        add("theme", lambda: _("Switch between dark and light"), self._switch_theme)
        add("language", lambda: _("Switch between Korean and English"), self._switch_language)

    def _chart_seen_again(self) -> None:
        """Candles closed while nobody looked; those of the last second cannot have been missed."""
        if self.instrument and self.engine.clock.now_ns() - self._asked_ns > SECOND_NS:
            self.load_chart()

    def _find(self, query: str) -> list[Choice]:
        if self._adding:
            return self.lookup.choices(query, self._add_instrument, self._price_of)
        return self._find_to_show(query)

    def _find_to_show(self, query: str) -> list[Choice]:
        return self.lookup.choices(query, self._show_instrument, self._price_of)

    def _price_of(self, instrument: str) -> str:
        price, info = self.engine.board.price(instrument), self.engine.info(instrument)
        return "" if price is None or info is None else format.price(price, info.steps)

    def _search_to_add(self) -> None:
        """Search for an instrument to put on the watch list."""
        self.shell.start_search()
        self._adding = True
        self.shell.top.search.offer()

    def _search_to_show(self) -> None:
        self._adding = False

    def _search_with_caution(self, venue: str) -> None:
        typed = self.lookup.text
        self._with_caution(venue, lambda: self.shell.start_search(typed))

    def _with_caution(self, venue: str, go_on: Callable[[], None]) -> None:
        """Go on, once a person knows what is to be known of a venue."""
        caution = self.engine.caution(venue)
        if caution is None:
            go_on()
            return

        def accepted() -> None:
            self.errands.run(self, self.engine.accept_caution(venue), lambda _none: go_on())

        self.caution.ask(venue, caution, accepted)

    def _add_instrument(self, instrument: str) -> None:
        def add() -> None:
            self._show_instrument(instrument)
            if instrument not in self.engine.watch_list():
                self.watch_list.toggle(instrument)

        self._with_caution(instrument.partition(":")[0], add)

    def _show_instrument(self, instrument: str) -> None:
        def show() -> None:
            self.shell.go("desk")
            self.choose(instrument)
            self.chart.setFocus()

        self._with_caution(instrument.partition(":")[0], show)

    def _toggle_watched(self) -> None:
        if self.instrument:
            self.watch_list.toggle(self.instrument)

    def _alert_at_crosshair(self) -> None:
        price = self.chart.cross_price
        if price is not None:
            self._alert_at(price, False)

    def _acknowledge_all(self) -> None:
        for alert in self.alerts.alerts():
            if alert.acknowledged_ns is None and alert.id is not None:
                self.errands.run(self, self.engine.acknowledge(alert.id))

    def mute(self, how: int | Literal["today"] | None) -> None:
        """Mute for so many seconds, for today, or no more."""
        now = self.engine.clock.now_ns()
        if how is None:
            until = None
        elif how == "today":
            midnight = format.local(now, self.zone()).replace(hour=0, minute=0, second=0, microsecond=0)
            until = int((midnight + dt.timedelta(days=1)).timestamp()) * SECOND_NS
        else:
            until = now + how * SECOND_NS
        self.errands.run(self, self.engine.mute(until), lambda _none: self._mute_told(until))

    def _mute_told(self, until: int | None) -> None:
        self.slow_beat()
        if until is None:
            self.shell.messages.say(lambda: _("Alerts are heard again."))
        else:
            at = format.clock(until, self.zone(), seconds=False)
            self.shell.messages.say(
                lambda: _("Muted until {time}. Alerts still come into the inbox.").format(time=at),
                state="muted",
                act=lambda: _("Undo"),
                run=lambda: self.mute(None),
            )

    def show_status(self) -> None:
        """Bring the window forward with the whole tree."""
        self.shell.come_forward()
        self.shell.go("watch")

    def show_what_is_wrong(self) -> None:
        """Bring the window forward at the worst line of the tree."""
        self.shell.come_forward()
        self.shell.go("watch")
        self.tree.show_tree(self.engine.status())
        self.tree.select_worst()

    def _node_chosen(self, path: Sequence[str]) -> None:
        instrument = ":".join(path[-2:])  # a feed's children are its symbols
        if self.engine.info(instrument) is not None:
            self._show_instrument(instrument)
        elif "rules" in path and path[-1] != "rules":
            self.shell.go("alerts")

    def _status_clicked(self, part: str) -> None:
        if part == "mute":
            self.mute(None)
        elif part in ("rate", "memory"):
            self.shell.go("system")
        else:
            self.shell.go("watch")

    def _hidden(self) -> None:
        if not self._told_of_tray:
            self._told_of_tray = True
            self.tray.say(
                _("WatchHamster keeps watching"), _("It is in the tray now. Quit it from there, or with Ctrl+Q.")
            )

    # ------------------------------------------------------------ away

    def show_away(self, away: Away) -> None:
        """Say what happened while nobody watched, until it is dismissed."""
        self.shell.away.say(
            lambda: say(away.text),
            state="info",
            act=lambda: _("Show alerts"),
            run=lambda: self.shell.go("alerts"),
            seconds=None,
        )

    # ------------------------------------------------------------ settings

    def _setting(self, name: str, value: Value) -> None:
        if name in ("theme", "colours", "text_size", "flash", "language"):
            self._follow_settings()
        elif name == "start_at_login":
            self._start_at_login(bool(value))
        elif name == "time_zone":
            self.chart.set_zone(self.zone())
            self.tape.set_zone(self.zone())
            self.quote.set_zone(self.zone())
            self.slow_beat()
        elif name == "frame_rate":
            self.bridge.set_beat(max(4, 500 // self.engine.settings.number("frame_rate")))

    def _follow_settings(self) -> None:
        if self._home is None:
            return  # a picture shows what it was asked to show
        before = self._look.language
        self._look.follow(self.engine.settings)
        self._look.apply(self.app)
        if self._look.language != before or not self._engine_started:
            switch_language(self.app, self._look.language)
            self._retell()
        self._look.write(self._home)

    def _retell(self) -> None:
        """Say again what no widget says by itself after a switch of language."""
        self.tray.words()
        if self.instrument:
            info = self.engine.info(self.instrument)
            self.shell.top.instrument.show_instrument(named(self.instrument, info), self._symbol())
            self._fit_panels()
            self._show_lines()
            self._show_marks()
            self._show_price()
        self.watch_list.refresh()
        self._name_panels()
        self.slow_beat()

    def _name_panels(self) -> None:
        self.tape.setAccessibleName(_("Trades"))

    def _scheme_changed(self, _scheme: Qt.ColorScheme) -> None:
        if self._look.theme == "system":
            self._look.apply(self.app)

    def _switch_theme(self) -> None:
        other = "light" if theme.current().name == "dark" else "dark"
        self.errands.run(self, self.engine.settings.set("theme", other))

    def _switch_language(self) -> None:
        other = "en" if self.engine.settings.language() == "ko" else "ko"
        self.errands.run(self, self.engine.settings.set("language", other))

    def _start_at_login(self, on: bool) -> None:
        entry = autostart.Autostart(autostart.command(self._home))
        try:
            entry.enable() if on else entry.disable()
        except WatchHamsterError as error:
            self.shell.tell(error)

    # ------------------------------------------------------------ pictures

    async def pose(self, page: str, size: tuple[int, int]) -> QWidget:
        """Arrange a page for its picture, wait until it is drawn, and return what to photograph."""

        async def settle() -> None:
            for _turn in range(400):
                await asyncio.sleep(0.02)
                if self._loaded_last == self._loading > 0 and not self.errands.busy():
                    break

        await settle()
        shown: QWidget = self.shell
        form: RuleForm | None = None
        alone = {"chart": self.chart, "watch-list": self.watch_list, "order-book": self.book}
        if page in alone:
            shown = alone[page]
            shown.setParent(None)
            shown.resize(*size)
            shown.show()
        elif page == "share":
            for instrument in self.engine.watch_list():
                if "trade" not in self.engine.kinds(instrument):
                    self.choose(instrument, "15m")
                    await settle()
                    break
        elif page == "status":
            self.shell.go("watch")
        elif page in ("alerts", "system", "settings"):
            self.shell.go(page)
        elif page == "lab":
            self.shell.go("lab")
            await self.lab.pose()
            self.shell.messages.finish()  # a slow machine's feeds have their say meanwhile
        elif page == "rule-form":
            form = self.rules.edit(None)
            form.name.setText(_("Golden cross"))
            form.formula.set_text("cross_above(sma(close, 10), sma(close, 30))")
            form.timeframe.setCurrentText("1h")
            shown = form
        elif page == "away":
            now = self.engine.clock.now_ns()
            gap = Gap(now - 11_520 * SECOND_NS, now, "off")
            self.show_away(Away(gap, fired=2, late=1, unknown_s=840))
        focused = self.app.focusWidget()
        if focused is not None:
            focused.clearFocus()  # a blinking cursor would make two pictures differ
        for _turn in range(400):
            await asyncio.sleep(0.02)
            if not self.errands.busy() and not (form is not None and form.is_waiting()):
                break
        if form is not None:
            form.resize(min(form.width(), size[0]), min(max(form.height(), form.sizeHint().height()), size[1]))
        self.slow_beat()
        for _turn in range(4):
            self.bridge.beat()
            await asyncio.sleep(0.02)
        return shown


def _as_line(function: Function) -> str:
    """A saved formula as it is called for a line on the chart; empty where it is no number, or needs more."""
    if function.kind != "number" or function.conditions or function.word or function.outputs:
        return ""
    return f"{function.name}({', '.join('close' for _series in function.series)})"


def _tip(node: StatusNode) -> str:
    return "\n".join(first_lines(node, 6)).replace("WatchHamster", title(node), 1)


def _framed(*widgets: QWidget) -> QWidget:
    """In a frame that keeps a minimum size from spreading to the docks."""
    frame = QWidget()
    layout = QVBoxLayout(frame)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget)
    return frame


def _stacked(*widgets: QWidget) -> QStackedWidget:
    """One of them at a time, in the same place."""
    stack = QStackedWidget()
    for widget in widgets:
        stack.addWidget(widget)
    return stack


def _show_in(stack: QWidget | None, widget: QWidget) -> None:
    assert isinstance(stack, QStackedWidget)
    if stack.indexOf(widget) >= 0:  # it was not taken out for a picture of its own
        stack.setCurrentWidget(widget)


def _ignored(error: Exception) -> None:
    if not isinstance(error, WatchHamsterError):
        raise error  # a rule that cannot be tried is no news while a line is dragged
