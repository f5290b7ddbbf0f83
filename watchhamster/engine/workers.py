"""A pool of warm worker processes for everything heavy: backtests, optimisation, statistics, strategies in Python.

Workers are *spawned*, so they begin empty and hold neither Qt nor the engine; numba and optuna are imported there and
nowhere else. Each is driven by one thread here that sleeps on its pipe, so the loop never waits, and a process that
crashes, hangs or takes too much is killed and replaced while the others go on:

    async with WorkerPool() as pool, pool.sharing(bars) as handle:
        result = await pool.run(count, handle, 14, on_progress=show, timeout_s=60)

The function must be importable (it goes by its name), its arguments and its result picklable, and small: what is
large goes through `sharing`, once, and arrives in each worker as arrays over the same memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import mmap
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import threading
import traceback
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import msgspec
import psutil

from watchhamster.core.ports import Clock, Unavailable, WatchHamsterError
from watchhamster.core.text import Text
from watchhamster.engine.clock import SystemClock

log = logging.getLogger(__name__)
T = TypeVar("T")
Report = Callable[[object], None]

_MB = 1_000_000
_POLL_S = 0.1  # between looks at a running job's time, memory and cancellation
_PROGRESS_S = 0.05  # a worker reports no more often
_GRACE_S = 0.5  # for a cancelled job to notice
_START_S = 60.0  # from spawning to a sign of life, on a machine that is busy; warming takes what it takes
_WAITING_MOST = 10_000
_HOMES_MOST = 64
_ALIGN = 64


class Cancelled(BaseException):
    """Raised by `report` in a worker once the job is no longer wanted; no `except Exception` holds it up."""


class Shared(msgspec.Struct, Generic[T], frozen=True):
    """A value in shared memory. Given to `WorkerPool.run` as an argument, it arrives as the value itself."""

    name: str
    size: int
    spans: tuple[tuple[int, int], ...]  # of the pickle, then of its arrays


class _Setup(msgspec.Struct, frozen=True):
    """What a worker is born with."""

    warm: bytes | None  # a pickled function to call first
    cache: str | None  # for compiled code
    nice: int


class _Job:
    """One call, from the loop to a worker and back."""

    def __init__(
        self,
        function: Callable[..., Any],
        args: Sequence[object],
        future: asyncio.Future[Any],
        on_progress: Callable[[Any], None] | None,
        timeout_s: float | None,
        memory_mb: float,
        home: str,
        alone: bool,
        on_begin: Callable[[], object],
    ) -> None:
        self.function = function
        self.args = tuple(args)
        self.future = future
        self.on_progress = on_progress
        self.timeout_s = timeout_s
        self.memory_mb = memory_mb
        self.home = home
        self.alone = alone
        self.on_begin = on_begin
        self.cancelled = threading.Event()
        self._newest: Any = None
        self._due = False

    @property
    def name(self) -> str:
        return getattr(self.function, "__qualname__", repr(self.function))

    def began(self) -> None:
        """On the worker's thread: it is warm."""
        self._soon(self.on_begin)

    def progressed(self, value: Any) -> None:
        """On the worker's thread: keep the newest, and have the loop told once."""
        self._newest = value
        if not self._due:
            self._due = True
            self._soon(self._tell)

    def _soon(self, callback: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            self.future.get_loop().call_soon_threadsafe(callback)

    def _tell(self) -> None:
        self._due = False
        if self.on_progress is not None and not self.future.done():
            self.on_progress(self._newest)


class WorkerPool:
    """Worker processes, started when first needed (or by `warm_up`) and kept warm until they idle for long.

    `size`: processes at most, by default one a core. `memory_mb`: what a job may take beyond its worker's own, by
    default a fair part of the machine's. `warm`: an importable function that each calls first, such as one that loads
    compiled kernels. `cache`: a folder for compiled code, where the default one (beside the source) cannot be written.
    `idle_s`: a worker without work for so long ends, and gives its memory back. Limits are in the machine's time,
    whatever clock the engine runs by.
    """

    def __init__(
        self,
        *,
        size: int | None = None,
        memory_mb: float | None = None,
        warm: Callable[[], object] | None = None,
        cache: Path | None = None,
        nice: int = 10,
        idle_s: float = 600.0,
        clock: Clock | None = None,
    ) -> None:
        self.size = size or _cores()
        self.memory_mb = memory_mb or min(4000.0, psutil.virtual_memory().total / _MB / 2 / self.size)
        setup = _Setup(None if warm is None else pickle.dumps(warm), None if cache is None else str(cache), nice)
        clock = clock or SystemClock()
        self._workers = [_Worker(setup, clock) for _ in range(self.size)]
        self._waiting: deque[_Job] = deque()
        self._running: dict[_Worker, tuple[_Job, asyncio.Future[Any]]] = {}
        self._homes: OrderedDict[str, _Worker] = OrderedDict()
        self._blocks: dict[str, SharedMemory] = {}
        self._threads = ThreadPoolExecutor(self.size + 1, thread_name_prefix="worker")
        self._idle_s = idle_s
        self._idle: dict[_Worker, asyncio.TimerHandle] = {}
        self._warm = warm is None  # one worker at least: the others load what that one may have had to compile
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # ------------------------------------------------------------ jobs

    async def run(
        self,
        function: Callable[..., T],
        *args: object,
        on_progress: Callable[[Any], None] | None = None,
        timeout_s: float | None = None,
        memory_mb: float | None = None,
        home: str = "",
        urgent: bool = False,
        alone: bool = False,
    ) -> T:
        """What `function(*args)` gives in a worker.

        With `on_progress`, the function gets a further argument `report`; what it reports arrives here, the newest
        only where it reports often, and `report` is also where a cancelled job ends. Cancelling this call cancels the
        job; one that does not end by itself is killed. `home` names a state that the function keeps in its process
        (it must be able to build it anew): jobs of one home go to one worker. An `urgent` job is the next to start.
        The process of an `alone` job ends with it, which is for code that is not ours.

        Raises what the function raised, if that is a `WatchHamsterError`; one with the code `job_failed` (`where` holds
        the traceback) for any other exception; `job_timeout`, `job_memory`, `worker_died`; `Unavailable` with
        `pool_full`, `pool_closed` or `worker_not_started`.
        """
        if self._closed:
            raise _closed()
        if len(self._waiting) >= _WAITING_MOST:
            raise Unavailable(
                "pool_full",
                Text("{count} jobs already wait for a worker.", {"count": len(self._waiting)}),
                Text("Wait until some are done, or cancel them."),
            )
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        job = _Job(
            function, args, future, on_progress, timeout_s, memory_mb or self.memory_mb, home, alone, self._on_begin
        )
        (self._waiting.appendleft if urgent else self._waiting.append)(job)
        self._dispatch()
        try:
            return await future  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            job.cancelled.set()
            if job in self._waiting:
                self._waiting.remove(job)
            raise

    async def warm_up(self) -> None:
        """Start every worker, the first alone: what it compiles the others load."""
        await self.run(os.getpid)
        for worker in self._workers:
            self._threads.submit(worker.start)

    @property
    def processes(self) -> list[int]:
        """Process ids of the workers that are started."""
        return [pid for worker in self._workers if (pid := worker.pid) is not None]

    @property
    def waiting(self) -> int:
        """Jobs that no worker has begun."""
        return len(self._waiting)

    async def close(self) -> None:
        """End every job and every process, and free all shared memory; within two seconds."""
        if self._closed:
            return
        self._closed = True
        for job in self._waiting:
            if not job.future.done():
                job.future.set_exception(_closed())
        self._waiting.clear()
        running = [call for _, call in self._running.values()]
        for job, _ in self._running.values():
            job.cancelled.set()
        for timer in self._idle.values():
            timer.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self._threads, worker.stop) for worker in self._workers))
        self._threads.shutdown(wait=False)
        for name in list(self._blocks):
            self._free(name)

    def _dispatch(self) -> None:
        if self._closed:
            return
        for job in list(self._waiting):
            worker = self._choose(job)
            if worker is None:
                continue
            self._waiting.remove(job)
            if job.home:
                self._homes[job.home] = worker
                self._homes.move_to_end(job.home)
                if len(self._homes) > _HOMES_MOST:
                    self._homes.popitem(last=False)
            call = asyncio.get_running_loop().run_in_executor(self._threads, worker.call, job, tuple(self._blocks))
            self._running[worker] = (job, call)
            call.add_done_callback(partial(self._done, worker, job))
            if len(self._running) == self.size:
                return

    def _on_begin(self) -> None:
        if not self._warm:
            self._warm = True
            self._dispatch()

    def _choose(self, job: _Job) -> _Worker | None:
        """Its home, else one that is started, else one that is not; None while it has to wait."""
        if not self._warm and self._running:
            return None
        home = self._homes.get(job.home)
        if home is not None:
            return None if home in self._running else home
        idle = [worker for worker in self._workers if worker not in self._running]
        return max(idle, key=lambda worker: (worker.pid or 0) > 0, default=None)

    def _done(self, worker: _Worker, job: _Job, call: asyncio.Future[Any]) -> None:
        del self._running[worker]
        error = call.exception()
        if not job.future.done():
            if isinstance(error, _Ended):
                job.future.set_exception(_closed())
            elif error is not None:
                job.future.set_exception(error)
            else:
                job.future.set_result(call.result())
        if worker in self._idle:
            self._idle[worker].cancel()
        self._idle[worker] = call.get_loop().call_later(self._idle_s, self._retire, worker)
        self._dispatch()

    def _retire(self, worker: _Worker) -> None:
        if worker not in self._running and not self._closed:
            self._threads.submit(worker.rest)

    # ------------------------------------------------------------ shared memory

    @contextlib.asynccontextmanager
    async def sharing(self, value: T) -> AsyncIterator[Shared[T]]:
        """The value in shared memory, for as long as the context lasts; the system frees it if this process is killed.

        Any picklable value will do; its contiguous arrays are copied here once and are then read in place. Raises
        `Unavailable` (`no_shared_memory`).
        """
        if self._closed:
            raise _closed()
        block, handle = await asyncio.get_running_loop().run_in_executor(self._threads, _share, value)
        self._blocks[block.name] = block
        try:
            yield handle
        finally:
            self._free(block.name)

    def _free(self, name: str) -> None:
        block = self._blocks.pop(name, None)
        if block is None:
            return
        block.close()
        block.unlink()  # its memory goes when the last worker lets go
        if not self._closed:
            for worker in self._workers:
                if worker not in self._running:
                    self._threads.submit(worker.forget, tuple(self._blocks))


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _closed() -> Unavailable:
    return Unavailable(
        "pool_closed", Text("The workers have been stopped."), Text("The program is ending; start it again.")
    )


