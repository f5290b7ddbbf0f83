"""What this machine lacks and how to fix it; the log; and a bundle for whoever helps, without a secret in it.

Checks change nothing. What could crash the process (Qt's libraries) or hang it (a tray, a keyring) is tried in a child
process or with a time limit. `missing` means that the program, or a part that everyone needs, will not work; `warning`
that something is worse than it could be.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import email.utils
import functools
import importlib.metadata
import json
import logging
import logging.handlers
import os
import platform
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from watchhamster.core.instruments import split_instrument
from watchhamster.core.ports import Guarded, StoreError, UsageError, Venue, WatchHamsterError
from watchhamster.core.secret import redact
from watchhamster.core.text import Text, say
from watchhamster.credentials import Keyring, find_credentials
from watchhamster.engine.engine import CAUTIONED
from watchhamster.monitor.status import StatusNode, to_record
from watchhamster.services import USER_AGENT, VENUES, reading_desk, trust, venue_named
from watchhamster.settings import TABLE, Home, Settings, venue_url
from watchhamster.venues.wire import HttpWire

log = logging.getLogger(__name__)

_ANSWER_S = 5.0


class Finding(msgspec.Struct, frozen=True):
    """What one check found. `name` and `state` are never translated."""

    name: str
    state: Literal["ok", "warning", "missing"]
    detail: Text
    fix: Text | None = None
    venue: str = ""  # that it is about


def check(
    home: Home, environment: Mapping[str, str] = os.environ, *, online: bool = True, probe_s: float = 20.0
) -> list[Finding]:
    """Every check, in the order of what depends on what. `online` asks the venues in use; `probe_s` limits Qt's."""
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("python", _python),
        ("packages", _packages),
        ("sqlite", _sqlite),
        ("home", lambda: _home(home)),
        ("disk", lambda: _disk(home)),
        ("databases", lambda: _databases(home)),
        ("qt", lambda: _qt(environment, probe_s)),
        ("display", lambda: _display(environment, probe_s)),
        ("keyring", lambda: _keyring(home)),
        ("loopback", _loopback),
        ("open_files", _open_files),
        ("time_zones", _time_zones),
    ]
    if online:
        checks.append(("network", lambda: _venues(home, environment)))
    findings: list[Finding] = []
    for name, run in checks:
        try:
            findings += run()
        except Exception as error:  # a check that cannot be made is a finding too
            log.exception("the check %s failed", name)
            reason = {"reason": f"{type(error).__name__}: {error}"}
            findings.append(Finding(name, "warning", Text("could not be checked: {reason}", reason)))
    return findings


# ---------------------------------------------------------------- the checks


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    yield Finding("python", "ok", Text("{version} on {system}", {"version": version, "system": platform.platform()}))


def _packages() -> Iterator[Finding]:
    try:
        required = importlib.metadata.requires("watchhamster") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "packages", "warning", Text("WatchHamster is not installed here"), Text("Run bash packaging/run.sh.")
        )
        return
    wrong = [text for line in required if (text := _unmet(line))]
    fix = Text("Run bash packaging/run.sh, which installs the locked versions.")
    if wrong:
        yield Finding("packages", "missing", Text("{wrong}", {"wrong": "; ".join(wrong)}), fix)
    else:
        yield Finding("packages", "ok", Text("{n} as required", {"n": sum("extra" not in line for line in required)}))
    qt = _version("PySide6-Essentials") or _version("PySide6")
    if qt is not None and tuple(map(int, qt.split(".")[:2])) >= (6, 12) and sys.version_info < (3, 12):
        yield Finding(
            "pyside6",
            "missing",
            Text("{version} loses references on this Python and crashes the window", {"version": qt}),
            Text("Install PySide6-Essentials 6.11, or use Python 3.12."),
        )


def _unmet(line: str) -> str:
    """What is wrong with a requirement, empty if nothing is."""
    from packaging.requirements import Requirement

    requirement = Requirement(line)
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return ""
    found = _version(requirement.name)
    if found is None:
        return f"{requirement.name} is not installed"
    if not requirement.specifier.contains(found, prereleases=True):
        return f"{requirement.name} is {found}, not {requirement.specifier}"
    return ""


