"""Instruments of every venue as one types: those that are known at once, a searched venue's after a short pause.

One question is on its way at a time: a newer text cancels the older. What was found is kept, so that going back a
letter asks nobody. A venue is not asked before a person has read its caution.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, Signal

from watchhamster.core.instruments import InstrumentInfo, split_instrument
from watchhamster.core.ports import WatchHamsterError
from watchhamster.core.text import _, say
from watchhamster.ui.bridge import Errands
from watchhamster.ui.finder import ROWS_MAX, Choice, instruments_matching, rank
from watchhamster.ui.language import named
from watchhamster.ui.market import market_title

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchhamster.engine.engine import Engine

PAUSE_MS = 300  # after the last letter
LEAST_LETTERS = 2  # one is enough where it is a syllable
KEPT_MAX = 200  # texts whose answers are remembered


class Lookup(QObject):
    """What a text finds. `changed` says that it finds more than before, or that a search ended."""

    changed = Signal()
    caution_wanted = Signal(str)  # the venue that would be searched, were its caution read

    def __init__(self, engine: Engine, errands: Errands, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._engine, self._errands = engine, errands
        self.known: Sequence[InstrumentInfo] = ()
        self._found: OrderedDict[tuple[str, str], list[InstrumentInfo]] = OrderedDict()
        self._failed: dict[tuple[str, str], str] = {}
        self.text = ""  # what was looked for last, as it was typed
        self._text = ""
        self._asking: asyncio.Task[None] | None = None
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(PAUSE_MS)
        self._pause.timeout.connect(self._ask)

    def find(self, text: str) -> list[InstrumentInfo]:
        """What is known under a text now; more is asked for once nobody has typed for a moment."""
        wanted = " ".join(text.casefold().split())
        if wanted != self._text:
            self.text = text
            self._text = wanted
            self._stop()
            if self._unasked():
                self._pause.start()
        listed = self._engine.watch_list()
        local = instruments_matching(text, self.known, listed)
        more = [info for venue in self._engine.searches() for info in self._found.get((venue, wanted), ())]
        fresh = {info.instrument: info for info in (*local, *more)}
        exact = [i for i in fresh.values() if rank(wanted, i.symbol, i.instrument) == 0] if wanted else []
        return [*exact, *(info for info in fresh.values() if info not in exact)][:ROWS_MAX]

    def choices(self, text: str, take: Callable[[str], None], price: Callable[[str], str]) -> list[Choice]:
        """The same as choices, and under them how the search goes."""
        return [
            *(
                Choice(
                    named(info.instrument, info),
                    self._where(info),
                    price(info.instrument),
                    lambda name=info.instrument: take(name),  # type: ignore[misc]
                )
                for info in self.find(text)
            ),
            *(Choice(note, take=None) for note in self.notes()),
            *(
                Choice(
                    _("Search {venue}, too…").format(venue=market_title(venue)),
                    take=lambda venue=venue: self.caution_wanted.emit(venue),  # type: ignore[misc]
                )
                for venue in self._engine.searches()
                if self._is_long() and self._engine.caution(venue) is not None
            ),
        ]

    def notes(self) -> list[str]:
        """How the search for the last text goes: under way, or failed and why."""
        if not self._is_long():
            return []
        notes = []
        for venue in self._engine.searches():
            name, key = market_title(venue), (venue, self._text)
            if key in self._failed:
                notes.append(f"{name}: {self._failed[key]}")
            elif key not in self._found and self._engine.caution(venue) is None:
                notes.append(_("Searching {venue}…").format(venue=name))
        return notes

    def forget_failures(self) -> None:
        """The field was left: what failed may be tried again."""
        self._failed.clear()
        self._text = ""
        self._stop()

    # ------------------------------------------------------------ asking

    def _is_long(self) -> bool:
        return len(self._text) >= LEAST_LETTERS or any("가" <= letter <= "힣" for letter in self._text)

    def _unasked(self) -> list[str]:
        """The venues that have yet to be asked about the text."""
        if not self._is_long():
            return []
        return [
            venue
            for venue in self._engine.searches()
            if (venue, self._text) not in self._found
            and (venue, self._text) not in self._failed
            and self._engine.caution(venue) is None
        ]

    def _ask(self) -> None:
        self._stop()
        if self._unasked():
            self._errands.run(self, self._search(self._text))

    def _stop(self) -> None:
        self._pause.stop()
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None

    async def _search(self, text: str) -> None:
        self._asking = task = asyncio.current_task()
        for venue in self._unasked():
            try:
                self._keep((venue, text), await self._engine.search(venue, text))
            except WatchHamsterError as error:
                self._failed[venue, text] = say(error.text)
            self.changed.emit()
        if self._asking is task:
            self._asking = None

    def _keep(self, key: tuple[str, str], found: list[InstrumentInfo]) -> None:
        self._found[key] = found
        while len(self._found) > KEPT_MAX:
            self._found.popitem(last=False)

    def _where(self, info: InstrumentInfo) -> str:
        venue, symbol = split_instrument(info.instrument)
        if len(self._engine.searches()) == 0:
            return symbol
        calendar = self._engine.calendar(info.instrument)
        return f"{symbol}  {market_title(venue, '' if calendar is None else calendar.market.code)}"
