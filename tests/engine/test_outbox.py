"""An alert is a row before it is a message, and gets through: storms, refusals, crashes, mutes, full disks."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import MemoryDesk
from tests.virtual_time import VirtualClock, run
from watchhamster.core.ports import Clock, UsageError
from watchhamster.core.text import Text
from watchhamster.engine.clock import SystemClock
from watchhamster.engine.outbox import AlertStore, Outbox, end_of_day_ns
from watchhamster.monitor.alerts import Alert, Delivery, Parcel, Receipt
from watchhamster.storage.desk import DeskStore

SECOND_NS = 10**9
OK = Receipt(outcome="ok", text="fine")
RETRY = Receipt(outcome="retry", text="HTTP 503")


def alert(key: str = "rule:1:upbit:KRW-BTC", at: int = 1, **changes: Any) -> Alert:
    fields: dict[str, Any] = {
        "key": key,
        "name": "rule",
        "fired_ns": at,
        "text": Text("it holds"),
        "channels": ("room",),
    }
    return Alert(**(fields | changes))


class Room:
    """A channel that answers as told (the last answer for ever) and remembers when it got what."""

    def __init__(self, clock: Clock, *answers: Receipt, name: str = "room", **traits: Any) -> None:
        self.name = name
        self.interval_s: float = traits.get("interval_s", 0.0)
        self.fold_s: float = traits.get("fold_s", 0.0)
        self.always: bool = traits.get("always", False)
        self.answers = list(answers) or [OK]
        self.clock = clock
        self.got: list[tuple[float, Parcel]] = []

    async def send(self, parcel: Parcel) -> Receipt:
        self.got.append((self.clock.monotonic(), parcel))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    @property
    def times(self) -> list[float]:
        return [round(at, 3) for at, _ in self.got]

    @property
    def ids(self) -> list[list[int | None]]:
        return [[alert.id for alert in parcel.alerts] for _, parcel in self.got]


def state(desk: MemoryDesk, delivery_id: int) -> str:
    return desk.delivery_rows[delivery_id].state


class NoJitter(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


@asynccontextmanager
async def running(outbox: Outbox) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(outbox.run())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()


def test_a_row_comes_before_the_message_and_the_receipt_after() -> None:
    async def main(clock: VirtualClock) -> None:
        desk = MemoryDesk()
        seen: list[tuple[str, int]] = []

        class Looking(Room):
            async def send(self, parcel: Parcel) -> Receipt:
                row = desk.delivery_rows[1]
                seen.append((row.state, row.attempts))
                return await super().send(parcel)

        told: list[Alert] = []
        outbox = Outbox(desk, clock, [Looking(clock)], on_alert=told.append)
        async with running(outbox):
            outbox.add([alert()])
            await outbox.flush()
            assert told == [desk.alert_rows[1]] and told[0].id == 1
            await clock.sleep(1)
        assert seen == [("queued", 1)]
        row = desk.delivery_rows[1]
        assert (row.state, row.receipt, row.error, row.attempts) == ("delivered", "fine", "", 1)
        assert row.done_ns is not None

    run(main)


def test_a_channel_that_fails_is_tried_five_times_with_growing_waits_then_dead() -> None:
    async def main(clock: VirtualClock) -> None:
        desk, room = MemoryDesk(), Room(clock, RETRY)
        outbox = Outbox(desk, clock, [room, Room(clock, name="inbox", always=True)], rng=NoJitter())
        async with running(outbox):
            outbox.add([alert(kind="feed")])
            await clock.sleep(3600)
            assert room.times == [0, 1, 6, 36, 156]
            row = desk.delivery_rows[1]
            assert (row.state, row.attempts, row.error) == ("dead", 5, "HTTP 503")
            assert outbox.status().state == "warning"
            # It is a matter of its own, told by the channels of this machine and not by itself.
            trouble = desk.alert_rows[2]
            assert trouble.key == "channel:room" and trouble.channels == ("inbox",)
            room.answers = [OK]
            outbox.add([alert(at=2)])
            await clock.sleep(1)
            assert desk.alert_rows[2].resolved_ns is not None
            assert outbox.status().state == "ok"

    run(main)


def test_waits_are_jittered_by_a_fifth() -> None:
    async def main(clock: VirtualClock) -> None:
        gaps = []
        for seed in range(20):
            room = Room(clock, RETRY, OK)
            async with running(Outbox(MemoryDesk(), clock, [room], rng=random.Random(seed))) as _:
                pass
            outbox = Outbox(MemoryDesk(), clock, [room], rng=random.Random(seed))
            async with running(outbox):
                outbox.add([alert(at=seed)])
                await clock.sleep(10)
            gaps.append(room.got[1][0] - room.got[0][0])
        assert all(0.8 <= gap <= 1.2 + 1e-6 for gap in gaps)
        assert max(gaps) - min(gaps) > 0.1

    run(main)


def test_a_late_price_alert_is_dropped_with_a_note_and_others_are_not() -> None:
    async def main(clock: VirtualClock) -> None:
        desk = MemoryDesk()
        desk.now_ns = clock.now_ns()
        room = Room(clock, Receipt(outcome="retry", text="HTTP 429", pause_s=900))
        outbox = Outbox(desk, clock, [room], rng=NoJitter())
        async with running(outbox):
            outbox.add([alert("a"), alert("b"), alert("c", kind="feed")])
            await clock.sleep(899)
            price, waiting, feed = desk.delivery_rows.values()
            assert price.state == "expired" and "HTTP 429" in price.error
            assert waiting.state == "expired" and waiting.attempts == 0 and "too late" in waiting.error
            assert waiting.done_ns is not None and waiting.done_ns - desk.now_ns == 600 * SECOND_NS
            assert feed.state == "queued"
            room.answers = [OK]
            await clock.sleep(2)
            assert state(desk, 3) == "delivered"

    run(main)


def test_a_pause_holds_its_target_only() -> None:
    async def main(clock: VirtualClock) -> None:
        asked = Room(clock, Receipt(outcome="retry", text="HTTP 429", pause_s=30), OK)
        other = Room(clock, name="other")
        outbox = Outbox(MemoryDesk(), clock, [asked, other])
        async with running(outbox):
            outbox.add([alert("a", channels=("room", "other")), alert("b", channels=("room", "other"))])
            await clock.sleep(100)
        assert asked.times == [0, 30, 30]
        assert other.times == [0, 0]

    run(main)


def test_a_channels_interval_is_kept() -> None:
    async def main(clock: VirtualClock) -> None:
        room = Room(clock, interval_s=1.0)
        outbox = Outbox(MemoryDesk(), clock, [room])
        async with running(outbox):
            outbox.add([alert(f"k{n}") for n in range(5)])
            await clock.sleep(60)
        assert room.times == [0, 1, 2, 3, 4]

    run(main)


def test_each_channel_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def main(clock: VirtualClock) -> None:
        class Broken(Room):
            async def send(self, parcel: Parcel) -> Receipt:
                self.got.append((self.clock.monotonic(), parcel))
                raise ZeroDivisionError

        class Hanging(Room):
            async def send(self, parcel: Parcel) -> Receipt:
                await super().send(parcel)
                await asyncio.Event().wait()
                return OK

        desk = MemoryDesk()
        broken, hanging, fine = Broken(clock, name="a"), Hanging(clock, name="b"), Room(clock, name="c")
        outbox = Outbox(desk, clock, [broken, hanging, fine])
        async with running(outbox):
            outbox.add([alert(channels=("a", "b", "c"))])
            await clock.sleep(60.5)
            assert fine.times == [0]
            assert len(broken.got) >= 3 and len(hanging.got) == 1
            assert "did not come back" in desk.delivery_rows[2].error and desk.delivery_rows[2].repeated

    run(main)
    assert "the channel a failed" in caplog.text


def test_an_unknown_channel_ends_its_delivery_with_the_reason() -> None:
    async def main(clock: VirtualClock) -> None:
        desk = MemoryDesk()
        outbox = Outbox(desk, clock, [Room(clock)])
        async with running(outbox):
            outbox.add([alert(channels=("gone", "room", "room"))])
            await clock.sleep(1)
        gone, room = desk.delivery_rows.values()
        assert (gone.state, gone.error) == ("dead", "there is no channel gone")
        assert room.state == "delivered"

    run(main)


# ---------------------------------------------------------------- the life of an alert


def test_a_resolution_changes_the_same_row_and_sends_nothing() -> None:
    async def main(clock: VirtualClock) -> None:
        desk, room = MemoryDesk(), Room(clock)
        told: list[int | None] = []
        outbox = Outbox(desk, clock, [room], on_alert=lambda a: told.append(a.resolved_ns))
        async with running(outbox):
            outbox.add([alert(at=5)])
            await outbox.flush()
            await outbox.acknowledge(1)
            outbox.add([alert(at=5, resolved_ns=9), alert("never seen", resolved_ns=9)])
            await clock.sleep(1)
        assert len(desk.alert_rows) == 1 and len(room.got) == 1
        assert desk.alert_rows[1].resolved_ns == 9 and desk.alert_rows[1].acknowledged_ns is not None
        assert told == [None, None, 9]

    run(main)


def test_the_same_firing_is_told_once_also_over_a_restart() -> None:
    async def main(clock: VirtualClock) -> None:
        desk, room = MemoryDesk(), Room(clock)
        for _start in range(3):
            outbox = Outbox(desk, clock, [room])
            async with running(outbox):
                outbox.add([alert(at=5), alert(at=5)])
                await clock.sleep(1)
        assert len(desk.alert_rows) == 1 and len(room.got) == 1
        async with running(outbox := Outbox(desk, clock, [room])):
            outbox.add([alert(at=5, resolved_ns=7)])
            await outbox.flush()
            outbox.add([alert(at=5)])
            await clock.sleep(1)
        assert len(desk.alert_rows) == 1 and len(room.got) == 1 and desk.open_alerts() == []

    run(main)


def test_a_new_firing_ends_one_left_open() -> None:
    async def main(clock: VirtualClock) -> None:
        desk = MemoryDesk()
        outbox = Outbox(desk, clock, [Room(clock)])
        async with running(outbox):
            outbox.add([alert(at=5), alert(at=8)])
            await clock.sleep(1)
        assert [row.resolved_ns for row in desk.alert_rows.values()] == [8, None]

    run(main)


def test_a_revision_keeps_what_a_person_did() -> None:
    async def main(clock: VirtualClock) -> None:
        desk = MemoryDesk()
        outbox = Outbox(desk, clock, [Room(clock)])
        async with running(outbox):
            outbox.add([alert(at=5)])
            await outbox.flush()
            await outbox.acknowledge(1)
            outbox.add([alert(at=5, id=1, revised=True)])
            await outbox.flush()
        assert desk.alert_rows[1].revised and desk.alert_rows[1].acknowledged_ns is not None

    run(main)


# ---------------------------------------------------------------- folding


def test_alerts_of_one_matter_within_the_time_go_out_as_one() -> None:
    async def main(clock: VirtualClock) -> None:
        desk, room = MemoryDesk(), Room(clock, fold_s=60)
        outbox = Outbox(desk, clock, [room])
        async with running(outbox):
            for n in range(1, 7):
                outbox.add([alert(at=n)])
                await clock.sleep(10)
            outbox.add([alert("another", at=1)])
            await clock.sleep(200)
        assert room.times == [0, 60, 60]
        assert room.ids == [[1], [2, 3, 4, 5, 6], [7]]
        assert {row.state for row in desk.delivery_rows.values()} == {"delivered"}
        assert "with 4 more" in desk.delivery_rows[2].receipt

    run(main)


def test_a_storm_of_many_matters_becomes_one_digest_but_every_alert_is_a_row() -> None:
    async def main(clock: VirtualClock) -> None:
        desk, room = MemoryDesk(), Room(clock, fold_s=60, interval_s=1)
        inbox = Room(clock, name="inbox", always=True)
        outbox = Outbox(desk, clock, [room, inbox])
        async with running(outbox):
            outbox.add([alert(f"k{n}", channels=("room", "inbox")) for n in range(300)])
            await clock.sleep(30)
        assert len(desk.alert_rows) == 300 and len(inbox.got) == 300
        assert len(room.got) <= 3
        assert sum(len(ids) for ids in room.ids) == 300
        assert {row.state for row in desk.delivery_rows.values()} == {"delivered"}

    run(main)


def test_a_folded_message_is_tried_again_as_the_same_message() -> None:
    async def main(clock: VirtualClock) -> None:
        room = Room(clock, OK, Receipt(outcome="retry", text="x", in_doubt=True), OK, fold_s=60)
        outbox = Outbox(MemoryDesk(), clock, [room], rng=NoJitter())
        async with running(outbox):
            for n in range(1, 4):
                outbox.add([alert(at=n)])
                await clock.sleep(1)
            await clock.sleep(57.5)
            outbox.add([alert(at=9)])
            await clock.sleep(200)
        first, second, newer, again = (parcel for _, parcel in room.got)
        assert first.id == "alert_1"
        assert second.id == again.id == "alerts_2_3_2"
        assert (second.repeated, again.repeated, again.attempt) == (False, True, 2)
        assert newer.id == "alert_4"

    run(main)


def test_more_than_a_lane_holds_waits_as_rows() -> None:
    async def main(clock: VirtualClock) -> None:
        desk, room = MemoryDesk(), Room(clock)
        outbox = Outbox(desk, clock, [room])
        async with running(outbox):
            room.interval_s = 0.001
            outbox.add([alert(f"k{n}", kind="feed") for n in range(1200)])
            await clock.sleep(120)
        assert len(room.got) == 1200
        assert {row.state for row in desk.delivery_rows.values()} == {"delivered"}

    run(main)


def test_beyond_the_bound_alerts_are_counted_and_the_status_is_critical() -> None:
    async def main(clock: VirtualClock) -> None:
        desk = MemoryDesk()
        desk.full = True
        outbox = Outbox(desk, clock, [Room(clock)])
        async with running(outbox):
            outbox.add([alert(f"k{n}") for n in range(4200)])
            await clock.sleep(1)
            desk.full = False
            await outbox.flush()
        assert len(desk.alert_rows) == 4096
        status = outbox.status()
        assert status.state == "critical" and "104" in str(status.detail)

    run(main)


# ---------------------------------------------------------------- mute and quiet hours


def test_while_muted_nothing_leaves_but_rows_and_inbox_go_on() -> None:
    async def main(clock: VirtualClock) -> None:
        desk, room, inbox = MemoryDesk(), Room(clock), Room(clock, name="inbox", always=True)
        outbox = Outbox(desk, clock, [room, inbox])
        async with running(outbox):
            await outbox.mute(clock.now_ns() + 300 * SECOND_NS)
            outbox.add([alert(channels=("room", "inbox"), severity="critical")])
            await clock.sleep(299)
            assert room.got == [] and len(inbox.got) == 1
            assert (desk.delivery_rows[1].state, desk.delivery_rows[1].error) == ("muted", "muted")
            assert [child.state for child in outbox.status().children] == ["muted", "ok"]
        again = Outbox(desk, clock, [room, inbox])
        async with running(again):
            assert again.muted_until_ns is not None  # it outlives a restart
            await clock.sleep(2)
            again.add([alert(at=2)])
            await clock.sleep(1)
            assert len(room.got) == 1
            sent = await again.resend(1)
            assert sent.state == "queued"
            await clock.sleep(1)
            assert state(desk, 1) == "delivered"

    run(main)


def test_the_hold_decides_by_channel_alert_and_moment() -> None:
    async def main(clock: VirtualClock) -> None:
        def hold(channel: str, about: Alert, now_ns: int) -> Text | None:
            return None if about.severity == "critical" else Text("quiet hours")

        desk, room = MemoryDesk(), Room(clock)
        outbox = Outbox(desk, clock, [room], hold=hold)
        async with running(outbox):
            outbox.add([alert("a"), alert("b", severity="critical")])
            await clock.sleep(1)
        assert room.ids == [[2]]
        assert (desk.delivery_rows[1].state, desk.delivery_rows[1].error) == ("muted", "quiet hours")

    run(main)


def test_mute_today_ends_at_the_zones_midnight() -> None:
    noon_utc = 1_763_640_000 * SECOND_NS  # 2025-11-20 12:00 UTC, 21:00 in Seoul
    assert end_of_day_ns(noon_utc, "Asia/Seoul") == 1_763_650_800 * SECOND_NS
    assert end_of_day_ns(noon_utc, "UTC") == 1_763_683_200 * SECOND_NS
    before_autumn_change = 1_761_364_800 * SECOND_NS  # 2025-10-25 06:00 in Berlin; the 26th has 25 hours
    assert end_of_day_ns(before_autumn_change + 86400 * SECOND_NS, "Europe/Berlin") == 1_761_519_600 * SECOND_NS


# ---------------------------------------------------------------- channels that end, tests, resends


def test_a_target_that_refuses_for_good_switches_the_channel_off_until_a_person_switches_it_on() -> None:
    async def main(clock: VirtualClock) -> None:
        desk = MemoryDesk()
        room = Room(clock, Receipt(outcome="disable", text="HTTP 410"))
        inbox = Room(clock, name="inbox", always=True)
        outbox = Outbox(desk, clock, [room, inbox])
        async with running(outbox):
            outbox.add([alert("a"), alert("b")])
            await clock.sleep(5)
            assert len(room.got) == 1
            assert [row.state for row in desk.delivery_rows.values()][:2] == ["dead", "dead"]
            assert "switched off" in desk.delivery_rows[2].error
            assert inbox.got[0][1].alerts[0].key == "channel:room"
            assert outbox.status().state == "critical"
        outbox = Outbox(desk, clock, [room, inbox])
        async with running(outbox):
            outbox.add([alert("c")])
            await clock.sleep(1)
            assert len(room.got) == 1  # still off after a restart
            room.answers = [OK]
            await outbox.switch_on("room")
            outbox.add([alert("d")])
            await clock.sleep(1)
            assert len(room.got) == 2 and outbox.status().state == "ok"
            assert desk.open_alerts()[-1].key == "d"
            assert all(a.key != "channel:room" for a in desk.open_alerts())

    run(main)


def test_a_way_out_this_machine_lacks_worries_nobody() -> None:
    async def main(clock: VirtualClock) -> None:
        desk = MemoryDesk()
        outbox = Outbox(desk, clock, [Room(clock, Receipt(outcome="absent", text="no desktop here"))])
        async with running(outbox):
            outbox.add([alert()])
            await clock.sleep(1)
            assert (desk.delivery_rows[1].state, desk.delivery_rows[1].error) == ("dead", "no desktop here")
            assert [child.state for child in outbox.status().children] == ["muted"]
            assert len(desk.alert_rows) == 1

    run(main)


def test_a_test_says_at_once_what_came_of_it_and_goes_through_a_mute() -> None:
    async def main(clock: VirtualClock) -> None:
        desk, room = MemoryDesk(), Room(clock, OK, Receipt(outcome="permanent", text="HTTP 404"))
        outbox = Outbox(desk, clock, [room])
        async with running(outbox):
            await outbox.mute(clock.now_ns() + 60 * SECOND_NS)
            good = await outbox.test("room")
            await clock.sleep(1)
            bad = await outbox.test("room")
            assert (good.state, good.receipt) == ("delivered", "fine")
            assert (bad.state, bad.error) == ("dead", "HTTP 404")
            assert all(parcel.test for _, parcel in room.got)
            assert desk.open_alerts() == []
            with pytest.raises(UsageError, match="no channel 'lobby'"):
                await outbox.test("lobby")

    run(main)


def test_a_dead_or_expired_delivery_can_be_sent_again() -> None:
    async def main(clock: VirtualClock) -> None:
        desk, room = MemoryDesk(), Room(clock, Receipt(outcome="permanent", text="HTTP 400"), OK)
        outbox = Outbox(desk, clock, [room])
        async with running(outbox):
            outbox.add([alert()])
            await clock.sleep(3600)
            assert state(desk, 1) == "dead"
            await outbox.resend(1)
            await clock.sleep(1)
            assert state(desk, 1) == "delivered"
            again = await outbox.resend(1)
            assert again.repeated  # it did arrive before
            with pytest.raises(UsageError, match="no delivery 99"):
                await outbox.resend(99)

    run(main)


def test_channels_come_and_go_and_what_waits_for_one_waits() -> None:
    async def main(clock: VirtualClock) -> None:
        desk, room, other = MemoryDesk(), Room(clock, RETRY, OK), Room(clock, name="other")
        outbox = Outbox(desk, clock, [room])
        async with running(outbox):
            outbox.add([alert(kind="feed", channels=("room", "other"))])
            await clock.sleep(0.5)
            outbox.set_channels([other])
            await clock.sleep(60)
            assert len(room.got) == 1 and state(desk, 1) == "queued"
            outbox.set_channels([other, room])
            await clock.sleep(1)
            assert state(desk, 1) == "delivered"
            outbox.add([alert("b", channels=("other",))])
            await clock.sleep(1)
            assert len(other.got) == 1

    run(main)


# ---------------------------------------------------------------- crashes and disks


def test_what_was_under_way_at_a_crash_is_sent_again_and_marked() -> None:
    async def main(clock: VirtualClock) -> None:
        class Dying(Room):
            async def send(self, parcel: Parcel) -> Receipt:
                await super().send(parcel)
                await asyncio.Event().wait()
                return OK

        desk, dying = MemoryDesk(), Dying(clock)
        outbox = Outbox(desk, clock, [dying])
        async with running(outbox):
            outbox.add([alert("a"), alert("b")])
            await clock.sleep(1)
        room = Room(clock)
        async with running(Outbox(desk, clock, [room])):
            await clock.sleep(1)
        assert [(parcel.alerts[0].key, parcel.repeated, parcel.attempt) for _, parcel in room.got] == [
            ("a", True, 2),
            ("b", False, 1),
        ]
        assert desk.delivery_rows[1].repeated and state(desk, 1) == "delivered"

    run(main)


def test_a_failed_attempt_before_a_crash_is_no_repeat() -> None:
    async def main(clock: VirtualClock) -> None:
        desk = MemoryDesk()
        async with running(outbox := Outbox(desk, clock, [Room(clock, RETRY)])):
            outbox.add([alert()])
            await clock.sleep(0.1)
        room = Room(clock)
        async with running(Outbox(desk, clock, [room])):
            await clock.sleep(2)
        assert [parcel.repeated for _, parcel in room.got] == [False]

    run(main)


def test_a_full_disk_loses_nothing_and_is_shown() -> None:
    async def main(clock: VirtualClock) -> None:
        desk, room = MemoryDesk(), Room(clock)
        outbox = Outbox(desk, clock, [room])
        async with running(outbox):
            desk.full = True
            outbox.add([alert("a"), alert("b")])
            await clock.sleep(5)
            status = outbox.status()
            assert status.state == "critical" and "The disk is full." in str(status.detail)
            assert room.got == []
            desk.full = False
            await clock.sleep(5)
            assert len(room.got) == 2 and outbox.status().state == "ok"

    run(main)


def test_the_clock_set_back_or_a_sleep_delays_nothing_for_ever() -> None:
    async def main(clock: VirtualClock) -> None:
        desk, room = MemoryDesk(), Room(clock, RETRY, OK)
        outbox = Outbox(desk, clock, [room], rng=NoJitter())
        async with running(outbox):
            outbox.add([alert(kind="feed")])
            await clock.sleep(0.5)
            clock.step(3600)  # the machine slept; its monotonic clock stood still
            outbox.wake()
            await clock.sleep(0.1)
            assert state(desk, 1) == "delivered"

    run(main)


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(["ok", "retry", "doubt", "permanent", "crash"]), max_size=12),
    st.integers(1, 4),
    st.integers(0, 2**31),
)
def test_every_alert_ends_in_a_final_state_and_an_acknowledged_one_was_sent(
    script: list[str], count: int, seed: int
) -> None:
    """Whatever the channel does, wherever the program dies: no delivery is lost, none delivered without a sending."""

    async def main(clock: VirtualClock) -> None:
        desk = MemoryDesk()
        accepted: set[int | None] = set()

        class Scripted(Room):
            async def send(self, parcel: Parcel) -> Receipt:
                step = script.pop(0) if script else "ok"
                if step == "crash":
                    crashed.set()
                    await asyncio.Event().wait()
                if step in ("ok", "doubt"):
                    accepted.update(a.id for a in parcel.alerts)
                answers: dict[str, Receipt] = {
                    "ok": OK,
                    "retry": RETRY,
                    "doubt": Receipt(outcome="retry", text="time-out", in_doubt=True),
                    "permanent": Receipt(outcome="permanent", text="HTTP 400"),
                }
                return answers[step]

        crashed = asyncio.Event()
        first = True
        while first or crashed.is_set():
            crashed.clear()
            outbox = Outbox(desk, clock, [Scripted(clock, fold_s=5)], rng=random.Random(seed))
            async with running(outbox):
                if first:
                    outbox.add([alert(f"k{n % 2}", at=n) for n in range(count)])
                    await outbox.flush()
                    first = False
                for _second in range(2000):
                    await clock.sleep(1)
                    if crashed.is_set():
                        break
        rows = [row for row in desk.delivery_rows.values() if row.channel == "room"]
        assert len(rows) == count
        for row in rows:
            assert row.state in ("delivered", "dead", "expired")
            assert row.done_ns is not None
            if row.state == "delivered":
                assert row.alert_id in accepted and row.receipt
            else:
                assert row.error

    run(main)


# ---------------------------------------------------------------- on the real store


async def eventually(check: Callable[[], bool]) -> None:
    for _turn in range(2000):
        if check():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen within 20 s")


async def test_on_the_real_store_over_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    clock = SystemClock()

    class Hanging(Room):
        async def send(self, parcel: Parcel) -> Receipt:
            await super().send(parcel)
            await asyncio.Event().wait()
            return OK

    desk = DeskStore(tmp_path / "watchhamster.db", clock)
    desk.open()
    store: AlertStore = desk
    hanging = Hanging(clock)
    outbox = Outbox(store, clock, [hanging, Room(clock, name="inbox", always=True)])
    async with running(outbox):
        outbox.add([alert(at=7, channels=("room", "inbox"), values={"rsi": 71.5})])
        await eventually(lambda: len(hanging.got) == 1)
        await outbox.mute(clock.now_ns() + 3600 * SECOND_NS)
    desk.close()

    desk = DeskStore(tmp_path / "watchhamster.db", clock)
    desk.open()
    room = Room(clock)
    outbox = Outbox(desk, clock, [room, Room(clock, name="inbox", always=True)])
    async with running(outbox):
        assert outbox.muted_until_ns is not None
        [stored] = desk.alerts()
        assert stored.id is not None

        def rows() -> list[Delivery]:
            assert stored.id is not None
            return desk.deliveries(stored.id)

        await eventually(lambda: [row.state for row in rows()] == ["muted", "delivered"])
        await outbox.mute(None)
        waiting = rows()[0]
        assert waiting.id is not None and waiting.repeated
        await outbox.resend(waiting.id)
        await eventually(lambda: rows()[0].state == "delivered")
        assert room.got[0][1].repeated and room.got[0][1].alerts[0].values == {"rsi": 71.5}
        outbox.add([alert(at=7, channels=("room", "inbox"))])  # seen again in filled data
        outbox.add([alert(at=7, resolved_ns=9)])
        await outbox.flush()
        assert len(desk.alerts()) == 1 and desk.open_alerts() == []
        assert (await outbox.acknowledge(stored.id)).acknowledged_ns is not None
        tested = await outbox.test("room")
        assert tested.state == "delivered"
    desk.close()
