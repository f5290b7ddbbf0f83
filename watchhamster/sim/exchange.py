"""The exchange without sockets: calls, streams, limits, faults and the pump that carries the market to who listens.

`call` answers one HTTP request, `join` takes in a stream whose frames go to an `Outlet`, `run` lives until cancelled.
`server.py` puts it on a loopback port; a test may put it on anything else, in virtual time too.

One pump serves every stream: it sleeps until the next trade or book slot that somebody listens to, writes each frame
once per style and gives it to all who asked. Limits and keep-alive run on wall time; `speed` scales only the market.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple, Protocol, TypeVar
from urllib.parse import parse_qsl

from watchhamster.core.market import Candle, Side, Trade
from watchhamster.core.ports import Clock, UsageError
from watchhamster.core.text import Text
from watchhamster.core.timeframes import timeframe
from watchhamster.sim.daily import FIRST_DAY
from watchhamster.sim.faults import Fault, Faults
from watchhamster.sim.upbit import (
    CANDLE_TYPES,
    STYLES,
    Refused,
    StreamError,
    Style,
    Upbit,
    Want,
    error_body,
    group_of,
    list_frame,
    read_request,
)
from watchhamster.sim.world import MS, Bar, Print, World

SECOND_NS = 10**9
_BOOK_S = 0.1
_IDLE_S = 60.0
_SLEPT_S = 300.0
_REFUSALS = 10  # within 10 s before an address is blocked
_BLOCKED_S = 10  # the first time; it doubles
_SLICE = 20  # units of the world's work between two chances for others to run: some milliseconds

T = TypeVar("T")


class MarketTime:
    """The market's own time: the wall clock's, or one that begins elsewhere or runs faster."""

    def __init__(self, clock: Clock, speed: float, start_ns: int | None) -> None:
        self._clock = clock
        self.speed = speed
        self._follows = speed == 1.0 and start_ns is None
        self._zero = clock.monotonic()
        self._start_ns = clock.now_ns() if start_ns is None else start_ns

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
        block_s = _BLOCKED_S * 2.0**times
        self._blocks[key] = (now + block_s, times + 1)
        return -1, block_s


class Reply(NamedTuple):
    """An HTTP answer. With `cut` the connection breaks in the middle of the body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    cut: bool = False


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
    """One stream: what its client asked for, and what it is owed."""

    def __init__(self, outlet: Outlet, now: float) -> None:
        self.outlet = outlet
        self.active = now  # when anything last went either way
        self.open = True
        self.wants: list[Want] = []
        self.types: list[dict[str, object]] = []
        self.style = STYLES["DEFAULT"]
        self.snapshots: list[Want] = []  # still owed
        self.up_at: float | None = None  # when the next {"status":"UP"} is due
        self.messages: list[float] = []  # when it last asked, within a minute
        self.held: list[bytes] = []  # frames that the reorder fault keeps back
        self.last: bytes | None = None  # what the flood fault repeats
        self.flooded_at = now


class _Channel:
    """What has been told of one symbol."""

    def __init__(self, now_ns: int, next_ns: int) -> None:
        self.told_ns = now_ns  # trades up to here are out
        self.next_ns = next_ns  # the first trade after that
        self.book_slot = -1
        self.books: dict[str, int] = {}  # level -> time of the last book sent
        self.candles: dict[str, list[int]] = {}  # type -> candles that changed since they were sent


Listeners = list[tuple[Session, Want]]


