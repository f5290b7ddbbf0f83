"""The command line: arguments in, lines out. What is done is done by `app`; here it is asked for and printed.

With `--json` stdout carries NDJSON and nothing else. A failure is one sentence and a hint on stderr (with `--json` an
object), exit 1; bad input is exit 2; an interruption 130.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from watchhamster import app, commands, services
from watchhamster import doctor as doctor_
from watchhamster.core.instruments import InstrumentInfo, split_instrument
from watchhamster.core.market import BadFrameSeen, Book, Candle, Event, FeedChanged, Ticker, Trade, to_json
from watchhamster.core.ports import UsageError, WatchHamsterError
from watchhamster.core.text import Text, _, say
from watchhamster.core.timeframes import timeframe
from watchhamster.logs import configure_logging
from watchhamster.monitor.status import StatusNode, render, to_record
from watchhamster.settings import Home, load_translations

T = TypeVar("T")

cli = typer.Typer(
    name="watchhamster",
    no_args_is_help=False,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="The candles kept on this machine.", no_args_is_help=True, rich_markup_mode=None)
alert = typer.Typer(help="Rules and what they raised.", no_args_is_help=True, rich_markup_mode=None)
cli.add_typer(data, name="data")
cli.add_typer(alert, name="alert")

Json = Annotated[bool, typer.Option("--json", help="NDJSON on stdout, one object a line.")]
Instrument = Annotated[str, typer.Argument(help="venue:SYMBOL, such as upbit:KRW-BTC.")]
TimeframeOption = Annotated[str, typer.Option("--timeframe", help="1s 1m 3m 5m 10m 15m 30m 1h 4h 1d 1w 1M 1y.")]
Since = Annotated[str | None, typer.Option("--since", help="First moment, a date or ISO time, UTC.")]
Until = Annotated[str | None, typer.Option("--until", help="Moment after the last, a date or ISO time, UTC.")]
Period = Annotated[str | None, typer.Option("--period", help="A:B, dates or ISO times, UTC; B is exclusive.")]


# ---------------------------------------------------------------- the door


class _Globals(msgspec.Struct):
    """What holds for every command, wherever on the line it was written."""

    home: Path | None = None
    debug: bool = False
    json: bool = False


_globals = _Globals()


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--home":
            value = next(words, None)
            if value is None:
                return _report(UsageError("usage", Text("--home needs a folder.")))
            _globals.home = Path(value)
        elif word.startswith("--home="):
            _globals.home = Path(word.removeprefix("--home="))
        elif word == "--debug":
            _globals.debug = True
        else:
            rest.append(word)
    _globals.json = "--json" in rest
    undo: Callable[[], None] | None = None
    try:
        load_translations(os.environ.get("WATCHHAMSTER_LANGUAGE", "auto"))
        running = "run" in rest[:1] or _is_desktop(rest)
        undo = configure_logging(_home(), debug=_globals.debug, file="watchhamster.log" if running else None)
        if _is_desktop(rest):
            print(_("There is no display here, so WatchHamster runs headless. Ctrl+C ends it."), file=sys.stderr)
            rest = ["run", *(word for word in rest if word not in ("--minimized", "--live"))]
        if rest[:1] == ["run"] and (values := _plain("run", rest[1:])) is not None:
            run_(**values)
            return 0
        code = cli(rest, standalone_mode=False, prog_name="watchhamster")
        return code if isinstance(code, int) else 0
    except typer.Abort:
        return 130
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at exit
        return 0
    except typer.Exit as leave:
        return leave.exit_code
    except typer.TyperException as error:
        problem = Text("{problem}", {"problem": getattr(error, "format_message", error.__str__)()})
        return _report(UsageError("usage", problem, Text("See watchhamster --help.")))
    except WatchHamsterError as error:
        return _report(error)
    except Exception as error:
        if _globals.debug:
            raise
        return _report(
            WatchHamsterError(
                "internal",
                Text("WatchHamster itself failed: {problem}.", {"problem": f"{type(error).__name__}: {error}"}),
                Text("The same command with --debug shows where."),
            )
        )
    finally:
        if undo is not None:
            undo()


def _is_desktop(arguments: list[str]) -> bool:
    return not arguments or (arguments[0].startswith("-") and arguments[0] not in ("--help", "--version", "-h"))


def _plain(command: str, words: list[str]) -> dict[str, Any] | None:
    """The options of a command as typer would give them, all text; None where typer has to look, or to complain.

    For each value typer asks pydantic, which is 8 MB, and a headless watchman would hold them for weeks.
    """
    group = typer.main.get_command(cli)
    assert isinstance(group, typer.core.TyperGroup)
    known = {option: param for param in group.commands[command].params for option in param.opts}
    values: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        param = known.get(option)
        if param is None or param.name is None:
            return None
        if getattr(param, "is_flag", False):
            if equals:
                return None
            values[param.name] = True
            continue
        given = value if equals else next(rest, "-")
        if given.startswith("-") and not equals:
            return None
        values[param.name] = [*values.get(param.name, ()), given] if param.multiple else given
    return values


def _report(error: WatchHamsterError) -> int:
    if _globals.debug:
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    sys.stdout.flush()
    if _globals.json:
        fields = {"code": error.code, "message": say(error.text), "hint": say(error.hint) if error.hint else ""}
        print(_json({"error": fields | error.details}), file=sys.stderr)
    else:
        print(say(error.text), file=sys.stderr)
        if "position" in error.details and "source" in error.details:
            print(f"  {error.details['source']}\n  {' ' * int(str(error.details['position']))}^", file=sys.stderr)
        if error.hint:
            print(say(error.hint), file=sys.stderr)
    return error.exit_code


@cli.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    """A desktop watchman for traders. Without a command the desktop opens.

    --home DIR (or WATCHHAMSTER_HOME) holds every file it writes; --debug shows tracebacks. Both may stand anywhere.
    """
    if version:
        from watchhamster import __version__

        print(f"watchhamster {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise UsageError("usage", Text("A command is missing."), Text("See watchhamster --help."))


# ---------------------------------------------------------------- small things every command uses


def _home() -> Home:
    return services.find_home(_globals.home)


def _caution(*instruments: str) -> None:
    """Say on stderr what has to be known of their venues, the first time in a home."""
    for words in _wait(commands.cautions(_home(), [split_instrument(name, "upbit")[0] for name in instruments])):
        _progress(say(words))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _print(value: object) -> None:
    sys.stdout.write(_json(value) + "\n")


def _print_events(events: Iterable[Event]) -> None:
    sys.stdout.writelines(to_json(event).decode() + "\n" for event in events)


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _wait(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def _moment(text: str) -> int:
    """A date or ISO time as nanoseconds UTC; without an offset it is UTC."""
    try:
        moment = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(
            "bad_time",
            Text("{text!r} is not a date or ISO time.", {"text": text}),
            Text("Write 2024-10-15 or 2024-10-15T09:00:00Z."),
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    since_epoch = moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return ((since_epoch.days * 86400 + since_epoch.seconds) * 1_000_000 + since_epoch.microseconds) * 1000


def _period(text: str | None) -> tuple[int | None, int | None]:
    """`A:B`, where either may be empty and both may hold colons of their own."""
    if text is None:
        return None, None
    for colon in (match.start() for match in re.finditer(":", text)):
        a, b = text[:colon], text[colon + 1 :]
        try:
            since, until = (_moment(a) if a else None), (_moment(b) if b else None)
        except UsageError:
            continue
        if since is not None and until is not None and since >= until:
            break
        return since, until
    raise UsageError(
        "bad_period",
        Text("{text!r} is not a period.", {"text": text}),
        Text("Write A:B with A before B, such as 2024-10-15:2024-11-15."),
    )


def _seconds(text: str) -> float:
    """`30s`, `5m`, `1h`, `2d` or plain seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", text.strip())
    if match is None:
        raise UsageError(
            "bad_duration", Text("{text!r} is not a duration.", {"text": text}), Text("Write 30s, 5m, 1h or 2d.")
        )
    return float(match[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2] or "s"]


