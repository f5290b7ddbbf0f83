"""What holds for every run: prefixes, scales, books, live and past, order, finer bars, what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backtest.bars import BTC, DOCUMENTS, FLAT, MINUTE_NS, Row, bars_of, document, run, strategy, walk
from watchhamster.backtest import ledger
from watchhamster.backtest.account import Account
from watchhamster.backtest.metrics import digest
from watchhamster.backtest.results import Result
from watchhamster.backtest.run import History, InstrumentRules, Signals, backtest, looks_ahead, sweep
from watchhamster.backtest.strategy import Parameter, Strategy
from watchhamster.backtest.trust import Change
from watchhamster.core.bars import Bars
from watchhamster.core.instruments import PriceSteps
from watchhamster.core.ports import UsageError

ETH = "upbit:KRW-ETH"
EVERY = pytest.mark.parametrize("name", DOCUMENTS)
COSTLY = InstrumentRules(taker_percent=Decimal("0.05"), maker_percent=Decimal("0.04"), lot=Decimal("0.0001"))
TICKS = InstrumentRules(
    steps=PriceSteps((Decimal(0), Decimal(100)), (Decimal("0.01"), Decimal("0.05"))),
    lot=Decimal("0.001"),
    least_total=Decimal(20),
    taker_percent=Decimal("0.1"),
    maker_percent=Decimal("0.02"),
    least_fee=Decimal("0.01"),
)


def plain(result: Result) -> dict[str, Any]:
    """A result as what it says, curves as bytes."""
    found = {name: getattr(result, name) for name in result.__struct_fields__}
    curve = found.pop("curve")
    found["curve"] = [getattr(curve, name).tobytes() for name in curve.__struct_fields__]
    found["hold"] = result.hold.tobytes()
    return found


@EVERY
def test_it_trades_and_the_same_inputs_give_the_same_bytes(name: str) -> None:
    data = {BTC: walk(600, 3)}
    one, two = (backtest(DOCUMENTS[name], data, cash=10_000, rules={BTC: COSTLY}) for _ in range(2))
    assert len(one.trades) > 3
    assert plain(one) == plain(two)


@EVERY
def test_the_run_of_a_prefix_is_the_prefix_of_the_run(name: str) -> None:
    bars = walk(500, 5)
    whole = backtest(DOCUMENTS[name], {BTC: bars}, cash=10_000)
    for count in (77, 200, 351):
        part = backtest(DOCUMENTS[name], {BTC: bars.slice(0, count)}, cash=10_000)
        assert part.curve.equity.tobytes() == whole.curve.equity[:count].tobytes()
        assert part.fills == whole.fills[: len(part.fills)]
        assert all(fill.at_ns >= bars.open_ns[count] for fill in whole.fills[len(part.fills) :])


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if DOCUMENTS[name].entry.size.money is None])
def test_twice_the_prices_and_the_cash_is_twice_the_equity(name: str) -> None:
    bars = walk(400, 8)
    prices = {column: getattr(bars, column) * 2.0 for column in ("open", "high", "low", "close")}
    one = backtest(DOCUMENTS[name], {BTC: bars}, cash=10_000)
    two = backtest(DOCUMENTS[name], {BTC: msgspec.structs.replace(bars, **prices)}, cash=20_000)
    assert len(one.fills) == len(two.fills) > 0
    assert (one.curve.equity * 2.0).tobytes() == two.curve.equity.tobytes()


@EVERY
@pytest.mark.parametrize("rules", [COSTLY, TICKS], ids=["lots", "ticks"])
def test_the_books_balance(name: str, rules: InstrumentRules) -> None:
    bars = walk(700, 11)
    result = backtest(DOCUMENTS[name], {BTC: bars}, cash=10_000, rules={BTC: rules})
    balance = ledger.replay(result.cash, result.fills)
    borrowed = DOCUMENTS[name].costs.borrow_percent and result.open_trades
    if not borrowed:  # what a short owes so far is in the equity, and paid with its exit
        assert abs(ledger.difference(result, {BTC: float(bars.close[-1])})) <= balance.moved * Decimal("1e-12")
    profits = sum(Decimal(repr(trade.profit)) for trade in result.trades)
    if not result.open_trades:
        assert abs(balance.cash - Decimal(10_000) - profits) <= balance.moved * Decimal("1e-12")


def on_grid(bars: Bars) -> Bars:
    """Bars at prices the venue knows."""
    assert TICKS.steps is not None
    columns = {name: getattr(bars, name) for name in ("open", "high", "low", "close")}
    rounded = {name: np.array([TICKS.steps.round(x) for x in column.tolist()]) for name, column in columns.items()}
    return msgspec.structs.replace(bars, **rounded)


@EVERY
def test_what_is_filled_is_what_the_venue_takes(name: str) -> None:
    result = backtest(DOCUMENTS[name], {BTC: on_grid(walk(700, 11))}, cash=10_000, rules={BTC: TICKS})
    assert result.fills
    for fill in result.fills:
        price, size = Decimal(repr(fill.price)), Decimal(repr(fill.size))
        assert TICKS.steps is not None
        if fill.reason != "liquidated":
            assert price % TICKS.steps.step(price) == 0
        assert size % Decimal("0.001") == 0
        if fill.reason == "entry":
            assert price * size >= 20


@EVERY
def test_bar_by_bar_it_does_what_its_backtest_does(name: str) -> None:
    bars = walk(500, 21)
    history = 60
    past = backtest(
        DOCUMENTS[name], {BTC: bars}, cash=10_000, rules={BTC: TICKS}, since_ns=int(bars.open_ns[history]),
        first_bar_ns=0,
    )  # fmt: skip
    account = Account(
        DOCUMENTS[name], [BTC], "1m", cash=10_000, rules={BTC: TICKS}, history={BTC: bars.slice(0, history)}
    )
    fills, refused, equity = [], [], []
    for candle in bars.slice(history, len(bars)).candles(BTC, "1m", "live"):
        filled, no = account.step({BTC: candle})
        fills += filled
        refused += no
        equity.append(account.equity)
    assert tuple(fills) == past.fills
    assert fills
    assert tuple(refused) == past.refused
    assert tuple(account.pending) == past.pending
    assert np.array(equity).tobytes() == past.curve.equity.tobytes()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    often=st.sampled_from([2, 5, 20]),
    both=st.booleans(),
    entry=st.sampled_from([{}, {"cooldown_bars": 2}, {"max_entries": 2, "size": {"cash_percent": 40}}]),
    share=st.sampled_from([1.0, 0.5]),
    protect=st.sampled_from(
        [{}, {"stop_percent": 0.4}, {"stop_percent": 0.5, "target_percent": 0.6}, {"trailing_percent": 0.7},
         {"max_bars": 3}]
    ),
)  # fmt: skip
def test_what_is_skipped_would_have_done_nothing(
    seed: int, often: int, both: bool, entry: dict[str, Any], share: float, protect: dict[str, Any]
) -> None:
    """A run takes the short way over quiet bars and the commonest events; an account takes every step."""
    bars = walk(160, seed)
    rng = np.random.default_rng(seed)
    bars = msgspec.structs.replace(bars, volume=1.0 + rng.integers(0, often, len(bars)))
    tried = document(
        entry={"long": "volume == 1", **({"short": "volume == 3"} if both else {}), **entry},
        exit=[{"name": "first", "when": "volume == 2", "share": share}, {"name": "all", "when": "volume == 3"}],
        protect=protect,
        costs={"fee_percent": 0.05, "slippage": {"ticks": 1}},
    )
    past = backtest(tried, {BTC: bars}, cash=10_000, rules={BTC: TICKS})
    account = Account(tried, [BTC], "1m", cash=10_000, rules={BTC: TICKS})
    fills, refused, equity = [], [], []
    for candle in bars.candles(BTC, "1m", "live"):
        filled, no = account.step({BTC: candle})
        fills += filled
        refused += no
        equity.append(account.equity)
    assert tuple(fills) == past.fills
    assert tuple(refused) == past.refused
    assert tuple(account.pending) == past.pending
    assert np.array(equity).tobytes() == past.curve.equity.tobytes()


def several(count: int = 400) -> dict[str, Bars]:
    """Instruments whose bars do not all exist."""
    data = {}
    for number in range(4):
        bars = walk(count, 30 + number, 50.0 * (number + 1))
        keep = np.random.default_rng(number).random(count) > 0.1 * number
        data[f"upbit:KRW-{number}"] = Bars(*(getattr(bars, name)[keep] for name in bars.__struct_fields__[:-1]))
    return data


@EVERY
def test_several_in_one_purse_bar_by_bar(name: str) -> None:
    data = several()
    past = backtest(DOCUMENTS[name], data, cash=10_000)
    account = Account(DOCUMENTS[name], list(data), "1m", cash=10_000)
    moments: dict[int, dict[str, Any]] = {}
    for instrument, bars in data.items():
        for candle in bars.candles(instrument, "1m", "live"):
            moments.setdefault(candle.open_ns, {})[instrument] = candle
    fills, equity = [], []
    for at_ns in sorted(moments):
        fills += account.step(moments[at_ns])[0]
        equity.append(account.equity)
    assert tuple(fills) == past.fills
    assert len({fill.instrument for fill in fills}) >= 2
    assert np.array(equity).tobytes() == past.curve.equity.tobytes()


def test_the_order_of_instruments_does_not_matter_while_the_cash_suffices() -> None:
    data = several()
    small = msgspec.structs.replace(DOCUMENTS["reversing"], entry=msgspec.structs.replace(
        DOCUMENTS["reversing"].entry, size=msgspec.convert({"equity_percent": 5}, type(DOCUMENTS["cross"].entry.size))
    ))  # fmt: skip
    one = backtest(small, data, cash=10_000)
    two = backtest(small, dict(reversed(data.items())), cash=10_000)
    assert len(one.fills) == len(two.fills) > 20
    np.testing.assert_allclose(one.curve.equity, two.curve.equity, rtol=1e-12)


def test_the_highest_score_is_bought_first_and_there_are_only_so_many_positions() -> None:
    rising = {f"x:{n}": bars_of([(100 + n, 101 + n, 99 + n, 100 + n)] * 8, [1]) for n in range(4)}
    scored = strategy(entry={"size": {"equity_percent": 40}, "score": "close"}, limits={"max_positions": 2})
    result = backtest(scored, rising, cash=1000)
    assert [fill.instrument for fill in result.fills] == ["x:3", "x:2"]
    assert [(order.instrument, order.reason) for order in result.refused] == [
        ("x:1", "positions"),
        ("x:0", "positions"),
    ]
    assert result.curve.positions.tolist() == [0, 0, 2, 2, 2, 2, 2, 2]


def test_what_the_cash_does_not_reach_is_cut_then_refused() -> None:
    three = {f"x:{n}": bars_of([FLAT] * 8, [1]) for n in range(3)}
    result = backtest(strategy(entry={"size": {"money": 700}}), three, cash=1000)
    assert [(fill.instrument, fill.size) for fill in result.fills] == [("x:0", 7.0), ("x:1", 3.0)]
    assert [(o.instrument, o.reason, o.size) for o in result.refused] == [("x:1", "partial", 4.0), ("x:2", "cash", 7.0)]


def test_exits_free_their_cash_for_entries_of_the_same_open() -> None:
    data = {"x:0": bars_of([FLAT] * 8, [3]), "x:1": bars_of([FLAT] * 8, [0], [3])}
    result = backtest(strategy(), data, cash=1000)
    assert [(f.at_ns // MINUTE_NS, f.instrument, f.side) for f in result.fills] == [
        (1, "x:1", "buy"),
        (4, "x:1", "sell"),
        (4, "x:0", "buy"),
    ]


def test_nothing_larger_than_the_share_of_the_volume() -> None:
    bars = bars_of([FLAT] * 8, [1], [4])  # volume 1 (entry 2, exit 3)
    capped = strategy(entry={"size": {"amount": 9}}, costs={"slippage": {"volume_share": 0.5}})
    result = backtest(capped, {BTC: bars}, cash=1000)
    assert [(f.at_ns // MINUTE_NS, f.side, f.size) for f in result.fills] == [(2, "buy", 0.5), (5, "sell", 0.5)]
    assert [(o.reason, o.size) for o in result.refused] == [("volume", 8.5)]
    whole = msgspec.structs.replace(bars, volume=np.array([1.0, 2, 40, 1, 3, 1, 6, 8]))
    parts = backtest(
        msgspec.structs.replace(capped, exit=strategy().exit[:0], protect=msgspec.convert(
            {"max_bars": 2}, type(capped.protect))), {BTC: whole}, cash=1000,
    )  # fmt: skip
    assert [(f.at_ns // MINUTE_NS, f.side, f.size, f.reason) for f in parts.fills] == [
        (2, "buy", 9.0, "entry"),
        (4, "sell", 1.5, "time"),
        (5, "sell", 0.5, "time"),
        (6, "sell", 3.0, "time"),
        (7, "sell", 4.0, "time"),
    ]


def finer_of(rows: Mapping[int, list[tuple[float, float, float, float]]]) -> Bars:
    """Quarters of a minute inside some minutes."""
    flat = [
        (bar * MINUTE_NS + part * MINUTE_NS // 4, row) for bar, parts in rows.items() for part, row in enumerate(parts)
    ]
    o, h, lo, c = np.array([row for _, row in flat]).T.copy()
    return Bars(np.array([at for at, _ in flat]), o, h, lo, c, np.ones(len(flat)), np.ones(len(flat)))


def test_finer_bars_tell_what_came_first() -> None:
    both: dict[int, Row] = {4: (100, 105, 97, 99)}
    guard = {"stop_percent": 2, "target_percent": 4}
    blind = run(both, entries=[1], protect=guard)
    assert (blind.fills[1].reason, blind.ambiguous_bars) == ("stop", 1)
    up_first = {BTC: finer_of({4: [(100, 103, 100, 103), (103, 105, 102, 104), (104, 104, 97, 98), (98, 99, 98, 99)]})}
    told = run(both, entries=[1], protect=guard, options={"finer": up_first})
    assert (told.fills[1].reason, told.fills[1].price, told.ambiguous_bars) == ("target", 104.0, 0)
    incomplete = {BTC: finer_of({4: [(100, 103, 100, 103), (103, 104.5, 102, 104)]})}
    assert run(both, entries=[1], protect=guard, options={"finer": incomplete}).fills[1].reason == "stop"


def test_a_limit_filled_inside_looks_only_at_what_came_after() -> None:
    rows: dict[int, Row] = {2: (100, 101.5, 98.5, 100)}
    early = finer_of({2: [(100, 101.5, 100, 101), (101, 101, 98.5, 99), (99, 100, 99, 100), (100, 100.5, 99.5, 100)]})
    late = finer_of({2: [(100, 100, 98.5, 99), (99, 100, 99, 100), (100, 101.5, 100, 101), (101, 101, 100, 100)]})
    bought: dict[str, Any] = {
        "entry": {"size": {"amount": 10}, "limit": "close - 1"},
        "protect": {"target_percent": 2},
        "entries": [1],
    }
    assert [f.reason for f in run(rows, **bought).fills] == ["entry"]
    assert [f.reason for f in run(rows, options={"finer": {BTC: early}}, **bought).fills] == ["entry"]
    told = run(rows, options={"finer": {BTC: late}}, **bought).fills
    assert [(f.price, f.reason) for f in told] == [(99.0, "entry"), (pytest.approx(100.98), "target")]


def test_a_short_is_liquidated_where_its_equity_ends() -> None:
    result = run({4: (150, 250, 150, 240)}, entries=[1], side="short")
    assert [(f.at_ns // MINUTE_NS, f.side, f.price, f.reason) for f in result.fills] == [
        (2, "sell", 100.0, "entry"),
        (4, "buy", 200.0, "liquidated"),
    ]
    assert result.curve.equity[-1] == 0.0
    worse = run({4: (210, 250, 205, 240)}, entries=[1], side="short")
    assert worse.fills[1].price == 210.0


def test_spot_is_not_sold_short() -> None:
    result = run(entries=[1], side="short", rules=InstrumentRules(shortable=False))
    assert result.fills == ()
    assert [(order.side, order.reason) for order in result.refused] == [("sell", "short")]
    assert len(result.warnings) == 2


def test_what_still_waits_is_listed_and_what_is_open_is_no_trade() -> None:
    result = run(entries=[1, 7], exits=[7])
    assert [(o.at_ns // MINUTE_NS, o.side, o.reason) for o in result.pending] == [(7, "sell", "signal")]
    (open_trade,) = result.open_trades
    assert (result.trades, open_trade.exit_ns, open_trade.bars) == ((), None, 6)
    closed = run(entries=[1], options={"close_at_end": True})
    assert [(t.exit_reason, t.exit_price, t.bars) for t in closed.trades] == [("end", 100.0, 5)]
    assert closed.open_trades == ()


def test_trades_know_how_far_they_went() -> None:
    (trade,) = run({3: (100, 110, 95, 100)}, entries=[1], exits=[4], protect={"stop_percent": 8}).trades
    assert trade.best_percent == pytest.approx(10)
    assert trade.worst_percent == pytest.approx(-5)
    assert trade.risk == pytest.approx(80)
    assert (trade.profit, trade.bars) == (0.0, 3)


def test_nothing_is_decided_before_the_period() -> None:
    bars = bars_of([FLAT] * 12, [1, 6])
    result = backtest(strategy(), {BTC: bars}, cash=1000, since_ns=5 * MINUTE_NS, until_ns=10 * MINUTE_NS)
    assert [f.at_ns // MINUTE_NS for f in result.fills] == [7]
    assert (result.bars, len(result.curve), result.since_ns // MINUTE_NS) == (5, 5, 5)
    warm = backtest(DOCUMENTS["cross"], {BTC: walk(300, 2)}, since_ns=200 * MINUTE_NS)
    assert warm.first_bar_ns == (200 - 15) * MINUTE_NS


def test_holding_begins_where_the_strategy_could() -> None:
    bars = walk(100, 4)
    result = backtest(DOCUMENTS["cross"], {BTC: bars}, cash=1000.0)
    first = 16  # sma(15) and the bar before it, then the next open
    assert result.hold[first - 1] == 1000.0
    assert result.hold[-1] == pytest.approx(1000 / bars.open[first] * bars.close[-1])


@dataclasses.dataclass
class Python:
    """The cross in Python; a lag of -1 looks into the future."""

    document: Strategy
    lag: int = 0

    def signals(self, bars: Bars, parameters: Mapping[str, float]) -> Signals:
        fast, slow = (np.convolve(bars.close, np.ones(n) / n)[: len(bars)] for n in (5, 15))
        over = fast > slow
        over[:15] = False
        up = np.append(False, over[1:] & ~over[:-1])
        return Signals(long=np.roll(up, self.lag), exits={"dead cross": np.append(False, ~over[1:] & over[:-1])})


def test_a_strategy_in_python() -> None:
    own = Python(DOCUMENTS["cross"])
    bars = walk(300, 9)
    past = backtest(own, {BTC: bars}, cash=1000)
    assert [(f.at_ns, f.side) for f in past.fills] == [
        (f.at_ns, f.side) for f in backtest(DOCUMENTS["cross"], {BTC: bars}, cash=1000).fills
    ]
    account = Account(own, [BTC], "1m", cash=1000)
    fills = [fill for candle in bars.candles(BTC, "1m", "live") for fill in account.step({BTC: candle})[0]]
    assert tuple(fills) == past.fills
    assert looks_ahead(own, bars, {}) is None
    assert looks_ahead(Python(DOCUMENTS["cross"], -1), bars, {}) is not None


def test_harder_conditions() -> None:
    data = {BTC: walk(600, 3)}
    kind = {"cash": 10_000.0, "rules": {BTC: COSTLY}}
    base = backtest(DOCUMENTS["cross"], data, **kind)  # type: ignore[arg-type]
    dear = backtest(DOCUMENTS["cross"], data, **kind, change=Change(costs=2.0))  # type: ignore[arg-type]
    late = backtest(DOCUMENTS["cross"], data, **kind, change=Change(later_bars=1))  # type: ignore[arg-type]
    luck = backtest(DOCUMENTS["cross"], data, **kind, change=Change(random_entries=5))  # type: ignore[arg-type]
    assert dear.fills[0].fee == pytest.approx(2 * base.fills[0].fee, rel=1e-3)
    assert late.fills[0].at_ns == base.fills[0].at_ns + MINUTE_NS
    assert [f.at_ns for f in luck.fills] != [f.at_ns for f in base.fills]
    again = backtest(DOCUMENTS["cross"], data, **kind, change=Change(random_entries=5))  # type: ignore[arg-type]
    assert luck.fills == again.fills


@pytest.mark.parametrize(
    ("column", "value", "word"),
    [("open", 200.0, "outside"), ("close", np.nan, "missing"), ("low", -1.0, "missing"), ("high", np.inf, "missing")],
)
def test_a_wrong_bar_is_refused_by_name(column: str, value: float, word: str) -> None:
    bars = walk(50, 1)
    getattr(bars, column)[17] = value
    with pytest.raises(UsageError) as refused:
        History({BTC: bars}, "1m")
    assert refused.value.code == "bad_bar"
    assert refused.value.details["open_ns"] == 17 * MINUTE_NS
    assert word in str(refused.value)


@pytest.mark.parametrize(
    ("code", "data", "options"),
    [
        ("no_data", {}, {}),
        ("no_data", {BTC: Bars.empty()}, {}),
        ("no_data", {BTC: walk(50)}, {"since_ns": 10**18}),
        ("too_little_history", {BTC: walk(10)}, {}),
        ("bad_parameter", {BTC: walk(50)}, {"parameters": {"fats": 3}}),
        ("bad_cash", {BTC: walk(50)}, {"cash": 0.0}),
    ],
)
def test_runs_that_cannot_be(code: str, data: dict[str, Bars], options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refused:
        backtest(DOCUMENTS["cross"], data, **options)
    assert refused.value.code == code


def test_bars_without_trades_are_passed_over() -> None:
    bars = bars_of([FLAT] * 8, [1])
    bars.volume[2] = 0.0
    assert backtest(strategy(), {BTC: bars}, cash=1000).fills[0].at_ns == 3 * MINUTE_NS
    silent = msgspec.structs.replace(walk(100, 2), volume=np.zeros(100))
    assert backtest(DOCUMENTS["cross"], {BTC: silent}, cash=1000).fills


@settings(max_examples=40)
@given(
    name=st.sampled_from([name for name in DOCUMENTS if "short" not in str(DOCUMENTS[name].entry.short)]),
    seed=st.integers(0, 10_000),
    sigma=st.sampled_from([0.0, 0.001, 0.02, 0.2]),
    cash=st.sampled_from([1.0, 1000.0, 1e9]),
)
def test_the_cash_never_runs_out(name: str, seed: int, sigma: float, cash: float) -> None:
    bars = walk(150, seed, 100.0, sigma)
    result = backtest(DOCUMENTS[name], {BTC: bars}, cash=cash, rules={BTC: COSTLY})
    money, held = Decimal(repr(cash)), Decimal(0)
    for fill in result.fills:
        side = 1 if fill.side == "buy" else -1
        money -= side * Decimal(repr(fill.size)) * Decimal(repr(fill.price)) + Decimal(repr(fill.fee))
        held += side * Decimal(repr(fill.size))
        if DOCUMENTS[name].entry.short is None:
            assert money >= -Decimal(repr(cash)) * Decimal("1e-12")
            assert held >= -Decimal("1e-9")


@EVERY
def test_a_sweep_gives_what_single_runs_give(name: str) -> None:
    strategy = msgspec.structs.replace(
        DOCUMENTS[name],
        entry=msgspec.structs.replace(
            DOCUMENTS[name].entry, long=f"({DOCUMENTS[name].entry.long}) and close > sma(close, window)"
        ),
        parameters={"window": Parameter(5.0)},
    )
    bars = walk(700, 17)
    history = History({BTC: bars}, "1m", rules={BTC: COSTLY})
    sets = [{"window": float(window)} for window in (3, 9, 3, 40)]
    since_ns = int(bars.open_ns[100])
    found = list(sweep(strategy, history, sets, since_ns=since_ns, cash=10_000))
    for values, swept in zip(sets, found, strict=True):
        whole = backtest(strategy, history, parameters=values, since_ns=since_ns, cash=10_000)
        one = digest(whole)
        assert swept.parameters == whole.parameters
        assert [trade.entry_ns for trade in whole.trades] == swept.entry_ns.tolist()
        assert [trade.exit_ns for trade in whole.trades] == swept.exit_ns.tolist()
        for field in one.__struct_fields__:
            a, b = getattr(one, field), getattr(swept.digest, field)
            assert a.tobytes() == b.tobytes() if isinstance(a, np.ndarray) else a == b, field
