"""Many rectangles or lines with one call to Qt: the candles, volumes, averages, sparklines and book bars are these.

A Python loop over Qt objects costs seven times as much. Qt is given the memory of a numpy buffer instead: a `QRect` is
four int32 (left, top, right, bottom, the last two inclusive), a `QLine` is x1, y1, x2, y2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QLine, QPointF, QRect, Qt
from PySide6.QtGui import QColor, QPainter, QPen
from shiboken6 import Shiboken

Numbers = NDArray[Any] | int


def to_device_pixels(p: QPainter) -> float:
    """Let one unit be one device pixel, from a whole one on; returns the device pixels in a logical one.

    At fractional scales equal logical rectangles would become 3 or 4 device pixels wide; whole ones stay equal.
    """
    transform = p.deviceTransform()
    dpr = transform.m11()
    corner = transform.map(QPointF(0, 0))
    p.translate((round(corner.x()) - corner.x()) / dpr, (round(corner.y()) - corner.y()) / dpr)
    p.scale(1 / dpr, 1 / dpr)
    return float(dpr)


class Strokes:
    """A buffer that painters share; it must outlive the calls, and grows with what is drawn."""

    def __init__(self) -> None:
        self._buffer = np.empty((4096, 4), np.int32)

    def _filled(self, kind: type, n: int, first: Numbers, second: Numbers, third: Numbers, fourth: Numbers) -> Any:
        """Write `n` rows of four numbers; returns the first as Qt's own kind of object."""
        if n > len(self._buffer):
            self._buffer = np.empty((2 * n, 4), np.int32)
        rows = self._buffer[:n]
        rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3] = first, second, third, fourth
        return Shiboken.wrapInstance(rows.ctypes.data, kind)

    def rects(
        self, p: QPainter, left: NDArray[Any], width: Numbers, top: Numbers, bottom: Numbers, colour: QColor
    ) -> None:
        """Fill rectangles: left and width in pixels, top and bottom the first and last row that is filled."""
        if n := len(left):
            p.setPen(Qt.PenStyle.NoPen)
            p.setBrush(colour)
            p.drawRects(self._filled(QRect, n, left, top, left + (width - 1), bottom), n)

    def lines(
        self, p: QPainter, x1: Numbers, y1: Numbers, x2: Numbers, y2: Numbers, pen: QPen | QColor, n: int
    ) -> None:
        """Draw `n` lines."""
        if n > 0:
            p.setPen(pen)
            p.drawLines(self._filled(QLine, n, x1, y1, x2, y2), n)
