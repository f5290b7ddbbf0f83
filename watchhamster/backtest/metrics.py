"""What a run is measured by: each number once, with its definition.

Two steps, so that thousands of trials need not send home their bars. `digest` reads the curve and the trades; a
`Digest` is small and holds all that the numbers need. `measure` makes the numbers of either. What a number is called,
what it means and what is good is in `definitions.py`, which the command line, the window and the report all read.

Returns are those of daily equity: at 00:00 UTC where the market never closes (365 a year, days without a bar
included), at the last bar of each local day where it has sessions (252 a year). A number that is not defined (no
loss, no spread, too short a time) is None, never 0 or infinity.

Sources: Sharpe 1994; Sortino and Price 1994 (downside over all days); Martin and McCann 1989 (Ulcer); Tharp's SQN.
"""

from __future__ import annotations

import datetime as dt
import math
from functools import lru_cache
from typing import Final, Protocol
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from numpy.typing import NDArray

from watchhamster.backtest.results import Curve, Result
from watchhamster.core.bars import Floats, Ints
from watchhamster.core.timeframes import SECOND_NS

DAY_NS: Final = 86_400 * SECOND_NS
YEAR_NS: Final = 31_557_600 * SECOND_NS
SHORTEST_CAGR_NS: Final = 30 * DAY_NS
_BLOCK: Final = 1 << 16
_ROW: Final = 256


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """Every number of a run, under the names scripts know. None where it is not defined."""

    final_equity: float
    total_return_percent: float
    cagr_percent: float | None
    buy_and_hold_percent: float | None
    best_day_percent: float | None
    worst_day_percent: float | None
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    omega: float | None
    recovery_factor: float | None
    max_drawdown_percent: float
    longest_drawdown_days: float
    ulcer_percent: float | None
    volatility_percent: float | None
    var_percent: float | None
    cvar_percent: float | None
    trades: int
    win_rate_percent: float | None
    profit_factor: float | None
    payoff: float | None
    expectancy: float | None
    expectancy_r: float | None
    sqn: float | None
    average_trade_percent: float | None
    best_trade_percent: float | None
    worst_trade_percent: float | None
    mfe_percent: float | None
    mae_percent: float | None
    average_bars: float | None
    winning_streak: int
    losing_streak: int
    exposure_percent: float | None
    average_exposure_percent: float | None
    turnover: float | None
    fees: float
    year_days: int  # P, printed beside the yearly numbers


