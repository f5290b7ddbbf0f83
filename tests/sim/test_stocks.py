"""Markets with sessions: calendars, layers that add up, splits, and prices that belong to one world."""

from __future__ import annotations

import datetime as dt
import hashlib
import subprocess
import sys
from collections.abc import Iterable
from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchhamster.core.ports import UsageError
from watchhamster.sim.calendars import MARKETS, day_of, session_of
from watchhamster.sim.shares import SHARES
from watchhamster.sim.stocks import Bar, Stocks
from watchhamster.sim.world import World

STOCKS = Stocks(World(7))
SYMBOLS = [share.symbol for share in SHARES]
PLAIN = [share.symbol for share in SHARES if share.coin is None]
DAY = day_of("2026-11-20")  # a Friday on which every market was open


def ms(text: str) -> int:
    return int(dt.datetime.fromisoformat(text + "+00:00").timestamp() * 1000)


NOW_MS = ms("2026-11-20T16:00:03.500")  # New York is open, London too, Seoul is closed


# ---------------------------------------------------------------- calendars


@pytest.mark.parametrize(
    ("market", "day", "opens", "closes"),
    [
        ("us", "2026-03-06", "14:30", "21:00"),
        ("us", "2026-03-09", "13:30", "20:00"),  # daylight saving began on the 8th
        ("us", "2026-10-30", "13:30", "20:00"),
        ("us", "2026-11-02", "14:30", "21:00"),  # and ended on the 1st
        ("us", "2026-11-27", "14:30", "18:00"),  # the day after Thanksgiving
        ("us", "2025-07-03", "13:30", "17:00"),
        ("us", "2026-12-24", "14:30", "18:00"),
        ("us", "2022-01-03", "14:30", "21:00"),  # New Year on a Saturday is not made up for
        ("us", "2021-12-31", "14:30", "21:00"),
        ("kr", "2026-11-20", "00:00", "06:30"),
        ("uk", "2026-03-27", "08:00", "16:30"),
        ("uk", "2026-03-30", "07:00", "15:30"),
        ("uk", "2026-12-24", "08:00", "12:30"),
        ("fx", "2026-11-20", "00:00", "23:59"),
        ("coin", "2026-11-21", "00:00", "00:00"),
    ],
)
def test_sessions_open_and_close(market: str, day: str, opens: str, closes: str) -> None:
    session = session_of(MARKETS[market], day_of(day))
    assert session is not None
    told = [f"{dt.datetime.fromtimestamp(at, dt.UTC):%H:%M}" for at in (session.open, session.close)]
    assert told == [opens, closes]
    assert session.pre <= session.open < session.close <= session.post


@pytest.mark.parametrize(
    ("market", "day"),
    [
        ("us", "2026-11-21"),  # Saturday
        ("us", "2026-11-26"),  # Thanksgiving
        ("us", "2026-04-03"),  # Good Friday
        ("us", "2026-07-03"),  # for a fourth on Saturday
        ("us", "2023-01-02"),  # for a New Year on Sunday
        ("us", "2026-01-19"),
        ("us", "2026-06-19"),
        ("kr", "2026-02-17"),  # Seollal
        ("kr", "2026-09-24"),  # the day before Chuseok
        ("kr", "2026-12-31"),
        ("uk", "2026-04-06"),  # Easter Monday
        ("uk", "2026-12-28"),  # for a Boxing Day on Saturday
        ("fx", "2026-11-22"),
    ],
)
def test_days_without_a_session(market: str, day: str) -> None:
    assert session_of(MARKETS[market], day_of(day)) is None


def test_new_york_has_some_252_days_a_year_and_seoul_some_247() -> None:
    for market, least, most in (("us", 249, 253), ("kr", 240, 252), ("uk", 251, 255), ("fx", 258, 262)):
        for year in range(2018, 2030):
            days = range(day_of(f"{year}-01-01"), day_of(f"{year + 1}-01-01"))
            assert least <= sum(session_of(MARKETS[market], day) is not None for day in days) <= most, (market, year)


def test_the_venues_table_for_seoul_ends_before_trading_does() -> None:
    session = session_of(MARKETS["kr"], DAY)
    assert session is not None
    assert session.told[2] == session.close - 1800 and session.told[3] > session.close


# ---------------------------------------------------------------- layers add up


