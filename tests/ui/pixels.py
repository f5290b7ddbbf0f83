"""What is seen on a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PySide6.QtGui import QColor, QImage


def where(image: QImage, colour: QColor) -> NDArray[np.bool_]:
    """Rows by columns: where a picture has exactly a colour."""
    rgb = image.convertToFormat(QImage.Format.Format_RGB32)
    numbers = np.frombuffer(rgb.constBits(), np.uint32).reshape(rgb.height(), rgb.bytesPerLine() // 4)
    same: NDArray[np.bool_] = (numbers[:, : rgb.width()] | 0xFF000000) == colour.rgb()
    return same


def count(image: QImage, colour: QColor) -> int:
    """How many of its pixels have a colour."""
    return int(where(image, colour).sum())
