"""What a backtest gives, as values: fills, trades, curves. Metrics, trust and reports are made of these.

Money is float64 in the account's quote asset, sizes in the base asset; times are nanoseconds UTC. `at_ns`, `entry_ns`
and `exit_ns` are the open time of the bar the fill happened in. Source: the contracts' "Strategies".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from watchhamster.core.bars import Floats, Ints
from watchhamster.core.text import Text


class Fill(msgspec.Struct, frozen=True, gc=False):
    """One execution."""

    instrument: str
    at_ns: int
    side: Literal["buy", "sell"]
    price: float
    size: float
    fee: float
    reason: str  # "entry", an exit's name, or stop target trail break_even time reverse liquidated delisted end


class Trade(msgspec.Struct, frozen=True, gc=False):
    """A round trip: from flat to flat. `profit` is after fees; an open one is marked at the last close."""

    instrument: str
    side: Literal["long", "short"]
    entry_ns: int
    entry_price: float  # mean of its entries
    exit_ns: int | None
    exit_price: float | None  # mean of its exits
    size: float  # the largest held
    fees: float
    profit: float
    profit_percent: float  # of the cost of its entries
    bars: int  # held, the entry's bar and the exit's counted as `bars_held` does
    exit_reason: str | None  # of the last leg
    risk: float | None = None  # money lost if the first stop had been hit; None without a stop
    best_percent: float | None = None  # furthest in favour while held (MFE)
    worst_percent: float | None = None  # furthest against while held (MAE), negative


class Order(msgspec.Struct, frozen=True, gc=False):
    """An order that was never filled: still waiting at the end, or refused (`reason` says by what)."""

    instrument: str
    at_ns: int  # open of the bar whose close decided it
    side: Literal["buy", "sell"]
    reason: str
    price: float | None = None  # of a limit or stop order
    size: float | None = None


class Curve(msgspec.Struct, frozen=True, eq=False):
    """The account at the close of every bar of the union of times: equally long arrays."""

    open_ns: Ints  # the bar's open
    close_ns: Ints  # when this is what the account was worth
    equity: Floats
    invested: Floats  # value of the positions, absolute
    positions: Ints  # how many are open

    def __len__(self) -> int:
        return len(self.equity)


class Result(msgspec.Struct, frozen=True, eq=False):
    """One run. Equal inputs give equal results, to the bit."""

    strategy: str
    instruments: tuple[str, ...]
    timeframe: str
    parameters: Mapping[str, float]
    bars: int  # evaluated in the period, over all instruments
    since_ns: int
    until_ns: int
    first_bar_ns: int  # where the formulas' history began
    cash: float  # at the start
    year_days: int  # P of the metrics: 365 for markets that never close, else 252
    data_fingerprint: str
    fills: tuple[Fill, ...]
    trades: tuple[Trade, ...]
    open_trades: tuple[Trade, ...]
    pending: tuple[Order, ...]
    refused: tuple[Order, ...]
    curve: Curve
    hold: Floats  # equity of buy and hold (equal parts at the first open after the warm-up, same fees), as `curve`
    ambiguous_bars: int = 0  # bars that held stop and target, and nothing finer to tell which came first
    zone: str = "UTC"  # whose midnights divide days, for the monthly table and by-hour figures
    warnings: tuple[Text, ...] = ()
