"""`data`: the candles kept on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from watchhamster import commands
from watchhamster.cli.console import (
    Instrument,
    Json,
    Since,
    TimeframeOption,
    Until,
    act,
    caution,
    cli,
    emit,
    home,
    iso,
    maybe_moment,
    note,
    report_error,
)
from watchhamster.core.instruments import split_instrument
from watchhamster.core.ports import WatchHamsterError
from watchhamster.core.text import Text, _, say
from watchhamster.core.timeframes import timeframe

data = typer.Typer(help="The candles kept on this machine.", no_args_is_help=True, rich_markup_mode=None)
cli.add_typer(data, name="data")


@data.command("update")
def data_update(
    instrument: Instrument,
    timeframe_: TimeframeOption = "1m",
    since: Since = None,
    until: Until = None,
    as_json: Json = False,
) -> None:
    """Fetch what the store does not have yet."""
    frame = timeframe(timeframe_)
    caution(instrument)
    result = act(
        "data.update",
        instrument=instrument,
        timeframe=frame.name,
        since_ns=maybe_moment(since),
        until_ns=maybe_moment(until),
    )
    if as_json:
        emit(result)
    else:
        print(_("{instrument} {timeframe}: {candles} candles stored, {new} of them new").format(**result))
        for text in result.get("notes", ()):
            note(text)
        if "served_since_ns" in result:
            venue = split_instrument(result["instrument"])[0]
            note(say(commands.served_since(venue, frame, result["served_since_ns"])))


@data.command("import")
def data_import(
    files: Annotated[list[Path], typer.Argument(help="REST answers as recorded, or CSV files.")],
    instrument: Annotated[str | None, typer.Option("--instrument", help="Whose candles a CSV holds.")] = None,
    timeframe_: Annotated[
        str | None, typer.Option("--timeframe", help="Of a CSV; guessed from its times if absent.")
    ] = None,
    timezone: Annotated[
        str | None, typer.Option("--timezone", help="Of times without an offset, such as Asia/Seoul.")
    ] = None,
    format_: Annotated[str, typer.Option("--format", help="auto upbit-rest binance-rest yahoo-chart csv")] = "auto",
    venue: Annotated[str, typer.Option("--venue", help="Whose REST answers these are.")] = "upbit",
    complete: Annotated[bool, typer.Option("--complete", help="Holes inside a CSV had no trade.")] = False,
    as_json: Json = False,
) -> None:
    """Recorded candles into the store. Overlapping imports do not duplicate; rejected rows are named."""
    frame = None if timeframe_ is None else timeframe(timeframe_).name
    bad = 0
    problem: WatchHamsterError | None = None
    for file in files:
        try:
            result = act(
                "data.import",
                file=str(file.resolve()),
                instrument=instrument,
                timeframe=frame,
                timezone=timezone,
                format=format_,
                venue=venue,
                complete=complete,
            )
        except WatchHamsterError as error:
            problem = problem or error
            if len(files) > 1:
                report_error(error)
            continue
        rejects = result.pop("rejects")
        if as_json:
            emit(result | {"file": str(file)})
        else:
            print(
                _("{file}: {read} read, {new} new, {same} the same, {changed} changed, {rejected} rejected").format(
                    **(result | {"file": file})
                )
            )
        for reject in rejects:
            note(f"{file}:{reject['line']}: {reject['reason']}")
        bad += len(rejects)
    if problem is not None:
        raise problem
    if bad:
        raise WatchHamsterError(
            "rejected_rows",
            Text("{count} rows were rejected and not stored; they are named above.", {"count": bad}),
            Text("The other rows are stored. Mend the file and import it again."),
        )


@data.command("export")
def data_export(
    instrument: Instrument,
    timeframe_: TimeframeOption = "1m",
    since: Since = None,
    until: Until = None,
    format_: Annotated[str, typer.Option("--format", help="csv parquet json")] = "csv",
    out: Annotated[Path | None, typer.Option("--out", help="A file; stdout if absent.")] = None,
    events: Annotated[bool, typer.Option("--events", help="With dividends, splits and adjusted closes.")] = False,
    as_json: Json = False,
) -> None:
    """Stored candles, oldest first, with the values exactly as they came."""
    commands.export(
        home(),
        instrument,
        timeframe(timeframe_),
        maybe_moment(since),
        maybe_moment(until),
        "json" if as_json and format_ == "csv" else format_,
        out,
        events,
    )


@data.command("coverage")
def data_coverage(
    instrument: Instrument,
    timeframe_: TimeframeOption = "1m",
    since: Since = None,
    until: Until = None,
    as_json: Json = False,
) -> None:
    """Which stretches hold candles, had no trade, or were never fetched."""
    for span in commands.coverage(home(), instrument, timeframe(timeframe_), maybe_moment(since), maybe_moment(until)):
        if as_json:
            emit(span)
        else:
            words = {"candles": _("candles"), "no_trade": _("no trade"), "not_fetched": _("not fetched")}
            print(f"{iso(span.since_ns)}  {iso(span.until_ns)}  {words[span.state]:<12} {span.count:>10,}")


@data.command("verify")
def data_verify(as_json: Json = False) -> None:
    """Check every stored candle; put damage aside, and refill it where a venue can be reached."""
    result = act("data.verify")
    if as_json:
        emit(result)
    else:
        print(_("{checked} checked, {damaged} damaged, {healed} healed").format(**result))
        for name in result["quarantined"]:
            print(f"  {name}")
    if result["damaged"] > result["healed"]:
        raise WatchHamsterError(
            "damage_remains",
            Text(
                "{count} damaged pieces are in quarantine and not refilled.",
                {"count": result["damaged"] - result["healed"]},
            ),
            Text("Import them again, or run data update with the venue in reach."),
        )


@data.command("backup")
def data_backup(file: Path, as_json: Json = False) -> None:
    """Everything of this home but the secrets in one file: settings, rules, layouts, alerts, candles."""
    result = act("data.backup", file=str(file.resolve()))
    emit(result) if as_json else print(_("{file}: {bytes} bytes").format(**result))


@data.command("restore")
def data_restore(file: Path, as_json: Json = False) -> None:
    """Put a backup in place; what it replaces is kept beside it."""
    result = act("data.restore", file=str(file.resolve()))
    emit(result) if as_json else print(_("restored; the files before are in {kept}").format(**result))


@data.command("size")
def data_size(as_json: Json = False) -> None:
    """The stored series, a line each, and how many bytes all of them take."""
    rows, size = commands.sizes(home())
    for row in rows:
        if as_json:
            emit(row)
        else:
            until = iso(row["last_ns"])
            print(f"{row['instrument']:<20} {row['timeframe']:<4} {row['count']:>12,}  {iso(row['first_ns'])}  {until}")
    if as_json:
        emit({"bytes": size})
    else:
        print(f"{size:,} B")
