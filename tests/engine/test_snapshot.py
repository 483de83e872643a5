"""Snapshots record by record: what is written, what is not written again, and what is made of it when it is read."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from driftline.codec.keyring import NO_KEYS, KeyRing
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
    state_digest,
)
from driftline.codec.write import Write
from driftline.core.error import SnapshotError
from driftline.core.label.pending import Waiting
from driftline.core.output import ModelVersion, Prediction, Unserved
from driftline.core.pipeline import Pipeline
from driftline.core.record import Source
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import Frozen, dump, frozen_digest, load
from driftline.core.state.migration import FORMAT, OLDEST
from driftline.engine import snapshot
from driftline.engine.fold import Folder
from driftline.engine.snapshot import Shelf, SnapshotWriter, read_shelf
from driftline.transport.port import Place
from tests.support.segment import segments_of
from tests.support.small import NOW_MS, event, fold, label, small

KEY = KeyRing((b"a key that this deployment has",))
ENTRY = "%032x"


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Segments of eight events, and a few records a commit."""
    monkeypatch.setattr(snapshot, "RECORDS_A_COMMIT", 3)
    monkeypatch.setattr(snapshot, "REWRITE_BYTES", 0)
    with segments_of(3):
        yield


class Topic:
    """The snapshots topic after compaction, and all that was ever written to it."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}
        self.written: list[Write] = []

    def write(self, write: Write) -> None:
        self.written.append(write)
        if write.key is None:
            raise AssertionError("a record without a key would never be removed")
        if write.value is None:
            self.records.pop(write.key, None)
        else:
            self.records[write.key] = write.value

    def since(self, count: int) -> dict[str, list[bytes]]:
        """Keys written since then, by what they are."""
        found: dict[str, list[bytes]] = {"part": [], "head": [], "manifest": [], "removal": []}
        for write in self.written[count:]:
            key = write.key or b""
            kind = "part" if key.count(b"/") == 2 else "manifest" if key.endswith(b"manifest") else "head"
            found["removal" if write.value is None else kind].append(key)
        return found

    def keys(self, kind: str) -> set[bytes]:
        wanted = {"part": 2, "head": 1}[kind]
        return {key for key in self.records if key.count(b"/") == wanted and not key.endswith(b"manifest")}

    async def shelf(self, key: KeyRing = NO_KEYS) -> Shelf:
        return await read_shelf(lambda: self, Place("p.snapshots", 0), key)

    async def open(self, starts: Any) -> None: ...

    async def read(self, place: Place, count_max: int, stop: int | None = None) -> Sequence[Source]:
        """Everything, once."""
        taken, self._read = not getattr(self, "_read", False), not getattr(self, "_read", False)
        return [Source(place.topic, 0, 0, 0, key, value) for key, value in self.records.items()] if taken else ()

    async def close(self) -> None: ...


class Life:
    """A shard, its writer and its topic."""

    def __init__(self, **sections: Any) -> None:
        given: dict[str, Any] = {"second": "correct", "correct_for": "40s", "pending_max": 60, **sections}
        self.pipeline: Pipeline = small(label=given, dedupe={"max": 100})
        self.shard = Shard(self.pipeline, 0)
        self.topic = Topic()
        self.writer = SnapshotWriter(self.pipeline, 0, 0, NO_KEYS)
        self.rng = random.Random(5)
        self.number = 0
        self.entry = 0
        self.offset = 0

    def fold(self, events: int, labels: int = 0) -> None:
        """Events, and labels for some of those that may be known."""
        for number in range(max(events, labels)):
            now_ms = NOW_MS + self.number * 1_000
            if number < events:
                fold(self.shard, event(self.number, now_ms, self.rng.gauss(0, 1), offset=self.number))
                self.number += 1
            if number < labels:
                about = self.number - self.rng.randrange(1, 70)
                fold(self.shard, label(about, self.rng.random() < 0.5, now_ms, offset=self.offset))
                self.offset += 1

    def take(self) -> bytes:
        """Begin a snapshot; returns the state that it is of."""
        self.entry += 1
        self.writer.take(Folder(self.shard, {"p.events": self.number}), ENTRY % self.entry, self.entry, 1)
        return dump(self.shard)

    def write(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.writer.committed(self.entry)
        while self.writer.writing:
            for write in self.writer.next_writes():
                self.topic.write(write)
            meanwhile()

    def snapshot(self) -> bytes:
        state = self.take()
        self.write()
        return state

    async def recover(self) -> None:
        """Go on from the newest snapshot, as recovery does."""
        shelf = await self.topic.shelf()
        manifest, frozen = shelf.snapshots[0]
        self.shard = load(self.pipeline, 0, frozen)
        shelf.mark(self.shard.pending, manifest)
        self.writer = SnapshotWriter(self.pipeline, 0, 1 - manifest.slot, NO_KEYS, shelf=shelf)

    def state(self, frozen: bytes | Frozen) -> bytes:
        return frozen_digest(self.pipeline, 0, frozen)


async def test_a_snapshot_is_of_its_edge_whatever_is_folded_while_it_is_written() -> None:
    here = Life()
    for _ in range(12):
        here.fold(25, 30)
        state = here.take()
        here.write(lambda: here.fold(1, 2))
        (_, frozen), *_ = (await here.topic.shelf()).snapshots
        assert here.state(frozen) == here.state(state)
        assert here.state(frozen) != here.state(dump(here.shard))
    assert here.shard.counts["corrected"] > 20
    assert here.shard.counts["duplicate"] > 5
    assert here.shard.counts["expired"] > 50, "as many as pending_max wait, and each event crowds one out"
    assert len(here.shard.pending) <= 60
    assert all(segment.before is None for segment in here.shard.pending.segments), "a view is still held on to"


@pytest.mark.slow
async def test_the_other_slot_is_whole_at_every_moment_of_the_writing() -> None:
    """So a death, wherever it comes, costs the older snapshot at most."""
    here = Life()
    here.fold(50, 20)
    before = here.snapshot()
    for _ in range(5):
        here.fold(20, 25)
        state = here.take()
        here.writer.committed(here.entry)
        while here.writer.writing:
            for write in here.writer.next_writes():
                here.topic.write(write)
                found = (await here.topic.shelf()).snapshots
                newest = state if write.key in (manifest_key(0), manifest_key(1)) else before
                assert here.state(found[0][1]) == here.state(newest)
        before = state


async def test_what_a_slot_has_is_not_written_again() -> None:
    here = Life()
    here.fold(50, 20)
    here.snapshot()
    here.snapshot()
    whole = here.topic.since(0)
    assert len(whole["part"]) == 2 * 2 * 7  # of two slots, a body and its marks for each segment
    count = len(here.topic.written)
    here.snapshot()
    # The last segment is not full; it is kept as it is, too, as nothing came.
    assert here.topic.since(count) == {
        "part": [],
        "head": [chunk_key(0, 0)],
        "manifest": [manifest_key(0)],
        "removal": [],
    }


async def test_labels_cost_marks_and_events_cost_bodies() -> None:
    here = Life()
    here.fold(48)
    here.snapshot()
    here.snapshot()
    rows = (await here.topic.shelf()).rows[0]
    fold(here.shard, label(9, True, NOW_MS + 48_000))
    count = len(here.topic.written)
    here.snapshot()
    again = (await here.topic.shelf()).rows[0]
    assert [row.body for row in again] == [row.body for row in rows]
    assert [one.number for one, other in zip(rows, again, strict=True) if one.marks != other.marks] == [1]
    assert here.topic.since(count)["part"] == again[1].marks.keys(0)
    assert here.topic.since(count)["removal"] == rows[1].marks.keys(0)
    here.fold(8)
    count = len(here.topic.written)
    here.snapshot()  # the other slot: it has not the new marks either
    assert len(here.topic.since(count)["part"]) == 3


async def test_the_topic_keeps_what_the_two_snapshots_need_and_nothing_else() -> None:
    here = Life()
    for _ in range(20):
        here.fold(30, 20)
        here.snapshot()
    shelf = await here.topic.shelf()
    assert len(shelf.snapshots) == 2
    needed = {key for slot in (0, 1) for part in shelf.parts(slot) for key in part.keys(slot)}
    assert here.topic.keys("part") == needed
    assert len(here.topic.keys("part")) <= 2 * 2 * len(here.shard.pending.segments) + 8


async def test_a_body_is_written_anew_once_half_of_it_is_gone() -> None:
    """What a slot holds is bounded by twice what is needed, and an event is written twice at most for it."""
    here = Life(second="ignore", correct_for="0s")
    here.fold(8)
    here.snapshot()
    carried = []
    for number in range(8):
        fold(here.shard, label(number, True, NOW_MS + 8_000, offset=number))
        here.writer.slot = 0
        here.snapshot()
        carried.append((await here.topic.shelf()).rows[0][0].carried)
    assert carried == [8, 8, 8, 8, 3, 3, 1, 0]


async def test_a_smaller_body_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "REWRITE_BYTES", 10_000)
    here = Life(second="ignore", correct_for="0s")
    here.fold(8)
    here.snapshot()
    fold(here.shard, *(label(number, True, NOW_MS + 8_000, offset=number) for number in range(8)))
    here.snapshot()
    here.snapshot()
    assert (await here.topic.shelf()).rows[0][0].carried == 8


async def test_a_recovered_shard_writes_no_more_than_the_survivor() -> None:
    here, survivor = Life(), Life()
    for one in (here, survivor):
        for events in (100, 15, 15):
            one.fold(events, 10)
            one.snapshot()
    await here.recover()
    assert here.state(dump(here.shard)) == here.state(dump(survivor.shard))
    for _ in range(4):  # both slots in turn
        count = len(survivor.topic.written)
        assert count == len(here.topic.written)
        states = [one.snapshot() for one in (here, survivor)]
        assert here.state((await here.topic.shelf()).snapshots[0][1]) == here.state(states[0]) == here.state(states[1])
        kinds = [{kind: len(keys) for kind, keys in one.topic.since(count).items()} for one in (here, survivor)]
        assert kinds[0] == kinds[1]
        assert kinds[0]["part"] < 2 * len(here.shard.pending.segments)
        for one in (here, survivor):
            one.fold(9, 10)


async def test_what_was_predicted_and_not_served_is_kept() -> None:
    here = Life()
    here.fold(20)
    version = ModelVersion(1, 2)
    unserved = (Unserved("model", Prediction(), ModelVersion(0, 0)), Unserved("b", Prediction(True), version))
    waiting = Waiting(20, b"k", NOW_MS, (1.0, "a"), Prediction(False), version, unserved)
    place = here.shard.pending.add("both", NOW_MS + 20_000, waiting)
    here.snapshot()
    await here.recover()
    assert here.shard.pending.at(place).waiting == waiting


async def test_what_lies_in_the_other_slot_is_of_use_only_if_this_state_came_out_of_it() -> None:
    """A topic that was taken over from another journal has segments of the same numbers, and other events."""
    other, here = Life(), Life()
    here.rng.seed(6)
    other.fold(50, 20)
    other.snapshot()
    other.snapshot()
    here.topic = other.topic
    here.fold(50, 20)
    here.snapshot()
    ours = decode_manifest(here.topic.records[manifest_key(0)], NO_KEYS)
    here.topic.records[manifest_key(0)] = encode_manifest(structs.replace(ours, journal_offset=1_000), NO_KEYS)
    await here.recover()
    assert here.writer.slot == 1
    state = here.snapshot()
    frozen = next(one for manifest, one in (await here.topic.shelf()).snapshots if manifest.slot == 1)
    assert here.state(frozen) == here.state(state)


async def test_a_fresh_state_writes_all_of_it_and_removes_what_was_there() -> None:
    """Its segments have the numbers of those before."""
    here = Life()
    here.fold(50, 20)
    here.snapshot()
    here.snapshot()
    shelf = await here.topic.shelf()
    here.shard = Shard(here.pipeline, 0)
    here.writer = SnapshotWriter(here.pipeline, 0, 0, NO_KEYS, shelf=shelf)
    here.fold(10)
    state = here.snapshot()
    here.snapshot()
    assert all(here.state(frozen) == here.state(state) for _, frozen in (await here.topic.shelf()).snapshots)
    assert len(here.topic.keys("part")) == 2 * 2 * 2


async def test_after_another_writer_may_have_been_there_all_is_written() -> None:
    here = Life()
    here.fold(50, 20)
    here.snapshot()
    here.snapshot()
    here.take()
    here.writer.committed(here.entry)
    for write in here.writer.next_writes():
        here.topic.write(write)
    here.writer.distrust()
    assert not here.writer.writing
    for key in [*here.topic.keys("part")]:
        del here.topic.records[key]
    for _ in range(2):
        here.fold(2, 2)
        state = here.snapshot()
        assert here.state((await here.topic.shelf()).snapshots[0][1]) == here.state(state)
    assert len((await here.topic.shelf()).snapshots) == 2


async def test_what_was_spoilt_is_whole_again_in_time_though_nobody_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "REFRESH_SNAPSHOTS", 4)
    here = Life()
    here.fold(50, 20)
    here.snapshot()
    here.snapshot()
    for key in here.topic.keys("part"):
        here.topic.records[key] = b"spoilt"
    whole = []
    for _ in range(8):
        here.fold(0, 2)
        here.snapshot()
        whole.append(len((await here.topic.shelf()).snapshots))
    assert whole[0] == 0
    assert whole[-1] == 2
    assert here.state((await here.topic.shelf()).snapshots[0][1]) == here.state(dump(here.shard))
    assert len(here.topic.keys("part")) == 2 * 2 * 7


async def test_a_head_that_shrinks_leaves_no_chunks_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftline.codec.manifest.CHUNK_BYTES", 500)
    here = Life()
    here.fold(50)
    here.snapshot()
    assert (before := len(here.topic.keys("head"))) > 3
    here.shard = Shard(here.pipeline, 0)
    here.writer.slot = 0
    state = here.snapshot()
    assert 0 < len(here.topic.keys("head")) < before
    assert here.state((await here.topic.shelf()).snapshots[0][1]) == here.state(state)


# -- read with suspicion


async def spoilt(here: Life, how: Callable[[dict[bytes, bytes]], None], key: KeyRing = NO_KEYS) -> int:
    """How many whole snapshots are left."""
    how(here.topic.records)
    return len((await here.topic.shelf(key)).snapshots)


def parts_of(here: Life, slot: int) -> list[Part]:
    manifest = decode_manifest(here.topic.records[manifest_key(slot)], NO_KEYS)
    head = b"".join(here.topic.records[chunk_key(slot, number)] for number in range(manifest.chunks))
    return [part for row in decode_index(head[: manifest.index_bytes]) for part in (row.body, row.marks)]


@pytest.mark.parametrize("which", [0, 1, -1])
@pytest.mark.parametrize("how", ["missing", "torn", "longer", "one bit", "another"])
async def test_a_segment_that_is_not_as_it_was_spoils_its_slot_alone(which: int, how: str) -> None:
    here = Life()
    here.fold(50, 20)
    state = here.snapshot()
    here.fold(5, 5)
    here.snapshot()
    records = here.topic.records
    key, other = parts_of(here, 1)[which].keys(1)[0], parts_of(here, 1)[which - 2].keys(1)[0]
    value = records[key]
    if how == "missing":
        del records[key]
    else:
        changed = {"torn": value[:-1], "longer": value + b".", "another": records[other]}
        records[key] = changed.get(how, value[:20] + bytes([value[20] ^ 1]) + value[21:])
    ((manifest, frozen),) = (await here.topic.shelf()).snapshots
    assert manifest.slot == 0
    assert here.state(frozen) == here.state(state)


@pytest.mark.parametrize("key", [NO_KEYS, KEY])
async def test_an_index_that_names_other_segments_is_refused(key: KeyRing) -> None:
    """Both are whole; the manifest's digest, which is signed, is over the index."""
    here = Life()
    here.writer.ring = key
    here.fold(50, 20)
    here.snapshot()
    assert len((await here.topic.shelf(key)).snapshots) == 1
    manifest = decode_manifest(here.topic.records[manifest_key(0)], key)
    head = here.topic.records[chunk_key(0, 0)]
    rows = decode_index(head[: manifest.index_bytes])
    swapped = encode_index([rows[1], rows[0], *rows[2:]])
    here.topic.records[chunk_key(0, 0)] = swapped + head[manifest.index_bytes :]
    assert (await here.topic.shelf(key)).snapshots == []


