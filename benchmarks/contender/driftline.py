"""Driftline as its worker runs it: journal, outcomes, metrics, drift detection, all on."""

from __future__ import annotations

import asyncio
import cProfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.contender.stopwatch import Stopwatch, options
from benchmarks.machine import pin
from benchmarks.model import MODELS
from driftline.config import load_settings
from driftline.core.record import Source
from driftline.engine.worker import Worker
from driftline.kafka.broker import KafkaBroker, KafkaFeed
from driftline.transport.port import Place

LOOK_EVERY_S = 0.02


class _Feed:
    """A feed that starts the watch at its first record."""

    def __init__(self, feed: KafkaFeed, watch: Stopwatch) -> None:
        self._feed = feed
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)

    async def poll(self) -> Mapping[Place, Sequence[Source]]:
        polled = await self._feed.poll()
        if polled:
            self._watch.begin()
        return polled


class _Broker(KafkaBroker):
    def __init__(self, watch: Stopwatch, *args: Any) -> None:
        super().__init__(*args)
        self._watch = watch

    def feed(self) -> Any:
        return _Feed(super().feed(), self._watch)


class _Profiler(Stopwatch):
    """Profiles what is timed."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._profile: cProfile.Profile | None = None

    def begin(self) -> None:
        super().begin()
        if self._profile is None:
            self._profile = cProfile.Profile(time.process_time)
            self._profile.enable()

    def end(self) -> None:
        super().end()
        if self._profile is not None:
            self._profile.disable()
            self._profile.dump_stats(self._path)


async def run(asked: dict[str, Any]) -> None:
    watch = _Profiler(asked["profile"]) if asked.get("profile") else Stopwatch()
    topics = asked["events"], asked["labels"]
    chosen = MODELS[asked["model"]].pipeline(asked["name"], topics, asked["delivery"], guarded=asked["guarded"])
    settings = load_settings({}, {"bootstrap": asked["bootstrap"]})
    worker = Worker(_Broker(watch, chosen, settings), chosen)
    working = asyncio.create_task(worker.run())
    scored = learned = 0
    while (scored < asked["scored"] or learned < asked["learned"]) and not working.done():
        await asyncio.sleep(LOOK_EVERY_S)
        scored = sum(runner.tally.scores for runner in worker.runners.values())
        learned = sum(runner.tally.outcomes.total() for runner in worker.runners.values())
    watch.end()
    learned = sum(runner.live.shard.learner.learned for runner in worker.runners.values() if runner.live)
    worker.stop()
    await working
    watch.report(scored, learned)


if __name__ == "__main__":
    asked = options()
    pin(asked["core"])
    asyncio.run(run(asked))
