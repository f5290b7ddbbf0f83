"""Running a strategy over bars.

`History` checks bars once and holds them as the kernel wants them; `backtest` evaluates the strategy's formulas over
its arrays, lets the kernel live through them and makes a `Result` of the tape. `Account` does the same one bar at a
time, with the same step: what it is given bar by bar it fills like a backtest of those bars, to the bit.

A run's history begins at its *first bar*: as many bars before `since_ns` as the formulas need to forget where they
began, or the first there is. Before `since_ns` nothing is decided.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from watchhamster.backtest import kernel as k
from watchhamster.backtest.metrics import Digest, digest_curve, zone_offsets
from watchhamster.backtest.results import Curve, Fill, Order, Result, Trade
from watchhamster.backtest.strategy import (
    DAYS,
    Number,
    Strategy,
    minutes,
    uses_position,
)
from watchhamster.backtest.trust import Change
from watchhamster.core.bars import Bars, Floats, Ints
from watchhamster.core.instruments import PriceSteps
from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text
from watchhamster.core.timeframes import SECOND_NS, UTC, Grid, Timeframe, timeframe
from watchhamster.formula import HELD, Family, Frame, Library, Values, compile_many
from watchhamster.formula import Sweep as Shared

YEAR_NS = 31_557_600 * SECOND_NS
REFUSED_MAX = 10_000  # refusals that are listed; the rest is counted
TAPE = 8192  # records a tape holds before it is emptied
ASKED_AGAIN = 8  # bars on which a strategy in Python is tried for looking ahead
NO_CHANGE = Change()
_WINDOWS = 4  # periods that are kept ready: runs come in series over the same ones

# ---------------------------------------------------------------- what the venue says


class InstrumentRules(msgspec.Struct, frozen=True):
    """What an instrument's venue demands. The defaults demand nothing. Money is in the quote asset."""

    steps: PriceSteps | None = None
    lot: Decimal | None = None  # sizes are multiples of it
    least_total: Decimal = Decimal(0)  # of an entry, or of a part of a position
    maker_percent: Decimal = Decimal(0)  # of limit entries and targets
    taker_percent: Decimal = Decimal(0)
    fixed_fee: Decimal = Decimal(0)  # besides, a fill
    least_fee: Decimal = Decimal(0)  # a fill
    shortable: bool = True
    maintenance_percent: Decimal = Decimal(0)  # of a short's value: it is liquidated when equity falls to it
    delisted: bool = False  # its last bar is its very last


def _ratio(number: Decimal) -> tuple[float, float]:
    """A decimal as number / divisor: a multiple made of these is the float64 nearest to the decimal one."""
    fraction = Fraction(number)
    return float(fraction.numerator), float(fraction.denominator)


def _fraction(percent: Number | Decimal) -> float:
    """Percent as a fraction, rounded once."""
    return float(Decimal(str(percent)) / 100)


# ---------------------------------------------------------------- signals


class Signals(msgspec.Struct, frozen=True, eq=False):
    """What a strategy says about every bar at its close, as equally long arrays."""

    long: NDArray[np.bool_] | None = None  # go long
    short: NDArray[np.bool_] | None = None
    exits: Mapping[str, NDArray[np.bool_]] = {}  # name -> go out, of either side
    long_price: Floats | None = None  # of the limit or stop orders that entries are; NaN: none
    short_price: Floats | None = None
    score: Floats | None = None  # which instruments come first when not all fit: the highest


class PythonStrategy(Protocol):
    """A strategy in Python, for what formulas cannot say. Everything but `signals` is as in a document.

    `document` gives name, parameters, sizes, protection, costs and limits; its formulas are not read. Of its entry,
    `limit` or `stop` says which kind of order `long_price` and `short_price` are for; its exits' names, shares and
    sides are those of `Signals.exits`.
    """

    document: Strategy

    def signals(self, bars: Bars, parameters: Mapping[str, float]) -> Signals:
        """What to do after each of these bars. It must not look ahead: see `looks_ahead`."""


