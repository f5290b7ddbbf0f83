"""Errors, and the contracts between the engine and the adapters it is wired to.

WatchHamsterError          code, text, hint: every failure a person may meet
├── UsageError             what was asked cannot be (unknown instrument, wrong timeframe, bad formula): exit 2
├── Unavailable            a venue or host cannot be reached just now: try again
│   └── RateLimited        it said "too often", perhaps for how long
├── Rejected               the venue understood and said no: trying again will not help
├── BadFrame               bytes that are not what the venue documents: counted, kept, shown, never a price
└── StoreError             a file that is locked, full, damaged or from a newer version
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, Literal, Protocol, TypeVar, runtime_checkable

import msgspec

from watchhamster.core.market import Action
from watchhamster.core.secret import Secret
from watchhamster.core.text import Text

if TYPE_CHECKING:
    import datetime as dt

    from watchhamster.core.instruments import Headline, InstrumentInfo
    from watchhamster.core.market import Book, Candle, Event, Ticker, Trade
    from watchhamster.core.sessions import Calendar, Hours, Session
    from watchhamster.core.timeframes import Grid, Timeframe

T = TypeVar("T")


class WatchHamsterError(Exception):
    """A failure with a stable code, a sentence that says what and where, and a hint that says what to do."""

    exit_code = 1

    def __init__(self, code: str, text: Text, hint: Text | None = None, **details: object) -> None:
        super().__init__(str(text))
        self.code = code
        self.text = text
        self.hint = hint
        self.details = details  # further fields of the JSON error, such as `position`


class UsageError(WatchHamsterError):
    """What was asked cannot be done as asked."""

    exit_code = 2


class Unavailable(WatchHamsterError):
    """Not reachable just now; the same call may work later."""


class RateLimited(Unavailable):
    """Refused for asking too often."""

    def __init__(
        self,
        code: str,
        text: Text,
        hint: Text | None = None,
        *,
        retry_after_s: float | None = None,
        banned: bool = False,
    ) -> None:
        super().__init__(code, text, hint)
        self.retry_after_s = retry_after_s  # as told, None where the venue did not say
        self.banned = banned  # a block (HTTP 418) rather than one refusal (429)


class Rejected(WatchHamsterError):
    """The venue understood and refused."""


class BadFrame(WatchHamsterError):
    """A frame or answer that is not what the venue documents. `sample` holds its first 200 characters."""

    def __init__(self, reason: str, frame: bytes | str = b"") -> None:
        text = frame.decode("utf-8", "replace") if isinstance(frame, bytes) else frame
        self.reason = reason
        self.sample = text[:200]
        super().__init__("bad_frame", Text("Unreadable frame: {reason}.", {"reason": reason}))


class StoreError(WatchHamsterError):
    """A file that cannot be used as it is. Nothing in it was changed."""


class Clock(Protocol):
    """Time, as it is or as a test says it is. Wall time orders and is shown; monotonic time drives timers."""

    def now_ns(self) -> int:
        """Wall time, nanoseconds UTC."""

    def monotonic(self) -> float:
        """Seconds that never step back."""

    async def sleep(self, seconds: float) -> None:
        """Return after this many of the clock's seconds."""


# ---------------------------------------------------------------- venues: bytes <-> events, no sockets

Kind = Literal["ticker", "trade", "book", "candle"]


class Subscription(msgspec.Struct, frozen=True):
    """One thing to stream: a kind of data for a symbol (as the venue writes it)."""

    kind: Kind
    symbol: str
    timeframe: str | None = None  # candles only


class Request(msgspec.Struct, frozen=True):
    """One HTTP request below a venue's base URL. `params` are not yet URL-encoded."""

    path: str
    params: Mapping[str, str] = {}
    group: str = "default"  # the rate-limit group that it counts against
    method: str = "GET"
    headers: Mapping[str, str] = {}
    host: str = ""  # another host of the venue's own domain; a base URL elsewhere stands for them all
    secret_params: Mapping[str, Secret] = {}
    secret_headers: Mapping[str, Secret] = {}
    life_s: float = 0.0  # the same answer may be given again for so long


