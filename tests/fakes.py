"""Stand-ins for ports, written by hand, for tests in virtual time, where no thread, and so no real store, can run."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from watchhamster.core.ports import StoreError
from watchhamster.core.text import Text
from watchhamster.monitor.alerts import Alert, Delivery

replace = msgspec.structs.replace


class MemoryDesk:
    """Alerts, deliveries and small states as `storage.desk.DeskStore` keeps them, without a disk."""

    def __init__(self) -> None:
        self.alert_rows: dict[int, Alert] = {}
        self.delivery_rows: dict[int, Delivery] = {}
        self.states: dict[str, bytes] = {}
        self.full = False  # every write fails, as on a full disk
        self.now_ns = 0  # what `queued_ns` becomes

    def _check(self) -> None:
        if self.full:
            raise StoreError("disk_full", Text("The disk is full."), Text("Free some room."))

    async def add_alert(
        self, alert: Alert, channels: Sequence[str], expires_ns: int | None
    ) -> tuple[Alert, list[Delivery]]:
        self._check()
        for known in self.alert_rows.values():
            if (known.tenant, known.key, known.fired_ns) == (alert.tenant, alert.key, alert.fired_ns):
                assert known.id is not None
                return known, self.deliveries(known.id)
        stored = replace(alert, id=len(self.alert_rows) + 1)
        assert stored.id is not None
        self.alert_rows[stored.id] = stored
        for channel in channels:
            number = len(self.delivery_rows) + 1
            self.delivery_rows[number] = Delivery(
                id=number,
                alert_id=stored.id,
                channel=channel,
                queued_ns=self.now_ns,
                next_ns=self.now_ns,
                expires_ns=expires_ns,
            )
        return stored, self.deliveries(stored.id)

    async def update_alert(self, alert: Alert) -> None:
        self._check()
        assert alert.id in self.alert_rows
        self.alert_rows[alert.id] = alert

    async def save_delivery(self, delivery: Delivery) -> Delivery:
        self._check()
        assert delivery.id in self.delivery_rows
        self.delivery_rows[delivery.id] = delivery
        return delivery

    async def put(self, key: str, data: bytes | None) -> None:
        self._check()
        self.states.pop(key, None)
        if data is not None:
            self.states[key] = data

    def get(self, key: str) -> bytes | None:
        return self.states.get(key)

    def alert(self, alert_id: int) -> Alert | None:
        return self.alert_rows.get(alert_id)

    def open_alerts(self) -> list[Alert]:
        return [alert for alert in self.alert_rows.values() if alert.resolved_ns is None]

    def delivery(self, delivery_id: int) -> Delivery | None:
        return self.delivery_rows.get(delivery_id)

    def deliveries(self, alert_id: int) -> list[Delivery]:
        return [delivery for delivery in self.delivery_rows.values() if delivery.alert_id == alert_id]

    def due_deliveries(self, now_ns: int, limit: int) -> list[Delivery]:
        due = [row for row in self.delivery_rows.values() if row.state == "queued" and row.next_ns <= now_ns]
        return sorted(due, key=lambda row: (row.next_ns, row.id))[:limit]
