"""Carries out a plan of many runs: its calls go to the worker pool side by side, its trials to where they are kept.

What is to be run, and what follows from it, is decided by the plan (`backtest/optimise.py`, `backtest/search.py`),
which knows neither processes nor disks. Trials are kept before the next calls are made, so a program that is killed
loses the runs of one step at most, and the same plan, given what was kept, goes on as if nothing had happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec

from watchhamster.backtest.optimise import Call, Findings, Optimisation, Plan, Step, optimise
from watchhamster.backtest.search import ConditionObjective, ConditionSearch, search_conditions
from watchhamster.backtest.trials import RunTable, Stage, Trial
from watchhamster.core.ports import Clock, WatchHamsterError
from watchhamster.engine.workers import Shared, WorkerPool

T = TypeVar("T")


class Progress(msgspec.Struct, frozen=True):
    """How far a plan is."""

    done: int  # trials, those kept from before included
    total: int
    stage: Stage | str
    best: Trial | None
    new: tuple[Trial, ...]  # since the last progress
    left_s: float | None  # None until there is something to judge by


class Searches(RunTable, Protocol):
    """Where searches are kept, with their trials."""

    async def save_search(self, name: str, fingerprint: str, content: Mapping[str, Any]) -> None:
        """Begin a search. One of that name that is there stays as it is, with its trials."""

    def trials_on(self, fingerprint: str, besides: str = "") -> int:
        """How many trials were ever run on the same data, those of one search left out."""


class Fingerprinted(Protocol):
    """Data that knows itself again."""

    @property
    def fingerprint(self) -> str:
        """Equal data, equal fingerprint."""


async def search(
    plan: Optimisation | ConditionSearch,
    objective: ConditionObjective,
    data: Fingerprinted,
    pool: WorkerPool,
    searches: Searches,
    *,
    clock: Clock,
    content: Mapping[str, Any] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    timeout_s: float | None = None,
    memory_mb: float | None = None,
) -> Findings:
    """Begin a search, or go on with the one of that name; the rest as `carry_out`.

    `content` (JSON types) is kept with the plan: whatever the caller needs to begin it again. Every trial that was
    ever run on this data counts against what is found.
    """
    # Hashing what may be forty megabytes is no work for the loop.
    fingerprint = await asyncio.to_thread(lambda: data.fingerprint)
    await searches.save_search(plan.run, fingerprint, {**(content or {}), "plan": msgspec.to_builtins(plan)})
    known = await searches.trials(plan.run)
    plan = msgspec.structs.replace(plan, past_trials=searches.trials_on(fingerprint, besides=plan.run))
    steps: Plan[Findings]
    if isinstance(plan, Optimisation):
        steps = optimise(plan, objective, known, width=pool.size)
    else:
        steps = search_conditions(plan, objective, known, width=pool.size)
    async with pool.sharing(data) as handle:
        return await carry_out(
            steps,
            pool,
            plan.run,
            clock=clock,
            table=searches,
            data=handle,
            on_progress=on_progress,
            timeout_s=timeout_s,
            memory_mb=memory_mb,
        )


async def carry_out(
    plan: Plan[T],
    pool: WorkerPool,
    run: str,
    *,
    clock: Clock,
    table: RunTable | None = None,
    data: Shared[Any] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    timeout_s: float | None = None,
    memory_mb: float | None = None,
) -> T:
    """What the plan comes to. Cancelling it ends its jobs; what was kept stays, to go on from.

    `timeout_s` and `memory_mb` bound each call. Raises what the plan raises, and what keeping a trial raises.
    """
    meter = _Meter(clock, on_progress)
    answers: list[Any] | None = None
    try:
        while True:
            try:
                step = plan.send(answers) if answers is not None else next(plan)
            except StopIteration as ended:
                result: T = ended.value
                return result
            if step.trials and table is not None:
                await table.add_trials(run, step.trials)
            meter.begin(step)
            async with asyncio.TaskGroup() as group:
                tasks = []
                for call in step.calls:
                    task = group.create_task(_answer(pool, call, data, timeout_s, memory_mb))
                    if call.trials:
                        task.add_done_callback(partial(meter.add, call.trials))
                    tasks.append(task)
            answers = [task.result() for task in tasks]
    finally:
        plan.close()


class _Meter:
    """Tells how far a plan is: at each step, and as the calls of a step come home."""

    def __init__(self, clock: Clock, show: Callable[[Progress], None] | None) -> None:
        self._clock = clock
        self._show = show
        self._began_s = clock.monotonic()
        self._known = 0  # trials from before, which took no time
        self._step: Step | None = None
        self._ahead = 0

    def begin(self, step: Step) -> None:
        if self._step is None or (not step.trials and self._step.done == self._known):
            self._began_s, self._known = self._clock.monotonic(), step.done
        self._step, self._ahead = step, 0
        self._tell(step.trials)

    def add(self, trials: int, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or task.exception() is not None:
            return
        if not isinstance(task.result(), WatchHamsterError):
            self._ahead += trials
            self._tell(())

    def _tell(self, new: tuple[Trial, ...]) -> None:
        step = self._step
        if self._show is None or step is None:
            return
        done = min(step.done + self._ahead, step.total)
        ran = done - self._known
        left_s = (self._clock.monotonic() - self._began_s) / ran * (step.total - done) if ran > 0 else None
        self._show(Progress(done, step.total, step.stage, step.best, new, left_s))


async def _answer(
    pool: WorkerPool, call: Call, data: Shared[Any] | None, timeout_s: float | None, memory_mb: float | None
) -> Any:
    """The call's result, or its error as a value: the plan knows what to make of it."""
    args = (data, *call.args) if call.with_data else call.args
    try:
        return await pool.run(call.function, *args, home=call.home, timeout_s=timeout_s, memory_mb=memory_mb)
    except WatchHamsterError as error:
        return error
