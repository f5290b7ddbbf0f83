"""How far a result can be trusted: was it found, or was it searched for until it appeared?

Whoever tries a thousand parameter sets on one piece of history will find a good one there, also in noise. So each
number here asks what luck alone would have shown: given how many trials were run on the data (all of them, not those
of the last search), how long the record is, how the neighbours of the best fare, and what is left when the market is
a little less kind. `assess` gathers what is known, grades each finding, and ends in one plain sentence.

Returns are daily and as fractions, Sharpe ratios are per observation (divide a yearly one by √P). Randomness comes
from the generator that is passed in, so the same seed gives the same answer.

Sources: Bailey, López de Prado, "The Sharpe Ratio Efficient Frontier" (2012) and "The Deflated Sharpe Ratio" (2014);
Bailey, Borwein, López de Prado, Zhu, "The Probability of Backtest Overfitting" (2015); White, "A Reality Check for
Data Snooping" (2000); Hansen, "A Test for Superior Predictive Ability" (2005); Politis, Romano, "The Stationary
Bootstrap" (1994).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from statistics import NormalDist
from typing import Final, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from watchhamster.backtest.metrics import DAY_NS, Digest, Metrics, returns_of, sharpe_of
from watchhamster.core.bars import Floats, Ints
from watchhamster.core.text import Text

EULER_GAMMA: Final = 0.5772156649015329
_NORMAL: Final = NormalDist()
_AT_ONCE: Final = 1 << 20  # numbers held while resampling

# ---------------------------------------------------------------- the Sharpe ratio, deflated


class Moments(msgspec.Struct, frozen=True):
    """What the Sharpe ratio of a sample is judged by."""

    observations: int
    sharpe: float  # per observation, deviation with ddof 1
    skew: float = 0.0
    kurtosis: float = 3.0  # 3 for normal returns

    @property
    def _variance(self) -> float:
        """Of the estimated Sharpe ratio, times T - 1 (Mertens 2002)."""
        return 1 - self.skew * self.sharpe + (self.kurtosis - 1) / 4 * self.sharpe**2


def moments(returns: Floats) -> Moments | None:
    """Moments of a sample (population skew and kurtosis); None where it has no spread."""
    sharpe = sharpe_of(returns)
    if sharpe is None:
        return None
    centred = returns - returns.mean()
    squares = centred * centred
    variance = float(squares.mean())
    skew, kurtosis = float((squares * centred).mean()) / variance**1.5, float((squares * squares).mean()) / variance**2
    return Moments(len(returns), sharpe, skew, kurtosis)


def probabilistic_sharpe(sample: Moments, benchmark: float = 0.0) -> float | None:
    """Chance that the true Sharpe ratio lies above the benchmark (PSR). None for moments no sample can have."""
    if sample._variance <= 0:
        return None
    root = math.sqrt(sample.observations - 1)
    return _NORMAL.cdf((sample.sharpe - benchmark) * root / math.sqrt(sample._variance))


def expected_best(trials: int) -> float:
    """B(N): the mean of the best of N draws from a standard normal; 0 for one."""
    if trials < 2:
        return 0.0
    return (1 - EULER_GAMMA) * _NORMAL.inv_cdf(1 - 1 / trials) + EULER_GAMMA * _NORMAL.inv_cdf(
        1 - 1 / (trials * math.e)
    )


def deflated_sharpe(sample: Moments, trials: int, variance: float) -> float | None:
    """PSR against the Sharpe ratio that the best of so many worthless trials shows (DSR).

    `variance` is that of the trials' Sharpe ratios, per observation.
    """
    return probabilistic_sharpe(sample, math.sqrt(variance) * expected_best(trials))


def least_track_record(sample: Moments, benchmark: float = 0.0, confidence: float = 0.95) -> float | None:
    """How many observations such a Sharpe ratio needs to be above the benchmark. None: no number is enough."""
    if sample.sharpe <= benchmark or sample._variance <= 0:
        return None
    return 1 + sample._variance * (_NORMAL.inv_cdf(confidence) / (sample.sharpe - benchmark)) ** 2


def years_by_luck(trials: int, sharpe: float = 1.0) -> float:
    """In how many years' data the best of so many worthless trials shows this yearly Sharpe ratio."""
    return (expected_best(trials) / sharpe) ** 2


