"""The inputs of a pipeline in the order of their rank (control, then labels, then events), and whose they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from driftline.codec.decode import Decoder
from driftline.core.error import InvariantError, PartitionsChangedError
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout, input_name, input_place, topic_of
from driftline.core.record import InputRecord, Source


class Inputs:
    """Topics by rank, and how each is decoded.

    Attributes:
        topics: topic names; the place in the tuple is the rank by which the merge breaks ties.
        decoders: what makes a record of the bytes, by rank.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        decoder = Decoder(pipeline)
        topics = pipeline.topics
        decoders = [(topics.control, decoder.control), (topics.events, decoder.read_event)]
        if pipeline.label is not None and topics.labels is not None:
            decoders.insert(1, (topics.labels, decoder.read_label))
        self.topics = tuple(topic for topic, _ in decoders)
        self.decoders = tuple(decode for _, decode in decoders)
        self.rank = {topic: rank for rank, topic in enumerate(self.topics)}


class Lanes:
    """The inputs of one shard, each one partition of a topic, in the order in which the merge takes them at equal
    times: by rank of their topic, then by partition.

    Args:
        number: of the shard.
        names: of its inputs (`core.place`); a topic of which none is named is read at the shard's own number.

    Attributes:
        names, places, decoders: by lane.
        of: lanes by name.
        ranks: of the topic, by lane.
        controls: how many lanes are of the control topic; they come first.

    Raises:
        InvariantError: a name is none that we give.
    """

    def __init__(self, pipeline: Pipeline, number: int, names: Iterable[str]) -> None:
        inputs = Inputs(pipeline)
        self.number = number
        named = {name for name in names if topic_of(name) in inputs.rank}
        bare = {topic for topic in inputs.topics if topic not in {topic_of(name) for name in named}}
        try:
            found = [input_place(name, number) for name in named | bare]
        except ValueError as error:
            raise InvariantError(f"the journal is none of ours: {error}") from error
        places = sorted(found, key=lambda place: (inputs.rank[place.topic], place.partition))
        self.topics = inputs.topics
        self.places = tuple(places)
        self.names = tuple(input_name(*place, number) for place in places)
        self.ranks = tuple(inputs.rank[place.topic] for place in places)
        self.decoders: Sequence[Callable[[Source], InputRecord]] = tuple(inputs.decoders[rank] for rank in self.ranks)
        self.of: Mapping[str, int] = {name: lane for lane, name in enumerate(self.names)}
        self.controls = self.ranks.count(0)

    def lanes_of(self, topic: str) -> Sequence[int]:
        """Those of one topic."""
        return [lane for lane, place in enumerate(self.places) if place.topic == topic]


def layout_of(pipeline: Pipeline, counts: Mapping[str, int]) -> Layout:
    """How the topics' partitions are shared: the journal says among how many shards, and before it is there, the file.

    Args:
        counts: partitions by topic.

    Raises:
        PartitionsChangedError: the file says another number than the journal.
    """
    journal = pipeline.topics.journal
    shards = counts.get(journal) or pipeline.shards or 1
    if pipeline.shards not in (None, shards):
        raise PartitionsChangedError(
            f"the pipeline file says `shards: {pipeline.shards}`, and {pipeline.name} has {shards}: its journal "
            f"{journal} has {shards} partition{'s' * (shards > 1)}",
            f"Say `shards: {shards}`. " + other_number(pipeline.shards or 1),
        )
    return Layout(shards, counts)


def other_number(wanted: int) -> str:
    """How to have another number of shards."""
    return (
        "A pipeline keeps the number of shards that it began with. To have another, give it a new name, `shards: "
        f"{wanted}` and new topics of its own (`driftline topics create`): it begins untrained, or with a model that "
        "`driftline train` makes and `driftline control load` gives it"
    )
