"""Sends the board to the pages that are open: made once a second, sent to each; half as often while a shard is full.

A page gets everything when it connects, then what changes; of the marks, which may be many, those that are new. One
that could not keep up gets everything again: nothing queues up for it. The cost of a page is the write of bytes that
are there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import msgspec
import orjson

from driftline.core.pipeline import Pipeline
from driftline.web.curve import Mark, rows_of
from driftline.web.feed import BoardFeed
from driftline.web.view import history, sections

TICK_S = 1.0
ALIVE_S = 15.0  # a page that hears nothing for so long gets a comment: proxies close what is silent


class Stream:
    """See the module.

    Attributes:
        pages: how many are connected.
        feed: keeps the board.
    """

    def __init__(self, feed: BoardFeed, pipeline: Pipeline) -> None:
        self.pages = 0
        self.feed, self._pipeline = feed, pipeline
        self._number = 0
        self._change = b""
        self._sent: dict[str, bytes] = {}
        self._marks: list[Mark] = []  # that were sent
        self._all: bytes | None = None
        self._board: Any = None
        self._ticked = asyncio.Event()
        self._ticking: asyncio.Task[None] | None = None
        self._closed = False

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """What a page is sent, until the worker stops."""
        self.pages += 1
        self.feed.enter()
        try:
            if self._ticking is None or self._ticking.done():
                self.look()
                self._ticking = asyncio.create_task(self._go_on(), name="page-stream")
            number = -1
            while not self._closed:
                if number == self._number:
                    await self._wait()
                    if number == self._number:
                        yield b": still here\n\n"
                    continue
                frame = self._change if number == self._number - 1 else self._everything()
                number = self._number
                if frame:
                    yield frame
        finally:
            self.pages -= 1
            self.feed.leave()

    def document(self) -> dict[str, Any]:
        """All sections, now."""
        return dict(sections(self.feed.board, self._pipeline, self.feed.situation()))

    async def close(self) -> None:
        """End all pages' streams, and the feed."""
        self._closed = True
        self._ticked.set()
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait({self._ticking})
        await self.feed.stop()

    async def _wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ALIVE_S):
                await self._ticked.wait()

    async def _go_on(self) -> None:
        while self.pages:
            await asyncio.sleep(TICK_S * self.feed.slowness)
            self.look()

    def look(self) -> None:
        """See what changed."""
        board = self.feed.board
        made = {name: orjson.dumps(section) for name, section in self.document().items()}
        changed = {name: orjson.Fragment(part) for name, part in made.items() if part != self._sent.get(name)}
        points = rows_of(board.fresh) if board.fresh else None
        board.fresh.clear()
        anew = board is not self._board  # its history is another one
        if not changed and points is None and not anew:
            return
        marks = list(board.marks)
        if "marks" in changed:
            changed["marks"] = orjson.Fragment(orjson.dumps(_news(self._marks, marks)))
        self._marks = marks
        self._sent, self._board, self._all = made, board, None
        self._number += 2 if anew else 1  # after a leap, everything is sent
        self._change = _frame(
            "change", {"now_ms": self.feed.situation().now_ms, **changed, **({"points": points} if points else {})}
        )
        ticked, self._ticked = self._ticked, asyncio.Event()
        ticked.set()

    def _everything(self) -> bytes:
        if self._all is None:
            parts = {name: orjson.Fragment(part) for name, part in self._sent.items()}
            now_ms = self.feed.situation().now_ms
            self._all = _frame("all", {"now_ms": now_ms, **parts, "points": rows_of(history(self.feed.board))})
        return self._all


def _news(old: Sequence[Mark], new: Sequence[Mark]) -> dict[str, Any]:
    """Marks as what stays of the old ones, by their places from and to, and what follows."""
    places = {id(mark): place for place, mark in enumerate(old)}
    kept: list[list[int]] = []
    count = 0
    for mark in new:
        place = places.get(id(mark))
        if place is None:
            break
        if kept and kept[-1][1] == place:
            kept[-1][1] = place + 1
        else:
            kept.append([place, place + 1])
        count += 1
    return {"kept": kept, "more": [msgspec.to_builtins(mark) for mark in new[count:]]}


def _frame(event: str, document: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (event.encode(), orjson.dumps(document))