class Exchange:
    """A simulated venue. `activity` multiplies how much is traded; all time comes from `clock`.

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
        self.venue = Upbit(self.world)
        self.market = MarketTime(clock, speed, start_ns)
        self.faults = Faults(clock.monotonic, seed)
        self.faults.set(faults)
        self.sessions: set[Session] = set()
        self._limits = Limits(clock)
        self._channels: dict[str, _Channel] = {}
        self._listeners: dict[str, Listeners] = {}
        self._late: list[tuple[float, str, Print]] = []
        self._candles_at = clock.monotonic()
        self._struck_ns = self.now_ns()
        self._wake = asyncio.Event()

    def now_ns(self) -> int:
        """The market's time."""
        return self.market.now_ns()

    def wake(self) -> None:
        """Let the pump look at once: something was asked for."""
        self._wake.set()

    async def warm(self) -> None:
        """Make the years before now, in slices, so that nothing later has to wait for them."""
        for _ in self.world.prepare(self.now_ns() // (86400 * SECOND_NS)):
            await asyncio.sleep(0)

    async def gently(self, items: Iterable[T]) -> list[T]:
        """The items, made in slices so that others can run."""
        done, made = self.world.work, []
        for item in items:
            made.append(item)
            if self.world.work - done > _SLICE:
                await asyncio.sleep(0)
                done = self.world.work
        return made

    async def _while(self, fault: str) -> None:
        while self.faults.holds(fault):
            await self.clock.sleep(0.1)

    # ---------------------------------------------------------------- the truth

    def true_trades(self, symbol: str, since_ns: int, until_ns: int) -> Iterator[Trade]:
        """What really traded in `[since_ns, until_ns)`, faults or not, up to now; oldest first."""
        listing = self.world.listing(symbol)
        p, s = 10**listing.price_decimals, 10**listing.size_decimals
        for one in self.world.trades(symbol, since_ns, min(until_ns, self.now_ns() + 1)):
            side: Side = "buy" if one.buy else "sell"
            yield Trade(f"upbit:{symbol}", one.ms * MS, None, one.id, one.price / p, one.lots / s, side)

    def true_candles(self, symbol: str, frame: str, since_ns: int, until_ns: int) -> Iterator[Candle]:
        """What candles of the timeframe really opened in `[since_ns, until_ns)`, up to now; oldest first."""
        listing = self.world.listing(symbol)
        tf = timeframe(frame)
        now_ns = self.now_ns()
        p, s = 10**listing.price_decimals, 10**listing.size_decimals
        for bar in self.world.candles_between(symbol, tf, since_ns, until_ns, now_ns):
            o, h, lo, c = (price / p for price in bar[1:5])
            closed = tf.next_ns(bar.open_ns) <= now_ns
            yield Candle(
                f"upbit:{symbol}", tf.name, bar.open_ns, o, h, lo, c, bar.lots / s, bar.value, closed, "simulated"
            )

    # ---------------------------------------------------------------- REST

    async def call(self, method: str, path: str, query: str, headers: Mapping[str, str], address: str) -> Reply:
        """The answer to a request; `path` is below the venue's base, such as `/v1/ticker`, `query` still encoded."""
        if self.faults.word("hang") in ("rest", "all"):
            await self._while("hang")
        delay_s = self.faults.number("slow")
        if delay_s is not None:
            await self.clock.sleep(delay_s)
        group = group_of(path.removeprefix("/v1")) if path.startswith("/v1/") and method == "GET" else None
        if group is None:
            return _reply(404, [], error_body("not_found", "no Route matched with those values"))
        if self.faults.holds("maintenance"):
            return _reply(500, [], error_body("internal_server_error", "서버 점검 중입니다."))
        if "origin" in headers:
            left, block_s = self._limits.take("origin", address, 1, 10)
            extra = [("Remaining-Req", f"group=origin; min=6; sec={max(0, left)}")]
        else:
            left, block_s = self._limits.take(group, address, 10)
            extra = [("Remaining-Req", f"group={group}; min=600; sec={max(0, left)}")]
        extra += [("Limit-By-Ip", "Yes"), ("Cache-Control", "no-cache, no-store, max-age=0, must-revalidate")]
        refusal = self._refusal(left, block_s, extra)
        if refusal is not None:
            return refusal
        self._delist()
        query_of = dict(parse_qsl(query, keep_blank_values=True))
        try:
            rows = await self.gently(self.venue.rows(path.removeprefix("/v1"), query_of, self.now_ns()))
        except Refused as refused:
            return _reply(refused.status, extra, error_body(refused.status, refused.message))
        body = "[" + ",".join(rows) + "]"
        extra.append(("ETag", f'W/"{zlib.crc32(body.encode()):x}"'))
        return _reply(200, extra, body, cut=self.faults.strikes("truncate"))

    def _refusal(self, left: int, block_s: float, extra: list[tuple[str, str]]) -> Reply | None:
        """What is answered instead of data, if anything: limits first, then faults."""
        if self.faults.strikes("http418"):
            left, block_s = -1, float(_BLOCKED_S)
        elif self.faults.strikes("http429"):
            left, block_s = -1, 0.0
        if left < 0 and block_s:
            message = f"Too many API requests. Blocked for {-int(-block_s // 1)} seconds."
            return _reply(418, extra, error_body("too_many_requests", message))
        if left < 0:
            return _reply(429, extra, "Too many API requests.", "text/plain;charset=utf-8")
        if self.faults.strikes("http5xx"):
            status = self.faults.random.choice((500, 502, 503))
            return _reply(status, extra, error_body("internal_server_error", "서버 오류가 발생했습니다."))
        if self.faults.strikes("html"):
            page = "<!DOCTYPE html><html><head><title>Login</title></head><body>Please sign in.</body></html>"
            return _reply(200, extra, page, "text/html")
        if self.faults.strikes("error200"):
            return _reply(200, extra, error_body("internal_server_error", "잠시 후 다시 시도해주세요."))
        return None

    # ---------------------------------------------------------------- streams: one client

    async def admit(self, path: str, headers: Mapping[str, str], address: str) -> tuple[int, str]:
        """(101, the `Remaining-Req` header) for a handshake that is taken, else a status and why."""
        if self.faults.word("hang") in ("ws", "all"):
            await self._while("hang")
        if path in ("/websocket/v1/private", "/websocket/v1/info"):
            return 401, "invalid_access_key"
        if path != "/websocket/v1":
            return 404, "no Route matched with those values"
        origin = "origin" in headers
        group, most, seconds = ("origin", 1, 10) if origin else ("websocket-connect", 5, 1)
        left, _block_s = self._limits.take(group, address, most, seconds)
        if self.faults.holds("maintenance"):
            return 503, "maintenance"
        status = self.faults.number("refuse")
        if status is not None:
            return int(status), "refused"
        if left < 0:
            return 429, "Too many API requests."
        return 101, f"group=websocket; min=300; sec={left}"

    def join(self, outlet: Outlet) -> Session:
        """Take in a stream after its handshake."""
        session = Session(outlet, self.clock.monotonic())
        self.sessions.add(session)
        return session

    def leave(self, session: Session) -> None:
        """Forget a stream."""
        session.open = False
        self.sessions.discard(session)
        self._listen()

    def touch(self, session: Session) -> None:
        """Something came from the client, were it only a ping."""
        session.active = self.clock.monotonic()

    async def hear(self, session: Session, text: str) -> None:
        """A message from the client: PING, or a request that replaces its subscriptions."""
        now = self.clock.monotonic()
        session.active = now
        if text.strip() == "PING":
            if session.up_at is None:
                session.up_at = now + 6.0
            return
        try:
            session.messages = [at for at in session.messages if now - at < 60.0] + [now]
            if sum(now - at < 1.0 for at in session.messages) > 5 or len(session.messages) > 100:
                raise StreamError("TOO_MANY_REQUEST", "요청 수 제한을 초과했습니다.")
            request = read_request(text)
            wrong = self.faults.word("subscribe_error")
            if wrong is not None:
                raise StreamError(wrong, "요청을 처리할 수 없습니다.")
        except StreamError as error:
            self._write(session, error_body(error.name, error.message).encode())
            self._quiet(session)
            await self.clock.sleep(0.16)  # as on the wire
            session.outlet.close(1000)
            return
        if request.style is not None or request.wants is not None:
            session.style = request.style or STYLES["DEFAULT"]
        if request.wants is None:
            self._write(session, list_frame(request.ticket, session.types, session.style))
            return
        session.types = request.types
        session.wants = [w for w in dict.fromkeys(request.wants) if self.venue.listed(w.code, self.now_ns())]
        session.snapshots = [want for want in session.wants if want.snapshot]
        self._listen()
        self.wake()

    def _quiet(self, session: Session) -> None:
        """Nothing more goes to this stream."""
        session.open = False
        session.wants, session.snapshots = [], []
        self._listen()

    def _listen(self) -> None:
        """Who listens to what, by symbol."""
        self._listeners = {}
        for session in self.sessions:
            for want in session.wants:
                if want.realtime:
                    self._listeners.setdefault(want.code, []).append((session, want))
        for symbol in self._channels.keys() - self._listeners.keys():
            del self._channels[symbol]

    def _write(self, session: Session, frame: bytes) -> None:
        if session.open:
            session.outlet.frame(frame, text=self.faults.holds("text"))
            session.active = self.clock.monotonic()

    def _deliver(self, session: Session, frame: bytes) -> None:
        """Send one frame of data, spoilt as the faults in force want it."""
        faults = self.faults
        if not faults.any:
            self._write(session, frame)
            session.last = frame
            return
        if faults.holds("mute") or faults.holds("stall"):
            return
        for name, add in (("garbage", _garbage), ("absurd", _absurd), ("unknown", _unknown)):
            if faults.strikes(name):
                self._write(session, add(faults, frame))
        if faults.strikes("lose"):
            return
        if faults.strikes("corrupt"):
            self._write(session, _spoilt(faults, frame))
            return
        if faults.strikes("reorder") and len(session.held) < 16:
            session.held.append(frame)
            return
        self._write(session, frame)
        session.last = frame
        if faults.strikes("duplicate"):
            self._write(session, frame)
        if session.held and faults.random.random() < 0.5:
            self._write(session, session.held.pop(faults.random.randrange(len(session.held))))

    # ---------------------------------------------------------------- streams: all of them

    async def run(self) -> None:
        """Carry the market to the streams until cancelled."""
        while True:
            self._wake.clear()
            self._strike()
            await self._tell()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._until_next()):
                    await self._wake.wait()

    def _until_next(self) -> float:
        """Seconds until there may be something to send."""
        wait_s = _BOOK_S
        if self.faults.any and self.faults.holds("flood"):
            wait_s = 0.01
        now_ns = self.now_ns()
        for channel in self._channels.values():
            wait_s = min(wait_s, (channel.next_ns - now_ns) / self.market.speed / SECOND_NS)
        return max(wait_s, 0.004)

    def _strike(self) -> None:
        """What happens to streams by the clock: keep-alive, and faults that are events."""
        now = self.clock.monotonic()
        now_ns = self.now_ns()
        if now_ns - self._struck_ns > _SLEPT_S * self.market.speed * SECOND_NS:
            for session in list(self.sessions):  # the machine slept: an exchange would have hung up long ago
                session.outlet.cut()
            self._channels.clear()
        self._struck_ns = now_ns
        if self.faults.any or self.venue.delisted:
            self._delist()
            for fault in self.faults.due():
                self._once(fault)
            if self.faults.holds("maintenance") or self.faults.holds("down"):
                for session in list(self.sessions):
                    session.outlet.cut(reset=self.faults.holds("down"))
        idle_s = self.faults.number("idle") if self.faults.any else None
        silent = self.faults.holds("mute") or self.faults.holds("stall")
        for session in list(self.sessions):
            if now - session.active >= (_IDLE_S if idle_s is None else idle_s):
                session.outlet.cut()  # as on the wire: without a close frame
            elif session.up_at is not None and now >= session.up_at:
                session.up_at += 10.0
                if not silent:
                    self._write(session, b'{"status":"UP"}')
            flood = self.faults.number("flood") if self.faults.any else None
            if flood is not None and session.last is not None:
                for _ in range(min(int((now - session.flooded_at) * flood), 2_000)):
                    self._write(session, session.last)
            session.flooded_at = now
            session.outlet.tick()

    def _once(self, fault: Fault) -> None:
        for session in list(self.sessions):
            match fault.name:
                case "drop" if float(fault.value) != 1006:
                    self._quiet(session)
                    session.outlet.close(int(float(fault.value)))
                case "drop" | "reset":
                    session.outlet.cut(reset=fault.name == "reset")
                case "big":
                    self._write(session, b'{"type":"' + b"x" * int(float(fault.value)) + b'"}')

    def _delist(self) -> None:
        """Symbols leave the exchange, telling their listeners once, or come back."""
        delisted = frozenset(self.faults.values("delist"))
        gone = delisted - self.venue.delisted
        self.venue.delisted = delisted
        for symbol in gone & self._listeners.keys():
            self._tell_ticker(symbol, self.now_ns())
            self._channels.pop(symbol, None)

    async def _tell(self) -> None:
        """Send everything that happened since the last time, in slices."""
        done = self.world.work
        for session in [session for session in self.sessions if session.snapshots]:
            owed, session.snapshots = session.snapshots, []
            for want in owed:
                if want not in session.wants:
                    continue  # replaced while these were under way
                frame = self._snapshot(want, session.style)
                if frame is not None:
                    self._deliver(session, frame)
                if self.world.work - done > _SLICE:
                    await asyncio.sleep(0)
                    done = self.world.work
        now = self.clock.monotonic()
        candles_due = now - self._candles_at >= 1.0
        if candles_due:
            self._candles_at = now
        for symbol in list(self._listeners):
            if symbol in self._listeners and symbol not in self.venue.delisted:
                self._tell_symbol(symbol, candles_due)
            if self.world.work - done > _SLICE:
                await asyncio.sleep(0)
                done = self.world.work
        if self._late:
            self._tell_late(now)

    def _snapshot(self, want: Want, style: Style) -> bytes | None:
        symbol, now_ns = want.code, self.now_ns()
        match want.kind:
            case "ticker":
                return self.venue.ticker_frame(symbol, now_ns, style, "SNAPSHOT")
            case "trade":
                last = self.world.last_trade(symbol, now_ns)
                return last and self.venue.trade_frame(symbol, last, now_ns, style, "SNAPSHOT")
            case "orderbook":
                group = self.venue.level_of(symbol, want.level, now_ns)
                if group is None:
                    return None  # an unsupported level is met with silence
                depth = self.world.book(symbol, now_ns, 30, group)
                if symbol in self._listeners:
                    self._channel(symbol, now_ns).books.setdefault(want.level, depth.ms)
                return self.venue.book_frame(symbol, depth, want.units, want.level, style, "SNAPSHOT")
            case _:
                bar = next(self.world.candles(symbol, want.timeframe, now_ns + 1, now_ns), None)
                return bar and self.venue.candle_frame(symbol, want.kind, bar, style, "SNAPSHOT")

    def _channel(self, symbol: str, now_ns: int) -> _Channel:
        channel = self._channels.get(symbol)
        if channel is None:
            next_ns = self.world.next_trade(symbol, now_ns).ms * MS
            channel = self._channels[symbol] = _Channel(now_ns, next_ns)
        return channel

    def _tell_symbol(self, symbol: str, candles_due: bool) -> None:
        now_ns = self.now_ns()
        channel = self._channel(symbol, now_ns)
        if now_ns >= channel.next_ns:
            traded = list(self.world.trades(symbol, channel.told_ns + 1, now_ns + 1))
            channel.next_ns = self.world.next_trade(symbol, now_ns).ms * MS
            if traded:
                self._tell_trades(symbol, traded, now_ns)
                self._note_candles(symbol, channel, traded)
                self._tell_ticker(symbol, now_ns)
        channel.told_ns = max(channel.told_ns, now_ns)
        if candles_due and channel.candles:
            self._tell_candles(symbol, channel, now_ns)
        # Each symbol publishes its book on a grid of its own phase, whatever the market's speed.
        slot = int(self.clock.monotonic() / _BOOK_S + self.world.listing(symbol).index * 0.37)
        if slot != channel.book_slot:
            channel.book_slot = slot
            self._tell_books(symbol, channel, now_ns)

    def _tell_ticker(self, symbol: str, now_ns: int) -> None:
        self._send(symbol, "ticker", lambda style: self.venue.ticker_frame(symbol, now_ns, style, "REALTIME"))

    def _tell_trades(self, symbol: str, traded: Iterable[Print], now_ns: int) -> None:
        late_s = self.faults.number("late") if self.faults.any else None
        for one in traded:
            if late_s is not None and self.faults.random.random() < 0.3:
                self._late.append((self.clock.monotonic() + self.faults.random.random() * late_s, symbol, one))
            else:
                self._tell_trade(symbol, one, now_ns)

    def _tell_trade(self, symbol: str, one: Print, now_ns: int) -> None:
        self._send(symbol, "trade", lambda style: self.venue.trade_frame(symbol, one, now_ns, style, "REALTIME"))

    def _tell_late(self, now: float) -> None:
        due = sorted(entry for entry in self._late if entry[0] <= now)
        self._late = [entry for entry in self._late if entry[0] > now]
        for _at, symbol, one in due:
            self._tell_trade(symbol, one, self.now_ns())

    def _note_candles(self, symbol: str, channel: _Channel, traded: Iterable[Print]) -> None:
        for kind in {want.kind for _session, want in self._listeners[symbol]} & CANDLE_TYPES.keys():
            frame = timeframe(CANDLE_TYPES[kind])
            opens = channel.candles.setdefault(kind, [])
            for one in traded:
                open_ns = frame.open_ns(one.ms * MS)
                if not opens or opens[-1] != open_ns:
                    opens.append(open_ns)
            del opens[:-600]

    def _tell_candles(self, symbol: str, channel: _Channel, now_ns: int) -> None:
        for kind, opens in channel.candles.items():
            frame = timeframe(CANDLE_TYPES[kind])
            for open_ns in opens:
                bar = next(self.world.candles(symbol, frame, open_ns + 1, now_ns))
                self._send(symbol, kind, self._candle_writer(symbol, kind, bar))
        channel.candles.clear()

    def _candle_writer(self, symbol: str, kind: str, bar: Bar) -> Callable[[Style], bytes]:
        return lambda style: self.venue.candle_frame(symbol, kind, bar, style, "REALTIME")

    def _tell_books(self, symbol: str, channel: _Channel, now_ns: int) -> None:
        listeners = [(session, want) for session, want in self._listeners[symbol] if want.kind == "orderbook"]
        for level in {want.level for _session, want in listeners}:
            group = self.venue.level_of(symbol, level, now_ns)
            depth = None if group is None else self.world.book(symbol, now_ns, 30, group)
            if depth is None or channel.books.get(level) == depth.ms:
                continue
            channel.books[level] = depth.ms
            made: dict[tuple[Style, int], bytes] = {}
            for session, want in listeners:
                if want.level == level:
                    key = (session.style, want.units)
                    if key not in made:
                        made[key] = self.venue.book_frame(symbol, depth, want.units, level, session.style, "REALTIME")
                    self._deliver(session, made[key])

    def _send(self, symbol: str, kind: str, write: Callable[[Style], bytes | None]) -> None:
        """Give a frame to everyone who wants this kind, written once per style."""
        made: dict[Style, bytes | None] = {}
        for session, want in self._listeners.get(symbol, ()):
            if want.kind == kind:
                if session.style not in made:
                    made[session.style] = write(session.style)
                frame = made[session.style]
                if frame is not None:
                    self._deliver(session, frame)


