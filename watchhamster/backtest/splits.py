"""Which time is learnt from, and which is only tested on.

A set of parameters that was chosen on a span of time has seen it: what it earns there says little. Each function here
cuts a period into spans to choose on and spans to test on, so that nothing chosen has seen what tests it. Spans are
`(since_ns, until_ns)`, the end exclusive.

Source: López de Prado, "Advances in Financial Machine Learning" (2018), chapters 7 (purge, embargo) and 12 (CPCV).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from watchhamster.core.bars import Ints
from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text

Span: TypeAlias = tuple[int, int]


class Split(msgspec.Struct, frozen=True):
    """Spans to choose on, and spans to test the choice on. Both in order of time, and apart from each other."""

    train: tuple[Span, ...]
    test: tuple[Span, ...]


def walk_forward(
    since_ns: int, until_ns: int, windows: int = 5, train_share: float = 0.75, *, anchored: bool = False
) -> list[Split]:
    """Choose, apply to the time that follows, move on by that time, and again.

    The tests follow each other without a gap and end at `until_ns`, so their curves stitch into one. `train_share` is
    the training's part of a training and its test; it rolls along, or, `anchored`, always begins at `since_ns`.
    Raises `UsageError` (`bad_split`).
    """
    if windows < 1 or not 0 < train_share < 1:
        raise _refused(Text("Walking forward takes at least one window, and a training share between 0 and 1."))
    # train + windows x test = whole, with train = share / (1 - share) x test
    ratio = train_share / (1 - train_share)
    test_ns = (until_ns - since_ns) / (windows + ratio)
    edges = [until_ns - round(test_ns * (windows - n)) for n in range(windows + 1)]
    train_ns = edges[0] - since_ns
    if train_ns <= 0 or any(a >= b for a, b in pairwise(edges)):
        raise _refused(Text("The period is too short for {count} windows.", {"count": windows}))
    return [
        Split(((since_ns if anchored else edges[n] - train_ns, edges[n]),), ((edges[n], edges[n + 1]),))
        for n in range(windows)
    ]


def three_ways(since_ns: int, until_ns: int, shares: Sequence[float] = (0.6, 0.2, 0.2)) -> tuple[Span, Span, Span]:
    """Search on the first span, choose among the best on the second, and look at the third once.

    Raises `UsageError` (`bad_split`).
    """
    if len(shares) != 3 or min(shares) <= 0:
        raise _refused(Text("Three positive shares are needed: to train, to validate, to test."))
    whole, length = sum(shares), until_ns - since_ns
    first = since_ns + round(length * shares[0] / whole)
    second = since_ns + round(length * (shares[0] + shares[1]) / whole)
    if not since_ns < first < second < until_ns:
        raise _refused(Text("The period is too short to be cut in three."))
    return (since_ns, first), (first, second), (second, until_ns)


def combinatorial(
    since_ns: int, until_ns: int, groups: int, tested: int = 1, *, purge_ns: int = 0, embargo: float = 0.01
) -> list[Split]:
    """Every way to test on `tested` of so many equally long groups: purged k-fold for one, CPCV for more.

    Training keeps `purge_ns` (the longest a position is held) away before each test, and an embargo (a share of the
    whole) after it, so that no trade and no slow indicator reaches across. Raises `UsageError` (`bad_split`).
    """
    length = until_ns - since_ns
    if not 0 < tested < groups or length < groups:
        raise _refused(
            Text(
                "{tested} of {groups} groups cannot be tested: some have to be left to train on.",
                {"tested": tested, "groups": groups},
            )
        )
    embargo_ns = int(length * embargo)
    edges = [since_ns + length * n // groups for n in range(groups + 1)]
    found = []
    for chosen in combinations(range(groups), tested):
        test = tuple((edges[n], edges[n + 1]) for n in chosen)
        train = [(since_ns, until_ns)]
        for begin, end in test:
            train = [
                piece
                for since, until in train
                for piece in ((since, min(until, begin - purge_ns)), (max(since, end + embargo_ns), until))
                if piece[0] < piece[1]
            ]
        found.append(Split(tuple(train), test))
    return found


def paths(groups: int, tested: int) -> list[list[int]]:
    """Which split tests each group, for every path through all the groups that `combinatorial` makes possible.

    There are tested / groups of as many paths as splits; `paths[p][g]` is the split whose choice is tested on group
    `g` in path `p`, and each split's test of a group is used once.
    """
    testers: list[list[int]] = [[] for _ in range(groups)]
    for split, chosen in enumerate(combinations(range(groups), tested)):
        for group in chosen:
            testers[group].append(split)
    return [list(path) for path in zip(*testers, strict=True)]


def apart(entry_ns: Ints, exit_ns: Ints, split: Split, embargo_ns: int = 0) -> NDArray[np.bool_]:
    """Which trades may be learnt from: none of their time is tested on, nor begins within the embargo after a test."""
    allowed = np.ones(len(entry_ns), np.bool_)
    for begin, end in split.test:
        allowed &= (exit_ns <= begin) | (entry_ns >= end + embargo_ns)
    return allowed


def _refused(text: Text) -> UsageError:
    return UsageError("bad_split", text, Text("Take a longer period, or fewer parts."))
