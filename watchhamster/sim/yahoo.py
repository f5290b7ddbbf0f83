"""Yahoo's answers and frames, as recordings and probes of the unofficial service describe them. Pure: time comes in.

Numbers are spelled as the service spells them: prices are float32 widened to double (`129.0399932861328`), stream
frames are protobuf with only some of the fields, base64 in a JSON envelope.
"""

from __future__ import annotations

import base64
import datetime as dt
import html
import re
import struct
from collections.abc import Iterator, Mapping
from email.utils import format_datetime

import numpy as np

from watchhamster.sim.calendars import Session, date_of, local_day, midnight_s, offset_of, session_of
from watchhamster.sim.headlines import Headline, headlines
from watchhamster.sim.shares import SHARE_OF, SHARES, Share
from watchhamster.sim.stocks import Bar, Stocks, Summary, Tick, longer, period_start

INTERVALS = {"1m": 1, "2m": 2, "5m": 5, "15m": 15, "30m": 30, "60m": 60, "90m": 90, "1h": 60}
LONG_INTERVALS = {"1d": None, "5d": 0, "1wk": 0, "1mo": 1, "3mo": 3}  # months; 0: a week
RANGES = ("1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max")
_DAY_S = 86400
_KINDS = {"EQUITY": 8, "INDEX": 9, "CURRENCY": 14, "ETF": 20, "CRYPTOCURRENCY": 41}
_TYPES = {
    "EQUITY": "Equity",
    "INDEX": "Index",
    "CURRENCY": "Currency",
    "ETF": "ETF",
    "CRYPTOCURRENCY": "Cryptocurrency",
}
_MARKETS = {"us": "us_market", "kr": "kr_market", "uk": "gb_market", "fx": "ccy_market", "coin": "ccc_market"}
_TRENDING = {
    "US": ("NVDA", "TSLA", "GME", "BTC-USD", "AAPL", "^GSPC", "MSFT", "ETH-USD", "SPY"),
    "KR": ("005930.KS", "000660.KS", "247540.KQ", "035420.KS", "KRW=X", "^KS11"),
    "GB": ("VOD.L", "SHEL.L", "EURUSD=X", "BTC-USD"),
}


