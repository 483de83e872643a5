"""`verify` passes what is right, and names the first thing that is not: slice, place, field, expected and found.

A worker lives on a cluster in memory; then something is changed where it lies, as no client could.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from msgspec import structs

from driftline.codec.journal import decode_link, encode_link, link
from driftline.codec.write import Write
from driftline.core import fingerprint
from driftline.core.error import InputLostError
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout
from driftline.core.record import Source
from driftline.engine.published import Difference
from driftline.engine.start import Start
from driftline.operate.verify import ShardAudit, Span, audit_shards
from driftline.transport.port import Place
from tests.parity.rig import NOW_MS, Death, Life, epochs, pipeline, produce, run_through, slices, tamper
from tests.support.cluster import Entry, MemoryCluster
from tests.support.memory import MemoryBroker

COUNT = 600
ALL = Span(outputs=True)


async def lived(chosen: Pipeline, *, partitions: int = 1, clean: bool = False) -> MemoryCluster:
    """A cluster on which a worker took everything in, bad records too."""
    cluster = MemoryCluster()
    cluster.create_for(chosen, partitions)
    for partition in range(partitions):
        cluster.produce(chosen.topics.events, partition, b"not json", NOW_MS)
    produce(cluster, chosen, COUNT, partitions=partitions)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        await life.until(lambda: not any(life.live(number).writes_snapshot for number in range(partitions)))
        await (life.stop() if clean else life.kill())
    return cluster


async def audited(cluster: MemoryCluster, chosen: Pipeline, span: Span = ALL) -> list[ShardAudit]:
    count = cluster.partitions[chosen.topics.events]
    return list(await audit_shards(MemoryBroker(cluster, chosen, client="audit"), chosen, Layout(count), span))


async def difference(cluster: MemoryCluster, chosen: Pipeline, span: Span = ALL) -> Difference:
    found = (await audited(cluster, chosen, span))[-1].difference
    assert found is not None
    return found


def change(cluster: MemoryCluster, place: Place, at: int, **changes: Any) -> int:
    """Put other values into the JSON of the nth readable record; returns its offset."""
    source = cluster.records(*place)[at]
    tamper(cluster, place, source.offset, orjson.dumps({**orjson.loads(source.value or b""), **changes}))
    return source.offset


def hide(cluster: MemoryCluster, place: Place, at: int) -> Source:
    """Make the nth readable record one that no reader sees."""
    source = cluster.records(*place)[at]
    cluster.log(place).overwrite(source.offset, marker=True)
    return source


def add(cluster: MemoryCluster, place: Place, value: bytes) -> int:
    return cluster.append(place, [Write(*place, None, value)])


# -- what is right


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
async def test_what_a_worker_left_passes(delivery: str) -> None:
    chosen = pipeline(delivery=delivery)
    cluster = await lived(chosen, partitions=2)
    made = await audited(cluster, chosen)
    assert [audit.difference for audit in made] == [None, None]
    for audit in made:
        assert audit.slices == len(slices(cluster, chosen, audit.shard)) > 3
        assert (audit.records, audit.unverifiable, audit.start) == (COUNT + 1, 0, "the beginning")
    topics = chosen.topics
    for topic in (topics.scores, topics.outcomes, topics.rejected, topics.alerts):
        there = sum(len(cluster.records(topic, partition)) for partition in (0, 1))
        assert sum(audit.outputs[topic] for audit in made) == there
    assert sum(audit.outputs[topics.scores] for audit in made) == COUNT
    assert sum(audit.outputs[topics.rejected] for audit in made) == 2


async def test_nothing_is_written_joined_or_fenced() -> None:
    chosen = pipeline()
    cluster = await lived(chosen)
    ends = {place: log.end for place, log in cluster.logs.items()}
    epochs_before = {name: producer.epoch for name, producer in cluster.producers.items()}
    groups = {name: (group.members, dict(group.noted)) for name, group in cluster.groups.items()}
    await audited(cluster, chosen)
    assert {place: log.end for place, log in cluster.logs.items()} == ends
    assert {name: producer.epoch for name, producer in cluster.producers.items()} == epochs_before
    assert {name: (group.members, dict(group.noted)) for name, group in cluster.groups.items()} == groups


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
async def test_beside_a_worker_it_ends_where_the_journal_ended(delivery: str) -> None:
    chosen = pipeline(delivery=delivery)
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, COUNT)
    async with Life(cluster, chosen) as life:
        await life.until(lambda: len(slices(cluster, chosen)) >= 3)
        (made,) = await audited(cluster, chosen)
        assert made.difference is None
        assert made.slices >= 3
        await life.until_done()
        (again,) = await audited(cluster, chosen)
        assert again.difference is None
        assert made.slices <= again.slices == len(slices(cluster, chosen))


@pytest.mark.parametrize("step", ["batch", "appended", "commit", "mark", "committed"])
@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
async def test_what_two_owners_left_passes(step: Any, delivery: str) -> None:
    """Aborted outputs (exactly once) and repeated ones (at least once) are no differences."""
    if delivery == "at_least_once" and step in ("commit", "mark", "committed"):
        step = "appended"
    chosen = pipeline(delivery=delivery, limits={"slice_records_max": 37, "slice_compute_max": "10s"})
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, COUNT)
    death = Death(step, 14, arrives=True)
    async with Life(cluster, chosen, client="one", hook=death) as first:
        await first.until_dead(death)
    (half,) = await audited(cluster, chosen)
    assert half.difference is None
    await run_through(cluster, chosen, client="two")
    (made,) = await audited(cluster, chosen)
    assert made.difference is None
    assert made.outputs[chosen.topics.scores] == COUNT
    there = len(cluster.records(chosen.topics.scores, 0))
    assert made.outputs[chosen.topics.scores] + made.repeats[chosen.topics.scores] == there


# -- what is not


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
async def test_a_changed_score(delivery: str) -> None:
    chosen = pipeline(delivery=delivery)
    cluster = await lived(chosen)
    place = Place(chosen.topics.scores, 0)
    offset = change(cluster, place, 250, probability=0.5)
    found = await difference(cluster, chosen)
    assert found.place == f"{place.topic}-0-{offset}"
    assert (found.shard, found.field, found.found) == (0, "value.probability", "0.5")
    assert found.expected not in (None, "0.5")
    assert found.slice is not None
    assert found.slice > 1
    assert found.note == "the slice's journal entry agrees with the replay"
    assert (await audited(cluster, chosen, Span()))[0].difference is None, "the journal is as it was"


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
@pytest.mark.parametrize("at", [0, 250, COUNT - 1])
async def test_a_missing_outcome(delivery: str, at: int) -> None:
    chosen = pipeline(delivery=delivery)
    cluster = await lived(chosen)
    gone = hide(cluster, Place(chosen.topics.outcomes, 0), at)
    found = await difference(cluster, chosen)
    output_id = orjson.loads(gone.value or b"")["output_id"]
    assert found.field == f"output {output_id}"
    assert found.place.startswith(f"{chosen.topics.outcomes}-0-")
    assert found.expected == (gone.value or b"").decode()[:300]
    assert "missing" in found.note


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
async def test_an_alert_that_nobody_made(delivery: str) -> None:
    chosen = pipeline(delivery=delivery)
    cluster = await lived(chosen)
    place = Place(chosen.topics.alerts, 0)
    offset = add(cluster, place, b'{"output_id": "elsewhere-0-3-0", "sentence": "all is lost"}')
    found = await difference(cluster, chosen)
    assert (found.place, found.field, found.expected) == (f"{place.topic}-0-{offset}", "record", None)
    assert "all is lost" in (found.found or "")


async def test_an_output_that_comes_twice() -> None:
    chosen = pipeline()
    cluster = await lived(chosen)
    place = Place(chosen.topics.scores, 0)
    offset = add(cluster, place, cluster.records(*place)[5].value or b"")
    assert (await difference(cluster, chosen)).place == f"{place.topic}-0-{offset}"


async def test_a_record_between_two_outputs() -> None:
    """What is expected comes later, so the one before it is too much, not the other missing."""
    chosen = pipeline()
    cluster = await lived(chosen)
    place = Place(chosen.topics.rejected, 0)
    original = cluster.records(*place)[0]
    log = cluster.log(place)
    log.entries.insert(0, Entry(Source(*place, 0, NOW_MS, None, b"?")))
    found = await difference(cluster, chosen)
    assert (found.place, found.field, found.found) == (f"{place.topic}-0-0", "record", "?")
    assert original.value == b"not json"


@pytest.mark.parametrize("field", ["headers", "key", "value"])
async def test_a_changed_field(field: str) -> None:
    chosen = pipeline()
    cluster = await lived(chosen)
    place = Place(chosen.topics.rejected, 0)
    (source,) = cluster.records(*place)
    reason = tuple((name, b"other" if name == "driftline.reason" else value) for name, value in source.headers)
    changes: dict[str, Any] = {"headers": reason, "key": b"other", "value": b"other"}
    cluster.log(place).overwrite(source.offset, **{field: changes[field]})
    found = await difference(cluster, chosen)
    assert (found.field, found.place) == (field, f"{place.topic}-0-{source.offset}")


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
async def test_a_changed_digest_in_the_journal(delivery: str) -> None:
    """The chain no longer holds: where the entry itself is, or (at least once) where its successors go on from it."""
    chosen = pipeline(delivery=delivery)
    cluster = await lived(chosen)
    place = Place(chosen.topics.journal, 0)
    offset = change(cluster, place, 3, digest="00" * 16)
    found = await difference(cluster, chosen)
    places = [f"{place.topic}-0-{one}" for one in range(offset, offset + 4)]
    assert found.place in (places[:1] if delivery == "exactly_once" else places)
    assert found.field == "chain"


async def test_a_changed_digest_whose_chain_was_made_to_fit() -> None:
    chosen = pipeline()
    cluster = await lived(chosen)
    place = Place(chosen.topics.journal, 0)
    chain, offset = "", -1
    for at, source in enumerate(cluster.records(*place)):
        linked = decode_link(source.value)
        if at > 3:
            entry = structs.replace(linked.entry, digest="00" * 16) if at == 4 else linked.entry
            offset = source.offset if at == 4 else offset
            linked = link(entry, chain, linked.note)
            tamper(cluster, place, source.offset, encode_link(linked))
        chain = linked.chain
    found = await difference(cluster, chosen, Span())
    assert (found.place, found.field, found.found) == (f"{place.topic}-0-{offset}", "digest", "00" * 16)
    assert (await difference(cluster, chosen)).field == "digest", "the outputs are as the fold makes them"


async def test_a_changed_input() -> None:
    chosen = pipeline()
    cluster = await lived(chosen)
    change(cluster, Place(chosen.topics.events, 0), 300, z=0.123)
    found = await difference(cluster, chosen, Span())
    assert (found.field, found.place.startswith(f"{chosen.topics.journal}-0-")) == ("digest", True)
    found = await difference(cluster, chosen)
    assert found.place.startswith(f"{chosen.topics.scores}-0-")
    assert found.note == "the slice's journal entry differs from the replay, too"


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
async def test_a_stranger_in_the_journal(delivery: str) -> None:
    chosen = pipeline(delivery=delivery)
    cluster = await lived(chosen)
    place = Place(chosen.topics.journal, 0)
    offset = add(cluster, place, b'{"hello": "world"}')
    found = await difference(cluster, chosen)
    assert (found.place, found.field) == (f"{place.topic}-0-{offset}", "chain")
    assert found.found == '{"hello": "world"}'


async def test_an_entry_of_one_that_lost_the_shard_is_passed_over() -> None:
    """At least once nothing fences it; it learns from its entry's offset that it is not the owner."""
    chosen = pipeline(delivery="at_least_once")
    cluster = await lived(chosen)
    place = Place(chosen.topics.journal, 0)
    before, last = (decode_link(source.value) for source in cluster.records(*place)[-2:])
    stray = link(structs.replace(last.entry, digest="00" * 16), before.chain)
    add(cluster, place, encode_link(stray))
    (made,) = await audited(cluster, chosen)
    assert (made.difference, made.off_chain) == (None, 1)
    add(cluster, place, encode_link(link(last.entry, stray.chain)))
    found = await difference(cluster, chosen)
    assert found.field == "chain", "but it never goes on"


