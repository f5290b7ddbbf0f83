"""The laboratory: strategies run on what is stored, kept so that they can be run again, searched, and shown.

Nothing here asks a venue: bars that are not stored are warnings of the result. A run in this process is interpreted,
which begins at once; searches, and strategies in Python, go to worker processes.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
import numpy as np

from watchhamster import __version__, commands
from watchhamster.backtest import foreign
from watchhamster.backtest.metrics import Metrics, measure
from watchhamster.backtest.paper import Paper
from watchhamster.backtest.results import Result
from watchhamster.backtest.run import History, InstrumentRules, Plan, backtest, close_times, traded
from watchhamster.backtest.strategy import Strategy, read
from watchhamster.core.bars import Bars, Ints, Span
from watchhamster.core.instruments import instrument_of, split_instrument
from watchhamster.core.ports import StoreError, UsageError, WatchHamsterError
from watchhamster.core.sessions import SessionGrid, closures_told
from watchhamster.core.text import Text
from watchhamster.core.timeframes import COMMON, Grid, Timeframe
from watchhamster.core.timeframes import timeframe as timeframe_of
from watchhamster.engine.backfill import Backfill
from watchhamster.engine.clock import SystemClock
from watchhamster.formula import Library
from watchhamster.services import FEES, reading, reading_desk, venue_named
from watchhamster.settings import RESOURCES, Home
from watchhamster.storage.desk import StoredRun, StoredStrategy
from watchhamster.storage.market import MarketStore

if TYPE_CHECKING:
    from watchhamster.backtest.methods import Axis
    from watchhamster.backtest.optimise import Constraint, Findings, Goal, Optimisation
    from watchhamster.backtest.search import ConditionSearch
    from watchhamster.backtest.trials import Trial
    from watchhamster.backtest.trust import Stress, Trust
    from watchhamster.engine.searching import Progress, Searches

EXAMPLES: Final = RESOURCES / "strategies"
FINER_MOST: Final = 1_000_000  # shorter bars that are looked at inside of longer ones
STRESS_BARS: Final = 150_000  # bars that a single run is tried again on before it is judged
TEXT_READ_MOST: Final = 4_000_000
PYTHON_S: Final = 60.0
PYTHON_MB: Final = 1000.0
TRIALS_AT_ONCE: Final = 16  # that fit into one message to the owner of the home


# ---------------------------------------------------------------- strategies


class Source(msgspec.Struct, frozen=True):
    """A strategy as it was written, and where."""

    text: str
    origin: str  # the file, or the name it is stored under
    version: int | None = None  # of a stored one
    python: str = ""  # the class's name, where it is one

    def document(self, library: Library | None = None) -> Strategy:
        """What it says. Raises `UsageError` as `strategy.read` does, and for one in Python, which only workers read."""
        if self.python:
            raise UsageError(
                "not_a_document",
                Text("{name} is a strategy in Python: it can only be run.", {"name": self.origin}),
                Text("watchhamster backtest runs it; documents (TOML) can be checked, kept and optimised."),
            )
        return read(self.text, library)


def source_of(home: Home, word: str) -> Source:
    """The strategy a person means: a file, `file.py:Class`, the name of a stored one (`name@2`) or of an example.

    Raises `UsageError` (`no_file`, `bad_strategy`, `unknown_strategy`, `unknown_version`).
    """
    path, colon, name = word.rpartition(":")
    if colon and path.endswith(".py"):
        return Source(text_of(Path(path)), word, python=name)
    if word.endswith(".py"):
        raise UsageError(
            "bad_python",
            Text("{file} holds a strategy in Python, but which one?", {"file": word}),
            Text("Write {file}:Class.", {"file": word}),
        )
    if word.endswith(".toml") or Path(word).is_file():
        return Source(text_of(Path(word)), word)
    return stored_strategy(home, word)


def text_of(path: Path) -> str:
    """What a strategy's file says. Raises `UsageError` (`no_file`)."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return file.read(TEXT_READ_MOST)  # a document is refused long before that
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else Text("it is not text")
        raise UsageError(
            "no_file",
            Text("{file} cannot be read: {reason}.", {"file": str(path), "reason": reason or str(error)}),
            Text("Name a strategy's file, or one that is stored: watchhamster strategy list."),
        ) from None


def stored_strategy(home: Home, word: str) -> Source:
    """A stored strategy by its name, the newest version or `name@2`; else an example of that name."""
    name, number = word, ""
    known = versions(home, name)
    if not known and re.fullmatch(r".+@[0-9]{1,9}", word):
        name, _, number = word.rpartition("@")
        known = versions(home, name)
    if known and number:
        for one in known:
            if one.version == int(number):
                return Source(one.text, name, one.version)
        raise UsageError(
            "unknown_version",
            Text(
                "{name} has no version {version}; it has 1 to {last}.",
                {"name": name, "version": number, "last": known[-1].version},
            ),
        )
    if known:
        return Source(known[-1].text, name, known[-1].version)
    examples = {path.stem: path for path in EXAMPLES.glob("*.toml")}
    if word in examples:
        return Source(examples[word].read_text(encoding="utf-8"), word)
    near = get_close_matches(name, [*(one.name for one in strategies(home)), *examples], 1, 0.5)
    raise UsageError(
        "unknown_strategy",
        Text("There is no strategy {name!r}.", {"name": word}),
        Text("Did you mean {name}?", {"name": near[0]})
        if near
        else Text("Name a file, or a stored one: watchhamster strategy list."),
        nearest=near[0] if near else None,
    )


