"""How a bar is split into its parts: the pure steps by which each layer of the world refines the one above."""

from __future__ import annotations

from math import gcd

import numpy as np

from watchhamster.sim.listings import Floats, Ints


def bridge(walk: Floats, start: int, end: int, low: int, high: int) -> Floats:
    """The walk bent so that it begins and ends as told and just touches low and high, near where it would anyway."""
    n = len(walk)
    if n == 1:
        return np.array([float(end)])
    at = np.arange(n)
    path = walk + np.interp(at, (0, n - 1), (start - walk[0], end - walk[-1]))
    nodes = {0: start, n - 1: end}
    if high > max(start, end):
        nodes[1 + int(np.argmax(path[1:-1]))] = high
    if low < min(start, end):
        nodes[1 + int(np.argmin(path[1:-1]))] = low
    where = sorted(nodes)
    targets = np.array([nodes[i] for i in where], np.float64)
    path = path + np.interp(at, where, targets - path[where])
    if high > low:  # what still strays outside is mirrored back
        unit = np.mod((path - low) / (high - low), 2.0)
        path = low + np.where(unit > 1.0, 2.0 - unit, unit) * (high - low)
    path[where] = targets
    bent: Floats = path
    return bent


def volumes(
    rng: np.random.Generator,
    prices: tuple[Ints, Ints, Ints, Ints],
    trades: Ints,
    spans: Ints,
    total: int,
    average: float,
) -> tuple[Ints, Ints]:
    """Lots and high lots of a day's minutes: `total` lots at this average price.

    `prices` are open, high, low and close of each minute, `spans` its range in steps. The turnover of a minute is as
    if its high lots had traded at the high and the rest at the low.
    """
    opens, highs, lows, closes = prices
    n = len(opens)
    spread = (highs - lows).astype(np.float64)
    lean = np.clip(0.5 + 0.3 * ((opens + closes) / 2 - (highs + lows) / 2) / np.maximum(spread, 1), 0.2, 0.8)
    lean = np.clip(lean + rng.uniform(-0.1, 0.1, n), 0.15, 0.85)
    lean[np.argmax(highs)], lean[np.argmin(lows)] = 0.95, 0.05  # so that there is something on either side
    price = lows + lean * spread
    moved = np.abs(closes - opens) / max(1, int(highs.max() - lows.min()))
    weight = trades * np.exp(rng.normal(0, 0.7, n)) * (1 + 2 * moved)
    weight /= weight.sum()

    # Above what each minute needs, two factors, one for dear minutes and one for cheap ones, meet total and average.
    least = least_lots(trades, spans)
    spare = total - int(least.sum())
    wanted = (average * total - float((least * price).sum())) / spare
    dear = price > wanted
    share = float(weight[dear].sum())
    if 0.0 < share < 1.0:
        over = float((weight * price)[dear].sum()) / share
        under = float((weight * price)[~dear].sum()) / (1 - share)
        weight[dear] *= (wanted - under) / (over - under) / share
        weight[~dear] *= (over - wanted) / (over - under) / (1 - share)
    lots: Ints = least + (weight * spare).astype(np.int64)
    lots[np.argmax(lots)] += total - int(lots.sum())
    high_lots: Ints = np.rint(lots * lean).astype(np.int64)
    # Rounding left the turnover off by a little: the fullest minute that has a range takes it up.
    off = average * total - float(np.sum(lows * lots.astype(np.float64) + spread * high_lots))
    fullest = int(np.argmax(np.where(spread > 0, lots, 0)))
    if spread[fullest] > 0:
        margin = int(lots[fullest]) // 25
        high_lots[fullest] += round(off / spread[fullest])
        high_lots[fullest] = np.clip(high_lots[fullest], margin, lots[fullest] - margin)
    return lots, high_lots


def clustered(rng: np.random.Generator, n: int, last_ms: int) -> Ints:
    """Times in a minute, ms, ascending, the last at `last_ms`: a trade comes alone or is excited by the one before."""
    alone = rng.random(n) < 0.45
    alone[0] = True
    root = np.maximum.accumulate(np.where(alone, np.arange(n), 0))
    delays = np.cumsum(np.where(alone, 0.0, rng.exponential(350.0, n)))
    times = rng.integers(0, last_ms + 1, n)[root] + delays - delays[root]
    whole: Ints = np.sort(np.mod(times, last_ms + 1).astype(np.int64))
    whole[-1] = last_ms
    return whole


