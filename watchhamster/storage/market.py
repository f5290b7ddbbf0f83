"""`market.db`: what the venues said, as candles, and which stretches of time were asked for.

A candle is a row while its period (a UTC day of a series below 15m, a month to 4h, a year above) is open. When the
period is over its rows become one packed, checksummed block, in the transaction that deletes them. Rows found in a
period that has a block override it until the next sealing, so a correction costs a row and not a block. SQLite has no
checksums of its own, so every row here carries one; whatever does not match is moved to a quarantine table, and its
span is no longer marked as fetched, so that it is fetched again.

The coverage ledger holds the spans that were asked for. Only with it does a missing candle mean "no trade" rather than
"nobody asked". Candles and marks that arrive together are committed together, so losing the end of a WAL leaves a
store that says less, never one that says something wrong.

What a company did to its shares is kept beside the candles, by instrument. Distributions give the factors of adjusted
prices, computed as bars are read. A split changes the past: from then on the venue tells all of it in another scale, so
a split that is news to the store takes everything older that was told before it out of sight, in one transaction: the
candles stay as those first stored, which nobody reads as the latest, and their time is `not_fetched` again.

`append` and `mark` only buffer; the writer's thread commits once a second or each 1,000 candles. While the file is
locked or the disk is full, the buffer grows to its bound; what arrives after that is not stored, is counted, and its
time stays unmarked, so that it too is fetched again.
"""

from __future__ import annotations

import sqlite3
import struct
import threading
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import msgspec
import numpy as np
import sqlalchemy as sa

from watchhamster.core.actions import Learned, factors, left_after, shares_left, split_words
from watchhamster.core.bars import Bars, Floats, Ints, Span
from watchhamster.core.market import Action, Candle, Origin
from watchhamster.core.ports import Clock, StoreError, WatchHamsterError
from watchhamster.core.text import Text
from watchhamster.core.timeframes import SECOND_NS, Timeframe, timeframe
from watchhamster.storage.blocks import Assembly, Columns, checksum, decode, encode
from watchhamster.storage.database import Database, StoreNotice, open_for_reading

Row = tuple[
    int, float, float, float, float, float | None, float | None, int
]  # open_ns, o, h, l, c, volume, value, origin
Interval = tuple[int, int]
SeriesKey = tuple[str, str]  # instrument, timeframe

APPLICATION = 0x57484D4B  # "WHMK"
_ORIGINS: tuple[Origin, ...] = get_args(Origin)
_ORIGIN_CODES = {name: code for code, name in enumerate(_ORIGINS)}
_LIVE, _BACKFILL = _ORIGIN_CODES["live"], _ORIGIN_CODES["backfill"]
_BATCH = 1_000  # candles that make a commit before the second is over
_CHUNK = 50_000  # candles a transaction of a large import
_BLOCK_AT_ONCE = 100  # this many candles of a past period go straight into its block
_GRACE_NS = 600 * SECOND_NS  # after a period's end, before it is sealed
_CANDLES_MAX = 1 << 28  # more than a damaged count may ask memory for
_RECHECK_S = 3600.0
_SEAL_S = 600.0
_KEEP_DAYS_LEAST = 7
_NAN = float("nan")
_ROW = struct.Struct("<qq6dB")
_SPAN = struct.Struct("<qqq")
_EXTRA = struct.Struct("<qq4dq")
_EXTRA_COLUMNS = "series, open_ns, adj_close, dividends, stock_splits, capital_gains, told_ns, crc"
_DAY, _MONTH, _YEAR = timeframe("1d"), timeframe("1M"), timeframe("1y")
_FAR_NS = 1 << 62
_LONG_AGO = -_FAR_NS
_SAME_DAY_NS = 18 * 3600 * SECOND_NS  # two sources may mean different hours by the beginning of a day
_LOOK_BACK_NS = 20 * 86400 * SECOND_NS  # the last close before a distribution lies within
_NOISE = 1e-5  # between factors as told and as computed; the smallest distribution is more


class Counts(msgspec.Struct, frozen=True):
    """What came of candles written: `new`, `same` as stored, or `changed` (then the one before is kept as first)."""

    new: int = 0
    same: int = 0
    changed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.new + other.new, self.same + other.same, self.changed + other.changed)


class Extra(NamedTuple):
    """What is told of a bar besides its candle. None where nothing is."""

    open_ns: int
    adj_close: float | None
    dividends: float | None
    stock_splits: float | None
    capital_gains: float | None


class SeriesInfo(msgspec.Struct, frozen=True):
    """A stored series: how many candles, from which to which open time (both included)."""

    instrument: str
    timeframe: str
    count: int
    first_ns: int
    last_ns: int


class StoreState(msgspec.Struct, frozen=True):
    """How storing goes. `buffered` candles wait; `dropped` were not stored and will be fetched again."""

    state: Literal["ok", "behind", "locked", "full", "failed", "damaged"]
    since_ns: int
    buffered: int
    dropped: int
    detail: Text | None = None


class VerifyReport(msgspec.Struct, frozen=True):
    """What `verify` looked at and found. Damage remains while `damaged` exceeds `healed`."""

    checked: int  # blocks, rows and spans
    damaged: int  # found now, or found before and still missing
    healed: int  # of these, present again
    quarantined: list[dict[str, object]]  # kind, instrument, timeframe, since_ns, until_ns, reason


class Retention(msgspec.Struct, frozen=True):
    """How much history is kept: at most so many bytes, and of a timeframe at most so many days."""

    max_bytes: int | None = None
    keep_days: Mapping[str, float] = {}


class Pruned(msgspec.Struct, frozen=True):
    """What `prune` removed."""

    candles: int
    bytes: int


Refill = Callable[[str, str, int, int], Awaitable[object]]
"""Fetch a span of a series (instrument, timeframe, since_ns, until_ns) again and append and mark it."""


_Kind = Literal["block", "row", "first", "coverage", "extra", "action", "told"]


class _Damage(NamedTuple):
    kind: _Kind
    rowid: tuple[int | str, ...]  # the row's key in its table
    series: int  # 0 for what is kept by instrument
    since_ns: int
    until_ns: int
    reason: str


class _Waiting:
    """Candles and marks of one series on their way to the disk."""

    __slots__ = ("candles", "marks")

    def __init__(self) -> None:
        self.candles: list[Candle] = []
        self.marks: list[Interval] = []


def _create(connection: sqlite3.Connection) -> None:
    prices = "open REAL NOT NULL, high REAL NOT NULL, low REAL NOT NULL, close REAL NOT NULL, volume REAL, value REAL"
    row = (
        f"(series INTEGER NOT NULL, open_ns INTEGER NOT NULL, {prices}, origin INTEGER NOT NULL, crc INTEGER NOT NULL,"
    )
    for statement in (
        "CREATE TABLE series (id INTEGER PRIMARY KEY, instrument TEXT NOT NULL, timeframe TEXT NOT NULL,"
        " crc INTEGER NOT NULL, UNIQUE (instrument, timeframe))",
        f"CREATE TABLE candle {row} PRIMARY KEY (series, open_ns)) WITHOUT ROWID",
        f"CREATE TABLE first_candle {row} PRIMARY KEY (series, open_ns)) WITHOUT ROWID",
        "CREATE TABLE block (id INTEGER PRIMARY KEY, series INTEGER NOT NULL, start_ns INTEGER NOT NULL,"
        " count INTEGER NOT NULL, codec INTEGER NOT NULL, crc INTEGER NOT NULL, data BLOB NOT NULL,"
        " UNIQUE (series, start_ns))",
        "CREATE TABLE coverage (series INTEGER NOT NULL, since_ns INTEGER NOT NULL, until_ns INTEGER NOT NULL,"
        " crc INTEGER NOT NULL, PRIMARY KEY (series, since_ns)) WITHOUT ROWID",
        "CREATE TABLE extra (series INTEGER NOT NULL, open_ns INTEGER NOT NULL, adj_close REAL, dividends REAL,"
        " stock_splits REAL, capital_gains REAL, crc INTEGER NOT NULL, PRIMARY KEY (series, open_ns)) WITHOUT ROWID",
        "CREATE TABLE quarantine (id INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, kind TEXT NOT NULL,"
        " instrument TEXT, timeframe TEXT, since_ns INTEGER NOT NULL, until_ns INTEGER NOT NULL, reason TEXT NOT NULL,"
        " content BLOB NOT NULL, healed_ns INTEGER)",
    ):
        connection.execute(statement)


