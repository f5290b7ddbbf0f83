"""The market store: what was said, what was asked for, and how both survive."""

from __future__ import annotations

import asyncio
import math
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.storage.kit import (
    BTC,
    DAY_NS,
    MINUTE_NS,
    FixedClock,
    ask,
    at,
    candle,
    everything,
    minutes,
    spans,
    tamper,
)
from watchhamster.core.ports import StoreError, Unavailable, UsageError
from watchhamster.core.text import Text
from watchhamster.core.timeframes import timeframe
from watchhamster.storage.market import Counts, MarketStore, Retention, SeriesInfo


def test_what_was_appended_is_read_before_and_after_it_is_on_the_disk(store: MarketStore, tmp_path: Path) -> None:
    given = minutes("2026-01-10 10:00", 5)
    store.append(given)
    assert everything(store) == given
    store.flush()
    assert everything(store) == given
    assert ask(tmp_path / "market.db", "SELECT count(*) FROM candle") == [(5,)]
    assert store.last_ns(BTC, "1m") == given[-1].open_ns


async def test_the_loop_reads_bars_and_coverage(store: MarketStore) -> None:
    given = minutes("2026-01-10 10:00", 3)
    store.append(given)
    store.mark(BTC, "1m", at("2026-01-10 10:00"), at("2026-01-10 10:05"))
    bars = await store.bars(BTC, "1m", at("2026-01-10 10:01"), at("2026-01-10 10:03"))
    assert bars.close.tolist() == [101.0, 102.0]
    found = await store.coverage(BTC, "1m", at("2026-01-10 10:00"), at("2026-01-10 10:06"))
    assert [(span.state, span.count) for span in found] == [("candles", 3), ("no_trade", 0), ("not_fetched", 0)]


def test_absent_numbers_and_origins_come_back(store: MarketStore) -> None:
    given = [
        candle(at("2026-01-10 10:00"), volume=None, origin="import"),
        candle(at("2026-01-10 10:01"), origin="backfill"),
        candle(at("2026-01-10 10:02"), 0.00000127, origin="simulated"),
    ]
    store.append(given)
    assert everything(store) == given
    store.flush()
    assert everything(store) == given
    assert math.isnan(store.read_bars(BTC, "1m", 0, 1 << 62).volume[0])


def test_finished_periods_become_one_block_each(store: MarketStore, tmp_path: Path, clock: FixedClock) -> None:
    given = minutes("2026-01-08 23:00", 24 * 60 + 120)
    store.append(given)
    store.flush()
    store.seal()
    assert everything(store) == given
    rows = ask(tmp_path / "market.db", "SELECT count FROM block ORDER BY start_ns")
    assert rows == [(60,), (1440,)]
    assert ask(tmp_path / "market.db", "SELECT count(*) FROM candle") == [(60,)]  # the day is not over
    clock.ns += DAY_NS
    store.seal()
    assert ask(tmp_path / "market.db", "SELECT count(*) FROM candle") == [(0,)]
    assert everything(store) == given


