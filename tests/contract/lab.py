"""One way to reach each broker from outside: make topics, write as strangers do, let records expire.

What a broker cannot do is said in `lacks`, with the reason; a test names what it needs and is skipped where that is
lacking.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Literal, TypeAlias

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.admin.records_to_delete import RecordsToDelete

from driftline.codec.write import Write
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import Source
from driftline.devbroker.kafka import KafkaNode
from driftline.devbroker.node import Node
from driftline.kafka.broker import KafkaBroker
from driftline.kafka.client import admin, client_options
from driftline.kafka.topic import create
from driftline.transport.port import Broker, Feed, Place, Reader
from tests.support.cluster import Identity, MemoryCluster
from tests.support.memory import MemoryBroker
from tests.support.stream import settings_of

Need: TypeAlias = Literal["isolation", "groups", "retention", "size limit", "stall", "shares"]

WITHIN_S = 30.0
SMALL_BYTES = 2_000  # what the outcomes topic takes in a batch where a test asks for a limit

_numbers = count(1)


class Open(ABC):
    """A stranger's transaction that is still open."""

    @abstractmethod
    async def end(self, *, commit: bool) -> None: ...


class Lab(ABC):
    """A broker under test."""

    name: str
    lacks: Mapping[Need, str] = {}

    def need(self, *needs: Need) -> None:
        """Skip the test where the broker lacks what it is about."""
        for need in needs:
            if need in self.lacks:
                pytest.skip(f"{self.name}: {self.lacks[need]}")

    def document(self, delivery: str) -> Pipeline:
        """A pipeline with topics that no other test uses."""
        return parse_pipeline(
            {
                "pipeline": f"contract-{self.name}-{next(_numbers)}",
                "task": "binary",
                "event": {"id": "id", "features": {"x": "number"}},
                "label": {"id": "id", "value": "y", "wait": "1h"},
                "model": "LogisticRegression()",
                "delivery": delivery,
            }
        )

    async def pipeline(self, delivery: str | None = None, partitions: int = 1, *, small: bool = False) -> Pipeline:
        """A new pipeline with its topics.

        Args:
            delivery: None for what this broker does best.
            small: the outcomes topic takes batches of `SMALL_BYTES` only.
        """
        default = "at_least_once" if "isolation" in self.lacks else "exactly_once"
        pipeline = self.document(delivery or default)
        await self.make(pipeline, partitions, small=small)
        return pipeline

    @abstractmethod
    async def make(self, pipeline: Pipeline, partitions: int, *, small: bool) -> None: ...

    @abstractmethod
    def broker(self, pipeline: Pipeline, client: str = "one") -> Broker: ...

    @abstractmethod
    async def produce(self, topic: str, values: Iterable[bytes], partition: int = 0) -> None:
        """Write plain records, as a user's producer does."""

    @abstractmethod
    async def begin(self, transactional_id: str, topic: str, values: Sequence[bytes]) -> Open:
        """Write records inside a transaction and leave it open."""

    @abstractmethod
    async def delete_before(self, place: Place, offset: int) -> None:
        """Let records expire."""

    async def close(self) -> None:
        """End what strangers left open."""
        return


class MemoryLab(Lab):
    name = "memory"
    lacks: Mapping[Need, str] = {
        "stall": "has no process that could be stopped; its hook stands in (test_memory)",
        "shares": "reads one partition after the other, which puts a merge to the test",
    }

    def __init__(self) -> None:
        self.cluster = MemoryCluster()

    async def make(self, pipeline: Pipeline, partitions: int, *, small: bool) -> None:
        if small:
            self.cluster.create({pipeline.topics.outcomes: partitions}, batch_bytes_max=SMALL_BYTES)
        self.cluster.create_for(pipeline, partitions)

    def broker(self, pipeline: Pipeline, client: str = "one") -> MemoryBroker:
        return MemoryBroker(self.cluster, pipeline, client=client)

    async def produce(self, topic: str, values: Iterable[bytes], partition: int = 0) -> None:
        for value in values:
            self.cluster.produce(topic, partition, value)

    async def begin(self, transactional_id: str, topic: str, values: Sequence[bytes]) -> Open:
        identity = self.cluster.initialise(transactional_id)
        writes = [Write(topic, 0, None, value) for value in values]
        self.cluster.add(identity, [Place(topic, 0)])
        self.cluster.append_within(identity, Place(topic, 0), writes)
        return _MemoryOpen(self.cluster, identity)

    async def delete_before(self, place: Place, offset: int) -> None:
        self.cluster.delete_before(place, offset)


class _MemoryOpen(Open):
    def __init__(self, cluster: MemoryCluster, identity: Identity) -> None:
        self._cluster = cluster
        self._identity = identity

    async def end(self, *, commit: bool) -> None:
        self._cluster.decide(self._identity, commit=commit)
        self._cluster.mark(self._identity)


