"""On return the program says how long it was away, what fired, what was late and what could not be known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.fakes import MemoryDesk
from tests.virtual_time import VirtualClock, run
from watchhamster.core.text import Text
from watchhamster.engine.away import Gap, Presence
from watchhamster.monitor.alerts import Alert

SECOND_NS = 10**9


class Rows(MemoryDesk):
    def alerts(self, after_id: int = 0, limit: int = 200) -> list[Alert]:
        return list(self.alert_rows.values())[-limit:]


@asynccontextmanager
async def running(presence: Presence) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(presence.run())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()


def test_the_first_start_and_a_quick_restart_are_no_absence() -> None:
    async def main(clock: VirtualClock) -> None:
        rows = Rows()
        for _start in range(3):
            presence = Presence(rows, clock)
            async with running(presence):
                await clock.sleep(100)
            assert presence.gap is None and await presence.away() is None
            await clock.sleep(10)

    run(main)


def test_a_quit_and_a_crash_are_told_apart_and_measured_from_the_last_heartbeat() -> None:
    async def main(clock: VirtualClock) -> None:
        rows = Rows()
        async with running(Presence(rows, clock)):
            await clock.sleep(100)
            crashed_with = dict(rows.states)
        quit_ns = clock.now_ns()
        await clock.sleep(3600)
        presence = Presence(rows, clock)
        async with running(presence):
            assert presence.gap == Gap(quit_ns, clock.now_ns(), "off", clean=True)
            assert presence.gap.seconds == 3600
        rows.states = crashed_with
        presence = Presence(rows, clock)
        async with running(presence):
            assert presence.gap is not None and not presence.gap.clean
            assert 3600 <= presence.gap.seconds <= 3600 + 16  # at most one heartbeat too long

    run(main)


def test_a_sleep_is_found_by_the_wall_clocks_jump_and_by_a_late_tick() -> None:
    async def main(clock: VirtualClock) -> None:
        gaps: list[Gap] = []
        presence = Presence(Rows(), clock, on_gap=gaps.append)
        async with running(presence):
            await clock.sleep(100)
            clock.step(3600)
            await clock.sleep(2)
            clock.advance(1800)  # monotonic time ran on
            await clock.sleep(2)
            clock.step(20)
            await clock.sleep(2)
            clock.step(-7200)
            await clock.sleep(60)
        assert [gap.reason for gap in gaps] == ["asleep", "asleep"]
        assert [3600 <= gap.seconds <= 3601 for gap in gaps[:1]] == [True]
        assert [1800 <= gap.seconds <= 1802 for gap in gaps[1:]] == [True]

    run(main)


def test_what_fired_meanwhile_is_counted_when_asked_since_it_is_known_only_later() -> None:
    async def main(clock: VirtualClock) -> None:
        rows = Rows()
        asked: list[tuple[int, int]] = []

        async def unknown_s(since_ns: int, until_ns: int) -> float:
            asked.append((since_ns, until_ns))
            return 120.0

        presence = Presence(rows, clock, unknown_s=unknown_s)
        async with running(presence):
            await clock.sleep(60)
            before_ns = clock.now_ns()
            clock.step(3600)
            await clock.sleep(2)
            away = await presence.away()
            assert away is not None and (away.fired, away.late) == (0, 0)

            async def fire(key: str, at_s: float, late_s: float = 0.0, kind: str = "rule") -> None:
                moment = before_ns + int(at_s * SECOND_NS)
                made = Alert(key=key, name=key, fired_ns=moment, late_s=late_s, text=Text("x"), kind=kind)  # type: ignore[arg-type]
                await rows.add_alert(made, (), None)

            await fire("before", -10)
            await fire("late", 600, 3000)
            await fire("feed", 5, 0.0, "feed")
            await fire("own", 600, 0.0, "system")
            await fire("after", 3700)
            away = await presence.away()
            assert away is not None
            assert (away.fired, away.late, away.unknown_s, away.alert_ids) == (2, 1, 120.0, (2, 3))
            assert asked[-1] == (away.gap.since_ns, away.gap.until_ns)
            assert str(away.text) == "Asleep for 1 h: 2 alerts fired, 1 noticed late, 2 m could not be known."

    run(main)


def test_an_unreadable_heartbeat_and_a_full_disk_stop_nothing() -> None:
    async def main(clock: VirtualClock) -> None:
        rows = Rows()
        rows.states["heartbeat"] = b"garbage"
        rows.full = True
        presence = Presence(rows, clock)
        async with running(presence):
            await clock.sleep(60)
            clock.step(100)
            await clock.sleep(2)
        assert presence.gap is not None and presence.gap.reason == "asleep"

    run(main)
