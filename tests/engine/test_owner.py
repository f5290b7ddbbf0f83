"""One owner a home, also after a kill; whoever asks it gets its answers and its errors."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from watchhamster.core.ports import StoreError, Unavailable, UsageError, WatchHamsterError
from watchhamster.core.text import Text
from watchhamster.engine.owner import Handler, Owned, Owner, ask, ask_sync, owner_pid
from watchhamster.settings import Home

BOTH = pytest.mark.parametrize(
    "tcp", [pytest.param(False, marks=pytest.mark.skipif(sys.platform == "win32", reason="no Unix sockets")), True]
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").prepare()


async def echo(command: str, arguments: dict[str, Any]) -> object:
    if command == "fail":
        raise UsageError("bad_thing", Text("{what!r} is bad.", {"what": arguments["what"]}), Text("Do {n}.", {"n": 3}))
    if command == "away":
        raise Unavailable("asleep", Text("Not now."))
    if command == "broken":
        raise WatchHamsterError("broken", Text("It broke."), None, position=7, path=Path("/x"))
    if command == "slow":
        await asyncio.sleep(30)
    return {"command": command, **arguments}


@asynccontextmanager
async def serving(home: Home, handler: Handler = echo, tcp: bool = False) -> AsyncIterator[Owner]:
    with Owner.claim(home, tcp=tcp) as owner:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(owner.serve(handler))
            for _turn in range(1000):
                if json.loads(home.lock.read_bytes() or b"{}").keys() & {"socket", "port"}:
                    break
                await asyncio.sleep(0.005)
            try:
                yield owner
            finally:
                task.cancel()


@BOTH
async def test_the_owner_answers(home: Home, tcp: bool) -> None:
    async with serving(home, tcp=tcp):
        assert await ask(home, "show", text="안녕", numbers=[1, 2.5, None]) == {
            "command": "show",
            "text": "안녕",
            "numbers": [1, 2.5, None],
        }
        answers = await asyncio.gather(*(ask(home, "n", n=n) for n in range(20)))
        assert [answer["n"] for answer in answers] == list(range(20))
        assert await asyncio.to_thread(ask_sync, home, "sync") == {"command": "sync"}


@BOTH
async def test_errors_come_back_as_they_were(home: Home, tcp: bool) -> None:
    async with serving(home, tcp=tcp):
        with pytest.raises(UsageError) as usage:
            await ask(home, "fail", what="x")
        assert (usage.value.code, str(usage.value), str(usage.value.hint)) == ("bad_thing", "'x' is bad.", "Do 3.")
        assert usage.value.text.message == "{what!r} is bad."
        with pytest.raises(Unavailable) as unavailable:
            await ask(home, "away")
        assert unavailable.value.code == "asleep"
        with pytest.raises(WatchHamsterError) as broken:
            await ask(home, "broken")
        assert broken.value.details == {"position": 7, "path": "/x"} and type(broken.value) is WatchHamsterError


@BOTH
async def test_a_second_claim_names_the_first(home: Home, tcp: bool) -> None:
    assert owner_pid(home) is None
    async with serving(home, tcp=tcp):
        with pytest.raises(Owned) as caught:
            Owner.claim(home)
        assert caught.value.pid == os.getpid() == owner_pid(home)
        assert caught.value.code == "already_running"
    assert owner_pid(home) is None
    Owner.claim(home).release()


async def test_another_home_is_another_matter(home: Home, tmp_path: Path) -> None:
    async with serving(home), serving(Home(tmp_path / "other").prepare()) as other:
        assert await ask(home, "a") == {"command": "a"}
        other.release()


async def test_with_nobody_there_asking_says_so(home: Home) -> None:
    with pytest.raises(Unavailable) as caught:
        await ask(home, "show")
    assert caught.value.code == "no_owner"
    async with serving(home):
        pass
    with pytest.raises(Unavailable):
        await ask(home, "show")


async def test_an_owner_that_is_busy_is_not_waited_for_for_ever(home: Home) -> None:
    async with serving(home):
        with pytest.raises(Unavailable) as caught:
            await ask(home, "slow", timeout_s=0.1)
        assert caught.value.code == "owner_silent" and str(os.getpid()) in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="Unix permissions")
async def test_only_this_user_can_ask(home: Home) -> None:
    async with serving(home):
        assert stat.S_IMODE(home.socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(home.lock.stat().st_mode) == 0o600


async def test_on_loopback_a_stranger_without_the_token_is_refused(home: Home) -> None:
    async with serving(home, tcp=True):
        port = json.loads(home.lock.read_bytes())["port"]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b'{"command": "show", "token": "guess"}\n')
        answer = json.loads(await reader.readline())
        writer.close()
        await writer.wait_closed()
        assert answer["ok"] is None and answer["error"]["code"] == "not_allowed"


async def test_stopping_does_not_wait_for_an_answer_in_the_making(home: Home) -> None:
    async with asyncio.TaskGroup() as group:
        async with serving(home):
            asking = group.create_task(_refused(home))
            await asyncio.sleep(0.05)
        await asyncio.wait_for(asking, 60)


async def _refused(home: Home) -> None:
    with pytest.raises(Unavailable):
        await ask(home, "slow")


@pytest.mark.skipif(sys.platform == "win32", reason="no Unix sockets")
async def test_garbage_and_endless_requests_leave_it_standing(home: Home) -> None:
    async with serving(home):
        for sent, code in (
            (b"garbage\n", "bad_request"),
            (b'{"command": 3}\n', "bad_request"),
            (b"x" * 3_000_000, "too_long"),
        ):
            reader, writer = await asyncio.open_unix_connection(home.socket)
            try:
                writer.write(sent)
                await writer.drain()
                assert json.loads(await reader.readline())["error"]["code"] == code
            except ConnectionError:
                assert code == "too_long"
            finally:
                writer.close()
        crowd = [await asyncio.open_unix_connection(home.socket) for _ in range(40)]
        refused = [await asyncio.wait_for(reader.read(), 60) for reader, _ in crowd[32:]]
        assert refused == [b""] * 8
        for _, writer in crowd:
            writer.close()
        for _turn in range(100):
            await asyncio.sleep(0.01)
            try:
                assert await ask(home, "still there") == {"command": "still there"}
                break
            except Unavailable:
                continue
        else:
            raise AssertionError("it did not recover")


OWNER = """
import asyncio, sys
from pathlib import Path
from watchhamster.engine.owner import Owner
from watchhamster.settings import Home
async def answer(command, arguments):
    return "from the child"
