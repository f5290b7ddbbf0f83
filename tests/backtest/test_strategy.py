"""Documents: read, written, refused, compared; and the examples, each tried on recorded markets."""

from __future__ import annotations

import csv
import datetime as dt
import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.backtest.bars import DOCUMENTS
from watchhamster.backtest.run import InstrumentRules, backtest
from watchhamster.backtest.strategy import Strategy, diff, read, write
from watchhamster.core.bars import Bars
from watchhamster.core.ports import UsageError

EXAMPLES = sorted((Path(__file__).parents[2] / "resources" / "strategies").glob("*.toml"))

WHOLE = """
name = "Golden cross"
description = "What it does and when it fails."
timeframe = "1h"
[parameters.fast]
default = 10
min = 5
max = 50
step = 5
[parameters.slow]
default = 30
[entry]
long = "cross_above(sma(close, fast), sma(close, slow))"
size = { equity_percent = 100 }
[[exit]]
name = "dead cross"
when = "cross_below(sma(close, fast), sma(close, slow))"
[protect]
stop_percent = 2.0
targets = [{ percent = 2, share = 0.5 }, { percent = 4, share = 0.5 }]
trailing_percent = 3.0
trailing_arm_percent = 1.0
break_even_percent = 1.5
max_bars = 48
[costs]
fee_percent = 0.05
slippage = { basis_points = 2 }
[limits]
max_positions = 5
"""


def test_the_contracts_document() -> None:
    strategy = read(WHOLE)
    assert strategy.protect.targets[1].percent == 4
    assert strategy.values({"fast": 5}) == {"fast": 5.0, "slow": 30.0}
    assert read(write(strategy)) == strategy


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_is_written_reads_back_equal(name: str) -> None:
    assert read(write(DOCUMENTS[name])) == DOCUMENTS[name]


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1).filter(str.strip),
    st.floats(-1e300, 1e300),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])),
)
def test_any_text_and_number_survives(name: str, number: float, description: str) -> None:
    parameter = {"default": number, "description": description}
    strategy = msgspec.convert(
        {"name": name, "description": description, "parameters": {"x": parameter}, "entry": {"long": "close > x"}},
        Strategy,
    )
    assert read(write(strategy)) == strategy


def test_only_a_name_and_an_entry_are_needed() -> None:
    strategy = read('name = "x"\n[entry]\nlong = "close > open"')
    assert (strategy.entry.size.equity_percent, strategy.entry.max_entries, strategy.exit) == (100.0, 1, ())


@pytest.mark.parametrize(
    ("old", "new", "code", "key", "line", "nearest"),
    [
        ("stop_percent = 2.0", "stop_procent = 2.0", "bad_strategy", "protect.stop_procent", 18, "stop_percent"),
        ("[protect]", "[protekt]", "bad_strategy", "protekt", 17, "protect"),
        ("stop_percent = 2.0", "stop_percent = 200", "bad_strategy", "protect.stop_percent", 18, None),
        ("stop_percent = 2.0", 'stop_percent = "fats"', "bad_strategy", "protect.stop_percent", 18, "fast"),
        ("max_bars = 48", "max_bars = 4.5", "bad_strategy", "protect.max_bars", 23, None),
        ("max_bars = 48", "max_bars = true", "bad_strategy", "protect.max_bars", 23, None),
        ("percent = 4, share", "percnt = 4, share", "bad_strategy", "protect.targets[1].percnt", 19, "percent"),
        ("percent = 4, share", "percent = 1, share", "bad_strategy", "protect.targets", 19, None),
        ("equity_percent = 100", "equity_percent = 1, money = 3", "bad_strategy", "entry.size", 13, None),
        ("equity_percent = 100", "risk_percent = 0", "bad_strategy", "entry.size.risk_percent", 13, None),
        ("long = ", "lnog = ", "bad_strategy", "entry.lnog", 12, "long"),
        ('name = "dead cross"', 'name = "stop"', "bad_strategy", "exit[0].name", 15, None),
        ("min = 5", "min = 15", "bad_strategy", "parameters.fast", 4, None),
        ("[parameters.fast]", "[parameters.rsi]", "bad_strategy", "parameters.rsi", 4, None),
        ("sma(close, fast)", "smaa(close, fast)", "bad_formula", "entry.long", 12, "sma"),
        ("cross_above(sma(close, fast), sma(close, slow))", "sma(close, 3)", "bad_formula", "entry.long", 12, None),
        ('timeframe = "1h"', 'timeframe = "1 hour"', "bad_timeframe", None, None, None),
        ("default = 10", "default = ten", "bad_strategy", "", 5, None),
        ("trailing_percent = 3.0\n", "", "bad_strategy", "protect.trailing_arm_percent", 20, None),
    ],
)
def test_what_is_wrong_is_named(
    old: str, new: str, code: str, key: str | None, line: int | None, nearest: str | None
) -> None:
    assert old in WHOLE
    with pytest.raises(UsageError) as refused:
        read(WHOLE.replace(old, new, 1).lstrip("\n"))
    details = refused.value.details
    assert (refused.value.code, details.get("key"), details.get("nearest")) == (code, key, nearest)
    assert details.get("line") == line


