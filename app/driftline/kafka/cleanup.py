"""Cleans up what aiokafka leaves behind when a client stops, a start is given up, or a broker goes away.

* A connection is closed without waiting for it; over TLS that takes an exchange with the broker, and where the event
  loop ends before, as that of a command does, the socket stays open until it is found as garbage.
* A start that is cancelled forgets the connection that it was making.
* `stop()` waits for a broker that is gone, forever; given up, it leaves tasks that wait for what will never come.
* A producer that failed sets its error in futures that no one awaits, of unsent batches and of the transaction; asyncio
  logs each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from aiokafka import client as aiokafka_client
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection

STOP_DEADLINE_S = 2.0
LEAVE_DEADLINE_S = 2.0  # for what is cancelled or closed to end
_PARTS = ("client", "_client", "_sender", "_message_accumulator", "_txn_manager", "_coordinator", "_fetcher")

_bootstrap = AIOKafkaClient.bootstrap
_create_conn = aiokafka_client.create_conn
_close = AIOKafkaConnection.close
being_closed: dict[asyncio.Future[None], asyncio.BaseTransport] = {}  # on their way: when they are closed, and what is


class _Start:
    """The connections that one start has made so far; None once it is over."""

    def __init__(self) -> None:
        self.made: list[Any] | None = []


_start: ContextVar[_Start | None] = ContextVar("_start", default=None)


async def _making(*address: Any, **options: Any) -> Any:
    connection = await _create_conn(*address, **options)
    start = _start.get()
    if start is not None and start.made is not None:
        start.made.append(connection)
    return connection


async def _starting(self: AIOKafkaClient) -> None:
    start = _Start()
    token = _start.set(start)
    try:
        await _bootstrap(self)
    except BaseException:
        for connection in start.made or ():
            connection.close()
        raise
    finally:
        start.made = None  # the client's own task goes on in this context
        _start.reset(token)


def _leaving(self: AIOKafkaConnection, reason: Any = None, exc: BaseException | None = None) -> Any:
    writer = self._writer
    closed = _close(self, reason, exc)
    if writer is not None and not closed.done():
        for old in [one for one in being_closed if one.get_loop().is_closed()]:
            del being_closed[old]
        being_closed[closed] = writer.transport
        closed.add_done_callback(_left)
    return closed


def _left(closed: asyncio.Future[None]) -> None:
    transport = being_closed.pop(closed, None)
    if closed.cancelled() and transport is not None:  # by the end of a stop that waited for it
        transport.abort()  # type: ignore[attr-defined]  # a socket's or a TLS transport: both have it


def install() -> None:
    """Replace aiokafka's methods by the fixed ones, in this process."""
    aiokafka_client.create_conn = _making
    AIOKafkaClient.bootstrap = _starting
    AIOKafkaConnection.close = _leaving


async def closed() -> None:
    """Wait until the connections that were closed on this loop are; one that takes long is cut off."""
    loop = asyncio.get_running_loop()
    mine = {one: transport for one, transport in being_closed.items() if one.get_loop() is loop}
    if mine:
        _, late = await asyncio.wait(mine, timeout=LEAVE_DEADLINE_S)
        for one in late:
            one.cancel()
    for _ in range(2):
        await asyncio.sleep(0)  # what was cut off just now closes in the next turns


async def stop(client: Any, patience_s: float = STOP_DEADLINE_S) -> bool:
    """Stop a client in a bounded time, and leave nothing of it: no task, no connection.

    Args:
        client: a producer or consumer, or an admin client whose `stop` is its `close`.
        patience_s: how long it may take to send what is left to be sent, and to say good-bye.

    Returns:
        Whether it stopped by itself.
    """
    stopping = asyncio.create_task(client.stop())
    try:
        await asyncio.wait({stopping}, timeout=patience_s)
    finally:
        stopped = stopping.done() and not stopping.cancelled() and stopping.exception() is None
        if not stopped:
            await _end({stopping, *_tasks_of(client)})
            closing = asyncio.create_task(_connections(client).close())
            await asyncio.wait({closing}, timeout=LEAVE_DEADLINE_S)
            closing.cancel()
        _read_failures(client)
        await closed()
    return stopped


def read(future: asyncio.Future[Any]) -> None:
    """Retrieve a future's exception, or asyncio logs that no one did. As a callback, or for a future that is done."""
    if future.done() and not future.cancelled():
        future.exception()


def _read_failures(client: Any) -> None:
    """What a producer's end left in the batches that it never sent, and in its transaction."""
    accumulator = getattr(client, "_message_accumulator", None)
    for batches in accumulator._batches.values() if accumulator is not None else ():
        for batch in batches:
            read(batch.future)
            read(batch._drain_waiter)
    transaction = getattr(getattr(client, "_txn_manager", None), "_transaction_waiter", None)
    if transaction is not None:
        read(transaction)


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they are done; one that waits for another takes its end for its own."""
    deadline_s = asyncio.get_running_loop().time() + LEAVE_DEADLINE_S
    while left := {task for task in tasks if not task.done()}:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=LEAVE_DEADLINE_S / 10)
        if asyncio.get_running_loop().time() > deadline_s:
            break
    for task in tasks:
        read(task)  # whoever asked for a stop knows that it failed


def _tasks_of(client: Any) -> Iterator[asyncio.Task[Any]]:
    """The tasks that are at work for a client: those whose outermost call is of one of its parts."""
    parts = [client, *(getattr(client, name, None) for name in _PARTS)]
    for task in asyncio.all_tasks():
        frame = getattr(task.get_coro(), "cr_frame", None)
        owner = frame.f_locals.get("self") if frame is not None else None
        if owner is not None and any(owner is part for part in parts):
            yield task


def _connections(client: Any) -> Any:
    """The part that holds the connections."""
    return getattr(client, "client", None) or client._client
