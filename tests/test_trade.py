"""Strategies on paper as people run them: processes, killed and started again, asked and stopped."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.test_cli import Shell
from tests.test_program import BTC, NOBODY, PATIENCE_S, Program, branch
from watchhamster.backtest.paper import Entry, Paper, from_bytes, proof
from watchhamster.core.timeframes import UTC
from watchhamster.services import reading_desk
from watchhamster.settings import Home
from watchhamster.sim import Simulator

pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals"), pytest.mark.timeout(300)]

RESTLESS = """
name = "Restless"
[entry]
long = "close > 0"
[[exit]]
name = "tired"
when = "bars_held >= 2"
"""


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(activity=20.0) as one:
        yield one


@pytest.fixture
def program(tmp_path: Path, simulator: Simulator) -> Program:
    return Program(tmp_path / "home", simulator.venues["upbit"])


def arguments(folder: Path) -> list[str]:
    path = folder / "restless.toml"
    path.write_text(RESTLESS)
    return ["trade", str(path), "--mode", "paper", "--instrument", BTC, "--timeframe", "1s", "--json"]


async def lines_until(process: asyncio.subprocess.Process, count: int) -> list[dict[str, Any]]:
    """So many fills that a process prints."""
    assert process.stdout is not None
    lines: list[dict[str, Any]] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(lines) < count:
            line = await process.stdout.readline()
            assert line, (await process.stderr.read()).decode()  # type: ignore[union-attr]
            lines.append(json.loads(line))
    assert all(line["kind"] == "fill" for line in lines)
    return lines


async def test_a_kill_in_a_position_doubles_no_fill_and_loses_none(program: Program, tmp_path: Path) -> None:
    words = arguments(tmp_path)
    first = await program.start(*words)
    before = await lines_until(first, 3)  # bought, sold, bought again: it holds
    assert [fill["side"] for fill in before] == ["buy", "sell", "buy"]
    first.kill()
    await first.wait()
    await asyncio.sleep(1.5)  # bars that nobody sees as they close

    second = await program.start(*words)
    await lines_until(second, 3)
    second.send_signal(signal.SIGTERM)
    async with asyncio.timeout(PATIENCE_S):
        out, err = await second.communicate()
    assert second.returncode == 0, err.decode()
    (record,) = [line for line in map(json.loads, out.splitlines()) if line["kind"] == "paper"]
    fills = record["fills"]
    assert [fill["side"] for fill in fills] == (["buy", "sell"] * len(fills))[: len(fills)]
    assert [{k: v for k, v in fill.items() if k not in ("kind", "strategy")} for fill in before] == fills[: len(before)]

    shown = (await program("trade", "--show", "Restless", "--json")).lines
    *kept, record = shown  # what was judged while it ended is there, too
    assert [{k: v for k, v in line.items() if k not in ("kind", "strategy")} for line in kept] == record["fills"]
    assert record["fills"][: len(fills)] == fills
    fills = record["fills"]
    alerts = (await program("alert", "list", "--count", 1000, "--json")).lines
    told = [alert for alert in alerts if alert["kind"] == "fill"]
    assert sorted(alert["key"] for alert in told) == sorted(f"fill:{record['id']}:{n}" for n in range(len(fills)))
    check_against_backtest(Home(program.home), record)


def check_against_backtest(home: Home, record: dict[str, Any]) -> None:
    """What it did is what the backtest of its bars does, from the same first bar."""
    with reading_desk(home) as desk:
        ((paper_id, content),) = desk.papers().items()
        entries: list[Entry] = [entry for data in desk.read_journal(paper_id) for entry in from_bytes(data)]
    paper = msgspec.json.decode(content, type=Paper)
    result = proof(paper, entries, lambda _: UTC)
    assert [msgspec.to_builtins(fill) for fill in result.fills] == record["fills"]
    assert result.curve.equity[-1] == record["equity"]
    assert result.first_bar_ns == record["first_bar_ns"]
    assert len(result.curve) == record["bars"]


async def test_the_one_that_runs_takes_it_over_and_goes_on_until_it_is_stopped(
    program: Program, tmp_path: Path
) -> None:
    async with program.running("--instrument", BTC) as run:
        done = await program(*arguments(tmp_path), "--for", "4s")
        assert done.code == 0, done.err
        assert done.lines[-1]["kind"] == "paper" and done.lines[-1]["strategy"] == "Restless"
        tree = await run.until(lambda tree: any(child["name"] == "paper" for child in tree["children"]))
        assert branch(tree, "paper")["value"] == 1
        other = await program(*arguments(tmp_path), "--cash", "5", "--for", "1s")
        assert (other.code, other.error["code"]) == (2, "name_taken")
        (listed,) = (await program("trade", "--list", "--json")).lines
        assert listed["strategy"] == "Restless" and listed["cash"] == 10_000_000.0
        stopped = await program("trade", "--stop", "Restless", "--json")
        assert stopped.code == 0
        assert (await program("trade", "--list", "--json")).lines == []
    gone = await program("trade", "--stop", "Restless", "--json")
    assert (gone.code, gone.error["code"]) == (2, "unknown_paper")


def test_what_cannot_be_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHHAMSTER_UPBIT_URL", NOBODY)
    monkeypatch.setenv("WATCHHAMSTER_LANGUAGE", "en")
    shell = Shell(tmp_path / "home", capsys)
    words = arguments(tmp_path)[:-1]
    for extra, code in (
        (["--mode", "live"], "not_in_this_version"),
        (["--mode", "dream"], "bad_mode"),
        (["--cash", "0"], "bad_cash"),
        (["--set", "fast=3"], "bad_parameter"),
        (["--timeframe", "1x"], "bad_timeframe"),
        (["--stop", "Nobody"], "unknown_paper"),
    ):
        failed, _, error = shell(*words, *extra)
        assert (failed, error["code"]) == (2, code)
    assert shell("trade", "--list") == (0, [], {})
    assert shell("trade")[2]["code"] == "usage"