def _iso(at_ns: int) -> str:
    return commands.iso_time(at_ns)


def _line(event: Event) -> str:
    """An event for a person's eyes."""
    match event:
        case Trade():
            side = _("buy") if event.side == "buy" else _("sell")
            return f"{_iso(event.event_ns)}  {event.instrument}  {side:<4} {event.price:>16,.10g} x {event.size:.10g}"
        case Ticker():
            rate = "…" if event.change_rate is None else f"{event.change_rate:+.2%}"
            return f"{_iso(event.event_ns)}  {event.instrument}  {event.price:>16,.10g}  {rate}"
        case Book():
            best = [f"{level[0]:,.10g} x {level[1]:.10g}" for side in (event.bids, event.asks) for level in side[:1]]
            return f"{_iso(event.event_ns)}  {event.instrument}  {'  |  '.join(best)}"
        case Candle():
            prices = "  ".join(f"{price:,.10g}" for price in (event.open, event.high, event.low, event.close))
            volume = "" if event.volume is None else f"{event.volume:.10g}"
            return f"{_iso(event.open_ns)}  {event.instrument} {event.timeframe}  {prices}  {volume}"
        case FeedChanged():
            return f"{_iso(event.at_ns)}  {event.venue}  {event.state}: {say(commands.feed_reason(event))}"
        case BadFrameSeen():
            return f"{_('unreadable frame')}: {event.reason}: {event.sample}"


