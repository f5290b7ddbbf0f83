"""`backtest`, `optimize`, `strategy` and `runs`."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from unicodedata import east_asian_width

import msgspec
import typer

from watchhamster import commands, lab
from watchhamster.backtest.definitions import DEFINITIONS, GROUPS, shown
from watchhamster.cli.console import Json, Period, act, asked, cli, emit, home, iso, moment_of, note, period_of
from watchhamster.core.ports import UsageError, WatchHamsterError
from watchhamster.core.text import Text, _, ngettext, say
from watchhamster.settings import load_translations

if TYPE_CHECKING:
    from watchhamster.backtest.trials import Trial
    from watchhamster.backtest.trust import Trust
    from watchhamster.engine.searching import Progress
    from watchhamster.storage.desk import StoredRun

strategy = typer.Typer(
    help="Strategies: what is stored, with every version.", no_args_is_help=True, rich_markup_mode=None
)
runs = typer.Typer(help="Backtests that were made.", no_args_is_help=True, rich_markup_mode=None)
cli.add_typer(strategy, name="strategy")
cli.add_typer(runs, name="runs")

StrategyArgument = Annotated[
    str, typer.Argument(help="A TOML file, file.py:Class, the name of a stored strategy (name@2), or of an example.")
]
More = Annotated[list[str] | None, typer.Argument(help="Further instruments.", show_default=False)]
Instruments = Annotated[list[str] | None, typer.Option("--instrument", help="venue:SYMBOL; repeatable.")]
Frame = Annotated[str | None, typer.Option("--timeframe", help="The strategy's own if absent.")]
Cash = Annotated[float, typer.Option("--cash", help="At the start, in the quote asset.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter; repeatable.")]
AtEnd = Annotated[bool, typer.Option("--close-at-end", help="Close what is open with the last bar.")]
FirstBar = Annotated[str | None, typer.Option("--first-bar", metavar="ISO", help="Where the formulas' history begins.")]
Adjusted = Annotated[bool, typer.Option("--adjusted", help="Prices comparable across dividends.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of all that is drawn at random.")]
Report = Annotated[Path | None, typer.Option("--report", metavar="FILE", help="One HTML page that stands alone.")]
Language = Annotated[str | None, typer.Option("--language", help="Of the report: en or ko.")]


@cli.command()
def backtest(
    strategy: Annotated[
        str | None,
        typer.Argument(help="A TOML file, file.py:Class, the name of a stored strategy (name@2), or of an example."),
    ] = None,
    more: More = None,
    instrument: Instruments = None,
    timeframe_: Frame = None,
    period: Period = None,
    cash: Cash = 10_000_000.0,
    set_: Set = None,
    close_at_end: AtEnd = False,
    first_bar: FirstBar = None,
    adjusted: Adjusted = False,
    seed: Seed = 1,
    repeat: Annotated[int | None, typer.Option("--repeat", metavar="RUN", help="A stored run, once more.")] = None,
    report: Report = None,
    language: Language = None,
    trades: Annotated[Path | None, typer.Option("--trades", metavar="FILE", help="Trades as .csv or .parquet.")] = None,
    fills: Annotated[Path | None, typer.Option("--fills", metavar="FILE", help="Fills as .csv or .parquet.")] = None,
    curve: Annotated[Path | None, typer.Option("--curve", metavar="FILE", help="The account, bar by bar.")] = None,
    time_limit: Annotated[
        float, typer.Option("--time-limit", min=0.1, help="Seconds, of a strategy in Python.")
    ] = lab.PYTHON_S,
    memory_limit: Annotated[float, typer.Option("--memory-limit", min=1, help="MB, likewise.")] = lab.PYTHON_MB,
    as_json: Json = False,
) -> None:
    """A strategy on stored bars: fills, trades, metrics, and how far they can be trusted. The run is kept."""
    _check_language(language)
    tables = {"trades": trades, "fills": fills, "curve": curve}
    for file in filter(None, tables.values()):
        lab.check_table(file)
    if repeat is not None:
        kept = lab.kept_run(home(), repeat)
        run, number, notes = lab.repeat(home(), kept), repeat, kept.notes
    else:
        request = _request(
            strategy, [*(instrument or ()), *(more or ())], timeframe_, period, cash, set_, close_at_end, first_bar
        )
        request = msgspec.structs.replace(
            request, adjusted=adjusted, seed=seed, python_s=time_limit, python_mb=memory_limit
        )
        run = lab.run(home(), request)
        number, notes = lab.keep(home(), run), ""
    for name, path in tables.items():
        if path is not None:
            _table(path, name, run)
    trust = None if as_json and report is None else lab.judge(home(), run)
    if report is not None:
        _report(run, report, language, trust=trust, notes=notes)
    if as_json:
        clock = {"started_ns": run.started_ns, "elapsed_s": run.elapsed_s}
        emit({"run": number} | run.answer() | clock)
        return
    for warning in run.warnings:
        note(say(warning))
    _show_run(run, number, trust)


def _request(
    strategy: str | None,
    instruments: Sequence[str],
    timeframe: str | None,
    period: str | None,
    cash: float,
    given: Sequence[str] | None,
    close_at_end: bool,
    first_bar: str | None,
) -> lab.Request:
    if strategy is None:
        raise UsageError("usage", Text("A strategy is missing."), Text("watchhamster strategy list shows some."))
    names = [name.strip() for word in instruments for name in word.split(",") if name.strip()]
    if not names:
        raise UsageError("usage", Text("--instrument is missing."), Text("Such as --instrument upbit:KRW-BTC."))
    since, until = period_of(period)
    return lab.Request(
        source=lab.source_of(home(), strategy),
        instruments=tuple(names),
        timeframe=timeframe,
        since_ns=since,
        until_ns=until,
        first_bar_ns=None if first_bar is None else moment_of(first_bar),
        cash=cash,
        parameters=dict(map(setting_of, given or ())),
        close_at_end=close_at_end,
    )


def setting_of(text: str) -> tuple[str, float]:
    """`fast=5`."""
    name, _equals, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        raise UsageError(
            "bad_parameter", Text("{text!r} does not set a parameter.", {"text": text}), Text("Write --set fast=5.")
        ) from None


def _range(text: str) -> tuple[str, tuple[float, float, float | None]]:
    """`fast=5:50:5`, the step may be left out."""
    name, _equals, span = text.partition("=")
    try:
        low, high, *step = map(float, span.split(":"))
        return name.strip(), (low, high, *step) if len(step) == 1 else (low, high, None)  # type: ignore[return-value]
    except ValueError:
        raise UsageError(
            "bad_range", Text("{text!r} is not a range.", {"text": text}), Text("Write --range fast=5:50:5.")
        ) from None


def _check_language(language: str | None) -> None:
    if language not in (None, "en", "ko"):
        raise UsageError(
            "unknown_language", Text("There is no language {name!r} here.", {"name": language}), Text("Write en or ko.")
        )


def _report(run: lab.Run, file: Path, language: str | None, **parts: Any) -> None:
    """The report, in its own language; what is printed stays in the user's."""
    try:
        lab.report(run, file, language=load_translations(language or asked.language), **parts)
    finally:
        load_translations(asked.language)
    note(_("Written: {file}").format(file=file))


