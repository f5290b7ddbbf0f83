"""What each channel puts on the wire and makes of the answer, over a real socket."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import email.utils
import hashlib
import hmac
import json
import logging
import os
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.notify.receiver import HANG, Receiver, Reply, receiving
from tests.notify.test_render import AT, alert
from watchhamster.core.ports import UsageError
from watchhamster.core.secret import Secret
from watchhamster.core.text import Text
from watchhamster.monitor.alerts import Parcel
from watchhamster.notify.channels import BUILT_IN, ChannelConfig, UnreadyChannel, make_channel
from watchhamster.notify.desktop import DesktopChannel, InboxChannel
from watchhamster.notify.dooray import DoorayChannel
from watchhamster.notify.http import Poster, is_public
from watchhamster.notify.render import Message
from watchhamster.notify.webhook import WebhookChannel, key_bytes, new_key, sign

TOKEN = "q9Zk3vT7xW1mB5nC"
KEY = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
PARCEL = Parcel(alerts=(alert(),))


class FixedClock:
    """A moment that stands still."""

    def __init__(self, at_ns: int = AT) -> None:
        self.at_ns = at_ns

    def now_ns(self) -> int:
        return self.at_ns

    def monotonic(self) -> float:
        return self.at_ns / 1e9

    async def sleep(self, seconds: float) -> None:
        self.at_ns += int(seconds * 1e9)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


@pytest.fixture
async def poster() -> AsyncIterator[Poster]:
    shared = Poster(timeout_s=2.0)
    yield shared
    await shared.close()


def webhook(receiver: Receiver, poster: Poster, **changes: Any) -> WebhookChannel:
    options: dict[str, Any] = {
        "url": Secret(f"{receiver.url}/in/{TOKEN}?sig={TOKEN}%2B"),
        "keys": [KEY],
        "poster": poster,
        "clock": FixedClock(),
        "local": True,
    }
    return WebhookChannel("hook", **(options | changes))


def dooray(receiver: Receiver, poster: Poster, **changes: Any) -> DoorayChannel:
    url = Secret(f"{receiver.url}/services/123/456/{TOKEN}")
    options: dict[str, Any] = {"url": url, "poster": poster, "clock": FixedClock(), "local": True}
    return DoorayChannel("room", **(options | changes))


# ---------------------------------------------------------------- the signed webhook


def test_the_published_vector() -> None:
    """The test vector of Standard Webhooks' own libraries."""
    signature = sign([key_bytes(KEY)], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_receiver_can_verify_what_it_got(receiver: Receiver, poster: Poster) -> None:
    receipt = await webhook(receiver, poster).send(PARCEL)
    assert receipt.outcome == "ok" and receipt.text.startswith("HTTP 200 in ")
    got = receiver.received[0]
    signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    raw = base64.b64decode(KEY.reveal().removeprefix("whsec_"))
    expected = base64.b64encode(hmac.digest(raw, signed, hashlib.sha256)).decode()
    assert got.headers["webhook-signature"] == f"v1,{expected}"
    assert got.headers["webhook-id"] == "alert_17"
    assert got.headers["webhook-timestamp"] == str(AT // 10**9)
    assert got.headers["host"] == f"localhost:{receiver.port}"
    assert got.target == f"/in/{TOKEN}?sig={TOKEN}%2B"
    body = json.loads(got.body)
    assert body["type"] == "alert.triggered" and body["timestamp"] == "2025-11-20T08:00:00Z"
    assert body["data"]["alert"]["price"] == 95123000.0
    assert body["data"]["alerts"] == [17]
    assert body["data"]["text"].startswith("🔴 Golden cross\n├ ")


async def test_the_id_is_the_same_over_attempts_and_two_keys_sign_twice(receiver: Receiver, poster: Poster) -> None:
    other = new_key()
    channel = webhook(receiver, poster, keys=[KEY, other])
    await channel.send(PARCEL)
    await channel.send(Parcel(alerts=PARCEL.alerts, attempt=2, repeated=True))
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert len(first.headers["webhook-signature"].split(" ")) == 2
    assert json.loads(second.body)["data"]["repeated"] is True


async def test_a_body_stays_below_twenty_kilobytes(receiver: Receiver, poster: Poster) -> None:
    huge = alert(name="x" * 30_000, values={f"f{n}": n / 7 for n in range(2000)})
    assert (await webhook(receiver, poster).send(Parcel(alerts=(huge,) * 300))).outcome == "ok"
    assert len(receiver.received[0].body) < 20_000


async def test_undefined_numbers_are_null(receiver: Receiver, poster: Poster) -> None:
    await webhook(receiver, poster).send(Parcel(alerts=(alert(values={"a": float("nan"), "b": None, "c": True}),)))
    assert json.loads(receiver.received[0].body)["data"]["alert"]["values"] == {"a": None, "b": None, "c": True}


@pytest.mark.parametrize("key", ["", "whsec_", "whsec_abc", "whsec_" + base64.b64encode(b"x" * 23).decode(), "한글"])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(UsageError) as caught:
        key_bytes(Secret(key))
    assert caught.value.code == "bad_signing_key"


# ---------------------------------------------------------------- what answers mean


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((status, "ok") for status in (200, 202, 204)),
        *((status, "retry") for status in (408, 425, 429, 500, 502, 503, 504)),
        *((status, "permanent") for status in (301, 307, 400, 401, 403, 404, 413, 415, 422)),
        (410, "disable"),
    ],
)
async def test_outcomes_by_status(receiver: Receiver, poster: Poster, status: int, outcome: str) -> None:
    receiver.answers = [(status, {"location": "http://127.0.0.1:1/"}, b"" if status == 204 else b"words")]
    receipt = await webhook(receiver, poster).send(PARCEL)
    assert receipt.outcome == outcome
    assert f"HTTP {status}" in receipt.text
    assert len(receiver.received) == 1  # no redirect was followed


