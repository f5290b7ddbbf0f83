"""Yahoo on the command line: on what was recorded, and live beside Upbit on the built-in exchange."""

from __future__ import annotations

import asyncio
import base64
import csv
import gc
import io
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.test_cli import Shell
from tests.test_cli_yahoo_faults import exchange as exchange_with
from tests.test_program import PATIENCE_S, Program, branch
from tests.virtual_time import LeapingClock
from watchhamster import commands
from watchhamster.app import Options, build_engine
from watchhamster.core.actions import Action, adjustment
from watchhamster.core.market import Candle, Event
from watchhamster.core.ports import Clock, UsageError
from watchhamster.core.timeframes import SECOND_NS, timeframe
from watchhamster.engine.clock import SystemClock
from watchhamster.engine.engine import Engine
from watchhamster.engine.owner import Owner
from watchhamster.monitor.alerts import Alert, Rule
from watchhamster.monitor.status import to_record
from watchhamster.services import Services
from watchhamster.settings import Home
from watchhamster.sim import Simulator

pytest.importorskip("holidays")


# A connection that is given up in the very turn in which it is made is left to the garbage collector by anyio.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(300),
]


@pytest.fixture(autouse=True)
def collect() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    for venue in ("UPBIT", "YAHOO"):
        monkeypatch.setenv(f"WATCHHAMSTER_{venue}_URL", "http://127.0.0.1:9")  # nobody listens: nothing may be asked
    monkeypatch.setenv("WATCHHAMSTER_LANGUAGE", "en")
    yield Shell(tmp_path / "home", capsys)


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_replay_prints_the_ticker_each_frame_says(shell: Shell, shared_data: Path) -> None:
    """A price is the float behind `0a 04 AAPL 15`."""
    path = shared_data / "yahoo" / "ws-pricing-frames.json"
    code, events, _ = shell("replay", path, "--venue", "yahoo")
    assert code == 0
    assert len(events) == len(json.loads(path.read_text()))
    assert {event["kind"] for event in events} == {"ticker"}
    assert {event["instrument"] for event in events} == {"yahoo:AAPL"}
    messages = [base64.b64decode(frame["message"]) for frame in json.loads(path.read_text())]
    assert [np.float32(event["price"]) for event in events] == [np.frombuffer(m, "<f4", 1, 7)[0] for m in messages]
    assert [event["event_ns"] // 10**9 for event in events] == [1785937395, 1589820933, 1709757487, 1779437422]
    assert [event["volume_24h"] for event in events] == [5422202.0, 17557274.0, 53985930.0, None]
    assert [event["state"] for event in events] == ["REGULAR", "REGULAR", "REGULAR", "PRE"]


def varint(number: int) -> bytes:
    low, high = number & 0x7F, number >> 7
    return bytes([low]) if not high else bytes([low | 0x80]) + varint(high)


def message(**fields: Any) -> bytes:
    """A `PricingData` by field numbers: text, float32 (`f`), float64 (`d`), zigzag (`z`) or plain (`n`)."""
    found = b""
    for name, value in fields.items():
        kind, number = name[0], int(name[1:])
        match kind:
            case "t":
                found += varint(number << 3 | 2) + varint(len(value.encode())) + value.encode()
            case "f":
                found += varint(number << 3 | 5) + np.float32(value).tobytes()
            case "d":
                found += varint(number << 3 | 1) + np.float64(value).tobytes()
            case "z":
                found += varint(number << 3) + varint(value << 1 if value >= 0 else (-value << 1) - 1)
            case _:
                found += varint(number << 3) + varint(value)
    return found


AT_MS = 1_787_924_304_000  # 2026-08-28, New York trades
EVERYTHING = {
    "t1": "NVDA",
    "f2": 317.13,
    "z3": AT_MS,
    "t4": "USD",
    "t5": "NMS",
    "n6": 8,
    "n7": 1,
    "f8": -0.81061,
    "z9": 2552171,
    "f10": 321.5,
    "f11": 311.25,
    "f12": -2.55002,
    "t13": "NVIDIA",
    "z14": 5,
    "f15": 320.1,
    "f16": 319.68,
    "f17": 225.0,
    "t18": "NVDA",
    "z19": 12,
    "n20": 1,
    "z21": 0,
    "z22": 50,
    "f23": 317.12,
    "z24": 3,
    "f25": 317.14,
    "z26": 2,
    "z27": 2,
    "z28": 0,
    "z29": 0,
    "t30": "",
    "t31": "",
    "d32": 1e10,
    "d33": 1e12,
}


def test_frames_of_every_shape_are_replayed(shell: Shell, tmp_path: Path) -> None:
    """All documented fields, changes down, hours before and after, fields of a later version, and what is broken."""
    pre = {"t1": "TSLA", "f2": 250.25, "z3": AT_MS, "t5": "NMS", "n6": 8, "f8": -1.5, "z9": -1, "f12": -3.8109}
    post = {"t1": "GME", "f2": 24.17, "z3": AT_MS, "n7": 2, "f8": 0.333, "z9": 77, "f12": 0.08}
    night = {"t1": "CALM", "f2": 84.0, "z3": AT_MS, "n7": 9}
    later = {**pre, "t1": "MSFT", "t99": "new", "z1000": -5, "d77": 1.5, "f88": 2.5}
    won = {"t1": "005930.KS", "f2": 71500, "z3": AT_MS, "t5": "KSC", "n7": 1, "f12": -1000, "f8": -1.3793104, "z9": 9}
    frames: list[Any] = [
        {"type": "pricing", "message": base64.b64encode(message(**fields)).decode()}
        for fields in (EVERYTHING, pre, post, night, later, won)
    ]
    frames[2] = frames[2]["message"]  # as the first version of the stream has it
    frames += [{"type": "heartbeat"}, {"type": "pricing", "message": base64.b64encode(message(t1="A")[:2]).decode()}]
    path = tmp_path / "frames.json"
    path.write_text(json.dumps(frames))
    code, events, error = shell("replay", path, "--venue", "yahoo")
    assert (code, error["code"]) == (1, "unreadable_lines") and events[-1]["kind"] == "bad_frame"
    names = ("price", "change", "change_rate", "state", "volume_24h", "open", "high", "low", "previous_close")
    found = {event["instrument"]: tuple(event[name] for name in names) for event in events[:-1]}
    rest = (None,) * 4
    assert found == {
        "yahoo:NVDA": (317.13, -2.55002, -0.0081061, "REGULAR", 2552171.0, 320.1, 321.5, 311.25, 319.68),
        "yahoo:TSLA": (250.25, -3.8109, -0.015, "PRE", None, *rest),
        "yahoo:GME": (24.17, 0.08, 0.00333, "POST", 77.0, *rest),
        "yahoo:CALM": (84.0, 0.0, 0.0, "EXTENDED", None, *rest),
        "yahoo:MSFT": (250.25, -3.8109, -0.015, "PRE", None, *rest),
        "yahoo:005930.KS": (71500.0, -1000.0, -0.013793104, "REGULAR", 9.0, *rest),
    }
    assert {event["event_ns"] for event in events[:-1]} == {AT_MS * 10**6}


async def test_a_recording_without_times_lives_in_the_time_it_speaks_of(tmp_path: Path) -> None:
    """Its market is open, whatever the clock on the wall says, and its prices have the venue's own steps."""
    frames = []
    for symbol, exchange, price in (("NVDA", "NMS", 317.13), ("BTC-USD", "CCC", 94745.08)):
        fields = {"t1": symbol, "f2": price, "z3": AT_MS, "t5": exchange, "n6": 8, "n7": 1, "f12": 1.0, "z9": 5}
        frames.append(base64.b64encode(message(**fields)).decode())
    path = tmp_path / "frames.json"
    path.write_text(json.dumps(frames))
    options = Options(Home(tmp_path / "home"), replay=path, replay_venue="yahoo", speed=float("inf"))
    engine = await build_engine(options, Owner.claim(options.home.prepare()))
    await engine.start()
    try:
        async with asyncio.timeout(60):
            await engine.replayed()
        info = engine.info("yahoo:NVDA")
        assert info is not None and info.quote == "USD" and info.steps.decimals(317.13) == 2
        assert engine.board.price("yahoo:NVDA") == 317.13
        feeds = next(child for child in to_record(engine.status())["children"] if child["name"] == "feeds")
        (line,) = [c for c in feeds["children"][0]["children"] if c["name"] == "NVDA"]
        assert line["detail"] is None and line["age_s"] < 60
    finally:
        await engine.stop()


def test_a_frame_that_is_none_is_named(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "frames.json"
    path.write_text(
        json.dumps([{"type": "pricing", "message": "CgRBQVBM!"}, {"type": "pricing", "message": "CgRBQVBM"}])
    )
    code, _, error = shell("replay", path, "--venue", "yahoo")
    assert (code, error["code"]) == (2, "nothing_readable")


def test_a_recorded_chart_comes_back(shell: Shell, shared_data: Path, tmp_path: Path) -> None:
    """With a dividend and a split put in, for that day had none."""
    body = json.loads((shared_data / "yahoo" / "rest-chart-AAPL-1d.json").read_text())
    at = body["chart"]["result"][0]["timestamp"][0]
    split = {"date": at, "numerator": 4.0, "denominator": 1.0, "splitRatio": "4:1"}
    events = {"dividends": {str(at): {"amount": 0.25, "date": at}}, "splits": {str(at): split}}
    body["chart"]["result"][0]["events"] = events
    path = tmp_path / "chart.json"
    path.write_text(json.dumps(body))
    code, (line,), _ = shell("data", "import", path, "--venue", "yahoo")
    result = json.loads(path.read_text())["chart"]["result"][0]
    (quote,), (adjusted,) = result["indicators"]["quote"], result["indicators"]["adjclose"]
    assert code == 0
    assert line["new"] == len(result["timestamp"]) and line["rejected"] == 0
    assert shell("data", "import", path, "--venue", "yahoo")[1][0]["same"] == line["new"]
    _, out, _ = shell.text("data", "export", "yahoo:AAPL", "--timeframe", "1d", "--events")
    rows = table(out)
    for name in ("open", "high", "low", "close", "volume"):
        assert [float(row[name]) for row in rows] == quote[name]
    assert [float(row["adj close"]) for row in rows] == adjusted["adjclose"]
    assert [(row["dividends"], row["stock splits"], row["capital gains"]) for row in rows] == [("0.25", "4.0", "")]


@pytest.mark.parametrize("symbol", ["EWG", "CALM"])
def test_a_daily_file_comes_back_with_what_was_paid(shell: Shell, shared_data: Path, symbol: str) -> None:
    path = shared_data / "yahoo" / f"{symbol}-1d.csv"
    code, (line,), _ = shell("data", "import", path, "--venue", "yahoo", "--instrument", f"yahoo:{symbol}")
    given = table(path.read_text())
    assert (code, line["new"], line["rejected"]) == (0, len(given), 0)
    _, out, _ = shell.text("data", "export", f"yahoo:{symbol}", "--timeframe", "1d", "--events")
    rows = table(out)
    for name in ("Open", "High", "Low", "Close", "Adj Close", "Volume", "Dividends", "Stock Splits", "Capital Gains"):
        if name in given[0]:
            assert [float(row[name.lower()]) for row in rows] == [float(row[name]) for row in given], name
    opens = np.arange(len(rows), dtype=np.int64)
    close = np.array([float(row["close"]) for row in rows])
    paid = [
        Action("x", at, "dividend", float(row["dividends"])) for at, row in enumerate(rows) if float(row["dividends"])
    ]
    recorded = np.array([float(row["adj close"]) for row in rows])
    ours = close * adjustment(opens, close, paid, recorded[-1] / close[-1])
    np.testing.assert_allclose(ours, recorded, rtol=5e-7)


def test_a_chart_and_a_file_have_one_row_a_day(shell: Shell, shared_data: Path, tmp_path: Path) -> None:
    """The chart stamps a day with its session's open, the file with midnight, either side of summer time."""
    chart = shared_data / "yahoo" / "rest-chart-AAPL-1d.json"
    body = json.loads(chart.read_text())
    (result,) = body["chart"]["result"]
    (quote,), (adjusted,) = result["indicators"]["quote"], result["indicators"]["adjclose"]
    numbers = [*(quote[name][0] for name in ("open", "high", "low", "close")), adjusted["adjclose"][0]]
    summer = result["timestamp"][0] + 183 * 86_400 - 3600  # 2020-07-03 09:30
    result["timestamp"].append(summer)
    for column in (*quote.values(), adjusted["adjclose"]):
        column.append(column[0])
    path = tmp_path / "chart.json"
    path.write_text(json.dumps(body))
    days = tmp_path / "days.csv"
    days.write_text(
        "Date,Open,High,Low,Close,Adj Close,Volume,Dividends\n"
        + "".join(
            f"{day},{','.join(map(repr, numbers))},{quote['volume'][0]},0.0\n"
            for day in ("2020-01-02 00:00:00-05:00", "2020-07-03 00:00:00-04:00")
        )
    )
    assert shell("data", "import", path, "--venue", "yahoo")[1][0]["new"] == 2
    code, (line,), _ = shell("data", "import", days, "--instrument", "yahoo:AAPL", "--timeframe", "1d")
    assert (code, line["same"], line["new"]) == (0, 2, 0)
    rows = table(shell.text("data", "export", "yahoo:AAPL", "--timeframe", "1d", "--events")[1])
    assert [row["time"] for row in rows] == ["2020-01-02T05:00:00Z", "2020-07-03T04:00:00Z"]
    assert [float(row["adj close"]) for row in rows] == adjusted["adjclose"]


@pytest.mark.parametrize("evaluator", ["array", "stepwise"])
def test_formulas_and_rules_see_adjusted_prices(shell: Shell, shared_data: Path, evaluator: str) -> None:
    path = shared_data / "yahoo" / "EWG-1d.csv"
    shell("data", "import", path, "--venue", "yahoo", "--instrument", "yahoo:EWG")
    given = table(path.read_text())
    words = ("--instrument", "yahoo:EWG", "--timeframe", "1d")
    code, lines, _ = shell("formula", "adjusted(close)", "close", *words, "--evaluator", evaluator)
    assert code == 0
    values = np.array([line["value"] for line in lines])
    np.testing.assert_allclose(values[:, 0], [float(row["Adj Close"]) for row in given], rtol=5e-7)
    assert values[:, 1].tolist() == [float(row["Close"]) for row in given]
    # On its ex-days the price falls by what was paid, which is no fall.
    raw, adjusted = (
        shell("alert", "replay", f"{price} < {price}[1] * 0.99", *words)[1] for price in ("close", "adjusted(close)")
    )
    assert len(raw) > len(adjusted) > 1


def test_a_daily_file_of_a_venue_that_never_closes_must_begin_its_days_at_midnight(
    shell: Shell, shared_data: Path
) -> None:
    path = shared_data / "yahoo" / "EWG-1d.csv"
    code, _, _ = shell("data", "import", path, "--instrument", "upbit:KRW-BTC")
    assert code != 0


def test_json_of_a_page_is_no_candles(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "chart.json"
    path.write_text('{"chart": {"result": null, "error": {"code": "Not Found", "description": "No data found"}}}')
    code, _, error = shell("data", "import", path, "--venue", "yahoo")
    assert (code, error["code"]) == (1, "unknown_instrument")
    path.write_text("<html>Will be right back</html>")
    assert shell("data", "import", path, "--venue", "yahoo", "--format", "yahoo-chart")[0] == 1


# ---------------------------------------------------------------- live, beside Upbit


FRIDAY_NS = 1_795_190_403 * SECOND_NS  # 2026-11-20 16:00:03 UTC: New York trades, Seoul does not
WATCHED = ("yahoo:AAPL", "yahoo:005930.KS", "upbit:KRW-BTC")


@asynccontextmanager
async def watching(home: Home, clock: Clock, simulator: Simulator) -> AsyncIterator[Engine]:
    with pytest.MonkeyPatch.context() as environment:
        for venue, url in simulator.venues.items():
            environment.setenv(f"WATCHHAMSTER_{venue.upper()}_URL", url)
        engine = await build_engine(Options(home, clock=clock, instruments=WATCHED), Owner.claim(home.prepare()))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()
        await asyncio.sleep(0.05)  # for the sockets' last turns of the loop


async def test_both_venues_are_watched_by_one_engine(tmp_path: Path) -> None:
    """Minutes of the open market are provisional, then the venue's, and fire a rule; a closed one is not stale."""
    clock = LeapingClock(FRIDAY_NS, 20.0)
    seen: list[Candle] = []
    alerts: list[Alert] = []

    def note(event: Event | Alert) -> None:
        if isinstance(event, Candle) and event.instrument == "yahoo:AAPL":
            seen.append(event)
        elif isinstance(event, Alert):
            alerts.append(event)

    def unready() -> bool:
        return any(engine.board.price(instrument) is None for instrument in WATCHED)

    home = Home(tmp_path / "home")
    async with Simulator(clock=clock) as simulator, watching(home, clock, simulator) as engine:
        engine.observe(note)
        await engine.save_rule(Rule(name="any", formula="close > 0", instruments=("yahoo:AAPL",), channels=("inbox",)))
        async with asyncio.timeout(90):
            while len({c.open_ns for c in seen if c.closed}) < 2 or not alerts or unready():
                await clock.sleep(1.0)
        tree = to_record(engine.status())
        closed = [candle for candle in seen if candle.closed]
        forming = [candle for candle in seen if not candle.closed]
        assert {candle.origin for candle in forming} == {"live"} and {candle.origin for candle in closed} == {
            "backfill"
        }
        opens = [candle.open_ns for candle in closed]
        assert opens == sorted(set(opens))  # each is told once
        since_ns, until_ns = opens[0], opens[-1] + 60 * SECOND_NS
        async with httpx.AsyncClient() as client:
            params = {
                "instrument": "yahoo:AAPL",
                "timeframe": "1m",
                "since_ns": str(since_ns),
                "until_ns": str(until_ns),
            }
            answer = await client.get(f"{simulator.url}/sim/truth/candles", params=params)
        true = [json.loads(line) for line in answer.text.splitlines()]
        assert opens == [row["open_ns"] for row in true]
        assert [np.float32(candle.close) for candle in closed] == [np.float32(row["close"]) for row in true]
        feeds = next(child for child in tree["children"] if child["name"] == "feeds")
        yahoo = next(child for child in feeds["children"] if child["name"] == "yahoo")
        details = {child["name"]: (child["state"], child["detail"]) for child in yahoo["children"]}
        assert details["AAPL"] == ("ok", None)
        state, detail = details["005930.KS"]
        assert state == "ok" and detail.startswith("closed, opens in 2 d")


async def test_a_halt_is_the_symbols_own_line_and_no_fault_of_the_feed(tmp_path: Path) -> None:
    clock = LeapingClock(FRIDAY_NS, 20.0)
    home = Home(tmp_path / "home")

    def line(engine: Engine, symbol: str) -> tuple[str, str]:
        feeds = next(child for child in to_record(engine.status())["children"] if child["name"] == "feeds")
        yahoo = next(child for child in feeds["children"] if child["name"] == "yahoo")
        found = next(child for child in yahoo["children"] if child["name"] == symbol)
        return found["state"], found["detail"] or ""

    faults = "yahoo.halt:AAPL"
    async with Simulator(clock=clock, faults=faults) as simulator, watching(home, clock, simulator) as engine:
        async with asyncio.timeout(90):
            while not line(engine, "AAPL")[1].startswith("halted since 2026-11-20 1"):
                await clock.sleep(5.0)
        ticker = engine.board.ticker("yahoo:AAPL")
        assert line(engine, "AAPL")[0] == "warning" and ticker is not None and ticker.state == "HALTED"
        simulator.exchange.faults.clear()
        async with asyncio.timeout(90):
            while line(engine, "AAPL") != ("ok", ""):
                await clock.sleep(5.0)
        ticker = engine.board.ticker("yahoo:AAPL")
        assert ticker is not None and ticker.state == "REGULAR"


async def test_the_users_hours_are_taken_by_the_calendars_at_once(tmp_path: Path) -> None:
    services = Services(Home(tmp_path / "home"), SystemClock())
    services.open()
    try:
        venue = services.caller("yahoo").venue
        noon_ns = 1_798_120_800 * SECOND_NS  # 2026-12-24 14:00 UTC, 23:00 in Seoul
        phases = [getattr(venue.session(symbol, noon_ns), "phase", None) for symbol in ("005930.KS", "BTC-USD")]
        assert phases == ["closed", "regular"]
        await services.settings.set("trading_hours", "XKRX 2026-12-24 09:00-23:30; BTC-USD 2026-12-24 closed")
        phases = [getattr(venue.session(symbol, noon_ns), "phase", None) for symbol in ("005930.KS", "BTC-USD")]
        assert phases == ["regular", "closed"]
        with pytest.raises(UsageError) as refused:
            await services.settings.set("trading_hours", "XKRX 2026-12-24 9-23")
        assert "2026-12-24" in str(refused.value)
        await services.settings.reset("trading_hours")
        assert getattr(venue.session("BTC-USD", noon_ns), "phase", None) == "regular"
    finally:
        await services.close()


def test_both_venues_answer_on_the_command_line(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a simulator that has the real time: what is open just now does not matter."""
    monkeypatch.setattr(commands, "ONE_SHOT_S", 90.0)  # how soon is not what is tested
    with exchange_with("") as simulator:
        for venue, url in simulator.venues.items():
            monkeypatch.setenv(f"WATCHHAMSTER_{venue.upper()}_URL", url)
        answers(shell)


def answers(shell: Shell) -> None:
    code, out, err = shell.text("ticker", "yahoo:AAPL", "--json")
    assert code == 0 and json.loads(out)["instrument"] == "yahoo:AAPL"
    assert "personal" in err
    code, _, err = shell.text("ticker", "yahoo:AAPL", "--json")
    assert (code, err) == (0, "")  # the caution is said once
    _, days, _ = shell("candles", "yahoo:AAPL", "--timeframe", "1d", "--count", 3)
    assert [row["kind"] for row in days] == ["candle"] * 3
    _, (stored,), _ = shell("data", "update", "yahoo:AAPL", "--timeframe", "1d")
    assert stored["new"] == stored["candles"] > 200
    _, found, _ = shell("search", "삼성전자")
    assert found[0]["instrument"] == "yahoo:005930.KS"
    both = {row["instrument"] for row in shell("search", "bitcoin")[1]}
    assert {"upbit:KRW-BTC", "yahoo:BTC-USD"} <= both
    assert all(row["instrument"].startswith("yahoo:") for row in shell("trending")[1])
    _, headlines, _ = shell("news", "yahoo:AAPL")
    assert headlines and all(row["url"].startswith("http") and row["published_ns"] > 0 for row in headlines)
    for arguments, refusal in (
        (("ticker", "yahoo:NOSUCH"), "unknown_instrument"),
        (("data", "update", "yahoo:NOSUCH", "--timeframe", "1d"), "unknown_instrument"),
        (("book", "yahoo:AAPL"), "not_offered"),
        (("trades", "yahoo:AAPL", "--follow"), "not_offered"),
        (("candles", "yahoo:AAPL", "--timeframe", "7m", "--follow"), "bad_timeframe"),
        (("news", "upbit:KRW-BTC"), "not_offered"),
    ):
        code, _, error = shell(*arguments)
        assert (code != 0, error["code"]) == (True, refusal), arguments


async def test_both_venues_are_followed_by_processes(tmp_path: Path) -> None:
    """The open week of one that never closes; a tree with a price of each."""
    async with Simulator() as simulator:
        program = Program(tmp_path / "home", simulator.venues["upbit"])
        program.environment["WATCHHAMSTER_YAHOO_URL"] = simulator.venues["yahoo"]
        following = await program.start("candles", "yahoo:BTC-USD", "--timeframe", "1w", "--follow", "--json")
        assert following.stdout is not None
        week: dict[str, Any] = {}
        async with asyncio.timeout(PATIENCE_S):
            while week.get("closed", True):  # the open week, after those that are over
                week = json.loads(await following.stdout.readline())
        following.send_signal(signal.SIGINT)
        await following.communicate()
        assert (week["timeframe"], week["origin"], week["open_ns"]) == (
            "1w",
            "live",
            timeframe("1w").open_ns(week["open_ns"]),
        )
        async with program.running("--instrument", "yahoo:AAPL", "--instrument", "upbit:KRW-BTC") as run:
            tree = await run.until(lambda tree: all(_prices(tree, venue) for venue in ("yahoo", "upbit")))
            assert branch(tree, "feeds", "yahoo")["children"][0]["name"] == "AAPL"


def _prices(tree: dict[str, Any], venue: str) -> list[float]:
    return [child["value"] for child in branch(tree, "feeds", venue)["children"] if child["value"] is not None]
