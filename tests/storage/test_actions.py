"""What was done to shares: kept with the candles, and a new split leaves nothing of the old scale in sight."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.storage.kit import DAY_NS, FixedClock, ask, at, candle, tamper
from watchhamster.core.actions import Learned
from watchhamster.core.market import Action, Candle
from watchhamster.storage import market
from watchhamster.storage.market import Extra, MarketStore, Retention
from watchhamster.storage.migrations import migrate

SHARE = "yahoo:X"
NOW = at("2026-01-10 12:00:30")
FAR = 1 << 62


def days(start: str, count: int, *, close: float = 100.0, tf: str = "1d") -> list[Candle]:
    step = DAY_NS if tf == "1d" else 60_000_000_000
    return [
        candle(at(start) + n * step, close, instrument=SHARE, tf=tf, origin="backfill", volume=8.0)
        for n in range(count)
    ]


def paid(when: str, amount: float = 1.0) -> Action:
    return Action(SHARE, at(when), "dividend", amount)


def split(when: str, ratio: float = 4.0) -> Action:
    return Action(SHARE, at(when), "split", ratio)


def learn(store: MarketStore, *actions: Action, until_ns: int = NOW) -> Learned:
    return asyncio.run(store.learn(SHARE, actions, until_ns))


def closes(store: MarketStore, tf: str = "1d", *, first: bool = False) -> list[float]:
    found: list[float] = store.read_bars(SHARE, tf, 0, FAR, first=first).close.tolist()
    return found


def factors(store: MarketStore, tf: str = "1d", since: int = 0, until: int = FAR) -> list[float] | None:
    found = store.read_bars(SHARE, tf, since, until).adjustment
    return None if found is None else found.tolist()


def test_actions_are_known_from_then_on(store: MarketStore) -> None:
    assert asyncio.run(store.known_until_ns(SHARE)) is None
    given = (paid("2026-01-05"), split("2026-01-06"), Action(SHARE, at("2026-01-05"), "gain", 0.5))
    assert set(learn(store, *given).new) == set(given)
    assert learn(store, *given, until_ns=NOW - DAY_NS) == Learned()
    assert asyncio.run(store.known_until_ns(SHARE)) == NOW
    assert store.read_actions(SHARE, at("2026-01-05"), at("2026-01-06")) == [given[0], given[2]]
    assert store.read_actions("yahoo:Y", 0, FAR) == []


def test_a_day_is_the_same_whoever_says_when_it_begins(store: MarketStore) -> None:
    learn(store, paid("2026-01-05 05:00"))
    assert learn(store, Action(SHARE, at("2026-01-05 14:30"), "dividend", 1.5)).new == ()
    assert store.read_actions(SHARE, 0, FAR) == [paid("2026-01-05 05:00", 1.5)]
    both = (paid("2026-01-06"), paid("2026-01-06", 0.25))  # an ordinary and a special one
    assert learn(store, *both).new == (paid("2026-01-06", 1.25),)


def test_bars_have_the_factors_of_what_was_paid_after_them(store: MarketStore) -> None:
    store.append(days("2026-01-01", 8))
    assert factors(store) is None
    learn(store, paid("2026-01-04", 10.0), paid("2026-01-06", 20.0))
    assert factors(store) == pytest.approx([0.72] * 3 + [0.8] * 2 + [1.0] * 3)
    # A part has the factors of the whole, although the closes that set them lie outside of it.
    assert factors(store, until=at("2026-01-03")) == pytest.approx([0.72] * 2)
    assert factors(store, since=at("2026-01-06")) is None
    store.flush()
    assert factors(store) == pytest.approx([0.72] * 3 + [0.8] * 2 + [1.0] * 3)
    store.append(days("2026-01-03 14:30", 3, tf="1m", close=50.0))  # the day's close sets it, not the minute's
    assert factors(store, "1m") == pytest.approx([0.72] * 3)


def test_the_venue_may_know_of_more_that_was_paid(store: MarketStore) -> None:
    """Its adjusted closes then hold, for the bars between, too, and what is paid later comes on top."""
    store.append(days("2026-01-01", 4))
    asyncio.run(store.learn(SHARE, (paid("2026-01-02", 10.0),), NOW, {"1d": {at("2026-01-03"): 50.0}}))
    assert factors(store) == pytest.approx([0.45, 0.5, 0.5, 1.0])
    assert store.read_extras(SHARE, "1d", 0, FAR)[at("2026-01-01")] == Extra(at("2026-01-01"), 45.0, None, None, None)


def test_a_close_told_before_a_distribution_is_adjusted_for_it_later(store: MarketStore, clock: FixedClock) -> None:
    store.append(days("2026-01-08", 2))
    asyncio.run(store.learn(SHARE, (), NOW, {"1d": {at("2026-01-08"): 100.0, at("2026-01-09"): 100.0}}))
    clock.ns += 3 * DAY_NS
    store.append(days("2026-01-12", 1))
    learn(store, paid("2026-01-12", 25.0), until_ns=clock.ns)
    assert [extra.adj_close for extra in store.read_extras(SHARE, "1d", 0, FAR).values()] == [75.0, 75.0, 100.0]
    assert factors(store) == [0.75, 0.75, 1.0]
    (last,) = (extra for extra in store.read_extras(SHARE, "1d", 0, FAR).values() if extra.dividends)
    assert last.dividends == 25.0


def test_a_new_split_takes_the_old_scale_out_of_sight(store: MarketStore, clock: FixedClock, tmp_path: Path) -> None:
    """From blocks, rows and the buffer, in all timeframes; what is first seen stays so, and is asked for again."""
    since = "2025-12-01"
    learn(store, paid("2026-01-05", 1.0))
    store.write(days(since, 35), [(SHARE, "1d", at(since), at("2026-01-05"))])
    store.seal()
    store.write(days("2026-01-05", 5), [(SHARE, "1d", at("2026-01-05"), at("2026-01-10"))])
    store.write(days("2026-01-09 14:30", 60, tf="1m"), [(SHARE, "1m", at("2026-01-09"), at("2026-01-10"))])
    other = candle(at("2026-01-05"), 7.0, instrument="yahoo:Y", tf="1d")
    store.append([other])
    clock.ns = at("2026-01-13 12:00:00")
    store.append(days("2026-01-12", 1))
    learned = learn(store, split("2026-01-12"), until_ns=clock.ns)
    assert learned.new == (split("2026-01-12"),)
    assert learned.stale == (
        ("1d", at(since), at("2026-01-12")),
        ("1m", at("2026-01-09"), at("2026-01-12")),
    )
    assert closes(store) == [100.0]  # the day of the split itself
    assert closes(store, "1m") == []
    assert store.read_bars("yahoo:Y", "1d", 0, FAR).close.tolist() == [7.0]
    assert {s.state for s in store.read_coverage(SHARE, "1d", at(since), at("2026-01-12"))} == {"not_fetched"}
    assert store.read_actions(SHARE, 0, at("2026-01-06")) == [paid("2026-01-05", 0.25)]
    assert [notice.code for notice in store.notices] == ["rescaled"]
    store.append(days(since, 40, close=25.0))
    assert set(closes(store)) == {25.0, 100.0} and len(closes(store)) == 41
    store.flush()
    assert closes(store, first=True) == [100.0] * 41
    assert closes(store) == [25.0] * 40 + [100.0]
    assert asyncio.run(store.verify()).damaged == 0
    assert learn(store, split("2026-01-12")).stale == ()


def test_what_shares_a_block_with_the_old_scale_stays(store: MarketStore, clock: FixedClock) -> None:
    given = days("2025-01-01", 365)
    learn(store)
    store.write(given)
    assert len(closes(store)) == 365
    clock.ns = at("2026-06-01 00:00:00")
    asyncio.run(store.learn(SHARE, (), clock.ns))
    # A split of last July, which happened after the first word on the share if that came in the spring.
    tamper_told(store, at("2025-03-01"))
    assert learn(store, split("2025-07-01")).splits == [split("2025-07-01")]
    assert closes(store) == [100.0] * 184
    assert store.read_bars(SHARE, "1d", 0, FAR).open_ns[0] == at("2025-07-01")


def tamper_told(store: MarketStore, since_ns: int) -> None:
    row = (SHARE, since_ns, NOW)
    store._db.call(
        lambda: store._db._connection.execute(  # type: ignore[union-attr]
            "INSERT OR REPLACE INTO told VALUES (?,?,?,?)", (*row, market._name_crc(row))
        )
    )


def test_a_split_of_before_the_first_word_changes_nothing(store: MarketStore) -> None:
    learn(store)
    store.append(days("2025-12-01", 30))
    assert learn(store, split("2025-12-15")) == Learned((split("2025-12-15"),))
    assert len(closes(store)) == 30 and store.notices == []


def test_a_file_is_as_old_as_its_last_row(store: MarketStore) -> None:
    """A split that came after it puts it out of scale; one that it names itself does not."""
    given = [candle(at("2025-12-01") + n * DAY_NS, instrument=SHARE, tf="1d", origin="import") for n in range(20)]
    store.write(given, actions=[split("2025-12-10")])
    assert len(closes(store)) == 20
    assert learn(store, split("2025-12-10")).stale == ()
    assert learn(store, split("2026-01-05")).stale == (("1d", given[0].open_ns, at("2026-01-05")),)
    assert closes(store) == []
    assert ask(store._db.path, "SELECT count(*) FROM first_candle") == [(20,)]


def test_a_damaged_action_is_put_aside_and_all_are_asked_for_again(store: MarketStore, tmp_path: Path) -> None:
    store.append(days("2026-01-01", 5))
    learn(store, paid("2026-01-03", 10.0))
    tamper(tmp_path / "market.db", "UPDATE action SET amount = 99.0")
    assert factors(store) is None  # what cannot be trusted adjusts nothing
    report = asyncio.run(store.verify())
    assert [(entry["kind"], entry["since_ns"]) for entry in report.quarantined] == [("action", at("2026-01-03"))]
    assert asyncio.run(store.known_until_ns(SHARE)) == 0
    learn(store, paid("2026-01-03", 10.0))
    assert factors(store) == pytest.approx([0.9, 0.9, 1.0, 1.0, 1.0])
    assert asyncio.run(store.verify()).damaged == 0


def test_a_ruined_file_gives_its_actions_back(tmp_path: Path, clock: FixedClock) -> None:
    path = tmp_path / "market.db"
    store = MarketStore(path, clock)
    store.open()
    store.write(days("2026-01-01", 5))
    asyncio.run(store.learn(SHARE, (paid("2026-01-03", 10.0),), NOW, {"1d": {at("2026-01-02"): 90.0}}))
    before = store.read_extras(SHARE, "1d", 0, FAR)
    store.close()
    path.write_bytes(path.read_bytes().replace(b"reason TEXT", b"reasom TEXT"))
    store = MarketStore(path, clock)
    store.open()
    assert "database_quarantined" in {notice.code for notice in store.notices}
    assert store.read_extras(SHARE, "1d", 0, FAR) == before
    assert factors(store) == pytest.approx([0.9, 0.9, 1.0, 1.0, 1.0])
    assert asyncio.run(store.known_until_ns(SHARE)) == NOW
    store.close()


def test_a_backup_has_the_actions_and_leaves_nothing_beside_it(store: MarketStore, tmp_path: Path) -> None:
    store.append(days("2026-01-01", 5))
    learn(store, paid("2026-01-03", 10.0))
    copy = tmp_path / "elsewhere" / "copy.db"
    store.backup(copy)
    learn(store, paid("2026-01-04", 10.0))
    store.restore(copy)
    assert [action.at_ns for action in store.read_actions(SHARE, 0, FAR)] == [at("2026-01-03")]
    assert [file.name for file in copy.parent.iterdir()] == ["copy.db"]


def test_actions_go_with_the_last_candle(store: MarketStore, clock: FixedClock) -> None:
    store.append(days("2024-01-01", 5))
    store.append(days("2026-01-01", 5))
    learn(store, paid("2024-01-03"), paid("2026-01-03"))
    store.prune(Retention(keep_days={"1d": 30}))
    assert len(store.read_actions(SHARE, 0, FAR)) == 2  # factors of what is left may follow from any
    clock.ns = at("2028-01-01 00:00:00")
    store.prune(Retention(keep_days={"1d": 30}))
    assert store.read_actions(SHARE, 0, FAR) == []
    assert asyncio.run(store.known_until_ns(SHARE)) is None


def test_an_older_file_is_brought_forward_with_what_files_told(tmp_path: Path, clock: FixedClock) -> None:
    path = tmp_path / "market.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA application_id={market.APPLICATION}")
        migrate(connection, path, market.MIGRATIONS[:1], tmp_path / "copy.db")
        connection.execute("INSERT INTO series VALUES (1, ?, '1d', 0)", (SHARE,))
        for n, (adjusted, dividend) in enumerate(((90.0, 0.0), (90.0, 0.0), (100.0, 10.0))):
            row = (at("2026-01-01") + n * DAY_NS, 100.0, 102.0, 99.0, 100.0, 8.0, None, 2)
            connection.execute("INSERT INTO candle VALUES (1,?,?,?,?,?,?,?,?,?)", (*row, market._crc(1, row)))
            extra = (row[0], adjusted, dividend, 0.0, None)
            connection.execute("INSERT INTO extra VALUES (1,?,?,?,?,?,0)", extra)
    store = MarketStore(path, clock)
    store.open()
    assert [e[1:] for e in store.read_extras(SHARE, "1d", 0, FAR).values()] == [
        (90.0, 0.0, 0.0, None),
        (90.0, 0.0, 0.0, None),
        (100.0, 10.0, 0.0, None),
    ]
    assert store.read_actions(SHARE, 0, FAR) == [paid("2026-01-03", 10.0)]
    np.testing.assert_allclose(factors(store) or [], [0.9, 0.9, 1.0])
    assert asyncio.run(store.verify()).damaged == 0
    store.close()
