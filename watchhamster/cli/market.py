"""Markets asked once or followed, and recordings of them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from watchhamster import app, commands
from watchhamster.cli.console import (
    Instrument,
    Json,
    Since,
    TimeframeOption,
    Until,
    caution,
    cli,
    emit,
    follow_events,
    iso,
    maybe_moment,
    note,
    show_event,
    wait,
)
from watchhamster.core.instruments import InstrumentInfo, split_instrument
from watchhamster.core.market import Book
from watchhamster.core.ports import WatchHamsterError
from watchhamster.core.text import Text, _
from watchhamster.core.timeframes import timeframe


@cli.command()
def ticker(
    instrument: Instrument, follow: Annotated[bool, typer.Option("--follow")] = False, as_json: Json = False
) -> None:
    """The latest price and 24 h summary."""
    caution(instrument)
    wait(_market("ticker", instrument, follow, as_json))


@cli.command()
def trades(
    instrument: Instrument,
    follow: Annotated[bool, typer.Option("--follow")] = False,
    count: Annotated[int, typer.Option("--count", min=1, max=500)] = 30,
    as_json: Json = False,
) -> None:
    """The latest public trades, oldest first."""
    caution(instrument)
    wait(_market("trades", instrument, follow, as_json, count=count))


@cli.command()
def book(
    instrument: Instrument, follow: Annotated[bool, typer.Option("--follow")] = False, as_json: Json = False
) -> None:
    """The order book."""
    caution(instrument)
    wait(_market("book", instrument, follow, as_json))


@cli.command()
def search(
    text: Annotated[str, typer.Argument(help="A symbol, or a part of a name in English or Korean.")],
    count: Annotated[int, typer.Option("--count", min=1, max=50, help="Of each venue, at most.")] = 8,
    as_json: Json = False,
) -> None:
    """Instruments of every venue, by name or symbol."""
    caution(*(f"{venue}:*" for venue in commands.searched()))
    _print_infos(wait(commands.search(text, count)), as_json)


@cli.command()
def trending(
    region: Annotated[str, typer.Option("--region", help="Two letters: US, GB, HK, …")] = "US",
    venue: Annotated[str, typer.Option("--venue")] = "yahoo",
    as_json: Json = False,
) -> None:
    """What people look at just now."""
    caution(f"{venue}:*")
    _print_infos(wait(commands.find(venue, lambda v: v.trending(region))), as_json)


@cli.command()
def news(
    instrument: Instrument,
    count: Annotated[int, typer.Option("--count", min=1, max=50)] = 10,
    as_json: Json = False,
) -> None:
    """Headlines about an instrument, newest first."""
    venue, symbol = split_instrument(instrument, "yahoo")
    caution(f"{venue}:{symbol}")
    for headline in wait(commands.find(venue, lambda v: v.news(symbol, count))):
        if as_json:
            emit(headline)
        else:
            print(f"{iso(headline.published_ns)}  {headline.publisher}: {headline.title}\n    {headline.url}")


def _print_infos(infos: Iterable[InstrumentInfo], as_json: bool) -> None:
    for info in infos:
        if as_json:
            emit({"instrument": info.instrument, "base": info.base, "quote": info.quote, "names": info.names})
        else:
            print(f"{info.instrument:<24} {info.quote:<5} {' · '.join(info.names.values())}")


async def _market(kind: str, instrument: str, follow: bool, as_json: bool, *, count: int = 30) -> None:
    if follow:
        await follow_events(commands.follow(kind, instrument), as_json)
        return
    async with commands.MarketDataBackbone() as backbone:
        for event in await commands.one_shot(backbone, kind, instrument, count):
            if isinstance(event, Book) and not as_json:
                _print_book(event)
            else:
                show_event(event, as_json)


def _print_book(event: Book) -> None:
    for price, size in reversed(event.asks[:15]):
        print(f"{'':>20} {price:>18,.10g} {size:>20,.8f}")
    print(f"{'-' * 60}  {iso(event.event_ns)}")
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
    caution(instrument)

    async def work() -> None:
        async with commands.MarketDataBackbone() as backbone:
            rows = await commands.candles(
                backbone, instrument, frame, maybe_moment(since), maybe_moment(until), count, note
            )
        for row in rows:
            show_event(row, as_json)
        sys.stdout.flush()
        if follow:
            await follow_events(commands.follow("candle", instrument, frame), as_json)

    wait(work())


@cli.command()
def replay(
    file: Annotated[Path, typer.Argument(help="Lines of {received, frame}, or a JSON array of frames.")],
    venue: Annotated[str, typer.Option("--venue", help="Who sent the frames.")] = "upbit",
    speed: Annotated[str, typer.Option("--speed", help="1, 10, … or max.")] = "max",
    as_json: Json = False,
) -> None:
    """A recorded wire capture through the real path; --json prints its normalised events."""
    summary = wait(
        commands.replay_capture(
            file, venue, app.speed_of(speed), (lambda e: show_event(e, True)) if as_json else None, note
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
