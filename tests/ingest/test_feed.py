"""Events and labels go out in the order of their times, keyed alike, all acknowledged."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from itertools import pairwise
from typing import Any

import orjson
import pytest
from aiokafka.client import AIOKafkaClient

from driftline.codec.decode import MISSING
from driftline.codec.wire import Sent
from driftline.core.error import BrokerError, TopicError, UnreachableError
from driftline.core.notation import KEY
from driftline.core.pipeline import Pipeline
from driftline.devbroker.embedded import EmbeddedNode
from driftline.devbroker.kafka import KafkaNode
from driftline.devbroker.node import hold_still, wait_for
from driftline.ingest import feed
from driftline.ingest.feed import RowSender, partition_of
from driftline.ingest.table import Sample
from driftline.kafka import access, client
from driftline.kafka.client import Arrival, subscribe
from tests.support.pipelines import pipeline, settings

pytestmark = pytest.mark.slow

BASE_MS = 1_700_000_000_000


def samples(count: int, step_ms: int = 10, **extra: Any) -> list[Sample]:
    return [Sample(i, {"id": i, "amount": i / 2, **extra}, i % 2, BASE_MS + i * step_ms) for i in range(count)]


async def arrived(bootstrap: str, topic: str, count: int) -> list[Arrival]:
    """The first records of a topic."""
    found: list[Arrival] = []
    source = subscribe({"bootstrap_servers": bootstrap}, topic, from_beginning=True, committed=False)
    async with aclosing(source):
        async for batch in source:
            found += batch
            if len(found) >= count:
                break
    return found


def in_order(found: list[Arrival]) -> bool:
    """Whether times never go back within a partition."""
    partitions = {one.partition for one in found}
    return all(
        a.time_ms <= b.time_ms
        for partition in partitions
        for a, b in pairwise(one for one in found if one.partition == partition)
    )


def topics(of: Pipeline, partitions: int) -> dict[str, int]:
    assert of.topics.labels is not None
    return {of.topics.events: partitions, of.topics.labels: partitions}


async def test_events_and_labels_arrive_in_order_on_one_partition(embedded: EmbeddedNode) -> None:
    of = pipeline()
    embedded.create_topics(topics(of, 3))
    feed = RowSender(of, settings(embedded.bootstrap), label_delay_ms=505)
    fed = await feed.run(samples(1_000))
    assert (fed.rows, fed.events, fed.labels, fed.unlabelled, fed.disordered) == (1_000, 1_000, 1_000, 0, 0)
    assert (fed.first_ms, fed.last_ms) == (BASE_MS, BASE_MS + 9_990)
    events = await arrived(embedded.bootstrap, of.topics.events, 1_000)
    labels = await arrived(embedded.bootstrap, str(of.topics.labels), 1_000)
    assert in_order(events)
    assert in_order(labels)
    by_key = {one.key: one for one in events}
    assert len(by_key) == len(labels) == 1_000
    for label in labels:
        event = by_key[label.key]
        assert label.partition == event.partition == partition_of(label.key or b"", 3)
        assert label.time_ms == event.time_ms + 505
        number = int(label.key or b"")
        assert orjson.loads(label.value or b"") == {"id": number, "fraud": number % 2}
        assert orjson.loads(event.value or b"") == {"id": number, "amount": number / 2}


async def test_ids_and_labels_go_where_the_pipeline_looks_for_them(embedded: EmbeddedNode) -> None:
    of = pipeline(
        event={"id": "$key.id", "envelope": "debezium", "features": {"amount": "number"}},
        label={"id": "$key", "key": "integer", "value": "$headers.fraud", "wait": "1d"},
        model="LogisticRegression()",
    )
    embedded.create_topics(topics(of, 3))
    rows = [row._replace(event={"amount": 1.5, KEY: {"id": row.event_id}}) for row in samples(30)]
    await RowSender(of, settings(embedded.bootstrap)).run(rows)
    events = await arrived(embedded.bootstrap, of.topics.events, 30)
    labels = await arrived(embedded.bootstrap, str(of.topics.labels), 30)
    places = {orjson.loads(one.key or b"")["id"]: one.partition for one in events}
    for event in events:
        assert event.partition == partition_of(event.key or b"", 3)
        assert orjson.loads(event.value or b"")["after"] == {"amount": 1.5}
    for label in labels:
        number = int(label.key or b"")
        assert places[number] == label.partition
        assert (label.value, dict(label.headers)) == (b"{}", {"fraud": b"%d" % (number % 2)})


async def test_no_event_is_sent_before_the_labels_that_are_due_before_it(
    embedded: EmbeddedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When events go out, the broker has acknowledged every label up to their times."""
    of = pipeline()
    embedded.create_topics(topics(of, 2))
    in_hand: dict[feed.Lane, list[int]] = {}
    labels: list[tuple[asyncio.Future[Any], int]] = []
    lacking: list[int] = []
    append, flush = feed.Lane.append, feed.Lane.flush

    def noted(self: feed.Lane, record: Sent, time_ms: int) -> int:
        in_hand.setdefault(self, []).append(time_ms)
        return append(self, record, time_ms)

    async def watched(self: feed.Lane) -> None:
        times = in_hand.pop(self, [])
        if self._topic == of.topics.events and times:
            due = sum(time_ms + 1_000 <= max(times) for time_ms in range(BASE_MS, BASE_MS + 100_000, 10))
            lacking.append(due - sum(count for future, count in labels if future.done()))
        await flush(self)
        if self._topic == of.topics.labels and times:
            labels.append((self._outlet.under_way[-1][1], len(times)))

    monkeypatch.setattr(feed.Lane, "append", noted)
    monkeypatch.setattr(feed.Lane, "flush", watched)
    await RowSender(of, settings(embedded.bootstrap), label_delay_ms=1_000).run(samples(10_000))
    assert len(lacking) >= 10
    assert max(lacking) <= 0


