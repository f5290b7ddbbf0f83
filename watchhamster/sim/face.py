"""What a venue's face stands on and must offer. A face speaks one venue's protocol; the exchange and the server carry
what it says without knowing which venue it is.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol, TypeVar

from watchhamster.core.market import Candle, Trade
from watchhamster.core.ports import Clock
from watchhamster.sim.faults import Fault, Faults
from watchhamster.sim.world import World

SECOND_NS = 10**9
BLOCKED_S = 10  # the first time; it doubles
_REFUSALS = 10  # within 10 s before an address is blocked
_SLICE = 20  # units of the world's work between two chances for others to run: some milliseconds

T = TypeVar("T")


# ---------------------------------------------------------------- what goes in and out


class Call(NamedTuple):
    """An HTTP request; `path` is below the venue's base, `query` still encoded, header names are lower-case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    address: str
    body: bytes = b""


class Reply(NamedTuple):
    """An HTTP answer. With `cut` the connection breaks in the middle of the body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    cut: bool = False


class Admission(NamedTuple):
    """The answer to a handshake: 101 and more headers, or a status and why not."""

    status: int
    why: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class Outlet(Protocol):
    """Where a stream's frames go."""

    def frame(self, data: bytes, *, text: bool) -> None:
        """Send one data frame."""

    def close(self, code: int) -> None:
        """Close with a close frame."""

    def cut(self, *, reset: bool = False) -> None:
        """Close without one; with `reset` by a TCP reset."""

    def tick(self) -> None:
        """Called some ten times a second, for what an outlet does by the clock."""


class Session:
    """One stream. What its client asked for is kept by the face."""

    def __init__(self, outlet: Outlet, venue: str, path: str, now: float) -> None:
        self.outlet = outlet
        self.venue = venue
        self.path = path  # with its query, as dialled
        self.active = now  # when anything last went either way
        self.open = True
        self.held: list[bytes] = []  # frames that the reorder fault keeps back
        self.last: bytes | None = None  # what the flood fault repeats
        self.flooded_at = now


# ---------------------------------------------------------------- what a face stands on


class MarketTime:
    """The market's own time: the wall clock's, or one that begins elsewhere or runs faster."""

    def __init__(self, clock: Clock, speed: float, start_ns: int | None) -> None:
        self._clock = clock
        self.speed = speed
        self._follows = speed == 1.0 and start_ns is None
        self._zero = clock.monotonic()
        self._start_ns = clock.now_ns() if start_ns is None else start_ns

    @property
    def stands(self) -> bool:
        """Whether it stands still, for all that anyone can tell."""
        return self.speed < 1e-6

    def now_ns(self) -> int:
        """Nanoseconds UTC in the market."""
        if self._follows:
            return self._clock.now_ns()
        return self._start_ns + int((self._clock.monotonic() - self._zero) * self.speed * SECOND_NS)


