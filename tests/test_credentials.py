"""Secrets: the vault whole, and the real keyring of a private session."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from watchhamster.core.ports import UsageError
from watchhamster.core.secret import Secret
from watchhamster.credentials import (
    Absent,
    Argon2Cost,
    Damaged,
    Keyring,
    Locked,
    NoKeyring,
    Vault,
    entry_name,
    find_credentials,
    read_passphrase,
)

CHEAP = Argon2Cost(memory_kib=64, iterations=1, lanes=1)
PHRASE = Secret("correct horse battery staple")


async def made(path: Path, **secrets: str) -> Vault:
    vault = Vault(path, CHEAP)
    await vault.create(PHRASE)
    for name, value in secrets.items():
        await vault.set("default", name, Secret(value))
    return vault


async def test_secrets_survive_a_restart_at_full_cost(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "v")
    await vault.create(PHRASE)
    await vault.set("default", "dooray", Secret("https://hook.example/서비스"))
    again = Vault(tmp_path / "v")
    assert again.locked
    with pytest.raises(Locked, match="locked"):
        await again.get("default", "dooray")
    await again.unlock(PHRASE)
    assert await again.get("default", "dooray") == Secret("https://hook.example/서비스")
    header = json.loads((tmp_path / "v").read_bytes())["header"]
    assert header["cost"] == {"memory_kib": 65536, "iterations": 3, "lanes": 4}


async def test_the_file_is_private_and_holds_no_secret(tmp_path: Path) -> None:
    await made(tmp_path / "v", a="hunter2hunter2")
    assert stat.S_IMODE((tmp_path / "v").stat().st_mode) == 0o600
    assert b"hunter2" not in (tmp_path / "v").read_bytes()
    assert os.listdir(tmp_path) == ["v"]


async def test_each_writing_takes_a_fresh_nonce(tmp_path: Path) -> None:
    vault = await made(tmp_path / "v", a="same")
    first = json.loads((tmp_path / "v").read_bytes())["entries"]
    await vault.set("default", "a", Secret("same"))
    assert json.loads((tmp_path / "v").read_bytes())["entries"] != first


async def test_a_wrong_passphrase_and_a_missing_vault_are_told_apart(tmp_path: Path) -> None:
    await made(tmp_path / "v")
    with pytest.raises(Locked) as wrong:
        await Vault(tmp_path / "v", CHEAP).unlock(Secret("wrong one, sorry"))
    assert wrong.value.code == "wrong_passphrase"
    with pytest.raises(Absent) as missing:
        await Vault(tmp_path / "none", CHEAP).unlock(PHRASE)
    assert missing.value.code == "no_vault"


async def test_absent_entries_removal_and_tenants(tmp_path: Path) -> None:
    vault = await made(tmp_path / "v", a="1 2 3")
    with pytest.raises(Absent):
        await vault.get("other", "a")
    await vault.remove("default", "a")
    with pytest.raises(Absent):
        await vault.get("default", "a")
    with pytest.raises(Absent):
        await vault.remove("default", "a")


async def test_swapped_entries_are_refused(tmp_path: Path) -> None:
    vault = await made(tmp_path / "v", a="one", b="two")
    data = json.loads((tmp_path / "v").read_bytes())
    a, b = entry_name("default", "a"), entry_name("default", "b")
    data["entries"][a], data["entries"][b] = data["entries"][b], data["entries"][a]
    (tmp_path / "v").write_text(json.dumps(data))
    with pytest.raises(Damaged, match="watchhamster/default/a"):
        await vault.get("default", "a")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data["header"].update(format=2),
        lambda data: data["header"]["cost"].update(memory_kib=2**40),
        lambda data: data["header"].update(salt=""),
        lambda data: data.pop("header"),
        lambda data: data.update(entries=[]),
    ],
)
async def test_a_spoilt_header_is_damage(tmp_path: Path, spoil: Any) -> None:
    await made(tmp_path / "v")
    data = json.loads((tmp_path / "v").read_bytes())
    spoil(data)
    (tmp_path / "v").write_text(json.dumps(data))
    with pytest.raises(Damaged):
        await Vault(tmp_path / "v", CHEAP).unlock(PHRASE)


async def test_a_changed_cost_opens_nothing(tmp_path: Path) -> None:
    await made(tmp_path / "v")
    data = json.loads((tmp_path / "v").read_bytes())
    data["header"]["cost"]["iterations"] = 2
    (tmp_path / "v").write_text(json.dumps(data))
    with pytest.raises(Locked):
        await Vault(tmp_path / "v", CHEAP).unlock(PHRASE)


async def test_half_a_file_is_damage_and_stays_as_it_is(tmp_path: Path) -> None:
    await made(tmp_path / "v", a="one")
    half = (tmp_path / "v").read_bytes()[:-20]
    (tmp_path / "v").write_bytes(half)
    with pytest.raises(Damaged) as caught:
        await Vault(tmp_path / "v", CHEAP).unlock(PHRASE)
    assert caught.value.hint is not None
    assert (tmp_path / "v").read_bytes() == half


async def test_the_passphrase_can_change(tmp_path: Path) -> None:
    vault = await made(tmp_path / "v", a="one")
    await vault.change_passphrase(PHRASE, Secret("another long phrase"))
    assert await vault.get("default", "a") == Secret("one")
    with pytest.raises(Locked):
        await vault.unlock(PHRASE)
    await vault.unlock(Secret("another long phrase"))
    vault.lock()
    with pytest.raises(Locked):
        await vault.get("default", "a")


async def test_refusals(tmp_path: Path) -> None:
    vault = await made(tmp_path / "v")
    for call, code in [
        (vault.create(PHRASE), "vault_exists"),
        (Vault(tmp_path / "w", CHEAP).create(Secret("short")), "weak_passphrase"),
        (vault.set("default", "a", Secret("")), "secret_empty"),
        (vault.set("default", "a", Secret("x" * 20_001)), "secret_too_long"),
        (vault.get("../x", "a"), "bad_credential_name"),
        (vault.get("default", "a/b"), "bad_credential_name"),
    ]:
        with pytest.raises(UsageError) as caught:
            await call
        assert caught.value.code == code


async def test_changes_at_once_are_all_kept(tmp_path: Path) -> None:
    vault = await made(tmp_path / "v")
    await asyncio.gather(*(vault.set("default", f"s{n}", Secret(f"value {n}")) for n in range(20)))
    assert [(await vault.get("default", f"s{n}")).reveal() for n in range(20)] == [f"value {n}" for n in range(20)]


def test_a_passphrase_by_file_descriptor() -> None:
    reading, writing = os.pipe()
    os.write(writing, "열려라 참깨 sesame\n".encode())
    os.close(writing)
    try:
        assert read_passphrase(reading) == Secret("열려라 참깨 sesame")
    finally:
        os.close(reading)


# ---------------------------------------------------------------- the keyring of a private session

ON_LINUX = sys.platform.startswith("linux")
HAS_KEYRING = ON_LINUX and all(shutil.which(name) for name in ("dbus-run-session", "gnome-keyring-daemon"))


def in_session(tmp_path: Path, before: str, script: str) -> Any:
    """What the script prints as JSON, run in a D-Bus session of its own."""
    program = tmp_path / "script.py"
    program.write_text(
        "import asyncio, json, os, sys\nfrom pathlib import Path\nfrom watchhamster.core.secret import Secret\n"
        "from watchhamster.credentials import *\n"
        "from watchhamster.credentials import find_credentials, Keyring, Vault, Locked, Absent\n"
        "async def main():\n" + textwrap.indent(textwrap.dedent(script), "    ") + "\nasyncio.run(main())\n"
    )
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700, exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DBUS", "DISPLAY", "WAYLAND", "GNOME"))}
    environment |= {"XDG_DATA_HOME": str(tmp_path / "data"), "XDG_RUNTIME_DIR": str(runtime), "HOME": str(tmp_path)}
    done = subprocess.run(
        ["dbus-run-session", "--", "sh", "-c", f'{before} exec "$0" -W ignore "$1"', sys.executable, str(program)],
        env=environment,
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout.splitlines()[-1])


UNLOCK = "printf ci | gnome-keyring-daemon --unlock --components=secrets --daemonize >/dev/null 2>&1;"


@pytest.mark.skipif(not HAS_KEYRING, reason="gnome-keyring-daemon or dbus-run-session is not installed")
def test_a_real_keyring_keeps_gives_and_forgets(tmp_path: Path) -> None:
    seen = in_session(
        tmp_path,
        UNLOCK,
        """
        place = await find_credentials(Path("none"))
        await place.set("default", "hook", Secret("비밀 https://x/y"))
        got = (await place.get("default", "hook")).reveal()
        await place.set("default", "hook", Secret("x" * 20_000))
        long = len((await place.get("default", "hook")).reveal())
        await place.remove("default", "hook")
        codes = []
        for call in (place.get("default", "hook"), place.remove("default", "hook")):
            try:
                await call
            except Absent as error:
                codes.append(error.code)
        print(json.dumps([type(place).__name__, got, long, codes]))
        """,
    )
    assert seen == ["Keyring", "비밀 https://x/y", 20_000, ["secret_absent", "secret_absent"]]


@pytest.mark.skipif(not HAS_KEYRING, reason="gnome-keyring-daemon or dbus-run-session is not installed")
def test_a_locked_keyring_says_so_and_nothing_falls_back(tmp_path: Path) -> None:
    in_session(
        tmp_path,
        UNLOCK,
        """
        await (await find_credentials(Path("none"))).set("default", "hook", Secret("kept"))
        print(1)
        """,
    )
    seen = in_session(
        tmp_path,
        UNLOCK.replace("printf ci", "printf wrong"),
        f"""
        place = await find_credentials(Path({str(tmp_path / "vault")!r}))
        try:
            print(json.dumps((await place.get("default", "hook")).reveal()))
        except Locked as error:
            print(json.dumps([type(place).__name__, error.code, bool(error.hint)]))
        """,
    )
    assert seen == ["Keyring", "keyring_locked", True]
    assert not (tmp_path / "vault").exists()


@pytest.mark.skipif(not ON_LINUX, reason="other systems always have a keyring")
async def test_without_a_keyring_the_vault_is_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path / 'nobody'}")
    place = await find_credentials(tmp_path / "vault")
    assert isinstance(place, Vault) and not place.exists and place.locked
    with pytest.raises(NoKeyring) as caught:
        await find_credentials(tmp_path / "vault", "keyring")
    assert caught.value.code == "no_keyring" and caught.value.hint is not None


@pytest.mark.skipif(not HAS_KEYRING, reason="gnome-keyring-daemon or dbus-run-session is not installed")
def test_calls_at_once_take_turns(tmp_path: Path) -> None:
    seen = in_session(
        tmp_path,
        UNLOCK,
        """
        place = await find_credentials(Path("none"))
        await asyncio.gather(*(place.set("default", f"n{n}", Secret(f"v{n}")) for n in range(5)))
        got = await asyncio.gather(*(place.get("default", f"n{n}") for n in range(5)))
        print(json.dumps([secret.reveal() for secret in got]))
        """,
    )
    assert seen == [f"v{n}" for n in range(5)]


async def test_a_keyring_that_waits_for_a_prompt_is_given_up_on(tmp_path: Path) -> None:
    import threading

    from keyring.backend import KeyringBackend

    answered = threading.Event()

    class Prompting(KeyringBackend):
        priority = 1.0

        def get_password(self, service: str, username: str) -> str | None:
            answered.wait(30)
            return "late"

        def set_password(self, service: str, username: str, password: str) -> None:
            raise AssertionError

    place = Keyring(Prompting(), timeout_s=0.05)  # type: ignore[no-untyped-call]
    for _attempt in range(2):  # the second does not start another thread
        with pytest.raises(Locked, match="may be asking"):
            await place.get("default", "hook")
    answered.set()
    for _wait in range(200):
        if not any(thread.name == "credentials" for thread in threading.enumerate()):
            break
        await asyncio.sleep(0.01)
    assert (await place.get("default", "hook")).reveal() == "late"