async def test_a_removed_input_record() -> None:
    chosen = pipeline()
    cluster = await lived(chosen)
    hide(cluster, Place(chosen.topics.labels or "", 0), 120)
    found = await difference(cluster, chosen)
    assert found.field == "input records"
    assert found.place.startswith(f"{chosen.topics.labels}-0-")
    wanted, there = (int((told or "").split()[0]) for told in (found.expected, found.found))
    assert there == wanted - 1


async def test_the_first_difference_ends_it() -> None:
    chosen = pipeline()
    cluster = await lived(chosen, partitions=2)
    for partition in (0, 1):
        change(cluster, Place(chosen.topics.scores, partition), 100, probability=0.5)
    made = await audited(cluster, chosen)
    assert len(made) == 1


# -- where it begins and ends


def at_ms(cluster: MemoryCluster, chosen: Pipeline, find: Callable[[list[int]], int]) -> int:
    """A snapshot's time."""
    taken = [
        int(orjson.loads(source.value or b"")["taken_ms"])
        for source in cluster.records(chosen.topics.snapshots, 0)
        if (source.key or b"").endswith(b"manifest")
    ]
    return find(taken[-2:])


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
async def test_from_a_snapshot(delivery: str) -> None:
    chosen = pipeline(delivery=delivery, snapshot={"every_records": 400})
    cluster = await lived(chosen)
    span = Span(from_ms=at_ms(cluster, chosen, min), outputs=True)
    (made,) = await audited(cluster, chosen, span)
    assert made.difference is None
    assert made.start.startswith("the snapshot after slice ")
    assert 0 < made.slices < len(slices(cluster, chosen))
    assert 0 < made.outputs[chosen.topics.scores] < COUNT
    change(cluster, Place(chosen.topics.scores, 0), COUNT - 2, probability=0.5)
    assert (await difference(cluster, chosen, span)).field == "value.probability"


