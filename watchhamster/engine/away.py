"""Being away: how long the program was off or the machine asleep, and what came of it.

A heartbeat is stored every 15 s, so that the next start knows since when nobody watched. While running, wall and
monotonic time are compared each second: a machine that slept shows as a jump of the wall clock (where monotonic time
stands still in sleep) or as a tick that came far too late (where it runs on).

What happened meanwhile is only known after the history was filled and the rules have seen it, so it is counted when
it is asked for, not when the program is back.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

import msgspec

from watchhamster.core.ports import Clock, WatchHamsterError
from watchhamster.core.text import Text
from watchhamster.monitor.alerts import Alert
from watchhamster.monitor.status import duration

log = logging.getLogger(__name__)

SECOND_NS = 1_000_000_000
TICK_S = 1.0
HEARTBEAT_S = 15.0
AWAY_S = 30.0  # shorter is not away
_KEY = "heartbeat"
_ALERTS_MOST = 1000


class PresenceStore(Protocol):
    """The part of the rows that presence needs."""

    def get(self, key: str) -> bytes | None:
        """A small state."""

    async def put(self, key: str, data: bytes | None) -> None:
        """Keep a small state; None forgets it."""

    def alerts(self, after_id: int = 0, limit: int = 200) -> list[Alert]:
        """With 0, the newest alerts, oldest first."""


class Gap(msgspec.Struct, frozen=True):
    """A stretch in which nobody watched. `clean`: the program was ended properly before it."""

    since_ns: int
    until_ns: int
    reason: Literal["off", "asleep"]
    clean: bool = True

    @property
    def seconds(self) -> float:
        """How long it was."""
        return (self.until_ns - self.since_ns) / SECOND_NS


class Away(msgspec.Struct, frozen=True):
    """What came of a gap, as far as it is known by now."""

    gap: Gap
    fired: int  # alerts of moments within it
    late: int  # those of them that were noticed only afterwards
    unknown_s: float  # the longest stretch of any watched instrument that could not be filled
    alert_ids: tuple[int, ...] = ()

    @property
    def seconds(self) -> float:
        """How long the gap was."""
        return self.gap.seconds

    @property
    def text(self) -> Text:
        """It as a sentence."""
        return Text(
            "Asleep for {time}: {fired} alerts fired, {late} noticed late, {unknown} could not be known."
            if self.gap.reason == "asleep"
            else "Off for {time}: {fired} alerts fired, {late} noticed late, {unknown} could not be known.",
            {
                "time": duration(self.seconds),
                "fired": self.fired,
                "late": self.late,
                "unknown": duration(self.unknown_s),
            },
        )


class _Heartbeat(msgspec.Struct):
    at_ns: int
    stopped: bool = False


class Presence:
    """Keeps the heartbeat and notices gaps. `on_gap` is called at once when one ends."""

    def __init__(
        self,
        store: PresenceStore,
        clock: Clock,
        *,
        unknown_s: Callable[[int, int], Awaitable[float]] | None = None,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> None:
        """`unknown_s(since_ns, until_ns)` says how many of those seconds are not fetched."""
        self._store = store
        self._clock = clock
        self._unknown_s = unknown_s
        self._on_gap = on_gap
        self.gap: Gap | None = None  # the last one since this start, that before it included

    async def run(self) -> None:
        """Look back at the last heartbeat, then beat and watch the clocks until cancelled."""
        self._look_back()
        wall_ns, monotonic = self._clock.now_ns(), self._clock.monotonic()
        beaten = monotonic
        try:
            await self._beat()
            while True:
                await self._clock.sleep(TICK_S)
                now_ns, now = self._clock.now_ns(), self._clock.monotonic()
                by_wall = (now_ns - wall_ns) / SECOND_NS - (now - monotonic)
                by_tick = now - monotonic - TICK_S
                if max(by_wall, by_tick) > AWAY_S:
                    self._found(Gap(wall_ns, now_ns, "asleep"))
                wall_ns, monotonic = now_ns, now
                if now - beaten >= HEARTBEAT_S:
                    beaten = now
                    await self._beat()
        finally:
            await self._beat(stopped=True)

    async def away(self) -> Away | None:
        """What came of the last gap, None where there was none."""
        gap = self.gap
        if gap is None:
            return None
        within = [a for a in self._store.alerts(0, _ALERTS_MOST) if gap.since_ns <= a.fired_ns < gap.until_ns]
        within = [alert for alert in within if alert.kind != "system"]
        unknown_s = await self._unknown_s(gap.since_ns, gap.until_ns) if self._unknown_s is not None else 0.0
        return Away(
            gap,
            fired=len(within),
            late=sum(alert.late_s >= 1 for alert in within),
            unknown_s=min(unknown_s, gap.seconds),
            alert_ids=tuple(alert.id for alert in within if alert.id is not None),
        )

    def _look_back(self) -> None:
        data = self._store.get(_KEY)
        if data is None:
            return
        try:
            last = msgspec.json.decode(data, type=_Heartbeat)
        except msgspec.DecodeError:
            log.warning("the heartbeat is unreadable; how long nobody watched is not known")
            return
        now_ns = self._clock.now_ns()
        if (now_ns - last.at_ns) / SECOND_NS > AWAY_S:
            self._found(Gap(last.at_ns, now_ns, "off", clean=last.stopped))

    def _found(self, gap: Gap) -> None:
        log.info("%s for %.0f s", gap.reason, gap.seconds)
        self.gap = gap
        if self._on_gap is not None:
            self._on_gap(gap)

    async def _beat(self, *, stopped: bool = False) -> None:
        try:
            await self._store.put(_KEY, msgspec.json.encode(_Heartbeat(self._clock.now_ns(), stopped)))
        except WatchHamsterError as error:  # a full disk: the next start thinks us away for longer, no more
            log.warning("no heartbeat: %s", error)
