"""Models that a drift replaced: the same from the journal, and through a death between warning and drift."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from driftline.core.pipeline import Pipeline
from tests.parity.rig import (
    NOW_MS,
    STEP_MS,
    Death,
    Life,
    after,
    check_exact,
    check_replay,
    documents,
    outputs_digest,
    pipeline,
    replay,
)
from tests.support.cluster import MemoryCluster
from tests.support.memory import Step

COUNT, FLIP = 1_200, 700
REACTIONS: dict[str, dict[str, Any]] = {
    "reset": {"detector": "ADWIN()", "reaction": "reset"},
    "swap": {"detector": "ADWIN(delta=1e-15)", "warning": "ADWIN(delta=0.3, clock=8)", "reaction": "swap"},
    "boost": {"detector": "ADWIN()", "reaction": "boost"},
}


def reacting(act: str, every_records: int = 400) -> Pipeline:
    return pipeline(
        drift={"error": REACTIONS[act], "score": "none", "features": {}, "warmup_labels": 300},
        snapshot={"every_records": every_records},
    )


def flipped(chosen: Pipeline) -> tuple[MemoryCluster, list[int]]:
    """A cluster whose topics hold a stream whose labels are often wrong from some event on."""
    cluster, rng = MemoryCluster(), random.Random(1)
    cluster.create_for(chosen, 1)
    for number in range(COUNT):
        time_ms, x = NOW_MS + number * STEP_MS, rng.gauss(0, 2)
        event = {"id": number, "x": x, "z": rng.random(), "word": rng.choice("abc")}
        y = int((x > 0) == (number < FLIP or rng.random() < 0.5))
        cluster.produce(chosen.topics.events, 0, orjson.dumps(event), time_ms)
        cluster.produce(chosen.topics.labels or "", 0, orjson.dumps({"id": number, "y": y}), time_ms + STEP_MS // 2)
    return cluster, list(range(COUNT))


async def undisturbed(chosen: Pipeline) -> tuple[str, int, list[dict[str, Any]]]:
    """What a worker that never dies publishes; its model's generation; the events of its reactions."""
    cluster, ids = flipped(chosen)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        check_exact(cluster, chosen, ids)
        generation = life.shard().learner.generation
    told = [one for one in documents(cluster, chosen.topics.alerts) if one["kind"] == "model_change"]
    return outputs_digest(cluster, chosen), generation, told


@pytest.mark.parametrize("act", REACTIONS)
async def test_the_journal_gives_the_same_generations(act: str) -> None:
    chosen = reacting(act)
    cluster, _ = flipped(chosen)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        generation = life.shard().learner.generation
        assert generation >= 1
        await check_replay(cluster, chosen, life)
    recovered = await replay(cluster, chosen)
    assert recovered.folder is not None
    assert recovered.folder.shard.learner.generation == generation
    served = [one["model_version"].partition(".")[0] for one in documents(cluster, chosen.topics.scores)]
    assert served == sorted(served)
    assert set(served) == {str(number) for number in range(generation + 1)}


@pytest.mark.parametrize(("step", "arrives"), [("commit", False), ("commit", True), ("committed", True)])
@pytest.mark.parametrize("act", ["swap", "reset"])
async def test_a_death_between_warning_and_drift_changes_nothing(act: str, step: Step, arrives: bool) -> None:
    chosen = reacting(act, every_records=80)
    expected, generation, told = await undisturbed(chosen)
    (change,) = told
    drift_at = int(change["output_id"].split("-")[-2])
    assert act != "swap" or 0 < change["evidence"]["learned"] < drift_at - FLIP
    for nth in slices_around(drift_at):
        cluster, ids = flipped(chosen)
        async with after(Death(step, nth, arrives=arrives), cluster, chosen) as second:
            check_exact(cluster, chosen, ids)
            assert second.shard().learner.generation == generation
            await check_replay(cluster, chosen, second)
        assert outputs_digest(cluster, chosen) == expected


def slices_around(drift_at: int) -> range:
    """Commits, of a hundred records each, from the change to the reaction; the first one is the epoch's."""
    return range(2 * FLIP // 100, 2 * drift_at // 100 + 3)