def strategies(home: Home) -> list[StoredStrategy]:
    """The newest version of every stored strategy."""
    if not home.desk_db.exists():
        return []
    with reading_desk(home) as desk:
        return desk.strategies()


def versions(home: Home, name: str) -> list[StoredStrategy]:
    """Every version of a stored strategy, oldest first; none where it is not known."""
    if not home.desk_db.exists():
        return []
    with reading_desk(home) as desk:
        return desk.versions(name)


def needs(document: Strategy, library: Library) -> tuple[int, int]:
    """How many bars its formulas need to forget where they began, and the first (from 0) that it can decide on."""
    plan = Plan(document, None, timeframe_of(document.timeframe or "1h"), library=library)
    return plan.warm_up, plan.first_value


# ---------------------------------------------------------------- what is asked, and the bars for it


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy, and what it is to be run on. None: as the strategy says, or all there is."""

    source: Source
    instruments: tuple[str, ...]
    timeframe: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    first_bar_ns: int | None = None
    cash: float = 10_000_000.0
    parameters: Mapping[str, float] = {}
    close_at_end: bool = False
    adjusted: bool = False  # prices comparable across dividends
    seed: int = 1  # of what is drawn when the run is judged
    python_s: float = PYTHON_S
    python_mb: float = PYTHON_MB


class Material(msgspec.Struct, frozen=True, eq=False):
    """Stored bars, ready to be run on, and what is to be known of them."""

    history: History
    since_ns: int
    until_ns: int
    year_days: int
    fingerprint: str  # of the bars of the period
    finer: Mapping[str, str]  # timeframe by instrument
    warnings: tuple[Text, ...]


def gather(
    home: Home,
    request: Request,
    plans: Callable[[Timeframe, Callable[[str], Grid]], Sequence[Plan]],
    *,
    by_period: bool = False,
) -> Material:
    """The bars of a request: those of the period, and before it as many as the plans need.

    `plans` are made for the timeframe; where there are none, all that is stored before the period is given. The
    history knows itself by all that it holds, or, `by_period`, by the bars of the period. Raises `StoreError`
    (`no_data`), and `UsageError` for names that are not known.
    """
    frame = timeframe_of(request.timeframe or "")
    names = tuple(dict.fromkeys(instrument_of(*split_instrument(name, "upbit")) for name in request.instruments))

    @cache
    def grid(name: str) -> Grid:
        return commands.grid_of(name or names[0])

    made = plans(frame, grid)
    warm_up = max((plan.warm_up for plan in made), default=None)
    with _Shelf.open(home, names[0], frame) as shelf:
        until_ns = SystemClock().now_ns() if request.until_ns is None else request.until_ns
        data, warnings = {}, []
        for name in names:
            bars = shelf.bars(name, frame, until_ns, adjusted=request.adjusted)
            data[name] = _begun(traded(bars), request.since_ns, request.first_bar_ns, warm_up)
            warnings += shelf.missing(name, frame, bars, request.since_ns, request.until_ns, grid(name))
        if not any(map(len, data.values())):
            raise _nothing(names, request)
        others = {}
        for name in sorted({other.instrument for plan in made for other in plan.reads()} - set(names)):
            others[name] = shelf.bars(name, frame, until_ns, adjusted=request.adjusted)
            warnings += shelf.missing(name, frame, others[name], request.since_ns, request.until_ns, grid(name))
        opens = [bars.open_ns for bars in data.values() if len(bars)]
        since_ns = min(int(at[0]) for at in opens) if request.since_ns is None else request.since_ns
        last_ns = max(int(at[-1]) for at in opens)
        until_ns = min(until_ns, max(grid(name).end_ns(frame, last_ns) for name in names))
        if since_ns >= until_ns or not any(len(bars.between(since_ns, until_ns)) for bars in data.values()):
            raise _nothing(names, request)
        finer: dict[str, tuple[str, Bars]] = {}
        if any(_rests(plan.strategy) for plan in made):
            for name in names:
                found = shelf.finer(name, frame, since_ns, until_ns, grid(name), adjusted=request.adjusted)
                if found is not None:
                    finer[name] = found
    fine = {name: bars for name, (_, bars) in finer.items()}
    sessions = [_sessions(grid(name)) for name in names]
    period = _fingerprint(frame, {name: bars.between(since_ns, until_ns) for name, bars in data.items()})
    history = History(
        data,
        frame.name,
        rules={name: rules_of(name) for name in names},
        finer=fine,
        others=others,
        zone=sessions[0] or "UTC",
        grids=grid,
        fingerprint=period if by_period else _fingerprint(frame, data, fine, others),
    )
    return Material(
        history,
        since_ns,
        until_ns,
        365 if None in sessions else 252,
        period,
        {name: name_of for name, (name_of, _) in finer.items()},
        tuple(warnings),
    )


class _Shelf:
    """The candles of a home, for as long as they are read."""

    def __init__(self, home: Home, store: MarketStore) -> None:
        self._home = home
        self._store = store
        self._backfill = Backfill(commands.offline_caller, store, SystemClock())
        self._series = store.series()

    @classmethod
    @contextmanager
    def open(cls, home: Home, name: str, frame: Timeframe) -> Iterator[_Shelf]:
        """Raises `StoreError` (`no_data`) where there are none."""
        venue_named(split_instrument(name)[0])
        if not home.market_db.exists():
            raise commands.not_stored(home, name, frame)[1]
        with reading(home) as store:
            yield cls(home, store)

    def bars(self, name: str, frame: Timeframe, until_ns: int, *, adjusted: bool) -> Bars:
        """All bars of an instrument up to a moment, folded where need be. Raises `StoreError` (`no_data`)."""
        venue_named(split_instrument(name)[0])
        first_ns = min((s.first_ns for s in self._series if s.instrument == name), default=None)
        bars = Bars.empty()
        if first_ns is not None and until_ns > first_ns:
            since_ns = frame.open_ns(first_ns)
            bars = asyncio.run(self._backfill.candles(name, frame, since_ns, until_ns, network=False))
        if not len(bars) and (first_ns is None or until_ns > first_ns):
            raise commands.not_stored(self._home, name, frame)[1]
        if not adjusted or bars.adjustment is None:
            return bars
        factor = bars.adjustment
        prices = {column: getattr(bars, column) * factor for column in ("open", "high", "low", "close")}
        return msgspec.structs.replace(bars, **prices, adjustment=None)

    def missing(
        self, name: str, frame: Timeframe, bars: Bars, since_ns: int | None, until_ns: int | None, grid: Grid
    ) -> list[Text]:
        """What of the period was never fetched, in words; of a period without bounds, between the first and last."""
        if not len(bars):
            return []
        since_ns = int(bars.open_ns[0]) if since_ns is None else since_ns
        end_ns = grid.end_ns(frame, int(bars.open_ns[-1]))
        until_ns = end_ns if until_ns is None else min(until_ns, grid.settled_ns(frame, SystemClock().now_ns()))
        if since_ns >= until_ns:
            return []
        spans = self._store.read_coverage(name, frame.name, since_ns, until_ns)
        holes = closures_told(_holes(spans, bars.between(since_ns, until_ns).open_ns, frame, grid), grid, frame)
        holes = [hole for hole in holes if hole.state == "not_fetched"]
        if not holes:
            return []
        values = {
            "count": len(holes),
            "instrument": name,
            "since": commands.iso_time(holes[0].since_ns),
            "until": commands.iso_time(holes[0].until_ns),
        }
        return [
            Text("{count} stretches of {instrument} were never fetched, the first from {since} to {until}.", values)
            if len(holes) > 1
            else Text("{instrument} was never fetched from {since} to {until}.", values)
        ]

    def finer(
        self, name: str, frame: Timeframe, since_ns: int, until_ns: int, grid: Grid, *, adjusted: bool
    ) -> tuple[str, Bars] | None:
        """The shortest bars that are stored complete for a period, with their timeframe."""
        known = {series.timeframe for series in self._series if series.instrument == name}
        for word in COMMON:
            fine = timeframe_of(word)
            if word not in known or fine.approximate_ns >= frame.approximate_ns:
                continue
            if (until_ns - since_ns) // fine.approximate_ns > FINER_MOST:
                continue
            spans = closures_told(self._store.read_coverage(name, word, since_ns, until_ns), grid, fine)
            if any(span.state == "not_fetched" for span in spans):
                continue
            bars = self.bars(name, fine, until_ns, adjusted=adjusted).between(since_ns, until_ns)
            if len(bars):
                return word, bars
        return None


def _holes(spans: Sequence[Span], opens: Ints, frame: Timeframe, grid: Grid) -> Iterator[Span]:
    """Of the stretches that were never fetched, those that no bar was folded for."""
    for span in spans:
        if span.state != "not_fetched":
            continue
        inside = opens[np.searchsorted(opens, span.since_ns) : np.searchsorted(opens, span.until_ns)]
        starts = np.concatenate(([span.since_ns], close_times(inside, frame, grid)))
        ends = np.concatenate((inside, [span.until_ns]))
        for since_ns, until_ns in zip(starts[starts < ends].tolist(), ends[starts < ends].tolist(), strict=True):
            yield Span(since_ns, until_ns, "not_fetched", 0)


def _begun(bars: Bars, since_ns: int | None, first_bar_ns: int | None, warm_up: int | None) -> Bars:
    """The bars from the first one that a run looks at."""
    if since_ns is None:
        return bars if first_bar_ns is None else bars.slice(int(np.searchsorted(bars.open_ns, first_bar_ns)), len(bars))
    if warm_up is None and first_bar_ns is None:
        return bars
    go = int(np.searchsorted(bars.open_ns, since_ns))
    first = max(0, go - (warm_up or 0))
    if first_bar_ns is not None:
        first = min(go, int(np.searchsorted(bars.open_ns, first_bar_ns)))
    return bars.slice(first, len(bars))


def _nothing(names: Sequence[str], request: Request) -> StoreError:
    until_ns = request.until_ns
    return StoreError(
        "no_data",
        Text(
            "No {timeframe} candles of {names} are stored from {since} to {until}.",
            {
                "timeframe": request.timeframe,
                "names": ", ".join(names),
                "since": "…" if request.since_ns is None else commands.iso_time(request.since_ns),
                "until": "…" if until_ns is None else commands.iso_time(until_ns),
            },
        ),
        Text("watchhamster data coverage {name} shows what is.", {"name": names[0]}),
    )


def _rests(strategy: Strategy) -> bool:
    """Whether it has orders that rest, so that it matters what came first inside a bar."""
    entry, protect = strategy.entry, strategy.protect
    orders = (entry.limit, entry.stop, entry.short_limit, entry.short_stop)
    guards = (protect.stop_percent, protect.stop_atr, protect.target_percent, protect.trailing_percent)
    return bool(protect.targets) or any(one is not None for one in (*orders, *guards, protect.break_even_percent))


def _sessions(grid: Grid) -> str | None:
    """The zone of a market that closes at night; None for one that never does."""
    if not isinstance(grid, SessionGrid) or grid.calendar.market.week[5]:  # open on Saturdays
        return None
    return grid.calendar.zone.key


def rules_of(name: str) -> InstrumentRules:
    """What an instrument's venue demands of orders: its ticks, fees and least total. On a spot market nobody is short.

    Shares are bought in any fraction, and prices of a venue that rounds them for display have no ticks.
    """
    venue, symbol = split_instrument(name)
    fee = Decimal(str(FEES[venue])) * 100
    if venue == "yahoo":
        return InstrumentRules(maker_percent=fee, taker_percent=fee)
    info = venue_named(venue).described(symbol)
    return InstrumentRules(
        steps=info.steps, least_total=info.least_total, maker_percent=fee, taker_percent=fee, shortable=False
    )


def on_paper(
    home: Home,
    source: Source,
    instruments: Sequence[str],
    timeframe: str | None,
    cash: float,
    parameters: Mapping[str, float],
    first_bar_ns: int | None = None,
    channels: Sequence[str] = ("desktop", "inbox"),
) -> Paper:
    """A strategy as it is to trade on paper, with the costs and rules that its backtest would have.

    Raises `UsageError` for what makes no sense.
    """
    library = commands.library_of(home)
    document = source.document(library)
    names = tuple(dict.fromkeys(instrument_of(*split_instrument(name, "upbit")) for name in instruments))
    frame = timeframe or document.timeframe
    if not names:
        raise UsageError(
            "no_instrument", Text("Which instrument is it to trade?"), Text("Say --instrument upbit:KRW-BTC.")
        )
    if frame is None:
        raise UsageError(
            "bad_timeframe",
            Text("The strategy {name} names no timeframe.", {"name": document.name}),
            Text("Say one: --timeframe 1h."),
        )
    if not 0 < cash < 1e15:
        raise UsageError(
            "bad_cash", Text("A run cannot begin with {cash}.", {"cash": f"{cash:g}"}), Text("Give it some money.")
        )
    document.resolve(parameters)
    return Paper(
        name=document.name,
        text=source.text,
        instruments=names,
        timeframe=timeframe_of(frame).name,
        cash=cash,
        parameters=dict(parameters),
        rules={name: rules_of(name) for name in names},
        formulas=dict(library.definitions),
        zone=_sessions(commands.grid_of(names[0])) or "UTC",
        channels=tuple(channels),
        first_bar_ns=first_bar_ns,
    )


def _fingerprint(frame: Timeframe, *groups: Mapping[str, Bars]) -> str:
    """A hash of bars: equal data, equal fingerprint."""
    digest = hashlib.blake2b(digest_size=16)
    for group in groups:
        for name in sorted(group):
            digest.update(f"{name} {frame} {len(group[name])}\n".encode())
            for column in group[name].__struct_fields__:
                if (values := getattr(group[name], column)) is not None:
                    digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


# ---------------------------------------------------------------- one run


class Run(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A backtest that was made."""

    request: Request
    material: Material
    library: Library
    result: Result
    metrics: Metrics
    started_ns: int
    elapsed_s: float

    @property
    def warnings(self) -> tuple[Text, ...]:
        """Of the data, then of the run."""
        return (*self.material.warnings, *self.result.warnings)

    def answer(self) -> dict[str, Any]:
        """The contract's object, but for `run` and the clock fields: equal inputs give equal ones."""
        curve = self.result.curve
        points = list(zip(curve.close_ns.tolist(), curve.equity.tolist(), strict=True))
        return self._facts() | {"equity": points, "warnings": [str(warning) for warning in self.warnings]}

    def hash(self) -> str:
        """Of the answer."""
        digest = hashlib.blake2b(msgspec.json.encode(self._facts()), digest_size=16)
        digest.update(np.ascontiguousarray(self.result.curve.close_ns).data)
        digest.update(np.ascontiguousarray(self.result.curve.equity).data)
        return digest.hexdigest()

    def _facts(self) -> dict[str, Any]:
        result = self.result
        return {
            "strategy": result.strategy,
            "instruments": list(result.instruments),
            "timeframe": result.timeframe,
            "bars": result.bars,
            "data_fingerprint": result.data_fingerprint,
            "parameters": dict(result.parameters),
            "metrics": msgspec.to_builtins(self.metrics),
            "fills": msgspec.to_builtins(result.fills),
            "trades": msgspec.to_builtins(result.trades),
            "open_trades": msgspec.to_builtins(result.open_trades),
            "pending": msgspec.to_builtins(result.pending),
            "refused": msgspec.to_builtins(result.refused),
            "first_bar_ns": result.first_bar_ns,
            "since_ns": result.since_ns,
            "until_ns": result.until_ns,
            "cash": result.cash,
            "finer": dict(self.material.finer),
        }

    def record(self) -> StoredRun:
        """What is kept of it."""
        request, result = self.request, self.result
        return StoredRun(
            strategy=result.strategy,
            version=request.source.version,
            text=request.source.text,
            python=request.source.python,
            instruments=result.instruments,
            timeframe=result.timeframe,
            since_ns=self.material.since_ns,
            until_ns=self.material.until_ns,
            first_bar_ns=result.first_bar_ns,
            cash=result.cash,
            parameters=dict(request.parameters),
            formulas=dict(self.library.definitions),
            close_at_end=request.close_at_end,
            adjusted=request.adjusted,
            finer=dict(self.material.finer),
            seed=request.seed,
            app_version=__version__,
            data_fingerprint=result.data_fingerprint,
            period_fingerprint=self.material.fingerprint,
            answer=self.hash(),
            made_ns=self.started_ns,
            metrics=msgspec.to_builtins(self.metrics),
        )


