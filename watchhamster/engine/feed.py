"""One venue's live feed: a stream that is watched, and REST that carries on while it is down.

Theory of operation. Five loops share one small state and never wait for one another:

- *stream* dials, converses and redials. The first retry is immediate, later ones back off; only data makes the next
  loss start anew. A socket is given up when it is closed, does not pong, is unreadable, or is proven mute.
- *carry* asks REST. While the stream delivers it only probes: after some silence one call for all markets says whether
  the market is quiet (then all is well) or the stream is mute. While the stream is down, mute, or not serving a
  subscription, the same call, with books and trades, is the feed.
- *settlers* compare a symbol's newest REST pages with what has passed, back to the last moment known to be whole, and
  pass what was missing. Filling a gap, carrying trades and the audit are all this one act.
- *audit* has the symbols settled: once the stream is back (half a second after its first data, so that the seam is
  inside), and from time to time, because a server may drop messages on a healthy socket.
- *tick* notices that the machine slept, that frames are unreadable, and that a subscription never got an answer.

Each trade passes once, told apart by its id within a window of time, for ids have no order. Tickers and books are
latest states: an older one is dropped, and when handling takes more than half of the time they wait, newest only, until
it does not. Trades never wait and are never dropped.

A venue without trades has its open minutes made here, of every ticker that passes, streamed or polled.

A closed market is not silent but closed: nobody is asked about it once its last state is known, and its silence is no
sign of trouble. Where every market is closed, a connection that stands is all there is to want.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random

from watchhamster.core.candles import MINUTE, MinuteBuilder
from watchhamster.core.instruments import instrument_of, split_instrument
from watchhamster.core.market import BadFrameSeen, Book, Candle, Event, FeedChanged, FeedState, Ticker, Trade
from watchhamster.core.ports import (
    BadFrame,
    Clock,
    Kind,
    Quota,
    RateLimited,
    Rejected,
    Stream,
    Subscription,
    Unavailable,
    Venue,
    Wire,
)
from watchhamster.core.text import Text
from watchhamster.core.timeframes import SECOND_NS
from watchhamster.engine.limits import Priority
from watchhamster.engine.routing import Caller

log = logging.getLogger(__name__)

Values = Mapping[str, float | int | str]

# Why a feed is as it is: the word in `FeedChanged.reason` -> its sentence, filled from `FeedChanged.values`.
FEED_REASONS: dict[str, str] = {
    "nothing_wanted": "Nothing is watched here.",
    "stopped": "The program has stopped it.",
    "connecting": "Connecting.",
    "delivers": "The stream delivers.",
    "markets_closed": "The connection stands; the markets of all that is watched are closed.",
    "gap_filled": "The stream delivers; {count} trades from the {seconds} s without it were filled in.",
    "gap_open": "The stream delivers, but trades from the {seconds} s without it can no longer be had.",
    "left_out_filled": "The stream had left out {count} trades; they were filled in.",
    "closed": "The stream was closed: {why}",
    "no_pong": "The connection is dead: a ping had no answer within {seconds} s.",
    "mute": "The connection is open, but has been mute for {seconds} s while the market moved.",
    "unproven": "Nothing has come for {seconds} s, and REST does not answer either.",
    "unreadable": "{percent} % of the frames were unreadable.",
    "slept": "The computer slept, or stood still, for {seconds} s.",
    "dial_failed": "The stream cannot be reached: {why}",
    "dial_refused": "The venue refuses new connections for now: {why}",
    "refused": "The venue refused the subscription: {why}",
    "no_snapshot": "No first answer for {kinds} within {seconds} s: unknown there, or suspended?",
    "snapshot_came": "It is served now.",
    "market_refused": "The venue does not answer for it: {why}",
    "crashed": "A fault of ours stopped it; it starts again in {seconds} s: {error}",
}

_SEAM_S = 0.5  # after a stream's first data until its gap is filled
_DEBOUNCE_S = 0.1  # wants that change together are one subscription
_TICK_S = 1.0
_ASLEEP_S = 3.0  # a tick so late means that the machine slept
_SHARE_S = 5.0  # frames are judged over so long
_BAD_MOST = 20  # unreadable frames that are passed on in that time; all are counted
_REST_BACKOFF_MAX_S = 4.0
_OVERLAP_NS = 5 * SECOND_NS  # trades come up to 4 s out of order
_SETTLED_AFTER_NS = 30 * SECOND_NS  # what is so much older than the last whole moment has passed, or never will
_FUTURE_NS = 86400 * SECOND_NS  # a clock may be wrong by hours, not by a day
_IDS_MAX = 100_000  # a symbol
_FILL_PAGES = 40  # of trades; a longer gap is filled with candles
_AT_ONCE = 5  # so many symbols' trades are asked for each round; beyond, only those whose ticker moved
_AUDITED_AT_ONCE = 20  # busy symbols, of which each costs a call
_SETTLERS = 4
_REFUSED_S = 600.0
_CONFLATE_SLICE_S = 0.1
_CONFLATE_SHARE = 0.5


class Feed:
    """The supervised feed of one venue. Events go to `sink`, synchronously and in order.

    What it says of itself: `state` and `reason` with `values` (see `FEED_REASONS`) since `since_ns`; `last_data_ns`
    when any route last had news; `latency_ms` of the last ping; counters `messages`, `bad_frames` (last ones in
    `bad_samples`), `dials`, `filled` (trades that only REST had) and `conflated`; `unserved` names instruments
    whose subscriptions got no answer; `rest_problem` is why REST gave none last time. `live` and `recovered` both mean
    that the stream delivers.
    """

    def __init__(
        self,
        venue: Venue,
        wire: Wire,
        caller: Caller,
        clock: Clock,
        sink: Callable[[Event], None],
        rng: Random,
        *,
        base_url: str | None = None,
    ) -> None:
        self.venue = venue
        self.state: FeedState = "closed"
        self.reason = "nothing_wanted"
        self.values: Values = {}
        self.since_ns = clock.now_ns()
        self.last_data_ns: int | None = None
        self.latency_ms: float | None = None
        self.messages = 0
        self.bad_frames = 0
        self.bad_samples: deque[BadFrameSeen] = deque(maxlen=20)
        self.dials = 0
        self.filled = 0
        self.conflated = 0

        self._wire = wire
        self._caller = caller
        self._clock = clock
        self._sink = sink
        self._rng = rng
        self._policy = venue.policy
        self._url = venue.stream_url(base_url or venue.url)

        # What is wanted, and what is known of it.
        self._wants: tuple[Subscription, ...] = ()
        self._changed = asyncio.Event()
        self._tapes: dict[str, _Tape] = {}  # instrument ->
        self._latest: dict[tuple[type[Event], str], int] = {}  # wanted tickers, books, candles -> newest event_ns
        self._states: dict[str, str | None] = {}  # instrument -> the state of its last ticker
        self._newest: dict[str, int] = {}  # instrument -> newest event_ns of anything that passed
        self._minutes: dict[str, MinuteBuilder] = {}  # wanted candles of a venue without trades
        self._unserved: dict[str, set[Kind]] = {}
        self._refused: dict[str, float] = {}  # symbol REST knows nothing of -> ask again then

        # The stream.
        self._session: _Session | None = None
        self._dial_pace = Pace(self._policy.dials, clock)
        self._backoff = _Backoff(self._policy.backoff_first_s, self._policy.backoff_max_s, rng)
        self._retry = asyncio.Event()
        self._trouble: tuple[str, Values] = ("connecting", {})
        self._gap: _Gap | None = None
        self._streamed_ns: int | None = None  # wall time of the stream's last data
        self._down_at = clock.monotonic()

        # REST.
        self._carry_wake = asyncio.Event()
        self._round_at = -math.inf
        self._unseeded = False  # something is wanted of which REST has to tell before the stream does
        self._rest_failures = 0
        self.rest_problem: Text | None = None  # why the last round of REST gave nothing
        self._rest_backoff = _Backoff(self._policy.backoff_first_s, _REST_BACKOFF_MAX_S, rng)
        self._rest_ok_at = -math.inf
        self._rest_news_at = -math.inf
        self._news_at = clock.monotonic()
        self._unsettled: dict[str, Priority] = {}  # instruments to settle, first come first
        self._settle_wake = asyncio.Event()
        self._audit_wake = asyncio.Event()
        self._audit_at = math.inf
        self._fill = False

        # Shares of time and of frames.
        self._frames = self._bad = 0
        self._slice_end = self._busy_s = 0.0
        self._held: dict[tuple[type[Event], str], Event] = {}
        self._flush: asyncio.TimerHandle | None = None

    # ---------------------------------------------------------------- outside

    @property
    def streaming(self) -> bool:
        """Whether the stream delivers, so that the latest values of what is wanted are current."""
        session = self._session
        if session is not None and session.asked and self._is_all_closed():
            return True
        if session is None or not session.delivered or self._is_suspect():
            return False
        proven_at = max(session.quiet_since, self._rest_ok_at)  # REST knew nothing newer
        return self._clock.monotonic() - proven_at < self._policy.stale_after_s

    @property
    def unserved(self) -> Mapping[str, Sequence[Kind]]:
        """Instruments with a subscription that never got an answer, and which."""
        return {instrument: sorted(kinds) for instrument, kinds in self._unserved.items()}

    def delivers(self, kind: Kind, instrument: str) -> bool:
        """Whether the last value of this kind that passed for an instrument is the current one."""
        session, key = self._session, (kind, instrument)
        if session is None or key not in session.asked or key in session.awaiting:
            return False
        return self.streaming and kind not in self._unserved.get(instrument, ())

    def set_wants(self, wants: Iterable[Subscription], resume: Mapping[str, int] | None = None) -> None:
        """Stream exactly these from now on.

        `resume` (instrument -> wall nanoseconds) says up to when trades are known from before: what came since is
        filled in first; it counts for instruments that were not wanted before. Without it, an instrument's trades
        begin with the first one seen. Raises what the venue raises for something it cannot stream, changing nothing.
        """
        wants = tuple(dict.fromkeys(wants))
        if "trade" not in self.venue.kinds:  # candles are made of tickers
            wants = tuple(dict.fromkeys((*wants, *(Subscription("ticker", want.symbol) for want in wants))))
        if wants == self._wants:
            return
        if wants:
            self.venue.subscribe(wants, "a rehearsal")
        self._wants = wants
        named = [(want, instrument_of(self.venue.name, want.symbol)) for want in wants]
        before = self._tapes
        self._tapes = {
            instrument: before.get(instrument) or _Tape(want.symbol, instrument, (resume or {}).get(instrument))
            for want, instrument in named
            if want.kind == "trade"
        }
        self._latest = {
            (key := (_TYPES[want.kind], instrument)): self._latest.get(key, -1)
            for want, instrument in named
            if want.kind != "trade"
        }
        instruments = {instrument for _, instrument in named}
        if "trade" not in self.venue.kinds:
            self._minutes = {
                instrument: self._minutes.get(instrument) or MinuteBuilder(instrument)
                for want, instrument in named
                if want.kind == "candle"
            }
        self._states = {key: state for key, state in self._states.items() if key in instruments}
        self._newest = {key: value for key, value in self._newest.items() if key in instruments}
        self._unserved = {key: kinds for key, kinds in self._unserved.items() if key in instruments}
        self._refused.clear()
        resumed = [t for t in self._tapes.values() if t.settled_ns is not None and t.instrument not in before]
        if self._streamed_ns is not None:
            self._want_settled([tape.symbol for tape in resumed], "normal")
        elif resumed:
            self._gap = _Gap(min(tape.floor_ns for tape in resumed))
        if "trade" not in self.venue.kinds and any(self._latest[key] < 0 for key in self._latest):
            self._round_at = min(self._round_at, self._clock.monotonic())  # a sparse stream adds to what REST tells
            self._unseeded = True
        self._changed.set()
        self._carry_wake.set()

    def _is_idle(self, symbol: str) -> bool:
        """Whether its market is closed and its last state known, so that there is nothing to wait for."""
        latest = self._latest.get((Ticker, instrument_of(self.venue.name, symbol)))
        if latest is None or latest < 0:
            return False
        session = self.venue.session(symbol, self._clock.now_ns())
        return session is not None and session.phase == "closed"

    def _is_all_closed(self) -> bool:
        return bool(self._wants) and all(self._is_idle(want.symbol) for want in self._wants)

    def whole_since_ns(self, instrument: str) -> int | None:
        """Since when no trade of an instrument is missing up to `whole_until_ns`. None: nothing has come yet."""
        tape = self._tapes.get(instrument)
        return tape.whole_since_ns if tape is not None else None

    def whole_until_ns(self, instrument: str) -> int | None:
        """Up to which trade of an instrument REST has confirmed that none is missing. None: not confirmed yet."""
        tape = self._tapes.get(instrument)
        return tape.settled_ns if tape is not None and tape.confirmed else None

    def is_filling(self, instrument: str) -> bool:
        """Whether trades of an instrument that were missed are still to come: what passes meanwhile is not whole."""
        gap = self._gap
        return gap is not None and (not gap.filling or instrument in gap.pending)

    async def settle(self, instrument: str, priority: Priority = "normal") -> None:
        """Compare an instrument's trades with REST now; afterwards everything up to this call has passed.

        Raises what the call raises; `KeyError` when its trades are not wanted.
        """
        await self._settle(self._tapes[instrument], priority)

    async def run(self) -> None:
        """Feed until cancelled. A fault of ours is logged, shown, and survived: it must not take other venues down."""
        pause_s = self._policy.backoff_max_s
        try:
            while True:
                try:
                    async with asyncio.TaskGroup() as tasks:
                        for loop in (self._stream, self._carry, self._audit, self._tick):
                            tasks.create_task(loop())
                        for _ in range(_SETTLERS):
                            tasks.create_task(self._settler())
                except ExceptionGroup as crash:
                    log.exception("the feed of %s crashed", self.venue.name)
                    fault: Exception = crash
                    while isinstance(fault, ExceptionGroup):
                        fault = fault.exceptions[0]
                    values: Values = {"seconds": pause_s, "error": repr(fault)[:200]}
                    self._lost("crashed", values)
                    self._become("closed", "crashed", values)
                    await self._clock.sleep(pause_s)
        finally:
            if self._flush is not None:
                self._flush.cancel()
                self._release()
            self._become("closed", "stopped", {})

    # ---------------------------------------------------------------- what comes in

    def _on_frame(self, session: _Session, frame: bytes | str) -> None:
        if session is not self._session:
            return  # from a socket that was given up
        now_ns, began = self._clock.now_ns(), self._clock.monotonic()
        if began >= self._slice_end:
            self._slice_end, self._busy_s = began + _CONFLATE_SLICE_S, 0.0
        self.messages += 1
        self._frames += 1
        try:
            events = self.venue.decode(frame, now_ns)
            passed = False
            for event in events:
                passed |= self._from_stream(session, event, now_ns)
        except BadFrame as bad:
            self._unreadable(bad.reason, bad.sample, now_ns)
            return
        except Rejected as refusal:
            session.refusal = str(refusal.text)
            self._tell(None, self.state, "refused", {"why": session.refusal})
            return
        except Exception as fault:  # of ours: the wire must not swallow it
            session.fail(fault)
            return
        if passed:
            session.quiet_since = self._news_at = began
            self.last_data_ns = self._streamed_ns = now_ns
            if not session.delivered:
                self._first_data(session, began)
            elif self.state not in _STREAMING:
                self._judge()
            self._busy_s += self._clock.monotonic() - began

    def _from_stream(self, session: _Session, event: Event, now_ns: int) -> bool:
        """Pass one event on; whether it is of something wanted, and so a sign of life."""
        if isinstance(event, Trade):
            tape = self._tapes.get(event.instrument)
            if tape is None:
                return False
            if not self._is_from_future(event, now_ns) and tape.add(event):
                if event.event_ns > self._newest.get(event.instrument, 0):
                    self._newest[event.instrument] = event.event_ns
                self._sink(event)
        elif isinstance(event, Ticker | Book):
            key = (type(event), event.instrument)
            newest = self._latest.get(key)
            if newest is None:
                return False
            if event.event_ns >= newest and not self._is_from_future(event, now_ns):
                if self._busy_s > _CONFLATE_SHARE * _CONFLATE_SLICE_S or key in self._held:
                    self._hold(key, event)
                else:
                    self._pass_latest(key, event)
                self._form(event)
        elif isinstance(event, Candle):
            if (Candle, event.instrument) not in self._latest:
                return False
            self._newest[event.instrument] = max(now_ns, self._newest.get(event.instrument, 0))  # it has no finer time
            self._sink(event)
        else:
            return False
        if session.awaiting or self._unserved:
            self._served(session, event)
        return True

    def _pass_latest(self, key: tuple[type[Event], str], event: Ticker | Book) -> None:
        self._latest[key] = event.event_ns
        if isinstance(event, Ticker):
            self._states[event.instrument] = event.state
        moved_ns = (event.trade_ns or event.event_ns) if isinstance(event, Ticker) else event.event_ns
        if moved_ns > self._newest.get(event.instrument, 0):
            self._newest[event.instrument] = moved_ns
        self._sink(event)

    def _form(self, event: Ticker | Book) -> None:
        """Show the open minute with this ticker in it, where that is wanted."""
        builder = self._minutes.get(event.instrument)
        if builder is not None and isinstance(event, Ticker):
            grid = self.venue.grid(split_instrument(event.instrument)[1])
            candle = builder.add(event, grid)
            if candle is not None and candle.open_ns >= grid.settled_ns(MINUTE, self._clock.now_ns()):
                self._sink(candle)

    def _hold(self, key: tuple[type[Event], str], event: Ticker | Book) -> None:
        """Keep the newest state of this key until the slice is over: the sink cannot take them all."""
        self.conflated += key in self._held
        self._held[key] = event
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(_CONFLATE_SLICE_S, self._release)

    def _release(self) -> None:
        self._flush = None
        held, self._held = self._held, {}
        for key, event in held.items():
            if isinstance(event, Ticker | Book) and event.event_ns >= self._latest.get(key, event.event_ns + 1):
                self._pass_latest(key, event)

    def _is_from_future(self, event: Trade | Ticker | Book, now_ns: int) -> bool:
        if event.event_ns - now_ns < _FUTURE_NS:
            return False
        self._unreadable("a time in the future", repr(event)[:200], now_ns)
        return True

    def _unreadable(self, reason: str, sample: str, now_ns: int) -> None:
        self.bad_frames += 1
        self._bad += 1
        seen = BadFrameSeen(now_ns, reason, sample, self.venue.name)
        self.bad_samples.append(seen)
        if self._bad <= _BAD_MOST:
            self._sink(seen)

    def _first_data(self, session: _Session, now: float) -> None:
        session.delivered = self._fill = True
        self._backoff.reset()
        self._audit_at = now + _SEAM_S
        self._audit_wake.set()
        self._judge()

    def _served(self, session: _Session, event: Trade | Ticker | Book | Candle) -> None:
        """An answer to a subscription has come."""
        instrument, kind = event.instrument, _KINDS[type(event)]
        session.awaiting.pop((kind, instrument), None)
        kinds = self._unserved.get(instrument, set())
        if kind in kinds:
            kinds.discard(kind)
            if not kinds:
                del self._unserved[instrument]
                self._tell(instrument, "live", "snapshot_came", {})

    # ---------------------------------------------------------------- the stream

    async def _stream(self) -> None:
        while True:
            while not self._wants:
                self._judge()
                self._changed.clear()
                await self._changed.wait()
            await self._clock.sleep(self._dial_pace.wait_s())
            reason, values = await self._connect()
            self._lost(reason, values)
            if reason == "dial_refused":
                await self._clock.sleep(float(values["seconds"]))
            await _wait(self._retry, self._backoff.next(), self._clock)

    async def _connect(self) -> tuple[str, Values]:
        """Dial, and converse until the session is lost. Says why it was."""
        session = _Session(self._clock.monotonic(), asyncio.get_running_loop().create_future())
        timeout_s = self._policy.dial_timeout_s
        self.dials += 1
        self._dial_pace.take()
        try:
            async with asyncio.timeout(timeout_s + _SEAM_S):  # should the wire's own not fire
                stream = await self._wire.open(
                    self._url, lambda frame: self._on_frame(session, frame), timeout_s=timeout_s
                )
        except TimeoutError:
            return "dial_failed", {"why": f"no answer within {timeout_s:g} s"}
        except RateLimited as refusal:
            told_s = refusal.retry_after_s if refusal.retry_after_s is not None else self._policy.connects.seconds
            return "dial_refused", {"why": str(refusal.text), "seconds": told_s}
        except Unavailable as failure:
            return "dial_failed", {"why": str(failure.text)}
        try:
            return await self._converse(session, stream)
        finally:
            self._session = None
            try:
                async with asyncio.timeout(1.0):
                    await stream.close()
            except (TimeoutError, Unavailable):
                pass  # it is given up either way

    async def _converse(self, session: _Session, stream: Stream) -> tuple[str, Values]:
        self._session = session
        session.quiet_since = self._clock.monotonic()
        async with asyncio.TaskGroup() as tasks:
            helpers = [
                tasks.create_task(helper(session, stream)) for helper in (self._hear_close, self._subscribe, self._ping)
            ]
            try:
                return await session.lost
            finally:
                for helper in helpers:
                    helper.cancel()

    async def _hear_close(self, session: _Session, stream: Stream) -> None:
        why = str(await stream.closed())
        if session.refusal is not None:
            session.lose("refused", {"why": session.refusal})
        else:
            session.lose("closed", {"why": why})

    async def _subscribe(self, session: _Session, stream: Stream) -> None:
        """Say what is wanted, and again whenever that changes, within the venue's message quotas."""
        session.pace = Pace(self._policy.messages, self._clock)
        try:
            while self._wants:
                await self._clock.sleep(session.pace.wait_s())  # first, so that the latest wants are sent
                self._changed.clear()
                deadline = self._clock.monotonic() + self._policy.snapshot_timeout_s
                keys = {
                    (want.kind, instrument_of(self.venue.name, want.symbol))
                    for want in self._wants
                    if want.kind != "candle" or "trade" in self.venue.kinds  # or else it is made here
                }
                session.awaiting = {key: t for key, t in session.awaiting.items() if key in keys}
                session.awaiting.update(dict.fromkeys(sorted(keys - session.asked), deadline))
                session.asked = keys
                ticket = f"{self._rng.getrandbits(128):032x}"
                for frame in self.venue.subscribe(self._wants, ticket):
                    await self._clock.sleep(session.pace.wait_s())
                    session.pace.take()
                    await stream.send(frame)
                await self._changed.wait()
                await self._clock.sleep(_DEBOUNCE_S)
            session.lose("nothing_wanted", {})
        except Unavailable as failure:
            session.lose("closed", {"why": str(failure.text)})

    async def _ping(self, session: _Session, stream: Stream) -> None:
        timeout_s = self._policy.pong_timeout_s
        try:
            while True:
                await self._clock.sleep(self._policy.ping_s)
                text = self.venue.keepalive()
                if text is not None and session.pace is not None and session.pace.wait_s() == 0:
                    session.pace.take()
                    await stream.send(text)
                async with asyncio.timeout(timeout_s):
                    self.latency_ms = await stream.ping() * 1e3
        except TimeoutError:
            session.lose("no_pong", {"seconds": timeout_s})
        except Unavailable as failure:
            session.lose("closed", {"why": str(failure.text)})

    def _lost(self, reason: str, values: Values) -> None:
        """The stream is down, or a dial failed."""
        self._trouble = (reason, values)
        if self.state in _STREAMING:
            self._down_at = self._clock.monotonic()
            for builder in self._minutes.values():
                builder.lose()
        if self._streamed_ns is not None and self._gap is None:
            self._gap = _Gap(self._streamed_ns)
        if self._gap is not None:
            self._gap.filling = False
        if self._rest_failures == 0:
            self._round_at = min(self._round_at, self._clock.monotonic())
        self._carry_wake.set()
        self._judge()

    # ---------------------------------------------------------------- REST

    def _is_suspect(self) -> bool:
        """Whether the stream is silent although REST had news meanwhile."""
        session = self._session
        if session is None or self._rest_news_at <= session.quiet_since:
            return False
        return self._clock.monotonic() - session.quiet_since >= self._policy.probe_after_s

    async def _carry(self) -> None:
        while True:
            now = self._clock.monotonic()
            self._give_up_on_mute(now)
            due = self._round_due()
            if due > now:
                await _wait(self._carry_wake, due - now, self._clock)
            else:
                await self._round()
                self._judge()

    def _give_up_on_mute(self, now: float) -> None:
        session = self._session
        if session is None:
            return
        silence_s = now - session.quiet_since
        values = {"seconds": round(silence_s, 1)}
        if self._is_suspect() and silence_s >= self._policy.probe_after_s + self._policy.redial_after_s - 1e-6:
            session.lose("mute", values)
        elif self._rest_failures and silence_s >= self._policy.stale_after_s:
            session.lose("unproven", values)

    def _round_due(self) -> float:
        """When REST is to be asked next: soon while it carries, else after some silence."""
        session = self._session
        if not self._wants:
            return math.inf
        if session is None or not session.delivered:
            return self._round_at
        if self._is_suspect():
            give_up_at = session.quiet_since + self._policy.probe_after_s + self._policy.redial_after_s
            return min(self._round_at, give_up_at) if not session.lost.done() else self._round_at
        probe_at = max(self._round_at, session.quiet_since + self._policy.probe_after_s)
        return min(probe_at, self._round_at) if self._unserved or self._unseeded else probe_at

    async def _round(self) -> None:
        """Ask REST once for everything it has to carry, or, on a healthy stream, whether there is anything new."""
        carrying = not self.streaming
        wants = [want for want in self._wants if self._is_answered(want.symbol) and not self._is_idle(want.symbol)]
        if not carrying and self._clock.monotonic() < self._quiet_since() + self._policy.probe_after_s:
            named = [(want, instrument_of(self.venue.name, want.symbol)) for want in wants]
            wants = [want for want, name in named if name in self._unserved or self._latest.get((Ticker, name), 0) < 0]
        symbols = list(dict.fromkeys(want.symbol for want in wants))
        traded = [want.symbol for want in wants if want.kind == "trade"]
        if carrying and len(traded) <= _AT_ONCE:
            self._want_settled(traded, "normal")
        try:
            for ticker in await self._tickers(symbols, "urgent"):
                self._from_rest(ticker)
            books = [want.symbol for want in wants if want.kind == "book"]
            if carrying and books:
                query = self.venue.books(books)
                for book in await self._caller.call(query, "urgent", self._policy.dial_timeout_s):
                    self._from_rest(book)
        except (Unavailable, BadFrame, Rejected) as failure:
            log.debug("%s: REST round failed: %s", self.venue.name, failure)
            self._rest_failures += 1
            if self.rest_problem is None or not isinstance(failure, RateLimited):  # the first one says more
                self.rest_problem = failure.text
            told_s = failure.retry_after_s or 0.0 if isinstance(failure, RateLimited) else 0.0
            self._round_at = self._clock.monotonic() + max(told_s, self._rest_backoff.next())
            return
        now = self._clock.monotonic()
        self.rest_problem = None
        if self._rest_failures:
            self._rest_failures = 0
            self._retry.set()  # the way is open again: no need to wait for the next dial
        self._rest_backoff.reset()
        self._rest_ok_at = now
        self._unseeded = False
        polls = self._unserved or not self.streaming
        self._round_at = now + (self._policy.poll_s if polls else self._policy.probe_after_s)

    def _quiet_since(self) -> float:
        return self._session.quiet_since if self._session is not None else -math.inf

    def _is_answered(self, symbol: str) -> bool:
        """Whether REST knows the symbol, as far as we know."""
        return self._refused.get(symbol, 0.0) <= self._clock.monotonic()

    async def _tickers(self, symbols: Sequence[str], priority: Priority) -> list[Ticker]:
        """The summaries of all the symbols that the venue knows. One it does not know would spoil a whole call."""
        if symbols:
            await self._caller.prepare()
        size = self.venue.tickers_a_call
        batches = [list(symbols[i : i + size]) for i in range(0, len(symbols), size)]
        found: list[Ticker] = []
        while batches:
            batch = batches.pop()
            try:
                answer = await self._caller.tickers(batch, priority, self._policy.dial_timeout_s)
                found += answer
                if len(batch) > 1:  # alone, what was left out is answered or refused
                    told = {ticker.instrument for ticker in answer}
                    batches += [[symbol] for symbol in batch if instrument_of(self.venue.name, symbol) not in told]
            except Rejected as refusal:
                if len(batch) == 1:
                    self._market_refused(batch[0], refusal)
                else:
                    half = len(batch) // 2
                    batches += [batch[:half], batch[half:]]
        return found

    def _market_refused(self, symbol: str, refusal: Rejected) -> None:
        now = self._clock.monotonic()
        known, self._refused[symbol] = self._refused.get(symbol, 0.0) > now, now + _REFUSED_S
        if known:
            return
        self._tell(instrument_of(self.venue.name, symbol), "stale", "market_refused", {"why": str(refusal.text)})

    def _from_rest(self, event: Ticker | Book) -> None:
        """Pass a state that the stream has not had, and have the trades of a market that moved settled."""
        now_ns = self._clock.now_ns()
        if self._is_from_future(event, now_ns):
            return
        if isinstance(event, Ticker):
            moved_ns = event.trade_ns or event.event_ns
            if moved_ns > self._newest.get(event.instrument, 0):
                self._newest[event.instrument] = moved_ns
                self._news()
                if event.instrument in self._tapes:
                    self._want_settled([self._tapes[event.instrument].symbol], "normal")
        key = (type(event), event.instrument)
        newest = self._latest.get(key)
        if newest is not None and (event.event_ns > newest or self._has_new_state(event, newest)):
            self._pass_latest(key, event)
            self._form(event)

    def _has_new_state(self, event: Ticker | Book, newest_ns: int) -> bool:
        """Whether it is the last ticker once more, of a market that has closed or halted since."""
        if not isinstance(event, Ticker) or event.event_ns != newest_ns:
            return False
        return event.state != self._states.get(event.instrument)

    def _news(self) -> None:
        self._rest_news_at = self._news_at = self._clock.monotonic()
        self.last_data_ns = self._clock.now_ns()

    def _want_settled(self, symbols: Iterable[str], priority: Priority) -> None:
        for symbol in symbols:
            instrument = instrument_of(self.venue.name, symbol)
            if not self._is_answered(symbol):
                continue
            if priority != "bulk" or instrument not in self._unsettled:
                self._unsettled[instrument] = priority
        self._settle_wake.set()

    async def _settler(self) -> None:
        backoff = _Backoff(self._policy.backoff_first_s, _REST_BACKOFF_MAX_S, self._rng)
        while True:
            if not self._unsettled:
                self._settle_wake.clear()
                await self._settle_wake.wait()
                continue
            instrument = next(iter(self._unsettled))
            priority = self._unsettled.pop(instrument)
            tape = self._tapes.get(instrument)
            if tape is None:
                continue
            try:
                await self._settle(tape, priority)
                backoff.reset()
            except Rejected as refusal:
                self._market_refused(tape.symbol, refusal)
                self._gap_settled(tape, 0, whole=False)
            except (Unavailable, BadFrame) as failure:
                log.debug("%s: settling %s failed: %s", self.venue.name, instrument, failure)
                await self._clock.sleep(max(backoff.next(), self._policy.backoff_first_s))
                self._unsettled.setdefault(instrument, priority)

    async def _settle(self, tape: _Tape, priority: Priority) -> None:
        """Pass every trade REST has and we have not, from now back to the last whole moment."""
        whole_ns, newest_ns, reached = tape.settled_ns, tape.newest_ns, False
        first: int | None = None
        cursor: str | None = None
        found = left_out = 0
        for _ in range(_FILL_PAGES):
            page = await self._caller.call(
                self.venue.trades(tape.symbol, cursor=cursor),
                priority,
                self._policy.dial_timeout_s,
                market=tape.symbol,
            )
            now_ns = self._clock.now_ns()
            whole_ns = whole_ns or tape.settled_ns  # the stream may have begun the record meanwhile
            rows = page.rows if whole_ns is not None else page.rows[-1:]  # it begins with the newest
            for trade in rows:
                if self._is_from_future(trade, now_ns) or not tape.add(trade):
                    continue
                found += 1
                left_out += trade.event_ns < newest_ns - SECOND_NS
                if trade.event_ns > self._newest.get(tape.instrument, 0):
                    self._newest[tape.instrument] = trade.event_ns
                    self._news()
                self._sink(trade)
            if first is None and page.rows:
                first = page.rows[-1].event_ns
            cursor = page.cursor
            known_ns = page.since_ns if page.since_ns < page.until_ns else now_ns  # an empty span tells nothing
            if whole_ns is None or known_ns <= whole_ns - (_OVERLAP_NS if cursor is not None else 0):
                reached = True
            if reached or cursor is None:
                break
        self.filled += left_out
        tape.settle(first, None if reached else known_ns)
        self._gap_settled(tape, found, whole=reached)
        if left_out and self._gap is None and self.streaming:
            self._tell(tape.instrument, "recovered", "left_out_filled", {"count": left_out}, gap_filled=True)

    # ---------------------------------------------------------------- gaps, audit, tick

    def _gap_settled(self, tape: _Tape, found: int, *, whole: bool) -> None:
        gap = self._gap
        if gap is None:
            return
        gap.found += found
        gap.whole &= whole
        if not gap.filling:
            return
        gap.pending.discard(tape.instrument)
        if gap.pending or not self.streaming:
            return
        self._gap = None
        seconds = round((gap.ended_ns - gap.since_ns) / 1e9, 1)
        values: Values = {"seconds": seconds, "count": gap.found, "since_ns": gap.since_ns, "until_ns": gap.ended_ns}
        self._become("recovered", "gap_filled" if gap.whole else "gap_open", values, gap_filled=gap.whole)

    async def _audit(self) -> None:
        while True:
            now = self._clock.monotonic()
            if self._audit_at > now:
                await _wait(self._audit_wake, self._audit_at - now, self._clock)
                continue
            self._audit_at = now + self._policy.audit_s
            if not self.streaming:
                continue
            if self._fill:
                self._fill = False
                self._begin_filling()
                self._want_settled([tape.symbol for tape in self._tapes.values()], "normal")
            else:
                # A quiet symbol that moved unseen shows in its ticker; one that was busy must be compared.
                ahead = [tape for tape in self._tapes.values() if tape.is_ahead()]
                ahead.sort(key=lambda tape: tape.settled_ns or 0)  # the longest unproven first
                busy = [tape.symbol for tape in ahead[:_AUDITED_AT_ONCE]]
                quiet = [tape.symbol for tape in self._tapes.values() if not tape.is_ahead()]
                self._want_settled(busy, "bulk")
                if "trade" not in self.venue.kinds:
                    quiet = self._longest_unheard()
                try:
                    for ticker in await self._tickers(
                        [symbol for symbol in quiet if self._is_answered(symbol)], "normal"
                    ):
                        self._from_rest(ticker)
                except (Unavailable, BadFrame) as failure:
                    log.debug("%s: audit put off: %s", self.venue.name, failure)

    def _longest_unheard(self) -> list[str]:
        """What a stream without trades is to be compared with: all that is open, or, where calls are dear, some of it.

        Its silence may be a halt, of which only REST tells, or a subscription that was forgotten.
        """
        symbols = dict.fromkeys(want.symbol for want in self._wants if not self._is_idle(want.symbol))
        name = self.venue.name
        oldest = sorted(symbols, key=lambda symbol: self._newest.get(instrument_of(name, symbol), 0))
        return oldest if self.venue.tickers_a_call > 1 else oldest[:_AT_ONCE]

    def _begin_filling(self) -> None:
        gap = self._gap
        if gap is None:
            return
        gap.filling = True
        gap.pending = {i for i, tape in self._tapes.items() if self._is_answered(tape.symbol)}
        gap.ended_ns = self._clock.now_ns()
        if not gap.pending:  # tickers and books have no history to fill
            self._gap = None

    async def _tick(self) -> None:
        policy = self._policy
        then, then_ns = self._clock.monotonic(), self._clock.now_ns()
        share_until = then + _SHARE_S
        while True:
            await self._clock.sleep(_TICK_S)
            now, now_ns = self._clock.monotonic(), self._clock.now_ns()
            late_s = max(now - then, (now_ns - then_ns) / 1e9) - _TICK_S
            then, then_ns = now, now_ns
            session = self._session
            if late_s > _ASLEEP_S:
                # Whatever a socket says of itself now, its peer may be long gone.
                if session is not None:
                    session.lose("slept", {"seconds": round(late_s, 1)})
                await self._wire.close()
                self._backoff.reset()
            if now >= share_until:
                share = self._bad / self._frames if self._frames else 0.0
                if session is not None and self._bad >= 3 and share > policy.bad_share_max:
                    session.lose("unreadable", {"percent": round(100 * share)})
                self._frames = self._bad = 0
                share_until = now + _SHARE_S
            if session is not None and session.awaiting:
                self._name_unserved(session, now)
            if session is not None and self._is_all_closed():
                session.quiet_since = now  # silence counts from the opening
            self._judge()

    def _name_unserved(self, session: _Session, now: float) -> None:
        silent: dict[str, set[Kind]] = {}
        for (kind, instrument), deadline in list(session.awaiting.items()):
            if deadline <= now:
                if self._is_idle(split_instrument(instrument)[1]):
                    session.awaiting[kind, instrument] = now + self._policy.snapshot_timeout_s
                    continue
                del session.awaiting[kind, instrument]
                silent.setdefault(instrument, set()).add(kind)
        for instrument, kinds in silent.items():
            self._unserved.setdefault(instrument, set()).update(kinds)
            values: Values = {"kinds": ", ".join(sorted(kinds)), "seconds": self._policy.snapshot_timeout_s}
            self._tell(instrument, "stale", "no_snapshot", values)
        if silent:
            self._carry_wake.set()

    # ---------------------------------------------------------------- what it says of itself

    def _judge(self) -> None:
        """Derive the state from what is known, and tell when it has changed."""
        now = self._clock.monotonic()
        if not self._wants:
            self._become("closed", "nothing_wanted", {})
        elif self.streaming:
            if self.state not in _STREAMING or self.reason in ("delivers", "markets_closed"):
                self._become("live", "markets_closed" if self._is_all_closed() else "delivers", {})
        elif self._rest_failures < 2 and max(self._rest_ok_at, self._rest_news_at) > max(
            self._down_at, now - self._policy.stale_after_s
        ):
            self._become("fallback", *self._why_down(now))
        elif now - self._news_at < self._policy.stale_after_s:
            self._become("reconnecting", *self._why_down(now))
        else:
            self._become("stale", *self._why_down(now))

    def _why_down(self, now: float) -> tuple[str, Values]:
        session = self._session
        if session is None or not session.delivered:
            return self._trouble
        word = "mute" if self._is_suspect() else "unproven"
        return word, {"seconds": round(now - session.quiet_since, 1)}

    def _become(self, state: FeedState, reason: str, values: Values, gap_filled: bool | None = None) -> None:
        is_news = state != self.state or state == "recovered"
        self.state, self.reason, self.values = state, reason, values
        if not is_news:  # why it is still so may change, quietly
            return
        self.since_ns = self._clock.now_ns()
        self._tell(None, state, reason, values, gap_filled)

    def _tell(
        self, instrument: str | None, state: FeedState, reason: str, values: Values, gap_filled: bool | None = None
    ) -> None:
        self._sink(FeedChanged(instrument, self.venue.name, state, self._clock.now_ns(), reason, gap_filled, values))


