"""Columns of candles keep what makes them comparable, whatever is done to them."""

from __future__ import annotations

import msgspec
import numpy as np

from watchhamster.core.actions import adjustment, as_traded
from watchhamster.core.bars import Bars
from watchhamster.core.candles import fold_bars
from watchhamster.core.market import Action, AdjustedCandle, Candle, to_json
from watchhamster.core.timeframes import SECOND_NS, timeframe

HOUR_NS = 3600 * SECOND_NS
DAY_NS = 24 * HOUR_NS


def bars(count: int, adjusted: bool = True, *, step_ns: int = HOUR_NS) -> Bars:
    price = np.arange(1.0, count + 1)
    times = np.arange(count, dtype=np.int64) * step_ns
    factors = np.linspace(0.5, 1.0, count) if adjusted else None
    return Bars(times, price, price, price, price, price, price, factors)


def factors(found: Bars) -> list[float] | None:
    return None if found.adjustment is None else found.adjustment.tolist()


def test_parts_keep_their_factors() -> None:
    whole = bars(6)
    assert factors(whole.slice(1, 3)) == [0.6, 0.7]
    assert factors(whole.between(2 * HOUR_NS, 4 * HOUR_NS)) == [0.7, 0.8]
    assert factors(bars(6, adjusted=False).slice(1, 3)) is None


def test_what_is_merged_or_folded_keeps_its_factors() -> None:
    whole, plain = bars(6), bars(8, adjusted=False)
    merged = Bars.merged([whole, plain])
    assert factors(merged) == [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0, 1.0]  # where both have a row, the first's
    assert merged.close.tolist() == plain.close.tolist()
    assert factors(Bars.merged([plain, plain])) is None
    assert factors(fold_bars(whole, timeframe("2h"))) == [0.6, 0.8, 1.0]  # a bar's factor is its close's


def test_candles_carry_their_factor_there_and_back() -> None:
    """One whose factor is 1 is a plain candle, and prints as it always did."""
    whole = bars(6)
    candles = list(whole.candles("yahoo:X", "1h", "backfill"))
    assert [getattr(c, "adjustment", None) for c in candles] == [0.5, 0.6, 0.7, 0.8, 0.9, None]
    assert factors(Bars.of(candles)) == factors(whole)
    assert factors(Bars.of(iter(candles[5:]))) is None
    assert type(candles[5]) is Candle and isinstance(candles[0], AdjustedCandle)
    assert msgspec.json.decode(to_json(candles[0]))["kind"] == "candle"
    assert b"adjustment" not in to_json(candles[5])


def test_a_distribution_counts_from_the_first_bar_of_its_day() -> None:
    """Whatever the bars' length: the last close before that day sets the share."""
    day = bars(48)
    paid = [Action("yahoo:X", DAY_NS, "dividend", 6.0)]
    found = adjustment(day.open_ns, day.close, paid, length_ns=HOUR_NS)
    assert found.tolist() == [1 - 6.0 / 24.0] * 24 + [1.0] * 24
    days = bars(2, step_ns=DAY_NS)
    assert adjustment(days.open_ns, days.close, [paid[0]], length_ns=DAY_NS).tolist()[1] == 1.0
    later = [Action("yahoo:X", 48 * HOUR_NS, "dividend", 12.0)]
    assert adjustment(day.open_ns, day.close, later, length_ns=HOUR_NS).tolist() == [0.75] * 48  # all was before it
    split = [Action("yahoo:X", DAY_NS, "split", 4.0)]
    assert as_traded(day.open_ns, split, HOUR_NS).tolist() == [4.0] * 24 + [1.0] * 24
    assert adjustment(day.open_ns, day.close, split).tolist() == [1.0] * 48  # prices are divided by it already