def _show(event: Event, as_json: bool) -> None:
    if as_json:
        _print_events([event])
    else:
        print(_line(event))


async def _follow(events: AsyncIterator[Event], as_json: bool) -> None:
    async for event in events:
        _show(event, as_json)
        sys.stdout.flush()


# ---------------------------------------------------------------- running


@cli.command("run")
def run_(
    demo: Annotated[bool, typer.Option("--demo", help="Watch the built-in exchange.")] = False,
    instrument: Annotated[list[str] | None, typer.Option("--instrument", help="Watch this one; repeatable.")] = None,
    lasting: Annotated[str | None, typer.Option("--for", metavar="DURATION", help="End after this long.")] = None,
    replay: Annotated[
        str | None, typer.Option("--replay", metavar="FILE", help="Live through a recorded wire capture.")
    ] = None,
    venue: Annotated[str, typer.Option("--venue", help="The recording's venue.")] = "upbit",
    speed: Annotated[str, typer.Option("--speed", help="Of the recording: 1, 10, … or max.")] = "1",
    as_json: Json = False,
) -> None:
    """The engine without a window: prints the status tree as it changes."""
    options = app.Options(
        home=_home(),
        demo=demo,
        replay=None if replay is None else Path(replay),
        replay_venue=venue,
        speed=app.speed_of(speed),
        instruments=tuple(instrument or ()),
    )
    seconds = None if lasting is None else _seconds(lasting)
    if not demo and replay is None:
        _caution(*options.instruments)
    terminal = sys.stdout.isatty()

    def show(tree: StatusNode, final: bool) -> None:
        if as_json:
            _print(to_record(tree))
        else:
            clear = "\x1b[2J\x1b[H" if terminal and not final else ""
            print(f"{clear}{render(tree)}\n")
        sys.stdout.flush()

    _wait(app.run_headless(options, seconds, show))


@cli.command()
def replay(
    file: Annotated[Path, typer.Argument(help="Lines of {received, frame}, or a JSON array of frames.")],
    venue: Annotated[str, typer.Option("--venue", help="Who sent the frames.")] = "upbit",
    speed: Annotated[str, typer.Option("--speed", help="1, 10, … or max.")] = "max",
    as_json: Json = False,
) -> None:
    """A recorded wire capture through the real path; --json prints its normalised events."""
    summary = _wait(
        commands.replay_capture(
            file, venue, app.speed_of(speed), (lambda e: _show(e, True)) if as_json else None, _progress
        )
    )
    if not as_json:
        for name, count in summary.counts.items():
            print(f"{name:<12} {count:>10,}")
        print(
            _("{frames} frames, {seconds:.1f} s of market").format(
                frames=summary.frames, seconds=summary.market_seconds
            )
        )
    if summary.problems:
        raise WatchHamsterError(
            "unreadable_lines",
            Text(
                "{count} of {lines} lines of {file} could not be read; the first is line {line}: {reason}.",
                {
                    "count": len(summary.problems),
                    "lines": summary.lines,
                    "file": str(file),
                    "line": summary.problems[0].line,
                    "reason": summary.problems[0].reason,
                },
            ),
            Text("The other lines were read."),
        )


@cli.command()
def sim(
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same market.")] = 7,
    port: Annotated[int, typer.Option("--port", help="0 takes a free one.")] = 0,
    faults: Annotated[
        str, typer.Option("--faults", metavar="SPEC", help="name[:value][@start[+duration]], by commas.")
    ] = "",
    speed: Annotated[float, typer.Option("--speed", help="How fast the market's clock runs.")] = 1.0,
    start: Annotated[
        str | None, typer.Option("--start", metavar="ISO", help="Where its clock begins; now if absent.")
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="With a throw-away certificate.")] = False,
    as_json: Json = False,
) -> None:
    """The built-in exchange, on loopback, speaking the venues' own protocols. It prints one line when ready."""
    from watchhamster.sim import Simulator

    async def serve() -> None:
        simulator = Simulator(
            seed=seed,
            port=port,
            faults=faults,
            speed=speed,
            start_ns=None if start is None else _moment(start),
            tls=tls,
        )
        async with simulator:
            _print(simulator.ready())
            sys.stdout.flush()
            await app.until_signalled()

    _wait(serve())


