"""Dividends, splits and distributed gains, and prices adjusted for them.

A venue that has them prints prices already divided by every later split, so a split is never applied again; what it
does say is by how much to multiply for the price as it traded that day. A distribution takes its share off every
earlier price: with an amount D on an ex-day and the close C of the bar before, earlier closes are multiplied by
`1 - D / C` (source: Yahoo's help, "What is the adjusted close?", after CRSP; recorded series agree to 3e-7).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np

from watchhamster.core.bars import Floats, Ints
from watchhamster.core.market import Action as Action
from watchhamster.core.text import Text

_FOREVER_NS = 1 << 62


def split_words(split: Action) -> Text:
    """What a person should know of a split that is news."""
    if split.amount >= 1:
        values = {"instrument": split.instrument, "new": f"{split.amount:g}", "old": "1"}
    else:
        values = {"instrument": split.instrument, "new": "1", "old": f"{1 / split.amount:g}"}
    return Text(
        "{instrument} was split, {new} shares for {old}. Earlier prices are told in the new scale and fetched again; "
        "look over price levels of rules.",
        values,
    )


class Learned(msgspec.Struct, frozen=True):
    """What actions were news to a store, and what a new split made worthless: it is of the scale of before."""

    new: tuple[Action, ...] = ()
    stale: tuple[tuple[str, int, int], ...] = ()  # timeframe, since_ns, until_ns: to be fetched again

    @property
    def splits(self) -> list[Action]:
        """The new splits, if they made anything worthless."""
        return [action for action in self.new if action.kind == "split" and self.stale]


def adjustment(
    open_ns: Ints, close: Floats, actions: Iterable[Action], last: float = 1.0, length_ns: int | None = None
) -> Floats:
    """Factors that make prices comparable across distributions: adjusted = price x factor. Volumes stay.

    `open_ns` and `close` are one series, oldest first, of bars that last `length_ns` at most, or else until the next;
    `last` is the newest bar's factor, below 1 where distributions followed that are not among the actions. Actions
    before the first bar's end change nothing. Earlier than a distribution as large as the price itself the factor is
    NaN: such data are wrong.
    """
    return factors(open_ns, shares_left(open_ns, close, actions, length_ns), length_ns) * last


def shares_left(
    open_ns: Ints, close: Floats, actions: Iterable[Action], length_ns: int | None = None
) -> list[tuple[int, float]]:
    """What each distribution leaves of a price, with its `at_ns`, oldest first; of the series' own closes."""
    ends = _ends(open_ns, length_ns)
    paid: dict[int, tuple[int, float]] = {}
    for action in sorted(actions, key=lambda action: action.at_ns):
        if action.kind != "split":
            index = int(np.searchsorted(ends, action.at_ns, side="right"))
            if index > 0:
                at_ns, amount = paid.get(index, (action.at_ns, 0.0))
                paid[index] = (at_ns, amount + action.amount)
    left = ((at_ns, 1.0 - amount / float(close[index - 1])) for index, (at_ns, amount) in paid.items())
    return [(at_ns, share if 0.0 < share <= 1.0 else np.nan) for at_ns, share in left]


def factors(open_ns: Ints, left: Iterable[tuple[int, float]], length_ns: int | None = None) -> Floats:
    """For each bar the product of the shares left by what came after it."""
    return left_after(_ends(open_ns, length_ns), left)


def left_after(moments: Ints, left: Iterable[tuple[int, float]]) -> Floats:
    """What is left of a price of each moment by what came then and later."""
    rows = list(left)
    at_ns = np.array([at for at, _ in rows], np.int64)
    after = np.cumprod([1.0, *(share for _, share in reversed(rows))])[::-1]
    return np.ascontiguousarray(after[np.searchsorted(at_ns, moments)])


def as_traded(open_ns: Ints, actions: Iterable[Action], length_ns: int | None = None) -> Floats:
    """Factors that undo splits: as traded = price x factor, volume as traded = volume / factor."""
    ends, found = _ends(open_ns, length_ns), np.ones(len(open_ns))
    for action in actions:
        if action.kind == "split":
            found[: int(np.searchsorted(ends, action.at_ns, side="right"))] *= action.amount
    return found


def _ends(open_ns: Ints, length_ns: int | None) -> Ints:
    """When each bar is over. A bar that holds the beginning of a day has its close from that day."""
    following = np.append(open_ns, _FOREVER_NS)[1:]
    return following if length_ns is None else np.minimum(open_ns + length_ns, following)
