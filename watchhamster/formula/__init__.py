"""The language of conditions: parse a formula once, evaluate it over arrays or bar by bar, with the same bits."""

from watchhamster.formula.functions import SERIES, Function, Parameter, describe, functions
from watchhamster.formula.graph import Bar, Kind, Program, Stepper, Value, Values
from watchhamster.formula.language import Formula, compile_many, parse

__all__ = [
    "SERIES",
    "Bar",
    "Formula",
    "Function",
    "Kind",
    "Parameter",
    "Program",
    "Stepper",
    "Value",
    "Values",
    "compile_many",
    "describe",
    "functions",
    "parse",
]