def _share(value: T) -> tuple[SharedMemory, Shared[T]]:
    """Protocol 5 of pickle hands out arrays instead of copying them: they go into the block one after the other."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    pieces = [memoryview(pickled), *(buffer.raw() for buffer in buffers)]
    spans, end = [], 0
    for piece in pieces:
        start = -(-end // _ALIGN) * _ALIGN
        end = start + piece.nbytes
        spans.append((start, end))
    # Writing beyond what a full /dev/shm has would not raise but kill.
    folder = Path("/dev/shm")
    free = shutil.disk_usage(folder).free if folder.is_dir() else sys.maxsize
    try:
        if end > free:
            raise OSError(f"{free // _MB} MB are free")
        block = SharedMemory(create=True, size=end)
    except OSError as error:
        raise Unavailable(
            "no_shared_memory",
            Text("There are no {size} MB of shared memory: {reason}.", {"size": end // _MB, "reason": str(error)}),
            Text("Take a shorter period or fewer instruments, or give the machine more (in a container, --shm-size)."),
        ) from error
    for (start, stop), piece in zip(spans, pieces, strict=True):
        block.buf[start:stop] = piece  # type: ignore[index]  # None only once closed
    return block, Shared(block.name, end, tuple(spans))


# ---------------------------------------------------------------- one worker, seen from here


class _Ended(Exception):
    """The job was cancelled and is over."""


class _NeverBegan(Exception):
    """The process died before it began with the job."""

    def __init__(self, error: WatchHamsterError) -> None:
        super().__init__(str(error))
        self.error = error


class _Worker:
    """One process and its pipe. Only one thread at a time uses it."""

    def __init__(self, setup: _Setup, clock: Clock) -> None:
        self._setup = setup
        self._clock = clock
        self._turn = threading.Lock()
        self._process: Any = None
        self._link: Any = None

    @property
    def pid(self) -> int | None:
        """Its process, once started."""
        process = self._process
        return None if process is None else process.pid

    def start(self) -> None:
        """Spawn the process, unless there is one."""
        with self._if_idle() as idle:
            if idle:
                self._start()

    def rest(self) -> None:
        """End the process, unless it has something to do."""
        with self._if_idle() as idle:
            if idle:
                self._stop()

    def forget(self, live: tuple[str, ...]) -> None:
        """Let go of shared memory that is no more; a busy worker hears of it with its next job."""
        with self._if_idle() as idle, contextlib.suppress(OSError):
            if idle and self._link is not None:
                self._link.send_bytes(pickle.dumps(("keep", live)))

    def stop(self) -> None:
        """End the process."""
        with self._turn:
            self._stop()

    @contextlib.contextmanager
    def _if_idle(self) -> Iterator[bool]:
        idle = self._turn.acquire(blocking=False)
        try:
            yield idle
        finally:
            if idle:
                self._turn.release()

    def call(self, job: _Job, live: tuple[str, ...]) -> Any:
        """Have the worker do a job, and wait for it. Raises what `WorkerPool.run` does, or `_Ended`."""
        with self._turn:
            message = pickle.dumps(
                ("call", live, job.function, job.args, job.on_progress is not None, job.memory_mb), protocol=5
            )
            try:
                try:
                    return self._give(job, message)
                except _NeverBegan:  # it died before, while it was idle, which is no fault of the job
                    return self._give(job, message)
            except _NeverBegan as end:
                raise end.error from None
            finally:
                if job.alone:
                    self._stop()

    def _give(self, job: _Job, message: bytes) -> Any:
        self._start()
        with contextlib.suppress(OSError):  # the answer says it, too
            self._link.send_bytes(message)
        return self._follow(job)

    def _start(self) -> None:
        if self._process is not None and not wait([self._process.sentinel], 0):
            return
        self._kill()
        context = multiprocessing.get_context("spawn")
        self._link, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._setup), name="watchhamster worker", daemon=True)
        try:
            process.start()
        except OSError as error:
            self._link.close()
            self._link = None
            raise Unavailable(
                "worker_not_started",
                Text("A worker process could not be started: {reason}.", {"reason": str(error)}),
                Text("Close other programs, then try again."),
            ) from error
        finally:
            theirs.close()
        self._process = process

    def _stop(self) -> None:
        """Closing the pipe tells it to end, killing makes sure."""
        if self._link is not None:
            self._link.close()
            wait([self._process.sentinel], _GRACE_S)
        self._kill()

    def _kill(self) -> None:
        if self._process is None:
            return
        _kill_group(self._process.pid)
        self._process.kill()
        self._process.join(_GRACE_S)
        with contextlib.suppress(ValueError):  # it takes its time to die; it will
            self._process.close()
        self._link.close()
        self._process = self._link = None

    def _follow(self, job: _Job) -> Any:
        link, process = self._link, self._process
        now = self._clock.monotonic()
        deadline = now + _START_S
        base: float | None = None  # its memory before the job, once that has begun
        told: float | None = None
        looked = now
        while True:
            ready = wait([link, process.sentinel], _POLL_S)
            if link in ready:
                try:
                    kind, content = pickle.loads(link.recv_bytes())
                except (EOFError, OSError):
                    raise self._died(job, base is not None) from None
                match kind:
                    case "up":
                        deadline = float("inf")
                    case "begun":
                        base = content
                        job.began()
                        deadline = self._clock.monotonic() + (job.timeout_s or float("inf"))
                    case "progress":
                        job.progressed(content)
                    case "done":
                        return content
                    case "raised":
                        raise _revive(*content)
                    case "failed":
                        raise _failure(job, *content)
                    case "memory":
                        raise _too_large(job)
                    case "ended":
                        raise _Ended
                    case "note":
                        log.warning("a worker: %s", content)
            elif ready:
                raise self._died(job, base is not None)
            now = self._clock.monotonic()
            if job.cancelled.is_set():
                if told is None:
                    told = now
                    with contextlib.suppress(OSError):
                        link.send_bytes(pickle.dumps(("cancel",)))
                elif now - told > _GRACE_S:
                    self._kill()
                    raise _Ended
            if now > deadline:
                self._kill()
                raise _too_slow(job) if base is not None else _not_started()
            if now - looked >= _POLL_S:
                looked = now
                if base is not None and _memory_mb(process.pid) > base + job.memory_mb:
                    self._kill()
                    raise _too_large(job)

    def _died(self, job: _Job, begun: bool) -> Exception:
        self._process.join(_GRACE_S)
        code = self._process.exitcode
        self._kill()
        reason = str(code)
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                reason = signal.Signals(-code).name
        error = WatchHamsterError(
            "worker_died",
            Text("The process that did the work ended unexpectedly ({reason}).", {"reason": reason}),
            Text("Try again. If it repeats, take less data at once: the system ends what takes all memory."),
            job=job.name,
        )
        return error if begun else _NeverBegan(error)


def _kill_group(pid: int) -> None:
    """The worker leads a group of its own, so what it started goes with it."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(OSError):
            if os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)


