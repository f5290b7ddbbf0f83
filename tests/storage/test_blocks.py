"""Packed candles come back bit for bit, whatever their numbers are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from watchhamster.storage.blocks import PACKED_LZ4, Assembly, Columns, checksum, decode, encode

_anything = st.floats(allow_nan=False, allow_infinity=False)
_printed = st.builds(lambda n, d: n / 10**d, st.integers(1, 10**12), st.integers(0, 10))


@st.composite
def columns(draw: st.DrawFn) -> Columns:
    count = draw(st.integers(1, 40))
    times = draw(
        st.one_of(
            arrays.arrays(np.int64, count, elements=st.integers(0, 1 << 60), unique=True).map(np.sort),
            st.integers(0, 1 << 60).map(lambda t: t + np.arange(count, dtype=np.int64) * 60_000_000_000),
        )
    )
    elements = draw(st.sampled_from((_anything, _printed, st.just(127.0), st.integers(1, 10**8).map(float))))
    prices = draw(arrays.arrays(np.float64, (4, count), elements=elements))
    volumes = draw(arrays.arrays(np.float64, (2, count), elements=st.one_of(_anything, st.just(float("nan")))))
    origins = draw(arrays.arrays(np.uint8, count, elements=st.integers(0, 3)))
    return Columns(times, np.concatenate((prices, volumes)), origins)


@settings(max_examples=60)
@given(columns())
def test_every_bit_comes_back(given: Columns) -> None:
    codec, data = encode(given)
    found = Columns.empty(len(given.times))
    decode(codec, data, found)
    assert found.same(given)


def test_prices_on_a_venues_grid_take_two_bytes_each() -> None:
    rng = np.random.default_rng(1)
    prices = (60_000_000 + rng.integers(-900, 900, (4, 1440)) * 1000).astype(np.float64)
    volumes = rng.lognormal(0, 1, (2, 1440)).round(8)
    times = np.arange(1440, dtype=np.int64) * 60_000_000_000
    _codec, data = encode(Columns(times, np.concatenate((prices, volumes)), np.zeros(1440, np.uint8)))
    assert len(data) < 1440 * (4 * 2 + 2 * 8 + 2) + 100


def test_absent_volumes_cost_almost_nothing() -> None:
    values = np.full((6, 1440), 0.00000127)
    values[4:] = np.nan
    times = np.arange(1440, dtype=np.int64) * 60_000_000_000
    codec, data = encode(Columns(times, values, np.zeros(1440, np.uint8)))
    assert codec == PACKED_LZ4
    assert len(data) < 4000


@settings(max_examples=60)
@given(st.binary(max_size=200), st.integers(0, 5), st.integers(0, 30))
def test_other_bytes_are_refused_and_nothing_worse(data: bytes, codec: int, count: int) -> None:
    try:
        decode(codec, data, Columns.empty(count))
    except ValueError as error:
        assert str(error)


def test_the_checksum_covers_where_a_block_belongs() -> None:
    base = checksum(1, 2, 3, 1, b"data")
    assert len({base, checksum(2, 2, 3, 1, b"data"), checksum(1, 3, 3, 1, b"data"), checksum(1, 2, 4, 1, b"data")}) == 4


def _times(*opens: int, mark: float = 0.0) -> Columns:
    return Columns(np.array(opens, np.int64), np.full((6, len(opens)), mark), np.zeros(len(opens), np.uint8))


@pytest.mark.parametrize("capacity", [0, 3, 100])
@settings(max_examples=60)
@given(
    base=st.lists(st.integers(0, 30), unique=True).map(sorted),
    tops=st.lists(st.lists(st.integers(0, 30), unique=True).map(sorted), max_size=3),
)
def test_what_is_put_on_top_wins(capacity: int, base: list[int], tops: list[list[int]]) -> None:
    parts = Assembly(capacity)
    expected: dict[int, float] = {}
    for mark, opens in enumerate((base, *tops)):
        parts.put(_times(*opens, mark=float(mark)))
        expected.update(dict.fromkeys(opens, float(mark)))
    assert dict(zip(parts.columns.times.tolist(), parts.columns.values[0].tolist(), strict=True)) == expected
    assert parts.columns.times.tolist() == sorted(expected)
