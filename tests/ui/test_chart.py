"""The chart shows the candles it was given, says what it does not know, and obeys mouse, keys and menu."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QAction, QColor, QContextMenuEvent, QGuiApplication, QImage, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QMenu
from pytestqt.qtbot import QtBot

from tests.ui.pixels import count
from watchhamster.core.bars import Bars, Span
from watchhamster.core.instruments import InstrumentInfo, PriceSteps
from watchhamster.core.market import Candle
from watchhamster.ui import theme
from watchhamster.ui.chart import ChartStyle, ChartView, Mark, PriceLine

INSTRUMENT = "upbit:KRW-BTC"
STEPS = PriceSteps((Decimal(0),), (Decimal(1000),))
INFO = InstrumentInfo(INSTRUMENT, "KRW-BTC", "BTC", "KRW", {"ko": "비트코인"}, STEPS, Decimal(5000))
MINUTE = 60_000_000_000
START = 1_582_160_400_000_000_000  # 2020-02-20T01:00:00Z, 10:00 in Seoul
SEOUL = ZoneInfo("Asia/Seoul")


def _candle(n: int, open_: float, close: float, *, closed: bool = True, volume: float = 2.0) -> Candle:
    high, low = max(open_, close) + 1000, min(open_, close) - 1000
    return Candle(INSTRUMENT, "1m", START + n * MINUTE, open_, high, low, close, volume, volume * close, closed, "live")


def _candles(count: int, first: int = 0) -> list[Candle]:
    """Rising and falling by turns, between 100,000 and 120,000."""
    prices = [100_000.0 + n * 7 % 20 * 1000 for n in range(first - 1, first + count)]
    return [_candle(first + i, a, b) for i, (a, b) in enumerate(pairwise(prices))]


@pytest.fixture
def chart(look: QApplication, qtbot: QtBot) -> ChartView:
    chart = ChartView(zone=SEOUL)
    qtbot.addWidget(chart)
    chart.resize(900, 500)
    chart.set_series(INSTRUMENT, "1m", Bars.of(_candles(300)), INFO)
    with qtbot.waitExposed(chart):
        chart.show()
    chart.set_style(ChartStyle(averages=()))
    QApplication.processEvents()
    return chart


def _image(chart: ChartView) -> QImage:
    return chart.grab().toImage()


def _colour(chart: ChartView, candle: Candle, price: float) -> QColor:
    """What is painted in the middle of a candle's slot at a price."""
    place = chart.position(candle.open_ns, price)
    return _image(chart).pixelColor(int(place.x()), int(place.y()))


def _same(seen: QColor, wanted: QColor) -> bool:
    return seen.rgb() == wanted.rgb()


def _viewport(chart: ChartView) -> Any:
    return chart._canvas.viewport()


def _move(chart: ChartView, place: QPointF) -> None:
    QTest.mouseMove(_viewport(chart), place.toPoint())
    QApplication.processEvents()


def _middle(candle: Candle) -> float:
    return (candle.open + candle.close) / 2


# ---------------------------------------------------------------- what is painted


def test_candles_stand_where_their_time_and_price_are(chart: ChartView) -> None:
    t = theme.current()
    for candle in _candles(300)[-8:]:
        direction = t.up if candle.close >= candle.open else t.down
        assert _same(_colour(chart, candle, _middle(candle)), direction)
        assert _same(_colour(chart, candle, candle.high - 300), direction)  # the wick
        assert not _same(_colour(chart, candle, candle.high + 600), direction)


def test_all_history_on_few_pixels_shows_every_extreme(chart: ChartView) -> None:
    spike = msgspec.structs.replace(_candles(5000)[2345], high=150_000.0)
    bars = [spike if c.open_ns == spike.open_ns else c for c in _candles(5000)]
    chart.set_series(INSTRUMENT, "1m", Bars.of(bars), INFO)
    chart.zoom(1000)
    chart.set_style(ChartStyle(averages=()))
    t = theme.current()
    image = _image(chart)
    place = chart.position(spike.open_ns, 149_000.0)
    near = [image.pixelColor(int(place.x()) + dx, int(place.y())).rgb() for dx in (-1, 0, 1)]
    assert t.up.rgb() in near or t.down.rgb() in near