_STREAMING = ("live", "recovered")
_TYPES: Mapping[Kind, type[Event]] = {"ticker": Ticker, "trade": Trade, "book": Book, "candle": Candle}
_KINDS: Mapping[type[Event], Kind] = {kind_type: kind for kind, kind_type in _TYPES.items()}


class _Session:
    """One connection, from the dial to its loss."""

    __slots__ = ("asked", "awaiting", "delivered", "lost", "pace", "quiet_since", "refusal")

    def __init__(self, now: float, lost: asyncio.Future[tuple[str, Values]]) -> None:
        self.lost = lost  # why
        self.quiet_since = now  # its last data, or its beginning
        self.delivered = False
        self.asked: set[tuple[Kind, str]] = set()
        self.awaiting: dict[tuple[Kind, str], float] = {}  # subscriptions without a first answer -> until when
        self.refusal: str | None = None  # the venue's own words
        self.pace: Pace | None = None

    def lose(self, reason: str, values: Values) -> None:
        if not self.lost.done():
            self.lost.set_result((reason, values))

    def fail(self, fault: Exception) -> None:
        if not self.lost.done():
            self.lost.set_exception(fault)


class _Gap:
    """A time without the stream, until its trades are filled in."""

    def __init__(self, since_ns: int) -> None:
        self.since_ns = since_ns
        self.ended_ns = since_ns
        self.filling = False
        self.pending: set[str] = set()  # instruments still to be settled
        self.found = 0
        self.whole = True