def run(home: Home, request: Request, library: Library | None = None) -> Run:
    """Run a strategy once on what is stored.

    Raises `UsageError` for what is wrong with the strategy or the request, `StoreError` (`no_data`), and of a strategy
    in Python what `WorkerPool.run` and `foreign.run` do.
    """
    clock = SystemClock()
    started_ns, began_s = clock.now_ns(), clock.monotonic()
    library = commands.library_of(home) if library is None else library
    if request.source.python:
        material, result = _run_python(home, request)
    else:
        document = request.source.document(library)
        request = _framed(request, document)
        material = gather(
            home,
            request,
            lambda frame, grids: [Plan(document, request.parameters, frame, library=library, grids=grids)],
        )
        result = backtest(
            document,
            material.history,
            parameters=request.parameters,
            since_ns=material.since_ns,
            until_ns=material.until_ns,
            cash=request.cash,
            close_at_end=request.close_at_end,
            first_bar_ns=request.first_bar_ns,
            year_days=material.year_days,
            library=library,
        )
    return Run(
        request=request,
        material=material,
        library=library,
        result=result,
        metrics=measure(result),
        started_ns=started_ns,
        elapsed_s=clock.monotonic() - began_s,
    )


def _framed(request: Request, document: Strategy | None) -> Request:
    """With the timeframe that is asked, or that the strategy names."""
    name = request.timeframe or (None if document is None else document.timeframe)
    if name is None:
        raise UsageError(
            "bad_timeframe",
            Text("No timeframe is given, and the strategy names none."),
            Text("Say one: --timeframe 1h."),
        )
    return msgspec.structs.replace(request, timeframe=timeframe_of(name).name)


