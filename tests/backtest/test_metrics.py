"""Each number of a run against the reference's values, against slower words for the same thing, and where undefined."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.backtest.examples import crossing, upbit_days, walk
from watchhamster.backtest.breakdown import (
    by_hour,
    by_weekday,
    compare,
    curve_table,
    distribution,
    drawdown_periods,
    exposure,
    fills_table,
    monthly,
    rolling_sharpe,
    trades_table,
)
from watchhamster.backtest.definitions import DEFINITIONS, GROUPS, Unit, shown
from watchhamster.backtest.landscape import heat_map, heat_maps, neighbourhood
from watchhamster.backtest.metrics import (
    DAY_NS,
    Digest,
    Metrics,
    daily_equity,
    digest,
    drawdown_summary,
    local_days,
    measure,
    returns_of,
    sharpe_of,
    zone_offsets,
)
from watchhamster.backtest.results import Curve, Result
from watchhamster.backtest.run import backtest
from watchhamster.backtest.strategy import read
from watchhamster.core.bars import Bars, Floats
from watchhamster.core.timeframes import SECOND_NS

HOUR_NS = 3600 * SECOND_NS


def flat_curve(equity: list[float] | Floats, step_ns: int = DAY_NS, start_ns: int = 0, **given: object) -> Result:
    """A result of nothing but its curve."""
    opens = start_ns + np.arange(len(equity), dtype=np.int64) * step_ns
    values = np.array(equity, np.float64)
    base = crossing(walk(2))
    curve = Curve(opens, opens + step_ns, values, np.zeros(len(equity)), np.zeros(len(equity), np.int64))
    fields = {"curve": curve, "cash": 100.0, "zone": "UTC", "trades": (), "fills": (), "hold": values, **given}
    return msgspec.structs.replace(base, **fields)


# ---------------------------------------------------------------- the reference's numbers


def test_the_reference_equity() -> None:
    result = flat_curve([110, 99, 108.9, 120, 114, 126])
    run, metrics = digest(result), measure(result)
    returns = returns_of(run.daily)
    assert returns.mean() == pytest.approx(0.0428652554, abs=5e-11)
    assert returns.std(ddof=1) == pytest.approx(0.0926770147, abs=5e-11)
    assert metrics.sharpe == pytest.approx(8.8364904502, abs=5e-11)
    assert math.sqrt((np.minimum(returns, 0) ** 2).mean()) == pytest.approx(0.0456435465, abs=5e-11)
    assert metrics.sortino == pytest.approx(17.9420667006, abs=5e-11)
    assert metrics.max_drawdown_percent == pytest.approx(10.0)
    assert metrics.ulcer_percent == pytest.approx(4.58257569, abs=5e-9)
    assert metrics.var_percent == pytest.approx(-8.75)
    assert metrics.total_return_percent == pytest.approx(26.0)
    assert metrics.volatility_percent == pytest.approx(0.0926770147 * math.sqrt(365) * 100, abs=1e-6)
    assert metrics.cagr_percent is None  # six days
    assert metrics.calmar is None


def test_the_reference_trades() -> None:
    profits = np.array([120, -50, 80, -30, -20, 200, -60, 40], np.float64)
    run = Digest(
        cash=1000,
        final_equity=1280,
        elapsed_ns=8 * DAY_NS,
        year_days=365,
        daily=np.array([1000.0, 1280]),
        profits=profits,
        profit_percents=profits / 10,
    )
    metrics = measure(run)
    assert profits.std(ddof=1) == pytest.approx(92.5820099773, abs=5e-11)
    assert (metrics.profit_factor, metrics.payoff, metrics.expectancy) == (2.75, 2.75, 35.0)
    assert metrics.sqn == pytest.approx(1.0692676622, abs=5e-11)
    assert (metrics.trades, metrics.win_rate_percent) == (8, 50.0)
    assert (metrics.winning_streak, metrics.losing_streak) == (1, 2)
    assert (metrics.best_trade_percent, metrics.worst_trade_percent) == (20.0, -6.0)


def test_yearly_growth() -> None:
    """A year is 31,557,600 seconds, and less than 30 days say nothing of it."""
    equity = [100 * 1.001**n for n in range(1, 366)]
    metrics = measure(flat_curve(equity))
    assert metrics.cagr_percent == pytest.approx(((equity[-1] / 100) ** (31_557_600 / (365 * 86_400)) - 1) * 100)
    assert metrics.sharpe is None  # the same return every day has no spread
    assert metrics.sortino is None
    assert measure(flat_curve(equity[:29])).cagr_percent is None
    assert measure(flat_curve(equity[:30])).cagr_percent is not None


def test_an_account_that_is_lost() -> None:
    equity = [100.0] * 40 + [0.0] * 40
    metrics = measure(flat_curve(equity))
    assert metrics.cagr_percent == -100.0
    assert metrics.max_drawdown_percent == 100.0
    assert metrics.worst_day_percent == -100.0


def test_a_growth_beyond_numbers_is_not_defined() -> None:
    assert measure(flat_curve([1e60] * 31)).cagr_percent is None


def test_nothing_at_all_is_no_error() -> None:
    metrics = measure(flat_curve([]))
    assert (metrics.final_equity, metrics.trades, metrics.sharpe, metrics.exposure_percent) == (100.0, 0, None, None)
    metrics = measure(flat_curve([100.0] * 50))
    assert (metrics.total_return_percent, metrics.max_drawdown_percent, metrics.longest_drawdown_days) == (0, 0, 0)
    assert (metrics.sharpe, metrics.profit_factor, metrics.win_rate_percent, metrics.recovery_factor) == (None,) * 4


def test_sharpe_of_minutes_is_that_of_days() -> None:
    """A drifting minute equity, flat more than half of the time: 2.598 by UTC days, not 2.465 by its minutes."""
    rng = np.random.default_rng(7)
    returns = rng.normal(0, 0.0006, 525_600) + 1.2e-6
    returns[rng.random(525_600) < 0.55] = 0
    start = int(np.datetime64("2023-01-01", "ns").astype(np.int64))
    result = flat_curve((1e6 * np.cumprod(1 + returns)).astype(np.float64), 60 * SECOND_NS, start, cash=1e6)
    daily = digest(result).daily
    assert len(daily) == 366
    assert (sharpe_of(returns_of(daily)[1:]) or 0) * math.sqrt(365) == pytest.approx(2.598, abs=5e-4)
    assert (sharpe_of(returns) or 0) * math.sqrt(525_600) == pytest.approx(2.465, abs=5e-4)


# ---------------------------------------------------------------- days


def test_daily_equity_is_at_midnight_utc() -> None:
    """Hours from 22:00: the first day has two bars; the bar that ends at midnight belongs to the day before."""
    result = flat_curve([float(n) for n in range(1, 30)], HOUR_NS, 22 * HOUR_NS)
    ends, values = daily_equity(result)
    assert [end // HOUR_NS for end in ends.tolist()] == [22, 24, 48, 51]
    assert values.tolist() == [100.0, 2.0, 26.0, 29.0]


def test_days_without_a_bar_count_where_markets_never_close() -> None:
    opens = np.array([0, 3, 4], np.int64) * DAY_NS
    curve = Curve(opens, opens + DAY_NS, np.array([101.0, 102, 103]), np.zeros(3), np.zeros(3, np.int64))
    always = flat_curve([1.0], curve=curve)
    assert daily_equity(always)[1].tolist() == [100, 101, 101, 101, 102, 103]
    sessions = flat_curve([1.0], curve=curve, year_days=252)
    assert daily_equity(sessions)[1].tolist() == [100, 101, 102, 103]


def test_sessions_end_with_their_last_bar() -> None:
    """Half-hour bars of New York: 21:00 UTC is the same local day, 02:00 UTC would be too."""
    base = int(np.datetime64("2024-07-01T13:30", "ns").astype(np.int64))
    opens = np.array([base, base + 6 * HOUR_NS, base + 12 * HOUR_NS, base + 24 * HOUR_NS], np.int64)
    curve = Curve(opens, opens + HOUR_NS // 2, np.array([1.0, 2, 3, 4]), np.zeros(4), np.zeros(4, np.int64))
    result = flat_curve([1.0], curve=curve, year_days=252, zone="America/New_York")
    assert daily_equity(result)[1].tolist() == [100, 3, 4]


@pytest.mark.parametrize("zone", ["Asia/Seoul", "America/New_York", "Europe/London", "Australia/Lord_Howe", "UTC"])
def test_zone_offsets_agree_with_the_clocks(zone: str) -> None:
    import datetime as dt
    from zoneinfo import ZoneInfo

    times = int(np.datetime64("2023-12-30", "ns").astype(np.int64)) + np.arange(0, 900 * 24, 3) * HOUR_NS // 2
    expected = [
        int(dt.datetime.fromtimestamp(t // SECOND_NS, ZoneInfo(zone)).utcoffset().total_seconds()) * SECOND_NS  # type: ignore[union-attr]
        for t in times.tolist()
    ]
    assert zone_offsets(times, zone).tolist() == expected
    assert local_days(times, zone).tolist() == [(t + o) // DAY_NS for t, o in zip(times, expected, strict=True)]


@given(st.lists(st.floats(1, 1000), min_size=1, max_size=200))
def test_drawdowns_by_a_plain_loop(equity: list[float]) -> None:
    best, at, deepest, longest, squares = 100.0, 0, 0.0, 0, 0.0
    for n, value in enumerate(equity):
        if value >= best:
            best, longest, at = value, max(longest, n + 1 - at), n + 1
        share = 1 - value / best
        deepest, squares = max(deepest, share), squares + share * share
    longest = max(longest, len(equity) - at)
    times = np.arange(len(equity) + 1, dtype=np.int64)
    found = drawdown_summary(np.array(equity), times[:-1], times[1:], 100.0)
    assert found.deepest == pytest.approx(deepest)
    assert found.ulcer == pytest.approx(math.sqrt(squares / len(equity)))
    assert found.longest_ns == (longest if deepest else 0)


def test_drawdowns_of_a_long_curve_are_those_of_its_blocks() -> None:
    """A hundred thousand bars are read in several blocks; nothing is lost between them."""
    equity = walk(100_000, minutes=1).close / 500_000
    times = np.arange(100_001, dtype=np.int64)
    found = drawdown_summary(equity, times[:-1], times[1:], 100.0)
    peak = np.maximum(np.maximum.accumulate(equity), 100.0)
    share = 1 - equity / peak
    tops = np.concatenate(([0], np.flatnonzero(share == 0) + 1, [100_000]))
    assert found.deepest == share.max()
    assert found.ulcer == pytest.approx(math.sqrt((share**2).mean()), rel=1e-12)
    assert found.longest_ns == np.diff(tops).max()


# ---------------------------------------------------------------- a whole run


@pytest.fixture(scope="module")
def bars() -> Bars:
    return walk(6000)


@pytest.fixture(scope="module")
def result(bars: Bars) -> Result:
    return crossing(bars)


def test_a_run_adds_up(result: Result) -> None:
    metrics = measure(result)
    assert metrics.trades == len(result.trades) > 50
    profits = [trade.profit for trade in result.trades]
    still = sum(trade.profit for trade in result.open_trades)
    assert result.cash + sum(profits) + still == pytest.approx(metrics.final_equity, rel=1e-12)
    assert metrics.fees == pytest.approx(sum(t.fees for t in (*result.trades, *result.open_trades)))
    assert metrics.expectancy == pytest.approx(sum(profits) / len(profits))
    assert metrics.exposure_percent == pytest.approx((result.curve.positions > 0).mean() * 100)
    assert metrics.expectancy_r is None  # no trade had a stop
    assert metrics.mae_percent is not None
    assert metrics.mae_percent < 0 < (metrics.mfe_percent or 0)
    assert metrics.average_exposure_percent == pytest.approx(exposure(result.curve).mean())


def test_scripts_find_the_names_of_the_contract(result: Result) -> None:
    promised = (
        "total_return_percent cagr_percent sharpe sortino calmar max_drawdown_percent trades win_rate_percent "
        "profit_factor expectancy exposure_percent final_equity buy_and_hold_percent"
    )
    found = msgspec.to_builtins(measure(result))
    assert set(promised.split()) <= set(found)
    assert msgspec.json.decode(msgspec.json.encode(measure(crossing(walk(2))))) == msgspec.to_builtins(
        measure(crossing(walk(2)))
    )  # no NaN, no infinity


def test_every_number_is_defined_once() -> None:
    """All fields but P itself have a definition, and nothing else does; texts say something."""
    assert set(Metrics.__struct_fields__) - {"year_days"} == set(DEFINITIONS)
    assert {definition.group for definition in DEFINITIONS.values()} == set(GROUPS)
    for name, definition in DEFINITIONS.items():
        assert definition.name == name
        assert str(definition.meaning).endswith(".")
        assert definition.formula
        assert definition.explanation.splitlines()[-1] == definition.formula


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "ratio", "–"),
        (-0.001, "ratio", "0.00"),
        (-12.345, "percent", "−12.35\u00a0%"),
        (1234567.8, "money", "1,234,568"),
        (12.345, "money", "12.35"),
        (0.12345, "money", "0.1235"),
        (3, "days", "3.0 days"),
        (0, "days", "0 days"),
        (250.4, "days", "250 days"),
        (33.33, "bars", "33.3 bars"),
        (1500, "count", "1,500"),
    ],
)
def test_numbers_as_people_read_them(value: float | None, unit: Unit, text: str) -> None:
    assert shown(value, unit) == text
    assert shown(5.0, "percent", signed=True) == "+5.00\u00a0%"


def test_the_same_numbers_from_what_a_trial_sends_home(result: Result) -> None:
    sent = msgspec.structs.asdict(digest(result))
    assert measure(Digest(**sent)) == measure(result)


def test_interest_is_taken_off_the_returns(result: Result) -> None:
    returns = returns_of(digest(result).daily) - 0.0365 / 365
    metrics = measure(result, risk_free_percent=3.65)
    assert metrics.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1) * math.sqrt(365))


CROSS = """
name = "Golden cross"
timeframe = "1h"
[entry]
long = "sma(close, 10) > sma(close, 30)"
[[exit]]
name = "dead cross"
when = "sma(close, 10) <= sma(close, 30)"
[costs]
fee_percent = 0.05
"""


def test_the_kernel_s_run_measures_as_the_plain_loop_s(bars: Bars, result: Result) -> None:
    """But for buy and hold, which begins after the warm-up there, and how far trades went within their last bar."""
    found = measure(backtest(read(CROSS), {"upbit:KRW-BTC": bars}, zone="Asia/Seoul"))
    expected = measure(result)
    for name in set(Metrics.__struct_fields__) - {"buy_and_hold_percent", "mfe_percent", "mae_percent"}:
        value = getattr(expected, name)
        assert getattr(found, name) == (value if value is None else pytest.approx(value, rel=1e-9)), name


# ---------------------------------------------------------------- taken apart


def test_months_make_the_year(result: Result) -> None:
    years = monthly(result)
    total = 1.0
    for year in years:
        grown = 1.0
        for month in year.months:
            grown *= 1 + (month or 0.0) / 100
        assert year.total == pytest.approx((grown - 1) * 100)
        total *= 1 + year.total / 100
    assert total == pytest.approx(float(result.curve.equity[-1]) / result.cash)
    assert [year.year for year in years] == [2024]
    assert [month is not None for month in years[0].months] == [True] * 9 + [False] * 3


def test_months_end_at_the_zone_s_midnight() -> None:
    """Seoul's January ended at 15:00 UTC."""
    start = int(np.datetime64("2024-01-31T12:00", "ns").astype(np.int64))
    curve = [100.0, 110.0, 120.0, 60.0, 90.0]
    years = monthly(flat_curve(curve, HOUR_NS, start, zone="Asia/Seoul"))
    assert [years[0].months[0], years[0].months[1]] == pytest.approx([20.0, -25.0])
    january, february, *_rest = monthly(flat_curve(curve, HOUR_NS, start))[0].months
    assert january == pytest.approx(-10.0)
    assert february is None
    assert monthly(flat_curve([])) == ()


