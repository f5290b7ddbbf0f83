"""The desk store: rules, alerts and deliveries that survive, and a file that is replaced when it is damaged."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.storage.kit import FixedClock, ask
from watchhamster.core.ports import StoreError, UsageError
from watchhamster.core.text import Text
from watchhamster.monitor.alerts import Alert, Delivery, Rule
from watchhamster.storage.desk import DeskStore, JobRun, StoredRun


@pytest.fixture
async def desk(tmp_path: Path, clock: FixedClock) -> AsyncIterator[DeskStore]:
    desk = DeskStore(tmp_path / "watchhamster.db", clock)
    desk.open()
    yield desk
    desk.close()


def an_alert(number: int = 1, fired_ns: int | None = None) -> Alert:
    inner = Text("{price} is above {limit}", {"price": 101.5, "limit": 100})
    return Alert(
        key=f"rule:{number}:upbit:KRW-BTC",
        name="Breakout",
        rule_id=number,
        instrument="upbit:KRW-BTC",
        fired_ns=1_000 + number if fired_ns is None else fired_ns,
        price=101.5,
        values={"close": 101.5, "rising": True, "rsi": None},
        text=Text("{name}: {what}", {"name": "비트코인", "what": inner}),
    )


A_RULE = Rule(name="Golden cross", formula="cross_above(sma(close, 5), sma(close, 20))", instruments=("upbit:KRW-BTC",))


async def test_small_things_come_back_after_a_restart(desk: DeskStore, tmp_path: Path, clock: FixedClock) -> None:
    await desk.set_setting("language", "ko")
    await desk.set_setting("size", 3)
    await desk.set_setting("gone", True)
    await desk.set_setting("gone", None)
    await desk.set_watch_list(["upbit:KRW-ETH", "upbit:KRW-BTC"])
    await desk.set_watch_list(["upbit:KRW-XRP"], tenant="other")
    await desk.save_layout("main", b"\x00\xff")
    await desk.put("ban:upbit", b"1")
    await desk.put("ban:binance", b"1")
    await desk.put("ban:binance", None)
    await desk.save_tenant("default", {"name": "우리"})
    await desk.save_job(JobRun(job="report", due_ns=1, started_ns=2))
    await desk.save_job(JobRun(job="report", due_ns=1, started_ns=2, ended_ns=3))
    desk.close()
    desk.open()
    assert desk.settings() == {"language": "ko", "size": 3}
    assert desk.watch_list() == ["upbit:KRW-ETH", "upbit:KRW-BTC"]
    assert desk.watch_list("other") == ["upbit:KRW-XRP"] and desk.watch_list("none") == []
    assert desk.layout("main") == b"\x00\xff" and desk.layouts() == ["main"] and desk.layout("none") is None
    assert desk.get("ban:upbit") == b"1" and desk.get("ban:binance") is None
    assert desk.tenants() == {"default": {"name": "우리"}}
    assert desk.jobs() == {"report": JobRun(job="report", due_ns=1, started_ns=2, ended_ns=3)}


async def test_rules_are_saved_changed_and_removed(desk: DeskStore) -> None:
    first = await desk.save_rule(A_RULE)
    second = await desk.save_rule(msgspec.structs.replace(A_RULE, tenant="other"))
    assert first.id is not None and second.id is not None and first.id < second.id
    changed = msgspec.structs.replace(first, enabled=False)
    assert await desk.save_rule(changed) == changed
    assert desk.rules() == [changed, second] and desk.rules("other") == [second]
    await desk.remove_rule(second.id)
    third = await desk.save_rule(A_RULE)
    assert third.id is not None and third.id > second.id  # an id is never used twice
    for attempt in (desk.remove_rule(second.id), desk.save_rule(second)):
        with pytest.raises(UsageError) as caught:
            await attempt
        assert caught.value.code == "unknown_rule"


async def test_an_alert_and_its_deliveries_are_one(desk: DeskStore, clock: FixedClock, tmp_path: Path) -> None:
    stored, deliveries = await desk.add_alert(an_alert(), ["desktop", "webhook"], expires_ns=99)
    assert stored.id is not None and msgspec.structs.replace(stored, id=None) == an_alert()
    assert [(d.alert_id, d.channel, d.state, d.expires_ns) for d in deliveries] == [
        (stored.id, "desktop", "queued", 99),
        (stored.id, "webhook", "queued", 99),
    ]
    assert desk.alert(stored.id) == stored  # texts within texts included
    assert desk.deliveries(stored.id) == deliveries == desk.due_deliveries(clock.ns)
    assert desk.due_deliveries(clock.ns - 1) == [] and desk.next_delivery_ns() == clock.ns
    # Noticed again, as after a crash before the sending: the same row, nothing new.
    assert await desk.add_alert(an_alert(), ["desktop", "webhook"]) == (stored, deliveries)
    assert ask(tmp_path / "watchhamster.db", "SELECT count(*) FROM delivery") == [(2,)]


async def test_a_delivery_ends_and_can_be_sent_again(desk: DeskStore, clock: FixedClock) -> None:
    stored, (one, two) = await desk.add_alert(an_alert(), ["desktop", "webhook"])
    assert stored.id is not None and one.id is not None
    done = msgspec.structs.replace(one, state="delivered", attempts=1, done_ns=5, receipt="shown")
    later = msgspec.structs.replace(two, attempts=1, next_ns=clock.ns + 50, error="HTTP 503")
    await desk.save_delivery(done)
    await desk.save_delivery(later)
    assert desk.due_deliveries(clock.ns) == [] and desk.due_deliveries(clock.ns + 50) == [later]
    again = await desk.save_delivery(Delivery(alert_id=stored.id, channel="desktop", next_ns=1, repeated=True))
    assert desk.deliveries(stored.id) == [done, later, again]
    assert desk.delivery(one.id) == done and desk.delivery(12345) is None
    assert desk.due_deliveries(clock.ns + 50) == [again, later]  # the longest due first


async def test_alerts_are_paged_and_filtered(desk: DeskStore) -> None:
    stored = [(await desk.add_alert(an_alert(i), []))[0] for i in range(1, 8)]
    ids = [alert.id or 0 for alert in stored]
    assert desk.alerts(limit=3) == stored[-3:]
    assert desk.alerts(after_id=ids[1], limit=3) == stored[2:5]
    assert desk.alerts(before_id=ids[2], limit=5) == stored[:2]
    solved = msgspec.structs.replace(stored[0], resolved_ns=5, acknowledged_ns=6)
    await desk.update_alert(solved)
    assert desk.open_alerts() == stored[1:] == desk.alerts(state="open")
    assert desk.alerts(state="resolved") == [solved] and solved not in desk.alerts(state="unacknowledged")
    assert desk.alerts(tenant="other") == []
    with pytest.raises(UsageError) as caught:
        await desk.update_alert(an_alert())
    assert caught.value.code == "unknown_alert"


async def test_history_has_an_end(desk: DeskStore, clock: FixedClock) -> None:
    long_ago = clock.ns - 400 * 86400 * 10**9
    old = [(await desk.add_alert(an_alert(i, long_ago), ["inbox"]))[0] for i in range(3)]
    await desk.update_alert(msgspec.structs.replace(old[0], resolved_ns=long_ago))
    await desk.update_alert(msgspec.structs.replace(old[1], resolved_ns=long_ago))
    [sent] = desk.deliveries(old[0].id or 0)
    await desk.save_delivery(msgspec.structs.replace(sent, state="delivered"))
    assert await desk.tidy() == 1  # one is still being delivered, one has not resolved
    assert desk.alert(old[0].id or 0) is None and desk.deliveries(old[0].id or 0) == []
    new = [(await desk.add_alert(an_alert(i, clock.ns), ["inbox"]))[0] for i in range(10, 15)]
    assert await desk.tidy(keep_alerts=2) == 5
    assert desk.alerts() == new[-2:]


async def test_a_damaged_file_gives_way_to_the_newest_whole_backup(tmp_path: Path, clock: FixedClock) -> None:
    path = tmp_path / "watchhamster.db"
    desk = DeskStore(path, clock)
    desk.open()
    rule = await desk.save_rule(A_RULE)
    before, _ = await desk.add_alert(an_alert(), ["inbox"])
    good = await desk.back_up_daily()
    clock.ns += 86400 * 10**9
    spoilt = await desk.back_up_daily()
    spoilt.write_bytes(spoilt.read_bytes()[:5000])
    after, _ = await desk.add_alert(an_alert(2), ["inbox"])
    desk.close()
    path.write_bytes(b"\x00" * 20_000)
    desk.open()
    assert desk.rules() == [rule] and desk.alerts() == [before]
    [notice] = desk.notices
    assert notice.code == "database_quarantined" and str(good) in str(notice.text)
    assert [p.stat().st_size for p in (tmp_path / "quarantine").glob("*.db")] == [20_000]
    # Ids lost with the damage are not given to other alerts.
    assert after.id is not None
    anew, _ = await desk.add_alert(an_alert(3), [])
    assert anew.id is not None and anew.id > after.id
    desk.close()


async def test_without_a_backup_a_fresh_file_is_begun(tmp_path: Path, clock: FixedClock) -> None:
    (tmp_path / "watchhamster.db").write_bytes(b"garbage" * 1000)
    desk = DeskStore(tmp_path / "watchhamster.db", clock)
    desk.open()
    assert desk.rules() == [] and "fresh" in str(desk.notices[0].text)
    await desk.save_rule(A_RULE)
    desk.close()


async def test_seven_daily_backups_are_kept(desk: DeskStore, clock: FixedClock, tmp_path: Path) -> None:
    for _ in range(9):
        clock.ns += 86400 * 10**9
        newest = await desk.back_up_daily()
    kept = sorted(path.name for path in (tmp_path / "backups").iterdir())
    assert len(kept) == 7 and kept[-1] == newest.name


async def test_a_backup_restores_everything(desk: DeskStore, tmp_path: Path) -> None:
    rule = await desk.save_rule(A_RULE)
    await desk.backup(tmp_path / "copy.db")
    await desk.remove_rule(rule.id or 0)
    await desk.set_setting("language", "en")
    kept = await desk.restore(tmp_path / "copy.db")
    assert desk.rules() == [rule] and desk.settings() == {}
    assert ask(kept, "SELECT name FROM setting") == [("language",)]
    with pytest.raises(StoreError) as caught:
        await desk.restore(tmp_path / "absent.db")
    assert caught.value.code == "no_backup"
    assert desk.rules() == [rule]


async def test_a_locked_file_says_so(tmp_path: Path, clock: FixedClock) -> None:
    desk = DeskStore(tmp_path / "watchhamster.db", clock, patience_s=0.02)
    desk.open()
    other = sqlite3.connect(tmp_path / "watchhamster.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError) as caught:
        await desk.save_rule(A_RULE)
    assert caught.value.code == "database_locked" and "watchhamster.db" in str(caught.value)
    assert desk.rules() == []
    other.execute("ROLLBACK")
    other.close()
    await desk.save_rule(A_RULE)
    desk.close()


async def test_a_newer_file_is_refused_untouched(tmp_path: Path, clock: FixedClock) -> None:
    desk = DeskStore(tmp_path / "watchhamster.db", clock)
    desk.open()
    desk.close()
    with sqlite3.connect(tmp_path / "watchhamster.db") as connection:
        connection.execute("PRAGMA user_version=7")
    connection.close()
    before = (tmp_path / "watchhamster.db").read_bytes()
    with pytest.raises(StoreError) as caught:
        desk.open()
    assert caught.value.code == "newer_database"
    assert (tmp_path / "watchhamster.db").read_bytes() == before


_WRITER = """
import asyncio, sys
from pathlib import Path
from tests.storage.kit import FixedClock
from tests.storage.test_desk import an_alert
from watchhamster.storage.desk import DeskStore