def test_candles_that_rose_are_hollow_when_that_is_liked(chart: ChartView) -> None:
    t = theme.current()
    rising = next(c for c in reversed(_candles(300)) if c.close - c.open > 4000)
    falling = next(c for c in reversed(_candles(300)) if c.open - c.close > 4000)
    assert _same(_colour(chart, rising, _middle(rising)), t.up)
    chart.set_style(ChartStyle(hollow=True, averages=()))
    assert _same(_colour(chart, rising, _middle(rising)), t.panel)
    assert _same(_colour(chart, falling, _middle(falling)), t.down)


def test_the_live_candle_is_an_outline_until_it_closes(chart: ChartView) -> None:
    t = theme.current()
    live = _candle(300, 105_000.0, 115_000.0, closed=False)
    chart.update_forming(live)
    assert _same(_colour(chart, live, 110_000.0), t.mixed(t.up, 0.25))
    chart.append_closed(msgspec.structs.replace(live, closed=True))
    assert _same(_colour(chart, live, 110_000.0), t.up)


def test_what_was_not_fetched_is_hatched_and_what_had_no_trade_is_blank(chart: ChartView) -> None:
    candles = _candles(300)
    chart.set_series(INSTRUMENT, "1m", Bars.of(candles[:250] + candles[260:270] + candles[280:]), INFO)
    chart.set_style(ChartStyle(averages=()))
    chart.set_spans(
        [
            Span(candles[250].open_ns, candles[260].open_ns, "not_fetched", 0),
            Span(candles[270].open_ns, candles[280].open_ns, "no_trade", 0),
        ]
    )
    hatch = theme.current().gap_hatch().color()

    def hatched(first: Candle, last: Candle) -> int:
        left, right = (chart.position(c.open_ns, c.close).x() for c in (first, last))
        return count(_image(chart).copy(int(left) + 4, 40, int(right - left) - 8, 250), hatch)

    assert hatched(candles[250], candles[259]) > 100
    assert hatched(candles[270], candles[279]) == 0
    _move(chart, chart.position(candles[255].open_ns, 110_000.0))
    assert "not fetched" in chart.legend()
    _move(chart, chart.position(candles[275].open_ns, 110_000.0))
    assert "no trade" in chart.legend()


def test_a_gap_takes_its_time_on_the_axis(chart: ChartView) -> None:
    candles = _candles(300)
    chart.set_series(INSTRUMENT, "1m", Bars.of(candles[:280] + candles[290:]), INFO)
    x = [chart.position(c.open_ns, c.close).x() for c in (candles[279], candles[290], candles[291])]
    assert x[1] - x[0] == pytest.approx(11 * (x[2] - x[1]), abs=1)


def test_a_logarithmic_axis_makes_equal_ratios_equally_high(chart: ChartView) -> None:
    def heights() -> list[float]:
        return [chart.position(START, price).y() for price in (100_000.0, 105_000.0, 110_250.0)]

    low, middle, high = heights()
    assert (middle - high) - (low - middle) > 2
    chart.set_style(ChartStyle(log=True))
    low, middle, high = heights()
    assert middle - high == pytest.approx(low - middle, abs=1.01)


def test_the_theme_and_its_price_colours_switch_at_once(chart: ChartView, look: QApplication) -> None:
    candle = _candles(300)[-3]
    for name, colours in (("light", "korea"), ("dark", "colour_blind")):
        t = theme.apply(look, name, colours, motion=False)  # type: ignore[arg-type]
        wanted = t.up if candle.close >= candle.open else t.down
        assert _same(_colour(chart, candle, _middle(candle)), wanted)
        assert _same(_image(chart).pixelColor(2, 3), t.panel)


def test_simulated_data_say_so_in_words_and_hatching(chart: ChartView) -> None:
    t = theme.current()
    assert count(_image(chart), t.simulated) == 0
    chart.set_series(INSTRUMENT, "1m", Bars.of(_candles(300)), INFO, simulated=True)
    assert count(_image(chart), t.simulated) > 20  # the badge
    assert count(_image(chart).copy(0, 0, 900, 4), t.hatch().color()) > 100
    assert chart.summary().startswith("Simulated: ")


def test_without_candles_it_says_why(chart: ChartView) -> None:
    chart.set_series("upbit:KRW-XYZ", "1d", Bars.empty(), None)
    assert chart.summary() == "No candles of upbit:KRW-XYZ in 1d yet."
    empty = _image(chart)
    assert count(empty, theme.current().secondary) > 20
    chart.set_message("Loading history of KRW-XYZ…")
    assert _image(chart) != empty
    first = msgspec.structs.replace(_candle(0, 1.0, 2.0), instrument="upbit:KRW-XYZ", timeframe="1d")
    chart.append_closed(first)
    assert "KRW-XYZ" in chart.summary() and "2" in chart.legend()


