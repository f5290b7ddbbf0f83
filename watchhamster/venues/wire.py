"""A venue's sockets: one HTTP client, any number of WebSockets, the same for every venue.

Receiving. Each message is one synchronous call of the sink, made while the socket is being read: no queue, no future,
no task a message, which together cost more than reading it. Whoever is called must be quick and must not raise. Text
comes as the UTF-8 bytes it travelled in; decoders take both.

With the extra `fast` the stream is picows', else websockets'; nothing above can tell. Compression is not offered (it
costs more than it saves at home), messages are bounded at 1 MiB, an `Origin` header is never sent (Upbit cuts such
callers to a request in 10 s), and certificates are always verified. A proxy of the environment is used, except to
reach this machine itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping
from functools import cache, partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib import import_module
from typing import Any, Final, Literal, Protocol
from urllib.parse import quote, urlsplit

import certifi
import httpx
import websockets.exceptions
from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import Frame, Opcode
from websockets.protocol import Event
from websockets.proxy import get_proxy
from websockets.uri import parse_uri

from watchhamster.core.ports import FrameSink, RateLimited, Request, Response, Stream, Unavailable, WatchHamsterError
from watchhamster.core.secret import Secret
from watchhamster.core.text import Text

picows: Any
try:
    picows = import_module("picows")
except ImportError:  # the extra `fast` is not installed
    picows = None

MESSAGE_BYTES_MAX: Final = 1 << 20
ANSWER_BYTES_MAX: Final = 32 << 20  # every market's book in one answer is 2.3 MB
ANSWER_S: Final = 10.0
LEAVE_S: Final = 0.2  # for the peer's half of a closing handshake

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class HttpWire:
    """Sockets below one base URL (`core.ports.Wire`), for one event loop.

    `verify` is True, or a context for a certificate authority of one's own; such a context serves HTTP/1.1 only, since
    HTTP/2 is agreed upon inside of it and the stream must not. `fast` chooses the stream's library: True picows, False
    websockets, None picows where it is installed.
    """

    def __init__(
        self,
        base_url: str,
        venue_name: str,
        user_agent: str,
        verify: bool | ssl.SSLContext = True,
        *,
        fast: bool | None = None,
    ) -> None:
        if verify is False:
            raise ValueError("certificates are always verified")
        self.base_url = base_url.rstrip("/")
        self.name = venue_name
        self._user_agent = user_agent
        self._given = verify if isinstance(verify, ssl.SSLContext) else None
        self._client: httpx.AsyncClient | None = None
        self._asking: set[asyncio.Task[Response]] = set()
        self._streams: set[_Connection] = set()
        self._dial = _dial_websockets if fast is False or picows is None else _dial_picows

    async def request(self, request: Request) -> Response:
        """One answer within 10 s. Raises `Unavailable` when none came; any HTTP status is an answer."""
        asking = asyncio.get_running_loop().create_task(self._ask(request))
        self._asking.add(asking)
        asking.add_done_callback(self._asked)
        try:
            await asyncio.wait((asking,))
        except asyncio.CancelledError:
            _give_up(asking)
            raise
        if asking.cancelled():
            raise Unavailable("dropped", Text("The request to {venue} was given up here.", {"venue": self.name}))
        return asking.result()

    def _asked(self, asking: asyncio.Task[Response]) -> None:
        self._asking.discard(asking)
        if not asking.cancelled():
            asking.exception()  # nobody may be left who would look

    async def _ask(self, request: Request) -> Response:
        url = self._base_of(request) + quote(request.path, safe="/:@!$&'()*+,;=~")  # httpx would leave a ^ as it is
        params = {**request.params, **_revealed(request.secret_params)}
        headers = {**request.headers, **_revealed(request.secret_headers)}
        try:
            client = self._client or await self._new_client()
            async with (
                asyncio.timeout(ANSWER_S),
                client.stream(request.method, url, params=params or None, headers=headers or None) as answer,
            ):
                body = bytearray()
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > ANSWER_BYTES_MAX:
                        raise Unavailable(
                            "answer_too_long", Text("{venue} sent an endless answer.", {"venue": self.name})
                        )
                return Response(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, bytes(body))
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as problem:  # TimeoutError is an OSError
            raise self._unavailable(problem, url) from problem

    async def open(self, url: str, on_frame: FrameSink, *, timeout_s: float) -> Stream:
        """Dial; `http` addresses become `ws`. Frames may arrive before this returns.

        Raises `Unavailable`, or `RateLimited` when the handshake was refused as too frequent.
        """
        if url.startswith("http"):
            url = "ws" + url.removeprefix("http")
        host = urlsplit(url).hostname or ""
        try:
            async with asyncio.timeout(timeout_s):
                stream = await self._dial(
                    url,
                    on_frame,
                    tls=await self._tls("stream") if url.startswith("wss:") else None,
                    proxy=None if host in _LOOPBACK else get_proxy(parse_uri(url)),
                    user_agent=self._user_agent,
                    venue=self.name,
                    timeout_s=timeout_s,
                )
        except _HandshakeRefused as refused:
            raise self._refused(refused) from refused.__cause__
        except (OSError, ValueError, EOFError, websockets.exceptions.WebSocketException) as problem:
            raise self._unavailable(problem, url) from problem
        self._streams.add(stream)
        stream.when_lost(lambda: self._streams.discard(stream))
        return stream

    async def close(self) -> None:
        """Drop every socket; the wire may be used again."""
        client, self._client = self._client, None  # who asks from now on, asks with another
        asking = tuple(self._asking)
        for request in asking:  # a socket that is being connected is in no pool that could be closed
            _give_up(request)
        await asyncio.gather(*asking, *(stream.close() for stream in tuple(self._streams)), return_exceptions=True)
        if client is not None:
            await client.aclose()

    def _base_of(self, request: Request) -> str:
        """The base URL, or another host of its domain. A simulator's or a proxy's base stands for every host."""
        domain = ".".join(request.host.split(".")[-2:])
        hostname = urlsplit(self.base_url).hostname or ""
        return f"https://{request.host}" if request.host and hostname.endswith(f".{domain}") else self.base_url

    async def _new_client(self) -> httpx.AsyncClient:
        tls = await self._tls("http")
        if self._client is None:  # still: two may have come at once
            self._client = httpx.AsyncClient(
                http2=self._given is None,
                verify=tls,
                headers={"User-Agent": self._user_agent, "Accept": "application/json"},
                timeout=ANSWER_S,
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # what is kept, a venue keeps
                trust_env=urlsplit(self.base_url).hostname not in _LOOPBACK,
            )
        return self._client

    async def _tls(self, use: Literal["http", "stream"]) -> ssl.SSLContext:
        return await asyncio.to_thread(_trusted, use) if self._given is None else self._given

    def _refused(self, refused: _HandshakeRefused) -> WatchHamsterError:
        values = {"venue": self.name, "status": refused.status}
        if refused.status in (418, 429):
            told = refused.headers.get("retry-after", "")
            return RateLimited(
                "banned" if refused.status == 418 else "rate_limited",
                Text("{venue} refused the stream for connecting too often (HTTP {status}).", values),
                Text("It is dialled again when the wait is over."),
                retry_after_s=float(told) if told.isdecimal() else None,
                banned=refused.status == 418,
            )
        return Unavailable("stream_refused", Text("{venue} refused the stream (HTTP {status}).", values))

    def _unavailable(self, problem: BaseException, url: str) -> Unavailable:
        """Plain words for the ways a connection fails."""
        values = {"venue": self.name, "host": urlsplit(url).hostname or url}
        for cause in _causes(problem):
            if isinstance(cause, ssl.SSLError):
                reason = getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or str(cause)
                return Unavailable(
                    "tls_failed",
                    Text("No secure connection to {host}: {reason}.", {**values, "reason": reason}),
                    Text("Check this machine's clock, and whether a network login page or a proxy stands in between."),
                )
            if isinstance(cause, OSError) and type(cause).__name__ == "gaierror":
                return Unavailable(
                    "unknown_host",
                    Text("The address of {host} could not be found.", values),
                    Text("Check the internet connection; it is tried again by itself."),
                )
            if isinstance(cause, ConnectionRefusedError):
                return Unavailable("unreachable", Text("{host} takes no connections just now.", values))
        if isinstance(problem, (TimeoutError, httpx.TimeoutException)):
            return Unavailable("timed_out", Text("{host} did not answer in time.", values))
        return Unavailable(
            "unreachable",
            Text("No connection to {host} ({reason}).", {**values, "reason": str(problem) or type(problem).__name__}),
            Text("Check the internet connection; it is tried again by itself."),
        )


@cache
def _trusted(use: Literal["http", "stream"]) -> ssl.SSLContext:
    """The system's certificate authorities and Mozilla's: some systems bring none, some companies their own.

    One for each use, since httpx writes "h2" into its context and a WebSocket begins with HTTP/1.1. Reading them takes
    tens of milliseconds.
    """
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _give_up(asking: asyncio.Task[Response]) -> None:
    """Cancel it, once: a second time would break off what closes its socket."""
    if not asking.cancelling():
        asking.cancel()


def _revealed(secrets: Mapping[str, Secret]) -> dict[str, str]:
    return {name: secret.reveal() for name, secret in secrets.items()}


def _causes(problem: BaseException) -> list[BaseException]:
    """An error and all that led to it."""
    found: list[BaseException] = []
    todo: list[BaseException | None] = [problem]
    while todo:
        item = todo.pop(0)
        if item is not None and item not in found and len(found) < 20:
            found.append(item)
            todo += [item.__cause__, item.__context__]
            todo += getattr(item, "exceptions", ())  # of an ExceptionGroup
    return found


class _HandshakeRefused(Exception):
    def __init__(self, status: int, headers: dict[str, str]) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers


class _Connection(Stream, Protocol):
    """A stream that also says when it is gone."""

    def when_lost(self, call: Callable[[], None]) -> None: ...


def _closed_text(venue: str, code: int | None, reason: str, by_us: bool) -> Text:
    if by_us:
        return Text("The stream was closed here.")
    if code is None or code == 1006:
        return Text("The connection to {venue} broke.", {"venue": venue})
    values = {"venue": venue, "code": code, "reason": reason}
    if reason:
        return Text("{venue} closed the stream (code {code}: {reason}).", values)
    return Text("{venue} closed the stream (code {code}).", values)


def _gone() -> Unavailable:
    return Unavailable("stream_closed", Text("The stream is closed."))


# ---------------------------------------------------------------- websockets


class _Client(ClientConnection):
    """A connection that hands each message over as it is read, instead of queueing it for a reader."""

    def __init__(self, on_frame: FrameSink, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._on_frame = on_frame
        self._parts: list[bytes] = []

    def process_event(self, event: Event) -> None:
        if self.response is None or not isinstance(event, Frame):
            super().process_event(event)
        elif event.opcode is Opcode.BINARY or event.opcode is Opcode.TEXT or event.opcode is Opcode.CONT:
            data = bytes(event.data)  # no copy: bytes they are
            if event.fin and not self._parts:
                self._on_frame(data)
                return
            self._parts.append(data)
            if event.fin:
                whole, self._parts = b"".join(self._parts), []
                self._on_frame(whole)
        else:
            super().process_event(event)


class _WebsocketsStream:
    def __init__(self, connection: _Client, venue: str) -> None:
        self._connection = connection
        self._venue = venue
        self._by_us = False

    def when_lost(self, call: Callable[[], None]) -> None:
        self._connection.connection_lost_waiter.add_done_callback(lambda _: call())

    async def send(self, frame: str) -> None:
        with _closing_is_unavailable():
            await self._connection.send(frame)

    async def ping(self) -> float:
        with _closing_is_unavailable():
            return await (await self._connection.ping())

    async def closed(self) -> Text:
        await self._connection.wait_closed()
        return _closed_text(self._venue, self._connection.close_code, self._connection.close_reason or "", self._by_us)

    async def close(self) -> None:
        connection = self._connection
        if connection.connection_lost_waiter.done():
            return
        self._by_us = True
        try:
            async with asyncio.timeout(2 * LEAVE_S):  # it waits LEAVE_S itself, unless it cannot even write
                await connection.close()
        except TimeoutError:
            connection.transport.abort()
            await connection.wait_closed()


@contextlib.contextmanager
def _closing_is_unavailable() -> Any:
    try:
        yield
    except (websockets.exceptions.ConnectionClosed, OSError) as problem:
        raise _gone() from problem


async def _dial_websockets(
    url: str,
    on_frame: FrameSink,
    *,
    tls: ssl.SSLContext | None,
    proxy: str | None,
    user_agent: str,
    venue: str,
    timeout_s: float,
) -> _Connection:
    options: dict[str, Any] = {} if tls is None else {"ssl": tls}
    try:
        connection = await connect(
            url,
            create_connection=partial(_Client, on_frame),  # type: ignore[arg-type]
            compression=None,
            max_size=MESSAGE_BYTES_MAX,
            ping_interval=None,
            open_timeout=timeout_s,
            close_timeout=LEAVE_S,
            user_agent_header=user_agent,
            proxy=proxy,
            **options,
        )
    except websockets.exceptions.InvalidStatus as problem:
        headers = {key.lower(): value for key, value in problem.response.headers.raw_items()}
        raise _HandshakeRefused(problem.response.status_code, headers) from problem
    assert isinstance(connection, _Client)
    return _WebsocketsStream(connection, venue)


# ---------------------------------------------------------------- picows

if picows is not None:
    _DATA = (picows.WSMsgType.BINARY, picows.WSMsgType.TEXT)

    class _Listener(picows.WSListener):  # type: ignore[misc]
        def __init__(self, on_frame: FrameSink) -> None:
            self._on_frame = on_frame
            self._parts: list[bytes] = []
            self._size = 0
            self.pings: dict[bytes, asyncio.Future[None]] = {}
            self.close_code: int | None = None
            self.close_reason = ""

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            kind = frame.msg_type
            if kind in _DATA and frame.fin:
                if frame.payload_size <= MESSAGE_BYTES_MAX:  # picows refuses a longer one, and yet passes it on
                    self._on_frame(frame.get_payload_as_bytes())
            elif kind in _DATA or kind == picows.WSMsgType.CONTINUATION:
                self._size += frame.payload_size
                if self._size > MESSAGE_BYTES_MAX:
                    transport.send_close(picows.WSCloseCode.MESSAGE_TOO_BIG)
                    transport.disconnect()
                    return
                self._parts.append(frame.get_payload_as_bytes())
                if frame.fin:
                    whole, self._parts, self._size = b"".join(self._parts), [], 0
                    self._on_frame(whole)
            elif kind == picows.WSMsgType.PONG:
                waiter = self.pings.pop(frame.get_payload_as_bytes(), None)
                if waiter is not None and not waiter.done():
                    waiter.set_result(None)
            elif kind == picows.WSMsgType.CLOSE:
                self.close_code = int(frame.get_close_code().value)
                self.close_reason = frame.get_close_reason() or ""
                transport.send_close(frame.get_close_code())
                transport.disconnect()


class _PicowsStream:
    def __init__(self, transport: Any, listener: Any, venue: str) -> None:
        self._transport = transport
        self._listener = listener
        self._venue = venue
        self._count = 0
        self._by_us = False
        self._lost = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        with contextlib.suppress(picows.WSError):  # the peer broke the protocol
            await self._transport.wait_disconnected()

    def when_lost(self, call: Callable[[], None]) -> None:
        self._lost.add_done_callback(lambda _: call())

    async def send(self, frame: str) -> None:
        if self._lost.done() or self._transport.is_close_frame_sent:
            raise _gone()
        self._transport.send(picows.WSMsgType.TEXT, frame.encode())

    async def ping(self) -> float:
        if self._lost.done() or self._transport.is_close_frame_sent:
            raise _gone()
        loop = asyncio.get_running_loop()
        self._count += 1
        payload = self._count.to_bytes(4, "big")
        waiter = self._listener.pings[payload] = loop.create_future()
        begin = loop.time()
        self._transport.send_ping(payload)
        try:
            await asyncio.wait((waiter, self._lost), return_when=asyncio.FIRST_COMPLETED)
            if not waiter.done():
                raise _gone()
            return loop.time() - begin
        finally:
            self._listener.pings.pop(payload, None)

    async def closed(self) -> Text:
        await asyncio.shield(self._lost)
        return _closed_text(self._venue, self._listener.close_code, self._listener.close_reason, self._by_us)

    async def close(self) -> None:
        if self._lost.done():
            return
        self._by_us = True
        self._transport.send_close(picows.WSCloseCode.OK)
        try:
            async with asyncio.timeout(LEAVE_S):
                await asyncio.shield(self._lost)
        except TimeoutError:
            self._transport.disconnect(graceful=False)
            await asyncio.shield(self._lost)


async def _dial_picows(
    url: str,
    on_frame: FrameSink,
    *,
    tls: ssl.SSLContext | None,
    proxy: str | None,
    user_agent: str,
    venue: str,
    timeout_s: float,
) -> _Connection:
    listener = _Listener(on_frame)
    try:
        transport, connected = await picows.ws_connect(
            lambda *_: listener,
            url,
            ssl_context=tls,
            websocket_handshake_timeout=timeout_s,  # it also ends a dial that was given up meanwhile
            max_frame_size=MESSAGE_BYTES_MAX,
            extra_headers={"User-Agent": user_agent},
            proxy=proxy,
        )
    except picows.WSInvalidStatusError as problem:
        response = problem.response
        headers = {key.lower(): value for key, value in response.headers.items()}
        raise _HandshakeRefused(int(response.status), headers) from problem
    except picows.WSError as problem:
        raise ConnectionError(str(problem)) from problem
    if connected is None:
        raise ConnectionResetError("the peer left during the handshake")
    return _PicowsStream(transport, listener, venue)
