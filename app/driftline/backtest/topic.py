"""A range of a pipeline's topics, one shard per process: `replay` on Kafka."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from driftline.backtest.candidate import Candidate, Result, Rows, Spec
from driftline.backtest.replay import Group, JournalReplay, Panel, Read, TimeReplay
from driftline.backtest.run import Facts, Options, PartProgress, grouped, rows_of
from driftline.backtest.served import Served, Shown, Watched
from driftline.backtest.span import Bounds, TopicSource, bounds_of
from driftline.backtest.start import Start, start_of
from driftline.codec.keyring import KeyRing
from driftline.config import Settings
from driftline.core.error import InputFileError, InputLostError
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.place import Layout, input_place
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import dump, frozen_digest
from driftline.core.task import task_of
from driftline.engine.recovery import Recovery
from driftline.transport.port import Broker, Place, Reader


@dataclass(frozen=True, slots=True)
class TopicPart:
    """One shard for one process; see `backtest.run.Part`."""

    number: int
    specs: tuple[Spec, ...]
    source: TopicSource
    settings: Settings
    options: Options
    folder: str | None

    def run(self, watch: PartProgress) -> tuple[list[Result], Facts]:
        """Fold it; called in the process that it is for."""
        return asyncio.run(self._run(watch))

    async def _run(self, watch: PartProgress) -> tuple[list[Result], Facts]:
        from driftline.kafka.broker import KafkaBroker  # a backtest over files should not pay for it

        pipeline = parse_pipeline(self.source.live, spare=True)
        broker = KafkaBroker(pipeline, self.settings)
        bounds = await bounds_of(broker, pipeline, self.source.layout, self.number, self.source.span)
        with rows_of(self.folder, self.number) as rows:
            return await replay(broker, self.number, self.specs, self.source, bounds, self.options, rows, watch)


async def replay(
    broker: Broker,
    shard: int,
    specs: Sequence[Spec],
    source: TopicSource,
    bounds: Bounds,
    options: Options,
    rows: Rows | None,
    watch: PartProgress,
) -> tuple[list[Result], Facts]:
    """Fold one shard for every candidate."""
    pipeline = parse_pipeline(source.live, spare=True)
    if source.order == "journal":
        await _check_journal(broker, pipeline, shard)
    start = await start_of(broker, pipeline, shard, specs, source, bounds)
    served_as = None
    # A range alone begins cold: what was served in it carried all that was before, and no one knows that.
    if source.order == "journal" and (source.span.whole or source.against or source.warm):
        served_as = await _last_epoch(broker, pipeline, shard, source.ring)
    within = _within(pipeline, source, shard, bounds, start)
    candidates = {
        spec.name: Candidate(
            spec.name,
            chosen := with_topics(parse_pipeline(spec.pipeline, spare=True), pipeline),
            number=shard,
            segment=options.segment,
            shard=start.shard(chosen, shard),
            within=within,
            burn_in_ms=options.burn_in_ms,
            burn_in_events=options.burn_in_events,
            rows=rows,
            per_day=options.per_day,
            generation=options.generation,
        )
        for spec in specs
    }
    live = _live(candidates.values(), served_as)
    groups = [
        Group(candidates[group[0].name].pipeline, shard, bounds.stops, members)
        for group in grouped(specs)
        if (members := [candidates[spec.name] for spec in group if candidates[spec.name] is not live])
    ]
    outputs = broker.reader() if source.against else None
    slates = broker.reader() if task_of(pipeline.task).slates and groups else None
    try:
        shown = None if slates is None else await _shown(broker, slates, pipeline, shard, source, bounds, groups)
        served = None
        if outputs is not None:
            firsts = await broker.beginnings(source.layout.places([pipeline.topics.scores], shard))
            await outputs.open(firsts)
            cut = {place for place, first in firsts.items() if first}
            served = Served(outputs, pipeline, source.layout, shard, cut)
        watched = Watched(served, list(candidates.values()), live)
        total = sum(stop - start.positions.get(name, 0) for name, stop in bounds.stops.items())
        panel = Panel(live, groups, watched, _moved(watch, total), shown)
        if within is None or any(within.values()):
            await _fold(broker, pipeline, shard, source, bounds, start, within, panel)
        await watched.settle()
    finally:
        for reader in (outputs, slates):
            if reader is not None:
                await reader.close()
    results = []
    for candidate in candidates.values():
        result = candidate.finish(state_digest if candidate is live else None)
        result.against = watched.against[id(candidate)] if source.against else None
        result.live = candidate is live
        results.append(result)
    commanded = source.against and source.order == "time" and await _commands(broker, pipeline, source.layout, shard)
    facts = Facts(
        rows=panel.read.records,
        size_bytes=panel.read.size_bytes,
        start=start.text,
        cut_events=list(bounds.cut_events),
        cut_labels=list(bounds.cut_labels),
        uncommanded=bool(commanded),
    )
    return results, facts


async def _shown(
    broker: Broker,
    reader: Reader,
    pipeline: Pipeline,
    shard: int,
    source: TopicSource,
    bounds: Bounds,
    groups: Sequence[Group],
) -> Shown:
    """What the live pipeline showed, put into the requests of all others."""
    await reader.open(await broker.beginnings(source.layout.places([pipeline.topics.scores], shard)))
    places = {name: input_place(name, shard) for name in bounds.starts}
    partitions = {name: place.partition for name, place in places.items() if place.topic == pipeline.topics.events}
    shown = Shown(Served(reader, pipeline, source.layout, shard), partitions)
    for candidate in (candidate for group in groups for candidate in group.candidates):
        candidate.shown = shown.into(candidate.pipeline)
    return shown


async def _commands(broker: Broker, pipeline: Pipeline, layout: Layout, shard: int) -> int:
    """How many records the control topic has for a shard."""
    places = layout.places([pipeline.topics.control], shard)
    beginnings = await broker.beginnings(places)
    return sum(end - beginnings[place] for place, end in (await broker.ends(places)).items())


async def _fold(
    broker: Broker,
    pipeline: Pipeline,
    shard: int,
    source: TopicSource,
    bounds: Bounds,
    start: Start,
    within: Mapping[int, range] | None,
    panel: Panel,
) -> None:
    if source.order == "journal":
        await JournalReplay(
            broker, pipeline, shard, source.ring, start=start, bounds=bounds, within=within, panel=panel
        ).fold()
        return
    reader = broker.reader()
    try:
        whole, events = not source.span.ends, pipeline.topics.events
        made = TimeReplay(reader, events, start=start, bounds=bounds, within=within, whole=whole, panel=panel)
        await made.fold(shard)
    finally:
        await reader.close()


def _within(
    pipeline: Pipeline, source: TopicSource, shard: int, bounds: Bounds, start: Start
) -> Mapping[int, range] | None:
    """Offsets of the events that count, by partition; None where all do."""
    events = {name: input_place(name, shard) for name in bounds.starts}
    events = {name: place for name, place in events.items() if place.topic == pipeline.topics.events}
    if not source.span.whole:
        return {place.partition: range(bounds.starts[name], bounds.stops[name]) for name, place in events.items()}
    if start.snapshot is not None:
        return {place.partition: range(start.positions[name], sys.maxsize) for name, place in events.items()}
    return None


def _moved(watch: PartProgress, total: int) -> Callable[[Read], bool]:
    def moved(read: Read) -> bool:
        watch.moved(min(read.records, total), total)
        return not watch.stopped()

    return moved


async def _check_journal(broker: Broker, pipeline: Pipeline, shard: int) -> None:
    """Raises InputFileError where there is no journal to take the order from."""
    place = Place(pipeline.topics.journal, shard)
    if not (await broker.ends([place]))[place]:
        raise InputFileError(
            f"the journal {place.topic}-{shard} is empty: no worker has ever processed this shard; use --order time"
        )


async def _last_epoch(broker: Broker, pipeline: Pipeline, shard: int, ring: KeyRing) -> dict[str, object] | None:
    """The pipeline that the journal was last written under."""
    try:
        state = await Recovery(broker, pipeline, shard, ring).follow()
    except InputLostError as error:
        raise InputLostError(error.lost, "Ignore the journal with --order time") from error
    return state.epoch.pipeline if state.epoch is not None else None


def _live(candidates: Iterable[Candidate], served_as: dict[str, object] | None) -> Candidate | None:
    """The candidate that is the live pipeline itself."""
    if served_as is None:
        return None
    return next((one for one in candidates if _folds_as(one.pipeline.resolved(), served_as)), None)


def _folds_as(one: dict[str, object], other: dict[str, object]) -> bool:
    """Whether two resolved pipelines fold alike: how outputs are delivered makes no difference to that, and how many
    shards there are is a matter of the topics."""
    return {**one, "delivery": None, "shards": None} == {**other, "delivery": None, "shards": None}


def with_topics(pipeline: Pipeline, live: Pipeline) -> Pipeline:
    """A candidate that reads the live pipeline's topics."""
    return pipeline.model_copy(update={"topics": live.topics, "shards": live.shards})


def state_digest(shard: Shard) -> str:
    """A digest of everything that a shard keeps, in hexadecimal."""
    return frozen_digest(shard.pipeline, shard.number, dump(shard)).hex()
