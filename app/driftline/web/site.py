"""The live page at a worker's `/`: its files, its stream of changes, and what they may do.

Reading needs no token, as `/metrics` does not; a worker listens on loopback unless its settings say otherwise. There a
request must name this machine as its host, so that no page of another origin can read it by a name of its own. Actions
are JSON by POST from the page's own origin, with the deployment's token; where none is set, there are none.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable
from importlib import resources
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from driftline.config import Settings
from driftline.core.error import DriftlineError, InputFileError
from driftline.core.fingerprint import versions
from driftline.core.pipeline import Pipeline
from driftline.web.action import carry_out
from driftline.web.explanation import Explainer
from driftline.web.feed import BoardFeed
from driftline.web.record import ID_MAX
from driftline.web.runbook import runbook_page
from driftline.web.stream import Stream
from driftline.web.view import about

PAGES_MAX = 32
BODY_MAX = 8_192  # bytes
BODY_S = 10.0
ACTIONS_MAX = 4  # at a time
WRONG_TOKEN_S = 0.5  # before a wrong token is answered
WRITE_S = 30.0  # until a page must have read what it was sent
FILES: Final = {
    "/": ("page.html", "text/html"),
    "/static/page.css": ("page.css", "text/css"),
    **{f"/static/{name}.js": (f"{name}.js", "text/javascript") for name in ("part", "chart", "act", "show", "page")},
    "/static/runbook.css": ("runbook.css", "text/css"),
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

_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\[\]:@/]+))(?::[0-9]*)?")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """See the module.

    Args:
        feed: keeps the board; one that reads the pipeline's topics, if none is given.
    """

    def __init__(self, pipeline: Pipeline, settings: Settings, feed: BoardFeed | None = None) -> None:
        self._pipeline, self._settings = pipeline, settings
        self._feed = feed
        self._stream: Stream | None = None
        known = urlsplit(settings.web_url) if settings.web_url is not None else None
        self._hosts = _hosts(settings.web_host, known.hostname if known is not None else None)
        self._origin = known.netloc if known is not None else None
        self.explainer = Explainer(pipeline, settings)
        self._acting = 0

    @property
    def _is_local(self) -> bool:
        """Whether the pages are for people at this machine only."""
        return self._hosts is not None and self._origin is None

    @property
    def stream(self) -> Stream:
        """Made when it is needed: it belongs to the loop that serves."""
        if self._stream is None:
            self._stream = Stream(self._feed or BoardFeed(self._pipeline, self._settings), self._pipeline)
        return self._stream

    def add_to(self, app: web.Application) -> None:
        """Serve it."""
        folder = resources.files("driftline.web") / "static"
        for path, (name, kind) in FILES.items():
            app.router.add_get(path, self._guarded(_file((folder / name).read_bytes(), kind)))
        app.router.add_get("/runbook", self._guarded(self._runbook))
        app.router.add_get("/api/about", self._guarded(_own(self._about)))
        app.router.add_get("/api/state", self._guarded(_own(self._state)))
        app.router.add_get("/api/stream", self._guarded(_own(self._events)))
        app.router.add_post("/api/action", self._guarded(_own(self._act)))
        app.router.add_post("/api/explain", self._guarded(_own(self._explain)))
        app.on_response_prepare.append(_add_headers)
        app.on_shutdown.append(self._close)

    def _guarded(self, handler: Handler) -> Handler:
        """A handler of requests that may see the pages."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            return await handler(request) if self._is_ours(request) else _refused()

        return guarded

    def _is_ours(self, request: web.Request) -> bool:
        """Whether a request names this machine as its host, where the pages are for this machine only."""
        return self._hosts is None or _name(request.headers.get("Host", "")) in self._hosts

    async def _runbook(self, request: web.Request) -> web.Response:
        try:
            return web.Response(text=runbook_page(), content_type="text/html")
        except InputFileError as error:
            return web.Response(text=f"{error}\n", status=404)

    async def _about(self, request: web.Request) -> web.Response:
        version = versions()["app"]
        actions = self._settings.web_token is not None
        return _json(about(self._pipeline, actions=actions, explains=actions or self._is_local, version=version))

    async def _state(self, request: web.Request) -> web.Response:
        return _json(self.stream.document())

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self.stream.pages >= PAGES_MAX:
            return _problem(503, f"{PAGES_MAX} pages are open; close one")
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        frames = self.stream.frames()
        try:
            async for frame in frames:
                async with asyncio.timeout(WRITE_S):
                    await answer.write(frame)
        except ConnectionError:  # the page was closed
            pass
        except TimeoutError:  # it reads no more, and would keep its place for good
            if request.transport is not None:
                request.transport.abort()
        finally:
            await frames.aclose()
        return answer

    async def _act(self, request: web.Request) -> web.Response:
        if (refused := await self._unauthorized(request)) is not None:
            return refused
        if self._acting >= ACTIONS_MAX:
            return _problem(429, "too many actions at a time; try again")
        self._acting += 1
        try:
            document = await _body(request)
            accepted, text = await carry_out(document, self.stream.feed.board, self._pipeline, self._settings)
        except InputFileError as error:
            return _problem(409, str(error))
        except (DriftlineError, OSError) as error:
            return _problem(503, str(error).partition("\n")[0])
        finally:
            self._acting -= 1
        return _json({"text": text}) if accepted else _problem(409, text)

    async def _explain(self, request: web.Request) -> web.Response:
        """Without a token too where the page is for this machine only: it changes nothing."""
        refused = self._foreign(request) if self._is_local else await self._unauthorized(request)
        if refused is not None:
            return refused
        try:
            document = await _body(request)
            event_id = self._event_id(document)
            return _json({"text": await self.explainer.explain(event_id)})
        except InputFileError as error:
            return _problem(409, str(error))

    def _event_id(self, document: dict[str, Any]) -> str:
        """The event that is meant: that of a score on the page, or the one that is named."""
        output_id, event_id = document.get("output_id"), document.get("event_id")
        for score in self.stream.feed.board.scores:
            if score.output_id == output_id:
                return str(score.event_id)
        if isinstance(event_id, str) and 0 < len(event_id) <= ID_MAX and "\0" not in event_id:
            return event_id
        raise InputFileError("which event? Give its id")

    async def _unauthorized(self, request: web.Request) -> web.Response | None:
        """Why a request may change nothing; None where it may."""
        token = self._settings.web_token
        if token is None:
            return _problem(403, "no actions: DRIFTLINE_WEB_TOKEN is not set")
        if (refused := self._foreign(request)) is not None:
            return refused
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()):
            await asyncio.sleep(WRONG_TOKEN_S)
            return _problem(401, "the token is wrong" if given else "give the token at the foot of the page first")
        return None

    def _foreign(self, request: web.Request) -> web.Response | None:
        """What a request that another origin's page could have made gets: no form can send JSON."""
        origin = request.headers.get("Origin")
        if origin is not None and _netloc(origin) not in {request.headers.get("Host"), self._origin} - {None, ""}:
            return _problem(403, "this request comes from another site")
        if request.content_type != "application/json":
            return _problem(415, "send JSON")
        return None

    async def _close(self, app: web.Application) -> None:
        if self._stream is not None:
            await self._stream.close()