async def test_without_a_snapshot_before_it_begins_at_the_beginning() -> None:
    chosen = pipeline()
    cluster = await lived(chosen)
    (made,) = await audited(cluster, chosen, Span(from_ms=1, outputs=True))
    assert made.start == "the beginning, since there is no complete snapshot before --from"
    assert (made.difference, made.slices) == (None, len(slices(cluster, chosen)))


async def test_up_to_a_time() -> None:
    """What was committed later is not looked at; what lies before must be whole."""
    now_ms = NOW_MS

    def clock() -> int:
        nonlocal now_ms
        now_ms += 1
        return now_ms

    chosen = pipeline()
    cluster = MemoryCluster(clock)
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, COUNT)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        await life.kill()
    entries = cluster.records(chosen.topics.journal, 0)
    span = Span(to_ms=entries[4].record_time_ms, outputs=True)
    change(cluster, Place(chosen.topics.scores, 0), COUNT - 2, probability=0.5)
    (made,) = await audited(cluster, chosen, span)
    assert (made.difference, made.slices) == (None, 4)
    hide(cluster, Place(chosen.topics.scores, 0), 1)
    assert "missing" in (await difference(cluster, chosen, span)).note


async def test_inputs_that_retention_cut_are_verified_from_the_oldest_snapshot_that_fits() -> None:
    chosen = pipeline(snapshot={"every_records": 400})
    cluster = await lived(chosen)
    for topic in (chosen.topics.events, chosen.topics.labels or ""):
        cluster.delete_before(Place(topic, 0), 50)
    for topic in (chosen.topics.scores, chosen.topics.outcomes):
        cluster.delete_before(Place(topic, 0), 40)
    manifests = [source for source in cluster.records(chosen.topics.snapshots, 0) if b"manifest" in (source.key or b"")]
    older, newer = (orjson.loads(source.value or b"")["slice_number"] for source in manifests[-2:])
    (made,) = await audited(cluster, chosen)
    assert made.difference is None
    assert made.start == f"the snapshot after slice {older}, since retention has removed earlier inputs"
    assert made.slices > newer - older > 0


