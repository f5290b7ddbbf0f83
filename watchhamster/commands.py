"""What the command line does, apart from arguments and printing: markets asked once or followed, stored history,
formulas and rules on it, and everything that writes.

What writes is an entry of `ACTIONS`. `act` hands it to the owner of the home if there is one, so that the running
engine does it and knows; else this process does it, owning the home meanwhile.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import numpy as np

from watchhamster.backtest.trials import Trial
from watchhamster.core.bars import Bars, Span
from watchhamster.core.candles import CandleBuilder
from watchhamster.core.instruments import InstrumentInfo, instrument_of, split_instrument
from watchhamster.core.market import BadFrameSeen, Book, Candle, Event, FeedChanged, Ticker, Trade
from watchhamster.core.ports import (
    BadFrame,
    Kind,
    Query,
    Rejected,
    Searched,
    StoreError,
    Subscription,
    Unavailable,
    UsageError,
    Venue,
    WatchHamsterError,
)
from watchhamster.core.secret import Secret
from watchhamster.core.sessions import closures_told
from watchhamster.core.text import Text, say
from watchhamster.core.timeframes import COMMON, SECOND_NS, Grid, Timeframe
from watchhamster.core.timeframes import timeframe as timeframe_of
from watchhamster.engine.backbone import MarketDataBackbone as Backbone
from watchhamster.engine.backbone import VenueParts
from watchhamster.engine.backfill import Backfill
from watchhamster.engine.clock import SystemClock
from watchhamster.engine.engine import CAUTIONED, Engine, unknown_instrument
from watchhamster.engine.feed import FEED_REASONS
from watchhamster.engine.limits import Limiter
from watchhamster.engine.outbox import Outbox, end_of_day_ns
from watchhamster.engine.owner import Owned, ask
from watchhamster.engine.routing import Caller
from watchhamster.formula import LIBRARY_KEY, Frame, Library, Value, compile_many, describe
from watchhamster.monitor.alerts import Alert, Rule, Severity
from watchhamster.monitor.replay import replay
from watchhamster.monitor.status import StatusNode, node, to_record
from watchhamster.monitor.watch import check
from watchhamster.services import (
    FEES,
    ONE_SHOT_S,
    USER_AGENT,
    VENUES,
    Services,
    back_up,
    reading,
    reading_desk,
    restore,
    trust,
    venue_named,
    verify,
    writing,
)
from watchhamster.settings import Home, venue_url
from watchhamster.storage.candle_files import export as write_export
from watchhamster.storage.candle_files import import_file
from watchhamster.storage.desk import DeskStore, StoredRun
from watchhamster.venues.capture import BadLine, read_capture
from watchhamster.venues.upbit import parse_candles
from watchhamster.venues.wire import HttpWire
from watchhamster.venues.yahoo import parse_chart

EVER = (-(1 << 62), 1 << 62)
PATIENCE_S = 5.0  # with an owner of the home that does not listen


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
    spec = venue_named(venue)
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
            venue = venue_named(name)
            url = venue_url(name) or venue.url
            parts[name] = VenueParts(venue, HttpWire(url, name, USER_AGENT, trust()), url, fee=FEES[name])
        super().__init__(parts, observe=observe)


async def one_shot(backbone: Backbone, kind: str, instrument: str, count: int) -> list[Event]:
    """One answer of a venue within 5 s: a ticker, a book, or the last trades."""
    venue, symbol = split_instrument(instrument, "upbit")
    rows: list[Trade] | list[Ticker] | list[Book]
    async with _known(backbone, instrument):
        if kind == "ticker":
            rows = [await backbone.get_ticker(instrument)]
        elif kind == "book":
            rows = [await backbone.get_order_book(instrument)]
        else:
            caller = backbone.caller(venue)
            page = await caller.call(caller.venue.trades(symbol), "urgent", ONE_SHOT_S)
            rows = page.rows[-count:]
    received_ns = backbone.clock.now_ns()
    return [msgspec.structs.replace(row, received_ns=received_ns) for row in rows]


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
    backbone: Backbone,
    instrument: str,
    frame: Timeframe,
    since_ns: int | None,
    until_ns: int | None,
    count: int,
    progress: Callable[[str], None],
) -> list[Candle]:
    """Closed candles of the venue, oldest first: those of a span, or without `since_ns` the last `count`."""
    venue, symbol = split_instrument(instrument, "upbit")
    caller = backbone.caller(venue)
    until_ns = backbone.clock.now_ns() if until_ns is None else until_ns
    rows: list[Candle] = []
    async with _known(backbone, instrument):
        if since_ns is not None:
            first_ns = served_from(caller.venue, frame, since_ns, until_ns, backbone.clock.now_ns())
            if first_ns > since_ns:
                progress(say(served_since(venue, frame, first_ns)))
            since_ns = first_ns
            bars = await backbone.get_candles(instrument, frame, since_ns, until_ns, venue, priority="urgent")
            rows = list(bars.candles(instrument_of(venue, symbol), frame.name, "backfill"))
            count = len(rows)
        elif frame.name not in caller.venue.timeframes and frame.name in COMMON:
            first_ns = caller.venue.grid(symbol).before_ns(frame, until_ns, count + 1)
            bars = await backbone.get_candles(instrument, frame, first_ns, until_ns, venue, priority="urgent")
            rows = list(bars.candles(instrument_of(venue, symbol), frame.name, "backfill"))
            count = min(count, len(rows))
        while len(rows) < count:
            page = await caller.call(caller.venue.candles(symbol, frame, 0, until_ns), "urgent", ONE_SHOT_S)
            rows = [*(candle for candle in page.rows if candle.closed), *rows]
            until_ns = page.since_ns
            if page.cursor is None or not page.rows:
                break
    if not rows:
        values = {"venue": venue, "timeframe": frame.name, "symbol": symbol}
        progress(say(Text("{venue} has no {timeframe} candles of {symbol} in that time.", values)))
    return rows[-count:]


def served_from(venue: Venue, frame: Timeframe, since_ns: int, until_ns: int, now_ns: int) -> int:
    """From when on a venue has candles of this span. Raises `Rejected` (`too_far_back`) where it has none of it."""
    if frame.name not in venue.timeframes:
        return since_ns
    first_ns = venue.served_since_ns(frame, now_ns)
    if first_ns is None or first_ns <= since_ns:
        return since_ns
    if until_ns <= first_ns:
        raise Rejected(
            "too_far_back",
            Text(
                "{venue} has {timeframe} candles of the last {days} days only: now since {first}.",
                {
                    "venue": venue.name,
                    "timeframe": frame.name,
                    "days": (now_ns - first_ns) // (86_400 * SECOND_NS),
                    "first": iso_time(first_ns),
                },
            ),
            Text("Ask for a later time, or for longer candles, such as 1d."),
            first_ns=first_ns,
        )
    return first_ns


def served_since(venue: str, frame: Timeframe, first_ns: int) -> Text:
    """A note about candles that are asked for and not to be had."""
    return Text(
        "{venue} has {timeframe} candles since {first} only; there are none from before.",
        {"venue": venue, "timeframe": frame.name, "first": iso_time(first_ns)},
    )


async def find(venue: str, ask: Callable[[Searched], Query[list[Any]]]) -> list[Any]:
    """What a venue that can be searched answers. Raises `UsageError` (`not_offered`)."""
    async with MarketDataBackbone() as backbone:
        caller = backbone.caller(venue)
        if not isinstance(caller.venue, Searched):
            raise UsageError(
                "not_offered",
                Text("{venue} has no search, trends or news.", {"venue": venue}),
                Text("Venues that have: {names}.", {"names": ", ".join(searched())}),
            )
        async with asyncio.timeout(ONE_SHOT_S):
            return await caller.call(ask(caller.venue), "urgent", ONE_SHOT_S)


async def search(text: str, count: int) -> list[InstrumentInfo]:
    """Instruments of every venue by symbol or name in any language, best first; a venue out of reach is left out.

    Raises what the last venue raised where none answered.
    """
    wanted = text.casefold().replace(" ", "")
    found: list[InstrumentInfo] = []
    problem: WatchHamsterError | None = None
    answers = 0
    async with MarketDataBackbone() as backbone:
        for name in VENUES:
            caller = backbone.caller(name)
            try:
                if isinstance(caller.venue, Searched):
                    rows = await caller.call(caller.venue.search(text, count), "urgent", ONE_SHOT_S)
                else:
                    rows = [
                        info
                        for info in await caller.call(caller.venue.markets(), "urgent", ONE_SHOT_S)
                        if any(
                            wanted in word.casefold().replace(" ", "") for word in (info.symbol, *info.names.values())
                        )
                    ]
                found += rows[:count]
                answers += 1
            except (Unavailable, BadFrame) as error:
                problem = error
    if not answers and problem is not None:
        raise problem
    return found


def searched() -> list[str]:
    """The venues that can be searched."""
    return [name for name in VENUES if isinstance(venue_named(name), Searched)]


async def follow(kind: str, instrument: str, frame: Timeframe | None = None) -> AsyncIterator[Event]:
    """Events of an instrument as they happen, and what becomes of its feed, until the caller has enough."""
    venue, symbol = split_instrument(instrument, "upbit")
    name = instrument_of(venue, symbol)
    events: asyncio.Queue[Event] = asyncio.Queue(10_000)
    spec = venue_named(venue)
    builds = frame is not None and "trade" in spec.kinds
    wanted: Any = {"ticker": Ticker, "book": Book, "candle": Trade if builds else Candle}.get(kind, Trade)
    kinds: Mapping[type, Kind] = {Ticker: "ticker", Book: "book", Trade: "trade", Candle: "candle"}
    asked = Subscription(kinds[wanted], symbol, "1m" if wanted is Candle else None)
    spec.subscribe([asked], "a rehearsal")  # what cannot be had is refused at once
    building = CandleBuilder(name, (frame,)) if frame is not None and builds else None
    whole_ns = 0 if frame is None else frame.next_ns(frame.open_ns(SystemClock().now_ns()))

    def tell(event: Event) -> None:
        if isinstance(event, FeedChanged) and event.instrument in (None, name):
            events.put_nowait(event)
        elif isinstance(event, wanted) and getattr(event, "instrument", None) == name:
            if building is None and wanted is not Candle:
                events.put_nowait(event)
            elif building is not None and isinstance(event, Trade):
                for candle in building.add(event):
                    if candle.timeframe == str(frame) and candle.open_ns >= whole_ns:
                        events.put_nowait(candle)

    async with MarketDataBackbone(tell) as backbone, asyncio.TaskGroup() as group:
        async with _known(backbone, instrument):
            await backbone.get_ticker(name)
        streams: Mapping[type, Callable[[str], AsyncIterator[Event]]] = {
            Ticker: backbone.stream_tickers,
            Book: backbone.stream_order_books,
            Trade: backbone.stream_trades,
            Candle: lambda name: backbone.stream_candles(name, "1m" if frame is None else frame.name),
        }
        stream = streams[wanted](name)

        async def hold() -> None:
            async for event in stream:
                if wanted is Candle:
                    await events.put(event)

        holding = group.create_task(hold())
        try:
            while True:
                yield await events.get()
        finally:
            holding.cancel()


# ---------------------------------------------------------------- what is stored


def not_stored(home: Home, instrument: str, frame: Timeframe) -> tuple[str, StoreError]:
    """The instrument's full name, and the refusal if nothing of it is stored."""
    venue, symbol = split_instrument(instrument, "upbit")
    name = instrument_of(venue, symbol)
    with suppress(WatchHamsterError), reading(home) as store:
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
    name, nothing = not_stored(home, instrument, frame)
    if not home.market_db.exists():
        raise nothing
    with reading(home) as store:
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
    name, nothing = not_stored(home, instrument, frame)
    if not home.market_db.exists():
        raise nothing
    with reading(home) as store:
        series = next((s for s in store.series() if (s.instrument, s.timeframe) == (name, frame.name)), None)
        if series is None:
            raise nothing
        since_ns = series.first_ns if since_ns is None else since_ns
        until_ns = frame.next_ns(series.last_ns) if until_ns is None else until_ns
        return closures_told(store.read_coverage(name, frame.name, since_ns, until_ns), grid_of(name), frame)


