"""Jobs due at a time of day: backups, sealing, retention, reports.

When a job is due is asked of APScheduler's cron triggers, which are pure; its schedulers read the machine's clock, so
the firing is decided here, by the injected clock, in one path for live, late and simulated time. What APScheduler
calls `misfire_grace_time=None, coalesce=True, max_instances=1` holds: a job missed by sleep or while the program was
off runs once, late, and is told how late; it never runs beside itself.

Each job keeps a small row of its last run. A day counts once (by its date in the job's zone), also after a restart,
after the clock was set back, and in autumn's repeated hour. A run that the end of the program cut off is tried again,
three times in all.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol
from zoneinfo import ZoneInfo

import msgspec

from watchhamster.core.ports import Clock, UsageError, WatchHamsterError
from watchhamster.core.text import Text
from watchhamster.monitor.status import State, StatusNode, duration, node

if TYPE_CHECKING:
    from apscheduler.triggers.cron import CronTrigger

log = logging.getLogger(__name__)
replace = msgspec.structs.replace

SECOND_NS = 1_000_000_000
_LOOK_AGAIN_S = 60.0  # the wall clock may be set, and monotonic sleeps do not notice
_LATE_S = 60.0  # a run later than this says so
_DAY_NS = 86_400 * SECOND_NS
_COUNTED_MOST = 100
_TRIES_MOST = 3


class StateStore(Protocol):
    """Small states that outlive the program."""

    def get(self, key: str) -> bytes | None:
        """A state, None where there is none."""

    async def put(self, key: str, data: bytes | None) -> None:
        """Keep a state; None forgets it."""


class Firing(msgspec.Struct, frozen=True):
    """What a job is told."""

    job: str
    due_ns: int
    late_s: float = 0.0  # 0 where it is on time
    missed: int = 0  # further times that were due before this one and will not run (100 are counted at most)
    repeated: bool = False  # the program ended in the middle of the last try


class Job(msgspec.Struct, frozen=True):
    """Something due at times: `when` is a crontab line (weekdays by name) in `zone`."""

    name: str
    when: str
    run: Callable[[Firing], Awaitable[object]]
    zone: str = "UTC"
    once_a: Literal["day", "minute"] = "day"


class JobRun(msgspec.Struct, frozen=True, kw_only=True):
    """A job's last run; before its first one, when it was first seen (`started_ns` None)."""

    due_ns: int
    key: str = ""  # the day, or minute, that counts as done
    started_ns: int | None = None
    ended_ns: int | None = None  # None: it runs, or the program ended first
    late_s: float = 0.0
    tries: int = 0
    error: str = ""


