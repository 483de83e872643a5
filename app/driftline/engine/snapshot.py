"""Snapshots: taken at a slice's edge, written once the slice is committed, and checked when read.

What is taken at the edge is small: the model, metrics and detectors as bytes, and a view of the ledger, which costs
nothing. The ledger's segments become bytes later, one by one, as they are written: a few chunks inside each commit of
the slices that follow (or, when nothing comes in, in commits of its own), so that no transaction grows large and
nothing waits for it. A segment that its slot has already is not written again; see `codec.manifest`. The manifest
goes last: a slot without one is no snapshot.

What a segment carries is written once it is full, and stays as it is while labels come: its fates say which events are
gone. Once half of it is, it is rewritten, so a slot never holds more than twice what is needed, and an event is
written twice for it on average at most. And each snapshot rewrites a few segments in turn, so that damage to
the topic is repaired in time.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from msgspec import UNSET, structs

from driftline.codec.journal import TopicIdentity
from driftline.codec.keyring import KeyRing
from driftline.codec.manifest import (
    Manifest,
    Part,
    Row,
    chunk_key,
    decode_index,
    decode_manifest,
    encode_index,
    encode_manifest,
    manifest_key,
    part_of,
    split,
    state_digest,
)
from driftline.codec.write import Write
from driftline.core.error import SnapshotError, UnsignedSnapshotError
from driftline.core.fingerprint import arithmetic_fingerprint, readers, versions
from driftline.core.history.keys import KeySegment, KeyState
from driftline.core.label.ledger import Ledger
from driftline.core.label.segment import Segment, SegmentState
from driftline.core.pipeline import Pipeline
from driftline.core.state.freeze import Frozen, StateView, dump_body, dump_marks, dump_rest, view_of
from driftline.core.state.migration import FORMAT, OLDEST, check_format
from driftline.engine.fold import Folder
from driftline.engine.kept import Kept
from driftline.transport.clock import REAL, Clock
from driftline.transport.port import Place, Reader

log = logging.getLogger(__name__)

BYTES_A_COMMIT = 1024 * 1024  # and the chunk with which that is reached
RECORDS_A_COMMIT = 64  # small ones
STEPS_A_COMMIT = 256  # segments of which there may be nothing to write
REFRESH_SNAPSHOTS = 64  # of a slot, within which each of its segments is written again, changed or not
REWRITE_BYTES = 64 * 1024  # a smaller body stays as it is, however little of it is needed
READ_RECORDS_MAX = 100
MANIFEST_KEYS = (manifest_key(0), manifest_key(1))

Slots = dict[int, set[Part]]


@dataclass
class Written:
    """What the slots hold of one ledger.

    Args:
        ledger: that one; of any other nothing is held.
        chains: by slot, of the snapshot that it holds whole.
        rows: by slot and number, how a segment is kept, and the ledger's view that this is of.
    """

    ledger: Ledger | None = None
    chains: dict[int, str] = field(default_factory=dict)
    rows: dict[int, dict[int, tuple[Row, int]]] = field(default_factory=lambda: {0: {}, 1: {}})

    def keep(self, numbers: Set[int]) -> None:
        """Forget segments that are gone."""
        self.rows = {
            slot: {number: row for number, row in rows.items() if number in numbers} for slot, rows in self.rows.items()
        }


@dataclass
class Shelf:
    """What the snapshots topic holds of a shard, as recovery found it.

    Args:
        snapshots: every whole one, newest first.
        rows: the segments of each of them, by slot.
        keys: every key of either slot but the manifests', by slot.
        unread: those that are of no use to these versions, and why not ("was made by ...").
        unsigned: how many were left out as no key of the deployment signed them.
        written: what is of use to the ledger that was read last.
    """

    snapshots: list[tuple[Manifest, Frozen]] = field(default_factory=list)
    rows: dict[int, list[Row]] = field(default_factory=dict)
    keys: dict[int, set[bytes]] = field(default_factory=lambda: {0: set(), 1: set()})
    unread: list[tuple[Manifest, str]] = field(default_factory=list)
    unsigned: int = 0
    written: Written = field(default_factory=Written)

    def parts(self, slot: int) -> set[Part]:
        """Those that are whole."""
        return {part for row in self.rows.get(slot, ()) for part in (row.body, row.marks)}

    def mark(self, ledger: Ledger, manifest: Manifest) -> None:
        """A ledger was just read from a snapshot: note as what its segments are kept already.

        The other slot's bodies are of use too if that is the snapshot that this one names as the one before. Bytes of
        an earlier format are not: all that is written from now on is of the present one.
        """
        self.written = written = Written(ledger)
        if manifest.format != FORMAT:
            return
        ours, other = manifest.slot, 1 - manifest.slot
        written.chains[ours] = manifest.chain
        written.rows[ours] = {row.number: (row, 0) for row in self.rows.get(ours, ())}  # view 0 is this snapshot
        if any((one.slot, one.chain, one.format) == (other, manifest.before, FORMAT) for one, _ in self.snapshots):
            written.chains[other] = manifest.before
            written.rows[other] = {row.number: (row, -1) for row in self.rows[other] if row.full}


@dataclass
class SnapshotWriter:
    """The snapshots of one shard, one at a time.

    Args:
        slot: the slot that the next one takes: not the one that recovery started from.
        ring: keys of the deployment.
        shelf: what recovery found in the topic.

    Attributes:
        written_bytes: by the snapshot under way, or by the last one.
    """

    pipeline: Pipeline
    partition: int
    slot: int
    ring: KeyRing
    records: int = 0
    shelf: Shelf = field(default_factory=Shelf)
    clock: Clock = REAL
    topics: Mapping[str, TopicIdentity] = field(default_factory=dict)
    taken_s: float = field(init=False)
    written_bytes: int = 0
    _count: int = 0  # of snapshots
    _rest: bytes = b""
    _view: StateView | None = None
    _manifest: Manifest | None = None
    _stream: Iterator[Write | None] | None = None

    def __post_init__(self) -> None:
        self.taken_s = self.clock.now_s()
        self._parts: Slots = {slot: self.shelf.parts(slot) for slot in (0, 1)}  # that are in the slot, and whole
        kept = {slot: {key for part in self._parts[slot] for key in part.keys(slot)} for slot in (0, 1)}
        self._strays = {slot: self.shelf.keys[slot] - kept[slot] for slot in (0, 1)}  # keys that nothing needs
        self._written = self.shelf.written
        self.shelf = Shelf()  # its bytes are as large as the state

    def due(self, *, asked: bool = False) -> bool:
        """Whether the pipeline, or an operator who asked, wants one now, and none is under way."""
        if self._manifest is not None or self.records == 0:
            return False
        if asked:
            return True
        rule = self.pipeline.snapshot
        return self.records >= rule.every_records or (self.clock.now_s() - self.taken_s) * 1000 >= rule.every_ms

    def take(self, folder: Folder, chain: str, slice_number: int, epoch: int) -> int:
        """Hold on to the state as it is now, right after the slice with this chain.

        Returns:
            Bytes of all but the segments.
        """
        ledger = folder.shard.pending
        self._view = view_of(folder.shard)
        if self._written.ledger is not ledger:
            self._written = Written(ledger)
        self._written.keep({segment.number for part in self._view.parts for segment in part.segments})
        self._rest = dump_rest(folder.shard, self._view)
        self._manifest = Manifest(
            format=FORMAT,
            slot=self.slot,
            partition=self.partition,
            journal_offset=-1,
            chain=chain,
            slice_number=slice_number,
            epoch=epoch,
            positions=dict(folder.positions),
            chunks=0,
            size_bytes=0,
            digest="",
            pipeline=folder.shard.pipeline.resolved(),
            versions=versions(),
            arithmetic=arithmetic_fingerprint(),
            taken_ms=int(self.clock.wall_s() * 1000),
            before=self._written.chains.get(1 - self.slot, ""),
            topics=dict(self.topics) or UNSET,
            outputs=dict(folder.counts) if folder.counts else UNSET,
        )
        self._count += 1
        self.records = 0
        self.taken_s = self.clock.now_s()
        return len(self._rest)

    def committed(self, journal_offset: int) -> None:
        """The slice that the state follows is in the journal at this offset: it may be written now."""
        if self._manifest is None or self._view is None or self._manifest.journal_offset >= 0:
            return
        self._manifest = structs.replace(self._manifest, journal_offset=journal_offset)
        self.written_bytes = 0
        self._stream = self._all_writes(self._manifest, self._view)

    def distrust(self) -> None:
        """Another writer may have been at the slots in the meantime: what is under way is given up, the next is
        whole."""
        if self._view is not None:
            self._view.release()
            self._written.chains.clear()
        self._stream = self._manifest = self._view = None
        self._rest = b""
        for slot in (0, 1):
            self._forget(slot, self._parts[slot])

    @property
    def writing(self) -> bool:
        """Whether something waits to be written."""
        return self._stream is not None

    def next_writes(self) -> list[Write]:
        """The next few records, for the commit that is being made. Cost: bounded, see the constants."""
        taken: list[Write] = []
        size = 0
        for _ in range(STEPS_A_COMMIT):
            if self._stream is None or len(taken) >= RECORDS_A_COMMIT or size >= BYTES_A_COMMIT:
                break
            try:
                write = next(self._stream)
            except StopIteration:
                self._finish()
                break
            if write is not None:
                taken.append(write)
                size += len(write.value or b"")
        self.written_bytes += size
        return taken

    def _forget(self, slot: int, parts: set[Part]) -> None:
        """Whether they are in the slot is no longer known."""
        self._strays[slot] |= {key for part in parts for key in part.keys(slot)}
        self._parts[slot] = self._parts[slot] - parts

    def _finish(self) -> None:
        if self._manifest is not None:
            self._written.chains[self.slot] = self._manifest.chain
        self._stream = self._manifest = self._view = None
        self._rest = b""
        self.slot = 1 - self.slot

    # -- the records of one snapshot, made as they are requested

    def _all_writes(self, manifest: Manifest, view: StateView) -> Iterator[Write | None]:
        """Every record of a snapshot, in order; None where there was something to do, and nothing to write."""
        slot, rows = manifest.slot, []
        for segment, number in ((segment, part.number) for part in view.parts for segment in part.segments):
            row, bodies = self._row(segment, number)
            rows.append(row)
            yield None
            for part, value in bodies:
                yield from self._part_writes(slot, part, value)
        needed = {part for row in rows for part in (row.body, row.marks)}
        index = encode_index(rows)
        head = index + self._rest
        chunks = list(split(head))
        yield from self._removals(slot, needed, len(chunks))
        for number, chunk in enumerate(chunks):
            yield self._write(chunk_key(slot, number), chunk)
        manifest = structs.replace(
            manifest,
            chunks=len(chunks),
            size_bytes=len(head),
            digest=state_digest(head),
            index_bytes=len(index),
            segments=len(rows),
            segment_bytes=sum(part.size_bytes for part in needed),
        )
        yield self._write(manifest_key(slot), encode_manifest(manifest, self.ring))

    def _row(self, segment: Segment | KeySegment, view: int) -> tuple[Row, list[tuple[Part, bytes]]]:
        """How the snapshot keeps a segment, and what must be written for it."""
        slot, state = self.slot, segment.state()
        before = self._written.rows[slot].get(segment.number)
        if before is not None and not {before[0].body, before[0].marks} <= self._parts[slot]:
            before = None
        made: list[tuple[Part, bytes]] = []
        if before is not None and (state.number + self._count // 2) % REFRESH_SNAPSHOTS == 0:
            self._forget(slot, {before[0].body, before[0].marks})
            before = None
        if before is not None and segment.since <= before[1]:
            row = before[0]
        else:
            marks = dump_marks(state)
            made.append((part_of(marks), marks))
            row = self._with_body(state, before[0] if before is not None else None, made[0][0], made)
        segment.release()
        self._written.rows[slot][segment.number] = (row, view)
        return row, made

    def _with_body(
        self, state: SegmentState | KeyState, before: Row | None, marks: Part, made: list[tuple[Part, bytes]]
    ) -> Row:
        """The row of a segment; its body is made if the slot has none that does, and put before the marks."""
        if before is not None and before.full:
            little = 2 * state.carried < before.carried and before.body.size_bytes > REWRITE_BYTES
            if not little:
                return structs.replace(before, marks=marks)
        value = dump_body(state)
        made.insert(0, (part_of(value), value))
        return Row(state.number, state.full, state.carried, made[0][0], marks)

    def _part_writes(self, slot: int, part: Part, value: bytes) -> Iterator[Write]:
        if part in self._parts[slot]:
            return
        self._parts[slot].add(part)
        for key, chunk in zip(part.keys(slot), split(value), strict=True):
            yield self._write(key, chunk)

    def _removals(self, slot: int, needed: set[Part], chunks: int) -> Iterator[Write]:
        """Nulls for what the slot has and this snapshot does not need; its own last snapshot ends with the head."""
        kept = {key for part in needed for key in part.keys(slot)} | {chunk_key(slot, n) for n in range(chunks)}
        gone = {key for part in self._parts[slot] - needed for key in part.keys(slot)} | self._strays[slot]
        self._parts[slot] &= needed
        self._strays[slot] = {chunk_key(slot, number) for number in range(chunks)}
        for key in sorted(gone - kept):
            yield self._write(key, None)

    def _write(self, key: bytes, value: bytes | None) -> Write:
        return Write(self.pipeline.topics.snapshots, self.partition, key, value)


async def read_snapshots(
    reader: Callable[[], Reader], place: Place, ring: KeyRing, start: int = 0
) -> list[tuple[Manifest, Frozen]]:
    """Every whole snapshot of a shard, newest first.

    Torn ones, those of a format that cannot be read and those with a wrong signature are left out: recovery then starts
    from an older one, or from the journal's beginning.
    """
    return (await read_shelf(reader, place, ring, start)).snapshots


async def read_shelf(reader: Callable[[], Reader], place: Place, ring: KeyRing, start: int = 0) -> Shelf:
    """What the topic holds of a shard; see `read_snapshots`. Each byte of what is whole was looked at.

    Args:
        place: the shard's partition of the snapshots topic.
        start: first offset to read.
    """
    kept = Kept(reader, place, b"0/", b"1/", at_once=READ_RECORDS_MAX)
    await kept.look(start)
    shelf = Shelf()
    for slot in (0, 1):
        shelf.keys[slot] = {key for key in kept.keys - set(MANIFEST_KEYS) if key.startswith(b"%d/" % slot)}
        if (value := (await kept.values([manifest_key(slot)])).get(manifest_key(slot))) is None:
            continue
        try:
            manifest = decode_manifest(value, ring)
            if not OLDEST <= manifest.format <= FORMAT:
                why = f"has format {manifest.format}, this version reads {OLDEST} to {FORMAT}"
                shelf.unread.append((manifest, why))
            rows, rest = await _read_head(manifest, slot, kept)
            segments = await read_segments(rows, slot, kept)
        except SnapshotError as error:
            shelf.unsigned += isinstance(error, UnsignedSnapshotError)
            log.warning("%s: snapshot skipped: %s", place.topic, error)
            continue
        shelf.rows[slot] = rows
        shelf.snapshots.append((manifest, Frozen(rest, segments, manifest.format)))
    shelf.unread.sort(key=lambda pair: pair[0].journal_offset, reverse=True)
    shelf.snapshots.sort(key=lambda pair: pair[0].journal_offset, reverse=True)
    return shelf


async def _read_head(manifest: Manifest, slot: int, kept: Kept) -> tuple[list[Row], bytes]:
    """The index of a snapshot and the rest of its state.

    Raises:
        SnapshotError: the slot's records do not make what the manifest names.
    """
    check_format(manifest.format)
    if manifest.slot != slot:
        raise SnapshotError(f"it belongs to slot {manifest.slot} but is in slot {slot}")
    keys = [chunk_key(slot, number) for number in range(min(manifest.chunks, len(kept.keys)))]
    values = await kept.values(keys)
    head = b"".join([values.get(key, b"") for key in keys])
    if len(head) != manifest.size_bytes or state_digest(head) != manifest.digest:
        raise SnapshotError("it is torn: its chunks do not match its manifest")
    return decode_index(head[: manifest.index_bytes]), head[manifest.index_bytes :]


async def read_segments(rows: Sequence[Row], slot: int, kept: Kept) -> list[tuple[list[bytes], list[bytes]]]:
    """The chunks of the parts of each row, to be joined.

    Raises:
        SnapshotError: one is missing, or not what the index says.
    """
    keys: list[bytes] = []
    for row in rows:
        for part in (row.body, row.marks):
            named = part.keys(slot) if part.chunks <= len(kept.keys) else []
            if not named or any(key not in kept.keys for key in named):
                raise SnapshotError("a segment is not what its index names: it is torn")
            keys += named
    values = await kept.values(keys)
    segments = []
    for row in rows:
        segments.append((joined(row.body, slot, values), joined(row.marks, slot, values)))
        await asyncio.sleep(0)
    return segments


def joined(part: Part, slot: int, values: Mapping[bytes, bytes]) -> list[bytes]:
    """The chunks of a part, to be joined; each of their bytes is as the index says.

    Raises:
        SnapshotError: one is missing or another.
    """
    found = []
    digest = hashlib.blake2b(digest_size=32)
    if part.chunks <= len(values):
        for key in part.keys(slot):
            found.append(values.get(key, b""))
            digest.update(found[-1])
    if sum(map(len, found)) != part.size_bytes or digest.hexdigest() != part.digest:
        raise SnapshotError("a segment is not what its index names: it is torn")
    return found


def unread_text(manifest: Manifest, why: str) -> str:
    """A snapshot that these versions cannot read, for people: which it is, why not, and what reads it."""
    made_by = f"{readers(manifest.versions)}, Driftline {manifest.versions.get('app', 'unknown')!s:.20}"
    return (
        f"the snapshot of shard {manifest.partition} after slice {manifest.slice_number} (taken {manifest.taken_at}) "
        f"{why}; versions that can read it: {made_by}"
    )
