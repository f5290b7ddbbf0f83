"""A venue, its wire and its misfortunes, in virtual time: what the feed is tried on.

The venue trades some symbols at random moments, serves them over streams and quota-limited REST, and suffers one
fault after another. It keeps the truth: every trade, every call as it arrived, which stream really delivered.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from tests.virtual_time import VirtualClock
from watchhamster.core.instruments import InstrumentInfo, PriceSteps
from watchhamster.core.market import Book, Candle, Event, Ticker, Trade
from watchhamster.core.ports import (
    BadFrame,
    FeedPolicy,
    FrameSink,
    Kind,
    Page,
    Query,
    Quota,
    RateLimited,
    Rejected,
    Request,
    Response,
    Subscription,
    T,
    Unavailable,
)
from watchhamster.core.sessions import Session
from watchhamster.core.text import Text
from watchhamster.core.timeframes import UTC, Grid, Timeframe

PAGE = 100  # trades a call
_events = msgspec.json.Decoder(list[Trade | Book | Ticker | Candle])
_encode = msgspec.json.Encoder().encode


def down(why: str) -> Unavailable:
    return Unavailable("unreachable", Text("{why}", {"why": why}))


class MemoryVenue:
    """The sans-I/O half: frames are JSON lists of events."""

    name = "memory"
    url = "memory://"
    quotas: Mapping[str, Quota] = {group: Quota(10) for group in ("ticker", "trade", "orderbook", "candle")}
    timeframes: tuple[str, ...] = ("1m", "5m", "1h", "1d")
    kinds: tuple[Kind, ...] = ("ticker", "trade", "book", "candle")
    tickers_a_call = 100
    caution: Text | None = None

    def __init__(self, policy: FeedPolicy | None = None) -> None:
        self.policy = policy or FeedPolicy()

    def session(self, symbol: str, now_ns: int) -> Session | None:
        return None

    def grid(self, symbol: str) -> Grid:
        return UTC

    def described(self, symbol: str) -> InstrumentInfo:
        steps = PriceSteps((Decimal(0),), (Decimal("0.01"),))
        return InstrumentInfo(f"memory:{symbol}", symbol, symbol, "KRW", {}, steps, Decimal(0))

    def served_since_ns(self, timeframe: Timeframe, now_ns: int) -> int | None:
        return None

    def stream_url(self, base_url: str) -> str:
        return base_url + "stream"

    def subscribe(self, wants: Sequence[Subscription], ticket: str) -> list[str]:
        return [_encode(wants).decode()]

    def keepalive(self) -> str | None:
        return None

    def decode(self, frame: bytes | str, received_ns: int | None) -> list[Event]:
        if frame == b"refused":
            raise Rejected("refused", Text("WRONG_FORMAT"))
        try:
            return list(_events.decode(frame))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadFrame(str(error), frame) from None

    def markets(self) -> Query[list[InstrumentInfo]]:
        raise NotImplementedError

    def tickers(self, symbols: Sequence[str]) -> Query[list[Ticker]]:
        return self._query("ticker", {"symbols": ",".join(symbols)}, list[Ticker])

    def books(self, symbols: Sequence[str]) -> Query[list[Book]]:
        return self._query("orderbook", {"symbols": ",".join(symbols)}, list[Book])

    def trades(self, symbol: str, until_ns: int | None = None, cursor: str | None = None) -> Query[Page[Trade]]:
        return self._query("trade", {"symbol": symbol, "cursor": cursor or ""}, Page[Trade])

    def candles(self, symbol: str, timeframe: Timeframe, since_ns: int, until_ns: int) -> Query[Page[Candle]]:
        values = {"symbol": symbol, "timeframe": str(timeframe), "since": str(since_ns), "until": str(until_ns)}
        return self._query("candle", values, Page[Candle])

    def remaining(self, response: Response) -> int | None:
        return int(response.headers["remaining"]) if "remaining" in response.headers else None

    def _query(self, group: str, params: Mapping[str, str], shape: Any) -> Query[T]:
        def parse(response: Response) -> T:
            if response.status in (418, 429):
                told = float(response.headers["retry-after"])
                banned = response.status == 418
                raise RateLimited("rate_limited", Text("too often"), retry_after_s=told, banned=banned)
            if response.status == 404:
                raise Rejected("unknown_instrument", Text("Code not found"))
            if response.status != 200:
                raise down(f"status {response.status}")
            answer: T = msgspec.json.decode(response.body, type=shape)
            return answer

        return Query(Request("/" + group, params, group), parse)


class MemoryStream:
    """One connection. The exchange decides what becomes of it."""

    def __init__(self, exchange: Exchange, on_frame: FrameSink) -> None:
        self.exchange = exchange
        self.on_frame = on_frame
        self.over: asyncio.Future[Text] = asyncio.get_running_loop().create_future()
        self.half_open = self.mute = False
        self.wants: set[tuple[str, str]] = set()
        self.sent: list[float] = []
        self.delivering_since: float | None = None
        self.kept: list[bytes] = []  # while the exchange shuffles

    async def send(self, frame: str) -> None:
        if self.over.done():
            raise down("closed")
        self.sent.append(self.exchange.now())
        if not self.half_open:
            await asyncio.sleep(self.exchange.lag())
            self.exchange.subscribed(self, msgspec.json.decode(frame, type=list[Subscription]))

    async def ping(self) -> float:
        if self.over.done():
            raise down("closed")
        if self.half_open:
            await asyncio.Event().wait()
        lag = self.exchange.lag()
        await asyncio.sleep(lag)
        return lag

    async def closed(self) -> Text:
        return await asyncio.shield(self.over)

    async def close(self) -> None:
        self.end("by us")

    def end(self, why: str) -> None:
        if not self.over.done():
            self.over.set_result(Text(why))
        self.delivering_since = None
        self.exchange.streams.discard(self)

    def push(self, frame: bytes) -> None:
        if self.half_open or self.mute or self.over.done():
            return
        rng, mangle = self.exchange.rng, self.exchange.mangle
        if mangle == "lossy" and rng.random() < 0.3:
            return
        if mangle == "garbage" and rng.random() < 0.3:
            self.on_frame(rng.choice([b"\xff\xfe\x00", frame[: len(frame) // 2], b"<html>", b'[{"kind":"trade"}]']))
        if mangle == "reorder":
            self.kept.append(frame)
            if len(self.kept) < 5:
                return
            self.unshuffle()
            return
        self.on_frame(frame)
        if mangle == "dup" and rng.random() < 0.3:
            self.on_frame(frame)

    def unshuffle(self) -> None:
        kept, self.kept = self.kept, []
        self.exchange.rng.shuffle(kept)
        for frame in kept:
            self.on_frame(frame)


FAULTS = (
    *("close1000", "close1006", "close1011", "reset", "half_open", "mute", "dup", "reorder", "garbage", "lossy"),
    *("dns", "connect_hang", "tls", "rest_429", "rest_5xx", "maintenance", "flap", "slow"),
    *("deaf", "rest_hang", "sleep", "clock_step"),
)
NO_ROUTE = ("dns", "tls", "maintenance", "sleep")  # the faults that leave no way to the venue


class Exchange:
    """The venue's own side, and the `Wire` to it. `rates`: symbol -> trades a second."""

    def __init__(self, clock: VirtualClock, seed: int, rates: Mapping[str, float]) -> None:
        self.clock = clock
        self.rng = random.Random(seed)
        self.rates = rates
        self.trades: dict[str, list[Trade]] = {symbol: [] for symbol in rates}
        self.streams: set[MemoryStream] = set()
        self.all_streams: list[MemoryStream] = []
        self.calls: list[tuple[float, str, int]] = []  # when, group, status
        self.dialled: list[float] = []
        self.blocks = 0
        self.mangle: str | None = None
        self.refuse: str | None = None  # dns, tls, hang, down
        self.rest: str | None = None  # 429, 503, hang
        self.deaf = False  # new streams hear nothing
        self.slow = False
        self.faults: list[tuple[float, float, str]] = []
        self._refused: list[float] = []
        self._blocked_until = 0.0
        self._count = 0
        self._price = 100.0

    def now(self) -> float:
        return self.clock.monotonic()

    def lag(self) -> float:
        return (0.4 if self.slow else 0.02) * (1 + self.rng.random())

    # ------------------------------------------------------------ the market

    async def trade(self) -> None:
        """Trade until cancelled."""
        symbols, weights = list(self.rates), list(self.rates.values())
        total = sum(weights)
        while True:
            await asyncio.sleep(self.rng.expovariate(total))
            if self.refuse != "down":
                self.print_trade(self.rng.choices(symbols, weights)[0])

    def print_trade(self, symbol: str) -> Trade:
        self._count += 1
        self._price *= 1 + self.rng.gauss(0, 1e-4)
        now_ns = int(self.now() * 1000) * 1_000_000 + self.epoch_ns
        trade = Trade(
            f"memory:{symbol}", now_ns, None, self._count * 7919 % 1_000_003, self._price, self.rng.random(), "buy"
        )
        self.trades[symbol].append(trade)
        wanted = [stream for stream in self.streams if stream.wants]
        if wanted:
            trade_frame, ticker_frame = _encode([trade]), _encode([self.ticker(symbol)])
            for stream in sorted(wanted, key=id) if len(wanted) > 1 else wanted:
                if ("trade", symbol) in stream.wants:
                    stream.push(trade_frame)
                if ("ticker", symbol) in stream.wants:
                    stream.push(ticker_frame)
        return trade

    epoch_ns = 1_750_000_000_000_000_000

    def ticker(self, symbol: str) -> Ticker:
        last = self.trades[symbol][-1] if self.trades[symbol] else None
        at_ns = last.event_ns if last is not None else self.epoch_ns
        price = last.price if last is not None else 1.0
        return Ticker(f"memory:{symbol}", at_ns, None, price, None, None, None, None, None, None, None, None, at_ns)

    def book(self, symbol: str) -> Book:
        at_ns = int(self.now() * 1e9) + self.epoch_ns
        return Book(f"memory:{symbol}", at_ns, None, True, [(self._price, 1.0)], [(self._price * 1.001, 1.0)])

    # ------------------------------------------------------------ the streams

    def subscribed(self, stream: MemoryStream, wants: Sequence[Subscription]) -> None:
        stream.wants = {(want.kind, want.symbol) for want in wants if want.symbol in self.rates}
        if stream.over.done() or stream.mute or stream.half_open:
            return
        stream.delivering_since = self.now()
        for kind, symbol in sorted(stream.wants):
            if kind == "trade" and self.trades[symbol]:
                stream.push(_encode([self.trades[symbol][-1]]))
            elif kind == "ticker":
                stream.push(_encode([self.ticker(symbol)]))
            elif kind == "book":
                stream.push(_encode([self.book(symbol)]))

    async def open(self, url: str, on_frame: FrameSink, *, timeout_s: float) -> MemoryStream:
        self.dialled.append(self.now())
        await asyncio.sleep(2 * self.lag())
        if self.refuse == "hang":
            await asyncio.Event().wait()
        if self.refuse is not None:
            raise down(self.refuse)
        stream = MemoryStream(self, on_frame)
        stream.mute = self.deaf
        self.streams.add(stream)
        self.all_streams.append(stream)
        return stream

    async def close(self) -> None:
        for stream in list(self.streams):
            stream.end("dropped")

    # ------------------------------------------------------------ REST

    async def request(self, request: Request) -> Response:
        await asyncio.sleep(self.lag() / 2)
        status, headers = self._admit(request.group)
        self.calls.append((self.now(), request.group, status))
        if self.refuse in ("dns", "tls", "down"):
            raise down(self.refuse)
        if self.rest == "hang":
            await asyncio.Event().wait()
        body = b"<html>"
        if status == 200:
            status, body = self._answer(request)
        await asyncio.sleep(self.lag() / 2)
        return Response(status, headers, body)

    def _admit(self, group: str) -> tuple[int, dict[str, str]]:
        now = self.now()
        if now < self._blocked_until:
            return 418, {"retry-after": str(self._blocked_until - now)}
        if self.rest == "503":
            return 503, {}
        recent = sum(1 for at, g, status in self.calls[-40:] if g == group and at > now - 1)
        if recent >= 10 or self.rest == "429":
            self._refused = [at for at in self._refused if at > now - 10] + [now]
            if len(self._refused) >= 20:
                self._blocked_until, self.blocks = now + 120, self.blocks + 1
            return 429, {"retry-after": "1"}
        return 200, {"remaining": str(9 - recent)}

    def _answer(self, request: Request) -> tuple[int, bytes]:
        if request.group in ("ticker", "orderbook"):
            symbols = request.params["symbols"].split(",")
            if any(symbol not in self.rates for symbol in symbols):
                return 404, b""
            make: Callable[[str], Ticker | Book] = self.ticker if request.group == "ticker" else self.book
            return 200, _encode([make(symbol) for symbol in symbols])
        if request.params["symbol"] not in self.trades:
            return 404, b""
        trades = self.trades[request.params["symbol"]]
        end = int(request.params["cursor"] or len(trades))
        start = max(0, end - PAGE)
        since_ns = trades[start].event_ns + 1 if start else 0
        return 200, _encode(Page(trades[start:end], since_ns, 2**62, str(start) if start else None))

    def truth(self) -> str:
        """Whether a stream delivers just now: "delivers", "down", or "unclear" while frames are spoiled."""
        if self.mangle is not None:
            return "unclear"
        return "delivers" if any(stream.delivering_since is not None for stream in self.streams) else "down"

    # ------------------------------------------------------------ misfortune

    async def suffer(self, until: float, kinds: Sequence[str] = FAULTS) -> None:
        """One fault after another, until then."""
        rng = self.rng
        await asyncio.sleep(rng.uniform(5, 20))
        while self.now() < until:
            kind, seconds = rng.choice(kinds), rng.choice((0.5, 2, 5, 15, 40))
            began = self.now()
            await self._suffer(kind, seconds)
            self.mangle = self.refuse = self.rest = None
            self.slow = self.deaf = False
            for stream in self.streams:
                stream.unshuffle()
            self.faults.append((began, self.now(), kind))
            await asyncio.sleep(rng.uniform(20, 60))

    async def _suffer(self, kind: str, seconds: float) -> None:
        if kind in ("half_open", "mute"):
            for stream in self.streams:
                stream.half_open, stream.mute = kind == "half_open", True
                stream.delivering_since = None
            return
        if kind.startswith("close") or kind == "reset":
            await self._end_all(kind)
            return
        if kind == "flap":
            for _ in range(5):
                await self._end_all("close1006")
                await asyncio.sleep(0.4)
            return
        if kind == "sleep":
            self.clock.advance(seconds + 5)
            for stream in self.streams:
                stream.half_open, stream.delivering_since = True, None
            return
        if kind == "clock_step":
            self.clock.step(self.rng.choice((-3600, 3600, 5, -5)))
            return
        if kind in ("dup", "reorder", "garbage", "lossy"):
            self.mangle = kind
        elif kind in ("dns", "tls", "connect_hang", "maintenance"):
            self.refuse = {"connect_hang": "hang", "maintenance": "down"}.get(kind, kind)
            await self._end_all("reset")
            seconds *= 2 if kind == "maintenance" else 1
        elif kind == "deaf":
            self.deaf = True
            await self._end_all("reset")
        elif kind.startswith("rest_"):
            self.rest = {"rest_429": "429", "rest_5xx": "503", "rest_hang": "hang"}[kind]
        elif kind == "slow":
            self.slow = True
        await asyncio.sleep(seconds)

    async def _end_all(self, why: str) -> None:
        for stream in list(self.streams):
            if not stream.half_open:
                stream.end(why)
