"""Recorded streams: read exactly, whatever state the file is in, and played as a venue's stream."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.virtual_time import VirtualClock, run
from watchhamster.core.ports import Request, StoreError, Unavailable
from watchhamster.engine.clock import SystemClock
from watchhamster.venues.capture import BadLine, Captured, CaptureWire, first_received_ns, read_capture

HANG_S = 60.0


def capture(path: Path, *lines: str | Mapping[str, object], end: str = "\n") -> Path:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text(text + end, encoding="utf-8")
    return path


def test_lines(tmp_path: Path) -> None:
    path = capture(
        tmp_path / "c.jsonl",
        '{"received": 1618678285.6694012, "frame": "한글"}',
        "",
        {"received": 1618678286, "frame": "base64:" + base64.b64encode(b"\x00\xff").decode()},
        {"frame": "without a time", "extra": 1},
        {"received": None, "frame": "nor here"},
    )
    assert list(read_capture(path)) == [
        Captured(1618678285669401200, "한글"),
        Captured(1618678286000000000, b"\x00\xff"),
        Captured(None, "without a time"),
        Captured(None, "nor here"),
    ]
    assert first_received_ns(path) == 1618678285669401200


@given(st.integers(0, 4 * 10**18), st.integers(0, 9))
def test_times_are_read_digit_by_digit(ns: int, dropped: int) -> None:
    ns -= ns % 10**dropped
    text = format(Decimal(ns).scaleb(-9), "f")
    path = Path(TEMPORARY.name)
    path.write_text(f'{{"received": {text}, "frame": "x"}}\n')
    assert list(read_capture(path)) == [Captured(ns, "x")]


def test_what_cannot_be_read_is_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = capture(
        tmp_path / "c.jsonl",
        {"frame": "good"},
        "not json",
        {"received": -1, "frame": "x"},
        '{"received": 1e999999999, "frame": "x"}',
        '{"received": NaN, "frame": "x"}',
        {"received": "soon", "frame": "x"},
        {"frame": 5},
        {"received": 1},
        {"frame": "base64:???"},
        "[" * 50_000,
        {"frame": "good, too"},
        '{"received": 5, "fra',
        end="",
    )
    entries = list(read_capture(path))
    assert [e.frame for e in entries if isinstance(e, Captured)] == ["good", "good, too"]
    bad = [e for e in entries if isinstance(e, BadLine)]
    assert [e.line for e in bad] == [2, 3, 4, 5, 6, 7, 8, 9, 10, 12]
    assert all(e.reason and len(e.sample) <= 200 for e in bad)
    assert "cut off" in bad[-1].reason and "cut off" not in bad[0].reason


def test_a_line_without_end_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'{"frame":"' + b"x" * (9 << 20) + b'"}\n{"frame":"behind"}\n')
    long, behind = read_capture(path)
    assert isinstance(long, BadLine) and "4 MiB" in long.reason
    assert behind == Captured(None, "behind")


def test_arrays(tmp_path: Path) -> None:
    whole = '["text", "base64:AP8=", {"type": "ticker"}, {"received": 1.5, "frame": "f"}, [1], 5, "base64:?"'
    path = tmp_path / "c.json"
    path.write_text("\n " + whole + "]")
    good = [
        Captured(None, "text"),
        Captured(None, b"\x00\xff"),
        Captured(None, b'{"type": "ticker"}'),
        Captured(1500000000, "f"),
        Captured(None, b"[1]"),
    ]
    entries = list(read_capture(path))
    assert entries[:5] == good and [e.line for e in entries[5:] if isinstance(e, BadLine)] == [6, 7]
    path.write_text(whole + ', {"type": "tick')
    entries = list(read_capture(path))
    assert entries[:5] == good
    assert isinstance(entries[-1], BadLine) and entries[-1].line == 8 and "cut off" in entries[-1].reason


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(StoreError) as refused:
            list(read_capture(path))
        assert refused.value.code == "no_capture" and str(path) in str(refused.value)
    (tmp_path / "empty").write_text("")
    assert list(read_capture(tmp_path / "empty")) == [] and first_received_ns(tmp_path / "empty") is None


async def test_a_capture_plays_in_place_of_sockets(tmp_path: Path) -> None:
    path = capture(tmp_path / "c.jsonl", *({"received": 100 + n * 3600, "frame": str(n)} for n in range(300)), "bad")
    wire = CaptureWire(path, SystemClock(), math.inf)
    frames: list[bytes | str] = []
    stream = await wire.open("wss://anywhere", frames.append, timeout_s=1)
    assert frames == []  # not before the caller has the stream
    await stream.send("a subscription")
    assert await stream.ping() == 0
    async with asyncio.timeout(HANG_S):
        assert "ended" in str(await stream.closed())
    assert frames == [str(n) for n in range(300)]
    assert wire.ended.is_set() and wire.played == 300 and wire.bad_count == 1 and wire.bad_lines[0].line == 301
    with pytest.raises(Unavailable):
        await stream.send("x")
    with pytest.raises(Unavailable) as over:
        await wire.open("wss://anywhere", frames.append, timeout_s=1)
    assert over.value.code == "replay_ended"
    with pytest.raises(Unavailable) as offline:
        await wire.request(Request("/v1/ticker"))
    assert offline.value.code == "replay_offline"
    await wire.close()


def test_frames_keep_their_distances(tmp_path: Path) -> None:
    received = [1000.0, 1000.5, 1000.5, 4600.0, 4599.0, 90000.0]
    path = capture(tmp_path / "c.jsonl", *({"received": r, "frame": "x"} for r in received))

    async def main(clock: VirtualClock) -> list[float]:
        at: list[float] = []
        wire = CaptureWire(path, clock, 2.0)
        begin = clock.monotonic()
        stream = await wire.open("", lambda _: at.append(clock.monotonic() - begin), timeout_s=1)
        await stream.closed()
        return at

    assert run(main) == [0.0, 0.25, 0.25, 1800.0, 1800.0, 44500.0]


def test_a_stream_opened_again_goes_on(tmp_path: Path) -> None:
    path = capture(tmp_path / "c.jsonl", *({"frame": str(n)} for n in range(40)))

    async def main(clock: VirtualClock) -> tuple[int, list[bytes | str]]:
        frames: list[bytes | str] = []
        wire = CaptureWire(path, clock, 1.0)
        stream = await wire.open("", frames.append, timeout_s=1)
        await clock.sleep(0.51)
        await stream.close()
        assert "closed here" in str(await stream.closed())
        count = len(frames)
        again = await wire.open("", frames.append, timeout_s=1)
        await again.closed()
        return count, frames

    assert run(main) == (11, [str(n) for n in range(40)])


@pytest.fixture(autouse=True, scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> None:
    TEMPORARY.name = str(tmp_path_factory.mktemp("capture") / "times.jsonl")


class TEMPORARY:
    """Where the property test writes (hypothesis and function-scoped fixtures do not mix)."""

    name = ""
