"""Kills, torn and flipped bytes, locks, full disks: what was acknowledged is there, and nothing false is ever shown."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.storage.kit import BTC, DAY_NS, MINUTE_NS, FixedClock, ask, at, candle, everything, minutes, spans
from watchhamster.core.market import Candle
from watchhamster.core.ports import StoreError
from watchhamster.storage.market import MarketStore

_WRITER = """
import sys
from pathlib import Path
from tests.storage.kit import BTC, MINUTE_NS, FixedClock, at, candle
from watchhamster.storage.market import MarketStore

store = MarketStore(Path(sys.argv[1]), FixedClock())
store.open()
start = at("2026-01-07 00:00")
batch = (store.last_ns(BTC, "1m") or start - MINUTE_NS) // MINUTE_NS - start // MINUTE_NS + 1
while True:  # batches of 7, so that days end within one
    store.append([candle(start + (batch + i) * MINUTE_NS, 100.0 + batch + i) for i in range(7)])
    store.mark(BTC, "1m", start, start + (batch + 7) * MINUTE_NS)
    store.flush()
    batch += 7
    sys.stdout.write(f"{batch}\\n")
    sys.stdout.flush()
    if batch % 490 == 0:
        store.seal()
"""


def kill_writers(path: Path, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(kills):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(rng.uniform(0, 0.15))
        writer.send_signal(signal.SIGKILL)
        said = [line for line in writer.stdout.read().split(b"\n")[:-1] if line]
        writer.stdout.close()
        writer.wait()
        acknowledged = int(said[-1]) if said else 7
        store = MarketStore(path, FixedClock())
        store.open()
        found = everything(store)
        start = at("2026-01-07 00:00")
        assert len(found) >= acknowledged and len(found) % 7 == 0
        assert found == [candle(start + i * MINUTE_NS, 100.0 + i) for i in range(len(found))]
        whole = store.read_coverage(BTC, "1m", start, start + len(found) * MINUTE_NS)
        assert [(span.state, span.count) for span in whole] == [("candles", len(found))]
        assert asyncio.run(store.verify()).damaged == 0
        assert not store.notices
        store.close()


def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    kill_writers(tmp_path / "market.db", 4, 1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_killed_writers_lose_nothing(tmp_path: Path) -> None:
    kill_writers(tmp_path / "market.db", 200, 2)


# ---------------------------------------------------------------- damaged files


@pytest.fixture
def crashed(tmp_path: Path) -> tuple[Path, list[Candle]]:
    """A store as a power cut leaves it: two sealed days and some rows in the file, later commits in the WAL."""
    live = tmp_path / "live"
    store = MarketStore(live / "market.db", FixedClock())
    store.open()
    rows = minutes("2026-01-07 00:00", 2 * 1440) + minutes("2026-01-10 10:00", 100)
    start = rows[0].open_ns
    store.write(rows[:2880], [(BTC, "1m", start, start + 2 * DAY_NS)])
    writer = sqlite3.connect(live / "market.db")
    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    writer.close()
    for i in range(2880, 2980, 10):
        store.append(rows[i : i + 10])
        store.mark(BTC, "1m", rows[2880].open_ns, rows[i + 9].open_ns + MINUTE_NS)
        store.flush()
    copy = tmp_path / "crashed"
    copy.mkdir()
    for name in ("market.db", "market.db-wal"):
        shutil.copy(live / name, copy / name)
    store.close()
    return copy / "market.db", rows


@contextmanager
def opened(path: Path) -> Iterator[MarketStore]:
    store = MarketStore(path, FixedClock())
    store.open()
    yield store
    store.close()


def check_honest(store: MarketStore, rows: list[Candle]) -> list[Candle]:
    """Every candle shown is true, and nothing that is missing is taken for "no trade"."""
    found = everything(store)
    truth = {row.open_ns: row for row in rows}
    assert all(truth.get(row.open_ns) == row for row in found)
    assert {(series.instrument, series.timeframe) for series in store.series()} <= {(BTC, "1m")}
    there = {row.open_ns for row in found}
    for span in store.read_coverage(BTC, "1m", rows[0].open_ns, rows[-1].open_ns + MINUTE_NS):
        if span.state == "no_trade":
            missing = [ns for ns in truth if span.since_ns <= ns < span.until_ns]
            assert not missing, "a lost candle is called no trade"
        elif span.state == "candles":
            assert span.count == sum(span.since_ns <= ns < span.until_ns for ns in there)
    return found


@pytest.mark.parametrize("how", ["cut", "zeroed", "garbled tail", "garbled page", "missing"])
def test_a_damaged_wal_leaves_a_clean_beginning(crashed: tuple[Path, list[Candle]], tmp_path: Path, how: str) -> None:
    path, rows = crashed
    rng = random.Random(how)
    wal = (path.parent / "market.db-wal").read_bytes()
    for number in range(6):
        at_byte = rng.randrange(len(wal))
        spoilt = {
            "cut": wal[:at_byte],
            "zeroed": wal[:at_byte] + bytes(len(wal) - at_byte),
            "garbled tail": wal[:at_byte] + rng.randbytes(len(wal) - at_byte),
            "garbled page": wal[:at_byte] + rng.randbytes(512) + wal[at_byte + 512 :],
            "missing": None,
        }[how]
        target = tmp_path / f"wal{number}" / "market.db"
        target.parent.mkdir()
        shutil.copy(path, target)
        if spoilt is not None:
            (target.parent / "market.db-wal").write_bytes(spoilt)
        with opened(target) as store:
            found = check_honest(store, rows)
            assert found == rows[: len(found)] and len(found) >= 2880 and len(found) % 10 == 0
            last_ns = found[-1].open_ns + MINUTE_NS
            known = [span.state for span in store.read_coverage(BTC, "1m", last_ns, rows[-1].open_ns + MINUTE_NS)]
            assert known == ([] if len(found) == len(rows) else ["not_fetched"])
            assert not store.notices


def flip_bits(path: Path, rows: list[Candle], where: Path, count: int, seed: int) -> tuple[int, int]:
    """Open the file with one bit flipped, many times; how many flips were noticed, and how many candles survived."""
    rng = random.Random(seed)
    with opened(path):
        pass  # folds the WAL in, so that everything is in the one file
    whole = path.read_bytes()
    noticed = survived = 0
    for number in range(count):
        spoilt = bytearray(whole)
        spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
        target = where / f"flip{number}" / "market.db"
        target.parent.mkdir()
        target.write_bytes(spoilt)
        try:
            with opened(target) as store:
                found = check_honest(store, rows)
                report = asyncio.run(store.verify())
                noticed += bool(report.damaged or store.notices)
                assert set(check_honest(store, rows)) <= set(rows)
                survived += len(found)
                again = asyncio.run(store.verify())
                assert again.damaged <= report.damaged or report.damaged == 0
        except StoreError as error:
            # The one honest refusal: bytes that say who made the file, and how new it is.
            assert error.code in ("newer_database", "wrong_database")
            assert target.read_bytes() == spoilt
            noticed += 1
        shutil.rmtree(target.parent)
    return noticed, survived


def test_a_flipped_bit_anywhere_never_shows_a_wrong_candle(crashed: tuple[Path, list[Candle]], tmp_path: Path) -> None:
    path, rows = crashed
    noticed, survived = flip_bits(path, rows, tmp_path, 25, 3)
    assert noticed >= 8  # the rest hit free space or bytes that mean nothing
    assert survived >= 25 * len(rows) // 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_hundred_flipped_bits_never_show_a_wrong_candle(
    crashed: tuple[Path, list[Candle]], tmp_path: Path
) -> None:
    path, rows = crashed
    noticed, _ = flip_bits(path, rows, tmp_path, 500, 4)
    assert noticed >= 160


@pytest.mark.parametrize("damage", ["garbage", "header", "cut", "root page", "middle"])
def test_a_corrupt_file_is_set_aside_and_what_can_be_read_is_saved(
    crashed: tuple[Path, list[Candle]], damage: str
) -> None:
    path, rows = crashed
    body = bytearray(path.read_bytes())
    if damage == "garbage":
        body[:] = random.Random(1).randbytes(len(body))
    elif damage == "header":
        body[:16] = b"what is this now"
    elif damage == "cut":
        del body[len(body) // 2 :]
    elif damage == "root page":
        body[4096 * 3 : 4096 * 4] = bytes(4096)
    else:
        (data,) = ask(path, "SELECT data FROM block ORDER BY id LIMIT 1")[0]
        assert isinstance(data, bytes)
        middle = body.index(data[-2000:]) // 4096 * 4096
        body[middle : middle + 4096] = random.Random(2).randbytes(4096)
    path.write_bytes(body)
    with opened(path) as store:
        found = check_honest(store, rows)
        report = asyncio.run(store.verify())
        found = check_honest(store, rows)
        if damage == "garbage":
            assert found == []
        if damage == "header":  # the WAL has it again
            assert found == rows
        if damage == "middle":  # one block of two is hit; the other and the rows are whole
            assert len(found) >= 1440
        codes = {notice.code for notice in store.notices}
        assert codes & {"database_quarantined", "market_data_quarantined"} or report.damaged
        kept = list((path.parent / "quarantine").glob("market-20260110T120030Z*.db"))
        if "database_quarantined" in codes:
            assert kept[0].read_bytes() == bytes(body)  # never deleted, never changed
        store.write(rows)
        assert everything(store) == rows


def test_a_newer_file_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "market.db"
    with opened(path) as store:
        store.write(minutes("2026-01-10 10:00", 3))
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for read_only in (False, True):
        with pytest.raises(StoreError) as caught:
            MarketStore(path, FixedClock()).open(read_only=read_only)
        assert caught.value.code == "newer_database"
        assert "newer WatchHamster" in str(caught.value) and str(path) in str(caught.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


# ---------------------------------------------------------------- locked and full


def words(store: MarketStore) -> tuple[str, int, int]:
    state = store.state
    return state.state, state.buffered, state.dropped


def test_a_locked_file_is_waited_for(tmp_path: Path, clock: FixedClock) -> None:
    path = tmp_path / "market.db"
    given = minutes("2026-01-10 10:00", 20)
    store = MarketStore(path, clock, patience_s=0.02)
    store.open()
    script = (
        "import sqlite3,sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE');"
        "print('locked', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )  # another process holds the lock
    assert other.stdout is not None and other.stdin is not None
    assert other.stdout.readline() == b"locked\n"
    store.append(given[:10])
    with pytest.raises(StoreError) as caught:
        store.flush()
    assert caught.value.code == "database_locked"
    assert words(store) == ("locked", 10, 0)
    store.append(given[10:])
    assert everything(store) == given  # nothing is missing meanwhile
    other.stdin.close()
    other.wait()
    other.stdout.close()
    store.flush()
    assert words(store) == ("ok", 0, 0)
    store.close()
    assert ask(path, "SELECT count(*) FROM candle") == [(20,)]


def test_a_full_disk_is_survived(tmp_path: Path, clock: FixedClock) -> None:
    path = tmp_path / "market.db"
    store = MarketStore(path, clock)
    store.open()
    driver = store._db._connection
    assert driver is not None
    store._db.call(lambda: driver.execute("PRAGMA max_page_count=18").fetchone())  # SQLite says FULL from here on
    rng = random.Random(5)
    given = [candle(at("2026-01-09 00:00") + i * MINUTE_NS, 1 + rng.random() * 1e9) for i in range(2000)]
    store.append(given[:60])
    store.flush()
    store.append(given[60:])
    with pytest.raises(StoreError) as caught:
        store.flush()
    assert caught.value.code == "disk_full" and caught.value.hint is not None
    assert words(store) == ("full", len(given) - 60, 0)
    assert everything(store) == given
    store._db.call(lambda: driver.execute("PRAGMA max_page_count=100000").fetchone())  # space comes back
    store.flush()
    assert words(store) == ("ok", 0, 0)
    store.close()
    with opened(path) as again:
        assert everything(again) == given


def test_an_unwritable_place_is_named(tmp_path: Path, clock: FixedClock) -> None:
    (tmp_path / "market.db").mkdir()
    with pytest.raises(StoreError) as caught:
        MarketStore(tmp_path / "market.db", clock).open()
    assert caught.value.code == "database_unwritable"


def test_damage_that_shows_while_in_use_is_repaired_in_use(tmp_path: Path, clock: FixedClock) -> None:
    path = tmp_path / "market.db"
    rows = minutes("2026-01-05 00:00", 6 * 1440)
    store = MarketStore(path, clock)
    store.open()
    store.write(rows, [(BTC, "1m", rows[0].open_ns, rows[-1].open_ns + MINUTE_NS)])
    store._db.call(store._db.shrink)
    body = bytearray(path.read_bytes())
    for page in range(3, len(body) // 4096, 7):
        body[page * 4096 : page * 4096 + 4096] = bytes(4096)
    path.write_bytes(body)
    check_honest(store, rows)
    asyncio.run(store.verify())
    check_honest(store, rows)
    store.write(rows)
    assert everything(store) == rows
    assert {notice.code for notice in store.notices} >= {"database_quarantined", "market_data_salvaged"}
    store.close()


# ---------------------------------------------------------------- everything at once


class StoreMachine(RuleBasedStateMachine):
    """Any order of writing, marking, sealing, crashing and damaging, against a model made of two dicts."""

    folder: Path

    @initialize()
    def begin(self) -> None:
        self.clock = FixedClock()
        self.number = 0
        self.start = at("2026-01-08 23:50")
        self.latest: dict[int, float] = {}
        self.first: dict[int, float] = {}
        self.revised: set[int] = set()
        self.marked: set[int] = set()
        self.path = self.folder / "0" / "market.db"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.store = MarketStore(self.path, self.clock)
        self.store.open()

    @rule(slots=st.lists(st.integers(0, 40), min_size=1, max_size=12), price=st.integers(1, 50))
    def append(self, slots: list[int], price: int) -> None:
        self.store.append([candle(self.start + slot * MINUTE_NS, float(price + slot)) for slot in slots])
        for slot in slots:
            self.say(slot, float(price + slot))

    @rule(since=st.integers(0, 40), length=st.integers(1, 10))
    def mark(self, since: int, length: int) -> None:
        self.store.mark(BTC, "1m", self.start + since * MINUTE_NS, self.start + (since + length) * MINUTE_NS)
        self.marked.update(range(since, since + length))

    @rule()
    def flush(self) -> None:
        self.store.flush()

    @rule(hours=st.integers(0, 20))
    def seal(self, hours: int) -> None:
        self.flush()
        self.clock.ns += hours * 60 * MINUTE_NS
        self.store.seal()

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = MarketStore(self.path, self.clock)
        self.store.open()

    @rule()
    def crash(self) -> None:
        """A copy of the files as they are now is what a power cut leaves."""
        self.flush()
        self.store.append([candle(self.start, 1.0)])  # perhaps on the disk, perhaps not
        self.number += 1
        copy = self.folder / str(self.number) / "market.db"
        copy.parent.mkdir()
        with self.store._db.reading():  # so that no checkpoint comes in between
            for ending in ("", "-wal"):
                shutil.copy(f"{self.path}{ending}", f"{copy}{ending}")
        self.store.close()
        self.path = copy
        self.store = MarketStore(copy, self.clock)
        self.store.open()
        rows = everything(self.store)
        if rows and rows[0].open_ns == self.start and rows[0].close == 1.0:
            self.say(0, 1.0)

    def say(self, slot: int, close: float) -> None:
        if self.latest.get(slot, close) != close:
            self.revised.add(slot)
        self.latest[slot] = close
        self.first.setdefault(slot, close)

    @precondition(lambda self: self.latest)
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        """Spoil a row or a block: its candles go, and their time is not known any more."""
        self.reopen()
        self.store.close()
        rows = ask(self.path, "SELECT open_ns FROM candle ORDER BY open_ns")
        blocks = ask(self.path, "SELECT start_ns FROM block ORDER BY start_ns")
        table, key = data.draw(
            st.sampled_from([*(("candle", row[0]) for row in rows), *(("block", row[0]) for row in blocks)])
        )
        with sqlite3.connect(self.path) as connection:
            if table == "candle":
                connection.execute("UPDATE candle SET low = low + 1 WHERE open_ns = ?", (key,))
            else:
                connection.execute("UPDATE block SET count = count + 1 WHERE start_ns = ?", (key,))
        connection.close()
        self.store = MarketStore(self.path, self.clock)
        self.store.open()
        report = asyncio.run(self.store.verify())
        assert report.damaged >= 1
        there = {(row.open_ns - self.start) // MINUTE_NS: row.close for row in everything(self.store)}
        # What is left is true: the latest, or (where a damaged correction lay over a block) the one before.
        assert set(there) <= set(self.latest)
        for slot, close in there.items():
            assert close == self.latest[slot] or table == "candle"
        known = self._known()
        for slot in set(self.latest) - set(there):
            assert known[slot] == "not_fetched"
        # What was first evaluated has a row of its own only where it was corrected.
        self.first = {slot: close for slot, close in self.first.items() if slot in there or slot in self.revised}
        self.latest = dict(there)
        self.marked = {slot for slot in range(60) if known[slot] != "not_fetched" and slot in self.marked}

    def _known(self) -> list[str]:
        found: list[str] = []
        for state, slots, _ in spans(self.store, "2026-01-08 23:50", "2026-01-09 00:50"):
            found += [state] * slots
        return found

    @invariant()
    def the_store_says_what_the_model_says(self) -> None:
        rows = {(row.open_ns - self.start) // MINUTE_NS: row.close for row in everything(self.store)}
        assert rows == self.latest
        bars = self.store.read_bars(BTC, "1m", 0, 1 << 62, first=True)
        firsts = zip(((bars.open_ns - self.start) // MINUTE_NS).tolist(), bars.close.tolist(), strict=True)
        assert dict(firsts) == {slot: self.first[slot] for slot in self.latest}
        for slot, state in enumerate(self._known()):
            if slot in self.latest:
                assert state == "candles"
            else:
                assert state == ("no_trade" if slot in self.marked else "not_fetched")

    def teardown(self) -> None:
        self.store.close()


def run_machine(folder: Path, examples: int) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    machine = type("Machine", (StoreMachine,), {"folder": folder / "machine"})
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=examples, stateful_step_count=15, suppress_health_check=checks),
    )


def test_the_store_agrees_with_its_model_in_any_order_of_events(tmp_path: Path) -> None:
    run_machine(tmp_path, 10)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_store_agrees_with_its_model_five_hundred_times(tmp_path: Path) -> None:
    run_machine(tmp_path, 500)
