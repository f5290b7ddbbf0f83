"""A run taken apart: by month, hour and weekday, its drawdowns, its trades by size; and several runs side by side.

Days, months and hours are those of the result's zone. Percentages are of the account at the span's beginning.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from watchhamster.backtest.definitions import DEFINITIONS, Definition
from watchhamster.backtest.metrics import DAY_NS, Metrics, daily_equity, drawdowns, returns_of, zone_offsets
from watchhamster.backtest.results import Curve, Result
from watchhamster.core.bars import Floats, Ints
from watchhamster.core.timeframes import SECOND_NS

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_HOUR_NS: Final = 3600 * SECOND_NS

# ---------------------------------------------------------------- by time


class Year(msgspec.Struct, frozen=True):
    """Returns of a calendar year and its months, in percent; None for a month the run did not reach."""

    year: int
    months: tuple[float | None, ...]  # January first
    total: float


def monthly(result: Result) -> tuple[Year, ...]:
    """Return of every calendar month; the first and the last may be parts of one."""
    curve = result.curve
    if not len(curve):
        return ()
    zone = ZoneInfo(result.zone)
    first = dt.datetime.fromtimestamp(int(curve.open_ns[0]) // SECOND_NS, zone)
    last_ns = int(curve.close_ns[-1])
    months = [(first.year, first.month)]
    ends: list[int] = []
    while True:
        year, month = months[-1]
        following = (year + month // 12, month % 12 + 1)
        end = int((dt.datetime(*following, 1, tzinfo=zone) - _EPOCH).total_seconds()) * SECOND_NS
        ends.append(end)
        if end >= last_ns:
            break
        months.append(following)
    at = np.searchsorted(curve.close_ns, np.array(ends), side="right") - 1
    equity = [result.cash, *(float(curve.equity[i]) if i >= 0 else result.cash for i in at.tolist())]
    found: list[Year] = []
    for year in range(months[0][0], months[-1][0] + 1):
        places = [n for n, (y, _m) in enumerate(months) if y == year]
        row: list[float | None] = [None] * 12
        for n in places:
            row[months[n][1] - 1] = _change(equity[n], equity[n + 1])
        found.append(Year(year, tuple(row), _change(equity[places[0]], equity[places[-1] + 1])))
    return tuple(found)


class Bucket(msgspec.Struct, frozen=True):
    """Closed trades that were entered in one hour of the day, or on one weekday."""

    key: int  # hour 0 to 23, or weekday with 0 for Monday
    trades: int
    win_rate_percent: float | None
    profit: float
    average_percent: float | None


def by_hour(result: Result) -> tuple[Bucket, ...]:
    """Trades by the local hour they were entered in: 24 buckets."""
    return _buckets(result, 24, lambda local: local // _HOUR_NS % 24)


def by_weekday(result: Result) -> tuple[Bucket, ...]:
    """Trades by the local weekday they were entered on: 7 buckets, Monday first."""
    return _buckets(result, 7, lambda local: (local // DAY_NS + 3) % 7)  # 1970-01-01 was a Thursday


def _buckets(result: Result, count: int, key: Callable[[Ints], Ints]) -> tuple[Bucket, ...]:
    entries = np.array([trade.entry_ns for trade in result.trades], np.int64)
    order = np.argsort(entries, kind="stable")  # trades are in order of exit, clocks are read in order of time
    entries = entries[order]
    keys = key(entries + zone_offsets(entries, result.zone))
    profits = np.array([trade.profit for trade in result.trades], np.float64)[order]
    percents = np.array([trade.profit_percent for trade in result.trades], np.float64)[order]
    found = []
    for n in range(count):
        hits = keys == n
        trades = int(hits.sum())
        found.append(
            Bucket(
                n,
                trades,
                float((profits[hits] > 0).mean()) * 100 if trades else None,
                float(profits[hits].sum()),
                float(percents[hits].mean()) if trades else None,
            )
        )
    return tuple(found)


class Drawdown(msgspec.Struct, frozen=True):
    """A stretch below the account's best. Times are opens of the bars at whose close the account stood there.

    `end_ns` is None while it lasts.
    """

    peak_ns: int
    trough_ns: int
    end_ns: int | None
    depth_percent: float
    days: float  # from the peak to the end, or to the last bar, close to close


def drawdown_periods(result: Result, most: int = 10) -> tuple[Drawdown, ...]:
    """The deepest drawdowns, deepest first."""
    curve = result.curve
    if not len(curve):
        return ()
    share = drawdowns(curve.equity, result.cash)
    below = np.concatenate(((False,), share > 0, (False,)))
    turns = np.flatnonzero(below[1:] != below[:-1])
    starts, stops = turns[::2], turns[1::2]  # first bar below, first bar back at the top
    if not len(starts):
        return ()
    depths = np.maximum.reduceat(share, starts)  # what lies between two drawdowns is 0
    found = []
    for n in np.argsort(-depths, kind="stable")[:most].tolist():
        start, stop = int(starts[n]), int(stops[n])
        over = stop < len(curve)
        trough = start + int(share[start:stop].argmax())
        lasted_ns = curve.close_ns[stop if over else -1] - (curve.close_ns[start - 1] if start else curve.open_ns[0])
        found.append(
            Drawdown(
                int(curve.open_ns[max(0, start - 1)]),
                int(curve.open_ns[trough]),
                int(curve.open_ns[stop]) if over else None,
                float(depths[n]) * 100,
                float(lasted_ns) / DAY_NS,
            )
        )
    return tuple(found)


def rolling_sharpe(result: Result, days: int | None = None) -> tuple[Ints, Floats]:
    """Yearly Sharpe ratio of the last so many days (a quarter of a year by default), and when; NaN without a spread."""
    days = days or (90 if result.year_days == 365 else 63)
    ends, daily = daily_equity(result)
    returns = returns_of(daily)
    if len(returns) < days:
        return np.empty(0, np.int64), np.empty(0)
    windows = np.lib.stride_tricks.sliding_window_view(returns, days)
    mean, spread = windows.mean(1), windows.std(1, ddof=1)
    real = spread > 1e-12 * np.abs(windows).max(1)
    ratio = np.divide(mean, spread, out=np.full(len(mean), np.nan), where=real)
    return ends[days:], ratio * math.sqrt(result.year_days)


def exposure(curve: Curve) -> Floats:
    """Value of the positions as percent of the account, at every bar; 0 where there is no account left."""
    return np.divide(curve.invested, curve.equity, out=np.zeros(len(curve)), where=curve.equity > 0) * 100


# ---------------------------------------------------------------- by size


class Histogram(msgspec.Struct, frozen=True):
    """How many values lie in `[edges[n], edges[n + 1])`; the last part holds its upper edge, too."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


