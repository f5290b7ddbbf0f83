"""Watching: rules on live candles, and the health of the feeds they come from. Pure: no clock, no I/O, no tasks.

Each rule has, on each of its instruments, an evaluator and a `Life`. The engine

1. calls `set_rules` whenever rules change;
2. for each of `wanted()` reads history and calls `warm`: it fills the evaluators, and fires nothing, except for what
   happened after the last bar that was watched before a restart;
3. passes every event to `observe` and the time to `tick` about once a second; both give the alerts that are new or
   have changed. A new one has no id; once it is a row, `stored` tells the watch which;
4. keeps `state()` and gives it back to `restore` before the first `set_rules`, so that nothing fires twice.

Candles that are seen while history is still on its way wait, and are watched once it is there. A candle that closes
is evaluated once, as it was first seen. What the venue corrects later re-opens the evaluators, but never fires or
un-fires; it only marks the alert that stood on it. A candle that was missing and is filled in later (after sleep, after
a lost connection) may still fire: late, and saying so.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal

import msgspec

from watchhamster.core.bars import Bars
from watchhamster.core.market import Book, Candle, Event, FeedChanged, Ticker, Trade
from watchhamster.core.ports import UsageError, WatchHamsterError
from watchhamster.core.text import Text
from watchhamster.core.timeframes import SECOND_NS, UTC, Grid, timeframe
from watchhamster.formula import Formula, Library, Stepper, Value, parse
from watchhamster.monitor.alerts import Alert, Rule, RuleState, Severity

LATE_S = 10.0  # an alert noticed sooner than this after its moment is not late
FRESH_NS = 60 * SECOND_NS  # an order book older than this says nothing about now
KEPT_BARS = 600  # kept beyond the warm-up, so that evaluators can be opened again
WAITING_MAX = 5000  # candles that wait for history; beyond it the oldest go, and count as never seen
PERIOD_MAX_S = 366 * 86400.0
FEED_DEBOUNCE_S = 5.0  # a feed must stay away, or back, for so long before it is told
FEED_NOTICE_S = 60.0  # at most one notice a venue in this time


def check(rule: Rule, library: Library | None = None) -> Formula:
    """The rule's formula, if all of the rule makes sense. It may use the saved ones of a library.

    Raises `UsageError`: `bad_formula`, `bad_timeframe` or `bad_rule`.
    """
    frame = timeframe(rule.timeframe)
    # Another instrument's bar may close after ours, live, so that its rules would not be those of history.
    formula = parse(rule.formula, timeframe=frame, instruments=(), library=library or Library())
    if formula.kind != "bool":
        raise UsageError(
            "bad_formula",
            Text("A rule needs a condition, this is a number."),
            Text("Compare it with something, such as {text} > 0.", {"text": rule.formula.strip()[:60]}),
            position=0,
        )
    if not rule.instruments:
        raise UsageError("bad_rule", Text("The rule watches no instrument."), Text("Name at least one."))
    for seconds in (rule.for_s, rule.cooldown_s):
        if not 0 <= seconds <= PERIOD_MAX_S:
            raise UsageError(
                "bad_rule",
                Text("A rule cannot wait for {seconds} seconds.", {"seconds": seconds}),
                Text("Waiting times go from 0 to a year."),
            )
    return formula


def price_rule(
    instrument: str,
    price: float,
    last_price: float,
    *,
    repeat: bool = False,
    bar_high: float | None = None,
    bar_low: float | None = None,
    severity: Severity = "info",
    channels: tuple[str, ...] = ("desktop", "inbox"),
    sound: bool = True,
    created_ns: int = 0,
) -> Rule:
    """A rule that fires when the price gets to a level, from whichever side it is on now.

    It looks at highs (lows), so that a touch while nobody watched is found afterwards. `bar_high` and `bar_low` are
    those of the minute that is still open: if it has touched the level already, that must not count, so closes are
    looked at instead. Repeating ones stay quiet for five minutes.
    """
    above = price > last_price
    touched = bar_high is not None and bar_high >= price if above else bar_low is not None and bar_low <= price
    column = "close" if touched else "high" if above else "low"
    sign, shown = (">=", "≥") if above else ("<=", "≤")
    level = plain_number(price)
    return Rule(
        name=f"{instrument} {shown} {level}",
        formula=f"{column} {sign} {level}",
        instruments=(instrument,),
        timeframe="1m",
        forming=True,
        repeat=repeat,
        cooldown_s=300.0 if repeat else 0.0,
        severity=severity,
        channels=channels,
        sound=sound,
        created_ns=created_ns,
    )


def plain_number(number: float) -> str:
    """A float64 in its shortest form, whole ones without a fraction."""
    return repr(float(number)).removesuffix(".0")


# ---------------------------------------------------------------- the life of an alert

Turn = Literal["fired", "resolved"]


class Life:
    """Inactive, pending, firing: one rule on one instrument. Watching and replaying both go through `turn`."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.state: RuleState = "inactive"
        self.since_ns: int | None = None  # when the state began
        self.fired_ns: int | None = None  # its last firing
        self.spent = False  # it fired, and was to fire once

    def turn(self, value: Value, at_ns: int, *, final: bool = True) -> Turn | None:
        """What the formula's value at a moment of venue time makes of it. Undefined is not true.

        A bar that is still forming (`final` false) may fire but does not resolve, so a bar fires at most once.
        """
        if value is True:
            if self.state == "inactive":
                self.state, self.since_ns = "pending", at_ns
            if self.state == "pending" and self._due(at_ns):
                self.state, self.since_ns, self.fired_ns = "firing", at_ns, at_ns
                self.spent = not self.rule.repeat
                return "fired"
        elif self.state == "pending":
            self.state, self.since_ns = "inactive", at_ns
        elif self.state == "firing" and final:
            self.state, self.since_ns = "inactive", at_ns
            return "resolved"
        return None

    def _due(self, at_ns: int) -> bool:
        assert self.since_ns is not None
        held = at_ns - self.since_ns >= self.rule.for_s * SECOND_NS
        quiet = self.fired_ns is not None and at_ns - self.fired_ns < self.rule.cooldown_s * SECOND_NS
        return held and not quiet and not self.spent


