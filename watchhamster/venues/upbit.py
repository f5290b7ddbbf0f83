"""Upbit's public data, sans I/O: frames and answers in, events out; queries and subscriptions as values.

Sources: docs.upbit.com/kr/reference (websocket-ticker, -trade, -orderbook, -candle, list-candles-*, list-pair-trades,
list-tickers, list-orderbooks, list-trading-pairs, rate-limits, rest-api-guide) and the guides krw-, btc- and
usdt-market-info. Recorded frames: tests/data/upbit.

How a frame is read. A frame is one object, DEFAULT (long keys) or SIMPLE (short keys), or a list of them; text and
binary alike. Which one is decided per frame, because any request on the connection may switch it. The first bytes
usually tell, and then one typed decoder does everything, ranges included, in C: unknown fields are skipped, needed ones
must be there. Only a frame that this refuses is looked at again, slowly, to find out what it is: a list, a candle, a
book padded with zero levels, a status, an error, or something nobody can read.

What a price is. 0 < price < 1e15, and so for sizes; times lie between 2009 and 2100. JSON has no NaN, and a number
beyond float64 is refused by the decoder. Numbers are spelled in many ways (`1.16539E8`, `7.9276E-4`, `126.00000000`);
they are read to the nearest float64, which prints back as the shortest spelling of the same value.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias, TypeVar, Union

import msgspec
from msgspec import Meta, Struct

from watchhamster.core.instruments import InstrumentInfo, PriceSteps, instrument_of
from watchhamster.core.market import Book, Candle, Event, Level, Origin, Ticker, Trade
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
)
from watchhamster.core.sessions import Session
from watchhamster.core.text import Text
from watchhamster.core.timeframes import SECOND_NS, UTC, Grid, Timeframe, timeframe

VENUE: Final = "upbit"
BOOK_LEVELS: Final = 15  # streamed and asked for; Upbit serves 1, 5, 15 or 30
CANDLES_A_PAGE: Final = 200
TRADES_A_PAGE: Final = 500
TRADE_DAYS: Final = 7  # so many UTC days before today can be asked for
TICKERS_BY_NAME: Final = 100  # more than these are asked by quote: one long address list broke other clients

_MS_NS: Final = 1_000_000
_DAY_NS: Final = 86_400 * SECOND_NS
_SECONDS_KEPT_NS: Final = 89 * _DAY_NS  # 1 s candles are served for "three months", of which the shortest has 89 days
_EPOCH: Final = dt.datetime(1970, 1, 1)
_ONE_SECOND: Final = dt.timedelta(seconds=1)

_MINUTES: Final = {"1m": 1, "3m": 3, "5m": 5, "10m": 10, "15m": 15, "30m": 30, "1h": 60, "4h": 240}
_CANDLE_PATHS: Final = {
    "1s": "/v1/candles/seconds",
    **{name: f"/v1/candles/minutes/{unit}" for name, unit in _MINUTES.items()},
    "1d": "/v1/candles/days",
    "1w": "/v1/candles/weeks",
    "1M": "/v1/candles/months",
    "1y": "/v1/candles/years",
}
_BY_UNIT: Final = {unit: name for name, unit in _MINUTES.items()}
_STREAMED: Final = {"1s": "candle.1s", **{name: f"candle.{unit}m" for name, unit in _MINUTES.items()}}  # none from 1d
_BY_CANDLE_TYPE: Final = {kind: name for name, kind in _STREAMED.items()}
# The documents do not say where 4 h candles begin; on the hour is all that is asked of them.
_GRID: Final = {"4h": timeframe("1h")}


def _steps(table: Mapping[str, str]) -> PriceSteps:
    return PriceSteps(tuple(map(Decimal, table)), tuple(map(Decimal, table.values())))


_KRW_TABLE: Final = {  # policy of 2025-07-31
    "0": "0.00000001",
    "0.00001": "0.0000001",
    "0.0001": "0.000001",
    "0.001": "0.00001",
    "0.01": "0.0001",
    "0.1": "0.001",
    "1": "0.01",
    "10": "0.1",
    "100": "1",
    "5000": "5",
    "10000": "10",
    "50000": "50",
    "100000": "100",
    "500000": "500",
    "1000000": "1000",
}
_STEPS: Final = {
    "KRW": _steps(_KRW_TABLE),
    "BTC": _steps({"0": "0.00000001"}),
    "USDT": _steps(
        {
            "0": "0.00000001",
            "0.0001": "0.0000001",
            "0.001": "0.000001",
            "0.01": "0.00001",
            "0.1": "0.0001",
            "1": "0.001",
            "10": "0.01",
        }
    ),
}
# Dollar coins trade in half won since 2025-03-21; the table has no row for them, the notice still stands beside it.
_HALF_WON: Final = _steps({**dict(list(_KRW_TABLE.items())[:9]), "1000": "0.5", **dict(list(_KRW_TABLE.items())[10:])})
_LEAST_TOTAL: Final = {"KRW": Decimal(5000), "BTC": Decimal("0.00005"), "USDT": Decimal("0.5")}


def price_steps(symbol: str) -> PriceSteps:
    """The tick sizes of a market, such as `KRW-BTC`; an unknown quote has the finest ones."""
    if symbol in ("KRW-USDT", "KRW-USDC"):
        return _HALF_WON
    return _STEPS.get(symbol.partition("-")[0], _STEPS["BTC"])


# ---------------------------------------------------------------- what the wire carries

Positive: TypeAlias = Annotated[float, Meta(gt=0, lt=1e15)]
NotNegative: TypeAlias = Annotated[float, Meta(ge=0, lt=1e15)]
Turnover: TypeAlias = Annotated[float, Meta(ge=0, lt=1e21)]
Milliseconds: TypeAlias = Annotated[int, Meta(ge=1_230_768_000_000, lt=4_102_444_800_000)]  # from 2009, before 2100
TradeId: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
TakerSide: TypeAlias = Literal["ASK", "BID"]

_SIDE: Final[dict[str, Literal["buy", "sell"]]] = {"BID": "buy", "ASK": "sell"}  # the taker's: BID bought


class _Instruments(dict[str, str]):
    """`KRW-BTC` -> `upbit:KRW-BTC`, checked once and then remembered."""

    _code = re.compile(r"[A-Z0-9]{1,16}-[A-Z0-9._]{1,24}")

    def __missing__(self, code: str) -> str:
        if self._code.fullmatch(code) is None:
            raise ValueError(f"{code!r} is not a market")
        name = instrument_of(VENUE, code)
        if len(self) < 10_000:  # some ten times the markets there are
            self[code] = name
        return name


class _Level(Struct, gc=False):
    ask_price: float  # the book's order proves their range
    bid_price: float
    ask_size: Positive
    bid_size: Positive


class _PaddedLevel(Struct, gc=False):
    ask_price: NotNegative
    bid_price: NotNegative
    ask_size: NotNegative
    bid_size: NotNegative


class _Book(Struct, gc=False, tag_field="type", tag="orderbook"):
    code: str
    timestamp: Milliseconds
    orderbook_units: list[_Level]

    def event(self, instruments: Mapping[str, str], received_ns: int | None) -> Book:
        bids: list[Level] = []
        asks: list[Level] = []
        highest, lowest = 1e15, 0.0
        for unit in self.orderbook_units:
            bid, ask = unit.bid_price, unit.ask_price
            if bid >= highest or ask <= lowest:
                raise ValueError("the levels of the book are out of order")
            bids.append((bid, unit.bid_size))
            asks.append((ask, unit.ask_size))
            highest, lowest = bid, ask
        if not bids:
            raise ValueError("the book is empty")
        if bids[0][0] >= asks[0][0]:
            raise ValueError(f"the book is crossed: bid {bids[0][0]!r}, ask {asks[0][0]!r}")
        if highest <= 0.0 or lowest >= 1e15:
            raise ValueError("a price of the book is absurd")
        return Book(instruments[self.code], self.timestamp * _MS_NS, received_ns, True, bids, asks)


class _PaddedBook(Struct, gc=False, tag_field="type", tag="orderbook"):
    """A book of a thin market: zeros stand where there is no level, on one side or on both."""

    code: str
    timestamp: Milliseconds
    orderbook_units: list[_PaddedLevel]

    def event(self, instruments: Mapping[str, str], received_ns: int | None) -> Book:
        units = self.orderbook_units
        bids = [(u.bid_price, u.bid_size) for u in units if u.bid_price and u.bid_size]
        asks = [(u.ask_price, u.ask_size) for u in units if u.ask_price and u.ask_size]
        if not (bids or asks):
            raise ValueError("the book is empty")
        if any(a[0] >= b[0] for a, b in pairwise(asks)) or any(a[0] <= b[0] for a, b in pairwise(bids)):
            raise ValueError("the levels of the book are out of order")
        if bids and asks and bids[0][0] >= asks[0][0]:
            raise ValueError(f"the book is crossed: bid {bids[0][0]!r}, ask {asks[0][0]!r}")
        return Book(instruments[self.code], self.timestamp * _MS_NS, received_ns, True, bids, asks)


class _Trade(Struct, gc=False, tag_field="type", tag="trade"):
    code: str
    trade_timestamp: Milliseconds
    trade_price: Positive
    trade_volume: Positive
    ask_bid: TakerSide
    sequential_id: TradeId

    def event(self, instruments: Mapping[str, str], received_ns: int | None) -> Trade:
        return Trade(
            instruments[self.code],
            self.trade_timestamp * _MS_NS,
            received_ns,
            self.sequential_id,
            self.trade_price,
            self.trade_volume,
            _SIDE[self.ask_bid],
        )


class _Ticker(Struct, gc=False, tag_field="type", tag="ticker"):
    code: str
    timestamp: Milliseconds
    trade_price: Positive
    trade_timestamp: Milliseconds | None = None
    opening_price: NotNegative | None = None
    high_price: NotNegative | None = None
    low_price: NotNegative | None = None
    prev_closing_price: NotNegative | None = None
    signed_change_price: float | None = None
    signed_change_rate: float | None = None
    acc_trade_volume_24h: Turnover | None = None
    acc_trade_price_24h: Turnover | None = None
    market_state: str | None = None

    def event(self, instruments: Mapping[str, str], received_ns: int | None) -> Ticker:
        return Ticker(
            instruments[self.code],
            self.timestamp * _MS_NS,
            received_ns,
            self.trade_price,
            self.opening_price or None,  # before the first trade of a market there is none, and none is not zero
            self.high_price or None,
            self.low_price or None,
            self.prev_closing_price or None,
            self.signed_change_price,
            self.signed_change_rate,
            self.acc_trade_volume_24h,
            self.acc_trade_price_24h,
            None if self.trade_timestamp is None else self.trade_timestamp * _MS_NS,
            self.market_state,
        )


class _StreamedCandle(Struct, gc=False):
    code: str
    candle_date_time_utc: dt.datetime
    opening_price: Positive
    high_price: Positive
    low_price: Positive
    trade_price: Positive
    candle_acc_trade_volume: Turnover
    candle_acc_trade_price: Turnover


_Frame: TypeAlias = _Trade | _Book | _PaddedBook | _Ticker

_SHORT: Final = {
    "code": "cd",
    "timestamp": "tms",
    "trade_timestamp": "ttms",
    "trade_price": "tp",
    "trade_volume": "tv",
    "ask_bid": "ab",
    "sequential_id": "sid",
    "orderbook_units": "obu",
    "ask_price": "ap",
    "bid_price": "bp",
    "ask_size": "as",
    "bid_size": "bs",
    "opening_price": "op",
    "high_price": "hp",
    "low_price": "lp",
    "prev_closing_price": "pcp",
    "signed_change_price": "scp",
    "signed_change_rate": "scr",
    "acc_trade_volume_24h": "atv24h",
    "acc_trade_price_24h": "atp24h",
    "market_state": "ms",
    "candle_date_time_utc": "cdttmu",
    "candle_acc_trade_volume": "catv",
    "candle_acc_trade_price": "catp",
}


def _renamed(shape: Any, names: Mapping[str, str], tag_field: str | None = None) -> Any:
    """The same shape under other keys (msgspec renames only fields that a class defines itself)."""
    fields = []
    for item in msgspec.structs.fields(shape):
        kind = item.type
        if kind in (list[_Level], list[_PaddedLevel]):
            kind = list[_renamed(kind.__args__[0], names)]  # type: ignore[misc]
        fields.append((item.name, kind) if item.required else (item.name, kind, item.default))
    tagged = {"tag_field": tag_field, "tag": shape.__struct_config__.tag} if tag_field else {"tag": False}
    return msgspec.defstruct(f"{shape.__name__}As", fields, bases=(shape,), rename=names, gc=False, **tagged)


_Decoder: TypeAlias = Callable[[bytes], _Frame]


def _decoder(*shapes: Any) -> Any:
    return msgspec.json.Decoder(Union[shapes]).decode  # noqa: UP007


_full: Final[_Decoder] = _decoder(_Trade, _Book, _Ticker)
_simple: Final[_Decoder] = _decoder(*(_renamed(shape, _SHORT, "ty") for shape in (_Trade, _Book, _Ticker)))
_padded: Final[_Decoder] = _decoder(_PaddedBook)
_simple_padded: Final[_Decoder] = _decoder(_renamed(_PaddedBook, _SHORT, "ty"))
_candle: Final[Callable[[bytes], _StreamedCandle]] = _decoder(_StreamedCandle)
_simple_candle: Final[Callable[[bytes], _StreamedCandle]] = _decoder(_renamed(_StreamedCandle, _SHORT))
_raws: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Anything(Struct, gc=False):
    """Enough of any frame to tell what it is."""

    type: Any = None
    ty: Any = None
    error: Any = None
    status: Any = None
    method: Any = None
    mthd: Any = None


_anything: Final = msgspec.json.Decoder(_Anything).decode


# ---------------------------------------------------------------- what REST answers


class _Error(Struct):
    name: int | str = ""
    message: str = ""


class _ErrorBody(Struct):
    error: _Error


class _MarketEvent(Struct):
    warning: bool = False
    caution: dict[str, bool] | bool | None = None


class _Market(Struct):
    market: str
    korean_name: str = ""
    english_name: str = ""
    market_event: _MarketEvent | None = None
    market_warning: str | None = None  # before 2024-11-20


class _PastTrade(Struct, gc=False):
    market: str
    timestamp: Milliseconds
    trade_price: Positive
    trade_volume: Positive
    ask_bid: TakerSide
    sequential_id: TradeId


class _PastCandle(Struct, gc=False):
    """A row of any candle answer; `unit` comes with minutes, a change with days, a first day with longer ones."""

    market: str
    candle_date_time_utc: dt.datetime
    opening_price: Positive
    high_price: Positive
    low_price: Positive
    trade_price: Positive
    candle_acc_trade_price: Turnover
    candle_acc_trade_volume: Turnover
    unit: int | None = None
    prev_closing_price: float | None = None
    first_day_of_period: str | None = None


_error_body: Final = msgspec.json.Decoder(_ErrorBody).decode
_markets: Final = msgspec.json.Decoder(list[_Market]).decode
_past_trades: Final = msgspec.json.Decoder(list[_PastTrade]).decode
_past_candles: Final = msgspec.json.Decoder(list[_PastCandle]).decode
_past_candle: Final = msgspec.json.Decoder(_PastCandle).decode
_tickers: Final[Callable[[bytes], list[_Ticker]]] = msgspec.json.Decoder(
    list[_renamed(_Ticker, {"code": "market"})]  # type: ignore[misc]
).decode
_books: Final[Callable[[bytes], list[_PaddedBook]]] = msgspec.json.Decoder(
    list[_renamed(_PaddedBook, {"code": "market"})]  # type: ignore[misc]
).decode


class _Place(Struct, frozen=True, array_like=True):
    """Where a walk back through the trades stands; it travels as a page's `cursor`.

    Upbit serves trades by UTC day, counted from its own today. A walk goes through a day by trade ids and, where that
    has no more, on to the day before, from its end.
    """

    days_ago: int = 0
    before: int | None = None  # rows before this trade of that day; None: from the end of the day, or from `to`
    to: str | None = None  # HHMMSS
    until_ns: int | None = None  # rows from here on are not wanted
    known_ns: int | None = None  # everything from here to the walk's start is known


_place: Final = msgspec.json.Decoder(_Place).decode

_T = TypeVar("_T")


class Imported(NamedTuple):
    """What a recorded candle answer holds: candles, oldest first, and the rows that were refused (index, reason)."""

    candles: list[Candle]
    rejected: list[tuple[int, str]]
    extras: tuple[()] = ()  # a crypto-currency pays nothing
    actions: tuple[()] = ()


class Upbit:
    """Upbit's public market data (`core.ports.Venue`). One for all; it only remembers the names of markets."""

    name = VENUE
    url = "https://api.upbit.com"
    quotas: Mapping[str, Quota] = {
        **{group: Quota(10) for group in ("market", "candle", "trade", "ticker", "orderbook")},
        "default": Quota(30),
    }
    policy = FeedPolicy()
    timeframes = tuple(_CANDLE_PATHS)
    kinds: tuple[Kind, ...] = ("ticker", "trade", "book", "candle")
    tickers_a_call = 100
    caution: Text | None = None

    def __init__(self) -> None:
        self._instruments = _Instruments()

    def session(self, symbol: str, now_ns: int) -> Session | None:
        """None: Upbit never closes."""
        return None

    def grid(self, symbol: str) -> Grid:
        """By UTC."""
        return UTC

    def described(self, symbol: str) -> InstrumentInfo:
        """What can be said of an instrument by its symbol alone."""
        quote, _, base = symbol.partition("-")
        least = _LEAST_TOTAL.get(quote, Decimal(0))
        return InstrumentInfo(instrument_of(VENUE, symbol), symbol, base, quote, {}, price_steps(symbol), least)

    def served_since_ns(self, timeframe: Timeframe, now_ns: int) -> int | None:
        """Three months of seconds; all others are served from the market's first trade on."""
        return now_ns - _SECONDS_KEPT_NS if timeframe.name == "1s" else None

    # ------------------------------------------------------------ the stream

    def stream_url(self, base_url: str) -> str:
        """The public WebSocket below a REST base URL."""
        return re.sub(r"^http", "ws", base_url.rstrip("/")) + "/websocket/v1"

    def subscribe(self, wants: Sequence[Subscription], ticket: str) -> list[str]:
        """One frame that replaces whatever the connection streamed; none for no wants.

        There is no unsubscribe message: whoever wants nothing closes the stream. Nothing is acknowledged, and unknown
        markets are met with silence.
        """
        streams: dict[str, dict[str, None]] = {}
        for want in wants:
            code = want.symbol
            match want.kind:
                case "book":
                    kind, code = "orderbook", f"{code}.{BOOK_LEVELS}"
                case "candle":
                    kind = _streamed(want.timeframe)
                case kind:
                    pass
            streams.setdefault(kind, {})[code] = None
        if not streams:
            return []
        parts: list[dict[str, object]] = [{"ticket": ticket}]
        parts += [{"type": kind, "codes": list(codes)} for kind, codes in streams.items()]
        parts.append({"format": "SIMPLE"})  # a third less to receive and to read
        return [json.dumps(parts, separators=(",", ":"))]

    def keepalive(self) -> str | None:
        """`PING`; from then on Upbit says `{"status":"UP"}` every 10 s, which keeps a quiet connection open."""
        return "PING"

    def decode(self, frame: bytes | str, received_ns: int | None) -> list[Event]:
        """The events of a frame: one, or several for a list; none for a status or a list of subscriptions.

        A book is whole each time (`snapshot` is True). A streamed candle is never `closed`: Upbit does not say so.
        Raises `BadFrame`, and `Rejected` for an error Upbit sent.
        """
        try:
            data = frame.encode() if isinstance(frame, str) else frame
            shape = _simple(data) if data.startswith(b'{"ty"') else _full(data)
            return [shape.event(self._instruments, received_ns)]
        except (ValueError, RecursionError):
            return self._decode_unusual(frame, received_ns)

    def _decode_unusual(self, frame: bytes | str, received_ns: int | None) -> list[Event]:
        try:
            data = frame.encode() if isinstance(frame, str) else bytes(frame)
            parts = [bytes(raw) for raw in _raws(data)] if data.lstrip()[:1] == b"[" else [data]
            return [event for part in parts for event in self._decode_one(part, received_ns)]
        except (ValueError, RecursionError) as problem:
            raise BadFrame(_reason(problem), frame) from None

    def _decode_one(self, data: bytes, received_ns: int | None) -> Iterator[Event]:
        about = _anything(data)
        if about.error is not None:
            raise _refused(about.error)
        if about.status is not None or "LIST_SUBSCRIPTIONS" in (about.method, about.mthd):
            return
        short = about.type is None
        kind = about.ty if short else about.type
        match kind:
            case "trade" | "ticker":
                yield (_simple if short else _full)(data).event(self._instruments, received_ns)
            case "orderbook":
                yield (_simple_padded if short else _padded)(data).event(self._instruments, received_ns)
            case str() if kind in _BY_CANDLE_TYPE:
                row = (_simple_candle if short else _candle)(data)
                yield _to_candle(row, self._instruments[row.code], timeframe(_BY_CANDLE_TYPE[kind]), False, "live")
            case None:
                raise ValueError("it has no type")
            case _:
                raise ValueError(f"unknown type {str(kind)[:40]!r}")

    # ------------------------------------------------------------ REST

    def markets(self) -> Query[list[InstrumentInfo]]:
        """Every market, with Korean and English names, warnings and cautions."""
        return Query(Request("/v1/market/all", {"is_details": "true"}, "market"), self._read_markets)

    def tickers(self, symbols: Sequence[str]) -> Query[list[Ticker]]:
        """The latest summaries. One unknown market among up to 100 fails the call; beyond that it is left out."""
        if len(symbols) <= TICKERS_BY_NAME:
            request = Request("/v1/ticker", {"markets": ",".join(symbols)}, "ticker")
        else:
            quotes = ",".join(dict.fromkeys(symbol.partition("-")[0] for symbol in symbols))
            request = Request("/v1/ticker/all", {"quote_currencies": quotes}, "ticker")
        return Query(request, partial(self._read_tickers, frozenset(symbol.upper() for symbol in symbols)))

    def books(self, symbols: Sequence[str]) -> Query[list[Book]]:
        """Order books of 15 levels. One unknown market fails the call; a market without a level is left out."""
        request = Request("/v1/orderbook", {"markets": ",".join(symbols), "count": str(BOOK_LEVELS)}, "orderbook")
        return Query(request, partial(self._read_books, tuple(symbols)))

    def trades(self, symbol: str, until_ns: int | None = None, cursor: str | None = None) -> Query[Page[Trade]]:
        """500 trades before a time that has passed (or the newest), or those before a page's cursor.

        Upbit keeps them for seven UTC days before today and serves a day at a time, so that a page may be empty and
        still have a cursor. What a page knows begins a millisecond after its oldest row: others of the same
        millisecond may follow. Rows outside of `[since_ns, until_ns)` are real trades.
        """
        if cursor is not None:
            try:
                place = _place(cursor.encode())
            except msgspec.DecodeError:
                raise UsageError("bad_cursor", Text("{cursor!r} is not a cursor.", {"cursor": cursor})) from None
        else:
            place = _Place(0, None, None if until_ns is None else _time_of_day(until_ns), until_ns, until_ns)
        params = {"market": symbol, "count": str(TRADES_A_PAGE)}
        if place.days_ago:
            params["days_ago"] = str(place.days_ago)
        if place.to is not None:
            params["to"] = place.to
        if place.before is not None:
            params["cursor"] = str(place.before)
        return Query(Request("/v1/trades/ticks", params, "trade"), partial(self._read_trades, symbol, place))

    def candles(self, symbol: str, timeframe: Timeframe, since_ns: int, until_ns: int) -> Query[Page[Candle]]:
        """Up to 200 candles that open in `[since_ns, until_ns)`, the newest there are.

        A candle is `closed` when it ends by `until_ns` and, where the answer carries a `Date`, by then too; what is
        known ends where the first unclosed candle would begin. A page that is short proves nothing, an empty one that
        there is nothing before (except for `1s`, which Upbit keeps for three months).
        """
        path = _CANDLE_PATHS.get(timeframe.name)
        if path is None:
            raise _wrong_timeframe(timeframe.name, _CANDLE_PATHS)
        slots = 0
        if until_ns > since_ns:
            slots = -(-(until_ns - since_ns) // (timeframe.ns or timeframe.approximate_ns)) + 1
        params = {
            "market": symbol,
            "count": str(max(1, min(CANDLES_A_PAGE, slots))),
            "to": _iso(-(-until_ns // SECOND_NS)),  # exclusive; candles begin on whole seconds
        }
        read = partial(self._read_candles, symbol, timeframe, since_ns, until_ns)
        return Query(Request(path, params, "candle"), read)

    def remaining(self, response: Response) -> int | None:
        """`sec` of `Remaining-Req: group=ticker; min=600; sec=9`: calls left in this second."""
        match = re.search(r"\bsec\s*=\s*(\d{1,9})", response.headers.get("remaining-req", ""))
        return int(match[1]) if match else None

    def _read_markets(self, response: Response) -> list[InstrumentInfo]:
        found = []
        for row in _rows(response, _markets):
            quote, dash, base = row.market.partition("-")
            if not dash:
                raise BadFrame(f"{row.market!r} is not a market", response.body)
            event = row.market_event
            caution = event.caution if event is not None and isinstance(event.caution, dict) else {}
            found.append(
                InstrumentInfo(
                    _instrument(self._instruments, row.market, response),
                    row.market,
                    base,
                    quote,
                    {lang: name for lang, name in (("ko", row.korean_name), ("en", row.english_name)) if name},
                    price_steps(row.market),
                    _LEAST_TOTAL.get(quote, Decimal(0)),
                    event.warning if event is not None else row.market_warning == "CAUTION",
                    tuple(name for name, on in caution.items() if on),
                )
            )
        return found

    def _read_tickers(self, wanted: frozenset[str], response: Response) -> list[Ticker]:
        rows = _rows(response, _tickers, ", ".join(sorted(wanted)[:5]))
        return _events(self._instruments, (row for row in rows if row.code in wanted), response)

    def _read_books(self, symbols: tuple[str, ...], response: Response) -> list[Book]:
        rows = _rows(response, _books, ", ".join(symbols[:5]))
        with_levels = (row for row in rows if any(unit.bid_price or unit.ask_price for unit in row.orderbook_units))
        return _events(self._instruments, with_levels, response)

    def _read_trades(self, symbol: str, place: _Place, response: Response) -> Page[Trade]:
        rows = _rows(response, _past_trades, symbol)
        instrument = self._expected(symbol, {row.market for row in rows}, response)
        if not rows:
            return _after_a_day(place, response)
        trades = [
            Trade(
                instrument, r.timestamp * _MS_NS, None, r.sequential_id, r.trade_price, r.trade_volume, _SIDE[r.ask_bid]
            )
            for r in rows
        ]
        trades.sort(key=lambda trade: (trade.event_ns, trade.id))
        oldest_ns, newest_ns = trades[0].event_ns, trades[-1].event_ns
        end_ns = newest_ns if place.known_ns is None else place.known_ns
        since_ns = min(oldest_ns + _MS_NS, end_ns)
        onward = _Place(place.days_ago, rows[-1].sequential_id, None, place.until_ns, since_ns)
        until_ns = place.until_ns
        if until_ns is not None and oldest_ns >= until_ns:  # nothing of what is wanted yet
            wanted_day, day = (until_ns - 1) // _DAY_NS, oldest_ns // _DAY_NS
            if wanted_day < day:  # ... not even its day: Upbit's today is now known, so go there
                days_ago = place.days_ago + day - wanted_day
                if days_ago > TRADE_DAYS:
                    return Page([], end_ns, end_ns)
                onward = _Place(days_ago, None, _time_of_day(until_ns), until_ns, end_ns)
        if until_ns is not None:
            trades = [trade for trade in trades if trade.event_ns < until_ns]
        return Page(trades, since_ns, end_ns, _cursor(onward))

    def _read_candles(
        self, symbol: str, timeframe: Timeframe, since_ns: int, until_ns: int, response: Response
    ) -> Page[Candle]:
        rows = _rows(response, _past_candles, symbol)
        instrument = self._expected(symbol, {row.market for row in rows}, response)
        now_ns = _date_ns(response)
        ended_ns = until_ns if now_ns is None else min(until_ns, now_ns)
        found: dict[int, Candle] = {}
        for index, row in enumerate(rows):
            try:
                candle = _to_candle(row, instrument, timeframe, True, "backfill")
            except ValueError as problem:
                raise BadFrame(f"candle {index}: {problem}", response.body) from None
            if timeframe.next_ns(candle.open_ns) > ended_ns:
                candle = msgspec.structs.replace(candle, closed=False)
            found[candle.open_ns] = candle
        opens = sorted(open_ns for open_ns in found if open_ns < until_ns)
        if found and not opens:
            raise BadFrame("the answer is about another time than asked", response.body)
        known_since_ns, known_until_ns, cursor = since_ns, timeframe.open_ns(ended_ns), None
        if opens and timeframe.open_ns(opens[0] - 1) >= since_ns:
            known_since_ns, cursor = opens[0], str(opens[0])
        elif not opens and timeframe.name == "1s":
            # Upbit has forgotten: that is not the same as "nobody traded".
            known_since_ns = until_ns if now_ns is None else max(since_ns, now_ns - _SECONDS_KEPT_NS)
        return Page(
            [found[open_ns] for open_ns in opens if open_ns >= since_ns],
            min(known_since_ns, known_until_ns),
            known_until_ns,
            cursor,
        )

    def _expected(self, symbol: str, markets: set[str], response: Response) -> str:
        """The instrument asked about, if the answer is about it alone. Lower case is taken and answered in upper."""
        others = markets - {symbol.upper()}
        if others:
            raise BadFrame(f"asked about {symbol}, it answered about {', '.join(sorted(others)[:3])}", response.body)
        return _instrument(self._instruments, symbol.upper(), response)


# ---------------------------------------------------------------- reading answers


def _instrument(instruments: Mapping[str, str], market: str, response: Response) -> str:
    try:
        return instruments[market]
    except ValueError as problem:
        raise BadFrame(str(problem), response.body) from None


def _events(instruments: Mapping[str, str], rows: Iterator[Any], response: Response) -> list[Any]:
    try:
        return [row.event(instruments, None) for row in rows]
    except ValueError as problem:
        raise BadFrame(_reason(problem), response.body) from None


def _rows(response: Response, decode: Callable[[bytes], list[_T]], asked: str = "") -> list[_T]:
    """The rows of an answer. Raises `RateLimited`, `Rejected`, `Unavailable`, or `BadFrame` for rows out of shape."""
    if response.status == 200 and response.body.lstrip()[:1] == b"[":
        try:
            return decode(response.body)
        except (ValueError, RecursionError) as problem:
            raise BadFrame(_reason(problem), response.body) from None
    try:
        error: _Error | None = _error_body(response.body).error
    except (ValueError, RecursionError):
        error = None
    status = response.status
    if status in (418, 429):
        raise _too_often(response, error)
    if status == 200 or status >= 500 or error is None:
        # Maintenance, a gateway's page, a hotel's login page: not Upbit's word on what was asked.
        raise Unavailable(
            "unavailable",
            Text("Upbit gave no data (HTTP {status}).", {"status": status}),
            Text("It is tried again by itself. If a browser shows a login page, log in to the network first."),
            status=status,
            sample=(error.message if error is not None else response.body[:200].decode("utf-8", "replace")),
        )
    name = str(error.name)
    if status == 404 and name == "404":
        raise Rejected(
            "unknown_instrument",
            Text("Upbit does not know {asked}.", {"asked": asked or "that market"}),
            Text("Upbit writes QUOTE-BASE, such as KRW-BTC; the market may have been delisted."),
        )
    if name == "market_offline":
        raise Unavailable("market_offline", Text("Upbit has closed this market for maintenance."))
    raise Rejected(
        "refused" if name.isdigit() or not name else _word(name),
        Text("Upbit refused the request: {message} (HTTP {status}).", {"message": error.message, "status": status}),
    )


def _too_often(response: Response, error: _Error | None) -> RateLimited:
    """429 is one refusal, 418 a block. How long is told in no documented place: a header, or a message's words."""
    message = error.message if error is not None else response.body[:500].decode("utf-8", "replace")
    wait_s: float | None = None
    told = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", told):
        wait_s = float(told)
    elif match := re.search(r"(\d{1,9})\s*(초|sec|s\b|분|min)", message, re.IGNORECASE):
        wait_s = float(match[1]) * (60 if match[2].lower() in ("분", "min") else 1)
    banned = response.status == 418
    return RateLimited(
        "banned" if banned else "rate_limited",
        Text("Upbit has blocked this address for asking too often.")
        if banned
        else Text("Upbit was asked too often within a second."),
        Text("It is asked again when the wait is over."),
        retry_after_s=wait_s,
        banned=banned,
    )


def _refused(error: object) -> Rejected:
    """An error object of the stream: `{"name": "WRONG_FORMAT", "message": "..."}`, in either order."""
    fields = error if isinstance(error, dict) else {"message": error}
    name, message = str(fields.get("name", "")), str(fields.get("message", ""))
    code = _word(name)
    if "too_many" in code or "teapot" in code:  # the documents spell it in three ways
        code = "too_many_requests"
    return Rejected(
        code or "refused",
        Text("Upbit refused the subscription: {message} ({name})", {"message": message, "name": name}),
    )


def _word(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:60]


def _reason(problem: Exception) -> str:
    if isinstance(problem, RecursionError):
        return "it is nested too deeply"
    if isinstance(problem, UnicodeError):
        return "it is not UTF-8"
    return str(problem)


def _date_ns(response: Response) -> int | None:
    """The venue's time when it answered, to the second, if it says."""
    try:
        moment = parsedate_to_datetime(response.headers["date"])
        return int(moment.replace(tzinfo=moment.tzinfo or dt.UTC).timestamp()) * SECOND_NS
    except (KeyError, ValueError, OverflowError):
        return None


def _to_candle(
    row: _StreamedCandle | _PastCandle, instrument: str, timeframe: Timeframe, closed: bool, origin: Origin
) -> Candle:
    """The candle of a row. Raises `ValueError` with the reason."""
    begin = row.candle_date_time_utc
    if not 2009 <= begin.year < 2100:
        raise ValueError(f"no candle begins at {begin.isoformat()}")
    if begin.tzinfo is not None:
        begin = begin.astimezone(dt.UTC).replace(tzinfo=None)
    seconds, rest = divmod(begin - _EPOCH, _ONE_SECOND)
    open_ns = seconds * SECOND_NS
    if rest or _GRID.get(timeframe.name, timeframe).open_ns(open_ns) != open_ns:
        raise ValueError(f"a candle of {timeframe.name} does not begin at {row.candle_date_time_utc.isoformat()}")
    low, high = row.low_price, row.high_price
    if not (low <= row.opening_price <= high and low <= row.trade_price <= high):
        raise ValueError("open or close lie outside of low and high")
    return Candle(
        instrument,
        timeframe.name,
        open_ns,
        row.opening_price,
        high,
        low,
        row.trade_price,
        row.candle_acc_trade_volume,
        row.candle_acc_trade_price,
        closed,
        origin,
    )


def _after_a_day(place: _Place, response: Response) -> Page[Trade]:
    """The page after the last one of a day: empty, and on to the day before.

    "Today" moves at midnight, so the day that was exhausted is the expected one only if the answer's date agrees.
    """
    now_ns = _date_ns(response)
    end_ns = place.known_ns if place.known_ns is not None else now_ns
    since_ns = end_ns
    if now_ns is not None and end_ns is not None:
        day = now_ns // _DAY_NS - place.days_ago
        if (end_ns - 1) // _DAY_NS == day:
            since_ns = day * _DAY_NS
    onward = None
    if place.days_ago < TRADE_DAYS:
        onward = _cursor(_Place(place.days_ago + 1, None, None, place.until_ns, since_ns))
    return Page([], since_ns or 0, end_ns or 0, onward)


def _cursor(place: _Place) -> str:
    return msgspec.json.encode(place).decode()


def _time_of_day(until_ns: int) -> str | None:
    """`HHMMSS` of the first whole second not before; None at midnight, where a whole day ends."""
    seconds = -(-until_ns // SECOND_NS) % 86_400
    return f"{seconds // 3600:02}{seconds // 60 % 60:02}{seconds % 60:02}" if seconds else None


def _iso(seconds: int) -> str:
    return (_EPOCH + dt.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _streamed(name: str | None) -> str:
    kind = _STREAMED.get(timeframe(name or "").name)
    if kind is None:
        raise _wrong_timeframe(name or "", _STREAMED)
    return kind


def _wrong_timeframe(name: str, known: Mapping[str, str]) -> UsageError:
    return UsageError(
        "bad_timeframe",
        Text("Upbit has no candles of {name!r} here.", {"name": name}),
        Text("It has {names}.", {"names": ", ".join(known)}),
    )


# ---------------------------------------------------------------- recorded answers


def parse_candles(body: bytes) -> Imported:
    """The candles of a recorded REST answer, which names its own market and unit.

    They come out oldest first, closed, of origin `import`. A row that cannot be a candle, is of another series than
    the first good one, or is cut off is rejected by its index with the reason. Raises `BadFrame` when it is no answer.
    """
    try:
        parts: list[bytes | str] = [bytes(raw) for raw in _raws(body)]
    except (ValueError, RecursionError):
        parts = list(_salvage(body))
    rows: list[tuple[int, _PastCandle]] = []
    rejected: list[tuple[int, str]] = []
    for index, part in enumerate(parts):
        try:
            rows.append((index, _past_candle(part)))
        except (ValueError, RecursionError) as problem:
            rejected.append((index, _reason(problem) if isinstance(part, bytes) else "the file ends within this row"))
    instruments = _Instruments()
    series: tuple[str, Timeframe] | None = None
    candles: dict[int, Candle] = {}
    for index, row in rows:
        try:
            this = instruments[row.market], _timeframe_of(row, rows)
            series = series or this
            if this != series:
                raise ValueError(f"it is {this[0]} {this[1]} among {series[0]} {series[1]}")
            candle = _to_candle(row, *this, True, "import")
            candles[candle.open_ns] = candle
        except ValueError as problem:
            rejected.append((index, str(problem)))
    return Imported([candles[open_ns] for open_ns in sorted(candles)], sorted(rejected))


def _timeframe_of(row: _PastCandle, rows: list[tuple[int, _PastCandle]]) -> Timeframe:
    if row.unit is not None:
        if row.unit not in _BY_UNIT:
            raise ValueError(f"Upbit has no candles of {row.unit} minutes")
        return timeframe(_BY_UNIT[row.unit])
    if row.first_day_of_period is None:
        return timeframe("1s" if row.prev_closing_price is None else "1d")
    # Weeks, months and years look alike; the least distance of two rows tells.
    days = sorted({other.candle_date_time_utc.date() for _, other in rows})
    gap = min((later - earlier).days for earlier, later in pairwise(days)) if len(days) > 1 else 0
    if gap == 0 and row.candle_date_time_utc.day != 1:
        gap = 7
    if gap == 0:
        raise ValueError("a lone row may be of a week, a month or a year")
    return timeframe("1w" if gap < 28 else "1M" if gap < 365 else "1y")


def _salvage(body: bytes) -> Iterator[bytes | str]:
    """The whole rows of an answer that is cut off, and its last piece as text."""
    text = body.decode("utf-8", "replace").lstrip()
    if not text.startswith("["):
        raise BadFrame("it is not a list of candles", body)
    decoder = json.JSONDecoder()
    position = 1
    while rest := text[position:].lstrip(" \t\r\n,"):
        start = len(text) - len(rest)
        try:
            _row, position = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            yield rest
            return
        yield text[start:position].encode()
