"""Upbit's face in motion: calls with their limits, and the streams that carry the market to who listens.

`upbit.py` writes the texts. Each frame is written once per style and given to all who asked for it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import parse_qsl

from watchhamster.core.market import Candle, Side, Trade
from watchhamster.core.timeframes import timeframe
from watchhamster.sim.face import BLOCKED_S, Admission, Call, Floor, Reply, Session, reply
from watchhamster.sim.faults import Faults
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
from watchhamster.sim.world import MS, Bar, Print

_BOOK_S = 0.1


class _Asked:
    """What a stream's client asked for, and what it is owed."""

    def __init__(self) -> None:
        self.wants: list[Want] = []
        self.types: list[dict[str, object]] = []
        self.style = STYLES["DEFAULT"]
        self.snapshots: list[Want] = []  # still owed
        self.up_at: float | None = None  # when the next {"status":"UP"} is due
        self.messages: list[float] = []  # when it last asked, within a minute


class _Channel:
    """What has been told of one symbol."""

    def __init__(self, now_ns: int, next_ns: int) -> None:
        self.told_ns = now_ns  # trades up to here are out
        self.next_ns = next_ns  # the first trade after that
        self.book_slot = -1
        self.books: dict[str, int] = {}  # level -> time of the last book sent
        self.candles: dict[str, list[int]] = {}  # type -> candles that changed since they were sent


Listeners = list[tuple[Session, Want]]