def test_equal_candles_are_equally_wide_at_a_fractional_scale() -> None:
    script = """
import sys; sys.path.insert(0, ".")
from PySide6.QtWidgets import QApplication
from tests.ui.test_chart import INFO, INSTRUMENT, SEOUL, START, Bars, ChartStyle, ChartView, _candle, _image, theme
app = QApplication([])
t = theme.apply(app)
chart = ChartView(zone=SEOUL)
chart.resize(600, 400)
candles = [_candle(n, 100_000.0, 110_000.0) for n in range(60)]
chart.set_series(INSTRUMENT, "1m", Bars.of(candles), INFO)
chart.set_style(ChartStyle(averages=()))
chart.show()
app.processEvents()
image = _image(chart)
assert image.devicePixelRatio() == 1.5
y = int(chart.position(START, 105_000.0).y() * 1.5)
row = "".join("x" if image.pixelColor(x, y).rgb() == t.up.rgb() else " " for x in range(int(500 * 1.5)))
print(sorted({len(run) for run in row.split()[1:-1]}), len(row.split()))
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=root,
        env={"QT_SCALE_FACTOR": "1.5", "QT_QPA_PLATFORM": "offscreen", "PATH": "/usr/bin:/bin", "HOME": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    widths, count = done.stdout.strip().rsplit(" ", 1)
    assert widths.count(",") == 0 and int(count) > 40, done.stdout


# ---------------------------------------------------------------- crosshair and legend


def test_the_legend_tells_the_candle_under_the_mouse_and_else_the_newest(chart: ChartView) -> None:
    candles = _candles(300)
    newest, looked_at, before = candles[-1], candles[-20], candles[-21]
    assert f"C {newest.close:,.0f}" in chart.legend()
    _move(chart, chart.position(looked_at.open_ns, looked_at.close))
    legend = chart.legend()
    for text in (f"O {looked_at.open:,.0f}", f"H {looked_at.high:,.0f}", f"L {looked_at.low:,.0f}", "Vol 2"):
        assert text in legend
    assert "2020-02-20 14:40" in legend  # in Seoul
    change = (looked_at.close / before.close - 1) * 100
    assert f"{abs(change):.2f} %" in legend and ("▲" if change > 0 else "▼") in legend
    QApplication.sendEvent(chart._canvas, QEvent(QEvent.Type.Leave))
    assert f"C {newest.close:,.0f}" in chart.legend()


def _counted(chart: ChartView, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows with every painting of the candles."""
    painted: list[int] = []
    paint = chart._canvas.painter.paint

    def count(*args: Any) -> None:
        painted.append(1)
        paint(*args)

    monkeypatch.setattr(chart._canvas.painter, "paint", count)
    return painted


def test_moving_the_crosshair_does_not_paint_the_candles_again(
    chart: ChartView, monkeypatch: pytest.MonkeyPatch
) -> None:
    painted = _counted(chart, monkeypatch)
    candle = _candles(300)[-30]
    place = chart.position(candle.open_ns, 110_000.0)
    _move(chart, place)
    before = _image(chart)
    painted.clear()
    for step in range(1, 8):
        _move(chart, place + QPointF(9 * step, 3 * step))
    after = _image(chart)
    assert painted == [] and after != before
    chart.append_closed(_candle(300, 100_000.0, 101_000.0))
    QApplication.processEvents()
    assert painted == [1]


def test_many_setters_ask_for_one_picture(chart: ChartView, monkeypatch: pytest.MonkeyPatch) -> None:
    painted = _counted(chart, monkeypatch)
    for n in range(20):
        chart.update_forming(_candle(300, 100_000.0, 100_000.0 + n * 1000, closed=False))
        chart.refresh(START + 300 * MINUTE + n)
    QApplication.processEvents()
    assert painted == [1]


def test_the_countdown_runs_to_the_close(chart: ChartView) -> None:
    chart.update_forming(_candle(300, 100_000.0, 101_000.0, closed=False))
    chart.refresh(START + 300 * MINUTE + 17 * 10**9)
    at_43 = _image(chart)
    chart.refresh(START + 300 * MINUTE + 18 * 10**9)
    assert _image(chart) != at_43
    chart.append_closed(_candle(300, 100_000.0, 101_000.0))
    chart.refresh(START + 301 * MINUTE)
    assert chart._countdown == ""


