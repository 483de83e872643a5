"""A TCP proxy in front of a Kafka node that delays commits: EndTxn is held back, its sender loses the connection or
waits in vain, and the request reaches the broker in the middle of the same producer's next transaction.

Requests are told by Kafka's own header (size, api key, version, correlation id, client id); the transactional id is the
first field of each request that matters here, in the versions that aiokafka speaks.
"""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, NamedTuple, TypeAlias

from driftline.core.error import BrokerError
from driftline.devbroker import kafka as kafka_broker
from driftline.devbroker.kafka import KafkaNode
from driftline.devbroker.node import HOST, free_port

PRODUCE, ADD_PARTITIONS, END_TXN = 0, 24, 26
CONCURRENT_TRANSACTIONS = 51
FENCED = frozenset({47, 90})  # INVALID_PRODUCER_EPOCH, PRODUCER_FENCED
START_WITHIN_S = 10.0
ANSWER_WITHIN_S = 20.0
MARKERS_EVERY_S = 0.02
PORT_TRIALS = 3

Loss: TypeAlias = Literal["reset", "silence"]


class _Held(NamedTuple):
    """An EndTxn on its way, with the connection that it will come out of."""

    frame: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self) -> int:
        """Let it come, or come again: the broker's error code."""
        self.writer.write(self.frame)
        # size, correlation id, throttle time, error code
        return int(struct.unpack_from(">iiih", await _frame(self.reader))[3])


class Proxy:
    """See the module. Runs on a thread of its own, so that a test may wait for a process meanwhile.

    Args:
        port: where clients come.
        upstream: the node's own port.
        chosen: which EndTxn is held back, by its number from 1 on; asked on the proxy's thread.
        loss: what its sender sees of it.
        produces: the request goes on before this Produce of the next transaction, counted from 1.

    Attributes:
        held: how many were held back.
        late: the broker's error code for each one that came late, 0 where it was obeyed.
    """

    def __init__(
        self, port: int, upstream: int, chosen: Callable[[int], bool], *, loss: Loss = "reset", produces: int = 1
    ) -> None:
        self.port = port
        self.held = 0
        self.late: list[int] = []
        self._upstream = upstream
        self._chosen = chosen
        self._loss = loss
        self._produces = produces
        self._ends = 0
        self._waiting: dict[str, _Held] = {}
        self._seen: dict[str, int] = {}  # Produce requests since AddPartitionsToTxn, of ids that have one waiting
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._up = threading.Event()

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.port}"

    def __enter__(self) -> Proxy:
        self._thread.start()
        if not self._up.wait(START_WITHIN_S):
            raise AssertionError("the proxy did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_WITHIN_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, HOST, self.port))
        self._up.set()
        try:
            self._loop.run_forever()
        finally:
            server.close()
            for task in (tasks := asyncio.all_tasks(self._loop)):
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            for held in self._waiting.values():
                held.writer.transport.abort()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(HOST, self._upstream)
        except OSError:
            writer.transport.abort()
            return
        back = asyncio.create_task(_pour(up_reader, writer))
        kept = False
        try:
            while True:
                frame = await _frame(reader)
                api, name = _told(frame)
                if api == END_TXN and self._is_held(name):
                    kept = True
                    back.cancel()
                    await asyncio.wait({back})
                    self._waiting[name] = _Held(frame, up_reader, up_writer)
                    if self._loss == "silence":
                        await reader.read()  # until its sender gives up
                    return
                if api == ADD_PARTITIONS and name in self._waiting:
                    self._seen.setdefault(name, 0)
                elif api == PRODUCE and name in self._seen:
                    self._seen[name] += 1
                    if self._seen[name] >= self._produces:
                        await self._release(name)
                up_writer.write(frame)
                await up_writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass  # also at the proxy's own end: asyncio's callback of a served connection knows no cancelled task
        finally:
            writer.transport.abort()
            if not kept:
                back.cancel()
                up_writer.transport.abort()

    def _is_held(self, name: str) -> bool:
        self._ends += 1
        if name in self._waiting or not self._chosen(self._ends):
            return False
        self.held += 1
        return True

    async def _release(self, name: str) -> None:
        del self._seen[name]
        held = self._waiting.pop(name)
        async with asyncio.timeout(ANSWER_WITHIN_S):
            code = await held.send()
            self.late.append(code)
            # The broker obeys before it has written the markers, and what is sent by then is in the transaction still.
            while code == 0 and await held.send() == CONCURRENT_TRANSACTIONS:  # noqa: ASYNC110 - the broker must be asked
                await asyncio.sleep(MARKERS_EVERY_S)
        held.writer.transport.abort()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    size = await reader.readexactly(4)
    return size + await reader.readexactly(struct.unpack(">i", size)[0])


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    writer.transport.abort()


def _told(frame: bytes) -> tuple[int, str]:
    """A request's api key and, of those that matter here, its transactional id."""
    api, _, _, client = struct.unpack_from(">hhih", frame, 4)
    if api not in (PRODUCE, ADD_PARTITIONS, END_TXN):
        return api, ""
    at = 4 + 10 + max(client, 0)
    (size,) = struct.unpack_from(">h", frame, at)
    return api, frame[at + 2 : at + 2 + size].decode() if size > 0 else ""


def node_behind(port: int) -> tuple[KafkaNode, int]:
    """A node that sends clients of its second listener to `port`; returns it with that listener's own port.

    The node's own requests to itself, markers among them, take the first listener and no proxy.
    """
    trials = 1
    while True:
        own, second = free_port(), free_port()
        properties = {
            "advertised.listeners": f"PLAINTEXT://{HOST}:{own},PROXIED://{HOST}:{port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT",
        }
        try:
            return kafka_broker.start(
                port=own, partitions=2, listeners={"PROXIED": second}, properties=properties
            ), second
        except BrokerError as error:
            if trials == PORT_TRIALS or "Address already in use" not in str(error):
                raise
            trials += 1  # a test beside this one took the port before Kafka did
