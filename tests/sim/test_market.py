"""The market: every layer adds up to the one above, the same for whoever asks, and it moves like one."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchhamster.core.ports import UsageError
from watchhamster.core.timeframes import timeframe
from watchhamster.sim.listings import BY_SYMBOL, LISTINGS
from watchhamster.sim.world import DAY_MS, MINUTE_MS, MS, Bar, Print, World

DAY = 20778  # 2026-11-21
NOON_NS = (DAY * DAY_MS + DAY_MS // 2) * MS + 123_456_789
WORLD = World(7)
SYMBOLS = [listing.symbol for listing in LISTINGS]


def fold(symbol: str, trades: Iterable[Print], name: str) -> dict[int, list[float]]:
    """Candles made of trades the plain way: open, high, low, close, lots, value, last."""
    frame = timeframe(name)
    bars: dict[int, list[float]] = {}
    for one in trades:
        value = WORLD.value(symbol, one.price, one.lots)
        bar = bars.get(frame.open_ns(one.ms * MS))
        if bar is None:
            bars[frame.open_ns(one.ms * MS)] = [one.price] * 4 + [one.lots, value, one.ms]
        else:
            bar[1:] = [
                max(bar[1], one.price),
                min(bar[2], one.price),
                one.price,
                bar[4] + one.lots,
                bar[5] + value,
                one.ms,
            ]
    return bars


def assert_same(bar: Bar, made: list[float]) -> None:
    assert list(bar[1:6]) == made[:5]
    assert bar.value == pytest.approx(made[5], rel=1e-9)
    assert bar.last_ms == made[6]


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("day", [DAY - 1, DAY - 700])
def test_minutes_add_up_to_their_day(symbol: str, day: int) -> None:
    table = WORLD.days(symbol, day)
    row = day - table.first
    minutes = WORLD.minutes(symbol, day)
    if minutes is None:
        assert row < 0
        return
    assert (minutes.open[0], minutes.close[-1]) == (table.open[row], table.close[row])
    assert (minutes.high.max(), minutes.low.min()) == (table.high[row], table.low[row])
    assert minutes.lots.sum() == table.lots[row]
    assert minutes.value.sum() == pytest.approx(table.value[row], rel=1e-9)
    assert minutes.minute[-1] * MINUTE_MS + minutes.last_ms[-1] == table.last_ms[row]
    assert (minutes.low <= np.minimum(minutes.open, minutes.close)).all()
    assert (minutes.high >= np.maximum(minutes.open, minutes.close)).all()


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_trades_add_up_to_their_minute(symbol: str) -> None:
    grid = BY_SYMBOL[symbol].grid
    minutes = WORLD.minutes(symbol, DAY - 1)
    assert minutes is not None
    for row in range(0, len(minutes.minute), max(1, len(minutes.minute) // 20)):
        trades = WORLD.minute_trades(symbol, (DAY - 1) * 1440 + int(minutes.minute[row]))
        prices = [one.price for one in trades]
        assert (prices[0], max(prices), min(prices), prices[-1]) == (
            minutes.open[row],
            minutes.high[row],
            minutes.low[row],
            minutes.close[row],
        )
        assert sum(one.lots for one in trades) == minutes.lots[row]
        assert sum(one.lots for one in trades if one.buy) == minutes.buy_lots[row]
        low, extra = int(minutes.low[row]), int(minutes.high[row] - minutes.low[row])
        turnover = low * int(minutes.lots[row]) + extra * int(minutes.high_lots[row])
        assert sum(one.price * one.lots for one in trades) == turnover  # exactly: all are integers
        assert min(one.lots for one in trades) > 0
        assert all(price % grid.step(price) == 0 for price in prices)
        assert [one.ms for one in trades] == sorted(one.ms for one in trades)
        assert len({one.id for one in trades}) == len(trades)


@pytest.mark.parametrize("symbol", ["KRW-LAMB", "BTC-XRP"])
@pytest.mark.parametrize("name", ["1s", "10s", "1m", "3m", "15m", "1h", "4h", "1d"])
def test_every_candle_of_a_day_adds_up_to_its_trades(symbol: str, name: str) -> None:
    since_ns = (DAY - 1) * DAY_MS * MS
    made = fold(symbol, WORLD.trades(symbol, since_ns, NOON_NS + 1), name)
    bars = list(WORLD.candles_between(symbol, timeframe(name), since_ns, NOON_NS + 1, NOON_NS))
    assert [bar.open_ns for bar in bars] == list(made)
    for bar in bars:
        assert_same(bar, made[bar.open_ns])


@pytest.mark.parametrize("name", ["1s", "1m", "5m"])
def test_candles_of_a_busy_instrument_add_up_to_its_trades(name: str) -> None:
    since_ns = timeframe("5m").open_ns(NOON_NS - 1500 * 10**9)
    made = fold("KRW-BTC", WORLD.trades("KRW-BTC", since_ns, NOON_NS + 1), name)
    bars = list(WORLD.candles_between("KRW-BTC", timeframe(name), since_ns, NOON_NS + 1, NOON_NS))
    assert [bar.open_ns for bar in bars] == list(made)
    for bar in bars:
        assert_same(bar, made[bar.open_ns])


@pytest.mark.parametrize("name", ["1w", "1M", "1y"])
def test_long_candles_add_up_to_days(name: str) -> None:
    frame = timeframe(name)
    days = list(WORLD.candles("KRW-PEPE", timeframe("1d"), NOON_NS, NOON_NS))
    for bar in islice(WORLD.candles("KRW-PEPE", frame, NOON_NS, NOON_NS), 3):
        inside = [day for day in days if bar.open_ns <= day.open_ns < frame.next_ns(bar.open_ns)]
        assert (bar.open, bar.close) == (inside[-1].open, inside[0].close)
        assert (bar.high, bar.low) == (max(d.high for d in inside), min(d.low for d in inside))
        assert bar.lots == sum(d.lots for d in inside)
        assert bar.value == pytest.approx(sum(d.value for d in inside))


def test_history_reaches_back_to_the_listing_and_no_further() -> None:
    bars = list(WORLD.candles("KRW-BTC", timeframe("1d"), NOON_NS, NOON_NS))
    assert len(bars) == DAY - BY_SYMBOL["KRW-BTC"].since_day + 1
    assert list(WORLD.candles("KRW-PEPE", timeframe("1m"), 1_600_000_000 * 10**9, NOON_NS)) == []
    with pytest.raises(UsageError):
        WORLD.candles("KRW-BTC", timeframe("7m"), NOON_NS, NOON_NS)


def digest(world: World, symbols: Iterable[str]) -> dict[str, str]:
    """A fingerprint of the market as each instrument shows it."""
    prints = {}
    for symbol in symbols:
        seen = hashlib.sha256()
        seen.update(repr(list(islice(world.trades_before(symbol, NOON_NS), 50))).encode())
        seen.update(repr(world.book(symbol, NOON_NS)).encode())
        seen.update(repr(world.summary(symbol, NOON_NS)).encode())
        for name in ("1m", "1h", "1d", "1w"):
            seen.update(repr(list(islice(world.candles(symbol, timeframe(name), NOON_NS, NOON_NS), 30))).encode())
        prints[symbol] = seen.hexdigest()
    return prints


SOME = ["KRW-BTC", "KRW-SHIB", "BTC-ETH", "KRW-LAMB"]


def test_the_order_of_asking_does_not_matter() -> None:
    backwards = World(7)
    list(islice(backwards.candles("KRW-LAMB", timeframe("4h"), NOON_NS, NOON_NS), 200))
    backwards.days("KRW-BTC", DAY + 800)
    assert digest(backwards, reversed(SOME)) == digest(World(7), SOME)


def test_another_process_sees_the_same_market_and_another_seed_another() -> None:
    code = "from tests.sim.test_market import *; print(digest(World(7), SOME))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    mine = digest(WORLD, SOME)
    assert other.stdout.strip() == repr(mine)
    assert all(mine[symbol] != value for symbol, value in digest(World(8), SOME).items())


def returns(symbol: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    table = WORLD.days(symbol, DAY)
    close: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = np.diff(np.log(table.close[: DAY - table.first]))
    return close


def minute_returns(symbol: str, day: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    rows = WORLD.minutes(symbol, day)
    assert rows is not None
    close = np.interp(np.arange(1440), rows.minute, rows.close)
    moves: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = np.diff(np.log(close))
    return moves


def lagged(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], lag: int) -> float:
    return float(np.corrcoef(values[:-lag], values[lag:])[0, 1])


def test_volatility_comes_in_clusters_and_returns_have_fat_tails() -> None:
    for symbol in ("KRW-BTC", "KRW-ETH", "KRW-DOGE"):
        moves = returns(symbol)
        assert np.mean([lagged(np.abs(moves), lag) for lag in range(1, 11)]) > 0.06
        assert abs(lagged(moves, 1)) < 0.12  # but returns themselves cannot be foretold
        assert np.mean((moves - moves.mean()) ** 4) / np.var(moves) ** 2 > 3.8
        inside = [
            np.mean([lagged(np.abs(minute_returns(symbol, DAY - k)), lag) for lag in (1, 5, 15)]) for k in range(1, 8)
        ]
        assert np.mean(inside) > 0.05


def test_instruments_move_together_and_a_dollar_does_not() -> None:
    n = 900
    bitcoin = returns("KRW-BTC")[-n:]
    for symbol in ("KRW-ETH", "KRW-SOL", "KRW-ADA"):
        assert np.corrcoef(bitcoin, returns(symbol)[-n:])[0, 1] > 0.5
    assert abs(np.corrcoef(bitcoin, returns("KRW-USDT")[-n:])[0, 1]) < 0.4
    within = [
        np.corrcoef(minute_returns("KRW-BTC", DAY - k), minute_returns("KRW-ETH", DAY - k))[0, 1] for k in range(1, 8)
    ]
    assert np.mean(within) > 0.25
    for cross, (over, under) in (("BTC-ETH", ("KRW-ETH", "KRW-BTC")), ("USDT-BTC", ("KRW-BTC", "KRW-USDT"))):
        last = {s: WORLD.last_trade(s, (DAY * DAY_MS - 1) * MS) for s in (cross, over, under)}
        price = {s: one.price / 10 ** BY_SYMBOL[s].price_decimals for s, one in last.items() if one}
        assert price[cross] == pytest.approx(price[over] / price[under], rel=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_prices_are_near_those_of_the_world(seed: int) -> None:
    table = World(seed).days("KRW-BTC", DAY)
    year = table.close[DAY - table.first - 300 : DAY - table.first]
    assert 70e6 < year.min() < year.max() < 185e6
    assert (table.open % 1000 == 0)[year.size * -1 :].all()


def test_trades_excite_each_other_and_quiet_coins_have_quiet_minutes() -> None:
    seconds = Counter(one.ms // 1000 for one in WORLD.trades("KRW-BTC", NOON_NS - 3600 * 10**9, NOON_NS))
    counts = np.array([seconds[second] for second in range(NOON_NS // 10**9 - 3600, NOON_NS // 10**9)])
    assert counts.var() / counts.mean() > 1.5  # 1 if they came independently
    quiet, busy = WORLD.minutes("KRW-POKT", DAY - 1), WORLD.minutes("KRW-BTC", DAY - 1)
    assert quiet is not None and busy is not None
    assert 24 <= len(quiet.minute) < 500
    assert np.diff(quiet.minute).max() > 15
    assert len(busy.minute) > 1430


@given(st.sampled_from(SYMBOLS), st.integers(0, 3 * DAY_MS), st.sampled_from([1, 5, 30]))
@settings(max_examples=80)
def test_a_book_is_never_crossed_and_the_next_trade_is_at_its_best_level(symbol: str, ms: int, count: int) -> None:
    listing = BY_SYMBOL[symbol]
    now_ns = ((DAY - 3) * DAY_MS + ms) * MS
    book = WORLD.book(symbol, now_ns, count)
    bids, asks = [price for price, _lots in book.bids], [price for price, _lots in book.asks]
    assert bids[0] < asks[0]
    assert bids == sorted(set(bids), reverse=True) and asks == sorted(set(asks))
    assert all(price % listing.grid.step(price) == 0 for price in bids + asks)
    assert all(lots > 0 for _price, lots in book.bids + book.asks)
    assert min(len(bids), len(asks)) > min(count, listing.levels) // 2
    assert max(len(bids), len(asks)) <= min(count, listing.levels)
    assert 0 < book.ms <= now_ns // MS
    coming = WORLD.next_trade(symbol, now_ns)
    price, lots = book.asks[0] if coming.buy else book.bids[0]
    assert price == coming.price and lots >= coming.lots


def test_books_say_truly_when_they_changed() -> None:
    before = WORLD.book("KRW-DOGE", NOON_NS)
    changes = 0
    for tick in range(1, 200):
        now = World(7).book("KRW-DOGE", NOON_NS + tick * 10**8) if tick % 50 == 0 else None
        book = WORLD.book("KRW-DOGE", NOON_NS + tick * 10**8)
        assert now is None or now == book  # what was asked before does not show
        assert (book[1:] == before[1:]) or book.ms > before.ms
        changes += book != before
        before = book
    assert changes > 10


def test_grouped_levels_sum_what_they_hold() -> None:
    whole = WORLD.book("KRW-ETH", NOON_NS, 30)
    grouped = WORLD.book("KRW-ETH", NOON_NS, 30, 10_000)
    asks = Counter[int]()
    for price, lots in whole.asks:
        asks[-(-price // 10_000) * 10_000] += lots
    complete = list(asks)[:-1]  # the last group goes on beyond the thirtieth level
    assert [(price, asks[price]) for price in complete] == grouped.asks[: len(complete)]
    assert all(price % 10_000 == 0 for price, _lots in grouped.bids)


@pytest.mark.parametrize("symbol", ["KRW-LAMB", "BTC-XRP", "KRW-BTT"])
def test_a_ticker_summarises_the_trades(symbol: str) -> None:
    summary = WORLD.summary(symbol, NOON_NS)
    assert summary is not None
    today = list(WORLD.trades(symbol, DAY * DAY_MS * MS, NOON_NS + 1))
    prices = [one.price for one in today]
    assert (summary.open, summary.high, summary.low) == (prices[0], max(prices), min(prices))
    assert summary.last == today[-1]
    assert summary.lots == sum(one.lots for one in today)
    assert summary.buy_lots == sum(one.lots for one in today if one.buy)
    assert summary.sell_lots == summary.lots - summary.buy_lots
    assert summary.value == pytest.approx(sum(WORLD.value(symbol, one.price, one.lots) for one in today), rel=1e-9)
    minute_ns = NOON_NS // (MINUTE_MS * MS) * MINUTE_MS * MS
    rolling = list(WORLD.trades(symbol, minute_ns - DAY_MS * MS, NOON_NS + 1))
    assert summary.lots_24h == sum(one.lots for one in rolling)
    yesterday = list(WORLD.trades(symbol, (DAY - 1) * DAY_MS * MS, DAY * DAY_MS * MS))
    assert summary.previous_close == yesterday[-1].price
    year = list(islice(WORLD.candles(symbol, timeframe("1d"), NOON_NS, NOON_NS), 365))
    assert (summary.high_52w, summary.low_52w) == (max(b.high for b in year), min(b.low for b in year))


def test_some_coins_cost_less_than_a_won_and_some_are_flagged() -> None:
    assert len(LISTINGS) >= 32 and {"KRW-BTC", "KRW-ETH"} <= BY_SYMBOL.keys()
    small = [s for s in SYMBOLS if s.startswith("KRW-") and BY_SYMBOL[s].price < 1]
    assert len(small) >= 4
    assert {listing.quote for listing in LISTINGS} == {"KRW", "BTC", "USDT"}
    assert any(listing.warning for listing in LISTINGS) and any(listing.cautions for listing in LISTINGS)
    assert any(listing.levels < 30 for listing in LISTINGS)
