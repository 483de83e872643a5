"""From what was recovered to a shard that goes on: in the journal's epoch, or in a new one that is written now."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from driftline.codec.journal import EpochEntry, Link, encode_link, link
from driftline.codec.seal import seal
from driftline.codec.write import Write
from driftline.core.error import ForeignWriterError, InvariantError, UnsignedStateError
from driftline.core.pipeline import Pipeline
from driftline.engine.epoch import enter_epoch, next_epoch
from driftline.engine.fold import Folder
from driftline.engine.gap import Gap
from driftline.engine.live import Live, Tip
from driftline.engine.position import Positions
from driftline.engine.recovered import Recovered
from driftline.engine.sameness import Identities
from driftline.engine.snapshot import SnapshotWriter
from driftline.engine.start import Start
from driftline.engine.tally import Tally
from driftline.engine.trust import name_of
from driftline.transport.clock import Clock
from driftline.transport.port import Broker, Place, Publisher

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opening:
    """Opens one shard behind its journal.

    Args:
        publisher: of the shard, opened before its journal was read.
        topics: inputs and journal, as they are.
        outputs: partitions of each; empty where the journal need not name them.
        reset: a fresh state begins.
        behind_gap: the last state that could be derived, where input was lost and the state is kept.
    """

    broker: Broker
    publisher: Publisher
    pipeline: Pipeline
    number: int
    start: Start
    tally: Tally
    clock: Clock
    topics: Identities
    outputs: dict[str, int]
    reset: bool
    behind_gap: Recovered | None

    async def open(self, recovered: Recovered, positions: Positions) -> Live:
        """The shard, ready to fold.

        Raises:
            CommitUnknownError: what was to be written first is not known to be there.
            ForeignWriterError: another worker wrote to the journal in the meantime.
            UnsignedStateError: the state was signed, and this worker has no key.
        """
        snapshots = SnapshotWriter(
            self.pipeline,
            self.number,
            recovered.slot,
            self.start.ring,
            # What was replayed counts, or a shard that often recovers would fold ever more.
            records=max(recovered.progress.records, recovered.progress.slices),
            shelf=recovered.shelf,
            clock=self.clock,
            topics=self.topics,
        )
        if not recovered.current:
            await self._sign(recovered, snapshots)
        elif positions.gap and recovered.folder is not None:
            await self._leave_behind(recovered, snapshots)
        folder, epoch, chain, offset = await self._epoch(recovered, positions)
        return Live(
            self.pipeline,
            folder,
            epoch,
            self.publisher,
            snapshots,
            self.tally,
            Tip(chain, recovered.slice_number, offset),
            clock=self.clock,
            unsigned_models=self.start.unsigned_models,
            patience_s=self.start.patience_s,
        )

    async def _epoch(self, recovered: Recovered, positions: Positions) -> tuple[Folder, EpochEntry, str, int]:
        """The shard at work, its epoch, and the chain and offset of the journal's last entry."""
        before = recovered.folder.positions if recovered.folder is not None else recovered.positions
        entry = next_epoch(
            recovered.epoch,
            self.pipeline,
            positions.offsets,
            recovered.slice_number,
            reset=self.reset,
            gap=positions.gap,
            key=not recovered.current,
            now_ms=self._now_ms(),
            topics=self.topics,
            outputs=self.outputs,
            added=recovered.epoch is not None and not positions.offsets.keys() <= before.keys(),
        )
        if self.behind_gap is not None:
            return await self._pass_over(self.behind_gap, recovered, positions)
        if entry is not None:
            return await self._begin(entry, recovered, positions)
        if recovered.folder is None or recovered.epoch is None:
            raise InvariantError("an empty journal gave no first epoch")
        return recovered.folder, recovered.epoch, recovered.chain, recovered.journal_offset

    async def _pass_over(
        self, kept: Recovered, last: Recovered, positions: Positions
    ) -> tuple[Folder, EpochEntry, str, int]:
        """Behind a gap, the last state that could be derived."""
        gap = Gap(self.broker, self.publisher, self.pipeline, self.number, self.start.ring, self.topics, self.outputs)
        opened = await gap.pass_over(kept, last, positions.offsets, self._now_ms())
        log.info("shard %d: epoch %d opened (gap): the model was kept", self.number, opened[1].number)
        return opened

    async def _begin(
        self, entry: EpochEntry, recovered: Recovered, positions: Positions
    ) -> tuple[Folder, EpochEntry, str, int]:
        """A new epoch, with the state that was recovered or a fresh one."""
        kept = recovered.folder.shard if recovered.folder is not None else None
        shard = enter_epoch(entry, kept, self.number, self.pipeline)
        folder, linked = Folder(shard, positions.offsets, counts=self.outputs or None), link(entry, recovered.chain)
        offset = await self._write(linked, recovered.journal_offset)
        if recovered.epoch is not None:
            self._say_start(recovered.epoch)
        log.info("shard %d: epoch %d opened (%s)", self.number, entry.number, entry.reason)
        return folder, entry, linked.chain, offset

    def _now_ms(self) -> int:
        return int(self.clock.wall_s() * 1000)

    async def _write(self, linked: Link, before: int) -> int:
        """Write the entry of an epoch behind the journal's last record, at offset `before`; returns its own."""
        place = Place(self.pipeline.topics.journal, self.number)
        value = seal(encode_link(linked), name_of(place), self.start.ring)
        offset = await self.publisher.commit([], Write(place.topic, place.partition, b"%d" % self.number, value))
        if self.pipeline.delivery == "at_least_once" and offset != before + 1:
            raise ForeignWriterError(
                f"the epoch's entry got offset {offset}, not {before + 1}: another worker wrote to this shard's "
                "journal in the meantime; recovering"
            )
        return offset

    async def _sign(self, recovered: Recovered, snapshots: SnapshotWriter) -> None:
        """Leave a snapshot that the first key signs, before an epoch is opened that it seals.

        From then on what was there before is not needed any more: neither its inputs nor the key that signed it.
        """
        if not self.start.ring and self.start.unsigned != "trust":
            raise UnsignedStateError(
                f"the journal of shard {self.number} is signed, but this worker has no key: set "
                "DRIFTLINE_SNAPSHOT_KEY. To go on without signatures, start once with --unsigned-state trust"
            )
        await self._leave_behind(recovered, snapshots)
        signed = "signs with another key from now on" if self.start.ring else "no longer signs"
        log.info("shard %d: %s; the state is kept", self.number, signed)

    async def _leave_behind(self, recovered: Recovered, snapshots: SnapshotWriter) -> None:
        """Leave a snapshot of what was recovered, so that nothing before it is needed any more."""
        if recovered.folder is None:
            return
        epoch = recovered.epoch.number if recovered.epoch is not None else 1
        snapshots.take(recovered.folder, recovered.chain, recovered.slice_number, epoch)
        snapshots.committed(recovered.entry_offset)
        while snapshots.writing:
            await self.publisher.commit(snapshots.next_writes(), None)

    def _say_start(self, before: EpochEntry) -> None:
        """That a `start` which came or changed later does nothing."""
        if before.pipeline.get("start", "earliest") != self.pipeline.start:
            log.warning(
                "shard %d: `start: %s` has no effect: %s has run before and continues from its journal. Give the "
                "pipeline a new name to start over",
                self.number,
                self.pipeline.start,
                self.pipeline.name,
            )
