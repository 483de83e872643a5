"""Rebuilds a shard's state, and proves that it is the same.

The last whole snapshot, then the journal after it: each slice that it names is read from the inputs, folded without
publishing, and the digest of what it makes is compared with the one in the journal. A difference on the same versions
and the same arithmetic means that the state cannot be trusted, and stops the shard; where versions or
arithmetic differ the comparison says nothing, and is only counted.

Call it after the shard's publisher was opened: that ends what the owner before left open, so what the journal says
then is the truth.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace

from driftline.codec.journal import CHAIN_START, Entry, EpochEntry, Link, SliceEntry, decode_link, follows
from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.codec.manifest import Manifest
from driftline.codec.seal import is_current
from driftline.core.error import (
    DigestMismatchError,
    InputLostError,
    InvariantError,
    JournalError,
    PipelineError,
    RangeLostError,
    RecoveryError,
    SnapshotError,
    StateUnreadableError,
    UnsignedStateError,
)
from driftline.core.fingerprint import difference, unreadable
from driftline.core.pipeline import Pipeline
from driftline.core.pipeline.foreign import parse_foreign
from driftline.core.place import input_place, topic_of
from driftline.core.record import Source
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import Frozen, loading
from driftline.engine.epoch import enter_epoch
from driftline.engine.fold import Folded, Folder
from driftline.engine.recovered import Progress, Recovered
from driftline.engine.restored import restored_state
from driftline.engine.sameness import Identities, check_inputs, check_journal, replaced
from driftline.engine.snapshot import Shelf, read_shelf, unread_text
from driftline.engine.standing import check_standing
from driftline.engine.trial import trying
from driftline.engine.trust import WAYS, Trust, Unsigned, name_of
from driftline.transport.clock import REAL, Clock
from driftline.transport.port import Broker, Place, Reader

log = logging.getLogger(__name__)

READ_RECORDS_MAX = 1_000
KEEP_IT = (
    "To keep the model, run `driftline state save` with versions that can read it and restore it with these "
    "(`driftline state restore --replace`); --reset-state starts with an untrained one"
)
TURN_S = 0.02  # folding gives the loop back after this long


class Recovery:
    """One shard's recovery.

    Args:
        ring: keys of the deployment.
        unsigned: what becomes of a state that they did not sign.
        report: called with the progress after every slice.

    Attributes:
        reached: how far `run` came, also where it broke off.
    """

    def __init__(
        self,
        broker: Broker,
        pipeline: Pipeline,
        partition: int,
        ring: KeyRing,
        report: Callable[[Progress], None] = lambda progress: None,
        clock: Clock = REAL,
        unsigned: Unsigned = "refuse",
    ) -> None:
        self._broker = broker
        self._pipeline = pipeline
        self._partition = partition
        self._ring = ring
        self._unsigned = unsigned
        self._verify_with = NO_KEYS if unsigned == "trust" else ring  # snapshots
        self._report = report
        self._exact = pipeline.delivery == "exactly_once"
        self._progress = Progress()
        self._inputs: Reader | None = None
        self._journal_stop: int | None = None  # read no further than this offset
        self.strayed = ""  # the versions or arithmetic that made the state what it cannot be made again here
        self._shelf = Shelf()
        self.reached: Recovered | None = None
        self.now: Identities = {}  # the topics, as they are
        self._elsewhere: Manifest | None = None  # a snapshot that follows another journal
        self._newest = -1  # journal offset of the newest snapshot that was read
        self._clock = clock
        self._turn_s = clock.now_s()

    async def run(self) -> Recovered:
        """Derive the state.

        Raises:
            DigestMismatchError: a slice made something else than the journal says.
            InputLostError: input that the journal names is gone.
            StateUnreadableError: it is gone, and other versions than these have left a snapshot.
            InvariantError: the journal is not what Driftline wrote.
            JournalReplacedError: it was written in another topic of that name.
            UnsignedStateError: no key of the deployment signed what is needed.
        """
        unlike: DigestMismatchError | None = None
        try:
            started_s = self._clock.now_s()
            for manifest, frozen in await self._snapshots():
                try:
                    self.reached = await self.restore(manifest, frozen)
                    self._progress.snapshot_s = self._clock.now_s() - started_s
                    state = await self._replay(self.reached)
                    self.check_journal(state)
                    return self._with_shelf(state)
                except SnapshotError as error:
                    log.warning("shard %d: snapshot refused: %s", self._partition, error)
                except DigestMismatchError as error:
                    if self._verify_with:
                        raise
                    unlike = error  # anyone may have written the snapshot: what is before it decides
                    log.warning("shard %d: snapshot refused: the journal says otherwise: %s", self._partition, error)
                    await self._close_inputs()
            self.reached = Recovered(None, None, CHAIN_START, 0, -1, 0, self._progress)
            try:
                state = await self._replay(self.reached)
            except RecoveryError as error:
                raise (unlike or error) from error
            if state.epoch is None and self._elsewhere is not None:
                check_journal(self._elsewhere.topics or {}, self.now, self._pipeline)
            self.check_journal(state)
            return self._with_shelf(state)
        except InputLostError as error:
            if self._shelf.unsigned:
                raise UnsignedStateError(
                    f"shard {self._partition} needs a snapshot that is not signed with a key of this worker: "
                    f"{error.lost}. {WAYS}"
                ) from error
            if not self._shelf.unread:
                raise
            raise StateUnreadableError(f"{error.lost}, and {unread_text(*self._shelf.unread[0])}", KEEP_IT) from error
        finally:
            await self._close_inputs()

    def check_journal(self, state: Recovered) -> None:
        """Whether the last epoch was written into the topic that is there now: a seal is over the topic's name, so
        entries of one that was deleted could be copied into the one that was made after it."""
        if state.epoch is not None:
            check_journal(state.epoch.topics or {}, self.now, self._pipeline)

    def _with_shelf(self, state: Recovered) -> Recovered:
        """What the topic holds goes on to who writes the next snapshot."""
        state.shelf, self._shelf = self._shelf, Shelf()
        return state

    async def outrun(self) -> bool:
        """Whether the shard's former owner finished a snapshot after the snapshots were read here."""
        newest = self._newest
        await self._snapshots()
        return self._newest > newest

    async def follow(self) -> Recovered:
        """Only read the journal to its end, folding nothing: for a start with a fresh state."""
        state = Recovered(None, None, CHAIN_START, 0, -1, 0, self._progress)
        async with aclosing(self._journal(state)) as entries:
            async for source, linked in entries:
                state.journal_offset, state.chain = source.offset, linked.chain
                self._take_positions(state, linked)
        return state

    async def _snapshots(self) -> list[tuple[Manifest, Frozen]]:
        try:
            return await self._read_snapshots(0)
        except InputLostError:  # the topic's first records were deleted; what is left may hold a whole one
            place = Place(self._pipeline.topics.snapshots, self._partition)
            return await self._read_snapshots((await self._broker.beginnings([place]))[place])

    async def _read_snapshots(self, start: int) -> list[tuple[Manifest, Frozen]]:
        place = Place(self._pipeline.topics.snapshots, self._partition)
        self._shelf = await read_shelf(self._broker.reader, place, self._verify_with, start)
        self._newest = max((manifest.journal_offset for manifest, _ in self._shelf.snapshots), default=-1)
        return self._shelf.snapshots

    async def restore(self, manifest: Manifest, frozen: Frozen) -> Recovered:
        if (why := unreadable(manifest.versions)) is not None:
            self._shelf.unread.append((manifest, f"was {why}"))
            raise SnapshotError(f"it was {why}")
        if replaced(manifest.topics or {}, self.now, [self._pipeline.topics.journal]):
            self._elsewhere = manifest
            raise SnapshotError("its journal was deleted")
        if manifest.partition != self._partition:
            raise SnapshotError(f"it belongs to shard {manifest.partition}")
        if not self._verify_with:
            await check_standing(self._broker, Place(self._pipeline.topics.journal, self._partition), manifest)
        try:
            pipeline = parse_foreign(manifest.pipeline, self._pipeline)
        except PipelineError as error:
            raise SnapshotError(f"its pipeline cannot be built here ({error})") from error
        shard = await self._thawed(pipeline, frozen)
        if not self._verify_with:
            await self._try(shard)
        self._shelf.mark(shard.pending, manifest)
        epoch = EpochEntry(
            number=manifest.epoch,
            reason="first",
            state="kept",
            positions=manifest.positions,
            slice_number=manifest.slice_number,
            pipeline=manifest.pipeline,
            versions=manifest.versions,
            arithmetic=manifest.arithmetic,
            topics=manifest.topics,
            outputs=manifest.outputs,
        )
        folder = Folder(shard, manifest.positions, counts=manifest.outputs or None)
        return Recovered(
            folder,
            epoch,
            manifest.chain,
            manifest.slice_number,
            manifest.journal_offset,
            1 - manifest.slot,
            self._progress,
            dict(manifest.positions),
            stands_behind=(manifest.journal_offset, manifest.chain),
        )

    async def _thawed(self, pipeline: Pipeline, frozen: Frozen) -> Shard:
        """The shard of a snapshot; a million events that wait take a second."""
        steps = loading(pipeline, self._partition, frozen)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                shard: Shard = done.value
                return shard
            await self._yield()

    async def _replay(self, state: Recovered) -> Recovered:
        """Follow the journal from where the state stands to its end."""
        fresh = -1  # offset of the entry that starts over, where what lies before it cannot be folded any more
        async with aclosing(self._journal(state)) as entries:
            async for source, linked in entries:
                offset = source.offset
                state.journal_offset, state.chain = offset, linked.chain
                if offset >= fresh:
                    try:
                        await self._follow(state, linked.entry)
                    except RecoveryError as error:
                        fresh = await self._next_fresh(state)
                        if fresh < 0:
                            raise
                        log.warning("shard %d: ignored, since a fresh state started later: %s", self._partition, error)
                        state.folder = None
                        await self._close_inputs()
                self._take_positions(state, linked)
                state.stands_behind = (offset, linked.chain)
                self._progress.journal_offset = offset
                self._report(self._progress)
                await self._yield()
        return state

    async def _follow(self, state: Recovered, entry: Entry) -> None:
        """Do again what one entry says was done."""
        if isinstance(entry, SliceEntry):
            await self._slice(state, entry)
            return
        if entry.state != "kept":
            self.strayed = ""
        if entry.state == "restored":
            shard = await self._restored(entry)
        else:
            before = state.folder.shard if state.folder is not None else None
            shard = enter_epoch(entry, before, self._partition, self._pipeline)
        state.folder = Folder(shard, entry.positions, counts=entry.outputs or None)
        await self._close_inputs()

    async def _restored(self, entry: EpochEntry) -> Shard:
        """The shard as an epoch begins that goes on from a state which was put there."""
        topic = self._pipeline.topics.snapshots
        manifest, frozen = await restored_state(self._broker, topic, self._partition, entry)
        try:
            shard = await self._thawed(parse_foreign(manifest.pipeline, self._pipeline), frozen)
            if not self._ring:
                await self._try(shard)
            return shard
        except (PipelineError, SnapshotError) as error:
            raise RecoveryError(
                f"the state that epoch {entry.number} of shard {self._partition} started with cannot be read "
                f"({error}). "
                "Restore it again with `driftline state restore --replace`"
            ) from error

    async def _try(self, shard: Shard) -> None:
        """Whether a state that no key vouches for can be put to work; a million events that wait take some seconds.

        Raises:
            SnapshotError: it cannot.
        """
        for _ in trying(shard):
            await self._yield()

    async def _next_fresh(self, state: Recovered) -> int:
        """Offset of the next epoch that begins with a state of its own, fresh or restored; -1 without one."""
        here = replace(state, folder=None)
        async with aclosing(self._journal(here)) as entries:
            async for source, linked in entries:
                if isinstance(linked.entry, EpochEntry) and linked.entry.state != "kept":
                    return source.offset
        return -1

    async def _journal(self, state: Recovered) -> AsyncGenerator[tuple[Source, Link], None]:
        """Entries after the one where the state stands, each tied to the one before."""
        place = Place(self._pipeline.topics.journal, self._partition)
        trust = Trust(self._broker, place, self._ring, self._unsigned, self._journal_stop)
        reader = self._broker.reader()
        anchored = state.journal_offset < 0
        chain, signed = state.chain, not anchored
        epoch = state.epoch.number if state.epoch is not None else 0
        reached: dict[type[Entry], int] = {SliceEntry: state.slice_number, EpochEntry: epoch}
        try:
            await reader.open({place: max(state.journal_offset, 0)})
            while sources := await reader.read(place, READ_RECORDS_MAX, self._journal_stop):
                for source in sources:
                    linked = self._linked(source, trust)
                    if not anchored:
                        if linked is None or source.offset != state.journal_offset or linked.chain != chain:
                            raise SnapshotError("the journal lacks the entry it follows")
                        anchored = True
                        self._at(state, source, place)
                    elif linked is None:
                        state.journal_offset = source.offset
                    elif not follows(linked, chain):
                        if self._ring and self._exact and linked.entry.number <= reached[type(linked.entry)]:
                            self._copied_stray(source)
                        else:
                            self._stray(source, linked, chain, trust)
                        state.journal_offset = source.offset
                    elif await trust.accepts(source, chain, reached, signed=signed):
                        chain, signed = linked.chain, True
                        reached[type(linked.entry)] = linked.entry.number
                        self._at(state, source, place)
                        yield source, linked
                    else:
                        self._unsigned_stray(source)
                        state.journal_offset = source.offset
        except InputLostError as error:
            if anchored:
                raise
            raise SnapshotError("the journal lacks the entry it follows") from error
        finally:
            await reader.close()
        if not anchored:
            raise SnapshotError("the journal ends before the entry it follows")

    def _at(self, state: Recovered, source: Source, place: Place) -> None:
        """The entry that the state follows."""
        state.entry_offset = source.offset
        state.current = is_current(source.value, name_of(place), self._ring)

    def _linked(self, source: Source, trust: Trust) -> Link | None:
        """A record's entry; None where a stranger wrote it."""
        try:
            return decode_link(source.value)
        except InvariantError as error:
            if trust.passes_over(source):
                self._unsigned_stray(source)
                return None
            raise JournalError(f"{source.topic}-{source.partition}, offset {source.offset}: {error}", source) from error

    def _unsigned_stray(self, source: Source) -> None:
        log.warning(
            "shard %d: record %d of %s is ignored: it is not signed, and signed entries continue without it",
            self._partition,
            source.offset,
            source.topic,
        )

    def _copied_stray(self, source: Source) -> None:
        """With a seal or without: whoever may read and write the journal can write what stands in it once more."""
        log.warning(
            "shard %d: record %d of %s is ignored: its number was already used by an entry before it",
            self._partition,
            source.offset,
            source.topic,
        )

    def _stray(self, source: Source, linked: Link, chain: str, trust: Trust) -> None:
        """An entry that does not follow the one before, whose chain is given."""
        if trust.passes_over(source):
            self._unsigned_stray(source)
            return
        if self._exact:
            raise JournalError(
                f"entry {source.offset} of {source.topic}-{source.partition} does not follow the one before: another "
                "program wrote to the journal, or part of it was deleted. Restore the topic, or start the pipeline "
                "under a new name",
                source,
            )
        log.warning("shard %d: entry %d is outside the chain, ignored", self._partition, source.offset)

    async def _slice(self, state: Recovered, entry: SliceEntry) -> None:
        """Fold one journaled slice again, and compare."""
        folded = await self._fold(state, entry)
        if folded.digest == entry.digest and len(folded.messages) == entry.outputs:
            return
        if self._unverifiable(state):
            self._progress.unverifiable += 1
            return
        raise DigestMismatchError(
            f"slice {entry.number} of shard {self._partition} ({dict(entry.inputs)}) made other outputs than the "
            f"journal says ({folded.digest}, not {entry.digest}): the model is not deterministic, or input or journal "
            "were changed. `driftline check` finds the first; `--reset-state` starts with an untrained model from here"
        )

    async def _fold(self, state: Recovered, entry: SliceEntry) -> Folded:
        """Fold one journaled slice again."""
        folder = state.folder
        if folder is None or state.epoch is None:
            raise InvariantError("the journal starts with a slice instead of an epoch; restore its first entries")
        if strange := entry.inputs.keys() - folder.positions.keys():
            raise InvariantError(
                f"slice {entry.number} of shard {self._partition} names {min(strange)[:100]!r}, which is not among the "
                "inputs of its epoch: another program wrote to the journal. Restore the topic, or start with "
                "--reset-state"
            )
        if entry.tick_ms is not None:
            folded = folder.tick(entry.number, entry.tick_ms, entry.raised or {})
        else:
            check_inputs(state.epoch.topics or {}, self.now, {topic_of(name) for name in entry.inputs})
            folded = folder.fold_range(await self._range(folder, entry), entry.raised or {}, entry.ahead or {})
        self._progress.slices += 1
        self._progress.records += folded.records
        return folded

    def _unverifiable(self, state: Recovered) -> bool:
        """Whether a slice that came out otherwise says nothing: versions or arithmetic differ, now or since a slice
        before whose bits the state still carries."""
        if state.epoch is not None:
            self.strayed = difference(state.epoch.versions, state.epoch.arithmetic) or self.strayed
        return bool(self.strayed)

    def _take_positions(self, state: Recovered, linked: Link) -> None:
        """What an entry says of where the shard stands."""
        entry = linked.entry
        if isinstance(entry, EpochEntry):
            state.epoch = entry
            state.positions.update(entry.positions)
        else:
            state.slice_number = entry.number
            state.positions.update({name: part.stop for name, part in entry.inputs.items()})

    async def _range(self, folder: Folder, entry: SliceEntry) -> Mapping[str, list[Source]]:
        """The records that a slice names, read again."""
        if self._inputs is None:
            self._inputs = self._broker.reader()
            await self._inputs.open({self.input(name): offset for name, offset in folder.positions.items()})
        found: dict[str, list[Source]] = {}
        for name, part in entry.inputs.items():
            place, sources = self.input(name), list[Source]()
            while len(sources) < part.count:
                more = await self._inputs.read(place, part.count - len(sources), part.stop)
                if not more:
                    raise RangeLostError(
                        f"{place.topic}-{place.partition} has {len(sources)} of the {part.count} records in "
                        f"[{part.start}, {part.stop}) named by the journal: the rest were deleted",
                        place=place,
                        wanted=part.count,
                        found=len(sources),
                        start=part.start,
                    )
                sources += more
            found[name] = sources
        return found

    def input(self, name: str) -> Place:
        """An input of the shard, by its name in the journal."""
        try:
            return input_place(name, self._partition)
        except ValueError as error:
            raise InvariantError(f"the journal is none of ours: {error}") from error

    async def _close_inputs(self) -> None:
        if self._inputs is not None:
            await self._inputs.close()
            self._inputs = None

    async def _yield(self) -> None:
        if self._clock.now_s() - self._turn_s > TURN_S:
            await asyncio.sleep(0)
            self._turn_s = self._clock.now_s()
