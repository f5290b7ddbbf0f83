"""One contender's measurement in a process of its own, so that each runs by its own interpreter and libraries.

    PYTHON contenders.py decode NAME trade|orderbook COUNT
    PYTHON contenders.py wire NAME PORT COUNT

prints the seconds of CPU and of the wall a message took, best of three. `ours*` need this project, the others theirs.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from market_frames import SYMBOLS, frames  # type: ignore[import-not-found]

ROUNDS = 3


class Meter:
    """Counts messages and takes the time from the first to the last one."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.seen = 0
        self.done = asyncio.get_running_loop().create_future()

    def hit(self, *_: object) -> None:
        """One message has come through."""
        self.seen += 1
        if self.seen == 1:
            self.begin = time.process_time(), time.perf_counter()
        elif self.seen == self.count:
            cpu, wall = time.process_time() - self.begin[0], time.perf_counter() - self.begin[1]
            self.done.set_result((cpu / self.count, wall / self.count))


def timed(decode: Callable[[], None], count: int) -> tuple[float, float]:
    """Seconds a message of one pass over all of them."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    decode()
    return (time.process_time() - cpu) / count, (time.perf_counter() - wall) / count


# ---------------------------------------------------------------- this project


def ours_decode(kind: str, count: int, simple: bool = True) -> tuple[float, float]:
    """Raw bytes to our events."""
    from watchhamster.venues.upbit import Upbit

    decode, messages = Upbit().decode, frames(kind, count, simple=simple)

    def run() -> None:
        for message in messages:
            decode(message, 1)

    return timed(run, count)


async def ours_wire(port: str, count: int, fast: bool) -> tuple[float, float]:
    """A socket to the callback with our event."""
    from watchhamster.venues.upbit import Upbit
    from watchhamster.venues.wire import HttpWire

    wire, decode, meter = (
        HttpWire(f"http://127.0.0.1:{port}", "Upbit", "bench", fast=fast),
        Upbit().decode,
        Meter(count),
    )

    def on_frame(frame: bytes | str) -> None:
        for event in decode(frame, 1):
            meter.hit(event)

    await wire.open(f"ws://127.0.0.1:{port}/simple", on_frame, timeout_s=5)
    result: tuple[float, float] = await meter.done
    await wire.close()
    return result


# ---------------------------------------------------------------- cryptofeed, by its own handler and connection


def _cryptofeed(kind: str, callback: Any) -> tuple[Any, str]:
    from cryptofeed.defines import L2_BOOK, TRADES  # type: ignore[import-not-found]
    from cryptofeed.exchanges import Upbit  # type: ignore[import-not-found]
    from cryptofeed.symbols import Symbol, Symbols  # type: ignore[import-not-found]

    symbols, info = {}, {"instrument_type": {}}  # type: ignore[var-annotated]
    for code in SYMBOLS:
        quote, base = code.split("-")
        symbol = Symbol(base, quote)
        symbols[symbol.normalized] = code
        info["instrument_type"][symbol.normalized] = symbol.type
    Symbols.set("UPBIT", symbols, info)
    channel = {"trade": TRADES, "orderbook": L2_BOOK}[kind]
    return Upbit(symbols=list(symbols), channels=[channel], callbacks={channel: callback}), channel


def cryptofeed_decode(kind: str, count: int) -> tuple[float, float]:
    """Raw bytes to its callback."""
    messages = frames(kind, count, simple=True)
    got = 0

    async def callback(*_: object) -> None:
        nonlocal got
        got += 1

    async def main() -> tuple[float, float]:
        feed, channel = _cryptofeed(kind, callback)
        connection = type("Connection", (), {"subscription": {channel: list(SYMBOLS)}})()
        gc.collect()
        cpu, wall = time.process_time(), time.perf_counter()
        for message in messages:
            await feed.message_handler(message, connection, 1.0)
        assert got == count
        return (time.process_time() - cpu) / count, (time.perf_counter() - wall) / count

    return asyncio.run(main())


async def cryptofeed_wire(port: str, count: int) -> tuple[float, float]:
    """A socket to its callback."""
    from cryptofeed.connection import WSAsyncConn  # type: ignore[import-not-found]
    from cryptofeed.connection_handler import ConnectionHandler  # type: ignore[import-not-found]

    meter = Meter(count)

    async def callback(*_: object) -> None:
        meter.hit()

    async def nothing(*_: object) -> None: ...

    feed, channel = _cryptofeed("trade", callback)
    connection = WSAsyncConn(
        "wss://x", "UPBIT", subscription={channel: list(SYMBOLS)}, ping_interval=20, ping_timeout=60,
        max_size=None, max_queue=1024,
    )  # fmt: skip
    connection.address = f"ws://127.0.0.1:{port}/simple"
    needs_authentication = "authenticate" in inspect.signature(ConnectionHandler.__init__).parameters  # before 3.0
    hooks = (nothing, feed.message_handler, nothing) if needs_authentication else (nothing, feed.message_handler)
    handler = ConnectionHandler(connection, *hooks, 10)
    run = handler._create_connection() if hasattr(handler, "_create_connection") else handler.run()
    task = asyncio.get_running_loop().create_task(run)
    result: tuple[float, float] = await meter.done
    task.cancel()
    return result


# ---------------------------------------------------------------- ccxt.pro, by its own client


def _ccxt() -> Any:
    import ccxt.pro  # type: ignore[import-not-found]

    exchange = ccxt.pro.upbit({"newUpdates": True})
    exchange.set_markets(
        [
            {"id": code, "symbol": "/".join(reversed(code.split("-"))), "base": code.split("-")[1],
             "quote": code.split("-")[0], "baseId": code.split("-")[1], "quoteId": code.split("-")[0], "type": "spot",
             "spot": True, "active": True, "precision": {"amount": 1e-8, "price": 1e-8}, "limits": {}, "info": {}}
            for code in SYMBOLS
        ]
    )  # fmt: skip
    return exchange


def ccxt_decode(kind: str, count: int) -> tuple[float, float]:
    """Raw bytes to its resolved future's value."""
    handle = importlib.import_module("ccxt.async_support.base.ws.client").Client.handle_text_or_binary_message
    exchange = _ccxt()
    messages = frames(kind, count, simple=False)

    class Client:
        verbose = False
        decompressBinary = True
        resolved = 0

        def resolve(self, result: object, *_: object) -> object:
            self.resolved += 1
            return result

        def on_message_callback(self, _client: object, message: object) -> None:
            exchange.handle_message(self, message)

    client = Client()
    for message in frames(kind, 200, simple=False):
        handle(client, message.replace(b'"REALTIME"', b'"SNAPSHOT"'))
    client.resolved = 0

    def run() -> None:
        for message in messages:
            handle(client, message)

    result = timed(run, count)
    assert client.resolved >= count
    return result


