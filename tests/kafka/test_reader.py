"""A reader of several topics holds a bounded number of bytes of those that are not asked for."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import TopicPartition

from driftline.core.record import Source
from driftline.kafka import reader as reading
from driftline.kafka.reader import KafkaReader
from driftline.transport.port import Place

SIZE = 1_000


class Consumer:
    """aiokafka's, with endless topics: each look gives one record of every topic that is not paused."""

    def __init__(self) -> None:
        self.offsets: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()

    async def start(self) -> None: ...

    def assign(self, places: list[TopicPartition]) -> None:
        self.offsets = dict.fromkeys(places, 0)

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.offsets[place] = offset

    def pause(self, place: TopicPartition) -> None:
        self._paused.add(place)

    def resume(self, place: TopicPartition) -> None:
        self._paused.discard(place)

    def paused(self) -> set[TopicPartition]:
        return self._paused

    async def position(self, place: TopicPartition) -> int:
        return self.offsets[place]

    def highwater(self, place: TopicPartition) -> int:
        return 10**9

    async def getmany(self, **_: Any) -> dict[TopicPartition, list[Source]]:
        found = {}
        for place in self.offsets.keys() - self._paused:
            found[place] = [Source(place.topic, place.partition, self.offsets[place], 0, None, bytes(SIZE))]
            self.offsets[place] += 1
        return found


async def test_topics_that_are_not_asked_for_are_paused_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = Consumer()
    monkeypatch.setattr(reading, "AIOKafkaConsumer", lambda **_: consumer)
    monkeypatch.setattr(reading, "READ_AHEAD_BYTES", 20 * SIZE)
    reader, asked, other = KafkaReader({}, exact=False), Place("asked", 0), Place("other", 0)
    await reader.open({asked: 0, other: 0})
    for number in range(100):
        assert [source.offset for source in await reader.read(asked, 1)] == [number]
    assert consumer.offsets[TopicPartition(*other)] == 21, "so many records of it are held"
    assert [source.offset for source in await reader.read(other, 1_000)] == list(range(21))
    assert [source.offset for source in await reader.read(other, 1)] == [21]  # and it goes on
