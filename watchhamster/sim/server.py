"""The simulated exchange on loopback: sockets, rate limits, streams, faults and the truth.

HTTP is h11 over asyncio streams; a WebSocket upgrade is handed to websockets' sans-I/O `ServerProtocol`. One pump
carries the market to every stream: it sleeps until the next trade or book slot that somebody listens to, writes each
frame once per style and gives it to all who asked. A stream whose client does not read is cut when 8 MB wait for it.

Limits and keep-alive run on wall time; `speed` scales only the market's clock.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self
from urllib.parse import parse_qsl, urlsplit

import h11
from websockets.frames import Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import State
from websockets.server import ServerProtocol

from watchhamster.core.market import Candle, Trade, to_json
from watchhamster.core.ports import Clock, UsageError, WatchHamsterError
from watchhamster.core.text import Text
from watchhamster.core.timeframes import timeframe
from watchhamster.sim.faults import Fault, Faults
from watchhamster.sim.upbit import (
    CANDLE_TYPES,
    STYLES,
    Answer,
    StreamError,
    StreamType,
    Style,
    Upbit,
    Want,
    error_body,
    list_frame,
    read_request,
)
from watchhamster.sim.world import FIRST_DAY, MS, Bar, Print, World

_SECOND_NS = 10**9
_BACKLOG_BYTES = 8 * 2**20
_BOOK_MS = 100
_HTML = "<!DOCTYPE html><html><head><title>Login</title></head><body>Please sign in to the network.</body></html>"
_BLOCKED_S = 10  # the first block after repeated refusals; it doubles each time
_REFUSALS = 10  # in a row within 10 s before a block


class WallClock:
    """The machine's time."""

    def now_ns(self) -> int:
        """Wall time, nanoseconds UTC."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Seconds that never step back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after this many seconds."""
        await asyncio.sleep(seconds)


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
        return self._start_ns + int((self._clock.monotonic() - self._zero) * self.speed * _SECOND_NS)


