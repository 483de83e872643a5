"""A state that was put behind an epoch of its own: in the snapshots topic, apart from the slots of the snapshots.

It never changes and stays until another is restored, so a shard's journal can be followed from there, by recovery and
by `driftline verify`, as from a fresh state. The epoch names the digest of its manifest, which names its head, which
names every part: the journal vouches for all of it, also after the keys of the deployment were rotated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from typing import NamedTuple

from msgspec import structs

from driftline.codec.journal import EpochEntry, Link, encode_link, link
from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.codec.manifest import (
    RESTORED,
    Manifest,
    Part,
    Row,
    decode_index,
    decode_manifest,
    encode_index,
    encode_manifest,
    part_of,
    restored_key,
    signed_content,
    split,
    state_digest,
)
from driftline.codec.seal import seal
from driftline.codec.write import Write
from driftline.core.error import ForeignWriterError, InputLostError, SnapshotError, StateUnreadableError
from driftline.core.fingerprint import readers, unreadable
from driftline.core.pipeline import Pipeline
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import Frozen, dump_body, dump_marks, dump_rest, view_of
from driftline.core.state.migration import check_format
from driftline.engine.kept import Kept
from driftline.engine.note import note_of
from driftline.engine.snapshot import BYTES_A_COMMIT, RECORDS_A_COMMIT, joined, read_segments
from driftline.transport.port import Broker, Place, Publisher


class Before(NamedTuple):
    """What a shard's topics hold before a state is put there.

    Args:
        chain, journal_offset: of the journal's last entry.
        restored: keys of states that were restored earlier.
        ring: seals the epoch.
    """

    chain: str
    journal_offset: int
    restored: Set[bytes]
    ring: KeyRing


class Pieces:
    """A state as bytes, piece by piece: the parts of its segments, then its head. It must not change then.

    Cost: blocks for a millisecond a segment, and for the head as long as pickling the model takes.
    """

    def __init__(self, shard: Shard) -> None:
        self._view = view_of(shard)
        self._shard = shard
        self._rows: list[Row] = []

    def parts(self) -> Iterator[tuple[Part, bytes]]:
        """Of each segment its body, then its marks."""
        for segment in (segment for part in self._view.parts for segment in part.segments):
            state = segment.state()
            values = (dump_body(state), dump_marks(state))
            body, marks = map(part_of, values)
            self._rows.append(Row(state.number, state.full, state.carried, body, marks))
            yield from zip((body, marks), values, strict=True)

    def head(self, manifest: Manifest) -> tuple[Manifest, bytes]:
        """The head, once all parts were taken, and the manifest that names it."""
        rest = dump_rest(self._shard, self._view)
        self._view.release()
        return with_head(manifest, self._rows, rest)


def with_head(manifest: Manifest, rows: Sequence[Row], rest: bytes) -> tuple[Manifest, bytes]:
    """A manifest that names a head, and the head: the index of the segments, and the rest of the state."""
    index = encode_index(rows)
    head = index + rest
    part = part_of(head)
    return structs.replace(
        manifest,
        slot=RESTORED,
        chunks=part.chunks,
        size_bytes=len(head),
        digest=part.digest,
        index_bytes=len(index),
        segments=len(rows),
        segment_bytes=sum(row.body.size_bytes + row.marks.size_bytes for row in rows),
    ), head


def records(topic: str, shard: Shard, manifest: Manifest) -> Iterator[Write]:
    """The records of a state, in order; the last is its manifest, whose key names its digest."""
    pieces = Pieces(shard)

    def writes(part: Part, value: bytes) -> Iterator[Write]:
        for key, chunk in zip(part.keys(RESTORED), split(value), strict=True):
            yield Write(topic, shard.number, key, chunk)

    for part, value in pieces.parts():
        yield from writes(part, value)
    manifest, head = pieces.head(manifest)
    yield from writes(part_of(head), head)
    yield Write(topic, shard.number, restored_key(_name(manifest)), encode_manifest(manifest, NO_KEYS))


def _name(manifest: Manifest) -> str:
    return state_digest(signed_content(manifest))


def in_commits(writes: Iterable[Write]) -> Iterator[list[Write]]:
    """Records in runs of a size that one transaction takes soon."""
    taken: list[Write] = []
    size = 0
    for write in writes:
        taken.append(write)
        size += len(write.value or b"")
        if len(taken) >= RECORDS_A_COMMIT or size >= BYTES_A_COMMIT:
            yield taken
            taken, size = [], 0
    if taken:
        yield taken


async def put(
    publisher: Publisher, pipeline: Pipeline, shard: Shard, manifest: Manifest, entry: EpochEntry, before: Before
) -> tuple[Link, int]:
    """Put a state behind an epoch: its parts in commits of their own, its manifest with the epoch in one.

    Args:
        publisher: opened.
        shard: under this pipeline.
        manifest: what is reported about the state; its size and digests are set here.
        entry: the epoch, without the digest of the state, which is set here.
        before: what the journal and the snapshots topic hold.

    Returns:
        The epoch in its place in the chain, and its offset.

    Raises:
        CommitUnknownError: it is not known to be there. What was there before counts until it is.
    """
    topics, partition = pipeline.topics, shard.number
    needed: set[bytes] = set()
    last: list[Write] = []
    for writes in in_commits(records(topics.snapshots, shard, manifest)):
        if last:
            await publisher.commit(last, None)
        needed |= {write.key for write in writes if write.key is not None}
        last = writes
    digest = (last[-1].key or b"").split(b"/")[1].decode()
    note = note_of(shard, entry.positions)  # until its first slice, nothing else says it
    linked = link(structs.replace(entry, restored=digest), before.chain, note)
    value = seal(encode_link(linked), f"{topics.journal}-{partition}", before.ring)
    offset = await publisher.commit(last, Write(topics.journal, partition, b"%d" % partition, value))
    if pipeline.delivery == "at_least_once" and offset != before.journal_offset + 1:
        raise ForeignWriterError(
            f"the epoch of shard {partition} got offset {offset}, not {before.journal_offset + 1}: another worker "
            "wrote to its journal in the meantime"
        )
    for writes in in_commits(Write(topics.snapshots, partition, key, None) for key in sorted(before.restored - needed)):
        await publisher.commit(writes, None)
    return linked, offset


async def kept_keys(broker: Broker, topic: str, partition: int) -> Set[bytes]:
    """Of all records of states that were restored."""
    return (await _kept(broker, topic, partition)).keys


async def _kept(broker: Broker, topic: str, partition: int) -> Kept:
    place = Place(topic, partition)
    kept = Kept(broker.reader, place, b"%d/" % RESTORED)
    await kept.look((await broker.beginnings([place]))[place])
    return kept


async def restored_state(broker: Broker, topic: str, partition: int, entry: EpochEntry) -> tuple[Manifest, Frozen]:
    """The state that an epoch began with.

    Raises:
        InputLostError: it is not in the topic any more.
        StateUnreadableError: other versions made it.
    """
    kept = await _kept(broker, topic, partition)
    digest = entry.restored if isinstance(entry.restored, str) else ""
    key = restored_key(digest)
    try:
        if (value := (await kept.values([key])).get(key)) is None:
            raise SnapshotError("it is missing")
        manifest = decode_manifest(value, NO_KEYS)  # the journal vouches for it
        if _name(manifest) != digest or manifest.partition != partition:
            raise SnapshotError("it was replaced by another state")
        part = Part(manifest.digest, manifest.size_bytes)
        named = part.keys(RESTORED) if part.chunks <= len(kept.keys) else []
        head = b"".join(joined(part, RESTORED, await kept.values(named)))
        segments = await read_segments(decode_index(head[: manifest.index_bytes]), RESTORED, kept)
    except SnapshotError as error:
        raise InputLostError(
            f"the state that epoch {entry.number} of shard {partition} started with is incomplete in {topic} ({error})",
            "Restore it again with `driftline state restore --replace`",
        ) from error
    try:
        if (why := unreadable(manifest.versions)) is not None:
            raise SnapshotError(f"it was {why}: use {readers(manifest.versions)}")
        check_format(manifest.format)
    except SnapshotError as error:
        raise StateUnreadableError(
            f"the state that epoch {entry.number} of shard {partition} started with cannot be read here: {error}",
            "Or restore it again with `driftline state restore --replace`",
        ) from error
    return manifest, Frozen(head[manifest.index_bytes :], segments, manifest.format)
