"""From an alert to a server on loopback through the real store and the real channels, also over a kill."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from tests.engine.test_outbox import alert, eventually, running
from tests.notify.receiver import HANG, receiving
from watchhamster.core.secret import Secret
from watchhamster.engine.clock import SystemClock
from watchhamster.engine.outbox import Outbox, Policy
from watchhamster.notify.channels import ChannelConfig, make_channel
from watchhamster.notify.http import Poster
from watchhamster.storage.desk import DeskStore

KEY = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
HOOK = ChannelConfig(name="hook", type="webhook", secrets={"url": "hook.url", "key": "hook.key"}, local=True)
ROOM = ChannelConfig(name="room", type="dooray", secrets={"url": "room.url"}, local=True)

CHILD = """
import asyncio, sys
from pathlib import Path
from tests.engine.test_outbox import alert
from tests.engine.test_outbox_whole import HOOK, KEY
from watchhamster.core.secret import Secret
from watchhamster.engine.clock import SystemClock
from watchhamster.engine.outbox import Outbox
from watchhamster.notify.channels import make_channel
from watchhamster.notify.http import Poster
from watchhamster.storage.desk import DeskStore

async def main():
    clock = SystemClock()
    desk = DeskStore(Path(sys.argv[1]), clock)
    desk.open()
    channel = make_channel(HOOK, {"url": Secret(sys.argv[2]), "key": KEY}, Poster(), clock)
    outbox = Outbox(desk, clock, [channel])
    outbox.add([alert(at=7, channels=("hook",))])
    await outbox.run()

asyncio.run(main())
"""


async def test_two_services_get_what_each_understands_after_a_stumble(tmp_path: Path) -> None:
    clock, poster = SystemClock(), Poster(timeout_s=5)
    desk = DeskStore(tmp_path / "watchhamster.db", clock)
    desk.open()
    async with receiving() as hook, receiving() as room:
        hook.answers = [(503, {}, b""), (200, {}, b"ok")]
        room.answers = [(429, {"retry-after": "0.1"}, b""), (200, {}, b'{"header": {"isSuccessful": true}}')]
        channels = [
            make_channel(HOOK, {"url": Secret(hook.url), "key": KEY}, poster, clock),
            make_channel(ROOM, {"url": Secret(f"{room.url}/services/1/2/token")}, poster, clock),
        ]
        for channel in channels:
            channel.interval_s = 0.0
        outbox = Outbox(desk, clock, channels, policy=Policy(backoff_s=(0.05,)))
        async with running(outbox):
            outbox.add([alert(at=7, channels=("hook", "room"), price=95123000.0)])
            await outbox.flush()
            await eventually(lambda: {row.state for row in desk.deliveries(1)} == {"delivered"})
        assert [row.attempts for row in desk.deliveries(1)] == [2, 2]
        assert [got.headers["webhook-id"] for got in hook.received] == ["alert_1", "alert_1"]
        assert json.loads(hook.received[1].body)["data"]["alert"]["price"] == 95123000.0
        assert "95,123,000" in json.loads(room.received[1].body)["attachments"][0]["text"]
    await poster.close()
    desk.close()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
async def test_a_kill_in_the_middle_of_sending_repeats_the_same_message_marked(tmp_path: Path) -> None:
    async with receiving() as hook:
        hook.answers = [HANG, (200, {}, b"ok")]
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, str(tmp_path / "watchhamster.db"), hook.url, cwd=Path(__file__).parents[2]
        )
        await eventually(lambda: len(hook.received) == 1)
        child.send_signal(signal.SIGKILL)
        await child.wait()
        clock, poster = SystemClock(), Poster(timeout_s=5)
        desk = DeskStore(tmp_path / "watchhamster.db", clock)
        desk.open()
        async with running(
            Outbox(desk, clock, [make_channel(HOOK, {"url": Secret(hook.url), "key": KEY}, poster, clock)])
        ):
            await eventually(lambda: desk.deliveries(1)[0].state == "delivered")
        first, second = hook.received
        assert first.headers["webhook-id"] == second.headers["webhook-id"] == "alert_1"
        assert [json.loads(got.body)["data"]["repeated"] for got in hook.received] == [False, True]
        assert desk.deliveries(1)[0].repeated and desk.deliveries(1)[0].attempts == 2
        desk.close()
        await poster.close()
