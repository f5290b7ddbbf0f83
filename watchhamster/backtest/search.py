"""A search among conditions: genetic programming over formulas made of a chosen vocabulary.

Individuals are trees of the language itself: terms (`rsi(close, 14)`, `macd(close, 12, 26, 9).hist[1]`) compared with
what they can be compared with, crossed, and joined by `and`, `or`, `not`. What can be compared is learnt from the
data: a term that stays near the close is a price and is set against prices, any other against numbers of its own
range. So what comes out is a plain formula that a person can read, change and watch live.

Every node has its price: of two conditions that earn the same the shorter wins. Each generation follows from the
seed and what was known before it, so a search that was cut off goes on with the formulas it would have tried.

Sources: Koza, "Genetic Programming" (1992); Poli, Langdon, McPhee, "A Field Guide to Genetic Programming" (2008).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec
import numpy as np

from watchhamster.backtest.optimise import (
    Call,
    Constraint,
    Findings,
    Goal,
    Objective,
    Plan,
    Runner,
    judge,
    seed_of,
)
from watchhamster.backtest.splits import Span
from watchhamster.backtest.trials import Trial
from watchhamster.core.bars import Bars
from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text
from watchhamster.formula import Function, functions, parse

VOCABULARY: Final = (
    *("adx", "aroon", "atr", "bbands", "cci", "change", "ema", "highest", "lowest", "macd", "mfi", "natr", "obv"),
    *("roc", "rsi", "sma", "stddev", "stoch", "willr"),
)
_PRICES: Final = ("close", "open", "high", "low")
_QUANTILES: Final = np.linspace(0.02, 0.98, 33)
_NEAR: Final = 0.25  # a term that is usually within so much of the close is a price
_PERIOD_MOST: Final = 100
_LAG_MOST: Final = 5
_TRIES: Final = 400
_HALL: Final = 10
_POOL: Final = 100
_BESIDE_MOST: Final = 40


class Vocabulary(msgspec.Struct, frozen=True):
    """What formulas may be made of."""

    functions: tuple[str, ...] = VOCABULARY
    volume: bool = True
    lags: bool = True
    crosses: bool = True
    negations: bool = True


class ConditionSearch(msgspec.Struct, frozen=True, kw_only=True):
    """A search for an entry condition. Equal ones try equal formulas."""

    run: str
    goal: Goal
    span: Span
    vocabulary: Vocabulary = Vocabulary()
    trials: int = 2000
    seed: int = 1
    constraints: tuple[Constraint, ...] = ()
    population: int = 64
    price: float = 0.01  # of a node, in units of the goal
    largest: int = 15  # nodes
    past_trials: int = 0


class ConditionObjective(Objective, Protocol):
    """An objective whose candidates are formulas."""

    def bars(self, data: Any, span: Span) -> Bars:
        """What formulas are looked at on, to learn what can be compared with what."""


# ---------------------------------------------------------------- trees


class Fact(msgspec.Struct, frozen=True):
    """A function's output as the data shows it."""

    name: str
    output: str  # "" where there is but one
    series: tuple[str, ...]
    unit: Literal["price", "volume", "other", "condition"]
    numbers: tuple[tuple[float, float, float, bool], ...]  # default, least, most, whole
    levels: tuple[float, ...]  # quantiles of its values, for numbers to compare it with

    @property
    def key(self) -> tuple[str, str, tuple[str, ...]]:
        return self.name, self.output, self.series


class Term(msgspec.Struct, frozen=True, tag=True):
    """A value: a column, or a function's output."""

    fact: int  # its place in the facts
    numbers: tuple[float, ...] = ()
    lag: int = 0


class Level(msgspec.Struct, frozen=True, tag=True):
    """A number."""

    number: float


class Compare(msgspec.Struct, frozen=True, tag=True):
    """`left > right`, or by another sign or function."""

    sign: Literal[">", "<", "cross_above", "cross_below"]
    left: Term
    right: Term | Level


class Says(msgspec.Struct, frozen=True, tag=True):
    """A function that is a condition by itself."""

    term: Term


class Not(msgspec.Struct, frozen=True, tag=True):
    """The opposite."""

    what: Tree


class Join(msgspec.Struct, frozen=True, tag=True):
    """Both, or either."""

    word: Literal["and", "or"]
    left: Tree
    right: Tree


Tree: TypeAlias = "Compare | Says | Not | Join"
Facts: TypeAlias = tuple[Fact, ...]


