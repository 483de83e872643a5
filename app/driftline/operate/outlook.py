"""What a deploy would do to the state, predicted from the topics and the pipeline file; writes nothing.

For each shard, what a worker with this file and these versions would do first: whether the file is one that the state
can follow, and whether the state can be had: from which snapshot, or by following the journal from where it began.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Literal

from msgspec import Struct

from driftline.codec.inputs import Inputs
from driftline.codec.journal import EpochEntry, SliceEntry
from driftline.codec.keyring import KeyRing
from driftline.core.error import InputLostError, InvariantError, PipelineError, RecoveryError, SnapshotError
from driftline.core.fingerprint import versions
from driftline.core.pipeline import Pipeline
from driftline.core.pipeline.foreign import parse_foreign
from driftline.core.place import Layout, input_name
from driftline.core.state.adopt import begun_anew, changed_keys, refused_keys
from driftline.engine.epoch import as_read_now
from driftline.engine.recovered import Recovered
from driftline.engine.recovery import KEEP_IT, Recovery
from driftline.engine.restored import restored_state
from driftline.engine.snapshot import unread_text
from driftline.transport.port import Broker, Place

Fate = Literal["none", "kept", "anew", "refused", "lost"]


class Outlook(Struct, frozen=True):
    """What would become of one shard's state.

    Args:
        fate: `none`, there is none yet; `kept`; `anew`, kept and parts of it begin empty; `refused`, the worker would
            stop as the state cannot follow the file; `lost`, it would stop as the state cannot be had here.
        changed: keys of the pipeline file that differ from the journal's.
        begins: what would begin empty, as text.
        source: where the state would come from, or why it cannot be had.
        versions: those that differ from the journal's last epoch, as "name there -> here".
    """

    partition: int
    fate: Fate
    changed: list[str] = []
    begins: list[str] = []
    source: str = ""
    versions: list[str] = []


async def outlook(broker: Broker, pipeline: Pipeline, layout: Layout, ring: KeyRing) -> list[Outlook]:
    """Of every shard.

    Raises:
        BrokerError: Kafka cannot be reached.
    """
    pipeline = pipeline.model_copy(update={"shards": layout.shards})
    return [await _Look(broker, pipeline, layout, shard, ring).look() for shard in range(layout.shards)]


class _Look(Recovery):
    """A recovery that folds nothing."""

    def __init__(self, broker: Broker, pipeline: Pipeline, layout: Layout, shard: int, ring: KeyRing) -> None:
        super().__init__(broker, pipeline, shard, ring)
        self._places = layout.places(Inputs(pipeline).topics, shard)

    async def look(self) -> Outlook:
        journal = Place(self._pipeline.topics.journal, self._partition)
        self._journal_stop = (await self._broker.ends([journal]))[journal]
        try:
            last = await self.follow()
            if last.epoch is None:
                return Outlook(self._partition, "none", source="no worker has run this shard yet")
            return await self._of(last.epoch, last)
        except (RecoveryError, SnapshotError, InvariantError) as error:
            return Outlook(self._partition, "lost", source=str(error))

    async def _of(self, epoch: EpochEntry, last: Recovered) -> Outlook:
        after, before = self._pipeline.resolved(), as_read_now(epoch.pipeline, self._pipeline.shards)
        changed, here = changed_keys(before, after), versions()
        differing = [
            f"{name} {str(epoch.versions.get(name))[:20]} -> {version}"
            for name, version in here.items()
            if epoch.versions.get(name) != version
        ]
        if refused := refused_keys(before, after):
            text = (
                "the state cannot be kept; undo the change, give the pipeline a new name, or start once with "
                "--reset-state"
            )
            return Outlook(self._partition, "refused", refused, [], text, differing)
        try:
            begins = begun_anew(parse_foreign(epoch.pipeline, self._pipeline), self._pipeline) if changed else []
        except PipelineError as error:
            return Outlook(self._partition, "refused", changed, [], f"the journal's pipeline: {error}", differing)
        fate: Fate = "anew" if begins else "kept"
        try:
            source = await self._source(last)
        except (RecoveryError, SnapshotError) as error:
            fate, source = "lost", str(error)
        if unread := await self._deleted_unread(last):
            fate, source = "lost", unread
        return Outlook(self._partition, fate, changed, begins, source, differing)

    async def _source(self, last: Recovered) -> str:
        """Where the state would come from.

        Raises:
            InputLostError: from nowhere.
        """
        kept_from = await self._broker.beginnings(self._places)
        lost = ""
        for manifest, frozen in await self._snapshots():
            text = f"the snapshot after slice {manifest.slice_number} (taken {manifest.taken_at})"
            try:
                count = await self._slices_after(await self.restore(manifest, frozen))
            except SnapshotError as error:
                lost = lost or f"{text} cannot be used: {error}"
                continue
            if count and not self._retained(manifest.positions, kept_from):
                lost = lost or f"the inputs of the {count} slices after {text} have been deleted"
                continue
            return text + (f", and {count} slices to replay after it" if count else "")
        if (begun := await self._begun(kept_from)) is not None:
            return begun + (f"; {lost}" if lost else "")
        if self._shelf.unread:
            raise InputLostError(unread_text(*self._shelf.unread[0]), KEEP_IT)
        raise InputLostError(lost or "the inputs named by the journal have been deleted, and there is no snapshot")

    async def _deleted_unread(self, last: Recovered) -> str:
        """Records that retention has taken before the shard read them, as text."""
        for place, first in (await self._broker.beginnings(self._places)).items():
            if (read := last.positions.get(input_name(*place, self._partition), first)) < first:
                return (
                    f"{place.topic}-{place.partition} starts at offset {first}, but was read up to {read} only: a "
                    "worker stops, or with --on-gap continue skips the gap"
                )
        return ""

    async def _slices_after(self, state: Recovered) -> int:
        count = 0
        async with aclosing(self._journal(state)) as entries:
            async for _, linked in entries:
                count += isinstance(linked.entry, SliceEntry)
        return count

    async def _begun(self, kept_from: Mapping[Place, int]) -> str | None:
        """The last epoch with a state of its own, if the journal can be followed from there."""
        found: EpochEntry | None = None
        slices = 0
        nothing = Recovered(None, None, "0" * 32, 0, -1, 0, self._progress)
        async with aclosing(self._journal(nothing)) as entries:
            async for _, linked in entries:
                if isinstance(linked.entry, EpochEntry) and linked.entry.state != "kept":
                    found, slices = linked.entry, 0
                else:
                    slices += isinstance(linked.entry, SliceEntry)
        if found is None or (slices and not self._retained(found.positions, kept_from)):
            return None
        if found.state == "restored":
            topic = self._pipeline.topics.snapshots
            await restored_state(self._broker, topic, self._partition, found)
            return f"the restored state of epoch {found.number}, and {slices} slices to replay after it"
        return f"the journal: {slices} slices to replay"

    def _retained(self, positions: Mapping[str, int], kept_from: Mapping[Place, int]) -> bool:
        return all(kept_from.get(self.input(name), 0) <= position for name, position in positions.items())
