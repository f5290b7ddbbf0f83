"""Between the engine's speed and the eye's.

The engine calls `Bridge.receive` for every message, thousands of times a second; that only writes the newest value
under its key into a mailbox. A precise 16 ms timer empties it in two phases: the chart on odd beats, tables on even
ones, so that no turn of the loop paints both (measured: the longest stall falls by a third to a half). A view that
nobody sees is not called at all; once it is seen again it is told to read everything afresh.

State (ticker, book, candle, count of trades) may be overwritten: only the newest matters. Occurrences (alerts, feed
changes, unreadable frames) must not be lost: they wait in a counted bound, and past it the bridge says `missed`,
whereupon the reader asks the engine for everything after the last id it has.

Back again: what a person asks for is an errand, one task each, owned by the widget that asked. The answer goes nowhere
once the widget is gone, and a failure is told in words.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeVar

import msgspec
import shiboken6
from PySide6.QtCore import QElapsedTimer, QObject, Qt, QTimer
from PySide6.QtWidgets import QWidget

from watchhamster.core.market import BadFrameSeen, Book, Candle, Event, FeedChanged, Ticker, Trade
from watchhamster.monitor.alerts import Alert

T = TypeVar("T")
Phase = Literal["chart", "tables"]
Occurrence = Alert | FeedChanged | BadFrameSeen
OCCURRENCES_MAX = 256
BEAT_MS = 16


class News(msgspec.Struct):
    """What changed since the phase's last beat: the newest of each."""

    tickers: dict[str, Ticker] = {}
    books: dict[str, Book] = {}
    candles: dict[tuple[str, str], Candle] = {}  # (instrument, timeframe)
    closed: dict[tuple[str, str], list[Candle]] = {}  # those that closed or were corrected, in order
    flooded: set[tuple[str, str]] = set()  # more closed than fit: read the series again
    trades: dict[str, int] = {}  # how many came; the board has them


class _Seat(msgspec.Struct):
    """A view's place before the bridge."""

    view: QWidget
    take: Callable[[News], None]
    refresh: Callable[[], None]
    seen: bool = False


class Bridge(QObject):
    """The mailbox and its two-phase timer."""

    def __init__(self, parent: QObject | None = None, *, beat_ms: int = BEAT_MS) -> None:
        super().__init__(parent)
        self._boxes: dict[Phase, News] = {"chart": News(), "tables": News()}
        self._seats: dict[Phase, list[_Seat]] = {"chart": [], "tables": []}
        self._occurrences: deque[Occurrence] = deque()
        self._listeners: list[Callable[[list[Occurrence], bool], None]] = []
        self._missed = False
        self._odd = False
        self.received = 0
        self.lateness = Lateness()
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(beat_ms)
        self._timer.timeout.connect(self.beat)

    def start(self) -> None:
        """Begin to beat."""
        self.lateness.start()
        self._timer.start()

    def stop(self) -> None:
        """Beat no more."""
        self.lateness.stop()
        self._timer.stop()

    def set_beat(self, beat_ms: int) -> None:
        """Beat faster or slower; each phase has every second beat."""
        self._timer.setInterval(beat_ms)

    def show_to(
        self, view: QWidget, take: Callable[[News], None], phase: Phase, refresh: Callable[[], None] = lambda: None
    ) -> None:
        """Call `take` with the phase's news while the view can be seen, and `refresh` when it comes into sight."""
        self._seats[phase].append(_Seat(view, take, refresh))

    def listen(self, listener: Callable[[list[Occurrence], bool], None]) -> None:
        """Call with what happened since the last beat, seen or not; True says that some was missed."""
        self._listeners.append(listener)

    def receive(self, event: Event | Alert) -> None:
        """The engine's observer: a few dictionary writes."""
        self.received += 1
        if isinstance(event, Trade):
            for box in self._boxes.values():
                box.trades[event.instrument] = box.trades.get(event.instrument, 0) + 1
        elif isinstance(event, Book):
            for box in self._boxes.values():
                box.books[event.instrument] = event
        elif isinstance(event, Ticker):
            for box in self._boxes.values():
                box.tickers[event.instrument] = event
        elif isinstance(event, Candle):
            key = (event.instrument, event.timeframe)
            box = self._boxes["chart"]  # only the chart draws candles
            if event.closed:
                held = box.closed.setdefault(key, [])
                if len(held) < OCCURRENCES_MAX:
                    held.append(event)
                else:
                    box.flooded.add(key)
            else:
                box.candles[key] = event
        elif len(self._occurrences) < OCCURRENCES_MAX:
            self._occurrences.append(event)
        else:
            self._missed = True

    def beat(self) -> None:
        """One turn: the chart, or the tables and what happened."""
        self._odd = not self._odd
        phase: Phase = "chart" if self._odd else "tables"
        news, self._boxes[phase] = self._boxes[phase], News()
        for seat in self._seats[phase]:
            was_seen, seat.seen = seat.seen, seen(seat.view)
            if seat.seen and not was_seen:
                seat.refresh()
            if seat.seen:
                seat.take(news)
        if phase == "tables" and (self._occurrences or self._missed):
            happened, missed = list(self._occurrences), self._missed
            self._occurrences.clear()
            self._missed = False
            for listener in self._listeners:
                listener(happened, missed)


