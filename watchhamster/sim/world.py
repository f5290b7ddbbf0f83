"""The simulated market: seeded, driven by whoever tells it the time, the same for everyone who asks.

Nothing here is a process that runs. Each part of history is a pure function of (seed, instrument, which part), so the
order of asking cannot matter, and any part is cheap to reach. Three layers, each *refining* the one above, never
contradicting it:

    days      a correlated factor model with Markov regimes and GARCH variance gives each day's open, high, low, close,
              volume, turnover and expected number of trades
    minutes   a bridge through the day's open, high, low and close, in step with one market-wide path, splits the day
              into its minutes; volumes add up exactly
    trades    the same kind of bridge splits a minute into its trades, which come in self-exciting clusters

Prices are integers (of `10**-price_decimals`) and sizes are integers (lots of `10**-size_decimals`), so that sums are
exact. The delicate part is turnover, the sum of price times size, which must agree between layers too. A minute keeps
it as `high_lots`: its turnover is as if so many lots had traded at its high and the rest at its low. Trades strictly
between are then sized so that their weight is a whole number of such lots, and the trades at the two ends take up the
remainder exactly. `buy_lots` is met by cutting at most one trade in two.

The order book between two trades is anchored on the next one: its price is the best level of its side. Levels come and
go by hashes of price and time, so the book too is a function of the moment alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from functools import cached_property
from itertools import accumulate
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text
from watchhamster.core.timeframes import Timeframe
from watchhamster.sim.daily import FIRST_DAY, YEAR, daily_prices, keyed
from watchhamster.sim.depth import Depth, book_at
from watchhamster.sim.listings import BY_SYMBOL, LISTINGS, Floats, Ints, Listing
from watchhamster.sim.refine import bridge, clustered, sided, sized, volumes

MS = 1_000_000
MINUTE_MS = 60_000
DAY_MS = 86_400_000
ID_SHIFT_MS = 50  # an id is made of a time at most so much before the trade's own
_LEAST_ACTIVE = 24  # minutes a day in which even the quietest instrument trades

Column: TypeAlias = NDArray[Any]  # of int64, or float64 for values
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LastMade(Generic[K, V]):
    """The last `size` values made, by key."""

    def __init__(self, size: int, make: Callable[[K], V]) -> None:
        self._size = size
        self._make = make
        self._kept: OrderedDict[K, V] = OrderedDict()

    def __call__(self, key: K) -> V:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        value = self._kept[key] = self._make(key)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return value


class Print(NamedTuple):
    """One trade: time in ms UTC, the venue's id, price and lots as integers, and whether the taker bought."""

    ms: int
    id: int
    price: int
    lots: int
    buy: bool


class Bar(NamedTuple):
    """One candle. Prices and lots are integers, `value` is in the quote asset, `last_ms` the last trade's time."""

    open_ns: int
    open: int
    high: int
    low: int
    close: int
    lots: int
    value: float
    last_ms: int


class Summary(NamedTuple):
    """What a ticker says at a moment. Days are UTC; the rolling 24 hours begin at a whole minute."""

    last: Print
    open: int
    high: int
    low: int
    previous_close: int
    lots: int
    value: float
    sell_lots: int
    buy_lots: int
    lots_24h: int
    value_24h: float
    high_52w: int
    high_52w_day: int
    low_52w: int
    low_52w_day: int


class Days(msgspec.Struct, frozen=True, eq=False):
    """Days of one instrument as columns, without a gap, from `first` (days since 1970)."""

    first: int
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    lots: Ints
    value: Floats
    trades: Floats  # expected
    volatility: Floats
    last_ms: Ints  # of the day


