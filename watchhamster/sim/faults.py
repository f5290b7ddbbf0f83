"""Faults on demand: what can go wrong, how it is asked for, and when it holds.

A spec is `[venue.]name[:value][@start[+duration]]`, comma-separated: `drop@5s,mute@10s+8s,yahoo.http429:0.3`. Times
count from when the simulator was ready, or from when the spec was set; without a duration a fault holds until it is
cleared, without a venue it hits all of them. Faults spoil only what is told: what happened (`/sim/truth`) stays.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Literal

import msgspec

from watchhamster.core.ports import UsageError
from watchhamster.core.text import Text

VENUES = ("upbit", "yahoo")
ValueKind = Literal["none", "rate", "number", "word"]


class Kind(msgspec.Struct, frozen=True):
    """What a fault is. `default` is its value where none is given; None: a value is required."""

    meaning: str
    value: ValueKind = "none"
    default: str | None = ""
    once: bool = False  # an event rather than a state
    choices: tuple[str, ...] = ()


_RATE: ValueKind = "rate"
_NUMBER: ValueKind = "number"
FAULTS: dict[str, Kind] = {
    # streams
    "drop": Kind("close every stream with this code (1006: without a close frame)", _NUMBER, "1006", once=True),
    "reset": Kind("reset every TCP connection", once=True),
    "refuse": Kind("refuse handshakes with this HTTP status", _NUMBER, "503"),
    "hang": Kind("accept and never answer: ws, rest or all", "word", "ws", choices=("ws", "rest", "all")),
    "mute": Kind("streams stay open and answer pings, but carry no data"),
    "stall": Kind("streams freeze: nothing is read, answered or sent, and what was due is lost"),
    "trickle": Kind("streams send so many bytes a second", _NUMBER, "1"),
    "garbage": Kind("add unreadable frames, so many per real one", _RATE, "0.05"),
    "corrupt": Kind("spoil this share of frames: cut, invalid UTF-8, flipped bytes", _RATE, "0.05"),
    "absurd": Kind("add frames with NaN, zero, negative or enormous numbers and times", _RATE, "0.05"),
    "unknown": Kind("add frames of unknown types, with nulls or fields missing", _RATE, "0.05"),
    "lose": Kind("drop this share of frames unseen", _RATE, "0.05"),
    "duplicate": Kind("send this share of frames twice", _RATE, "0.1"),
    "reorder": Kind("let this share of frames arrive after later ones", _RATE, "0.1"),
    "late": Kind("send trades up to so many seconds late", _NUMBER, "4"),
    "big": Kind("send one frame of so many bytes", _NUMBER, "2000000", once=True),
    "flood": Kind("repeat real frames, so many a second on each stream", _NUMBER, "4000"),
    "subscribe_error": Kind("answer subscriptions with this error and close", "word", "INVALID_PARAM"),
    "text": Kind("send text frames instead of binary ones"),
    "idle": Kind("close idle streams after so many seconds instead of 60", _NUMBER, "120"),
    # REST
    "http429": Kind("refuse this share of calls as too many", _RATE, "1"),
    "http418": Kind("refuse this share of calls as blocked for 10 seconds", _RATE, "1"),
    "http5xx": Kind("fail this share of calls with 500, 502 or 503", _RATE, "1"),
    "slow": Kind("answer so many seconds late", _NUMBER, "3"),
    "truncate": Kind("break off this share of answers in the middle", _RATE, "1"),
    "html": Kind("answer this share of calls with a web page and status 200", _RATE, "1"),
    "error200": Kind("answer this share of calls with an error object and status 200", _RATE, "1"),
    # REST, Yahoo only
    "http999": Kind("Yahoo: deny this share of calls with status 999 and a page", _RATE, "1"),
    "busy200": Kind("Yahoo: answer this share of calls with Too Many Requests and status 200", _RATE, "1"),
    "empty": Kind("Yahoo: answer this share of calls with status 200 and nothing", _RATE, "1"),
    "consent": Kind("Yahoo: send this share of calls, from who has not agreed, to the consent page", _RATE, "1"),
    "bad_crumb": Kind("Yahoo: refuse this share of calls with a crumb as 401 Invalid Crumb", _RATE, "1"),
    "crumb429": Kind("Yahoo: refuse this share of calls for a crumb as too many", _RATE, "1"),
    "nulls": Kind("Yahoo: leave this share of chart rows without values", _RATE, "0.2"),
    "no_meta": Kind("Yahoo: charts have a null currency and no session table"),
    "no_rows": Kind("Yahoo: charts have no rows, as of a time in which nothing traded"),
    "retry_after": Kind("Yahoo: refusals say to come back after so many seconds", _NUMBER, "120"),
    "live_row": Kind("Yahoo: charts end with the live row even where their window ended before it"),
    # the market as Yahoo tells it
    "delay": Kind("Yahoo: Seoul and London are told so many minutes late", _NUMBER, "20"),
    "halt": Kind("Yahoo: halt this symbol: nothing that trades meanwhile is told", "word", None),
    "skew": Kind("the clock of the venue is so many seconds ahead: its dates, and the times of Yahoo", _NUMBER, "120"),
    # the venue
    "maintenance": Kind("no streams, and every call fails with 500"),
    "down": Kind("nobody is there: connections are reset as soon as they are made"),
    "delist": Kind("delist this symbol", "word", None),
}

_TIME_S = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(
    r"((?P<venue>[a-z]+)\.)?(?P<name>[a-z0-9_]+)(:(?P<value>[^@]*))?(@(?P<start>[^+]*)(\+(?P<duration>.*))?)?"
)


class Fault(msgspec.Struct, frozen=True):
    """One fault of a schedule: from `start_s` for `duration_s` (None: until cleared)."""

    name: str
    value: str
    start_s: float = 0.0
    duration_s: float | None = None
    venue: str | None = None  # None: every one


def parse(spec: str) -> list[Fault]:
    """The faults a spec names. Raises `UsageError` (`bad_fault`) naming the part that is wrong."""
    return [_fault(part.strip()) for part in spec.split(",") if part.strip()]


def _fault(part: str) -> Fault:
    match = _PART.fullmatch(part)
    name = match["name"] if match else re.split("[:@]", part)[0]
    kind = FAULTS.get(name)
    if match is None or kind is None or match["venue"] not in (None, *VENUES):
        near = get_close_matches(name, FAULTS, 1)
        hint = (
            Text("Did you mean {name}?", {"name": near[0]})
            if near and kind is None
            else Text("Write [venue.]name[:value][@start[+duration]]; names are {names}.", {"names": ", ".join(FAULTS)})
        )
        raise UsageError("bad_fault", Text("There is no fault {part!r}.", {"part": part}), hint)
    value = match["value"] or kind.default
    if value is None:
        raise _wrong(part, Text("{name} needs a value.", {"name": name}), name)
    if kind.value == "none" and value:
        raise _wrong(part, Text("{name} takes no value.", {"name": name}), name)
    if kind.value in ("rate", "number"):
        limit = 1.0 if kind.value == "rate" else 1e9
        try:
            good = 0.0 <= float(value) <= limit
        except ValueError:
            good = False
        if not good:
            raise _wrong(
                part, Text("the value of {name} is a number up to {limit:g}.", {"name": name, "limit": limit}), name
            )
    if kind.choices and value not in kind.choices:
        raise _wrong(part, Text("{name} takes {choices}.", {"name": name, "choices": ", ".join(kind.choices)}), name)
    start = _seconds(part, match["start"], name) or 0.0
    return Fault(name, value, start, _seconds(part, match["duration"], name), match["venue"])


def _seconds(part: str, text: str | None, name: str) -> float | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text.strip())
    if match is None:
        raise _wrong(part, Text("{time!r} is not a time such as 5s, 500ms or 2m.", {"time": text}), name)
    return float(match[1]) * _TIME_S[match[2]]


def _wrong(part: str, why: Text, name: str) -> UsageError:
    return UsageError(
        "bad_fault",
        Text("The fault {part!r} cannot be read: {why}", {"part": part, "why": why}),
        Text("{name}: {meaning}.", {"name": name, "meaning": FAULTS[name].meaning}),
    )


class _Schedule:
    """What was asked for, and since when its times count."""

    def __init__(self, since: float) -> None:
        self.faults: list[Fault] = []
        self.since = since
        self.number = 0  # of schedules so far


class Faults:
    """The schedule in force, as one venue is hit by it. Its chances are seeded, so a run can be repeated."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        seed: int,
        *,
        venue: str | None = None,
        schedule: _Schedule | None = None,
    ) -> None:
        self._monotonic = monotonic
        self._seed = seed
        self._venue = venue
        self._schedule = schedule or _Schedule(monotonic())
        self._fired: set[tuple[int, int]] = set()
        self.random = random.Random(seed)

    def of(self, venue: str) -> Faults:
        """The same schedule as this venue is hit by it, with chances of its own."""
        return Faults(self._monotonic, self._seed, venue=venue, schedule=self._schedule)

    def set(self, spec: str) -> None:
        """Replace the schedule; its times count from now."""
        faults = parse(spec)
        self._schedule.faults = faults
        self._schedule.number += 1
        self._schedule.since = self._monotonic()

    def clear(self) -> None:
        """From now on nothing goes wrong."""
        self.set("")

    def restart(self) -> None:
        """Let the schedule's times count from now."""
        self._schedule.since = self._monotonic()

    def _elapsed_s(self) -> float:
        return self._monotonic() - self._schedule.since

    def _mine(self, fault: Fault) -> bool:
        return self._venue is None or fault.venue in (None, self._venue)

    def _holds(self, fault: Fault, elapsed_s: float) -> bool:
        end_s = float("inf") if fault.duration_s is None else fault.start_s + fault.duration_s
        return self._mine(fault) and fault.start_s <= elapsed_s < end_s

    def values(self, name: str) -> list[str]:
        """The values of every fault of this name that holds now."""
        if not self._schedule.faults:
            return []
        elapsed_s = self._elapsed_s()
        return [f.value for f in self._schedule.faults if f.name == name and self._holds(f, elapsed_s)]

    def word(self, name: str) -> str | None:
        """The value of this fault if it holds now."""
        values = self.values(name)
        return values[-1] if values else None

    def holds(self, name: str) -> bool:
        """Whether this fault holds now."""
        return bool(self.values(name))

    def number(self, name: str) -> float | None:
        """The fault's value as a number, if it holds now."""
        value = self.word(name)
        return None if value is None else float(value)

    def strikes(self, name: str) -> bool:
        """Whether this fault of a rate strikes this time."""
        rate = self.number(name)
        return rate is not None and self.random.random() < rate

    def due(self) -> list[Fault]:
        """Faults that are events, each once as its time has come; with a duration, again until it is over."""
        elapsed_s = self._elapsed_s()
        due = []
        for i, fault in enumerate(self._schedule.faults):
            if FAULTS[fault.name].once and self._mine(fault) and elapsed_s >= fault.start_s:
                key = (self._schedule.number, i)
                again = fault.duration_s is not None and self._holds(fault, elapsed_s)
                if again or key not in self._fired:
                    due.append(fault)
                self._fired.add(key)
        return due

    def listed(self) -> list[dict[str, object]]:
        """The schedule, as JSON-ready objects."""
        elapsed_s = self._elapsed_s()
        return [
            {
                "venue": f.venue,
                "name": f.name,
                "value": f.value,
                "start_s": f.start_s,
                "duration_s": f.duration_s,
                "active": self._holds(f, elapsed_s),
                "meaning": FAULTS[f.name].meaning,
            }
            for f in self._schedule.faults
        ]

    @property
    def any(self) -> bool:
        """Whether there is a schedule at all."""
        return bool(self._schedule.faults)