def shared(total: int, weights: Floats) -> Ints:
    """`total` in whole parts of at least 1, roughly by weight."""
    parts: Ints = np.maximum((weights * (total / weights.sum())).astype(np.int64), 1)
    parts[np.argmax(parts)] += total - int(parts.sum())
    return parts


def sized(rng: np.random.Generator, prices: Ints, total: int, high_lots: int, step: int) -> Ints:
    """Sizes that sum to `total` lots and whose turnover is as if `high_lots` had traded at the highest price and the
    rest at the lowest.

    Exact wherever `total` is at least `least_lots` and `high_lots` leaves 4 % of it to either end. Where lots are too
    few for that, prices strictly between the ends, but for the first and the last, are moved to the nearer end.
    """
    weights = np.exp(rng.normal(0, 1.25, len(prices)))
    low, high = int(prices.min()), int(prices.max())
    if low == high:
        return shared(total, weights)
    span = (high - low) // step
    above = (prices - low) // step
    between = np.flatnonzero((above > 0) & (above < span))
    lots = np.zeros(len(prices), np.int64)
    if len(between):
        lots[between] = _weighed(between, above, weights, total, high_lots, span)
    weight = int((lots * above).sum())
    left, right = high_lots - weight // span, total - int(lots.sum()) - high_lots + weight // span
    if weight % span or left < np.count_nonzero(above == span) or right < np.count_nonzero(above == 0):
        inner = between[(between > 0) & (between < len(prices) - 1)]
        above[inner] = np.where(above[inner] * 2 > span, span, 0)
        prices[inner] = low + above[inner] * step
        lots = np.where((above > 0) & (above < span), span, 0)
        left = high_lots - int((lots * above).sum()) // span
        right = total - int(lots.sum()) - left
    at_high, at_low = above == span, above == 0
    lots[at_high] = shared(left, weights[at_high])
    lots[at_low] = shared(right, weights[at_low])
    return lots


def least_lots(trades: Ints, span: Ints) -> Ints:
    """What so many trades over a range of so many steps need at least, for `sized` to find sizes."""
    least: Ints = 100 * (trades + 4) + 60 * span
    return least


def _weighed(between: Ints, above: Ints, weights: Floats, total: int, high_lots: int, span: int) -> Ints:
    """Sizes of the trades strictly between the ends. Their weight, in units of the range, has to be a whole number:
    one of them, at a height coprime to the range, grows a little to make it so."""
    height, part = above[between], weights[between]
    share = height / span
    mean = float((part * share).sum() / part.sum())
    fair = total * float(part.sum() / weights.sum())
    budget = min(fair, 0.9 * high_lots / mean, 0.9 * (total - high_lots) / (1 - mean))
    lots: Ints = np.maximum(part * (budget / part.sum()), 1).astype(np.int64)
    rest = int((lots * height).sum() % span)
    if rest:
        for i in np.argsort(-lots).tolist():
            if gcd(int(height[i]), span) == 1:
                lots[i] += -rest * pow(int(height[i]), -1, span) % span
                break
    return lots


def sided(rng: np.random.Generator, prices: Ints, lots: Ints, buy_lots: int) -> list[list[tuple[int, bool]]]:
    """Each trade's (lots, bought), so that `buy_lots` were bought: rises first, one trade cut in two if need be."""
    rises = np.sign(np.diff(prices, prepend=prices[0]))
    order = np.argsort(-(rises + rng.uniform(-0.9, 0.9, len(prices))))
    parts: list[list[tuple[int, bool]]] = [[] for _ in prices]
    left = buy_lots
    for i in order.tolist():
        size = int(lots[i])
        bought = min(left, size)
        left -= bought
        parts[i] = [(part, buy) for part, buy in ((bought, True), (size - bought, False)) if part]
    return parts
