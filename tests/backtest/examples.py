"""Runs to look at: a moving-average cross, reckoned here by a plain loop on given bars."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from watchhamster.backtest.results import Curve, Fill, Order, Result, Trade
from watchhamster.core.bars import Bars, Ints
from watchhamster.core.text import Text
from watchhamster.core.timeframes import SECOND_NS

DAY_NS = 86_400 * SECOND_NS


def walk(count: int, minutes: int = 60, seed: int = 7, start: str = "2024-01-01") -> Bars:
    """Bars of a random walk with a little drift."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0.00002, 0.004, count)
    close = np.round(50_000_000 * np.exp(np.cumsum(steps)), -3)
    opens = np.concatenate(([50_000_000.0], close[:-1]))
    high = np.maximum(opens, close) + np.round(rng.exponential(60_000, count), -3)
    low = np.minimum(opens, close) - np.round(rng.exponential(60_000, count), -3)
    first = int(np.datetime64(start, "ns").astype(np.int64))
    times = first + np.arange(count, dtype=np.int64) * minutes * 60 * SECOND_NS
    volume = rng.exponential(3, count)
    return Bars(times, opens, high, low, close, volume, volume * close)


def upbit_minutes(folder: Path) -> Bars:
    """The recorded one-minute candles of KRW-BTC."""
    rows = json.loads((folder / "upbit" / "rest-candles-1m-20200220T1700-2020KST.json").read_text())
    rows.sort(key=lambda row: row["candle_date_time_utc"])
    times = np.array([row["candle_date_time_utc"] for row in rows], "datetime64[ns]").astype(np.int64)
    names = ("opening_price", "high_price", "low_price", "trade_price")
    prices = [np.array([row[name] for row in rows], np.float64) for name in names]
    volume = np.array([row["candle_acc_trade_volume"] for row in rows], np.float64)
    return Bars(times, prices[0], prices[1], prices[2], prices[3], volume, np.full(len(rows), np.nan))


def upbit_days(folder: Path) -> Bars:
    """The recorded daily candles of KRW-BTC."""
    with (folder / "upbit" / "candles-1d-KRW-BTC-2024-2025.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    # A Korean day begins at 09:00, which is midnight UTC.
    times = np.array([row[0][:10] for row in rows], "datetime64[ns]").astype(np.int64)
    opens, high, low, close, volume, value = (np.array([float(row[n]) for row in rows]) for n in range(1, 7))
    return Bars(times, opens, high, low, close, volume, value)


def crossing(
    bars: Bars,
    *,
    fast: int = 10,
    slow: int = 30,
    instrument: str = "upbit:KRW-BTC",
    timeframe: str = "1h",
    cash: float = 10_000_000.0,
    fee: float = 0.0005,
    year_days: int = 365,
    zone: str = "Asia/Seoul",
    warnings: tuple[Text, ...] = (),
    strategy: str = "Golden cross",
) -> Result:
    """Long while the fast mean is above the slow one, filled at the next open, everything in."""
    count = len(bars)
    step = int(bars.open_ns[1] - bars.open_ns[0]) if count > 1 else DAY_NS
    sums = np.concatenate(([0.0], np.cumsum(bars.close)))

    def mean(n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        values = np.full(count, np.nan)
        values[n - 1 :] = (sums[n:] - sums[:-n]) / n if count >= n else np.nan
        return values

    above = mean(fast) > mean(slow)
    money, size, entry, entry_fee = cash, 0.0, -1, 0.0
    equity, invested, positions = np.empty(count), np.empty(count), np.zeros(count, np.int64)
    fills: list[Fill] = []
    trades: list[Trade] = []

    def trade(stop: int, price: float, fees: float, closed: bool) -> Trade:
        start = float(bars.open[entry])
        held = slice(entry, stop + 1)
        profit = size * (price - start) - fees
        return Trade(
            instrument=instrument,
            side="long",
            entry_ns=int(bars.open_ns[entry]),
            entry_price=start,
            exit_ns=int(bars.open_ns[stop]) if closed else None,
            exit_price=price if closed else None,
            size=size,
            fees=fees,
            profit=profit,
            profit_percent=profit / (size * start) * 100,
            bars=stop - entry,
            exit_reason="dead cross" if closed else None,
            best_percent=(float(bars.high[held].max()) / start - 1) * 100,
            worst_percent=(float(bars.low[held].min()) / start - 1) * 100,
        )

    for i in range(count):
        if i and above[i - 1] and not size:
            price = float(bars.open[i])
            size, entry = money / (price * (1 + fee)), i
            entry_fee = size * price * fee
            money = 0.0
            fills.append(Fill(instrument, int(bars.open_ns[i]), "buy", price, size, entry_fee, "entry"))
        elif i and not above[i - 1] and size:
            price = float(bars.open[i])
            cost = size * price * fee
            trades.append(trade(i, price, entry_fee + cost, True))
            fills.append(Fill(instrument, int(bars.open_ns[i]), "sell", price, size, cost, "dead cross"))
            money, size = size * price - cost, 0.0
        invested[i], positions[i] = size * bars.close[i], int(size > 0)
        equity[i] = money + invested[i]
    still = (trade(count - 1, float(bars.close[-1]), entry_fee, False),) if size else ()
    closes: Ints = bars.open_ns + step
    return Result(
        strategy=strategy,
        instruments=(instrument,),
        timeframe=timeframe,
        parameters={"fast": fast, "slow": slow},
        bars=count,
        since_ns=int(bars.open_ns[0]) if count else 0,
        until_ns=int(closes[-1]) if count else 0,
        first_bar_ns=int(bars.open_ns[0]) if count else 0,
        cash=cash,
        year_days=year_days,
        data_fingerprint="5f0c1a2b3c4d5e6f",
        fills=tuple(fills),
        trades=tuple(trades),
        open_trades=still,
        pending=(Order(instrument, int(bars.open_ns[-1]), "buy", "entry"),) if count and above[-1] and not size else (),
        refused=(),
        curve=Curve(bars.open_ns, closes, equity, invested, positions),
        hold=cash / (bars.open[0] * (1 + fee)) * bars.close if count else np.empty(0),
        zone=zone,
        warnings=warnings,
    )
