"""Everything wired: one home's services, feeds, rules and channels, and the engine they make.

This is the one place that knows every part. The window gets a ready `Engine` from here through the program's door.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from watchhamster.commands import perform
from watchhamster.core.instruments import instrument_of, split_instrument
from watchhamster.core.market import Book, Candle, Ticker, Trade
from watchhamster.core.ports import (
    Clock,
    Kind,
    UsageError,
    WatchHamsterError,
    Wire,
)
from watchhamster.core.secret import Secret
from watchhamster.core.text import Text
from watchhamster.core.timeframes import SECOND_NS, timeframe
from watchhamster.engine.away import Away, Gap, Presence
from watchhamster.engine.bench import Bench
from watchhamster.engine.clock import EventClock, ScaledClock, StillClock, SystemClock
from watchhamster.engine.engine import STATE_KEY, Engine, Part, Recorded
from watchhamster.engine.feed import Feed
from watchhamster.engine.jobs import Firing, Job, Jobs
from watchhamster.engine.outbox import Outbox, Policy
from watchhamster.engine.owner import Owner
from watchhamster.monitor.alerts import Alert, Parcel, Rule, Severity
from watchhamster.monitor.status import StatusNode
from watchhamster.monitor.watch import Watch
from watchhamster.notify.channels import ChannelConfig
from watchhamster.notify.desktop import Show
from watchhamster.notify.render import Message
from watchhamster.services import VENUES, Services, back_up, restore, storage_status, venue_named, verify
from watchhamster.settings import Home, load_translations
from watchhamster.storage.market import Retention
from watchhamster.venues.capture import BadLine, CaptureWire, first_received_ns, read_capture

_STARTED_KEY = "started_before"
FIRST_LIST = ("KRW-BTC", "KRW-ETH", "KRW-XRP", "KRW-SOL", "KRW-DOGE", "KRW-ADA", "KRW-SHIB", "KRW-LINK")
# The real Yahoo is asked about nothing before its caution was read; the built-in one may be.
DEMO_LIST = ("AAPL", "NVDA", "^GSPC", "005930.KS", "000660.KS", "^KS11", "VOD.L", "KRW=X")
PICTURED_NS = 12 * 3600 * SECOND_NS  # before the moment of pictures
_PICTURED: tuple[tuple[str, str, tuple[str, ...], str, Severity], ...] = (
    ("RSI 14 < 30", "rsi(close, 14) < 30", ("upbit:KRW-BTC", "upbit:KRW-ETH"), "5m", "warning"),
    ("SMA 10 × SMA 30", "cross_above(sma(close, 10), sma(close, 30))", ("upbit:KRW-BTC",), "15m", "info"),
    ("XRP −1 %", "close / close[12] - 1 < -0.01", ("upbit:KRW-XRP",), "5m", "warning"),
    ("BTC −0.3 %", "close / close[60] - 1 < -0.003", ("upbit:KRW-BTC",), "1m", "critical"),
)
PICTURED = tuple(  # named in no language
    Rule(
        name=name,
        formula=formula,
        instruments=instruments,
        timeframe=frame,
        cooldown_s=1800.0,
        severity=severity,
        channels=("inbox",),
    )
    for name, formula, instruments, frame, severity in _PICTURED
)
STILL_NS = 1_795_152_642 * SECOND_NS  # 2026-11-20 05:30:42 UTC: the moment of pictures
REPLAY_TAIL_S = 5.0  # a recording's time runs on for so long after its last frame
RECORDED_FRAMES_MAX = 20_000  # of a recording are looked at for the instruments in it


@dataclass(frozen=True)
class Options:
    """How the engine is to run."""

    home: Home
    demo: bool = False  # on the built-in exchange, in this process
    replay: Path | None = None  # through a recorded wire capture
    replay_venue: str = "upbit"
    speed: float = 1.0  # of the recording; infinite: as fast as it can be read
    instruments: tuple[str, ...] = ()  # in place of the watch list
    window: bool = False  # a window shows desktop notifications
    still: bool = False  # the built-in exchange stands still at a fixed moment: for pictures
    clock: Clock = field(default_factory=SystemClock)  # whose time it lives in

    @property
    def place(self) -> Home:
        """Where this run keeps its files: nothing invented is mixed into history. A picture leaves none."""
        if self.replay is not None:
            return Home(self.home.demo.root / "replay" / self.replay.stem)
        return self.home.demo if self.demo else self.home


async def build_engine(options: Options, owner: Owner | None = None) -> Engine:
    """An engine that is ready to start. When it stops it closes what was opened for it."""
    services, clock, leave = await _place(options)
    try:
        engine = await _engine(options, services, clock, leave, owner)
        if options.still and options.demo:
            await _live_through(PICTURED, services, clock)
        return engine
    except BaseException:
        await leave.aclose()
        raise


async def _place(options: Options) -> tuple[Services, Clock, AsyncExitStack]:
    """The files, the clock and the exchange of a run, and how they are left."""
    clock = options.clock
    leave = AsyncExitStack()
    wires: dict[str, Wire] = {}
    place = options.place
    if options.still:
        place = Home(Path(leave.enter_context(tempfile.TemporaryDirectory())))
        clock = StillClock(STILL_NS)
    if options.replay is not None:
        clock, wires = await _recording(options, leave)
    services = Services(place, clock, wires=wires)
    if options.demo:
        from watchhamster.sim import Simulator

        simulator = Simulator(start_ns=STILL_NS, speed=1e-9) if options.still else Simulator(clock=clock)
        await leave.enter_async_context(simulator)
        for venue, url in simulator.venues.items():
            services.use_url(venue, url)
    leave.push_async_callback(services.close)
    await asyncio.to_thread(services.open)
    return services, clock, leave


async def _live_through(rules: tuple[Rule, ...], services: Services, clock: Clock) -> None:
    """Let rules live through the last hours of the market, so that a picture shows what they really raised."""
    desk, watch, backfill, now_ns = services.desk, Watch(), services.backfill(), clock.now_ns()
    watch.set_rules([await desk.save_rule(rule) for rule in rules])
    past: list[Candle] = []
    for wanted in watch.wanted():
        since_ns = now_ns - PICTURED_NS
        first_ns = since_ns - wanted.bars * timeframe(wanted.timeframe).approximate_ns
        bars = await backfill.candles(wanted.instrument, wanted.timeframe, first_ns, now_ns)
        begin = int(bars.open_ns.searchsorted(since_ns))
        watch.warm(wanted.rule_id, wanted.instrument, bars.slice(0, begin))
        past += bars.slice(begin, len(bars)).candles(wanted.instrument, wanted.timeframe, "simulated")
    for candle in sorted(past, key=lambda candle: timeframe(candle.timeframe).next_ns(candle.open_ns)):
        for alert in watch.observe(candle, timeframe(candle.timeframe).next_ns(candle.open_ns)):
            if alert.id is None:
                watch.stored((await desk.add_alert(alert, alert.channels))[0])
            else:
                await desk.update_alert(alert)
    await desk.put(STATE_KEY, watch.state())


async def _recording(options: Options, leave: AsyncExitStack) -> tuple[Clock, dict[str, Wire]]:
    """A capture in place of a venue's sockets, and a clock that lives in its time."""
    path, venue = options.replay, options.replay_venue
    assert path is not None
    start_ns = await asyncio.to_thread(first_received_ns, path)
    if start_ns is None:  # it kept no times: nothing in it may be of the future
        times = await asyncio.to_thread(lambda: [event.event_ns for event in _recorded(path, venue)])
        start_ns = max(times, default=SystemClock().now_ns())
    start_ns -= SECOND_NS
    if math.isfinite(options.speed):
        clock: Clock = ScaledClock(start_ns, options.speed)
        return clock, {venue: CaptureWire(path, clock)}
    jumping = EventClock(start_ns)
    wire = CaptureWire(path, jumping)
    moving = asyncio.get_running_loop().create_task(_move(jumping, wire), name="replay clock")
    leave.callback(moving.cancel)
    return jumping, {venue: wire}


