"""How a question reaches a venue: one place where quota, wire, time-out and answer meet."""

from __future__ import annotations

import asyncio
import email.utils
from typing import TypeVar

from watchhamster.core.ports import Query, RateLimited, Response, Unavailable, Venue, WatchHamsterError, Wire
from watchhamster.core.text import Text
from watchhamster.core.timeframes import SECOND_NS
from watchhamster.engine.limits import Limiter, Priority

T = TypeVar("T")

_BULK_PATIENCE_S = 60.0  # backfill waits out a short closure rather than fail


class Caller:
    """Asks one venue's REST interface, within its quotas. Nothing else sends requests to it."""

    def __init__(self, venue: Venue, wire: Wire, limiter: Limiter) -> None:
        self.venue = venue
        self.limiter = limiter
        self.ahead_ns = 0  # our clock is so much ahead of the venue's, surely; by the Date of its last answer
        self._wire = wire

    async def call(
        self, query: Query[T], priority: Priority = "normal", timeout_s: float = 5.0, *, market: str = ""
    ) -> T:
        """The answer, parsed. `timeout_s` counts from now; for `bulk`, which waits its turn, from the send.

        `market` names what the call is about, so that markets take turns. Raises what the parser raises,
        `Unavailable` (`no_answer`) when time ran out, `RateLimited` when the venue has closed the group.
        """
        request = query.request
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

    def _compare_clocks(self, response: Response) -> None:
        """A clock that runs ahead would call bars closed that are not. A Date has whole seconds, so one is allowed."""
        try:
            theirs = email.utils.parsedate_to_datetime(response.headers["date"])
        except (KeyError, ValueError):
            return
        ahead_ns = self.limiter.clock.now_ns() - (int(theirs.timestamp()) + 1) * SECOND_NS
        self.ahead_ns = max(0, ahead_ns)
