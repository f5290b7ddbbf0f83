"""Completion, signatures, saved formulas, and many parameters at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.formula.series import bits, candles, walk
from watchhamster.core.ports import UsageError
from watchhamster.core.timeframes import timeframe
from watchhamster.formula import Library, Scope, Sweep, complete, parse, signature

SAVED = {
    "spike": "spike(x, n=20) = x > 2 * sma(x, n)",
    "middle": "middle() = (high + low) / 2",
    "twice": "twice(c) = c and c[1]",
    "calm": "calm(n=3) = not twice(spike(middle(), n))",
}
SCOPE = Scope(timeframe=timeframe("1m"), instruments=["upbit:KRW-BTC", "upbit:KRW-ETH"], library=Library(SAVED))


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("clo", "close"),
        ("close > rs", "rsi"),
        ("stoch(5).", "k"),
        ("macd(close, 3).h", "hist"),
        ("macd(sma(close, 3)).si", "signal"),
        ("today.", "open"),
        ("previous_day.vo", "volume"),
        ('at("', "3m"),
        ("at('1", "10m"),
        ('of("upbit:KRW-E', "upbit:KRW-ETH"),
        ("bbands(close, 20, 2, 2, t", "tema"),
        ("spi", "spike"),
        ("fa", "fast"),
        ("above", "cross_above"),
    ],
)
def test_completes(text: str, first: str) -> None:
    assert complete(text, len(text), {"fast": 3}, SCOPE)[0].name == first


def test_completion_says_what_it_writes() -> None:
    candidate = complete("1 < rs + 3", 6, {}, SCOPE)[0]
    assert (candidate.written, candidate.start, candidate.signature) == ("rsi(", 4, "rsi(x, timeperiod=14)")
    assert str(candidate.description) == "Relative strength index"
    assert complete("trange", 6)[0].written == "trange()"
    assert complete("today", 5)[0].written == "today."


@pytest.mark.parametrize(
    ("text", "name", "argument"),
    [
        ("sma(", "sma", "x"),
        ("sma(close, ", "sma", "timeperiod"),
        ("sma((close + open", "sma", "x"),
        ("sma(rsi(close, 3), ", "sma", "timeperiod"),
        ("macd(close, signalperiod=", "macd", "signalperiod"),
        ('at("1h", ', "at", "x"),
        ("spike(close, ", "spike", "n"),
        ("sma(close, 3, ", "sma", None),
    ],
)
def test_the_signature_follows_the_cursor(text: str, name: str, argument: str | None) -> None:
    found = signature(text, len(text), SCOPE)
    assert found is not None
    assert found.function.name == name
    assert (None if found.argument is None else found.function.words[found.argument]) == argument


def test_outside_of_brackets_there_is_no_signature() -> None:
    for text in ("", "close", "sma(close, 3)", "(close + ", "close[", "nothing(3, "):
        assert signature(text, len(text), SCOPE) is None


@given(st.text(max_size=30), st.integers(0, 30))
def test_help_reads_anything(text: str, position: int) -> None:
    complete(text, min(position, len(text)), {}, SCOPE)
    signature(text, min(position, len(text)), SCOPE)


# ---------------------------------------------------------------- saved formulas


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("spike(volume)", "volume > 2 * sma(volume, 20)"),
        ("spike(close, 3)", "close > 2 * sma(close, 3)"),
        ("spike(n=4, x=close)", "close > 2 * sma(close, 4)"),
        ("middle() - close", "(high + low) / 2 - close"),
        ("twice(close > open)", "close > open and (close > open)[1]"),
        ("calm()", "not (spike(middle(), 3) and spike(middle(), 3)[1])"),
        ('at("5m", middle())', 'at("5m", (high + low) / 2)'),
    ],
)
def test_a_saved_formula_is_what_it_stands_for(text: str, same: str) -> None:
    bars = walk(80)
    library, minute = Library(SAVED), timeframe("1m")
    formula = parse(text, library=library, timeframe=minute)
    expected = parse(same, library=library, timeframe=minute)
    found = [bits(x) for x in formula.over(bars).list()]
    assert found == [bits(x) for x in expected.over(bars).list()]
    stepper = formula.stepper()
    assert [bits(stepper.push(bar)) for bar in candles(bars)] == found


def test_a_saved_formula_is_a_function_like_any() -> None:
    calls = {f.name: (f.signature, f.kind, f.conditions) for f in Library(SAVED).functions()}
    assert calls == {
        "calm": ("calm(n=3)", "bool", ()),
        "middle": ("middle()", "number", ()),
        "spike": ("spike(x, n=20)", "bool", ()),
        "twice": ("twice(c)", "bool", ("c",)),
    }


@pytest.mark.parametrize(
    ("definition", "position", "words"),
    [
        ("x > 3", 0, "no name"),
        ("= close", 0, "no name"),
        ("close(x) = x", 0, "cannot be the name"),
        ("rsi(x) = x", 0, "cannot be the name"),
        ("f(high) = high", 2, "cannot be the name"),
        ("f(x, x) = x", 5, "twice"),
        ("f(n=3, x) = x", 7, "after a number"),
        ("f(x, n=y) = x", 5, "not a number"),
        ("f(x) = x + clse", 11, "clse is not known"),
        ("f(x) = ", 6, "ends too early"),
        ("f(x) = x[-1]", 9, "future"),
        ("f(x, n=0) = sma(x, n)", 19, "out of range"),
        ("f(x) = f(x)", 7, "uses itself"),
        ("spike(x) = calm()", 11, "uses itself"),
    ],
)
def test_a_wrong_definition_is_refused_where_it_is_wrong(definition: str, position: int, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Library(SAVED).with_(definition)
    assert caught.value.code == "bad_formula"
    assert words in f"{caught.value.text} {caught.value.hint}"
    assert caught.value.details["position"] == position, str(caught.value.text)


def test_a_mistake_inside_points_into_the_text_that_holds_it() -> None:
    library = Library({"slow": "slow(x, n=14) = sma(x, n)", "slower": "slower(x, n=9) = slow(slow(x, n), n)"})
    with pytest.raises(UsageError) as caught:
        parse("close > 3 and slower(close, 2.5) > 1", library=library)
    assert caught.value.details == {"position": 14, "inside": "slow", "inside_position": 23}
    assert "whole number" in str(caught.value.text)
    with pytest.raises(UsageError) as caught:
        parse("slowe(close) > 1", library=library)
    assert caught.value.details["nearest"] in ("slow", "slower")
    with pytest.raises(UsageError, match="is a function"):
        parse("slow > 1", library=library)


def test_formulas_that_call_one_another_many_times_are_understood_once() -> None:
    """Each calls the one before twice: written out it would be longer than anything."""
    chain = {f"f{k}": f"f{k}(x) = f{k - 1}(x) + f{k - 1}(x[1])" for k in range(1, 30)}
    formula = parse("f29(close)", library=Library({"f0": "f0(x) = x", **chain}))
    assert formula.first_value == 29
    assert len(formula.uses) == 30
    tree = {f"f{k}": f"f{k}(x) = f{k - 1}(sma(x, {k + 2})) + f{k - 1}(x * {k + 1})" for k in range(1, 30)}
    with pytest.raises(UsageError, match="too deep"):
        parse("f29(close)", library=Library({"f0": "f0(x) = x", **tree}))


def test_a_new_version_must_suit_those_that_use_it() -> None:
    library = Library(SAVED)
    with pytest.raises(UsageError):
        library.with_("twice(c, d) = c and d")  # calm gives it one argument
    grown, function = library.with_("twice(c) = c or c[1]")
    assert function.kind == "bool"
    assert grown.definitions["twice"] == "twice(c) = c or c[1]"
    assert library.definitions == SAVED


# ---------------------------------------------------------------- many parameters


def test_a_sweep_gives_what_each_formula_gives_alone() -> None:
    bars = walk(400)
    texts = [
        "cross_above(sma(close, fast), sma(close, slow))",
        "rsi(close, fast)",
        'at("5m", close) > sma(close, fast)',
    ]
    minute = timeframe("1m")
    sweep = Sweep(texts, bars, cache_bytes=10_000, timeframe=minute)  # so small that most is forgotten
    for fast in (2, 3, 5, 2, 8):
        for slow in (9, 13):
            values = {"fast": float(fast), "slow": float(slow)}
            for text, found in zip(texts, sweep.over(values), strict=True):
                alone = parse(text, values, timeframe=minute).over(bars)
                assert found.kind == alone.kind
                assert np.array_equal(found.data, alone.data, equal_nan=found.kind == "number")
    with pytest.raises(UsageError):
        sweep.over({"fast": 0, "slow": 9})
    assert sweep.over({"fast": 5, "slow": 9})[0].data.dtype == np.int8