class Jobs:
    """The clock jobs of a run. `on_error` is told of a job that failed; the others go on."""

    def __init__(
        self,
        jobs: Sequence[Job],
        store: StateStore,
        clock: Clock,
        *,
        on_error: Callable[[Job, str], None] | None = None,
    ) -> None:
        """Raises `UsageError` (`bad_schedule`) for a line or zone that is none."""
        self._jobs = {job.name: (job, _trigger(job)) for job in jobs}
        self._store = store
        self._clock = clock
        self._on_error = on_error
        self._last: dict[str, JobRun] = {}
        self._next: dict[str, tuple[int, int]] = {}  # when it was looked up, and the next due time
        self._running: set[str] = set()
        self._wake = asyncio.Event()

    def set_jobs(self, jobs: Sequence[Job]) -> None:
        """Use exactly these from now on, as when a person moved one to another time. A running one ends as it is.

        Raises `UsageError` (`bad_schedule`), and then has changed nothing.
        """
        self._jobs = {job.name: (job, _trigger(job)) for job in jobs}
        self._next.clear()
        self._wake.set()

    async def run(self) -> None:
        """Recover, then run jobs as they come due until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                now_ns = self._clock.now_ns()
                wait_s = _LOOK_AGAIN_S
                for job, trigger in list(self._jobs.values()):
                    if job.name not in self._last:
                        self._last[job.name] = await self._recall(job.name)
                    if job.name in self._running:
                        continue  # its end wakes us
                    firing, next_ns = self._due(job, trigger, now_ns)
                    if firing is not None:
                        self._running.add(job.name)
                        group.create_task(self._fire(job, firing), name=f"job {job.name}")
                    wait_s = min(wait_s, max(0.0, (next_ns - now_ns) / SECOND_NS))
                await self._pause(wait_s)

    def wake(self) -> None:
        """Look at the clock now: after a sleep of the machine, or when it was set."""
        self._wake.set()

    async def run_now(self, name: str) -> JobRun:
        """Run a job at once, due or not, and say what came of it.

        Raises `UsageError` (`unknown_job`, `job_running`).
        """
        if name not in self._jobs:
            raise UsageError(
                "unknown_job",
                Text("There is no job {name!r}.", {"name": name}),
                Text("Known ones are {names}.", {"names": ", ".join(self._jobs)}),
            )
        if name in self._running:
            raise UsageError(
                "job_running", Text("The job {name} is running.", {"name": name}), Text("Wait until it is done.")
            )
        self._running.add(name)
        if name not in self._last:
            self._last[name] = await self._recall(name)
        await self._fire(self._jobs[name][0], Firing(name, self._clock.now_ns()))
        return self._last[name]

    def last(self, name: str) -> JobRun | None:
        """A job's last run."""
        return self._last.get(name)

    def status(self) -> StatusNode:
        """The jobs' branch of the tree."""
        now_ns = self._clock.now_ns()
        children = []
        for job, trigger in self._jobs.values():
            last = self.last(job.name)
            state: State = "ok"
            next_ns = _after(trigger, now_ns)
            detail = Text("next in {time}", {"time": duration((next_ns - now_ns) / SECOND_NS)})
            if job.name in self._running:
                state, detail = "pending", Text("running")
            elif last is not None and last.error:
                state, detail = "warning", Text("failed: {reason}", {"reason": last.error})
            elif last is not None and last.late_s >= _LATE_S:
                detail = Text("ran {age} late", {"age": duration(last.late_s)})
            age_s = None
            if last is not None and last.ended_ns is not None:
                age_s = max(0.0, (now_ns - last.ended_ns) / SECOND_NS)
            children.append(node(job.name, state, age_s=age_s, detail=detail))
        return node("jobs", "ok", *children)

    # ------------------------------------------------------------ deciding

    async def _recall(self, name: str) -> JobRun:
        now_ns = self._clock.now_ns()
        data = self._store.get(f"job:{name}")
        if data is not None:
            try:
                last = msgspec.json.decode(data, type=JobRun)
            except msgspec.DecodeError:
                log.warning("the row of the job %s is unreadable and begins anew", name)
            else:
                # A clock that was once far ahead must not keep the job from running until then.
                if last.due_ns <= now_ns + _DAY_NS:
                    return last
        last = JobRun(due_ns=now_ns)
        try:
            await self._store.put(f"job:{name}", msgspec.json.encode(last))
        except WatchHamsterError as error:
            log.error("the job %s was not noted: %s", name, error)
        return last

    def _due(self, job: Job, trigger: CronTrigger, now_ns: int) -> tuple[Firing | None, int]:
        """What to run now, if anything, and when to look again."""
        last = self._last[job.name]
        if last.started_ns is not None and last.ended_ns is None and last.tries < _TRIES_MOST:
            return Firing(job.name, last.due_ns, self._late_s(last.due_ns, now_ns), 0, repeated=True), now_ns
        looked_ns, next_ns = self._next.get(job.name, (0, 0))
        if looked_ns <= now_ns < next_ns:
            return None, next_ns
        latest_ns = _latest(trigger, last.due_ns, now_ns)
        next_ns = _after(trigger, now_ns)
        self._next[job.name] = (now_ns, next_ns)
        if latest_ns is None or _key(job, latest_ns) == last.key:
            return None, next_ns
        missed = 0
        passed_ns = _after(trigger, last.due_ns)
        while passed_ns < latest_ns and missed < _COUNTED_MOST:
            missed += 1
            passed_ns = _after(trigger, passed_ns)
        return Firing(job.name, latest_ns, self._late_s(latest_ns, now_ns), missed), next_ns

    @staticmethod
    def _late_s(due_ns: int, now_ns: int) -> float:
        late_s = (now_ns - due_ns) / SECOND_NS
        return late_s if late_s >= _LATE_S else 0.0

    async def _fire(self, job: Job, firing: Firing) -> None:
        tries = self._last[job.name].tries + 1 if firing.repeated else 1
        run = JobRun(
            due_ns=max(firing.due_ns, self._last[job.name].due_ns),
            key=_key(job, firing.due_ns),
            started_ns=self._clock.now_ns(),
            late_s=firing.late_s,
            tries=tries,
        )
        try:
            await self._keep(job.name, run)
            if firing.late_s or firing.missed:
                log.info("%s runs %.0f s late, %d earlier ones left out", job.name, firing.late_s, firing.missed)
            error = ""
            try:
                await job.run(firing)
            except WatchHamsterError as failure:
                error = str(failure.text)
                log.error("the job %s failed: %s", job.name, error)
            except Exception as failure:  # a fault in one job must not stop the others
                error = f"{type(failure).__name__}: {failure}"
                log.exception("the job %s failed", job.name)
            await self._keep(job.name, replace(run, ended_ns=self._clock.now_ns(), error=error))
            if error and self._on_error is not None:
                self._on_error(job, error)
        finally:
            self._next.pop(job.name, None)
            self._running.discard(job.name)
            self._wake.set()

    async def _keep(self, name: str, run: JobRun) -> None:
        self._last[name] = run
        try:
            await self._store.put(f"job:{name}", msgspec.json.encode(run))
        except WatchHamsterError as error:  # a full disk: the job may repeat after a restart, which is the lesser harm
            log.error("the run of %s was not noted: %s", name, error)

    async def _pause(self, seconds: float) -> None:
        async def doze() -> None:
            await self._clock.sleep(seconds)
            self._wake.set()

        async with asyncio.TaskGroup() as group:
            dozing = group.create_task(doze())
            await self._wake.wait()
            dozing.cancel()


