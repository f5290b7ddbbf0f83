"""The form that reads a formula at every key, and the rules it makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from tests.ui.conftest import Drive, errands, settled
from tests.ui.fakes import FakeEngine
from watchhamster.core.ports import Unavailable
from watchhamster.core.text import Text
from watchhamster.formula import Library
from watchhamster.monitor.alerts import Rule
from watchhamster.ui.language import switch_language
from watchhamster.ui.rule_form import FormulaField, RuleForm, RuleList, price_alert, price_of
from watchhamster.ui.shell import MessageLine

BTC = "upbit:KRW-BTC"


@pytest.fixture
def field(look: QApplication, qtbot: QtBot) -> FormulaField:
    field = FormulaField()
    qtbot.addWidget(field)
    field.show()
    field.edit.setFocus()
    return field


def test_a_condition_is_understood(field: FormulaField) -> None:
    field.set_text("cross_above(close, sma(close, 20))")
    assert field.formula is not None
    assert field.error is None
    assert not field._mark.isVisible()


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("close > smaa(close, 20)", 8, "sma"),
        ("close >", 7, ""),
        ("close + 1", 0, "not a condition"),
        ("close > 1 && open > 2", 10, "and"),
    ],
)
def test_a_mistake_is_said_with_its_place_at_once(field: FormulaField, text: str, position: int, says: str) -> None:
    field.set_text(text)
    assert field.formula is None
    assert field._mark.isVisible()
    assert field._mark._position == position
    assert says in field.sentence()
    assert field.edit.accessibleDescription() == field.sentence()


def test_saved_formulas_and_longer_bars_are_known(look: QApplication, qtbot: QtBot) -> None:
    field = FormulaField(Library({"dear": "dear(x, n=10) = x > n"}))
    qtbot.addWidget(field)
    field.set_text('dear(close) and close > at("1h", close)')
    assert field.formula is not None
    assert "dear(x, n=10)" in field._says
    field.set_timeframe("4h")
    assert "not longer" in field.sentence()


def test_the_probable_name_is_one_press_away(field: FormulaField) -> None:
    field.set_text("close > smaa(close, 20)")
    assert field._fix.text() == "Write sma"
    field._fix.click()
    assert field.text() == "close > sma(close, 20)"
    assert field.formula is not None


def test_functions_are_completed_while_one_types(field: FormulaField) -> None:
    QTest.keyClicks(field.edit, "close > highe")
    popup = field._popup()
    assert popup.isVisible()
    QTest.keyClick(field.edit, Qt.Key.Key_Tab)
    assert field.text() == "close > highest()"
    assert field.edit.cursorPosition() == len("close > highest(")
    assert not popup.isVisible()


def test_the_word_at_the_cursor_is_explained_in_the_language(field: FormulaField, look: QApplication) -> None:
    field.set_text("rsi(close, 14) < 30")
    field.edit.setCursorPosition(2)
    field._show()
    assert field.sentence().startswith("rsi(x, timeperiod=14): ")
    switch_language(look, "qps")
    assert "[" in field.sentence()


def inside(drive: Drive[Any], engine: FakeEngine, steps: Callable[..., Any], rule: Rule | None = None) -> None:
    """Run steps with a form on a rule."""

    async def case() -> None:
        window = QWidget()
        window.show()
        async with errands() as (work, told):
            form = RuleForm(window, engine, work, rule or Rule(name="", formula="", instruments=(BTC,)))  # type: ignore[arg-type]
            form.show()
            await steps(form, work)
            await settled(work)
        assert told == []
        window.deleteLater()

    drive(case())


def test_a_rule_is_made_as_the_form_says(drive: Drive[Any], engine: FakeEngine) -> None:
    async def steps(form: RuleForm, work: Any) -> None:
        form.name.setText("Golden cross")
        form.formula.set_text("cross_above(sma(close, 10), sma(close, 30))")
        form.instruments.setText("upbit:KRW-BTC,  upbit:KRW-ETH")
        form.timeframe.setCurrentText("1h")
        form.lasting._number.setValue(5)
        form.lasting._unit.setCurrentIndex(1)
        form.severity.setCurrentIndex(form.severity.findData("critical"))
        form.channels["dooray"].setChecked(True)
        form.repeat.setChecked(False)
        form.save()
        await settled(work)

    inside(drive, engine, steps)
    (rule,) = engine.rules()
    assert (rule.name, rule.timeframe, rule.for_s, rule.severity, rule.repeat) == (
        "Golden cross",
        "1h",
        300.0,
        "critical",
        False,
    )
    assert rule.instruments == ("upbit:KRW-BTC", "upbit:KRW-ETH")
    assert rule.channels == ("desktop", "inbox", "dooray")


@pytest.mark.parametrize(
    ("formula", "instruments", "says"),
    [
        ("", BTC, "needs a condition"),
        ("close > ", BTC, ""),
        ("close > open", "", "needs an instrument"),
        ("close > open", "upbit:KRW-NOPE", "not an instrument"),
    ],
)
def test_what_is_no_rule_yet_is_not_saved(
    drive: Drive[Any], engine: FakeEngine, formula: str, instruments: str, says: str
) -> None:
    async def steps(form: RuleForm, work: Any) -> None:
        form.formula.set_text(formula)
        form.instruments.setText(instruments)
        form.save()
        await settled(work)
        assert bool(says) == bool(form.problem())  # what is wrong with the formula stands under it, and only there
        assert says in form.problem() and (says or form.formula.sentence().startswith("■"))
        assert form.isVisible()

    inside(drive, engine, steps)
    assert engine.rules() == []


def test_it_says_what_it_would_have_done(drive: Drive[Any], engine: FakeEngine) -> None:
    async def steps(form: RuleForm, work: Any) -> None:
        form.formula.set_text("close > open")
        assert "Trying" in form.trial()
        form._wait.timeout.emit()
        await settled(work)
        assert form.trial() == "It would have fired 7 times in the last 6 days."
        form.timeframe.setCurrentText("1h")  # longer bars, longer history
        form._wait.timeout.emit()
        await settled(work)
        assert form.trial() == "It would have fired 7 times in the last 30 days."

    inside(drive, engine, steps)


def test_an_answer_about_an_older_formula_is_not_shown(drive: Drive[Any], engine: FakeEngine) -> None:
    async def steps(form: RuleForm, work: Any) -> None:
        form.formula.set_text("close > open")
        form._try()
        form.formula.set_text("close > open + 1")
        await settled(work)
        assert "Trying" in form.trial()

    inside(drive, engine, steps)


def test_a_trial_that_fails_says_why(drive: Drive[Any], engine: FakeEngine) -> None:
    async def refuse(*_arguments: Any) -> Any:
        raise Unavailable("gone", Text("Upbit does not answer."))

    engine.try_rule = refuse  # type: ignore[method-assign, assignment]

    async def steps(form: RuleForm, work: Any) -> None:
        form.formula.set_text("close > open")
        form._try()
        await settled(work)
        assert form.trial() == "Upbit does not answer."

    inside(drive, engine, steps)


def test_changing_a_rule_keeps_what_the_form_does_not_show(drive: Drive[Any], engine: FakeEngine) -> None:
    rule = Rule(id=3, name="x", formula="close > open", instruments=(BTC,), cooldown_s=7200, first_bar_ns=5)
    engine._rules = [rule]

    async def steps(form: RuleForm, work: Any) -> None:
        assert form.cooldown.seconds() == 7200
        form.name.setText("y")
        form.save()
        await settled(work)

    inside(drive, engine, steps, rule)
    (saved,) = engine.rules()
    assert (saved.id, saved.name, saved.first_bar_ns, saved.cooldown_s) == (3, "y", 5, 7200)


# ---------------------------------------------------------------- price alerts


@pytest.mark.parametrize(("price", "formula"), [(96_000_000.0, "high >= 96000000"), (9e7, "low <= 90000000")])
def test_a_price_alert_waits_on_the_right_side(engine: FakeEngine, price: float, formula: str) -> None:
    rule = price_alert(engine, BTC, price, repeat=True)  # type: ignore[arg-type]
    assert rule is not None
    assert rule.formula == formula
    assert price_of(rule) == price


def test_without_a_price_there_is_no_side(engine: FakeEngine) -> None:
    engine.board.forget(BTC)
    assert price_alert(engine, BTC, 1.0, repeat=False) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("formula", ["close > sma(close, 20)", "high >= 1 and low <= 2", "volume >= 5"])
def test_other_rules_are_no_price_alerts(formula: str) -> None:
    assert price_of(Rule(name="", formula=formula, instruments=(BTC,), forming=True)) is None


@pytest.mark.parametrize("price", [0.0142, 1e-8, 123.45, 95_123_000.0])
def test_every_price_is_read_back(engine: FakeEngine, price: float) -> None:
    rule = price_alert(engine, BTC, price, repeat=False)  # type: ignore[arg-type]
    assert rule is not None
    assert price_of(rule) == price


# ---------------------------------------------------------------- the list


def test_rules_are_switched_and_the_selection_stays(drive: Drive[Any], engine: FakeEngine) -> None:
    engine._rules = [Rule(id=i, name=f"rule {i}", formula="close > open", instruments=(BTC,)) for i in range(1, 4)]

    async def case() -> None:
        window = QWidget()
        async with errands() as (work, _told):
            rules = RuleList(engine, work, MessageLine(window))  # type: ignore[arg-type]
            rules.show()
            rules.list.setCurrentRow(1)
            rules._switch.click()
            await settled(work)
            assert [rule.enabled for rule in engine.rules()] == [True, False, True]
            assert rules.list.currentRow() == 1
            assert rules._switch.text() == "Switch on"
            rules.deleteLater()
        window.deleteLater()

    drive(case())
