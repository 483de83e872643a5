"""Where state comes from: snapshots that are whole, signed and of this version, else the journal; and what is
refused."""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.codec.manifest import chunk_key, decode_index, decode_manifest, encode_manifest, manifest_key
from driftline.codec.write import Write
from driftline.core.error import DigestMismatchError, InputLostError, InvariantError
from driftline.core.pipeline import Pipeline
from driftline.core.record import Source
from driftline.engine.start import Start
from driftline.transport.port import Place
from tests.parity.rig import (
    Life,
    check_exact,
    check_replay,
    epochs,
    journal,
    pipeline,
    produce,
    run_through,
    slices,
    state,
    tamper,
)
from tests.support.cluster import MemoryCluster
from tests.support.segment import segments_of

COUNT = 600
KEY = Start(ring=KeyRing((b"a key that this deployment has",)))


async def lived(
    chosen: Pipeline, *, start: Start | None = None, clean: bool = False, count: int = COUNT
) -> tuple[MemoryCluster, list[int]]:
    """A cluster on which a worker took everything in, and then died, or stopped."""
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    ids = produce(cluster, chosen, count)
    async with Life(cluster, chosen, start=start) as life:
        await life.until_done()
        await life.until(lambda: not life.live().writes_snapshot)
        await (life.stop() if clean else life.kill())
    return cluster, ids


def newest(cluster: MemoryCluster, chosen: Pipeline, key: bytes) -> Source:
    """The record of the snapshots topic that compaction would keep under a key."""
    return [source for source in cluster.records(chosen.topics.snapshots, 0) if source.key == key][-1]


def tear(cluster: MemoryCluster, chosen: Pipeline, slot: int) -> None:
    """Spoil one slot by the last bit of one number: it still reads, as another state."""
    source = newest(cluster, chosen, chunk_key(slot, 0))
    spoilt = bytearray(source.value or b"")
    state = bytes(spoilt[int(orjson.loads(newest(cluster, chosen, manifest_key(slot)).value or b"")["index_bytes"]) :])
    at = next(at for code, _, at in pickletools.genops(state) if code.name == "BINFLOAT" and at is not None)
    spoilt[at + 8 - len(state)] ^= 1
    tamper(cluster, Place(chosen.topics.snapshots, 0), source.offset, bytes(spoilt))


def offset_of(cluster: MemoryCluster, chosen: Pipeline, slot: int) -> int:
    """The journal entry that a slot's snapshot follows."""
    value = newest(cluster, chosen, manifest_key(slot)).value
    return int(orjson.loads(value or b"")["journal_offset"])


async def recovered_slices(cluster: MemoryCluster, chosen: Pipeline, ids: list[int], start: Start | None = None) -> int:
    """Start a worker, and return how many slices it folded again; all must be as it was."""
    async with Life(cluster, chosen, start=start) as life:
        await life.until_done()
        check_exact(cluster, chosen, ids)
        await check_replay(cluster, chosen, life)
        assert life.runner().tally.recovery_unverifiable == 0
        return life.runner().tally.recovery_slices


@pytest.fixture
def frequent() -> Pipeline:
    """A pipeline with several snapshots in a run."""
    return pipeline(snapshot={"every_records": 400})


def slices_behind(cluster: MemoryCluster, chosen: Pipeline, journal_offset: int) -> int:
    """How many slices the journal has behind an offset."""
    entries = cluster.records(chosen.topics.journal, 0)
    return sum(1 for source in entries if source.offset > journal_offset and b'"slice"' in (source.value or b""))


async def test_the_newest_whole_snapshot_is_taken(frequent: Pipeline) -> None:
    cluster, ids = await lived(frequent)
    offsets = [offset_of(cluster, frequent, slot) for slot in (0, 1)]
    behind = slices_behind(cluster, frequent, max(offsets))
    assert await recovered_slices(cluster, frequent, ids) == behind < len(slices(cluster, frequent))


async def test_a_torn_slot_gives_way_to_the_older_one(frequent: Pipeline) -> None:
    cluster, ids = await lived(frequent)
    offsets = [offset_of(cluster, frequent, slot) for slot in (0, 1)]
    tear(cluster, frequent, offsets.index(max(offsets)))
    behind = slices_behind(cluster, frequent, min(offsets))
    assert await recovered_slices(cluster, frequent, ids) == behind > slices_behind(cluster, frequent, max(offsets))


async def test_both_slots_torn_leave_the_journal_from_its_beginning(frequent: Pipeline) -> None:
    cluster, ids = await lived(frequent)
    for slot in (0, 1):
        tear(cluster, frequent, slot)
    assert await recovered_slices(cluster, frequent, ids) == len(slices(cluster, frequent))


