"""Recorded streams: reading them, and playing them in place of a venue's sockets.

A capture is a file of lines `{"received": 1618678285.683489, "frame": "..."}`, oldest first: unix seconds when the
frame came, and the frame as text, or `base64:` and its bytes. It may also be one JSON array of frames, which keeps no
times. What cannot be read is named by its line and reason, and reading goes on behind it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import IO, Final, NamedTuple, TypeAlias

import msgspec

from watchhamster.core.ports import Clock, FrameSink, Request, Response, StoreError, Stream, Unavailable
from watchhamster.core.text import Text

LINE_BYTES_MAX: Final = 4 << 20  # a frame has at most 1 MiB, a little more when quoted
ARRAY_BYTES_MAX: Final = 256 << 20  # an array is read whole
BAD_LINES_KEPT: Final = 100
UNTIMED_STEP_S: Final = 0.05  # between frames that were kept without times
_BURST: Final = 64  # frames played before others get their turn


class Captured(NamedTuple):
    """One frame, and when it was received (None where the capture does not say)."""

    received_ns: int | None
    frame: bytes | str


class BadLine(NamedTuple):
    """A line (from 1) or an array's element (from 1) that is no frame."""

    line: int
    reason: str
    sample: str


Entry: TypeAlias = Captured | BadLine


class _Line(msgspec.Struct):
    frame: str
    received: Decimal | None = None


_line: Final = msgspec.json.Decoder(_Line).decode


def read_capture(path: str | Path) -> Iterator[Entry]:
    """The frames of a capture in their order, with a `BadLine` in place of each that cannot be read.

    Raises `StoreError`: `no_capture` when it cannot be opened, `capture_too_large` for an array beyond 256 MiB.
    """
    path = Path(path)
    try:
        file = path.open("rb")
    except OSError as problem:
        raise StoreError(
            "no_capture",
            Text("{path} cannot be read: {reason}.", {"path": str(path), "reason": problem.strerror or str(problem)}),
        ) from problem
    with file:
        begin = file.read(4096).lstrip()
        file.seek(0)
        if begin[:1] != b"[":
            yield from _lines(file)
            return
        if path.stat().st_size > ARRAY_BYTES_MAX:
            raise StoreError(
                "capture_too_large",
                Text("{path} is one array of over 256 MiB.", {"path": str(path)}),
                Text("Write a frame a line instead; such captures may have any size."),
            )
        yield from _elements(file.read())


def _lines(file: IO[bytes]) -> Iterator[Entry]:
    number = 0
    while text := file.readline(LINE_BYTES_MAX):
        number += 1
        whole = text.endswith(b"\n")
        if not whole and len(text) == LINE_BYTES_MAX:
            while (rest := file.readline(LINE_BYTES_MAX)) and not rest.endswith(b"\n"):
                pass
            yield BadLine(number, "the line is over 4 MiB long", _sample(text))
        elif text.strip():
            entry = _entry(text, number)
            if isinstance(entry, BadLine) and not whole:
                entry = entry._replace(reason=f"the last line is cut off ({entry.reason})")
            yield entry


def _entry(text: bytes, number: int) -> Entry:
    try:
        line = _line(text)
        received_ns = None
        if line.received is not None:
            if not line.received.is_finite() or not 0 <= line.received < 10**11:
                raise ValueError(f"received {line.received} is not a time")
            received_ns = int(line.received.scaleb(9))
        return Captured(received_ns, _frame(line.frame))
    except (ValueError, ArithmeticError, RecursionError) as problem:
        return BadLine(number, str(problem), _sample(text))


def _frame(text: str) -> bytes | str:
    if text.startswith("base64:"):
        return base64.b64decode(text.removeprefix("base64:"), validate=True)
    return text


def _elements(text: bytes) -> Iterator[Entry]:
    """The elements of an array: frames as strings, as the objects they are, or as a line would have them."""
    cut_off = None
    try:
        parts: list[bytes] = [bytes(raw) for raw in msgspec.json.decode(text, type=list[msgspec.Raw])]
    except (ValueError, RecursionError) as problem:
        parts, cut_off = _whole_elements(text.decode("utf-8", "replace").lstrip()), str(problem)
    for number, part in enumerate(parts, 1):
        if part.startswith(b'"'):
            try:
                yield Captured(None, _frame(msgspec.json.decode(part, type=str)))
            except ValueError as problem:
                yield BadLine(number, str(problem), _sample(part))
        elif part.startswith(b"{"):
            is_line = "frame" in msgspec.json.decode(part, type=dict[str, msgspec.Raw])
            yield _entry(part, number) if is_line else Captured(None, part)
        elif part.startswith(b"["):
            yield Captured(None, part)
        else:
            yield BadLine(number, "it is neither a text nor an object", _sample(part))
    if cut_off is not None:
        yield BadLine(len(parts) + 1, f"the array is cut off or malformed here ({cut_off})", "")