def _memory_mb(pid: int | None = None) -> float:
    """Memory that is a process's own, without what it shares; 0 for one that has ended."""
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0.0
    return float(memory.rss - getattr(memory, "shared", 0)) / _MB


def _not_started() -> Unavailable:
    return Unavailable(
        "worker_not_started",
        Text("A worker process did not begin within {seconds} s.", {"seconds": int(_START_S)}),
        Text("The machine may be very busy. Try again."),
    )


def _too_slow(job: _Job) -> WatchHamsterError:
    return WatchHamsterError(
        "job_timeout",
        Text("The work took longer than {seconds} s and was ended.", {"seconds": job.timeout_s}),
        Text("Look for a loop without an end, give it more time, or take a shorter period."),
        job=job.name,
    )


def _too_large(job: _Job) -> WatchHamsterError:
    return WatchHamsterError(
        "job_memory",
        Text("The work took more than {size} MB of memory and was ended.", {"size": int(job.memory_mb)}),
        Text("Take a shorter period or fewer instruments, or keep less."),
        job=job.name,
    )


def _failure(job: _Job, name: str, message: str, where: str) -> WatchHamsterError:
    said = f"{name}: {message}" if message else name
    return WatchHamsterError(
        "job_failed",
        Text("The work failed: {reason}", {"reason": said}),
        Text("The place in the code is {line}.", {"line": _last_place(where)}),
        job=job.name,
        where=where,
    )


