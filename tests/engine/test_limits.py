"""The limiter against a venue that counts calls its own way, in virtual time."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.virtual_time import VirtualClock, run
from watchhamster.core.ports import Quota, RateLimited, Unavailable
from watchhamster.engine.limits import Limiter, Priority

QUOTA = Quota(10, 1.0)


def most_in_a_window(moments: Sequence[float], seconds: float) -> int:
    """The most calls that any half-open window of this length holds; shares no code with the limiter."""
    ordered = sorted(moments)
    return max((i + 1 - bisect_left(ordered, t - seconds + 1e-9) for i, t in enumerate(ordered)), default=0)


calls = st.lists(
    st.tuples(
        st.floats(0, 3),  # when it is wanted
        st.sampled_from(["urgent", "normal", "bulk"]),
        st.floats(0, 0.8),  # lag there
        st.floats(0, 0.8),  # lag back
    ),
    max_size=60,
)


@settings(max_examples=60)
@given(calls=calls, count=st.integers(1, 12), seconds=st.sampled_from([0.5, 1.0, 3.0]))
def test_no_window_as_the_venue_sees_it_holds_more_than_the_quota(
    calls: list[tuple[float, Priority, float, float]], count: int, seconds: float
) -> None:
    arrivals: list[float] = []

    async def main(clock: VirtualClock) -> None:
        limiter = Limiter(clock, {"g": Quota(count, seconds)})

        async def call(at: float, priority: Priority, there: float, back: float) -> None:
            await clock.sleep(at)
            async with limiter.slot("g", priority) as slot:
                await clock.sleep(there)
                arrivals.append(clock.monotonic())
                await clock.sleep(back)
                slot.answered()

        async with asyncio.TaskGroup() as group:
            for arguments in calls:
                group.create_task(call(*arguments))

    run(main)
    assert len(arrivals) == len(calls)
    assert most_in_a_window(arrivals, seconds) <= count


class Door:
    """An Upbit-like door: so many in a sliding or a calendar second, then 429, then 418 for whoever goes on."""

    def __init__(self, clock: VirtualClock, rng: random.Random, kind: Literal["sliding", "calendar"]) -> None:
        self.clock, self.rng, self.kind = clock, rng, kind
        self.taken: list[float] = []
        self.refusals: list[float] = []
        self.blocked_until = 0.0
        self.answers = {200: 0, 429: 0, 418: 0}

    def lag(self) -> float:
        return 0.3 if self.rng.random() < 0.02 else self.rng.uniform(0.01, 0.06)

    def knock(self, mine: bool = True) -> tuple[int, int, float]:
        """Status, calls left, seconds to wait."""
        now = self.clock.monotonic()
        since = now - 1 if self.kind == "sliding" else float(int(now))
        self.taken = [t for t in self.taken if t > since or (self.kind == "calendar" and t >= since)]
        status, wait = 200, 0.0
        if now < self.blocked_until:
            status, wait = 418, self.blocked_until - now
        elif len(self.taken) >= QUOTA.count:
            status, wait = 429, 1.0
            self.refusals = [t for t in self.refusals if t > now - 10] + [now]
            if len(self.refusals) >= 20:
                self.blocked_until = now + 120
        else:
            self.taken.append(now)
        if mine:
            self.answers[status] += 1
        return status, QUOTA.count - len(self.taken), wait


def rush(kind: Literal["sliding", "calendar"], shared: bool, seconds: float, seed: int) -> tuple[Door, list[float]]:
    """Endless bulk calls and an urgent one each half second; `shared`: a neighbour spends 4 calls a second."""
    waits: list[float] = []

    async def main(clock: VirtualClock) -> Door:
        door = Door(clock, random.Random(seed), kind)
        limiter = Limiter(clock, {"g": QUOTA})

        async def call(priority: Priority) -> None:
            wanted = clock.monotonic()
            async with limiter.slot("g", priority) as slot:
                if priority == "urgent":
                    waits.append(clock.monotonic() - wanted)
                await clock.sleep(door.lag())
                status, remaining, wait = door.knock()
                await clock.sleep(door.lag())
                if status == 200:
                    slot.answered(remaining)
                else:
                    slot.refused(wait, banned=status == 418)

        async def bulk() -> None:
            while clock.monotonic() < seconds:
                await call("bulk")

        async def neighbour() -> None:
            while clock.monotonic() < seconds:
                door.knock(mine=False)
                await clock.sleep(door.rng.expovariate(4))

        async with asyncio.TaskGroup() as group:
            for _ in range(40):
                group.create_task(bulk())
            if shared:
                group.create_task(neighbour())
            while clock.monotonic() < seconds:
                group.create_task(call("urgent"))
                await clock.sleep(0.5)
        return door

    return run(main), sorted(waits)


@pytest.mark.parametrize("kind", ["sliding", "calendar"])
def test_alone_it_is_never_refused_and_wastes_little(kind: Literal["sliding", "calendar"]) -> None:
    door, waits = rush(kind, False, 120, seed=1)
    assert door.answers[429] == door.answers[418] == 0
    assert door.answers[200] / 120 >= 7.0
    assert waits[int(0.99 * len(waits))] <= 0.6


@pytest.mark.parametrize("kind", ["sliding", "calendar"])
def test_beside_a_neighbour_on_the_same_address_it_gives_way_and_is_never_blocked(
    kind: Literal["sliding", "calendar"],
) -> None:
    door, waits = rush(kind, True, 300, seed=2)
    assert door.answers[418] == 0
    assert door.answers[429] <= 25
    assert door.answers[200] / 300 >= 2.0
    assert waits[int(0.99 * len(waits))] <= 3.0


def test_a_refusal_shrinks_the_capacity_once_a_burst_and_success_regains_it() -> None:
    async def main(clock: VirtualClock) -> None:
        limiter = Limiter(clock, {"g": QUOTA})

        async def refused() -> None:
            async with limiter.slot("g") as slot:
                await clock.sleep(0.1)
                slot.refused(2.0, banned=False)

        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(refused())
        assert limiter.capacity("g") == pytest.approx(7.0)
        assert limiter.closed_s("g") == pytest.approx(2.0)
        for _ in range(10):
            async with limiter.slot("g") as slot:
                slot.answered()
        assert clock.monotonic() >= 2.1  # as told
        assert limiter.capacity("g") == pytest.approx(7.2)
        for _ in range(200):
            async with limiter.slot("g") as slot:
                slot.answered()
        assert limiter.capacity("g") == 10.0

    run(main)


def test_a_block_closes_the_group_a_second_beyond_the_told_time_and_outlives_a_restart() -> None:
    async def main(clock: VirtualClock) -> None:
        kept: dict[str, int] = {}
        limiter = Limiter(clock, {"g": QUOTA, "other": QUOTA}, on_ban=kept.update)
        async with limiter.slot("g") as slot:
            slot.refused(60.0, banned=True)
        assert kept == limiter.bans() == {"g": clock.now_ns() + 61_000_000_000}

        reborn = Limiter(clock, {"g": QUOTA, "other": QUOTA}, bans=kept)
        with pytest.raises(RateLimited) as refusal:
            async with reborn.slot("g", patience_s=5.0):
                raise AssertionError("the group is closed")
        assert refusal.value.banned
        assert refusal.value.retry_after_s == pytest.approx(61.0)
        async with reborn.slot("other", patience_s=0.0) as slot:  # other groups are open
            slot.answered()
        async with reborn.slot("g") as slot:  # whoever is patient gets through, afterwards
            assert clock.monotonic() >= 61.0
            slot.answered()
        assert reborn.bans() == {}

    run(main)


def test_urgent_goes_first_and_markets_take_turns_within_a_class() -> None:
    order: list[str] = []

    async def main(clock: VirtualClock) -> None:
        limiter = Limiter(clock, {"g": Quota(2)})

        async def call(name: str, priority: Priority, market: str) -> None:
            async with limiter.slot("g", priority, market=market) as slot:
                order.append(name)
                slot.answered()

        async with asyncio.TaskGroup() as group:
            for name, priority, market in (
                *((f"a{i}", "bulk", "A") for i in range(3)),
                ("b0", "bulk", "B"),
                ("n0", "normal", "A"),
                ("u0", "urgent", "A"),
            ):
                group.create_task(call(name, priority, market))  # type: ignore[arg-type]

    run(main)
    # a0 came when nobody waited; the next slot is kept back from bulk and so goes to the better classes.
    assert order[0] == "a0"
    assert order.index("u0") < order.index("a1")
    assert order.index("n0") < order.index("a1")
    assert [name for name in order if name[0] in "ab"] == ["a0", "a1", "b0", "a2"]


def test_a_full_line_refuses_the_newcomer_or_someone_less_urgent() -> None:
    async def main(clock: VirtualClock) -> None:
        limiter = Limiter(clock, {"g": Quota(1)}, waiting_max=2)
        outcomes: dict[str, str] = {}

        async def call(name: str, priority: Priority) -> None:
            try:
                async with limiter.slot("g", priority) as slot:
                    slot.answered()
                outcomes[name] = "done"
            except Unavailable as refusal:
                outcomes[name] = refusal.code

        async with asyncio.TaskGroup() as group:
            for name, priority in (("first", "bulk"), ("b1", "bulk"), ("b2", "bulk"), ("b3", "bulk"), ("u", "urgent")):
                group.create_task(call(name, priority))  # type: ignore[arg-type]
        assert outcomes == {"first": "done", "b1": "done", "b2": "too_busy", "b3": "too_busy", "u": "done"}

    run(main)


@given(cancel_after=st.lists(st.floats(0, 3), min_size=1, max_size=20))
@settings(max_examples=30)
def test_callers_who_give_up_leave_no_slot_behind(cancel_after: list[float]) -> None:
    async def main(clock: VirtualClock) -> None:
        limiter = Limiter(clock, {"g": Quota(2)})

        async def call(patience: float) -> None:
            try:
                async with asyncio.timeout(patience), limiter.slot("g", "normal"):
                    await clock.sleep(1.0)
            except TimeoutError:
                pass

        async with asyncio.TaskGroup() as group:
            for patience in cancel_after:
                group.create_task(call(patience))
        await clock.sleep(3)
        began = clock.monotonic()
        for _ in range(2):
            async with limiter.slot("g") as slot:
                slot.answered()
        assert clock.monotonic() == began

    run(main)
