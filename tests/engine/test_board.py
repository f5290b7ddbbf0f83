"""The board holds the latest of everything, and never more than it should."""

from __future__ import annotations

from watchhamster.core.market import Book, Candle, FeedChanged, Ticker, Trade
from watchhamster.engine.board import TRADES_KEPT, Board


def ticker(price: float, at: int) -> Ticker:
    return Ticker("v:A", at, at, price, None, None, None, None, None, None, None, None, at)


def candle(open_ns: int, closed: bool) -> Candle:
    return Candle("v:A", "1m", open_ns, 1, 2, 1, 2, 1, 2, closed, "live")


def test_the_price_is_the_newer_of_trade_and_ticker() -> None:
    board = Board()
    assert board.price("v:A") is None
    board.apply(ticker(10.0, 5))
    assert board.price("v:A") == 10.0
    board.apply(Trade("v:A", 6, 6, 1, 11.0, 1.0, "buy"))
    assert board.price("v:A") == 11.0
    board.apply(ticker(12.0, 7))
    assert board.price("v:A") == 12.0
    assert board.ticker("v:A") == ticker(12.0, 7)


def test_trades_are_bounded_and_oldest_first() -> None:
    board = Board()
    for i in range(TRADES_KEPT + 50):
        board.apply(Trade("v:A", i, i, i, 1.0, 1.0, "buy"))
    assert [trade.id for trade in board.trades("v:A")] == list(range(50, TRADES_KEPT + 50))


def test_a_forming_candle_goes_when_it_closes_but_not_when_an_older_one_is_corrected() -> None:
    board = Board()
    board.apply(candle(60, closed=False))
    board.apply(candle(0, closed=True))
    assert board.forming("v:A", "1m") == candle(60, closed=False)
    board.apply(candle(60, closed=True))
    assert board.forming("v:A", "1m") is None


def test_what_is_forgotten_is_gone() -> None:
    board = Board()
    changed = FeedChanged("v:A", "v", "stale", 1, "no_snapshot")
    for event in (ticker(1, 1), Book("v:A", 1, 1, True, [], []), candle(0, closed=False), changed):
        board.apply(event)
    board.apply(FeedChanged(None, "v", "live", 1, "delivers"))
    assert board.feed("v", "v:A") is changed
    board.forget("v:A")
    left = [board.ticker("v:A"), board.book("v:A"), board.forming("v:A", "1m"), board.feed("v", "v:A")]
    assert left == [None] * 4
    assert board.price("v:A") is None
    assert board.feed("v") is not None
