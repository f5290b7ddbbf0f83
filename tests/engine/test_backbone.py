"""The library face: it picks the way, it loses no trade unsaid, and it leaves nothing behind."""

from __future__ import annotations

import random
from decimal import Decimal

import msgspec
import pytest

from tests.engine.venue_in_memory import Exchange, MemoryVenue
from tests.virtual_time import VirtualClock, run
from watchhamster.core.instruments import InstrumentInfo, PriceSteps
from watchhamster.core.market import Book, Event
from watchhamster.core.ports import Query, Request, Response, Unavailable, UsageError
from watchhamster.engine.backbone import TRADES_WAITING_MAX, MarketDataBackbone, VenueParts


def backbone_of(
    clock: VirtualClock, rates: dict[str, float], seen: list[Event] | None = None
) -> tuple[MarketDataBackbone, Exchange]:
    exchange = Exchange(clock, 3, rates)
    backbone = MarketDataBackbone(
        {"memory": VenueParts(MemoryVenue(), exchange)},
        clock=clock,
        rng=random.Random(1),
        observe=seen.append if seen is not None else None,
    )
    return backbone, exchange


def test_a_value_that_is_streamed_is_not_asked_for_and_any_other_is() -> None:
    async def main(clock: VirtualClock) -> None:
        backbone, exchange = backbone_of(clock, {"AAA": 1.0})
        exchange.print_trade("AAA")
        async with backbone:
            assert (await backbone.get_ticker("AAA")).instrument == "memory:AAA"
            assert (await backbone.get_order_book("memory:AAA")).snapshot
            assert [group for _, group, _ in exchange.calls] == ["ticker", "orderbook"]

            tickers = backbone.stream_tickers("AAA")
            first = await anext(tickers)
            await clock.sleep(1)
            asked = len(exchange.calls)
            assert await backbone.get_ticker("AAA") == first
            assert len(exchange.calls) == asked

            next(iter(exchange.streams)).mute = True
            newer = exchange.print_trade("AAA")
            await clock.sleep(1.45)
            exchange.deaf = True
            await clock.sleep(0.5)  # now the stream is known to be mute
            assert (await backbone.get_ticker("AAA")).price == newer.price
            await tickers.aclose()
            await clock.sleep(1)
            assert not exchange.streams  # nobody listens any more
            assert backbone.board.ticker("memory:AAA") is None

    run(main)


def test_trades_reach_every_iterator_once_through_a_loss() -> None:
    async def main(clock: VirtualClock) -> None:
        seen: list[Event] = []
        backbone, exchange = backbone_of(clock, {"AAA": 1.0}, seen)
        exchange.print_trade("AAA")
        async with backbone:
            one, two = backbone.stream_trades("AAA"), backbone.stream_trades("memory:AAA")
            first = await anext(one)
            await clock.sleep(1)
            (stream,) = exchange.streams
            stream.end("close1006")
            missed = [exchange.print_trade("AAA") for _ in range(3)]
            got = [await anext(one) for _ in missed]
            assert [trade.id for trade in got] == [trade.id for trade in missed]
            assert first.id not in [trade.id for trade in got]
            later = exchange.print_trade("AAA")
            assert (await anext(two)).id == later.id  # it began only now
            await one.aclose()
            await two.aclose()
        assert len(seen) >= 5

    run(main)


def test_a_reader_that_falls_too_far_behind_is_told_and_a_slow_one_of_states_sees_the_latest() -> None:
    async def main(clock: VirtualClock) -> None:
        backbone, exchange = backbone_of(clock, {"AAA": 1.0})
        exchange.print_trade("AAA")
        async with backbone:
            trades, tickers = backbone.stream_trades("AAA"), backbone.stream_tickers("AAA")
            before = await anext(trades)
            await anext(tickers)
            await clock.sleep(1)
            printed = [exchange.print_trade("AAA") for _ in range(TRADES_WAITING_MAX + 5)]
            assert (await anext(tickers)).price == printed[-1].price
            got = []
            with pytest.raises(Unavailable) as slow:
                while True:
                    got.append(await anext(trades))
            assert slow.value.code == "too_slow"
            assert [t.id for t in got] == [t.id for t in printed[:TRADES_WAITING_MAX]]
            assert before.id not in {trade.id for trade in got}
            await tickers.aclose()

    run(main)