async def test_three_refusals_running_disable_and_a_success_between_starts_over(
    receiver: Receiver, poster: Poster
) -> None:
    statuses = (404, 404, 200, 404, 403, 401)
    receiver.answers = [(status, {}, b"") for status in statuses]
    channel = webhook(receiver, poster)
    outcomes = [(await channel.send(PARCEL)).outcome for _ in statuses]
    assert outcomes == ["permanent", "permanent", "ok", "permanent", "permanent", "disable"]


@pytest.mark.parametrize(
    ("header", "body", "pause_s"),
    [
        ("2", b"", 2.0),
        ("1.5", b'{"retry_after": 64.57}', 64.57),
        ("90", b'{"retry_after": 3}', 90.0),
        ("999999", b"", 3600.0),
        (email.utils.format_datetime(dt.datetime.fromtimestamp(AT // 10**9 + 30, dt.UTC), usegmt=True), b"", 30.0),
        (email.utils.format_datetime(dt.datetime.fromtimestamp(AT // 10**9 - 30, dt.UTC), usegmt=True), b"", 0.0),
        ("soon", b'{"retry_after": "x"}', 0.0),
        ("nan", b"[]", 0.0),
        ("-5", b"<html>", 0.0),
        ("inf", b"", 3600.0),
    ],
)
async def test_a_target_is_left_alone_as_long_as_it_asks(
    receiver: Receiver, poster: Poster, header: str, body: bytes, pause_s: float
) -> None:
    receiver.answers = [(429, {"retry-after": header}, body)]
    receipt = await webhook(receiver, poster).send(PARCEL)
    assert (receipt.outcome, receipt.pause_s) == ("retry", pause_s)


async def test_a_dropped_connection_after_sending_leaves_doubt(receiver: Receiver, poster: Poster) -> None:
    receiver.answers = [None]
    receipt = await webhook(receiver, poster).send(PARCEL)
    assert (receipt.outcome, receipt.in_doubt) == ("retry", True)


async def test_a_time_out_after_sending_leaves_doubt(receiver: Receiver) -> None:
    receiver.answers = [HANG]
    poster = Poster(timeout_s=0.3)
    receipt = await webhook(receiver, poster).send(PARCEL)
    assert (receipt.outcome, receipt.in_doubt) == ("retry", True)
    assert "did not answer within 0.3 s" in receipt.text
    await poster.close()


async def test_a_refused_connection_and_an_unknown_name_leave_none(receiver: Receiver, poster: Poster) -> None:
    for url in ("http://127.0.0.1:1/x", "http://nowhere.invalid/x"):
        receipt = await webhook(receiver, poster, url=Secret(url)).send(PARCEL)
        assert (receipt.outcome, receipt.in_doubt) == ("retry", False)


async def test_a_megabyte_of_answer_is_not_read(receiver: Receiver, poster: Poster) -> None:
    receiver.answers = [(200, {}, b"x" * 1_000_000)]
    assert (await webhook(receiver, poster).send(PARCEL)).outcome == "ok"


async def test_no_address_shows_in_logs_errors_or_receipts(
    receiver: Receiver, poster: Poster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    channel, room = webhook(receiver, poster), dooray(receiver, poster)
    texts = []
    answers: list[Reply | None] = [(200, {}, b"ok"), (302, {"location": "/"}, b""), (500, {}, TOKEN.encode()), None]
    for answer in answers:
        receiver.answers = [answer]
        for target in (channel, room):
            texts.append(repr(await target.send(PARCEL)))
            texts.append(repr(vars(target)))
    texts.append(repr(await webhook(receiver, poster, url=Secret(f"http://127.0.0.1:1/{TOKEN}")).send(PARCEL)))
    texts.append(caplog.text)
    assert TOKEN not in "".join(texts)


# ---------------------------------------------------------------- where messages may go


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/x",
        "ftp://example.com/x",
        "https://user:pass@example.com/x",
        "https:///x",
        "not an address",
        "",
        "https://[::1",
    ],
)
def test_only_https_addresses_without_names_in_them(poster: Poster, url: str) -> None:
    with pytest.raises(UsageError) as caught:
        WebhookChannel("hook", url=Secret(url), keys=[KEY], poster=poster, clock=FixedClock())
    assert caught.value.code == "bad_url"
    assert "example" not in str(caught.value.text)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "[::1]", "169.254.169.254", "10.1.2.3", "[::ffff:10.0.0.1]"]
)
async def test_private_addresses_are_refused_unless_the_server_is_local(poster: Poster, host: str) -> None:
    channel = WebhookChannel("hook", url=Secret(f"https://{host}:1/x"), keys=[KEY], poster=poster, clock=FixedClock())
    receipt = await channel.send(PARCEL)
    assert receipt.outcome == "permanent" and "private network" in receipt.text


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


def certificate(name: str) -> tuple[bytes, bytes]:
    """A self-signed certificate for one host name, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize(("name", "outcome"), [("localhost", "ok"), ("other.example", "retry")])
async def test_the_certificate_is_checked_against_the_name_though_the_socket_goes_to_an_address(
    tmp_path: Path, name: str, outcome: str
) -> None:
    public, private = certificate(name)
    (tmp_path / "pem").write_bytes(public + private)
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(tmp_path / "pem")
    poster = Poster(timeout_s=5, tls=ssl.create_default_context(cadata=public.decode()))
    async with receiving(server_tls) as receiver:
        receipt = await webhook(receiver, poster).send(PARCEL)
        assert receipt.outcome == outcome, receipt
        assert len(receiver.received) == (1 if outcome == "ok" else 0)
    await poster.close()


# ---------------------------------------------------------------- Dooray!


async def test_dooray_gets_plain_text_and_a_hex_colour(receiver: Receiver, poster: Poster) -> None:
    envelope = {"header": {"isSuccessful": True, "resultCode": 0, "resultMessage": ""}, "result": None}
    receiver.answers = [(200, {"content-type": "application/json"}, json.dumps(envelope).encode())]
    receipt = await dooray(receiver, poster, icon_url="https://example.com/i.png").send(PARCEL)
    assert receipt.outcome == "ok" and "resultCode 0" in receipt.text
    body = json.loads(receiver.received[0].body)
    assert body["botName"] == "WatchHamster" and body["botIconImage"] == "https://example.com/i.png"
    assert body["text"] == "🔴 Golden cross"
    [attachment] = body["attachments"]
    assert attachment["color"] == "#dc3545"
    assert attachment["text"].startswith("├ ") and attachment["text"].endswith("└ id: 17")
    assert receiver.received[0].headers["content-type"] == "application/json"


async def test_a_200_that_carries_a_failure_is_none(receiver: Receiver, poster: Poster) -> None:
    refused = {"header": {"isSuccessful": False, "resultCode": -400, "resultMessage": TOKEN}}
    receiver.answers = [(200, {}, json.dumps(refused).encode())]
    receipt = await dooray(receiver, poster).send(PARCEL)
    assert receipt.outcome == "retry" and "resultCode -400" in receipt.text and TOKEN not in receipt.text


@pytest.mark.parametrize("body", [b"", b"ok", b"{}", b"[1]", b'{"header": 3}'])
async def test_without_an_envelope_the_status_counts(receiver: Receiver, poster: Poster, body: bytes) -> None:
    receiver.answers = [(200, {}, body)]
    assert (await dooray(receiver, poster).send(PARCEL)).outcome == "ok"


async def test_dooray_texts_are_cut_and_an_empty_allowance_pauses(receiver: Receiver, poster: Poster) -> None:
    receiver.answers = [(200, {"X-RateLimit-Remaining": "0"}, b"")]
    long = alert(name="가" * 5000, values={f"formula {n}": n / 3 for n in range(500)})
    receipt = await dooray(receiver, poster).send(Parcel(alerts=(long,), test=True))
    assert receipt.pause_s == 1.0
    body = json.loads(receiver.received[0].body)
    assert body["botName"].startswith("[TEST] ")
    assert len(body["text"]) <= 3000 and len(body["attachments"][0]["text"]) <= 2000
    assert body["attachments"][0]["text"].endswith("└ id: 17")


@pytest.mark.parametrize("host", ["hook.dooray.com", "hook.gov-dooray.co.kr"])
def test_dooray_hosts_are_taken(poster: Poster, host: str) -> None:
    DoorayChannel("room", url=Secret(f"https://{host}/services/1/2/x"), poster=poster, clock=FixedClock())


@pytest.mark.parametrize("host", ["example.com", "evildooray.com", "hook.dooray.com.example.com"])
def test_other_hosts_are_refused(poster: Poster, host: str) -> None:
    with pytest.raises(UsageError, match="not a Dooray"):
        DoorayChannel("room", url=Secret(f"https://{host}/services/1/2/x"), poster=poster, clock=FixedClock())


# ---------------------------------------------------------------- this machine


async def test_the_inbox_cannot_fail() -> None:
    assert (await InboxChannel().send(PARCEL)).outcome == "ok"


async def test_the_window_shows_notifications_while_there_is_one() -> None:
    shown: list[Message] = []
    channel = DesktopChannel(environment={})
    assert (await channel.send(PARCEL)).outcome == "absent"

    def show(message: Message, parcel: Parcel) -> bool:
        shown.append(message)
        return True

    channel.show = show
    assert (await channel.send(PARCEL)).outcome == "ok"
    assert shown[0].title == "🔴 Golden cross"
    channel.show = lambda message, parcel: False
    assert (await channel.send(PARCEL)).outcome == "retry"


@pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="dbus-daemon is not installed")
async def test_without_a_window_the_sessions_notification_service_is_asked(tmp_path: Path) -> None:
    from jeepney import HeaderFields, MessageType, new_method_return
    from jeepney.bus_messages import message_bus
    from jeepney.io.asyncio import open_dbus_connection

    config = tmp_path / "bus.conf"
    config.write_text(
        f"<busconfig><type>session</type><listen>unix:path={tmp_path}/bus</listen><auth>EXTERNAL</auth>"
        '<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>'
        '<allow own="*"/></policy></busconfig>'
    )
    bus = await asyncio.create_subprocess_exec(
        "dbus-daemon", f"--config-file={config}", "--nofork", "--print-address=1", stdout=subprocess.PIPE
    )
    assert bus.stdout is not None
    try:
        address = (await bus.stdout.readline()).decode().strip()
        channel = DesktopChannel(environment={"DBUS_SESSION_BUS_ADDRESS": address})
        nobody = await channel.send(PARCEL)
        assert nobody.outcome == "absent" and "no desktop" in nobody.text

        connection = await open_dbus_connection(address)
        await connection.send(message_bus.RequestName("org.freedesktop.Notifications"))
        calls: list[Any] = []

        async def daemon() -> None:
            while True:
                message = await connection.receive()
                if message.header.message_type is MessageType.method_call:
                    assert message.header.fields[HeaderFields.member] == "Notify"
                    calls.append(message.body)
                    await connection.send(new_method_return(message, "u", (42,)))
                    return

        async with asyncio.TaskGroup() as group:
            group.create_task(daemon())
            receipt = await channel.send(Parcel(alerts=(alert(name="a <b> & c"),)))
        await connection.close()
        assert receipt.outcome == "ok" and "42" in receipt.text
        assert calls[0][3] == "🔴 a <b> & c" and calls[0][6] == {"urgency": ("y", 2)}
        assert "├ what: Golden cross holds." in calls[0][4]
    finally:
        bus.terminate()
        await bus.communicate()


def test_a_runtime_directory_stands_in_for_the_bus_variable(tmp_path: Path) -> None:
    (tmp_path / "bus").touch()
    receipt = asyncio.run(DesktopChannel(environment={"XDG_RUNTIME_DIR": os.fspath(tmp_path)}).send(PARCEL))
    assert receipt.outcome == "absent"  # nobody listens there


# ---------------------------------------------------------------- rows


def test_channels_come_from_rows_that_hold_no_secret(poster: Poster) -> None:
    secrets = {"url": Secret("https://hook.dooray.com/services/1/2/x"), "key": KEY}
    rows = [
        *BUILT_IN,
        ChannelConfig(name="room", type="dooray", secrets={"url": "room.url"}, options={"bot_name": "Desk"}),
        ChannelConfig(name="hook", type="webhook", secrets={"url": "hook.url", "key": "hook.key"}),
    ]
    made = [make_channel(row, secrets, poster, FixedClock()) for row in rows]
    assert [channel.name for channel in made] == ["inbox", "desktop", "room", "hook"]
    assert [channel.always for channel in made] == [True, False, False, False]
    with pytest.raises(UsageError) as caught:
        make_channel(rows[-1], {"url": secrets["url"]}, poster, FixedClock())
    assert caught.value.code == "secret_missing" and "hook" in str(caught.value.text)


async def test_a_channel_that_is_not_ready_lets_alerts_wait_and_says_why() -> None:
    receipt = await UnreadyChannel("room", Text("The vault is locked.")).send(PARCEL)
    assert (receipt.outcome, receipt.text) == ("retry", "The vault is locked.")


async def test_the_folding_time_and_the_windows_way_of_showing_can_be_given(poster: Poster) -> None:
    shown: list[Message] = []

    def show(message: Message, parcel: Parcel) -> bool:
        shown.append(message)
        return True

    inbox, desktop = (
        make_channel(row, {}, poster, FixedClock(), "Asia/Seoul", fold_s=5, show=show) for row in BUILT_IN
    )
    assert (inbox.fold_s, desktop.fold_s) == (0, 5)
    assert (await desktop.send(PARCEL)).outcome == "ok" and "KST" in shown[0].tree
