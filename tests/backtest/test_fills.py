"""The fill rules, on bars one can check by hand: eight flat ones but those shown."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.backtest.bars import MINUTE_NS, run
from watchhamster.backtest.run import InstrumentRules

S = {"stop_percent": 2, "target_percent": 4}
LEGS = {"stop_percent": 2, "targets": [{"percent": 2, "share": 0.5}, {"percent": 4, "share": 0.5}]}
FREE = InstrumentRules()


def qty(amount: float) -> dict[str, Any]:
    return {"entry": {"size": {"amount": amount}}}


def fee(percent: str) -> InstrumentRules:
    return InstrumentRules(maker_percent=Decimal(percent), taker_percent=Decimal(percent))


SLIP = {"costs": {"slippage": {"basis_points": 10}}}
LIMIT = {"entry": {"size": {"amount": 10}, "limit": "close - 1"}, "protect": {"stop_percent": 2, "target_percent": 2}}
BUY = (2, "buy", 100, 10, "entry")

# name: (bars that differ, what is given, the fills)
CASES: dict[str, tuple[dict[int, Any], dict[str, Any], list[tuple[int, str, float, float, str]]]] = {
    "the next open": (
        {2: (101, 101.5, 100.5, 101)},
        {"entries": [1], **qty(9)},
        [(2, "buy", 101, 9, "entry")],
    ),
    "a stop is touched": (
        {4: (100, 100.5, 97, 97.5)},
        {"entries": [1], "protect": S},
        [BUY, (4, "sell", 98, 10, "stop")],
    ),
    "touching is enough": (
        {4: (100, 100.5, 98, 99)},
        {"entries": [1], "protect": S},
        [BUY, (4, "sell", 98, 10, "stop")],
    ),
    "a gap through the stop": (
        {4: (95, 96, 94, 95)},
        {"entries": [1], "protect": S},
        [BUY, (4, "sell", 95, 10, "stop")],
    ),
    "a gap through the target": (
        {4: (106, 107, 105, 106)},
        {"entries": [1], "protect": S},
        [BUY, (4, "sell", 106, 10, "target")],
    ),
    "a gap through the target, then down to the stop: the open came first": (
        {4: (106, 107, 97, 97)},
        {"entries": [1], "protect": S},
        [BUY, (4, "sell", 106, 10, "target")],
    ),
    "stop before target, whatever the close": (
        {4: (100, 105, 97, 104.5)},
        {"entries": [1], "protect": S},
        [BUY, (4, "sell", 98, 10, "stop")],
    ),
    "the stop is live in the entry's bar": (
        {2: (100, 100.5, 97, 100)},
        {"entries": [1], "protect": S},
        [BUY, (2, "sell", 98, 10, "stop")],
    ),
    "the target is live in the entry's bar": (
        {2: (100, 105, 99.5, 100)},
        {"entries": [1], "protect": S},
        [BUY, (2, "sell", 104, 10, "target")],
    ),
    "the last bar's decision never fills": ({}, {"entries": [7], "protect": S}, []),
    "in again after a stop, at the same close": (
        {4: (100, 100.5, 97, 100)},
        {"entries": [1, 4], "protect": {"stop_percent": 2}, **qty(5)},
        [(2, "buy", 100, 5, "entry"), (4, "sell", 98, 5, "stop"), (5, "buy", 100, 5, "entry")],
    ),
    "an entry while in is dropped, not queued": (
        {4: (100, 100.5, 97, 100)},
        {"entries": [1, 3], "protect": S},
        [BUY, (4, "sell", 98, 10, "stop")],
    ),
    "entry and exit at once, flat": ({}, {"entries": [1], "exits": [1]}, []),
    "a signal beats a gapped stop": (
        {4: (95, 96, 94, 95)},
        {"entries": [1], "exits": [3], "protect": S},
        [BUY, (4, "sell", 95, 10, "signal")],
    ),
    "a trail: the bar's own high does not count": (
        {3: (104, 110, 103, 108), 4: (108, 109, 104, 105)},
        {"entries": [1], "protect": {"trailing_percent": 5}},
        [BUY, (4, "sell", 104.5, 10, "trail")],
    ),
    "a trail, gapped": (
        {3: (104, 110, 103, 108), 4: (101, 102, 100, 101)},
        {"entries": [1], "protect": {"trailing_percent": 5}},
        [BUY, (4, "sell", 101, 10, "trail")],
    ),
    "a trail, armed": (
        {3: (100, 102.5, 98, 102), 4: (102, 104, 101, 103.5), 5: (103.5, 103.6, 102, 102.5)},
        {"entries": [1], "protect": {"trailing_percent": 1, "trailing_arm_percent": 3}},
        [BUY, (5, "sell", 102.96, 10, "trail")],
    ),
    "of stop and trail the nearer": (
        {3: (104, 110, 103, 108), 4: (108, 109, 90, 105)},
        {"entries": [1], "protect": {"trailing_percent": 5, "stop_percent": 2}},
        [BUY, (4, "sell", 104.5, 10, "trail")],
    ),
    "break-even": (
        {3: (100, 103, 99.5, 102), 4: (102, 102, 99, 99.5)},
        {"entries": [1], "protect": {"break_even_percent": 2, "stop_percent": 5}},
        [BUY, (4, "sell", 100, 10, "break_even")],
    ),
    "two legs": (
        {4: (100, 103, 99.5, 102), 5: (102, 105, 101, 104)},
        {"entries": [1], "protect": LEGS},
        [BUY, (4, "sell", 102, 5, "target"), (5, "sell", 104, 5, "target")],
    ),
    "one leg, then the stop takes the rest": (
        {4: (100, 103, 99.5, 102), 5: (102, 102.5, 97, 98)},
        {"entries": [1], "protect": LEGS},
        [BUY, (4, "sell", 102, 5, "target"), (5, "sell", 98, 5, "stop")],
    ),
    "stop and first leg in one bar": (
        {4: (100, 103, 97, 102)},
        {"entries": [1], "protect": LEGS},
        [BUY, (4, "sell", 98, 10, "stop")],
    ),
    "both legs in one bar": (
        {4: (100, 105, 99.5, 102)},
        {"entries": [1], "protect": LEGS},
        [BUY, (4, "sell", 102, 5, "target"), (4, "sell", 104, 5, "target")],
    ),
    "short: a gap through the stop": (
        {4: (105, 106, 104, 105)},
        {"entries": [1], "side": "short", "protect": S},
        [(2, "sell", 100, 10, "entry"), (4, "buy", 105, 10, "stop")],
    ),
    "short: stop before target": (
        {4: (100, 103, 95, 96)},
        {"entries": [1], "side": "short", "protect": S},
        [(2, "sell", 100, 10, "entry"), (4, "buy", 102, 10, "stop")],
    ),
    "the fee is in the size": (
        {4: (110, 110.5, 109.5, 110)},
        {"entries": [1], "exits": [3], "rules": fee("0.1")},
        [(2, "buy", 100, 1000 / 100.1, "entry"), (4, "sell", 110, 1000 / 100.1, "signal")],
    ),
    "slippage moves market and stop": (
        {4: (100, 100.5, 97, 97.5)},
        {"entries": [1], "protect": S, **qty(9), **SLIP},
        [(2, "buy", 100.1, 9, "entry"), (4, "sell", 97.999902, 9, "stop")],
    ),
    "slippage does not move a target": (
        {4: (100, 105, 99.5, 104)},
        {"entries": [1], "protect": S, **qty(9), **SLIP},
        [(2, "buy", 100.1, 9, "entry"), (4, "sell", 104.104, 9, "target")],
    ),
    "risk 1 % of equity": (
        {4: (100, 100.5, 97, 97.5)},
        {"entries": [1], "protect": S, "entry": {"size": {"risk_percent": 1}}},
        [(2, "buy", 100, 5, "entry"), (4, "sell", 98, 5, "stop")],
    ),
    "whole lots": (
        {},
        {"entries": [1], "rules": InstrumentRules(lot=Decimal(3))},
        [(2, "buy", 100, 9, "entry")],
    ),
    "below the least total": ({}, {"entries": [1], "rules": InstrumentRules(least_total=Decimal(5000))}, []),
    "no bar: the order waits": (
        {2: None, 3: (103, 103.5, 102.5, 103)},
        {"entries": [1], **qty(5)},
        [(3, "buy", 103, 5, "entry")],
    ),
    "delisted": (
        {6: None, 7: None},
        {"entries": [1], "rules": InstrumentRules(delisted=True)},
        [BUY, (5, "sell", 100, 10, "delisted")],
    ),
    "out after three bars": (
        {},
        {"entries": [1], "protect": {"max_bars": 3}},
        [BUY, (5, "sell", 100, 10, "time")],
    ),
    "entered inside the bar: the target sees its close only": (
        {2: (100, 101.5, 98.5, 100)},
        {"entries": [1], **LIMIT},
        [(2, "buy", 99, 10, "entry")],
    ),
    "entered inside the bar: the stop sees all of it": (
        {2: (100, 101.5, 96, 100)},
        {"entries": [1], **LIMIT},
        [(2, "buy", 99, 10, "entry"), (2, "sell", 97.02, 10, "stop")],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_fills(name: str) -> None:
    rows, given, expected = CASES[name]
    result = run(rows, **given)
    got = [(fill.at_ns // MINUTE_NS, fill.side, fill.price, fill.size, fill.reason) for fill in result.fills]
    assert [(bar, side, reason) for bar, side, _, _, reason in got] == [(b, s, r) for b, s, _, _, r in expected]
    for (_, _, price, size, _), (_, _, wanted, wanted_size, _) in zip(got, expected, strict=True):
        assert price == pytest.approx(wanted, rel=1e-12)
        assert size == pytest.approx(wanted_size, rel=1e-12)
