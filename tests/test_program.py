"""The program as it is used: processes of it, killed, doubled and starved, against the exchange on a real port."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from watchhamster.sim import Simulator

pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals"), pytest.mark.timeout(300)]

BTC = "upbit:KRW-BTC"
NOBODY = "http://127.0.0.1:9/upbit"
PATIENCE_S = 90.0  # for what must come: how soon, on a machine that has other work, is not what is tested
SAMPLE = Path(__file__).parent / "data" / "upbit"
FIELDS = ["name", "state", "value", "age_s", "since_ns", "detail", "children"]


class Ended:
    """What a process printed, and how it ended."""

    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code = code
        self.text = out.decode()
        self.err = err.decode()

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def error(self) -> dict[str, Any]:
        """The object on the last line of stderr."""
        error: dict[str, Any] = json.loads(self.err.strip().rsplit("\n", 1)[-1])["error"]
        return error


class Program:
    """Commands on one home, where Upbit is at `url`."""

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        keep = {name: value for name, value in os.environ.items() if not name.startswith("WATCHHAMSTER_")}
        keep.pop("DISPLAY", None)
        keep.pop("WAYLAND_DISPLAY", None)
        keep.pop("QT_QPA_PLATFORM", None)
        keep.pop("DBUS_SESSION_BUS_ADDRESS", None)
        self.environment = keep | {"WATCHHAMSTER_UPBIT_URL": url, "WATCHHAMSTER_LANGUAGE": "en"}

    async def start(self, *arguments: object) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "watchhamster",
            "--home",
            str(self.home),
            *map(str, arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
            limit=2**22,
        )

    async def __call__(self, *arguments: object) -> Ended:
        process = await self.start(*arguments)
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
        assert process.returncode is not None
        assert b"Traceback" not in err, err.decode()
        return Ended(process.returncode, out, err)

    @asynccontextmanager
    async def running(self, *arguments: object) -> AsyncIterator[Running]:
        """`run --json`, from its first tree on; ended by SIGTERM, which has to be enough."""
        process = await self.start("run", "--json", *arguments)
        run = Running(process)
        try:
            await run.until(lambda _tree: True)
            yield run
            if process.returncode is None:
                assert await run.end() == 0, (await process.stderr.read()).decode()  # type: ignore[union-attr]
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


class Running:
    """A `run --json`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.trees: list[dict[str, Any]] = []

    async def until(self, condition: Any) -> dict[str, Any]:
        """The first tree from the last one on for which it holds."""
        assert self.process.stdout is not None
        if self.trees and condition(self.trees[-1]):
            return self.trees[-1]
        async with asyncio.timeout(PATIENCE_S):
            while line := await self.process.stdout.readline():
                self.trees.append(json.loads(line))
                if condition(self.trees[-1]):
                    return self.trees[-1]
        assert self.process.stderr is not None
        raise AssertionError(f"it ended: {(await self.process.stderr.read()).decode()}")

    async def end(self) -> int:
        """SIGTERM, which has to be enough."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            assert self.process.stdout is not None
            while line := await self.process.stdout.readline():
                self.trees.append(json.loads(line))
            return await self.process.wait()


def branch(tree: Mapping[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        tree = next(child for child in tree["children"] if child["name"] == name)
    return dict(tree)


def priced(tree: Mapping[str, Any]) -> bool:
    """Whether the market has come in."""
    children = branch(tree, "feeds", "upbit")["children"]
    return bool(children) and all(child["value"] is not None for child in children)


def check_tree(tree: Mapping[str, Any]) -> None:
    assert list(tree) == FIELDS
    assert tree["state"] in ("ok", "pending", "warning", "critical", "unknown", "muted")
    for child in tree["children"]:
        check_tree(child)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(activity=8.0) as one:
        yield one


@pytest.fixture
def program(tmp_path: Path, simulator: Simulator) -> Program:
    return Program(tmp_path / "home", simulator.venues["upbit"])


# ---------------------------------------------------------------- run


async def test_run_is_owned_asked_killed_and_goes_on(program: Program, simulator: Simulator) -> None:
    """One process owns the home; others ask it. A kill loses nothing that was there, and the gap is filled."""

    async def stored(since_ns: int, until_ns: int) -> dict[int, float]:
        export = await program("data", "export", BTC, "--timeframe", "1s", "--format", "json")
        return {r["open_ns"]: r["close"] for r in export.lines if since_ns <= r["open_ns"] < until_ns}

    async with program.running("--instrument", BTC, "--instrument", "upbit:KRW-ETH") as run:
        since_ns = time.time_ns() // 60_000_000_000 * 60_000_000_000  # history begins with the minute it was started in
        check_tree(await run.until(priced))
        second, desktop, status, shown = await asyncio.gather(
            program("run", "--json"), program("--json"), program("status", "--json"), program("status")
        )
        assert (second.code, second.error["code"]) == (1, "already_running")
        assert str(run.process.pid) in second.error["message"] and second.error["hint"]
        assert (desktop.code, desktop.error["code"]) == (1, "already_running")  # headless: it has no window to show
        (tree,) = status.lines
        check_tree(tree)
        assert branch(tree, "feeds", "upbit", "KRW-BTC")["value"] is not None
        assert "KRW-BTC" in shown.text
        async with asyncio.timeout(PATIENCE_S):
            while not await stored(0, 1 << 62):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        run.process.kill()
        await run.process.wait()
    await asyncio.sleep(1.0)
    async with program.running("--instrument", BTC) as run:
        await run.until(priced)
        until_ns = time.time_ns() // 1_000_000_000 * 1_000_000_000
        true: dict[int, float] = {}
        rows: dict[int, float] = {}
        async with asyncio.timeout(PATIENCE_S):
            while not rows or rows != true:  # the last seconds close, and are written, within some more
                await asyncio.sleep(0.5)
                rows = await stored(since_ns, until_ns)
                true = {
                    c.open_ns: c.close for c in simulator.exchange.true_candles("KRW-BTC", "1s", since_ns, until_ns)
                }
        verified = await program("data", "verify", "--json")
        assert (verified.code, verified.lines[0]["damaged"]) == (0, 0)
    check_tree(run.trees[-1])
    assert (await program("status", "--json")).lines[0]["children"][0]["state"] == "unknown"  # nobody runs


async def test_what_writes_goes_through_the_owner(program: Program, shared_data: Path, tmp_path: Path) -> None:
    async with program.running("--instrument", BTC) as run:
        await run.until(priced)
        files = sorted((shared_data / "upbit").glob("rest-candles-1m*.json"))
        added, imported, tested = await asyncio.gather(
            program("alert", "add", "close > 0", "--forming", "--once", "--instrument", BTC, "--json"),
            program("data", "import", *files, "--json"),
            program("alert", "test", "inbox", "--json"),
        )
        assert [done.code for done in (added, imported, tested)] == [0, 0, 0]
        assert all(line["new"] == line["read"] for line in imported.lines)
        await run.until(lambda tree: branch(tree, "rules")["state"] != "ok" and priced(tree))
        fired: list[Any] = []
        async with asyncio.timeout(PATIENCE_S):
            while not fired:
                alerts = await program("alert", "list", "--json")
                fired = [line for line in alerts.lines if line["kind"] == "rule"]
        assert fired[0]["instrument"] == BTC
        backup = tmp_path / "backup.zip"
        acked, silenced, saved, reading = await asyncio.gather(
            program("alert", "ack", fired[0]["id"], "--json"),
            program("alert", "silence", "5m", "--json"),
            program("data", "backup", backup, "--json"),
            program("formula", "close", "--instrument", BTC, "--json"),
        )
        assert [done.code for done in (acked, silenced, saved, reading)] == [0, 0, 0, 0]
        assert acked.lines[0]["acknowledged_ns"] and silenced.lines[0]["until_ns"] and saved.lines[0]["bytes"]
        removed = await program("alert", "remove", added.lines[0]["id"], "--json")
        assert removed.code == 0
        tree = (await program("status", "--json")).lines[0]
        assert branch(tree, "rules")["value"] == 0
        restored = await program("data", "restore", backup, "--json")
        assert restored.code == 0, restored.err
        tree = (await program("status", "--json")).lines[0]
        assert branch(tree, "rules")["value"] == 1, "the engine goes on with what was restored"
        bad = await program("alert", "remove", "99", "--json")
        assert (bad.code, bad.error["code"]) == (2, "unknown_rule")


async def test_a_stop_comes_at_any_time(tmp_path: Path, simulator: Simulator) -> None:
    """While it starts, while the venue hangs, and without a network: SIGTERM is answered with the final tree."""

    async def starting() -> None:
        program = Program(tmp_path / "starting", simulator.venues["upbit"])
        async with program.running("--instrument", BTC) as run:
            assert await run.end() == 0  # hardly begun
        check_tree(run.trees[-1])

    async def hanging() -> None:
        async with Simulator(faults="hang:all") as silent:
            program = Program(tmp_path / "hanging", silent.venues["upbit"])
            async with program.running("--instrument", BTC) as run:
                await asyncio.sleep(0.5)
            check_tree(run.trees[-1])

    async def offline() -> None:
        program = Program(tmp_path / "offline", NOBODY)
        async with program.running("--instrument", BTC) as run:
            tree = await run.until(lambda tree: branch(tree, "feeds", "upbit")["value"] != "closed")
            assert branch(tree, "feeds", "upbit")["value"] in ("reconnecting", "stale")
        assert not list(program.home.glob("quarantine/*"))

    await asyncio.gather(starting(), hanging(), offline())


@pytest.mark.parametrize("speed", ["max", "10"])
async def test_a_recording_is_lived_through_and_ends(tmp_path: Path, speed: str) -> None:
    recording = next(iter(sorted(SAMPLE.glob("*.jsonl"))))
    program = Program(tmp_path / "home", NOBODY)
    async with asyncio.timeout(PATIENCE_S):
        ended = await program("run", "--replay", recording, "--speed", speed, "--json")
    assert ended.code == 0, ended.err
    for tree in ended.lines:
        check_tree(tree)
    feeds = branch(ended.lines[-1], "feeds", "upbit")["children"]
    assert feeds and any(child["value"] is not None for child in feeds)
    assert not (program.home / "market.db").exists(), "what is replayed is never history"


# ---------------------------------------------------------------- asked once, and followed


async def test_the_market_is_followed_until_interrupted(program: Program) -> None:
    kinds = {"ticker": "ticker", "trades": "trade", "book": "book", "candles": "candle"}

    async def follow(command: str) -> None:
        extra = ("--timeframe", "1s", "--count", "1") if command == "candles" else ()
        process = await program.start(command, BTC, *extra, "--follow", "--json")
        assert process.stdout is not None and process.stderr is not None
        seen: list[Any] = []
        async with asyncio.timeout(PATIENCE_S):
            while sum(event["kind"] == kinds[command] for event in seen) < 3:
                seen.append(json.loads(await process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE_S):
            _, err = await process.communicate()
        assert process.returncode == 130, err.decode()
        assert b"Traceback" not in err
        assert {event["kind"] for event in seen} <= {kinds[command], "feed"}
        assert all(event["instrument"] in (BTC, None) for event in seen)

    async with asyncio.TaskGroup() as group:
        for command in kinds:
            group.create_task(follow(command))


async def test_a_question_is_answered_or_refused(program: Program) -> None:
    asked = await asyncio.gather(*(program(name, BTC, "--json") for name in ("ticker", "trades", "book", "candles")))
    assert [answer.code for answer in asked] == [0, 0, 0, 0]
    assert all(line["instrument"] == BTC for answer in asked for line in answer.lines)
    unknown, frame = await asyncio.gather(
        program("ticker", "upbit:KRW-BTCC", "--json"), program("candles", BTC, "--timeframe", "7m", "--json")
    )
    assert (unknown.code, unknown.error["code"]) == (2, "unknown_instrument")
    assert BTC in unknown.error["hint"]
    assert (frame.code, frame.error["code"]) == (2, "bad_timeframe")
    offline = await Program(program.home, NOBODY)("ticker", BTC, "--json")
    assert (offline.code, offline.lines) == (1, [])


async def test_a_venue_that_hangs_is_given_five_seconds(tmp_path: Path) -> None:
    async with Simulator(faults="hang:all") as silent:
        program = Program(tmp_path / "home", silent.venues["upbit"])
        hung = await asyncio.gather(program("trades", BTC, "--json"), program("candles", BTC, "--follow", "--json"))
    assert [(answer.code, answer.error["code"], answer.lines) for answer in hung] == [(1, "no_answer", [])] * 2


# ---------------------------------------------------------------- bad input


async def test_damaged_files_are_put_aside_and_it_goes_on(program: Program) -> None:
    async with program.running("--instrument", BTC, "--for", "2s") as run:
        await run.until(priced)
        await run.process.wait()
    for name in ("market.db", "watchhamster.db"):
        path = program.home / name
        content = bytearray(path.read_bytes())
        content[:4096] = os.urandom(4096)
        path.write_bytes(content)
    async with program.running("--instrument", BTC) as run:
        tree = await run.until(priced)
        damaged = [child for child in branch(tree, "storage")["children"] if child["name"] == "damaged file"]
        assert len(damaged) >= 2 and all(child["detail"] for child in damaged)
    assert len(list((program.home / "quarantine").iterdir())) >= 2, "both are kept"


@pytest.mark.slow
async def test_a_locked_database_stops_nobody(program: Program) -> None:
    """Someone holds a lock on both files: it says so, goes on watching, ends in time, and is whole afterwards."""
    async with program.running("--instrument", BTC, "--for", "2s") as run:
        await run.process.wait()
    with locked(program.home / "market.db"):
        async with program.running("--instrument", BTC) as run:
            await run.until(priced)
            assert await run.end() == 1, "what it could not write is said"
            assert run.process.stderr is not None
            assert b"database_locked" in await run.process.stderr.read()
    with locked(program.home / "watchhamster.db"):
        refused = await program("alert", "add", "close > 0", "--instrument", BTC, "--json")
        assert refused.code == 1
        assert "watchhamster.db" in refused.error["message"] and refused.error["hint"]
    assert (await program("data", "verify", "--json")).code == 0


@contextmanager
def locked(path: Path) -> Iterator[None]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a small file system is made with Linux' tmpfs")
@pytest.mark.slow
async def test_a_full_disk_is_said_and_survived(tmp_path: Path, simulator: Simulator) -> None:
    home = tmp_path / "home"
    home.mkdir()
    mounting = await asyncio.create_subprocess_exec(
        *("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(home)), stderr=subprocess.DEVNULL
    )
    if await mounting.wait():
        pytest.skip("only root may mount a file system")
    try:
        program = Program(home, simulator.venues["upbit"])
        async with program.running("--instrument", BTC, "--for", "2s") as run:
            await run.process.wait()
        async with program.running("--instrument", BTC) as run:
            await run.until(priced)
            with (home / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
                while True:
                    ballast.write(b"x" * 4096)
            tree = await run.until(lambda tree: branch(tree, "storage")["state"] == "critical")
            (history,) = [c for c in branch(tree, "storage")["children"] if c["name"] == "history"]
            assert "full" in history["detail"]
            refused = await program("alert", "add", "close > 0", "--instrument", BTC, "--json")
            assert (refused.code, refused.error["code"]) == (1, "disk_full")
            other = await Program(home / "another", NOBODY)("run", "--for", "1s", "--json")
            assert (other.code, other.error["code"]) == (1, "home_not_writable")
            (home / "ballast").unlink()
            await run.until(lambda tree: branch(tree, "storage")["state"] == "ok")
        assert (await program("data", "verify", "--json")).code == 0
    finally:
        await (await asyncio.create_subprocess_exec("umount", "-l", str(home))).wait()


async def test_what_a_machine_may_lack(tmp_path: Path) -> None:
    """No keyring, no display, no such instrument, half a capture: each said in a sentence that helps."""
    program = Program(tmp_path / "home", NOBODY)
    program.environment["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"
    half = tmp_path / "half.jsonl"
    whole = next(iter(sorted(SAMPLE.glob("*.jsonl")))).read_bytes()
    half.write_bytes(whole[: len(whole) * 2 // 3 - 40])
    keyless, headless, nowhere, cut, gone = await asyncio.gather(
        program("alert", "channel", "room", "--url", "https://hook.example.com/x", "--json"),
        Program(tmp_path / "other", NOBODY)("--minimized", "--speed", "x"),
        Program(tmp_path / "third", NOBODY)("run", "--for", "2s", "--instrument", "nowhere:BTC", "--json"),
        program("replay", half, "--json"),
        Program(tmp_path / "fourth", NOBODY)("run", "--replay", tmp_path / "gone.jsonl", "--json"),
    )
    assert keyless.code == 1 and "WATCHHAMSTER_VAULT_FD" in keyless.error["message"] + keyless.error["hint"]
    assert "no display" in headless.err and headless.code == 2
    assert (nowhere.code, nowhere.error["code"]) == (2, "unknown_instrument")
    assert (cut.code, cut.error["code"]) == (1, "unreadable_lines")
    assert cut.lines[-1]["kind"] == "bad_frame" and len(cut.lines) > 1
    assert gone.code == 1 and "gone.jsonl" in gone.error["message"]
