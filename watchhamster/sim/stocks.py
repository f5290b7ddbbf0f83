"""Markets with sessions: stocks, funds, indices and currencies, made as the world of coins is made; coins in dollars.

Every part of history is a pure function of (seed, instrument, which part), each layer refining the one above:

    days      regular sessions: open, high, low, close, volume, and where the price stood after hours
    minutes   pre, regular and post market of a day; those of the regular session add up to the day exactly
    ticks     the prints of a minute, as a stream that conflates would tell them; they add up to their minute

Prices are integers as they were traded on their day. What is told at a moment is divided by every split since, and
volumes are multiplied, as the venue does it: `ratio` is that divisor. A dollar coin is the coin in won over the last
close of the won, minute by minute: it shares the other world's path, and its days are UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import msgspec
import numpy as np

from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text
from watchhamster.sim.calendars import MARKETS, Market, Session, date_of, local_day, midnight_s, session_of, trades_on
from watchhamster.sim.daily import YEAR, keyed
from watchhamster.sim.listings import Floats, Ints
from watchhamster.sim.refine import bridge, clustered, shared
from watchhamster.sim.shares import ANCHOR_DAY, FIRST_DAY, SHARE_OF, SHARES, Share
from watchhamster.sim.world import MINUTE_MS, LastMade, World

_KEY = 1 << 63  # apart from every key of the world of coins
_REST_OF_WORLD = 100  # dollar volume of a coin, over what one exchange trades
_LEAST_ACTIVE = 8  # minutes of a session
_PRE_SHARE, _POST_SHARE = 0.03, 0.04  # of the day's prints; volume is a third of that


class Bar(NamedTuple):
    """One candle as told at some moment, without values where nothing traded. Prices are split-adjusted."""

    start_s: int
    end_s: int
    open: float | None
    high: float | None
    low: float | None
    close: float | None
    volume: int | None
    last_ms: int


class Tick(NamedTuple):
    """One print: price as traded, size, and what the day came to with it. `part` is 0 pre, 1 regular, 2 post."""

    ms: int
    price: int
    size: int
    volume: int  # of the day since the open, 0 before
    high: int
    low: int
    part: int


class Event(NamedTuple):
    """A dividend or a fund's capital gain per share, as traded, paid to who held at the close before."""

    day: int
    amount: float


class Summary(NamedTuple):
    """What a quote says at a moment, split-adjusted. Times are ms; `extended` is (ms, price) before or after hours."""

    session: Session  # the last one that opened
    ms: int
    price: float
    open: float
    high: float
    low: float
    volume: int
    previous_close: float
    extended: tuple[int, float] | None


class Days(msgspec.Struct, frozen=True, eq=False):
    """The sessions of one instrument as columns, in the order of their days; prices as traded."""

    day: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    after: Ints  # the last price after hours
    volatility: Floats

    def before(self, day: int) -> int:
        """How many of the rows are before this day."""
        return int(np.searchsorted(self.day, day))

    def row(self, day: int) -> int | None:
        """The row of this day, None if there was no session."""
        at = self.before(day)
        return at if at < len(self.day) and self.day[at] == day else None


class Rows(msgspec.Struct, frozen=True, eq=False):
    """The minutes (since 1970) of one day that had prints, pre and post market included."""

    minute: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    prints: Ints
    last_ms: Ints  # since 1970
    part: Ints

    def upto(self, minute: int) -> Rows:
        """The rows before this minute."""
        stop = int(np.searchsorted(self.minute, minute))
        return Rows(*(getattr(self, name)[:stop] for name in Rows.__struct_fields__))

    def only(self, part: int) -> Rows:
        """The rows of one part of the day."""
        keep = self.part == part
        return Rows(*(getattr(self, name)[keep] for name in Rows.__struct_fields__))