def _run_python(home: Home, request: Request) -> tuple[Material, Result]:
    from watchhamster.engine.workers import WorkerPool

    material = gather(home, _framed(request, None), lambda frame, grids: [])
    options = foreign.Options(
        since_ns=material.since_ns,
        until_ns=material.until_ns,
        cash=request.cash,
        parameters=request.parameters,
        close_at_end=request.close_at_end,
        first_bar_ns=request.first_bar_ns,
        year_days=material.year_days,
    )

    async def work() -> Result:
        async with WorkerPool(size=1) as pool, pool.sharing(material.history) as history:
            return await pool.run(
                foreign.run,
                history,
                request.source.text,
                request.source.python,
                options,
                timeout_s=request.python_s,
                memory_mb=request.python_mb,
                alone=True,
            )

    return material, asyncio.run(work())


def keep(home: Home, run: Run) -> int:
    """Keep a run, and give its number."""
    kept = asyncio.run(commands.act(home, "run.save", {"run": msgspec.to_builtins(run.record())}))
    return int(kept["id"])


# ---------------------------------------------------------------- runs that are kept


def runs(home: Home, limit: int, strategy: str | None = None) -> list[StoredRun]:
    """The last runs, oldest first."""
    if not home.desk_db.exists():
        return []
    with reading_desk(home) as desk:
        return desk.runs(limit, strategy)