def _keep_actions(connection: sqlite3.Connection) -> None:
    """What was done to shares by instrument, and when bars were adjusted as told."""
    for statement in (
        "CREATE TABLE action (instrument TEXT NOT NULL, at_ns INTEGER NOT NULL, kind TEXT NOT NULL,"
        " amount REAL NOT NULL, told_ns INTEGER NOT NULL, crc INTEGER NOT NULL,"
        " PRIMARY KEY (instrument, at_ns, kind)) WITHOUT ROWID",
        # since_ns: the first word about the instrument; until_ns: up to here every action is known.
        "CREATE TABLE told (instrument TEXT PRIMARY KEY, since_ns INTEGER NOT NULL, until_ns INTEGER NOT NULL,"
        " crc INTEGER NOT NULL) WITHOUT ROWID",
        f"ALTER TABLE extra ADD COLUMN told_ns INTEGER NOT NULL DEFAULT {_FAR_NS}",
    ):
        connection.execute(statement)
    names = {series: name for series, *name in connection.execute("SELECT id, instrument, timeframe FROM series")}
    for (instrument,) in connection.execute("SELECT DISTINCT instrument FROM series").fetchall():
        connection.execute("INSERT INTO told VALUES (?,?,?,?)", (instrument, 0, 0, _name_crc((instrument, 0, 0))))
    for series, *values, _ in connection.execute(f"SELECT {_EXTRA_COLUMNS} FROM extra").fetchall():
        # Nobody knows when it was told: then it is taken as it is.
        key = (_extra_crc(series, values), series, values[0])
        connection.execute("UPDATE extra SET crc = ? WHERE series = ? AND open_ns = ?", key)
        instrument, name = names.get(series, (None, None))
        for kind, amount in zip(("dividend", "split", "gain"), values[2:5], strict=True):
            if amount and name == "1d":
                action = (instrument, values[0], kind, amount, _FAR_NS)
                connection.execute("INSERT OR IGNORE INTO action VALUES (?,?,?,?,?,?)", (*action, _name_crc(action)))


MIGRATIONS = (_create, _keep_actions)


