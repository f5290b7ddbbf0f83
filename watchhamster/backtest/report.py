"""A run as one HTML file that stands alone: no network, no fonts, no scripts but its own, and safe to pass around.

What is text, table or small picture is written here and needs no script; the linked charts and the long list of
trades are drawn by `report.js` from the JSON in the page, which `drawing.py` makes.

Every text goes through the catalogue, in the language in use; everything a person could have typed is escaped, and
the page's own policy forbids it to load or send anything.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np

from watchhamster.backtest.breakdown import (
    Bucket,
    by_hour,
    by_weekday,
    distribution,
    drawdown_periods,
    monthly,
    rolling_sharpe,
)
from watchhamster.backtest.definitions import DEFINITIONS, GROUPS, MINUS, NOTHING, grouped, money, shown
from watchhamster.backtest.drawing import TRADES_MOST, bars_a_point, drawing, is_daily, reason_text
from watchhamster.backtest.landscape import HeatMap, Scored, heat_maps, varied
from watchhamster.backtest.metrics import Metrics
from watchhamster.backtest.results import Order, Result
from watchhamster.backtest.trust import Trust
from watchhamster.core.bars import Bars
from watchhamster.core.text import Text, _, ngettext, pgettext, say
from watchhamster.core.timeframes import SECOND_NS

Colours: TypeAlias = Literal["colour_blind", "west", "korea"]

ORDERS_MOST: Final = 100
TRIALS_LISTED: Final = 12
_PARTS = Path(__file__).resolve().parents[2] / "resources" / "report"
_TILES = (
    *("total_return_percent", "cagr_percent", "max_drawdown_percent", "sharpe", "sortino"),
    *("trades", "win_rate_percent", "profit_factor", "average_trade_percent", "exposure_percent"),
)
_JSON_UNSAFE = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


def render(
    result: Result,
    metrics: Metrics,
    *,
    candles: Mapping[str, Bars],
    trust: Trust | None = None,
    trials: Sequence[Scored] | None = None,
    notes: str = "",
    language: str = "en",
    facts: Sequence[tuple[Text, Text | str]] = (),
    source: str = "",
    colours: Colours | None = None,
    metric: str = "sharpe",
) -> str:
    """The report of a run: a whole HTML document. The same arguments give the same bytes.

    `candles` are the bars of the period by instrument; those without trades may be left out. `facts` are further lines
    under the assumptions (costs, slippage, version, seed), `source` is the strategy as it was written, `metric` what
    the trials were chosen by. `language` is the code of the language in use, as loading its catalogue gives it; the
    colours of prices are Korean for `ko`, else safe for the colour-blind.
    """
    colours = colours or ("korea" if language == "ko" else "colour_blind")
    traded = Counter(trade.instrument for trade in (*result.trades, *result.open_trades))
    candles = dict(sorted(candles.items(), key=lambda item: -traded[item[0]]))  # what was traded most is shown first
    body = "\n".join(
        part
        for part in (
            _head(result, colours),
            _verdict(trust),
            _warnings(result),
            _tiles(metrics),
            _charts(result, candles),
            _numbers(metrics),
            _months(result),
            _buckets(result),
            _drawdowns(result),
            _trust(trust),
            _maps(trials, result, metric),
            _trades(result),
            _orders(result),
            _notes(notes),
            _assumptions(result, facts),
            _source(source),
            _definitions(),
            f"<footer>{escape(_('Made by WatchHamster. What was is no promise of what will be.'))}</footer>",
            '<div id="tip" role="tooltip" hidden></div>',
        )
        if part
    )
    values = {
        "language": escape(language),
        "colours": escape(colours),
        "title": escape(f"{result.strategy} · {', '.join(result.instruments[:3])}"),
        "style": _part("report.css"),
        "script": _part("report.js"),
        "body": body,
        "data": _json(drawing(result, candles)),
    }
    # In one pass: what is put in is never read for places again.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: values[place[1]], _part("report.html"))


@lru_cache(maxsize=8)
def _part(name: str) -> str:
    return (_PARTS / name).read_text(encoding="utf-8").rstrip()


def _json(value: object) -> str:
    """JSON that can stand in a page: nothing in it ends the script it is in."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(_JSON_UNSAFE)