def _trigger(job: Job) -> CronTrigger:
    from apscheduler.triggers.cron import CronTrigger  # 12 MB, for those who have jobs

    try:
        return CronTrigger.from_crontab(job.when, timezone=ZoneInfo(job.zone))
    except (ValueError, KeyError, OSError) as error:
        raise UsageError(
            "bad_schedule",
            Text("{when!r} in {zone!r} is not a schedule.", {"when": job.when, "zone": job.zone}),
            Text("Write minute, hour, day, month and weekday, such as 0 3 * * *, and a zone such as Asia/Seoul."),
            job=job.name,
        ) from error


def _after(trigger: CronTrigger, at_ns: int) -> int:
    """The first moment strictly after `at_ns` at which a trigger fires; far in the future where there is none."""
    # In UTC: adding to a local time forgets which of autumn's two equal hours it is in.
    at = dt.datetime.fromtimestamp(at_ns // SECOND_NS, dt.UTC) + dt.timedelta(seconds=1)
    found: Any = trigger.get_next_fire_time(None, at)
    return int(found.timestamp()) * SECOND_NS if found is not None else at_ns + 36_500 * _DAY_NS


def _latest(trigger: CronTrigger, since_ns: int, now_ns: int) -> int | None:
    """The last moment in `(since_ns, now_ns]` at which a trigger fires (of the last five years)."""
    for days in (1 / 1440, 1 / 24, 1, 32, 5 * 366):  # so that few firings are walked through, however often it fires
        begin_ns = max(since_ns, now_ns - int(days * _DAY_NS))
        found = _after(trigger, begin_ns)
        if found <= now_ns:
            while (later := _after(trigger, found)) <= now_ns:
                found = later
            return found
        if begin_ns == since_ns:
            return None
    return None


def _key(job: Job, due_ns: int) -> str:
    local = dt.datetime.fromtimestamp(due_ns // SECOND_NS, ZoneInfo(job.zone))
    return f"{local:%Y-%m-%d}" if job.once_a == "day" else f"{local:%Y-%m-%dT%H:%M}"
