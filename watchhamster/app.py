"""Everything wired: settings and stores of a home, venues and channels, and the engine they make.

This is the one place that knows every part. The window gets a ready `Engine` from here through the program's door; the
command line asks here for what it prints. Commands that only read open the stores beside whoever owns the home;
commands that write go through `act`, which hands them to the owner if there is one.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import math
import os
import random
import shutil
import signal
import ssl
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import numpy as np

from watchhamster import __version__
from watchhamster.core.bars import Bars, Span
from watchhamster.core.candles import CandleBuilder
from watchhamster.core.instruments import InstrumentInfo, instrument_of, split_instrument
from watchhamster.core.market import BadFrameSeen, Book, Candle, Event, FeedChanged, Ticker, Trade
from watchhamster.core.ports import (
    BadFrame,
    Clock,
    Rejected,
    StoreError,
    Unavailable,
    UsageError,
    Venue,
    WatchHamsterError,
    Wire,
)
from watchhamster.core.secret import Secret
from watchhamster.core.text import Text, say
from watchhamster.core.timeframes import SECOND_NS, Timeframe
from watchhamster.core.timeframes import timeframe as timeframe_of
from watchhamster.credentials import Absent, find_credentials
from watchhamster.engine.away import Away, Gap, Presence
from watchhamster.engine.backbone import MarketDataBackbone as Backbone
from watchhamster.engine.backbone import VenueParts
from watchhamster.engine.backfill import Backfill
from watchhamster.engine.clock import EventClock, ScaledClock, SystemClock
from watchhamster.engine.engine import Engine, Part, unknown_instrument
from watchhamster.engine.feed import FEED_REASONS, Feed
from watchhamster.engine.jobs import Firing, Job, Jobs
from watchhamster.engine.limits import Limiter
from watchhamster.engine.outbox import Outbox, end_of_day_ns
from watchhamster.engine.owner import Owner, ask
from watchhamster.engine.routing import Caller
from watchhamster.formula import Value, compile_many
from watchhamster.monitor.alerts import Alert, Rule, Severity
from watchhamster.monitor.replay import replay
from watchhamster.monitor.status import State, StatusNode, node, to_record, worst
from watchhamster.monitor.watch import check
from watchhamster.notify.channels import BUILT_IN, ChannelConfig, make_channel
from watchhamster.notify.http import Poster, check_url
from watchhamster.notify.webhook import new_key
from watchhamster.settings import Home, Settings, load_translations, venue_url
from watchhamster.storage.candle_files import export as write_export
from watchhamster.storage.candle_files import import_file
from watchhamster.storage.desk import DeskStore
from watchhamster.storage.market import MarketStore, Retention
from watchhamster.venues.capture import BadLine, CaptureWire, first_received_ns, read_capture
from watchhamster.venues.upbit import Upbit, parse_candles, price_steps
from watchhamster.venues.wire import HttpWire

log = logging.getLogger(__name__)

ONE_SHOT_S = 5.0  # a command that asks once waits so long for a venue
VENUES: Final[Mapping[str, Callable[[], Venue]]] = {"upbit": Upbit}
FEES: Final = {"upbit": 0.0005}
DEMO_LIST = ("KRW-BTC", "KRW-ETH", "KRW-XRP", "KRW-SOL", "KRW-DOGE", "KRW-ADA", "KRW-SHIB", "KRW-LINK")
USER_AGENT = f"WatchHamster/{__version__}"
REPLAY_TAIL_S = 5.0  # a recording's time runs on for so long after its last frame
RECORDED_FRAMES_MAX = 20_000  # of a recording are looked at for the instruments in it
_CHANNELS_KEY = "channels"


# ---------------------------------------------------------------- a home and what is in it


def find_home(given: Path | None = None) -> Home:
    """The home of `--home`, of WATCHHAMSTER_HOME, or the platform's."""
    return Home.find(given)


def prepare(home: Home, *, debug: bool = False) -> None:
    """Language and log, before anything can fail in words."""
    load_translations(os.environ.get("WATCHHAMSTER_LANGUAGE", "auto"))
    level = logging.DEBUG if debug else logging.WARNING
    logging.basicConfig(stream=sys.stderr, level=level, format="%(levelname)s %(name)s: %(message)s")


@dataclass(frozen=True)
class Options:
    """How the engine is to run."""

    home: Home
    demo: bool = False  # on the built-in exchange, in this process
    replay: Path | None = None  # through a recorded wire capture
    replay_venue: str = "upbit"
    speed: float = 1.0  # of the recording; infinite: as fast as it can be read
    instruments: tuple[str, ...] = ()  # in place of the watch list
    still: bool = False  # the built-in exchange stands still at a fixed moment: for pictures

    @property
    def place(self) -> Home:
        """Where this run keeps its files: nothing invented is mixed into history."""
        if self.replay is not None:
            return Home(self.home.demo.root / "replay" / self.replay.stem)
        return self.home.demo if self.demo else self.home


