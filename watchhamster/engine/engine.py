"""The running watchman: one object that carries every event from the wire to row, alert and pixel.

Start is recovery. The stores say what was watched and until when the history is whole; what is missing since then is
asked of the venue, the last minutes as trades (so that our own candles are exact), further back as the venue's candles.
Rules are armed on the history they were proved on. A crash and a quit leave the same state behind.

Closing bars. A candle closes when a later trade of its instrument comes. A quiet instrument has none, so a bar whose
end is 2 s past is closed once a REST call says that nothing has traded which we have not seen. Until somebody says so
it stays open: a bar that is called closed is never a guess.

Coverage. While an instrument's trades are whole, every minute that was confirmed extends the span that is known, and a
place in it without a bar had no trade. A gap that could not be filled ends the span; the venue's candles are asked for.

A venue without trades has nothing to build candles from. Its open bars are provisional, made of tickers and only
shown; where the grid of its sessions says that a bar is over and settled, the venue is asked for it, and told it is.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec
import psutil

from watchhamster.core.actions import Learned, split_words
from watchhamster.core.bars import Bars, Span
from watchhamster.core.candles import CandleBuilder, OpenBars, fold
from watchhamster.core.instruments import Headline, InstrumentInfo, split_instrument
from watchhamster.core.market import Candle, Event, FeedChanged, Origin, Ticker, Trade
from watchhamster.core.ports import (
    BadFrame,
    Calendared,
    Clock,
    Guarded,
    Kind,
    Query,
    Rejected,
    Searched,
    Subscription,
    Unavailable,
    UsageError,
    WatchHamsterError,
)
from watchhamster.core.sessions import Calendar, Session
from watchhamster.core.text import Text
from watchhamster.core.timeframes import SECOND_NS, UTC, Grid, Timeframe, timeframe
from watchhamster.engine.backfill import Backfill
from watchhamster.engine.bench import Bench
from watchhamster.engine.board import Board
from watchhamster.engine.feed import FEED_REASONS, Feed, Pace
from watchhamster.engine.outbox import Outbox
from watchhamster.engine.paper import PaperRows, Papers
from watchhamster.engine.routing import Caller
from watchhamster.formula import LIBRARY_KEY, Library
from watchhamster.monitor.alerts import Alert, Delivery, Rule
from watchhamster.monitor.replay import Replay, replay
from watchhamster.monitor.status import State, StatusNode, node
from watchhamster.monitor.watch import Wanted, Watch, check

if TYPE_CHECKING:
    from watchhamster.engine.away import Away
    from watchhamster.settings import Settings

log = logging.getLogger(__name__)
T = TypeVar("T")

SECOND, MINUTE, DAY = timeframe("1s"), timeframe("1m"), timeframe("1d")
STORED = (SECOND, MINUTE)  # live candles that are kept; larger ones are folded when they are asked for
SETTLE_NS = 2 * SECOND_NS  # a bar is asked about so long after its end
CONFIRM_S = 5.0  # at most so often, but always after a minute's end
AGAIN_S = 15.0  # after what a venue did not answer
REFUSED_S = 600.0  # after what it refused
LISTED_S = 6 * 3600.0  # the list of instruments is read again
FILL_BARS = 20_000  # are had in the memory at once, at most
TRADES_BACK_NS = 600 * SECOND_NS  # a start fills so much from trades, what is older from candles
STATE_KEY = "watch_state"
CAUTIONED = "cautioned:{venue}"  # a small state: a venue's caution was read


class Rows(PaperRows, Protocol):
    """What people made, as rows: the part of `watchhamster.db` that the engine reads and writes."""

    def rules(self, tenant: str) -> list[Rule]:
        """Every rule."""

    async def save_rule(self, rule: Rule) -> Rule:
        """Store one; a new one gets its id."""

    async def remove_rule(self, rule_id: int) -> None:
        """Forget one; what it raised stays."""

    def watch_list(self, tenant: str) -> list[str]:
        """The instruments, in the user's order."""

    async def set_watch_list(self, instruments: Sequence[str], tenant: str) -> None:
        """Replace it."""

    def alerts(self, after_id: int = 0, limit: int = 200) -> list[Alert]:
        """Alerts with a larger id, in its order."""

    def open_alerts(self) -> list[Alert]:
        """Alerts that are not resolved."""

    def deliveries(self, alert_id: int) -> list[Delivery]:
        """All deliveries of an alert."""

    def get(self, key: str) -> bytes | None:
        """A small state."""

    async def put(self, key: str, value: bytes | None) -> object:
        """Keep a small state; None forgets it."""


class History(Protocol):
    """The candle store, as the engine writes it."""

    def append(self, candles: Sequence[Candle]) -> None:
        """Take closed candles in; only buffers."""

    def mark(self, instrument: str, timeframe: str, since_ns: int, until_ns: int) -> None:
        """This span is known: a place without a candle had no trade."""

    def last_ns(self, instrument: str, timeframe: str) -> int | None:
        """When the last stored candle opened."""


class Keeper(Protocol):
    """What the window asks of a home besides the market."""

    async def layout(self, name: str) -> bytes | None:
        """A saved arrangement."""

    async def save_layout(self, name: str, data: bytes | None) -> None:
        """Keep an arrangement."""

    async def set_secret(self, channel: str, text: str) -> None:
        """Keep a channel's secret address, and use it from now on."""

    async def channels_changed(self) -> None:
        """Use the channels as they are configured now."""

    async def backup(self, path: Path) -> None:
        """Everything but the secrets in one file."""

    async def restore(self, path: Path) -> None:
        """Take everything from a backup."""

    async def away(self) -> Away | None:
        """What happened while nobody watched, said once."""

    def history_bytes(self) -> int:
        """How much the candles take on the disk."""

    def status(self) -> Iterable[StatusNode]:
        """The storage and system branches of the tree."""


class Part(msgspec.Struct):
    """One venue, wired."""

    feed: Feed
    caller: Caller


class Recorded(msgspec.Struct):
    """What is played in place of a venue."""

    infos: Sequence[InstrumentInfo]
    kinds: Mapping[str, frozenset[Kind]]  # instrument -> what the recording has of it
    ended: asyncio.Event


class Metrics(msgspec.Struct, frozen=True):
    """What the status bar shows."""

    feeds: Mapping[str, str]  # venue -> state
    latency_ms: float | None  # a ping's round trip, of the slowest venue
    messages_per_s: float
    rss_mb: float
    history_bytes: int = 0


class _Live:
    """One streamed instrument: its candles in the making, and how far its history is known."""

    def __init__(self, instrument: str, since_ns: int, now_ns: int, origin: Origin) -> None:
        self.instrument = instrument
        self.symbol = split_instrument(instrument)[1]
        self.builder = CandleBuilder(instrument, (MINUTE,), origin)
        self.bars = OpenBars(now_ns)  # of a venue without trades
        self.since_ns = since_ns  # candles that open before this are not whole
        self.marked_ns = since_ns  # coverage is marked up to here
        self.whole_from: dict[str, int] = {
            SECOND.name: since_ns,
            MINUTE.name: since_ns,
        }  # timeframe -> first whole open
        self.widening = False
        self.asking = False  # the venue is being asked for its closed candles
        self.reading = False  # the day's minutes are on their way


class _Days:
    """The days of an open week (month, year) before today's, which is in the making."""

    def __init__(self, instrument: str, frame: Timeframe, until_ns: int) -> None:
        self.instrument = instrument
        self.frame = frame
        self.until_ns = until_ns  # when today began
        self.candles: list[Candle] | None = None  # None: on their way