class Response(msgspec.Struct, frozen=True):
    """What came back: header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Query(msgspec.Struct, Generic[T], frozen=True):
    """A request and how to read its answer. `parse` raises a `WatchHamsterError` for anything but data."""

    request: Request
    parse: Callable[[Response], T]


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of history, oldest row first.

    Everything in `[since_ns, until_ns)` is known once the page is here: a place in it without a row had none.
    `cursor` asks for the page before this one (None: there is nothing before). A venue that has them tells with its
    candles what was distributed or split in that time, and the closes adjusted for it, by their bar's open time.
    """

    rows: list[T]
    since_ns: int
    until_ns: int
    cursor: str | None = None
    actions: Sequence[Action] = ()
    adjusted: Mapping[int, float] = {}


class Quota(msgspec.Struct, frozen=True):
    """So many requests in so many seconds."""

    count: int
    seconds: float = 1.0


class FeedPolicy(msgspec.Struct, frozen=True):
    """A venue's timings, in seconds. The supervisor has none of its own."""

    dial_timeout_s: float = 2.5
    probe_after_s: float = 1.5  # silence on a normally busy stream before REST is asked
    redial_after_s: float = 1.0  # longer than the probe, if REST proved the stream dead
    ping_s: float = 2.0
    pong_timeout_s: float = 1.5
    poll_s: float = 0.6  # between REST calls while they carry the feed
    audit_s: float = 10.0  # between comparisons of the stream with REST
    backoff_first_s: float = 0.25
    backoff_max_s: float = 8.0
    bars: Quota = Quota(5, 50.0)  # asks for the closed candles of what is only listed, where there are no trades
    stale_after_s: float = 5.0  # no route had news for so long, though some should
    snapshot_timeout_s: float = 10.0  # a subscription without any first answer
    connects: Quota = Quota(5)
    dials: tuple[Quota, ...] = (Quota(3), Quota(20, 60.0))  # our own manners, within `connects`
    messages: tuple[Quota, ...] = (Quota(5), Quota(100, 60.0))
    bad_share_max: float = 0.2  # redial when more of 5 s of frames than this are unreadable


class Venue(Protocol):
    """A venue, sans I/O. The conformance suite in `tests/venues/conformance.py` says what each must do."""

    name: str
    url: str  # default REST base
    quotas: Mapping[str, Quota]  # rate-limit group -> quota
    policy: FeedPolicy
    timeframes: tuple[str, ...]  # candles it can answer
    kinds: tuple[Kind, ...]  # what it has; without trades, its open minutes are made of its tickers, and provisional

    caution: Text | None  # what a person has to know before its first use

    @property
    def tickers_a_call(self) -> int:
        """So many symbols go into one call of `tickers`."""

    def session(self, symbol: str, now_ns: int) -> Session | None:
        """What the symbol's market is doing, until when, and when it opens next; None at a venue that never closes."""

    def described(self, symbol: str) -> InstrumentInfo:
        """What can be said of an instrument by its symbol alone."""

    def served_since_ns(self, timeframe: Timeframe, now_ns: int) -> int | None:
        """No candles of the timeframe are answered from before; None: from the first trade on."""

    def grid(self, symbol: str) -> Grid:
        """Where its bars begin and end, and when they are final: `core.timeframes.UTC` if it never closes."""

    # the stream
    def stream_url(self, base_url: str) -> str:
        """The WebSocket address that belongs to a REST base URL."""

    def subscribe(self, wants: Sequence[Subscription], ticket: str) -> list[str]:
        """Frames to send so that exactly these are streamed from now on."""

    def keepalive(self) -> str | None:
        """A text to send every ping interval beside the protocol's own ping, if the venue wants one."""

    def decode(self, frame: bytes | str, received_ns: int | None) -> list[Event]:
        """The events of one frame, in its order; empty for acknowledgements and status frames.

        Raises `BadFrame` for what it cannot read and `Rejected` for an error the venue sent.
        """

    # REST
    def markets(self) -> Query[list[InstrumentInfo]]:
        """Every instrument, with names and warnings."""

    def tickers(self, symbols: Sequence[str]) -> Query[list[Ticker]]:
        """The latest 24 h summaries."""

    def books(self, symbols: Sequence[str]) -> Query[list[Book]]:
        """Whole order books."""

    def trades(self, symbol: str, until_ns: int | None = None, cursor: str | None = None) -> Query[Page[Trade]]:
        """The newest page of trades before a time or a cursor."""

    def candles(self, symbol: str, timeframe: Timeframe, since_ns: int, until_ns: int) -> Query[Page[Candle]]:
        """The newest page of candles that open in `[since_ns, until_ns)`; `cursor` None when it reaches `since_ns`."""

    def remaining(self, response: Response) -> int | None:
        """Calls the answer says are left in the current window of its group, if it says."""


