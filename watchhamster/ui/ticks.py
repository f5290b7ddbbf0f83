"""Where a chart's axes have their labels. Pure functions."""

from __future__ import annotations

import datetime as dt
import math
from typing import NamedTuple

from watchhamster.core.timeframes import SECOND_NS, Timeframe
from watchhamster.ui.format import local
from watchhamster.ui.pyramid import SessionSlots, Stretch

_DAY_S = 86400
_CLOCK_STEPS_S = (1, 5, 10, 15, 30, 60, 300, 600, 900, 1800, 3600, 7200, 10800, 14400, 21600, 43200)
_DAY_STEPS = (1, 2, 5, 10)
_MONTH_STEPS = (1, 2, 3, 6, 12, 24, 60, 120)


def price_ticks(low: float, high: float, most: int, least_step: float = 0.0) -> list[float]:
    """At most about `most` round prices in `[low, high]`, ascending, whole numbers of `least_step` apart."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low or most < 1:
        return []
    step = max(_round_step((high - low) / most), least_step)
    if least_step and abs(step / least_step - round(step / least_step)) > 1e-6:  # a quarter of a hundred ticks, say
        step = _round_step(step * 1.01)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, 2 - math.floor(math.log10(step)))
    return [round(i * step, digits) for i in range(first, last + 1)]


def log_price_ticks(low: float, high: float, most: int, least_step: float = 0.0) -> list[float]:
    """The same for an axis of equal ratios: round prices of each decade, evenly spaced ones below a ratio of 3."""
    if low <= 0 or high <= 3 * low:
        return price_ticks(low, high, most, least_step)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= most:
            break
    return ticks


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is not below `least`."""
    magnitude = 10.0 ** math.floor(math.log10(least))
    return next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= least * (1 - 1e-9))


class TimeTick(NamedTuple):
    """A labelled moment. `strong` where a day, month or year begins."""

    ns: int
    label: str
    strong: bool


def time_ticks(since_ns: int, until_ns: int, most: int, timeframe: Timeframe, zone: dt.tzinfo) -> list[TimeTick]:
    """At most about `most` round moments of `[since_ns, until_ns)`, in a zone; below them a new day says its date.

    Candles of a day or longer are dated as the venue dates them, by UTC.
    """
    dated = timeframe.approximate_ns >= _DAY_S * SECOND_NS
    return _ticks(since_ns, until_ns, most, dt.UTC if dated else zone, dated)


def session_ticks(slots: SessionSlots, first: int, last: int, most: int) -> list[TimeTick]:
    """The same for the slots `[first, last]` of a market that closes: dates where sessions begin, times within them."""
    zone, frame_ns = slots.zone, slots.timeframe.approximate_ns
    since_ns, until_ns = slots.open_ns(first), slots.open_ns(last)
    least = (last - first) / max(1, most)  # slots between two labels
    dated = frame_ns >= _DAY_S * SECOND_NS
    stretches = [] if dated else slots.stretches(first, last)
    days: dict[dt.date, list[Stretch]] = {}
    for stretch in stretches:
        days.setdefault(local(stretch.since_ns, zone).date(), []).append(stretch)
    traded_ns = sum(s.until_ns - s.since_ns for s in stretches)
    if dated or traded_ns < 2 * least * frame_ns * len(days):
        ticks = [_on_trading_day(tick, slots, zone) for tick in _ticks(since_ns, until_ns, most, zone, dated=True)]
        return [tick for i, tick in enumerate(ticks) if not i or slots.since(tick.ns) > slots.since(ticks[i - 1].ns)]
    step_s = next((s for s in _CLOCK_STEPS_S if s * SECOND_NS >= least * frame_ns), _CLOCK_STEPS_S[-1])
    ticks = []
    for day, parts in days.items():
        begin, end = parts[0], slots.at(parts[-1].until_ns) + 1
        ticks.append(TimeTick(begin.since_ns, f"{day.month:02d}-{day.day:02d}", True))
        for tick in _clock_ticks(begin.since_ns + 1, parts[-1].until_ns, step_s, zone):
            held = any(part.since_ns <= tick.ns < part.until_ns for part in parts)
            if held and not tick.strong and begin.slot + least * 0.8 <= slots.at(tick.ns) <= end - least * 0.8:
                ticks.append(tick)
    return ticks