def grid_of(instrument: str) -> Grid:
    """Where an instrument's bars begin and end, as far as its name tells."""
    venue, symbol = split_instrument(instrument)
    return venue_named(venue).grid(symbol)


def sizes(home: Home) -> tuple[list[dict[str, Any]], int]:
    """The stored series, with how much is known to have been paid or split, and how many bytes all of them take."""
    if not home.market_db.exists():
        return [], 0
    with reading(home) as store:
        rows = [msgspec.to_builtins(series) for series in store.series()]
        return [row | {"actions": len(store.read_actions(row["instrument"], *EVER))} for row in rows], store.size()


def offline_caller(venue: str) -> Caller:
    """A way to a venue's description for history that never asks it."""
    clock = SystemClock()
    return Caller(venue_named(venue), HttpWire("http://127.0.0.1:9", venue, USER_AGENT), Limiter(clock, {}))


def _history(
    home: Home, instrument: str, frame: Timeframe, since_ns: int | None, until_ns: int | None
) -> tuple[str, Bars, list[Text]]:
    """Stored bars and what is missing of them. Raises `StoreError` (`no_data`)."""
    name, nothing = not_stored(home, instrument, frame)
    if not home.market_db.exists():
        raise nothing
    with reading(home) as store:
        backfill = Backfill(offline_caller, store, SystemClock())
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
        spans = closures_told(spans, grid_of(name), frame)
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
    program = compile_many(expressions, timeframe=frame, grids=_grids(instrument), library=library_of(home))
    name, bars, warnings = _history(home, instrument, frame, None, until_ns)
    others: dict[Frame, Bars] = {}
    for other in program.given:
        _, others[other], missing = _history(home, other.instrument, frame, None, until_ns)
        warnings += missing
    start = 0
    if first_bar_ns is not None:
        start = int(np.searchsorted(bars.open_ns, first_bar_ns))
    elif since_ns is not None:
        start = max(0, int(np.searchsorted(bars.open_ns, since_ns)) - program.warm_up)
    bars = bars.slice(start, len(bars))
    if len(bars) == 0 or (since_ns is not None and int(bars.open_ns[-1]) < since_ns):
        raise not_stored(home, name, frame)[1]
    if evaluator == "array":
        rows = list(zip(*(values.list() for values in program.over(bars, others)), strict=True))
    else:
        stepper = program.stepper(others=others)
        rows = [stepper.push(candle) for candle in bars.candles(name, frame.name, "live")]
    kept = [
        (at, list(values))
        for at, values in zip(bars.open_ns.tolist(), rows, strict=True)
        if since_ns is None or at >= since_ns
    ]
    return Evaluated(kept, int(bars.open_ns[0]), warnings)