class Limits:
    """Calls per calendar second, group and address; who goes on when refused is blocked, longer each time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._windows: dict[tuple[str, str], tuple[int, int]] = {}
        self._refusals: dict[tuple[str, str], tuple[float, int]] = {}
        self._blocks: dict[tuple[str, str], tuple[float, int]] = {}

    def take(self, group: str, address: str, most: int, seconds: int = 1) -> tuple[int, float]:
        """(calls left, 0) for a call that may pass, else (-1, seconds of the block or 0 if only refused)."""
        key = (group, address)
        now = self._clock.monotonic()
        until, times = self._blocks.get(key, (0.0, 0))
        if now < until:
            return -1, until - now
        window = self._clock.now_ns() // (seconds * _SECOND_NS)
        at, used = self._windows.get(key, (window, 0))
        used = used + 1 if at == window else 1
        self._windows[key] = (window, used)
        if used <= most:
            return most - used, 0.0
        since, count = self._refusals.get(key, (now, 0))
        since, count = (since, count + 1) if now - since < 10 else (now, 1)
        self._refusals[key] = (since, count)
        if count > _REFUSALS:
            self._blocks[key] = (now + _BLOCKED_S * 2**times, times + 1)
            self._refusals.pop(key)
            return -1, float(_BLOCKED_S * 2**times)
        return -1, 0.0


class Stream:
    """One WebSocket client."""

    def __init__(self, writer: asyncio.StreamWriter, protocol: ServerProtocol, now: float) -> None:
        self.writer = writer
        self.protocol = protocol
        self.active = now  # when data last went either way
        self.wants: list[Want] = []
        self.types: list[dict[str, object]] = []
        self.style = STYLES["DEFAULT"]
        self.snapshots: list[Want] = []  # still owed
        self.up_at: float | None = None  # when the next {"status":"UP"} is due
        self.messages: list[float] = []
        self.held: list[bytes] = []  # frames that the reorder fault keeps back
        self.trickle = bytearray()
        self.last: bytes | None = None  # for the flood fault
        self.trickled_at = now
        self.flooded_at = now
        self.closing = False

    def flush(self) -> None:
        """Write what the protocol has to say."""
        for data in self.protocol.data_to_send():
            if data:
                self.writer.write(data)
            elif self.writer.can_write_eof():
                self.writer.write_eof()

    def abort(self, *, reset: bool = False) -> None:
        """Cut the connection without a close frame; with `reset` by a TCP reset."""
        self.closing = True
        abort(self.writer, reset=reset)


def abort(writer: asyncio.StreamWriter, *, reset: bool = False) -> None:
    """Cut a connection at once."""
    if reset:
        sock = writer.get_extra_info("socket")
        if sock is not None:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class _Channel:
    """What is being told of one symbol, to all streams."""

    def __init__(self, now_ns: int) -> None:
        self.told_ns = now_ns  # trades up to here are out
        self.next_ns = now_ns  # the first trade after
        self.book_slot = -1
        self.books: dict[tuple[int, str], int] = {}  # (units, level) -> time of the last book sent
        self.candles: dict[str, list[int]] = {}  # type -> opens of candles that changed since they were sent


class Simulator:
    """A local exchange. Use as an async context manager, or `start` and `stop`.

    `start_ns` puts the market at another moment, `speed` lets its time run faster. `activity` multiplies how much is
    traded. All time comes from `clock`.
    """

    def __init__(
        self,
        *,
        seed: int = 7,
        port: int = 0,
        faults: str = "",
        speed: float = 1.0,
        start_ns: int | None = None,
        tls: bool = False,
        clock: Clock | None = None,
        activity: float = 1.0,
    ) -> None:
        if not speed > 0:
            raise UsageError("bad_speed", Text("The speed is {speed}; it must be above 0.", {"speed": speed}))
        if start_ns is not None and start_ns < (FIRST_DAY + 2) * 86400 * _SECOND_NS:
            raise UsageError(
                "bad_start", Text("The simulated market begins on 2017-09-25."), Text("Give a later --start.")
            )
        self.clock: Clock = clock if clock is not None else WallClock()
        self.world = World(seed, activity)
        self.venue = Upbit(self.world)
        self.faults = Faults(self.clock.monotonic, seed)
        self.faults.set(faults)
        self.market = MarketTime(self.clock, speed, start_ns)
        self.streams: set[Stream] = set()
        self._port = port
        self._tls = tls
        self._ca: TemporaryDirectory[str] | None = None
        self._limits = Limits(self.clock)
        self._writers: set[asyncio.StreamWriter] = set()
        self._channels: dict[str, _Channel] = {}
        self._server: asyncio.Server | None = None
        self._pump_task: asyncio.Task[None] | None = None
        self._late: list[tuple[float, str, Print]] = []
        self._candles_at = 0.0
        self._wake = asyncio.Event()

    # ---------------------------------------------------------------- life

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT` (https with TLS)."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._port}"

    @property
    def venues(self) -> dict[str, str]:
        """Base URL of each venue it plays."""
        return {"upbit": f"{self.url}/upbit"}

    @property
    def ca(self) -> Path | None:
        """The throw-away CA's certificate, with TLS."""
        return Path(self._ca.name) / "ca.pem" if self._ca else None

    def ready(self) -> dict[str, object]:
        """The line that says where it listens."""
        line: dict[str, object] = {"listening": self.url, "venues": self.venues}
        if self.ca is not None:
            line["ca"] = str(self.ca)
        return line

    def now_ns(self) -> int:
        """The market's time."""
        return self.market.now_ns()

    async def start(self) -> None:
        """Listen. The schedule of faults counts from here. Raises `UsageError` (`port_in_use`)."""
        context = self._make_tls() if self._tls else None
        try:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port, ssl=context)
        except OSError as error:
            raise UsageError(
                "port_in_use",
                Text("The simulator cannot listen on port {port}: {why}.", {"port": self._port, "why": str(error)}),
                Text("Give another --port, or none for a free one."),
            ) from error
        self._port = self._server.sockets[0].getsockname()[1]
        self.faults.restart()
        self._pump_task = asyncio.get_running_loop().create_task(self._pump(), name="sim pump")
        self._pump_task.add_done_callback(self._pumped)

    async def stop(self) -> None:
        """Close every connection and stop listening."""
        if self._pump_task is not None:
            self._pump_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._pump_task
            self._pump_task = None
        if self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                abort(writer)
            await self._server.wait_closed()
            while self._writers:
                await asyncio.sleep(0)
            self._server = None
        if self._ca is not None:
            self._ca.cleanup()
            self._ca = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _pumped(self, task: asyncio.Task[None]) -> None:
        """The pump must not die unseen: without it the exchange is closed."""
        if not task.cancelled() and task.exception() is not None and self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                abort(writer)

    def _make_tls(self) -> ssl.SSLContext:
        from watchhamster.sim.certificates import make_certificates

        self._ca = TemporaryDirectory(prefix="watchhamster-sim-")
        return make_certificates(Path(self._ca.name))

    # ---------------------------------------------------------------- HTTP

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self.faults.holds("down"):
                abort(writer, reset=True)
            else:
                await self._converse(reader, writer)
        except (ConnectionError, ssl.SSLError, h11.RemoteProtocolError):
            pass  # the client's end of it is the client's business
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests on one connection until it closes or becomes a stream."""
        address = str((writer.get_extra_info("peername") or ("local",))[0])
        connection = h11.Connection(h11.SERVER)
        while True:
            request = await self._next(connection, reader)
            if request is None:
                return
            body = b""
            while not isinstance(event := await self._event(connection, reader), h11.EndOfMessage):
                if not isinstance(event, h11.Data):
                    return
                body += event.data
            headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
            if headers.get("upgrade", "").lower() == "websocket":
                await self._stream(reader, writer, request, connection.trailing_data[0], address)
                return
            await self._respond(connection, writer, request, headers, body, address)
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()

    async def _next(self, connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
        event = await self._event(connection, reader)
        return event if isinstance(event, h11.Request) else None

    @staticmethod
    async def _event(connection: h11.Connection, reader: asyncio.StreamReader) -> object:
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(await reader.read(65536))
        return event

    async def _respond(
        self,
        connection: h11.Connection,
        writer: asyncio.StreamWriter,
        request: h11.Request,
        headers: dict[str, str],
        body: bytes,
        address: str,
    ) -> None:
        parts = urlsplit(request.target.decode("latin-1"))
        method = request.method.decode()
        if parts.path.startswith("/sim/"):
            await self._control(connection, writer, method, parts.path, dict(parse_qsl(parts.query)), body)
            return
        if self.faults.word("hang") in ("rest", "all"):
            await self._while("hang")
        delay_s = self.faults.number("slow")
        if delay_s is not None:
            await self.clock.sleep(delay_s)
        answer, extra = self._quotation(method, parts.path, parts.query, headers, address)
        data = answer.body.encode()
        kind = "application/json;charset=utf-8"
        if answer.group is not None:
            if self.faults.strikes("html"):
                answer, data, kind = answer._replace(status=200), _HTML.encode(), "text/html"
            elif self.faults.strikes("error200"):
                data = error_body("internal_server_error", "잠시 후 다시 시도해주세요.").encode()
                answer = answer._replace(status=200)
        if not answer.body.startswith(("{", "[")) and kind.startswith("application"):
            kind = "text/plain;charset=utf-8"
        cut = answer.group is not None and self.faults.strikes("truncate")
        fields = [("Content-Type", kind), ("Content-Length", str(len(data))), *extra]
        writer.write(connection.send(_response(answer.status, fields)) or b"")
        if cut:
            writer.write(data[: len(data) // 2])
            await writer.drain()
            abort(writer)
            return
        writer.write((connection.send(h11.Data(data)) or b"") + (connection.send(h11.EndOfMessage()) or b""))
        await writer.drain()

    def _quotation(
        self, method: str, path: str, query: str, headers: dict[str, str], address: str
    ) -> tuple[Answer, list[tuple[str, str]]]:
        """The venue's answer to a REST call with its own headers, limits and faults applied."""
        from watchhamster.sim.upbit import NO_ROUTE, group_of

        prefix = "/upbit/v1"
        group = group_of(path.removeprefix(prefix)) if path.startswith(prefix + "/") else None
        if group is None or method != "GET":
            return NO_ROUTE, []
        if self.faults.holds("maintenance"):
            return Answer(500, error_body("internal_server_error", "서버 점검 중입니다."), group), []
        if "origin" in headers:
            left, block_s = self._limits.take("origin", address, 1, 10)
            extra = [("Remaining-Req", f"group=origin; min=6; sec={max(0, left)}")]
        else:
            left, block_s = self._limits.take(group, address, 10)
            extra = [("Remaining-Req", f"group={group}; min=600; sec={max(0, left)}")]
        extra += [("Limit-By-Ip", "Yes"), ("Cache-Control", "no-cache, no-store, max-age=0, must-revalidate")]
        if self.faults.strikes("http418"):
            left, block_s = -1, 10.0
        elif self.faults.strikes("http429"):
            left, block_s = -1, 0.0
        if left < 0 and block_s:
            seconds = int(block_s) + 1 if block_s % 1 else int(block_s)
            message = f"Too many API requests. Blocked for {seconds} seconds."
            return Answer(418, error_body("too_many_requests", message), group), extra
        if left < 0:
            return Answer(429, "Too many API requests.", group), extra
        if self.faults.strikes("http5xx"):
            status = self.faults.random.choice((500, 502, 503))
            return Answer(status, error_body("internal_server_error", "서버 오류가 발생했습니다."), group), extra
        self._delist()
        answer = self.venue.answer(path.removeprefix(prefix), dict(parse_qsl(query, True)), self.now_ns())
        return answer, [*extra, ("ETag", f'W/"{hash(answer.body) & (2**64 - 1):x}"')]

    def _delist(self) -> None:
        if self.faults.any or self.venue.delisted:
            self.venue.delisted = frozenset(self.faults.values("delist"))

    async def _while(self, fault: str) -> None:
        """Return when the fault no longer holds."""
        while self.faults.holds(fault):
            await self.clock.sleep(0.1)

    # ---------------------------------------------------------------- control

    async def _control(
        self,
        connection: h11.Connection,
        writer: asyncio.StreamWriter,
        method: str,
        path: str,
        query: dict[str, str],
        body: bytes,
    ) -> None:
        """`/sim/faults` and `/sim/truth/…`; an error is an object as on the command line, with status 400."""
        status, lines = 200, iter(())
        try:
            if path == "/sim/faults" and method in ("GET", "PUT", "DELETE"):
                if method == "PUT":
                    self.faults.set(body.decode("utf-8", "replace").strip() or query.get("spec", ""))
                elif method == "DELETE":
                    self.faults.clear()
                self._wake.set()
                lines = iter([json.dumps({"faults": self.faults.listed()}).encode()])
            elif path in ("/sim/truth/trades", "/sim/truth/candles") and method == "GET":
                lines = self._truth(path.rpartition("/")[2], query)
            elif path == "/sim/now" and method == "GET":
                lines = iter([json.dumps({"now_ns": self.now_ns()}).encode()])
            else:
                raise UsageError("unknown_path", Text("There is no {method} {path}.", {"method": method, "path": path}))
        except WatchHamsterError as error:
            status = 400
            told = {"code": error.code, "message": str(error.text), "hint": str(error.hint) if error.hint else None}
            lines = iter([json.dumps({"error": told}, ensure_ascii=False).encode()])
        head = [("Content-Type", "application/x-ndjson"), ("Transfer-Encoding", "chunked")]
        writer.write(connection.send(_response(status, head)) or b"")
        began, chunk = time.perf_counter(), []
        for line in lines:
            chunk.append(line)
            if time.perf_counter() - began > 0.005:  # long truths are made in slices
                writer.write(connection.send(h11.Data(b"\n".join(chunk) + b"\n")) or b"")
                await writer.drain()
                await asyncio.sleep(0)
                began, chunk = time.perf_counter(), []
        if chunk:
            writer.write(connection.send(h11.Data(b"\n".join(chunk) + b"\n")) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()

    def _truth(self, what: str, query: dict[str, str]) -> Iterator[bytes]:
        venue, _, symbol = query.get("instrument", "").partition(":")
        if venue != "upbit":
            raise UsageError("unknown_instrument", Text("Give instrument=upbit:SYMBOL."))
        self.world.listing(symbol)
        now_ns = self.now_ns()
        try:
            since_ns = int(query.get("since_ns") or now_ns - 3600 * _SECOND_NS)
            until_ns = min(int(query.get("until_ns") or now_ns + 1), now_ns + 1)
        except ValueError:
            raise UsageError("bad_time", Text("since_ns and until_ns are integers, nanoseconds UTC.")) from None
        if what == "trades":
            return (to_json(trade) for trade in self.true_trades(symbol, since_ns, until_ns))
        frame = query.get("timeframe", "1m")
        timeframe(frame)
        return (to_json(candle) for candle in self.true_candles(symbol, frame, since_ns, until_ns))

    def true_trades(self, symbol: str, since_ns: int, until_ns: int) -> Iterator[Trade]:
        """What really traded in `[since_ns, until_ns)`, faults or not, up to now; oldest first."""
        listing = self.world.listing(symbol)
        p, s = 10**listing.price_decimals, 10**listing.size_decimals
        for one in self.world.trades(symbol, since_ns, min(until_ns, self.now_ns() + 1)):
            side = "buy" if one.buy else "sell"
            yield Trade(f"upbit:{symbol}", one.ms * MS, None, one.id, one.price / p, one.lots / s, side)  # type: ignore[arg-type]

    def true_candles(self, symbol: str, frame: str, since_ns: int, until_ns: int) -> Iterator[Candle]:
        """What candles of the timeframe really opened in `[since_ns, until_ns)`, up to now; oldest first."""
        listing = self.world.listing(symbol)
        tf = timeframe(frame)
        now_ns = self.now_ns()
        p, s = 10**listing.price_decimals, 10**listing.size_decimals
        for bar in self.world.candles_between(symbol, tf, since_ns, until_ns, now_ns):
            closed = tf.next_ns(bar.open_ns) <= now_ns
            prices = [price / p for price in bar[1:5]]
            yield Candle(f"upbit:{symbol}", frame, bar.open_ns, *prices, bar.lots / s, bar.value, closed, "simulated")

    # ---------------------------------------------------------------- streams: one client

    async def _stream(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        request: h11.Request,
        rest: bytes,
        address: str,
    ) -> None:
        protocol = ServerProtocol(max_size=2**20)
        lines = [b"GET " + request.target + b" HTTP/1.1", *(n + b": " + v for n, v in request.headers.raw_items())]
        protocol.receive_data(b"\r\n".join(lines) + b"\r\n\r\n" + rest)
        stream = Stream(writer, protocol, self.clock.monotonic())
        if self.faults.word("hang") in ("ws", "all"):
            await self._while("hang")
        if not self._greet(stream, request.target.decode("latin-1"), address):
            stream.flush()
            await writer.drain()
            return
        self.streams.add(stream)
        try:
            await self._listen(stream, reader)
        finally:
            self.streams.discard(stream)

    def _greet(self, stream: Stream, target: str, address: str) -> bool:
        """Answer the handshake; False if it was refused."""
        protocol = stream.protocol
        handshake = next(iter(protocol.events_received()), None)
        if not isinstance(handshake, Handshake):
            return False
        origin = "Origin" in handshake.headers
        group, most, seconds = ("origin", 1, 10) if origin else ("websocket-connect", 5, 1)
        left, _block_s = self._limits.take(group, address, most, seconds)
        status = self.faults.number("refuse")
        if self.faults.holds("maintenance"):
            status = 503
        if urlsplit(target).path != "/upbit/websocket/v1":
            status = 404
        if urlsplit(target).path in ("/upbit/websocket/v1/private", "/upbit/websocket/v1/info"):
            status = 401
        if status is not None:
            protocol.send_response(protocol.reject(int(status), "refused\n"))
            return False
        if left < 0:
            protocol.send_response(protocol.reject(429, "Too many API requests."))  # type: ignore[arg-type]
            return False
        response = protocol.accept(handshake)
        response.headers["remaining-req"] = f"group=websocket; min=300; sec={left}"
        response.headers["limit-by-ip"] = "Yes"
        protocol.send_response(response)
        stream.flush()
        return protocol.state is State.OPEN

    async def _listen(self, stream: Stream, reader: asyncio.StreamReader) -> None:
        protocol = stream.protocol
        while data := await reader.read(65536):
            await self._while("stall")
            protocol.receive_data(data)
            stream.active = self.clock.monotonic()
            for event in protocol.events_received():
                opcode = getattr(event, "opcode", None)
                if opcode in (Opcode.TEXT, Opcode.BINARY):
                    await self._heard(stream, event.data.decode("utf-8", "replace"))  # type: ignore[union-attr]
            stream.flush()
            if protocol.state is not State.OPEN:
                break
            await stream.writer.drain()
        protocol.receive_eof()
        stream.flush()

    async def _heard(self, stream: Stream, text: str) -> None:
        """A message from a client: PING, or a request that replaces its subscriptions."""
        now = self.clock.monotonic()
        if text.strip() == "PING":
            if stream.up_at is None:
                stream.up_at = now + 6.0
            return
        try:
            stream.messages = [at for at in stream.messages if now - at < 60.0] + [now]
            recent = sum(now - at < 1.0 for at in stream.messages)
            if recent > 5 or len(stream.messages) > 100:
                raise StreamError("TOO_MANY_REQUEST", "요청 수 제한을 초과했습니다.")
            request = read_request(text)
            wrong = self.faults.word("subscribe_error")
            if wrong is not None:
                raise StreamError(wrong, "요청을 처리할 수 없습니다.")
        except StreamError as error:
            self._write(stream, error.frame())
            stream.closing = True
            await self.clock.sleep(0.16)
            stream.protocol.send_close(1000)
            return
        if request.style is not None or request.wants is not None:
            stream.style = request.style or STYLES["DEFAULT"]
        if request.wants is None:
            self._write(stream, list_frame(request.ticket, stream.types, stream.style))
            return
        stream.types = request.types
        stream.wants = [want for want in dict.fromkeys(request.wants) if self.venue.listed(want.code, self.now_ns())]
        stream.snapshots = [want for want in stream.wants if want.snapshot]
        self._wake.set()

    def _write(self, stream: Stream, frame: bytes) -> None:
        """Send one frame as it is."""
        if stream.closing or stream.protocol.state is not State.OPEN:
            return
        if self.faults.holds("text"):
            stream.protocol.send_text(frame)
        else:
            stream.protocol.send_binary(frame)
        pace = self.faults.number("trickle") if self.faults.any else None
        if pace is not None or stream.trickle:
            stream.trickle += b"".join(stream.protocol.data_to_send())
            del stream.trickle[_BACKLOG_BYTES:]
            return
        stream.flush()
        stream.active = self.clock.monotonic()
        if stream.writer.transport.get_write_buffer_size() > _BACKLOG_BYTES:
            stream.abort()

    def _deliver(self, stream: Stream, frame: bytes) -> None:
        """Send one frame of data, spoilt as the faults in force want it."""
        if not self.faults.any:
            self._write(stream, frame)
            return
        faults = self.faults
        if faults.holds("mute") or faults.holds("stall"):
            return
        if faults.strikes("garbage"):
            self._write(stream, faults.random.choice(_GARBAGE))
        if faults.strikes("absurd"):
            self._write(stream, _absurd(faults, frame))
        if faults.strikes("unknown"):
            self._write(stream, faults.random.choice(_UNKNOWN))
        if faults.strikes("lose"):
            return
        if faults.strikes("corrupt"):
            self._write(stream, _spoilt(faults, frame))
            return
        if faults.strikes("reorder") and len(stream.held) < 16:
            stream.held.append(frame)
            return
        self._write(stream, frame)
        stream.last = frame
        if faults.strikes("duplicate"):
            self._write(stream, frame)
        if stream.held and faults.random.random() < 0.5:
            self._write(stream, stream.held.pop(faults.random.randrange(len(stream.held))))

    # ---------------------------------------------------------------- streams: all clients

    async def _pump(self) -> None:
        """Carry the market to the streams, for ever."""
        while True:
            self._wake.clear()
            self._strike()
            await self._tell()
            wait_s = self._until_next()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    def _until_next(self) -> float:
        """Seconds until there may be something to send."""
        wait_s = 0.1
        if self._channels:
            now_ns = self.now_ns()
            for channel in self._channels.values():
                wait_s = min(wait_s, (channel.next_ns - now_ns) / self.market.speed / _SECOND_NS)
        return max(wait_s, 0.004)

    def _strike(self) -> None:
        """Faults that are events, and what happens to streams by the clock."""
        now = self.clock.monotonic()
        if self.faults.any:
            self._delist()
            for fault in self.faults.due():
                self._once(fault)
            if self.faults.holds("maintenance") or self.faults.holds("down"):
                for writer in list(self._writers):
                    if self.faults.holds("down"):
                        abort(writer, reset=True)
                for stream in list(self.streams):
                    stream.abort()
        idle_s = self.faults.number("idle") if self.faults.any else None
        for stream in list(self.streams):
            if now - stream.active >= (60.0 if idle_s is None else idle_s):
                stream.abort()  # as on the wire: without a close frame
            elif stream.up_at is not None and now >= stream.up_at:
                stream.up_at += 10.0
                if not self.faults.holds("mute") and not self.faults.holds("stall"):
                    self._write(stream, b'{"status":"UP"}')
            if self.faults.any or stream.trickle:
                self._pace(stream, now)

    def _pace(self, stream: Stream, now: float) -> None:
        """Streams that trickle or are flooded."""
        pace = self.faults.number("trickle")
        if stream.trickle:
            due = len(stream.trickle) if pace is None else int((now - stream.trickled_at) * pace)
            if due:
                stream.writer.write(bytes(stream.trickle[:due]))
                del stream.trickle[:due]
                stream.trickled_at = stream.active = now
        else:
            stream.trickled_at = now
        flood = self.faults.number("flood")
        if flood is not None and stream.last is not None:
            for _ in range(min(int((now - stream.flooded_at) * flood), 2_000)):
                self._write(stream, stream.last)
            self._wake.set()
        stream.flooded_at = now

    def _once(self, fault: Fault) -> None:
        match fault.name:
            case "drop":
                code = int(float(fault.value))
                for stream in list(self.streams):
                    if code == 1006:
                        stream.abort()
                    elif not stream.closing and stream.protocol.state is State.OPEN:
                        stream.protocol.send_close(code)
                        stream.flush()
                        stream.closing = True
            case "reset":
                for writer in list(self._writers):
                    abort(writer, reset=True)
            case "big":
                for stream in list(self.streams):
                    self._write(stream, b'{"type":"' + b"x" * int(float(fault.value)) + b'"}')

    async def _tell(self) -> None:
        """Send everything that happened since the last time."""
        by_symbol: dict[str, list[tuple[Stream, Want]]] = {}
        for stream in list(self.streams):
            if stream.snapshots:
                await self._snapshot(stream)
            for want in stream.wants:
                if want.realtime:
                    by_symbol.setdefault(want.code, []).append((stream, want))
        for symbol in self._channels.keys() - by_symbol.keys():
            del self._channels[symbol]
        now = self.clock.monotonic()
        candles_due = now - self._candles_at >= 1.0
        if candles_due:
            self._candles_at = now
        began = time.perf_counter()
        for symbol, listeners in by_symbol.items():
            if symbol not in self.venue.delisted:
                self._tell_symbol(symbol, listeners, candles_due)
            if time.perf_counter() - began > 0.005:
                await asyncio.sleep(0)
                began = time.perf_counter()
        if self._late:
            self._tell_late(now, by_symbol)

    async def _snapshot(self, stream: Stream) -> None:
        """First frames of a subscription, a few at a time so that a long list does not hold the loop."""
        owed, stream.snapshots = stream.snapshots, []
        began = time.perf_counter()
        for want in owed:
            now_ns = self.now_ns()
            frame = self._snapshot_of(want, stream.style, now_ns)
            if frame is not None:
                self._deliver(stream, frame)
            if time.perf_counter() - began > 0.005:
                await asyncio.sleep(0)
                began = time.perf_counter()

    def _snapshot_of(self, want: Want, style: Style, now_ns: int) -> bytes | None:
        symbol = want.code
        match want.kind:
            case "ticker":
                return self.venue.ticker_frame(symbol, now_ns, style, "SNAPSHOT")
            case "trade":
                last = self.world.last_trade(symbol, now_ns)
                return last and self.venue.trade_frame(symbol, last, now_ns, style, "SNAPSHOT")
            case "orderbook":
                return self._book_of(want, style, now_ns, "SNAPSHOT")
            case _:
                bars = self.world.candles(symbol, want.timeframe, now_ns + 1, 1, now_ns)
                return self.venue.candle_frame(symbol, want.kind, bars[0], style, "SNAPSHOT") if bars else None

    def _book_of(self, want: Want, style: Style, now_ns: int, stream_type: StreamType) -> bytes | None:
        group = self.venue.level_of(want.code, want.level, now_ns)
        if group is None:
            return None
        depth = self.world.book(want.code, now_ns, 30, group)
        return self.venue.book_frame(want.code, depth, want.units, want.level, style, stream_type)

    def _tell_symbol(self, symbol: str, listeners: list[tuple[Stream, Want]], candles_due: bool) -> None:
        now_ns = self.now_ns()
        channel = self._channels.get(symbol)
        if channel is None:
            channel = self._channels[symbol] = _Channel(now_ns)
            channel.next_ns = self.world.next_trade(symbol, now_ns).ms * MS
        traded: list[Print] = []
        if now_ns >= channel.next_ns:
            traded = list(self.world.trades(symbol, channel.told_ns + 1, now_ns + 1))
            channel.next_ns = self.world.next_trade(symbol, now_ns).ms * MS
        channel.told_ns = max(channel.told_ns, now_ns)
        if traded:
            self._tell_trades(symbol, traded, listeners, now_ns)
            self._send(listeners, "ticker", lambda style: self.venue.ticker_frame(symbol, now_ns, style, "REALTIME"))
            for kind in {want.kind for _s, want in listeners if want.kind in CANDLE_TYPES}:
                frame = timeframe(CANDLE_TYPES[kind])
                opens = channel.candles.setdefault(kind, [])
                for one in traded:
                    open_ns = frame.open_ns(one.ms * MS)
                    if not opens or opens[-1] != open_ns:
                        opens.append(open_ns)
                del opens[:-600]
        if candles_due and channel.candles:
            self._tell_candles(symbol, channel, listeners, now_ns)
        slot = (self.clock.monotonic() * 1000 + self.world.listing(symbol).index * 37) // _BOOK_MS
        if slot != channel.book_slot:
            channel.book_slot = slot
            self._tell_books(symbol, channel, listeners, now_ns)

    def _tell_trades(
        self, symbol: str, traded: Iterable[Print], listeners: list[tuple[Stream, Want]], now_ns: int
    ) -> None:
        late_s = self.faults.number("late") if self.faults.any else None
        for one in traded:
            if late_s is not None and self.faults.random.random() < 0.3:
                self._late.append((self.clock.monotonic() + self.faults.random.random() * late_s, symbol, one))
                continue
            self._send(
                listeners,
                "trade",
                lambda style, one=one: self.venue.trade_frame(symbol, one, now_ns, style, "REALTIME"),
            )

    def _tell_late(self, now: float, by_symbol: dict[str, list[tuple[Stream, Want]]]) -> None:
        due = sorted(entry for entry in self._late if entry[0] <= now)
        self._late = [entry for entry in self._late if entry[0] > now]
        for _at, symbol, one in due:
            now_ns = self.now_ns()
            self._send(
                by_symbol.get(symbol, []),
                "trade",
                lambda style, s=symbol, o=one, t=now_ns: self.venue.trade_frame(s, o, t, style, "REALTIME"),
            )

    def _tell_candles(self, symbol: str, channel: _Channel, listeners: list[tuple[Stream, Want]], now_ns: int) -> None:
        for kind, opens in channel.candles.items():
            frame = timeframe(CANDLE_TYPES[kind])
            for open_ns in opens:
                bars = self.world.candles(symbol, frame, open_ns + 1, 1, now_ns)

                def spell(style: Style, kind: str = kind, bar: Bar = bars[0]) -> bytes:
                    return self.venue.candle_frame(symbol, kind, bar, style, "REALTIME")

                self._send(listeners, kind, spell)
        channel.candles.clear()

    def _tell_books(self, symbol: str, channel: _Channel, listeners: list[tuple[Stream, Want]], now_ns: int) -> None:
        levels = {want.level for _stream, want in listeners if want.kind == "orderbook"}
        for level in levels:
            group = self.venue.level_of(symbol, level, now_ns)
            if group is None:
                continue
            depth = self.world.book(symbol, now_ns, 30, group)
            if channel.books.get((0, level)) == depth.ms:
                continue
            channel.books[0, level] = depth.ms
            made: dict[tuple[Style, int], bytes] = {}
            for stream, want in listeners:
                if want.kind == "orderbook" and want.level == level:
                    key = (stream.style, want.units)
                    if key not in made:
                        made[key] = self.venue.book_frame(symbol, depth, want.units, level, stream.style, "REALTIME")
                    self._deliver(stream, made[key])

    def _send(self, listeners: list[tuple[Stream, Want]], kind: str, make: object) -> None:
        """Give a frame to everyone who wants this kind, written once per style."""
        made: dict[Style, bytes | None] = {}
        for stream, want in listeners:
            if want.kind == kind:
                if stream.style not in made:
                    made[stream.style] = make(stream.style)  # type: ignore[operator]
                frame = made[stream.style]
                if frame is not None:
                    self._deliver(stream, frame)


def _response(status: int, fields: list[tuple[str, str]]) -> h11.Response:
    return h11.Response(status_code=status, headers=[(name, value) for name, value in fields])


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
    b'{"type":"lottery","code":"KRW-BTC","numbers":[4,8,15]}',
    b'{"type":"trade","code":"KRW-BTC","trade_price":null,"trade_volume":1.0,"stream_type":"REALTIME"}',
    b'{"type":"ticker","code":"KRW-BTC","stream_type":"REALTIME"}',
    b'{"type":"orderbook","code":"KRW-BTC","orderbook_units":[{}],"stream_type":"REALTIME"}',
    b'{"hello":"world"}',
    b'{"ty":"trade","cd":"KRW-BTC"}',
)


def _absurd(faults: Faults, frame: bytes) -> bytes:
    """The frame with one of its numbers replaced by something no market prints."""
    for name in (b'"trade_price":', b'"tp":', b'"ask_price":', b'"ap":', b'"trade_timestamp":', b'"ttms":'):
        at = frame.find(name)
        if at >= 0 and faults.random.random() < 0.6:
            start = at + len(name)
            stop = start
            while frame[stop : stop + 1] not in (b",", b"}"):
                stop += 1
            number = faults.random.choice((b"NaN", b"0", b"-1.5", b"1e300", b"1e999", b"99999999999999999999"))
            return frame[:start] + number + frame[stop:]
    return b'{"type":"trade","code":"KRW-BTC","trade_price":-1,"trade_volume":0,"stream_type":"REALTIME"}'


def _spoilt(faults: Faults, frame: bytes) -> bytes:
    way = faults.random.randrange(3)
    if way == 0:
        return frame[: faults.random.randrange(1, max(2, len(frame)))]
    at = faults.random.randrange(len(frame))
    return frame[:at] + (b"\xff" if way == 1 else b"{") + frame[at + 1 :]
