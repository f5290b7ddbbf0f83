"""What a report draws: curves, candles and trades, thinned to what an eye can see and a file can carry.

`resources/report/report.js` reads this, and only it; names and order of the fields are theirs alone. Times are seconds
since 1970, each sent as its distance from the one before. Runs that are short enough are sent whole, every number
as it is; of longer ones a point or candle stands for several bars, and their extremes are kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from watchhamster.backtest.breakdown import exposure, rolling_sharpe
from watchhamster.backtest.metrics import drawdowns
from watchhamster.backtest.results import Result, Trade
from watchhamster.core.bars import Bars, Floats, Ints
from watchhamster.core.text import _, pgettext
from watchhamster.core.timeframes import SECOND_NS, timeframe

POINTS_EXACT: Final = 8_000  # bars up to which the curves hold every one
POINTS_MOST: Final = 4_000  # of thinned curves
CANDLES_MOST: Final = 9_000  # of all instruments together
TRADES_MOST: Final = 5_000


def drawing(result: Result, candles: Mapping[str, Bars]) -> dict[str, object]:
    """What the script is given, ready for JSON."""
    times, rolling = rolling_sharpe(result)
    keep = max(1, math.ceil(len(times) / POINTS_MOST))
    trades = _listed(result)
    names = list(dict.fromkeys([*result.instruments, *(trade.instrument for trade in trades)]))
    reasons = list(dict.fromkeys(trade.exit_reason or "" for trade in trades))
    zeros, *units = pgettext("large numbers", "3 K M B T").split()
    return {
        "zone": result.zone,
        "daily": is_daily(result),
        "cash": _short(result.cash),
        "units": [[(n + 1) * int(zeros), unit] for n, unit in reversed(list(enumerate(units)))],
        "instruments": names,
        "reasons": [reason_text(reason) for reason in reasons],
        "words": {
            "equity": _("Equity"),
            "hold": _("Buy and hold"),
            "open": _("still open"),
            "sides": [_("Long"), _("Short")],
            "ohlc": pgettext("candle", "O H L C").split(),
        },
        "curve": _curve(result),
        "rolling": {"at": _deltas(times[::keep]), "value": _column(rolling[::keep], 4)},
        "series": _series(result, candles),
        "trades": {
            "first": 1 + len(result.trades) + len(result.open_trades) - len(trades),
            "instrument": [names.index(trade.instrument) for trade in trades],
            "side": [int(trade.side == "short") for trade in trades],
            "entry": _deltas(np.array([trade.entry_ns for trade in trades], np.int64)),
            "held": [None if t.exit_ns is None else _seconds(t.exit_ns - t.entry_ns) for t in trades],
            "entry_price": [_short(trade.entry_price) for trade in trades],
            "exit_price": [_short(trade.exit_price) for trade in trades],
            "size": [_short(trade.size) for trade in trades],
            "fees": [_short(trade.fees) for trade in trades],
            "profit": [_short(trade.profit) for trade in trades],
            "percent": [_short(trade.profit_percent) for trade in trades],
            "bars": [trade.bars for trade in trades],
            "reason": [reasons.index(trade.exit_reason or "") for trade in trades],
        },
    }


def _listed(result: Result) -> list[Trade]:
    """The trades that are shown, oldest entry first: of very many, the latest."""
    every = sorted((*result.trades, *result.open_trades), key=lambda trade: trade.entry_ns)
    return every[-TRADES_MOST:]


def _curve(result: Result) -> dict[str, object]:
    """The account at the close of each bar, placed where the bar opens, as candles and trades are.

    Where it is thinned, a point is the last of several bars, and `low` and `high` are what was reached in them.
    """
    curve = result.curve
    if not len(curve):
        return {"at": [], "equity": [], "hold": [], "drawdown": [], "exposure": []}
    step = bars_a_point(result)
    starts = np.arange(0, len(curve), step)
    ends = np.minimum(starts + step, len(curve)) - 1
    down = np.maximum.reduceat(drawdowns(curve.equity, result.cash), starts) * -100
    counts = ends - starts + 1
    found: dict[str, object] = {
        "at": _deltas(curve.open_ns[ends]),
        "equity": _column(curve.equity[ends]),
        "hold": _column(result.hold[ends]) if len(result.hold) == len(curve) else [],
        "drawdown": _column(down, 4),
        "exposure": _column(np.add.reduceat(exposure(curve), starts) / counts, 2),
    }
    if step > 1:
        found["low"] = _column(np.minimum.reduceat(curve.equity, starts))
        found["high"] = _column(np.maximum.reduceat(curve.equity, starts))
    return found


def bars_a_point(result: Result) -> int:
    """How many bars a point of the curves stands for."""
    count = len(result.curve)
    return 1 if count <= POINTS_EXACT else math.ceil(count / POINTS_MOST)


def _series(result: Result, candles: Mapping[str, Bars]) -> list[dict[str, object]]:
    """Candles by instrument. One that stands for several bars is placed at the middle one."""
    found: list[dict[str, object]] = []
    curve = result.curve
    if not len(curve):
        return found
    within = {name: bars.between(int(curve.open_ns[0]), int(curve.close_ns[-1])) for name, bars in candles.items()}
    known = {name: bars for name, bars in within.items() if len(bars)}
    most = max(200, CANDLES_MOST // max(1, len(known)))
    for name, bars in known.items():
        step = math.ceil(len(bars) / most)
        starts = np.arange(0, len(bars), step)
        ends = np.minimum(starts + step, len(bars)) - 1
        found.append(
            {
                "instrument": name,
                "at": _deltas(bars.open_ns[(starts + ends) // 2]),
                "open": _column(bars.open[starts]),
                "high": _column(np.maximum.reduceat(bars.high, starts)),
                "low": _column(np.minimum.reduceat(bars.low, starts)),
                "close": _column(bars.close[ends]),
            }
        )
    return found


def _deltas(times_ns: Ints) -> list[float | int]:
    """Times in seconds, each as its distance from the one before."""
    if not len(times_ns):
        return []
    if not (times_ns % SECOND_NS).any():
        return [int(n) for n in np.diff(times_ns // SECOND_NS, prepend=0).tolist()]
    return [_seconds(n) for n in np.diff(times_ns, prepend=0).tolist()]


def _seconds(ns: int) -> float | int:
    return ns // SECOND_NS if ns % SECOND_NS == 0 else ns / SECOND_NS


def _column(values: Floats, digits: int | None = None) -> list[float | int | None]:
    rounded = values if digits is None else np.round(values, digits)
    return [_short(value) for value in rounded.tolist()]


def _short(value: float | None) -> float | int | None:
    """The same number in fewer characters; what is not finite is null."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if abs(value) < 1e15 and value == int(value) else value


