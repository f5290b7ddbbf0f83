"""A report stands alone, says what the result says, in both languages, and cannot be broken into by a name."""

from __future__ import annotations

import gettext
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.backtest.examples import crossing, upbit_minutes, walk
from watchhamster.backtest.definitions import DEFINITIONS
from watchhamster.backtest.drawing import CANDLES_MOST, TRADES_MOST, reason_text
from watchhamster.backtest.kernel import REASONS
from watchhamster.backtest.metrics import Metrics, digest, drawdowns, measure, returns_of
from watchhamster.backtest.report import render
from watchhamster.backtest.results import Order, Result
from watchhamster.backtest.trust import assess
from watchhamster.core.bars import Bars
from watchhamster.core.text import Text, use_translations
from watchhamster.core.timeframes import SECOND_NS
from watchhamster.settings import load_translations

VOID = {"meta", "br", "line", "rect", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """A document read strictly: every element closed in order, its texts and attributes kept."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        (self.scripts if self.open and self.open[-1] in ("script", "style") else self.texts).append(data)

    @property
    def data(self) -> Any:
        """What the script draws."""
        return json.loads(self.scripts[1])

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def ids(self) -> list[str]:
        return [attributes["id"] or "" for _tag, attributes in self.tags if "id" in attributes]


class Trial(msgspec.Struct):
    parameters: dict[str, float]
    metrics: dict[str, Any]


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    yield
    use_translations(gettext.NullTranslations())


@pytest.fixture(scope="module")
def bars() -> Bars:
    return walk(3000)


@pytest.fixture(scope="module")
def result(bars: Bars) -> Result:
    return crossing(bars)


@pytest.fixture(scope="module")
def metrics(result: Result) -> Metrics:
    return measure(result)


def rich(bars: Bars, result: Result, metrics: Metrics, language: str = "en") -> str:
    """A report with everything in it."""
    runs = [crossing(bars, fast=fast, slow=slow) for fast in (5, 10, 15) for slow in (20, 30, 40)]
    trials = [Trial(dict(run.parameters), msgspec.to_builtins(measure(run))) for run in runs]
    returns = np.array([returns_of(digest(run).daily) for run in runs]).T
    refused = (Order("upbit:KRW-BTC", int(bars.open_ns[5]), "buy", "cash", 100.0, 2.0),)
    result = msgspec.structs.replace(
        result, refused=refused, ambiguous_bars=2, warnings=(Text("{n} bars are missing.", {"n": 3}),)
    )
    return render(
        result,
        metrics,
        candles={"upbit:KRW-BTC": bars, "upbit:KRW-ETH": bars},
        trust=assess(
            digest(result), metrics, np.random.default_rng(1), trials=9, trial_returns=returns, stability=0.5, draws=99
        ),
        trials=trials,
        notes="A note.",
        language=language,
        facts=((Text("Fees"), "0.05 %"),),
        source='name = "Golden cross"',
    )


def total(deltas: list[float]) -> list[int]:
    return [round(at * SECOND_NS) for at in np.cumsum(deltas).tolist()]


# ---------------------------------------------------------------- what it says


def test_what_is_drawn_is_the_result(bars: Bars, result: Result, metrics: Metrics) -> None:
    data = Page(render(result, metrics, candles={"upbit:KRW-BTC": bars})).data
    curve = data["curve"]
    assert total(curve["at"]) == result.curve.open_ns.tolist()
    assert curve["equity"] == result.curve.equity.tolist()
    assert curve["hold"] == result.hold.tolist()
    assert curve["drawdown"] == np.round(drawdowns(result.curve.equity, result.cash) * -100, 4).tolist()
    trades = [*result.trades, *result.open_trades]
    sent = data["trades"]
    assert total(sent["entry"]) == [trade.entry_ns for trade in trades]
    assert sent["profit"] == [trade.profit for trade in trades]
    assert sent["entry_price"] == [trade.entry_price for trade in trades]
    assert sent["exit_price"] == [trade.exit_price for trade in trades]
    assert sent["held"] == [t.exit_ns and (t.exit_ns - t.entry_ns) // SECOND_NS for t in trades]
    assert {data["reasons"][n] for n in sent["reason"]} <= {"dead cross", ""}
    (series,) = data["series"]
    assert total(series["at"]) == bars.open_ns.tolist()
    assert (series["open"], series["low"]) == (bars.open.tolist(), bars.low.tolist())


def test_recorded_minutes_are_drawn_as_they_were(shared_data: Path) -> None:
    bars = upbit_minutes(shared_data)
    result = crossing(bars, timeframe="1m", fast=3, slow=12)
    page = Page(render(result, measure(result), candles={"upbit:KRW-BTC": bars}))
    (series,) = page.data["series"]
    assert series["close"] == bars.close.tolist()
    assert page.data["trades"]["percent"] == [t.profit_percent for t in (*result.trades, *result.open_trades)]


def test_bars_that_only_warmed_up_are_left_out(bars: Bars) -> None:
    result = crossing(bars.slice(500, 3000))
    (series,) = Page(render(result, measure(result), candles={"upbit:KRW-BTC": bars})).data["series"]
    assert series["close"] == bars.close[500:].tolist()


def test_the_numbers_are_written(bars: Bars, result: Result, metrics: Metrics) -> None:
    text = Page(rich(bars, result, metrics)).text.replace("\u00a0", " ")
    assert f"{abs(metrics.total_return_percent):,.2f} %" in text
    assert f"{metrics.max_drawdown_percent:.2f} %" in text
    assert f"{metrics.final_equity:,.0f}" in text
    assert result.data_fingerprint in text
    for words in (
        *(
            "A note.",
            "3 bars are missing.",
            "2 bars held both stop and target",
            "too little cash",
            "P = 365 days a year",
        ),
        *("Golden cross", "fast = 10", "Asia/Seoul", "Deflated Sharpe ratio", "Parameters: Sharpe ratio of 9 trials"),
    ):
        assert words in text


def test_every_definition_is_at_hand(bars: Bars, result: Result, metrics: Metrics) -> None:
    """What a label leads to is there, once."""
    page = Page(rich(bars, result, metrics))
    ids = page.ids()
    assert len(ids) == len(set(ids))
    assert {f"def-{name}" for name in DEFINITIONS} <= set(ids)
    links = [attributes["href"] or "" for tag, attributes in page.tags if tag == "a"]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)


def test_the_script_finds_what_it_asks_for(bars: Bars, result: Result, metrics: Metrics) -> None:
    """Elements the script uses without asking whether they are there, are there, also for an empty run."""
    empty = crossing(Bars.empty())
    for html in (rich(bars, result, metrics), render(empty, measure(empty), candles={})):
        page = Page(html)
        always = {"data", "tip", "theme", "colours", "definitions"}
        assert always <= set(page.ids())
        json.dumps(page.data)


def test_the_same_arguments_give_the_same_bytes(bars: Bars, result: Result, metrics: Metrics) -> None:
    assert rich(bars, result, metrics) == rich(bars, result, metrics)


# ---------------------------------------------------------------- alone, safe, small


def test_it_asks_nobody(bars: Bars, result: Result, metrics: Metrics) -> None:
    """Nothing in it has an address, and its policy allows none."""
    html = rich(bars, result, metrics)
    assert not re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", html)
    assert not re.search(r"url\(|@import|<link|<img|<iframe|fetch\(|XMLHttpRequest|innerHTML|eval\(", html)
    page = Page(html)
    assert not [attributes for _tag, attributes in page.tags if attributes.keys() & {"src", "srcset", "action"}]
    (policy,) = [a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv")]
    assert (policy or "").startswith("default-src 'none'")


HOSTILE = "</script><script>alert(1)</script><b onmouseover='x'>\u2028\"&{{style}}"


def test_hostile_names_stay_text(bars: Bars, metrics: Metrics) -> None:
    result = crossing(bars, instrument=HOSTILE, strategy=HOSTILE)
    trades = tuple(msgspec.structs.replace(trade, exit_reason=HOSTILE) for trade in result.trades)
    result = msgspec.structs.replace(
        result,
        trades=trades,
        parameters={HOSTILE: 1.0},
        data_fingerprint=HOSTILE,
        warnings=(Text("{name} is odd.", {"name": HOSTILE}),),
        refused=(Order(HOSTILE, int(bars.open_ns[0]), "buy", HOSTILE),),
    )
    trials = [Trial({HOSTILE: n, "b": m}, {HOSTILE: 1.0}) for n in (1, 2) for m in (1, 2)]
    html = render(
        result,
        metrics,
        candles={HOSTILE: bars, "b": bars},
        trials=trials,
        metric=HOSTILE,
        notes=HOSTILE,
        source=HOSTILE,
        facts=((Text("Fees"), HOSTILE),),
    )
    page = Page(html)
    assert [tag for tag, _attributes in page.tags if tag == "script"] == ["script"] * 2
    assert "b" not in {tag for tag, attributes in page.tags if "onmouseover" in attributes}
    assert page.data["instruments"][0] == HOSTILE
    assert page.data["reasons"][0] == HOSTILE
    assert HOSTILE in page.text  # as it was written: nothing was put into its places


def test_a_million_bars_fit(bars: Bars) -> None:
    """Two years of minutes with ten thousand trades: less than 2 MB, with every extreme kept."""
    count = 1_000_000
    base = crossing(bars)
    rng = np.random.default_rng(1)
    opens = np.arange(count, dtype=np.int64) * 60 * SECOND_NS
    price = 5e7 * np.exp(np.cumsum(rng.normal(0, 0.0005, count)))
    curve = msgspec.structs.replace(
        base.curve,
        open_ns=opens,
        close_ns=opens + 60 * SECOND_NS,
        equity=price / 5,
        invested=price / 5,
        positions=np.ones(count, np.int64),
    )
    trades = tuple(
        msgspec.structs.replace(
            base.trades[n % 20], entry_ns=n * 100 * 60 * SECOND_NS, exit_ns=(n * 100 + 50) * 60 * SECOND_NS
        )
        for n in range(10_000)
    )
    result = msgspec.structs.replace(
        base, timeframe="1m", curve=curve, trades=trades, open_trades=(), hold=price / 5.1, pending=()
    )
    long = Bars(opens, price, price * 1.001, price * 0.999, price, price, price)
    html = render(result, measure(result), candles={"upbit:KRW-BTC": long})
    assert len(html.encode()) < 2_000_000
    data = Page(html).data
    assert max(data["curve"]["high"]) == curve.equity.max()
    assert min(data["curve"]["low"]) == curve.equity.min()
    assert data["curve"]["equity"][-1] == curve.equity[-1]
    (series,) = data["series"]
    assert len(series["at"]) <= CANDLES_MOST
    assert max(series["high"]) == long.high.max()
    assert len(data["trades"]["profit"]) == TRADES_MOST
    assert data["trades"]["first"] == 10_001 - TRADES_MOST
    assert "5,000 of 10,000 trades" in html


def test_a_hundred_instruments_fit(bars: Bars, result: Result, metrics: Metrics) -> None:
    html = render(result, metrics, candles={f"upbit:KRW-{n}": bars for n in range(100)})
    assert len(html.encode()) < 2_000_000
    assert len(Page(html).data["series"]) == 100


# ---------------------------------------------------------------- runs with little in them


@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_short_runs_are_no_error(count: int) -> None:
    bars = walk(40).slice(0, count)
    result = crossing(bars)
    page = Page(render(result, measure(result), candles={"upbit:KRW-BTC": bars}))
    assert "It never traded." in page.text or result.trades or result.open_trades


def test_sessions_and_days(bars: Bars) -> None:
    days = walk(300, minutes=1440)
    result = crossing(days, timeframe="1d", year_days=252, zone="America/New_York", instrument="yahoo:AAPL")
    page = Page(render(result, measure(result), candles={"yahoo:AAPL": days}))
    assert page.data["daily"] is True
    assert "P = 252 days a year" in page.text
    assert "at each session's last bar" in page.text


# ---------------------------------------------------------------- languages


def test_every_reason_of_the_kernel_has_words() -> None:
    load_translations("ko")
    assert [reason for reason in REASONS.values() if reason_text(reason) == reason] == []
    assert reason_text("dead cross") == "dead cross"


def test_korean_is_complete(bars: Bars, result: Result, metrics: Metrics) -> None:
    """No English sentence is left: what has Latin letters is a name, a formula, a unit or an abbreviation."""
    english = Page(rich(bars, result, metrics))
    language = load_translations("ko")
    html = rich(bars, result, metrics, language)
    page = Page(html)
    assert ("html", {"lang": "ko", "data-colours": "korea"}) in page.tags
    assert page.ids() == english.ids()
    words = {text.strip() for text in page.texts if re.search(r"[A-Za-z]{3}", text)}
    same = words & {text.strip() for text in english.texts}
    names = {
        *("Golden cross", "Golden cross · upbit:KRW-BTC", "upbit:KRW-BTC", "upbit:KRW-ETH", 'name = "Golden cross"'),
        *("fast = 10 · slow = 30", "fast", "slow", "slow ↑ fast →", "A note.", "3 bars are missing."),
        "upbit:KRW-BTC · 1h · 2024-01-01 09:00 – 2024-05-05 09:00 (Asia/Seoul)",
        *("Asia/Seoul", result.data_fingerprint, *(d.formula for d in DEFINITIONS.values())),
    }
    assert {text for text in same - names if "White" not in text} == set()
    assert page.data["words"]["sides"] != english.data["words"]["sides"]
    assert page.data["units"][-1] == [4, "만"]
