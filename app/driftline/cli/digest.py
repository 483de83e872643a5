"""`driftline digest`: what a pipeline did in a span of time, for one role, in one form."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from driftline.cli.echo import show
from driftline.cli.setting import outline_of, settings_of
from driftline.codec.command import is_signed
from driftline.codec.journal import Link, SliceEntry, decode_link
from driftline.codec.seal import is_sealed
from driftline.config import Settings
from driftline.core.error import InputFileError, InvariantError, TopicError
from driftline.core.pipeline import Pipeline
from driftline.core.record import Source
from driftline.engine.published import document_of, offset_of
from driftline.engine.trust import name_of
from driftline.kafka.broker import KafkaBroker
from driftline.kafka.client import admin, client_options, partition_counts
from driftline.operate.digest import DigestRole, Gathered
from driftline.operate.digest_page import Format, page_of, render
from driftline.transport.port import Broker, Place

READ_RECORDS_MAX = 1_000
_REASON, _TOPIC, _OFFSET = "driftline.reason", "driftline.topic", "driftline.offset"


def digest(
    pipeline_file: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
    span_ms: int,
    until_ms: int | None,
    role: DigestRole | None,
    form: Format,
    out: Path | None,
    as_json: bool,
) -> None:
    """What `driftline digest` does."""
    settings = settings_of(bootstrap=bootstrap)
    pipeline = outline_of(settings, pipeline_file, overrides)
    found = asyncio.run(_read(pipeline, settings, span_ms, until_ms))
    text = render(page_of(found, str(pipeline_file or settings.pipeline), role), form)
    if out is not None:
        try:
            out.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputFileError(f"{out} cannot be written: {error.strerror}") from error
    document = {"pipeline": pipeline.name, "role": role, "format": form, "file": None if out is None else str(out)}
    lines = [text.removesuffix("\n") if out is None else f"digest: {out}"]
    show(document | {"text": text}, lambda: lines, as_json=as_json)


async def _read(pipeline: Pipeline, settings: Settings, span_ms: int, until_ms: int | None) -> Gathered:
    async with admin(client_options(settings)) as client:
        counts = await partition_counts(client)
    if pipeline.topics.scores not in counts:
        raise TopicError(f"topic {pipeline.topics.scores} does not exist; check the pipeline file and --bootstrap")
    return await gather(KafkaBroker(pipeline, settings), pipeline, settings, counts, span_ms, until_ms)


async def gather(
    broker: Broker,
    pipeline: Pipeline,
    settings: Settings,
    counts: Mapping[str, int],
    span_ms: int,
    until_ms: int | None,
) -> Gathered:
    """Everything that the topics hold of a span.

    Args:
        counts: partitions by topic.
        until_ms: its end; None ends it after the last event that was scored, other than those whose time lies so far
            ahead that it moved no watermark.
    """
    topics = pipeline.topics

    def places(topic: str | None) -> list[Place]:
        return [] if topic is None else [Place(topic, number) for number in range(counts.get(topic, 0))]

    journals = places(topics.journal)
    if until_ms is None:
        until_ms = await _end(broker, places(topics.scores), await _watermark(broker, journals, settings))
    found = Gathered(pipeline, max(0, until_ms - span_ms), until_ms)
    takers: Sequence[tuple[str | None, Callable[[dict[str, Any]], None]]] = (
        (topics.scores, found.score),
        (topics.outcomes, found.outcome),
        (topics.alerts, found.alert),
        (topics.review, found.review),
    )
    for topic, take in takers:
        begun = await broker.beginnings(places(topic))
        deleted = {place.partition for place, offset in begun.items() if offset}
        async for source in records_of(broker, places(topic)):
            if (document := document_of(source.value)) is not None:
                if source.partition in deleted:
                    deleted.discard(source.partition)
                    found.after_deleted(document)
                take(document)
    refused: set[tuple[int, int]] = set()  # commands, by partition and offset
    async for source in records_of(broker, places(topics.rejected)):
        headers = {name: (value or b"").decode("utf-8", "replace") for name, value in source.headers}
        if (reason := headers.get(_REASON)) is not None:
            found.reject(reason[:100], source.record_time_ms)
        if headers.get(_TOPIC) == topics.control and (offset := offset_of(headers.get(_OFFSET, ""))) is not None:
            refused.add((source.partition, offset))
    async for source in records_of(broker, places(topics.control)):
        document = document_of(source.value)
        ours = not settings.ring or is_signed(source.value, settings.ring)
        if document is not None and ours and (source.partition, source.offset) not in refused:
            found.command(document, source.record_time_ms)
    async for place, linked, time_ms in entries_of(broker, journals, settings):
        found.entry(place.partition, linked, time_ms)
    return found


async def _end(broker: Broker, scores: Sequence[Place], watermark_ms: int | None) -> int:
    """Where a span ends that is to end with the last event."""
    end_ms = 0
    async for source in records_of(broker, scores):
        time_ms = (document_of(source.value) or {}).get("event_time_ms")
        if type(time_ms) is int and (watermark_ms is None or time_ms <= watermark_ms):
            end_ms = max(end_ms, time_ms + 1)
    return end_ms


async def _watermark(broker: Broker, journals: Sequence[Place], settings: Settings) -> int | None:
    """The latest time that a shard believed; None where none has reported one."""
    latest_ms: int | None = None
    async for _, linked, _ in entries_of(broker, journals, settings):
        if isinstance(linked.entry, SliceEntry) and (time_ms := linked.entry.watermark_ms) is not None:
            latest_ms = time_ms if latest_ms is None else max(latest_ms, time_ms)
    return latest_ms


async def entries_of(
    broker: Broker, places: Sequence[Place], settings: Settings
) -> AsyncIterator[tuple[Place, Link, int]]:
    """The journals, entries of ours only, each with the time of its record."""
    for place in places:
        async for source in records_of(broker, [place]):
            if settings.ring and not is_sealed(source.value, name_of(place), settings.ring):
                continue
            try:
                yield place, decode_link(source.value), source.record_time_ms
            except InvariantError:
                continue  # of another program; `driftline verify` says so


async def records_of(broker: Broker, places: Sequence[Place]) -> AsyncIterator[Source]:
    """Every record up to the ends of now, one partition after another."""
    if not places:
        return
    ends = await broker.ends(places)
    reader = broker.reader()
    await reader.open(await broker.beginnings(places))
    try:
        for place in places:
            while sources := await reader.read(place, READ_RECORDS_MAX, ends[place]):
                for source in sources:
                    yield source
    finally:
        await reader.close()
