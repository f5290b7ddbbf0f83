"""The guards against fooling oneself, held against their authors' numbers and generators any language repeats."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from watchhamster.backtest.metrics import DAY_NS, Digest, Metrics, measure
from watchhamster.backtest.trust import (
    Change,
    Check,
    Mark,
    Moments,
    assess,
    deflated_sharpe,
    expected_best,
    least_track_record,
    moments,
    overfitting_probability,
    probabilistic_sharpe,
    shuffled_drawdowns,
    snooping,
    stationary_draws,
    stress,
    verdict,
    years_by_luck,
)
from watchhamster.core.bars import Floats, Ints
from watchhamster.core.text import Text


class Lcg:
    """An integer generator that gives the same numbers in every language."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def uniform(self) -> float:
        self.state = (1103515245 * self.state + 12345) % 2**31
        return self.state / 2**31

    def normal(self) -> float:
        return sum(self.uniform() for _ in range(12)) - 6.0


@pytest.fixture(scope="module")
def noise() -> Floats:
    """Returns of 20 worthless trials over 400 days."""
    draw = Lcg(1)
    return np.array([[0.01 * draw.normal() for _ in range(20)] for _ in range(400)])


@pytest.fixture(scope="module")
def one_real(noise: Floats) -> Floats:
    """The same with an edge in column 7."""
    returns = noise.copy()
    returns[:, 7] += 0.002
    return returns


@pytest.fixture(scope="module")
def history() -> Ints:
    """2,000 resampled orders of 400 days, blocks of 10 on average."""
    draw, days = Lcg(99), 400
    found = np.empty((2000, days), np.int64)
    for row in found:
        at = int(draw.uniform() * days)
        for day in range(days):
            if day:
                at = int(draw.uniform() * days) if draw.uniform() < 0.1 else (at + 1) % days
            row[day] = at
    return found


# ---------------------------------------------------------------- Sharpe ratios


def test_the_paper_s_case() -> None:
    """Bailey and López de Prado 2014: a yearly Sharpe ratio of 2.5 over five years, skewed and fat-tailed."""
    sample = Moments(1250, 2.5 / math.sqrt(250), -3.0, 10.0)
    for trials, chance in ((46, 0.950502), (100, 0.900397), (1000, 0.639915)):
        assert deflated_sharpe(sample, trials, 0.5 / 250) == pytest.approx(chance, abs=5e-7)


@pytest.mark.parametrize(("trials", "best"), [(10, 1.574598), (100, 2.530603), (1000, 3.255122)])
def test_expected_best(trials: int, best: float) -> None:
    assert expected_best(trials) == pytest.approx(best, abs=5e-7)


def test_one_trial_is_not_deflated() -> None:
    sample = Moments(500, 0.1)
    assert expected_best(1) == 0.0
    assert deflated_sharpe(sample, 1, 0.5) == probabilistic_sharpe(sample)


def test_least_track_record() -> None:
    for yearly, days in ((1, 684), (2, 173)):
        assert round(least_track_record(Moments(0, yearly / math.sqrt(252))) or 0) == days
    assert least_track_record(Moments(100, -0.1)) is None


def test_years_by_luck() -> None:
    assert [round(years_by_luck(n), 1) for n in (10, 100)] == [2.5, 6.4]


def test_moments_of_returns(noise: Floats) -> None:
    """Against the definitions, and None where nothing moves."""
    returns = noise[:, 19]
    found = moments(returns)
    assert found is not None
    z = (returns - returns.mean()) / returns.std()
    assert found.skew == pytest.approx((z**3).mean())
    assert found.kurtosis == pytest.approx((z**4).mean())
    assert found.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1))
    assert moments(np.full(10, 0.01)) is None


@pytest.mark.parametrize(("name", "best", "chance"), [("noise", 19, 0.667537), ("one_real", 7, 0.939744)])
def test_deflated_sharpe_of_the_matrix(request: pytest.FixtureRequest, name: str, best: int, chance: float) -> None:
    returns: Floats = request.getfixturevalue(name)
    sharpes = returns.mean(0) / returns.std(0, ddof=1)
    assert int(sharpes.argmax()) == best
    sample = moments(returns[:, best])
    assert sample is not None
    assert deflated_sharpe(sample, 20, float(sharpes.var(ddof=1))) == pytest.approx(chance, abs=5e-7)