class MarketStore:
    """Candles of every series, with what was fetched. `open` it, then use it from any thread; `close` it."""

    def __init__(self, path: Path, clock: Clock, *, buffer_max: int = 100_000, patience_s: float = 1.0) -> None:
        self._clock = clock
        self._buffer_max = buffer_max
        self._db = Database(path, clock, APPLICATION, MIGRATIONS, patience_s=patience_s, tick=self._each_second)
        self._lock = threading.Lock()  # guards what follows, up to the blank line
        self._waiting: dict[SeriesKey, _Waiting] = {}
        self._taken: dict[SeriesKey, _Waiting] = {}  # being committed
        self._buffered = 0
        self._flushing = False
        self._lost: dict[SeriesKey, list[Interval]] = {}
        self._dropped = 0
        self._problem: StoreError | None = None
        self._since_ns = clock.now_ns()

        self._ids: dict[SeriesKey, int] = {}  # the writer's
        self._checked: set[tuple[int, int]] = set()  # blocks (id, checksum) found right within the hour
        self._recheck_at = self._seal_at = self._mend_at = clock.monotonic()

    # ------------------------------------------------------------ life

    def open(self, *, read_only: bool = False) -> None:
        """Recover, upgrade and open the file. Raises `StoreError`, and then has changed nothing.

        A damaged file is moved into `quarantine/` and a fresh one begun with everything that can still be read and
        proves right; `notices` say so. Read-only works beside a running writer and never writes.
        """
        damaged = self._db.open(read_only=read_only)
        if damaged is not None:
            self._db.call(lambda: self._salvage(damaged))

    def close(self) -> None:
        """Commit what is buffered and close. Raises `StoreError` if that cannot be; the rest is fetched again."""
        try:
            if not self._db.read_only:
                self.flush()
        finally:
            self._db.close()

    @property
    def notices(self) -> list[StoreNotice]:
        """What a person should know about the file, oldest first."""
        return list(self._db.notices)

    @property
    def state(self) -> StoreState:
        """How storing goes just now."""
        with self._lock:
            problem, buffered = self._problem, self._buffered
            word: Literal["ok", "behind", "locked", "full", "failed", "damaged"] = "ok"
            if problem is not None:
                codes = {"database_locked": "locked", "disk_full": "full", "database_damaged": "damaged"}
                word = codes.get(problem.code, "failed")  # type: ignore[assignment]
            if buffered >= self._buffer_max:
                word = "behind"
            return StoreState(word, self._since_ns, buffered, self._dropped, None if problem is None else problem.text)

    # ------------------------------------------------------------ writing

    def append(self, candles: Sequence[Candle]) -> None:
        """Buffer closed (or corrected) candles; never blocks.

        A candle already stored with other values becomes its latest revision. When the buffer is at its bound the
        candles are dropped, counted in `state`, and their time stays `not_fetched`.
        """
        with self._lock:
            for candle in candles:
                # An absurd number must not reach the writer, where it would block every candle behind it.
                total = candle.open + candle.high + candle.low + candle.close
                if not (candle.closed and total - total == 0.0 and abs(candle.open_ns) < _FAR_NS):
                    raise ValueError(f"only closed candles with finite prices are stored, not {candle}")
                tf = timeframe(candle.timeframe)
                key = (candle.instrument, candle.timeframe)
                if self._buffered >= self._buffer_max:
                    span = (candle.open_ns, tf.next_ns(candle.open_ns))
                    self._lost[key] = _union([*self._lost.get(key, ()), span])
                    self._dropped += 1
                    continue
                if key in self._lost:
                    span = (candle.open_ns, tf.next_ns(candle.open_ns))
                    self._lost[key] = _without(self._lost[key], [span])
                waiting = self._waiting.get(key)
                if waiting is None:
                    waiting = self._waiting[key] = _Waiting()
                waiting.candles.append(candle)
                self._buffered += 1
            wake = self._buffered >= _BATCH and not self._flushing and self._problem is None
            self._flushing |= wake
        if wake:
            self._db.submit(self._flush)

    def mark(self, instrument: str, timeframe: str, since_ns: int, until_ns: int) -> None:
        """Buffer that `[since_ns, until_ns)` was fetched: a candle absent there had no trade."""
        key = (instrument, _timeframe(timeframe).name)
        with self._lock:
            spans = _without([(since_ns, until_ns)], self._lost.get(key, ())) if since_ns < until_ns else []
            if spans:
                waiting = self._waiting.setdefault(key, _Waiting())
                waiting.marks = _union([*waiting.marks, *spans])

    def write(
        self,
        candles: Sequence[Candle],
        marks: Iterable[tuple[str, str, int, int]] = (),
        extras: Iterable[tuple[str, str, Extra]] = (),
        actions: Sequence[Action] = (),
    ) -> Counts:
        """Store at once and return when it is on the disk: for imports. Blocks; not for the loop.

        `marks` are (instrument, timeframe, since_ns, until_ns). The candles count as told when the last of them began,
        for nobody says when it was. Raises `StoreError`; what was committed before stays.
        """
        now_ns = self._clock.now_ns()
        last: dict[str, int] = {}
        for candle in candles:
            last[candle.instrument] = min(now_ns, max(candle.open_ns, last.get(candle.instrument, _LONG_AGO)))
        groups: dict[SeriesKey, _Waiting] = {}
        more: dict[SeriesKey, list[Extra]] = {}
        for instrument, name, since_ns, until_ns in marks:
            groups.setdefault((instrument, name), _Waiting()).marks.append((since_ns, until_ns))
        for instrument, name, extra in extras:
            more.setdefault((instrument, name), []).append(extra)

        def chunk(part: Sequence[Candle], is_last: bool) -> Counts:
            self._flush(raises=True)
            batch: dict[SeriesKey, _Waiting] = groups if is_last else {}
            for candle in part:
                batch.setdefault((candle.instrument, candle.timeframe), _Waiting()).candles.append(candle)
            counts = self._commit(batch, more if is_last else {})
            if is_last:
                self._seal()
            return counts

        def learn() -> None:
            self._flush(raises=True)
            with self._db.writing() as connection:
                found = [
                    self._learn(connection, name, [a for a in actions if a.instrument == name], told_ns)
                    for name, told_ns in last.items()
                ]
            self._tell_of(*found)

        self._db.call(learn)
        counts = Counts()
        for start in range(0, max(1, len(candles)), _CHUNK):
            part = candles[start : start + _CHUNK]
            counts += self._db.call(partial(chunk, part, start + _CHUNK >= len(candles)))
        return counts

    async def learn(
        self,
        instrument: str,
        actions: Sequence[Action],
        until_ns: int,
        adjusted: Mapping[str, Mapping[int, float]] | None = None,
    ) -> Learned:
        """Store what was done to shares, as the venue tells it now: all up to `until_ns` that was not known before.

        `adjusted` are the closes told with it, by timeframe and open time. To be called before candles that came with
        it are appended: a split that is news takes everything older out of sight. Raises `StoreError`.
        """

        def work() -> Learned:
            self._flush(raises=True)
            try:
                with self._db.writing() as connection:
                    now_ns = self._clock.now_ns()
                    learned = self._learn(connection, instrument, actions, now_ns, until_ns)
                    for name, closes in (adjusted or {}).items():
                        rows = [Extra(at, close, None, None, None) for at, close in closes.items()]
                        self._keep_extras(connection, (instrument, name), rows)
            except BaseException:
                self._ids.clear()
                raise
            self._tell_of(learned)
            return learned

        return await self._db.write(work)

    async def known_until_ns(self, instrument: str) -> int | None:
        """Up to when every action of an instrument is known; None for one of which nothing was ever told."""

        def work() -> int | None:
            with self._db.reading() as connection:
                found = None if connection is None else _told(connection, instrument)
                return None if found is None else found[1]

        return await self._db.read(work)

    def _learn(
        self,
        connection: sa.Connection,
        instrument: str,
        actions: Sequence[Action],
        told_ns: int,
        until_ns: int = _LONG_AGO,
    ) -> Learned:
        """Store actions that were told at some moment, and what follows from a new split."""
        since_ns, known_ns = _told(connection, instrument) or (told_ns, _LONG_AGO)
        stored = _actions(connection, instrument, _LONG_AGO, _FAR_NS)
        places = {(action.kind, action.at_ns) for action, _ in stored}
        paid: dict[tuple[str, int], Action] = {}
        for action in actions:
            near = [at for kind, at in places if kind == action.kind and abs(at - action.at_ns) < _SAME_DAY_NS]
            key = (action.kind, near[0] if near else action.at_ns)
            before = 0.0 if key not in paid or action.kind == "split" else paid[key].amount
            paid[key] = Action(instrument, key[1], action.kind, before + float(action.amount))
        new = tuple(action for key, action in paid.items() if key not in places)
        stale: list[tuple[str, int, int]] = []
        splits = [
            action for action in new if action.kind == "split" and since_ns < action.at_ns <= self._clock.now_ns()
        ]
        if splits:
            for action, then_ns in stored:
                over = [s.amount for s in splits if action.at_ns < s.at_ns and then_ns < s.at_ns]
                key = (action.kind, action.at_ns)
                if over and action.kind != "split" and key not in paid:
                    amount = action.amount / float(np.prod(over))
                    paid[key] = Action(instrument, action.at_ns, action.kind, amount)
            stale = self._hide(connection, instrument, max(split.at_ns for split in splits))
            since_ns = told_ns
        rows = [(*msgspec.structs.astuple(action), told_ns) for action in paid.values()]
        if rows:
            connection.exec_driver_sql(
                "INSERT OR REPLACE INTO action VALUES (?,?,?,?,?,?)", [(*row, _name_crc(row)) for row in rows]
            )
        row = (instrument, min(since_ns, told_ns), max(known_ns, until_ns))
        connection.exec_driver_sql("INSERT OR REPLACE INTO told VALUES (?,?,?,?)", (*row, _name_crc(row)))
        return Learned(new, tuple(stale))

    def _tell_of(self, *learned: Learned) -> None:
        for split in (split for news in learned for split in news.splits):
            self._db.note("rescaled", split_words(split))

    def _hide(self, connection: sa.Connection, instrument: str, until_ns: int) -> list[tuple[str, int, int]]:
        """Take all candles that open before out of sight: kept as first stored, and no longer fetched."""
        hidden: list[tuple[str, int, int]] = []
        for series, name in connection.exec_driver_sql(
            "SELECT id, timeframe FROM series WHERE instrument = ?", (instrument,)
        ).fetchall():
            tf = timeframe(name)
            parts, damage = self._columns(connection, series, tf, _LONG_AGO, until_ns)
            if damage:
                self._quarantine_in(connection, damage)
            columns = parts.columns
            count = int(np.searchsorted(columns.times, until_ns))
            for table, rows in (
                ("first_candle", _rows(columns.slice(0, count))),
                ("candle", _rows(columns.slice(count, len(columns.times)))),  # what shares a block with them
            ):
                if rows:
                    connection.exec_driver_sql(
                        f"INSERT OR IGNORE INTO {table} VALUES (?,?,?,?,?,?,?,?,?,?)",
                        [(series, *row, _crc(series, row)) for row in rows],
                    )
            for statement in (
                "DELETE FROM block WHERE series = ? AND start_ns < ?",
                "DELETE FROM candle WHERE series = ? AND open_ns < ?",
                "DELETE FROM extra WHERE series = ? AND open_ns < ?",
            ):
                connection.exec_driver_sql(statement, (series, until_ns))
            fetched = _fetched(connection, series, _LONG_AGO, until_ns)
            _uncover(connection, series, _LONG_AGO, until_ns)
            starts = [int(columns.times[0])] if count else []
            starts += [since_ns for since_ns, _ in fetched if since_ns < until_ns]
            if starts:
                hidden.append((name, min(starts), until_ns))
        return hidden

    def _keep_extras(self, connection: sa.Connection, key: SeriesKey, rows: Sequence[Extra]) -> None:
        series, now_ns = self._series_id(connection, key), self._clock.now_ns()
        if rows:
            connection.exec_driver_sql(
                f"INSERT OR REPLACE INTO extra ({_EXTRA_COLUMNS}) VALUES (?,?,?,?,?,?,?,?)",
                [(series, *row, now_ns, _extra_crc(series, (*row, now_ns))) for row in rows],
            )

    def flush(self) -> None:
        """Return when everything appended so far is on the disk. Raises `StoreError` when it cannot be written."""
        self._db.call(lambda: self._flush(raises=True))

    def seal(self) -> int:
        """Turn the rows of finished periods into blocks; how many blocks were written."""
        return self._db.call(self._seal)

    def _each_second(self) -> None:
        now = self._clock.monotonic()
        self._flush()
        if now >= self._recheck_at:
            self._recheck_at = now + _RECHECK_S
            self._checked.clear()
        if now >= self._seal_at and self._problem is None:
            self._seal_at = now + _SEAL_S
            with suppress(StoreError):  # the next flush meets the same obstacle, and reports it
                self._seal()

    def _flush(self, raises: bool = False) -> None:
        with self._lock:
            if not self._taken:
                self._taken, self._waiting = self._waiting, {}
        try:
            while self._taken:
                self._commit(self._taken, {})
                with self._lock:
                    self._buffered -= sum(len(waiting.candles) for waiting in self._taken.values())
                    self._taken, self._waiting = self._waiting, {}
        except StoreError as error:
            if self._mend(error):
                return self._flush(raises)
            with self._lock:
                if self._problem is None or self._problem.code != error.code:
                    self._since_ns = self._clock.now_ns()
                self._problem = error
            if raises:
                raise
        else:
            with self._lock:
                if self._problem is not None:
                    self._problem = None
                    self._since_ns = self._clock.now_ns()
        finally:
            with self._lock:
                self._flushing = False

    def _commit(self, batch: Mapping[SeriesKey, _Waiting], extras: Mapping[SeriesKey, list[Extra]]) -> Counts:
        counts = Counts()
        try:
            with self._db.writing() as connection:
                for key, waiting in batch.items():
                    series = self._series_id(connection, key)
                    counts += self._store(connection, series, timeframe(key[1]), waiting.candles)
                    for interval in waiting.marks:
                        _cover(connection, series, [interval])
                for key, rows in extras.items():
                    self._keep_extras(connection, key, rows)
        except BaseException:
            self._ids.clear()  # a series begun in this transaction is gone again
            raise
        return counts

    def _series_id(self, connection: sa.Connection, key: SeriesKey) -> int:
        found = self._ids.get(key)
        if found is None:
            connection.exec_driver_sql(
                "INSERT OR IGNORE INTO series (instrument, timeframe, crc) VALUES (?,?,?)", (*key, _name_crc(key))
            )
            found = self._ids[key] = _find_series(connection, key) or 0
        return found

    def _store(self, connection: sa.Connection, series: int, tf: Timeframe, candles: Sequence[Candle]) -> Counts:
        if not candles:
            return Counts()
        opens = [candle.open_ns for candle in candles]
        since, until = min(opens), max(opens) + 1
        parts, damage = self._columns(connection, series, tf, since, until)
        if damage:
            self._quarantine_in(connection, damage)
        stored = _rows_at(parts.columns, opens)
        firsts: dict[int, Row] = {}
        latest: dict[int, Row] = {}
        new = same = changed = 0
        for candle in candles:
            at = candle.open_ns
            old = latest.get(at) or stored.get(at)
            row = _settle(old, _row(candle))
            if row is None:
                same += 1
                continue
            if old is None:
                new += 1
            else:
                changed += 1
                firsts.setdefault(at, old)
            latest[at] = row
        if firsts:
            connection.exec_driver_sql(
                "INSERT OR IGNORE INTO first_candle VALUES (?,?,?,?,?,?,?,?,?,?)",
                [(series, *row, _crc(series, row)) for row in firsts.values()],
            )
        if latest:
            self._place(connection, series, tf, latest)
        return Counts(new, same, changed)

    def _place(self, connection: sa.Connection, series: int, tf: Timeframe, latest: dict[int, Row]) -> None:
        """Put rows where they belong: many of a period that is over into its block, the rest into the table."""
        period = _period(tf)
        over_ns = self._clock.now_ns() - _GRACE_NS
        singles: list[Row] = []
        ordered = [latest[at] for at in sorted(latest)]
        start = 0
        while start < len(ordered):
            begins = period.open_ns(ordered[start][0])
            ends = period.next_ns(begins)
            stop = start + 1
            while stop < len(ordered) and ordered[stop][0] < ends:
                stop += 1
            if stop - start >= _BLOCK_AT_ONCE and ends <= over_ns:
                self._seal_period(connection, series, tf, begins, _columns_of(ordered[start:stop]))
            else:
                singles += ordered[start:stop]
            start = stop
        if singles:
            connection.exec_driver_sql(
                "INSERT OR REPLACE INTO candle VALUES (?,?,?,?,?,?,?,?,?,?)",
                [(series, *row, _crc(series, row)) for row in singles],
            )

    def _seal(self) -> int:
        sealed = 0
        with self._db.reading() as connection:
            assert connection is not None
            spans = connection.exec_driver_sql(
                "SELECT s.id, s.timeframe, min(c.open_ns), max(c.open_ns) FROM candle c"
                " JOIN series s ON s.id = c.series GROUP BY s.id"
            ).fetchall()
        over_ns = self._clock.now_ns() - _GRACE_NS
        for series, name, first_ns, last_ns in spans:
            tf = timeframe(name)
            period = _period(tf)
            start = period.open_ns(first_ns)
            while start <= last_ns and period.next_ns(start) <= over_ns:
                with self._db.writing() as connection:
                    sealed += self._seal_period(connection, series, tf, start, Columns.empty())
                    # The next period that has rows: a series may have slept for years.
                    later = connection.exec_driver_sql(
                        "SELECT min(open_ns) FROM candle WHERE series = ? AND open_ns >= ?",
                        (series, period.next_ns(start)),
                    ).scalar()
                if later is None:
                    break
                start = period.open_ns(later)
        return sealed

    def _seal_period(self, connection: sa.Connection, series: int, tf: Timeframe, start_ns: int, more: Columns) -> bool:
        """Merge a period's block, its rows and `more` (which wins) into one block."""
        end_ns = _period(tf).next_ns(start_ns)
        parts, damage = self._columns(connection, series, tf, start_ns, end_ns, len(more.times))
        if damage:
            self._quarantine_in(connection, damage)
        parts.put(more)
        columns = parts.columns
        count = len(columns.times)
        if not count:
            return False
        codec, data = encode(columns)
        # A block that could not be read back would be worse than rows.
        check = Columns.empty(count)
        decode(codec, data, check)
        assert check.same(columns), "a block must read back"
        connection.exec_driver_sql(
            "INSERT OR REPLACE INTO block (series, start_ns, count, codec, crc, data) VALUES (?,?,?,?,?,?)",
            (series, start_ns, count, codec, checksum(series, start_ns, count, codec, data), data),
        )
        connection.exec_driver_sql(
            "DELETE FROM candle WHERE series = ? AND open_ns >= ? AND open_ns < ?", (series, start_ns, end_ns)
        )
        return True

    # ------------------------------------------------------------ reading

    async def bars(self, instrument: str, timeframe: str, since_ns: int, until_ns: int) -> Bars:
        """`read_bars`, off the loop."""
        return await self._db.read(lambda: self.read_bars(instrument, timeframe, since_ns, until_ns))

    async def coverage(self, instrument: str, timeframe: str, since_ns: int, until_ns: int) -> list[Span]:
        """`read_coverage`, off the loop."""
        return await self._db.read(lambda: self.read_coverage(instrument, timeframe, since_ns, until_ns))

    def read_bars(self, instrument: str, timeframe: str, since_ns: int, until_ns: int, *, first: bool = False) -> Bars:
        """Candles that open in `[since_ns, until_ns)`, buffered ones included, in their latest revision.

        `first=True` gives each as it was first stored, which is what a live formula saw. Damaged ones are left out,
        quarantined, and are `not_fetched` from then on. Raises `StoreError` when the file cannot be read.
        """
        columns, _ = self._read(instrument, timeframe, since_ns, until_ns, first)
        return columns.bars(self._adjustment(instrument, timeframe, columns))

    def read_candles(self, instrument: str, timeframe: str, since_ns: int, until_ns: int) -> list[Candle]:
        """As `read_bars`, one by one and with their origin."""
        columns, _ = self._read(instrument, timeframe, since_ns, until_ns, False)
        return [
            Candle(instrument, timeframe, t, o, h, lo, c, v, q, True, _ORIGINS[origin])
            for t, o, h, lo, c, v, q, origin in _rows(columns)
        ]

    def read_actions(self, instrument: str, since_ns: int, until_ns: int) -> list[Action]:
        """Dividends, distributed gains and splits whose day begins in `[since_ns, until_ns)`, oldest first."""
        with self._db.reading() as connection:
            if connection is None:
                return []
            return [action for action, _ in _actions(connection, instrument, since_ns, until_ns)]

    def read_extras(self, instrument: str, timeframe: str, since_ns: int, until_ns: int) -> dict[int, Extra]:
        """What is known of candles besides, by open time: as a file or the venue told it, else as it follows.

        A close that was adjusted as told before a later distribution is adjusted for that, too.
        """
        columns, _ = self._read(instrument, timeframe, since_ns, until_ns, False)
        times, closes = columns.times, columns.values[3]
        if not len(times):
            return {}
        told = self._told_extras(instrument, timeframe, since_ns, until_ns)
        adjustment = self._adjustment(instrument, timeframe, columns)
        actions = self.read_actions(instrument, int(times[0]), _FAR_NS)
        if not told and adjustment is None and not actions:
            return {}
        ends = np.append(times, _FAR_NS)[1:]
        sums: dict[tuple[str, int], float] = {}
        for action in actions:
            index = int(np.searchsorted(ends, action.at_ns, side="right"))
            if index < len(times) and action.at_ns < _timeframe(timeframe).next_ns(int(times[index])):
                place = (action.kind, int(times[index]))
                sums[place] = sums.get(place, 0.0) + action.amount
        left = self._shares_left(instrument, timeframe, int(times[0]))
        found: dict[int, Extra] = {}
        each = np.ones(len(times)) if adjustment is None else adjustment
        told_at = np.array([told[at][1] + 1 if at in told else _FAR_NS for at in times.tolist()], np.int64)
        later = left_after(told_at, left)
        for at, close, factor, since in zip(
            times.tolist(), closes.tolist(), each.tolist(), later.tolist(), strict=True
        ):
            extra, _ = told.get(at, (Extra(at, close * factor, None, None, None), 0))
            adjusted = None if extra.adj_close is None else extra.adj_close * since
            kinds = (("dividend", extra.dividends), ("split", extra.stock_splits), ("gain", extra.capital_gains))
            events = [sums.get((kind, at)) if value is None else value for kind, value in kinds]
            found[at] = Extra(at, adjusted, *events)
        return found

    def _told_extras(self, instrument: str, name: str, since_ns: int, until_ns: int) -> dict[int, tuple[Extra, int]]:
        """What was told of bars, and when."""
        found: dict[int, tuple[Extra, int]] = {}
        with self._db.reading() as connection:
            series = _find_series(connection, (instrument, name))
            if connection is None or series is None:
                return found
            for _, *values, told_ns, crc in connection.exec_driver_sql(
                f"SELECT {_EXTRA_COLUMNS} FROM extra"
                " WHERE series = ? AND open_ns >= ? AND open_ns < ? ORDER BY open_ns",
                (series, since_ns, until_ns),
            ):
                if _extra_crc(series, (*values, told_ns)) == crc:
                    found[values[0]] = (Extra(*values), told_ns)
        return found

    def _shares_left(self, instrument: str, name: str, since_ns: int) -> list[tuple[int, float]]:
        """What each known distribution since then left of a price, by the closes of days, or else of the series."""
        paid = [action for action in self.read_actions(instrument, since_ns, _FAR_NS) if action.kind != "split"]
        if not paid:
            return []
        for source in dict.fromkeys((_DAY.name, name)):
            length_ns = _length_ns(_timeframe(source))
            columns, _ = self._read(instrument, source, paid[0].at_ns - _LOOK_BACK_NS - length_ns, _FAR_NS, False)
            if len(columns.times) and int(columns.times[0]) < paid[0].at_ns:
                break
        return shares_left(columns.times, columns.values[3], paid, length_ns)

    def _adjustment(self, instrument: str, name: str, columns: Columns) -> Floats | None:
        """The factors of adjusted prices, or None where all are 1.

        They follow from the distributions that are known. Where the venue's own adjusted closes differ by more than
        noise, it knows of some that the store does not: then its word holds, for the bars before, too. It gives its
        word on days, so a shorter bar has its day's factor.
        """
        times, closes = columns.times, columns.values[3]
        if not len(times):
            return None
        tf = _timeframe(name)
        is_part = tf.approximate_ns < _DAY.approximate_ns
        span = (int(times[0]) - (_DAY.approximate_ns if is_part else 0), int(times[-1]) + 1)
        left = self._shares_left(instrument, name, int(times[0]))
        told = self._told_extras(instrument, _DAY.name if is_part else name, *span)
        if not left and not told:
            return None
        found = factors(times, left, _length_ns(tf))
        if is_part:
            days, _ = self._read(instrument, _DAY.name, *span, False)
            of_days = self._adjustment(instrument, _DAY.name, days)
            if of_days is not None:
                at = np.searchsorted(days.times, times, side="right") - 1
                known = (at >= 0) & (times < days.times[at] + _DAY.approximate_ns)
                found[known] = of_days[at[known]]
        else:
            rows = [(at, extra.adj_close, told_ns) for at, (extra, told_ns) in told.items() if extra.adj_close]
            opens, adjusted, told_at = (np.array([row[n] for row in rows]) for n in range(3))
            known = np.isin(opens, times)
            at = np.searchsorted(times, opens[known])
            ratio = (adjusted * left_after(told_at + 1, left))[known] / closes[at] / found[at]
            if (np.abs(ratio - 1.0) > _NOISE).any():
                ratio[np.abs(ratio - 1.0) <= _NOISE] = 1.0
                following = np.searchsorted(at, np.arange(len(times)))
                found = found * np.append(ratio, 1.0)[following]
        return None if (found == 1.0).all() else found

    def read_coverage(self, instrument: str, timeframe: str, since_ns: int, until_ns: int) -> list[Span]:
        """What is known of each part of `[since_ns, until_ns)`, oldest first and without gaps."""
        if since_ns >= until_ns:
            return []
        columns, fetched = self._read(instrument, timeframe, since_ns, until_ns, False)
        return _spans(_timeframe(timeframe), columns.times, fetched, since_ns, until_ns)

    def series(self) -> list[SeriesInfo]:
        """Every stored series with at least one candle on the disk, by name."""
        found = []
        with self._db.reading() as connection:
            if connection is None:
                return []
            for series, instrument, name in connection.exec_driver_sql(
                "SELECT id, instrument, timeframe FROM series ORDER BY instrument, timeframe"
            ).fetchall():
                tf = timeframe(name)
                since_ns, until_ns = self._extent(connection, series, name)
                # Only the ends and the rows are looked at: in between the blocks' own counts will do.
                period = _period(tf)
                ends = {period.open_ns(since_ns), period.open_ns(max(since_ns, until_ns - 1))}
                open_times = connection.exec_driver_sql("SELECT open_ns FROM candle WHERE series = ?", (series,))
                loose = ends | {period.open_ns(row[0]) for row in open_times}
                blocks = connection.exec_driver_sql("SELECT start_ns, count FROM block WHERE series = ?", (series,))
                count = sum(block[1] for block in blocks if block[0] not in loose)
                times: list[int] = []
                for start_ns in loose:
                    parts, _ = self._columns(connection, series, tf, start_ns, period.next_ns(start_ns))
                    times += parts.columns.times.tolist()
                if times:
                    found.append(SeriesInfo(instrument, name, count + len(times), min(times), max(times)))
        return found

    def last_ns(self, instrument: str, timeframe: str) -> int | None:
        """The open time of a series' newest stored candle."""
        with self._db.reading() as connection:
            series = _find_series(connection, (instrument, timeframe))
            newest = _LONG_AGO
            if connection is not None and series is not None:
                since_ns, until_ns = self._extent(connection, series, timeframe)
                last_period = _period(_timeframe(timeframe)).open_ns(max(since_ns, until_ns - 1))
                parts, _ = self._columns(connection, series, _timeframe(timeframe), last_period, until_ns)
                newest = max([newest, *parts.columns.times[-1:].tolist()])
        waiting = self._pending(instrument, timeframe)
        newest = max([newest, *(candle.open_ns for candle in waiting.candles)])
        return None if newest == _LONG_AGO else newest

    @staticmethod
    def _extent(connection: sa.Connection, series: int, name: str) -> Interval:
        """From the first to behind the last candle a series may have."""
        blocks = connection.exec_driver_sql(
            "SELECT min(start_ns), max(start_ns) FROM block WHERE series = ?", (series,)
        ).one()
        rows = connection.exec_driver_sql(
            "SELECT min(open_ns), max(open_ns) FROM candle WHERE series = ?", (series,)
        ).one()
        starts = [ns for ns in (blocks[0], rows[0]) if ns is not None]
        if not starts:
            return 0, 0
        ends = [rows[1] + 1] if rows[1] is not None else []
        if blocks[1] is not None:
            ends.append(_period(timeframe(name)).next_ns(blocks[1]))
        return min(starts), max(ends)

    def _pending(self, instrument: str, timeframe: str) -> _Waiting:
        found = _Waiting()
        with self._lock:
            for source in (self._taken, self._waiting):
                if (waiting := source.get((instrument, timeframe))) is not None:
                    found.candles += waiting.candles
                    found.marks += waiting.marks
        return found

    def _read(
        self, instrument: str, name: str, since_ns: int, until_ns: int, first: bool
    ) -> tuple[Columns, list[Interval]]:
        tf = _timeframe(name)
        # The buffer before the file: a batch committed in between is then seen twice rather than not at all.
        waiting = self._pending(instrument, name)
        candles = [candle for candle in waiting.candles if since_ns <= candle.open_ns < until_ns]

        def stored_part() -> tuple[Assembly, Columns, list[_Damage], list[Interval]]:
            with self._db.reading() as connection:
                series = _find_series(connection, (instrument, name))
                if connection is None or series is None:
                    return Assembly(len(candles)), Columns.empty(), [], []
                parts, damage = self._columns(connection, series, tf, since_ns, until_ns, len(candles))
                firsts = _firsts(connection, series, since_ns, until_ns) if first else Columns.empty()
                return parts, firsts, damage, _fetched(connection, series, since_ns, until_ns)

        try:
            parts, firsts, damage, fetched = stored_part()
        except StoreError as error:
            problem = error  # the name ends with the clause
            if self._db.read_only or not self._db.call(lambda: self._mend(problem)):
                raise
            parts, firsts, damage, fetched = stored_part()
        if damage and not self._db.read_only:
            self._db.call(lambda: self._quarantine(damage))
        if candles:
            stored = _rows_at(parts.columns, [candle.open_ns for candle in candles])
            latest: dict[int, Row] = {}
            for candle in candles:
                at = candle.open_ns
                old = latest.get(at) or stored.get(at)
                row = _settle(old, _row(candle))
                if row is not None and not (first and old is not None):
                    latest[at] = row
            parts.put(_columns_of([latest[at] for at in sorted(latest)]))
        if len(firsts.times):
            there = np.isin(firsts.times, parts.columns.times)  # one whose latest is lost waits for it
            parts.put(Columns(firsts.times[there], firsts.values[:, there], firsts.origins[there]))
        return parts.columns.between(since_ns, until_ns), _union([*fetched, *waiting.marks])

    def _columns(
        self, connection: sa.Connection, series: int, tf: Timeframe, since_ns: int, until_ns: int, spare: int = 0
    ) -> tuple[Assembly, list[_Damage]]:
        """The candles on the disk (and what else is in their blocks), with spare room, and what is damaged."""
        period = _period(tf)
        damage: list[_Damage] = []
        # The driver's own cursor: it hands out a block while that is still in the processor's cache.
        driver: Any = connection.connection.driver_connection
        rows = []
        for *values, crc in driver.execute(
            "SELECT open_ns, open, high, low, close, volume, value, origin, crc FROM candle"
            " WHERE series = ? AND open_ns >= ? AND open_ns < ? ORDER BY open_ns",
            (series, since_ns, until_ns),
        ):
            row: Row = tuple(values)
            if _crc(series, row) == crc:
                rows.append(row)
            else:
                span = (row[0], row[0] + 1)
                damage.append(_Damage("row", (series, row[0]), series, *span, "its checksum does not match"))
        bounds = (series, period.open_ns(since_ns), until_ns)
        where = "FROM block WHERE series = ? AND start_ns >= ? AND start_ns < ?"
        total = driver.execute(f"SELECT total(count) {where}", bounds).fetchone()[0]
        parts = Assembly(min(int(total), _CANDLES_MAX) + len(rows) + spare)
        for key, start_ns, count, codec, crc, data in driver.execute(
            f"SELECT id, start_ns, count, codec, crc, data {where} ORDER BY start_ns", bounds
        ):
            reason = self._fault(key, series, start_ns, count, codec, crc, data)
            if reason is None:
                decode(codec, data, parts.room(count))
                parts.keep(count)
            else:
                damage.append(_Damage("block", (key,), series, start_ns, period.next_ns(start_ns), reason))
        parts.put(_columns_of(rows))
        return parts, damage

    def _fault(self, key: int, series: int, start_ns: int, count: int, codec: int, crc: int, data: bytes) -> str | None:
        """What is wrong with a block, if anything. A checksum found right is believed for an hour."""
        if (key, crc) in self._checked:
            return None
        try:
            if checksum(series, start_ns, count, codec, data) != crc:
                return "its checksum does not match"
        except (struct.error, TypeError):
            return "it is not what a block is made of"
        self._checked.add((key, crc))
        return None

    # ------------------------------------------------------------ damage

    async def verify(self, refill: Refill | None = None) -> VerifyReport:
        """Check every block, row and span; quarantine what is damaged, and fetch it again where `refill` is given.

        Nothing is deleted. A file whose structure is damaged is rebuilt from what can be read. Opened read-only, it
        only reports.
        """
        read_only = self._db.read_only
        if not read_only:
            await self._db.write(lambda: self._flush())
        broken = await self._db.read(self._structure)
        files: list[dict[str, object]] = []
        if broken is not None:
            path: Path | None = None
            if not read_only:
                path = await self._db.write(lambda: self._rebuild(broken))
            files.append({"kind": "file", "path": str(path or self._db.path), "reason": str(broken)})
        checked, damage = await self._db.read(self._scan) if broken is None or not read_only else (0, [])
        if damage and not read_only:
            await self._db.write(lambda: self._quarantine(damage))
        missing = await self._db.read(self._missing)
        known = {entry["id"] for entry in missing}
        if refill is not None:
            for entry in missing:
                with suppress(WatchHamsterError):  # a venue that is away now; the span stays unmarked
                    await refill(entry["instrument"], entry["timeframe"], entry["since_ns"], entry["until_ns"])
        if not read_only:
            still = await self._db.write(self._settle_quarantine)
        else:
            still = known
        others = [d for d in damage if read_only or d.kind not in ("block", "row")]
        quarantined = [*files, *({k: v for k, v in entry.items() if k not in ("id", "count")} for entry in missing)]
        quarantined += [
            {"kind": d.kind, "since_ns": d.since_ns, "until_ns": d.until_ns, "reason": d.reason} for d in others
        ]
        return VerifyReport(checked, len(quarantined), len(known - still), quarantined)

    def _structure(self) -> Text | None:
        """What SQLite itself finds wrong with the file."""
        try:
            with self._db.reading() as connection:
                if connection is None:
                    return None
                said = str(connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar())
        except StoreError as error:
            if error.code != "database_damaged":
                raise
            return error.text
        return None if said == "ok" else Text("{reason}", {"reason": said.splitlines()[-1]})

    def _mend(self, error: StoreError) -> bool:
        """Rebuild a file that turned out to be damaged while in use; at most once an hour. On the writer's thread."""
        now = self._clock.monotonic()
        if error.code != "database_damaged" or now < self._mend_at:
            return False
        self._mend_at = now + _RECHECK_S
        self._rebuild(error.text)
        return True

    def _rebuild(self, reason: Text) -> Path:
        moved = self._db.rebuild(reason)
        self._forget()
        self._salvage(moved)
        return moved

    def _forget(self) -> None:
        self._ids.clear()
        self._checked.clear()

    def _scan(self) -> tuple[int, list[_Damage]]:
        """Look at everything: how much that was, and what is wrong."""
        checked, damage = 0, list[_Damage]()
        self._checked.clear()
        with self._db.reading() as connection:
            if connection is None:
                return 0, []
            names = connection.exec_driver_sql("SELECT id, timeframe FROM series").fetchall()
            periods = {series: _period(timeframe(name)) for series, name in names}
            driver: Any = connection.connection.driver_connection
            for key, series, start_ns, count, codec, crc, data in driver.execute("SELECT * FROM block ORDER BY id"):
                checked += 1
                period = periods.get(series)
                reason = self._fault(key, series, start_ns, count, codec, crc, data)
                if reason is None and period is None:
                    reason = "its series is unknown"
                if reason is None and period is not None:
                    columns = Columns.empty(count)
                    decode(codec, data, columns)
                    times = columns.times
                    ends_ns = period.next_ns(start_ns)
                    if times[0] < start_ns or times[-1] >= ends_ns or (np.diff(times) <= 0).any():
                        reason = "its candles are not of its period"
                if reason is not None:
                    ends_ns = period.next_ns(start_ns) if period and isinstance(start_ns, int) else 0
                    damage.append(_Damage("block", (key,), series, start_ns, ends_ns, reason))
            tables: tuple[tuple[_Kind, str, Callable[[int, Sequence[Any]], int]], ...] = (
                ("row", "candle", _crc),
                ("first", "first_candle", _crc),
                ("extra", "extra", _extra_crc),
                ("coverage", "coverage", _span_crc),
            )
            for kind, table, crc_of in tables:
                columns_ = _EXTRA_COLUMNS if kind == "extra" else "*"
                for series, *values, crc in driver.execute(f"SELECT {columns_} FROM {table}"):
                    checked += 1
                    if series not in periods or crc_of(series, values) != crc:
                        until_ns = values[1] if kind == "coverage" else values[0] + 1
                        reason = "its checksum does not match"
                        damage.append(_Damage(kind, (series, values[0]), series, values[0], until_ns, reason))
            by_instrument: tuple[tuple[_Kind, int], ...] = (("action", 3), ("told", 1))
            for kind, places in by_instrument:
                for *values, crc in driver.execute(f"SELECT * FROM {kind}"):
                    checked += 1
                    if _name_crc(values) != crc:
                        at_ns = values[1] if isinstance(values[1], int) else 0
                        key = tuple(values[:places])
                        damage.append(_Damage(kind, key, 0, at_ns, at_ns + 1, "its checksum does not match"))
        return checked, damage

    def _quarantine(self, damage: Sequence[_Damage]) -> None:
        with self._db.writing() as connection:
            self._quarantine_in(connection, damage)

    def _quarantine_in(self, connection: sa.Connection, damage: Sequence[_Damage]) -> None:
        """Move damaged content to the quarantine table, and unmark the time it stood for."""
        tables = {"row": "candle", "first": "first_candle"}  # the others are named as what they hold
        keys = {
            "block": "id = ?",
            "coverage": "series = ? AND since_ns = ?",
            "action": "instrument = ? AND at_ns = ? AND kind = ?",
            "told": "instrument = ?",
        }
        moved = 0
        for kind, key, series, since_ns, until_ns, reason in damage:
            where = f"FROM {tables.get(kind, kind)} WHERE {keys.get(kind, 'series = ? AND open_ns = ?')}"
            content = connection.exec_driver_sql(f"SELECT * {where}", key).fetchone()
            if content is None:  # another reader was quicker
                continue
            moved += 1
            owner = connection.exec_driver_sql(
                "SELECT instrument, timeframe FROM series WHERE id = ?", (series,)
            ).first()
            name = (None, None) if owner is None else tuple(owner)
            if kind == "row" and owner is not None:
                until_ns = timeframe(owner[1]).next_ns(since_ns)
            healed_ns = None if kind in ("block", "row") and owner is not None else self._clock.now_ns()
            connection.exec_driver_sql(
                "INSERT INTO quarantine (at_ns, kind, instrument, timeframe, since_ns, until_ns, reason, content,"
                " healed_ns) VALUES (?,?,?,?,?,?,?,?,?)",
                (self._clock.now_ns(), kind, *name, since_ns, until_ns, reason, _pack(tuple(content)), healed_ns),
            )
            connection.exec_driver_sql(f"DELETE {where}", key)
            if kind == "block" and owner is not None:
                _uncover(connection, series, since_ns, until_ns)
            elif kind == "row":
                self._uncover_rows(connection, series if owner is not None else None, since_ns)
            elif kind == "action":  # all of them are asked for again
                row = (key[0], 0, 0)
                connection.exec_driver_sql("INSERT OR REPLACE INTO told VALUES (?,?,?,?)", (*row, _name_crc(row)))
        if moved:
            self._db.note(
                "market_data_quarantined",
                Text(
                    "{count} damaged pieces of market data in {path} were set aside.",
                    {"count": moved, "path": str(self._db.path)},
                ),
                Text("They are fetched again as they are needed; `watchhamster data verify` says which they are."),
            )

    def _uncover_rows(self, connection: sa.Connection, series: int | None, open_ns: int) -> None:
        """Unmark all that a damaged row may have stood for: its time is not to be trusted either."""
        for found, name, first_ns, last_ns in connection.exec_driver_sql(
            "SELECT s.id, s.timeframe, min(c.open_ns), max(c.open_ns) FROM series s"
            " LEFT JOIN candle c ON c.series = s.id GROUP BY s.id"
        ).fetchall():
            if series not in (None, found):
                continue
            period = _period(timeframe(name))
            if first_ns is not None:
                _uncover(connection, found, period.open_ns(first_ns), period.next_ns(period.open_ns(last_ns)))
            if series is not None:
                _uncover(connection, found, period.open_ns(open_ns), period.next_ns(period.open_ns(open_ns)))

    def _missing(self) -> list[dict[str, Any]]:
        """Quarantined candles that are not there again, or were not when last looked at."""
        names = ("id", "kind", "instrument", "timeframe", "since_ns", "until_ns", "reason")
        with self._db.reading() as connection:
            if connection is None:
                return []
            rows = connection.exec_driver_sql(
                f"SELECT {', '.join(names)}, content FROM quarantine WHERE healed_ns IS NULL ORDER BY id"
            ).fetchall()
        found = []
        for *values, content in rows:
            entry = dict(zip(names, values, strict=True))
            stored = msgspec.msgpack.decode(content)
            entry["count"] = stored[3] if entry["kind"] == "block" else 1
            found.append(entry)
        return found

    def _settle_quarantine(self) -> set[int]:
        """Note which quarantined candles are there again; the ids of those that are not."""
        with suppress(StoreError):  # what could not be written is not there
            self._flush(raises=True)
        still, healed = set(), []
        for entry in self._missing():
            name = (entry["instrument"], entry["timeframe"], entry["since_ns"], entry["until_ns"])
            spans = self.read_coverage(*name)
            whole = all(span.state != "not_fetched" for span in spans)
            if whole or sum(span.count for span in spans) >= max(1, entry["count"]):
                healed.append((self._clock.now_ns(), entry["id"]))
            else:
                still.add(entry["id"])
        if healed:
            with self._db.writing() as connection:
                connection.exec_driver_sql("UPDATE quarantine SET healed_ns = ? WHERE id = ?", healed)
        return still

    def _salvage(self, damaged: Path) -> None:
        """Take over from a damaged file what can be read and proves right. On the writer's thread only.

        Marks are kept only for periods whose block was saved: elsewhere a candle may be missing without a trace.
        """
        errors: list[str] = []
        saved = 0
        with closing(open_for_reading(damaged)) as old:

            def readable(table: str, keys: int) -> Iterator[tuple[Any, ...]]:
                # From both ends, so that one bad page costs no more than itself; by the place of the columns, whose
                # names may be damaged too.
                for order in ("ASC", "DESC"):
                    by = ", ".join(f"{place} {order}" for place in range(1, keys + 1))
                    try:
                        (count,) = old.execute(f"SELECT count(*) FROM pragma_table_info('{table}')").fetchone()
                        own = ", ".join(f"c{place}" for place in range(count)) or "none"
                        yield from old.execute(
                            f"WITH t({own}) AS (SELECT * FROM {table}) SELECT * FROM t ORDER BY {by}"
                        )
                        return
                    except sqlite3.Error as error:
                        errors.append(f"{table}: {error}")

            with self._db.writing() as connection:
                ids: dict[int, int] = {}
                periods: dict[int, Timeframe] = {}
                for old_id, *key, crc in readable("series", 1):
                    if _name_crc(key) == crc:
                        periods[old_id] = _period(timeframe(key[1]))
                        ids[old_id] = self._series_id(connection, (key[0], key[1]))
                kept: dict[int, list[Interval]] = {}
                for block, series, start_ns, count, codec, crc, data in readable("block", 1):
                    if series not in ids or self._fault(block, series, start_ns, count, codec, crc, data) is not None:
                        continue
                    own = checksum(ids[series], start_ns, count, codec, data)
                    connection.exec_driver_sql(
                        "INSERT OR REPLACE INTO block (series, start_ns, count, codec, crc, data) VALUES (?,?,?,?,?,?)",
                        (ids[series], start_ns, count, codec, own, data),
                    )
                    saved += count
                    kept.setdefault(series, []).append((start_ns, periods[series].next_ns(start_ns)))
                for table in ("candle", "first_candle"):
                    whole = not errors
                    for series, *values, crc in readable(table, 2):
                        if series in ids and _crc(series, values) == crc:
                            connection.exec_driver_sql(
                                f"INSERT OR REPLACE INTO {table} VALUES (?,?,?,?,?,?,?,?,?,?)",
                                (ids[series], *values, _crc(ids[series], values)),
                            )
                            saved += table == "candle"
                    if table == "candle" and whole and errors:
                        kept.clear()  # a lost row may have been the correction of a saved block
                for series, *values, crc, told_ns in readable("extra", 2):
                    row = (*values, told_ns)
                    if series in ids and _extra_crc(series, row) == crc:
                        connection.exec_driver_sql(
                            f"INSERT OR REPLACE INTO extra ({_EXTRA_COLUMNS}) VALUES (?,?,?,?,?,?,?,?)",
                            (ids[series], *row, _extra_crc(ids[series], row)),
                        )
                for table, keys in (("action", 3), ("told", 1)):
                    for *values, crc in readable(table, keys):
                        if _name_crc(values) == crc:
                            slots = ",".join("?" * (len(values) + 1))
                            connection.exec_driver_sql(
                                f"INSERT OR REPLACE INTO {table} VALUES ({slots})", (*values, crc)
                            )
                for series, since_ns, until_ns, crc in readable("coverage", 2):
                    if series in ids and _span_crc(series, (since_ns, until_ns)) == crc:
                        spans = _within([(since_ns, until_ns)], _union(kept.get(series, ())))
                        _cover(connection, ids[series], spans)
        self._forget()
        self._db.note(
            "market_data_salvaged",
            Text("{count} candles were saved from {path}.", {"count": saved, "path": str(damaged)}),
            Text("The others are fetched again as they are needed."),
        )

    # ------------------------------------------------------------ the file

    def size(self) -> int:
        """Bytes on the disk."""
        return self._db.size()

    def backup(self, path: Path) -> None:
        """Copy the store to a file, whole or not at all. Blocks. Raises `StoreError`."""
        if not self._db.read_only:
            self.flush()
        self._db.backup(path)

    def restore(self, path: Path) -> Path:
        """Put a backup in place of the store; the old file is kept, and its new path returned.

        The backup is checked first: a `StoreError` (`no_backup`, `database_damaged`, `newer_database`,
        `wrong_database`) leaves everything as it was.
        """

        def work() -> Path:
            self._flush(raises=True)
            kept = self._db.restore(path)
            self._forget()
            return kept

        return self._db.call(work)

    def prune(self, retention: Retention) -> Pruned:
        """Delete history beyond the retention, imported candles too; what goes is `not_fetched` again.

        Days go by whole periods. Above the size the finest timeframes lose their oldest periods first, and the last
        seven days always stay.
        """
        return self._db.call(lambda: self._prune(retention))

    def _prune(self, retention: Retention) -> Pruned:
        self._flush()
        now_ns, before, gone = self._clock.now_ns(), self.size(), 0
        with self._db.writing() as connection:
            names = connection.exec_driver_sql("SELECT id, timeframe FROM series").fetchall()
            frames = {series: timeframe(name) for series, name in names}
            for series, tf in frames.items():
                days = retention.keep_days.get(tf.name)
                if days is not None:
                    cut_ns = _period(tf).open_ns(now_ns - int(days * 86400) * SECOND_NS)
                    gone += _delete(connection, series, _LONG_AGO, cut_ns)
            if retention.max_bytes is not None:
                pages, free, page = (
                    connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                    for name in ("page_count", "freelist_count", "page_size")
                )
                excess = (pages - free) * page - retention.max_bytes
                young_ns = now_ns - _KEEP_DAYS_LEAST * 86400 * SECOND_NS
                blocks = connection.exec_driver_sql("SELECT series, start_ns, length(data) FROM block").fetchall()
                for series, start_ns, length in sorted(
                    blocks, key=lambda block: (frames[block[0]].approximate_ns, block[1])
                ):
                    end_ns = _period(frames[series]).next_ns(start_ns)
                    if excess <= 0:
                        break
                    if end_ns <= young_ns:
                        gone += _delete(connection, series, start_ns, end_ns)
                        excess -= length
        with self._db.writing() as connection:
            for table in ("action", "told"):  # of instruments nothing else is known of
                connection.exec_driver_sql(
                    f"DELETE FROM {table} WHERE instrument NOT IN (SELECT instrument FROM series WHERE"
                    " id IN (SELECT series FROM candle) OR id IN (SELECT series FROM block))"
                )
        self._db.shrink()
        return Pruned(gone, max(0, before - self.size()))


