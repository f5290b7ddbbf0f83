"""What each metric is called, how it is reckoned and what is good: the words every front end shows.

A label is what stands beside the number, the formula is in the notation of the reference, `meaning` and `good` are
what is read on hovering. The order is the order of showing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from watchhamster.core.text import Text, _, say

Unit: TypeAlias = Literal["percent", "ratio", "money", "count", "days", "bars"]
Better: TypeAlias = Literal["more", "less", "neither"]
Group: TypeAlias = Literal["return", "ratio", "risk", "trade", "activity"]

NOTHING: Final = "–"  # a number that is not defined
MINUS: Final = "−"

GROUPS: Final[Mapping[Group, Text]] = {
    "return": Text("Return"),
    "ratio": Text("Return for the risk"),
    "risk": Text("Risk"),
    "trade": Text("Closed trades"),
    "activity": Text("Activity and costs"),
}


class Definition(msgspec.Struct, frozen=True):
    """One metric. `better` says which of two runs wins by it."""

    name: str
    label: Text
    unit: Unit
    better: Better
    group: Group
    formula: str
    meaning: Text
    good: Text | None = None
    yearly: bool = False  # depends on how many days a year has: P is shown beside it

    @property
    def explanation(self) -> str:
        """What is read on hovering, in the language in use."""
        parts = (say(self.meaning), say(self.good) if self.good is not None else "", self.formula)
        return "\n".join(part for part in parts if part)


def grouped(value: float, digits: int) -> str:
    """A number with so many decimals, its thousands apart; never a negative zero."""
    text = f"{value:,.{digits}f}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else text.lstrip("-")


def money(value: float) -> str:
    """An amount: whole from a thousand on, with more decimals the smaller it is."""
    size = abs(value)
    return grouped(value, 0 if size >= 1000 or value == int(value) else 2 if size >= 10 else 4)


def shown(value: float | None, unit: Unit, signed: bool = False) -> str:
    """A metric as people read it, in the language in use; `signed` puts a plus before what is above zero."""
    if value is None:
        return NOTHING
    if unit == "money":
        text = money(value)
    elif unit == "count":
        text = grouped(value, 0)
    elif unit == "percent":
        text = f"{grouped(value, 2)}\u00a0%"
    elif unit == "days":
        text = _("{days} days").format(days=grouped(value, 0 if value >= 10 or not value else 1))
    elif unit == "bars":
        text = _("{bars} bars").format(bars=grouped(value, 1))
    else:
        text = grouped(value, 2)
    return f"+{text}" if signed and value > 0 else text


DEFINITIONS: Final[Mapping[str, Definition]] = {
    definition.name: definition
    for definition in (
        Definition(
            "total_return_percent",
            Text("Total return"),
            "percent",
            "more",
            "return",
            "V_T / V_0 − 1",
            Text("What the account gained from the first bar to the last, all costs paid."),
            Text("More than buying and holding, at a drawdown one can live with."),
        ),
        Definition(
            "cagr_percent",
            Text("Yearly return (CAGR)"),
            "percent",
            "more",
            "return",
            "(V_T / V_0)^(1 / years) − 1",
            Text("The steady yearly growth that gives the same end. Not shown for less than 30 days."),
            Text("Above what a deposit pays, after taxes."),
        ),
        Definition(
            "buy_and_hold_percent",
            Text("Buy and hold"),
            "percent",
            "neither",
            "return",
            "H_T / V_0 − 1",
            Text("What buying everything at the first open and waiting would have made, with the same fees."),
            Text("The strategy should beat it, or lose much less on the way."),
        ),
        Definition(
            "final_equity",
            Text("Final equity"),
            "money",
            "more",
            "return",
            "V_T",
            Text("What the account is worth at the last close, open positions included."),
        ),
        Definition(
            "best_day_percent",
            Text("Best day"),
            "percent",
            "more",
            "return",
            "max r",
            Text("The largest daily gain of the account."),
            Text("Not most of the whole return: then one lucky day made it."),
        ),
        Definition(
            "worst_day_percent",
            Text("Worst day"),
            "percent",
            "more",
            "return",
            "min r",
            Text("The largest daily loss of the account."),
        ),
        Definition(
            "sharpe",
            Text("Sharpe ratio"),
            "ratio",
            "more",
            "ratio",
            "(mean(r) − r_f) / std(r, ddof 1) × √P",
            Text("Mean daily return against its spread, made yearly."),
            Text("Above 1 is good, above 2 very good; above 3 look for the mistake."),
            yearly=True,
        ),
        Definition(
            "sortino",
            Text("Sortino ratio"),
            "ratio",
            "more",
            "ratio",
            "(mean(r) − r_f) / √mean(min(r − r_f, 0)²) × √P",
            Text("As Sharpe, but only falling days count as risk."),
            Text("Above 1.5 is good; well above Sharpe when gains are the wild ones."),
            yearly=True,
        ),
        Definition(
            "calmar",
            Text("Calmar ratio"),
            "ratio",
            "more",
            "ratio",
            "CAGR / max DD",
            Text("Yearly return for each percent of the deepest fall."),
            Text("Above 1: a year earns back the worst fall."),
        ),
        Definition(
            "omega",
            Text("Omega ratio"),
            "ratio",
            "more",
            "ratio",
            "Σ max(r − r_f, 0) / Σ max(r_f − r, 0)",
            Text("All daily gains over all daily losses."),
            Text("Above 1.2; 1 is a coin."),
        ),
        Definition(
            "recovery_factor",
            Text("Recovery factor"),
            "ratio",
            "more",
            "ratio",
            "(V_T / V_0 − 1) / max DD",
            Text("How many times the return covers the deepest fall."),
            Text("Above 3 over several years."),
        ),
        Definition(
            "max_drawdown_percent",
            Text("Deepest drawdown"),
            "percent",
            "less",
            "risk",
            "max DD, DD_t = 1 − V_t / max V_≤t",
            Text("The furthest the account was below its own best."),
            Text("Below what you would sit through; expect one and a half times as much to come."),
        ),
        Definition(
            "longest_drawdown_days",
            Text("Longest drawdown"),
            "days",
            "less",
            "risk",
            "max(t_back − t_peak)",
            Text("The longest time without a new best, the current one included."),
        ),
        Definition(
            "ulcer_percent",
            Text("Ulcer index"),
            "percent",
            "less",
            "risk",
            "√mean(DD²)",
            Text("How deep and how long the account was under water, in one number."),
            Text("Below 5 % is calm, above 15 % hard to hold."),
        ),
        Definition(
            "volatility_percent",
            Text("Volatility"),
            "percent",
            "less",
            "risk",
            "std(r, ddof 1) × √P",
            Text("Spread of the daily returns, made yearly."),
            yearly=True,
        ),
        Definition(
            "var_percent",
            Text("Value at risk, 95 %"),
            "percent",
            "more",
            "risk",
            "Q₅(r)",
            Text("One day in twenty was worse than this."),
        ),
        Definition(
            "cvar_percent",
            Text("Expected shortfall, 95 %"),
            "percent",
            "more",
            "risk",
            "mean(r | r ≤ VaR)",
            Text("The mean of those worst days."),
        ),
        Definition(
            "trades",
            Text("Closed trades"),
            "count",
            "neither",
            "trade",
            "n",
            Text("Round trips from flat to flat. Positions still open at the end are not counted."),
            Text("At least 30 to say anything, 100 to say something firmly."),
        ),
        Definition(
            "win_rate_percent",
            Text("Win rate"),
            "percent",
            "more",
            "trade",
            "n(P/L > 0) / n",
            Text("Share of trades that made money after fees."),
            Text("Means little without the payoff: 35 % is plenty where wins are three times losses."),
        ),
        Definition(
            "profit_factor",
            Text("Profit factor"),
            "ratio",
            "more",
            "trade",
            "Σ max(P/L, 0) / Σ max(−P/L, 0)",
            Text("Money won for each unit lost."),
            Text("Above 1.3 after costs; above 3 with few trades is luck."),
        ),
        Definition(
            "payoff",
            Text("Payoff"),
            "ratio",
            "more",
            "trade",
            "mean(P/L | P/L > 0) / mean(−P/L | P/L < 0)",
            Text("How many times larger the mean win is than the mean loss."),
        ),
        Definition(
            "expectancy",
            Text("Expectancy"),
            "money",
            "more",
            "trade",
            "mean(P/L)",
            Text("What a trade made on average, in money."),
            Text("Several times what a trade costs."),
        ),
        Definition(
            "expectancy_r",
            Text("Expectancy in R"),
            "ratio",
            "more",
            "trade",
            "mean(P/L / R)",
            Text("What a trade made for each unit it risked up to its stop."),
            Text("Above 0.2."),
        ),
        Definition(
            "sqn",
            Text("System quality (SQN)"),
            "ratio",
            "more",
            "trade",
            "√min(n, 100) × mean(P/L) / std(P/L, ddof 1)",
            Text("How reliably trades make money, given how many there are."),
            Text("Above 2 is good, above 3 excellent."),
        ),
        Definition(
            "average_trade_percent",
            Text("Mean trade"),
            "percent",
            "more",
            "trade",
            "mean(P/L / (q × p_entry))",
            Text("What a trade made on average, of what it cost to enter."),
            Text("Several times the fees and slippage of a round trip."),
        ),
        Definition(
            "best_trade_percent",
            Text("Best trade"),
            "percent",
            "more",
            "trade",
            "max(P/L / (q × p_entry))",
            Text("The largest gain of a trade."),
        ),
        Definition(
            "worst_trade_percent",
            Text("Worst trade"),
            "percent",
            "more",
            "trade",
            "min(P/L / (q × p_entry))",
            Text("The largest loss of a trade."),
        ),
        Definition(
            "mfe_percent",
            Text("Furthest in favour"),
            "percent",
            "more",
            "trade",
            "mean(MFE)",
            Text("How far trades were in profit at their best moment, on average."),
            Text("Far above the mean trade: exits give much back."),
        ),
        Definition(
            "mae_percent",
            Text("Furthest against"),
            "percent",
            "more",
            "trade",
            "mean(MAE)",
            Text("How far trades were in loss at their worst moment, on average."),
            Text("Tells how near a stop may stand."),
        ),
        Definition(
            "average_bars",
            Text("Mean holding"),
            "bars",
            "neither",
            "trade",
            "mean(bars)",
            Text("How many bars a trade lasted on average."),
        ),
        Definition(
            "winning_streak",
            Text("Wins in a row"),
            "count",
            "more",
            "trade",
            "max run(P/L > 0)",
            Text("The longest run of winning trades."),
        ),
        Definition(
            "losing_streak",
            Text("Losses in a row"),
            "count",
            "less",
            "trade",
            "max run(P/L < 0)",
            Text("The longest run of losing trades."),
            Text("Could you go on trading after it?"),
        ),
        Definition(
            "exposure_percent",
            Text("Time in the market"),
            "percent",
            "neither",
            "activity",
            "n(q ≠ 0) / n(bars)",
            Text("Share of bars with a position."),
        ),
        Definition(
            "average_exposure_percent",
            Text("Mean exposure"),
            "percent",
            "neither",
            "activity",
            "mean(|q × p| / V)",
            Text("How much of the account was in the market, on average over all bars."),
        ),
        Definition(
            "turnover",
            Text("Turnover a year"),
            "ratio",
            "less",
            "activity",
            "Σ |q × p| / mean(V) / years",
            Text("How many times a year the account is bought or sold."),
            Text("The more it is, the more the costs decide."),
        ),
        Definition(
            "fees",
            Text("Fees"),
            "money",
            "less",
            "activity",
            "Σ fee",
            Text("All that the venue took."),
            Text("A small part of the profit."),
        ),
    )
}
