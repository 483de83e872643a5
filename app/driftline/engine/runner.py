"""One shard on this worker, from its assignment until it is taken away: recover, live, and recover again when needed.

A commit whose fate is unknown throws away the publisher and the memory. A new publisher is opened first, which ends
what was open, and only then is the journal read: so whatever happened to that commit, recovery learns it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from driftline.codec.inputs import Inputs
from driftline.codec.journal import EpochEntry, Link, encode_link, link
from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.codec.seal import seal
from driftline.codec.write import Write
from driftline.core.error import (
    BrokerError,
    CommitUnknownError,
    ForeignWriterError,
    InputLostError,
    InputReplacedError,
    InvariantError,
    StateUnreadableError,
    UnreachableError,
    UnsignedStateError,
)
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout, input_name, input_place, topic_of
from driftline.core.record import Source
from driftline.core.timestamp import parse_time
from driftline.engine.epoch import enter_epoch, next_epoch
from driftline.engine.fold import Folder
from driftline.engine.gap import Gap
from driftline.engine.live import Live, Tip
from driftline.engine.outage import Outage
from driftline.engine.pace import Pacer
from driftline.engine.patience import PATIENCE_S
from driftline.engine.recovery import Progress, Recovered, Recovery
from driftline.engine.sameness import (
    Identities,
    check_inputs,
    check_partitions,
    check_shards,
    outputs,
    replaced,
    watched,
)
from driftline.engine.snapshot import SnapshotWriter
from driftline.engine.tally import Tally
from driftline.engine.trust import Unsigned, name_of
from driftline.transport.clock import REAL, Clock
from driftline.transport.port import Broker, Feed, Place, Publisher

log = logging.getLogger(__name__)

BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
REPEAT_S = 300.0


@dataclass(frozen=True)
class Start:
    """What the user asked for when the worker was started.

    Args:
        reset_state: begin with a fresh state where the inputs stand.
        gap_continue: go on where input was lost.
        ring: keys of the deployment.
        patience_s: see `engine.patience`.
        unsigned: what becomes of a state that they did not sign; for one start.
        unsigned_models: without keys, take models over the control topic all the same.
    """

    reset_state: bool = False
    gap_continue: bool = False
    ring: KeyRing = NO_KEYS
    patience_s: float = PATIENCE_S
    unsigned: Unsigned = "refuse"
    unsigned_models: bool = False


class Runner:
    """The life of one shard on this worker.

    Args:
        pipeline: with the number of its shards.
        number: of this one.

    Attributes:
        ready: recovered, and folding live.
        inputs: that its last recovery found; the feed must read them.
        tally: what it counted.
    """

    def __init__(
        self,
        broker: Broker,
        feed: Feed,
        pipeline: Pipeline,
        number: int,
        pacer: Pacer,
        start: Start,
        outage: Outage,
        clock: Clock = REAL,
    ) -> None:
        self.number = number
        self.ready = False
        self.inputs: Sequence[Place] = ()
        self.tally = Tally(pipeline.topics.events, clock, number)
        self._broker = broker
        self._feed = feed
        self._pipeline = pipeline
        self._pacer = pacer
        self._start = start
        self._clock = clock
        self._reset = start.reset_state
        self._behind_gap: Recovered | None = None  # the last state that could be derived, where input was lost
        self._shards = pipeline.shards or 1
        self._outputs: dict[str, int] = {}  # partitions of each, as they are
        self._widening = False  # inputs were added, which a new epoch is to take up
        self._publisher: Publisher | None = None
        self._live: Live | None = None
        self._work: asyncio.Task[None] | None = None
        self._free = asyncio.Event()  # cleared while a rebalance is on
        self._free.set()
        self._stopping = asyncio.Event()
        self._clean = False
        self._folding: Live | None = None  # while it runs
        self._leaving = False  # the last snapshot is being written
        self._failures = 0
        self._outage = outage
        self._topics: Identities = {}  # inputs and journal, as they are
        self._logged: str | None = None
        self._logged_s = 0.0

    @property
    def reset_due(self) -> bool:
        """Whether the fresh state that was requested has not begun yet."""
        return self._reset

    @property
    def trouble(self) -> str | None:
        """What made it recover again, on a line; None where nothing did, or only that Kafka is unavailable."""
        return None if self._logged is None else self._logged.partition("\n")[0][:300]

    @property
    def live(self) -> Live | None:
        """The shard in memory, once recovered."""
        return self._live

    def receive(self, place: Place, sources: Sequence[Source]) -> None:
        """Records of one input, as they came."""
        if self.ready and self._live is not None:
            self._live.receive(self._feed, place, sources)

    def wake(self) -> None:
        """Look again: an input may have come to its end."""
        if self._live is not None:
            self._live.wake()

    def committed(self) -> Mapping[Place, int]:
        """Next offsets as the journal has them."""
        if self._live is None:
            return {}
        committed = self._live.committed
        return {place: committed[input_name(*place, self.number)] for place in self._live.places}

    @property
    def places(self) -> Sequence[Place]:
        """The inputs that it reads; none before it is recovered."""
        return self._live.places if self._live is not None else ()

    def widen(self) -> None:
        """Inputs were added: stop at a slice's edge, and go on with them, behind a new epoch."""
        self._widening = True
        if self._folding is not None:
            self._folding.halt()

    async def run(self) -> None:
        """Until stopped. Raises what recovering again would not fix."""
        try:
            while not self._stopping.is_set():
                await self._free.wait()
                if self._stopping.is_set():
                    break
                self._work = asyncio.create_task(self._widen() if self._widening else self._recover_and_live())
                await asyncio.wait({self._work})
                if self._work.cancelled():
                    if self._live is None:  # else only the look whether memory holds was broken off
                        await self._forget()
                    continue
                error = self._work.exception()
                if isinstance(error, CommitUnknownError | BrokerError):
                    self._complain(error)
                    await self._forget()
                    await self._back_off()
                elif error is not None:
                    raise error
            if self._live is not None and self._clean:
                self._work = asyncio.create_task(self._leave_snapshot(self._live))
                await asyncio.wait({self._work})
        finally:
            self.ready = False
            if self._work is not None:
                self._work.cancel()
            await self._forget()

    async def hold(self) -> None:
        """A rebalance begins: fold nothing more, and wait until nothing is under way.

        A recovery is broken off: after this, another worker may own the shard, and must not be fenced by us.
        """
        self._free.clear()
        self.ready = False
        work = self._work
        if work is None or work.done():
            return
        if self._folding is not None:  # also when it was halted before, and settles its last commit now
            self._folding.halt()
        elif not self._leaving:
            work.cancel()
        await asyncio.wait({work})

    def release(self) -> None:
        """The rebalance gave the shard back."""
        self._free.set()

    async def stop(self, *, clean: bool) -> None:
        """Fold nothing more. `run` then lets go and returns, after a clean stop with a snapshot left."""
        self._clean = clean
        self._stopping.set()  # first: a rebalance that gives the shard back in the meantime must not start it again
        await self.hold()
        self._free.set()

    async def _widen(self) -> None:
        """Leave what was folded to a recovery, which takes up the inputs that were added."""
        self._widening = False
        if self._live is not None:
            await self._leave_snapshot(self._live)
            await self._forget()

    async def _leave_snapshot(self, live: Live) -> None:
        self._leaving = True
        try:
            wrote = await live.close()
            left = "snapshot written" if wrote else "nothing new for a snapshot"
            log.info("shard %d: stopped at slice %d, %s", self.number, live.slice_number, left)
        except CommitUnknownError as error:
            log.warning("shard %d: no final snapshot: %s", self.number, error)
        finally:
            self._leaving = False

    async def _recover_and_live(self) -> None:
        if await self._memory_holds():
            log.info("shard %d: state kept: no other worker wrote to its journal", self.number)
            if self._live is not None and self._pipeline.delivery == "at_least_once":
                self._live.distrust()  # elsewhere our next commit would fail if anybody had owned the shard
        else:
            await self._forget()
            await self._recover()
        live = self._live
        if live is None or not self._free.is_set():
            return  # a rebalance is on; whether memory holds is asked again after it
        recovered_to = live.journal_offset
        self.ready, self._folding = True, live
        try:
            await live.run(self._feed, self._pacer)
        finally:
            self.ready, self._folding = False, None
            if live.journal_offset > recovered_to:  # else a slice that can never be committed is tried at once again
                self._failures, self._logged = 0, None

    async def _memory_holds(self) -> bool:
        """Whether the shard comes straight back from a rebalance: no one wrote to the journal in the meantime.

        Someone may have fenced us without writing; our next commit learns that, and lands nowhere.
        """
        if self._live is None:
            return False
        journal = Place(self._pipeline.topics.journal, self.number)
        reader = self._broker.reader()
        try:
            await reader.open({journal: self._live.journal_offset + 1})
            return not await reader.read(journal, 1)
        finally:
            await reader.close()

    async def _recover(self) -> None:
        started_s = self._clock.now_s()
        for place in self._there(self._feed.counts()):
            self._feed.pause(place)  # until `Live.run` begins where the journal stands
        self._publisher = publisher = self._broker.publisher(self.number)
        await publisher.open()
        found = await self._feed.identities([*watched(self._pipeline), *outputs(self._pipeline)])
        self._topics = {topic: found[topic] for topic in watched(self._pipeline) if topic in found}
        self._outputs = {topic: found[topic].partitions for topic in outputs(self._pipeline) if topic in found}
        recovered = await self._derive()
        self._live = await self._go_on(publisher, recovered)
        elapsed_s = self._clock.now_s() - started_s
        self.tally.recovered(elapsed_s)
        progress = recovered.progress
        log.info(
            "shard %d: recovered in %.2f s (of which the snapshot took %.2f): %d slices, %d records replayed; "
            "digests: 0 different, %d not verifiable here",
            self.number,
            elapsed_s,
            progress.snapshot_s,
            progress.slices,
            progress.records,
            progress.unverifiable,
        )

    async def _derive(self) -> Recovered:
        """The state from snapshot and journal; nothing but the journal's end where a fresh one was requested."""
        while not self._reset:
            recovery = self._recovery()
            try:
                return await recovery.run()
            except InputLostError as error:
                if await recovery.outrun():
                    log.info("shard %d: its former owner has finished a snapshot: recovering from it", self.number)
                    continue
                if isinstance(error, StateUnreadableError) or not self._start.gap_continue:
                    raise
                return await self._past(error, recovery)
        return await self._recovery().follow()

    async def _past(self, error: InputLostError, recovery: Recovery) -> Recovered:
        """The state as far as it could be derived, or none; and the journal's end."""
        kept = recovery.reached
        if kept is not None and kept.folder is not None and kept.slice_number:
            text = f"continues from the state after slice {kept.slice_number}"
            self._behind_gap = kept
        else:
            text, self._reset = "continues with a fresh state", True
        log.warning("shard %d: %s: %s", self.number, text, error)
        state = await self._recovery().follow()
        recovery.check_journal(state)
        return state

    def _recovery(self) -> Recovery:
        ring = self._start.ring
        recovery = Recovery(
            self._broker, self._pipeline, self.number, ring, self._report, self._clock, self._start.unsigned
        )
        recovery.now = self._topics
        return recovery

    def _report(self, progress: Progress) -> None:
        self.tally.recovering(progress.slices, progress.records, progress.unverifiable)

    async def _go_on(self, publisher: Publisher, recovered: Recovered) -> Live:
        """The shard as it goes on: in the journal's epoch, or in a new one written now."""
        positions, gap = await self._starting_positions(recovered)
        several = any(name != topic_of(name) for name in positions)
        if not several:
            self._outputs = {}
        before = recovered.folder.positions if recovered.folder is not None else recovered.positions
        entry = next_epoch(
            recovered.epoch,
            self._pipeline,
            positions,
            recovered.slice_number,
            reset=self._reset,
            gap=gap,
            key=not recovered.current,
            now_ms=int(self._clock.wall_s() * 1000),
            topics=self._topics,
            outputs=self._outputs,
            added=recovered.epoch is not None and not positions.keys() <= before.keys(),
        )
        snapshots = SnapshotWriter(
            self._pipeline,
            self.number,
            recovered.slot,
            self._start.ring,
            # What was replayed counts, or a shard that often recovers would fold ever more.
            records=max(recovered.progress.records, recovered.progress.slices),
            shelf=recovered.shelf,
            clock=self._clock,
            topics=self._topics,
        )
        if not recovered.current:
            await self._sign(publisher, recovered, snapshots)
        elif gap and recovered.folder is not None:
            await self._leave_behind(publisher, recovered, snapshots)
        chain, offset = recovered.chain, recovered.journal_offset
        folder, epoch = recovered.folder, recovered.epoch
        if self._behind_gap is not None:
            topics, outputs_now = self._topics, self._outputs
            gap_at = Gap(self._broker, publisher, self._pipeline, self.number, self._start.ring, topics, outputs_now)
            taken_ms = int(self._clock.wall_s() * 1000)
            folder, epoch, chain, offset = await gap_at.pass_over(self._behind_gap, recovered, positions, taken_ms)
            self._behind_gap = None
            log.info("shard %d: epoch %d opened (gap): the model was kept", self.number, epoch.number)
        elif entry is not None:
            shard = enter_epoch(entry, folder.shard if folder is not None else None, self.number, self._pipeline)
            folder, epoch = Folder(shard, positions, counts=self._outputs or None), entry
            linked = link(entry, chain)
            chain, offset = linked.chain, await self._open_epoch(publisher, linked, offset)
            if recovered.epoch is not None:
                self._say_start(recovered.epoch)
            log.info("shard %d: epoch %d opened (%s)", self.number, entry.number, entry.reason)
        self._reset = False
        if folder is None or epoch is None:
            raise InvariantError("an empty journal gave no first epoch")
        return Live(
            self._pipeline,
            folder,
            epoch,
            publisher,
            snapshots,
            self.tally,
            Tip(chain, recovered.slice_number, offset),
            clock=self._clock,
            unsigned_models=self._start.unsigned_models,
            patience_s=self._start.patience_s,
        )

    async def _open_epoch(self, publisher: Publisher, linked: Link, before: int) -> int:
        """Write the entry of an epoch behind the journal's last record, at offset `before`; returns its own."""
        place = Place(self._pipeline.topics.journal, self.number)
        value = seal(encode_link(linked), name_of(place), self._start.ring)
        offset = await publisher.commit([], Write(place.topic, place.partition, b"%d" % self.number, value))
        if self._pipeline.delivery == "at_least_once" and offset != before + 1:
            raise ForeignWriterError(
                f"the epoch's entry got offset {offset}, not {before + 1}: another worker wrote to this shard's "
                "journal in the meantime; recovering"
            )
        return offset

    async def _sign(self, publisher: Publisher, recovered: Recovered, snapshots: SnapshotWriter) -> None:
        """Leave a snapshot that the first key signs, before an epoch is opened that it seals.

        From then on what was there before is not needed any more: neither its inputs nor the key that signed it.

        Raises:
            UnsignedStateError: it was signed, and this worker has no key.
        """
        if not self._start.ring and self._start.unsigned != "trust":
            raise UnsignedStateError(
                f"the journal of shard {self.number} is signed, but this worker has no key: set "
                "DRIFTLINE_SNAPSHOT_KEY. To go on without signatures, start once with --unsigned-state trust"
            )
        await self._leave_behind(publisher, recovered, snapshots)
        signed = "signs with another key from now on" if self._start.ring else "no longer signs"
        log.info("shard %d: %s; the state is kept", self.number, signed)

    async def _leave_behind(self, publisher: Publisher, recovered: Recovered, snapshots: SnapshotWriter) -> None:
        """Leave a snapshot of what was recovered, so that nothing before it is needed any more."""
        if recovered.folder is None:
            return
        epoch = recovered.epoch.number if recovered.epoch is not None else 1
        snapshots.take(recovered.folder, recovered.chain, recovered.slice_number, epoch)
        snapshots.committed(recovered.entry_offset)
        while snapshots.writing:
            await publisher.commit(snapshots.next_writes(), None)

    def _begin_anew(self, recovered: Recovered) -> set[str]:
        """Topics that are read from their beginning, as they were recreated.

        Raises:
            InputReplacedError, PartitionsChangedError: and the user was not asked.
        """
        epoch = recovered.epoch
        known = epoch.topics or {} if epoch is not None else {}
        inputs = Inputs(self._pipeline).topics
        if any(name != topic_of(name) for name in recovered.positions):  # others would read again what this one has
            check_shards(self._shards_before(recovered), self._shards, self._pipeline)
        if not self._start.gap_continue and not self._reset:
            check_inputs(known, self._topics, inputs)
            if self._pipeline.label is not None and (self._shards > 1 or self._shards_before(recovered) != 1):
                check_partitions(known, self._topics, inputs)
            check_shards(self._shards_before(recovered), self._shards, self._pipeline)
        return set(replaced(known, self._topics, inputs))

    def _shards_before(self, recovered: Recovered) -> int | None:
        """How many the pipeline had when this one last worked; None where that is not known."""
        epoch = recovered.epoch
        if epoch is None:
            return None
        if isinstance(shards := epoch.pipeline.get("shards"), int):
            return shards
        journal = (epoch.topics or {}).get(self._pipeline.topics.journal)
        return journal.partitions if journal is not None else None

    def _there(self, counts: Mapping[str, int]) -> list[Place]:
        """The inputs that would be this shard's, by the partitions of the topics."""
        return Layout(self._shards, counts).places(Inputs(self._pipeline).topics, self.number)

    def _inputs(self, recovered: Recovered, anew: set[str]) -> list[Place]:
        """The inputs of this shard: those that its journal has, and such as were added.

        Those are taken up where there is one shard. Of several, an added partition changes where keys lie, and so which
        shard an event and its label belong to: that is for the user to decide (`transport.obstacle` reports it).

        Raises:
            InputReplacedError: the journal has one that is not there any more.
        """
        counts = {topic: identity.partitions for topic, identity in self._topics.items()}
        there = self._there(counts)
        known = [input_place(name, self.number) for name in recovered.positions]
        known = [place for place in known if place.topic not in anew and place.topic in Inputs(self._pipeline).rank]
        for place in known:
            if place.partition >= counts.get(place.topic, place.partition + 1):
                raise InputReplacedError(
                    f"{place.topic} has {counts[place.topic]} partitions, and the shard has read partition "
                    f"{place.partition}: the topic was deleted and created again",
                    "Give the pipeline a new name, or start once with --reset-state",
                )
        if not known or self._shards == 1 or self._start.gap_continue:
            found = {*there, *known}
        else:
            begun = {place.topic for place in known}  # all inputs, in a journal of ours
            found = {*known, *(place for place in there if place.topic in anew or place.topic not in begun)}
        rank = Inputs(self._pipeline).rank
        return sorted(found, key=lambda place: (rank[place.topic], place.partition))

    async def _starting_positions(self, recovered: Recovered) -> tuple[dict[str, int], bool]:
        """Where the inputs go on, and whether records before that were lost."""
        anew = self._begin_anew(recovered)
        self.inputs = self._inputs(recovered, anew)
        places = {input_name(*place, self.number): place for place in self.inputs}
        kept = recovered.positions.items()
        positions = {name: offset for name, offset in kept if name in places and topic_of(name) not in anew}
        kept_from = await self._broker.beginnings(places.values())
        ends = await self._broker.ends(places.values(), readable=False)
        if not recovered.positions:
            positions = await self._first_positions(places)
        gap = bool(anew)
        for name, place in places.items():
            first = kept_from[place]
            position = positions.setdefault(name, first)
            if position > ends[place]:  # the only clue where a broker gives no ids
                if not self._start.gap_continue:
                    raise InputReplacedError(
                        f"{place.topic}-{place.partition} ends at offset {ends[place]}, but the shard has read up to "
                        f"{position}: records were lost, or the topic was deleted and recreated",
                        "To read it from its beginning, start once with --on-gap continue",
                    )
                positions[name], gap = first, True
            if position < first:
                if not self._start.gap_continue:
                    raise InputLostError(
                        f"{place.topic}-{place.partition} starts at offset {first}, but the shard has read only up to "
                        f"{position}: unread records were deleted"
                    )
                positions[name], gap = first, True
        return positions, gap

    def _say_start(self, before: EpochEntry) -> None:
        """That a `start` which came or changed later does nothing."""
        if before.pipeline.get("start", "earliest") != self._pipeline.start:
            log.warning(
                "shard %d: `start: %s` has no effect: %s has run before and continues from its journal. Give the "
                "pipeline a new name to start over",
                self.number,
                self._pipeline.start,
                self._pipeline.name,
            )

    async def _first_positions(self, inputs: Mapping[str, Place]) -> dict[str, int]:
        """Where a new pipeline begins; commands count from the first."""
        start, control = self._pipeline.start, self._pipeline.topics.control
        if start == "earliest":
            return {}
        places = {name: place for name, place in inputs.items() if place.topic != control}
        if start == "latest":
            found = await self._broker.ends(places.values())
        else:
            found = await self._broker.offsets_at(places.values(), parse_time(start))
        text = ", ".join(f"{name} at offset {found[place]}" for name, place in places.items())
        log.info("shard %d: starting at `start: %s`: %s", self.number, start, text)
        return {name: found[place] for name, place in places.items()}

    async def _forget(self) -> None:
        """Drop the memory and the publisher."""
        self._live = None
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            await publisher.close()

    def _complain(self, error: CommitUnknownError | BrokerError) -> None:
        """Log what went wrong: once, and again if it lasts. That Kafka is unavailable is logged for all shards at
        once."""
        self.tally.failed()
        if isinstance(error, UnreachableError) and (self._outage.on or not self._failures):
            return
        text, now_s = str(error), self._clock.now_s()
        if text == self._logged and now_s - self._logged_s < REPEAT_S:
            return
        self._logged, self._logged_s = text, now_s
        log.warning("shard %d: %s", self.number, text)

    async def _back_off(self) -> None:
        delay_s = BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)]
        self._failures += 1
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()
