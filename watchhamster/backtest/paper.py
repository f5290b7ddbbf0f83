"""A strategy on paper: an account that lives through bars as they close, and a journal from which it lives again.

A `Trader` is given closed bars in whatever order they come, and told up to when each instrument's bars are known. A
moment is judged once, when every instrument's bar of that moment has come or is known not to be: so a portfolio sees
what its backtest sees, in the same order. A bar counts as it was when its moment was judged; what is corrected
afterwards changes nothing.

What was judged is a `Moment`, and goes into a journal before anybody hears of its fills. The journal alone makes the
same account again, to the bit: from its last `Checkpoint` on, or from its beginning where there can be none. Its bars,
given to `backtest`, make the same fills (`proof`).

    trader = Trader(paper, grid_of)
    entry = trader.begin(history, since_ns)          # write it
    trader.observe(candle)
    for judged in trader.judge({"upbit:KRW-BTC": until_ns}):
        ...                                          # write its entries, then tell its fills

Pure: no clock, no I/O.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np

from watchhamster.backtest.account import Account
from watchhamster.backtest.results import Fill, Order, Result
from watchhamster.backtest.run import History, InstrumentRules, Plan, backtest
from watchhamster.backtest.strategy import Strategy, read
from watchhamster.core.bars import Bars
from watchhamster.core.market import Candle
from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text
from watchhamster.core.timeframes import Grid, timeframe
from watchhamster.formula import Library

NOTHING: Final[Mapping[str, Bars]] = MappingProxyType({})
CHECKPOINT = 1000  # moments from one to the next
WAITING_MAX = 20_000  # bars that wait for their moment to be complete; the caller fetches again what was dropped


class Paper(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy that trades on paper: all it takes, besides bars, to make the same account again."""

    id: int | None = None  # None until stored
    name: str  # what it is listed, stopped and told under
    text: str  # the strategy as it was written
    instruments: tuple[str, ...]
    timeframe: str
    cash: float
    parameters: dict[str, float] = {}  # as they were given
    rules: dict[str, InstrumentRules] = {}  # of each instrument's venue, on the day it began
    formulas: dict[str, str] = {}  # the saved ones that it may use, as they were then
    zone: str = "UTC"  # of its sessions
    channels: tuple[str, ...] = ("desktop", "inbox")
    first_bar_ns: int | None = None  # where its formulas are to begin; None: as many bars before as they need
    made_ns: int = 0

    def strategy(self) -> Strategy:
        """The document. Raises `UsageError` as `read` does."""
        return read(self.text, self.library)

    @property
    def library(self) -> Library:
        """The saved formulas it may use."""
        return Library(self.formulas)


# name's number, open, high, low, close, volume, value
_Row: TypeAlias = tuple[int, float, float, float, float, float | None, float | None]


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """Where a trader began: the bars its formulas were warmed with, by instrument, as columns."""

    since_ns: int
    history: dict[str, list[list[float]]]  # columns of `Bars`
    opens: dict[str, list[int]]

    def bars(self, name: str) -> Bars:
        """An instrument's."""
        if not self.opens.get(name):
            return Bars.empty()
        columns = [np.array(column, np.float64) for column in self.history[name]]
        return Bars(np.array(self.opens[name], np.int64), *columns)


class Moment(msgspec.Struct, frozen=True, tag="moment"):
    """The bars that opened at a moment, as they were when they were judged, and what they filled."""

    open_ns: int
    rows: tuple[_Row, ...]
    fills: tuple[Fill, ...] = ()


class Checkpoint(msgspec.Struct, frozen=True, tag="checkpoint"):
    """The account after the moment before it."""

    numbers: list[float]


Entry: TypeAlias = Begun | Moment | Checkpoint


class Judged(msgspec.Struct, frozen=True):
    """What a moment came to."""

    entries: tuple[Moment | Checkpoint, ...]  # for the journal
    fills: tuple[Fill, ...]
    first_fill: int  # how many fills there were before


