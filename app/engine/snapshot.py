"""Snapshots: taken at a slice's edge, written once the slice is known to be committed, read back with suspicion.

A snapshot is written a few chunks at a time, inside the commits of the slices that follow (or, when nothing comes in,
in commits of its own), so that no transaction grows large and nothing waits for it. The manifest goes last: without it
there is no snapshot.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import structs

from app.codec.manifest import (
    Manifest,
    chunk_key,
    decode_manifest,
    encode_manifest,
    manifest_key,
    split,
    state_digest,
)
from app.core.error import SnapshotError
from app.core.fingerprint import arithmetic_fingerprint, versions
from app.core.freeze import FORMAT, dump
from app.core.pipeline import Pipeline
from app.engine.clock import REAL, Clock
from app.engine.fold import Folder
from app.engine.port import Reader, Write

log = logging.getLogger(__name__)

CHUNKS_A_COMMIT = 2
READ_RECORDS_MAX = 100


@dataclass
class SnapshotWriter:
    """The snapshots of one shard, one at a time.

    Args:
        slot: the slot that the next one takes: not the one that recovery started from.
        key: HMAC key of the deployment, or None.
    """

    pipeline: Pipeline
    partition: int
    slot: int
    key: bytes | None
    records: int = 0
    clock: Clock = REAL
    taken_s: float = field(init=False)
    _frozen: bytes = b""
    _manifest: Manifest | None = None
    _writes: list[Write] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.taken_s = self.clock.now_s()

    def due(self) -> bool:
        """Whether the pipeline wants one now, and none is under way."""
        if self._manifest is not None or self.records == 0:
            return False
        rule = self.pipeline.snapshot
        return self.records >= rule.every_records or (self.clock.now_s() - self.taken_s) * 1000 >= rule.every_ms

    def take(self, folder: Folder, chain: str, slice_number: int, epoch: int) -> int:
        """Freeze the state as it is now, right after the slice with this chain; returns its size in bytes."""
        self._frozen = dump(folder.shard)
        self._manifest = Manifest(
            format=FORMAT,
            slot=self.slot,
            partition=self.partition,
            journal_offset=-1,
            chain=chain,
            slice_number=slice_number,
            epoch=epoch,
            positions=dict(folder.positions),
            chunks=sum(1 for _ in split(self._frozen)),
            size_bytes=len(self._frozen),
            digest=state_digest(self._frozen),
            pipeline=self.pipeline.resolved(),
            versions=versions(),
            arithmetic=arithmetic_fingerprint(),
            taken_ms=int(self.clock.wall_s() * 1000),
        )
        self.records = 0
        self.taken_s = self.clock.now_s()
        return len(self._frozen)

    def committed(self, journal_offset: int) -> None:
        """The slice that the frozen state follows is in the journal at this offset: it may be written now."""
        if self._manifest is None or self._manifest.journal_offset >= 0:
            return
        self._manifest = structs.replace(self._manifest, journal_offset=journal_offset)
        topic = self.pipeline.topics.snapshots
        self._writes = [
            Write(topic, self.partition, chunk_key(self.slot, number), chunk)
            for number, chunk in enumerate(split(self._frozen))
        ]
        manifest = encode_manifest(self._manifest, self.key)
        self._writes.append(Write(topic, self.partition, manifest_key(self.slot), manifest))
        self._frozen = b""

    @property
    def writing(self) -> bool:
        """Whether chunks wait to be written."""
        return bool(self._writes)

    def next_writes(self) -> list[Write]:
        """The next few chunks, for the commit that is being made."""
        taken, self._writes = self._writes[:CHUNKS_A_COMMIT], self._writes[CHUNKS_A_COMMIT:]
        if taken and not self._writes:
            self._manifest = None
            self.slot = 1 - self.slot
        return taken


async def read_snapshots(reader: Reader, topic: str, key: bytes | None) -> list[tuple[Manifest, bytes]]:
    """Every whole snapshot of a shard, newest first.

    Torn ones, those of another format and those with a wrong signature are left out: recovery then starts from an
    older one, or from the journal's beginning.
    """
    chunks: dict[bytes, bytes] = {}
    manifests: dict[int, bytes] = {}
    while sources := await reader.read(topic, READ_RECORDS_MAX):
        for source in sources:
            if source.key is None or source.value is None:
                continue
            slot, _, part = source.key.partition(b"/")
            if part == b"manifest":
                manifests[int(slot)] = source.value
            else:
                chunks[source.key] = source.value
    whole = []
    for value in manifests.values():
        try:
            manifest = decode_manifest(value, key)
            whole.append((manifest, _assemble(manifest, chunks)))
        except SnapshotError as error:
            log.warning("%s: a snapshot is left out: %s", topic, error)
    return sorted(whole, key=lambda pair: pair[0].journal_offset, reverse=True)


def _assemble(manifest: Manifest, chunks: dict[bytes, bytes]) -> bytes:
    if manifest.format != FORMAT:
        raise SnapshotError(f"it has format {manifest.format}; this version reads {FORMAT}")
    keys: Sequence[bytes] = [chunk_key(manifest.slot, number) for number in range(manifest.chunks)]
    frozen = b"".join(chunks.get(key, b"") for key in keys)
    if len(frozen) != manifest.size_bytes or state_digest(frozen) != manifest.digest:
        raise SnapshotError("its chunks do not make the bytes that its manifest names: it is torn")
    return frozen
