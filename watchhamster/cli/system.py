"""The engine without a window, the built-in exchange, the status tree, and the machine."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from watchhamster import app, commands
from watchhamster import doctor as doctor_
from watchhamster.cli.console import Json, caution, cli, emit, home, moment_of, note, seconds_of, wait
from watchhamster.core.ports import UsageError, WatchHamsterError
from watchhamster.core.text import Text, _, say
from watchhamster.monitor.status import StatusNode, render, to_record


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
        home=home(),
        demo=demo,
        replay=None if replay is None else Path(replay),
        replay_venue=venue,
        speed=app.speed_of(speed),
        instruments=tuple(instrument or ()),
    )
    seconds = None if lasting is None else seconds_of(lasting)
    if not demo and replay is None:
        caution(*options.instruments)
    terminal = sys.stdout.isatty()

    def show(tree: StatusNode, final: bool) -> None:
        if as_json:
            emit(to_record(tree))
        else:
            clear = "\x1b[2J\x1b[H" if terminal and not final else ""
            print(f"{clear}{render(tree)}\n")
        sys.stdout.flush()

    wait(app.run_headless(options, seconds, show))


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
            start_ns=None if start is None else moment_of(start),
            tls=tls,
        )
        async with simulator:
            emit(simulator.ready())
            sys.stdout.flush()
            await app.until_signalled()

    wait(serve())


@cli.command()
def status(
    tenant: Annotated[str, typer.Option("--tenant")] = "default",
    as_json: Json = False,
) -> None:
    """The status tree, once: of what runs in this home, or of its files when nothing does."""
    tree = wait(commands.status(home(), tenant))
    if as_json:
        emit(tree)
    else:
        print(render(commands.tree_of(tree)))


@cli.command()
def doctor(
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Write logs and state, without a secret, to this zip.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What this machine lacks, and how to fix it."""
    findings = doctor_.check(home())
    tree = None
    with suppress(WatchHamsterError):  # what is broken is among the findings
        tree = commands.tree_of(wait(commands.status(home(), "default")))
    marks = {"ok": "●", "warning": "▲", "missing": "■"}
    for finding in findings:
        if as_json:
            emit(
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
        doctor_.bundle(bundle, home(), tree, findings)
        note(_("Written: {file}").format(file=bundle))
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
            emit({"page": name, "title": title}) if as_json else print(f"{name:<14} {title}")
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
    options = app.Options(home=home(), demo=demo, still=True)
    code = start.run_screenshot(
        page, out, (int(match[1]), int(match[2])), theme, lang, text, lambda: app.build_engine(options)
    )
    if code:
        raise typer.Exit(code)
    if as_json:
        emit({"page": page, "file": str(out)})
    else:
        note(_("Written: {file}").format(file=out))
