"""Yahoo at its worst on the command line: every answer that is none, each tried with the real commands.

What is asked for is refused with a stable code and a sentence, and whatever is stored is what happened.
"""

from __future__ import annotations

import asyncio
import json
import threading
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.test_cli import Shell
from tests.test_program import Program, branch
from watchhamster import commands
from watchhamster.core.ports import Quota
from watchhamster.engine.clock import SystemClock
from watchhamster.sim import Simulator
from watchhamster.storage.market import MarketStore
from watchhamster.venues.yahoo import Yahoo

pytest.importorskip("holidays")

DAYS = ("data", "update", "yahoo:AAPL", "--timeframe", "1d")


@contextmanager
def exchange(faults: str) -> Iterator[Simulator]:
    """The built-in exchange in a thread of its own, since commands want the main one."""
    ready = threading.Event()
    found: list[Any] = []

    async def serve() -> None:
        async with Simulator(faults=faults) as simulator:
            over = asyncio.Event()
            found.extend((simulator, asyncio.get_running_loop(), over))
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="exchange")
    thread.start()
    assert ready.wait(60)
    simulator, loop, over = found
    try:
        yield simulator
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


class Desk:
    """Commands against one exchange, and what they left behind."""

    def __init__(self, shell: Shell, simulator: Simulator) -> None:
        self.shell = shell
        self.simulator = simulator

    def stored(self) -> dict[tuple[str, str], int]:
        path = self.shell.home / "market.db"
        if not path.exists():
            return {}
        store = MarketStore(path, SystemClock())
        store.open(read_only=True)
        try:
            return {(series.instrument, series.timeframe): series.count for series in store.series()}
        finally:
            store.close()

    def is_true(self, instrument: str, frame: str) -> bool:
        """Whether every stored candle is what happened, and there are some."""
        code, rows, _ = self.shell("data", "export", instrument, "--timeframe", frame)
        assert code == 0 and rows
        params: dict[str, str | int] = {
            "instrument": instrument,
            "timeframe": frame,
            "since_ns": rows[0]["open_ns"] - 86_400 * 10**9,
            "until_ns": rows[-1]["open_ns"] + 86_400 * 10**9,
        }
        answer = httpx.get(f"{self.simulator.url}/sim/truth/candles", params=params, timeout=30)
        real = {row["open_ns"]: row for row in map(json.loads, answer.text.splitlines())}
        if frame == "1d":  # a day is stored at its local midnight, and happened from its session's open on
            opens = sorted(real)
            real = {row["open_ns"]: real[opens[bisect_left(opens, row["open_ns"])]] for row in rows}
        for row in rows:
            found = real[row["open_ns"]]
            assert found["closed"], row
            for name in ("open", "high", "low", "close"):
                assert np.float32(found[name]) == np.float32(row[name]), (name, found, row)
        return True


