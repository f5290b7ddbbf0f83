"""The exchange without sockets: every venue's face over one world, one clock and one schedule of faults.

`call` answers one HTTP request, `join` takes in a stream whose frames go to an `Outlet`, `run` lives until cancelled.
`server.py` puts it on a loopback port; a test may put it on anything else, in virtual time too.

One pump serves every stream of every venue: it sleeps until the next thing that somebody listens to. Limits and
keep-alive run on wall time; `speed` scales only the market.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

from watchhamster.core.market import Candle, Trade
from watchhamster.core.ports import Clock, UsageError
from watchhamster.core.text import Text
from watchhamster.sim.daily import FIRST_DAY
from watchhamster.sim.face import SECOND_NS, Admission, Call, Face, Floor, MarketTime, Outlet, Reply, Session
from watchhamster.sim.faults import Faults
from watchhamster.sim.stocks import Stocks
from watchhamster.sim.upbit_face import UpbitFace
from watchhamster.sim.world import World
from watchhamster.sim.yahoo_face import YahooFace

_TICK_S = 0.1
_SLEPT_S = 300.0


class Exchange:
    """The simulated venues. `activity` multiplies how much is traded on Upbit; all time comes from `clock`.

    Raises `UsageError` (`bad_speed`, `bad_start`, `bad_fault`) for what it cannot simulate.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        seed: int = 7,
        faults: str = "",
        speed: float = 1.0,
        start_ns: int | None = None,
        activity: float = 1.0,
    ) -> None:
        if not 0 < speed <= 1e6:
            raise UsageError(
                "bad_speed", Text("The speed cannot be {speed}.", {"speed": speed}), Text("Give 1 to 1000.")
            )
        if not 0 < activity <= 100:
            raise UsageError(
                "bad_activity", Text("The activity cannot be {x}.", {"x": activity}), Text("Give 0.1 to 100.")
            )
        if start_ns is not None and start_ns < (FIRST_DAY + 2) * 86400 * SECOND_NS:
            raise UsageError("bad_start", Text("The simulated market begins on 2017-09-25."), Text("Start it later."))
        self.clock = clock
        self.world = World(seed, activity)
        self.stocks = Stocks(self.world)
        self.market = MarketTime(clock, speed, start_ns)
        self.faults = Faults(clock.monotonic, seed)
        self.faults.set(faults)
        self.faces: dict[str, Face] = {
            "upbit": UpbitFace(self._floor("upbit")),
            "yahoo": YahooFace(self._floor("yahoo"), self.stocks),
        }
        self._struck_ns = self.now_ns()
        self._wake = asyncio.Event()

    def _floor(self, venue: str) -> Floor:
        return Floor(venue, self.clock, self.market, self.world, self.faults.of(venue), self.wake)

    def now_ns(self) -> int:
        """The market's time."""
        return self.market.now_ns()

    def wake(self) -> None:
        """Let the pump look at once: something was asked for."""
        self._wake.set()

    async def warm(self) -> None:
        """Make the years before now, in slices, so that nothing later has to wait for them."""
        day = self.now_ns() // (86400 * SECOND_NS)
        for years in (self.world.prepare(day), self.stocks.prepare(day)):
            for _ in years:
                await asyncio.sleep(0)

    # ---------------------------------------------------------------- the truth

    def true_trades(self, symbol: str, since_ns: int, until_ns: int, venue: str = "upbit") -> Iterator[Trade]:
        """What really traded in `[since_ns, until_ns)`, faults or not, up to now; oldest first."""
        return self.faces[venue].true_trades(symbol, since_ns, until_ns)

    def true_candles(
        self, symbol: str, frame: str, since_ns: int, until_ns: int, venue: str = "upbit"
    ) -> Iterator[Candle]:
        """What candles of the timeframe really opened in `[since_ns, until_ns)`, up to now; oldest first."""
        return self.faces[venue].true_candles(symbol, frame, since_ns, until_ns)

    # ---------------------------------------------------------------- one client

    async def call(self, venue: str, call: Call) -> Reply:
        """The answer to a request."""
        face = self.faces[venue]
        faults = face.floor.faults
        reply: Reply | None = None
        face.floor.manners.begin(call)
        try:
            if faults.word("hang") in ("rest", "all"):
                await face.floor.while_fault("hang")
            delay_s = faults.number("slow")
            if delay_s is not None:
                await self.clock.sleep(delay_s)
            reply = await face.call(call)
        finally:
            face.floor.manners.end(call, reply)
        return reply._replace(cut=reply.status == 200 and faults.strikes("truncate"))

    async def admit(self, venue: str, call: Call) -> Admission:
        """The answer to a handshake."""
        face = self.faces[venue]
        faults = face.floor.faults
        if faults.word("hang") in ("ws", "all"):
            await face.floor.while_fault("hang")
        admission = face.admit(call)
        if admission.status in (401, 404):
            return admission
        if faults.holds("maintenance"):
            return Admission(503, "maintenance")
        status = faults.number("refuse")
        return admission if status is None else Admission(int(status), "refused")

    def join(self, outlet: Outlet, venue: str = "upbit", path: str = "") -> Session:
        """Take in a stream after its handshake; `path` with its query, as dialled."""
        face = self.faces[venue]
        session = Session(outlet, venue, path, self.clock.monotonic())
        face.floor.sessions.add(session)
        face.join(session)
        return session

    def leave(self, session: Session) -> None:
        """Forget a stream."""
        session.open = False
        face = self.faces[session.venue]
        face.floor.sessions.discard(session)
        face.leave(session)

    def touch(self, session: Session) -> None:
        """Something came from the client, were it only a ping."""
        session.active = self.clock.monotonic()

    async def hear(self, session: Session, text: str) -> None:
        """A message from the client."""
        self.touch(session)
        await self.faces[session.venue].hear(session, text)

    # ---------------------------------------------------------------- all of them

    async def run(self) -> None:
        """Carry the market to the streams until cancelled."""
        while True:
            self._wake.clear()
            self._strike()
            for face in self.faces.values():
                await face.tell()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._until_next()):
                    await self._wake.wait()

    def _until_next(self) -> float:
        """Seconds until there may be something to send."""
        wait_s = _TICK_S
        now_ns = self.now_ns()
        for face in self.faces.values():
            if face.floor.faults.holds("flood"):
                wait_s = 0.01
            next_ns = face.next_ns()
            if next_ns is not None:
                wait_s = min(wait_s, (next_ns - now_ns) / self.market.speed / SECOND_NS)
        return max(wait_s, 0.004)

    def _strike(self) -> None:
        """What happens by the clock: a sleep of the machine, keep-alive, and faults that are events."""
        now_ns = self.now_ns()
        slept = now_ns - self._struck_ns > _SLEPT_S * self.market.speed * SECOND_NS
        self._struck_ns = now_ns
        for face in self.faces.values():
            if slept:  # an exchange would have hung up long ago
                for session in list(face.floor.sessions):
                    session.outlet.cut()
                face.forget()
            face.floor.strike(face.idle_s, text=face.text)
            face.tick()
