"""Yahoo Finance's public data, sans I/O: an unofficial source, without key, contract or service level.

Sources: the client projects yfinance, yahoo-finance2 and yahooquery and the answers they recorded; frames of the
stream recorded in 2025 and 2026. Samples: tests/data/yahoo. Nothing here is documented by Yahoo.

How it differs. Markets close. There are no single trades and no order books, so `kinds` has tickers and candles only.
A symbol's numbers arrive sparse: the stream leaves out what did not change, and (proto3) whatever is zero. So the venue
remembers, symbol by symbol, what was said last; any answer about a symbol, from the stream or REST, adds to it. Parsing
therefore teaches the venue, which is its only state: nothing else in here depends on what came before.

What a candle's time is. Days, weeks and months begin at the exchange's midnight, intraday bars with its session, so
`open_ns` lies on the exchange's grid, not on that of UTC. Yahoo stamps a day with its session's open, files of its
clients with midnight: midnight needs no knowledge of hours that differ from day to day. The last row of an open market
is stamped with its last trade; it is put where its bar begins, and is never `closed`.

What a price is. The number as printed: adjusted for splits, not for dividends, London's in pence (currency `GBp`).
REST prints float32 widened to float64; the stream's float32 become their shortest decimal. A row with a null has no
candle, and neither has one whose close lies outside of its range.

What is polite. Two calls a second at most, one symbol a call; after a refusal a minute's rest, doubled to half an hour.
A refusal (429, 999, a block page) may mean "too often" or "I do not like this client"; one honest client, no disguise.
"""

from __future__ import annotations

import binascii
import datetime as dt
import json
import math
import re
import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import cache, partial
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import numpy as np
from msgspec import Struct

from watchhamster.core.actions import Action
from watchhamster.core.instruments import Headline, InstrumentInfo, PriceSteps, instrument_of
from watchhamster.core.market import Book, Candle, Event, Origin, Ticker, Trade
from watchhamster.core.ports import (
    BadFrame,
    FeedPolicy,
    Kind,
    Page,
    Query,
    Quota,
    RateLimited,
    Rejected,
    Request,
    Response,
    Subscription,
    Unavailable,
    UsageError,
    WatchHamsterError,
)
from watchhamster.core.secret import Secret
from watchhamster.core.sessions import Calendar, Hours, Market, Segment, Session, SessionGrid, holding
from watchhamster.core.text import Text
from watchhamster.core.timeframes import SECOND_NS, Timeframe, timeframe
from watchhamster.venues.calendars import calendar_of

VENUE: Final = "yahoo"
SYMBOLS_A_FRAME: Final = 500
QUOTES_A_CALL: Final = 50

_MS_NS: Final = 1_000_000
_HOUR_NS: Final = 3600 * SECOND_NS
_DAY_NS: Final = 24 * _HOUR_NS
_DAY: Final = dt.timedelta(days=1)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_FIRST_MS: Final = 1_230_768_000_000  # the stream's times lie between 2009 and 2100
_LAST_MS: Final = 4_102_444_800_000
_SETTLED_NS: Final = 60 * SECOND_NS  # a minute's volume comes late
_AUCTION_NS: Final = _HOUR_NS  # and a day's close after its auction
_REFUSED_S: Final = 60.0
_REFUSED_MAX_S: Final = 1800.0
_NO_PASS_S: Final = 900.0  # crumbs are not asked for in a loop: what refuses them does so for days
_NO_PASS_MAX_S: Final = 6 * 3600.0
_CHART_S: Final = (
    10.0  # how long answers stay good: Yahoo's own words (`cache-control`), and asking sooner buys nothing
)
_QUOTE_S: Final = 1.0
_TRENDING_S: Final = 300.0
_SEARCH_S: Final = 600.0
_HALTED: Final = frozenset(("HALTED", "HALT", "SUSPENDED"))
_SYMBOLS_MAX: Final = 10_000
_SECONDS: Final = (-5_000_000_000, 4_102_444_800)  # 1811 to 2100: what a chart's times may be
_INTRADAY_S_MAX: Final = 1000 * 86_400  # hourly bars go back two years
_FOREVER_NS: Final = 1 << 62

CAUTION: Final = Text(
    "Data come from unofficial Yahoo Finance endpoints. They may be delayed, wrong, or stop at any time. For personal "
    "use only; do not resell, redistribute or publish; check Yahoo's terms yourself. Not investment advice. "
    "WatchHamster is not connected with Yahoo."
)


class _Interval(NamedTuple):
    name: str  # Yahoo's
    page_days: int  # asked for at once
    kept_days: int | None  # how far back it is served; None: from the first trade


# Yahoo's 5d is left out: its bars begin wherever the request does. Folded from days they begin where all others do.
_INTERVALS: Final = {
    "1m": _Interval("1m", 7, 29),  # 8 a request, 30 back
    "2m": _Interval("2m", 30, 59),
    "5m": _Interval("5m", 30, 59),
    "15m": _Interval("15m", 58, 59),
    "30m": _Interval("30m", 58, 59),  # hourly bars were answered for a time; then the frame is said to be wrong
    "1h": _Interval("60m", 365, 729),
    "90m": _Interval("90m", 58, 59),
    "1d": _Interval("1d", 20 * 365, None),
    "1w": _Interval("1wk", 100 * 365, None),
    "1M": _Interval("1mo", 200 * 365, None),
    "3M": _Interval("3mo", 200 * 365, None),
}
_BY_GRANULARITY: Final = {interval.name: name for name, interval in _INTERVALS.items()} | {"1h": "1h"}


class _Exchange(NamedTuple):
    market: str  # a code of core.sessions.MARKETS
    currency: str
    delay_s: int = 0  # how late its data are, where they commonly are


_US: Final = _Exchange("XNYS", "USD")
_KRX: Final = _Exchange("XKRX", "KRW", 1200)
_EXCHANGES: Final[Mapping[str, _Exchange]] = {
    **dict.fromkeys(("NMS", "NGM", "NCM", "NAS", "NYQ", "PCX", "ASE", "BTS", "SNP", "DJI", "NIM", "OPR"), _US),
    **dict.fromkeys(("KSC", "KOE"), _KRX),
    "LSE": _Exchange("XLON", "GBp", 900),
    "JPX": _Exchange("XTKS", "JPY", 1200),
    "HKG": _Exchange("XHKG", "HKD", 900),
    "GER": _Exchange("XETR", "EUR", 900),
    "CCY": _Exchange("FX", ""),
    "CCC": _Exchange("24/7", ""),
    **dict.fromkeys(["CME", "CBT", "NYM", "CMX", "NYB"], _Exchange("CME", "USD", 600)),
}
_BY_SUFFIX: Final = {"KS": "KSC", "KQ": "KOE", "L": "LSE", "T": "JPX", "HK": "HKG", "DE": "GER"}
_BY_INDEX: Final = {"^KS11": "KSC", "^KS200": "KSC", "^KQ11": "KOE", "^N225": "JPX", "^HSI": "HKG", "^FTSE": "LSE"}
_SYMBOL: Final = re.compile(r"[A-Za-z0-9^][A-Za-z0-9.^=&_-]{0,31}")
_PAIR: Final = re.compile(r"([A-Z0-9]{1,12})-(USD|EUR|KRW|GBP|JPY|CAD|AUD|INR|CNY|USDT|BTC)")
_CURRENCIES: Final = re.compile(r"([A-Z]{3})?([A-Z]{3})=X")
NO_CURRENCY: Final = "XXX"  # ISO 4217's own
_MINOR: Final = {"GBp": ("GBP", 100), "ZAc": ("ZAR", 100), "ILA": ("ILS", 100), "KWF": ("KWD", 1000)}


def major_unit(currency: str) -> tuple[str, int]:
    """The currency a quotation is in, and how many of its units make one: `GBp` -> (`GBP`, 100)."""
    return _MINOR.get(currency, (currency, 1))


def exchange_of(symbol: str) -> str:
    """Yahoo's code of the exchange a symbol's spelling tells of; empty where it tells none."""
    if symbol in _BY_INDEX:
        return _BY_INDEX[symbol]
    if symbol.endswith("=X"):
        return "CCY"
    if symbol.endswith("=F"):
        return "CME"
    if _PAIR.fullmatch(symbol):
        return "CCC"
    _, dot, suffix = symbol.rpartition(".")
    return _BY_SUFFIX.get(suffix, "") if dot else "NMS"


# ---------------------------------------------------------------- what is given out


class Quote(Struct, frozen=True):
    """A snapshot of an instrument: its ticker, and what Yahoo says of it besides."""

    ticker: Ticker
    name: str
    currency: str  # `XXX` where Yahoo names none
    exchange: str  # Yahoo's code: NMS, KSC
    kind: str  # EQUITY, ETF, INDEX, CURRENCY, CRYPTOCURRENCY, FUTURE, MUTUALFUND, OPTION
    extended_price: float | None = None  # of pre or post market
    extended_ns: int | None = None
    delay_s: int | None = None  # how late the data are, where known


class Chart(Struct, frozen=True):
    """An answer of the chart, read whole."""

    quote: Quote | None  # None for what has no price any more
    candles: list[Candle]  # oldest first
    adjusted: list[float | None]  # the candles' adjusted closes; None where Yahoo gives none (below a day)
    actions: list[Action]
    rejected: list[tuple[int, str]]  # rows that are no candles (index, reason); nulls are not among them


class Imported(Struct, frozen=True):
    """What a recorded chart answer holds. `extras`: open_ns, adjusted close, dividend, split, distributed gain."""

    candles: list[Candle]
    rejected: list[tuple[int, str]]
    extras: list[tuple[int, float | None, float | None, float | None, float | None]]
    actions: list[Action]


# ---------------------------------------------------------------- what REST answers


class _Raw(Struct):
    raw: float | None = None


_Number: TypeAlias = "float | _Raw | None"


class _Error(Struct):
    code: str = ""
    description: str | None = None


class _Period(Struct):
    start: int
    end: int


class _CurrentPeriod(Struct):
    pre: _Period | None = None
    regular: _Period | None = None
    post: _Period | None = None