class Digest(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A run reduced to what its metrics need: a few kilobytes, however many bars it had.

    Arrays of the trades are equally long, in order of exit, and hold closed trades only; NaN where a trade has no such
    value. Shares are fractions.
    """

    cash: float
    final_equity: float
    elapsed_ns: int  # from the first bar's open to the last one's close
    year_days: int
    daily: Floats  # equity at the end of each day, the first entry being the cash at the start
    hold_final: float | None = None  # equity that buying and holding ended with
    max_drawdown: float = 0.0  # of every bar, as a share
    ulcer: float | None = None
    longest_drawdown_ns: int = 0
    exposure: float | None = None  # share of bars in a position
    average_exposure: float | None = None  # mean of position value / equity
    traded: float = 0.0  # value of all fills
    average_equity: float | None = None
    fees: float = 0.0
    profits: Floats = msgspec.field(default_factory=lambda: np.empty(0))
    profit_percents: Floats = msgspec.field(default_factory=lambda: np.empty(0))
    risks: Floats = msgspec.field(default_factory=lambda: np.empty(0))
    best_percents: Floats = msgspec.field(default_factory=lambda: np.empty(0))
    worst_percents: Floats = msgspec.field(default_factory=lambda: np.empty(0))
    bars_held: Ints = msgspec.field(default_factory=lambda: np.empty(0, np.int64))


# ---------------------------------------------------------------- from a run to its digest


def digest(result: Result) -> Digest:
    """All that the metrics need of a run."""
    trades = result.trades

    def column(name: str) -> Floats:
        # An array of objects turns None into NaN when it is cast.
        return np.array([getattr(trade, name) for trade in trades], object).astype(np.float64)

    return msgspec.structs.replace(
        digest_curve(result.curve, result.hold, result.cash, result.year_days, result.zone),
        traded=float(np.array([fill.price * fill.size for fill in result.fills], np.float64).sum()),
        fees=float(np.array([fill.fee for fill in result.fills], np.float64).sum()),
        profits=np.array([trade.profit for trade in trades], np.float64),
        profit_percents=np.array([trade.profit_percent for trade in trades], np.float64),
        risks=column("risk"),
        best_percents=column("best_percent"),
        worst_percents=column("worst_percent"),
        bars_held=np.array([trade.bars for trade in trades], np.int64),
    )


def digest_curve(
    curve: Curve, hold: Floats, cash: float, year_days: int, zone: str, walk: Fall | None = None
) -> Digest:
    """What the curve gives; whoever has the trades as arrays replaces those fields, and builds no trade for it."""
    bars = len(curve)
    if not bars:
        return Digest(cash=cash, final_equity=cash, elapsed_ns=0, year_days=year_days, daily=np.array([cash]))
    drop = drawdown_summary(curve.equity, curve.open_ns, curve.close_ns, cash, walk or fall)
    return Digest(
        cash=cash,
        final_equity=float(curve.equity[-1]),
        elapsed_ns=int(curve.close_ns[-1] - curve.open_ns[0]),
        year_days=year_days,
        daily=_daily(curve, cash, year_days, zone)[1],
        hold_final=float(hold[-1]) if len(hold) else None,
        max_drawdown=drop.deepest,
        ulcer=drop.ulcer,
        longest_drawdown_ns=drop.longest_ns,
        exposure=int(np.count_nonzero(curve.positions)) / bars,
        average_exposure=_mean_share(curve.invested, curve.equity),
        average_equity=_mean(curve.equity),
    )


def daily_equity(result: Result) -> tuple[Ints, Floats]:
    """When each day of the run ended, and what the account was worth then.

    The first entry is the start: the first bar's open and the cash. The last day may be a part of one. Markets that
    never close have an entry for every midnight UTC, also those without a bar; others one for each local day with one.
    """
    return _daily(result.curve, result.cash, result.year_days, result.zone)


def _daily(curve: Curve, cash: float, year_days: int, zone: str) -> tuple[Ints, Floats]:
    if not len(curve):
        return np.empty(0, np.int64), np.array([cash])
    if year_days == 365:
        first, last = int(curve.open_ns[0]), int(curve.close_ns[-1])
        ends = np.arange(first // DAY_NS + 1, -(-last // DAY_NS) + 1, dtype=np.int64) * DAY_NS
        # A bar that ends at midnight belongs to the day before. Until the first bar's end the account holds its cash.
        at = np.searchsorted(curve.close_ns, ends, side="right") - 1
        values = np.where(at >= 0, curve.equity[at], cash)
        ends[-1] = min(int(ends[-1]), last)
    else:
        days = local_days(curve.open_ns, zone)
        at = np.flatnonzero(np.diff(days, append=days[-1] + 1))
        ends, values = curve.close_ns[at], curve.equity[at]
    return np.concatenate((curve.open_ns[:1], ends)), np.concatenate(([cash], values))


def returns_of(daily: Floats) -> Floats:
    """Return of each day, as a fraction. A day that begins with nothing (or less) returns 0."""
    before, after = daily[:-1], daily[1:]
    if len(before) and before.min() <= 0:
        return np.divide(after - before, before, out=np.zeros(len(before)), where=before > 0)
    return after / before - 1


def local_days(at_ns: Ints, zone: str) -> Ints:
    """The local day of each moment, as days since 1970. Moments are in order."""
    return (at_ns + zone_offsets(at_ns, zone)) // DAY_NS


def zone_offsets(at_ns: Ints, zone: str) -> Ints:
    """Nanoseconds that a zone's clocks are ahead of UTC at each moment, which are in order."""
    if not len(at_ns) or zone == "UTC":
        return np.zeros(len(at_ns), np.int64)
    # Clocks change on an hour, so asking once an hour that has a bar would do; asking once a day and then looking
    # closer only into days that differ costs a hundredth of that.
    first, last = int(at_ns[0]) // DAY_NS, int(at_ns[-1]) // DAY_NS + 1
    marks: list[int] = []
    offsets: list[int] = []
    for day in range(first, last + 1):
        offset = _offset_ns(zone, day * DAY_NS // SECOND_NS)
        if offsets and offset != offsets[-1]:
            for quarter in range((day - 1) * 96 + 1, day * 96 + 1):
                at = quarter * 900
                if _offset_ns(zone, at) == offset:
                    marks.append(at * SECOND_NS)
                    offsets.append(offset)
                    break
        elif not offsets:
            marks.append(day * DAY_NS)
            offsets.append(offset)
    return np.array(offsets, np.int64)[np.searchsorted(np.array(marks, np.int64), at_ns, side="right") - 1]


@lru_cache(maxsize=65_536)
def _offset_ns(zone: str, at_s: int) -> int:
    offset = dt.datetime.fromtimestamp(at_s, ZoneInfo(zone)).utcoffset()
    assert offset is not None
    return int(offset.total_seconds()) * SECOND_NS


class DrawdownSummary(msgspec.Struct, frozen=True):
    """How far, how long and how painfully an account was below its best."""

    deepest: float  # share of the best
    ulcer: float | None  # root of the mean square
    longest_ns: int


class Fall(Protocol):
    """Walks over equity that had been at most `best`, lastly at `at_ns`, and was never below it for more than
    `longest_ns`: sets `share` to each bar's drawdown, and gives those three as they are at the end.
    """

    def __call__(
        self, equity: Floats, ends_ns: Ints, best: float, at_ns: int, longest_ns: int, share: Floats
    ) -> tuple[float, int, int]: ...


def fall(
    equity: Floats, ends_ns: Ints, best: float, at_ns: int, longest_ns: int, share: Floats
) -> tuple[float, int, int]:
    """A `Fall` in numpy."""
    share[:] = drawdowns(equity, best)
    peaks = np.flatnonzero(share == 0)
    if len(peaks):
        # A drawdown lasts until the bar that is back at its peak; bars that are all peaks are none.
        longest_ns = max(longest_ns, int(ends_ns[peaks[0]]) - at_ns)
        if len(peaks) > 1:
            longest_ns = max(longest_ns, int(np.diff(ends_ns[peaks]).max()))
        at_ns = int(ends_ns[peaks[-1]])
    return max(best, float(equity.max())), at_ns, longest_ns


def drawdown_summary(equity: Floats, open_ns: Ints, close_ns: Ints, cash: float, walk: Fall = fall) -> DrawdownSummary:
    """Drawdown of every bar, from the cash at the start on."""
    if not len(equity):
        return DrawdownSummary(0.0, None, 0)
    deepest, squares, longest_ns = 0.0, 0.0, 0
    best, at_ns = cash, int(open_ns[0])  # the last peak: what it was worth, and when
    room = np.empty(min(_BLOCK, len(equity)))
    for start in range(0, len(equity), _BLOCK):  # blocks that stay in the processor's cache: three times as fast
        part, ends = equity[start : start + _BLOCK], close_ns[start : start + _BLOCK]
        share = room[: len(part)]
        best, at_ns, longest_ns = walk(part, ends, best, at_ns, longest_ns, share)
        deepest = max(deepest, float(share.max()))
        share *= share
        squares += float(share.sum())
    longest_ns = max(longest_ns, int(close_ns[-1]) - at_ns)
    return DrawdownSummary(deepest, math.sqrt(squares / len(equity)), longest_ns if deepest > 0 else 0)


def drawdowns(equity: Floats, best: float) -> Floats:
    """1 - equity / the most it had been, which was `best` before the first entry."""
    peak = _running_best(equity, best)
    np.divide(equity, peak, out=peak)
    return np.subtract(1.0, peak, out=peak)


def _running_best(equity: Floats, best: float) -> Floats:
    """`np.maximum.accumulate` from `best` on. That goes number by number; most rows of them hold no new best."""
    whole = len(equity) - len(equity) % _ROW
    rows = equity[:whole].reshape(-1, _ROW)
    tops = rows.max(1)
    before = np.maximum.accumulate(np.concatenate(((best,), tops)))
    peak = np.empty(len(equity))
    filled = peak[:whole].reshape(-1, _ROW)
    filled[:] = before[:-1, None]
    rising = np.flatnonzero(tops > before[:-1])
    filled[rising] = np.maximum(np.maximum.accumulate(rows[rising], axis=1), before[rising, None])
    np.maximum(np.maximum.accumulate(equity[whole:]), before[-1], out=peak[whole:])
    return peak


def _mean_share(part: Floats, whole: Floats) -> float:
    if whole.min() > 0:
        return float((part / whole).mean())
    return float(np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0).mean())


# ---------------------------------------------------------------- from a digest to its numbers


def measure(run: Result | Digest, risk_free_percent: float = 0.0) -> Metrics:
    """Every number of a run. `risk_free_percent` is a year's interest on idle money, taken off the daily returns."""
    d = digest(run) if isinstance(run, Result) else run
    total = d.final_equity / d.cash - 1
    years = d.elapsed_ns / YEAR_NS
    cagr = None
    if d.elapsed_ns >= SHORTEST_CAGR_NS:
        if d.final_equity <= 0:
            cagr = -1.0
        elif math.log(d.final_equity / d.cash) < years * 700:  # beyond that no float64 holds it
            cagr = (d.final_equity / d.cash) ** (1 / years) - 1
    returns = returns_of(d.daily)
    wins, losses = d.profits[d.profits > 0], d.profits[d.profits < 0]
    won, lost = float(wins.sum()), -float(losses.sum())
    count = len(d.profits)
    expectancy = _mean(d.profits) if count else None
    spread = _deviation(d.profits)
    winning_streak, losing_streak = _longest(d.profits > 0), _longest(d.profits < 0)
    return Metrics(
        final_equity=d.final_equity,
        total_return_percent=total * 100,
        cagr_percent=_percent(cagr),
        buy_and_hold_percent=_percent(d.hold_final / d.cash - 1 if d.hold_final is not None else None),
        best_day_percent=float(returns.max()) * 100 if len(returns) else None,
        worst_day_percent=float(returns.min()) * 100 if len(returns) else None,
        **_of_returns(returns, d.year_days, risk_free_percent),
        calmar=cagr / d.max_drawdown if cagr is not None and d.max_drawdown > 0 else None,
        recovery_factor=total / d.max_drawdown if d.max_drawdown > 0 else None,
        max_drawdown_percent=d.max_drawdown * 100,
        longest_drawdown_days=d.longest_drawdown_ns / DAY_NS,
        ulcer_percent=_percent(d.ulcer),
        trades=count,
        win_rate_percent=len(wins) / count * 100 if count else None,
        profit_factor=won / lost if lost > 0 else None,
        payoff=(won / len(wins)) / (lost / len(losses)) if len(wins) and len(losses) else None,
        expectancy=expectancy,
        expectancy_r=_mean_known(d.profits / d.risks) if len(d.risks) else None,
        sqn=math.sqrt(min(count, 100)) * expectancy / spread if spread and expectancy is not None else None,
        average_trade_percent=_mean(d.profit_percents) if count else None,
        best_trade_percent=float(d.profit_percents.max()) if count else None,
        worst_trade_percent=float(d.profit_percents.min()) if count else None,
        mfe_percent=_mean_known(d.best_percents),
        mae_percent=_mean_known(d.worst_percents),
        average_bars=_mean(d.bars_held) if len(d.bars_held) else None,
        winning_streak=winning_streak,
        losing_streak=losing_streak,
        exposure_percent=_percent(d.exposure),
        average_exposure_percent=_percent(d.average_exposure),
        turnover=d.traded / d.average_equity / years if d.average_equity and d.average_equity > 0 and years else None,
        fees=d.fees,
        year_days=d.year_days,
    )


def sharpe_of(returns: Floats) -> float | None:
    """Mean over deviation (ddof 1) of the returns given, not made yearly. None without a spread."""
    spread = _deviation(returns)
    return _mean(returns) / spread if spread else None


def _of_returns(returns: Floats, year_days: int, risk_free_percent: float) -> dict[str, float | None]:
    names = ("sharpe", "sortino", "omega", "volatility_percent", "var_percent", "cvar_percent")
    values: dict[str, float | None] = dict.fromkeys(names)
    if not len(returns):
        return values
    excess = returns - risk_free_percent / 100 / year_days if risk_free_percent else returns
    mean, root = _mean(excess), math.sqrt(year_days)
    below = np.minimum(excess, 0.0)
    downside = math.sqrt(_mean(below * below))
    if downside > 0:
        values["sortino"] = mean / downside * root
        values["omega"] = float(np.maximum(excess, 0.0).sum()) / -float(below.sum())
    if len(returns) > 1:
        spread = _deviation(excess)
        values["sharpe"] = mean / spread * root if spread else None
        values["volatility_percent"] = (spread or 0.0) * root * 100
        edge = _quantile(returns, 0.05)
        values["var_percent"] = edge * 100
        values["cvar_percent"] = _mean(returns[returns <= edge]) * 100
    return values


def _deviation(values: Floats) -> float | None:
    """Standard deviation (ddof 1); None where there is none beyond what rounding leaves."""
    if len(values) < 2:
        return None
    centred = values - _mean(values)
    spread = math.sqrt(float((centred * centred).sum()) / (len(values) - 1))
    return spread if spread > 1e-12 * float(np.abs(values).max()) else None


def _quantile(values: Floats, share: float) -> float:
    """The linear quantile, as `np.quantile` has it, at a tenth of its time."""
    place = share * (len(values) - 1)
    low = int(place)
    ordered = np.partition(values, (low, min(low + 1, len(values) - 1)))
    below, above = float(ordered[low]), float(ordered[min(low + 1, len(values) - 1)])
    return below + (above - below) * (place - low)


def _longest(hits: NDArray[np.bool_]) -> int:
    """Length of the longest run of true values."""
    fences = np.flatnonzero(np.concatenate(((True,), ~hits, (True,))))
    return int((fences[1:] - fences[:-1]).max()) - 1


def _mean(values: Floats | Ints) -> float:
    """As `np.mean`, without its overhead, which is most of the time of a short array."""
    return float(values.sum()) / len(values)


def _mean_known(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return _mean(known) if len(known) else None


def _percent(share: float | None) -> float | None:
    return None if share is None else share * 100
