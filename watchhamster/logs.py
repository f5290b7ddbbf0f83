"""The log: one rotating file of the home, warnings to stderr, a trail of crashes; no secret in any of them.

The first thing the program does, so it stands apart from `doctor` and imports next to nothing.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import logging.handlers
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import IO

from watchhamster.core.secret import redact
from watchhamster.settings import Home

log = logging.getLogger(__name__)

LOG_BYTES = 5_000_000
LOG_FILES = 4
_QUIET = ("httpx", "httpcore", "hpack", "h2", "websockets", "apscheduler", "asyncio", "keyring", "PIL")


class _Formatter(logging.Formatter):
    """A line in UTC with milliseconds, without secrets, its traceback included."""

    converter = staticmethod(time.gmtime)
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class _File(logging.handlers.RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk must not end the program nor fill the terminal: the line is lost."""


_crash_file: IO[str] | None = None


def configure_logging(
    home: Home, *, debug: bool = False, file: str | None = "watchhamster.log", stderr: bool = True
) -> Callable[[], None]:
    """Log to a rotating file of the home (25 MB at most) and warnings to stderr; keep a trail of crashes.

    `debug` writes everything to both. `file` None leaves the file to the home's owner. Returns what undoes it.
    """
    global _crash_file
    root = logging.getLogger()
    handlers: list[logging.Handler] = []
    formatter = _Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    if file is not None:
        home.prepare()
        handlers.append(
            _File(home.logs / file, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8", delay=True)
        )
        crashes = home.logs / "crash.log"
        with contextlib.suppress(OSError):
            if crashes.exists() and crashes.stat().st_size > 1_000_000:
                crashes.replace(crashes.with_name("crash.log.1"))
            _crash_file = crashes.open("a", encoding="utf-8")
            faulthandler.enable(_crash_file)
    if stderr:
        plain = logging.StreamHandler(sys.stderr)
        plain.setLevel(logging.DEBUG if debug else logging.WARNING)
        handlers.append(plain)
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    level_before = root.level
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    quiet_before = {name: logging.getLogger(name).level for name in _QUIET}
    for name in _QUIET:
        # Below this they log every address and header.
        logging.getLogger(name).setLevel(logging.INFO if debug and name != "httpx" else logging.WARNING)
    hooks_before = (sys.excepthook, threading.excepthook)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread

    def undo() -> None:
        global _crash_file
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level_before)
        for name, level in quiet_before.items():
            logging.getLogger(name).setLevel(level)
        sys.excepthook, threading.excepthook = hooks_before
        if _crash_file is not None:
            faulthandler.disable()
            _crash_file.close()
            _crash_file = None

    return undo


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        log.critical("uncaught", exc_info=(kind, error, trace))


def _uncaught_in_thread(details: threading.ExceptHookArgs) -> None:
    if details.exc_value is not None and not isinstance(details.exc_value, SystemExit):
        name = details.thread.name if details.thread is not None else "?"
        log.critical(
            "uncaught in the thread %s", name, exc_info=(details.exc_type, details.exc_value, details.exc_traceback)
        )
