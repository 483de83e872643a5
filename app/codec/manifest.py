"""Snapshots as records: chunks of the state's bytes, then a manifest that says what they are and where they belong.

Keys are `<slot>/<number>` and `<slot>/manifest`. Two slots take turns, so that compaction keeps the two newest
snapshots, and one that was cut short only ever spoils the older slot. The manifest names the journal entry that the
state follows; it carries a digest over the bytes and, if the deployment sets a key, an HMAC over everything it
says.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson
from msgspec import Struct

from app.core.error import SnapshotError

CHUNK_BYTES = 512 * 1024


class Manifest(Struct, frozen=True):
    """What a snapshot is.

    Args:
        format: version of the state's bytes.
        slot: 0 or 1.
        partition: the shard.
        journal_offset, chain: the journal entry whose state this is.
        slice_number, epoch: of that entry.
        positions: next offset by input topic.
        chunks, size_bytes, digest: the bytes, in how many parts, and their BLAKE2b digest.
        pipeline, versions, arithmetic: under which the state was made.
        taken_ms: wall time, for people.
        signature: HMAC-SHA256 over all the above, empty where the deployment has no key.
    """

    format: int
    slot: int
    partition: int
    journal_offset: int
    chain: str
    slice_number: int
    epoch: int
    positions: dict[str, int]
    chunks: int
    size_bytes: int
    digest: str
    pipeline: dict[str, Any]
    versions: dict[str, str]
    arithmetic: str
    taken_ms: int
    signature: str = ""


def chunk_key(slot: int, number: int) -> bytes:
    return b"%d/%d" % (slot, number)


def manifest_key(slot: int) -> bytes:
    return b"%d/manifest" % slot


def split(frozen: bytes) -> Iterator[bytes]:
    """The state's bytes in chunks."""
    for start in range(0, len(frozen), CHUNK_BYTES):
        yield frozen[start : start + CHUNK_BYTES]


def state_digest(frozen: bytes) -> str:
    return hashlib.blake2b(frozen, digest_size=32).hexdigest()


def encode_manifest(manifest: Manifest, key: bytes | None) -> bytes:
    """The manifest's bytes, signed if there is a key."""
    return orjson.dumps(msgspec.to_builtins(msgspec.structs.replace(manifest, signature=sign(manifest, key))))


def decode_manifest(value: bytes, key: bytes | None) -> Manifest:
    """A manifest whose signature holds.

    Raises:
        SnapshotError: it cannot be read, or its signature is missing or wrong though the deployment has a key.
    """
    try:
        # By way of orjson, which knows no number beyond 64 bits: what was read can be written again, to be signed.
        manifest = msgspec.convert(orjson.loads(value), Manifest)
    except (orjson.JSONDecodeError, msgspec.ValidationError) as error:
        raise SnapshotError(f"the snapshot's manifest cannot be read ({error})") from error
    if manifest.slot not in (0, 1) or not 0 <= manifest.chunks <= manifest.size_bytes:
        raise SnapshotError(f"the manifest of slot {manifest.slot} names {manifest.chunks} chunks: it is none of ours")
    if key is not None and not hmac.compare_digest(manifest.signature.encode(), sign(manifest, key).encode()):
        raise SnapshotError("the snapshot's signature does not match the snapshot key of this deployment")
    return manifest


def sign(manifest: Struct, key: bytes | None) -> str:
    """HMAC-SHA256 over everything that a manifest says but its `signature`; empty without a key."""
    if key is None:
        return ""
    content = msgspec.to_builtins(msgspec.structs.replace(manifest, signature=""))
    return hmac.new(key, orjson.dumps(content, option=orjson.OPT_SORT_KEYS), hashlib.sha256).hexdigest()