# ---------------------------------------------------------------- values others see


class Wanted(msgspec.Struct, frozen=True):
    """History that a rule waits for: bars of an instrument, so many before now, or all from `first_bar_ns` on."""

    rule_id: int
    instrument: str
    timeframe: str
    bars: int
    first_bar_ns: int | None  # the rule's own first bar
    watched_until_ns: int | None  # it was watched up to this bar before: the history should reach back beyond it


class RuleStatus(msgspec.Struct, frozen=True):
    """How a rule does on an instrument."""

    rule_id: int
    name: str
    instrument: str
    timeframe: str
    state: RuleState
    since_ns: int | None  # venue time
    value: Value  # of the formula at the last bar; None: undefined
    bar_ns: int | None  # the last bar that was evaluated
    waiting: bool  # for history
    spent: bool  # it was to fire once, and has
    severity: Severity
    error: Text | None = None  # why it cannot be watched


class _Saved(msgspec.Struct):
    rule_id: int
    instrument: str
    formula: str
    state: RuleState
    since_ns: int | None
    fired_ns: int | None
    spent: bool
    bar_ns: int | None


class _Market:
    """What rules may read of a market besides its bars, as long as it is fresh."""

    def __init__(self) -> None:
        self.book: Book | None = None
        self._day_ns = 0
        self._bought = self._sold = 0.0

    def trade(self, trade: Trade) -> None:
        """Count a trade of this UTC day."""
        day_ns = trade.event_ns - trade.event_ns % (86400 * SECOND_NS)
        if day_ns > self._day_ns:
            self._day_ns, self._bought, self._sold = day_ns, 0.0, 0.0
        if day_ns == self._day_ns:
            if trade.side == "buy":
                self._bought += trade.size
            else:
                self._sold += trade.size

    def fields(self, at_ns: int) -> dict[str, float]:
        """Those of `formula.LIVE` that are known at a moment.

        `imbalance` is of the levels the venue shows, `strength` of the trades seen since the UTC day began.
        """
        found: dict[str, float] = {}
        book = self.book
        if book is not None and book.bids and book.asks and abs(at_ns - book.event_ns) <= FRESH_NS:
            found["bid"], found["ask"] = bid, ask = book.bids[0][0], book.asks[0][0]
            found["spread"] = ask - bid
            wanted, offered = sum(size for _, size in book.bids), sum(size for _, size in book.asks)
            if wanted + offered > 0:
                found["imbalance"] = (wanted - offered) / (wanted + offered)
        if self._sold > 0 and 0 <= at_ns - self._day_ns <= 86400 * SECOND_NS:
            found["strength"] = self._bought / self._sold * 100
        return found


