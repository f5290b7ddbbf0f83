"""Rules, alerts and deliveries, as values.

A rule is a formula on instruments and a timeframe, plus a life. For each instrument it is inactive, pending (true, but
not yet for long enough), firing, or resolved; going to firing makes one `Alert`, which is a row before it is a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from watchhamster.core.text import Text

Severity = Literal["info", "warning", "critical"]
RuleState = Literal["inactive", "pending", "firing"]
DeliveryState = Literal["queued", "delivered", "expired", "dead", "muted"]
Outcome = Literal["ok", "retry", "permanent", "disable", "absent"]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """When to raise an alert, about what, and whom to tell."""

    id: int | None = None  # None until stored
    tenant: str = "default"
    name: str
    formula: str
    instruments: tuple[str, ...]
    timeframe: str = "1m"
    for_s: float = 0.0  # venue seconds it must stay true
    cooldown_s: float = 0.0  # venue seconds after a firing in which it stays quiet
    severity: Severity = "warning"
    channels: tuple[str, ...] = ("desktop", "inbox")
    repeat: bool = True  # False: switched off once it has fired
    forming: bool = False  # also look at the bar that is still open (price alerts do)
    sound: bool = True
    enabled: bool = True
    first_bar_ns: int | None = None  # where its evaluation began; fixed for its life
    created_ns: int = 0


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something fired. `id` is None until stored; the same row is updated when it resolves or is acknowledged."""

    id: int | None = None
    tenant: str = "default"
    kind: Literal["rule", "feed", "system", "fill"] = "rule"
    rule_id: int | None = None
    key: str  # what it is about: equal keys are the same matter, such as "rule:7:upbit:KRW-BTC"
    name: str
    instrument: str | None = None
    timeframe: str | None = None
    severity: Severity = "warning"
    fired_ns: int  # venue time
    resolved_ns: int | None = None
    acknowledged_ns: int | None = None
    price: float | None = None
    values: Mapping[str, float | bool | None] = {}  # sub-expressions of the formula when it fired
    text: Text
    channels: tuple[str, ...] = ("desktop", "inbox")
    sound: bool = True
    late_s: float = 0.0  # how long after the market's moment it was noticed (sleep, restart, backfill)
    revised: bool = False  # the venue has since corrected the bar that fired it


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One alert on its way through one channel. At least once; a repeat carries the same alert id."""

    id: int | None = None
    alert_id: int
    channel: str
    state: DeliveryState = "queued"
    attempts: int = 0
    queued_ns: int = 0
    next_ns: int = 0  # not before
    expires_ns: int | None = None
    done_ns: int | None = None
    receipt: str = ""  # what the channel answered
    error: str = ""
    repeated: bool = False  # it may have arrived before: a crash or a time-out came in between


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """What goes through a channel in one message: one alert, or several that were folded together, oldest first."""

    alerts: tuple[Alert, ...]
    attempt: int = 1
    repeated: bool = False  # it may have arrived before
    test: bool = False  # a person tries the channel out

    @property
    def id(self) -> str:
        """The same over every attempt at the same alerts, so that a receiver can tell a repeat."""
        ids = [str(alert.id) for alert in self.alerts]
        return f"alert_{ids[0]}" if len(ids) == 1 else f"alerts_{ids[0]}_{ids[-1]}_{len(ids)}"


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt came to. `text` holds no secret; it is kept with the delivery."""

    # disable: the target is gone or refuses us, so stop using the channel and say so;
    # absent: this machine has no such way out, which is nothing to worry about
    outcome: Outcome
    text: str
    pause_s: float = 0.0  # nothing more to this target for so long, as it asked
    in_doubt: bool = False  # the message may have arrived although the attempt failed
