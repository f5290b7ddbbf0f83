"""From an alert to everyone who should hear of it: a row first, then messages, at least once each.

`add` is synchronous and only buffers. One task turns what was added into rows: the alert and a delivery for each of its
channels, in one transaction. Each channel then has a lane and a task of its own, so that one fails alone. Before an
attempt the delivery's row says that it is under way (attempts counted up, neither receipt nor error); if the program
dies there, the next start sends it again and marks it `repeated`. Every delivery ends as delivered, expired (a price
alert that is late misleads), dead or muted, and each of these can be sent again by hand.

A storm is folded: alerts about the same matter that come soon after a message wait and go out as one, and a lane with
many different ones waiting sends a digest. Each alert stays a row of its own.

Bounds. Added alerts that wait for the disk: 4,096; further ones are counted, and the status turns critical. A lane
holds 1,000 deliveries; what is beyond stays a row and is read when there is room. A full or locked disk stops nothing
but itself: what has to be written is tried again each second, and the status says so.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from watchhamster.core.ports import Clock, StoreError, UsageError
from watchhamster.core.text import Text
from watchhamster.monitor.alerts import Alert, Delivery, DeliveryState, Parcel, Receipt
from watchhamster.monitor.status import State, StatusNode, duration, node

log = logging.getLogger(__name__)
replace = msgspec.structs.replace
T = TypeVar("T")

SECOND_NS = 1_000_000_000
_FOREVER_NS = 2**62  # "due" includes what waits for a later attempt
_WAITING_MOST = 4096
_LANE_MOST = 1000
_KEYS_MOST = 10_000
_DIGEST_ABOVE = 10  # different matters waiting on one lane
_LOOK_AGAIN_S = 600.0  # no lane sleeps longer: the wall clock may have been set
_OFF = "channel_off:"
_MUTED = "muted_until_ns"


class Channel(Protocol):
    """A way out."""

    name: str
    interval_s: float  # the least time between two messages
    fold_s: float  # alerts about one matter within so long are one message; 0: each is its own
    always: bool  # it stays on this machine and is never muted

    async def send(self, parcel: Parcel) -> Receipt:
        """One attempt, bounded in time. Failures are receipts, not exceptions."""


class AlertStore(Protocol):
    """Where alerts and deliveries are rows. Writes return once they are durable."""

    async def add_alert(
        self, alert: Alert, channels: Sequence[str], expires_ns: int | None
    ) -> tuple[Alert, list[Delivery]]:
        """Store an alert and a queued delivery per channel in one transaction; both come back with their ids.

        An alert that was stored before (same tenant, key and moment) comes back as it is now.
        """

    async def update_alert(self, alert: Alert) -> None:
        """Replace an alert's row."""

    async def save_delivery(self, delivery: Delivery) -> Delivery:
        """Replace a delivery's row."""

    async def put(self, key: str, data: bytes | None) -> None:
        """Keep a small state; None forgets it."""

    def get(self, key: str) -> bytes | None:
        """A small state."""

    def alert(self, alert_id: int) -> Alert | None:
        """One alert."""

    def open_alerts(self) -> list[Alert]:
        """Alerts that are not resolved, oldest first."""

    def delivery(self, delivery_id: int) -> Delivery | None:
        """One delivery."""

    def due_deliveries(self, now_ns: int, limit: int) -> list[Delivery]:
        """Queued deliveries with `next_ns` up to now, longest due first."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The outbox's timings, in seconds."""

    backoff_s: tuple[float, ...] = (1.0, 5.0, 30.0, 120.0, 600.0)
    jitter: float = 0.2
    attempts_most: int = 5
    price_lifetime_s: float = 600.0  # of an alert of a rule
    send_timeout_s: float = 60.0  # beyond every channel's own


@dataclass(eq=False)
class _Item:
    """Deliveries of one lane that go out as one message, and stay together over their attempts."""

    pairs: list[tuple[Delivery, Alert]]

    @property
    def next_ns(self) -> int:
        return max(delivery.next_ns for delivery, _ in self.pairs)

    @property
    def key(self) -> str:
        return self.pairs[-1][1].key

    @property
    def fresh(self) -> bool:
        return all(delivery.attempts == 0 for delivery, _ in self.pairs)