def _last_place(where: str) -> str:
    places = [line.strip() for line in where.splitlines() if line.lstrip().startswith("File ")]
    return places[-1] if places else "unknown"


def _revive(kind: type[WatchHamsterError], args: tuple[object, ...], state: dict[str, Any]) -> WatchHamsterError:
    """An error as it was raised in the worker: its own `__init__` takes other arguments than `Exception` keeps."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


# ---------------------------------------------------------------- inside the worker


def _serve(link: Connection, setup: _Setup) -> None:
    """The worker's life: answer calls until the other end of the pipe is closed."""
    _settle(setup)
    _send(link, "up")
    attached: dict[str, tuple[Any, Any]] = {}
    if setup.warm is not None:
        try:
            pickle.loads(setup.warm)()
        except Exception as error:  # cold is slower, not wrong
            _send(link, "note", f"could not be warmed: {error!r}")
    while True:
        try:
            message = link.recv_bytes()
        except (EOFError, OSError):
            _keep(attached, ())
            return
        try:
            kind, *content = pickle.loads(message)
            if kind == "cancel":  # of a job that ended meanwhile
                continue
            _keep(attached, content[0])
            if kind == "call":
                _answer(link, attached, *content[1:])
        except BrokenPipeError:
            return
        except Exception as error:
            _send(link, "failed", (type(error).__name__, str(error), traceback.format_exc()))


