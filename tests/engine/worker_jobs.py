"""What the pool's tests have its workers do: importable there, and light."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

import numpy as np

from watchhamster.core.bars import Bars
from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text

Report = Callable[[object], None]
_seen: dict[int, int] = {}


def add(a: float, b: float) -> float:
    return a + b


def process() -> int:
    return os.getpid()


def modules() -> set[str]:
    return {name.partition(".")[0] for name in sys.modules}


def thickness() -> tuple[int, str]:
    return os.nice(0), os.environ["OMP_NUM_THREADS"]


def look(bars: Bars, other: Bars) -> tuple[float, bool, int]:
    """The sum of the closes, whether both are one, how often this one was seen."""
    _seen[id(bars)] = _seen.get(id(bars), 0) + 1
    return float(np.sum(bars.close)), bars is other, _seen[id(bars)]


def spoil(bars: Bars) -> float:
    bars.close[:] = 0.0
    return float(np.sum(bars.close))


def refuse() -> None:
    raise UsageError(
        "no_such_thing", Text("There is no {thing}.", {"thing": "unicorn"}), Text("Look again."), position=3
    )


def stumble() -> None:
    print("a strategy may print what it likes")
    raise ZeroDivisionError("by nothing")


def leave() -> None:
    sys.exit(3)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def loop() -> None:
    while True:
        pass


def count(upto: int, report: Report) -> int:
    for n in range(upto):
        report(n)
    return upto


def wait_for_the_end(report: Report) -> None:
    while True:
        report(os.getpid())
        time.sleep(0.001)


def gobble(_megabytes: int) -> int:
    kept = [np.ones(1_000_000) for _ in range(_megabytes // 8)]
    return len(kept)


def wait_until(path: str) -> int:
    """Until there is a file."""
    while not os.path.exists(path):
        time.sleep(0.01)
    return os.getpid()


def warm() -> None:
    os.environ["WORKER_IS_WARM"] = "yes"


def is_warm() -> str:
    return os.environ.get("WORKER_IS_WARM", "no")


def warm_slowly(path: str) -> None:
    for word in ("begins", "ends"):
        with open(path, "a") as file:
            file.write(f"{word}\n")
        time.sleep(0.2)
