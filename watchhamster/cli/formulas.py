"""`formula`: evaluated on what is stored, and kept under a name."""

from __future__ import annotations

from typing import Annotated, Any

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
)
from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text, _, say
from watchhamster.core.timeframes import timeframe


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
    row = act("formula.save", definition=f"{name} = {expression}")
    emit(row) if as_json else print(row["definition"])


@formula.command("list")
def formula_list(as_json: Json = False) -> None:
    """The saved formulas."""
    for row in read("formula.list"):
        emit(row) if as_json else print(row["definition"])


@formula.command("remove")
def formula_remove(name: str, as_json: Json = False) -> None:
    """Forget a saved formula."""
    row = act("formula.remove", name=name)
    emit(row) if as_json else print(_("{name} is removed.").format(**row))


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
                emit(describe(function))
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
    since, until = period_of(period)
    first = None if first_bar is None else moment_of(first_bar)
    result = commands.evaluate(home(), expressions, instrument, timeframe(timeframe_), since, until, first, evaluator)
    for warning in result.warnings:
        note(say(warning))
    for open_ns, values in result.rows:
        value = values if len(expressions) > 1 else values[0]
        if as_json:
            emit({"open_ns": open_ns, "value": value})
        else:
            print(f"{iso(open_ns)}  {json_of(value)}")
