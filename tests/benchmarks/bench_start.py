"""Start and memory, each beside what it cannot avoid, in one run.

    python tests/benchmarks/bench_start.py [rounds]

- The desktop's start to its first paint (`watchhamster --demo`, offscreen), in CPU time from the first instruction of
  the interpreter, beside an empty PySide6 window's.
- The resident memory of `watchhamster run` that watches eight instruments with one rule on an exchange in another
  process, beside the bare imports it needs. What it carries besides those is named.
- The CPU time of commands that answer and leave.

Medians of interleaved rounds; compare the ratios, not the milliseconds.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil

EMPTY_WINDOW = """
    import os
    from PySide6.QtCore import QTimer
    from PySide6.QtWidgets import QApplication, QWidget

    class Window(QWidget):
        def paintEvent(self, event):
            super().paintEvent(event)
            QTimer.singleShot(0, lambda: os._exit(0))

    app = QApplication([])
    window = Window()
    window.resize(1440, 900)
    window.show()
    app.exec()
"""
DESKTOP = """
    import importlib.util, os, sys
    from watchhamster.__main__ import main

    class LeaveWhenPainted:  # imports come when the program makes them; its window ends with the first paint
        def find_spec(self, name, path=None, target=None):
            if name != "watchhamster.ui.shell":
                return None
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec(name)
            load = spec.loader.exec_module
            spec.loader.exec_module = lambda module: (load(module), self.change(module))
            return spec

        def change(self, module):
            class Window(module.Shell):
                def __init__(self, **kwargs):
                    super().__init__(**kwargs)
                    self.first_painted.connect(self.leave_at_once)

                def leave_at_once(self):
                    print(*sys.modules, flush=True)
                    os._exit(0)

            module.Shell = Window

    sys.meta_path.insert(0, LeaveWhenPainted())
    main()
"""
# What must not be there at the first paint: it can wait until there is something to look at.
LATER = ("numpy", "pyqtgraph", "sqlalchemy", "httpx", "websockets", "picows", "qasync", "talib", "asyncio")

# The third parties of a headless watchman: its HTTP and WebSocket clients, arrays, indicators, database, packing and
# daily jobs. `httpx._main` is httpx's own command line, which the program leaves out, so it is left out here as well.
BARE_IMPORTS = """
    import sys
    sys.modules["httpx._main"] = None
    import asyncio, email.utils, logging.handlers, sqlite3, ssl, zoneinfo
    import msgspec, psutil, certifi
    import httpx, httpcore, anyio._backends._asyncio, h2.connection
    import websockets.asyncio.client
    import numpy, talib, lz4.block
    import sqlalchemy.dialects.sqlite.pysqlite
    import apscheduler.triggers.cron
    try:
        import picows.websockets
    except ImportError:
        pass
    sys.stdin.read(1)
    print("MODULES", *sys.modules, flush=True)
"""
HEADLESS = """
    import sys, threading
    from watchhamster.__main__ import main

    def answer():
        sys.stdin.read(1)
        print("MODULES", *sys.modules, flush=True)

    threading.Thread(target=answer, daemon=True).start()
    main()
"""
LIST = ("BTC", "ETH", "XRP", "SOL", "DOGE", "ADA", "SHIB", "LINK")
RULE = "rsi(close, 14) < 30 and close < sma(close, 20)"
SETTLED_S = 12.0  # by then the history of the rule has come


def environment(**more: str) -> dict[str, str]:
    """This process's, with the platform's plugin that needs no display, and compiled modules kept as when installed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"QT_QPA_PLATFORM": "offscreen"} | more


