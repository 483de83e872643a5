"""What a fault does to topics: snapshots cut short, changed, forged, of other versions; records deleted or added."""

from __future__ import annotations

import orjson
from msgspec import structs

from driftline.codec import manifest
from driftline.codec.journal import SliceEntry, encode_link, link
from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.codec.manifest import Manifest, decode_manifest, encode_manifest
from driftline.codec.write import Write
from driftline.core.error import DriftlineError
from driftline.core.pipeline import Pipeline
from driftline.core.place import input_name
from driftline.transport.port import Place
from tests.simulation.loads import KEY
from tests.simulation.scenario import Fault
from tests.support.cluster import Log, MemoryCluster

DAMAGES = ("torn", "garbled", "manifest", "river", "python", "format", "forged", "missing", "part", "no part")
_STRUCK = {"torn": ("head",), "garbled": ("head", "part"), "part": ("part",), "no part": ("part",)}


def spoil(log: Log, how: str, *, committed: bool) -> int | None:
    """Change the newest record that may be damaged in this way, where it lies.

    Args:
        committed: only what was.

    Returns:
        Its offset; None where there is no such record.
    """
    wanted = _STRUCK.get(how, ("manifest",))
    records = log.decided() if committed else log.read(log.start, log.end - log.start, committed=False)[0]
    for source in reversed(records):
        if source.key is not None and source.value is not None and _kind(source.key) in wanted:
            log.overwrite(source.offset, value=_damaged(source.value, how))
            return source.offset
    return None


def _kind(key: bytes) -> str:
    """What a record of the snapshots topic is: a manifest, a chunk of a head or of a part, or of a restored state."""
    if key.startswith(b"%d/" % manifest.RESTORED):
        return "restored"
    if key.endswith(b"manifest"):
        return "manifest"
    return "part" if key.count(b"/") == 2 else "head"


def _damaged(value: bytes, how: str) -> bytes | None:
    """The record's value after that."""
    match how:
        case "torn":
            return value[: len(value) // 2]
        case "no part":
            return None
        case "garbled" | "part":
            middle = len(value) // 2
            return value[:middle] + bytes([value[middle] ^ 0x20]) + value[middle + 1 :]
        case "manifest":
            return value[:-20]
    try:
        said: Manifest = decode_manifest(value, NO_KEYS)
    except DriftlineError:
        return value
    match how:
        case "river" | "python":
            said = structs.replace(said, versions={**said.versions, how: "0.0"})
        case "format":
            said = structs.replace(said, format=99)
        case "forged":
            forged = structs.replace(said, positions=dict.fromkeys(said.positions, 0))
            return encode_manifest(forged, KeyRing((b"someone else's",)))
    return encode_manifest(said, KEY)


def take_away(cluster: MemoryCluster, pipeline: Pipeline, fault: Fault, shard: int) -> str:
    """Retention deletes what was committed long ago, or what nobody has read; returns what it did, as text."""
    place = Place(pipeline.topics.events, fault.partition)
    log, read = cluster.log(place), 0
    for source in cluster.records(pipeline.topics.journal, shard):
        entry = orjson.loads(source.value or b"{}")
        part = entry.get("inputs", {}).get(input_name(*place, shard))
        read = max(read, part["stop"] if part else 0)
    offset = min(read // 2, log.end) if fault.arg == 0 else (read + log.end + 1) // 2
    cluster.delete_before(place, offset)
    return f"{place.topic}-{place.partition} begins at {offset}"


def write_stray(cluster: MemoryCluster, pipeline: Pipeline, shard: int) -> None:
    """A journal entry of a writer that is not the owner."""
    place = Place(pipeline.topics.journal, shard)
    entry = encode_link(link(SliceEntry(99, {}, None, 0, "00", None, 1), "f" * 32))
    cluster.append(place, [Write(*place, None, entry)])