async def _move(clock: EventClock, wire: CaptureWire) -> None:
    """Let time run through the recording and a little beyond, then stand still."""
    moving = asyncio.get_running_loop().create_task(clock.run())
    try:
        await wire.ended.wait()
        await clock.sleep(REPLAY_TAIL_S)
    finally:
        moving.cancel()


async def _engine(
    options: Options, services: Services, clock: Clock, leave: AsyncExitStack, owner: Owner | None
) -> Engine:
    """The parts, put together."""
    desk, settings = services.desk, services.settings
    load_translations(os.environ.get("WATCHHAMSTER_LANGUAGE") or settings.language())
    invented = options.demo or options.replay is not None
    parts = {}
    for name in [options.replay_venue] if options.replay is not None else VENUES:
        caller = services.caller(name)
        feed = Feed(
            caller.venue,
            services.wire(name),
            caller,
            clock,
            lambda event: engine.handle(event),
            random.Random(),
            base_url=services.url(name),
        )
        parts[name] = Part(feed, caller)
    if options.replay is None and desk.get(_STARTED_KEY) is None:  # a first start shows a market, not a form
        if not desk.watch_list():
            first = [instrument_of("upbit", symbol) for symbol in FIRST_LIST]
            first += [instrument_of("yahoo", symbol) for symbol in DEMO_LIST if options.demo]
            await desk.set_watch_list(first)
        await desk.put(_STARTED_KEY, b"1")
    only = [instrument_of(*split_instrument(instrument, "upbit")) for instrument in options.instruments] or None
    recorded = None
    if options.replay is not None:
        kinds = await asyncio.to_thread(recorded_kinds, options.replay, options.replay_venue)
        wire = services.wires[options.replay_venue]
        assert isinstance(wire, CaptureWire)
        described = services.caller(options.replay_venue).venue.described
        infos = [described(split_instrument(instrument)[1]) for instrument in kinds]
        recorded = Recorded(infos, kinds, wire.ended)
        only = only or list(kinds)

    def held(channel: str, alert: Alert, now_ns: int) -> Text | None:
        """Why an alert does not leave through a channel just now."""
        if channel == "desktop" and not settings.on("notifications"):
            return Text("notifications are off")
        quiet = settings.quiet_hours()
        if quiet is not None and alert.severity != "critical" and quiet.hold(now_ns):
            return Text("quiet hours")
        return None

    def show(message: Message, _parcel: Parcel) -> bool:
        return engine.notify(message.title, message.tree)

    outbox = Outbox(
        desk,
        clock,
        await services.channels(show if options.window else None),
        policy=Policy(price_lifetime_s=60.0 * settings.number("alert_lifetime_minutes")),
        on_alert=lambda alert: engine.told(alert),
        hold=held,
    )
    keeper = Keeper(services, outbox, clock, show if options.window else None)

    async def answer(command: str, arguments: dict[str, Any]) -> Any:
        if services.home != options.home and command.startswith("data."):  # what was recorded is not for the demo
            real = Services(options.home, SystemClock())
            await asyncio.to_thread(real.open)
            try:
                return await perform(command, arguments, real)
            finally:
                await real.close()
        return await perform(command, arguments, services, engine)

    async def serve() -> None:
        assert owner is not None
        await owner.serve(answer)

    @cache
    def bench() -> Bench:
        from watchhamster.workshop import Workshop  # the kernel comes with it, which few sessions need

        workshop = Workshop(
            services.home,
            services.desk,
            lambda name, values: perform(name, values, services, engine),
            settings.language,
        )
        leave.push_async_callback(workshop.close)
        return workshop

    async def end() -> None:
        await leave.aclose()
        if owner is not None:
            owner.release()

    services_beside: list[Callable[[], Awaitable[None]]] = [] if owner is None else [serve]
    if options.replay is None:
        services_beside += [keeper.presence.run, keeper.jobs.run]

    engine = Engine(
        clock=clock,
        parts=parts,
        history=services.market,
        rows=desk,
        outbox=outbox,
        backfill=services.backfill(),
        settings=settings,
        keeper=keeper,
        origin="simulated" if invented else "live",
        demo=invented,
        only=only,
        recorded=recorded,
        services=services_beside,
        bench=bench,
        on_stop=end,
    )
    return engine