def kept_run(home: Home, run_id: int) -> StoredRun:
    """One of them. Raises `UsageError` (`unknown_run`)."""
    if not home.desk_db.exists():
        raise UsageError("unknown_run", Text("There is no run {id}.", {"id": run_id}))
    with reading_desk(home) as desk:
        return desk.run(run_id)


def repeat(home: Home, kept: StoredRun) -> Run:
    """Run it again: the same strategy, parameters, period and first bar, on what is stored now.

    Raises `WatchHamsterError` (`data_changed`, `result_differs`) where it does not come out the same.
    """
    request = Request(
        source=Source(kept.text, kept.strategy, kept.version, kept.python),
        instruments=kept.instruments,
        timeframe=kept.timeframe,
        since_ns=kept.since_ns,
        until_ns=kept.until_ns,
        first_bar_ns=kept.first_bar_ns,
        cash=kept.cash,
        parameters=kept.parameters,
        close_at_end=kept.close_at_end,
        adjusted=kept.adjusted,
        seed=kept.seed,
    )
    again = run(home, request, Library(kept.formulas))
    values = {"id": kept.id, "version": kept.app_version}
    if again.result.data_fingerprint != kept.data_fingerprint:
        raise WatchHamsterError(
            "data_changed",
            Text("Run {id} was made on other data: candles of it were added or corrected since.", values),
            Text("Run it anew, or restore a backup of the data."),
            data_fingerprint=again.result.data_fingerprint,
        )
    if again.hash() != kept.answer:
        raise WatchHamsterError(
            "result_differs",
            Text("Run {id} comes out differently: it was made by version {version}.", values),
            Text("Run it anew, and compare both: watchhamster runs show {id}.", values),
        )
    return again


