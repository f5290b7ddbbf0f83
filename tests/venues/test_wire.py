"""Sockets, against real ones on loopback: with picows where it is installed, and with websockets."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import gc
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request as Handshake
from websockets.http11 import Response as Refusal

from watchhamster.core.ports import RateLimited, Request, Unavailable
from watchhamster.core.secret import Secret
from watchhamster.venues import wire as wire_module
from watchhamster.venues.wire import HttpWire

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
HANG_S = 60.0  # for what should come at once: how soon, on a machine that has other work, is not what is tested


@pytest.fixture(params=["websockets", "picows"])
def fast(request: pytest.FixtureRequest) -> bool:
    if request.param == "picows":
        pytest.importorskip("picows", reason="the extra `fast` is not installed")
    return bool(request.param == "picows")


def make_wire(port: int, fast: bool | None = None, scheme: str = "http", **options: Any) -> HttpWire:
    return HttpWire(f"{scheme}://127.0.0.1:{port}/base", "Upbit", "WatchHamster/test", fast=fast, **options)


@asynccontextmanager
async def sockets(
    handler: Callable[[ServerConnection], Awaitable[None]], **options: Any
) -> AsyncIterator[tuple[int, list[Handshake]]]:
    seen: list[Handshake] = []

    def look(connection: ServerConnection, request: Handshake) -> None:
        seen.append(request)

    options.setdefault("process_request", look)
    async with serve(handler, "127.0.0.1", 0, ping_interval=None, close_timeout=0.1, **options) as server:
        yield next(iter(server.sockets)).getsockname()[1], seen


@asynccontextmanager
async def plain(handler: Callable[[Reader, Writer], Awaitable[None]], **options: Any) -> AsyncIterator[int]:
    """A TCP server; whatever it still serves is ended with it."""
    tasks: set[asyncio.Task[Any]] = set()
    transports: list[asyncio.WriteTransport] = []

    async def serve_one(reader: Reader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        transports.append(writer.transport)
        try:
            await handler(reader, writer)
        except (asyncio.CancelledError, OSError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await asyncio.sleep(0.01)  # whoever has dialled is let in first
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for transport in transports:
            transport.abort()
        await asyncio.sleep(0.01)  # they close in the loop's next turns


class Sink:
    """Keeps the frames, and waits for so many."""

    def __init__(self) -> None:
        self.frames: list[bytes | str] = []
        self._changed = asyncio.Event()

    def __call__(self, frame: bytes | str) -> None:
        self.frames.append(frame)
        self._changed.set()

    async def wait(self, count: int) -> list[bytes | str]:
        async with asyncio.timeout(HANG_S):
            while len(self.frames) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.frames


# ---------------------------------------------------------------- streams


async def test_each_message_is_one_call_in_order_as_bytes(fast: bool) -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send("텍스트")
        await connection.send(b"binary")
        await connection.send(["fra", "gmen", "ted"])
        for n in range(500):
            await connection.send(b"%d" % n)
        await connection.send(b"x" * 200_000)
        await connection.wait_closed()

    async with sockets(handler) as (port, _):
        sink, wire = Sink(), make_wire(port, fast)
        await wire.open(f"ws://127.0.0.1:{port}/", sink, timeout_s=2)
        frames = await sink.wait(504)
        assert frames == ["텍스트".encode(), b"binary", b"fragmented", *(b"%d" % n for n in range(500)), b"x" * 200_000]
        await wire.close()


async def test_the_handshake_says_who_and_nothing_that_costs(fast: bool) -> None:
    received: list[str | bytes] = []

    async def handler(connection: ServerConnection) -> None:
        received.append(await connection.recv())
        await connection.send(b"heard")
        await connection.wait_closed()

    async with sockets(handler) as (port, seen):
        sink, wire = Sink(), make_wire(port, fast)
        stream = await wire.open(f"http://127.0.0.1:{port}/websocket/v1", sink, timeout_s=2)  # http becomes ws
        await stream.send('[{"ticket":"t"}]')
        await sink.wait(1)
        headers = {key.lower(): value for key, value in seen[0].headers.raw_items()}
        assert received == ['[{"ticket":"t"}]'] and seen[0].path == "/websocket/v1"
        assert headers["user-agent"] == "WatchHamster/test"
        assert "origin" not in headers and "sec-websocket-extensions" not in headers
        await wire.close()


async def test_pings_go_both_ways(fast: bool) -> None:
    async def handler(connection: ServerConnection) -> None:
        await (await connection.ping())  # answered by our side
        await connection.send(b"pong came")
        await connection.wait_closed()

    async with sockets(handler) as (port, _):
        sink, wire = Sink(), make_wire(port, fast)
        stream = await wire.open(f"ws://127.0.0.1:{port}/", sink, timeout_s=2)
        assert 0 <= await stream.ping() < HANG_S
        first, second = await asyncio.gather(stream.ping(), stream.ping())
        assert first >= 0 and second >= 0
        assert await sink.wait(1) == [b"pong came"]
        await wire.close()
        with pytest.raises(Unavailable):
            await stream.ping()
        with pytest.raises(Unavailable):
            await stream.send("x")


async def test_it_says_how_the_stream_ended(fast: bool) -> None:
    async def leave(connection: ServerConnection) -> None:
        await connection.close(1000, "bye")

    async def vanish(connection: ServerConnection) -> None:
        connection.transport.abort()

    async def shout(connection: ServerConnection) -> None:
        await connection.send(b"x" * (2 << 20))
        await connection.wait_closed()

    async def stay(connection: ServerConnection) -> None:
        await connection.wait_closed()

    for handler, words in ((leave, "1000: bye"), (vanish, "broke"), (shout, ""), (stay, "closed here")):
        async with sockets(handler) as (port, _):
            sink, wire = Sink(), make_wire(port, fast)
            stream = await wire.open(f"ws://127.0.0.1:{port}/", sink, timeout_s=2)
            if handler is stay:
                await stream.close()
            async with asyncio.timeout(HANG_S):
                assert words in str(await stream.closed())
            assert sink.frames == []  # a message over 1 MiB is not passed on
            await wire.close()


async def _mute_handshake(reader: Reader, writer: Writer) -> None:
    """Accepts, and then neither reads nor says anything."""
    head = await reader.readuntil(b"\r\n\r\n")
    key = next(line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    await asyncio.sleep(60)


async def test_closing_does_not_wait_for_a_peer_that_is_gone(fast: bool) -> None:
    async with plain(_mute_handshake) as port:
        wire = make_wire(port, fast)
        stream = await wire.open(f"ws://127.0.0.1:{port}/", Sink(), timeout_s=2)
        pinging = asyncio.get_running_loop().create_task(stream.ping())
        await asyncio.sleep(0.01)
        async with asyncio.timeout(HANG_S):
            await stream.close()
            with pytest.raises(Unavailable):
                await pinging
            assert "closed here" in str(await stream.closed())


@pytest.mark.parametrize(("status", "kind"), [(429, RateLimited), (418, RateLimited), (503, Unavailable)])
async def test_a_refused_handshake(fast: bool, status: int, kind: type[Unavailable]) -> None:
    def refuse(connection: ServerConnection, request: Handshake) -> Refusal:
        response = connection.respond(HTTPStatus(status), "no\n")
        response.headers["Retry-After"] = "7"
        return response

    async def handler(connection: ServerConnection) -> None: ...

    async with sockets(handler, process_request=refuse) as (port, _):
        wire = make_wire(port, fast)
        with pytest.raises(kind) as refused:
            await wire.open(f"ws://127.0.0.1:{port}/", Sink(), timeout_s=2)
        assert str(status) in str(refused.value)
        if isinstance(refused.value, RateLimited):
            assert refused.value.retry_after_s == 7 and refused.value.banned == (status == 418)
        await wire.close()


async def test_a_dial_that_fails_says_why(fast: bool) -> None:
    async def mute(reader: Reader, writer: Writer) -> None:
        await asyncio.sleep(60)

    async def hang_up(reader: Reader, writer: Writer) -> None:
        await reader.read(10)

    async def babble(reader: Reader, writer: Writer) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        await writer.drain()

    async with plain(mute) as port:
        with pytest.raises(Unavailable) as late:
            await make_wire(port, fast).open(f"ws://127.0.0.1:{port}/", Sink(), timeout_s=0.1)
        assert late.value.code == "timed_out"
        if fast:
            await asyncio.sleep(0.2)  # picows ends a dial that was given up by its own timer
    for handler in (hang_up, babble):
        async with plain(handler) as port:
            with pytest.raises(Unavailable) as broken:
                await make_wire(port, fast).open(f"ws://127.0.0.1:{port}/", Sink(), timeout_s=2)
            assert broken.value.code in ("unreachable", "stream_refused")
    with pytest.raises(Unavailable) as refused:  # nobody listens there any more
        await make_wire(port, fast).open(f"ws://127.0.0.1:{port}/", Sink(), timeout_s=2)
    assert "127.0.0.1" in str(refused.value)
    with pytest.raises(Unavailable):
        await make_wire(port, fast).open("ws://", Sink(), timeout_s=2)


async def test_a_dial_may_be_given_up(fast: bool) -> None:
    async with plain(_mute_handshake) as port:
        wire = make_wire(port, fast)
        dial = asyncio.get_running_loop().create_task(wire.open(f"ws://127.0.0.1:{port}/", Sink(), timeout_s=0.2))
        await asyncio.sleep(0)
        dial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dial
        await wire.close()


# ---------------------------------------------------------------- requests


def answering(*answers: bytes, seen: list[bytes] | None = None) -> Callable[[Reader, Writer], Awaitable[None]]:
    async def handler(reader: Reader, writer: Writer) -> None:
        for answer in answers:
            head = await reader.readuntil(b"\r\n\r\n")
            if seen is not None:
                seen.append(head)
            writer.write(answer)
            await writer.drain()

    return handler


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def test_an_answer_of_any_status_is_an_answer() -> None:
    seen: list[bytes] = []
    handler = answering(http(b"[]", "200 OK", "Remaining-Req: sec=9"), http(b"no", "429 Too Many Requests"), seen=seen)
    async with plain(handler) as port:
        wire = make_wire(port)
        answer = await wire.request(
            Request("/v1/candles/minutes/1", {"to": "2025-06-24T13:56:53+09:00", "market": "KRW-BTC"})
        )
        assert (answer.status, answer.body, answer.headers["remaining-req"]) == (200, b"[]", "sec=9")
        again = await wire.request(Request("/v1/ticker"))
        assert (again.status, again.body) == (429, b"no")
        await wire.close()
    head = seen[0].decode().lower()
    assert head.startswith("get /base/v1/candles/minutes/1?to=2025-06-24t13%3a56%3a53%2b09%3a00&market=krw-btc ")
    assert "user-agent: watchhamster/test" in head and "origin:" not in head
    assert "gzip" in head and head.count("content-type") == 0


async def test_no_answer_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    async def mute(reader: Reader, writer: Writer) -> None:
        await asyncio.sleep(60)

    async def slow(reader: Reader, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):  # a byte at a time: no read ever times out
            writer.write(b"x")
            await asyncio.sleep(0.02)

    monkeypatch.setattr(wire_module, "ANSWER_S", 0.2)
    for handler in (mute, slow):
        async with plain(handler) as port:
            wire = make_wire(port)
            with pytest.raises(Unavailable) as late:
                await wire.request(Request("/v1/ticker"))
            assert late.value.code == "timed_out"
            await wire.close()
    monkeypatch.setattr(wire_module, "ANSWER_BYTES_MAX", 1000)
    cases = {
        http(b"x" * 5000): "answer_too_long",
        b"": "unreachable",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort": "unreachable",
        b"nonsense\r\n\r\n": "unreachable",
        http(b"not gzip", "200 OK", "Content-Encoding: gzip"): "unreachable",
    }
    for answer_bytes, code in cases.items():
        async with plain(answering(answer_bytes)) as port:
            wire = make_wire(port)
            with pytest.raises(Unavailable) as broken:
                await wire.request(Request("/v1/ticker"))
            assert broken.value.code == code, answer_bytes[:40]
            await wire.close()
    with pytest.raises(Unavailable) as nobody:
        await make_wire(port).request(Request("/v1/ticker"))
    assert nobody.value.code == "unreachable" and "127.0.0.1" in str(nobody.value)


# ---------------------------------------------------------------- certificates


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate and key for 127.0.0.1 that only a test trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + cert.public_bytes(serialization.Encoding.PEM))
    return path


async def test_a_stranger_certificate_is_refused_and_a_given_one_trusted(fast: bool, certificate: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))

    async def handler(connection: ServerConnection) -> None:
        await connection.send(b"hello")
        await connection.wait_closed()

    async with sockets(handler, ssl=server) as (port, _):
        sink = Sink()
        with pytest.raises(Unavailable) as stranger:
            await make_wire(port, fast, "https").open(f"wss://127.0.0.1:{port}/", sink, timeout_s=2)
        assert stranger.value.code == "tls_failed" and stranger.value.hint is not None
        wire = make_wire(port, fast, "https", verify=trusting)
        await wire.open(f"https://127.0.0.1:{port}/", sink, timeout_s=2)
        assert await sink.wait(1) == [b"hello"]
        await wire.close()
    async with plain(answering(http(b"[]")), ssl=server) as port:
        with pytest.raises(Unavailable) as stranger:
            await make_wire(port, fast, "https").request(Request("/x"))
        assert stranger.value.code == "tls_failed"
        wire = make_wire(port, fast, "https", verify=trusting)
        assert (await wire.request(Request("/x"))).body == b"[]"
        await wire.close()


def test_verification_cannot_be_switched_off() -> None:
    with pytest.raises(ValueError):
        HttpWire("https://x", "Upbit", "x", verify=False)


async def test_closing_gives_up_what_is_being_asked_and_leaves_no_socket() -> None:
    """At whatever point of its way a request is: a socket left behind would warn, and warnings are errors here."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        except (asyncio.IncompleteReadError, OSError):
            pass  # it was given up, as is meant
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    ends: set[str] = set()
    async with server:
        for turns in range(60):
            wire = HttpWire(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "Yahoo", "test")
            asking = asyncio.get_running_loop().create_task(wire.request(Request("/x", {})))
            for _ in range(turns):
                await asyncio.sleep(0)
            await wire.close()
            try:
                await asking
                ends.add("answered")
            except Unavailable as problem:
                ends.add(problem.code)
            await wire.close()  # one that had not begun yet was asked after
        again = await wire.request(Request("/x", {}))  # it may be used again
        assert again.body == b"{}"
        await wire.close()
        gc.collect()
    assert ends <= {"answered", "dropped"} and "dropped" in ends


async def test_no_cookie_is_kept_and_secrets_travel_where_they_are_meant_to() -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            asked.append(head)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nset-cookie: A3=x; Path=/\r\n\r\n{}")
            if len(asked) == 2:
                writer.close()
                return

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        wire = HttpWire(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "Yahoo", "test")
        secret = Request(
            "/x", {"a": "b"}, secret_params={"crumb": Secret("c/d")}, secret_headers={"Cookie": Secret("A3=y")}
        )
        await wire.request(secret)
        await wire.request(Request("/x", {}))
        await wire.close()
    assert asked[0].startswith(b"GET /x?a=b&crumb=c%2Fd ") and b"cookie: a3=y" in asked[0].lower()
    assert b"cookie" not in asked[1].lower()
    assert "c/d" not in repr(secret) and "A3=y" not in repr(secret)
