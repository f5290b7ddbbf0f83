"""What the markets with sessions list: names, rough prices, how busy each is, its splits and dividends."""

from __future__ import annotations

from typing import Literal

import msgspec

from watchhamster.sim.calendars import MARKETS, Market, day_of

ANCHOR_DAY = day_of("2026-03-01")
Kind = Literal["EQUITY", "ETF", "INDEX", "CURRENCY", "CRYPTOCURRENCY"]


class Share(msgspec.Struct, frozen=True, eq=False):
    """One instrument. Price and volume are those of 2026-03-01."""

    index: int
    symbol: str
    short: str
    long: str
    kind: Kind
    market: Market
    exchange: str  # the venue's code
    exchange_name: str
    currency: str
    price: float
    volume: float  # shares in a typical day
    prints: float  # in a typical day, as far as they are told one by one
    growth: float  # a year
    beta: float  # to all markets
    volatility: float  # of its own, a day
    since_day: int
    decimals: int  # of the integer prices used inside
    tick: int  # between prices, in those
    price_hint: int
    splits: tuple[tuple[int, int, int], ...] = ()  # day, numerator, denominator
    dividend_months: tuple[int, ...] = ()
    dividend_yield: float = 0.0  # a year
    gains_yield: float = 0.0  # capital gains of a fund, a year
    halts: float = 0.0  # the share of its sessions that have a halt
    coin: str | None = None  # what it follows on the other venue, times the dollar
    sector: str = ""

    @property
    def ahead(self) -> float:
        """What every split after 2026-03-01 will divide the price by."""
        ahead = 1.0
        for day, over, under in self.splits:
            ahead *= over / under if day > ANCHOR_DAY else 1.0
        return ahead

    @property
    def extended(self) -> bool:
        """Whether it trades before and after hours."""
        return self.market.extended and self.kind in ("EQUITY", "ETF")