class _Watched:
    """One rule on one instrument."""

    def __init__(self, rule: Rule, instrument: str, formula: Formula, grid: Grid) -> None:
        assert rule.id is not None
        self.rule_id = rule.id
        self.rule = rule
        self.instrument = instrument
        self.formula = formula
        self.timeframe = timeframe(rule.timeframe)
        self.program = formula.program_with_parts(grid)
        self.life = Life(rule)
        self.stepper: Stepper[tuple[Value, ...]] | None = None  # None: history has not come yet
        self.history: deque[Candle] = deque(maxlen=formula.warm_up + KEPT_BARS)  # closed, as now known
        self.waiting: deque[Candle] = deque(maxlen=WAITING_MAX)
        self.bar_ns: int | None = None  # open time of the last bar evaluated
        self.resume_ns: int | None = None  # bars after this one are watched, though they come as history
        self.value: Value = None
        self.stale = False  # history has changed under the evaluator
        self.filled: set[int] = set()  # open times of bars that came after later ones
        self.alert: Alert | None = None  # its latest
        self.alert_bar_ns: int | None = None  # the bar it stands on

    def open_evaluator(self) -> None:
        self.stepper = self.program.stepper(Bars.of(self.history))
        self.stale = False


class _Feed:
    """What was told about a feed, and what it seems to be."""

    def __init__(self) -> None:
        self.down = False
        self.changed_ns: int | None = None  # when `down` last changed
        self.event: FeedChanged | None = None  # the first of the present trouble, or of the present peace
        self.alert: Alert | None = None  # told and not yet taken back