async def ccxt_wire(port: str, count: int) -> tuple[float, float]:
    """A socket to its trade handler, a user's loop beside it."""
    exchange = _ccxt()
    exchange.urls["api"]["ws"] = f"ws://127.0.0.1:{port}/default"
    meter = Meter(count)
    handle = exchange.handle_trades

    def counted(client: object, message: object) -> None:
        handle(client, message)
        meter.hit()

    exchange.handle_trades = counted

    async def user() -> None:
        while True:
            await exchange.watch_trades_for_symbols(list(exchange.symbols))

    task = asyncio.get_running_loop().create_task(user())
    result: tuple[float, float] = await meter.done
    task.cancel()
    await exchange.close()
    return result


DECODE: dict[str, Callable[[str, int], tuple[float, float]]] = {
    "ours": ours_decode,
    "ours, DEFAULT format": lambda kind, count: ours_decode(kind, count, simple=False),
    "cryptofeed": cryptofeed_decode,
    "ccxt.pro": ccxt_decode,
}
WIRE: dict[str, Callable[[str, int], Any]] = {
    "ours": lambda port, count: ours_wire(port, count, fast=False),
    "ours [fast]": lambda port, count: ours_wire(port, count, fast=True),
    "cryptofeed": cryptofeed_wire,
    "ccxt.pro": ccxt_wire,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    what, name, argument, number = sys.argv[1:5]
    if what == "decode":
        results = [DECODE[name](argument, int(number)) for _ in range(ROUNDS)]
    else:
        results = [asyncio.run(WIRE[name](argument, int(number))) for _ in range(ROUNDS)]
    print(json.dumps([min(cpu for cpu, _ in results), min(wall for _, wall in results)]), flush=True)