_Q = (2, 5, 8, 11)
_M = (3, 6, 9, 12)
# The venue's code of an exchange -> market, its name, currency
_EXCHANGES = {
    "NMS": ("us", "NasdaqGS", "USD"),
    "NYQ": ("us", "NYSE", "USD"),
    "PCX": ("us", "NYSEArca", "USD"),
    "SNP": ("us", "SNP", "USD"),
    "NIM": ("us", "Nasdaq GIDS", "USD"),
    "KSC": ("kr", "KSE", "KRW"),
    "KOE": ("kr", "KOSDAQ", "KRW"),
    "LSE": ("uk", "LSE", "GBp"),
    "CCY": ("fx", "CCY", "USD"),
    "CCC": ("coin", "CCC", "USD"),
}
_STOCK: Kind = "EQUITY"
# symbol, short and long name, kind, exchange, price, volume, prints, growth, beta, volatility, decimals, tick
_ROWS: list[tuple[str, str, str, Kind, str, float, float, float, float, float, float, int, int]] = [
    ("^GSPC", "S&P 500", "S&P 500", "INDEX", "SNP", 6900, 4.8e9, 5500, 0.11, 1.0, 0.001, 2, 1),
    ("^IXIC", "NASDAQ Composite", "NASDAQ Composite", "INDEX", "NIM", 23200, 8e9, 5500, 0.14, 1.25, 0.002, 2, 1),
    ("SPY", "SPDR S&P 500", "SPDR S&P 500 ETF Trust", "ETF", "PCX", 688, 7.2e7, 9000, 0.11, 1.0, 0.001, 2, 1),
    ("EWG", "iShares Germany", "iShares MSCI Germany ETF", "ETF", "PCX", 42, 2.6e6, 1100, 0.04, 0.9, 0.005, 2, 1),
    ("AAPL", "Apple Inc.", "Apple Inc.", _STOCK, "NMS", 262, 4.6e7, 9000, 0.21, 1.1, 0.010, 2, 1),
    ("MSFT", "Microsoft Corporation", "Microsoft Corporation", _STOCK, "NMS", 478, 2.2e7, 7500, 0.24, 1.0, 0.010, 2, 1),
    ("NVDA", "NVIDIA Corporation", "NVIDIA Corporation", _STOCK, "NMS", 183, 1.8e8, 11000, 0.52, 1.6, 0.018, 2, 1),
    ("TSLA", "Tesla, Inc.", "Tesla, Inc.", _STOCK, "NMS", 412, 8.5e7, 10000, 0.36, 1.5, 0.024, 2, 1),
    ("GME", "GameStop Corporation", "GameStop Corp.", _STOCK, "NYQ", 24, 9e6, 2600, 0.10, 0.8, 0.034, 2, 1),
    (
        "BRK-B",
        "Berkshire Hathaway Inc. New",
        "Berkshire Hathaway Inc.",
        _STOCK,
        "NYQ",
        497,
        4.4e6,
        3200,
        0.12,
        0.7,
        0.006,
        2,
        1,
    ),
    (
        "BRK-A",
        "Berkshire Hathaway Inc.",
        "Berkshire Hathaway Inc.",
        _STOCK,
        "NYQ",
        746e3,
        2600,
        70,
        0.12,
        0.7,
        0.006,
        2,
        100,
    ),
    ("CALM", "Cal-Maine Foods, Inc.", "Cal-Maine Foods, Inc.", _STOCK, "NMS", 84, 9e5, 700, 0.08, 0.4, 0.017, 2, 1),
    ("^KS11", "KOSPI", "KOSPI Composite Index", "INDEX", "KSC", 4210, 4.1e8, 4600, 0.07, 0.9, 0.004, 2, 1),
    (
        "005930.KS",
        "SamsungElec",
        "Samsung Electronics Co., Ltd.",
        _STOCK,
        "KSC",
        108e3,
        1.7e7,
        6000,
        0.12,
        1.1,
        0.010,
        0,
        100,
    ),
    ("000660.KS", "SK hynix", "SK hynix Inc.", _STOCK, "KSC", 574e3, 4.1e6, 5000, 0.22, 1.4, 0.016, 0, 1000),
    ("035420.KS", "NAVER", "NAVER Corporation", _STOCK, "KSC", 251e3, 8e5, 2500, 0.06, 1.0, 0.014, 0, 500),
    ("247540.KQ", "ECOPRO BM", "Ecopro BM. Co., Ltd.", _STOCK, "KOE", 151e3, 1.1e6, 2600, 0.15, 1.2, 0.028, 0, 100),
    ("VOD.L", "VODAFONE GROUP PLC", "Vodafone Group Plc", _STOCK, "LSE", 93.4, 6.2e7, 2400, -0.03, 0.7, 0.009, 2, 2),
    ("SHEL.L", "SHELL PLC", "Shell plc", _STOCK, "LSE", 2744, 7.8e6, 2600, 0.04, 0.7, 0.010, 2, 50),
    ("EURUSD=X", "EUR/USD", "EUR/USD", "CURRENCY", "CCY", 1.1612, 0, 17000, 0.0, 0.08, 0.004, 5, 1),
    ("KRW=X", "USD/KRW", "USD/KRW", "CURRENCY", "CCY", 1441, 0, 12000, 0.0, -0.1, 0.0028, 2, 1),
    ("JPY=X", "USD/JPY", "USD/JPY", "CURRENCY", "CCY", 152.4, 0, 15000, 0.01, 0.05, 0.005, 3, 1),
    ("BTC-USD", "Bitcoin USD", "Bitcoin USD", "CRYPTOCURRENCY", "CCC", 0, 0, 0, 0, 0, 0, 2, 1),
    ("ETH-USD", "Ethereum USD", "Ethereum USD", "CRYPTOCURRENCY", "CCC", 0, 0, 0, 0, 0, 0, 2, 1),
    ("XRP-USD", "XRP USD", "XRP USD", "CRYPTOCURRENCY", "CCC", 0, 0, 0, 0, 0, 0, 6, 1),
]
_COINS = {"BTC-USD": "KRW-BTC", "ETH-USD": "KRW-ETH", "XRP-USD": "KRW-XRP"}
# Splits that were, and some that never will be, so that there is always one ahead.
_SPLITS: dict[str, tuple[tuple[str, int, int], ...]] = {
    "AAPL": (("2014-06-09", 7, 1), ("2020-08-31", 4, 1), ("2027-06-14", 3, 1)),
    "NVDA": (("2021-07-20", 4, 1), ("2024-06-10", 10, 1), ("2026-12-07", 2, 1)),
    "TSLA": (("2020-08-31", 5, 1), ("2022-08-25", 3, 1), ("2028-03-06", 3, 1)),
    "GME": (("2022-07-22", 4, 1), ("2027-02-08", 1, 5)),
    "005930.KS": (("2018-05-04", 50, 1),),
}
_DIVIDENDS: dict[str, tuple[tuple[int, ...], float]] = {
    "AAPL": (_Q, 0.005),
    "MSFT": (_Q, 0.008),
    "NVDA": (_M, 0.0004),
    "SPY": (_M, 0.012),
    "EWG": ((6, 11), 0.024),
    "CALM": (_Q, 0.05),
    "005930.KS": (_M, 0.02),
    "000660.KS": (_M, 0.006),
    "VOD.L": ((6, 11), 0.05),
    "SHEL.L": (_Q, 0.04),
}
_SINCE = {"247540.KQ": "2019-03-05"}
_SECTORS = {"AAPL": "Technology", "MSFT": "Technology", "NVDA": "Technology", "TSLA": "Consumer Cyclical"}
FIRST_DAY = day_of("2012-01-02")


def _shares() -> tuple[Share, ...]:
    made = []
    for index, row in enumerate(_ROWS):
        symbol, short, long, kind, exchange, price, volume, prints, growth, beta, volatility, decimals, tick = row
        market, exchange_name, currency = _EXCHANGES[exchange]
        if kind == "CURRENCY" and symbol in ("KRW=X", "JPY=X"):
            currency = symbol[:3]
        months, paid = _DIVIDENDS.get(symbol, ((), 0.0))
        made.append(
            Share(
                index,
                symbol,
                short,
                long,
                kind,
                MARKETS[market],
                exchange,
                exchange_name,
                currency,
                price,
                volume,
                prints,
                growth,
                beta,
                volatility,
                day_of(_SINCE[symbol]) if symbol in _SINCE else FIRST_DAY,
                decimals,
                tick,
                4 if decimals > 2 or kind == "CURRENCY" else 2,
                tuple((day_of(day), over, under) for day, over, under in _SPLITS.get(symbol, ())),
                months,
                paid,
                0.006 if symbol == "EWG" else 0.0,
                0.3 if symbol == "GME" else 0.0,
                _COINS.get(symbol),
                _SECTORS.get(symbol, ""),
            )
        )
    return tuple(made)


SHARES = _shares()
SHARE_OF = {share.symbol: share for share in SHARES}
