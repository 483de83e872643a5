"""Sends an operator's commands to the shards, and waits for their verdicts.

A shard's verdict stands in its topics: the journal says that the command was folded, in the same transaction in which
the rejected topic got it if it was refused. Journal entries count only as far as the deployment's keys sealed them.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from driftline.codec.command import Sender
from driftline.codec.inputs import layout_of
from driftline.codec.journal import SliceEntry, decode_link
from driftline.codec.keyring import KeyRing
from driftline.codec.seal import is_sealed
from driftline.config import Settings
from driftline.core.error import InvariantError, TopicError
from driftline.core.pipeline import Pipeline
from driftline.core.record import Source
from driftline.core.wording import escaped
from driftline.engine.published import offset_of
from driftline.engine.trust import name_of
from driftline.kafka.broker import KafkaBroker
from driftline.kafka.client import admin, client_options, partition_counts, producer, writing_explained
from driftline.transport.port import Broker, Place, Reader

LOOK_EVERY_S = 0.2
READ_RECORDS_MAX = 500


class Written(Struct, frozen=True):
    """A command in one partition of the control topic: offsets of its first and its last record."""

    first: int
    last: int


class Verdict(Struct, frozen=True):
    """What a shard made of a command.

    Args:
        reason, detail: why it was refused; empty where it was taken.
    """

    reason: str = ""
    detail: str = ""


class Outcome(Struct, frozen=True):
    """What became of a command: of how many shards, and the verdicts of those that answered in time."""

    shards: int
    verdicts: Mapping[int, Verdict]


def sender(pipeline: Pipeline, by: str) -> Sender:
    """Who sends a command now."""
    return Sender(pipeline.name, by, time.time_ns() // 1_000_000, secrets.token_hex(16))


async def give(values: Sequence[bytes], pipeline: Pipeline, settings: Settings, timeout_s: float) -> Outcome:
    """Write a command, and wait for what the shards make of it.

    Args:
        timeout_s: 0: do not wait.

    Raises:
        TopicError: the pipeline has no control topic.
        BrokerError: Kafka refused it, or did not answer.
    """
    broker = KafkaBroker(pipeline, settings)
    before = await ends(broker, pipeline, settings) if timeout_s else None
    written = await command(values, pipeline, settings)
    if before is None:
        return Outcome(len(written), {})
    return Outcome(len(written), await verdicts(broker, pipeline, settings.ring, written, before, timeout_s))


async def command(values: Iterable[bytes], pipeline: Pipeline, settings: Settings) -> Sequence[Written]:
    """Write the records of one command for each shard, each acknowledged before the next: shard s reads partition s of
    the control topic.

    Returns:
        Where it lies, by shard.

    Raises:
        TopicError: there is no such topic.
        BrokerError: Kafka refused one, or did not answer; those before it are written.
    """
    options, topic = client_options(settings), pipeline.topics.control
    async with admin(options) as client:
        there = await partition_counts(client)
    count = min(layout_of(pipeline, there).shards, there.get(topic, 0))
    if not there.get(topic):
        raise TopicError(f"topic {topic} does not exist; create it with `driftline topics create -p FILE`")
    offsets: list[list[int]] = []
    async with producer(options, acks="all", enable_idempotence=True) as writer:
        with writing_explained("the command", topic):
            for value in values:
                sent = [writer.send_and_wait(topic, value, partition=partition) for partition in range(count)]
                offsets.append([answer.offset for answer in await asyncio.gather(*sent)])
    return [Written(offsets[0][partition], offsets[-1][partition]) for partition in range(count)]


async def ends(broker: Broker, pipeline: Pipeline, settings: Settings) -> Mapping[Place, int] | None:
    """Where journal and rejected topic end, before a command is written; None where there are none yet."""
    topics = (pipeline.topics.journal, pipeline.topics.rejected)
    async with admin(client_options(settings)) as client:
        counts = await partition_counts(client)
    if any(topic not in counts for topic in topics):
        return None
    return await broker.ends([Place(topic, partition) for topic in topics for partition in range(counts[topic])])


async def verdicts(
    broker: Broker,
    pipeline: Pipeline,
    ring: KeyRing,
    written: Sequence[Written],
    before: Mapping[Place, int],
    timeout_s: float,
) -> Mapping[int, Verdict]:
    """What each shard made of a command, by number; those that did not answer in time are left out.

    Args:
        before: from `ends`.
    """
    deadline_s = time.monotonic() + timeout_s
    found: dict[int, Verdict] = {}
    waiting = {
        partition: _Answer(broker, pipeline, ring, partition, place, before) for partition, place in enumerate(written)
    }
    try:
        for answer in waiting.values():
            await answer.open()
        while waiting:
            for partition, answer in list(waiting.items()):
                if (verdict := await answer.look()) is not None:
                    found[partition] = verdict
                    await waiting.pop(partition).close()
            if not waiting or time.monotonic() > deadline_s:
                break
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        for answer in waiting.values():
            await answer.close()
    return found


class _Answer:
    """One shard's answer, as it comes."""

    def __init__(
        self,
        broker: Broker,
        pipeline: Pipeline,
        ring: KeyRing,
        partition: int,
        written: Written,
        before: Mapping[Place, int],
    ) -> None:
        self._reader: Reader = broker.reader()
        self._topics = pipeline.topics
        self._ring = ring
        self._journal = Place(pipeline.topics.journal, partition)
        self._written = written
        self._rejected = Place(pipeline.topics.rejected, partition)
        self._starts = {place: end for place, end in before.items() if place.partition == partition}

    async def open(self) -> None:
        await self._reader.open(self._starts)

    async def close(self) -> None:
        await self._reader.close()

    async def look(self) -> Verdict | None:
        """The verdict, if it has come."""
        folded = False
        while sources := await self._reader.read(self._journal, READ_RECORDS_MAX):
            folded = folded or any(self._covers(source) for source in sources)
        if not folded:
            return None
        while sources := await self._reader.read(self._rejected, READ_RECORDS_MAX):
            for source in sources:
                if (verdict := self._refusal(source)) is not None:
                    return verdict
        return Verdict()

    def _covers(self, source: Source) -> bool:
        """Whether a journal entry says that the command was folded."""
        if self._ring and not is_sealed(source.value, name_of(self._journal), self._ring):
            return False
        try:
            entry = decode_link(source.value).entry
        except InvariantError:
            return False
        part = entry.inputs.get(self._topics.control) if isinstance(entry, SliceEntry) else None
        return part is not None and part.stop > self._written.last

    def _refusal(self, source: Source) -> Verdict | None:
        headers = {name: (value or b"").decode("utf-8", "replace") for name, value in source.headers}
        offset = offset_of(headers.get("driftline.offset", ""))
        if headers.get("driftline.topic") != self._topics.control or offset is None:
            return None
        if not self._written.first <= offset <= self._written.last:
            return None
        reason, detail = (escaped(headers.get(f"driftline.{name}", "")) for name in ("reason", "detail"))
        return Verdict(reason, detail) if reason else None  # one without a reason is not ours, and must not hide ours
