"""Strategies that trade on paper beside the rules: each with its account, its journal and its fills.

Theory of operation. A strategy's bars come from `observe` as the engine closes them; `advance` judges the moments that
are complete. While a gap in the trades is being filled nothing is judged, and where one stays open the venue's candles
are asked for first, so no bar is judged with trades missing that could be had. What was judged is written to the
journal, and only then told: as an alert about each fill, which is a row before it is a message. So a program that is
killed goes on from the last moment in the journal: the account is made again from it, the bars since then are had from
the store and the venue, and a fill whose alert was not written yet is told now (told twice, it is one row).

Bounds. Moments that wait for the disk: 10,000; then judging stops until there is room, and the status says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from watchhamster.core.bars import Bars
from watchhamster.core.instruments import split_instrument
from watchhamster.core.market import Candle
from watchhamster.core.ports import Clock, StoreError, UsageError, WatchHamsterError
from watchhamster.core.text import Text
from watchhamster.core.timeframes import SECOND_NS, Grid, Timeframe, timeframe
from watchhamster.monitor.alerts import Alert
from watchhamster.monitor.status import State, StatusNode, node
from watchhamster.monitor.watch import LATE_S, spoken

if TYPE_CHECKING:  # the kernel comes with it, which a watchman without strategies need not hold
    from watchhamster.backtest.paper import Entry, Judged, Paper, Trader
    from watchhamster.backtest.results import Fill

log = logging.getLogger(__name__)

UNWRITTEN_MAX = 10_000  # moments
TOLD_AGAIN_NS = 3600 * SECOND_NS  # fills of so long before the journal's end may lack their alert after a kill
AGAIN_S = 5.0


class PaperRows(Protocol):
    """Where strategies on paper and their journals are kept. Writes return once they are durable."""

    def papers(self, tenant: str) -> dict[int, bytes]:
        """Every one, by its id."""

    async def add_paper(self, content: bytes, tenant: str) -> int:
        """Keep a new one; its id."""

    async def remove_paper(self, paper_id: int) -> None:
        """Forget one with its journal."""

    async def journal(self, paper_id: int) -> list[bytes]:
        """What one has lived through."""

    async def add_journals(self, rows: Sequence[tuple[int, int, bytes]]) -> None:
        """Go on with journals, in one transaction: of which one, the entry's number, the entry."""


class Markets(Protocol):
    """What the engine knows of the bars that strategies trade on."""

    def grid(self, instrument: str) -> Grid:
        """Where its bars begin and end."""

    def built_from_ns(self, instrument: str, frame: Timeframe) -> int | None:
        """From which moment on its bars are built live and seen whole; None: not yet."""

    def closed_until_ns(self, instrument: str, frame: Timeframe) -> int | None:
        """Up to when every bar has been closed and told; None while some of its trades may still come."""

    def whole_since_ns(self, instrument: str) -> int | None:
        """Since when no trade is missing that could be had as a trade."""

    async def past(self, instrument: str, frame: Timeframe, since_ns: int, until_ns: int) -> tuple[Bars, int]:
        """Closed bars of before now, and up to when they are all. Raises what the venue raises."""


class _Running:
    """One strategy."""

    def __init__(self, paper: Paper) -> None:
        assert paper.id is not None
        self.id = paper.id
        self.paper = paper
        self.frame = timeframe(paper.timeframe)
        self.trader: Trader | None = None  # None: its journal is being read
        self.behind = True  # bars are missing, and on their way
        self.busy = False
        self.since_ns: int | None = None  # where it is to begin, once its history is there
        self.known: dict[str, int] = {}  # instrument -> up to when its bars have come
        self.unwritten: deque[Judged] = deque()
        self.entries = 0  # of the journal
        self.earlier_fills = 0  # when it was taken up again
        self.trouble: Text | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return self.paper.instruments if self.trader is None else self.trader.names


