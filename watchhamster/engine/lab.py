"""Carries out a plan of many runs: its calls go to the worker pool side by side, its trials to where they are kept.

What is to be run, and what follows from it, is decided by the plan (`backtest/optimise.py`, `backtest/search.py`),
which knows neither processes nor disks. Trials are kept before the next calls are made, so a program that is killed
loses the runs of one step at most, and the same plan, given what was kept, goes on as if nothing had happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from watchhamster.backtest.optimise import Call, Plan
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
    began_s, began_done = clock.monotonic(), 0
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
            if not step.trials and not began_done:
                began_s, began_done = clock.monotonic(), step.done  # so far all were known from before
            if on_progress is not None:
                ran = step.done - began_done
                left_s = (clock.monotonic() - began_s) / ran * (step.total - step.done) if ran > 0 else None
                on_progress(Progress(step.done, step.total, step.stage, step.best, step.trials, left_s))
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_answer(pool, call, data, timeout_s, memory_mb)) for call in step.calls]
            answers = [task.result() for task in tasks]
    finally:
        plan.close()


async def _answer(
    pool: WorkerPool, call: Call, data: Shared[Any] | None, timeout_s: float | None, memory_mb: float | None
) -> Any:
    """The call's result, or its error as a value: the plan knows what to make of it."""
    args = (data, *call.args) if call.with_data else call.args
    try:
        return await pool.run(call.function, *args, home=call.home, timeout_s=timeout_s, memory_mb=memory_mb)
    except WatchHamsterError as error:
        return error
