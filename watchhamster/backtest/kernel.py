"""The step: what one moment of the market does to an account. Fills, stops, sizes, costs, in one definition.

`trade` carries the orders and positions through the bars that open at a moment, `close` marks the account at their
closes and takes the decisions that fill no earlier than each instrument's next bar. `run` is a loop over both. Live
trading calls them on one bar at a time, single runs interpret the loop, warm workers compile it (`compiled`): the same
functions, so the same bits. Hence only arithmetic that CPython and numba round alike: no powers, no sums of arrays, no
call that raises here and gives NaN there; every divisor is guarded.

Inside a bar, in this order:

1. *open*: market exits of all instruments (their cash is free now), then entries, by score, then in list order;
2. *gap*: what the open has passed fills at the open: a stop before a target;
3. *inside*: resting entries that the bar touches; then a stop (all that is left), else targets. A bar that holds both
   is a stop. Entered at the open, both are live; entered inside, the stop sees the whole bar, the target its close;
4. *close*: the account is marked, the decisions are taken.

Where finer bars lie inside a bar, 2 and 3 walk them instead.

`run` leaves out what would do nothing: quiet bars, and of one instrument's market entries and whole exits all but the
fill. What it skips is the step's own result, to the bit.

All numbers live in one vector `x`, so that a step takes two arguments and can be compiled well: the account, what the
strategy says, then a block for each instrument (`BLOCK` places from `BLOCKS` on): what the venue says, the state of its
orders and position, and its bar of this moment (`ROW` says whether it has one); then the price steps, three places
each: from which price on, and the step as number / divisor. `tape` takes `RECORD` places for each fill or refusal.
Percentages are in percent, and a level is `entry * (100 - percent) / 100`, which is exact where it is on paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, MutableSequence, Sequence
from functools import lru_cache
from types import FunctionType
from typing import Any, Final, NamedTuple, TypeAlias

Numbers: TypeAlias = MutableSequence[float]  # a list for the interpreter, an array for the compiled kernel

# ---------------------------------------------------------------- words

# bits of a signal
LONG: Final = 1
SHORT: Final = 2
FIRST_EXIT: Final = 2  # exit e is bit e + 2
DELISTING: Final = 1 << 15  # the instrument's very last bar
EXITS_MAX: Final = 12
LEGS_MAX: Final = 8

# reasons of fills (exit e is EXIT + e), then of refusals
ENTRY: Final = 0
STOP: Final = 1
TARGET: Final = 2
TRAIL: Final = 3
BREAK_EVEN: Final = 4
TIME: Final = 5
REVERSE: Final = 6
LIQUIDATED: Final = 7
DELISTED: Final = 8
END: Final = 9
EXIT: Final = 16
NO_CASH: Final = 32
PARTIAL: Final = 33  # cut to the cash: this much was not bought
POSITIONS: Final = 34
LEAST_TOTAL: Final = 35
LOT: Final = 36
NO_SHORT: Final = 37
CUT: Final = 38  # to the share of the traded volume: this much was not bought
NO_PRICE: Final = 39
NO_SIZE: Final = 40
REASONS: Final = {
    ENTRY: "entry", STOP: "stop", TARGET: "target", TRAIL: "trail", BREAK_EVEN: "break_even", TIME: "time",
    REVERSE: "reverse", LIQUIDATED: "liquidated", DELISTED: "delisted", END: "end",
    NO_CASH: "cash", PARTIAL: "partial", POSITIONS: "positions", LEAST_TOTAL: "least_total", LOT: "lot",
    NO_SHORT: "short", CUT: "volume", NO_PRICE: "price", NO_SIZE: "size",
}  # fmt: skip

# kinds of entry orders, and of sizes
MARKET: Final = 0
LIMIT: Final = 1
STOP_ORDER: Final = 2
BY_EQUITY: Final = 0
BY_CASH: Final = 1
BY_MONEY: Final = 2
BY_AMOUNT: Final = 3
BY_RISK: Final = 4
BY_VOLATILITY: Final = 5
BY_WEIGHT: Final = 6

# how much attention an instrument needs
IDLE: Final = 0.0  # flat, no orders, free to enter: only a signal matters
AWAKE: Final = 1.0
CALM: Final = 2.0  # in a long position, no orders: see FLOOR

NEVER: Final = 1e300
NO_BAR: Final = -1.0
MARKED: Final = -2.0  # it has a bar, in which nothing but its last close changed

RECORD: Final = (
    8  # row, instrument, signed size, price, fee, reason, distance to the stop of an entry, what is held then
)

ULP_DOWN: Final = 0.9999999999999999  # 1 - 2**-53: times this, a float falls by one unit in the last place
LEAST_PART: Final = 0.01  # less than this of what was asked is no fill but a refusal

# ---------------------------------------------------------------- places in x

# the account
CASH: Final = 0
HELD_BACK: Final = 1  # for shorts: the sum of RESERVED
OPEN: Final = 2  # positions
OUTS: Final = 3  # pending exits
ORDERS: Final = 4  # pending entries
TAPED: Final = 5  # records on the tape
AMBIGUOUS: Final = 6  # bars that held stop and target, and nothing finer told which came first
PASS: Final = 7  # counts the passes over pending entries
WORTH: Final = 8  # equity when this bar's entries are sized
EQUITY: Final = 9  # at the last close
INVESTED: Final = 10  # value of the positions at the last close, absolute
AWAKEN: Final = (
    11  # instruments whose bar of this moment is looked at; their blocks' places are listed after the blocks
)
# the strategy
P_INSTRUMENTS: Final = 12
P_SIZE_MODE: Final = 13
P_SIZE: Final = 14  # a share (0.01 is one percent), money, or an amount
P_ATR_MULTIPLE: Final = 15  # of volatility sizes
P_STOP: Final = 16  # percent, 0: none
P_STOP_ATR: Final = 17  # as many ATR, 0: none
P_TRAIL: Final = 18
P_ARM: Final = 19
P_BREAK_EVEN: Final = 20
P_MAX_BARS: Final = 21
P_COOLDOWN: Final = 22
P_MAX_ENTRIES: Final = 23
P_ORDER: Final = 24  # MARKET, LIMIT, STOP_ORDER
P_VALID: Final = 25  # bars that a limit or stop order waits, 0: until it is replaced
P_MAX_POSITIONS: Final = 26  # 0: any
P_SLIP: Final = 27  # fraction
P_SLIP_TICKS: Final = 28
P_VOLUME_SHARE: Final = 29  # 0: no cap
P_BORROW: Final = 30  # fraction a bar
P_LONG_EXITS: Final = 31  # masks of the signal's bits
P_SHORT_EXITS: Final = 32
P_GUARDED: Final = 33  # 1: there are stops or targets of any kind
P_LEGS: Final = 34  # how many targets
P_WALKED: Final = 35  # 1: a trail or break-even is walked over finer bars
P_SHARES: Final = 36  # of each exit, EXITS_MAX places
P_TARGETS: Final = P_SHARES + EXITS_MAX  # percent and share of each leg, LEGS_MAX places each
BLOCKS: Final = P_TARGETS + 2 * LEGS_MAX
# an instrument's block: the venue, the state, the bar
NUMBER: Final = 0  # of the instrument, in list order
R_MAKER: Final = 1  # fee, fraction of the notional
R_TAKER: Final = 2
R_FIXED: Final = 3
R_LEAST_FEE: Final = 4
R_LOT_NUMBER: Final = 5  # a lot is number / divisor; 0: any size
R_LOT_DIVISOR: Final = 6
R_LEAST_TOTAL: Final = 7
R_SHORTABLE: Final = 8
R_MAINTENANCE: Final = 9  # fraction of a short's value
R_TICKS_FROM: Final = 10  # its price steps' places
R_TICKS_TO: Final = 11
BUSY: Final = 12  # IDLE, AWAKE or CALM
QTY: Final = 13  # signed
MEAN: Final = 14  # entry price
ENTERED: Final = 15  # all that was entered, absolute
STOP_BELOW: Final = 16  # distance from MEAN to the stop, 0: none
PEAK: Final = 17  # best price since the entry
HELD: Final = 18  # bars
LEG: Final = 19  # the next target
ENTRIES: Final = 20
DONE: Final = 21  # bits of the partial exits that have been taken
LAST: Final = 22  # last close
BEFORE: Final = 23  # the close before it, while ROW is MARKED
FRESH: Final = 24  # 1: entered at this bar's open, 2: inside it
OUT: Final = 25  # pending exit: its reason + 1, 0: none
OUT_QTY: Final = 26  # how much of the position it closes, absolute
ORDER: Final = 27  # pending entry: 1 long, -1 short, 0 none
ORDER_SIDE: Final = 28  # of the last order, pending or not
ORDER_PRICE: Final = 29
ORDER_ATR: Final = 30
ORDER_SCORE: Final = 31
ORDER_BARS: Final = 32  # it has waited
ORDER_SEEN: Final = 33  # the last pass that looked at it
DECIDED: Final = 34  # row of the bar that decided the last order
REST: Final = 35  # bars of the cooldown that are left
USED: Final = 36  # volume taken from this bar
RESERVED: Final = 37  # held back for a short: twice its entry
ACCRUED: Final = 38  # borrowing that is paid with the exit
FLOOR: Final = 39  # while CALM: no bar whose low is above it,
CEILING: Final = 40  # and whose high is below it,
MASK: Final = 41  # and that signals none of these, does anything,
UNTIL: Final = 42  # until so many bars are held
ROW: Final = 43  # the bar of this moment: its row; NO_BAR, or MARKED
OPENED: Final = 44
HIGH: Final = 45
LOW: Final = 46
CLOSE: Final = 47
VOLUME: Final = 48
SIGNAL: Final = 49  # bits LONG, SHORT, then one for each exit
LONG_PRICE: Final = 50  # of the limit or stop order that an entry is
SHORT_PRICE: Final = 51
ATR: Final = 52
SCORE: Final = 53
FINE_FROM: Final = 54  # its finer bars
FINE_TO: Final = 55
BLOCK: Final = 56


# ---------------------------------------------------------------- grids


def _below(x: float, number: float, divisor: float) -> float:
    """The largest float that is a multiple of number / divisor and not above x (x >= 0)."""
    count = math.floor(x * divisor / number)
    if count * number / divisor > x:
        count -= 1
    elif (count + 1) * number / divisor <= x:
        count += 1
    return count * number / divisor


def _whole(x: Numbers, b: int, size: float) -> float:
    """A sum of whole lots, freed of what float64 added to it."""
    number = x[b + R_LOT_NUMBER]
    if number == 0.0:
        return size
    divisor = x[b + R_LOT_DIVISOR]
    return math.floor(size * divisor / number + 0.5) * number / divisor


def _step_of(x: Numbers, b: int, price: float) -> int:
    """Where in the tables the price step stands that holds at a price."""
    place = int(x[b + R_TICKS_FROM])
    last = int(x[b + R_TICKS_TO]) - 3
    while place < last and price >= x[place + 3]:
        place += 3
    return place


def _on_grid(x: Numbers, b: int, price: float, up: bool) -> float:
    """The next price of the venue's grid, up or down; the price itself where it is on it or there is none."""
    if x[b + R_TICKS_FROM] == x[b + R_TICKS_TO]:
        return price
    place = _step_of(x, b, price)
    number = x[place + 1]
    divisor = x[place + 2]
    below = _below(price, number, divisor)
    if below == price or not up:
        return below
    return (math.floor(below * divisor / number + 0.5) + 1) * number / divisor


