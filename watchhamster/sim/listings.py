"""What the simulated exchange lists: names, rough prices, how busy each is, and the grid its prices live on.

The grids are Upbit's published ones, typed here anew: the simulator shares no table with the adapters it tests.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

PRICE_DECIMALS = 8  # of the integer prices used inside the simulator, for instruments with fractions

# Price from which a step holds, and the step. KRW since 2025-07-31; BTC has one step.
_GRID: dict[str, list[tuple[float, float]]] = {
    "KRW": [
        *((10.0**-k, 10.0 ** -(k + 2)) for k in range(5, -2, -1)),
        (100, 1),
        (5_000, 5),
        (10_000, 10),
        (50_000, 50),
        (100_000, 100),
        (500_000, 500),
        (1_000_000, 1_000),
    ],
    "BTC": [],
    "USDT": [*((10.0**-k, 10.0 ** -(k + 3)) for k in range(4, -1, -1)), (10, 0.01)],
}
_EPOCH_DAY = dt.date(1970, 1, 1)


class Grid:
    """Prices as integers of `10**-decimals`, and the steps between them."""

    def __init__(self, quote: str, decimals: int) -> None:
        scale = 10**decimals
        rows: list[tuple[int, int]] = [(round(start * scale), round(step * scale)) for start, step in _GRID[quote]]
        rows = [row for row in rows if row[1] >= 1]  # finer steps cannot occur at these prices
        self.starts: list[int] = [0, *(start for start, _step in rows)]
        self.steps: list[int] = [1, *(step for _start, step in rows)]
        self._starts = np.array(self.starts, np.int64)
        self._steps = np.array(self.steps, np.int64)

    def step(self, price: int) -> int:
        """The step that holds at a price."""
        return self.steps[bisect_right(self.starts, price) - 1]

    def steps_at(self, prices: Ints) -> Ints:
        """The step that holds at each price."""
        steps: Ints = self._steps[np.searchsorted(self._starts, prices, side="right") - 1]
        return steps

    def snap(self, prices: Floats) -> Ints:
        """The nearest price on the grid to each, at least one step."""
        whole = np.maximum(prices, 1.0).astype(np.int64)
        steps = self.steps_at(whole)
        snapped: Ints = np.maximum((whole + steps // 2) // steps * steps, steps)
        return snapped

    def up(self, price: int) -> int:
        """The next price on the grid."""
        return price + self.step(price)

    def down(self, price: int) -> int:
        """The price before this one on the grid; the least price is its own."""
        return max(price - self.step(max(1, price - 1)), self.step(0))


class Listing(msgspec.Struct, frozen=True, eq=False):
    """One instrument of the simulated exchange."""

    index: int
    symbol: str
    korean: str
    english: str
    price: float  # where it hovers in 2026, quote asset
    turnover: float  # a typical day's, quote asset
    trades: float  # a typical day's
    beta: float  # to the market
    volatility: float  # of its own, a day
    since_day: int  # the first day it traded, days since 1970
    spread_bps: float  # typical gap between neighbouring levels
    levels: int  # on each side of the book; below 30 the rest is zero padding
    price_decimals: int
    size_decimals: int
    grid: Grid
    warning: bool = False
    cautions: tuple[str, ...] = ()
    legs: tuple[str, str] | None = None  # a cross: price of the first over price of the second

    @property
    def quote(self) -> str:
        """The asset prices are in."""
        return self.symbol.partition("-")[0]


Flag = Literal[
    "PRICE_FLUCTUATIONS",
    "TRADING_VOLUME_SOARING",
    "DEPOSIT_AMOUNT_SOARING",
    "GLOBAL_PRICE_DIFFERENCES",
    "CONCENTRATION_OF_SMALL_ACCOUNTS",
]
CAUTIONS: tuple[Flag, ...] = (
    "PRICE_FLUCTUATIONS",
    "TRADING_VOLUME_SOARING",
    "DEPOSIT_AMOUNT_SOARING",
    "GLOBAL_PRICE_DIFFERENCES",
    "CONCENTRATION_OF_SMALL_ACCOUNTS",
)

# symbol, Korean, English, price, turnover, trades a day, beta, own volatility, since, level gap in bps, levels
_ROWS = [
    ("KRW-BTC", "비트코인", "Bitcoin", 119e6, 3e11, 110_000, 1.0, 0.006, "2017-09-25", 0.3, 30),
    ("KRW-ETH", "이더리움", "Ethereum", 4.6e6, 2e11, 80_000, 1.15, 0.013, "2017-09-25", 2.2, 30),
    ("KRW-XRP", "엑스알피(리플)", "XRP", 3_300, 3.5e11, 95_000, 1.1, 0.022, "2017-09-25", 3.0, 30),
    ("KRW-SOL", "솔라나", "Solana", 232_000, 1e11, 40_000, 1.3, 0.022, "2021-10-15", 2.2, 30),
    ("KRW-DOGE", "도지코인", "Dogecoin", 291, 6e10, 30_000, 1.35, 0.025, "2021-02-24", 0.3, 30),
    ("KRW-USDT", "테더", "Tether", 1_452, 1.2e11, 20_000, -0.03, 0.003, "2023-12-06", 0.3, 30),
    ("KRW-ADA", "에이다", "Cardano", 910, 2.5e10, 9_000, 1.25, 0.02, "2017-09-28", 0.3, 30),
    ("KRW-TRX", "트론", "TRON", 452, 1.2e10, 5_000, 0.6, 0.015, "2018-04-05", 0.3, 30),
    ("KRW-LINK", "체인링크", "Chainlink", 26_100, 1.6e10, 6_000, 1.3, 0.021, "2020-06-23", 4.0, 30),
    ("KRW-AVAX", "아발란체", "Avalanche", 35_200, 1.1e10, 4_500, 1.35, 0.022, "2022-02-15", 3.0, 30),
    ("KRW-DOT", "폴카닷", "Polkadot", 5_240, 7e9, 3_500, 1.25, 0.02, "2021-02-01", 10.0, 30),
    ("KRW-XLM", "스텔라루멘", "Stellar", 482, 1.4e10, 5_500, 1.2, 0.022, "2017-09-25", 0.3, 30),
    ("KRW-HBAR", "헤데라", "Hedera", 283, 9e9, 4_000, 1.2, 0.026, "2020-12-03", 0.3, 30),
    ("KRW-SUI", "수이", "Sui", 4_310, 2e10, 7_000, 1.4, 0.028, "2023-05-03", 2.5, 30),
    ("KRW-APT", "앱토스", "Aptos", 5_830, 6e9, 3_000, 1.35, 0.025, "2022-10-19", 10.0, 30),
    ("KRW-NEAR", "니어프로토콜", "NEAR Protocol", 3_410, 5e9, 2_500, 1.35, 0.025, "2022-03-17", 3.0, 30),
    ("KRW-ETC", "이더리움클래식", "Ethereum Classic", 26_400, 8e9, 3_500, 1.1, 0.02, "2017-09-25", 4.0, 30),
    ("KRW-BCH", "비트코인캐시", "Bitcoin Cash", 782_000, 9e9, 3_000, 1.05, 0.022, "2017-10-10", 8.0, 30),
    ("KRW-SHIB", "시바이누", "Shiba Inu", 0.0163, 1.5e10, 5_500, 1.3, 0.026, "2021-10-20", 60.0, 30),
    ("KRW-PEPE", "페페", "Pepe", 0.0126, 2.2e10, 7_500, 1.5, 0.035, "2024-12-02", 80.0, 30),
    ("KRW-BONK", "봉크", "Bonk", 0.0284, 1.2e10, 4_500, 1.5, 0.036, "2024-11-20", 40.0, 30),
    ("KRW-XEC", "이캐시", "eCash", 0.0243, 1.5e9, 900, 1.2, 0.028, "2021-07-20", 45.0, 30),
    ("KRW-BTT", "비트토렌트", "BitTorrent", 0.00091, 9e8, 700, 1.1, 0.025, "2019-11-07", 12.0, 30),
    ("KRW-ONDO", "온도파이낸스", "Ondo Finance", 1_240, 1.1e10, 4_500, 1.35, 0.03, "2024-12-10", 8.5, 30),
    ("KRW-WLD", "월드코인", "Worldcoin", 1_630, 8e9, 3_500, 1.4, 0.033, "2024-05-20", 6.5, 30),
    ("KRW-SAND", "샌드박스", "The Sandbox", 342, 4e9, 2_000, 1.3, 0.026, "2020-09-15", 0.3, 30),
    ("KRW-AXS", "엑시인피니티", "Axie Infinity", 2_840, 2e9, 1_300, 1.3, 0.026, "2020-10-08", 4.0, 30),
    ("KRW-STORJ", "스토리지", "Storj", 332, 1.3e9, 900, 1.1, 0.028, "2018-06-21", 0.3, 30),
    ("KRW-MED", "메디블록", "MediBloc", 8.52, 6e8, 500, 0.9, 0.028, "2018-10-31", 15.0, 28),
    ("KRW-LAMB", "람다", "Lambda", 2.14, 2.5e8, 320, 0.8, 0.034, "2019-06-20", 55.0, 24),
    ("KRW-CRE", "캐리프로토콜", "Carry Protocol", 5.27, 3e8, 360, 0.8, 0.034, "2019-08-01", 25.0, 26),
    ("KRW-POKT", "포켓네트워크", "Pocket Network", 42.3, 2e8, 260, 0.9, 0.036, "2024-08-12", 30.0, 22),
    ("BTC-ETH", "이더리움", "Ethereum", 0.0387, 2.2, 420, 0.15, 0.011, "2017-09-25", 4.0, 30),
    ("BTC-XRP", "엑스알피(리플)", "XRP", 0.00002773, 0.35, 240, 0.1, 0.02, "2017-09-25", 12.0, 14),
    ("USDT-BTC", "비트코인", "Bitcoin", 81_950, 5e6, 620, 1.0, 0.006, "2018-05-30", 2.0, 30),
    ("USDT-ETH", "이더리움", "Ethereum", 3_168, 2e6, 440, 1.15, 0.013, "2018-05-30", 4.0, 18),
]
_FLAGS: dict[str, tuple[bool, tuple[Flag, ...]]] = {
    "KRW-PEPE": (False, ("PRICE_FLUCTUATIONS", "TRADING_VOLUME_SOARING")),
    "KRW-XEC": (False, ("GLOBAL_PRICE_DIFFERENCES",)),
    "KRW-BTT": (False, ("GLOBAL_PRICE_DIFFERENCES",)),
    "KRW-MED": (False, ("CONCENTRATION_OF_SMALL_ACCOUNTS",)),
    "KRW-LAMB": (True, ("DEPOSIT_AMOUNT_SOARING", "CONCENTRATION_OF_SMALL_ACCOUNTS")),
    "KRW-CRE": (True, ()),
    "BTC-XRP": (False, ("GLOBAL_PRICE_DIFFERENCES",)),
}
_LEGS = {
    "BTC-ETH": ("KRW-ETH", "KRW-BTC"),
    "BTC-XRP": ("KRW-XRP", "KRW-BTC"),
    "USDT-BTC": ("KRW-BTC", "KRW-USDT"),
    "USDT-ETH": ("KRW-ETH", "KRW-USDT"),
}


def _listings() -> tuple[Listing, ...]:
    made = []
    for index, row in enumerate(_ROWS):
        symbol, korean, english, price, turnover, trades, beta, volatility, since, gap, levels = row
        quote = symbol.partition("-")[0]
        decimals = 0 if quote == "KRW" and price >= 10_000 else PRICE_DECIMALS
        # Eight decimals as the venue has, fewer where a day's coins would not fit an int64 of lots.
        size_decimals = min(8, int(16.7 - float(np.log10(turnover / price))))
        warning, cautions = _FLAGS.get(symbol, (False, ()))
        made.append(
            Listing(
                index,
                symbol,
                korean,
                english,
                price,
                turnover,
                trades,
                beta,
                volatility,
                (dt.date.fromisoformat(since) - _EPOCH_DAY).days,
                gap,
                levels,
                decimals,
                size_decimals,
                Grid(quote, decimals),
                warning,
                cautions,
                _LEGS.get(symbol),
            )
        )
    return tuple(made)


LISTINGS = _listings()
BY_SYMBOL = {listing.symbol: listing for listing in LISTINGS}
