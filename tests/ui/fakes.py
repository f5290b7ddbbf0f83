"""An engine for the window's tests: the real surface over a small invented market, no sockets and no files."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from watchhamster.core.bars import Bars, Span
from watchhamster.core.instruments import Headline, InstrumentInfo, PriceSteps
from watchhamster.core.market import Book, Candle, Event, FeedChanged, Ticker, Trade
from watchhamster.core.ports import Kind, WatchHamsterError
from watchhamster.core.sessions import Calendar, Session
from watchhamster.core.text import Text
from watchhamster.core.timeframes import SECOND_NS, timeframe
from watchhamster.engine.board import Board
from watchhamster.engine.engine import Metrics
from watchhamster.formula import Library
from watchhamster.monitor.alerts import Alert, Delivery, Rule
from watchhamster.monitor.status import StatusNode, node
from watchhamster.settings import Settings, Value
from watchhamster.venues.calendars import calendar_of

NOW_NS = 1_763_700_192 * SECOND_NS  # 2025-11-21 13:43:12 KST
STEPS = PriceSteps(
    tuple(Decimal(s) for s in ("0", "1", "10", "100", "1000", "5000", "10000", "50000", "100000", "500000", "1000000")),
    tuple(Decimal(s) for s in ("0.0001", "0.01", "0.1", "1", "1", "5", "10", "50", "100", "500", "1000")),
)
COINS = (
    ("BTC", "비트코인", "Bitcoin", 95_123_000.0),
    ("ETH", "이더리움", "Ethereum", 4_512_000.0),
    ("XRP", "엑스알피(리플)", "XRP", 3_052.0),
    ("SOL", "솔라나", "Solana", 214_350.0),
    ("DOGE", "도지코인", "Dogecoin", 248.0),
    ("ADA", "에이다", "Cardano", 742.0),
    ("SHIB", "시바이누", "Shiba Inu", 0.0142),
    ("PEPE", "페페", "Pepe", 0.0101),
    ("LINK", "체인링크", "Chainlink", 22_310.0),
    ("AVAX", "아발란체", "Avalanche", 24_150.0),
    ("DOT", "폴카닷", "Polkadot", 4_610.0),
    ("TRX", "트론", "Tron", 441.0),
)


class FakeClock:
    """Time as the test says."""

    def __init__(self, now_ns: int = NOW_NS) -> None:
        self.at_ns = now_ns

    def now_ns(self) -> int:
        return self.at_ns

    def monotonic(self) -> float:
        return self.at_ns / SECOND_NS

    async def sleep(self, seconds: float) -> None:
        self.at_ns += int(seconds * SECOND_NS)


class Rows:
    """Settings kept in memory."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self.values = dict(values)

    def settings(self) -> Mapping[str, Value]:
        return self.values

    async def set_setting(self, name: str, value: Value | None) -> None:
        if value is None:
            self.values.pop(name, None)
        else:
            self.values[name] = value


