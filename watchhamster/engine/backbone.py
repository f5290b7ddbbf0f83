"""Market data from any number of venues behind one face, usable as a library.

    async with MarketDataBackbone(parts) as backbone:
        ticker = await backbone.get_ticker("KRW-BTC")
        async for trade in backbone.stream_trades("KRW-BTC"):
            ...

It chooses the way by itself: a value that is being streamed is read from the board, anything else is asked of REST;
what is streamed is what somebody iterates over. `watchhamster.app` has the same class with every venue wired already.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import msgspec

from watchhamster.core.bars import Bars
from watchhamster.core.candles import DAY, MINUTE, OpenBars, fold
from watchhamster.core.instruments import InstrumentInfo, instrument_of, split_instrument
from watchhamster.core.market import Book, Candle, Event, Ticker, Trade
from watchhamster.core.ports import (
    Clock,
    Kind,
    Searched,
    Subscription,
    Unavailable,
    UsageError,
    Venue,
    Wire,
)
from watchhamster.core.text import Text
from watchhamster.core.timeframes import Timeframe
from watchhamster.core.timeframes import timeframe as timeframe_of
from watchhamster.engine.backfill import Backfill, CandleStore, MemoryStore
from watchhamster.engine.board import Board
from watchhamster.engine.clock import SystemClock
from watchhamster.engine.feed import Feed
from watchhamster.engine.limits import Limiter, Priority
from watchhamster.engine.routing import Caller

E = TypeVar("E", Trade, Ticker, Book, Candle)

TRADES_WAITING_MAX = 10_000  # an iterator that is so far behind has lost touch
_BOOKS_A_CALL = 100
_LOOK_S = 1.0  # how often a closed bar is looked for, where minutes are quiet


class VenueParts(msgspec.Struct, frozen=True):
    """What one venue is made of. The backbone closes the wire when it is left."""

    venue: Venue
    wire: Wire
    base_url: str | None = None  # None: the venue's own
    limiter: Limiter | None = None  # None: a fresh one with the venue's quotas
    fee: float = 0.0  # of a taker, as a fraction: 0.0005 is 0.05 %


class Arbitrage(msgspec.Struct, frozen=True):
    """One market, two venues: buying at one's best ask and selling at the other's best bid pays, fees included."""

    base: str
    quote: str
    buy: str  # instrument to buy
    sell: str  # instrument to sell
    buy_price: float
    sell_price: float
    size: float  # base asset: what both best levels hold
    profit: float  # quote asset, for that size, after both fees
    profit_bps: float  # of the money spent
    event_ns: int  # the older of the two books


class MarketDataBackbone:
    """Tickers, books, trades and candles of the venues in `parts` (venue name -> its parts).

    A name without a venue (`KRW-BTC`) is of the `exchange` argument, by default the first venue. `store` keeps
    candles between runs; without one they are kept for this run only. `observe` is called synchronously with every
    event, after the board has it.

    Everything raises `UsageError` (`unknown_venue`) for a venue that is not wired, and what the venue's answer raises.
    """

    def __init__(
        self,
        parts: Mapping[str, VenueParts],
        *,
        store: CandleStore | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        observe: Callable[[Event], None] | None = None,
    ) -> None:
        self.clock = clock or SystemClock()
        self.board = Board()
        self._observe = observe
        self._parts = dict(parts)
        self._callers: dict[str, Caller] = {}
        self._feeds: dict[str, Feed] = {}
        for name, part in self._parts.items():
            limiter = part.limiter or Limiter(self.clock, part.venue.quotas)
            caller = self._callers[name] = Caller(part.venue, part.wire, limiter)
            seed = (rng or random.SystemRandom()).getrandbits(64)
            self._feeds[name] = Feed(
                part.venue,
                part.wire,
                caller,
                self.clock,
                self._handle,
                random.Random(seed),
                base_url=part.base_url,
            )
        self.backfill = Backfill(self.caller, store or MemoryStore(), self.clock)
        self._wanted: dict[str, Counter[Subscription]] = {name: Counter() for name in self._parts}
        self._taps: dict[tuple[type[Event], str], list[_Tap[Any]]] = {}
        self._markets: dict[str, list[InstrumentInfo]] = {}
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for part in self._parts.values():
            self._open.push_async_callback(part.wire.close)
        tasks = await self._open.enter_async_context(asyncio.TaskGroup())
        for feed in self._feeds.values():
            self._open.callback(tasks.create_task(feed.run()).cancel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for taps in self._taps.values():
            for tap in taps:
                tap.end()
        await self._open.aclose()  # what the caller's block raised is the caller's, and stays as it is

    # ---------------------------------------------------------------- parts, for those who build on it

    def caller(self, venue: str) -> Caller:
        """The one way to a venue's REST interface."""
        return self._callers[self._known(venue)]

    def feed(self, venue: str) -> Feed:
        """A venue's supervised stream."""
        return self._feeds[self._known(venue)]

    # ---------------------------------------------------------------- one answer

    async def get_instruments(self, exchange: str | None = None) -> list[InstrumentInfo]:
        """Every instrument of a venue, or, without one named, of all; the best known of one that lists no whole market.

        Asked for once.
        """
        found: list[InstrumentInfo] = []
        for name in [self._known(exchange)] if exchange is not None else self._parts:
            caller = self._callers[name]
            if isinstance(caller.venue, Searched):
                self._markets[name] = list(caller.venue.known())
            elif name not in self._markets:
                self._markets[name] = await caller.call(caller.venue.markets(), "normal")
            found += self._markets[name]
        return found

    async def get_ticker(self, instrument: str, exchange: str | None = None) -> Ticker:
        """The latest 24 h summary: from the stream where it is streamed and delivers, else from REST."""
        venue, symbol, name = self._named(instrument, exchange)
        ticker = self.board.ticker(name)
        if ticker is not None and self._feeds[venue].delivers("ticker", name):
            return ticker
        return self._first(venue, await self._callers[venue].tickers([symbol], "urgent"), name)

    async def get_order_book(self, instrument: str, exchange: str | None = None) -> Book:
        """The whole order book: from the stream where it is streamed and delivers, else from REST."""
        venue, symbol, name = self._named(instrument, exchange)
        book = self.board.book(name)
        if book is not None and self._feeds[venue].delivers("book", name):
            return book
        caller = self._callers[venue]
        books = await caller.call(caller.venue.books([symbol]), "urgent")
        return self._first(venue, books, name)

    async def get_candles(
        self,
        instrument: str,
        timeframe: Timeframe | str,
        since_ns: int,
        until_ns: int,
        exchange: str | None = None,
        *,
        priority: Priority = "normal",
    ) -> Bars:
        """Closed candles that open in `[since_ns, until_ns)`: store first, then the venue; no gaps but "no trade"."""
        _, _, name = self._named(instrument, exchange)
        return await self.backfill.candles(name, timeframe, since_ns, until_ns, priority=priority)

    async def find_arbitrage_opportunities(self, exchanges: Sequence[str] | None = None) -> list[Arbitrage]:
        """Markets whose best bid at one venue is above the best ask at another by more than both fees, best first.

        Markets are the same when base and quote assets are. With fewer than two venues there are none.
        """
        names = [self._known(name) for name in (exchanges if exchanges is not None else self._parts)]
        markets = {
            name: {(info.base, info.quote): info for info in await self.get_instruments(name)}
            for name in dict.fromkeys(names)
        }
        shared = [pair for pair, count in Counter(p for m in markets.values() for p in m).items() if count > 1]
        books: dict[tuple[str, str], dict[str, Book]] = {pair: {} for pair in shared}
        for name, infos in markets.items():
            if "book" not in self._parts[name].venue.kinds:
                continue
            here = {infos[pair].symbol: pair for pair in shared if pair in infos}
            for symbol, book in (await self._books(name, list(here))).items():
                books[here[symbol]][name] = book
        found = [
            chance
            for (base, quote), at in books.items()
            for buy in at
            for sell in at
            if buy != sell and (chance := self._compare(base, quote, (buy, at[buy]), (sell, at[sell]))) is not None
        ]
        return sorted(found, key=lambda chance: -chance.profit_bps)

    # ---------------------------------------------------------------- streams

    def stream_trades(self, instrument: str, exchange: str | None = None) -> AsyncGenerator[Trade, None]:
        """Trades as they happen, each once; gaps are filled in late rather than left.

        None is dropped: an iterator that falls `TRADES_WAITING_MAX` behind raises `Unavailable` (`too_slow`).
        """
        return self._stream(Trade, "trade", instrument, exchange, TRADES_WAITING_MAX)

    def stream_tickers(self, instrument: str, exchange: str | None = None) -> AsyncGenerator[Ticker, None]:
        """24 h summaries. Whoever is slow sees only the latest."""
        return self._stream(Ticker, "ticker", instrument, exchange, 1)

    def stream_order_books(self, instrument: str, exchange: str | None = None) -> AsyncGenerator[Book, None]:
        """Whole books. Whoever is slow sees only the latest."""
        return self._stream(Book, "book", instrument, exchange, 1)

    def stream_candles(
        self, instrument: str, timeframe: str = "1m", exchange: str | None = None
    ) -> AsyncGenerator[Candle, None]:
        """The venue's own open candle as it grows. Whoever is slow sees only the latest.

        Of a venue without trades the open candle is made here, of any timeframe, and each closed one follows once the
        venue tells it.
        """
        venue, symbol, name = self._named(instrument, exchange)
        if "trade" in self._parts[venue].venue.kinds:
            return self._stream(Candle, "candle", instrument, exchange, 1, timeframe)
        return self._bars(venue, symbol, name, timeframe_of(timeframe))

    async def _bars(self, venue: str, symbol: str, name: str, frame: Timeframe) -> AsyncGenerator[Candle, None]:
        """Open bars of minutes and tickers, and closed ones as the venue's grid says that they are over."""
        adapter, bars = self._parts[venue].venue, OpenBars(self.clock.now_ns())
        is_long = frame.approximate_ns > DAY.approximate_ns
        told_ns = taken_ns = days_ns = -1  # minutes, bars of the timeframe, and days, are had up to here
        days: list[Candle] = []
        last: Candle | None = None
        with self._tapped(Candle, Subscription("candle", symbol, MINUTE.name), venue, name, 1) as minutes:
            while True:
                grid, now_ns = adapter.grid(symbol), self.clock.now_ns()
                settled_ns, day_ns = grid.settled_ns(MINUTE, now_ns), grid.open_ns(DAY, now_ns)
                taken_ns = grid.settled_ns(frame, now_ns) if taken_ns < 0 else taken_ns
                with suppress(Unavailable):  # the feed says how it goes; it is asked again below
                    if frame is not MINUTE and settled_ns > told_ns:
                        since_ns = min(day_ns, settled_ns) if told_ns < 0 else told_ns
                        rows = await self.get_candles(name, MINUTE, since_ns, settled_ns)
                        bars.tell(rows.candles(name, MINUTE.name, "backfill"), since_ns, settled_ns)
                        told_ns = settled_ns
                    if is_long and day_ns > days_ns:
                        rows = await self.get_candles(name, DAY, grid.open_ns(frame, day_ns), day_ns)
                        days, days_ns = list(rows.candles(name, DAY.name, "backfill")), day_ns
                    over_ns = grid.settled_ns(frame, now_ns)
                    if over_ns > taken_ns:
                        rows = await self.get_candles(name, frame, taken_ns, over_ns)
                        for closed in rows.candles(name, frame.name, "backfill"):
                            taken_ns = grid.end_ns(frame, closed.open_ns)
                            yield closed
                try:
                    async with asyncio.timeout(_LOOK_S):
                        minute = await minutes.take()
                except TimeoutError:
                    continue
                if minute is None:
                    return
                bars.add(minute)
                opened: Candle | None = minute
                if frame is not MINUTE:
                    ticker, now_ns = self.board.ticker(name), self.clock.now_ns()
                    opened = bars.forming(DAY if is_long else frame, grid, now_ns, ticker)
                    if opened is not None and is_long:
                        opened = fold([*days, opened], frame, grid)[-1]
                        opened = msgspec.structs.replace(opened, closed=False, origin="live")
                if opened is not None and opened != last:
                    last = opened
                    yield opened

    async def _stream(
        self,
        kind_type: type[E],
        kind: Kind,
        instrument: str,
        exchange: str | None,
        waiting_max: int,
        timeframe: str | None = None,
    ) -> AsyncGenerator[E, None]:
        venue, symbol, name = self._named(instrument, exchange)
        with self._tapped(kind_type, Subscription(kind, symbol, timeframe), venue, name, waiting_max) as tap:
            while (event := await tap.take()) is not None:
                yield event

    @contextmanager
    def _tapped(
        self, kind_type: type[E], want: Subscription, venue: str, name: str, waiting_max: int
    ) -> Iterator[_Tap[E]]:
        """Stream something for as long as somebody reads it."""
        tap: _Tap[E] = _Tap(name, waiting_max, conflate=want.kind != "trade")
        taps = self._taps.setdefault((kind_type, name), [])
        taps.append(tap)
        self._want(venue, want, 1)
        try:
            yield tap
        finally:
            taps.remove(tap)
            self._want(venue, want, -1)

    def _want(self, venue: str, want: Subscription, change: int) -> None:
        wanted = self._wanted[venue]
        wanted[want] += change
        if not wanted[want]:
            del wanted[want]
            if all(other.symbol != want.symbol for other in wanted):
                self.board.forget(instrument_of(venue, want.symbol))
        self._feeds[venue].set_wants(wanted)

    # ---------------------------------------------------------------- inside

    def _handle(self, event: Event) -> None:
        self.board.apply(event)
        if isinstance(event, Trade | Ticker | Book | Candle):
            for tap in self._taps.get((type(event), event.instrument), ()):
                tap.put(event)
        if self._observe is not None:
            self._observe(event)

    def _known(self, venue: str) -> str:
        if venue not in self._parts:
            raise UsageError(
                "unknown_venue",
                Text("{venue!r} is not a venue here.", {"venue": venue}),
                Text("Known ones are {names}.", {"names": ", ".join(self._parts)}),
            )
        return venue

    def _named(self, instrument: str, exchange: str | None) -> tuple[str, str, str]:
        venue, symbol = split_instrument(instrument, exchange or next(iter(self._parts), None))
        return self._known(venue), symbol, instrument_of(venue, symbol)

    def _first(self, venue: str, rows: Sequence[E], name: str) -> E:
        for row in rows:
            if row.instrument == name:
                return row
        raise UsageError(
            "unknown_instrument",
            Text("{venue} has nothing called {instrument}.", {"venue": venue, "instrument": name}),
            Text("`get_instruments` lists what there is."),
        )

    async def _books(self, venue: str, symbols: Sequence[str]) -> dict[str, Book]:
        caller = self._callers[venue]
        found: dict[str, Book] = {}
        for start in range(0, len(symbols), _BOOKS_A_CALL):
            query = caller.venue.books(symbols[start : start + _BOOKS_A_CALL])
            for book in await caller.call(query, "normal"):
                found[split_instrument(book.instrument)[1]] = book
        return found

    def _compare(self, base: str, quote: str, buy: tuple[str, Book], sell: tuple[str, Book]) -> Arbitrage | None:
        (buy_venue, asks), (sell_venue, bids) = buy, sell
        if not asks.asks or not bids.bids:
            return None
        (ask, ask_size), (bid, bid_size) = asks.asks[0], bids.bids[0]
        cost = ask * (1 + self._parts[buy_venue].fee)
        gain = bid * (1 - self._parts[sell_venue].fee)
        if gain <= cost:
            return None
        size = min(ask_size, bid_size)
        return Arbitrage(
            base,
            quote,
            asks.instrument,
            bids.instrument,
            ask,
            bid,
            size,
            (gain - cost) * size,
            (gain / cost - 1) * 1e4,
            min(asks.event_ns, bids.event_ns),
        )


class _Tap(Generic[E]):
    """Events on their way to one iterator."""

    def __init__(self, instrument: str, waiting_max: int, *, conflate: bool) -> None:
        self._instrument = instrument
        self._waiting: deque[E] = deque(maxlen=waiting_max if conflate else None)
        self._waiting_max = waiting_max
        self._ready = asyncio.Event()
        self._ended = self._overflowed = False

    def put(self, event: E) -> None:
        if self._waiting.maxlen is None and len(self._waiting) >= self._waiting_max:
            self._overflowed = True  # from here on something would be missing
        if not self._overflowed:
            self._waiting.append(event)
        self._ready.set()

    def end(self) -> None:
        self._ended = True
        self._ready.set()

    async def take(self) -> E | None:
        """The next event; None when the backbone has been left."""
        while not self._waiting:
            if self._overflowed:
                raise Unavailable(
                    "too_slow",
                    Text(
                        "The reader of {instrument} fell {count} trades behind.",
                        {"instrument": self._instrument, "count": self._waiting_max},
                    ),
                    Text("Do the slow part elsewhere, and stream again."),
                )
            if self._ended:
                return None
            self._ready.clear()
            await self._ready.wait()
        return self._waiting.popleft()
