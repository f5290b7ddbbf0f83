"""Rules and feeds under watch: what fires, when, how often, and what survives restarts, gaps and corrections."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.formula.series import candles, conditions, hostile_bars, of_closes
from watchhamster.core.bars import Bars
from watchhamster.core.market import Book, Candle, FeedChanged, FeedState, Trade
from watchhamster.core.ports import UsageError
from watchhamster.core.timeframes import SECOND_NS
from watchhamster.formula import Library
from watchhamster.monitor.alerts import Alert, Rule
from watchhamster.monitor.replay import Firing, replay
from watchhamster.monitor.watch import Wanted, Watch, check, price_rule

BTC = "upbit:KRW-BTC"
MINUTE_NS = 60 * SECOND_NS


def rule(formula: str = "close > 10", **changes: Any) -> Rule:
    return msgspec.structs.replace(
        Rule(id=7, name="Seven", formula=formula, instruments=(BTC,)),
        **changes,
    )


def bar(minute: int, close: float, *, closed: bool = True, revision: int = 0, high: float | None = None) -> Candle:
    top = close if high is None else high
    return Candle(BTC, "1m", minute * MINUTE_NS, close, top, close, close, 1.0, close, closed, "live", revision)


def watching(*rules: Rule, history: Bars | None = None) -> Watch:
    watch = Watch()
    assert watch.set_rules(rules) == []
    for wanted in watch.wanted():
        assert watch.warm(wanted.rule_id, wanted.instrument, history or Bars.empty()) == []
    return watch


def feed_all(watch: Watch, *bars: Candle) -> list[Alert]:
    return [alert for one in bars for alert in watch.observe(one)]


def moments(alerts: list[Alert]) -> list[tuple[int, int | None]]:
    """Minutes in which alerts fired and resolved."""
    return [(a.fired_ns // MINUTE_NS, a.resolved_ns and a.resolved_ns // MINUTE_NS) for a in alerts]


def test_a_life() -> None:
    watch = watching(rule())
    assert watch.needs() == {(BTC, "1m")}
    assert feed_all(watch, bar(0, 9)) == []
    (fired,) = feed_all(watch, bar(1, 11))
    assert (fired.kind, fired.rule_id, fired.key, fired.name) == ("rule", 7, f"rule:7:{BTC}", "Seven")
    assert (fired.fired_ns, fired.price, fired.values) == (2 * MINUTE_NS, 11.0, {"close": 11.0})
    assert str(fired.text) == "Seven: upbit:KRW-BTC at 11 (close = 11)."
    assert watch.states()[0].state == "firing"
    assert feed_all(watch, bar(2, 12)) == []
    (resolved,) = feed_all(watch, bar(3, 9))
    assert resolved == msgspec.structs.replace(fired, resolved_ns=4 * MINUTE_NS)
    assert moments(feed_all(watch, bar(4, 11))) == [(5, None)]


@pytest.mark.parametrize(
    ("close", "said"),
    [(135_979_000.0, "135,979,000"), (1.13e-06, "0.00000113"), (0.0194, "0.0194"), (1234.5, "1,234.5")],
)
def test_a_message_says_numbers_as_people_write_them(close: float, said: str) -> None:
    watch = watching(rule(formula="close > 0"))
    (fired,) = feed_all(watch, bar(0, close))
    assert str(fired.text) == f"Seven: upbit:KRW-BTC at {said} (close = {said})."


def test_history_told_anew_fires_nothing_and_misses_nothing() -> None:
    """A split: bars are in another scale from one minute to the next, and so is all that was before."""
    watch = watching(rule(formula="close < close[1] * 0.8"))
    assert feed_all(watch, bar(0, 100), bar(1, 100)) == []
    watch.reopen("upbit:KRW-ETH")
    assert watch.wanted() == []
    watch.reopen(BTC)
    assert feed_all(watch, bar(2, 50)) == []  # it waits for its history
    (wanted,) = watch.wanted()
    assert wanted.watched_until_ns == MINUTE_NS
    assert watch.warm(7, BTC, Bars.of([bar(0, 50), bar(1, 50), bar(2, 50)])) == []
    assert moments(feed_all(watch, bar(3, 25))) == [(4, None)]  # a fall indeed
    # One that came while history was on its way is told once it is there.
    watch = watching(rule(formula="close < close[1] * 0.8"))
    assert feed_all(watch, bar(0, 100), bar(1, 100)) == []
    watch.reopen(BTC)
    assert moments(watch.warm(7, BTC, Bars.of([bar(0, 50), bar(1, 50), bar(2, 25)]))) == [(3, None)]


def test_it_must_stay_true_for_so_long() -> None:
    watch = watching(rule(for_s=120))
    assert feed_all(watch, bar(0, 11), bar(1, 11), bar(2, 9), bar(3, 11), bar(4, 11)) == []
    assert watch.states()[0].state == "pending"
    assert moments(feed_all(watch, bar(5, 11))) == [(6, None)]


def test_it_stays_quiet_after_a_firing_and_then_speaks_if_it_still_holds() -> None:
    watch = watching(rule(cooldown_s=300))
    alerts = feed_all(watch, *(bar(i, x) for i, x in enumerate([11, 9, 11, 9, 11, 11, 11])))
    assert moments(alerts) == [(1, None), (1, 2), (6, None)]


def test_once_is_once_also_after_a_restart() -> None:
    watch = watching(rule(repeat=False))
    alerts = feed_all(watch, *(bar(i, x) for i, x in enumerate([11, 9, 11])))
    assert moments(alerts) == [(1, None), (1, 2)]
    assert watch.states()[0].spent
    again = Watch()
    again.restore(watch.state(), [])
    again.set_rules([rule(repeat=False)])
    again.warm(7, BTC, of_closes(11, 9, 11))
    assert feed_all(again, bar(3, 9), bar(4, 11)) == []


def test_history_fires_nothing() -> None:
    watch = watching(rule("cross_above(close, 10)"), history=of_closes(9, 11, 9, 11))
    assert feed_all(watch, bar(4, 12)) == []
    assert moments(feed_all(watch, bar(5, 9), bar(6, 11))) == [(7, None)]


def test_candles_wait_for_history_and_none_is_lost() -> None:
    watch = Watch()
    watch.set_rules([rule("cross_above(close, sma(close, 3))")])
    assert watch.wanted() == [Wanted(7, BTC, "1m", 4, None, None)]
    assert watch.states()[0].waiting
    assert feed_all(watch, bar(4, 9), bar(5, 20)) == []
    # the history was read a little later than the candles came: it may hold them too
    alerts = watch.warm(7, BTC, of_closes(9, 9, 9, 9, 9, 20))
    assert moments(alerts) == [(6, None)]
    assert watch.wanted() == []
    assert moments(feed_all(watch, bar(6, 5))) == [(6, 7)]


@pytest.mark.parametrize("row_only", [False, True])
def test_a_restart_does_not_fire_twice_and_finds_what_it_missed(row_only: bool) -> None:
    first = watching(rule())
    (fired,) = feed_all(first, bar(0, 11))
    row = msgspec.structs.replace(fired, id=42, acknowledged_ns=5)
    second = Watch()
    second.restore(None if row_only else first.state(), [row])
    second.set_rules([rule()])
    assert second.states()[0].state == "firing"
    assert second.wanted()[0].watched_until_ns == 0
    # off for minutes 1 to 4: it resolved in one and fired again in another
    alerts = second.warm(7, BTC, of_closes(11, 11, 9, 12, 12), now_ns=600 * SECOND_NS)
    assert moments(alerts) == [(1, 3), (4, None)]
    assert (alerts[0].id, alerts[0].acknowledged_ns, alerts[0].late_s) == (42, 5, 0.0)
    assert (alerts[1].id, alerts[1].late_s) == (None, 360.0)
    assert feed_all(second, bar(5, 12)) == []


def test_an_unreadable_state_and_alerts_without_a_rule() -> None:
    first = watching(rule())
    (fired,) = feed_all(first, bar(0, 11))
    second = Watch()
    orphan = msgspec.structs.replace(fired, rule_id=99, id=5)
    second.restore(b"{not a state", [msgspec.structs.replace(fired, id=4), orphan])
    (gone,) = second.set_rules([rule()], 90 * SECOND_NS)
    assert (gone.id, gone.resolved_ns) == (5, 90 * SECOND_NS)
    assert second.states()[0].state == "firing"
    assert second.set_rules([rule()]) == []


def test_a_correction_marks_the_alert_and_changes_nothing_else() -> None:
    watch = watching(rule("close > close[1] + 5"), history=of_closes(10))
    (fired,) = feed_all(watch, bar(1, 20))
    assert feed_all(watch, bar(1, 20)) == []  # the same again
    (marked,) = feed_all(watch, bar(1, 11, revision=1))
    assert marked == msgspec.structs.replace(fired, revised=True)
    assert watch.states()[0].state == "firing"
    (resolved,) = feed_all(watch, bar(2, 16))  # 16 against 11: 5 is not more than 5, against 20 neither
    assert resolved.revised and resolved.resolved_ns == 3 * MINUTE_NS
    assert feed_all(watch, bar(2, 12, revision=1)) == []
    assert moments(feed_all(watch, bar(3, 18))) == [(4, None)]  # 18 against the corrected 12


def test_a_gap_filled_after_later_candles_still_fires_late() -> None:
    watch = watching(rule(), history=of_closes(9))
    assert feed_all(watch, bar(9, 9)) == []
    assert feed_all(watch, bar(3, 11), bar(4, 9), bar(5, 9)) == []
    (late,) = watch.observe(bar(10, 9), 11 * MINUTE_NS)
    assert moments([late]) == [(4, 5)]
    assert late.late_s == 7 * 60.0
    assert feed_all(watch, bar(11, 9)) == []


def test_a_gap_before_an_alert_is_not_a_second_alert() -> None:
    watch = watching(rule(), history=of_closes(9))
    assert moments(feed_all(watch, bar(9, 11))) == [(10, None)]
    assert feed_all(watch, bar(7, 11), bar(8, 12)) == []
    assert feed_all(watch, bar(10, 12)) == []
    assert moments(feed_all(watch, bar(11, 9))) == [(10, 12)]


def test_what_fired_in_a_gap_and_still_holds_becomes_the_rules_alert() -> None:
    watch = watching(rule("highest(close, 3) > 10"), history=of_closes(9, 9, 9))
    assert feed_all(watch, bar(6, 9), bar(4, 11)) == []
    (late,) = feed_all(watch, bar(7, 9))
    assert moments([late]) == [(5, None)]
    assert moments(feed_all(watch, bar(8, 9), bar(9, 9))) == [(5, 9)]


def test_forming_bars_fire_at_the_trade_and_once_a_bar() -> None:
    watch = watching(rule(forming=True), history=of_closes(9))

    def trade(at_ns: int) -> Trade:
        return Trade(BTC, at_ns, at_ns, at_ns, 11.0, 1.0, "buy")

    assert watch.observe(trade(MINUTE_NS + 7 * SECOND_NS)) == []
    (fired,) = feed_all(watch, bar(1, 11, closed=False))
    assert fired.fired_ns == 67 * SECOND_NS
    assert fired.late_s == 0
    flapping = [bar(1, x, closed=False) for x in (9, 11, 9, 11)]
    assert feed_all(watch, *flapping, bar(1, 11)) == []
    assert feed_all(watch, bar(2, 9, closed=False)) == []
    assert moments(feed_all(watch, bar(2, 9))) == [(1, 3)]
    closed_only = watching(rule(), history=of_closes(9))
    assert feed_all(closed_only, bar(1, 11, closed=False)) == []


def test_changed_rules() -> None:
    watch = watching(rule())
    (fired,) = feed_all(watch, bar(0, 11))
    watch.stored(msgspec.structs.replace(fired, id=3))
    assert watch.set_rules([rule(name="Renamed", channels=("inbox",))]) == []
    assert watch.states()[0].state == "firing"
    (gone,) = watch.set_rules([rule("close > 12")])
    assert (gone.id, gone.resolved_ns) == (3, MINUTE_NS)
    assert watch.states()[0].state == "inactive"
    assert len(watch.wanted()) == 1
    assert watch.set_rules([rule(enabled=False)]) == []
    assert watch.needs() == set()


def test_a_broken_rule_is_shown_and_the_others_go_on() -> None:
    watch = Watch()
    watch.set_rules([rule("clse > 3", id=1), rule("close", id=2), rule(timeframe="7x", id=3), rule(id=4)])
    states = {s.rule_id: s for s in watch.states()}
    assert [bool(states[k].error) for k in (1, 2, 3, 4)] == [True, True, True, False]
    assert watch.needs() == {(BTC, "1m")}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"formula": "close"}, "bad_formula"),
        ({"formula": "close >"}, "bad_formula"),
        ({"timeframe": "x"}, "bad_timeframe"),
        ({"instruments": ()}, "bad_rule"),
        ({"for_s": -1.0}, "bad_rule"),
        ({"cooldown_s": float("nan")}, "bad_rule"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(rule(**changes))
    assert caught.value.code == code


def test_a_price_rule_looks_at_what_the_price_has_to_reach() -> None:
    above = price_rule(BTC, 95_000_000.0, 94_000_000.0)
    assert (above.formula, above.name) == ("high >= 95000000", "upbit:KRW-BTC ≥ 95000000")
    assert (above.forming, above.repeat, above.cooldown_s) == (True, False, 0.0)
    below = price_rule(BTC, 0.00001, 0.5, repeat=True)
    assert below.formula == "low <= 1e-05"
    assert below.cooldown_s > 0
    # the open minute has been there already: only from now on counts
    assert price_rule(BTC, 10.0, 9.0, bar_high=11.0).formula == "close >= 10"
    assert price_rule(BTC, 10.0, 9.0, bar_high=9.5).formula == "high >= 10"
    check(below)
    watch = watching(msgspec.structs.replace(price_rule(BTC, 10.0, 9.0), id=1), history=of_closes(9))
    assert moments(feed_all(watch, bar(1, 9.5, closed=False), bar(1, 9.8, high=10.0))) == [(2, None)]


# ---------------------------------------------------------------- live is replay


def as_firings(alerts: list[Alert]) -> list[tuple[object, ...]]:
    found: dict[int, tuple[object, ...]] = {}
    for a in alerts:
        found[a.fired_ns] = (a.fired_ns, a.price, a.resolved_ns, a.values)
    return list(found.values())


def of(firing: Firing) -> tuple[object, ...]:
    return (firing.fired_ns, firing.price, firing.resolved_ns, firing.values)


@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@given(conditions, hostile_bars(), st.integers(0, 20), st.sampled_from([0, 60, 150]), st.sampled_from([0, 200]))
def test_live_fires_as_replay_does(text: str, bars: Bars, start: int, for_s: float, cooldown_s: float) -> None:
    tried = rule(text, for_s=for_s, cooldown_s=cooldown_s)
    try:
        check(tried)
    except UsageError:
        return
    watch = watching(tried, history=bars.slice(0, start))
    alerts = feed_all(watch, *candles(bars)[start:])
    found = replay(tried, bars, BTC, since_ns=start * MINUTE_NS)
    assert as_firings(alerts) == [of(f) for f in found.firings]


@settings(max_examples=120)
@given(
    st.lists(st.integers(8, 12), min_size=1, max_size=25),
    st.randoms(use_true_random=False),
    st.sampled_from([0, 60]),
    st.sampled_from([0, 180]),
    st.booleans(),
)
def test_whatever_comes_late_twice_or_corrected_a_moment_fires_once(
    closes: list[int], random: Any, for_s: float, cooldown_s: float, repeat: bool
) -> None:
    tried = rule("sma(close, 2) > 10", for_s=for_s, cooldown_s=cooldown_s, repeat=repeat)
    watch = watching(tried, history=of_closes(9))
    bars = [bar(minute + 1, close) for minute, close in enumerate(closes)]
    bars.sort(key=lambda b: b.open_ns + random.randrange(6) * MINUTE_NS)
    bars += random.choices(bars, k=5)
    bars += [msgspec.structs.replace(b, close=b.close + 1, revision=1) for b in random.choices(bars, k=5)]
    alerts = feed_all(watch, *bars, bar(100, 9), bar(101, 9), bar(102, 9))
    spans: dict[int, Alert] = {}
    for alert in alerts:
        known = spans.get(alert.fired_ns)
        assert known is None or known.resolved_ns is None or alert.revised  # told twice only to resolve or to mark it
        spans[alert.fired_ns] = alert
    assert all(a.resolved_ns is not None for a in spans.values())
    ordered = [spans[k] for k in sorted(spans)]
    assert all(a.resolved_ns <= b.fired_ns for a, b in pairwise(ordered) if a.resolved_ns)
    assert repeat or len(spans) <= 1


# ---------------------------------------------------------------- feeds


def feed(state: FeedState, at_s: float, instrument: str | None = None) -> FeedChanged:
    return FeedChanged(instrument, "upbit", state, int(at_s * SECOND_NS), "no_data")


def test_a_feed_is_told_once_each_way() -> None:
    watch = Watch()
    assert watch.observe(feed("live", 0)) == []
    assert watch.observe(feed("reconnecting", 100)) == []
    assert watch.tick(104 * SECOND_NS) == []
    (down,) = watch.tick(105 * SECOND_NS)
    assert (down.kind, down.key, down.severity, down.fired_ns) == ("feed", "feed:upbit", "critical", 100 * SECOND_NS)
    watch.stored(msgspec.structs.replace(down, id=9))
    assert watch.tick(106 * SECOND_NS) == []
    assert watch.observe(feed("stale", 110)) == []
    assert watch.observe(feed("recovered", 112)) == []
    assert watch.tick(120 * SECOND_NS) == []  # a notice a minute at most
    (up,) = watch.tick(166 * SECOND_NS)
    assert (up.id, up.resolved_ns) == (9, 112 * SECOND_NS)
    assert watch.tick(1000 * SECOND_NS) == []


def test_a_feed_that_was_not_told_down_is_not_told_up() -> None:
    watch = Watch()
    events = [feed("reconnecting", 10), feed("live", 11), feed("reconnecting", 12), feed("recovered", 14)]
    assert [a for e in events for a in watch.observe(e)] == []
    assert watch.tick(100 * SECOND_NS) == []


def test_a_mute_feed_is_told_at_once_and_one_carried_by_rest_is_not_down() -> None:
    watch = Watch()
    assert watch.observe(feed("reconnecting", 10)) == []
    assert watch.observe(feed("fallback", 12)) == []
    assert watch.tick(60 * SECOND_NS) == []
    (down,) = watch.observe(feed("stale", 70))
    assert down.resolved_ns is None


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.sampled_from(["live", "stale", "reconnecting", "fallback", "recovered"]), st.integers(1, 30)),
        max_size=60,
    )
)
def test_a_flapping_feed_makes_a_notice_a_minute_at_most(changes: list[tuple[FeedState, int]]) -> None:
    watch, now, notices = Watch(), 0, list[tuple[int, bool]]()
    for state, seconds in [*changes, ("live", 200)]:
        notices += [(now, a.resolved_ns is None) for a in watch.observe(feed(state, now))]
        for _ in range(seconds):
            now += 1
            notices += [(now, a.resolved_ns is None) for a in watch.tick(now * SECOND_NS)]
    assert all(b[0] - a[0] >= 60 for a, b in pairwise(notices))
    assert [down for _, down in notices] == [k % 2 == 0 for k in range(len(notices))]
    assert len(notices) % 2 == 0  # it ended well, and everybody knows


def test_a_feed_alert_survives_a_restart() -> None:
    first = Watch()
    (down,) = first.observe(feed("stale", 10, BTC))
    second = Watch()
    second.restore(first.state(), [msgspec.structs.replace(down, id=4)])
    assert second.observe(feed("stale", 500, BTC)) == []
    assert second.observe(feed("live", 600, BTC)) == []
    (up,) = second.tick(606 * SECOND_NS)
    assert (up.id, up.resolved_ns, up.instrument) == (4, 600 * SECOND_NS, BTC)


def test_a_rule_may_use_saved_formulas_and_begins_anew_with_them() -> None:
    watch = Watch()
    watch.library = Library({"dear": "dear(x, n=10) = x > n"})
    watch.set_rules([rule("dear(close)"), rule("close > 10", id=8)])
    for wanted in watch.wanted():
        watch.warm(wanted.rule_id, wanted.instrument, Bars.empty())
    assert len(feed_all(watch, bar(0, 11))) == 2
    watch.library = Library({"dear": "dear(x, n=20) = x > n"})
    (gone,) = watch.set_rules([rule("dear(close)"), rule("close > 10", id=8)])
    assert gone.rule_id == 7
    watch.warm(7, BTC, of_closes(11))
    assert moments(feed_all(watch, bar(1, 21))) == [(2, None)]  # the other goes on
    watch.library = Library()
    watch.set_rules([rule("dear(close)")])
    assert "dear is not known" in str(watch.states()[0].error)


def test_longer_bars_are_watched_as_they_are_replayed() -> None:
    text = 'close > at("5m", sma(close, 2)) and today.high > 12'
    closes = [float(10 + (k * 7) % 11) for k in range(40)]
    watch = watching(rule(text))
    fired = [a.fired_ns for a in feed_all(watch, *(bar(i, x) for i, x in enumerate(closes))) if a.resolved_ns is None]
    found = replay(rule(text), of_closes(*closes), BTC)
    assert fired
    assert fired == [firing.fired_ns for firing in found.firings]


def test_rules_read_their_own_instrument_only() -> None:
    with pytest.raises(UsageError, match="Other instruments"):
        check(rule('of("upbit:KRW-ETH", close) > 3'))


def test_rules_on_the_order_book_and_on_who_trades() -> None:
    watch = watching(rule("spread > 2 and imbalance < 0 and strength >= 200"))
    assert set(watch.books()) == {BTC}
    assert set(watching(rule()).books()) == set()

    def look(minute: int, bid: float, ask: float) -> None:
        now_ns = (minute + 1) * MINUTE_NS - SECOND_NS
        watch.observe(Trade(BTC, now_ns, now_ns, f"b{minute}", 10.0, 3.0, "buy"))
        watch.observe(Trade(BTC, now_ns, now_ns, f"s{minute}", 10.0, 1.0, "sell"))
        watch.observe(Book(BTC, now_ns, now_ns, True, [(bid, 1.0)], [(ask, 4.0), (ask + 1, 1.0)]))

    look(0, 9.0, 10.0)
    assert feed_all(watch, bar(0, 10)) == []
    look(1, 8.0, 11.0)
    (fired,) = feed_all(watch, bar(1, 10))
    assert fired.values == {"spread": 3.0, "imbalance": -4 / 6, "strength": 300.0}
    assert watch.states()[0].state == "firing"
    feed_all(watch, bar(4, 10))  # the book is too old to say anything
    assert watch.states()[0].value is None