def distribution(values: Sequence[float], parts: int = 30) -> Histogram:
    """Values by size, over round edges, 0 among them. What lies beyond the far percentiles joins the outer parts."""
    if not len(values):
        return Histogram((), ())
    array = np.asarray(values, np.float64)
    low, high = np.quantile(array, (0.005, 0.995)).tolist()
    step = _round_step(max(high - low, 1e-6) / parts)
    first, last = math.floor(low / step), max(math.floor(low / step) + 1, math.ceil(high / step))
    edges = np.arange(first, last + 1) * step
    places = np.clip(np.floor(array / step).astype(np.int64) - first, 0, last - first - 1)
    counts = np.bincount(places, minlength=last - first)
    return Histogram(tuple(np.round(edges, 9).tolist()), tuple(counts.tolist()))


def _round_step(step: float) -> float:
    """The next larger of 1, 2 or 5 times a power of ten."""
    power: float = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


# ---------------------------------------------------------------- several runs


class Row(msgspec.Struct, frozen=True):
    """One metric of several runs. `best` are the places of those that win by it."""

    definition: Definition
    values: tuple[float | None, ...]
    best: tuple[int, ...]


class Comparison(msgspec.Struct, frozen=True, eq=False):
    """Runs side by side: their numbers, and their curves on one time axis, each beginning at 100."""

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    at_ns: Ints
    curves: tuple[Floats, ...]  # NaN before a run began and after it ended


def compare(runs: Mapping[str, tuple[Result, Metrics]]) -> Comparison:
    """Runs by name. Curves are daily: enough for the eye, and equal times for runs of different bars."""
    rows = []
    for definition in DEFINITIONS.values():
        values = tuple(getattr(metrics, definition.name) for _result, metrics in runs.values())
        known = [value for value in values if value is not None]
        best: tuple[int, ...] = ()
        if definition.better != "neither" and len(set(known)) > 1:
            target = max(known) if definition.better == "more" else min(known)
            best = tuple(n for n, value in enumerate(values) if value == target)
        rows.append(Row(definition, values, best))
    series = [daily_equity(result) for result, _metrics in runs.values()]
    at_ns = np.unique(np.concatenate([ends for ends, _equity in series])) if series else np.empty(0, np.int64)
    curves = []
    for ends, equity in series:
        curve = np.full(len(at_ns), np.nan)
        if len(ends):
            place = np.searchsorted(ends, at_ns, side="right") - 1
            inside = (place >= 0) & (at_ns <= ends[-1])
            curve[inside] = equity[place[inside]] / equity[0] * 100
        curves.append(curve)
    return Comparison(tuple(runs), tuple(rows), at_ns, tuple(curves))


# ---------------------------------------------------------------- columns for files


def trades_table(result: Result) -> dict[str, list[object]]:
    """Closed trades, then open ones, as columns under the names of the contract; None where open."""
    rows = [*result.trades, *result.open_trades]
    names = (
        *("instrument", "side", "entry_ns", "entry_price", "exit_ns", "exit_price", "size", "fees", "profit"),
        *("profit_percent", "bars", "exit_reason", "risk", "best_percent", "worst_percent"),
    )
    return {name: [getattr(trade, name) for trade in rows] for name in names}


def fills_table(result: Result) -> dict[str, list[object]]:
    """Every fill, as columns."""
    names = ("instrument", "at_ns", "side", "price", "size", "fee", "reason")
    return {name: [getattr(fill, name) for fill in result.fills] for name in names}


def curve_table(result: Result) -> dict[str, Ints | Floats]:
    """The account at every bar's close, as columns: with buy and hold, drawdown and exposure in percent."""
    curve = result.curve
    return {
        "open_ns": curve.open_ns,
        "close_ns": curve.close_ns,
        "equity": curve.equity,
        "hold": result.hold,
        "drawdown_percent": drawdowns(curve.equity, result.cash) * 100 if len(curve) else np.empty(0),
        "invested": curve.invested,
        "exposure_percent": exposure(curve),
        "positions": curve.positions,
    }


def _change(before: float, after: float) -> float:
    return (after / before - 1) * 100 if before > 0 else 0.0
