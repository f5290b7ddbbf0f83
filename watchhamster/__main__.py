"""The program's door.

The bare desktop start goes straight to the window, which paints its shell before anything heavy is imported; with a
command, or without a display, the command line is imported instead.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from watchhamster.engine.engine import Engine

_FLAGS = ("--demo", "--minimized", "--debug")
_VALUES = ("--home", "--replay", "--speed", "--venue")


def main() -> None:
    """Run `watchhamster` with the arguments of this process."""
    if getattr(sys, "frozen", False):
        import multiprocessing

        multiprocessing.freeze_support()  # workers of a frozen program begin here, and go no further
    # httpx imports its own command line for those who have one's parts installed, rich and pygments with it: 6 MB and
    # 60 ms, for nothing here. None says that there is none.
    sys.modules["httpx._main"] = None  # type: ignore[assignment]
    gc.disable()  # what is imported stays: the collector need not go through it again and again
    asked = _desktop(sys.argv[1:])
    if asked is not None and (_has_display() or "QT_QPA_PLATFORM" in os.environ):
        raise SystemExit(_open_desktop(asked))
    from watchhamster.cli import run

    _collect()
    raise SystemExit(run(sys.argv[1:]))


def _collect() -> None:
    """Let the collector work from now on, on what comes from now on."""
    gc.freeze()
    gc.enable()


def _desktop(arguments: list[str]) -> dict[str, str] | None:
    """The desktop's options, None where the arguments are a command's (or wrong: the command line says how)."""
    found: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name in _VALUES:
            given = value if equals else next(rest, None)
            if given is None:
                return None
            found[name] = given
        elif argument in _FLAGS:
            found[argument] = ""
        else:
            return None
    return found


def _has_display() -> bool:
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open_desktop(asked: dict[str, str]) -> int:
    """Own the home and open the window; where somebody owns it already, their window comes forward instead."""
    from watchhamster.core.ports import WatchHamsterError
    from watchhamster.core.text import say
    from watchhamster.engine.owner import Owned, Owner, ask_sync
    from watchhamster.logs import configure_logging
    from watchhamster.settings import Home, load_translations
    from watchhamster.ui.start import DesktopOptions, run_desktop

    home = Home.find(asked.get("--home"))
    load_translations()
    try:
        configure_logging(home, debug="--debug" in asked)
        owner = Owner.claim(home.prepare())
    except Owned as owned:
        try:
            shown = ask_sync(home, "show", timeout_s=5.0)
        except WatchHamsterError:
            shown = False
        print(say(owned.text), file=sys.stderr)
        return 0 if shown else 1
    except WatchHamsterError as error:
        print(say(error.text), file=sys.stderr)
        return error.exit_code

    async def build() -> Engine:
        _collect()

        from pathlib import Path

        from watchhamster.app import Options, build_engine, speed_of

        recording = asked.get("--replay")
        options = Options(
            home=home,
            demo="--demo" in asked,
            replay=Path(recording) if recording else None,
            replay_venue=asked.get("--venue", "upbit"),
            speed=speed_of(asked.get("--speed", "1")),
            window=True,
        )
        return await build_engine(options, owner)

    with owner:
        desktop = DesktopOptions(
            home, demo="--demo" in asked, minimized="--minimized" in asked, replay=asked.get("--replay", "")
        )
        return run_desktop(desktop, build)


if __name__ == "__main__":
    main()
