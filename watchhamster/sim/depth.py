"""The order book as a function of the moment.

Each price has a life of its own: hashes of it say how long a size rests there, when it changes and whether there is
anything at all. Only the best level of each side is fixed from outside, by the trade that comes next.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from watchhamster.sim.listings import LISTINGS, Ints, Listing

_REACH = 4096  # cells away from the best price that levels are looked for at most
_STAY = 6  # changes of size before a level may vanish or appear
_SHORTEST_MS = 400
_Words: TypeAlias = NDArray[np.uint64]


class Depth(NamedTuple):
    """An order book: (price, lots) best first, and when it last changed, ms UTC."""

    ms: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]


def book_at(
    listing: Listing, bid: int, ask: int, resting: tuple[int, int], since_ms: int, ms: int, count: int, group: int
) -> tuple[Depth, int]:
    """The book at `ms` and until when (exclusive, ms) it stays so, if nothing trades.

    `resting` lots are at least at the best bid and ask; `since_ms` is the last trade's time. With `group` (a price)
    levels are summed into multiples of it: bids rounded down, asks up.
    """
    lower, upper = _ladder(listing, bid, -1, count, group), _ladder(listing, ask, 1, count, group)
    n = len(lower)
    prices = np.concatenate((lower, upper))
    salt = np.repeat(np.array([2 * listing.index, 2 * listing.index + 1], np.uint64), (n, len(upper)))
    traits = _hash(prices.astype(np.uint64) * np.uint64(2 * len(LISTINGS)) + salt)
    shortest = max(_SHORTEST_MS, int(1e8 / listing.trades))
    life = (1 + (traits % np.uint64(9)).astype(np.int64)) * shortest
    phase = (traits >> np.uint64(20)).astype(np.int64) % life
    epoch = (ms + phase) // life
    age = epoch // _STAY
    step = listing.grid.step(bid)
    gap = _gap(listing, bid)
    there = (_hash(traits ^ age.astype(np.uint64)) >> np.uint64(11)) * 2.0**-53 * gap < 1.0
    there[0] = there[n] = True

    # Sizes are roughly lognormal, larger at round prices and deeper in the book.
    rolls = _hash(traits + epoch.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    low21 = np.uint64(2**21 - 1)
    thirds = (rolls & low21) + (rolls >> np.uint64(21) & low21) + (rolls >> np.uint64(42) & low21)
    typical = 0.8 * listing.turnover / listing.trades / listing.price * 10.0**listing.size_decimals
    away = np.concatenate((np.arange(n), np.arange(len(upper)))) / (gap * 12.0)
    factor = (1.0 + np.minimum(away, 3.0)) * (1.0 + 2.5 * (prices % (10 * step) == 0))
    lots = np.maximum(typical * np.exp(2.6 * (thirds / 2.0**21 - 1.5)) * factor, 1.0).astype(np.int64)
    lots[0] += resting[0]
    lots[n] += resting[1]

    began = np.where(there, epoch, age * _STAY) * life - phase
    ends = np.where(there, epoch + 1, (age + 1) * _STAY) * life - phase
    sides = []
    since, until = since_ms, 2**62
    for part, way in ((slice(0, n), -1), (slice(n, None), 1)):
        kept = np.flatnonzero(there[part])
        shown = prices[part][kept]
        sizes = lots[part][kept]
        if group:
            shown = shown // group * group if way < 0 else -(-shown // group) * group
            starts = np.flatnonzero(np.append(True, np.diff(shown) != 0))
            shown, sizes = shown[starts], np.add.reduceat(sizes, starts)
            last = len(there[part])
        else:
            last = int(kept[:count][-1]) + 1
        since = max(since, int(began[part][:last].max()))
        until = min(until, int(ends[part][:last].min()))
        sides.append(list(zip(shown[:count].tolist(), sizes[:count].tolist(), strict=True)))
    return Depth(since, *sides), until


def _stride(listing: Listing) -> int:
    """Steps to a cell. Where steps are much finer than levels lie apart, a cell has one price that may be a level."""
    price = listing.price * 10**listing.price_decimals
    return max(1, int(listing.spread_bps * 1e-4 * price / listing.grid.step(int(price)) / 4))


def _gap(listing: Listing, best: int) -> float:
    """Cells from one level to the next, on average."""
    return max(1.0, listing.spread_bps * 1e-4 * best / listing.grid.step(best) / _stride(listing))


def _ladder(listing: Listing, best: int, way: int, count: int, group: int) -> Ints:
    """Prices that may be levels, from the best one on, far enough for so many."""
    step, stride = listing.grid.step(best), _stride(listing)
    reach = 1 if count == 1 and not group else int(count * _gap(listing, best) * 1.7) + 16
    if group:
        reach = max(reach, (count + 1) * group // (step * stride))
    prices: Ints = best + way * step * np.arange(min(reach, _REACH), dtype=np.int64)
    if stride > 1:
        cells = best // (step * stride) + way * np.arange(min(reach, _REACH), dtype=np.int64)
        places = (_hash(cells.astype(np.uint64)) % np.uint64(stride)).astype(np.int64)
        prices = (cells * stride + places) * step
        prices = np.append(best, prices[prices > best] if way > 0 else prices[prices < best])
    if way < 0:
        return prices[prices > 0]
    on_grid: Ints = prices[prices % listing.grid.steps_at(prices) == 0]
    return on_grid


def _hash(x: _Words) -> _Words:
    """splitmix64's finaliser, elementwise."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