@cli.command()
def status(
    tenant: Annotated[str, typer.Option("--tenant")] = "default",
    as_json: Json = False,
) -> None:
    """The status tree, once: of what runs in this home, or of its files when nothing does."""
    tree = _wait(commands.status(_home(), tenant))
    if as_json:
        _print(tree)
    else:
        print(render(commands.tree_of(tree)))


# ---------------------------------------------------------------- market data


@cli.command()
def ticker(
    instrument: Instrument, follow: Annotated[bool, typer.Option("--follow")] = False, as_json: Json = False
) -> None:
    """The latest price and 24 h summary."""
    _caution(instrument)
    _wait(_market("ticker", instrument, follow, as_json))


@cli.command()
def trades(
    instrument: Instrument,
    follow: Annotated[bool, typer.Option("--follow")] = False,
    count: Annotated[int, typer.Option("--count", min=1, max=500)] = 30,
    as_json: Json = False,
) -> None:
    """The latest public trades, oldest first."""
    _caution(instrument)
    _wait(_market("trades", instrument, follow, as_json, count=count))


@cli.command()
def book(
    instrument: Instrument, follow: Annotated[bool, typer.Option("--follow")] = False, as_json: Json = False
) -> None:
    """The order book."""
    _caution(instrument)
    _wait(_market("book", instrument, follow, as_json))


@cli.command()
def search(
    text: Annotated[str, typer.Argument(help="A symbol, or a part of a name in English or Korean.")],
    count: Annotated[int, typer.Option("--count", min=1, max=50, help="Of each venue, at most.")] = 8,
    as_json: Json = False,
) -> None:
    """Instruments of every venue, by name or symbol."""
    _caution(*(f"{venue}:*" for venue in commands.searched()))
    _print_infos(_wait(commands.search(text, count)), as_json)


@cli.command()
def trending(
    region: Annotated[str, typer.Option("--region", help="Two letters: US, GB, HK, …")] = "US",
    venue: Annotated[str, typer.Option("--venue")] = "yahoo",
    as_json: Json = False,
) -> None:
    """What people look at just now."""
    _caution(f"{venue}:*")
    _print_infos(_wait(commands.find(venue, lambda v: v.trending(region))), as_json)


@cli.command()
def news(
    instrument: Instrument,
    count: Annotated[int, typer.Option("--count", min=1, max=50)] = 10,
    as_json: Json = False,
) -> None:
    """Headlines about an instrument, newest first."""
    venue, symbol = split_instrument(instrument, "yahoo")
    _caution(f"{venue}:{symbol}")
    for headline in _wait(commands.find(venue, lambda v: v.news(symbol, count))):
        if as_json:
            _print(headline)
        else:
            print(f"{_iso(headline.published_ns)}  {headline.publisher}: {headline.title}\n    {headline.url}")


def _print_infos(infos: Iterable[InstrumentInfo], as_json: bool) -> None:
    for info in infos:
        if as_json:
            _print({"instrument": info.instrument, "base": info.base, "quote": info.quote, "names": info.names})
        else:
            print(f"{info.instrument:<24} {info.quote:<5} {' · '.join(info.names.values())}")


async def _market(kind: str, instrument: str, follow: bool, as_json: bool, *, count: int = 30) -> None:
    if follow:
        await _follow(commands.follow(kind, instrument), as_json)
        return
    async with commands.MarketDataBackbone() as backbone:
        for event in await commands.one_shot(backbone, kind, instrument, count):
            if isinstance(event, Book) and not as_json:
                _print_book(event)
            else:
                _show(event, as_json)


def _print_book(event: Book) -> None:
    for price, size in reversed(event.asks[:15]):
        print(f"{'':>20} {price:>18,.10g} {size:>20,.8f}")
    print(f"{'-' * 60}  {_iso(event.event_ns)}")
    for price, size in event.bids[:15]:
        print(f"{size:>20,.8f} {price:>18,.10g}")


