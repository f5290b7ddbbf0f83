"""The search among conditions: it finds what is there, in plain formulas, the same ones each time."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from tests.backtest.planted import SPAN, Hold, market
from tests.backtest.test_optimise import Table, here
from watchhamster.backtest.optimise import Findings, constraints, goals
from watchhamster.backtest.search import (
    Brood,
    Compare,
    ConditionSearch,
    Facts,
    Join,
    Level,
    Not,
    Term,
    Vocabulary,
    beside_of,
    breed,
    search_conditions,
    size,
    survey,
    write,
)
from watchhamster.backtest.trust import Change
from watchhamster.core.ports import UsageError
from watchhamster.engine.clock import SystemClock
from watchhamster.engine.searching import carry_out
from watchhamster.engine.workers import WorkerPool
from watchhamster.formula import parse

WORDS = Vocabulary(("rsi", "sma", "adx", "bbands", "macd", "obv", "rising"))


def settings(**changes: Any) -> ConditionSearch:
    chosen: dict[str, Any] = {
        "run": "conditions",
        "goal": goals("sharpe")[0],
        "span": SPAN,
        "vocabulary": WORDS,
        "trials": 256,
        "constraints": constraints([]),
        "price": 0.05,
    }
    return ConditionSearch(**{**chosen, **changes})


def looked(words: Vocabulary = WORDS) -> Facts:
    return survey(market(), Hold(), words, SPAN)


def fact(facts: Facts, name: str, output: str = "", series: tuple[str, ...] = ("close",)) -> int:
    return next(n for n, f in enumerate(facts) if f.key == (name, output, series))


def outside(findings: Findings, seed: int) -> float:
    """The Sharpe ratio of what was found, on another history of the same market."""
    assert findings.best is not None
    (score,) = Hold().score(market(seed), [findings.best.formula], SPAN, Change())
    return score.metrics["sharpe"] or 0.0


@pytest.mark.parametrize("seed", [1, 2])
def test_a_planted_rule_is_found(seed: int) -> None:
    """The market rises after RSI(14) was below 30: what is found must say so of a history it never saw."""
    found = here(search_conditions(settings(seed=seed, trials=384), Hold()), market())
    assert found.best is not None
    (secret,) = Hold().score(market(9), ["rsi(close, 14) < 30"], SPAN, Change())
    assert outside(found, 9) > 0.6 * (secret.metrics["sharpe"] or 0.0) > 3.0
    said = parse(found.best.formula).over(market(9)).true
    rsi = parse("rsi(close, 14)").over(market(9)).data
    assert np.nanmean(rsi[said]) < 42  # 50 on the whole: it is in the market when RSI is low, however it says so
    assert found.trust is not None
    assert found.trust.stress is not None
    assert (found.trust.stress.random_probability or 1) < 0.05


def test_where_nothing_is_planted_nothing_is_trusted() -> None:
    found = here(search_conditions(settings(), Hold()), market(1, 0.0))
    assert found.best is not None
    assert found.trust is not None
    assert found.trust.grade not in ("trustworthy", "plausible")
    assert found.trust.trials >= 256


def test_formulas_are_plain_valid_small_and_tried_once() -> None:
    found = here(search_conditions(settings(largest=9), Hold()), market())
    tried = [trial for trial in found.trials if trial.stage == "search"]
    texts = [trial.formula for trial in tried]
    assert len(texts) == len(set(texts)) == 256
    assert all(parse(text).kind == "bool" for text in texts)
    assert max(map(len, texts)) < 250
    assert found.front[0] == found.best
    assert found.line()["best"] is not None
    early, late = ([t.metrics["sharpe"] or 0.0 for t in part] for part in (tried[:128], tried[-64:]))
    assert np.mean(late) > np.mean(early) + 1  # it learns


def test_what_can_be_compared_is_learnt_from_the_data() -> None:
    facts = looked()
    units = {f.key: f.unit for f in facts}
    assert units["", "", ("close",)] == units["sma", "", ("close",)] == units["bbands", "upper", ("close",)] == "price"
    assert units["", "", ("volume",)] == units["sma", "", ("volume",)] == "volume"
    assert units["rsi", "", ("close",)] == units["macd", "hist", ("close",)] == units["obv", "", ()] == "other"
    assert units["rising", "", ("close",)] == "condition"
    levels = facts[fact(facts, "rsi")].levels
    assert 0 < min(levels) < 40 < 60 < max(levels) < 100
    with pytest.raises(UsageError) as unknown:
        looked(Vocabulary(("rsy",)))
    assert unknown.value.code == "unknown_function"


def test_equal_conditions_have_equal_texts() -> None:
    facts = looked()
    rsi, close = fact(facts, "rsi"), fact(facts, "")
    low = Compare("<", Term(rsi, (14.0,)), Level(30.0))
    up = Compare(">", Term(close), Term(fact(facts, "sma"), (20.0,)))
    down = Compare("<", Term(fact(facts, "sma"), (20.0,)), Term(close))
    assert write(up, facts) == write(down, facts) == "close > sma(close, 20)"
    one, other = Join("and", low, Join("and", up, low)), Join("and", down, low)
    assert write(one, facts) == write(other, facts) == "close > sma(close, 20) and rsi(close, 14) < 30"
    mixed = Join("or", Not(other), Compare("cross_above", Term(close, (), 2), Term(close)))
    assert write(mixed, facts) == (
        "cross_above(close[2], close) or not (close > sma(close, 20) and rsi(close, 14) < 30)"
    )
    assert size(low) == 3
    assert size(mixed) == 1 + 1 + size(other) + 4
    nested = Join("and", Join("or", low, up), Join("or", up, low))
    assert write(nested, facts) == "(close > sma(close, 20) or rsi(close, 14) < 30)"


def test_beside_a_formula_are_its_neighbours() -> None:
    facts = looked()
    low = Compare("<", Term(fact(facts, "rsi"), (14.0,)), Level(30.0))
    assert beside_of(low, facts) == [
        "rsi(close, 13) < 30",
        "rsi(close, 15) < 30",
        "rsi(close, 14) < 28.5",
        "rsi(close, 14) < 31.5",
    ]


def test_size_has_its_price() -> None:
    dear = here(search_conditions(settings(price=1.0, trials=160), Hold()), market())
    free = here(search_conditions(settings(price=0.0, trials=160), Hold()), market())
    assert dear.best is not None
    assert free.best is not None
    assert len(dear.best.formula) <= len(free.best.formula)
    assert (dear.best.metrics["sharpe"] or 0) <= (free.best.metrics["sharpe"] or 0)
    assert " and " not in dear.best.formula


def test_breeding_follows_from_its_seed_and_never_repeats() -> None:
    brood = Brood(looked(), WORDS, 5, 3, 50, 12)
    low = Compare("<", Term(fact(brood.facts, "rsi"), (14.0,)), Level(30.0))
    first = breed(brood, [(low, 0.0)], frozenset())
    assert first == breed(brood, [(low, 0.0)], frozenset())
    assert len(first) == 50
    seen = frozenset(text for text, _ in first)
    assert not seen & {text for text, _ in breed(brood, [(low, 0.0)], seen)}
    assert msgspec.json.decode(msgspec.json.encode([tree for _, tree in first]))  # they can be sent anywhere
    assert first != breed(msgspec.structs.replace(brood, seed=6), [(low, 0.0)], frozenset())


async def test_over_the_pool_and_after_a_cut_it_is_the_same() -> None:
    plan = settings(trials=120, population=20)
    alone = here(search_conditions(plan, Hold()), market())
    table = Table()
    async with WorkerPool(size=2) as pool, pool.sharing(market()) as data:
        steps = search_conditions(plan, Hold(), width=2)
        both = await carry_out(steps, pool, plan.run, clock=SystemClock(), table=table, data=data)
        assert [t.line() for t in both.trials] == [t.line() for t in alone.trials]
        half = [trial for number, trial in table.kept.items() if number < 100]
        steps = search_conditions(plan, Hold(), half, width=2)
        resumed = await carry_out(steps, pool, plan.run, clock=SystemClock(), table=Table(half), data=data)
    assert resumed.line() == alone.line()