def size(tree: Tree | Term | Level) -> int:
    """How many nodes: what the price is paid for."""
    if isinstance(tree, Level):
        return 1
    if isinstance(tree, Term):
        return 1 + (tree.lag > 0)
    if isinstance(tree, Says):
        return size(tree.term)
    if isinstance(tree, Not):
        return 1 + size(tree.what)
    return 1 + size(tree.left) + size(tree.right)


def write(tree: Tree, facts: Facts) -> str:
    """The formula. Equal conditions have equal texts: joined ones are put in order, each once."""
    return _written(tree, facts)


def _written(tree: Tree, facts: Facts) -> str:
    if isinstance(tree, Join):
        parts = sorted(set(_parts(tree, tree.word, facts)))
        return f" {tree.word} ".join(parts)
    if isinstance(tree, Not):
        return f"not ({_written(tree.what, facts)})"
    if isinstance(tree, Says):
        return _term(tree.term, facts)
    left = _term(tree.left, facts)
    right = _term(tree.right, facts) if isinstance(tree.right, Term) else _number(tree.right.number)
    if tree.sign in ("cross_above", "cross_below"):
        return f"{tree.sign}({left}, {right})"
    if isinstance(tree.right, Term) and right < left:  # a > b is b < a
        return f"{right} {'<' if tree.sign == '>' else '>'} {left}"
    return f"{left} {tree.sign} {right}"


def _parts(tree: Tree, word: str, facts: Facts) -> Iterator[str]:
    if isinstance(tree, Join) and tree.word == word:
        yield from _parts(tree.left, word, facts)
        yield from _parts(tree.right, word, facts)
    else:
        text = _written(tree, facts)
        yield f"({text})" if isinstance(tree, Join) else text


def _term(term: Term, facts: Facts) -> str:
    fact = facts[term.fact]
    if not fact.name:
        text = fact.series[0]
    else:
        arguments = [*fact.series, *(_number(n) for n in term.numbers)]
        text = f"{fact.name}({', '.join(arguments)})" + (f".{fact.output}" if fact.output else "")
    return f"{text}[{term.lag}]" if term.lag else text


def _number(number: float) -> str:
    return f"{number:.12g}" if abs(number) < 1e15 else repr(number)


# ---------------------------------------------------------------- what the data says about the words


def survey(data: Any, objective: ConditionObjective, vocabulary: Vocabulary, span: Span) -> Facts:
    """Every term the vocabulary makes, with its unit and its usual values. Raises `UsageError` (`unknown_function`)."""
    bars = objective.bars(data, span)
    known = {function.name: function for function in functions()}
    columns = [*_PRICES] + (["volume"] if vocabulary.volume and np.isfinite(bars.volume).mean() > 0.9 else [])
    facts = [Fact("", "", (name,), "volume" if name == "volume" else "price", (), ()) for name in columns]
    for name in vocabulary.functions:
        if name not in known:
            raise UsageError(
                "unknown_function",
                Text("There is no function {name!r}.", {"name": name}),
                Text("`watchhamster formula --functions` lists them."),
            )
        function = known[name]
        if len(function.series) > 1 or function.word or function.conditions:
            continue
        columns_of = [("close",)] + ([("volume",)] if "volume" in columns and function.group == "overlap" else [])
        for series in columns_of if function.series else [()]:
            numbers = _ranges(function)
            for output in function.outputs or ("",):
                fact = Fact(name, output, series, "other", numbers, ())
                looked = _look(fact, function, bars)
                if looked is not None:
                    facts.append(looked)
    return tuple(facts)


def _ranges(function: Function) -> tuple[tuple[float, float, float, bool], ...]:
    found = []
    for parameter in function.parameters:
        default = 10.0 if parameter.default is None else float(parameter.default)
        if not parameter.whole:
            low, high = sorted((default / 2, default * 2))
        elif default < 1 or "matype" in parameter.name:
            low = high = default  # a choice, not a length
        else:
            low, high = 2.0, float(_PERIOD_MOST)
        found.append((default, max(low, parameter.least), min(high, parameter.most), parameter.whole))
    return tuple(found)