class Limits:
    """Calls per calendar second, group and address; who goes on when refused is blocked, longer each time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._windows: dict[tuple[str, str], tuple[int, int]] = {}
        self._refusals: dict[tuple[str, str], tuple[float, int]] = {}
        self._blocks: dict[tuple[str, str], tuple[float, int]] = {}

    def take(self, group: str, address: str, most: int, seconds: int = 1) -> tuple[int, float]:
        """(calls left, 0) for a call that may pass; (-1, seconds of the block, 0 if there is none) for one that not."""
        key = (group, address)
        now = self._clock.monotonic()
        until, times = self._blocks.get(key, (0.0, 0))
        if now < until:
            return -1, until - now
        window = self._clock.now_ns() // (seconds * SECOND_NS)
        at, used = self._windows.get(key, (window, 0))
        used = used + 1 if at == window else 1
        self._windows[key] = (window, used)
        if used <= most:
            return most - used, 0.0
        since, count = self._refusals.get(key, (now, 0))
        since, count = (since, count + 1) if now - since < 10 else (now, 1)
        self._refusals[key] = (since, count)
        if count <= _REFUSALS:
            return -1, 0.0
        del self._refusals[key]
        block_s = BLOCKED_S * 2.0**times
        self._blocks[key] = (now + block_s, times + 1)
        return -1, block_s


class Manners:
    """How clients behave, so that a rude one is seen: counts since the start."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}
        self._fresh: dict[tuple[str, str], float] = {}
        self._open = 0
        self.calls = 0
        self.refused = 0  # answered with 4xx for asking too often, or 999
        self.hasty = 0  # less than half a second after the one before
        self.wasted = 0  # repeated while the earlier answer was still good
        self.parallel_max = 0
        self.paths: Counter[str] = Counter()  # the first three parts of each

    def begin(self, call: Call) -> None:
        """A call came in."""
        now = self._clock.monotonic()
        self.calls += 1
        self.paths["/".join(call.path.split("/")[:4])] += 1
        self._open += 1
        self.parallel_max = max(self.parallel_max, self._open)
        self.hasty += now - self._last.get(call.address, -1e9) < 0.5
        self._last[call.address] = now
        self.wasted += now < self._fresh.get((call.address, f"{call.path}?{call.query}"), -1e9)

    def end(self, call: Call, reply: Reply | None) -> None:
        """It was answered, or given up."""
        self._open -= 1
        if reply is None:
            return
        self.refused += reply.status in (418, 429, 999)
        kept = next((value for name, value in reply.headers if name.lower() == "cache-control"), "")
        match = re.search(r"max-age=(\d+)", kept)
        if reply.status == 200 and match and int(match[1]):
            now = self._clock.monotonic()
            self._fresh = {key: until for key, until in self._fresh.items() if until > now}
            self._fresh[call.address, f"{call.path}?{call.query}"] = now + int(match[1])

    def told(self) -> dict[str, object]:
        """The counts, JSON-ready."""
        names = ("calls", "refused", "hasty", "wasted", "parallel_max")
        return {**{name: getattr(self, name) for name in names}, "paths": dict(self.paths)}


