# mypy: ignore-errors
"""Fills of three strategies by backtesting.py and vectorbt, as JSON: what `compare_backtests.py` compares ours with.

Runs in the peers' environment: `python peer_fills.py ENGINE DATASET`, where DATASET is a CSV with open, high, low and
close columns, or `GOOG` or `EURUSD`, which backtesting.py brings along. Signals are taken at a bar's close by TA-Lib's
indicators; both engines fill at the next open. Prints `{"bars": [...], "runs": {strategy: {"fills": [[bar, size,
price], ...], "equity": x}}}`; sizes are signed, in whole units.
"""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
import pandas as pd
import talib

FEE = 0.0005
STOP, TARGET = 0.02, 0.04
UNITS = 100.0


def frame(dataset: str) -> pd.DataFrame:
    """Columns Open, High, Low, Close, Volume under a plain index of days or hours."""
    if dataset in ("GOOG", "EURUSD"):
        import backtesting.test

        return getattr(backtesting.test, dataset)
    table = pd.read_csv(dataset, index_col=0)
    table.columns = [name.title() for name in table.columns]
    table.index = pd.to_datetime(table.index, utc=True)
    return table[["Open", "High", "Low", "Close", "Volume"]]


def signals(close: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Where each strategy wants to be in, and out (of `macd`: short)."""
    fast, slow = talib.SMA(close, 10), talib.SMA(close, 30)
    line, signal, _ = talib.MACD(close)

    def crosses(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        found = np.zeros(len(a), bool)
        found[1:] = (a[1:] > b[1:]) & (a[:-1] <= b[:-1])
        return found

    return {
        "cross": (crosses(fast, slow), crosses(slow, fast)),
        "rsi": (talib.RSI(close, 14) < 30, np.zeros(len(close), bool)),
        "macd": (crosses(line, signal), crosses(signal, line)),
    }


def follower(name: str, go_in: np.ndarray, go_out: np.ndarray, opens: np.ndarray) -> type:
    """A strategy of backtesting.py. Stop and target are relative to the next open, which is looked up."""
    from backtesting import Strategy

    class Follow(Strategy):
        def init(self) -> None:
            pass

        def next(self) -> None:
            bar = len(self.data) - 1
            if bar + 1 >= len(opens):
                return
            if name == "macd":
                if go_in[bar] and not self.position.is_long:
                    self.position.close()
                    self.buy(size=UNITS)
                elif go_out[bar] and not self.position.is_short:
                    self.position.close()
                    self.sell(size=UNITS)
            elif go_out[bar] and self.position:
                self.position.close()
            elif go_in[bar] and not self.position:
                order = self.buy()
                if name == "rsi":  # set past its own check, which knows only the close
                    order._replace(sl_price=opens[bar + 1] * (1 - STOP), tp_price=opens[bar + 1] * (1 + TARGET))

    return Follow


def backtesting_py(table: pd.DataFrame, cash: float) -> dict[str, object]:
    """Market orders at the next open, whole units, positions left open at the end."""
    from backtesting import Backtest

    found: dict[str, object] = {}
    for name, (go_in, go_out) in signals(table.Close.to_numpy(float)).items():
        follow = follower(name, go_in, go_out, table.Open.to_numpy())
        stats = Backtest(table, follow, cash=cash, commission=FEE, finalize_trades=False).run()
        fills = []
        for trade in stats._trades.itertuples():
            fills += [[trade.EntryBar, trade.Size, trade.EntryPrice], [trade.ExitBar, -trade.Size, trade.ExitPrice]]
        fills += [[trade.entry_bar, trade.size, trade.entry_price] for trade in stats._strategy.trades]
        found[name] = {"fills": plain(fills), "equity": float(stats._equity_curve.Equity.iloc[-1])}
    return found


def vectorbt(table: pd.DataFrame, cash: float) -> dict[str, object]:
    """Signals moved one bar on and filled at that bar's open."""
    import vectorbt as vbt
    from vectorbt.portfolio.enums import StopEntryPrice, StopExitPrice

    def later(column: np.ndarray) -> np.ndarray:
        return np.concatenate(([False], column[:-1]))

    found: dict[str, object] = {}
    for name, (go_in, go_out) in signals(table.Close.to_numpy(float)).items():
        common = {"close": table.Close, "price": table.Open, "fees": FEE, "init_cash": cash, "freq": "1D"}
        if name == "macd":
            run = vbt.Portfolio.from_signals(
                entries=later(go_in), short_entries=later(go_out), size=UNITS, upon_opposite_entry="reverse", **common
            )
        elif name == "rsi":
            run = vbt.Portfolio.from_signals(
                entries=later(go_in),
                exits=later(go_out),
                open=table.Open,
                high=table.High,
                low=table.Low,
                sl_stop=STOP,
                tp_stop=TARGET,
                stop_entry_price=StopEntryPrice.FillPrice,
                stop_exit_price=StopExitPrice.StopMarket,
                upon_stop_exit="close",
                size_granularity=1.0,
                **common,
            )
        else:
            run = vbt.Portfolio.from_signals(entries=later(go_in), exits=later(go_out), size_granularity=1.0, **common)
        orders = run.orders.records
        signs = np.where(orders.side == 0, 1.0, -1.0)
        fills = np.column_stack((orders.idx, orders["size"] * signs, orders.price)).tolist()
        found[name] = {"fills": plain(fills), "equity": float(run.value().iloc[-1])}
    return found


def plain(fills: list[list[float]]) -> list[list[float]]:
    """One a bar and price, in time: an exit and an entry of one open are one trade of their sum in some engines."""
    sums: dict[tuple[int, float], float] = {}
    for bar, size, price in fills:
        sums[int(bar), float(price)] = sums.get((int(bar), float(price)), 0.0) + float(size)
    return [[bar, size, price] for (bar, price), size in sorted(sums.items()) if size]


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    engine, dataset = sys.argv[1:]
    table = frame(dataset)
    cash = float(np.ceil(table.Close.iloc[0]) * 10_000)
    runs = {"backtesting.py": backtesting_py, "vectorbt": vectorbt}[engine](table, cash)
    columns = [table[name].tolist() for name in ("Open", "High", "Low", "Close", "Volume")]
    open_ns = table.index.as_unit("ns").astype("int64").tolist()
    print(json.dumps({"cash": cash, "open_ns": open_ns, "bars": columns, "runs": runs}))
