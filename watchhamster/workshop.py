"""The laboratory for a window: runs are made in a worker process, searches from a thread with a loop of its own.

A run is interpreted Python for a while, which would hold up whatever else this process does; so one worker, started
at the first run, makes them, and remembers the last ones for their reports.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from watchhamster import lab
from watchhamster.backtest.breakdown import trades_table
from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text
from watchhamster.engine.bench import Offer, Outcome, Past, Quest, Stage, Treasure, Wanted
from watchhamster.engine.workers import WorkerPool
from watchhamster.formula import LIBRARY_KEY, Library
from watchhamster.settings import Home, load_translations
from watchhamster.storage.desk import DeskStore, StoredRun

if TYPE_CHECKING:
    from watchhamster.backtest.trials import Trial
    from watchhamster.backtest.trust import Trust
    from watchhamster.engine.searching import Progress

Answer = Callable[[str, dict[str, Any]], Awaitable[Any]]  # does a thing that writes
KEPT_MOST: Final = 2  # runs that the worker remembers


class Workshop:
    """Fills `engine.bench.Bench` for one home, whose rows are open; `answer` performs commands on them.

    `language()` is the code of the one that reports are written in.
    """

    def __init__(self, home: Home, desk: DeskStore, answer: Answer, language: Callable[[], str]) -> None:
        self._home, self._desk, self._answer, self._language = home, desk, answer, language
        self._pool: WorkerPool | None = None
        self._hunt = _Hunt()

    async def close(self) -> None:
        """End the worker, and a search."""
        self._hunt.stop()
        if self._pool is not None:
            await self._pool.close()

    # ------------------------------------------------------------ strategies

    async def strategies(self) -> list[Offer]:
        """Stored strategies, then the examples."""
        return await asyncio.to_thread(self._offers)

    def _offers(self) -> list[Offer]:
        library = Library.stored(self._desk.get(LIBRARY_KEY))
        found: list[tuple[str, str, int | None]] = [
            (one.name, one.text, one.version) for one in self._desk.strategies()
        ]
        known = {name for name, _text, _version in found}
        examples = [path for path in sorted(lab.EXAMPLES.glob("*.toml")) if path.stem not in known]
        found += [(path.stem, path.read_text(encoding="utf-8"), None) for path in examples]
        offers = []
        for name, text, version in found:
            source = lab.Source(text, name, version)
            try:
                offers.append(Offer(name, text, version, source.document(library)))
            except UsageError as error:
                offers.append(Offer(name, text, version, problem=error.text))
        return offers

    # ------------------------------------------------------------ runs

    async def run(self, wanted: Wanted, on_stage: Callable[[Stage], None]) -> Outcome:
        """Run it on what is stored, judge it, keep it."""
        made, trust = await self._work(_run, self._home.root, _request(wanted), on_progress=on_stage)
        kept = await self._answer("run.save", {"run": msgspec.to_builtins(made.record)})
        outcome: Outcome = made.outcome(int(kept["id"]), trust)
        return outcome

    async def repeat(self, run_id: int) -> Outcome:
        """A kept run, run again; refused where it does not come out the same."""
        kept = self._desk.run(run_id)
        made, trust = await self._work(_repeat, self._home.root, kept)
        outcome: Outcome = made.outcome(run_id, trust)
        return msgspec.structs.replace(outcome, made_ns=kept.made_ns, notes=kept.notes)

    async def past(self, count: int) -> list[Past]:
        """The last runs, newest first."""
        return [_past(run) for run in reversed(self._desk.runs(count))]

    async def annotate(self, run_id: int, notes: str) -> None:
        """Write a person's remark on a run."""
        kept = self._desk.run(run_id)
        changed = msgspec.structs.replace(kept, notes=notes)
        await self._answer("run.save", {"run": msgspec.to_builtins(changed)})

    async def forget(self, run_id: int) -> None:
        """Forget a run."""
        await self._answer("run.remove", {"run_id": run_id})

    # ------------------------------------------------------------ files

    async def report(self, outcome: Outcome, path: Path | None = None) -> Path:
        """Write the run's report (HTML, in the language in use); without a path, into the home."""
        if path is None:
            path = self._home.root / "reports" / f"run-{outcome.id}.html"
            await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        kept = self._desk.run(outcome.id)
        await self._work(_report, self._home.root, kept, path, self._language())
        return path

    async def export(self, outcome: Outcome, path: Path) -> int:
        """Write its trades as CSV or Parquet; how many rows."""
        return await asyncio.to_thread(lab.write_table, path, trades_table(outcome.result))

    # ------------------------------------------------------------ searches

    async def search(self, wanted: Wanted, quest: Quest, on_progress: Callable[[Progress], None]) -> Treasure | None:
        """Look for better parameters with every core; None when it was cancelled by `cancel_search`."""
        loop = asyncio.get_running_loop()
        self._hunt = hunt = _Hunt()
        request = msgspec.structs.replace(_request(wanted), parameters={})
        search = lab.Search(
            method=quest.method,
            metric=quest.metric,
            trials=quest.trials,
            constraints=(f"trades>={quest.least_trades}",),
            resume=True,
        )

        def tell(progress: Progress) -> None:
            hunt.go_on()
            loop.call_soon_threadsafe(on_progress, progress)

        def look() -> lab.Found | None:
            try:
                return lab.search(self._home, request, search, lambda _trials: None, tell, _Kept(self._desk, loop))
            except asyncio.CancelledError:
                return None

        try:
            found = await asyncio.to_thread(look)
        except asyncio.CancelledError:
            hunt.stop()
            raise
        if found is None:
            return None
        findings = found.findings
        return Treasure(best=findings.best, trials=findings.trials, verdict=findings.verdict, trust=findings.trust)

    def cancel_search(self) -> None:
        """End the search; what was found so far is kept."""
        self._hunt.stop()

    async def _work(self, function: Callable[..., Any], *args: object, **options: Any) -> Any:
        if self._pool is None:
            self._pool = WorkerPool(size=1)
        return await self._pool.run(function, *args, home="lab", **options)