class Watch:
    """Every rule on every instrument, and every feed. `grid_of` says where an instrument's bars begin and end."""

    def __init__(self, grid_of: Callable[[str], Grid] = lambda _instrument: UTC) -> None:
        self._grid_of = grid_of
        self._markets: dict[str, _Market] = {}  # of instruments whose rules read more than bars
        self.library = Library()  # the saved formulas that rules may use, as of the next `set_rules`
        self._watched: dict[tuple[int, str], _Watched] = {}
        self._by_series: dict[tuple[str, str], list[_Watched]] = {}
        self._broken: dict[int, tuple[Rule, Text]] = {}
        self._saved: dict[tuple[int, str], _Saved] = {}
        self._open: dict[tuple[int, str], Alert] = {}
        self._feeds: dict[tuple[str, str | None], _Feed] = {}
        self._told_ns: dict[str, int] = {}  # venue -> its last notice
        self._venue_ns: dict[str, int] = {}  # instrument -> venue time of its latest event
        self._now_ns = 0

    # -- rules

    def set_rules(self, rules: Sequence[Rule], now_ns: int | None = None) -> list[Alert]:
        """Watch exactly the enabled ones of these; give all that there are. Rules that stay the same go on as they are.

        A rule that cannot be watched is shown by `states`, the others are watched. Gives the alerts of rules that are
        gone, resolved.
        """
        self._advance(now_ns)
        before, self._watched, self._by_series, self._broken = self._watched, {}, {}, {}
        for rule in rules:
            if not rule.enabled or rule.id is None:
                continue
            try:
                formula = check(rule, self.library)
            except WatchHamsterError as error:
                self._broken[rule.id] = (rule, error.text)
                continue
            for instrument in dict.fromkeys(rule.instruments):
                key = (rule.id, instrument)
                old = before.pop(key, None)
                if old is not None and _same_life(old.rule, rule) and old.formula.uses == formula.uses:
                    watched = old
                    watched.rule = watched.life.rule = rule
                else:
                    if old is not None:
                        before[key] = old
                    watched = self._begin(rule, instrument, formula)
                self._watched[key] = watched
                self._by_series.setdefault((instrument, watched.timeframe.name), []).append(watched)
        gone = [w.alert for w in before.values() if w.alert is not None and w.alert.resolved_ns is None]
        gone += [self._open.pop(key) for key in list(self._open) if key[0] not in self._broken]
        live = {w.instrument for w in self._watched.values() if w.program.inputs}
        self._markets = {instrument: self._markets.get(instrument) or _Market() for instrument in live}
        known = {rule.id for rule in rules}
        self._saved = {key: saved for key, saved in self._saved.items() if key[0] in known}
        return [msgspec.structs.replace(a, resolved_ns=max(self._now_ns, a.fired_ns)) for a in gone]

    def _begin(self, rule: Rule, instrument: str, formula: Formula) -> _Watched:
        watched = _Watched(rule, instrument, formula, self._grid_of(instrument))
        saved = self._saved.pop((watched.rule_id, instrument), None)
        alert = self._open.pop((watched.rule_id, instrument), None)
        life = watched.life
        if saved is not None and saved.formula == rule.formula:
            life.state, life.since_ns = saved.state, saved.since_ns
            life.fired_ns, life.spent = saved.fired_ns, saved.spent and not rule.repeat
            watched.resume_ns = saved.bar_ns
        if alert is not None:  # a row is the better witness
            life.state, life.since_ns, life.fired_ns = "firing", alert.fired_ns, alert.fired_ns
            life.spent = not rule.repeat
            watched.alert = alert
            if watched.resume_ns is None:
                watched.resume_ns = self._grid_of(instrument).open_ns(watched.timeframe, alert.fired_ns - 1)
        elif life.state == "firing":
            life.state = "inactive"  # its row was closed by other means
        return watched

    def wanted(self) -> list[Wanted]:
        """The history that `warm` should be called with."""
        return [
            Wanted(
                w.rule_id,
                w.instrument,
                w.timeframe.name,
                w.formula.warm_up + 1,
                w.rule.first_bar_ns,
                w.resume_ns,
            )
            for w in self._watched.values()
            if w.stepper is None
        ]

    def books(self) -> Collection[str]:
        """Instruments whose order books have to be streamed."""
        return self._markets.keys()

    def needs(self) -> set[tuple[str, str]]:
        """Candles that have to be streamed: instrument and timeframe."""
        return set(self._by_series)

    def warm(self, rule_id: int, instrument: str, bars: Bars, now_ns: int | None = None) -> list[Alert]:
        """Give a rule the closed bars before now. They fire nothing, except those after the last bar watched before.

        Gives the alerts of those, and of candles that came while the rule was waiting. `now_ns` is what time it is.
        """
        watched = self._watched.get((rule_id, instrument))
        if watched is None or watched.stepper is not None:
            return []
        self._advance(now_ns)
        live_ns = [] if watched.resume_ns is None else [watched.resume_ns + 1]
        live_ns += [candle.open_ns for candle in watched.waiting]
        resume = bisect_left(bars.open_ns, min(live_ns)) if live_ns else len(bars)
        known = bars.slice(0, resume)
        name = watched.timeframe.name
        assert watched.history.maxlen is not None
        kept = known.slice(max(0, len(known) - watched.history.maxlen), len(known))
        watched.history.extend(kept.candles(instrument, name, "backfill"))
        watched.stepper = watched.program.stepper(known)
        watched.bar_ns = int(known.open_ns[-1]) if len(known) else watched.resume_ns
        if (
            watched.bar_ns is None and now_ns is not None
        ):  # should no bar come before a restart, it is watched from here
            watched.resume_ns = self._grid_of(instrument).open_ns(watched.timeframe, now_ns) - 1
        alerts: list[Alert] = []
        waiting = list(watched.waiting)
        watched.waiting.clear()
        for candle in (*bars.slice(resume, len(bars)).candles(instrument, name, "backfill"), *waiting):
            self._candle(watched, candle, alerts)
        return alerts

    def reopen(self, instrument: str) -> None:
        """An instrument's whole history is told anew: its rules wait for it, and go on from the last bar they saw."""
        for watched in self._watched.values():
            if watched.instrument == instrument and watched.stepper is not None:
                watched.stepper, watched.stale = None, False
                watched.history.clear()
                watched.filled.clear()
                watched.resume_ns = watched.resume_ns if watched.bar_ns is None else watched.bar_ns

    # -- events

    def observe(self, event: Event, now_ns: int | None = None) -> list[Alert]:
        """Alerts that the event makes or changes. `now_ns`: what time it is, if known better than by events."""
        match event:
            case Trade() | Book() | Ticker():
                self._venue_ns[event.instrument] = event.event_ns
                if event.event_ns > self._now_ns:
                    self._now_ns = event.event_ns
                market = self._markets.get(event.instrument)
                if market is not None and isinstance(event, Book):
                    market.book = event
                elif market is not None and isinstance(event, Trade):
                    market.trade(event)
                return []
            case Candle():
                rules = self._by_series.get((event.instrument, event.timeframe))
                if not rules:
                    return []
                self._advance(now_ns)
                alerts: list[Alert] = []
                for watched in rules:
                    if watched.stepper is None:
                        if event.closed:
                            watched.waiting.append(event)
                    else:
                        self._candle(watched, event, alerts)
                return alerts
            case FeedChanged():
                self._advance(max(event.at_ns, now_ns or 0))
                return self._feed(event)
        return []

    def tick(self, now_ns: int) -> list[Alert]:
        """Time passes: what has to be told because nothing happened."""
        self._advance(now_ns)
        return [alert for key, feed in self._feeds.items() for alert in self._tell(key, feed)]

    def _advance(self, now_ns: int | None) -> None:
        if now_ns is not None and now_ns > self._now_ns:
            self._now_ns = now_ns

    def _candle(self, watched: _Watched, candle: Candle, alerts: list[Alert]) -> None:
        if watched.bar_ns is not None and candle.open_ns <= watched.bar_ns:
            if candle.closed:
                self._revise(watched, candle, alerts)
            return
        if not candle.closed and not watched.rule.forming:
            return
        if watched.stale:
            watched.open_evaluator()
            self._fire_late(watched, alerts)
        assert watched.stepper is not None
        close_ns = self._close_ns(watched, candle)
        if candle.closed:
            values = watched.stepper.push(candle, self._fields(watched, close_ns))
            watched.history.append(candle)
            watched.bar_ns = candle.open_ns
            self._advance(close_ns)
            at_ns = close_ns
        else:
            at_ns = min(max(self._venue_ns.get(candle.instrument, 0), candle.open_ns), close_ns)
            values = watched.stepper.peek(candle, self._fields(watched, at_ns))
        watched.value = values[0]
        turn = watched.life.turn(values[0], at_ns, final=candle.closed)
        if turn == "fired":
            late_s = (self._now_ns - at_ns) / SECOND_NS
            watched.alert = rule_alert(watched.rule, watched.instrument, at_ns, candle.close, evidence(watched, values))
            if candle.closed and late_s >= LATE_S:
                watched.alert = msgspec.structs.replace(watched.alert, late_s=late_s)
            watched.alert_bar_ns = candle.open_ns
            alerts.append(watched.alert)
        elif turn == "resolved" and watched.alert is not None:
            watched.alert = msgspec.structs.replace(watched.alert, resolved_ns=at_ns)
            alerts.append(watched.alert)

    def _close_ns(self, watched: _Watched, candle: Candle) -> int:
        return self._grid_of(watched.instrument).end_ns(watched.timeframe, candle.open_ns)

    def _fields(self, watched: _Watched, at_ns: int) -> Mapping[str, float]:
        market = self._markets.get(watched.instrument) if watched.program.inputs else None
        return {} if market is None else market.fields(at_ns)

    def _revise(self, watched: _Watched, candle: Candle, alerts: list[Alert]) -> None:
        """A closed bar comes again, or after later ones: history changes, what has fired does not."""
        history = watched.history
        place = bisect_left(history, candle.open_ns, key=_open_ns)
        if place < len(history) and history[place].open_ns == candle.open_ns:
            if _row(history[place]) == _row(candle):
                return
            history[place] = candle
            if watched.alert is not None and watched.alert_bar_ns == candle.open_ns and not watched.alert.revised:
                watched.alert = msgspec.structs.replace(watched.alert, revised=True)
                alerts.append(watched.alert)
        elif place == 0:
            return  # older than anything that still matters
        else:
            if len(history) == history.maxlen:
                history.popleft()
                place -= 1
            history.insert(place, candle)
            watched.filled.add(candle.open_ns)
        watched.stale = True

    def _fire_late(self, watched: _Watched, alerts: list[Alert]) -> None:
        """Bars that were filled in after later ones: live through the kept history again, and tell what they did."""
        filled, watched.filled = watched.filled, set()
        if not filled or watched.life.spent:
            return
        known = watched.alert
        life = Life(watched.rule)
        late: Alert | None = None

        def tell(resolved_ns: int | None) -> None:
            """Report what fired on a filled bar, unless what was told already falls into the same time."""
            if late is None or (known and late.fired_ns <= known.fired_ns <= (resolved_ns or known.fired_ns)):
                return
            told = msgspec.structs.replace(late, resolved_ns=resolved_ns)
            alerts.append(told)
            if resolved_ns is None:  # it still holds: from here on it is the rule's alert
                watched.life = life
                watched.alert, watched.alert_bar_ns = told, None
            else:
                watched.life.fired_ns = max(told.fired_ns, watched.life.fired_ns or 0)
                watched.life.spent = not watched.rule.repeat

        columns = [v.list() for v in watched.program.over(Bars.of(watched.history))]
        for candle, values in zip(watched.history, zip(*columns, strict=True), strict=True):
            at_ns = self._close_ns(watched, candle)
            turn = life.turn(values[0], at_ns)
            covered = known and known.fired_ns <= at_ns < (known.resolved_ns or at_ns + 1)
            if turn == "fired" and candle.open_ns in filled and not covered:
                late = rule_alert(watched.rule, watched.instrument, at_ns, candle.close, evidence(watched, values))
                late = msgspec.structs.replace(late, late_s=max(0.0, (self._now_ns - at_ns) / SECOND_NS))
            elif turn == "resolved":
                tell(at_ns)
                late = None
        tell(None)

    # -- feeds

    def _feed(self, event: FeedChanged) -> list[Alert]:
        key = (event.venue, event.instrument)
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = _Feed()
        if event.state == "closed":  # nobody is meant to hear from it
            return []
        down = event.state in ("stale", "reconnecting")  # while REST carries it, it is up
        if down != feed.down or feed.event is None:
            feed.down, feed.changed_ns, feed.event = down, event.at_ns, event
        elif event.state == "stale" or event.gap_filled is not None:
            feed.event = event
        return self._tell(key, feed)

    def _tell(self, key: tuple[str, str | None], feed: _Feed) -> list[Alert]:
        """The notice about a feed that is due, if any."""
        venue, instrument = key
        if feed.down == (feed.alert is not None) or feed.event is None or feed.changed_ns is None:
            return []
        waited = self._now_ns - feed.changed_ns >= FEED_DEBOUNCE_S * SECOND_NS or feed.event.state == "stale"
        recently = self._now_ns - self._told_ns.get(venue, -(10**20)) < FEED_NOTICE_S * SECOND_NS
        if not waited or recently:
            return []
        self._told_ns[venue] = self._now_ns
        if feed.alert is not None:
            back = msgspec.structs.replace(feed.alert, resolved_ns=max(feed.changed_ns, feed.alert.fired_ns))
            feed.alert = None
            return [back]
        what = instrument or venue
        feed.alert = Alert(
            kind="feed",
            key=f"feed:{venue}:{instrument}" if instrument else f"feed:{venue}",
            name=what,
            instrument=instrument,
            severity="warning" if instrument else "critical",
            fired_ns=feed.changed_ns,
            text=Text(
                "No data from {what}: {reason}", {**feed.event.values, "what": what, "reason": feed.event.reason}
            ),
        )
        return [feed.alert]

    # -- what is known

    def stored(self, alert: Alert) -> None:
        """The alert as its row is now (it has an id, it was acknowledged): later changes carry that on."""
        for watched in self._watched.values():
            ours = watched.alert
            if ours is not None and (ours.key, ours.fired_ns) == (alert.key, alert.fired_ns):
                watched.alert = _merged(ours, alert)
        for feed in self._feeds.values():
            ours = feed.alert
            if ours is not None and (ours.key, ours.fired_ns) == (alert.key, alert.fired_ns):
                feed.alert = _merged(ours, alert)

    def states(self) -> list[RuleStatus]:
        """Every rule on every instrument, in the order of the rules."""
        found = [
            RuleStatus(
                w.rule_id,
                w.rule.name,
                w.instrument,
                w.timeframe.name,
                w.life.state,
                w.life.since_ns,
                w.value,
                w.bar_ns,
                w.stepper is None,
                w.life.spent,
                w.rule.severity,
            )
            for w in self._watched.values()
        ]
        found += [
            RuleStatus(id_, r.name, i, r.timeframe, "inactive", None, None, None, False, False, r.severity, error)
            for id_, (r, error) in self._broken.items()
            for i in r.instruments or ("",)
        ]
        return found

    def state(self) -> bytes:
        """What has to survive a restart, beside the alerts' rows."""
        rows = [
            _Saved(
                w.rule_id,
                w.instrument,
                w.rule.formula,
                w.life.state,
                w.life.since_ns,
                w.life.fired_ns,
                w.life.spent,
                w.resume_ns if w.bar_ns is None else w.bar_ns,
            )
            for w in self._watched.values()
        ]
        return msgspec.json.encode([*rows, *self._saved.values()])

    def restore(self, state: bytes | None, alerts: Sequence[Alert]) -> None:
        """Go on from a state and the alerts that are still open. Call it before the first `set_rules`.

        A state that cannot be read is no reason not to watch: the open alerts alone keep what fires from firing twice.
        """
        try:
            rows = msgspec.json.decode(state, type=list[_Saved]) if state else []
        except msgspec.DecodeError:
            rows = []
        self._saved = {(row.rule_id, row.instrument): row for row in rows}
        for alert in alerts:
            if alert.resolved_ns is not None:
                continue
            if alert.kind == "rule" and alert.rule_id is not None and alert.instrument is not None:
                self._open[alert.rule_id, alert.instrument] = alert
            elif alert.kind == "feed":
                _, venue, *rest = alert.key.split(":", 2)
                feed = self._feeds.setdefault((venue, rest[0] if rest else None), _Feed())
                feed.alert, feed.down = alert, True