def _reply(
    status: int,
    extra: list[tuple[str, str]],
    body: str,
    kind: str = "application/json;charset=utf-8",
    *,
    cut: bool = False,
) -> Reply:
    return Reply(status, [("Content-Type", kind), *extra], body.encode(), cut)


# ---------------------------------------------------------------- frames that should not be

_GARBAGE = (
    b"\x00\xff\xfe",
    b"not json at all",
    b'{"type":"trade","code":"KRW-BTC",',
    b"[1,2,",
    b"\xc3\x28 invalid utf-8",
    b"<html><body>502 Bad Gateway</body></html>",
    b"",
    b"null",
)
_UNKNOWN = (
    {"type": "lottery", "code": "KRW-BTC", "numbers": [4, 8, 15]},
    {"type": "trade", "code": "KRW-BTC", "trade_price": None, "trade_volume": 1.0, "stream_type": "REALTIME"},
    {"type": "ticker", "code": "KRW-BTC", "stream_type": "REALTIME"},
    {"type": "orderbook", "code": "KRW-BTC", "orderbook_units": [{}], "stream_type": "REALTIME"},
    {"hello": "world"},
    {"ty": "trade", "cd": "KRW-BTC"},
)
_NUMBERS = (b'"trade_price":', b'"tp":', b'"ask_price":', b'"ap":', b'"trade_timestamp":', b'"ttms":')


def _garbage(faults: Faults, frame: bytes) -> bytes:
    return faults.random.choice(_GARBAGE)


def _unknown(faults: Faults, frame: bytes) -> bytes:
    return json.dumps(faults.random.choice(_UNKNOWN)).encode()


def _absurd(faults: Faults, frame: bytes) -> bytes:
    """The frame with one of its numbers replaced by something no market prints."""
    places = [frame.find(name) + len(name) for name in _NUMBERS if name in frame]
    if not places:
        return b'{"type":"trade","code":"KRW-BTC","trade_price":-1,"trade_volume":0,"stream_type":"REALTIME"}'
    start = faults.random.choice(places)
    stop = start
    while frame[stop : stop + 1] not in (b",", b"}"):
        stop += 1
    number = faults.random.choice((b"NaN", b"0", b"-1.5", b"1e300", b"1e999", b"99999999999999999999"))
    return frame[:start] + number + frame[stop:]


def _spoilt(faults: Faults, frame: bytes) -> bytes:
    """The frame cut short, with invalid UTF-8, or with a byte that makes it no JSON."""
    at = faults.random.randrange(1, len(frame) - 1)
    return faults.random.choice((frame[:at], frame[:at] + b"\xff" + frame[at + 1 :], frame[1:]))
