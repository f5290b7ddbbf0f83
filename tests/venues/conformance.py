"""What every venue must do, whoever it is: one suite, which a venue's test subclasses with its own case.

A case brings frames the venue really sends and a small model of its REST side that shares no code with the venue.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from watchhamster.core.instruments import split_instrument
from watchhamster.core.market import Action, Book, Candle, Event, Ticker, Trade, to_json
from watchhamster.core.ports import (
    BadFrame,
    Calendared,
    Distributing,
    Guarded,
    Kind,
    Page,
    Query,
    RateLimited,
    Rejected,
    Request,
    Response,
    Subscription,
    Unavailable,
    UsageError,
    Venue,
    WatchHamsterError,
)
from watchhamster.core.text import Text
from watchhamster.core.timeframes import SECOND_NS, Timeframe, timeframe

EACH_VENUE = (HealthCheck.differing_executors,)  # a test of the suite runs for every venue's class, and that is meant
NASTY = ("0", "-1", "1e400", "1e308", "NaN", "Infinity", "-Infinity", "null", '"x"', "[]", "{}", "true", "1e15", "0.0")


class Case:
    """What the suite needs to know of a venue."""

    venue: Venue
    symbols: Sequence[str]  # known to the model
    frames: Sequence[str]  # data frames: at least a trade, a ticker and a book
    quiet: Sequence[str]  # acknowledgements, statuses
    errors: Sequence[str]  # error objects
    now_ns: int  # of the model; not on a boundary of any timeframe
    trades: Sequence[Trade] = ()  # of the first symbol, oldest first, as the venue would serve them
    actions: Sequence[Action] = ()  # what was done to the first symbol's shares, oldest first
    kinds: Sequence[Kind] = ("ticker", "trade", "book", "candle")  # what the venue offers; the rest it refuses
    tickers_a_call = 100  # symbols
    on_utc_grid = True  # whether candles begin where `Timeframe.open_ns` says

    def serve(self, request: Request) -> Response:
        """The model's answer."""
        raise NotImplementedError

    def candles(self, frame: Timeframe, since_ns: int, until_ns: int) -> list[Candle]:
        """The first symbol's candles that open in the span, as the model has them."""
        raise NotImplementedError

    def asked_since_ns(self, frame: Timeframe) -> int:
        """How far back the candles of a timeframe are asked for."""
        return frame.open_ns(self.now_ns - 450 * frame.approximate_ns)

    def known_until_ns(self, frame: Timeframe) -> int:
        """Where the candle begins that is not over."""
        return frame.open_ns(self.now_ns)


def walk(
    case: Case, page_of: Callable[[str | None, int], Query[Page[Any]]], until_ns: int, since_ns: int
) -> Iterator[Page[Any]]:
    """Pages from `until_ns` back until `since_ns` is known or there is nothing before."""
    cursor: str | None = None
    for _ in range(500):
        query = page_of(cursor, until_ns)
        page = query.parse(case.serve(query.request))
        yield page
        until_ns = min(until_ns, page.since_ns) if page.since_ns < page.until_ns else until_ns
        cursor = page.cursor
        if cursor is None or until_ns <= since_ns:
            return
    raise AssertionError("the pages do not end")


def is_sane(event: Event, venue: Venue, *, on_utc_grid: bool = True) -> None:
    """No event carries what is no price, no size or no time."""
    assert isinstance(event, (Trade, Book, Ticker, Candle))
    name, symbol = split_instrument(event.instrument)
    assert name == venue.name and symbol
    match event:
        case Trade():
            assert 0 < event.price < 1e15 and 0 < event.size < 1e15
            assert event.side in ("buy", "sell")
        case Ticker():
            assert 0 < event.price < 1e15
            assert all(x is None or math.isfinite(x) for x in (event.change, event.change_rate, event.volume_24h))
            assert all(x is None or 0 < x < 1e15 for x in (event.open, event.high, event.low, event.previous_close))
        case Book():
            bids, asks = [p for p, _ in event.bids], [p for p, _ in event.asks]
            assert bids == sorted(set(bids), reverse=True) and asks == sorted(set(asks)) and (bids or asks)
            assert all(0 < x < 1e15 for level in (*event.bids, *event.asks) for x in level)
            assert not bids or not asks or bids[0] < asks[0]
        case Candle():
            assert 0 < event.low <= min(event.open, event.close) <= max(event.open, event.close) <= event.high < 1e15
            assert not on_utc_grid or timeframe(event.timeframe).open_ns(event.open_ns) == event.open_ns
    if not isinstance(event, Candle):
        assert 1_230_768_000 * SECOND_NS <= event.event_ns < 4_102_444_800 * SECOND_NS
    assert json.loads(to_json(event))["kind"] == type(event).__struct_config__.tag