def _grids(instrument: str) -> Callable[[str], Grid]:
    """Where bars and days begin, of an instrument and of those its formula names."""
    own = grid_of(instrument_of(*split_instrument(instrument, "upbit")))
    return lambda other: grid_of(other) if other else own


def library_of(home: Home) -> Library:
    """The saved formulas of a home."""
    if not home.desk_db.exists():
        return Library()
    with reading_desk(home) as desk:
        return Library.stored(desk.get(LIBRARY_KEY))


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
    library = library_of(home)
    formula = check(rule, library)
    name, bars, warnings = _history(home, instrument, frame, None, until_ns)
    start = 0
    if first_bar_ns is not None:
        start = int(np.searchsorted(bars.open_ns, first_bar_ns))
    elif since_ns is not None:
        start = max(0, int(np.searchsorted(bars.open_ns, since_ns)) - formula.warm_up)
    found = replay(rule, bars.slice(start, len(bars)), name, since_ns, grid_of(name), library)
    return Tried([msgspec.to_builtins(f) for f in found.firings], msgspec.to_builtins(found.summary), warnings)


async def ask_or_read(home: Home, command: str, arguments: dict[str, Any]) -> Any:
    """What the owner of the home knows, else what its file says. Nothing is written."""
    try:
        return await ask(home, command, **arguments)
    except Unavailable as error:
        if error.code != "no_owner":
            raise
    if not home.desk_db.exists():
        return READS[command](None, **arguments)
    with reading_desk(home) as desk:
        return READS[command](desk, **arguments)


