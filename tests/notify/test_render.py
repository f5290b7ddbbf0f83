"""One tree for every channel, with nothing a stranger's text could break."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from watchhamster.core.text import Text
from watchhamster.monitor.alerts import Alert, Parcel
from watchhamster.notify.render import cut, cut_tree, number, render

AT = 1_763_625_600_000_000_000  # 2025-11-20 08:00:00 UTC


def alert(**changes: Any) -> Alert:
    fields: dict[str, Any] = {
        "id": 17,
        "key": "rule:7:upbit:KRW-BTC",
        "name": "Golden cross",
        "instrument": "upbit:KRW-BTC",
        "timeframe": "1h",
        "fired_ns": AT,
        "price": 95123000.0,
        "values": {"rsi(close, 14)": 71.25},
        "text": Text("{name} holds.", {"name": "Golden cross"}),
        "severity": "critical",
    }
    return Alert(**(fields | changes))


def test_the_tree_of_one_alert() -> None:
    message = render(Parcel(alerts=(alert(late_s=11_400),)), "Asia/Seoul")
    assert message.text().splitlines() == [
        "🔴 Golden cross",
        "├ what: Golden cross holds.",
        "├ instrument: upbit:KRW-BTC 1h",
        "├ price: 95,123,000",
        "├ rsi(close, 14): 71.25",
        "├ time: 2025-11-20 17:00:00 KST",
        "├ late: noticed 3 h 10 m late",
        "├ severity: critical",
        "└ id: 17",
    ]
    assert message.colour == "#dc3545"


def test_repeats_tests_resolution_and_revision_are_said() -> None:
    message = render(Parcel(alerts=(alert(revised=True),), repeated=True, test=True))
    assert message.title == "🧪 [TEST] 🔴 Golden cross"
    assert "this may have arrived before" in message.tree and "since corrected" in message.tree
    resolved = render(Parcel(alerts=(alert(resolved_ns=AT + 60 * 10**9),)))
    assert resolved.title.startswith("🟢") and resolved.colour == "#28a745"
    assert "├ resolved: 2025-11-20 08:01:00 UTC" in resolved.tree


def test_folded_alerts_of_one_matter_show_the_newest_and_the_count() -> None:
    message = render(Parcel(alerts=(alert(id=1), alert(id=2, fired_ns=AT + 30 * 10**9, price=1.0))))
    assert message.title == "🔴 Golden cross (2 alerts)"
    assert "├ price: 1\n" in message.tree and "├ since: 2025-11-20 08:00:00 UTC" in message.tree


def test_a_storm_of_different_matters_becomes_a_digest() -> None:
    storm = tuple(alert(id=n, key=f"k{n}", name=f"Rule {n}", severity="info") for n in range(1, 31))
    lines = render(Parcel(alerts=storm)).text().splitlines()
    assert lines[0] == "🔵 30 alerts"
    assert lines[1] == "├ 20 earlier"
    assert len(lines) == 13 and lines[-1] == "└ ids: 1 … 30"


def test_numbers_show_every_digit_and_no_exponent() -> None:
    assert [number(v) for v in (1e-8, 1234567.5, 0.1, True, None, float("nan"), 1e15, -0.5)] == [
        *("0.00000001", "1,234,567.5", "0.1", "yes", "no value", "no value"),
        *("1,000,000,000,000,000", "-0.5"),
    ]


@given(st.text(), st.text(), st.dictionaries(st.text(), st.floats(), max_size=30), st.integers(40, 400))
def test_any_text_stays_a_tree_within_its_length(name: str, what: str, values: dict[str, float], longest: int) -> None:
    message = render(Parcel(alerts=(alert(name=name, text=Text("{t}", {"t": what}), values=values),)))
    text = message.text(longest)
    assert len(text) <= longest
    assert len(message.title) <= 60
    _title, *lines = text.split("\n")
    assert all(line.startswith("├ ") for line in lines[:-1])
    assert lines[-1] == "└ id: 17"


def test_cutting() -> None:
    assert cut("x" * 60, 60) == "x" * 60
    assert cut("x" * 61, 60) == "x" * 57 + "..."
    assert cut_tree("title\n├ a\n├ b\n└ id", 100) == "title\n├ a\n├ b\n└ id"
    assert cut_tree("title\n├ " + "a" * 90 + "\n└ id", 60) == "title\n├ ...\n└ id"