def _table(file: Path, table: str, run: lab.Run) -> None:
    from watchhamster.backtest.breakdown import curve_table, fills_table, trades_table

    makers: Mapping[str, Any] = {"trades": trades_table, "fills": fills_table, "curve": curve_table}
    lab.write_table(file, makers[table](run.result))
    note(_("Written: {file}").format(file=file))


# ---------------------------------------------------------------- for people


def _width(text: str) -> int:
    return sum(2 if east_asian_width(sign) in "WF" else 1 for sign in text)


def _left(text: str, width: int) -> str:
    return text + " " * max(0, width - _width(text))


def _right(text: str, width: int) -> str:
    return " " * max(0, width - _width(text)) + text


def _columns(rows: Sequence[Sequence[str]], align: str) -> list[str]:
    """Rows with their cells one below the other; `align` has an l or an r for each column."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    place = {"l": _left, "r": _right}
    return [
        "  ".join(place[side](cell, width) for cell, width, side in zip(row, widths, align, strict=True)).rstrip()
        for row in rows
    ]


def _show_run(run: lab.Run, number: int, trust: Trust | None) -> None:
    from watchhamster.backtest.drawing import reason_text

    result = run.result
    print(f"{result.strategy}  {', '.join(result.instruments)} {result.timeframe}")
    print(f"{iso(result.since_ns)} – {iso(result.until_ns)}  {_('{count:,} bars').format(count=result.bars)}")
    if result.parameters:
        print(" · ".join(f"{name} = {value:g}" for name, value in result.parameters.items()))
    _show_metrics(msgspec.to_builtins(run.metrics))
    by_reason: dict[str, list[float]] = defaultdict(list)
    for trade in result.trades:
        by_reason[trade.exit_reason or ""].append(trade.profit)
    if by_reason:
        print(f"\n{_('Exits')}")
        rows = [
            (
                f"  {reason_text(reason)}",
                ngettext("{count} trade", "{count} trades", len(profits)).format(count=f"{len(profits):,}"),
                shown(sum(profit > 0 for profit in profits) / len(profits) * 100, "percent"),
                shown(sum(profits), "money", signed=True),
            )
            for reason, profits in sorted(by_reason.items(), key=lambda item: -len(item[1]))
        ]
        print("\n".join(_columns(rows, "lrrr")))
    for trade in result.open_trades:
        print(
            _("Open since {time}: {instrument} {side}, {profit} so far").format(
                time=iso(trade.entry_ns),
                instrument=trade.instrument,
                side=_("long") if trade.side == "long" else _("short"),
                profit=shown(trade.profit, "money", signed=True),
            )
        )
    if result.pending or result.refused:
        print(
            _("Orders that still wait: {pending}; refused: {refused}").format(
                pending=len(result.pending), refused=len(result.refused)
            )
        )
    if trust is not None:
        print(f"\n{say(trust.verdict)}")
    print(
        _("Run {id}, {seconds:.2f} s. watchhamster backtest --repeat {id} runs it again.").format(
            id=number, seconds=run.elapsed_s
        )
    )


def _show_metrics(metrics: Mapping[str, float | None]) -> None:
    rows = [
        (definition.group, f"  {say(definition.label)}", shown(metrics[name], definition.unit))
        for name, definition in DEFINITIONS.items()
        if name in metrics
    ]
    lines = _columns([row[1:] for row in rows], "lr")
    for group, title in GROUPS.items():
        print(f"\n{say(title)}")
        for (own, *_rest), line in zip(rows, lines, strict=True):
            if own == group:
                print(line)


class _Bar:
    """How far a search is, on a terminal: one line, written over."""

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._shows = sys.stderr.isatty()
        self._long = 0

    def show(self, progress: Progress) -> None:
        """Draw it anew."""
        if not self._shows:
            return
        share = progress.done / max(1, progress.total)
        parts = ["█" * round(20 * share) + "░" * (20 - round(20 * share)), f"{progress.done:,}/{progress.total:,}"]
        if progress.left_s is not None:
            minutes, seconds = divmod(round(progress.left_s), 60)
            parts.append(_("{minutes}:{seconds:02d} left").format(minutes=minutes, seconds=seconds))
        if progress.best is not None and (value := progress.best.metrics.get(self._metric)) is not None:
            parts.append(_("best {value}").format(value=shown(value, DEFINITIONS[self._metric].unit)))
        self._write("  ".join(parts))

    def clear(self) -> None:
        """Leave the line as it was."""
        if self._shows:
            self._write("")
            sys.stderr.write("\r")

    def _write(self, text: str) -> None:
        sys.stderr.write("\r" + _left(text, self._long))
        sys.stderr.flush()
        self._long = _width(text)


# ---------------------------------------------------------------- searches


@cli.command()
def optimize(
    strategy: StrategyArgument,
    more: More = None,
    instrument: Instruments = None,
    timeframe_: Frame = None,
    period: Period = None,
    method: Annotated[
        str,
        typer.Option(
            "--method", help="grid random tpe cmaes genetic coordinate walkforward, or conditions: a better entry."
        ),
    ] = "tpe",
    metric: Annotated[
        str, typer.Option("--metric", help="What is made large (or small); several, by commas, for genetic.")
    ] = "sharpe",
    trials: Annotated[
        int | None, typer.Option("--trials", help="The whole grid, else 200 (conditions: 2000), if absent.")
    ] = None,
    seed: Seed = 1,
    constraint: Annotated[
        list[str] | None, typer.Option("--constraint", help="Such as 'max_drawdown_percent<20'; repeatable.")
    ] = None,
    cash: Cash = 10_000_000.0,
    set_: Set = None,
    range_: Annotated[
        list[str] | None,
        typer.Option("--range", metavar="NAME=A:B[:STEP]", help="Where to look, instead of the strategy's own."),
    ] = None,
    inner: Annotated[str, typer.Option("--inner", help="Of walkforward: how each window is searched.")] = "tpe",
    windows: Annotated[int, typer.Option("--windows", min=1, help="Of walkforward.")] = 5,
    train_share: Annotated[float, typer.Option("--train-share", help="Training's part of training and test.")] = 0.75,
    anchored: Annotated[bool, typer.Option("--anchored", help="Every training begins with the period.")] = False,
    three_ways: Annotated[
        bool, typer.Option("--three-ways", help="Train on 60 %, validate on 20, test once on 20.")
    ] = False,
    function: Annotated[
        list[str] | None, typer.Option("--function", help="Of conditions: what they are made of; repeatable.")
    ] = None,
    short: Annotated[bool, typer.Option("--short", help="Of conditions: entries of short positions.")] = False,
    close_at_end: AtEnd = False,
    adjusted: Adjusted = False,
    workers: Annotated[int | None, typer.Option("--workers", min=1, max=256, help="One a core if absent.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what is kept of the same search.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="List also the trials that only judge the best.")] = False,
    report: Report = None,
    language: Language = None,
    as_json: Json = False,
) -> None:
    """Better parameters (or a better entry condition), and how far what is found can be trusted."""
    _check_language(language)
    request = _request(
        strategy, [*(instrument or ()), *(more or ())], timeframe_, period, cash, set_, close_at_end, None
    )
    request = msgspec.structs.replace(request, adjusted=adjusted, seed=seed)
    wanted = lab.Search(
        method=method,
        inner=inner,
        metric=metric,
        trials=trials,
        constraints=tuple(constraint or ()),
        ranges=dict(map(_range, range_ or ())),
        check="three_ways" if three_ways else "none",
        windows=windows,
        train_share=train_share,
        anchored=anchored,
        functions=tuple(function or ()),
        side="short" if short else "long",
        workers=workers,
        resume=resume,
    )
    bar = _Bar(metric.split(",")[0].strip())

    def tell(news: Sequence[Trial]) -> None:
        for trial in news if as_json else ():
            if all_ or trial.stage == "search":
                emit(trial.line())
        sys.stdout.flush()

    try:
        found = lab.search(home(), request, wanted, tell, bar.show)
    except KeyboardInterrupt:
        bar.clear()
        note(_("Stopped. What was tried is kept: the same command with --resume goes on."))
        raise
    finally:
        bar.clear()
    for warning in found.material.warnings:
        note(say(warning))
    if report is not None and (best := lab.best_run(home(), found)) is not None:
        tried = [trial for trial in found.findings.trials if trial.stage == "search"]
        _report(best, report, language, trust=found.findings.trust, trials=tried, metric=found.metric)
    if as_json:
        last = found.findings.line() | {"warnings": [str(warning) for warning in found.material.warnings]}
        emit(last | ({"windows": _windows(found)} if found.findings.outside is not None else {}))
    else:
        _show_found(found)


def _windows(found: lab.Found) -> list[dict[str, Any]]:
    """Each choice of a walk forward, and what became of it in the time that followed."""
    outside = found.findings.outside
    assert outside is not None
    return [
        {
            "since_ns": since_ns,
            "until_ns": until_ns,
            "parameters": dict(chosen.parameters),
            "inside": chosen.metrics.get(found.metric),
            "outside": applied.metrics.get(found.metric),
            "outside_return_percent": applied.metrics.get("total_return_percent"),
        }
        for chosen, applied, (since_ns, until_ns) in zip(outside.inside, outside.outside, outside.spans, strict=True)
    ]


def _show_found(found: lab.Found) -> None:
    findings, metric = found.findings, found.metric
    definition = DEFINITIONS[metric]
    searched = [trial for trial in findings.trials if trial.stage == "search"]
    rejected = sum(trial.rejected is not None for trial in searched)
    print(
        _("{count:,} trials of {strategy}, {rejected:,} of them rejected").format(
            count=len(searched), strategy=found.request.source.origin, rejected=rejected
        )
    )
    sign = -1 if definition.better == "less" else 1
    ranked = sorted(
        (trial for trial in searched if trial.rejected is None and trial.metrics.get(metric) is not None),
        key=lambda trial: (-sign * (trial.metrics[metric] or 0.0), trial.number),
    )
    if ranked:
        names = dict.fromkeys((metric, "total_return_percent", "max_drawdown_percent", "trades"))
        head = [_("Trial"), *(say(DEFINITIONS[name].label) for name in names), _("Parameters")]
        rows = [
            [
                f"{trial.number}",
                *(shown(trial.metrics.get(name), DEFINITIONS[name].unit) for name in names),
                trial.formula or " · ".join(f"{name} = {value:g}" for name, value in trial.parameters.items()),
            ]
            for trial in ranked[:10]
        ]
        print("\n".join(_columns([head, *rows], "r" + "r" * len(names) + "l")))
    else:
        why = next((trial.rejected for trial in searched if trial.rejected is not None), None)
        if why is not None:
            print(_("The first was rejected: {why}.").format(why=say(why)))
    if findings.best is not None:
        best = findings.best
        words = best.formula or " ".join(f"--set {name}={value:g}" for name, value in best.parameters.items())
        print(_("Best: trial {number}, {words}").format(number=best.number, words=words))
    if findings.outside is not None:
        head = [_("Tested from"), _("to"), _("inside"), _("outside"), _("Return"), _("Parameters")]
        rows = [
            [
                iso(row["since_ns"])[:16],
                iso(row["until_ns"])[:16],
                shown(row["inside"], definition.unit),
                shown(row["outside"], definition.unit),
                shown(row["outside_return_percent"], "percent", signed=True),
                " · ".join(f"{name} = {value:g}" for name, value in row["parameters"].items()),
            ]
            for row in _windows(found)
        ]
        print("\n" + "\n".join(_columns([head, *rows], "llrrrl")))
    if findings.trust is not None:
        rows = [[f"  {say(check.label)}", say(check.value)] for check in findings.trust.checks]
        print("\n" + "\n".join(_columns(rows, "lr")))
    print(f"\n{say(findings.verdict)}")


# ---------------------------------------------------------------- strategies


@strategy.command("list")
def strategy_list(
    examples: Annotated[bool, typer.Option("--examples", help="Those that come with the program.")] = False,
    as_json: Json = False,
) -> None:
    """The stored strategies."""
    rows: list[dict[str, Any]] = []
    if examples:
        rows = [
            {"name": path.stem, "version": None, "saved_ns": None, "text": path.read_text("utf-8")}
            for path in sorted(lab.EXAMPLES.glob("*.toml"))
        ]
    else:
        rows = [msgspec.structs.asdict(one) for one in lab.strategies(home())]
    for row in rows:
        text = row.pop("text")
        try:
            document = lab.Source(text, row["name"]).document(commands.library_of(home()))
            words = document.description
            if asked.language == "ko" and not as_json:
                words = document.description_ko or words
            row |= {"description": words, "parameters": sorted(document.parameters), "error": None}
        except UsageError as error:  # such as a saved formula that is gone
            row |= {"description": "", "parameters": [], "error": str(error.text)}
        if as_json:
            emit(row)
        else:
            version = "" if row["version"] is None else f"{row['version']:>4}  {iso(row['saved_ns'])[:16]}"
            print(f"{_left(row['name'], 24)}  {version}".rstrip())
            print(f"    {row['error'] or row['description']}")
    if not rows and not as_json:
        note(_("No strategy is stored. watchhamster strategy list --examples shows some to begin with."))


@strategy.command("show")
def strategy_show(
    name: Annotated[str, typer.Argument(help="Its name; name@2 for an older version.")],
    versions: Annotated[bool, typer.Option("--versions", help="Its versions, oldest first.")] = False,
    as_json: Json = False,
) -> None:
    """A strategy as it was written."""
    source = lab.stored_strategy(home(), name)
    if not versions:
        if as_json:
            emit({"name": source.origin, "version": source.version, "text": source.text})
        else:
            print(source.text.rstrip("\n"))
        return
    for one in lab.versions(home(), source.origin):
        if as_json:
            emit({"name": one.name, "version": one.version, "saved_ns": one.saved_ns})
        else:
            print(f"{one.version:>4}  {iso(one.saved_ns)}")


@strategy.command("check")
def strategy_check(strategy: StrategyArgument, as_json: Json = False) -> None:
    """Say what is wrong with a strategy, or what it needs."""
    library = commands.library_of(home())
    document = lab.source_of(home(), strategy).document(library)
    warm_up, first_value = lab.needs(document, library)
    row = {
        "name": document.name,
        "valid": True,
        "timeframe": document.timeframe,
        "parameters": {name: parameter.default for name, parameter in document.parameters.items()},
        "formulas": {key: text for key, text, _kind in document.formulas()},
        "first_decision_bar": first_value,
        "warm_up_bars": warm_up,
    }
    if as_json:
        emit(row)
    else:
        print(
            _("{name} is right. It decides from bar {first} on, and is settled after {warm_up}.").format(
                name=document.name, first=first_value, warm_up=warm_up
            )
        )


@strategy.command("import")
def strategy_import(files: Annotated[list[Path], typer.Argument(help="TOML files.")], as_json: Json = False) -> None:
    """Keep strategies; one that is there already gets a further version where it differs."""
    problem: WatchHamsterError | None = None
    for file in files:
        try:
            row = act("strategy.save", text=lab.text_of(file))
        except UsageError as error:
            if len(files) > 1:
                note(f"{file}: {say(error.text)}")
            error.details.setdefault("file", str(file))
            problem = problem or error
            continue
        if as_json:
            emit(row | {"file": str(file)})
        else:
            words = _("{name}: version {version} is kept.") if row["new"] else _("{name}: version {version} said it.")
            print(words.format(**row))
    if problem is not None:
        raise problem


@strategy.command("export")
def strategy_export(
    name: Annotated[str, typer.Argument(help="Its name; name@2 for an older version.")],
    out: Annotated[Path | None, typer.Option("--out", help="A file; stdout if absent.")] = None,
    as_json: Json = False,
) -> None:
    """Write a strategy's document, as it was imported."""
    source = lab.stored_strategy(home(), name)
    if out is not None:
        lab.write_text(out, source.text)
        note(_("Written: {file}").format(file=out))
    if as_json:
        emit({"name": source.origin, "version": source.version, "text": source.text})
    elif out is None:
        sys.stdout.write(source.text)


