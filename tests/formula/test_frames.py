"""Other bars than the given ones: longer timeframes, other instruments, days. Nothing is known before its time."""

from __future__ import annotations

import datetime as dt

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.formula.series import MINUTE_NS, bits, candles, walk
from watchhamster.core.bars import Bars
from watchhamster.core.ports import UsageError
from watchhamster.core.sessions import MARKETS, Calendar, SessionGrid
from watchhamster.core.timeframes import timeframe
from watchhamster.formula import Frame, Value, compile_many, parse

M1 = timeframe("1m")
HOUR = 60 * MINUTE_NS
DAY = 24 * HOUR
ETH = "upbit:KRW-ETH"
MANY = settings(max_examples=80, suppress_health_check=list(HealthCheck))


def at_minutes(minutes: list[int], seed: int = 1) -> Bars:
    """A walk whose bars open at these minutes."""
    return msgspec.structs.replace(walk(len(minutes), seed), open_ns=np.array(minutes, np.int64) * MINUTE_NS)


@st.composite
def sparse(draw: st.DrawFn, most: int = 80) -> Bars:
    """Minutes of which many are missing, over some hours, amounts absent here and there."""
    start = draw(st.sampled_from([0, 1, 7, 1435, 1439]))
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 2, 3, 7, 61, 1440]), max_size=most))
    bars = at_minutes([start + sum(steps[: k + 1]) for k in range(len(steps))], draw(st.integers(0, 50)))
    for place in draw(st.lists(st.integers(0, most), max_size=3)):
        if place < len(bars):
            bars.volume[place] = np.nan
    if draw(st.booleans()):
        bars = msgspec.structs.replace(bars, adjustment=np.linspace(0.5, 1.0, len(bars)))
    return bars


_texts = st.sampled_from(
    [
        'at("5m", close)',
        'at("5m", close)[1]',
        'at("5m", ema(close, 3)) - close',
        'at("5m", close > open) and close > open',
        'at("15m", at("1h", high)[1] - low)',
        'at("5m", macd(close, 2, 3, 2).hist)',
        'at("5m", volume)',
        'at("5m", adjusted(close))',
        "adjusted(close)",
        'at("3m", today.volume) + at("1h", previous_day.high)',
        f'of("{ETH}", close)',
        f'of("{ETH}", sma(close, 3) + close[1]) / close',
        f'of("{ETH}", at("5m", close))',
        f'at("5m", of("{ETH}", close))',
        f'at("5m", of("{ETH}", sma(close, 2)) > close)',
        f'of("{ETH}", today.high)',
        "today.open",
        "today.high - today.low",
        "today.volume + previous_day.volume",
        "today.close > previous_day.close",
        "sma(today.high, 3)[1]",
        'at("1d", close)',
        "since(close > today.open) + count(close > open, 3)",
        'at("1w", close) + at("1M", open)',
    ]
)


def stepped(text: str, bars: Bars, other: Bars, cut: int, *, early: bool) -> tuple[list[object], list[object]]:
    """What is pushed after a history of `cut` bars, and shown before; the other's bars come early or just in time."""
    formula = parse(text, timeframe=M1)
    waiting = candles(other)
    others = {frame: other.slice(0, 0) for frame in formula.given}
    if cut and others:
        known = int(np.searchsorted(other.open_ns, bars.open_ns[cut - 1], side="right"))
        others = {frame: other.slice(0, known) for frame in formula.given}
        waiting = waiting[known:]
    stepper = formula.stepper(history=bars.slice(0, cut), others=others)
    shown, pushed = [], []
    for bar in candles(bars)[cut:]:
        while formula.given and waiting and (early or waiting[0].open_ns <= bar.open_ns):
            stepper.feed(Frame(ETH), waiting.pop(0))
        shown.append(bits(stepper.peek(bar)))
        assert bits(stepper.peek(bar)) == shown[-1]
        pushed.append(bits(stepper.push(bar)))
    return pushed, shown


@MANY
@given(_texts, sparse(), sparse(), st.integers(0, 80), st.booleans())
def test_both_evaluators_agree_and_none_sees_the_future(
    text: str, bars: Bars, other: Bars, cut: int, early: bool
) -> None:
    cut = min(cut, len(bars))
    formula = parse(text, timeframe=M1)
    others = dict.fromkeys(formula.given, other)
    whole = [bits(x) for x in formula.over(bars, others=others).list()]
    assert [bits(x) for x in formula.over(bars.slice(0, cut), others=others).list()] == whole[:cut]
    for begin in (0, cut):
        pushed, shown = stepped(text, bars, other, begin, early=early)
        assert pushed == whole[begin:]
        assert shown == pushed


