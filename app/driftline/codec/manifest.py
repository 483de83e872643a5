"""Snapshots as records: parts, then a head, then a manifest that says what they are and where they belong.

Two slots take turns, so that compaction keeps the two newest snapshots, and one that was cut short only ever spoils the
older slot. A slot's keys are

    <slot>/<digest>/<number>    chunks of a part: what a segment of the ledger carries, or its fates
    <slot>/<number>             chunks of the head: the index of the segments, then the rest of the state
    <slot>/manifest

A state that was restored has a third place of its own, `2/`, that snapshots never touch: there its head is a part like
any other, and its manifest lies under its own digest, which the journal's epoch names.

A part lies under its own digest, so a snapshot writes those that its slot has not yet, and a null for those that it
needs no more. Slots share none: what happens to a record spoils one of them. The manifest names the journal entry that
the state follows and the digest of the head, the index in the head names the digest of every part: so the HMAC
that the manifest carries, if the deployment sets a key, is over all of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import orjson
from msgspec import UNSET, Struct, UnsetType

from driftline.codec.journal import NOT_OURS, Count, TopicIdentity
from driftline.codec.keyring import KeyRing
from driftline.core.error import SnapshotError, UnsignedSnapshotError
from driftline.core.place import input_place
from driftline.core.timestamp import written

CHUNK_BYTES = 512 * 1024
RESTORED = 2  # the place of a state that was restored; snapshots take slots 0 and 1


class Manifest(Struct, frozen=True):
    """What a snapshot is.

    Args:
        format: version of the state's bytes.
        slot: 0 or 1; 2 for a state that was restored or saved.
        partition: the shard.
        journal_offset, chain: the journal entry whose state this is.
        slice_number, epoch: of that entry.
        positions, outputs: as of `codec.journal.EpochEntry`.
        chunks, size_bytes, digest: the head's bytes, in how many chunks, and their BLAKE2b digest.
        index_bytes: how many of the head's are the index.
        segments, segment_bytes: of the ledger, and the bytes of their parts.
        before: chain of the snapshot in the other slot, if this state came out of that one.
        pipeline, versions, arithmetic: under which the state was made.
        taken_ms: wall time, for people.
        topics: as of `codec.journal.EpochEntry`.
        signature: HMAC-SHA256 over all the above, empty where the deployment has no key.
    """

    format: int
    slot: int
    partition: int
    journal_offset: int
    chain: str
    slice_number: Count
    epoch: Count
    positions: dict[str, Count]
    chunks: int
    size_bytes: int
    digest: str
    pipeline: dict[str, Any]
    versions: dict[str, str]
    arithmetic: str
    taken_ms: int
    index_bytes: int = 0
    segments: int = 0
    segment_bytes: int = 0
    before: str = ""
    topics: dict[str, TopicIdentity] | UnsetType = UNSET
    outputs: dict[str, Count] | UnsetType = UNSET
    signature: str = ""

    @property
    def taken_at(self) -> str:
        """When it was taken, for people."""
        return written(self.taken_ms, "%Y-%m-%dT%H:%M:%SZ")


class Part(Struct, frozen=True, array_like=True):
    """Bytes that lie in a slot under their BLAKE2b digest, in chunks of `CHUNK_BYTES`."""

    digest: str
    size_bytes: int

    @property
    def chunks(self) -> int:
        return -(-self.size_bytes // CHUNK_BYTES)

    def keys(self, slot: int) -> list[bytes]:
        """Of its chunks, in order."""
        return [b"%d/%s/%d" % (slot, self.digest.encode(), number) for number in range(self.chunks)]


class Row(Struct, frozen=True, array_like=True):
    """A segment as a snapshot keeps it.

    Args:
        full: no event will be added.
        carried: how many events carried something when the body was made.
        body, marks: where its bytes are.
    """

    number: int
    full: bool
    carried: int
    body: Part
    marks: Part


_encode_rows = msgspec.msgpack.Encoder().encode
_decode_rows = msgspec.msgpack.Decoder(list[Row]).decode


def encode_index(rows: Sequence[Row]) -> bytes:
    return _encode_rows(rows)


def decode_index(value: bytes) -> list[Row]:
    """The rows of an index, in order.

    Raises:
        SnapshotError: it is none.
    """
    try:
        rows = _decode_rows(value)
    except (ValueError, RecursionError) as error:  # also msgspec's, and of text that is no UTF-8
        raise SnapshotError(f"the snapshot's index cannot be read ({error})") from error
    if any(part.size_bytes < 1 for row in rows for part in (row.body, row.marks)):
        raise SnapshotError("the snapshot's index lists an empty part: it was not written by Driftline")
    if len({part.digest for row in rows for part in (row.body, row.marks)}) < 2 * len(rows):
        raise SnapshotError("the snapshot's index lists a part twice: it was not written by Driftline")
    return rows


def part_of(value: bytes) -> Part:
    return Part(state_digest(value), len(value))


def chunk_key(slot: int, number: int) -> bytes:
    return b"%d/%d" % (slot, number)


def manifest_key(slot: int) -> bytes:
    return b"%d/manifest" % slot


def restored_key(digest: str) -> bytes:
    """Of the manifest of a restored state, by its digest."""
    return b"%d/%s/manifest" % (RESTORED, digest.encode())


def split(frozen: bytes) -> Iterator[bytes]:
    """Bytes in chunks."""
    for start in range(0, len(frozen), CHUNK_BYTES):
        yield frozen[start : start + CHUNK_BYTES]


def state_digest(frozen: bytes) -> str:
    return hashlib.blake2b(frozen, digest_size=32).hexdigest()


def encode_manifest(manifest: Manifest, ring: KeyRing) -> bytes:
    """The manifest's bytes, signed if there is a key."""
    signature = ring.sign(signed_content(manifest))
    return orjson.dumps(msgspec.to_builtins(msgspec.structs.replace(manifest, signature=signature)))


def decode_manifest(value: bytes, ring: KeyRing) -> Manifest:
    """A manifest whose signature holds.

    Raises:
        SnapshotError: it cannot be read, or not be written again: then it was not ours.
        UnsignedSnapshotError: its signature is missing or wrong though the deployment has a key.
    """
    try:
        # By way of orjson, which knows no number beyond 64 bits: what was read can be written again, to be signed.
        manifest = msgspec.convert(orjson.loads(value), Manifest)
        content = signed_content(manifest)
        for name in manifest.positions:
            input_place(name, manifest.partition)
    except NOT_OURS as error:
        raise SnapshotError(f"the snapshot's manifest cannot be read ({error})") from error
    within = 0 <= manifest.chunks <= manifest.size_bytes and 0 <= manifest.index_bytes <= manifest.size_bytes
    if manifest.slot not in (0, 1, RESTORED) or not within:
        raise SnapshotError(
            f"the manifest of slot {manifest.slot} lists {manifest.chunks} chunks: it was not written by Driftline"
        )
    if ring and not ring.verifies(content, manifest.signature):
        raise UnsignedSnapshotError("the snapshot is not signed with a key of this deployment (DRIFTLINE_SNAPSHOT_KEY)")
    return manifest


def signed_content(manifest: Struct) -> bytes:
    """What the signature of a manifest is over: everything that it says but its `signature`."""
    content = msgspec.to_builtins(msgspec.structs.replace(manifest, signature=""))
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
