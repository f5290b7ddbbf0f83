"""`watchhamster.db`: what people set up, and what happened: settings, rules, alerts, deliveries, layouts, strategies,
backtests and searches.

Small, precious, and written one transaction at a time: a method returns when its row is on the disk. An alert and one
delivery for each of its channels are one transaction, so an alert that was sent always has a row, and one with a row is
always sent. Values are kept as JSON beside the columns they are searched by. No secret is ever stored here.
"""

from __future__ import annotations

import datetime as dt
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec
import sqlalchemy as sa

from watchhamster.backtest.trials import COUNTED, Trial
from watchhamster.core.ports import Clock, StoreError, UsageError
from watchhamster.core.text import Text
from watchhamster.monitor.alerts import Alert, Delivery, Rule
from watchhamster.storage.database import Database, StoreNotice, check_file

T = TypeVar("T")
Value: TypeAlias = bool | int | float | str
AlertFilter = Literal["open", "resolved", "unacknowledged"]

APPLICATION = 0x57484445  # "WHDE"
_PATIENCE_S = 2.0  # for a lock: whoever waits hears of it, and the program can still end in time
_BACKUPS = 7
_ALL_ALERTS = 100_000
_KEEP_DAYS = 365.0

_meta = sa.MetaData()
_setting = sa.Table("setting", _meta, sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.LargeBinary))
_tenant = sa.Table("tenant", _meta, sa.Column("name", sa.Text, primary_key=True), sa.Column("content", sa.LargeBinary))
_watch = sa.Table(
    "watch",
    _meta,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("instrument", sa.Text),
)
_rule = sa.Table(
    "rule",
    _meta,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("tenant", sa.Text),
    sa.Column("content", sa.LargeBinary),
)
_alert = sa.Table(
    "alert",
    _meta,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("tenant", sa.Text),
    sa.Column("key", sa.Text),
    sa.Column("fired_ns", sa.BigInteger),
    sa.Column("resolved_ns", sa.BigInteger),
    sa.Column("acknowledged_ns", sa.BigInteger),
    sa.Column("content", sa.LargeBinary),
)
_delivery = sa.Table(
    "delivery",
    _meta,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("alert_id", sa.Integer),
    sa.Column("state", sa.Text),
    sa.Column("next_ns", sa.BigInteger),
    sa.Column("content", sa.LargeBinary),
)
_layout = sa.Table("layout", _meta, sa.Column("name", sa.Text, primary_key=True), sa.Column("data", sa.LargeBinary))
_state = sa.Table("state", _meta, sa.Column("key", sa.Text, primary_key=True), sa.Column("data", sa.LargeBinary))
_job = sa.Table("job", _meta, sa.Column("name", sa.Text, primary_key=True), sa.Column("content", sa.LargeBinary))
_search = sa.Table(
    "search",
    _meta,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("fingerprint", sa.Text),
    sa.Column("begun_ns", sa.BigInteger),
    sa.Column("content", sa.LargeBinary),
)
_trial = sa.Table(
    "trial",
    _meta,
    sa.Column("search", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("counted", sa.Integer),
    sa.Column("content", sa.LargeBinary),
)
_strategy = sa.Table(
    "strategy",
    _meta,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("saved_ns", sa.BigInteger),
    sa.Column("text", sa.Text),
)
_run = sa.Table(
    "run",
    _meta,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("strategy", sa.Text),
    sa.Column("fingerprint", sa.Text),
    sa.Column("answer", sa.Text),
    sa.Column("content", sa.LargeBinary),
)
_paper = sa.Table(
    "paper",
    _meta,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("tenant", sa.Text),
    sa.Column("content", sa.LargeBinary),
)
_journal = sa.Table(
    "journal",
    _meta,
    sa.Column("paper", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("content", sa.LargeBinary),
)


def _create(connection: sqlite3.Connection) -> None:
    for statement in (
        "CREATE TABLE setting (name TEXT PRIMARY KEY, value BLOB NOT NULL)",
        "CREATE TABLE tenant (name TEXT PRIMARY KEY, content BLOB NOT NULL)",
        "CREATE TABLE watch (tenant TEXT NOT NULL, position INTEGER NOT NULL, instrument TEXT NOT NULL,"
        " PRIMARY KEY (tenant, position))",
        # AUTOINCREMENT: an id is never used twice, even after its row is gone.
        "CREATE TABLE rule (id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, content BLOB NOT NULL)",
        "CREATE TABLE alert (id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, key TEXT NOT NULL,"
        " fired_ns INTEGER NOT NULL, resolved_ns INTEGER, acknowledged_ns INTEGER, content BLOB NOT NULL,"
        " UNIQUE (tenant, key, fired_ns))",
        "CREATE INDEX alert_open ON alert (id) WHERE resolved_ns IS NULL",
        "CREATE TABLE delivery (id INTEGER PRIMARY KEY AUTOINCREMENT,"
        " alert_id INTEGER NOT NULL REFERENCES alert (id) ON DELETE CASCADE,"
        " state TEXT NOT NULL, next_ns INTEGER NOT NULL, content BLOB NOT NULL)",
        "CREATE INDEX delivery_alert ON delivery (alert_id)",
        "CREATE INDEX delivery_due ON delivery (next_ns, id) WHERE state = 'queued'",
        "CREATE TABLE layout (name TEXT PRIMARY KEY, data BLOB NOT NULL)",
        "CREATE TABLE state (key TEXT PRIMARY KEY, data BLOB NOT NULL)",
        "CREATE TABLE job (name TEXT PRIMARY KEY, content BLOB NOT NULL)",
    ):
        connection.execute(statement)


def _create_searches(connection: sqlite3.Connection) -> None:
    for statement in (
        "CREATE TABLE search (name TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, begun_ns INTEGER NOT NULL,"
        " content BLOB NOT NULL)",
        "CREATE INDEX search_fingerprint ON search (fingerprint)",
        "CREATE TABLE trial (search TEXT NOT NULL REFERENCES search (name) ON DELETE CASCADE,"
        " number INTEGER NOT NULL, counted INTEGER NOT NULL, content BLOB NOT NULL, PRIMARY KEY (search, number))",
    ):
        connection.execute(statement)


def _create_runs(connection: sqlite3.Connection) -> None:
    for statement in (
        "CREATE TABLE strategy (name TEXT NOT NULL, version INTEGER NOT NULL, saved_ns INTEGER NOT NULL,"
        " text TEXT NOT NULL, PRIMARY KEY (name, version))",
        "CREATE TABLE run (id INTEGER PRIMARY KEY AUTOINCREMENT, strategy TEXT NOT NULL, fingerprint TEXT NOT NULL,"
        " answer TEXT NOT NULL, content BLOB NOT NULL)",
        "CREATE INDEX run_fingerprint ON run (fingerprint)",
    ):
        connection.execute(statement)


def _create_papers(connection: sqlite3.Connection) -> None:
    for statement in (
        "CREATE TABLE paper (id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, content BLOB NOT NULL)",
        "CREATE TABLE journal (paper INTEGER NOT NULL REFERENCES paper (id) ON DELETE CASCADE,"
        " number INTEGER NOT NULL, content BLOB NOT NULL, PRIMARY KEY (paper, number))",
    ):
        connection.execute(statement)


MIGRATIONS = (_create, _create_searches, _create_runs, _create_papers)


class JobRun(msgspec.Struct, frozen=True, kw_only=True):
    """The last time a clock job ran. `ended_ns` None: it is running, or the program ended first."""

    job: str
    due_ns: int
    started_ns: int
    ended_ns: int | None = None
    error: str = ""


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """A search for better parameters or conditions that was begun: its settings, so that it can go on."""

    name: str
    fingerprint: str  # of the data it runs on
    begun_ns: int
    content: dict[str, Any]  # JSON types
    trials: int = 0  # kept so far


class StoredStrategy(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a strategy, as it was written. Versions count from 1."""

    name: str
    version: int
    saved_ns: int
    text: str


class StoredRun(msgspec.Struct, frozen=True, kw_only=True):
    """A backtest: all it takes to run it again, and what it came to."""

    id: int | None = None
    strategy: str
    version: int | None = None  # of the stored strategy; None: it came from a file
    text: str  # the strategy as it was written
    python: str = ""  # the class's name, where it is one
    instruments: tuple[str, ...]
    timeframe: str
    since_ns: int
    until_ns: int
    first_bar_ns: int
    cash: float
    parameters: dict[str, float] = {}  # as they were given
    formulas: dict[str, str] = {}  # the saved ones that it could use
    close_at_end: bool = False
    adjusted: bool = False
    finer: dict[str, str] = {}  # of which instruments shorter bars decided, and how long those were
    seed: int = 1
    app_version: str
    data_fingerprint: str  # of all that was read
    period_fingerprint: str  # of the bars that were traded on: trials of the same are counted together
    answer: str  # hash of the result: equal inputs, equal answer
    made_ns: int
    metrics: dict[str, float | None] = {}
    notes: str = ""


class DeskStore:
    """Settings, tenants, watch lists, rules, alerts, deliveries, layouts and small states.

    Writing is `async` and returns when it is on the disk; reading is a quick look-up. Both raise `StoreError`.
    """

    def __init__(self, path: Path, clock: Clock, *, patience_s: float = _PATIENCE_S) -> None:
        self._clock = clock
        self._backups = path.parent / "backups"
        self._db = Database(path, clock, APPLICATION, MIGRATIONS, patience_s=patience_s, replace=self._replace)

    # ------------------------------------------------------------ life

    def open(self, *, read_only: bool = False) -> None:
        """Recover, upgrade and open the file. Raises `StoreError`, and then has changed nothing.

        A damaged file is moved into `quarantine/` and the newest daily backup that is whole takes its place, else a
        fresh one; `notices` say which.
        """
        if self._db.open(read_only=read_only) is not None:
            self._db.call(self._skip_ids)

    def close(self) -> None:
        """Finish what is being written, and close."""
        self._db.close()

    @property
    def notices(self) -> list[StoreNotice]:
        """What a person should know about the file, oldest first."""
        return list(self._db.notices)

    def _replace(self, damaged: Path) -> Text:
        pattern = re.compile(re.escape(self._db.path.stem) + r"-(\d{8})" + re.escape(self._db.path.suffix))
        for path in sorted(self._backups.glob("*"), reverse=True):
            if pattern.fullmatch(path.name):
                try:
                    check_file(path, APPLICATION, MIGRATIONS, thorough=True)
                except StoreError:
                    continue
                with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(self._db.path)) as target:
                    source.backup(target)
                return Text("The backup {backup} took its place.", {"backup": str(path)})
        return Text("There was no backup, so a fresh one was begun.")

    def _skip_ids(self) -> None:
        """After going back in time no id may come twice: receivers tell repeats by it. Ids go on from the clock."""
        with self._db.writing() as connection:
            for table in ("rule", "alert", "delivery", "run", "paper"):
                known = connection.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).scalar()
                connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
                connection.exec_driver_sql(
                    "INSERT INTO sqlite_sequence (name, seq) VALUES (?,?)",
                    (table, max(known or 0, self._clock.now_ns() // 1_000_000_000)),
                )

    async def _write(self, work: Callable[[sa.Connection], T]) -> T:
        def job() -> T:
            with self._db.writing() as connection:
                return work(connection)

        return await self._db.write(job)

    def _rows(self, statement: sa.Select[Any]) -> Sequence[Any]:
        with self._db.reading() as connection:
            return [] if connection is None else connection.execute(statement).fetchall()

    async def _put(self, table: sa.Table, key: str, data: bytes | None) -> None:
        column, content = table.c

        def work(connection: sa.Connection) -> None:
            connection.execute(table.delete().where(column == key))
            if data is not None:
                connection.execute(table.insert().values({column.name: key, content.name: data}))

        await self._write(work)

    def _all(self, table: sa.Table) -> dict[str, bytes]:
        key, _ = table.c
        return {row[0]: row[1] for row in self._rows(sa.select(table).order_by(key))}

    # ------------------------------------------------------------ settings, tenants, watch lists, layouts, states

    def settings(self) -> dict[str, Value]:
        """Every setting that differs from its default."""
        return {name: msgspec.json.decode(value) for name, value in self._all(_setting).items()}

    async def set_setting(self, name: str, value: Value | None) -> None:
        """Store one setting; None removes it."""
        await self._put(_setting, name, None if value is None else msgspec.json.encode(value))

    def tenants(self) -> dict[str, dict[str, Any]]:
        """Every tenant's document by its name."""
        return {name: msgspec.json.decode(content) for name, content in self._all(_tenant).items()}

    async def save_tenant(self, name: str, content: Mapping[str, Any] | None) -> None:
        """Store a tenant's document (JSON types only); None removes the tenant."""
        await self._put(_tenant, name, None if content is None else msgspec.json.encode(content))

    def watch_list(self, tenant: str = "default") -> list[str]:
        """A tenant's instruments in their order."""
        query = sa.select(_watch.c.instrument).where(_watch.c.tenant == tenant).order_by(_watch.c.position)
        return [row[0] for row in self._rows(query)]

    async def set_watch_list(self, instruments: Sequence[str], tenant: str = "default") -> None:
        """Replace a tenant's instruments."""
        rows = [{"tenant": tenant, "position": n, "instrument": name} for n, name in enumerate(instruments)]

        def work(connection: sa.Connection) -> None:
            connection.execute(_watch.delete().where(_watch.c.tenant == tenant))
            if rows:
                connection.execute(_watch.insert(), rows)

        await self._write(work)

    def layouts(self) -> list[str]:
        """The names of the stored layouts."""
        return list(self._all(_layout))

    def layout(self, name: str) -> bytes | None:
        """A stored layout."""
        return self._all(_layout).get(name)

    async def save_layout(self, name: str, data: bytes | None) -> None:
        """Store a layout; None removes it."""
        await self._put(_layout, name, data)

    def get(self, key: str) -> bytes | None:
        """A small state, such as a ban that must outlive a restart."""
        rows = self._rows(sa.select(_state.c.data).where(_state.c.key == key))
        return rows[0][0] if rows else None

    async def put(self, key: str, data: bytes | None) -> None:
        """Store a small state; None removes it."""
        await self._put(_state, key, data)

    def jobs(self) -> dict[str, JobRun]:
        """The last run of every clock job, by its name."""
        return {name: msgspec.json.decode(content, type=JobRun) for name, content in self._all(_job).items()}

    async def save_job(self, run: JobRun) -> None:
        """Store a clock job's last run."""
        await self._put(_job, run.job, msgspec.json.encode(run))

    # ------------------------------------------------------------ rules

    def rules(self, tenant: str | None = None) -> list[Rule]:
        """The rules of a tenant (of all, where none is given), oldest first."""
        query = sa.select(_rule.c.id, _rule.c.content).order_by(_rule.c.id)
        if tenant is not None:
            query = query.where(_rule.c.tenant == tenant)
        return [_with_id(msgspec.json.decode(content, type=Rule), key) for key, content in self._rows(query)]

    async def save_rule(self, rule: Rule) -> Rule:
        """Store a rule; a new one (without id) comes back with its id. Raises `UsageError` (`unknown_rule`)."""
        values = {"tenant": rule.tenant, "content": msgspec.json.encode(rule)}

        def work(connection: sa.Connection) -> Rule:
            if rule.id is None:
                return _with_id(rule, _new_id(connection.execute(_rule.insert().values(values))))
            if not connection.execute(_rule.update().where(_rule.c.id == rule.id).values(values)).rowcount:
                raise _unknown_rule(rule.id)
            return rule

        return await self._write(work)

    async def remove_rule(self, rule_id: int) -> None:
        """Forget a rule; its alerts stay. Raises `UsageError` (`unknown_rule`)."""

        def work(connection: sa.Connection) -> None:
            if not connection.execute(_rule.delete().where(_rule.c.id == rule_id)).rowcount:
                raise _unknown_rule(rule_id)

        await self._write(work)

    # ------------------------------------------------------------ alerts

    async def add_alert(
        self, alert: Alert, channels: Sequence[str], expires_ns: int | None = None
    ) -> tuple[Alert, list[Delivery]]:
        """Store a new alert and a queued delivery for each channel, in one transaction.

        The same matter at the same moment (equal tenant, key and `fired_ns`) is stored once: the alert and deliveries
        from before come back, so noticing it again after a crash does not tell people twice.
        """
        now_ns = self._clock.now_ns()

        def work(connection: sa.Connection) -> tuple[Alert, list[Delivery]]:
            same = (
                (_alert.c.tenant == alert.tenant) & (_alert.c.key == alert.key) & (_alert.c.fired_ns == alert.fired_ns)
            )
            known = connection.execute(sa.select(_alert.c.id, _alert.c.content).where(same)).first()
            if known is not None:
                rows: Any = connection.execute(_deliveries_of(known[0]))
                return _as_alert(known[0], known[1]), [_as_delivery(key, content) for key, content in rows]
            stored = _with_id(alert, _new_id(connection.execute(_alert.insert().values(_alert_row(alert)))))
            assert stored.id is not None
            deliveries = []
            for channel in channels:
                fresh = Delivery(
                    alert_id=stored.id, channel=channel, queued_ns=now_ns, next_ns=now_ns, expires_ns=expires_ns
                )
                added = connection.execute(_delivery.insert().values(_delivery_row(fresh)))
                deliveries.append(_with_id(fresh, _new_id(added)))
            return stored, deliveries

        return await self._write(work)

    async def update_alert(self, alert: Alert) -> None:
        """Store what became of an alert: resolved, acknowledged, revised. Raises `UsageError` (`unknown_alert`)."""

        def work(connection: sa.Connection) -> None:
            changed = connection.execute(_alert.update().where(_alert.c.id == alert.id).values(_alert_row(alert)))
            if not changed.rowcount:
                raise UsageError(
                    "unknown_alert",
                    Text("There is no alert {id}.", {"id": alert.id}),
                    Text("`watchhamster alert list` shows the alerts that are kept."),
                )

        await self._write(work)

    def alert(self, alert_id: int) -> Alert | None:
        """One alert, while it is kept."""
        rows = self._rows(sa.select(_alert.c.id, _alert.c.content).where(_alert.c.id == alert_id))
        return _as_alert(*rows[0]) if rows else None

    def alerts(
        self,
        after_id: int = 0,
        limit: int = 200,
        *,
        tenant: str | None = None,
        state: AlertFilter | None = None,
        before_id: int | None = None,
    ) -> list[Alert]:
        """Up to `limit` alerts, oldest first: the next ones after an id, or else the newest (before an id)."""
        query = sa.select(_alert.c.id, _alert.c.content)
        if tenant is not None:
            query = query.where(_alert.c.tenant == tenant)
        if state is not None:
            column = _alert.c.acknowledged_ns if state == "unacknowledged" else _alert.c.resolved_ns
            query = query.where(column.is_not(None) if state == "resolved" else column.is_(None))
        if before_id is not None:
            query = query.where(_alert.c.id < before_id)
        if after_id:
            rows = self._rows(query.where(_alert.c.id > after_id).order_by(_alert.c.id).limit(limit))
        else:
            rows = self._rows(query.order_by(_alert.c.id.desc()).limit(limit))[::-1]
        return [_as_alert(key, content) for key, content in rows]

    def open_alerts(self) -> list[Alert]:
        """Every alert that has not resolved, oldest first."""
        query = sa.select(_alert.c.id, _alert.c.content).where(_alert.c.resolved_ns.is_(None)).order_by(_alert.c.id)
        return [_as_alert(key, content) for key, content in self._rows(query)]

    # ------------------------------------------------------------ deliveries

    def due_deliveries(self, now_ns: int, limit: int = 100) -> list[Delivery]:
        """Queued deliveries whose time has come, longest due first."""
        query = _queued().where(_delivery.c.next_ns <= now_ns).limit(limit)
        return [_as_delivery(key, content) for key, content in self._rows(query)]

    def next_delivery_ns(self) -> int | None:
        """When the next queued delivery is due."""
        rows = self._rows(_queued().limit(1))
        return _as_delivery(*rows[0]).next_ns if rows else None

    def delivery(self, delivery_id: int) -> Delivery | None:
        """One delivery, while it is kept."""
        rows = self._rows(sa.select(_delivery.c.id, _delivery.c.content).where(_delivery.c.id == delivery_id))
        return _as_delivery(*rows[0]) if rows else None

    def deliveries(self, alert_id: int) -> list[Delivery]:
        """The deliveries of an alert, in the order they were queued."""
        return [_as_delivery(key, content) for key, content in self._rows(_deliveries_of(alert_id))]

    async def save_delivery(self, delivery: Delivery) -> Delivery:
        """Store how a delivery goes; a new one (a resend, without id) comes back with its id."""
        row = _delivery_row(delivery)

        def work(connection: sa.Connection) -> Delivery:
            if delivery.id is None:
                return _with_id(delivery, _new_id(connection.execute(_delivery.insert().values(row))))
            connection.execute(_delivery.update().where(_delivery.c.id == delivery.id).values(row))
            return delivery

        return await self._write(work)

    async def tidy(self, keep_days: float = _KEEP_DAYS, keep_alerts: int = _ALL_ALERTS) -> int:
        """Delete alerts (and their deliveries) that are too old or too many; how many went.

        Age spares what has not resolved or is still being delivered; the number spares nothing.
        """
        oldest_ns = self._clock.now_ns() - int(keep_days * 86400e9)
        queued = sa.select(_delivery.c.alert_id).where(_delivery.c.state == "queued")
        old = (_alert.c.fired_ns < oldest_ns) & _alert.c.resolved_ns.is_not(None) & _alert.c.id.not_in(queued)
        newest = sa.select(_alert.c.id).order_by(_alert.c.id.desc()).limit(keep_alerts)

        def work(connection: sa.Connection) -> int:
            return connection.execute(_alert.delete().where(old | _alert.c.id.not_in(newest))).rowcount

        return await self._write(work)

    # ------------------------------------------------------------ searches and their trials

    async def save_search(self, name: str, fingerprint: str, content: Mapping[str, Any]) -> None:
        """Begin a search. One of that name that is there stays as it is, with its trials."""
        values = {
            "name": name,
            "fingerprint": fingerprint,
            "begun_ns": self._clock.now_ns(),
            "content": msgspec.json.encode(content),
        }

        def work(connection: sa.Connection) -> None:
            connection.execute(_search.insert().prefix_with("OR IGNORE").values(values))

        await self._write(work)

    async def remove_search(self, name: str) -> None:
        """Forget a search and its trials. They no longer count against what is found on the same data."""
        await self._write(lambda connection: connection.execute(_search.delete().where(_search.c.name == name)))

    def searches(self) -> list[Search]:
        """Every search, newest first."""
        count = sa.select(sa.func.count()).where(_trial.c.search == _search.c.name).scalar_subquery()
        query = sa.select(_search, count).order_by(_search.c.begun_ns.desc(), _search.c.name)
        return [
            Search(name=name, fingerprint=of, begun_ns=begun_ns, content=msgspec.json.decode(content), trials=trials)
            for name, of, begun_ns, content, trials in self._rows(query)
        ]

    async def trials(self, search: str) -> list[Trial]:
        """The trials of a search, by number."""
        query = sa.select(_trial.c.content).where(_trial.c.search == search).order_by(_trial.c.number)

        def work() -> list[Trial]:
            found = [msgspec.msgpack.decode(row[0], type=Trial) for row in self._rows(query)]
            return [
                trial if trial.rejected is None else msgspec.structs.replace(trial, rejected=_revive(trial.rejected))
                for trial in found
            ]

        return await self._db.read(work)

    async def add_trials(self, search: str, trials: Sequence[Trial]) -> None:
        """Keep trials of a search that was begun; one whose number is there already stays as it was."""
        rows = [
            {
                "search": search,
                "number": trial.number,
                "counted": int(trial.stage in COUNTED),
                "content": msgspec.msgpack.encode(trial),
            }
            for trial in trials
        ]

        def work(connection: sa.Connection) -> None:
            if rows:
                connection.execute(_trial.insert().prefix_with("OR IGNORE"), rows)

        await self._write(work)

    def trials_on(self, fingerprint: str, besides: str = "") -> int:
        """How many trials were ever run on the same data, those of one search left out; different backtests count."""
        searched = (
            sa.select(sa.func.coalesce(sa.func.sum(_trial.c.counted), 0))
            .join(_search, _search.c.name == _trial.c.search)
            .where(_search.c.fingerprint == fingerprint, _search.c.name != besides)
        )
        alone = sa.select(sa.func.count(_run.c.answer.distinct())).where(_run.c.fingerprint == fingerprint)
        return sum(int(row[0]) for query in (searched, alone) for row in self._rows(query))

    # ------------------------------------------------------------ strategies and backtests

    async def save_strategy(self, name: str, text: str) -> StoredStrategy:
        """Keep a further version; the newest one, where it says the same already."""

        def work(connection: sa.Connection) -> StoredStrategy:
            query = sa.select(_strategy).where(_strategy.c.name == name).order_by(_strategy.c.version.desc()).limit(1)
            last = connection.execute(query).first()
            if last is not None and last.text == text:
                return _as_strategy(last)
            version = 1 if last is None else last.version + 1
            new = StoredStrategy(name=name, version=version, saved_ns=self._clock.now_ns(), text=text)
            connection.execute(_strategy.insert().values(msgspec.structs.asdict(new)))
            return new

        return await self._write(work)

    def strategies(self) -> list[StoredStrategy]:
        """The newest version of each, by name."""
        newest = sa.select(_strategy.c.name, sa.func.max(_strategy.c.version)).group_by(_strategy.c.name)
        query = sa.select(_strategy).where(sa.tuple_(_strategy.c.name, _strategy.c.version).in_(newest))
        return [_as_strategy(row) for row in self._rows(query.order_by(_strategy.c.name))]

    def versions(self, name: str) -> list[StoredStrategy]:
        """Every version of a strategy, oldest first."""
        query = sa.select(_strategy).where(_strategy.c.name == name).order_by(_strategy.c.version)
        return [_as_strategy(row) for row in self._rows(query)]

    async def remove_strategy(self, name: str) -> int:
        """Forget a strategy with its versions, and how many there were. Its runs stay."""
        return await self._write(
            lambda connection: connection.execute(_strategy.delete().where(_strategy.c.name == name)).rowcount
        )

    async def save_run(self, run: StoredRun) -> StoredRun:
        """Keep a backtest; a new one (without id) comes back with its id. Raises `UsageError` (`unknown_run`)."""
        values = {
            "strategy": run.strategy,
            "fingerprint": run.period_fingerprint,
            "answer": run.answer,
            "content": msgspec.json.encode(run),
        }

        def work(connection: sa.Connection) -> StoredRun:
            if run.id is None:
                id = _new_id(connection.execute(_run.insert().values(values)))
                return msgspec.structs.replace(run, id=id)
            if not connection.execute(_run.update().where(_run.c.id == run.id).values(values)).rowcount:
                raise _unknown_run(run.id)
            return run

        return await self._write(work)

    def run(self, run_id: int) -> StoredRun:
        """One backtest. Raises `UsageError` (`unknown_run`)."""
        rows = self._rows(sa.select(_run.c.id, _run.c.content).where(_run.c.id == run_id))
        if not rows:
            raise _unknown_run(run_id)
        return _as_run(*rows[0])

    def runs(self, limit: int = 50, strategy: str | None = None) -> list[StoredRun]:
        """The last backtests, oldest first."""
        query = sa.select(_run.c.id, _run.c.content).order_by(_run.c.id.desc()).limit(limit)
        if strategy is not None:
            query = query.where(_run.c.strategy == strategy)
        return [_as_run(key, content) for key, content in self._rows(query)[::-1]]

    async def remove_run(self, run_id: int) -> None:
        """Forget a backtest: it no longer counts as a trial on its data. Raises `UsageError` (`unknown_run`)."""

        def work(connection: sa.Connection) -> None:
            if not connection.execute(_run.delete().where(_run.c.id == run_id)).rowcount:
                raise _unknown_run(run_id)

        await self._write(work)

    # ------------------------------------------------------------ strategies on paper

    def papers(self, tenant: str = "default") -> dict[int, bytes]:
        """Every strategy that trades on paper, by its id."""
        query = sa.select(_paper.c.id, _paper.c.content).where(_paper.c.tenant == tenant).order_by(_paper.c.id)
        return {row[0]: row[1] for row in self._rows(query)}

    async def add_paper(self, content: bytes, tenant: str = "default") -> int:
        """Keep a new one; its id."""
        values = {"tenant": tenant, "content": content}
        return await self._write(lambda connection: _new_id(connection.execute(_paper.insert().values(values))))

    async def remove_paper(self, paper_id: int) -> None:
        """Forget one with its journal; the alerts about its fills stay."""
        await self._write(lambda connection: connection.execute(_paper.delete().where(_paper.c.id == paper_id)))

    def read_journal(self, paper_id: int) -> list[bytes]:
        """What one has lived through, in its order."""
        query = sa.select(_journal.c.content).where(_journal.c.paper == paper_id).order_by(_journal.c.number)
        return [row[0] for row in self._rows(query)]

    async def journal(self, paper_id: int) -> list[bytes]:
        """The same, for who must not wait: it may be long."""
        return await self._db.read(lambda: self.read_journal(paper_id))

    async def add_journals(self, rows: Sequence[tuple[int, int, bytes]]) -> None:
        """Go on with journals: of which one, the entry's number, the entry. One that is there already stays."""
        values = [{"paper": paper, "number": number, "content": content} for paper, number, content in rows]

        def work(connection: sa.Connection) -> None:
            if values:
                connection.execute(_journal.insert().prefix_with("OR IGNORE"), values)

        await self._write(work)

    # ------------------------------------------------------------ the file

    def size(self) -> int:
        """Bytes on the disk."""
        return self._db.size()

    async def backup(self, path: Path) -> None:
        """Copy everything to a file, whole or not at all. Raises `StoreError`."""
        await self._db.read(lambda: self._db.backup(path))

    async def back_up_daily(self) -> Path:
        """Keep today's copy beside the file, and the last seven; the newest whole one replaces a damaged file."""
        day = dt.datetime.fromtimestamp(self._clock.now_ns() // 1_000_000_000, dt.UTC).strftime("%Y%m%d")
        path = self._backups / f"{self._db.path.stem}-{day}{self._db.path.suffix}"
        await self.backup(path)
        pattern = re.compile(re.escape(self._db.path.stem) + r"-\d{8}" + re.escape(self._db.path.suffix))
        kept = sorted(p for p in self._backups.glob("*") if pattern.fullmatch(p.name))
        for old in kept[:-_BACKUPS]:
            old.unlink()
        return path

    async def restore(self, path: Path) -> Path:
        """Put a backup in place of everything; the old file is kept, and its new path returned.

        The backup is checked first: a `StoreError` (`no_backup`, `database_damaged`, `newer_database`,
        `wrong_database`) leaves everything as it was.
        """

        def work() -> Path:
            kept = self._db.restore(path)
            self._skip_ids()
            return kept

        return await self._db.write(work)


# ---------------------------------------------------------------- values and rows

_Stored = TypeVar("_Stored", Rule, Alert, Delivery)


def _with_id(value: _Stored, key: int) -> _Stored:
    return msgspec.structs.replace(value, id=key)


def _new_id(result: sa.CursorResult[Any]) -> int:
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


def _alert_row(alert: Alert) -> dict[str, Any]:
    return {
        "tenant": alert.tenant,
        "key": alert.key,
        "fired_ns": alert.fired_ns,
        "resolved_ns": alert.resolved_ns,
        "acknowledged_ns": alert.acknowledged_ns,
        "content": msgspec.json.encode(alert),
    }


def _as_alert(key: int, content: bytes) -> Alert:
    alert = msgspec.json.decode(content, type=Alert)
    return msgspec.structs.replace(alert, id=key, text=_revive(alert.text))


def _revive(text: Text) -> Text:
    """Values of a text may be texts; JSON gives them back as objects."""
    values = {
        name: _revive(msgspec.convert(value, Text))
        if isinstance(value, dict) and set(value) == {"message", "values"}
        else value
        for name, value in text.values.items()
    }
    return Text(text.message, values)


def _delivery_row(delivery: Delivery) -> dict[str, Any]:
    return {
        "alert_id": delivery.alert_id,
        "state": delivery.state,
        "next_ns": delivery.next_ns,
        "content": msgspec.json.encode(delivery),
    }


def _as_delivery(key: int, content: bytes) -> Delivery:
    return _with_id(msgspec.json.decode(content, type=Delivery), key)


def _deliveries_of(alert_id: int) -> sa.Select[Any]:
    return (
        sa.select(_delivery.c.id, _delivery.c.content).where(_delivery.c.alert_id == alert_id).order_by(_delivery.c.id)
    )


def _queued() -> sa.Select[Any]:
    return (
        sa.select(_delivery.c.id, _delivery.c.content)
        .where(_delivery.c.state == "queued")
        .order_by(_delivery.c.next_ns, _delivery.c.id)
    )


def _as_strategy(row: Any) -> StoredStrategy:
    return StoredStrategy(name=row.name, version=row.version, saved_ns=row.saved_ns, text=row.text)


def _as_run(key: int, content: bytes) -> StoredRun:
    return msgspec.structs.replace(msgspec.json.decode(content, type=StoredRun), id=key)


def _unknown_run(run_id: int) -> UsageError:
    """The refusal of a backtest that is not kept."""
    return UsageError(
        "unknown_run",
        Text("There is no run {id}.", {"id": run_id}),
        Text("`watchhamster runs list` shows the runs that are kept."),
    )


def _unknown_rule(rule_id: int) -> UsageError:
    return UsageError(
        "unknown_rule",
        Text("There is no rule {id}.", {"id": rule_id}),
        Text("`watchhamster alert list` shows the rules that are kept."),
    )
