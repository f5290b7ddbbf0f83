"""The command line on recorded data and bad input: what scripts rely on, line by line of the contracts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from watchhamster import cli

SAMPLE = Path(__file__).parent / "data" / "upbit"


class Shell:
    """One home, and commands run in it in this process."""

    def __init__(self, home: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self._capture = capture

    def __call__(self, *arguments: object) -> tuple[int, list[Any], dict[str, Any]]:
        """Exit code, the JSON lines of stdout, and the error of the last line of stderr."""
        code, out, err = self.text(*arguments, "--json")
        last = err.strip().rsplit("\n", 1)[-1]
        error = json.loads(last)["error"] if code and last.startswith("{") else {}
        return code, [json.loads(line) for line in out.splitlines()], error

    def text(self, *arguments: object) -> tuple[int, str, str]:
        """The same for a person's eyes."""
        self._capture.readouterr()
        code = cli.run(["--home", str(self.home), *map(str, arguments)])
        out, err = self._capture.readouterr()
        return code, out, err


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.setenv("WATCHHAMSTER_UPBIT_URL", "http://127.0.0.1:9/upbit")  # nobody listens: nothing may be asked
    monkeypatch.setenv("WATCHHAMSTER_LANGUAGE", "en")
    yield Shell(tmp_path / "home", capsys)


def frames_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(json.loads(line)["frame"]) for line in path.read_text().splitlines()]


def test_replay_reads_every_recorded_frame(shell: Shell, shared_data: Path) -> None:
    """Each line against the frame it came from, by a reading of its own."""
    path = shared_data / "upbit" / "ws-simple-2021-04-17.jsonl"
    code, events, _ = shell("replay", path, "--venue", "upbit")
    assert code == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(events) == len(lines)
    for event, line in zip(events, lines, strict=True):
        frame = json.loads(line["frame"])
        assert event["instrument"] == "upbit:" + frame["cd"]
        whole, _, fraction = str(line["received"]).partition(".")
        assert event["received_ns"] == int(whole) * 10**9 + int(fraction.ljust(9, "0"))
        if frame["ty"] == "trade":
            assert event == {
                "kind": "trade",
                "instrument": event["instrument"],
                "event_ns": frame["ttms"] * 10**6,
                "received_ns": event["received_ns"],
                "id": frame["sid"],
                "price": frame["tp"],
                "size": frame["tv"],
                "side": {"BID": "buy", "ASK": "sell"}[frame["ab"]],
            }
        else:
            assert event["kind"] == "book"
            assert event["event_ns"] == frame["tms"] * 10**6
            assert event["bids"] == [[u["bp"], u["bs"]] for u in frame["obu"] if u["bp"] and u["bs"]]
            assert event["asks"] == [[u["ap"], u["as"]] for u in frame["obu"] if u["ap"] and u["as"]]


def test_replay_names_lines_it_cannot_read_and_reads_the_others(shell: Shell, tmp_path: Path) -> None:
    good = json.dumps(
        {
            "received": 1618678263.5,
            "frame": '{"ty":"trade","cd":"KRW-LAMB","tms":1618678262712,"ttms":1618678262000,"tp":127.0,"tv":4.5,'
            '"ab":"BID","sid":1618678262000003,"st":"REALTIME"}',
        }
    )
    path = tmp_path / "capture.jsonl"
    path.write_text(f'{good}\nnot json\n{good}\n{{"received": 1, "frame": "{{}}"}}\n{good[:50]}')
    code, events, error = shell("replay", path, "--venue", "upbit")
    assert code == 1
    assert [event["kind"] for event in events] == ["trade", "bad_frame", "trade", "bad_frame", "bad_frame"]
    assert error["code"] == "unreadable_lines"
    assert "3 of 5" in error["message"] and "line 2" in error["message"]


def test_replay_of_a_json_array_has_no_times(shell: Shell, tmp_path: Path) -> None:
    frame = {"type": "trade", "code": "KRW-BTC", "trade_timestamp": 1787728554797, "timestamp": 1787728554853}
    frame |= {"trade_price": 1.16539e8, "trade_volume": 0.5, "ask_bid": "ASK", "sequential_id": 17877285547970000}
    path = tmp_path / "frames.json"
    path.write_text(json.dumps([json.dumps(frame)]))
    code, (event,), _ = shell("replay", path, "--venue", "upbit")
    assert code == 0
    assert event["received_ns"] is None
    assert event["price"] == 116539000.0
    assert event["side"] == "sell"