async def test_labels_follow_the_pipelines_paths_and_may_be_missing(embedded: EmbeddedNode) -> None:
    of = pipeline(label={"id": "ref.id", "value": "out.come", "time": "ts", "wait": "7d"})
    embedded.create_topics(topics(of, 1))
    rows = [Sample("a", {"id": "a"}, MISSING, BASE_MS), Sample("b", {"id": "b"}, True, BASE_MS)]
    fed = await RowSender(of, settings(embedded.bootstrap), label_delay_ms=7).run(rows)
    assert (fed.labels, fed.unlabelled) == (1, 1)
    (label,) = await arrived(embedded.bootstrap, str(of.topics.labels), 1)
    assert orjson.loads(label.value or b"") == {"ref": {"id": "b"}, "out": {"come": True}, "ts": BASE_MS + 7}


async def test_rows_out_of_order_are_counted(embedded: EmbeddedNode) -> None:
    of = pipeline()
    embedded.create_topics(topics(of, 1))
    rows = samples(10)
    rows[3], rows[7] = rows[7], rows[3]
    fed = await RowSender(of, settings(embedded.bootstrap)).run(rows)
    assert fed.disordered == 4
    assert fed.first_ms == BASE_MS


async def test_a_given_rate_is_kept(embedded: EmbeddedNode) -> None:
    of = pipeline()
    embedded.create_topics(topics(of, 1))
    fed = await RowSender(of, settings(embedded.bootstrap), rate=200).run(samples(100))
    assert fed.rows == 100
    assert 0.4 <= fed.seconds < 5.0


async def test_a_record_larger_than_a_batch_goes_alone(embedded: EmbeddedNode) -> None:
    of = pipeline()
    embedded.create_topics(topics(of, 1))
    await RowSender(of, settings(embedded.bootstrap)).run(samples(5, note="x" * 300_000))
    assert len(await arrived(embedded.bootstrap, of.topics.events, 5)) == 5


async def test_missing_topics_are_a_clear_error(embedded: EmbeddedNode) -> None:
    with pytest.raises(TopicError, match=r"cards.events, cards.labels; create them with `driftline topics create"):
        await RowSender(pipeline(), settings(embedded.bootstrap)).run(samples(1))


async def test_labels_may_have_another_number_of_partitions(embedded: EmbeddedNode) -> None:
    of = pipeline()
    embedded.create_topics({of.topics.events: 2, str(of.topics.labels): 3})
    await RowSender(of, settings(embedded.bootstrap)).run(samples(40))
    labels = await arrived(embedded.bootstrap, str(of.topics.labels), 40)
    assert [one.partition for one in labels] == [partition_of(one.key or b"", 3) for one in labels]


async def test_kafka_refusing_a_time_is_a_clear_error(kafka: KafkaNode) -> None:
    of = pipeline("ahead")
    kafka.create_topics(topics(of, 1))
    rows = [Sample(1, {"id": 1}, 1, 4_000_000_000_000)]
    with pytest.raises(BrokerError, match="refused records of ahead.events whose time is further ahead.*--start"):
        await RowSender(of, settings(kafka.bootstrap)).run(rows)


async def test_kafka_refusing_a_size_is_a_clear_error(kafka: KafkaNode) -> None:
    of = pipeline("large")
    kafka.create_topics(topics(of, 1))
    with pytest.raises(BrokerError, match="refused records of large.events larger"):
        await RowSender(of, settings(kafka.bootstrap)).run(samples(3, note="x" * 2_000_000))


# -- a broker that goes away under way


