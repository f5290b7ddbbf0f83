"""Trials of a search, as values small enough to keep them all: what is known of every run ever made on some data."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol, TypeAlias

import msgspec
import numpy as np

from watchhamster.core.bars import Floats, Ints
from watchhamster.core.text import Text

Number: TypeAlias = int | float  # kept apart, so that a trial reads the same before and after it was stored
Stage: TypeAlias = Literal[
    "search", "validate", "outside", "neighbour", "doubled_costs", "one_bar_later", "random_entries"
]

COUNTED: Final[tuple[Stage, ...]] = ("search", "neighbour")  # stages that look for something better: they make N


class Score(msgspec.Struct, frozen=True):
    """What a run is reduced to in the worker that made it."""

    metrics: Mapping[str, Number | None]
    returns: bytes = b""  # of each day, see `pack`
    held: bytes = b""  # day of entry and of exit of each trade, counted from the first day of the span


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One run with one set of parameters. Its number is its place in the plan."""

    number: int
    parameters: Mapping[str, Number]
    metrics: Mapping[str, Number | None]
    rejected: Text | None = None  # why it may not be the best; it keeps its metrics
    stage: Stage = "search"
    fold: int = 0  # the window, of those of a walk forward
    formula: str = ""  # of a search among conditions
    returns: bytes = b""
    held: bytes = b""

    def line(self) -> dict[str, object]:
        """As scripts see it."""
        found: dict[str, object] = {
            "trial": self.number,
            "parameters": dict(self.parameters),
            "metrics": dict(self.metrics),
        }
        if self.formula:
            found["formula"] = self.formula
        if self.stage != "search":
            found["stage"] = self.stage
        if self.fold:
            found["fold"] = self.fold
        if self.rejected is not None:
            found["rejected"] = str(self.rejected)
        return found


def pack(values: Floats | Ints) -> bytes:
    """Daily returns as float32, or days as int32, compressed: a thousand trials are a few megabytes."""
    kind = np.float32 if np.issubdtype(values.dtype, np.floating) else np.int32
    return zlib.compress(np.ascontiguousarray(values, kind).tobytes(), 1)


def unpack_returns(packed: bytes) -> Floats:
    """Daily returns."""
    return np.frombuffer(zlib.decompress(packed), np.float32).astype(np.float64) if packed else np.empty(0)


def unpack_held(packed: bytes) -> tuple[Ints, Ints]:
    """Days of entries, and days of exits."""
    days = np.frombuffer(zlib.decompress(packed), np.int32) if packed else np.empty(0, np.int32)
    pairs = days.astype(np.int64).reshape(2, -1)
    return pairs[0], pairs[1]


class RunTable(Protocol):
    """Where trials are kept, so that a search outlives the program."""

    async def trials(self, run: str) -> list[Trial]:
        """The trials of a run, by number."""

    async def add_trials(self, run: str, trials: Sequence[Trial]) -> None:
        """Keep further ones; returns once they are on the disk. One that is there already stays as it was."""
