"""A worker that is killed at any moment leaves nothing lost, nothing repeated, and a state that its journal proves.

Ten runs over the same stream, each a pipeline of its own; each worker gets SIGKILL when a random number of its
scores can be read, and another one takes over. The runs go side by side because most of their time is Kafka
waiting for the dead to miss their heartbeats.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from random import Random

import pytest

from app.broker.kafka import KafkaNode
from app.broker.topic import create
from tests.support.command import Worker, succeed
from tests.support.state import kept, replayed
from tests.support.stream import Rows, check_exact, pipeline_file, pipeline_of, settings_of, until_written, weather
from tests.support.table import rows_of

RUNS = 10
AT_ONCE = 5
EVENTS = 4_000
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


async def test_killed_anywhere(kafka: KafkaNode, tmp_path: Path, rows: Rows) -> None:
    seed = Random().randrange(2**32)
    print(f"seed {seed}")
    inputs = {"events": "kill.events", "labels": "kill.labels"}
    files = [
        pipeline_file(
            tmp_path, f"kill-{run}", rows, MODELS[run % len(MODELS)],
            topics=inputs,
            # Small slices and frequent snapshots: a kill is to meet each of them in every state.
            limits={"slice_records_max": 20}, snapshot={"every_records": rows.count // 20},
        )
        for run in range(RUNS)
    ]  # fmt: skip
    for file in files:
        await create(pipeline_of(file), settings_of(kafka.bootstrap), partitions=PARTITIONS)
    await asyncio.to_thread(
        succeed, "produce", "-p", files[0], "--bootstrap", kafka.bootstrap, "--input", rows.path, "--label", rows.label
    )
    turn = asyncio.Semaphore(AT_ONCE)
    async with asyncio.TaskGroup() as group:
        for run, file in enumerate(files):
            group.create_task(_killed_run(kafka.bootstrap, file, rows, Random(seed + run), turn))


async def _killed_run(bootstrap: str, file: Path, rows: Rows, random: Random, turn: asyncio.Semaphore) -> None:
    pipeline = pipeline_of(file)
    async with turn:
        kill_at = random.randrange(1, int(rows.count * 0.9))
        with Worker(file, bootstrap, file.parent, name=f"{file.stem}-killed") as worker:
            await until_written(bootstrap, pipeline.topics.scores, kill_at, DRAINED_S)
            worker.kill()
        with Worker(file, bootstrap, file.parent, name=f"{file.stem}-survivor") as worker:
            await until_written(bootstrap, pipeline.topics.scores, rows.count, DRAINED_S)
            await asyncio.to_thread(worker.until_ready, PARTITIONS)
            log = worker.log()
            assert await asyncio.to_thread(worker.stop) == 0
        told = f"{pipeline.name}, killed at score {kill_at}:\n{log}"
        assert log.count("digests: 0 different, 0 not verifiable") == PARTITIONS, told
        await check_exact(bootstrap, pipeline, range(rows.count))
        folded = 0
        for partition in range(PARTITIONS):
            again, snapshot = await replayed(bootstrap, pipeline, partition), await kept(bootstrap, pipeline, partition)
            assert again.progress is not None
            assert again.progress.unverifiable == 0
            folded += again.progress.records
            assert snapshot.chain == again.chain, f"{told}\nsnapshot {partition} is not the last state"
            assert snapshot.digest == again.digest, f"{told}\nshard {partition} replays to another state"
        assert folded == 2 * rows.count, told
