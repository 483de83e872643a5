"""An upgrade from a version whose records had other wording: nothing is lost, and no damage is reported.

What 0.2.0 wrote is kept as bytes (`tests/support/kept`); this version is made to write every record differently.
"""

from __future__ import annotations

from typing import Any

import pytest

from driftline import __version__
from driftline.codec.keyring import NO_KEYS
from driftline.codec.manifest import manifest_key
from driftline.core.error import DigestMismatchError
from driftline.core.fingerprint import unreadable, versions
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout
from driftline.engine.recovery import Recovery
from driftline.operate.verify import ShardAudit, Span, audit_shards
from driftline.transport.port import Place
from tests.engine.test_format import goes_on, settle
from tests.parity.rig import Life, epochs, slices
from tests.support.cluster import MemoryCluster
from tests.support.kept import KINDS, cluster_of, read
from tests.support.memory import MemoryBroker
from tests.support.reworded import Reworded

FORMAT_OF_0_2_0 = 9


@pytest.fixture(autouse=True)
def reworded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftline.engine.fold.Encoder", Reworded)


@pytest.fixture(autouse=True)
def same_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """On whatever machine: these tests are about the version."""
    there = read(FORMAT_OF_0_2_0)["arithmetic"]
    for module in ("core.fingerprint", "engine.epoch", "engine.gap", "engine.recovered", "engine.snapshot"):
        monkeypatch.setattr(f"driftline.{module}.arithmetic_fingerprint", lambda: there)


def kept_by_0_2_0(kind: str) -> dict[str, Any]:
    document = read(FORMAT_OF_0_2_0)
    assert document["versions"]["app"] == "0.2.0"
    if (why := unreadable(document["versions"])) is not None:
        pytest.skip(f"the kept state was {why}")
    kept: dict[str, Any] = document["kinds"][kind]
    return kept


def remove_snapshots(cluster: MemoryCluster, chosen: Pipeline, *, keep: int = 0) -> None:
    """Leave the oldest snapshots only, as if the worker had died before it wrote the others."""
    records = cluster.records(chosen.topics.snapshots, 0)
    manifests = [one for one in records if one.key in (manifest_key(0), manifest_key(1)) and one.value]
    for one in manifests[keep:]:
        cluster.log(Place(one.topic, 0)).overwrite(one.offset, marker=True)


async def audited(cluster: MemoryCluster, chosen: Pipeline) -> ShardAudit:
    broker = MemoryBroker(cluster, chosen, client="audit")
    (made,) = await audit_shards(broker, chosen, Layout(1), Span(outputs=True))
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("snapshots", [0, 1])
async def test_a_worker_that_died_before_the_upgrade_goes_on(kind: str, snapshots: int) -> None:
    """With slices after its last snapshot, or without any snapshot."""
    kept = kept_by_0_2_0(kind)
    chosen, cluster = cluster_of(kept)
    every = len(slices(cluster, chosen))
    remove_snapshots(cluster, chosen, keep=snapshots)
    recovery = Recovery(MemoryBroker(cluster, chosen, client="looks"), chosen, 0, NO_KEYS)
    progress = (await recovery.run()).progress
    assert progress.slices == every if not snapshots else 0 < progress.slices < every
    assert progress.unverifiable > 0, "every slice that has outputs comes out differently"
    await goes_on(cluster, chosen, kept["summary"])
    assert [(one.reason, one.state) for one in epochs(cluster, chosen)] == [("first", "fresh"), ("version", "kept")]


async def test_verify_names_the_version_instead_of_reporting_damage() -> None:
    chosen, cluster = cluster_of(kept_by_0_2_0("binary"))
    before = await audited(cluster, chosen)
    assert before.difference is None
    assert 0 < before.unverifiable <= before.slices
    async with Life(cluster, chosen) as life:
        await life.until_done()
        settle(cluster, chosen)
        await life.until_done()
        await life.stop()
    after = await audited(cluster, chosen)
    assert after.difference is None
    assert (after.epochs_unverifiable, after.made_by) == ([1], [f"Driftline 0.2.0 (here {__version__})"])
    assert after.unverifiable == before.unverifiable < after.slices, "slices of this version are verified"
    assert after.outputs[chosen.topics.scores] > 0


async def test_the_same_bytes_by_this_version_would_be_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(versions(), "app", "0.2.0")
    chosen, cluster = cluster_of(kept_by_0_2_0("binary"))
    assert (await audited(cluster, chosen)).difference is not None
    remove_snapshots(cluster, chosen)
    async with Life(cluster, chosen) as life:
        assert isinstance(await life.fails(), DigestMismatchError)
