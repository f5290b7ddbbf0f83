"""The status tree: each part with a state, a value and its age; the worst child colours the parent."""

from __future__ import annotations

from typing import Literal

import msgspec

from watchhamster.core.text import Text

State = Literal["ok", "pending", "warning", "critical", "unknown", "muted"]


class StatusNode(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the tree. `name` and `state` are never translated; `detail` is."""

    name: str
    state: State = "unknown"
    value: float | int | str | None = None
    age_s: float | None = None  # of the value
    since_ns: int | None = None  # when the state began
    detail: Text | None = None
    children: tuple[StatusNode, ...] = ()
