"""The status tree: each part with a state, a value and its age; the worst child colours the parent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec

from watchhamster.core.text import Text, say

State = Literal["ok", "pending", "warning", "critical", "unknown", "muted"]

# From what matters least. A muted part does not colour its parent; not knowing is worse than waiting.
_RANK: dict[State, int] = {"muted": 0, "ok": 1, "pending": 2, "unknown": 3, "warning": 4, "critical": 5}
LAMPS: dict[State, str] = {
    "ok": "🟢",
    "pending": "🔵",
    "warning": "🟡",
    "critical": "🔴",
    "unknown": "⚪",
    "muted": "🔕",
}
# The tree's own words; other names (venues, instruments, rules, channels) are shown as they are.
_WORDS = {
    "feeds": Text("Feeds"),
    "rules": Text("Rules"),
    "paper": Text("On paper"),
    "channels": Text("Channels"),
    "jobs": Text("Jobs"),
    "storage": Text("Storage"),
    "system": Text("System"),
    "alerts": Text("Alerts"),
    "inbox": Text("Inbox"),
    "desktop": Text("Desktop"),
    "memory": Text("Memory"),
    "disk": Text("Disk"),
    "history": Text("History"),
    "backup": Text("Backup"),
    "verify": Text("Check of the data"),
    "retention": Text("Clearing of old history"),
    "damaged file": Text("Damaged file"),
    "new scale": Text("New price scale"),
}


class StatusNode(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the tree. `name` and `state` are never translated; `detail` is."""

    name: str
    state: State = "unknown"
    value: float | int | str | None = None
    age_s: float | None = None  # of the value
    since_ns: int | None = None  # when the state began
    detail: Text | None = None
    children: tuple[StatusNode, ...] = ()


def worst(states: Iterable[State]) -> State:
    """The worst of the states; `unknown` where there are none."""
    return max(states, key=_RANK.__getitem__, default="unknown")


def node(
    name: str,
    state: State | None = None,
    *children: StatusNode,
    value: float | int | str | None = None,
    age_s: float | None = None,
    since_ns: int | None = None,
    detail: Text | None = None,
) -> StatusNode:
    """A line coloured by its own state and its children's, whichever is worst.

    A line without an own `since_ns` takes over that of the child which colours it (the earliest of several).
    """
    own = [] if state is None else [state]
    shown = worst([*own, *(child.state for child in children)])
    if since_ns is None and shown != state:
        since_ns = min((c.since_ns for c in children if c.state == shown and c.since_ns is not None), default=None)
    return StatusNode(
        name=name, state=shown, value=value, age_s=age_s, since_ns=since_ns, detail=detail, children=children
    )


def to_record(status: StatusNode) -> dict[str, Any]:
    """The tree as plain data for JSON: every field on every line, the details in the language in use."""
    return {
        "name": status.name,
        "state": status.state,
        "value": status.value,
        "age_s": status.age_s,
        "since_ns": status.since_ns,
        "detail": None if status.detail is None else say(status.detail),
        "children": [to_record(child) for child in status.children],
    }


def title(status: StatusNode) -> str:
    """The line's name for a person."""
    return say(_WORDS[status.name]) if status.name in _WORDS else status.name


def summary(status: StatusNode) -> str:
    """What follows the name: value, detail and age, as far as there are any."""
    parts = [_number(status.value)] if status.value is not None else []
    if status.detail is not None:
        parts.append(say(status.detail))
    text = " · ".join(parts)
    if status.age_s is None:
        return text
    return f"{text} ({say(duration(status.age_s))})".strip()


def render(status: StatusNode) -> str:
    """The tree as text in the language in use, a lamp and a line for each part."""
    return "\n".join(_lines(status, "", ""))


def duration(seconds: float) -> Text:
    """How long: `12 s`, `5 m`, `3 h 10 m`, `2 d 4 h`. Whole units, rounded down."""
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes == 0:
        return Text("{s} s", {"s": whole})
    if hours == 0:
        return Text("{m} m", {"m": minutes})
    if days == 0:
        if minutes % 60 == 0:
            return Text("{h} h", {"h": hours})
        return Text("{h} h {m} m", {"h": hours, "m": minutes % 60})
    if hours % 24 == 0:
        return Text("{d} d", {"d": days})
    return Text("{d} d {h} h", {"d": days, "h": hours % 24})


def _lines(status: StatusNode, first: str, rest: str) -> Iterator[str]:
    told = summary(status)
    yield f"{first}{LAMPS[status.state]} {title(status)}{': ' if told else ''}{told}"
    for n, child in enumerate(status.children, 1):
        last = n == len(status.children)
        yield from _lines(child, rest + ("└ " if last else "├ "), rest + ("  " if last else "│ "))


def _number(value: float | int | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.10g}"
