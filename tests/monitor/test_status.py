"""The status tree: the worst child colours the parent, and the tree reads the same everywhere."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchhamster.core.text import Text
from watchhamster.monitor.status import LAMPS, State, StatusNode, duration, node, render, to_record, worst

STATES: list[State] = list(LAMPS)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((), "unknown"),
        (("muted",), "muted"),
        (("ok", "muted"), "ok"),
        (("ok", "pending"), "pending"),
        (("pending", "unknown"), "unknown"),
        (("warning", "unknown", "ok"), "warning"),
        (("warning", "critical", "unknown"), "critical"),
    ],
)
def test_the_worst_of_states(states: tuple[State, ...], expected: State) -> None:
    assert worst(states) == expected


@given(st.lists(st.sampled_from(STATES), min_size=1), st.sampled_from(STATES))
def test_the_worst_is_one_of_them_and_never_gets_better_by_adding(states: list[State], more: State) -> None:
    found = worst(states)
    assert found in states
    assert worst([found, more]) == worst([*states, more]) == worst([more, *reversed(states)])


def test_a_parent_takes_over_state_and_since_of_its_worst_child() -> None:
    bad = node("upbit", "warning", since_ns=50)
    tree = node(
        "desk", "ok", node("feeds", None, node("other", "ok", since_ns=1), bad), node("jobs", "ok"), since_ns=None
    )
    assert (tree.state, tree.since_ns) == ("warning", 50)
    assert node("feeds", "critical", bad, since_ns=7).since_ns == 7
    assert node("rules").state == "unknown"


def test_the_record_has_every_field_on_every_line_and_is_json() -> None:
    tree = node("desk", None, node("upbit", "ok", value=38.5, age_s=0.2, detail=Text("{n} messages", {"n": 3})))
    record = json.loads(json.dumps(to_record(tree)))
    assert record == {
        "name": "desk",
        "state": "ok",
        "value": None,
        "age_s": None,
        "since_ns": None,
        "detail": None,
        "children": [
            {
                "name": "upbit",
                "state": "ok",
                "value": 38.5,
                "age_s": 0.2,
                "since_ns": None,
                "detail": "3 messages",
                "children": [],
            }
        ],
    }


def test_the_tree_as_text() -> None:
    tree = node(
        "desk",
        None,
        node(
            "feeds",
            None,
            node("upbit", "warning", value="stale", detail=Text("no data"), age_s=11_400),
            node("other", "ok", value=1234567),
        ),
        node("storage", "ok", node("market.db", "muted", value=12.5)),
    )
    assert render(tree).splitlines() == [
        "🟡 desk",
        "├ 🟡 Feeds",
        "│ ├ 🟡 upbit: stale · no data (3 h 10 m)",
        "│ └ 🟢 other: 1,234,567",
        "└ 🟢 Storage",
        "  └ 🔕 market.db: 12.5",
    ]


def test_equal_children_do_not_confuse_the_branches() -> None:
    twin = StatusNode(name="twin", state="ok")
    assert [line[0] for line in render(node("desk", None, twin, twin, twin)).splitlines()[1:]] == ["├", "├", "└"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.9, "0 s"),
        (59.99, "59 s"),
        (60, "1 m"),
        (3599, "59 m"),
        (3600, "1 h"),
        (11_400, "3 h 10 m"),
        (86_400, "1 d"),
        (86_400 * 2 + 4 * 3600 + 59, "2 d 4 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert str(duration(seconds)) == text