def run(code: str, *arguments: str) -> tuple[float, str]:
    """CPU seconds of a fresh interpreter that runs `code`, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, done.stdout


@contextmanager
def exchange() -> Iterator[str]:
    """The built-in exchange in a process of its own; its base URL as Upbit."""
    with subprocess.Popen(
        [sys.executable, "-m", "watchhamster", "sim", "--json"], stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["venues"]["upbit"]
        finally:
            process.send_signal(signal.SIGINT)


def resident(code: str, after_s: float, *arguments: str, **variables: str) -> tuple[float, set[str]]:
    """The megabytes a fresh interpreter holds so long after its start, and its third-party packages by then."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env=environment(**variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        time.sleep(after_s)
        rss_mb = psutil.Process(process.pid).memory_info().rss / 1e6
        process.stdin.write("\n")
        process.stdin.close()
        lines = (line for line in process.stdout if line.startswith("MODULES"))
        modules = next(lines).split()
        process.kill()
    packages = {name.partition(".")[0] for name in modules}
    ours = {"watchhamster", "MODULES", "__main__"}
    return rss_mb, {p for p in packages - ours - sys.stdlib_module_names if not p.startswith("_")}


def watchman(url: str, home: str) -> tuple[float, set[str]]:
    """A headless watchman with a list and a rule."""
    instruments = [f"upbit:KRW-{name}" for name in LIST]
    command = [
        sys.executable,
        "-m",
        "watchhamster",
        "--home",
        home,
        "alert",
        "add",
        RULE,
        "--instrument",
        instruments[0],
    ]
    subprocess.run(command, env=environment(WATCHHAMSTER_UPBIT_URL=url), check=True, stdout=subprocess.DEVNULL)
    listed = [word for instrument in instruments for word in ("--instrument", instrument)]
    return resident(HEADLESS, SETTLED_S, "--home", home, "run", *listed, WATCHHAMSTER_UPBIT_URL=url)


def commands(url: str, rounds: int) -> None:
    """Print what it costs to ask and leave."""
    asked: Sequence[tuple[str, ...]] = (
        ("--version",),
        ("--help",),
        ("ticker", "upbit:KRW-BTC", "--json"),
        ("alert", "list"),
    )
    bare = statistics.median(run("import msgspec, typer, httpx")[0] for _ in range(rounds))
    print(f"import of msgspec, typer, httpx     {bare * 1e3:6.0f} ms")
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"WATCHHAMSTER_UPBIT_URL": url, "WATCHHAMSTER_HOME": home}
        code = "from watchhamster.__main__ import main; main()"
        for words in asked:
            spent = statistics.median(run(code, *words)[0] for _ in range(rounds))
            print(f"watchhamster {' '.join(words):<33} {spent * 1e3:6.0f} ms   {spent / bare:.2f} x")


def main() -> None:
    """Print the three tables."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    empty, desktop = [], []
    for _ in range(rounds):
        empty.append(run(EMPTY_WINDOW)[0])
        with tempfile.TemporaryDirectory() as home:
            spent, modules = run(DESKTOP, "--demo", "--home", home)
            desktop.append(spent)
    base, ours = statistics.median(empty), statistics.median(desktop)
    print(
        f"first paint: empty window {base * 1e3:.0f} ms, desktop {ours * 1e3:.0f} ms, {ours / base:.2f} x (at most 1.8)"
    )
    print(f"  too early: {' '.join(name for name in LATER if name in modules.split()) or 'nothing'}")

    with exchange() as url:
        bare_mb, headless_mb = [], []
        for _ in range(max(1, rounds // 3)):
            rss_mb, needed = resident(BARE_IMPORTS, 3.0)
            bare_mb.append(rss_mb)
            with tempfile.TemporaryDirectory() as home:
                rss_mb, packages = watchman(url, home)
            headless_mb.append(rss_mb)
        base, ours = statistics.median(bare_mb), statistics.median(headless_mb)
        print(
            f"resident: bare imports {base:.1f} MB, headless {ours:.1f} MB (at most 100),"
            f" {ours / base:.2f} x (at most 1.25)"
        )
        print(
            f"  carried besides: {' '.join(sorted(packages - needed)) or 'nothing'};"
            f" not needed: {' '.join(sorted(needed - packages)) or 'nothing'}"
        )
        commands(url, rounds)


if __name__ == "__main__":
    main()
