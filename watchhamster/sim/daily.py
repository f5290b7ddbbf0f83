"""Daily prices of everything: a market factor and each instrument's own, in regimes, with volatility that clusters.

Log prices follow a tide that gives the chart believable years, and wander around it: each step is the factor's times
beta plus one's own, with GARCH(1, 1) variances, fat tails and a Markov regime for the whole market. Crosses follow
from their legs.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from watchhamster.sim.listings import BY_SYMBOL, LISTINGS, Floats

_EPOCH = dt.date(1970, 1, 1)
FIRST_DAY = (dt.date(2017, 9, 25) - _EPOCH).days
YEAR = 366  # days made at a time

# Where the whole market stood, KRW millions a bitcoin: believable years for charts, not a record of them.
_TIDE = (
    ("2017-09-25", 4.3),
    ("2017-12-20", 21),
    ("2018-02-06", 8.5),
    ("2018-12-15", 3.7),
    ("2019-06-26", 14.5),
    ("2020-03-13", 6.5),
    ("2020-12-31", 32),
    ("2021-04-14", 79),
    ("2021-07-20", 36),
    ("2021-11-09", 80),
    ("2022-06-18", 26),
    ("2022-11-21", 22),
    ("2023-10-20", 40),
    ("2024-03-14", 101),
    ("2024-08-05", 74),
    ("2025-01-20", 152),
    ("2025-04-08", 114),
    ("2025-08-14", 156),
    ("2025-11-21", 126),
    ("2026-03-01", 119),
)
_REGIMES = 4  # calm, rising, falling, wild
_REGIME_DRIFT = np.array([0.0, 0.004, -0.004, 0.0])
_REGIME_VARIANCE = np.array([0.45, 0.9, 1.1, 3.2])
_REGIME_NEXT = np.cumsum(
    [[0.96, 0.015, 0.015, 0.01], [0.03, 0.94, 0.01, 0.02], [0.03, 0.01, 0.93, 0.03], [0.05, 0.02, 0.03, 0.90]], axis=1
)
_DAILY_VOLATILITY = 0.019  # of the market factor


def keyed(seed: int, key: int, part: int) -> np.random.Generator:
    """The generator of one part of the world: counter-based, so that no part depends on another."""
    return np.random.Generator(np.random.Philox(key=(seed & (2**64 - 1)) << 64 | key, counter=part << 128))


class DailyPrices:
    """Log prices and daily volatilities, `YEAR` days at a time from `FIRST_DAY` on."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._years: list[tuple[Floats, Floats]] = []
        self._state: tuple[int, Floats, Floats] | None = None  # at the end of the last year

    def prepare(self, until_day: int) -> Iterator[None]:
        """Make what is missing up to this day, a year a step."""
        while FIRST_DAY + len(self._years) * YEAR <= until_day:
            self._years.append(self._make(len(self._years)))
            yield

    def years(self, until_day: int) -> int:
        """How many years there are; at least one, and as many as this day needs."""
        for _ in self.prepare(max(until_day, FIRST_DAY)):
            pass
        return len(self._years)

    def year(self, number: int) -> tuple[Floats, Floats]:
        """Log prices and volatilities of a year, shapes (YEAR, listings)."""
        return self._years[number]

    def _make(self, number: int) -> tuple[Floats, Floats]:
        """A year of log prices and volatilities of everything, carrying on from the year before.

        The market factor is the last column until it is mixed into the instruments by their betas.
        """
        rng = keyed(self._seed, 0, number)
        n = len(LISTINGS)
        beta = np.array([listing.beta for listing in LISTINGS])
        own = np.array([*(listing.volatility for listing in LISTINGS), _DAILY_VOLATILITY])
        tame = np.append(np.abs(beta) < 0.1, False)  # pegged to a currency
        keep, bound = np.where(tame, 0.9, 0.985), np.where(tame, 0.015, 0.4)
        bound[n] = 0.23
        shocks = np.clip(rng.standard_t(5, (YEAR, n + 1)) * np.sqrt(3 / 5), -5, 5)
        chances = rng.random(YEAR)
        regime, variance, drift = self._state or (0, np.ones(n + 1), np.zeros(n + 1))
        variances, drifts = np.empty((YEAR, n + 1)), np.empty((YEAR, n + 1))
        regimes = np.empty(YEAR, np.int64)
        for i, growth in enumerate(0.84 + 0.10 * shocks * shocks):  # GARCH(1, 1), long-run variance 1
            variance = variances[i] = np.minimum(0.06 + variance * growth, 9.0)
            regime = regimes[i] = int(np.searchsorted(_REGIME_NEXT[regime], chances[i]))
        wild = _REGIME_VARIANCE[regimes]
        scale = np.sqrt(variances * (0.5 + 0.5 * wild[:, None])) * own
        scale[:, n] = np.sqrt(variances[:, n] * wild) * own[n]
        steps = scale * shocks
        steps[:, n] += _REGIME_DRIFT[regimes]
        for i, step in enumerate(steps):
            drift = drifts[i] = drift * keep + step
        self._state = regime, variance, drift
        levels = bound * np.tanh(drifts / bound)
        logs = levels[:, :n] + np.outer(levels[:, n], beta)
        volatility = np.hypot(np.outer(scale[:, n], beta), scale[:, :n])
        days = FIRST_DAY + number * YEAR + np.arange(YEAR)
        tide_days = [(dt.date.fromisoformat(day) - _EPOCH).days for day, _price in _TIDE]
        tide = np.interp(days, tide_days, np.log([price / _TIDE[-1][1] for _day, price in _TIDE]))
        logs += np.log([listing.price for listing in LISTINGS])
        logs += np.outer(tide, np.where(beta >= 1, np.minimum(beta, 1.0), np.maximum(beta, 0.0) * 0.8))
        for listing in LISTINGS:
            if listing.legs is not None:
                over, under = (BY_SYMBOL[leg].index for leg in listing.legs)
                logs[:, listing.index] = logs[:, over] - logs[:, under] + rng.normal(0, 0.0006, YEAR)
        return logs, volatility


@lru_cache(maxsize=4)
def daily_prices(seed: int) -> DailyPrices:
    """The prices of a seed, shared by all worlds of it."""
    return DailyPrices(seed)