def _own(handler: Handler) -> Handler:
    """A handler for the page alone: other sites' pages could not read the answer, but could take its place up."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return _problem(403, "this request comes from another site")
        return await handler(request)

    return guarded


def _hosts(web_host: str, known: str | None) -> frozenset[str] | None:
    """The names by which a page may be asked for; None: any, since the worker listens for others than this machine.

    Args:
        known: under which people reach it all the same, through a proxy.
    """
    try:
        is_loopback = web_host == "localhost" or ip_address(web_host).is_loopback
    except ValueError:
        is_loopback = False
    return frozenset({"localhost", "127.0.0.1", "::1", web_host, known or "localhost"}) if is_loopback else None


def _netloc(origin: str) -> str:
    """Host and port of an origin; empty where it has none, or is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _name(host: str) -> str:
    """A host without its port; empty where it is none."""
    found = _HOST.fullmatch(host)
    return (found[1] or found[2]).lower() if found else ""


async def _body(request: web.Request) -> dict[str, Any]:
    """The JSON object that was sent.

    Raises:
        InputFileError: there is none, or it is too long or too slow.
    """
    content = b""
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.content.iter_chunked(BODY_MAX):
                content += part
                if len(content) > BODY_MAX:
                    raise InputFileError(f"more than {BODY_MAX} bytes")
        document = orjson.loads(content)
    except (ValueError, TimeoutError) as error:
        raise InputFileError("send a JSON object") from error
    if not isinstance(document, dict):
        raise InputFileError("send a JSON object")
    return document


async def _add_headers(request: web.Request, answer: web.StreamResponse) -> None:
    """Whatever the worker's server answers, faults and other pages than these too, has the headers."""
    for name, value in HEADERS.items():
        if name != "Cache-Control" or name not in answer.headers:
            answer.headers[name] = value


def _problem(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


def _refused() -> web.Response:
    return _problem(403, "this worker's pages are for its own machine; ask for them as localhost")


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