def _slipped(x: Numbers, b: int, price: float, side: float) -> float:
    """What a market order pays (side 1) or gets (-1) at a price."""
    if x[P_SLIP_TICKS] != 0.0 and x[b + R_TICKS_FROM] != x[b + R_TICKS_TO]:
        place = _step_of(x, b, price)
        price = price + side * x[P_SLIP_TICKS] * x[place + 1] / x[place + 2]
    return _on_grid(x, b, price * (1.0 + side * x[P_SLIP]), side > 0.0)


# ---------------------------------------------------------------- fills


def _fee(x: Numbers, b: int, notional: float, maker: bool) -> float:
    fee: float = notional * (x[b + R_MAKER] if maker else x[b + R_TAKER]) + x[b + R_FIXED]
    least: float = x[b + R_LEAST_FEE]
    return least if fee < least else fee


def _write(
    x: Numbers, tape: Numbers, b: int, row: float, size: float, price: float, fee: float, reason: int, stop: float
) -> None:
    """One record of the tape."""
    n = int(x[TAPED]) * RECORD
    tape[n] = row
    tape[n + 1] = x[b + NUMBER]
    tape[n + 2] = size
    tape[n + 3] = price
    tape[n + 4] = fee
    tape[n + 5] = reason
    tape[n + 6] = stop
    tape[n + 7] = x[b + QTY]
    x[TAPED] += 1.0