class Trader:
    """One strategy on paper. `grid_of` says where an instrument's bars begin and end.

    Raises `UsageError` for a strategy or instruments that make no sense.
    """

    def __init__(self, paper: Paper, grid_of: Callable[[str], Grid]) -> None:
        self.paper = paper
        self.frame = timeframe(paper.timeframe)
        self._grid_of = grid_of
        self._strategy = paper.strategy()
        plan = self._plan()
        own = set(paper.instruments)
        read_only = sorted({frame.instrument for frame in plan.reads()} - own)
        self.names = (*paper.instruments, *read_only)  # whose bars it needs
        self._number = {name: number for number, name in enumerate(self.names)}
        self.warm_up = plan.warm_up
        self.account: Account | None = None  # None: it has not begun
        self.since_ns = 0  # the first moment it may judge
        self.first_bar_ns: int | None = None
        self.judged_ns: int | None = None  # the last moment that was judged
        self.moments = 0
        self.fills: list[Fill] = []
        self.refused: list[Order] = []  # the last ones
        self.revised = 0  # bars that came otherwise after they were judged
        self._last: dict[str, Candle] = {}
        self._waiting: dict[int, dict[str, Candle]] = {}  # moment -> instrument -> bar
        self._count = 0

    def _plan(self) -> Plan:
        return Plan(
            self._strategy,
            self.paper.parameters,
            self.frame,
            library=self.paper.library,
            grids=self._own_or(self._grid_of),
        )

    def _own_or(self, grid_of: Callable[[str], Grid]) -> Callable[[str], Grid]:
        first = self.paper.instruments[0]
        return lambda name: grid_of(name or first)

    # -- its beginning

    def begin(self, history: Mapping[str, Bars], since_ns: int) -> Begun:
        """Warm up on the bars before `since_ns`; moments from there on are judged. Gives the journal's first entry."""
        known = {name: history.get(name, Bars.empty()) for name in self.names}
        begun = Begun(
            since_ns,
            {name: [column.tolist() for column in _columns(bars)] for name, bars in known.items()},
            {name: bars.open_ns.tolist() for name, bars in known.items()},
        )
        self._begin(begun)
        return begun

    def _begin(self, begun: Begun, lived: Mapping[str, Bars] = NOTHING) -> None:
        paper = self.paper
        known = {name: Bars.merged([begun.bars(name), lived.get(name, Bars.empty())]) for name in self.names}
        self.since_ns = begun.since_ns
        self.first_bar_ns = min((times[0] for times in begun.opens.values() if times), default=None)
        self.account = Account(
            self._strategy,
            paper.instruments,
            paper.timeframe,
            cash=paper.cash,
            parameters=paper.parameters,
            rules=paper.rules,
            history={name: known[name] for name in paper.instruments},
            others={name: known[name] for name in self.names[len(paper.instruments) :]},
            zone=paper.zone,
            grids=self._own_or(self._grid_of),
            library=paper.library,
        )
        for open_ns in [at for at in self._waiting if at < self.since_ns]:
            self._count -= len(self._waiting.pop(open_ns))

    def live_again(self, journal: Sequence[bytes]) -> None:
        """Go through a journal. Before its last checkpoint nothing has to be decided again."""
        marked = next((n for n in reversed(range(len(journal))) if _checkpoint(journal[n]) is not None), None)
        begun: Begun | None = None
        past = _Past()
        for number, content in enumerate(journal):
            for entry in from_bytes(content):
                if isinstance(entry, Begun):
                    begun = entry
                    if marked is None:
                        self._begin(begun)
                elif isinstance(entry, Moment):
                    if self.account is not None:
                        self._live(entry.open_ns, entry.rows)
                    else:
                        past.add(entry)
                elif number == marked and self.account is None:
                    assert begun is not None
                    self._resume(begun, past, entry)

    def _resume(self, begun: Begun, past: _Past, checkpoint: Checkpoint) -> None:
        self._begin(begun, {name: past.bars(number) for number, name in enumerate(self.names)})
        assert self.account is not None
        self.account.resume(checkpoint.numbers)
        self.fills, self.moments, self.judged_ns = past.fills, past.moments, past.judged_ns
        if self.first_bar_ns is None:
            self.first_bar_ns = past.first_ns
        self._last = {self.names[row[0]]: self._bar(open_ns, row) for open_ns, row in past.last.values()}

    @property
    def next_ns(self) -> int:
        """Bars that open from here on have not been judged."""
        return self.since_ns if self.judged_ns is None else self.judged_ns + 1

    # -- bars

    def observe(self, bar: Candle) -> bool:
        """A closed bar of one of `names`; it waits until its moment is judged. False: there is no room for it."""
        if self.account is not None and bar.open_ns < self.next_ns:
            last = self._last.get(bar.instrument)
            self.revised += last is not None and last.open_ns == bar.open_ns and _row(0, last) != _row(0, bar)
            return True
        bars = self._waiting.setdefault(bar.open_ns, {})
        if bar.instrument not in bars:
            if self._count >= WAITING_MAX:
                return False
            self._count += 1
        bars[bar.instrument] = bar
        return True

    def waits_for(self, name: str, open_ns: int) -> bool:
        """Whether a bar has come that has not been judged."""
        return name in self._waiting.get(open_ns, {})

    def forget(self) -> None:
        """Drop the bars that wait: they will be had again."""
        self._waiting.clear()
        self._count = 0

    def judge(self, known: Mapping[str, int]) -> Iterator[Judged]:
        """Live through every moment that is complete: `known` says up to when each instrument's bars have all come."""
        for open_ns in sorted(self._waiting):
            if any(self._grid_of(name).end_ns(self.frame, open_ns) > known[name] for name in self.names):
                return
            bars = self._waiting.pop(open_ns)
            self._count -= len(bars)
            rows = tuple(_row(self._number[name], bars[name]) for name in self.names if name in bars)
            before = len(self.fills)
            fills = tuple(self._live(open_ns, rows))
            entries: list[Moment | Checkpoint] = [Moment(open_ns, rows, fills)]
            if self.moments % CHECKPOINT == 0 and self.account is not None:
                numbers = self.account.numbers
                entries += [] if numbers is None else [Checkpoint(numbers)]
            yield Judged(tuple(entries), fills, before)

    def _live(self, open_ns: int, rows: Sequence[_Row]) -> list[Fill]:
        assert self.account is not None
        bars = {self.names[row[0]]: self._bar(open_ns, row) for row in rows}
        self._last.update(bars)
        if self.first_bar_ns is None:
            self.first_bar_ns = open_ns
        own = self.paper.instruments
        for name in self.names[len(own) :]:
            if name in bars:
                self.account.feed(name, bars[name])
        fills, refused = self.account.step({name: bars[name] for name in own if name in bars})
        self.judged_ns = open_ns
        self.moments += 1
        self.fills += fills
        self.refused = [*self.refused, *refused][-20:]
        return fills

    def _bar(self, open_ns: int, row: _Row) -> Candle:
        number, opened, high, low, close, volume, value = row
        name = self.names[number]
        return Candle(name, self.frame.name, open_ns, opened, high, low, close, volume, value, True, "live")

    def price(self, name: str) -> float | None:
        """The last close that was judged."""
        last = self._last.get(name)
        return None if last is None else last.close