class Minutes(msgspec.Struct, frozen=True, eq=False, dict=True):
    """The minutes of one day that had trades, as columns. `minute` counts from midnight UTC."""

    minute: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    lots: Ints
    high_lots: Ints  # turnover is as if these had traded at the high and the rest at the low
    buy_lots: Ints
    trades: Ints
    last_ms: Ints  # of the minute
    value: Floats

    @cached_property
    def sums(self) -> tuple[list[int], list[float], list[int], list[int], list[int]]:
        """Lots, value, bought lots, highest and lowest up to and with each minute."""
        return (
            np.cumsum(self.lots).tolist(),
            np.cumsum(self.value).tolist(),
            np.cumsum(self.buy_lots).tolist(),
            np.maximum.accumulate(self.high).tolist(),
            np.minimum.accumulate(self.low).tolist(),
        )

    def before(self, minute: int) -> int:
        """How many of the rows are before this minute of the day."""
        return int(np.searchsorted(self.minute, minute))


class Tape:
    """The trades of one minute, in the order they happened, with what they come to after each."""

    def __init__(self, prints: list[Print], unit: float) -> None:
        self.prints = prints
        self._times = [one.ms for one in prints]
        self._unit = unit  # of price times lots, in the quote asset

    def upto(self, ms: int) -> int:
        """How many happened at or before this time."""
        return bisect_right(self._times, ms)

    @cached_property
    def sums(self) -> tuple[list[int], list[float], list[int], list[int], list[int]]:
        """Lots, value, bought lots, highest and lowest up to and with each trade."""
        return (
            list(accumulate(one.lots for one in self.prints)),
            list(accumulate(one.price * one.lots / self._unit for one in self.prints)),
            list(accumulate(one.lots if one.buy else 0 for one in self.prints)),
            list(accumulate((one.price for one in self.prints), max)),
            list(accumulate((one.price for one in self.prints), min)),
        )