# ---------------------------------------------------------------- how far it can be trusted


def judge(home: Home, run: Run, bars: int = STRESS_BARS) -> Trust:
    """How far a single run can be trusted, counting every trial on its data; tried again on so many bars at most."""
    from watchhamster.backtest.metrics import digest
    from watchhamster.backtest.trust import assess

    tried = 0
    if home.desk_db.exists():
        with reading_desk(home) as desk:
            tried = desk.trials_on(run.material.fingerprint)
    return assess(
        digest(run.result),
        run.metrics,
        np.random.default_rng(run.request.seed),
        trials=max(1, tried),
        stressed=_stressed(run, bars),
    )


def _stressed(run: Run, bars: int) -> Stress | None:
    """The run under worse conditions; as many random entries as there is time for."""
    from watchhamster.backtest.trust import Change, stress

    history = run.material.history
    walked = sum(len(fine.prices) // 4 for fine in history.fine if fine is not None)
    times = bars // max(1, run.result.bars + walked)
    if times < 2 or run.request.source.python or not run.result.trades:
        return None
    document = run.request.source.document(run.library)

    def again(change: Change) -> Metrics:
        return measure(
            backtest(
                document,
                run.material.history,
                parameters=run.request.parameters,
                since_ns=run.material.since_ns,
                until_ns=run.material.until_ns,
                cash=run.request.cash,
                close_at_end=run.request.close_at_end,
                first_bar_ns=run.request.first_bar_ns,
                year_days=run.material.year_days,
                library=run.library,
                change=change,
            )
        )

    draws = min(39, times - 2)
    return stress(run.metrics, again, range(run.request.seed, run.request.seed + (draws if draws >= 19 else 0)))


# ---------------------------------------------------------------- files


def report(
    run: Run,
    path: Path,
    *,
    language: str,
    trust: Trust | None = None,
    trials: Sequence[Trial] | None = None,
    metric: str = "sharpe",
    notes: str = "",
) -> None:
    """Write a run as one HTML file, in the language in use, whose code is given. Raises `StoreError`."""
    from watchhamster.backtest.report import render

    facts: list[tuple[Text, Text | str]] = [
        (Text("Program"), f"WatchHamster {__version__}"),
        (Text("Data fingerprint"), run.result.data_fingerprint),
        (Text("Seed"), str(run.request.seed)),
    ]
    if run.request.source.version is not None:
        facts.append((Text("Strategy version"), str(run.request.source.version)))
    material = run.material
    candles = {
        name: bars.between(material.since_ns, material.until_ns)
        for name, bars in zip(material.history.instruments, material.history.bars, strict=True)
    }
    page = render(
        msgspec.structs.replace(run.result, warnings=run.warnings),
        run.metrics,
        candles=candles,
        trust=trust,
        trials=trials,
        notes=notes,
        language=language,
        facts=facts,
        source=run.request.source.text,
        metric=metric,
    )
    write_text(path, page)


def check_table(path: Path) -> None:
    """Refuse a file whose ending does not say how to write a table. Raises `UsageError` (`bad_format`)."""
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise UsageError(
            "bad_format",
            Text("{file} is neither .csv nor .parquet.", {"file": str(path)}),
            Text("The file's ending says the format."),
        )


def write_table(path: Path, columns: Mapping[str, Any]) -> int:
    """Write columns to a `.csv` (times as ISO texts) or `.parquet` file, and how many rows.

    Raises as `check_table`, and `StoreError` (`cannot_write`).
    """
    check_table(path)
    count = len(next(iter(columns.values())))
    if path.suffix.lower() == ".csv":
        named = {
            name.removesuffix("_ns") + ("_time" if name.endswith("_ns") else ""): [
                "" if value is None else commands.iso_time(value) if name.endswith("_ns") else value
                for value in (values.tolist() if isinstance(values, np.ndarray) else values)
            ]
            for name, values in columns.items()
        }

        def write() -> None:
            import csv

            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(named)
                writer.writerows(zip(*named.values(), strict=True))
    else:

        def write() -> None:
            import pyarrow as pa
            from pyarrow import parquet

            arrays = {
                name.removesuffix("_ns") + ("_time" if name.endswith("_ns") else ""): pa.array(
                    values, pa.timestamp("ns", "UTC") if name.endswith("_ns") else None
                )
                for name, values in columns.items()
            }
            parquet.write_table(pa.table(arrays), path)

    _written(path, write)
    return count


def write_text(path: Path, text: str) -> None:
    """Write a file. Raises `StoreError` (`cannot_write`)."""
    _written(path, lambda: path.write_text(text, encoding="utf-8"))


def _written(path: Path, write: Callable[[], object]) -> None:
    try:
        write()
    except OSError as error:
        raise StoreError(
            "cannot_write",
            Text("{path} cannot be written: {reason}.", {"path": str(path), "reason": error.strerror or str(error)}),
            Text("Choose a folder you may write to, with enough room."),
        ) from None


# ---------------------------------------------------------------- searches


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """How better parameters, or a better entry condition, are looked for."""

    method: str = "tpe"  # one of `methods.METHODS`, walkforward or conditions
    inner: str = "tpe"  # of a walk forward: how each window is searched
    metric: str = "sharpe"
    trials: int | None = None  # None: the whole grid, else 200 (of conditions 2000)
    constraints: tuple[str, ...] = ()
    ranges: Mapping[str, tuple[float, float, float | None]] = {}  # instead of the document's
    check: str = "none"  # or three_ways
    windows: int = 5
    train_share: float = 0.75
    anchored: bool = False
    functions: tuple[str, ...] = ()  # what conditions are made of; none: the usual ones
    side: Literal["long", "short"] = "long"
    workers: int | None = None
    resume: bool = False  # go on with what is kept of the same search


class Found(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """What a search came to, on which data."""

    name: str
    findings: Findings
    request: Request
    material: Material
    library: Library
    metric: str
    side: Literal["long", "short"]


def search(
    home: Home,
    request: Request,
    wanted: Search,
    on_trials: Callable[[Sequence[Trial]], None],
    on_progress: Callable[[Progress], None],
    searches: Searches | None = None,
) -> Found:
    """Carry out a search over a pool of workers; its trials are kept as they come, and handed to `on_trials` in order.

    `searches` is where they are kept, by default in the home's file, through its owner.
    Raises `UsageError` for what cannot be searched, before anything is run.
    """
    from watchhamster.backtest.objective import Backtests, axes_of, warm
    from watchhamster.backtest.optimise import constraints, goals
    from watchhamster.engine.searching import search as carry_on
    from watchhamster.engine.workers import WorkerPool

    library = commands.library_of(home)
    document = request.source.document(library)
    request = _framed(request, document)
    document.values(request.parameters)
    targets = goals(wanted.metric)
    limits = constraints(wanted.constraints)
    axes = _axes(document, axes_of(document), request.parameters, wanted.ranges)

    def plans(frame: Timeframe, grids: Callable[[str], Grid]) -> list[Plan]:
        made = [Plan(document, request.parameters, frame, library=library, grids=grids)]
        for corner in _corners(axes):
            with suppress(UsageError):  # a set that is refused needs no history
                made.append(Plan(document, {**request.parameters, **corner}, frame, library=library, grids=grids))
        return made

    material = gather(home, request, plans, by_period=True)
    plan = _plan_of(wanted, request, material, axes, targets, limits)
    objective = Backtests(
        document,
        fixed=request.parameters,
        cash=request.cash,
        year_days=material.year_days,
        close_at_end=request.close_at_end,
        formulas=library.definitions,
        side=wanted.side,
    )
    kept = searches or _Kept(home, anew=not wanted.resume)

    def progressed(progress: Progress) -> None:
        if progress.new:
            on_trials(progress.new)
        on_progress(progress)

    async def work() -> Findings:
        if wanted.resume and (known := await kept.trials(plan.run)):
            on_trials(known)
        async with WorkerPool(size=wanted.workers, warm=warm) as pool:
            return await carry_on(
                plan,
                objective,
                material.history,
                pool,
                kept,
                clock=SystemClock(),
                content={"request": msgspec.to_builtins(request), "search": msgspec.to_builtins(wanted)},
                on_progress=progressed,
            )

    findings = asyncio.run(work())
    return Found(
        name=plan.run,
        findings=findings,
        request=request,
        material=material,
        library=library,
        metric=targets[0].metric,
        side=wanted.side,
    )


def _axes(
    document: Strategy,
    known: Sequence[Axis],
    fixed: Mapping[str, float],
    ranges: Mapping[str, tuple[float, float, float | None]],
) -> tuple[Axis, ...]:
    """What is searched: the document's ranges, or those asked for, without what is fixed."""
    from watchhamster.backtest.methods import Axis

    axes = {axis.name: axis for axis in known}
    document.values(dict.fromkeys(ranges, 0.0))  # refuses what it does not have
    for name, (low, high, step) in ranges.items():
        default = document.parameters[name].default
        whole = all(float(number).is_integer() for number in (low, high, default, step or 1.0))
        axes[name] = Axis(name, low, high, step or (1.0 if whole else None), whole, default)
    return tuple(axes[name] for name in document.parameters if name in axes and name not in fixed)


def _corners(axes: Sequence[Axis]) -> list[dict[str, float]]:
    """Sets of parameters that need the most history before the period: all at their highest, and each."""
    tops = {axis.name: axis.high for axis in axes}
    return [tops, *({name: high} for name, high in tops.items())]


def _plan_of(
    wanted: Search,
    request: Request,
    material: Material,
    axes: tuple[Axis, ...],
    targets: tuple[Goal, ...],
    limits: tuple[Constraint, ...],
) -> Optimisation | ConditionSearch:
    """The plan, named after all that it follows from. Raises `UsageError` for what cannot be searched."""
    from watchhamster.backtest.methods import METHODS, Problem, check
    from watchhamster.backtest.optimise import Optimisation
    from watchhamster.backtest.search import ConditionSearch, Vocabulary

    walking = wanted.method == "walkforward"
    method = wanted.inner if walking else wanted.method
    if method not in (*METHODS, "conditions") or (walking and method == "conditions"):
        names = (*METHODS, "walkforward", "conditions")
        near = get_close_matches(method, names, 1, 0.4)
        raise UsageError(
            "unknown_method",
            Text("There is no method {name!r}.", {"name": method}),
            Text("Did you mean {name}?", {"name": near[0]})
            if near
            else Text("Known ones are {names}.", {"names": ", ".join(names)}),
        )
    span = (material.since_ns, material.until_ns)
    trials = wanted.trials
    if trials is not None and trials < 1:
        raise UsageError("bad_trials", Text("At least one trial is needed."), Text("Give a number, such as 200."))
    settings = msgspec.structs.replace(wanted, workers=None, resume=False)
    identity = (material.fingerprint, __version__, settings, msgspec.structs.replace(request, source=None), span)
    digest = hashlib.blake2b(msgspec.json.encode((*identity, request.source.text)), digest_size=6)
    name = f"{request.source.origin} {wanted.method} {digest.hexdigest()}"
    if method == "conditions":
        if len(targets) > 1:
            raise UsageError(
                "too_many_goals",
                Text("{method} works towards one metric only.", {"method": method}),
                Text("Take the method genetic for several."),
            )
        words = Vocabulary(wanted.functions) if wanted.functions else Vocabulary()
        return ConditionSearch(
            run=name,
            goal=targets[0],
            span=span,
            vocabulary=words,
            trials=trials or 2000,
            seed=request.seed,
            constraints=limits,
        )
    known: Any = method
    plan = Optimisation(
        run=name,
        axes=axes,
        method=known,
        goals=targets,
        span=span,
        trials=trials or (0 if method == "grid" else 200),
        seed=request.seed,
        constraints=limits,
        check="walk_forward" if walking else "three_ways" if wanted.check == "three_ways" else "none",
        windows=wanted.windows,
        train_share=wanted.train_share,
        anchored=wanted.anchored,
    )
    check(Problem(known, axes, plan.seed, plan.trials, len(targets), plan.batch))
    return plan


class _Kept:
    """Searches in the home's file: written through its owner, so that a window may be open meanwhile."""

    def __init__(self, home: Home, *, anew: bool) -> None:
        self._home = home
        self._anew = anew

    async def save_search(self, name: str, fingerprint: str, content: Mapping[str, Any]) -> None:
        values = {"name": name, "fingerprint": fingerprint, "content": dict(content), "anew": self._anew}
        await commands.act(self._home, "search.save", values)

    async def trials(self, run: str) -> list[Trial]:
        if not self._home.desk_db.exists():
            return []
        with reading_desk(self._home) as desk:
            return await desk.trials(run)

    async def add_trials(self, run: str, trials: Sequence[Trial]) -> None:
        for start in range(0, len(trials), TRIALS_AT_ONCE):
            rows = msgspec.to_builtins(trials[start : start + TRIALS_AT_ONCE])
            await commands.act(self._home, "search.add", {"search": run, "trials": rows})

    def trials_on(self, fingerprint: str, besides: str = "") -> int:
        with reading_desk(self._home) as desk:
            return desk.trials_on(fingerprint, besides)


def best_run(home: Home, found: Found) -> Run | None:
    """The best of a search as a run of its own, over the whole period; None where there is none."""
    best = found.findings.best
    if best is None:
        return None
    request, source = found.request, found.request.source
    if best.formula:
        from watchhamster.backtest.strategy import write

        document = source.document(found.library)
        sides: dict[str, Any] = {"long": None, "short": None, found.side: best.formula}
        entry = msgspec.structs.replace(document.entry, **sides)
        source = Source(write(msgspec.structs.replace(document, entry=entry)), source.origin)
    parameters = {**request.parameters, **{name: float(value) for name, value in best.parameters.items()}}
    return run(home, msgspec.structs.replace(request, source=source, parameters=parameters), found.library)