def _settle(setup: _Setup) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner decides what an interrupt ends
    if hasattr(os, "setsid"):
        os.setsid()
    with contextlib.suppress(OSError, psutil.Error):
        if sys.platform == "win32":
            psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        else:
            os.nice(setup.nice)
    with contextlib.suppress(OSError):  # nothing but the owner writes to standard output
        os.dup2(2, 1)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"  # the pool is what uses the cores
    if setup.cache is not None:
        os.environ["NUMBA_CACHE_DIR"] = setup.cache
    owner = multiprocessing.parent_process()
    assert owner is not None

    def watch() -> None:
        wait([owner.sentinel])
        _kill_group(os.getpid())
        os._exit(1)

    # A busy worker does not read its pipe, and must not outlive its owner.
    threading.Thread(target=watch, daemon=True).start()


def _send(link: Connection, kind: str, content: object = None) -> None:
    link.send_bytes(pickle.dumps((kind, content), protocol=5))


def _answer(
    link: Connection,
    attached: dict[str, tuple[Any, Any]],
    function: Callable[..., Any],
    args: Sequence[object],
    reports: bool,
    memory_mb: float,
) -> None:
    clock = SystemClock()
    last = clock.monotonic()

    def report(value: object) -> None:
        nonlocal last
        if link.poll() and pickle.loads(link.recv_bytes())[0] == "cancel":
            raise Cancelled
        now = clock.monotonic()
        if now - last >= _PROGRESS_S:
            last = now
            _send(link, "progress", value)

    _send(link, "begun", _memory_mb())
    try:
        arguments = [_attach(attached, a) if isinstance(a, Shared) else a for a in args]
        with _limit(memory_mb):
            result = function(*arguments, report=report) if reports else function(*arguments)
        _send(link, "done", result)
    except Cancelled:
        _send(link, "ended")
    except MemoryError:
        _send(link, "memory")
    except WatchHamsterError as error:
        _send(link, "raised", (type(error), error.args, error.__dict__))
    except (Exception, SystemExit) as error:
        _send(link, "failed", (type(error).__name__, str(error), traceback.format_exc()))