def looks_ahead(strategy: PythonStrategy, bars: Bars, parameters: Mapping[str, float]) -> int | None:
    """A bar that is answered otherwise when the bars after it are not there yet; None: none was found.

    Bars with a signal are asked again, some of all: what knows the future shows it there.
    """
    whole = signal_bits(strategy.document, strategy.signals(bars, parameters), len(bars))
    telling = np.flatnonzero(whole)
    chosen = telling[:: max(1, len(telling) // ASKED_AGAIN)].tolist() or [len(bars) // 2]
    for place in chosen[:ASKED_AGAIN]:
        said = strategy.signals(bars.slice(0, place + 1), parameters)
        different = np.flatnonzero(signal_bits(strategy.document, said, place + 1) != whole[: place + 1])
        if len(different):
            return int(different[0])
    return None


def signal_bits(document: Strategy, signals: Signals, count: int) -> NDArray[np.uint16]:
    """Signals as the kernel reads them."""
    bits = np.zeros(count, np.uint16)
    for place, column in ((k.LONG, signals.long), (k.SHORT, signals.short)):
        if column is not None:
            bits |= column.astype(np.uint16) * np.uint16(place)
    for number, exit in enumerate(document.exit):
        column = signals.exits.get(exit.name)
        if column is not None:
            bits |= column.astype(np.uint16) << np.uint16(k.FIRST_EXIT + number)
    return bits


# ---------------------------------------------------------------- bars


class History:
    """Bars of some instruments in one timeframe, checked, and ready to be run on many times.

    Bars in which nothing was traded (volume 0, where the venue records volumes at all) are left out: no formula runs
    on them and no order fills. `finer` bars of a shorter timeframe decide what came first inside the bars they add up
    to. `others` are bars of instruments that formulas only read, by `of`; `grids` says where an instrument's bars and
    days begin. Raises `UsageError` (`bad_bar`, naming it) for a bar that cannot be, and `no_data` for none at all.
    """

    def __init__(
        self,
        data: Mapping[str, Bars],
        frame: str,
        *,
        rules: Mapping[str, InstrumentRules] | None = None,
        finer: Mapping[str, Bars] | None = None,
        others: Mapping[str, Bars] | None = None,
        zone: str = "UTC",
        grids: Callable[[str], Grid] = lambda _: UTC,
        fingerprint: str | None = None,
    ) -> None:
        self.frame = timeframe(frame)
        self.instruments = tuple(data)
        self.rules = {name: (rules or {}).get(name, InstrumentRules()) for name in data}
        self.zone = zone
        self.grids = grids
        self.others = {**(others or {}), **data}
        self._given = data
        self._fingerprint = fingerprint
        for name, bars in data.items():
            _check_bars(name, bars)
        for name, bars in (finer or {}).items():
            _check_bars(name, bars)
        self.bars = tuple(traded(bars) for bars in data.values())
        if not any(map(len, self.bars)):
            raise UsageError(
                "no_data",
                Text("There are no bars of {names}.", {"names": ", ".join(data) or "-"}),
                Text("Fetch or import them first: watchhamster data."),
            )
        self.fine = tuple(
            _Fine.of(bars, finer[name], close_times(bars.open_ns, self.frame, grids(name)))
            if finer and name in finer
            else None
            for name, bars in zip(data, self.bars, strict=True)
        )
        self._windows: dict[tuple[int, ...], Window] = {}

    def __getstate__(self) -> dict[str, Any]:
        """As it goes to workers: hashed, without windows, and knowing the grids of its own instruments only."""
        grids = _Grids({name: self.grids(name) for name in self.others})
        return {**self.__dict__, "_fingerprint": self.fingerprint, "_given": {}, "_windows": {}, "grids": grids}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that was given: equal data, equal fingerprint."""
        if self._fingerprint is not None:
            return self._fingerprint
        digest = hashlib.blake2b(digest_size=16)
        for name in sorted(self._given):
            digest.update(f"{name} {self.frame}\n".encode())
            for column in self._given[name].__struct_fields__:
                if (values := getattr(self._given[name], column)) is not None:
                    digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()

    def window(
        self, since_ns: int | None, until_ns: int | None, warm_up: int, first_bar_ns: int | None = None
    ) -> Window:
        """The bars of a period, with those before it that formulas are to begin on."""
        key: list[int] = []
        spans: list[tuple[int, int, int]] = []
        for bars in self.bars:
            go = 0 if since_ns is None else int(np.searchsorted(bars.open_ns, since_ns))
            stop = len(bars) if until_ns is None else int(np.searchsorted(bars.open_ns, until_ns))
            first = max(0, go - warm_up) if since_ns is not None else 0
            if first_bar_ns is not None:
                first = min(go, int(np.searchsorted(bars.open_ns, first_bar_ns)))
            spans.append((first, go, max(go, stop)))
            key += spans[-1]
        found = self._windows.get(tuple(key))
        if found is None:
            if len(self._windows) >= _WINDOWS:
                self._windows.clear()
            found = self._windows[tuple(key)] = Window(self, spans)
        return found


class _Grids(msgspec.Struct, frozen=True):
    """Where bars and days begin, of some instruments; of others as UTC has it."""

    known: Mapping[str, Grid]

    def __call__(self, name: str) -> Grid:
        return self.known.get(name, UTC)


class _Fine(msgspec.Struct, frozen=True, eq=False):
    """Finer bars, and where those of each bar begin and end (equal: none, or they do not add up to it)."""

    since: Ints
    until: Ints
    prices: Floats  # open, high, low, close of each, flat

    @classmethod
    def of(cls, bars: Bars, finer: Bars, ends_ns: Ints) -> _Fine:
        fine = traded(finer)
        since = np.searchsorted(fine.open_ns, bars.open_ns)
        until = np.searchsorted(fine.open_ns, ends_ns)
        some = np.flatnonzero(until > since)
        if len(some):
            edges = np.column_stack((since[some], until[some])).ravel()
            edges = np.append(edges, len(fine) - 1) if edges[-1] == len(fine) else edges
            high = np.maximum.reduceat(fine.high, np.minimum(edges, len(fine) - 1))[: 2 * len(some) : 2]
            low = np.minimum.reduceat(fine.low, np.minimum(edges, len(fine) - 1))[: 2 * len(some) : 2]
            whole = (high == bars.high[some]) & (low == bars.low[some])
            until = until.copy()
            until[some[~whole]] = since[some[~whole]]
        prices = np.column_stack((fine.open, fine.high, fine.low, fine.close)).ravel()
        return cls(since.astype(np.int64), until.astype(np.int64), prices)


class Window:
    """A period of a history as flat columns: every instrument's bars from the first one on, one after the other."""

    def __init__(self, history: History, spans: Sequence[tuple[int, int, int]]) -> None:
        self.history = history
        self.bars = [bars.slice(first, stop) for bars, (first, _, stop) in zip(history.bars, spans, strict=True)]
        self.go = [go - first for first, go, _ in spans]  # each instrument's first bar that decides
        lengths = [len(bars) for bars in self.bars]
        self.start = np.concatenate(([0], np.cumsum(lengths))).tolist()  # where each instrument's rows begin
        traded = [bars.open_ns[go:] for bars, go in zip(self.bars, self.go, strict=True)]
        first = traded[0]
        same = all(len(times) == len(first) and (times is first or np.array_equal(times, first)) for times in traded)
        self.open_ns: Ints = first if same else np.unique(np.concatenate(traded))
        self.close_ns = close_times(self.open_ns, history.frame, history.grids(history.instruments[0]))
        count = len(self.bars)
        rows = np.full((len(self.open_ns), count), -1, np.int32)
        for number, times in enumerate(traded):
            places = slice(None) if same else np.searchsorted(self.open_ns, times)
            rows[places, number] = np.arange(len(times), dtype=np.int32) + (self.start[number] + self.go[number])
        self.rows = rows.reshape(-1)
        self.row_ns = self.column("open_ns")
        self.prices = tuple(self.column(name) for name in ("open", "high", "low", "close"))
        self.decided = sum(map(len, traded))
        self._fine(history, spans)
        self._holds: dict[tuple[float, ...], Floats] = {}
        self._tape: Floats = np.empty(0)

    @cached_property
    def volume(self) -> Floats:
        """Traded volumes; NaN counts as none."""
        volume: Floats = np.nan_to_num(self.column("volume"))
        return volume

    @cached_property
    def scratch(self) -> k.Curve:
        """Room for the curve of a run that passes: fresh memory costs as much as the run."""
        return _curve(len(self.open_ns))

    def tape(self, size: int) -> Floats:
        """Such room for the tape of a run, until the next one asks."""
        if len(self._tape) != size:
            self._tape = np.empty(size)
        return self._tape

    @cached_property
    def lists(self) -> tuple[Any, ...]:
        """What the interpreted kernel reads: rows, prices, finer bars."""
        return tuple(column.tolist() for column in (self.rows, *self.prices, self.fine_from, self.fine_to, self.fine))

    def column(self, name: str) -> NDArray[Any]:
        """One column of all instruments."""
        columns = [getattr(bars, name) for bars in self.bars]
        return columns[0] if len(columns) == 1 else np.concatenate(columns)

    def _fine(self, history: History, spans: Sequence[tuple[int, int, int]]) -> None:
        empty = np.empty(0, np.int64)
        self.fine_from, self.fine_to, self.fine = empty, empty, np.empty(0)
        if not any(history.fine):
            return
        since, until, prices, begun = [], [], [], 0
        for bars, fine, (first, _, stop) in zip(self.bars, history.fine, spans, strict=True):
            if fine is None:
                since.append(np.zeros(len(bars), np.int64))
                until.append(np.zeros(len(bars), np.int64))
                continue
            since.append(fine.since[first:stop] + begun)
            until.append(fine.until[first:stop] + begun)
            prices.append(fine.prices)
            begun += len(fine.prices) // 4
        self.fine_from, self.fine_to = np.concatenate(since), np.concatenate(until)
        self.fine = np.concatenate(prices)

    def hold(self, cash: float, starts: Sequence[int], fees: Sequence[float]) -> Floats:
        """Equity of equal parts bought at the open of each instrument's bar `starts` and kept."""
        key = (cash, *starts, *fees)
        if key not in self._holds:
            self._holds.clear()
            self._holds[key] = self._hold(cash, starts, fees)
        return self._holds[key]

    def hold_final(self, cash: float, starts: Sequence[int], fees: Sequence[float]) -> float:
        """The last entry of `hold`, without the others."""
        equity, part = 0.0, cash / len(self.bars)
        for bars, start, fee in zip(self.bars, starts, fees, strict=True):
            if start >= len(bars):
                equity += part
            else:
                equity += part / (float(bars.open[start]) * (1.0 + fee)) * float(bars.close[-1])
        return equity

    def _hold(self, cash: float, starts: Sequence[int], fees: Sequence[float]) -> Floats:
        equity = np.zeros(len(self.open_ns))
        part = cash / len(self.bars)
        rows = self.rows.reshape(len(self.open_ns), len(self.bars))
        for number, (bars, start, fee) in enumerate(zip(self.bars, starts, fees, strict=True)):
            if start >= len(bars):
                equity += part
                continue
            place = rows[:, number]
            if len(bars) - self.go[number] < len(place):
                place = np.maximum.accumulate(place)  # the last bar there was
            size = part / (bars.open[start] * (1.0 + fee))
            bought = np.searchsorted(place, self.start[number] + start)
            equity[:bought] += part
            equity[bought:] += size * bars.close[place[bought:] - self.start[number]]
        return equity


def close_times(open_ns: Ints, frame: Timeframe, grid: Grid = UTC) -> Ints:
    """When the bars that open then end, exclusive."""
    if frame.ns is not None and grid is UTC:
        return open_ns + frame.ns
    return np.array([grid.end_ns(frame, at) for at in open_ns.tolist()], np.int64)


def _check_bars(name: str, bars: Bars) -> None:
    """Refuse bars that cannot be, naming the first."""
    late = np.flatnonzero(bars.open_ns[1:] <= bars.open_ns[:-1])
    if len(late):
        at = int(bars.open_ns[late[0] + 1])
        raise _bad_bar(name, at, Text("it does not open after the one before it"))
    with np.errstate(invalid="ignore"):
        fine = (bars.low > 0) & (bars.high < math.inf)
        for inner in (bars.open, bars.close):
            fine &= (bars.low <= inner) & (inner <= bars.high)
    if fine.all():
        return
    place = int(np.flatnonzero(~fine)[0])
    o, h, lo, c = (float(getattr(bars, column)[place]) for column in ("open", "high", "low", "close"))
    prices = {"open": o, "high": h, "low": lo, "close": c}
    if not all(math.isfinite(price) and price > 0 for price in prices.values()):
        reason = Text("a price is missing, not finite or not above 0 ({prices})", {"prices": _shown(prices)})
    else:
        reason = Text("its open or close lies outside low and high ({prices})", {"prices": _shown(prices)})
    raise _bad_bar(name, int(bars.open_ns[place]), reason)


def _shown(prices: Mapping[str, float]) -> str:
    return " ".join(f"{name} {price!r}" for name, price in prices.items())


def _bad_bar(name: str, at_ns: int, reason: Text) -> UsageError:
    time = str(np.datetime64(at_ns, "ns").astype("datetime64[s]")) + "Z"
    return UsageError(
        "bad_bar",
        Text("The bar of {name} at {time} is wrong: {reason}.", {"name": name, "time": time, "reason": reason}),
        Text("Fetch or import it again, then repeat."),
        instrument=name,
        open_ns=at_ns,
    )


def traded(bars: Bars) -> Bars:
    """The bars in which something was traded; all of them until a volume is first recorded."""
    idle = bars.volume == 0.0
    if not idle.any():
        return bars
    keep = ~(idle & np.maximum.accumulate(bars.volume > 0.0))
    columns = {name: getattr(bars, name) for name in bars.__struct_fields__}
    return msgspec.structs.replace(bars, **{n: column[keep] for n, column in columns.items() if column is not None})


# ---------------------------------------------------------------- the plan: a strategy with values


class Plan:
    """A strategy with its parameters' values, ready for both evaluators and for the kernel.

    Plans of one `family` (of the same timeframe, grids and library) understand what they share once.
    """

    def __init__(
        self,
        strategy: Strategy | PythonStrategy,
        parameters: Mapping[str, float] | None,
        frame: Timeframe,
        *,
        change: Change = NO_CHANGE,
        library: Library | None = None,
        grids: Callable[[str], Grid] = lambda _: UTC,
        family: Family | None = None,
    ) -> None:
        self.python = None if isinstance(strategy, Strategy) else strategy
        document = strategy if isinstance(strategy, Strategy) else strategy.document
        self.values = document.values(parameters)
        self.strategy = document.resolve(parameters)
        self.change = change
        entry, protect = self.strategy.entry, self.strategy.protect
        self.kind = (
            k.LIMIT
            if entry.limit is not None or entry.short_limit is not None
            else k.STOP_ORDER
            if entry.stop is not None or entry.short_stop is not None
            else k.MARKET
        )
        self.needs_atr = protect.stop_atr is not None or entry.size.volatility_percent is not None
        self.held_exits = [] if self.python else [n for n, e in enumerate(document.exit) if uses_position(e.when)]
        self.texts: dict[str, str] = {}
        if self.python is None:
            held = {f"exit[{number}].when" for number in self.held_exits}
            self.texts = {key: text for key, text, _ in self.strategy.formulas() if key not in held}
        self.places = [("entry.long", 0), ("entry.short", 1)]  # each condition's bit
        self.places += [(f"exit[{number}].when", k.FIRST_EXIT + number) for number in range(len(self.strategy.exit))]
        texts = list(self.texts.values())
        if self.needs_atr:
            texts.append(f"atr({int(_number(protect.atr_period))})")
        scope: dict[str, Any] = {"timeframe": frame, "grids": grids, "library": library or Library()}
        self.all_texts = tuple(texts)
        self.program = (family or Family(**scope)).program(texts, self.values) if texts else None
        # What asks about the open position is evaluated as the run goes.
        held_texts = [self.strategy.exit[number].when for number in self.held_exits]
        self.held = compile_many(held_texts, self.values, inputs=tuple(HELD), **scope) if held_texts else None
        programs = [program for program in (self.program, self.held) if program is not None]
        self.warm_up = max((program.warm_up for program in programs), default=0)
        self.first_value = max((program.first_value for program in programs), default=0)

    # -- what it says about bars

    def evaluate(self, bars: Bars, others: Mapping[Frame, Bars]) -> tuple[Values, ...]:
        """The formulas' values on every bar. `others`: see `others_of`."""
        return () if self.program is None else self.program.over(bars, others)

    def signals(self, bars: Bars, zone: str, values: Sequence[Values]) -> _Columns:
        """What the strategy says about every bar, `values` being those of its formulas."""
        found = dict(zip(self.texts, values, strict=False))
        atr: Floats | None = values[-1].data if self.needs_atr else None
        if self.python is not None:
            said = self.python.signals(bars, self.values)
            bits = signal_bits(self.strategy, said, len(bars))
            prices, score = (said.long_price, said.short_price), said.score
        else:
            bits = np.zeros(len(bars), np.uint16)
            for key, place in self.places:
                if key in found:
                    bits |= (found[key].data > 0).view(np.uint8).astype(np.uint16) << np.uint16(place)
            prices = (self._price(found, "long"), self._price(found, "short"))
            score = found["entry.score"].data if "entry.score" in found else None
        self.filter(bits, bars.open_ns, zone)
        if self.change.later_bars:
            bits = self._later(bits)
        return _Columns(bits, prices[0], prices[1], atr, score)

    def reads(self) -> frozenset[Frame]:
        """The bars of other instruments that the formulas read."""
        return frozenset(f for program in (self.program, self.held) if program is not None for f in program.given)

    def others_of(self, given: Mapping[str, Bars]) -> dict[Frame, Bars]:
        """Those bars. Raises `UsageError` (`no_data`) where some are not given."""
        for frame in self.reads():
            if frame.instrument not in given:
                raise UsageError(
                    "no_data",
                    Text("The strategy reads {name}, of which there are no bars.", {"name": frame.instrument}),
                    Text("Fetch or import them first: watchhamster data."),
                )
        return {frame: given[frame.instrument] for frame in self.reads()}

    def price_keys(self, side: Literal["long", "short"]) -> tuple[str, str]:
        """Which formula gives the price of an entry's order, and which one in its stead."""
        word = "limit" if self.kind == k.LIMIT else "stop"
        keys = (f"entry.{word}", f"entry.short_{word}")
        return keys if side == "long" else (keys[1], keys[0])

    def _price(self, found: Mapping[str, Values], side: Literal["long", "short"]) -> Floats | None:
        for key in self.price_keys(side):
            if key in found:
                return found[key].data
        return None

    def filter(self, bits: NDArray[np.uint16], open_ns: Ints, zone: str) -> None:
        """Take away entries outside the sessions and weekdays."""
        entry = self.strategy.entry
        if not entry.sessions and not entry.weekdays:
            return
        allowed = np.ones(len(bits), np.bool_)
        local = (open_ns + zone_offsets(open_ns, zone)) // (60 * SECOND_NS)
        if entry.weekdays:
            allowed &= np.isin((local // 1440 + 3) % 7, [DAYS.index(day) for day in entry.weekdays])
        if entry.sessions:
            inside = np.zeros(len(bits), np.bool_)
            minute = local % 1440
            for since, until in map(minutes, entry.sessions):
                inside |= (minute - since) % 1440 < until - since
            allowed &= inside
        bits[~allowed] &= np.uint16(0xFFFF ^ (k.LONG | k.SHORT))

    def _later(self, bits: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Entries so many bars later, exits as they are."""
        late = np.zeros_like(bits)
        late[self.change.later_bars :] = bits[: -self.change.later_bars]
        both = np.uint16(k.LONG | k.SHORT)
        return (bits & ~both) | (late & both)

    # -- what the kernel wants

    def vector(
        self, cash: float, rules: Sequence[InstrumentRules], bar_ns: int, *, walked: bool = False
    ) -> list[float]:
        """The kernel's vector at the start: the account, the strategy, a block for each instrument.

        `walked`: there are finer bars.
        """
        s, factor = self.strategy, self.change.costs
        x = [0.0] * (k.BLOCKS + len(rules) * (k.BLOCK + 1))
        entry, protect, costs = s.entry, s.protect, s.costs
        x[k.CASH] = x[k.EQUITY] = cash
        x[k.P_INSTRUMENTS] = len(rules)
        mode = entry.size.mode
        x[k.P_SIZE_MODE], x[k.P_SIZE] = _SIZES[mode], _number(getattr(entry.size, mode))
        if mode.endswith("_percent"):
            x[k.P_SIZE] = _fraction(x[k.P_SIZE])
        x[k.P_ATR_MULTIPLE] = _number(entry.size.atr_multiple)
        for place, value in (
            (k.P_STOP, protect.stop_percent),
            (k.P_STOP_ATR, protect.stop_atr),
            (k.P_TRAIL, protect.trailing_percent),
            (k.P_ARM, protect.trailing_arm_percent),
            (k.P_BREAK_EVEN, protect.break_even_percent),
            (k.P_MAX_BARS, protect.max_bars),
            (k.P_COOLDOWN, entry.cooldown_bars),
            (k.P_MAX_ENTRIES, entry.max_entries),
            (k.P_VALID, entry.valid_bars),
            (k.P_MAX_POSITIONS, s.limits.max_positions),
            (k.P_SLIP_TICKS, costs.slippage.ticks),
            (k.P_VOLUME_SHARE, costs.slippage.volume_share),
        ):
            x[place] = _number(value)
        x[k.P_ORDER] = self.kind
        x[k.P_SLIP] = float(Decimal(str(costs.slippage.basis_points or 0)) / 10_000) * factor
        x[k.P_SLIP_TICKS] *= factor
        x[k.P_BORROW] = _fraction(costs.borrow_percent) * bar_ns / YEAR_NS
        for number, exit in enumerate(s.exit):
            bit = 1 << (k.FIRST_EXIT + number)
            x[k.P_LONG_EXITS] += bit if exit.side != "short" else 0
            x[k.P_SHORT_EXITS] += bit if exit.side != "long" else 0
            x[k.P_SHARES + number] = _number(exit.share)
        legs = [(leg.percent, leg.share) for leg in protect.targets]
        if protect.target_percent is not None:
            legs = [(protect.target_percent, 1.0)]
        x[k.P_LEGS] = len(legs)
        for number, (percent, share) in enumerate(legs):
            x[k.P_TARGETS + 2 * number], x[k.P_TARGETS + 2 * number + 1] = _number(percent), _number(share)
        x[k.P_WALKED] = float(walked and any(x[place] for place in (k.P_TRAIL, k.P_BREAK_EVEN)))
        x[k.P_GUARDED] = float(any(x[place] for place in _GUARDS))
        for number, its in enumerate(rules):
            self._block(x, number, its)
        return x

    def _block(self, x: list[float], number: int, rules: InstrumentRules) -> None:
        b = k.BLOCKS + number * k.BLOCK
        x[b + k.NUMBER], x[b + k.ROW] = number, k.NO_BAR
        x[b + k.R_MAKER], x[b + k.R_TAKER] = self.fees(rules)
        x[b + k.R_FIXED] = float(rules.fixed_fee) * self.change.costs
        x[b + k.R_LEAST_FEE] = float(rules.least_fee)
        if rules.lot is not None:
            x[b + k.R_LOT_NUMBER], x[b + k.R_LOT_DIVISOR] = _ratio(rules.lot)
        x[b + k.R_LEAST_TOTAL] = float(rules.least_total)
        x[b + k.R_SHORTABLE] = float(rules.shortable)
        x[b + k.R_MAINTENANCE] = _fraction(rules.maintenance_percent)
        x[b + k.R_TICKS_FROM] = x[b + k.R_TICKS_TO] = len(x)
        if rules.steps is not None:
            for start, step in zip(rules.steps.starts, rules.steps.steps, strict=True):
                x += [float(start), *_ratio(step)]
            x[b + k.R_TICKS_TO] = len(x)

    def fees(self, rules: InstrumentRules) -> tuple[float, float]:
        """Maker's and taker's fee, as fractions."""
        own = self.strategy.costs.fee_percent
        maker, taker = (rules.maker_percent, rules.taker_percent) if own is None else (own, own)
        return _fraction(maker) * self.change.costs, _fraction(taker) * self.change.costs

    def reason(self, code: int) -> str:
        """A reason's name: an exit's own, or the kernel's."""
        if k.EXIT <= code < k.EXIT + k.EXITS_MAX:
            return self.strategy.exit[code - k.EXIT].name
        return k.REASONS[code]


def held_inputs(x: Sequence[float], b: int) -> dict[str, float]:
    """What exits may ask about the position in a block, at its bar's close; nothing while it is flat."""
    if x[b + k.QTY] == 0.0:
        return {}
    side = 1.0 if x[b + k.QTY] > 0.0 else -1.0
    mean = x[b + k.MEAN]
    return {
        "entry_price": mean,
        "profit_pct": side * (x[b + k.CLOSE] - mean) / mean * 100.0,
        "peak_profit_pct": side * (x[b + k.PEAK] - mean) / mean * 100.0,
        "bars_held": x[b + k.HELD],
    }


def _number(value: Number | None) -> float:
    assert not isinstance(value, str)
    return 0.0 if value is None else float(value)


_GUARDS = (k.P_STOP, k.P_STOP_ATR, k.P_TRAIL, k.P_BREAK_EVEN, k.P_LEGS)
_SIZES = {
    "equity_percent": k.BY_EQUITY,
    "cash_percent": k.BY_CASH,
    "money": k.BY_MONEY,
    "amount": k.BY_AMOUNT,
    "risk_percent": k.BY_RISK,
    "volatility_percent": k.BY_VOLATILITY,
    "weight": k.BY_WEIGHT,
}


class _Columns(msgspec.Struct, frozen=True, eq=False):
    """What a plan says about the bars of one instrument."""

    bits: NDArray[np.uint16]
    long_price: Floats | None
    short_price: Floats | None
    atr: Floats | None
    score: Floats | None


# ---------------------------------------------------------------- the run


def backtest(
    strategy: Strategy | PythonStrategy,
    data: History | Mapping[str, Bars],
    *,
    frame: str | None = None,
    parameters: Mapping[str, float] | None = None,
    since_ns: int | None = None,
    until_ns: int | None = None,
    cash: float = 10_000_000.0,
    rules: Mapping[str, InstrumentRules] | None = None,
    finer: Mapping[str, Bars] | None = None,
    close_at_end: bool = False,
    first_bar_ns: int | None = None,
    year_days: int = 365,
    zone: str = "UTC",
    change: Change = NO_CHANGE,
    library: Library | None = None,
    compiled: bool = False,
) -> Result:
    """Run a strategy over bars of one timeframe (`frame`, else the strategy's own). Same inputs, same bytes.

    It trades on bars that open in `[since_ns, until_ns)`; earlier ones only warm its formulas up. A `History` brings
    its own `frame`, `rules`, `finer` and `zone`. `change` makes it harder, to try its robustness; `library` holds saved
    formulas. `compiled`: by numba, in worker processes. Raises `UsageError`:
    `bad_bar`, `no_data`, `too_little_history`, `bad_parameter`, `bad_strategy`, `bad_formula`.
    """
    document = strategy if isinstance(strategy, Strategy) else strategy.document
    if not isinstance(data, History):
        name = frame or document.timeframe
        if name is None:
            raise UsageError(
                "bad_timeframe",
                Text("The strategy {name} names no timeframe.", {"name": document.name}),
                Text("Say one: --timeframe 1h."),
            )
        data = History(data, name, rules=rules, finer=finer, zone=zone)
    if not 0 < cash < 1e15:
        raise UsageError(
            "bad_cash", Text("A run cannot begin with {cash}.", {"cash": f"{cash:g}"}), Text("Give it some money.")
        )
    plan = Plan(strategy, parameters, data.frame, change=change, library=library, grids=data.grids)
    window = data.window(since_ns, until_ns, plan.warm_up, first_bar_ns)
    _check_window(plan, window)
    others = plan.others_of(data.others)
    columns = [plan.signals(bars, data.zone, plan.evaluate(bars, others)) for bars in window.bars]
    return _passed(plan, window, columns, cash, close_at_end, compiled).result(year_days)


def _check_window(plan: Plan, window: Window) -> None:
    """Refuse a period in which nothing can be decided."""
    if not len(window.open_ns):
        raise UsageError(
            "no_data",
            Text("There are no bars in the period."),
            Text("Fetch or import them first: watchhamster data."),
        )
    most = max(map(len, window.bars))
    if most <= plan.first_value:
        raise UsageError(
            "too_little_history",
            Text(
                "The strategy needs {needed} bars before its first decision, there are {count}.",
                {"needed": plan.first_value + 1, "count": most},
            ),
            Text("Fetch older bars, or use shorter periods."),
        )
    if plan.strategy.costs.slippage.volume_share:
        for name, bars in zip(window.history.instruments, window.bars, strict=True):
            if len(bars) and np.isnan(bars.volume).any():
                raise UsageError(
                    "no_volume",
                    Text("{name} has bars without a volume, so there is no share of it.", {"name": name}),
                    Text("Take volume_share out of the strategy's slippage."),
                )


def _at_random(columns: Sequence[_Columns], run: _Run, seed: int) -> list[_Columns]:
    """As many entries as a run had on each instrument, at random bars; the same exits."""
    generator = np.random.default_rng(seed)
    fills = run.records[run.records[:, 5] == k.ENTRY]
    found = []
    for number, column in enumerate(columns):
        bits = column.bits & np.uint16(0xFFFF ^ (k.LONG | k.SHORT))
        own = fills[fills[:, 1] == number, 2]
        first = max(run.window.go[number], run.plan.first_value)
        places = np.arange(first, len(bits))
        count = min(len(own), len(places))
        chosen = generator.choice(places, count, replace=False)
        sides = np.where(generator.permutation(own)[:count] > 0, k.LONG, k.SHORT).astype(np.uint16)
        exits = np.uint16(0xFFFF ^ (k.LONG | k.SHORT))
        bits[chosen] = (bits[chosen] & exits) | sides
        found.append(msgspec.structs.replace(column, bits=bits))
    return found


def _load(m: k.Market, x: list[float], b: int, j: int) -> None:
    """Put a row into its instrument's block, and it on the list of those that are looked at."""
    _, opens, high, low, closes, volume, signals, long_price, short_price, atr, score, fine_from, fine_to, _ = m
    x[k.BLOCKS + int(x[k.P_INSTRUMENTS]) * k.BLOCK + int(x[k.AWAKEN])] = b
    x[k.AWAKEN] += 1.0
    x[b + k.ROW] = j
    x[b + k.OPENED] = opens[j]
    x[b + k.HIGH] = high[j]
    x[b + k.LOW] = low[j]
    x[b + k.CLOSE] = closes[j]
    x[b + k.SIGNAL] = signals[j]
    if len(volume) > 0:
        x[b + k.VOLUME] = volume[j]
    if len(long_price) > 0:
        x[b + k.LONG_PRICE] = long_price[j]
        x[b + k.SHORT_PRICE] = short_price[j]
    if len(atr) > 0:
        x[b + k.ATR] = atr[j]
    if len(score) > 0:
        x[b + k.SCORE] = score[j]
    if len(fine_from) > 0:
        x[b + k.FINE_FROM] = fine_from[j]
        x[b + k.FINE_TO] = fine_to[j]


class Swept(msgspec.Struct, frozen=True, eq=False):
    """One run of a sweep: what its metrics need, and when its closed trades began and ended (opens of the bars)."""

    parameters: Mapping[str, float]
    digest: Digest
    entry_ns: Ints
    exit_ns: Ints


def sweep(
    strategy: Strategy | PythonStrategy,
    data: History,
    sets: Iterable[Mapping[str, float]],
    *,
    since_ns: int | None = None,
    until_ns: int | None = None,
    cash: float = 10_000_000.0,
    close_at_end: bool = False,
    first_bar_ns: int | None = None,
    year_days: int = 365,
    change: Change = NO_CHANGE,
    library: Library | None = None,
    compiled: bool = False,
) -> Iterator[Swept]:
    """Run a strategy with one set of parameters after the other, in order; each as `backtest` would, to the bit.

    What the sets' formulas share is computed once. Raises as `backtest` does, when the set's turn comes.
    """
    family = Family(timeframe=data.frame, grids=data.grids, library=library or Library())
    sharing = _Sharing(data, family)
    for values in sets:
        plan = Plan(strategy, values, data.frame, change=change, library=library, grids=data.grids, family=family)
        window = data.window(since_ns, until_ns, plan.warm_up, first_bar_ns)
        _check_window(plan, window)
        columns = [
            plan.signals(bars, data.zone, found)
            for bars, found in zip(window.bars, sharing.evaluate(plan, window), strict=True)
        ]
        yield _passed(plan, window, columns, cash, close_at_end, compiled, passing=True).swept(year_days)


class _Sharing:
    """What the formulas of a sweep share: on each instrument's bars, for the same texts."""

    def __init__(self, data: History, family: Family) -> None:
        self._data = data
        self._family = family
        self._kept: dict[tuple[object, ...], list[Shared]] = {}

    def evaluate(self, plan: Plan, window: Window) -> list[tuple[Values, ...]]:
        """The values of the formulas of the family's newest plan on the bars of each instrument."""
        program = plan.program
        if program is None:
            return [()] * len(window.bars)
        key = (id(window), *plan.all_texts)
        if key not in self._kept:
            if len(self._kept) >= _WINDOWS:
                self._kept.clear()
            others = plan.others_of(self._data.others)
            self._kept[key] = [Shared(plan.all_texts, bars, others=others, family=self._family) for bars in window.bars]
        return [its.of(program) for its in self._kept[key]]


def _passed(
    plan: Plan,
    window: Window,
    columns: list[_Columns],
    cash: float,
    close_at_end: bool,
    compiled: bool,
    *,
    passing: bool = False,
) -> _Run:
    """A run that has been lived through."""
    if plan.change.random_entries is not None:
        before = _Run(plan, window, columns, cash, compiled)
        before.go(False)
        columns = _at_random(columns, before, plan.change.random_entries)
    run = _Run(plan, window, columns, cash, compiled, passing=passing)
    run.go(close_at_end)
    return run


def _curve(moments: int) -> k.Curve:
    return k.Curve(np.empty(moments), np.empty(moments), np.empty(moments, np.int64))


class _Quiet:
    """The quiet bars of one instrument, for the interpreted kernel: found by numpy, and marked all at once."""

    def __init__(self, window: Window, signals: NDArray[np.uint16]) -> None:
        self._window, self._signals = window, signals
        self._places: list[int] = np.flatnonzero(signals).tolist()
        self._marks: list[tuple[float, float, int, int]] = []
        self.run = k.interpreted(self._called, self._touched, self._mark)

    def _called(self, signals: Sequence[int], mask: int, since: int, until: int) -> int:
        places = self._places
        for at in range(bisect_left(places, since), len(places)):
            place = places[at]
            if place >= until:
                break
            if signals[place] & mask:
                return place
        return max(since, until)

    def _touched(
        self, _low: Any, _high: Any, _signals: Any, floor: float, ceiling: float, mask: int, since: int, until: int
    ) -> int:
        _, high, low, _ = self._window.prices
        length = 64
        while since < until:
            part = slice(since, min(since + length, until))
            hit = (low[part] <= floor) | (high[part] >= ceiling) | (self._signals[part] & np.uint16(mask) != 0)
            at = int(hit.argmax())
            if hit[at]:
                return since + at
            since = part.stop
            length *= 4
        return since

    def _mark(self, _curve: Any, _closes: Any, cash: float, size: float, since: int, until: int, _first: int) -> None:
        self._marks.append((cash, size, since, until))

    def fill(self, curve: k.Curve) -> None:
        """Put what was marked into a curve."""
        if not self._marks:
            return
        cash, size, since, until = (np.array(column) for column in zip(*self._marks, strict=True))
        lengths = until - since
        moments = np.repeat(since - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        value = np.repeat(size, lengths) * self._window.prices[3][moments + int(self._window.rows[0])]
        curve.equity[moments] = np.repeat(cash, lengths) + value
        curve.invested[moments] = value
        curve.positions[moments] = np.repeat(size != 0.0, lengths)


class _Run:
    """One pass of the kernel over a window, and what it wrote."""

    def __init__(
        self,
        plan: Plan,
        window: Window,
        columns: Sequence[_Columns],
        cash: float,
        compiled: bool,
        *,
        passing: bool = False,  # its curve is read before the next run
    ) -> None:
        self.plan, self.window, self.cash, self._passing = plan, window, cash, passing
        history = window.history
        rules = list(history.rules.values())
        self.x = plan.vector(cash, rules, history.frame.approximate_ns, walked=len(window.fine) > 0)
        self.signals: NDArray[np.uint16] = _joined([column.bits for column in columns])
        for number, its in enumerate(rules):
            if its.delisted and window.start[number + 1] > window.start[number]:
                self.signals[window.start[number + 1] - 1] |= np.uint16(k.DELISTING)
        volume = window.volume if plan.strategy.costs.slippage.volume_share else _EMPTY
        priced = plan.kind != k.MARKET
        extra: list[NDArray[Any]] = [
            volume,
            self.signals,
            _joined([_or_nan(c.long_price, c) for c in columns]) if priced else _EMPTY,
            _joined([_or_nan(c.short_price, c) for c in columns]) if priced else _EMPTY,
            _joined([_or_nan(c.atr, c) for c in columns]) if plan.needs_atr else _EMPTY,
            _EMPTY if columns[0].score is None else _joined([_or_nan(c.score, c) for c in columns]),
        ]
        moments = len(window.open_ns)
        self.compiled = compiled = compiled and plan.held is None  # what is stepwise is interpreted
        if compiled:
            self.market = k.Market._make(
                (window.rows, *window.prices, *extra, window.fine_from, window.fine_to, window.fine)
            )
            self.curve = window.scratch if passing else _curve(moments)
        else:
            # One instrument is visited where something happens, several at every bar: see `_Quiet`.
            self._quiet = _Quiet(window, self.signals) if len(window.bars) == 1 and plan.held is None else None
            if self._quiet is not None:
                every = (window.rows, *window.prices, *extra, window.fine_from, window.fine_to, window.fine)
                self.market = k.Market._make(map(memoryview, map(np.ascontiguousarray, every)))  # type: ignore[arg-type]
            else:
                prices, fine = window.lists[:5], window.lists[5:]
                self.market = k.Market._make((*prices, *(column.tolist() for column in extra), *fine))
            self.curve = _curve(moments)
        self.records: Floats = np.empty((0, k.RECORD))
        self.unlisted = 0  # refusals beyond those that are kept

    def go(self, close_at_end: bool) -> None:
        """Live through the window."""
        kernel = k.compiled() if self.compiled else k.INTERPRETED
        run = kernel.run if self.plan.held is None else self._stepwise()
        curve: Any = tuple(self.curve)
        if not self.compiled:
            curve = tuple(map(memoryview, curve))
            run = run if self._quiet is None else self._quiet.run
        size = k.RECORD * max(TAPE, 4 * k.room_for(self.x))
        x: Any = np.array(self.x) if self.compiled else self.x
        tape: Any = self.window.tape(size) if self.compiled else [0.0] * size
        moments = len(self.window.open_ns)
        parts: list[Floats] = []
        at, refused = 0, 0
        while True:
            at = run(at, moments, tuple(self.market), x, tape, curve)
            if at >= moments and close_at_end:
                for number in range(len(self.window.bars)):
                    x[k.BLOCKS + number * k.BLOCK + k.ROW] = self.window.start[number + 1] - 1
                kernel.finish(x, tape)
            part = np.asarray(tape[: int(x[k.TAPED]) * k.RECORD], np.float64).reshape(-1, k.RECORD)
            if at < moments or not self._passing:
                part = part.copy()  # the tape is used again
            x[k.TAPED] = 0.0
            no = part[:, 5] >= k.NO_CASH
            room = max(0, REFUSED_MAX - refused)
            refused += int(no.sum())
            if no.sum() > room:
                self.unlisted += int(no.sum()) - room
                part = part[~no | (np.cumsum(no) <= room)]
            parts.append(part)
            if at >= moments:
                break
        self.records = np.concatenate(parts) if len(parts) > 1 else parts[0]
        self.x = x.tolist() if self.compiled else x
        if not self.compiled and self._quiet is not None:
            self._quiet.fill(self.curve)
        if close_at_end and moments:
            self.curve.equity[-1], self.curve.invested[-1], self.curve.positions[-1] = self.x[k.CASH], 0.0, 0

    def _stepwise(self) -> Callable[..., int]:
        """The kernel's loop for exits that ask about the position: they are evaluated at each close."""
        plan, window = self.plan, self.window
        assert plan.held is not None
        others = plan.others_of(window.history.others)
        steppers = [
            plan.held.stepper(bars.slice(0, go), others) for bars, go in zip(window.bars, window.go, strict=True)
        ]
        candles = [
            bars.slice(go, len(bars)).candles(name, "", "backfill")
            for name, bars, go in zip(window.history.instruments, window.bars, window.go, strict=True)
        ]
        count = len(steppers)
        bits = [1 << (k.FIRST_EXIT + number) for number in plan.held_exits]

        def run(since: int, until: int, m: Any, x: list[float], tape: list[float], curve: Any) -> int:
            rows = m[0]
            full = len(tape) // k.RECORD - k.room_for(x)
            for t in range(since, until):
                if x[k.TAPED] > full:
                    return t
                for number in range(count):
                    if (row := rows[t * count + number]) >= 0:
                        _load(m, x, k.BLOCKS + number * k.BLOCK, row)
                k.trade(x, tape, m[-1])
                for number in range(count):
                    b = k.BLOCKS + number * k.BLOCK
                    if x[b + k.ROW] >= 0:
                        said = steppers[number].push(next(candles[number]), held_inputs(x, b))
                        x[b + k.SIGNAL] += sum(bit for bit, value in zip(bits, said, strict=True) if value is True)
                k.close(x, tape)
                curve[0][t], curve[1][t], curve[2][t] = x[k.EQUITY], x[k.INVESTED], int(x[k.OPEN])
            return until

        return run

    # -- the result

    @cached_property
    def filled(self) -> Floats:
        """The records that are fills."""
        filled = self.records[:, 5] < k.NO_CASH
        return self.records if filled.all() else self.records[filled]

    @cached_property
    def trips(self) -> Trips:
        """Its round trips."""
        return Trips.of(self.filled, self.window, self.x, k.compiled().reach if self.compiled else reach)

    @property
    def _held(self) -> tuple[float, list[int], list[float]]:
        """What buying and holding begins with: the cash, each instrument's first bar, its fee."""
        starts = [max(go, self.plan.first_value) + 1 for go in self.window.go]
        return self.cash, starts, [self.plan.fees(rules)[1] for rules in self.window.history.rules.values()]

    def swept(self, year_days: int) -> Swept:
        """The run as what its metrics need."""
        window, filled, trips = self.window, self.filled, self.trips
        closed = trips.closed
        curve = Curve(window.open_ns, window.close_ns, *self.curve)
        return Swept(
            self.plan.values,
            msgspec.structs.replace(
                digest_curve(
                    curve,
                    np.array([window.hold_final(*self._held)]),
                    self.cash,
                    year_days,
                    window.history.zone,
                    k.compiled().fall if self.compiled else None,
                ),
                traded=float((filled[:, 3] * np.abs(filled[:, 2])).sum()),
                fees=float(filled[:, 4].copy().sum()),
                profits=trips.profit[:closed],
                profit_percents=trips.profit_percent[:closed],
                risks=trips.risk[:closed],
                best_percents=trips.best_percent[:closed],
                worst_percents=trips.worst_percent[:closed],
                bars_held=(trips.exit_row - trips.entry_row)[:closed],
            ),
            window.row_ns[trips.entry_row[:closed]],
            window.row_ns[trips.exit_row[:closed]],
        )

    def result(self, year_days: int) -> Result:
        """The run as a value."""
        window, plan, history = self.window, self.plan, self.window.history
        filled = self.filled
        refused = self.records[self.records[:, 5] >= k.NO_CASH]
        names, row_ns = history.instruments, window.row_ns
        fills = fills_of(filled, row_ns[filled[:, 0].astype(np.int64)], names, plan)
        trips = self.trips
        trades = trips.trades(names, row_ns, plan.reason)
        return Result(
            strategy=plan.strategy.name,
            instruments=names,
            timeframe=str(history.frame),
            parameters=plan.values,
            bars=window.decided,
            since_ns=int(window.open_ns[0]),
            until_ns=int(window.close_ns[-1]),
            first_bar_ns=min(int(bars.open_ns[0]) for bars in window.bars if len(bars)),
            cash=self.cash,
            year_days=year_days,
            data_fingerprint=history.fingerprint,
            fills=fills,
            trades=tuple(trades[: trips.closed]),
            open_trades=tuple(trades[trips.closed :]),
            pending=tuple(pending_of(self.x, names, lambda row: int(row_ns[int(row)]), plan)),
            refused=refused_of(refused, row_ns[refused[:, 0].astype(np.int64)], names),
            curve=Curve(window.open_ns, window.close_ns, *self.curve),
            hold=window.hold(*self._held),
            ambiguous_bars=int(self.x[k.AMBIGUOUS]),
            zone=history.zone,
            warnings=tuple(self._warnings(fills, refused)),
        )

    def _warnings(self, fills: Sequence[Fill], refused: Floats) -> Iterator[Text]:
        if not fills:
            yield Text("The strategy never traded.")
        elif self.x[k.AMBIGUOUS]:
            yield Text(
                "{count} bars held both the stop and a target: the stop was taken. Finer bars would tell.",
                {"count": int(self.x[k.AMBIGUOUS])},
            )
        if self.unlisted:
            yield Text("{count} more orders were refused than are listed.", {"count": self.unlisted})
        if (refused[:, 5] == k.NO_SHORT).any():
            yield Text("Short entries were refused: what is traded here cannot be sold short.")
        if any(fill.reason == "delisted" for fill in fills):
            yield Text("A delisted position was closed at its last price, which is optimistic.")


_EMPTY: Floats = np.empty(0)


def _joined(columns: Sequence[Any]) -> NDArray[Any]:
    return columns[0] if len(columns) == 1 else np.concatenate(columns)


def _or_nan(column: Floats | None, columns: _Columns) -> Floats:
    return np.full(len(columns.bits), math.nan) if column is None else column


def fills_of(records: Floats, times_ns: Ints, instruments: Sequence[str], plan: Plan) -> tuple[Fill, ...]:
    """Records of the tape that are fills; `times_ns` are the opens of their bars."""
    names = {code: plan.reason(code) for code in np.unique(records[:, 5]).astype(int).tolist()}
    columns = records.T
    sides: list[Literal["buy", "sell"]] = ["buy" if size > 0 else "sell" for size in columns[2].tolist()]
    return tuple(
        map(
            Fill,
            [instruments[number] for number in columns[1].astype(int).tolist()],
            times_ns.tolist(),
            sides,
            columns[3].tolist(),
            np.abs(columns[2]).tolist(),
            columns[4].tolist(),
            [names[code] for code in columns[5].astype(int).tolist()],
        )
    )


def refused_of(records: Floats, times_ns: Ints, instruments: Sequence[str]) -> tuple[Order, ...]:
    """Records that are refusals; `times_ns` are the opens of the bars that decided."""
    return tuple(
        Order(
            instruments[int(number)],
            at_ns,
            "buy" if side > 0 else "sell",
            k.REASONS[int(code)],
            price or None,
            abs(size) or None,
        )
        for (_, number, size, price, _, code, side, _), at_ns in zip(records.tolist(), times_ns.tolist(), strict=True)
    )


def pending_of(
    x: Sequence[float], instruments: Sequence[str], time_ns: Callable[[float], int], plan: Plan
) -> Iterator[Order]:
    """Orders that still wait; `time_ns` is when the bar of a row opened."""
    for number, name in enumerate(instruments):
        b = k.BLOCKS + number * k.BLOCK
        if x[b + k.OUT]:
            side: Literal["buy", "sell"] = "sell" if x[b + k.QTY] > 0 else "buy"
            reason = plan.reason(int(x[b + k.OUT]) - 1)
            yield Order(name, time_ns(x[b + k.DECIDED]), side, reason, None, x[b + k.OUT_QTY])
        if x[b + k.ORDER]:
            side = "buy" if x[b + k.ORDER] > 0 else "sell"
            price = None if plan.kind == k.MARKET else x[b + k.ORDER_PRICE]
            yield Order(name, time_ns(x[b + k.DECIDED]), side, "entry", price)


# ---------------------------------------------------------------- trades


def reach(high: Floats, low: Floats, since: Ints, until: Ints, highest: Floats, lowest: Floats) -> None:
    """The kernel's, in numpy."""
    edges = np.column_stack((since, until)).ravel()
    edges = edges[:-1] if edges[-1] == len(high) else edges
    some = until > since
    highest[some] = np.maximum(highest, np.maximum.reduceat(high, edges)[::2])[some]
    lowest[some] = np.minimum(lowest, np.minimum.reduceat(low, edges)[::2])[some]


class Trips(msgspec.Struct, frozen=True, eq=False):
    """Round trips, from flat to flat, as equally long arrays; closed ones in order of exit, then those still open."""

    closed: int  # how many are
    instrument: Ints  # its number
    side: Floats  # 1 long, -1 short
    entry_row: Ints
    entry_price: Floats
    exit_row: Ints  # of an open one: the row after its instrument's last
    exit_price: Floats  # of an open one: its last close
    size: Floats
    fees: Floats
    profit: Floats
    profit_percent: Floats
    reason: Ints
    risk: Floats  # NaN: there was no stop
    best_percent: Floats
    worst_percent: Floats

    @classmethod
    def of(cls, records: Floats, window: Window, x: Sequence[float], reach: Callable[..., None] = reach) -> Trips:
        """The trips that fills make, `x` being the kernel's vector at the end, `reach` maybe the compiled one."""
        if not len(records):
            none: list[Any] = [np.empty(0, np.int64 if kind == "Ints" else np.float64) for kind in _TRIP_KINDS]
            return cls(0, *none)
        alone = len(window.bars) == 1  # then the tape is in order
        order = np.arange(len(records)) if alone else np.argsort(records[:, 1], kind="stable")
        row, number, size, price, fee, code, stop, left = records.T.copy() if alone else records.T[:, order]
        last = np.flatnonzero((left == 0.0) | (np.diff(number, append=-1.0) != 0.0))
        first = np.concatenate(([0], last[:-1] + 1))
        entering = code == k.ENTRY
        amount = np.abs(size)
        value = amount * price

        trip = np.repeat(np.arange(len(last)), last - first + 1)

        def total(column: Floats) -> Floats:
            found: Floats = np.bincount(trip, column).astype(np.float64, copy=False)
            return found

        flat = left[last] == 0.0
        instrument = number[first].astype(np.int64)
        mark = np.array(x)[k.BLOCKS + instrument * k.BLOCK + k.LAST]
        side = np.sign(size[first])
        cost, entered = total(np.where(entering, value, 0.0)), total(np.where(entering, amount, 0.0))
        gone, proceeds = total(np.where(entering, 0.0, amount)), total(np.where(entering, 0.0, value))
        fees = total(fee)
        profit = side * (np.where(flat, proceeds, proceeds + np.abs(left[last]) * mark) - cost) - fees
        begin = row[first].astype(np.int64)
        end = np.where(flat, row[last], np.array(window.start)[instrument + 1]).astype(np.int64)
        entry = cost / entered
        leave = np.where(flat, proceeds / np.where(gone > 0.0, gone, 1.0), mark)
        # How far it went: by its own prices, and by the bars from the entry's on to the one before the exit's.
        high, low = np.maximum(entry, leave), np.minimum(entry, leave)
        reach(window.prices[1], window.prices[2], begin, end, high, low)
        best, worst = np.where(side > 0, high, low), np.where(side > 0, low, high)
        risk = amount[first] * stop[first]
        found: tuple[Any, ...] = (
            instrument,
            side,
            begin,
            entry,
            end,
            leave,
            np.maximum.reduceat(np.abs(left), first),
            fees,
            profit,
            profit / cost * 100.0,
            code[last].astype(np.int64),
            np.where(risk > 0.0, risk, math.nan),
            side * (best / entry - 1.0) * 100.0,
            side * (worst / entry - 1.0) * 100.0,
        )
        if not alone:
            shown = np.argsort(np.where(flat, order[last], len(records) + instrument), kind="stable")
            found = tuple(column[shown] for column in found)
        return cls(int(flat.sum()), *found)

    def trades(self, names: Sequence[str], row_ns: Ints, reason: Callable[[int], str]) -> list[Trade]:
        """As values."""
        sides: list[Literal["long", "short"]] = ["long" if side > 0 else "short" for side in self.side.tolist()]
        ends = row_ns[np.minimum(self.exit_row, len(row_ns) - 1)].tolist()
        found = list(
            map(
                Trade,
                [names[number] for number in self.instrument.tolist()],
                sides,
                row_ns[self.entry_row].tolist(),
                self.entry_price.tolist(),
                ends,
                self.exit_price.tolist(),
                self.size.tolist(),
                self.fees.tolist(),
                self.profit.tolist(),
                self.profit_percent.tolist(),
                (self.exit_row - self.entry_row).tolist(),
                [reason(code) for code in self.reason.tolist()],
                [None if risk != risk else risk for risk in self.risk.tolist()],
                self.best_percent.tolist(),
                self.worst_percent.tolist(),
            )
        )
        for place in range(self.closed, len(found)):
            found[place] = msgspec.structs.replace(found[place], exit_ns=None, exit_price=None, exit_reason=None)
        return found


_TRIP_KINDS = tuple(Trips.__annotations__[name] for name in Trips.__struct_fields__[1:])
