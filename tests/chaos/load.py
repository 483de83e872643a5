"""The load of a campaign: events at a steady rate, each with a label later, and some that are not as they should be."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import orjson

from driftline.core.pipeline import Pipeline
from driftline.ingest.feed import partition_of
from driftline.kafka.client import client_options, producer
from tests.chaos.case import FEATURES, Case
from tests.support.stream import settings_of

DELAY_S = 3.0  # mean of a label's delay
TURN_S = 0.02
SEND_TIMEOUT_MS = 180_000  # longer than any fault of the broker
NEVER, EARLY, TWICE, MALFORMED = 0.01, 0.01, 0.01, 0.005


def write_pipeline(folder: Path, name: str, case: Case) -> Path:
    path = folder / f"{name}.yaml"
    path.write_bytes(orjson.dumps(case.document(name), option=orjson.OPT_INDENT_2))  # JSON is YAML
    return path


@dataclass
class Sent:
    """What was handed to Kafka, and acknowledged by the end of `run`.

    Args:
        events: how many with usable content; their ids are 0, 1, 2 ...
        labelled: ids whose label was sent.
        twice: ids whose label was sent twice.
        malformed: how many records were no event.
    """

    events: int = 0
    labelled: set[int] = field(default_factory=set)
    twice: set[int] = field(default_factory=set)
    malformed: int = 0


class Load:
    """Sends so many events at a rate, and then what labels are left.

    Args:
        rate: events a second.
    """

    def __init__(
        self, bootstrap: str, pipeline: Pipeline, case: Case, *, seed: int, events: int, rate: float, partitions: int
    ) -> None:
        self.sent = Sent()
        self._case = case
        self._options = client_options(settings_of(bootstrap))
        self._topics = pipeline.topics
        self._random = Random(seed)
        self._events = events
        self._rate = rate
        self._partitions = partitions
        self._labels: list[tuple[float, int, bytes]] = []  # due, id, value
        self._failed: Counter[str] = Counter()

    async def run(self) -> None:
        """Send all of it; returns when every record is acknowledged.

        Raises:
            AssertionError: Kafka refused a record.
        """
        begun_s = time.monotonic()
        tuning = {
            "enable_idempotence": True,
            "linger_ms": 5,
            "request_timeout_ms": SEND_TIMEOUT_MS,
            "retry_backoff_ms": 500,
        }
        async with producer(self._options, **tuning) as client:
            while self.sent.events < self._events:
                now_s = time.monotonic()
                goal = min(int((now_s - begun_s) * self._rate), self._events)
                while self.sent.events < goal:
                    await self._event(client, now_s)
                for label in self._due(now_s):
                    await self._send(client, self._topics.labels or "", *label)
                await asyncio.sleep(TURN_S)
            for label in self._due(float("inf")):
                await self._send(client, self._topics.labels or "", *label)
            await client.flush()
        assert not self._failed, f"the load's own producer could not send: {self._failed}"

    def _due(self, now_s: float) -> Iterator[tuple[int, bytes]]:
        while self._labels and self._labels[0][0] <= now_s:
            _, number, value = heapq.heappop(self._labels)
            yield number, value

    async def _event(self, client: Any, now_s: float) -> None:
        random, number = self._random, self.sent.events
        values = [round(random.gauss(place, 1 + place), 3) for place in range(len(FEATURES))]
        event = self._case.event(number, values, random)
        turn = 1 if number < self._events // 2 else -1  # the concept changes: there are alerts to be lost, too
        label = orjson.dumps(self._case.label(number, values, turn, random))
        chance = random.random() if self._topics.labels is not None else NEVER + EARLY
        if chance < EARLY:
            await self._send(client, self._topics.labels or "", number, label)
            self.sent.labelled.add(number)
        elif chance > NEVER + EARLY:
            heapq.heappush(self._labels, (now_s + random.expovariate(1 / DELAY_S), number, label))
            self.sent.labelled.add(number)
            if chance < NEVER + EARLY + TWICE:
                heapq.heappush(self._labels, (now_s + random.expovariate(1 / DELAY_S), number, label))
                self.sent.twice.add(number)
        if random.random() < MALFORMED:
            await self._send(client, self._topics.events, number, b'{"id": ')
            self.sent.malformed += 1
        await self._send(client, self._topics.events, number, orjson.dumps(event))
        self.sent.events += 1

    async def _send(self, client: Any, topic: str, number: int, value: bytes) -> None:
        key = self._case.key(number)
        sending = await client.send(topic, value, key=key, partition=partition_of(key, self._partitions))
        sending.add_done_callback(self._acknowledged)

    def _acknowledged(self, sending: asyncio.Future[Any]) -> None:
        if sending.cancelled() or sending.exception() is not None:
            self._failed["cancelled" if sending.cancelled() else repr(sending.exception())] += 1