def _refuse(x: Numbers, tape: Numbers, b: int, size: float, price: float, reason: int) -> None:
    _write(x, tape, b, x[b + DECIDED], x[b + ORDER_SIDE] * size, price, 0.0, reason, x[b + ORDER_SIDE])


def _fill(x: Numbers, tape: Numbers, b: int, size: float, price: float, maker: bool, why: int) -> None:
    """Move cash and position by a signed size."""
    notional = abs(size) * price
    fee = _fee(x, b, notional, maker)
    if why != ENTRY:
        fee += x[b + ACCRUED]
        x[b + ACCRUED] = 0.0
    if size > 0.0:
        x[CASH] -= notional + fee
    else:
        x[CASH] += notional - fee
    _write(x, tape, b, x[b + ROW], size, price, fee, why, x[b + STOP_BELOW] if why == ENTRY else 0.0)


def _cancel(x: Numbers, b: int) -> None:
    if x[b + ORDER] != 0.0:
        x[b + ORDER] = 0.0
        x[ORDERS] -= 1.0


def _leave(
    x: Numbers,
    tape: Numbers,
    b: int,
    wanted: float,
    price: float,
    maker: bool,
    why: int,
) -> float:
    """Close so much (absolute) of the position, or what the traded volume allows; returns how much was closed."""
    held = abs(x[b + QTY])
    size = min(wanted, held)
    if x[P_VOLUME_SHARE] != 0.0 and why != DELISTED and why != END:
        room = x[b + VOLUME] * x[P_VOLUME_SHARE] - x[b + USED]
        if size > room:
            size = max(room, 0.0)
            if x[b + R_LOT_NUMBER] != 0.0:
                size = _below(size, x[b + R_LOT_NUMBER], x[b + R_LOT_DIVISOR])
        x[b + USED] += size
    if size <= 0.0:
        return 0.0
    side = 1.0 if x[b + QTY] > 0.0 else -1.0
    x[b + QTY] = 0.0 if size >= held else side * _whole(x, b, held - size)
    _fill(x, tape, b, -side * size, price, maker, why)
    if x[b + QTY] == 0.0:
        x[b + REST] = x[P_COOLDOWN]
        x[b + DONE] = 0.0
        x[b + HELD] = 0.0
        x[b + ENTERED] = 0.0
        x[b + ENTRIES] = 0.0
        x[b + LEG] = 0.0
        x[b + STOP_BELOW] = 0.0
        x[b + FRESH] = 0.0
        x[OPEN] -= 1.0
        x[HELD_BACK] -= x[b + RESERVED]
        x[b + RESERVED] = 0.0
        if x[b + OUT] != 0.0:
            x[b + OUT] = 0.0
            x[OUTS] -= 1.0
        if x[b + ORDER] == side:  # it was to add to what is gone
            _cancel(x, b)
    else:
        if side < 0.0:
            reserved = 2.0 * x[b + MEAN] * abs(x[b + QTY])
            x[HELD_BACK] += reserved - x[b + RESERVED]
            x[b + RESERVED] = reserved
    return size


def _leave_all(x: Numbers, tape: Numbers, b: int, price: float, why: int) -> None:
    """A market order for all that is left; what the traded volume does not take goes on at the next open."""
    _leave(x, tape, b, abs(x[b + QTY]), price, False, why)
    if x[b + QTY] != 0.0:
        if x[b + OUT] == 0.0:
            x[OUTS] += 1.0
        x[b + OUT] = why + 1
        x[b + OUT_QTY] = abs(x[b + QTY])


def _leave_at_open(x: Numbers, tape: Numbers, b: int) -> None:
    """The pending market exit meets the open."""
    price = _slipped(x, b, x[b + OPENED], -1.0 if x[b + QTY] > 0.0 else 1.0)
    wanted = min(x[b + OUT_QTY], abs(x[b + QTY]))
    gone = _leave(x, tape, b, wanted, price, False, int(x[b + OUT]) - 1)
    if x[b + OUT] != 0.0:  # a part of the position is left
        x[b + OUT_QTY] = _whole(x, b, wanted - gone)
        if gone >= wanted:
            x[b + OUT] = 0.0
            x[OUTS] -= 1.0


def _partly(x: Numbers, b: int, size: float, price: float) -> float:
    """A part of a position as the venue takes it: whole lots, and nothing below the least total."""
    if x[b + R_LOT_NUMBER] != 0.0:
        size = _below(size, x[b + R_LOT_NUMBER], x[b + R_LOT_DIVISOR])
    return size if size * price >= x[b + R_LEAST_TOTAL] else 0.0


# ---------------------------------------------------------------- entries


def _stop_distance(x: Numbers, price: float, atr: float) -> float:
    """How far from its entry price a position's stop lies; the nearer of two, 0 for none."""
    distance = 0.0
    if x[P_STOP] != 0.0:
        distance = price * x[P_STOP] / 100.0
    if x[P_STOP_ATR] != 0.0 and atr == atr:
        by_atr = x[P_STOP_ATR] * atr
        if by_atr > 0.0 and (distance == 0.0 or by_atr < distance):
            distance = by_atr
    return distance


def _affordable(x: Numbers, b: int, money: float, price: float, maker: bool) -> float:
    """How much so much money buys, the fee counted in."""
    rate = x[b + R_MAKER] if maker else x[b + R_TAKER]
    size = (money - x[b + R_FIXED]) / (price * (1.0 + rate))
    if size * price * rate + x[b + R_FIXED] < x[b + R_LEAST_FEE]:
        size = (money - x[b + R_LEAST_FEE]) / price
    return max(size, 0.0)


def _wanted(x: Numbers, b: int, price: float, maker: bool) -> float:
    """The size the strategy asks for at a price, before anything limits it. NaN or 0: none."""
    mode = int(x[P_SIZE_MODE])
    size = x[P_SIZE]
    if mode == BY_EQUITY:
        return _affordable(x, b, x[WORTH] * size, price, maker)
    if mode == BY_CASH:
        return _affordable(x, b, (x[CASH] - x[HELD_BACK]) * size, price, maker)
    if mode == BY_MONEY:
        return _affordable(x, b, size, price, maker)
    if mode == BY_AMOUNT:
        return size
    if mode == BY_WEIGHT:
        return _affordable(x, b, x[WORTH] * size - abs(x[b + QTY]) * price, price, maker)
    distance = _stop_distance(x, price, x[b + ORDER_ATR])
    if mode == BY_VOLATILITY:
        distance = x[P_ATR_MULTIPLE] * x[b + ORDER_ATR]
    return x[WORTH] * size / distance if distance > 0.0 else 0.0


