"""Yahoo as its recordings show it, over a real socket with third-party clients."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import struct
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from tests import virtual_time
from tests.sim.conftest import HandClock, Rest, dial, silent
from tests.sim.test_faults import Tape
from watchhamster.sim import FAULTS, Simulator
from watchhamster.sim.exchange import Exchange

AGENT = {"User-Agent": "Mozilla/5.0 (test)"}


def seconds(text: str) -> int:
    return int(dt.datetime.fromisoformat(text + "+00:00").timestamp())


NOW_S = seconds("2026-11-20T16:00:03")  # a Friday: New York and London are open, Seoul is closed


class At(Rest):
    """A client of the simulator's Yahoo, which lives at a moment."""

    def __init__(self, sim: Simulator, client: httpx.AsyncClient) -> None:
        super().__init__(sim, client, "yahoo")
        self.sim = sim

    async def chart(self, symbol: str, **params: object) -> dict[str, Any]:
        """The one result of a chart that is answered."""
        answer = await self(f"/v8/finance/chart/{symbol}", **params)
        assert answer.status_code == 200, answer.text
        (result,) = answer.json()["chart"]["result"]
        assert answer.json()["chart"]["error"] is None
        read: dict[str, Any] = result
        return read

    async def under(self, spec: str) -> None:
        assert (await self.control("PUT", "/sim/faults", content=spec)).status_code == 200

    async def crumb(self) -> str:
        assert (await self("/fc")).status_code == 404
        answer = await self("/v1/test/getcrumb")
        assert answer.status_code == 200 and answer.headers["content-type"] == "text/plain;charset=utf-8"
        return answer.text


@pytest.fixture
async def yahoo(clock: HandClock, request: pytest.FixtureRequest) -> AsyncIterator[At]:
    start_s = seconds(getattr(request, "param", "2026-11-20T16:00:03"))
    simulator = Simulator(clock=clock, start_ns=start_s * 10**9)
    async with simulator as sim, httpx.AsyncClient(verify=False, headers=AGENT) as client:
        yield At(sim, client)


def at(moment: str) -> pytest.MarkDecorator:
    """Let the test happen at another moment."""
    return pytest.mark.parametrize("yahoo", [moment], indirect=True)


