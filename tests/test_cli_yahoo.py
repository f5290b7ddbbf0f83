"""Yahoo on the command line: on what was recorded, and live beside Upbit on the built-in exchange."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.test_cli import Shell
from watchhamster.core.actions import Action, adjustment

pytest.importorskip("holidays")


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