def _enter(x: Numbers, tape: Numbers, b: int, price: float, maker: bool, inside: bool) -> None:
    """The pending entry meets its price: size it, fill it or refuse it. It is pending no longer."""
    side = x[b + ORDER]
    x[b + ORDER] = 0.0
    x[ORDERS] -= 1.0
    if side < 0.0 and x[b + R_SHORTABLE] == 0.0:
        _refuse(x, tape, b, 0.0, price, NO_SHORT)
        return
    if x[b + QTY] == 0.0 and x[P_MAX_POSITIONS] != 0.0 and x[OPEN] >= x[P_MAX_POSITIONS]:
        _refuse(x, tape, b, 0.0, price, POSITIONS)
        return
    wanted = _wanted(x, b, price, maker)
    if not 0.0 < wanted < 1e300:
        _refuse(x, tape, b, 0.0, price, NO_SIZE)
        return
    size = wanted
    if x[P_VOLUME_SHARE] != 0.0:
        room = x[b + VOLUME] * x[P_VOLUME_SHARE] - x[b + USED]
        if size > room:
            _refuse(x, tape, b, wanted - max(room, 0.0), price, CUT)
            size = room
            wanted = room
            if not size > 0.0:
                return
    free = x[CASH] - x[HELD_BACK]
    most = _affordable(x, b, free, price, maker)
    if size > most:
        size = most
    if x[b + R_LOT_NUMBER] != 0.0:
        size = _below(size, x[b + R_LOT_NUMBER], x[b + R_LOT_DIVISOR])
    tries = 0
    while size > 0.0 and tries < 4 and size * price + _fee(x, b, size * price, maker) > free:
        tries += 1
        if x[b + R_LOT_NUMBER] != 0.0:
            size = _below(size * ULP_DOWN, x[b + R_LOT_NUMBER], x[b + R_LOT_DIVISOR])
        else:
            size = size * ULP_DOWN
    if tries == 4 and size * price + _fee(x, b, size * price, maker) > free:
        size = 0.0
    if most < wanted * LEAST_PART:
        _refuse(x, tape, b, wanted, price, NO_CASH)
        return
    if not size > 0.0:
        _refuse(x, tape, b, wanted, price, LOT)
        return
    if size * price < x[b + R_LEAST_TOTAL]:
        _refuse(x, tape, b, size, price, LEAST_TOTAL)
        return
    if most < wanted * (1.0 - 1e-9):
        _refuse(x, tape, b, wanted - size, price, PARTIAL)
    held = abs(x[b + QTY])
    if held == 0.0:
        x[OPEN] += 1.0
        x[b + MEAN] = price
        x[b + PEAK] = price
        x[b + ENTERED] = size
        x[b + HELD] = 0.0
        x[b + LEG] = 0.0
        x[b + DONE] = 0.0
        x[b + ENTRIES] = 1.0
        x[b + FRESH] = 2.0 if inside else 1.0
        x[b + LAST] = price
    else:
        x[b + MEAN] = (x[b + MEAN] * held + price * size) / (held + size)
        x[b + ENTERED] = _whole(x, b, x[b + ENTERED] + size)
        x[b + ENTRIES] += 1.0
        if inside:
            x[b + FRESH] = 2.0
    x[b + STOP_BELOW] = _stop_distance(x, x[b + MEAN], x[b + ORDER_ATR])
    x[b + QTY] = side * _whole(x, b, held + size)
    x[b + USED] += size
    if side < 0.0:
        reserved = 2.0 * x[b + MEAN] * abs(x[b + QTY])
        x[HELD_BACK] += reserved - x[b + RESERVED]
        x[b + RESERVED] = reserved
    _fill(x, tape, b, side * size, price, maker, ENTRY)


def _entry_price(x: Numbers, b: int, at_open: bool) -> float:
    """What the pending entry would pay in this bar, at its open or else inside it; 0: nothing fills."""
    side = x[b + ORDER]
    price = x[b + ORDER_PRICE]
    o = x[b + OPENED]
    kind = int(x[P_ORDER])
    if kind == MARKET:
        return _slipped(x, b, o, side) if at_open else 0.0
    if kind == LIMIT:
        if side * o <= side * price:
            return o if at_open else 0.0
        if at_open:
            return 0.0
        return price if side * (x[b + LOW] if side > 0.0 else x[b + HIGH]) <= side * price else 0.0
    if side * o >= side * price:
        return _slipped(x, b, o, side) if at_open else 0.0
    if at_open or side * (x[b + HIGH] if side > 0.0 else x[b + LOW]) < side * price:
        return 0.0
    return _slipped(x, b, price, side)


def _worth(x: Numbers) -> float:
    """Equity, with every position at its close before this moment."""
    worth: float = x[CASH]
    for b in range(BLOCKS, BLOCKS + int(x[P_INSTRUMENTS]) * BLOCK, BLOCK):
        if x[b + QTY] != 0.0:
            last = x[b + BEFORE] if x[b + ROW] == MARKED else x[b + LAST]
            worth += x[b + QTY] * last - x[b + ACCRUED]
    return worth


def _entries(x: Numbers, tape: Numbers, at_open: bool) -> None:
    """Fill pending entries of the instruments that have a bar, best score first, then in list order."""
    x[PASS] += 1.0
    listed = BLOCKS + int(x[P_INSTRUMENTS]) * BLOCK
    while True:
        best = -1
        for place in range(listed, listed + int(x[AWAKEN])):
            b = int(x[place])
            if x[b + ORDER] == 0.0 or x[b + ORDER_SEEN] == x[PASS]:
                continue
            if best < 0 or x[b + ORDER_SCORE] > x[best + ORDER_SCORE]:
                best = b
        if best < 0:
            return
        x[best + ORDER_SEEN] = x[PASS]
        price = _entry_price(x, best, at_open)
        if price > 0.0:
            _enter(x, tape, best, price, x[P_ORDER] == LIMIT, not at_open)


# ---------------------------------------------------------------- positions inside a bar


