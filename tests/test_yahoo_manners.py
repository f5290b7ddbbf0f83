"""Few requests by design: what the built-in Yahoo counts while it is watched, looked at and searched."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_cli_yahoo import FRIDAY_NS
from tests.virtual_time import LeapingClock
from watchhamster.app import Options, build_engine
from watchhamster.core.timeframes import SECOND_NS
from watchhamster.engine.engine import Engine
from watchhamster.engine.owner import Owner
from watchhamster.settings import Home
from watchhamster.sim import Simulator

pytest.importorskip("holidays")

# A connection that is given up in the very turn in which it is made is left to the garbage collector by anyio.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

WATCHED = tuple(
    f"yahoo:{symbol}"
    for symbol in (
        *("AAPL", "MSFT", "NVDA", "TSLA", "GME", "BRK-B", "BRK-A", "CALM", "SPY", "EWG", "^GSPC", "^IXIC", "KRW=X"),
        *("EURUSD=X", "JPY=X", "BTC-USD", "ETH-USD", "XRP-USD", "005930.KS", "VOD.L"),
    )
)
DAY_NS = 86_400 * SECOND_NS


def asked(simulator: Simulator) -> Counter[str]:
    return Counter(simulator.exchange.faces["yahoo"].floor.manners.paths)


def shown(engine: Engine) -> tuple[object, bool]:
    """How the tree says that tickers are asked for, and whether it says why."""
    feeds = next(child for child in engine.status().children if child.name == "feeds")
    yahoo = next(child for child in feeds.children if child.name == "yahoo")
    return next(((c.value, c.detail is not None) for c in yahoo.children if c.name == "quotes"), (None, False))


@pytest.fixture(autouse=True)
def collect() -> Iterator[None]:
    yield
    gc.collect()


@pytest.mark.parametrize("faults", ["", "yahoo.crumb429"])
async def test_twenty_symbols_ten_minutes_five_charts_and_a_search(tmp_path: Path, faults: str) -> None:
    """With a pass the tickers are one call; without, one each, and never more. The rest comes by the stream."""
    clock = LeapingClock(FRIDAY_NS, 100.0, step_s=2.0)
    home = Home(tmp_path / "home")
    async with Simulator(clock=clock, faults=faults) as simulator:
        with pytest.MonkeyPatch.context() as environment:
            for venue, url in simulator.venues.items():
                environment.setenv(f"WATCHHAMSTER_{venue.upper()}_URL", url)
            engine = await build_engine(Options(home, clock=clock, instruments=WATCHED), Owner.claim(home.prepare()))
        await engine.start()
        try:
            way = "one by one" if faults else "together"
            async with asyncio.timeout(120):
                while any(engine.board.price(name) is None for name in WATCHED) or shown(engine) != (way, bool(faults)):
                    await clock.sleep(5.0)
            seeded = asked(simulator)
            for _ in range(5):
                now_ns = clock.now_ns()
                assert len(await engine.bars("yahoo:AAPL", "1d", now_ns - 300 * DAY_NS, now_ns))
            for text in ("a", "ap", "app", "ap", "app", "appl", "app", "appl", "apple"):  # typed, with second thoughts
                assert await engine.search("yahoo", text)
            charted = asked(simulator) - seeded
            assert charted["/v8/finance/chart"] <= 3 + len(WATCHED)  # what was read was kept
            assert charted["/v1/finance/search"] <= 8  # of nine
            while clock.now_ns() < FRIDAY_NS + 600 * SECOND_NS:
                await clock.sleep(5.0)
            total = asked(simulator)
        finally:
            await engine.stop()
            await asyncio.sleep(0.05)
    assert total["/v1/test/getcrumb"] <= 4 and total["/v7/finance/quote"] <= 30
    assert total["/v8/finance/chart"] <= (5 if faults else 4) * len(WATCHED)
