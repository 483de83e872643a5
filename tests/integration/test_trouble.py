"""What a worker and `driftline status` say when something is wrong around them, on a real Kafka."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin.new_partitions import NewPartitions

from driftline.devbroker import kafka as kafka_broker
from driftline.devbroker.kafka import KafkaNode
from driftline.kafka.client import admin, client_options, producer
from tests.integration.test_faults import DRAINED_S, Place, ready
from tests.support.command import Worker, driftline, succeed
from tests.support.stream import settings_of, weather

SEEN_S = 60.0
COUNT = 200


@pytest.fixture(scope="module")
def node(kafka_needs: None) -> Iterator[KafkaNode]:
    """A node that tests may stop for a while."""
    with kafka_broker.start(partitions=2) as node:
        yield node


def options(place: Place) -> dict[str, Any]:
    return client_options(settings_of(place.bootstrap))


async def widen(place: Place, *topics: str) -> None:
    async with admin(options(place)) as client:
        await client.create_partitions({topic: NewPartitions(4) for topic in topics})


@asynccontextmanager
async def opened(place: Place, topic: str, count: int) -> Any:
    """A stranger's transaction with records in partition 0, which is open inside; the producer is given."""
    stranger = AIOKafkaProducer(**options(place), transactional_id=f"stranger-{topic}")
    await stranger.start()
    try:
        await stranger.begin_transaction()
        for _ in range(count):
            await stranger.send_and_wait(topic, b"{}", partition=0)
        yield stranger
    finally:
        await stranger.stop()


def status(place: Place) -> list[dict[str, Any]]:
    printed = succeed("status", "-p", place.file, "--bootstrap", place.bootstrap, "--json")
    shards: list[dict[str, Any]] = json.loads(printed)
    return shards


def test_inputs_that_are_widened_under_a_worker(node: KafkaNode, tmp_path: Any) -> None:
    """Case 42: seen within a minute, in one sentence with the remedy; scores, metrics and `status` go on."""
    place = Place(node.bootstrap, tmp_path, "widened", weather(tmp_path, COUNT))
    place.create()
    place.produce()
    topics = place.pipeline.topics
    with place.worker() as worker:
        place.until_joined(COUNT)
        worker.until(lambda: ready(worker), DRAINED_S, "it is ready")
        asyncio.run(widen(place, topics.events, topics.labels or ""))
        worker.until_said("partitions were added", SEEN_S)
        worker.until(lambda: _says(worker, "driftline topics check"), DRAINED_S, "it is not ready, and says why")
        worker.until(lambda: not _says(worker, "still recovering"), DRAINED_S, "the rebalance is over")
        assert not ready(worker)
        assert worker.metric("driftline_ready") == 0
        assert worker.metric("driftline_partitions_unread") == 4, "two of each input"
        scored = worker.metric("driftline_scores_total")
        asyncio.run(_send(place, 0, range(COUNT, COUNT + 50)))
        worker.until(lambda: worker.metric("driftline_scores_total") == scored + 50, DRAINED_S, "shards go on")
        shards = status(place)
        assert [one["partition"] for one in shards] == [0, 1]
        assert "partitions were added" in shards[0]["troubles"][0]
        assert worker.log().count("partitions were added") == 1
        assert worker.stop() == 0


def _says(worker: Worker, text: str) -> bool:
    page = worker.page("/health/ready")
    return page is not None and text in str(json.loads(page[1]).get("reasons"))


async def _send(place: Place, partition: int, ids: range) -> None:
    event = dict.fromkeys(place.rows.features, 1.0)
    async with producer(options(place)) as client:
        for number in ids:
            value = json.dumps({"id": number, **event}).encode()
            await client.send_and_wait(place.pipeline.topics.events, value, partition=partition)


def test_status_while_kafka_is_away(node: KafkaNode, tmp_path: Any) -> None:
    """It comes back soon, and says that nothing could be learned, whether Kafka is gone or hangs."""
    place = Place(node.bootstrap, tmp_path, "gone", weather(tmp_path, 1))
    place.create()
    asked = ("status", "-p", place.file, "--bootstrap", place.bootstrap)
    began_s = time.monotonic()
    succeed("status", "--help")
    starting_s = time.monotonic() - began_s
    node.pause()
    try:
        began_s = time.monotonic()
        hung = driftline(*asked, timeout_s=60)
        took_s = time.monotonic() - began_s
    finally:
        node.resume()
    assert hung.returncode == 3
    assert "no answer within 1.2 s" in hung.stderr
    assert took_s < 2 * starting_s + 3.0, "the time to start Python apart"
    refused = driftline("status", "-p", place.file, "--bootstrap", "127.0.0.1:9", timeout_s=60)
    assert refused.returncode == 3
    assert "cannot reach Kafka at 127.0.0.1:9" in refused.stderr


def test_status_of_a_journal_with_a_record_of_another(node: KafkaNode, tmp_path: Any) -> None:
    place = Place(node.bootstrap, tmp_path, "scribbled", weather(tmp_path, COUNT))
    place.create()
    place.produce()
    with place.worker() as worker:
        place.until_joined(COUNT)
        assert worker.stop() == 0
    before = status(place)
    assert all(one["troubles"] == [] and one["note"] is not None for one in before)

    async def scribble() -> None:
        async with producer(options(place)) as client:
            for value in (b"not json", b'{"kind":"slice"}', b"\xff\x00"):
                await client.send_and_wait(place.pipeline.topics.journal, value, partition=0)

    asyncio.run(scribble())
    after = status(place)
    (trouble,) = after[0]["troubles"]
    assert "scribbled.journal-0 holds a record at offset" in trouble
    assert "and 2 more" in trouble
    assert after[0]["positions"] == before[0]["positions"]
    assert after[1] == before[1]


def test_transactions_of_others_and_aborted_tails(node: KafkaNode, tmp_path: Any) -> None:
    """What is aborted is no lag; what is open is named, in an input and in the journal, and counted to the end only."""
    place = Place(node.bootstrap, tmp_path, "held", weather(tmp_path, COUNT))
    place.create()
    place.produce()
    topics = place.pipeline.topics
    with place.worker() as worker:
        place.until_joined(COUNT)

        async def abort() -> None:
            async with opened(place, topics.events, 30) as stranger:
                await stranger.abort_transaction()

        asyncio.run(abort())
        for shard in status(place):
            assert set(shard["lag"].values()) == set(shard["lag_to_end"].values()) == {0}

        async def hold() -> None:
            async with opened(place, topics.events, 7) as one, opened(place, topics.journal, 1) as two:
                shards = await asyncio.to_thread(status, place)
                assert shards[0]["lag"][topics.events] == 0
                assert shards[0]["lag_to_end"][topics.events] == 7
                told = "\n".join(shards[0]["troubles"])
                for topic in (topics.events, topics.journal):
                    assert f"a transaction of another producer is open in {topic}-0 since 20" in told
                assert shards[1]["troubles"] == []
                await asyncio.to_thread(
                    worker.until_said, f"a transaction of another producer is open in {topics.events}-0", SEEN_S
                )
                assert worker.metric("driftline_transaction_open_seconds") >= 10
                assert worker.metric("driftline_lag_to_end") == 7
                assert worker.metric("driftline_lag") == 0
                await one.abort_transaction()
                await two.abort_transaction()

        asyncio.run(hold())
        worker.until_said("has ended, reading continues", SEEN_S)
        assert worker.stop() == 0
