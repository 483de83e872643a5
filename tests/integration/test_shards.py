"""One model on a real Kafka, however many partitions its topics have, and though its worker is killed: a second worker,
which held no shard, takes over."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from driftline.core.pipeline import Pipeline
from driftline.devbroker.kafka import KafkaNode
from driftline.kafka.client import client_options
from driftline.kafka.topic import create
from tests.support.command import Worker, succeed
from tests.support.stream import Rows, documents, pipeline_file, pipeline_of, settings_of, until_written

EVENTS = 3_000
BASE_MS = 1_700_000_000_000
DRAINED_S = 120.0
COUNTS = ((1, 1), (4, 4), (16, 5))  # partitions of events and of labels
ROWS = Rows(Path(), ("x", "z"), "y", EVENTS)


@pytest.mark.timeout(600)
async def test_scores_do_not_depend_on_the_number_of_partitions(kafka: KafkaNode, tmp_path: Path) -> None:
    found = []
    async with asyncio.TaskGroup() as group:
        runs = [group.create_task(_run(kafka.bootstrap, tmp_path, *counts)) for counts in COUNTS]
    found = [run.result() for run in runs]
    assert len(found[0]["scores"]) == EVENTS
    assert found[0] == found[1] == found[2]


async def _run(bootstrap: str, folder: Path, events: int, labels: int) -> dict[str, list[Any]]:
    name = f"shards-{events}"
    file = pipeline_file(folder, name, ROWS, limits={"slice_records_max": 50}, snapshot={"every_records": 500})
    pipeline = pipeline_of(file)
    await _create(bootstrap, pipeline, events, labels)
    await _produce(bootstrap, pipeline, events, labels)
    with Worker(file, bootstrap, folder, name=f"{name}-first") as first:
        await until_written(bootstrap, pipeline.topics.scores, random.randrange(1, EVENTS // 2), DRAINED_S)
        with Worker(file, bootstrap, folder, name=f"{name}-second") as second:
            await asyncio.to_thread(second.until_said, "shards of this worker: ", times=1)
            first.kill()
            await until_written(bootstrap, pipeline.topics.scores, EVENTS, DRAINED_S)
            await until_written(bootstrap, pipeline.topics.outcomes, EVENTS, DRAINED_S)
            await asyncio.to_thread(second.until_ready, 1)
            await _check_group(bootstrap, pipeline, events)
            assert await asyncio.to_thread(second.stop) == 0
    told = await asyncio.to_thread(succeed, "verify", "-p", file, "--bootstrap", bootstrap, "--outputs")
    assert told.startswith("PASS")
    return {kind: await _made(bootstrap, getattr(pipeline.topics, kind)) for kind in ("scores", "outcomes", "alerts")}


async def _create(bootstrap: str, pipeline: Pipeline, events: int, labels: int) -> None:
    """Topics with `shards: 1`, and another number of partitions for labels."""
    settings = settings_of(bootstrap)
    only_labels = pipeline.model_copy(
        update={"topics": pipeline.topics.model_copy(update={"events": f"{pipeline.name}.unused"})}
    )
    if labels != events:
        await create(only_labels, settings, partitions=labels, retention_ms=-1)
    await create(pipeline, settings, partitions=events, retention_ms=-1)


async def _produce(bootstrap: str, pipeline: Pipeline, events: int, labels: int) -> None:
    """Events and labels at times of their own, without keys, each in any partition."""
    rng, places = random.Random(7), random.Random(events)
    sends: list[tuple[int, str, int, dict[str, Any]]] = []
    for number in range(EVENTS):
        x, z = rng.gauss(0, 1), rng.gauss(0, 1)
        time_ms = BASE_MS + 1_000 * number
        sends.append((time_ms, pipeline.topics.events, events, {"id": number, "x": x, "z": z}))
        label = {"id": number, "y": int(x - z + rng.gauss(0, 0.5) > 0)}
        delay_ms = 1_000 * rng.randrange(1, 60) + 1 + number % 999
        sends.append((time_ms + delay_ms, str(pipeline.topics.labels), labels, label))
    producer = AIOKafkaProducer(**client_options(settings_of(bootstrap)), acks="all", enable_idempotence=True)
    await producer.start()
    try:
        waits = [
            await producer.send(topic, orjson.dumps(value), partition=places.randrange(count), timestamp_ms=time_ms)
            for time_ms, topic, count, value in sorted(sends, key=lambda one: one[0])
        ]
        await asyncio.gather(*waits)
    finally:
        await producer.stop()


async def _check_group(bootstrap: str, pipeline: Pipeline, events: int) -> None:
    """The group has the offsets of every partition of the inputs, for lag tools."""
    client = AIOKafkaAdminClient(**client_options(settings_of(bootstrap)))
    await client.start()
    try:
        async with asyncio.timeout(30):
            while True:
                noted = await client.list_consumer_group_offsets(f"driftline-{pipeline.name}")
                found = {
                    place.partition: at.offset for place, at in noted.items() if place.topic == pipeline.topics.events
                }
                if len(found) == events and sum(found.values()) == EVENTS:
                    return
                await asyncio.sleep(0.5)
    finally:
        await client.close()


async def _made(bootstrap: str, topic: str) -> list[Any]:
    """What users read, but for what names partitions, in an order of its own."""
    positions = ("output_id", "positions", "opened_at", "episode", "pipeline")
    bare = [
        {name: value for name, value in one.items() if name not in positions}
        for one in await documents(bootstrap, topic)
    ]
    return sorted(bare, key=orjson.dumps)
