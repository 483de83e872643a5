"""What is said of the state before a deploy is what a worker then does."""

from __future__ import annotations

from typing import Any

import pytest

from driftline.cli.live import EXIT_CODES, lines
from driftline.codec.inputs import Inputs
from driftline.codec.keyring import NO_KEYS
from driftline.core.error import DriftlineError
from driftline.core.fingerprint import versions
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout
from driftline.operate.outlook import Outlook, outlook
from driftline.transport.port import Place
from tests.parity.rig import Life, pipeline, produce, worked
from tests.support.cluster import MemoryCluster
from tests.support.memory import MemoryBroker

COUNT = 300


async def seen(cluster: MemoryCluster, chosen: Pipeline) -> Outlook:
    (found,) = await outlook(MemoryBroker(cluster, chosen, client="looker"), chosen, Layout(1), NO_KEYS)
    return found


async def learned(cluster: MemoryCluster, chosen: Pipeline) -> int | None:
    """What a worker's model then knows; None where it stops."""
    async with Life(cluster, chosen) as life:
        try:
            await life.until_done()
        except DriftlineError:
            return None
        return life.shard().counts.get("learned", 0)


def forget_inputs(cluster: MemoryCluster, chosen: Pipeline) -> None:
    for topic in Inputs(chosen).topics:
        cluster.delete_before(Place(topic, 0), cluster.log(Place(topic, 0)).end)


def forget_snapshots(cluster: MemoryCluster, chosen: Pipeline) -> None:
    place = Place(chosen.topics.snapshots, 0)
    cluster.delete_before(place, cluster.log(place).end)


async def test_an_empty_journal_has_no_state() -> None:
    chosen = pipeline()
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    assert (await seen(cluster, chosen)).fate == "none"


@pytest.mark.parametrize(
    ("change", "fate", "changed", "begins"),
    [
        ({}, "kept", [], []),
        ({"decision": {"threshold": 0.9}}, "kept", ["decision"], []),
        ({"label": {"wait": "2h"}}, "kept", ["label.correct_for", "label.early", "label.wait"], []),
        ({"metrics": ["Accuracy", "F1"]}, "anew", ["metrics"], ["metric F1"]),
        (
            {"drift": {"features": {"x": "ADWIN()"}}},
            "anew",
            ["drift.features.x"],
            ["detector feature:x"],
        ),
        ({"seed": 7}, "refused", ["seed"], []),
        ({"event": {"id": "number"}}, "refused", ["event.id"], []),
    ],
)
async def test_a_changed_file_is_said_to_do_what_it_does(
    change: dict[str, Any], fate: str, changed: list[str], begins: list[str]
) -> None:
    cluster = await worked(pipeline(), COUNT)
    after = pipeline(**change)
    found = await seen(cluster, after)
    assert (found.fate, found.changed, found.begins) == (fate, changed, begins)
    assert await learned(cluster, after) == (None if fate == "refused" else COUNT)


async def test_where_the_state_comes_from_is_said() -> None:
    chosen = pipeline(snapshot={"every_records": 100_000})
    cluster = await worked(chosen, COUNT)
    assert "the snapshot after slice" in (await seen(cluster, chosen)).source
    produce(cluster, chosen, 50, first=2_000)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        await life.kill()
    assert "slices to replay after it" in (await seen(cluster, chosen)).source
    forget_snapshots(cluster, chosen)
    assert (await seen(cluster, chosen)).source.startswith("the journal: ")
    assert await learned(cluster, chosen) == COUNT + 50
    forget_inputs(cluster, chosen)
    forget_snapshots(cluster, chosen)
    found = await seen(cluster, chosen)
    assert found.fate == "lost"
    assert "the inputs named by the journal have been deleted" in found.source
    assert await learned(cluster, chosen) is None


@pytest.mark.parametrize(("python", "fate"), [("3.99.1", "lost"), ("patch", "kept")])
async def test_other_versions_are_judged_as_a_worker_judges_them(
    monkeypatch: pytest.MonkeyPatch, python: str, fate: str
) -> None:
    chosen = pipeline()
    cluster = await worked(chosen, COUNT)
    forget_inputs(cluster, chosen)
    made_by = versions()["python"]
    here = python if python != "patch" else ".".join([*made_by.split(".")[:2], "99"])
    monkeypatch.setitem(versions(), "python", here)
    found = await seen(cluster, chosen)
    assert (found.fate, found.versions) == (fate, [f"python {made_by} -> {here}"])
    assert ("`driftline state save`" in found.source) == (fate == "lost")
    assert await learned(cluster, chosen) == (COUNT if fate == "kept" else None)


async def test_records_deleted_unread_are_said() -> None:
    chosen = pipeline()
    cluster = await worked(chosen, COUNT)
    produce(cluster, chosen, 50, first=2_000)
    forget_inputs(cluster, chosen)
    found = await seen(cluster, chosen)
    assert found.fate == "lost"
    assert "with --on-gap continue skips the gap" in found.source
    assert await learned(cluster, chosen) is None


def test_shards_of_one_fate_stand_together_the_worst_first() -> None:
    kept = [Outlook(number, "kept", source="the snapshot after slice 4") for number in (0, 2)]
    refused = Outlook(1, "refused", ["seed"], [], "the state cannot follow", ["python 3.11.7 -> 3.11.9"])
    assert list(lines([kept[0], refused, kept[1]])) == [
        "shard 1: REFUSED: a worker would stop",
        "  the file differs in seed",
        "  versions: python 3.11.7 -> 3.11.9",
        "  the state cannot follow",
        "shards 0, 2: the state is kept",
        "  shard 0: the snapshot after slice 4",
        "  shard 2: the snapshot after slice 4",
    ]
    assert EXIT_CODES == {"none": 0, "kept": 0, "anew": 1, "refused": 4, "lost": 4}
