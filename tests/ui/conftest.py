"""Qt's loop with asyncio in it, a fake engine, and the look every test starts from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
import qasync
from PySide6.QtWidgets import QApplication

from tests.ui.fakes import FakeEngine
from watchhamster.ui import theme
from watchhamster.ui.bridge import Errands
from watchhamster.ui.language import switch_language

T = TypeVar("T")
Drive = Callable[[Coroutine[Any, Any, T]], T]


@pytest.fixture
def look(qapp: QApplication) -> Iterator[QApplication]:
    """Dark, English, 100 %; put back afterwards."""
    switch_language(qapp, "en")
    theme.apply(qapp, "dark", "west", 100, motion=False)
    yield qapp
    switch_language(qapp, "en")
    theme.apply(qapp, "dark", "west", 100)


@pytest.fixture
def drive(look: QApplication) -> Iterator[Drive[Any]]:
    """Run a coroutine in Qt's loop."""
    loop = qasync.QEventLoop(look)
    asyncio.set_event_loop(loop)
    yield loop.run_until_complete
    left = [task for task in asyncio.all_tasks(loop) if not task.done()]
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.close()
    asyncio.set_event_loop(None)
    assert not left, f"tasks were left running: {left}"


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


class Told(list[Exception]):
    """Errors that were told to the person."""


@asynccontextmanager
async def errands() -> AsyncIterator[tuple[Errands, Told]]:
    """Errands in a task group of their own."""
    told = Told()
    async with asyncio.TaskGroup() as group:
        work = Errands(group, told.append)
        try:
            yield work, told
        finally:
            work.close()


async def until(condition: Callable[[], object], what: str = "", turns: int = 500) -> None:
    """Turn the loop until something is so."""
    for _turn in range(turns):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"never happened: {what or condition}")


async def settled(work: Errands) -> None:
    """Turn the loop until no errand is running."""
    await asyncio.sleep(0)
    await until(lambda: not work.busy(), "errands end")


__all__ = ["Drive", "Told", "errands", "settled", "until"]
