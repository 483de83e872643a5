"""`driftline control` against a worker with a key: it ends with what the shards made of the command."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest

from driftline.devbroker.kafka import KafkaNode
from driftline.kafka.topic import create
from tests.support.command import Worker, driftline
from tests.support.stream import pipeline_file, pipeline_of, settings_of, weather

pytestmark = pytest.mark.integration

KEY = "the key of this deployment"
OTHER = {"DRIFTLINE_SNAPSHOT_KEY": "another's own key"}
KEYED = {"DRIFTLINE_SNAPSHOT_KEY": KEY, "DRIFTLINE_OPERATOR": "ann"}


def run(*arguments: str | Path, **changes: str) -> tuple[int, str]:
    done = driftline(*arguments, timeout_s=120.0, **changes)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(300)
async def test_control_ends_with_the_verdict(kafka: KafkaNode, tmp_path: Path) -> None:
    rows = weather(tmp_path, 200)
    file = pipeline_file(tmp_path, "controlled", rows, "StandardScaler() | LogisticRegression()")
    await create(pipeline_of(file), settings_of(kafka.bootstrap), partitions=2, shards=2)
    where = ("-p", file, "--bootstrap", kafka.bootstrap)

    def control(*arguments: str, **changes: str) -> tuple[int, str]:
        return run("control", *where, *arguments, **changes)

    code, said = await asyncio.to_thread(control, "--timeout", "1s", "freeze", **KEYED)
    assert (code, "no answer from 0, 1 within 1 s" in said) == (5, True), said
    with Worker(file, kafka.bootstrap, tmp_path, changes=KEYED) as worker:
        await asyncio.to_thread(worker.until_ready, 2)
        code, said = await asyncio.to_thread(control, "unfreeze", **KEYED)
        assert (code, said) == (0, "unfreeze: accepted by 2 shards of controlled\n")
        code, said = await asyncio.to_thread(
            control, "--timeout", "2s", "reset", DRIFTLINE_SNAPSHOT_KEY="another's own key"
        )
        assert code == 5, "it cannot tell whose journal this is"
        code, said = await asyncio.to_thread(control, "reset")
        assert (code, said.count("control_refused"), said.count("not signed with a key")) == (1, 2, 2), said
        shards = orjson.loads((await asyncio.to_thread(lambda: run("status", *where, "--json", **KEYED)))[1])
        taken = [[(one["command"], one["by"]) for one in shard["note"]["commands"]] for shard in shards]
        assert taken == [[("freeze", "ann"), ("unfreeze", "ann")]] * 2
        assert await asyncio.to_thread(worker.stop) == 0
    code, said = await asyncio.to_thread(lambda: run("verify", *where, "--outputs", **KEYED))
    assert code == 0, said
