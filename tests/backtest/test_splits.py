"""Nothing that is learnt from has seen what it is tested on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchhamster.backtest.splits import Span, apart, combinatorial, paths, three_ways, walk_forward
from watchhamster.core.ports import UsageError

periods = st.tuples(st.integers(0, 10**18), st.integers(10**6, 10**17)).map(lambda p: (p[0], p[0] + p[1]))


def covered(spans: Sequence[Span]) -> int:
    return sum(until - since for since, until in spans)


@given(periods, st.integers(1, 12), st.floats(0.1, 0.9), st.booleans())
def test_walking_forward_tests_every_later_moment_once(
    period: Span, windows: int, share: float, anchored: bool
) -> None:
    splits = walk_forward(*period, windows, share, anchored=anchored)
    tests = [split.test[0] for split in splits]
    assert tests[-1][1] == period[1]
    assert all(a[1] == b[0] for a, b in itertools.pairwise(tests))  # they stitch
    for split in splits:
        ((since, until),) = split.train
        assert period[0] <= since < until == split.test[0][0]  # the past only, right up to the test
        assert not anchored or since == period[0]
    lengths = [covered(split.train) for split in splits]
    assert lengths == sorted(lengths) if anchored else max(lengths) == min(lengths)
    first = splits[0]
    whole = covered(first.train) + covered(first.test)
    assert covered(first.train) / whole == pytest.approx(share, abs=1e-3)


@given(periods, st.integers(2, 9), st.data(), st.integers(0, 10**16), st.floats(0, 0.2))
def test_training_keeps_purge_and_embargo_from_every_test(
    period: Span, groups: int, data: st.DataObject, purge_ns: int, embargo: float
) -> None:
    tested = data.draw(st.integers(1, groups - 1))
    after_ns = int((period[1] - period[0]) * embargo)
    splits = combinatorial(*period, groups, tested, purge_ns=purge_ns, embargo=embargo)
    for split in splits:
        for since, until in split.train:
            assert period[0] <= since < until <= period[1]
            for begin, end in split.test:
                assert until <= begin - purge_ns or since >= end + after_ns
    # Without purge and embargo nothing is lost.
    for split in combinatorial(*period, groups, tested, embargo=0):
        assert covered(split.train) + covered(split.test) == period[1] - period[0]
    # Every group is tested equally often.
    edges = [span for split in splits for span in split.test]
    assert {edges.count(span) for span in edges} == {len(splits) * tested // groups}


@given(st.integers(2, 9), st.data())
def test_paths_use_every_test_once(groups: int, data: st.DataObject) -> None:
    tested = data.draw(st.integers(1, groups - 1))
    splits = combinatorial(0, 1000 * groups, groups, tested)
    found = paths(groups, tested)
    assert len(found) * groups == len(splits) * tested
    used = [(split, group) for path in found for group, split in enumerate(path)]
    assert len(set(used)) == len(used)
    for split, group in used:
        assert (1000 * group, 1000 * (group + 1)) in splits[split].test


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 80)), max_size=40), st.integers(0, 100))
def test_no_trade_that_touches_a_test_is_learnt_from(trades: list[tuple[int, int]], embargo_ns: int) -> None:
    entries = np.array([t[0] for t in trades], np.int64)
    exits = entries + np.array([t[1] for t in trades], np.int64)
    for split in combinatorial(0, 1000, 5, 2, embargo=0):
        for allowed, entry, leave in zip(apart(entries, exits, split, embargo_ns), entries, exits, strict=True):
            touched = any(entry < end + embargo_ns and leave > begin for begin, end in split.test)
            assert allowed == (not touched)


def test_three_ways_are_whole_and_in_order() -> None:
    assert three_ways(0, 100) == ((0, 60), (60, 80), (80, 100))
    with pytest.raises(UsageError):
        three_ways(0, 100, (1, 0, 1))
    with pytest.raises(UsageError):
        walk_forward(0, 3, 5)
    with pytest.raises(UsageError):
        combinatorial(0, 100, 4, 4)
