"""A plain Faust app of two agents: score, keep in a dict, learn on the label, send the score; at least once."""

from __future__ import annotations

import asyncio
from typing import Any

import faust
from river.linear_model import LogisticRegression
from river.preprocessing import StandardScaler

from benchmarks.case import FEATURES
from benchmarks.contender.stopwatch import Stopwatch, options
from benchmarks.machine import pin


class Scorer:
    """The app's state, and what its two agents do."""

    def __init__(self, app: Any, asked: dict[str, Any]) -> None:
        self.watch = Stopwatch()
        self.pairs = asked["pairs"]
        self.model = StandardScaler() | LogisticRegression()
        self.waiting: dict[int, dict[str, float]] = {}
        self.early: dict[int, bool] = {}
        self.scored = self.learned = 0
        self.sent: list[Any] = []
        self.all_learned = asyncio.Event()
        self.scores = app.topic(asked["scores"], value_serializer="json")
        app.agent(app.topic(asked["events"], value_serializer="json"))(self.score)
        app.agent(app.topic(asked["labels"], value_serializer="json"))(self.label)

    async def score(self, events: Any) -> None:
        async for event in events:
            self.watch.begin()
            event_id = event["id"]
            features = {name: event[name] for name in FEATURES}
            probability = self.model.predict_proba_one(features).get(True, 0.0)
            value = {"event_id": event_id, "probability": probability}
            self.sent.append(await self.scores.send(key=str(event_id), value=value))
            self.scored += 1
            label = self.early.pop(event_id, None)
            if label is None:
                self.waiting[event_id] = features
            else:
                self._learn(features, label)

    async def label(self, labels: Any) -> None:
        async for record in labels:
            self.watch.begin()
            features = self.waiting.pop(record["id"], None)
            if features is None:
                self.early[record["id"]] = bool(record["label"])
            else:
                self._learn(features, bool(record["label"]))

    def _learn(self, features: dict[str, float], label: bool) -> None:
        self.model.learn_one(features, label)
        self.learned += 1
        if self.learned == self.pairs:
            self.all_learned.set()


async def run(asked: dict[str, Any]) -> None:
    app = faust.App(
        asked["name"],
        broker=f"kafka://{asked['bootstrap']}",
        store="memory://",
        processing_guarantee="at_least_once",
        consumer_auto_offset_reset="earliest",
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=asked["partitions"],
        web_enabled=False,
    )
    scorer = Scorer(app, asked)
    await app.start()
    await scorer.all_learned.wait()
    await asyncio.gather(*scorer.sent)
    scorer.watch.end()
    await app.stop()
    scorer.watch.report(scorer.scored, scorer.learned)


if __name__ == "__main__":
    asked = options()
    pin(asked["core"])
    asyncio.run(run(asked))
