"""The worker pool: jobs go there and back, whatever becomes of a worker, and nothing of it outlives the pool."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import pytest_asyncio

from tests.engine import worker_jobs as jobs
from watchhamster.core.bars import Bars
from watchhamster.core.ports import Unavailable, UsageError, WatchHamsterError
from watchhamster.engine.workers import WorkerPool

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROOT = Path(__file__).resolve().parents[2]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[WorkerPool]:
    async with WorkerPool(size=2, warm=jobs.warm) as pool:
        yield pool


def ramp(count: int) -> Bars:
    column = np.arange(count, dtype=np.float64)
    return Bars(np.arange(count, dtype=np.int64), *(column + n for n in range(6)))


def blocks() -> set[str]:
    folder = Path("/dev/shm")
    return {path.name for path in folder.glob("psm_*")} if folder.is_dir() else set()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 (other processes tell nobody)
            await asyncio.sleep(0.01)


async def test_a_job_goes_there_and_back(pool: WorkerPool) -> None:
    assert await pool.run(jobs.add, 2, 3.5) == 5.5
    assert await pool.run(jobs.process) in pool.processes
    assert os.getpid() not in pool.processes


async def test_a_worker_is_warm_nice_and_without_qt(pool: WorkerPool) -> None:
    assert await pool.run(jobs.is_warm) == "yes"
    assert not await pool.run(jobs.modules) & {"PySide6", "qasync", "sqlalchemy", "httpx"}
    nice, threads = await pool.run(jobs.thickness)
    assert nice >= 10
    assert threads == "1"


async def test_many_jobs_share_the_workers(pool: WorkerPool) -> None:
    assert await asyncio.gather(*(pool.run(jobs.add, n, n) for n in range(40))) == [2 * n for n in range(40)]
    assert len(pool.processes) <= 2
    assert pool.waiting == 0


async def test_bars_travel_by_shared_memory_once(pool: WorkerPool) -> None:
    before, bars = blocks(), ramp(50_000)
    async with pool.sharing(bars) as handle:
        assert len(blocks() - before) == 1
        looks = [await pool.run(jobs.look, handle, handle, home="bars") for _ in range(3)]
        assert {look[:2] for look in looks} == {(float(bars.close.sum()), True)}
        assert [look[2] for look in looks] == [1, 2, 3]  # one object, decoded once
        assert await pool.run(jobs.spoil, handle, home="elsewhere") == 0.0
        with pytest.raises(WatchHamsterError):
            await pool.run(jobs.die, home="elsewhere")
        assert (await pool.run(jobs.look, handle, handle, home="elsewhere"))[0] == bars.close.sum()  # its own copy only
    assert blocks() == before
    with pytest.raises(WatchHamsterError):
        await pool.run(jobs.look, handle, handle)


async def test_shared_memory_is_freed_after_a_kill(pool: WorkerPool) -> None:
    before = blocks()
    with pytest.raises(WatchHamsterError):
        async with pool.sharing(ramp(1000)) as handle:
            await pool.run(jobs.look, handle, handle, home="doomed")
            await pool.run(jobs.die, home="doomed")
    assert blocks() == before


async def test_progress_is_the_newest_and_never_a_flood(pool: WorkerPool) -> None:
    seen: list[int] = []
    assert await pool.run(jobs.count, 20_000, on_progress=seen.append) == 20_000
    assert seen == sorted(seen)
    assert len(seen) < 2_000


async def test_errors_keep_their_words(pool: WorkerPool) -> None:
    with pytest.raises(UsageError) as refused:
        await pool.run(jobs.refuse)
    assert refused.value.code == "no_such_thing"
    assert str(refused.value.text) == str(refused.value) == "There is no unicorn."
    assert refused.value.details == {"position": 3}
    with pytest.raises(WatchHamsterError) as failed:
        await pool.run(jobs.stumble)
    assert failed.value.code == "job_failed"
    assert "ZeroDivisionError: by nothing" in str(failed.value)
    assert "worker_jobs.py" in str(failed.value.hint)
    with pytest.raises(WatchHamsterError, match="SystemExit: 3"):
        await pool.run(jobs.leave)


async def test_what_runs_alone_leaves_nothing_behind(pool: WorkerPool) -> None:
    before = await pool.run(jobs.process, home="foreign")
    assert await pool.run(jobs.process, home="foreign", alone=True) == before
    assert await pool.run(jobs.process, home="foreign") != before


async def test_a_killed_worker_is_named_and_replaced_while_others_go_on(pool: WorkerPool, tmp_path: Path) -> None:
    go = tmp_path / "go"
    other = asyncio.gather(pool.run(jobs.wait_until, str(go)))
    with pytest.raises(WatchHamsterError) as died:
        await pool.run(jobs.die)
    assert died.value.code == "worker_died"
    assert "SIGKILL" in str(died.value)
    assert await pool.run(jobs.add, 1, 1) == 2
    go.touch()
    assert (await other)[0] in pool.processes


def _gone(process: int) -> bool:
    try:
        return bool(psutil.Process(process).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


async def test_a_worker_that_died_idle_costs_the_next_job_nothing(pool: WorkerPool) -> None:
    dead = await pool.run(jobs.process, home="here")
    os.kill(dead, signal.SIGKILL)
    await until(lambda: _gone(dead))
    assert await pool.run(jobs.process, home="here") != dead


async def test_an_endless_job_is_ended(pool: WorkerPool) -> None:
    with pytest.raises(WatchHamsterError) as slow:
        await pool.run(jobs.loop, timeout_s=0.2)
    assert slow.value.code == "job_timeout"
    assert await pool.run(jobs.add, 1, 1) == 2


async def test_a_greedy_job_is_ended(pool: WorkerPool) -> None:
    with pytest.raises(WatchHamsterError) as greedy:
        await pool.run(jobs.gobble, 800, memory_mb=200)
    assert greedy.value.code == "job_memory"
    assert await pool.run(jobs.gobble, 80, memory_mb=200) == 10


async def test_cancelling_ends_a_job_that_asks_without_a_new_process(pool: WorkerPool) -> None:
    where: list[int] = []
    async with asyncio.TaskGroup() as group:
        task = group.create_task(pool.run(jobs.wait_for_the_end, on_progress=where.append, home="asked"))
        await until(lambda: bool(where))
        task.cancel()
    assert await pool.run(jobs.process, home="asked") == where[0]


async def test_cancelling_ends_a_job_that_does_not_ask(pool: WorkerPool) -> None:
    home = await pool.run(jobs.process, home="deaf")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(pool.run(jobs.loop, home="deaf"))
        await asyncio.sleep(0.05)
        task.cancel()
    assert await pool.run(jobs.process, home="deaf") != home


async def test_the_first_worker_is_warmed_alone(tmp_path: Path) -> None:
    """What it has to compile, the others load."""
    diary = tmp_path / "diary"
    async with WorkerPool(size=2, warm=partial(jobs.warm_slowly, str(diary))) as fresh:
        await asyncio.gather(fresh.warm_up(), fresh.run(jobs.process), fresh.run(jobs.process))
        await until(lambda: len(diary.read_text().split()) == 4)
        assert len(fresh.processes) == 2
    assert diary.read_text().split() == ["begins", "ends"] * 2


async def test_urgent_jobs_come_first() -> None:
    order: list[str] = []
    async with WorkerPool(size=1) as small, asyncio.TaskGroup() as group:

        async def one(name: str, urgent: bool = False) -> None:
            await small.run(jobs.process, urgent=urgent)
            order.append(name)

        for name in ("first", "second", "third"):
            group.create_task(one(name))
        await asyncio.sleep(0)
        group.create_task(one("urgent", urgent=True))
    assert order == ["first", "urgent", "second", "third"]


async def test_closing_ends_everything() -> None:
    before = blocks()
    pool = WorkerPool(size=1, idle_s=0.01)
    async with pool.sharing(ramp(10)), asyncio.TaskGroup() as group:
        calls = [group.create_task(_code(pool.run(jobs.loop))), group.create_task(_code(pool.run(jobs.process)))]
        await until(lambda: len(pool.processes) == 1 and pool.waiting == 1)
        (process,) = pool.processes
        async with asyncio.timeout(60):
            await pool.close()
        assert not psutil.pid_exists(process)
    assert [call.result() for call in calls] == ["pool_closed", "pool_closed"]
    assert blocks() == before
    with pytest.raises(Unavailable):
        await pool.run(jobs.process)


async def test_an_idle_worker_gives_its_memory_back() -> None:
    async with WorkerPool(size=1, idle_s=0.01) as pool:
        assert await pool.run(jobs.add, 1, 2) == 3
        await until(lambda: not pool.processes)
        assert await pool.run(jobs.add, 1, 2) == 3


async def _code(call: object) -> str:
    try:
        await call  # type: ignore[misc]
    except WatchHamsterError as error:
        return error.code
    return ""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
async def test_nothing_outlives_a_killed_owner(tmp_path: Path) -> None:
    """SIGKILL of the program in the middle of a job: its workers end, its shared memory is freed."""
    script = tmp_path / "owner.py"
    script.write_text(
        textwrap.dedent(
            """
            import asyncio, os, numpy as np
            from tests.engine import worker_jobs as jobs
            from watchhamster.engine.workers import WorkerPool

            async def main():
                pool = WorkerPool(size=1)
                async with pool.sharing(np.ones(1000)) as handle:
                    worker = await pool.run(jobs.process)
                    print(worker, handle.name, flush=True)
                    await pool.run(jobs.loop)

            if __name__ == "__main__":
                asyncio.run(main())
            """
        )
    )
    worker, block = _kill_in_the_middle(script)
    await until(lambda: not psutil.pid_exists(int(worker)) and block.lstrip("/") not in blocks())


def _kill_in_the_middle(script: Path) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as owner:
        assert owner.stdout is not None
        line = owner.stdout.readline()
        os.kill(owner.pid, signal.SIGKILL)
    return line.split()