class Floor:
    """What every face stands on: time, the market, the faults of its venue, limits, and its open streams."""

    def __init__(
        self,
        venue: str,
        clock: Clock,
        market: MarketTime,
        world: World,
        faults: Faults,
        wake: Callable[[], None],
    ) -> None:
        self.venue = venue
        self.clock = clock
        self.market = market
        self.world = world
        self.faults = faults
        self.limits = Limits(clock)
        self.manners = Manners(clock)
        self.sessions: set[Session] = set()
        self.wake = wake  # lets the pump look at once
        self._made = 0  # of the world's work, when others last could run

    def now_ns(self) -> int:
        """The market's time."""
        return self.market.now_ns()

    def skew_s(self) -> int:
        """How far the clock of the venue is ahead of the market's."""
        return int(self.faults.number("skew") or 0) if self.faults.any else 0

    async def breathe(self) -> None:
        """Let others run, if much was made since they last could."""
        if self.world.work - self._made > _SLICE:
            await asyncio.sleep(0)
            self._made = self.world.work

    async def gently(self, items: Iterable[T]) -> list[T]:
        """The items, made in slices so that others can run."""
        made = []
        for item in items:
            made.append(item)
            await self.breathe()
        return made

    async def while_fault(self, name: str) -> None:
        """Wait until this fault is over."""
        while self.faults.holds(name):
            await self.clock.sleep(0.1)

    def write(self, session: Session, frame: bytes, *, text: bool = False) -> None:
        """Send one frame as it is."""
        if session.open:
            session.outlet.frame(frame, text=text or self.faults.holds("text"))
            session.active = self.clock.monotonic()

    def deliver(self, session: Session, frame: bytes, odd: Callable[[str, bytes], bytes], *, text: bool) -> None:
        """Send one frame of data, spoilt as the faults in force want it; `odd` makes what should not be."""
        faults = self.faults
        if not faults.any:
            self.write(session, frame, text=text)
            session.last = frame
            return
        if faults.holds("mute") or faults.holds("stall"):
            return
        for name in ("garbage", "absurd", "unknown"):
            if faults.strikes(name):
                self.write(session, odd(name, frame), text=text)
        if faults.strikes("lose"):
            return
        if faults.strikes("corrupt"):
            self.write(session, odd("corrupt", frame), text=text)
            return
        if faults.strikes("reorder") and len(session.held) < 16:
            session.held.append(frame)
            return
        self.write(session, frame, text=text)
        session.last = frame
        if faults.strikes("duplicate"):
            self.write(session, frame, text=text)
        if session.held and faults.random.random() < 0.5:
            self.write(session, session.held.pop(faults.random.randrange(len(session.held))), text=text)

    def strike(self, idle_s: float | None, *, text: bool) -> None:
        """What happens to streams by the clock: idle ones are cut, and faults that are events come."""
        now = self.clock.monotonic()
        faults = self.faults
        for fault in faults.due():
            self._once(fault, text=text)
        if faults.holds("maintenance") or faults.holds("down"):
            for session in list(self.sessions):
                session.outlet.cut(reset=faults.holds("down"))
        if faults.any:
            told = faults.number("idle")
            idle_s = idle_s if told is None else told
        flood = faults.number("flood") if faults.any else None
        for session in list(self.sessions):
            if idle_s is not None and now - session.active >= idle_s:
                session.outlet.cut()  # as on the wire: without a close frame
            if flood is not None and session.last is not None:
                for _ in range(min(int((now - session.flooded_at) * flood), 2_000)):
                    self.write(session, session.last, text=text)
            session.flooded_at = now
            session.outlet.tick()

    def _once(self, fault: Fault, *, text: bool) -> None:
        for session in list(self.sessions):
            match fault.name:
                case "drop" if float(fault.value) != 1006:
                    session.open = False
                    session.outlet.close(int(float(fault.value)))
                case "drop" | "reset":
                    session.outlet.cut(reset=fault.name == "reset")
                case "big":
                    self.write(session, b'{"type":"' + b"x" * int(float(fault.value)) + b'"}', text=text)


# ---------------------------------------------------------------- what a face offers


class Face(Protocol):
    """One venue: how it answers calls, and what it sends to who listens."""

    floor: Floor
    idle_s: float | None  # streams silent both ways for so long are cut
    text: bool  # its frames are text frames

    async def call(self, call: Call) -> Reply:
        """The answer to a request."""

    def admit(self, call: Call) -> Admission:
        """The answer to a handshake."""

    def join(self, session: Session) -> None:
        """Take in a stream after its handshake."""

    def leave(self, session: Session) -> None:
        """Forget a stream."""

    async def hear(self, session: Session, text: str) -> None:
        """A message from the client."""

    def tick(self) -> None:
        """What the venue does by the clock, some ten times a second."""

    async def tell(self) -> None:
        """Send everything that happened since the last time, in slices."""

    def next_ns(self) -> int | None:
        """The market's time at which there may be more to send; None: nobody listens."""

    def forget(self) -> None:
        """The machine slept: nothing of what happened meanwhile is told."""

    # the truth

    def true_trades(self, symbol: str, since_ns: int, until_ns: int) -> Iterator[Trade]:
        """What really traded in `[since_ns, until_ns)`, faults or not, up to now; oldest first.

        Raises `UsageError` (`unknown_instrument`).
        """

    def true_candles(self, symbol: str, frame: str, since_ns: int, until_ns: int) -> Iterator[Candle]:
        """What candles really opened in `[since_ns, until_ns)`, up to now; oldest first.

        Raises `UsageError` (`unknown_instrument`, `bad_timeframe`).
        """


def reply(
    status: int,
    extra: list[tuple[str, str]],
    body: str,
    kind: str = "application/json;charset=utf-8",
) -> Reply:
    """An answer of text."""
    return Reply(status, [("Content-Type", kind), *extra], body.encode())
