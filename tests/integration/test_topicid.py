"""Topic ids as a real broker gives them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from driftline.devbroker.embedded import EmbeddedNode
from driftline.devbroker.kafka import KafkaNode
from driftline.kafka.topic_id import identities

WITHIN_S = 60.0


@pytest.fixture
async def client(kafka: KafkaNode) -> Any:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap)
    await consumer.start()
    yield consumer._client
    await consumer.stop()


async def test_a_topic_made_anew_has_another_id(kafka: KafkaNode, client: Any) -> None:
    kafka.create_topics({"known": 2, "other": 1})
    first = await identities(client, ["known", "other", "nowhere"])
    assert {topic: one.partitions for topic, one in first.items()} == {"known": 2, "other": 1}
    assert all(one.id is not None for one in first.values())
    assert await identities(client, ["known", "other"]) == first
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics(["known"])
    finally:
        await admin.close()

    async with asyncio.timeout(WITHIN_S):
        while await identities(client, ["known"]):  # noqa: ASYNC110 - another process is waited for
            await asyncio.sleep(0.05)
        kafka.create_topics({"known": 3})
        while "known" not in (second := await identities(client, ["known", "other"])):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert second["known"].id != first["known"].id
    assert second["known"].partitions == 3
    assert second["other"] == first["other"]


async def test_the_embedded_broker_answers_too(embedded: EmbeddedNode) -> None:
    embedded.create_topics({"known": 2})
    consumer = AIOKafkaConsumer(bootstrap_servers=embedded.bootstrap)
    await consumer.start()
    try:
        found = await identities(consumer._client, ["known", "nowhere"])
        assert {topic: one.partitions for topic, one in found.items()} == {"known": 2}
        assert await identities(consumer._client, ["known"]) == found
    finally:
        await consumer.stop()