def test_hours_and_weekdays_hold_every_trade(result: Result) -> None:
    for buckets in (by_hour(result), by_weekday(result)):
        assert sum(bucket.trades for bucket in buckets) == len(result.trades)
        assert sum(bucket.profit for bucket in buckets) == pytest.approx(sum(t.profit for t in result.trades))
    # 2024-01-01 was a Monday; the first entry is known.
    entry = result.trades[0].entry_ns + 9 * HOUR_NS
    assert by_hour(result)[entry // HOUR_NS % 24].trades
    days = (entry - int(np.datetime64("2024-01-01", "ns").astype(np.int64))) // DAY_NS
    assert by_weekday(result)[days % 7].trades


def test_drawdown_periods(result: Result) -> None:
    result = flat_curve([110, 99, 108.9, 120, 114, 90, 126, 125])
    found = drawdown_periods(result)
    assert [round(period.depth_percent, 6) for period in found] == [25.0, 10.0, round(100 / 126, 6)]
    assert [(p.peak_ns // DAY_NS, p.trough_ns // DAY_NS, p.end_ns and p.end_ns // DAY_NS) for p in found] == [
        (3, 5, 6),
        (0, 1, 3),
        (6, 7, None),
    ]
    assert [period.days for period in found] == [3, 3, 1]
    assert drawdown_periods(flat_curve([101, 102])) == ()
    assert drawdown_periods(flat_curve([90, 95]))[0].peak_ns == 0


def test_the_deepest_period_is_the_metric(result: Result) -> None:
    assert drawdown_periods(result)[0].depth_percent == pytest.approx(measure(result).max_drawdown_percent)


def test_rolling_sharpe_ends_with_its_window(result: Result) -> None:
    times, ratio = rolling_sharpe(result, 60)
    ends, daily = daily_equity(result)
    returns = returns_of(daily)
    assert len(times) == len(ratio) == len(returns) - 59
    assert times[-1] == ends[-1]
    last = returns[-60:]
    assert ratio[-1] == pytest.approx(last.mean() / last.std(ddof=1) * math.sqrt(365))
    assert np.isnan(rolling_sharpe(flat_curve([100.0] * 100))[1]).all()
    assert len(rolling_sharpe(flat_curve([100.0] * 10))[1]) == 0


@given(st.lists(st.floats(-50, 80), min_size=1, max_size=300))
def test_a_distribution_counts_everyone_over_round_edges(values: list[float]) -> None:
    found = distribution(values)
    assert sum(found.counts) == len(values)
    assert len(found.edges) == len(found.counts) + 1
    assert len(found.counts) <= 33
    steps = np.diff(found.edges)
    assert steps == pytest.approx(np.full(len(steps), steps[0]), rel=1e-6)


def test_an_exposure_is_a_share_of_the_account(result: Result) -> None:
    values = exposure(result.curve)
    assert values.max() == pytest.approx(100.0)
    assert values.min() == 0.0


def test_columns_hold_what_the_result_holds(result: Result) -> None:
    trades, fills, curve = trades_table(result), fills_table(result), curve_table(result)
    assert trades["profit"] == [trade.profit for trade in (*result.trades, *result.open_trades)]
    assert {len(column) for column in trades.values()} == {len(result.trades) + len(result.open_trades)}
    assert fills["reason"] == [fill.reason for fill in result.fills]
    assert curve["equity"] is result.curve.equity
    assert {len(column) for column in curve.values()} == {len(result.curve)}
    assert curve["drawdown_percent"].max() == pytest.approx(measure(result).max_drawdown_percent)


def test_columns_become_parquet(result: Result, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, table in (("trades", trades_table(result)), ("curve", curve_table(result))):
        pq.write_table(pa.table(table), tmp_path / name)
        assert pq.read_table(tmp_path / name).column_names == list(table)


# ---------------------------------------------------------------- side by side, and around the best


def test_runs_side_by_side(bars: Bars, result: Result) -> None:
    other = crossing(bars.slice(1000, 6000), fast=5, slow=60)
    found = compare({"a": (result, measure(result)), "b": (other, measure(other))})
    assert found.names == ("a", "b")
    row = next(row for row in found.rows if row.definition.name == "max_drawdown_percent")
    assert row.best == (row.values.index(min(v for v in row.values if v is not None)),)
    assert next(row for row in found.rows if row.definition.name == "trades").best == ()
    assert found.curves[0][0] == 100.0
    assert np.isnan(found.curves[1][0])
    assert found.curves[1][-1] == pytest.approx(float(other.curve.equity[-1]) / other.cash * 100)
    assert len(found.at_ns) == len(found.curves[0]) == len(found.curves[1])


class Trial(msgspec.Struct):
    parameters: dict[str, float]
    metrics: dict[str, float | None]


def test_a_plateau_is_stable_and_a_needle_is_not() -> None:
    def hill(height: dict[tuple[int, int], float]) -> list[Trial]:
        return [
            Trial({"fast": x, "slow": y, "fixed": 1}, {"sharpe": height.get((x, y), 0.5)})
            for x in range(5, 55, 5)
            for y in range(20, 220, 20)
        ]

    plateau = hill({(x, y): 2.0 for x in (20, 25, 30) for y in (80, 100, 120)})
    needle = hill({(25, 100): 2.0})
    for trials, stability in ((plateau, 1.0), (needle, 0.25)):
        best = next(t for t in trials if t.parameters["fast"] == 25 and t.parameters["slow"] == 100)
        found = neighbourhood(trials, best, "sharpe")
        assert found is not None
        assert len(found.values) == 8
        assert found.stability == pytest.approx(stability)


def test_a_lone_trial_has_no_neighbours() -> None:
    only = Trial({"a": 1}, {"sharpe": 1.0, "sqn": None})
    found = neighbourhood([only], only, "sharpe")
    assert found is not None
    assert found.stability is None
    assert neighbourhood([only], only, "sqn") is None


def test_a_heat_map_holds_the_median_of_a_cell() -> None:
    trials = [
        Trial({"a": a, "b": b, "c": c}, {"m": a * 100 + b * 10 + c}) for a in (1, 2) for b in (3, 4, 5) for c in (6, 8)
    ]
    found = heat_map(trials, "m", "a", "b", best=trials[-1])
    assert (found.xs, found.ys, found.best) == ((1, 2), (3, 4, 5), (2, 1))
    assert found.values.tolist() == [[137.0, 237.0], [147.0, 247.0], [157.0, 257.0]]
    assert [(m.x, m.y) for m in heat_maps(trials, "m")] == [("a", "b"), ("a", "c"), ("b", "c")]
    trials[0].metrics["m"] = trials[1].metrics["m"] = None
    assert math.isnan(heat_map(trials, "m", "a", "b").values[0, 0])


def test_a_random_search_is_mapped_in_parts() -> None:
    rng = np.random.default_rng(2)
    trials = [Trial({"a": x, "b": y}, {"m": x + y}) for x, y in rng.random((500, 2)).tolist()]
    found = heat_map(trials, "m", "a", "b", trials[0])
    assert found.values.shape == (24, 24)
    assert np.nanmin(found.values) < 0.3
    assert np.nanmax(found.values) > 1.7


def test_recorded_days(shared_data: Path) -> None:
    """A year of KRW-BTC: the curve in Seoul's days and in ours are the same, since both begin at 00:00 UTC."""
    bars = upbit_days(shared_data)
    result = crossing(bars, fast=5, slow=20, timeframe="1d")
    metrics = measure(result)
    assert len(daily_equity(result)[1]) == len(bars) + 1
    assert metrics.buy_and_hold_percent == pytest.approx((bars.close[-1] / bars.open[0] / 1.0005 - 1) * 100)
    assert 0 < (metrics.exposure_percent or 0) < 100