class WireLab(Lab):
    """A broker behind a socket."""

    def __init__(self, name: str, node: Node, lacks: Mapping[Need, str]) -> None:
        self.name = name
        self.node = node
        self.lacks = lacks
        self._settings = settings_of(node.bootstrap)
        self._options = client_options(self._settings)
        self._open: list[_WireOpen] = []

    async def make(self, pipeline: Pipeline, partitions: int, *, small: bool) -> None:
        if small:
            config = {"max.message.bytes": str(SMALL_BYTES)}
            async with admin(self._options) as client:
                await client.create_topics([NewTopic(pipeline.topics.outcomes, partitions, 1, topic_configs=config)])
        await create(pipeline, self._settings, partitions=partitions, shards=partitions)

    def broker(self, pipeline: Pipeline, client: str = "one") -> Broker:
        return KafkaBroker(pipeline, self._settings)

    async def produce(self, topic: str, values: Iterable[bytes], partition: int = 0) -> None:
        producer = await self._producer(acks="all")
        sent = [await producer.send(topic, value, partition=partition) for value in values]  # in order, in batches
        await asyncio.gather(*sent)
        await producer.stop()

    async def begin(self, transactional_id: str, topic: str, values: Sequence[bytes]) -> Open:
        producer = await self._producer(transactional_id=transactional_id)
        await producer.begin_transaction()
        sent = [await producer.send(topic, value, partition=0) for value in values]
        await asyncio.gather(*sent)
        self._open.append(_WireOpen(producer))
        return self._open[-1]

    async def delete_before(self, place: Place, offset: int) -> None:
        async with admin(self._options) as client:
            await client.delete_records({TopicPartition(*place): RecordsToDelete(offset)})

    async def close(self) -> None:
        for one in self._open:
            await one.let_go()

    async def _producer(self, **extra: Any) -> Any:
        producer = AIOKafkaProducer(**self._options, **extra)
        await producer.start()
        return producer


class _WireOpen(Open):
    def __init__(self, producer: Any) -> None:
        self._producer = producer

    async def end(self, *, commit: bool) -> None:
        await (self._producer.commit_transaction() if commit else self._producer.abort_transaction())

    async def let_go(self) -> None:
        await self._producer.stop()


def embedded_lab(node: Node) -> Lab:
    """The mock cluster: what it lacks, the README says too."""
    return WireLab(
        "embedded",
        node,
        {
            "isolation": "the embedded broker accepts transactions without isolating them",
            "groups": "the embedded broker has one member in a group",
            "retention": "the embedded broker has no request to delete records",
            "size limit": "the embedded broker has no limits of its own on a topic",
            "stall": "a stall is shown on the real broker",
        },
    )


def kafka_lab(node: KafkaNode) -> Lab:
    return WireLab("kafka", node, {})


class Watcher:
    """An assignment that keeps a diary."""

    def __init__(self) -> None:
        self.partitions: list[int] | None = None
        self.diary: list[str] = []

    async def revoked(self) -> None:
        self.diary.append("revoked")
        self.partitions = None

    def assigned(self, partitions: Iterable[int]) -> None:
        self.partitions = sorted(partitions)
        self.diary.append(f"assigned {self.partitions}")


class Member:
    """A feed that is polled all the time, as the worker does it.

    Attributes:
        got: values by place, in order of arrival.
        offsets: the same, as offsets.
    """

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.watcher = Watcher()
        self.got: dict[Place, list[bytes | None]] = {}
        self.offsets: dict[Place, list[int]] = {}
        self.polls = 0
        self._polling: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Member:
        await self.feed.start(self.watcher)
        self._polling = asyncio.create_task(self._poll())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        polling, self._polling = self._polling, None
        if polling is not None:
            polling.cancel()
            with suppress(asyncio.CancelledError, Exception):  # shown by `until`
                await polling
            await self.feed.stop()

    async def _poll(self) -> None:
        while True:
            for place, sources in (await self.feed.poll()).items():
                self.got.setdefault(place, []).extend(source.value for source in sources)
                self.offsets.setdefault(place, []).extend(source.offset for source in sources)
            self.polls += 1
            await asyncio.sleep(0)

    async def until(self, holds: Callable[[], bool], what: str = "a condition") -> None:
        """Wait for something, within a bound; raises what the polling raised."""
        async with asyncio.timeout(WITHIN_S):
            while not holds():
                if self._polling is not None and self._polling.done():
                    self._polling.result()
                await asyncio.sleep(0.005)

    async def polled(self, times: int = 3) -> None:
        """Wait until a few polls have come back: whatever was there to be read has been."""
        aim = self.polls + times
        await self.until(lambda: self.polls >= aim)


async def read_all(reader: Reader, topic: str, *, count_max: int = 1_000, stop: int | None = None) -> list[Source]:
    """Everything up to the end, or to `stop`."""
    found: list[Source] = []
    async with asyncio.timeout(WITHIN_S):
        while sources := await reader.read(Place(topic, 0), count_max, stop):
            assert len(sources) <= count_max
            found += sources
    return found


async def read_from(broker: Broker, topic: str, start: int = 0) -> list[Source]:
    """The same, by a reader of its own."""
    reader = broker.reader()
    try:
        await reader.open({Place(topic, 0): start})
        return await read_all(reader, topic)
    finally:
        await reader.close()


def values_of(sources: Iterable[Source]) -> list[bytes | None]:
    return [source.value for source in sources]
