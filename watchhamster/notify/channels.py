"""Channels as they are configured: a row each, which names its secrets and holds none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from watchhamster.core.ports import Clock, UsageError
from watchhamster.core.secret import Secret
from watchhamster.core.text import Text
from watchhamster.notify.desktop import DesktopChannel, InboxChannel
from watchhamster.notify.dooray import DoorayChannel
from watchhamster.notify.http import Poster
from watchhamster.notify.webhook import WebhookChannel

ChannelType = Literal["inbox", "desktop", "webhook", "dooray"]
AnyChannel: TypeAlias = InboxChannel | DesktopChannel | WebhookChannel | DoorayChannel


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


def make_channel(
    config: ChannelConfig, secrets: Mapping[str, Secret], poster: Poster, clock: Clock, zone: str = "UTC"
) -> AnyChannel:
    """The channel of a row, with its secrets by their purpose (`url`, `key`), fetched beforehand.

    Raises `UsageError` (`secret_missing`, `bad_url`, `bad_signing_key`).
    """
    for purpose in NEEDS[config.type]:
        if purpose not in secrets:
            raise UsageError(
                "secret_missing",
                Text("The channel {name} has no {purpose}.", {"name": config.name, "purpose": purpose}),
                Text("Enter it in the channel's settings."),
            )
    if config.type == "inbox":
        return InboxChannel(config.name)
    if config.type == "desktop":
        return DesktopChannel(config.name, zone=zone)
    if config.type == "dooray":
        return DoorayChannel(
            config.name,
            url=secrets["url"],
            poster=poster,
            clock=clock,
            local=config.local,
            zone=zone,
            bot_name=config.options.get("bot_name", "WatchHamster"),
            icon_url=config.options.get("icon_url", ""),
        )
    keys = [secrets[purpose] for purpose in ("key", "old_key") if purpose in secrets]
    return WebhookChannel(
        config.name, url=secrets["url"], keys=keys, poster=poster, clock=clock, local=config.local, zone=zone
    )