def recorded_kinds(path: Path, venue: str) -> dict[str, frozenset[Kind]]:
    """The instruments a recording is about, and what it has of them: it cannot be asked for a list."""
    names: dict[type, Kind] = {Trade: "trade", Book: "book", Ticker: "ticker"}
    found: dict[str, frozenset[Kind]] = {}
    for event in _recorded(path, venue):
        found[event.instrument] = found.get(event.instrument, frozenset()) | {names[type(event)]}
    return found


def _recorded(path: Path, venue: str) -> Iterator[Trade | Book | Ticker]:
    """What the first frames of a recording say."""
    spec = venue_named(venue)
    for entry in islice(read_capture(path), RECORDED_FRAMES_MAX):
        if not isinstance(entry, BadLine):
            with suppress(WatchHamsterError):
                for event in spec.decode(entry.frame, entry.received_ns):
                    if isinstance(event, Trade | Book | Ticker):
                        yield event


class Keeper:
    """What the window asks of a home besides the market, and what keeps a home in order: presence and daily jobs."""

    def __init__(self, services: Services, outbox: Outbox, clock: Clock, show: Show | None = None) -> None:
        self.services = services
        self._show = show
        self._outbox = outbox
        self._clock = clock
        self._shown_gap: Gap | None = None
        self.presence = Presence(services.desk, clock, unknown_s=self._unknown_s, on_gap=lambda _gap: self._woken())
        self.jobs = Jobs(self._daily(), services.desk, clock, on_error=self._job_failed)
        services.settings.observe(lambda *_: self.jobs.set_jobs(self._daily()), "backup_time", "time_zone")

    def _daily(self) -> list[Job]:
        zone = self.services.settings.text("time_zone")
        hour, minute = self.services.settings.text("backup_time").split(":")
        return [
            Job("backup", f"{int(minute)} {int(hour)} * * *", self._daily_backup, zone),
            Job("verify", "40 4 * * *", self._verify, zone),
            Job("retention", "20 * * * *", self._tidy, zone, once_a="minute"),
        ]

    def _woken(self) -> None:
        self.jobs.wake()
        self._outbox.wake()

    async def _unknown_s(self, since_ns: int, until_ns: int) -> float:
        """The longest stretch of a watched instrument's minutes that was not fetched."""
        longest = 0
        for instrument in self.services.desk.watch_list():
            spans = await self.services.backfill().coverage(instrument, "1m", since_ns, until_ns)
            longest = max(longest, sum(s.until_ns - s.since_ns for s in spans if s.state == "not_fetched"))
        return longest / SECOND_NS

    async def away(self) -> Away | None:
        """What happened while nobody watched, said once a gap."""
        if self.presence.gap is None or self.presence.gap == self._shown_gap:
            return None
        self._shown_gap = self.presence.gap
        return await self.presence.away()

    async def _daily_backup(self, _firing: Firing) -> None:
        if not self.services.settings.on("backup"):
            return
        await self.services.desk.back_up_daily()
        kept = self.services.settings.number("backups_kept")
        copies = sorted(self.services.home.backups.glob("watchhamster-*.db"))
        for old in copies[:-kept]:
            old.unlink()

    async def _verify(self, _firing: Firing) -> None:
        """Damage is found within a day, put aside and asked for again."""
        await verify(self.services, network=True)

    async def _tidy(self, _firing: Firing) -> None:
        """Nothing grows unseen: history within its limit and age, alerts within theirs."""
        settings = self.services.settings
        retention = Retention(
            max_bytes=settings.number("history_limit_mb") * 1_000_000, keep_days=settings.retention_days()
        )
        await asyncio.to_thread(self.services.market.prune, retention)
        await self.services.desk.tidy(settings.number("alert_retention_days"))

    def _job_failed(self, job: Job, error: str) -> None:
        now_ns = self._clock.now_ns()
        text = Text("The job {name} failed: {error}", {"name": job.name, "error": error})
        self._outbox.add([Alert(kind="system", key=f"job:{job.name}", name=job.name, fired_ns=now_ns, text=text)])

    async def layout(self, name: str) -> bytes | None:
        """A saved arrangement."""
        return self.services.desk.layout(name)

    async def save_layout(self, name: str, data: bytes | None) -> None:
        """Keep an arrangement."""
        await self.services.desk.save_layout(name, data)

    async def set_secret(self, channel: str, text: str) -> None:
        """Keep a channel's secret address (and, behind a space, a webhook's signing key), and use it from now on."""
        url, _, key = text.strip().partition(" ")
        known = {config.name: config.type for config in self.services.channel_configs()}
        kind = known.get(channel, channel)
        await self.services.keep_channel(channel, kind, Secret(url), Secret(key.strip()) if key.strip() else None)
        await self.channels_changed()

    async def channels_changed(self) -> None:
        """Use the channels as they are configured now."""
        self._outbox.set_channels(await self.services.channels(self._show))

    def channels(self) -> list[ChannelConfig]:
        """The channels there are."""
        return self.services.channel_configs()

    async def backup(self, path: Path) -> None:
        """Everything but the secrets in one file."""
        await back_up(self.services, path)

    async def restore(self, path: Path) -> None:
        """Take everything from a backup."""
        await restore(self.services, path)

    def history_bytes(self) -> int:
        """How much the candles take on the disk."""
        return self.services.market.size()

    def status(self) -> Iterator[StatusNode]:
        """The storage and system branches of the tree."""
        yield self.jobs.status()
        yield storage_status(self.services)