def test_recorded_rest_answers_come_back_exactly(shell: Shell, shared_data: Path) -> None:
    files = sorted((shared_data / "upbit").glob("rest-candles-*.json"))
    code, lines, _ = shell("data", "import", *files, "--venue", "upbit")
    assert code == 0
    assert [(line["read"], line["new"]) for line in lines] == [(200, 200), (200, 200), (60, 60)]
    code, lines, _ = shell("data", "import", *files, "--venue", "upbit")
    assert [(line["new"], line["same"], line["changed"]) for line in lines] == [(0, 200, 0), (0, 200, 0), (0, 60, 0)]
    for timeframe, unit in (("1m", 1), ("3m", 3)):
        rows = {}
        for file in files:
            for row in json.loads(file.read_text()):
                if row["unit"] == unit:
                    rows[row["candle_date_time_utc"] + "Z"] = [
                        repr(float(row[name]))
                        for name in (
                            "opening_price",
                            "high_price",
                            "low_price",
                            "trade_price",
                            "candle_acc_trade_volume",
                            "candle_acc_trade_price",
                        )
                    ]
        code, out, _ = shell.text("data", "export", "upbit:KRW-BTC", "--timeframe", timeframe)
        assert code == 0
        header, *exported = out.splitlines()
        assert header == "time,open,high,low,close,volume,value"
        assert exported == [",".join((at, *rows[at])) for at in sorted(rows)]
    code, spans, _ = shell("data", "coverage", "upbit:KRW-BTC", "--timeframe", "3m")
    assert [(span["state"], span["count"]) for span in spans] == [("candles", 200), ("not_fetched", 0), ("candles", 60)]
    assert all(a["until_ns"] == b["since_ns"] for a, b in itertools.pairwise(spans))


def test_a_hole_in_a_rest_answer_had_no_trade(shell: Shell, tmp_path: Path) -> None:
    row = {"market": "KRW-BTC", "opening_price": 10.0, "high_price": 12.0, "low_price": 9.0, "trade_price": 11.0}
    row |= {"timestamp": 1582197598691, "candle_acc_trade_price": 22.0, "candle_acc_trade_volume": 2.0, "unit": 1}
    times = ("2020-02-20T11:05:00", "2020-02-20T11:02:00", "2020-02-20T11:01:00")
    path = tmp_path / "answer.json"
    path.write_text(json.dumps([row | {"candle_date_time_utc": t, "candle_date_time_kst": t} for t in times]))
    assert shell("data", "import", path)[0] == 0
    _, spans, _ = shell("data", "coverage", "upbit:KRW-BTC", "--timeframe", "1m")
    assert [(s["state"], s["count"]) for s in spans] == [("candles", 2), ("no_trade", 0), ("candles", 1)]
    _, spans, _ = shell(
        "data",
        "coverage",
        "upbit:KRW-BTC",
        "--timeframe",
        "1m",
        "--since",
        "2020-02-20T10:59:00Z",
        "--until",
        "2020-02-20T11:07:00Z",
    )
    assert [s["state"] for s in spans] == ["not_fetched", "candles", "no_trade", "candles", "not_fetched"]


def test_the_daily_csv_needs_its_zone_and_comes_back(shell: Shell, shared_data: Path) -> None:
    path = shared_data / "upbit" / "candles-1d-KRW-BTC-2024-2025.csv"
    code, _, error = shell("data", "import", path, "--instrument", "upbit:KRW-BTC")
    assert code == 2
    assert error["code"] == "needs_timezone"
    code, (line,), _ = shell("data", "import", path, "--instrument", "upbit:KRW-BTC", "--timezone", "Asia/Seoul")
    rows = path.read_text().splitlines()[1:]
    assert code == 0
    assert line["read"] == line["new"] == len(rows)
    _, out, _ = shell.text("data", "export", "upbit:KRW-BTC", "--timeframe", "1d")
    exported = out.splitlines()[1:]
    assert [r.split(",", 1)[1] for r in exported] == [",".join(repr(float(x)) for x in r.split(",")[1:]) for r in rows]
    assert exported[0].startswith("2024-10-15T00:00:00Z,")  # 09:00 in Seoul


