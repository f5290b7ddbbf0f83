"""The exchange on a loopback port: HTTP by h11 over asyncio streams, upgrades handed to websockets' sans-I/O server.

Each venue hangs below its name, such as `/upbit`; `/sim/…` is the control side, which no fault touches.
"""

from __future__ import annotations

import asyncio
import email.utils
import gzip
import json
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self
from urllib.parse import parse_qsl, urlsplit

import h11
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import State
from websockets.server import ServerProtocol

from watchhamster.core.market import to_json
from watchhamster.core.ports import Clock, UsageError, WatchHamsterError
from watchhamster.core.text import Text
from watchhamster.sim.exchange import Exchange
from watchhamster.sim.face import SECOND_NS, Call, Floor, Session
from watchhamster.sim.stocks import Stocks
from watchhamster.sim.world import World

_BACKLOG_BYTES = 8 * 2**20  # a client that does not read is cut when so much waits for it


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


def _cut(writer: asyncio.StreamWriter, *, reset: bool = False) -> None:
    """End a connection at once, with what was not yet sent lost."""
    if reset:
        with suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


class _WebSocket:
    """A stream's outlet: frames through the protocol into the socket, at a trickle where that fault holds."""

    def __init__(self, writer: asyncio.StreamWriter, floor: Floor, protocol: ServerProtocol) -> None:
        self.protocol = protocol
        self._writer = writer
        self._floor = floor
        self._trickle = bytearray()
        self._trickled_at = floor.clock.monotonic()

    def frame(self, data: bytes, *, text: bool) -> None:
        """Send one data frame."""
        if self.protocol.state is State.OPEN:
            if text:
                self.protocol.send_text(data)
            else:
                self.protocol.send_binary(data)
            self.flush()

    def close(self, code: int) -> None:
        """Close with a close frame."""
        if self.protocol.state is State.OPEN:
            self.protocol.send_close(code)
            self.flush()

    def cut(self, *, reset: bool = False) -> None:
        """Close without one."""
        _cut(self._writer, reset=reset)

    def flush(self) -> None:
        """Write what the protocol has to say."""
        for data in self.protocol.data_to_send():
            if self._trickle or (data and self._floor.faults.holds("trickle")):
                self._trickle += data
            elif data:
                self._writer.write(data)
            elif self._writer.can_write_eof():
                self._writer.write_eof()
        if len(self._trickle) + self._writer.transport.get_write_buffer_size() > _BACKLOG_BYTES:
            self.cut()

    def tick(self) -> None:
        """Let the next bytes of the trickle out."""
        now = self._floor.clock.monotonic()
        pace = self._floor.faults.number("trickle")
        due = len(self._trickle) if pace is None else int((now - self._trickled_at) * pace)
        if due:  # writing even nothing is an error once this side has said that it is done
            self._writer.write(bytes(self._trickle[:due]))
            del self._trickle[:due]
        if due or not self._trickle:
            self._trickled_at = now


