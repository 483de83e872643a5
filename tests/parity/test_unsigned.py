"""Without a key, what a snapshot's manifest says is held against the journal: no record is passed over, none is read
twice, and no start stops, whatever it names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from driftline.codec.keyring import NO_KEYS
from driftline.codec.manifest import Manifest, encode_manifest, manifest_key
from driftline.codec.write import Write
from driftline.core.pipeline import Pipeline
from driftline.engine.snapshot import read_shelf
from driftline.transport.port import Place
from tests.parity.rig import NOW_MS, Life, pipeline, produce, run_through, worked
from tests.support.cluster import MemoryCluster
from tests.support.memory import MemoryBroker

COUNT = 300
CHOSEN = pipeline("unsigned", snapshot={"every_records": 100})
EVENTS, CONTROL = CHOSEN.topics.events, CHOSEN.topics.control


def moved(by: int) -> Callable[[Manifest], dict[str, Any]]:
    return lambda found: {"positions": {**found.positions, EVENTS: found.positions[EVENTS] + by}}


CHANGES: dict[str, Callable[[Manifest], dict[str, Any]]] = {
    "records are passed over": moved(50),
    "records are read again": moved(-50),
    "commands are passed over": lambda found: {"positions": {**found.positions, CONTROL: 10**6}},
    "an input is left out": lambda found: {
        "positions": {name: offset for name, offset in found.positions.items() if name != EVENTS}
    },
    "another partition is read": lambda found: {"positions": {**found.positions, f"{EVENTS}:3": 0}},
    "a topic that is none of ours": lambda found: {"positions": {**found.positions, "elsewhere": 0}},
    "slices are counted otherwise": lambda found: {"slice_number": found.slice_number + 1_000},
    "epochs are counted otherwise": lambda found: {"epoch": 77},
    "topics were deleted": lambda found: {"topics": {EVENTS: {"id": "A" * 22, "partitions": 1}}},
    "topics have more partitions": lambda found: {"topics": {EVENTS: {"id": None, "partitions": 64}}},
    "outputs have more partitions": lambda found: {"outputs": {CHOSEN.topics.scores: 64}},
    "there were more shards": lambda found: {"pipeline": {**found.pipeline, "shards": 64}},
}


@pytest.mark.parametrize("name", CHANGES)
async def test_what_the_journal_does_not_say_is_not_followed(name: str) -> None:
    cluster = await worked(CHOSEN, COUNT)
    await change_manifests(cluster, CHOSEN, CHANGES[name])
    for first in (COUNT, COUNT + 100):
        produce(cluster, CHOSEN, 100, first=first)
        async with Life(cluster, CHOSEN, client=f"after {first}") as life:
            await life.until_done()
            shard = life.shard()
            assert shard.counts["scored"] == shard.counts["learned"] == first + 100
            await life.stop()


async def test_a_state_that_makes_other_outputs_than_the_journal_says_is_not_used() -> None:
    """The journal decides: a worker that stopped for it would stop at each start."""
    cluster, other = await worked(CHOSEN, COUNT), await worked(CHOSEN, COUNT, labels_every=2)
    place = Place(CHOSEN.topics.snapshots, 0)
    (manifest, _), (strange, _) = [(await shelf_of(one, CHOSEN)).snapshots[0] for one in (cluster, other)]
    produce(cluster, CHOSEN, 100, first=COUNT)
    await run_through(cluster, CHOSEN, client="more")
    for slot in (0, 1):
        of_slot = b"%d/" % strange.slot
        for source in other.records(*place):
            if source.key is not None and source.key.startswith(of_slot) and source.key != manifest_key(strange.slot):
                key = b"%d/%s" % (slot, source.key.removeprefix(of_slot))
                cluster.append(place, [Write(*place, key, source.value, NOW_MS)])
        forged = structs.replace(
            strange, slot=slot, journal_offset=manifest.journal_offset, chain=manifest.chain,
            slice_number=manifest.slice_number, positions=manifest.positions, topics=manifest.topics,
        )  # fmt: skip
        value = encode_manifest(forged, NO_KEYS)
        cluster.append(place, [Write(*place, manifest_key(slot), value, NOW_MS)])
    async with Life(cluster, CHOSEN, client="after") as life:
        await life.until_done()
        assert life.shard().counts["learned"] == COUNT + 100
        await life.stop()


async def shelf_of(cluster: MemoryCluster, chosen: Pipeline) -> Any:
    broker = MemoryBroker(cluster, chosen, client="stranger")
    return await read_shelf(broker.reader, Place(chosen.topics.snapshots, 0), NO_KEYS)


async def change_manifests(
    cluster: MemoryCluster, chosen: Pipeline, change: Callable[[Manifest], dict[str, Any]]
) -> None:
    """Write the manifests of all snapshots anew, as anyone who may write to the topic can."""
    place = Place(chosen.topics.snapshots, 0)
    snapshots = (await shelf_of(cluster, chosen)).snapshots
    assert snapshots
    for manifest, _ in snapshots:
        value = encode_manifest(structs.replace(manifest, **change(manifest)), NO_KEYS)
        cluster.append(place, [Write(*place, manifest_key(manifest.slot), value, NOW_MS)])