async def run_headless(
    options: Options,
    seconds: float | None,
    show: Callable[[StatusNode, bool], None],
    prepare: Callable[[Engine], Awaitable[None]] | None = None,
) -> None:
    """Watch until told to stop, or for so long, or until a recording is over; show the tree when a state changes.

    `prepare` gets the engine before it starts.
    """
    options.home.prepare()
    with Owner.claim(options.home) as owner:
        begin = asyncio.get_running_loop().create_task
        over: list[asyncio.Task[None]] = [begin(until_signalled())]
        engine = await build_engine(options, owner)
        try:
            starting = begin(_start(engine, options.instruments, prepare))
            done, _ = await asyncio.wait([*over, starting], return_when=asyncio.FIRST_COMPLETED)
            if starting in done:
                starting.result()
                done.discard(starting)
                over.append(begin(engine.wait()))
                if seconds is not None:
                    over.append(begin(asyncio.sleep(seconds)))
                elif options.replay is not None:
                    over.append(begin(engine.replayed()))
            shown: object = None
            while not done:
                tree = engine.status()
                if (states := list(_states(tree))) != shown:
                    shown = states
                    show(tree, False)
                done, _ = await asyncio.wait(over, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
            show(engine.status(), True)
            for task in done:
                task.result()
        finally:
            for task in (*over, starting):
                task.cancel()
            await engine.stop()


async def _start(
    engine: Engine, instruments: Sequence[str], prepare: Callable[[Engine], Awaitable[None]] | None = None
) -> None:
    for instrument in instruments:
        await engine.find(instrument)
    if prepare is not None:
        await prepare(engine)
    await engine.start()


def _states(tree: StatusNode) -> Iterator[tuple[str, str]]:
    yield tree.name, tree.state
    for child in tree.children:
        yield from _states(child)


async def until_signalled() -> None:
    """Return at SIGINT or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows raises KeyboardInterrupt instead
            loop.add_signal_handler(number, stop.set)
    await stop.wait()


def speed_of(text: str) -> float:
    """How fast a recording is played: `1`, `10`, `10x`, or `max`. Raises `UsageError` (`bad_speed`)."""
    if text == "max":
        return float("inf")
    try:
        value = float(text.removesuffix("x"))
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UsageError("bad_speed", Text("{text!r} is not a speed.", {"text": text}), Text("Write 1, 10 or max."))
    return value
