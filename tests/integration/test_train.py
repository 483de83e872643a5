"""From a file of history to the first score, on a real Kafka: trained, loaded, served, killed, recovered, verified."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from driftline.core.model.learner import Learner
from driftline.core.oracle import Oracle
from driftline.core.pipeline import Pipeline
from driftline.core.state.freeze import load_model
from driftline.core.state.model_file import parse
from driftline.devbroker.kafka import KafkaNode
from driftline.kafka.topic import create
from tests.support.command import Worker, succeed
from tests.support.state import kept, replayed
from tests.support.stream import Rows, documents, pipeline_file, pipeline_of, read, settings_of, until_written, weather

COUNT, HISTORY = 2_400, 3_000
OPEN = "--accept-unsigned-models"  # keys are in `test_keys`
PARTITIONS = 2
DRAINED_S = 120.0
MODEL = "ARFClassifier(n_models=3, seed=42)"


def serving(pipeline: Pipeline, model: Path) -> Learner:
    """The model of a file, read as anybody may who has it."""
    learner = Learner(pipeline)
    manifest, frozen = parse(model.read_bytes())
    learner.load(load_model(pipeline, frozen), frozen, manifest.learned)
    return learner


async def first_scores(bootstrap: str, pipeline: Pipeline, generation: str) -> dict[int, tuple[dict[str, Any], Any]]:
    """The first score of each partition by that generation, with the event's features."""
    events: dict[object, list[float]] = {}
    for arrival in await read(bootstrap, pipeline.topics.events):
        event = orjson.loads(arrival.value or b"")
        events[event["id"]] = [event[name] for name in pipeline.event.features]
    found: dict[int, tuple[dict[str, Any], Any]] = {}
    for arrival in await read(bootstrap, pipeline.topics.scores):
        score = orjson.loads(arrival.value or b"")
        if score["model_version"].partition(".")[0] == generation and arrival.partition not in found:
            found[arrival.partition] = score, tuple(events[score["event_id"]])
    return found


def check_first(pipeline: Pipeline, model: Path, found: dict[int, tuple[dict[str, Any], Any]]) -> None:
    """A model serves as it was trained: before anything else was learned."""
    assert len(found) == PARTITIONS
    for score, values in found.values():
        _, served, guard = serving(pipeline, model).score(values, "", Oracle())
        assert (score["guard"], score["probability"], score["prediction"]) == (
            guard,
            served.value,
            served.label,
        )


@pytest.mark.timeout(300)
async def test_a_trained_model_serves_the_first_event_and_survives(kafka: KafkaNode, tmp_path: Path) -> None:
    """Loaded before the worker begins, and another one in the middle; the worker is killed after each."""
    rows, history = weather(tmp_path, COUNT), weather(tmp_path, HISTORY, seed=11)
    file = pipeline_file(
        tmp_path,
        "trained",
        rows,
        MODEL,
        limits={"slice_records_max": 20},
        snapshot={"every_records": 300},
    )
    pipeline, where = pipeline_of(file), ("-p", file, "--bootstrap", kafka.bootstrap)
    await create(pipeline, settings_of(kafka.bootstrap), partitions=PARTITIONS, shards=PARTITIONS)
    first, second = tmp_path / "first.bin", tmp_path / "second.bin"
    for path, count in ((first, HISTORY // 2), (second, HISTORY)):
        train = ("train", "-p", file, "--input", history.path, "--label", history.label, "--limit", str(count))
        told = await asyncio.to_thread(succeed, *train, "-o", path)
        assert f"learned from {count:,} labels" in told
    await asyncio.to_thread(succeed, "control", *where, "--no-wait", "load", first)
    await asyncio.to_thread(_produce, where, rows, COUNT // 2)

    topics = pipeline.topics
    with Worker(file, kafka.bootstrap, tmp_path, OPEN, name="first") as worker:
        await asyncio.to_thread(worker.until_ready, PARTITIONS)
        await until_written(kafka.bootstrap, topics.outcomes, COUNT // 2, DRAINED_S)
        worker.kill()
    check_first(pipeline, first, await first_scores(kafka.bootstrap, pipeline, "1"))
    with Worker(file, kafka.bootstrap, tmp_path, OPEN, name="second") as worker:
        await asyncio.to_thread(worker.until_ready, PARTITIONS)
        taken = await asyncio.to_thread(succeed, "control", *where, "load", second)
        assert f"accepted by {PARTITIONS} shards" in taken
        await until_written(kafka.bootstrap, topics.alerts, 2 * PARTITIONS, DRAINED_S)
        await asyncio.to_thread(_produce, where, rows, COUNT)  # the first half again: each id counts once
        await until_written(kafka.bootstrap, topics.scores, COUNT // 2 + 50, DRAINED_S)
        worker.kill()
    with Worker(file, kafka.bootstrap, tmp_path, name="survivor") as worker:
        await asyncio.to_thread(worker.until_ready, PARTITIONS)
        await until_written(kafka.bootstrap, topics.scores, COUNT, DRAINED_S)
        await until_written(kafka.bootstrap, topics.outcomes, 2 * COUNT - COUNT // 2, DRAINED_S)
        log = worker.log()
        assert await asyncio.to_thread(worker.stop) == 0
    assert log.count("digests: 0 different, 0 not verifiable") == PARTITIONS, log

    check_first(pipeline, second, await first_scores(kafka.bootstrap, pipeline, "2"))
    scores = await documents(kafka.bootstrap, topics.scores)
    assert len(scores) == len({one["event_id"] for one in scores}) == COUNT
    assert {one["model_version"].partition(".")[0] for one in scores} == {"1", "2"}
    told_of = [one for one in await documents(kafka.bootstrap, topics.alerts) if one["kind"] == "model_change"]
    assert Counter(one["evidence"]["learned"] for one in told_of) == {HISTORY // 2: PARTITIONS, HISTORY: PARTITIONS}
    for partition in range(PARTITIONS):
        assert (await kept(kafka.bootstrap, pipeline, partition)).digest == (
            await replayed(kafka.bootstrap, pipeline, partition)
        ).digest
    verified = await asyncio.to_thread(succeed, "verify", *where, "--outputs", "--json")
    report = orjson.loads(verified)
    assert (report["verdict"], report["unverifiable"]) == ("PASS", 0)
    shards = orjson.loads(await asyncio.to_thread(succeed, "status", *where, "--json"))
    assert [shard["note"]["version"].partition(".")[0] for shard in shards] == ["2"] * PARTITIONS


def _produce(where: tuple[str | Path, ...], rows: Rows, count: int) -> None:
    succeed("produce", *where, "--input", rows.path, "--label", rows.label, "--limit", str(count))