async def test_nothing_to_begin_from_is_an_error() -> None:
    chosen = pipeline()
    cluster = await lived(chosen)
    cluster.delete_before(Place(chosen.topics.events, 0), 50)
    with pytest.raises(InputLostError, match="cannot be verified"):
        await audited(cluster, chosen)


async def test_a_fresh_state_is_a_beginning_too() -> None:
    chosen = pipeline()
    cluster = await lived(chosen, clean=True)
    async with Life(cluster, chosen, start=Start(reset_state=True)) as life:
        produce(cluster, chosen, COUNT, first=1_000)
        await life.until_done()
        await life.kill()
    assert [entry.reason for entry in epochs(cluster, chosen)] == ["first", "reset"]
    (made,) = await audited(cluster, chosen)
    assert (made.difference, made.records, made.passed_over) == (None, 2 * 2 * COUNT + 1, 0)
    cluster.delete_before(Place(chosen.topics.events, 0), 50)
    cluster.delete_before(Place(chosen.topics.scores, 0), 10)  # outputs that are passed over are cut as well
    while cluster.records(chosen.topics.snapshots, 0):
        hide(cluster, Place(chosen.topics.snapshots, 0), 0)
    (made,) = await audited(cluster, chosen)
    assert (made.difference, made.records, made.outputs[chosen.topics.scores]) == (None, 2 * COUNT, COUNT)
    assert made.start.startswith("the fresh state at journal offset ")
    assert made.passed_over > 0
    assert made.epochs_unverifiable == [1]
    change(cluster, Place(chosen.topics.outcomes, 0), 700, detail="x")
    assert (await difference(cluster, chosen)).field == "value.detail"


async def test_outputs_that_retention_cut_are_verified_from_the_first_that_is_left() -> None:
    chosen = pipeline()
    cluster = await lived(chosen)
    place = Place(chosen.topics.scores, 0)
    first = cluster.records(*place)[200].offset
    cluster.delete_before(place, first)
    (made,) = await audited(cluster, chosen)
    assert made.difference is None
    assert (made.removed[place.topic], made.outputs[place.topic]) == (200, COUNT - 200)
    hide(cluster, place, 50)
    assert "missing" in (await difference(cluster, chosen)).note


# -- other versions


async def test_slices_of_other_versions_are_not_verifiable_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where libm differs: bits differ, in the epochs made there and in those that carry their state on."""
    chosen = pipeline()
    cluster = await lived(chosen)
    change(cluster, Place(chosen.topics.events, 0), 100, z=0.123)  # makes the fold differ from there on
    monkeypatch.setattr(fingerprint, "arithmetic_fingerprint", lambda: "another")
    (made,) = await audited(cluster, chosen)
    assert made.difference is None
    assert 0 < made.unverifiable < made.slices
    assert made.epochs_unverifiable == [1]
    assert 0 < made.outputs[chosen.topics.scores] < COUNT
