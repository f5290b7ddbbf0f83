"""The doctor says what a machine lacks, the log keeps no secret, and the bundle gives none away."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from watchhamster.core.ports import UsageError
from watchhamster.core.secret import Secret
from watchhamster.core.text import Text, say
from watchhamster.doctor import Finding, bundle, check
from watchhamster.engine.clock import SystemClock
from watchhamster.logs import configure_logging
from watchhamster.monitor.alerts import Alert
from watchhamster.monitor.status import node
from watchhamster.settings import Home
from watchhamster.sim import Simulator
from watchhamster.storage.desk import DeskStore

HEADLESS = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").prepare()


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finding]:
    """One whole examination of this machine, without a network."""
    home = Home(tmp_path_factory.mktemp("doctor") / "home").prepare()
    return by_name(check(home, HEADLESS, online=False))


def test_on_a_machine_that_runs_the_tests_nothing_is_missing(found: dict[str, Finding]) -> None:
    assert {name: finding for name, finding in found.items() if finding.state == "missing"} == {}
    assert {"python", "packages", "sqlite", "home", "disk", "qt", "fonts", "keyring", "loopback"} <= set(found)
    assert found["qt"].state == found["packages"].state == "ok"


def test_every_trouble_says_what_to_do(found: dict[str, Finding]) -> None:
    assert all(finding.fix is not None for finding in found.values() if finding.state != "ok")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems always have a display")
def test_without_a_display_it_says_what_still_works(found: dict[str, Finding]) -> None:
    assert found["display"].state == "warning" and "run, status and alerts" in str(found["display"].detail)
    assert "tray" not in found


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="Xvfb is not installed")
def test_on_a_bare_x_display_the_missing_tray_is_named(home: Home, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1440x900x24", "-nolisten", "tcp"],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as file:
            number = file.readline().strip()
        environment = {**HEADLESS, "DISPLAY": f":{number}"}
        environment.pop("QT_QPA_PLATFORM", None)
        findings = by_name(check(home, environment, online=False))
        if findings["display"].state == "missing":
            assert "libxcb" in str(findings["display"].fix)  # this machine has no libraries for X
        else:
            assert "xcb" in str(findings["display"].detail) and "1440 × 900" in str(findings["display"].detail)
            assert findings["tray"].state == "warning"
    finally:
        server.terminate()
        server.wait()


def test_a_qt_that_cannot_start_is_missing_and_named(home: Home, tmp_path: Path) -> None:
    (tmp_path / "PySide6").mkdir()
    broken = "raise ImportError('libEGL.so.1: cannot open shared object file')"
    (tmp_path / "PySide6" / "__init__.py").write_text(broken)
    finding = by_name(check(home, {**HEADLESS, "PYTHONPATH": str(tmp_path)}, online=False))["qt"]
    assert finding.state == "missing" and "libEGL.so.1" in str(finding.detail)
    assert "libegl1" in str(finding.fix)


def test_a_home_that_cannot_be_written_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finding = by_name(check(Home(tmp_path / "file" / "home"), HEADLESS, online=False, probe_s=0.01))["home"]
    assert finding.state == "missing" and "--home" in str(finding.fix)


def test_a_damaged_database_is_named_and_left_as_it_is(home: Home) -> None:
    connection = sqlite3.connect(home.market_db)
    connection.execute("CREATE TABLE t (a)")
    connection.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 200)
    connection.commit()
    connection.close()
    whole = by_name(check(home, HEADLESS, online=False, probe_s=0.01))["market.db"]
    assert whole.state == "ok"
    data = bytearray(home.market_db.read_bytes())
    data[8192:12288] = os.urandom(4096)
    home.market_db.write_bytes(data)
    home.desk_db.write_bytes(b"not a database at all" * 100)
    findings = by_name(check(home, HEADLESS, online=False, probe_s=0.01))
    assert findings["market.db"].state == findings["watchhamster.db"].state == "warning"
    assert "damaged" in str(findings["market.db"].detail)
    assert home.market_db.read_bytes() == bytes(data)


def test_looking_at_a_database_leaves_nothing_beside_it(home: Home) -> None:
    desk = DeskStore(home.desk_db, SystemClock())
    desk.open()
    assert by_name(check(home, HEADLESS, online=False, probe_s=0.01))["watchhamster.db"].state == "ok"  # in use
    desk.close()
    before = sorted(os.listdir(home.root))
    assert by_name(check(home, HEADLESS, online=False, probe_s=0.01))["watchhamster.db"].state == "ok"
    assert sorted(os.listdir(home.root)) == before and "watchhamster.db-wal" not in before


async def examined(home: Home, faults: str = "") -> dict[str, dict[str, Finding]]:
    """What is found of each venue, where the built-in exchange stands for all."""
    async with Simulator(faults=faults) as simulator:
        urls = {f"WATCHHAMSTER_{name.upper()}_URL": url for name, url in simulator.venues.items()}
        findings = await asyncio.to_thread(check, home, {**HEADLESS, **urls}, probe_s=0.01)
    venues: dict[str, dict[str, Finding]] = {}
    for finding in findings:
        if finding.venue:
            venues.setdefault(finding.venue, {})[finding.name] = finding
    return venues


@pytest.fixture
async def both(home: Home) -> Home:
    """A home that watches instruments of both venues."""
    desk = DeskStore(home.desk_db, SystemClock())
    desk.open()
    await desk.set_watch_list(["yahoo:AAPL", "upbit:KRW-BTC"])
    desk.close()
    return home


@pytest.mark.parametrize(("skew", "state"), [("", "ok"), ("skew:90", "warning")])
async def test_every_venue_in_use_is_asked(both: Home, skew: str, state: str) -> None:
    found = await examined(both, skew)
    assert {name: set(findings) for name, findings in found.items()} == {
        "upbit": {"network", "clock"},
        "yahoo": {"network", "clock", "pass", "caution"},
    }
    for findings in found.values():
        assert {f.state for name, f in findings.items() if name != "clock"} == {"ok"}
        assert findings["clock"].state == state
        if state == "warning":
            assert any(f"-{seconds} s" in str(findings["clock"].detail) for seconds in range(84, 97))
    assert "personal use" in str(found["yahoo"]["caution"].detail)


async def test_a_home_that_watches_nothing_yet_asks_the_first_venue_only(home: Home) -> None:
    assert set(await examined(home)) == {"upbit"}


@pytest.mark.parametrize(
    ("fault", "name", "word"),
    [
        ("yahoo.crumb429", "pass", "refused"),
        ("yahoo.consent", "network", "consent page"),
        ("yahoo.http999", "network", "999"),
        ("yahoo.maintenance", "network", "503"),
        ("yahoo.down", "network", "127.0.0.1"),
    ],
)
async def test_what_a_venue_refuses_is_named(both: Home, fault: str, name: str, word: str) -> None:
    found = await examined(both, fault)
    finding = found["yahoo"][name]
    assert finding.state == "warning" and word in say(finding.detail) and finding.fix is not None
    assert found["upbit"]["network"].state == "ok"
    assert ("network" in found["yahoo"] and found["yahoo"]["network"].state == "ok") == (name == "pass")


def test_a_venue_out_of_reach_is_a_warning(home: Home) -> None:
    environment = {**HEADLESS, "WATCHHAMSTER_UPBIT_URL": "http://127.0.0.1:1"}
    findings = by_name(check(home, environment, probe_s=0.01))
    assert findings["network"].state == "warning" and "clock" not in findings


# ---------------------------------------------------------------- the log


def test_the_log_rotates_is_private_and_holds_no_secret(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    secret = Secret("correct horse battery staple")
    undo = configure_logging(home)
    try:
        log = logging.getLogger("watchhamster.test")
        log.warning("the phrase is %s", secret.reveal())
        log.info("POST https://hook.dooray.com/services/1/2/AbCdEf")
        try:
            raise ValueError(f"in a traceback: {secret.reveal()}")
        except ValueError:
            log.exception("failed")
        logging.getLogger("httpx").info("HTTP Request: POST https://hook.dooray.com/services/1/2/AbCdEf")
        for _line in range(240):
            log.info("x" * 50_000)
        thread = threading.Thread(target=lambda: 1 / 0, name="worker")
        thread.start()
        thread.join()
    finally:
        undo()
    files = sorted(home.logs.glob("watchhamster.log*"))
    assert len(files) == 3
    assert all(file.stat().st_size <= 5_000_000 for file in files)
    text = "".join(file.read_text() for file in reversed(files))
    assert "the phrase is ***" in text and "in a traceback: ***" in text
    assert "correct horse" not in text and "AbCdEf" not in text and "HTTP Request" not in text
    assert "https://hook.dooray.com/***" in text
    assert "uncaught in the thread worker" in text and "ZeroDivisionError" in text
    said = capsys.readouterr()
    assert "the phrase is ***" in said.err and "xxxx" not in said.err and said.out == ""


def test_configuring_can_be_undone(home: Home) -> None:
    before = (list(logging.getLogger().handlers), logging.getLogger().level, sys.excepthook, threading.excepthook)
    configure_logging(home, debug=True)()
    assert (
        list(logging.getLogger().handlers),
        logging.getLogger().level,
        sys.excepthook,
        threading.excepthook,
    ) == before


def test_a_crash_leaves_a_trail(home: Home) -> None:
    script = (
        "import sys, faulthandler, os\nfrom pathlib import Path\nfrom watchhamster.logs import configure_logging\n"
        "from watchhamster.settings import Home\nconfigure_logging(Home(Path(sys.argv[1])))\nos.abort()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(home.root)], capture_output=True, check=False)
    assert done.returncode != 0
    assert "Fatal Python error: Aborted" in (home.logs / "crash.log").read_text()


def test_an_uncaught_error_is_logged_without_its_secret(home: Home) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom watchhamster.core.secret import Secret\n"
        "from watchhamster.logs import configure_logging\nfrom watchhamster.settings import Home\n"
        "configure_logging(Home(Path(sys.argv[1])))\nkey = Secret('opensesame99')\n"
        "raise RuntimeError('key ' + key.reveal())\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(home.root)], capture_output=True, text=True, check=False)
    text = (home.logs / "watchhamster.log").read_text()
    assert "RuntimeError: key ***" in text and "opensesame99" not in text + done.stderr


# ---------------------------------------------------------------- the bundle


def test_the_bundle_tells_much_and_gives_no_secret_away(home: Home, tmp_path: Path) -> None:
    undo = configure_logging(home, stderr=False)
    logging.getLogger("watchhamster.test").info("feed at https://api.upbit.com/v1/ticker?markets=KRW-BTC up")
    undo()
    # Written by something that did not redact:
    with (home.logs / "watchhamster.log").open("a") as file:
        file.write(f"POST https://hook.dooray.com/services/1/2/AbCdEf from {home.root}/x in {Path.home()}/y\n")
    desk = DeskStore(home.desk_db, SystemClock())
    desk.open()

    async def fill() -> None:
        await desk.set_setting("theme", "dark")
        await desk.set_setting("not_ours", "hunter2hunter2")
        alert = Alert(key="k", name="my secret strategy", fired_ns=1, text=Text("x"))
        _stored, (delivery,) = await desk.add_alert(alert, ("room",), None)
        import msgspec

        await desk.save_delivery(
            msgspec.structs.replace(delivery, state="dead", error="https://hook.dooray.com/services/1/2/AbCdEf")
        )

    asyncio.run(fill())
    desk.close()
    target = tmp_path / "help.zip"
    bundle(target, home, node("desk", "ok", detail=Text("at {p}", {"p": str(home.root)})), [])
    with zipfile.ZipFile(target) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert {"versions.json", "findings.json", "state.json", "status.json", "logs/watchhamster.log"} <= set(texts)
    everything = "\n".join(texts.values())
    for hidden in ("AbCdEf", "hunter2", str(home.root), "my secret strategy"):
        assert hidden not in everything
    state = json.loads(texts["state.json"])
    assert state["desk"]["settings"] == {"theme": "dark"}
    assert state["desk"]["deliveries"] == {"dead": 1}
    assert json.loads(texts["status.json"])["detail"] == "at <home>"
    assert "markets=KRW-BTC" in texts["logs/watchhamster.log"] and "<home>/x" in texts["logs/watchhamster.log"]
    assert json.loads(texts["versions.json"])["packages"]["msgspec"]
    assert os.listdir(tmp_path).count("help.zip") == 1 and len(os.listdir(tmp_path)) == 2


def test_a_bundle_of_a_home_in_pieces_is_still_made(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").prepare()
    home.desk_db.write_bytes(b"garbage")
    bundle(tmp_path / "a.zip", home, None, [])
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert "unreadable" in json.loads(archive.read("state.json"))["desk"]
    bundle(tmp_path / "b.zip", Home(tmp_path / "nowhere"), None, [])


def test_a_bundle_that_cannot_be_written_says_so(home: Home, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        bundle(tmp_path / "no such folder" / "a.zip", home, None, [])
    assert caught.value.code == "cannot_write"
