"""What a start brings with it: nothing that can wait until it is needed, and a watchman nothing it never needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from watchhamster import cli
from watchhamster.cli.console import cli as program

HEAVY = {"asyncio", "numpy", "pyqtgraph", "sqlalchemy", "httpx", "websockets", "qasync", "typer"}
PAINTED = """
import os, sys
import watchhamster.__main__ as door
from watchhamster.ui import start

class Window(start.Shell):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first_painted.connect(self.leave_at_once)

    def leave_at_once(self):
        print(*(name for name, module in sys.modules.items() if module), flush=True)
        os._exit(0)

start.Shell = Window
door.main()
"""
WATCHED = """
import atexit, sys
from watchhamster.__main__ import main
atexit.register(lambda: print("\\n", *(name for name, module in sys.modules.items() if module)))
main()
"""


def modules(code: str, *arguments: str) -> set[str]:
    """The top-level packages of an interpreter that ran `code`."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_the_first_paint_waits_for_nothing_heavy(tmp_path: Path) -> None:
    found = modules(PAINTED, "--demo", "--home", str(tmp_path))
    assert "PySide6" in found
    assert found.isdisjoint(HEAVY), found.intersection(HEAVY)


def test_a_headless_watchman_carries_nothing_it_does_not_need(tmp_path: Path) -> None:
    found = modules(WATCHED, "--home", str(tmp_path), "run", "--for", "100ms", "--venue", "upbit", "--json")
    assert {"httpx", "sqlalchemy"} <= found
    assert not found & {"PySide6", "pydantic", "rich", "pygments", "pyarrow", "pandas", "keyring", "cryptography"}


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--demo", "--json"],
        ["--instrument", "upbit:KRW-BTC", "--instrument=upbit:KRW-ETH", "--for", "3s"],
        ["--replay", "day one.jsonl", "--speed=max", "--venue", "upbit"],
    ],
)
def test_the_options_of_run_are_what_typer_makes_of_them(words: list[str]) -> None:
    plain = cli._plain("run", words)
    group = typer.main.get_command(program)
    assert isinstance(group, typer.core.TyperGroup)
    command = group.commands["run"]
    expected = command.make_context("run", list(words)).params
    defaults = command.make_context("run", []).params
    assert defaults | (plain or {}) == expected


@pytest.mark.parametrize(
    "words", [["--help"], ["--for"], ["--for", "--json"], ["--demo=yes"], ["upbit:KRW-BTC"], ["--x"]]
)
def test_whatever_is_not_plain_is_left_to_typer(words: list[str]) -> None:
    assert cli._plain("run", words) is None