def _level(x: Numbers, b: int, side: float) -> tuple[float, int]:
    """The nearest of the levels at which all that is left is sold, and why there; -1: there is none."""
    mean = x[b + MEAN]
    peak = x[b + PEAK]
    why = -1
    level = 0.0
    if x[b + STOP_BELOW] != 0.0:
        level = mean - side * x[b + STOP_BELOW]
        why = STOP
    if (
        x[P_BREAK_EVEN] != 0.0
        and side * peak >= side * (mean * (100.0 + side * x[P_BREAK_EVEN]) / 100.0)
        and (why < 0 or side * mean > side * level)
    ):
        level = mean
        why = BREAK_EVEN
    if x[P_TRAIL] != 0.0 and side * peak >= side * (mean * (100.0 + side * x[P_ARM]) / 100.0):
        trail = peak * (100.0 - side * x[P_TRAIL]) / 100.0
        if why < 0 or side * trail > side * level:
            level = trail
            why = TRAIL
    if why >= 0:
        level = _on_grid(x, b, level, side < 0.0)
    if side < 0.0:
        held = -x[b + QTY]
        others = _worth(x) + held * x[b + LAST]
        ruin = others / (held * (1.0 + x[b + R_TAKER] + x[b + R_MAINTENANCE]))
        if why < 0 or ruin < level:
            level = ruin
            why = LIQUIDATED
    return level, why


def _target(x: Numbers, b: int, mean: float, side: float, leg: int) -> float:
    """The price of a leg's limit order."""
    return _on_grid(x, b, mean * (100.0 + side * x[P_TARGETS + 2 * leg]) / 100.0, side > 0.0)


def _targets(x: Numbers, tape: Numbers, b: int, side: float, seen: float, price: float) -> None:
    """Fill the legs whose target has been seen: at a price, or (0) at the target."""
    legs = int(x[P_LEGS])
    while x[b + LEG] < legs and x[b + QTY] != 0.0:
        leg = int(x[b + LEG])
        target = _target(x, b, x[b + MEAN], side, leg)
        if side * seen < side * target:
            return
        at = price if price != 0.0 else target
        wanted = abs(x[b + QTY])
        if leg + 1 < legs:
            wanted = min(wanted, _partly(x, b, x[b + ENTERED] * x[P_TARGETS + 2 * leg + 1], at))
        if wanted > 0.0 and _leave(x, tape, b, wanted, at, True, TARGET) < wanted:
            return  # the traded volume was not enough: the order goes on resting
        if x[b + QTY] != 0.0:
            x[b + LEG] = leg + 1


def _protect(
    x: Numbers,
    tape: Numbers,
    b: int,
    o: float,
    h: float,
    lo: float,
    c: float,
) -> None:
    """Gap and inside: stops and targets of a position in a bar of these prices."""
    side = 1.0 if x[b + QTY] > 0.0 else -1.0
    mean = x[b + MEAN]
    adverse = lo if side > 0.0 else h
    favour = h if side > 0.0 else lo
    fresh = x[b + FRESH]
    level, why = _level(x, b, side)
    legs = int(x[P_LEGS])
    if fresh == 0.0:
        if why >= 0 and side * o <= side * level:
            _leave_all(x, tape, b, _slipped(x, b, o, -side), why)
            return
        _targets(x, tape, b, side, o, o)
        if x[b + QTY] == 0.0:
            return
    if why >= 0 and side * adverse <= side * level:
        leg = int(x[b + LEG])
        if leg < legs and side * favour >= side * _target(x, b, mean, side, leg):
            x[AMBIGUOUS] += 1.0
        _leave_all(x, tape, b, level if why == LIQUIDATED else _slipped(x, b, level, -side), why)
        return
    _targets(x, tape, b, side, c if fresh == 2.0 else favour, 0.0)


def _walk(x: Numbers, tape: Numbers, b: int, fine: Sequence[float]) -> None:
    """A position's way through the finer bars of its bar."""
    side = 1.0 if x[b + QTY] > 0.0 else -1.0
    for f in range(int(x[b + FINE_FROM]) * 4, int(x[b + FINE_TO]) * 4, 4):
        adverse = fine[f + 2] if side > 0.0 else fine[f + 1]
        favour = fine[f + 1] if side > 0.0 else fine[f + 2]
        if x[b + FRESH] == 2.0 and x[b + ENTRIES] == 1.0:  # was its entry inside the bar touched yet?
            price = x[b + ORDER_PRICE]
            if side * adverse > side * price if x[P_ORDER] == LIMIT else side * favour < side * price:
                continue
        _protect(x, tape, b, fine[f], fine[f + 1], fine[f + 2], fine[f + 3])
        x[b + FRESH] = 0.0
        if x[b + QTY] == 0.0 or x[b + OUT] != 0.0:
            return
        if side * favour > side * x[b + PEAK]:
            x[b + PEAK] = favour


def _inside(x: Numbers, tape: Numbers, b: int, fine: Sequence[float]) -> None:
    """A position's way through its bar."""
    long = x[b + QTY] > 0.0
    if x[P_GUARDED] != 0.0 or not long:
        if x[b + FINE_FROM] < x[b + FINE_TO]:
            _walk(x, tape, b, fine)
        else:
            _protect(x, tape, b, x[b + OPENED], x[b + HIGH], x[b + LOW], x[b + CLOSE])
    x[b + FRESH] = 0.0
    if long and x[b + HIGH] > x[b + PEAK]:
        x[b + PEAK] = x[b + HIGH]
    elif not long and x[b + LOW] < x[b + PEAK]:
        x[b + PEAK] = x[b + LOW]
    x[b + HELD] += 1.0


def trade(x: Numbers, tape: Numbers, fine: Sequence[float]) -> None:
    """Open, gap and inside of the bars that stand in the blocks."""
    listed = BLOCKS + int(x[P_INSTRUMENTS]) * BLOCK
    places = range(listed, listed + int(x[AWAKEN]))
    for place in places:
        x[int(x[place]) + USED] = 0.0
    if x[OUTS] > 0.0:
        for place in places:
            b = int(x[place])
            if x[b + OUT] != 0.0:
                _leave_at_open(x, tape, b)
    if x[ORDERS] > 0.0:
        x[WORTH] = _worth(x)
        _entries(x, tape, True)
        if x[ORDERS] > 0.0 and x[P_ORDER] != MARKET:
            _entries(x, tape, False)
    if x[OPEN] > 0.0:
        for place in places:
            b = int(x[place])
            if x[b + QTY] != 0.0:
                _inside(x, tape, b, fine)


