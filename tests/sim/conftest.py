"""A simulator on a clock that the test turns, and clients as anyone would write them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from watchhamster.sim import Simulator

START_NS = 1_795_262_400_000_000_000  # 2026-11-21 12:00:00 UTC
Start = Callable[..., Any]


class HandClock:
    """Time that stands still until the test advances it."""

    def __init__(self) -> None:
        self._now = 0.0

    def now_ns(self) -> int:
        return START_NS + round(self._now * 1e9)

    def monotonic(self) -> float:
        return 1000.0 + self._now

    async def sleep(self, seconds: float) -> None:
        end = self._now + seconds
        while self._now < end:  # noqa: ASYNC110
            await asyncio.sleep(0.002)

    def advance(self, seconds: float) -> None:
        self._now += seconds


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def sim(clock: HandClock) -> AsyncIterator[Simulator]:
    async with Simulator(clock=clock) as simulator:
        yield simulator


class Rest:
    """An HTTP client below the venue's base."""

    def __init__(self, sim: Simulator, client: httpx.AsyncClient, venue: str = "upbit") -> None:
        self._sim = sim
        self._client = client
        self._base = sim.venues[venue]

    async def __call__(self, path: str, **params: object) -> httpx.Response:
        query = {name.rstrip("_"): str(value) for name, value in params.items()}
        return await self._client.get(self._base + path, params=query)

    async def rows(self, path: str, **params: object) -> list[dict[str, Any]]:
        answer = await self(path, **params)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()
        return rows

    async def control(self, method: str, path: str, **options: Any) -> httpx.Response:
        return await self._client.request(method, self._sim.url + path, **options)


@pytest.fixture
async def rest(sim: Simulator) -> AsyncIterator[Rest]:
    async with httpx.AsyncClient(verify=False) as client:  # plain HTTP: reading the CAs would be most of a test
        yield Rest(sim, client)


@asynccontextmanager
async def dial(sim: Simulator, place: str = "upbit/websocket/v1", **options: Any) -> AsyncIterator[ClientConnection]:
    """A WebSocket without keep-alive of its own."""
    url = f"{sim.url}/{place}".replace("http", "ws", 1)
    async with connect(url, **{"ping_interval": None, "max_queue": None, "close_timeout": 1, **options}) as stream:
        yield stream


async def subscribe(stream: ClientConnection, *types: dict[str, Any], style: str | None = None) -> None:
    last = [{"format": style}] if style else []
    await stream.send(json.dumps([{"ticket": "test"}, *types, *last]))


async def read(stream: ClientConnection, count: int = 1) -> list[dict[str, Any]]:
    """So many frames, decoded."""
    return [json.loads(await asyncio.wait_for(stream.recv(), 60)) for _ in range(count)]


async def silent(stream: ClientConnection, seconds: float = 0.25) -> bool:
    """Whether nothing comes for a while."""
    try:
        await asyncio.wait_for(stream.recv(), seconds)
    except TimeoutError:
        return True
    return False
