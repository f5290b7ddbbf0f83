"""Whatever is built, appended, revised or prepended, a frame shows what a plain loop over the candles would."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchhamster.core.bars import Bars
from watchhamster.core.market import Candle
from watchhamster.core.timeframes import timeframe
from watchhamster.ui import pyramid as module
from watchhamster.ui.pyramid import Pyramid, Slots

MINUTE = timeframe("1m")
NS = 60_000_000_000
Row = tuple[float, float, float, float, float]


@pytest.fixture(autouse=True)
def low_top(monkeypatch: pytest.MonkeyPatch) -> None:
    """Levels already above a few candles, so that small examples have several."""
    monkeypatch.setattr(module, "_TOP", 4)


def _row(seed: int) -> Row:
    """An arbitrary candle whose numbers are exact in float32."""
    open_, close = 1000.0 + seed * 37 % 91, 1000.0 + seed * 53 % 97
    return open_, max(open_, close) + seed % 5, min(open_, close) - seed % 7, close, float(seed % 11)


def _candle(slot: int, row: Row) -> Candle:
    o, h, lo, c, v = row
    return Candle("upbit:KRW-BTC", "1m", slot * NS, o, h, lo, c, v, None, True, "live")


def _bars(candles: dict[int, Row]) -> Bars:
    return Bars.of(_candle(slot, candles[slot]) for slot in sorted(candles))


slots = st.one_of(st.integers(0, 40), st.integers(0, 3000), st.integers(10**6, 10**6 + 200))
series = st.dictionaries(slots, st.integers(0, 10**6).map(_row), min_size=1, max_size=120)


def _pyramid(candles: dict[int, Row]) -> Pyramid:
    return Pyramid(_bars(candles), Slots(MINUTE))


def _check(pyramid: Pyramid, candles: dict[int, Row], first: float, last: float, width: int) -> None:
    """Compare one frame with a plain loop."""
    pitch = (last - first) / width
    shift = 0
    for by in pyramid._steps:
        if 1 << (shift + by) > pitch:
            break
        shift += by
    expected: dict[int, list[Row]] = {}
    for slot in sorted(candles):
        group = slot >> shift << shift
        if math.floor(first) >> shift << shift <= group < last:
            x = slot if pitch <= 1 else math.floor(group / pitch) - math.floor(first / pitch)
            expected.setdefault(x, []).append(candles[slot])
    columns = pyramid.columns(first, last, width)
    assert columns.merged == (pitch > 1)
    assert columns.x.tolist() == list(expected)
    for i, rows in enumerate(expected.values()):
        o, h, lo, c, v = zip(*rows, strict=True)
        assert columns.values[:, i].tolist() == [o[0], max(h), min(lo), c[-1], sum(v)]
    assert len(columns.x) <= width + 2


view = st.tuples(st.floats(-50, 3100), st.floats(0.5, 4000), st.integers(1, 300))


@given(series, view)
@settings(max_examples=60)
def test_a_frame_equals_a_plain_loop(candles: dict[int, Row], at: tuple[float, float, int]) -> None:
    first, span, width = at
    _check(_pyramid(candles), candles, first, first + span, width)


@given(series, st.lists(st.tuples(slots, st.integers(0, 10**6).map(_row)), max_size=60), view)
@settings(max_examples=60)
def test_candles_put_one_by_one_equal_a_fresh_build(
    candles: dict[int, Row], puts: list[tuple[int, Row]], at: tuple[float, float, int]
) -> None:
    pyramid = _pyramid(candles)
    for slot, row in puts:
        pyramid.put(_candle(slot, row))
    candles = candles | dict(puts)
    first, span, width = at
    _check(pyramid, candles, first, first + span, width)
    _check(pyramid, candles, 0, 2_000_000, 50)
    assert len(pyramid) == len(candles)


@given(series, st.lists(series, max_size=6), view)
@settings(max_examples=60)
def test_history_added_in_pieces_equals_a_fresh_build(
    candles: dict[int, Row], pieces: list[dict[int, Row]], at: tuple[float, float, int]
) -> None:
    pyramid = _pyramid(candles)
    for piece in pieces:
        pyramid.add(_bars(piece))
        candles = candles | piece
    older = {min(candles) - 1 - slot: row for slot, row in candles.items()}
    pyramid.add(_bars(older))  # wholly older, the cheap way
    candles = candles | older
    first, span, width = at
    _check(pyramid, candles, first, first + span, width)
    _check(pyramid, candles, min(candles), max(candles) + 1, 40)
    every = sorted(candles)
    for period in (1, 3, 20):
        averages = pyramid.average(period, np.array(every))
        for i in range(len(every)):
            window = [candles[s][3] for s in every[max(0, i - period + 1) : i + 1]]
            if i + 1 < period:
                assert math.isnan(averages[i])
            else:
                assert averages[i] == pytest.approx(sum(window) / period, rel=1e-9)


def test_the_exact_numbers_are_kept_for_labels() -> None:
    pyramid = _pyramid({7: (95_123_000.0, 95_124_001.0, 95_120_003.0, 95_121_007.0, 0.12345678)})
    candle = pyramid.candle(7)
    assert candle is not None and candle[:5] == (95_123_000.0, 95_124_001.0, 95_120_003.0, 95_121_007.0, 0.12345678)
    assert pyramid.candle(6) is None and pyramid.candle(8) is None
    assert pyramid.before(7) is None and pyramid.before(100) == 7


def test_no_candles_show_nothing() -> None:
    pyramid = Pyramid(Bars.empty(), Slots(MINUTE))
    assert len(pyramid) == 0
    assert len(pyramid.columns(0, 100, 50).x) == 0 == len(pyramid.columns(0, 10, 50).x)
    pyramid.put(_candle(3, _row(1)))
    assert pyramid.first == pyramid.last == 3


def test_an_absent_volume_is_none_of_the_sum() -> None:
    bars = Bars.of(
        Candle("x:y", "1m", i * NS, 1.0, 1.0, 1.0, 1.0, None if i % 2 else 2.0, None, True, "live") for i in range(8)
    )
    values = Pyramid(bars, Slots(MINUTE)).columns(0, 8, 1).values
    assert values[4].tolist() == [8.0]


def test_columns_keep_their_shape_while_the_view_moves_by_pixels() -> None:
    pyramid = _pyramid({i: _row(i * 7919) for i in range(4000)})
    here = pyramid.columns(1000.0, 3000.0, 200)
    moved = pyramid.columns(1000.0 + 30, 3000.0 + 30, 200)  # three pixels of ten candles
    shared = np.intersect1d(here.x, moved.x + 3)[1:-1]
    left = here.values[:, np.isin(here.x, shared)]
    right = moved.values[:, np.isin(moved.x + 3, shared)]
    assert np.array_equal(left, right)


def test_memory_follows_the_candles_and_not_the_time_between_them() -> None:
    sparse = _pyramid({i * 100_000: _row(i) for i in range(500)})
    dense = _pyramid({i: _row(i) for i in range(500)})
    assert sparse.nbytes <= 2 * dense.nbytes
    assert len(sparse.columns(0, 500 * 100_000, 100).x) == 100


@pytest.mark.parametrize("name", ["1s", "1m", "4h", "1d", "1w", "1M", "3M", "1y"])
@given(ns=st.integers(-(10**18), 4 * 10**18))
@settings(max_examples=40)
def test_slots_are_the_timeframe_s_own_places(name: str, ns: int) -> None:
    frame = timeframe(name)
    slots = Slots(frame)
    slot = slots.at(ns)
    assert slots.open_ns(slot) == frame.open_ns(ns)
    assert slots.open_ns(slot + 1) == frame.next_ns(frame.open_ns(ns))
