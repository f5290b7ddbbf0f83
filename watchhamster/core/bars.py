"""Candles as columns: what charts, formulas and backtests read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from watchhamster.core.market import Candle, Origin

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Bars(msgspec.Struct, frozen=True, eq=False):
    """Closed candles of one series, oldest first, as equally long C-contiguous arrays.

    `open_ns` int64; the rest float64. `volume` (base asset) and `value` (quote asset) are NaN where absent.
    """

    open_ns: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    value: Floats

    def __len__(self) -> int:
        return len(self.open_ns)

    @classmethod
    def empty(cls) -> Self:
        """No candles."""
        return cls(np.empty(0, np.int64), *(np.empty(0) for _ in range(6)))

    @classmethod
    def of(cls, candles: Iterable[Candle]) -> Self:
        """The candles' columns; they must be of one series, oldest first."""
        rows = [(c.open_ns, c.open, c.high, c.low, c.close, c.volume, c.value) for c in candles]
        if not rows:
            return cls.empty()
        times, *columns = zip(*rows, strict=True)
        return cls(np.array(times, np.int64), *(np.array(column, np.float64) for column in columns))

    def slice(self, start: int, stop: int) -> Bars:
        """Rows `start` to `stop`, as views."""
        return Bars(*(getattr(self, name)[start:stop] for name in self.__struct_fields__))

    def between(self, since_ns: int, until_ns: int) -> Bars:
        """Rows that open in `[since_ns, until_ns)`, as views."""
        start, stop = np.searchsorted(self.open_ns, (since_ns, until_ns))
        return self.slice(int(start), int(stop))

    def candles(self, instrument: str, timeframe: str, origin: Origin) -> Iterator[Candle]:
        """The rows as closed candles."""
        for t, o, h, lo, c, v, q in zip(
            self.open_ns.tolist(),
            self.open.tolist(),
            self.high.tolist(),
            self.low.tolist(),
            self.close.tolist(),
            self.volume.tolist(),
            self.value.tolist(),
            strict=True,
        ):
            yield Candle(
                instrument, timeframe, t, o, h, lo, c, None if v != v else v, None if q != q else q, True, origin
            )


class Span(msgspec.Struct, frozen=True):
    """A stretch of a series' time, and what is known of it. `count` candles open in it."""

    since_ns: int
    until_ns: int  # exclusive
    state: Literal["candles", "no_trade", "not_fetched"]
    count: int