async def main():
    desk = DeskStore(Path(sys.argv[1]), FixedClock())
    desk.open()
    number = max([alert.fired_ns for alert in desk.alerts(limit=1)], default=0)
    while True:
        number += 1
        await desk.add_alert(an_alert(number, number), ["inbox", "webhook"])
        print(number, flush=True)

asyncio.run(main())
"""


def test_a_kill_loses_no_alert_that_was_stored(tmp_path: Path, clock: FixedClock) -> None:
    rng = random.Random(6)
    path = tmp_path / "watchhamster.db"
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        said = int(writer.stdout.readline())
        time.sleep(rng.uniform(0, 0.1))
        writer.send_signal(signal.SIGKILL)
        said = max([said, *(int(line) for line in writer.stdout.read().split(b"\n")[:-1] if line)])
        writer.stdout.close()
        writer.wait()
        desk = DeskStore(path, clock)
        desk.open()
        alerts = desk.alerts(limit=10**6)
        assert [alert.fired_ns for alert in alerts] == list(range(1, len(alerts) + 1)) and len(alerts) >= said
        assert all(len(desk.deliveries(alert.id or 0)) == 2 for alert in alerts[-3:])
        assert not desk.notices
        desk.close()


async def test_many_writers_at_once_each_get_their_own(desk: DeskStore) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(desk.add_alert(an_alert(i), ["inbox"])) for i in range(20)]
    ids = [task.result()[0].id for task in tasks]
    assert len(set(ids)) == 20 and len(desk.due_deliveries(1 << 62)) == 20


async def test_different_backtests_count_as_trials_on_their_data(desk: DeskStore) -> None:
    def a_run(answer: str, data: str = "this") -> StoredRun:
        return StoredRun(
            strategy="Cross",
            text="",
            instruments=("upbit:KRW-BTC",),
            timeframe="1h",
            since_ns=0,
            until_ns=1,
            first_bar_ns=0,
            cash=1e6,
            app_version="1",
            data_fingerprint=data,
            period_fingerprint=data,
            answer=answer,
            made_ns=0,
        )

    kept = [await desk.save_run(run) for run in (a_run("a"), a_run("b"), a_run("b"), a_run("c", "other"))]
    assert [run.id for run in desk.runs()] == [run.id for run in kept]
    assert (desk.trials_on("this"), desk.trials_on("other"), desk.trials_on("none")) == (2, 1, 0)
    await desk.remove_run(kept[0].id or 0)
    assert desk.trials_on("this") == 1
    with pytest.raises(UsageError, match="no run"):
        desk.run(kept[0].id or 0)


async def test_every_version_of_a_strategy_stays(desk: DeskStore) -> None:
    for text in ("one", "one", "two"):
        await desk.save_strategy("Cross", text)
    assert [(one.version, one.text) for one in desk.versions("Cross")] == [(1, "one"), (2, "two")]
    assert [(one.name, one.version) for one in desk.strategies()] == [("Cross", 2)]
    assert await desk.remove_strategy("Cross") == 2 and desk.strategies() == []