@pytest.mark.parametrize("symbol", PLAIN)
def test_minutes_add_up_to_their_day_and_ticks_to_their_minute(symbol: str) -> None:
    share = STOCKS.share(symbol)
    for day in (DAY, day_of("2026-12-24"), day_of("2019-06-14")):
        rows = STOCKS.rows(symbol, day)
        table = STOCKS.days(symbol, day)
        row = table.row(day)
        assert rows is not None and row is not None
        regular = rows.only(1)
        assert (regular.open[0], regular.close[-1]) == (table.open[row], table.close[row])
        assert (regular.high.max(), regular.low.min()) == (table.high[row], table.low[row])
        assert regular.volume.sum() == table.volume[row]
        assert (rows.low <= np.minimum(rows.open, rows.close)).all() and (rows.low > 0).all()
        assert (rows.high >= np.maximum(rows.open, rows.close)).all()
        assert (np.diff(rows.minute) > 0).all()
        session = session_of(share.market, day)
        assert session is not None
        assert rows.minute[0] * 60 >= session.pre and rows.minute[-1] * 60 < session.post
        assert set(rows.part.tolist()) == ({0, 1, 2} if share.extended else {1})
        for at in range(0, len(rows.minute), max(1, len(rows.minute) // 12)):
            ticks = STOCKS.tape(symbol, int(rows.minute[at]))
            prices = [tick.price for tick in ticks]
            assert (prices[0], max(prices), min(prices), prices[-1]) == (
                rows.open[at],
                rows.high[at],
                rows.low[at],
                rows.close[at],
            )
            assert sum(tick.size for tick in ticks) == rows.volume[at]
            assert ticks[-1].ms == rows.last_ms[at] and {tick.part for tick in ticks} == {rows.part[at]}
            assert all(price % share.tick == 0 for price in prices)


def fold(bars: Iterable[Bar], span_s: int, start_s: int) -> list[tuple[float | None, ...]]:
    """Longer bars made of shorter ones the plain way."""
    made: list[tuple[float | None, ...]] = []
    traded = (bar for bar in bars if bar.close is not None)
    for key, group in groupby(traded, lambda bar: (bar.start_s - start_s) // span_s):
        inside = list(group)
        high, low = max(bar.high or 0 for bar in inside), min(bar.low or 0 for bar in inside)
        volume = sum(bar.volume or 0 for bar in inside)
        made.append((start_s + key * span_s, inside[0].open, high, low, inside[-1].close, volume))
    return made


def plain(bars: Iterable[Bar]) -> list[tuple[float | None, ...]]:
    return [(b.start_s, b.open, b.high, b.low, b.close, b.volume) for b in bars if b.close is not None]


@given(st.sampled_from(SYMBOLS), st.integers(0, 24 * 3600 * 1000))
@settings(max_examples=40)
def test_at_any_moment_every_interval_adds_up_to_the_session(symbol: str, into_ms: int) -> None:
    share = STOCKS.share(symbol)
    session = session_of(share.market, DAY)
    assert session is not None
    now_ms = session.open * 1000 + into_ms
    ones = STOCKS.intraday(symbol, session, 1, now_ms)
    for minutes in (2, 5, 15, 30, 60, 90):
        bars = STOCKS.intraday(symbol, session, minutes, now_ms)
        assert plain(bars) == fold(ones, minutes * 60, session.open)
        assert all(bar.end_s <= session.close for bar in bars)
    if now_ms < session.close * 1000:
        days = [bar for bar in STOCKS.daily(symbol, DAY, DAY + 1, now_ms) if bar.start_s == session.open]
        assert plain(days) == fold(ones, 86400, session.open)
    ticks = [tick for tick in STOCKS.ticks(symbol, session.open * 1000, now_ms + 1) if tick.part == 1]
    traded = [bar for bar in ones if bar.close is not None]
    if ticks and share.coin is None:
        last = traded[-1]
        assert last.last_ms == ticks[-1].ms and last.close == ticks[-1].price / 10**share.decimals
        assert sum(bar.volume or 0 for bar in ones) == ticks[-1].volume == sum(tick.size for tick in ticks)
        assert max(bar.high or 0 for bar in traded) == ticks[-1].high / 10**share.decimals
    assert bool(ticks) == bool(traded)


def test_a_finished_day_is_the_sum_of_its_minutes_and_weeks_of_their_days() -> None:
    session = session_of(MARKETS["us"], DAY)
    assert session is not None
    after_ms = session.post * 1000
    (day,) = STOCKS.daily("AAPL", DAY, DAY + 1, after_ms)
    assert plain([day]) == fold(STOCKS.intraday("AAPL", session, 1, after_ms), 86400, session.open)
    since_s, until_s = ms("2026-06-01T00:00") // 1000, ms("2026-11-16T00:00") // 1000
    for months in (0, 1, 3):
        spans = list(STOCKS.spans("AAPL", months, since_s, until_s, NOW_MS))
        days = list(STOCKS.spans("AAPL", None, since_s, until_s + 90 * 86400, NOW_MS))
        for span in spans:
            inside = [bar for bar in days if span.start_s <= bar.start_s < span.end_s]
            assert (span.open, span.close) == (inside[0].open, inside[-1].close)
            assert span.volume == sum(bar.volume or 0 for bar in inside)
            assert span.high == max(bar.high or 0 for bar in inside)
    mondays = [dt.datetime.fromtimestamp(b.start_s, dt.UTC) for b in STOCKS.spans("AAPL", 0, since_s, until_s, NOW_MS)]
    assert {(at.weekday(), at.hour) for at in mondays} == {(0, 4), (0, 5)}  # midnight in New York, both offsets


def test_the_next_tick_is_the_first_of_those_to_come() -> None:
    for symbol in ("AAPL", "BRK-A", "EURUSD=X", "BTC-USD", "005930.KS"):
        coming = STOCKS.next_tick(symbol, NOW_MS)
        assert coming is not None and coming.ms > NOW_MS
        assert next(STOCKS.ticks(symbol, NOW_MS + 1, coming.ms + 1)) == coming
    seoul = STOCKS.next_tick("005930.KS", NOW_MS)
    assert seoul is not None and seoul.ms >= ms("2026-11-23T00:00")  # after the weekend


# ---------------------------------------------------------------- what happens to shares


def test_a_halt_is_minutes_without_values_in_the_middle_of_a_session() -> None:
    longest = 0
    for day in range(DAY - 30, DAY + 1):
        session = session_of(MARKETS["us"], day)
        if session is not None:
            bars = STOCKS.intraday("GME", session, 1, NOW_MS)
            runs = [len(list(group)) for missing, group in groupby(bars, lambda bar: bar.close is None) if missing]
            longest = max([longest, *runs])
    assert 5 <= longest <= 20


def test_some_are_traded_in_few_minutes() -> None:
    rows = STOCKS.rows("BRK-A", DAY)
    assert rows is not None and 20 < len(rows.only(1).minute) < 120
    busy = STOCKS.rows("AAPL", DAY)
    assert busy is not None and len(busy.only(1).minute) == 390


def test_a_split_divides_what_was_before_from_its_day_on() -> None:
    friday, monday = day_of("2026-12-04"), day_of("2026-12-07")
    before = STOCKS.daily("NVDA", friday, friday + 1, ms("2026-12-05T12:00"))[0]
    after = STOCKS.daily("NVDA", friday, friday + 1, ms("2026-12-07T12:00"))[0]
    assert before.close is not None and after.close is not None
    assert before.volume is not None and after.volume is not None
    assert after.close == before.close / 2 and after.volume == before.volume * 2
    days = STOCKS.daily("NVDA", friday - 300, monday + 30, ms("2027-01-20T12:00"))
    closes = np.array([bar.close or 0.0 for bar in days])
    assert np.abs(np.diff(np.log(closes))).max() < 0.25  # no jump where the split was
    table = STOCKS.days("NVDA", monday)
    row = table.row(monday)
    assert row is not None
    assert table.close[row - 1] / table.open[row] == pytest.approx(2, rel=0.2)  # as traded there was one
    reverse = [STOCKS.ratio("GME", day_of("2027-02-05"), day_of(day)) for day in ("2027-02-05", "2027-02-08")]
    assert reverse == [1.0, 0.2]


def test_dividends_come_on_sessions_and_factors_undo_them() -> None:
    paid = STOCKS.dividends("AAPL", DAY)
    assert len(paid) > 50 and all(session_of(MARKETS["us"], event.day) for event in paid)
    days, factors = STOCKS.adjustments("AAPL", DAY)
    assert factors[-1] == 1.0 and (np.diff(factors) >= 0).all() and len(days) == len(factors)
    assert len(np.unique(np.round(factors, 12))) == len(paid) + 1
    assert STOCKS.dividends("BRK-B", DAY) == [] and len(STOCKS.gains("EWG", DAY)) > 10


# ---------------------------------------------------------------- one world


def test_dollar_coins_are_won_coins_over_the_rate() -> None:
    for text in ("2026-11-20T03:17", "2026-11-20T16:00", "2026-11-22T21:40", "2024-05-02T11:00"):
        now_ms = ms(text)
        for dollar, won in (("BTC-USD", "KRW-BTC"), ("ETH-USD", "KRW-ETH")):
            coin, rate = STOCKS.summary(dollar, now_ms), STOCKS.summary("KRW=X", now_ms)
            last = STOCKS.world.last_trade(won, now_ms * 1_000_000)
            assert coin is not None and rate is not None and last is not None
            assert coin.price * rate.price == pytest.approx(last.price, rel=0.02)
            assert coin.ms == last.ms
    bars = STOCKS.daily("BTC-USD", DAY - 40, DAY, NOW_MS)
    for bar in bars[::8]:
        session = session_of(MARKETS["coin"], bar.start_s // 86400)
        assert session is not None
        made = fold(STOCKS.intraday("BTC-USD", session, 1, NOW_MS), 86400, session.open)[0]
        assert plain([bar])[0][:5] == made[:5] and made[5] == pytest.approx(bar.volume, rel=1e-9)


def returns(symbol: str, stocks: Stocks = STOCKS) -> dict[int, float]:
    bars = stocks.daily(symbol, DAY - 800, DAY, NOW_MS)
    closes = [(bar.start_s // 86400, bar.close or 0.0) for bar in bars]
    return {day: float(np.log(b / a)) for (_d, a), (day, b) in pairwise(closes)}


def correlation(one: str, other: str) -> float:
    a, b = returns(one), returns(other)
    days = sorted(a.keys() & b.keys())
    return float(np.corrcoef([a[d] for d in days], [b[d] for d in days])[0, 1])


def test_shares_move_with_their_index_and_currencies_do_not() -> None:
    assert correlation("SPY", "^GSPC") > 0.97
    assert correlation("AAPL", "^GSPC") > 0.4 and correlation("005930.KS", "^KS11") > 0.4
    assert abs(correlation("EURUSD=X", "^GSPC")) < 0.4
    for symbol, least, most in (("AAPL", 0.008, 0.03), ("KRW=X", 0.001, 0.008), ("GME", 0.02, 0.07)):
        assert least < np.std(list(returns(symbol).values())) < most


@pytest.mark.parametrize("seed", range(4))
def test_prices_are_near_those_of_the_world(seed: int) -> None:
    stocks = Stocks(World(seed))
    for symbol, price in (("AAPL", 262), ("^GSPC", 6900), ("005930.KS", 108000), ("KRW=X", 1441), ("VOD.L", 93.4)):
        summary = stocks.summary(symbol, NOW_MS)
        assert summary is not None and 0.45 < summary.price / price < 2.2
        assert summary.low <= summary.price <= summary.high and summary.low <= summary.open <= summary.high


def digest(stocks: Stocks, symbols: Iterable[str]) -> dict[str, str]:
    """A fingerprint of the market as each instrument shows it."""
    prints = {}
    for symbol in symbols:
        seen = hashlib.sha256()
        seen.update(repr(stocks.summary(symbol, NOW_MS)).encode())
        seen.update(repr(list(stocks.ticks(symbol, NOW_MS - 600_000, NOW_MS))).encode())
        seen.update(repr(stocks.daily(symbol, DAY - 100, DAY + 1, NOW_MS)).encode())
        seen.update(repr(stocks.dividends(symbol, DAY)).encode())
        prints[symbol] = seen.hexdigest()
    return prints


SOME = ["AAPL", "BRK-A", "005930.KS", "KRW=X", "BTC-USD"]


def test_the_order_of_asking_does_not_matter() -> None:
    backwards = Stocks(World(7))
    backwards.summary("AAPL", ms("2029-03-01T18:00"))
    assert digest(backwards, reversed(SOME)) == digest(Stocks(World(7)), SOME)


def test_another_process_sees_the_same_market_and_another_seed_another() -> None:
    code = "from tests.sim.test_stocks import *; print(digest(Stocks(World(7)), SOME))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    mine = digest(STOCKS, SOME)
    assert other.stdout.strip() == repr(mine)
    assert all(mine[symbol] != value for symbol, value in digest(Stocks(World(8)), SOME).items())


def test_an_unknown_symbol_is_named() -> None:
    with pytest.raises(UsageError) as refused:
        STOCKS.share("SIX")
    assert refused.value.code == "unknown_instrument" and "SIX" in str(refused.value.text)
