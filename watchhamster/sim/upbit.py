"""The face the simulated market shows: Upbit's REST bodies, WebSocket requests and frames, as its documents and probes
of the live wire describe them (docs.upbit.com/kr/reference). Pure: the time comes in, texts come out.

Numbers are spelled as the venue spells them, differently per channel, so that clients cannot rely on a spelling:
REST prints plain decimals (`116233000`, second candles with `.0`); WebSocket DEFAULT prints prices of nine digits and
more as `1.16539E8` and sizes with trailing zeros; WebSocket SIMPLE prints prices plain and small sizes as `7.9276E-4`.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec

from watchhamster.core.timeframes import Timeframe, timeframe
from watchhamster.sim.depth import Depth
from watchhamster.sim.listings import BY_SYMBOL, CAUTIONS, Listing
from watchhamster.sim.world import DAY_MS, ID_SHIFT_MS, MS, Bar, Print, Summary, World

MISSING = "Missing request parameter error. Check the required parameters!"
MISMATCH = "Type mismatch error. Check the parameters type!"
INVALID = "Invalid parameter. Check the given value!"
NOT_FOUND = "Code not found"

StreamType = Literal["SNAPSHOT", "REALTIME"]
UNITS = (1, 3, 5, 10, 15, 30, 60, 240)
CANDLE_TYPES = {"candle.1s": "1s", **{f"candle.{unit}m": f"{unit}m" for unit in UNITS}}
_SECONDS_KEPT_NS = 92 * DAY_MS * MS  # three months of second candles
_KST = dt.timezone(dt.timedelta(hours=9))


# ---------------------------------------------------------------- numbers


def plain(whole: int, decimals: int) -> str:
    """`whole * 10**-decimals` as the shortest plain decimal: `116233000`, `0.00077`."""
    if not decimals:
        return str(whole)
    sign, whole = ("-", -whole) if whole < 0 else ("", whole)
    left, right = divmod(whole, 10**decimals)
    return f"{sign}{left}.{right:0{decimals}d}".rstrip("0").rstrip(".") if right else f"{sign}{left}"


def padded(whole: int, decimals: int) -> str:
    """The same with its trailing zeros: `0.00077720`."""
    left, right = divmod(whole, 10**decimals)
    return f"{left}.{right:0{decimals}d}" if decimals else str(left)


def exponent(text: str) -> str:
    """A plain decimal in the form `1.16539E8` or `7.9276E-4`."""
    digits, _, fraction = text.lstrip("-").partition(".")
    power = len(digits) - 1
    if digits == "0":
        power = -1 - (len(fraction) - len(fraction.lstrip("0")))
    significant = (digits + fraction).lstrip("0").rstrip("0") or "0"
    sign = "-" if text.startswith("-") else ""
    return f"{sign}{significant[0]}.{significant[1:] or '0'}E{power}"


def real(number: float) -> str:
    """A float as a plain decimal that reads back as the same float."""
    text = repr(number)
    if "e" not in text:
        return text
    mantissa, _, power = text.partition("e")
    places = len(mantissa.partition(".")[2]) - int(power)
    return f"{number:.{max(1, places)}f}"


class Style(msgspec.Struct, frozen=True):
    """How one WebSocket client wants its frames."""

    simple: bool = False
    listed: bool = False

    def price(self, whole: int, listing: Listing) -> str:
        """A price in this style."""
        text = plain(whole, listing.price_decimals)
        if self.simple:
            return text
        if len(text.partition(".")[0].lstrip("-")) >= 9:
            return exponent(text)
        return text if "." in text else text + ".0"

    def size(self, lots: int, listing: Listing) -> str:
        """A size in this style."""
        if not self.simple:
            return padded(lots, listing.size_decimals)
        text = plain(lots, listing.size_decimals)
        return exponent(text) if text.startswith("0.000") else text

    def pack(self, fields: Iterable[tuple[str, str, str]]) -> bytes:
        """One frame of (full name, short name, JSON text)."""
        body = ",".join([f'"{short}":{text}' if self.simple else f'"{full}":{text}' for full, short, text in fields])
        return (f"[{{{body}}}]" if self.listed else f"{{{body}}}").encode()


STYLES = {
    "DEFAULT": Style(),
    "SIMPLE": Style(simple=True),
    "JSON_LIST": Style(listed=True),
    "SIMPLE_LIST": Style(simple=True, listed=True),
}


@lru_cache(maxsize=64)
def _utc(second: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(second, dt.UTC)


def _iso(open_ns: int, shift_s: int = 0) -> str:
    return _utc(open_ns // 10**9 + shift_s).strftime("%Y-%m-%dT%H:%M:%S")


def _date(day: int) -> str:
    return _utc(day * 86400).strftime("%Y-%m-%d")


def _move(price: int, before: int) -> tuple[str, int, float]:
    """RISE, EVEN or FALL; the signed change; its share of the price before."""
    change = price - before
    return "RISE" if change > 0 else "FALL" if change < 0 else "EVEN", change, round(change / before, 10)


# ---------------------------------------------------------------- REST


class Refused(Exception):
    """A call the venue answers with an error object."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def error_body(name: int | str, message: str) -> str:
    """`{"error": {...}}` as the venue writes it: quotation errors carry the status as an integer name."""
    return json.dumps({"error": {"name": name, "message": message}}, ensure_ascii=False, separators=(",", ":"))