def test_a_strategy_without_an_entry_is_refused() -> None:
    for text in (
        'name = "x"',
        'name = "x"\n[entry]\n',
        '[entry]\nlong = "close > 1"',
        'name = " "\n[entry]\nlong="close>1"',
    ):
        with pytest.raises(UsageError):
            read(text)


def test_versions_are_compared_in_sentences() -> None:
    old = read(WHOLE)
    text = WHOLE.replace("stop_percent = 2.0", "stop_percent = 3\nstop_atr = 2").replace("max_positions = 5", "")
    new = read(text.replace("cross_below(", "cross_below(close + "))
    assert [str(text) for text in diff(old, new)] == [
        'exit dead cross.when was "cross_below(sma(close, fast), sma(close, slow))",'
        ' now "cross_below(close + sma(close, fast), sma(close, slow))".',
        "protect.stop_percent was 2, now 3.",
        "limits.max_positions is gone; it was 5.",
        "protect.stop_atr is new: 2.",
    ]
    assert diff(old, old) == []


def test_a_number_may_be_a_parameter() -> None:
    text = WHOLE.replace("stop_percent = 2.0", 'stop_percent = "fast"')
    assert read(text).resolve({"fast": 7}).protect.stop_percent == 7.0
    with pytest.raises(UsageError):
        read(text).resolve({"fast": 700})


# ---------------------------------------------------------------- the examples


def recorded(folder: Path) -> dict[str, tuple[str, dict[str, Bars]]]:
    """Recorded markets by what they are: their timeframe, and their bars."""
    seoul = ZoneInfo("Asia/Seoul")

    def rows(path: Path) -> list[dict[str, str]]:
        with path.open() as file:
            return list(csv.DictReader(file))

    def bars(found: Iterable[tuple[float, ...]]) -> Bars:
        times, *columns = zip(*sorted(found), strict=True)
        o, h, lo, c, volume = (np.array(column, np.float64) for column in columns)
        h, lo = np.maximum(h, np.maximum(o, c)), np.minimum(lo, np.minimum(o, c))  # Yahoo rounds its prices apart
        return Bars(np.array(times, np.int64), o, h, lo, c, volume, c * volume)

    daily = bars([
        (
            int(dt.datetime.fromisoformat(row[""]).replace(tzinfo=seoul).timestamp()) * 10**9,
            *(float(row[name]) for name in ("open", "high", "low", "close", "volume")),
        )
        for row in rows(folder / "upbit" / "candles-1d-KRW-BTC-2024-2025.csv")
    ])  # fmt: skip
    shares = {
        f"yahoo:{name}": bars([
            (
                int(dt.datetime.fromisoformat(row["Datetime"]).timestamp()) // 86400 * 86400 * 10**9,
                *(float(row[column]) for column in ("Open", "High", "Low", "Close", "Volume")),
            )
            for row in rows(folder / "yahoo" / f"{name}-1d.csv")
        ])
        for name in ("CALM", "EWG")
    }  # fmt: skip
    answers = [
        row
        for path in folder.glob("upbit/rest-candles-3m-*.json")
        for row in json.loads(path.read_text())
    ]  # fmt: skip
    names = ("opening_price", "high_price", "low_price", "trade_price", "candle_acc_trade_volume")
    minutes = bars({
        (
            int(dt.datetime.fromisoformat(row["candle_date_time_utc"] + "+00:00").timestamp()) * 10**9,
            *(float(row[name]) for name in names),
        )
        for row in answers
    })  # fmt: skip
    return {
        "upbit days": ("1d", {"upbit:KRW-BTC": daily}),
        "upbit minutes": ("3m", {"upbit:KRW-BTC": minutes}),
        "shares": ("1d", shares),
    }


def test_there_are_twelve_and_each_says_when_it_fails() -> None:
    assert len(EXAMPLES) == 12
    for path in EXAMPLES:
        strategy = read(path.read_text())
        assert "fails" in strategy.description
        assert strategy.description_ko
        assert read(write(strategy)) == strategy


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_trade_recorded_markets(path: Path, shared_data: Path) -> None:
    strategy = read(path.read_text())
    traded = 0
    for frame, data in recorded(shared_data).values():
        rules = dict.fromkeys(data, InstrumentRules(taker_percent=Decimal("0.05"), maker_percent=Decimal("0.05")))
        try:
            result = backtest(strategy, data, frame=frame, rules=rules, zone="Asia/Seoul")
        except UsageError as refused:
            assert refused.code == "too_little_history"
            continue
        traded += len(result.trades)
        assert np.isfinite(result.curve.equity).all()
    assert traded > 0