def hit(node: EmbeddedNode, fault: signal.Signals) -> None:
    """Kill the broker, or stop it so that its connections stay open and nothing answers."""
    if fault == signal.SIGSTOP:
        hold_still(node.pid)
        return
    os.kill(node.pid, fault)
    assert wait_for(lambda: not node.alive(), 5)


def hit_before(number: int, node: EmbeddedNode, fault: signal.Signals, rows: Iterable[Sample]) -> Iterator[Sample]:
    """The rows; before one of them, or behind the last, the broker is hit."""
    for place, row in enumerate(rows):
        if place == number:
            hit(node, fault)
        yield row
    if number < 0:
        hit(node, fault)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadlines of production, shorter."""
    monkeypatch.setattr(feed, "SILENCE_MAX_S", 1.0)
    monkeypatch.setattr(client, "START_DEADLINE_S", 1.0)
    monkeypatch.setattr(access, "PATIENCE_S", 0.2)


async def ends(feeding: RowSender, rows: Iterable[Sample], told: str, node: EmbeddedNode) -> None:
    """It ends with this error in time, and leaves nothing behind: no task, no connection."""
    begun_s = time.monotonic()
    with pytest.raises(UnreachableError, match=told):
        await feeding.run(rows)
    assert time.monotonic() - begun_s < 15
    if node.alive():
        os.kill(node.pid, signal.SIGCONT)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    gc.collect()  # a connection that was forgotten is told of now, and fails the test


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=lambda one: one.name)
@pytest.mark.parametrize(
    ("number", "rate"), [(0, None), (500, None), (-1, None), (20, 200.0)], ids=["first", "middle", "last", "paced"]
)
async def test_a_broker_that_goes_under_way_is_a_clear_error(
    embedded: EmbeddedNode, hurried: None, fault: signal.Signals, number: int, rate: float | None
) -> None:
    """Nothing is acknowledged any more, and aiokafka would try for ever: it says so after a while."""
    of = pipeline()
    embedded.create_topics(topics(of, 2))
    rows = hit_before(number, embedded, fault, samples(1_000 if rate is None else 2_000))
    feeding = RowSender(of, settings(embedded.bootstrap), label_delay_ms=50, rate=rate)
    await ends(
        feeding, rows, r"acknowledged nothing for 1 s: check that the broker runs, has space on its disk", embedded
    )


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=lambda one: one.name)
async def test_a_broker_that_goes_while_the_producer_starts_is_a_clear_error(
    embedded: EmbeddedNode, hurried: None, fault: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first answer and the producer's id, for which aiokafka asks for ever."""
    of = pipeline()
    embedded.create_topics(topics(of, 1))
    feeding = RowSender(of, settings(embedded.bootstrap))
    starts = 0

    async def bootstrap(self: AIOKafkaClient) -> None:
        nonlocal starts
        await started(self)
        starts += 1
        if starts == 2:  # the first was asked for the partitions
            hit(embedded, fault)

    started = AIOKafkaClient.bootstrap
    monkeypatch.setattr(AIOKafkaClient, "bootstrap", bootstrap)
    await ends(feeding, samples(10), "cannot reach Kafka at", embedded)
    assert starts == 2


async def test_a_broker_that_goes_before_the_partitions_are_known_is_a_clear_error(
    embedded: EmbeddedNode, hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bootstrap(self: AIOKafkaClient) -> None:
        await started(self)
        hit(embedded, signal.SIGKILL)

    started = AIOKafkaClient.bootstrap
    monkeypatch.setattr(AIOKafkaClient, "bootstrap", bootstrap)
    await ends(RowSender(pipeline(), settings(embedded.bootstrap)), samples(10), "cannot reach Kafka at", embedded)


async def test_a_pause_shorter_than_the_silence_is_waited_out(
    embedded: EmbeddedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = pipeline()
    embedded.create_topics(topics(of, 1))
    monkeypatch.setattr(feed, "SILENCE_MAX_S", 5.0)
    rows = hit_before(-1, embedded, signal.SIGSTOP, samples(1_000))
    sending = asyncio.create_task(RowSender(of, settings(embedded.bootstrap)).run(rows))
    done, _ = await asyncio.wait({sending}, timeout=1.0)
    assert not done
    os.kill(embedded.pid, signal.SIGCONT)
    assert (await sending).events == 1_000


def test_partitions_are_those_of_kafkas_own_producers() -> None:
    """Values of org.apache.kafka.clients.producer's default partitioner, murmur2 of the key."""
    assert [partition_of(key, 4) for key in (b"21", b"foobar", b"a-little-bit-long-string")] == [
        (-973932308 & 0x7FFFFFFF) % 4, (-790332482 & 0x7FFFFFFF) % 4, (-985981536 & 0x7FFFFFFF) % 4,
    ]  # fmt: skip
