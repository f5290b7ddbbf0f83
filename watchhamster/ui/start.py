"""How the desktop starts, and how it stops.

1. `QApplication`, the look remembered from last time (theme, language, place), the shell, its first paint. Nothing big
   has been imported yet: no numpy, no pyqtgraph, no database, no network.
2. Then asyncio inside Qt's loop (qasync), the engine (`build` is given by the program's door, so that the window knows
   no adapter), and the pages, one import after another with the window alive in between.
3. Everything that goes wrong anywhere (a Qt slot, a task, a thread, a Qt message) ends in one log; a crash of the
   interpreter leaves its trail in `logs/crash.log`.
4. The end is an event: signal, tray, Ctrl+Q and the window's cross set it; the engine is given two seconds.

`app.quit()` is never called: it would leave the loop before `finally` blocks have run.
"""

from __future__ import annotations

import faulthandler
import logging
import signal
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec
from PySide6.QtCore import QByteArray, QEventLoop, QMessageLogContext, QTimer, QtMsgType, qInstallMessageHandler
from PySide6.QtWidgets import QApplication

from watchhamster.core.ports import WatchHamsterError
from watchhamster.core.text import _, pgettext
from watchhamster.ui import theme
from watchhamster.ui.language import switch_language
from watchhamster.ui.shell import Shell

if TYPE_CHECKING:
    import asyncio

    from watchhamster.engine.engine import Engine
    from watchhamster.settings import Settings

log = logging.getLogger("watchhamster.ui")
FIRST_PAINT_MS_MAX = 3000
STOP_S = 2.0
LOG_LINES_MAX = 2000
Build = Callable[[], "Awaitable[Engine]"]


class _Home(Protocol):
    @property
    def root(self) -> Path: ...
    @property
    def logs(self) -> Path: ...


@dataclass(frozen=True)
class DesktopOptions:
    """How the desktop was asked to start."""

    home: _Home
    demo: bool = False
    minimized: bool = False
    replay: str = ""  # the recording's name, where one is lived through


class Look(msgspec.Struct):
    """What the first frame needs before the settings can be read: a copy of them in `look.json`."""

    theme: str = "system"
    colours: str = "west"
    text_size: int = 100
    flash: bool = True
    language: str = "auto"
    geometry: str = ""  # Qt's, in base64

    @classmethod
    def read(cls, home: Path) -> Look:
        """The look of last time; defaults where there is none (or an unreadable one: it is only a copy)."""
        try:
            return msgspec.json.decode((home / "look.json").read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError):
            return cls()

    def write(self, home: Path) -> None:
        """Remember it. A full or read-only disk does not matter here."""
        new = home / "look.json.new"
        try:
            new.write_bytes(msgspec.json.encode(self))
            new.replace(home / "look.json")
        except OSError as error:
            log.warning("look.json could not be written: %s", error)

    def follow(self, settings: Settings) -> None:
        """Take over what the settings say."""
        self.theme, self.colours = settings.text("theme"), settings.colours()
        self.text_size, self.flash = settings.number("text_size"), settings.on("flash")
        self.language = settings.text("language")

    def apply(self, app: QApplication) -> None:
        """Let the application look so."""
        named: Literal["system", "dark", "light"] = (
            "dark" if self.theme == "dark" else "light" if self.theme == "light" else "system"
        )
        colours: Literal["korea", "west", "colour_blind"] = (
            "korea" if self.colours == "korea" else "colour_blind" if self.colours == "colour-blind" else "west"
        )
        theme.apply(app, named, colours, self.text_size, self.flash)


# ---------------------------------------------------------------- one log


