"""Frames shaped like Upbit's, the same for everyone who is measured. Standard library only: peers read them too."""

from __future__ import annotations

import json
import random
from typing import Any

SYMBOLS = {
    "KRW-BTC": 165_000_000,
    "KRW-ETH": 5_900_000,
    "KRW-XRP": 4_100,
    "KRW-SOL": 310_000,
    "KRW-DOGE": 350,
    "KRW-ADA": 1_150,
    "KRW-TRX": 480,
    "KRW-AVAX": 42_000,
}
SHORT = {
    "type": "ty", "code": "cd", "timestamp": "tms", "trade_date": "td", "trade_time": "ttm", "trade_timestamp": "ttms",
    "trade_price": "tp", "trade_volume": "tv", "ask_bid": "ab", "prev_closing_price": "pcp", "change": "c",
    "change_price": "cp", "sequential_id": "sid", "best_ask_price": "bap", "best_ask_size": "bas",
    "best_bid_price": "bbp", "best_bid_size": "bbs", "stream_type": "st", "total_ask_size": "tas",
    "total_bid_size": "tbs", "orderbook_units": "obu", "ask_price": "ap", "bid_price": "bp", "ask_size": "as",
    "bid_size": "bs", "level": "lv",
}  # fmt: skip
_START_MS = 1_760_000_000_000


def _price(draw: random.Random, symbol: str) -> tuple[float, int]:
    base = SYMBOLS[symbol]
    step = 1000 if base > 1_000_000 else 100 if base > 100_000 else 1
    return float(round(base * (1 + draw.uniform(-0.02, 0.02)) / step) * step), step


def trade(draw: random.Random, n: int) -> dict[str, Any]:
    """A trade of the format DEFAULT."""
    symbol = draw.choice(list(SYMBOLS))
    at = _START_MS + n * 7
    price, step = _price(draw, symbol)
    return {
        "type": "trade", "code": symbol, "timestamp": at + draw.randrange(5), "trade_date": "2025-10-09",
        "trade_time": "08:53:20", "trade_timestamp": at, "trade_price": price,
        "trade_volume": round(draw.uniform(0.0001, 3), 8), "ask_bid": draw.choice(("BID", "ASK")),
        "prev_closing_price": SYMBOLS[symbol] * 1.0, "change": "RISE", "change_price": abs(price - SYMBOLS[symbol]),
        "sequential_id": at * 10_000 + n % 10_000, "best_ask_price": price + step,
        "best_ask_size": round(draw.uniform(0, 5), 8), "best_bid_price": price,
        "best_bid_size": round(draw.uniform(0, 5), 8), "stream_type": "REALTIME",
    }  # fmt: skip


def orderbook(draw: random.Random, n: int) -> dict[str, Any]:
    """A book of 15 levels."""
    symbol = draw.choice(list(SYMBOLS))
    price, step = _price(draw, symbol)
    units = [
        {"ask_price": price + step * (k + 1), "bid_price": price - step * k,
         "ask_size": round(draw.uniform(0.0001, 9), 8), "bid_size": round(draw.uniform(0.0001, 9), 8)}
        for k in range(15)
    ]  # fmt: skip
    return {
        "type": "orderbook", "code": symbol, "timestamp": _START_MS + n * 7,
        "total_ask_size": round(sum(u["ask_size"] for u in units), 8),
        "total_bid_size": round(sum(u["bid_size"] for u in units), 8),
        "orderbook_units": units, "stream_type": "REALTIME", "level": 0,
    }  # fmt: skip


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {SHORT[key]: _short(item) for key, item in value.items()}
    return [_short(item) for item in value] if isinstance(value, list) else value


def frames(kind: str, count: int, *, simple: bool) -> list[bytes]:
    """`count` frames of `trade` or `orderbook`, from one seed."""
    draw = random.Random(7)
    make = {"trade": trade, "orderbook": orderbook}[kind]
    values = (make(draw, n) for n in range(count))
    return [json.dumps(_short(v) if simple else v, separators=(",", ":")).encode() for v in values]