@MANY
@given(sparse(), st.sampled_from(["3m", "5m", "1h", "1d"]))
def test_a_longer_bar_is_known_from_its_close_on(bars: Bars, name: str) -> None:
    """Against the plainest reading: of each bar, which longer bars are over, and what was their last close."""
    longer = timeframe(name)
    found = parse(f'at("{name}", close)', timeframe=M1).over(bars).list()
    times, closes = bars.open_ns.tolist(), bars.close.tolist()
    for at, (open_ns, value) in enumerate(zip(times, found, strict=True)):
        known: Value = None
        for t, close in zip(times[: at + 1], closes, strict=False):
            opened = longer.open_ns(t)
            whole = opened != longer.open_ns(times[0]) or times[0] == opened
            if whole and longer.next_ns(t - t % longer.ns if longer.ns else t) <= open_ns + MINUTE_NS:
                known = close
        assert value == known


def test_a_longer_bar_counts_from_the_bar_that_ends_it() -> None:
    bars = at_minutes(list(range(12)))
    found = parse('at("5m", close)', timeframe=M1).over(bars).list()
    assert found == [None] * 4 + [bars.close[4]] * 5 + [bars.close[9]] * 3
    late = at_minutes([0, 1, 2, 6, 7])  # nothing traded at its end: it is over when a later bar opens
    found = parse('at("5m", close)', timeframe=M1).over(late).list()
    assert found == [None, None, None, late.close[2], late.close[2]]
    begun = parse('at("5m", close)', timeframe=M1).over(at_minutes(list(range(2, 12)))).list()
    assert begun[:7] == [None] * 7  # what began before the first bar is not complete


def test_longer_bars_may_be_given() -> None:
    bars, hours = at_minutes(list(range(60, 180))), at_minutes([0, 60, 120])
    found = parse('at("1h", close)', timeframe=M1).over(bars, others={Frame("", "1h"): hours}).list()
    assert found == [hours.close[0]] * 59 + [hours.close[1]] * 60 + [hours.close[2]]
    formula = parse('at("1h", close)', timeframe=M1)
    stepper = formula.stepper(others={Frame("", "1h"): hours.slice(0, 0)})
    for hour in candles(hours):
        stepper.feed(Frame("", "1h"), hour)
    assert [stepper.push(bar) for bar in candles(bars)] == found


def test_another_instrument_is_read_up_to_the_same_close() -> None:
    bars, other = at_minutes([1, 2, 5, 9]), at_minutes([0, 2, 3, 6, 10], 2)
    found = parse(f'of("{ETH}", close)', timeframe=M1).over(bars, others={Frame(ETH): other}).list()
    assert found == [other.close[0], other.close[1], other.close[2], other.close[3]]
    assert parse(f'of("{ETH}", close)', timeframe=M1).over(bars).list() == [None] * 4
    assert parse(f'of("{ETH}", close)', timeframe=M1).given == (Frame(ETH),)


def test_what_another_instrument_did_not_trade_is_over_in_time() -> None:
    """Its five minutes end with ours, though nothing came that ends them."""
    bars, other = at_minutes([5, 7, 9, 10]), at_minutes([0, 5], 2)
    text = f'at("5m", of("{ETH}", close))'
    found = parse(text, timeframe=M1).over(bars, others={Frame(ETH): other}).list()
    assert found == [None, None, other.close[1], other.close[1]]
    assert stepped(text, bars, other, 0, early=False)[0] == [bits(value) for value in found]


def test_days_begin_where_the_grid_says() -> None:
    minutes = [1438, 1439, 1440, 1441, 2880]
    bars = at_minutes(minutes)
    assert parse("today.open").over(bars).list() == [None, None, *[bars.open[2]] * 2, bars.open[4]]
    assert parse("previous_day.close").over(bars).list() == [None] * 4 + [bars.close[3]]
    assert parse("today.volume").over(bars).list()[2:4] == [bars.volume[2], bars.volume[2] + bars.volume[3]]
    assert parse("today.high").over(bars).list()[3] == max(bars.high[2], bars.high[3])