class Refused(Exception):
    """A request that is answered with the error object of its kind."""

    def __init__(self, status: int, code: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.code = code
        self.description = description


def envelope(top: str, result: object, error: Refused | None = None) -> dict[str, object]:
    """The one top key with `result` and `error` that every answer has."""
    told = None if error is None else {"code": error.code, "description": error.description}
    return {top: {"result": result, "error": told}}


def single(number: float) -> float:
    """A number as the service prints it: through float32."""
    return float(np.float32(number))


def _singles(values: list[float | None]) -> list[float | None]:
    return [None if value is None else single(value) for value in values]


# ---------------------------------------------------------------- chart v8


class Chart:
    """One chart request, read and answered. Raises `Refused` for what the service refuses."""

    def __init__(self, stocks: Stocks, symbol: str, query: Mapping[str, str], now_ms: int) -> None:
        share = SHARE_OF.get(symbol)
        if share is None:
            raise Refused(404, "Not Found", "No data found, symbol may be delisted")
        self.stocks, self.share, self.now_ms = stocks, share, now_ms
        self.now_s = now_ms // 1000
        self.range = query.get("range", "")
        self.extended = query.get("includePrePost", "false").lower() == "true"
        self.events = query.get("events", "")
        if not self.range and "period1" not in query and "period2" not in query:
            self.range = "1d"
        self.interval = query.get("interval") or ("1m" if self.range == "1d" else "1d")
        if self.interval not in INTERVALS and self.interval not in LONG_INTERVALS:
            known = ", ".join([*INTERVALS, *LONG_INTERVALS])
            raise Refused(
                400,
                "Bad Request",
                f"Invalid input - interval={self.interval} is not supported. Valid intervals: [{known}]",
            )
        self.minutes = INTERVALS.get(self.interval)
        self.sessions: list[Session] = []
        if self.range:
            self._from_range()
        else:
            self._from_periods(query)
        self._check_reach()

    def _from_range(self) -> None:
        market = self.share.market
        today = local_day(market, self.now_s)
        match = re.fullmatch(r"(\d+)(d|wk|mo|y)", self.range)
        self.until_s = self.now_s + 1
        if self.range == "max":
            self.since_s = midnight_s(market, self.share.since_day)
        elif self.range == "ytd":
            self.since_s = midnight_s(market, period_start(market, today, 12))
        elif match is None:
            raise Refused(
                400,
                "Bad Request",
                f"Invalid input - range={self.range} is not supported. Valid ranges: [{', '.join(RANGES)}]",
            )
        elif match[2] == "d":
            count = int(match[1])
            first = today - count * 2 - 14
            found = self.stocks.sessions(self.share.symbol, midnight_s(market, first), self.until_s, self.now_ms)
            begun = [s for s in found if (s.pre if self.extended else s.open) <= self.now_s]
            self.since_s = begun[-min(count, len(begun))].pre if begun else self.now_s
        else:
            date = date_of(today)
            months = {"mo": 1, "y": 12}.get(match[2])
            if months is None:
                day = today - 7 * int(match[1])
            else:
                index = date.year * 12 + date.month - 1 - months * int(match[1])
                day = (dt.date(max(1970, index // 12), index % 12 + 1, min(date.day, 28)) - dt.date(1970, 1, 1)).days
            self.since_s = midnight_s(market, day)

    def _from_periods(self, query: Mapping[str, str]) -> None:
        try:
            self.since_s, self.until_s = int(query.get("period1", "0")), int(query.get("period2", str(self.now_s + 1)))
        except ValueError:
            raise Refused(400, "Bad Request", "Invalid input - period1 and period2 must be integers") from None
        span = f"startDate = {self.since_s}, endDate = {self.until_s}"
        if self.since_s >= self.until_s:
            raise Refused(400, "Bad Request", f"Invalid input - start date cannot be after end date. {span}")
        if self.until_s <= midnight_s(self.share.market, self.share.since_day) or self.since_s > self.now_s:
            raise Refused(400, "Bad Request", f"Data doesn't exist for {span}")

    def _check_reach(self) -> None:
        """How far back each interval goes."""
        if self.minutes is None:
            return
        days = 30 if self.minutes == 1 else 730 if self.minutes == 60 else 60
        text = f"{self.interval} data not available for startTime={self.since_s} and endTime={self.until_s}. "
        span_s = min(self.until_s, self.now_s + 1) - self.since_s
        counted = re.fullmatch(r"(\d+)d", self.range)  # a range of days counts sessions
        if self.minutes == 1 and (int(counted[1]) > 8 if counted else span_s > 8 * _DAY_S + 1):
            wrong = "Only 8 days worth of 1m granularity data are allowed to be fetched per request."
            raise Refused(422, "Unprocessable Entity", text + wrong)
        early = int(counted[1]) > days if counted else self.since_s < self.now_s - (days + 1) * _DAY_S
        if early:
            wrong = f"The requested range must be within the last {days} days."
            raise Refused(422, "Unprocessable Entity", text + wrong)

    # ---------------------------------------------------------------- rows

    def parts(self) -> Iterator[list[Bar]]:
        """The bars of the window, a session or a long span a time, so that others can run in between."""
        symbol = self.share.symbol
        if self.minutes is not None:
            for session in self.stocks.sessions(symbol, self.since_s, self.until_s, self.now_ms):
                self.sessions.append(session)
                bars = self.stocks.intraday(symbol, session, self.minutes, self.now_ms, self.extended)
                yield [bar for bar in bars if self.since_s <= bar.start_s < self.until_s]
        else:
            yield self._long()

    def _long(self) -> list[Bar]:
        market, symbol = self.share.market, self.share.symbol
        since_day = max(local_day(market, max(self.since_s, 0)), self.share.since_day)
        until_day = local_day(market, self.until_s) + 1
        bars = self.stocks.daily(symbol, since_day, until_day, self.now_ms)
        bars = [bar for bar in bars if self.since_s <= bar.start_s < self.until_s]
        months = LONG_INTERVALS[self.interval]
        live = self.live()
        is_live = bool(bars) and live is not None and bars[-1].start_s == live.open
        if months is not None:
            running = [bars.pop()] if is_live else []
            bars = longer(bars, market, months) + running
        if is_live:
            bars[-1] = bars[-1]._replace(start_s=bars[-1].last_ms // 1000)  # as on the wire: the last trade's time
        return bars

    def live(self) -> Session | None:
        """The session that goes on, if one does."""
        session = self.stocks.next_session(self.share.symbol, self.now_ms)
        return session if session.open <= self.now_s < session.close else None

    def live_row(self, summary: Summary, always: bool) -> Bar | None:
        """The row of the latest price that an intraday chart ends with while the market is open."""
        session = self.live()
        at_s = summary.ms // 1000
        if session is None or self.minutes is None or summary.session.day != session.day:
            return None
        if not always and not self.since_s <= at_s < self.until_s:
            return None
        if (at_s - session.open) % (self.minutes * 60) == 0:
            return None
        return Bar(at_s, at_s, *(summary.price,) * 4, 0, summary.ms)

    # ---------------------------------------------------------------- the answer

    def answer(self, bars: list[Bar], summary: Summary | None, no_meta: bool) -> dict[str, object]:
        """The body for these bars."""
        result: dict[str, object] = {"meta": self._meta(bars, summary, no_meta)}
        indicators: dict[str, object] = {"quote": [{}]}
        if bars:
            quote = {name: _singles([getattr(bar, name) for bar in bars]) for name in ("open", "high", "low", "close")}
            indicators["quote"] = [{**quote, "volume": [bar.volume for bar in bars]}]
            result["timestamp"] = [bar.start_s for bar in bars]
        if self.minutes is None:
            indicators["adjclose"] = [{"adjclose": _singles(self._adjusted(bars))}] if bars else [{}]
        told = self._told_events()
        if told:
            result["events"] = told
        result["indicators"] = indicators
        return envelope("chart", [result])

    def _adjusted(self, bars: list[Bar]) -> list[float | None]:
        days, factors = self.stocks.adjustments(self.share.symbol, local_day(self.share.market, self.now_s))
        adjusted: list[float | None] = []
        for bar in bars:
            row = int(np.searchsorted(days, local_day(self.share.market, bar.last_ms / 1000), side="right")) - 1
            factor = float(factors[row]) if 0 <= row < len(factors) else 1.0
            adjusted.append(None if bar.close is None else bar.close * factor)
        return adjusted

    def _told_events(self) -> dict[str, object]:
        symbol, market = self.share.symbol, self.share.market
        today = local_day(market, self.now_s)
        told: dict[str, object] = {}

        def open_of(day: int) -> int | None:
            session = session_of(market, day)
            return session.open if session and self.since_s <= session.open < self.until_s else None

        for name, wanted, found in (
            ("dividends", "div", self.stocks.dividends(symbol, today)),
            ("capitalGains", "capitalGain", self.stocks.gains(symbol, today)),
        ):
            rows: dict[str, object] = {}
            for event in found if wanted in self.events else ():
                if (at := open_of(event.day)) is not None:
                    amount = round(event.amount / self.stocks.ratio(symbol, event.day, today), 6)
                    rows[str(at)] = {"amount": amount, "date": at}
            if rows:
                told[name] = rows
        splits: dict[str, object] = {}
        for day, over, under in self.share.splits if "split" in self.events else ():
            at = open_of(day)
            if at is not None and day <= today:
                splits[str(at)] = {
                    "date": at,
                    "numerator": over,
                    "denominator": under,
                    "splitRatio": f"{over}:{under}",
                }
        if splits:
            told["splits"] = splits
        return told

    def _meta(self, bars: list[Bar], summary: Summary | None, no_meta: bool) -> dict[str, object]:
        share, stocks = self.share, self.stocks
        offset, zone = offset_of(share.market, self.now_s)
        first = stocks.first_session(share.symbol)
        meta: dict[str, object] = {
            "currency": None if no_meta else share.currency,
            "symbol": share.symbol,
            "exchangeName": share.exchange,
            "fullExchangeName": share.exchange_name,
            "instrumentType": share.kind,
            "firstTradeDate": first.open,
            "regularMarketTime": None,
            "hasPrePostMarketData": share.extended,
            "gmtoffset": offset,
            "timezone": zone,
            "exchangeTimezoneName": share.market.zone,
        }
        if summary is not None:
            high, low = year_range(stocks, share, self.now_ms)
            change = summary.price - summary.previous_close
            percent = round(change / summary.previous_close * 100, 2)
            meta |= {
                "regularMarketTime": summary.ms // 1000,
                "regularMarketPrice": round(summary.price, share.decimals),
                "regularMarketChangePercent": percent,
                "fulldayPrice": round(summary.extended[1] if summary.extended else summary.price, share.decimals),
                "fulldayChange": round(change, share.decimals),  # recorded so: of the regular session
                "fulldayChangePercent": percent,
                "fiftyTwoWeekHigh": round(high, share.decimals),
                "fiftyTwoWeekLow": round(low, share.decimals),
                "regularMarketDayHigh": round(summary.high, share.decimals),
                "regularMarketDayLow": round(summary.low, share.decimals),
                "regularMarketVolume": summary.volume,
            }
        meta |= {"longName": share.long, "shortName": share.short}
        since_s = bars[0].start_s if bars else self.since_s
        before = stocks.previous_close(share.symbol, max(since_s, 0), self.now_ms)
        if before is not None:
            meta["chartPreviousClose"] = round(before, max(share.decimals, 3))
        if self.minutes is not None and summary is not None:
            meta |= {"previousClose": round(summary.previous_close, max(share.decimals, 3)), "scale": 3}
        meta["priceHint"] = share.price_hint
        if not no_meta:
            meta["currentTradingPeriod"] = self._periods(stocks.next_session(share.symbol, self.now_ms))
            if self.minutes is not None:
                days = [self._periods(session) for session in self.sessions]
                parts: dict[str, object] = {name: [[day[name]] for day in days] for name in ("pre", "regular", "post")}
                meta["tradingPeriods"] = parts if self.extended else parts["regular"]
        meta |= {"dataGranularity": self.interval, "range": self.range, "validRanges": list(RANGES)}
        return meta

    def _periods(self, session: Session) -> dict[str, dict[str, object]]:
        pre, opened, close, post = session.told
        offset, zone = offset_of(self.share.market, opened)
        return {
            name: {"timezone": zone, "end": end, "start": start, "gmtoffset": offset}
            for name, start, end in (("pre", pre, opened), ("regular", opened, close), ("post", close, post))
        }


def year_range(stocks: Stocks, share: Share, now_ms: int) -> tuple[float, float]:
    """The highest and the lowest price of a year, split-adjusted."""
    today = stocks.today(share.symbol, now_ms)
    bars = stocks.daily(share.symbol, today - 364, today + 1, now_ms)
    return max((bar.high or 0.0 for bar in bars), default=0.0), min((bar.low or 0.0 for bar in bars), default=0.0)


# ---------------------------------------------------------------- quote v7


def market_state(stocks: Stocks, share: Share, now_s: int) -> str:
    """PRE, REGULAR, POST, PREPRE, POSTPOST or CLOSED."""
    session = session_of(share.market, local_day(share.market, now_s))
    if session is None:
        return "CLOSED"
    if session.open <= now_s < session.close:
        return "REGULAR"
    if not share.market.extended:
        return "CLOSED"
    if now_s < session.open:
        return "PRE" if now_s >= session.pre else "PREPRE"
    return "POST" if now_s < session.post else "POSTPOST"


def quote_row(stocks: Stocks, share: Share, now_ms: int, delay_min: float) -> dict[str, object] | None:
    """One quote; None before the first session."""
    summary = stocks.summary(share.symbol, now_ms)
    if summary is None:
        return None
    now_s = now_ms // 1000
    offset, zone = offset_of(share.market, now_s)
    state = market_state(stocks, share, now_s)
    bars = stocks.daily(share.symbol, (today := stocks.today(share.symbol, now_ms)) - 400, today + 1, now_ms)
    closes = [bar.close for bar in bars if bar.close is not None]
    high, low = year_range(stocks, share, now_ms)
    places = share.decimals

    def near(value: float) -> float:
        return round(value, max(places, 2))

    change = summary.price - summary.previous_close
    row: dict[str, object] = {
        "language": "en-US",
        "region": "US",
        "quoteType": share.kind,
        "typeDisp": _TYPES[share.kind],
        "quoteSourceName": "Delayed Quote" if delay_min else "Nasdaq Real Time Price",
        "triggerable": True,
        "currency": share.currency,
        "symbol": share.symbol,
        "shortName": share.short,
        "longName": share.long,
        "exchange": share.exchange,
        "fullExchangeName": share.exchange_name,
        "market": _MARKETS[share.market.name],
        "marketState": state,
        "exchangeTimezoneName": share.market.zone,
        "exchangeTimezoneShortName": zone,
        "gmtOffSetMilliseconds": offset * 1000,
        "exchangeDataDelayedBy": int(delay_min),
        "sourceInterval": 15,
        "priceHint": share.price_hint,
        "tradeable": False,
        "hasPrePostMarketData": share.extended,
        "firstTradeDateMilliseconds": midnight_s(share.market, share.since_day) * 1000,
        "regularMarketPrice": near(summary.price),
        "regularMarketTime": summary.ms // 1000,
        "regularMarketChange": single(change),
        "regularMarketChangePercent": single(change / summary.previous_close * 100),
        "regularMarketOpen": near(summary.open),
        "regularMarketDayHigh": near(summary.high),
        "regularMarketDayLow": near(summary.low),
        "regularMarketDayRange": f"{near(summary.low)} - {near(summary.high)}",
        "regularMarketVolume": summary.volume,
        "regularMarketPreviousClose": near(summary.previous_close),
        "fiftyTwoWeekHigh": near(high),
        "fiftyTwoWeekLow": near(low),
        "fiftyTwoWeekRange": f"{near(low)} - {near(high)}",
        "fiftyDayAverage": single(float(np.mean(closes[-50:]))),
        "twoHundredDayAverage": single(float(np.mean(closes[-200:]))),
        "averageDailyVolume3Month": int(np.mean([bar.volume or 0 for bar in bars[-63:]])),
        "averageDailyVolume10Day": int(np.mean([bar.volume or 0 for bar in bars[-10:]])),
    }
    if share.kind in ("EQUITY", "ETF", "CURRENCY"):
        step = share.tick / 10.0**places
        row |= {"bid": near(summary.price - step), "ask": near(summary.price + step), "bidSize": 3, "askSize": 2}
    if share.coin is not None:
        row |= {
            "fromCurrency": share.symbol.partition("-")[0],
            "toCurrency": "USD=X",
            "lastMarket": "CoinMarketCap",
            "volume24Hr": summary.volume,
            "volumeAllCurrencies": summary.volume,
        }
    if summary.extended is not None and state != "REGULAR":
        at_ms, price = summary.extended
        name = "preMarket" if at_ms > summary.session.post * 1000 else "postMarket"
        row |= {
            f"{name}Price": near(price),
            f"{name}Time": at_ms // 1000,
            f"{name}Change": single(price - summary.price),
            f"{name}ChangePercent": single((price / summary.price - 1) * 100),
        }
    return row


# ---------------------------------------------------------------- search, trending, news


def found(text: str) -> list[tuple[float, Share]]:
    """Instruments that a text may mean, the best first. Names are Latin: Korean finds nothing."""
    wanted = text.strip().lower()
    scored = []
    for share in SHARES:
        symbol, names = share.symbol.lower(), f"{share.short} {share.long}".lower()
        if symbol == wanted:
            score = 40_000.0
        elif symbol.startswith(wanted) or symbol.lstrip("^").startswith(wanted):
            score = 25_000.0
        elif any(word.startswith(wanted) for word in names.split()) or names.startswith(wanted):
            score = 21_000.0
        elif len(wanted) > 2 and wanted in names:
            score = 20_000.0
        else:
            continue
        scored.append((score - share.index, share))
    return sorted(scored, key=lambda one: -one[0]) if wanted else []


def search_body(stocks: Stocks, query: Mapping[str, str], now_s: int) -> dict[str, object]:
    """The answer of search. Raises `Refused` without a question."""
    if not query.get("q"):
        raise Refused(400, "Bad Request", "Missing required query parameter=q")
    counts = []
    for name in ("quotesCount", "newsCount"):
        text = query.get(name, "6")
        counts.append(int(text) if text.isdecimal() else 6)
    matches = found(query["q"])
    quotes: list[dict[str, object]] = []
    for score, share in matches[: counts[0]]:
        quote: dict[str, object] = {
            "exchange": share.exchange,
            "shortname": share.short,
            "quoteType": share.kind,
            "symbol": share.symbol,
            "index": "quotes",
            "score": score,
            "typeDisp": _TYPES[share.kind],
            "longname": share.long,
            "exchDisp": share.exchange_name,
            "isYahooFinance": True,
        }
        if share.sector:
            quote |= {"sector": share.sector, "sectorDisp": share.sector}
        quotes.append(quote)
    if quotes and len(quotes) < counts[0] and matches[0][1].kind == "EQUITY":  # a private company, without a symbol
        name = f"{matches[0][1].short.split()[0]} Labs"
        link = name.lower().replace(" ", "-")
        quotes.append({"index": "78ddc07626ff4bbc", "name": name, "permalink": link, "isYahooFinance": False})
    news = [
        _flat_story(one)
        for _score, share in matches[:1]
        for one, _ in zip(headlines(stocks, share, now_s), range(counts[1]), strict=False)
    ]
    rest: dict[str, object] = {
        name: [] for name in ("nav", "lists", "researchReports", "screenerFieldResults", "culturalAssets")
    }
    return {
        "explains": [],
        "count": len(quotes) + len(news),
        "quotes": quotes,
        "news": news,
        **rest,
        "totalTime": 21,
        "timeTakenForQuotes": 412,
        "timeTakenForNews": 800,
    }


def _link(one: Headline) -> str:
    return f"https://finance.example/news/{one.id}.html"


def _flat_story(one: Headline) -> dict[str, object]:
    story: dict[str, object] = {
        "uuid": one.id,
        "title": one.title,
        "publisher": one.publisher,
        "link": _link(one),
        "providerPublishTime": one.published_s,
        "type": "VIDEO" if one.video else "STORY",
    }
    if one.related:
        story["relatedTickers"] = list(one.related)
    return story


def stream_body(stocks: Stocks, symbols: list[str], count: int, now_s: int) -> dict[str, object]:
    """The nested news of some symbols, with an advertisement among them."""
    stream: list[dict[str, object]] = []
    for symbol in symbols:
        share = SHARE_OF.get(symbol)
        if share is None:
            continue
        for one, _ in zip(headlines(stocks, share, now_s), range(count), strict=False):
            content = {
                "id": one.id,
                "contentType": "VIDEO" if one.video else "STORY",
                "title": one.title,
                "summary": f"{one.title}.",
                "pubDate": f"{dt.datetime.fromtimestamp(one.published_s, dt.UTC):%Y-%m-%dT%H:%M:%SZ}",
                "provider": {"displayName": one.publisher, "url": "https://finance.example/", "sourceId": "sim"},
                "canonicalUrl": {"url": _link(one)},
                "clickThroughUrl": None if one.video else {"url": _link(one)},
                "thumbnail": None,
            }
            stream.append({"id": one.id, "content": content})
    if stream:
        stream.insert(1, {"id": "ad", "ad": [{"headline": "Buy seeds"}], "content": None})
    return {"data": {"tickerStream": {"stream": stream, "nextPage": None}}, "status": "OK"}


def rss_body(stocks: Stocks, symbols: list[str], now_s: int) -> str:
    """The headline feed of some symbols."""
    items = []
    for symbol in symbols:
        share = SHARE_OF.get(symbol)
        for one, _ in zip(headlines(stocks, share, now_s), range(20), strict=False) if share else ():
            when = format_datetime(dt.datetime.fromtimestamp(one.published_s, dt.UTC))
            items.append(
                f'<item><description>{html.escape(one.title)}.</description><guid isPermaLink="false">{one.id}</guid>'
                f"<link>{_link(one)}</link><pubDate>{when}</pubDate><title>{html.escape(one.title)}</title></item>"
            )
    return (
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?><rss version="2.0"><channel>'
        f"<title>Yahoo! Finance: {html.escape(','.join(symbols))} News</title>{''.join(items)}</channel></rss>"
    )


def trending_body(region: str, count: int, now_ms: int) -> dict[str, object]:
    """What is looked at most in a region, another order every hour."""
    symbols = _TRENDING.get(region.upper(), ())
    turn = now_ms // 3_600_000 % max(1, len(symbols))
    quotes = [{"symbol": symbol} for symbol in (*symbols[turn:], *symbols[:turn])[:count]]
    if not quotes:
        return envelope("finance", [])
    started = f"{dt.datetime.fromtimestamp(now_ms // 3_600_000 * 3600, dt.UTC):%Y%m%d%H}00"
    result = {"count": len(quotes), "quotes": quotes, "jobTimestamp": now_ms, "startInterval": int(started)}
    return envelope("finance", [result])


# ---------------------------------------------------------------- stream frames


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _text(field: int, value: str) -> bytes:
    data = value.encode()
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _plain(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _signed(field: int, value: int) -> bytes:
    """A sint64; zero is not sent."""
    return _plain(field, value << 1 if value >= 0 else (-value << 1) - 1) if value else b""


def _real(field: int, value: float) -> bytes:
    """A float; zero is not sent."""
    data = struct.pack("<f", value)
    return _varint(field << 3 | 5) + data if any(data) else b""


def pricing(share: Share, tick: Tick, base: float, at_ms: int, *, volume: int, sized: bool) -> bytes:
    """A `PricingData` message as sparse as the service sends it. `base` is the price that the change is from."""
    price = tick.price / 10.0**share.decimals
    change = price - base
    hours = 1 if tick.part == 1 else 2 if tick.part == 2 else 0
    parts = [_text(1, share.symbol), _real(2, price), _signed(3, at_ms)]
    coin = share.coin is not None
    if coin:
        parts.append(_text(4, share.currency))
    parts += [_text(5, share.exchange), _plain(6, _KINDS[share.kind])]
    if hours or at_ms // 1000 % 2:  # zero is sometimes written out
        parts.append(_plain(7, hours))
    parts.append(_real(8, change / base * 100))
    if tick.part:
        parts.append(_signed(9, volume))
    if coin or share.kind == "CURRENCY":
        parts += [_real(10, tick.high / 10.0**share.decimals), _real(11, tick.low / 10.0**share.decimals)]
    parts.append(_real(12, change))
    if coin:
        parts += [_signed(22, volume), _signed(27, share.price_hint), _signed(28, volume), _signed(29, volume)]
        parts += [_text(30, share.symbol.partition("-")[0])]
    else:
        if sized:
            parts.append(_signed(22, tick.size))
        if share.kind == "CURRENCY":
            step = share.tick / 10.0**share.decimals
            parts += [_real(23, price - step), _real(25, price + step)]
        parts.append(_signed(27, share.price_hint))
    return b"".join(parts)


def enveloped(message: bytes, *, version: int = 2) -> bytes:
    """A message as the stream of a version frames it."""
    text = base64.b64encode(message)
    return text if version == 1 else b'{"type":"pricing","message":"' + text + b'"}'