def group_of(path: str) -> str | None:
    """The rate-limit group of a path below `/v1`, None if there is no such route."""
    if path == "/market/all":
        return "market"
    if path == "/trades/ticks":
        return "trade"
    if path in ("/ticker", "/ticker/all"):
        return "ticker"
    if path in ("/orderbook", "/orderbook/instruments", "/orderbook/supported_levels"):
        return "orderbook"
    if path in ("/candles/seconds", "/candles/days", "/candles/weeks", "/candles/months", "/candles/years"):
        return "candle"
    return "candle" if re.fullmatch(r"/candles/minutes/[^/]+", path) else None


class Upbit:
    """The protocol over a world. `delisted` symbols are gone from REST and silent on streams."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.delisted: frozenset[str] = frozenset()

    def listed(self, symbol: str, now_ns: int) -> bool:
        """Whether this symbol trades now. Case matters."""
        listing = BY_SYMBOL.get(symbol)
        return listing is not None and symbol not in self.delisted and listing.since_day * DAY_MS * MS < now_ns

    # ---------------------------------------------------------------- REST

    def rows(self, path: str, query: Mapping[str, str], now_ns: int) -> Iterable[str]:
        """The JSON objects that answer a GET below `/v1` (a path that `group_of` knows). Raises `Refused`."""
        match path.split("/")[1:]:
            case ["market", "all"]:
                return self._markets(query, now_ns)
            case ["candles", unit, *rest]:
                return self._candles(unit, rest, query, now_ns)
            case ["trades", _]:
                return self._ticks(query, now_ns)
            case ["ticker"]:
                return (self.ticker_row(symbol, now_ns) for symbol in self._markets_of(query, now_ns))
            case ["ticker", _]:
                return self._all_tickers(query, now_ns)
            case ["orderbook"]:
                return self._books(query, now_ns)
            case ["orderbook", "instruments"]:
                return self._book_instruments(query, now_ns)
            case _:
                return self._book_levels(query, now_ns)

    def _symbol(self, text: str, now_ns: int) -> str:
        symbol = text.strip().upper()
        if not self.listed(symbol, now_ns):
            raise Refused(404, NOT_FOUND)
        return symbol

    def _markets_of(self, query: Mapping[str, str], now_ns: int) -> list[str]:
        if "markets" not in query:
            raise Refused(400, MISSING)
        return [self._symbol(text, now_ns) for text in query["markets"].split(",")]

    def _market_of(self, query: Mapping[str, str], now_ns: int) -> str:
        if "market" not in query:
            raise Refused(400, MISSING)
        return self._symbol(query["market"], now_ns)

    @staticmethod
    def _count(query: Mapping[str, str], default: int, most: int) -> int:
        try:
            count = int(query.get("count") or default)
        except ValueError:
            raise Refused(400, MISMATCH) from None
        if not 1 <= count <= most:
            raise Refused(400, INVALID)
        return count

    def _markets(self, query: Mapping[str, str], now_ns: int) -> Iterable[str]:
        details = query.get("is_details", query.get("isDetails", "false")).lower()
        if details not in ("true", "false"):
            raise Refused(400, MISMATCH)
        for listing in self.world.listings:
            if self.listed(listing.symbol, now_ns):
                row: dict[str, object] = {
                    "market": listing.symbol,
                    "korean_name": listing.korean,
                    "english_name": listing.english,
                }
                if details == "true":
                    caution = {name: name in listing.cautions for name in CAUTIONS}
                    row["market_event"] = {"warning": listing.warning, "caution": caution}
                yield json.dumps(row, ensure_ascii=False, separators=(",", ":"))

    def _candles(self, unit: str, rest: Sequence[str], query: Mapping[str, str], now_ns: int) -> Iterable[str]:
        names = {"seconds": "1s", "days": "1d", "weeks": "1w", "months": "1M", "years": "1y"}
        if rest:
            if not rest[0].isdecimal():
                raise Refused(400, MISMATCH)
            if int(rest[0]) not in UNITS:
                raise Refused(400, INVALID)
        frame = timeframe(names.get(unit) or f"{int(rest[0])}m")
        symbol = self._market_of(query, now_ns)
        until_ns = _moment(query["to"]) if query.get("to") else now_ns + 1
        count = self._count(query, 1, 200)
        converting = query.get("converting_price_unit")
        if converting not in (None, "", "KRW") and unit == "days":
            raise Refused(400, INVALID)
        bars = self.world.candles(symbol, frame, until_ns, now_ns)
        bar = next(bars, None)
        while bar is not None and count and (unit != "seconds" or bar.open_ns >= now_ns - _SECONDS_KEPT_NS):
            before = next(bars, None) if count > 1 or unit == "days" else None
            extra = ""
            match unit:
                case "minutes":
                    extra = f',"unit":{int(rest[0])}'
                case "days":
                    extra = self._day_extra(symbol, bar, before.close if before else bar.open, bool(converting), now_ns)
                case "weeks" | "months" | "years":
                    extra = f',"first_day_of_period":"{_iso(bar.open_ns)[:10]}"'
            yield self._candle_row(symbol, bar, extra, unit)
            bar, count = before, count - 1

    def _candle_row(self, symbol: str, bar: Bar, extra: str, unit: str) -> str:
        listing = self.world.listing(symbol)
        prices = [plain(price, listing.price_decimals) for price in bar[1:5]]
        if unit == "seconds":
            prices = [price if "." in price else price + ".0" for price in prices]
        volume = plain(bar.lots, listing.size_decimals)
        return (
            f'{{"market":"{symbol}","candle_date_time_utc":"{_iso(bar.open_ns)}",'
            f'"candle_date_time_kst":"{_iso(bar.open_ns, 32400)}","opening_price":{prices[0]},"high_price":{prices[1]},'
            f'"low_price":{prices[2]},"trade_price":{prices[3]},"timestamp":{bar.last_ms},'
            f'"candle_acc_trade_price":{real(bar.value)},"candle_acc_trade_volume":{volume}{extra}}}'
        )

    def _day_extra(self, symbol: str, bar: Bar, before: int, converting: bool, now_ns: int) -> str:
        listing = self.world.listing(symbol)
        _word, change, rate = _move(bar.close, before)
        places = listing.price_decimals
        extra = (
            f',"prev_closing_price":{plain(before, places)},"change_price":{plain(change, places)},'
            f'"change_rate":{real(rate)}'
        )
        if converting:
            converted = "null"
            if listing.quote != "KRW":
                other = self.world.listing(f"KRW-{listing.quote}")
                last = self.world.last_trade(other.symbol, min(now_ns, bar.last_ms * MS))
                if last is not None:
                    rate_krw = last.price / 10**other.price_decimals
                    converted = real(round(bar.close / 10**places * rate_krw, 8))
            extra += f',"converted_trade_price":{converted}'
        return extra

    def _ticks(self, query: Mapping[str, str], now_ns: int) -> Iterable[str]:
        symbol = self._market_of(query, now_ns)
        count = self._count(query, 1, 500)
        day = now_ns // MS // DAY_MS
        if query.get("days_ago"):
            if not query["days_ago"].lstrip("-").isdecimal():
                raise Refused(400, MISMATCH)
            if not 1 <= int(query["days_ago"]) <= 7:
                raise Refused(400, INVALID)
            day -= int(query["days_ago"])
        until_ns = min(now_ns + 1, (day + 1) * DAY_MS * MS)
        if query.get("to"):
            time = re.fullmatch(r"([01]\d|2[0-3]):?([0-5]\d):?([0-5]\d)", query["to"])
            if time is None:
                raise Refused(400, INVALID)
            second = int(time[1]) * 3600 + int(time[2]) * 60 + int(time[3])
            until_ns = min(until_ns, (day * 86400 + second) * 10**9)
        cursor = 0
        if query.get("cursor"):
            if not query["cursor"].isdecimal():
                raise Refused(400, MISMATCH)
            cursor = int(query["cursor"])
        table = self.world.days(symbol, day)
        row = day - table.first
        before = int(table.close[row - 1]) if row > 0 else int(table.open[max(row, 0)])
        listing = self.world.listing(symbol)
        rows: list[str] = []
        for one in self._before(symbol, until_ns, cursor):
            if one.ms < day * DAY_MS or len(rows) == count:
                break
            moment = _utc(one.ms // 1000)
            rows.append(
                f'{{"market":"{symbol}","trade_date_utc":"{moment:%Y-%m-%d}","trade_time_utc":"{moment:%H:%M:%S}",'
                f'"timestamp":{one.ms},"trade_price":{plain(one.price, listing.price_decimals)},'
                f'"trade_volume":{plain(one.lots, listing.size_decimals)},'
                f'"prev_closing_price":{plain(before, listing.price_decimals)},'
                f'"change_price":{plain(one.price - before, listing.price_decimals)},'
                f'"ask_bid":"{"BID" if one.buy else "ASK"}","sequential_id":{one.id}}}'
            )
        return rows

    def _before(self, symbol: str, until_ns: int, cursor: int) -> Iterable[Print]:
        """Trades before a time and, where there is a cursor, before the trade with that id; the newest first."""
        if not cursor:
            return self.world.trades_before(symbol, until_ns)
        stamp_ms = cursor // 10_000
        newest = self.world.trades_before(symbol, min(until_ns, (stamp_ms + ID_SHIFT_MS + 1) * MS))
        for one in newest:
            if one.id == cursor:
                return newest  # the generator stands just before it
            if one.ms < stamp_ms:
                break
        # An id nobody has: everything up to its time.
        return self.world.trades_before(symbol, min(until_ns, stamp_ms * MS))

    def _all_tickers(self, query: Mapping[str, str], now_ns: int) -> Iterable[str]:
        if "quote_currencies" not in query:
            raise Refused(400, MISSING)
        quotes = {quote.strip().upper() for quote in query["quote_currencies"].split(",")}
        if not quotes <= {"KRW", "BTC", "USDT"}:
            raise Refused(400, INVALID)
        symbols = [listing.symbol for listing in self.world.listings if listing.quote in quotes]
        return (self.ticker_row(symbol, now_ns) for symbol in symbols if self.listed(symbol, now_ns))

    def ticker_row(self, symbol: str, now_ns: int) -> str:
        """One object of `/ticker`."""
        listing = self.world.listing(symbol)
        s = self.world.summary(symbol, now_ns)
        if s is None:
            raise Refused(404, NOT_FOUND)
        word, change, rate = _move(s.last.price, s.previous_close)
        traded = _utc(s.last.ms // 1000)
        kst = traded.astimezone(_KST)
        fields: dict[str, str] = {
            "market": f'"{symbol}"',
            "trade_date": f'"{traded:%Y%m%d}"',
            "trade_time": f'"{traded:%H%M%S}"',
            "trade_date_kst": f'"{kst:%Y%m%d}"',
            "trade_time_kst": f'"{kst:%H%M%S}"',
            "trade_timestamp": str(s.last.ms),
            **{name: plain(price, listing.price_decimals) for name, price in _prices(s)},
            "change": f'"{word}"',
            "change_price": plain(abs(change), listing.price_decimals),
            "change_rate": real(abs(rate)),
            "signed_change_price": plain(change, listing.price_decimals),
            "signed_change_rate": real(rate),
            "trade_volume": plain(s.last.lots, listing.size_decimals),
            "acc_trade_price": real(s.value),
            "acc_trade_price_24h": real(s.value_24h),
            "acc_trade_volume": plain(s.lots, listing.size_decimals),
            "acc_trade_volume_24h": plain(s.lots_24h, listing.size_decimals),
            "highest_52_week_price": plain(s.high_52w, listing.price_decimals),
            "highest_52_week_date": f'"{_date(s.high_52w_day)}"',
            "lowest_52_week_price": plain(s.low_52w, listing.price_decimals),
            "lowest_52_week_date": f'"{_date(s.low_52w_day)}"',
            "timestamp": str(now_ns // MS),
        }
        return "{" + ",".join([f'"{name}":{text}' for name, text in fields.items()]) + "}"

    def _books(self, query: Mapping[str, str], now_ns: int) -> Iterable[str]:
        symbols = self._markets_of(query, now_ns)
        count = query.get("count") or "30"
        if not count.lstrip("-").isdecimal():
            raise Refused(400, MISMATCH)
        wanted = int(count) if 1 <= int(count) <= 30 else 30
        level = query.get("level") or "0"
        try:
            float(level)
        except ValueError:
            raise Refused(400, MISMATCH) from None
        for symbol in symbols:
            listing = self.world.listing(symbol)
            group = group_size(listing, self._reference(symbol, now_ns), level)
            if group is not None:
                depth = self.world.book(symbol, now_ns, wanted, group)
                yield _book_row(listing, depth, wanted, level)

    def _reference(self, symbol: str, now_ns: int) -> int:
        """The price that decides which levels are supported: yesterday's close, so that they do not flicker."""
        table = self.world.days(symbol, now_ns // MS // DAY_MS)
        return int(table.close[max(0, now_ns // MS // DAY_MS - table.first - 1)])

    def _book_instruments(self, query: Mapping[str, str], now_ns: int) -> Iterable[str]:
        for symbol in self._markets_of(query, now_ns):
            listing = self.world.listing(symbol)
            reference = self._reference(symbol, now_ns)
            row = {
                "market": symbol,
                "quote_currency": listing.quote,
                "tick_size": plain(listing.grid.step(reference), listing.price_decimals),
                "supported_levels": supported_levels(listing, reference),
            }
            yield json.dumps(row, separators=(",", ":"))

    def _book_levels(self, query: Mapping[str, str], now_ns: int) -> Iterable[str]:
        for symbol in self._markets_of(query, now_ns):
            listing = self.world.listing(symbol)
            levels = ",".join(supported_levels(listing, self._reference(symbol, now_ns)))
            yield f'{{"market":"{symbol}","supported_levels":[{levels}]}}'

    # ---------------------------------------------------------------- frames

    def ticker_frame(self, symbol: str, now_ns: int, style: Style, stream_type: StreamType) -> bytes | None:
        """A ticker frame; None before the first trade. A delisted symbol says so."""
        listing = self.world.listing(symbol)
        s = self.world.summary(symbol, now_ns)
        if s is None:
            return None
        word, change, rate = _move(s.last.price, s.previous_close)
        traded = _utc(s.last.ms // 1000)
        delisted = symbol in self.delisted
        price, size = style.price, style.size
        return style.pack(
            (
                ("type", "ty", '"ticker"'),
                ("code", "cd", f'"{symbol}"'),
                ("opening_price", "op", price(s.open, listing)),
                ("high_price", "hp", price(s.high, listing)),
                ("low_price", "lp", price(s.low, listing)),
                ("trade_price", "tp", price(s.last.price, listing)),
                ("prev_closing_price", "pcp", price(s.previous_close, listing)),
                ("acc_trade_price", "atp", repr(s.value)),
                ("change", "c", f'"{word}"'),
                ("change_price", "cp", price(abs(change), listing)),
                ("signed_change_price", "scp", price(change, listing)),
                ("change_rate", "cr", repr(abs(rate))),
                ("signed_change_rate", "scr", repr(rate)),
                ("ask_bid", "ab", '"BID"' if s.last.buy else '"ASK"'),
                ("trade_volume", "tv", size(s.last.lots, listing)),
                ("acc_trade_volume", "atv", size(s.lots, listing)),
                ("trade_date", "tdt", f'"{traded:%Y%m%d}"'),
                ("trade_time", "ttm", f'"{traded:%H%M%S}"'),
                ("trade_timestamp", "ttms", str(s.last.ms)),
                ("acc_ask_volume", "aav", size(s.sell_lots, listing)),
                ("acc_bid_volume", "abv", size(s.buy_lots, listing)),
                ("highest_52_week_price", "h52wp", price(s.high_52w, listing)),
                ("highest_52_week_date", "h52wdt", f'"{_date(s.high_52w_day)}"'),
                ("lowest_52_week_price", "l52wp", price(s.low_52w, listing)),
                ("lowest_52_week_date", "l52wdt", f'"{_date(s.low_52w_day)}"'),
                ("market_state", "ms", '"DELISTED"' if delisted else '"ACTIVE"'),
                ("is_trading_suspended", "its", "false"),
                ("delisting_date", "dd", f'"{_date(now_ns // MS // DAY_MS)}"' if delisted else "null"),
                ("market_warning", "mw", '"CAUTION"' if listing.warning else '"NONE"'),
                ("timestamp", "tms", str(now_ns // MS)),
                ("acc_trade_price_24h", "atp24h", repr(s.value_24h)),
                ("acc_trade_volume_24h", "atv24h", size(s.lots_24h, listing)),
                ("stream_type", "st", f'"{stream_type}"'),
            )
        )

    def trade_frame(self, symbol: str, one: Print, now_ns: int, style: Style, stream_type: StreamType) -> bytes:
        """A trade frame."""
        listing = self.world.listing(symbol)
        day = one.ms // DAY_MS
        table = self.world.days(symbol, day)
        before = int(table.close[max(0, day - table.first - 1)])
        word, change, _rate = _move(one.price, before)
        traded = _utc(one.ms // 1000)
        best = self.world.book(symbol, one.ms * MS, 1)
        (bid, bid_lots), (ask, ask_lots) = best.bids[0], best.asks[0]
        return style.pack(
            (
                ("type", "ty", '"trade"'),
                ("code", "cd", f'"{symbol}"'),
                ("timestamp", "tms", str(now_ns // MS)),
                ("trade_date", "td", f'"{traded:%Y-%m-%d}"'),
                ("trade_time", "ttm", f'"{traded:%H:%M:%S}"'),
                ("trade_timestamp", "ttms", str(one.ms)),
                ("trade_price", "tp", style.price(one.price, listing)),
                ("trade_volume", "tv", style.size(one.lots, listing)),
                ("ask_bid", "ab", '"BID"' if one.buy else '"ASK"'),
                ("prev_closing_price", "pcp", style.price(before, listing)),
                ("change", "c", f'"{word}"'),
                ("change_price", "cp", style.price(abs(change), listing)),
                ("sequential_id", "sid", str(one.id)),
                ("best_ask_price", "bap", plain(ask, listing.price_decimals)),
                ("best_ask_size", "bas", plain(ask_lots, listing.size_decimals)),
                ("best_bid_price", "bbp", plain(bid, listing.price_decimals)),
                ("best_bid_size", "bbs", plain(bid_lots, listing.size_decimals)),
                ("stream_type", "st", f'"{stream_type}"'),
            )
        )

    def book_frame(
        self, symbol: str, depth: Depth, units: int, level: str, style: Style, stream_type: StreamType
    ) -> bytes:
        """An order book frame of so many units, zero-padded where the book is thinner."""
        listing = self.world.listing(symbol)
        names = ("ap", "bp", "as", "bs") if style.simple else ("ask_price", "bid_price", "ask_size", "bid_size")
        a, b, c, d = names
        texts = []
        for i in range(units):
            ask, ask_lots = depth.asks[i] if i < len(depth.asks) else (0, 0)
            bid, bid_lots = depth.bids[i] if i < len(depth.bids) else (0, 0)
            texts.append(
                f'{{"{a}":{style.price(ask, listing)},"{b}":{style.price(bid, listing)},'
                f'"{c}":{style.size(ask_lots, listing)},"{d}":{style.size(bid_lots, listing)}}}'
            )
        return style.pack(
            (
                ("type", "ty", '"orderbook"'),
                ("code", "cd", f'"{symbol}"'),
                ("timestamp", "tms", str(depth.ms)),
                ("total_ask_size", "tas", style.size(sum(lots for _p, lots in depth.asks[:units]), listing)),
                ("total_bid_size", "tbs", style.size(sum(lots for _p, lots in depth.bids[:units]), listing)),
                ("orderbook_units", "obu", "[" + ",".join(texts) + "]"),
                ("stream_type", "st", f'"{stream_type}"'),
                ("level", "lv", level),
            )
        )

    def candle_frame(self, symbol: str, kind: str, bar: Bar, style: Style, stream_type: StreamType) -> bytes:
        """A candle frame; `kind` is the type asked for, such as `candle.1m`."""
        listing = self.world.listing(symbol)
        opened, high, low, close = (style.price(price, listing) for price in bar[1:5])
        return style.pack(
            (
                ("type", "ty", f'"{kind}"'),
                ("code", "cd", f'"{symbol}"'),
                ("candle_date_time_utc", "cdttmu", f'"{_iso(bar.open_ns)}"'),
                ("candle_date_time_kst", "cdttmk", f'"{_iso(bar.open_ns, 32400)}"'),
                ("opening_price", "op", opened),
                ("high_price", "hp", high),
                ("low_price", "lp", low),
                ("trade_price", "tp", close),
                ("candle_acc_trade_volume", "catv", style.size(bar.lots, listing)),
                ("candle_acc_trade_price", "catp", repr(bar.value)),
                ("timestamp", "tms", str(bar.last_ms)),
                ("stream_type", "st", f'"{stream_type}"'),
            )
        )

    def level_of(self, symbol: str, level: str, now_ns: int) -> int | None:
        """The group size of a requested level, None where it is not supported."""
        return group_size(self.world.listing(symbol), self._reference(symbol, now_ns), level)


def _prices(s: Summary) -> tuple[tuple[str, int], ...]:
    return (
        ("opening_price", s.open),
        ("high_price", s.high),
        ("low_price", s.low),
        ("trade_price", s.last.price),
        ("prev_closing_price", s.previous_close),
    )


def _moment(text: str) -> int:
    """`to` as nanoseconds UTC: ISO 8601 with or without an offset (then it is UTC)."""
    if re.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?", text) is None:
        raise Refused(400, INVALID)
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise Refused(400, INVALID) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return int(moment.timestamp()) * 10**9 + moment.microsecond * 1000


def supported_levels(listing: Listing, price: int) -> list[str]:
    """The group sizes the order book can be asked for, as the venue writes them; "0" is no grouping."""
    levels = ["0"]
    if listing.quote == "KRW":
        level = listing.grid.step(price) * 10
        while level <= price and len(levels) < 6:
            levels.append(plain(level, listing.price_decimals))
            level *= 10
    return levels


def group_size(listing: Listing, price: int, level: str) -> int | None:
    """A requested level as an integer price, None where the instrument does not support it."""
    number = float(level)
    if number == 0:
        return 0 if listing.quote == "KRW" or level in ("0", "0.0") else None
    size = round(number * 10**listing.price_decimals)
    known = {round(float(text) * 10**listing.price_decimals) for text in supported_levels(listing, price)}
    return size if size in known else None


def _book_row(listing: Listing, depth: Depth, count: int, level: str) -> str:
    p, s = listing.price_decimals, listing.size_decimals
    texts = []
    for i in range(count):
        ask, ask_lots = depth.asks[i] if i < len(depth.asks) else (0, 0)
        bid, bid_lots = depth.bids[i] if i < len(depth.bids) else (0, 0)
        texts.append(
            f'{{"bid_price":{plain(bid, p)},"bid_size":{plain(bid_lots, s)},'
            f'"ask_price":{plain(ask, p)},"ask_size":{plain(ask_lots, s)}}}'
        )
    asks, bids = (plain(sum(lots for _p, lots in side[:count]), s) for side in (depth.asks, depth.bids))
    return (
        f'{{"market":"{listing.symbol}","timestamp":{depth.ms},"total_ask_size":{asks},"total_bid_size":{bids},'
        f'"orderbook_units":[{",".join(texts)}],"level":{level}}}'
    )


# ---------------------------------------------------------------- WebSocket requests


class Want(NamedTuple):
    """One subscribed thing."""

    kind: str  # ticker, trade, orderbook, candle.1m, ...
    code: str
    units: int = 30
    level: str = "0"
    snapshot: bool = True
    realtime: bool = True

    @property
    def timeframe(self) -> Timeframe:
        """Of a candle stream."""
        return timeframe(CANDLE_TYPES[self.kind])


class StreamError(Exception):
    """A request that the venue answers with an error object, closing the stream."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.message = message


class StreamRequest(NamedTuple):
    """A request message: either subscriptions that replace all earlier ones, or a question for them."""

    ticket: str
    wants: list[Want] | None  # None: LIST_SUBSCRIPTIONS
    types: list[dict[str, object]]  # as listed back
    style: Style | None  # None: not said


def read_request(text: str) -> StreamRequest:
    """A client's message. Raises `StreamError` for what the venue would not take."""
    wrong = StreamError("WRONG_FORMAT", "Format 이 맞지 않습니다.")
    try:
        message = json.loads(text)
    except ValueError:
        raise wrong from None
    if not isinstance(message, list) or not message or not all(isinstance(part, dict) for part in message):
        raise wrong
    ticket = next((part["ticket"] for part in message if "ticket" in part), None)
    if not isinstance(ticket, str) or not ticket:
        raise StreamError("NO_TICKET", "티켓이 존재하지 않거나, 유효하지 않습니다.")
    style = None
    for part in message:
        if "format" in part:
            if part["format"] not in STYLES:
                raise wrong
            style = STYLES[part["format"]]
    parts = [part for part in message if not part.keys() & {"ticket", "format"}]
    if any(part.get("method") == "LIST_SUBSCRIPTIONS" for part in parts):
        return StreamRequest(ticket, None, [], style)
    if not parts:
        raise StreamError("NO_TYPE", "타입이 존재하지 않습니다.")
    wants: list[Want] = []
    types: list[dict[str, object]] = []
    for part in parts:
        kind = part.get("type")
        if kind is None:
            raise StreamError("NO_TYPE", "타입이 존재하지 않습니다.")
        if kind in ("myOrder", "myAsset", "announcement", "indicator", "indicator_signal"):
            raise StreamError("INVALID_AUTH", "인증 정보가 올바르지 않습니다.")
        if kind not in ("ticker", "trade", "orderbook") and kind not in CANDLE_TYPES:
            raise StreamError("INVALID_PARAM", f"{kind} 은 지원하지 않는 타입입니다.")
        codes = part.get("codes")
        if not codes:
            raise StreamError("NO_CODES", "코드가 존재하지 않습니다.")
        if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
            raise wrong
        only_snapshot = bool(part.get("is_only_snapshot", part.get("isOnlySnapshot", False)))
        only_realtime = bool(part.get("is_only_realtime", part.get("isOnlyRealtime", False)))
        level = part.get("level", 0)
        if isinstance(level, bool) or not isinstance(level, int | float | str):
            raise StreamError("INVALID_PARAM", "level 값이 올바르지 않습니다.")
        try:
            number = float(level)
        except ValueError:
            raise StreamError("INVALID_PARAM", "level 값이 올바르지 않습니다.") from None
        level_text = str(int(number)) if number == int(number) else real(number)
        listed: dict[str, object] = {"type": kind, "codes": codes}
        if kind == "orderbook":
            listed["level"] = int(number) if number == int(number) else number
        types.append(listed)
        for code in codes:
            symbol, _, count = code.partition(".") if kind == "orderbook" else (code, "", "")
            units = int(count) if count in ("1", "5", "15", "30") else 30
            wants.append(
                Want(
                    kind,
                    symbol,
                    units,
                    level_text,
                    only_snapshot or not only_realtime,
                    only_realtime or not only_snapshot,
                )
            )
    return StreamRequest(ticket, wants, types, style)


def list_frame(ticket: str, types: Sequence[Mapping[str, object]], style: Style) -> bytes:
    """The answer to LIST_SUBSCRIPTIONS."""
    short = {"type": "ty", "codes": "cds", "level": "lv"}
    rows = [{short[k] if style.simple else k: v for k, v in row.items()} for row in types]
    return style.pack(
        (
            ("method", "mthd", '"LIST_SUBSCRIPTIONS"'),
            ("result", "rslt", json.dumps(rows, separators=(",", ":"))),
            ("ticket", "tckt", json.dumps(ticket)),
        )
    )