class _Tape:
    """One symbol's trades: which have passed, and up to when none is missing.

    `settled_ns` is the newest trade of the last comparison with REST that reached back to the one before. Trades
    older than `floor_ns` have passed, or came before the record; ids are kept from there on.
    """

    __slots__ = ("confirmed", "floor_ns", "instrument", "newest_ns", "seen", "settled_ns", "symbol", "whole_since_ns")

    def __init__(self, symbol: str, instrument: str, settled_ns: int | None) -> None:
        self.symbol = symbol
        self.instrument = instrument
        self.settled_ns = settled_ns
        self.whole_since_ns = settled_ns
        self.floor_ns = self.newest_ns = settled_ns or 0
        self.confirmed = False
        self.seen: dict[int | str, int] = {}

    def add(self, trade: Trade) -> bool:
        """Whether this trade has not passed yet; now it has."""
        if trade.event_ns < self.floor_ns or trade.id in self.seen:
            return False
        if self.settled_ns is None:
            self.settled_ns = self.floor_ns = self.whole_since_ns = trade.event_ns
        self.seen[trade.id] = trade.event_ns
        if trade.event_ns > self.newest_ns:
            self.newest_ns = trade.event_ns
        if len(self.seen) > _IDS_MAX:
            self.floor_ns = max(self.floor_ns, self.seen.pop(next(iter(self.seen))) + 1)
        return True

    def settle(self, newest_ns: int | None, hole_until_ns: int | None) -> None:
        """REST and we agree up to here, without a hole since the last time, or with one up to then."""
        self.confirmed = True
        if newest_ns is None or self.settled_ns is None:
            return
        if hole_until_ns is not None:
            self.whole_since_ns = hole_until_ns
        self.settled_ns = max(self.settled_ns, newest_ns)
        self.floor_ns = max(self.floor_ns, self.settled_ns - _SETTLED_AFTER_NS)
        while self.seen:
            oldest = next(iter(self.seen))
            if self.seen[oldest] >= self.floor_ns:
                break
            del self.seen[oldest]

    def is_ahead(self) -> bool:
        """Whether trades have passed since REST last confirmed them."""
        return self.settled_ns is not None and self.newest_ns > self.settled_ns


