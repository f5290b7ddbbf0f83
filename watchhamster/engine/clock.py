"""The clocks the engine runs by. Tests bring their own; nothing else in the engine asks what time it is."""

from __future__ import annotations

import asyncio
import heapq
import time


class SystemClock:
    """The machine's time."""

    # Every message asks, so nothing stands between.
    now_ns = staticmethod(time.time_ns)  # wall time, nanoseconds UTC
    monotonic = staticmethod(time.monotonic)  # seconds that never step back

    async def sleep(self, seconds: float) -> None:
        """Return after this many seconds, never earlier."""
        await _sleep_until(time.monotonic() + seconds)


class ScaledClock:
    """Time that begins at a moment of the past and runs `speed` times as fast: for replays.

    It stands still until somebody first waits for it, so that what is built before misses nothing.
    """

    def __init__(self, start_ns: int, speed: float = 1.0) -> None:
        self._start_ns = start_ns
        self._speed = speed
        self._zero: float | None = None

    def now_ns(self) -> int:
        """The scaled wall time, nanoseconds UTC."""
        return self._start_ns + int(self.monotonic() * 1e9)

    def monotonic(self) -> float:
        """Scaled seconds that never step back."""
        return 0.0 if self._zero is None else (time.monotonic() - self._zero) * self._speed

    async def sleep(self, seconds: float) -> None:
        """Return after this many of the clock's seconds."""
        if self._zero is None:
            self._zero = time.monotonic()
        await _sleep_until(time.monotonic() + seconds / self._speed)


class StillClock(SystemClock):
    """Timers run, but it stays one moment: for pictures that come out the same every time."""

    def __init__(self, now_ns: int) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        """The moment, nanoseconds UTC."""
        return self._now_ns


class EventClock:
    """Time that jumps from one sleeper to the next, as fast as they can be served: for replays at full speed.

    `run` moves it, in a task of its own; between two jumps everyone who is ready gets some turns of the loop.
    """

    _TURNS = 8

    def __init__(self, start_ns: int) -> None:
        self._start_ns = start_ns
        self._at_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0
        self._anyone = asyncio.Event()

    def now_ns(self) -> int:
        """Where time has got to, nanoseconds UTC."""
        return self._start_ns + int(self._at_s * 1e9)

    def monotonic(self) -> float:
        """Seconds since the start."""
        return self._at_s

    async def sleep(self, seconds: float) -> None:
        """Return after this many of the clock's seconds."""
        woken = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._at_s + max(0.0, seconds), self._count, woken))
        self._anyone.set()
        await woken

    async def run(self) -> None:
        """Move on until cancelled."""
        while True:
            for _ in range(self._TURNS):
                await asyncio.sleep(0)
            if not self._sleepers:
                self._anyone.clear()
                await self._anyone.wait()
                continue
            at_s, _count, woken = heapq.heappop(self._sleepers)
            if not woken.done():  # or its sleeper was cancelled
                self._at_s = max(self._at_s, at_s)
                woken.set_result(None)


async def _sleep_until(deadline: float) -> None:
    """At least one turn of the loop; Qt's timers are coarse and wake some milliseconds early, so it may take two."""
    await asyncio.sleep(max(0.0, deadline - time.monotonic()))
    while (left := deadline - time.monotonic()) > 0:  # noqa: ASYNC110 (nothing happens that an event could tell)
        await asyncio.sleep(left)
