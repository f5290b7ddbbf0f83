"""Clock jobs run once a day-key, late once after sleep or absence, and each fails alone."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.fakes import MemoryDesk
from tests.virtual_time import VirtualClock, VirtualLoop, run
from watchhamster.core.ports import StoreError, UsageError
from watchhamster.core.text import Text
from watchhamster.engine.jobs import Firing, Job, Jobs

SECOND_NS = 10**9


def ns(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()) * SECOND_NS


def at(text: str) -> VirtualClock:
    """A clock of this loop that shows this moment, UTC."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return VirtualClock(loop, ns(text) - round(loop.time() * 1e9))


def utc(at_ns: int) -> str:
    return f"{dt.datetime.fromtimestamp(at_ns // SECOND_NS, dt.UTC):%m-%d %H:%M}"


class Diary:
    """A job that writes down when it ran, and may be told to take long or to fail."""

    def __init__(self, clock: VirtualClock, takes_s: float = 0.0, error: Exception | None = None) -> None:
        self.clock = clock
        self.takes_s = takes_s
        self.error = error
        self.firings: list[Firing] = []
        self.times: list[str] = []

    async def __call__(self, firing: Firing) -> None:
        self.firings.append(firing)
        self.times.append(utc(self.clock.now_ns()))
        await self.clock.sleep(self.takes_s)
        if self.error is not None:
            raise self.error


@asynccontextmanager
async def running(jobs: Jobs) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(jobs.run())
        try:
            yield
        finally:
            task.cancel()


def test_a_job_runs_once_a_day_at_its_time_in_its_zone() -> None:
    async def main(_clock: VirtualClock) -> None:
        clock = at("2026-11-20 00:00")
        diary = Diary(clock)
        async with running(Jobs([Job("backup", "0 3 * * *", diary, "Asia/Seoul")], MemoryDesk(), clock)):
            await clock.sleep(3 * 86400)
        assert diary.times == ["11-20 18:00", "11-21 18:00", "11-22 18:00"]
        assert all(firing.late_s == 0 and firing.missed == 0 for firing in diary.firings)

    run(main)


def test_after_a_restart_the_same_day_does_not_run_again() -> None:
    async def main(_clock: VirtualClock) -> None:
        clock = at("2026-11-20 02:59")
        desk, diary = MemoryDesk(), Diary(clock)
        for when in ("0 3 * * *", "0 3 * * *", "0 4 * * *"):  # the last: a person moved it to later the same day
            async with running(Jobs([Job("backup", when, diary)], desk, clock)):
                await clock.sleep(3600 + 120)
        assert diary.times == ["11-20 03:00"]

    run(main)


def test_what_was_missed_while_off_runs_once_late_and_says_so() -> None:
    async def main(_clock: VirtualClock) -> None:
        clock = at("2026-11-20 12:00")
        desk, diary = MemoryDesk(), Diary(clock)
        async with running(Jobs([Job("backup", "0 3 * * *", diary)], desk, clock)):
            await clock.sleep(1)
        assert diary.times == []  # never due since it is known
        await clock.sleep(4 * 86400)  # off
        async with running(Jobs([Job("backup", "0 3 * * *", diary)], desk, clock)):
            await clock.sleep(60)
        assert diary.times == ["11-24 12:00"]
        [firing] = diary.firings
        assert utc(firing.due_ns) == "11-24 03:00" and firing.missed == 3
        assert firing.late_s == pytest.approx(9 * 3600 + 1)

    run(main)


def test_after_a_sleep_of_the_machine_it_runs_late_once_at_the_wake() -> None:
    async def main(_clock: VirtualClock) -> None:
        clock = at("2026-11-20 01:00")
        diary = Diary(clock)
        jobs = Jobs([Job("backup", "0 3 * * *", diary)], MemoryDesk(), clock)
        async with running(jobs):
            await clock.sleep(10)
            clock.step(8 * 3600)  # monotonic time stood still
            jobs.wake()
            await clock.sleep(1)
            assert diary.times == ["11-20 09:00"]
            assert "late" in str(jobs.status().children[0].detail)
            clock.step(20 * 3600)  # without a wake it is noticed within a minute
            await clock.sleep(61)
            assert diary.times == ["11-20 09:00", "11-21 05:01"]

    run(main)


def test_a_clock_set_back_does_not_run_the_day_again_and_one_set_far_ahead_is_forgotten() -> None:
    async def main(_clock: VirtualClock) -> None:
        clock = at("2026-11-20 02:59")
        desk, diary = MemoryDesk(), Diary(clock)
        async with running(Jobs([Job("backup", "0 3 * * *", diary)], desk, clock)):
            await clock.sleep(120)
            clock.step(-3600)
            await clock.sleep(2 * 3600)
            assert diary.times == ["11-20 03:00"]
            clock.step(5 * 365 * 86400)
            await clock.sleep(61)
            clock.step(-5 * 365 * 86400)
        async with running(Jobs([Job("backup", "0 3 * * *", diary)], desk, clock)):
            await clock.sleep(86400)
        assert diary.times[0] == "11-20 03:00" and diary.times[-1] == "11-21 03:00" and len(diary.times) == 3

    run(main)