def test_sessions_follow_the_markets_calendar() -> None:
    """New York, from Friday's opening to Monday's: hours are counted from 09:30, and the first day is whole."""
    grid = SessionGrid(Calendar(MARKETS["XNYS"]))
    friday = int(dt.datetime(2024, 7, 12, 13, 30, tzinfo=dt.UTC).timestamp()) // 60
    bars = at_minutes([*range(friday, friday + 390), *range(friday + 3 * 1440, friday + 3 * 1440 + 61)])
    for text, at, value in (
        ("today.open", 5, bars.open[0]),
        ("today.open", 400, bars.open[390]),
        ("previous_day.close", 389, None),
        ("previous_day.close", 390, bars.close[389]),
        ('at("1h", close)', 58, None),
        ('at("1h", close)', 59, bars.close[59]),
        ('at("1h", close)', 389, bars.close[389]),  # the last hour of the day is half as long
        ('at("1d", high)', 388, None),
        ('at("1d", high)', 450, bars.high[:390].max()),
    ):
        formula = parse(text, timeframe=M1, grids=lambda _instrument: grid)
        found = formula.over(bars).list()
        assert found[at] == value, (text, at)
        stepper = formula.stepper()
        assert [stepper.push(bar) for bar in candles(bars)] == found
        stepper = formula.stepper(history=bars.slice(0, 395))
        assert [stepper.push(bar) for bar in candles(bars)[395:]] == found[395:]


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ('at("1m", close) > 1', 3, "not longer than the bars, which are 5m"),
        ('at("5m", close) > 1', 3, "not longer"),
        ('at("7m", close) > 1', 3, "whole number of bars"),
        ('at("1hh", close) > 1', 3, "not a timeframe"),
        ('at("1h", at("15m", close)) > 1', 12, "which are 1h"),
        ("at(close, 5) > 1", 3, "in quotes"),
        ('at("1h") > 1', 0, "misses its argument x"),
        ('at("1h", 5) > 1', 9, "plain number"),
        ('of("KRW-ETH", close) > 1', 3, "no bars of KRW-ETH"),
        ('of("upbit:KRW-ETX", close) > 1', 3, "upbit:KRW-ETH"),
        ('of("upbit:KRW-ETH", of("upbit:KRW-ETH", close)) > 1', 23, "inside another"),
        ('of("upbit:KRW-ETH", spread) > 1', 20, "present bars"),
        ("today > 1", 0, "today.open"),
        ("today.hihg > 1", 6, "high"),
        ("previous_day.value > 1", 13, "no output value"),
        ("entry_price > 1", 0, "exits"),
        ("close >= low", 6, "never"),
        ("low > open", 4, "never"),
    ],
)
def test_refuses_with_place_and_reason(text: str, position: int, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, timeframe=timeframe("5m"), instruments=[ETH])
    assert caught.value.details["position"] == position, str(caught.value.text)
    assert words in f"{caught.value.text} {caught.value.hint}"


def test_bars_of_an_unknown_length_have_no_longer_ones() -> None:
    formula = parse('at("1h", close) > 1')
    with pytest.raises(UsageError, match="how long the bars are"):
        formula.over(walk(3))
    with pytest.raises(UsageError, match="how long the bars are"):
        formula.stepper()


def test_warm_up_counts_our_bars() -> None:
    assert parse('at("1h", sma(close, 20))', timeframe=M1).warm_up == 20 * 60
    assert parse("today.open", timeframe=timeframe("1h")).warm_up == 25
    assert parse(f'of("{ETH}", sma(close, 20))', timeframe=M1).warm_up == 19


def test_inputs_and_live_fields_come_with_each_bar() -> None:
    bars = walk(3)
    formula = parse("profit_pct > 2 and close > entry_price", inputs=("profit_pct", "entry_price"))
    given = {"profit_pct": np.array([1.0, 3.0, np.nan]), "entry_price": np.full(3, 0.5)}
    assert formula.over(bars, inputs=given).list() == [False, True, None]
    stepper = formula.stepper()
    found = []
    for k, bar in enumerate(candles(bars)):
        found.append(stepper.push(bar, {name: float(column[k]) for name, column in given.items()}))
    assert found == [False, True, None]
    assert parse("spread / close").over(bars).list() == [None] * 3
    assert parse("spread").stepper().push(candles(bars)[0], {"spread": 0.5}) == 0.5
    for text in ("sma(profit_pct, 3) > 1", "profit_pct[1] > 1", "cross_above(profit_pct, 3)"):
        with pytest.raises(UsageError, match="position"):
            parse(text, inputs=("profit_pct",))


def test_what_depends_on_inputs_can_be_asked_bar_by_bar() -> None:
    """The rest is evaluated beforehand; the bits are those of the other two evaluators."""
    bars = walk(60)
    texts = [
        "profit_pct > atr(3) / close * 100 and close < sma(close, 5)",
        "close > 1",
        "-bars_held",
        "(close - 1) ** 3",
    ]
    program = compile_many(texts, inputs=("profit_pct", "bars_held"))
    rng = np.random.default_rng(3)
    given = {"profit_pct": rng.normal(size=60), "bars_held": np.arange(60.0)}
    given["profit_pct"][7] = np.nan
    whole = list(zip(*(values.list() for values in program.over(bars, inputs=given)), strict=True))
    rows = [{name: float(column[k]) for name, column in given.items()} for k in range(60)]
    moments, stepper = program.moments(bars), program.stepper()
    for k, bar in enumerate(candles(bars)):
        expected = [bits(x) for x in whole[k]]
        assert [bits(x) for x in moments.at(k, rows[k])] == expected
        assert [bits(x) for x in stepper.push(bar, rows[k])] == expected
    assert [bits(x) for x in moments.at(9, rows[9])] == [bits(x) for x in whole[9]]  # in any order
    assert parse(texts[0], inputs=("profit_pct",)).fleeting
