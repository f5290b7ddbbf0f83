"""Staying welcome at a venue: quotas, priorities, and what to do when told off.

A call holds its slot **from the send until a window after its answer**, because the venue may have counted it at any
moment in between; so however the network bunches the calls, no window of the venue's clock holds more than the
quota. Answers steer: "none left" pauses, a 429 shrinks the capacity to 0.7 of it and closes the group for as long
as told, each success gives 0.02 back, and a 418 closes the group until a second after the told end, across restarts.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Literal

from watchhamster.core.ports import Clock, Quota, RateLimited, Unavailable
from watchhamster.core.text import Text

Priority = Literal["urgent", "normal", "bulk"]  # the chart and probes; the feed; backfill

_PRIORITIES: tuple[Priority, ...] = ("urgent", "normal", "bulk")
_SHRINK = 0.7
_REGAIN = 0.02
_BAN_S = 60.0  # a block whose length the venue did not say
_AFTER_BAN_S = 1.0
_NONE_LEFT_SHARE = 0.35  # of a window: how long "none left" is believed, for the venue's window may end at any moment


class Slot:
    """One call's place in its group's quota. Say how the call ended; silence counts as no answer."""

    __slots__ = ("_group", "ended", "free_at", "sent_at")

    def __init__(self, group: _Group, sent_at: float) -> None:
        self._group = group
        self.sent_at = sent_at
        self.free_at = math.inf  # held until answered
        self.ended = False

    def answered(self, remaining: int | None = None, *, accepted: bool = True) -> None:
        """An answer came. `remaining`: calls it said are left in the window; `accepted`: it was not an error."""
        self.ended = True
        self._group.answered(remaining, accepted)

    def refused(self, retry_after_s: float | None, *, banned: bool) -> None:
        """The venue said "too often" (429), or blocked us (418: `banned`)."""
        self.ended = True
        self._group.refused(self, retry_after_s, banned)


class Limiter:
    """The quotas of one venue's groups, for everyone who calls it.

    At most `waiting_max` callers wait in a group. A newcomer beyond that takes the place of the youngest caller of
    the lowest class below its own, who is refused with `Unavailable` (`too_busy`); where there is none, it is itself.

    `bans` (group -> wall nanoseconds) restores blocks from before a restart; `on_ban` gets the same mapping whenever
    a block begins, to be kept.
    """

    def __init__(
        self,
        clock: Clock,
        quotas: Mapping[str, Quota],
        *,
        bans: Mapping[str, int] | None = None,
        on_ban: Callable[[Mapping[str, int]], None] | None = None,
        waiting_max: int = 256,
    ) -> None:
        self.clock = clock
        self._on_ban = on_ban
        self._groups = {name: _Group(name, quota, clock, self._banned, waiting_max) for name, quota in quotas.items()}
        for name, until_ns in (bans or {}).items():
            if name in self._groups:
                self._groups[name].close_for((until_ns - clock.now_ns()) / 1e9, banned=True)

    @asynccontextmanager
    async def slot(
        self, group: str, priority: Priority = "normal", *, market: str = "", patience_s: float | None = None
    ) -> AsyncIterator[Slot]:
        """Wait for a place in the group's quota and hold it while the call runs.

        Within a class the markets take turns. Raises `RateLimited` at once when the group is closed for longer than
        `patience_s`, `Unavailable` when too many wait already, `KeyError` for a group the venue does not have.
        """
        state = self._groups[group]
        slot = await state.enter(priority, market, patience_s)
        try:
            yield slot
        finally:
            state.leave(slot)

    def bans(self) -> dict[str, int]:
        """Groups the venue has blocked, and until when (wall nanoseconds)."""
        now, now_ns = self.clock.monotonic(), self.clock.now_ns()
        return {
            name: now_ns + int((group.closed_until - now) * 1e9)
            for name, group in self._groups.items()
            if group.banned and group.closed_until > now
        }

    def closed_s(self, group: str) -> float:
        """Seconds until the group may be used again; 0 when it is open."""
        return max(0.0, self._groups[group].closed_until - self.clock.monotonic())

    def capacity(self, group: str) -> float:
        """Calls a window that are allowed just now: the quota, or less after refusals."""
        return self._groups[group].capacity

    def _banned(self) -> None:
        if self._on_ban is not None:
            self._on_ban(self.bans())


_Line = OrderedDict[str, deque["asyncio.Future[Slot]"]]  # market -> who waits for it, next market first


class _Group:
    """One quota: who holds a slot, and who waits for one."""

    def __init__(self, name: str, quota: Quota, clock: Clock, on_ban: Callable[[], None], waiting_max: int) -> None:
        self.name = name
        self.capacity = float(quota.count)
        self.closed_until = -math.inf
        self.banned = False
        self._quota = quota
        self._clock = clock
        self._on_ban = on_ban
        self._waiting_max = waiting_max
        self._least = min(2.0, quota.count)
        self._held: list[Slot] = []
        self._lines: dict[Priority, _Line] = {priority: OrderedDict() for priority in _PRIORITIES}
        self._waiting = 0
        self._shrunk_at = -math.inf
        self._remaining = quota.count
        self._remaining_until = -math.inf
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self, priority: Priority, market: str, patience_s: float | None) -> Slot:
        closed_s = self.closed_until - self._clock.monotonic()
        if patience_s is not None and closed_s > patience_s:
            raise RateLimited(
                "rate_limited",
                Text(
                    "The venue has closed {group} to us for another {seconds} s.",
                    {"group": self.name, "seconds": math.ceil(closed_s)},
                ),
                Text("Nothing to do: asking goes on by itself once the time is over."),
                retry_after_s=closed_s,
                banned=self.banned,
            )
        if self._waiting >= self._waiting_max:
            self._make_room(priority)
        place: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._lines[priority].setdefault(market, deque()).append(place)
        self._waiting += 1
        self._grant()
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._held.remove(place.result())  # never sent
            elif place in self._lines[priority].get(market, ()):
                self._remove(priority, market, place)
            self._grant()
            raise

    def leave(self, slot: Slot) -> None:
        # A call without an answer may still be on its way, and be counted when it arrives.
        windows = 1 if slot.ended else 2
        slot.free_at = self._clock.monotonic() + windows * self._quota.seconds
        self._grant()

    def answered(self, remaining: int | None, accepted: bool) -> None:
        if accepted:
            self.capacity = min(float(self._quota.count), self.capacity + _REGAIN)
        if remaining is not None:
            self._remaining = remaining
            self._remaining_until = self._clock.monotonic() + _NONE_LEFT_SHARE * self._quota.seconds

    def refused(self, slot: Slot, retry_after_s: float | None, banned: bool) -> None:
        if slot.sent_at > self._shrunk_at:  # the rest of a burst was sent before we knew
            self._shrunk_at = self._clock.monotonic()
            self.capacity = max(self._least, self.capacity * _SHRINK)
        told = retry_after_s if retry_after_s is not None else _BAN_S if banned else self._quota.seconds
        self.close_for(told + (_AFTER_BAN_S if banned else 0.0), banned=banned)
        if banned:
            self._on_ban()

    def close_for(self, seconds: float, *, banned: bool) -> None:
        until = self._clock.monotonic() + seconds
        if until > self.closed_until:
            self.closed_until = until
            self.banned = banned

    def _make_room(self, priority: Priority) -> None:
        """Refuse the youngest caller of the lowest class below this one, or, where there is none, this one."""
        full = Unavailable(
            "too_busy",
            Text("{count} calls wait for {group} already.", {"count": self._waiting, "group": self.name}),
            Text("Ask for less at a time, or again in a moment."),
        )
        for lower in reversed(_PRIORITIES[_PRIORITIES.index(priority) + 1 :]):
            line = self._lines[lower]
            if line:
                market = next(reversed(line))
                youngest = line[market][-1]
                self._remove(lower, market, youngest)
                youngest.set_exception(full)
                return
        raise full

    def _remove(self, priority: Priority, market: str, place: asyncio.Future[Slot]) -> None:
        line = self._lines[priority]
        line[market].remove(place)
        if not line[market]:
            del line[market]
        self._waiting -= 1

    def _next(self, priority: Priority) -> asyncio.Future[Slot]:
        """Take the next caller out of a line; its market goes to the line's end."""
        line = self._lines[priority]
        market, places = line.popitem(last=False)
        place = places.popleft()
        if places:
            line[market] = places
        self._waiting -= 1
        return place

    def _grant(self) -> None:
        """Give out the slots there are, best class first, and set the timer for the next one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._clock.monotonic()
        self._held = [slot for slot in self._held if slot.free_at > now]
        for priority in _PRIORITIES:
            while self._lines[priority]:
                wait = self._wait(priority, now)
                if wait > 0:
                    # Lower classes wait at least as long. The clock decides; the timer only asks it again, and not
                    # sooner than a timer can be trusted to tell.
                    if wait < math.inf:
                        loop = asyncio.get_running_loop()
                        self._timer = loop.call_later(max(wait, 0.001), self._grant)
                    return
                place = self._next(priority)
                if not place.done():
                    slot = Slot(self, now)
                    self._held.append(slot)
                    place.set_result(slot)

    def _wait(self, priority: Priority, now: float) -> float:
        """Seconds until a caller of this class may be sent; infinite until some answer comes."""
        kept_back = 1 if priority == "bulk" and self.capacity >= 2 else 0
        wait = self.closed_until - now
        if self._remaining <= kept_back:
            wait = max(wait, self._remaining_until - now)
        excess = len(self._held) - (int(self.capacity) - kept_back)
        if excess >= 0:
            wait = max(wait, sorted(slot.free_at for slot in self._held)[excess] - now)
        return wait
