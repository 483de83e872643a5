"""`driftline card`: the model card of one generation, as a document or a page."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path

import click

from driftline.backtest.card import Card, encode
from driftline.backtest.card_count import Cards
from driftline.backtest.card_page import render, text
from driftline.backtest.report import write
from driftline.backtest.score import check_folder
from driftline.cli.digest import entries_of, records_of
from driftline.cli.echo import show
from driftline.cli.setting import outline_of, settings_of
from driftline.codec.inputs import layout_of
from driftline.codec.journal import EpochEntry
from driftline.config import Settings
from driftline.core.error import TopicError
from driftline.core.pipeline import Pipeline, close_match
from driftline.core.place import Layout
from driftline.engine.published import document_of
from driftline.kafka.broker import KafkaBroker
from driftline.kafka.client import admin, client_options, partition_counts
from driftline.transport.port import Broker, Place


def card(
    pipeline_file: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
    generation: int | None,
    segment: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """What `driftline card` does."""
    settings = settings_of(bootstrap=bootstrap)
    pipeline = outline_of(settings, pipeline_file, overrides)
    segment = segment or pipeline.metric_by.segment
    if segment is not None and segment not in pipeline.event.features:
        names = list(pipeline.event.features)
        raise click.UsageError(f"--segment: there is no feature {segment!r}" + close_match(segment, names))
    if out is not None and out.suffix not in (".html", ".json"):
        raise click.UsageError(f"--out {out}: name it .html or .json")
    if out is not None:
        check_folder(out)
    cards = asyncio.run(_read(pipeline, settings, segment))
    made = _chosen(cards, generation, shlex.quote(str(pipeline_file or settings.pipeline)))
    if out is not None:
        write({out: render(made, pipeline).encode() if out.suffix == ".html" else encode(made)})
    file = None if out is None else str(out)
    document = {"pipeline": pipeline.name, "generation": made.generation, "file": file, "card": made}
    lines = text(made, pipeline) if out is None else iter([f"card of generation {made.generation}: {out}"])
    show(document, lambda: lines, as_json=as_json)


def _chosen(cards: Cards, generation: int | None, file: str) -> Card:
    """The card that was asked for.

    Raises:
        TopicError: nothing was served by it.
    """
    there = sorted(cards.generations)
    if not there:
        raise TopicError(f"{cards.pipeline.topics.scores} has no score yet, so there is no model to describe")
    if generation is not None and generation not in there:
        raise TopicError(f"generation {generation} served nothing; these did: {', '.join(map(str, there))}")
    return cards.card(there[-1] if generation is None else generation, file)


async def _read(pipeline: Pipeline, settings: Settings, segment: str | None) -> Cards:
    async with admin(client_options(settings)) as client:
        counts = await partition_counts(client)
    if pipeline.topics.scores not in counts:
        raise TopicError(f"topic {pipeline.topics.scores} does not exist; check the pipeline file and --bootstrap")
    return await gather(KafkaBroker(pipeline, settings), pipeline, settings, layout_of(pipeline, counts), segment)


async def gather(broker: Broker, pipeline: Pipeline, settings: Settings, layout: Layout, segment: str | None) -> Cards:
    """Everything that the topics hold of all generations."""
    topics = pipeline.topics

    def places(topic: str) -> list[Place]:
        return [Place(topic, number) for number in range(layout.counts.get(topic, 0))]

    served = [*places(topics.scores), *places(topics.outcomes)]
    whole = not any((await broker.beginnings(served)).values())
    cards = Cards(pipeline, layout.shards, segment, whole=whole)
    async for place, linked, _ in entries_of(broker, places(topics.journal), settings):
        if isinstance(linked.entry, EpochEntry):
            cards.epoch(place.partition, linked.entry)
    for topic, take in ((topics.alerts, cards.alert), (topics.scores, cards.score), (topics.outcomes, cards.outcome)):
        async for source in records_of(broker, places(topic)):
            if (document := document_of(source.value)) is not None:
                take(document)
    return cards
