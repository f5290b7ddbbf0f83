"""The mailbox: what may be overwritten, what must not be lost, who is told, and what becomes of errands."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from tests.ui.conftest import Drive, errands, settled
from tests.ui.fakes import NOW_NS, FakeEngine, feed_down
from watchhamster.core.market import Candle, Ticker
from watchhamster.core.ports import Unavailable
from watchhamster.core.text import Text
from watchhamster.ui.bridge import OCCURRENCES_MAX, Bridge, News, Occurrence

BTC = "upbit:KRW-BTC"


def candle(price: float, *, closed: bool = False, revision: int = 0) -> Candle:
    return Candle(BTC, "1m", NOW_NS, price, price, price, price, 1.0, price, closed, "live", revision)


def ticker(price: float) -> Ticker:
    return Ticker(BTC, NOW_NS, NOW_NS, price, None, None, None, None, None, None, None, None)


@pytest.fixture
def view(qtbot: QtBot) -> QWidget:
    widget = QWidget()
    qtbot.addWidget(widget)
    widget.show()
    return widget


def test_a_thousand_tickers_are_one_for_the_view(view: QWidget) -> None:
    bridge, got = Bridge(), list[News]()
    bridge.show_to(view, got.append, "tables")
    for i in range(1000):
        bridge.receive(ticker(float(i)))
    bridge.beat()
    bridge.beat()
    assert [news.tickers[BTC].price for news in got] == [999.0]
    bridge.beat()
    bridge.beat()
    assert got[-1].tickers == {}  # nothing is told twice


def test_chart_and_tables_take_turns(view: QWidget) -> None:
    bridge, turns = Bridge(), list[str]()
    bridge.show_to(view, lambda _news: turns.append("chart"), "chart")
    bridge.show_to(view, lambda _news: turns.append("tables"), "tables")
    for _beat in range(4):
        bridge.beat()
    assert turns == ["chart", "tables", "chart", "tables"]


def test_closed_candles_all_arrive_in_order_and_a_flood_says_so(view: QWidget) -> None:
    bridge, got = Bridge(), list[News]()
    bridge.show_to(view, got.append, "chart")
    bridge.receive(candle(1, closed=True))
    bridge.receive(candle(2))
    bridge.receive(candle(3, closed=True, revision=1))
    bridge.receive(candle(4))
    bridge.beat()
    assert [c.close for c in got[0].closed[BTC, "1m"]] == [1, 3]
    assert got[0].candles[BTC, "1m"].close == 4
    for i in range(OCCURRENCES_MAX + 1):
        bridge.receive(candle(i, closed=True))
    bridge.beat()
    bridge.beat()
    assert got[1].flooded == {(BTC, "1m")}


def test_a_hidden_view_is_left_alone_and_refreshed_when_it_is_seen_again(view: QWidget) -> None:
    bridge, got, refreshed = Bridge(), list[News](), list[int]()
    bridge.show_to(view, got.append, "chart", lambda: refreshed.append(1))
    bridge.beat()
    assert (len(got), len(refreshed)) == (1, 1)
    view.hide()
    for _beat in range(6):
        bridge.beat()
    assert len(got) == 1
    view.show()
    bridge.beat()
    bridge.beat()
    assert (len(got), len(refreshed)) == (2, 2)


def test_a_minimised_window_costs_nothing(view: QWidget) -> None:
    bridge, got = Bridge(), list[News]()
    bridge.show_to(view, got.append, "chart")
    view.showMinimized()
    bridge.beat()
    assert got == []


def test_occurrences_reach_listeners_even_when_nothing_is_seen(engine: FakeEngine) -> None:
    bridge, got = Bridge(), list[tuple[list[Occurrence], bool]]()
    bridge.listen(lambda happened, missed: got.append((happened, missed)))
    bridge.receive(engine.alert(1))
    bridge.receive(feed_down())
    bridge.beat()
    bridge.beat()
    assert [len(happened) for happened, _missed in got] == [2]
    assert got[0][1] is False


def test_more_occurrences_than_fit_say_that_some_were_missed(engine: FakeEngine) -> None:
    bridge, got = Bridge(), list[tuple[list[Occurrence], bool]]()
    bridge.listen(lambda happened, missed: got.append((happened, missed)))
    for i in range(OCCURRENCES_MAX + 50):
        bridge.receive(engine.alert(i + 1))
    bridge.beat()
    bridge.beat()
    assert [(len(happened), missed) for happened, missed in got] == [(OCCURRENCES_MAX, True)]
    bridge.receive(engine.alert(1000))
    bridge.beat()
    bridge.beat()
    assert got[-1][1] is False


def test_the_heartbeat_notices_a_stalled_loop(drive: Drive[Any]) -> None:
    bridge = Bridge()

    async def stall() -> None:
        import time

        await asyncio.sleep(0.1)
        time.sleep(0.15)  # noqa: ASYNC251
        await asyncio.sleep(0.1)

    bridge.start()
    drive(stall())
    bridge.stop()
    assert bridge.lateness.max_ms > 100
    assert 0 <= bridge.lateness.p99_ms() <= bridge.lateness.max_ms


def test_an_answer_goes_nowhere_once_its_widget_is_gone(drive: Drive[Any]) -> None:
    async def case() -> None:
        async with errands() as (work, told):
            gate, got = asyncio.Event(), list[int]()

            async def answer() -> int:
                await gate.wait()
                return 7

            staying, going = QWidget(), QWidget()
            work.run(staying, answer(), got.append)
            work.run(going, answer(), got.append)
            going.deleteLater()
            await asyncio.sleep(0.05)
            gate.set()
            await settled(work)
            assert got == [7]
            assert told == []

    drive(case())


def test_a_failed_errand_is_told_and_spares_the_others(drive: Drive[Any]) -> None:
    async def case() -> None:
        async with errands() as (work, told):
            owner, failures, got = QWidget(), list[Exception](), list[int]()

            async def fail() -> int:
                raise Unavailable("away", Text("Nobody answers."))

            async def succeed() -> int:
                await asyncio.sleep(0)
                return 1

            work.run(owner, fail(), got.append)
            work.run(owner, fail(), got.append, failures.append)
            work.run(owner, succeed(), got.append)
            await settled(work)
            assert (len(told), len(failures), got) == (1, 1, [1])

    drive(case())


def test_a_callback_that_fails_spares_the_others_too(drive: Drive[Any]) -> None:
    async def case() -> None:
        async with errands() as (work, told):
            owner, got = QWidget(), list[int]()

            async def answer() -> int:
                return 1

            async def fail() -> int:
                raise Unavailable("away", Text("Nobody answers."))

            def break_down(_anything: object) -> None:
                raise ValueError("our fault")

            work.run(owner, answer(), break_down)
            work.run(owner, fail(), None, break_down)
            work.run(owner, answer(), got.append)
            await settled(work)
            assert [str(error) for error in told] == ["our fault", "our fault"]
            assert got == [1]

    drive(case())


def test_closing_ends_what_still_runs(drive: Drive[Any]) -> None:
    async def case() -> None:
        ended = []
        async with errands() as (work, _told):

            async def forever() -> None:
                try:
                    await asyncio.sleep(3600)
                finally:
                    ended.append(True)

            work.run(QWidget(), forever())
            await asyncio.sleep(0)
        assert ended == [True]

    drive(case())