class Papers:
    """All of a tenant's. `tell` takes alerts over, `changed` is called when other candles are needed than before."""

    def __init__(
        self,
        rows: PaperRows,
        markets: Markets,
        clock: Clock,
        tell: Callable[[Iterable[Alert]], None],
        changed: Callable[[], None],
        tenant: str = "default",
    ) -> None:
        self._rows = rows
        self._markets = markets
        self._clock = clock
        self._tell = tell
        self._changed = changed
        self._tenant = tenant
        self._running: dict[int, _Running] = {}
        self._judged = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()

    def reload(self) -> None:
        """What was kept has been replaced: take up what is there now."""
        self._running = {}
        self.load()

    def load(self) -> None:
        """Take up what was kept."""
        contents = self._rows.papers(self._tenant)
        if not contents:
            return
        from watchhamster.backtest.paper import Paper

        for paper_id, content in contents.items():
            if paper_id not in self._running:
                paper = msgspec.structs.replace(msgspec.json.decode(content, type=Paper), id=paper_id)
                self._running[paper_id] = _Running(paper)

    def instruments(self) -> list[str]:
        """Those whose trades have to be streamed."""
        return [name for one in self._running.values() for name in one.names]

    def needs(self) -> set[tuple[str, str]]:
        """Candles that have to be built: instrument and timeframe."""
        return {(name, one.frame.name) for one in self._running.values() for name in one.names}

    # -- beginning and ending

    async def add(self, paper: Paper) -> Paper:
        """Let a strategy trade from now on. One of the same name that is the same goes on as it is.

        Raises `UsageError`: `name_taken`, or what the strategy itself says.
        """
        from watchhamster.backtest.paper import Trader

        self.load()
        known = next((one.paper for one in self._running.values() if one.paper.name == paper.name), None)
        if known is not None:
            if _same(known, paper):
                return known
            raise UsageError(
                "name_taken",
                Text("{name} is on paper already, with other settings.", {"name": paper.name}),
                Text("End it first: watchhamster trade --stop {name!r}.", {"name": paper.name}),
            )
        Trader(paper, self._markets.grid)  # whether it makes sense
        paper = msgspec.structs.replace(paper, made_ns=self._clock.now_ns())
        paper_id = await self._rows.add_paper(msgspec.json.encode(paper), self._tenant)
        paper = msgspec.structs.replace(paper, id=paper_id)
        self._running[paper_id] = _Running(paper)
        self._changed()
        return paper

    async def remove(self, name: str) -> dict[str, Any]:
        """End a strategy and forget its journal; gives its last record. Raises `UsageError` (`unknown_paper`)."""
        record = self.record(name)
        del self._running[record["id"]]
        await self._rows.remove_paper(record["id"])
        self._changed()
        return record

    # -- bars

    def observe(self, candles: Iterable[Candle]) -> None:
        """Closed bars, in the order they were closed."""
        if not self._running:
            return
        for candle in candles:
            for one in self._running.values():
                if candle.timeframe == one.frame.name and candle.instrument in one.names and one.trader is not None:
                    if not one.trader.observe(candle):
                        self._fall_behind(one)
                    if not one.behind:
                        self._advance(one)

    def advance(self) -> None:
        """Time has passed: judge what is complete though nothing came."""
        for one in self._running.values():
            if not one.behind:
                self._advance(one)

    def _fall_behind(self, one: _Running) -> None:
        assert one.trader is not None
        one.behind = True
        one.trader.forget()

    def _advance(self, one: _Running) -> None:
        trader = one.trader
        assert trader is not None
        for name in trader.names:
            whole_ns = self._markets.whole_since_ns(name)
            if whole_ns is not None and whole_ns > one.known[name]:
                self._fall_behind(one)
                return
            closed_ns = self._markets.closed_until_ns(name, one.frame)
            if closed_ns is not None and closed_ns > one.known[name]:
                one.known[name] = closed_ns
        if len(one.unwritten) >= UNWRITTEN_MAX:
            return
        for judged in trader.judge(one.known):
            one.unwritten.append(judged)
            self._written.clear()
            self._judged.set()

    # -- its past

    def due(self) -> list[tuple[str, Awaitable[None]]]:
        """Work that has to be done beside before strategies can go on, and what it is called."""
        found: list[tuple[str, Awaitable[None]]] = []
        for one in self._running.values():
            if not one.busy and (one.trader is None or one.behind):
                one.busy = True
                found.append((f"{one.paper.name} on paper", self._made_ready(one)))
        return found

    async def _made_ready(self, one: _Running) -> None:
        try:
            if one.trader is None:
                await self._read(one)
                self._changed()  # it may read other instruments besides its own
            if not await self._catch_up(one):
                await self._clock.sleep(1.0)
            one.trouble = None
        except WatchHamsterError as error:
            one.trouble = error.text
            await self._clock.sleep(AGAIN_S)
            raise
        finally:
            one.busy = False

    async def _read(self, one: _Running) -> None:
        """Make the account again from its journal."""
        from watchhamster.backtest.paper import Trader

        contents = await self._rows.journal(one.id)
        trader = Trader(one.paper, self._markets.grid)

        await asyncio.to_thread(trader.live_again, contents)
        one.trader, one.entries, one.earlier_fills = trader, len(contents), len(trader.fills)
        if trader.judged_ns is not None:
            since_ns = max(trader.judged_ns, self._clock.now_ns() - 24 * TOLD_AGAIN_NS) - TOLD_AGAIN_NS
            late = [(n, fill) for n, fill in enumerate(trader.fills) if fill.at_ns >= since_ns]
            self._tell_of(one, late)

    async def _catch_up(self, one: _Running) -> bool:
        """Have the bars up to now; whether they are all there."""
        trader, frame, markets = one.trader, one.frame, self._markets
        assert trader is not None
        built = {name: markets.built_from_ns(name, frame) for name in trader.names}
        # First the candles, then the history: so no bar falls between them.
        if any(since_ns is None for since_ns in built.values()):
            return False
        now_ns = self._clock.now_ns()
        until = {n: max(markets.grid(n).settled_ns(frame, now_ns), built[n] or 0) for n in trader.names}
        if trader.account is None:
            one.since_ns = one.since_ns or max(until.values())
            return await self._begin(one, trader, one.since_ns)
        for name in trader.names:
            bars, until_ns = await markets.past(name, frame, trader.next_ns, until[name])
            whole_ns = max(markets.whole_since_ns(name) or 0, built[name] or 0)
            if until_ns < whole_ns:
                return False
            for bar in bars.candles(name, frame.name, "backfill"):
                # A bar that was closed with a hole in its trades is the venue's.
                if bar.open_ns < until_ns and (bar.open_ns < whole_ns or not trader.waits_for(name, bar.open_ns)):
                    trader.observe(bar)
            one.known[name] = max(until_ns, one.known.get(name, until_ns))
        one.behind = False
        self._advance(one)
        return True

    async def _begin(self, one: _Running, trader: Trader, since_ns: int) -> bool:
        history = {}
        for name in trader.names:
            first_ns = self._markets.grid(name).before_ns(one.frame, since_ns, trader.warm_up)
            if one.paper.first_bar_ns is not None:
                first_ns = min(one.paper.first_bar_ns, since_ns)
            bars, until_ns = await self._markets.past(name, one.frame, first_ns, since_ns)
            if until_ns < since_ns:
                return False
            history[name] = bars.between(first_ns, since_ns)
            one.known[name] = since_ns
        await self._keep([(one, [trader.begin(history, since_ns)])])
        one.behind = False
        self._advance(one)
        return True

    # -- what it did

    async def run(self) -> None:
        """Write what was judged, then tell of it; until cancelled."""
        while True:
            self._judged.clear()
            batches = [(one, list(one.unwritten)) for one in self._running.values() if one.unwritten]
            if not batches:
                self._written.set()
                await self._judged.wait()
                continue
            await self._keep([(one, [e for judged in batch for e in judged.entries]) for one, batch in batches])
            for one, batch in batches:
                for _ in batch:
                    one.unwritten.popleft()
                if self._is_on(one):
                    self._tell_of(one, [(j.first_fill + n, fill) for j in batch for n, fill in enumerate(j.fills)])

    async def _keep(self, entries: Sequence[tuple[_Running, Sequence[Entry]]]) -> None:
        """Go on with journals, however long the disk takes to come back; not with those that have been removed."""
        from watchhamster.backtest.paper import to_bytes

        while True:
            rows = [(one.id, one.entries, to_bytes(new)) for one, new in entries if self._is_on(one)]
            try:
                await self._rows.add_journals(rows)
            except StoreError as error:
                for one, _ in entries:
                    if one.trouble is None:
                        log.error("%s on paper cannot be kept: %s", one.paper.name, error)
                    one.trouble = error.text
                await self._clock.sleep(1.0)
            else:
                for one, _ in entries:
                    one.entries += 1
                    one.trouble = None
                return

    def _is_on(self, one: _Running) -> bool:
        """Whether it has not been removed meanwhile."""
        return any(other is one for other in self._running.values())

    async def flush(self) -> None:
        """Return when everything judged so far is kept. `run` must be running."""
        await self._written.wait()

    def _tell_of(self, one: _Running, fills: Iterable[tuple[int, Fill]]) -> None:
        for number, fill in fills:
            alert = self._alert(one, number, fill)
            self._tell([alert, msgspec.structs.replace(alert, resolved_ns=alert.fired_ns)])

    def _alert(self, one: _Running, number: int, fill: Fill) -> Alert:
        """What is told of a fill: it is over as soon as it happened."""
        paper = one.paper
        at_ns = self._markets.grid(fill.instrument).end_ns(one.frame, fill.at_ns)
        late_s = (self._clock.now_ns() - at_ns) / SECOND_NS
        what = (
            Text("{name} bought {size} {instrument} at {price} on paper: {reason}.", _words(paper, fill))
            if fill.side == "buy"
            else Text("{name} sold {size} {instrument} at {price} on paper: {reason}.", _words(paper, fill))
        )
        return Alert(
            tenant=self._tenant,
            kind="fill",
            key=f"fill:{paper.id}:{number}",
            name=paper.name,
            instrument=fill.instrument,
            timeframe=paper.timeframe,
            severity="info",
            fired_ns=at_ns,
            price=fill.price,
            values={"size": fill.size, "fee": fill.fee},
            text=what,
            channels=paper.channels,
            late_s=late_s if late_s >= LATE_S else 0.0,
        )

    # -- what is known

    def records(self) -> list[dict[str, Any]]:
        """Every strategy, in the order they were begun."""
        return [self._record(one) for one in self._running.values()]

    def record(self, name: str, fills_after: int = 0) -> dict[str, Any]:
        """One strategy, with its fills from a number on. Raises `UsageError` (`unknown_paper`)."""
        for one in self._running.values():
            if one.paper.name == name:
                fills = [] if one.trader is None else one.trader.fills[fills_after : self._kept(one)]
                return self._record(one) | {"fills": msgspec.to_builtins(fills)}
        raise unknown_paper(name, [one.paper.name for one in self._running.values()])

    @staticmethod
    def _kept(one: _Running) -> int:
        """How many of its fills are in the journal."""
        assert one.trader is not None
        return one.unwritten[0].first_fill if one.unwritten else len(one.trader.fills)

    def _record(self, one: _Running) -> dict[str, Any]:
        record = record_of(one.paper, one.trader)
        if one.trader is None or one.behind:
            record["state"] = "waiting"
        kept = 0 if one.trader is None else self._kept(one)
        return record | {"fill_count": kept, "earlier_fills": one.earlier_fills}

    def status(self) -> list[StatusNode]:
        """The branch of the tree; none where nothing trades on paper."""
        children = [self._status(one) for one in self._running.values()]
        return [node("paper", None, *children, value=len(children))] if children else []

    def _status(self, one: _Running) -> StatusNode:
        record = self._record(one)
        lamp: State = "ok"
        positions = [
            node(
                split_instrument(held["instrument"])[1],
                "ok",
                value=held["last_price"],
                detail=_position(held),
            )
            for held in record["positions"]
        ]
        detail = Text(
            "{profit} %, {fills} fills", {"profit": _signed(record["profit_percent"]), "fills": record["fill_count"]}
        )
        if one.trouble is not None:
            lamp, detail = "critical" if one.unwritten else "warning", one.trouble
        elif record["state"] == "waiting":
            lamp, detail = "pending", Text("waiting for history")
        label = f"{one.paper.name} · {one.paper.timeframe}"
        return node(label, lamp, *positions, value=round(record["equity"], 2), detail=detail)