# ---------------------------------------------------------------- cross-validation, bootstrap


@pytest.mark.parametrize(
    ("name", "blocks", "splits", "probability"),
    [
        ("noise", 8, 70, 0.542857),
        ("noise", 10, 252, 0.658730),
        ("one_real", 8, 70, 0.057143),
        ("one_real", 10, 252, 0.142857),
    ],
)
def test_probability_of_overfitting(
    request: pytest.FixtureRequest, name: str, blocks: int, splits: int, probability: float
) -> None:
    found = overfitting_probability(request.getfixturevalue(name), blocks)
    assert found is not None
    assert (found.trials, found.blocks, found.splits) == (20, blocks, splits)
    assert found.probability == pytest.approx(probability, abs=5e-7)


def test_overfitting_needs_something_to_compare() -> None:
    assert overfitting_probability(np.ones((400, 1))) is None
    assert overfitting_probability(np.ones((15, 5)), 10) is None
    with pytest.raises(ValueError, match="even"):
        overfitting_probability(np.ones((400, 3)), 7)


def test_trials_that_never_trade_do_not_disturb(one_real: Floats) -> None:
    """A column of zeros is a trial like any other: a Sharpe ratio of 0, never a warning or the best."""
    found = overfitting_probability(np.hstack((one_real, np.zeros((400, 3)))), 10)
    assert found is not None
    assert found.probability < 0.2


def test_reality_check_and_superior_ability(noise: Floats, one_real: Floats, history: Ints) -> None:
    found = snooping(noise, history)
    assert (round(found.reality_check, 2), round(found.superior_ability, 2)) == (0.44, 0.20)
    found = snooping(one_real, history)
    assert found.reality_check <= 0.0005
    assert found.superior_ability <= 0.0005


def test_trials_equal_to_the_benchmark_are_left_out(noise: Floats, history: Ints) -> None:
    assert snooping(np.hstack((noise, np.zeros((400, 1)))), history) == snooping(noise, history)
    assert snooping(np.zeros((400, 2)), history).superior_ability == 1.0


def test_draws_are_blocks_of_the_mean_length() -> None:
    draws = stationary_draws(np.random.default_rng(4), 300, 400, mean_block=20)
    assert draws.shape == (400, 300)
    assert draws.min() >= 0
    assert draws.max() < 300
    follows = (draws[:, 1:] - draws[:, :-1]) % 300 == 1
    assert follows.mean() == pytest.approx(0.95, abs=0.01)
    again = stationary_draws(np.random.default_rng(4), 300, 400, mean_block=20)
    assert np.array_equal(draws, again)


# ---------------------------------------------------------------- other orders


def test_shuffled_drawdowns_keep_the_trades() -> None:
    """Two orders exist for two trades: a gain of 10 % then a loss of half falls by half either way."""
    found = shuffled_drawdowns(np.array([10.0, -55.0]), 100.0, np.random.default_rng(1), 50)
    assert found == pytest.approx(np.full(50, 0.5))
    losses = shuffled_drawdowns(np.array([-10.0, -9.0, 40.5, -12.15]), 100.0, np.random.default_rng(1), 500)
    assert losses.min() == pytest.approx(1 - 0.9**2)  # three falls and one rise: two of them always meet
    assert losses.max() == pytest.approx(1 - 0.9**3)
    assert shuffled_drawdowns(np.empty(0), 100.0, np.random.default_rng(1), 3).tolist() == [0, 0, 0]


# ---------------------------------------------------------------- the verdict


def _run(returns: Floats, trades: int = 200) -> tuple[Digest, Metrics]:
    daily = 1e6 * np.concatenate(([1.0], np.cumprod(1 + returns)))
    profits = np.diff(np.interp(np.linspace(0, len(daily) - 1, trades + 1), np.arange(len(daily)), daily))
    run = Digest(
        cash=1e6,
        final_equity=float(daily[-1]),
        elapsed_ns=len(returns) * DAY_NS,
        year_days=365,
        daily=daily,
        hold_final=1.05e6,
        profits=profits,
        profit_percents=profits / 1e4,
    )
    return run, measure(run)