# ---------------------------------------------------------------- the close


def _order(x: Numbers, tape: Numbers, b: int, side: float) -> None:
    """Place an entry that waits for the instrument's next bar; it replaces one that waits already."""
    _cancel(x, b)
    x[b + ORDER_SIDE] = side
    x[b + DECIDED] = x[b + ROW]
    price = 0.0
    if x[P_ORDER] != MARKET:
        price = x[b + LONG_PRICE] if side > 0.0 else x[b + SHORT_PRICE]
        if not 0.0 < price < 1e300:
            _refuse(x, tape, b, 0.0, 0.0, NO_PRICE)
            return
        # A limit gives nothing away to the grid, a stop order nothing to the market.
        price = _on_grid(x, b, price, (side > 0.0) != (x[P_ORDER] == LIMIT))
    x[b + ORDER] = side
    x[b + ORDER_PRICE] = price
    x[b + ORDER_ATR] = x[b + ATR] if x[P_STOP_ATR] != 0.0 or x[P_SIZE_MODE] == BY_VOLATILITY else 0.0
    score = x[b + SCORE]
    x[b + ORDER_SCORE] = score if score == score else -1e308
    x[b + ORDER_BARS] = 0.0
    x[ORDERS] += 1.0


def _exit_of(asked: int) -> int:
    """The first of the exits that a signal asks for."""
    number = 0
    while number < EXITS_MAX and not asked >> (number + FIRST_EXIT) & 1:
        number += 1
    return number


def _decide(x: Numbers, tape: Numbers, b: int, signal: int) -> None:
    """What the instrument's closed bar means for its next one."""
    resting = x[b + ORDER] != 0.0
    if x[b + QTY] != 0.0:
        side = 1.0 if x[b + QTY] > 0.0 else -1.0
        asked = signal & int(x[P_LONG_EXITS] if side > 0.0 else x[P_SHORT_EXITS])
        asked &= ~int(x[b + DONE])
        same, opposite = (LONG, SHORT) if side > 0.0 else (SHORT, LONG)
        why = -1
        size = abs(x[b + QTY])
        if x[b + OUT] != 0.0:
            why = int(x[b + OUT]) - 1  # one that the traded volume has cut goes on
            size = x[b + OUT_QTY]
        elif asked != 0:
            number = _exit_of(asked)
            why = EXIT + number
            if x[P_SHARES + number] < 1.0:
                part = _partly(x, b, x[b + ENTERED] * x[P_SHARES + number], x[b + CLOSE])
                x[b + DONE] = float(int(x[b + DONE]) | 1 << (number + FIRST_EXIT))
                size = min(size, part)
                if size == 0.0:
                    why = -1
        if (why < 0 or (why >= EXIT and size < abs(x[b + QTY]))) and signal & opposite:
            why = REVERSE if why < 0 else why
            size = abs(x[b + QTY])
        if why < 0 and x[P_MAX_BARS] != 0.0 and x[b + HELD] >= x[P_MAX_BARS]:
            why = TIME
        if why >= 0:
            if x[b + OUT] == 0.0:
                x[OUTS] += 1.0
                x[b + DECIDED] = x[b + ROW]
            x[b + OUT] = why + 1
            x[b + OUT_QTY] = size
            if signal & opposite and x[P_COOLDOWN] == 0.0 and size >= abs(x[b + QTY]):
                _order(x, tape, b, -side)
            elif resting:
                _cancel(x, b)
            return
        if signal & same and x[b + ENTRIES] < x[P_MAX_ENTRIES]:
            _order(x, tape, b, side)
            return
    else:
        if x[b + REST] > 0.0:
            x[b + REST] -= 1.0
            _cancel(x, b)
            return
        for bit in (LONG, SHORT):
            if signal & bit:
                exits = int(x[P_LONG_EXITS] if bit == LONG else x[P_SHORT_EXITS])
                if not signal & exits:
                    _order(x, tape, b, 1.0 if bit == LONG else -1.0)
                    return
        if resting:
            exits = int(x[P_LONG_EXITS] if x[b + ORDER] > 0.0 else x[P_SHORT_EXITS])
            if signal & exits:
                _cancel(x, b)
                return
    if resting and x[P_VALID] != 0.0:
        x[b + ORDER_BARS] += 1.0
        if x[b + ORDER_BARS] >= x[P_VALID]:
            _cancel(x, b)


def _settle(x: Numbers, b: int) -> None:
    """How much attention the instrument needs from now on."""
    if x[b + ORDER] != 0.0 or x[b + OUT] != 0.0 or x[b + REST] > 0.0 or x[b + QTY] < 0.0:
        x[b + BUSY] = AWAKE
        return
    if x[b + QTY] == 0.0:
        x[b + BUSY] = IDLE
        return
    x[b + BUSY] = AWAKE if x[P_WALKED] != 0.0 else CALM
    level, why = _level(x, b, 1.0)
    x[b + FLOOR] = level if why >= 0 else 0.0
    leg = int(x[b + LEG])
    x[b + CEILING] = _target(x, b, x[b + MEAN], 1.0, leg) if leg < int(x[P_LEGS]) else NEVER
    mask = (int(x[P_LONG_EXITS]) & ~int(x[b + DONE])) | SHORT | DELISTING
    if x[b + ENTRIES] < x[P_MAX_ENTRIES]:
        mask |= LONG
    x[b + MASK] = mask
    x[b + UNTIL] = x[P_MAX_BARS] if x[P_MAX_BARS] != 0.0 else NEVER


def close(x: Numbers, tape: Numbers) -> None:
    """Mark the account at the closes, then decide."""
    listed = BLOCKS + int(x[P_INSTRUMENTS]) * BLOCK
    for place in range(listed, listed + int(x[AWAKEN])):
        b = int(x[place])
        if x[b + QTY] != 0.0:
            x[b + LAST] = x[b + CLOSE]
            if x[b + QTY] < 0.0:
                x[b + ACCRUED] -= x[b + QTY] * x[b + CLOSE] * x[P_BORROW]
            if int(x[b + SIGNAL]) & DELISTING:
                price = _slipped(x, b, x[b + CLOSE], -1.0 if x[b + QTY] > 0.0 else 1.0)
                _leave(x, tape, b, abs(x[b + QTY]), price, False, DELISTED)
        _decide(x, tape, b, int(x[b + SIGNAL]))
        _settle(x, b)
        x[b + ROW] = NO_BAR
    equity = x[CASH]
    invested = 0.0
    x[AWAKEN] = 0.0
    if x[OPEN] > 0.0:
        for b in range(BLOCKS, listed, BLOCK):
            if x[b + QTY] != 0.0:
                value = x[b + QTY] * x[b + LAST]
                equity += value - x[b + ACCRUED]
                invested += abs(value)
    x[EQUITY] = equity
    x[INVESTED] = invested


