"""A worker that is killed at any moment leaves nothing lost, nothing repeated, and a state that its journal proves.

Ten runs over the same stream, each a pipeline of its own; each worker gets SIGKILL when a random number of its
scores can be read, and another one takes over; in some runs that one is killed too, while it recovers. The runs go
side by side because most of their time is Kafka waiting for the dead to miss their heartbeats. Two more runs do the
same at least once, where outputs may repeat.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import defaultdict
from pathlib import Path

import pytest

from driftline.core.pipeline import Pipeline
from driftline.devbroker.kafka import KafkaNode
from driftline.kafka.topic import create
from tests.support.command import Worker, succeed
from tests.support.state import kept, replayed
from tests.support.stream import (
    Rows,
    check_exact,
    documents,
    pipeline_file,
    pipeline_of,
    settings_of,
    until_written,
    weather,
)
from tests.support.table import rows_of

RUNS = 10
RUNS_AT_LEAST_ONCE = 2
AT_ONCE = 6
EVENTS = 2_400
PARTITIONS = 4
DRAINED_S = 120.0
MODELS = (
    "StandardScaler() | LogisticRegression()",
    "HoeffdingAdaptiveTreeClassifier(seed=42)",
    "GaussianNB()",
    "ADWINBaggingClassifier(StandardScaler() | LogisticRegression(), n_models=3)",
)


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    data = os.environ.get("DRIFTLINE_DATA")
    return rows_of(Path(data), "noaa_weather") if data else weather(tmp_path, EVENTS)


@pytest.mark.timeout(600)
async def test_killed_anywhere(kafka: KafkaNode, tmp_path: Path, rows: Rows) -> None:
    files = [_file(tmp_path, run, rows) for run in range(RUNS + RUNS_AT_LEAST_ONCE)]
    for file in files:
        await create(pipeline_of(file), settings_of(kafka.bootstrap), partitions=PARTITIONS, shards=PARTITIONS)
    await asyncio.to_thread(
        succeed, "produce", "-p", files[0], "--bootstrap", kafka.bootstrap, "--input", rows.path, "--label", rows.label
    )
    turn = asyncio.Semaphore(AT_ONCE)
    async with asyncio.TaskGroup() as group:
        runs = [group.create_task(_killed_run(kafka.bootstrap, file, rows, turn)) for file in files]
    left = [run.result() for run in runs]
    assert sum(count > 0 for count in left) > len(left) / 2, f"they are killed in the middle: {left}"


def _file(folder: Path, run: int, rows: Rows) -> Path:
    """Small slices and frequent snapshots: kills are to meet each of them in every state."""
    return pipeline_file(
        folder,
        f"kill-{run}",
        rows,
        MODELS[run % len(MODELS)],
        topics={"events": "kill.events", "labels": "kill.labels"},
        limits={"slice_records_max": 20},
        snapshot={"every_records": rows.count // 20},
        delivery="exactly_once" if run < RUNS else "at_least_once",
    )


async def _killed_run(bootstrap: str, file: Path, rows: Rows, turn: asyncio.Semaphore) -> int:
    """Returns how many scores the survivor made."""
    pipeline = pipeline_of(file)
    kill_at, killed_twice = random.randrange(1, int(rows.count * 0.9)), random.random() < 0.25
    told = f"{pipeline.name}, killed at score {kill_at}" + " and while recovering" * killed_twice
    async with turn:
        with Worker(file, bootstrap, file.parent, name=f"{pipeline.name}-killed") as worker:
            await until_written(bootstrap, pipeline.topics.scores, kill_at, DRAINED_S)
            worker.kill()
        if killed_twice:
            with Worker(file, bootstrap, file.parent, name=f"{pipeline.name}-killed-again") as worker:
                await asyncio.to_thread(worker.until_said, "shards of this worker: 0, 1, 2, 3")
                worker.kill()
        with Worker(file, bootstrap, file.parent, name=f"{pipeline.name}-survivor") as worker:
            await asyncio.to_thread(worker.until_ready, PARTITIONS)
            await until_written(bootstrap, pipeline.topics.scores, rows.count, DRAINED_S)
            log, left = worker.log(), int(worker.metric("driftline_scores_total"))
            assert await asyncio.to_thread(worker.stop) == 0
        assert log.count("digests: 0 different, 0 not verifiable") == PARTITIONS, f"{told}\n{log}"
        if pipeline.delivery == "exactly_once":
            await check_exact(bootstrap, pipeline, range(rows.count))
        else:
            await _check_complete(bootstrap, pipeline, rows.count)
        await _check_states(bootstrap, pipeline, rows.count, told)
    return left


async def _check_complete(bootstrap: str, pipeline: Pipeline, count: int) -> None:
    """Every event has a score and a joined label, and what repeats says so by its output_id."""
    for topic in (pipeline.topics.scores, pipeline.topics.outcomes):
        names = defaultdict(set)
        for one in await documents(bootstrap, topic):
            names[one["event_id"]].add(one["output_id"])
            assert one.get("kind", "joined") == "joined"
        assert sorted(names) == list(range(count)), f"{topic}: {count - len(names)} are missing"
        assert all(len(found) == 1 for found in names.values())


async def _check_states(bootstrap: str, pipeline: Pipeline, count: int, told: str) -> None:
    """The journal, folded from its beginning, gives what the survivor had when it was stopped."""
    folded = 0
    for partition in range(PARTITIONS):
        again, snapshot = await replayed(bootstrap, pipeline, partition), await kept(bootstrap, pipeline, partition)
        assert again.progress is not None
        assert again.progress.unverifiable == 0
        folded += again.progress.records
        assert snapshot.chain == again.chain, f"{told}: snapshot {partition} is not the last state"
        assert snapshot.digest == again.digest, f"{told}: shard {partition} replays to another state"
    assert folded == 2 * count, told
