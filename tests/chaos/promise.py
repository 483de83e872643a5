"""The promise, checked from the topics alone: one score an event, one lesson a label, nothing else of either."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from driftline.codec.inputs import layout_of
from driftline.core.pipeline import Pipeline
from driftline.core.record import Source
from driftline.kafka.broker import KafkaBroker
from driftline.kafka.client import admin, client_options, partition_counts
from driftline.operate.status import read_status
from driftline.transport.port import Place
from tests.chaos.case import Case
from tests.chaos.load import Sent
from tests.support.command import driftline
from tests.support.stream import settings_of

READ_RECORDS_MAX = 1_000
VERIFY_TIMEOUT_S = 900.0


async def records(bootstrap: str, pipeline: Pipeline, topic: str, partitions: int) -> AsyncIterator[Source]:
    """Every record of a topic, as a read_committed reader sees it."""
    broker = KafkaBroker(pipeline, settings_of(bootstrap))
    for partition in range(partitions):
        place, reader = Place(topic, partition), broker.reader()
        await reader.open({place: 0})
        try:
            while sources := await reader.read(place, READ_RECORDS_MAX):
                for source in sources:
                    yield source
        finally:
            await reader.close()


async def lag(bootstrap: str, pipeline: Pipeline) -> int:
    """Input offsets that no journal entry has taken in yet."""
    settings = settings_of(bootstrap)
    async with admin(client_options(settings)) as client:
        layout = layout_of(pipeline, await partition_counts(client))
    shards = await read_status(KafkaBroker(pipeline, settings), pipeline, layout)
    return sum(sum(shard.lag.values()) for shard in shards)


async def count_outputs(bootstrap: str, pipeline: Pipeline, case: Case, sent: Sent, partitions: int) -> dict[str, int]:
    """How far the topics are from one score an event and one lesson a label; all zero but the first two, if well."""
    topics = pipeline.topics
    scores: Counter[int] = Counter()
    async for source in records(bootstrap, pipeline, topics.scores, partitions):
        scores[orjson.loads(source.value or b"")["event_id"]] += 1
    joined: Counter[int] = Counter()
    twice: Counter[int] = Counter()
    other: Counter[str] = Counter()
    async for source in records(bootstrap, pipeline, topics.outcomes, partitions):
        document = orjson.loads(source.value or b"")
        kind, number = document["kind"], document["event_id"]
        if kind == "joined" or (kind == "assumed" and not case.labelled):
            joined[number] += 1
        elif kind == "duplicate":
            twice[number] += 1
        else:
            other[kind] += 1
    rejected = 0
    async for _ in records(bootstrap, pipeline, topics.rejected, partitions):
        rejected += 1
    wanted = Counter(range(sent.events))
    labels, repeats = Counter(sent.labelled), Counter(sent.twice)
    if not case.labelled:  # what came of a request's rewards is published once, and of an observation at once
        labels, repeats = wanted if case.observes else Counter(joined.keys()), twice
        del other["late"], other["orphan"]
    return {
        "scores": scores.total(),
        "labels learned": joined.total(),
        "events without a score": (wanted - scores).total(),
        "scores too many": (scores - wanted).total(),
        "labels not learned": (labels - joined).total(),
        "labels learned too often": (joined - labels).total(),
        "second labels not told": (repeats - twice).total(),
        "second labels told too often": (twice - repeats).total(),
        "other outcomes": other.total(),
        "rejected records missing": max(sent.malformed - rejected, 0),
        "rejected records too many": max(rejected - sent.malformed, 0),
    }


def lost_or_repeated(counts: Mapping[str, int]) -> dict[str, int]:
    """What of the counts must be zero and is not."""
    return {name: count for name, count in counts.items() if count and name not in ("scores", "labels learned")}


def verify(bootstrap: str, file: Path) -> dict[str, Any]:
    """What `driftline verify --outputs` says."""
    arguments = ("verify", "-p", file, "--bootstrap", bootstrap, "--outputs", "--json")
    done = driftline(*arguments, timeout_s=VERIFY_TIMEOUT_S)
    if done.returncode not in (0, 1):
        raise AssertionError(f"driftline verify ended with {done.returncode}:\n{done.stderr}")
    report: dict[str, Any] = orjson.loads(done.stdout)
    return report