def _rules(desk: DeskStore | None) -> list[dict[str, Any]]:
    return [] if desk is None else [msgspec.to_builtins(rule) for rule in desk.rules()]


def _alerts(desk: DeskStore | None, *, count: int) -> list[dict[str, Any]]:
    """The last alerts, oldest first."""
    return [] if desk is None else [_alert_record(alert) for alert in desk.alerts(limit=count)]


def _alert(desk: DeskStore | None, *, alert_id: int) -> dict[str, Any]:
    """One alert and its deliveries."""
    alert = None if desk is None else desk.alert(alert_id)
    if desk is None or alert is None:
        raise UsageError(
            "unknown_alert",
            Text("There is no alert {id}.", {"id": alert_id}),
            Text("watchhamster alert list shows what there is."),
        )
    deliveries = [msgspec.to_builtins(delivery) for delivery in desk.deliveries(alert_id)]
    return _alert_record(alert) | {"deliveries": deliveries}


def _formulas(desk: DeskStore | None) -> list[dict[str, Any]]:
    """The saved formulas, by name; of a wrong one only its text."""
    library = Library() if desk is None else Library.stored(desk.get(LIBRARY_KEY))
    known = {function.name: describe(function) for function in library.functions()}
    return [
        {"name": name, "definition": text} | {k: v for k, v in known.get(name, {}).items() if k in _SAVED_FIELDS}
        for name, text in sorted(library.definitions.items())
    ]


