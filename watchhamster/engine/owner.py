"""One owner a home: a lock that dies with its process, and a socket that only this user can open.

Whoever holds the lock on `owner.lock` owns the home; the lock is the operating system's, so it is free again the moment
the process is gone, however it went. The lock file says who holds it and where it listens:

    {"pid": 4711, "socket": "/home/…/owner.sock"}              a Unix socket in a directory of this user alone
    {"pid": 4711, "port": 40123, "token": "…"}                 Windows: loopback, with a token only the file tells

Over the socket go JSON lines, one request at a time and connection: `{"command", "arguments"}`, answered by `{"ok"}` or
`{"error"}`; errors come back as the same typed errors. A request is bounded at 1 MiB, an answer at 64 MiB.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from watchhamster.core.ports import StoreError, Unavailable, UsageError, WatchHamsterError
from watchhamster.core.text import Text

# The window claims its home before anything is painted; what only a conversation needs is imported with the first one.
if TYPE_CHECKING:
    import asyncio

log = logging.getLogger(__name__)
Handler = Callable[[str, dict[str, Any]], Awaitable[object]]

_REQUEST_LONGEST = 2**20
_ANSWER_LONGEST = 2**26
_CONNECTIONS_MOST = 32
_IDLE_S = 60.0
_SOCKET_PATH_LONGEST = 100  # bytes; 103 on macOS, 107 on Linux
_LOCKED_BYTE = 1 << 30  # Windows forbids reading what is locked, so the lock is far behind the text


class Place(Protocol):
    """Where the lock and the socket of a home are."""

    @property
    def lock(self) -> Path:
        """The lock file."""

    @property
    def socket(self) -> Path:
        """The socket, where its path is short enough."""


class Owned(WatchHamsterError):
    """Another process owns the home. `pid` is None while it is only starting."""

    def __init__(self, place: Place, pid: int | None) -> None:
        super().__init__(
            "already_running",
            Text(
                "WatchHamster is running already ({lock}, process {pid}).", {"lock": str(place.lock), "pid": pid or "…"}
            ),
            Text("Use its window, or give another --home."),
        )
        self.pid = pid


class _Address(msgspec.Struct, omit_defaults=True):
    pid: int
    socket: str = ""
    port: int = 0
    token: str = ""


class _Request(msgspec.Struct):
    command: str
    arguments: dict[str, Any] = {}
    token: str = ""


class _Failure(msgspec.Struct):
    """An error on its way: texts as template and values, so that the asker says them in its own language."""

    kind: Literal["usage", "unavailable", "failed"]
    code: str
    text: Text
    hint: Text | None = None
    details: dict[str, Any] = {}


class _Answer(msgspec.Struct):
    ok: Any = None
    error: _Failure | None = None


class Owner:
    """This process, as the owner of a home. `claim` makes one."""

    def __init__(self, place: Place, descriptor: int, *, tcp: bool) -> None:
        self._place = place
        self._descriptor = descriptor
        self._tcp = tcp
        self._address = _Address(os.getpid())
        self._talks: set[asyncio.Task[None]] = set()  # one a connection

    @classmethod
    def claim(cls, place: Place, *, tcp: bool = sys.platform == "win32") -> Owner:
        """Own the home until `release` or the end of the process.

        Raises `Owned` when somebody else does, and `StoreError` (`home_not_writable`).
        """
        try:
            descriptor = os.open(place.lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise _unusable(place, error) from error
        if not _lock(descriptor):
            os.close(descriptor)
            address = _read_address(place)
            raise Owned(place, address.pid if address is not None else None)
        owner = cls(place, descriptor, tcp=tcp)
        try:
            owner._tell()  # nobody listens yet, but who it is can be said
        except OSError as error:  # a full disk
            owner.release()
            raise _unusable(place, error) from error
        return owner

    async def serve(self, handler: Handler) -> None:
        """Answer requests until cancelled. The handler's `WatchHamsterError`s go to the asker."""
        import asyncio
        import secrets

        token = secrets.token_urlsafe(32) if self._tcp else ""

        async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._converse(reader, writer, handler, token)

        if self._tcp:
            server = await asyncio.start_server(serve_one, "127.0.0.1", 0, limit=_REQUEST_LONGEST)
            self._address = _Address(os.getpid(), port=server.sockets[0].getsockname()[1], token=token)
        else:
            path = _socket_path(self._place)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # a killed owner's; the lock says that it is nobody's
            server = await asyncio.start_unix_server(serve_one, path, limit=_REQUEST_LONGEST)
            os.chmod(path, 0o600)
            self._address = _Address(os.getpid(), socket=path)
        self._tell()
        try:
            async with server:
                await server.serve_forever()
        finally:
            for talk in list(self._talks):
                talk.cancel()
            if self._address.socket:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._address.socket)

    def release(self) -> None:
        """Let go of the home. Calling it twice is fine."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Owner:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _tell(self) -> None:
        data = msgspec.json.encode(self._address)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, data)
        os.ftruncate(self._descriptor, len(data))  # afterwards, so that nobody reads an empty file

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler, token: str
    ) -> None:
        import asyncio

        talk = asyncio.current_task()
        assert talk is not None
        if len(self._talks) >= _CONNECTIONS_MOST:
            writer.close()
            return
        self._talks.add(talk)
        try:
            while True:
                async with asyncio.timeout(_IDLE_S):
                    line = await reader.readline()
                if not line:
                    return
                answer = await _answer(line, handler, token)
                data = msgspec.json.encode(answer)
                if len(data) > _ANSWER_LONGEST:
                    data = msgspec.json.encode(_Answer(error=_failure(_too_long("answer"))))
                writer.write(data + b"\n")
                await writer.drain()
        except (TimeoutError, ConnectionError):
            pass
        except ValueError:  # a line beyond the limit: where the next one begins is unknown
            with contextlib.suppress(ConnectionError):
                writer.write(msgspec.json.encode(_Answer(error=_failure(_too_long("request")))) + b"\n")
                await writer.drain()
        finally:
            self._talks.discard(talk)
            writer.close()


async def _answer(line: bytes, handler: Handler, token: str) -> _Answer:
    import secrets

    try:
        request = msgspec.json.decode(line, type=_Request)
        if token and not secrets.compare_digest(request.token, token):
            raise UsageError("not_allowed", Text("The owner does not know who asks."), None)
        return _Answer(ok=msgspec.to_builtins(await handler(request.command, request.arguments)))
    except msgspec.DecodeError as error:
        return _Answer(error=_failure(UsageError("bad_request", Text("Not a request: {reason}.", {"reason": error}))))
    except WatchHamsterError as error:
        return _Answer(error=_failure(error))
    except Exception as error:  # ours, or an asker of another version: it must hear of it, and the others go on
        log.exception("a request failed")
        problem = Text("The running WatchHamster itself failed: {problem}.", {"problem": repr(error)[:200]})
        return _Answer(error=_failure(WatchHamsterError("internal", problem, Text("Its log shows where."))))


def _unusable(place: Place, error: OSError) -> StoreError:
    return StoreError(
        "home_not_writable",
        Text("{path} cannot be used: {reason}.", {"path": str(place.lock), "reason": error.strerror or error}),
        Text("Make it writable and see that there is room, or choose another with --home or WATCHHAMSTER_HOME."),
    )


def _failure(error: WatchHamsterError) -> _Failure:
    kind: Literal["usage", "unavailable", "failed"] = "failed"
    if isinstance(error, UsageError):
        kind = "usage"
    elif isinstance(error, Unavailable):
        kind = "unavailable"
    return _Failure(kind, error.code, _plain(error.text), error.hint and _plain(error.hint), _simple(error.details))


def _plain(text: Text) -> Text:
    return Text(text.message, _simple(text.values))


def _simple(values: Mapping[str, object]) -> dict[str, Any]:
    """Values that JSON carries; others as their text."""
    return {k: v if isinstance(v, str | int | float | bool | None) else str(v) for k, v in values.items()}


def _too_long(what: str) -> UsageError:
    return UsageError("too_long", Text("This {what} is too long.", {"what": what}), Text("Ask for less at once."))


# ---------------------------------------------------------------- asking


async def ask(place: Place, command: str, *, timeout_s: float = 30.0, **arguments: object) -> Any:
    """What the home's owner answers to a command. The owner's errors are raised here.

    Raises `Unavailable`: `no_owner` where nobody owns the home, `owner_silent` when it does not answer in time.
    """
    import asyncio

    address = _read_address(place)
    if address is None or not (address.socket or address.port):
        raise _nobody(place)
    request = _Request(command, msgspec.to_builtins(arguments), address.token)
    try:
        async with asyncio.timeout(timeout_s):
            if address.socket:
                reader, writer = await asyncio.open_unix_connection(address.socket, limit=_ANSWER_LONGEST)
            else:
                reader, writer = await asyncio.open_connection("127.0.0.1", address.port, limit=_ANSWER_LONGEST)
            try:
                writer.write(msgspec.json.encode(request) + b"\n")
                await writer.drain()
                line = await reader.readline()
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        raise Unavailable(
            "owner_silent",
            Text("The running WatchHamster (process {pid}) does not answer.", {"pid": address.pid}),
            Text("Wait a moment, or end that process."),
        ) from None
    except OSError:
        raise _nobody(place) from None
    if not line:
        raise _nobody(place)
    answer = msgspec.json.decode(line, type=_Answer)
    if answer.error is None:
        return answer.ok
    failure = answer.error
    kinds: dict[str, type[WatchHamsterError]] = {"usage": UsageError, "unavailable": Unavailable}
    if failure.kind == "failed":
        raise WatchHamsterError(failure.code, failure.text, failure.hint, **failure.details)
    raise kinds[failure.kind](failure.code, failure.text, failure.hint)


def ask_sync(place: Place, command: str, *, timeout_s: float = 30.0, **arguments: object) -> Any:
    """`ask`, where no loop is running."""
    import asyncio

    return asyncio.run(ask(place, command, timeout_s=timeout_s, **arguments))


def owner_pid(place: Place) -> int | None:
    """The process that owns the home now, None where nobody does."""
    try:
        descriptor = os.open(place.lock, os.O_RDWR)
    except OSError:
        return None
    try:
        if _lock(descriptor):
            return None
    finally:
        os.close(descriptor)
    address = _read_address(place)
    return address.pid if address is not None else None


def _nobody(place: Place) -> Unavailable:
    return Unavailable(
        "no_owner",
        Text("No WatchHamster is running on {lock}.", {"lock": str(place.lock)}),
        Text("Start it first."),
    )


# ---------------------------------------------------------------- the file, the lock, the socket's place


def _read_address(place: Place) -> _Address | None:
    try:
        return msgspec.json.decode(place.lock.read_bytes(), type=_Address)
    except (OSError, msgspec.DecodeError):
        return None


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> bool:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _socket_path(place: Place) -> str:
    """The socket's path: in the home, or in a runtime directory of this user where that would be too long."""
    path = str(place.socket)
    if len(os.fsencode(path)) <= _SOCKET_PATH_LONGEST:
        return path
    import hashlib
    import tempfile

    name = hashlib.sha256(os.fsencode(place.socket.absolute())).hexdigest()[:16] + ".sock"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    for base in filter(None, (runtime, tempfile.gettempdir(), "/tmp")):
        folder = Path(base) / f"watchhamster-{os.getuid()}"
        if len(os.fsencode(folder / name)) > _SOCKET_PATH_LONGEST:
            continue
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
            # Anybody may have made it before us in a shared directory.
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
                return str(folder / name)
    raise StoreError(
        "no_socket",
        Text("The path of {home} is too long for a socket, and no other place is safe.", {"home": str(place.socket)}),
        Text("Choose a shorter path with --home."),
    )