def evidence(watched: _Watched, values: Sequence[Value]) -> dict[str, Value]:
    """The numbers that the formula compares, by their text; `values` are its program's, itself first."""
    return dict(zip(watched.formula.parts, values[1:], strict=True))


def rule_alert(rule: Rule, instrument: str, fired_ns: int, price: float, values: Mapping[str, Value]) -> Alert:
    """The alert of a rule that fires now."""
    shown = ", ".join(f"{k} = {spoken(v, 6)}" for k, v in values.items() if isinstance(v, float))
    return Alert(
        tenant=rule.tenant,
        rule_id=rule.id,
        key=f"rule:{rule.id}:{instrument}",
        name=rule.name,
        instrument=instrument,
        timeframe=rule.timeframe,
        severity=rule.severity,
        fired_ns=fired_ns,
        price=price,
        values=values,
        text=Text(
            "{name}: {instrument} at {price} ({evidence}).",
            {"name": rule.name, "instrument": instrument, "price": spoken(price), "evidence": shown},
        ),
        channels=rule.channels,
        sound=rule.sound,
    )


def spoken(number: float, figures: int = 15) -> str:
    """A number as a message says it: grouped, never with an exponent, its whole part whole."""
    if not math.isfinite(number) or number == 0:
        return f"{number:g}"
    decimals = max(0, figures - 1 - math.floor(math.log10(abs(number))))
    text = f"{number:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _merged(ours: Alert, row: Alert) -> Alert:
    """Ours knows better how the market went on, the row who has seen it."""
    return msgspec.structs.replace(ours, id=row.id, acknowledged_ns=row.acknowledged_ns)


def _same_life(a: Rule, b: Rule) -> bool:
    """Whether a changed rule is still the same watch: nothing that decides when it fires has changed."""
    return all(
        getattr(a, name) == getattr(b, name)
        for name in ("formula", "timeframe", "for_s", "cooldown_s", "repeat", "forming", "first_bar_ns")
    )


def _open_ns(candle: Candle) -> int:
    return candle.open_ns


def _row(candle: Candle) -> tuple[float | None, ...]:
    return (candle.open, candle.high, candle.low, candle.close, candle.volume, candle.value)