_SAVED_FIELDS: Final = ("signature", "series", "conditions", "parameters", "kind")


def _is_cautioned(desk: DeskStore | None, *, venue: str) -> bool:
    """Whether a venue's caution has been shown in this home."""
    return desk is not None and desk.get(CAUTIONED.format(venue=venue)) is not None


def _papers(desk: DeskStore | None) -> list[dict[str, Any]]:
    """Strategies on paper, as their journals tell while nothing runs."""
    from watchhamster.backtest.paper import Paper, Trader
    from watchhamster.engine.paper import record_of

    found = []
    for paper_id, content in ({} if desk is None else desk.papers()).items():
        assert desk is not None
        paper = msgspec.structs.replace(msgspec.json.decode(content, type=Paper), id=paper_id)
        trader = Trader(paper, grid_of)
        trader.live_again(desk.read_journal(paper_id))
        found.append(record_of(paper, trader) | {"fills": msgspec.to_builtins(trader.fills)})
    return found


def _paper(desk: DeskStore | None, *, name: str) -> dict[str, Any]:
    from watchhamster.engine.paper import unknown_paper

    found = _papers(desk)
    for record in found:
        if record["strategy"] == name:
            return record
    raise unknown_paper(name, [record["strategy"] for record in found])


READS: Final[Mapping[str, Callable[..., Any]]] = {
    "alert.rules": _rules,
    "alert.list": _alerts,
    "alert.show": _alert,
    "formula.list": _formulas,
    "caution.shown": _is_cautioned,
}


async def cautions(home: Home, venues: Iterable[str]) -> list[Text]:
    """What is to be known before these venues are first used; from now on they are not said again in this home."""
    found = []
    for venue in dict.fromkeys(venues):
        words = VENUES[venue]().caution if venue in VENUES else None
        if words is None:
            continue
        with suppress(WatchHamsterError):  # a home that cannot be read is no reason to stay silent, or to stop
            if await ask_or_read(home, "caution.shown", {"venue": venue}):
                continue
        found.append(words)
        with suppress(WatchHamsterError):
            await act(home, "caution.show", {"venue": venue})
    return found


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
    clock = SystemClock()
    give_up_at = clock.monotonic() + PATIENCE_S
    while True:
        try:
            async with writing(home) as services:
                return await perform(command, arguments, services)
        except Owned:  # by a command like this one, or by a program that only starts, or ends
            if clock.monotonic() > give_up_at:
                raise
            await clock.sleep(0.1)
        with suppress(Unavailable):
            return await ask(home, command, timeout_s=timeout_s, **arguments)


