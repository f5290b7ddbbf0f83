"""Two venues in one window: a list by markets, a search over both, a caution read first, a quote instead of a book."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from tests.ui.conftest import Drive, errands, settled, until
from tests.ui.fakes import FakeEngine, feed_down
from tests.ui.test_session import inside  # noqa: F401  (a fixture)
from watchhamster.app import Options, build_engine
from watchhamster.core.instruments import Headline
from watchhamster.core.market import FeedChanged
from watchhamster.core.ports import Unavailable
from watchhamster.core.text import Text
from watchhamster.core.timeframes import SECOND_NS
from watchhamster.settings import Home
from watchhamster.ui.bridge import Errands
from watchhamster.ui.lookup import Lookup
from watchhamster.ui.rows import Heading
from watchhamster.ui.session import Session
from watchhamster.ui.shell import Shell
from watchhamster.ui.start import LogLines, Look

APPLE, SAMSUNG, VODAFONE = "yahoo:AAPL", "yahoo:005930.KS", "yahoo:VOD.L"


@pytest.fixture
def shares(engine: FakeEngine) -> FakeEngine:
    engine.add_shares()
    return engine


def _texts(s: Session) -> list[str]:
    """Every line of the watch list, as it is read."""
    view = s.watch_list.view
    model = view.model()
    columns = range(model.columnCount())
    rows = range(model.rowCount())
    return [" ".join(filter(None, (str(model.index(row, i).data() or "") for i in columns))) for row in rows]


# ---------------------------------------------------------------- the watch list


def test_each_market_has_a_heading_with_its_currency_and_its_session(inside: Any, shares: FakeEngine) -> None:  # noqa: F811
    async def steps(s: Session) -> None:
        lines = _texts(s)
        assert lines[0] == "Upbit · KRW"
        assert "United States · USD closed, opens in 9 h 47 m" in lines
        assert "Korea · KRW open until 15:30" in lines
        apple = lines.index("United States · USD closed, opens in 9 h 47 m") + 1
        assert "Apple" in lines[apple] and "262.50" in lines[apple] and "+1.00 %" in lines[apple]
        assert any("108,000" in line and "Samsung" in line for line in lines)
        s.watch_list.view.sort_by(1)  # by name: within each market
        sorted_lines = _texts(s)
        assert sorted_lines[0] == "Upbit · KRW" and "Avalanche" in sorted_lines[1]
        assert sorted_lines[-2].startswith("Korea") and sorted_lines[-4].startswith("United States")
        shares.clock.at_ns += 3600 * SECOND_NS
        s.slow_beat()
        assert "United States · USD closed, opens in 8 h 47 m" in _texts(s)

    inside(steps)


def test_with_one_market_there_is_no_heading(inside: Any, engine: FakeEngine) -> None:  # noqa: F811
    async def steps(s: Session) -> None:
        assert len(_texts(s)) == len(engine.watch_list())

    inside(steps)


def test_a_price_of_after_hours_has_its_own_line_and_is_compared_with_regular_trading(
    inside: Any,  # noqa: F811
    shares: FakeEngine,
) -> None:
    async def steps(s: Session) -> None:
        shares.share("AAPL", 265.125, "POST", regular=262.5)
        for _beat in range(2):
            s.bridge.beat()
        lines = _texts(s)
        margin = next(line for line in lines if "after-market" in line)
        assert "265.12" in margin and "+1.00 %" in margin
        apple = lines[lines.index(margin) - 1]
        assert "Apple" in apple and "262.50" in apple and "+1.00 %" in apple
        view = s.watch_list.view
        view.setCurrentIndex(view.model().index(lines.index(margin), 0))
        assert s.instrument == APPLE  # the line under it means the instrument
        assert s.watch_list.menu(APPLE).actions()[-1].isEnabled()
        shares.share("AAPL", 263.0)
        for _beat in range(2):
            s.bridge.beat()
        assert not any("after-market" in line for line in _texts(s))

    inside(steps)


def test_before_the_first_trade_of_a_day_the_close_tells_no_change(inside: Any, shares: FakeEngine) -> None:  # noqa: F811
    async def steps(s: Session) -> None:
        shares.share("AAPL", 265.0, "PRE", regular=262.5 / 1.01)  # which is the close before
        for _beat in range(2):
            s.bridge.beat()
        lines = _texts(s)
        margin = next(line for line in lines if "pre-market" in line)
        assert "265.00" in margin and "+1.96 %" in margin
        assert "259.90" in lines[lines.index(margin) - 1] and "%" not in lines[lines.index(margin) - 1]

    inside(steps)


def test_a_halt_is_that_of_one_symbol(inside: Any, shares: FakeEngine) -> None:  # noqa: F811
    async def steps(s: Session) -> None:
        shares.halts[SAMSUNG] = shares.clock.now_ns() - 600 * SECOND_NS
        s.choose(SAMSUNG)
        s.watch_list.refresh()
        s.slow_beat()
        row = next(row for row in s.watch_list.rows() if row.instrument == SAMSUNG)
        assert (row.state, row.note) == ("warning", "halted since 13:33")
        assert "Korea · KRW open until 15:30" in _texts(s)
        assert "halted since 13:33" in s.quote.summary()

    inside(steps)


def test_headings_are_passed_over_by_the_keyboard_and_cannot_be_chosen(inside: Any, shares: FakeEngine) -> None:  # noqa: F811
    async def steps(s: Session) -> None:
        view = s.watch_list.view
        s.choose("upbit:KRW-TRX")  # the last before a heading
        QTest.keyClick(view, Qt.Key.Key_Down)
        assert s.instrument == APPLE
        row = view.keys().index(("yahoo", "XKRX"))
        assert isinstance(view.row(view.keys()[row]), Heading)
        assert not view.model().flags(view.model().index(row, 0)) & Qt.ItemFlag.ItemIsSelectable

    inside(steps)


def test_moving_up_stays_within_the_market(inside: Any, shares: FakeEngine) -> None:  # noqa: F811
    async def steps(s: Session) -> None:
        s.watch_list.shift(APPLE, -1)
        await settled(s.errands)
        assert shares.watch_list()[-2:] == [APPLE, SAMSUNG]

    inside(steps)


def test_a_closed_market_is_not_stale(inside: Any, shares: FakeEngine) -> None:  # noqa: F811
    async def steps(s: Session) -> None:
        s.choose(APPLE)
        down = feed_down()
        shares.say(FeedChanged(None, "yahoo", "reconnecting", down.at_ns, down.reason, values=down.values))
        shares.clock.at_ns += 60 * SECOND_NS
        s.watch_list.refresh()
        s.slow_beat()
        states = {row.instrument: row.state for row in s.watch_list.rows()}
        assert states[APPLE] == "ok" and states[SAMSUNG] == "warning"
        assert "old" not in s.shell.top.instrument.accessibleName()
        s.choose(SAMSUNG)
        assert "old" in s.shell.top.instrument.accessibleName()

    inside(steps)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_no_line_is_wider_than_the_smallest_window_gives(inside: Any, shares: FakeEngine, language: str) -> None:  # noqa: F811
    async def steps(s: Session) -> None:
        view = s.watch_list.view
        assert view.horizontalScrollBar().maximum() == 0
        shown = [i for i in range(6) if not view.isColumnHidden(i)]
        assert {0, 1, 3, 4} <= set(shown)  # lamp, name, price, change
        assert sum(view.columnWidth(i) for i in shown) <= view.viewport().width()

    inside(steps, size=(1024, 640))


# ---------------------------------------------------------------- the search


def _search(drive: Drive[Any], engine: FakeEngine, steps: Any) -> None:
    async def case() -> None:
        async with errands() as (work, told):
            lookup = Lookup(engine, work)  # type: ignore[arg-type]
            lookup._pause.setInterval(0)
            lookup.known = await engine.instruments()
            await steps(lookup, work)
            assert not told
            lookup.deleteLater()

    drive(case())


def _names(found: Any) -> list[str]:
    return [info.instrument for info in found]


def test_what_is_known_is_found_at_once_in_both_languages_and_a_venue_adds_the_rest(
    drive: Drive[Any], shares: FakeEngine
) -> None:
    async def steps(lookup: Lookup, work: Errands) -> None:
        assert _names(lookup.find("삼성"))[0] == SAMSUNG
        assert _names(lookup.find("bitcoin"))[0] == "upbit:KRW-BTC"
        assert VODAFONE not in _names(lookup.find("voda"))
        assert lookup.notes() == ["Searching Yahoo…"]
        await until(lambda: VODAFONE in _names(lookup.find("voda")), "the venue's answer")
        assert lookup.notes() == []
        assert VODAFONE in _names(lookup.find("Voda "))  # the same text asks nobody again
        await settled(work)
        assert [asked for asked in shares.asked if asked[0] == "search"][-1:] == [("search", "yahoo", "voda")]
        assert sum(asked == ("search", "yahoo", "voda") for asked in shares.asked) == 1

    _search(drive, shares, steps)


def test_a_newer_text_cancels_the_older_and_one_letter_asks_nobody(drive: Drive[Any], shares: FakeEngine) -> None:
    async def steps(lookup: Lookup, work: Errands) -> None:
        shares.searching = asyncio.Event()
        lookup.find("v")
        await asyncio.sleep(0.05)
        assert not shares.asked
        lookup.find("vo")
        await until(lambda: shares.asked, "the first question")
        lookup.find("vod")
        await until(lambda: len(shares.asked) == 2, "the second")
        await until(lambda: len(work._running) == 1, "the first has gone")
        waiting, shares.searching = shares.searching, None
        waiting.set()
        await until(lambda: VODAFONE in _names(lookup.find("vod")))
        assert ("yahoo", "vo") not in lookup._found

    _search(drive, shares, steps)


def test_a_refusal_is_said_under_what_is_known_and_not_repeated(drive: Drive[Any], shares: FakeEngine) -> None:
    async def steps(lookup: Lookup, work: Errands) -> None:
        shares.refusal = Unavailable("no_answer", Text("Yahoo did not answer."))
        lookup.find("app")
        await until(lambda: lookup.notes() == ["Yahoo: Yahoo did not answer."], "the refusal")
        found = lookup.choices("app", lambda _name: None, lambda _name: "")
        assert [choice.take is None for choice in found] == [False] * (len(found) - 1) + [True]
        assert found[0].title == "Apple" and "AAPL" in found[0].detail and "United States" in found[0].detail
        await settled(work)
        assert len(shares.asked) == 1
        lookup.forget_failures()
        shares.refusal = None
        lookup.find("app")
        await until(lambda: not lookup.notes(), "another try")

    _search(drive, shares, steps)


def test_an_instrument_of_the_other_venue_is_found_added_and_taken_in_hand(inside: Any, shares: FakeEngine) -> None:  # noqa: F811
    async def steps(s: Session) -> None:
        s.lookup._pause.setInterval(0)
        s._search_to_add()
        field = s.shell.top.search
        QTest.keyClicks(field, "vodafone")
        await until(lambda: any("VOD.L" in choice.detail for choice in field.offered()), "it is found")
        QTest.keyClick(field, Qt.Key.Key_Return)
        await settled(s.errands)
        assert s.instrument == VODAFONE and shares.watch_list()[-1] == VODAFONE
        assert shares.focused == (VODAFONE, "1m")
        assert any("London · GBp" in line for line in _texts(s))
        assert "GBp" in s.shell.top.instrument.accessibleName()

    inside(steps)


def test_the_palette_finds_instruments_under_its_actions(inside: Any, shares: FakeEngine) -> None:  # noqa: F811
    async def steps(s: Session) -> None:
        s._search_to_add()  # and given up: what the palette finds is only shown
        s.shell.palette_box.open()
        field = s.shell.palette_box.field
        QTest.keyClicks(field, "samsung")
        QTest.keyClick(field, Qt.Key.Key_Return)
        await settled(s.errands)
        assert s.instrument == SAMSUNG
        assert not any(asked[0] == "set_watch_list" for asked in shares.asked)

    inside(steps)


def test_the_form_of_a_rule_finds_instruments_by_name(inside: Any, shares: FakeEngine) -> None:  # noqa: F811
    async def steps(s: Session) -> None:
        s.lookup._pause.setInterval(0)
        form = s.rules.edit(None)
        form.formula.set_text("close > 1")
        form.name.setText("Both")
        field = form.instruments
        field.setFocus()
        field.setText("upbit:KRW-BTC, ")
        QTest.keyClicks(field, "voda")
        await until(lambda: any("VOD.L" in choice.detail for choice in field.offered()), "it is found")
        QTest.keyClick(field, Qt.Key.Key_Return)
        assert field.text() == "upbit:KRW-BTC, yahoo:VOD.L" and not field.is_open()
        form.save()
        await settled(s.errands)
        assert shares.rules()[0].instruments == ("upbit:KRW-BTC", VODAFONE)

    inside(steps)


# ---------------------------------------------------------------- the caution


def test_a_venue_is_neither_asked_nor_shown_before_its_caution_was_read(inside: Any, shares: FakeEngine) -> None:  # noqa: F811
    shares.cautions["yahoo"] = Text("Data may be delayed, wrong, or stop at any time.")

    async def steps(s: Session) -> None:
        s.lookup._pause.setInterval(0)
        before = s.instrument
        s.shell.start_search("voda")
        await asyncio.sleep(0.05)
        assert not any(asked[0] == "search" for asked in shares.asked)
        last = s.shell.top.search.offered()[-1]
        assert last.title == "Search Yahoo, too…"

        s._show_instrument(APPLE)
        assert s.caution.isVisible() and "may be delayed" in s.caution.text() and s.instrument == before
        QTest.keyClick(s.caution, Qt.Key.Key_Escape)
        assert s.caution.isHidden() and s.instrument == before
        assert ("accept_caution", "yahoo") not in shares.asked

        s.shell.start_search("voda")
        assert last.take is not None
        s.shell.top.search.take(len(s.shell.top.search.offered()) - 1)
        s.caution.accept.click()
        await until(lambda: any(asked[0] == "search" for asked in shares.asked), "now it is asked")
        assert ("accept_caution", "yahoo") in shares.asked
        s._show_instrument(APPLE)
        assert s.caution.isHidden() and s.instrument == APPLE  # once is enough

    inside(steps)


# ---------------------------------------------------------------- no book, no trades


def test_in_place_of_book_and_trades_stand_the_quote_and_the_news(inside: Any, shares: FakeEngine) -> None:  # noqa: F811
    now = shares.clock.now_ns()
    shares.headlines = [Headline("1", "Apple rises", "The Wire", "https://example.org/1", now - 7200 * SECOND_NS)]

    async def steps(s: Session) -> None:
        assert s.book.isVisible() and s.tape.isVisible() and not s.quote.isVisible()
        s.choose(APPLE)
        await settled(s.errands)
        assert s.quote.isVisible() and s.news.isVisible() and not s.book.isVisible() and not s.tape.isVisible()
        assert s.desk.dock("order-book").windowTitle() == "Quote"
        assert s.desk.dock("trades").windowTitle() == "News"
        said = s.quote.summary()
        for part in ("United States · closed, opens in 9 h 47 m", "Price 262.50 USD", "Previous close 259.90", "Day"):
            assert part in said, said
        assert "52 weeks" in said and "Volume 1M" in said.replace(".00", "")
        assert s.news.list.item(0).text() == "Apple rises"
        shares.share("AAPL", 265.125, "POST", regular=262.5)
        for _beat in range(2):
            s.bridge.beat()
        assert "After-market 265.12  +1.00 %" in s.quote.summary()
        s.choose("upbit:KRW-BTC")
        assert s.book.isVisible() and s.tape.isVisible()
        assert s.desk.dock("order-book").windowTitle() == "Order book"
        s.choose(APPLE)
        assert sum(asked == ("news", APPLE) for asked in shares.asked) == 1  # kept for a while

    inside(steps)


def test_news_that_do_not_come_say_why(inside: Any, shares: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    async def refuse(_instrument: str, _count: int = 10) -> list[Headline]:
        raise Unavailable("no_answer", Text("Yahoo did not answer."))

    monkeypatch.setattr(shares, "news", refuse)

    async def steps(s: Session) -> None:
        s.choose(APPLE)
        await settled(s.errands)
        assert s.news._empty.text() == "Yahoo did not answer."
        assert not s.shell.messages.isVisible()

    inside(steps)


def test_adjusted_prices_are_remembered_by_instrument(inside: Any, shares: FakeEngine, tmp_path: Path) -> None:  # noqa: F811
    async def first(s: Session) -> None:
        s.choose(APPLE)
        s.chart.adjusted_changed.emit(True)

    async def second(s: Session) -> None:
        await settled(s.errands)
        assert s._adjusted_ones == {APPLE}

    inside(first, home=tmp_path)
    inside(second, home=tmp_path)


# ---------------------------------------------------------------- the real engine, on the built-in exchange


def test_a_share_is_searched_for_at_the_exchange_added_and_streams(
    drive: Drive[Any], look: QApplication, tmp_path: Path
) -> None:
    async def case() -> None:
        engine = await build_engine(Options(home=Home(tmp_path), demo=True))
        shell = Shell(simulated="demo")
        try:
            async with asyncio.TaskGroup() as group:
                work = Errands(group, shell.tell)
                s = Session(look, shell, engine, work, Look(theme="dark", language="en"), tmp_path, LogLines())
                shell.show()
                await engine.start()
                s.started()
                await until(lambda: s.shell.top.search.isEnabled() and s.lookup.known, "the window is there", 6000)
                s._search_to_add()
                field = s.shell.top.search
                QTest.keyClicks(field, "jpy=x")
                await until(lambda: any("JPY=X" in choice.detail for choice in field.offered()), "found", 6000)
                place = next(i for i, choice in enumerate(field.offered()) if "JPY=X" in choice.detail)
                field.take(place)
                await until(lambda: "yahoo:JPY=X" in engine.watch_list(), "it is on the list", 6000)
                await until(lambda: engine.board.price("yahoo:JPY=X"), "its price comes", 6000)
                await until(lambda: len(s.chart._pyramid) > 10, "its candles are drawn", 6000)
                assert s.quote.isVisible() and s.chart._calendar is not None
                await s.close()
                await settled(work)
                work.close()
        finally:
            await engine.stop()
            shell.leave()
            shell.deleteLater()

    drive(case())
