"""One SQLite file with one writer: what both stores stand on.

A thread of its own owns the only connection that writes and checkpoints; everyone else reads, through a small pool of
connections that cannot write. That keeps the loop free of disks, and avoids the race in which SQLite before 3.51.3 may
lose data at a WAL reset when two connections write. Every write is `BEGIN IMMEDIATE` (a deferred transaction that
reads and then writes fails at once when another came between) and `synchronous=FULL`: what is acknowledged survives
a power cut.

Opening is recovering. The file is checked (a large one only when a WAL left behind shows that nobody closed it). One
that cannot be trusted is moved into `quarantine/` beside it, never deleted; its owner says what takes its place.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import os
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import QueuePool, StaticPool

from watchhamster.core.ports import Clock, StoreError
from watchhamster.core.text import Text
from watchhamster.storage.migrations import Migration, migrate, refuse_newer, version_of

log = logging.getLogger(__name__)
T = TypeVar("T")

_MAGIC = b"SQLite format 3\x00"
_NOTICES = 20
_ALWAYS_CHECKED = 256_000_000  # bytes; a larger file that was closed cleanly is left to `verify`


class StoreNotice(msgspec.Struct, frozen=True):
    """Something a person should know about a file: it was damaged and moved, restored, or it lost something."""

    at_ns: int
    code: str
    text: Text
    hint: Text | None = None


def store_error(error: BaseException | None, path: Path) -> StoreError:
    """The typed error for what SQLite said about a file."""
    name = getattr(error, "sqlite_errorname", "") or ""
    values = {"path": str(path), "reason": str(error)}
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreError(
            "database_locked",
            Text("{path} is locked by another program.", values),
            Text("Close the program that holds it (a backup, a database viewer, a second WatchHamster)."),
            path=str(path),
        )
    if name.startswith("SQLITE_FULL"):
        return StoreError(
            "disk_full",
            Text("There is no room left on the disk for {path}.", values),
            Text("Free some space, or lower the history limit in the settings. Storing resumes by itself."),
            path=str(path),
        )
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT")):
        return StoreError(
            "database_damaged",
            Text("{path} is damaged: {reason}.", values),
            Text("Run `watchhamster data verify`, or start again: it is then moved aside and rebuilt."),
            path=str(path),
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return StoreError(
            "database_unwritable",
            Text("{path} cannot be opened or written: {reason}.", values),
            Text("Check that the folder exists and belongs to you, or choose another with --home."),
            path=str(path),
        )
    return StoreError(
        "database_failed",
        Text("{path} could not be used: {reason}.", values),
        Text("Check the disk, then try again."),
        path=str(path),
    )


def stamp(now_ns: int) -> str:
    """A moment as it goes into a file's name: `20260131T235959Z`."""
    return dt.datetime.fromtimestamp(now_ns // 1_000_000_000, dt.UTC).strftime("%Y%m%dT%H%M%SZ")


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing, to a file that may be damaged.

    Where no WAL lies beside the file nobody has it open, and it is read as it lies: SQLite would else begin a WAL, and
    having opened it for reading only, leave it behind.
    """
    alone = not path.with_name(path.name + "-wal").exists()
    uri = path.absolute().as_uri() + ("?mode=ro&immutable=1" if alone else "?mode=ro")
    connection = sqlite3.connect(uri, uri=True)
    connection.text_factory = _decode
    return connection


def _decode(text: bytes) -> str:
    """A flipped bit in a text is for checksums to find; it must not end the reading of what is around it."""
    return text.decode("utf-8", "replace")


def check_file(path: Path, application: int, migrations: Sequence[Migration], *, thorough: bool) -> None:
    """Raise `StoreError` unless this is a database that can be used: ours, not newer, and whole. Nothing is written."""
    known_version = len(migrations)
    # The header is read by hand, because merely opening a WAL database may change the files beside it.
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise _unreachable(error, path) from error
    if header and (len(header) < 100 or not header.startswith(_MAGIC)):
        raise store_error(_not_a_database(), path)
    if header:
        refuse_newer(path, int.from_bytes(header[60:64], "big"), known_version)
    try:
        with closing(open_for_reading(path)) as connection:
            refuse_newer(path, version_of(connection), known_version)
            kind = connection.execute("PRAGMA application_id").fetchone()[0]
            if kind != application and (kind or connection.execute("SELECT 1 FROM sqlite_schema").fetchone()):
                raise StoreError(
                    "wrong_database",
                    Text("{path} is a database, but not the one that belongs here.", {"path": str(path)}),
                    Text("Give the right file. It was not touched."),
                    path=str(path),
                )
            if version_of(connection) == known_version and _schema(connection) != _own_schema(tuple(migrations)):
                raise store_error(_not_a_database("its tables are not as they were made"), path)
            if thorough:
                said = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
                if said != "ok":
                    raise store_error(_not_a_database(said.splitlines()[-1]), path)
    except sqlite3.Error as error:
        raise store_error(error, path) from error


def _schema(connection: sqlite3.Connection) -> frozenset[str]:
    rows = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    return frozenset(str(row[0]) for row in rows)


@lru_cache
def _own_schema(migrations: tuple[Migration, ...]) -> frozenset[str]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for run in migrations:
            run(connection)
        return _schema(connection)


def _unreachable(error: OSError, path: Path) -> StoreError:
    said = sqlite3.OperationalError(error.strerror or str(error))
    said.sqlite_errorname = "SQLITE_CANTOPEN"
    return store_error(said, path)


def _not_a_database(reason: str = "file is not a database") -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(reason)
    error.sqlite_errorname = "SQLITE_CORRUPT"
    return error


class Database:
    """One SQLite file.

    `replace(damaged)` is called after an unusable file was moved to `damaged` and before a fresh one is opened; it may
    put a backup in its place, and returns what was done. `tick` runs on the writer's thread at least once a second.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        application: int,
        migrations: Sequence[Migration],
        *,
        patience_s: float,
        replace: Callable[[Path], Text] | None = None,
        tick: Callable[[], None] | None = None,
    ) -> None:
        self.path = path
        self.clock = clock
        self.notices: deque[StoreNotice] = deque(maxlen=_NOTICES)
        self._application = application  # SQLite's `application_id`: tells our two kinds of file from anyone else's
        self._migrations = migrations
        self._patience_s = patience_s  # how long a write waits for another program's lock
        self._replace = replace
        self._tick = tick
        self._jobs: queue.SimpleQueue[tuple[Callable[[], object], Future[object]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None  # the one that writes
        self._writer: sa.Engine | None = None
        self._reader: sa.Engine | None = None
        self.read_only = False

    # ------------------------------------------------------------ opening and closing

    def open(self, *, read_only: bool = False) -> Path | None:
        """Recover, upgrade and open the file; the path a damaged one was moved to, if it was.

        Read-only opens what is there (nothing at all is an empty store) beside a running writer, and changes nothing.
        """
        self.read_only = read_only
        damaged: Path | None = None
        if read_only:
            if self.path.exists():
                self._check(self.path, thorough=False)
                with closing(open_for_reading(self.path)) as connection:
                    version = version_of(connection)
                if 0 < version < len(self._migrations):
                    raise StoreError(
                        "older_database",
                        Text("{path} was made by an older WatchHamster.", {"path": str(self.path)}),
                        Text("Start the program once, and it is upgraded; a copy is kept."),
                        path=str(self.path),
                    )
                if version:  # else its writer is only just making it
                    self._open_reader()
        else:
            log.info("SQLite %s, %s", sqlite3.sqlite_version, self.path)
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise _unreachable(error, self.path) from error
            damaged = self._recover()
            try:
                self._open_files()
            except StoreError as error:
                if error.code != "database_damaged" or damaged is not None:
                    raise
                damaged = self._quarantine(error)
                self._open_files()
            self._thread = threading.Thread(target=self._work, name=f"write {self.path.name}", daemon=True)
            self._thread.start()
        self._readers = ThreadPoolExecutor(2, thread_name_prefix=f"read {self.path.name}")
        return damaged

    def close(self) -> None:
        """Finish what was submitted and close every connection; the WAL is folded into the file."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None
        if self._readers is not None:
            self._readers.shutdown()
            self._readers = None
        self._close_files()

    def _recover(self) -> Path | None:
        if not self.path.exists():
            return None
        wal = self.path.with_name(self.path.name + "-wal")
        unclean = wal.exists() and wal.stat().st_size > 0
        try:
            # Rows have checksums, but only this finds rows that are gone. It takes some 20 ms for a million candles.
            self._check(self.path, thorough=unclean or self.size() <= _ALWAYS_CHECKED)
        except StoreError as error:
            if error.code != "database_damaged":
                raise
            return self._quarantine(error)
        return None

    def _check(self, path: Path, *, thorough: bool) -> None:
        check_file(path, self._application, self._migrations, thorough=thorough)

    def _quarantine(self, error: StoreError) -> Path:
        self._close_files()
        moved = self.move_aside("quarantine")
        done = self._replace(moved) if self._replace is not None else Text("A fresh one was begun.")
        self.note(
            "database_quarantined",
            Text("{reason} It was moved to {moved}. {done}", {"reason": error.text, "moved": str(moved), "done": done}),
            Text("Nothing was deleted; missing market data is fetched again."),
        )
        return moved

    def move_aside(self, folder: str) -> Path:
        """Move the file and what belongs to it into a folder beside it, under a name with the time."""
        target = self.path.parent / folder
        target.mkdir(parents=True, exist_ok=True)
        base = f"{self.path.stem}-{stamp(self.clock.now_ns())}"
        moved = target / f"{base}{self.path.suffix}"
        number = 1
        while moved.exists():
            number += 1
            moved = target / f"{base}-{number}{self.path.suffix}"
        for ending in ("-wal", "-shm", ""):  # the file itself last: until then it is still found and tried again
            source = self.path.with_name(self.path.name + ending)
            if source.exists():
                os.replace(source, moved.with_name(moved.name + ending))
        return moved

    def _open_files(self) -> None:
        try:
            connection = self._connect()
        except sqlite3.Error as error:
            raise store_error(error, self.path) from error
        try:
            if version_of(connection) == 0:
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # only takes before the first page is written
                connection.execute(f"PRAGMA application_id={self._application}")
            connection.execute("PRAGMA journal_mode=WAL")
            copy = f"{self.path.stem}-v{version_of(connection)}-{stamp(self.clock.now_ns())}{self.path.suffix}"
            migrate(connection, self.path, self._migrations, self.path.parent / "backups" / copy)
        except sqlite3.Error as error:
            connection.close()
            raise store_error(error, self.path) from error
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._writer = sa.create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
        event.listen(self._writer, "begin", lambda c: c.exec_driver_sql("BEGIN IMMEDIATE"))
        self._open_reader()

    def _open_reader(self) -> None:
        def connect() -> sqlite3.Connection:
            connection = self._connect()
            connection.execute("PRAGMA query_only=ON")
            return connection

        self._reader = sa.create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=2, max_overflow=8)
        event.listen(self._reader, "begin", lambda c: c.exec_driver_sql("BEGIN"))

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=self._patience_s, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        connection.text_factory = _decode
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute("PRAGMA journal_size_limit=33554432")
        return connection

    def _close_files(self) -> None:
        # Readers first: the last connection to close is the writer's, which folds the WAL in.
        for engine in (self._reader, self._writer):
            if engine is not None:
                with suppress(sa.exc.DBAPIError):
                    engine.dispose()
        if self._connection is not None:
            self._connection.close()  # the engine closes it only if it was ever used
        self._reader = self._writer = self._connection = None

    def rebuild(self, reason: Text) -> Path:
        """Move the file aside and begin a fresh one, while open. On the writer's thread only."""
        moved = self._quarantine(
            StoreError("database_damaged", Text("{path}: {reason}.", {"path": str(self.path), "reason": reason}))
        )
        self._open_files()
        return moved

    def note(self, code: str, text: Text, hint: Text | None = None) -> None:
        """Keep a notice for the status tree and the window."""
        log.warning("%s: %s", code, text)
        self.notices.append(StoreNotice(self.clock.now_ns(), code, text, hint))

    # ------------------------------------------------------------ reading

    @contextmanager
    def reading(self) -> Iterator[sa.Connection | None]:
        """A connection that sees one consistent state and cannot write; None where there is no file yet."""
        if self._reader is None:
            yield None
            return
        try:
            with self._reader.connect() as connection:
                yield connection
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            raise store_error(getattr(error, "orig", error), self.path) from error

    async def read(self, work: Callable[[], T]) -> T:
        """Run a reading function off the loop."""
        assert self._readers is not None, "the store is closed"
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    # ------------------------------------------------------------ writing

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction, committed to the disk at its end. On the writer's thread only."""
        assert self._writer is not None
        try:
            with self._writer.begin() as connection:
                yield connection
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            raise store_error(getattr(error, "orig", error), self.path) from error

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run a function on the writer's thread, after those submitted before it."""
        assert self._thread is not None, "the store is closed, or open for reading only"
        future: Future[T] = Future()
        self._jobs.put((work, future))  # type: ignore[arg-type]
        return future

    def call(self, work: Callable[[], T]) -> T:
        """Run a function on the writer's thread and wait for it; blocks."""
        return work() if threading.current_thread() is self._thread else self.submit(work).result()

    async def write(self, work: Callable[[], T]) -> T:
        """Run a function on the writer's thread and wait for it without holding up the loop."""
        return await asyncio.wrap_future(self.submit(work))

    def _work(self) -> None:
        due = self.clock.monotonic() + 1.0
        while True:
            try:
                job = self._jobs.get(timeout=1.0 if self._tick is not None else None)
            except queue.Empty:
                job = (lambda: None, Future())
                due = self.clock.monotonic()
            if job is None:
                return
            work, future = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)
            if self._tick is not None and self.clock.monotonic() >= due:
                try:
                    self._tick()
                except Exception as error:
                    # Our own mistake: it stops here and is shown, but those who wait for an answer still get one.
                    log.exception("the writer of %s failed", self.path)
                    self._tick = None
                    self.note(
                        "writer_failed",
                        Text("Storing into {path} stopped: {reason}.", {"path": str(self.path), "reason": repr(error)}),
                        Text("Start the program again, and report this with `watchhamster doctor --bundle`."),
                    )
                due = self.clock.monotonic() + 1.0

    # ------------------------------------------------------------ copies

    def size(self) -> int:
        """Bytes on the disk, the WAL included."""
        return sum(
            file.stat().st_size
            for ending in ("", "-wal")
            if (file := self.path.with_name(self.path.name + ending)).exists()
        )

    def shrink(self) -> None:
        """Give free pages back to the disk. On the writer's thread only."""
        assert self._connection is not None
        try:
            # A script, because each step frees one page and `execute` takes a single step.
            self._connection.executescript("PRAGMA incremental_vacuum")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise store_error(error, self.path) from error

    def backup(self, target: Path) -> None:
        """Copy what is committed to `target`, whole or not at all. It may be called from any thread."""
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        try:
            with closing(self._connect()) as source, closing(sqlite3.connect(part)) as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode=DELETE")  # one file, without companions
            self._check(part, thorough=True)
            os.replace(part, target)
        except sqlite3.Error as error:
            raise store_error(error, target) from error
        finally:
            part.unlink(missing_ok=True)

    def restore(self, source: Path) -> Path:
        """Put a backup in place of the file, which is kept; where it was moved. On the writer's thread only.

        The backup is checked first: a `StoreError` leaves everything as it was.
        """
        if not source.is_file():
            raise StoreError(
                "no_backup",
                Text("There is no file {path}.", {"path": str(source)}),
                Text("Give the path of a backup made by WatchHamster."),
            )
        self._check(source, thorough=True)
        part = self.path.with_name(self.path.name + ".restore")
        try:
            with closing(open_for_reading(source)) as from_:
                if version_of(from_) == 0:
                    raise store_error(_not_a_database("it holds nothing of WatchHamster"), source)
                with closing(sqlite3.connect(part)) as to:
                    from_.backup(to)
            self._close_files()
            try:
                kept = self.move_aside("kept")
                os.replace(part, self.path)
            finally:
                self._open_files()
        except sqlite3.Error as error:
            raise store_error(error, source) from error
        finally:
            part.unlink(missing_ok=True)
        return kept