async def main():
    owner = Owner.claim(Home(Path(sys.argv[1])))
    await owner.serve(answer)
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
async def test_a_killed_owner_leaves_a_home_that_can_be_claimed(home: Home) -> None:
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", OWNER, str(home.root))
    try:
        for _turn in range(1000):
            try:
                assert await ask(home, "hello") == "from the child"
                break
            except Unavailable:
                await asyncio.sleep(0.01)
        with pytest.raises(Owned) as caught:
            Owner.claim(home)
        assert caught.value.pid == child.pid
    finally:
        child.send_signal(signal.SIGKILL)
        await child.wait()
    assert home.socket.exists()  # stale
    with pytest.raises(Unavailable):
        await ask(home, "hello")
    async with serving(home):
        assert await ask(home, "hello") == {"command": "hello"}
    assert not home.socket.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets")
async def test_a_long_path_gets_a_socket_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = tmp_path / "r"
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    home = Home(tmp_path / ("long-" * 20) / "home").prepare()
    async with serving(home):
        path = Path(json.loads(home.lock.read_bytes())["socket"])
        assert not path.is_relative_to(home.root) and path.parent.parent in (runtime, Path("/tmp"))
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert await ask(home, "hello") == {"command": "hello"}


def test_a_home_that_cannot_be_written_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        Owner.claim(Home(tmp_path / "missing"))
    assert caught.value.code == "home_not_writable"


def test_children_do_not_inherit_the_lock(home: Home) -> None:
    with Owner.claim(home):
        child = subprocess.Popen(
            [sys.executable, "-c", "print('up', flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=False,
        )
        assert child.stdout is not None
        assert child.stdout.readline().strip() == b"up"  # it has become another program by now
    try:
        Owner.claim(home).release()
    finally:
        child.communicate(b"\n")


def test_the_owner_module_needs_no_qt() -> None:
    code = "import sys, watchhamster.engine.owner; print(any(name.startswith('PySide6') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
