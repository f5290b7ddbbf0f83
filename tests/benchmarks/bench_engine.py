"""What the engine costs at 4,000 messages a second, in shares of a core, beside a loop that only receives and decodes.

    python tests/benchmarks/bench_engine.py [--seconds 20] [--rate 4000] [--rounds 1] [--profile FILE]

An exchange in a process of its own sends what Upbit sends, over a loopback socket: books of 15 levels (half of the
messages), trades and the tickers they bring, of 200 instruments of which some are much busier than others, stamped with
the present; it answers the calls that confirm bars and fill trades. The engine is the whole one: feed, candles, rules
(RSI on the twenty busiest), store, outbox, status. CPU time is that of the measured process alone, all threads, warm.
At most 15 % of a core, and 10 % with the extra `fast`.
"""

from __future__ import annotations

import argparse
import asyncio
import http
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State

SYMBOLS = [f"KRW-{a}{b}{c}" for a, b, c in itertools.product("ABCDEFGHIJ", "KLMNO", "PQRS")]  # 200
WARM_S = 30.0  # the first fill asks for the trades of every instrument, ten calls a second
SLICE_S = 0.005  # so often the exchange writes what is due, all at once
RULE = "rsi(close, 14) < 30 and close < sma(close, 20)"


# ---------------------------------------------------------------- the exchange


