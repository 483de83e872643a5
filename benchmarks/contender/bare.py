"""A bare aiokafka loop, as short as it can be written: no exactly-once, no recovery, no metrics, no outcomes.

It may lose or repeat scores when it is killed, and forgets what it learned. It is what a framework's cost is held
against.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from river.compose import Select, TransformerUnion
from river.linear_model import LogisticRegression
from river.optim import AdaGrad
from river.preprocessing import FeatureHasher, OneHotEncoder, StandardScaler

from benchmarks import case
from benchmarks.contender.past import Past
from benchmarks.contender.stopwatch import Stopwatch, options
from benchmarks.machine import pin


def _model(kind: str) -> Any:
    if kind != "mixed":
        return StandardScaler() | LogisticRegression()
    numbers, columns = Select(*case.NUMBERS) | StandardScaler(), Select(*case.COLUMNS) | OneHotEncoder(drop_zeros=True)
    hashed = Select("merchant") | FeatureHasher(n_features=1024, seed=1)
    return TransformerUnion(numbers, columns, hashed) | LogisticRegression(optimizer=AdaGrad(0.1))


async def run(asked: dict[str, Any]) -> None:
    watch = Stopwatch()
    kind = asked.get("kind", "numbers")
    model, names = _model(kind), case.pipeline("any", kind=kind).event.features if kind == "mixed" else case.FEATURES
    waiting: dict[int, dict[str, Any]] = {}
    early: dict[int, bool] = {}
    cards: dict[int, int] = {}
    past = Past() if kind == "history" else None
    scored = learned = 0
    consumer = AIOKafkaConsumer(
        asked["events"],
        asked["labels"],
        bootstrap_servers=asked["bootstrap"],
        group_id=asked["name"],
        auto_offset_reset="earliest",
    )
    producer = AIOKafkaProducer(bootstrap_servers=asked["bootstrap"])
    await producer.start()
    await consumer.start()
    while learned < asked["pairs"]:
        for place, records in (await consumer.getmany(timeout_ms=1000)).items():
            watch.begin()
            if place.topic == asked["labels"]:
                for record in records:
                    document = orjson.loads(record.value)
                    known = waiting.pop(document["id"], None)
                    if known is None:
                        early[document["id"]] = bool(document["label"])
                    else:
                        if past is not None:
                            past.label(cards.pop(document["id"]), record.timestamp, document["label"])
                        model.learn_one(known, bool(document["label"]))
                        learned += 1
                continue
            for record in records:
                document = orjson.loads(record.value)
                event_id = document["id"]
                features = {name: document[name] for name in names}
                if past is not None:
                    past.complete(features, document["card"], record.timestamp)
                    cards[event_id] = document["card"]
                score = model.predict_proba_one(features).get(True, 0.0)
                value = orjson.dumps({"event_id": event_id, "probability": score})
                await producer.send(asked["scores"], value, key=record.key)
                scored += 1
                label = early.pop(event_id, None)
                if label is None:
                    waiting[event_id] = features
                else:
                    if past is not None:
                        past.label(cards.pop(event_id), record.timestamp, label)
                    model.learn_one(features, label)
                    learned += 1
    await producer.flush()
    watch.end()
    await consumer.stop()
    await producer.stop()
    watch.report(scored, learned)


if __name__ == "__main__":
    asked = options()
    pin(asked["core"])
    asyncio.run(run(asked))