def _look(fact: Fact, function: Function, bars: Bars) -> Fact | None:
    """The fact with its unit and levels; None for what says nothing here."""
    text = _term(Term(0, tuple(number[0] for number in fact.numbers)), (fact,))
    try:
        values = parse(text).over(bars)
    except UsageError:
        return None
    if values.kind == "bool":
        share = float(values.true.mean()) if len(values) else 0.0
        return msgspec.structs.replace(fact, unit="condition") if 0 < share < 1 else None
    real = values.data[values.defined]
    if len(real) < 0.5 * len(bars) or np.ptp(real) == 0:
        return None
    for unit, column in (("price", bars.close), ("volume", bars.volume)):
        against = column[values.defined]
        usual = np.abs(real - against) < (_NEAR if unit == "price" else 1.0) * np.abs(against)
        if usual.mean() > 0.6 and (unit == "price" or fact.series == ("volume",)):
            return msgspec.structs.replace(fact, unit=unit)
    levels = tuple(dict.fromkeys(_rounded(float(q)) for q in np.quantile(real, _QUANTILES)))
    return msgspec.structs.replace(fact, levels=levels)


def _rounded(number: float) -> float:
    """Two digits are all that a level is known to."""
    return float(f"{number:.2g}")


# ---------------------------------------------------------------- breeding


class Brood(msgspec.Struct, frozen=True):
    """What the next generation follows from."""

    facts: Facts
    vocabulary: Vocabulary
    seed: int
    generation: int
    wanted: int
    largest: int


def breed(brood: Brood, parents: Sequence[tuple[Tree, float]], seen: frozenset[str]) -> list[tuple[str, Tree]]:
    """New formulas, none of which was seen: crossed and mutated from the parents, best first, or made up."""
    maker = _Maker(brood)
    found: dict[str, Tree] = {}
    for _ in range(_TRIES * brood.wanted):
        if len(found) == brood.wanted:
            break
        tree = maker.child(parents)
        if size(tree) > brood.largest:
            continue
        text = write(tree, brood.facts)
        if text in seen or text in found:
            continue
        try:
            if parse(text).kind != "bool":
                continue
        except UsageError:  # such as what can only ever be true
            continue
        found[text] = tree
    return list(found.items())