def test_both_evaluators_print_the_same_bytes(shell: Shell, shared_data: Path) -> None:
    shell("data", "import", *sorted((shared_data / "upbit").glob("rest-candles-*.json")))
    formulas = (
        "rsi(close, 14)",
        "ema(close, 9) > sma(close, 20) and change(close) > 0",
        "close / (close - open)",
        "highest(high, 5)",
        'at("15m", rsi(close, 3)) < 50 and today.high > close',
        'of("upbit:KRW-BTC", close[1]) - close[1]',
        "cdlengulfing() + cdldoji()",
    )
    where = ("--instrument", "upbit:KRW-BTC", "--timeframe", "3m")
    outputs = [
        shell.text("formula", *formulas, *where, "--evaluator", name, "--json") for name in ("array", "stepwise")
    ]
    assert outputs[0][0] == 0
    assert outputs[0][1] == outputs[1][1]
    first = json.loads(outputs[0][1].splitlines()[0])
    assert first["value"][0] is None


def test_a_rule_on_history_fires_where_its_formula_turns(shell: Shell, shared_data: Path) -> None:
    shell("data", "import", *sorted((shared_data / "upbit").glob("rest-candles-1m*.json")))
    where = ("--instrument", "upbit:KRW-BTC", "--timeframe", "1m")
    rule = "cross_above(close, sma(close, 20))"
    _, values, _ = shell("formula", rule, *where)
    minute = 60 * 10**9
    expected = [row["open_ns"] + minute for row in values if row["value"] is True]
    code, lines, _ = shell("alert", "replay", rule, *where)
    assert code == 0
    assert [line["fired_ns"] for line in lines[:-1]] == expected
    assert lines[-1]["summary"]["fired"] == len(expected) > 0
    closes = {row["open_ns"]: row["value"] for row in shell("formula", "close", *where)[1]}
    for line in lines[:-1]:
        later = closes.get(line["fired_ns"] - minute + 5 * minute)
        if later is not None:
            assert line["after"]["5m"] == pytest.approx(later / line["price"] - 1)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (("data", "export", "upbit:KRW-BTC", "--timeframe", "1m"), 1, "no_data"),
        (("data", "export", "upbit:KRW-BTC", "--timeframe", "7x"), 2, "bad_timeframe"),
        (("data", "coverage", "krw btc"), 2, "unknown_instrument"),
        (("data", "import", "/no/such/file"), None, None),
        (("formula", "rsi(clos, 14)", "--instrument", "upbit:KRW-BTC"), 2, "bad_formula"),
        (("formula", "close", "--instrument", "upbit:KRW-BTC", "--period", "x"), 2, "bad_period"),
        (("replay", "/no/such/file", "--venue", "upbit"), 1, "no_capture"),
        (("replay", "/no/such/file", "--venue", "nowhere"), 2, "unknown_venue"),
        (("ticker", "nowhere:KRW-BTC"), 2, "unknown_venue"),
        (("ticker", "upbit:KRW-BTC"), 1, None),
        (("alert", "add", "close", "--instrument", "upbit:KRW-BTC"), 2, "bad_formula"),
        (("alert", "add", "close > 1", "--instrument", "upbit:KRW-BTC", "--severity", "loud"), 2, "bad_severity"),
        (("alert", "add", "close > 1", "--instrument", "upbit:KRW-BTC", "--channel", "pigeon"), 2, "unknown_channel"),
        (("alert", "ack", "7"), 2, "unknown_alert"),
        (("alert", "test", "pigeon"), 2, "unknown_channel"),
        (("data", "restore", "/no/such/file"), 1, "bad_backup"),
        (("sim", "--faults", "drip@5s"), 2, None),
        (("nonsense",), 2, "usage"),
        (("run", "--for", "soon"), 2, "bad_duration"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_bad_input_is_named(shell: Shell, arguments: tuple[str, ...], exit_code: int | None, code: str | None) -> None:
    got, out, error = shell(*arguments)
    assert got == exit_code if exit_code is not None else got in (1, 2)
    assert out == []
    assert error["message"]
    assert error["code"] == code if code is not None else error["code"]
    _, text_out, text = shell.text(*arguments)
    assert "Traceback" not in text and "Traceback" not in text_out
    assert error["message"] in text


def test_a_refused_formula_says_where_and_what_was_meant(shell: Shell) -> None:
    _, _, error = shell("formula", "sma(close, 5) > smaa(close, 9)", "--instrument", "upbit:KRW-BTC")
    assert error["position"] == 16
    assert "sma" in error["hint"]


def test_a_saved_formula_is_a_function_in_others_and_in_rules(shell: Shell, shared_data: Path) -> None:
    shell("data", "import", *sorted((shared_data / "upbit").glob("rest-candles-1m*.json")))
    code, (saved,), _ = shell("formula", "save", "spike(x, n=20)", "x > 2 * sma(x, n)")
    assert (code, saved["signature"], saved["kind"]) == (0, "spike(x, n=20)", "bool")
    shell("formula", "save", "calm", "not spike(volume, 5)")
    assert [row["name"] for row in shell("formula", "list")[1]] == ["calm", "spike"]
    where = ("--instrument", "upbit:KRW-BTC", "--timeframe", "1m")
    written_out = shell("formula", "not volume > 2 * sma(volume, 5)", *where)[1]
    assert shell("formula", "calm()", *where)[1] == written_out
    assert shell("alert", "replay", "spike(volume)", *where)[1][-1]["summary"]["fired"] > 0
    code, _, error = shell("formula", "save", "bad(x)", "smaa(x, 3)")
    assert (code, error["code"], error["position"], error["nearest"]) == (2, "bad_formula", 9, "sma")
    code, _, error = shell("formula", "spike(close, 0.5)", *where)
    assert (error["position"], error["inside"], error["inside_position"]) == (0, "spike", 32)
    assert shell("formula", "remove", "spike")[2]["code"] == "formula_used"
    assert shell("formula", "remove", "calm")[0] == 0
    assert shell("formula", "remove", "spike")[0] == 0
    assert shell("formula", "list")[1] == []
    assert shell("formula", "remove", "spike")[2]["code"] == "unknown_formula"


def test_the_table_of_functions_is_a_line_each(shell: Shell) -> None:
    rows = {row["name"]: row for row in shell("formula", "--functions")[1]}
    assert {"sma", "at", "of", "cdlhammer", "ichimoku", "keltner"} <= set(rows)
    assert rows["ma"]["signature"] == "ma(x, timeperiod=30, matype=sma)"
    assert rows["bbands"]["outputs"] == ["upper", "middle", "lower"]


def test_rules_alerts_and_backups_survive(shell: Shell, tmp_path: Path) -> None:
    _, (rule,), _ = shell("alert", "add", "close > 1", "--instrument", "upbit:KRW-BTC", "--name", "One", "--once")
    assert shell("alert", "list", "--rules")[1][0]["formula"] == "close > 1"
    code, (delivery,), _ = shell("alert", "test", "inbox")
    assert (code, delivery["state"]) == (0, "delivered")
    (alert,) = shell("alert", "list")[1]
    assert shell("alert", "ack", alert["id"])[0] == 0
    backup = tmp_path / "backup.zip"
    assert shell("data", "backup", backup)[0] == 0
    assert shell("alert", "remove", rule["id"])[0] == 0
    assert shell("alert", "list", "--rules")[1] == []
    assert shell("data", "restore", backup)[0] == 0
    assert shell("alert", "list", "--rules")[1][0]["name"] == "One"


def test_size_names_what_is_stored(shell: Shell, shared_data: Path) -> None:
    assert shell("data", "size") == (0, [{"bytes": 0}], {})
    shell("data", "import", *sorted((shared_data / "upbit").glob("rest-candles-1m*.json")))
    _, (series, total), _ = shell("data", "size")
    assert (series["instrument"], series["timeframe"], series["count"]) == ("upbit:KRW-BTC", "1m", 200)
    assert total["bytes"] > 0
    code, text, _ = shell.text("data", "size")
    assert code == 0
    assert "2020-02-20T08:00:00Z" in text


def test_functions_are_listed_with_their_parameters(shell: Shell) -> None:
    code, rows, _ = shell("formula", "--functions")
    assert code == 0
    assert {"sma", "ema", "rsi", "cross_above", "cross_below", "highest", "lowest", "change"} <= {
        r["name"] for r in rows
    }


def test_a_corrupt_database_is_put_aside_and_said(shell: Shell, shared_data: Path) -> None:
    files = sorted((shared_data / "upbit").glob("rest-candles-1m*.json"))
    shell("data", "import", *files)
    database = shell.home / "market.db"
    content = bytearray(database.read_bytes())
    content[:100] = b"\xff" * 100
    database.write_bytes(content)
    code, lines, _ = shell("data", "import", *files)
    assert code == 0
    assert list((shell.home / "quarantine").iterdir()), "the damaged file is kept"
    assert lines[0]["read"] == 200
    assert shell("data", "coverage", "upbit:KRW-BTC", "--timeframe", "1m")[1][0]["count"] == 200
