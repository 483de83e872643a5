"""Commands of an operator, on their way to the shards."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiokafka.errors import KafkaError

from app.config import Settings
from app.core.error import BrokerError, TopicError
from app.core.pipeline import Pipeline
from app.engine.advice import advice
from app.engine.client import admin, client_options, partition_counts, producer


async def command(values: Iterable[bytes], pipeline: Pipeline, settings: Settings) -> int:
    """Write commands to every partition of the control topic, each acknowledged by all before the next.

    Returns:
        How many partitions there are.

    Raises:
        TopicError: there is no such topic.
        BrokerError: Kafka refused one, or did not answer; those before it are written.
    """
    options, topic = client_options(settings), pipeline.topics.control
    async with admin(options) as client:
        count = (await partition_counts(client)).get(topic, 0)
    if not count:
        raise TopicError(f"there is no topic {topic}; make it with `driftline topics create -p FILE`")
    async with producer(options, acks="all") as sender:
        try:
            for value in values:
                await asyncio.gather(
                    *(sender.send_and_wait(topic, value, partition=partition) for partition in range(count))
                )
        except KafkaError as error:
            told = advice(error, topic) or f"{type(error).__name__}: {error}"
            raise BrokerError(f"the command could not be written to {topic}: {told}. Give it again") from error
    return count