# ---------------------------------------------------------------- candles and rows


def _row(candle: Candle) -> Row:
    volume, value = candle.volume, candle.value
    # Adding zero makes floats of whole numbers and 0.0 of -0.0, which is what SQLite gives back.
    return (
        candle.open_ns,
        candle.open + 0.0,
        candle.high + 0.0,
        candle.low + 0.0,
        candle.close + 0.0,
        None if volume is None or volume != volume else volume + 0.0,
        None if value is None or value != value else value + 0.0,
        _ORIGIN_CODES[candle.origin],
    )


def _settle(old: Row | None, new: Row) -> Row | None:
    """The row to store over `old`, or None when `new` says the same."""
    if old is None:
        return new
    if new[5] is None or new[6] is None:  # what a source does not say, it does not deny
        new = (*new[:5], old[5] if new[5] is None else new[5], old[6] if new[6] is None else new[6], new[7])
    if new[1:7] == old[1:7]:
        return None
    if old[7] == _LIVE and new[7] == _BACKFILL and new[1:5] == old[1:5]:
        # The venue adds its trades in an order of its own, so its sums differ from ours in the last bits.
        pairs = ((old[5], new[5]), (old[6], new[6]))
        if all(a is not None and b is not None and abs(a - b) <= 1e-9 * abs(b) for a, b in pairs):
            return None
    return new


