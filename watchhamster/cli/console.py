"""What every command uses: options, what is printed and how, words read from the command line."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import sys
from collections.abc import AsyncIterator, Coroutine, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from watchhamster import commands, services
from watchhamster.core.instruments import split_instrument
from watchhamster.core.market import BadFrameSeen, Book, Candle, Event, FeedChanged, Ticker, Trade, to_json
from watchhamster.core.ports import UsageError, WatchHamsterError
from watchhamster.core.text import Text, _, say
from watchhamster.settings import Home

T = TypeVar("T")

cli = typer.Typer(
    name="watchhamster",
    no_args_is_help=False,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="NDJSON on stdout, one object a line.")]
Instrument = Annotated[str, typer.Argument(help="venue:SYMBOL, such as upbit:KRW-BTC.")]
TimeframeOption = Annotated[str, typer.Option("--timeframe", help="1s 1m 3m 5m 10m 15m 30m 1h 4h 1d 1w 1M 1y.")]
Since = Annotated[str | None, typer.Option("--since", help="First moment, a date or ISO time, UTC.")]
Until = Annotated[str | None, typer.Option("--until", help="Moment after the last, a date or ISO time, UTC.")]
Period = Annotated[str | None, typer.Option("--period", help="A:B, dates or ISO times, UTC; B is exclusive.")]


class Asked(msgspec.Struct):
    """What holds for every command, wherever on the line it was written."""

    home: Path | None = None
    debug: bool = False
    json: bool = False
    language: str = "en"  # in use


asked = Asked()


# ---------------------------------------------------------------- printing


def report_error(error: WatchHamsterError) -> int:
    """Print a failure as it has to be, and give its exit code."""
    if asked.debug:
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    sys.stdout.flush()
    if asked.json:
        fields = {"code": error.code, "message": say(error.text), "hint": say(error.hint) if error.hint else ""}
        print(json_of({"error": fields | error.details}), file=sys.stderr)
    else:
        print(say(error.text), file=sys.stderr)
        if "position" in error.details and "source" in error.details:
            print(f"  {error.details['source']}\n  {' ' * int(str(error.details['position']))}^", file=sys.stderr)
        if isinstance(line := error.details.get("line"), int):
            key = error.details.get("key")
            where = _("line {line}").format(line=line)
            print(f"  {where}: {key}" if key else f"  {where}", file=sys.stderr)
        if error.hint:
            print(say(error.hint), file=sys.stderr)
    return error.exit_code


def home() -> Home:
    """The home in use."""
    return services.find_home(asked.home)


def caution(*instruments: str) -> None:
    """Say on stderr what has to be known of their venues, the first time in a home."""
    for words in wait(commands.cautions(home(), [split_instrument(name, "upbit")[0] for name in instruments])):
        note(say(words))


def json_of(value: object) -> str:
    """One line of JSON."""
    return msgspec.json.encode(value).decode()


def emit(value: object) -> None:
    """A value as a line on stdout."""
    sys.stdout.write(json_of(value) + "\n")


def emit_events(events: Iterable[Event]) -> None:
    """Events as lines on stdout."""
    sys.stdout.writelines(to_json(event).decode() + "\n" for event in events)


def note(text: str) -> None:
    """A line for a person, on stderr."""
    print(text, file=sys.stderr, flush=True)


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Carry out what is asynchronous."""
    return asyncio.run(work)


def moment_of(text: str) -> int:
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


def period_of(text: str | None) -> tuple[int | None, int | None]:
    """`A:B`, where either may be empty and both may hold colons of their own."""
    if text is None:
        return None, None
    for colon in (match.start() for match in re.finditer(":", text)):
        a, b = text[:colon], text[colon + 1 :]
        try:
            since, until = (moment_of(a) if a else None), (moment_of(b) if b else None)
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


def seconds_of(text: str) -> float:
    """`30s`, `5m`, `1h`, `2d` or plain seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", text.strip())
    if match is None:
        raise UsageError(
            "bad_duration", Text("{text!r} is not a duration.", {"text": text}), Text("Write 30s, 5m, 1h or 2d.")
        )
    return float(match[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2] or "s"]


def iso(at_ns: int) -> str:
    """A moment as ISO text."""
    return commands.iso_time(at_ns)


def _line(event: Event) -> str:
    """An event for a person's eyes."""
    match event:
        case Trade():
            side = _("buy") if event.side == "buy" else _("sell")
            return f"{iso(event.event_ns)}  {event.instrument}  {side:<4} {event.price:>16,.10g} x {event.size:.10g}"
        case Ticker():
            rate = "…" if event.change_rate is None else f"{event.change_rate:+.2%}"
            return f"{iso(event.event_ns)}  {event.instrument}  {event.price:>16,.10g}  {rate}"
        case Book():
            best = [f"{level[0]:,.10g} x {level[1]:.10g}" for side in (event.bids, event.asks) for level in side[:1]]
            return f"{iso(event.event_ns)}  {event.instrument}  {'  |  '.join(best)}"
        case Candle():
            prices = "  ".join(f"{price:,.10g}" for price in (event.open, event.high, event.low, event.close))
            volume = "" if event.volume is None else f"{event.volume:.10g}"
            return f"{iso(event.open_ns)}  {event.instrument} {event.timeframe}  {prices}  {volume}"
        case FeedChanged():
            return f"{iso(event.at_ns)}  {event.venue}  {event.state}: {say(commands.feed_reason(event))}"
        case BadFrameSeen():
            return f"{_('unreadable frame')}: {event.reason}: {event.sample}"


def show_event(event: Event, as_json: bool) -> None:
    """An event on stdout, for a script or for a person."""
    if as_json:
        emit_events([event])
    else:
        print(_line(event))


async def follow_events(events: AsyncIterator[Event], as_json: bool) -> None:
    """Events on stdout, as they come."""
    async for event in events:
        show_event(event, as_json)
        sys.stdout.flush()


def maybe_moment(text: str | None) -> int | None:
    """A moment, where one is given."""
    return None if text is None else moment_of(text)


def read(command: str, **arguments: Any) -> Any:
    """What the owner of this home knows if one runs, else what its file says."""
    return wait(commands.ask_or_read(home(), command, arguments))


def act(command: str, **arguments: Any) -> Any:
    """Do a thing that writes: through the owner of this home if one runs, else here."""
    return wait(commands.act(home(), command, arguments))
