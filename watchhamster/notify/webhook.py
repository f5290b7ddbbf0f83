"""The generic webhook, signed as Standard Webhooks has it (https://www.standardwebhooks.com).

`webhook-id` stays the same over every attempt, so a receiver drops repeats; `webhook-timestamp` is the attempt's, so it
can refuse old ones; `webhook-signature` holds an HMAC-SHA256 of id, timestamp and the very bytes sent, one for each key
while keys are being changed.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from watchhamster.core.ports import Clock, UsageError
from watchhamster.core.secret import Secret
from watchhamster.core.text import Text
from watchhamster.monitor.alerts import Alert, Parcel, Receipt
from watchhamster.notify.http import Poster, Target
from watchhamster.notify.render import render

BODY_LONGEST = 20_000  # bytes
_FIELDS = (
    *("id", "kind", "rule_id", "key", "name", "instrument", "timeframe", "severity"),
    *("fired_ns", "resolved_ns", "price", "values", "late_s", "revised"),
)


def new_key() -> Secret:
    """A fresh signing key in its written form, `whsec_` and base64."""
    return Secret("whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())


def key_bytes(key: Secret) -> bytes:
    """The bytes of a written key. Raises `UsageError` (`bad_signing_key`)."""
    try:
        raw = base64.b64decode(key.reveal().removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not 24 <= len(raw) <= 64:
        raise UsageError(
            "bad_signing_key",
            Text("This is not a signing key."),
            Text("It is whsec_ followed by the base64 of 24 to 64 random bytes."),
        )
    return raw


def sign(keys: Sequence[bytes], message_id: str, timestamp_s: int, body: bytes) -> str:
    """The `webhook-signature` header."""
    content = f"{message_id}.{timestamp_s}.".encode() + body
    digests = (hmac.new(key, content, hashlib.sha256).digest() for key in keys)
    return " ".join("v1," + base64.b64encode(digest).decode() for digest in digests)


class WebhookChannel:
    """Posts alerts as signed JSON: `{"type": "alert.triggered", "timestamp": …, "data": {…}}`."""

    interval_s = 0.2
    fold_s = 60.0
    always = False

    def __init__(
        self,
        name: str,
        *,
        url: Secret,
        keys: Sequence[Secret],
        poster: Poster,
        clock: Clock,
        local: bool = False,
        zone: str = "UTC",
    ) -> None:
        if not keys:
            raise UsageError("bad_signing_key", Text("A webhook needs a signing key."), Text("Make one."))
        self.name = name
        self._keys = [key_bytes(key) for key in keys]
        self._target = Target(poster, clock, url, local=local)
        self._clock = clock
        self._zone = zone

    async def send(self, parcel: Parcel) -> Receipt:
        """One attempt."""
        body = self._body(parcel)
        timestamp_s = self._clock.now_ns() // 1_000_000_000
        receipt, answer = await self._target.post(
            body,
            {
                "content-type": "application/json",
                "webhook-id": parcel.id,
                "webhook-timestamp": str(timestamp_s),
                "webhook-signature": sign(self._keys, parcel.id, timestamp_s, body),
            },
        )
        if answer is not None and answer.status == 410:
            return msgspec.structs.replace(receipt, outcome="disable", text=f"{receipt.text}: the receiver is gone")
        return receipt

    def _body(self, parcel: Parcel) -> bytes:
        newest = parcel.alerts[-1]
        data: dict[str, Any] = {
            "alert": _record(newest),
            "alerts": [alert.id for alert in parcel.alerts[-200:]],
            "text": render(parcel, self._zone).text(),
            "repeated": parcel.repeated,
        }
        document = {
            "type": "alert.test" if parcel.test else "alert.triggered",
            "timestamp": _utc(newest.fired_ns),
            "data": data,
        }
        body = msgspec.json.encode(document)
        if len(body) > BODY_LONGEST:
            data["alert"]["values"] = {}
            data["alert"]["name"] = newest.name[:200]
            data["text"] = render(parcel, self._zone).text(500)
            body = msgspec.json.encode(document)
        return body


def _record(alert: Alert) -> dict[str, Any]:
    return {field: msgspec.to_builtins(getattr(alert, field)) for field in _FIELDS}


def _utc(at_ns: int) -> str:
    return f"{dt.datetime.fromtimestamp(at_ns // 1_000_000_000, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