def is_daily(result: Result) -> bool:
    """Whether its bars are days or longer, so that times of day say nothing."""
    return timeframe(result.timeframe).approximate_ns >= 86_400 * SECOND_NS


def reason_text(reason: str) -> str:
    """Why an order was given or refused: our own words translated, an exit's name as its author wrote it."""
    own = {
        "entry": pgettext("reason", "entry"),
        "signal": pgettext("reason", "signal"),
        "stop": pgettext("reason", "stop"),
        "target": pgettext("reason", "target"),
        "trail": pgettext("reason", "trailing stop"),
        "break_even": pgettext("reason", "break-even"),
        "time": pgettext("reason", "time"),
        "reverse": pgettext("reason", "reversal"),
        "liquidated": pgettext("reason", "liquidated"),
        "delisted": pgettext("reason", "delisted"),
        "end": pgettext("reason", "end of the data"),
        "cash": pgettext("reason", "too little cash"),
        "partial": pgettext("reason", "cut to the cash"),
        "positions": pgettext("reason", "too many positions"),
        "least_total": pgettext("reason", "below the least order"),
        "lot": pgettext("reason", "less than a lot"),
        "short": pgettext("reason", "cannot be sold short"),
        "volume": pgettext("reason", "cut to the volume"),
        "price": pgettext("reason", "no price"),
        "size": pgettext("reason", "no size"),
    }
    return own.get(reason, reason)