class Exchange:
    """A market of 200 coins that trade at random, some a hundred times as often as others."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        draw = self.draw = random.Random(7)
        self.prices = [round(10 ** draw.uniform(2.2, 5.0)) * 1.0 for _ in SYMBOLS]
        self.busy = list(itertools.accumulate(1 / (1 + i) ** 0.7 for i in range(len(SYMBOLS))))
        self.sequence = itertools.count(int(time.time() * 1e6))
        self.trades: list[deque[dict[str, Any]]] = [deque(maxlen=20_000) for _ in SYMBOLS]
        self.books = [self.book(i) for i in range(len(SYMBOLS))]
        for i in range(len(SYMBOLS)):
            self.trade(i, self.now_ms() - 60_000)

    @staticmethod
    def now_ms() -> int:
        """The present."""
        return time.time_ns() // 1_000_000

    def trade(self, i: int, now_ms: int) -> dict[str, Any]:
        """The next print of an instrument."""
        price = self.prices[i] = max(1.0, self.prices[i] + self.draw.choice((-1.0, 0.0, 0.0, 1.0)))
        row = {
            "market": SYMBOLS[i], "timestamp": now_ms, "trade_price": price,
            "trade_volume": round(self.draw.uniform(0.0001, 30), 8), "ask_bid": self.draw.choice(("BID", "ASK")),
            "sequential_id": next(self.sequence), "prev_closing_price": price, "change_price": 0.0,
        }  # fmt: skip
        self.trades[i].append(row)
        return row

    def book(self, i: int) -> bytes:
        """A book, but for its time."""
        price, draw = self.prices[i], self.draw
        units = [
            {"ap": price + 1 + k, "bp": max(price - k, 0.0001 * (20 - k)), "as": round(draw.uniform(0.0001, 900), 8),
             "bs": round(draw.uniform(0.0001, 900), 8)}
            for k in range(15)
        ]  # fmt: skip
        rest = {"tas": 4321.12345678, "tbs": 4321.87654321, "obu": units, "st": "REALTIME", "lv": 0}
        return msgspec.json.encode({"ty": "orderbook", "cd": SYMBOLS[i], "tms": 0} | rest)

    def ticker(self, i: int) -> dict[str, Any]:
        """The summary after the last print."""
        last, price = self.trades[i][-1], self.prices[i]
        return {
            "market": SYMBOLS[i], "timestamp": last["timestamp"], "trade_timestamp": last["timestamp"],
            "trade_price": price, "opening_price": price, "high_price": price + 9, "low_price": price,
            "prev_closing_price": price, "change": "RISE", "change_price": 0.0, "change_rate": 0.0,
            "signed_change_price": 0.0, "signed_change_rate": 0.0, "trade_volume": last["trade_volume"],
            "acc_trade_price": 1e10, "acc_trade_price_24h": 2e10, "acc_trade_volume": 1e5,
            "acc_trade_volume_24h": 2e5, "highest_52_week_price": price * 2, "highest_52_week_date": "2026-01-02",
            "lowest_52_week_price": 1.0, "lowest_52_week_date": "2026-01-02",
        }  # fmt: skip

    def frames(self) -> list[bytes]:
        """A trade, the ticker it brings, and two books."""
        now_ms = self.now_ms()
        i, *others = self.draw.choices(range(len(SYMBOLS)), cum_weights=self.busy, k=3)
        row = self.trade(i, now_ms)
        common = {"cd": SYMBOLS[i], "tms": now_ms, "ttms": now_ms, "tp": row["trade_price"], "st": "REALTIME"}
        dated = {"td": "2026-06-01", "ttm": "08:53:20", "c": "RISE", "pcp": row["trade_price"], "cp": 0.0}
        trade = {"ty": "trade", "tv": row["trade_volume"], "ab": row["ask_bid"], "sid": row["sequential_id"],
                 "bap": row["trade_price"] + 1, "bas": 5.12345678, "bbp": 1.0, "bbs": 7.12345678}  # fmt: skip
        ticker = {"ty": "ticker", "op": 9.0, "hp": 99.0, "lp": 1.0, "scp": 1.0, "cr": 0.01, "scr": 0.01, "atp": 1e10,
                  "atp24h": 2e10, "atv": 1e5, "atv24h": 2e5, "aav": 1e5, "abv": 1e5, "h52wp": 99.0, "ms": "ACTIVE",
                  "h52wdt": "2026-01-02", "l52wp": 1.0, "l52wdt": "2026-01-02", "mw": "NONE", "its": False}  # fmt: skip
        stamp = b'"tms":%d' % now_ms
        books = [self.books[k].replace(b'"tms":0', stamp, 1) for k in others]
        return [msgspec.json.encode(trade | common | dated), msgspec.json.encode(ticker | common | dated), *books]

    async def stream(self, socket: ServerConnection) -> None:
        """Everything to whoever subscribes, at the rate."""
        await socket.recv()
        hearing = asyncio.get_running_loop().create_task(self.hear(socket))
        began, sent = time.perf_counter(), 0
        for i, row in enumerate(self.trades):  # what a subscription answers at once
            brief = {"cd": SYMBOLS[i], "tms": row[-1]["timestamp"], "ttms": row[-1]["timestamp"], "tp": self.prices[i]}
            await socket.send(msgspec.json.encode({"ty": "ticker"} | brief))
        while not hearing.done():
            due = int((time.perf_counter() - began) * self.rate) - sent
            batch: list[bytes] = []
            while len(batch) < due:
                batch += [Frame(Opcode.BINARY, frame).serialize(mask=False) for frame in self.frames()]
            sent += len(batch)
            if socket.state is State.OPEN:
                socket.transport.write(b"".join(batch))
            await asyncio.sleep(SLICE_S)

    @staticmethod
    async def hear(socket: ServerConnection) -> None:
        """Read whatever the client says, so that its pings are answered."""
        with suppress(ConnectionClosed):
            async for _ in socket:
                pass

    def answer(self, request: Request) -> Response | None:
        """A REST call, or None for the stream."""
        parts = urlsplit(request.path)
        query = parse_qs(parts.query)
        rows: list[dict[str, Any]] = []
        if parts.path.endswith("/websocket/v1"):
            return None
        if parts.path.endswith("/market/all"):
            rows = [{"market": s, "korean_name": s, "english_name": s} for s in SYMBOLS]
        elif "/ticker" in parts.path:
            wanted = set(query["markets"][0].split(",")) if "markets" in query else set(SYMBOLS)
            rows = [self.ticker(i) for i, s in enumerate(SYMBOLS) if s in wanted]
        elif parts.path.endswith("/trades/ticks"):
            before = int(query["cursor"][0]) if "cursor" in query else sys.maxsize
            newest = reversed(self.trades[SYMBOLS.index(query["market"][0])])
            older = itertools.dropwhile(lambda row: row["sequential_id"] >= before, newest)
            rows = list(itertools.islice(older, int(query["count"][0])))
        body = json.dumps(rows).encode()
        head = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
        return Response(http.HTTPStatus.OK.value, "OK", head, body)


async def exchange(rate: float) -> None:
    """Serve until killed; the port is the first line."""
    market = Exchange(rate)
    async with serve(
        market.stream, "127.0.0.1", 0, process_request=lambda _socket, request: market.answer(request), compression=None
    ) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await server.serve_forever()


# ---------------------------------------------------------------- who is measured


class Meter:
    """CPU and messages between two moments."""

    def __init__(self) -> None:
        self.cpu, self.at = time.process_time(), time.perf_counter()

    def read(self, messages: int) -> dict[str, float]:
        """The share of a core, microseconds a message, messages a second."""
        cpu, wall = time.process_time() - self.cpu, time.perf_counter() - self.at
        return {"share": cpu / wall, "us": cpu / messages * 1e6, "rate": messages / wall}


async def bare(url: str, seconds: float) -> dict[str, float]:
    """Our wire and codec, nothing behind them."""
    from watchhamster.core.ports import Subscription
    from watchhamster.venues.upbit import Upbit
    from watchhamster.venues.wire import HttpWire

    venue, count = Upbit(), 0

    def take(frame: bytes | str) -> None:
        nonlocal count
        venue.decode(frame, time.time_ns())
        count += 1

    wire = HttpWire(url, "upbit", "benchmark")
    stream = await wire.open(venue.stream_url(url), take, timeout_s=5)
    for frame in venue.subscribe([Subscription("trade", "KRW-AKP")], "t"):
        await stream.send(frame)
    await asyncio.sleep(WARM_S / 10)
    meter, before = Meter(), count
    await asyncio.sleep(seconds)
    result = meter.read(count - before)
    await wire.close()
    return result


async def engine(url: str, seconds: float, profile: str | None) -> dict[str, float]:
    """The whole engine, watching everything."""
    import os

    from watchhamster.app import Options, build_engine
    from watchhamster.core.ports import Subscription
    from watchhamster.monitor.alerts import Rule
    from watchhamster.settings import Home

    os.environ["WATCHHAMSTER_UPBIT_URL"] = url
    with tempfile.TemporaryDirectory() as folder:
        names = tuple(f"upbit:{symbol}" for symbol in SYMBOLS)
        watchman = await build_engine(Options(home=Home(Path(folder)), instruments=names))
        await watchman.start()
        feed = watchman._parts["upbit"].feed
        await watchman.save_rule(Rule(name="low", formula=RULE, instruments=names[:20], timeframe="1m"))
        # A desk with every book open; the engine by itself would stream the book that is looked at.
        feed.set_wants([Subscription(kind, symbol) for kind in ("ticker", "trade", "book") for symbol in SYMBOLS])
        await asyncio.sleep(WARM_S)
        if profile:
            import cProfile

            profiler = cProfile.Profile()
            profiler.enable()
        meter, before, handled = Meter(), feed.messages, feed.conflated
        await asyncio.sleep(seconds)
        result = meter.read(feed.messages - before)
        if profile:
            profiler.disable()
            profiler.dump_stats(profile)
        result["conflated"] = feed.conflated - handled
        assert feed.bad_frames == 0 and feed.state in ("live", "recovered"), (feed.state, feed.bad_samples)
        await watchman.stop()
    return result


# ---------------------------------------------------------------- the comparison


def measure(who: str, fast: bool, given: argparse.Namespace) -> dict[str, float]:
    """One run of both processes."""
    me = [sys.executable, __file__, "--rate", str(given.rate), "--seconds", str(given.seconds)]
    with subprocess.Popen([*me, "--role", "exchange"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
            more = ["--profile", given.profile] if given.profile and who == "engine" else []
            more += ["--fast"] if fast else []
            done = subprocess.run(
                [*me, "--role", who, "--url", url, *more], capture_output=True, text=True, check=False
            )
        finally:
            server.kill()
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Measure and print, or be one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=4000.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--profile")
    parser.add_argument("--role", choices=("exchange", "bare", "engine"), help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--fast", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role == "exchange":
        asyncio.run(exchange(given.rate))
        return
    if given.role:
        if not given.fast:
            sys.modules["picows"] = None  # type: ignore[assignment]  # as if it were not installed
        sys.modules["httpx._main"] = None  # type: ignore[assignment]  # as the program's door does
        work = (
            bare(given.url, given.seconds) if given.role == "bare" else engine(given.url, given.seconds, given.profile)
        )
        print(json.dumps(asyncio.run(work)))
        return
    for fast, most in ((False, 0.15), (True, 0.10)):
        rounds = [[measure(who, fast, given) for who in ("bare", "engine")] for _ in range(given.rounds)]
        low, high = ({k: statistics.median(r[i][k] for r in rounds) for k in rounds[0][i]} for i in (0, 1))
        library = "picows" if fast else "websockets"
        print(f"{library:<10}  bare loop {low['share']:6.1%} of a core, {low['us']:.1f} us a message")
        print(f"{'':<10}  engine    {high['share']:6.1%} (at most {most:.0%}), {high['us']:.1f} us, ", end="")
        print(f"{high['share'] / low['share']:.2f} x; {high['rate']:,.0f} messages/s, {high['conflated']:,.0f} folded")


if __name__ == "__main__":
    main()
