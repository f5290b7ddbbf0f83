"""Every fault can be asked for, seen by a client, and cleared; the truth stays what it was."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from tests import virtual_time
from tests.sim.conftest import HandClock, Rest, dial, read, silent, subscribe
from watchhamster.core.ports import UsageError
from watchhamster.sim import FAULTS, Simulator
from watchhamster.sim.exchange import Exchange
from watchhamster.sim.face import Session
from watchhamster.sim.faults import Faults, parse
from watchhamster.sim.world import MS

TRADE = {"type": "trade", "codes": ["KRW-BTC"]}


# ---------------------------------------------------------------- the spec


def test_a_spec_is_read_part_by_part() -> None:
    faults = parse("drop@5s, mute@10s+8s,http429:0.3,delist:KRW-MED@1m,late@500ms")
    assert [(f.name, f.value, f.start_s, f.duration_s) for f in faults] == [
        ("drop", "1006", 5.0, None),
        ("mute", "", 10.0, 8.0),
        ("http429", "0.3", 0.0, None),
        ("delist", "KRW-MED", 60.0, None),
        ("late", "4", 0.5, None),
    ]


@pytest.mark.parametrize(
    ("spec", "named", "hint"),
    [
        ("drop@5s,muet@1s", "'muet@1s'", "mute"),
        ("http429:2", "http429:2", "share"),
        ("garbage:lots", "garbage:lots", "unreadable"),
        ("mute:1", "mute:1", "no data"),
        ("delist", "delist", "symbol"),
        ("hang:door", "hang:door", "never answer"),
        ("mute@soon", "mute@soon", "no data"),
        ("mute@1s+x", "mute@1s+x", "no data"),
        ("hang:rest+7s", "hang:rest+7s", "never answer"),
        ("!!", "!!", "name[:value]"),
        ("nasdaq.drop@5s", "'nasdaq.drop@5s'", "[venue.]name"),
    ],
)
def test_a_wrong_spec_names_the_part_and_what_would_be_right(spec: str, named: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(spec)
    assert refused.value.code == "bad_fault"
    assert named in str(refused.value.text) and hint in str(refused.value.hint)


@given(st.text(max_size=40))
def test_any_text_is_a_schedule_or_a_usage_error(text: str) -> None:
    try:
        parse(text)
    except UsageError as refused:
        assert refused.code == "bad_fault"


def test_faults_hold_from_start_for_their_duration() -> None:
    now = 0.0
    faults = Faults(lambda: now, 1)
    faults.set("mute@10s+8s,drop@5s,drop:1011@20s+2s")
    seen = []
    for second in range(25):
        now = float(second)
        seen.append((faults.holds("mute"), [fault.value for fault in faults.due()]))
    assert [second for second, (mute, _due) in enumerate(seen) if mute] == list(range(10, 18))
    assert {second: due for second, (_mute, due) in enumerate(seen) if due} == {5: ["1006"], 20: ["1011"], 21: ["1011"]}
    faults.clear()
    assert not faults.any and not faults.holds("mute")


def test_a_fault_may_be_one_venues_alone() -> None:
    now = 0.0
    faults = Faults(lambda: now, 1)
    upbit, yahoo = faults.of("upbit"), faults.of("yahoo")
    faults.set("yahoo.mute@1s,drop@2s,upbit.drop@3s")
    due = []
    for second in range(5):
        now = float(second)
        due += [(second, venue.due()) for venue in (upbit, yahoo)]
    assert (upbit.holds("mute"), yahoo.holds("mute"), faults.holds("mute")) == (False, True, True)
    assert [second for second, found in due[0::2] for _ in found] == [2, 3]
    assert [second for second, found in due[1::2] for _ in found] == [2]


async def test_faults_are_listed_set_and_cleared_while_it_runs(rest: Rest, clock: HandClock) -> None:
    answer = await rest.control("PUT", "/sim/faults", content="http5xx:1,slow:2@30s")
    assert [(f["name"], f["active"]) for f in answer.json()["faults"]] == [("http5xx", True), ("slow", False)]
    assert (await rest("/v1/market/all")).status_code >= 500
    wrong = await rest.control("PUT", "/sim/faults", content="http5x")
    assert wrong.status_code == 400 and wrong.json()["error"]["hint"] == "Did you mean http5xx?"
    assert (await rest("/v1/market/all")).status_code >= 500  # the schedule in force is untouched
    assert (await rest.control("DELETE", "/sim/faults")).json() == {"faults": []}
    assert (await rest("/v1/market/all")).status_code == 200


# ---------------------------------------------------------------- REST


async def test_calls_are_refused_failed_or_answered_with_something_else(rest: Rest) -> None:
    async def under(spec: str) -> httpx.Response:
        await rest.control("PUT", "/sim/faults", content=spec)
        return await rest("/v1/market/all")

    assert ((await under("http429")).status_code, (await under("http418")).status_code) == (429, 418)
    assert "10 seconds" in (await under("http418")).json()["error"]["message"]
    assert (await under("http5xx")).status_code in (500, 502, 503)
    page = await under("html")
    assert page.status_code == 200 and page.text.startswith("<!DOCTYPE html>")
    assert "error" in (await under("error200")).json()
    with pytest.raises(httpx.RemoteProtocolError):
        await under("truncate")
    closed = await under("maintenance")
    assert closed.status_code == 500 and "remaining-req" not in closed.headers
    with pytest.raises(httpx.TransportError):
        await under("down")
    assert (await rest.control("DELETE", "/sim/faults")).status_code == 200  # control is always there
    assert (await rest("/v1/market/all")).status_code == 200


async def test_a_share_of_calls_means_a_share(rest: Rest, clock: HandClock) -> None:
    await rest.control("PUT", "/sim/faults", content="http429:0.3")
    refused = 0
    for _ in range(60):
        clock.advance(1.0)
        refused += (await rest("/v1/market/all")).status_code == 429
    assert 5 < refused < 35


async def test_slow_and_hanging_answers(rest: Rest, clock: HandClock) -> None:
    for spec, seconds in (("slow:5", 5.1), ("hang:rest@0s+7s", 7.2)):
        await rest.control("PUT", "/sim/faults", content=spec)
        asked = asyncio.ensure_future(rest("/v1/market/all"))  # noqa: TID251
        await asyncio.sleep(0.05)
        assert not asked.done()
        clock.advance(seconds)
        assert (await asyncio.wait_for(asked, 60)).status_code == 200


# ---------------------------------------------------------------- streams


async def ended(stream: ClientConnection) -> ConnectionClosed:
    """How a stream ended."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            await asyncio.wait_for(stream.recv(), 60)
    return closed.value


