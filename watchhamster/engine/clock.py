"""The clocks the engine runs by. Tests bring their own; nothing else in the engine asks what time it is."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """The machine's time."""

    def now_ns(self) -> int:
        """Wall time, nanoseconds UTC."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Seconds that never step back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after this many seconds, never earlier: Qt's timers are coarse and wake some milliseconds early."""
        deadline = time.monotonic() + seconds
        await asyncio.sleep(seconds)
        while (left := deadline - time.monotonic()) > 0:
            await asyncio.sleep(left)


class ScaledClock:
    """Time that begins at a moment of the past and runs `speed` times as fast: for replays and the simulator."""

    def __init__(self, start_ns: int, speed: float = 1.0) -> None:
        self._start_ns = start_ns
        self._speed = speed
        self._zero = time.monotonic()

    def now_ns(self) -> int:
        """The scaled wall time, nanoseconds UTC."""
        return self._start_ns + int((time.monotonic() - self._zero) * self._speed * 1e9)

    def monotonic(self) -> float:
        """Scaled seconds that never step back."""
        return (time.monotonic() - self._zero) * self._speed

    async def sleep(self, seconds: float) -> None:
        """Return after this many of the clock's seconds."""
        deadline = time.monotonic() + seconds / self._speed
        while (left := deadline - time.monotonic()) > 0:
            await asyncio.sleep(left)
