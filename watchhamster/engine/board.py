"""The latest state of everything that is streamed: what views, rules and commands read."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from watchhamster.core.market import Book, Candle, Event, FeedChanged, Ticker, Trade

TRADES_KEPT = 200  # a symbol; older ones fall out


class Board:
    """The newest ticker, book, trades and forming candles of each instrument, and each feed's last change.

    Bounded by the number of instruments: a new value replaces the old one. `apply` comes first for every event, so
    that whoever is told about it later reads a board that agrees with it.
    """

    def __init__(self) -> None:
        self._tickers: dict[str, Ticker] = {}
        self._books: dict[str, Book] = {}
        self._trades: dict[str, deque[Trade]] = {}
        self._forming: dict[tuple[str, str], Candle] = {}
        self._feeds: dict[tuple[str, str | None], FeedChanged] = {}

    def apply(self, event: Event) -> None:
        """Take one event in. Trades are kept in the order they came."""
        if isinstance(event, Trade):
            trades = self._trades.get(event.instrument)
            if trades is None:
                trades = self._trades[event.instrument] = deque(maxlen=TRADES_KEPT)
            trades.append(event)
        elif isinstance(event, Ticker):
            self._tickers[event.instrument] = event
        elif isinstance(event, Book):
            self._books[event.instrument] = event
        elif isinstance(event, Candle):
            self._apply_candle(event)
        elif isinstance(event, FeedChanged):
            self._feeds[event.venue, event.instrument] = event

    def ticker(self, instrument: str) -> Ticker | None:
        """The last 24 h summary."""
        return self._tickers.get(instrument)

    def book(self, instrument: str) -> Book | None:
        """The last order book."""
        return self._books.get(instrument)

    def trades(self, instrument: str) -> Sequence[Trade]:
        """The last trades (at most `TRADES_KEPT`), oldest first by arrival. Copy it to keep it."""
        return self._trades.get(instrument, ())

    def price(self, instrument: str) -> float | None:
        """The last traded price anyone told us: of the newer of the last trade and the ticker."""
        ticker = self._tickers.get(instrument)
        trades = self._trades.get(instrument)
        trade = trades[-1] if trades else None
        if trade is not None and (ticker is None or trade.event_ns >= (ticker.trade_ns or ticker.event_ns)):
            return trade.price
        return ticker.price if ticker is not None else None

    def forming(self, instrument: str, timeframe: str) -> Candle | None:
        """The candle that is still open."""
        return self._forming.get((instrument, timeframe))

    def feed(self, venue: str, instrument: str | None = None) -> FeedChanged | None:
        """The last change of a venue's feed, or of one instrument in it."""
        return self._feeds.get((venue, instrument))

    def forget(self, instrument: str) -> None:
        """Drop what is known of an instrument that is no longer streamed, so that nobody takes it for fresh."""
        self._tickers.pop(instrument, None)
        self._books.pop(instrument, None)
        self._trades.pop(instrument, None)
        for key in [key for key in self._forming if key[0] == instrument]:
            del self._forming[key]
        for feed in [key for key in self._feeds if key[1] == instrument]:
            del self._feeds[feed]

    def _apply_candle(self, candle: Candle) -> None:
        key = (candle.instrument, candle.timeframe)
        if not candle.closed:
            self._forming[key] = candle
        elif (open_candle := self._forming.get(key)) is not None and open_candle.open_ns <= candle.open_ns:
            del self._forming[key]