class _Meta(Struct):
    symbol: str
    currency: str | None = None
    exchangeName: str | None = None
    exchangeTimezoneName: str | None = None
    instrumentType: str | None = None
    firstTradeDate: int | None = None
    regularMarketTime: int | None = None
    regularMarketPrice: float | None = None
    regularMarketDayHigh: float | None = None
    regularMarketDayLow: float | None = None
    regularMarketVolume: float | None = None
    fulldayPrice: float | None = None
    chartPreviousClose: float | None = None
    previousClose: float | None = None
    longName: str | None = None
    shortName: str | None = None
    priceHint: int | None = None
    currentTradingPeriod: _CurrentPeriod | None = None
    tradingPeriods: Any = None
    dataGranularity: str | None = None
    range: str | None = None


class _Columns(Struct):
    open: list[float | None] | None = None
    high: list[float | None] | None = None
    low: list[float | None] | None = None
    close: list[float | None] | None = None
    volume: list[float | None] | None = None


class _Adjusted(Struct):
    adjclose: list[float | None] | None = None


class _Indicators(Struct):
    quote: list[_Columns] = []
    adjclose: list[_Adjusted] = []


class _Paid(Struct):
    amount: float
    date: int
    currency: str | None = None


class _Split(Struct):
    date: int
    numerator: float
    denominator: float


class _Events(Struct):
    dividends: dict[str, _Paid] = {}
    capitalGains: dict[str, _Paid] = {}
    splits: dict[str, _Split] = {}


class _Result(Struct):
    meta: _Meta
    indicators: _Indicators
    timestamp: list[int] | None = None
    events: _Events | None = None


class _ChartAnswer(Struct):
    result: list[_Result] | None = None
    error: _Error | None = None


class _ChartBody(Struct):
    chart: _ChartAnswer


class _QuoteRow(Struct):
    symbol: str
    quoteType: str = ""
    shortName: str | None = None
    longName: str | None = None
    currency: str | None = None
    exchange: str | None = None
    exchangeTimezoneName: str | None = None
    marketState: str | None = None
    exchangeDataDelayedBy: _Number = None
    priceHint: _Number = None
    regularMarketPrice: _Number = None
    regularMarketTime: _Number = None
    regularMarketChange: _Number = None
    regularMarketChangePercent: _Number = None
    regularMarketOpen: _Number = None
    regularMarketDayHigh: _Number = None
    regularMarketDayLow: _Number = None
    regularMarketVolume: _Number = None
    regularMarketPreviousClose: _Number = None
    preMarketPrice: _Number = None
    preMarketTime: _Number = None
    postMarketPrice: _Number = None
    postMarketTime: _Number = None


class _QuoteAnswer(Struct):
    result: list[_QuoteRow] | None = None


class _QuoteBody(Struct):
    quoteResponse: _QuoteAnswer


class _Hit(Struct):
    symbol: str | None = None  # private companies have none
    shortname: str | None = None
    longname: str | None = None
    quoteType: str | None = None
    exchange: str | None = None


class _Story(Struct):
    uuid: str
    title: str
    link: str
    providerPublishTime: int
    publisher: str = ""
    relatedTickers: list[str] = []


class _SearchBody(Struct):
    quotes: list[_Hit] = []
    news: list[_Story] = []


class _Trending(Struct):
    quotes: list[_Hit] = []


class _TrendingAnswer(Struct):
    result: list[_Trending] | None = None


class _TrendingBody(Struct):
    finance: _TrendingAnswer


_chart_body: Final = msgspec.json.Decoder(_ChartBody).decode
_quote_body: Final = msgspec.json.Decoder(_QuoteBody).decode
_search_body: Final = msgspec.json.Decoder(_SearchBody).decode
_trending_body: Final = msgspec.json.Decoder(_TrendingBody).decode
_any_body: Final = msgspec.json.Decoder(dict[str, Any]).decode

_T = TypeVar("_T")


# ---------------------------------------------------------------- what the stream carries


class _Envelope(Struct):
    type: str
    message: str | None = None


_envelope: Final = msgspec.json.Decoder(_Envelope).decode

# The fields of `PricingData`: number -> name and how it is written (t text, f float32, d float64, z zigzag, n varint).
_FIELDS: Final[Mapping[int, tuple[str, str]]] = {
    1: ("id", "t"),
    2: ("price", "f"),
    3: ("time", "z"),  # milliseconds
    4: ("currency", "t"),
    5: ("exchange", "t"),
    6: ("quote_type", "n"),
    7: ("market_hours", "n"),
    8: ("change_percent", "f"),
    9: ("day_volume", "z"),
    10: ("day_high", "f"),
    11: ("day_low", "f"),
    12: ("change", "f"),
    13: ("short_name", "t"),
    14: ("expire_date", "z"),
    15: ("open_price", "f"),
    16: ("previous_close", "f"),
    17: ("strike_price", "f"),
    18: ("underlying_symbol", "t"),
    19: ("open_interest", "z"),
    20: ("options_type", "n"),
    21: ("mini_option", "z"),
    22: ("last_size", "z"),
    23: ("bid", "f"),
    24: ("bid_size", "z"),
    25: ("ask", "f"),
    26: ("ask_size", "z"),
    27: ("price_hint", "z"),
    28: ("vol_24hr", "z"),
    29: ("vol_all_currencies", "z"),
    30: ("from_currency", "t"),
    31: ("last_market", "t"),
    32: ("circulating_supply", "d"),
    33: ("market_cap", "d"),
}
_WIRE: Final = {"t": 2, "f": 5, "d": 1, "z": 0, "n": 0}
_HEARTBEAT: Final = 7
_HOURS: Final = {0: "PRE", 1: "REGULAR", 2: "POST"}  # Yahoo's 3 is "extended", and so is any other

PricingData: TypeAlias = "dict[str, str | float | int]"


