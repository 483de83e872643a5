"""A plain Faust app of two agents: score, keep in a dict, learn on the label, send the score; at least once."""

from __future__ import annotations

import asyncio
from typing import Any

import faust
import orjson

from benchmarks.contender.stopwatch import Stopwatch, options
from benchmarks.machine import pin
from benchmarks.model import MODELS


class Scorer:
    """The app's state, and what its two agents do."""

    def __init__(self, app: Any, asked: dict[str, Any]) -> None:
        self.watch, self.work = Stopwatch(), MODELS[asked["model"]].work()
        self.sent: list[Any] = []
        self.done = asyncio.Event()
        self._asked = asked
        self.scores = app.topic(asked["scores"], value_serializer="raw")
        for topic, agent in ((asked["events"], self.score), (asked["labels"], self.label)):
            if topic:
                app.agent(app.topic(topic, value_serializer="raw"))(agent)

    async def score(self, events: Any) -> None:
        async for record in events.events():
            self.watch.begin()
            score = self.work.event(orjson.loads(record.value), int(record.message.timestamp * 1000))
            self.sent.append(await self.scores.send(key=record.message.key, value=orjson.dumps(score)))
            self._look()

    async def label(self, labels: Any) -> None:
        async for record in labels.events():
            self.watch.begin()
            self.work.label(orjson.loads(record.value), int(record.message.timestamp * 1000))
            self._look()

    def _look(self) -> None:
        if self.work.done(self._asked):
            self.done.set()


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
    await scorer.done.wait()
    await asyncio.gather(*scorer.sent)
    scorer.watch.end()
    await app.stop()
    scorer.watch.report(scorer.work.scored, scorer.work.learned, fitted=scorer.work.quality())


if __name__ == "__main__":
    asked = options()
    pin(asked["core"])
    asyncio.run(run(asked))