async def test_a_snapshot_cut_short_by_a_death_spoils_its_own_slot_only(frequent: Pipeline) -> None:
    """Chunks of the next snapshot over those of the older one, and no manifest."""
    cluster, ids = await lived(frequent)
    offsets = [offset_of(cluster, frequent, slot) for slot in (0, 1)]
    older = offsets.index(min(offsets))
    place = Place(frequent.topics.snapshots, 0)
    cluster.append(place, [Write(*place, chunk_key(older, 0), b"the beginning of another state")])
    assert await recovered_slices(cluster, frequent, ids) == slices_behind(cluster, frequent, max(offsets))


@pytest.mark.parametrize("count", [COUNT, 760])
async def test_the_snapshot_that_was_recovered_from_is_not_the_first_to_be_overwritten(
    frequent: Pipeline, count: int
) -> None:
    """With the larger count the second life leaves two, and overwrites both in turn."""
    cluster, ids = await lived(frequent, count=count)
    offsets = [offset_of(cluster, frequent, slot) for slot in (0, 1)]
    newer = offsets.index(max(offsets))
    before = len(cluster.records(frequent.topics.snapshots, 0))
    async with Life(cluster, frequent) as life:
        await life.until_done()
        ids += produce(cluster, frequent, 100, first=1_000)
        await life.until_done()
        await life.stop()
    # One or two, as slices fell: what was folded again counts towards the next snapshot.
    written = [source.key for source in cluster.records(frequent.topics.snapshots, 0)[before:]]
    manifests = [key for key in written if key in (manifest_key(0), manifest_key(1))]
    assert (written[0] or b"").startswith(b"%d/" % (1 - newer))
    assert manifests[:1] == [manifest_key(1 - newer)]
    assert offset_of(cluster, frequent, 1 - newer) > max(offsets)
    assert await recovered_slices(cluster, frequent, ids) == 0


async def test_a_snapshot_of_another_journal_is_refused(frequent: Pipeline) -> None:
    """A manifest must name the entry that it follows, by offset and chain."""
    cluster, ids = await lived(frequent)
    for slot in (0, 1):
        source = newest(cluster, frequent, manifest_key(slot))
        manifest = {**orjson.loads(source.value or b""), "chain": "0" * 32}
        tamper(cluster, Place(frequent.topics.snapshots, 0), source.offset, orjson.dumps(manifest))
    assert await recovered_slices(cluster, frequent, ids) == len(slices(cluster, frequent))


@pytest.mark.parametrize(
    "change", [{"format": 0}, {"partition": 3}, {"versions": {"river": "0.1"}}, {"journal_offset": 10_000}]
)
async def test_a_snapshot_of_another_kind_is_refused(frequent: Pipeline, change: dict[str, Any]) -> None:
    cluster, ids = await lived(frequent)
    for slot in (0, 1):
        source = newest(cluster, frequent, manifest_key(slot))
        manifest = {**orjson.loads(source.value or b""), **change}
        tamper(cluster, Place(frequent.topics.snapshots, 0), source.offset, orjson.dumps(manifest))
    assert await recovered_slices(cluster, frequent, ids) == len(slices(cluster, frequent))


@pytest.mark.parametrize("ring", [NO_KEYS, KeyRing((b"another key of this length",))], ids=["unsigned", "foreign"])
async def test_snapshots_are_signed_and_others_left_out(frequent: Pipeline, ring: KeyRing) -> None:
    """The journal is sealed, and takes their place; keys that are set, rotated or lost are in `test_keys`."""
    cluster, ids = await lived(frequent, start=KEY, clean=True)
    assert await recovered_slices(cluster, frequent, ids, KEY) == 0
    for slot in (0, 1):
        source = newest(cluster, frequent, manifest_key(slot))
        manifest = decode_manifest(source.value or b"", KEY.ring)
        tamper(cluster, Place(frequent.topics.snapshots, 0), source.offset, encode_manifest(manifest, ring))
    assert await recovered_slices(cluster, frequent, ids, KEY) == len(slices(cluster, frequent))


# -- segments of the ledger, which snapshots keep from one to the next


@pytest.fixture
def segmented() -> Iterator[Pipeline]:
    """Frequent snapshots of a ledger in many segments, whose labels come much later and may be corrected."""
    with segments_of(4):
        yield pipeline(
            snapshot={"every_records": 120},
            dedupe={"max": 300},
            label={"second": "correct", "correct_for": "2m"},
            limits={"slice_records_max": 40, "slice_compute_max": "10s"},
        )


