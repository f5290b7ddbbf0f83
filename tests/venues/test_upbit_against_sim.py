"""Upbit's venue and the wire against the simulated exchange, which shares no code with either."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import Counter
from decimal import Decimal
from typing import Any, TypeVar

import pytest

from watchhamster.core.market import Candle, Trade, to_json
from watchhamster.core.ports import Query, RateLimited, Rejected, Request, Subscription
from watchhamster.core.timeframes import SECOND_NS, timeframe
from watchhamster.sim.server import Simulator
from watchhamster.venues.upbit import Upbit
from watchhamster.venues.wire import HttpWire

T = TypeVar("T")
upbit = Upbit()


async def call(wire: HttpWire, query: Query[T]) -> T:
    while True:
        answer = await wire.request(query.request)
        try:
            return query.parse(answer)
        except RateLimited as told:
            assert not told.banned
            await asyncio.sleep(1.0)


async def truth(sim: Simulator, what: str, **params: object) -> list[dict[str, Any]]:
    wire = HttpWire(sim.url, "sim", "test")
    texts = {key: str(value) for key, value in params.items()}
    answer = await wire.request(Request(f"/sim/truth/{what}", {"instrument": "upbit:KRW-BTC", **texts}))
    await wire.close()
    return [json.loads(line) for line in answer.body.splitlines()]


async def test_rest_tells_what_happened() -> None:
    async with Simulator() as sim:
        wire = HttpWire(sim.venues["upbit"], "Upbit", "test")
        infos = await call(wire, upbit.markets())
        symbols = [info.symbol for info in infos]
        assert len({t.instrument for t in await call(wire, upbit.tickers(symbols))}) == len(symbols)
        steps = {info.instrument: info.steps for info in infos}
        for book in await call(wire, upbit.books(symbols)):
            for price, _ in (*book.bids, *book.asks):
                assert Decimal(repr(price)) % steps[book.instrument].step(price) == 0, (book.instrument, price)

        now_ns = sim.now_ns()
        minute = timeframe("1m")
        since_ns, until_ns = minute.open_ns(now_ns) - 250 * minute.approximate_ns, minute.open_ns(now_ns)
        found: dict[int, Candle] = {}
        end_ns = until_ns
        while end_ns > since_ns:
            page = await call(wire, upbit.candles("KRW-BTC", minute, since_ns, end_ns))
            found.update((candle.open_ns, candle) for candle in page.rows)
            end_ns = page.since_ns
        expected = await truth(sim, "candles", timeframe="1m", since_ns=since_ns, until_ns=until_ns)
        columns = ("open_ns", "open", "high", "low", "close", "volume", "value", "closed")
        assert [[getattr(found[t], c) for c in columns] for t in sorted(found)] == [
            [e[c] for c in columns] for e in expected
        ]

        since_ns, until_ns, cursor = now_ns - 600 * SECOND_NS, now_ns - 5 * SECOND_NS, None
        seen: dict[int | str, Trade] = {}
        known_ns = until_ns
        while known_ns > since_ns:
            page_ = await call(wire, upbit.trades("KRW-BTC", until_ns, cursor))
            seen.update((t.id, t) for t in page_.rows if t.event_ns >= since_ns)
            known_ns, cursor = min(known_ns, page_.since_ns), page_.cursor
        happened = await truth(sim, "trades", since_ns=since_ns, until_ns=until_ns)
        keys = ("event_ns", "id", "price", "size", "side")
        assert {tuple(json.loads(to_json(t))[k] for k in keys) for t in seen.values()} == {
            tuple(e[k] for k in keys) for e in happened
        }

        with pytest.raises(Rejected) as unknown:
            await call(wire, upbit.tickers(["KRW-NOPE"]))
        assert unknown.value.code == "unknown_instrument"
        await wire.close()


@pytest.mark.parametrize("fast", [True, False])
async def test_the_stream_reads_without_a_bad_frame(fast: bool) -> None:
    if fast:
        pytest.importorskip("picows", reason="the extra `fast` is not installed")
    async with Simulator(tls=True, activity=20.0) as sim:
        assert sim.ca is not None
        wire = HttpWire(sim.venues["upbit"], "Upbit", "test", ssl.create_default_context(cafile=str(sim.ca)), fast=fast)
        kinds: Counter[str] = Counter()
        enough = asyncio.Event()

        def on_frame(frame: bytes | str) -> None:
            for event in upbit.decode(frame, None):
                kinds[type(event).__name__] += 1
            if min(kinds[name] for name in ("Ticker", "Trade", "Book", "Candle")) >= 3:
                enough.set()

        stream = await wire.open(upbit.stream_url(sim.venues["upbit"]), on_frame, timeout_s=5)
        wants = [Subscription(kind, "KRW-BTC") for kind in ("ticker", "trade", "book")]
        for frame in upbit.subscribe([*wants, Subscription("candle", "KRW-BTC", "1s")], "ticket"):
            await stream.send(frame)
        async with asyncio.timeout(30):
            await enough.wait()
        assert await stream.ping() > 0
        await wire.close()
