"""Strategies, backtests and searches on the command line: what scripts rely on, and what is said of bad input."""

from __future__ import annotations

import csv
import datetime as dt
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet
import pytest

from tests.backtest.examples import crossing, upbit_days, walk
from tests.test_cli import Shell
from tests.test_program import Program
from watchhamster import cli
from watchhamster.backtest.definitions import DEFINITIONS
from watchhamster.services import reading_desk
from watchhamster.settings import Home
from watchhamster.sim import Simulator

HOURLY = ("--instrument", "upbit:KRW-ETH", "--timeframe", "1h")
DAILY = ("--instrument", "upbit:KRW-BTC", "--timeframe", "1d")
OBJECT = (
    *("run", "strategy", "instruments", "timeframe", "bars", "data_fingerprint", "parameters", "metrics", "fills"),
    *("trades", "open_trades", "pending", "refused", "first_bar_ns", "equity", "warnings"),
)
TRADE = (
    *("instrument", "side", "entry_ns", "entry_price", "exit_ns", "exit_price", "size", "fees", "profit"),
    *("profit_percent", "bars", "exit_reason"),
)
METRICS = (
    *("total_return_percent", "cagr_percent", "sharpe", "sortino", "calmar", "max_drawdown_percent", "trades"),
    *("win_rate_percent", "profit_factor", "expectancy", "exposure_percent", "final_equity", "buy_and_hold_percent"),
)
CROSS = """name = "Cross"
[parameters.fast]
default = 10
min = 5
max = 20
step = 5
[parameters.slow]
default = 30
[entry]
long = "cross_above(sma(close, fast), sma(close, slow))"
[[exit]]
name = "dead cross"
when = "cross_below(sma(close, fast), sma(close, slow))"
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}


@pytest.fixture(scope="module")
def hours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with 3,000 hourly bars, a hole among them."""
    home = tmp_path_factory.mktemp("lab") / "home"
    bars = walk(3000)
    file = home.parent / "hours.csv"
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("time", "open", "high", "low", "close", "volume", "value"))
        for n, at_ns in enumerate(bars.open_ns.tolist()):
            if not 2000 <= n < 2010:
                time = dt.datetime.fromtimestamp(at_ns // 10**9, dt.UTC).isoformat()
                columns = (bars.open, bars.high, bars.low, bars.close, bars.volume, bars.value)
                writer.writerow((time, *(float(column[n]) for column in columns)))
    assert cli.run(["--home", str(home), "data", "import", str(file), "--instrument", "upbit:KRW-ETH"]) == 0
    return home


@pytest.fixture
def shell(
    hours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shell]:
    monkeypatch.setenv("WATCHHAMSTER_UPBIT_URL", "http://127.0.0.1:9/upbit")  # nobody listens: nothing may be asked
    monkeypatch.setenv("WATCHHAMSTER_LANGUAGE", "en")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(hours, tmp_path / "home")
    yield Shell(tmp_path / "home", capsys)


def write(text: str, name: str = "strategy.toml") -> str:
    """A file in the folder of the test, which it runs in."""
    Path(name).write_text(text, encoding="utf-8")
    return name


def without_clock(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in ("run", "started_ns", "elapsed_s")}


# ---------------------------------------------------------------- a backtest


def test_a_backtest_prints_the_object_of_the_contract(shell: Shell) -> None:
    code, (answer,), _ = shell("backtest", write(CROSS), *HOURLY, "--set", "fast=5")
    assert code == 0
    assert set(OBJECT) <= set(answer)
    assert answer["strategy"] == "Cross" and answer["instruments"] == ["upbit:KRW-ETH"]
    assert answer["timeframe"] == "1h" and answer["parameters"] == {"fast": 5.0, "slow": 30.0}
    assert answer["bars"] == len(answer["equity"]) == 2990
    assert set(METRICS) <= set(answer["metrics"]) and set(DEFINITIONS) <= set(answer["metrics"])
    assert answer["metrics"]["trades"] == len(answer["trades"]) > 10
    for trade in answer["trades"]:
        assert set(TRADE) <= set(trade) and trade["exit_reason"] == "dead cross"
    assert set(answer["fills"][0]) == {"instrument", "at_ns", "side", "price", "size", "fee", "reason"}
    assert all(b[0] - a[0] >= 3600 * 10**9 for a, b in pairwise(answer["equity"]))
    assert answer["equity"][-1][1] == answer["metrics"]["final_equity"]
    assert ["never fetched" in warning for warning in answer["warnings"]] == [True]
    assert answer["started_ns"] > 0 and answer["elapsed_s"] >= 0


def test_equal_inputs_give_equal_bytes_and_a_kept_run_repeats_exactly(shell: Shell) -> None:
    file = write(CROSS)
    period = ("--period", "2024-02-01:2024-04-01")
    first, second = (shell("backtest", file, *HOURLY, *period, "--set", "slow=40")[1][0] for _ in range(2))
    assert json.dumps(without_clock(first)) == json.dumps(without_clock(second))
    assert second["run"] == first["run"] + 1
    Path(file).unlink()  # the run knows its strategy
    code, (again,), _ = shell("backtest", "--repeat", first["run"])
    assert code == 0 and json.dumps(without_clock(again)) == json.dumps(without_clock(first))
    rows = "time,open,high,low,close,volume\n2024-03-01T00:00:00Z,5e7,5e7,5e7,5e7,1\n"
    shell("data", "import", write(rows, "other.csv"), "--instrument", "upbit:KRW-ETH", "--timeframe", "1h")
    code, _, error = shell("backtest", "--repeat", first["run"])
    assert (code, error["code"]) == (1, "data_changed")


def test_trades_on_recorded_days_are_those_of_a_plain_loop(shell: Shell, shared_data: Path) -> None:
    file = shared_data / "upbit" / "candles-1d-KRW-BTC-2024-2025.csv"
    shell("data", "import", file, "--instrument", "upbit:KRW-BTC", "--timezone", "Asia/Seoul")
    code, (answer,), _ = shell("backtest", write(CROSS), *DAILY, "--set", "fast=4", "--set", "slow=16")
    expected = crossing(upbit_days(shared_data), fast=4, slow=16, timeframe="1d")
    assert code == 0 and answer["warnings"] == []
    others = expected.trades[1:]  # the loop's first is entered where the means begin, which is no cross
    assert len(answer["trades"]) == len(others) > 5
    for trade, other in zip(answer["trades"], others, strict=True):
        assert (trade["entry_ns"], trade["exit_ns"]) == (other.entry_ns, other.exit_ns)
        assert (trade["entry_price"], trade["exit_price"]) == (other.entry_price, other.exit_price)
        assert trade["profit_percent"] == pytest.approx(other.profit_percent, rel=1e-9)


def test_shares_have_sessions_no_fee_and_prices_adjusted_where_asked(shell: Shell, shared_data: Path) -> None:
    shell("data", "import", shared_data / "yahoo" / "CALM-1d.csv", "--instrument", "yahoo:CALM")
    where = ("--instrument", "yahoo:CALM", "--timeframe", "1d")
    _, (plain,), _ = shell("backtest", write(CROSS), *where)
    _, (adjusted,), _ = shell("backtest", write(CROSS), *where, "--adjusted")
    assert plain["metrics"]["year_days"] == 252 and plain["metrics"]["fees"] == 0
    assert plain["warnings"] == []
    assert adjusted["metrics"]["buy_and_hold_percent"] > plain["metrics"]["buy_and_hold_percent"]


def test_history_before_the_period_warms_up_and_finer_bars_decide(shell: Shell, shared_data: Path) -> None:
    folder = shared_data / "upbit"
    shell("data", "import", *sorted(folder.glob("rest-candles-*.json")), "--venue", "upbit")
    stop = CROSS + "[protect]\nstop_percent = 0.1\ntarget_percent = 0.1\n"
    where = (
        "--instrument",
        "upbit:KRW-BTC",
        "--timeframe",
        "3m",
        "--period",
        "2020-02-20T09:30:00Z:2020-02-20T11:00:00Z",
    )
    _, (answer,), _ = shell("backtest", write(stop), *where, "--set", "fast=3", "--set", "slow=8")
    assert answer["finer"] == {"upbit:KRW-BTC": "1m"}
    assert answer["first_bar_ns"] < answer["equity"][0][0] - 180 * 10**9
    assert answer["bars"] == 30
    _, (later,), _ = shell("backtest", write(stop), *where, "--first-bar", "2020-02-20T09:00:00Z")
    assert later["first_bar_ns"] == 1582189200 * 10**9


def test_a_run_for_people_has_its_metrics_exits_and_verdict(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = shell.text("backtest", write(CROSS), *HOURLY)
    assert code == 0
    assert re.search(r"Total return +[−\d.]+\s%", out) and "Sharpe ratio" in out
    assert "dead cross" in out and "Run 1" in out and "never fetched" in err
    assert re.search(
        r"(Too little to judge|Loses money|Likely overfitted|Fragile|Doubtful|Plausible|Trustworthy): ", out
    )
    monkeypatch.setenv("WATCHHAMSTER_LANGUAGE", "ko")
    _, korean, _ = shell.text("backtest", write(CROSS), *HOURLY)
    assert re.search("[가-힣]", korean) and "Sharpe ratio" not in korean


def test_reports_and_tables_are_written(shell: Shell) -> None:
    files = (
        "--report",
        "r.html",
        "--language",
        "ko",
        "--trades",
        "t.csv",
        "--fills",
        "f.parquet",
        "--curve",
        "c.parquet",
    )
    code, (answer,), _ = shell("backtest", write(CROSS), *HOURLY, *files)
    assert code == 0
    page = Path("r.html").read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert 'lang="ko"' in page and "Cross" in page and "http://" not in re.sub(r"http://www\.w3\.org", "", page)
    with Path("t.csv").open(newline="") as file:
        trades = list(csv.DictReader(file))
    assert [float(row["profit"]) for row in trades[: len(answer["trades"])]] == [t["profit"] for t in answer["trades"]]
    assert re.fullmatch(r"2024-\d\d-\d\dT\d\d:00:00Z", trades[0]["entry_time"])
    fills = pyarrow.parquet.read_table("f.parquet")
    assert fills.column("price").to_pylist() == [fill["price"] for fill in answer["fills"]]
    curve = pyarrow.parquet.read_table("c.parquet")
    assert curve.column("equity").to_pylist() == [value for _, value in answer["equity"]]


@pytest.mark.slow
async def test_beside_a_running_engine_its_owner_keeps_what_is_made(tmp_path: Path) -> None:
    """On the built-in exchange's history, asked while another process owns the home."""
    file = tmp_path / "cross.toml"
    file.write_text(CROSS)
    async with Simulator() as simulator:
        program = Program(tmp_path / "home", simulator.venues["upbit"])
        async with program.running("--instrument", "upbit:KRW-BTC"):
            await program("data", "update", "upbit:KRW-ETH", "--timeframe", "1h")
            kept = await program("strategy", "import", file, "--json")
            made = await program("backtest", "Cross", *HOURLY, "--json")
            searched = await program(
                "optimize",
                "Cross",
                *HOURLY,
                "--method",
                "grid",
                "--constraint",
                "trades>=1",
                "--workers",
                "1",
                "--json",
            )
    assert (kept.code, made.code, searched.code) == (0, 0, 0), (kept.err, made.err, searched.err)
    (answer,) = made.lines
    assert answer["bars"] > 400 and answer["run"] == 1
    assert len(searched.lines) == 5 and searched.lines[-1]["best"]
    again = await program("backtest", "--repeat", 1, "--json")
    assert json.dumps(without_clock(again.lines[0])) == json.dumps(without_clock(answer))


# ---------------------------------------------------------------- what is kept


def test_strategies_are_kept_with_every_version(shell: Shell) -> None:
    file = write(CROSS)
    code, (first,), _ = shell("strategy", "import", file)
    assert (code, first["name"], first["version"], first["new"]) == (0, "Cross", 1, True)
    _, (same,), _ = shell("strategy", "import", file)
    assert (same["version"], same["new"]) == (1, False)
    changed = CROSS.replace("default = 30", "default = 40") + "[protect]\nstop_percent = 2\n"
    _, (second,), _ = shell("strategy", "import", write(changed))
    assert second["version"] == 2
    _, changes, _ = shell("strategy", "diff", "Cross")
    assert [change["key"] for change in changes] == ["parameters.slow.default", "protect.stop_percent"]
    assert (changes[0]["old"], changes[0]["new"]) == ("30", "40")
    assert shell.text("strategy", "export", "Cross@1")[1] == CROSS
    shell("strategy", "export", "Cross", "--out", "out.toml")
    assert Path("out.toml").read_text() == changed
    _, (listed,), _ = shell("strategy", "list")
    assert (listed["name"], listed["version"], listed["parameters"]) == ("Cross", 2, ["fast", "slow"])
    _, (shown,), _ = shell("strategy", "show", "Cross")
    assert shown["text"] == changed
    _, old, _ = shell("backtest", "Cross@1", *HOURLY)
    _, new, _ = shell("backtest", "Cross", *HOURLY)
    assert (old[0]["parameters"]["slow"], new[0]["parameters"]["slow"]) == (30, 40)
    _, stored, _ = shell("runs", "list", "Cross")
    assert [row["version"] for row in stored] == [1, 2]
    assert shell("strategy", "remove", "Cross")[0] == 0
    assert shell("strategy", "list")[1] == []
    assert shell("backtest", "--repeat", old[0]["run"])[0] == 0


def test_every_example_is_right_and_says_when_it_fails(shell: Shell) -> None:
    _, rows, _ = shell("strategy", "list", "--examples")
    assert len(rows) >= 12
    assert all(row["error"] is None and "fail" in row["description"] for row in rows)
    _, (checked,), _ = shell("strategy", "check", rows[0]["name"])
    assert checked["valid"] is True and checked["formulas"]


def test_runs_are_listed_noted_compared_and_forgotten(shell: Shell) -> None:
    file = write(CROSS)
    for fast in (5, 10):
        shell("backtest", file, *HOURLY, "--set", f"fast={fast}")
    assert [row["run"] for row in shell("runs", "list")[1]] == [1, 2]
    shell("runs", "note", 1, "after the crash")
    _, (row,), _ = shell("runs", "show", 1)
    assert row["notes"] == "after the crash" and row["text"] == CROSS and row["parameters"] == {"fast": 5.0}
    _, compared, _ = shell("runs", "compare", 1, 2)
    line = next(line for line in compared if line["metric"] == "total_return_percent")
    assert line["best"] == [1 + line["values"].index(max(line["values"]))]
    shell("backtest", "--repeat", 1, "--report", "r.html")
    assert "after the crash" in Path("r.html").read_text(encoding="utf-8")
    assert shell("runs", "remove", 1)[0] == 0
    assert shell("runs", "show", 1)[2]["code"] == "unknown_run"


# ---------------------------------------------------------------- searches


def test_a_grid_is_walked_whole_kept_and_gone_on_with(shell: Shell) -> None:
    """Twice the same trials; what is kept is not run again; what breaks a constraint says so."""
    words = ("optimize", write(CROSS), *HOURLY, "--method", "grid", "--metric", "sharpe", "--workers", "2")
    further = ("--constraint", "trades>=40", "--report", "best.html")
    code, lines, _ = shell(*words, *further)
    assert code == 0
    *trials, last = lines
    assert [trial["trial"] for trial in trials] == [0, 1, 2, 3]
    assert [trial["parameters"]["fast"] for trial in trials] == [5, 10, 15, 20]
    assert all(set(METRICS) <= set(trial["metrics"]) for trial in trials)
    broken = [trial for trial in trials if trial["metrics"]["trades"] < 40]
    assert [trial["trial"] for trial in trials if "rejected" in trial] == [trial["trial"] for trial in broken]
    allowed = [trial for trial in trials if "rejected" not in trial]
    assert allowed and last["best"] == max(allowed, key=lambda trial: trial["metrics"]["sharpe"])
    trust = {"trials", "deflated_sharpe_probability", "pbo", "stability", "verdict"}
    assert trust <= set(last["trust"]) and last["trust"]["trials"] >= 4
    assert "fast" in Path("best.html").read_text(encoding="utf-8")
    code, again, _ = shell(*words, *further, "--resume")
    assert code == 0 and again[:-1] == trials
    assert again[-1]["best"] == last["best"]


def test_an_interrupted_search_keeps_its_trials_and_goes_on(shell: Shell) -> None:
    words = ["--home", str(shell.home), "optimize", write(CROSS), *HOURLY, "--method", "tpe", "--trials", "4000"]
    words += ["--workers", "1", "--constraint", "trades>=1", "--range", "slow=20:400", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "watchhamster", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        first = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        rest, said = process.stdout.read(), process.stderr.read()
    assert process.returncode == 130
    assert "--resume" in said and "█" not in said and "Traceback" not in said
    printed = [first, *map(json.loads, rest.splitlines())]
    assert [line["trial"] for line in printed] == list(range(len(printed)))
    with reading_desk(Home(shell.home)) as desk:
        (search,) = desk.searches()
    assert search.trials >= len(printed) > 0


def test_a_killed_worker_costs_a_search_nothing(shell: Shell) -> None:
    words = ["--home", str(shell.home), "optimize", write(CROSS), *HOURLY, "--method", "random", "--trials", "100"]
    words += ["--workers", "2", "--constraint", "trades>=1", "--range", "slow=20:400", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "watchhamster", *words], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        children = psutil.Process(process.pid).children()
        next(child for child in children if "spawn_main" in " ".join(child.cmdline())).kill()
        rest = process.stdout.read()
    assert process.returncode == 0
    *trials, last = map(json.loads, [first, *rest.splitlines()])
    assert [trial["trial"] for trial in trials] == list(range(100))
    assert all(trial["metrics"] for trial in trials) and last["best"]


def test_walking_forward_tells_what_each_choice_came_to(shell: Shell) -> None:
    words = (
        "--method",
        "walkforward",
        "--inner",
        "random",
        "--trials",
        "6",
        "--windows",
        "2",
        "--constraint",
        "trades>=1",
    )
    code, (*trials, last), _ = shell("optimize", write(CROSS), *HOURLY, *words, "--workers", "1")
    assert code == 0 and [trial["fold"] for trial in trials] == [1] * 4 + [2] * 4  # there are no more
    first, second = last["windows"]
    assert first["until_ns"] == second["since_ns"] and first["parameters"] in [t["parameters"] for t in trials[:4]]
    assert last["outside"]["metrics"]["final_equity"] > 0 and "efficiency" in last["outside"]


# ---------------------------------------------------------------- strategies in Python

PYTHON = """import numpy as np
from watchhamster.backtest.run import Signals

class Own:
    document = '''
name = "Own"
[parameters.length]
default = 20
[entry]
long = "close > 0"
[[exit]]
name = "below"
when = "close > 0"
'''
    warm_up = 50

    def signals(self, bars, parameters):
        length = int(parameters["length"])
        mean = np.convolve(bars.close, np.ones(length) / length)[: len(bars)]
        above = bars.close > mean
        above[:length] = False
        BODY
        return Signals(long=above, exits={"below": ~above})
"""


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("pass", ""),
        ("above = np.roll(above, -1)", "looks_ahead"),
        ("raise KeyError('no such thing')", "job_failed"),
        ("while True: pass", "job_timeout"),
        ("x = [bytearray(10**8) for _ in range(50)]", "job_memory"),
        ("import os; os.kill(os.getpid(), 9)", "worker_died"),
    ],
)
def test_a_strategy_in_python_runs_apart_whatever_it_does(shell: Shell, body: str, code: str) -> None:
    file = write(PYTHON.replace("BODY", body), "own.py")
    limits = ("--time-limit", "0.5" if code == "job_timeout" else "60", "--memory-limit", "400")
    exit_code, lines, error = shell("backtest", f"{file}:Own", *HOURLY, "--period", "2024-02-01:2024-03-01", *limits)
    if code:
        assert (exit_code, error["code"]) == (2 if code == "looks_ahead" else 1, code)
    else:
        assert exit_code == 0 and lines[0]["strategy"] == "Own" and lines[0]["trades"]
        assert {trade["exit_reason"] for trade in lines[0]["trades"]} == {"below"}


# ---------------------------------------------------------------- bad input


def of(text: str) -> Callable[[], str]:
    return lambda: write(text)


ENTRY = '[entry]\nlong = "{}"\n'
BAD: dict[str, tuple[Any, tuple[str, ...], int, str]] = {
    "no such strategy": ("Crss", HOURLY, 2, "unknown_strategy"),
    "no such file": ("nowhere.toml", HOURLY, 2, "no_file"),
    "broken TOML": (of('name = "x\n'), HOURLY, 2, "bad_strategy"),
    "no entry": (of('name = "x"\n'), HOURLY, 2, "bad_strategy"),
    "unknown key": (of(CROSS + "[protct]\nstop_percent = 2\n"), HOURLY, 2, "bad_strategy"),
    "absurd stop": (of(CROSS + "[protect]\nstop_percent = 200\n"), HOURLY, 2, "bad_strategy"),
    "unknown function": (of('name = "x"\n' + ENTRY.format("smma(close, 3) > 1")), HOURLY, 2, "bad_formula"),
    "unknown series": (of('name = "x"\n' + ENTRY.format("clse > 1")), HOURLY, 2, "bad_formula"),
    "not a condition": (of('name = "x"\n' + ENTRY.format("close + 1")), HOURLY, 2, "bad_formula"),
    "unknown parameter": (of(CROSS), (*HOURLY, "--set", "fats=3"), 2, "bad_parameter"),
    "no number": (of(CROSS), (*HOURLY, "--set", "fast=three"), 2, "bad_parameter"),
    "not finite": (of(CROSS), (*HOURLY, "--set", "fast=nan"), 2, "bad_parameter"),
    "no instrument": (of(CROSS), ("--timeframe", "1h"), 2, "usage"),
    "unknown venue": (of(CROSS), ("--instrument", "nasdaq:AAPL", "--timeframe", "1h"), 2, "unknown_venue"),
    "nothing stored": (of(CROSS), ("--instrument", "upbit:KRW-XRP", "--timeframe", "1h"), 1, "no_data"),
    "no timeframe": (of(CROSS), HOURLY[:2], 2, "bad_timeframe"),
    "wrong timeframe": (of(CROSS), (*HOURLY[:2], "--timeframe", "7q"), 2, "bad_timeframe"),
    "no bar in the period": (of(CROSS), (*HOURLY, "--period", "2020-01-01:2020-02-01"), 1, "no_data"),
    "wrong period": (of(CROSS), (*HOURLY, "--period", "2024-03-01:2024-02-01"), 2, "bad_period"),
    "too little history": (of(CROSS), (*HOURLY, "--set", "slow=5000"), 2, "too_little_history"),
    "no money": (of(CROSS), (*HOURLY, "--cash", "0"), 2, "bad_cash"),
    "too much money": (of(CROSS), (*HOURLY, "--cash", "1e30"), 2, "bad_cash"),
    "cash is no number": (of(CROSS), (*HOURLY, "--cash", "much"), 2, "usage"),
    "no such class": (lambda: write("x = 1", "a.py") + ":Own", HOURLY, 2, "bad_python"),
    "no class": ("a.py", HOURLY, 2, "bad_python"),
    "no such run": ("x", ("--repeat", "77"), 2, "unknown_run"),
    "wrong table": (of(CROSS), (*HOURLY, "--trades", "t.xls"), 2, "bad_format"),
    "no such folder": (of(CROSS), (*HOURLY, "--report", "nowhere/r.html"), 1, "cannot_write"),
    "wrong language": (of(CROSS), (*HOURLY, "--language", "fr"), 2, "unknown_language"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_of_a_backtest_is_named(shell: Shell, name: str) -> None:
    strategy, words, exit_code, code = BAD[name]
    found, lines, error = shell("backtest", strategy() if callable(strategy) else strategy, *words)
    assert (found, error["code"]) == (exit_code, code), error
    assert error["message"] and (lines == [] or code == "cannot_write")
    if code in ("bad_formula", "bad_strategy") and "key" in error:
        assert error["key"] is not None


SEARCHES: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown metric": (("--metric", "sharp"), "unknown_metric"),
    "a metric that is neither": (("--metric", "buy_and_hold_percent"), "bad_metric"),
    "unknown method": (("--method", "gird"), "unknown_method"),
    "wrong constraint": (("--constraint", "drawdown is small"), "bad_constraint"),
    "unknown metric in a constraint": (("--constraint", "max_drawdwn_percent<20"), "unknown_metric"),
    "no trials": (("--method", "tpe", "--trials", "0"), "bad_trials"),
    "wrong range": (("--range", "fast=5"), "bad_range"),
    "unknown range": (("--range", "fats=5:6"), "bad_parameter"),
    "nothing to search": (("--set", "fast=5"), "nothing_to_optimise"),
    "too many goals": (("--method", "cmaes", "--metric", "sharpe,calmar"), "too_many_goals"),
    "too many cells": (("--method", "grid", "--range", "fast=1:3000:1", "--range", "slow=1:3000:1"), "too_many_cells"),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_bad_input_of_a_search_is_named_before_anything_runs(shell: Shell, name: str) -> None:
    words, code = SEARCHES[name]
    found, lines, error = shell("optimize", write(CROSS), *HOURLY, *words)
    assert (found, error["code"], lines) == (2, code, []), error
    assert not (shell.home / "watchhamster.db").exists() or shell("runs", "list")[1] == []


def test_a_strategy_that_never_trades_and_a_division_by_zero_are_results(shell: Shell) -> None:
    for formula in ("close < 0 - 1", "close / (close - close) > 1"):
        code, (answer,), _ = shell("backtest", write('name = "x"\n' + ENTRY.format(formula)), *HOURLY)
        assert code == 0 and answer["trades"] == [] and answer["metrics"]["total_return_percent"] == 0
        assert any("never traded" in warning for warning in answer["warnings"])
        assert answer["metrics"]["sharpe"] is None


def test_spot_refuses_what_is_short(shell: Shell) -> None:
    text = 'name = "x"\n[entry]\nshort = "close > sma(close, 20)"\n'
    _, (answer,), _ = shell("backtest", write(text), *HOURLY)
    assert answer["fills"] == [] and answer["refused"]
    assert any("sold short" in warning for warning in answer["warnings"])
