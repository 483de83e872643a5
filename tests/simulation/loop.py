"""An event loop without real time, sockets or threads: its clock jumps to the next timer when nothing is ready.

Everything that runs on it belongs to a simulated `Process`, or to the world outside (the brokers, the users, the
faults). A process is named by a context variable, which asyncio hands from each task to the tasks that it makes: so one
that is paused is simply not run, whatever it was doing, as by SIGSTOP, and one that is dead is never run again, not
even its `finally`, as by SIGKILL.

Callbacks run in the order in which they were scheduled, which asyncio promises: shuffling them would find faults that
cannot happen. What varies is what varies in life, how long each request and answer takes.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from itertools import count
from typing import Any, NoReturn, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

TURNS_MAX = 400_000


class StuckError(Exception):
    """Nothing is left that could ever happen, or things go on for ever."""


class Process:
    """What runs, pauses and dies as one.

    Attributes:
        held: callbacks that became ready while it could not run.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.paused = False
        self.dead = False
        self.held: list[_Ready] = []


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)

_Ready = tuple[asyncio.Handle, Callable[..., object], tuple[object, ...], Context]


class VirtualLoop(asyncio.AbstractEventLoop):
    """The loop of one simulation: what asyncio's tasks, futures and timers ask of one, and nothing of the rest.

    Attributes:
        failures: what callbacks raised and nobody caught, with its message.
    """

    def __init__(self) -> None:
        self.failures: list[str] = []
        self._now_s = 0.0
        self._ready: deque[_Ready] = deque()
        self._timers: list[tuple[float, int, _Ready]] = []
        self._order = count()
        self._turns = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._running = False

    # -- time

    def time(self) -> float:
        return self._now_s

    def spend(self, seconds: float) -> None:
        """Something computes: time passes, and nothing else runs."""
        self._now_s += seconds

    # -- what asyncio asks of a loop

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        context = context or copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append((handle, callback, args, context))
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        context = context or copy_context()
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._order), (handle, callback, args, context)))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]  # typeshed's overloads differ between versions
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        if len(self._tasks) > 500:
            self._tasks = [one for one in self._tasks if not one.done()]
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return False

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    # -- running

    def run_until_complete(self, future: Any) -> Any:
        """Run a coroutine to its end. Raises StuckError where it has none."""
        if events._get_running_loop() is not None:
            self._refuse()
        events._set_running_loop(self)
        self._running = True
        try:
            task = self.create_task(future)
            while not task.done():
                self._turn()
            return task.result()
        finally:
            self._running = False
            events._set_running_loop(None)

    def _refuse(self) -> NoReturn:
        raise RuntimeError("a simulation brings its own loop; call it from a plain function")

    def _turn(self) -> None:
        """Run one callback, or let time jump."""
        self._turns += 1
        if self._turns > TURNS_MAX:
            raise StuckError(f"{TURNS_MAX} turns and no end, at {self._now_s:.3f} s")
        timers = self._timers
        while timers and timers[0][0] <= self._now_s:
            self._ready.append(heapq.heappop(timers)[2])
        if not self._ready:
            if not timers:
                raise StuckError(f"nothing is left that could happen, at {self._now_s:.3f} s")
            self._now_s = timers[0][0]
            return
        ready = self._ready.popleft()
        handle, callback, args, context = ready
        if handle.cancelled():
            return
        process = context.get(PROCESS)
        if process is not None and (process.paused or process.dead):
            process.held.append(ready)
            return
        context.run(callback, *args)

    def go_on(self, process: Process) -> None:
        """Let a paused process run again."""
        process.paused = False
        self._ready.extend(process.held)
        process.held.clear()

    def bury(self, processes: list[Process]) -> None:
        """At the very end: end every task that is left, those of the dead too, so that nothing leaks.

        Nothing that they do any more may count.
        """
        for process in processes:
            process.dead = False
            self.go_on(process)
        events._set_running_loop(self)
        self._running = True
        try:
            left: list[asyncio.Task[Any]] = []
            for _ in range(50):
                left = [task for task in self._tasks if not task.done()]
                if not left:
                    return
                for task in left:
                    task.cancel()
                while self._ready or (self._timers and not all(task.done() for task in left)):
                    for _ in range(20):
                        if self._ready or self._timers:
                            self._turn()
            raise StuckError(f"{len(left)} tasks cannot be ended: {left[:3]}")
        finally:
            self._running = False
            events._set_running_loop(None)
