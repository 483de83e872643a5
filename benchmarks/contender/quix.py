"""A Quix Streams application: a streaming dataframe for each topic, at least once or exactly once.

The model is in the closure of both functions, which is the fastest that Quix has: its state store would serialise the
model for each record.
"""

from __future__ import annotations

from typing import Any

import orjson
from quixstreams import Application

from benchmarks.contender.stopwatch import Stopwatch, options
from benchmarks.machine import pin
from benchmarks.model import MODELS


def run(asked: dict[str, Any]) -> None:
    watch, work = Stopwatch(), MODELS[asked["model"]].work()
    app = Application(
        broker_address=asked["bootstrap"],
        consumer_group=asked["name"],
        auto_offset_reset="earliest",
        auto_create_topics=False,
        processing_guarantee=asked["delivery"],
        loglevel="ERROR",
    )

    def stop_at_end() -> None:
        if work.done(asked):
            app.stop()

    def score(value: bytes, key: object, time_ms: int, headers: object) -> bytes:
        watch.begin()
        scored = orjson.dumps(work.event(orjson.loads(value), time_ms))
        stop_at_end()
        return scored

    def learn(value: bytes, key: object, time_ms: int, headers: object) -> None:
        watch.begin()
        work.label(orjson.loads(value), time_ms)
        stop_at_end()

    def topic(name: str) -> Any:
        kinds = {"key_serializer": "bytes", "key_deserializer": "bytes"}
        return app.topic(name, value_serializer="bytes", value_deserializer="bytes", **kinds)

    app.dataframe(topic(asked["events"])).apply(score, metadata=True).to_topic(topic(asked["scores"]))
    if asked["labels"]:
        app.dataframe(topic(asked["labels"])).update(learn, metadata=True)
    app.run()  # its last commit included
    watch.end()
    watch.report(work.scored, work.learned, fitted=work.quality())


if __name__ == "__main__":
    asked = options()
    pin(asked["core"])
    run(asked)