class Services:
    """The stores, the settings and the venues of one home."""

    def __init__(self, home: Home, clock: Clock, *, wires: Mapping[str, Wire] | None = None) -> None:
        self.home = home
        self.clock = clock
        self.desk = DeskStore(home.desk_db, clock)
        self.market = MarketStore(home.market_db, clock)
        self.wires: dict[str, Wire] = dict(wires or {})
        self._urls: dict[str, str] = {}
        self._callers: dict[str, Caller] = {}
        self._settings: Settings | None = None
        self.poster = Poster()

    @property
    def settings(self) -> Settings:
        """The settings of this home."""
        if self._settings is None:
            self._settings = Settings(self.desk)
        return self._settings

    def open(self) -> None:
        """Open both files for writing; the caller owns the home."""
        self.home.prepare()
        self.desk.open()
        self.market.open()

    async def close(self) -> None:
        """Flush and close everything."""
        for wire in self.wires.values():
            await wire.close()
        await self.poster.close()
        await asyncio.to_thread(self._close_files)

    def _close_files(self) -> None:
        self.market.close()
        self.desk.close()

    def url(self, venue: str) -> str:
        """A venue's base URL: of the environment, the settings, or its own."""
        return self._urls.get(venue) or self.settings.venue_url(venue) or _venue(venue).url

    def use_url(self, venue: str, url: str) -> None:
        """Use another base URL: the built-in exchange's."""
        self._urls[venue] = url

    def wire(self, venue: str) -> Wire:
        """A venue's sockets."""
        if venue not in self.wires:
            self.wires[venue] = HttpWire(self.url(venue), venue, USER_AGENT, _trust())
        return self.wires[venue]

    def caller(self, venue: str) -> Caller:
        """The one way to a venue's REST interface. Raises `UsageError` (`unknown_venue`)."""
        if venue not in self._callers:
            spec = _venue(venue)
            bans = self.desk.get(f"bans:{venue}")
            limiter = Limiter(
                self.clock,
                spec.quotas,
                bans=msgspec.json.decode(bans, type=dict[str, int]) if bans else None,
                on_ban=lambda state: self._keep_bans(venue, state),
            )
            self._callers[venue] = Caller(spec, self.wire(venue), limiter)
        return self._callers[venue]

    def _keep_bans(self, venue: str, state: Mapping[str, int]) -> None:
        """A block outlives a restart."""
        with suppress(RuntimeError):  # no loop: a one-shot command is ending
            loop = asyncio.get_running_loop()
            task = loop.create_task(self.desk.put(f"bans:{venue}", msgspec.json.encode(state)))
            _pending.add(task)
            task.add_done_callback(_pending.discard)

    def backfill(self) -> Backfill:
        """History, store first."""
        return Backfill(self.caller, self.market, self.clock)

    # -- channels

    def channel_configs(self) -> list[ChannelConfig]:
        """The built-in channels and the user's own."""
        stored = self.desk.get(_CHANNELS_KEY)
        own = msgspec.json.decode(stored, type=list[ChannelConfig]) if stored else []
        return [*BUILT_IN, *own]

    async def channels(self) -> list[Any]:
        """The channels, with their secrets. One whose secret is missing or locked says so and is left out."""
        zone = self.settings.text("time_zone")
        ready = []
        for config in self.channel_configs():
            if not config.enabled:
                continue
            try:
                ready.append(make_channel(config, await self._secrets(config), self.poster, self.clock, zone))
            except WatchHamsterError as error:
                log.warning("channel %s: %s", config.name, error)
        return ready

    async def _secrets(self, config: ChannelConfig) -> dict[str, Secret]:
        if not config.secrets:
            return {}
        place = await self.credentials()
        found = {}
        for purpose, name in config.secrets.items():
            with suppress(Absent):
                found[purpose] = await place.get(config.tenant, name)
        return found

    async def credentials(self) -> Any:
        """Where this home keeps its secrets."""
        return await find_credentials(self.home.vault, self.settings.text("credentials_in"))  # type: ignore[arg-type]


_pending: set[asyncio.Task[None]] = set()


def _venue(name: str) -> Venue:
    make = VENUES.get(name)
    if make is None:
        raise UsageError(
            "unknown_venue",
            Text("{venue!r} is not a venue here.", {"venue": name}),
            Text("Known ones are {names}.", {"names": ", ".join(VENUES)}),
        )
    return make()


def _trust() -> bool | ssl.SSLContext:
    """The system's authorities, and one of the user's own (WATCHHAMSTER_CA): the simulator's, or a company's proxy."""
    authority = os.environ.get("WATCHHAMSTER_CA")
    if not authority:
        return True
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:
        raise UsageError(
            "bad_ca",
            Text("WATCHHAMSTER_CA names {path}, which cannot be read: {reason}.", {"path": authority, "reason": error}),
            Text("Name a PEM file, or unset it."),
        ) from error


@asynccontextmanager
async def _writing(home: Home) -> AsyncIterator[Services]:
    """The home's files for writing, by a command that owns the home while it works. Raises `Owned`."""
    home.prepare()
    owner = Owner.claim(home)
    services = Services(home, SystemClock())
    try:
        services.open()
        yield services
    finally:
        await services.close()
        owner.release()


@contextmanager
def _reading(home: Home) -> Iterator[MarketStore]:
    """The candles, beside whoever writes them."""
    store = MarketStore(home.market_db, SystemClock())
    store.open(read_only=True)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _reading_desk(home: Home) -> Iterator[DeskStore]:
    store = DeskStore(home.desk_db, SystemClock())
    store.open(read_only=True)
    try:
        yield store
    finally:
        store.close()


# ---------------------------------------------------------------- the engine


async def build_engine(options: Options, owner: Owner | None = None) -> Engine:
    """An engine that is ready to start. When it stops it closes what was opened for it."""
    services, clock, leave = await _place(options)
    try:
        return await _engine(options, services, clock, leave, owner)
    except BaseException:
        await leave.aclose()
        raise


async def _place(options: Options) -> tuple[Services, Clock, AsyncExitStack]:
    """The files, the clock and the exchange of a run, and how they are left."""
    clock: Clock = SystemClock()
    leave = AsyncExitStack()
    wires: dict[str, Wire] = {}
    if options.replay is not None:
        clock, wires = await _recording(options, leave)
    services = Services(options.place, clock, wires=wires)
    if options.demo:
        from watchhamster.sim import Simulator

        simulator = await leave.enter_async_context(Simulator())
        for venue, url in simulator.venues.items():
            services.use_url(venue, url)
    leave.push_async_callback(services.close)
    await asyncio.to_thread(services.open)
    return services, clock, leave