class _Maker:
    """Makes trees, at random but for the seed."""

    def __init__(self, brood: Brood) -> None:
        self.facts = brood.facts
        self.words = brood.vocabulary
        self.largest = brood.largest
        self.draw = np.random.default_rng([brood.seed % 2**63, brood.generation])
        self.terms = [n for n, fact in enumerate(self.facts) if fact.unit != "condition"]
        self.claims = [n for n, fact in enumerate(self.facts) if fact.unit == "condition"]
        # Columns are few among many functions, and only make sense beside others: they are not begun with.
        self.first = [n for n in self.terms if self.facts[n].name] or self.terms

    def child(self, parents: Sequence[tuple[Tree, float]]) -> Tree:
        if not parents or self.draw.random() < 0.1:
            return self.tree(int(self.draw.integers(0, 3)))
        one = self.choose(parents)
        if self.draw.random() < 0.4:
            return self.cross(one, self.choose(parents))
        return self.mutate(one)

    def choose(self, parents: Sequence[tuple[Tree, float]]) -> Tree:
        """The best of three, where the best come first."""
        return parents[int(self.draw.integers(0, len(parents), 3).min())][0]

    # -- made up

    def tree(self, depth: int) -> Tree:
        if depth > 0 and self.draw.random() < 0.7:
            word: Literal["and", "or"] = "and" if self.draw.random() < 0.75 else "or"
            return Join(word, self.tree(depth - 1), self.tree(depth - 1))
        if self.words.negations and self.draw.random() < 0.03:
            return Not(self.claim())
        return self.claim()

    def claim(self) -> Tree:
        if self.claims and self.draw.random() < len(self.claims) / len(self.facts):
            return Says(self.term(self.pick(self.claims)))
        left = self.term(self.pick(self.first))
        crosses = self.words.crosses and self.draw.random() < 0.25
        up = self.draw.random() < 0.5
        sign: Literal[">", "<", "cross_above", "cross_below"] = (
            ("cross_above" if up else "cross_below") if crosses else (">" if up else "<")
        )
        return Compare(sign, left, self.beside(left))

    def beside(self, left: Term) -> Term | Level:
        """Something that a term can be compared with."""
        fact = self.facts[left.fact]
        if fact.unit == "other":
            if self.words.lags and self.draw.random() < 0.1:
                return msgspec.structs.replace(left, lag=left.lag + int(self.draw.integers(1, _LAG_MOST + 1)))
            return Level(self.pick(fact.levels)) if fact.levels else Level(0.0)
        return self.term(self.pick([n for n in self.terms if self.facts[n].unit == fact.unit]))

    def term(self, place: int) -> Term:
        numbers = tuple(self.length(*number) for number in self.facts[place].numbers)
        lag = int(self.draw.integers(1, _LAG_MOST + 1)) if self.words.lags and self.draw.random() < 0.05 else 0
        return Term(place, numbers, lag)

    def length(self, default: float, least: float, most: float, whole: bool) -> float:
        """Usually what it usually is; else anything, short ones as likely as long ones."""
        if least >= most or self.draw.random() < 0.3:
            return default
        if least <= 0:
            return _rounded(float(self.draw.uniform(least, most)))
        value = math.exp(self.draw.uniform(math.log(least), math.log(most)))
        return float(round(value)) if whole else _rounded(value)

    def pick(self, options: Sequence[Any]) -> Any:
        return options[int(self.draw.integers(len(options)))]

    # -- made from others

    def cross(self, one: Tree, other: Tree) -> Tree:
        """A part of one in place of a part of the other; or both joined."""
        gift = self.pick(list(_subtrees(other)))
        if self.draw.random() < 0.3:
            return Join("and" if self.draw.random() < 0.75 else "or", one, gift)
        spot = int(self.draw.integers(sum(1 for _ in _subtrees(one))))
        return _replaced(one, spot, lambda _: gift)

    def mutate(self, tree: Tree) -> Tree:
        spot = int(self.draw.integers(sum(1 for _ in _subtrees(tree))))
        return _replaced(tree, spot, self.changed)

    def changed(self, tree: Tree) -> Tree:
        kind = self.draw.random()
        if kind < 0.15:
            return self.tree(1)
        if isinstance(tree, Join):
            if kind < 0.4:
                return tree.left
            if kind < 0.65:
                return tree.right
            return Join("or" if tree.word == "and" else "and", tree.left, tree.right)
        if isinstance(tree, Not):
            return tree.what
        if isinstance(tree, Says):
            return Says(self.jittered(tree.term)) if kind < 0.8 or not self.words.negations else Not(tree)
        if kind < 0.3:
            return Join("and" if self.draw.random() < 0.75 else "or", tree, self.claim())
        if kind < 0.4:
            opposite = {">": "<", "<": ">", "cross_above": ">", "cross_below": "<"}
            return Compare(opposite[tree.sign], tree.left, tree.right)  # type: ignore[arg-type]
        if kind < 0.7:
            return Compare(tree.sign, self.jittered(tree.left), tree.right)
        if isinstance(tree.right, Level):
            return Compare(tree.sign, tree.left, self.level(tree))
        return Compare(tree.sign, tree.left, self.jittered(tree.right) if kind < 0.85 else self.beside(tree.left))

    def level(self, tree: Compare) -> Level:
        """A number near by: a few quantiles up or down, or a little more or less."""
        assert isinstance(tree.right, Level)
        levels, here = self.facts[tree.left.fact].levels, tree.right.number
        if levels and self.draw.random() < 0.6:
            place = int(np.searchsorted(levels, here)) + int(self.draw.integers(-4, 5))
            return Level(levels[min(len(levels) - 1, max(0, place))])
        return Level(_rounded(here * float(self.draw.uniform(0.8, 1.25))))

    def jittered(self, term: Term) -> Term:
        """The same with other numbers, near by."""
        numbers = list(term.numbers)
        free = [n for n, (_, least, most, _) in enumerate(self.facts[term.fact].numbers) if least < most]
        if not free:
            return term
        n = self.pick(free)
        _, least, most, whole = self.facts[term.fact].numbers[n]
        value = numbers[n] * float(self.draw.uniform(0.7, 1.4))
        moved = float(round(value)) if whole else _rounded(value)
        if whole and moved == numbers[n]:
            moved += 1.0 if self.draw.random() < 0.5 else -1.0
        numbers[n] = min(most, max(least, moved))
        return msgspec.structs.replace(term, numbers=tuple(numbers))


def _subtrees(tree: Tree) -> Iterator[Tree]:
    """Every condition in it, itself first."""
    yield tree
    if isinstance(tree, Join):
        yield from _subtrees(tree.left)
        yield from _subtrees(tree.right)
    elif isinstance(tree, Not):
        yield from _subtrees(tree.what)