class Conformance:
    """Subclass it as `class TestConformance(Conformance)` with a `case`."""

    case: Case

    def is_sane(self, event: Event) -> None:
        is_sane(event, self.case.venue, on_utc_grid=self.case.on_utc_grid)

    def test_it_says_what_it_has_and_when(self) -> None:
        """What it offers, how many symbols a call takes, and a session that ends later than now, or none at all."""
        case = self.case
        assert set(case.venue.kinds) == set(case.kinds)
        assert case.venue.tickers_a_call == case.tickers_a_call
        session = case.venue.session(case.symbols[0], case.now_ns)
        if session is not None:
            assert session.until_ns is None or session.until_ns > case.now_ns
            assert session.is_open or session.next_open_ns is None or session.next_open_ns > case.now_ns

    def test_its_timings_agree_with_one_another(self) -> None:
        policy = self.case.venue.policy
        assert all(
            value > 0 for name in policy.__struct_fields__ if name.endswith("_s") for value in [getattr(policy, name)]
        )
        assert policy.backoff_first_s <= policy.backoff_max_s
        assert policy.pong_timeout_s <= policy.ping_s
        assert (
            policy.probe_after_s + policy.redial_after_s <= policy.stale_after_s
        )  # mute is found before stale is said
        connects = policy.connects
        assert all(dial.count / dial.seconds <= connects.count / connects.seconds for dial in policy.dials)
        assert all(message.count / message.seconds > 1 / policy.ping_s for message in policy.messages)
        assert 0 < policy.bad_share_max < 1

    def test_an_instrument_is_described_by_its_symbol_alone(self) -> None:
        """For a recording, which cannot be asked: currency and price steps as the venue has them."""
        venue = self.case.venue
        query = venue.markets()
        listed = {info.symbol: info for info in query.parse(self.case.serve(query.request))}
        for symbol in self.case.symbols:
            info = venue.described(symbol)
            assert (info.instrument, info.quote) == (listed[symbol].instrument, listed[symbol].quote)
            assert info.steps == listed[symbol].steps

    def test_what_is_served_of_each_timeframe_ends_in_the_past(self) -> None:
        for name in self.case.venue.timeframes:
            since_ns = self.case.venue.served_since_ns(timeframe(name), self.case.now_ns)
            assert since_ns is None or since_ns < self.case.now_ns - 7 * 86_400 * SECOND_NS

    def test_the_users_word_on_hours_is_taken(self) -> None:
        """A day that is called closed is closed at once, and as before when the word is taken back."""
        venue, symbol = self.case.venue, self.case.symbols[0]
        if isinstance(venue, Calendared):
            calendar = venue.calendar(symbol)
            day = calendar.day(self.case.now_ns)
            venue.keep_hours({symbol: {day: ()}})
            assert venue.calendar(symbol).segments(day) == ()
            venue.keep_hours({calendar.market.code: {day: (("regular", 0, 60),)}})
            (segment,) = venue.calendar(symbol).segments(day)
            assert segment.until_ns - segment.since_ns == 3600 * SECOND_NS
            venue.keep_hours({})
            assert venue.calendar(symbol).segments(day) == calendar.segments(day)

    def test_without_a_pass_it_answers_all_the_same(self) -> None:
        """And whoever was turned away is not asked for one again soon."""
        venue, now_ns = self.case.venue, self.case.now_ns
        if isinstance(venue, Guarded):
            assert venue.admitted is None
            query = venue.admission(now_ns)
            assert query is not None and query.request.group in self.case.venue.quotas
            assert query.request.life_s == 0
            venue.turned_away(Unavailable("none", Text("No.")))
            assert not venue.admitted and str(venue.refusal) == "No."
            assert venue.admission(now_ns) is None and venue.admission(now_ns + 3600 * SECOND_NS) is not None
            self.case.venue.tickers(self.case.symbols[: self.case.venue.tickers_a_call])

    # ------------------------------------------------------------ the stream

    def test_addresses(self) -> None:
        venue = self.case.venue
        assert venue.url.startswith("https://")
        assert venue.stream_url(venue.url).startswith("wss://")
        assert venue.stream_url("http://127.0.0.1:5/x").startswith("ws://")

    def test_a_subscription_is_the_same_for_the_same_wants(self) -> None:
        venue, symbol = self.case.venue, self.case.symbols[0]
        wants = [Subscription(kind, symbol) for kind in self.case.kinds if kind != "candle"]
        frames = venue.subscribe(wants, "ticket")
        assert frames and frames == venue.subscribe(wants, "ticket")
        assert symbol in "".join(frames)
        assert venue.subscribe([*wants, *wants], "ticket") == frames
        assert venue.subscribe([], "ticket") == []
        with pytest.raises(UsageError) as refused:
            venue.subscribe([Subscription("candle", symbol, "7m")], "ticket")
        assert refused.value.code == "bad_timeframe"

    def test_what_it_does_not_offer_is_refused(self) -> None:
        venue, symbol = self.case.venue, self.case.symbols[0]
        asks: dict[Kind, Callable[[], object]] = {
            "book": lambda: venue.books([symbol]),
            "trade": lambda: venue.trades(symbol),
        }
        for kind, ask in asks.items():
            if kind not in self.case.kinds:
                for attempt in (ask, lambda kind=kind: venue.subscribe([Subscription(kind, symbol)], "ticket")):
                    with pytest.raises(UsageError) as refused:
                        attempt()
                    assert refused.value.code == "not_offered"

    def test_frames_become_events_as_text_and_as_bytes(self) -> None:
        kinds = set()
        for frame in self.case.frames:
            events = self.case.venue.decode(frame, 7)
            assert events == self.case.venue.decode(frame.encode(), 7)
            assert events
            for event in events:
                self.is_sane(event)
                kinds.add(type(event))
                assert getattr(event, "received_ns", 7) == 7
        offered = {"trade": Trade, "ticker": Ticker, "book": Book}
        assert {offered[kind] for kind in self.case.kinds if kind in offered} <= kinds

    def test_statuses_are_quiet_and_errors_are_refusals(self) -> None:
        for frame in self.case.quiet:
            assert self.case.venue.decode(frame, None) == []
        for frame in self.case.errors:
            with pytest.raises(Rejected) as refused:
                self.case.venue.decode(frame, None)
            assert refused.value.code and str(refused.value)

    @settings(max_examples=200, suppress_health_check=EACH_VENUE)
    @given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
    def test_noise_is_a_bad_frame(self, noise: bytes | str) -> None:
        self._decodes_or_refuses(noise)

    @settings(max_examples=300, suppress_health_check=EACH_VENUE)
    @given(st.data())
    def test_spoiled_frames_give_nothing_insane(self, data: st.DataObject) -> None:
        frame = data.draw(st.sampled_from(list(self.case.frames))).encode()
        match data.draw(st.sampled_from(("cut", "flip", "value", "drop", "swap"))):
            case "cut":
                frame = frame[: data.draw(st.integers(0, len(frame) - 1))]
            case "flip":
                at = data.draw(st.integers(0, len(frame) - 1))
                frame = frame[:at] + bytes([data.draw(st.integers(0, 255))]) + frame[at + 1 :]
            case how:
                self._decodes_or_refuses(_altered(json.loads(frame), how, data))
                return
        self._decodes_or_refuses(frame)

    def _decodes_or_refuses(self, frame: bytes | str) -> None:
        try:
            events = self.case.venue.decode(frame, None)
        except BadFrame as bad:
            assert bad.reason and len(bad.sample) <= 200
        except Rejected:
            pass
        else:
            for event in events:
                self.is_sane(event)

    # ------------------------------------------------------------ REST

    def queries(self) -> list[Query[Any]]:
        """One of each kind, and candles of each declared timeframe."""
        venue, symbol = self.case.venue, self.case.symbols[0]
        return [
            venue.markets(),
            venue.tickers(self.case.symbols[: self.case.tickers_a_call]),
            *([venue.books(self.case.symbols)] if "book" in self.case.kinds else []),
            *([venue.trades(symbol)] if "trade" in self.case.kinds else []),
            *(
                venue.candles(
                    symbol, timeframe(name), self.case.now_ns - 50 * timeframe(name).approximate_ns, self.case.now_ns
                )
                for name in venue.timeframes
            ),
        ]

    def test_every_query_counts_against_a_declared_quota(self) -> None:
        for query in self.queries():
            quota = self.case.venue.quotas[query.request.group]
            assert quota.count > 0 and quota.seconds > 0
            assert query.request.path.startswith("/")
            assert not any(c in query.request.path for c in "?&% ")

    def test_an_unknown_timeframe_is_refused(self) -> None:
        with pytest.raises(UsageError) as refused:
            self.case.venue.candles(self.case.symbols[0], timeframe("7m"), 0, SECOND_NS)
        assert refused.value.code == "bad_timeframe"

    def test_instruments(self) -> None:
        query = self.case.venue.markets()
        infos = {info.symbol: info for info in query.parse(self.case.serve(query.request))}
        assert set(self.case.symbols) <= set(infos)
        for info in infos.values():
            assert split_instrument(info.instrument) == (self.case.venue.name, info.symbol)
            assert info.base and info.quote and info.base != info.quote and info.names and info.least_total >= 0
            starts = info.steps.starts
            assert starts[0] == 0 and list(starts) == sorted(set(starts)) and len(starts) == len(info.steps.steps)
            assert all(step > 0 for step in info.steps.steps)

    def test_tickers_and_books(self) -> None:
        venue, symbols, most = self.case.venue, self.case.symbols, self.case.tickers_a_call
        queries: list[Query[Any]] = [venue.tickers(symbols[i : i + most]) for i in range(0, len(symbols), most)]
        found: list[list[Ticker | Book]] = [[e for q in queries for e in q.parse(self.case.serve(q.request))]]
        if "book" in self.case.kinds:
            books = venue.books(symbols)
            found.append(list(books.parse(self.case.serve(books.request))))
        for events in found:
            assert [split_instrument(event.instrument)[1] for event in events] == list(symbols)
            for event in events:
                self.is_sane(event)

    def test_candles_of_every_declared_timeframe(self) -> None:
        """All pages together are what the venue has, closed where over, and the rest is known to be empty."""
        venue, symbol, now_ns = self.case.venue, self.case.symbols[0], self.case.now_ns
        for name in venue.timeframes:
            frame = timeframe(name)
            since_ns = self.case.asked_since_ns(frame)

            def page_before(
                _: str | None, until_ns: int, frame: Timeframe = frame, since_ns: int = since_ns
            ) -> Query[Page[Any]]:
                return venue.candles(symbol, frame, since_ns, until_ns)

            pages = list(walk(self.case, page_before, now_ns, since_ns))
            assert pages[0].until_ns == self.case.known_until_ns(frame), name  # the open candle is not known yet
            for later, earlier in pairwise(pages):
                assert earlier.until_ns == later.since_ns
            assert pages[-1].since_ns == since_ns and pages[-1].cursor is None
            found = [candle for page in reversed(pages) for candle in page.rows]
            truth = self.case.candles(frame, since_ns, now_ns)
            assert [msgspec.structs.replace(c, origin="live") for c in found] == truth, name
            assert all(c.origin == "backfill" for c in found)
            if self.case.on_utc_grid:
                assert [c.closed for c in found] == [frame.next_ns(c.open_ns) <= now_ns for c in found]
            grid = venue.grid(symbol)
            for candle in found:
                self.is_sane(candle)
                assert grid.open_ns(frame, candle.open_ns) == candle.open_ns, name
                assert not candle.closed or grid.end_ns(frame, candle.open_ns) <= now_ns, name
            assert grid.settled_ns(frame, now_ns) <= pages[0].until_ns, f"{name}: what has settled, the venue tells"

    def test_what_was_done_to_shares_comes_with_their_candles(self) -> None:
        """On every page what falls in its time, oldest first and of this instrument; alone it is told the same."""
        venue, symbol, now_ns = self.case.venue, self.case.symbols[0], self.case.now_ns
        assert isinstance(venue, Distributing) == bool(self.case.actions), "the model has some, or nobody asks"
        for name in venue.timeframes:
            frame = timeframe(name)
            since_ns = self.case.asked_since_ns(frame)

            def page_before(
                _: str | None, until_ns: int, frame: Timeframe = frame, since_ns: int = since_ns
            ) -> Query[Page[Any]]:
                return venue.candles(symbol, frame, since_ns, until_ns)

            told: set[Action] = set()
            for page in walk(self.case, page_before, now_ns, since_ns):
                assert list(page.actions) == [action for action in self.case.actions if action in page.actions], name
                assert page.adjusted.keys() <= {candle.open_ns for candle in page.rows if candle.closed}, name
                told.update(page.actions)
            assert {action for action in self.case.actions if since_ns <= action.at_ns < now_ns} <= told, name
        if isinstance(venue, Distributing):
            first_ns = self.case.actions[0].at_ns
            query = venue.actions(symbol, first_ns, now_ns)
            assert query.parse(self.case.serve(query.request)) == list(self.case.actions)

    def test_bars_follow_one_another_on_its_grid(self) -> None:
        """Whenever one looks: a bar holds the moments up to the next, is over by then, and lies where there is room."""
        grid = self.case.venue.grid(self.case.symbols[0])
        for name in self.case.venue.timeframes:
            frame = timeframe(name)
            for hours in range(0, 24 * 8, 5):
                at_ns = self.case.now_ns - hours * 3600 * SECOND_NS
                open_ns = grid.open_ns(frame, at_ns)
                end_ns, next_ns = grid.end_ns(frame, open_ns), grid.next_ns(frame, open_ns)
                assert open_ns <= at_ns < next_ns and open_ns < end_ns <= next_ns, name
                assert grid.open_ns(frame, next_ns) == next_ns and grid.open_ns(frame, next_ns - 1) == open_ns, name
                assert grid.settled_ns(frame, at_ns) <= at_ns, name
                assert grid.before_ns(frame, at_ns, 3) < at_ns, name
                room = grid.room(frame, open_ns, next_ns)
                assert all(open_ns <= since_ns < until_ns <= next_ns for since_ns, until_ns in room), name
                assert all(earlier[1] < later[0] for earlier, later in pairwise(room)), name

    def test_trades_page_back_without_a_hole(self) -> None:
        if "trade" not in self.case.kinds:
            return
        venue, symbol = self.case.venue, self.case.symbols[0]
        oldest_ns, newest_ns = self.case.trades[0].event_ns, self.case.trades[-1].event_ns
        for until_ns in (None, newest_ns, newest_ns - 26 * 3600 * SECOND_NS, newest_ns + 1):

            def page_at(cursor: str | None, _: int, until_ns: int | None = until_ns) -> Query[Page[Any]]:
                return venue.trades(symbol, until_ns, cursor)

            pages = list(walk(self.case, page_at, 1 << 62, oldest_ns))
            known = [page for page in pages if page.since_ns < page.until_ns]
            for later, earlier in pairwise(known):
                assert earlier.until_ns >= later.since_ns
            found = {trade.id: trade for page in pages for trade in page.rows}
            truth = {t.id: t for t in self.case.trades if until_ns is None or t.event_ns < until_ns}
            assert found == truth
            assert known[0].until_ns == (newest_ns if until_ns is None else until_ns)
            for page in pages:
                assert page.rows == sorted(page.rows, key=lambda t: (t.event_ns, t.id))

    def test_failures_are_typed(self) -> None:
        html = b"<html><body>Bad gateway</body></html>"
        for query in self.queries():
            for status, body in (
                (500, html),
                (502, b""),
                (200, html),
                (200, b""),
                (302, b""),
                (403, html),
                (404, html),
            ):
                with pytest.raises(Unavailable):
                    query.parse(Response(status, {}, body))
            with pytest.raises(RateLimited) as limited:
                query.parse(Response(429, {"retry-after": "3"}, b"Too many API requests."))
            assert limited.value.retry_after_s == 3 and not limited.value.banned
            with pytest.raises(RateLimited) as banned:
                query.parse(Response(418, {}, b"{}"))
            assert banned.value.banned

    @settings(max_examples=150, suppress_health_check=EACH_VENUE)
    @given(st.data())
    def test_spoiled_answers_give_nothing_insane(self, data: st.DataObject) -> None:
        query = data.draw(st.sampled_from(self.queries()))
        body = self.case.serve(query.request).body
        rows = json.loads(body)
        rows = rows[:3] if isinstance(rows, list) else rows
        spoiled = _altered(rows, data.draw(st.sampled_from(("value", "drop"))), data)
        if data.draw(st.booleans()):
            spoiled = spoiled[: data.draw(st.integers(0, len(spoiled)))]
        try:
            answer = query.parse(Response(200, {}, spoiled))
        except WatchHamsterError:
            return
        for event in answer.rows if isinstance(answer, Page) else answer:
            if isinstance(event, (Trade, Book, Ticker, Candle)):
                self.is_sane(event)


def _altered(value: Any, how: str, data: st.DataObject) -> bytes:
    """The JSON with one leaf replaced by something nasty, or dropped, or a list's elements swapped."""
    places: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        for key, item in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(item, (dict, list)):
                visit(item)
            if how != "swap" or isinstance(item, list):
                places.append((node, key))

    visit(value)
    if not places:
        return json.dumps(value).encode()
    node, key = data.draw(st.sampled_from(places))
    if how == "swap":
        node[key] = node[key][::-1]
    elif how == "drop":
        del node[key]
    else:
        node[key] = "\0nasty\0"
    nasty = data.draw(st.sampled_from(NASTY))
    return json.dumps(value).replace(json.dumps("\0nasty\0"), nasty).encode()