@strategy.command("diff")
def strategy_diff(
    old: Annotated[str, typer.Argument(help="A file or a stored strategy (name@1).")],
    new: Annotated[str | None, typer.Argument(help="Likewise; absent: the last two versions of the first.")] = None,
    as_json: Json = False,
) -> None:
    """What has changed from one version to the next."""
    from watchhamster.backtest.strategy import diff

    if new is None:
        known = lab.versions(home(), old)
        if len(known) < 2:
            lab.stored_strategy(home(), old)
            raise UsageError(
                "one_version",
                Text("{name} has one version only.", {"name": old}),
                Text("Name a second strategy or file to compare it with."),
            )
        old, new = f"{old}@{known[-2].version}", old
    library = commands.library_of(home())
    before, after = (lab.source_of(home(), word).document(library) for word in (old, new))
    found = diff(before, after)
    for change in found:
        emit(change.values) if as_json else print(say(change))
    if not found and not as_json:
        print(_("They say the same."))


@strategy.command("remove")
def strategy_remove(name: str, as_json: Json = False) -> None:
    """Forget a strategy and its versions; its runs stay."""
    if not lab.versions(home(), name):
        lab.stored_strategy(home(), name)
        raise UsageError("not_stored", Text("{name} is an example: it comes with the program.", {"name": name}))
    row = act("strategy.remove", name=name)
    emit(row) if as_json else print(_("{name} is removed.").format(**row))


