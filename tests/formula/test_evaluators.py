"""One formula, two evaluators, the same bits: on believable bars, hostile bars and every function of the table."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tests.formula.series import bits, candles, conditions, hostile_bars, numbers, of_closes, walk
from watchhamster.core.bars import Bars
from watchhamster.core.ports import UsageError
from watchhamster.formula import Formula, Function, Value, compile_many, describe, functions, parse
from watchhamster.formula.indicators import defaults, lookback, talib

MANY = settings(max_examples=120, suppress_health_check=list(HealthCheck))


def same(a: list[Value], b: list[Value]) -> bool:
    return [bits(x) for x in a] == [bits(x) for x in b]


def stepped(formula: Formula, bars: Bars) -> list[Value]:
    stepper = formula.stepper()
    return [stepper.push(bar) for bar in candles(bars)]


def understood(text: str) -> Formula:
    """The formula; a generated one that cannot be right (`close > close`) is passed over."""
    try:
        return parse(text)
    except UsageError:
        assume(False)
        raise


# TA-Lib's array function and its handle disagree on which of 0.0 and -0.0 is the lower one.
_FLAT = of_closes(1.0, 1.0)
_UP_AND_DOWN = msgspec.structs.replace(_FLAT, close=np.array([1.25, 0.75]))


@MANY
@given(st.one_of(numbers, conditions), hostile_bars())
@example("-lowest((close - open) % (close - open), 2)", _UP_AND_DOWN)
def test_both_evaluators_agree_and_peek_tells_what_push_will(text: str, bars: Bars) -> None:
    formula = understood(text)
    stepper = formula.stepper()
    peeked, pushed = [], []
    for bar in candles(bars):
        peeked.append(stepper.peek(bar))
        peeked[-1] = stepper.peek(bar)
        pushed.append(stepper.push(bar))
    assert same(formula.over(bars).list(), pushed)
    assert same(peeked, pushed)


@MANY
@given(st.one_of(numbers, conditions), hostile_bars(), st.integers(0, 60))
def test_nothing_sees_the_future_and_history_stands_for_pushing(text: str, bars: Bars, cut: int) -> None:
    formula = understood(text)
    whole = formula.over(bars).list()
    assert same(formula.over(bars.slice(0, cut)).list(), whole[:cut])
    stepper = formula.stepper(history=bars.slice(0, cut))
    assert same([stepper.push(bar) for bar in candles(bars)[cut:]], whole[cut:])


@MANY
@given(numbers, hostile_bars())
def test_a_number_is_finite_or_undefined(text: str, bars: Bars) -> None:
    assert all(x is None or math.isfinite(x) for x in understood(text).over(bars).list())


@pytest.mark.parametrize("function", [f for f in functions() if not f.word], ids=lambda f: f.name)
def test_every_function_with_its_defaults(function: Function) -> None:
    """Each row and definition of the table, on a walk that is undefined for a while in the middle."""
    bars = walk(400, seed=3)
    for name in ("open", "high", "low", "close", "volume"):
        getattr(bars, name)[250:253] = np.nan
    text = function.example.replace("close", "larger(close, 0.5)")
    if function.name in ("acos", "asin"):
        text = f"{function.name}(larger(close, 0.5) / high)"
    formula = parse(text)
    whole = formula.over(bars)
    assert same(whole.list(), stepped(formula, bars))
    if function.kind == "number":  # a condition may be decided by what is known
        assert not whole.defined[250]
        assert not whole.defined[: formula.first_value].any()
    assert whole.defined[formula.first_value : 250].all()  # `first_value` is exact where nothing else is undefined


INPUTS = {"VWMA": ("x", "volume")}  # a series and a column


@pytest.mark.parametrize("function", [f for f in functions() if hasattr(talib, f.name.upper())], ids=lambda f: f.name)
def test_rows_say_what_talib_says(function: Function) -> None:
    """TA-Lib's parameters, order, defaults and limits; its values to the bit."""
    name = function.name.upper()
    theirs = defaults(name)
    ours = {p.name: p.default for p in function.parameters}
    types = [k for k in theirs if k.endswith("matype")]
    assert list(ours) == [k for k in theirs if k not in types] + types
    assert ours == theirs
    for parameter in function.parameters:
        if parameter.whole:
            for value, allowed in ((parameter.least, True), (parameter.least - 1, False), (parameter.most, True)):
                given = {**ours, parameter.name: int(value)}
                if name == "MAVP" and parameter.name == "minperiod":  # no more than the greatest
                    given["maxperiod"] = parameter.most
                assert (lookback(name, tuple(given.items())) >= 0) is allowed, (parameter.name, value)
    bars = walk(300)
    series = iter([bars.close, bars.open])
    inputs = [getattr(bars, w) if w in function.reads else next(series) for w in INPUTS.get(name, ())] or (
        [getattr(bars, column) for column in function.reads] or [bars.close, bars.open][: len(function.series)]
    )
    found = getattr(talib, name)(*inputs)
    outputs = function.outputs or ("",)
    for output in outputs:
        formula = parse(function.example + (f".{output}" if output else ""))
        ours_too = formula.over(bars).data
        need = formula.first_value
        assert any(
            np.array_equal(ours_too[need:], np.where(np.isfinite(x), x, np.nan)[need:], equal_nan=True)
            for x in (found if function.outputs else [found])
        )
    assert len(outputs) == (len(found) if isinstance(found, tuple) else 1)


