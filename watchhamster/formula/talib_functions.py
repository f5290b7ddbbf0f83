"""TA-Lib's functions, a row each: names, defaults and limits are TA-Lib's, held against it by a test.

Functions of a series take it first, those of whole bars only their parameters; moving-average types come last. Outputs
have short names (`macd(close).hist`, not `macdhist`).

Warm-up: a smoother of weight a forgets its start, to the last bit, within 36.7/a bars: 18.4 (n + 1) for an EMA of n,
36.7 n for Wilder's. Windows forget at once. Lines that add up for ever (OBV, AD) never do: their level is where they
began.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from watchhamster.core.text import Text
from watchhamster.formula.graph import Graph, Node
from watchhamster.formula.indicators import Indicator, Output
from watchhamster.formula.table import PERIOD_MAX, SERIES, Function, Parameter

FUNCTIONS: dict[str, Function] = {}

MA_TYPES = (  # TA-Lib's numbers for them
    *("sma", "ema", "wma", "dema", "tema", "trima", "kama", "mama", "t3", "hma", "disabled", "default", "zlema", "rma"),
)
HUGE = 3e37
PERCENT = (0.0, 100.0)
BANDS = "upper middle lower"
BARS = "open high low close"
RANGE = "high low close"

Memory = Callable[..., float]  # bars that a function of these parameters remembers, beyond its windows


def _window(*_: float) -> float:
    return 0


def _ema(n: float, *more: float) -> float:
    return 18.4 * (n + 1)


def _wilder(n: float, *more: float) -> float:
    return 36.7 * n


def _kama(n: float, *more: float) -> float:
    return 8817 + n  # its weight is never below (2/31)^2


def _mama(_fast: float, slow: float) -> float:
    return 36.7 / slow + 200  # and the Hilbert transform it follows


def _average(n: float, kind: float) -> float:
    """Of a moving average of a type."""
    match MA_TYPES[int(kind)]:
        case "ema" | "zlema" | "default":
            return _ema(n)
        case "dema":
            return 2 * _ema(n)
        case "tema":
            return 3 * _ema(n)
        case "t3":
            return 6 * _ema(n)
        case "rma":
            return _wilder(n)
        case "kama":
            return _kama(n)
        case "mama":
            return _mama(0.5, 0.05)
    return 0


def _hilbert(*_: float) -> float:
    return 2000


def _period(default: float, least: float = 2, name: str = "timeperiod") -> Parameter:
    return Parameter(name, default, least, PERIOD_MAX)


def _factor(name: str, default: float, least: float = -HUGE, most: float = HUGE) -> Parameter:
    return Parameter(name, default, least, most, whole=False)


def _type(name: str = "matype", default: str = "sma") -> Parameter:
    return Parameter(name, MA_TYPES.index(default), 0, len(MA_TYPES) - 1, choices=MA_TYPES)


def _row(
    name: str,
    takes: str,
    description: Text,
    *parameters: Parameter,
    group: str,
    memory: Memory = _window,
    outputs: str = "",
    order: Sequence[int] = (),
    bounds: tuple[float, float] | None = None,
    called: str = "",
) -> None:
    """A row. `takes`: in TA-Lib's order `x` or other names for series arguments, and the bars' columns.

    `outputs` are our names in our order, `order` their places among TA-Lib's; `called`: TA-Lib's name, if not ours.
    """
    words = tuple(takes.split())
    names = tuple(outputs.split())
    places = tuple(order) or tuple(range(len(names)))

    def build(graph: Graph, series: Sequence[Node], numbers: Sequence[float]) -> tuple[Node, ...]:
        given = iter(series)
        inputs = [graph.series(word) if word in SERIES else next(given) for word in words]
        values = tuple((p.name, int(n) if p.whole else float(n)) for p, n in zip(parameters, numbers, strict=True))
        indicator = Indicator((called or name).upper(), values, max(1, len(names)))
        need = indicator.lookback
        if need < 0:
            raise ValueError("TA-Lib refuses these together")
        node = graph.node(
            indicator,
            *inputs,
            first_value=need,
            warm_up=max(need, math.ceil(memory(*numbers))),
            bounds=None if names else bounds,
        )
        return tuple(graph.node(Output(k), node, bounds=bounds) for k in places) if names else (node,)

    FUNCTIONS[name] = Function(
        name,
        description,
        group,
        tuple(word for word in words if word not in SERIES),
        tuple(parameters),
        build,
        names,
        reads=tuple(word for word in words if word in SERIES),
    )


# fmt: off
# ---------------------------------------------------------------- overlaps

_overlap = partial(_row, group="overlap")
_overlap("sma", "x", Text("Simple moving average"), _period(30, 1))
_overlap("ema", "x", Text("Exponential moving average"), _period(30, 1), memory=_ema)
_overlap("wma", "x", Text("Weighted moving average"), _period(30, 1))
_overlap("dema", "x", Text("Double exponential moving average"), _period(30, 1), memory=lambda n: 2 * _ema(n))
_overlap("tema", "x", Text("Triple exponential moving average"), _period(30, 1), memory=lambda n: 3 * _ema(n))
_overlap("trima", "x", Text("Triangular moving average"), _period(30, 1))
_overlap("kama", "x", Text("Kaufman adaptive moving average"), _period(30, 1), memory=_kama)
_overlap("mama", "x", Text("MESA adaptive moving average and the line that follows it"),
         _factor("fastlimit", 0.5, 0.01, 0.99), _factor("slowlimit", 0.05, 0.01, 0.99),
         memory=_mama, outputs="mama fama")
_overlap("t3", "x", Text("Tillson's T3 moving average"), _period(5, 1), _factor("vfactor", 0.7, 0, 1),
         memory=lambda n, _v: 6 * _ema(n))
_overlap("hma", "x", Text("Hull moving average"), _period(20, 1))
_overlap("zlema", "x", Text("Exponential moving average without lag"), _period(30, 1), memory=_ema)
_overlap("rma", "x", Text("Wilder's moving average"), _period(30, 1), memory=_wilder)
_overlap("vwma", "x volume", Text("Moving average weighted by volume"), _period(30, 1))
_overlap("ma", "x", Text("Moving average of a chosen type"), _period(30, 1), _type(), memory=_average)
_overlap("mavp", "x periods", Text("Moving average whose period is a series"),
         _period(2, 1, "minperiod"), _period(30, 2, "maxperiod"), _type(),
         memory=lambda _least, most, kind: _average(most, kind))
_overlap("ht_trendline", "x", Text("Trend line of the Hilbert transform"), memory=_hilbert)
_overlap("midpoint", "x", Text("Middle of the highest and the lowest value"), _period(14))
_overlap("midprice", "high low", Text("Middle of the highest high and the lowest low"), _period(14))
_overlap("bbands", "x", Text("Bollinger bands: a moving average and lines some standard deviations from it"),
         _period(20), _factor("nbdevup", 2.0), _factor("nbdevdn", 2.0), _type(),
         memory=lambda n, _up, _down, kind: _average(n, kind), outputs=BANDS)
_overlap("accbands", RANGE, Text("Acceleration bands: averages widened by the bars' range"), _period(20), outputs=BANDS)
_overlap("donchian", "high low", Text("Donchian channel: the highest high, the lowest low and their middle"),
         _period(20), outputs=BANDS)
_KC = (_period(20), _period(10, 1, "atrperiod"), _factor("nbdev", 2.0))
_overlap("kc", RANGE, Text("Keltner channel: an average and lines some average true ranges from it"), *_KC,
         memory=lambda n, m, _: max(_ema(n), _wilder(m)), outputs=BANDS)
_overlap("keltner", RANGE, Text("Keltner channel, the same as kc"), *_KC,
         memory=lambda n, m, _: max(_ema(n), _wilder(m)), outputs=BANDS, called="kc")
_overlap("supertrend", RANGE, Text("Supertrend: a stop that follows the trend, and which way it points, 1 or -1"),
         _period(10), _factor("multiplier", 3.0, 0), memory=lambda n, _: _wilder(n) + 200, outputs="supertrend trend")
_overlap("sar", "high low", Text("Parabolic stop and reverse"),
         _factor("acceleration", 0.02, 0), _factor("maximum", 0.2, 0), memory=lambda *_: 200)
_overlap("sarext", "high low", Text("Parabolic stop and reverse, each side with its own numbers; below zero: short"),
         _factor("startvalue", 0.0), _factor("offsetonreverse", 0.0, 0),
         _factor("accelerationinitlong", 0.02, 0), _factor("accelerationlong", 0.02, 0),
         _factor("accelerationmaxlong", 0.2, 0), _factor("accelerationinitshort", 0.02, 0),
         _factor("accelerationshort", 0.02, 0), _factor("accelerationmaxshort", 0.2, 0), memory=lambda *_: 200)

# ---------------------------------------------------------------- momentum

_momentum = partial(_row, group="momentum")
_momentum("rsi", "x", Text("Relative strength index"), _period(14), memory=_wilder, bounds=PERCENT)
_momentum("cmo", "x", Text("Chande momentum oscillator"), _period(14), memory=_wilder, bounds=(-100.0, 100.0))
_momentum("cmou", "x", Text("Chande momentum oscillator without smoothing"), _period(14), bounds=(-100.0, 100.0))
_momentum("mom", "x", Text("Momentum: the change over some bars"), _period(10, 1))
_momentum("roc", "x", Text("Rate of change, in percent"), _period(10, 1))
_momentum("rocp", "x", Text("Rate of change, as a fraction"), _period(10, 1))
_momentum("rocr", "x", Text("Rate of change, as a ratio"), _period(10, 1))
_momentum("rocr100", "x", Text("Rate of change, as a ratio times 100"), _period(10, 1))
_momentum("trix", "x", Text("Rate of change of a triple smoothed average"), _period(30, 1),
          memory=lambda n: 3 * _ema(n))
_momentum("tsi", "x", Text("True strength index"), _period(25, 2, "firstperiod"), _period(13, 2, "secondperiod"),
          memory=lambda a, b: _ema(a) + _ema(b))
_MACD = (_period(12, name="fastperiod"), _period(26, name="slowperiod"))
_momentum("macd", "x", Text("Moving average convergence and divergence"), *_MACD, _period(9, 1, "signalperiod"),
          memory=lambda fast, slow, signal: _ema(max(fast, slow)) + _ema(signal), outputs="macd signal hist")
_momentum("macdext", "x", Text("Moving average convergence and divergence, with types of average"),
          *_MACD, _period(9, 1, "signalperiod"), _type("fastmatype"), _type("slowmatype"), _type("signalmatype"),
          memory=lambda a, b, c, x, y, z: max(_average(a, x), _average(b, y)) + _average(c, z),
          outputs="macd signal hist")
_momentum("macdfix", "x", Text("Moving average convergence and divergence of 12 and 26 bars"),
          _period(9, 1, "signalperiod"), memory=lambda n: _ema(26) + _ema(n), outputs="macd signal hist")
_momentum("apo", "x", Text("Absolute price oscillator: a fast average less a slow one"), *_MACD,
          _type(default="ema"), memory=lambda a, b, kind: _average(max(a, b), kind))
_momentum("ppo", "x", Text("Percentage price oscillator: the same in percent of the slow one"), *_MACD,
          _type(default="ema"), memory=lambda a, b, kind: _average(max(a, b), kind))
_momentum("ao", "high low", Text("Awesome oscillator"), _period(5, name="fastperiod"), _period(34, name="slowperiod"))
_momentum("ac", "high low", Text("Accelerator oscillator"),
          _period(5, name="fastperiod"), _period(34, name="slowperiod"), _period(5, name="signalperiod"))
_momentum("coppock", "x", Text("Coppock curve"),
          _period(10, 1, "wmaperiod"), _period(11, 1, "roc1period"), _period(14, 1, "roc2period"))
_momentum("dpo", "x", Text("Detrended price oscillator"), _period(20))
_momentum("er", "x", Text("Efficiency ratio: the way gained in proportion to the way gone"), _period(10))
_momentum("fosc", "x", Text("Forecast oscillator: how far from its regression, in percent"), _period(5))
_momentum("vhf", "x", Text("Vertical horizontal filter: trend or no trend"), _period(28))
_momentum("willr", RANGE, Text("Williams' %R"), _period(14), bounds=(-100.0, 0.0))
_momentum("cci", RANGE, Text("Commodity channel index"), _period(14))
_momentum("ultosc", RANGE, Text("Ultimate oscillator"),
          _period(7, 1, "timeperiod1"), _period(14, 1, "timeperiod2"), _period(28, 1, "timeperiod3"))
_momentum("adx", RANGE, Text("Average directional movement index"), _period(14),
          memory=lambda n: 2 * _wilder(n), bounds=PERCENT)
_momentum("adxr", RANGE, Text("Average directional movement index, averaged with its past"), _period(14),
          memory=lambda n: 2 * _wilder(n) + n, bounds=PERCENT)
_momentum("dx", RANGE, Text("Directional movement index"), _period(14), memory=_wilder, bounds=PERCENT)
_momentum("plus_di", RANGE, Text("Plus directional indicator"), _period(14, 1), memory=_wilder)
_momentum("minus_di", RANGE, Text("Minus directional indicator"), _period(14, 1), memory=_wilder)
_momentum("plus_dm", "high low", Text("Plus directional movement"), _period(14, 1), memory=_wilder)
_momentum("minus_dm", "high low", Text("Minus directional movement"), _period(14, 1), memory=_wilder)
_momentum("vortex", RANGE, Text("Vortex: movement up and movement down"), _period(14, 1), outputs="plus minus")
_momentum("aroon", "high low", Text("Aroon"), _period(14), outputs="up down", order=(1, 0), bounds=PERCENT)
_momentum("aroonosc", "high low", Text("Aroon oscillator: up less down"), _period(14), bounds=(-100.0, 100.0))
_momentum("bop", BARS, Text("Balance of power"))
_momentum("imi", "open close", Text("Intraday momentum index"), _period(14), bounds=PERCENT)
_momentum("qstick", "open close", Text("Average of close less open"), _period(10, 1))
_momentum("eri", RANGE, Text("Elder ray: the power of bulls and of bears"), _period(13, 1), memory=_ema,
          outputs="bull bear")
_momentum("fractal", "high low", Text("Bill Williams' fractals: a swing high and a swing low, once they are certain"),
          _period(2, 1, "leftbars"), _period(2, 1, "rightbars"), outputs="high low")
_momentum("mfi", "high low close volume", Text("Money flow index"), _period(14), bounds=PERCENT)
_momentum("stoch", RANGE, Text("Slow stochastic"),
          _period(5, 1, "fastk_period"), _period(3, 1, "slowk_period"), _period(3, 1, "slowd_period"),
          _type("slowk_matype"), _type("slowd_matype"),
          memory=lambda _n, k, d, x, y: _average(k, x) + _average(d, y), outputs="k d")
_momentum("stochf", RANGE, Text("Fast stochastic"), _period(5, 1, "fastk_period"), _period(3, 1, "fastd_period"),
          _type("fastd_matype"), memory=lambda _n, d, y: _average(d, y), outputs="k d")
_momentum("stochrsi", "x", Text("Stochastic of the relative strength index"),
          _period(14), _period(5, 1, "fastk_period"), _period(3, 1, "fastd_period"), _type("fastd_matype"),
          memory=lambda n, k, d, y: _wilder(n) + k + _average(d, y), outputs="k d")
_momentum("kdj", RANGE, Text("Stochastic with the line J = 3K - 2D"),
          _period(9, 1, "fastk_period"), _period(3, 1, "slowk_period"), _period(3, 1, "slowd_period"),
          _type("slowk_matype", "rma"), _type("slowd_matype", "rma"),
          memory=lambda _n, k, d, x, y: _average(k, x) + _average(d, y), outputs="k d j")
_momentum("smi", RANGE, Text("Stochastic momentum index"),
          _period(13), _period(2, name="fastperiod"), _period(25, name="slowperiod"), _period(9, name="signalperiod"),
          memory=lambda _n, a, b, c: _ema(a) + _ema(b) + _ema(c), outputs="smi signal")
_momentum("wad", RANGE, Text("Williams' accumulation and distribution"))

# ---------------------------------------------------------------- volatility

_volatility = partial(_row, group="volatility")
_volatility("atr", RANGE, Text("Average true range"), _period(14, 1), memory=_wilder)
_volatility("natr", RANGE, Text("Average true range, in percent of the close"), _period(14, 1), memory=_wilder)
_volatility("trange", RANGE, Text("True range"))
_volatility("adr", "high low", Text("Average range of the bars"), _period(14, 1))
_volatility("cvi", "high low", Text("Chaikin's volatility"), _period(10), _period(10, 1, "rocperiod"),
            memory=lambda n, m: _ema(n) + m)
_volatility("massi", "high low", Text("Mass index"), _period(9, name="fastperiod"), _period(25, name="slowperiod"),
            memory=lambda a, b: 2 * _ema(a) + b)
_volatility("rvi", "x", Text("Relative volatility index"), _period(14, 1), _period(10, name="stddevperiod"),
            memory=lambda n, m: _wilder(n) + m)

# ---------------------------------------------------------------- volume

_volume = partial(_row, group="volume")
_volume("obv", "close volume", Text("On-balance volume"))
_volume("ad", "high low close volume", Text("Chaikin's accumulation and distribution line"))
_volume("adosc", "high low close volume", Text("Chaikin's oscillator of that line"),
        _period(3, name="fastperiod"), _period(10, name="slowperiod"), memory=lambda a, b: _ema(max(a, b)))
_volume("cmf", "high low close volume", Text("Chaikin's money flow"), _period(20))
_volume("efi", "close volume", Text("Elder's force index"), _period(13, 1), memory=_ema)
_volume("marketfi", "high low volume", Text("Market facilitation: range in proportion to volume"))
_volume("nvi", "close volume", Text("Negative volume index"))
_volume("pvi", "close volume", Text("Positive volume index"))
_volume("pvt", "close volume", Text("Price and volume trend"))
_volume("pvo", "volume", Text("Percentage oscillator of volume"), *_MACD,
        _type(default="ema"), memory=lambda a, b, kind: _average(max(a, b), kind))
_volume("rvol", "volume", Text("Volume in proportion to its average before"), _period(20, 1))
_volume("vwap", "high low close volume", Text("Average price weighted by volume, since the first bar"))

# ---------------------------------------------------------------- prices

_price = partial(_row, group="price")
_price("avgprice", BARS, Text("Average of open, high, low and close"))
_price("medprice", "high low", Text("Middle of high and low"))
_price("typprice", RANGE, Text("Average of high, low and close"))
_price("wclprice", RANGE, Text("Average of high, low and twice the close"))
_price("ha", BARS, Text("Heikin-Ashi bars"), memory=lambda *_: 74, outputs=BARS)
_price("avgdev", "x", Text("Average distance from the average"), _period(14))

# ---------------------------------------------------------------- statistics

_statistics = partial(_row, group="statistics")
_statistics("linearreg", "x", Text("End of the regression line"), _period(14))
_statistics("linearreg_slope", "x", Text("Slope of the regression line, per bar"), _period(14))
_statistics("linearreg_angle", "x", Text("Angle of the regression line, in degrees"), _period(14))
_statistics("linearreg_intercept", "x", Text("Start of the regression line"), _period(14))
_statistics("tsf", "x", Text("The regression line one bar ahead"), _period(14))
_statistics("stddev", "x", Text("Standard deviation (of the whole)"), _period(5), _factor("nbdev", 1.0))
_statistics("var", "x", Text("Variance (of the whole)"), _period(5, 1), _factor("nbdev", 1.0))
_statistics("beta", "x y", Text("Beta: how one series moves with another"), _period(5, 1))
_statistics("correl", "x y", Text("Correlation of two series"), _period(30, 1), bounds=(-1.0, 1.0))
_statistics("percentile", "x", Text("Percentile of some bars"), _period(30), _factor("percentile", 50.0, 0, 100))
_statistics("percentrank", "x", Text("Percent of the bars before that were not above"), _period(100))

# ---------------------------------------------------------------- cycles

_cycle = partial(_row, group="cycle", memory=_hilbert)
_cycle("ht_dcperiod", "x", Text("Period of the dominant cycle, in bars"))
_cycle("ht_dcphase", "x", Text("Phase of the dominant cycle, in degrees"))
_cycle("ht_phasor", "x", Text("Phasor of the dominant cycle"), outputs="inphase quadrature")
_cycle("ht_sine", "x", Text("Sine of the dominant cycle, and an eighth ahead"), outputs="sine leadsine")
_cycle("ht_trendmode", "x", Text("1 in a trend, 0 in a cycle"))

# ---------------------------------------------------------------- mathematics

_math = partial(_row, group="math")
_math("sum", "x", Text("Sum over some bars"), _period(30))
_math("cumsum", "x", Text("Sum of all bars since the first"))
_math("max", "x", Text("Highest value of some bars"), _period(30))
_math("min", "x", Text("Lowest value of some bars"), _period(30))
_math("minmax", "x", Text("Lowest and highest value of some bars"), _period(30), outputs="min max")
_math("maxindex", "x", Text("Where the highest value of some bars is, counted from the first bar"), _period(30))
_math("minindex", "x", Text("Where the lowest value of some bars is, counted from the first bar"), _period(30))
_math("minmaxindex", "x", Text("Where the lowest and the highest value of some bars are, counted from the first bar"),
      _period(30), outputs="min max")
_math("add", "x y", Text("x + y"))
_math("sub", "x y", Text("x - y"))
_math("mult", "x y", Text("x * y"))
_math("div", "x y", Text("x / y"))
_math("sqrt", "x", Text("Square root"))
_math("exp", "x", Text("Exponential"))
_math("ln", "x", Text("Natural logarithm"))
_math("log", "x", Text("Natural logarithm"), called="ln")
_math("log10", "x", Text("Logarithm to base 10"))
_math("floor", "x", Text("Largest whole number not above"))
_math("ceil", "x", Text("Smallest whole number not below"))
_math("sin", "x", Text("Sine, of radians"))
_math("cos", "x", Text("Cosine, of radians"))
_math("tan", "x", Text("Tangent, of radians"))
_math("asin", "x", Text("Arc sine, in radians"))
_math("acos", "x", Text("Arc cosine, in radians"))
_math("atan", "x", Text("Arc tangent, in radians"))
_math("sinh", "x", Text("Hyperbolic sine"))
_math("cosh", "x", Text("Hyperbolic cosine"))
_math("tanh", "x", Text("Hyperbolic tangent"))

# ---------------------------------------------------------------- candle patterns: 100 up, -100 down, 0 none


def _candles(name: str, description: Text, *parameters: Parameter) -> None:
    _row(name, BARS, description, *parameters, group="candles", bounds=(-200.0, 200.0), memory=lambda *_: 30)


def _penetration(default: float) -> Parameter:
    return _factor("penetration", default, 0)


_candles("cdl2crows", Text("Two crows"))
_candles("cdl3blackcrows", Text("Three black crows"))
_candles("cdl3inside", Text("Three inside up or down"))
_candles("cdl3linestrike", Text("Three-line strike"))
_candles("cdl3outside", Text("Three outside up or down"))
_candles("cdl3starsinsouth", Text("Three stars in the south"))
_candles("cdl3whitesoldiers", Text("Three advancing white soldiers"))
_candles("cdlabandonedbaby", Text("Abandoned baby"), _penetration(0.3))
_candles("cdladvanceblock", Text("Advance block"))
_candles("cdlbelthold", Text("Belt hold"))
_candles("cdlbreakaway", Text("Breakaway"))
_candles("cdlclosingmarubozu", Text("Closing marubozu"))
_candles("cdlconcealbabyswall", Text("Concealing baby swallow"))
_candles("cdlcounterattack", Text("Counterattack"))
_candles("cdldarkcloudcover", Text("Dark cloud cover"), _penetration(0.5))
_candles("cdldoji", Text("Doji"))
_candles("cdldojistar", Text("Doji star"))
_candles("cdldragonflydoji", Text("Dragonfly doji"))
_candles("cdlengulfing", Text("Engulfing"))
_candles("cdleveningdojistar", Text("Evening doji star"), _penetration(0.3))
_candles("cdleveningstar", Text("Evening star"), _penetration(0.3))
_candles("cdlgapsidesidewhite", Text("Side-by-side white lines after a gap"))
_candles("cdlgravestonedoji", Text("Gravestone doji"))
_candles("cdlhammer", Text("Hammer"))
_candles("cdlhangingman", Text("Hanging man"))
_candles("cdlharami", Text("Harami"))
_candles("cdlharamicross", Text("Harami cross"))
_candles("cdlhighwave", Text("High wave"))
_candles("cdlhikkake", Text("Hikkake"))
_candles("cdlhikkakemod", Text("Modified hikkake"))
_candles("cdlhomingpigeon", Text("Homing pigeon"))
_candles("cdlidentical3crows", Text("Three identical crows"))
_candles("cdlinneck", Text("In-neck"))
_candles("cdlinvertedhammer", Text("Inverted hammer"))
_candles("cdlkicking", Text("Kicking"))
_candles("cdlkickingbylength", Text("Kicking, judged by the longer marubozu"))
_candles("cdlladderbottom", Text("Ladder bottom"))
_candles("cdllongleggeddoji", Text("Long-legged doji"))
_candles("cdllongline", Text("Long line"))
_candles("cdlmarubozu", Text("Marubozu"))
_candles("cdlmatchinglow", Text("Matching low"))
_candles("cdlmathold", Text("Mat hold"), _penetration(0.5))
_candles("cdlmorningdojistar", Text("Morning doji star"), _penetration(0.3))
_candles("cdlmorningstar", Text("Morning star"), _penetration(0.3))
_candles("cdlonneck", Text("On-neck"))
_candles("cdlpiercing", Text("Piercing line"))
_candles("cdlrickshawman", Text("Rickshaw man"))
_candles("cdlrisefall3methods", Text("Rising or falling three methods"))
_candles("cdlseparatinglines", Text("Separating lines"))
_candles("cdlshootingstar", Text("Shooting star"))
_candles("cdlshortline", Text("Short line"))
_candles("cdlspinningtop", Text("Spinning top"))
_candles("cdlstalledpattern", Text("Stalled pattern"))
_candles("cdlsticksandwich", Text("Stick sandwich"))
_candles("cdltakuri", Text("Takuri: a dragonfly doji with a very long lower shadow"))
_candles("cdltasukigap", Text("Tasuki gap"))
_candles("cdlthrusting", Text("Thrusting"))
_candles("cdltristar", Text("Tristar"))
_candles("cdlunique3river", Text("Unique three river"))
_candles("cdlupsidegap2crows", Text("Upside gap two crows"))
_candles("cdlxsidegap3methods", Text("Gap three methods"))