class _Kept:
    """Searches in the rows that are open: asked for from a thread's loop, done on the window's."""

    def __init__(self, desk: DeskStore, loop: asyncio.AbstractEventLoop) -> None:
        self._desk, self._loop = desk, loop

    async def save_search(self, name: str, fingerprint: str, content: Mapping[str, Any]) -> None:
        await self._there(self._desk.save_search(name, fingerprint, content))

    async def trials(self, run: str) -> list[Trial]:
        found: list[Trial] = await self._there(self._desk.trials(run))
        return found

    async def add_trials(self, run: str, trials: Sequence[Trial]) -> None:
        await self._there(self._desk.add_trials(run, trials))

    def trials_on(self, fingerprint: str, besides: str = "") -> int:
        return self._desk.trials_on(fingerprint, besides)

    async def _there(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


class _Hunt:
    """A search in its thread, and how it is ended from outside: as a task of that thread's loop is cancelled."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._task: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def go_on(self) -> None:
        """In the thread, each time it tells how far it is. Raises `CancelledError` where it was stopped meanwhile."""
        task = asyncio.current_task()
        if task is None:  # called back, which is no place to end anything
            return
        with self._lock:
            self._task = task.get_loop(), task
            if self._stopped:
                raise asyncio.CancelledError

    def stop(self) -> None:
        """From any thread; a search that is over is not touched."""
        with self._lock:
            self._stopped = True
            if self._task is not None:
                loop, task = self._task
                with contextlib.suppress(RuntimeError):  # its loop has been closed
                    loop.call_soon_threadsafe(task.cancel)


def _request(wanted: Wanted) -> lab.Request:
    return lab.Request(
        source=lab.Source(wanted.text, wanted.name, wanted.version),
        instruments=wanted.instruments,
        timeframe=wanted.timeframe,
        since_ns=wanted.since_ns,
        until_ns=wanted.until_ns,
        cash=wanted.cash,
        parameters=wanted.parameters,
        close_at_end=wanted.close_at_end,
    )


def _past(run: StoredRun) -> Past:
    assert run.id is not None
    return Past(
        id=run.id,
        wanted=_wanted(run),
        made_ns=run.made_ns,
        metrics=run.metrics,
        notes=run.notes,
        python=bool(run.python),
    )


def _wanted(run: StoredRun) -> Wanted:
    return Wanted(
        name=run.strategy,
        text=run.text,
        version=run.version,
        instruments=run.instruments,
        timeframe=run.timeframe,
        since_ns=run.since_ns,
        until_ns=run.until_ns,
        cash=run.cash,
        parameters=run.parameters,
        close_at_end=run.close_at_end,
    )


# ---------------------------------------------------------------- in the worker


class _Made(msgspec.Struct, frozen=True, eq=False):
    """What comes back of a run: all but the candles."""

    record: StoredRun
    result: Any
    metrics: Any
    warnings: tuple[Text, ...]
    finer: Mapping[str, str]

    def outcome(self, run_id: int, trust: Trust | None) -> Outcome:
        return Outcome(
            id=run_id,
            wanted=_wanted(self.record),
            result=self.result,
            metrics=self.metrics,
            trust=trust,
            warnings=self.warnings,
            finer=self.finer,
            made_ns=self.record.made_ns,
        )


_runs: OrderedDict[str, tuple[lab.Run, Trust]] = OrderedDict()  # by their answers' hashes


def _run(root: Path, request: lab.Request, report: Callable[[object], None]) -> tuple[_Made, Trust]:
    report("run")
    run = lab.run(Home(root), request)
    report("judge")
    return _judged(Home(root), run)


def _repeat(root: Path, kept: StoredRun) -> tuple[_Made, Trust]:
    if kept.python:
        raise UsageError(
            "not_a_document",
            Text("{name} is a strategy in Python: the window cannot run it.", {"name": kept.strategy}),
            Text("watchhamster runs repeat {id} does.", {"id": kept.id}),
        )
    return _judged(Home(root), lab.repeat(Home(root), kept))


def _judged(home: Home, run: lab.Run) -> tuple[_Made, Trust]:
    trust = lab.judge(home, run)
    record = run.record()
    _runs[record.answer] = run, trust
    _runs.move_to_end(record.answer)
    while len(_runs) > KEPT_MOST:
        _runs.popitem(last=False)
    return _Made(record, run.result, run.metrics, run.warnings, dict(run.material.finer)), trust


def _report(root: Path, kept: StoredRun, path: Path, language: str) -> None:
    if kept.answer not in _runs:
        _repeat(root, kept)
    run, trust = _runs[kept.answer]
    lab.report(run, path, language=load_translations(language), trust=trust, notes=kept.notes)
