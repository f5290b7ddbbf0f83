#!/usr/bin/env bash
# Make the README's pictures again: a fixed moment of the built-in exchange, so they change only when the window does.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT

picture() { # NAME PAGE THEME LANGUAGE
    .venv/bin/watchhamster --home "$home" screenshot "$2" "resources/screenshots/$1.png" --demo \
        --theme "$3" --lang "$4" --size 1440x900
}

picture main-dark main dark en
picture share-light-ko share light ko
picture alerts-dark alerts dark en
picture status-light status light en
picture lab-dark lab dark en

# Two hundred and fifty-six colours are as many as a window of flat ones needs, at a quarter of the bytes.
.venv/bin/python - resources/screenshots/*.png <<'PYTHON'
import sys
from collections import Counter

from PySide6.QtCore import Qt
from PySide6.QtGui import QImage

for name in sys.argv[1:]:
    picture = QImage(name).convertToFormat(QImage.Format.Format_RGB32)
    counted = Counter(memoryview(picture.constBits()).cast("I").tolist())
    # what differs in the last bits only is one colour
    coarse = Counter()
    for colour, count in counted.items():
        coarse[colour | 0xFF000000 if count > 200 else colour & 0xF8F8F8 | 0xFF040404] += count
    table = [colour for colour, _count in coarse.most_common(256)]
    flat = Qt.ImageConversionFlag.ThresholdDither | Qt.ImageConversionFlag.AvoidDither
    picture.convertToFormat(QImage.Format.Format_Indexed8, table, flat).save(name, "PNG", 0)
PYTHON
