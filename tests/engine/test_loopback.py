"""The feed over real sockets against the simulated exchange: what passed is compared with what really happened."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

import httpx
import msgspec

from watchhamster.core.candles import build
from watchhamster.core.market import Event, Trade
from watchhamster.core.ports import FeedPolicy, Subscription, Unavailable
from watchhamster.core.timeframes import timeframe
from watchhamster.engine.backbone import MarketDataBackbone, VenueParts
from watchhamster.engine.backfill import Backfill, MemoryStore
from watchhamster.engine.clock import SystemClock
from watchhamster.engine.feed import Feed
from watchhamster.engine.limits import Limiter
from watchhamster.engine.routing import Caller
from watchhamster.sim.server import Simulator
from watchhamster.venues.upbit import Upbit
from watchhamster.venues.wire import HttpWire

SYMBOLS = ("KRW-BTC", "KRW-ETH")
# The same manners at a faster pace, so that a test need not wait for an audit.
QUICK = FeedPolicy(
    dial_timeout_s=1.0,
    probe_after_s=0.5,
    redial_after_s=0.3,
    ping_s=0.5,
    pong_timeout_s=0.5,
    poll_s=0.3,
    audit_s=1.0,
    backoff_max_s=1.0,
)


async def truth(simulator: Simulator, symbol: str, since_ns: int, until_ns: int) -> list[Trade]:
    async with httpx.AsyncClient(trust_env=False) as client:
        params: dict[str, str | int] = {"instrument": f"upbit:{symbol}", "since_ns": since_ns, "until_ns": until_ns}
        answer = await client.get(f"{simulator.url}/sim/truth/trades", params=params)
    return [msgspec.json.decode(line, type=Trade) for line in answer.content.splitlines()]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must come; how soon is not what is tested."""
    async with asyncio.timeout(90):
        while not condition():  # noqa: ASYNC110 - it is a state, and nobody tells when it begins
            await asyncio.sleep(0.05)


async def settled(feed: Feed, instrument: str) -> None:
    """Compared with REST, as an audit does, which is asked again where a busy machine was too slow for the pace."""
    async with asyncio.timeout(90):
        while True:
            with suppress(Unavailable):
                return await feed.settle(instrument)
            await asyncio.sleep(0.05)


FAULTS = (
    "drop:1006,drop:1001@0.5s,reset@0.8s,drop:1000@1.1s",
    "mute@0.2s+1.2s",
    "lose:0.3,duplicate:0.3,reorder:0.3,corrupt:0.02,garbage:0.02,absurd:0.02,unknown:0.02",
    "refuse:503,http429:0.3",
)


async def test_no_trade_is_lost_doubled_or_invented_and_candles_are_the_true_ones() -> None:
    async with asyncio.TaskGroup() as lives:  # side by side, for each waits most of its time
        for faults in FAULTS:
            lives.create_task(live_through(faults))


async def live_through(faults: str) -> None:
    clock = SystemClock()
    async with Simulator(seed=5, activity=40.0) as simulator, asyncio.TaskGroup() as tasks:
        venue = Upbit()
        venue.policy = QUICK
        wire = HttpWire(simulator.venues["upbit"], "upbit", "watchhamster-tests")
        caller = Caller(venue, wire, Limiter(clock, venue.quotas))
        passed: list[Event] = []
        feed = Feed(venue, wire, caller, clock, passed.append, random.Random(1), base_url=simulator.venues["upbit"])
        feed.set_wants([Subscription(kind, symbol) for symbol in SYMBOLS for kind in ("trade", "ticker", "book")])
        running = tasks.create_task(feed.run())
        await until(lambda: all(feed.delivers("trade", f"upbit:{symbol}") for symbol in SYMBOLS))
        simulator.exchange.faults.set(faults)
        began_ns = simulator.now_ns()
        await asyncio.sleep(2.0)
        simulator.exchange.faults.clear()
        ended_ns = simulator.now_ns()
        await until(lambda: feed.streaming and feed.state in ("live", "recovered"))
        await asyncio.sleep(0.8)  # the seam after a late redial
        for symbol in SYMBOLS:
            await settled(feed, f"upbit:{symbol}")

        for symbol in SYMBOLS:
            mine = [e for e in passed if isinstance(e, Trade) and e.instrument == f"upbit:{symbol}"]
            assert max(Counter(trade.id for trade in mine).values()) == 1, faults
            real = await truth(simulator, symbol, began_ns, ended_ns)
            assert len(real) > 3
            assert of_trades(mine, began_ns, ended_ns) == of_trades(real, began_ns, ended_ns), faults
            assert candles(mine, began_ns, ended_ns) == candles(real, began_ns, ended_ns), faults
        running.cancel()
        await wire.close()