# ---------------------------------------------------------------- words and numbers


def _t(text: Text) -> str:
    """A text in the language in use, safe in HTML; a minus looks like one, a percent sign stays with its number."""
    return re.sub(r"(?<![\w-])-(?=\d)", MINUS, escape(say(text))).replace(" %", "\u00a0%")


def _percent(value: float | None, digits: int = 2) -> str:
    """With its sign, for gains and losses."""
    if value is None:
        return NOTHING
    return f"{'+' if round(value, digits) > 0 else ''}{grouped(value, digits)}\u00a0%"


def _direction(value: float | None) -> str:
    return "" if not value else "up" if value > 0 else "down"


def _moment(ns: int | None, zone: str, daily: bool) -> str:
    if ns is None:
        return NOTHING
    at = dt.datetime.fromtimestamp(ns // SECOND_NS, ZoneInfo(zone))
    return at.strftime("%Y-%m-%d" if daily else "%Y-%m-%d %H:%M")


def _term(name: str) -> str:
    return f'<a class="term" href="#def-{name}">{_t(DEFINITIONS[name].label)}</a>'


def _section(title: str, content: str, kind: str = "") -> str:
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{content}</section>' if content else ""


def _table(head: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "") -> str:
    """Cells are HTML already: either `<td…>` or what goes into one."""
    titles = "".join(f"<th>{title}</th>" for title in head)
    lines = "".join(
        "<tr>" + "".join(cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    top = f"<thead><tr>{titles}</tr></thead>" if titles else ""
    return f'<div class="wide"><table class="{kind}">{top}<tbody>{lines}</tbody></table></div>' if lines else ""


# ---------------------------------------------------------------- sections


def _head(result: Result, colours: Colours) -> str:
    daily = is_daily(result)
    names = ", ".join(result.instruments[:6])
    if len(result.instruments) > 6:
        names = _("{names} and {count} more").format(names=names, count=len(result.instruments) - 6)
    # `until` is exclusive: of whole days the last one is named, not the one after it.
    until_ns = int(result.curve.open_ns[-1]) if daily and len(result.curve) else result.until_ns
    since, until = _moment(result.since_ns, result.zone, daily), _moment(until_ns, result.zone, daily)
    kinds = (
        ("colour_blind", pgettext("choice", "Colour-blind: blue up, orange down")),
        ("west", pgettext("choice", "Western: green up, red down")),
        ("korea", pgettext("choice", "Korean: red up, blue down")),
    )
    options = "".join(
        f'<option value="{key}"{" selected" if key == colours else ""}>{escape(label)}</option>' for key, label in kinds
    )
    parameters = " · ".join(f"{escape(name)} = {value:g}" for name, value in result.parameters.items())
    return (
        f"<header><div><h1>{escape(result.strategy)}</h1>"
        f'<p class="subtitle">{escape(names)} · {escape(result.timeframe)} · {since} – {until} '
        f"({escape(result.zone)})</p>"
        f'<p class="subtitle">{parameters}</p></div>'
        f'<div class="controls"><select id="colours" aria-label="{escape(_("Colours of prices"))}">{options}</select>'
        f'<button id="theme">{escape(_("Dark or light"))}</button></div></header>'
    )


def _verdict(trust: Trust | None) -> str:
    if trust is None:
        return ""
    kind = {"trustworthy": "good", "plausible": "fair", "doubtful": "fair", "too_few": "fair"}.get(trust.grade, "poor")
    return f'<section class="verdict {kind}"><p>{_t(trust.verdict)}</p></section>'


def _warnings(result: Result) -> str:
    lines = [_t(warning) for warning in result.warnings]
    if result.ambiguous_bars:
        lines.append(
            escape(
                ngettext(
                    "{n} bar held both stop and target; the stop was assumed to come first.",
                    "{n} bars held both stop and target; the stop was assumed to come first.",
                    result.ambiguous_bars,
                ).format(n=f"{result.ambiguous_bars:,}")
            )
        )
    if not lines:
        return ""
    return _section(_("Warnings"), f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>", "warning")


def _tiles(metrics: Metrics) -> str:
    m = metrics
    days = _("P = {days} days a year").format(days=m.year_days)
    beside = {
        "total_return_percent": _("holding {percent}").format(percent=_percent(m.buy_and_hold_percent)),
        "cagr_percent": _("ends at {money}").format(money=money(m.final_equity)),
        "max_drawdown_percent": _("longest {days}").format(days=shown(m.longest_drawdown_days, "days")),
        "sharpe": days,
        "sortino": days,
        "trades": _("{bars} each").format(bars=shown(m.average_bars, "bars")) if m.average_bars is not None else "",
        "win_rate_percent": _("payoff {ratio}").format(ratio=shown(m.payoff, "ratio")),
        "profit_factor": _("fees {money}").format(money=money(m.fees)),
        "average_trade_percent": _("worst {percent}").format(percent=_percent(m.worst_trade_percent)),
        "exposure_percent": _("mean exposure {percent}").format(percent=shown(m.average_exposure_percent, "percent")),
    }
    tiles = []
    for name in _TILES:
        value: float | None = getattr(m, name)
        signed = name in ("total_return_percent", "cagr_percent", "average_trade_percent")
        text = shown(value, DEFINITIONS[name].unit, signed)
        if name == "max_drawdown_percent" and value:
            text = MINUS + text
        kind = _direction(value) if signed else ""
        tiles.append(
            f'<div class="tile">{_term(name)}<div class="value {kind}">{escape(text)}</div>'
            f'<div class="beside">{escape(beside[name])}</div></div>'
        )
    return f'<section class="tiles">{"".join(tiles)}</section>'


def _charts(result: Result, candles: Mapping[str, Bars]) -> str:
    if not len(result.curve):
        return _section(_("Curves"), f"<p>{escape(_('There are no bars in this period.'))}</p>")
    charts = [
        f'<figure id="equity"><figcaption><b>{escape(_("Equity"))}</b>'
        f'<span class="key">{escape(_("strategy"))}</span><span class="key hold">{escape(_("buy and hold"))}</span>'
        f'<output></output><span class="right"><button id="reset" hidden>{escape(pgettext("zoom", "All"))}</button> '
        f'<button id="log" aria-pressed="false">{escape(pgettext("scale", "log"))}</button></span>'
        "</figcaption></figure>",
        _figure("drawdown", _("Drawdown")),
    ]
    names = [name for name, bars in candles.items() if len(bars)]
    if names:
        choice = ""
        if len(names) > 1:
            options = "".join(f'<option value="{escape(name)}">{escape(name)}</option>' for name in names)
            choice = f'<select id="instrument" aria-label="{escape(_("Instrument"))}">{options}</select>'
        charts.append(
            f'<figure id="price"><figcaption><b>{escape(_("Price and trades"))}</b>'
            f"{choice or f'<span class=quiet>{escape(names[0])}</span>'}<output></output></figcaption></figure>"
        )
    charts.append(_figure("exposure", _("Exposure")))
    if len(rolling_sharpe(result)[0]):
        window = 90 if result.year_days == 365 else 63
        charts.append(_figure("rolling", _("Sharpe ratio of the last {days} days").format(days=window)))
    hint = _("Drag to zoom, double-click for everything; arrow keys move. A row of the list below leads to its trade.")
    step = bars_a_point(result)
    thinned = (
        " " + _("The run is long: a point of the curve stands for {bars} bars, extremes are kept.").format(bars=step)
        if step > 1
        else ""
    )
    return _section(_("Curves"), "".join(charts) + f'<p class="hint">{escape(hint + thinned)}</p>', "long")


def _figure(key: str, title: str) -> str:
    return f'<figure id="{key}"><figcaption><b>{escape(title)}</b><output></output></figcaption></figure>'


def _numbers(metrics: Metrics) -> str:
    groups = []
    for group, label in GROUPS.items():
        rows = [
            (_term(d.name), escape(shown(getattr(metrics, d.name), d.unit)))
            for d in DEFINITIONS.values()
            if d.group == group
        ]
        groups.append(f"<div><h3>{_t(label)}</h3>{_table((), rows, 'numbers')}</div>")
    return _section(_("All numbers"), f'<div class="flow">{"".join(groups)}</div>', "long")


def _months(result: Result) -> str:
    years = monthly(result)
    known = [abs(value) for year in years for value in year.months if value is not None]
    strongest = max(known, default=0.0) or 1.0
    head = [
        "",
        *map(escape, pgettext("months", "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec").split()),
        escape(_("Year")),
    ]
    rows = [
        [
            str(year.year),
            *(_heat(value, strongest) for value in year.months),
            _heat(year.total, max(strongest, max((abs(y.total) for y in years), default=1.0)), "total"),
        ]
        for year in reversed(years)
    ]
    return _section(_("Return by month, in percent"), _table(head, rows, "heat"))


def _heat(value: float | None, strongest: float, kind: str = "") -> str:
    if value is None:
        return f'<td class="{kind}"></td>'
    text = f"{'+' if round(value, 1) > 0 else ''}{grouped(value, 1)}"
    return f'<td class="{kind} {_direction(value)}" style="--s:{min(1, abs(value) / strongest):.2f}">{text}</td>'


def _buckets(result: Result) -> str:
    if not result.trades:
        return ""
    hours, weekdays = by_hour(result), by_weekday(result)
    parts = []
    if sum(bucket.trades > 0 for bucket in hours) > 1:
        parts.append((_("By hour of entry: mean trade"), _bars(hours, [f"{n:02d}" for n in range(24)])))
    if sum(bucket.trades > 0 for bucket in weekdays) > 1:
        labels = pgettext("weekdays", "Mon Tue Wed Thu Fri Sat Sun").split()
        parts.append((_("By weekday of entry: mean trade"), _bars(weekdays, labels)))
    parts.append((_("Trades by result, in percent"), _histogram([trade.profit_percent for trade in result.trades])))
    content = "".join(f"<div><h3>{escape(title)}</h3>{picture}</div>" for title, picture in parts)
    return _section(_("When and how much"), f'<div class="columns charts">{content}</div>')


def _bars(buckets: Sequence[Bucket], labels: Sequence[str]) -> str:
    """Mean trade of each bucket as a bar up or down, its count and win rate on hovering."""
    heights = [bucket.average_percent or 0.0 for bucket in buckets]
    titles = [
        _("{label}: {n} trades, {wins} won, {average} each").format(
            label=label,
            n=bucket.trades,
            wins=shown(bucket.win_rate_percent, "percent"),
            average=_percent(bucket.average_percent),
        )
        for bucket, label in zip(buckets, labels, strict=True)
    ]
    return _picture(heights, labels, titles, every=3 if len(labels) > 12 else 1, unit="\u00a0%")


def _histogram(values: Sequence[float]) -> str:
    found = distribution(values)
    middles = [(a + b) / 2 for a, b in zip(found.edges, found.edges[1:], strict=False)]
    titles = [
        _("{low} to {high} %: {n} trades").format(low=f"{low:g}", high=f"{high:g}", n=n)
        for low, high, n in zip(found.edges, found.edges[1:], found.counts, strict=False)
    ]
    signs = [math.copysign(1.0, middle) for middle in middles]
    labels = [f"{low:g}".replace("-", MINUS) for low in found.edges[:-1]]
    return _picture([float(n) for n in found.counts], labels, titles, every=max(1, len(labels) // 8), signs=signs)


def _picture(
    heights: Sequence[float],
    labels: Sequence[str],
    titles: Sequence[str],
    every: int,
    unit: str = "",
    signs: Sequence[float] | None = None,
) -> str:
    """Bars as SVG. `signs` colour them where their height does not; a label stands under each `every`-th."""
    width, height = 340.0, 110.0
    top, bottom = max(0.0, *heights), min(0.0, *heights)
    scale = height / ((top - bottom) or 1.0)
    zero = top * scale
    slot = width / len(heights)
    drawn = []
    for n, (value, label, title) in enumerate(zip(heights, labels, titles, strict=True)):
        size = abs(value) * scale
        left = n * slot
        kind = _direction(signs[n] if signs else value)
        text = (
            f'<text x="{left + slot / 2 if signs is None else left:.1f}" y="{height + 14}">{escape(label)}</text>'
            if n % every == 0
            else ""
        )
        drawn.append(
            f"<g><title>{escape(title)}</title>"
            f'<rect class="{kind}" x="{left + slot * 0.12:.1f}" y="{zero - (size if value > 0 else 0):.1f}" '
            f'width="{slot * 0.76:.1f}" height="{size:.1f}"/>'
            f'<rect class="hit" x="{left:.1f}" y="0" width="{slot:.1f}" height="{height}"/></g>{text}'
        )
    for value, y in ((top, 4.0), (bottom, height + 4)):
        if value:
            mark = (f"{value:.2g}" if unit else f"{value:.0f}").replace("-", MINUS) + unit
            drawn.append(f'<text class="scale" x="-4" y="{y:.1f}">{mark}</text>')
    return (
        f'<svg class="bars" viewBox="-54 -8 {width + 60:.0f} {height + 26:.0f}" role="img">'
        f'<line x1="0" x2="{width:.0f}" y1="{zero:.1f}" y2="{zero:.1f}"/>{"".join(drawn)}</svg>'
    )


def _drawdowns(result: Result) -> str:
    daily = is_daily(result)
    rows = [
        (
            f'<td class="down">{_percent(-period.depth_percent)}</td>',
            _moment(period.peak_ns, result.zone, daily),
            _moment(period.trough_ns, result.zone, daily),
            _moment(period.end_ns, result.zone, daily) if period.end_ns else escape(_("still below")),
            escape(shown(period.days, "days")),
        )
        for period in drawdown_periods(result, 8)
    ]
    head = [escape(text) for text in (_("Depth"), _("Peak"), _("Trough"), _("Back again"), _("Lasted"))]
    return _section(_("Deepest drawdowns"), _table(head, rows))


def _trust(trust: Trust | None) -> str:
    if trust is None:
        return ""
    marks = {
        "good": "● " + pgettext("mark", "good"),
        "fair": "◐ " + pgettext("mark", "fair"),
        "poor": "○ " + pgettext("mark", "poor"),
    }
    rows = [
        (
            f"<td><b>{_t(check.label)}</b></td>",
            f'<td style="white-space:nowrap">{_t(check.value)}</td>',
            f'<td class="left {check.mark}-mark" style="white-space:nowrap">{escape(marks[check.mark])}</td>',
            f'<td class="left quiet">{_t(check.meaning)}</td>',
        )
        for check in trust.checks
    ]
    head = [escape(_("Question")), escape(_("Answer")), "", ""]
    count = ngettext(
        "{n} trial was ever run on this data.", "{n} trials were ever run on this data.", trust.trials
    ).format(n=f"{trust.trials:,}")
    if trust.years_by_luck is not None:
        count += " " + _(
            "The best of so many worthless ones shows a yearly Sharpe ratio of 1 over {years} years by luck."
        ).format(years=f"{trust.years_by_luck:.1f}")
    return _section(_("How far to trust it"), f"<p>{escape(count)}</p>" + _table(head, rows), "long")


def _maps(trials: Sequence[Scored] | None, result: Result, metric: str) -> str:
    if not trials:
        return ""
    best = next((trial for trial in trials if dict(trial.parameters) == dict(result.parameters)), None)
    label = say(DEFINITIONS[metric].label) if metric in DEFINITIONS else metric
    maps = heat_maps(trials, metric, best)
    options = "".join(f'<option value="{n}">{escape(f"{m.x} × {m.y}")}</option>' for n, m in enumerate(maps))
    choice = (
        f'<p><select id="map" aria-label="{escape(_("Parameters"))}">{options}</select></p>' if len(maps) > 1 else ""
    )
    drawn = "".join(
        f'<div class="wide" data-map="{n}"{" hidden" if n else ""}>{_map(one, label)}</div>'
        for n, one in enumerate(maps)
    )
    names = list(varied(trials))
    ranked = sorted(
        (trial for trial in trials if trial.metrics.get(metric) is not None),
        key=lambda trial: trial.metrics[metric] or 0.0,
        reverse=DEFINITIONS[metric].better != "less" if metric in DEFINITIONS else True,
    )
    columns = list(dict.fromkeys((metric, "total_return_percent", "max_drawdown_percent", "trades")))
    rows = [
        [
            *(f"{trial.parameters.get(name, math.nan):g}" for name in names),
            *(escape(_metric(name, trial.metrics.get(name))) for name in columns),
        ]
        for trial in ranked[:TRIALS_LISTED]
    ]
    head = [*map(escape, names), *(_term(name) if name in DEFINITIONS else escape(name) for name in columns)]
    title = _("Parameters: {metric} of {n} trials").format(metric=label, n=f"{len(trials):,}")
    return _section(title, choice + drawn + f"<h3>{escape(_('The best of them'))}</h3>" + _table(head, rows), "long")


def _metric(name: str, value: float | None) -> str:
    return shown(value, DEFINITIONS[name].unit if name in DEFINITIONS else "ratio")


def _map(one: HeatMap, label: str) -> str:
    finite = one.values[np.isfinite(one.values)]
    strongest = float(np.abs(finite).max()) if len(finite) else 1.0
    written = len(one.xs) <= 16
    rows = []
    for row in reversed(range(len(one.ys))):
        cells = [f"<th>{one.ys[row]:g}</th>"]
        for column, x in enumerate(one.xs):
            value = float(one.values[row, column])
            if not math.isfinite(value):
                cells.append('<td class="none"></td>')
                continue
            kind = f"{_direction(value)}{' best' if one.best == (row, column) else ''}"
            title = f"{one.x} = {x:g}, {one.y} = {one.ys[row]:g}: {label} {grouped(value, 2)}"
            cells.append(
                f'<td class="{kind}" style="--s:{abs(value) / (strongest or 1):.2f}" title="{escape(title)}">'
                f"{grouped(value, 2) if written else ''}</td>"
            )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    every = max(1, len(one.xs) // 12)
    marks = "".join(f"<th>{f'{x:g}' if n % every == 0 else ''}</th>" for n, x in enumerate(one.xs))
    corner = f"<th>{escape(one.y)} ↑ {escape(one.x)} →</th>"
    return f'<table class="heat map"><tbody>{"".join(rows)}<tr>{corner}{marks}</tr></tbody></table>'


def _trades(result: Result) -> str:
    count = len(result.trades) + len(result.open_trades)
    if not count:
        return _section(_("Trades ({count})").format(count=0), f"<p>{escape(_('It never traded.'))}</p>")
    columns = [
        ("n", "#", ""),
        *((("instrument", _("Instrument"), "left"),) if len(result.instruments) > 1 else ()),
        ("side", _("Side"), "left"),
        ("entry", _("Entry"), ""),
        ("entry_price", _("Entry price"), ""),
        ("exit", _("Exit"), ""),
        ("exit_price", _("Exit price"), ""),
        ("size", _("Size"), ""),
        ("fees", _("Fees"), ""),
        ("profit", _("Profit"), ""),
        ("percent", "%", ""),
        ("bars", _("Bars"), ""),
        ("reason", _("Reason"), "left"),
    ]
    head = "".join(
        f'<th scope="col" data-column="{key}" class="{kind}"><button>{escape(title)}</button></th>'
        for key, title, kind in columns
    )
    note = ""
    if count > TRADES_MOST:
        note = _("The latest {shown} of {count} trades; the table file has them all.").format(
            shown=f"{TRADES_MOST:,}", count=f"{count:,}"
        )
    title = _("Trades ({count})").format(count=f"{count:,}")
    return _section(
        title,
        f'<p class="hint">{escape(note)}</p><div class="wide"><table id="list"><thead><tr>{head}</tr></thead>'
        f'<tbody></tbody></table></div><p><button id="more" hidden>{escape(_("Show more"))}</button></p>'
        f"<noscript><p>{escape(_('The list and the curves need JavaScript.'))}</p></noscript>",
        "long",
    )


def _orders(result: Result) -> str:
    """Orders that never became fills."""
    daily = is_daily(result)

    def rows(orders: Sequence[Order]) -> Iterable[tuple[str, ...]]:
        for order in orders[:ORDERS_MOST]:
            yield (
                escape(order.instrument),
                _moment(order.at_ns, result.zone, daily),
                escape(_("buy") if order.side == "buy" else _("sell")),
                NOTHING if order.price is None else money(order.price),
                NOTHING if order.size is None else f"{order.size:,.6g}",
                f'<td class="left">{escape(reason_text(order.reason))}</td>',
            )

    head = [escape(text) for text in (_("Instrument"), _("Decided"), _("Side"), _("Price"), _("Size"), _("Reason"))]
    waiting, refused = _table(head, rows(result.pending)), _table(head, rows(result.refused))
    return _section(_("Orders still waiting at the end"), waiting) + _section(
        _("Refused orders ({count})").format(count=f"{len(result.refused):,}"), refused
    )


def _notes(notes: str) -> str:
    return _section(_("Notes"), f'<p class="note">{escape(notes)}</p>' if notes.strip() else "")


def _assumptions(result: Result, facts: Sequence[tuple[Text, Text | str]]) -> str:
    daily = is_daily(result)
    rows = [
        (_("Cash at the start"), money(result.cash)),
        *((say(label), value if isinstance(value, str) else say(value)) for label, value in facts),
        (_("Bars"), f"{result.bars:,}"),
        (_("History begins"), _moment(result.first_bar_ns, result.zone, daily)),
        (_("Time zone of this report"), result.zone),
        (_("Days a year (P)"), str(result.year_days)),
        (_("Fingerprint of the data"), result.data_fingerprint),
    ]
    rules = (
        _("What a bar's close decides is filled at the next bar's open at the earliest."),
        _("A bar that touches both stop and target counts as stopped, unless finer bars tell otherwise."),
        _("Market and stop orders pay the slippage; limits and targets do not. Every fill pays its fee."),
        _("A position still open at the end is valued at the last close and is no trade in the statistics."),
        _("Daily returns are of the account at 00:00 UTC, days without trading included.")
        if result.year_days == 365
        else _("Daily returns are of the account at each session's last bar."),
    )
    table = _table((), [(escape(label), escape(value)) for label, value in rows], "facts")
    lines = "".join(f"<li>{escape(rule)}</li>" for rule in rules)
    return _section(_("Assumptions"), f'<div class="columns"><div>{table}</div><ul class="plain">{lines}</ul></div>')


def _source(source: str) -> str:
    return _section(_("Strategy"), f"<pre>{escape(source.strip())}</pre>" if source.strip() else "", "long")


def _definitions() -> str:
    entries = []
    for d in DEFINITIONS.values():
        good = f"<br>{_t(d.good)}" if d.good is not None else ""
        entries.append(
            f'<div id="def-{d.name}"><dt>{_t(d.label)}</dt>'
            f"<dd>{_t(d.meaning)}{good}<br><code>{escape(d.formula)}</code></dd></div>"
        )
    legend = _(
        "V: equity; V_0 at the start, V_T at the end; r: daily returns; r_f: interest on idle money; P: days a year; "
        "P/L: profit of a trade; q: size; p: price; R: money at risk"
    )
    return (
        f'<section class="long"><details id="definitions"><summary>{escape(_("What the numbers mean"))}</summary>'
        f"<p>{escape(legend)}</p><dl>{''.join(entries)}</dl></details></section>"
    )