def test_every_function_of_talib_is_here() -> None:
    assert {name.lower() for name in talib.get_functions()} <= {f.name for f in functions()}
    assert sum(f.group == "candles" for f in functions()) == 61


def test_outputs_are_the_lines_their_names_say() -> None:
    bars = walk(300)
    up, down = talib.AROON(bars.high, bars.low, 14)[::-1]
    assert np.array_equal(parse("aroon(14).up").over(bars).data, up, equal_nan=True)
    assert np.array_equal(parse("aroon(14).down").over(bars).data, down, equal_nan=True)
    line, signal, hist = talib.MACD(bars.close, 12, 26, 9)
    assert np.array_equal(parse("macd(close)").over(bars).data, line, equal_nan=True)
    assert np.array_equal(parse("macd(close).signal").over(bars).data, signal, equal_nan=True)
    assert np.array_equal(parse("macd(close).hist").over(bars).data, hist, equal_nan=True)


def test_types_of_moving_averages_come_last_by_name_or_number() -> None:
    bars = walk(300)
    cases = {
        "bbands(close, 20, 2, 2, ema).lower": talib.BBANDS(bars.close, 20, 2.0, 2.0, matype=1)[2],
        "stoch(5, 3, 4, wma, 3).d": talib.STOCH(bars.high, bars.low, bars.close, 5, 3, 2, 4, 3)[1],
        "macdext(close, 5, 9, 4, sma, ema, wma).hist": talib.MACDEXT(bars.close, 5, 0, 9, 1, 4, 2)[2],
        "ma(close, 9, zlema)": talib.MA(bars.close, 9, 12),
        "apo(close)": talib.APO(bars.close),  # an EMA in TA-Lib 0.8, so here
        "vwma(open, 9)": talib.VWMA(bars.open, bars.volume, 9),
        "adosc()": talib.ADOSC(bars.high, bars.low, bars.close, bars.volume),
    }
    for text, expected in cases.items():
        np.testing.assert_array_equal(parse(text).over(bars).data, expected, err_msg=text)


# Their level is where they began: no warm-up brings them together.
FOR_EVER = {"cumsum", "obv", "ad", "pvt", "nvi", "pvi", "wad", "vwap", "maxindex", "minindex", "minmaxindex"}


@pytest.mark.parametrize(
    "function",
    [f for f in functions() if not f.word and f.kind == "number" and f.name not in FOR_EVER],
    ids=lambda f: f.name,
)
def test_after_its_warm_up_a_function_has_forgotten_where_it_began(function: Function) -> None:
    """Each output, with small periods and its defaults: within 1e-9 of what a longer history gives."""
    small = [p.shown if p.choices or not p.whole else str(max(int(p.least), 4)) for p in function.parameters]
    words = function.example.partition("(")[2].rstrip(")").split(", ")[: len(function.series)]
    for text in (function.example, f"{function.name}({', '.join([*words, *small])})"):
        if function.name == "mavp":
            text = "mavp(close, open / 10, 2, 12)"
        for output in function.outputs or ("",):
            formula = parse(text + (f".{output}" if output else ""))
            bars = walk(formula.warm_up + 1200, seed=11)
            whole = formula.over(bars).data[-300:]
            late = formula.over(bars.slice(900, len(bars))).data[-300:]
            scale = np.nanmax(np.abs(whole)) if np.isfinite(whole).any() else 1.0
            np.testing.assert_allclose(late, whole, rtol=1e-9, atol=1e-9 * scale, err_msg=formula.text)


def test_sar_and_candles_have_forgotten_in_time() -> None:
    """Those that compare rather than average forget at some bar: a longer look at one of each kind."""
    bars = walk(5000, seed=12)
    for text in ("sar()", "supertrend().trend", "cdlengulfing()", "ht_trendmode(close)", "ha().open"):
        formula = parse(text)
        late = formula.over(bars.slice(1500, 5000)).data[formula.warm_up :]
        np.testing.assert_allclose(late, formula.over(bars).data[1500 + formula.warm_up :], rtol=1e-13)


def test_formulas_compiled_together_share_what_they_have_in_common() -> None:
    texts = ["sma(close, 10) > sma(close, 20)", "cross_above(sma(close, 10), sma(close, 20))", "sma(close, 10)"]
    program = compile_many(texts)
    assert len(program.nodes) == len(compile_many(texts[1:2]).nodes)  # the second holds the others
    bars = walk(60)
    stepper = program.stepper()
    rows = [stepper.push(bar) for bar in candles(bars)]
    for k, text in enumerate(texts):
        alone = parse(text)
        assert same([row[k] for row in rows], alone.over(bars).list())
        assert same(program.over(bars)[k].list(), alone.over(bars).list())


def test_a_number_that_is_always_the_same_is_still_one_a_bar() -> None:
    assert parse("close ** 0 * 2").over(of_closes(1, 2)).list() == [2.0, 2.0]
    assert compile_many(["close"]).over(Bars.empty())[0].list() == []


