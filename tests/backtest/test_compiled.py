"""The compiled kernel gives the interpreted one's bits. In a process of its own: numba stays out of this one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
import msgspec
import numpy as np
from tests.backtest.bars import BTC, DOCUMENTS, walk
from tests.backtest.test_run import COSTLY, TICKS, finer_of, plain, several
from watchhamster.backtest.run import History, backtest, sweep

from watchhamster.backtest.metrics import digest

def values(digest):
    return [np.asarray(value, float) for value in msgspec.structs.astuple(digest)]

assert "numba" not in sys.modules
for name, document in DOCUMENTS.items():
    for rules in (COSTLY, TICKS):
        runs = [
            backtest(document, {BTC: walk(3000, 41)}, cash=10_000, rules={BTC: rules}, compiled=compiled)
            for compiled in (False, True)
        ]
        assert runs[0].fills and plain(runs[0]) == plain(runs[1]), name
    runs = [backtest(document, several(), cash=10_000, compiled=compiled) for compiled in (False, True)]
    assert runs[0].fills and plain(runs[0]) == plain(runs[1]), name
    (swept,) = sweep(document, History(several(), "1m"), [{}], cash=10_000, compiled=True)
    for one, other in zip(values(digest(runs[0])), values(swept.digest), strict=True):
        assert one.tobytes() == other.tobytes(), name
assert "numba" in sys.modules
print("same")
"""


@pytest.mark.slow  # compiling takes half a minute where it was never done
@pytest.mark.timeout(900)
def test_the_compiled_kernel_gives_the_same_bits() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "same", done.stderr[-3000:]


def test_numba_is_imported_only_when_it_is_asked_for() -> None:
    script = "import sys, watchhamster.backtest.run, watchhamster.backtest.account; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
