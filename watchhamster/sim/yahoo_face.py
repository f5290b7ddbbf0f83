"""Yahoo's face: REST without a contract, a cookie and a crumb for quotes, and the stream of version 2.

Everything hangs below one base. The hosts of the real service are told apart by their paths, which do not collide:

    query1, query2    /v8/finance/chart/…  /v7/finance/quote  /v1/finance/search  /v1/finance/trending/…
                      /v1/test/getcrumb
    fc                /  and  /fc           404, with the cookie A3 (without Domain and Secure, for loopback)
    consent, guce     /v2/collectConsent  /copyConsent
    finance, feeds    /xhr/ncp (POST)  /rss/2.0/headline
    streamer          /stream (version 2; `?version=1` for bare base64), or  /?version=2  as on the real host

What the reference calls uncertain is decided here for no client to rely on: more than 100 calls a minute are refused
with 429 until the next one (and blocked if it goes on), a wrong message closes the stream with 1003, and the quote of a
halted symbol says HALTED where its market's state stands.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, unquote

from watchhamster.core.market import Candle, Side, Trade
from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text
from watchhamster.core.timeframes import timeframe
from watchhamster.sim.calendars import local_day, midnight_s
from watchhamster.sim.face import Admission, Call, Floor, Reply, Session, reply
from watchhamster.sim.shares import SHARE_OF, Share
from watchhamster.sim.stocks import Bar, Stocks, Tick
from watchhamster.sim.world import MS
from watchhamster.sim.yahoo import (
    INTERVALS,
    Chart,
    Refused,
    envelope,
    enveloped,
    pricing,
    quote_row,
    rss_body,
    search_body,
    stream_body,
    trending_body,
)

_CALLS_A_MINUTE = 100
_TOLD_MS = 600_000  # what is older is not told
_LAST_MS = 60_000  # of prints that are the last ones of a market that stands still
_MOST_FRAMES = 20  # a symbol and turn: the stream conflates
_TOO_MANY = "Too Many Requests\r\n"
_CACHE = {
    "chart": "public, max-age=10, stale-while-revalidate=20",
    "quote": "public, max-age=1, stale-while-revalidate=9",
    "search": "public, max-age=600, stale-while-revalidate=180",
    "trending": "public, max-age=300",
    "crumb": "private, max-age=60, stale-while-revalidate=30",
}
_PAGE = "<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1><p>{text}</p></body></html>"
_LONG = {"1d": None, "1w": 0, "1M": 1, "3M": 3}  # months; 0: a week


class _Channel:
    """What has been told of one symbol."""

    def __init__(self, told_ms: int, next_ms: int | None) -> None:
        self.told_ms = told_ms
        self.next_ms = next_ms


class YahooFace:
    """Yahoo over the markets with sessions."""

    idle_s: float | None = None
    text = True

    def __init__(self, floor: Floor, stocks: Stocks) -> None:
        self.floor = floor
        self.stocks = stocks
        self._wanted: dict[Session, set[str]] = {}
        self._channels: dict[str, _Channel] = {}
        self._bases: dict[tuple[str, int, int], float] = {}
        self._cookies = 0
        self._halted: dict[str, int] = {}  # symbol -> the market's time at which it was first seen halted

    def _now_ms(self, share: Share | None = None) -> int:
        """The market's time as it is told of a share: delayed, or standing still."""
        now_ms = self.floor.now_ns() // MS - int(self._delay_min(share) * 60_000)
        return now_ms if share is None or not self._is_halted(share) else min(now_ms, self._halted[share.symbol])

    def _is_halted(self, share: Share) -> bool:
        if share.symbol not in self.floor.faults.values("halt"):
            self._halted.pop(share.symbol, None)
            return False
        self._halted.setdefault(share.symbol, self.floor.now_ns() // MS)
        return True

    def _delay_min(self, share: Share | None) -> float:
        late = share is not None and share.market.name in ("kr", "uk") and self.floor.faults.any
        return (self.floor.faults.number("delay") or 0.0) if late else 0.0

    def _gone(self, symbol: str) -> bool:
        return symbol in self.floor.faults.values("delist")

    # ---------------------------------------------------------------- the truth

    def true_trades(self, symbol: str, since_ns: int, until_ns: int) -> Iterator[Trade]:
        """Every print, split-adjusted as of now. The side is a guess from the price before: the venue has none."""
        share = self.stocks.share(symbol)
        now_ms = self.floor.now_ns() // MS
        today = self.stocks.today(symbol, now_ms)
        ticks = self.stocks.ticks(symbol, -(-since_ns // MS), min(-(-until_ns // MS), now_ms + 1))

        def events() -> Iterator[Trade]:
            before, number, last_ms = 0, 0, 0
            for tick in ticks:
                number = number + 1 if tick.ms == last_ms else 0
                ratio = self.stocks.ratio(symbol, self.stocks.today(symbol, tick.ms), today)
                side: Side = "buy" if tick.price >= before else "sell"
                price = tick.price / 10.0**share.decimals / ratio
                name = f"yahoo:{symbol}"
                yield Trade(name, tick.ms * MS, None, f"{tick.ms}-{number}", price, tick.size * ratio, side)
                before, last_ms = tick.price, tick.ms

        return events()

    def true_candles(self, symbol: str, frame: str, since_ns: int, until_ns: int) -> Iterator[Candle]:
        """Candles of the regular session, split-adjusted as of now; none where nothing traded. Days are local."""
        market = self.stocks.share(symbol).market
        tf = timeframe(frame)
        minutes = None if tf.ns is None or tf.unit in "dw" else tf.ns // (60_000 * MS)
        if tf.name not in _LONG and minutes not in INTERVALS.values():
            raise UsageError("bad_timeframe", Text("Yahoo has no {timeframe} candles.", {"timeframe": tf.name}))
        now_ms = self.floor.now_ns() // MS
        since_s, until_s = -(-since_ns // 10**9), min(-(-until_ns // 10**9), now_ms // 1000 + 1)
        if minutes is None:
            day_s = 86_400 if tf.name == "1d" else 0  # its session opens within it
            bars = self.stocks.spans(symbol, _LONG[tf.name], since_s, until_s + day_s, now_ms)
        else:
            bars = self.stocks.traded(symbol, minutes, since_s, until_s, now_ms)

        def event(bar: Bar) -> Candle:
            assert bar.open is not None and bar.high is not None and bar.low is not None and bar.close is not None
            prices = (bar.open, bar.high, bar.low, bar.close)
            volume, closed = float(bar.volume or 0), bar.end_s * 1000 <= now_ms
            open_ns = begins_s(bar) * 10**9
            return Candle(f"yahoo:{symbol}", tf.name, open_ns, *prices, volume, None, closed, "simulated")

        def begins_s(bar: Bar) -> int:
            return midnight_s(market, local_day(market, bar.start_s)) if tf.name == "1d" else bar.start_s

        return (event(bar) for bar in bars if since_s <= begins_s(bar) < until_s)

    # ---------------------------------------------------------------- REST

    async def call(self, call: Call) -> Reply:
        """The answer to a request."""
        refusal = self._refusal(call)
        if refusal is not None:
            told_s = self.floor.faults.word("retry_after") if refusal.status in (429, 999) else None
            return refusal._replace(headers=[*refusal.headers, ("Retry-After", told_s)]) if told_s else refusal
        query = dict(parse_qsl(call.query, keep_blank_values=True))
        parts = [unquote(part) for part in call.path.split("/")[1:]]
        try:
            match call.method, parts:
                case "GET", ["v8", "finance", "chart", symbol]:
                    return _json(await self._chart(symbol, query), "chart")
                case "GET", ["v1", "finance", "search"]:
                    now_s = self._now_ms() // 1000
                    return _json(search_body(self.stocks, query, now_s), "search")
                case "GET", ["v1", "finance", "trending", region]:
                    count = query.get("count", "5")
                    return _json(
                        trending_body(region, int(count) if count.isdecimal() else 5, self._now_ms()), "trending"
                    )
                case "GET", ["v7", "finance", "quote"]:
                    return self._quotes(call, query)
                case "GET", ["v1", "test", "getcrumb"]:
                    return self._crumb(call)
                case "POST", ["xhr", "ncp"]:
                    return self._news(call)
                case "GET", ["rss", "2.0", "headline"]:
                    if not call.headers.get("user-agent"):
                        return _too_many()
                    symbols = query.get("s", "").split(",")
                    return reply(200, [], rss_body(self.stocks, symbols, self._now_ms() // 1000), "application/rss+xml")
                case "GET", ([""] | ["fc"]):
                    return self._page(404, "Not Found", "", [self._cookie()])
                case _, ["v2", "collectConsent"] | ["copyConsent"]:
                    return self._consent(call, query)
                case _:
                    return reply(
                        404, [], json.dumps(envelope("finance", None, Refused(404, "Not Found", "HTTP 404 Not Found")))
                    )
        except Refused as refused:
            top = "chart" if parts[:3] == ["v8", "finance", "chart"] else "finance"
            return reply(refused.status, [], json.dumps(envelope(top, None, refused)))

    def _refusal(self, call: Call) -> Reply | None:
        """What is answered instead of data, if anything: limits first, then faults."""
        faults = self.floor.faults
        left, _block_s = self.floor.limits.take("calls", call.address, _CALLS_A_MINUTE, 60)
        if left < 0:
            return _too_many()
        if not faults.any:
            return None
        if faults.holds("maintenance"):
            return self._page(503, "Will be right back...", "Thank you for your patience.")
        if faults.strikes("http429") or faults.strikes("http418"):
            return _too_many()
        if faults.strikes("http999"):
            return self._page(999, "Yahoo! - 999 Unable to process request at this time -- error 999", "Sorry.")
        if faults.strikes("busy200"):
            return _too_many(200)
        if faults.strikes("http5xx"):
            status = faults.random.choice((500, 502, 503))
            return self._page(status, "Yahoo! - Error report", f"HTTP Status {status}")
        if faults.strikes("html"):
            return self._page(200, "Yahoo", "Enable JavaScript to continue.")
        if faults.strikes("empty"):
            return reply(200, [], "")
        if faults.strikes("error200"):
            error = Refused(500, "Internal Server Error", "Internal error")
            return reply(200, [], json.dumps(envelope("chart" if "/chart/" in call.path else "finance", None, error)))
        asked = "onsent" in call.path or "EuConsent=" in call.headers.get("cookie", "")
        if not asked and faults.strikes("consent"):
            place = f"/{self.floor.venue}/v2/collectConsent?sessionId=3_cc-session_sim&done={call.path}"
            return Reply(302, [("Location", place), ("Content-Type", "text/html")], b"")
        return None

    def _page(self, status: int, title: str, text: str, extra: list[tuple[str, str]] | None = None) -> Reply:
        return reply(status, extra or [], _PAGE.format(title=title, text=text), "text/html; charset=utf-8")

    async def _chart(self, symbol: str, query: dict[str, str]) -> dict[str, object]:
        symbol = symbol.upper()
        if self._gone(symbol):
            raise Refused(404, "Not Found", "No data found, symbol may be delisted")
        faults = self.floor.faults
        now_ms = self._now_ms(SHARE_OF.get(symbol))
        chart = Chart(self.stocks, symbol, query, now_ms)
        bars = [bar for part in await self.floor.gently(chart.parts()) for bar in part]
        if chart.minutes is not None and symbol in self._halted:  # its minutes are told as without trades
            later = Chart(self.stocks, symbol, query, self._now_ms())
            rows = [bar for part in await self.floor.gently(later.parts()) for bar in part]
            bars += [_nothing(bar) for bar in rows if not bars or bar.start_s > bars[-1].start_s]
        summary = self.stocks.summary(symbol, now_ms)
        if summary is not None:
            live = chart.live_row(summary, faults.holds("live_row"))
            bars += [live] if live is not None and (not bars or bars[-1].start_s < live.start_s) else []
            summary = summary._replace(ms=summary.ms + self.floor.skew_s() * 1000)
        if faults.any:
            bars = [_nothing(bar) if faults.strikes("nulls") else bar for bar in bars]
            bars = [] if faults.holds("no_rows") else bars
        return chart.answer(bars, summary, faults.holds("no_meta"))

    def _news(self, call: Call) -> Reply:
        try:
            config = json.loads(call.body)["serviceConfig"]
            symbols, count = [str(symbol) for symbol in config["s"]], int(config.get("snippetCount", 10))
        except (ValueError, KeyError, TypeError):
            raise Refused(400, "Bad Request", "Malformed body") from None
        return _json(stream_body(self.stocks, symbols, count, self._now_ms() // 1000), "search")

    # ---------------------------------------------------------------- cookie, crumb, quotes

    def _sign(self, text: str) -> str:
        digest = hashlib.sha256(f"{self.floor.world.seed}:{text}".encode()).digest()
        return base64.b64encode(digest, b"/.").decode()

    def _cookie(self) -> tuple[str, str]:
        self._cookies += 1
        value = f"d=AQABB{self._cookies:08x}&S={self._sign(str(self._cookies))[:22]}"
        return "Set-Cookie", f"A3={value}; Max-Age=31557600; Path=/; HttpOnly"

    def _known_cookie(self, call: Call) -> str | None:
        """The client's cookie, if it is one of ours."""
        match = re.search(r"\bA3=(d=AQABB([0-9a-f]{8})&S=([^;\s]+))", call.headers.get("cookie", ""))
        if match and match[3] == self._sign(str(int(match[2], 16)))[:22]:
            return match[1]
        return None

    def _crumb_of(self, cookie: str) -> str:
        return self._sign(f"crumb:{cookie}")[:11]

    def _crumb(self, call: Call) -> Reply:
        client = call.headers.get("user-agent", "")
        if not client or client.startswith("python-") or self.floor.faults.strikes("crumb429"):
            return _too_many()
        cookie = self._known_cookie(call)
        if cookie is None:
            raise Refused(401, "Unauthorized", "Invalid Cookie")
        return reply(200, [("Cache-Control", _CACHE["crumb"])], self._crumb_of(cookie), "text/plain;charset=utf-8")

    def _quotes(self, call: Call, query: dict[str, str]) -> Reply:
        cookie, crumb = self._known_cookie(call), query.get("crumb")
        if cookie is None and crumb is None:
            raise Refused(401, "Unauthorized", "User is unable to access this feature")
        if cookie is None or crumb != self._crumb_of(cookie) or self.floor.faults.strikes("bad_crumb"):
            raise Refused(401, "Unauthorized", "Invalid Crumb")
        if not query.get("symbols"):
            raise Refused(400, "Bad Request", "Missing required query parameter=symbols")
        rows = []
        for symbol in dict.fromkeys(query["symbols"].upper().split(",")):
            share = SHARE_OF.get(symbol)
            if share is not None and not self._gone(symbol):
                row = quote_row(self.stocks, share, self._now_ms(share), self._delay_min(share))
                if row is not None:
                    rows.append(row | ({"marketState": "HALTED"} if self._is_halted(share) else {}))
        return _json(envelope("quoteResponse", rows), "quote")

    def _consent(self, call: Call, query: dict[str, str]) -> Reply:
        """The page that some are sent to, and the way back for who agrees."""
        done = query.get("done") or "/"
        here = f"/{self.floor.venue}"
        if call.path == "/copyConsent":
            headers = [("Set-Cookie", "EuConsent=yes; Path=/"), self._cookie(), ("Location", here + done)]
            return Reply(302, headers, b"")
        if call.method == "POST":
            return Reply(302, [("Location", f"{here}/copyConsent?sessionId=3_cc-session_sim&done={done}")], b"")
        fields = {
            "csrfToken": "sim1234",
            "sessionId": "3_cc-session_sim",
            "originalDoneUrl": done,
            "namespace": "yahoo",
        }
        inputs = "".join(f'<input type="hidden" name="{name}" value="{value}">' for name, value in fields.items())
        form = f'<form method="post">{inputs}<button name="agree" value="agree">Accept all</button></form>'
        return self._page(200, "Yahoo is part of the Yahoo family of brands", form)

    # ---------------------------------------------------------------- streams

    def admit(self, call: Call) -> Admission:
        """The answer to a handshake."""
        query = dict(parse_qsl(call.query))
        return (
            Admission(101)
            if call.path == "/stream" or (call.path in ("", "/") and query)
            else Admission(404, "Not Found")
        )

    def join(self, session: Session) -> None:
        """Take in a stream after its handshake."""
        self._wanted[session] = set()

    def leave(self, session: Session) -> None:
        """Forget a stream."""
        del self._wanted[session]
        self._listen()

    async def hear(self, session: Session, text: str) -> None:
        """Symbols to send or to send no more. Anything else ends the stream."""
        try:
            message = json.loads(text)
            good = isinstance(message, dict) and bool(message.keys() & {"subscribe", "unsubscribe"})
            lists = [message.get(name, []) if good else None for name in ("subscribe", "unsubscribe")]
        except ValueError:
            lists = [None]
        if any(not isinstance(one, list) or not all(isinstance(s, str) for s in one) for one in lists):
            session.open = False
            session.outlet.close(1003)
            return
        if self.floor.faults.word("subscribe_error") is not None:
            session.open = False
            session.outlet.close(1011)
            return
        wanted = self._wanted[session]
        wanted |= {symbol for symbol in lists[0] or () if symbol in SHARE_OF}  # unknown ones are met with silence
        wanted -= set(lists[1] or ())
        self._listen()
        self.floor.wake()

    def _listen(self) -> None:
        symbols = {symbol for wanted in self._wanted.values() for symbol in wanted}
        for symbol in symbols - self._channels.keys():
            told_ms = self._now_ms(SHARE_OF[symbol])
            if self.floor.market.stands:  # there is no next print: who listens is told the last ones
                told_ms -= _LAST_MS
            self._channels[symbol] = _Channel(told_ms, self._next_ms(symbol, told_ms))
        for symbol in self._channels.keys() - symbols:
            del self._channels[symbol]

    def _next_ms(self, symbol: str, now_ms: int) -> int | None:
        tick = self.stocks.next_tick(symbol, now_ms)
        return None if tick is None else tick.ms

    def next_ns(self) -> int | None:
        """The next print that somebody listens to."""
        due = [
            (channel.next_ms + int(self._delay_min(SHARE_OF[symbol]) * 60_000)) * MS
            for symbol, channel in self._channels.items()
            if channel.next_ms is not None and not self._gone(symbol)
        ]
        return min(due, default=None)

    def forget(self) -> None:
        """The machine slept: nothing of what happened meanwhile is told."""
        self._channels.clear()
        self._listen()

    def tick(self) -> None:
        """The venue does nothing by the clock: heartbeats are the client's."""

    async def tell(self) -> None:
        """Send the prints since the last time: of each second the last one."""
        for symbol, channel in list(self._channels.items()):
            share = SHARE_OF[symbol]
            halted = self._is_halted(share)
            now_ms = self._now_ms() if halted else self._now_ms(share)
            if channel.next_ms is None or now_ms < channel.next_ms:
                continue
            if halted:  # passed over for good
                channel.told_ms, channel.next_ms = now_ms, self._next_ms(symbol, now_ms)
                continue
            since_ms = max(channel.told_ms + 1, now_ms - _TOLD_MS)
            seconds = {tick.ms // 1000: tick for tick in self.stocks.ticks(symbol, since_ms, now_ms + 1)}
            channel.told_ms, channel.next_ms = now_ms, self._next_ms(symbol, now_ms)
            if channel.next_ms is not None:  # the rest of this second is told with its last print
                channel.next_ms = max(channel.next_ms, (now_ms // 1000 + 1) * 1000)
            if not self._gone(symbol):
                for tick in list(seconds.values())[-_MOST_FRAMES:]:
                    self._send(share, tick)
            await self.floor.breathe()

    def _send(self, share: Share, tick: Tick) -> None:
        """A print in a frame or two: sometimes the volume grows once more at the same price and time."""
        day = self.stocks.today(share.symbol, tick.ms)
        base = self._base(share, day, tick.part)
        at_ms = tick.ms // 1000 * 1000 + self.floor.skew_s() * 1000
        rest = 15 if tick.ms % 8 == 0 and tick.part and tick.size > 20 and share.coin is None else 0
        sized = tick.size > 0 and tick.ms % 5 > 0
        messages = [pricing(share, tick, base, at_ms, volume=tick.volume - rest, sized=sized)]
        if rest:
            messages.append(pricing(share, tick, base, at_ms, volume=tick.volume, sized=False))
        for session, wanted in list(self._wanted.items()):
            if share.symbol in wanted:
                for message in messages:
                    frame = enveloped(message, version=_version(session))
                    self.floor.deliver(session, frame, self._odd, text=True)

    def _base(self, share: Share, day: int, part: int) -> float:
        """The price that a change is from: the close before, after hours the close of the day."""
        key = (share.symbol, day, part == 2)
        if key not in self._bases:
            if len(self._bases) > 512:
                self._bases.clear()
            at_s = midnight_s(share.market, day + (part == 2))
            self._bases[key] = (
                self.stocks.previous_close(share.symbol, at_s, midnight_s(share.market, day) * 1000) or 1.0
            )
        return self._bases[key]

    def _odd(self, kind: str, frame: bytes) -> bytes:
        """A frame that should not be, or this one spoilt. Text all the same: the protocol itself is not broken."""
        random = self.floor.faults.random
        match kind:
            case "garbage":
                return random.choice(_GARBAGE)
            case "unknown":
                return random.choice(_UNKNOWN)
            case "absurd":
                return enveloped(random.choice(_ABSURD))
            case _:
                at = random.randrange(1, len(frame) - 1)
                return random.choice((frame[:at], frame[:at] + b"*" + frame[at + 1 :], frame[1:]))


def _version(session: Session) -> int:
    path, _, query = session.path.partition("?")
    return 1 if "version=1" in query or (path != "/stream" and "version=2" not in query) else 2


def _json(body: object, kind: str) -> Reply:
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    return reply(200, [("Cache-Control", _CACHE[kind]), ("Server", "ATS")], text)


def _nothing(bar: Bar) -> Bar:
    return bar._replace(open=None, high=None, low=None, close=None, volume=None)


def _too_many(status: int = 429) -> Reply:
    return reply(status, [], _TOO_MANY, "text/plain;charset=utf-8")


# ---------------------------------------------------------------- frames that should not be

_AAPL = b"\x0a\x04AAPL"
_NMS = b"\x2a\x03NMS\x30\x08\x38\x01"
_GARBAGE = (
    b"not json at all",
    b'{"type":"pricing","message":"%%%"}',
    b'{"type":"pricing","message":"////"}',
    b'{"type":"pricing","message":',
    b'{"type":"pricing"}',
    b"<html><body>502 Bad Gateway</body></html>",
    b"null",
    b"",
    enveloped(_AAPL + b"\x15\x00"),  # cut in a float
    enveloped(_AAPL + b"\x18\xff\xff"),  # cut in a varint
)
_UNKNOWN = (
    b'{"type":"heartbeat"}',
    b'{"type":"lottery","message":"CgRBQVBM"}',
    b'{"hello":"world"}',
    enveloped(b""),
    enveloped(_AAPL + b"\x9a\x06\x03new"),  # field 99
    enveloped(_AAPL + b"\x30\x07"),  # a quote type HEARTBEAT
)
_ABSURD = (
    _AAPL + b"\x15\x00\x00\xc0\x7f" + b"\x18\x80\xc2\xbe\x89\x89\x68" + _NMS,  # NaN
    _AAPL + b"\x15\x00\x00\x80\x7f" + b"\x18\x80\xc2\xbe\x89\x89\x68" + _NMS,  # infinite
    _AAPL + b"\x15\x00\x00\x80\xbf" + b"\x18\x80\xc2\xbe\x89\x89\x68" + _NMS,  # -1
    _AAPL + b"\x18\x80\xc2\xbe\x89\x89\x68" + _NMS,  # no price
    _AAPL + b"\x15\x00\x00\x83\x43" + b"\x18\xfe\xff\xff\xff\xff\xff\xff\xff\x7f" + _NMS,  # the end of time
)
