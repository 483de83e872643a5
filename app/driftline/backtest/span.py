"""The range of a partition's records that a backtest covers, in offsets of each input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from driftline.codec.keyring import KeyRing
from driftline.core.error import InputFileError
from driftline.core.pipeline import Pipeline
from driftline.kafka.broker import KafkaBroker
from driftline.transport.port import Place

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
        warm: start from the newest snapshot before the span.
        against: compare with the scores that were served.
        ring: keys of the deployment.
    """

    live: dict[str, object]
    order: Order
    span: Span
    warm: bool
    against: bool
    ring: KeyRing


@dataclass(frozen=True, slots=True)
class Bounds:
    """Offsets of one partition: from `starts` up to and without `stops`, by input topic, the events last.

    Args:
        beginnings: the first offsets that are retained.
        cut_events, cut_labels: what retention has cut off of what was requested, in words.
        over_ms: when the wait of the span's last event is over; None where the topics do not reach so far.
    """

    starts: Mapping[str, int]
    stops: Mapping[str, int]
    beginnings: Mapping[str, int]
    cut_events: tuple[str, ...] = ()
    cut_labels: tuple[str, ...] = ()
    over_ms: int | None = None


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
    beginnings, ends = await broker.beginnings(places), await broker.ends(places)
    starts, stops = ({place: offsets[place] for place in places} for offsets in (beginnings, ends))
    sought = starts if span.from_ms is None else await broker.offsets_at(places, span.from_ms)
    if span.from_offset is not None:
        if span.from_offset < starts[events]:
            raise InputFileError(
                f"{events.topic}-{partition} starts at offset {starts[events]}, but --from asks for "
                f"{span.from_offset}: start later, or increase retention.ms"
            )
        starts[events] = min(span.from_offset, stops[events])
    starts.update(sought if span.from_ms is not None else {})
    if span.to_offset is not None:
        stops[events] = max(starts[events], min(span.to_offset, stops[events]))
    if span.to_ms is not None:
        stops[events] = max(starts[events], (await broker.offsets_at([events], span.to_ms))[events])
    # Of a span that begins with the first record that is left, those before may be gone.
    cut_events = _cut(events, beginnings, starts) if span.from_offset is None else ()
    cut_labels: tuple[str, ...] = ()
    over_ms = None
    if pipeline.label is not None and len(places) > 1:
        labels = places[0]
        if span.from_offset and starts[events] < stops[events]:
            first_ms = await _time_of(broker, events, starts[events])
            starts[labels] = (await broker.offsets_at([labels], first_ms or 0))[labels]
        cut_labels = _cut(labels, beginnings, starts)
        end_ms = span.to_ms
        if span.to_offset is not None and starts[events] < stops[events]:
            last_ms = await _time_of(broker, events, stops[events] - 1)
            end_ms = last_ms + 1 if last_ms is not None else None
        if end_ms is not None:
            over_ms = end_ms + pipeline.label.wait_ms
            reached = await broker.offsets_at(places, over_ms)
            stops[labels] = max(starts[labels], reached[labels])
            if all(reached[place] >= ends[place] for place in places):
                over_ms = None
    kept = {place: beginnings[place] for place in places}
    return Bounds(_by_topic(starts), _by_topic(stops), _by_topic(kept), cut_events, cut_labels, over_ms)


def _cut(place: Place, beginnings: Mapping[Place, int], starts: Mapping[Place, int]) -> tuple[str, ...]:
    """That a topic is read from the first record on that is left of it."""
    start = starts[place]
    return (f"{place.topic}-{place.partition} from offset {start:,}",) if start and start == beginnings[place] else ()


def _by_topic(offsets: Mapping[Place, int]) -> dict[str, int]:
    return {place.topic: offset for place, offset in offsets.items()}


async def _time_of(broker: KafkaBroker, place: Place, offset: int) -> int | None:
    """Time of the first record at or behind an offset; None where there is none."""
    reader = broker.reader(place.partition)
    try:
        await reader.open({place.topic: offset})
        sources = await reader.read(place.topic, 1)
    finally:
        await reader.close()
    return sources[0].record_time_ms if sources else None