@cli.command()
def candles(
    instrument: Instrument,
    timeframe_: TimeframeOption = "1m",
    since: Since = None,
    until: Until = None,
    count: Annotated[int, typer.Option("--count", min=1, help="The last so many, without --since.")] = 200,
    follow: Annotated[bool, typer.Option("--follow")] = False,
    as_json: Json = False,
) -> None:
    """Candles, from the store first, then from the venue; oldest first."""
    frame = timeframe(timeframe_)
    _caution(instrument)

    async def work() -> None:
        async with commands.MarketDataBackbone() as backbone:
            rows = await commands.candles(backbone, instrument, frame, _maybe(since), _maybe(until), count, _progress)
        for row in rows:
            _show(row, as_json)
        sys.stdout.flush()
        if follow:
            await _follow(commands.follow("candle", instrument, frame), as_json)

    _wait(work())


def _maybe(text: str | None) -> int | None:
    return None if text is None else _moment(text)


# ---------------------------------------------------------------- stored data


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
    _caution(instrument)
    result = _act(
        "data.update", instrument=instrument, timeframe=frame.name, since_ns=_maybe(since), until_ns=_maybe(until)
    )
    if as_json:
        _print(result)
    else:
        print(_("{instrument} {timeframe}: {candles} candles stored, {new} of them new").format(**result))
        for note in result.get("notes", ()):
            _progress(note)
        if "served_since_ns" in result:
            venue = split_instrument(result["instrument"])[0]
            _progress(say(commands.served_since(venue, frame, result["served_since_ns"])))


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
            result = _act(
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
                _report(error)
            continue
        rejects = result.pop("rejects")
        if as_json:
            _print(result | {"file": str(file)})
        else:
            print(
                _("{file}: {read} read, {new} new, {same} the same, {changed} changed, {rejected} rejected").format(
                    **(result | {"file": file})
                )
            )
        for reject in rejects:
            _progress(f"{file}:{reject['line']}: {reject['reason']}")
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
        _home(),
        instrument,
        timeframe(timeframe_),
        _maybe(since),
        _maybe(until),
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
    for span in commands.coverage(_home(), instrument, timeframe(timeframe_), _maybe(since), _maybe(until)):
        if as_json:
            _print(span)
        else:
            words = {"candles": _("candles"), "no_trade": _("no trade"), "not_fetched": _("not fetched")}
            print(f"{_iso(span.since_ns)}  {_iso(span.until_ns)}  {words[span.state]:<12} {span.count:>10,}")


@data.command("verify")
def data_verify(as_json: Json = False) -> None:
    """Check every stored candle; put damage aside, and refill it where a venue can be reached."""
    result = _act("data.verify")
    if as_json:
        _print(result)
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
    result = _act("data.backup", file=str(file.resolve()))
    _print(result) if as_json else print(_("{file}: {bytes} bytes").format(**result))


@data.command("restore")
def data_restore(file: Path, as_json: Json = False) -> None:
    """Put a backup in place; what it replaces is kept beside it."""
    result = _act("data.restore", file=str(file.resolve()))
    _print(result) if as_json else print(_("restored; the files before are in {kept}").format(**result))


@data.command("size")
def data_size(as_json: Json = False) -> None:
    """The stored series, a line each, and how many bytes all of them take."""
    rows, size = commands.sizes(_home())
    for row in rows:
        if as_json:
            _print(row)
        else:
            until = _iso(row["last_ns"])
            print(
                f"{row['instrument']:<20} {row['timeframe']:<4} {row['count']:>12,}  {_iso(row['first_ns'])}  {until}"
            )
    if as_json:
        _print({"bytes": size})
    else:
        print(f"{size:,} B")


def _read(command: str, **arguments: Any) -> Any:
    """What the owner of this home knows if one runs, else what its file says."""
    return _wait(commands.ask_or_read(_home(), command, arguments))


def _act(command: str, **arguments: Any) -> Any:
    """Do a thing that writes: through the owner of this home if one runs, else here."""
    return _wait(commands.act(_home(), command, arguments))


# ---------------------------------------------------------------- formulas


class _Formulas(typer.core.TyperGroup):
    """`formula EXPRESSION` evaluates; `formula save`, `list` and `remove` keep formulas under a name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = args if args and args[0] in self.commands else ["evaluate", *args]
        return super().parse_args(ctx, words)


formula = typer.Typer(
    cls=_Formulas, help="A formula's value on every stored bar; save, list, remove.", rich_markup_mode=None
)
cli.add_typer(formula, name="formula")


@formula.command("save")
def formula_save(
    name: Annotated[str, typer.Argument(help="Its name, with arguments if it has some: 'spike(x, n=20)'.")],
    expression: Annotated[str, typer.Argument(help="What it computes: 'x > 2 * sma(x, n)'.")],
    as_json: Json = False,
) -> None:
    """Keep a formula, to be used as a function in others, in rules and on charts."""
    row = _act("formula.save", definition=f"{name} = {expression}")
    _print(row) if as_json else print(row["definition"])


@formula.command("list")
def formula_list(as_json: Json = False) -> None:
    """The saved formulas."""
    for row in _read("formula.list"):
        _print(row) if as_json else print(row["definition"])


@formula.command("remove")
def formula_remove(name: str, as_json: Json = False) -> None:
    """Forget a saved formula."""
    row = _act("formula.remove", name=name)
    _print(row) if as_json else print(_("{name} is removed.").format(**row))


@formula.command("evaluate")
def formula_evaluate(
    expressions: Annotated[list[str] | None, typer.Argument(help="One or more, such as 'rsi(close, 14)'.")] = None,
    instrument: Annotated[str | None, typer.Option("--instrument")] = None,
    timeframe_: TimeframeOption = "1m",
    period: Period = None,
    first_bar: Annotated[
        str | None, typer.Option("--first-bar", metavar="ISO", help="Where evaluation begins.")
    ] = None,
    evaluator: Annotated[str, typer.Option("--evaluator", help="array or stepwise: the same bytes.")] = "array",
    functions: Annotated[bool, typer.Option("--functions", help="The table of functions.")] = False,
    as_json: Json = False,
) -> None:
    """A formula's value on every stored bar. Also: formula save, formula list, formula remove."""
    from watchhamster.formula import describe
    from watchhamster.formula import functions as table

    if functions:
        for function in table():
            if as_json:
                _print(describe(function))
            else:
                print(f"{function.signature:<44} {say(function.description)}")
        return
    if not expressions:
        raise UsageError("usage", Text("A formula is missing."), Text("See watchhamster formula --help."))
    if instrument is None:
        raise UsageError("usage", Text("--instrument is missing."), Text("Such as --instrument upbit:KRW-BTC."))
    if evaluator not in ("array", "stepwise"):
        raise UsageError(
            "usage", Text("There is no evaluator {name!r}.", {"name": evaluator}), Text("Write array or stepwise.")
        )
    since, until = _period(period)
    first = None if first_bar is None else _moment(first_bar)
    result = commands.evaluate(_home(), expressions, instrument, timeframe(timeframe_), since, until, first, evaluator)
    for warning in result.warnings:
        _progress(say(warning))
    for open_ns, values in result.rows:
        value = values if len(expressions) > 1 else values[0]
        if as_json:
            _print({"open_ns": open_ns, "value": value})
        else:
            print(f"{_iso(open_ns)}  {_json(value)}")


# ---------------------------------------------------------------- rules and alerts


@alert.command("list")
def alert_list(
    count: Annotated[int, typer.Option("--count", min=1)] = 50,
    rules: Annotated[bool, typer.Option("--rules", help="The rules, not what they raised.")] = False,
    as_json: Json = False,
) -> None:
    """What fired, newest last."""
    rows = _read("alert.rules") if rules else _read("alert.list", count=count)
    for row in rows:
        if as_json:
            _print(row)
        elif rules:
            state = _("on") if row["enabled"] else _("off")
            where = f"{','.join(row['instruments'])} {row['timeframe']}"
            print(f"{row['id']:>5}  {state:<4} {where}  {row['name']}: {row['formula']}")
        else:
            print(f"{row['id']:>5}  {_iso(row['fired_ns'])}  {row['state']:<10} {row['severity']:<9} {row['message']}")


@alert.command("show")
def alert_show(alert_id: int, as_json: Json = False) -> None:
    """One alert with its evidence and the receipts of its deliveries."""
    row = _read("alert.show", alert_id=alert_id)
    if as_json:
        _print(row)
        return
    for key, value in row.items():
        print(f"{key}: {value if isinstance(value, str) else _json(value)}")


@alert.command("add")
def alert_add(
    expression: Annotated[str, typer.Argument(help="A formula that is true or false.")],
    instrument: Annotated[list[str], typer.Option("--instrument", help="Repeatable.")],
    timeframe_: TimeframeOption = "1m",
    name: Annotated[str, typer.Option("--name")] = "",
    for_: Annotated[str, typer.Option("--for", help="How long it must stay true.")] = "0",
    cooldown: Annotated[str, typer.Option("--cooldown", help="How long it stays quiet after firing.")] = "0",
    severity: Annotated[str, typer.Option("--severity", help="info warning critical")] = "warning",
    channel: Annotated[
        list[str] | None, typer.Option("--channel", help="desktop, inbox or one of yours; repeatable.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Switch off after it has fired.")] = False,
    forming: Annotated[bool, typer.Option("--forming", help="Look at the open bar too.")] = False,
    as_json: Json = False,
) -> None:
    """Watch a formula from now on."""
    row = _act(
        "alert.add",
        formula=expression,
        instruments=instrument,
        timeframe=timeframe(timeframe_).name,
        name=name,
        for_s=_seconds(for_),
        cooldown_s=_seconds(cooldown),
        severity=severity,
        channels=channel or ["desktop", "inbox"],
        repeat=not once,
        forming=forming,
    )
    _print(row) if as_json else print(_("Rule {id} watches: {formula}").format(**row))


@alert.command("ack")
def alert_ack(alert_id: int, as_json: Json = False) -> None:
    """Acknowledge an alert."""
    row = _act("alert.ack", alert_id=alert_id)
    _print(row) if as_json else print(_("Alert {id} is acknowledged.").format(**row))


@alert.command("silence")
def alert_silence(
    duration: Annotated[str, typer.Argument(help="5m, 1h, today, or off.")], as_json: Json = False
) -> None:
    """Mute every channel for a while; alerts are still kept in the inbox."""
    seconds = {"off": 0.0, "today": -1.0}.get(duration)
    row = _act("alert.silence", seconds=_seconds(duration) if seconds is None else seconds)
    if as_json:
        _print(row)
    elif row["until_ns"] is None:
        print(_("Alerts sound again."))
    else:
        print(_("Muted until {time}.").format(time=_iso(row["until_ns"])))


@alert.command("remove")
def alert_remove(rule_id: int, as_json: Json = False) -> None:
    """Remove a rule; the alerts it raised stay."""
    row = _act("alert.remove", rule_id=rule_id)
    _print(row) if as_json else print(_("Rule {id} is removed.").format(**row))


@alert.command("test")
def alert_test(
    channel: Annotated[str, typer.Argument(help="desktop, inbox, or one of yours.")], as_json: Json = False
) -> None:
    """Send a clearly marked sample through one channel and print what it answered."""
    row = _act("alert.test", channel=channel)
    if as_json:
        _print(row)
    else:
        print(f"{row['channel']}: {row['state']} {row['receipt'] or row['error']}")
    if row["state"] != "delivered":
        raise WatchHamsterError(
            "not_delivered",
            Text("The test message did not arrive: {error}", {"error": row["error"] or row["state"]}),
        )


@alert.command("channel")
def alert_channel(
    name: Annotated[str, typer.Argument(help="A name of your own.")],
    type_: Annotated[str, typer.Option("--type", help="webhook or dooray.")] = "webhook",
    url: Annotated[
        str | None, typer.Option("--url", help="Its address; asked for if absent. Kept in the keyring only.")
    ] = None,
    secret: Annotated[bool, typer.Option("--secret", help="Ask for a signing secret (webhook).")] = False,
    local: Annotated[bool, typer.Option("--local", help="Allow an address inside this network.")] = False,
    remove: Annotated[bool, typer.Option("--remove")] = False,
    as_json: Json = False,
) -> None:
    """Add, change or remove a channel alerts can go through."""
    address = url
    if not remove and address is None:
        address = typer.prompt(_("Address"), hide_input=True, err=True)
    key = typer.prompt(_("Signing secret"), hide_input=True, err=True) if secret and not remove else None
    row = _act("alert.channel", name=name, type=type_, url=address, secret=key, local=local, remove=remove)
    _print(row) if as_json else print(_("Channel {name}: {state}").format(**row))


@alert.command("replay")
def alert_replay(
    expression: Annotated[str, typer.Argument(help="A formula that is true or false.")],
    instrument: Annotated[str, typer.Option("--instrument")],
    timeframe_: TimeframeOption = "1m",
    for_: Annotated[str, typer.Option("--for")] = "0",
    cooldown: Annotated[str, typer.Option("--cooldown")] = "0",
    period: Period = None,
    first_bar: Annotated[str | None, typer.Option("--first-bar", metavar="ISO")] = None,
    as_json: Json = False,
) -> None:
    """When a rule would have fired on stored bars, and what the price did after."""
    since, until = _period(period)
    result = commands.replay_rule(
        _home(),
        expression,
        instrument,
        timeframe(timeframe_),
        _seconds(for_),
        _seconds(cooldown),
        since,
        until,
        None if first_bar is None else _moment(first_bar),
    )
    for warning in result.warnings:
        _progress(say(warning))
    for firing in result.firings:
        if as_json:
            _print(firing)
        else:
            resolved = "…" if firing["resolved_ns"] is None else _iso(firing["resolved_ns"])
            print(f"{_iso(firing['fired_ns'])}  {firing['price']:,.10g}  {_('until')} {resolved}")
    if as_json:
        _print({"summary": result.summary})
    else:
        print(_("fired {fired} times, {per_week:.1f} a week").format(**result.summary))


# ---------------------------------------------------------------- the machine


@cli.command()
def doctor(
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Write logs and state, without a secret, to this zip.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What this machine lacks, and how to fix it."""
    findings = doctor_.check(_home())
    tree = None
    with suppress(WatchHamsterError):  # what is broken is among the findings
        tree = commands.tree_of(_wait(commands.status(_home(), "default")))
    marks = {"ok": "●", "warning": "▲", "missing": "■"}
    for finding in findings:
        if as_json:
            _print(
                {
                    "name": finding.name,
                    "state": finding.state,
                    "detail": say(finding.detail),
                    "fix": say(finding.fix) if finding.fix else "",
                    "venue": finding.venue,
                }
            )
        else:
            name = f"{finding.venue} {finding.name}".strip()
            print(f"{marks[finding.state]} {name}: {say(finding.detail)}")
            if finding.fix and finding.state != "ok":
                print(f"    {say(finding.fix)}")
    if bundle is not None:
        doctor_.bundle(bundle, _home(), tree, findings)
        _progress(_("Written: {file}").format(file=bundle))
    missing = [finding.name for finding in findings if finding.state == "missing"]
    if missing:
        raise WatchHamsterError(
            "machine_lacks",
            Text("Missing here: {names}.", {"names": ", ".join(missing)}),
            Text("The lines above say what to do."),
        )


@cli.command()
def screenshot(
    page: Annotated[str | None, typer.Argument()] = None,
    out: Annotated[Path | None, typer.Argument()] = None,
    demo: Annotated[bool, typer.Option("--demo", help="A fixed moment of the built-in exchange.")] = False,
    theme: Annotated[str, typer.Option("--theme", help="dark or light.")] = "dark",
    lang: Annotated[str, typer.Option("--lang", help="ko or en.")] = "en",
    size: Annotated[str, typer.Option("--size", help="WIDTHxHEIGHT.")] = "1440x900",
    text: Annotated[int, typer.Option("--text", min=90, max=200, help="Text size in percent.")] = 100,
    list_: Annotated[bool, typer.Option("--list", help="The pages there are.")] = False,
    as_json: Json = False,
) -> None:
    """A page of the desktop, rendered offscreen."""
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    from watchhamster.ui import start

    pages = dict(start.pages())
    if list_:
        for name, title in pages.items():
            _print({"page": name, "title": title}) if as_json else print(f"{name:<14} {title}")
        return
    if page is None or out is None:
        raise UsageError("usage", Text("Write a page and a file."), Text("See watchhamster screenshot --list."))
    if page not in pages:
        near = get_close_matches(page, pages, 1)
        raise UsageError(
            "unknown_page",
            Text("There is no page {page!r}.", {"page": page}),
            Text("Did you mean {name}?", {"name": near[0]}) if near else Text("See watchhamster screenshot --list."),
        )
    match = re.fullmatch(r"(\d{3,4})\s*x\s*(\d{3,4})", size)
    if match is None or theme not in ("dark", "light") or lang not in ("ko", "en"):
        raise UsageError(
            "usage",
            Text("--size is WIDTHxHEIGHT, --theme dark or light, --lang ko or en."),
        )
    options = app.Options(home=_home(), demo=demo, still=True)
    code = start.run_screenshot(
        page, out, (int(match[1]), int(match[2])), theme, lang, text, lambda: app.build_engine(options)
    )
    if code:
        raise typer.Exit(code)
    if as_json:
        _print({"page": page, "file": str(out)})
    else:
        _progress(_("Written: {file}").format(file=out))
