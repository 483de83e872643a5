"""Backtests over the topics of a run on a real Kafka: what was served, bit for bit, with nothing live touched."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
from aiokafka import TopicPartition

from driftline.backtest.topic import state_digest
from driftline.codec.keyring import NO_KEYS
from driftline.core.pipeline import Pipeline
from driftline.core.state.freeze import load
from driftline.devbroker.kafka import KafkaNode
from driftline.engine.snapshot import read_snapshots
from driftline.kafka.broker import KafkaBroker
from driftline.kafka.client import admin, client_options
from driftline.kafka.topic import create
from driftline.transport.port import Place
from tests.support.command import Worker, driftline, succeed
from tests.support.stream import documents, pipeline_file, pipeline_of, settings_of, until_written, weather

COUNT = 4_000
PARTITIONS = 4
DRAINED_S = 120.0


async def group_offsets(bootstrap: str, name: str) -> dict[TopicPartition, Any]:
    async with admin(client_options(settings_of(bootstrap))) as client:
        found: dict[TopicPartition, Any] = await client.list_consumer_group_offsets(f"driftline-{name}")
        return found


async def kept(bootstrap: str, pipeline: Pipeline, partition: int) -> str:
    """Digest of the state that the last worker left when it stopped."""
    broker = KafkaBroker(pipeline, settings_of(bootstrap))
    snapshots = await read_snapshots(broker.reader, Place(pipeline.topics.snapshots, partition), NO_KEYS)
    _, frozen = snapshots[0]
    return state_digest(load(pipeline, partition, frozen))


def report_of(folder: Path) -> dict[str, Any]:
    made: dict[str, Any] = orjson.loads((folder / "report.json").read_bytes())
    return made


async def test_what_was_served_after_crashes_and_a_rebalance(kafka: KafkaNode, tmp_path: Path) -> None:
    rows = weather(tmp_path, COUNT)
    sections: dict[str, Any] = {
        "limits": {"slice_records_max": 20},
        "snapshot": {"every_records": 500},
        "drift": {"error": "ADWIN()", "warmup_labels": 100},
    }
    file = pipeline_file(tmp_path, "replayed", rows, **sections)
    pipeline, bootstrap = pipeline_of(file), kafka.bootstrap
    await create(pipeline, settings_of(bootstrap), partitions=PARTITIONS, shards=PARTITIONS)
    where = ("-p", file, "--bootstrap", bootstrap)
    await asyncio.to_thread(succeed, "produce", *where, "--input", rows.path, "--label", rows.label)
    scores = pipeline.topics.scores
    with Worker(file, bootstrap, tmp_path, name="killed") as killed:
        await until_written(bootstrap, scores, COUNT // 5, DRAINED_S)
        killed.kill()
    with Worker(file, bootstrap, tmp_path, name="one") as one, Worker(file, bootstrap, tmp_path, name="two") as two:
        await until_written(bootstrap, scores, COUNT, DRAINED_S)
        await until_written(bootstrap, pipeline.topics.outcomes, COUNT, DRAINED_S)
        await asyncio.to_thread(one.until_ready, 2)
        await asyncio.to_thread(two.until_ready, 2)
        assert [one.stop(), two.stop()] == [0, 0]
    before = await group_offsets(bootstrap, pipeline.name)
    out = tmp_path / "out"
    rival = pipeline_file(tmp_path, "rival", rows, "GaussianNB()")
    await asyncio.to_thread(succeed, "backtest", *where, "-p", rival, "--against", "live", "-o", out)
    made = report_of(out)
    live, other = made["candidates"]
    assert made["source"]["order"] == "journal"
    assert made["source"]["rows"] == 2 * COUNT
    assert live["live"]
    assert (live["against"]["compared"], live["against"]["differing"]) == (COUNT, 0)
    assert (live["against"]["missing"], live["against"]["removed"]) == (0, 0)
    assert made["findings"] == [f"replayed: all {COUNT:,} scores are identical to the served ones, bit for bit."]
    assert live["alert_count"] == len(await documents(bootstrap, pipeline.topics.alerts))
    for partition in range(PARTITIONS):
        assert live["state"][str(partition)] == await kept(bootstrap, pipeline, partition)
    assert other["counted"] == live["counted"] == COUNT
    assert other["against"]["differing"] > COUNT // 2

    # A span reads no more than itself: in journal order its events, their labels and the rest of a slice.
    for order, most in (("journal", (2 * 60 + 20) * PARTITIONS), ("time", 2 * COUNT - 1)):
        span = ("--from", "offset:100", "--to", "offset:160")
        await asyncio.to_thread(succeed, "backtest", *where, "-p", rival, "--order", order, *span, "-o", out)
        made = report_of(out)
        assert [one["counted"] for one in made["candidates"]] == [60 * PARTITIONS] * 2
        assert not any(one["live"] for one in made["candidates"])
        assert made["source"]["rows"] <= most
        assert made["source"]["start"] == "cold"
        assert await group_offsets(bootstrap, pipeline.name) == before

    # What was served in it is known too; then every candidate knows what was before.
    twin = pipeline_file(tmp_path, "twin", rows, **sections)
    span = ("--from", "offset:900", "--against", "live")
    await asyncio.to_thread(succeed, "backtest", *where, "-p", twin, *span, "-o", out)
    made = report_of(out)
    live, same = made["candidates"]
    assert live["live"]
    assert not same["live"]
    assert live["against"]["compared"] == same["against"]["compared"] == live["counted"] == COUNT - 900 * PARTITIONS
    assert live["against"]["differing"] == same["against"]["differing"] == 0
    assert made["source"]["start"].startswith("from ")
    assert made["source"]["rows"] < 2 * COUNT
    assert {one["difference"] for one in made["comparisons"][0]["differences"]} == {0.0}
    assert await group_offsets(bootstrap, pipeline.name) == before

    # One event's score, and all outcomes as a table.
    first = (await documents(bootstrap, scores))[COUNT // 2]
    told = await asyncio.to_thread(succeed, "explain", *where, "--event", str(first["event_id"]))
    assert "identical" in told
    assert f"by model version {first['model_version']}" in told
    told = await asyncio.to_thread(succeed, "export", *where, "-o", tmp_path / "outcomes.csv")
    assert told.startswith(f"{COUNT:,} outcomes")
    assert len((tmp_path / "outcomes.csv").read_text().splitlines()) == COUNT + 1
    assert await group_offsets(bootstrap, pipeline.name) == before

    # What is not there is told.
    done = await asyncio.to_thread(driftline, "backtest", *where, "--from", "offset:90000", "-o", out)
    assert done.returncode == 2, done.stdout
    assert "no records in" in done.stderr