@pytest.mark.parametrize(
    ("tf", "blocks"), [("1s", 3), ("10m", 3), ("15m", 1), ("4h", 1), ("1d", 2), ("1w", 2), ("1M", 2)]
)
def test_a_block_is_a_day_a_month_or_a_year(store: MarketStore, tmp_path: Path, tf: str, blocks: int) -> None:
    frame = timeframe(tf)
    span_ns = 3 * DAY_NS if blocks == 3 else 31 * DAY_NS if blocks == 1 else 400 * DAY_NS
    start = at("2024-08-01 00:00")
    opens = sorted({frame.open_ns(start + i * span_ns // 150) for i in range(150)})
    opens = [ns for ns in opens if ns >= start]
    given = [candle(ns, 100.0 + i, tf=tf) for i, ns in enumerate(opens)]
    store.write(given)
    assert everything(store, tf=tf) == given
    assert ask(tmp_path / "market.db", "SELECT count(*) FROM block") == [(blocks,)]
    assert ask(tmp_path / "market.db", "SELECT count(*) FROM candle") == [(0,)]


def test_a_correction_is_read_and_the_bar_as_first_evaluated_is_kept(store: MarketStore, clock: FixedClock) -> None:
    given = minutes("2026-01-09 10:00", 3)
    fixed = [candle(given[1].open_ns, 150.0), candle(given[1].open_ns, 160.0)]
    store.append(given)
    store.append(fixed[:1])
    for step in (lambda: None, store.flush, store.seal):
        step()
        first = store.read_bars(BTC, "1m", 0, 1 << 62, first=True)
        assert first.close.tolist() == [100.0, 101.0, 102.0]
    assert store.read_bars(BTC, "1m", 0, 1 << 62).close.tolist() == [100.0, 150.0, 102.0]
    store.append(fixed[1:])
    assert store.read_bars(BTC, "1m", 0, 1 << 62).close.tolist() == [100.0, 160.0, 102.0]
    assert store.read_bars(BTC, "1m", 0, 1 << 62, first=True).close.tolist() == [100.0, 101.0, 102.0]
    store.flush()
    store.seal()
    assert store.read_bars(BTC, "1m", 0, 1 << 62).close.tolist() == [100.0, 160.0, 102.0]
    assert store.read_bars(BTC, "1m", 0, 1 << 62, first=True).close.tolist() == [100.0, 101.0, 102.0]


def test_writing_counts_new_same_and_changed(store: MarketStore) -> None:
    given = minutes("2026-01-05 10:00", 300)
    assert store.write(given) == Counts(300, 0, 0)
    changed = candle(given[7].open_ns, 999.0)
    assert store.write([*given[:7], changed, *given[8:], candle(at("2026-01-06 10:00"))]) == Counts(1, 299, 1)
    assert everything(store)[7] == changed


def test_the_venues_sums_do_not_revise_ours_for_their_last_bits(store: MarketStore) -> None:
    ours = candle(at("2026-01-10 10:00"), volume=0.1 + 0.2)
    theirs = candle(at("2026-01-10 10:00"), volume=0.3, origin="backfill")
    assert ours != theirs
    store.append([ours])
    assert store.write([theirs]) == Counts(0, 1, 0)
    assert everything(store) == [ours]
    assert store.write([candle(ours.open_ns, volume=0.4, origin="backfill")]) == Counts(0, 0, 1)


def test_what_a_source_does_not_say_is_not_denied(store: MarketStore) -> None:
    full = candle(at("2026-01-10 10:00"))
    store.write([full])
    assert store.write([candle(full.open_ns, volume=None, origin="import")]) == Counts(0, 1, 0)
    assert everything(store) == [full]


def test_no_trade_is_told_from_not_fetched(store: MarketStore) -> None:
    start = at("2026-01-10 10:00")
    store.append([candle(start + MINUTE_NS), candle(start + 2 * MINUTE_NS), candle(start + 5 * MINUTE_NS)])
    store.mark(BTC, "1m", start, start + 4 * MINUTE_NS)
    expected = [("no_trade", 1, 0), ("candles", 2, 2), ("no_trade", 1, 0), ("not_fetched", 1, 0), ("candles", 1, 1)]
    for step in (lambda: None, store.flush, store.seal):
        step()
        assert spans(store, "2026-01-10 10:00", "2026-01-10 10:06") == expected
    assert spans(store, "2026-01-10 10:03", "2026-01-10 10:05") == [("no_trade", 1, 0), ("not_fetched", 1, 0)]
    assert spans(store, "2026-01-09 10:00", "2026-01-09 10:01") == [("not_fetched", 1, 0)]
    assert spans(store, "2026-01-10 10:00", "2026-01-10 10:00") == []


def test_a_place_fetched_in_part_is_not_known_until_the_rest_is(store: MarketStore) -> None:
    start, half = at("2026-01-10 10:00"), 30 * MINUTE_NS // 60
    store.mark(BTC, "1m", start + half, start + 2 * MINUTE_NS + half)
    assert spans(store, "2026-01-10 10:00", "2026-01-10 10:03") == [
        ("not_fetched", 1, 0),
        ("no_trade", 1, 0),
        ("not_fetched", 1, 0),
    ]
    store.flush()
    store.mark(BTC, "1m", start + 2 * MINUTE_NS + half, start + 3 * MINUTE_NS)
    assert spans(store, "2026-01-10 10:01", "2026-01-10 10:03") == [("no_trade", 2, 0)]


def test_days_of_an_exchange_with_summer_time_have_no_holes(store: MarketStore) -> None:
    opens = [at(f"2024-03-{day:02} 0{5 if day <= 10 else 4}:00") for day in range(8, 13)]
    store.write([candle(ns, tf="1d") for ns in opens])
    found = store.read_coverage(BTC, "1d", opens[0], opens[-1] + DAY_NS)
    assert [(span.state, span.count) for span in found] == [("candles", 5)]


def test_a_full_buffer_drops_says_so_and_leaves_the_time_unmarked(tmp_path: Path, clock: FixedClock) -> None:
    store = MarketStore(tmp_path / "market.db", clock, buffer_max=10)
    store.open()
    given = minutes("2026-01-10 10:00", 15)
    with_lock = sqlite3.connect(tmp_path / "market.db", isolation_level=None)
    with_lock.execute("BEGIN IMMEDIATE")
    store.append(given)
    store.mark(BTC, "1m", given[0].open_ns, given[-1].open_ns + 2 * MINUTE_NS)
    state = store.state
    assert (state.state, state.buffered, state.dropped) == ("behind", 10, 5)
    with_lock.execute("ROLLBACK")
    with_lock.close()
    store.flush()
    assert store.state.state == "ok"
    assert everything(store) == given[:10]
    assert spans(store, "2026-01-10 10:00", "2026-01-10 10:16") == [
        ("candles", 10, 10),
        ("not_fetched", 5, 0),
        ("no_trade", 1, 0),
    ]
    # A refill repairs it.
    store.append(given[10:])
    store.mark(BTC, "1m", given[0].open_ns, given[-1].open_ns + 2 * MINUTE_NS)
    assert spans(store, "2026-01-10 10:00", "2026-01-10 10:16") == [("candles", 15, 15), ("no_trade", 1, 0)]
    store.close()


def test_absurd_candles_are_refused_at_the_door(store: MarketStore) -> None:
    for close in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            store.append([candle(at("2026-01-10 10:00"), close)])
    with pytest.raises(ValueError, match="finite"):
        store.append([candle(1 << 63)])
    with pytest.raises(UsageError):
        store.append([candle(at("2026-01-10 10:00"), tf="often")])
    with pytest.raises(UsageError):
        store.mark(BTC, "often", 0, 1)
    store.append(minutes("2026-01-10 10:00", 1))
    store.flush()
    assert len(everything(store)) == 1


def test_a_reader_beside_the_writer_sees_what_is_committed_and_writes_nothing(
    store: MarketStore, tmp_path: Path, clock: FixedClock
) -> None:
    given = minutes("2026-01-05 10:00", 200)
    store.write(given)
    reader = MarketStore(tmp_path / "market.db", clock)
    reader.open(read_only=True)
    assert everything(reader) == given
    store.write(minutes("2026-01-06 10:00", 1))
    assert len(everything(reader)) == 201
    reader.close()
    (tmp_path / "begun.db").touch()  # as another process sees it in the moment before its tables are made
    begun = MarketStore(tmp_path / "begun.db", clock)
    begun.open(read_only=True)
    assert begun.series() == [] and everything(begun) == []
    begun.close()
    empty = MarketStore(tmp_path / "none" / "market.db", clock)
    empty.open(read_only=True)
    assert everything(empty) == [] and empty.series() == [] and empty.last_ns(BTC, "1m") is None
    assert spans(empty, "2026-01-10 10:00", "2026-01-10 10:01") == [("not_fetched", 1, 0)]
    empty.close()
    assert not (tmp_path / "none").exists()


def test_a_series_knows_its_length_and_its_ends(store: MarketStore) -> None:
    given = minutes("2026-01-02 12:00", 6 * 1440)
    assert store.series() == [] and store.last_ns(BTC, "1m") is None
    store.write(given)
    late = candle(given[0].open_ns - 5 * MINUTE_NS)
    store.write([late, candle(given[2000].open_ns, 55.0), candle(at("2026-01-10 11:00"))])
    assert store.series() == [SeriesInfo(BTC, "1m", 6 * 1440 + 2, late.open_ns, at("2026-01-10 11:00"))]
    store.append([candle(at("2026-01-10 11:30"))])
    assert store.last_ns(BTC, "1m") == at("2026-01-10 11:30")


def test_a_second_open_finds_everything(tmp_path: Path, clock: FixedClock) -> None:
    given = minutes("2026-01-09 23:00", 180)
    for chunk in (given[:70], given[70:]):
        store = MarketStore(tmp_path / "market.db", clock)
        store.open()
        store.append(chunk)
        store.mark(BTC, "1m", chunk[0].open_ns, chunk[-1].open_ns + MINUTE_NS)
        store.close()
    store = MarketStore(tmp_path / "market.db", clock)
    store.open()
    assert everything(store) == given
    assert [(s.instrument, s.timeframe, s.count) for s in store.series()] == [(BTC, "1m", 180)]
    assert store.last_ns(BTC, "1m") == given[-1].open_ns
    store.close()
    assert not list(tmp_path.glob("market.db-*"))  # closed cleanly: the WAL is folded in


# ---------------------------------------------------------------- damage


def test_a_flipped_bit_in_a_block_is_never_shown(store: MarketStore, tmp_path: Path) -> None:
    given = minutes("2026-01-05 00:00", 2880)
    store.write(given, [(BTC, "1m", given[0].open_ns, given[-1].open_ns + MINUTE_NS)])
    [(data,)] = ask(tmp_path / "market.db", "SELECT data FROM block WHERE start_ns = ?", given[0].open_ns)
    assert isinstance(data, bytes)
    bad = bytearray(data)
    bad[len(bad) // 2] ^= 4
    tamper(tmp_path / "market.db", "UPDATE block SET data = ? WHERE start_ns = ?", bytes(bad), given[0].open_ns)
    assert everything(store) == given[1440:]
    assert spans(store, "2026-01-05 00:00", "2026-01-07 00:00") == [("not_fetched", 1440, 0), ("candles", 1440, 1440)]
    assert [notice.code for notice in store.notices] == ["market_data_quarantined"]
    # The damaged bytes are kept for a person to look at.
    [(kind, content)] = ask(tmp_path / "market.db", "SELECT kind, content FROM quarantine")
    assert kind == "block" and isinstance(content, bytes) and bytes(bad) in content


def test_a_wrong_row_is_never_shown_and_its_period_is_asked_for_again(store: MarketStore, tmp_path: Path) -> None:
    given = minutes("2026-01-10 10:00", 5)
    store.write(given, [(BTC, "1m", given[0].open_ns - MINUTE_NS, given[-1].open_ns + 3 * MINUTE_NS)])
    tamper(tmp_path / "market.db", "UPDATE candle SET close = close + 0.5 WHERE open_ns = ?", given[2].open_ns)
    assert everything(store) == [*given[:2], *given[3:]]
    # Its time may be what was damaged, so nothing around it is taken for "no trade" either.
    assert spans(store, "2026-01-10 09:59", "2026-01-10 10:06") == [
        ("not_fetched", 1, 0),
        ("candles", 2, 2),
        ("not_fetched", 1, 0),
        ("candles", 2, 2),
        ("not_fetched", 1, 0),
    ]


async def test_verify_finds_quarantines_and_heals(store: MarketStore, tmp_path: Path) -> None:
    given = minutes("2026-01-05 00:00", 1440) + minutes("2026-01-10 10:00", 5)
    start, end = given[0].open_ns, given[-1].open_ns + MINUTE_NS
    store.write(given, [(BTC, "1m", start, end)])
    fixed = candle(given[3].open_ns, 777.0)
    store.write([fixed])
    store.seal()
    given[3] = fixed
    assert await store.verify() == await store.verify()
    assert (await store.verify()).damaged == 0

    path = tmp_path / "market.db"
    tamper(path, "UPDATE block SET data = zeroblob(length(data))")
    tamper(path, "UPDATE candle SET high = high * 2 WHERE open_ns = ?", given[-2].open_ns)
    tamper(path, "UPDATE first_candle SET low = 1")
    found = await store.verify()
    assert (found.damaged, found.healed) == (3, 0)
    assert sorted(str(entry["kind"]) for entry in found.quarantined) == ["block", "first", "row"]
    again = await store.verify()
    assert (again.damaged, again.healed) == (2, 0)  # the candles are still missing

    asked: list[tuple[int, int]] = []

    async def refill(instrument: str, tf: str, since_ns: int, until_ns: int) -> None:
        asked.append((since_ns, until_ns))
        store.append([row for row in given if since_ns <= row.open_ns < until_ns])
        store.mark(instrument, tf, since_ns, until_ns)

    healed = await store.verify(refill)
    assert (healed.damaged, healed.healed) == (2, 2)
    assert (start, start + DAY_NS) in asked
    assert everything(store) == given
    assert (await store.verify()).damaged == 0


async def test_verify_heals_what_it_can_when_the_venue_is_away(store: MarketStore, tmp_path: Path) -> None:
    store.write(minutes("2026-01-05 00:00", 1440))
    tamper(tmp_path / "market.db", "UPDATE block SET crc = crc + 1")

    async def refill(*_: object) -> None:
        raise Unavailable("unreachable", Text("The venue is away."))

    found = await store.verify(refill)
    assert (found.damaged, found.healed) == (1, 0)


async def test_a_span_that_does_not_match_its_checksum_is_not_believed(store: MarketStore, tmp_path: Path) -> None:
    start = at("2026-01-10 10:00")
    store.write([], [(BTC, "1m", start, start + 5 * MINUTE_NS)])
    tamper(tmp_path / "market.db", "UPDATE coverage SET until_ns = until_ns + ?", 5 * MINUTE_NS)
    assert spans(store, "2026-01-10 10:00", "2026-01-10 10:10") == [("not_fetched", 10, 0)]
    assert (await store.verify()).damaged == 1
    assert (await store.verify()).damaged == 0


# ---------------------------------------------------------------- the file


def test_a_backup_is_whole_and_comes_back(store: MarketStore, tmp_path: Path) -> None:
    given = minutes("2026-01-05 10:00", 300)
    store.append(given)
    store.backup(tmp_path / "copy" / "market.backup")
    store.write(minutes("2026-01-07 10:00", 5))
    kept = store.restore(tmp_path / "copy" / "market.backup")
    assert everything(store) == given
    assert ask(kept, "SELECT count(*) FROM series") == [(1,)]
    store.write(minutes("2026-01-08 10:00", 1))
    assert len(everything(store)) == 301


def test_a_bad_backup_changes_nothing(store: MarketStore, tmp_path: Path) -> None:
    given = minutes("2026-01-05 10:00", 300)
    store.write(given)
    store.backup(tmp_path / "good")
    (tmp_path / "text").write_text("not a database at all, but long enough to be looked at" * 9)
    damaged = bytearray((tmp_path / "good").read_bytes())
    damaged[4096:8192] = bytes(4096)
    (tmp_path / "damaged").write_bytes(damaged)
    tamper(tmp_path / "other", "CREATE TABLE other (a)")
    codes = {
        "absent": "no_backup",
        "text": "database_damaged",
        "damaged": "database_damaged",
        "other": "wrong_database",
    }
    for name, code in codes.items():
        with pytest.raises(StoreError) as caught:
            store.restore(tmp_path / name)
        assert caught.value.code == code, name
        assert everything(store) == given


def test_history_goes_by_days_and_by_size(store: MarketStore, clock: FixedClock) -> None:
    for day in range(1, 30):
        start = at("2025-12-01 00:00") + day * DAY_NS
        rows = [candle(start + i * MINUTE_NS, 100 + math.sqrt(i * day)) for i in range(1440)]
        store.write(rows, [(BTC, "1m", start, start + DAY_NS)])
    days = [candle(at("2025-01-01 00:00") + i * DAY_NS, tf="1d") for i in range(300)]
    store.write(days)
    gone = store.prune(Retention(keep_days={"1m": 30}))
    assert gone.candles == 9 * 1440  # the clock says 10 January, so up to 10 December
    assert everything(store)[0].open_ns == at("2025-12-11 00:00")
    assert spans(store, "2025-12-10 00:00", "2025-12-12 00:00") == [("not_fetched", 1440, 0), ("candles", 1440, 1440)]
    before = store.size()
    gone = store.prune(Retention(max_bytes=before // 2))
    assert gone.bytes > 0 and store.size() <= before // 2 + 20_000
    assert everything(store, tf="1d") == days  # the finest go first
    left = everything(store)
    assert left and left == sorted(left, key=lambda row: row.open_ns) and left[-1].open_ns >= at("2025-12-30 00:00")
    clock.ns = at("2025-12-31 12:00")
    store.prune(Retention(max_bytes=0))
    assert everything(store)[0].open_ns == at("2025-12-24 00:00")  # the last seven days stay


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20), st.lists(st.integers(0, 59), max_size=8)), max_size=6)
)
def test_coverage_says_of_each_minute_what_is_known(tmp_path: Path, script: list[tuple[int, int, list[int]]]) -> None:
    path = tmp_path / "market.db"
    path.unlink(missing_ok=True)
    store = MarketStore(path, FixedClock())
    store.open()
    start = at("2026-01-10 10:00")
    expected = ["not_fetched"] * 60
    for since, length, trades in script:
        store.append([candle(start + minute * MINUTE_NS) for minute in trades])
        store.mark(BTC, "1m", start + since * MINUTE_NS, start + (since + length) * MINUTE_NS)
        for minute in range(since, min(60, since + length)):
            expected[minute] = "no_trade" if expected[minute] == "not_fetched" else expected[minute]
        for minute in trades:
            expected[minute] = "candles"
        if length % 2:
            store.flush()
    found: list[str] = []
    for state, slots, count in spans(store, "2026-01-10 10:00", "2026-01-10 11:00"):
        assert count == (slots if state == "candles" else 0)
        found += [state] * slots
    assert found == expected
    store.close()


async def test_reading_does_not_wait_for_a_writer(store: MarketStore, tmp_path: Path) -> None:
    store.write(minutes("2026-01-10 10:00", 5))
    other = sqlite3.connect(tmp_path / "market.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.append(minutes("2026-01-10 10:05", 1))
    bars = await asyncio.wait_for(store.bars(BTC, "1m", 0, 1 << 62), 5)
    assert len(bars) == 6
    other.execute("ROLLBACK")
    other.close()
