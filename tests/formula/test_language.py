"""What is understood, and how what is not is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.formula.series import of_closes
from watchhamster.core.ports import UsageError
from watchhamster.formula import functions, parse


@pytest.mark.parametrize(
    ("text", "closes", "value"),
    [
        ("close + 1", (5,), 6.0),
        ("-close ** 2", (3,), -9.0),
        ("close // 2 + close % 2", (7,), 4.0),
        ("-close // 2", (7,), -4.0),
        ("2 ** -close", (2,), 0.25),
        ("close ** -2", (2,), 0.25),
        ("close[2]", (1, 2, 3), 1.0),
        ("close[0]", (1, 2, 3), 3.0),
        ("close[1][1]", (1, 2, 3), 1.0),
        ("change(close)", (1, 4), 3.0),
        ("change(close, n=2)", (1, 4, 9), 8.0),
        ("highest(close, 2)", (9, 4, 5), 5.0),
        ("lowest(close, 1)", (9, 4, 5), 5.0),
        ("sma(close, timeperiod=2)", (9, 4, 6), 5.0),
        ("larger(close, close[1])", (9, 4), 9.0),
        ("smaller(close, 5)", (9,), 5.0),
        ("abs(-close)", (9,), 9.0),
        ("close\n  > 1\n and close < 3", (2,), True),
        ("1 < close < 3", (2,), True),
        ("1 < close < 3", (3,), False),
        ("not close > 1", (2,), False),
        ("close > 1 and close > 2 or close == 2", (2,), True),
        ("(close > close[1])[1]", (1, 2, 1), True),
        ("cross_above(close, 5)", (5, 6), True),
        ("cross_above(close, 5)", (6, 7), False),
        ("cross_below(close, 5)", (5, 4), True),
        ("cross_above(5, close)", (5, 4), True),
        ("bbands(close, 2)", (1, 3), 4.0),
        ("bbands(close, 2).middle", (1, 3), 2.0),
        ("1_000 * close", (2,), 2000.0),
    ],
)
def test_means_what_it_says(text: str, closes: tuple[float, ...], value: float | bool) -> None:
    assert parse(text).over(of_closes(*closes)).list()[-1] == value


@pytest.mark.parametrize(
    ("text", "closes", "value"),
    [
        ("close / (close - close)", (5,), None),  # x / 0
        ("(close - close) / (close - close)", (5,), None),  # 0 / 0
        ("sqrt(-close)", (5,), None),
        ("(-close) ** 0.5", (5,), None),
        ("close * 1e308 * 10", (5,), None),  # never infinite
        ("close[1] > 3", (5,), None),
        ("sma(close, 3)", (1, 2), None),
        ("close[1] > 3 and close < 0", (5,), False),  # Kleene: false decides
        ("close[1] > 3 or close > 0", (5,), True),
        ("close[1] > 3 and close > 0", (5,), None),
        ("close[1] > 3 or close < 0", (5,), None),
        ("not close[1] > 3", (5,), None),
        ("cross_above(close, 4)", (5,), None),
        ("cross_above(close, 6)", (5,), False),
    ],
)
def test_undefined_is_a_third_value(text: str, closes: tuple[float, ...], value: bool | None) -> None:
    values = parse(text).over(of_closes(*closes))
    assert values.list()[-1] is value
    assert bool(values.true[-1]) is (value is True)
    assert bool(values.defined[-1]) is (value is not None)


def test_an_undefined_value_in_the_middle_restarts_what_remembers() -> None:
    closes = [1.0, 2.0, 3.0, 0.0, 5.0, 6.0, 8.0]
    found = parse("ema(1 / close, 2)").over(of_closes(*closes)).list()
    assert found[:4] == [None, 0.75, pytest.approx((0.75 + 2 / 3) / 3), None]
    assert found[4:] == parse("ema(1 / close, 2)").over(of_closes(*closes[4:])).list()


def refused(text: str, **parameters: float) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse(text, parameters)
    assert caught.value.code == "bad_formula"
    assert str(caught.value.text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("", 0, "empty"),
        ("   ", 0, "empty"),
        ("close >", 7, "ends too early"),
        ("close 5", 6, "cannot be read"),
        ("close = 5", 6, "=="),
        ("close > 5 && open > 3", 10, "and"),
        ("close > 5 || open > 3", 10, "or"),
        ("(close > 3) & (open > 2)", 12, "and"),
        ("(close > 3) | (open > 2)", 12, "or"),
        ("!(close > 3)", 0, "not"),
        ("close > 5 AND open > 3", 10, "and"),
        ("close ? 1 : 2", 6, "no if"),
        ("close > 100,000", 0, "1000000"),
        ("roc(close) > 3%", 13, "percent"),
        ("(close > 5", 0, "not closed"),
        ("close > 5)", 9, "never opened"),
        ("close > 5; open", 9, "one expression"),
        ("close > 5 # high", 10, "Comments"),
        ("close[-1] > 3", 6, "future"),
        ("close[1.5] > 3", 6, "whole number"),
        ("close[open] > 3", 6, "plain number"),
        ("close[1:3] > 3", 0, "one number"),
        ("close[1000000] > 3", 6, "at most"),
        ("sma(close, 0) > 1", 11, "out of range"),
        ("sma(close, 1000000) > 1", 11, "100000"),
        ("sma(close, 2.5) > 1", 11, "whole number"),
        ("sma(close, open) > 1", 11, "not a series"),
        ("sma(20) > 1", 4, "series first"),
        ("sma() > 1", 0, "misses its argument x"),
        ("sma(close, 2, 3) > 1", 14, "2 arguments, not 3"),
        ("sma(close, period=3) > 1", 11, "no argument period"),
        ("sma(close, 3, timeperiod=3) > 1", 14, "given twice"),
        ("sma(timeperiod=3, close) > 1", 23, "named ones last"),
        ("sma(*close) > 1", 4, "not part"),
        ("atr(close, 14) > 1", 4, "whole bars"),
        ("sma > 1", 0, "is a function"),
        ("close(3) > 1", 0, "close[3]"),
        ("close > 5 and 3", 14, "condition is needed"),
        ("not close", 4, "condition is needed"),
        ("(close > 3) > 2", 1, "cannot be compared"),
        ("(close > 3) + 2", 1, "number is needed"),
        ("sma(close > 3, 2) > 1", 4, "number is needed"),
        ("True", 0, "never changes"),
        ("5", 0, "always 5"),
        ("1 + 1", 0, "always 2"),
        ("1 < 2", 2, "never changes"),
        ("cross_above(1, 2)", 0, "never changes"),
        ("close > close", 6, "same"),
        ("cross_above(sma(close, 3), sma(close,3))", 0, "same"),
        ("rsi(close, 14) > 200", 15, "never above 100"),
        ("-5 > volume", 3, "never below 0"),
        ("close / 0 > 1", 8, "divided by zero"),
        ("1e999 > close", 0, "too large"),
        ("close > 10 ** 400", 8, "no value"),
        ("'a' > close", 0, "without quotes"),
        ("close is open", 6, "comparison"),
        ("close @ open", 5, "operator"),
        ("~close", 0, "not"),
        ("close.high", 0, "dot"),
        ("sma(close, 3).upper > 1", 14, "one output"),
        ("(sma)(close)(3)", 0, "Only functions"),
        ("lambda: close", 0, "not part"),
        ("[close]", 0, "not part"),
        ("close if open > 1 else high", 0, "no if"),
        ("__import__('os')", 0, "not known"),
        ("close" + "[1]" * 500, 0, "too deep"),
        ("-" * 3000 + "close", 0, ""),
        ("(" * 300 + "close" + ")" * 300, 200, ""),
        ("close + " * 1000 + "1", 4000, "characters long"),
        ("\0close", 0, ""),
        ("종가 > 3", 0, "not known"),
        ("close > 3 and '한' == clse", 14, "without quotes"),
        ("\n\n  clse > 3", 4, "not known"),
    ],
)
def test_refuses_with_place_and_reason(text: str, position: int, words: str) -> None:
    error = refused(text)
    assert error.details["position"] == position, (str(error.text), str(error.hint))
    assert words in f"{error.text} {error.hint}"


@pytest.mark.parametrize(
    ("text", "position", "nearest"),
    [
        ("smaa(close, 3) > 1", 0, "sma"),
        ("close > clsoe[1]", 8, "close"),
        ("RSI(close, 14) < 30", 0, "rsi"),
        ("crossabove(close, open)", 0, "cross_above"),
        ("close > fst", 8, "fast"),
        ("macd(close).histt > 0", 12, "hist"),
        ("macd(close, fast=3).hist > 0", 12, "fastperiod"),
    ],
)
def test_names_the_nearest(text: str, position: int, nearest: str) -> None:
    error = refused(text, fast=3)
    assert error.details == {"position": position, "nearest": nearest}
    assert nearest in str(error.hint)


def test_positions_count_characters_not_bytes() -> None:
    assert refused("close > 3 and 가격 > clse").details["position"] == 14
    assert refused("close + '가격가격' + clse > 1").details["position"] == 8


def test_parameters_are_names_for_numbers() -> None:
    bars = of_closes(1, 2, 4, 8)
    formula = parse("sma(close, n)[lag]", {"n": 2, "lag": 1})
    assert formula.over(bars).list() == [None, None, 1.5, 3.0]
    assert formula.over(bars, {"n": 1}).list() == [None, 1.0, 2.0, 4.0]
    assert formula.parameters == {"n": 2, "lag": 1}
    assert "whole number" in str(refused("sma(close, n)", n=2.5).text)
    assert "future" in str(refused("close[n]", n=-1).text)
    assert "cannot be the name" in str(refused("close > 1", close=3).text)
    assert "finite" in str(refused("close > n", n=math.nan).text)
    with pytest.raises(UsageError):
        formula.over(bars, {"n": 0})


def test_parts_are_the_numbers_that_are_compared() -> None:
    formula = parse("cross_above(close, sma(close,20)) and rsi(close, 14) < 70 and 1 < close - open < 3")
    assert list(formula.parts) == ["close", "sma(close, 20)", "rsi(close, 14)", "close - open"]
    assert formula.kind == "bool"
    assert parse("close - open").kind == "number"


def test_warm_up_is_long_enough_to_forget() -> None:
    assert parse("close > 1").warm_up == 0
    assert parse("sma(close, 20)").warm_up == 19
    assert parse("sma(close, 20)[3]").warm_up == 22
    assert parse("rsi(close, 14)").warm_up == 514  # 36.7 n
    assert parse("ema(close, 20)").warm_up == 387  # 18.4 (n + 1)
    assert parse("ema(sma(close, 20), 20) > close[2]").warm_up == 406
    assert parse("rsi(close, 14)").first_value == 14
    assert parse("cross_above(close, sma(close, 20))").first_value == 20


@given(st.text(max_size=60))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        parse(text)
    except UsageError as error:
        assert error.code == "bad_formula"
        assert isinstance(position := error.details["position"], int)
        assert 0 <= position <= len(text)


_signs = "close open x 14 2.5 -1 ( ) [ ] , . + - * / // % ** < > == = and or not & if"
_pieces = [f.name for f in functions()] + _signs.split(" ")


@given(st.lists(st.sampled_from(_pieces), max_size=14).map(" ".join))
def test_any_shuffled_formula_is_understood_or_refused(text: str) -> None:
    try:
        parse(text)
    except UsageError as error:
        assert error.code == "bad_formula"
        assert isinstance(position := error.details["position"], int)
        assert 0 <= position <= len(text)