class _Past:
    """The bars of moments that need not be lived through again, by their instrument's number."""

    def __init__(self) -> None:
        self.fills: list[Fill] = []
        self.moments = 0
        self.first_ns: int | None = None
        self.judged_ns: int | None = None
        self.last: dict[int, tuple[int, _Row]] = {}
        self._opens: dict[int, array[int]] = {}
        self._numbers: dict[int, array[float]] = {}

    def add(self, moment: Moment) -> None:
        """One more."""
        self.fills += moment.fills
        self.moments += 1
        self.first_ns = self.first_ns or moment.open_ns
        self.judged_ns = moment.open_ns
        for row in moment.rows:
            self.last[row[0]] = (moment.open_ns, row)
            self._opens.setdefault(row[0], array("q")).append(moment.open_ns)
            values = [math.nan if value is None else value for value in row[1:]]
            self._numbers.setdefault(row[0], array("d")).extend(values)

    def bars(self, number: int) -> Bars:
        """All of an instrument's."""
        if number not in self._opens:
            return Bars.empty()
        columns = np.array(self._numbers[number]).reshape(-1, 6).T
        return Bars(np.array(self._opens[number], np.int64), *(np.ascontiguousarray(column) for column in columns))


def proof(paper: Paper, entries: Sequence[Entry], grid_of: Callable[[str], Grid]) -> Result:
    """The backtest of a journal's bars: what the paper account ought to have done.

    Raises what `backtest` raises, and `UsageError` (`not_begun`) where there is no bar yet.
    """
    begun = next((entry for entry in entries if isinstance(entry, Begun)), None)
    moments = [entry for entry in entries if isinstance(entry, Moment)]
    if begun is None or not moments:
        raise UsageError(
            "not_begun",
            Text("{name} has not seen a bar yet.", {"name": paper.name}),
            Text("Let it run for a while: watchhamster trade."),
        )
    trader = Trader(paper, grid_of)
    bars = {name: journal_bars(trader, begun, moments, name) for name in trader.names}
    own = {name: bars[name] for name in paper.instruments}
    history = History(
        own,
        paper.timeframe,
        rules=paper.rules,
        others={name: bars[name] for name in trader.names if name not in own},
        zone=paper.zone,
        grids=trader._own_or(grid_of),
    )
    first_ns = min((times[0] for times in begun.opens.values() if times), default=begun.since_ns)
    return backtest(
        paper.strategy(),
        history,
        parameters=paper.parameters,
        since_ns=begun.since_ns,
        cash=paper.cash,
        first_bar_ns=first_ns,
        library=paper.library,
    )


def journal_bars(trader: Trader, begun: Begun, moments: Iterable[Moment], name: str) -> Bars:
    """An instrument's bars in a journal, those of before its beginning included."""
    number = trader.names.index(name)
    lived = [trader._bar(m.open_ns, row) for m in moments for row in m.rows if row[0] == number]
    return Bars.merged([begun.bars(name), Bars.of(lived)])


def _row(number: int, bar: Candle) -> _Row:
    return number, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.value


def _columns(bars: Bars) -> Iterator[Any]:
    for name in ("open", "high", "low", "close", "volume", "value", "adjustment"):
        if (column := getattr(bars, name)) is not None:
            yield column


_entries = msgspec.msgpack.Decoder(list[Begun | Moment | Checkpoint])


def to_bytes(entries: Sequence[Entry]) -> bytes:
    """Entries of a journal as they are kept."""
    return msgspec.msgpack.encode(entries)


def from_bytes(data: bytes) -> list[Entry]:
    """And back."""
    return _entries.decode(data)


def _checkpoint(data: bytes) -> Checkpoint | None:
    return next((entry for entry in from_bytes(data) if isinstance(entry, Checkpoint)), None)
