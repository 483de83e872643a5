"""Labels that another client puts into other partitions, or writes with ids of another type, on a real Kafka."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer

from driftline.core.pipeline import parse_pipeline
from driftline.devbroker.kafka import KafkaNode
from driftline.kafka.topic import create
from tests.support.command import Worker, succeed
from tests.support.stream import documents, settings_of, until_written

COUNT, PARTITIONS = 400, 4
WITHIN_S = 120.0


def produce(bootstrap: str, topic: str, values: list[dict[str, Any]], partitioner: str) -> None:
    """As any user of librdkafka does."""
    sender = Producer({"bootstrap.servers": bootstrap, "partitioner": partitioner})
    for value in values:
        sender.produce(topic, key=str(value["id"]), value=orjson.dumps(value))
    assert sender.flush(30) == 0


@pytest.mark.timeout(400)
@pytest.mark.parametrize("fault", ["partition", "ids"])
async def test_lost_labels_are_told_of_while_they_come(kafka: KafkaNode, tmp_path: Path, fault: str) -> None:
    chosen = parse_pipeline(
        {
            "pipeline": f"lost-{fault}",
            "task": "binary",
            "event": {"id": "id", "features": {"x": "number"}},
            "label": {"id": "id", "value": "y", "wait": "2d"},
            "model": "LogisticRegression()",
        }
    )
    bootstrap, labels = kafka.bootstrap, chosen.topics.labels or ""
    await create(chosen, settings_of(bootstrap), partitions=PARTITIONS, shards=PARTITIONS, retention_ms=-1)
    file = tmp_path / "pipeline.yaml"
    file.write_bytes(orjson.dumps(chosen.resolved()))
    with Worker(file, bootstrap, tmp_path) as worker:
        events = [{"id": number, "x": number % 7} for number in range(COUNT)]
        await asyncio.to_thread(produce, bootstrap, chosen.topics.events, events, "murmur2_random")
        await until_written(bootstrap, chosen.topics.scores, COUNT, WITHIN_S)
        truths = [{"id": str(n) if fault == "ids" else n, "y": n % 2} for n in range(COUNT)]
        by = "murmur2_random" if fault == "ids" else "consistent_random"
        await asyncio.to_thread(produce, bootstrap, labels, truths, by)
        await until_written(bootstrap, chosen.topics.alerts, PARTITIONS, WITHIN_S)  # each shard tells of its own
        told = [one for one in await documents(bootstrap, chosen.topics.alerts) if one["state"] == "opened"]
        assert [(one["kind"], one["evidence"]["cause"]) for one in told] == [("label_match", fault)] * PARTITIONS
        words = "over 4 partitions; labels by CRC32" if fault == "partition" else "strings instead of numbers"
        assert all(words in one["sentence"] for one in told)
        assert worker.metric("driftline_open_episodes", kind="label_match") == PARTITIONS
        assert worker.metric("driftline_early_labels") + worker.metric("driftline_labels_joined_total") == COUNT
        shown = await asyncio.to_thread(succeed, "status", "-p", file, "--bootstrap", bootstrap, "--json")
        kept = [one["note"]["labels"] for one in orjson.loads(shown)]
        assert sum(one["early"] + one["joined"] for one in kept) == COUNT
        assert sum(one["early"] for one in kept) == (COUNT if fault == "ids" else pytest.approx(COUNT * 3 / 4, rel=0.2))
        assert await asyncio.to_thread(worker.stop) == 0
