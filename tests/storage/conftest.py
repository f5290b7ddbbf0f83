"""A clock that stands still, and stores on real files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.kit import FixedClock
from watchhamster.storage.market import MarketStore


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock) -> Iterator[MarketStore]:
    store = MarketStore(tmp_path / "market.db", clock)
    store.open()
    yield store
    store.close()
