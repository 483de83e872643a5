"""Slices: the records that are folded and committed together, and what they make.

The same code folds a slice live, where it takes what is there, and at recovery, where the journal says what was
taken. Only the choice of what to take differs; once taken, the order and the outputs follow from the records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from app.codec.encode import Encoder, Message, digest
from app.codec.inputs import Inputs
from app.codec.journal import Range
from app.core.error import InvariantError
from app.core.merge import Merge
from app.core.output import Output
from app.core.record import InputRecord, Source, Tick
from app.core.shard import Shard, step

# Records that go through each stage (merge, step, encode) together, and between two questions whether the slice is
# full. One at a time they cost a sixth more: each stage drives the others' code out of the CPU's caches.
TOGETHER = 32


class Folded(Struct, frozen=True):
    """One slice, folded.

    Args:
        inputs: what was read, by topic.
        tick_ms: the tick, for a slice without records.
        outputs, messages: what the slice made, as the core made it and as it is published.
        digest: over the messages, hexadecimal.
    """

    inputs: Mapping[str, Range]
    tick_ms: int | None
    outputs: Sequence[Output]
    messages: Sequence[Message]
    digest: str

    @property
    def records(self) -> int:
        return sum(part.count for part in self.inputs.values())


class Folder:
    """Folds the records of one shard, slice by slice.

    Attributes:
        positions: next offset to fold, by input topic.
    """

    def __init__(self, shard: Shard, positions: Mapping[str, int]) -> None:
        self.shard = shard
        self.inputs = Inputs(shard.pipeline)
        self.positions = dict(positions)
        self.merge = Merge(len(self.inputs.topics))
        self._encode = Encoder(shard.pipeline).encode

    def receive(self, topic: str, sources: Sequence[Source]) -> int:
        """Take records of one input into the merge, in order; returns how many now wait there.

        Records before the position were folded already (a read that began before a seek) and are passed over.
        """
        rank = self.inputs.rank[topic]
        queue = self.merge.queues[rank]
        floor = queue[-1].source.offset + 1 if queue else self.positions[topic]
        decode = self.inputs.decode
        for source in sources:
            if source.offset >= floor:
                queue.append(decode(rank, source))
        return len(queue)

    @property
    def waiting(self) -> int:
        """Records in hand."""
        return sum(len(queue) for queue in self.merge.queues)

    def fold(self, at_end: Sequence[bool], records_max: int, full: Callable[[int], bool]) -> Folded:
        """Fold the next records in order, until a bound is met or the order of the next is not known yet.

        Args:
            at_end: by rank, whether an input has nothing unread beyond what was received.
            records_max: most records.
            full: asked now and then with the bytes made so far; true ends the slice.
        """
        self.merge.start_slice()
        outputs: list[Output] = []
        messages: list[Message] = []
        counts = [0] * len(at_end)
        stops = [0] * len(at_end)
        size = 0
        while (taken := sum(counts)) < records_max:
            goal = min(taken + TOGETHER, records_max)
            made = self._step(at_end, goal - taken, counts, stops)
            encoded = [self._encode(output) for output in made]
            outputs += made
            messages += encoded
            size += sum([len(message.value or b"") for message in encoded])
            if sum(counts) < goal or full(size):
                break
        return self._folded(counts, stops, None, outputs, messages)

    def _step(self, at_end: Sequence[bool], records_max: int, counts: list[int], stops: list[int]) -> list[Output]:
        """Take and fold up to so many records; counts them, and notes where each input stands."""
        pop, shard = self.merge.pop, self.shard
        taken: list[InputRecord] = []
        while len(taken) < records_max and (popped := pop(at_end)) is not None:
            rank, record = popped
            counts[rank] += 1
            stops[rank] = record.source.offset + 1
            taken.append(record)
        made: list[Output] = []
        for record in taken:
            made += step(shard, record)
        return made

    def fold_range(self, inputs: Mapping[str, Sequence[Source]]) -> Folded:
        """Fold exactly these records, as a slice that the journal names."""
        total = 0
        for topic, sources in inputs.items():
            total += self.receive(topic, sources)
        folded = self.fold([True] * len(self.inputs.topics), total, lambda _: False)
        if self.waiting:
            raise InvariantError("a slice was not folded whole: bounds differ from those it was made with")
        return folded

    def tick(self, slice_number: int, time_ms: int) -> Folded:
        """Let time pass on idle inputs."""
        outputs = step(self.shard, Tick(self.shard.partition, slice_number, time_ms))
        return self._folded([], [], time_ms, outputs, [self._encode(output) for output in outputs])

    def _folded(
        self,
        counts: Sequence[int],
        stops: Sequence[int],
        tick_ms: int | None,
        outputs: Sequence[Output],
        messages: Sequence[Message],
    ) -> Folded:
        inputs = {}
        for rank, count in enumerate(counts):
            if count:
                topic = self.inputs.topics[rank]
                inputs[topic] = Range(self.positions[topic], stops[rank], count)
                self.positions[topic] = stops[rank]
        return Folded(inputs, tick_ms, outputs, messages, digest(messages).hex())