# ---------------------------------------------------------------- does the best inside stay good outside?


class Overfitting(msgspec.Struct, frozen=True):
    """What combinatorially symmetric cross-validation found. N and S belong beside the number: it varies with both."""

    probability: float  # share of splits whose best inside was in the worse half outside
    trials: int  # N
    blocks: int  # S
    splits: int
    median_logit: float


def overfitting_probability(returns: Floats, blocks: int = 10) -> Overfitting | None:
    """PBO by CSCV, of returns as days by trials. Trials without a spread count as a Sharpe ratio of 0.

    `blocks` is even. None where there are fewer than two trials, or two days a block.
    """
    if blocks < 2 or blocks % 2:
        raise ValueError("the number of blocks is even")
    days, trials = returns.shape
    length = days // blocks
    if trials < 2 or length < 2:
        return None
    used = returns[: length * blocks]
    # Sums and sums of squares of a block are enough for any union of blocks. Taking the mean off first keeps digits.
    centre = used.mean(0)
    parts = (used - centre).reshape(blocks, length, trials)
    sums, squares = parts.sum(1), (parts * parts).sum(1)
    halves = np.array(list(combinations(range(blocks), blocks // 2)))
    inside = np.zeros((len(halves), blocks))
    np.put_along_axis(inside, halves, 1.0, axis=1)
    logits: list[NDArray[np.float64]] = []
    step = max(1, _AT_ONCE // trials)
    for start in range(0, len(halves), step):
        chosen = inside[start : start + step]
        best = _sharpes(chosen @ sums, chosen @ squares, length * blocks // 2, centre).argmax(1)
        outside = _sharpes((1 - chosen) @ sums, (1 - chosen) @ squares, length * blocks // 2, centre)
        rank = 1 + (outside < np.take_along_axis(outside, best[:, None], 1)).sum(1)
        share = rank / (trials + 1)
        logits.append(np.log(share / (1 - share)))
    found = np.concatenate(logits)
    return Overfitting(float((found <= 0).mean()), trials, blocks, len(found), float(np.median(found)))


def _sharpes(sums: Floats, squares: Floats, count: int, centre: Floats) -> Floats:
    """Sharpe ratios from sums of centred values and of their squares."""
    mean = sums / count
    variance = (squares - sums * mean) / (count - 1)
    size = mean + centre
    real = variance > 1e-24 * np.maximum(squares / count, size * size)
    return np.divide(size, np.sqrt(variance, where=real, out=np.ones_like(size)), where=real, out=np.zeros_like(size))


# ---------------------------------------------------------------- is the best better than chance?


def stationary_draws(generator: np.random.Generator, days: int, draws: int = 2000, mean_block: float = 10.0) -> Ints:
    """Row numbers of resampled histories, draws by days: blocks of random length that wrap around the end."""
    restart = generator.random((draws, days)) < 1 / mean_block
    restart[:, 0] = True
    starts = generator.integers(0, days, (draws, days))
    steps = np.arange(days)
    last = np.maximum.accumulate(np.where(restart, steps, 0), axis=1)
    return (np.take_along_axis(starts, last, 1) + steps - last) % days


class Snooping(msgspec.Struct, frozen=True):
    """Chance that the best of worthless trials looks this good on this much data."""

    reality_check: float  # White
    superior_ability: float  # Hansen's consistent one


def snooping(excess: Floats, draws: Ints) -> Snooping:
    """White's reality check and Hansen's test, of returns above the benchmark as days by trials.

    `draws` are from `stationary_draws`. Trials that never differ from the benchmark are left out.
    """
    days = len(excess)
    excess = excess[:, excess.std(0) > 0]
    if not excess.shape[1]:
        return Snooping(1.0, 1.0)
    root, mean = math.sqrt(days), excess.mean(0)
    means = np.empty((len(draws), excess.shape[1]))
    step = max(1, _AT_ONCE // days)
    for start in range(0, len(draws), step):
        # How often each day was drawn, times the days: the mean of every trial in one product.
        part = draws[start : start + step]
        rows = np.arange(len(part))[:, None] * days
        counts = np.bincount((part + rows).ravel(), minlength=len(part) * days).reshape(len(part), days)
        means[start : start + step] = counts @ excess / days
    white = (root * (means - mean)).max(1) >= root * mean.max()
    scale = root * means.std(0)
    score = root * mean / scale
    # Trials so bad that they cannot matter keep their own mean, or they would make the best look less rare.
    kept = score >= -math.sqrt(2 * math.log(math.log(days))) if days > 15 else np.ones(len(score), bool)
    hansen = np.maximum(0.0, (root * (means - mean * kept) / scale).max(1)) >= max(0.0, float(score.max()))
    return Snooping(float(white.mean()), float(hansen.mean()))


# ---------------------------------------------------------------- other orders, worse markets


def shuffled_drawdowns(profits: Floats, cash: float, generator: np.random.Generator, shuffles: int = 1000) -> Floats:
    """Deepest drawdown, as a share, of the same trades in other orders; each keeps its share of the account."""
    before = cash + np.cumsum(profits) - profits
    shares = np.maximum(np.divide(profits, before, out=np.zeros(len(profits)), where=before > 0), -1.0)
    if not len(shares):
        return np.zeros(shuffles)
    deepest = np.empty(shuffles)
    step = max(1, _AT_ONCE // len(shares))
    for start in range(0, shuffles, step):
        rows = min(step, shuffles - start)
        growth = np.cumprod(1 + generator.permuted(np.tile(shares, (rows, 1)), axis=1), axis=1)
        peak = np.maximum(np.maximum.accumulate(growth, axis=1), 1.0)
        deepest[start : start + rows] = 1 - (growth / peak).min(1)
    return deepest


class Change(msgspec.Struct, frozen=True):
    """A way in which a run is made harder."""

    costs: float = 1.0  # fees and slippage, times this
    later_bars: int = 0  # entries are filled so many bars later
    random_entries: int | None = None  # seed: as many entries, at random bars, the same exits


class Stress(msgspec.Struct, frozen=True):
    """What one metric became under worse conditions. None where it was not defined."""

    metric: str
    base: float | None
    doubled_costs: float | None
    one_bar_later: float | None
    random: tuple[float | None, ...] = ()

    @property
    def random_probability(self) -> float | None:
        """Share of random entries (and the run itself) that did at least as well."""
        if not self.random or self.base is None:
            return None
        return (1 + sum(value is not None and value >= self.base for value in self.random)) / (1 + len(self.random))


def stress(
    base: Metrics, run: Callable[[Change], Metrics], seeds: Iterable[int] = (), metric: str = "total_return_percent"
) -> Stress:
    """Run it again with costs doubled, one bar later, and with random entries, one run a seed."""

    def value(change: Change) -> float | None:
        found: float | None = getattr(run(change), metric)
        return found

    return Stress(
        metric,
        getattr(base, metric),
        value(Change(costs=2.0)),
        value(Change(later_bars=1)),
        tuple(value(Change(random_entries=seed)) for seed in seeds),
    )


# ---------------------------------------------------------------- the verdict

Mark: TypeAlias = Literal["good", "fair", "poor"]
Grade: TypeAlias = Literal["trustworthy", "plausible", "doubtful", "fragile", "overfitted", "losing", "too_few"]
FEWEST_TRADES: Final = 30

GRADES: Final[dict[Grade, Text]] = {
    "trustworthy": Text("Trustworthy"),
    "plausible": Text("Plausible"),
    "doubtful": Text("Doubtful"),
    "fragile": Text("Fragile"),
    "overfitted": Text("Likely overfitted"),
    "losing": Text("Loses money"),
    "too_few": Text("Too little to judge"),
}


class Check(msgspec.Struct, frozen=True):
    """One question put to a result."""

    name: str
    label: Text
    value: Text  # short: for a table
    mark: Mark
    finding: Text  # a clause that says it: for the verdict
    meaning: Text  # why it is asked


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about how far a result can be trusted. None where it could not be reckoned."""

    grade: Grade
    verdict: Text
    checks: tuple[Check, ...]
    trials: int  # N: every trial ever run on the data
    days: int
    probabilistic_sharpe: float | None = None
    deflated_sharpe_probability: float | None = None
    least_track_record_days: float | None = None
    years_by_luck: float | None = None
    pbo: float | None = None
    pbo_trials: int | None = None
    pbo_blocks: int | None = None
    reality_check_p: float | None = None
    superior_ability_p: float | None = None
    stability: float | None = None
    shuffled_drawdown_percent: float | None = None
    stress: Stress | None = None


def assess(
    run: Digest,
    metrics: Metrics,
    generator: np.random.Generator,
    *,
    trials: int = 1,
    trial_returns: Floats | None = None,
    stability: float | None = None,
    stressed: Stress | None = None,
    blocks: int = 10,
    draws: int = 2000,
) -> Trust:
    """Everything that can be said of a run, graded.

    `trials` counts all trials ever run on this data, `trial_returns` are the daily returns (days by trials) of those
    that are known, the chosen one among them; `stability` is from `landscape.neighbourhood`.
    """
    returns = returns_of(run.daily)
    sample = moments(returns)
    psr = dsr = record = luck = None
    over: Overfitting | None = None
    snooped: Snooping | None = None
    if sample is not None:
        psr = probabilistic_sharpe(sample)
        record = least_track_record(sample)
    if trial_returns is not None and trial_returns.shape[1] > 1:
        trials = max(trials, trial_returns.shape[1])
        sharpes = [s for s in map(sharpe_of, trial_returns.T) if s is not None]
        if sample is not None and len(sharpes) > 1:
            dsr = deflated_sharpe(sample, trials, float(np.var(sharpes, ddof=1)))
        over = overfitting_probability(trial_returns, blocks)
        if len(trial_returns) > 15:
            snooped = snooping(trial_returns, stationary_draws(generator, len(trial_returns), draws))
    elif trials <= 1:
        dsr = psr  # nothing was searched, nothing is deflated
    if trials > 1:
        luck = years_by_luck(trials)
    shuffled = None
    if len(run.profits) > 1:
        shuffled = float(np.quantile(shuffled_drawdowns(run.profits, run.cash, generator), 0.95)) * 100

    checks = tuple(
        check
        for check in (
            _trades_check(metrics),
            _sharpe_check(dsr, trials),
            _overfitting_check(over),
            _snooping_check(snooped, trials),
            _stability_check(stability),
            _record_check(record, len(returns), run.elapsed_ns / DAY_NS),
            _holding_check(metrics),
            *_stress_checks(stressed),
            _shuffled_check(shuffled, metrics),
        )
        if check is not None
    )
    grade = _grade(checks, metrics, trials, dsr)
    return Trust(
        grade=grade,
        verdict=verdict(grade, checks),
        checks=checks,
        trials=trials,
        days=len(returns),
        probabilistic_sharpe=psr,
        deflated_sharpe_probability=dsr,
        least_track_record_days=record,
        years_by_luck=luck,
        pbo=over.probability if over else None,
        pbo_trials=over.trials if over else None,
        pbo_blocks=over.blocks if over else None,
        reality_check_p=snooped.reality_check if snooped else None,
        superior_ability_p=snooped.superior_ability if snooped else None,
        stability=stability,
        shuffled_drawdown_percent=shuffled,
        stress=stressed,
    )


_SELECTION: Final = ("sharpe", "overfitting", "snooping", "stability")
_FRAGILE: Final = ("doubled_costs", "one_bar_later")
# What a grade is explained by: marks, in order, and the checks that are named first.
_EVIDENCE: Final[dict[Grade, tuple[tuple[Mark, ...], tuple[str, ...]]]] = {
    "trustworthy": (("good",), _SELECTION),
    "plausible": (("fair", "good"), ()),
    "doubtful": (("poor", "fair"), ()),
    "fragile": (("poor", "fair"), _FRAGILE),
    "overfitted": (("poor", "fair"), _SELECTION),
    "losing": (("poor",), ("holding",)),
    "too_few": (("poor",), ("trades",)),
}
_NAMED: Final = 3  # findings in a verdict


def verdict(grade: Grade, checks: Sequence[Check]) -> Text:
    """One plain sentence: the grade, and the findings that decided it."""
    marks, first = _EVIDENCE[grade]
    ranked = [check for mark in marks for check in checks if check.mark == mark]
    ranked.sort(key=lambda check: check.name not in first)
    if grade in ("too_few", "losing"):  # nothing else matters
        ranked = ranked[:1]
    findings = [check.finding for check in ranked[:_NAMED]]
    if not findings:
        return Text("{grade}.", {"grade": GRADES[grade]})
    why = findings[0]
    for other in findings[1:]:
        why = Text("{one}; {other}", {"one": why, "other": other})
    return Text("{grade}: {why}.", {"grade": GRADES[grade], "why": why})


def _grade(checks: Sequence[Check], metrics: Metrics, trials: int, dsr: float | None) -> Grade:
    marks = {check.name: check.mark for check in checks}
    poor = [name for name, mark in marks.items() if mark == "poor"]
    selection = [name for name in _SELECTION if name in poor]
    if metrics.trades < FEWEST_TRADES:
        return "too_few"
    if metrics.total_return_percent <= 0:
        return "losing"
    if trials > 1 and (len(selection) > 1 or "overfitting" in selection or (dsr is not None and dsr < 0.5)):
        return "overfitted"
    if any(name in poor for name in _FRAGILE):
        return "fragile"
    if poor:
        return "doubtful"
    sure = all(marks[name] == "good" for name in (*_SELECTION, "record") if name in marks)
    return "trustworthy" if sure and "sharpe" in marks else "plausible"


def _mark(good: bool, fair: bool) -> Mark:
    return "good" if good else "fair" if fair else "poor"


def _percents(share: float, digits: int = 0) -> Text:
    return Text("{percent:.1f} %" if digits else "{percent:.0f} %", {"percent": share * 100})


def _trades_check(metrics: Metrics) -> Check:
    n = metrics.trades
    return Check(
        "trades",
        Text("Closed trades"),
        Text("{n:,}", {"n": n}),
        _mark(n >= 100, n >= FEWEST_TRADES),
        Text("it made only {n} trades", {"n": n}) if n < 100 else Text("it made {n:,} trades", {"n": n}),
        Text("Below 30 anything may be chance; from 100 on the averages settle."),
    )


def _sharpe_check(dsr: float | None, trials: int) -> Check | None:
    if dsr is None:
        return None
    values = {"p": dsr * 100, "n": trials}
    return Check(
        "sharpe",
        Text("Deflated Sharpe ratio") if trials > 1 else Text("Probabilistic Sharpe ratio"),
        _percents(dsr, 1),
        _mark(dsr >= 0.95, dsr >= 0.8),
        Text("the chance that its Sharpe ratio beats the luck of {n:,} trials is {p:.0f} %", values)
        if trials > 1
        else Text("the chance that its true Sharpe ratio is above zero is {p:.0f} %", values),
        Text(
            "The chance that there is skill, after allowing for the number of trials, the length of the record, and "
            "skewed, fat-tailed returns. 95 % or more is convincing."
        ),
    )


def _overfitting_check(over: Overfitting | None) -> Check | None:
    if over is None:
        return None
    p = over.probability
    values = {"p": p * 100, "n": over.trials, "s": over.blocks}
    return Check(
        "overfitting",
        Text("Probability of overfitting"),
        Text("{p:.0f} % (N {n:,}, S {s})", values),
        _mark(p <= 0.2, p <= 0.5),
        Text("in {p:.0f} % of the splits the best inside was in the worse half outside", values),
        Text(
            "History is cut into S blocks; the best of N trials on each half of them is ranked on the other half. "
            "Noise gives about 50 %; below 20 % is good."
        ),
    )


def _snooping_check(snooped: Snooping | None, trials: int) -> Check | None:
    if snooped is None:
        return None
    p = snooped.superior_ability
    values = {"p": p * 100, "white": snooped.reality_check * 100, "n": trials}
    return Check(
        "snooping",
        Text("Data snooping, p"),
        Text("{p:.1f} % (White {white:.1f} %)", values),
        _mark(p <= 0.05, p <= 0.2),
        Text("the best of worthless trials looks as good in {p:.1f} % of resampled histories", values),
        Text(
            "How often the best of as many trials without any edge does as well on resampled history. "
            "Below 5 % is convincing."
        ),
    )


def _stability_check(stability: float | None) -> Check | None:
    if stability is None:
        return None
    values = {"p": stability * 100}
    return Check(
        "stability",
        Text("Neighbours of the best"),
        Text("{p:.0f} %", values),
        _mark(stability >= 0.7, stability >= 0.4),
        Text("parameters next to the best reach {p:.0f} % of it", values),
        Text("Median of the neighbouring parameters against the best. A real edge is a plateau, not a needle."),
    )


def _record_check(record: float | None, observations: int, days: float) -> Check | None:
    if record is None:
        return None
    need = record * days / max(1, observations)
    values = {"need": need, "have": days, "factor": need / days if days else 0.0}
    return Check(
        "record",
        Text("Least track record"),
        Text("{need:,.0f} of {have:,.0f} days", values),
        _mark(days >= need, days * 2 >= need),
        Text("such a Sharpe ratio needs {need:,.0f} days to show, and there are {have:,.0f}", values),
        Text("How long a record must be for this Sharpe ratio to be above zero with 95 % certainty."),
    )


def _holding_check(metrics: Metrics) -> Check | None:
    hold = metrics.buy_and_hold_percent
    if hold is None:
        return None
    ours = metrics.total_return_percent
    share = (metrics.average_exposure_percent or 0.0) / 100
    values = {"ours": ours, "hold": hold}
    return Check(
        "holding",
        Text("Against buy and hold"),
        Text("{ours:+,.1f} % against {hold:+,.1f} %", values),
        _mark(ours > hold, ours > 0 and ours >= hold * share),
        Text("it made {ours:+,.1f} % where holding made {hold:+,.1f} %", values),
        Text(
            "Buying once and waiting is the cheapest rival there is. Who is seldom in the market should make at least "
            "that share of it."
        ),
    )


def _stress_checks(stressed: Stress | None) -> list[Check]:
    if stressed is None or stressed.base is None:
        return []
    base, found = stressed.base, []
    for name, label, value, meaning in (
        ("doubled_costs", Text("Costs doubled"), stressed.doubled_costs, Text("Fees and slippage twice as high.")),
        (
            "one_bar_later",
            Text("One bar later"),
            stressed.one_bar_later,
            Text("Entries filled a bar late. An edge that one bar eats will not survive a real market."),
        ),
    ):
        if value is None:
            continue
        values = {"value": value, "base": base, "unit": " %" if stressed.metric.endswith("_percent") else ""}
        kept = base > 0 and value >= base / 2
        found.append(
            Check(
                name,
                label,
                Text("{value:+,.1f}{unit} of {base:+,.1f}{unit}", values),
                _mark(kept, value > 0),
                Text("with costs doubled {base:+,.1f}{unit} becomes {value:+,.1f}{unit}", values)
                if name == "doubled_costs"
                else Text("entering one bar later {base:+,.1f}{unit} becomes {value:+,.1f}{unit}", values),
                meaning,
            )
        )
    p = stressed.random_probability
    if p is not None:
        values = {"p": p * 100, "n": len(stressed.random)}
        found.append(
            Check(
                "random",
                Text("Random entries, p"),
                Text("{p:.0f} % of {n}", values),
                _mark(p <= 0.05, p <= 0.2),
                Text("{p:.0f} % of runs with random entries did as well", values),
                Text("The same number of entries at random bars, with the same exits. Below 5 % the entries matter."),
            )
        )
    return found


def _shuffled_check(shuffled: float | None, metrics: Metrics) -> Check | None:
    if shuffled is None:
        return None
    seen = metrics.max_drawdown_percent
    values = {"p": shuffled, "seen": seen}
    return Check(
        "shuffled",
        Text("Drawdown of shuffled trades, 95 %"),
        Text("{p:.1f} %", values),
        _mark(shuffled <= max(20.0, 1.5 * seen), shuffled <= 50.0),
        Text("the same trades in another order may fall {p:.0f} % where {seen:.0f} % was seen", values),
        Text("The same trades in a thousand other orders: one in twenty fell deeper than this. Plan for it."),
    )