class _Levels:
    """Log prices and volatilities of a seed on every day, a year at a time: a common factor and each one's own."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.years: list[tuple[Floats, Floats]] = []
        self._state: tuple[Floats, Floats] | None = None

    def prepare(self, until_day: int) -> Iterator[None]:
        """Make what is missing up to this day."""
        while FIRST_DAY + len(self.years) * YEAR <= until_day:
            self.years.append(self._make(len(self.years)))
            yield

    def _make(self, number: int) -> tuple[Floats, Floats]:
        rng = keyed(self._seed, _KEY, number)
        n = len(SHARES)
        beta = np.array([share.beta for share in SHARES])
        own = np.array([*(share.volatility for share in SHARES), 0.0085])
        bound = np.minimum(own * 18, 0.45)
        shocks = np.clip(rng.standard_t(5, (YEAR, n + 1)) * np.sqrt(3 / 5), -5, 5)
        days = FIRST_DAY + number * YEAR + np.arange(YEAR)
        quiet = np.where((days + 3) % 7 < 5, 1.0, 0.3)  # little happens on a weekend
        variance, drift = self._state or (np.ones(n + 1), np.zeros(n + 1))
        scales, drifts = np.empty((YEAR, n + 1)), np.empty((YEAR, n + 1))
        for i, growth in enumerate(0.84 + 0.10 * shocks * shocks):  # GARCH(1, 1), long-run variance 1
            variance = np.minimum(0.06 + variance * growth, 9.0)
            scales[i] = np.sqrt(variance) * own * quiet[i]
            drift = drifts[i] = drift * 0.995 + scales[i] * shocks[i]
        self._state = variance, drift
        levels = bound * np.tanh(drifts / np.maximum(bound, 1e-9))
        logs = levels[:, :n] + np.outer(levels[:, n], beta)
        logs += np.log([max(share.price, 1e-9) / share.ahead for share in SHARES])
        logs += np.outer((days - ANCHOR_DAY) / 365.25, [share.growth for share in SHARES])
        return logs, np.hypot(np.outer(scales[:, n], beta), scales[:, :n])


@lru_cache(maxsize=4)
def _levels(seed: int) -> _Levels:
    return _Levels(seed)


class Stocks:
    """The markets with sessions that belong to a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.shares = SHARES
        self._levels = _levels(world.seed)
        self._tables: dict[str, tuple[int, Days]] = {}
        self._paid: dict[str, tuple[int, list[Event], list[Event]]] = {}
        self._rows = LastMade(512, self._make_rows)
        self._tapes = LastMade(512, self._make_tape)
        self._shocks = LastMade(64, self._make_shocks)

    def share(self, symbol: str) -> Share:
        """The instrument of this symbol. Raises `UsageError` (`unknown_instrument`)."""
        share = SHARE_OF.get(symbol)
        if share is None:
            raise UsageError("unknown_instrument", Text("The simulator has no {symbol!r}.", {"symbol": symbol}))
        return share

    def _rng(self, purpose: int, index: int, part: int) -> np.random.Generator:
        return keyed(self.world.seed, _KEY | purpose << 16 | index, part)

    def prepare(self, until_day: int) -> Iterator[None]:
        """Make the levels of all instruments up to this day, a year a step."""
        return self._levels.prepare(until_day)

    # ---------------------------------------------------------------- days

    def days(self, symbol: str, until_day: int) -> Days:
        """The sessions, at least up to this day."""
        until, table = self._tables.get(symbol, (-1, None))
        if table is None or until < until_day:
            share = self.share(symbol)
            for _ in self._levels.prepare(max(until_day, FIRST_DAY)):
                pass
            table = self._coin_days(share, until_day) if share.coin else self._make_days(share)
            until = until_day if share.coin else FIRST_DAY + len(self._levels.years) * YEAR - 1
            self._tables[symbol] = until, table
            self.world.work += 20
        return table

    def _make_days(self, share: Share) -> Days:
        logs, volatility = (np.concatenate([year[k][:, share.index] for year in self._levels.years]) for k in (0, 1))
        noise = np.concatenate(
            [self._rng(2, share.index, i).normal(0, 1, (YEAR, 5)) for i in range(len(self._levels.years))]
        )
        calendar = np.arange(FIRST_DAY, FIRST_DAY + len(logs))
        market = share.market
        at = np.flatnonzero([day >= share.since_day and trades_on(market, day) for day in calendar.tolist()])
        day, log, noise = calendar[at], logs[at], noise[at]
        spread = np.maximum(volatility[at], 0.0008)
        before = np.append(log[0] - 0.002, log[:-1])
        to_come = np.ones(len(day))  # splits still ahead make a share dearer
        for split_day, over, under in share.splits:
            to_come[day < split_day] *= over / under

        def snap(prices: Floats) -> Ints:
            whole: Ints = np.maximum(np.rint(prices * to_come * 10.0**share.decimals / share.tick), 1.0).astype(
                np.int64
            )
            return whole * share.tick

        gap = 0.4 * (log - before) + 0.2 * spread * noise[:, 0]
        opened, close = snap(np.exp(before + gap)), snap(np.exp(log))
        top, bottom = np.maximum(opened, close), np.minimum(opened, close)
        scale = to_come * 10.0**share.decimals
        high = np.maximum(snap(top / scale * np.exp(np.abs(noise[:, 1]) * 0.5 * spread)), top)
        low = np.minimum(snap(bottom / scale * np.exp(-np.abs(noise[:, 2]) * 0.5 * spread)), bottom)
        high = np.maximum(high, low + share.tick)
        half = np.array([0.45 if (s := session_of(market, d)) and s.half else 1.0 for d in day.tolist()])
        busy = np.exp(0.25 * noise[:, 3] + 0.3 * np.minimum(np.abs(log - before) / spread, 3.0) - 0.2) * half
        volume = np.rint(share.volume * share.ahead * busy / to_come).astype(np.int64)
        after = snap(close / scale * np.exp(0.15 * spread * noise[:, 4])) if share.extended else close
        return Days(day, opened, high, low, close, volume, after, spread)

    def _fix(self, day: int) -> float:
        """Won per dollar at the last close before a UTC day."""
        table = self.days("KRW=X", day)
        return float(table.close[max(0, table.before(day) - 1)]) / 100

    def _coin_days(self, share: Share, until_day: int) -> Days:
        assert share.coin is not None
        table = self.world.days(share.coin, until_day)
        count = until_day - table.first + 1
        day = table.first + np.arange(max(0, count))
        won = self.days("KRW=X", until_day)
        fix = won.close[np.maximum(np.searchsorted(won.day, day) - 1, 0)] / 100.0
        scale = self._coin_scale(share) / fix
        columns = [np.rint(getattr(table, name)[: len(day)] * scale) for name in ("open", "high", "low", "close")]
        volume = np.rint(table.value[: len(day)] / fix * _REST_OF_WORLD)
        opened, high, low, close, total = (column.astype(np.int64) for column in (*columns, volume))
        return Days(day, opened, high, low, close, total, close, table.volatility[: len(day)])

    def _coin_scale(self, share: Share) -> float:
        assert share.coin is not None
        return float(10.0 ** (share.decimals - self.world.listing(share.coin).price_decimals))

    # ---------------------------------------------------------------- what happens to a share

    def ratio(self, symbol: str, day: int, now_day: int) -> float:
        """What prices of a day are divided by, and volumes multiplied with, when told on another day."""
        ratio = 1.0
        for split_day, over, under in self.share(symbol).splits:
            if day < split_day <= now_day:
                ratio *= over / under
        return ratio

    def dividends(self, symbol: str, until_day: int) -> list[Event]:
        """Dividends with an ex-day up to this one, oldest first."""
        return [event for event in self._payments(symbol, until_day)[0] if event.day <= until_day]

    def gains(self, symbol: str, until_day: int) -> list[Event]:
        """Capital gains of a fund with an ex-day up to this one, oldest first."""
        return [event for event in self._payments(symbol, until_day)[1] if event.day <= until_day]

    def _payments(self, symbol: str, until_day: int) -> tuple[list[Event], list[Event]]:
        until, paid, gained = self._paid.get(symbol, (-1, [], []))
        if until < until_day:
            share = self.share(symbol)
            table = self.days(symbol, until_day)
            paid, gained, month = [], [], 0
            for row in range(1, len(table.day)):
                date = date_of(int(table.day[row]))
                if date.day < 10 or date.month == month:
                    continue
                month = date.month  # the first session from the tenth on
                close = float(table.close[row - 1]) / 10.0**share.decimals
                close /= self.ratio(symbol, int(table.day[row - 1]), int(table.day[row]))
                if month in share.dividend_months:
                    amount = round(close * share.dividend_yield / len(share.dividend_months), max(share.decimals, 0))
                    paid.append(Event(int(table.day[row]), max(amount, 10.0**-share.decimals)))
                if month == 12 and share.gains_yield:
                    gained.append(Event(int(table.day[row]), round(close * share.gains_yield, 3)))
            self._paid[symbol] = int(table.day[-1]), paid, gained
        return paid, gained

    def adjustments(self, symbol: str, now_day: int) -> tuple[Ints, Floats]:
        """(days, factor of the close on each) for the adjusted close as it is told on `now_day`."""
        share = self.share(symbol)
        table = self.days(symbol, now_day)
        stop = table.before(now_day + 1)
        factors = np.ones(stop)
        for event in (*self.dividends(symbol, now_day), *self.gains(symbol, now_day)):
            row = table.before(event.day)
            close = float(table.close[row - 1]) / 10.0**share.decimals
            factors[:row] *= 1.0 - event.amount / (close / self.ratio(symbol, int(table.day[row - 1]), event.day))
        return table.day[:stop], factors

    # ---------------------------------------------------------------- minutes

    def _make_shocks(self, key: tuple[int, int]) -> Floats:
        """What all instruments of a market share within a day: shocks of unit variance."""
        shocks: Floats = self._rng(3, *key).normal(0, 1, 1440)
        return shocks

    def _make_rows(self, key: tuple[str, int]) -> Rows | None:
        symbol, day = key
        share = self.share(symbol)
        session = session_of(share.market, day)
        table = self.days(symbol, day)
        row = table.row(day)
        if session is None or row is None:
            return None
        if share.coin:
            return self._coin_rows(share, day)
        self.world.work += 4
        rng = self._rng(4, share.index, day)
        opened, high, low, close = (int(c[row]) for c in (table.open, table.high, table.low, table.close))
        volume, volatility = int(table.volume[row]), float(table.volatility[row])
        count = (session.close - session.open) // 60
        prints = share.prints * count / ((share.market.close - share.market.open) or 1)
        parts = []
        if share.extended:
            start = (
                max(share.tick, int(table.after[row - 1] / self.ratio(symbol, int(table.day[row - 1]), day)))
                if row
                else opened
            )
            start = start // share.tick * share.tick
            prices = self._wicked(rng, share, start, opened, volatility * 0.25)
            parts.append((0, session.pre, session.open, prices, volume * _PRE_SHARE / 3, share.prints * _PRE_SHARE))
        parts.append((1, session.open, session.close, (opened, high, low, close), volume, prints))
        if share.extended:
            prices = self._wicked(rng, share, close, int(table.after[row]), volatility * 0.15)
            parts.append((2, session.close, session.post, prices, volume * _POST_SHARE / 3, share.prints * _POST_SHARE))
        made = [self._part(rng, share, volatility, day, *part) for part in parts]
        return Rows(*[np.concatenate(columns) for columns in zip(*made, strict=True)])

    @staticmethod
    def _wicked(rng: np.random.Generator, share: Share, start: int, end: int, size: float) -> tuple[int, int, int, int]:
        """Open, high, low and close of hours that begin and end at these prices."""
        up, down = (int(max(start, end) * size * abs(x)) // share.tick * share.tick for x in rng.normal(0, 1, 2))
        return start, max(start, end) + up, max(share.tick, min(start, end) - down), end

    def _part(
        self,
        rng: np.random.Generator,
        share: Share,
        volatility: float,
        day: int,
        part: int,
        since_s: int,
        until_s: int,
        prices: tuple[int, int, int, int],
        volume: float,
        expected: float,
    ) -> list[Ints]:
        """The minutes of one part of a session, in the order of the columns of `Rows`."""
        opened, high, low, close = prices
        count = (until_s - since_s) // 60
        at = np.arange(count)
        busy = np.exp(rng.normal(0, 0.3, count))
        if share.market.auctions and part == 1:
            busy *= 0.6 + 1.6 * np.exp(-at / 25.0) + 1.1 * np.exp(-(count - at) / 18.0)
        prints = rng.poisson(busy * (expected / busy.sum()))
        if part == 1 and rng.random() < share.halts:
            begin = int(rng.integers(20, max(21, count - 60)))
            prints[begin : begin + int(rng.integers(5, 16))] = 0
        if np.count_nonzero(prints) < _LEAST_ACTIVE:
            prints[np.linspace(0, count - 1, _LEAST_ACTIVE).astype(np.int64)] += 1
        minute = np.flatnonzero(prints)
        prints = np.minimum(prints[minute], 60)
        n = len(minute)

        common = self._shocks((list(MARKETS).index(share.market.name), day))
        mixed = 0.75 * np.sign(share.beta) * common[:count] + 0.66 * rng.normal(0, 1, count)
        typical = volatility * opened / np.sqrt(max(count, 390))
        path = bridge(np.append(0.0, np.cumsum(mixed * np.sqrt(busy))[minute] * typical), opened, close, low, high)
        tick = share.tick
        closes = np.clip(np.rint(path[1:] / tick).astype(np.int64) * tick, low, high)
        closes[-1] = close
        opens = np.append(opened, closes[:-1])
        opens[1:] = np.clip(opens[1:] + rng.integers(-1, 2, n - 1) * tick, low, high)
        wick = np.rint(np.abs(rng.normal(0, 0.5, (2, n))) * typical / tick).astype(np.int64) * tick
        wick[:, prints < 4] = 0
        highs = np.minimum(np.maximum(opens, closes) + wick[0], high)
        lows = np.maximum(np.minimum(opens, closes) - wick[1], low)
        highs[np.argmax(highs)], lows[np.argmin(lows)] = high, low
        above, below = highs > np.maximum(opens, closes), lows < np.minimum(opens, closes)
        still = (opens == closes) & ~above & ~below
        prints = np.maximum(prints, np.where(still, 1, 2 + above + below))

        total = int(volume)
        if total:
            total = max(total, int(prints.sum()))
            weight = prints * np.exp(rng.normal(0, 0.6, n))
            sums = np.floor(np.cumsum(weight) / weight.sum() * (total - int(prints.sum()))).astype(np.int64)
            sums[-1] = total - int(prints.sum())
            volumes = prints + np.diff(sums, prepend=0)
        else:
            volumes = np.zeros(n, np.int64)
        minute = minute + since_s // 60
        ends = MINUTE_MS - 1 - rng.exponential(MINUTE_MS / (prints + 1.0))
        last_ms = minute * MINUTE_MS + np.clip(ends, MINUTE_MS // 4, MINUTE_MS - 1).astype(np.int64)
        return [minute, opens, highs, lows, closes, volumes, prints, last_ms, np.full(n, part)]

    def _coin_rows(self, share: Share, day: int) -> Rows | None:
        assert share.coin is not None
        rows = self.world.minutes(share.coin, day)
        if rows is None:
            return None
        fix, scale = self._fix(day), self._coin_scale(share)
        columns = (rows.open, rows.high, rows.low, rows.close)
        opened, high, low, close = (np.rint(column * (scale / fix)).astype(np.int64) for column in columns)
        sums = np.rint(np.cumsum(rows.value) / fix * _REST_OF_WORLD).astype(np.int64)
        minute = rows.minute + day * 1440
        volume, part = np.diff(sums, prepend=0), np.ones(len(minute), np.int64)
        last_ms = minute * MINUTE_MS + rows.last_ms
        return Rows(minute, opened, high, low, close, volume, rows.trades, last_ms, part)

    def rows(self, symbol: str, day: int) -> Rows | None:
        """The whole day's minutes, future ones included. None without a session."""
        return self._rows((symbol, day))

    def known(self, symbol: str, day: int, now_ms: int) -> Rows | None:
        """A day's minutes as they stand at a moment: the last may still go on."""
        rows = self.rows(symbol, day)
        now_minute = now_ms // MINUTE_MS
        if rows is None or not len(rows.minute) or rows.minute[-1] < now_minute:
            return rows
        done = rows.upto(now_minute)
        ticks = [tick for tick in self.tape(symbol, now_minute) if tick.ms <= now_ms]
        if not ticks:
            return done
        prices = [tick.price for tick in ticks]
        size, newest = sum(tick.size for tick in ticks), ticks[-1]
        last = (now_minute, prices[0], max(prices), min(prices), prices[-1], size, len(ticks), newest.ms, newest.part)
        names = Rows.__struct_fields__
        return Rows(*(np.append(getattr(done, name), value) for name, value in zip(names, last, strict=True)))

    # ---------------------------------------------------------------- ticks

    def tape(self, symbol: str, minute: int) -> list[Tick]:
        """The prints of a minute (since 1970), in the order they happened; empty if it had none."""
        return self._tapes((symbol, minute))

    def _make_tape(self, key: tuple[str, int]) -> list[Tick]:
        symbol, minute = key
        share = self.share(symbol)
        day = local_day(share.market, minute * 60)
        rows = self.rows(symbol, day)
        row = int(np.searchsorted(rows.minute, minute)) if rows is not None else 0
        if rows is None or row == len(rows.minute) or rows.minute[row] != minute:
            return []
        self.world.work += 1
        part = int(rows.part[row])
        first = int(np.searchsorted(rows.part, 1 if part else 0))
        base = int(rows.volume[first:row].sum()) if part else 0
        since = int(np.searchsorted(rows.part, part))
        high, low = (int(max(rows.high[since:row], default=0)), int(min(rows.low[since:row], default=2**62)))
        if share.coin:
            fix, scale = self._fix(day), self._coin_scale(share)
            prints = self.world.minute_trades(share.coin, minute)
            times = [one.ms for one in prints]
            prices = [round(one.price * (scale / fix)) for one in prints]
            values = np.cumsum([self.world.value(share.coin, one.price, one.lots) for one in prints])
            sums = np.rint(values * (int(rows.volume[row]) / float(values[-1]))).astype(np.int64)
            sizes = np.diff(sums, prepend=0).tolist()
        else:
            rng = self._rng(5, share.index, minute)
            o, h, lo, c = (int(column[row]) for column in (rows.open, rows.high, rows.low, rows.close))
            n = int(rows.prints[row])
            if h == lo:
                prices = [h] * n
            else:
                walk = np.cumsum(rng.normal(0, (h - lo) * 0.45 / np.sqrt(n), n))
                path = np.rint(bridge(walk, o, c, lo, h) / share.tick).astype(np.int64) * share.tick
                prices = np.clip(path, lo, h).tolist()
            total = int(rows.volume[row])
            sizes = shared(total, np.exp(rng.normal(0, 1.0, n))).tolist() if total else [0] * n
            start = minute * MINUTE_MS
            times = (clustered(rng, n, int(rows.last_ms[row]) - start) + start).tolist()
        ticks = []
        for ms, price, size in zip(times, prices, sizes, strict=True):
            base += size if part else 0
            high, low = max(high, price), min(low, price)
            ticks.append(Tick(ms, price, size, base, high, low, part))
        return ticks

    def ticks(self, symbol: str, since_ms: int, until_ms: int) -> Iterator[Tick]:
        """Prints in `[since_ms, until_ms)`, in the order they happened, pre and post market included."""
        market = self.share(symbol).market
        for day in range(local_day(market, since_ms / 1000), local_day(market, until_ms / 1000) + 1):
            rows = self.rows(symbol, day)
            if rows is None:
                continue
            start, stop = np.searchsorted(rows.minute, (since_ms // MINUTE_MS, (until_ms - 1) // MINUTE_MS + 1))
            for minute in rows.minute[start:stop].tolist():
                yield from (tick for tick in self.tape(symbol, minute) if since_ms <= tick.ms < until_ms)

    def next_tick(self, symbol: str, now_ms: int) -> Tick | None:
        """The first print after this moment; None if there is none within two weeks."""
        market = self.share(symbol).market
        today = local_day(market, now_ms / 1000)
        for day in range(today, today + 14):
            rows = self.rows(symbol, day) if trades_on(market, day) else None
            if rows is None:
                continue
            for minute in rows.minute[np.searchsorted(rows.minute, now_ms // MINUTE_MS) :].tolist():
                for tick in self.tape(symbol, minute):
                    if tick.ms > now_ms:
                        return tick
        return None

    # ---------------------------------------------------------------- bars and quotes, as told at a moment

    def today(self, symbol: str, now_ms: int) -> int:
        """The date in the instrument's market, as days since 1970."""
        return local_day(self.share(symbol).market, now_ms / 1000)

    def sessions(self, symbol: str, since_s: int, until_s: int, now_ms: int) -> list[Session]:
        """Sessions that have begun and of which some part lies in `[since_s, until_s)`, oldest first."""
        share = self.share(symbol)
        until_s = min(until_s, now_ms // 1000 + 1)
        table = self.days(symbol, self.today(symbol, now_ms))
        first = table.before(local_day(share.market, since_s))
        last = table.before(local_day(share.market, max(until_s - 1, 0)) + 1)
        found = []
        for day in table.day[first:last].tolist():
            session = session_of(share.market, day)
            if session is not None and session.pre < until_s and session.post > since_s:
                found.append(session)
        return found

    def intraday(self, symbol: str, session: Session, minutes: int, now_ms: int, extended: bool = False) -> list[Bar]:
        """Bars of so many minutes of one session, counted from where each part begins, as they stand at a moment.

        Where a stock was not traded in regular hours there is a bar without values.
        """
        share = self.share(symbol)
        rows = self.known(symbol, session.day, now_ms)
        if rows is None:
            return []
        ratio = self.ratio(symbol, session.day, self.today(symbol, now_ms))
        scale = 10.0**share.decimals * ratio
        span_s = minutes * 60
        bars: list[Bar] = []
        for part, start, end in (
            (0, session.pre, session.open),
            (1, session.open, session.close),
            (2, session.close, session.post),
        ):
            if part != 1 and not extended:
                continue
            made = {bar.start_s: bar for bar in _folded(rows.only(part), start, end, span_s, scale, ratio)}
            if part == 1 and share.market.auctions:
                starts = range(start, min(end, now_ms // 1000 + 1), span_s)
                spans = ((at, min(at + span_s, end)) for at in starts)
                bars += (made.get(at) or _untraded(at, to) for at, to in spans if at in made or to * 1000 <= now_ms)
            else:
                bars += made.values()
        return bars

    def daily(self, symbol: str, since_day: int, until_day: int, now_ms: int) -> list[Bar]:
        """Regular sessions of the days in `[since_day, until_day)` that have opened, as they stand at a moment."""
        share = self.share(symbol)
        today = self.today(symbol, now_ms)
        table = self.days(symbol, today)
        bars: list[Bar] = []
        columns = (table.day, table.open, table.high, table.low, table.close, table.volume)
        span = slice(table.before(since_day), table.before(min(until_day, today + 1)))
        for day, *prices, volume in zip(*(column[span].tolist() for column in columns), strict=True):
            session = session_of(share.market, day)
            assert session is not None
            ratio = self.ratio(symbol, day, today)
            scale = 10.0**share.decimals * ratio
            if session.close * 1000 > now_ms:
                rows = self.known(symbol, day, now_ms)
                if rows is not None:
                    bars += _folded(rows.only(1), session.open, session.close, 86400, scale, ratio)
            else:
                o, h, lo, c = (price / scale for price in prices)
                last_ms = session.close * 1000 - 1
                bars.append(Bar(session.open, session.close, o, h, lo, c, round(volume * ratio), last_ms))
        return bars

    def traded(self, symbol: str, minutes: int, since_s: int, until_s: int, now_ms: int) -> Iterator[Bar]:
        """Bars of so many minutes of regular sessions that begin in `[since_s, until_s)` and were traded."""
        for session in self.sessions(symbol, since_s, until_s, now_ms):
            for bar in self.intraday(symbol, session, minutes, now_ms):
                if since_s <= bar.start_s < until_s and bar.close is not None:
                    yield bar

    def spans(self, symbol: str, months: int | None, since_s: int, until_s: int, now_ms: int) -> Iterator[Bar]:
        """Days (None), weeks (0), months or quarters that begin in `[since_s, until_s)`."""
        market = self.share(symbol).market
        since_day = max(local_day(market, max(since_s, 0)), self.share(symbol).since_day)
        until_day = local_day(market, max(until_s, 0)) + 1
        if months is not None:
            until_day = period_start(market, until_day, months) + (7 if not months else months * 31)
        bars = self.daily(symbol, since_day, until_day, now_ms)
        bars = bars if months is None else longer(bars, market, months)
        return (bar for bar in bars if since_s <= bar.start_s < until_s)

    def first_session(self, symbol: str) -> Session:
        """The first one of all."""
        share = self.share(symbol)
        days = range(share.since_day, share.since_day + 30)
        return next(session for day in days if (session := session_of(share.market, day)) is not None)

    def summary(self, symbol: str, now_ms: int) -> Summary | None:
        """The quote at a moment; None before the first session."""
        share = self.share(symbol)
        market = share.market
        today = self.today(symbol, now_ms)
        table = self.days(symbol, today)
        row = table.before(today + 1) - 1
        rows = None
        while row >= 0:
            rows = self.known(symbol, int(table.day[row]), now_ms)
            if rows is not None and np.any(rows.part == 1):
                break
            row -= 1
        if row < 0 or rows is None:
            return None
        day = int(table.day[row])
        session = session_of(market, day)
        assert session is not None
        ratio = self.ratio(symbol, day, today)
        scale = 10.0**share.decimals * ratio
        (bar,) = _folded(rows.only(1), session.open, session.close, 86400, scale, ratio)
        assert bar.open is not None and bar.high is not None and bar.low is not None
        assert bar.close is not None and bar.volume is not None
        before = max(0, row - 1)
        previous = float(table.close[before]) / 10.0**share.decimals / self.ratio(symbol, int(table.day[before]), today)
        # Before today's open the pre-market of today counts, else what came after the last session.
        extended = None
        newest = self.known(symbol, today, now_ms) if share.extended and today != day else None
        for part, held in ((0, newest), (2, rows)):
            if held is not None and np.any(held.part == part):
                at = int(np.flatnonzero(held.part == part)[-1])
                over = self.ratio(symbol, today if part == 0 else day, today)
                extended = int(held.last_ms[at]), float(held.close[at]) / 10.0**share.decimals / over
                break
        return Summary(session, bar.last_ms, bar.close, bar.open, bar.high, bar.low, bar.volume, previous, extended)

    def previous_close(self, symbol: str, at_s: float, now_ms: int) -> float | None:
        """The close of the last session that was over before this moment, as told at another."""
        share = self.share(symbol)
        today = self.today(symbol, now_ms)
        table = self.days(symbol, today)
        row = table.before(local_day(share.market, at_s)) - 1
        if row < 0:
            return None
        return float(table.close[row]) / 10.0**share.decimals / self.ratio(symbol, int(table.day[row]), today)

    def next_session(self, symbol: str, now_ms: int) -> Session:
        """The session that goes on, else the next one."""
        market = self.share(symbol).market
        day = local_day(market, now_ms / 1000)
        while (session := session_of(market, day)) is None or session.post * 1000 <= now_ms:
            day += 1
        return session


def period_start(market: Market, day: int, months: int) -> int:
    """The day on which the week (0 months), month or quarter of a day begins."""
    date = date_of(day)
    if months == 0:
        return day - (day + 3) % 7
    return day + (date.replace(month=(date.month - 1) // months * months + 1, day=1) - date).days


def longer(bars: list[Bar], market: Market, months: int) -> list[Bar]:
    """Days as weeks (0 months), months or quarters, each from the local midnight at which its period begins."""
    folded: list[Bar] = []
    for bar in bars:
        assert bar.high is not None and bar.low is not None and bar.volume is not None
        first = period_start(market, local_day(market, bar.start_s), months)
        start_s = midnight_s(market, first)
        if folded and folded[-1].start_s == start_s:
            one = folded[-1]
            assert one.high is not None and one.low is not None and one.volume is not None
            high, low, volume = max(one.high, bar.high), min(one.low, bar.low), one.volume + bar.volume
            folded[-1] = Bar(start_s, one.end_s, one.open, high, low, bar.close, volume, bar.last_ms)
        else:
            after = period_start(market, first + (7 if not months else months * 31), months)
            folded.append(bar._replace(start_s=start_s, end_s=midnight_s(market, after)))
    return folded


def _untraded(start_s: int, end_s: int) -> Bar:
    return Bar(start_s, end_s, None, None, None, None, None, start_s * 1000)


def _folded(rows: Rows, start_s: int, close_s: int, span_s: int, scale: float, ratio: float) -> list[Bar]:
    """Rows of one part of a session as bars of a span counted from `start_s`, oldest first."""
    if not len(rows.minute):
        return []
    keys = (rows.minute * 60 - start_s) // span_s
    starts = np.flatnonzero(np.append(True, np.diff(keys) != 0))
    ends = np.append(starts[1:], len(keys)) - 1
    columns = zip(
        (keys[starts] * span_s + start_s).tolist(),
        np.minimum((keys[starts] + 1) * span_s + start_s, close_s).tolist(),
        (rows.open[starts] / scale).tolist(),
        (np.maximum.reduceat(rows.high, starts) / scale).tolist(),
        (np.minimum.reduceat(rows.low, starts) / scale).tolist(),
        (rows.close[ends] / scale).tolist(),
        [round(volume * ratio) for volume in np.add.reduceat(rows.volume, starts).tolist()],
        rows.last_ms[ends].tolist(),
        strict=True,
    )
    return [Bar(*column) for column in columns]