def test_the_table_says_all_that_completion_needs() -> None:
    rows = {str(row["name"]): row for row in map(describe, functions())}
    assert rows["rsi"]["signature"] == "rsi(x, timeperiod=14)"
    assert rows["rsi"]["parameters"] == [
        {"name": "timeperiod", "default": 14, "min": 2, "max": 100_000, "integer": True}
    ]
    assert rows["macd"]["outputs"] == ["macd", "signal", "hist"]
    assert rows["cross_above"]["kind"] == "bool"
    assert list(rows) == sorted(rows)
    assert {"change", "highest", "lowest", "sma", "ema", "rsi", "cross_above", "cross_below"} <= set(rows)
    assert all(row["description"] for row in rows.values())


def test_pandas_is_not_imported_where_it_is_installed(tmp_path: Path) -> None:
    """TA-Lib would: 0.2 s and 47 MB of it."""
    (tmp_path / "pandas.py").write_text("raise AssertionError('imported')")
    (tmp_path / "polars.py").write_text("Series = object")
    code = """
import polars, sys
import watchhamster.formula
assert sys.modules["polars"] is polars
assert "pandas" not in sys.modules
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


# ---------------------------------------------------------------- every function, on every kind of bars


def hostile(rng: np.random.Generator, count: int) -> Bars:
    """A walk, a constant, jumps over all magnitudes, steps, a large level: with holes, flat bars and no volume."""
    base = (
        lambda: 100 * np.exp(np.cumsum(rng.standard_normal(count)) * 0.02),
        lambda: np.full(count, rng.choice([1.0, 100.1, 1e-8, 1e15])),
        lambda: rng.choice([1.0, 100.0, 101.0, 1e-8, 5e-324, 1e8, 1e15, 1e300], count),
        lambda: 100.0 + np.cumsum(rng.integers(-1, 2, count)),
        lambda: 1e8 + rng.standard_normal(count),
        lambda: 10.0 ** rng.uniform(-300, 300, count),
    )[rng.integers(6)]()
    close = np.roll(base, -1)
    wide = rng.random(count) * 0.01 * (rng.random(count) < 0.6)
    high, low = np.maximum(base, close) * (1 + wide), np.minimum(base, close) * (1 - wide)
    volume = rng.choice([0.0, 1.0, 2.5, 1e6, 1e15], count) if rng.random() < 0.5 else rng.lognormal(0.0, 1.0, count)
    columns = [np.array(column, np.float64) for column in (base, high, low, close, volume, volume)]
    for column in columns if rng.random() < 0.5 and count else ():
        if rng.random() < 0.4:
            hole = int(rng.integers(count))
            column[hole : hole + int(rng.integers(1, 4))] = np.nan
    return Bars(np.arange(count, dtype=np.int64) * 60_000_000_000, *columns)


def call(rng: np.random.Generator, function: Function) -> str:
    """A call of it, on any series, with small periods or its own."""
    words = ["close", "volume"] if len(function.series) == 2 else [str(rng.choice(["close", "high - low", "volume"]))]
    words = ([*function.conditions] and ["close > open"]) or words[: len(function.series)]
    small = rng.random() < 0.7
    for p in function.parameters:
        if p.choices:
            words.append(str(rng.choice(p.choices)))
        else:
            words.append(str(rng.integers(int(p.least), 8)) if p.whole and small else p.shown)
    output = "." + str(rng.choice(function.outputs)) if function.outputs else ""
    return f"{function.name}({', '.join(words)}){output}"


def tried(function: Function, seed: int) -> None:
    """One call on one hostile series: array, steps, peeks, a prefix, and steps after a history."""
    rng = np.random.default_rng([seed, *function.name.encode()])
    text = call(rng, function)
    try:
        formula = parse(text)
    except UsageError as error:
        assert function.name == "mavp", error.text  # its periods the wrong way round
        return
    bars = hostile(rng, int(rng.choice([0, 1, 2, 5, 30, 90, 160])))
    rows = candles(bars)
    whole = [bits(x) for x in formula.over(bars).list()]
    stepper = formula.stepper()
    shown, pushed = [], []
    for row in rows:
        shown.append(bits(stepper.peek(row)))
        pushed.append(bits(stepper.push(row)))
    assert pushed == whole, text
    assert shown == whole, text
    cut = int(rng.integers(0, len(bars) + 1))
    assert [bits(x) for x in formula.over(bars.slice(0, cut)).list()] == whole[:cut], text
    stepper = formula.stepper(history=bars.slice(0, cut))
    assert [bits(stepper.push(row)) for row in rows[cut:]] == whole[cut:], text


@pytest.mark.parametrize("function", [f for f in functions() if not f.word], ids=lambda f: f.name)
def test_every_function_on_hostile_bars(function: Function) -> None:
    for seed in range(4):
        tried(function, seed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("function", [f for f in functions() if not f.word], ids=lambda f: f.name)
def test_every_function_on_many_hostile_bars(function: Function) -> None:
    for seed in range(4, 400):
        tried(function, seed)
