"""A Bytewax dataflow: its Kafka input and output, and one step over batches between them.

The model is in the closure of that step and not in a stateful one, which would copy it at each epoch, and there is no
recovery store: both are the fastest that Bytewax has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from bytewax import operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main

from benchmarks.contender.stopwatch import Stopwatch, options
from benchmarks.machine import pin
from benchmarks.model import MODELS

BATCH = 1_000


def run(asked: dict[str, Any]) -> None:
    watch, work = Stopwatch(), MODELS[asked["model"]].work()

    def answer(records: list[Any]) -> Iterator[Any]:
        watch.begin()
        for record in records:
            document, (_, time_ms) = orjson.loads(record.value), record.timestamp
            if record.topic == asked["labels"]:
                work.label(document, time_ms)
            else:
                yield KafkaSinkMessage(record.key, orjson.dumps(work.event(document, time_ms)))

    flow = Dataflow("flow")
    topics = [topic for topic in (asked["events"], asked["labels"]) if topic]
    source = KafkaSource([asked["bootstrap"]], topics, tail=False, batch_size=BATCH)
    scores = op.flat_map_batch("answer", op.input("records", flow, source), answer)
    op.output("scores", scores, KafkaSink([asked["bootstrap"]], asked["scores"]))
    run_main(flow)  # ends with the topics
    watch.end()
    watch.report(work.scored, work.learned, fitted=work.quality())


if __name__ == "__main__":
    asked = options()
    pin(asked["core"])
    run(asked)
