"""A partition of a pipeline's topics as records: in the journaled order, or merged by time.

The journal says what was folded together, and in which order. The live pipeline itself is folded by the code that
recovers it, which compares the digest of everything that each slice made with the one that was published: where it does
not fail, its scores, alerts and state are those that were served, bit for bit. Other candidates get the same records
in the same slices, each read once; commands of operators were meant for the live model, and are not for them.

Reads assigned partitions without a group: what is live notices nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.backtest.candidate import Candidate
from app.codec.encode import Encoder
from app.codec.inputs import Inputs
from app.codec.journal import EpochEntry, SliceEntry
from app.codec.manifest import Manifest
from app.core.error import InputLostError, InvariantError, RecoveryError
from app.core.freeze import Frozen
from app.core.merge import Merge
from app.core.output import Output, Score
from app.core.pipeline import Pipeline
from app.core.record import Record, Source, Tick
from app.engine.fold import Folder
from app.engine.port import Broker, Reader
from app.engine.recovery import Recovered, Recovery

READ_RECORDS_MAX = 2_000
DIFFERENCES_KEPT_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Span:
    """Which part of the events is asked for; labels and slices follow.

    Args:
        from_ms, to_ms: by the records' times, the end left out.
        from_offset, to_offset: of the events topic, in every partition, the end left out.
    """

    from_ms: int | None = None
    to_ms: int | None = None
    from_offset: int | None = None
    to_offset: int | None = None


@dataclass
class Against:
    """What a candidate said, held against what was served.

    Args:
        compared: scores of both.
        missing: of the candidate, without a served one.
        differing: all that differ; the first of them are in `examples`.
        largest: difference between two values.
    """

    compared: int = 0
    missing: int = 0
    differing: int = 0
    largest: float = 0.0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def merge(self, other: Against) -> None:
        """Add another partition's."""
        for name in ("compared", "missing", "differing"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.largest = max(self.largest, other.largest)
        self.examples = [*self.examples, *other.examples][:DIFFERENCES_KEPT_MAX]


class Served:
    """The scores topic of a partition, read along with what a candidate says, event by event."""

    def __init__(self, reader: Reader, pipeline: Pipeline) -> None:
        self._reader = reader
        self._topic = pipeline.topics.scores
        self._encode = Encoder(pipeline).encode
        self._ahead: dict[int, bytes] = {}  # by the event's offset
        self._until = -1
        self._ended = False

    async def reach(self, offset: int) -> None:
        """Read until the score of this event's offset is known, if there is one."""
        while self._until < offset and not self._ended:
            sources = await self._reader.read(self._topic, READ_RECORDS_MAX)
            self._ended = not sources
            for source in sources:
                document = orjson.loads(source.value or b"{}")
                place = int(str(document.get("output_id", "--1-0")).rsplit("-", 2)[1])
                self._ahead[place] = source.value or b""
                self._until = max(self._until, place)

    def compare(self, score: Score, found: Against, *, exact: bool) -> None:
        """Compare one score: byte by byte for the live pipeline, else what it says."""
        offset = score.source.offset
        served = self._ahead.get(offset)
        if served is None:
            found.missing += 1
            return
        found.compared += 1
        said = self._encode(score).value or b""
        if said == served:
            return
        one, other = orjson.loads(served), orjson.loads(said)
        kept = ("prediction", "probability", "probabilities", "decision", "guard")
        if not exact and all(one.get(name) == other.get(name) for name in kept):
            return
        found.differing += 1
        values = [document.get("probability", document.get("prediction")) for document in (one, other)]
        if all(isinstance(value, int | float) for value in values):
            found.largest = max(found.largest, abs(values[0] - values[1]))
        if len(found.examples) < DIFFERENCES_KEPT_MAX:
            found.examples.append(
                {
                    "event_id": score.event_id,
                    "partition": score.source.partition,
                    "offset": offset,
                    "served": values[0],
                    "backtested": values[1],
                }
            )

    def forget(self, offset: int) -> None:
        """No candidate will ask for an event before this offset any more."""
        self._ahead = {place: value for place, value in self._ahead.items() if place >= offset}


@dataclass
class Read:
    """What was read of the inputs."""

    records: int = 0
    size_bytes: int = 0

    def add(self, sources: Sequence[Source]) -> None:
        self.records += len(sources)
        self.size_bytes += sum(len(source.value or b"") + len(source.key or b"") for source in sources)


class Group:
    """Candidates that read alike: the records are merged and decoded once for all of them."""

    def __init__(self, pipeline: Pipeline, candidates: Sequence[Candidate]) -> None:
        inputs = Inputs(pipeline)
        self.rank = inputs.rank
        self.merge: Merge[Source] = Merge(inputs.decoders)
        self.candidates = candidates

    def push(self, topic: str, sources: Sequence[Source]) -> None:
        rank = self.rank.get(topic)
        if rank:  # 0 is control: its commands were meant for the live model
            self.merge.push(rank, sources)

    def fold(self, at_end: Sequence[bool]) -> None:
        """Fold what can be taken."""
        self.each([record for _, record in self.merge.take(sys.maxsize, at_end)])

    def each(self, records: Sequence[Record]) -> None:
        for candidate in self.candidates:
            if not candidate.failed:
                candidate.fold(records)


class Watched:
    """Holds the candidates' scores against the served ones after each slice or batch."""

    def __init__(self, served: Served | None, candidates: Sequence[Candidate], live: Candidate | None) -> None:
        self._served = served
        self._candidates = candidates
        self._live = live
        self.against = {id(candidate): Against() for candidate in candidates}
        if served is not None:
            for candidate in candidates:
                candidate.scores = []

    async def settle(self) -> None:
        """Compare what came since the last call."""
        served = self._served
        if served is None:
            return
        least = -1
        for candidate in self._candidates:
            scores, candidate.scores = candidate.scores or [], []
            if not scores:
                continue
            last = scores[-1].source.offset
            await served.reach(last)
            for score in scores:
                exact = candidate is self._live
                served.compare(score, self.against[id(candidate)], exact=exact)
            least = max(least, last)
        if least >= 0:
            served.forget(least + 1)


class _Enough(Exception):  # noqa: N818 - it is no error: the end of what was asked for
    """Ends a replay."""


class JournalReplay(Recovery):
    """One partition in the journaled order.

    Args:
        live: the candidate that is the live pipeline itself; None folds the others only.
        groups: the others.
        within: offsets of the events that count; the journal is folded on until their labels have come. None counts
            all of the journal.
        warm: there must be a snapshot before them to start from. Without it, what is served is made the same way if
            there is one, and folded from the journal's beginning if not: its state is the same.
        moved: told of what was read after every slice; false ends the replay.
    """

    def __init__(
        self,
        broker: Broker,
        pipeline: Pipeline,
        partition: int,
        *,
        key: bytes | None,
        within: range | None,
        warm: bool,
        live: Candidate | None,
        groups: Sequence[Group],
        watched: Watched,
        moved: Any,
    ) -> None:
        super().__init__(broker, pipeline, partition, key)
        self._within = within
        self._warm = warm
        self._live = live
        self._groups = groups
        self._watched = watched
        self._moved = moved
        self._found: Mapping[str, list[Source]] = {}
        self._begun = within is None
        self._outputs: list[Output] = []
        self._over = False
        if live is not None:
            live.within = within
        self.read = Read()
        self.start = "cold"
        self.state: Recovered | None = None

    async def fold(self) -> None:
        """Fold everything that was asked for."""
        try:
            self.state = await self.run()
        except _Enough:
            return
        except InputLostError as error:
            raise InputLostError(
                f"shard {self._partition}: the topics do not go back so far any more ({error}). Start from a snapshot "
                "with --warm, or leave out the journal with --order time"
            ) from error
        finally:
            await self._close_inputs()

    async def _snapshots(self) -> list[tuple[Manifest, Frozen]]:
        if not self._warm and self._within is None:
            return []  # all of the journal is asked for
        found = await super()._snapshots()
        events = self._pipeline.topics.events
        if self._within is not None:
            found = [one for one in found if one[0].positions.get(events, 0) <= self._within.start]
        if not found and self._warm:
            raise RecoveryError(f"shard {self._partition} has no snapshot to start from; leave out --warm")
        return found

    async def _restore(self, manifest: Manifest, frozen: Frozen) -> Recovered:
        state = await super()._restore(manifest, frozen)
        if self._warm:
            self.start = f"snapshot after slice {manifest.slice_number}"
        if self._live is not None and state.folder is not None:
            self._live.served(state.folder.shard)
            if self._within is None:
                self._live.counts_from_ms = state.folder.shard.watermark_ms
        return state

    async def _follow(self, state: Recovered, entry: SliceEntry | EpochEntry) -> None:
        self.state = state
        await super()._follow(state, entry)
        if isinstance(entry, EpochEntry) and state.folder is not None and self._live is not None:
            self._live.served(state.folder.shard)

    async def _slice(self, state: Recovered, entry: SliceEntry) -> None:
        folder = state.folder
        if folder is None:
            raise InvariantError("the journal begins with a slice, not with an epoch; restore its first entries")
        if self._within is not None:
            self._look(self._within, entry)
        self._found = {}
        if self._live is not None:
            folder.watched_by(self._outputs.append)
            await super()._slice(state, entry)
            self._take(self._live, folder, entry)
        elif self._begun and entry.inputs:
            self._found = await self._range(folder, entry)
        if self._live is None:
            folder.positions.update({topic: part.stop for topic, part in entry.inputs.items()})
        if self._begun:
            self._others(entry)
            await self._watched.settle()
        if not self._moved(self.read):
            raise _Enough

    def _look(self, within: range, entry: SliceEntry) -> None:
        """Whether the range begins with this slice, or is over, and all that is to be known of it."""
        part = entry.inputs.get(self._pipeline.topics.events)
        if part is not None and part.start >= within.stop:
            self._over = True
        elif part is not None and part.stop > within.start:
            self._begun = True
        if not self._over:
            return
        others = [one for group in self._groups for one in group.candidates if not one.failed]
        if self._live is not None:
            self._live.closed = True
        if (self._live is None or not self._live.outstanding) and not any(len(one.shard.pending) for one in others):
            raise _Enough

    def _take(self, live: Candidate, folder: Folder, entry: SliceEntry) -> None:
        made, self._outputs = self._outputs, []
        folder.watched_by(self._outputs.append)
        live.served(folder.shard)
        if self._begun:
            live.take(made, sum(part.count for part in entry.inputs.values()))

    def _others(self, entry: SliceEntry) -> None:
        ends = (True, True, True)
        for group in self._groups:
            if entry.tick_ms is not None:
                group.each([Tick(self._partition, entry.number, entry.tick_ms)])
            for topic, sources in self._found.items():
                if self._within is None or topic != self._pipeline.topics.events:
                    group.push(topic, sources)
                else:
                    group.push(topic, [source for source in sources if source.offset in self._within])
            group.fold(ends)

    async def _range(self, folder: Folder, entry: SliceEntry) -> Mapping[str, list[Source]]:
        self._found = await super()._range(folder, entry)
        for sources in self._found.values():
            self.read.add(sources)
        return self._found


class TimeReplay:
    """One partition merged by time, as a worker that begins with a backlog would fold it.

    Args:
        starts, stops: offsets by input topic, the events last, the stop left out.
        whole: read all up to the stops; else no more labels than the events wait for.
    """

    def __init__(
        self,
        reader: Reader,
        starts: Mapping[str, int],
        stops: Mapping[str, int],
        *,
        whole: bool,
        groups: Sequence[Group],
        watched: Watched,
        moved: Any,
    ) -> None:
        self._reader = reader
        self._starts = starts
        self._stops = stops
        self._whole = whole
        self._groups = groups
        self._watched = watched
        self._moved = moved
        self.read = Read()

    async def fold(self) -> None:
        """Fold everything between starts and stops."""
        topics = list(self._starts)
        ended = {topic: self._starts[topic] >= self._stops[topic] for topic in topics}
        await self._reader.open(dict(self._starts))
        while True:
            for group in self._groups:
                group.fold([True, *(ended[topic] for topic in group.rank if group.rank[topic])])
            await self._watched.settle()
            if all(ended.values()) or not self._moved(self.read):
                return
            if not self._whole and ended[topics[-1]] and not any(map(self._waits, self._groups)):
                return
            for topic in topics:
                hungry = any(not group.merge.waiting(group.rank[topic]) for group in self._groups)
                if ended[topic] or not hungry:
                    continue
                sources = await self._reader.read(topic, READ_RECORDS_MAX, self._stops[topic])
                ended[topic] = not sources or sources[-1].offset + 1 >= self._stops[topic]
                self.read.add(sources)
                for group in self._groups:
                    group.push(topic, sources)

    @staticmethod
    def _waits(group: Group) -> bool:
        """Whether events wait: to be folded, or for their label."""
        at_work = [one for one in group.candidates if not one.failed]
        return bool(group.merge.waiting(max(group.rank.values())) or any(len(one.shard.pending) for one in at_work))


def with_topics(pipeline: Pipeline, live: Pipeline) -> Pipeline:
    """A candidate that reads the live pipeline's topics."""
    return pipeline.model_copy(update={"topics": live.topics})