class FakeEngine:
    """What the window sees of an engine. `say` lets something happen; `asked` lists what the window asked for."""

    def __init__(self, seed: int = 7, **settings: Value) -> None:
        self.clock = FakeClock()
        self.board = Board()
        self.demo = True
        self.tenant = "default"
        self.settings = Settings(Rows({"theme": "dark", **settings}))
        self.started_ns = NOW_NS - 3600 * SECOND_NS
        self.muted_until_ns: int | None = None
        self.asked: list[tuple[Any, ...]] = []
        self.stopped = False
        self.bench: Any = None  # opens the laboratory, where a test gives one
        self.on_show: Callable[[], None] | None = None
        self.on_notify: Callable[[str, str], bool] | None = None
        self.found: dict[str, list[InstrumentInfo]] = {}  # what venues that are searched find
        self.searching: asyncio.Event | None = None  # an answer waits for it
        self.refusal: WatchHamsterError | None = None  # of a search
        self.headlines: list[Headline] = []
        self.calendars: dict[str, Calendar] = {}
        self.cautions: dict[str, Text] = {}
        self.halts: dict[str, int] = {}  # since when instruments do not trade
        self._rng = random.Random(seed)
        self._observers: list[Callable[[Event | Alert], None]] = []
        self._rules: list[Rule] = []
        self._alerts: list[Alert] = []
        self._layouts: dict[str, bytes] = {}
        self._infos = {
            f"upbit:KRW-{base}": InstrumentInfo(
                f"upbit:KRW-{base}", f"KRW-{base}", base, "KRW", {"ko": ko, "en": en}, STEPS, Decimal(5000)
            )
            for base, ko, en, _price in COINS
        }
        self._watch_list = list(self._infos)
        self._prices = {f"upbit:KRW-{base}": price for base, _ko, _en, price in COINS}
        self.focused: tuple[str, str] | None = None
        self.tree = node(
            "watchhamster",
            None,
            node("feeds", None, node("upbit", "ok", value=38, age_s=0.2, detail=Text("live"))),
            node(
                "storage",
                None,
                node("history", "warning", value=3_900_000_000, age_s=5, detail=Text("almost at its limit")),
                node("backup", "ok", age_s=36_000),
            ),
            node("rules", "ok", value=2),
            node("channels", None, node("dooray", "muted", detail=Text("muted")), node("desktop", "ok")),
        )
        for name in self._infos:
            self.board.apply(self._ticker(name, 0.0123 * math.sin(len(name) * 7 + ord(name[-1]))))

    # ------------------------------------------------------------ what a test does

    def say(self, event: Event | Alert) -> None:
        """Let it happen: the board first, then everyone who observes."""
        if isinstance(event, Alert):
            self._alerts = [a for a in self._alerts if a.id != event.id] + [event]
        else:
            self.board.apply(event)
        for observer in list(self._observers):
            observer(event)

    def add_shares(self) -> None:
        """Let Yahoo be a venue beside Upbit: shares of two countries are watched, more can be found."""
        rows = (
            ("AAPL", "애플", "Apple", "USD", 262.5, "XNYS", "0.01"),
            ("005930.KS", "삼성전자", "Samsung Electronics", "KRW", 108_000.0, "XKRX", "1"),
            ("VOD.L", "", "Vodafone Group Plc", "GBp", 93.46, "XLON", "0.01"),
        )
        for symbol, korean, english, quote, price, market, step in rows:
            name = f"yahoo:{symbol}"
            names = {"en": english} | ({"ko": korean} if korean else {})
            steps = PriceSteps((Decimal(0),), (Decimal(step),))
            info = InstrumentInfo(name, symbol, symbol, quote, names, steps, Decimal(0))
            self.calendars[name] = calendar_of(market)
            self._prices[name] = price
            self.found.setdefault("yahoo", []).append(info)
            if korean:
                self._infos[name] = info
                self._watch_list.append(name)
                self.share(symbol, price)

    def share(self, symbol: str, price: float, state: str = "REGULAR", regular: float | None = None) -> None:
        """A share's price comes; it was a hundredth lower the day before."""
        before, now = self._prices[f"yahoo:{symbol}"] / 1.01, self.clock.at_ns
        day = (before, price + 1, price - 1, before, price - before, price / before - 1, 1e6, None, now, state, regular)
        self.say(Ticker(f"yahoo:{symbol}", now, now, price, *day))

    def tick(self, instrument: str = "upbit:KRW-BTC") -> None:
        """One trade, with the book and the forming candle that belong to it."""
        steps = self._infos[instrument].steps
        price = steps.round(self._prices[instrument] * (1 + self._rng.gauss(0, 0.0004)))
        self._prices[instrument] = price
        now = self.clock.at_ns
        self.say(
            Trade(
                instrument,
                now,
                now,
                len(self.asked) + now,
                price,
                round(self._rng.expovariate(9), 8),
                "sell" if price % 2 else "buy",
            )
        )
        self.say(self.book(instrument))
        self.say(self._ticker(instrument, self._rng.gauss(0, 0.02)))
        open_ns = timeframe("1m").open_ns(now)
        self.say(Candle(instrument, "1m", open_ns, price, price, price, price, 1.0, price, False, "live"))

    def book(self, instrument: str) -> Book:
        """A believable order book."""
        steps = self._infos[instrument].steps
        price = self._prices[instrument]
        step = float(steps.step(price))
        sizes = [round(self._rng.lognormvariate(-1, 1), 8) for _ in range(30)]
        bids = [(steps.round(price - i * step), sizes[i]) for i in range(15)]
        asks = [(steps.round(price + (i + 1) * step), sizes[15 + i]) for i in range(15)]
        return Book(instrument, self.clock.at_ns, self.clock.at_ns, True, bids, asks)

    def alert(self, number: int, **fields: Any) -> Alert:
        """An alert that fired a while ago."""
        values: dict[str, Any] = {
            "id": number,
            "key": f"rule:{number}",
            "rule_id": 1,
            "name": "BTC above 95 M",
            "instrument": "upbit:KRW-BTC",
            "timeframe": "1m",
            "fired_ns": NOW_NS - (9 - number) * 125 * SECOND_NS,
            "price": 95_123_000.0,
            "values": {"close": 95_123_000.0, "sma(close, 20)": 94_880_120.5},
            "text": Text("{name}: {price}", {"name": "BTC above 95 M", "price": "95,123,000"}),
        }
        return Alert(**{**values, **fields})

    def _ticker(self, instrument: str, rate: float) -> Ticker:
        price = self._prices[instrument]
        now = self.clock.at_ns
        before = price / (1 + rate)
        value = 4e11 * self._rng.random() ** 2
        return Ticker(
            instrument, now, now, price, before, price, before, before, price - before, rate, value / price, value, now
        )

    # ------------------------------------------------------------ the engine's surface

    def observe(self, observer: Callable[[Event | Alert], None]) -> Callable[[], None]:
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    async def start(self) -> None: ...

    async def stop(self) -> None:
        self.stopped = True

    async def instruments(self) -> list[InstrumentInfo]:
        return list(self._infos.values())

    def info(self, instrument: str) -> InstrumentInfo | None:
        return self._infos.get(instrument)

    async def bars(self, instrument: str, timeframe_: str, since_ns: int, until_ns: int) -> Bars:
        self.asked.append(("bars", instrument, timeframe_, since_ns, until_ns))
        tf = timeframe(timeframe_)
        step = tf.approximate_ns
        since, until = max(since_ns, NOW_NS - 2000 * step), min(until_ns, NOW_NS)
        times = np.arange(tf.open_ns(since), until, step, dtype=np.int64)
        if not len(times):
            return Bars.empty()
        rng = np.random.default_rng([len(instrument), tf.count, ord(tf.unit)])
        walk = np.cumsum(rng.standard_normal(len(times)) * 0.0011 * math.sqrt(step / 60e9) ** 0.5)
        close = self._prices[instrument] * np.exp(walk - walk[-1])
        open_ = np.concatenate([close[:1], close[:-1]])
        spread = np.abs(rng.standard_normal((2, len(times)))) * close * 0.0006
        volume = rng.lognormal(0, 0.8, len(times)) * 3
        return Bars(
            times,
            open_,
            np.maximum(open_, close) + spread[0],
            np.minimum(open_, close) - spread[1],
            close,
            volume,
            volume * close,
        )

    async def coverage(self, instrument: str, timeframe_: str, since_ns: int, until_ns: int) -> list[Span]:
        return [Span(since_ns, until_ns, "candles", 1)]

    def forming(self, instrument: str, timeframe_: str) -> Candle | None:
        return self.board.forming(instrument, timeframe_)

    def searches(self) -> list[str]:
        return list(self.found)

    async def search(self, venue: str, text: str) -> list[InstrumentInfo]:
        self.asked.append(("search", venue, text))
        while self.searching is not None:
            await self.searching.wait()
        if self.refusal is not None:
            raise self.refusal
        found = [info for info in self.found[venue] if text.casefold() in f"{info.symbol} {info.names}".casefold()]
        self._infos |= {info.instrument: info for info in found}
        return found

    async def news(self, instrument: str, count: int = 10) -> list[Headline]:
        self.asked.append(("news", instrument))
        return list(self.headlines)

    def kinds(self, instrument: str) -> tuple[Kind, ...]:
        return ("ticker", "candle") if instrument.startswith("yahoo:") else ("ticker", "trade", "book", "candle")

    def calendar(self, instrument: str) -> Calendar | None:
        return self.calendars.get(instrument)

    def session(self, instrument: str) -> Session | None:
        calendar = self.calendars.get(instrument)
        if calendar is None:
            return None
        return msgspec.structs.replace(calendar.session(self.clock.now_ns()), halted_ns=self.halts.get(instrument))

    def caution(self, venue: str) -> Text | None:
        return self.cautions.get(venue)

    async def accept_caution(self, venue: str) -> None:
        self.asked.append(("accept_caution", venue))
        self.cautions.pop(venue, None)

    def watch_list(self) -> list[str]:
        return list(self._watch_list)

    async def set_watch_list(self, instruments: Sequence[str]) -> None:
        self.asked.append(("set_watch_list", tuple(instruments)))
        self._watch_list = list(instruments)

    def focus(self, instrument: str, timeframe_: str) -> None:
        self.focused = (instrument, timeframe_)

    def rules(self) -> list[Rule]:
        return list(self._rules)

    def library(self) -> Library:
        return Library({"dear": "dear(x, n=10) = x > n"})

    async def save_rule(self, rule: Rule) -> Rule:
        self.asked.append(("save_rule", rule))
        if rule.id is None:
            rule = msgspec.structs.replace(rule, id=max((r.id or 0 for r in self._rules), default=0) + 1)
            self._rules.append(rule)
        else:
            self._rules = [rule if r.id == rule.id else r for r in self._rules]
        return rule

    async def remove_rule(self, rule_id: int) -> None:
        self.asked.append(("remove_rule", rule_id))
        self._rules = [r for r in self._rules if r.id != rule_id]

    async def try_rule(self, rule: Rule, since_ns: int, until_ns: int) -> Any:
        self.asked.append(("try_rule", rule))

        class Tried(msgspec.Struct):
            firings: list[int]

        return Tried([0] * 7)

    async def alerts(self, after_id: int = 0, limit: int = 200) -> list[Alert]:
        return [a for a in sorted(self._alerts, key=lambda a: a.id or 0) if (a.id or 0) > after_id][:limit]

    async def acknowledge(self, alert_id: int) -> None:
        self.asked.append(("acknowledge", alert_id))
        for alert in self._alerts:
            if alert.id == alert_id:
                self.say(msgspec.structs.replace(alert, acknowledged_ns=self.clock.at_ns))

    async def deliveries(self, alert_id: int) -> list[Delivery]:
        return [
            Delivery(id=1, alert_id=alert_id, channel="desktop", state="delivered", attempts=1, done_ns=NOW_NS),
            Delivery(id=2, alert_id=alert_id, channel="dooray", state="dead", attempts=5, error="HTTP 404"),
        ]

    async def resend(self, delivery_id: int) -> None:
        self.asked.append(("resend", delivery_id))

    async def mute(self, until_ns: int | None) -> None:
        self.asked.append(("mute", until_ns))
        self.muted_until_ns = until_ns

    async def test_channel(self, channel: str) -> Delivery:
        return Delivery(id=9, alert_id=0, channel=channel, state="delivered", receipt="HTTP 200")

    async def set_secret(self, channel: str, secret: str) -> None:
        self.asked.append(("set_secret", channel, len(secret)))

    def status(self) -> StatusNode:
        return self.tree

    def metrics(self) -> Metrics:
        return Metrics({"upbit": "live"}, 38.0, 1204.0, 142.0, 3_900_000_000)

    async def away(self) -> Any:
        return None

    async def layout(self, name: str) -> bytes | None:
        return self._layouts.get(name)

    async def save_layout(self, name: str, data: bytes) -> None:
        self._layouts[name] = data

    async def backup(self, path: Path) -> None:
        path.write_bytes(b"backup")  # noqa: ASYNC240

    async def restore(self, path: Path) -> None:
        self.asked.append(("restore", path))


def feed_down() -> FeedChanged:
    """Upbit's stream fell silent."""
    return FeedChanged(None, "upbit", "reconnecting", NOW_NS, "silent", values={"seconds": 12})
