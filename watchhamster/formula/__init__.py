"""The language of conditions: parse a formula once, evaluate it over arrays or bar by bar, with the same bits."""

from watchhamster.formula.assist import Candidate, Signature, complete, signature
from watchhamster.formula.evaluators import Moments, Program, Stepper
from watchhamster.formula.functions import functions
from watchhamster.formula.graph import Bar, Frame, Kind, Value, Values
from watchhamster.formula.language import LIBRARY_KEY, Family, Formula, Library, Sweep, compile_many, parse
from watchhamster.formula.parsing import HELD, Scope
from watchhamster.formula.table import DAYS, FACTS, LIVE, SERIES, Function, Parameter, describe

__all__ = [
    "DAYS",
    "FACTS",
    "HELD",
    "LIBRARY_KEY",
    "LIVE",
    "SERIES",
    "Bar",
    "Candidate",
    "Family",
    "Formula",
    "Frame",
    "Function",
    "Kind",
    "Library",
    "Moments",
    "Parameter",
    "Program",
    "Scope",
    "Signature",
    "Stepper",
    "Sweep",
    "Value",
    "Values",
    "compile_many",
    "complete",
    "describe",
    "functions",
    "parse",
    "signature",
]
