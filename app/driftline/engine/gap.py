"""Continues after deleted input, with the last state that could be derived.

The slices that cannot be replayed are skipped; their outputs stand, and what the model learned in them is lost.
The state before them cannot be derived from the journal any more once its own inputs are gone as well, so it is put
behind the epoch that skips them, as a restored one is (`engine.restored`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import UNSET

from driftline.codec.journal import EpochEntry, TopicIdentity
from driftline.codec.keyring import KeyRing
from driftline.core.error import InvariantError
from driftline.core.fingerprint import arithmetic_fingerprint, versions
from driftline.core.pipeline import Pipeline
from driftline.core.shard.state import Shard
from driftline.core.state.adopt import adopt
from driftline.core.state.freeze import dump, load
from driftline.engine.fold import Folder
from driftline.engine.recovered import Recovered
from driftline.engine.restored import Before, kept_keys, put
from driftline.transport.port import Broker, Publisher


class Gap(NamedTuple):
    """Where a gap is: one shard, whose publisher is open; and the topics, as they are.

    Args:
        partition: the shard's number.
        outputs: as of `codec.journal.EpochEntry`; empty where it is unset.
    """

    broker: Broker
    publisher: Publisher
    pipeline: Pipeline
    partition: int
    ring: KeyRing
    topics: Mapping[str, TopicIdentity]
    outputs: Mapping[str, int]

    async def pass_over(
        self, kept: Recovered, last: Recovered, positions: Mapping[str, int], taken_ms: int
    ) -> tuple[Folder, EpochEntry, str, int]:
        """Open an epoch after the gap.

        Args:
            kept: how far the state could be derived.
            last: where the journal ends.
            positions: where the inputs go on.
            taken_ms: wall time, for people.

        Returns:
            The shard at work, the epoch, and the epoch's chain and offset.

        Raises:
            CommitUnknownError: the epoch is not known to be there.
        """
        if kept.folder is None or kept.epoch is None or last.epoch is None:
            raise InvariantError("there is no state to keep across the gap")
        shard = self._under_this_file(kept.folder.shard)
        # Commands of the slices that are skipped are not known to it, and must not be repeated.
        shard.commands.floor_ms = max(shard.commands.floor_ms, taken_ms)
        document = self.pipeline.resolved()
        entry = EpochEntry(
            number=last.epoch.number + 1,
            reason="gap",
            state="restored",
            positions=dict(positions),
            slice_number=last.slice_number,
            pipeline=document,
            versions=versions(),
            arithmetic=arithmetic_fingerprint(),
            topics=dict(self.topics) or UNSET,
            outputs=dict(self.outputs) or UNSET,
        )
        manifest = kept.manifest(kept.stands_behind, document, taken_ms)
        old = await kept_keys(self.broker, self.pipeline.topics.snapshots, self.partition)
        before = Before(last.chain, last.journal_offset, old, self.ring)
        linked, offset = await put(self.publisher, self.pipeline, shard, manifest, entry, before)
        return Folder(shard, positions, counts=self.outputs or None), entry, linked.chain, offset

    def _under_this_file(self, shard: Shard) -> Shard:
        kept = load(self.pipeline, self.partition, dump(shard))
        adopt(kept, shard.pipeline)
        return kept
