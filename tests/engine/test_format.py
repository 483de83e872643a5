"""States that an earlier format or other versions wrote: what is read, and that the model goes on with all it knew."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from driftline import __version__
from driftline.codec.inputs import Inputs
from driftline.codec.keyring import NO_KEYS
from driftline.codec.manifest import decode_manifest, manifest_key
from driftline.core.error import SnapshotError
from driftline.core.fingerprint import difference, readers, unreadable, versions
from driftline.core.pipeline import Pipeline
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import Frozen, dump_rest, load, view_of
from driftline.core.state.migration import FORMAT, OLDEST, STEPS
from driftline.transport.port import Place
from tests.parity.rig import NOW_MS, STEP_MS, Life, epochs, slices, state
from tests.support.cluster import MemoryCluster
from tests.support.kept import COUNT, EARLY, KINDS, UNLABELLED, cluster_of, read
from tests.support.small import small

LATER_MS = NOW_MS + (COUNT + 60) * STEP_MS


def kept_by(made_by: int, kind: str) -> dict[str, Any]:
    """What is kept of a format, if these versions can read its models."""
    document = read(made_by)
    if (why := unreadable(document["versions"])) is not None:
        pytest.skip(f"the kept state was {why}; run this under {readers(document['versions'])}")
    kept: dict[str, Any] = document["kinds"][kind]
    return kept


def forget_inputs(cluster: MemoryCluster, chosen: Pipeline) -> None:
    """Retention removes all that was read."""
    for topic in Inputs(chosen).topics:
        place = Place(topic, 0)
        cluster.delete_before(place, cluster.log(place).end)


def answer(chosen: Pipeline, number: int) -> object:
    return "class 1" if chosen.task == "multiclass" else number % 2


def settle(cluster: MemoryCluster, chosen: Pipeline) -> None:
    """The labels that the last events wait for, and the events whose labels came early."""
    for number in range(COUNT + 10, COUNT + 10 + UNLABELLED):
        value = orjson.dumps({"id": number, "y": answer(chosen, number)})
        cluster.produce(chosen.topics.labels or "", 0, value, LATER_MS)
    for number in range(EARLY):
        value = orjson.dumps({"id": f"early {number}", "x": 0.5, "z": 0.5, "word": "a"})
        cluster.produce(chosen.topics.events, 0, value, LATER_MS)


async def goes_on(cluster: MemoryCluster, chosen: Pipeline, before: dict[str, Any]) -> None:
    """A worker has the model with all it knew, joins what was waiting, and leaves what the next one reads."""
    async with Life(cluster, chosen) as life:
        await life.until_done()
        # Parts that are new with a later format are beside what was known, not in its place.
        found = orjson.loads(orjson.dumps(life.shard().summary()))
        # What the coverage is of has changed: since format 9, of the events whose wait is over.
        known = {name: value for name, value in before.items() if name != "coverage"}
        assert {name: found[name] for name in known} == orjson.loads(orjson.dumps(known))
        settle(cluster, chosen)
        await life.until_done()
        assert (len(life.shard().pending), len(life.shard().early)) == (0, 0)
        assert life.shard().counts["joined"] == COUNT + UNLABELLED + EARLY
        assert life.shard().evaluation.label_count == COUNT + UNLABELLED + EARLY
        survivor = state(life.shard())
        await life.stop()
    newest = {one.key: one.value for one in cluster.records(chosen.topics.snapshots, 0)}
    manifests = [decode_manifest(value, NO_KEYS) for slot in (0, 1) if (value := newest.get(manifest_key(slot)))]
    newer = max(manifests, key=lambda one: one.journal_offset)
    assert (newer.format, newer.versions) == (FORMAT, versions())
    async with Life(cluster, chosen) as life:
        await life.until_done()
        assert life.runner().tally.recovery_slices == 0
        assert state(life.shard()) == survivor
        await life.stop()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("made_by", sorted(STEPS))
async def test_a_snapshot_of_an_earlier_format_goes_on(made_by: int, kind: str) -> None:
    kept = kept_by(made_by, kind)
    chosen, cluster = cluster_of(kept)
    forget_inputs(cluster, chosen)
    await goes_on(cluster, chosen, kept["summary"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("made_by", sorted(STEPS))
async def test_a_journal_of_an_earlier_format_is_replayed_to_the_same_state(made_by: int, kind: str) -> None:
    document = read(made_by)
    kept = document["kinds"][kind]
    chosen, cluster = cluster_of(kept)
    place = Place(chosen.topics.snapshots, 0)
    cluster.delete_before(place, cluster.log(place).end)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        assert life.runner().tally.recovery_slices == len(slices(cluster, chosen))
        found = life.shard().summary()
        assert found["counts"] == kept["summary"]["counts"]
        assert (found["pending"], found["early"]) == (kept["summary"]["pending"], kept["summary"]["early"])
        same_bits = not difference({**document["versions"], "app": __version__}, document["arithmetic"])
        for name, value in kept["summary"]["metrics"].items():
            assert found["metrics"][name] == pytest.approx(value, abs=0 if same_bits else 1e-9)


def test_every_format_since_the_oldest_has_its_step_and_its_bytes() -> None:
    assert sorted(STEPS) == list(range(OLDEST, FORMAT))
    for made_by in STEPS:
        assert read(made_by)["kinds"].keys() == KINDS.keys()


@pytest.mark.parametrize("made_by", [OLDEST - 1, FORMAT + 1])
def test_other_formats_are_refused(made_by: int) -> None:
    shard = Shard(small(), 0)
    with pytest.raises(SnapshotError, match=rf"has format {made_by}; this version reads {OLDEST} to {FORMAT}"):
        load(small(), 0, Frozen(dump_rest(shard, view_of(shard)), (), made_by))


# -- other versions


@pytest.mark.parametrize(("name", "version"), [("python", "3.11.99"), ("numpy", "2.0.99"), ("app", "0.0.1")], ids=str)
async def test_another_patch_keeps_the_model_though_its_inputs_are_gone(
    monkeypatch: pytest.MonkeyPatch, name: str, version: str
) -> None:
    """An image that is built again may have another patch of Python."""
    kept = kept_by(OLDEST, "binary")
    chosen, cluster = cluster_of(kept)
    forget_inputs(cluster, chosen)
    major_minor = ".".join(versions()["python"].split(".")[:2])
    monkeypatch.setitem(versions(), name, version.replace("3.11", major_minor))
    monkeypatch.setattr("driftline.core.fingerprint.arithmetic_fingerprint", lambda: "another")
    await goes_on(cluster, chosen, kept["summary"])
    assert [entry.reason for entry in epochs(cluster, chosen)] == ["first", "version"]


@pytest.mark.parametrize(
    ("made_by", "why"),
    [
        ({"python": "3.10.4"}, "made by Python 3.10.4, this is Python"),
        ({"river": "0.26.0"}, "made by River 0.26.0, this is River"),
        ({"numpy": "1.26.4"}, "made by numpy 1.26.4, this is numpy"),
        ({"python": "x" * 100}, f"made by Python {'x' * 20}, this is"),
        ({"python": "3"}, "made by Python 3, this is Python"),
    ],
)
def test_what_these_versions_cannot_read(made_by: dict[str, str], why: str) -> None:
    assert (unreadable({**versions(), **made_by}) or "").startswith(why)


def test_what_these_versions_can_read() -> None:
    assert unreadable(versions()) is None
    assert unreadable({}) == f"made by River unknown, this is River {versions()['river']}"
    assert (
        readers({"river": "0.26.1", "python": "3.11.7", "numpy": "2.4.6"}) == "River 0.26.1, Python 3.11.*, numpy 2.*"
    )