class LogLines(logging.Handler):
    """The last log lines, for the window. Bounded: the file has the rest."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: deque[logging.LogRecord] = deque(maxlen=LOG_LINES_MAX)
        self.count = 0  # of all lines ever, so that a view knows how many are new

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(record)
        self.count += 1


def catch_everything() -> None:
    """Send what nobody caught, in slots, threads and Qt itself, to the log."""

    def uncaught(kind: type[BaseException], error: BaseException, trail: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trail)
        else:
            log.critical("an exception nobody expected", exc_info=(kind, error, trail))

    def in_thread(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None:
            uncaught(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)

    sys.excepthook = uncaught
    threading.excepthook = in_thread
    qInstallMessageHandler(_qt_message)


def _qt_message(kind: QtMsgType, context: QMessageLogContext, message: str) -> None:
    if "propagateSizeHints" in message:  # the offscreen platform says so at every window; it means nothing
        return
    level = {
        QtMsgType.QtDebugMsg: logging.DEBUG,
        QtMsgType.QtInfoMsg: logging.INFO,
        QtMsgType.QtWarningMsg: logging.WARNING,
    }.get(kind, logging.ERROR)
    logging.getLogger("qt").log(level, "%s", message)


def _in_loop(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.error("%s", context.get("message", "in the event loop"), exc_info=context.get("exception"))


# ---------------------------------------------------------------- the desktop


def run_desktop(options: DesktopOptions, build: Build) -> int:
    """Open the desktop and stay until it is left. Returns the exit code."""
    lines = LogLines()
    logging.getLogger().addHandler(lines)
    catch_everything()
    home = options.home.root
    look = Look.read(home)
    app = _application(look)
    shell = Shell(simulated="replay" if options.replay else "demo" if options.demo else "")
    if look.geometry:
        shell.restoreGeometry(QByteArray.fromBase64(look.geometry.encode()))
    if not options.minimized:
        shell.show()
        _wait_for_paint(shell)

    with _crash_trail(options.home.logs):
        try:
            return _run(_live(app, shell, look, options, build, lines), app)
        except Exception:
            log.critical("the desktop ended by an exception nobody expected", exc_info=True)
            return 1


def _application(look: Look) -> QApplication:
    app = QApplication.instance()
    if not isinstance(app, QApplication):
        # Named here: `setStyle` answers with a QStyle, and the first of those takes PySide6 7 ms to describe to Python.
        app = QApplication([*sys.argv[:1], "-style", "Fusion"])
    app.setApplicationName("WatchHamster")
    app.setDesktopFileName("watchhamster")
    app.setQuitOnLastWindowClosed(False)
    switch_language(app, look.language)
    look.apply(app)
    return app


def _wait_for_paint(shell: Shell) -> None:
    waiting = QEventLoop()
    shell.first_painted.connect(waiting.quit)
    QTimer.singleShot(FIRST_PAINT_MS_MAX, waiting, waiting.quit)  # a covered window may never be painted
    waiting.exec()


class _crash_trail:
    """faulthandler into `logs/crash.log` while it is entered."""

    def __init__(self, logs: Path) -> None:
        self._path = logs / "crash.log"

    def __enter__(self) -> None:
        self._file = None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a", encoding="utf-8")
            faulthandler.enable(self._file)
        except OSError as error:
            log.warning("there will be no crash trail: %s", error)

    def __exit__(self, *_error: object) -> None:
        if self._file is not None:
            faulthandler.disable()
            self._file.close()


def _run(main: Awaitable[int], app: QApplication) -> int:
    """Run the coroutine in Qt's loop."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    import qasync

    loop = qasync.QEventLoop(app)
    asyncio.set_event_loop(loop)
    loop.set_exception_handler(_in_loop)
    # The loop's own default would start ten Qt threads at the first name that is looked up.
    with loop, ThreadPoolExecutor(4, thread_name_prefix="desktop") as pool:
        loop.set_default_executor(pool)
        return int(loop.run_until_complete(main))