def _columns_of(rows: Sequence[Row]) -> Columns:
    if not rows:
        return Columns.empty()
    times, *values, origins = zip(*rows, strict=True)
    # As a float, None is NaN.
    return Columns(np.array(times, np.int64), np.array(values, np.float64), np.array(origins, np.uint8))


def _rows(columns: Columns) -> list[Row]:
    values = columns.values
    volumes, sums = ([None if v != v else v for v in column] for column in values[4:].tolist())
    return list(zip(columns.times.tolist(), *values[:4].tolist(), volumes, sums, columns.origins.tolist(), strict=True))


def _rows_at(columns: Columns, opens: Sequence[int]) -> dict[int, Row]:
    """The rows among the columns that open at these times."""
    if not len(columns.times):
        return {}
    chosen = np.flatnonzero(np.isin(columns.times, np.array(opens, np.int64)))
    return {
        row[0]: row for row in _rows(Columns(columns.times[chosen], columns.values[:, chosen], columns.origins[chosen]))
    }


def _crc(series: int, row: Sequence[Any]) -> int:
    at, o, h, lo, c, v, q, origin = row
    try:
        return zlib.crc32(
            _ROW.pack(series, at, o, h, lo, c, _NAN if v is None else v, _NAN if q is None else q, origin)
        )
    except struct.error:  # a damaged row may hold anything
        return -1


