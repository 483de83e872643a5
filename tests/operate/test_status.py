"""What `status` learns of a journal, whatever else was written into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import orjson

from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.codec.write import Write
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout
from driftline.engine.start import Start
from driftline.kafka.broker import KafkaBroker
from driftline.operate.status import LOOK_BACK, ShardStatus, look, read_status
from driftline.transport.port import Place
from tests.parity.rig import NOW_MS, Life, pipeline, produce, run_through
from tests.support.cluster import MemoryCluster
from tests.support.memory import MemoryBroker

RING = KeyRing((b"the deployment's key",))
ABSURD: dict[str, list[object]] = {
    "guard": [1, {"held": 1}, {"tripped": [1], "instead": {}}, {"tripped": {}, "instead": {}, "held": "many"}],
    "learning": [[1], {"held": "many"}, {"held": 1, "deadline_ms": "soon"}, {"quarantine": {"held": "many"}}],
    "stopped_detectors": [7, "error", [1], {"error": 1}],
    "forecast": [
        7,
        {"series": 1},
        {"series": 1, "evicted": 0, "judged": 1},
        {"series": 1, "evicted": 0, "judged": 1, "metrics": {}, "by_horizon": {"MAE": []}},
    ],
}


def broker(cluster: MemoryCluster, chosen: Pipeline, ring: KeyRing = NO_KEYS) -> KafkaBroker:
    """Memory keeps the same port."""
    made = cast("KafkaBroker", MemoryBroker(cluster, chosen, client="asks"))
    made.ring = ring
    return made


async def looked(cluster: MemoryCluster, chosen: Pipeline, partitions: int = 1) -> Sequence[ShardStatus]:
    return await look(broker(cluster, chosen), chosen, Layout(partitions), (), 10)


async def worked(cluster: MemoryCluster, chosen: Pipeline, partitions: int = 1) -> None:
    cluster.create_for(chosen, partitions)
    produce(cluster, chosen, 40, partitions=partitions)
    await run_through(cluster, chosen)


async def test_records_that_are_no_entries_are_passed_over_and_named() -> None:
    cluster, chosen = MemoryCluster(), pipeline()
    await worked(cluster, chosen)
    (before,) = await looked(cluster, chosen)
    assert before.troubles == ()
    assert before.note is not None
    journal = chosen.topics.journal
    entry = orjson.loads(cluster.records(journal, 0)[-1].value or b"")
    strange = [
        {"positions": {f"{chosen.topics.events}:x": 1}},
        {"positions": 3},
        {"positions": {}, "pending": "many"},
        {"positions": {"e": 0}, "metrics": [1]},
        *({"positions": {}, name: one} for name, values in ABSURD.items() for one in values),
        7,
    ]
    first = cluster.log(Place(journal, 0)).end
    for value in (b"", b"\xff", b"[]", b'{"kind":"slice"}', *(orjson.dumps({**entry, "note": one}) for one in strange)):
        cluster.produce(journal, 0, value, NOW_MS)
    (after,) = await looked(cluster, chosen)
    assert (after.positions, after.note, after.epoch) == (before.positions, before.note, before.epoch)
    (trouble,) = after.troubles
    assert trouble.startswith(
        f"{journal}-0 holds a record at offset {first} and {len(strange) + 3} more that is not a journal entry"
    )
    (plain,) = await read_status(broker(cluster, chosen), chosen, Layout(1))
    assert plain == after


async def test_with_a_key_nothing_is_shown_that_no_key_signed() -> None:
    """However much a stranger writes behind the last sealed entry."""
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, 40)
    await run_through(cluster, chosen, start=Start(ring=RING))
    asks = broker(cluster, chosen, RING)
    (before,) = await read_status(asks, chosen, Layout(1))
    forged = orjson.loads(cluster.records(chosen.topics.journal, 0)[-1].value or b"")
    forged["note"] = {**(before.note or {}), "pending": 12_345}
    for _ in range(2 * LOOK_BACK):
        cluster.produce(chosen.topics.journal, 0, orjson.dumps(forged), NOW_MS)
    (after,) = await read_status(asks, chosen, Layout(1))
    assert before.note is not None
    assert (after.note, after.positions) == (before.note, before.positions)
    assert "not signed with a key of this deployment" in after.troubles[0]


async def test_with_a_key_nothing_is_shown_that_stands_before_what_it_signed() -> None:
    """What a stranger wrote in front of the last sealed entry is as little ours."""
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, 40)
    async with Life(cluster, chosen, start=Start(ring=RING)) as life:
        await life.until_done()
        journal = chosen.topics.journal
        forged = orjson.loads(cluster.records(journal, 0)[-1].value or b"")
        for _ in range(LOOK_BACK):
            cluster.produce(journal, 0, orjson.dumps({**forged, "number": 99_999, "epoch": 77}), NOW_MS)
        produce(cluster, chosen, 40, first=40)
        await life.until_done()
        await life.stop()
    (found,) = await read_status(broker(cluster, chosen, RING), chosen, Layout(1))
    assert found.epoch == 1
    assert 0 < found.slice_number < 100
    assert found.note is not None


async def test_what_was_aborted_is_no_lag() -> None:
    cluster, chosen = MemoryCluster(), pipeline()
    await worked(cluster, chosen)
    place = Place(chosen.topics.events, 0)
    stranger = cluster.initialise("stranger")
    for commit in (False, True):
        cluster.add(stranger, [place])
        for _ in range(5 if not commit else 2):
            cluster.append_within(stranger, place, [Write(*place, None, b"{}")])
        cluster.decide(stranger, commit=commit)
        cluster.mark(stranger)
        (found,) = await looked(cluster, chosen)
        wanted = 3 if commit else 0  # two records and their marker
        assert found.lag[place.topic] == found.lag_to_end[place.topic] == wanted


async def test_a_partition_without_a_leader_is_not_known_and_the_others_are() -> None:
    cluster, chosen = MemoryCluster(), pipeline()
    await worked(cluster, chosen, partitions=2)
    away = {(chosen.topics.journal, 1)}
    known, unknown = await look(broker(cluster, chosen), chosen, Layout(2), away, 10)
    assert (known.troubles, set(known.lag.values())) == ((), {0})
    assert unknown.troubles == (f"shard 1 is unknown: no broker available for {chosen.topics.journal}-1",)
    assert (unknown.positions, unknown.lag) == ({}, {})


async def test_of_a_state_that_began_anew_nothing_is_told_of_the_one_before() -> None:
    cluster, chosen = MemoryCluster(), pipeline()
    await worked(cluster, chosen)
    (before,) = await looked(cluster, chosen)
    assert (before.note or {})["counts"]["joined"] == 40
    await run_through(cluster, chosen, start=Start(reset_state=True))
    (after,) = await looked(cluster, chosen)
    assert (after.epoch, after.note, after.positions) == (2, None, before.positions)