def quote(result: dict[str, Any]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = result["indicators"]["quote"][0]
    assert {len(column) for column in columns.values()} <= {len(result.get("timestamp", ()))}
    return columns


# ---------------------------------------------------------------- chart


async def test_a_day_has_the_shape_of_the_recorded_one(yahoo: At, shared_data: Path) -> None:
    recorded = json.loads((shared_data / "yahoo" / "rest-chart-AAPL-1d.json").read_bytes())["chart"]["result"][0]
    since, until = seconds("2020-01-02T00:00"), seconds("2020-01-03T00:00")
    made = await yahoo.chart("AAPL", period1=since, period2=until, interval="1d")
    assert recorded["meta"].keys() == made["meta"].keys()
    assert recorded.keys() == made.keys() and recorded["timestamp"] == made["timestamp"] == [1577975400]
    for name, value in recorded["meta"].items():
        assert type(made["meta"][name]) in {type(value), *({int, float} if isinstance(value, float) else ())}, name
    for name in (
        "currency",
        "exchangeName",
        "fullExchangeName",
        "range",
        "validRanges",
        "dataGranularity",
        "priceHint",
    ):
        assert made["meta"][name] == recorded["meta"][name]
    assert quote(made).keys() == quote(recorded).keys()
    assert made["indicators"]["adjclose"][0].keys() == {"adjclose"}


async def test_an_intraday_chart_ends_with_the_live_row(yahoo: At) -> None:
    result = await yahoo.chart("AAPL")  # range=1d, interval=1m
    meta, columns, stamps = result["meta"], quote(result), result["timestamp"]
    opened = meta["currentTradingPeriod"]["regular"]["start"]
    assert stamps[:3] == [opened, opened + 60, opened + 120] and opened == seconds("2026-11-20T14:30")
    assert stamps[-2] % 60 == 0 and stamps[-1] == meta["regularMarketTime"] <= NOW_S and stamps[-1] % 60
    assert columns["close"][-1] == columns["open"][-1] == columns["close"][-2] and columns["volume"][-1] == 0
    assert columns["close"][-1] == pytest.approx(meta["regularMarketPrice"], abs=1e-4)
    assert columns["close"][-1] == struct.unpack("<f", struct.pack("<f", columns["close"][-1]))[0]  # float32, widened
    assert sum(volume or 0 for volume in columns["volume"]) == meta["regularMarketVolume"]
    assert meta["tradingPeriods"] == [[meta["currentTradingPeriod"]["regular"]]]
    assert meta["dataGranularity"] == "1m" and meta["range"] == "1d" and "adjclose" not in result["indicators"]
    assert meta["previousClose"] == meta["chartPreviousClose"]


async def test_pre_and_post_market_are_asked_for_and_change_the_session_table(yahoo: At) -> None:
    result = await yahoo.chart("AAPL", range="5d", interval="5m", includePrePost="true")
    periods = result["meta"]["tradingPeriods"]
    assert periods.keys() == {"pre", "regular", "post"}
    assert [len(days) for days in periods.values()] == [5, 5, 5]
    assert result["timestamp"][0] >= periods["pre"][0][0]["start"]
    regular = periods["regular"][1][0]
    after = [stamp for stamp in result["timestamp"] if regular["end"] <= stamp < periods["post"][1][0]["end"]]
    early = [stamp for stamp in result["timestamp"] if periods["pre"][1][0]["start"] <= stamp < regular["start"]]
    assert len(after) > 5 and len(early) > 5
    without = await yahoo.chart("AAPL", range="5d", interval="5m")
    assert isinstance(without["meta"]["tradingPeriods"], list) and len(without["timestamp"]) == 4 * 78 + 19 + 1


@pytest.mark.parametrize("interval", ["1m", "2m", "5m", "15m", "30m", "60m", "90m", "1h"])
async def test_every_interval_adds_up_to_the_day(yahoo: At, interval: str) -> None:
    span = {"period1": seconds("2026-11-19T00:00"), "period2": seconds("2026-11-20T00:00")}
    columns = quote(await yahoo.chart("MSFT", interval=interval, **span))
    day = quote(await yahoo.chart("MSFT", interval="1d", **span))
    assert (columns["open"][0], columns["close"][-1]) == (day["open"][0], day["close"][0])
    assert (max(columns["high"]), min(columns["low"])) == (day["high"][0], day["low"][0])
    assert sum(columns["volume"]) == day["volume"][0]


async def test_sparse_shares_have_nulls_and_currencies_no_volume(yahoo: At) -> None:
    columns = quote(await yahoo.chart("BRK-A"))
    missing = [row for row in zip(*columns.values(), strict=True) if None in row]
    assert missing and set(missing) == {(None,) * 5}
    assert len(missing) < len(columns["close"])
    euro = quote(await yahoo.chart("EURUSD=X"))
    assert None not in euro["close"] and set(euro["volume"]) == {0}
    pence = await yahoo.chart("VOD.L", interval="1d")
    assert pence["meta"]["currency"] == "GBp" and 50 < pence["meta"]["regularMarketPrice"] < 200


async def test_the_day_that_goes_on_has_the_last_trades_time_and_weeks_have_it_apart(yahoo: At) -> None:
    day = await yahoo.chart("AAPL", range="5d", interval="1d")
    opens = [dt.datetime.fromtimestamp(stamp, dt.UTC) for stamp in day["timestamp"]]
    assert {(one.hour, one.minute) for one in opens[:-1]} == {(14, 30)}
    assert day["timestamp"][-1] == day["meta"]["regularMarketTime"]
    week = await yahoo.chart("AAPL", range="1mo", interval="1wk")
    live = week["timestamp"][-1]
    assert live == week["meta"]["regularMarketTime"] and live - week["timestamp"][-2] < 7 * 86400
    assert quote(week)["volume"][-1] == quote(day)["volume"][-1]
    assert quote(week)["volume"][-2] == sum(quote(day)["volume"][:-1])  # Monday to Thursday
    assert dt.datetime.fromtimestamp(week["timestamp"][-2], dt.UTC).weekday() == 0


@at("2026-11-21T12:00")
async def test_a_closed_market_says_when_it_opens(yahoo: At) -> None:
    result = await yahoo.chart("AAPL")
    now = seconds("2026-11-21T12:00")
    regular = result["meta"]["currentTradingPeriod"]["regular"]
    assert now < regular["start"] == seconds("2026-11-23T14:30")
    assert len(result["timestamp"]) == 390 and result["timestamp"][-1] == seconds("2026-11-20T20:59")
    seoul = (await yahoo.chart("005930.KS"))["meta"]
    told = seoul["currentTradingPeriod"]["regular"]
    assert (told["start"], told["end"]) == (seconds("2026-11-23T00:00"), seconds("2026-11-23T06:00"))  # as recorded
    assert seoul["regularMarketTime"] > seconds("2026-11-20T06:00")  # but it trades until half past
    bitcoin = await yahoo.chart("BTC-USD")
    assert bitcoin["meta"]["currentTradingPeriod"]["regular"]["start"] < now and bitcoin["timestamp"][-1] > now - 60
    empty = await yahoo.chart("AAPL", interval="1m", period1=now - 3600, period2=now)
    assert "timestamp" not in empty and empty["indicators"] == {"quote": [{}]}
    none = await yahoo.chart("AAPL", interval="1d", period1=now - 3600, period2=now)
    assert none["indicators"] == {"quote": [{}], "adjclose": [{}]}


@at("2026-11-27T19:30")
async def test_a_half_day_ends_early(yahoo: At) -> None:
    result = await yahoo.chart("AAPL")
    assert len(result["timestamp"]) == 210 and result["timestamp"][-1] == seconds("2026-11-27T17:59")
    table = result["meta"]["currentTradingPeriod"]
    assert (table["regular"]["end"], table["post"]["end"]) == (seconds("2026-11-27T18:00"), seconds("2026-11-27T22:00"))
    crumb = await yahoo.crumb()
    answer = await yahoo("/v7/finance/quote", symbols="AAPL,^GSPC", crumb=crumb)
    share, index = answer.json()["quoteResponse"]["result"]
    assert share["marketState"] == "POST" and "postMarketPrice" in share and "postMarketPrice" not in index


@at("2026-03-09T13:45")
async def test_sessions_follow_daylight_saving(yahoo: At) -> None:
    result = await yahoo.chart("AAPL", range="5d", interval="1d")
    assert [dt.datetime.fromtimestamp(stamp, dt.UTC).hour for stamp in result["timestamp"]] == [14, 14, 14, 14, 13]
    assert (result["meta"]["gmtoffset"], result["meta"]["timezone"]) == (-14400, "EDT")
    rows = (await yahoo.chart("AAPL", range="5d", interval="60m"))["timestamp"]
    assert seconds("2026-03-06T14:30") in rows and seconds("2026-03-09T13:30") in rows


@at("2026-12-08T17:00")
async def test_adjusted_closes_follow_from_dividends_and_splits_are_in_the_prices(yahoo: At) -> None:
    for symbol in ("NVDA", "EWG", "VOD.L"):
        since = seconds("2019-01-01T00:00")
        events = "div,splits,capitalGains"
        result = await yahoo.chart(symbol, period1=since, interval="1d", events=events)
        stamps, closes = result["timestamp"], quote(result)["close"]
        factor, adjusted = 1.0, [0.0] * len(stamps)
        paid: dict[int, float] = {}
        for kind in ("dividends", "capitalGains"):
            for key, event in result["events"].get(kind, {}).items():
                assert key == str(event["date"])
                paid[event["date"]] = paid.get(event["date"], 0.0) + event["amount"]
        for row in range(len(stamps) - 1, -1, -1):
            adjusted[row] = closes[row] * factor
            factor *= 1 - paid.get(stamps[row], 0.0) / closes[row - 1] if row else 1.0
        assert len(paid) >= 13
        assert adjusted == pytest.approx(result["indicators"]["adjclose"][0]["adjclose"], rel=5e-7)
        if symbol == "NVDA":
            ratios = [split["splitRatio"] for split in result["events"]["splits"].values()]
            assert ratios == ["4:1", "10:1", "2:1"]
        if symbol == "EWG":
            assert len(result["events"]["capitalGains"]) >= 7
    bare = await yahoo.chart("NVDA", range="1y", interval="1d")
    assert "events" not in bare


@pytest.mark.parametrize(
    ("symbol", "params", "status", "code", "told"),
    [
        ("NOPE", {}, 404, "Not Found", "No data found, symbol may be delisted"),
        ("SIX", {"range": "1y"}, 404, "Not Found", "No data found, symbol may be delisted"),
        ("AAPL", {"interval": "7d"}, 400, "Bad Request", "interval=7d is not supported. Valid intervals: [1m, 2m, 5m"),
        ("AAPL", {"range": "9x"}, 400, "Bad Request", "range=9x is not supported"),
        ("AAPL", {"interval": "1m", "range": "1mo"}, 422, "Unprocessable Entity", "Only 8 days worth of 1m"),
        (
            "AAPL",
            {"interval": "1m", "period1": NOW_S - 40 * 86400, "period2": NOW_S - 35 * 86400},
            422,
            "Unpr",
            "30 days",
        ),
        ("AAPL", {"interval": "5m", "range": "6mo"}, 422, "Unprocessable Entity", "must be within the last 60 days."),
        ("AAPL", {"interval": "1h", "range": "5y"}, 422, "Unprocessable Entity", "must be within the last 730 days."),
        ("AAPL", {"period1": 500, "period2": 100}, 400, "Bad Request", "start date cannot be after end date"),
        ("AAPL", {"period1": 100, "period2": 500}, 400, "Bad Request", "Data doesn't exist for startDate = 100"),
    ],
)
async def test_refusals_are_those_of_the_service(
    yahoo: At, symbol: str, params: dict[str, object], status: int, code: str, told: str
) -> None:
    answer = await yahoo(f"/v8/finance/chart/{symbol}", **params)
    body = answer.json()["chart"]
    assert answer.status_code == status and body["result"] is None
    assert body["error"]["code"].startswith(code) and told in body["error"]["description"]


async def test_what_is_just_within_reach_is_answered(yahoo: At) -> None:
    for interval, params in (
        ("1m", {"range": "7d"}),
        ("1m", {"period1": NOW_S - 29 * 86400, "period2": NOW_S - 22 * 86400}),
        ("15m", {"range": "60d"}),
        ("1h", {"period1": NOW_S - 729 * 86400, "period2": NOW_S - 727 * 86400}),
        ("1mo", {"range": "max"}),
        ("1d", {"range": "ytd"}),
        ("3mo", {"range": "10y"}),
        ("5d", {"range": "1y"}),
    ):
        result = await yahoo.chart("EWG", interval=interval, **params)
        assert result["timestamp"] == sorted(result["timestamp"]) and len(result["timestamp"]) > 5


# ---------------------------------------------------------------- search, trending, news


async def test_search_finds_symbols_and_names_and_some_without_a_symbol(yahoo: At) -> None:
    answer = await yahoo("/v1/finance/search", q="appl", quotesCount=8, newsCount=3)
    body = answer.json()
    assert body["quotes"][0]["symbol"] == "AAPL" and body["quotes"][0]["exchange"] == "NMS"
    assert any("symbol" not in row and row["isYahooFinance"] is False for row in body["quotes"])
    assert len(body["news"]) == 3 and body["count"] == len(body["quotes"]) + 3
    assert all(item["providerPublishTime"] <= NOW_S and item["title"] for item in body["news"])
    found = {}
    for text in ("btc", "^ks", "samsung", "usd/krw", "삼성전자", "vodafone group"):
        rows = (await yahoo("/v1/finance/search", q=text, newsCount=0)).json()["quotes"]
        found[text] = [row["symbol"] for row in rows if "symbol" in row][:1]
    assert found == {
        "btc": ["BTC-USD"],
        "^ks": ["^KS11"],
        "samsung": ["005930.KS"],
        "usd/krw": ["KRW=X"],
        "삼성전자": [],
        "vodafone group": ["VOD.L"],
    }
    missing = await yahoo("/v1/finance/search")
    assert missing.json()["finance"]["error"]["description"] == "Missing required query parameter=q"


async def test_trending_and_news_in_both_shapes(yahoo: At) -> None:
    (us,) = (await yahoo("/v1/finance/trending/US", count=3)).json()["finance"]["result"]
    assert us["count"] == 3 == len(us["quotes"]) and set(us["quotes"][0]) == {"symbol"}
    assert (await yahoo("/v1/finance/trending/XX")).json() == {"finance": {"result": [], "error": None}}
    config = {"serviceConfig": {"snippetCount": 4, "s": ["AAPL"]}}
    answer = await yahoo.control("POST", "/yahoo/xhr/ncp?queryRef=latestNews&serviceKey=ncp_fin", json=config)
    stream = answer.json()["data"]["tickerStream"]["stream"]
    assert sum("ad" in item for item in stream) == 1
    stories = [item["content"] for item in stream if "ad" not in item]
    flat = (await yahoo("/v1/finance/search", q="AAPL", newsCount=4)).json()["news"]
    assert [story["id"] for story in stories] == [item["uuid"] for item in flat]
    assert {story["pubDate"][-1] for story in stories} == {"Z"}
    assert (await yahoo.control("POST", "/yahoo/xhr/ncp", content="{}")).status_code == 400
    feed = await yahoo("/rss/2.0/headline", s="AAPL")
    assert feed.text.startswith("<?xml") and flat[0]["uuid"] in feed.text
    assert (await yahoo.control("GET", "/yahoo/rss/2.0/headline?s=AAPL", headers={"User-Agent": ""})).status_code == 429


# ---------------------------------------------------------------- cookie, crumb, quotes


async def test_quotes_need_a_cookie_and_the_crumb_that_belongs_to_it(yahoo: At) -> None:
    bare = await yahoo("/v7/finance/quote", symbols="AAPL")
    assert (bare.status_code, bare.json()["finance"]["error"]["code"]) == (401, "Unauthorized")
    assert (await yahoo("/v1/test/getcrumb")).status_code == 401
    crumb = await yahoo.crumb()
    assert len(crumb) == 11
    assert (await yahoo("/v7/finance/quote", symbols="AAPL")).json()["finance"]["error"][
        "description"
    ] == "Invalid Crumb"
    answer = await yahoo("/v7/finance/quote", symbols="AAPL,SIX,005930.KS,BTC-USD,KRW=X,NOPE", crumb=crumb)
    rows = {row["symbol"]: row for row in answer.json()["quoteResponse"]["result"]}
    assert list(rows) == ["AAPL", "005930.KS", "BTC-USD", "KRW=X"]  # unknown ones are just missing
    assert [row["marketState"] for row in rows.values()] == ["REGULAR", "CLOSED", "REGULAR", "REGULAR"]
    meta = (await yahoo.chart("AAPL"))["meta"]
    share = rows["AAPL"]
    assert share["regularMarketPrice"] == meta["regularMarketPrice"]
    assert share["regularMarketPreviousClose"] == meta["previousClose"]
    change = share["regularMarketPrice"] - share["regularMarketPreviousClose"]
    assert share["regularMarketChange"] == pytest.approx(change, abs=1e-4)
    assert share["regularMarketChangePercent"] == pytest.approx(change / meta["previousClose"] * 100, abs=1e-3)
    assert rows["BTC-USD"]["fromCurrency"] == "BTC"
    async with httpx.AsyncClient(headers=AGENT) as other:  # a crumb is good only with its cookie
        url = yahoo.sim.venues["yahoo"]
        await other.get(url + "/")
        stolen = await other.get(url + "/v7/finance/quote", params={"symbols": "AAPL", "crumb": crumb})
        assert stolen.status_code == 401
    async with httpx.AsyncClient() as library:  # a library's own User-Agent gets no crumb
        await library.get(url + "/")
        refused = await library.get(url + "/v1/test/getcrumb")
        assert (refused.status_code, refused.text) == (429, "Too Many Requests\r\n")


@at("2026-11-20T12:00")
async def test_before_the_open_the_quote_has_a_premarket_price(yahoo: At) -> None:
    crumb = await yahoo.crumb()
    (row,) = (await yahoo("/v7/finance/quote", symbols="AAPL", crumb=crumb)).json()["quoteResponse"]["result"]
    assert row["marketState"] == "PRE" and row["preMarketTime"] > row["regularMarketTime"]
    assert row["regularMarketTime"] < seconds("2026-11-19T21:00") <= seconds("2026-11-20T09:00") < row["preMarketTime"]
    assert row["preMarketChange"] == pytest.approx(row["preMarketPrice"] - row["regularMarketPrice"], abs=1e-4)


# ---------------------------------------------------------------- manners


async def test_a_rude_client_is_seen_and_refused(yahoo: At, clock: HandClock) -> None:
    for _ in range(3):
        await yahoo.chart("AAPL")
        clock.advance(1.0)
    await yahoo("/v1/finance/search", q="a")
    await yahoo("/v1/finance/search", q="a")
    manners = (await yahoo.control("GET", "/sim/manners")).json()["yahoo"]
    assert (manners["calls"], manners["hasty"], manners["wasted"], manners["refused"]) == (5, 1, 3, 0)
    assert manners["paths"] == {"/v8/finance/chart": 3, "/v1/finance/search": 2}
    clock.advance(60.0)
    statuses = [(await yahoo("/v1/finance/trending/US")).status_code for _ in range(103)]
    assert statuses == [200] * 100 + [429] * 3
    assert (await yahoo.control("GET", "/sim/manners")).json()["yahoo"]["refused"] == 3
    clock.advance(60.0)
    assert (await yahoo("/v1/finance/trending/US")).status_code == 200
    answers = await asyncio.gather(*(yahoo("/v8/finance/chart/NVDA", interval="1h", range="1y") for _ in range(4)))
    assert {answer.status_code for answer in answers} == {200}
    assert (await yahoo.control("GET", "/sim/manners")).json()["yahoo"]["parallel_max"] > 1


# ---------------------------------------------------------------- faults of calls


async def test_refusals_outages_and_pages(yahoo: At) -> None:
    path = "/v8/finance/chart/AAPL"
    seen = {}
    for spec in ("http429", "busy200", "http999", "maintenance", "http5xx", "html", "empty"):
        await yahoo.under(spec)
        answer = await yahoo(path)
        seen[spec] = (answer.status_code, answer.text)
    assert seen["http429"] == (429, "Too Many Requests\r\n") and seen["busy200"] == (200, "Too Many Requests\r\n")
    assert seen["http999"][0] == 999 and "999 Unable to process request" in seen["http999"][1]
    assert seen["maintenance"][0] == 503 and "Will be right back" in seen["maintenance"][1]
    assert seen["http5xx"][0] in (500, 502, 503) and "Error report" in seen["http5xx"][1]
    assert seen["html"][0] == 200 and seen["html"][1].startswith("<!DOCTYPE html>")
    assert seen["empty"] == (200, "")
    await yahoo.under("error200")
    assert (await yahoo(path)).json()["chart"]["error"]["code"] == "Internal Server Error"
    await yahoo.under("upbit.http429,upbit.down")  # the other venue's
    assert (await yahoo(path)).status_code == 200
    await yahoo.under("delist:AAPL")
    assert (await yahoo(path)).status_code == 404


async def test_who_has_not_agreed_is_sent_to_the_consent_page(yahoo: At) -> None:
    await yahoo.under("consent")
    answer = await yahoo("/v8/finance/chart/AAPL")
    assert answer.status_code == 302
    place = answer.headers["location"]
    page = await yahoo.control("GET", place)
    assert "text/html" in page.headers["content-type"] and 'name="csrfToken"' in page.text
    agreed = await yahoo.control("POST", place, data={"agree": "agree"}, follow_redirects=True)
    assert "chart" in agreed.json()  # the cookie that it left opens the way
    assert (await yahoo("/v8/finance/chart/AAPL")).status_code == 200


async def test_crumbs_fail_alone(yahoo: At) -> None:
    crumb = await yahoo.crumb()
    await yahoo.under("bad_crumb")
    answer = await yahoo("/v7/finance/quote", symbols="AAPL", crumb=crumb)
    assert (answer.status_code, answer.json()["finance"]["error"]["description"]) == (401, "Invalid Crumb")
    await yahoo.under("crumb429")
    assert (await yahoo("/v1/test/getcrumb")).status_code == 429
    assert (await yahoo("/v8/finance/chart/AAPL")).status_code == 200


async def test_charts_with_holes_without_tables_late_and_early(yahoo: At) -> None:
    await yahoo.under("nulls:0.5")
    closes = quote(await yahoo.chart("AAPL"))["close"]
    assert 0.2 < closes.count(None) / len(closes) < 0.8
    await yahoo.under("no_meta")
    meta = (await yahoo.chart("AAPL"))["meta"]
    assert meta["currency"] is None and "tradingPeriods" not in meta and "currentTradingPeriod" not in meta
    await yahoo.under("live_row")
    until = seconds("2026-11-19T15:00")
    early = await yahoo.chart("AAPL", interval="1m", period1=until - 1800, period2=until)
    assert early["timestamp"][-2] < until < early["timestamp"][-1]
    await yahoo.under("delay:20")
    late = {symbol: (await yahoo.chart(symbol))["meta"]["regularMarketTime"] for symbol in ("VOD.L", "AAPL")}
    assert late["VOD.L"] <= NOW_S - 1200 and late["AAPL"] > NOW_S - 60
    await yahoo.under("skew:120")
    answer = await yahoo("/v8/finance/chart/AAPL")
    assert answer.json()["chart"]["result"][0]["meta"]["regularMarketTime"] > NOW_S + 60
    assert parsedate_to_datetime(answer.headers["date"]).timestamp() == NOW_S + 120


# ---------------------------------------------------------------- the stream

FIELDS = {
    1: "id", 2: "price", 3: "time", 4: "currency", 5: "exchange", 6: "quote_type", 7: "market_hours",
    8: "change_percent", 9: "day_volume", 10: "day_high", 11: "day_low", 12: "change", 22: "last_size", 23: "bid",
    25: "ask", 27: "price_hint", 28: "vol_24hr", 29: "vol_all_currencies", 30: "from_currency",
}  # fmt: skip
ZIGZAG = {3, 9, 22, 27, 28, 29}


def decode(message: bytes) -> dict[str, Any]:
    """A `PricingData` by the published numbers, as anyone would read it."""
    fields: dict[str, Any] = {}
    place = 0

    def varint() -> int:
        nonlocal place
        number = shift = 0
        while True:
            byte = message[place]
            place += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    while place < len(message):
        field, kind = divmod(varint(), 8)
        value: Any
        if kind == 0:
            value = varint()
            value = (value >> 1) ^ -(value & 1) if field in ZIGZAG else value
        elif kind == 2:
            size = varint()
            value, place = message[place : place + size].decode(), place + size
        else:
            assert kind == 5
            (value,) = struct.unpack("<f", message[place : place + 4])
            place += 4
        fields[FIELDS[field]] = value
    return fields


def opened(frame: bytes | str) -> dict[str, Any]:
    envelope = json.loads(frame)
    assert isinstance(envelope, dict) and envelope.keys() == {"type", "message"} and envelope["type"] == "pricing"
    return decode(base64.b64decode(envelope["message"], validate=True))


async def pushed(stream: ClientConnection, count: int = 1) -> list[dict[str, Any]]:
    frames = [await asyncio.wait_for(stream.recv(), 60) for _ in range(count)]
    assert all(isinstance(frame, str) for frame in frames)
    return [opened(frame) for frame in frames]


async def subscribed(stream: ClientConnection, *symbols: str) -> None:
    await stream.send(json.dumps({"subscribe": symbols}))
    await asyncio.sleep(0.05)


STREAM = "yahoo/stream"


async def test_recorded_frames_have_the_fields_that_are_sent(shared_data: Path, yahoo: At, clock: HandClock) -> None:
    recorded = json.loads((shared_data / "yahoo" / "ws-pricing-frames.json").read_bytes())
    known = [opened(json.dumps(frame)).keys() for frame in recorded]
    async with dial(yahoo.sim, STREAM) as stream:
        await subscribed(stream, "AAPL")
        clock.advance(30.0)
        made = [frame.keys() for frame in await pushed(stream, 6)]
    assert set(map(frozenset, made)) <= set(map(frozenset, known))


async def test_frames_are_sparse_and_true(yahoo: At, clock: HandClock) -> None:
    meta = (await yahoo.chart("AAPL"))["meta"]
    async with dial(yahoo.sim, STREAM) as stream:
        await subscribed(stream, "AAPL", "NOPE")
        assert await silent(stream, 0.15)  # no acknowledgement, no snapshot
        clock.advance(20.0)
        first, *rest = await pushed(stream, 4)
        truth = {tick.ms // 1000: tick for tick in yahoo.sim.stocks.ticks("AAPL", NOW_S * 1000, NOW_S * 1000 + 20_000)}
        for frame in (first, *rest):
            tick = truth[frame["time"] // 1000]
            assert frame["price"] == pytest.approx(tick.price / 100, rel=1e-7)
            assert 0 <= tick.volume - frame["day_volume"] <= 15
            assert frame["price"] - frame.get("change", 0.0) == pytest.approx(meta["previousClose"], abs=1e-4)
            assert (frame["id"], frame["exchange"], frame["quote_type"]) == ("AAPL", "NMS", 8)
            assert (frame["market_hours"], frame["price_hint"]) == (1, 2)
        assert [frame["day_volume"] for frame in rest] == sorted(frame["day_volume"] for frame in rest)


async def test_symbols_come_and_go(yahoo: At, clock: HandClock) -> None:
    async with dial(yahoo.sim, STREAM) as stream:
        await subscribed(stream, "AAPL", "BTC-USD", "EURUSD=X")
        await subscribed(stream, "AAPL")  # once more is no more
        clock.advance(30.0)
        seen: dict[str, dict[str, Any]] = {}
        while len(seen) < 3:
            seen |= {frame["id"]: frame for frame in await pushed(stream)}
        assert seen.keys() == {"AAPL", "BTC-USD", "EURUSD=X"}
        coin, euro = seen["BTC-USD"], seen["EURUSD=X"]
        assert (coin["quote_type"], coin["from_currency"], coin["last_size"]) == (41, "BTC", coin["day_volume"])
        assert coin["day_low"] <= coin["price"] <= coin["day_high"]
        assert euro["bid"] < euro["price"] < euro["ask"] and "day_volume" not in euro and euro["quote_type"] == 14
        await stream.send('{"unsubscribe":["AAPL","EURUSD=X"]}')
        await asyncio.sleep(0.05)
        while not await silent(stream, 0.15):
            pass
        clock.advance(20.0)
        assert {frame["id"] for frame in await pushed(stream, 4)} == {"BTC-USD"}


@at("2026-11-20T13:00")
async def test_before_hours_frames_say_so_by_zero_or_by_silence(yahoo: At, clock: HandClock) -> None:
    seen: set[object] = set()
    async with dial(yahoo.sim, STREAM) as stream:
        await subscribed(stream, "AAPL", "NVDA", "TSLA", "SPY")
        while seen != {0, None}:
            clock.advance(120.0)
            frame = (await pushed(stream))[0]
            assert "day_volume" not in frame
            seen.add(frame.get("market_hours"))


@at("2026-11-21T12:00")
async def test_closed_markets_are_silent_and_coins_are_not(yahoo: At, clock: HandClock) -> None:
    async with dial(yahoo.sim, STREAM) as stream:
        await subscribed(stream, "AAPL", "005930.KS", "VOD.L", "EURUSD=X", "^GSPC", "ETH-USD")
        for _ in range(3):
            clock.advance(30.0)
            assert {frame["id"] for frame in await pushed(stream, 3)} == {"ETH-USD"}


@pytest.mark.parametrize(
    "message", ['{"type":"unsubscribe","symbols":["AAPL"]}', "hello", '{"subscribe":"AAPL"}', "[]"]
)
async def test_a_wrong_message_ends_the_stream(yahoo: At, message: str) -> None:
    async with dial(yahoo.sim, STREAM) as stream:
        await stream.send(message)
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(stream.recv(), 60)


async def test_versions_and_places(yahoo: At, clock: HandClock) -> None:
    async with dial(yahoo.sim, "yahoo/?version=2") as two, dial(yahoo.sim, "yahoo/stream?version=1") as one:
        await subscribed(two, "AAPL")
        await subscribed(one, "AAPL")
        clock.advance(20.0)
        bare = await asyncio.wait_for(one.recv(), 60)
        assert isinstance(bare, str) and decode(base64.b64decode(bare)) == (await pushed(two))[0]
    with pytest.raises(InvalidStatus):
        async with dial(yahoo.sim, "yahoo/v9"):
            pass


async def test_streams_drop_freeze_and_go_mute(yahoo: At, clock: HandClock) -> None:
    async with dial(yahoo.sim, STREAM) as stream:
        await subscribed(stream, "AAPL", "BTC-USD")
        await yahoo.under("yahoo.mute")
        clock.advance(60.0)
        assert await silent(stream, 0.2)
        await asyncio.wait_for(await stream.ping(), 60)
        await yahoo.under("delist:AAPL")
        clock.advance(20.0)
        assert {frame["id"] for frame in await pushed(stream, 3)} == {"BTC-USD"}
        await yahoo.under("upbit.drop")
        clock.advance(5.0)
        await pushed(stream)
        await yahoo.under("drop")
        with pytest.raises(ConnectionClosedError):
            while True:
                await asyncio.wait_for(stream.recv(), 60)


def run(spec: str, symbols: tuple[str, ...] = ("AAPL", "BTC-USD"), minutes: float = 3.0) -> list[bytes]:
    """The frames of so many virtual minutes under faults, without sockets."""
    tape = Tape()

    async def main(clock: virtual_time.VirtualClock) -> None:
        exchange = Exchange(clock, seed=3, start_ns=NOW_S * 10**9)
        session = exchange.join(tape, "yahoo", "/stream?")
        await exchange.hear(session, json.dumps({"subscribe": symbols}))
        exchange.faults.set(spec)
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(exchange.run())
            await clock.sleep(minutes * 60)
            pump.cancel()

    virtual_time.run(main)
    return tape.frames


def unreadable(frames: list[bytes]) -> int:
    bad = 0
    for frame in frames:
        try:
            one = opened(frame)
            good = 0 < one["price"] < 1e7 and 10**12 < one["time"] < 10**13 and one["exchange"] in ("NMS", "CCC")
        except (ValueError, AssertionError, KeyError, IndexError, struct.error):
            good = False
        bad += not good
    return bad


def test_frames_are_the_same_every_time_and_spoilt_on_demand() -> None:
    clean = run("")
    assert clean == run("") and unreadable(clean) == 0 and len(clean) > 100
    for name in ("garbage", "unknown", "absurd"):
        frames = run(f"{name}:0.3")
        assert [frame for frame in frames if frame in set(clean)] == clean
        assert 0.15 * len(clean) < len(frames) - len(clean) == unreadable(frames)
    spoilt = run("corrupt:0.5")
    assert len(spoilt) == len(clean) and 0.2 * len(clean) < unreadable(spoilt)
    assert 0.3 < len(run("lose:0.5")) / len(clean) < 0.7
    assert len(run("duplicate:0.5")) > 1.3 * len(clean)


def test_a_symbol_is_told_about_once_a_second() -> None:
    frames = [opened(frame) for frame in run("", ("BTC-USD",), 2.0)]
    assert 60 < len(frames) < 180
    volumes = [frame["day_volume"] for frame in frames]
    assert volumes == sorted(set(volumes))


def test_volume_sometimes_grows_without_a_trade() -> None:
    frames = [opened(frame) for frame in run("", ("NVDA", "TSLA", "SPY"))]
    again = 0
    for before, after in pairwise(frames):
        if (before["id"], before["price"], before["time"]) == (after["id"], after["price"], after["time"]):
            again += after["day_volume"] - before["day_volume"] == 15 and "last_size" not in after
    assert again > 3


# ---------------------------------------------------------------- truth and control


async def test_the_truth_is_told_as_events(yahoo: At) -> None:
    span = {"instrument": "yahoo:AAPL", "since_ns": (NOW_S - 603) * 10**9, "until_ns": (NOW_S - 3) * 10**9}
    trades = [
        json.loads(line) for line in (await yahoo.control("GET", "/sim/truth/trades", params=span)).text.splitlines()
    ]
    answer = await yahoo.control("GET", "/sim/truth/candles", params=span | {"timeframe": "1m"})
    candles = [json.loads(line) for line in answer.text.splitlines()]
    assert len(candles) == 10 and {candle["closed"] for candle in candles} == {True}
    assert sum(candle["volume"] for candle in candles) == sum(trade["size"] for trade in trades)
    assert (candles[0]["open"], candles[-1]["close"]) == (trades[0]["price"], trades[-1]["price"])
    assert len({trade["id"] for trade in trades}) == len(trades)
    chart = await yahoo.chart("AAPL")
    at = chart["timestamp"].index(candles[3]["open_ns"] // 10**9)
    assert quote(chart)["close"][at] == pytest.approx(candles[3]["close"], rel=1e-7)
    for frame, count, closed in (("1d", 5, False), ("1w", 1, False), ("1h", 34, False)):
        week = span | {"timeframe": frame, "since_ns": seconds("2026-11-16T05:00") * 10**9, "until_ns": NOW_S * 10**9}
        answer = await yahoo.control("GET", "/sim/truth/candles", params=week)
        lines = [json.loads(line) for line in answer.text.splitlines()]
        last_days = {"1d": 5, "1w": 1, "1h": 4 * 7 + 2}
        assert (len(lines), lines[-1]["closed"]) == (last_days[frame], closed), count


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/sim/truth/trades?instrument=yahoo:SIX", "unknown_instrument"),
        ("/sim/truth/candles?instrument=yahoo:AAPL&timeframe=4h", "bad_timeframe"),
        ("/sim/truth/candles?instrument=yahoo:AAPL&timeframe=1s", "bad_timeframe"),
    ],
)
async def test_wrong_questions_about_the_truth_are_explained(yahoo: At, path: str, code: str) -> None:
    answer = await yahoo.control("GET", path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


async def test_both_venues_are_announced_and_live_side_by_side(yahoo: At) -> None:
    line = yahoo.sim.ready()
    assert line["venues"] == {"upbit": yahoo.sim.url + "/upbit", "yahoo": yahoo.sim.url + "/yahoo"}
    assert (await yahoo.control("GET", "/upbit/v1/ticker?markets=KRW-BTC")).status_code == 200
    assert (await yahoo.control("GET", "/elsewhere/x")).status_code == 404
    assert (await yahoo("/v9/nope")).status_code == 404
    assert {name for name, kind in FAULTS.items() if kind.meaning.startswith("Yahoo:")} >= {"http999", "consent"}
