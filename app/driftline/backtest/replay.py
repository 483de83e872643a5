"""A partition of a pipeline's topics as records: in the journaled order, or merged by time.

The journal says what was folded together, and in which order. The live pipeline itself is folded by the code that
recovers it, which compares the digest of everything that each slice made with the one that was published: where it does
not fail, its scores, alerts and state are those that were served, bit for bit. Other candidates get the same records
in the same slices, each read once; commands of operators were meant for the live model, and are not for them.

Reads assigned partitions without a group: what is live notices nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from driftline.backtest.candidate import Candidate
from driftline.backtest.served import Watched
from driftline.backtest.span import Bounds
from driftline.backtest.start import Start
from driftline.codec.inputs import Inputs
from driftline.codec.journal import CHAIN_START, EpochEntry, SliceEntry
from driftline.codec.keyring import KeyRing
from driftline.core.error import InputLostError, SnapshotError
from driftline.core.fold.future import Judge
from driftline.core.fold.merge import Merge
from driftline.core.output import Output
from driftline.core.pipeline import Pipeline
from driftline.core.record import Record, Source, Tick
from driftline.engine.fold import Folder, marks_of
from driftline.engine.recovery import Recovered, Recovery
from driftline.transport.port import Broker, Reader

READ_RECORDS_MAX = 2_000


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
        self.judge = Judge(pipeline.limits.time_ahead_max_ms, patient=False)  # by what is in hand: much is
        self.merge: Merge[Source] = Merge(inputs.decoders, self.judge)
        self.candidates = candidates

    def push(self, topic: str, sources: Sequence[Source]) -> None:
        rank = self.rank.get(topic)
        if rank:  # 0 is control: its commands were meant for the live model
            self.merge.push(rank, sources)

    def marked(self, ahead: Mapping[str, Sequence[int]]) -> None:
        """A slice begins in which these offsets lay far ahead."""
        latest_ms = self.judge.latest_ms
        marks = marks_of(ahead, self.rank)
        self.judge.begin(None if latest_ms == -inf else int(latest_ms), marks=marks)

    def fold(self, at_end: Sequence[bool]) -> None:
        """Fold what can be taken."""
        self.each([record for _, record in self.merge.take(sys.maxsize, at_end)])

    def each(self, records: Sequence[Record]) -> None:
        for candidate in self.candidates:
            if not candidate.failed:
                candidate.fold(records)


class Panel:
    """The candidates of one partition, and who is told of what they do.

    Args:
        live: the one that is the live pipeline itself, folded as it was live; None folds all alike.
        groups: the others.
        watched: holds all of them against what was served.
        moved: told of what was read until now; false ends the replay.
    """

    def __init__(
        self, live: Candidate | None, groups: Sequence[Group], watched: Watched, moved: Callable[[Read], bool]
    ) -> None:
        self.live = live
        self.groups = groups
        self.read = Read()
        self._watched = watched
        self._moved = moved
        self._begun = False

    def begin(self) -> None:
        """What comes now is counted."""
        if not self._begun:
            self._begun = True
            for candidate in self._at_work():
                candidate.begin()

    def push(self, found: Mapping[str, Sequence[Source]]) -> None:
        """Give records, by topic, to all that are not live."""
        for topic, sources in found.items():
            self.read.add(sources)
            for group in self.groups:
                group.push(topic, sources)

    def tick(self, tick: Tick) -> None:
        """Let time pass for all that are not live."""
        for group in self.groups:
            group.each([tick])

    def expire(self, partition: int, bounds: Bounds) -> None:
        """End the waits that are over by the end of the topics, where a range was read and nothing behind it."""
        if self.awaits and bounds.over_ms is not None:
            self.tick(Tick(partition, 0, bounds.over_ms))

    def hungry(self, topic: str) -> bool:
        """Whether a group has folded all that it was given of a topic."""
        return any(not group.merge.waiting(group.rank[topic]) for group in self.groups)

    async def settle(self) -> bool:
        """After every slice or batch; false ends the replay."""
        await self._watched.settle()
        return self._moved(self.read)

    @property
    def awaits(self) -> bool:
        """Whether an event that counts waits for its label."""
        return any(candidate.outstanding for candidate in self._at_work())

    def _at_work(self) -> list[Candidate]:
        live = [self.live] if self.live is not None else []
        return [
            one for group in (live, *(group.candidates for group in self.groups)) for one in group if not one.failed
        ]


class _Enough(Exception):  # noqa: N818 - it is not an error: the end of what was requested
    """Ends a replay."""


class JournalReplay(Recovery):
    """One partition in the journaled order.

    With the live pipeline among the candidates it reads whole slices, from the start on, and folds everything for all:
    then all know what it knew. Without, it reads only what lies within the bounds, wherever the slices end.

    Args:
        within: offsets of the events that count; it ends when their labels have come. None ends with the journal.
    """

    def __init__(
        self,
        broker: Broker,
        pipeline: Pipeline,
        partition: int,
        ring: KeyRing,
        *,
        start: Start,
        bounds: Bounds,
        within: range | None,
        panel: Panel,
    ) -> None:
        super().__init__(broker, pipeline, partition, ring)
        self._start = start
        self._bounds = bounds
        self._within = within
        self._panel = panel
        self._reached = dict(start.positions)  # next offset by input topic
        self._found: dict[str, list[Source]] = {}
        self._outputs: list[Output] = []

    async def fold(self) -> None:
        """Fold everything that was requested.

        Raises:
            InputLostError: the journal, or what the served state was made from, is not retained any more.
        """
        try:
            await self._replay(await self._begin())
        except _Enough:
            pass
        except InputLostError as error:
            told = "the journal, or the input it refers to, has been deleted"
            raise InputLostError(f"shard {self._partition}: {told} ({error.lost})", self._ways()) from error
        except SnapshotError as error:
            told = "the journal does not continue from the snapshot"
            raise InputLostError(f"shard {self._partition}: {told} ({error})", self._ways()) from error
        finally:
            await self._close_inputs()

    async def _begin(self) -> Recovered:
        if self._start.snapshot is None:
            return Recovered(None, None, CHAIN_START, 0, -1, 0, self._progress)
        manifest, frozen = self._start.snapshot
        if self._panel.live is not None:
            state = await self._restore(manifest, frozen)
            if state.folder is not None:
                self._panel.live.served(state.folder.shard)
                self._panel.live.result.steered = state.folder.shard.frozen
            return state
        place = (manifest.chain, manifest.slice_number, manifest.journal_offset)
        return Recovered(None, None, *place, 0, self._progress)

    async def _follow(self, state: Recovered, entry: SliceEntry | EpochEntry) -> None:
        events = self._pipeline.topics.events
        live, within = self._panel.live, self._within
        if isinstance(entry, EpochEntry):
            if live is not None:
                await super()._follow(state, entry)
                if state.folder is not None:
                    live.served(state.folder.shard)
                live.result.steered |= entry.reason not in ("first", "version")
            return
        self._reached.update({topic: part.stop for topic, part in entry.inputs.items()})
        begun = within is None or self._reached[events] > within.start
        if begun:
            self._panel.begin()
        self._found = {}
        if live is not None:
            await self._serve(state, entry, live)
        else:
            self._found = await self._within_bounds(entry)
        if entry.tick_ms is not None and (begun or live is not None):
            self._panel.tick(Tick(self._partition, entry.number, entry.tick_ms))
        self._panel.push(self._found)
        for group in self._panel.groups:
            group.marked(entry.ahead or {})
            group.fold([True] * len(group.rank))
        if not await self._panel.settle():
            raise _Enough
        if self._over():
            if self._panel.live is None:
                self._panel.expire(self._partition, self._bounds)
            raise _Enough

    async def _serve(self, state: Recovered, entry: SliceEntry, live: Candidate) -> None:
        """Fold a slice as it was served."""
        self._outputs.clear()
        if state.folder is not None:
            state.folder.watched_by(self._outputs.append)
        await super()._follow(state, entry)
        if state.folder is not None:
            live.served(state.folder.shard)
        live.result.steered |= self._pipeline.topics.control in entry.inputs
        live.take(self._outputs, sum(part.count for part in entry.inputs.values()))

    async def _range(self, folder: Folder, entry: SliceEntry) -> Mapping[str, list[Source]]:
        self._found = {topic: list(sources) for topic, sources in (await super()._range(folder, entry)).items()}
        return self._found

    async def _within_bounds(self, entry: SliceEntry) -> dict[str, list[Source]]:
        """Those records of a slice that were requested."""
        found: dict[str, list[Source]] = {}
        for topic, stop in self._bounds.stops.items():
            part = entry.inputs.get(topic)
            if part is None or min(stop, part.stop) <= self._start.positions[topic]:
                continue
            if self._inputs is None:
                self._inputs = self._broker.reader(self._partition)
                await self._inputs.open({name: self._start.positions[name] for name in self._bounds.stops})
            sources: list[Source] = []
            while more := await self._inputs.read(topic, READ_RECORDS_MAX, min(stop, part.stop)):
                sources += more
            found[topic] = sources
        return found

    def _over(self) -> bool:
        """Whether the events that count were folded, and no label of theirs can come any more."""
        within, reached, stops = self._within, self._reached, self._bounds.stops
        if within is None or reached[self._pipeline.topics.events] < within.stop:
            return False
        if self._panel.live is None and all(reached[topic] >= stop for topic, stop in stops.items()):
            return True
        return not self._panel.awaits

    def _ways(self) -> str:
        """What can be done where the state that was served cannot be made again."""
        if self._panel.live is None:
            return "Ignore the journal with --order time"
        if self._within is None:
            return "Start from a snapshot with --warm, or ignore the journal with --order time"
        if self._start.snapshot is not None:
            return "Start later, after a newer snapshot, or ignore the journal with --order time"
        hint = f" ({self._start.hint})" if self._start.hint else ""
        return f"Drop --against live (with --from, all then start cold), or start later, after a snapshot{hint}"


class TimeReplay:
    """One partition merged by time, as a worker that begins with a backlog would fold it.

    Args:
        within: offsets of the events that count.
        whole: read all up to the bounds; else no more labels than the events that count wait for.
    """

    def __init__(
        self, reader: Reader, *, start: Start, bounds: Bounds, within: range | None, whole: bool, panel: Panel
    ) -> None:
        self._reader = reader
        self._starts = {topic: start.positions[topic] for topic in bounds.starts}
        self._bounds = bounds
        self._within = within
        self._whole = whole
        self._panel = panel

    async def fold(self, partition: int) -> None:
        """Fold everything between start and bounds."""
        stops, panel = self._bounds.stops, self._panel
        topics = list(stops)
        events = topics[-1]
        first = self._within.start if self._within is not None else 0
        reached = dict(self._starts)
        await self._reader.open(self._starts)
        while True:
            ended = {topic: reached[topic] >= stops[topic] for topic in topics}
            for group in panel.groups:
                group.fold([True, *(ended.get(topic, True) for topic in group.rank if group.rank[topic])])
            if reached[events] >= first and panel.hungry(events):
                panel.begin()
            if not await panel.settle():
                return
            folded = ended[events] and not any(group.merge.waiting(group.rank[events]) for group in panel.groups)
            if all(ended.values()) or (folded and not self._whole and not panel.awaits):
                break
            for topic in topics:
                if ended[topic] or not panel.hungry(topic):
                    continue
                stop = min(stops[topic], first) if topic == events and reached[topic] < first else stops[topic]
                sources = await self._reader.read(topic, READ_RECORDS_MAX, stop)
                reached[topic] = sources[-1].offset + 1 if sources else stop
                panel.push({topic: sources})
        panel.expire(partition, self._bounds)