def _assess(returns: Floats, trades: int = 200, **known: object) -> tuple[str, str]:
    run, metrics = _run(returns, trades)
    found = assess(run, metrics, np.random.default_rng(3), draws=300, **known)  # type: ignore[arg-type]
    return found.grade, str(found.verdict)


def test_noise_is_called_overfitted(noise: Floats) -> None:
    grade, sentence = _assess(noise[:, 19], trials=1000, trial_returns=noise)
    assert grade == "overfitted"
    assert sentence.startswith("Likely overfitted: the chance that its Sharpe ratio beats the luck of 1,000 trials is")
    assert sentence.endswith(".")
    assert "in 66 % of the splits the best inside was in the worse half outside" in sentence


def test_a_strong_edge_is_trusted(noise: Floats) -> None:
    returns = noise.copy()
    returns[:, 7] += 0.004
    grade, sentence = _assess(returns[:, 7], trials=20, trial_returns=returns, stability=0.9)
    assert grade == "trustworthy"
    assert sentence.startswith("Trustworthy: the chance that its Sharpe ratio beats the luck of 20 trials is 100 %")


def test_more_trials_on_the_same_data_lower_the_trust(one_real: Floats) -> None:
    run, metrics = _run(one_real[:, 7])
    chances = [
        assess(
            run, metrics, np.random.default_rng(1), trials=n, trial_returns=one_real, draws=50
        ).deflated_sharpe_probability
        for n in (20, 200, 20_000)
    ]
    assert None not in chances
    assert chances == sorted(chances, reverse=True)  # type: ignore[type-var]
    assert len(set(chances)) == 3


def test_few_trades_and_losses_are_said_first(one_real: Floats) -> None:
    assert _assess(one_real[:, 7], trades=12) == ("too_few", "Too little to judge: it made only 12 trades.")
    lost = _run(-one_real[:, 7])[1].total_return_percent
    assert _assess(-one_real[:, 7]) == (
        "losing",
        f"Loses money: it made {lost:+.1f} % where holding made +5.0 %.",
    )


def test_costs_that_eat_the_edge_make_it_fragile(one_real: Floats) -> None:
    run, metrics = _run(one_real[:, 7])
    asked: list[Change] = []

    def again(change: Change) -> Metrics:
        asked.append(change)
        return _run(one_real[:, 7] - 0.0025 * (change.costs - 1))[1]

    harder = stress(metrics, again, seeds=(1, 2))
    assert asked == [Change(costs=2.0), Change(later_bars=1), Change(random_entries=1), Change(random_entries=2)]
    assert harder.random_probability == 1.0
    found = assess(run, metrics, np.random.default_rng(3), stressed=harder)
    assert found.grade == "fragile"
    assert "with costs doubled" in str(found.verdict)


def test_a_single_run_is_judged_without_trials(one_real: Floats) -> None:
    run, metrics = _run(one_real[:, 7])
    found = assess(run, metrics, np.random.default_rng(3))
    assert found.deflated_sharpe_probability == found.probabilistic_sharpe
    assert (found.trials, found.pbo, found.years_by_luck) == (1, None, None)
    assert {check.name for check in found.checks} == {"trades", "sharpe", "record", "holding", "shuffled"}


def test_the_same_seed_gives_the_same_answer(noise: Floats) -> None:
    assert _assess(noise[:, 3], trial_returns=noise) == _assess(noise[:, 3], trial_returns=noise)


def test_a_run_that_never_trades_is_no_error() -> None:
    grade, sentence = _assess(np.zeros(100), trades=0)
    assert (grade, sentence) == ("too_few", "Too little to judge: it made only 0 trades.")


@pytest.mark.parametrize(
    ("grade", "names"), [("doubtful", ["a", "c", "b"]), ("plausible", ["b", "d"]), ("trustworthy", ["d"])]
)
def test_a_verdict_names_what_decided_it(grade: str, names: list[str]) -> None:
    def check(name: str, mark: Mark) -> Check:
        return Check(name, Text(name), Text(name), mark, Text(name), Text(name))

    checks = (check("a", "poor"), check("b", "fair"), check("c", "poor"), check("d", "good"))
    written: Callable[..., Text] = verdict
    assert str(written(grade, checks)).partition(": ")[2] == f"{'; '.join(names)}."