# ---------------------------------------------------------------- moving about


def test_the_newest_candle_is_followed_unless_one_looks_back(chart: ChartView) -> None:
    newest = chart.position(START + 299 * MINUTE, 110_000.0).x()
    chart.append_closed(_candle(300, 100_000.0, 101_000.0))
    chart.append_closed(_candle(301, 101_000.0, 102_000.0))
    assert chart.position(START + 301 * MINUTE, 110_000.0).x() == pytest.approx(newest, abs=1)
    chart.pan(-60)
    view = chart.visible_ns
    chart.append_closed(_candle(302, 102_000.0, 103_000.0))
    assert chart.visible_ns == view
    assert chart._latest.isVisible()
    chart._latest.click()
    assert chart.position(START + 302 * MINUTE, 110_000.0).x() == pytest.approx(newest, abs=8)
    assert not chart._latest.isVisible()


def _wheel(chart: ChartView, place: QPointF, delta: int) -> None:
    viewport = _viewport(chart)
    event = QWheelEvent(
        place,
        QPointF(viewport.mapToGlobal(place)),
        QPoint(0, 0),
        QPoint(0, delta),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(viewport, event)
    QApplication.processEvents()


def test_the_wheel_zooms_where_the_mouse_is(chart: ChartView) -> None:
    candle = _candles(300)[-40]
    place = chart.position(candle.open_ns, 110_000.0)
    since, until = chart.visible_ns
    _wheel(chart, place, 240)
    closer_since, closer_until = chart.visible_ns
    assert closer_until - closer_since < (until - since) * 0.8
    assert chart.position(candle.open_ns, 110_000.0).x() == pytest.approx(place.x(), abs=8)
    _wheel(chart, place, -240)
    assert chart.visible_ns == (since, until)


def test_a_drag_moves_the_time_and_a_double_click_puts_it_back(chart: ChartView) -> None:
    start = chart.visible_ns
    viewport = _viewport(chart)
    QTest.mousePress(viewport, Qt.MouseButton.LeftButton, pos=QPoint(300, 200))
    for x in range(310, 520, 20):  # pyqtgraph drops moves above 100 a second
        QTest.mouseMove(viewport, QPoint(x, 200), delay=12)
        QTest.qWait(12)
    QTest.mouseRelease(viewport, Qt.MouseButton.LeftButton, pos=QPoint(510, 200))
    assert start[0] - chart.visible_ns[0] > 10 * MINUTE
    QTest.mouseDClick(viewport, Qt.MouseButton.LeftButton, pos=QPoint(300, 200))
    assert chart.visible_ns == start


def test_the_keyboard_goes_everywhere(chart: ChartView) -> None:
    chart.setFocus()

    def press(key: Qt.Key, modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> tuple[int, int]:
        QTest.keyClick(chart, key, modifier)
        return chart.visible_ns

    start = chart.visible_ns
    assert press(Qt.Key.Key_Left)[0] < start[0]
    assert press(Qt.Key.Key_Right) == start
    closer = press(Qt.Key.Key_Plus)
    assert closer[1] - closer[0] < start[1] - start[0]
    assert press(Qt.Key.Key_Minus)[0] == pytest.approx(start[0], abs=2 * MINUTE)
    assert press(Qt.Key.Key_Home)[0] == START
    assert press(Qt.Key.Key_End)[1] == pytest.approx(start[1], abs=2 * MINUTE)
    press(Qt.Key.Key_Down)
    first = chart.cross_price
    press(Qt.Key.Key_Up)
    assert first is not None and chart.cross_price is not None and chart.cross_price > first
    legend = chart.legend()
    press(Qt.Key.Key_Left, Qt.KeyboardModifier.ShiftModifier)
    assert chart.legend() != legend
    press(Qt.Key.Key_Escape)
    assert chart.cross_price is None


def test_another_width_shows_more_candles_and_keeps_the_newest(chart: ChartView) -> None:
    since, until = chart.visible_ns
    chart.resize(1300, 500)
    QApplication.processEvents()
    wider_since, wider_until = chart.visible_ns
    assert until <= wider_until <= until + 5 * MINUTE and wider_since < since - 40 * MINUTE
    chart.pan(-100)
    until = chart.visible_ns[1]
    chart.resize(900, 500)
    QApplication.processEvents()
    assert chart.visible_ns[1] == until


def test_history_is_asked_for_once_and_the_view_stays_when_it_comes(chart: ChartView, qtbot: QtBot) -> None:
    asked: list[tuple[int, int]] = []
    chart.history_needed.connect(lambda since, until: asked.append((since, until)))
    for _step in range(30):
        chart.pan(-10)
    assert len(asked) == 1
    since, until = asked[0]
    assert until == START and until - since >= 500 * MINUTE
    view = chart.visible_ns
    chart.prepend(Bars.of(_candles(600, first=-600)))
    QApplication.processEvents()
    assert chart.visible_ns == view
    candle = _candles(600, first=-600)[-3]
    chart.pan((candle.open_ns - view[0]) / MINUTE - 20)
    t = theme.current()
    wanted = t.up if candle.close >= candle.open else t.down
    assert _same(_colour(chart, candle, _middle(candle)), wanted)
    for _step in range(100):
        chart.pan(-10)
    assert [span[1] for span in asked] == sorted((span[1] for span in asked), reverse=True)
    assert all(later[1] <= earlier[0] for earlier, later in pairwise(asked))


# ---------------------------------------------------------------- alerts


def test_a_makes_an_alert_at_the_crosshair_on_the_venue_s_grid(chart: ChartView, qtbot: QtBot) -> None:
    chart.setFocus()
    _move(chart, chart.position(START + 290 * MINUTE, 107_400.0))
    with qtbot.waitSignal(chart.alert_requested) as once:
        QTest.keyClick(chart, Qt.Key.Key_A)
    assert once.args == [107_000.0, False]
    with qtbot.waitSignal(chart.alert_requested) as again:
        QTest.keyClick(chart, Qt.Key.Key_A, Qt.KeyboardModifier.ShiftModifier)
    assert again.args == [107_000.0, True]


def _actions(menu: QMenu) -> dict[str, QAction]:
    return {action.text(): action for action in menu.actions() if action.text()}


def _menu(chart: ChartView, at_ns: int, price: float) -> dict[str, QAction]:
    """The actions of the menu that a right click opens there."""
    place = chart.position(at_ns, price).toPoint()
    viewport = _viewport(chart)
    event = QContextMenuEvent(QContextMenuEvent.Reason.Mouse, place, viewport.mapToGlobal(place))
    QApplication.sendEvent(viewport, event)
    menu = QApplication.activePopupWidget()
    assert isinstance(menu, QMenu)
    menu.hide()
    return _actions(menu)


def test_a_right_click_offers_what_applies_there(chart: ChartView, qtbot: QtBot) -> None:
    actions = _menu(chart, START + 290 * MINUTE, 107_000.0)
    with qtbot.waitSignal(chart.alert_requested) as asked:
        actions["Alert at 107,000, repeating"].trigger()
    assert asked.args == [107_000.0, True]
    actions["Copy price 107,000"].trigger()
    assert QGuiApplication.clipboard().text() == "107000"
    with qtbot.waitSignal(chart.style_changed) as styled:
        actions["Hollow candles"].trigger()
    assert styled.args is not None and styled.args[0].hollow and chart.style_options.hollow
    chart.set_lines([("one", 107_000.0, "once", "inactive")])
    actions = _menu(chart, START + 290 * MINUTE, 107_000.0)
    assert "Alert at 107,000, once" not in actions
    with qtbot.waitSignal(chart.line_removed) as removed:
        actions["Remove the alert at 107,000"].trigger()
    assert removed.args == ["one"]


def test_a_line_can_be_dragged_and_says_where_it_went(chart: ChartView, qtbot: QtBot) -> None:
    chart.set_lines([PriceLine(7, 105_000.0, "below 105,000"), PriceLine(8, 115_000.0, "")])
    dragged: list[tuple[int, float]] = []
    chart.line_dragging.connect(lambda line, price: dragged.append((line, price)))
    viewport = _viewport(chart)
    start, end = (chart.position(START + 250 * MINUTE, price).toPoint() for price in (105_000.0, 109_000.0))
    view = chart.visible_ns
    QTest.mousePress(viewport, Qt.MouseButton.LeftButton, pos=start)
    for share in range(1, 5):
        QTest.mouseMove(viewport, start + (end - start) * share / 4)
        QApplication.processEvents()
    chart.note_line(7, "fired 3 × in 30 days")
    with qtbot.waitSignal(chart.line_moved) as moved:
        QTest.mouseRelease(viewport, Qt.MouseButton.LeftButton, pos=end)
    assert moved.args == [7, 109_000.0]
    assert dragged[-1] == (7, 109_000.0) and all(line == 7 for line, _price in dragged)
    assert chart.visible_ns == view  # a line was dragged, not the chart
    t = theme.current()
    row = int(chart.position(START, 109_000.0).y())
    assert count(_image(chart).copy(0, row, 800, 1), t.accent) > 100


def test_escape_puts_a_dragged_line_back(chart: ChartView) -> None:
    chart.set_lines([PriceLine(7, 105_000.0, "")])
    moved: list[object] = []
    chart.line_moved.connect(lambda *args: moved.append(args))
    viewport = _viewport(chart)
    start = chart.position(START + 250 * MINUTE, 105_000.0).toPoint()
    QTest.mousePress(viewport, Qt.MouseButton.LeftButton, pos=start)
    QTest.mouseMove(viewport, start - QPoint(0, 60))
    chart.setFocus()
    QTest.keyClick(chart, Qt.Key.Key_Escape)
    QTest.mouseRelease(viewport, Qt.MouseButton.LeftButton, pos=start - QPoint(0, 60))
    assert moved == []


def _middle_click(chart: ChartView, place: QPoint) -> None:
    QTest.mouseClick(_viewport(chart), Qt.MouseButton.MiddleButton, pos=place)


def _delete(chart: ChartView, place: QPoint) -> None:
    _move(chart, QPointF(place))
    QTest.keyClick(chart, Qt.Key.Key_Delete)


@pytest.mark.parametrize("remove", [_middle_click, _delete])
def test_a_line_is_removed_by_its_place(
    chart: ChartView, qtbot: QtBot, remove: Callable[[ChartView, QPoint], None]
) -> None:
    chart.set_lines([PriceLine("a", 105_000.0, ""), PriceLine("b", 115_000.0, "")])
    chart.setFocus()
    with qtbot.waitSignal(chart.line_removed) as removed:
        remove(chart, chart.position(START + 250 * MINUTE, 115_000.0).toPoint())
    assert removed.args == ["b"]


def test_a_mark_is_painted_beside_its_candle_and_can_be_clicked(chart: ChartView, qtbot: QtBot) -> None:
    candle = _candles(300)[-20]
    t = theme.current()
    assert count(_image(chart), t.sign("critical").colour) == 0
    chart.set_marks([Mark("alert 9", candle.open_ns + 5, candle.close, "critical", "rsi < 30")])
    assert count(_image(chart), t.sign("critical").colour) > 10
    place = chart.position(candle.open_ns, candle.high) - QPointF(0, 12)
    with qtbot.waitSignal(chart.mark_clicked) as clicked:
        QTest.mouseClick(_viewport(chart), Qt.MouseButton.LeftButton, pos=place.toPoint())
    assert clicked.args == ["alert 9"]


# ---------------------------------------------------------------- words


def test_it_describes_itself(chart: ChartView) -> None:
    last, before = _candles(300)[-1], _candles(300)[-2]
    sign = "+" if last.close > before.close else "−"
    change = abs(last.close / before.close - 1) * 100
    assert chart.summary() == (
        f"upbit:KRW-BTC 1m, {last.close:,.0f}, {sign}{change:.2f} % to the candle before; "
        "300 candles since 2020-02-20 10:00."
    )
    assert chart.accessibleName() == "Chart upbit:KRW-BTC"
    assert chart.accessibleDescription() == chart.summary()


def test_a_late_candle_of_the_former_series_is_not_drawn(chart: ChartView) -> None:
    chart.update_forming(msgspec.structs.replace(_candle(300, 1.0, 2.0), instrument="upbit:KRW-ETH"))
    chart.update_forming(msgspec.structs.replace(_candle(300, 1.0, 2.0), timeframe="5m"))
    assert "300 candles" in chart.summary()


def test_a_revised_candle_takes_the_place_of_the_first(chart: ChartView) -> None:
    revised = msgspec.structs.replace(_candle(299, 100_000.0, 119_000.0), revision=1)
    chart.append_closed(revised)
    assert "C 119,000" in chart.legend() and "300 candles" in chart.summary()


@pytest.mark.parametrize("percent", [100, 200])
def test_it_fits_where_there_is_little_room(chart: ChartView, look: QApplication, percent: int) -> None:
    theme.apply(look, text_percent=percent, motion=False)
    chart.resize(chart.minimumSize())
    QApplication.processEvents()
    t = theme.current()
    assert count(_image(chart), t.up) + count(_image(chart), t.down) > 20
