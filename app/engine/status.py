"""What the journal says of every shard: positions, lag, and the numbers that its entries carry for people.

Reads Kafka alone, so it answers whether or not a worker runs; it joins no group and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from app.codec.inputs import Inputs
from app.codec.journal import Entry, EpochEntry, Link, SliceEntry, decode_link
from app.core.pipeline import Pipeline
from app.engine.kafka import KafkaBroker
from app.engine.port import Place

LOOK_BACK = 400  # journal offsets
READ_RECORDS_MAX = 1_000


class ShardStatus(Struct, frozen=True):
    """One shard, as its journal has it.

    Args:
        positions: next offset by input topic; empty before the first start.
        lag: offsets from there to the end, by input topic.
        slice_number, epoch: of the last entry.
        note: the shard's own summary, at most a second older than the last entry under load; None if there is none.
    """

    partition: int
    positions: dict[str, int]
    lag: dict[str, int]
    slice_number: int
    epoch: int
    note: dict[str, Any] | None


async def read_status(broker: KafkaBroker, pipeline: Pipeline, partitions: int) -> Sequence[ShardStatus]:
    """Every shard of a pipeline.

    Raises:
        BrokerError: Kafka cannot be reached.
    """
    topics = Inputs(pipeline).topics
    journal = pipeline.topics.journal
    places = [Place(topic, partition) for topic in (*topics, journal) for partition in range(partitions)]
    ends, beginnings = await broker.ends(places), await broker.beginnings(places)
    made = []
    for partition in range(partitions):
        place = Place(journal, partition)
        links = await _last_links(broker, place, beginnings[place], ends[place])
        positions = {topic: beginnings[Place(topic, partition)] for topic in topics} | _positions(links)
        made.append(
            ShardStatus(
                partition,
                positions,
                {topic: max(0, ends[Place(topic, partition)] - position) for topic, position in positions.items()},
                max((linked.entry.number for linked in links if isinstance(linked.entry, SliceEntry)), default=0),
                max((_epoch(linked.entry) for linked in links), default=0),
                next((linked.note for linked in reversed(links) if linked.note is not None), None),
            )
        )
    return made


async def _last_links(broker: KafkaBroker, place: Place, beginning: int, end: int) -> Sequence[Link]:
    """The last entries of a journal, back to one that names every position: an epoch, or one with a note."""
    look_back = LOOK_BACK
    while True:
        start = max(beginning, end - look_back)
        links = await _links_from(broker, place, start)
        if start == beginning or any(linked.note is not None for linked in links):
            return links
        look_back *= 8


async def _links_from(broker: KafkaBroker, place: Place, start: int) -> Sequence[Link]:
    links: list[Link] = []
    reader = broker.reader(place.partition)
    await reader.open({place.topic: start})
    try:
        while sources := await reader.read(place.topic, READ_RECORDS_MAX):
            links += [decode_link(source.value) for source in sources]
    finally:
        await reader.close()
    return links


def _positions(links: Sequence[Link]) -> dict[str, int]:
    positions: dict[str, int] = {}
    for linked in links:
        if isinstance(linked.entry, EpochEntry):
            positions.update(linked.entry.positions)
        else:
            positions.update({topic: part.stop for topic, part in linked.entry.inputs.items()})
        if linked.note is not None:
            positions.update(linked.note["positions"])
    return positions


def _epoch(entry: Entry) -> int:
    return entry.number if isinstance(entry, EpochEntry) else entry.epoch
