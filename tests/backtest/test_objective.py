"""Backtests as what is optimised: what a worker sends home is the run's, day by day."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.backtest.planted import COUNT, SPAN, market
from tests.backtest.test_optimise import here
from tests.storage.kit import FixedClock
from watchhamster.backtest.methods import Axis
from watchhamster.backtest.metrics import DAY_NS, digest, measure, returns_of
from watchhamster.backtest.objective import Backtests, axes_of
from watchhamster.backtest.optimise import Optimisation, constraints, goals, optimise
from watchhamster.backtest.run import History, backtest
from watchhamster.backtest.search import ConditionSearch, Vocabulary
from watchhamster.backtest.strategy import read
from watchhamster.backtest.trials import unpack_held, unpack_returns
from watchhamster.backtest.trust import Change
from watchhamster.engine.clock import SystemClock
from watchhamster.engine.searching import search
from watchhamster.engine.workers import WorkerPool
from watchhamster.storage.desk import DeskStore

STRATEGY = read("""
name = "Low RSI"
[parameters.n]
default = 14
min = 8
max = 20
step = 2
[parameters.level]
default = 30
min = 20
max = 45
step = 5
[parameters.bars]
default = 3
[entry]
long = "rsi(close, n) < level"
[protect]
max_bars = "bars"
[costs]
fee_percent = 0.05
""")
AXES = (Axis("n", 8, 20, 2, True, 14), Axis("level", 20, 45, 5, True, 30))


@pytest.fixture
def history() -> History:
    return History({"x:Y": market()}, "1h")


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[DeskStore]:
    desk = DeskStore(tmp_path / "watchhamster.db", FixedClock())
    desk.open()
    yield desk
    desk.close()


def test_axes_are_the_parameters_with_a_range() -> None:
    assert axes_of(STRATEGY) == AXES
    text = 'name = "x"\n[entry]\nlong = "close > x * open"\n[parameters.x]\ndefault = 1.5\nmin = 1\nmax = 2\n'
    assert axes_of(read(text)) == (Axis("x", 1, 2, None, False, 1.5),)


def test_a_score_is_the_run_in_short(history: History) -> None:
    since, until = 100 * 3600 * 10**9, SPAN[1]
    objective = Backtests(STRATEGY, fixed={"bars": 5}, compiled=False)
    (score,) = objective.score(history, [{"n": 10, "level": 35}], (since, until), Change())
    run = backtest(STRATEGY, history, parameters={"n": 10, "level": 35, "bars": 5}, since_ns=since, until_ns=until)
    metrics = measure(run)
    assert score.metrics["sharpe"] == metrics.sharpe
    assert score.metrics["trades"] == metrics.trades == len(run.trades) > 20
    returns = unpack_returns(score.returns)
    assert returns.tolist() == returns_of(digest(run).daily).astype(np.float32).tolist()
    entries, exits = unpack_held(score.held)
    first = since // DAY_NS
    assert entries.tolist() == [trade.entry_ns // DAY_NS - first for trade in run.trades]
    assert exits.tolist() == [(trade.exit_ns or 0) // DAY_NS - first for trade in run.trades]
    assert len(returns) == (until - 1) // DAY_NS - first + 1


def test_harder_times_change_the_score(history: History) -> None:
    objective = Backtests(STRATEGY, compiled=False)
    changes = (Change(), Change(costs=2.0), Change(later_bars=1), Change(random_entries=1))
    totals = [objective.score(history, [{"n": 14, "level": 30}], SPAN, c)[0].metrics["final_equity"] for c in changes]
    assert len(set(totals)) == 4
    assert max(total or 0 for total in totals) == totals[0]


def test_formulas_take_the_place_of_the_entry(history: History) -> None:
    long = Backtests(STRATEGY, compiled=False)
    short = msgspec.structs.replace(long, side="short")
    text = "rsi(close, 14) < 30"
    (up,) = long.score(history, [text], SPAN, Change())
    (same,) = long.score(history, [{"n": 14, "level": 30}], SPAN, Change())
    (down,) = short.score(history, [text], SPAN, Change())
    assert up == same
    assert (down.metrics["total_return_percent"] or 0) < 0 < (up.metrics["total_return_percent"] or 0)
    assert len(long.bars(history, (0, COUNT * 3600 * 10**9 // 2))) == COUNT // 2


def test_the_planted_parameters_are_found(history: History) -> None:
    plan = Optimisation(
        run="grid", axes=AXES, method="grid", goals=goals("sharpe"), span=SPAN, trials=0, constraints=constraints([])
    )
    found = here(optimise(plan, Backtests(STRATEGY, fixed={"bars": 1}, compiled=False)), history)
    assert sum(trial.stage == "search" for trial in found.trials) == 7 * 6
    assert found.best is not None
    assert abs(found.best.parameters["n"] - 14) <= 4
    assert abs(found.best.parameters["level"] - 30) <= 5


async def test_searches_are_kept_counted_and_go_on(history: History, desk: DeskStore) -> None:
    objective = Backtests(STRATEGY, compiled=False)
    plan = Optimisation(
        run="first", axes=AXES, method="random", goals=goals("sharpe"), span=SPAN, trials=12, constraints=()
    )
    conditions = ConditionSearch(
        run="second", goal=goals("sharpe")[0], span=SPAN, trials=16, population=8, vocabulary=Vocabulary(("rsi",))
    )
    async with WorkerPool(size=1) as pool:
        first = await search(plan, objective, history, pool, desk, clock=SystemClock(), content={"file": "low.toml"})
        again = await search(plan, objective, history, pool, desk, clock=SystemClock())
        second = await search(conditions, objective, history, pool, desk, clock=SystemClock())
    assert again.line() == first.line()
    assert [found.name for found in desk.searches()] == ["first", "second"]
    kept = desk.searches()[0]
    assert kept.content["file"] == "low.toml"
    assert msgspec.convert(kept.content["plan"], Optimisation) == plan
    assert kept.trials == len(first.trials)
    assert first.trust is not None
    assert second.trust is not None
    assert first.trust.trials == desk.trials_on(history.fingerprint, besides="second")
    assert second.trust.trials == desk.trials_on(history.fingerprint)