def parts(cluster: MemoryCluster, chosen: Pipeline, slot: int) -> list[bytes]:
    """Keys of the first chunks of a slot's parts: bodies and marks in turn."""
    manifest = orjson.loads(newest(cluster, chosen, manifest_key(slot)).value or b"")
    head = newest(cluster, chosen, chunk_key(slot, 0)).value or b""
    rows = decode_index(head[: manifest["index_bytes"]])
    return [part.keys(slot)[0] for row in rows for part in (row.body, row.marks)]


def spoil(cluster: MemoryCluster, chosen: Pipeline, key: bytes, how: str) -> None:
    """Change one record of the snapshots topic where it lies, or write a null over it."""
    place = Place(chosen.topics.snapshots, 0)
    source = newest(cluster, chosen, key)
    value = source.value or b""
    if how == "missing":
        cluster.append(place, [Write(*place, key, None)])
        return
    changed = bytearray(value if how == "bit" else b"")
    if changed:
        changed[len(changed) // 2] ^= 1
    tamper(cluster, place, source.offset, bytes(changed))


async def test_segments_are_kept_from_snapshot_to_snapshot(segmented: Pipeline) -> None:
    """And what is recovered from the last one is what the survivor held, bit for bit."""
    cluster = MemoryCluster()
    cluster.create_for(segmented, 1)
    ids = produce(cluster, segmented, COUNT, delay_steps=60)
    async with Life(cluster, segmented) as life:
        await life.until_done()
        await life.until(lambda: not life.live().writes_snapshot)
        survivor = state(life.live().shard)
        await life.kill()
    written = [source.key for source in cluster.records(segmented.topics.snapshots, 0) if source.value is not None]
    snapshots = sum(key in (manifest_key(0), manifest_key(1)) for key in written)
    bodies = sum((key or b"").count(b"/") == 2 for key in written)
    whole = len(parts(cluster, segmented, 0))
    assert snapshots > 8
    assert bodies < 0.75 * snapshots * whole
    async with Life(cluster, segmented) as life:
        await life.until_done()
        assert state(life.live().shard) == survivor
        ids += produce(cluster, segmented, 200, first=1_000, delay_steps=60)
        await life.until_done()
        await life.until(lambda: not life.live().writes_snapshot)
        check_exact(cluster, segmented, ids)
        await check_replay(cluster, segmented, life)
        survivor = state(life.live().shard)
        await life.kill()
    async with Life(cluster, segmented) as life:
        await life.until_done()
        assert state(life.live().shard) == survivor


@pytest.mark.parametrize("which", [0, 1, -2, -1])
@pytest.mark.parametrize("how", ["missing", "empty", "bit"])
async def test_a_spoilt_segment_gives_way_to_the_older_slot(segmented: Pipeline, which: int, how: str) -> None:
    cluster, ids = await lived(segmented)
    offsets = [offset_of(cluster, segmented, slot) for slot in (0, 1)]
    newer = offsets.index(max(offsets))
    spoil(cluster, segmented, parts(cluster, segmented, newer)[which], how)
    behind = slices_behind(cluster, segmented, min(offsets))
    assert await recovered_slices(cluster, segmented, ids) == behind > slices_behind(cluster, segmented, max(offsets))


async def test_spoilt_segments_in_both_slots_leave_the_journal_from_its_beginning(segmented: Pipeline) -> None:
    cluster, ids = await lived(segmented)
    for slot, how in ((0, "missing"), (1, "bit")):
        spoil(cluster, segmented, parts(cluster, segmented, slot)[2], how)
    assert await recovered_slices(cluster, segmented, ids) == len(slices(cluster, segmented))


async def test_a_spoilt_slot_is_whole_again_with_its_next_snapshot_after_a_recovery(segmented: Pipeline) -> None:
    cluster, ids = await lived(segmented)
    offsets = [offset_of(cluster, segmented, slot) for slot in (0, 1)]
    newer = offsets.index(max(offsets))
    spoil(cluster, segmented, parts(cluster, segmented, newer)[0], "bit")
    await run_through(cluster, segmented)
    assert offset_of(cluster, segmented, newer) >= max(offsets)
    assert await recovered_slices(cluster, segmented, ids) == 0


# -- what was tampered with, or is gone


async def test_a_changed_input_is_found_out() -> None:
    chosen = pipeline()
    cluster, _ = await lived(chosen)
    place = Place(chosen.topics.events, 0)
    source = cluster.records(chosen.topics.events, 0)[300]
    tamper(cluster, place, 300, orjson.dumps({**orjson.loads(source.value or b""), "z": 0.123}))
    async with Life(cluster, chosen) as life:
        error = await life.fails()
    assert isinstance(error, DigestMismatchError)
    assert "--reset-state" in str(error)


async def test_a_changed_digest_in_the_journal_breaks_the_chain() -> None:
    chosen = pipeline()
    cluster, _ = await lived(chosen)
    source = cluster.records(chosen.topics.journal, 0)[3]
    document = orjson.loads(source.value or b"")
    document["digest"] = "00" * 16
    tamper(cluster, Place(chosen.topics.journal, 0), source.offset, orjson.dumps(document))
    async with Life(cluster, chosen) as life:
        error = await life.fails()
    assert isinstance(error, InvariantError)
    assert "does not follow the one before" in str(error)


async def test_a_stranger_in_the_journal_is_found_out() -> None:
    chosen = pipeline()
    cluster, _ = await lived(chosen)
    place = Place(chosen.topics.journal, 0)
    cluster.append(place, [Write(*place, None, b'{"hello": "world"}')])
    async with Life(cluster, chosen) as life:
        error = await life.fails()
    assert isinstance(error, InvariantError)
    assert "not a journal entry" in str(error)


async def test_input_that_expired_before_it_was_read_is_an_error_or_a_gap() -> None:
    chosen = pipeline()
    cluster, ids = await lived(chosen, clean=True)
    lost = produce(cluster, chosen, 50, first=1_000)
    kept = produce(cluster, chosen, 50, first=1_100)
    for topic in (chosen.topics.events, chosen.topics.labels or ""):
        cluster.delete_before(Place(topic, 0), COUNT + len(lost))
    async with Life(cluster, chosen) as life:
        error = await life.fails()
    assert isinstance(error, InputLostError)
    assert "--on-gap continue" in str(error)
    async with Life(cluster, chosen, start=Start(gap_continue=True)) as life:
        await life.until_done()
        check_exact(cluster, chosen, ids + kept)
        assert life.shard().counts["learned"] == COUNT + len(kept)
        await life.stop()
    assert [(entry.reason, entry.state) for entry in epochs(cluster, chosen)] == [("first", "fresh"), ("gap", "kept")]
    async with Life(cluster, chosen) as life:  # and without asking again
        await life.until_done()
        assert life.shard().counts["learned"] == COUNT + len(kept)


async def test_input_that_recovery_needs_is_an_error_or_a_fresh_start() -> None:
    chosen = pipeline()
    cluster, ids = await lived(chosen)
    cluster.delete_before(Place(chosen.topics.events, 0), 10)
    async with Life(cluster, chosen) as life:
        error = await life.fails()
    assert isinstance(error, InputLostError)
    async with Life(cluster, chosen, start=Start(gap_continue=True)) as life:
        await life.until_done()
        more = produce(cluster, chosen, 30, first=1_000)
        await life.until_done()
        check_exact(cluster, chosen, ids + more)
        assert life.shard().counts["learned"] == len(more)
        await check_follows(cluster, chosen, life)


async def test_behind_a_gap_the_model_that_can_be_read_goes_on() -> None:
    """A snapshot holds it, and what came after the snapshot cannot be folded again."""
    chosen = pipeline(snapshot={"every_records": 500})
    cluster, ids = await lived(chosen)
    newest_offset = max(offset_of(cluster, chosen, slot) for slot in (0, 1))
    assert slices_behind(cluster, chosen, newest_offset) > 0
    for topic in (chosen.topics.events, chosen.topics.labels or ""):
        cluster.delete_before(Place(topic, 0), COUNT)
    async with Life(cluster, chosen) as life:
        error = await life.fails()
    assert isinstance(error, InputLostError)
    async with Life(cluster, chosen, start=Start(gap_continue=True)) as life:
        await life.until_done()
        kept = life.shard().counts["learned"]
        assert 0 < kept < COUNT, "as the snapshot has it"
        more = produce(cluster, chosen, 50, first=1_000)
        await life.until_done()
        check_exact(cluster, chosen, ids + more)
        assert life.shard().counts["learned"] == kept + len(more)
        survivor = state(life.shard())
        await life.kill()
    assert [(one.reason, one.state) for one in epochs(cluster, chosen)] == [("first", "fresh"), ("gap", "restored")]
    place = Place(chosen.topics.snapshots, 0)
    cluster.append(place, [Write(*place, manifest_key(slot), None) for slot in (0, 1)])
    async with Life(cluster, chosen) as life:  # and without asking again, from that state alone
        await life.until_done()
        assert state(life.shard()) == survivor
        assert life.runner().tally.recovery_unverifiable == 0


async def check_follows(cluster: MemoryCluster, chosen: Pipeline, life: Life) -> None:
    """The journal goes on in one chain, into the fresh epoch."""
    entries = journal(cluster, chosen)
    assert life.live().chain == entries[-1].chain
    assert [(entry.number, entry.state) for entry in epochs(cluster, chosen)] == [(1, "fresh"), (2, "fresh")]
