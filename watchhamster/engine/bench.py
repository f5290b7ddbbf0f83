"""What a window asks of the laboratory, and what it is told: strategies, runs, searches.

The values here know neither files nor processes; what fills the protocol does (`workshop.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from watchhamster.core.text import Text

if TYPE_CHECKING:
    from watchhamster.backtest.metrics import Metrics
    from watchhamster.backtest.results import Result
    from watchhamster.backtest.strategy import Strategy
    from watchhamster.backtest.trials import Trial
    from watchhamster.backtest.trust import Trust
    from watchhamster.engine.searching import Progress

Stage = str  # of a run on its way: "run" or "judge"


class Offer(msgspec.Struct, frozen=True, eq=False):
    """A strategy that can be chosen. One that cannot be read (its saved formula is gone) says why."""

    name: str  # a stored one's, or an example's file name
    text: str
    version: int | None = None  # of a stored one; None: an example
    strategy: Strategy | None = None
    problem: Text | None = None


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy, and what it is to be run on."""

    name: str
    text: str
    version: int | None = None
    instruments: tuple[str, ...]
    timeframe: str
    since_ns: int
    until_ns: int
    cash: float
    parameters: Mapping[str, float] = {}
    close_at_end: bool = False


class Outcome(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A run that was made and kept."""

    id: int
    wanted: Wanted
    result: Result
    metrics: Metrics
    trust: Trust | None
    warnings: tuple[Text, ...]  # of the data, then of the run
    finer: Mapping[str, str]  # of which instruments shorter bars decided, and how long those were
    made_ns: int
    notes: str = ""


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is kept: what it takes to run it again, and what it came to."""

    id: int
    wanted: Wanted
    made_ns: int
    metrics: Mapping[str, float | None]
    notes: str = ""
    python: bool = False  # a strategy in Python is run from the command line only


class Quest(msgspec.Struct, frozen=True, kw_only=True):
    """How better parameters are looked for."""

    method: str = "tpe"  # one of `methods.METHODS`, or walkforward
    metric: str = "sharpe"
    trials: int | None = None  # None: the method's own number
    least_trades: int = 30


class Treasure(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """What a search came to."""

    best: Trial | None
    trials: Sequence[Trial]  # in their order
    verdict: Text
    trust: Trust | None


class Bench(Protocol):
    """Where strategies are run. Everything here may take its time and leaves the loop free; cancelling ends it.

    What cannot be done raises the typed errors of the laboratory: `UsageError` for what is wrong with a strategy or
    a request, `StoreError` (`no_data`) where no candles are stored.
    """

    async def strategies(self) -> list[Offer]:
        """Stored strategies, then the examples."""

    async def run(self, wanted: Wanted, on_stage: Callable[[Stage], None]) -> Outcome:
        """Run it on what is stored, judge it, keep it."""

    async def repeat(self, run_id: int) -> Outcome:
        """A kept run, run again; refused where it does not come out the same."""

    async def past(self, count: int) -> list[Past]:
        """The last runs, newest first."""

    async def annotate(self, run_id: int, notes: str) -> None:
        """Write a person's remark on a run."""

    async def forget(self, run_id: int) -> None:
        """Forget a run."""

    async def report(self, outcome: Outcome, path: Path | None = None) -> Path:
        """Write the run's report (HTML, in the language in use); without a path, into the home."""

    async def export(self, outcome: Outcome, path: Path) -> int:
        """Write its trades as CSV or Parquet; how many rows."""

    async def search(self, wanted: Wanted, quest: Quest, on_progress: Callable[[Progress], None]) -> Treasure | None:
        """Look for better parameters with every core; None when it was cancelled by `cancel_search`."""

    def cancel_search(self) -> None:
        """End the search; what was found so far is kept."""