class Simulator:
    """Local venues. Use as an async context manager, or `start` and `stop`.

    `port` 0 takes a free one. `start_ns` puts the market at another moment, `speed` lets its time run faster,
    `activity` multiplies how much is traded; `faults` is a spec as in `FAULTS`. Raises `UsageError` for what cannot be.
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
        self.exchange = Exchange(
            clock or WallClock(), seed=seed, faults=faults, speed=speed, start_ns=start_ns, activity=activity
        )
        self._port = port
        self._tls = tls
        self._folder: TemporaryDirectory[str] | None = None
        self._server: asyncio.Server | None = None
        self._pump: asyncio.Task[None] | None = None
        self._conversations: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def world(self) -> World:
        """The market of coins itself, to be asked directly."""
        return self.exchange.world

    @property
    def stocks(self) -> Stocks:
        """The markets with sessions, to be asked directly."""
        return self.exchange.stocks

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT` (https with TLS)."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._port}"

    @property
    def venues(self) -> dict[str, str]:
        """Base URL of each venue it plays."""
        return {venue: f"{self.url}/{venue}" for venue in self.exchange.faces}

    @property
    def ca(self) -> Path | None:
        """The throw-away CA's certificate, with TLS and while it runs."""
        return Path(self._folder.name) / "ca.pem" if self._folder else None

    def ready(self) -> dict[str, object]:
        """The line that says where it listens."""
        line: dict[str, object] = {"listening": self.url, "venues": self.venues}
        if self.ca is not None:
            line["ca"] = str(self.ca)
        return line

    def now_ns(self) -> int:
        """The market's time."""
        return self.exchange.now_ns()

    # ---------------------------------------------------------------- life

    async def start(self) -> None:
        """Listen. Faults count their times from here. Raises `UsageError` (`port_in_use`)."""
        await self.exchange.warm()
        context = None
        if self._tls:
            from watchhamster.sim.certificates import make_certificates  # cryptography is slow to import

            self._folder = TemporaryDirectory(prefix="watchhamster-sim-")
            context = make_certificates(Path(self._folder.name))
        try:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port, ssl=context)
        except OSError as error:
            raise UsageError(
                "port_in_use",
                Text("The simulator cannot listen on port {port}: {why}.", {"port": self._port, "why": str(error)}),
                Text("Give another --port, or none for a free one."),
            ) from error
        self._port = self._server.sockets[0].getsockname()[1]
        self.exchange.faults.restart()
        self._pump = asyncio.get_running_loop().create_task(self.exchange.run(), name="simulated exchange")
        self._pump.add_done_callback(self._pumped)

    async def stop(self) -> None:
        """Stop listening and end every conversation."""
        if self._server is None or self._pump is None:
            return
        server, self._server = self._server, None
        server.close()
        self._pump.cancel()
        for task, writer in list(self._conversations.items()):
            _cut(writer)
            task.cancel()
        await asyncio.gather(self._pump, *self._conversations, return_exceptions=True)
        await server.wait_closed()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _pumped(self, pump: asyncio.Task[None]) -> None:
        """The pump must not die unseen: without it nobody is served, and the loop's handler hears why."""
        if not pump.cancelled() and (error := pump.exception()) is not None:
            if self._server is not None:
                self._server.close()
            for writer in self._conversations.values():
                _cut(writer)
            context = {"message": "the simulated exchange failed", "exception": error, "task": pump}
            pump.get_loop().call_exception_handler(context)

    # ---------------------------------------------------------------- HTTP

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._conversations[task] = writer
        try:
            await self._converse(reader, writer)
        except (OSError, h11.RemoteProtocolError):  # ssl.SSLError is one
            pass  # what the client does with its end is its own business
        except asyncio.CancelledError:
            pass  # by stop(), which waits for this end of it
        finally:
            del self._conversations[task]
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests on one connection until it closes or becomes a stream."""
        address = str((writer.get_extra_info("peername") or ("local",))[0])
        connection = h11.Connection(h11.SERVER)

        async def event() -> object:
            while (one := connection.next_event()) is h11.NEED_DATA:
                connection.receive_data(await reader.read(65536))
            return one

        while isinstance(request := await event(), h11.Request):
            body = b""
            while isinstance(part := await event(), h11.Data):
                body += part.data
            if not isinstance(part, h11.EndOfMessage):
                return
            url = urlsplit(request.target.decode("latin-1"))
            headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
            method = request.method.decode()
            venue, slash, path = url.path[1:].partition("/")
            call = Call(method, slash + path, url.query, headers, address, body)
            if venue == "sim":
                await self._control(connection, writer, method, url.path, dict(parse_qsl(url.query)), body)
            elif venue not in self.exchange.faces:
                _say(connection, writer, h11.Response(status_code=404, headers=[("Content-Length", "0")]))
                _say(connection, writer, h11.EndOfMessage())
            elif self.exchange.faces[venue].floor.faults.holds("down"):
                _cut(writer, reset=True)
                return
            elif headers.get("upgrade", "").lower() == "websocket":
                await self._stream(reader, writer, request, connection.trailing_data[0], venue, call)
                return
            else:
                reply = await self.exchange.call(venue, call)
                data = reply.body
                fields = reply.headers
                if "gzip" in headers.get("accept-encoding", "") and len(data) > 1000:
                    data = gzip.compress(data, 1)
                    fields = [*fields, ("Content-Encoding", "gzip")]
                now_s = self.now_ns() // SECOND_NS + self.exchange.faces[venue].floor.skew_s()
                date = email.utils.formatdate(now_s, usegmt=True)
                fields = [*fields, ("Content-Length", str(len(data))), ("Date", date)]
                _say(connection, writer, h11.Response(status_code=reply.status, headers=fields))
                if reply.cut:
                    writer.write(data[: len(data) // 2])
                    return
                _say(connection, writer, h11.Data(data), h11.EndOfMessage())
            await writer.drain()
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()

    async def _control(
        self,
        connection: h11.Connection,
        writer: asyncio.StreamWriter,
        method: str,
        path: str,
        query: dict[str, str],
        body: bytes,
    ) -> None:
        """`/sim/faults`, `/sim/truth/…`, `/sim/manners`, `/sim/now`. An error is an object, with status 400."""
        status = 200
        lines: Iterator[bytes]
        try:
            faults = self.exchange.faults
            match method, path.split("/")[2:]:
                case (("GET" | "PUT" | "DELETE"), ["faults"]):
                    if method == "PUT":
                        faults.set(body.decode("utf-8", "replace").strip() or query.get("spec", ""))
                    elif method == "DELETE":
                        faults.clear()
                    self.exchange.wake()
                    lines = iter([json.dumps({"faults": faults.listed()}).encode()])
                case "GET", ["truth", ("trades" | "candles") as what]:
                    lines = self._truth(what, query)
                case "GET", ["now"]:
                    lines = iter([json.dumps({"now_ns": self.now_ns()}).encode()])
                case "GET", ["manners"]:
                    manners = {venue: face.floor.manners.told() for venue, face in self.exchange.faces.items()}
                    lines = iter([json.dumps(manners).encode()])
                case _:
                    raise UsageError("unknown_path", Text("No {method} {path} here.", {"method": method, "path": path}))
        except WatchHamsterError as error:
            status = 400
            told = {"code": error.code, "message": str(error.text), "hint": str(error.hint) if error.hint else None}
            lines = iter([json.dumps({"error": told}, ensure_ascii=False).encode()])
        head = [("Content-Type", "application/x-ndjson"), ("Transfer-Encoding", "chunked")]
        _say(connection, writer, h11.Response(status_code=status, headers=head))
        for chunk in _chunks(lines, 200):
            _say(connection, writer, h11.Data(chunk))
            await writer.drain()
            await asyncio.sleep(0)  # long truths leave the loop to others in between
        _say(connection, writer, h11.EndOfMessage())

    def _truth(self, what: str, query: dict[str, str]) -> Iterator[bytes]:
        venue, _, symbol = query.get("instrument", "").partition(":")
        face = self.exchange.faces.get(venue)
        if face is None:
            known = ", ".join(f"{venue}:SYMBOL" for venue in self.exchange.faces)
            raise UsageError("unknown_instrument", Text("Give instrument={known}.", {"known": known}))
        now_ns = self.now_ns()
        try:
            since_ns = int(query.get("since_ns") or now_ns - 3600 * SECOND_NS)
            until_ns = min(int(query.get("until_ns") or now_ns + 1), now_ns + 1)
        except ValueError:
            raise UsageError("bad_time", Text("since_ns and until_ns are integers, nanoseconds UTC.")) from None
        if what == "trades":
            return map(to_json, face.true_trades(symbol, since_ns, until_ns))
        return map(to_json, face.true_candles(symbol, query.get("timeframe", "1m"), since_ns, until_ns))

    # ---------------------------------------------------------------- WebSocket

    async def _stream(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        request: h11.Request,
        rest: bytes,
        venue: str,
        call: Call,
    ) -> None:
        protocol = ServerProtocol(extensions=[ServerPerMessageDeflateFactory()], max_size=2**20)
        outlet = _WebSocket(writer, self.exchange.faces[venue].floor, protocol)
        lines = [b"GET " + request.target + b" HTTP/1.1", *(name + b": " + value for name, value in request.headers)]
        protocol.receive_data(b"\r\n".join(lines) + b"\r\n\r\n" + rest)
        admission = await self.exchange.admit(venue, call)
        handshake = next(iter(protocol.events_received()), None)
        if not isinstance(handshake, Handshake):
            return
        if admission.status == 101:
            response = protocol.accept(handshake)
            if response.status_code == 101:
                for name, value in admission.headers:
                    response.headers[name] = value
        else:
            response = protocol.reject(admission.status, admission.why)
        protocol.send_response(response)
        outlet.flush()
        await writer.drain()
        if protocol.state is not State.OPEN:
            return
        session = self.exchange.join(outlet, venue, f"{call.path}?{call.query}")
        try:
            await self._listen(reader, session, outlet)
        finally:
            self.exchange.leave(session)

    async def _listen(self, reader: asyncio.StreamReader, session: Session, outlet: _WebSocket) -> None:
        """Hear one client until its stream ends."""
        protocol = outlet.protocol
        floor = self.exchange.faces[session.venue].floor
        while True:
            for event in protocol.events_received():
                assert isinstance(event, Frame)
                if event.opcode in (Opcode.TEXT, Opcode.BINARY):
                    await self.exchange.hear(session, bytes(event.data).decode("utf-8", "replace"))
            outlet.flush()
            if protocol.state is not State.OPEN:
                with suppress(TimeoutError):  # the client's part of the leave
                    async with asyncio.timeout(1.0):
                        while protocol.state is not State.CLOSED and (data := await reader.read(65536)):
                            protocol.receive_data(data)
                            outlet.flush()
                return
            data = await reader.read(65536)
            await floor.while_fault("stall")
            if not data:
                return
            protocol.receive_data(data)
            self.exchange.touch(session)


def _say(connection: h11.Connection, writer: asyncio.StreamWriter, *events: h11.Event) -> None:
    for event in events:
        writer.write(connection.send(event) or b"")


def _chunks(lines: Iterator[bytes], count: int) -> Iterator[bytes]:
    chunk: list[bytes] = []
    for line in lines:
        chunk.append(line)
        if len(chunk) == count:
            yield b"\n".join(chunk) + b"\n"
            chunk = []
    if chunk:
        yield b"\n".join(chunk) + b"\n"
