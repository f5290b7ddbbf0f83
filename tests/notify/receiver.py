"""A small HTTP server on loopback that answers as told and remembers what it was sent."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import h11

Reply = tuple[int, dict[str, str], bytes]
HANG: Reply = (0, {}, b"")


class Received(NamedTuple):
    target: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Gives `answers` in turn, the last one for ever. None drops the connection after reading, HANG never answers."""

    def __init__(self) -> None:
        self.answers: list[Reply | None] = [(200, {}, b"ok")]
        self.received: list[Received] = []
        self.url = ""
        self.port = 0
        self.released = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        request: h11.Request | None = None
        body = b""
        try:
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(await reader.read(65536))
                elif isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    return
            assert request is not None
            headers = {name.decode(): value.decode() for name, value in request.headers}
            self.received.append(Received(request.target.decode(), headers, body))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer is None:
                return
            if answer is HANG:
                await self.released.wait()
                return
            status, extra, content = answer
            lines = [("content-length", str(len(content))), ("connection", "close"), *extra.items()]
            writer.write(connection.send(h11.Response(status_code=status, headers=lines)) or b"")
            writer.write(connection.send(h11.Data(data=content)) or b"")
            writer.write(connection.send(h11.EndOfMessage()) or b"")
            await writer.drain()
        except (ConnectionError, h11.RemoteProtocolError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    receiver.url = f"{'https' if tls else 'http'}://localhost:{receiver.port}"
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.close()
        await asyncio.sleep(0)
