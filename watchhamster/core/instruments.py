"""Instruments: how one is written, and what a venue says about it."""

from __future__ import annotations

from bisect import bisect_right
from decimal import Decimal

import msgspec

from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text


def instrument_of(venue: str, symbol: str) -> str:
    """`venue:SYMBOL`, the one way an instrument is written."""
    return f"{venue}:{symbol}"


def split_instrument(text: str, default_venue: str | None = None) -> tuple[str, str]:
    """Venue and symbol of `venue:SYMBOL` (or of a bare symbol, where a default venue is given).

    Raises `UsageError` (`unknown_instrument`) when the text is neither.
    """
    venue, colon, symbol = text.strip().partition(":")
    if not colon and default_venue is not None:
        venue, symbol = default_venue, venue
    if not venue or not symbol or not venue.isidentifier() or any(c.isspace() for c in symbol):
        raise UsageError(
            "unknown_instrument",
            Text("{text!r} is not an instrument.", {"text": text}),
            Text("Write venue:SYMBOL, such as upbit:KRW-BTC."),
        )
    return venue.lower(), symbol


class PriceSteps(msgspec.Struct, frozen=True):
    """A venue's tick sizes: from each price (ascending, starting at 0) the step that holds, as exact decimals."""

    starts: tuple[Decimal, ...]
    steps: tuple[Decimal, ...]

    def step(self, price: float | Decimal) -> Decimal:
        """The tick size at a price, in the quote asset."""
        exact = price if isinstance(price, Decimal) else Decimal(repr(float(price)))
        return self.steps[max(0, bisect_right(self.starts, exact) - 1)]

    def round(self, price: float) -> float:
        """The nearest price on the venue's grid."""
        exact = Decimal(repr(float(price)))
        step = self.step(exact)
        return float((exact / step).quantize(Decimal(1)) * step)

    def decimals(self, price: float) -> int:
        """How many decimals a price near this one is shown with."""
        exponent = self.step(price).normalize().as_tuple().exponent
        return max(0, -exponent) if isinstance(exponent, int) else 0


class InstrumentInfo(msgspec.Struct, frozen=True):
    """What a venue says about one instrument."""

    instrument: str  # "upbit:KRW-BTC"
    symbol: str  # "KRW-BTC", as the venue writes it
    base: str  # "BTC"; sizes are in it
    quote: str  # "KRW"; prices are in it
    names: dict[str, str]  # language code -> name: {"ko": "비트코인", "en": "Bitcoin"}
    steps: PriceSteps
    least_total: Decimal  # the least order value, in the quote asset
    warning: bool = False  # the venue's investment warning
    cautions: tuple[str, ...] = ()  # the venue's own words, such as "PRICE_FLUCTUATIONS"


class Headline(msgspec.Struct, frozen=True):
    """A piece of news."""

    id: str
    title: str
    publisher: str
    url: str
    published_ns: int
    instruments: tuple[str, ...] = ()  # that Yahoo relates to it; not always what was asked about
