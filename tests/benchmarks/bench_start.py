"""Start and memory, each beside what it cannot avoid, in one run.

    python tests/benchmarks/bench_start.py [rounds]

- The desktop's start to its first paint, in CPU time, beside an empty PySide6 window's.
- The headless engine's resident memory after 10 s on the built-in exchange, beside the bare imports it needs.

Medians of interleaved rounds; compare the ratios, not the milliseconds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import textwrap

EMPTY_WINDOW = """
    from PySide6.QtCore import QTimer
    from PySide6.QtWidgets import QApplication, QWidget

    class Window(QWidget):
        def paintEvent(self, event):
            super().paintEvent(event)
            QTimer.singleShot(0, app.quit)

    app = QApplication([])
    window = Window()
    window.resize(1440, 900)
    window.show()
    app.exec()
"""
DESKTOP = """
    import sys
    from watchhamster.ui.start import first_paint_only
    sys.exit(first_paint_only())
"""
RSS = """
    import os
    def rss_mb():
        with open(f"/proc/{os.getpid()}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
"""
BARE_IMPORTS = (
    RSS
    + """
    import asyncio, sqlite3, numpy, msgspec, httpx, h2, websockets.asyncio.client, sqlalchemy, talib, zstandard, lz4.frame
    import apscheduler.schedulers.asyncio, keyring, psutil, platformdirs
    print(rss_mb())
"""
)
HEADLESS = (
    RSS
    + """
    import asyncio, pathlib, sys
    from watchhamster import app

    async def main():
        options = app.Options(home=app.find_home(pathlib.Path(sys.argv[1])), demo_url=sys.argv[2])
        engine = await app.build_engine(options)
        await engine.start()
        await asyncio.sleep(10)
        print(rss_mb())
        await engine.stop()

    asyncio.run(main())
"""
)


def cpu_seconds(code: str, *arguments: str) -> tuple[float, str]:
    """CPU time of a fresh interpreter running `code`, and what it printed last."""
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env=os.environ | {"QT_QPA_PLATFORM": "offscreen", "QT_API": "pyside6", "PYQTGRAPH_QT_LIB": "PySide6"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return spent, (done.stdout.split() or [""])[-1]


def main() -> None:
    """Print the two tables."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    empty, desktop = [], []
    for _ in range(rounds):
        empty.append(cpu_seconds(EMPTY_WINDOW)[0])
        desktop.append(cpu_seconds(DESKTOP)[0])
    base, ours = statistics.median(empty), statistics.median(desktop)
    print(f"first paint   empty window {base * 1e3:6.0f} ms   desktop {ours * 1e3:6.0f} ms   {ours / base:.2f} x")

    bare, headless = [], []
    from watchhamster.app import simulator_process

    with simulator_process() as url:
        for _ in range(max(1, rounds // 3)):
            bare.append(float(cpu_seconds(BARE_IMPORTS)[1]))
            with tempfile.TemporaryDirectory() as home:
                headless.append(float(cpu_seconds(HEADLESS, home, url)[1]))
    base, ours = statistics.median(bare), statistics.median(headless)
    print(f"resident      bare imports {base:6.0f} MB   headless {ours:5.0f} MB   {ours / base:.2f} x")


if __name__ == "__main__":
    main()
