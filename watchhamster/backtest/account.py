"""A strategy that trades bar by bar: on paper, on replay, or to compare with its backtest.

    account = Account(strategy, ["upbit:KRW-BTC"], "1m", cash=1e7, history={"upbit:KRW-BTC": bars})
    for candle in closed_candles:
        fills = account.step({candle.instrument: candle})

The step is the kernel's, interpreted: an account that is given bars one by one fills them as `backtest` fills the same
bars from the same first bar, to the bit. It opens no position on its history.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from watchhamster.backtest import kernel as k
from watchhamster.backtest.results import Fill, Order
from watchhamster.backtest.run import (
    InstrumentRules,
    Plan,
    PythonStrategy,
    fills_of,
    held_inputs,
    pending_of,
    refused_of,
    signal_bits,
    traded,
)
from watchhamster.backtest.strategy import Strategy
from watchhamster.core.bars import Bars
from watchhamster.core.timeframes import UTC, Grid, timeframe
from watchhamster.formula import Bar, Frame, Library, Program, Stepper, Value

KEPT_BARS = 5000  # that a strategy in Python is shown
_ROW_NS = 1_000_000  # what the kernel calls a row is the bar's open in milliseconds here


class Position(msgspec.Struct, frozen=True):
    """What is held of an instrument."""

    instrument: str
    size: float  # signed: a short is negative
    entry_price: float  # mean
    last_price: float
    profit: float  # not realised, before fees
    bars_held: int


class Account:
    """One purse, one strategy, some instruments.

    `history` are the bars its formulas begin on, up to the first one that will be stepped. `others` are those of
    instruments that formulas only read (by `of`): their later bars come by `feed`. Raises what `backtest` raises for a
    strategy that makes no sense.
    """

    def __init__(
        self,
        strategy: Strategy | PythonStrategy,
        instruments: Sequence[str],
        frame: str,
        *,
        cash: float,
        parameters: Mapping[str, float] | None = None,
        rules: Mapping[str, InstrumentRules] | None = None,
        history: Mapping[str, Bars] | None = None,
        others: Mapping[str, Bars] | None = None,
        zone: str = "UTC",
        grids: Callable[[str], Grid] = lambda _: UTC,
        library: Library | None = None,
    ) -> None:
        self.frame = timeframe(frame)
        self.instruments = tuple(instruments)
        self.plan = plan = Plan(strategy, parameters, self.frame, library=library, grids=grids)
        self._zone = zone
        self._history = [traded((history or {}).get(name, Bars.empty())) for name in instruments]
        self._volumes = [bool((bars.volume > 0.0).any()) for bars in self._history]
        known = {**(others or {}), **dict(zip(instruments, self._history, strict=True))}
        read = {frame: known.get(frame.instrument, Bars.empty()) for frame in plan.reads()}
        self._said = self._steppers(plan.program, read)
        self._held = self._steppers(plan.held, read)
        self._bits = [1 << (k.FIRST_EXIT + number) for number in plan.held_exits]
        every = [(rules or {}).get(name, InstrumentRules()) for name in instruments]
        self._x = plan.vector(cash, every, self.frame.approximate_ns)
        self._tape = [0.0] * (k.RECORD * k.room_for(self._x))

    def _steppers(self, program: Program | None, read: Mapping[Frame, Bars]) -> list[Stepper[tuple[Value, ...]]]:
        return [] if program is None else [program.stepper(bars, read) for bars in self._history]

    # -- what it is worth

    @property
    def cash(self) -> float:
        """What is not invested, in the quote asset."""
        return self._x[k.CASH]

    @property
    def equity(self) -> float:
        """Cash and positions, at the last closes."""
        return self._x[k.EQUITY]

    @property
    def positions(self) -> list[Position]:
        """What is held, in the order of the instruments."""
        found = []
        for number, name in enumerate(self.instruments):
            b = k.BLOCKS + number * k.BLOCK
            if size := self._x[b + k.QTY]:
                mean, last = self._x[b + k.MEAN], self._x[b + k.LAST]
                found.append(Position(name, size, mean, last, (last - mean) * size, int(self._x[b + k.HELD])))
        return found

    @property
    def pending(self) -> list[Order]:
        """Orders that wait for their instrument's next bar."""
        return list(pending_of(self._x, self.instruments, lambda row: int(row) * _ROW_NS, self.plan))

    # -- going on later

    @property
    def numbers(self) -> list[float] | None:
        """All that its orders, positions and cash are made of, for `resume`.

        None where that is not all: exits that ask about the position remember what it was, and a strategy in Python or
        formulas that read other instruments are lived through again.
        """
        return None if self._held or self.plan.python is not None or self.plan.reads() else list(self._x)

    def resume(self, numbers: Sequence[float]) -> None:
        """Be as an account was when it gave these, after its last bar: the `history` given here ends with that one."""
        self._x[:] = numbers

    # -- a moment

    def feed(self, instrument: str, bar: Bar) -> None:
        """A closed bar of an instrument that formulas only read. It comes before those of ours that close with it."""
        for frame in self.plan.reads():
            if frame.instrument == instrument:
                for stepper in (*self._said, *self._held):
                    stepper.feed(frame, bar)

    def step(self, bars: Mapping[str, Bar]) -> tuple[list[Fill], list[Order]]:
        """All bars that open at the next moment have closed: what they filled, and what was refused.

        An instrument without a bar of that moment is left out. Bars in which nothing was traded are passed over.
        """
        x, plan = self._x, self.plan
        for name in self.instruments:
            if name in bars:
                self.feed(name, bars[name])
        fresh: list[tuple[int, Bar]] = []
        for number, name in enumerate(self.instruments):
            bar = bars.get(name)
            if bar is None or (bar.volume == 0.0 and self._volumes[number]):
                continue
            self._volumes[number] |= bool(bar.volume)
            fresh.append((number, bar))
            self._load(number, bar)
        k.trade(x, self._tape, ())
        for number, bar in fresh:
            b = k.BLOCKS + number * k.BLOCK
            if self._held:
                said = self._held[number].push(bar, held_inputs(x, b))
                x[b + k.SIGNAL] += sum(bit for bit, value in zip(self._bits, said, strict=True) if value is True)
        k.close(x, self._tape)
        records = np.array(self._tape[: int(x[k.TAPED]) * k.RECORD]).reshape(-1, k.RECORD)
        x[k.TAPED] = 0.0
        times_ns = records[:, 0].astype(np.int64) * _ROW_NS
        no = records[:, 5] >= k.NO_CASH
        fills = fills_of(records[~no], times_ns[~no], self.instruments, plan)
        return list(fills), list(refused_of(records[no], times_ns[no], self.instruments))

    def _load(self, number: int, bar: Bar) -> None:
        """Put a bar and what the strategy says at its close into the instrument's block."""
        x, plan, b = self._x, self.plan, k.BLOCKS + number * k.BLOCK
        x[k.BLOCKS + len(self.instruments) * k.BLOCK + int(x[k.AWAKEN])] = b
        x[k.AWAKEN] += 1.0
        x[b + k.ROW] = bar.open_ns // _ROW_NS
        x[b + k.OPENED], x[b + k.HIGH], x[b + k.LOW], x[b + k.CLOSE] = bar.open, bar.high, bar.low, bar.close
        x[b + k.VOLUME] = bar.volume or 0.0
        bits = 0
        if self._said:
            values = self._said[number].push(bar)
            found = dict(zip(plan.texts, values, strict=False))
            for key, place in plan.places:
                if found.get(key) is True:
                    bits |= 1 << place
            x[b + k.LONG_PRICE] = _first(found, plan.price_keys("long"))
            x[b + k.SHORT_PRICE] = _first(found, plan.price_keys("short"))
            if "entry.score" in found:
                x[b + k.SCORE] = _number(found["entry.score"])
            if plan.needs_atr:
                x[b + k.ATR] = _number(values[-1])
        if plan.python is not None:
            bits = self._ask(plan.python, number, bar)
        if bits & (k.LONG | k.SHORT):
            kept = np.array([bits], np.uint16)
            plan.filter(kept, np.array([bar.open_ns]), self._zone)
            bits = int(kept[0])
        x[b + k.SIGNAL] = bits

    def _ask(self, strategy: PythonStrategy, number: int, bar: Bar) -> int:
        """What a strategy in Python says after this bar."""
        x, b = self._x, k.BLOCKS + number * k.BLOCK
        one = Bars(
            np.array([bar.open_ns], np.int64),
            *(np.array([_number(getattr(bar, name))]) for name in Bars.__struct_fields__[1:-1]),
        )
        bars = Bars.merged([self._history[number], one])
        bars = self._history[number] = bars.slice(max(0, len(bars) - KEPT_BARS), len(bars))
        said = strategy.signals(bars, self.plan.values)
        x[b + k.LONG_PRICE] = math.nan if said.long_price is None else float(said.long_price[-1])
        x[b + k.SHORT_PRICE] = math.nan if said.short_price is None else float(said.short_price[-1])
        x[b + k.SCORE] = 0.0 if said.score is None else float(said.score[-1])
        return int(signal_bits(self.plan.strategy, said, len(bars))[-1])


def _first(found: Mapping[str, Value], keys: Sequence[str]) -> float:
    return next((_number(found[key]) for key in keys if key in found), math.nan)


def _number(value: Value) -> float:
    return math.nan if value is None else float(value)
