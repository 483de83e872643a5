"""What a stranger's connections can take from a worker's web server."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from driftline.operate import log_filter
from driftline.web import server as bounded

WITHIN_S = 10.0


async def _page(request: web.Request) -> web.Response:
    return web.Response(text="here")


async def _size(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await request.read())))


@pytest.fixture
async def runner() -> AsyncIterator[web.AppRunner]:
    pages = web.Application()
    pages.router.add_get("/", _page)
    pages.router.add_post("/", _size)
    runner = bounded.Runner(pages, access_log=None, keepalive_timeout=bounded.IDLE_S)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=bounded.BACKLOG).start()
    yield runner
    await runner.cleanup()


@pytest.fixture
def port(runner: web.AppRunner) -> int:
    return int(runner.addresses[0][1])


async def half_open(port: int, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    return reader, writer


async def closed(reader: asyncio.StreamReader) -> bool:
    """Whether the server ends a connection within the bound."""
    try:
        return await asyncio.wait_for(reader.read(), WITHIN_S) == b""
    except ConnectionResetError:
        return True


async def get(port: int) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as answer:
        return await answer.text()


async def test_a_compressed_body_is_not_expanded(port: int) -> None:
    """A quarter of a megabyte of one, before any token was looked at, took the worker's loop two seconds."""
    sent = gzip.compress(bytes(100_000))
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{port}/", data=sent, headers={"Content-Encoding": "gzip"}) as answer,
    ):
        assert int(await answer.text()) == len(sent)


async def test_a_page_is_served_however_many_connections_are_held_open(port: int) -> None:
    held = [await half_open(port, b"GET / HTTP/1.1\r\n") for _ in range(bounded.CONNECTIONS_MAX + 30)]
    assert await get(port) == "here"
    assert all(await asyncio.gather(*(closed(reader) for reader, _ in held[:31]))), "the oldest make room"
    assert not held[-1][0].at_eof()
    for _, writer in held:
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n"], ids=["nothing", "half a request"])
async def test_a_connection_without_a_request_is_closed(
    port: int, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "HEADERS_S", 0.05)
    reader, writer = await half_open(port, sent)
    assert await closed(reader)
    writer.close()


async def test_a_connection_that_asked_stays_for_the_next_request(runner: web.AppRunner, port: int) -> None:
    reader, writer = await half_open(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b"here"), WITHIN_S)
    assert runner.server is not None
    (connection,) = runner.server.connections
    bounded.close_silent(connection)  # the time for the first request is over
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b"here"), WITHIN_S)
    writer.close()


def test_that_descriptors_are_used_up_is_logged_once_with_what_to_do() -> None:
    once = log_filter.Exhausted()

    def complaint(text: str) -> logging.LogRecord:
        raised: Any = (OSError, OSError(24, "Too many open files"), None)
        return logging.LogRecord("asyncio", logging.ERROR, __file__, 1, text, (), raised)

    first = complaint("socket.accept() out of system resource\nsocket: ...")
    assert once.filter(first)
    assert "ulimit -n" in first.getMessage()
    assert first.exc_info is None
    assert not once.filter(complaint("socket.accept() out of system resource\nsocket: ..."))
    assert once.filter(complaint("Task exception was never retrieved"))


async def test_requests_that_are_none_are_logged_once_in_a_line(port: int, caplog: pytest.LogCaptureFixture) -> None:
    complaints = logging.getLogger("aiohttp.server")
    malformed = log_filter.Malformed()
    complaints.addFilter(malformed)
    try:
        for sent in (b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n"):
            for _ in range(5):
                reader, writer = await half_open(port, sent)
                assert b" 400 " in await asyncio.wait_for(reader.read(), WITHIN_S)
                writer.close()
    finally:
        complaints.removeFilter(malformed)
    (record,) = [one for one in caplog.records if one.name == "aiohttp.server"]
    assert "Error handling request" in record.getMessage()
    assert record.exc_info is None
