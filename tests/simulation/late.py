"""Requests whose sender lost the connection: they arrive later, when another may own the shard, or are refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass

from tests.simulation.loop import PROCESS, VirtualLoop
from tests.support.cluster import ClusterError


@dataclass
class _Request:
    """Attributes:
    batches: it arrives when so many more batches of its client were appended; 0 where time decides.
    """

    what: str
    client: str
    batches: int
    effect: Callable[[], object]


class LateRequests:
    """All that are on their way.

    Args:
        report: called with what happened to one.
        reached: counts how often each way was taken.
    """

    def __init__(self, loop: VirtualLoop, report: Callable[[str], None], reached: Counter[str]) -> None:
        self._loop = loop
        self._report = report
        self._reached = reached
        self._waiting: list[_Request] = []

    def add(self, what: str, client: str, effect: Callable[[], object], *, batches: int, seconds: float) -> None:
        """Let a request arrive after some batches of its client, or (0) after some time."""
        late = _Request(what, client, batches, effect)
        self._waiting.append(late)
        if not batches:
            outside = copy_context()
            outside.run(PROCESS.set, None)
            self._loop.create_task(self._arrive_after(late, seconds), context=outside)

    def appended(self, client: str) -> None:
        """A batch of this client was appended: what waits for that arrives."""
        for late in [late for late in self._waiting if late.client == client and late.batches]:
            late.batches -= 1
            if not late.batches:
                self._arrive(late)

    async def _arrive_after(self, late: _Request, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._arrive(late)

    def _arrive(self, late: _Request) -> None:
        self._waiting.remove(late)
        outside = copy_context()
        outside.run(PROCESS.set, None)
        try:
            outside.run(late.effect)
            self._report(f"{late.what} arrives")
            self._reached["astray obeyed"] += 1
        except ClusterError as error:
            self._report(f"{late.what} is refused: {error}")
            self._reached["astray refused"] += 1