def _replaced(tree: Tree, spot: int, by: Callable[[Tree], Tree]) -> Tree:
    """The tree with its condition number `spot` changed."""
    if spot == 0:
        return by(tree)
    if isinstance(tree, Not):
        return Not(_replaced(tree.what, spot - 1, by))
    assert isinstance(tree, Join)
    left = sum(1 for _ in _subtrees(tree.left))
    if spot <= left:
        return Join(tree.word, _replaced(tree.left, spot - 1, by), tree.right)
    return Join(tree.word, tree.left, _replaced(tree.right, spot - 1 - left, by))


def beside_of(tree: Tree, facts: Facts) -> list[str]:
    """The same condition with one of its numbers a little more or less."""
    found: dict[str, None] = {}
    for spot, part in enumerate(_subtrees(tree)):
        for other in _nudged(part, facts):
            found[write(_replaced(tree, spot, lambda _, other=other: other), facts)] = None  # type: ignore[misc]
    found.pop(write(tree, facts), None)
    return [text for text in list(found)[:_BESIDE_MOST] if _is_valid(text)]


def _is_valid(text: str) -> bool:
    try:
        return parse(text).kind == "bool"
    except UsageError:
        return False


def _nudged(part: Tree, facts: Facts) -> Iterator[Tree]:
    if isinstance(part, Says):
        for term in _nudged_terms(part.term, facts):
            yield Says(term)
    elif isinstance(part, Compare):
        for term in _nudged_terms(part.left, facts):
            yield Compare(part.sign, term, part.right)
        if isinstance(part.right, Term):
            for term in _nudged_terms(part.right, facts):
                yield Compare(part.sign, part.left, term)
        else:
            for factor in (0.95, 1.05):
                yield Compare(part.sign, part.left, Level(float(f"{part.right.number * factor:.3g}")))


def _nudged_terms(term: Term, facts: Facts) -> Iterator[Term]:
    for n, (_, least, most, whole) in enumerate(facts[term.fact].numbers):
        step = max(1.0, round(term.numbers[n] * 0.05)) if whole else term.numbers[n] * 0.05
        for value in (term.numbers[n] - step, term.numbers[n] + step):
            if least <= value <= most and value != term.numbers[n]:
                numbers = (*term.numbers[:n], value, *term.numbers[n + 1 :])
                yield msgspec.structs.replace(term, numbers=numbers)


# ---------------------------------------------------------------- the plan


def search_conditions(
    plan: ConditionSearch, objective: ConditionObjective, known: Sequence[Trial] = (), *, width: int = 1
) -> Plan[Findings]:
    """The whole of a search, as `optimise` does it: the best formula by the goal less the price of its size.

    `Findings.front` holds the ten best. Raises `UsageError` as `optimise` and `survey` do.
    """
    runner = Runner(plan.run, objective, (plan.goal,), plan.constraints, known, width)
    runner.total = plan.trials
    facts = yield from runner.ask(Call(survey, (objective, plan.vocabulary, plan.span), with_data=True))
    trees: dict[str, Tree] = {}
    found: list[Trial] = []
    generation = 0

    def fitness(trial: Trial) -> float:
        return runner.rank(trial) - plan.price * size(trees[trial.formula])

    while len(found) < plan.trials:
        parents = sorted(found, key=lambda trial: (-_known(fitness(trial), runner, trial), trial.number))[:_POOL]
        brood = Brood(
            facts,
            plan.vocabulary,
            plan.seed,
            generation,
            min(plan.population * (1 if generation else 2), plan.trials - len(found)),
            plan.largest,
        )
        ranked = [(trees[trial.formula], 0.0) for trial in parents]
        born = yield from runner.ask(Call(breed, (brood, ranked, frozenset(trees))))
        if not born:
            break
        trees.update(born)
        found += yield from runner.evaluate([text for text, _ in born], plan.span)
        generation += 1
    allowed = sorted((t for t in found if t.rejected is None), key=lambda trial: (-fitness(trial), trial.number))
    if not allowed:
        yield runner.step(())
        return Findings(runner.trials, None)
    best = allowed[0]
    beside = beside_of(trees[best.formula], facts)
    trust, crossed = yield from judge(
        runner, best, found, beside, plan.span, plan.goal, seed_of(plan.seed, 0), plan.past_trials
    )
    return Findings(runner.trials, best, tuple(allowed[:_HALL]), None, crossed, trust)


def _known(value: float, runner: Runner, trial: Trial) -> float:
    """Rejected ones are parents, too, while there is nothing better: the least wrong first."""
    return value if math.isfinite(value) else runner.values([trial])[0][0] - 1e6
