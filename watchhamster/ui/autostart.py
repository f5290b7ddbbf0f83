"""Start at login: an XDG desktop entry, a Run value in the registry, or a LaunchAgent. Paths are absolute."""

from __future__ import annotations

import importlib
import os
import plistlib
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text

NAME = "watchhamster"


def command(home: Path | None = None) -> list[str]:
    """How this very program is started in the tray, as absolute paths; `home` when it is not the usual one."""
    if getattr(sys, "frozen", False):
        words = [sys.executable]
    else:
        words = [os.path.abspath(sys.executable), "-m", "watchhamster"]
    words.append("--minimized")
    return [*words, "--home", str(home.absolute())] if home is not None else words


class Autostart:
    """Whether the system starts the program at login. Nothing is written before `enable`."""

    def __init__(self, words: Sequence[str], *, platform: str = sys.platform, user_home: Path | None = None) -> None:
        self._words = list(words)
        self._platform = platform
        home = user_home or Path.home()
        if platform == "darwin":
            self.path: Path | None = home / "Library" / "LaunchAgents" / f"dev.{NAME}.desktop.plist"
        elif platform == "win32":
            self.path = None  # HKEY_CURRENT_USER\Software\Microsoft\Windows\CurrentVersion\Run
        else:
            config = os.environ.get("XDG_CONFIG_HOME") if user_home is None else None
            self.path = (Path(config) if config else home / ".config") / "autostart" / f"{NAME}.desktop"

    def is_enabled(self) -> bool:
        """Whether the entry exists."""
        if self.path is not None:
            return self.path.is_file()
        return self._registry(None) is not None

    def enable(self) -> None:
        """Write the entry. Raises `UsageError` (`autostart_refused`) where the system does not let us."""
        try:
            if self.path is None:
                self._registry(subprocess.list2cmdline(self._words))
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = self.path.with_suffix(self.path.suffix + ".new")
            new.write_bytes(self._plist() if self._platform == "darwin" else self._desktop_entry())
            new.replace(self.path)
        except OSError as error:
            raise UsageError(
                "autostart_refused",
                Text("Start at login could not be set: {problem}.", {"problem": str(error)}),
                Text("Add this command to what your system starts: {command}", {"command": shlex.join(self._words)}),
            ) from error

    def disable(self) -> None:
        """Remove the entry, if there is one."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        else:
            self._registry("")

    def _desktop_entry(self) -> bytes:
        # https://specifications.freedesktop.org/desktop-entry-spec/latest/exec-variables.html: quoted, % doubled
        quoted = " ".join('"' + _escaped(word).replace("%", "%%") + '"' for word in self._words)
        return (
            "[Desktop Entry]\n"
            "Type=Application\n"
            "Name=WatchHamster\n"
            "Comment=Watches markets and your rules\n"
            f"Exec={quoted}\n"
            "Terminal=false\n"
            "X-GNOME-Autostart-enabled=true\n"
        ).encode()

    def _plist(self) -> bytes:
        return plistlib.dumps(
            {"Label": f"dev.{NAME}.desktop", "ProgramArguments": self._words, "RunAtLoad": True, "KeepAlive": False}
        )

    def _registry(self, value: str | None) -> str | None:
        """Read (None), remove ("") or write the Run value."""
        winreg: Any = importlib.import_module("winreg")  # its types exist on Windows only
        path = r"Software\Microsoft\Windows\CurrentVersion\Run"
        with winreg.CreateKeyEx(winreg.HKEY_CURRENT_USER, path, 0, winreg.KEY_ALL_ACCESS) as key:
            if value:
                winreg.SetValueEx(key, NAME, 0, winreg.REG_SZ, value)
                return value
            try:
                if value == "":
                    winreg.DeleteValue(key, NAME)
                    return None
                return str(winreg.QueryValueEx(key, NAME)[0])
            except FileNotFoundError:
                return None


def _escaped(word: str) -> str:
    """The characters a quoted Exec word must have behind a backslash, which the file format doubles."""
    return "".join("\\\\" + c if c in '"`$\\' else c for c in word)
