"""The language of conditions: parse a formula once, evaluate it over arrays or bar by bar, with the same bits."""

from watchhamster.formula.evaluators import Program, Stepper
from watchhamster.formula.functions import functions
from watchhamster.formula.graph import Bar, Frame, Kind, Value, Values
from watchhamster.formula.language import Formula, Library, Sweep, compile_many, parse
from watchhamster.formula.parsing import HELD
from watchhamster.formula.table import DAYS, FACTS, LIVE, SERIES, Function, Parameter, describe

__all__ = [
    "DAYS",
    "FACTS",
    "HELD",
    "LIVE",
    "SERIES",
    "Bar",
    "Formula",
    "Frame",
    "Function",
    "Kind",
    "Library",
    "Parameter",
    "Program",
    "Stepper",
    "Sweep",
    "Value",
    "Values",
    "compile_many",
    "describe",
    "functions",
    "parse",
]
