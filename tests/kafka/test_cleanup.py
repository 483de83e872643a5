"""When a broker goes away, or a wait is given up, no task and no connection stays behind."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import ssl
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaTimeoutError
from aiokafka.protocol.metadata import MetadataRequest

from driftline.codec.write import Write
from driftline.core.error import CommitUnknownError
from driftline.core.pipeline import Pipeline
from driftline.devbroker.embedded import EmbeddedNode
from driftline.devbroker.node import hold_still, wait_for
from driftline.kafka import cleanup, once
from driftline.kafka.broker import KafkaBroker
from tests.support.pipelines import pipeline, settings

pytestmark = pytest.mark.slow

cleanup.install()


def transports() -> list[asyncio.Transport]:
    """The connections of this process that are open, reachable or not."""
    gc.collect()
    return [one for one in gc.get_objects() if isinstance(one, asyncio.Transport) and not one.is_closing()]


def nothing_left() -> bool:
    """Whether no task and no connection is left; one that was forgotten warns besides, and fails the test."""
    return asyncio.all_tasks() == {asyncio.current_task()} and not transports()


def kill(node: EmbeddedNode) -> None:
    os.kill(node.pid, signal.SIGKILL)
    assert wait_for(lambda: not node.alive(), 5)


async def topics(node: EmbeddedNode, of: Pipeline) -> None:
    names = of.topics.model_dump().values()
    await asyncio.to_thread(node.create_topics, {name: 1 for name in names if name is not None})


def anonymous(side: int) -> ssl.SSLContext:
    """TLS without certificates, which not every machine can make."""
    context = ssl.SSLContext(side)
    if side == ssl.PROTOCOL_TLS_CLIENT:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")
    return context


@pytest.mark.parametrize("waited_for", [False, True])
async def test_a_tls_connection_is_closed_even_if_the_other_end_says_no_good_bye(
    monkeypatch: pytest.MonkeyPatch, waited_for: bool
) -> None:
    """The socket is closed once the other end has answered; a loop that ends before leaves it open."""
    accepted: list[asyncio.StreamWriter] = []

    async def deaf(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a TLS transport has it
        accepted.append(writer)

    async def nothing(_: AIOKafkaConnection) -> None:
        return

    monkeypatch.setattr(AIOKafkaConnection, "_do_version_lookup", nothing)
    monkeypatch.setattr(cleanup, "LEAVE_DEADLINE_S", 0.2)
    server = await asyncio.start_server(deaf, "127.0.0.1", 0, ssl=anonymous(ssl.PROTOCOL_TLS_SERVER))
    port = server.sockets[0].getsockname()[1]
    connection = AIOKafkaConnection(
        "127.0.0.1", port, security_protocol="SSL", ssl_context=anonymous(ssl.PROTOCOL_TLS_CLIENT)
    )
    await connection.connect()
    ours = connection._writer.transport.get_extra_info("socket")
    assert ours.fileno() >= 0
    closing = connection.close()
    if waited_for:  # as a stop does that is given up
        gathered = asyncio.gather(closing)
        await asyncio.sleep(0)
        gathered.cancel()
        await asyncio.wait({gathered})
    await cleanup.closed()
    assert ours.fileno() < 0, "the socket is closed"
    for writer in accepted:
        writer.transport.abort()
    server.close()
    await asyncio.sleep(0)
    assert not cleanup.being_closed


async def test_a_start_that_is_cancelled_keeps_no_connection(
    embedded: EmbeddedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = AIOKafkaClient(bootstrap_servers=embedded.bootstrap)
    asked = asyncio.Event()

    def send(self: AIOKafkaConnection, request: Any, *rest: Any) -> Any:
        if not isinstance(request, MetadataRequest):
            return sending(self, request, *rest)
        asked.set()
        return asyncio.get_running_loop().create_future()

    sending = AIOKafkaConnection.send
    monkeypatch.setattr(AIOKafkaConnection, "send", send)
    starting = asyncio.create_task(client.bootstrap())
    async with asyncio.timeout(10):
        await asked.wait()
    starting.cancel()
    await asyncio.wait({starting})
    assert starting.cancelled()
    await asyncio.sleep(0)  # a transport closes in the next turn
    del starting
    assert nothing_left()


async def test_connections_that_are_made_later_belong_to_their_client(embedded: EmbeddedNode) -> None:
    """What a start has made is let go only if the start fails."""
    client = AIOKafkaClient(bootstrap_servers=embedded.bootstrap)
    await client.bootstrap()
    assert await client.force_metadata_update()
    assert len(transports()) == 1, "the one to the node, made by the client's own task"
    await client.close()
    assert nothing_left()


async def test_a_producer_whose_broker_is_gone_stops_in_time(embedded: EmbeddedNode) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=embedded.bootstrap, enable_idempotence=True)
    await producer.start()
    await producer.send_and_wait("any", b"1")
    kill(embedded)
    await producer.send("any", b"2")
    async with asyncio.timeout(10):
        assert not await cleanup.stop(producer, 0.3)
    assert nothing_left()


async def test_a_producer_stops_by_itself_when_all_is_sent(embedded: EmbeddedNode) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=embedded.bootstrap, linger_ms=200)
    await producer.start()
    sent = await producer.send("any", b"1")
    assert await cleanup.stop(producer, 10.0)
    assert sent.done()
    assert nothing_left()


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=lambda one: one.name)
async def test_a_consumer_whose_broker_is_gone_stops_in_time(embedded: EmbeddedNode, fault: signal.Signals) -> None:
    of = pipeline()
    await topics(embedded, of)
    consumer = AIOKafkaConsumer(of.topics.events, bootstrap_servers=embedded.bootstrap, group_id="any")
    await consumer.start()
    reading = asyncio.create_task(consumer.getmany(timeout_ms=60_000))
    await asyncio.sleep(0)
    if fault == signal.SIGSTOP:
        hold_still(embedded.pid)
    else:
        os.kill(embedded.pid, fault)
    async with asyncio.timeout(10):
        await cleanup.stop(consumer, 0.3)
    os.kill(embedded.pid, signal.SIGCONT)
    reading.cancel()
    await asyncio.wait({reading})
    assert nothing_left()


async def test_a_commit_that_nobody_waits_for_any_more_ends_with_its_publisher(embedded: EmbeddedNode) -> None:
    """It is shielded from those who wait, but not from the end: a task that waits for ever is told of when it is
    thrown away ("Task was destroyed but it is pending")."""
    of = pipeline()
    await topics(embedded, of)
    publisher = KafkaBroker(of, settings(embedded.bootstrap)).publisher(0)
    await publisher.open()
    await publisher.commit([Write(of.topics.scores, 0, None, b"1")], None)
    hold_still(embedded.pid)
    committing = asyncio.create_task(publisher.commit([Write(of.topics.scores, 0, None, b"2")], None))
    done, _ = await asyncio.wait({committing}, timeout=0.2)
    assert not done
    committing.cancel()
    await asyncio.wait({committing})
    async with asyncio.timeout(10):
        await publisher.close()
    os.kill(embedded.pid, signal.SIGCONT)
    assert nothing_left()


async def test_batches_that_were_never_sent_fail_in_silence(
    embedded: EmbeddedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit's error tells it all; asyncio's "Future exception was never retrieved" once a batch tells nothing."""

    async def unanswered(*_: Any) -> bool:
        raise once.AskedOnceError("not answered")

    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    of = pipeline()
    await topics(embedded, of)
    publisher = KafkaBroker(of, settings(embedded.bootstrap)).publisher(0)
    await publisher.open()
    monkeypatch.setattr(once.AddPartitionsToTxnHandler, "do", unanswered)
    writes = [Write(of.topics.scores, 0, None, b"1"), Write(of.topics.outcomes, 0, None, b"1")]
    with pytest.raises(CommitUnknownError, match="not answered"):
        await publisher.commit(writes, None)
    await publisher.close()
    del publisher
    assert nothing_left()
    assert complaints == []


async def test_a_batch_whose_successor_could_not_be_handed_over_fails_in_silence(
    embedded: EmbeddedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    of = pipeline()
    await topics(embedded, of)
    publisher = KafkaBroker(of, settings(embedded.bootstrap)).publisher(0)
    await publisher.open()
    failed = asyncio.get_running_loop().create_future()
    answers = iter([failed])

    async def send_batch(*_: Any, **__: Any) -> Any:
        if (answer := next(answers, None)) is None:
            failed.set_exception(KafkaTimeoutError())
            raise KafkaTimeoutError
        return answer

    monkeypatch.setattr(AIOKafkaProducer, "send_batch", send_batch)
    with pytest.raises(CommitUnknownError):
        await publisher.commit([Write(of.topics.scores, 0, None, b"1"), Write(of.topics.outcomes, 0, None, b"1")], None)
    await publisher.close()
    del publisher
    assert nothing_left()
    assert complaints == []