@runtime_checkable
class Calendared(Protocol):
    """What a venue has besides if its markets close."""

    def calendar(self, symbol: str) -> Calendar:
        """When the symbol's market is open, on any day."""

    def keep_hours(self, hours: Mapping[str, Mapping[dt.date, Hours]]) -> None:
        """Take the user's word on trading hours (market code or symbol -> local day -> hours) from now on."""


@runtime_checkable
class Distributing(Protocol):
    """What a venue has besides if its instruments are shares: they pay, and are split."""

    def actions(self, symbol: str, since_ns: int, until_ns: int) -> Query[list[Action]]:
        """Dividends, distributed gains and splits of a time, oldest first."""


@runtime_checkable
class Searched(Protocol):
    """What a venue has besides if it lists no whole market: instruments are asked about one by one, or looked for."""

    def known(self) -> Sequence[InstrumentInfo]:
        """The best known instruments, for which it need not be asked."""

    def info(self, symbol: str) -> Query[InstrumentInfo]:
        """One instrument. The answer raises `Rejected` (`unknown_instrument`) for one that is not."""

    def search(self, text: str, count: int = 8) -> Query[list[InstrumentInfo]]:
        """Instruments by name or symbol, best first."""

    def trending(self, region: str = "US") -> Query[list[InstrumentInfo]]:
        """What people of a region look at just now."""

    def news(self, symbol: str, count: int = 10) -> Query[list[Headline]]:
        """Headlines about a symbol, newest first."""


@runtime_checkable
class Guarded(Protocol):
    """What a venue has besides if a pass opens shorter ways to its data. Without one it answers all the same."""

    @property
    def admitted(self) -> bool | None:
        """Whether calls go the shorter way just now; None: nobody has asked for that yet."""

    @property
    def refusal(self) -> Text | None:
        """Why they do not."""

    def admission(self, now_ns: int) -> Query[None] | None:
        """What is to be asked next on the way to a pass, which the venue keeps to itself; None: nothing just now."""

    def turned_away(self, problem: WatchHamsterError) -> None:
        """It was asked, and this came of it: the venue rests before it wants to be asked again."""


# ---------------------------------------------------------------- the wire: sockets

FrameSink = Callable[["bytes | str"], None]


class Stream(Protocol):
    """One open WebSocket. Frames arrive by the callback given to `Wire.open`, one synchronous call each."""

    async def send(self, frame: str) -> None:
        """Send a text frame. Raises `Unavailable` when the stream is closed."""

    async def ping(self) -> float:
        """Seconds until the peer's pong. Raises `Unavailable` when the stream is closed."""

    async def closed(self) -> Text:
        """Wait until the stream is closed by anyone, and say why."""

    async def close(self) -> None:
        """Close without waiting long for the peer's leave."""


class Wire(Protocol):
    """A venue's sockets: one HTTP client, any number of streams."""

    async def request(self, request: Request) -> Response:
        """One answer. Raises `Unavailable` when none came; any HTTP status is an answer."""

    async def open(self, url: str, on_frame: FrameSink, *, timeout_s: float) -> Stream:
        """Dial. Raises `Unavailable`, or `RateLimited` when the handshake was refused as too frequent."""

    async def close(self) -> None:
        """Drop every socket."""
