"""The order of a start: painted before anything heavy is imported; stopped by an event, cleanly; everything logged."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import msgspec
import pytest
from PySide6.QtCore import qWarning
from PySide6.QtWidgets import QApplication

from tests.ui.fakes import FakeEngine
from watchhamster.settings import Home
from watchhamster.ui import start
from watchhamster.ui.start import Look

HEAVY = ("numpy", "pyqtgraph", "pandas", "numba", "scipy", "sqlalchemy", "httpx", "websockets", "talib", "asyncio")


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen", **environment},
        cwd=Path(__file__).parents[2],
        check=False,
    )


def test_nothing_heavy_is_imported_before_the_first_paint() -> None:
    done = run(f"""
        import sys, json
        from watchhamster.ui import start
        look = start.Look()
        app = start._application(look)
        shell = start.Shell(simulated="demo")
        painted = []
        shell.first_painted.connect(lambda: painted.append(True))
        shell.show()
        start._wait_for_paint(shell)
        print(json.dumps([painted, [m for m in {HEAVY!r} if m in sys.modules]]))
    """)
    assert done.returncode == 0, done.stderr
    painted, heavy = json.loads(done.stdout)
    assert painted == [True]
    assert heavy == []


DESKTOP = """
    import asyncio, os, signal, sys
    from pathlib import Path
    from watchhamster.settings import Home
    from watchhamster.ui import start
    home = Home(Path(sys.argv[1] if len(sys.argv) > 1 else os.environ["HOME_DIR"]))
    async def build():
        from tests.ui.fakes import FakeEngine
        class Engine(FakeEngine):
            async def stop(self):
                await super().stop()
                print("stopped", flush=True)
        asyncio.get_running_loop().call_later(1.0, os.kill, os.getpid(), signal.SIGTERM)
        return Engine()
    sys.exit(start.run_desktop(start.DesktopOptions(home=home, demo=True), build))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are delivered otherwise there")
def test_a_signal_ends_it_cleanly_and_the_look_is_kept(tmp_path: Path) -> None:
    done = run(DESKTOP, HOME_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["stopped"]
    look = Look.read(tmp_path)
    assert look.geometry
    assert look.theme == "dark"  # as the fake's settings say
    assert (tmp_path / "logs" / "crash.log").exists()


def test_an_engine_that_cannot_be_built_is_said_in_the_window(tmp_path: Path) -> None:
    done = run(
        """
        import os, sys
        from pathlib import Path
        from PySide6.QtCore import QTimer
        from PySide6.QtWidgets import QApplication
        from watchhamster.core.ports import StoreError
        from watchhamster.core.text import Text
        from watchhamster.settings import Home
        from watchhamster.ui import start
        from watchhamster.ui.shell import Shell
        async def build():
            def look():
                shell = next(w for w in QApplication.topLevelWidgets() if isinstance(w, Shell))
                print(shell.stack.widget(0).accessibleName())
                shell.quit_wanted.emit()
            QTimer.singleShot(200, look)
            raise StoreError("store_locked", Text("{f} is in use.", {"f": "market.db"}), Text("Close the other one."))
        sys.exit(start.run_desktop(start.DesktopOptions(home=Home(Path(os.environ["HOME_DIR"]))), build))
        """,
        HOME_DIR=str(tmp_path),
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.strip() == "market.db is in use. Close the other one."


def test_everything_nobody_caught_comes_into_one_log(qapp: QApplication, caplog: pytest.LogCaptureFixture) -> None:
    hooks = (sys.excepthook, threading.excepthook)
    from PySide6.QtCore import qInstallMessageHandler

    try:
        start.catch_everything()
        try:
            raise ValueError("in a slot")
        except ValueError as error:
            sys.excepthook(type(error), error, error.__traceback__)
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
        qWarning("from Qt")
        loop = asyncio.new_event_loop()
        start._in_loop(loop, {"message": "in a task", "exception": OSError("gone")})
        loop.close()
    finally:
        sys.excepthook, threading.excepthook = hooks
        qInstallMessageHandler(None)
    said = [(record.name, str(record.exc_info[1]) if record.exc_info else record.message) for record in caplog.records]
    assert ("watchhamster.ui", "in a slot") in said
    assert ("watchhamster.ui", "division by zero") in said
    assert ("watchhamster.ui", "gone") in said
    assert any(name == "qt" and "from Qt" in text for name, text in said)


def test_log_lines_are_bounded_and_counted() -> None:
    lines = start.LogLines()
    for i in range(start.LOG_LINES_MAX + 10):
        lines.handle(logging.LogRecord("x", logging.INFO, "", 0, f"line {i}", None, None))
    assert len(lines.lines) == start.LOG_LINES_MAX
    assert lines.count == start.LOG_LINES_MAX + 10


@pytest.mark.parametrize("content", [b"", b"{", b'{"theme": 7}', b"\xff\xfe"])
def test_a_spoilt_look_is_no_obstacle(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "look.json").write_bytes(content)
    assert Look.read(tmp_path) == Look()


def test_a_look_comes_back_as_it_was_written(tmp_path: Path) -> None:
    look = Look(theme="light", colours="korea", text_size=150, flash=False, language="ko", geometry="abc")
    look.write(tmp_path)
    assert Look.read(tmp_path) == look
    assert [p.name for p in tmp_path.iterdir()] == ["look.json"]
    look.write(tmp_path / "gone")  # said in the log, not raised


def test_the_look_follows_the_settings() -> None:
    look = Look()
    look.follow(FakeEngine(theme="light", colours="colour-blind", text_size=150, language="ko").settings)
    assert msgspec.to_builtins(look) | {"geometry": ""} == {
        "theme": "light",
        "colours": "colour-blind",
        "text_size": 150,
        "flash": True,
        "language": "ko",
        "geometry": "",
    }


PICTURE = """
    import os, sys
    from pathlib import Path
    from watchhamster.ui import start
    async def build():
        from tests.ui.fakes import FakeEngine
        return FakeEngine()
    page, out = os.environ["PAGE"], Path(os.environ["OUT"])
    sys.exit(start.run_screenshot(page, out, (1024, 640), "dark", "ko", 100, build))
"""


def test_every_page_has_a_title_and_main_is_one_of_them() -> None:
    pages = start.pages()
    assert {"main", "chart", "watch-list", "order-book", "status", "alerts", "rule-form", "settings", "away"} <= {
        name for name, _title in pages
    }
    assert all(title for _name, title in pages)


@pytest.mark.parametrize("page", ["main", "order-book"])
def test_a_picture_has_the_size_asked_for_and_is_the_same_twice(tmp_path: Path, page: str) -> None:
    from PySide6.QtGui import QImage

    pictures = []
    for i in range(2):
        out = tmp_path / f"{i}.png"
        done = run(PICTURE, PAGE=page, OUT=str(out))
        assert done.returncode == 0, done.stderr
        pictures.append(QImage(str(out)))
    assert (pictures[0].width(), pictures[0].height()) == (1024, 640)
    assert pictures[0] == pictures[1]


def test_home_is_what_the_desktop_needs_of_it(tmp_path: Path) -> None:
    options = start.DesktopOptions(home=Home(tmp_path))
    assert options.home.root == tmp_path
