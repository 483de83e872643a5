"""A bare aiokafka loop, as short as it can be written: no exactly-once, no recovery, no metrics, no outcomes.

It may lose or repeat scores when it is killed, and forgets what it learned. It is what a framework's cost is held
against.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.contender.stopwatch import Stopwatch, options
from benchmarks.machine import pin
from benchmarks.model import MODELS


async def run(asked: dict[str, Any]) -> None:
    watch, work, scores = Stopwatch(), MODELS[asked["model"]].work(), asked["scores"]
    consumer = AIOKafkaConsumer(
        *filter(None, (asked["events"], asked["labels"])),
        bootstrap_servers=asked["bootstrap"],
        group_id=asked["name"],
        auto_offset_reset="earliest",
    )
    producer = AIOKafkaProducer(bootstrap_servers=asked["bootstrap"])
    await producer.start()
    await consumer.start()
    while not work.done(asked):
        for place, records in (await consumer.getmany(timeout_ms=1000)).items():
            watch.begin()
            if place.topic == asked["labels"]:
                for record in records:
                    work.label(orjson.loads(record.value), record.timestamp)
                continue
            for record in records:
                score = work.event(orjson.loads(record.value), record.timestamp)
                await producer.send(scores, orjson.dumps(score), key=record.key)
    await producer.flush()
    watch.end()
    await consumer.stop()
    await producer.stop()
    watch.report(work.scored, work.learned, fitted=work.quality())


if __name__ == "__main__":
    asked = options()
    pin(asked["core"])
    asyncio.run(run(asked))