@dataclass(eq=False)
class _Lane:
    """One channel's queue."""

    channel: Channel
    items: list[_Item] = field(default_factory=list)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    free_at: float = 0.0  # monotonic: the channel's interval, or a pause that the target asked for
    sent_at: OrderedDict[str, float] = field(default_factory=OrderedDict)  # key -> monotonic
    more: bool = False  # rows that found no room here
    off: str = ""  # why it is switched off
    trouble: str = ""  # what the last attempt came to, if it failed
    absent: bool = False  # this machine does not have it: no reason to worry anyone
    told: bool = False  # an alert about it is open
    delivered: int = 0
    task: asyncio.Task[None] | None = None

    def holds(self, delivery: Delivery) -> bool:
        """Whether it is in the queue already."""
        return any(held.id == delivery.id for item in self.items for held, _ in item.pairs)


class Outbox:
    """See the module's text. `on_alert` is called for every alert that has become, or changed, a row."""

    def __init__(
        self,
        store: AlertStore,
        clock: Clock,
        channels: Sequence[Channel] = (),
        *,
        policy: Policy = Policy(),  # noqa: B008 (frozen)
        on_alert: Callable[[Alert], None] | None = None,
        hold: Callable[[str, Alert, int], Text | None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._policy = policy
        self._on_alert = on_alert
        self._hold = hold  # (channel, alert, now) -> why it is not sent: quiet hours, a switch of the user
        self._rng = rng or random.Random()
        self._lanes: dict[str, _Lane] = {channel.name: _Lane(channel) for channel in channels}
        self._waiting: deque[Alert] = deque()
        self._added = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()
        self._open: OrderedDict[str, Alert] = OrderedDict()
        self._lost = 0
        self._store_trouble: StoreError | None = None
        self._group: asyncio.TaskGroup | None = None
        self.muted_until_ns: int | None = None

    # ------------------------------------------------------------ in

    def add(self, alerts: Iterable[Alert]) -> None:
        """Take alerts over; they become rows as soon as the writer gets to them. Never blocks.

        An alert without id is new, one with `resolved_ns` ends the open one with its key, one with id changes its row.
        """
        for alert in alerts:
            if len(self._waiting) >= _WAITING_MOST:
                self._lost += 1
            else:
                self._waiting.append(alert)
        if self._waiting:
            self._written.clear()
            self._added.set()

    async def flush(self) -> None:
        """Return when everything added so far is rows. `run` must be running."""
        await self._written.wait()

    async def acknowledge(self, alert_id: int) -> Alert:
        """Note that a person has seen it. Raises `UsageError` (`unknown_alert`)."""
        alert = next((a for a in self._open.values() if a.id == alert_id), None) or self._row(alert_id)
        if alert.acknowledged_ns is None:
            alert = replace(alert, acknowledged_ns=self._clock.now_ns())
            if alert.key in self._open and self._open[alert.key].id == alert_id:
                self._open[alert.key] = alert
            await self._store.update_alert(alert)
            self._tell(alert)
        return alert

    async def mute(self, until_ns: int | None) -> None:
        """Let nothing leave until then; None ends it. Alerts still become rows and reach the inbox."""
        if until_ns is not None and until_ns <= self._clock.now_ns():
            until_ns = None
        await self._store.put(_MUTED, None if until_ns is None else str(until_ns).encode())
        self.muted_until_ns = until_ns
        self.wake()

    def wake(self) -> None:
        """Look at the clock again: after a sleep of the machine, or when it was set."""
        for lane in self._lanes.values():
            lane.wake.set()

    # ------------------------------------------------------------ channels

    def set_channels(self, channels: Sequence[Channel]) -> None:
        """Use exactly these from now on. What waits for one that went stays a row and goes out when it is back."""
        wanted = {channel.name: channel for channel in channels}
        for name in [name for name in self._lanes if name not in wanted]:
            lane = self._lanes.pop(name)
            if lane.task is not None:
                lane.task.cancel()
        for name, channel in wanted.items():
            if name in self._lanes:
                self._lanes[name].channel = channel
                self._lanes[name].wake.set()
            else:
                self._lanes[name] = _Lane(channel)
                if self._group is not None:
                    self._start(self._lanes[name], self._group)

    async def switch_on(self, channel: str) -> None:
        """Use a channel again that was switched off because its target refused us."""
        lane = self._lane(channel)
        await self._store.put(_OFF + channel, None)
        lane.off = lane.trouble = ""
        lane.wake.set()
        self._settle_trouble(lane)

    async def test(self, channel: str) -> Delivery:
        """Send a marked sample through a channel, muted or not, and say what came of it.

        Raises `UsageError` (`unknown_channel`).
        """
        lane = self._lane(channel)
        now_ns = self._clock.now_ns()
        sample = Alert(
            kind="system",
            key=f"test:{channel}",
            name="WatchHamster",
            severity="info",
            fired_ns=now_ns,
            resolved_ns=now_ns,
            acknowledged_ns=now_ns,
            text=Text("This is a test of the channel {channel}.", {"channel": channel}),
            channels=(channel,),
            sound=False,
        )
        # The end keeps a sample that a crash interrupted from going out as an alert later.
        alert, (delivery,) = await self._store.add_alert(sample, (channel,), now_ns + SECOND_NS)
        self._tell(alert)
        async with lane.turn:
            item = _Item([(delivery, replace(alert, resolved_ns=None))])
            receipt = await self._attempt(lane, item, test=True)
        if receipt.outcome == "ok":
            await self.switch_on(channel)
        delivery, _alert = item.pairs[0]
        return await self._end(delivery, "delivered" if receipt.outcome == "ok" else "dead", receipt.text)

    async def resend(self, delivery_id: int) -> Delivery:
        """Queue a delivery once more, whatever became of it. Raises `UsageError` (`unknown_delivery`)."""
        found = self._store.delivery(delivery_id)
        if found is None:
            raise UsageError(
                "unknown_delivery",
                Text("There is no delivery {id}.", {"id": delivery_id}),
                Text("List the deliveries of its alert first."),
            )
        lane = self._lane(found.channel)
        if found.state == "queued":
            return found
        again = replace(
            found,
            state="queued",
            attempts=0,
            next_ns=self._clock.now_ns(),
            expires_ns=None,  # a person asked: late is better than never
            done_ns=None,
            receipt="",
            error="",
            repeated=found.state == "delivered" or found.repeated,
        )
        await self._store.save_delivery(again)
        self._enqueue(lane, again, self._row(found.alert_id))
        return again

    def status(self) -> StatusNode:
        """The channels' branch of the tree."""
        now_ns = self._clock.now_ns()
        muted = self.muted_until_ns is not None and self.muted_until_ns > now_ns
        children = []
        for lane in self._lanes.values():
            state: State = "ok"
            detail = None
            waiting = sum(len(item.pairs) for item in lane.items)
            if lane.off:
                state, detail = "critical", Text("switched off: {reason}", {"reason": lane.off})
            elif lane.absent:
                state, detail = "muted", Text("{reason}", {"reason": lane.trouble})
            elif lane.trouble:
                state, detail = "warning", Text("not delivered: {reason}", {"reason": lane.trouble})
            elif muted and not lane.channel.always:
                assert self.muted_until_ns is not None
                left = duration((self.muted_until_ns - now_ns) / SECOND_NS)
                state, detail = "muted", Text("muted for {left} more", {"left": left})
            elif waiting:
                detail = Text("{n} waiting", {"n": waiting})
            children.append(node(lane.channel.name, state, value=lane.delivered, detail=detail))
        own: State = "ok"
        detail = None
        if self._store_trouble is not None:
            own, detail = "critical", Text("alerts cannot be stored: {reason}", {"reason": self._store_trouble.text})
        elif self._lost:
            own, detail = "critical", Text("{n} alerts were lost in a storm", {"n": self._lost})
        return node("channels", own, *children, detail=detail)

    # ------------------------------------------------------------ running

    async def run(self) -> None:
        """Recover, then write and send until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                muted = self._store.get(_MUTED)
                self.muted_until_ns = int(muted) if muted else None
                for alert in self._store.open_alerts():
                    self._remember(alert)
                for lane in self._lanes.values():
                    self._start(lane, group)
                await self._write()
            finally:
                self._group = None

    def _start(self, lane: _Lane, group: asyncio.TaskGroup) -> None:
        off = self._store.get(_OFF + lane.channel.name)
        lane.off = off.decode() if off else ""
        lane.told = f"channel:{lane.channel.name}" in self._open
        self._load(lane)
        lane.task = group.create_task(self._work(lane), name=f"outbox {lane.channel.name}")

    def _load(self, lane: _Lane) -> None:
        """Take over the rows that wait for this lane."""
        lane.more = False
        for delivery in self._store.due_deliveries(_FOREVER_NS, 10 * _LANE_MOST):
            if delivery.channel != lane.channel.name or lane.holds(delivery):
                continue
            if len(lane.items) >= _LANE_MOST:
                lane.more = True
                break
            if delivery.attempts and not delivery.error and not delivery.receipt:
                delivery = replace(delivery, repeated=True)  # it was under way when the program ended
            lane.items.append(_Item([(delivery, self._row(delivery.alert_id))]))

    async def _write(self) -> None:
        """Turn what was added into rows, for ever."""
        while True:
            if not self._waiting:
                self._written.set()
                self._added.clear()
                await self._added.wait()
            await self._store_alert(self._waiting[0])
            self._waiting.popleft()

    async def _durable(self, write: Callable[[], Awaitable[T]]) -> T:
        """The result of a write, however long the disk takes to come back."""
        while True:
            try:
                result = await write()
            except StoreError as error:
                if self._store_trouble is None:
                    log.error("alerts cannot be stored: %s", error)
                self._store_trouble = error
                await self._clock.sleep(1.0)
            else:
                self._store_trouble = None
                return result

    async def _update(self, alert: Alert) -> None:
        await self._durable(lambda: self._store.update_alert(alert))

    async def _save(self, delivery: Delivery) -> None:
        await self._durable(lambda: self._store.save_delivery(delivery))

    async def _store_alert(self, alert: Alert) -> None:
        known = self._open.get(alert.key)
        if alert.id is not None or alert.resolved_ns is not None:
            await self._change(alert, known)
            return
        if known is not None:
            if known.fired_ns == alert.fired_ns:
                return  # the same firing, seen again after a restart or in filled data
            await self._update(replace(known, resolved_ns=alert.fired_ns))
        expires_ns = None
        if alert.kind == "rule":
            expires_ns = self._clock.now_ns() + int(self._policy.price_lifetime_s * SECOND_NS)
        channels = tuple(dict.fromkeys(alert.channels))
        stored, deliveries = await self._durable(lambda: self._store.add_alert(alert, channels, expires_ns))
        if stored.resolved_ns is None:
            self._remember(stored)
        self._tell(stored)
        for delivery in deliveries:
            lane = self._lanes.get(delivery.channel)
            if delivery.state != "queued" or (lane is not None and lane.holds(delivery)):
                continue  # stored, and perhaps sent, before
            if lane is None:
                await self._end(delivery, "dead", f"there is no channel {delivery.channel}")
            elif lane.channel.always:
                delivery = replace(delivery, expires_ns=None)
                receipt = await lane.channel.send(Parcel(alerts=(stored,)))
                if receipt.outcome == "ok":
                    lane.delivered += 1
                    await self._end(replace(delivery, attempts=1), "delivered", receipt.text)
                else:
                    self._enqueue(lane, delivery, stored)
            else:
                self._enqueue(lane, delivery, stored)

    async def _change(self, alert: Alert, known: Alert | None) -> None:
        if alert.id is None:
            if known is None:
                return  # nothing of that key is open
            alert = replace(known, resolved_ns=alert.resolved_ns)
        elif known is not None and known.id == alert.id and alert.acknowledged_ns is None:
            alert = replace(alert, acknowledged_ns=known.acknowledged_ns)
        await self._update(alert)
        if alert.resolved_ns is None:
            self._remember(alert)
        elif known is not None and known.id == alert.id:
            del self._open[alert.key]
        self._tell(alert)

    def _enqueue(self, lane: _Lane, delivery: Delivery, alert: Alert) -> None:
        if len(lane.items) >= _LANE_MOST:
            lane.more = True
            return
        lane.items.append(_Item([(delivery, alert)]))
        lane.wake.set()

    # ------------------------------------------------------------ out

    async def _work(self, lane: _Lane) -> None:
        """Send what is due on one lane, for ever."""
        while True:
            async with lane.turn:
                item, wait_s = await self._next(lane)
                if item is not None:
                    await self._send(lane, item)
                    continue
            await self._pause(wait_s, lane.wake)

    async def _next(self, lane: _Lane) -> tuple[_Item | None, float]:
        """The next message of a lane, or how long to wait for one. Ends what is too late or muted on the way."""
        now_ns, now = self._clock.now_ns(), self._clock.monotonic()
        if not lane.items and lane.more:
            self._load(lane)
        for item in list(lane.items):
            for pair in list(item.pairs):
                if (ending := self._ending(lane, *pair, now_ns)) is not None:
                    await self._end(pair[0], *ending)
                    item.pairs.remove(pair)
            if not item.pairs:
                lane.items.remove(item)
        wait_s = _LOOK_AGAIN_S
        due: list[_Item] = []
        for item in lane.items:
            until_s = (item.next_ns - now_ns) / SECOND_NS
            if item.fresh and item.key in lane.sent_at:
                until_s = max(until_s, lane.sent_at[item.key] + lane.channel.fold_s - now)
            if until_s <= 0:
                due.append(item)
            else:
                wait_s = min(wait_s, until_s)
            for delivery, _alert in item.pairs:
                if delivery.expires_ns is not None:
                    wait_s = min(wait_s, (delivery.expires_ns - now_ns) / SECOND_NS)
        if not due:
            return None, wait_s
        if lane.free_at > now:
            return None, min(wait_s, lane.free_at - now)
        first = due[0]
        if first.fresh and lane.channel.fold_s > 0:
            fresh = [item for item in due if item.fresh]
            if len({item.key for item in fresh}) <= _DIGEST_ABOVE:
                fresh = [item for item in fresh if item.key == first.key]
            for item in fresh[1:]:
                first.pairs += item.pairs
                lane.items.remove(item)
        return first, 0.0

    def _ending(self, lane: _Lane, delivery: Delivery, alert: Alert, now_ns: int) -> tuple[DeliveryState, str] | None:
        """Why a delivery may not go out any more, or not now."""
        if delivery.expires_ns is not None and delivery.expires_ns <= now_ns:
            return "expired", "too late to be of use" + (f": {delivery.error}" if delivery.error else "")
        if lane.off:
            return "dead", f"the channel is switched off: {lane.off}"
        if delivery.next_ns <= now_ns and (held := self._held(lane, alert, now_ns)) is not None:
            return "muted", str(held)
        return None

    def _held(self, lane: _Lane, alert: Alert, now_ns: int) -> Text | None:
        if lane.channel.always:
            return None
        if self.muted_until_ns is not None and now_ns < self.muted_until_ns:
            return Text("muted")
        return self._hold(lane.channel.name, alert, now_ns) if self._hold is not None else None

    async def _send(self, lane: _Lane, item: _Item) -> None:
        receipt = await self._attempt(lane, item)
        if item in lane.items:
            lane.items.remove(item)
        now_ns = self._clock.now_ns()
        retrying: list[tuple[Delivery, Alert]] = []
        dead = False
        for delivery, alert in item.pairs:
            if receipt.outcome == "ok":
                others = len(item.pairs) - 1
                text = receipt.text if not others else f"{receipt.text}, in one message with {others} more"
                await self._end(delivery, "delivered", text)
            elif receipt.outcome == "retry" and delivery.attempts < self._policy.attempts_most:
                wait_s = max(self._backoff_s(delivery.attempts), receipt.pause_s)
                again = replace(
                    delivery,
                    next_ns=now_ns + int(wait_s * SECOND_NS),
                    error=receipt.text,
                    repeated=delivery.repeated or receipt.in_doubt,
                )
                if again.expires_ns is not None and again.next_ns >= again.expires_ns:
                    await self._end(again, "expired", f"too late for another attempt: {receipt.text}")
                else:
                    await self._save(again)
                    retrying.append((again, alert))
            else:
                dead = True
                await self._end(delivery, "dead", receipt.text)
        if retrying:
            # Together again at the same moment: a receiver tells a repeat by the alerts in it.
            latest = max(delivery.next_ns for delivery, _ in retrying)
            lane.items.append(_Item([(replace(delivery, next_ns=latest), alert) for delivery, alert in retrying]))
        if receipt.outcome == "ok":
            self._settle_trouble(lane)
        elif receipt.outcome == "disable":
            lane.off = receipt.text
            await self._durable(lambda: self._store.put(_OFF + lane.channel.name, receipt.text.encode()))
            self._raise_trouble(lane, Text("Its target refuses us for good: {reason}.", {"reason": receipt.text}))
        elif dead and receipt.outcome == "retry":
            self._raise_trouble(lane, Text("Messages do not get through: {reason}.", {"reason": receipt.text}))

    async def _attempt(self, lane: _Lane, item: _Item, *, test: bool = False) -> Receipt:
        """One message. The rows say that it is under way before it is, and `item` holds them as they are then."""
        item.pairs = [
            (replace(delivery, attempts=delivery.attempts + 1, error="", receipt=""), alert)
            for delivery, alert in item.pairs
        ]
        for delivery, _alert in item.pairs:
            await self._save(delivery)
        parcel = Parcel(
            alerts=tuple(alert for _, alert in item.pairs),
            attempt=max(delivery.attempts for delivery, _ in item.pairs),
            repeated=any(delivery.repeated for delivery, _ in item.pairs),
            test=test,
        )
        try:
            async with asyncio.timeout(self._policy.send_timeout_s):
                receipt = await lane.channel.send(parcel)
        except TimeoutError:
            receipt = Receipt(outcome="retry", text="the channel did not come back in time", in_doubt=True)
        except Exception as error:  # a fault in one channel must not silence the others
            log.exception("the channel %s failed", lane.channel.name)
            receipt = Receipt(outcome="retry", text=f"internal: {type(error).__name__}", in_doubt=True)
        now = self._clock.monotonic()
        lane.free_at = now + max(lane.channel.interval_s, receipt.pause_s)
        lane.absent = receipt.outcome == "absent"
        if receipt.outcome == "ok":
            lane.delivered += len(item.pairs)
            lane.trouble = ""
            for alert in parcel.alerts:
                lane.sent_at[alert.key] = now
                lane.sent_at.move_to_end(alert.key)
            while len(lane.sent_at) > _KEYS_MOST:
                lane.sent_at.popitem(last=False)
        else:
            lane.trouble = receipt.text
        return receipt

    async def _end(self, delivery: Delivery, state: DeliveryState, text: str) -> Delivery:
        done = replace(
            delivery,
            state=state,
            done_ns=self._clock.now_ns(),
            receipt=text if state == "delivered" else "",
            error="" if state == "delivered" else text,
        )
        await self._save(done)
        return done

    def _backoff_s(self, attempts: int) -> float:
        steps = self._policy.backoff_s
        base = steps[min(attempts, len(steps)) - 1]
        return base * self._rng.uniform(1 - self._policy.jitter, 1 + self._policy.jitter)

    async def _pause(self, seconds: float, wake: asyncio.Event) -> None:
        """Until the event, or for so many of the clock's seconds."""

        async def doze() -> None:
            await self._clock.sleep(seconds)
            wake.set()

        async with asyncio.TaskGroup() as group:
            dozing = group.create_task(doze())
            await wake.wait()
            dozing.cancel()
        wake.clear()

    # ------------------------------------------------------------ small things

    def _raise_trouble(self, lane: _Lane, text: Text) -> None:
        """A channel that fails is a matter of its own; it is told by the other local ones."""
        if lane.told:
            return
        lane.told = True
        name = lane.channel.name
        self.add(
            [
                Alert(
                    kind="system",
                    key=f"channel:{name}",
                    name=f"channel {name}",
                    severity="critical",
                    fired_ns=self._clock.now_ns(),
                    text=text,
                    channels=tuple(n for n in ("desktop", "inbox") if n in self._lanes and n != name),
                )
            ]
        )

    def _settle_trouble(self, lane: _Lane) -> None:
        if lane.told:
            lane.told = False
            now_ns = self._clock.now_ns()
            key = f"channel:{lane.channel.name}"
            self.add([Alert(kind="system", key=key, name="", fired_ns=now_ns, resolved_ns=now_ns, text=Text(""))])

    def _lane(self, channel: str) -> _Lane:
        try:
            return self._lanes[channel]
        except KeyError:
            raise UsageError(
                "unknown_channel",
                Text("There is no channel {name!r}.", {"name": channel}),
                Text("Known ones are {names}.", {"names": ", ".join(self._lanes) or "…"}),
            ) from None

    def _row(self, alert_id: int) -> Alert:
        found = self._store.alert(alert_id)
        if found is None:
            raise UsageError(
                "unknown_alert", Text("There is no alert {id}.", {"id": alert_id}), Text("List the alerts first.")
            )
        return found

    def _remember(self, alert: Alert) -> None:
        self._open[alert.key] = alert
        self._open.move_to_end(alert.key)
        while len(self._open) > _KEYS_MOST:
            self._open.popitem(last=False)

    def _tell(self, alert: Alert) -> None:
        if self._on_alert is not None:
            self._on_alert(alert)


def end_of_day_ns(now_ns: int, zone: str) -> int:
    """The zone's next midnight: until when "mute today" lasts."""
    local = dt.datetime.fromtimestamp(now_ns // SECOND_NS, ZoneInfo(zone))
    midnight = dt.datetime.combine(local.date() + dt.timedelta(days=1), dt.time(), ZoneInfo(zone))
    return int(midnight.timestamp()) * SECOND_NS
