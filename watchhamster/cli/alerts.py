"""`alert`: rules, and what they raised."""

from __future__ import annotations

from typing import Annotated

import typer

from watchhamster import commands
from watchhamster.cli.console import (
    Json,
    Period,
    TimeframeOption,
    act,
    cli,
    emit,
    home,
    iso,
    json_of,
    moment_of,
    note,
    period_of,
    read,
    seconds_of,
)
from watchhamster.core.ports import WatchHamsterError
from watchhamster.core.text import Text, _, say
from watchhamster.core.timeframes import timeframe

alert = typer.Typer(help="Rules and what they raised.", no_args_is_help=True, rich_markup_mode=None)
cli.add_typer(alert, name="alert")


@alert.command("list")
def alert_list(
    count: Annotated[int, typer.Option("--count", min=1)] = 50,
    rules: Annotated[bool, typer.Option("--rules", help="The rules, not what they raised.")] = False,
    as_json: Json = False,
) -> None:
    """What fired, newest last."""
    rows = read("alert.rules") if rules else read("alert.list", count=count)
    for row in rows:
        if as_json:
            emit(row)
        elif rules:
            state = _("on") if row["enabled"] else _("off")
            where = f"{','.join(row['instruments'])} {row['timeframe']}"
            print(f"{row['id']:>5}  {state:<4} {where}  {row['name']}: {row['formula']}")
        else:
            print(f"{row['id']:>5}  {iso(row['fired_ns'])}  {row['state']:<10} {row['severity']:<9} {row['message']}")


@alert.command("show")
def alert_show(alert_id: int, as_json: Json = False) -> None:
    """One alert with its evidence and the receipts of its deliveries."""
    row = read("alert.show", alert_id=alert_id)
    if as_json:
        emit(row)
        return
    for key, value in row.items():
        print(f"{key}: {value if isinstance(value, str) else json_of(value)}")


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
    row = act(
        "alert.add",
        formula=expression,
        instruments=instrument,
        timeframe=timeframe(timeframe_).name,
        name=name,
        for_s=seconds_of(for_),
        cooldown_s=seconds_of(cooldown),
        severity=severity,
        channels=channel or ["desktop", "inbox"],
        repeat=not once,
        forming=forming,
    )
    emit(row) if as_json else print(_("Rule {id} watches: {formula}").format(**row))


@alert.command("ack")
def alert_ack(alert_id: int, as_json: Json = False) -> None:
    """Acknowledge an alert."""
    row = act("alert.ack", alert_id=alert_id)
    emit(row) if as_json else print(_("Alert {id} is acknowledged.").format(**row))


@alert.command("silence")
def alert_silence(
    duration: Annotated[str, typer.Argument(help="5m, 1h, today, or off.")], as_json: Json = False
) -> None:
    """Mute every channel for a while; alerts are still kept in the inbox."""
    seconds = {"off": 0.0, "today": -1.0}.get(duration)
    row = act("alert.silence", seconds=seconds_of(duration) if seconds is None else seconds)
    if as_json:
        emit(row)
    elif row["until_ns"] is None:
        print(_("Alerts sound again."))
    else:
        print(_("Muted until {time}.").format(time=iso(row["until_ns"])))


@alert.command("remove")
def alert_remove(rule_id: int, as_json: Json = False) -> None:
    """Remove a rule; the alerts it raised stay."""
    row = act("alert.remove", rule_id=rule_id)
    emit(row) if as_json else print(_("Rule {id} is removed.").format(**row))


@alert.command("test")
def alert_test(
    channel: Annotated[str, typer.Argument(help="desktop, inbox, or one of yours.")], as_json: Json = False
) -> None:
    """Send a clearly marked sample through one channel and print what it answered."""
    row = act("alert.test", channel=channel)
    if as_json:
        emit(row)
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
    row = act("alert.channel", name=name, type=type_, url=address, secret=key, local=local, remove=remove)
    emit(row) if as_json else print(_("Channel {name}: {state}").format(**row))


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
    since, until = period_of(period)
    result = commands.replay_rule(
        home(),
        expression,
        instrument,
        timeframe(timeframe_),
        seconds_of(for_),
        seconds_of(cooldown),
        since,
        until,
        None if first_bar is None else moment_of(first_bar),
    )
    for warning in result.warnings:
        note(say(warning))
    for firing in result.firings:
        if as_json:
            emit(firing)
        else:
            resolved = "…" if firing["resolved_ns"] is None else iso(firing["resolved_ns"])
            print(f"{iso(firing['fired_ns'])}  {firing['price']:,.10g}  {_('until')} {resolved}")
    if as_json:
        emit({"summary": result.summary})
    else:
        print(_("fired {fired} times, {per_week:.1f} a week").format(**result.summary))