class World:
    """The market that a seed stands for. `activity` multiplies the number of trades, for load."""

    def __init__(self, seed: int = 7, activity: float = 1.0) -> None:
        self.seed = seed
        self.activity = activity
        self.listings = LISTINGS
        self._daily = daily_prices(seed)
        self._tables: dict[str, Days] = {}
        self.work = 0  # how much was made so far, in units of some 0.3 ms: who serves others too rests in between
        self._market = LastMade(8, self._make_market)
        self._minutes = LastMade(96, self._make_minutes)
        self._tapes = LastMade(768, self._make_tape)
        self._year = LastMade(64, self._make_year)
        self._books: dict[tuple[str, int, int], tuple[int, int, Depth]] = {}

    def listing(self, symbol: str) -> Listing:
        """The instrument of this symbol. Raises `UsageError` (`unknown_instrument`)."""
        listing = BY_SYMBOL.get(symbol)
        if listing is None:
            raise UsageError("unknown_instrument", Text("The simulator has no {symbol!r}.", {"symbol": symbol}))
        return listing

    def _rng(self, purpose: int, index: int, part: int) -> np.random.Generator:
        return keyed(self.seed, round(self.activity * 1000) << 32 | purpose << 16 | index, part)

    # ---------------------------------------------------------------- days

    def prepare(self, until_day: int) -> Iterator[None]:
        """Make the daily prices of all instruments up to this day, a year a step."""
        return self._daily.prepare(until_day)

    def days(self, symbol: str, until_day: int) -> Days:
        """The instrument's days, at least up to this one, if it was listed by then."""
        table = self._tables.get(symbol)
        if table is None or table.first + len(table.close) <= until_day:
            listing = self.listing(symbol)
            count = self._daily.years(until_day)
            years = [self._make_days(listing, number) for number in range(count)]
            skip = listing.since_day - FIRST_DAY
            names = Days.__struct_fields__[1:]
            columns = [np.concatenate([getattr(year, name) for year in years])[skip:] for name in names]
            table = self._tables[symbol] = Days(listing.since_day, *columns)
            self.work += 15
        return table

    def _make_days(self, listing: Listing, number: int) -> Days:
        rng = self._rng(2, listing.index, number)
        scale = 10.0**listing.price_decimals
        logs, volatility = (columns[:, listing.index] for columns in self._daily.year(number))
        before = self._daily.year(number - 1)[0][-1, listing.index] if number else logs[0] - 0.003
        snap, steps = listing.grid.snap, listing.grid.steps_at
        close = snap(np.exp(logs) * scale)
        previous = np.append(snap(np.exp([before]) * scale), close[:-1])
        opened = snap((previous + rng.integers(-1, 2, YEAR) * steps(previous)).astype(np.float64))
        wicks = np.abs(rng.normal(0, 0.55, (2, YEAR))) * volatility
        high = np.maximum(snap(np.maximum(opened, close) * np.exp(wicks[0])), np.maximum(opened, close))
        low = np.minimum(snap(np.minimum(opened, close) * np.exp(-wicks[1])), np.minimum(opened, close))
        high = np.maximum(high, low + steps(low))
        excess = (np.log(high / low) / np.maximum(volatility, 1e-9) - 1.5) * 0.35
        busy = np.exp(np.clip(excess, -0.7, 1.6) + rng.normal(0, 0.22, YEAR))
        typical = (high + low + opened + close) / 4 / scale
        lots = np.rint(listing.turnover * busy / typical * 10.0**listing.size_decimals).astype(np.int64)
        # The day's average price stays well inside its range, so that its minutes can always be weighted to meet it.
        share = np.clip(((opened + close) / 2 - low) / (high - low), 0.42, 0.58) + rng.uniform(-0.02, 0.02, YEAR)
        average = (low + share * (high - low)) / scale
        last = DAY_MS - 1 - rng.exponential(DAY_MS / listing.trades, YEAR)
        return Days(
            FIRST_DAY + number * YEAR,
            opened,
            high,
            low,
            close,
            lots,
            average * (lots / 10.0**listing.size_decimals),
            listing.trades * self.activity * np.sqrt(busy),
            volatility,
            np.maximum(last, DAY_MS // 2).astype(np.int64),
        )

    def _make_year(self, key: tuple[str, int]) -> tuple[int, int, int, int]:
        """Highest with its day, lowest with its day, of the 364 days before this one."""
        self.work += 1
        symbol, day = key
        table = self.days(symbol, day)
        stop = day - table.first
        start = max(0, stop - 364)
        if stop <= start:
            return 0, day, 2**62, day
        top = start + int(np.argmax(table.high[start:stop]))
        bottom = start + int(np.argmin(table.low[start:stop]))
        return int(table.high[top]), table.first + top, int(table.low[bottom]), table.first + bottom

    # ---------------------------------------------------------------- minutes

    def minutes(self, symbol: str, day: int) -> Minutes | None:
        """The whole day's minutes, future ones included. None before the instrument was listed."""
        return self._minutes((symbol, day))

    def _make_market(self, day: int) -> tuple[Floats, Floats]:
        """What all instruments share within a day: how busy each minute is, and shocks of unit variance."""
        self.work += 1
        rng = self._rng(3, 0, day)
        at = np.arange(1440)
        night, morning = np.cos((at - 840) * 2 * np.pi / 1440), np.exp(-(((at - 30) / 40.0) ** 2))  # 23:00, 09:30 KST
        wave = 0.35 * night + 0.25 * morning
        mood = _wander(rng, 41, 0.45) + _wander(rng, 241, 0.35)
        return np.exp(wave + mood), rng.normal(0, 1, 1440)

    def _make_minutes(self, key: tuple[str, int]) -> Minutes | None:
        self.work += 6
        symbol, day = key
        listing = self.listing(symbol)
        table = self.days(symbol, day)
        row = day - table.first
        if row < 0:
            return None
        rng = self._rng(4, listing.index, day)
        opened, high, low, close = (int(c[row]) for c in (table.open, table.high, table.low, table.close))
        total, last_ms = int(table.lots[row]), int(table.last_ms[row])
        last_minute = last_ms // MINUTE_MS

        # How many trades each minute has: the market's mood and the instrument's own, as a doubly random process.
        busy, shared = self._market(day)
        busy = busy * np.exp(_wander(rng, 181, 0.5))
        busy[last_minute + 1 :] = 0.0
        trades = rng.poisson(busy * (float(table.trades[row]) / busy.sum()))
        trades[last_minute] = max(1, trades[last_minute])
        if np.count_nonzero(trades) < _LEAST_ACTIVE:
            trades[np.linspace(0, last_minute, _LEAST_ACTIVE).astype(np.int64)] += 1
        minute = np.flatnonzero(trades)
        trades = np.minimum(trades[minute], 9_000)
        n = len(minute)

        # Closes: one path in step with the market's, through the day's four prices.
        mixed = 0.75 * np.sign(listing.beta) * shared + 0.66 * rng.normal(0, 1, 1440)
        loud = np.sqrt(busy / busy.mean())
        walk = np.cumsum(mixed * loud) * (float(table.volatility[row]) * (opened + close) / 2 / np.sqrt(1440))
        path = bridge(np.append(0.0, walk[minute]), opened, close, low, high)
        closes = np.clip(listing.grid.snap(path[1:]), low, high)
        closes[-1] = close
        steps = listing.grid.steps_at(closes)
        opens = np.append(opened, closes[:-1])
        opens[1:] += rng.integers(-1, 2, n - 1) * steps[1:]
        opens = listing.grid.snap(np.clip(opens, low, high).astype(np.float64))
        opens[0] = opened
        single = trades == 1
        single[0] &= closes[0] == opened
        trades[0] = max(int(trades[0]), 1 if single[0] else 2)
        opens[single] = closes[single]
        wick = np.abs(rng.normal(0, 0.6, (2, n))) * (
            loud[minute] * float(table.volatility[row]) / np.sqrt(1440) * closes
        )
        wick[:, trades < 4] = 0.0
        highs = np.clip(listing.grid.snap(np.maximum(opens, closes) + wick[0]), np.maximum(opens, closes), high)
        lows = np.clip(listing.grid.snap(np.minimum(opens, closes) - wick[1]), low, np.minimum(opens, closes))

        target = float(table.value[row]) / total * 10.0 ** (listing.size_decimals + listing.price_decimals)
        spans = (highs - lows) // listing.grid.steps_at(lows)
        lots, high_lots = volumes(rng, (opens, highs, lows, closes), trades, spans, total, target)
        spread = (highs - lows).astype(np.float64)
        move = (closes - opens) / np.maximum(spread, 1)
        bought = np.clip(0.5 + 0.3 * move + rng.normal(0, 0.15, n), 0.0, 1.0)
        ends = np.minimum(MINUTE_MS - 1, MINUTE_MS - 1 - rng.exponential(MINUTE_MS / (trades + 1.0))).astype(np.int64)
        ends = np.maximum(ends, MINUTE_MS // 4)
        ends[-1] = last_ms % MINUTE_MS
        unit = 10.0 ** -(listing.size_decimals + listing.price_decimals)
        value = (lows * lots.astype(np.float64) + spread * high_lots) * unit
        buys = np.rint(lots * bought).astype(np.int64)
        return Minutes(minute, opens, highs, lows, closes, lots, high_lots, buys, trades, ends, value)

    # ---------------------------------------------------------------- trades

    def minute_trades(self, symbol: str, minute: int) -> list[Print]:
        """All trades of a minute (minutes since 1970), in the order they happened; empty if it had none."""
        return self._tapes((symbol, minute)).prints

    def _make_tape(self, key: tuple[str, int]) -> Tape:
        prints = self._make_prints(*key)
        self.work += 1 + len(prints) // 100
        return Tape(prints, self._unit(key[0]))

    def _make_prints(self, symbol: str, at: int) -> list[Print]:
        day, minute = divmod(at, 1440)
        rows = self.minutes(symbol, day)
        if rows is None:
            return []
        row = rows.before(minute)
        if row == len(rows.minute) or rows.minute[row] != minute:
            return []
        listing = BY_SYMBOL[symbol]
        rng = self._rng(5, listing.index, at)
        opened, high, low, close = (int(c[row]) for c in (rows.open, rows.high, rows.low, rows.close))
        total, high_lots, buy_lots = int(rows.lots[row]), int(rows.high_lots[row]), int(rows.buy_lots[row])
        ends = {opened, close}
        n = max(int(rows.trades[row]), 1 if len(ends) == 1 else 2)
        inside = (high not in ends) + (low not in ends)
        n = max(n, 2 + inside) if inside else n

        if high == low:
            prices = np.full(n, high, np.int64)
        else:
            walk = np.cumsum(rng.normal(0, (high - low) * 0.45 / np.sqrt(n), n))
            prices = np.clip(listing.grid.snap(bridge(walk, opened, close, low, high)), low, high)
        lots = sized(rng, prices, total, high_lots, listing.grid.step(low))
        times = clustered(rng, n, int(rows.last_ms[row])) + at * MINUTE_MS
        return self._numbered(rng, times.tolist(), prices.tolist(), sided(rng, prices, lots, buy_lots))

    @staticmethod
    def _numbered(
        rng: np.random.Generator, times: list[int], prices: list[int], sides: list[list[tuple[int, bool]]]
    ) -> list[Print]:
        """The trades with ids: unique, close to their time, but not in its order."""
        shifts = np.where(rng.random(len(times)) < 0.2, rng.integers(1, ID_SHIFT_MS, len(times)), 0).tolist()
        taken: dict[int, int] = {}
        prints = []
        for ms, price, parts, shift in zip(times, prices, sides, shifts, strict=True):
            stamp = ms - min(shift, ms % MINUTE_MS)
            for lots, buy in parts:
                count = taken[stamp] = taken.get(stamp, -1) + 1
                prints.append(Print(ms, stamp * 10_000 + count, price, lots, buy))
        return prints

    def trades(self, symbol: str, since_ns: int, until_ns: int) -> Iterator[Print]:
        """Trades in `[since_ns, until_ns)`, in the order they happened."""
        since_ms, until_ms = -(-since_ns // MS), -(-until_ns // MS)
        for minute in self._active(symbol, since_ms // MINUTE_MS, (until_ms - 1) // MINUTE_MS):
            tape = self._tapes((symbol, minute))
            yield from tape.prints[tape.upto(since_ms - 1) : tape.upto(until_ms - 1)]

    def _active(self, symbol: str, first: int, last: int) -> Iterator[int]:
        """Minutes (since 1970) from `first` to `last`, both included, that have trades, oldest first."""
        for day in range(max(first // 1440, self.listing(symbol).since_day), last // 1440 + 1):
            rows = self.minutes(symbol, day)
            if rows is not None:
                start, stop = rows.before(first - day * 1440), rows.before(last + 1 - day * 1440)
                yield from (rows.minute[start:stop] + day * 1440).tolist()

    def trades_before(self, symbol: str, until_ns: int) -> Iterator[Print]:
        """Trades earlier than `until_ns`, the newest first, back to the listing."""
        until_ms = -(-until_ns // MS)
        for day in range(until_ms // DAY_MS, self.listing(symbol).since_day - 1, -1):
            rows = self.minutes(symbol, day)
            if rows is None:
                return
            stop = rows.before(until_ms // MINUTE_MS + 1 - day * 1440)
            for row in range(stop - 1, -1, -1):
                tape = self._tapes((symbol, day * 1440 + int(rows.minute[row])))
                for at in range(tape.upto(until_ms - 1) - 1, -1, -1):
                    yield tape.prints[at]

    def last_trade(self, symbol: str, now_ns: int) -> Print | None:
        """The newest trade at or before this moment; None before the listing."""
        return next(self.trades_before(symbol, now_ns + 1), None)

    def next_trade(self, symbol: str, now_ns: int) -> Print:
        """The first trade after this moment."""
        ms = now_ns // MS
        minute = ms // MINUTE_MS
        tape = self._tapes((symbol, minute))
        if (at := tape.upto(ms)) < len(tape.prints):
            return tape.prints[at]
        day = max(minute // 1440, self.listing(symbol).since_day)
        while True:
            rows = self.minutes(symbol, day)
            assert rows is not None
            row = rows.before(minute + 1 - day * 1440)
            if row < len(rows.minute):
                return self.minute_trades(symbol, day * 1440 + int(rows.minute[row]))[0]
            day += 1

    # ---------------------------------------------------------------- candles

    def candles(self, symbol: str, timeframe: Timeframe, until_ns: int, now_ns: int) -> Iterator[Bar]:
        """Candles that open before `until_ns`, as they stand at `now_ns`, the newest first, back to the listing.

        Raises `UsageError` (`bad_timeframe`) for one that neither divides a minute or a day nor consists of days.
        """
        day_ns = DAY_MS * MS
        until_ns = min(until_ns, now_ns + 1)
        if until_ns <= timeframe.open_ns(self.listing(symbol).since_day * day_ns):
            return iter(())
        if timeframe.ns is None or timeframe.ns % day_ns == 0:
            return self._day_candles(symbol, timeframe, until_ns, now_ns)
        if timeframe.ns % (MINUTE_MS * MS) == 0 and day_ns % timeframe.ns == 0:
            return self._minute_candles(symbol, timeframe, until_ns, now_ns)
        if MINUTE_MS * MS % timeframe.ns == 0:
            return self._second_candles(symbol, timeframe, until_ns, now_ns)
        raise UsageError(
            "bad_timeframe", Text("The simulator has no {timeframe} candles.", {"timeframe": str(timeframe)})
        )

    def _second_candles(self, symbol: str, timeframe: Timeframe, until_ns: int, now_ns: int) -> Iterator[Bar]:
        bar: Bar | None = None
        end_ns = min(timeframe.next_ns(timeframe.open_ns(until_ns - 1)), now_ns + 1)
        for one in self.trades_before(symbol, end_ns):
            open_ns = timeframe.open_ns(one.ms * MS)
            value = self.value(symbol, one.price, one.lots)
            if bar is not None and bar.open_ns == open_ns:
                high, low = max(bar.high, one.price), min(bar.low, one.price)
                lots = bar.lots + one.lots
                bar = bar._replace(open=one.price, high=high, low=low, lots=lots, value=bar.value + value)
            else:
                if bar is not None:
                    yield bar
                bar = Bar(open_ns, *(one.price,) * 4, one.lots, value, one.ms)
        if bar is not None:
            yield bar

    def _minute_candles(self, symbol: str, timeframe: Timeframe, until_ns: int, now_ns: int) -> Iterator[Bar]:
        assert timeframe.ns is not None
        span = timeframe.ns // (MINUTE_MS * MS)
        last = (until_ns - 1) // timeframe.ns
        for day in range(last * span // 1440, self.listing(symbol).since_day - 1, -1):
            columns = self._columns(symbol, day, now_ns)
            keys = columns[0] // span
            stop = int(np.searchsorted(keys, last, side="right"))
            if stop:
                opens = keys[:stop] * (span * MINUTE_MS * MS)
                yield from reversed(_folded([column[:stop] for column in columns], opens))

    def candles_between(
        self, symbol: str, timeframe: Timeframe, since_ns: int, until_ns: int, now_ns: int
    ) -> Iterator[Bar]:
        """Every candle that opens in `[since_ns, until_ns)`, as it stands at `now_ns`, the oldest first."""
        since_ns = max(since_ns, timeframe.open_ns(self.listing(symbol).since_day * DAY_MS * MS))
        until_ns = min(until_ns, now_ns + 1)
        step_ns = 200 * min(timeframe.approximate_ns, DAY_MS * MS)
        while since_ns < until_ns:
            end_ns = min(until_ns, since_ns + step_ns)
            bars = []
            for bar in self.candles(symbol, timeframe, end_ns, now_ns):
                if bar.open_ns < since_ns:
                    break
                bars.append(bar)
            yield from reversed(bars)
            since_ns = end_ns

    def _columns(self, symbol: str, day: int, now_ns: int) -> list[Column]:
        """A day as it stands: minute since 1970, open, high, low, close, lots, value, last trade's ms UTC."""
        rows = self.minutes(symbol, day)
        assert rows is not None
        now_minute = now_ns // MS // MINUTE_MS
        stop = rows.before(now_minute - day * 1440)
        minute = rows.minute[:stop] + day * 1440
        ends = minute * MINUTE_MS + rows.last_ms[:stop]
        columns: list[Column] = [minute, *(c[:stop] for c in (rows.open, rows.high, rows.low, rows.close))]
        columns += [rows.lots[:stop], rows.value[:stop], ends]
        bar = self._partial(symbol, now_ns) if now_minute // 1440 == day else None
        if bar is not None:
            columns = [np.append(c, x) for c, x in zip(columns, (now_minute, *bar[1:]), strict=True)]
        return columns

    def _partial(self, symbol: str, now_ns: int) -> Bar | None:
        """The minute that is going on, as it stands."""
        ms = now_ns // MS
        tape = self._tapes((symbol, ms // MINUTE_MS))
        last = tape.upto(ms) - 1
        if last < 0:
            return None
        lots, value, _bought, high, low = (column[last] for column in tape.sums)
        open_ns = ms // MINUTE_MS * MINUTE_MS * MS
        newest = tape.prints[last]
        return Bar(open_ns, tape.prints[0].price, int(high), int(low), newest.price, int(lots), value, newest.ms)

    def _day_candles(self, symbol: str, timeframe: Timeframe, until_ns: int, now_ns: int) -> Iterator[Bar]:
        day_ns = DAY_MS * MS
        today = now_ns // day_ns
        table = self.days(symbol, today)
        names = ("open", "high", "low", "close", "lots", "value", "last_ms")
        open_ns = timeframe.open_ns(until_ns - 1)
        while (stop := min(today + 1, timeframe.next_ns(open_ns) // day_ns)) > table.first:
            start = max(open_ns // day_ns, table.first)
            day = np.arange(start, min(stop, today))
            rows = slice(start - table.first, min(stop, today) - table.first)
            columns = [day, *(getattr(table, name)[rows] for name in names)]
            columns[-1] = columns[-1] + day * DAY_MS
            if stop > today:
                now = self._columns(symbol, today, now_ns)
                if len(now[0]):
                    bar = _folded(now, np.zeros(len(now[0]), np.int64))[0]
                    columns = [np.append(column, x) for column, x in zip(columns, (today, *bar[1:]), strict=True)]
            yield from _folded(columns, np.full(len(columns[0]), open_ns, np.int64))
            open_ns = timeframe.open_ns(open_ns - 1)

    def value(self, symbol: str, price: int, lots: int) -> float:
        """Price times size, in the quote asset."""
        return price * lots / self._unit(symbol)

    @staticmethod
    def _unit(symbol: str) -> float:
        listing = BY_SYMBOL[symbol]
        return float(10 ** (listing.price_decimals + listing.size_decimals))

    # ---------------------------------------------------------------- ticker

    def summary(self, symbol: str, now_ns: int) -> Summary | None:
        """The instrument's day and its last 24 hours at a moment; None before its first trade."""
        last = self.last_trade(symbol, now_ns)
        if last is None:
            return None
        day, minute = divmod(now_ns // MS // MINUTE_MS, 1440)
        today = self.minutes(symbol, day)
        yesterday = self.minutes(symbol, day - 1)
        assert today is not None
        done = today.before(minute)
        tape = self._tapes((symbol, day * 1440 + minute))
        count = tape.upto(now_ns // MS)
        table = self.days(symbol, day)
        row = day - table.first
        previous = int(table.close[row - 1]) if row else int(table.open[row])
        sum_lots, sum_value, sum_bought, high, low = 0, 0.0, 0, 0, 2**62
        for sums, rows in ((today.sums, done), (tape.sums, count)):
            if rows:
                lots, value, bought, highs, lows = sums
                sum_lots += lots[rows - 1]
                sum_value += value[rows - 1]
                sum_bought += bought[rows - 1]
                high, low = max(high, highs[rows - 1]), min(low, lows[rows - 1])
        opened = int(today.open[0])
        if not sum_lots:
            opened = high = low = previous
        old_lots, old_value = 0, 0.0
        if yesterday is not None:
            since = yesterday.before(minute)
            all_lots, all_value = yesterday.sums[:2]
            old_lots = all_lots[-1] - (all_lots[since - 1] if since else 0)
            old_value = all_value[-1] - (all_value[since - 1] if since else 0.0)
        top, top_day, bottom, bottom_day = self._year((symbol, day))
        if high >= top:
            top, top_day = high, day
        if low <= bottom:
            bottom, bottom_day = low, day
        return Summary(
            last,
            opened,
            high,
            low,
            previous,
            sum_lots,
            sum_value,
            sum_lots - sum_bought,
            sum_bought,
            sum_lots + old_lots,
            sum_value + old_value,
            top,
            top_day,
            bottom,
            bottom_day,
        )

    # ---------------------------------------------------------------- order book

    def quote(self, symbol: str, now_ns: int) -> tuple[int, int, Print]:
        """Best bid, best ask, and the next trade, which will be at one of them."""
        listing = BY_SYMBOL[symbol]
        coming = self.next_trade(symbol, now_ns)
        gap = 1 + (coming.id // 7 % 3) // 2 if listing.spread_bps < 1 else 1 + coming.id // 7 % 3
        other = coming.price
        for _ in range(gap):
            other = listing.grid.down(other) if coming.buy else listing.grid.up(other)
        if coming.buy:
            return other, coming.price, coming
        return coming.price, other, coming

    def book(self, symbol: str, now_ns: int, count: int = 30, group: int = 0) -> Depth:
        """The order book at a moment: up to `count` levels a side, in groups of `group` (a price) where not 0."""
        ms = now_ns // MS
        key = (symbol, count, group)
        since, until, depth = self._books.get(key, (0, 0, None))
        if depth is None or not since <= ms < until:
            bid, ask, coming = self.quote(symbol, now_ns)
            before = self.last_trade(symbol, now_ns)
            levels = min(count, BY_SYMBOL[symbol].levels)
            resting = (0, coming.lots) if coming.buy else (coming.lots, 0)
            depth, until = book_at(BY_SYMBOL[symbol], bid, ask, resting, before.ms if before else 0, ms, levels, group)
            self.work += 1
            if len(self._books) > 512:
                self._books.clear()
            self._books[key] = (ms, min(until, coming.ms), depth)
        return depth


def _wander(rng: np.random.Generator, knots: int, size: float) -> Floats:
    """A smooth random line over the minutes of a day."""
    line: Floats = np.interp(np.arange(1440), np.linspace(0, 1439, knots), rng.normal(0, size, knots))
    return line


def _folded(columns: list[Column], opens: Ints) -> list[Bar]:
    """Rows that share an opening time (ascending) as one bar each, oldest first."""
    if not len(opens):
        return []
    starts = np.flatnonzero(np.append(True, np.diff(opens) != 0))
    ends = np.append(starts[1:], len(opens)) - 1
    _at, opened, high, low, close, lots, value, last = columns
    if float(lots.sum(dtype=np.float64)) < 2**62:
        sums = np.add.reduceat(lots, starts).tolist()
    else:  # too many lots for 64 bits
        sums = [sum(lots[a : b + 1].tolist()) for a, b in zip(starts, ends, strict=True)]
    rows = zip(
        opens[starts].tolist(),
        opened[starts].tolist(),
        np.maximum.reduceat(high, starts).tolist(),
        np.minimum.reduceat(low, starts).tolist(),
        close[ends].tolist(),
        sums,
        np.add.reduceat(value, starts).tolist(),
        last[ends].tolist(),
        strict=True,
    )
    return [Bar(*row) for row in rows]