# ---------------------------------------------------------------- whole runs


class Market(NamedTuple):
    """Columns of a run, all instruments one after the other: arrays if compiled, else lists. Unused ones are empty.

    The kernel only unpacks it: compiled code is kept by the types of its arguments, which are to be plain.
    """

    rows: Any  # int: `rows[t * K + k]` is the row of instrument k's bar at moment t, -1: it has none
    open: Any
    high: Any
    low: Any
    close: Any
    volume: Any
    signals: Any  # int
    long_price: Any
    short_price: Any
    atr: Any
    score: Any
    fine_from: Any  # int: where a row's finer bars begin and end; equal: none
    fine_to: Any
    fine: Any  # open, high, low, close of each finer bar, flat


class Curve(NamedTuple):
    """What the account was at the close of every moment."""

    equity: Any
    invested: Any
    positions: Any


def _called(signals: Any, mask: int, since: int, until: int) -> int:
    """The first row from one on that signals something of a mask."""
    while since < until and not int(signals[since]) & mask:
        since += 1
    return since


def _touched(low: Any, high: Any, signals: Any, floor: float, ceiling: float, mask: int, since: int, until: int) -> int:
    """The first row from one on that signals something of a mask or leaves what lies between two prices."""
    while since < until and low[since] > floor and high[since] < ceiling and not int(signals[since]) & mask:
        since += 1
    return since


def _mark(curve: Curve, closes: Any, cash: float, size: float, since: int, until: int, first: int) -> None:
    """The curve of moments between which nothing fills; a moment's row is so many later."""
    equities, investments, positions = curve
    if size == 0.0:
        for t in range(since, until):
            equities[t] = cash
            investments[t] = 0.0
            positions[t] = 0
        return
    for t in range(since, until):
        value = size * closes[t + first]
        equities[t] = cash + value
        investments[t] = value
        positions[t] = 1


def run(since: int, until: int, m: Market, x: Numbers, tape: Numbers, curve: Curve) -> int:
    """Live through moments; returns the first that was not, because the tape has no room for another one.

    Quiet bars of idle and calm instruments, in which the step would do nothing but mark and count, do not reach it. It
    is one function, because every call with the columns would count references to all of them.
    """
    rows, opens, high, low, closes, volume, signals, long_price, short_price, atr, score, fine_from, fine_to, fine = m
    equities, investments, positions = curve
    count = int(x[P_INSTRUMENTS])
    full = len(tape) // RECORD - room_for(x)
    listed = BLOCKS + count * BLOCK
    rising = x[P_TRAIL] != 0.0 or x[P_BREAK_EVEN] != 0.0
    guarded = x[P_GUARDED] != 0.0
    volumes = len(volume) > 0
    priced = len(long_price) > 0
    atrs = len(atr) > 0
    scored = len(score) > 0
    finer = len(fine_from) > 0
    first = rows[0] if until > 0 else 0  # one instrument has a bar at every moment
    at_market = x[P_ORDER] == MARKET and x[P_VOLUME_SHARE] == 0.0
    long_exits = int(x[P_LONG_EXITS])
    t = since
    while t < until:
        if x[TAPED] > full:
            return t
        if count == 1:
            b = BLOCKS
            cash = x[CASH]
            if x[b + BUSY] == IDLE:
                begun = t
                t = _called(signals, LONG | SHORT, t + first, until + first) - first
                _mark(curve, closes, cash, 0.0, begun, t, first)
                x[EQUITY] = cash
                x[INVESTED] = 0.0
                if t + 1 < until and at_market:
                    signal = int(signals[t + first])
                    if signal & LONG and not signal & long_exits:
                        _mark(curve, closes, cash, 0.0, t, t + 1, first)
                        x[b + ROW] = t + first
                        if atrs:
                            x[b + ATR] = atr[t + first]
                        _order(x, tape, b, 1.0)
                        t += 1
                        x[b + ROW] = t + first
                        x[WORTH] = cash
                        _enter(x, tape, b, _slipped(x, b, opens[t + first], 1.0), False, False)
                        x[b + ROW] = NO_BAR
                        _settle(x, b)
                        continue
            elif x[b + BUSY] == CALM:
                size = x[b + QTY]
                mask = int(x[b + MASK])
                begun = t
                most = x[b + UNTIL] - x[b + HELD] - 1.0
                end = until if most > until - t else t + int(most)
                ceiling = x[b + CEILING]
                floor = x[b + FLOOR]
                if rising:
                    peak = x[b + PEAK]
                    while t < end:
                        j = t + first
                        if low[j] <= floor or high[j] >= ceiling or int(signals[j]) & mask:
                            break
                        if high[j] > peak:
                            peak = high[j]
                            x[b + PEAK] = peak
                            level, why = _level(x, b, 1.0)
                            floor = level if why >= 0 else 0.0
                        t += 1
                    x[b + FLOOR] = floor
                elif guarded:
                    t = _touched(low, high, signals, floor, ceiling, mask, t + first, end + first) - first
                else:
                    t = _called(signals, mask, t + first, end + first) - first
                if t > begun:
                    _mark(curve, closes, cash, size, begun, t, first)
                    x[b + FRESH] = 0.0
                    x[b + HELD] += t - begun
                    x[b + LAST] = closes[t + first - 1]
                    x[INVESTED] = size * x[b + LAST]
                    x[EQUITY] = cash + x[INVESTED]
                j = t + first
                if t + 1 < end and at_market and low[j] > floor and high[j] < ceiling:
                    asked = int(signals[j]) & mask & ~LONG
                    number = _exit_of(asked)
                    if asked and not asked & (SHORT | DELISTING) and x[P_SHARES + number] == 1.0:
                        _mark(curve, closes, cash, size, t, t + 1, first)
                        t += 1
                        x[b + ROW] = t + first
                        _leave(x, tape, b, size, _slipped(x, b, opens[t + first], -1.0), False, EXIT + number)
                        x[b + ROW] = NO_BAR
                        _settle(x, b)
                        continue
            if t == until:
                break
        equity = x[CASH]
        invested = 0.0
        for k in range(count):
            j = rows[t * count + k]
            b = BLOCKS + k * BLOCK
            busy = x[b + BUSY]
            if j < 0:
                x[b + ROW] = NO_BAR
                if busy != IDLE:
                    value = x[b + QTY] * x[b + LAST]
                    equity += value - x[b + ACCRUED]
                    invested += abs(value)
            elif busy == IDLE and not int(signals[j]) & (LONG | SHORT):
                continue
            elif (
                busy == CALM
                and (signals[j] == 0 or not int(signals[j]) & int(x[b + MASK]))
                and x[b + HELD] + 1.0 < x[b + UNTIL]
                and (not guarded or (low[j] > x[b + FLOOR] and high[j] < x[b + CEILING]))
            ):
                if guarded and high[j] > x[b + PEAK]:
                    x[b + PEAK] = high[j]
                    if rising:
                        level, why = _level(x, b, 1.0)
                        x[b + FLOOR] = level if why >= 0 else 0.0
                x[b + HELD] += 1.0
                x[b + ROW] = MARKED
                x[b + BEFORE] = x[b + LAST]
                x[b + LAST] = closes[j]
                value = x[b + QTY] * closes[j]
                equity += value
                invested += value
            else:
                x[listed + int(x[AWAKEN])] = b
                x[AWAKEN] += 1.0
                x[b + ROW] = j
                if busy == AWAKE or guarded:  # else nothing fills in this bar
                    x[b + OPENED] = opens[j]
                x[b + HIGH] = high[j]
                x[b + LOW] = low[j]
                x[b + CLOSE] = closes[j]
                x[b + SIGNAL] = signals[j]
                if volumes:
                    x[b + VOLUME] = volume[j]
                if priced:
                    x[b + LONG_PRICE] = long_price[j]
                    x[b + SHORT_PRICE] = short_price[j]
                if atrs:
                    x[b + ATR] = atr[j]
                if scored:
                    x[b + SCORE] = score[j]
                if finer:
                    x[b + FINE_FROM] = fine_from[j]
                    x[b + FINE_TO] = fine_to[j]
        if x[AWAKEN] > 0.0:
            trade(x, tape, fine)
            close(x, tape)
        else:
            x[EQUITY] = equity
            x[INVESTED] = invested
        equities[t] = x[EQUITY]
        investments[t] = x[INVESTED]
        positions[t] = int(x[OPEN])
        t += 1
    return until