def read_pricing(data: bytes) -> tuple[PricingData, list[int]]:
    """The fields a protobuf `PricingData` message has, by name, and the numbers of those nobody knows.

    A field that is not there was not sent, or is zero: proto3 does not tell. float32 values are their shortest decimal.
    Raises `ValueError` for bytes that are no such message, or a known field written in another way.
    """
    found: PricingData = {}
    unknown: list[int] = []
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("a field has the number 0")
        value: int | bytes
        if wire == 0:
            value, at = _varint(data, at)
        elif wire in (1, 5, 2):
            length = 8 if wire == 1 else 4
            if wire == 2:
                length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
            if at > len(data):
                raise ValueError(f"it ends within field {number}")
        else:
            raise ValueError(f"field {number} has wire type {wire}")
        known = _FIELDS.get(number)
        if known is None:
            unknown.append(number)
            continue
        name, how = known
        if _WIRE[how] != wire:
            raise ValueError(f"{name} has wire type {wire}")
        found[name] = _value(name, how, value)
    return found, unknown


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise ValueError("it ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                raise ValueError("a number has more than 64 bits")
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number has more than 64 bits")


def _value(name: str, how: str, value: int | bytes) -> str | float | int:
    if isinstance(value, int):
        return (value >> 1) ^ -(value & 1) if how == "z" else value
    if how == "t":
        return value.decode()
    (number,) = struct.unpack("<f" if how == "f" else "<d", value)
    if not math.isfinite(number):
        raise ValueError(f"{name} is {number}")
    return float(str(np.float32(number))) if how == "f" else float(number)


# ---------------------------------------------------------------- what is remembered of a symbol


class _Known:
    """What is known of a symbol just now."""

    def __init__(self, symbol: str, instrument: str) -> None:
        self.symbol = symbol
        self.instrument = instrument
        self.exchange = exchange_of(symbol)
        self.zone: str | None = None
        self.currency: str | None = None
        self.hint: int | None = None
        self.delay_s: int | None = None
        self.calendar: Calendar | None = None
        self.first_ns: int | None = None  # its first trade ever
        self.halted_ns: int | None = None  # its last trade before a halt, while that lasts
        # The newest ticker's.
        self.time_ns = -1
        self.price: float | None = None
        self.volume: float | None = None
        self.reference: Decimal | None = None  # what `change` counts from
        self.regular: float | None = None  # the last price of regular trading, whatever the day
        self.new_day()

    def new_day(self) -> None:
        """Forget what holds for a day only."""
        self.open: float | None = None
        self.high: float | None = None
        self.low: float | None = None
        self.previous_close: float | None = None
        self.volume = None
        self.reference = None
        self.seeded = False  # REST has not told yet what the stream leaves out


class _Pass:
    """What opens the guarded endpoints, a cookie and the crumb that is good with it only; and how it stands with them.

    Both live in the memory and nowhere else. A pass that has worked is asked for again at once when it works no more;
    after any other refusal the chart goes on alone for a while, each time for twice as long.
    """

    def __init__(self) -> None:
        self.cookie: Secret | None = None
        self.crumb: Secret | None = None
        self.is_asked = False  # somebody wants one
        self.has_worked = False
        self.refusal: Text | None = None
        self._refusals = 0  # in a row
        self._rest_s: float | None = None  # from when somebody asks next
        self._until_ns = 0

    @property
    def admits(self) -> bool:
        """Whether calls go by it just now."""
        return self.crumb is not None and self.refusal is None

    def rests(self, now_ns: int) -> bool:
        """Whether nothing is to be asked yet."""
        self.is_asked = True
        if self._rest_s is not None:
            self._until_ns, self._rest_s = now_ns + int(self._rest_s * SECOND_NS), None
        return now_ns < self._until_ns

    def given(self, crumb: Secret) -> None:
        """The pass is whole."""
        self.crumb, self.refusal, self.has_worked = crumb, None, False

    def worked(self) -> None:
        """Yahoo took it."""
        self.has_worked, self._refusals = True, 0

    def refused(self, problem: WatchHamsterError) -> None:
        """Yahoo did not take it, or would not give one."""
        again = problem.code == "unauthorized" and self.has_worked
        if problem.code == "unauthorized":
            self.cookie = self.crumb = None
        self.has_worked = False
        self.refusal = problem.text
        if again:
            return
        if problem.code in ("dropped", "timed_out", "no_answer"):  # of which Yahoo knows nothing
            self._rest_s = _REFUSED_S
            return
        told_s = problem.retry_after_s if isinstance(problem, RateLimited) else None
        self._rest_s = max(told_s or 0.0, min(_NO_PASS_S * 2**self._refusals, _NO_PASS_MAX_S))
        self._refusals = min(self._refusals + 1, 10)


class Yahoo:
    """Yahoo Finance (`core.ports.Venue`). One for all; it remembers what symbols said last (see above).

    Beyond `core.ports.Venue`, `Searched`, `Scheduled` and `Guarded`: `unseeded`, `quote`, `chart`, `actions`, and the
    guarded `quotes`.
    """

    name = VENUE
    url = "https://query2.finance.yahoo.com"
    kinds: tuple[Kind, ...] = ("ticker", "candle")
    quotas: Mapping[str, Quota] = {"finance": Quota(2), "guarded": Quota(3, 12.0)}  # a cookie, a crumb and its quotes
    policy = FeedPolicy(
        dial_timeout_s=10.0,
        probe_after_s=60.0,  # sparse by nature: a minute without a frame is nothing
        redial_after_s=30.0,
        ping_s=15.0,  # and the subscription again: Yahoo forgets
        pong_timeout_s=10.0,
        poll_s=20.0,  # an answer is cached for ten seconds, and asks are one a symbol
        audit_s=120.0,  # of symbols whose silence may be a halt
        backoff_first_s=1.0,
        backoff_max_s=60.0,
        bars=Quota(5, 50.0),  # so each minute of five, as it settles; of more the minutes are had together
        stale_after_s=180.0,
        snapshot_timeout_s=120.0,
        connects=Quota(1, 1.0),
        dials=(Quota(2, 10.0), Quota(10, 300.0)),
        messages=(Quota(5), Quota(60, 60.0)),
    )
    timeframes = tuple(_INTERVALS)
    caution: Text | None = CAUTION

    def __init__(self) -> None:
        self.unread: Counter[str] = Counter()  # fields and kinds of frames nobody knows -> how often they came
        self._hours: Mapping[str, Mapping[dt.date, Hours]] = {}
        self._known: dict[str, _Known] = {}
        self._calendars: dict[str, Calendar] = {}
        self._wanted: tuple[str, ...] = ()
        self._ever: dict[str, None] = {}
        self._refusals: Counter[str] = Counter()  # in a row, by group
        self._pass = _Pass()

    # ------------------------------------------------------------ sessions

    @property
    def tickers_a_call(self) -> int:
        """So many symbols go into one call of `tickers`."""
        return QUOTES_A_CALL if self._pass.admits else 1

    def known(self) -> tuple[InstrumentInfo, ...]:
        """The best known instruments, with Korean names."""
        return known_instruments()

    def calendar(self, symbol: str) -> Calendar:
        """The calendar of a symbol's market: exact where REST has told of it, else by the spelling of the symbol."""
        return self._calendar(self._of(symbol))

    def keep_hours(self, hours: Mapping[str, Mapping[dt.date, Hours]]) -> None:
        """Take the user's word on trading hours from now on; what Yahoo told of other days stays known."""
        self._hours = hours
        self._calendars = {
            key: calendar.overridden(hours.get(calendar.market.code, {})) for key, calendar in self._calendars.items()
        }
        for known in self._known.values():
            known.calendar = None

    def session(self, symbol: str, now_ns: int) -> Session:
        """What the symbol's market is doing, until when, when it opens next, and whether the symbol is halted."""
        session = self.calendar(symbol).session(now_ns)
        halted_ns = self._of(symbol).halted_ns
        return session if halted_ns is None else msgspec.structs.replace(session, halted_ns=halted_ns)

    def grid(self, symbol: str) -> SessionGrid:
        """Bars by the market's sessions and local days; final once the data's delay, and an auction, are over."""
        known = self._of(symbol)
        delay_ns = self._delay_ns(known)
        return SessionGrid(self._calendar(known), delay_ns + _SETTLED_NS, delay_ns + _AUCTION_NS)

    def described(self, symbol: str) -> InstrumentInfo:
        """What can be said of an instrument by its symbol alone; its names, where it is one of the best known."""
        known = {info.symbol: info for info in known_instruments()}
        return known.get(symbol) or _info(_checked(symbol), symbol, "", None, None)

    def served_since_ns(self, timeframe: Timeframe, now_ns: int) -> int | None:
        """Fine bars go back some days only."""
        days = _interval(timeframe).kept_days
        return None if days is None else now_ns - days * _DAY_NS

    def unseeded(self) -> list[str]:
        """Symbols that are streamed and of which REST has not told yet what the stream leaves out."""
        return [symbol for symbol in self._wanted if not self._of(symbol).seeded]

    # ------------------------------------------------------------ the stream

    def stream_url(self, base_url: str) -> str:
        """The version-2 stream: Yahoo's has a host of its own, any other is below the base URL."""
        parts = urlsplit(base_url)
        if (parts.hostname or "").endswith(".yahoo.com"):
            return "wss://streamer.finance.yahoo.com/?version=2"
        return re.sub(r"^http", "ws", base_url.rstrip("/")) + "/?version=2"

    def subscribe(self, wants: Sequence[Subscription], ticket: str) -> list[str]:
        """Frames that end what was wanted before and ask for what is wanted now, at most 500 symbols each.

        Nothing is acknowledged, unknown symbols are met with silence, and so are closed markets. Candles are of 1 m,
        made of the tickers by whoever reads them. Raises `UsageError` (`not_offered`, `bad_timeframe`).
        """
        for want in wants:
            if want.kind not in self.kinds:
                raise _not_offered(want.kind)
            if want.kind == "candle" and timeframe(want.timeframe or "").name != "1m":
                raise _wrong_timeframe(want.timeframe or "", ("1m",))
        symbols = tuple(dict.fromkeys(_checked(want.symbol) for want in wants))
        self._wanted = symbols
        self._ever.update(dict.fromkeys(symbols))
        while len(self._ever) > _SYMBOLS_MAX:
            del self._ever[next(iter(self._ever))]
        if not symbols:
            return []
        gone = sorted(set(self._ever) - set(symbols))
        return [*_messages("unsubscribe", gone), *_messages("subscribe", symbols)]

    def keepalive(self) -> str | None:
        """The subscription again, as Yahoo's own pages send it every 15 s."""
        return next(_messages("subscribe", self._wanted), None)

    def decode(self, frame: bytes | str, received_ns: int | None) -> list[Event]:
        """The ticker of a frame, completed by what was known.

        `volume_24h` is the day's volume, for cryptocurrencies that of 24 hours. `state` is PRE, REGULAR, POST or
        EXTENDED. A change that was not sent is counted from the price it counted from before; where there is none, it
        is the zero that proto3 leaves out. Raises `BadFrame`.
        """
        try:
            data = frame.encode() if isinstance(frame, str) else bytes(frame)
            text: bytes | str = data.strip()
            if data.lstrip()[:1] == b"{":
                envelope = _envelope(data)
                if envelope.type != "pricing":
                    self._note(f"type {envelope.type[:40]}")
                    return []
                if envelope.message is None:
                    raise ValueError("it has no message")
                text = envelope.message
            fields, unknown = read_pricing(binascii.a2b_base64(text, strict_mode=True))
            if not fields:
                raise ValueError("it is empty")
            for number in unknown:
                self._note(f"field {number}")
            return self._merge(fields, received_ns)
        except (ValueError, RecursionError) as problem:
            raise BadFrame(_reason(problem), frame) from None

    def _note(self, what: str) -> None:
        if what in self.unread or len(self.unread) < 200:
            self.unread[what] += 1

    def _merge(self, fields: PricingData, received_ns: int | None) -> list[Event]:
        """What a frame says, over what was known."""
        get = fields.get
        if get("quote_type") == _HEARTBEAT:
            return []
        symbol = get("id")
        if not isinstance(symbol, str) or _SYMBOL.fullmatch(symbol) is None:
            raise ValueError(f"{symbol!r} is not a symbol")
        known = self._known.get(symbol) or _Known(symbol, instrument_of(VENUE, symbol))
        price, time_ns = get("price", known.price), known.time_ns
        if "time" in fields:
            milliseconds = int(fields["time"])
            if not _FIRST_MS <= milliseconds < _LAST_MS:
                raise ValueError(f"its time is {milliseconds}")
            time_ns = milliseconds * _MS_NS
        if price is None or time_ns < 0:
            raise ValueError("it has no price or no time, and none is known")
        assert not isinstance(price, str)
        prices: dict[str, float | None] = {}
        for name in ("price", "day_high", "day_low", "open_price", "previous_close"):
            number = price if name == "price" else get(name)
            if (number is not None and not 0 <= float(number) < 1e15) or (name == "price" and number == 0):
                raise ValueError(f"its {name} is {number}")
            prices[name] = float(number) if number else None
        price = float(price)
        count = get("vol_24hr") or get("day_volume", get("vol_24hr"))
        volume = None if count is None else float(count)
        if volume is not None and not 0 <= volume < 1e21:
            volume = None  # -1 was seen where none is known
        late = time_ns < known.time_ns or (received_ns is not None and time_ns > received_ns + _DAY_NS)
        self._known.setdefault(symbol, known)  # only now is it known to be one
        if len(self._known) > _SYMBOLS_MAX:
            del self._known[next(iter(self._known))]
        calendar = self._calendar(known)
        if late and calendar.day(time_ns) != calendar.day(known.time_ns):
            known = _Known(symbol, known.instrument)  # what holds for another day is nothing to add to
        elif not late:
            if isinstance(exchange := get("exchange"), str) and not known.seeded and exchange != known.exchange:
                known.exchange, known.calendar = exchange, None
                calendar = self._calendar(known)
            if isinstance(currency := get("currency"), str):
                known.currency = currency
            # A smaller fall of the count is a correction.
            began_anew = volume is not None and known.volume is not None and 2 * volume < known.volume
            if began_anew or (known.time_ns >= 0 and calendar.day(time_ns) > calendar.day(known.time_ns)):
                known.new_day()
        hours = int(get("market_hours", 0))
        change, rate = self._change(fields, known, price)
        high = prices["day_high"] or known.high
        low = prices["day_low"] or known.low
        if hours == 1:
            high = None if high is None else max(high, price)
            low = None if low is None else min(low, price)
        ticker = Ticker(
            known.instrument,
            time_ns,
            received_ns,
            price,
            prices["open_price"] or known.open,
            high,
            low,
            prices["previous_close"] or known.previous_close,
            change,
            rate,
            known.volume if volume is None else volume,
            None,
            time_ns,
            _HOURS.get(hours, "EXTENDED"),
            None if hours == 1 else known.regular,
        )
        if late:
            return [ticker]
        if time_ns > known.time_ns:
            known.halted_ns = None  # it trades
        known.time_ns, known.price, known.volume = time_ns, price, ticker.volume_24h
        known.open, known.high, known.low = ticker.open, ticker.high, ticker.low
        known.previous_close = ticker.previous_close
        known.regular = price if hours == 1 else known.regular
        known.reference = Decimal(repr(price)) - Decimal(repr(change))
        return [ticker]

    def _change(self, fields: PricingData, known: _Known, price: float) -> tuple[float, float]:
        """The change and its rate as a fraction."""
        sent, percent = fields.get("change"), fields.get("change_percent")
        if sent is not None or percent is not None:
            rate = Decimal(repr(float(percent or 0.0))) / 100
            return float(sent or 0.0), float(rate)
        reference = known.reference
        if reference is None and known.previous_close is not None:
            reference = Decimal(repr(known.previous_close))
        if not reference:
            return 0.0, 0.0
        change = Decimal(repr(price)) - reference
        return float(change), float(change / reference)

    # ------------------------------------------------------------ REST, as every venue

    def markets(self) -> Query[list[InstrumentInfo]]:
        """What is well known and what is trending: Yahoo lists no whole market. `search` and `info` find the rest."""

        def read(response: Response) -> list[InstrumentInfo]:
            trending = self._read_trending(response)
            found = {info.symbol: info for info in (*known_instruments(), *trending)}
            for info in known_instruments():  # these have better names
                found[info.symbol] = info
            return list(found.values())

        return self._query(Request("/v1/finance/trending/US", {"count": "20"}, "finance", life_s=_TRENDING_S), read)

    def tickers(self, symbols: Sequence[str]) -> Query[list[Ticker]]:
        """Summaries of at most `tickers_a_call` symbols: by `quotes` while a pass admits, else of one by the chart.

        A symbol Yahoo does not know fails the call of one; from that of several it is left out.
        """
        if len(symbols) > self.tickers_a_call or not symbols:
            raise UsageError(
                "too_many_symbols",
                Text("Yahoo is asked for at most {count} symbols at a time.", {"count": self.tickers_a_call}),
                Text("Ask for them one after the other."),
            )
        if self._pass.admits:
            query = self.quotes(symbols)

            def found(response: Response) -> list[Ticker]:
                tickers = [quote.ticker for quote in query.parse(response)]
                if not tickers and len(symbols) == 1:
                    raise _refused("Not Found", "", 404, symbols[0])
                return tickers

            return Query(query.request, found)

        def read(response: Response) -> list[Ticker]:
            return [self._read_quote(symbols[0], response).ticker]

        return self._query(self._day_request(symbols[0]), read)

    def books(self, symbols: Sequence[str]) -> Query[list[Book]]:
        """Yahoo has none. Raises `UsageError` (`not_offered`)."""
        raise _not_offered("book")

    def trades(self, symbol: str, until_ns: int | None = None, cursor: str | None = None) -> Query[Page[Trade]]:
        """Yahoo has none. Raises `UsageError` (`not_offered`)."""
        raise _not_offered("trade")

    def candles(self, symbol: str, timeframe: Timeframe, since_ns: int, until_ns: int) -> Query[Page[Candle]]:
        """Candles of regular trading that open in `[since_ns, until_ns)`: the newest page of them.

        A candle is closed once its bar, or its session, is over, the data's delay included; known is all up to the
        first bar that is not. Of a time Yahoo no longer serves (see `served_since_ns`) the page knows nothing.
        """
        interval = _interval(timeframe)
        start_ns = max(since_ns, until_ns - interval.page_days * _DAY_NS)
        request = self._chart_request(symbol, timeframe, start_ns, until_ns)

        def read(response: Response) -> Page[Candle]:
            try:
                result = _result(response, symbol)
            except Rejected as refusal:
                if refusal.code == "too_far_back":
                    return Page([], until_ns, until_ns)
                if refusal.code != "no_bars":
                    raise
                return Page([], start_ns, until_ns, str(start_ns) if start_ns > since_ns else None)
            known = self._learn(result, symbol, response)
            now_ns = _date_ns(response)
            found = self._rows(known, result, timeframe, until_ns if now_ns is None else now_ns, "backfill", response)
            rows = [candle for candle, _ in found.rows if start_ns <= candle.open_ns < until_ns]
            known_until_ns = max(start_ns, min(until_ns, found.known_until_ns))
            actions = _actions(known, result, found)
            adjusted = {c.open_ns: a for c, a in found.rows if a is not None and c.closed}
            if start_ns > since_ns and not (known.first_ns is not None and start_ns <= known.first_ns):
                return Page(rows, start_ns, known_until_ns, str(start_ns), actions, adjusted)
            return Page(rows, since_ns, known_until_ns, None, actions, adjusted)

        return self._query(request, read)

    def remaining(self, response: Response) -> int | None:
        """None: Yahoo never says."""
        return None

    # ------------------------------------------------------------ REST, of Yahoo alone

    def info(self, symbol: str) -> Query[InstrumentInfo]:
        """One instrument, as the chart tells of it."""

        def read(response: Response) -> InstrumentInfo:
            quote = self._read_quote(symbol, response)
            return _info(symbol, quote.name, quote.exchange, quote.currency, self._of(symbol).hint)

        return self._query(self._day_request(symbol), read)

    def quote(self, symbol: str) -> Query[Quote]:
        """A snapshot by the chart, which needs no pass."""
        return self._query(self._day_request(symbol), partial(self._read_quote, symbol))

    def chart(
        self, symbol: str, timeframe: Timeframe, since_ns: int, until_ns: int, *, extended: bool = False
    ) -> Query[Chart]:
        """The chart of `[since_ns, until_ns)` with actions and adjusted closes, of pre and post market if `extended`.

        Raises `Rejected` (`too_far_back`) when the interval is not served for that time.
        """
        request = self._chart_request(symbol, timeframe, since_ns, until_ns, extended)

        def read(response: Response) -> Chart:
            try:
                result = _result(response, symbol)
            except Rejected as refusal:
                if refusal.code == "no_bars":
                    return Chart(None, [], [], [], [])
                raise
            known = self._learn(result, symbol, response)
            now_ns = _date_ns(response) or until_ns
            found = self._rows(known, result, timeframe, now_ns, "backfill", response, extended=extended)
            rows = [row for row in found.rows if since_ns <= row[0].open_ns < until_ns]
            quote = None
            if result.meta.regularMarketPrice is not None and result.meta.regularMarketTime is not None:
                quote = self._quote_of(known, result, response)
            actions = _actions(known, result, found)
            return Chart(quote, [c for c, _ in rows], [a for _, a in rows], actions, found.rejected)

        return self._query(request, read)

    def actions(self, symbol: str, since_ns: int, until_ns: int) -> Query[list[Action]]:
        """Dividends, distributed gains and splits of a time, oldest first.

        A split that is new here means that every stored price before it is of another scale: fetch them again.
        """
        query = self.chart(symbol, timeframe("1d"), since_ns, until_ns)
        return Query(query.request, lambda response: query.parse(response).actions)

    def search(self, text: str, count: int = 8) -> Query[list[InstrumentInfo]]:
        """Instruments by name or symbol, best first; Korean names of the best known ones are known here."""
        own = [info for info in known_instruments() if _matches(info, text)]
        korean = re.search("[가-힣]", text) is not None
        asked = own[0].symbol if korean and own else text  # Yahoo knows Latin names only
        params = {"q": asked, "quotesCount": str(count), "newsCount": "0", "enableFuzzyQuery": "false"}

        def read(response: Response) -> list[InstrumentInfo]:
            hits = _decoded(response, _search_body).quotes
            found = {info.symbol: info for info in own}
            for hit in hits:
                if hit.symbol is not None and _SYMBOL.fullmatch(hit.symbol) and hit.symbol not in found:
                    name = hit.longname or hit.shortname or hit.symbol
                    found[hit.symbol] = _info(hit.symbol, name, hit.exchange or "", None, None)
            return list(found.values())

        return self._query(Request("/v1/finance/search", params, "finance", life_s=_SEARCH_S), read)

    def trending(self, region: str = "US") -> Query[list[InstrumentInfo]]:
        """What people of a region look at just now; Yahoo gives symbols only."""
        if not re.fullmatch("[A-Z]{2}", region):
            raise UsageError("bad_region", Text("{region!r} is no region.", {"region": region}), Text("Such as US."))
        request = Request(f"/v1/finance/trending/{region}", {"count": "20"}, "finance", life_s=_TRENDING_S)
        return self._query(request, self._read_trending)

    def news(self, symbol: str, count: int = 10) -> Query[list[Headline]]:
        """Headlines about a symbol or a text, newest first."""
        params = {"q": symbol, "quotesCount": "0", "newsCount": str(count), "enableFuzzyQuery": "false"}

        def read(response: Response) -> list[Headline]:
            stories = _decoded(response, _search_body).news
            found = [
                Headline(
                    story.uuid,
                    story.title,
                    story.publisher,
                    story.link,
                    story.providerPublishTime * SECOND_NS,
                    tuple(instrument_of(VENUE, s) for s in story.relatedTickers if _SYMBOL.fullmatch(s)),
                )
                for story in stories
                if story.link.startswith(("https://", "http://"))
            ]
            return sorted(found, key=lambda headline: -headline.published_ns)

        return self._query(Request("/v1/finance/search", params, "finance", life_s=_SEARCH_S), read)

    # ------------------------------------------------------------ REST, with a pass

    @property
    def admitted(self) -> bool | None:
        """Whether several tickers are had in one call just now; None: nobody has asked for a pass yet."""
        return self._pass.admits if self._pass.is_asked else None

    @property
    def refusal(self) -> Text | None:
        """Why they are not."""
        return self._pass.refusal

    def admission(self, now_ns: int) -> Query[None] | None:
        """The cookie, then the crumb that is good with it: a pass for `quotes`. None: it is there, or has to wait."""
        given = self._pass
        if given.rests(now_ns):
            return None
        if given.crumb is not None:
            given.refusal = None  # refused for a time only: it may be tried again
            return None
        return self._cookie() if given.cookie is None else self._crumb(given.cookie)

    def turned_away(self, problem: WatchHamsterError) -> None:
        """No pass was given: the chart goes on alone, and a pass is asked for again after a while."""
        self._pass.refused(problem)

    def _cookie(self) -> Query[None]:
        """A page that is not there and yet sets the cookie `A3`."""

        def read(response: Response) -> None:
            match = re.search(r"\bA3=([^;,\s]{1,4096})", response.headers.get("set-cookie", ""))
            if match is None:
                if response.status >= 500:
                    raise _failure(response) or _no_data(response)
                raise _failure(response) or Unavailable(
                    "no_cookie", Text("Yahoo gave no cookie; block lists often keep its host out.")
                )
            self._pass.cookie = Secret(f"A3={match[1]}")

        return self._query(Request("/", {}, "guarded", host="fc.yahoo.com"), read)

    def _crumb(self, cookie: Secret) -> Query[None]:
        """A word that is good only with its cookie."""

        def read(response: Response) -> None:
            text = response.body.decode("utf-8", "replace")
            if response.status != 200 or not re.fullmatch(r"[^\s<{]{1,32}", text):
                raise _failure(response) or Unavailable("no_crumb", Text("Yahoo gave no crumb."))
            self._pass.given(Secret(text))

        return self._query(Request("/v1/test/getcrumb", {}, "guarded", secret_headers={"Cookie": cookie}), read)

    def quotes(self, symbols: Sequence[str]) -> Query[list[Quote]]:
        """Snapshots of up to 50 symbols, in their order; unknown ones are left out. Needs a pass (see `admission`)."""
        given = self._pass
        if given.cookie is None or given.crumb is None:
            raise UsageError(
                "no_pass", Text("Yahoo's quotes need a cookie and a crumb."), Text("`quote` asks for one symbol.")
            )
        request = Request(
            "/v7/finance/quote",
            {"symbols": ",".join(map(_checked, symbols)), "formatted": "false"},
            "guarded",
            secret_params={"crumb": given.crumb},
            secret_headers={"Cookie": given.cookie},
            life_s=_QUOTE_S,
        )

        def read(response: Response) -> list[Quote]:
            try:
                rows = _decoded(response, _quote_body).quoteResponse.result or []
            except (Unavailable, BadFrame, Rejected) as problem:
                if request.secret_params.get("crumb") == given.crumb:  # and no newer one
                    given.refused(problem)
                raise
            given.worked()
            found = {row.symbol: row for row in rows if row.symbol in symbols}
            quotes = (self._row_quote(found[symbol], response) for symbol in symbols if symbol in found)
            return [quote for quote in quotes if quote is not None]

        return self._query(request, read)

    # ------------------------------------------------------------ reading answers

    def _query(self, request: Request, read: Callable[[Response], _T]) -> Query[_T]:
        """A query whose refusals say how long to rest: Yahoo seldom does, so each rest is twice the one before."""

        def parse(response: Response) -> _T:
            try:
                answer = read(response)
            except RateLimited as refusal:
                if refusal.retry_after_s is None:
                    refusal.retry_after_s = min(_REFUSED_S * 2 ** self._refusals[request.group], _REFUSED_MAX_S)
                self._refusals[request.group] = min(self._refusals[request.group] + 1, 5)
                raise
            self._refusals[request.group] = 0
            return answer

        return Query(request, parse)

    def _of(self, symbol: str) -> _Known:
        known = self._known.get(symbol)
        if known is None:
            known = _Known(_checked(symbol), instrument_of(VENUE, symbol))
            if len(self._known) >= _SYMBOLS_MAX:
                del self._known[next(iter(self._known))]
            self._known[symbol] = known
        return known

    def _calendar(self, known: _Known) -> Calendar:
        if known.calendar is None:
            exchange = _EXCHANGES.get(known.exchange)
            key = known.exchange if exchange is not None else f"{known.exchange}/{known.zone or 'UTC'}"
            calendar = self._calendars.get(key)
            if calendar is None:
                if exchange is not None:
                    calendar = calendar_of(exchange.market, self._hours.get(exchange.market))
                else:  # a market without a table: what Yahoo tells is all there is to know
                    market = Market(known.exchange or "?", known.zone or "UTC", ((),) * 7)
                    calendar = Calendar(market, overrides=self._hours.get(known.exchange))
                self._calendars[key] = calendar
            own = self._hours.get(known.symbol)
            if own is not None:
                calendar = calendar.overridden({**self._hours.get(calendar.market.code, {}), **own})
            known.calendar = calendar
        return known.calendar

    def _delay_ns(self, known: _Known) -> int:
        delay_s = known.delay_s
        if delay_s is None:
            exchange = _EXCHANGES.get(known.exchange)
            delay_s = exchange.delay_s if exchange is not None else 900
        return delay_s * SECOND_NS

    def _day_request(self, symbol: str) -> Request:
        params = {"range": "1d", "interval": "1d", "includePrePost": "false"}
        return Request(f"/v8/finance/chart/{_checked(symbol)}", params, "finance", life_s=_CHART_S)

    def _chart_request(
        self, symbol: str, timeframe: Timeframe, since_ns: int, until_ns: int, extended: bool = False
    ) -> Request:
        interval = _interval(timeframe)
        if timeframe.approximate_ns > _DAY_NS:
            since_ns = timeframe.open_ns(since_ns) - _DAY_NS  # a bar that is cut would be a wrong one
        elif timeframe.approximate_ns == _DAY_NS:
            until_ns += _DAY_NS  # a day that has begun by then is stamped with its session's open
        params = {
            "interval": interval.name,
            "period1": str(since_ns // SECOND_NS),
            "period2": str(-(-until_ns // SECOND_NS)),
            "includePrePost": "true" if extended else "false",
            "events": "div,splits,capitalGains",
        }
        return Request(f"/v8/finance/chart/{_checked(symbol)}", params, "finance", life_s=_CHART_S)

    def _learn(self, result: _Result, symbol: str, response: Response) -> _Known:
        """Remember what an answer says of its symbol."""
        meta = result.meta
        if meta.symbol.upper() != symbol.upper():
            raise BadFrame(f"asked about {symbol}, it answered about {meta.symbol[:40]}", response.body)
        known = self._of(symbol)
        zone = _zone_name(meta.exchangeTimezoneName)
        exchange = meta.exchangeName or known.exchange
        if (exchange, zone) != (known.exchange, known.zone):
            known.exchange, known.zone, known.calendar = exchange, zone, None
        known.currency = meta.currency or known.currency
        known.hint = meta.priceHint if meta.priceHint is not None and 0 <= meta.priceHint <= 10 else known.hint
        if meta.firstTradeDate is not None:
            known.first_ns = meta.firstTradeDate * SECOND_NS
        calendar = self._calendar(known)
        current = meta.currentTradingPeriod
        if current is not None and current.regular is not None and current.regular.end > current.regular.start:
            calendar.tell(_segments(current), _date_ns(response))
        before: dict[dt.date, list[Segment]] = {}
        for segment in _periods(meta.tradingPeriods):
            before.setdefault(calendar.day(segment.since_ns), []).append(segment)
        for day, told in before.items():
            regular = tuple(segment for segment in told if segment.phase == "regular")
            if day < max(before) and regular and regular != calendar.regular(day):
                calendar.tell(told)  # of past days, too, its word is better than our tables
        return known

    def _read_quote(self, symbol: str, response: Response) -> Quote:
        result = _result(response, symbol)
        known = self._learn(result, symbol, response)
        return self._quote_of(known, result, response)

    def _quote_of(self, known: _Known, result: _Result, response: Response) -> Quote:
        meta = result.meta
        price, seconds = meta.regularMarketPrice, meta.regularMarketTime
        if price is None or seconds is None or not 0 < price < 1e15 or not _FIRST_MS <= seconds * 1000 < _LAST_MS:
            raise Rejected(
                "no_price",
                Text("Yahoo has no price of {symbol}.", {"symbol": known.symbol}),
                Text("It may have been delisted, or be too new."),
            )
        time_ns, now_ns = seconds * SECOND_NS, _date_ns(response)
        # Before the first bar of the window, which is yesterday only for a window of a day.
        previous = meta.previousClose or (meta.chartPreviousClose if meta.range == "1d" else None)
        opening = None
        columns = result.indicators.quote[0] if result.indicators.quote else _Columns()
        calendar = self._calendar(known)
        if meta.range == "1d" and result.timestamp and columns.open and columns.open[0]:
            same = calendar.day(result.timestamp[0] * SECOND_NS) == calendar.day(time_ns)
            opening = columns.open[0] if same else None
        ticker = _ticker(
            known.instrument,
            time_ns,
            price,
            opening,
            meta.regularMarketDayHigh,
            meta.regularMarketDayLow,
            previous,
            meta.regularMarketVolume,
            None if now_ns is None else calendar.state(now_ns).upper(),
        )
        if known.halted_ns is not None and time_ns <= known.halted_ns:  # of which the chart does not tell
            ticker = msgspec.structs.replace(ticker, state="HALTED")
        else:
            known.halted_ns = None
        self._seed(known, ticker)
        extended = meta.fulldayPrice if meta.fulldayPrice != price else None
        exchange = _EXCHANGES.get(known.exchange)
        return Quote(
            ticker,
            meta.longName or meta.shortName or known.symbol,
            meta.currency or NO_CURRENCY,
            known.exchange,
            meta.instrumentType or "",
            extended if extended is None or 0 < extended < 1e15 else None,
            None,
            known.delay_s if known.delay_s is not None else exchange.delay_s if exchange is not None else None,
        )

    def _row_quote(self, row: _QuoteRow, response: Response) -> Quote | None:
        price, seconds = _number(row.regularMarketPrice), _number(row.regularMarketTime)
        if price is None or seconds is None or not 0 < price < 1e15 or not _FIRST_MS <= seconds * 1000 < _LAST_MS:
            return None
        known = self._of(row.symbol)
        zone = _zone_name(row.exchangeTimezoneName) or known.zone
        if row.exchange and (row.exchange, zone) != (known.exchange, known.zone):
            known.exchange, known.zone, known.calendar = row.exchange, zone, None
        known.currency = row.currency or known.currency
        delayed = _number(row.exchangeDataDelayedBy)
        if delayed is not None and 0 <= delayed <= 1440:
            known.delay_s = int(delayed * 60)  # minutes
        ticker = _ticker(
            known.instrument,
            int(seconds) * SECOND_NS,
            price,
            _number(row.regularMarketOpen),
            _number(row.regularMarketDayHigh),
            _number(row.regularMarketDayLow),
            _number(row.regularMarketPreviousClose),
            _number(row.regularMarketVolume),
            row.marketState,
            _number(row.regularMarketChange),
        )
        known.halted_ns = ticker.event_ns if (row.marketState or "").upper() in _HALTED else None
        self._seed(known, ticker)
        extended, extended_s = _number(row.postMarketPrice), _number(row.postMarketTime)
        if (row.marketState or "").startswith("PRE") and row.preMarketPrice is not None:
            extended, extended_s = _number(row.preMarketPrice), _number(row.preMarketTime)
        usable = extended is not None and 0 < extended < 1e15
        return Quote(
            ticker,
            row.longName or row.shortName or row.symbol,
            row.currency or NO_CURRENCY,
            known.exchange,
            row.quoteType,
            extended if usable else None,
            int(extended_s) * SECOND_NS if usable and extended_s is not None else None,
            known.delay_s,
        )

    def _seed(self, known: _Known, ticker: Ticker) -> None:
        """What the stream will leave out. The stream's own, where newer, stays."""
        calendar = self._calendar(known)
        if known.regular is None or ticker.event_ns >= known.time_ns:
            known.regular = ticker.price  # REST's price is always one of regular trading
        day = calendar.day(ticker.event_ns)
        if known.time_ns >= 0 and (streamed := calendar.day(known.time_ns)) != day:
            if streamed > day:  # the stream is in a new day already, whose close before is this one's last price
                known.previous_close = ticker.price
                known.seeded = True
                return
            known.new_day()
        known.open = ticker.open or known.open
        known.high = max((x for x in (ticker.high, known.high) if x is not None), default=None)
        known.low = min((x for x in (ticker.low, known.low) if x is not None), default=None)
        known.previous_close = ticker.previous_close or known.previous_close
        if ticker.event_ns > known.time_ns:
            known.time_ns, known.price, known.reference = ticker.event_ns, ticker.price, None
            known.volume = ticker.volume_24h if ticker.volume_24h is not None else known.volume
        known.seeded = True

    def _read_trending(self, response: Response) -> list[InstrumentInfo]:
        results = _decoded(response, _trending_body).finance.result or []
        symbols = (hit.symbol for result in results for hit in result.quotes)
        return [_info(s, s, "", None, None) for s in dict.fromkeys(symbols) if s is not None and _SYMBOL.fullmatch(s)]

    # ------------------------------------------------------------ bars

    def _rows(
        self,
        known: _Known,
        result: _Result,
        frame: Timeframe,
        now_ns: int,
        origin: Origin,
        response: Response,
        *,
        extended: bool = False,
    ) -> _Found:
        """The candles of a chart answer, oldest first, with their adjusted closes."""
        meta, times = result.meta, result.timestamp
        told = _BY_GRANULARITY.get(meta.dataGranularity or "")
        if times and told is not None and told != frame.name:
            raise BadFrame(f"asked about {frame.name}, it answered with {told}", response.body)
        if times is None:
            times = []  # an empty window: no key, and sometimes columns of nothing
        columns = result.indicators.quote[0] if result.indicators.quote and times else _Columns()
        empty: list[float | None] = [None] * len(times)
        lists = [c if c is not None else empty for c in (columns.open, columns.high, columns.low, columns.close)]
        lists.append(columns.volume if columns.volume is not None else empty)
        adjusted = (result.indicators.adjclose[0].adjclose if result.indicators.adjclose and times else None) or empty
        if any(len(column) != len(times) for column in (*lists, adjusted)):
            raise BadFrame("its columns differ in length", response.body)
        if not all(map(_is_time, times)):
            raise BadFrame("a bar's time is absurd", response.body)
        if times and frame.approximate_ns < _DAY_NS and max(times) - min(times) > _INTRADAY_S_MAX:
            raise BadFrame("its bars span years", response.body)
        bars = _Bars(self._calendar(known), frame, _periods(meta.tradingPeriods), times, extended)
        now_ns -= self._delay_ns(known)
        found: dict[int, tuple[Candle, float | None]] = {}
        rejected: list[tuple[int, str]] = []
        for index, (time, o, h, lo, c, v, a) in enumerate(zip(times, *lists, adjusted, strict=True)):
            open_ns = bars.open_ns(time * SECOND_NS)
            if open_ns is None or o is None or h is None or lo is None or c is None:
                continue
            if bars.is_cut(time * SECOND_NS) and index < len(times) - 1:
                rejected.append((index, "it does not begin with a quarter"))
                continue
            values = _ranged(o, h, lo, c)
            if values is None:
                rejected.append((index, "open or close lie outside of low and high, or a price is none"))
                continue
            o, h, lo, c = values
            v = v if v is not None and 0 <= v < 1e21 else None
            before = found.get(open_ns)
            if before is not None:  # the live row beside its bar
                b = before[0]
                o, h, lo = b.open, max(b.high, h), min(b.low, lo)
                both = [x for x in (b.volume, v) if x is not None]
                # A week's live row is today's alone; a day's is the day once more.
                v = sum(both) if frame.approximate_ns > _DAY_NS and both else max(both, default=None)
            closed = bars.end_ns(open_ns) <= now_ns - bars.settles_ns
            candle = Candle(known.instrument, frame.name, open_ns, o, h, lo, c, v, None, closed, origin)
            found[open_ns] = (candle, a if a is not None and 0 < a < 1e15 else None)
        rows = [found[open_ns] for open_ns in sorted(found)]
        open_since_ns = next((candle.open_ns for candle, _ in rows if not candle.closed), _FOREVER_NS)
        return _Found(rows, min(bars.known_until_ns(now_ns), open_since_ns), rejected, bars)


class _Found(NamedTuple):
    rows: list[tuple[Candle, float | None]]
    known_until_ns: int
    rejected: list[tuple[int, str]]
    bars: _Bars


class _Bars:
    """Where the bars of a timeframe begin and end on a market: on its sessions' grid, or on its local days'."""

    def __init__(
        self, calendar: Calendar, frame: Timeframe, told: Sequence[Segment], times: Sequence[int], extended: bool
    ) -> None:
        self._calendar = calendar
        self._frame = frame
        self._extended = extended
        self.is_daily = frame.approximate_ns >= _DAY_NS
        self.settles_ns = _AUCTION_NS if self.is_daily else _SETTLED_NS
        self._segments: list[Segment] = []
        self._told = sorted(s for s in told if s.phase == "regular")
        if not self.is_daily and times:
            self._segments = calendar.between(min(times) * SECOND_NS - _DAY_NS, max(times) * SECOND_NS + _DAY_NS)
            if told and calendar.market.obeys_venue:
                # The answer's word on the days it speaks of, ours on the others and on what it leaves out.
                days = {(calendar.day(s.since_ns), s.phase) for s in told}
                ours = [
                    s
                    for s in self._segments
                    if (calendar.day(s.since_ns), s.phase) not in days
                    and not any(
                        s.since_ns < r.until_ns and r.since_ns < s.until_ns for r in _near(self._told, s.since_ns)
                    )
                ]
                self._segments = sorted([*ours, *told])

    def open_ns(self, at_ns: int) -> int | None:
        """Where the bar begins that a row's time lies in; None for rows that were not asked for."""
        if self.is_daily:
            return self._calendar.midnight_ns(self._first_day(self._day(at_ns)))
        segment = holding(self._segments, at_ns)
        if segment is None:
            return self._frame.open_ns(at_ns)
        if segment.phase != "regular" and not self._extended:
            # Where the answer's word on its session and ours differ, a row of either is one.
            return None if holding(self._told, at_ns) is None else self._frame.open_ns(at_ns)
        assert self._frame.ns is not None
        return segment.since_ns + (at_ns - segment.since_ns) // self._frame.ns * self._frame.ns

    def day_ns(self, at_ns: int) -> int:
        """Where the local day begins that a row is of."""
        return self._calendar.midnight_ns(self._day(at_ns))

    def _day(self, at_ns: int) -> dt.date:
        """The local day a row is of. Summer time has been seen to stamp one 22:00 or 23:00 of the evening before."""
        day = self._calendar.day(at_ns)
        early_ns = self._calendar.midnight_ns(day + _DAY) - at_ns
        is_trade = early_ns > 0 and holding(self._calendar.segments(day), at_ns) is not None
        return day + _DAY if early_ns in (_HOUR_NS, 2 * _HOUR_NS) and not is_trade else day

    def is_cut(self, at_ns: int) -> bool:
        """Whether a row of three months is of other months than a quarter's, as those of a request's own may be."""
        if self._frame.name != "3M":
            return False
        day = self._day(at_ns)
        return day.month != self._first_day(day).month

    def end_ns(self, open_ns: int) -> int:
        """When a bar is over: its length after, or with its session; a day with its last session."""
        if not self.is_daily:
            assert self._frame.ns is not None
            segment = holding(self._segments, open_ns)
            end_ns = open_ns + self._frame.ns
            return end_ns if segment is None else min(end_ns, segment.until_ns)
        first = self._first_day(self._calendar.day(open_ns))
        if self._frame.name == "1d" and (regular := self._calendar.regular(first)):
            return regular[-1].until_ns
        return self._calendar.midnight_ns(self._next_day(first))

    def known_until_ns(self, now_ns: int) -> int:
        """Up to when every bar is over that could open before."""
        now_ns -= self.settles_ns
        if self.is_daily:
            first = self._first_day(self._calendar.day(now_ns))
            begins_ns = self._calendar.midnight_ns(first)
            if self._frame.name == "1d" and not self._calendar.regular(first) and self._calendar.market.has_hours:
                return now_ns
            return now_ns if self.end_ns(begins_ns) <= now_ns else begins_ns
        around = holding(self._calendar.between(now_ns - _DAY_NS, now_ns + _DAY_NS), now_ns)
        assert self._frame.ns is not None
        if around is None or around.phase != "regular":
            # Between sessions no bar is open, unless nobody knows of sessions here.
            return now_ns if self._calendar.market.has_hours else self._frame.open_ns(now_ns)
        return around.since_ns + (now_ns - around.since_ns) // self._frame.ns * self._frame.ns

    def _first_day(self, day: dt.date) -> dt.date:
        match self._frame.name:
            case "1w":
                return day - day.weekday() * _DAY
            case "1M":
                return day.replace(day=1)
            case "3M":
                return day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
        return day

    def _next_day(self, first: dt.date) -> dt.date:
        match self._frame.name:
            case "1w":
                return first + 7 * _DAY
            case "1M":
                return (first + 31 * _DAY).replace(day=1)
            case "3M":
                return (first + 93 * _DAY).replace(day=1)
        return first + _DAY


def _is_time(seconds: int) -> bool:
    return _SECONDS[0] < seconds < _SECONDS[1]


def _near(segments: Sequence[Segment], at_ns: int) -> Sequence[Segment]:
    """The ordered segments around a moment: more than enough of them to touch another that begins there."""
    index = bisect_right(segments, at_ns, key=lambda segment: segment.since_ns)
    return segments[max(0, index - 3) : index + 3]


def _periods(told: Any) -> list[Segment]:
    """The segments of `tradingPeriods`: lists of regular periods, or those of each phase by name."""
    phases: tuple[Literal["pre", "regular", "post"], ...] = ("pre", "regular", "post")
    named = told if isinstance(told, dict) else {"regular": told}
    found: list[Segment] = []
    for phase in phases:
        rows = named.get(phase)
        for day in rows if isinstance(rows, list) else []:
            for period in day if isinstance(day, list) else [day]:
                try:
                    parsed = msgspec.convert(period, _Period)
                except msgspec.ValidationError:
                    continue  # a period that cannot be read is one that was not told
                if parsed.start < parsed.end and _is_time(parsed.start) and _is_time(parsed.end):
                    found.append(Segment(parsed.start * SECOND_NS, parsed.end * SECOND_NS, phase))
    return found


def _segments(current: _CurrentPeriod) -> list[Segment]:
    """Those of the current or next session."""
    return _periods({"pre": [current.pre], "regular": [current.regular], "post": [current.post]})


def _ranged(o: float, h: float, lo: float, c: float) -> tuple[float, float, float, float] | None:
    """A bar whose low and high hold its open and close; they may miss them by float32's noise, no more."""
    if not 0 < lo <= h < 1e15 or not 0 < o < 1e15 or not 0 < c < 1e15:
        return None
    highest, lowest = max(o, c, h), min(o, c, lo)
    if highest > h * (1 + 1e-6) or lowest < lo * (1 - 1e-6):
        return None
    return o, highest, lowest, c


def _actions(known: _Known, result: _Result, found: _Found) -> list[Action]:
    """Dividends, gains and splits, each at the beginning of the first day that trades without it."""
    events = result.events or _Events()
    actions: list[Action] = []
    kinds: tuple[tuple[Literal["dividend", "gain"], dict[str, _Paid]], ...] = (
        ("dividend", events.dividends),
        ("gain", events.capitalGains),
    )
    for kind, paid in kinds:
        for event in paid.values():
            if not _is_time(event.date) or not 0 < event.amount < 1e12:
                continue
            unit, count = major_unit(known.currency or "")
            factor = count if count > 1 and event.currency == unit else 1  # paid in pounds, quoted in pence
            at_ns = found.bars.day_ns(event.date * SECOND_NS)
            actions.append(Action(known.instrument, at_ns, kind, event.amount * factor))
    for split in events.splits.values():
        if _is_time(split.date) and 0 < split.numerator < 1e9 and 0 < split.denominator < 1e9:
            at_ns = found.bars.day_ns(split.date * SECOND_NS)
            actions.append(Action(known.instrument, at_ns, "split", split.numerator / split.denominator))
    return sorted(actions, key=lambda action: (action.at_ns, action.kind))


def _ticker(
    instrument: str,
    time_ns: int,
    price: float,
    opening: float | None,
    high: float | None,
    low: float | None,
    previous: float | None,
    volume: float | None,
    state: str | None,
    change: float | None = None,
) -> Ticker:
    def positive(value: float | None) -> float | None:
        return value if value is not None and 0 < value < 1e15 else None

    previous = positive(previous)
    if change is None and previous is not None:
        change = float(Decimal(repr(price)) - Decimal(repr(previous)))
    return Ticker(
        instrument,
        time_ns,
        None,
        price,
        positive(opening),
        positive(high),
        positive(low),
        previous,
        change,
        change / previous if change is not None and previous is not None else None,
        volume if volume is not None and 0 <= volume < 1e21 else None,
        None,
        time_ns,
        state,
    )


# ---------------------------------------------------------------- reading answers


def _result(response: Response, symbol: str) -> _Result:
    """The one result of a chart answer. Raises what `_failure` finds, or `BadFrame`."""
    if response.status == 200 and response.body.lstrip()[:1] == b"{":
        try:
            answer = _chart_body(response.body).chart
        except (ValueError, RecursionError) as problem:
            raise _failure(response, symbol) or BadFrame(_reason(problem), response.body) from None
        if answer.error is None and answer.result:
            return answer.result[0]
    raise _failure(response, symbol) or _no_data(response)


def _decoded(response: Response, decode: Callable[[bytes], _T]) -> _T:
    failure = _failure(response)
    if failure is not None:
        raise failure
    if response.status != 200 or response.body.lstrip()[:1] != b"{":
        raise _no_data(response)
    try:
        return decode(response.body)
    except (ValueError, RecursionError) as problem:
        raise BadFrame(_reason(problem), response.body) from None


def _failure(response: Response, asked: str = "") -> WatchHamsterError | None:
    """What Yahoo said in place of data, as an error; None where it said nothing that is known."""
    status, head = response.status, response.body[:4000].decode("utf-8", "replace")
    is_json = head.lstrip().startswith("{")
    if status in (418, 429, 999) or (
        not is_json and ("Too Many Requests" in head or "999 Unable to process" in head or "error 999" in head)
    ):
        return RateLimited(
            "banned" if status == 418 else "rate_limited",
            Text("Yahoo refused (rate limit or bot check; HTTP {status}).", {"status": status}),
            Text("It is asked again by itself after a rest. Asking more often makes it worse."),
            retry_after_s=_told_s(response),
            banned=status == 418,
        )
    location = response.headers.get("location", "")
    if re.search(
        r"\b(guce|consent)\.yahoo\.com|collectConsent|consent-form", location or (head if not is_json else "")
    ):
        return Unavailable(
            "consent_needed",
            Text("Yahoo wants its consent page answered first."),
            Text("It does so in some countries. Open finance.yahoo.com in a browser there; data may still stay away."),
        )
    if not is_json:
        return _refused("Unauthorized", "", status, asked) if status == 401 else None
    try:
        body = _any_body(response.body)
    except (ValueError, RecursionError):
        return None
    for value in body.values():
        error = value.get("error") if isinstance(value, dict) else None
        if isinstance(error, dict):
            return _refused(str(error.get("code", "")), str(error.get("description") or ""), status, asked)
    return None


def _refused(code: str, description: str, status: int, asked: str) -> WatchHamsterError:
    values: dict[str, object] = {"asked": asked or "that", "message": description or code, "status": status}
    if status in (401, 403) or code == "Unauthorized":
        return Unavailable(
            "unauthorized",
            Text("Yahoo refused cookie and crumb: {message}.", values),
            Text("The chart needs none and goes on."),
        )
    if "data not available for" in description or "must be within the last" in description:
        return Rejected(
            "too_far_back",
            Text("Yahoo no longer has bars so fine for that time: {message}", values),
            Text("Ask for a later time, or for longer bars."),
        )
    if "Data doesn't exist for" in description:
        return Rejected("no_bars", Text("Yahoo has no bars of {asked} in that time.", values))
    if code == "Not Found" or status == 404:
        return Rejected(
            "unknown_instrument",
            Text("Yahoo knows no {asked}, or no longer: {message}", values),
            Text("Look for it with `search`. Yahoo writes AAPL, 005930.KS, EURUSD=X, BTC-USD, ^GSPC."),
        )
    if status >= 500 or "internal" in code.lower():
        again = Text("It is tried again by itself.")
        return Unavailable("unavailable", Text("Yahoo gave no data: {message} (HTTP {status}).", values), again)
    return Rejected("refused", Text("Yahoo refused the request: {message} (HTTP {status}).", values))


def _no_data(response: Response) -> Unavailable:
    # An outage page, a proxy's, a login page, or nothing at all: not Yahoo's word on what was asked.
    return Unavailable(
        "unavailable",
        Text("Yahoo gave no data (HTTP {status}).", {"status": response.status}),
        Text("It is tried again by itself. If a browser shows a login page, log in to the network first."),
        status=response.status,
        sample=response.body[:200].decode("utf-8", "replace"),
    )


def _told_s(response: Response) -> float | None:
    """The `Retry-After` of a refusal, if it has one: seconds, or a date counted from the answer's own."""
    told = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", told):
        return float(told)
    until_ns, now_ns = _moment_ns(told), _date_ns(response)
    return None if until_ns is None or now_ns is None else max(0.0, (until_ns - now_ns) / SECOND_NS)


def _number(value: float | _Raw | None) -> float | None:
    """A number that may come wrapped."""
    return value.raw if isinstance(value, _Raw) else value


def _date_ns(response: Response) -> int | None:
    """The venue's time when it answered, to the second, if it says."""
    return _moment_ns(response.headers.get("date", ""))


def _moment_ns(text: str) -> int | None:
    """A date as HTTP writes it."""
    try:
        moment = parsedate_to_datetime(text)
        return int(moment.replace(tzinfo=moment.tzinfo or dt.UTC).timestamp()) * SECOND_NS
    except (ValueError, OverflowError):
        return None


def _zone_name(name: str | None) -> str | None:
    """A zone's name if there is such a zone."""
    try:
        return ZoneInfo(name).key if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _reason(problem: Exception) -> str:
    if isinstance(problem, RecursionError):
        return "it is nested too deeply"
    if isinstance(problem, UnicodeError):
        return "it is not UTF-8"
    if isinstance(problem, binascii.Error):
        return "it is not base64"
    return str(problem)


def _messages(verb: str, symbols: Sequence[str]) -> Iterator[str]:
    for start in range(0, len(symbols), SYMBOLS_A_FRAME):
        yield json.dumps({verb: list(symbols[start : start + SYMBOLS_A_FRAME])}, separators=(",", ":"))


def _checked(symbol: str) -> str:
    if _SYMBOL.fullmatch(symbol) is None:
        raise UsageError(
            "unknown_instrument",
            Text("{symbol!r} is not one of Yahoo's symbols.", {"symbol": symbol[:40]}),
            Text("Yahoo writes AAPL, 005930.KS, EURUSD=X, BTC-USD, ^GSPC."),
        )
    return symbol


def _interval(frame: Timeframe) -> _Interval:
    interval = _INTERVALS.get(frame.name)
    if interval is None:
        raise _wrong_timeframe(frame.name, _INTERVALS)
    return interval


def _wrong_timeframe(name: str, known: Iterable[str]) -> UsageError:
    return UsageError(
        "bad_timeframe",
        Text("Yahoo has no candles of {name!r} here.", {"name": name}),
        Text("It has {names}.", {"names": ", ".join(known)}),
    )


def _not_offered(kind: str) -> UsageError:
    return UsageError(
        "not_offered",
        Text("Yahoo has no {kind} data.", {"kind": kind}),
        Text("It has tickers and candles."),
    )


# ---------------------------------------------------------------- recorded answers


def parse_chart(body: bytes) -> Imported:
    """The candles of a recorded chart answer, which names its own symbol and interval, and its actions.

    They come out oldest first, closed, of origin `import`. A row that cannot be a candle, or that was still open when
    it was recorded, is rejected by its index with the reason; rows of nulls are no rows. Raises `BadFrame` when it is
    no chart, and `Rejected` or `Unavailable` when it is Yahoo's refusal.
    """
    response = Response(200, {}, body)
    result = _result(response, "")
    meta = result.meta
    name = _BY_GRANULARITY.get(meta.dataGranularity or "")
    if name is None:
        raise BadFrame(f"it does not say how long its bars are ({meta.dataGranularity!r})", body)
    if _SYMBOL.fullmatch(meta.symbol) is None:
        raise BadFrame(f"{meta.symbol[:40]!r} is not a symbol", body)
    venue = Yahoo()
    known = venue._learn(result, meta.symbol, response)
    calendar = venue._calendar(known)
    now_ns = _FOREVER_NS
    if (last := meta.regularMarketTime) is not None and _is_time(last):
        # When it was recorded is not told, but until when it knows trades, and which session came then.
        now_ns = last * SECOND_NS
        current = meta.currentTradingPeriod
        day = calendar.day(now_ns)
        regular = current.regular if current is not None else None
        if regular is not None and _is_time(regular.start) and calendar.day(regular.start * SECOND_NS) > day:
            now_ns = calendar.midnight_ns(day + _DAY)
        now_ns += venue._delay_ns(known) + max(_AUCTION_NS, _SETTLED_NS)
    found = venue._rows(known, result, timeframe(name), now_ns, "import", response)
    order = {time * SECOND_NS: index for index, time in enumerate(result.timestamp or [])}
    rejected = list(found.rejected)
    extras: dict[int, tuple[float | None, dict[str, float]]] = {}
    candles = []
    for candle, adjusted in found.rows:
        if candle.closed:
            candles.append(candle)
            extras[candle.open_ns] = (adjusted, {})
        else:
            rejected.append((order.get(candle.open_ns, len(order) - 1), "it was still open when this was recorded"))
    actions = _actions(known, result, found)
    for action in actions:
        bar_ns = found.bars.open_ns(action.at_ns)
        if bar_ns in extras:
            paid = extras[bar_ns][1]
            paid[action.kind] = paid.get(action.kind, 0.0) + action.amount
    told = [
        (open_ns, adjusted, paid.get("dividend"), paid.get("split"), paid.get("gain"))
        for open_ns, (adjusted, paid) in sorted(extras.items())
        if adjusted is not None or paid
    ]
    return Imported(candles, sorted(rejected), told, actions)


# ---------------------------------------------------------------- what people ask for by name

_NAMES: Final = """
005930.KS Samsung Electronics|삼성전자
000660.KS SK hynix|SK하이닉스|에스케이하이닉스
373220.KS LG Energy Solution|LG에너지솔루션|엘지에너지솔루션
207940.KS Samsung Biologics|삼성바이오로직스
005380.KS Hyundai Motor|현대차|현대자동차
000270.KS Kia|기아|기아자동차
068270.KS Celltrion|셀트리온
105560.KS KB Financial Group|KB금융
005490.KS POSCO Holdings|POSCO홀딩스|포스코홀딩스
035420.KS NAVER|네이버
035720.KS Kakao|카카오
006400.KS Samsung SDI|삼성SDI
051910.KS LG Chem|LG화학|엘지화학
012330.KS Hyundai Mobis|현대모비스
028260.KS Samsung C&T|삼성물산
055550.KS Shinhan Financial Group|신한지주
066570.KS LG Electronics|LG전자|엘지전자
086790.KS Hana Financial Group|하나금융지주
032830.KS Samsung Life Insurance|삼성생명
096770.KS SK Innovation|SK이노베이션
017670.KS SK Telecom|SK텔레콤
030200.KS KT|케이티
015760.KS Korea Electric Power|한국전력|한전
033780.KS KT&G|케이티앤지
009150.KS Samsung Electro-Mechanics|삼성전기
010130.KS Korea Zinc|고려아연
259960.KS Krafton|크래프톤
012450.KS Hanwha Aerospace|한화에어로스페이스
034020.KS Doosan Enerbility|두산에너빌리티
042660.KS Hanwha Ocean|한화오션
323410.KS KakaoBank|카카오뱅크
352820.KS HYBE|하이브
011200.KS HMM|에이치엠엠
090430.KS Amorepacific|아모레퍼시픽
247540.KQ EcoPro BM|에코프로비엠
086520.KQ EcoPro|에코프로
196170.KQ Alteogen|알테오젠
028300.KQ HLB|에이치엘비
041510.KQ SM Entertainment|에스엠
035900.KQ JYP Entertainment|JYP|제이와이피
293490.KQ Kakao Games|카카오게임즈
AAPL Apple|애플
MSFT Microsoft|마이크로소프트
NVDA NVIDIA|엔비디아
GOOGL Alphabet (Google)|알파벳|구글
AMZN Amazon|아마존
META Meta Platforms|메타
TSLA Tesla|테슬라
NFLX Netflix|넷플릭스
AMD Advanced Micro Devices|에이엠디
INTC Intel|인텔
^KS11 KOSPI|코스피
^KQ11 KOSDAQ|코스닥
^GSPC S&P 500|에스앤피 500
^IXIC NASDAQ Composite|나스닥
^DJI Dow Jones|다우존스
^N225 Nikkei 225|닛케이
KRW=X US Dollar in Korean Won|원달러 환율|달러
EURUSD=X Euro in US Dollar|유로달러 환율|유로
GC=F Gold|금
CL=F Crude Oil|원유
BTC-USD Bitcoin|비트코인
ETH-USD Ethereum|이더리움
"""


@cache
def known_instruments() -> tuple[InstrumentInfo, ...]:
    """The best known instruments, with Korean names: Yahoo's search knows Latin ones only."""
    found = []
    for line in _NAMES.strip().splitlines():
        symbol, _, names = line.partition(" ")
        english, korean, *others = names.split("|")
        info = _info(symbol, english, "", None, None)
        more = {"ko": korean} | ({"ko-other": " ".join(others)} if others else {})
        found.append(msgspec.structs.replace(info, names={**info.names, **more}))
    return tuple(found)


def _matches(info: InstrumentInfo, text: str) -> bool:
    wanted = text.casefold().replace(" ", "")
    names = (info.symbol, *info.names.values())
    return bool(wanted) and any(wanted in name.casefold().replace(" ", "") for name in names)


def _info(symbol: str, name: str, exchange: str, currency: str | None, hint: int | None) -> InstrumentInfo:
    base, quote = symbol, currency or ""
    if pair := _PAIR.fullmatch(symbol):
        base, quote = pair[1], quote or pair[2]
    elif pair := _CURRENCIES.fullmatch(symbol):
        base, quote = pair[1] or "USD", pair[2]
    elif not quote:
        known = _EXCHANGES.get(exchange or exchange_of(symbol))
        quote = known.currency if known is not None and not symbol.startswith("^") else ""
    if symbol.endswith((".KS", ".KQ")):
        hint = 0  # Yahoo says 2, and yet there is nothing below a won
    elif symbol.endswith("KRW=X"):
        hint = 2  # and of a rate in won 4
    elif hint is None:
        hint = 4 if symbol.endswith("=X") else 2
    return InstrumentInfo(
        instrument_of(VENUE, symbol),
        symbol,
        base,
        quote or NO_CURRENCY,
        {"en": name},
        PriceSteps((Decimal(0),), (Decimal(1).scaleb(-hint),)),
        Decimal(0),
    )
