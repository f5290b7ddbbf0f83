"""Numbers and times as a trader reads them, in the language in use. Pure functions; an unknown value is `…`, never 0.

What a cell shows may be shortened (`money`, `size`); `exact` is for tooltips and the clipboard.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import TypeGuard
from zoneinfo import ZoneInfo

from PySide6.QtCore import QTimeZone

from watchhamster.core.instruments import PriceSteps
from watchhamster.core.text import _, pgettext

UNKNOWN = "…"
MINUS = "\N{MINUS SIGN}"  # as wide as a plus, unlike a hyphen
_SECOND_NS = 1_000_000_000


def price(value: float | None, steps: PriceSteps | None = None, *, decimals: int | None = None) -> str:
    """A price, grouped, with the decimals of the venue's tick there (or as many as given, or as it has)."""
    if not _known(value):
        return UNKNOWN
    if decimals is None:
        if steps is None:
            return exact(value)
        decimals = steps.decimals(value)
    return _signed(f"{value:,.{decimals}f}")


def change(value: float | None, steps: PriceSteps | None = None, *, at: float | None = None) -> str:
    """A change of price with its arrow, such as `▲ 1,234,000`; its decimals are those of the price it is `at`."""
    if not _known(value):
        return UNKNOWN
    decimals = steps.decimals(value if at is None else at) if steps is not None else None
    return f"{_arrow(value)}{price(abs(value), steps, decimals=decimals)}"


def percent(fraction: float | None, *, arrow: bool = True) -> str:
    """A signed percentage with two decimals, such as `▲ +1.23 %`, of a fraction such as 0.0123."""
    if not _known(fraction):
        return UNKNOWN
    value = round(fraction * 100, 2)
    if value == 0:
        return "0.00 %"
    return f"{_arrow(value) if arrow else ''}{_signed(f'{value:+,.2f}')} %"


def money(value: float | None) -> str:
    """A large amount in three figures or more and a unit: `1,234억` in Korean, `123 B` in English."""
    if not _known(value):
        return UNKNOWN
    # Translators: how many zeros lie between units of large numbers, and the units; Korean: "4 만 억 조 경".
    zeros, *units = pgettext("large numbers", "3 K M B T").split()
    base = 10 ** int(zeros)
    scaled, unit = abs(value), ""
    for larger in units:
        if float(_three_figures(scaled).replace(",", "")) < base:
            break
        scaled, unit = scaled / base, larger
    return f"{MINUS if value < 0 else ''}{_three_figures(scaled) if unit else size(abs(value))}{unit}"


def size(value: float | None, *, decimals: int | None = None) -> str:
    """A quantity trimmed to what matters: four figures, and never fewer than the whole part has."""
    if not _known(value):
        return UNKNOWN
    if decimals is None:
        magnitude = math.floor(math.log10(abs(value))) if value else 0
        decimals = min(8, max(0, 3 - magnitude))
        text = f"{value:,.{decimals}f}"
        return _signed(text.rstrip("0").rstrip(".") if "." in text else text)
    return _signed(f"{value:,.{decimals}f}")


def quantity(value: float | None) -> str:
    """A size that need not be read to the last digit: as `size`, but from a million on as `money`."""
    return money(value) if _known(value) and abs(value) >= 1e6 else size(value)


def exact(value: float | None) -> str:
    """Every digit the number has, grouped."""
    if not _known(value):
        return UNKNOWN
    # Up to 15 decimals the shortest text that reads back as the same number never needs an exponent.
    for decimals in range(16):
        text = f"{value:,.{decimals}f}"
        if float(text.replace(",", "")) == value:
            return _signed(text)
    return repr(value)


def age(seconds: float | None) -> str:
    """How long ago or how long still: `12 s`, `5 m`, `3 h 10 m`, `2 d 4 h`."""
    if not _known(seconds):
        return UNKNOWN
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 60:
        return _("{s} s").format(s=whole)
    if minutes < 60:
        return _("{m} m").format(m=minutes)
    if hours < 24:
        return _("{h} h {m} m").format(h=hours, m=minutes % 60) if minutes % 60 else _("{h} h").format(h=hours)
    return _("{d} d {h} h").format(d=days, h=hours % 24) if hours % 24 else _("{d} d").format(d=days)


def countdown(seconds: float) -> str:
    """Time left on a clock's face: `0:07`, `12:05`, `3:10:05`; from a day on `2 d 4 h`."""
    whole = max(0, math.ceil(seconds))
    days, whole = divmod(whole, 86400)
    hours, whole = divmod(whole, 3600)
    minutes, whole = divmod(whole, 60)
    if days:
        return age(seconds)
    return f"{hours}:{minutes:02d}:{whole:02d}" if hours else f"{minutes}:{whole:02d}"


def latency(ms: float | None) -> str:
    """`38 ms`, `1.2 s`."""
    if not _known(ms):
        return UNKNOWN
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def local(ns: int, zone: dt.tzinfo) -> dt.datetime:
    """A moment in a zone; what is below a microsecond is dropped."""
    seconds, rest = divmod(ns, _SECOND_NS)
    return dt.datetime.fromtimestamp(seconds, zone).replace(microsecond=rest // 1000)


def clock(ns: int | None, zone: dt.tzinfo, *, seconds: bool = True) -> str:
    """`14:03:12`, or `14:03`. The zone is named once, elsewhere (`zone_name`)."""
    if ns is None:
        return UNKNOWN
    at = local(ns, zone)  # put together by hand: strftime imports a module at every call
    return f"{at.hour:02d}:{at.minute:02d}:{at.second:02d}" if seconds else f"{at.hour:02d}:{at.minute:02d}"


def date(ns: int | None, zone: dt.tzinfo) -> str:
    """`2026-11-21`."""
    return UNKNOWN if ns is None else local(ns, zone).date().isoformat()


def moment(ns: int | None, zone: dt.tzinfo, *, seconds: bool = True) -> str:
    """`2026-11-21 14:03:12`."""
    return UNKNOWN if ns is None else f"{date(ns, zone)} {clock(ns, zone, seconds=seconds)}"


def zone_name(zone: dt.tzinfo, ns: int) -> str:
    """The zone's own short name at a moment, such as `KST`, or its distance from UTC."""
    name = local(ns, zone).strftime("%Z")
    return f"UTC{name}" if name[:1] in "+-" else name


def local_zone() -> dt.tzinfo:
    """The zone this computer is set to, with its summer times; UTC where that cannot be told."""
    try:
        return ZoneInfo(bytes(QTimeZone.systemTimeZoneId().data()).decode())
    except (ValueError, OSError, LookupError):
        return dt.UTC


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _arrow(value: float) -> str:
    return "▲ " if value > 0 else "▼ " if value < 0 else ""


def _signed(text: str) -> str:
    return text.replace("-", MINUS)


def _three_figures(value: float) -> str:
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:,.{decimals}f}"
