"""The range of a shard's records that a backtest covers, in offsets of each input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from driftline.codec.keyring import KeyRing
from driftline.core.error import InputFileError
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout, input_name
from driftline.transport.port import Broker, Place

Order = Literal["journal", "time"]


@dataclass(frozen=True, slots=True)
class Span:
    """Which part of the events is requested; labels and slices follow.

    Args:
        from_ms, to_ms: by the records' times, the end left out.
        from_offset, to_offset: of the events topic, in every partition, the end left out.
    """

    from_ms: int | None = None
    to_ms: int | None = None
    from_offset: int | None = None
    to_offset: int | None = None

    @property
    def whole(self) -> bool:
        """Whether everything is requested."""
        return self == Span()

    @property
    def ends(self) -> bool:
        """Whether it has an end before the topic's."""
        return self.to_ms is not None or self.to_offset is not None


@dataclass(frozen=True, slots=True)
class TopicSource:
    """Which records of the topics, in which order, from which state.

    Args:
        live: the whole resolved pipeline whose topics these are.
        layout: how they are shared among its shards.
        warm: start from the newest snapshot before the span.
        against: compare with the scores that were served.
        ring: keys of the deployment.
    """

    live: dict[str, object]
    layout: Layout
    order: Order
    span: Span
    warm: bool
    against: bool
    ring: KeyRing


@dataclass(frozen=True, slots=True)
class Bounds:
    """Offsets of one shard: from `starts` up to and without `stops`, by input, the events last.

    Args:
        beginnings: the first offsets that are retained.
        cut_events, cut_labels: what retention has cut off of what was requested, as text.
        over_ms: when the wait of the span's last event is over; None where the topics do not reach so far.
    """

    starts: Mapping[str, int]
    stops: Mapping[str, int]
    beginnings: Mapping[str, int]
    cut_events: tuple[str, ...] = ()
    cut_labels: tuple[str, ...] = ()
    over_ms: int | None = None


async def bounds_of(broker: Broker, pipeline: Pipeline, layout: Layout, shard: int, span: Span) -> Bounds:
    """The offsets that a span means in one shard.

    Labels are read from the first event's time until the last event's wait is over.

    Raises:
        InputFileError: the span lies outside what is retained.
    """
    topics = pipeline.topics
    events = layout.places([topics.events], shard)
    labelled = pipeline.label is not None and topics.labels is not None
    labels = layout.places([topics.labels or ""], shard) if labelled else []
    places = [*labels, *events]
    beginnings, ends = await broker.beginnings(places), await broker.ends(places)
    starts, stops = ({place: offsets[place] for place in places} for offsets in (beginnings, ends))
    if span.from_ms is not None:
        starts.update(await broker.offsets_at(places, span.from_ms))
    if span.from_offset is not None:
        for place in events:
            if span.from_offset < starts[place]:
                raise InputFileError(
                    f"{place.topic}-{place.partition} starts at offset {starts[place]}, but --from asks for "
                    f"{span.from_offset}: start later, or increase retention.ms"
                )
            starts[place] = min(span.from_offset, stops[place])
    reached = await broker.offsets_at(events, span.to_ms) if span.to_ms is not None else ends
    for place in events:
        stop = reached[place] if span.to_offset is None else min(span.to_offset, stops[place])
        stops[place] = max(starts[place], min(stop, reached[place]))
    # Of a span that begins with the first record that is left, those before may be gone.
    cut_events = _cut(events, beginnings, starts) if span.from_offset is None else ()
    cut_labels: tuple[str, ...] = ()
    over_ms = None
    if labels and pipeline.label is not None:
        filled = [place for place in events if starts[place] < stops[place]]
        if span.from_offset and filled:
            times = [await _time_of(broker, place, starts[place]) for place in filled]
            starts.update(await broker.offsets_at(labels, min(time_ms or 0 for time_ms in times)))
        cut_labels = _cut(labels, beginnings, starts)
        end_ms = span.to_ms
        if span.to_offset is not None and filled:
            last = [await _time_of(broker, place, stops[place] - 1) for place in filled]
            end_ms = max((time_ms + 1 for time_ms in last if time_ms is not None), default=None)
        if end_ms is not None:
            over_ms = end_ms + pipeline.label.wait_ms
            over = await broker.offsets_at(places, over_ms)
            stops.update({place: max(starts[place], over[place]) for place in labels})
            if all(over[place] >= ends[place] for place in places):
                over_ms = None

    def named(offsets: Mapping[Place, int]) -> dict[str, int]:
        return {input_name(*place, shard): offsets[place] for place in places}

    return Bounds(named(starts), named(stops), named(beginnings), cut_events, cut_labels, over_ms)


def _cut(places: Sequence[Place], beginnings: Mapping[Place, int], starts: Mapping[Place, int]) -> tuple[str, ...]:
    """That a topic is read from the first record on that is left of it."""
    return tuple(
        f"{place.topic}-{place.partition} from offset {start:,}"
        for place in places
        if (start := starts[place]) and start == beginnings[place]
    )


async def _time_of(broker: Broker, place: Place, offset: int) -> int | None:
    """Time of the first record at or behind an offset; None where there is none."""
    reader = broker.reader()
    try:
        await reader.open({place: offset})
        sources = await reader.read(place, 1)
    finally:
        await reader.close()
    return sources[0].record_time_ms if sources else None
