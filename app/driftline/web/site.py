"""The live page at a worker's `/`: its files, its stream of changes, and what they may do.

Reading needs no token, as `/metrics` does not; a worker listens on loopback unless its settings say otherwise. There a
request must name this machine as its host, so that no page of another origin can read it by a name of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from importlib import resources
from ipaddress import ip_address
from typing import Final

import orjson
from aiohttp import web

from driftline.config import Settings
from driftline.core.fingerprint import versions
from driftline.core.pipeline import Pipeline
from driftline.web.feed import BoardFeed
from driftline.web.stream import Stream
from driftline.web.view import about

PAGES_MAX = 32
FILES: Final = {
    "/": ("page.html", "text/html"),
    "/static/page.css": ("page.css", "text/css"),
    "/static/page.js": ("page.js", "text/javascript"),
    "/static/chart.js": ("chart.js", "text/javascript"),
    "/static/uplot/uPlot.js": ("uplot/uPlot.iife.min.js", "text/javascript"),
    "/static/uplot/uPlot.css": ("uplot/uPlot.min.css", "text/css"),
    "/static/uplot/LICENSE": ("uplot/LICENSE", "text/plain"),
}
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Server": "driftline",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """See the module."""

    def __init__(self, pipeline: Pipeline, settings: Settings) -> None:
        self._pipeline, self._settings = pipeline, settings
        self._stream: Stream | None = None
        self._hosts = _hosts(settings.web_host)

    @property
    def stream(self) -> Stream:
        """Made when it is needed: it belongs to the loop that serves."""
        if self._stream is None:
            self._stream = Stream(BoardFeed(self._pipeline, self._settings), self._pipeline)
        return self._stream

    def add_to(self, app: web.Application) -> None:
        """Serve it."""
        folder = resources.files("driftline.web") / "static"
        for path, (name, kind) in FILES.items():
            app.router.add_get(path, self._guarded(_file((folder / name).read_bytes(), kind)))
        app.router.add_get("/api/about", self._guarded(self._about))
        app.router.add_get("/api/state", self._guarded(self._state))
        app.router.add_get("/api/stream", self._guarded(self._events))
        app.on_shutdown.append(self._close)

    def _guarded(self, handler: Handler) -> Handler:
        """A handler whose answers have the headers that keep a page to itself."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            answer = await handler(request) if self._is_ours(request) else _refused()
            if not answer.prepared:
                for name, value in HEADERS.items():
                    answer.headers.setdefault(name, value)
            return answer

        return guarded

    def _is_ours(self, request: web.Request) -> bool:
        """Whether a request names this machine as its host, where the pages are for this machine only."""
        return self._hosts is None or _name(request.headers.get("Host", "")) in self._hosts

    async def _about(self, request: web.Request) -> web.Response:
        version = versions()["app"]
        return _json(about(self._pipeline, actions=False, explains=False, version=version))

    async def _state(self, request: web.Request) -> web.Response:
        return _json(self.stream.document())

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self.stream.pages >= PAGES_MAX:
            return web.json_response({"error": f"{PAGES_MAX} pages are open; close one"}, status=503)
        answer = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        await answer.prepare(request)
        frames = self.stream.frames()
        try:
            async for frame in frames:
                await answer.write(frame)
        except ConnectionError:  # the page was closed
            pass
        finally:
            await frames.aclose()
        return answer

    async def _close(self, app: web.Application) -> None:
        if self._stream is not None:
            await self._stream.close()


def _hosts(web_host: str) -> frozenset[str] | None:
    """The names by which a page may be asked for; None: any, since it is not for this machine only."""
    try:
        is_loopback = web_host == "localhost" or ip_address(web_host).is_loopback
    except ValueError:
        is_loopback = False
    return frozenset({"localhost", "127.0.0.1", "::1", web_host}) if is_loopback else None


def _name(host: str) -> str:
    """A host without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _refused() -> web.Response:
    return web.json_response(
        {"error": "this worker's pages are for its own machine; ask for them as localhost"}, status=403
    )


def _json(document: object) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type="application/json")


def _file(content: bytes, kind: str) -> Handler:
    """A file as it is; a page that has it already need not get it again."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'

    headers = {"ETag": tag, "Cache-Control": "no-cache"}

    async def serve(request: web.Request) -> web.Response:
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, content_type=kind, charset="utf-8", headers=headers)

    return serve