def _extra_crc(series: int, extra: Sequence[Any]) -> int:
    at, *values = extra
    try:
        return zlib.crc32(_EXTRA.pack(series, at, *(_NAN if value is None else value for value in values)))
    except struct.error:
        return -1


def _length_ns(tf: Timeframe) -> int:
    """How long a bar lasts at most."""
    return tf.approximate_ns if tf.ns is not None else tf.approximate_ns + tf.count * 86400 * SECOND_NS


def _told(connection: sa.Connection, instrument: str) -> Interval | None:
    """Since when an instrument is spoken of, and up to when its actions are known."""
    row = connection.exec_driver_sql("SELECT * FROM told WHERE instrument = ?", (instrument,)).first()
    if row is None:
        return None
    return (row[1], row[2]) if _name_crc(row[:3]) == row[3] else (0, 0)


def _actions(connection: sa.Connection, instrument: str, since_ns: int, until_ns: int) -> list[tuple[Action, int]]:
    """Stored actions and when each was told, oldest first."""
    found = connection.exec_driver_sql(
        "SELECT * FROM action WHERE instrument = ? AND at_ns >= ? AND at_ns < ? ORDER BY at_ns, kind",
        (instrument, since_ns, until_ns),
    )
    return [(Action(*values), told_ns) for *values, told_ns, crc in found if _name_crc((*values, told_ns)) == crc]


