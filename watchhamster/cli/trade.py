"""`trade`: strategies that trade on paper, in the WatchHamster that runs or in one that this command runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from watchhamster import app, commands, lab
from watchhamster.cli.console import Json, act, caution, cli, emit, home, iso, maybe_moment, note, seconds_of, wait
from watchhamster.cli.lab import Cash, FirstBar, Frame, Instruments, More, Set, setting_of
from watchhamster.core.ports import Unavailable, UsageError
from watchhamster.core.text import Text, _
from watchhamster.engine.owner import ask
from watchhamster.monitor.alerts import Alert

if TYPE_CHECKING:
    from watchhamster.backtest.paper import Paper
    from watchhamster.core.market import Event
    from watchhamster.engine.engine import Engine
    from watchhamster.monitor.status import StatusNode

LOOK_S = 0.5  # between two looks at the fills of an engine that runs elsewhere


@cli.command()
def trade(
    strategy: Annotated[
        str | None, typer.Argument(help="A TOML file, the name of a stored strategy (name@2), or of an example.")
    ] = None,
    more: More = None,
    mode: Annotated[str, typer.Option("--mode", help="paper: with money that is not real.")] = "paper",
    instrument: Instruments = None,
    timeframe_: Frame = None,
    cash: Cash = 10_000_000.0,
    set_: Set = None,
    first_bar: FirstBar = None,
    channel: Annotated[
        list[str] | None,
        typer.Option("--channel", help="Where fills are told; repeatable. Desktop and inbox if absent."),
    ] = None,
    lasting: Annotated[str | None, typer.Option("--for", metavar="DURATION", help="End after this long.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="On the built-in exchange.")] = False,
    replay: Annotated[
        Path | None, typer.Option("--replay", metavar="FILE", help="On a recorded wire capture, to its end.")
    ] = None,
    venue: Annotated[str, typer.Option("--venue", help="The recording's venue.")] = "upbit",
    speed: Annotated[str, typer.Option("--speed", help="Of the recording: 1, 10, … or max.")] = "max",
    list_: Annotated[bool, typer.Option("--list", help="What trades on paper.")] = False,
    show: Annotated[str | None, typer.Option("--show", metavar="NAME", help="One of them, with its fills.")] = None,
    stop: Annotated[str | None, typer.Option("--stop", metavar="NAME", help="End one, and forget its account.")] = None,
    as_json: Json = False,
) -> None:
    """A strategy on live bars, with money that is not real. It goes on whenever WatchHamster runs, until --stop."""
    if mode != "paper":
        raise UsageError(
            "not_in_this_version" if mode == "live" else "bad_mode",
            Text("This version trades on paper only: it places no order.")
            if mode == "live"
            else Text("{mode!r} is no way to trade.", {"mode": mode}),
            Text("Say --mode paper."),
        )
    if list_ or show is not None or stop is not None:
        if stop is not None:
            found = [act("trade.stop", name=stop)]
        else:
            found = wait(commands.papers(home())) if show is None else [wait(commands.paper(home(), show))]
        for record in found:
            _show_fills(record, as_json, show is not None)
            _summary(record, as_json)
        return
    if strategy is None:
        raise UsageError("usage", Text("Which strategy?"), Text("watchhamster strategy list shows what there is."))
    options = app.Options(home=home(), demo=demo, replay=replay, replay_venue=venue, speed=app.speed_of(speed))
    paper = lab.on_paper(
        home(),
        lab.source_of(home(), strategy),
        [*(more or ()), *(instrument or ())],
        timeframe_,
        cash,
        dict(setting_of(text) for text in set_ or ()),
        maybe_moment(first_bar),
        channel or ("desktop", "inbox"),
    )
    seconds = None if lasting is None else seconds_of(lasting)
    if not demo and replay is None:
        caution(*paper.instruments)
    wait(_trade(options, paper, seconds, as_json))


async def _trade(options: app.Options, paper: Paper, seconds: float | None, as_json: bool) -> None:
    if options.demo or options.replay is not None:
        await _here(options, paper, seconds, as_json)
        return
    try:
        record = await ask(options.home, "trade.start", paper=msgspec.to_builtins(paper))
    except Unavailable as error:
        if error.code != "no_owner":
            raise
        await _here(options, paper, seconds, as_json)
        return
    note(_("The WatchHamster that runs has taken {name} over.").format(name=paper.name))
    over = asyncio.get_running_loop().create_task(app.until_signalled())
    told = record["fill_count"]
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not over.done():
                await asyncio.wait((over,), timeout=LOOK_S)
                record = await ask(options.home, "trade.show", name=paper.name, after=told)
                _show_fills(record, as_json)
                told += len(record["fills"])
    over.cancel()
    _summary(await ask(options.home, "trade.show", name=paper.name), as_json)


async def _here(options: app.Options, paper: Paper, seconds: float | None, as_json: bool) -> None:
    """Run an engine for it."""
    engines: list[Engine] = []
    told = -1  # not looked yet: what it did before this run is not told again

    async def begin(engine: Engine) -> None:
        for instrument in paper.instruments:
            await engine.find(instrument)
        await engine.papers.add(paper)
        engines.append(engine)
        engine.observe(on_event)

    def on_event(event: Event | Alert) -> None:
        if isinstance(event, Alert) and event.kind == "fill":
            tell()

    def tell() -> None:
        nonlocal told
        if told < 0:
            told = engines[0].papers.record(paper.name)["earlier_fills"]
        record = engines[0].papers.record(paper.name, told)
        _show_fills(record, as_json)
        told += len(record["fills"])

    def on_tree(_tree: StatusNode, final: bool) -> None:
        if final and engines:
            tell()
            _summary(engines[0].papers.record(paper.name), as_json)

    await app.run_headless(options, seconds, on_tree, begin)
    note(_("{name} goes on when WatchHamster runs again; trade --stop ends it.").format(name=paper.name))


def _show_fills(record: Mapping[str, Any], as_json: bool, wanted: bool = True) -> None:
    for fill in record.get("fills", ()) if wanted else ():
        if as_json:
            emit({"kind": "fill", "strategy": record["strategy"], **fill})
        else:
            side = _("buy") if fill["side"] == "buy" else _("sell")
            what = f"{fill['size']:.10g} x {fill['price']:,.10g}"
            print(f"{iso(fill['at_ns'])}  {fill['instrument']}  {side:<4} {what}  {fill['reason']}")
    sys.stdout.flush()


def _summary(record: Mapping[str, Any], as_json: bool) -> None:
    """How a strategy stands."""
    if as_json:
        emit(record)
    else:
        names = ", ".join(record["instruments"])
        print(f"{record['strategy']}  {names} {record['timeframe']}")
        print(
            _("  {equity:,.2f} ({profit:+.2f} %), {fills} fills on {bars} bars").format(
                equity=record["equity"],
                profit=record["profit_percent"],
                fills=record["fill_count"],
                bars=record["bars"],
            )
        )
        for held in record["positions"]:
            side = _("long") if held["size"] > 0 else _("short")
            print(f"  {held['instrument']}  {side} {abs(held['size']):.10g} @ {held['entry_price']:,.10g}")
    sys.stdout.flush()