async def perform(command: str, arguments: Mapping[str, Any], services: Services, engine: Engine | None = None) -> Any:
    """One of `ACTIONS` or `READS`, on open files and, where it runs, through the engine."""
    if command in READS:
        return READS[command](services.desk, **arguments)
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
    venue_named(venue)
    named = None if instrument is None else split_instrument(instrument, venue)
    done = await asyncio.to_thread(
        import_file,
        services.market,
        Path(file),
        venue=venue,
        instrument=None if named is None else instrument_of(*named),
        timeframe=timeframe,
        timezone=timezone,
        format=format,
        complete=complete,
        sessions=named is not None and venue_named(named[0]).session(named[1], services.clock.now_ns()) is not None,
        parsers={"upbit-rest": parse_candles, "yahoo-chart": parse_chart},
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
        since_ns = grid_of(name).before_ns(frame, now_ns, 500) if last_ns is None else last_ns
    until_ns = now_ns if until_ns is None else until_ns
    before = len(await services.market.bars(name, frame.name, since_ns, until_ns))
    first_ns = served_from(venue_named(venue), frame, since_ns, until_ns, now_ns)
    try:
        bars = await services.backfill().candles(name, frame, first_ns, until_ns)
    except WatchHamsterError as error:
        if error.code != "unknown_instrument":
            raise
        caller = services.caller(venue)
        if isinstance(caller.venue, Searched):
            known = [info.instrument for info in caller.venue.known()]
        else:
            known = [info.instrument for info in await caller.call(caller.venue.markets(), "urgent", ONE_SHOT_S)]
        raise unknown_instrument(name, known, VENUES) from error
    bars = await services.market.bars(name, frame.name, since_ns, until_ns) if first_ns > since_ns else bars
    done = {"instrument": name, "timeframe": frame.name, "candles": len(bars), "new": len(bars) - before}
    notes = [say(n.text) for n in services.market.notices if n.code == "rescaled" and n.at_ns >= now_ns]
    done |= {"notes": notes} if notes else {}
    return done | {"served_since_ns": first_ns} if first_ns > since_ns else done


async def _verify(services: Services, engine: Engine | None) -> dict[str, Any]:
    """Healing asks the venue only where an engine runs anyway: the command by itself never uses the network."""
    return msgspec.to_builtins(await verify(services, network=engine is not None))  # type: ignore[no-any-return]


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
    check(rule, Library.stored(services.desk.get(LIBRARY_KEY)))
    if engine is not None:
        saved = await engine.save_rule(rule)
    else:
        saved = await services.desk.save_rule(msgspec.structs.replace(rule, created_ns=services.clock.now_ns()))
    return msgspec.to_builtins(saved)  # type: ignore[no-any-return]


async def _remove_rule(services: Services, engine: Engine | None, *, rule_id: int) -> dict[str, Any]:
    await (services.desk if engine is None else engine).remove_rule(rule_id)
    return {"id": rule_id}


async def _save_formula(services: Services, engine: Engine | None, *, definition: str) -> dict[str, Any]:
    library, function = Library.stored(services.desk.get(LIBRARY_KEY)).with_(definition)
    await _keep_formulas(services, engine, library)
    return next(row for row in _formulas(services.desk) if row["name"] == function.name)


async def _remove_formula(services: Services, engine: Engine | None, *, name: str) -> dict[str, Any]:
    await _keep_formulas(services, engine, Library.stored(services.desk.get(LIBRARY_KEY)).without(name))
    return {"name": name}


async def _keep_formulas(services: Services, engine: Engine | None, library: Library) -> None:
    await services.desk.put(LIBRARY_KEY, library.to_bytes())
    if engine is not None:
        engine.formulas_changed()


async def _save_strategy(services: Services, engine: Engine | None, *, text: str) -> dict[str, Any]:
    from watchhamster.backtest.strategy import read  # the kernel comes with it, which a watchman need not hold

    strategy = read(text, Library.stored(services.desk.get(LIBRARY_KEY)))
    known = len(services.desk.versions(strategy.name))
    saved = await services.desk.save_strategy(strategy.name, text)
    return {"name": saved.name, "version": saved.version, "new": saved.version > known}


async def _remove_strategy(services: Services, engine: Engine | None, *, name: str) -> dict[str, Any]:
    return {"name": name, "versions": await services.desk.remove_strategy(name)}


async def _save_run(services: Services, engine: Engine | None, *, run: dict[str, Any]) -> dict[str, Any]:
    saved = await services.desk.save_run(msgspec.convert(run, StoredRun))
    return msgspec.to_builtins(saved)  # type: ignore[no-any-return]


async def _remove_run(services: Services, engine: Engine | None, *, run_id: int) -> dict[str, Any]:
    await services.desk.remove_run(run_id)
    return {"id": run_id}


async def _save_search(
    services: Services,
    engine: Engine | None,
    *,
    name: str,
    fingerprint: str,
    content: dict[str, Any],
    anew: bool = False,
) -> None:
    if anew:
        await services.desk.remove_search(name)
    await services.desk.save_search(name, fingerprint, content)


async def _add_trials(services: Services, engine: Engine | None, *, search: str, trials: list[dict[str, Any]]) -> None:
    await services.desk.add_trials(search, msgspec.convert(trials, list[Trial]))


async def _start_paper(services: Services, engine: Engine | None, *, paper: dict[str, Any]) -> dict[str, Any]:
    """Let a strategy trade on paper: an engine is needed for that."""
    from watchhamster.backtest.paper import Paper  # the kernel comes with it

    wanted = msgspec.convert(paper, Paper)
    papers = _engine_of(engine).papers
    for instrument in wanted.instruments:
        await _engine_of(engine).find(instrument)
    return papers.record((await papers.add(wanted)).name)


async def _stop_paper(services: Services, engine: Engine | None, *, name: str) -> dict[str, Any]:
    if engine is not None:
        return await engine.papers.remove(name)
    record = _paper(services.desk, name=name)
    await services.desk.remove_paper(record["id"])
    return record


async def _show_paper(services: Services, engine: Engine | None, *, name: str, after: int = 0) -> dict[str, Any]:
    """A strategy on paper as it is now, with its fills from a number on."""
    return _engine_of(engine).papers.record(name, after)


async def _list_papers(services: Services, engine: Engine | None) -> list[dict[str, Any]]:
    return _engine_of(engine).papers.records()


def _engine_of(engine: Engine | None) -> Engine:
    if engine is None:
        raise Unavailable("no_owner", Text("Nothing runs in this home."), Text("Start it first: watchhamster run."))
    return engine


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
    """Add, change or remove a channel of the user's own."""
    if remove:
        await services.remove_channel(name)
    else:
        await services.keep_channel(name, type, Secret(url or ""), Secret(secret) if secret else None, local=local)
    if engine is not None:
        await engine.channels_changed()
    return {"name": name, "type": type, "state": "removed" if remove else "ready"}


async def _cautioned(services: Services, engine: Engine | None, *, venue: str) -> None:
    await services.desk.put(CAUTIONED.format(venue=venue), b"1")


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
    "formula.save": _save_formula,
    "formula.remove": _remove_formula,
    "alert.channel": _set_channel,
    "caution.show": _cautioned,
    "strategy.save": _save_strategy,
    "strategy.remove": _remove_strategy,
    "run.save": _save_run,
    "run.remove": _remove_run,
    "search.save": _save_search,
    "search.add": _add_trials,
    "trade.start": _start_paper,
    "trade.stop": _stop_paper,
    "trade.show": _show_paper,
    "trade.list": _list_papers,
    "status": _status,
    "show": _show,
}