def _on_trading_day(tick: TimeTick, slots: SessionSlots, zone: dt.tzinfo) -> TimeTick:
    """A round day on which nothing is traded gives its label to the next one, which says its own date."""
    opens, asked = local(slots.open_ns(slots.since(tick.ns)), zone), local(tick.ns, zone)
    moved = tick.label == _date_label(asked) and opens.date() > asked.date()
    return tick._replace(label=_date_label(opens)) if moved else tick


def _ticks(since_ns: int, until_ns: int, most: int, zone: dt.tzinfo, dated: bool) -> list[TimeTick]:
    if until_ns <= since_ns or most < 1:
        return []
    step_s = (until_ns - since_ns) / SECOND_NS / most
    for clock_s in _CLOCK_STEPS_S:
        if clock_s >= step_s and not dated:
            return _clock_ticks(since_ns, until_ns, clock_s, zone)
    for days in _DAY_STEPS:
        if days * _DAY_S >= step_s:
            return _day_ticks(since_ns, until_ns, days, zone)
    months = next((m for m in _MONTH_STEPS if m * 28 * _DAY_S >= step_s), _MONTH_STEPS[-1])
    return _month_ticks(since_ns, until_ns, months, zone)


def _clock_ticks(since_ns: int, until_ns: int, step_s: int, zone: dt.tzinfo) -> list[TimeTick]:
    ticks: list[TimeTick] = []
    begin = local(since_ns, zone)
    day = begin.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    start_s = (begin.hour * 3600 + begin.minute * 60 + begin.second) // step_s * step_s
    last_date = begin.date()
    # Day by day from local midnight, so that labels stay round on both sides of a change of the clock.
    while (midnight := _ns(day)) < until_ns:
        following = day + dt.timedelta(days=1)
        for wall_s in range(start_s, _DAY_S, step_s):
            moment = day + dt.timedelta(seconds=wall_s)
            ns = _ns(moment)
            if ns >= until_ns:
                break
            if ns < since_ns or (ticks and ns <= ticks[-1].ns) or local(ns, zone).hour != moment.hour:
                continue
            strong = moment.date() != last_date or ns == midnight
            last_date = moment.date()
            label = _date_label(moment) if strong else _clock_label(moment, seconds=step_s < 60)
            ticks.append(TimeTick(ns, label, strong))
        day, start_s = following, 0
    return ticks


def _day_ticks(since_ns: int, until_ns: int, days: int, zone: dt.tzinfo) -> list[TimeTick]:
    ticks = []
    day = local(since_ns, zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    while (ns := _ns(day)) < until_ns:
        # Counted within the month, and none so near its end that it would touch the next first.
        if ns >= since_ns and (day.day - 1) % days == 0 and (days == 1 or day.day + days // 2 <= 31):
            strong = day.day == 1
            ticks.append(TimeTick(ns, _month_label(day) if strong else _date_label(day), strong))
        day += dt.timedelta(days=1)
    return ticks


def _month_ticks(since_ns: int, until_ns: int, months: int, zone: dt.tzinfo) -> list[TimeTick]:
    ticks: list[TimeTick] = []
    begin = local(since_ns, zone)
    number = (begin.year * 12 + begin.month - 1) // months * months
    while True:
        first = dt.datetime(number // 12, number % 12 + 1, 1, tzinfo=zone)
        if (ns := _ns(first)) >= until_ns:
            return ticks
        if ns >= since_ns:
            ticks.append(TimeTick(ns, _month_label(first), first.month == 1))
        number += months


def _clock_label(moment: dt.datetime, *, seconds: bool) -> str:
    # Not strftime, which imports a module at every call.
    label = f"{moment.hour:02d}:{moment.minute:02d}"
    return f"{label}:{moment.second:02d}" if seconds else label


def _date_label(day: dt.datetime) -> str:
    return f"{day.month:02d}-{day.day:02d}"


def _month_label(day: dt.datetime) -> str:
    return f"{day.year}" if day.month == 1 else f"{day.year}-{day.month:02d}"


def _ns(moment: dt.datetime) -> int:
    return int(moment.timestamp()) * SECOND_NS