@pytest.fixture
def desk(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    """With the faults of the test's own parameter `faults`. How politely and how soon is not what is tested."""
    monkeypatch.setenv("WATCHHAMSTER_LANGUAGE", "en")
    monkeypatch.setattr(Yahoo, "quotas", {group: Quota(quota.count, 0.1) for group, quota in Yahoo.quotas.items()})
    monkeypatch.setattr(commands, "ONE_SHOT_S", 90.0)
    with exchange(request.node.callspec.params["faults"]) as simulator:
        for venue, url in simulator.venues.items():
            monkeypatch.setenv(f"WATCHHAMSTER_{venue.upper()}_URL", url)
        yield Desk(Shell(tmp_path / "home", capsys), simulator)


@pytest.mark.parametrize(
    ("faults", "code", "says"),
    [
        ("yahoo.http429", "rate_limited", "Yahoo refused (rate limit or bot check; HTTP 429)"),
        ("yahoo.http999", "rate_limited", "HTTP 999"),
        ("yahoo.busy200", "rate_limited", "Yahoo refused"),
        ("yahoo.consent", "consent_needed", "consent page"),
        ("yahoo.maintenance", "unavailable", "HTTP 503"),
        ("yahoo.html", "unavailable", "HTTP 200"),
        ("yahoo.empty", "unavailable", "HTTP 200"),
        ("yahoo.error200", "unavailable", "Internal error"),
        ("yahoo.http5xx", "unavailable", "HTTP 5"),
        ("yahoo.truncate", "unreachable", "127.0.0.1"),
        ("yahoo.down", "unreachable", "127.0.0.1"),
        ("yahoo.delist:AAPL", "unknown_instrument", "yahoo:AAPL is not listed"),
    ],
)
def test_no_answer_is_said_so_and_leaves_nothing(desk: Desk, faults: str, code: str, says: str) -> None:
    for arguments in (
        ("ticker", "yahoo:AAPL"),
        ("candles", "yahoo:AAPL", "--timeframe", "1d", "--count", 3),
        DAYS,
    ):
        status, lines, error = desk.shell(*arguments)
        assert status in (1, 2) and lines == [], arguments
        if arguments is DAYS and code == "rate_limited":  # it tried again, and knew by itself
            assert error["code"] == code
        else:
            assert error["code"] == code and says in error["message"], (arguments, error)
        assert error["hint"] or code == "unreachable"
    assert desk.stored() == {}


@pytest.mark.parametrize("faults", [""])
def test_what_is_not_there_is_refused_with_what_is(desk: Desk, faults: str) -> None:
    shell = desk.shell
    for symbol, hint in (("AAPLE", "yahoo:AAPL"), ("NOSUCH.KS", "")):
        for arguments in (
            ("ticker", f"yahoo:{symbol}"),
            ("candles", f"yahoo:{symbol}"),
            ("data", "update", f"yahoo:{symbol}", "--timeframe", "1d"),
            ("run", "--instrument", f"yahoo:{symbol}", "--for", "2s"),
        ):
            status, lines, error = shell(*arguments)
            assert status == 2 and not [line for line in lines if "kind" in line], arguments
            assert error["code"] == "unknown_instrument" and hint in error["hint"], (arguments, error)
    status, _, error = shell("ticker", "yahoo:A B")
    assert (status, error["code"]) == (2, "unknown_instrument")
    for frame, days in (("1m", 29), ("5m", 59), ("1h", 729)):
        for asked in (
            ("candles", "yahoo:AAPL", "--timeframe", frame),
            ("data", "update", "yahoo:AAPL", "--timeframe", frame),
        ):
            status, lines, error = shell(*asked, "--since", "2020-01-02", "--until", "2020-02-01")
            assert (status, lines, error["code"]) == (1, [], "too_far_back")
            assert f"{days} days" in error["message"] and error["first_ns"] > 1_700_000_000 * 10**9
    assert desk.stored() == {}
    code, out, err = shell.text("candles", "yahoo:BTC-USD", "--timeframe", "1h", "--since", "2020-01-02")
    assert code == 0 and len(out.splitlines()) > 17_000 and "since 20" in err  # what there is, and from when
    status, (line,), _ = shell("data", "update", "yahoo:BTC-USD", "--timeframe", "5m", "--since", "2020-01-02")
    assert status == 0 and line["served_since_ns"] > 1_700_000_000 * 10**9 and line["candles"] > 16_000


@pytest.mark.parametrize(
    "faults", ["yahoo.nulls:0.3", "yahoo.no_meta", "yahoo.live_row", "yahoo.skew:120", "yahoo.delay:20"]
)
def test_odd_answers_are_read_as_far_as_they_go(desk: Desk, faults: str) -> None:
    """Nulls, no currency and no session table, a live row, a clock that is wrong: what is stored is what happened."""
    shell = desk.shell
    status, (ticker,), _ = shell("ticker", "yahoo:AAPL")
    assert status == 0 and ticker["price"] > 0 and ticker["kind"] == "ticker"
    for instrument, frame in (("yahoo:AAPL", "1d"), ("yahoo:BTC-USD", "1m"), ("yahoo:005930.KS", "1h")):
        status, (line,), _ = shell("data", "update", instrument, "--timeframe", frame)
        assert status == 0 and line["new"] > 50
        assert desk.is_true(instrument, frame)


@pytest.mark.parametrize("faults", ["yahoo.no_rows"])
def test_an_answer_without_rows_is_no_error_and_is_said(desk: Desk, faults: str) -> None:
    code, out, err = desk.shell.text("candles", "yahoo:AAPL", "--timeframe", "1d")
    assert (code, out) == (0, "") and "no 1d candles of AAPL" in err
    status, (line,), _ = desk.shell(*DAYS)
    assert (status, line["candles"]) == (0, 0)
    assert sum(desk.stored().values()) == 0


@pytest.mark.parametrize(
    ("faults", "problem"),
    [
        ("yahoo.corrupt:0.3,yahoo.garbage:0.4,yahoo.unknown:0.4,yahoo.absurd:0.4", ""),
        ("yahoo.http429", "Yahoo refused"),
        ("yahoo.consent", "consent page"),
    ],
)
async def test_whoever_watches_is_told(tmp_path: Path, faults: str, problem: str) -> None:
    """Broken frames are counted and never a price; a REST side that refuses is named beside what waits for it."""

    def lines(tree: dict[str, Any]) -> dict[str, dict[str, Any]]:
        return {child["name"]: child for child in branch(tree, "feeds", "yahoo")["children"]}

    def is_told(tree: dict[str, Any]) -> bool:
        found = lines(tree).values()
        if problem:
            return any(problem in (line["detail"] or "") for line in found)
        return all(line["value"] is not None for line in found)

    async with Simulator(faults=faults) as simulator:
        program = Program(tmp_path / "home", simulator.venues["upbit"])
        program.environment["WATCHHAMSTER_YAHOO_URL"] = simulator.venues["yahoo"]
        async with program.running("--instrument", "yahoo:BTC-USD", "--instrument", "yahoo:ETH-USD") as run:
            await run.until(is_told)
        for tree in run.trees:
            price = lines(tree)["BTC-USD"]["value"] if "BTC-USD" in lines(tree) else None
            assert price is None or 10_000 < price < 1_000_000