def record_of(paper: Paper, trader: Trader | None) -> dict[str, Any]:
    """A strategy on paper for scripts: how far it is, what it holds and what that is worth."""
    account = None if trader is None else trader.account
    if trader is None or account is None:
        begun: dict[str, Any] = dict.fromkeys(("since_ns", "first_bar_ns", "judged_ns"))
        begun |= {"bars": 0, "fill_count": 0, "revised": 0, "positions": [], "pending": [], "refused": []}
    else:
        begun = {
            "since_ns": trader.since_ns,
            "first_bar_ns": trader.first_bar_ns,
            "judged_ns": trader.judged_ns,
            "bars": trader.moments,
            "fill_count": len(trader.fills),
            "revised": trader.revised,
            "positions": msgspec.to_builtins(account.positions),
            "pending": msgspec.to_builtins(account.pending),
            "refused": msgspec.to_builtins(trader.refused),
        }
    equity = paper.cash if account is None else account.equity
    return {
        "kind": "paper",
        "id": paper.id,
        "strategy": paper.name,
        "state": "trading",
        "instruments": list(paper.instruments),
        "timeframe": paper.timeframe,
        "parameters": paper.parameters,
        "cash": paper.cash,
        "equity": equity,
        "profit_percent": (equity / paper.cash - 1.0) * 100.0,
        **begun,
    }


