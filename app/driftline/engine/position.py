"""Where a shard's inputs go on: behind what its journal has read; and what was lost, replaced or added meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from driftline.codec.inputs import Inputs
from driftline.core.error import InputLostError, InputReplacedError
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout, input_name, input_place, topic_of
from driftline.core.timestamp import parse_time
from driftline.engine.recovered import Recovered
from driftline.engine.sameness import Identities, check_inputs, check_partitions, check_shards, replaced
from driftline.transport.port import Broker, Place

log = logging.getLogger(__name__)


def inputs_of(pipeline: Pipeline, number: int, counts: Mapping[str, int]) -> list[Place]:
    """The inputs that would be a shard's, by the partitions of the topics."""
    return Layout(pipeline.shards or 1, counts).places(Inputs(pipeline).topics, number)


class Positions(NamedTuple):
    """Where the inputs go on.

    Attributes:
        inputs: of the shard, in the order of the merge.
        offsets: the next of each, by the input's name.
        gap: whether records before that were lost.
    """

    inputs: Sequence[Place]
    offsets: dict[str, int]
    gap: bool


@dataclass(frozen=True)
class Positioning:
    """Finds where one shard goes on.

    Args:
        number: of the shard.
        topics: inputs and journal, as they are.
        reset: begin with a fresh state.
        gap_continue: go on where input was lost.
    """

    broker: Broker
    pipeline: Pipeline
    number: int
    topics: Identities
    reset: bool
    gap_continue: bool

    async def find(self, recovered: Recovered) -> Positions:
        """Where the inputs go on behind what was recovered.

        Raises:
            InputLostError: records that were not read have been deleted.
            InputReplacedError, PartitionsChangedError: topics are not those that were read before.
        """
        anew = self._begin_anew(recovered)
        inputs = self._inputs(recovered, anew)
        places = {input_name(*place, self.number): place for place in inputs}
        kept = recovered.positions.items()
        offsets = {name: offset for name, offset in kept if name in places and topic_of(name) not in anew}
        kept_from = await self.broker.beginnings(places.values())
        ends = await self.broker.ends(places.values(), readable=False)
        if not recovered.positions:
            offsets = await self._first(places)
        gap = bool(anew)
        for name, place in places.items():
            first = kept_from[place]
            offset = offsets.setdefault(name, first)
            if offset > ends[place]:  # the only clue where a broker gives no ids
                if not self.gap_continue:
                    raise InputReplacedError(
                        f"{place.topic}-{place.partition} ends at offset {ends[place]}, but the shard has read up to "
                        f"{offset}: records were lost, or the topic was deleted and recreated",
                        "To read it from its beginning, start once with --on-gap continue",
                    )
                offsets[name], gap = first, True
            if offset < first:
                if not self.gap_continue:
                    raise InputLostError(
                        f"{place.topic}-{place.partition} starts at offset {first}, but the shard has read only up to "
                        f"{offset}: unread records were deleted"
                    )
                offsets[name], gap = first, True
        return Positions(inputs, offsets, gap)

    def _begin_anew(self, recovered: Recovered) -> set[str]:
        """Topics that are read from their beginning, as they were recreated.

        Raises:
            InputReplacedError, PartitionsChangedError: and the user was not asked.
        """
        epoch, shards, before = recovered.epoch, self.pipeline.shards or 1, _shards_before(recovered, self.pipeline)
        known = epoch.topics or {} if epoch is not None else {}
        inputs = Inputs(self.pipeline).topics
        if any(name != topic_of(name) for name in recovered.positions):  # others would read again what this one has
            check_shards(before, shards, self.pipeline)
        if not self.gap_continue and not self.reset:
            check_inputs(known, self.topics, inputs)
            if self.pipeline.label is not None and (shards > 1 or before != 1):
                check_partitions(known, self.topics, inputs)
            check_shards(before, shards, self.pipeline)
        return set(replaced(known, self.topics, inputs))

    def _inputs(self, recovered: Recovered, anew: set[str]) -> list[Place]:
        """The inputs of this shard: those that its journal has, and such as were added.

        Those are taken up where there is one shard. Of several, an added partition changes where keys lie, and so which
        shard an event and its label belong to: that is for the user to decide (`transport.obstacle` reports it).

        Raises:
            InputReplacedError: the journal has one that is not there any more.
        """
        counts = {topic: identity.partitions for topic, identity in self.topics.items()}
        there, rank = inputs_of(self.pipeline, self.number, counts), Inputs(self.pipeline).rank
        known = [input_place(name, self.number) for name in recovered.positions]
        known = [place for place in known if place.topic not in anew and place.topic in rank]
        for place in known:
            if place.partition >= counts.get(place.topic, place.partition + 1):
                raise InputReplacedError(
                    f"{place.topic} has {counts[place.topic]} partitions, and the shard has read partition "
                    f"{place.partition}: the topic was deleted and created again",
                    "Give the pipeline a new name, or start once with --reset-state",
                )
        if not known or (self.pipeline.shards or 1) == 1 or self.gap_continue:
            found = {*there, *known}
        else:
            begun = {place.topic for place in known}  # all inputs, in a journal of ours
            found = {*known, *(place for place in there if place.topic in anew or place.topic not in begun)}
        return sorted(found, key=lambda place: (rank[place.topic], place.partition))

    async def _first(self, places: Mapping[str, Place]) -> dict[str, int]:
        """Where a new pipeline begins; commands count from the first."""
        start, control = self.pipeline.start, self.pipeline.topics.control
        if start == "earliest":
            return {}
        places = {name: place for name, place in places.items() if place.topic != control}
        if start == "latest":
            found = await self.broker.ends(places.values())
        else:
            found = await self.broker.offsets_at(places.values(), parse_time(start))
        text = ", ".join(f"{name} at offset {found[place]}" for name, place in places.items())
        log.info("shard %d: starting at `start: %s`: %s", self.number, start, text)
        return {name: found[place] for name, place in places.items()}


def _shards_before(recovered: Recovered, pipeline: Pipeline) -> int | None:
    """How many the pipeline had when this one last worked; None where that is not known."""
    epoch = recovered.epoch
    if epoch is None:
        return None
    if isinstance(shards := epoch.pipeline.get("shards"), int):
        return shards
    journal = (epoch.topics or {}).get(pipeline.topics.journal)
    return journal.partitions if journal is not None else None