def seen(view: QWidget) -> bool:
    """Whether any of it can be on a screen: shown, not covered by another tab, its window not minimised."""
    return view.isVisible() and not view.window().isMinimized()


class Lateness:
    """How late the loop turns: a 10 ms heartbeat notes by how much it missed its moment (the last 6,000 beats)."""

    BEAT_MS = 10

    def __init__(self) -> None:
        self._late_ms: deque[float] = deque(maxlen=6000)
        self.max_ms = 0.0
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(self.BEAT_MS)
        self._timer.timeout.connect(self._beat)
        self._clock = QElapsedTimer()
        self._last: int | None = None

    def start(self) -> None:
        """Begin to measure."""
        self._clock.start()
        self._last = None
        self._timer.start()

    def stop(self) -> None:
        """Measure no more."""
        self._timer.stop()

    def p99_ms(self) -> float:
        """The lateness that one beat in a hundred exceeds."""
        if not self._late_ms:
            return 0.0
        return sorted(self._late_ms)[int(len(self._late_ms) * 0.99)]

    def _beat(self) -> None:
        now = self._clock.nsecsElapsed()
        if self._last is not None:
            late = max(0.0, (now - self._last) / 1e6 - self.BEAT_MS)
            self._late_ms.append(late)
            self.max_ms = max(self.max_ms, late)
        self._last = now


class Errands:
    """What the window asks of the engine. Lives in the program's task group; errands end with it."""

    def __init__(self, group: asyncio.TaskGroup, tell: Callable[[Exception], None]) -> None:
        self._group = group
        self._tell = tell
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    def run(
        self,
        owner: QObject,
        work: Coroutine[Any, Any, T],
        done: Callable[[T], object] | None = None,
        failed: Callable[[Exception], object] | None = None,
    ) -> None:
        """Await `work` and give its result to `done`, or its error to `failed` (else it is told to the person)."""
        if self._closed:
            work.close()
            return
        task = self._group.create_task(self._carry(owner, work, done, failed))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def busy(self) -> bool:
        """Whether any is still running."""
        return bool(self._running)

    def close(self) -> None:
        """Cancel what still runs, and take nothing more."""
        self._closed = True
        for task in self._running:
            task.cancel()

    async def _carry(
        self,
        owner: QObject,
        work: Coroutine[Any, Any, T],
        done: Callable[[T], object] | None,
        failed: Callable[[Exception], object] | None,
    ) -> None:
        """The one place where a failed errand ends: in front of whoever asked. It must not end the group."""
        try:
            result = await work
            if done is not None and shiboken6.isValid(owner):
                done(result)
        except Exception as error:
            try:
                if failed is None or not shiboken6.isValid(owner):
                    raise
                failed(error)
            except Exception as worse:
                self._tell(worse)