class UpbitFace:
    """Upbit over a world."""

    idle_s: float | None = 60.0
    text = False

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self.venue = Upbit(floor.world)
        self._asked: dict[Session, _Asked] = {}
        self._channels: dict[str, _Channel] = {}
        self._listeners: dict[str, Listeners] = {}
        self._late: list[tuple[float, str, Print]] = []
        self._candles_at = floor.clock.monotonic()

    # ---------------------------------------------------------------- the truth

    def true_trades(self, symbol: str, since_ns: int, until_ns: int) -> Iterator[Trade]:
        """What really traded in `[since_ns, until_ns)`, faults or not, up to now; oldest first."""
        world = self.floor.world
        listing = world.listing(symbol)
        p, s = 10**listing.price_decimals, 10**listing.size_decimals

        def event(one: Print) -> Trade:
            side: Side = "buy" if one.buy else "sell"
            return Trade(f"upbit:{symbol}", one.ms * MS, None, one.id, one.price / p, one.lots / s, side)

        return map(event, world.trades(symbol, since_ns, min(until_ns, self.floor.now_ns() + 1)))

    def true_candles(self, symbol: str, frame: str, since_ns: int, until_ns: int) -> Iterator[Candle]:
        """What candles of the timeframe really opened in `[since_ns, until_ns)`, up to now; oldest first."""
        world = self.floor.world
        listing = world.listing(symbol)
        tf = timeframe(frame)
        now_ns = self.floor.now_ns()
        world.candles(symbol, tf, 1, now_ns)  # raises for what it does not have
        p, s = 10**listing.price_decimals, 10**listing.size_decimals

        def event(bar: Bar) -> Candle:
            o, h, lo, c = (price / p for price in bar[1:5])
            closed = tf.next_ns(bar.open_ns) <= now_ns
            name = f"upbit:{symbol}"
            return Candle(name, tf.name, bar.open_ns, o, h, lo, c, bar.lots / s, bar.value, closed, "simulated")

        return map(event, world.candles_between(symbol, tf, since_ns, until_ns, now_ns))

    # ---------------------------------------------------------------- REST

    async def call(self, call: Call) -> Reply:
        """The answer to a request; the path is such as `/v1/ticker`."""
        path = call.path.removeprefix("/v1")
        group = group_of(path) if call.path.startswith("/v1/") and call.method == "GET" else None
        if group is None:
            return reply(404, [], error_body("not_found", "no Route matched with those values"))
        if self.floor.faults.holds("maintenance"):
            return reply(500, [], error_body("internal_server_error", "서버 점검 중입니다."))
        if "origin" in call.headers:
            left, block_s = self.floor.limits.take("origin", call.address, 1, 10)
            extra = [("Remaining-Req", f"group=origin; min=6; sec={max(0, left)}")]
        else:
            left, block_s = self.floor.limits.take(group, call.address, 10)
            extra = [("Remaining-Req", f"group={group}; min=600; sec={max(0, left)}")]
        extra += [("Limit-By-Ip", "Yes"), ("Cache-Control", "no-cache, no-store, max-age=0, must-revalidate")]
        refusal = self._refusal(left, block_s, extra)
        if refusal is not None:
            return refusal
        self._delist()
        query = dict(parse_qsl(call.query, keep_blank_values=True))
        try:
            rows = await self.floor.gently(self.venue.rows(path, query, self.floor.now_ns()))
        except Refused as refused:
            return reply(refused.status, extra, error_body(refused.status, refused.message))
        body = "[" + ",".join(rows) + "]"
        extra.append(("ETag", f'W/"{zlib.crc32(body.encode()):x}"'))
        return reply(200, extra, body)

    def _refusal(self, left: int, block_s: float, extra: list[tuple[str, str]]) -> Reply | None:
        """What is answered instead of data, if anything: limits first, then faults."""
        if self.floor.faults.strikes("http418"):
            left, block_s = -1, float(BLOCKED_S)
        elif self.floor.faults.strikes("http429"):
            left, block_s = -1, 0.0
        if left < 0 and block_s:
            message = f"Too many API requests. Blocked for {-int(-block_s // 1)} seconds."
            return reply(418, extra, error_body("too_many_requests", message))
        if left < 0:
            return reply(429, extra, "Too many API requests.", "text/plain;charset=utf-8")
        if self.floor.faults.strikes("http5xx"):
            status = self.floor.faults.random.choice((500, 502, 503))
            return reply(status, extra, error_body("internal_server_error", "서버 오류가 발생했습니다."))
        if self.floor.faults.strikes("html"):
            page = "<!DOCTYPE html><html><head><title>Login</title></head><body>Please sign in.</body></html>"
            return reply(200, extra, page, "text/html")
        if self.floor.faults.strikes("error200"):
            return reply(200, extra, error_body("internal_server_error", "잠시 후 다시 시도해주세요."))
        return None

    # ---------------------------------------------------------------- streams: one client

    def admit(self, call: Call) -> Admission:
        """The answer to a handshake: five a second, one in ten seconds from a browser."""
        if call.path in ("/websocket/v1/private", "/websocket/v1/info"):
            return Admission(401, "invalid_access_key")
        if call.path != "/websocket/v1":
            return Admission(404, "no Route matched with those values")
        group, most, seconds = ("origin", 1, 10) if "origin" in call.headers else ("websocket-connect", 5, 1)
        left, _block_s = self.floor.limits.take(group, call.address, most, seconds)
        if left < 0:
            return Admission(429, "Too many API requests.")
        told = ("remaining-req", f"group=websocket; min=300; sec={left}")
        return Admission(101, headers=(told, ("limit-by-ip", "Yes")))

    def join(self, session: Session) -> None:
        """Take in a stream after its handshake."""
        self._asked[session] = _Asked()

    def leave(self, session: Session) -> None:
        """Forget a stream."""
        del self._asked[session]
        self._listen()

    async def hear(self, session: Session, text: str) -> None:
        """A message from the client: PING, or a request that replaces its subscriptions."""
        now = self.floor.clock.monotonic()
        asked = self._asked[session]
        if text.strip() == "PING":
            if asked.up_at is None:
                asked.up_at = now + 6.0
            return
        try:
            asked.messages = [at for at in asked.messages if now - at < 60.0] + [now]
            if sum(now - at < 1.0 for at in asked.messages) > 5 or len(asked.messages) > 100:
                raise StreamError("TOO_MANY_REQUEST", "요청 수 제한을 초과했습니다.")
            request = read_request(text)
            wrong = self.floor.faults.word("subscribe_error")
            if wrong is not None:
                raise StreamError(wrong, "요청을 처리할 수 없습니다.")
        except StreamError as error:
            self.floor.write(session, error_body(error.name, error.message).encode())
            session.open = False
            self._listen()
            await self.floor.clock.sleep(0.16)  # as on the wire
            session.outlet.close(1000)
            return
        if request.style is not None or request.wants is not None:
            asked.style = request.style or STYLES["DEFAULT"]
        if request.wants is None:
            self.floor.write(session, list_frame(request.ticket, asked.types, asked.style))
            return
        asked.types = request.types
        now_ns = self.floor.now_ns()
        asked.wants = [w for w in dict.fromkeys(request.wants) if self.venue.listed(w.code, now_ns)]
        asked.snapshots = [want for want in asked.wants if want.snapshot]
        self._listen()
        self.floor.wake()

    def _listen(self) -> None:
        """Who listens to what, by symbol."""
        self._listeners = {}
        for session, asked in self._asked.items():
            for want in asked.wants if session.open else ():
                if want.realtime:
                    self._listeners.setdefault(want.code, []).append((session, want))
        for symbol in self._channels.keys() - self._listeners.keys():
            del self._channels[symbol]

    # ---------------------------------------------------------------- streams: all of them

    def next_ns(self) -> int | None:
        """The next trade that somebody listens to."""
        return min((channel.next_ns for channel in self._channels.values()), default=None)

    def forget(self) -> None:
        """The machine slept: nothing of what happened meanwhile is told."""
        self._channels.clear()

    def tick(self) -> None:
        """The series of UP that a PING began, and symbols that leave or come back."""
        if self.floor.faults.any or self.venue.delisted:
            self._delist()
        now = self.floor.clock.monotonic()
        silent = self.floor.faults.holds("mute") or self.floor.faults.holds("stall")
        for session, asked in self._asked.items():
            if asked.up_at is not None and now >= asked.up_at:
                asked.up_at += 10.0
                if not silent:
                    self.floor.write(session, b'{"status":"UP"}')

    def _delist(self) -> None:
        """Symbols leave the exchange, telling their listeners once, or come back."""
        delisted = frozenset(self.floor.faults.values("delist"))
        gone = delisted - self.venue.delisted
        self.venue.delisted = delisted
        for symbol in gone & self._listeners.keys():
            self._tell_ticker(symbol, self.floor.now_ns())
            self._channels.pop(symbol, None)

    async def tell(self) -> None:
        """Send everything that happened since the last time, in slices."""
        for session, asked in [(session, asked) for session, asked in self._asked.items() if asked.snapshots]:
            owed, asked.snapshots = asked.snapshots, []
            for want in owed:
                if want not in asked.wants:
                    continue  # replaced while these were under way
                frame = self._snapshot(want, asked.style)
                if frame is not None:
                    self._deliver(session, frame)
                await self.floor.breathe()
        now = self.floor.clock.monotonic()
        candles_due = now - self._candles_at >= 1.0
        if candles_due:
            self._candles_at = now
        for symbol in list(self._listeners):
            if symbol in self._listeners and symbol not in self.venue.delisted:
                self._tell_symbol(symbol, candles_due)
            await self.floor.breathe()
        if self._late:
            self._tell_late(now)

    def _snapshot(self, want: Want, style: Style) -> bytes | None:
        symbol, now_ns = want.code, self.floor.now_ns()
        match want.kind:
            case "ticker":
                return self.venue.ticker_frame(symbol, now_ns, style, "SNAPSHOT")
            case "trade":
                last = self.floor.world.last_trade(symbol, now_ns)
                return last and self.venue.trade_frame(symbol, last, now_ns, style, "SNAPSHOT")
            case "orderbook":
                group = self.venue.level_of(symbol, want.level, now_ns)
                if group is None:
                    return None  # an unsupported level is met with silence
                depth = self.floor.world.book(symbol, now_ns, 30, group)
                if symbol in self._listeners:
                    self._channel(symbol, now_ns).books.setdefault(want.level, depth.ms)
                return self.venue.book_frame(symbol, depth, want.units, want.level, style, "SNAPSHOT")
            case _:
                bar = next(self.floor.world.candles(symbol, want.timeframe, now_ns + 1, now_ns), None)
                return bar and self.venue.candle_frame(symbol, want.kind, bar, style, "SNAPSHOT")

    def _channel(self, symbol: str, now_ns: int) -> _Channel:
        channel = self._channels.get(symbol)
        if channel is None:
            next_ns = self.floor.world.next_trade(symbol, now_ns).ms * MS
            channel = self._channels[symbol] = _Channel(now_ns, next_ns)
        return channel

    def _tell_symbol(self, symbol: str, candles_due: bool) -> None:
        now_ns = self.floor.now_ns()
        channel = self._channel(symbol, now_ns)
        if now_ns >= channel.next_ns:
            traded = list(self.floor.world.trades(symbol, channel.told_ns + 1, now_ns + 1))
            channel.next_ns = self.floor.world.next_trade(symbol, now_ns).ms * MS
            if traded:
                self._tell_trades(symbol, traded, now_ns)
                self._note_candles(symbol, channel, traded)
                self._tell_ticker(symbol, now_ns)
        channel.told_ns = max(channel.told_ns, now_ns)
        if candles_due and channel.candles:
            self._tell_candles(symbol, channel, now_ns)
        # Each symbol publishes its book on a grid of its own phase, whatever the market's speed.
        slot = int(self.floor.clock.monotonic() / _BOOK_S + self.floor.world.listing(symbol).index * 0.37)
        if slot != channel.book_slot:
            channel.book_slot = slot
            self._tell_books(symbol, channel, now_ns)

    def _tell_ticker(self, symbol: str, now_ns: int) -> None:
        self._send(symbol, "ticker", lambda style: self.venue.ticker_frame(symbol, now_ns, style, "REALTIME"))

    def _tell_trades(self, symbol: str, traded: Iterable[Print], now_ns: int) -> None:
        faults = self.floor.faults
        late_s = faults.number("late") if faults.any else None
        for one in traded:
            if late_s is not None and faults.random.random() < 0.3:
                self._late.append((self.floor.clock.monotonic() + faults.random.random() * late_s, symbol, one))
            else:
                self._tell_trade(symbol, one, now_ns)

    def _tell_trade(self, symbol: str, one: Print, now_ns: int) -> None:
        self._send(symbol, "trade", lambda style: self.venue.trade_frame(symbol, one, now_ns, style, "REALTIME"))

    def _tell_late(self, now: float) -> None:
        due = sorted(entry for entry in self._late if entry[0] <= now)
        self._late = [entry for entry in self._late if entry[0] > now]
        for _at, symbol, one in due:
            self._tell_trade(symbol, one, self.floor.now_ns())

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
                bar = next(self.floor.world.candles(symbol, frame, open_ns + 1, now_ns))
                self._send(symbol, kind, self._candle_writer(symbol, kind, bar))
        channel.candles.clear()

    def _candle_writer(self, symbol: str, kind: str, bar: Bar) -> Callable[[Style], bytes]:
        return lambda style: self.venue.candle_frame(symbol, kind, bar, style, "REALTIME")

    def _tell_books(self, symbol: str, channel: _Channel, now_ns: int) -> None:
        listeners = [(session, want) for session, want in self._listeners[symbol] if want.kind == "orderbook"]
        for level in {want.level for _session, want in listeners}:
            group = self.venue.level_of(symbol, level, now_ns)
            depth = None if group is None else self.floor.world.book(symbol, now_ns, 30, group)
            if depth is None or channel.books.get(level) == depth.ms:
                continue
            channel.books[level] = depth.ms
            made: dict[tuple[Style, int], bytes] = {}
            for session, want in listeners:
                if want.level == level:
                    style = self._asked[session].style
                    key = (style, want.units)
                    if key not in made:
                        made[key] = self.venue.book_frame(symbol, depth, want.units, level, style, "REALTIME")
                    self._deliver(session, made[key])

    def _send(self, symbol: str, kind: str, write: Callable[[Style], bytes | None]) -> None:
        """Give a frame to everyone who wants this kind, written once per style."""
        made: dict[Style, bytes | None] = {}
        for session, want in self._listeners.get(symbol, ()):
            if want.kind == kind:
                style = self._asked[session].style
                if style not in made:
                    made[style] = write(style)
                frame = made[style]
                if frame is not None:
                    self._deliver(session, frame)

    def _deliver(self, session: Session, frame: bytes) -> None:
        self.floor.deliver(session, frame, self._odd, text=False)

    def _odd(self, kind: str, frame: bytes) -> bytes:
        """A frame that should not be, or this one spoilt."""
        make = {"garbage": _garbage, "absurd": _absurd, "unknown": _unknown, "corrupt": _spoilt}[kind]
        return make(self.floor.faults, frame)


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
