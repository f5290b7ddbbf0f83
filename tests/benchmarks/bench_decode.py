"""What reading a frame costs, beside cryptofeed's and ccxt.pro's own handlers, in one run.

    python -m venv /tmp/peers && /tmp/peers/bin/pip install cryptofeed ccxt
    python tests/benchmarks/bench_decode.py --peers /tmp/peers/bin/python [--rounds 5]

Raw bytes to a normalised event, all of it checked: a trade at least 3 x, a book of 15 levels at least 8 x cryptofeed.
Every contender runs once a round in a process of its own; the figures are medians of CPU time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

CONTENDERS = Path(__file__).resolve().with_name("contenders.py")
ROOT = CONTENDERS.parents[2]


def measure(names: Mapping[str, int], rounds: int, peers: str | None, command: Sequence[str]) -> dict[str, float]:
    """Median microseconds of CPU a message, by contender; `names` say how many messages each gets.

    `command` goes to `contenders.py`, with `{name}` and `{count}` in it.
    """
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, count in names.items():
            ours = name.startswith("ours")
            python = sys.executable if ours else peers
            if python is None:
                continue
            done = subprocess.run(
                [python, "-W", "ignore", str(CONTENDERS), *(part.format(name=name, count=count) for part in command)],
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
                env={**os.environ, "PYTHONPATH": str(ROOT)} if ours else None,
            )
            if done.returncode:
                print(f"  {name}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
                continue
            found[name].append(json.loads(done.stdout.splitlines()[-1])[0] * 1e6)
    return {name: statistics.median(values) for name, values in found.items() if values}


def table(title: str, costs: Mapping[str, float]) -> None:
    """Print costs, and how many times cryptofeed each is."""
    print(title)
    base = costs.get("cryptofeed")
    for name, cost in costs.items():
        ratio = f"{base / cost:6.2f} x cryptofeed" if base else ""
        print(f"  {name:22} {cost:8.2f} µs a message {ratio}", flush=True)


def options(description: str | None) -> argparse.Namespace:
    """`--peers` and `--rounds`."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--peers", help="a Python that has cryptofeed and ccxt")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    given = options(__doc__)
    names = {"ours": 10_000, "ours, DEFAULT format": 10_000, "cryptofeed": 5_000, "ccxt.pro": 2_000}
    for kind, title in (("trade", "a trade"), ("orderbook", "a book of 15 levels")):
        table(title, measure(names, given.rounds, given.peers, ("decode", "{name}", kind, "{count}")))


if __name__ == "__main__":
    main()