@pytest.mark.parametrize(("spec", "code"), [("drop", None), ("reset", None), ("drop:1011", 1011), ("drop:1001", 1001)])
async def test_streams_are_dropped_with_and_without_a_close_frame(
    rest: Rest, sim: Simulator, spec: str, code: int | None
) -> None:
    async with dial(sim) as stream:
        await subscribe(stream, TRADE)
        await read(stream)
        await rest.control("PUT", "/sim/faults", content=spec)
        closed = await ended(stream)
        assert (closed.rcvd and closed.rcvd.code) == code
    async with dial(sim) as stream:  # once is once
        await subscribe(stream, TRADE)
        await read(stream)


async def test_mute_streams_answer_pings_and_stalled_ones_do_not(rest: Rest, sim: Simulator, clock: HandClock) -> None:
    async with dial(sim) as stream:
        await subscribe(stream, TRADE)
        await read(stream)
        await rest.control("PUT", "/sim/faults", content="mute")
        clock.advance(30.0)
        assert await silent(stream)
        await asyncio.wait_for(await stream.ping(), 60)
        await rest.control("PUT", "/sim/faults", content="stall")
        pong = asyncio.ensure_future(await stream.ping())  # noqa: TID251
        assert await silent(stream) and not pong.done()
        await rest.control("DELETE", "/sim/faults")
        for _ in range(3):
            clock.advance(0.1)
            await asyncio.sleep(0.02)
        await asyncio.wait_for(pong, 60)
        clock.advance(30.0)
        first = (await read(stream))[0]
        assert first["trade_timestamp"] > (sim.now_ns() - 31 * 10**9) // MS  # what was due meanwhile is lost


async def test_handshakes_are_refused_or_hang(rest: Rest, sim: Simulator, clock: HandClock) -> None:
    for spec, status in (("refuse", 503), ("refuse:403", 403), ("maintenance", 503)):
        await rest.control("PUT", "/sim/faults", content=spec)
        with pytest.raises(InvalidStatus) as refused:
            async with dial(sim):
                pass
        assert refused.value.response.status_code == status
    await rest.control("PUT", "/sim/faults", content="hang")
    with pytest.raises(TimeoutError):
        async with dial(sim, open_timeout=0.2):
            pass
    assert (await rest("/v1/market/all")).status_code == 200  # only streams hang