async def _recording(options: Options, leave: AsyncExitStack) -> tuple[Clock, dict[str, Wire]]:
    """A capture in place of a venue's sockets, and a clock that lives in its time."""
    assert options.replay is not None
    start_ns = await asyncio.to_thread(first_received_ns, options.replay)
    start_ns = SystemClock().now_ns() if start_ns is None else start_ns - SECOND_NS
    if math.isfinite(options.speed):
        clock: Clock = ScaledClock(start_ns, options.speed)
        return clock, {options.replay_venue: CaptureWire(options.replay, clock)}
    jumping = EventClock(start_ns)
    wire = CaptureWire(options.replay, jumping)
    moving = asyncio.get_running_loop().create_task(_move(jumping, wire), name="replay clock")
    leave.callback(moving.cancel)
    return jumping, {options.replay_venue: wire}


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
    if options.demo and not desk.watch_list():
        await desk.set_watch_list([instrument_of("upbit", symbol) for symbol in DEMO_LIST])
    only = [instrument_of(*split_instrument(instrument, "upbit")) for instrument in options.instruments] or None
    known = None
    if options.replay is not None:
        known = await asyncio.to_thread(recorded_instruments, options.replay, options.replay_venue)
        only = only or [info.instrument for info in known]

    def held(channel: str, alert: Alert, now_ns: int) -> Text | None:
        """Why an alert does not leave through a channel just now."""
        if channel == "desktop" and not settings.on("notifications"):
            return Text("notifications are off")
        quiet = settings.quiet_hours()
        if quiet is not None and alert.severity != "critical" and quiet.hold(now_ns):
            return Text("quiet hours")
        return None

    outbox = Outbox(desk, clock, await services.channels(), on_alert=lambda alert: engine.told(alert), hold=held)
    keeper = Keeper(services, outbox, clock)

    async def serve() -> None:
        assert owner is not None
        await owner.serve(lambda command, arguments: perform(command, arguments, services, engine))

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
        known=known,
        services=services_beside,
        on_stop=end,
    )
    return engine


def recorded_instruments(path: Path, venue: str) -> list[InstrumentInfo]:
    """The instruments a recording is about, by their symbols: it has no list of names."""
    spec = _venue(venue)
    found: dict[str, None] = {}
    for number, entry in enumerate(read_capture(path)):
        if number >= RECORDED_FRAMES_MAX:
            break
        if not isinstance(entry, BadLine):
            with suppress(WatchHamsterError):
                for event in spec.decode(entry.frame, entry.received_ns):
                    if isinstance(event, Trade | Book | Ticker | Candle):
                        found[event.instrument] = None
    infos = []
    for instrument in found:
        symbol = split_instrument(instrument)[1]
        quote, _, base = symbol.partition("-")
        infos.append(InstrumentInfo(instrument, symbol, base, quote, {}, price_steps(symbol), Decimal(0)))
    return infos


class Keeper:
    """What the window asks of a home besides the market, and what keeps a home in order: presence and daily jobs."""

    def __init__(self, services: Services, outbox: Outbox, clock: Clock) -> None:
        self.services = services
        self._outbox = outbox
        self._clock = clock
        self._shown_gap: Gap | None = None
        self.presence = Presence(services.desk, clock, unknown_s=self._unknown_s, on_gap=lambda _gap: self._woken())
        settings = services.settings
        zone = settings.text("time_zone")
        hour, minute = settings.text("backup_time").split(":")
        self.jobs = Jobs(
            [
                Job("backup", f"{int(minute)} {int(hour)} * * *", self._daily_backup, zone),
                Job("retention", "20 * * * *", self._tidy, zone, once_a="minute"),
            ],
            services.desk,
            clock,
            on_error=self._job_failed,
        )

    def _woken(self) -> None:
        self.jobs.wake()
        self._outbox.wake()

    async def _unknown_s(self, since_ns: int, until_ns: int) -> float:
        """The longest stretch of a watched instrument's minutes that was not fetched."""
        longest = 0
        for instrument in self.services.desk.watch_list():
            spans = await self.services.market.coverage(instrument, "1m", since_ns, until_ns)
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
        """Keep a channel's secret address, and use it from now on."""
        config = next((c for c in self.services.channel_configs() if c.name == channel), None)
        if config is None or "url" not in config.secrets:
            raise UsageError(
                "unknown_channel",
                Text("There is no channel {name!r} with an address.", {"name": channel}),
                Text("Add it first: watchhamster alert channel NAME --type webhook."),
            )
        place = await self.services.credentials()
        await place.set(config.tenant, config.secrets["url"], Secret(text))
        await self.channels_changed()

    async def channels_changed(self) -> None:
        """Use the channels as they are configured now."""
        self._outbox.set_channels(await self.services.channels())

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


def storage_status(services: Services) -> StatusNode:
    """How the files are: what waits, what was put aside, how near the limit they are."""
    state = services.market.state
    lamps: dict[str, State] = {
        "ok": "ok",
        "behind": "warning",
        "locked": "warning",
        "full": "critical",
        "failed": "critical",
    }
    size_mb = services.market.size() / 1e6
    limit_mb = services.settings.number("history_limit_mb")
    near: State = "warning" if size_mb > 0.95 * limit_mb else "ok"
    children = [
        node(
            "history",
            worst([lamps.get(state.state, "warning"), near]),
            value=f"{size_mb:,.0f} MB",
            since_ns=state.since_ns,
            detail=state.detail or Text("of {limit} MB", {"limit": limit_mb}),
        ),
        *(
            node("damaged file", "warning", detail=notice.text, since_ns=notice.at_ns)
            for notice in (*services.market.notices, *services.desk.notices)
        ),
    ]
    return node("storage", None, *children)


# ---------------------------------------------------------------- headless