# ---------------------------------------------------------------- runs


@runs.command("list")
def runs_list(
    name: Annotated[str | None, typer.Argument(help="Of this strategy only.")] = None,
    count: Annotated[int, typer.Option("--count", min=1)] = 50,
    as_json: Json = False,
) -> None:
    """The last backtests, newest last."""
    for run in lab.runs(home(), count, name):
        if as_json:
            emit(_run_record(run, short=True))
        else:
            metrics = run.metrics
            cells = [
                shown(metrics.get(name), DEFINITIONS[name].unit, signed=name == "total_return_percent")
                for name in ("total_return_percent", "sharpe", "trades")
            ]
            where = f"{','.join(run.instruments)} {run.timeframe}"
            numbers = "  ".join(cells)
            print(f"{run.id:>5}  {iso(run.made_ns)[:16]}  {_left(run.strategy, 20)}  {where}  {numbers}  {run.notes}")


@runs.command("show")
def runs_show(run_id: int, as_json: Json = False) -> None:
    """A backtest: all it takes to run it again, and its metrics."""
    run = lab.kept_run(home(), run_id)
    if as_json:
        emit(_run_record(run))
        return
    print(f"{run.strategy}  {', '.join(run.instruments)} {run.timeframe}  {iso(run.since_ns)} – {iso(run.until_ns)}")
    if run.parameters:
        print(" · ".join(f"{name} = {value:g}" for name, value in run.parameters.items()))
    if run.notes:
        print(run.notes)
    _show_metrics(run.metrics)


