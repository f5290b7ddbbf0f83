"""A short sound with an alert. Qt's own player is not among the modules we ship: the system's is asked, else a beep."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from PySide6.QtCore import QProcess
from PySide6.QtWidgets import QApplication

from watchhamster.monitor.alerts import Severity
from watchhamster.ui.theme import RESOURCES

# How each player is told to play one file and be quiet about it.
PLAYERS: Mapping[str, tuple[str, ...]] = {
    "paplay": (),
    "pw-play": (),
    "aplay": ("-q",),
    "afplay": (),
}


def find_player(which: Callable[[str], str | None] = shutil.which) -> tuple[str, ...] | None:
    """The command that plays a file on this system, without the file; None where there is none."""
    for name, options in PLAYERS.items():
        path = which(name)
        if path is not None:
            return (path, *options)
    return None


def sound_file(severity: Severity) -> Path:
    """The sound of a severity."""
    return RESOURCES / "sounds" / f"{severity}.wav"


def play(severity: Severity, player: tuple[str, ...] | None) -> None:
    """Play a severity's sound without waiting for its end."""
    file = str(sound_file(severity))
    if sys.platform == "win32":
        import winsound

        winsound.PlaySound(file, winsound.SND_FILENAME | winsound.SND_ASYNC)
    elif player is None or not QProcess.startDetached(player[0], [*player[1:], file])[0]:
        QApplication.beep()