def _span_crc(series: int, span: Sequence[Any]) -> int:
    try:
        return zlib.crc32(_SPAN.pack(series, *span))
    except struct.error:
        return -1


def _name_crc(key: Sequence[Any]) -> int:
    return zlib.crc32(repr(tuple(key)).encode())


def _pack(content: tuple[object, ...]) -> bytes:
    return msgspec.msgpack.encode(content)


def _period(tf: Timeframe) -> Timeframe:
    """How much of a series goes into one block."""
    if tf.approximate_ns < 900 * SECOND_NS:
        return _DAY
    return _MONTH if tf.approximate_ns <= 4 * 3600 * SECOND_NS else _YEAR


_timeframe = timeframe  # for methods whose parameter has that name


# ---------------------------------------------------------------- tables


def _find_series(connection: sa.Connection | None, key: SeriesKey) -> int | None:
    if connection is None:
        return None
    sql = "SELECT id FROM series WHERE instrument = ? AND timeframe = ?"
    found: int | None = connection.exec_driver_sql(sql, key).scalar()
    return found


def _firsts(connection: sa.Connection, series: int, since_ns: int, until_ns: int) -> Columns:
    rows: list[Row] = []
    for *values, crc in connection.exec_driver_sql(
        "SELECT open_ns, open, high, low, close, volume, value, origin, crc FROM first_candle"
        " WHERE series = ? AND open_ns >= ? AND open_ns < ? ORDER BY open_ns",
        (series, since_ns, until_ns),
    ):
        row: Row = tuple(values)
        if _crc(series, row) == crc:
            rows.append(row)
    return _columns_of(rows)