async def test_maintenance_ends_streams_that_were_open(rest: Rest, sim: Simulator) -> None:
    async with dial(sim) as stream:
        await subscribe(stream, TRADE)
        await read(stream)
        await rest.control("PUT", "/sim/faults", content="maintenance")
        assert isinstance(await ended(stream), ConnectionClosedError)


async def test_a_subscription_may_be_answered_with_an_error(rest: Rest, sim: Simulator, clock: HandClock) -> None:
    await rest.control("PUT", "/sim/faults", content="subscribe_error:TOO_MANY_REQUEST")
    async with dial(sim) as stream:
        await subscribe(stream, TRADE)
        assert (await read(stream))[0]["error"]["name"] == "TOO_MANY_REQUEST"
        clock.advance(1.0)
        closed = await ended(stream)
        assert closed.rcvd is not None and closed.rcvd.code == 1000


async def test_a_delisted_symbol_says_so_once_and_is_silent(rest: Rest, sim: Simulator, clock: HandClock) -> None:
    async with dial(sim) as stream:
        await subscribe(stream, {"type": "ticker", "codes": ["KRW-BTC", "KRW-ETH"]})
        await read(stream, 2)
        await rest.control("PUT", "/sim/faults", content="delist:KRW-BTC")
        last = (await read(stream))[0]
        assert (last["code"], last["market_state"], last["delisting_date"]) == ("KRW-BTC", "DELISTED", "2026-11-21")
        clock.advance(30.0)
        assert (await read(stream))[0]["code"] == "KRW-ETH"
        assert (await rest("/v1/ticker", markets="KRW-ETH,KRW-BTC")).status_code == 404
        assert "KRW-BTC" not in {row["market"] for row in await rest.rows("/v1/market/all")}
        await rest.control("DELETE", "/sim/faults")
        assert (await rest("/v1/ticker", markets="KRW-BTC")).status_code == 200


async def test_one_huge_frame(rest: Rest, sim: Simulator) -> None:
    async with dial(sim, max_size=2**20) as stream:
        await subscribe(stream, TRADE)
        await read(stream)
        await rest.control("PUT", "/sim/faults", content="big")
        closed = await ended(stream)
        assert closed.sent is not None and closed.sent.code == 1009  # the client's limit, not ours


async def test_a_trickle_takes_its_time(rest: Rest, sim: Simulator, clock: HandClock) -> None:
    async with dial(sim) as stream:
        await rest.control("PUT", "/sim/faults", content="trickle:100")
        await subscribe(stream, TRADE)
        assert await silent(stream)
        for _ in range(3):
            clock.advance(2.0)
            await asyncio.sleep(0.12)
        assert (await read(stream))[0]["type"] == "trade"


async def test_text_frames_and_another_idle_time(rest: Rest, sim: Simulator, clock: HandClock) -> None:
    await rest.control("PUT", "/sim/faults", content="text,idle:120")
    async with dial(sim) as stream:
        await subscribe(stream, {**TRADE, "is_only_snapshot": True})
        assert isinstance(await stream.recv(), str)
        clock.advance(100.0)
        await asyncio.sleep(0.2)
        await asyncio.wait_for(await stream.ping(), 60)  # still there
        clock.advance(121.0)
        assert isinstance(await ended(stream), ConnectionClosedError)


async def test_a_flood_repeats_real_frames(rest: Rest, sim: Simulator, clock: HandClock) -> None:
    async with dial(sim) as stream:
        await subscribe(stream, TRADE)
        await rest.control("PUT", "/sim/faults", content="flood:500")
        await read(stream)
        clock.advance(3.0)
        frames = await read(stream, 600)
        assert len({frame["sequential_id"] for frame in frames}) < 50


# ---------------------------------------------------------------- without sockets, in virtual time


