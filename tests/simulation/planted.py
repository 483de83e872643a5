"""Faults planted in engine and core by hand, one at a time: each must be found, or the simulator is weak.

`python -m tests.simulation.planted` says for each the first seed that finds it. A fault is a context manager that
replaces the right behaviour; what is replaced is named in its first line.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from functools import wraps
from typing import Any
from unittest.mock import patch

from driftline.codec import encode
from driftline.codec.manifest import Part
from driftline.codec.write import Write
from driftline.core.error import CommitUnknownError
from driftline.core.fold import step
from driftline.core.fold.merge import Merge
from driftline.core.guard.rungs import Rungs
from driftline.core.history.keys import Keys, KeySegment
from driftline.core.label.segment import Segment
from driftline.core.pipeline import Pipeline
from driftline.core.place import input_place, output_partition
from driftline.core.record import Event
from driftline.core.shard.state import Shard
from driftline.core.state import freeze
from driftline.core.state.freeze import Frozen
from driftline.engine import recovery
from driftline.engine.fold import Folder
from driftline.engine.live import Live
from driftline.engine.pace import Pacer
from driftline.engine.position import Positioning, Positions
from driftline.engine.recovered import Recovered
from driftline.engine.runner import Runner
from driftline.engine.snapshot import SnapshotWriter
from driftline.transport.port import Place, Publisher
from tests.simulation import planted_guard
from tests.simulation.run import run_seed
from tests.support.cluster import ClusterError, FencedError, RefusedError
from tests.support.memory import MemoryBroker, MemoryPublisher

SEEDS_MAX = 1_000


@contextmanager
def commit_before_publish() -> Iterator[None]:
    """The journal entry is committed first, and the outputs after it."""

    async def commit(self: MemoryPublisher, writes: Sequence[Write], entry: Write | None) -> int:
        offset = await right(self, [], entry) if entry is not None else -1
        await right(self, writes, None)
        return offset

    right = MemoryPublisher.commit
    with patch.object(MemoryPublisher, "commit", commit):
        yield


@contextmanager
def no_fencing() -> Iterator[None]:
    """Each worker writes under a transactional id of its own, so nobody shuts anybody out."""

    def publisher(self: MemoryBroker, partition: int) -> MemoryPublisher:
        made = right(self, partition)
        if made._transactional_id is not None:
            made._transactional_id += f"-{self.client}"
        return made

    right = MemoryBroker.publisher
    with patch.object(MemoryBroker, "publisher", publisher):
        yield


@contextmanager
def seek_to_group_offsets() -> Iterator[None]:
    """A shard goes on reading where the group noted it, not where the journal stands."""

    async def run(self: Live, feed: Any, pacer: Pacer) -> None:
        noted: Mapping[Place, int] = feed._group.noted
        for name, place in zip(self.folder.inputs.names, self.places, strict=True):
            self.folder.positions[name] = noted.get(place, self.folder.positions[name])
        await right(self, feed, pacer)

    right = Live.run
    with patch.object(Live, "run", run):
        yield


@contextmanager
def snapshot_without_positions() -> Iterator[None]:
    """A snapshot keeps the state, and not how far it had read."""

    def take(self: SnapshotWriter, folder: Folder, chain: str, slice_number: int, epoch: int) -> int:
        positions, folder.positions = folder.positions, dict.fromkeys(folder.positions, 0)
        try:
            return right(self, folder, chain, slice_number, epoch)
        finally:
            folder.positions = positions

    right = SnapshotWriter.take
    with patch.object(SnapshotWriter, "take", take):
        yield


@contextmanager
def lost_answer_taken_for_an_abort() -> Iterator[None]:
    """A commit whose answer was lost is made again, as if it had been aborted."""

    async def commit(self: MemoryPublisher, writes: Sequence[Write], entry: Write | None) -> int:
        try:
            return await right(self, writes, entry)
        except CommitUnknownError:
            return await right(self, writes, entry)

    right = MemoryPublisher.commit
    with patch.object(MemoryPublisher, "commit", commit):
        yield


@contextmanager
def commit_sent_twice() -> Iterator[None]:
    """A commit that was not answered is sent again at the same epoch, as aiokafka does by itself."""

    async def request(self: MemoryPublisher, step: Any, effect: Callable[[], Any], place: Place | None = None) -> Any:
        while True:
            try:
                return await right(self, step, effect, place)
            except FencedError:
                raise
            except ClusterError:
                if step != "commit" or self._closed or not self._broker.alive:
                    raise
                await asyncio.sleep(0.005)

    right = MemoryPublisher._request
    with patch.object(MemoryPublisher, "_request", request):
        yield


@contextmanager
def refused_batch_not_awaited() -> Iterator[None]:
    """What the broker says of each batch is not looked at before the commit."""

    async def request(self: MemoryPublisher, step: Any, effect: Callable[[], Any], place: Place | None = None) -> Any:
        try:
            return await right(self, step, effect, place)
        except RefusedError:
            return -1

    right = MemoryPublisher._request
    with patch.object(MemoryPublisher, "_request", request):
        yield


@contextmanager
def snapshot_before_its_slice() -> Iterator[None]:
    """A snapshot is written as soon as it is taken, in a commit ahead of the one of its slice."""

    async def publish(self: Live, prepared: Any) -> None:
        if prepared.snapshot:
            self._snapshots.committed(self.journal_offset + 1)
            await self._publisher.commit(self._snapshots.next_writes(), None)
        await right(self, prepared)

    right = Live._publish
    with patch.object(Live, "_publish", publish):
        yield


@contextmanager
def tick_not_journaled() -> Iterator[None]:
    """What a tick makes is published without a journal entry."""

    def prepare(self: Live, folded: Any) -> Any:
        if folded.tick_ms is None:
            return right(self, folded)
        number, chain = self.slice_number, self._chain
        prepared = right(self, folded)
        self.slice_number, self._chain = number, chain
        return prepared

    async def publish(self: Live, prepared: Any) -> None:
        if prepared.folded.tick_ms is None:
            await right_publish(self, prepared)
            return
        await self._publisher.commit(prepared.folded.messages, None)

    right, right_publish = Live._prepare, Live._publish
    with patch.object(Live, "_prepare", prepare), patch.object(Live, "_publish", publish):
        yield


@contextmanager
def memory_kept_after_a_takeover() -> Iterator[None]:
    """A shard that comes back goes on from memory under a new publisher, though another worker had it meanwhile."""

    async def memory_holds(self: Runner) -> bool:
        if self._live is None:
            return False
        if not await right(self):
            publisher: Publisher = self._broker.publisher(self.number)
            await publisher.open()
            self._publisher = self._live._publisher = publisher
        return True

    right = Runner._memory_holds
    with patch.object(Runner, "_memory_holds", memory_holds):
        yield


def _when_read_back(change: Callable[[Shard], None]) -> Callable[[], AbstractContextManager[None]]:
    """A fault: every state that is read back is changed before it is used."""

    def fault() -> Iterator[None]:
        def loading(pipeline: Pipeline, partition: int, frozen: Frozen) -> Generator[None, None, Shard]:
            shard = yield from right(pipeline, partition, frozen)
            change(shard)
            return shard

        right = freeze.loading
        with patch.object(recovery, "loading", loading):
            yield

    return contextmanager(wraps(change)(fault))


@_when_read_back
def dedupe_forgotten_at_recovery(shard: Shard) -> None:
    """A state that is read back remembers no event ids."""
    shard.pending._forget_before(2**62)
    shard.pending._remembered_floor = 0


@_when_read_back
def series_forgotten_at_recovery(shard: Shard) -> None:
    """A state that is read back remembers no last values for the guard."""
    shard.kept.series.clear()


@contextmanager
def fallback_not_held_to_the_limits() -> Iterator[None]:
    """The first fallback that has a value is served, whatever the value."""
    with patch.object(Rungs, "allows", lambda self: True):
        yield


@_when_read_back
def untrained_forgotten_at_recovery(shard: Shard) -> None:
    """A state that is read back takes every label for one that the model which serves has learned."""
    shard.learner.began = 0


@_when_read_back
def budget_forgotten_at_recovery(shard: Shard) -> None:
    """A state that is read back has used nothing of the budget of alarms."""
    shard.budget.used = 0


@_when_read_back
def held_forgotten_at_recovery(shard: Shard) -> None:
    """A state that is read back holds no predictions that wait for a person."""
    shard.kept.held.clear()


@contextmanager
def fates_not_written_again() -> Iterator[None]:
    """A snapshot keeps a full segment as the one before did, though labels came meanwhile."""

    def row(self: SnapshotWriter, segment: Segment, view: int) -> Any:
        if segment.full and (kept := self._written.rows[self.slot].get(segment.number)) is not None:
            segment.release()
            return kept[0], []
        return right(self, segment, view)

    right = SnapshotWriter._row
    with patch.object(SnapshotWriter, "_row", row):
        yield


@contextmanager
def received_into_the_slice() -> Iterator[None]:
    """Records that arrive while a slice is folded are merged into it, behind what it has taken already."""

    def receive(self: Folder, name: str, sources: Sequence[Any]) -> int:
        folding, self._folding = self._folding, False
        try:
            return right(self, name, sources)
        finally:
            self._folding = folding

    right = Folder.receive
    with patch.object(Folder, "receive", receive):
        yield


@contextmanager
def removal_of_what_is_needed() -> Iterator[None]:
    """A snapshot removes the first part that it needs."""

    def removals(self: SnapshotWriter, slot: int, needed: set[Part], chunks: int) -> Iterator[Write]:
        yield from right(self, slot, needed, chunks)
        for part in sorted(needed, key=lambda part: part.digest)[:1]:
            yield self._write(part.keys(slot)[0], None)

    right = SnapshotWriter._removals
    with patch.object(SnapshotWriter, "_removals", removals):
        yield


# -- shards of many partitions, and what the past knows


@contextmanager
def added_partition_read_from_its_end() -> Iterator[None]:
    """A partition that was added is read from where it ends when it is seen, not from its beginning."""

    async def find(self: Positioning, recovered: Recovered) -> Positions:
        positions = await right(self, recovered)
        offsets = positions.offsets
        added = {name: input_place(name, self.number) for name in offsets if name not in recovered.positions}
        if recovered.positions and added:
            ends = await self.broker.ends(added.values())
            offsets.update({name: ends[place] for name, place in added.items()})
        return positions

    right = Positioning.find
    with patch.object(Positioning, "find", find):
        yield


@contextmanager
def outputs_in_another_shards_partition() -> Iterator[None]:
    """What a shard makes goes to the partition beside the one that is its own."""

    def partition(of: int, shard: int, shards: int, count: int) -> int:
        return (output_partition(of, shard, shards, count) + 1) % count

    with patch.object(encode, "output_partition", partition):
        yield


@contextmanager
def ties_broken_by_arrival() -> Iterator[None]:
    """Of records with the same time, that of the input that was fetched first goes first."""

    def push(self: Merge[Any], lane: int, unread: Sequence[Any]) -> None:
        came = self.__dict__.setdefault("_came", [])
        if lane not in came or not self.waiting(lane):
            self.__dict__["_came"] = [*(one for one in came if one != lane), lane]
        right_push(self, lane, unread)

    def time_of(self: Merge[Any], lane: int, at_end: bool) -> float:
        came = self.__dict__.get("_came", [])
        return right_time(self, lane, at_end) + (came.index(lane) / 1024 if lane in came else 0)

    right_push, right_time = Merge.push, Merge._time
    with patch.object(Merge, "push", push), patch.object(Merge, "_time", time_of):
        yield


@contextmanager
def label_known_before_it_joined() -> Iterator[None]:
    """A label that came before its event is past when that event is scored."""

    def event(shard: Shard, record: Event, out: Any) -> None:
        found = shard.early.look(record.event_id)
        if found.label is not None and shard.terms.label_history:
            shard.history.complete(record, shard.now_ms)
            shard.history.label(shard.history.label_keys, found.label, shard.now_ms, shard.now_ms)
        right(shard, record, out)

    right = step._event
    with patch.object(step, "_event", event):
        yield


@contextmanager
def evicted_key_comes_back_with_its_past() -> Iterator[None]:
    """What was kept of a key before it was evicted is found again."""

    def keep(self: Keys, key: bytes, past: Any) -> None:
        self.__dict__.setdefault("_ever", {})[key] = deepcopy(past)
        right_keep(self, key, past)

    def find(self: Keys, key: bytes) -> Any:
        return right_find(self, key) or deepcopy(self.__dict__.get("_ever", {}).get(key))

    right_keep, right_find = Keys.keep, Keys.find
    with patch.object(Keys, "keep", keep), patch.object(Keys, "find", find):
        yield


@contextmanager
def keys_that_left_still_in_the_snapshot() -> Iterator[None]:
    """A snapshot keeps a full segment of a history as the one before did, though keys have left it meanwhile."""

    def row(self: SnapshotWriter, segment: Any, view: int) -> Any:
        kept = self._written.rows[self.slot].get(segment.number)
        if isinstance(segment, KeySegment) and segment.full and kept is not None:
            segment.release()
            return kept[0], []
        return right(self, segment, view)

    right = SnapshotWriter._row
    with patch.object(SnapshotWriter, "_row", row):
        yield


@_when_read_back
def decisions_forgotten_at_recovery(shard: Shard) -> None:
    """A state that is read back does not know what people decided about predictions whose label is still to come."""
    shard.kept.decided.clear()


@contextmanager
def commands_carried_out_again_after_a_restart() -> Iterator[None]:
    """A shard that comes back reads the last record of the control topic once more."""

    async def find(self: Positioning, recovered: Recovered) -> Positions:
        positions = await right(self, recovered)
        for name in [one for one in recovered.positions if "control" in one]:
            positions.offsets[name] = max(0, positions.offsets[name] - 1)
        return positions

    right = Positioning.find
    with patch.object(Positioning, "find", find):
        yield


FAULTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    fault.__name__: fault
    for fault in (
        commit_before_publish,
        no_fencing,
        seek_to_group_offsets,
        snapshot_without_positions,
        lost_answer_taken_for_an_abort,
        commit_sent_twice,
        refused_batch_not_awaited,
        snapshot_before_its_slice,
        tick_not_journaled,
        memory_kept_after_a_takeover,
        dedupe_forgotten_at_recovery,
        series_forgotten_at_recovery,
        fallback_not_held_to_the_limits,
        untrained_forgotten_at_recovery,
        held_forgotten_at_recovery,
        budget_forgotten_at_recovery,
        fates_not_written_again,
        removal_of_what_is_needed,
        received_into_the_slice,
        added_partition_read_from_its_end,
        outputs_in_another_shards_partition,
        ties_broken_by_arrival,
        label_known_before_it_joined,
        evicted_key_comes_back_with_its_past,
        keys_that_left_still_in_the_snapshot,
        decisions_forgotten_at_recovery,
        commands_carried_out_again_after_a_restart,
        *planted_guard.FAULTS,
    )
}

# The first seed that finds each, of those that `draw` makes today; `make sim-planted` looks for them again.
FOUND_BY = {
    "series_forgotten_at_recovery": 5,
    "fallback_not_held_to_the_limits": 12,
    "untrained_forgotten_at_recovery": 7,
    "held_forgotten_at_recovery": 66,
    "budget_forgotten_at_recovery": 37,
    "commit_before_publish": 10,
    "no_fencing": 28,
    "seek_to_group_offsets": 3,
    "snapshot_without_positions": 0,
    "lost_answer_taken_for_an_abort": 8,
    "commit_sent_twice": 20,
    "refused_batch_not_awaited": 7,
    "snapshot_before_its_slice": 0,
    "tick_not_journaled": 0,
    "memory_kept_after_a_takeover": 346,
    "dedupe_forgotten_at_recovery": 4,
    "fates_not_written_again": 0,
    "removal_of_what_is_needed": 0,
    "received_into_the_slice": 44,
    "added_partition_read_from_its_end": 4,
    "outputs_in_another_shards_partition": 6,
    "ties_broken_by_arrival": 22,
    "label_known_before_it_joined": 5,
    "evicted_key_comes_back_with_its_past": 1,
    "keys_that_left_still_in_the_snapshot": 17,
    "decisions_forgotten_at_recovery": 79,
    "commands_carried_out_again_after_a_restart": 4,
    "released_pair_learned_twice": 33,
    "dropped_pair_learned": 28,
    "corrected_label_still_held": 64,
    "learned_while_an_alert_stops_it": 72,
    "corrected_label_counted_twice_by_the_kpi": 1,
    "clipped_forecast_unclipped_at_the_last_horizon": 69,
    "correction_not_taken_back_from_the_past": 12,
    "second_model_learns_while_learning_is_frozen": 47,
    "second_model_forgotten_at_recovery": 92,
}


def first_found(fault: Callable[[], AbstractContextManager[None]], seeds: Sequence[int]) -> tuple[int, str] | None:
    """The first of these seeds that finds a fault, and what it says; None if none does."""
    with fault():
        for seed in seeds:
            violations = run_seed(seed).violations
            if violations:
                return seed, violations[0]
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Plant one fault after the other, and say which seed finds it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="how many to try for each")
    parser.add_argument("faults", nargs="*", help="names; all without")
    chosen = parser.parse_args(arguments)
    missed = 0
    for name, fault in FAULTS.items():
        if chosen.faults and name not in chosen.faults:
            continue
        started_s = time.monotonic()
        found = first_found(fault, range(chosen.seeds))
        missed += found is None
        took_s = time.monotonic() - started_s
        what = f"seed {found[0]}" if found else f"not in {chosen.seeds} seeds"
        print(f"{name:38} {what:>18}  {took_s:6.1f} s  {found[1][:90] if found else ''}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
