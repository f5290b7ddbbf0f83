"""What the tests of the stores share: a clock, candles, and ways to look at a store from outside."""

from __future__ import annotations

import datetime as dt
import itertools
import sqlite3
from contextlib import closing
from pathlib import Path

from watchhamster.core.bars import Span
from watchhamster.core.market import Candle, Origin
from watchhamster.core.timeframes import SECOND_NS, timeframe
from watchhamster.storage.market import MarketStore

MINUTE_NS = 60 * SECOND_NS
DAY_NS = 86400 * SECOND_NS
BTC = "upbit:KRW-BTC"


def at(text: str) -> int:
    """Nanoseconds UTC of an ISO time."""
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()) * SECOND_NS


class FixedClock:
    """Time that only moves when a test says so."""

    def __init__(self, now: str = "2026-01-10 12:00:30") -> None:
        self.ns = at(now)

    def now_ns(self) -> int:
        return self.ns

    def monotonic(self) -> float:
        return self.ns / 1e9

    async def sleep(self, seconds: float) -> None:
        self.ns += int(seconds * 1e9)


def candle(
    open_ns: int,
    close: float = 100.0,
    *,
    instrument: str = BTC,
    tf: str = "1m",
    volume: float | None = 1.5,
    origin: Origin = "live",
) -> Candle:
    value = None if volume is None else volume * close
    return Candle(instrument, tf, open_ns, close, close + 2, close - 1, close, volume, value, True, origin)


def minutes(start: str, count: int, *, close: float = 100.0, origin: Origin = "live") -> list[Candle]:
    """So many one-minute candles in a row, each with a price of its own."""
    return [candle(at(start) + i * MINUTE_NS, close + i, origin=origin) for i in range(count)]


def everything(store: MarketStore, instrument: str = BTC, tf: str = "1m") -> list[Candle]:
    return store.read_candles(instrument, tf, 0, 1 << 62)


def spans(store: MarketStore, since: str, until: str, tf: str = "1m") -> list[tuple[str, int, int]]:
    """Coverage as (state, slots, candles)."""
    length = timeframe(tf).ns
    assert length is not None
    found: list[Span] = store.read_coverage(BTC, tf, at(since), at(until))
    assert not found or (found[0].since_ns, found[-1].until_ns) == (at(since), at(until))
    assert all(a.until_ns == b.since_ns for a, b in itertools.pairwise(found))
    return [(span.state, (span.until_ns - span.since_ns) // length, span.count) for span in found]


def ask(path: Path, sql: str, *values: object) -> list[tuple[object, ...]]:
    """Look into a file that no store has open, or beside one."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql, values).fetchall()


def tamper(path: Path, sql: str, *values: object) -> None:
    """Change a file behind its store's back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql, values)
