"""A shard of a pipeline as records: in the journaled order, or merged by time.

The journal says what was folded together, and in which order. The live pipeline itself is folded by the code that
recovers it, which compares the digest of everything that each slice made with the one that was published: where it does
not fail, its scores, alerts and state are those that were served, bit for bit. Other candidates get the same records
in the same slices, each read once; commands of operators were meant for the live model, and are not for them.

Reads assigned partitions without a group: what is live notices nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from driftline.backtest.candidate import NONE, Candidate
from driftline.backtest.served import Shown, Watched
from driftline.backtest.span import Bounds
from driftline.backtest.start import Start
from driftline.codec.inputs import Lanes
from driftline.codec.journal import CHAIN_START, EpochEntry, SliceEntry
from driftline.codec.keyring import KeyRing
from driftline.core.error import InputLostError, SnapshotError
from driftline.core.fold.future import Judge
from driftline.core.fold.merge import Merge
from driftline.core.output import Output
from driftline.core.pipeline import Pipeline
from driftline.core.place import input_name, input_place, topic_of
from driftline.core.record import Record, Source, Tick
from driftline.engine.fold import Folder, marks_of
from driftline.engine.recovered import Recovered
from driftline.engine.recovery import Recovery
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
    """Candidates that read alike: the records are merged and decoded once for all of them.

    Args:
        number: of the shard.
        names: of its inputs.
    """

    def __init__(self, pipeline: Pipeline, number: int, names: Iterable[str], candidates: Sequence[Candidate]) -> None:
        self.inputs = Lanes(pipeline, number, names)
        self.judge = Judge(pipeline.limits.time_ahead_max_ms, patient=False)  # by what is in hand: much is
        self.merge: Merge[Source] = Merge(self.inputs.decoders, self.judge, self.inputs.controls)
        self.candidates = candidates

    def push(self, name: str, sources: Sequence[Source]) -> None:
        lane = self.inputs.of.get(name)
        if lane is not None and lane >= self.inputs.controls:  # commands were meant for the live model
            self.merge.push(lane, sources)

    def marked(self, ahead: Mapping[str, Sequence[int]]) -> None:
        """A slice begins in which these offsets lay far ahead."""
        latest_ms = self.judge.latest_ms
        marks = marks_of(ahead, self.inputs.of)
        self.judge.begin(None if latest_ms == -inf else int(latest_ms), marks=marks)

    def fold(self, at_end: Sequence[bool]) -> None:
        """Fold what can be taken."""
        self.each([record for _, record in self.merge.take(sys.maxsize, at_end)])

    def each(self, records: Sequence[Record]) -> None:
        for candidate in self.candidates:
            if not candidate.failed:
                candidate.fold(records)


class Panel:
    """The candidates of one shard, and what is called as they advance.

    Args:
        live: the one that is the live pipeline itself, folded as it was live; None folds all alike.
        groups: the others.
        watched: holds all of them against what was served.
        moved: called with what was read so far; false ends the replay.
        shown: what the live pipeline showed, for the others.
    """

    def __init__(
        self,
        live: Candidate | None,
        groups: Sequence[Group],
        watched: Watched,
        moved: Callable[[Read], bool],
        shown: Shown | None = None,
    ) -> None:
        self._shown = shown
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

    async def push(self, found: Mapping[str, Sequence[Source]]) -> None:
        """Give records, by input, to all that are not live."""
        if self._shown is not None:
            await self._shown.reach(found)
        for name, sources in found.items():
            self.read.add(sources)
            for group in self.groups:
                group.push(name, sources)

    def tick(self, tick: Tick) -> None:
        """Let time pass for all that are not live."""
        for group in self.groups:
            group.each([tick])

    def expire(self, shard: int, bounds: Bounds) -> None:
        """End the waits that are over by the end of the topics, where a range was read and nothing behind it."""
        if self.awaits and bounds.over_ms is not None:
            self.tick(Tick(shard, 0, bounds.over_ms))

    def hungry(self, name: str) -> bool:
        """Whether a group has folded all that it was given of an input."""
        return any(not group.merge.waiting(group.inputs.of[name]) for group in self.groups)

    def holds(self, name: str) -> bool:
        """Whether a group has records of an input that it has not folded."""
        return any(group.merge.waiting(group.inputs.of[name]) for group in self.groups)

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
    """One shard in the journaled order.

    With the live pipeline among the candidates it reads whole slices, from the start on, and folds everything for all:
    then all know what it knew. Without, it reads only what lies within the bounds, wherever the slices end.

    Args:
        within: offsets of the events that count, by partition; it ends when their labels have come. None ends with the
            journal.
    """

    def __init__(
        self,
        broker: Broker,
        pipeline: Pipeline,
        shard: int,
        ring: KeyRing,
        *,
        start: Start,
        bounds: Bounds,
        within: Mapping[int, range] | None,
        panel: Panel,
    ) -> None:
        super().__init__(broker, pipeline, shard, ring)
        self._start = start
        self._bounds = bounds
        self._within = within
        self._panel = panel
        self._reached = dict(start.positions)  # next offset by input
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
            what = "the journal, or the input it refers to, has been deleted"
            raise InputLostError(f"shard {self._partition}: {what} ({error.lost})", self._ways()) from error
        except SnapshotError as error:
            what = "the journal does not continue from the snapshot"
            raise InputLostError(f"shard {self._partition}: {what} ({error})", self._ways()) from error
        finally:
            await self._close_inputs()

    async def _begin(self) -> Recovered:
        if self._start.snapshot is None:
            return Recovered(None, None, CHAIN_START, 0, -1, 0, self._progress)
        manifest, frozen = self._start.snapshot
        if self._panel.live is not None:
            state = await self.restore(manifest, frozen)
            if state.folder is not None:
                self._panel.live.served(state.folder.shard)
                self._panel.live.result.steered = state.folder.shard.frozen
            return state
        place = (manifest.chain, manifest.slice_number, manifest.journal_offset)
        return Recovered(None, None, *place, 0, self._progress)

    async def _follow(self, state: Recovered, entry: SliceEntry | EpochEntry) -> None:
        live = self._panel.live
        if isinstance(entry, EpochEntry):
            if live is not None:
                await super()._follow(state, entry)
                if state.folder is not None:
                    live.served(state.folder.shard)
                live.result.steered |= entry.reason not in ("first", "version")
            return
        self._reached.update({name: part.stop for name, part in entry.inputs.items()})
        begun = self._within is None or any(
            self._reached.get(self._events(partition), 0) > counted.start for partition, counted in self._within.items()
        )
        if begun:
            self._panel.begin()
        self._found = {}
        if live is not None:
            await self._serve(state, entry, live)
        else:
            self._found = await self._within_bounds(entry)
        if entry.tick_ms is not None and (begun or live is not None):
            self._panel.tick(Tick(self._partition, entry.number, entry.tick_ms))
        await self._panel.push(self._found)
        for group in self._panel.groups:
            group.marked(entry.ahead or {})
            group.fold([True] * len(group.inputs.names))
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
        live.result.steered |= self._pipeline.topics.control in map(topic_of, entry.inputs)
        live.take(self._outputs, sum(part.count for part in entry.inputs.values()))

    async def _range(self, folder: Folder, entry: SliceEntry) -> Mapping[str, list[Source]]:
        self._found = {name: list(sources) for name, sources in (await super()._range(folder, entry)).items()}
        return self._found

    async def _within_bounds(self, entry: SliceEntry) -> dict[str, list[Source]]:
        """Those records of a slice that were requested."""
        found: dict[str, list[Source]] = {}
        for name, stop in self._bounds.stops.items():
            part = entry.inputs.get(name)
            if part is None or min(stop, part.stop) <= self._start.positions[name]:
                continue
            if self._inputs is None:
                self._inputs = self._broker.reader()
                await self._inputs.open({self.input(one): self._start.positions[one] for one in self._bounds.stops})
            sources: list[Source] = []
            while more := await self._inputs.read(self.input(name), READ_RECORDS_MAX, min(stop, part.stop)):
                sources += more
            found[name] = sources
        return found

    def _events(self, partition: int) -> str:
        """The input that is a partition of the events."""
        return input_name(self._pipeline.topics.events, partition, self._partition)

    def _over(self) -> bool:
        """Whether the events that count were folded, and no label of theirs can come any more."""
        within, reached, stops = self._within, self._reached, self._bounds.stops
        if within is None or any(reached[self._events(at)] < counted.stop for at, counted in within.items()):
            return False
        if self._panel.live is None and all(reached[name] >= stop for name, stop in stops.items()):
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
    """One shard merged by time, as a worker that begins with a backlog would fold it.

    Args:
        events: the topic.
        within: offsets of the events that count, by partition.
        whole: read all up to the bounds; else no more labels than the events that count wait for.
    """

    def __init__(
        self,
        reader: Reader,
        events: str,
        *,
        start: Start,
        bounds: Bounds,
        within: Mapping[int, range] | None,
        whole: bool,
        panel: Panel,
    ) -> None:
        self._reader = reader
        self._events = [name for name in bounds.starts if topic_of(name) == events]
        self._starts = {name: start.positions[name] for name in bounds.starts}
        self._bounds = bounds
        self._within = within or {}
        self._whole = whole
        self._panel = panel

    async def fold(self, shard: int) -> None:
        """Fold everything between start and bounds."""
        stops, panel, events = self._bounds.stops, self._panel, self._events
        names, places = list(stops), {name: input_place(name, shard) for name in stops}
        firsts = {name: self._within.get(places[name].partition, NONE).start for name in events}
        reached = dict(self._starts)
        await self._reader.open({places[name]: start for name, start in self._starts.items()})
        while True:
            ended = {name: reached[name] >= stops[name] for name in names}
            for group in panel.groups:
                group.fold([ended.get(name, True) for name in group.inputs.names])
            if all(reached[name] >= firsts[name] and panel.hungry(name) for name in events):
                panel.begin()
            if not await panel.settle():
                return
            folded = all(ended[name] and not panel.holds(name) for name in events)
            if all(ended.values()) or (folded and not self._whole and not panel.awaits):
                break
            for name in names:
                if ended[name] or not panel.hungry(name):
                    continue
                first = firsts.get(name, 0)
                stop = min(stops[name], first) if reached[name] < first else stops[name]
                sources = await self._reader.read(places[name], READ_RECORDS_MAX, stop)
                reached[name] = sources[-1].offset + 1 if sources else stop
                await panel.push({name: sources})
        panel.expire(shard, self._bounds)