async def run_headless(options: Options, seconds: float | None, show: Callable[[StatusNode, bool], None]) -> None:
    """Watch until told to stop, or for so long, or until a recording is over; show the tree when a state changes."""
    options.home.prepare()
    owner = Owner.claim(options.home)
    engine = await build_engine(options, owner)
    for instrument in options.instruments:
        await engine.find(instrument)
    await engine.start()
    try:
        begin = asyncio.get_running_loop().create_task
        over = [begin(until_signalled()), begin(engine.wait())]
        if seconds is not None:
            over.append(begin(asyncio.sleep(seconds)))
        shown: object = None
        while True:
            done, _ = await asyncio.wait(over, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
            tree = engine.status()
            if done:
                break
            if (states := list(_states(tree))) != shown:
                shown = states
                show(tree, False)
        for task in over:
            task.cancel()
        show(engine.status(), True)
        for task in done:
            task.result()
    finally:
        await engine.stop()


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


class Played(msgspec.Struct):
    """What a recording held."""

    lines: int = 0
    frames: int = 0
    counts: Counter[str] = msgspec.field(default_factory=Counter)
    problems: list[Problem] = msgspec.field(default_factory=list)
    first_ns: int | None = None
    last_ns: int | None = None

    @property
    def market_seconds(self) -> float:
        """How long the recording lasted."""
        return 0.0 if self.first_ns is None or self.last_ns is None else (self.last_ns - self.first_ns) / 1e9


class Problem(msgspec.Struct, frozen=True):
    """A line that could not be read."""

    line: int
    reason: str


async def replay_capture(
    file: Path, venue: str, speed: float, show: Callable[[Event], None] | None, progress: Callable[[str], None]
) -> Played:
    """Read a capture through the venue's decoder, at its own pace times `speed`, showing every event.

    What cannot be read is an event too (`bad_frame`) and a problem of the summary. Raises `UsageError`
    (`nothing_readable`) when no line of it could be.
    """
    spec = _venue(venue)
    clock = SystemClock()
    played = Played()
    began = clock.monotonic()
    for entry in read_capture(file):
        played.lines += 1
        if isinstance(entry, BadLine):
            played.problems.append(Problem(entry.line, entry.reason))
            _show_bad(show, None, entry.reason, entry.sample, venue)
            continue
        played.frames += 1
        if entry.received_ns is not None:
            played.first_ns = entry.received_ns if played.first_ns is None else played.first_ns
            played.last_ns = entry.received_ns
            if math.isfinite(speed):
                ahead_s = played.market_seconds / speed - (clock.monotonic() - began)
                if ahead_s > 0:
                    await clock.sleep(ahead_s)
        try:
            events = spec.decode(entry.frame, entry.received_ns)
        except BadFrame as bad:
            played.problems.append(Problem(played.lines, bad.reason))
            played.counts["bad_frame"] += 1
            _show_bad(show, entry.received_ns, bad.reason, bad.sample, venue)
            continue
        except Rejected as refusal:
            played.counts["refusal"] += 1
            progress(f"{file}:{played.lines}: {say(refusal.text)}")
            continue
        for event in events:
            played.counts[type(event).__name__.lower()] += 1
            if show is not None:
                show(event)
        if show is None and played.frames % 50_000 == 0:
            progress(f"{played.frames:,}")
    if played.frames == 0 or (played.problems and sum(played.counts.values()) == played.counts["bad_frame"]):
        first = played.problems[0] if played.problems else Problem(1, "the file is empty")
        raise UsageError(
            "nothing_readable",
            Text(
                "No line of {file} could be read; line {line}: {reason}.",
                {"file": str(file), "line": first.line, "reason": first.reason},
            ),
            Text('A capture has lines of {{"received": seconds, "frame": text}}, or is a JSON array of frames.'),
        )
    return played


def _show_bad(
    show: Callable[[Event], None] | None, received_ns: int | None, reason: str, sample: str, venue: str
) -> None:
    if show is not None:
        show(BadFrameSeen(received_ns, reason, sample[:200], venue))


# ---------------------------------------------------------------- the market, asked by a command


class MarketDataBackbone(Backbone):
    """`engine.backbone.MarketDataBackbone` with every venue of this program wired, at the addresses in use."""

    def __init__(self, observe: Callable[[Event], None] | None = None) -> None:
        parts = {}
        for name in VENUES:
            venue = _venue(name)
            url = venue_url(name) or venue.url
            parts[name] = VenueParts(venue, HttpWire(url, name, USER_AGENT, _trust()), url, fee=FEES[name])
        super().__init__(parts, observe=observe)


async def one_shot(backbone: Backbone, kind: str, instrument: str, count: int) -> list[Event]:
    """One answer of a venue within 5 s: a ticker, a book, or the last trades."""
    venue, symbol = split_instrument(instrument, "upbit")
    async with _known(backbone, instrument):
        if kind == "ticker":
            return [await backbone.get_ticker(instrument)]
        if kind == "book":
            return [await backbone.get_order_book(instrument)]
        caller = backbone.caller(venue)
        page = await caller.call(caller.venue.trades(symbol), "urgent", ONE_SHOT_S)
        return [*page.rows[-count:]]


@asynccontextmanager
async def _known(backbone: Backbone, instrument: str) -> AsyncIterator[None]:
    """An unknown instrument is refused with the nearest known name; a venue out of reach within 5 s."""
    venue, symbol = split_instrument(instrument, "upbit")
    name = instrument_of(venue, symbol)
    try:
        async with asyncio.timeout(ONE_SHOT_S):
            yield
    except TimeoutError:
        raise Unavailable(
            "no_answer",
            Text("{venue} did not answer within {seconds} s.", {"venue": venue, "seconds": ONE_SHOT_S}),
            Text("Check the connection, or try again in a moment."),
        ) from None
    except WatchHamsterError as error:
        if error.code != "unknown_instrument":
            raise
        known = [info.instrument for info in await backbone.get_instruments(venue)]
        raise unknown_instrument(name, known, VENUES) from error


async def candles(
    backbone: Backbone, instrument: str, frame: Timeframe, since_ns: int | None, until_ns: int | None, count: int
) -> list[Candle]:
    """Closed candles of the venue, oldest first: those of a span, or without `since_ns` the last `count`."""
    venue, symbol = split_instrument(instrument, "upbit")
    caller = backbone.caller(venue)
    until_ns = backbone.clock.now_ns() if until_ns is None else until_ns
    rows: list[Candle] = []
    async with _known(backbone, instrument):
        if since_ns is not None:
            bars = await backbone.get_candles(instrument, frame, since_ns, until_ns, venue, priority="urgent")
            return list(bars.candles(instrument_of(venue, symbol), frame.name, "backfill"))
        while len(rows) < count:
            page = await caller.call(caller.venue.candles(symbol, frame, 0, until_ns), "urgent", ONE_SHOT_S)
            rows = [*(candle for candle in page.rows if candle.closed), *rows]
            until_ns = page.since_ns
            if page.cursor is None or not page.rows:
                break
    return rows[-count:]


async def follow(kind: str, instrument: str, frame: Timeframe | None = None) -> AsyncIterator[Event]:
    """Events of an instrument as they happen, and what becomes of its feed, until the caller has enough."""
    venue, symbol = split_instrument(instrument, "upbit")
    name = instrument_of(venue, symbol)
    events: asyncio.Queue[Event] = asyncio.Queue(10_000)
    wanted: Any = {"ticker": Ticker, "book": Book}.get(kind, Trade)
    building = None if frame is None else CandleBuilder(name, (frame,))
    whole_ns = 0 if frame is None else frame.next_ns(frame.open_ns(SystemClock().now_ns()))

    def tell(event: Event) -> None:
        if isinstance(event, FeedChanged) and event.instrument in (None, name):
            events.put_nowait(event)
        elif isinstance(event, wanted) and getattr(event, "instrument", None) == name:
            if building is None:
                events.put_nowait(event)
            elif isinstance(event, Trade):
                for candle in building.add(event):
                    if candle.timeframe == str(frame) and candle.open_ns >= whole_ns:
                        events.put_nowait(candle)

    async with MarketDataBackbone(tell) as backbone, asyncio.TaskGroup() as group:
        async with _known(backbone, instrument):
            await backbone.get_ticker(name)
        streams = {"ticker": backbone.stream_tickers, "book": backbone.stream_order_books}
        stream = streams.get(kind, backbone.stream_trades)(name)

        async def hold() -> None:
            async for _event in stream:
                pass

        holding = group.create_task(hold())
        try:
            while True:
                yield await events.get()
        finally:
            holding.cancel()


# ---------------------------------------------------------------- what is stored


def _stored(home: Home, instrument: str, frame: Timeframe) -> tuple[str, StoreError]:
    """The instrument's full name, and the refusal if nothing of it is stored."""
    venue, symbol = split_instrument(instrument, "upbit")
    name = instrument_of(venue, symbol)
    with suppress(WatchHamsterError), _reading(home) as store:
        known = sorted({series.instrument for series in store.series()})
        near = get_close_matches(name, known, 1, 0.5)
        if name in known:
            frames = [series.timeframe for series in store.series() if series.instrument == name]
            hint = Text("Stored timeframes of it: {names}.", {"names": ", ".join(frames)})
        elif near:
            hint = Text("Did you mean {name}?", {"name": near[0]})
        else:
            hint = Text("Import a file, or run watchhamster data update {name}.", {"name": name})
        return name, StoreError(
            "no_data",
            Text("No {timeframe} candles of {instrument} are stored.", {"timeframe": frame.name, "instrument": name}),
            hint,
        )
    return name, StoreError(
        "no_data",
        Text("Nothing is stored in {home}.", {"home": str(home.root)}),
        Text("Import a file, or run watchhamster data update {name}.", {"name": name}),
    )


def export(
    home: Home,
    instrument: str,
    frame: Timeframe,
    since_ns: int | None,
    until_ns: int | None,
    format: str,
    out: Path | None,
    events: bool,
) -> int:
    """Write stored candles to a file or stdout; how many. Raises `StoreError` (`no_data`) when there are none."""
    name, nothing = _stored(home, instrument, frame)
    if not home.market_db.exists():
        raise nothing
    with _reading(home) as store:
        if store.last_ns(name, frame.name) is None:
            raise nothing
        target = sys.stdout.buffer if out is None else out
        options = {"since_ns": since_ns, "until_ns": until_ns, "format": format, "events": events}
        count = write_export(store, name, frame.name, target, **options)  # type: ignore[arg-type]
        sys.stdout.flush()
    if count == 0:
        raise nothing
    return count


def coverage(home: Home, instrument: str, frame: Timeframe, since_ns: int | None, until_ns: int | None) -> list[Span]:
    """What is known of a stretch of time; without bounds, from the first stored candle to the last."""
    name, nothing = _stored(home, instrument, frame)
    if not home.market_db.exists():
        raise nothing
    with _reading(home) as store:
        series = next((s for s in store.series() if (s.instrument, s.timeframe) == (name, frame.name)), None)
        if series is None:
            raise nothing
        since_ns = series.first_ns if since_ns is None else since_ns
        until_ns = frame.next_ns(series.last_ns) if until_ns is None else until_ns
        return store.read_coverage(name, frame.name, since_ns, until_ns)


def sizes(home: Home) -> list[dict[str, Any]]:
    """The stored series, and how much room all of them take."""
    if not home.market_db.exists():
        return []
    with _reading(home) as store:
        return [msgspec.to_builtins(series) for series in store.series()]


def _offline_caller(venue: str) -> Caller:
    """A way to a venue's description for history that never asks it."""
    clock = SystemClock()
    return Caller(_venue(venue), HttpWire("http://127.0.0.1:9", venue, USER_AGENT), Limiter(clock, {}))


def _history(
    home: Home, instrument: str, frame: Timeframe, since_ns: int | None, until_ns: int | None
) -> tuple[str, Bars, list[Text]]:
    """Stored bars and what is missing of them. Raises `StoreError` (`no_data`)."""
    name, nothing = _stored(home, instrument, frame)
    if not home.market_db.exists():
        raise nothing
    with _reading(home) as store:
        backfill = Backfill(_offline_caller, store, SystemClock())
        first_ns = min((s.first_ns for s in store.series() if s.instrument == name), default=None)
        if first_ns is None:
            raise nothing
        since_ns = frame.open_ns(first_ns) if since_ns is None else since_ns
        until_ns = SystemClock().now_ns() if until_ns is None else until_ns
        bars = asyncio.run(backfill.candles(name, frame, since_ns, until_ns, network=False))
        if len(bars) == 0:
            raise nothing
        last_ns = frame.next_ns(int(bars.open_ns[-1]))
        spans = store.read_coverage(name, frame.name, int(bars.open_ns[0]), min(until_ns, last_ns))
    missing = [span for span in spans if span.state == "not_fetched"]
    warnings = []
    if missing:
        warnings.append(
            Text(
                "{count} stretches of {instrument} were never fetched, the first from {since}.",
                {"count": len(missing), "instrument": name, "since": iso_time(missing[0].since_ns)},
            )
        )
    return name, bars, warnings


# ---------------------------------------------------------------- formulas and rules on what is stored


class Evaluated(msgspec.Struct, frozen=True):
    """The values of formulas, a row a bar."""

    rows: list[tuple[int, list[Value]]]
    first_bar_ns: int
    warnings: list[Text]


def evaluate(
    home: Home,
    expressions: Sequence[str],
    instrument: str,
    frame: Timeframe,
    since_ns: int | None,
    until_ns: int | None,
    first_bar_ns: int | None,
    evaluator: str,
) -> Evaluated:
    """Each formula on every stored bar of the period. Raises `UsageError` (`bad_formula`), `StoreError` (`no_data`)."""
    program = compile_many(expressions)
    name, bars, warnings = _history(home, instrument, frame, None, until_ns)
    start = 0
    if first_bar_ns is not None:
        start = int(np.searchsorted(bars.open_ns, first_bar_ns))
    elif since_ns is not None:
        start = max(0, int(np.searchsorted(bars.open_ns, since_ns)) - program.warm_up)
    bars = bars.slice(start, len(bars))
    if len(bars) == 0 or (since_ns is not None and int(bars.open_ns[-1]) < since_ns):
        raise _stored(home, name, frame)[1]
    if evaluator == "array":
        rows = list(zip(*(values.list() for values in program.over(bars)), strict=True))
    else:
        stepper = program.stepper()
        rows = [stepper.push(candle) for candle in bars.candles(name, frame.name, "live")]
    kept = [
        (at, list(values))
        for at, values in zip(bars.open_ns.tolist(), rows, strict=True)
        if since_ns is None or at >= since_ns
    ]
    return Evaluated(kept, int(bars.open_ns[0]), warnings)


class Tried(msgspec.Struct, frozen=True):
    """A rule on history."""

    firings: list[dict[str, Any]]
    summary: dict[str, Any]
    warnings: list[Text]


def replay_rule(
    home: Home,
    expression: str,
    instrument: str,
    frame: Timeframe,
    for_s: float,
    cooldown_s: float,
    since_ns: int | None,
    until_ns: int | None,
    first_bar_ns: int | None,
) -> Tried:
    """When a rule would have fired on stored bars."""
    rule = Rule(
        name=expression,
        formula=expression,
        instruments=(instrument,),
        timeframe=frame.name,
        for_s=for_s,
        cooldown_s=cooldown_s,
    )
    formula = check(rule)
    name, bars, warnings = _history(home, instrument, frame, None, until_ns)
    start = 0
    if first_bar_ns is not None:
        start = int(np.searchsorted(bars.open_ns, first_bar_ns))
    elif since_ns is not None:
        start = max(0, int(np.searchsorted(bars.open_ns, since_ns)) - formula.warm_up)
    found = replay(rule, bars.slice(start, len(bars)), name, since_ns)
    return Tried([msgspec.to_builtins(f) for f in found.firings], msgspec.to_builtins(found.summary), warnings)


def stored_rules(home: Home) -> list[dict[str, Any]]:
    """The rules of the home."""
    if not home.desk_db.exists():
        return []
    with _reading_desk(home) as desk:
        return [msgspec.to_builtins(rule) for rule in desk.rules()]


def stored_alerts(home: Home, count: int) -> list[dict[str, Any]]:
    """The last alerts, oldest first."""
    if not home.desk_db.exists():
        return []
    with _reading_desk(home) as desk:
        return [_alert_record(alert) for alert in desk.alerts(limit=count)]


def stored_alert(home: Home, alert_id: int) -> dict[str, Any]:
    """One alert and its deliveries. Raises `UsageError` (`unknown_alert`)."""
    if home.desk_db.exists():
        with _reading_desk(home) as desk:
            alert = desk.alert(alert_id)
            if alert is not None:
                deliveries = [msgspec.to_builtins(delivery) for delivery in desk.deliveries(alert_id)]
                return _alert_record(alert) | {"deliveries": deliveries}
    raise UsageError(
        "unknown_alert",
        Text("There is no alert {id}.", {"id": alert_id}),
        Text("watchhamster alert list shows what there is."),
    )


def _alert_record(alert: Alert) -> dict[str, Any]:
    record: dict[str, Any] = msgspec.to_builtins(alert)
    del record["text"]
    state = "firing" if alert.resolved_ns is None else "resolved"
    return record | {"state": state, "message": say(alert.text)}


# ---------------------------------------------------------------- what writes: by the owner, or here


async def act(home: Home, command: str, arguments: dict[str, Any]) -> Any:
    """Do a thing that writes: the owner of the home does it if there is one, else this process, owning it meanwhile."""
    timeout_s = 3600.0 if command.startswith("data.") else 30.0
    try:
        return await ask(home, command, timeout_s=timeout_s, **arguments)
    except Unavailable as error:
        if error.code != "no_owner":
            raise
    async with _writing(home) as services:
        return await perform(command, arguments, services)


async def perform(command: str, arguments: Mapping[str, Any], services: Services, engine: Engine | None = None) -> Any:
    """One of `ACTIONS`, on open files and, where it runs, through the engine."""
    action = ACTIONS.get(command)
    if action is None:
        raise UsageError(
            "unknown_command",
            Text("The running WatchHamster does not know {command}.", {"command": command}),
            Text("It may be of another version: end it and start it again."),
        )
    return await action(services, engine, **arguments)


async def _import(
    services: Services,
    engine: Engine | None,
    *,
    file: str,
    instrument: str | None,
    timeframe: str | None,
    timezone: str | None,
    format: str,
    venue: str,
    complete: bool,
) -> dict[str, Any]:
    _venue(venue)
    done = await asyncio.to_thread(
        import_file,
        services.market,
        Path(file),
        venue=venue,
        instrument=None if instrument is None else instrument_of(*split_instrument(instrument, venue)),
        timeframe=timeframe,
        timezone=timezone,
        format=format,
        complete=complete,
        parsers={"upbit-rest": parse_candles},
    )
    return done.line() | {"rejects": [{"line": row.line, "reason": say(row.reason)} for row in done.rejected]}


async def _update(
    services: Services,
    engine: Engine | None,
    *,
    instrument: str,
    timeframe: str,
    since_ns: int | None,
    until_ns: int | None,
) -> dict[str, Any]:
    venue, symbol = split_instrument(instrument, "upbit")
    name, frame = instrument_of(venue, symbol), timeframe_of(timeframe)
    now_ns = services.clock.now_ns()
    if since_ns is None:
        last_ns = services.market.last_ns(name, frame.name)
        since_ns = now_ns - 500 * frame.approximate_ns if last_ns is None else last_ns
    until_ns = now_ns if until_ns is None else until_ns
    before = len(await services.market.bars(name, frame.name, since_ns, until_ns))
    try:
        bars = await services.backfill().candles(name, frame, since_ns, until_ns)
    except WatchHamsterError as error:
        if error.code != "unknown_instrument":
            raise
        caller = services.caller(venue)
        known = [info.instrument for info in await caller.call(caller.venue.markets(), "urgent", ONE_SHOT_S)]
        raise unknown_instrument(name, known, VENUES) from error
    return {"instrument": name, "timeframe": frame.name, "candles": len(bars), "new": len(bars) - before}


async def _verify(services: Services, engine: Engine | None) -> dict[str, Any]:
    """Healing asks the venue only where one runs anyway: the command by itself never uses the network."""
    refill = None
    if engine is not None:
        backfill = services.backfill()

        async def refill(instrument: str, timeframe: str, since_ns: int, until_ns: int) -> None:
            await backfill.candles(instrument, timeframe, since_ns, until_ns)

    report = await services.market.verify(refill)
    return msgspec.to_builtins(report)  # type: ignore[no-any-return]


async def back_up(services: Services, path: Path) -> dict[str, Any]:
    """Both files of the home in one zip, written beside and moved into place. No secret is in either."""
    with tempfile.TemporaryDirectory(dir=services.home.root) as folder:
        desk, candles_, packed = Path(folder, "watchhamster.db"), Path(folder, "market.db"), Path(folder, "backup.zip")
        await services.desk.backup(desk)
        await asyncio.to_thread(services.market.backup, candles_)

        def pack() -> int:
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                archive.write(desk, desk.name)
                archive.write(candles_, candles_.name)
            try:
                shutil.move(packed, path)
            except OSError as error:
                raise StoreError(
                    "cannot_write",
                    Text("{path} cannot be written: {reason}.", {"path": str(path), "reason": error.strerror or error}),
                    Text("Choose a folder you may write to, with enough room."),
                ) from error
            return path.stat().st_size

        return {"file": str(path), "bytes": await asyncio.to_thread(pack)}


async def restore(services: Services, path: Path) -> dict[str, Any]:
    """Put both files of a backup in place; what they replace is kept. Raises `StoreError` and changes nothing."""
    with tempfile.TemporaryDirectory(dir=services.home.root) as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                for name in ("watchhamster.db", "market.db"):
                    archive.extract(name, folder)
        except (OSError, zipfile.BadZipFile, KeyError) as error:
            raise StoreError(
                "bad_backup",
                Text("{path} is not a backup of WatchHamster: {reason}.", {"path": str(path), "reason": error}),
                Text("Give a file that data backup has written."),
            ) from error
        kept = await services.desk.restore(Path(folder, "watchhamster.db"))
        await asyncio.to_thread(services.market.restore, Path(folder, "market.db"))
    services.settings.reload()
    return {"kept": str(kept.parent)}


async def _back_up(services: Services, engine: Engine | None, *, file: str) -> dict[str, Any]:
    return await back_up(services, Path(file))


async def _restore(services: Services, engine: Engine | None, *, file: str) -> dict[str, Any]:
    done = await restore(services, Path(file))
    if engine is not None:
        await engine.reread()
    return done


async def _add_rule(
    services: Services, engine: Engine | None, *, instruments: list[str], **fields: Any
) -> dict[str, Any]:
    names = tuple(instrument_of(*split_instrument(instrument, "upbit")) for instrument in instruments)
    fields["channels"] = tuple(fields["channels"])
    if fields["severity"] not in get_args(Severity):
        raise UsageError(
            "bad_severity",
            Text("{text!r} is not a severity.", {"text": fields["severity"]}),
            Text("Write info, warning or critical."),
        )
    known = {config.name for config in services.channel_configs()}
    for channel in fields["channels"]:
        if channel not in known:
            raise UsageError(
                "unknown_channel",
                Text("There is no channel {name!r}.", {"name": channel}),
                Text("Known ones are {names}.", {"names": ", ".join(sorted(known))}),
            )
    rule = Rule(**(fields | {"name": fields["name"] or fields["formula"], "instruments": names}))
    check(rule)
    if engine is not None:
        saved = await engine.save_rule(rule)
    else:
        saved = await services.desk.save_rule(msgspec.structs.replace(rule, created_ns=services.clock.now_ns()))
    return msgspec.to_builtins(saved)  # type: ignore[no-any-return]


async def _remove_rule(services: Services, engine: Engine | None, *, rule_id: int) -> dict[str, Any]:
    await (services.desk if engine is None else engine).remove_rule(rule_id)
    return {"id": rule_id}


@asynccontextmanager
async def _outbox(services: Services, engine: Engine | None) -> AsyncIterator[Outbox]:
    """The running engine's outbox, or one for this command only."""
    if engine is not None:
        yield engine.outbox
        return
    yield Outbox(services.desk, services.clock, await services.channels())


async def _acknowledge(services: Services, engine: Engine | None, *, alert_id: int) -> dict[str, Any]:
    async with _outbox(services, engine) as outbox:
        return _alert_record(await outbox.acknowledge(alert_id))


async def _silence(services: Services, engine: Engine | None, *, seconds: float) -> dict[str, Any]:
    """For so long; 0 ends it, below 0 means until midnight."""
    now_ns = services.clock.now_ns()
    until_ns: int | None = now_ns + int(seconds * SECOND_NS)
    if seconds < 0:
        until_ns = end_of_day_ns(now_ns, services.settings.text("time_zone"))
    elif seconds == 0:
        until_ns = None
    async with _outbox(services, engine) as outbox:
        await outbox.mute(until_ns)
        return {"until_ns": outbox.muted_until_ns}


async def _test_channel(services: Services, engine: Engine | None, *, channel: str) -> dict[str, Any]:
    async with _outbox(services, engine) as outbox:
        delivery = await outbox.test(channel)
        return msgspec.to_builtins(delivery)  # type: ignore[no-any-return]


async def _set_channel(
    services: Services,
    engine: Engine | None,
    *,
    name: str,
    type: str,
    url: str | None,
    secret: str | None,
    local: bool,
    remove: bool,
) -> dict[str, Any]:
    """Add, change or remove a channel of the user's own. Its address goes to the keyring, its row only names it."""
    if name in {config.name for config in BUILT_IN}:
        raise UsageError("bad_channel", Text("{name} is built in.", {"name": name}), Text("Choose another name."))
    own = [config for config in services.channel_configs() if config not in BUILT_IN]
    before = next((config for config in own if config.name == name), None)
    own = [config for config in own if config.name != name]
    place = await services.credentials()
    if remove:
        if before is None:
            raise UsageError("unknown_channel", Text("There is no channel {name!r}.", {"name": name}))
        for entry in before.secrets.values():
            with suppress(Absent):
                await place.remove(before.tenant, entry)
    else:
        if type not in ("webhook", "dooray"):
            raise UsageError(
                "bad_channel",
                Text("There is no channel type {type!r}.", {"type": type}),
                Text("Write webhook or dooray."),
            )
        secrets = {"url": f"{name}-url"}
        given = {"url": Secret(url or "")}
        check_url(given["url"], local=local)
        if type == "webhook":
            secrets["key"] = f"{name}-key"
            given["key"] = Secret(secret) if secret else new_key()
        config = ChannelConfig(name=name, type=type, secrets=secrets, local=local)  # type: ignore[arg-type]
        make_channel(config, given, services.poster, services.clock)
        for purpose, value in given.items():
            await place.set(config.tenant, secrets[purpose], value)
        own.append(config)
    await services.desk.put(_CHANNELS_KEY, msgspec.json.encode(own))
    if engine is not None:
        engine.outbox.set_channels(await services.channels())
    return {"name": name, "type": type, "state": "removed" if remove else "ready"}


async def _status(services: Services, engine: Engine | None) -> dict[str, Any]:
    assert engine is not None
    return to_record(engine.status())


async def _show(services: Services, engine: Engine | None) -> bool:
    """Bring the window forward, where there is one."""
    return engine is not None and engine.show()


Action = Callable[..., Awaitable[Any]]
ACTIONS: Final[Mapping[str, Action]] = {
    "data.import": _import,
    "data.update": _update,
    "data.verify": _verify,
    "data.backup": _back_up,
    "data.restore": _restore,
    "alert.add": _add_rule,
    "alert.remove": _remove_rule,
    "alert.ack": _acknowledge,
    "alert.silence": _silence,
    "alert.test": _test_channel,
    "alert.channel": _set_channel,
    "status": _status,
    "show": _show,
}


# ---------------------------------------------------------------- status


async def status(home: Home, tenant: str) -> dict[str, Any]:
    """The tree of what runs in this home, or of its files when nothing does."""
    try:
        return await ask(home, "status", timeout_s=ONE_SHOT_S)  # type: ignore[no-any-return]
    except Unavailable as error:
        if error.code != "no_owner":
            raise
    return to_record(offline_status(home, tenant))


def offline_status(home: Home, tenant: str = "default") -> StatusNode:
    """The tree of a home in which nothing runs."""
    children = [node("feeds", "unknown", detail=Text("WatchHamster is not running"))]
    if home.desk_db.exists():
        with _reading_desk(home) as desk:
            rules = desk.rules(tenant)
            children.append(node("rules", "unknown", value=len(rules), detail=Text("not watched now")))
            waiting = len(desk.due_deliveries(1 << 62, 1000))
            children.append(
                node("channels", "pending" if waiting else "ok", value=waiting, detail=Text("waiting to be sent"))
            )
    if home.market_db.exists():
        with _reading(home) as store:
            series = store.series()
            children.append(node("storage", "ok", value=sum(s.count for s in series), detail=Text("candles")))
    return node(tenant, None, *children)


def tree_of(record: Mapping[str, Any]) -> StatusNode:
    """A tree from its record, for printing."""
    detail = record.get("detail")
    return StatusNode(
        name=record["name"],
        state=record["state"],
        value=record["value"],
        age_s=record["age_s"],
        since_ns=record["since_ns"],
        detail=None if detail is None else Text("{text}", {"text": detail}),
        children=tuple(tree_of(child) for child in record["children"]),
    )


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


# ---------------------------------------------------------------- words


def iso_time(at_ns: int) -> str:
    """`YYYY-MM-DDTHH:MM:SSZ`, with a fraction only if it is not zero."""
    seconds, rest = divmod(at_ns, SECOND_NS)
    text = dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09d}".rstrip("0") + "Z" if rest else f"{text}Z"


def feed_reason(event: FeedChanged) -> Text:
    """What a feed's change means, in words."""
    return Text(FEED_REASONS.get(event.reason, event.reason), event.values)
