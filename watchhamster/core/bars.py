"""Candles as columns: what charts, formulas and backtests read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, Literal, Self

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from watchhamster.core.market import AdjustedCandle, Candle, Origin

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Bars(msgspec.Struct, frozen=True, eq=False):
    """Closed candles of one series, oldest first, as equally long C-contiguous arrays.

    `open_ns` int64; the rest float64. `volume` (base asset) and `value` (quote asset) are NaN where absent.
    `adjustment` are the factors that make prices comparable across distributions (see `core.actions`): adjusted = price
    x factor. None: nothing was distributed, so every factor is 1.
    """

    open_ns: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    value: Floats
    adjustment: Floats | None = None

    def __len__(self) -> int:
        return len(self.open_ns)

    @classmethod
    def empty(cls) -> Self:
        """No candles."""
        return cls(np.empty(0, np.int64), *(np.empty(0) for _ in range(6)))

    @classmethod
    def of(cls, candles: Iterable[Candle]) -> Self:
        """The candles' columns; they must be of one series, oldest first."""
        candles = list(candles)
        rows = [(c.open_ns, c.open, c.high, c.low, c.close, c.volume, c.value) for c in candles]
        if not rows:
            return cls.empty()
        times, *columns = zip(*rows, strict=True)
        bars = cls(np.array(times, np.int64), *(np.array(column, np.float64) for column in columns))
        factors = [c.adjustment if isinstance(c, AdjustedCandle) else 1.0 for c in candles]
        return bars if all(factor == 1.0 for factor in factors) else replace(bars, adjustment=np.array(factors))

    def slice(self, start: int, stop: int) -> Bars:
        """Rows `start` to `stop`, as views."""
        columns: list[Any] = [getattr(self, name) for name in self.__struct_fields__[:-1]]
        if self.adjustment is not None:
            columns.append(self.adjustment)
        return Bars(*(column[start:stop] for column in columns))

    def between(self, since_ns: int, until_ns: int) -> Bars:
        """Rows that open in `[since_ns, until_ns)`, as views."""
        start, stop = np.searchsorted(self.open_ns, (since_ns, until_ns))
        return self.slice(int(start), int(stop))

    @classmethod
    def merged(cls, pieces: Sequence[Bars]) -> Bars:
        """All rows of some pieces of one series, by time; of two rows of one time that of the earlier piece stays."""
        factors = None
        if any(piece.adjustment is not None for piece in pieces):
            factors = [np.ones(len(b)) if b.adjustment is None else b.adjustment for b in pieces]
        names = cls.__struct_fields__[:-1]
        columns = [np.concatenate([getattr(piece, name) for piece in pieces]) for name in names]
        columns += [] if factors is None else [np.concatenate(factors)]
        _, first = np.unique(columns[0], return_index=True)
        return Bars(*(np.ascontiguousarray(column[first]) for column in columns))

    def candles(self, instrument: str, timeframe: str, origin: Origin) -> Iterator[Candle]:
        """The rows as closed candles."""
        factors = repeat(1.0, len(self)) if self.adjustment is None else self.adjustment.tolist()
        for t, o, h, lo, c, v, q, factor in zip(
            self.open_ns.tolist(),
            self.open.tolist(),
            self.high.tolist(),
            self.low.tolist(),
            self.close.tolist(),
            self.volume.tolist(),
            self.value.tolist(),
            factors,
            strict=True,
        ):
            volume, value = None if v != v else v, None if q != q else q
            if factor == 1.0:
                yield Candle(instrument, timeframe, t, o, h, lo, c, volume, value, True, origin)
            else:
                row = (instrument, timeframe, t, o, h, lo, c, volume, value, True, origin)
                yield AdjustedCandle(*row, adjustment=factor)


class Span(msgspec.Struct, frozen=True):
    """A stretch of a series' time, and what is known of it. `count` candles open in it."""

    since_ns: int
    until_ns: int  # exclusive
    state: Literal["candles", "no_trade", "not_fetched"]
    count: int
