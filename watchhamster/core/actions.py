"""Dividends, splits and distributed gains, and prices adjusted for them.

A venue that has them prints prices already divided by every later split, so a split is never applied again; what it
does say is by how much to multiply for the price as it traded that day. A distribution takes its share off every
earlier price: with an amount D on an ex-day and the close C of the bar before, earlier closes are multiplied by
`1 - D / C` (source: Yahoo's help, "What is the adjusted close?", after CRSP; recorded series agree to 3e-7).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
import numpy as np

from watchhamster.core.bars import Floats, Ints


class Action(msgspec.Struct, frozen=True):
    """What a company or a fund did to its shares. `at_ns` lies in the first bar that trades without it."""

    instrument: str
    at_ns: int
    kind: Literal["dividend", "gain", "split"]
    amount: float  # a share, in the unit of the prices, split-adjusted as they are; for a split new shares for one old


def adjustment(open_ns: Ints, close: Floats, actions: Iterable[Action], last: float = 1.0) -> Floats:
    """Factors that make prices comparable across distributions: adjusted = price x factor. Volumes stay.

    `open_ns` and `close` are one series, oldest first; `last` is the newest bar's factor, below 1 where distributions
    followed that are not among the actions. Actions before the first bar's end change nothing. Earlier than a
    distribution as large as the price itself the factor is NaN: such data are wrong.
    """
    paid: dict[int, float] = {}
    for action in actions:
        if action.kind != "split":
            index = int(np.searchsorted(open_ns, action.at_ns, side="right")) - 1
            if index > 0:
                paid[index] = paid.get(index, 0.0) + action.amount
    ratios = np.ones(len(close))
    for index, amount in paid.items():
        ratio = 1.0 - amount / close[index - 1]
        ratios[index - 1] = ratio if 0.0 < ratio <= 1.0 else np.nan
    if len(ratios):
        ratios[-1] = last
    return np.ascontiguousarray(np.cumprod(ratios[::-1])[::-1])


def as_traded(open_ns: Ints, actions: Iterable[Action]) -> Floats:
    """Factors that undo splits: as traded = price x factor, volume as traded = volume / factor."""
    factors = np.ones(len(open_ns))
    for action in actions:
        if action.kind == "split":
            factors[: max(0, int(np.searchsorted(open_ns, action.at_ns, side="right")) - 1)] *= action.amount
    return factors