async def test_of_another_slot_or_format_is_refused() -> None:
    here = Life()
    here.fold(20)
    here.snapshot()
    records = here.topic.records
    here.topic.records = {b"1" + key[1:]: value for key, value in records.items()}
    assert (await here.topic.shelf()).snapshots == []
    older = structs.replace(decode_manifest(records[manifest_key(0)], NO_KEYS), format=OLDEST - 1)
    here.topic.records = {**records, manifest_key(0): encode_manifest(older, NO_KEYS)}
    assert (await here.topic.shelf()).snapshots == []
    here.topic.records = records
    assert len((await here.topic.shelf()).snapshots) == 1


def _row(**changed: Any) -> Row:
    part = Part(state_digest(b"state"), 5)
    return structs.replace(Row(0, True, 3, part, part), **changed)


@settings(max_examples=200, deadline=None)
@given(value=st.binary(max_size=60) | st.lists(st.integers() | st.text(max_size=5)).map(repr).map(str.encode))
def test_an_index_is_read_or_refused(value: bytes) -> None:
    try:
        rows = decode_index(value)
    except SnapshotError:
        return
    assert decode_index(encode_index(rows)) == rows


def test_an_index_that_names_a_part_again_and_again_is_refused() -> None:
    """Each time all of the part would be read."""
    with pytest.raises(SnapshotError, match="twice"):
        decode_index(encode_index([_row()]))


@pytest.mark.parametrize(
    "rows",
    [
        [_row(body=Part("00", 10**18))],
        [_row(marks=Part("", 0))],
        [_row(marks=Part("\x00\u00e9", 5))],
        [_row(body=Part(state_digest(b"state"), -5))],
        [_row(), _row()],  # two of one number, or bytes that are no segment
    ],
)
async def test_an_index_that_was_tampered_with_gives_no_state(rows: list[Row]) -> None:
    head = encode_index(rows) + b"rest"
    manifest = Manifest(
        FORMAT, 0, 0, 1, ENTRY % 1, 1, 1, {}, 1, len(head), state_digest(head), {}, {}, "a", NOW_MS,
        index_bytes=len(head) - 4,
    )  # fmt: skip
    topic = Topic()
    topic.records = {chunk_key(0, 0): head, manifest_key(0): encode_manifest(manifest, NO_KEYS)}
    topic.records |= dict.fromkeys(_row().body.keys(0), b"state")
    for _, frozen in (await topic.shelf()).snapshots:
        with pytest.raises(SnapshotError):
            load(small(), 0, frozen)
