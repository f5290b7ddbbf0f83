"""Market data, as values. `msgspec.json.encode(event)` is the event's JSON line (see the contracts).

Times are integer nanoseconds UTC: `event_ns` is the venue's, `received_ns` ours (None in a capture that did not
keep it). Numbers are the venue's in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

Side = Literal["buy", "sell"]
Origin = Literal["live", "backfill", "import", "simulated"]
FeedState = Literal["live", "stale", "reconnecting", "fallback", "recovered", "closed"]
Level: TypeAlias = tuple[float, float]  # price, size


class Trade(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="trade"):
    """A public trade, as the venue printed it."""

    instrument: str  # "upbit:KRW-LAMB"
    event_ns: int
    received_ns: int | None
    id: int | str  # unique per instrument, not always ordered
    price: float
    size: float  # base asset
    side: Side  # of the taker: buy lifted an ask


class Book(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="book"):
    """An order book: best level first on both sides."""

    instrument: str
    event_ns: int
    received_ns: int | None
    snapshot: bool  # this replaces the whole book
    bids: list[Level]
    asks: list[Level]


class Ticker(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="ticker"):
    """The day's and the last 24 hours' summary. `change` is signed; rates are fractions (0.01 is one percent)."""

    instrument: str
    event_ns: int
    received_ns: int | None
    price: float
    open: float | None
    high: float | None
    low: float | None
    previous_close: float | None
    change: float | None
    change_rate: float | None
    volume_24h: float | None  # base asset
    value_24h: float | None  # quote asset
    trade_ns: int | None = None  # the last trade
    state: str | None = None  # the venue's own word, such as "ACTIVE" or "DELISTED"
    regular: float | None = None  # the last price of regular trading, where `price` is one of pre or post market


class Candle(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="candle"):
    """What traded from `open_ns` until the next candle of the timeframe. No trades, no candle."""

    instrument: str
    timeframe: str  # "1m"
    open_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: float | None  # base asset
    value: float | None  # quote asset
    closed: bool
    origin: Origin
    revision: int = 0  # above 0: the venue or a late trade corrected a closed candle


class AdjustedCandle(Candle, frozen=True, gc=False, tag_field="kind", tag="candle"):
    """A candle of before a distribution, with the factor that makes its prices comparable to those of after it."""

    adjustment: float = 1.0


class Action(msgspec.Struct, frozen=True):
    """What a company or a fund did to its shares. `at_ns` is when the first day that trades without it begins."""

    instrument: str
    at_ns: int
    kind: Literal["dividend", "gain", "split"]
    amount: float  # a share, in the unit of the prices, split-adjusted as they are; for a split new shares for one old


class BadFrameSeen(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="bad_frame"):
    """A frame nobody could read, counted and kept."""

    received_ns: int | None
    reason: str
    sample: str
    venue: str = ""


class FeedChanged(msgspec.Struct, frozen=True, tag_field="kind", tag="feed"):
    """A feed went up, down, mute or back. `reason` is a stable word; `values` are what its sentence needs."""

    instrument: str | None  # None: the whole venue
    venue: str
    state: FeedState
    at_ns: int
    reason: str
    gap_filled: bool | None = None  # None: there was no gap to fill, or it is not known yet
    values: Mapping[str, float | int | str] = {}


Event: TypeAlias = Trade | Book | Ticker | Candle | BadFrameSeen | FeedChanged

_encoder = msgspec.json.Encoder()


def to_json(event: Event) -> bytes:
    """One NDJSON line without its newline."""
    return _encoder.encode(event)