def _fetched(connection: sa.Connection, series: int, since_ns: int, until_ns: int) -> list[Interval]:
    """The marked spans that touch a stretch of time."""
    found = connection.exec_driver_sql(
        "SELECT since_ns, until_ns, crc FROM coverage WHERE series = ? AND since_ns <= ? AND until_ns >= ?"
        " ORDER BY since_ns",
        (series, until_ns, since_ns),
    )
    return [(since, until) for since, until, crc in found if _span_crc(series, (since, until)) == crc]


def _cover(connection: sa.Connection, series: int, spans: Iterable[Interval]) -> None:
    for since_ns, until_ns in spans:
        touched = _fetched(connection, series, since_ns, until_ns)
        _replace_spans(connection, series, touched, _union([*touched, (since_ns, until_ns)]))


def _uncover(connection: sa.Connection, series: int, since_ns: int, until_ns: int) -> None:
    touched = _fetched(connection, series, since_ns, until_ns)
    _replace_spans(connection, series, touched, _without(touched, [(since_ns, until_ns)]))


def _replace_spans(connection: sa.Connection, series: int, old: Sequence[Interval], new: Sequence[Interval]) -> None:
    if old:
        connection.exec_driver_sql(
            "DELETE FROM coverage WHERE series = ? AND since_ns = ?", [(series, since_ns) for since_ns, _ in old]
        )
    if new:
        connection.exec_driver_sql(
            "INSERT OR REPLACE INTO coverage VALUES (?,?,?,?)",
            [(series, *span, _span_crc(series, span)) for span in new],
        )


def _delete(connection: sa.Connection, series: int, since_ns: int, until_ns: int) -> int:
    """Delete all that a series has in whole periods; how many candles that were."""
    where = (series, since_ns, until_ns)
    gone = connection.exec_driver_sql(
        "SELECT coalesce(sum(count), 0) FROM block WHERE series = ? AND start_ns >= ? AND start_ns < ?", where
    ).scalar_one()
    connection.exec_driver_sql("DELETE FROM block WHERE series = ? AND start_ns >= ? AND start_ns < ?", where)
    for table in ("candle", "first_candle", "extra"):
        rows = connection.exec_driver_sql(
            f"DELETE FROM {table} WHERE series = ? AND open_ns >= ? AND open_ns < ?", where
        ).rowcount
        gone += rows if table == "candle" else 0
    _uncover(connection, series, since_ns, until_ns)
    return int(gone)


# ---------------------------------------------------------------- spans


def _union(spans: Iterable[Interval]) -> list[Interval]:
    """The same time in as few spans as possible, in order."""
    merged: list[Interval] = []
    for since_ns, until_ns in sorted(spans):
        if merged and since_ns <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], until_ns))
        else:
            merged.append((since_ns, until_ns))
    return merged


def _without(spans: Iterable[Interval], holes: Iterable[Interval]) -> list[Interval]:
    left = list(spans)
    for since_ns, until_ns in holes:
        left = [
            (a, b)
            for start, stop in left
            for a, b in ((start, min(stop, since_ns)), (max(start, until_ns), stop))
            if a < b
        ]
    return left


def _within(spans: Iterable[Interval], frame: Iterable[Interval]) -> list[Interval]:
    frames = list(frame)
    both = ((max(a, c), min(b, d)) for a, b in spans for c, d in frames)
    return [(since_ns, until_ns) for since_ns, until_ns in both if since_ns < until_ns]


def _spans(tf: Timeframe, opens: Ints, fetched: Sequence[Interval], since_ns: int, until_ns: int) -> list[Span]:
    """Divide `[since_ns, until_ns)` by what is known of it."""
    found: list[Span] = []

    def gap(start: int, stop: int) -> None:
        """A stretch without candles: no trade where every slot was fetched whole."""
        at = start
        for since, until in fetched:
            # A place that was fetched in part only is not known.
            first = tf.open_ns(since)
            first = first if first == since else tf.next_ns(first)
            a, b = max(at, first if since > start else at), min(stop, until if until >= stop else tf.open_ns(until))
            if a < b and since < stop and until > at:
                if at < a:
                    found.append(Span(at, a, "not_fetched", 0))
                found.append(Span(a, b, "no_trade", 0))
                at = b
        if at < stop:
            found.append(Span(at, stop, "not_fetched", 0))

    # Less than one candle's room is no hole: days of exchanges with summer time are 23 or 25 hours long.
    if tf.ns is not None:
        breaks = np.flatnonzero(np.diff(opens) >= 2 * tf.ns) + 1
    else:
        ends = [tf.next_ns(int(at)) for at in opens]
        breaks = np.array([i for i in range(1, len(opens)) if opens[i] >= tf.next_ns(ends[i - 1])], np.int64)
    bounds = [0, *breaks.tolist(), len(opens)] if len(opens) else []
    at = since_ns
    for start, stop in pairwise(bounds):
        run_start, end = int(opens[start]), min(tf.next_ns(int(opens[stop - 1])), until_ns)
        if at < run_start:
            gap(at, run_start)
        found.append(Span(max(at, run_start), end, "candles", stop - start))
        at = end
    if at < until_ns:
        gap(at, until_ns)
    return found
