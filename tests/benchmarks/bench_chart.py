"""What a frame of the chart costs while panning, beside the least Qt can do and pyqtgraph's own example. By hand:

    python -m tests.benchmarks.bench_chart

Milliseconds of CPU for one frame (median of the frames after a warm-up), all in one process, offscreen, 1600 x 900:

- bare: a QWidget that fills as many rectangles as the chart does, at equal places, and nothing else;
- chart: `ChartView`, with axes, grid, volume, two averages, legend and last price;
- tick: the same when the live candle changes instead of the view;
- crosshair: the same when only the mouse moves;
- example: the documented way to draw candles in pyqtgraph, one QPicture of all of them (it cannot draw a million).
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
from PySide6.QtCore import QLineF, QPoint, QPointF, QRectF
from PySide6.QtGui import QPainter, QPaintEvent, QPicture
from PySide6.QtWidgets import QApplication, QWidget

from watchhamster.core.bars import Bars
from watchhamster.core.market import Candle
from watchhamster.ui import theme
from watchhamster.ui.chart import ChartView
from watchhamster.ui.pg import pg
from watchhamster.ui.strokes import Strokes

MINUTE = 60_000_000_000
FRAMES = 40


def _bars(count: int) -> Bars:
    rng = np.random.default_rng(1)
    close = 60_000 + np.cumsum(rng.standard_normal(count) * 8)
    opened = np.concatenate(([close[0]], close[:-1]))
    high, low = np.maximum(opened, close) + 2, np.minimum(opened, close) - 2
    volume = rng.random(count)
    return Bars(np.arange(count, dtype=np.int64) * MINUTE, opened, high, low, close, volume, volume * close)


def _frame_ms(app: QApplication, change: Callable[[int], object]) -> float:
    """The median CPU time of a change and everything it makes Qt do."""
    times = []
    for i in range(FRAMES):
        begin = time.process_time()
        change(i)
        app.processEvents()
        times.append((time.process_time() - begin) * 1e3)
    return statistics.median(times[5:])


class _Bare(QWidget):
    """Four kinds of rectangles for each candle or column: wick, body, volume, and a line."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self._strokes, self._columns, self.shift = Strokes(), columns, 0
        self.resize(1600, 900)

    def paintEvent(self, event: QPaintEvent) -> None:
        t = theme.current()
        p = QPainter(self)
        p.fillRect(self.rect(), t.panel)
        x = (np.arange(self._columns) * (1500 / self._columns)).astype(np.int32)
        wide = max(1, int(1500 / self._columns * 0.75))
        top = (300 + 200 * np.sin((x + self.shift) / 90)).astype(np.int32)
        for colour, part in ((t.up, slice(0, None, 2)), (t.down, slice(1, None, 2))):
            self._strokes.rects(p, x[part], 1, top[part] - 20, top[part] + 60, colour)
            if wide > 1:
                self._strokes.rects(p, x[part], wide, top[part], top[part] + 40, colour)
            self._strokes.rects(p, x[part], wide, 900 - top[part] // 4, 899, colour)
        self._strokes.lines(p, x[:-1], top[:-1], x[1:], top[1:], t.accent, len(x) - 1)
        p.end()


class _Example(pg.GraphicsObject):  # type: ignore[misc]
    """pyqtgraph/examples/customGraphicsItem.py."""

    def __init__(self, bars: Bars) -> None:
        super().__init__()
        self.picture = QPicture()
        p = QPainter(self.picture)
        p.setPen(pg.mkPen("w"))
        columns = (bars.open, bars.high, bars.low, bars.close)
        for i, (opened, high, low, close) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            if low != high:
                p.drawLine(QLineF(QPointF(i, low), QPointF(i, high)))
            p.setBrush(pg.mkBrush("r" if opened > close else "g"))
            p.drawRect(QRectF(i - 0.3, opened, 0.6, close - opened))
        p.end()

    def paint(self, p: QPainter, *_args: object) -> None:
        p.drawPicture(0, 0, self.picture)

    def boundingRect(self) -> QRectF:
        return QRectF(self.picture.boundingRect())


def _show(app: QApplication, widget: QWidget) -> None:
    widget.resize(1600, 900)
    widget.show()
    for _i in range(5):
        app.processEvents()


def _bare_ms(app: QApplication, visible: int) -> float:
    bare = _Bare(min(visible, 1500))
    _show(app, bare)

    def pan(i: int) -> None:
        bare.shift = i * 3
        bare.update()

    return _frame_ms(app, pan)


def _example_ms(app: QApplication, visible: int) -> float | None:
    if visible > 10_000:
        return None
    bars = _bars(10_000)
    plot = pg.PlotWidget()
    plot.addItem(_Example(bars))
    _show(app, plot)
    low, high = float(bars.low.min()), float(bars.high.max())
    return _frame_ms(app, lambda i: plot.setRange(xRange=(i, i + visible), yRange=(low, high), padding=0))


def main() -> None:
    """Print one line for each number of visible candles."""
    app = QApplication([])
    theme.apply(app)
    count = 1_000_000
    bars = _bars(count)
    chart = ChartView()
    chart.set_series("sim:LOAD", "1m", bars)
    _show(app, chart)
    last = bars.slice(count - 1, count)
    print(
        f"{'visible':>9}  {'bare':>6}  {'chart':>6}  {'ratio':>5}  {'tick':>6}  {'crosshair':>9}  {'example':>8}   ms"
    )
    for visible in (150, 2_000, count):
        bare = _bare_ms(app, visible)
        chart._show(count - visible, count)

        def move(i: int, n: int = visible) -> None:
            chart._show(count - n - i * 3 - 1, count - i * 3 - 1)

        pan = _frame_ms(app, move)
        price = float(last.close[0])

        def tick(i: int, price: float = price) -> None:
            high, low = price + i + 1, price - 1
            chart.update_forming(
                Candle(
                    "sim:LOAD",
                    "1m",
                    int(last.open_ns[0]),
                    price,
                    high,
                    low,
                    price + i % 9,
                    1.0,
                    1.0,
                    False,
                    "simulated",
                )
            )

        chart._show(count - visible, count)
        live = _frame_ms(app, tick)
        chart._hover(QPoint(700, 300))
        app.processEvents()
        cross = _frame_ms(app, lambda i: chart._hover(QPoint(700 + 3 * i, 300 + i)))
        chart._hover(None)
        example = _example_ms(app, visible)
        shown = f"{example:8.1f}" if example is not None else f"{'-':>8}"
        print(f"{visible:>9,}  {bare:6.2f}  {pan:6.2f}  {pan / bare:5.2f}  {live:6.2f}  {cross:9.2f}  {shown}")


if __name__ == "__main__":
    main()
