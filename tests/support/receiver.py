"""A webhook that a test runs: keeps what is posted, and answers as it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import orjson
from aiohttp import web

WITHIN_S = 60.0


class Post:
    """One request.

    Attributes:
        taken: it was answered with 200.
    """

    def __init__(self, headers: dict[str, str], document: Any) -> None:
        self.headers = headers
        self.document = document
        self.taken = False

    @property
    def key(self) -> str:
        return self.headers["Idempotency-Key"]


class Receiver:
    """An HTTP server on loopback; `answer` may be changed at any time.

    Args:
        answer: the status of the answer to a post; None hangs until the receiver is closed.
    """

    def __init__(self, answer: Callable[[Post], int | None] = lambda _: 200) -> None:
        self.answer = answer
        self.posts: list[Post] = []
        self.retry_after = ""
        self._closing = asyncio.Event()
        self._changed = asyncio.Condition()

    @property
    def taken(self) -> list[Post]:
        return [post for post in self.posts if post.taken]

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/hook", self._receive)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}/hook"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        post = Post(dict(request.headers), orjson.loads(await request.read()))
        self.posts.append(post)
        status = self.answer(post)
        post.taken = status == 200
        async with self._changed:
            self._changed.notify_all()
        if status is None:
            await self._closing.wait()
            return web.Response(status=503)
        headers = {"Retry-After": self.retry_after} if self.retry_after else {}
        if 300 <= status < 400:
            headers["Location"] = self.url
        return web.Response(status=status, headers=headers, text="as you say")

    async def until(self, holds: Callable[[], bool], what: str, within_s: float = WITHIN_S) -> None:
        """Wait for a condition that a post can bring about."""
        try:
            async with asyncio.timeout(within_s), self._changed:
                await self._changed.wait_for(holds)
        except TimeoutError:
            seen = [(post.key, post.taken) for post in self.posts]
            raise AssertionError(f"not within {within_s:g} s: {what}; seen: {seen}") from None
