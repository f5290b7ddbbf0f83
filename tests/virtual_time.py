"""Time that passes only when nothing else is left to do: hours of asyncio in milliseconds, the same each run.

    def test_naps() -> None:
        async def main(clock: VirtualClock) -> None:
            await clock.sleep(3600)

        run(main)

A wait that nothing can end raises `Deadlock`. When `main` returns, no task and no timer may be left behind.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

START_NS = 1_750_000_000_000_000_000  # 2025-06-15 15:06:40 UTC


class Deadlock(AssertionError):
    """Every task waits and no timer is set."""


class _Timers(selectors.BaseSelector):
    """A selector without sockets: instead of waiting it moves the clock to the next timer."""

    def __init__(self) -> None:
        self.now = 0.0
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("every task waits and no timer is set")
        self.now += max(0.0, timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._keys[fileobj] = selectors.SelectorKey(fileobj, 0, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time. Threads are outside of it and are refused."""

    def __init__(self) -> None:
        self._timers = _Timers()
        super().__init__(self._timers)

    def time(self) -> float:
        return self._timers.now

    def advance(self, seconds: float) -> None:
        """Let time pass without running anything: work that takes long, or a machine that sleeps."""
        self._timers.now += seconds

    def run_in_executor(self, *_: Any) -> Any:  # type: ignore[override]
        raise AssertionError("threads do not run in virtual time")

    def left_behind(self) -> list[str]:
        """Tasks and timers that are still waiting."""
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return [repr(task) for task in asyncio.all_tasks(self)] + [repr(t) for t in timers if not t.cancelled()]


class VirtualClock:
    """The `Clock` of a `VirtualLoop`. The wall clock may be stepped; monotonic time never is."""

    def __init__(self, loop: VirtualLoop, start_ns: int = START_NS) -> None:
        self._loop = loop
        self._start_ns = start_ns

    def now_ns(self) -> int:
        return self._start_ns + round(self._loop.time() * 1e9)

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def step(self, seconds: float) -> None:
        """Someone sets the wall clock."""
        self._start_ns += round(seconds * 1e9)

    def advance(self, seconds: float) -> None:
        """Both clocks pass, and nothing runs meanwhile."""
        self._loop.advance(seconds)


class LeapingClock:
    """The `Clock` for real sockets: faster than the machine's, and set ahead when a test is ready for it.

    So no machine is too slow for a test, and none waits for a minute to pass. Time passes only while somebody waits for
    it, at most `step_s` at once: a stall of the machine, which at this speed were a computer that slept, is none.
    Whoever sleeps through a leap wakes.
    """

    _LOOK_S = 0.02  # of the machine's time, for a leap tells nobody

    def __init__(self, start_ns: int, speed: float = 3.0, *, step_s: float = 0.5) -> None:
        self._start_ns = start_ns
        self._speed = speed
        self._step_s = step_s
        self._at_s = 0.0
        self._looked_at = time.monotonic()

    def now_ns(self) -> int:
        return self._start_ns + int(self._at_s * 1e9)

    def monotonic(self) -> float:
        return self._at_s

    async def sleep(self, seconds: float) -> None:
        until_s = self._at_s + seconds
        await asyncio.sleep(0)
        while (left_s := until_s - self._at_s) > 0:
            await asyncio.sleep(min(left_s / self._speed, self._LOOK_S))
            now = time.monotonic()
            self._at_s += min((now - self._looked_at) * self._speed, self._step_s)
            self._looked_at = now

    def leap(self, at_ns: int) -> None:
        """Be at this moment, unless it has passed."""
        self._at_s += max(0.0, (at_ns - self.now_ns()) / 1e9)


def run(main: Callable[[VirtualClock], Awaitable[T]]) -> T:
    """Run `main(clock)` to its end on a fresh virtual loop, and check that it leaves nothing behind."""
    loop = VirtualLoop()
    try:
        asyncio.set_event_loop(loop)

        async def guarded() -> T:
            return await main(VirtualClock(loop))

        result = loop.run_until_complete(guarded())
        loop.run_until_complete(asyncio.sleep(0))  # cancelled tasks get their last turn
        left = loop.left_behind()
        assert not left, f"left behind: {left}"
        return result
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        asyncio.set_event_loop(None)
        loop.close()