def _whole_elements(text: str) -> list[bytes]:
    decoder = json.JSONDecoder()
    found: list[bytes] = []
    position = 1
    while rest := text[position:].lstrip(" \t\r\n,"):
        start = len(text) - len(rest)
        try:
            _value, position = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            break
        found.append(text[start:position].encode())
    return found


def _sample(text: bytes) -> str:
    return text[:200].decode("utf-8", "replace").strip()


class CaptureWire:
    """A wire that plays one capture into whoever opens a stream, and asks the network nothing.

    Frames keep their distances in the recording, divided by `speed`; at an infinite speed they come as fast as they are
    taken, others getting their turn in between. Times are the clock's, so a clock that is itself fast plays at speed 1.
    A stream opened again goes on where the last one was left; when the recording has ended, opening raises
    `Unavailable` (`replay_ended`). `bad_lines` holds the first hundred unreadable lines, `bad_count` their number.
    """

    def __init__(self, path: str | Path, clock: Clock, speed: float = 1.0) -> None:
        self.path = Path(path)
        self.clock = clock
        self.speed = speed
        self.played = 0
        self.bad_count = 0
        self.bad_lines: list[BadLine] = []
        self.ended = asyncio.Event()
        self._entries: Iterator[Entry] = read_capture(path)
        self._next: Captured | None = None  # read, not yet played
        self._stream: _Playing | None = None

    async def request(self, request: Request) -> Response:
        """Raises `Unavailable`: a replay never asks the network."""
        raise Unavailable(
            "replay_offline", Text("A replay has no network: {path} was not asked.", {"path": request.path})
        )

    async def open(self, url: str, on_frame: FrameSink, *, timeout_s: float) -> Stream:
        """Begin or go on playing, from a moment after this returns. Raises `Unavailable` at the recording's end."""
        if self._stream is not None:
            await self._stream.close()
        if self.ended.is_set():
            raise Unavailable("replay_ended", Text("The recording {path} has ended.", {"path": self.path.name}))
        self._stream = _Playing(self, on_frame)
        return self._stream

    async def close(self) -> None:
        """Stop playing."""
        if self._stream is not None:
            await self._stream.close()

    def take(self) -> Captured | None:
        """The next readable frame, which stays the next one until `taken`; None at the end."""
        while self._next is None:
            entry = next(self._entries, None)
            if entry is None:
                self.ended.set()
                return None
            if isinstance(entry, Captured):
                self._next = entry
            else:
                self.bad_count += 1
                if len(self.bad_lines) < BAD_LINES_KEPT:
                    self.bad_lines.append(entry)
        return self._next

    def taken(self) -> None:
        """The next frame was played."""
        self._next = None
        self.played += 1


class _Playing:
    """A stream that is a recording."""

    def __init__(self, wire: CaptureWire, on_frame: FrameSink) -> None:
        self._wire = wire
        self._on_frame = on_frame
        self._why = Text("The stream was closed here.")
        self._task: asyncio.Task[None] = asyncio.get_running_loop().create_task(self._play())

    async def _play(self) -> None:
        wire, clock, speed = self._wire, self._wire.clock, self._wire.speed
        first = wire.take()
        begin_s = clock.monotonic()
        recorded_s = 0.0
        burst = 0
        await asyncio.sleep(0)  # whoever opened has the stream before its first frame
        while (entry := wire.take()) is not None:
            if math.isfinite(speed):
                if entry.received_ns is not None and first is not None and first.received_ns is not None:
                    recorded_s = max(recorded_s, (entry.received_ns - first.received_ns) / 1e9)
                elif entry is not first:
                    recorded_s += UNTIMED_STEP_S
                wait_s = begin_s + recorded_s / speed - clock.monotonic()
                if wait_s > 0:
                    await clock.sleep(wait_s)
                    burst = 0
            wire.taken()
            self._on_frame(entry.frame)
            burst += 1
            if burst >= _BURST:
                burst = 0
                await asyncio.sleep(0)
        self._why = Text("The recording {path} has ended.", {"path": wire.path.name})

    async def send(self, frame: str) -> None:
        """Nobody listens; raises `Unavailable` when closed."""
        if self._task.done():
            raise Unavailable("stream_closed", Text("The stream is closed."))

    async def ping(self) -> float:
        await self.send("")
        return 0.0

    async def closed(self) -> Text:
        await asyncio.wait((self._task,))
        if not self._task.cancelled():
            self._task.result()  # an error of the sink is not hidden
        return self._why

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))


def first_received_ns(path: str | Path) -> int | None:
    """When a capture begins: the first frame's time, None if it has none. For a clock to start at."""
    for entry in read_capture(path):
        if isinstance(entry, Captured):
            return entry.received_ns
    return None
