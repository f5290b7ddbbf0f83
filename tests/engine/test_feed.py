"""What the feed does about each thing that can happen, one at a time, in virtual time."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest

from tests.engine.test_limits import most_in_a_window
from tests.engine.venue_in_memory import Exchange, MemoryVenue
from tests.virtual_time import VirtualClock, run
from watchhamster.core.market import BadFrameSeen, Book, Candle, Event, FeedChanged, Ticker, Trade
from watchhamster.core.ports import FeedPolicy, FrameSink, Kind, RateLimited, Stream, Subscription, UsageError
from watchhamster.core.sessions import Session
from watchhamster.core.text import Text
from watchhamster.engine.feed import FEED_REASONS, Feed
from watchhamster.engine.limits import Limiter
from watchhamster.engine.routing import Caller

BUSY = {"AAA": 5.0}
WANTS = (Subscription("trade", "AAA"), Subscription("ticker", "AAA"), Subscription("book", "AAA"))


class Life:
    """A feed, the exchange it listens to, and what has passed."""

    def __init__(self, clock: VirtualClock, exchange: Exchange, wire: Exchange, policy: FeedPolicy) -> None:
        self.exchange = exchange
        self.events: list[Event] = []
        self.also: Callable[[Event], None] = lambda event: None
        venue = MemoryVenue(policy)
        caller = Caller(venue, wire, Limiter(clock, venue.quotas))
        self.feed = Feed(venue, wire, caller, clock, self._take, random.Random(5))

    def _take(self, event: Event) -> None:
        self.events.append(event)
        self.also(event)

    def told(self, instrument: str | None = None) -> list[tuple[str, str]]:
        changes = [e for e in self.events if isinstance(e, FeedChanged) and e.instrument == instrument]
        for change in changes:
            assert FEED_REASONS[change.reason].format(**change.values)
        return [(change.state, change.reason) for change in changes]

    def ids(self) -> list[int | str]:
        return [event.id for event in self.events if isinstance(event, Trade)]

    def true_ids(self, symbol: str = "AAA") -> list[int | str]:
        """What really traded since the first trade that passed."""
        ids = [trade.id for trade in self.exchange.trades[symbol]]
        instrument = f"memory:{symbol}"
        first = next(e.id for e in self.events if isinstance(e, Trade) and e.instrument == instrument)
        return ids[ids.index(first) :]


@asynccontextmanager
async def life(
    clock: VirtualClock,
    rates: Mapping[str, float] = BUSY,
    wants: Sequence[Subscription] = WANTS,
    *,
    wire: type[Exchange] = Exchange,
    policy: FeedPolicy | None = None,
    resume: Mapping[str, int] | None = None,
    history_s: float = 0.0,
) -> AsyncIterator[Life]:
    """Trade for `history_s`, then feed until the block ends."""
    exchange = wire(clock, 11, rates)
    async with asyncio.TaskGroup() as tasks:
        trading = tasks.create_task(exchange.trade())
        await clock.sleep(history_s)
        lived = Life(clock, exchange, exchange, policy or FeedPolicy())
        lived.feed.set_wants(wants, resume)
        feeding = tasks.create_task(lived.feed.run())
        try:
            yield lived
        finally:
            trading.cancel()
            feeding.cancel()


def test_an_unknown_symbol_is_named_and_does_not_harm_the_others() -> None:
    async def main(clock: VirtualClock) -> None:
        wants = (*WANTS, Subscription("ticker", "NOPE"), Subscription("trade", "NOPE"))
        async with life(clock, wants=wants) as lived:
            await clock.sleep(9)
            assert lived.told("memory:NOPE") in ([], [("stale", "market_refused")])
            await clock.sleep(3)
            assert ("stale", "no_snapshot") in lived.told("memory:NOPE")
            assert lived.feed.unserved == {"memory:NOPE": ["ticker", "trade"]}
            assert lived.feed.state == "live"
            assert lived.feed.delivers("ticker", "memory:AAA")
            assert not lived.feed.delivers("ticker", "memory:NOPE")
            lived.feed.set_wants(WANTS)
            assert lived.feed.unserved == {}

    run(main)


def test_what_the_stream_does_not_serve_is_carried_by_rest() -> None:
    class Forgetful(Exchange):
        def subscribed(self, stream, wants):  # type: ignore[no-untyped-def]
            super().subscribed(stream, [want for want in wants if want.symbol != "BBB"])

    async def main(clock: VirtualClock) -> None:
        rates = {"AAA": 5.0, "BBB": 2.0}
        wants = (*WANTS, Subscription("ticker", "BBB"), Subscription("trade", "BBB"))
        async with life(clock, rates, wants, wire=Forgetful) as lived:
            await clock.sleep(12)
            seen = len([e for e in lived.events if isinstance(e, Ticker) and e.instrument == "memory:BBB"])
            await clock.sleep(10)
            now = len([e for e in lived.events if isinstance(e, Ticker) and e.instrument == "memory:BBB"])
            assert now >= seen + 8
            assert lived.feed.unserved == {"memory:BBB": ["ticker", "trade"]}
            passed = [e.id for e in lived.events if isinstance(e, Trade) and e.instrument == "memory:BBB"]
            assert set(lived.true_ids("BBB")[-20:-4]) <= set(passed)

    run(main)


def test_rest_carries_a_feed_whose_stream_never_worked() -> None:
    async def main(clock: VirtualClock) -> None:
        async with life(clock) as lived:
            lived.exchange.refuse = "hang"
            await clock.sleep(20)
            assert lived.feed.state == "fallback"
            assert lived.feed.reason == "dial_failed"
            assert lived.ids()[-1] in lived.true_ids()[-6:]
            for kind in (Ticker, Book):
                assert len([event for event in lived.events if isinstance(event, kind)]) >= 20

    run(main)


def test_a_quiet_market_is_not_taken_for_a_dead_stream() -> None:
    async def main(clock: VirtualClock) -> None:
        async with life(clock, {"AAA": 0.01}) as lived:
            lived.exchange.print_trade("AAA")
            await clock.sleep(300)
            assert lived.feed.dials == 1
            assert [state for state, _ in lived.told()] in (["live"], ["reconnecting", "live"], ["fallback", "live"])
            probes = [at for at, group, _ in lived.exchange.calls if group == "ticker"]
            assert most_in_a_window(probes, 1.0) <= 2

    run(main)


def test_a_stream_of_candles_alone_is_judged_too() -> None:
    async def main(clock: VirtualClock) -> None:
        async with life(clock, {"AAA": 0.001}, [Subscription("candle", "AAA", "1m")]) as lived:
            await clock.sleep(1)
            traded = lived.exchange.print_trade("AAA")
            (stream,) = lived.exchange.streams
            candle = Candle("memory:AAA", "1m", traded.event_ns, 1, 1, 1, 1, 1, 1, False, "live")
            stream.push(msgspec.json.encode([candle]))
            assert lived.feed.delivers("candle", "memory:AAA")
            await clock.sleep(60)
            assert (lived.feed.dials, lived.feed.state) == (1, "live")
            lived.exchange.print_trade("AAA")  # and the stream says nothing of it
            await clock.sleep(5)
            assert lived.feed.dials == 2

    run(main)


def test_a_mute_stream_is_found_and_replaced_within_three_seconds() -> None:
    async def main(clock: VirtualClock) -> None:
        async with life(clock) as lived:
            await clock.sleep(5)
            next(iter(lived.exchange.streams)).mute = True
            await clock.sleep(3)
            assert ("fallback", "mute") in lived.told()
            assert lived.feed.dials == 2
            await clock.sleep(2)
            assert lived.told()[-1] == ("recovered", "gap_filled")

    run(main)


@pytest.mark.parametrize(("share", "redials"), [(0.005, False), (0.5, True)])
def test_unreadable_frames_are_counted_and_kept_and_only_many_cost_the_connection(share: float, redials: bool) -> None:
    async def main(clock: VirtualClock) -> None:
        async with life(clock, {"AAA": 20.0}) as lived:
            await clock.sleep(2)
            rng, (stream,) = random.Random(1), lived.exchange.streams
            inner: FrameSink = stream.on_frame
            stream.on_frame = lambda frame: inner(b"<html>" * 100 if rng.random() < share else frame)
            await clock.sleep(12)
            seen = [event for event in lived.events if isinstance(event, BadFrameSeen)]
            assert 0 < len(seen) <= lived.feed.bad_frames
            assert seen[0].sample == ("<html>" * 100)[:200]
            assert seen[0].venue == "memory"
            assert 0 < len(lived.feed.bad_samples) <= 20
            assert (lived.feed.dials > 1) == redials
            assert (("reconnecting", "unreadable") in lived.told()) == redials

    run(main)


def test_a_time_from_the_future_is_unreadable_and_poisons_nothing() -> None:
    async def main(clock: VirtualClock) -> None:
        async with life(clock) as lived:
            await clock.sleep(2)
            (stream,) = lived.exchange.streams
            future_ns = clock.now_ns() + 10**18
            trade = msgspec.structs.replace(lived.exchange.trades["AAA"][-1], id=1, event_ns=future_ns)
            ticker = msgspec.structs.replace(lived.exchange.ticker("AAA"), event_ns=future_ns, trade_ns=future_ns)
            stream.push(msgspec.json.encode([trade, ticker]))
            await clock.sleep(20)
            assert lived.feed.bad_frames == 2
            assert all(e.event_ns < future_ns for e in lived.events if isinstance(e, Trade | Ticker))
            assert lived.events[-2].event_ns > clock.now_ns() - 3e9  # type: ignore[union-attr]

    run(main)


def test_an_error_the_venue_sends_is_told_in_its_words() -> None:
    async def main(clock: VirtualClock) -> None:
        async with life(clock) as lived:
            await clock.sleep(2)
            (stream,) = lived.exchange.streams
            stream.push(b"refused")
            stream.end("closed (1000)")
            await clock.sleep(1)
            changes = [e for e in lived.events if isinstance(e, FeedChanged) and e.state == "reconnecting"]
            assert (changes[-1].reason, changes[-1].values) == ("refused", {"why": "WRONG_FORMAT"})

    run(main)


def test_messages_the_server_left_out_are_found_by_the_audit() -> None:
    async def main(clock: VirtualClock) -> None:
        async with life(clock) as lived:
            await clock.sleep(5)
            lived.exchange.mangle = "lossy"
            await clock.sleep(30)
            lived.exchange.mangle = None
            await clock.sleep(13)
            assert set(lived.true_ids()[:-2]) <= set(lived.ids())
            assert len(lived.ids()) == len(set(lived.ids()))
            assert ("recovered", "left_out_filled") in lived.told("memory:AAA")
            assert lived.feed.filled > 10
            assert lived.feed.dials == 1

    run(main)


def test_wants_that_change_together_are_one_message_and_no_quota_is_crossed() -> None:
    async def main(clock: VirtualClock) -> None:
        rates = {f"S{i}": 0.5 for i in range(40)}
        async with life(clock, rates, [Subscription("ticker", "S0")]) as lived:
            await clock.sleep(2)
            for i in range(40):
                lived.feed.set_wants([Subscription("ticker", f"S{j}") for j in range(i + 1)])
            await clock.sleep(2)
            (stream,) = lived.exchange.streams
            assert len(stream.sent) == 2
            for i in range(600):  # someone clicks through the list for a minute
                lived.feed.set_wants([Subscription("ticker", f"S{i % 40}")])
                await clock.sleep(0.1)
            await clock.sleep(3)
            for each in lived.exchange.all_streams:  # the quota is a connection's
                assert most_in_a_window(each.sent, 1.0) <= 5
                assert most_in_a_window(each.sent, 60.0) <= 100
            (stream,) = lived.exchange.streams
            assert stream.wants == {("ticker", "S39")}
            assert lived.feed.dials <= 4

    run(main)


def test_with_nothing_wanted_there_is_no_connection() -> None:
    async def main(clock: VirtualClock) -> None:
        async with life(clock) as lived:
            await clock.sleep(2)
            lived.feed.set_wants([])
            await clock.sleep(2)
            assert (lived.feed.state, lived.feed.reason) == ("closed", "nothing_wanted")
            assert not lived.exchange.streams
            calls = len(lived.exchange.calls)
            await clock.sleep(60)
            assert len(lived.exchange.calls) == calls
            lived.feed.set_wants(WANTS)
            await clock.sleep(1)
            assert lived.feed.state == "recovered"

    run(main)


def test_a_start_fills_in_what_came_since_the_last_run() -> None:
    async def main(clock: VirtualClock) -> None:
        since_ns = clock.now_ns() + 30_000_000_000
        async with life(clock, history_s=120, resume={"memory:AAA": since_ns}) as lived:
            await clock.sleep(5)
            due = [trade.id for trade in lived.exchange.trades["AAA"] if trade.event_ns >= since_ns]
            assert set(due[:-2]) <= set(lived.ids()) <= set(due)
            recovered = [e for e in lived.events if isinstance(e, FeedChanged) and e.state == "recovered"]
            assert [(e.gap_filled, e.values["since_ns"]) for e in recovered] == [(True, since_ns)]
            assert lived.feed.whole_since_ns("memory:AAA") == since_ns
            assert lived.feed.whole_until_ns("memory:AAA") is not None

    run(main)


def test_a_gap_longer_than_the_history_is_said_to_be_open() -> None:
    class Short(Exchange):
        """Keeps the last hundred trades only."""

        def _answer(self, request):  # type: ignore[no-untyped-def]
            status, body = super()._answer(request)
            if request.group == "trade":
                page = msgspec.json.decode(body)
                body = msgspec.json.encode({**page, "cursor": None})
            return status, body

    async def main(clock: VirtualClock) -> None:
        since_ns = clock.now_ns()
        async with life(clock, wire=Short, history_s=120, resume={"memory:AAA": since_ns}) as lived:
            await clock.sleep(5)
            recovered = [e for e in lived.events if isinstance(e, FeedChanged) and e.state == "recovered"]
            assert [(e.gap_filled, e.reason) for e in recovered] == [(False, "gap_open")]
            whole_ns = lived.feed.whole_since_ns("memory:AAA")
            assert whole_ns is not None
            due = [trade.id for trade in lived.exchange.trades["AAA"] if trade.event_ns >= whole_ns]
            assert set(due[:-2]) <= set(lived.ids())

    run(main)


def test_a_fault_of_ours_is_shown_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    async def main(clock: VirtualClock) -> None:
        async with life(clock) as lived:
            await clock.sleep(3)

            def stumble(event: Event) -> None:
                if isinstance(event, Trade):
                    lived.also = lambda event: None
                    raise ZeroDivisionError("in a rule")

            lived.also = stumble
            await clock.sleep(15)
            assert ("closed", "crashed") in lived.told()
            assert lived.feed.state in ("live", "recovered")
            assert set(lived.true_ids()[:-2]) <= set(lived.ids())

    with caplog.at_level(logging.ERROR):
        run(main)
    assert "ZeroDivisionError: in a rule" in caplog.text
    caplog.clear()


def test_under_overload_states_are_conflated_and_trades_are_not() -> None:
    async def main(clock: VirtualClock) -> None:
        async with life(clock, {"AAA": 200.0}) as lived:
            await clock.sleep(1)
            lived.also = lambda event: clock.advance(0.004)  # four milliseconds of work for each
            await clock.sleep(10)
            lived.also = lambda event: None
            await clock.sleep(11)
            assert lived.feed.conflated > 100
            assert set(lived.true_ids()[:-10]) <= set(lived.ids())
            assert len(lived.ids()) == len(set(lived.ids()))
            tickers = [event.event_ns for event in lived.events if isinstance(event, Ticker)]
            assert tickers == sorted(tickers)
            assert tickers[-1] >= lived.exchange.trades["AAA"][-20].event_ns

    run(main)


@pytest.mark.parametrize("by", ["both clocks", "the wall clock"])
def test_after_a_sleep_every_socket_is_dropped_and_the_time_is_filled(by: str) -> None:
    async def main(clock: VirtualClock) -> None:
        async with life(clock) as lived:
            await clock.sleep(5.5)
            (before,) = lived.exchange.streams
            if by == "both clocks":
                clock.advance(3600)
            else:
                clock.step(3600)
            await clock.sleep(2)
            assert before.over.done()
            assert any(reason == "slept" for _, reason in lived.told())
            await clock.sleep(2)
            assert lived.told()[-1] == ("recovered", "gap_filled")

    run(main)


def test_a_handshake_refused_as_too_frequent_is_not_repeated_within_the_told_time() -> None:
    class Strict(Exchange):
        async def open(self, url: str, on_frame: FrameSink, *, timeout_s: float) -> Stream:  # type: ignore[override]
            if self.now() < 10:
                self.dialled.append(self.now())
                raise RateLimited("rate_limited", Text("too often"), retry_after_s=6.0)
            return await super().open(url, on_frame, timeout_s=timeout_s)

    async def main(clock: VirtualClock) -> None:
        async with life(clock, wire=Strict) as lived:
            await clock.sleep(20)
            first, second, third = lived.exchange.dialled
            assert 6.0 <= second - first < 7.0
            assert 6.0 <= third - second < 7.0
            assert lived.feed.state in ("live", "recovered")
            assert ("fallback", "dial_refused") in lived.told()

    run(main)


def test_trades_can_be_settled_on_demand() -> None:
    """What closes the bar of a quiet instrument: REST says that nothing has traded which has not passed."""

    async def main(clock: VirtualClock) -> None:
        async with life(clock) as lived:
            await clock.sleep(3)
            (stream,) = lived.exchange.streams
            stream.mute = True
            hidden = lived.exchange.print_trade("AAA")
            await lived.feed.settle("memory:AAA")
            assert hidden.id in lived.ids()
            until_ns = lived.feed.whole_until_ns("memory:AAA")
            assert until_ns is not None
            assert until_ns >= hidden.event_ns

    run(main)


def test_an_instrument_taken_up_later_is_filled_from_its_moment_too() -> None:
    async def main(clock: VirtualClock) -> None:
        since_ns = clock.now_ns() + 20_000_000_000
        rates = {"AAA": 3.0, "BBB": 3.0}
        async with life(clock, rates, history_s=60) as lived:
            await clock.sleep(5)
            wants = (*WANTS, Subscription("trade", "BBB"))
            lived.feed.set_wants(wants, {"memory:BBB": since_ns})
            await clock.sleep(2)
            due = [trade.id for trade in lived.exchange.trades["BBB"] if trade.event_ns >= since_ns]
            passed = {e.id for e in lived.events if isinstance(e, Trade) and e.instrument == "memory:BBB"}
            assert set(due[:-2]) <= passed <= set(due)

    run(main)


def test_what_the_venue_cannot_stream_is_refused_at_once_and_changes_nothing() -> None:
    class Choosy(MemoryVenue):
        def subscribe(self, wants: Sequence[Subscription], ticket: str) -> list[str]:
            if any(want.kind == "candle" for want in wants):
                raise UsageError("bad_timeframe", Text("no candles here"))
            return super().subscribe(wants, ticket)

    async def main(clock: VirtualClock) -> None:
        venue, exchange = Choosy(), Exchange(clock, 1, BUSY)
        caller = Caller(venue, exchange, Limiter(clock, venue.quotas))
        feed = Feed(venue, exchange, caller, clock, lambda event: None, random.Random(1))
        feed.set_wants(WANTS)
        with pytest.raises(UsageError):
            feed.set_wants([*WANTS, Subscription("candle", "AAA", "1m")])
        assert feed.whole_since_ns("memory:AAA") is None
        feed.set_wants(WANTS)

    run(main)


def test_a_closed_market_is_asked_about_once_and_its_silence_is_no_trouble() -> None:
    class Shut(MemoryVenue):
        kinds: tuple[Kind, ...] = ("ticker", "candle")
        opens_ns = 0

        def session(self, symbol: str, now_ns: int) -> Session | None:
            if now_ns < self.opens_ns:
                return Session("closed", self.opens_ns, self.opens_ns)
            return Session("regular", None, None)

    async def main(clock: VirtualClock) -> None:
        exchange = Exchange(clock, 1, {"AAA": 1.0})
        venue, events = Shut(), list[Event]()
        exchange.print_trade("AAA")  # the last before the close
        venue.opens_ns = clock.now_ns() + 600 * 10**9
        caller = Caller(venue, exchange, Limiter(clock, venue.quotas))
        feed = Feed(venue, exchange, caller, clock, events.append, random.Random(1))
        feed.set_wants([Subscription("ticker", "AAA")])
        async with asyncio.TaskGroup() as tasks:
            feeding = tasks.create_task(feed.run())
            await clock.sleep(5)
            asked = len(exchange.calls)
            assert asked <= 2
            await clock.sleep(580)
            assert (feed.state, feed.reason) == ("live", "markets_closed")
            assert (len(exchange.calls), len(exchange.dialled), feed.unserved) == (asked, 1, {})
            assert [event.state for event in events if isinstance(event, FeedChanged)][-1] == "live"
            trading = tasks.create_task(exchange.trade())
            await clock.sleep(30)
            assert (feed.state, feed.reason, feed.dials) == ("live", "delivers", 1)
            assert feed.delivers("ticker", "memory:AAA")
            trading.cancel()
            feeding.cancel()

    run(main)
