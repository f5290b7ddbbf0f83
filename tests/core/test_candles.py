"""Candles: any way of hearing of the trades gives the bits of a batch rebuild."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from watchhamster.core.bars import Bars
from watchhamster.core.candles import CandleBuilder, MinuteBuilder, build, fold, fold_bars
from watchhamster.core.market import Candle, Ticker, Trade
from watchhamster.core.sessions import MARKETS, Calendar, SessionGrid, always_open
from watchhamster.core.timeframes import SECOND_NS, timeframe

BTC = "upbit:KRW-BTC"
START = 1_700_000_000 * SECOND_NS
FRAMES = [timeframe(name) for name in ("1m", "3m", "1h", "1d")]


def trade(at_ns: int, id: int, price: float = 100.0, size: float = 1.0) -> Trade:
    return Trade(BTC, at_ns, None, id, price, size, "buy")


prices = st.floats(1e-8, 1e9, allow_nan=False)


@st.composite
def markets(draw: st.DrawFn) -> list[Trade]:
    """Trades with silences, several a millisecond, in venue order."""
    at, trades = START, []
    for id in range(draw(st.integers(1, 60))):
        at += draw(st.sampled_from((0, 1_000_000, 400_000_000, 1_000_000_000, 7_000_000_000, 65_000_000_000)))
        trades.append(trade(at, id, draw(prices), draw(prices)))
    return trades


def reference(trades: Sequence[Trade], name: str) -> list[Candle]:
    """The definition, written down without any of the builder's code."""
    seconds: dict[int, list[float]] = {}
    for t in sorted(trades, key=lambda t: (t.event_ns, t.id)):
        bar = seconds.setdefault(t.event_ns // SECOND_NS, [t.price, t.price, t.price, t.price, 0.0, 0.0])
        bar[1], bar[2], bar[3] = max(bar[1], t.price), min(bar[2], t.price), t.price
        bar[4], bar[5] = bar[4] + t.size, bar[5] + t.price * t.size
    length = {"1s": 1, "1m": 60, "3m": 180, "1h": 3600, "1d": 86400}[name]
    larger: dict[int, list[float]] = {}
    for second, (o, h, lo, c, v, q) in sorted(seconds.items()):
        bar = larger.setdefault(second // length * length, [o, h, lo, c, 0.0, 0.0])
        bar[1], bar[2], bar[3] = max(bar[1], h), min(bar[2], lo), c
        bar[4], bar[5] = bar[4] + v, bar[5] + q
    return [
        Candle(BTC, name, at * SECOND_NS, o, h, lo, c, v, q, True, "live")
        for at, (o, h, lo, c, v, q) in sorted(larger.items())
    ]


def latest(candles: Sequence[Candle]) -> dict[str, list[Candle]]:
    """The last word on each candle, without its revision."""
    last: dict[tuple[str, int], Candle] = {}
    for c in candles:
        assert c.closed
        before = last.get((c.timeframe, c.open_ns))
        assert before is None or c.revision > before.revision, "a candle is said again only when it was corrected"
        last[c.timeframe, c.open_ns] = c
    out: dict[str, list[Candle]] = {"1s": [], **{str(tf): [] for tf in FRAMES}}
    for (name, _open), c in sorted(last.items(), key=lambda item: item[0]):
        plain = Candle(c.instrument, name, c.open_ns, c.open, c.high, c.low, c.close, c.volume, c.value, True, "live")
        out[name].append(plain)
    return out


@given(markets())
def test_batch_is_the_definition(trades: list[Trade]) -> None:
    built = build(BTC, trades, FRAMES)
    for name, candles in built.items():
        assert candles == reference(trades, name)


@given(markets(), st.randoms(use_true_random=False), st.booleans())
def test_any_arrival_order_gives_the_batch(trades: list[Trade], random: object, duplicates: bool) -> None:
    """Late and repeated trades included, as far as the horizon reaches."""
    arriving = [*trades, *trades[::2]] if duplicates else list(trades)
    random.shuffle(arriving)  # type: ignore[attr-defined]
    builder = CandleBuilder(BTC, FRAMES, horizon_s=1e6)
    heard = [candle for t in arriving for candle in builder.add(t)]
    heard += builder.close_until(trades[-1].event_ns + 90_000 * SECOND_NS)
    assert builder.too_late == 0
    assert latest(heard) == build(BTC, trades, FRAMES)


@given(markets(), st.integers(0, 5))
def test_freezing_does_not_change_bits(trades: list[Trade], horizon_s: int) -> None:
    builder = CandleBuilder(BTC, FRAMES, horizon_s=horizon_s, trades_max=3)
    heard = [candle for t in trades for candle in builder.add(t)]
    heard += builder.close_until(trades[-1].event_ns + 90_000 * SECOND_NS)
    assert latest(heard) == build(BTC, trades, FRAMES)


@given(markets(), st.data())
def test_forming_is_the_batch_so_far(trades: list[Trade], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(trades)))
    builder = CandleBuilder(BTC, FRAMES, horizon_s=data.draw(st.sampled_from((0.0, 600.0))))
    for t in trades[:n]:
        builder.add(t)
    for tf in (timeframe("1s"), *FRAMES):
        so_far = reference(trades[:n], str(tf))[-1]
        forming = builder.forming(tf)
        assert forming is not None
        assert not forming.closed
        assert (forming.open_ns, forming.close, forming.high, forming.low) == (
            so_far.open_ns,
            so_far.close,
            so_far.high,
            so_far.low,
        )


def test_a_quiet_bar_closes_when_told_and_only_once() -> None:
    builder = CandleBuilder(BTC, FRAMES)
    minute = timeframe("1m").open_ns(START)
    assert builder.add(trade(minute + 5 * SECOND_NS, 1)) == []
    assert builder.close_until(minute + 5 * SECOND_NS + 999_999_999) == []
    assert [c.timeframe for c in builder.close_until(minute + 60 * SECOND_NS)] == ["1s", "1m"]
    assert builder.close_until(minute + 61 * SECOND_NS) == []
    assert builder.forming(timeframe("1m")) is None
    assert builder.forming(timeframe("1h")) is not None


def test_a_late_trade_corrects_what_was_closed() -> None:
    builder = CandleBuilder(BTC, [timeframe("1m")])
    minute = timeframe("1m").open_ns(START)
    builder.add(trade(minute + 1 * SECOND_NS, 1, 100.0))
    first = builder.add(trade(minute + 61 * SECOND_NS, 2, 101.0))
    assert [(c.timeframe, c.revision) for c in first] == [("1s", 0), ("1m", 0)]
    late = builder.add(trade(minute + 30 * SECOND_NS, 3, 150.0))
    assert [(c.timeframe, c.revision, c.high) for c in late] == [("1s", 1, 150.0), ("1m", 1, 150.0)]
    again = builder.add(trade(minute + 31 * SECOND_NS, 4, 160.0))
    assert [(c.timeframe, c.revision) for c in again] == [("1s", 1), ("1m", 2)]


def test_a_trade_past_the_horizon_is_refused_and_counted() -> None:
    builder = CandleBuilder(BTC, FRAMES, horizon_s=10)
    builder.add(trade(START, 1))
    builder.add(trade(START + 60 * SECOND_NS, 2))
    assert builder.add(trade(START + 1, 3)) == []
    assert builder.too_late == 1


def test_seeded_candles_begin_the_larger_ones() -> None:
    hour = timeframe("1h").open_ns(START)
    past = [trade(hour + s * SECOND_NS, s, 100.0 + s) for s in range(0, 600, 7)]
    live = [trade(hour + s * SECOND_NS, s, 50.0 + s) for s in range(600, 900, 11)]
    minutes = build(BTC, past, [timeframe("1m")])["1m"]
    builder = CandleBuilder(BTC, [timeframe("1h")])
    builder.seed(minutes, hour + 600 * SECOND_NS)
    for t in live:
        builder.add(t)
    (candle,) = [c for c in builder.close_until(hour + 3600 * SECOND_NS) if c.timeframe == "1h"]
    whole = build(BTC, past + live, [timeframe("1h")])["1h"][0]
    assert (candle.open, candle.high, candle.low, candle.close) == (whole.open, whole.high, whole.low, whole.close)
    assert candle.volume == len(past) + len(live)


def test_a_widened_builder_goes_on_where_the_narrow_one_was() -> None:
    """A timeframe asked for later has the candles it would have had from the start."""
    hour = timeframe("1h").open_ns(START)
    trades = [trade(hour + s * SECOND_NS + s * 1_000_000, s, 100.0 + s % 13) for s in range(0, 3000, 7)]
    narrow = CandleBuilder(BTC, [timeframe("1m")])
    minutes = [c for t in trades[:300] for c in narrow.add(t) if c.timeframe == "1m"]
    wide = narrow.widened([timeframe("1m"), timeframe("1h")], minutes[:-2], minutes[-2].open_ns)
    for t in trades[300:]:
        wide.add(t)
    (candle,) = [c for c in wide.close_until(hour + 3600 * SECOND_NS) if c.timeframe == "1h"]
    whole = build(BTC, trades, [timeframe("1h")])["1h"][0]
    assert (candle.open, candle.high, candle.low, candle.close) == (whole.open, whole.high, whole.low, whole.close)
    assert candle.volume == whole.volume


@given(markets())
def test_folding_columns_is_folding_candles(trades: list[Trade]) -> None:
    minutes = build(BTC, trades, [timeframe("1m")])["1m"]
    for name in ("3m", "1h", "1w", "1M"):
        folded = fold(minutes, timeframe(name))
        columns = fold_bars(Bars.of(minutes), timeframe(name))
        for field, column in zip(Bars.__struct_fields__, columns.__class__.__struct_fields__, strict=True):
            assert np.array_equal(getattr(columns, column), getattr(Bars.of(folded), field))


def test_folding_keeps_what_is_absent_absent() -> None:
    candle = Candle(
        BTC, "1m", START // (60 * SECOND_NS) * 60 * SECOND_NS, 1.0, 2.0, 0.5, 1.5, None, None, True, "import"
    )
    (folded,) = fold([candle], timeframe("1h"))
    assert folded.volume is None
    assert folded.value is None


def test_nothing_forms_before_the_first_trade() -> None:
    builder = CandleBuilder("upbit:KRW-BTC", [timeframe("1m")])
    assert builder.forming(timeframe("1s")) is None
    assert builder.forming(timeframe("1m")) is None


# ---------------------------------------------------------------- minutes from tickers

NEW_YORK = SessionGrid(Calendar(MARKETS["XNYS"], lambda _: {dt.date(2026, 11, 26): "Thanksgiving"}))
ALWAYS = SessionGrid(always_open())


def at(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp()) * SECOND_NS


def told(text: str, price: float, count: float | None, regular: float | None = None) -> Ticker:
    return ticker(at(text), price, count, regular)


def ticker(at_ns: int, price: float, count: float | None, regular: float | None = None) -> Ticker:
    return Ticker("x:A", at_ns, None, price, None, None, None, None, None, None, count, None, regular=regular)


def test_a_minute_has_what_the_count_grew_by() -> None:
    builder, day = MinuteBuilder("x:A"), "2026-08-26T11:{}-04:00"

    def add(clock: str, price: float, count: float | None) -> Candle:
        candle = builder.add(told(day.format(clock), price, count), NEW_YORK)
        assert candle is not None and not candle.closed and candle.origin == "live"
        return candle

    assert add("08:30", 100.0, 5_000_000).volume is None  # the minute's share of the count is not known
    first = add("09:01", 101.0, 5_000_050)
    assert (first.open_ns, first.open, first.volume) == (at(day.format("09:00")), 101.0, 50.0)
    assert add("09:20", 103.0, 5_000_080).volume == 80
    assert add("09:20", 103.0, 5_000_080).volume == 80  # repeated
    third = add("09:40", 100.0, None)
    assert (third.open, third.high, third.low, third.close, third.volume) == (101.0, 103.0, 100.0, 100.0, 80.0)
    assert builder.add(told(day.format("09:39"), 1.0, 1.0), NEW_YORK) is None  # late
    assert add("09:50", 100.5, 100).volume == 180  # the count began anew
    assert add("10:01", 100.25, 130).volume == 30
    assert add("11:00", 101.0, 9_000).volume == 8_870
    assert add("11:01", 101.0, 8_999).volume == 8_869  # slightly less is a correction
    assert add("30:00", 101.0, 20_000).volume is None  # after a silence the count tells of more than this minute
    assert add("31:00", 101.0, 20_001).volume == 1
    builder.lose()
    assert add("31:30", 101.0, 20_003).volume == 3  # the minute goes on
    builder.lose()
    assert add("32:30", 101.0, 20_103).volume is None


def test_a_session_begins_with_a_count_of_its_own_and_its_margins_have_no_minutes() -> None:
    builder = MinuteBuilder("x:A")
    assert builder.add(told("2026-11-25T15:59:58-05:00", 100.0, 5_000_000), NEW_YORK) is not None
    assert builder.add(told("2026-11-25T16:00:00-05:00", 99.0, 6_000_000), NEW_YORK) is None
    assert builder.add(told("2026-11-25T16:00:00-05:00", 99.0, 6_000_000, regular=100.0), NEW_YORK) is None
    assert builder.add(told("2026-11-26T12:00:00-05:00", 99.0, 6_000_000), NEW_YORK) is None  # Thanksgiving, untold
    first = builder.add(told("2026-11-27T09:30:01-05:00", 101.0, 4_900_000), NEW_YORK)
    assert first is not None and first.volume == 4_900_000  # no fall by half, and yet another day's
    assert first.open_ns == at("2026-11-27T09:30:00-05:00")
    later = builder.add(told("2026-11-30T09:31:01-05:00", 101.0, 300_000), NEW_YORK)
    assert later is not None and later.volume is None  # some of it is of the minute before


def test_a_count_of_24_hours_tells_nothing_of_a_minute() -> None:
    builder = MinuteBuilder("x:A")
    for second in range(3):
        candle = builder.add(told(f"2026-11-27T09:30:0{second}+00:00", 101.0, 1e6 + second), ALWAYS)
        assert candle is not None and candle.volume is None


@given(st.lists(st.integers(0, 500), min_size=2, max_size=200))
def test_volumes_of_minutes_add_up_to_the_days_count(growth: list[int]) -> None:
    builder, count = MinuteBuilder("x:A"), 1_000_000
    began_ns = at("2026-08-26T10:00:00-04:00")
    volumes: dict[int, float] = {}
    for step, more in enumerate([0, *growth]):
        count += more
        candle = builder.add(ticker(began_ns + step * 10 * SECOND_NS, 1.0, float(count)), NEW_YORK)
        assert candle is not None
        volumes[candle.open_ns] = candle.volume or 0.0
    assert sum(volumes.values()) == sum(growth[5:])  # those of the first minute are not known


# ---------------------------------------------------------------- on a grid of sessions


def test_bars_of_a_session_fold_on_its_own_grid() -> None:
    """Hours from 09:30, the last one cut; a half day ends early; days at local midnight on both sides of DST."""
    minutes = [
        Candle("x:A", "1m", begin_ns + n * 60 * SECOND_NS, 1.0, 2.0, 0.5, 1.5, 1.0, None, True, "backfill")
        for begin_ns, count in ((at("2026-10-30T09:30-04:00"), 390), (at("2026-11-02T09:30-05:00"), 210))
        for n in range(count)
    ]
    bars = Bars.of(minutes)
    for name, opens, volumes in (
        (
            "1h",
            [
                *(f"2026-10-30T{hour}:30-04:00" for hour in ("09", *range(10, 16))),
                *(f"2026-11-02T{hour}:30-05:00" for hour in ("09", 10, 11, 12)),
            ],
            [60.0] * 6 + [30.0] + [60.0] * 3 + [30.0],
        ),
        ("4h", ["2026-10-30T09:30-04:00", "2026-10-30T13:30-04:00", "2026-11-02T09:30-05:00"], [240.0, 150.0, 210.0]),
        ("1d", ["2026-10-30T00:00-04:00", "2026-11-02T00:00-05:00"], [390.0, 210.0]),
        ("1w", ["2026-10-26T00:00-04:00", "2026-11-02T00:00-05:00"], [390.0, 210.0]),
        ("1M", ["2026-10-01T00:00-04:00", "2026-11-01T00:00-04:00"], [390.0, 210.0]),
    ):
        folded = fold(minutes, timeframe(name), NEW_YORK)
        assert [(c.open_ns, c.volume) for c in folded] == list(zip(map(at, opens), volumes, strict=True)), name
        columns = fold_bars(bars, timeframe(name), NEW_YORK)
        assert columns.open_ns.tolist() == [c.open_ns for c in folded]
        assert columns.volume.tolist() == volumes