class Engine:
    """What the window, the command line and the tests hold. Runs on the loop that started it."""

    def __init__(
        self,
        *,
        clock: Clock,
        parts: Mapping[str, Part],
        history: History,
        rows: Rows,
        outbox: Outbox,
        backfill: Backfill,
        settings: Settings,
        keeper: Keeper,
        tenant: str = "default",
        origin: Origin = "live",
        demo: bool = False,
        only: Sequence[str] | None = None,
        recorded: Recorded | None = None,
        services: Sequence[Callable[[], Awaitable[None]]] = (),
        bench: Callable[[], Bench] | None = None,
        on_stop: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`only` replaces the watch list for this run; `services` run beside it, `on_stop` closes what it was given."""
        self.clock = clock
        self.board = Board()
        self.demo = demo
        self.tenant = tenant
        self.bench = bench  # opens what the window runs strategies on
        self.started_ns = clock.now_ns()
        self._parts = parts
        self._history = history
        self._rows = rows
        self.settings = settings
        self.outbox = outbox
        self._keeper = keeper
        self._backfill = backfill
        backfill.on_learned = self._learned
        self._origin: Origin = origin
        self._only = None if only is None else list(only)
        self._services = services
        self._on_stop = on_stop
        self.on_show: Callable[[], None] | None = None  # the window sets these two
        self.on_notify: Callable[[str, str], bool] | None = None
        self._recorded = recorded
        self._infos = {info.instrument: info for info in recorded.infos} if recorded is not None else {}
        self._infos_known = recorded is not None
        self._infos_lock = asyncio.Lock()

        self._watch = Watch(self._grid)
        self.papers = Papers(rows, _Markets(self), clock, outbox.add, self._papers_changed, tenant)
        self._warming: set[tuple[int, str]] = set()  # rules whose history is on its way
        self._rules: list[Rule] = []
        self._list: list[str] = []
        self._focus: tuple[str, Timeframe] | None = None
        self._lives: dict[str, _Live] = {}
        self._days: dict[tuple[str, Timeframe], _Days] = {}
        self._forming_needed: dict[str, list[Timeframe]] = {}  # instrument -> timeframes of rules on open bars
        self._observers: list[Callable[[Event | Alert], None]] = []
        self._group: asyncio.TaskGroup | None = None
        self._main: asyncio.Task[None] | None = None
        self._bars_pace = {name: Pace([part.feed.venue.policy.bars], clock) for name, part in parts.items()}
        self._confirmed_at = -1e9
        self._minute_ns = 0
        self._counted = 0
        self._counted_at = clock.monotonic()
        self._rate = 0.0
        self._process = psutil.Process()

    # ---------------------------------------------------------------- the order of everything

    def handle(self, event: Event) -> None:
        """Carry one event from the wire to everyone who cares."""
        if isinstance(event, Candle) and not event.closed:
            event = msgspec.structs.replace(event, origin=self._origin)
        self.board.apply(event)  # state first, so that later readers agree
        candles = self._build(event)
        alerts = self._judge(event, candles)
        self._keep(candles)  # only buffers
        self.outbox.add(alerts)  # its own task, so that sending never delays us
        self._publish(event, candles)

    def _build(self, event: Event) -> list[Candle]:
        """The candles a trade closed or corrected, those that were seen whole only."""
        if not isinstance(event, Trade | Candle):
            return []
        live = self._lives.get(event.instrument)
        if live is None:
            return []
        if isinstance(event, Candle):
            live.bars.add(event)
            return []
        late = live.builder.too_late
        candles = live.builder.add(event)
        if live.builder.too_late > late:
            self._refill(live, event.event_ns)
        return self._whole(live, candles) if candles else candles

    def _judge(self, event: Event, candles: Sequence[Candle]) -> list[Alert]:
        if isinstance(event, FeedChanged):
            played = self._recorded is not None  # a recording is no feed that may fail
            alerts = [] if played else [_worded(alert) for alert in self._watch.observe(event)]
        else:
            alerts = self._watch.observe(event)
        for candle in candles:
            alerts += self._watch.observe(candle, self.clock.now_ns())
        self.papers.observe(candles)
        for forming in self._moved(event):
            alerts += self._watch.observe(forming)
        if alerts:
            self._disarm(alerts)
        return alerts

    def _moved(self, event: Event) -> list[Candle]:
        """The open bars that rules look at and that the event has moved, itself not among them."""
        if not isinstance(event, Trade | Ticker | Candle):
            return []
        frames = self._forming_needed.get(event.instrument)
        if not frames or (not isinstance(event, Trade) and self._has_trades(event.instrument)):
            return []
        found = (self.forming(event.instrument, frame.name) for frame in frames)
        return [candle for candle in found if candle is not None and candle != event]

    def _keep(self, candles: Sequence[Candle]) -> None:
        if candles:
            needed = self._needs()
            stored = [c for c in candles if c.timeframe in ("1s", "1m") or (c.instrument, c.timeframe) in needed]
            self._history.append(stored)

    def _publish(self, event: Event | Alert | None, candles: Sequence[Candle]) -> None:
        for observer in self._observers:
            try:
                if event is not None:
                    observer(event)
                for candle in candles:
                    observer(candle)
            except Exception:  # an observer fails alone
                log.exception("an observer failed")

    @staticmethod
    def _whole(live: _Live, candles: Sequence[Candle]) -> list[Candle]:
        return [c for c in candles if c.open_ns >= live.whole_from.get(c.timeframe, 1 << 62)]

    def _learned(self, instrument: str, learned: Learned) -> None:
        """Shares paid, or were split: what came of earlier prices is computed anew, and a split is told."""
        self._watch.reopen(instrument)
        for split in learned.splits:
            told = Alert(
                kind="system",
                key=f"split:{instrument}:{split.at_ns}",
                name=instrument,
                instrument=instrument,
                fired_ns=self.clock.now_ns(),
                text=split_words(split),
            )
            self.outbox.add([told, msgspec.structs.replace(told, resolved_ns=told.fired_ns)])

    def _disarm(self, alerts: Iterable[Alert]) -> None:
        """A rule that fires once is switched off when it is over; until then it has to tell that."""
        over = {alert.rule_id for alert in alerts if alert.kind == "rule" and alert.resolved_ns is not None}
        for rule in self._rules:
            if rule.id in over and not rule.repeat and rule.enabled:
                self._run(self._store_rule(msgspec.structs.replace(rule, enabled=False)), "switching a rule off")

    # ---------------------------------------------------------------- start, stop

    async def start(self) -> None:
        """Recover and begin; returns once everything is under way, not once it is connected."""
        self._rules = self._rows.rules(self.tenant)
        self._list = list(self._only if self._only is not None else self._rows.watch_list(self.tenant))
        self._watch.restore(self._rows.get(STATE_KEY), self._rows.open_alerts())
        self._watch.library = self.library()
        self.outbox.add(self._watch.set_rules(self._rules))
        self.papers.load()
        begun = asyncio.Event()
        self._main = asyncio.get_running_loop().create_task(self._work(begun), name="engine")
        waiting = asyncio.get_running_loop().create_task(begun.wait())
        await asyncio.wait((self._main, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._main.done():
            await self._main

    async def _work(self, begun: asyncio.Event) -> None:
        """All of it, until cancelled. A fault of ours ends it: `wait` raises that, and `status` shows it."""
        try:
            await self._together(begun)
        except ExceptionGroup as crash:
            log.critical("the engine failed", exc_info=crash)
            fault: Exception = crash
            while isinstance(fault, ExceptionGroup):
                fault = fault.exceptions[0]
            raise fault from crash

    async def _together(self, begun: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self.outbox.run(), name="outbox")
            group.create_task(self.papers.run(), name="paper")
            for service in self._services:
                group.create_task(_service(service), name="service")
            for name, part in self._parts.items():
                group.create_task(part.feed.run(), name=f"feed {name}")
            group.create_task(self._beat(), name="beat")
            group.create_task(self._closing(), name="closing bars")
            group.create_task(self._learn(), name="instruments")
            self._want()
            self._prepare()
            begun.set()

    async def stop(self) -> None:
        """End within 2 s; what was acknowledged is a row, the rest is recovered at the next start."""
        try:
            if self._main is not None:
                with suppress(TimeoutError, WatchHamsterError):
                    async with asyncio.timeout(0.5):
                        await self._rows.put(STATE_KEY, self._watch.state())
                        await self.papers.flush()
                        await self.outbox.flush()
                self._main.cancel()
                with suppress(asyncio.CancelledError):
                    await self._main
                self._main = self._group = None
        finally:
            if self._on_stop is not None:
                await self._on_stop()

    async def replayed(self) -> None:
        """Return when the recording is over and its last bars have had time to close."""
        assert self._recorded is not None
        await self._recorded.ended.wait()
        await asyncio.sleep(1.0)

    def _is_over(self) -> bool:
        """Whether nothing more can come, and that is how it should be."""
        return self._recorded is not None and self._recorded.ended.is_set()

    async def wait(self) -> None:
        """Return when the engine has ended; raises what ended it."""
        if self._main is not None:
            with suppress(asyncio.CancelledError):
                await asyncio.shield(self._main)

    def _run(self, work: Awaitable[object], what: str) -> None:
        """Do something beside; a venue that does not answer is no reason to end."""

        async def guarded() -> None:
            try:
                await work
            except WatchHamsterError as error:
                log.warning("%s: %s", what, error)

        assert self._group is not None
        self._group.create_task(guarded(), name=what)

    # ---------------------------------------------------------------- what is streamed

    def _wanted(self) -> list[str]:
        """Every instrument somebody looks at, in the order of their importance."""
        wanted = [self._focus[0]] if self._focus else []
        wanted += [instrument for rule in self._rules if rule.enabled for instrument in rule.instruments]
        wanted += self.papers.instruments()
        wanted += self._list
        return [i for i in dict.fromkeys(wanted) if split_instrument(i)[0] in self._parts]

    def _want(self) -> None:
        """Stream exactly what is wanted, from the last moment that is known."""
        wanted = self._wanted()
        now_ns = self.clock.now_ns()
        resume: dict[str, int] = {}
        for instrument in [i for i in self._lives if i not in wanted]:
            del self._lives[instrument]
            self.board.forget(instrument)
        for instrument in wanted:
            if instrument not in self._lives:
                resume[instrument] = self._begin(instrument, now_ns)
        frames: dict[str, list[Timeframe]] = {}
        for rule in self._rules:
            if rule.enabled and rule.forming:
                for instrument in rule.instruments:
                    frames.setdefault(instrument, []).append(timeframe(rule.timeframe))
        self._forming_needed = frames
        for name, part in self._parts.items():
            wants = []
            for instrument in wanted:
                venue, symbol = split_instrument(instrument)
                if venue == name:
                    kinds = part.feed.venue.kinds
                    wants.append(Subscription("ticker", symbol))
                    wants.append(
                        Subscription("trade", symbol)
                        if "trade" in kinds
                        else Subscription("candle", symbol, MINUTE.name)
                    )
                    shown = self._focus is not None and self._focus[0] == instrument
                    if "book" in kinds and (shown or instrument in self._watch.books()):
                        wants.append(Subscription("book", symbol))
                    if self._recorded is not None:
                        held = self._recorded.kinds.get(instrument, frozenset())
                        wants = [want for want in wants if want.symbol != symbol or want.kind in held]
            part.feed.set_wants(wants, {i: at for i, at in resume.items() if split_instrument(i)[0] == name})

    def _begin(self, instrument: str, now_ns: int) -> int:
        """Take an instrument up; returns since when its trades are asked for."""
        known: dict[Timeframe, int] = {}  # until when history is known: it is marked by whole minutes
        has_trades = self._has_trades(instrument)
        for frame in STORED if has_trades else (MINUTE,):
            last_ns = self._history.last_ns(instrument, frame.name)
            if last_ns is not None:
                known[frame] = MINUTE.open_ns(frame.next_ns(last_ns))
        since_ns = (
            MINUTE.open_ns(now_ns) if has_trades else self._grid(instrument).settled_ns(MINUTE, now_ns - SETTLE_NS)
        )
        if has_trades and known and now_ns - (first_ns := min(known.values())) <= TRADES_BACK_NS:
            since_ns = min(since_ns, first_ns)
            known.clear()
        live = self._lives[instrument] = _Live(instrument, since_ns, now_ns, self._origin)
        for frame, known_ns in known.items():
            self._fill(live, frame, known_ns, since_ns)
        return since_ns

    def _has_trades(self, instrument: str) -> bool:
        """Whether candles are built here, rather than taken from the venue."""
        return "trade" in self._parts[split_instrument(instrument)[0]].feed.venue.kinds

    def _grid(self, instrument: str) -> Grid:
        """Where an instrument's bars begin and end."""
        venue, symbol = split_instrument(instrument)
        return self._parts[venue].feed.venue.grid(symbol) if venue in self._parts else UTC

    def _fill(self, live: _Live, frame: Timeframe, since_ns: int, until_ns: int) -> None:
        """Ask the venue for candles that are missing there, until it has told or nobody wants them any more."""

        async def work() -> None:
            end_ns = until_ns
            while end_ns > since_ns and self._lives.get(live.instrument) is live:
                begin_ns = max(since_ns, end_ns - FILL_BARS * frame.approximate_ns)
                try:
                    await self._backfill.candles(live.instrument, frame, begin_ns, end_ns)
                except (Unavailable, BadFrame) as error:
                    log.info("%s candles of %s have to wait: %s", frame.name, live.instrument, error)
                    await self.clock.sleep(AGAIN_S)
                else:
                    end_ns = begin_ns

        if self._recorded is None:  # a recording has nothing before it
            self._run(work(), f"{frame.name} candles of {live.instrument}")

    def _refill(self, live: _Live, event_ns: int) -> None:
        """A trade came for a time whose candles are folded for good: the venue's candles replace ours there."""
        for frame in STORED:
            self._run(self._refilled(live, frame, frame.open_ns(event_ns)), f"a late trade of {live.instrument}")

    async def _refilled(self, live: _Live, frame: Timeframe, open_ns: int) -> None:
        part = self._parts[split_instrument(live.instrument)[0]]
        query = part.feed.venue.candles(live.symbol, frame, open_ns, frame.next_ns(open_ns))
        page = await part.caller.call(query, "bulk", market=live.symbol)
        candles = [msgspec.structs.replace(c, revision=1) for c in page.rows if c.closed and c.open_ns == open_ns]
        self._keep(candles)
        self.outbox.add(self._judge_closed(candles))

    def _widen(self, instrument: str, frame: Timeframe) -> None:
        """Build this timeframe live, too; its open candle begins with the minutes of before."""
        live = self._lives.get(instrument)
        if live is None or frame.name in live.whole_from:
            return
        if not self._has_trades(instrument):  # a bar that was not closed when a rule was warmed is told again
            live.whole_from[frame.name] = self._grid(instrument).settled_ns(frame, self.clock.now_ns() - SETTLE_NS)
        elif frame.approximate_ns > DAY.approximate_ns:  # no builder reaches so far: see `_ended`
            live.whole_from[frame.name] = frame.open_ns(self.clock.now_ns())
        elif not live.widening:
            live.widening = True
            self._run(self._widened(live), f"larger candles of {instrument}")

    async def _widened(self, live: _Live) -> None:
        try:
            until_ns = MINUTE.open_ns(self.clock.now_ns()) - MINUTE.approximate_ns
            until_ns = max(until_ns, live.since_ns)
            frames = self._frames(live.instrument)
            day_ns = DAY.open_ns(until_ns)
            recorded = self._recorded is not None  # it has nothing before it: its first bars are not whole
            bars = await self._backfill.candles(live.instrument, MINUTE, day_ns, until_ns, network=not recorded)
            seed = list(bars.candles(live.instrument, MINUTE.name, "backfill"))
            live.builder = live.builder.widened(frames, seed, until_ns)
            for frame in frames:
                begin_ns = frame.open_ns(until_ns)
                if recorded and begin_ns < live.since_ns:
                    begin_ns = frame.next_ns(begin_ns)
                live.whole_from.setdefault(frame.name, max(day_ns, begin_ns))
        except ValueError:
            log.info("larger candles of %s have to wait: it trades too much just now", live.instrument)
        except WatchHamsterError:
            await self.clock.sleep(AGAIN_S)
            raise
        finally:
            live.widening = False

    def _frames(self, instrument: str) -> list[Timeframe]:
        frames = {timeframe(name) for i, name in self._needs() if i == instrument}
        if self._focus and self._focus[0] == instrument:
            frames |= {self._focus[1], DAY}
        if any(frame.approximate_ns > DAY.approximate_ns for frame in self._forming_needed.get(instrument, ())):
            frames.add(DAY)
        return [MINUTE, *(f for f in frames if f not in STORED and f.approximate_ns <= DAY.approximate_ns)]

    # ---------------------------------------------------------------- the beat

    async def _beat(self) -> None:
        while True:
            await self.clock.sleep(1.0)
            now_ns = self.clock.now_ns()
            self._count()
            self.outbox.add(_worded(alert) for alert in self._watch.tick(now_ns))
            self.papers.advance()
            self._prepare()

    async def _closing(self) -> None:
        """Beside the beat: a venue may take its time to answer."""
        while True:
            await self.clock.sleep(1.0)
            await self._close_bars(self.clock.now_ns())

    def _count(self) -> None:
        total = sum(part.feed.messages for part in self._parts.values())
        now = self.clock.monotonic()
        if now > self._counted_at:
            self._rate = (total - self._counted) / (now - self._counted_at)
        self._counted, self._counted_at = total, now

    async def _close_bars(self, now_ns: int) -> None:
        """Ask about bars that no later trade has closed, and say what is known."""
        end_ns = now_ns - SETTLE_NS - max((part.caller.ahead_ns for part in self._parts.values()), default=0)
        minute_ns = MINUTE.open_ns(end_ns)
        now = self.clock.monotonic()
        if minute_ns < self._minute_ns - 2 * MINUTE.approximate_ns:
            self._minute_ns = minute_ns  # the clock was set back
        over = minute_ns > self._minute_ns
        if self._recorded is None:
            self._take_what_is_due()
        if not over and now - self._confirmed_at < CONFIRM_S:
            return
        lives = [live for live in self._lives.values() if self._has_trades(live.instrument)]
        if not over:
            forming = ((live, live.builder.forming(SECOND)) for live in lives)
            lives = [live for live, second in forming if second is not None and second.open_ns + SECOND_NS <= end_ns]
        if not lives:
            if over:
                self._minute_ns = minute_ns
            return
        self._confirmed_at = now
        for venue, part in self._parts.items():
            ours = [live for live in lives if live.instrument.startswith(f"{venue}:")]
            if ours and not await self._confirm(part, ours, end_ns):
                return  # asked again in a moment
        if over:
            self._minute_ns = minute_ns
            self._ended(end_ns)

    def _take_what_is_due(self) -> None:
        """Ask for the settled bars of what has no trades: at once where somebody waits for them, else at a pace."""
        due = {live: self._due(live) for live in self._lives.values() if not self._has_trades(live.instrument)}
        waited = {self._focus[0]} if self._focus is not None else set[str]()
        waited |= {instrument for instrument, _ in self._needs()}
        for live in sorted(due, key=lambda live: live.whole_from[MINUTE.name]):  # the longest unknown first
            if live.asking or not due[live]:
                continue
            if live.instrument not in waited:
                pace = self._bars_pace[split_instrument(live.instrument)[0]]
                if pace.wait_s() > 0:
                    continue
                pace.take()
            live.asking = True
            self._run(self._take(live, due[live]), f"candles of {live.instrument}")

    def _due(self, live: _Live) -> dict[Timeframe, int]:
        """Of an instrument without trades: the timeframes of which bars have settled since they were taken, and up to
        when."""
        frames = [MINUTE, *(timeframe(name) for i, name in self._needs() if i == live.instrument)]
        if self._focus is not None and self._focus[0] == live.instrument:
            frames.append(self._focus[1])
        part = self._parts[split_instrument(live.instrument)[0]]
        grid, settled_ns = self._grid(live.instrument), self.clock.now_ns() - SETTLE_NS - part.caller.ahead_ns
        until = {frame: grid.settled_ns(frame, settled_ns) for frame in frames if frame.name in live.whole_from}
        return {frame: until_ns for frame, until_ns in until.items() if live.whole_from[frame.name] < until_ns}

    async def _take(self, live: _Live, due: Mapping[Timeframe, int]) -> None:
        """Take the venue's closed candles of what is watched, and tell those that had not been told."""
        pause_s = 0.0
        try:
            for frame, until_ns in due.items():
                if self._lives.get(live.instrument) is live and not await self._take_until(live, frame, until_ns):
                    pause_s = AGAIN_S
        except WatchHamsterError as error:
            log.info("candles of %s have to wait: %s", live.instrument, error)
            pause_s = AGAIN_S if isinstance(error, Unavailable) else REFUSED_S
        await self.clock.sleep(pause_s)
        live.asking = False

    async def _take_until(self, live: _Live, frame: Timeframe, until_ns: int) -> bool:
        """Whether the venue has told all of a timeframe's candles up to there."""
        instrument, since_ns = live.instrument, live.whole_from[frame.name]
        bars = await self._backfill.candles(instrument, frame, since_ns, until_ns)
        fetched = self._backfill.fetched_as(instrument, frame)
        spans = await self._backfill.coverage(instrument, fetched, since_ns, until_ns)
        candles = list(bars.candles(instrument, frame.name, "backfill"))
        is_told = not spans or spans[-1].state != "not_fetched"
        if not is_told:
            until_ns = self._grid(instrument).end_ns(frame, candles[-1].open_ns) if candles else since_ns
        live.whole_from[frame.name] = until_ns
        if frame is MINUTE:
            live.bars.tell(candles, since_ns, until_ns)
        for candle in candles:
            self.board.apply(candle)
        self.outbox.add(self._judge_closed(candles))
        self._publish(None, candles)
        return is_told

    def _have_minutes(self, live: _Live) -> None:
        """The day's minutes so far, of which larger open bars are made where there are no trades."""
        day_ns = self._grid(live.instrument).open_ns(DAY, self.clock.now_ns())
        if live.reading or live.bars.is_told_since(day_ns) or self._recorded is not None:
            return
        live.reading = True
        self._run(self._read_minutes(live, day_ns), f"the day's minutes of {live.instrument}")

    async def _read_minutes(self, live: _Live, day_ns: int) -> None:
        try:
            until_ns = live.whole_from[MINUTE.name]
            bars = await self._backfill.candles(live.instrument, MINUTE, day_ns, until_ns)
            live.bars.tell(bars.candles(live.instrument, MINUTE.name, "backfill"), day_ns, max(day_ns, until_ns))
            await self._read_open_minutes(live)
        except WatchHamsterError:
            await self.clock.sleep(AGAIN_S)
            raise
        finally:
            live.reading = False

    async def _read_open_minutes(self, live: _Live) -> None:
        """What has traded since the last settled minute, of which the venue tells with reserve."""
        since_ns, now_ns = live.whole_from[MINUTE.name], self.clock.now_ns()
        grid = self._grid(live.instrument)
        until_ns = grid.end_ns(MINUTE, grid.open_ns(MINUTE, now_ns))
        if not grid.room(MINUTE, since_ns, until_ns):
            return
        part = self._parts[split_instrument(live.instrument)[0]]
        query = part.feed.venue.candles(live.symbol, MINUTE, since_ns, until_ns)
        page = await part.caller.call(query, market=live.symbol)
        since_ns = max(since_ns, live.whole_from[MINUTE.name])  # some may have settled meanwhile
        open_ones = [msgspec.structs.replace(c, closed=False) for c in page.rows if c.open_ns >= since_ns]
        live.bars.tell(open_ones, since_ns, until_ns)

    def _ended(self, end_ns: int) -> None:
        """Weeks, months and years that are over, for the rules on them: the venue's candles are taken."""
        for instrument, name in self._needs():
            frame, live = timeframe(name), self._lives.get(instrument)
            if frame.approximate_ns > DAY.approximate_ns and live is not None and self._has_trades(instrument):
                since_ns, until_ns = live.whole_from.get(name, end_ns), frame.open_ns(end_ns)
                if since_ns < until_ns:
                    self._run(self._long(live, frame, since_ns, until_ns), f"{name} candles of {instrument}")

    async def _long(self, live: _Live, frame: Timeframe, since_ns: int, until_ns: int) -> None:
        bars = await self._backfill.candles(live.instrument, frame, since_ns, until_ns)
        live.whole_from[frame.name] = until_ns
        self.outbox.add(self._judge_closed(list(bars.candles(live.instrument, frame.name, "backfill"))))

    async def _confirm(self, part: Part, lives: Sequence[_Live], end_ns: int) -> bool:
        """Whether the venue has told that nothing is missing before `end_ns`; what was, has come."""
        symbols = [live.symbol for live in lives]
        try:
            tickers = await part.caller.call(part.feed.venue.tickers(symbols), "urgent", 3.0)
        except WatchHamsterError as error:
            log.debug("bars are not confirmed: %s", error)
            return False
        last = {ticker.instrument: ticker.trade_ns or ticker.event_ns for ticker in tickers}
        for live in lives:
            traded_ns = last.get(live.instrument)
            if traded_ns is None:
                continue
            if live.since_ns <= traded_ns and live.builder.last_ns < min(traded_ns, end_ns):
                try:
                    await part.feed.settle(live.instrument, "urgent")
                except (WatchHamsterError, KeyError):
                    continue
            candles = self._whole(live, live.builder.close_until(end_ns))
            if candles:
                self.outbox.add(self._judge_closed(candles))
                self._keep(candles)
                self._publish(None, candles)
            self._mark(part.feed, live, MINUTE.open_ns(end_ns))
        return True

    def _judge_closed(self, candles: Sequence[Candle]) -> list[Alert]:
        now_ns = self.clock.now_ns()
        alerts = [alert for candle in candles for alert in self._watch.observe(candle, now_ns)]
        self.papers.observe(candles)
        if alerts:
            self._disarm(alerts)
        return alerts

    def _mark(self, feed: Feed, live: _Live, until_ns: int) -> None:
        """Extend what is known of an instrument up to here, unless its trades have a hole."""
        whole_ns = feed.whole_since_ns(live.instrument)
        if whole_ns is not None and whole_ns > max(live.marked_ns, live.since_ns):
            hole_ns, live.marked_ns = live.marked_ns, MINUTE.next_ns(MINUTE.open_ns(whole_ns))
            for frame in STORED:
                self._fill(live, frame, hole_ns, live.marked_ns)
        if until_ns > live.marked_ns:
            for frame in STORED:
                self._history.mark(live.instrument, frame.name, live.marked_ns, until_ns)
            for instrument, name in self._needs():
                frame = timeframe(name)
                if instrument == live.instrument and frame in live.builder.timeframes and frame not in STORED:
                    since_ns = max(frame.open_ns(live.marked_ns), live.whole_from[name])
                    if frame.open_ns(until_ns) > since_ns:
                        self._history.mark(instrument, name, since_ns, frame.open_ns(until_ns))
            live.marked_ns = until_ns

    # ---------------------------------------------------------------- rules

    def _prepare(self) -> None:
        """Have larger candles built where they are wanted, and give waiting rules their history."""
        for instrument, name in self._needs():
            self._widen(instrument, timeframe(name))
        shown = [self._focus] if self._focus is not None else []
        open_ones = [*shown, *((i, frame) for i, frames in self._forming_needed.items() for frame in frames)]
        for instrument, frame in open_ones:
            live = self._lives.get(instrument)
            if self._has_trades(instrument):
                self._widen(instrument, min(frame, DAY, key=lambda f: f.approximate_ns))
            elif live is not None:
                self._widen(instrument, frame)
                if frame is not MINUTE:
                    self._have_minutes(live)
        long = {key for key in open_ones if key[1].approximate_ns > DAY.approximate_ns and key[0] in self._lives}
        self._days = {key: days for key, days in self._days.items() if key in long}
        for instrument, frame in long:
            self._have_days(instrument, frame)
        for what, work in self.papers.due():
            self._run(work, what)
        for wanted in self._watch.wanted():
            key = (wanted.rule_id, wanted.instrument)
            live = self._lives.get(wanted.instrument)
            # First the candles, then the history: so no bar falls between them.
            if live is not None and wanted.timeframe in live.whole_from and key not in self._warming:
                self._warming.add(key)
                self._run(self._warmed(wanted, key), f"history of rule {wanted.rule_id}")

    async def _warmed(self, wanted: Wanted, key: tuple[int, str]) -> None:
        frame = timeframe(wanted.timeframe)
        try:
            grid, now_ns = self._grid(wanted.instrument), self.clock.now_ns()
            until_ns = grid.settled_ns(frame, now_ns)
            since_ns = wanted.first_bar_ns
            if since_ns is None:
                from_ns = until_ns if wanted.watched_until_ns is None else min(until_ns, wanted.watched_until_ns)
                since_ns = grid.before_ns(frame, from_ns, wanted.bars)
            bars = await self._history_of(wanted, frame, since_ns, until_ns)
            self.outbox.add(self._watch.warm(wanted.rule_id, wanted.instrument, bars, self.clock.now_ns()))
        except WatchHamsterError:
            await self.clock.sleep(AGAIN_S)
            raise
        finally:
            self._warming.discard(key)

    async def _history_of(self, wanted: Wanted, frame: Timeframe, since_ns: int, until_ns: int) -> Bars:
        """The bars before now. A rule that looks at its own bar only, and has no past, waits for no venue."""
        alone = wanted.bars == 1 and wanted.watched_until_ns is None
        network = self._recorded is None and not alone
        return await self._backfill.candles(wanted.instrument, frame, since_ns, until_ns, network=network)

    def _needs(self) -> set[tuple[str, str]]:
        """Candles that rules and strategies on paper look at: instrument and timeframe."""
        return self._watch.needs() | self.papers.needs()

    def _papers_changed(self) -> None:
        if self._group is not None:
            self._want()
            self._prepare()

    def rules(self) -> list[Rule]:
        """The tenant's rules."""
        return list(self._rules)

    async def save_rule(self, rule: Rule) -> Rule:
        """Store a rule and watch it from now on. Raises `UsageError` where it makes no sense."""
        check(rule, self._watch.library)
        for instrument in rule.instruments:
            await self.find(instrument)
        if rule.created_ns == 0:
            rule = msgspec.structs.replace(rule, created_ns=self.clock.now_ns())
        return await self._store_rule(rule)

    async def _store_rule(self, rule: Rule) -> Rule:
        saved = await self._rows.save_rule(rule)
        self._rules = [r for r in self._rules if r.id != saved.id]
        self._rules.append(saved)
        self._rules.sort(key=lambda r: r.id or 0)
        self._rules_changed()
        return saved

    async def remove_rule(self, rule_id: int) -> None:
        """Forget a rule; what it raised stays."""
        if all(rule.id != rule_id for rule in self._rules):
            raise UsageError("unknown_rule", Text("There is no rule {id}.", {"id": rule_id}))
        await self._rows.remove_rule(rule_id)
        self._rules = [rule for rule in self._rules if rule.id != rule_id]
        self._rules_changed()

    def library(self) -> Library:
        """The saved formulas."""
        return Library.stored(self._rows.get(LIBRARY_KEY))

    def formulas_changed(self) -> None:
        """The saved formulas are others now: rules that use them begin anew."""
        self._watch.library = self.library()
        self._rules_changed()

    def _rules_changed(self) -> None:
        self.outbox.add(self._watch.set_rules(self._rules))
        if self._group is not None:
            self._want()
            self._prepare()

    async def try_rule(self, rule: Rule, since_ns: int, until_ns: int) -> Replay:
        """When a rule would have fired on its first instrument's history."""
        formula = check(rule, self._watch.library)
        frame = timeframe(rule.timeframe)
        instrument = rule.instruments[0]
        grid = self._grid(instrument)
        bars = await self.bars(instrument, rule.timeframe, grid.before_ns(frame, since_ns, formula.warm_up), until_ns)
        return replay(rule, bars, instrument, since_ns, grid, self._watch.library)

    # ---------------------------------------------------------------- markets

    async def instruments(self) -> list[InstrumentInfo]:
        """Everything the venues list, as it was within the last hours."""
        async with self._infos_lock:
            if not self._infos_known:
                await self._read_instruments()
        return list(self._infos.values())

    async def _read_instruments(self) -> None:
        found: dict[str, InstrumentInfo] = {}
        for name, part in self._parts.items():
            venue = part.feed.venue
            if isinstance(venue, Searched):  # what was looked for is kept
                asked = {i: info for i, info in self._infos.items() if split_instrument(i)[0] == name}
                found |= {info.instrument: info for info in venue.known()} | asked
            else:
                infos = await part.caller.call(venue.markets(), "urgent")
                found |= {info.instrument: info for info in infos}
        self._infos, self._infos_known = found, True

    async def _learn(self) -> None:
        """Keep the list of instruments: new ones come, and warnings come and go."""
        while self._recorded is None:
            try:
                async with self._infos_lock:
                    await self._read_instruments()
                await self._name()
            except WatchHamsterError as error:
                log.info("the list of instruments has to wait: %s", error)
                await self.clock.sleep(AGAIN_S)
            else:
                await self.clock.sleep(LISTED_S)

    async def _name(self) -> None:
        """Ask about what is watched of a venue that lists no whole market: nothing else tells its names."""
        for instrument in self._wanted():
            venue, symbol = split_instrument(instrument)
            adapter = self._parts[venue].feed.venue
            if isinstance(adapter, Searched) and instrument not in self._infos:
                with suppress(WatchHamsterError):
                    await self._look_up(instrument, adapter.info(symbol))

    def info(self, instrument: str) -> InstrumentInfo | None:
        """What a venue says of an instrument, once it has been read."""
        return self._infos.get(instrument)

    async def find(self, instrument: str) -> str:
        """The instrument, if a venue lists it or cannot be asked. Raises `UsageError` (`unknown_instrument`)."""
        venue, symbol = split_instrument(instrument, next(iter(self._parts), None))
        name = f"{venue}:{symbol}"
        if venue not in self._parts:
            raise unknown_instrument(name, self._infos, self._parts)
        if isinstance(adapter := self._parts[venue].feed.venue, Searched):
            if name not in self._infos and self._recorded is None:
                await self._look_up(name, adapter.info(symbol))
            return name
        with suppress(Unavailable):
            await self.instruments()
        if self._infos_known and name not in self._infos:
            raise unknown_instrument(name, self._infos, self._parts)
        return name

    async def _look_up(self, name: str, query: Query[InstrumentInfo]) -> None:
        """Ask about one instrument of a venue that lists no whole market."""
        try:
            with suppress(Unavailable):
                self._infos[name] = await self._parts[split_instrument(name)[0]].caller.call(query, "urgent")
        except Rejected as refusal:
            if refusal.code != "unknown_instrument":
                raise
            venue = self._parts[split_instrument(name)[0]].feed.venue
            best = [info.instrument for info in venue.known()] if isinstance(venue, Searched) else []
            raise unknown_instrument(name, [*self._infos, *best], self._parts) from refusal

    def searches(self) -> list[str]:
        """The venues that list no whole market and are asked by text."""
        return [name for name, part in self._parts.items() if isinstance(part.feed.venue, Searched)]

    async def search(self, venue: str, text: str) -> list[InstrumentInfo]:
        """What a venue finds under a text, best first; `info` knows it from now on. Raises what the venue says."""
        part = self._parts[venue]
        assert isinstance(part.feed.venue, Searched)
        found = await part.caller.call(part.feed.venue.search(text), "urgent")
        return [self._infos.setdefault(info.instrument, info) for info in found]

    async def news(self, instrument: str, count: int = 10) -> list[Headline]:
        """Headlines about an instrument, newest first; none where its venue has no news."""
        venue, symbol = split_instrument(instrument)
        part = self._parts.get(venue)
        if part is None or not isinstance(part.feed.venue, Searched) or self._recorded is not None:
            return []
        return await part.caller.call(part.feed.venue.news(symbol, count), "normal")

    def kinds(self, instrument: str) -> tuple[Kind, ...]:
        """What an instrument's venue has of it."""
        part = self._parts.get(split_instrument(instrument)[0])
        return () if part is None else part.feed.venue.kinds

    def session(self, instrument: str) -> Session | None:
        """What an instrument's market is doing now; None where it never closes."""
        venue, symbol = split_instrument(instrument)
        part = self._parts.get(venue)
        return None if part is None else part.feed.venue.session(symbol, self.clock.now_ns())

    def calendar(self, instrument: str) -> Calendar | None:
        """When an instrument's market is open; None where it never closes."""
        venue, symbol = split_instrument(instrument)
        part = self._parts.get(venue)
        return part.feed.venue.calendar(symbol) if part and isinstance(part.feed.venue, Calendared) else None

    def caution(self, venue: str) -> Text | None:
        """What a person has to know before a venue's first use in this home; None once that was accepted.

        What is invented or recorded does not come from the venue.
        """
        part = self._parts.get(venue)
        words = part.feed.venue.caution if part is not None and not self.demo else None
        return words if words is not None and self._rows.get(CAUTIONED.format(venue=venue)) is None else None

    async def accept_caution(self, venue: str) -> None:
        """A person has read a venue's caution: it is not said again in this home."""
        await self._rows.put(CAUTIONED.format(venue=venue), b"1")

    async def bars(self, instrument: str, timeframe_: str, since_ns: int, until_ns: int) -> Bars:
        """Closed candles: from the store, else from the venue, else (no venue in reach) what the store has."""
        frame = timeframe(timeframe_)
        try:
            return await self._backfill.candles(instrument, frame, since_ns, until_ns, priority="urgent")
        except Unavailable:
            return await self._backfill.candles(instrument, frame, since_ns, until_ns, network=False)

    async def coverage(self, instrument: str, timeframe_: str, since_ns: int, until_ns: int) -> list[Span]:
        """Which stretches hold candles, had no trade, or were never fetched."""
        fetched = self._backfill.fetched_as(instrument, timeframe(timeframe_))
        return await self._backfill.coverage(instrument, fetched, since_ns, until_ns)

    def forming(self, instrument: str, timeframe_: str) -> Candle | None:
        """The candle that is still open, if all of it is known."""
        live = self._lives.get(instrument)
        frame = timeframe(timeframe_)
        if live is None:
            return None
        if frame.approximate_ns > DAY.approximate_ns:
            return self._forming_days(live, frame)
        if self._has_trades(instrument):
            candle = live.builder.forming(frame)
            return candle if candle is not None and candle.open_ns >= live.whole_from.get(frame.name, 1 << 62) else None
        if frame is MINUTE:
            return self.board.forming(instrument, frame.name)
        candle = live.bars.forming(frame, self._grid(instrument), self.clock.now_ns(), self.board.ticker(instrument))
        return None if candle is None else msgspec.structs.replace(candle, origin=self._origin)

    def _forming_days(self, live: _Live, frame: Timeframe) -> Candle | None:
        days, grid, now_ns = self._days.get((live.instrument, frame)), self._grid(live.instrument), self.clock.now_ns()
        if days is None or days.candles is None or grid.open_ns(frame, days.until_ns) < grid.settled_ns(frame, now_ns):
            return None
        today = self.forming(live.instrument, DAY.name)
        if today is not None and today.open_ns == days.until_ns:
            candles = [*days.candles, today]
        elif self._has_trades(live.instrument) or grid.room(MINUTE, days.until_ns, now_ns):
            return None
        else:
            candles = days.candles  # nothing trades today, or not yet
        folded = fold(candles, frame, grid)
        return msgspec.structs.replace(folded[-1], closed=False, origin=self._origin) if folded else None

    def watch_list(self) -> list[str]:
        """The tenant's instruments, in the user's order."""
        return list(self._list)

    async def set_watch_list(self, instruments: Sequence[str]) -> None:
        """Watch these, in this order. Raises `UsageError` for one that no venue lists."""
        names = [await self.find(instrument) for instrument in dict.fromkeys(instruments)]
        await self._rows.set_watch_list(names, self.tenant)
        self._list = names
        self._want()

    def focus(self, instrument: str, timeframe_: str) -> None:
        """What the window shows: its book is streamed, and its candle built live."""
        frame = timeframe(timeframe_)
        if self._focus == (instrument, frame):
            return
        self._focus = (instrument, frame)
        if self._group is None:
            return
        self._want()
        self._prepare()

    def _have_days(self, instrument: str, frame: Timeframe) -> None:
        """The days before today, read again when a day has passed."""
        day_ns = self._grid(instrument).open_ns(DAY, self.clock.now_ns() - SETTLE_NS)
        days = self._days.get((instrument, frame))
        if days is None or days.until_ns != day_ns:
            days = self._days[instrument, frame] = _Days(instrument, frame, day_ns)
            self._run(self._read_days(days), f"days of {instrument}")

    async def _read_days(self, days: _Days) -> None:
        try:
            since_ns = self._grid(days.instrument).open_ns(days.frame, days.until_ns)
            bars = await self._backfill.candles(days.instrument, DAY, since_ns, days.until_ns)
            days.candles = list(bars.candles(days.instrument, DAY.name, "backfill"))
        except WatchHamsterError:
            await self.clock.sleep(AGAIN_S)
            if self._days.get((days.instrument, days.frame)) is days:
                del self._days[days.instrument, days.frame]
            raise

    # ---------------------------------------------------------------- alerts

    async def alerts(self, after_id: int = 0, limit: int = 200) -> list[Alert]:
        """Alerts with a larger id, oldest first; with 0 the last ones."""
        return self._rows.alerts(after_id, limit)

    async def acknowledge(self, alert_id: int) -> None:
        """Note that a person has seen it."""
        await self.outbox.acknowledge(alert_id)

    async def deliveries(self, alert_id: int) -> list[Delivery]:
        """How an alert went out."""
        return self._rows.deliveries(alert_id)

    async def resend(self, delivery_id: int) -> None:
        """Send a delivery once more."""
        await self.outbox.resend(delivery_id)

    async def mute(self, until_ns: int | None) -> None:
        """Let nothing leave until then; None ends it."""
        await self.outbox.mute(until_ns)

    @property
    def muted_until_ns(self) -> int | None:
        """Until when nothing leaves."""
        until_ns = self.outbox.muted_until_ns
        return until_ns if until_ns is not None and until_ns > self.clock.now_ns() else None

    async def test_channel(self, channel: str) -> Delivery:
        """Send a marked sample and say what came of it."""
        return await self.outbox.test(channel)

    def told(self, alert: Alert) -> None:
        """An alert has become, or changed, a row: the outbox calls this."""
        self._watch.stored(alert)
        self._publish(alert, ())

    # ---------------------------------------------------------------- the home

    async def layout(self, name: str) -> bytes | None:
        """A saved arrangement of the window."""
        return await self._keeper.layout(name)

    async def save_layout(self, name: str, data: bytes | None) -> None:
        """Keep an arrangement of the window."""
        await self._keeper.save_layout(name, data)

    async def set_secret(self, channel: str, text: str) -> None:
        """Keep a channel's secret address in the keyring, and use it from now on."""
        await self._keeper.set_secret(channel, text)

    async def channels_changed(self) -> None:
        """Use the channels as they are configured now."""
        await self._keeper.channels_changed()

    async def backup(self, path: Path) -> None:
        """Everything but the secrets in one file."""
        await self._keeper.backup(path)

    async def restore(self, path: Path) -> None:
        """Take everything from a backup, and go on with it."""
        await self._keeper.restore(path)
        await self.reread()

    async def reread(self) -> None:
        """The rows have been replaced: watch what they say now."""
        self._rules = self._rows.rules(self.tenant)
        if self._only is None:
            self._list = self._rows.watch_list(self.tenant)
        self.papers.reload()
        self._rules_changed()

    async def away(self) -> Away | None:
        """What happened while nobody watched, said once; None when there was no such time."""
        return await self._keeper.away()

    def show(self) -> bool:
        """Bring the window forward, where there is one."""
        if self.on_show is None:
            return False
        self.on_show()
        return True

    def notify(self, title: str, text: str) -> bool:
        """Show a desktop notification; False while there is nobody to show it."""
        return self.on_notify is not None and self.on_notify(title, text)

    # ---------------------------------------------------------------- for the eye

    def observe(self, observer: Callable[[Event | Alert], None]) -> Callable[[], None]:
        """Be told of every event, closed candle and alert, on the loop, at once. Returns what ends it."""
        self._observers = [*self._observers, observer]

        def end() -> None:
            self._observers = [other for other in self._observers if other is not observer]

        return end

    def metrics(self) -> Metrics:
        """Figures for the status bar."""
        latencies = [p.feed.latency_ms for p in self._parts.values() if p.feed.latency_ms is not None]
        return Metrics(
            {name: part.feed.state for name, part in self._parts.items()},
            max(latencies, default=None),
            self._rate,
            self._process.memory_info().rss / 1e6,
            self._keeper.history_bytes(),
        )

    def status(self) -> StatusNode:
        """The status tree. A venue from which nothing is watched has no line."""
        watched = {split_instrument(instrument)[0] for instrument in self._lives} or set(self._parts)
        main, fault = self._main, None
        if main is not None and main.done() and not main.cancelled():
            fault = main.exception()
        return node(
            self.tenant,
            None,
            *([] if fault is None else [node("engine", "critical", detail=Text(_FAILED, {"problem": repr(fault)}))]),
            node(
                "feeds",
                None,
                *(self._feed_status(name, part.feed) for name, part in self._parts.items() if name in watched),
            ),
            self._rules_status(),
            *self.papers.status(),
            self.outbox.status(),
            *self._keeper.status(),
            detail=Text("simulated") if self.demo else None,
        )

    def _feed_status(self, name: str, feed: Feed) -> StatusNode:
        now_ns = self.clock.now_ns()
        state: State = "muted" if self._is_over() else _FEED_STATES[feed.state]
        if feed.state == "closed" and feed.reason == "connecting":
            state = "pending"
        reason = FEED_REASONS.get(feed.reason, feed.reason)
        children = []
        for live in self._lives.values():
            if not live.instrument.startswith(f"{name}:"):
                continue
            price = self.board.price(live.instrument)
            ticker = self.board.ticker(live.instrument)
            last_ns = max(live.builder.last_ns, (ticker.trade_ns or ticker.event_ns) if ticker else 0)
            age_s = (now_ns - last_ns) / 1e9 if last_ns > 0 else None
            missing = feed.unserved.get(live.instrument)
            session = feed.venue.session(live.symbol, now_ns)
            detail = None if session is None else session_words(session, now_ns)
            if missing:
                detail = Text("no answer for {kinds}", {"kinds": ", ".join(missing)})
            elif price is None and feed.rest_problem is not None:
                detail = feed.rest_problem
            halted = session is not None and session.halted_ns is not None and session.is_open
            refused = price is None and feed.rest_problem is not None
            lamp: State = "warning" if missing or halted or refused else "pending" if price is None else "ok"
            children.append(
                node(live.symbol, lamp, value=price, age_s=None if age_s is None else max(0.0, age_s), detail=detail)
            )
        if isinstance(feed.venue, Guarded) and (admitted := feed.venue.admitted) is not None:
            way = node("quotes", "ok", value="together" if admitted else "one by one", detail=feed.venue.refusal)
            children.append(way)
        age_s = None if feed.last_data_ns is None else max(0.0, (now_ns - feed.last_data_ns) / 1e9)
        return node(
            name,
            state,
            *children,
            value=feed.state,
            age_s=age_s,
            since_ns=feed.since_ns,
            detail=Text(reason, feed.values),
        )

    def _rules_status(self) -> StatusNode:
        children = []
        for status in self._watch.states():
            state: State = "ok"
            detail = None
            if status.error is not None:
                state, detail = "critical", status.error
            elif status.waiting:
                state, detail = "pending", Text("waiting for history")
            elif status.state == "firing":
                state, detail = ("critical" if status.severity == "critical" else "warning"), Text("firing")
            elif status.state == "pending":
                state, detail = "pending", Text("true, not yet for long enough")
            elif status.spent:
                detail = Text("has fired, once")
            value = status.value if not isinstance(status.value, bool) else str(status.value).lower()
            label = f"{status.name} · {status.instrument}"
            children.append(node(label, state, value=value, since_ns=status.since_ns, detail=detail))
        return node("rules", "ok" if not children else None, *children, value=len(self._rules))


class _Markets:
    """The bars of an engine, for strategies on paper."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def grid(self, instrument: str) -> Grid:
        """Where its bars begin and end."""
        return self._engine._grid(instrument)

    def built_from_ns(self, instrument: str, frame: Timeframe) -> int | None:
        """From which moment on its bars are built live and seen whole."""
        live = self._engine._lives.get(instrument)
        return None if live is None else live.whole_from.get(frame.name)

    def closed_until_ns(self, instrument: str, frame: Timeframe) -> int | None:
        """Up to when every bar has been closed and told; None while some of its trades may still come."""
        engine = self._engine
        live = engine._lives.get(instrument)
        if live is None or frame.name not in live.whole_from:
            return None
        if not engine._has_trades(instrument) or frame.approximate_ns > DAY.approximate_ns:
            return live.whole_from[frame.name]  # it moves with what the venue has told
        if engine._recorded is not None:
            return live.builder.closed_ns
        feed = engine._parts[split_instrument(instrument)[0]].feed
        whole_ns = feed.whole_until_ns(instrument)
        if whole_ns is None:
            return None
        closed_ns = live.builder.closed_ns
        return min(whole_ns, closed_ns) if feed.is_filling(instrument) else closed_ns  # REST confirms without a stream

    def whole_since_ns(self, instrument: str) -> int | None:
        """Since when no trade is missing that could be had as a trade."""
        engine = self._engine
        if engine._recorded is not None or not engine._has_trades(instrument):
            return None
        return engine._parts[split_instrument(instrument)[0]].feed.whole_since_ns(instrument)

    async def past(self, instrument: str, frame: Timeframe, since_ns: int, until_ns: int) -> tuple[Bars, int]:
        """Closed bars of before now, and up to when they are all. A recording has none that it does not hold."""
        engine = self._engine
        recorded = engine._recorded is not None
        if since_ns >= until_ns or recorded:
            return Bars.empty(), until_ns
        bars = await engine._backfill.candles(instrument, frame, since_ns, until_ns)
        fetched = engine._backfill.fetched_as(instrument, frame)
        spans = await engine._backfill.coverage(instrument, fetched, since_ns, until_ns)
        if spans and spans[-1].state == "not_fetched":
            until_ns = engine._grid(instrument).open_ns(frame, spans[-1].since_ns)
        return bars.between(since_ns, until_ns), until_ns


_FAILED = "It has failed and watches no more; end it and start it again: {problem}"
_FEED_STATES: Mapping[str, State] = {
    "live": "ok",
    "recovered": "ok",
    "fallback": "warning",
    "reconnecting": "warning",
    "stale": "critical",
    "closed": "unknown",
}


def session_words(session: Session, now_ns: int) -> Text | None:
    """What a market is doing, for people; None while it trades as usual."""
    if session.halted_ns is not None and session.is_open:
        since = dt.datetime.fromtimestamp(session.halted_ns // SECOND_NS, dt.UTC)
        return Text("halted since {time} UTC", {"time": f"{since:%Y-%m-%d %H:%M}"})
    if session.phase == "regular":
        return None
    if session.phase != "closed":
        return Text("pre-market") if session.phase == "pre" else Text("after-market")
    if session.next_open_ns is None:
        return Text("closed")
    hours, minutes = divmod(-(-(session.next_open_ns - now_ns) // MINUTE.approximate_ns), 60)
    if hours < 24:
        return Text("closed, opens in {hours} h {minutes} min", {"hours": hours, "minutes": minutes})
    return Text("closed, opens in {days} d {hours} h", {"days": hours // 24, "hours": hours % 24})


def _worded(alert: Alert) -> Alert:
    """A feed's alert with the sentence of its reason; the watch knows only the word."""
    values = alert.text.values
    word = values.get("reason")
    if alert.kind != "feed" or not isinstance(word, str) or word not in FEED_REASONS:
        return alert  # not a feed's, or worded before, in the row that it was read from
    reason = Text(FEED_REASONS[word], values)
    return msgspec.structs.replace(alert, text=Text(alert.text.message, {"what": values["what"], "reason": reason}))


def unknown_instrument(name: str, known: Iterable[str], venues: Iterable[str]) -> UsageError:
    """The refusal of an instrument that no venue lists, with the nearest one that is."""
    from difflib import get_close_matches

    venue = name.partition(":")[0]
    if venue not in venues:
        hint = Text("Known venues are {names}.", {"names": ", ".join(venues)})
    elif near := get_close_matches(name, list(known), 1, 0.5):
        hint = Text("Did you mean {name}?", {"name": near[0]})
    else:
        hint = Text("Search for it by name in the window.")
    return UsageError("unknown_instrument", Text("{name} is not listed.", {"name": name}), hint)


async def _service(service: Callable[[], Awaitable[None]]) -> None:
    await service()