def _version(package: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def _sqlite() -> Iterator[Finding]:
    version = sqlite3.sqlite_version
    numbers = sqlite3.sqlite_version_info
    if numbers < (3, 35):
        yield Finding(
            "sqlite", "missing", Text("{version} is too old", {"version": version}), Text("Use a newer Python.")
        )
    elif numbers >= (3, 51, 3):
        yield Finding("sqlite", "ok", Text("{version}", {"version": version}))
    else:
        yield Finding("sqlite", "ok", Text("{version}; its WAL fault is avoided by one writer", {"version": version}))


def _home(home: Home) -> Iterator[Finding]:
    place = home.root
    while not place.exists() and place != place.parent:
        place = place.parent
    where = {"path": str(home.root)}
    if os.access(place, os.W_OK | os.X_OK) and place.is_dir():
        yield Finding("home", "ok", Text("{path}", where))
    else:
        yield Finding(
            "home",
            "missing",
            Text("{path} cannot be written", where),
            Text("Make it writable, or choose another with --home or WATCHHAMSTER_HOME."),
        )


def _disk(home: Home) -> Iterator[Finding]:
    place = home.root
    while not place.exists() and place != place.parent:
        place = place.parent
    free_mb = shutil.disk_usage(place).free // 2**20
    detail = Text("{free} MB free", {"free": f"{free_mb:,}"})
    fix = Text("Free some room, or lower the size limit of history in the settings.")
    state: Literal["ok", "warning", "missing"] = "missing" if free_mb < 50 else "warning" if free_mb < 1024 else "ok"
    yield Finding("disk", state, detail, None if state == "ok" else fix)


def _databases(home: Home, limit_s: float = 5.0) -> Iterator[Finding]:
    for path in (home.desk_db, home.market_db, home.demo.desk_db, home.demo.market_db):
        if not path.exists():
            continue
        name = str(path.relative_to(home.root))
        ends = time.monotonic() + limit_s
        try:
            with contextlib.closing(_reading(path)) as connection:
                connection.set_progress_handler(lambda ends=ends: time.monotonic() > ends, 10_000)  # type: ignore[misc]
                [(answer,)] = connection.execute("PRAGMA quick_check(1)").fetchall()
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                yield Finding(name, "ok", Text("sound as far as {limit} s went", {"limit": limit_s}))
            else:
                yield Finding(
                    name,
                    "warning",
                    Text("cannot be read now: {reason}", {"reason": str(error)}),
                    Text("Close what else uses it."),
                )
        except sqlite3.DatabaseError as error:
            yield _damaged(name, str(error))
        else:
            yield Finding(name, "ok", Text("sound")) if answer == "ok" else _damaged(name, answer)


def _reading(path: Path) -> sqlite3.Connection:
    """A connection that leaves nothing behind: reading a file in WAL mode makes a WAL, which looks like a crash."""
    in_use = path.with_name(path.name + "-wal").exists()
    return sqlite3.connect(f"{path.as_uri()}?mode=ro{'' if in_use else '&immutable=1'}", uri=True, timeout=2)


def _damaged(name: str, reason: str) -> Finding:
    return Finding(
        name,
        "warning",
        Text("damaged: {reason}", {"reason": reason}),
        Text("Start the program: it moves the damaged file to quarantine and goes on from the last backup."),
    )


_PROBE = """
import json, sys
from PySide6.QtGui import QFontMetrics
from PySide6.QtWidgets import QApplication, QSystemTrayIcon
app = QApplication(["doctor"])
print(json.dumps({
    "platform": app.platformName(),
    "hangul": QFontMetrics(app.font()).inFontUcs4(ord("가")),
    "tray": QSystemTrayIcon.isSystemTrayAvailable(),
    "screens": [[s.geometry().width(), s.geometry().height()] for s in app.screens()],
}))
sys.stdout.flush()
import os
os._exit(0)
"""


def _probe_qt(environment: Mapping[str, str], limit_s: float) -> dict[str, Any] | str:
    """What a Qt application finds, or why there is none. In a child: a missing library may end the process."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env=dict(environment),
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {limit_s:g} s"
    for line in done.stdout.splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            found = json.loads(line)
            if isinstance(found, dict):
                return found
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"it ended with {done.returncode}"


_DEBIAN_QT = "libegl1 libgl1 libglib2.0-0 libdbus-1-3 libfontconfig1 libxkbcommon0"
_DEBIAN_XCB = "libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-shape0 libxcb-xkb1 libxkbcommon-x11-0"


def _qt(environment: Mapping[str, str], limit_s: float) -> Iterator[Finding]:
    found = _probe_qt({**environment, "QT_QPA_PLATFORM": "offscreen"}, limit_s)
    if isinstance(found, str):
        install = Text("On Debian and Ubuntu: apt-get install {packages}", {"packages": _DEBIAN_QT})
        yield Finding("qt", "missing", Text("Qt does not start: {reason}", {"reason": found}), install)
        return
    yield Finding("qt", "ok", Text("{version}", {"version": _version("PySide6-Essentials") or "?"}))
    if found["hangul"]:
        yield Finding("fonts", "ok", Text("Hangul is there"))
    else:
        yield Finding(
            "fonts",
            "warning",
            Text("no font with Hangul: Korean text shows as boxes"),
            Text("On Debian and Ubuntu: apt-get install {packages}", {"packages": "fonts-noto-cjk"}),
        )


def _display(environment: Mapping[str, str], limit_s: float) -> Iterator[Finding]:
    forced = environment.get("QT_QPA_PLATFORM", "")
    if sys.platform.startswith("linux"):
        named = [name for name in ("WAYLAND_DISPLAY", "DISPLAY") if environment.get(name)]
        if not named or forced in ("offscreen", "minimal"):
            yield Finding(
                "display",
                "warning",
                Text("none: the window cannot open here; run, status and alerts work without"),
                Text("Log in to a desktop, or set DISPLAY."),
            )
            return
    found = _probe_qt(environment, limit_s)
    if isinstance(found, str):
        yield Finding(
            "display",
            "missing",
            Text("Qt cannot use it: {reason}", {"reason": found}),
            Text("On Debian and Ubuntu: apt-get install {packages}", {"packages": _DEBIAN_XCB}),
        )
        return
    screens = ", ".join(f"{width} × {height}" for width, height in found["screens"])
    yield Finding("display", "ok", Text("{platform}, {screens}", {"platform": found["platform"], "screens": screens}))
    if found["tray"]:
        yield Finding("tray", "ok", Text("there"))
    else:
        yield Finding(
            "tray",
            "warning",
            Text("this desktop shows none: closing the window minimises it instead"),
            Text("On GNOME, install the AppIndicator extension."),
        )


def _keyring(home: Home) -> Iterator[Finding]:
    try:
        place = asyncio.run(find_credentials(home.vault, timeout_s=5.0))
    except WatchHamsterError as error:
        yield Finding("keyring", "warning", error.text, error.hint)
        return
    if isinstance(place, Keyring) or place.exists:
        yield Finding("keyring", "ok", Text("secrets are kept in {place}", {"place": place.place}))
    else:
        yield Finding(
            "keyring",
            "warning",
            Text("this machine offers none; secrets would be kept in {place}", {"place": place.place}),
            Text("Start GNOME Keyring or KWallet, or give the vault a passphrase when it is first asked for."),
        )


def _loopback() -> Iterator[Finding]:
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=2).close()
    except OSError as error:
        yield Finding(
            "loopback",
            "missing",
            Text("127.0.0.1 cannot be used: {reason}", {"reason": str(error)}),
            Text("The built-in exchange needs it; look at the firewall."),
        )
    else:
        yield Finding("loopback", "ok", Text("127.0.0.1 works"))


def _open_files() -> Iterator[Finding]:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 512:
        yield Finding(
            "open_files",
            "warning",
            Text("at most {n} open files", {"n": soft}),
            Text("Raise it with ulimit -n 1024."),
        )
    else:
        yield Finding("open_files", "ok", Text("{n} allowed", {"n": soft}))


def _time_zones() -> Iterator[Finding]:
    import zoneinfo

    try:
        zoneinfo.ZoneInfo("Asia/Seoul")
    except zoneinfo.ZoneInfoNotFoundError:
        yield Finding(
            "time_zones",
            "missing",
            Text("there is no table of time zones"),
            Text("Install the package tzdata (apt-get install tzdata, or pip install tzdata)."),
        )
    else:
        yield Finding("time_zones", "ok", Text("known"))


def _venues(home: Home, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Every venue this home uses; the first one where it uses none yet."""
    used: set[str] = set()
    urls: dict[str, str] = {}
    if home.desk_db.exists():
        try:
            with reading_desk(home) as desk:
                watched = [*desk.watch_list(), *(name for rule in desk.rules() for name in rule.instruments)]
                used = {split_instrument(name)[0] for name in watched}
                used |= {name for name in VENUES if desk.get(CAUTIONED.format(venue=name)) is not None}
                settings = Settings(desk)
                urls = {name: settings.venue_url(name, environment) or "" for name in VENUES}
        except StoreError as error:
            log.info("the venues in use are not known: %s", error)
    for name in [name for name in VENUES if name in used] or list(VENUES)[:1]:
        venue = venue_named(name)
        url = urls.get(name) or venue_url(name, environment) or venue.url
        for finding in asyncio.run(_venue(venue, url)):
            yield msgspec.structs.replace(finding, venue=name)


async def _venue(venue: Venue, url: str) -> list[Finding]:
    """How a venue answers here, what its clock says, whether it gives a pass, and its caution."""
    host = {"host": urlsplit(url).hostname}
    wire = HttpWire(url, venue.name, USER_AGENT, trust())
    findings: list[Finding] = []
    try:
        query = venue.markets()
        began_ns = time.time_ns()
        async with asyncio.timeout(_ANSWER_S):
            answer = await wire.request(query.request)
        ended_ns = time.time_ns()
        query.parse(answer)
        milliseconds = round((ended_ns - began_ns) / 1e6)
        findings.append(Finding("network", "ok", Text("{host} answers in {ms} ms", host | {"ms": milliseconds})))
        findings += _clock(began_ns / 1e9, ended_ns / 1e9, answer.headers.get("date", ""), host)
        findings += await _pass(venue, wire)
    except (WatchHamsterError, TimeoutError) as error:
        reason = error.text if isinstance(error, WatchHamsterError) else Text("no answer in time")
        findings.append(
            Finding(
                "network",
                "warning",
                Text("{host} cannot be used: {reason}", host | {"reason": reason}),
                Text("Look at the connection, a proxy or a firewall; --demo works without a network."),
            )
        )
    finally:
        await wire.close()
    if venue.caution is not None:
        findings.append(Finding("caution", "ok", venue.caution))
    return findings


def _clock(began_s: float, ended_s: float, date: str, host: dict[str, str | None]) -> Iterator[Finding]:
    try:
        theirs_s = email.utils.parsedate_to_datetime(date).timestamp() + 0.5  # whole seconds only
    except ValueError:
        return
    off_s = (began_s + ended_s) / 2 - theirs_s
    if abs(off_s) > 2 + (ended_s - began_s) / 2:
        yield Finding(
            "clock",
            "warning",
            Text("this machine's clock is {seconds} s off that of {host}", host | {"seconds": f"{off_s:+.0f}"}),
            Text("Switch on automatic time (Debian, Ubuntu: timedatectl set-ntp true)."),
        )
    else:
        yield Finding("clock", "ok", Text("within 2 s of {host}", host))


async def _pass(venue: Venue, wire: HttpWire) -> list[Finding]:
    if not isinstance(venue, Guarded):
        return []
    try:
        async with asyncio.timeout(_ANSWER_S):
            while (query := venue.admission(time.time_ns())) is not None:
                query.parse(await wire.request(query.request))
    except (WatchHamsterError, TimeoutError) as error:
        reason = error.text if isinstance(error, WatchHamsterError) else Text("no answer in time")
        without = Text("Nothing is missing without it: symbols are asked for one by one.")
        return [Finding("pass", "warning", Text("none was given: {reason}", {"reason": reason}), without)]
    return [Finding("pass", "ok", Text("several symbols may be asked for in one call"))]


# ---------------------------------------------------------------- the bundle

_TAIL = 2_000_000  # bytes of each log


def bundle(path: Path, home: Home, status: StatusNode | None = None, findings: list[Finding] | None = None) -> None:
    """Write what helps to understand a problem to a zip: versions, findings, status, settings, counts, logs.

    No secret, no market data, no rule's formula; the user's directories are shortened. Raises `UsageError`
    (`cannot_write`).
    """
    clean = functools.partial(_clean, home=home)

    def record(value: object) -> str:
        return clean(json.dumps(value, indent=1, ensure_ascii=False, default=str))

    packages = {d.name: d.version for d in importlib.metadata.distributions()}
    parts = {
        "versions.json": record(
            {
                "made": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
                "python": sys.version,
                "platform": platform.platform(),
                "sqlite": sqlite3.sqlite_version,
                "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
            }
        ),
        "findings.json": record(
            [
                {"name": f.name, "state": f.state, "detail": say(f.detail), "fix": say(f.fix) if f.fix else None}
                for f in (findings if findings is not None else check(home, online=False))
            ]
        ),
        "state.json": record({"files": _files(home), "desk": _desk_state(home)}),
    }
    if status is not None:
        parts["status.json"] = record(to_record(status))
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in parts.items():
                archive.writestr(name, text)
            for log_file in sorted(home.logs.glob("*.log*")) if home.logs.is_dir() else ():
                with log_file.open("rb") as source:
                    source.seek(max(0, log_file.stat().st_size - _TAIL))
                    archive.writestr(f"logs/{log_file.name}", clean(source.read().decode("utf-8", "replace")))
        os.replace(temporary, path)
    except OSError as error:
        raise UsageError(
            "cannot_write",
            Text("{path} cannot be written: {reason}.", {"path": str(path), "reason": error.strerror or error}),
            Text("Choose another place for the bundle."),
        ) from error


def _clean(text: str, *, home: Home) -> str:
    for found, shown in ((str(home.root), "<home>"), (str(Path.home()), "~")):
        if len(found) > 1:
            text = text.replace(json.dumps(found)[1:-1], shown).replace(found, shown)
    return redact(text)


def _files(home: Home) -> dict[str, int]:
    """Every file of the home and its size."""
    found = sorted(home.root.rglob("*")) if home.root.is_dir() else []
    return {str(f.relative_to(home.root)): f.stat().st_size for f in found[:1000] if f.is_file()}


def _desk_state(home: Home) -> dict[str, Any]:
    """Counts, settings and the last troubles of deliveries, as far as the file can be read."""
    if not home.desk_db.exists():
        return {}
    state: dict[str, Any] = {}
    try:
        with contextlib.closing(_reading(home.desk_db)) as desk:
            state["version"] = desk.execute("PRAGMA user_version").fetchone()[0]
            for table in ("rule", "alert", "delivery"):
                state[table] = desk.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            state["deliveries"] = dict(desk.execute("SELECT state, count(*) FROM delivery GROUP BY state"))
            rows = desk.execute("SELECT content FROM delivery ORDER BY id DESC LIMIT 50").fetchall()
            state["last_deliveries"] = [json.loads(content) for (content,) in rows]
            settings = desk.execute("SELECT name, value FROM setting").fetchall()
            state["settings"] = {name: json.loads(value) for name, value in settings if name in TABLE}
    except (sqlite3.Error, ValueError) as error:
        state["unreadable"] = str(error)
    return state
