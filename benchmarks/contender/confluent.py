"""A bare confluent-kafka loop: batches in, as its documentation has it for throughput; nothing promised."""

from __future__ import annotations

from typing import Any

import orjson
from confluent_kafka import Consumer, Producer

from benchmarks.contender.stopwatch import Stopwatch, options
from benchmarks.machine import pin
from benchmarks.model import MODELS


def run(asked: dict[str, Any]) -> None:
    watch, work, scores = Stopwatch(), MODELS[asked["model"]].work(), asked["scores"]
    consumer = Consumer(
        {"bootstrap.servers": asked["bootstrap"], "group.id": asked["name"], "auto.offset.reset": "earliest"}
    )
    producer = Producer(
        {"bootstrap.servers": asked["bootstrap"], "linger.ms": 5, "queue.buffering.max.messages": 1_000_000}
    )
    consumer.subscribe([topic for topic in (asked["events"], asked["labels"]) if topic])
    while not work.done(asked):
        for record in consumer.consume(1000, timeout=1.0):
            if record.error() is not None:
                raise RuntimeError(record.error())
            watch.begin()
            document, (_, time_ms) = orjson.loads(record.value() or b""), record.timestamp()
            if record.topic() == asked["labels"]:
                work.label(document, time_ms)
            else:
                producer.produce(scores, orjson.dumps(work.event(document, time_ms)), key=record.key())
        producer.poll(0)
    producer.flush()
    watch.end()
    consumer.close()
    watch.report(work.scored, work.learned, fitted=work.quality())


if __name__ == "__main__":
    asked = options()
    pin(asked["core"])
    run(asked)
