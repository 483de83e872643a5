"""The virtual loop: time jumps, processes pause and die, and nothing is ever waited for in vain."""

from __future__ import annotations

import asyncio
import time
from contextvars import copy_context

import pytest

from tests.simulation.loop import PROCESS, Process, StuckError, VirtualLoop


def loop() -> VirtualLoop:
    return VirtualLoop()  # type: ignore[abstract]  # sockets, signals and processes are what it has not


def test_time_jumps_to_the_next_timer_and_takes_none() -> None:
    async def course() -> list[float]:
        marks = []
        for seconds in (3600.0, 0.0, 0.25):
            await asyncio.sleep(seconds)
            marks.append(asyncio.get_running_loop().time())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.Event().wait()
        return [*marks, asyncio.get_running_loop().time()]

    started_s = time.monotonic()
    assert loop().run_until_complete(course()) == [3600.0, 3600.0, 3600.25, 3610.25]
    assert time.monotonic() - started_s < 5


def test_what_can_never_happen_is_told() -> None:
    async def hopeless() -> None:
        await asyncio.Event().wait()

    here = loop()
    with pytest.raises(StuckError, match="nothing is left"):
        here.run_until_complete(hopeless())
    here.bury([])


class Diary:
    """A process that writes down each second that it lives, and its end if it learns of it."""

    def __init__(self, here: VirtualLoop) -> None:
        self.process = Process("p")
        self.seconds: list[float] = []
        self.said_goodbye = False
        context = copy_context()
        context.run(PROCESS.set, self.process)
        self.task = here.create_task(self._live(here), context=context)

    async def _live(self, here: VirtualLoop) -> None:
        try:
            while True:
                await asyncio.create_task(asyncio.sleep(1))  # a task of a task is of the same process
                self.seconds.append(here.time())
        finally:
            self.said_goodbye = True


def test_a_paused_process_stands_still_and_finds_its_timers_due() -> None:
    here = loop()

    async def course() -> Diary:
        diary = Diary(here)
        await asyncio.sleep(2.5)
        diary.process.paused = True
        await asyncio.sleep(10)
        assert diary.seconds == [1.0, 2.0]
        here.go_on(diary.process)
        await asyncio.sleep(1.2)
        return diary

    diary = here.run_until_complete(course())
    assert diary.seconds == [1.0, 2.0, 12.5, 13.5]
    here.bury([diary.process])


def test_a_dead_process_does_not_even_run_its_finally() -> None:
    here = loop()

    async def course() -> Diary:
        diary = Diary(here)
        await asyncio.sleep(1.5)
        diary.process.dead = True
        diary.task.cancel()
        await asyncio.sleep(5)
        assert diary.seconds == [1.0]
        assert not diary.said_goodbye
        return diary

    diary = here.run_until_complete(course())
    here.bury([diary.process])
    assert diary.said_goodbye
    assert diary.task.done()
    assert here.failures == []


def test_what_nobody_catches_is_kept() -> None:
    here = loop()

    async def course() -> None:
        here.create_future().set_exception(ValueError("unread"))
        await asyncio.sleep(0)

    here.run_until_complete(course())
    assert any("unread" in failure for failure in here.failures)