def room_for(x: Numbers) -> int:
    """Records that one moment can write at most."""
    return int(x[P_INSTRUMENTS]) * (6 + int(x[P_LEGS]))


def finish(x: Numbers, tape: Numbers) -> None:
    """Close every open position at its last close. Its row is to stand in its block."""
    for b in range(BLOCKS, BLOCKS + int(x[P_INSTRUMENTS]) * BLOCK, BLOCK):
        if x[b + QTY] != 0.0:
            price = _slipped(x, b, x[b + LAST], -1.0 if x[b + QTY] > 0.0 else 1.0)
            _leave(x, tape, b, abs(x[b + QTY]), price, False, END)


# ---------------------------------------------------------------- what a run has come to


def fall(equity: Any, ends_ns: Any, best: float, at_ns: int, longest_ns: int, share: Any) -> tuple[float, int, int]:
    """Drawdowns of a curve: a `metrics.Fall`."""
    for start in range(0, len(equity), 256):
        stop = min(start + 256, len(equity))
        risen = 0
        for t in range(start, stop):
            risen |= int(equity[t] >= best)
        if risen == 0:
            for t in range(start, stop):
                share[t] = 1.0 - equity[t] / best
            continue
        for t in range(start, stop):
            if equity[t] >= best:
                best = equity[t]
                longest_ns = max(longest_ns, ends_ns[t] - at_ns)
                at_ns = ends_ns[t]
                share[t] = 0.0
            else:
                share[t] = 1.0 - equity[t] / best
    return best, at_ns, longest_ns


def reach(high: Any, low: Any, since: Any, until: Any, highest: Any, lowest: Any) -> None:
    """How far prices went between rows, where that is beyond what is given."""
    for trip in range(len(since)):
        most = highest[trip]
        least = lowest[trip]
        for row in range(since[trip], until[trip]):
            most = max(most, high[row])
            least = min(least, low[row])
        highest[trip] = most
        lowest[trip] = least


class Kernel(NamedTuple):
    """The entry points, interpreted or compiled."""

    trade: Callable[..., None]
    close: Callable[..., None]
    run: Callable[..., int]
    finish: Callable[..., None]
    fall: Callable[..., tuple[float, int, int]]
    reach: Callable[..., None]


INTERPRETED: Final = Kernel(trade, close, run, finish, fall, reach)


# What an entry and an exit at the open go through: half of their time would be the calls.
_INLINED: Final = (
    _called, _touched, _mark, _order, _enter, _wanted, _affordable,
    _slipped, _on_grid, _leave, _fill, _fee, _write, _settle,
)  # fmt: skip


def interpreted(
    called: Callable[..., int], touched: Callable[..., int], mark: Callable[..., None]
) -> Callable[..., int]:
    """`run` with other ways over the quiet bars of one instrument: such loops are numpy's where nothing is compiled."""
    return FunctionType(run.__code__, {**globals(), "_called": called, "_touched": touched, "_mark": mark})


@lru_cache(maxsize=1)
def compiled() -> Kernel:
    """The same functions under numba, for worker processes: it takes a second to import and 130 MB to hold.

    Each function is compiled in a copy of this module's names, in which those it calls are the compiled ones.
    """
    import numba

    names: dict[str, Any] = dict(globals())
    for name, function in list(names.items()):
        if not isinstance(function, FunctionType) or function.__module__ != __name__:
            continue
        # Nothing here allocates, and counting references to the arrays would cost as much as the step.
        options: dict[str, Any] = {"error_model": "numpy", "_nrt": False, "cache": True}
        if name not in Kernel._fields:
            options = {"error_model": "numpy", "_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
            options["forceinline"] = function in _INLINED
        jit: Any = numba.njit(**options)
        names[name] = jit(FunctionType(function.__code__, names, name, function.__defaults__))
    return Kernel(*(names[name] for name in Kernel._fields))
