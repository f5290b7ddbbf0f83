"""Dooray! Messenger's incoming hook (TOAST-DOCS/Dooray-Messenger, ko/incoming-hook-guide.md).

Plain text and hex colours; one message a second and hook. A 200 may still carry a failure in its envelope
`{"header": {"isSuccessful": …}}`, whose message the documentation forbids to build upon.
"""

from __future__ import annotations

import msgspec

from watchhamster.core.ports import Clock, UsageError
from watchhamster.core.secret import Secret
from watchhamster.core.text import Text
from watchhamster.monitor.alerts import Parcel, Receipt
from watchhamster.notify.http import Answer, Poster, Target
from watchhamster.notify.render import cut, cut_tree, render

TEXT_LONGEST = 3000  # no documented limit; longer texts were seen cut at about 4,000
ATTACHMENT_LONGEST = 2000
_HOSTS = ("dooray.com", "dooray.co.kr", "gov-dooray.com", "gov-dooray.co.kr")


class DoorayChannel:
    """Posts alerts into a Dooray! room."""

    interval_s = 1.0
    fold_s = 60.0
    always = False

    def __init__(
        self,
        name: str,
        *,
        url: Secret,
        poster: Poster,
        clock: Clock,
        local: bool = False,
        zone: str = "Asia/Seoul",
        bot_name: str = "WatchHamster",
        icon_url: str = "",
    ) -> None:
        self.name = name
        self._target = Target(poster, clock, url, local=local)
        if not local and not self._target.host.endswith(tuple(f".{host}" for host in _HOSTS)):
            raise UsageError(
                "bad_url",
                Text("{host} is not a Dooray! host.", {"host": self._target.host}),
                Text("Copy the hook's address from the room's settings; it begins with https://hook.dooray.com/."),
            )
        self._zone = zone
        self._bot_name = bot_name
        self._icon_url = icon_url

    async def send(self, parcel: Parcel) -> Receipt:
        """One attempt."""
        message = render(parcel, self._zone)
        body: dict[str, object] = {
            "botName": f"[TEST] {self._bot_name}" if parcel.test else self._bot_name,
            "text": cut(message.title, TEXT_LONGEST),
            "attachments": [{"text": cut_tree(message.tree, ATTACHMENT_LONGEST), "color": message.colour}],
        }
        if self._icon_url:
            body["botIconImage"] = self._icon_url
        receipt, answer = await self._target.post(msgspec.json.encode(body), {"content-type": "application/json"})
        return receipt if answer is None else _checked(receipt, answer)


class _EnvelopeHeader(msgspec.Struct, rename="camel"):
    is_successful: bool
    result_code: int | str | None = None


class _Envelope(msgspec.Struct):
    header: _EnvelopeHeader


def _checked(receipt: Receipt, answer: Answer) -> Receipt:
    pause_s = receipt.pause_s
    if answer.headers.get("x-ratelimit-remaining", "").strip() == "0":
        pause_s = max(pause_s, 1.0)
    outcome, text = receipt.outcome, receipt.text
    if outcome == "ok":
        try:
            header = msgspec.json.decode(answer.body, type=_Envelope).header
        except msgspec.DecodeError:
            pass  # whether hooks answer with the envelope is not documented: the status alone counts then
        else:
            text += f", resultCode {header.result_code}"
            if not header.is_successful:
                outcome, text = "retry", f"{text}: refused in the envelope"
    return msgspec.structs.replace(receipt, outcome=outcome, text=text, pause_s=pause_s)