async def _live(
    app: QApplication, shell: Shell, look: Look, options: DesktopOptions, build: Build, lines: LogLines
) -> int:
    import asyncio

    stop = asyncio.Event()
    shell.quit_wanted.connect(stop.set)
    _on_signals(stop.set)
    code = 0
    async with asyncio.TaskGroup() as group:
        desk = group.create_task(_desk(app, shell, look, options, build, lines, group, stop))
        done, _pending = await asyncio.wait(
            [desk, stopping := group.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED
        )
        if desk in done:
            code = desk.result()
        else:
            desk.cancel()
        stopping.cancel()
    look.geometry = bytes(shell.saveGeometry().toBase64().data()).decode()
    look.write(options.home.root)
    shell.leave()
    return code


async def _desk(
    app: QApplication,
    shell: Shell,
    look: Look,
    options: DesktopOptions,
    build: Build,
    lines: LogLines,
    group: asyncio.TaskGroup,
    stop: asyncio.Event,
) -> int:
    """From an empty shell to a living one, and back."""
    import asyncio

    from watchhamster.ui.bridge import Errands

    errands = Errands(group, shell.tell)
    try:
        engine = await build()
    except WatchHamsterError as error:
        shell.refuse(error)
        if options.minimized:
            shell.come_forward()  # nobody would see why nothing watches
        await stop.wait()
        return error.exit_code
    session = None
    try:
        await asyncio.sleep(0)  # let the window breathe between one import and the next
        from watchhamster.ui.session import Session

        session = Session(app, shell, engine, errands, look, options.home.root, lines)
        errands.run(shell, engine.start(), lambda _none: session.started() if session is not None else None)
        await stop.wait()
        return 0
    finally:
        if session is not None:
            await session.close()
        errands.close()
        try:
            async with asyncio.timeout(STOP_S):
                await engine.stop()
        except TimeoutError:
            log.error("the engine did not stop within %s s", STOP_S)


def _on_signals(stop: Callable[[], None]) -> None:
    import asyncio

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop)
        except (NotImplementedError, AttributeError, ValueError):  # Windows, or not the main thread
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))


# ---------------------------------------------------------------- pictures of pages


def pages() -> list[tuple[str, str]]:
    """Every page that can be pictured: its name, and its title in the language in use."""
    return [
        ("main", _("The whole window")),
        ("share", _("The whole window, with a share in hand")),
        ("chart", _("Chart")),
        ("watch-list", _("Watch list")),
        ("order-book", _("Order book")),
        ("status", _("Status tree")),
        ("alerts", _("Alerts")),
        ("lab", _("Lab: a strategy run on history")),
        ("rule-form", _("The form of a rule")),
        ("settings", pgettext("page", "Settings")),
        ("away", _("What happened while you were away")),
    ]


def run_screenshot(
    page: str,
    out: Path,
    size: tuple[int, int],
    look_theme: str,
    language: str,
    text_percent: int,
    build: Build,
) -> int:
    """Render a page into a PNG of `size` logical pixels, on any screen or none. Returns the exit code."""
    lines = LogLines()
    logging.getLogger().addHandler(lines)
    qInstallMessageHandler(_qt_message)
    look = Look(
        theme=look_theme,
        colours="korea" if language == "ko" else "west",
        text_size=text_percent,
        flash=False,
        language=language,
    )
    app = _application(look)
    return _run(_picture(app, page, out, size, look, build, lines), app)


async def _picture(
    app: QApplication, page: str, out: Path, size: tuple[int, int], look: Look, build: Build, lines: LogLines
) -> int:
    import asyncio

    from watchhamster.ui.bridge import Errands
    from watchhamster.ui.session import Session

    async with asyncio.TaskGroup() as group:
        engine = await build()
        switch_language(app, look.language)  # the settings of the home have their own wish
        shell = Shell(simulated="demo" if engine.demo else "")
        errands = Errands(group, shell.tell)
        shell.resize(*size)
        session = Session(app, shell, engine, errands, look, None, lines)
        try:
            await engine.start()
            session.started()
            shell.show()
            widget = await session.pose(page, size)
            saved = widget.grab().save(str(out))
        finally:
            await session.close()
            errands.close()
            await engine.stop()
            shell.leave()
    if not saved:
        raise WatchHamsterError(*_cannot_write(out))
    return 0


def _cannot_write(out: Path) -> tuple[str, Any, Any]:
    from watchhamster.core.text import Text

    return (
        "cannot_write",
        Text("{file} could not be written.", {"file": str(out)}),
        Text("Name a .png in a folder you may write to."),
    )