class Tape:
    """An outlet that keeps what it is given."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.end: str | None = None

    def frame(self, data: bytes, *, text: bool) -> None:
        self.frames.append(data)

    def close(self, code: int) -> None:
        self.end = str(code)

    def cut(self, *, reset: bool = False) -> None:
        self.end = "reset" if reset else "cut"

    def tick(self) -> None:
        pass


class Run:
    """What a stream of trades and books brought in so many virtual seconds under faults."""

    def __init__(self, spec: str, seconds: float = 120.0, symbols: tuple[str, ...] = ("KRW-BTC", "KRW-ETH")) -> None:
        self.tape = Tape()
        virtual_time.run(lambda clock: self._go(clock, spec, seconds, symbols))
        self.good: list[Any] = []
        self.bad: list[bytes] = []
        for frame in self.tape.frames:
            try:
                read = json.loads(frame)
                assert read["stream_type"] and read["trade_timestamp"] > 10**12 and 0 < read["trade_price"] < 1e12
                self.good.append(read)
            except (ValueError, AssertionError, KeyError, TypeError):
                self.bad.append(frame)
        self.ids = [(frame["code"], frame["sequential_id"]) for frame in self.good]

    async def _go(self, clock: virtual_time.VirtualClock, spec: str, seconds: float, symbols: tuple[str, ...]) -> None:
        exchange = Exchange(clock, seed=3)
        session: Session = exchange.join(self.tape)
        message = json.dumps([{"ticket": "x"}, {"type": "trade", "codes": symbols, "is_only_realtime": True}])
        await exchange.hear(session, message)
        exchange.faults.set(spec)
        since_ns = exchange.now_ns()
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(exchange.run())
            await clock.sleep(seconds)
            pump.cancel()
        told = [exchange.true_trades(symbol, since_ns + 1, exchange.now_ns()) for symbol in symbols]
        self.truth = {(trade.instrument.partition(":")[2], trade.id) for trades in told for trade in trades}


def test_without_faults_every_trade_is_told_once_in_virtual_time() -> None:
    run = Run("", seconds=240.0)
    assert set(run.ids) == run.truth and len(run.ids) == len(run.truth) > 150
    assert not run.bad
    assert Run("", seconds=240.0).tape.frames == run.tape.frames  # byte for byte


@pytest.mark.parametrize("name", ["garbage", "absurd", "unknown"])
def test_frames_are_added_without_losing_any(name: str) -> None:
    run = Run(f"{name}:0.3")
    assert set(run.ids) == run.truth
    assert 0.1 * len(run.truth) < len(run.bad) < 0.6 * len(run.truth)


def test_frames_are_spoilt_or_lost() -> None:
    spoilt, lost = Run("corrupt:0.3"), Run("lose:0.3")
    assert len(spoilt.good) + len(spoilt.bad) == len(spoilt.truth) and len(spoilt.bad) > 10
    assert not lost.bad and 0.5 < len(lost.ids) / len(lost.truth) < 0.9


def test_frames_are_repeated_or_out_of_order() -> None:
    twice = Run("duplicate:0.3")
    assert set(twice.ids) == twice.truth and len(twice.ids) > 1.1 * len(twice.truth)
    mixed = Run("reorder:0.3", symbols=("KRW-BTC",))
    times = [frame["trade_timestamp"] for frame in mixed.good]
    assert times != sorted(times)


def test_trades_come_late_but_all_come() -> None:
    run = Run("late:4@0s+100s")
    delays = [frame["timestamp"] - frame["trade_timestamp"] for frame in run.good]
    assert set(run.ids) == run.truth and len(run.ids) == len(run.truth)
    assert 1000 < max(delays) <= 4200 and sum(delay < 200 for delay in delays) > len(delays) / 2


def test_a_drop_and_a_silence_come_when_they_are_due() -> None:
    assert Run("drop:1011@30s", seconds=29.0).tape.end is None
    assert Run("drop:1011@30s", seconds=31.0).tape.end == "1011"
    times = [frame["trade_timestamp"] / 1000 for frame in Run("mute@20s+40s").good]
    start = virtual_time.START_NS / 1e9
    assert not [at for at in times if 20.2 < at - start < 59.8] and max(times) - start > 61


def test_after_a_sleep_of_the_machine_streams_are_gone() -> None:
    tape = Tape()

    async def main(clock: virtual_time.VirtualClock) -> None:
        exchange = Exchange(clock)
        exchange.join(tape)
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(exchange.run())
            await clock.sleep(10)
            assert tape.end is None
            clock.advance(8 * 3600)
            await clock.sleep(1)
            pump.cancel()

    virtual_time.run(main)
    assert tape.end == "cut"


def test_every_fault_is_documented_and_accepted() -> None:
    for name, kind in FAULTS.items():
        value = {"delist": ":KRW-MED", "halt": ":AAPL"}.get(name, "")
        assert parse(f"{name}{value}@1s+2s")[0].name == name
        assert len(kind.meaning) > 10