def of_trades(trades: Sequence[Trade], since_ns: int, until_ns: int) -> dict[int | str, tuple[float, float, str]]:
    return {t.id: (t.price, t.size, t.side) for t in trades if since_ns <= t.event_ns < until_ns}


def candles(trades: Sequence[Trade], since_ns: int, until_ns: int) -> object:
    within = [trade for trade in trades if since_ns <= trade.event_ns < until_ns]
    return build(within[0].instrument, within, [timeframe("1s"), timeframe("1m")], "live")


async def test_history_is_fetched_once_and_is_what_really_happened() -> None:
    clock = SystemClock()
    async with Simulator(seed=5) as simulator:
        venue = Upbit()
        wire = HttpWire(simulator.venues["upbit"], "upbit", "watchhamster-tests")
        caller = Caller(venue, wire, Limiter(clock, venue.quotas))
        backfill = Backfill(lambda _: caller, MemoryStore(), clock)
        minute = timeframe("1m")
        until_ns = minute.open_ns(clock.now_ns()) - 60_000_000_000
        since_ns = until_ns - 450 * 60_000_000_000
        bars = await backfill.candles("upbit:KRW-BTC", "1m", since_ns, until_ns, priority="urgent")
        real = {c.open_ns: c for c in simulator.exchange.true_candles("KRW-BTC", "1m", since_ns, until_ns)}
        assert bars.open_ns.tolist() == sorted(real)
        assert bars.close.tolist() == [real[at].close for at in sorted(real)]
        again = await backfill.candles("upbit:KRW-BTC", "1m", since_ns, until_ns, network=False)
        assert again.open_ns.tolist() == bars.open_ns.tolist()

        trades_since_ns = until_ns - 120_000_000_000
        trades = await backfill.trades("upbit:KRW-BTC", trades_since_ns, until_ns, priority="urgent")
        assert [trade.id for trade in trades] == [
            trade.id
            for trade in sorted(
                await truth(simulator, "KRW-BTC", trades_since_ns, until_ns), key=lambda t: (t.event_ns, str(t.id))
            )
        ]
        await wire.close()


async def test_the_backbone_as_a_library() -> None:
    async with Simulator(seed=5, activity=8.0) as simulator:
        url = simulator.venues["upbit"]
        parts = {"upbit": VenueParts(Upbit(), HttpWire(url, "upbit", "watchhamster-tests"), url)}
        async with MarketDataBackbone(parts) as backbone:
            asked = await backbone.get_ticker("KRW-BTC")
            assert asked.instrument == "upbit:KRW-BTC"
            assert "KRW-BTC" in {info.symbol for info in await backbone.get_instruments()}
            seen = []
            async for trade in backbone.stream_trades("KRW-BTC"):
                seen.append(trade)
                if len(seen) == 5:
                    break
            assert len({trade.id for trade in seen}) == 5
            async for book in backbone.stream_order_books("upbit:KRW-ETH"):
                assert book.bids[0][0] < book.asks[0][0]
                break
            assert await backbone.find_arbitrage_opportunities(["upbit"]) == []
