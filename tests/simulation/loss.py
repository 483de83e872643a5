"""Whether a worker may say that input is lost: only if nothing that is kept leads to where its shard stood."""

from __future__ import annotations

from collections.abc import Mapping

from driftline.codec.inputs import Inputs
from driftline.codec.journal import EpochEntry, SliceEntry, decode_link
from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.codec.manifest import (
    RESTORED,
    Manifest,
    Part,
    chunk_key,
    decode_index,
    decode_manifest,
    manifest_key,
    restored_key,
    state_digest,
)
from driftline.core.error import DriftlineError
from driftline.core.fingerprint import versions
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout, input_name
from driftline.core.state.migration import FORMAT, OLDEST
from driftline.engine.snapshot import joined
from tests.support.cluster import MemoryCluster


def is_lost(cluster: MemoryCluster, pipeline: Pipeline, partition: int, shards: int, river: str, ring: KeyRing) -> bool:
    """Whether a shard cannot go on without a gap.

    It can if nothing was removed that it has not read, and if what was removed lies before the journal's beginning, or
    before a whole snapshot of this River.
    """
    places = Layout(shards, cluster.partitions).places(Inputs(pipeline).topics, partition)
    kept_from = {input_name(*place, partition): cluster.log(place).start for place in places}
    begun, read = _positions(cluster, pipeline, partition, river)
    if any(read.get(topic, start) < start for topic, start in kept_from.items()):
        return True
    ours = (river, versions()["python"])
    whole = [
        one.positions
        for one in _whole(cluster, pipeline, partition, ring)
        if (one.versions["river"], one.versions["python"]) == ours
    ]
    return not any(
        all(positions.get(topic, start) >= start for topic, start in kept_from.items()) for positions in [begun, *whole]
    )


def _positions(
    cluster: MemoryCluster, pipeline: Pipeline, partition: int, river: str
) -> tuple[dict[str, int], dict[str, int]]:
    """Where the last epoch with a state of its own began (nowhere if it is gone), and how far the journal has read."""
    newest = _newest(cluster, pipeline, partition)
    begun: dict[str, int] = {}
    read: dict[str, int] = {}
    for source in cluster.decided(pipeline.topics.journal, partition):
        match decode_link(source.value).entry:
            case EpochEntry() as epoch:
                read.update(epoch.positions)
                if epoch.state == "fresh":
                    begun = dict(epoch.positions)
                elif epoch.state == "restored":
                    there = _is_there(newest, epoch, river)
                    begun = dict(epoch.positions) if there else dict.fromkeys(epoch.positions, -1)
            case SliceEntry() as entry:
                read.update({topic: part.stop for topic, part in entry.inputs.items()})
    return begun, read


def _newest(cluster: MemoryCluster, pipeline: Pipeline, partition: int) -> dict[bytes, bytes]:
    """What compaction would leave of the snapshots topic."""
    newest: dict[bytes, bytes] = {}
    for source in cluster.decided(pipeline.topics.snapshots, partition):
        if source.key is not None and source.value is not None:
            newest[source.key] = source.value
        elif source.key is not None:
            newest.pop(source.key, None)
    return newest


def _is_there(newest: Mapping[bytes, bytes], epoch: EpochEntry, river: str) -> bool:
    """Whether the state that an epoch began with is whole, and of this River."""
    value = newest.get(restored_key(str(epoch.restored)))
    if value is None:
        return False
    manifest = decode_manifest(value, NO_KEYS)
    if manifest.versions["river"] != river:
        return False
    try:
        head = b"".join(joined(Part(manifest.digest, manifest.size_bytes), RESTORED, newest))
        for row in decode_index(head[: manifest.index_bytes]):
            joined(row.body, RESTORED, newest)
            joined(row.marks, RESTORED, newest)
    except DriftlineError:
        return False
    return True


def _whole(cluster: MemoryCluster, pipeline: Pipeline, partition: int, ring: KeyRing) -> list[Manifest]:
    """The newest snapshot of each slot, if it can be read."""
    newest = _newest(cluster, pipeline, partition)
    found = []
    for name, value in newest.items():
        if name not in (manifest_key(0), manifest_key(1)):
            continue
        try:
            manifest = decode_manifest(value, ring)
        except DriftlineError:
            continue
        if OLDEST <= manifest.format <= FORMAT and _is_whole(manifest, newest):
            found.append(manifest)
    return found


def _is_whole(manifest: Manifest, newest: Mapping[bytes, bytes]) -> bool:
    """Whether head and parts are as they were named."""
    slot = manifest.slot
    head = b"".join(newest.get(chunk_key(slot, number), b"") for number in range(manifest.chunks))
    if state_digest(head) != manifest.digest:
        return False
    parts = [part for row in decode_index(head[: manifest.index_bytes]) for part in (row.body, row.marks)]
    return all(state_digest(b"".join(newest.get(key, b"") for key in part.keys(slot))) == part.digest for part in parts)
