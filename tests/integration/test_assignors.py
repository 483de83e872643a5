"""Workers of before this version, which shared the inputs, and those that share the journal: never in one group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import InconsistentGroupProtocolError

from driftline.core.pipeline import Pipeline
from driftline.devbroker.kafka import KafkaNode
from driftline.kafka.topic import create
from tests.support.command import Worker
from tests.support.stream import Rows, pipeline_file, pipeline_of, settings_of

TAKEN = "the pipeline's consumer group has members that are not workers of this version"
JOIN_S = 30.0


@asynccontextmanager
async def old_worker(
    bootstrap: str, pipeline: Pipeline, assignor: type[AbstractPartitionAssignor]
) -> AsyncIterator[AIOKafkaConsumer]:
    """A member of the group as workers of before were: it shares the inputs."""
    member = AIOKafkaConsumer(
        pipeline.topics.events,
        pipeline.topics.labels,
        bootstrap_servers=bootstrap,
        group_id=f"driftline-{pipeline.name}",
        enable_auto_commit=False,
        partition_assignment_strategy=(assignor,),
    )
    try:
        async with asyncio.timeout(JOIN_S):
            await member.start()
        yield member
    finally:
        await member.stop()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("assignor", [RangePartitionAssignor, RoundRobinPartitionAssignor])
async def test_a_worker_waits_until_workers_of_before_have_left(
    kafka: KafkaNode, tmp_path: Path, assignor: type[AbstractPartitionAssignor]
) -> None:
    file = pipeline_file(tmp_path, f"mixed-{assignor.name}", Rows(Path(), ("x", "z"), "y", 10))
    pipeline = pipeline_of(file)
    await create(pipeline, settings_of(kafka.bootstrap), partitions=2, retention_ms=-1)
    async with old_worker(kafka.bootstrap, pipeline, assignor) as old:
        assert old.assignment()
        with Worker(file, kafka.bootstrap, tmp_path) as worker:
            await asyncio.to_thread(worker.until_said, f"not ready: {TAKEN}", times=1)
            assert old.assignment()
            await old.stop()
            await asyncio.to_thread(worker.until_ready, 1)
            with pytest.raises(InconsistentGroupProtocolError):  # and none of before gets in beside it
                async with old_worker(kafka.bootstrap, pipeline, assignor):
                    pass
            assert "Kafka is unavailable" not in worker.log_file.read_text()
            assert await asyncio.to_thread(worker.stop) == 0
