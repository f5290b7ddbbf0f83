"""A rule tried on history."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.formula.series import MINUTE_NS, of_closes
from watchhamster.core.bars import Bars
from watchhamster.core.ports import UsageError
from watchhamster.monitor.alerts import Rule
from watchhamster.monitor.replay import WEEK_NS, replay

BTC = "upbit:KRW-BTC"
DAY_NS = 86400 * 10**9


def rule(formula: str, timeframe: str = "1m", **more: float) -> Rule:
    return Rule(id=1, name="tried", formula=formula, instruments=(BTC,), timeframe=timeframe, **more)  # type: ignore[arg-type]


def test_firings_carry_what_happened_then_and_after() -> None:
    closes = [9.0, 9.0, 10.0, 10.0, 9.0] + [12.0] * 5 + [9.0] * 60
    found = replay(rule("cross_above(close, 9.5)"), of_closes(*closes), BTC)
    first, second = found.firings
    assert (first.fired_ns, first.resolved_ns, first.price) == (3 * MINUTE_NS, 4 * MINUTE_NS, 10.0)
    assert first.values == {"close": 10.0}
    assert first.after == {"5m": pytest.approx(0.2), "1h": pytest.approx(-0.1), "1d": None}
    assert second.fired_ns == 6 * MINUTE_NS
    assert second.after == {"5m": -0.25, "1h": -0.25, "1d": None}
    assert found.summary.fired == 2
    assert found.summary.per_week == pytest.approx(2 * WEEK_NS / (70 * MINUTE_NS))


def test_what_is_shorter_than_a_bar_is_not_known() -> None:
    bars = of_closes(1, 2, 4)
    daily = Bars(
        np.arange(3) * DAY_NS, *(getattr(bars, c) for c in ("open", "high", "low", "close", "volume", "value"))
    )
    (fired,) = replay(rule("close == 2", "1d"), daily, BTC).firings
    assert fired.fired_ns == 2 * DAY_NS
    assert fired.after == {"5m": None, "1h": None, "1d": 1.0}


def test_minutes_without_trades_keep_the_last_price() -> None:
    bars = of_closes(1, 2, 2, 3)
    gapped = Bars(
        np.array([0, 1, 2, 30]) * MINUTE_NS,
        *(getattr(bars, c) for c in ("open", "high", "low", "close", "volume", "value")),
    )
    (fired,) = replay(rule("cross_above(close, 1.5)"), gapped, BTC).firings
    assert fired.after["5m"] == 0.0


def test_bars_before_the_period_only_warm_it_up() -> None:
    bars = of_closes(1, 5, 1, 5, 5)
    found = replay(rule("cross_above(close, sma(close, 2))"), bars, BTC, since_ns=2 * MINUTE_NS)
    assert [f.fired_ns for f in found.firings] == [4 * MINUTE_NS]
    assert (found.summary.bars, found.summary.since_ns) == (3, 2 * MINUTE_NS)
    nothing = replay(rule("close > 1"), bars, BTC, since_ns=9 * MINUTE_NS)
    assert (nothing.firings, nothing.summary.per_week) == ((), None)
    assert replay(rule("close > 1"), Bars.empty(), BTC).summary.fired == 0


def test_a_rule_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(UsageError):
        replay(rule("close"), of_closes(1), BTC)


def test_months_end_where_months_end() -> None:
    bars = of_closes(1, 2)
    monthly = Bars(
        np.array([0, 31 * DAY_NS]), *(getattr(bars, c) for c in ("open", "high", "low", "close", "volume", "value"))
    )
    (fired,) = replay(rule("close == 2", "1M"), monthly, BTC).firings
    assert fired.fired_ns == 59 * DAY_NS


def test_recorded_days(shared_data: Path) -> None:
    """The daily file of Upbit: a firing where a plain reading of the rows says so."""
    files = sorted((shared_data / "upbit").glob("*.csv"))
    if not files:
        pytest.skip("no recorded daily file")
    rows = files[0].read_text().splitlines()
    head = rows[0].lower().split(",")
    closes = [float(r.split(",")[head.index("close")]) for r in rows[1:]]
    bars = of_closes(*closes)
    days = Bars(
        np.arange(len(closes)) * DAY_NS,
        *(getattr(bars, c) for c in ("open", "high", "low", "close", "volume", "value")),
    )
    found = replay(rule("cross_above(close, highest(close, 20)[1])", "1d"), days, BTC)
    tops = [max(closes[i - 20 : i]) for i in range(20, len(closes))]
    expected = [
        (i + 1) * DAY_NS for i in range(21, len(closes)) if closes[i] > tops[i - 20] and closes[i - 1] <= tops[i - 21]
    ]
    assert [f.fired_ns for f in found.firings] == expected
