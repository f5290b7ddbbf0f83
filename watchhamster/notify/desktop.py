"""Alerts on this machine: the inbox, and the desktop's notifications."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from watchhamster.monitor.alerts import Parcel, Receipt
from watchhamster.notify.render import Message, render

Show = Callable[[Message, Parcel], bool]
"""Shows a notification; False where the desktop cannot just now."""

_NO_DESKTOP = Receipt(outcome="absent", text="no desktop here; the inbox has it")


class InboxChannel:
    """The list inside the program. The alert's row is all it takes, so it cannot fail, and nothing mutes it."""

    interval_s = 0.0
    fold_s = 0.0
    always = True

    def __init__(self, name: str = "inbox") -> None:
        self.name = name

    async def send(self, parcel: Parcel) -> Receipt:
        """Delivered at once."""
        return Receipt(outcome="ok", text=f"in the inbox as {parcel.alerts[-1].id}")


class DesktopChannel:
    """A desktop notification: by the window while there is one, else by the session's notification service."""

    interval_s = 0.5
    fold_s = 30.0
    always = False

    def __init__(
        self,
        name: str = "desktop",
        *,
        zone: str = "UTC",
        show: Show | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.name = name
        self.show = show  # how the window shows them, while there is one
        self._zone = zone
        self._environment = environment

    async def send(self, parcel: Parcel) -> Receipt:
        """One attempt; where there is no desktop at all the answer is final."""
        message = render(parcel, self._zone)
        if self.show is not None:
            if self.show(message, parcel):
                return Receipt(outcome="ok", text="shown by the window")
            return Receipt(outcome="retry", text="the window could not show it")
        return await self._by_service(message)

    async def _by_service(self, message: Message) -> Receipt:
        """By `org.freedesktop.Notifications` (the Desktop Notifications Specification, 1.2)."""
        bus = self._bus_address()
        try:
            from jeepney import DBusAddress, DBusErrorResponse, new_method_call
            from jeepney.io.asyncio import open_dbus_router
        except ImportError:  # not Linux
            return _NO_DESKTOP
        if bus is None:
            return _NO_DESKTOP
        path, service = "/org/freedesktop/Notifications", "org.freedesktop.Notifications"
        urgency = {"info": 0, "warning": 1, "critical": 2}[message.severity]
        body = html.escape(message.tree, quote=False)
        call = new_method_call(
            DBusAddress(path, bus_name=service, interface=service),
            "Notify",
            "susssasa{sv}i",
            ("WatchHamster", 0, "", message.title, body, [], {"urgency": ("y", urgency)}, -1),
        )
        try:
            async with open_dbus_router(bus) as router:
                reply = await router.send_and_get_reply(call)
        except OSError:
            return _NO_DESKTOP
        if reply.header.message_type.name == "error":
            name = DBusErrorResponse(reply).name
            if name.endswith((".ServiceUnknown", ".NameHasNoOwner")):
                return _NO_DESKTOP
            return Receipt(outcome="retry", text=f"the notification service refused: {name}")
        return Receipt(outcome="ok", text=f"shown by the desktop as {reply.body[0]}")

    def _bus_address(self) -> str | None:
        if address := self._environment.get("DBUS_SESSION_BUS_ADDRESS"):
            return address
        runtime = self._environment.get("XDG_RUNTIME_DIR")
        if runtime and (Path(runtime) / "bus").exists():
            return f"unix:path={runtime}/bus"
        return None
