"""The command line: arguments in, lines out. What is done is done by `app`; here it is asked for and printed.

With `--json` stdout carries NDJSON and nothing else. A failure is one sentence and a hint on stderr (with `--json` an
object), exit 1; bad input is exit 2; an interruption 130.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from watchhamster.cli.console import asked, cli, home, report_error
from watchhamster.core.ports import UsageError, WatchHamsterError
from watchhamster.core.text import Text, _
from watchhamster.logs import configure_logging
from watchhamster.settings import load_translations


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--home":
            value = next(words, None)
            if value is None:
                return report_error(UsageError("usage", Text("--home needs a folder.")))
            asked.home = Path(value)
        elif word.startswith("--home="):
            asked.home = Path(word.removeprefix("--home="))
        elif word == "--debug":
            asked.debug = True
        else:
            rest.append(word)
    asked.json = "--json" in rest
    undo: Callable[[], None] | None = None
    try:
        asked.language = load_translations(os.environ.get("WATCHHAMSTER_LANGUAGE", "auto"))
        running = "run" in rest[:1] or _is_desktop(rest)
        undo = configure_logging(home(), debug=asked.debug, file="watchhamster.log" if running else None)
        if _is_desktop(rest):
            print(_("There is no display here, so WatchHamster runs headless. Ctrl+C ends it."), file=sys.stderr)
            rest = ["run", *(word for word in rest if word not in ("--minimized", "--live"))]
        if rest[:1] == ["run"] and (values := _plain("run", rest[1:])) is not None:
            from watchhamster.cli.system import run_

            run_(**values)
            return 0
        _family(rest[0])
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
        return report_error(UsageError("usage", problem, Text("See watchhamster --help.")))
    except WatchHamsterError as error:
        return report_error(error)
    except Exception as error:
        if asked.debug:
            raise
        return report_error(
            WatchHamsterError(
                "internal",
                Text("WatchHamster itself failed: {problem}.", {"problem": f"{type(error).__name__}: {error}"}),
                Text("The same command with --debug shows where."),
            )
        )
    finally:
        if undo is not None:
            undo()


def _family(word: str) -> ModuleType:
    """Bring in the commands that are asked for, or all of them where they are listed: nobody waits for the others."""
    match word:
        case "run" | "sim" | "status" | "doctor" | "screenshot":
            from watchhamster.cli import system

            return system
        case "ticker" | "trades" | "book" | "candles" | "search" | "trending" | "news" | "replay":
            from watchhamster.cli import market

            return market
        case "data":
            from watchhamster.cli import data

            return data
        case "formula":
            from watchhamster.cli import formulas

            return formulas
        case "alert":
            from watchhamster.cli import alerts

            return alerts
        case "backtest" | "optimize" | "strategy" | "runs":
            from watchhamster.cli import lab

            return lab
        case "trade":
            from watchhamster.cli import trade

            return trade
        case _:
            families = [_family(each) for each in ("run", "ticker", "data", "formula", "alert", "backtest", "trade")]
            return families[0]


def _is_desktop(arguments: list[str]) -> bool:
    return not arguments or (arguments[0].startswith("-") and arguments[0] not in ("--help", "--version", "-h"))


def _plain(command: str, words: list[str]) -> dict[str, Any] | None:
    """The options of a command as typer would give them, all text; None where typer has to look, or to complain.

    For each value typer asks pydantic, which is 8 MB, and a headless watchman would hold them for weeks.
    """
    _family(command)
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