@contextlib.contextmanager
def _limit(memory_mb: float) -> Iterator[None]:
    """Where the system can, asking for more raises `MemoryError` here, long before the machine suffers."""
    if sys.platform == "win32":
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    base = getattr(psutil.Process().memory_info(), "data", None)  # Linux
    if base is not None:
        most = int(base + memory_mb * _MB)
        resource.setrlimit(resource.RLIMIT_DATA, (most if before[1] < 0 else min(most, before[1]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _attach(attached: dict[str, tuple[Any, Any]], handle: Shared[T]) -> T:
    """The value of a handle, decoded once. Its arrays may be written to: only this process sees it (copy on write)."""
    if handle.name not in attached:
        # Only its maker cleans a block up; before Python 3.13 whoever opens one volunteers too.
        register = resource_tracker.register
        resource_tracker.register = lambda name, rtype: None
        try:
            block: Any = SharedMemory(handle.name)
        finally:
            resource_tracker.register = register
        memory = block
        if sys.platform == "win32":
            whole = block.buf
        else:
            memory = mmap.mmap(block._fd, handle.size, access=mmap.ACCESS_COPY)
            whole = memoryview(memory)
            block.close()
        pickled, *arrays = (whole[start:stop] for start, stop in handle.spans)
        attached[handle.name] = (memory, pickle.loads(pickled, buffers=arrays))
    value: T = attached[handle.name][1]
    return value


def _keep(attached: dict[str, tuple[Any, Any]], live: Sequence[str]) -> None:
    """Let go of what is no longer shared."""
    for name in [name for name in attached if name not in live]:
        memory, value = attached.pop(name)
        del value
        gc.collect()
        try:
            memory.close()
        except BufferError:  # something still looks at an array of it: next time
            attached[name] = (memory, None)
