"""The snapshots topic is looked through in bounded memory, whatever others wrote to it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from driftline.codec.keyring import KeyRing
from driftline.codec.write import Write
from driftline.core.pipeline import Pipeline
from driftline.engine import kept as module
from driftline.engine.kept import Kept
from driftline.engine.snapshot import read_shelf
from driftline.engine.start import Start
from driftline.transport.port import Place, Reader
from tests.parity.rig import Life, pipeline, worked
from tests.support.cluster import MemoryCluster
from tests.support.memory import MemoryBroker

RING = KeyRing((b"the key of the deployment",))
START = Start(ring=RING)
CHOSEN = pipeline("keyed", snapshot={"every_records": 100})
PLACE = Place(CHOSEN.topics.snapshots, 0)


def reader(cluster: MemoryCluster, chosen: Pipeline = CHOSEN) -> Callable[[], Reader]:
    return lambda: MemoryBroker(cluster, chosen, client="r").reader()


async def looked(cluster: MemoryCluster) -> Kept:
    kept = Kept(reader(cluster), PLACE, b"0/", b"1/")
    await kept.look(0)
    return kept


def written(*records: tuple[bytes, bytes | None]) -> MemoryCluster:
    cluster = MemoryCluster()
    cluster.create_for(CHOSEN, 1)
    cluster.append(PLACE, [Write(*PLACE, key, value) for key, value in records])
    return cluster


@pytest.mark.parametrize("hold", [0, 3, 1_000])
async def test_the_newest_of_each_key_is_read(hold: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOLD_BYTES", hold)
    records = [
        (b"0/1", b"old"),
        (b"1/1", b"of it"),
        (b"0/2", b"gone"),
        (b"0/1", b"new"),
        (b"0/2", None),
        (b"2/1", b"x"),
    ]
    kept = await looked(written(*records))
    assert kept.keys == {b"0/1", b"1/1"}
    assert await kept.values([b"0/1", b"1/1", b"0/2", b"2/1"]) == {b"0/1": b"new", b"1/1": b"of it"}
    assert await kept.values([]) == {}


async def test_what_nobody_names_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOLD_BYTES", 1_000)
    monkeypatch.setattr(module, "KEYS_MAX", 50)
    many = [(b"0/%d" % number, bytes(100)) for number in range(200)]
    kept = await looked(written(*many, (b"0/" + bytes(200), b"a long key"), (b"elsewhere", b"x")))
    assert 0 < kept.held_bytes <= 1_000
    assert len(kept.keys) == 50


@pytest.mark.parametrize("hold", [0, 10_000])
async def test_a_flood_keeps_no_snapshot_from_being_found(hold: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is held stays within its bound while it is read."""
    cluster = await worked(CHOSEN, 300, start=START)
    whole = await read_shelf(reader(cluster), PLACE, RING)
    monkeypatch.setattr(module, "HOLD_BYTES", hold)
    for number in range(100):
        cluster.append(PLACE, [Write(*PLACE, b"%d/%064x/0" % (number % 2, number), bytes(5_000))])
    shelf = await read_shelf(reader(cluster), PLACE, RING)
    assert [one for one, _ in shelf.snapshots] == [one for one, _ in whole.snapshots] != []
    assert [frozen for _, frozen in shelf.snapshots] == [frozen for _, frozen in whole.snapshots]
    assert len(shelf.keys[0]) == len(whole.keys[0]) + 50, "which the next snapshot removes"
    async with Life(cluster, CHOSEN, start=START) as life:
        await life.until_done()
        assert life.shard().evaluation.label_count == 300
