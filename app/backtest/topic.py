"""A range of a pipeline's topics, one partition a process: what `replay` does, on Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from app.backtest.candidate import Candidate, Result, Rows, Spec
from app.backtest.replay import Against, Group, JournalReplay, Read, Served, Span, TimeReplay, Watched, with_topics
from app.backtest.run import Facts, Options, Watch, grouped, rows_of
from app.config import Settings
from app.core import freeze
from app.core.adopt import adopt, refused_keys
from app.core.digest import digest_of
from app.core.error import InputFileError, RecoveryError, SnapshotError
from app.core.freeze import Frozen, dump, load
from app.core.pipeline import Pipeline, parse_pipeline
from app.core.shard import Shard
from app.engine.kafka import KafkaBroker
from app.engine.port import Broker, Place
from app.engine.recovery import Recovery
from app.engine.snapshot import read_snapshots

Order = Literal["journal", "time"]


@dataclass(frozen=True, slots=True)
class TopicSource:
    """Which records of the topics, in which order, from which state.

    Args:
        live: the whole resolved pipeline whose topics these are.
        warm: start from the newest snapshot before the span.
        against: compare with the scores that were served.
        key: HMAC key of snapshots, or None.
    """

    live: dict[str, object]
    order: Order
    span: Span
    warm: bool
    against: bool
    key: bytes | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """Offsets of one partition: from `starts` up to and without `stops`, by input topic.

    Args:
        cut: what retention has cut off within what was asked for, in words.
        first_ms: time of the first event, where the beginning was asked for.
    """

    starts: Mapping[str, int]
    stops: Mapping[str, int]
    cut: tuple[str, ...] = ()
    first_ms: int | None = None


@dataclass(frozen=True, slots=True)
class TopicPart:
    """One partition for one process; see `app.backtest.run.Part`."""

    number: int
    specs: tuple[Spec, ...]
    source: TopicSource
    settings: Settings
    options: Options
    folder: str | None

    def run(self, watch: Watch) -> tuple[list[Result], Facts]:
        """Fold it; called in the process that it is for."""
        return asyncio.run(self._run(watch))

    async def _run(self, watch: Watch) -> tuple[list[Result], Facts]:
        pipeline = parse_pipeline(self.source.live)
        broker = KafkaBroker(pipeline, self.settings)
        bounds = await bounds_of(broker, pipeline, self.number, self.source.span)
        with rows_of(self.folder, self.number) as rows:
            return await replay(broker, self.number, self.specs, self.source, bounds, self.options, rows, watch)


async def bounds_of(broker: KafkaBroker, pipeline: Pipeline, partition: int, span: Span) -> Bounds:
    """The offsets that a span means in one partition.

    Labels are read from the first event's time until the last event's wait is over.

    Raises:
        InputFileError: the span lies outside what is retained.
    """
    topics = pipeline.topics
    events = Place(topics.events, partition)
    places = [events]
    if pipeline.label is not None and topics.labels is not None:
        places.insert(0, Place(topics.labels, partition))
    starts, stops = dict(await broker.beginnings(places)), dict(await broker.ends(places))
    from_ms, to_ms = span.from_ms, span.to_ms
    sought = dict(starts) if from_ms is None else await broker.offsets_at(places, from_ms)
    cut = tuple(  # of a range that begins with the first record that is left, those before may be gone
        f"{place.topic}-{partition} begins at offset {start:,}"
        for place, start in starts.items()
        if span.from_offset is None and start and sought[place] == start
    )
    if span.from_offset is not None:
        if span.from_offset < starts[events]:
            raise InputFileError(
                f"{events.topic}-{partition} is kept from offset {starts[events]} on, and --from asks for "
                f"{span.from_offset}: begin later, or keep more (retention.ms)"
            )
        starts[events] = min(span.from_offset, stops[events])
    if from_ms is not None:
        starts.update(sought)
    if span.to_offset is not None:
        stops[events] = max(starts[events], min(span.to_offset, stops[events]))
    if to_ms is not None:
        stops[events] = max(starts[events], (await broker.offsets_at([events], to_ms))[events])
    first_ms = from_ms
    if span.from_offset and starts[events] < stops[events]:
        first_ms = await _time_of(broker, events, starts[events], stops[events])
    if len(places) > 1:
        labels = places[0]
        if span.from_offset and first_ms is not None:
            starts[labels] = (await broker.offsets_at([labels], first_ms))[labels]
        last_ms = to_ms
        if span.to_offset is not None and stops[events] > starts[events]:
            last_ms = await _time_of(broker, events, stops[events] - 1, stops[events])
        if last_ms is not None and pipeline.label is not None:
            until_ms = last_ms + pipeline.label.wait_ms
            stops[labels] = max(starts[labels], (await broker.offsets_at([labels], until_ms))[labels])
    return Bounds(
        {place.topic: starts[place] for place in places}, {place.topic: stops[place] for place in places}, cut, first_ms
    )


async def _time_of(broker: KafkaBroker, place: Place, offset: int, stop: int) -> int | None:
    """Time of the first record at or behind an offset."""
    reader = broker.reader(place.partition)
    try:
        await reader.open({place.topic: offset})
        sources = await reader.read(place.topic, 1, stop)
    finally:
        await reader.close()
    return sources[0].record_time_ms if sources else None


async def replay(
    broker: Broker,
    partition: int,
    specs: Sequence[Spec],
    source: TopicSource,
    bounds: Bounds,
    options: Options,
    rows: Rows | None,
    watch: Watch,
) -> tuple[list[Result], Facts]:
    """Fold one partition for every candidate."""
    pipeline = parse_pipeline(source.live)
    candidates: dict[str, Candidate] = {}
    live: Candidate | None = None
    served_as = await _last_epoch(broker, pipeline, partition, source) if source.order == "journal" else None
    if source.span != Span() and not (source.against or source.warm):
        served_as = None  # a range begins cold for all alike: what was served in it would take all that was before it
    warmed = await _warmed(broker, pipeline, partition, source) if source.order == "time" and source.warm else None
    for spec in specs:
        chosen = with_topics(parse_pipeline(spec.pipeline), pipeline)
        shard = _warm_shard(chosen, spec, warmed, partition) if warmed is not None else None
        made = Candidate(
            spec.name,
            chosen,
            partition=partition,
            segment=options.segment,
            shard=shard,
            burn_in_ms=options.burn_in_ms,
            burn_in_events=options.burn_in_events,
            counts_from_ms=bounds.first_ms if warmed is not None else None,
            rows=rows,
        )
        candidates[spec.name] = made
        if live is None and served_as is not None and _folds_as(chosen.resolved(), served_as):
            live = made
    groups = [
        Group(candidates[group[0].name].pipeline, members)
        for group in grouped(specs)
        if (members := [candidates[spec.name] for spec in group if candidates[spec.name] is not live])
    ]
    outputs = broker.reader(partition) if source.against else None
    try:
        served = None
        if outputs is not None:
            scores = Place(pipeline.topics.scores, partition)
            await outputs.open({scores.topic: (await broker.beginnings([scores]))[scores]})
            served = Served(outputs, pipeline)
        watched = Watched(served, list(candidates.values()), live)
        total = sum(bounds.stops[topic] - bounds.starts[topic] for topic in bounds.starts)
        moved = _moved(watch, total)
        if source.order == "journal":
            start, read = await _by_journal(broker, pipeline, partition, source, bounds, live, groups, watched, moved)
        else:
            start, read = await _by_time(broker, partition, source, bounds, warmed, groups, watched, moved)
        await watched.settle()
    finally:
        if outputs is not None:
            await outputs.close()
    results = []
    for candidate in candidates.values():
        result = candidate.finish(state_digest if candidate is live else None)
        result.against = watched.against[id(candidate)] if source.against else None
        result.live = candidate is live
        results.append(result)
    return results, Facts(rows=read.records, size_bytes=read.size_bytes, start=start, cut=list(bounds.cut))


def _moved(watch: Watch, total: int) -> Callable[[Read], bool]:
    def moved(read: Read) -> bool:
        watch.moved(min(read.records, total), total)
        return not watch.stopped()

    return moved


async def _by_journal(
    broker: Broker,
    pipeline: Pipeline,
    partition: int,
    source: TopicSource,
    bounds: Bounds,
    live: Candidate | None,
    groups: Sequence[Group],
    watched: Watched,
    moved: Callable[[Read], bool],
) -> tuple[str, Read]:
    events = pipeline.topics.events
    made = JournalReplay(
        broker,
        pipeline,
        partition,
        key=source.key,
        within=range(bounds.starts[events], bounds.stops[events]) if source.span != Span() else None,
        warm=source.warm,
        live=live,
        groups=groups,
        watched=watched,
        moved=moved,
    )
    await made.fold()
    return made.start, made.read


async def _by_time(
    broker: Broker,
    partition: int,
    source: TopicSource,
    bounds: Bounds,
    warmed: tuple[Pipeline, Frozen, Mapping[str, int], str] | None,
    groups: Sequence[Group],
    watched: Watched,
    moved: Callable[[Read], bool],
) -> tuple[str, Read]:
    starts = dict(bounds.starts)
    if warmed is not None:
        starts = {topic: warmed[2].get(topic, start) for topic, start in starts.items()}  # no record may be missing
    reader = broker.reader(partition)
    try:
        whole = source.span.to_ms is None and source.span.to_offset is None
        made = TimeReplay(reader, starts, bounds.stops, whole=whole, groups=groups, watched=watched, moved=moved)
        await made.fold()
    finally:
        await reader.close()
    return warmed[3] if warmed is not None else "cold", made.read


async def _last_epoch(
    broker: Broker, pipeline: Pipeline, partition: int, source: TopicSource
) -> dict[str, object] | None:
    """The pipeline that the journal was last written under."""
    state = await Recovery(broker, pipeline, partition, source.key).follow()
    if state.epoch is None:
        raise InputFileError(
            f"the journal {pipeline.topics.journal}-{partition} is empty: no worker ever folded this partition; use "
            "--order time"
        )
    return state.epoch.pipeline


def _folds_as(one: dict[str, object], other: dict[str, object]) -> bool:
    """Whether two resolved pipelines fold alike: how outputs are delivered makes no difference to that."""
    return {**one, "delivery": None} == {**other, "delivery": None}


async def _warmed(
    broker: Broker, pipeline: Pipeline, partition: int, source: TopicSource
) -> tuple[Pipeline, Frozen, Mapping[str, int], str]:
    """The newest snapshot that lies before the span: its pipeline, state and positions, and its name for people."""
    reader = broker.reader(partition)
    try:
        await reader.open({pipeline.topics.snapshots: 0})
        found = await read_snapshots(reader, pipeline.topics.snapshots, source.key)
    finally:
        await reader.close()
    span = source.span
    for manifest, frozen in found:
        position = manifest.positions.get(pipeline.topics.events, 0)
        if span.from_offset is not None and position > span.from_offset:
            continue
        try:
            made_by = parse_pipeline(manifest.pipeline)
            watermark_ms = load(made_by, partition, frozen).watermark_ms
        except SnapshotError:
            continue
        if span.from_ms is not None and watermark_ms is not None and watermark_ms > span.from_ms:
            continue
        return made_by, frozen, manifest.positions, f"snapshot after slice {manifest.slice_number}"
    raise RecoveryError(f"shard {partition} has no snapshot to start from before that; leave out --warm")


def _warm_shard(
    pipeline: Pipeline, spec: Spec, warmed: tuple[Pipeline, Frozen, Mapping[str, int], str], partition: int
) -> Shard:
    """The snapshot's state under a candidate's pipeline.

    Raises:
        InputFileError: the candidate's state is another one.
    """
    before, frozen = warmed[0], warmed[1]
    refused = refused_keys(before.resolved(), pipeline.resolved())
    changed = [key for key in refused if key != "pipeline" and not key.startswith("topics")]
    if changed:
        raise InputFileError(
            f"{spec.name} cannot start from the live pipeline's snapshot: it differs in {', '.join(changed)}. Leave "
            "out --warm, and --burn-in leaves the beginning out of the count"
        )
    shard = load(pipeline, partition, frozen)
    adopt(shard, before)
    return shard


def state_digest(shard: Shard) -> str:
    """A digest of everything that a shard keeps, as it is behind a pickle: what is one object is then alike."""
    thawed = load(shard.pipeline, shard.partition, dump(shard))
    return digest_of({name: getattr(thawed, name) for name in freeze._KEPT}).hex()


__all__ = ["Against", "Bounds", "TopicPart", "TopicSource", "bounds_of", "replay", "state_digest"]
