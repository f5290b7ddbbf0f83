"""The books of a run, kept once more: its fills replayed in decimals, as an accountant would.

Every number is taken as it prints, so nothing is rounded on the way: cash falls by price x size + fee for what was
bought, and rises by price x size - fee for what was sold. At the end the positions are marked at their last closes.
The kernel computes in float64, so the two differ in what was rounded there: less than 1e-12 of the money that moved,
which in any currency is nothing when rounded to its unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext

import msgspec

from watchhamster.backtest.results import Fill, Result

_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)  # products of two float64s have at most 34 digits


class Balance(msgspec.Struct, frozen=True):
    """What the books say. Money is in the quote asset, sizes are in each base asset; exact."""

    cash: Decimal
    sizes: Mapping[str, Decimal]  # signed; instruments that are flat are left out
    fees: Decimal
    moved: Decimal  # value of all fills

    def equity(self, closes: Mapping[str, float]) -> Decimal:
        """Cash and positions at these prices. An instrument without one raises `KeyError`."""
        with localcontext(_EXACT):
            return self.cash + sum((size * _exact(closes[name]) for name, size in self.sizes.items()), Decimal(0))


def replay(cash: float, fills: Iterable[Fill]) -> Balance:
    """Keep the books of these fills."""
    with localcontext(_EXACT):
        money, fees, moved = _exact(cash), Decimal(0), Decimal(0)
        sizes: dict[str, Decimal] = {}
        for fill in fills:
            size, value, fee = _exact(fill.size), _exact(fill.size) * _exact(fill.price), _exact(fill.fee)
            side = 1 if fill.side == "buy" else -1
            money -= side * value + fee
            sizes[fill.instrument] = sizes.get(fill.instrument, Decimal(0)) + side * size
            fees += fee
            moved += value
        return Balance(money, {name: size for name, size in sizes.items() if size}, fees, moved)


def difference(result: Result, closes: Mapping[str, float]) -> Decimal:
    """How far the run's last equity is from the books'. `closes` are the last prices of what is still held."""
    balance = replay(result.cash, result.fills)
    final = float(result.curve.equity[-1]) if len(result.curve) else result.cash
    with localcontext(_EXACT):
        return _exact(final) - balance.equity(closes)


def _exact(number: float) -> Decimal:
    return Decimal(repr(float(number)))
