"""Channels as they are configured: a row each, which names its secrets and holds none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from watchhamster.core.ports import Clock, UsageError
from watchhamster.core.secret import Secret
from watchhamster.core.text import Text
from watchhamster.monitor.alerts import Parcel, Receipt
from watchhamster.notify.desktop import DesktopChannel, InboxChannel, Show
from watchhamster.notify.dooray import DoorayChannel
from watchhamster.notify.http import Poster
from watchhamster.notify.webhook import WebhookChannel

ChannelType = Literal["inbox", "desktop", "webhook", "dooray"]
AnyChannel: TypeAlias = "InboxChannel | DesktopChannel | WebhookChannel | DoorayChannel | UnreadyChannel"


class ChannelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One way out. `secrets` maps what it needs (`url`, `key`, `old_key`) to the names of credentials."""

    name: str
    type: ChannelType
    tenant: str = "default"
    secrets: Mapping[str, str] = {}
    local: bool = False  # the server is ours: http and private addresses are allowed
    enabled: bool = True
    options: Mapping[str, str] = {}  # bot_name, icon_url


NEEDS: Mapping[ChannelType, tuple[str, ...]] = {
    "inbox": (),
    "desktop": (),
    "webhook": ("url", "key"),
    "dooray": ("url",),
}
BUILT_IN = (ChannelConfig(name="inbox", type="inbox"), ChannelConfig(name="desktop", type="desktop"))


class UnreadyChannel:
    """Stands in for a channel that cannot be made yet: its secret is missing or locked. Alerts wait, and say why."""

    interval_s = 0.0
    fold_s = 60.0
    always = False

    def __init__(self, name: str, reason: Text) -> None:
        self.name = name
        self._reason = reason

    async def send(self, parcel: Parcel) -> Receipt:
        """Not now."""
        return Receipt(outcome="retry", text=str(self._reason))


def make_channel(
    config: ChannelConfig,
    secrets: Mapping[str, Secret],
    poster: Poster,
    clock: Clock,
    zone: str = "UTC",
    *,
    fold_s: float | None = None,
    show: Show | None = None,
) -> AnyChannel:
    """The channel of a row, with its secrets by their purpose (`url`, `key`), fetched beforehand.

    `fold_s` replaces the channel's own folding time; `show` is how a window shows desktop notifications.
    Raises `UsageError` (`secret_missing`, `bad_url`, `bad_signing_key`); an `UnreadyChannel` may stand in then.
    """
    for purpose in NEEDS[config.type]:
        if purpose not in secrets:
            raise UsageError(
                "secret_missing",
                Text("The channel {name} has no {purpose}.", {"name": config.name, "purpose": purpose}),
                Text("Enter it in the channel's settings."),
            )
    channel: AnyChannel
    if config.type == "inbox":
        return InboxChannel(config.name)
    if config.type == "desktop":
        channel = DesktopChannel(config.name, zone=zone, show=show)
    elif config.type == "dooray":
        channel = DoorayChannel(
            config.name,
            url=secrets["url"],
            poster=poster,
            clock=clock,
            local=config.local,
            zone=zone,
            bot_name=config.options.get("bot_name", "WatchHamster"),
            icon_url=config.options.get("icon_url", ""),
        )
    else:
        keys = [secrets[purpose] for purpose in ("key", "old_key") if purpose in secrets]
        channel = WebhookChannel(
            config.name, url=secrets["url"], keys=keys, poster=poster, clock=clock, local=config.local, zone=zone
        )
    if fold_s is not None:
        channel.fold_s = fold_s
    return channel
