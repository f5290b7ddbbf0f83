"""How a sealed period of candles is packed into bytes, bit for bit.

Times and the four prices are whole numbers on a grid (a count of units above a base, divided by a power of ten), kept
in the narrowest width that fits: a day of one-minute prices takes two bytes each. Only a grid that gives back every bit
is used; other prices stay float64. Volumes are as good as random, so they stay float64 always. LZ4 goes on top where it
saves a quarter (absent volumes, quiet coins): elsewhere it would cost more time than the disk it spares.

Blocks are decoded straight into the caller's arrays: a million candles are 695 blocks, so what counts is the number of
numpy calls in each.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, NamedTuple, Self

import lz4.block
import numpy as np
from numpy.typing import NDArray

from watchhamster.core.bars import Bars, Floats, Ints

PACKED, PACKED_LZ4 = 1, 2
_HEAD = struct.Struct(
    "<BqqbBqqBB"
)  # times: width, base, unit; prices: decimals, width, base, unit; one origin?, origin
_KEY = struct.Struct("<qqqq")
_WIDTHS: dict[int, np.dtype[Any]] = {1: np.dtype("<u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4"), 8: np.dtype("<u8")}
_AS_FLOATS = -1
_DECIMALS_MAX = 12
_EXACT = 2.0**53


class Columns(NamedTuple):
    """Candles of one series, oldest first."""

    times: Ints  # (n,) open_ns
    values: Floats  # (6, n): open, high, low, close, volume, value; NaN where absent
    origins: NDArray[np.uint8]  # (n,) index into the store's list of origins

    @classmethod
    def empty(cls, count: int = 0) -> Self:
        """Room for so many candles, not yet filled."""
        return cls(np.empty(count, np.int64), np.empty((6, count)), np.empty(count, np.uint8))

    def slice(self, start: int, stop: int) -> Columns:
        """Rows `start` to `stop`, as views."""
        return Columns(self.times[start:stop], self.values[:, start:stop], self.origins[start:stop])

    def between(self, since_ns: int, until_ns: int) -> Columns:
        """Rows that open in `[since_ns, until_ns)`, as views."""
        start, stop = np.searchsorted(self.times, (since_ns, until_ns))
        return self.slice(int(start), int(stop))

    def same(self, other: Columns) -> bool:
        """Equal in every bit."""
        return all(mine.tobytes() == theirs.tobytes() for mine, theirs in _pairs(self, other))

    def bars(self, adjustment: Floats | None = None) -> Bars:
        """The same candles without their origin."""
        o, h, lo, c, volume, value = self.values
        return Bars(self.times, o, h, lo, c, volume, value, adjustment)


def _pairs(a: Columns, b: Columns) -> tuple[tuple[NDArray[Any], NDArray[Any]], ...]:
    return ((a.times, b.times), (a.values, b.values), (a.origins, b.origins))


class Assembly:
    """Candles of one series being put together, in one allocation where the capacity was guessed right."""

    def __init__(self, capacity: int) -> None:
        self._all = Columns.empty(capacity)
        self._count = 0

    @property
    def columns(self) -> Columns:
        """What was put in so far."""
        return self._all.slice(0, self._count)

    def room(self, count: int) -> Columns:
        """A place behind the last candle for so many (fewer, where the capacity ends); `keep` it when it is filled."""
        return self._all.slice(self._count, self._count + max(0, count))

    def keep(self, count: int) -> None:
        """Count the first candles of the room as put in."""
        self._count += count

    def put(self, top: Columns) -> None:
        """Add candles (in order of time); where there is one already, the new one wins."""
        times = self._all.times[: self._count]
        at = np.searchsorted(times, top.times)
        known = at < self._count
        known[known] = times[at[known]] == top.times[known]
        if known.any():
            for mine, theirs in _pairs(self._all, top):
                mine[..., at[known]] = theirs[..., known]
            top = Columns(top.times[~known], top.values[:, ~known], top.origins[~known])
            at = at[~known]
        new = len(top.times)
        total = self._count + new
        if new and at[0] == self._count and total <= len(self._all.times):
            for mine, theirs in _pairs(self._all, top):
                mine[..., self._count : total] = theirs
        elif new:
            self._all = Columns(*(np.insert(mine, at, theirs, axis=-1) for mine, theirs in _pairs(self.columns, top)))
        self._count = total


def checksum(series: int, start_ns: int, count: int, codec: int, data: bytes) -> int:
    """CRC32 over a block and what says where it belongs."""
    return zlib.crc32(data, zlib.crc32(_KEY.pack(series, start_ns, count, codec)))


def encode(columns: Columns) -> tuple[int, bytes]:
    """Codec number and bytes of at least one candle."""
    times, values, origins = columns
    t_width, t_base, t_unit, t_steps = _grid(times)
    decimals, p_width, p_base, p_unit, prices = _price_grid(values[:4])
    uniform = bool((origins == origins[0]).all())
    head = _HEAD.pack(t_width, t_base, t_unit, decimals, p_width, p_base, p_unit, uniform, int(origins[0]))
    packed = head + values[4:].tobytes() + t_steps + prices + (b"" if uniform else origins.tobytes())
    squeezed: bytes = lz4.block.compress(packed)
    if len(squeezed) < 0.75 * len(packed):
        return PACKED_LZ4, squeezed
    return PACKED, packed


def decode(codec: int, data: bytes, into: Columns) -> None:
    """Fill `into`, whose length is the block's count. Raises `ValueError` for bytes that `encode` did not make."""
    if codec == PACKED_LZ4:
        try:
            data = lz4.block.decompress(data)
        except lz4.block.LZ4BlockError as error:
            raise ValueError(str(error)) from error
    elif codec != PACKED:
        raise ValueError(f"codec {codec} is unknown")
    times, values, origins = into
    n = len(times)
    try:
        t_width, t_base, t_unit, decimals, p_width, p_base, p_unit, uniform, origin = _HEAD.unpack_from(data)
        at = _HEAD.size
        values[4:] = np.frombuffer(data, "<f8", 2 * n, at).reshape(2, n)
        at += 16 * n
        if t_width:
            times[:] = np.frombuffer(data, _WIDTHS[t_width], n, at)
            times *= t_unit
            times += t_base
            at += t_width * n
        else:
            times[:] = t_base
        if decimals == _AS_FLOATS:
            prices = np.frombuffer(data, "<f8", 4 * n, at)
        else:
            # Whole numbers below 2**53, so only the division rounds, and it rounds as it did when the block was made.
            prices = np.zeros(4 * n) if not p_width else np.frombuffer(data, _WIDTHS[p_width], 4 * n, at).astype("<f8")
            prices *= p_unit
            prices += p_base
            if decimals:
                prices /= 10.0**decimals
        values[:4] = prices.reshape(4, n)
        at += 4 * p_width * n
        if uniform:
            origins[:] = origin
        else:
            origins[:] = np.frombuffer(data, "u1", n, at)
    except (struct.error, KeyError) as error:
        raise ValueError(str(error)) from error


def _grid(numbers: Ints) -> tuple[int, int, int, bytes]:
    """Width, base, unit, and each number's steps above the base."""
    base = int(numbers.min())
    above = numbers - base
    most = int(above.max())
    if not most:
        return 0, base, 1, b""
    unit = int(np.gcd.reduce(above, axis=None))
    most //= unit
    width = 1 if most < 1 << 8 else 2 if most < 1 << 16 else 4 if most < 1 << 32 else 8
    return width, base, unit, (above // unit).astype(_WIDTHS[width]).tobytes()


def _price_grid(prices: Floats) -> tuple[int, int, int, int, bytes]:
    bits = prices.view(np.int64)
    largest = float(np.abs(prices).max())
    for decimals in range(_DECIMALS_MAX + 1):
        scale = 10.0**decimals
        if not largest * scale < _EXACT:
            break
        whole = np.rint(prices * scale).astype(np.int64)
        if np.array_equal((whole / scale).view(np.int64), bits):
            width, base, unit, steps = _grid(whole.ravel())
            return decimals, width, base, unit, steps
    return _AS_FLOATS, 8, 0, 1, prices.tobytes()
