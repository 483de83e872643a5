"""The worker's web server: Faust's, with bounds on what a stranger's connections can take from it.

aiohttp waits for a request as long as the peer likes, and for the next one on the same connection an hour. Of a worker
that anybody can reach, a few lines of a script would use up the file descriptors, and with them Kafka's. Here a
connection has `HEADERS_S` to send its first request, `IDLE_S` until the next, and of more than `CONNECTIONS_MAX` the
oldest is closed: a probe or a scrape always gets through. Faust's own pages of routes and tables are off.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, cast

from aiohttp import web
from faust.web.drivers.aiohttp import Web

CONNECTIONS_MAX = 100
HEADERS_S = 10.0
IDLE_S = 30.0
BACKLOG = 32  # also how often asyncio tries, and logs, an `accept` that fails for want of descriptors


class Bounded:
    """Makes the server's connections, and closes those that must go.

    Args:
        server: aiohttp's, which knows the connections that are open.
    """

    def __init__(self, server: web.Server) -> None:
        self._server = server

    def __call__(self) -> Any:
        """A connection; the oldest makes room for it."""
        there = self._server.connections
        for oldest in there[: len(there) - CONNECTIONS_MAX + 1]:
            close(oldest)
        made = self._server()
        asyncio.get_running_loop().call_later(HEADERS_S, close_silent, made)
        return made

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


def close(connection: web.RequestHandler) -> None:
    """Close a connection at once, whatever it is doing."""
    transport = connection.transport
    connection.force_close()
    if transport is not None:
        transport.abort()


def close_silent(connection: web.RequestHandler) -> None:
    """Close a connection that has sent no whole request."""
    if connection._request_count == 0 and connection._current_request is None:
        close(connection)


class Runner(web.AppRunner):
    """Takes bodies as they come: no page of ours is sent a compressed one, and aiohttp expands it, up to a thousand
    times as large, whoever sent it and whether or not anything reads it."""

    def __init__(self, app: web.Application, **kwargs: Any) -> None:
        super().__init__(app, auto_decompress=False, **kwargs)

    async def _make_server(self) -> web.Server:
        return cast("web.Server", Bounded(await super()._make_server()))


class BoundedWeb(Web):
    """Faust's web server on a bounded one of aiohttp."""

    production_blueprints: ClassVar[list[tuple[str, str]]] = []  # Faust's own page at `/`

    def __init__(self, app: Any, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self._runner = Runner(self.web_app, access_log=None, keepalive_timeout=IDLE_S)

    def _new_transport_tcp(self) -> web.BaseSite:
        conf = self.app.conf
        return web.TCPSite(self._runner, conf.web_bind, conf.web_port, backlog=BACKLOG)