class _Backoff:
    """Pauses between attempts: none, then doubling from the first to the most, each drawn from its upper half."""

    def __init__(self, first_s: float, most_s: float, rng: Random) -> None:
        self._first_s, self._most_s, self._rng = first_s, most_s, rng
        self._next_s: float | None = None

    def next(self) -> float:
        """The pause before the next attempt, in seconds."""
        if self._next_s is None:
            self._next_s = self._first_s
            return 0.0
        pause_s = self._next_s
        self._next_s = min(2 * pause_s, self._most_s)
        return self._rng.uniform(pause_s / 2, pause_s)

    def reset(self) -> None:
        self._next_s = None


class Pace:
    """Quotas on what we send one by one, each held a quarter second longer, for the network bunches."""

    def __init__(self, quotas: Sequence[Quota], clock: Clock) -> None:
        self._logs = [(quota, deque[float](maxlen=quota.count)) for quota in quotas]
        self._clock = clock

    def wait_s(self) -> float:
        """Seconds until the next may be sent."""
        now = self._clock.monotonic()
        waits = [sent[0] + quota.seconds + 0.25 - now for quota, sent in self._logs if len(sent) == quota.count]
        return max([0.0, *waits])

    def take(self) -> None:
        now = self._clock.monotonic()
        for _, sent in self._logs:
            sent.append(now)


async def _wait(event: asyncio.Event, seconds: float, clock: Clock) -> None:
    """Until the event, or so many of the clock's seconds. No shorter than a timer can be trusted to tell."""
    event.clear()
    if seconds == math.inf:
        await event.wait()
        return
    async with asyncio.TaskGroup() as group:
        either = [group.create_task(event.wait()), group.create_task(clock.sleep(max(seconds, 0.001)))]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        for task in either:
            task.cancel()
