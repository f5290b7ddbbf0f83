"""News of the simulated market: headlines that fit what the price did, the same for whoever asks."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from typing import NamedTuple

from watchhamster.sim.shares import SHARES, Share
from watchhamster.sim.stocks import Stocks

_SLOT_S = 3 * 3600
_PUBLISHERS = ("Simulated Wire", "Hamster Finance", "The Daily Wheel", "Burrow Street Journal", "Seed & Grain")
_RISING = (
    "{name} climbs {move}% as buyers return",
    "Why {name} is up {move}% today",
    "{name} extends its gains, rising {move}%",
)
_FALLING = (
    "{name} slips {move}% as traders take profits",
    "Why {name} is down {move}% today",
    "{name} drops {move}% & leads decliners",
)
_FLAT = ("{name} little changed ahead of the weekend", "What to watch for {name} this week", "{name}: the bull case")


class Headline(NamedTuple):
    """One story. `related` names the instruments it is about; some name none."""

    id: str
    title: str
    publisher: str
    published_s: int
    video: bool
    related: tuple[str, ...]


def headlines(stocks: Stocks, share: Share, now_s: int) -> Iterator[Headline]:
    """Stories about an instrument that are out by now, the newest first, a month back."""
    for slot in range(now_s // _SLOT_S, (now_s - 30 * 86400) // _SLOT_S, -1):
        seen = hashlib.sha256(f"{stocks.world.seed}:{share.symbol}:{slot}".encode()).digest()
        at = slot * _SLOT_S + int.from_bytes(seen[:4], "big") % _SLOT_S
        if seen[4] % 3 or at > now_s:
            continue
        summary = stocks.summary(share.symbol, at * 1000)
        if summary is None:
            return
        move = (summary.price / summary.previous_close - 1) * 100
        texts = _RISING if move > 0.2 else _FALLING if move < -0.2 else _FLAT
        title = texts[seen[5] % len(texts)].format(name=share.short.title(), move=f"{abs(move):.1f}")
        other = SHARES[seen[6] % len(SHARES)].symbol
        related = ((share.symbol,), (share.symbol,), (share.symbol, other), (other,), ())[seen[7] % 5]
        yield Headline(
            str(uuid.UUID(bytes=seen[8:24])),
            title,
            _PUBLISHERS[seen[24] % len(_PUBLISHERS)],
            at,
            seen[25] % 9 == 0,
            related,
        )