def _position(held: Mapping[str, Any]) -> Text:
    size, entry = held["size"], held["entry_price"]
    values = {
        "size": spoken(abs(size), 10),
        "price": spoken(entry, 10),
        "profit": _signed((held["last_price"] / entry - 1.0) * (100.0 if size > 0 else -100.0)),
    }
    return (
        Text("long {size} @ {price}, {profit} %", values)
        if size > 0
        else Text("short {size} @ {price}, {profit} %", values)
    )


def _signed(percent: float) -> str:
    return f"{percent:+.2f}"


def _words(paper: Paper, fill: Fill) -> dict[str, object]:
    return {
        "name": paper.name,
        "size": spoken(fill.size, 10),
        "instrument": fill.instrument,
        "price": spoken(fill.price),
        "reason": fill.reason,
    }


def _same(known: Paper, paper: Paper) -> bool:
    """Whether it is the same strategy on the same things, so that it may just go on."""
    return all(
        getattr(known, name) == getattr(paper, name)
        for name in ("text", "instruments", "timeframe", "cash", "parameters")
    ) and paper.first_bar_ns in (None, known.first_bar_ns)


def unknown_paper(name: str, known: list[str]) -> UsageError:
    """The refusal of a strategy that is not on paper."""
    return UsageError(
        "unknown_paper",
        Text("{name} is not on paper.", {"name": name}),
        Text("On paper are: {names}.", {"names": ", ".join(known) or "-"}),
    )
