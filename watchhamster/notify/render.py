"""An alert as a message: a title, a tree of `key: value` lines, a colour. Every channel shows the same tree.

The layout is the one its readers know from their chat window: `├` for a line, `└` for the last one, cut texts end in
three dots. Severity is a lamp and a word, never colour alone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec

from watchhamster.core.text import Text, _, ngettext, say
from watchhamster.monitor.alerts import Alert, Parcel, Severity
from watchhamster.monitor.status import duration

COLOURS: dict[Severity, str] = {"info": "#17a2b8", "warning": "#ffc107", "critical": "#dc3545"}
LAMPS: dict[Severity, str] = {"info": "🔵", "warning": "🟡", "critical": "🔴"}
RESOLVED_COLOUR = "#28a745"
TITLE_LONGEST = 60
_RANK: dict[Severity, int] = {"info": 0, "warning": 1, "critical": 2}
_DIGEST_LINES = 10


class Message(msgspec.Struct, frozen=True):
    """What a channel shows, in the language in use."""

    title: str
    lines: tuple[tuple[str, str], ...]
    colour: str  # "#rrggbb"
    severity: Severity

    @property
    def tree(self) -> str:
        """The lines without the title."""
        rows = [f"{key}: {value}" if key else value for key, value in self.lines]
        return "\n".join([*(f"├ {row}" for row in rows[:-1]), *(f"└ {row}" for row in rows[-1:])])

    def text(self, longest: int = 3000) -> str:
        """Title and tree in at most so many characters; lines in the middle give way first."""
        return cut_tree(f"{self.title}\n{self.tree}", longest)


def render(parcel: Parcel, zone: str = "UTC") -> Message:
    """The message of a parcel; its times are the zone's."""
    alerts = parcel.alerts
    if len(alerts) == 1:
        title, lines = _one(alerts[0], zone)
    elif len({alert.key for alert in alerts}) == 1:
        title, lines = _one(alerts[-1], zone)
        count = ngettext("{n} alert", "{n} alerts", len(alerts)).format(n=len(alerts))
        title = f"{title} ({count})"
        lines.insert(-1, (_("since"), _moment(alerts[0].fired_ns, zone)))
    else:
        title, lines = _digest(alerts, zone)
    if parcel.repeated:
        lines.insert(-1, (_("note"), _("this may have arrived before")))
    worst = max((alert.severity for alert in alerts), key=_RANK.__getitem__)
    resolved = all(alert.resolved_ns is not None for alert in alerts)
    title = f"{'🟢' if resolved else LAMPS[worst]} {title}"
    if parcel.test:
        title = f"🧪 [TEST] {title}"
    colour = RESOLVED_COLOUR if resolved else COLOURS[worst]
    return Message(cut(title, TITLE_LONGEST), tuple((_flat(k), _flat(v)) for k, v in lines), colour, worst)


def cut(text: str, longest: int) -> str:
    """The text in one line of at most so many characters; what was cut shows as three dots."""
    text = _flat(text)
    return text if len(text) <= longest else text[: max(0, longest - 3)].rstrip() + "..."


def cut_tree(text: str, longest: int) -> str:
    """The lines in at most so many characters: the last ones but one are left out first, the last (the id) stays."""
    if len(text) <= longest:
        return text
    *rows, last = text.split("\n")
    last = cut(last, max(3, longest // 4))
    kept: list[str] = []
    room = longest - len(last) - len("├ ...\n")
    for row in rows:
        if len(row) + 1 > room:
            break
        kept.append(row)
        room -= len(row) + 1
    return "\n".join([*kept, "├ ...", last])[:longest]


def number(value: float | bool | None) -> str:
    """Every digit, grouped; an undefined value says so."""
    if value is None or value != value:
        return _("no value")
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if value in (float("inf"), float("-inf")):
        return str(value)
    return f"{Decimal(repr(float(value))).normalize():,f}"


def _one(alert: Alert, zone: str) -> tuple[str, list[tuple[str, str]]]:
    lines = []
    if told := say(alert.text):
        lines.append((_("what"), told))
    if alert.instrument is not None:
        lines.append((_("instrument"), " ".join(filter(None, (alert.instrument, alert.timeframe)))))
    if alert.price is not None:
        lines.append((_("price"), number(alert.price)))
    lines += [(cut(name, 60), number(value)) for name, value in alert.values.items()]
    lines.append((_("time"), _moment(alert.fired_ns, zone)))
    if alert.late_s >= 1:
        lines.append((_("late"), say(Text("noticed {age} late", {"age": duration(alert.late_s)}))))
    if alert.revised:
        lines.append((_("note"), _("the venue has since corrected this candle")))
    if alert.resolved_ns is not None:
        lines.append((_("resolved"), _moment(alert.resolved_ns, zone)))
    lines.append(
        (_("severity"), {"info": _("info"), "warning": _("warning"), "critical": _("critical")}[alert.severity])
    )
    lines.append((_("id"), str(alert.id)))
    return alert.name, lines


def _digest(alerts: Sequence[Alert], zone: str) -> tuple[str, list[tuple[str, str]]]:
    title = ngettext("{n} alert", "{n} alerts", len(alerts)).format(n=len(alerts))
    lines = []
    for alert in alerts[-_DIGEST_LINES:]:
        price = "" if alert.price is None else f" {number(alert.price)}"
        lines.append((cut(f"{LAMPS[alert.severity]} {alert.name}", 40), f"{_moment(alert.fired_ns, zone)}{price}"))
    if (hidden := len(alerts) - len(lines)) > 0:
        lines.insert(0, ("", ngettext("{n} earlier", "{n} earlier", hidden).format(n=hidden)))
    lines.append((_("ids"), f"{alerts[0].id} … {alerts[-1].id}"))
    return title, lines


def _moment(at_ns: int, zone: str) -> str:
    at = dt.datetime.fromtimestamp(at_ns // 1_000_000_000, ZoneInfo(zone))
    return f"{at:%Y-%m-%d %H:%M:%S %Z}"


def _flat(text: str) -> str:
    """One line without control characters: rule names and venue texts are anybody's."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