def test_leaving_ends_the_iterators_and_hands_on_what_the_block_raised() -> None:
    async def main(clock: VirtualClock) -> None:
        backbone, exchange = backbone_of(clock, {"AAA": 1.0})
        exchange.print_trade("AAA")
        with pytest.raises(ZeroDivisionError):
            async with backbone:
                trades = backbone.stream_trades("AAA")
                await anext(trades)
                raise ZeroDivisionError
        assert [trade async for trade in trades] == []
        assert not exchange.streams

    run(main)


def test_an_unknown_venue_or_symbol_is_refused_by_name() -> None:
    async def main(clock: VirtualClock) -> None:
        backbone, _ = backbone_of(clock, {"AAA": 1.0})
        async with backbone:
            with pytest.raises(UsageError, match="'nowhere' is not a venue") as refusal:
                await backbone.get_ticker("nowhere:AAA")
            assert refusal.value.code == "unknown_venue"
            with pytest.raises(UsageError):
                await backbone.find_arbitrage_opportunities(["memory", "nowhere"])

    run(main)


class Shop(MemoryVenue):
    """A venue with a list of markets."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def markets(self) -> Query[list[InstrumentInfo]]:
        def parse(response: Response) -> list[InstrumentInfo]:
            return msgspec.json.decode(response.body, type=list[InstrumentInfo])

        return Query(Request("/markets", {}, "ticker"), parse)


class Window(Exchange):
    """A shop's wire: fixed books. `prices`: pair -> best bid, best ask."""

    def __init__(self, clock: VirtualClock, name: str, prices: dict[tuple[str, str], tuple[float, float]]) -> None:
        super().__init__(clock, 1, {})
        self.name, self.prices = name, prices

    async def request(self, request: Request) -> Response:
        steps = PriceSteps((Decimal(0),), (Decimal("0.01"),))
        answer: object = [
            InstrumentInfo(f"{self.name}:{base}{quote}", base + quote, base, quote, {}, steps, Decimal(0))
            for base, quote in self.prices
        ]
        if request.path != "/markets":
            wanted = request.params["symbols"].split(",")
            answer = [
                Book(f"{self.name}:{base}{quote}", self.clock.now_ns(), None, True, [(bid, 2.0)], [(ask, 3.0)])
                for (base, quote), (bid, ask) in self.prices.items()
                if base + quote in wanted
            ]
        return Response(200, {}, msgspec.json.encode(answer))


def test_arbitrage_is_what_pays_after_both_fees_and_needs_two_venues() -> None:
    async def main(clock: VirtualClock) -> None:
        here = {("BTC", "KRW"): (100.0, 100.1), ("ETH", "KRW"): (50.0, 50.1), ("XRP", "KRW"): (1.0, 1.1)}
        there = {("BTC", "KRW"): (101.0, 101.1), ("ETH", "KRW"): (50.15, 50.2), ("XRP", "BTC"): (9.0, 9.1)}
        parts = {
            name: VenueParts(Shop(name), Window(clock, name, prices), fee=0.001)
            for name, prices in (("here", here), ("there", there))
        }
        async with MarketDataBackbone(parts, clock=clock, rng=random.Random(1)) as backbone:
            (chance,) = await backbone.find_arbitrage_opportunities(["here", "there"])
            assert (chance.buy, chance.sell) == ("here:BTCKRW", "there:BTCKRW")
            assert (chance.buy_price, chance.sell_price, chance.size) == (100.1, 101.0, 2.0)
            assert chance.profit == pytest.approx((101.0 * 0.999 - 100.1 * 1.001) * 2.0)
            assert await backbone.find_arbitrage_opportunities(["here"]) == []

    run(main)