def test_autumns_repeated_hour_counts_once_and_springs_missing_one_too() -> None:
    async def main(_clock: VirtualClock) -> None:
        for day, expected in (("2026-11-01", "11-01 05:30"), ("2026-03-08", "03-08 07:30")):
            clock = at(f"{day} 00:00")
            diary = Diary(clock)
            half_past = "30 1 * * *" if day.startswith("2026-11") else "30 2 * * *"
            async with running(Jobs([Job("j", half_past, diary, "America/New_York")], MemoryDesk(), clock)):
                await clock.sleep(86400 - 60)
            assert diary.times == [expected]
        clock = at("2026-11-01 05:00")
        often = Diary(clock)
        job = Job("often", "0,30 * * * *", often, "America/New_York", once_a="minute")
        async with running(Jobs([job], MemoryDesk(), clock)):
            await clock.sleep(4 * 3600)
        assert often.times == [f"11-01 0{h}:{m}" for h in (5, 6, 7, 8, 9) for m in ("00", "30")][1:8]  # it only ticks

    run(main)


def test_a_job_never_runs_beside_itself_and_the_others_do_not_wait() -> None:
    async def main(_clock: VirtualClock) -> None:
        clock = at("2026-11-20 00:00")
        slow, quick = Diary(clock, takes_s=150), Diary(clock)
        every_minute = [Job(n, "* * * * *", d, once_a="minute") for n, d in (("slow", slow), ("quick", quick))]
        jobs = Jobs(every_minute, MemoryDesk(), clock)
        async with running(jobs):
            await clock.sleep(100)
            assert jobs.status().children[0].state == "pending"
            await clock.sleep(505)
        assert len(quick.times) == 10
        assert slow.times == ["11-20 00:01", "11-20 00:03", "11-20 00:06", "11-20 00:08"]
        assert slow.firings[1].missed == 1

    run(main)


@pytest.mark.parametrize(
    "error", [StoreError("disk_full", Text("The disk is full.")), ZeroDivisionError("oops")], ids=["known", "fault"]
)
def test_a_failing_job_is_told_and_shown_and_runs_again_the_next_day(error: Exception) -> None:
    async def main(_clock: VirtualClock) -> None:
        clock = at("2026-11-20 02:59")
        diary, other, told = Diary(clock, error=error), Diary(clock), list[str]()
        jobs = Jobs(
            [Job("backup", "0 3 * * *", diary), Job("seal", "0 3 * * *", other)],
            MemoryDesk(),
            clock,
            on_error=lambda job, text: told.append(f"{job.name}: {text}"),
        )
        async with running(jobs):
            await clock.sleep(120)
            status = jobs.status()
            assert status.state == "warning" and str(error) in str(status.children[0].detail)
            assert len(told) == 1 and told[0].startswith("backup: ") and str(error) in told[0]
            assert len(other.times) == 1
            diary.error = None
            await clock.sleep(86400)
            assert len(diary.times) == 2 and jobs.status().state == "ok"

    run(main)


def test_a_run_cut_off_by_the_end_is_repeated_but_not_for_ever() -> None:
    async def main(_clock: VirtualClock) -> None:
        clock = at("2026-11-20 02:59")
        desk, diary = MemoryDesk(), Diary(clock, takes_s=7200)
        for _start in range(5):
            async with running(Jobs([Job("backup", "0 3 * * *", diary)], desk, clock)):
                await clock.sleep(120)
        assert [firing.repeated for firing in diary.firings] == [False, True, True]

    run(main)


def test_a_job_can_be_run_by_hand() -> None:
    async def main(_clock: VirtualClock) -> None:
        clock = at("2026-11-20 00:00")
        diary = Diary(clock, takes_s=5)
        jobs = Jobs([Job("backup", "0 3 * * *", diary)], MemoryDesk(), clock)
        async with running(jobs):
            await clock.sleep(1)
            async with asyncio.TaskGroup() as group:
                first = group.create_task(jobs.run_now("backup"))
                await clock.sleep(1)
                with pytest.raises(UsageError, match="is running"):
                    await jobs.run_now("backup")
            assert first.result().ended_ns == clock.now_ns() and first.result().error == ""
            with pytest.raises(UsageError, match="no job 'nothing'"):
                await jobs.run_now("nothing")

    run(main)


def test_a_person_may_move_a_job_to_another_time() -> None:
    async def main(_clock: VirtualClock) -> None:
        clock = at("2026-11-20 00:00")
        diary, new = Diary(clock), Diary(clock)
        jobs = Jobs([Job("backup", "0 3 * * *", diary)], MemoryDesk(), clock)
        async with running(jobs):
            await clock.sleep(60)
            jobs.set_jobs([Job("backup", "0 1 * * *", diary), Job("report", "0 2 * * *", new)])
            with pytest.raises(UsageError):
                jobs.set_jobs([Job("backup", "never", diary)])
            await clock.sleep(86400)
        assert diary.times == ["11-20 01:00"] and new.times == ["11-20 02:00"]

    run(main)


def test_a_disk_that_keeps_nothing_does_not_stop_the_jobs() -> None:
    async def main(_clock: VirtualClock) -> None:
        clock = at("2026-11-20 00:00")
        desk, diary = MemoryDesk(), Diary(clock)
        desk.full = True
        async with running(Jobs([Job("backup", "0 3 * * *", diary)], desk, clock)):
            await clock.sleep(2 * 86400)
        assert diary.times == ["11-20 03:00", "11-21 03:00"]

    run(main)


@pytest.mark.parametrize(("when", "zone"), [("3 o'clock", "UTC"), ("0 25 * * *", "UTC"), ("0 3 * * *", "Mars/Base")])
def test_a_wrong_schedule_is_refused(when: str, zone: str) -> None:
    async def nothing(firing: Firing) -> None: ...

    async def main(clock: VirtualClock) -> None:
        with pytest.raises(UsageError) as caught:
            Jobs([Job("j", when, nothing, zone)], MemoryDesk(), clock)
        assert caught.value.code == "bad_schedule"

    run(main)