# ---------------------------------------------------------------- on paper


async def papers(home: Home) -> list[dict[str, Any]]:
    """Every strategy that trades on paper: of what runs in this home, or as their journals tell."""
    try:
        return await ask(home, "trade.list")  # type: ignore[no-any-return]
    except Unavailable as error:
        if error.code != "no_owner":
            raise
    if not home.desk_db.exists():
        return []
    with reading_desk(home) as desk:
        return _papers(desk)


async def paper(home: Home, name: str) -> dict[str, Any]:
    """One of them, with its fills. Raises `UsageError` (`unknown_paper`)."""
    try:
        return await ask(home, "trade.show", name=name)  # type: ignore[no-any-return]
    except Unavailable as error:
        if error.code != "no_owner":
            raise
    if not home.desk_db.exists():
        return _paper(None, name=name)
    with reading_desk(home) as desk:
        return _paper(desk, name=name)


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
        with reading_desk(home) as desk:
            rules = desk.rules(tenant)
            children.append(node("rules", "unknown", value=len(rules), detail=Text("not watched now")))
            waiting = len(desk.due_deliveries(1 << 62, 1000))
            children.append(
                node("channels", "pending" if waiting else "ok", value=waiting, detail=Text("waiting to be sent"))
            )
    if home.market_db.exists():
        with reading(home) as store:
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


# ---------------------------------------------------------------- words


def iso_time(at_ns: int) -> str:
    """`YYYY-MM-DDTHH:MM:SSZ`, with a fraction only if it is not zero."""
    seconds, rest = divmod(at_ns, SECOND_NS)
    text = dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09d}".rstrip("0") + "Z" if rest else f"{text}Z"


def feed_reason(event: FeedChanged) -> Text:
    """What a feed's change means, in words."""
    return Text(FEED_REASONS.get(event.reason, event.reason), event.values)