def _run_record(run: StoredRun, *, short: bool = False) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(run)
    row = {"run": row.pop("id")} | row
    for name in ("text", "formulas") if short else ():
        del row[name]
    return row


@runs.command("note")
def runs_note(
    run_id: int,
    text: Annotated[str, typer.Argument(help="What to remember of it.")],
    as_json: Json = False,
) -> None:
    """Write a note on a backtest; its reports show it."""
    if len(text) > 10_000:
        raise UsageError("usage", Text("A note has 10,000 characters at most."))
    kept = msgspec.structs.replace(lab.kept_run(home(), run_id), notes=text)
    row = act("run.save", run=msgspec.to_builtins(kept))
    emit(_run_record(kept, short=True)) if as_json else print(f"{row['id']}: {text}")


@runs.command("remove")
def runs_remove(run_id: int, as_json: Json = False) -> None:
    """Forget a backtest. It no longer counts as a trial on its data."""
    row = act("run.remove", run_id=run_id)
    emit(row) if as_json else print(_("Run {id} is removed.").format(**row))


@runs.command("compare")
def runs_compare(run_ids: Annotated[list[int], typer.Argument(help="Two or more.")], as_json: Json = False) -> None:
    """Metrics of some backtests side by side; a * marks the best."""
    kept = [lab.kept_run(home(), run_id) for run_id in run_ids]
    rows = [["", *(f"{run.id} {run.strategy}" for run in kept)]]
    for name, definition in DEFINITIONS.items():
        values = [run.metrics.get(name) for run in kept]
        known = [value for value in values if value is not None]
        best = None
        if definition.better != "neither" and len(set(known)) > 1:
            best = max(known) if definition.better == "more" else min(known)
        if as_json:
            ids = [run.id for run, value in zip(kept, values, strict=True) if value is not None and value == best]
            emit({"metric": name, "values": values, "best": ids})
            continue
        wins = [value is not None and value == best for value in values]
        cells = [shown(v, definition.unit) + (" *" if won else "  ") for v, won in zip(values, wins, strict=True)]
        rows.append([say(definition.label), *cells])
    if not as_json:
        print("\n".join(_columns(rows, "l" + "r" * len(kept))))
