"""How a question reaches a venue: one place where quota, wire, time-out and answer meet."""

from __future__ import annotations

import asyncio
import email.utils
import math
from collections.abc import Sequence
from typing import TypeVar

from watchhamster.core.market import Ticker
from watchhamster.core.ports import (
    BadFrame,
    Clock,
    Guarded,
    Query,
    RateLimited,
    Request,
    Response,
    Unavailable,
    Venue,
    WatchHamsterError,
    Wire,
)
from watchhamster.core.text import Text
from watchhamster.core.timeframes import SECOND_NS
from watchhamster.engine.limits import Limiter, Priority

T = TypeVar("T")

_ADMISSION_S = 10.0
_ANSWERS_BYTES_MAX = 8 << 20
_BULK_PATIENCE_S = 60.0  # backfill waits out a short closure rather than fail


class Caller:
    """Asks one venue's REST interface, within its quotas. Nothing else sends requests to it."""

    def __init__(self, venue: Venue, wire: Wire, limiter: Limiter) -> None:
        self.venue = venue
        self.limiter = limiter
        self.ahead_ns = 0  # our clock is so much ahead of the venue's, surely; by the Date of its last answer
        self._wire = wire
        self._answers = _Answers(limiter.clock)
        self._admitting = asyncio.Lock()

    async def call(
        self, query: Query[T], priority: Priority = "normal", timeout_s: float = 5.0, *, market: str = ""
    ) -> T:
        """The answer, parsed. `timeout_s` counts from now; for `bulk`, which waits its turn, from the send.

        `market` names what the call is about, so that markets take turns. Raises what the parser raises,
        `Unavailable` (`no_answer`) when time ran out, `RateLimited` when the venue has closed the group.
        """
        request = query.request
        kept = self._answers.get(request)
        if kept is not None:
            return query.parse(kept)
        bulk = priority == "bulk"
        patience_s = _BULK_PATIENCE_S if bulk else timeout_s
        try:
            async with (
                asyncio.timeout(None if bulk else timeout_s),
                self.limiter.slot(request.group, priority, market=market, patience_s=patience_s) as slot,
            ):
                async with asyncio.timeout(timeout_s):
                    response = await self._wire.request(request)
                self._compare_clocks(response)
                remaining = self.venue.remaining(response)
                try:
                    answer = query.parse(response)
                except RateLimited as refusal:
                    slot.refused(refusal.retry_after_s, banned=refusal.banned)
                    raise
                except WatchHamsterError:
                    slot.answered(remaining, accepted=False)
                    raise
                slot.answered(remaining)
                self._answers.keep(request, response)
                return answer
        except TimeoutError:
            raise Unavailable(
                "no_answer",
                Text(
                    "{venue} did not answer {path} within {seconds} s.",
                    {"venue": self.venue.name, "path": request.path, "seconds": timeout_s},
                ),
                Text("Check the connection, or try again in a moment."),
            ) from None

    async def tickers(
        self, symbols: Sequence[str], priority: Priority = "normal", timeout_s: float = 5.0
    ) -> list[Ticker]:
        """Summaries of what fits in one call; by more calls, should the venue's shorter way close with this one."""
        size = self.venue.tickers_a_call
        try:
            return await self.call(self.venue.tickers(symbols), priority, timeout_s)
        except (Unavailable, BadFrame):
            if self.venue.tickers_a_call == size:
                raise
        size = self.venue.tickers_a_call
        found: list[Ticker] = []
        for start in range(0, len(symbols), size):
            some = await self.call(self.venue.tickers(symbols[start : start + size]), priority, timeout_s)
            found += some
        return found

    async def prepare(self) -> None:
        """Have the pass that shortens a venue's calls, where there is one to be had just now."""
        venue = self.venue
        if not isinstance(venue, Guarded):
            return
        async with self._admitting:
            while (query := venue.admission(self.limiter.clock.now_ns())) is not None:
                try:
                    await self.call(query, timeout_s=_ADMISSION_S)
                except WatchHamsterError as problem:
                    venue.turned_away(problem)

    def _compare_clocks(self, response: Response) -> None:
        """A clock that runs ahead would call bars closed that are not. A Date has whole seconds, so one is allowed."""
        try:
            theirs = email.utils.parsedate_to_datetime(response.headers["date"])
        except (KeyError, ValueError):
            return
        ahead_ns = self.limiter.clock.now_ns() - (int(theirs.timestamp()) + 1) * SECOND_NS
        self.ahead_ns = max(0, ahead_ns)


class _Answers:
    """Answers that are still good (`Request.life_s`); the oldest go where there are too many."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[object, tuple[float, Response]] = {}

    def get(self, request: Request) -> Response | None:
        """The answer there was to the same request."""
        if not request.life_s:
            return None
        until, response = self._kept.get(_key(request), (-math.inf, None))
        return response if self._clock.monotonic() < until else None

    def keep(self, request: Request, response: Response) -> None:
        """Remember an answer for as long as it is good."""
        if not request.life_s:
            return
        now = self._clock.monotonic()
        self._kept = {key: value for key, value in self._kept.items() if value[0] > now}
        self._kept[_key(request)] = now + request.life_s, response
        size = sum(len(kept.body) for _, kept in self._kept.values())
        while size > _ANSWERS_BYTES_MAX:
            _, oldest = self._kept.pop(next(iter(self._kept)))
            size -= len(oldest.body)


def _key(request: Request) -> object:
    return request.method, request.host, request.path, tuple(sorted(request.params.items()))
