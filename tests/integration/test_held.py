"""Predictions that wait for a person, on a real Kafka, through a kill and rebalances: each is decided once.

One worker is killed in the middle, two take over, one of them is killed as well while people decide, and the last one
decides at the deadline what no one has. Deadlines are in event time: they pass when later events come, not before,
however long the rest takes.
"""

from __future__ import annotations

import asyncio
import csv
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from driftline.core.pipeline import Pipeline
from driftline.devbroker.kafka import KafkaNode
from driftline.kafka.topic import create
from tests.support.command import Worker, succeed
from tests.support.stream import Rows, documents, pipeline_file, pipeline_of, settings_of, until_written, weather

COUNT = 600
LATER = range(COUNT, COUNT + 40)  # ids of the events after the deadlines
PARTITIONS = 2
DRAINED_S = 180.0
DECIDED = ("approved", "edited", "refused", "overdue")
GUARD: dict[str, Any] = {
    "range": {"min": 0.45, "max": 0.55, "action": "hold"},
    "hold": {"wait": "1h", "then": "fallback"},
    "fallback": {"value": 0.5},
}


@pytest.mark.timeout(600)
async def test_each_held_prediction_is_decided_once(kafka: KafkaNode, tmp_path: Path) -> None:
    rows = weather(tmp_path, COUNT)
    file = pipeline_file(
        tmp_path, "held", rows, guard=GUARD, limits={"slice_records_max": 20}, snapshot={"every_records": 40}
    )
    pipeline, bootstrap = pipeline_of(file), kafka.bootstrap
    await create(pipeline, settings_of(bootstrap), partitions=PARTITIONS, shards=PARTITIONS)
    now = datetime.now(UTC)
    await _send(file, bootstrap, rows, now - timedelta(hours=2))
    with Worker(file, bootstrap, tmp_path, name="held-killed") as first:
        await until_written(bootstrap, pipeline.topics.scores, COUNT // 3, DRAINED_S)
        first.kill()
    with Worker(file, bootstrap, tmp_path, name="held-survivor") as last:
        with Worker(file, bootstrap, tmp_path, name="held-killed-too") as second:
            await until_written(bootstrap, pipeline.topics.scores, COUNT, DRAINED_S)
            approved, edited, refused = await _waiting(file, bootstrap)
            await _decide(file, bootstrap, "approve", approved, "--why", "a promotion")
            second.kill()
        await asyncio.to_thread(last.until_ready, PARTITIONS)
        await _decide(file, bootstrap, "edit", edited, "0.5")
        await _decide(file, bootstrap, "refuse", refused)
        await _send(file, bootstrap, _later(tmp_path, rows), now, "--id", "id")
        held, decided = await _until_all_decided(bootstrap, pipeline)
        assert await asyncio.to_thread(last.stop) == 0
    assert Counter(decided.keys()) == Counter(held)
    assert {name for name, guards in decided.items() if len(guards) > 1} == set()
    ends = {guards[0] for guards in decided.values()}
    assert ends == set(DECIDED)
    assert [decided[name] for name in (approved, edited, refused)] == [["approved"], ["edited"], ["refused"]]
    reviews = await documents(bootstrap, pipeline.topics.review or "")
    assert Counter(one["event_id"] for one in reviews if one["state"] != "held") == Counter(held)
    (by_a_person,) = [one for one in reviews if one["state"] == "approved"]
    assert by_a_person["why"] == "a promotion"
    told = await asyncio.to_thread(succeed, "verify", "-p", file, "--bootstrap", bootstrap, timeout_s=200.0)
    assert told.startswith("PASS"), told


async def _send(file: Path, bootstrap: str, rows: Rows, start: datetime, *more: str) -> None:
    words: tuple[str | Path, ...] = ("produce", "-p", file, "--bootstrap", bootstrap, "--input", rows.path)
    at = ("--label", rows.label, "--start", start.isoformat(), "--step", "100ms")
    await asyncio.to_thread(succeed, *words, *at, *more)


def _later(folder: Path, rows: Rows) -> Rows:
    """Some events like the first ones, with ids of their own, for both partitions."""
    path = folder / "later.csv"
    with rows.path.open(newline="") as known, path.open("w", newline="") as file:
        reader, writer = csv.reader(known), csv.writer(file)
        writer.writerow(["id", *next(reader)])
        writer.writerows([number, *row] for number, row in zip(LATER, reader, strict=False))
    return Rows(path, rows.features, rows.label, len(LATER))


async def _waiting(file: Path, bootstrap: str) -> list[int]:
    """Three of those that wait, the latest deadlines first."""
    listed = await asyncio.to_thread(succeed, "review", "-p", file, "--bootstrap", bootstrap, "list", "--json")
    return [one["event_id"] for one in orjson.loads(listed)][-3:]


async def _decide(file: Path, bootstrap: str, decision: str, event: int, *more: str) -> None:
    words: tuple[str | Path, ...] = ("review", "-p", file, "--bootstrap", bootstrap, decision, str(event), *more)
    await asyncio.to_thread(succeed, *words)


async def _until_all_decided(bootstrap: str, pipeline: Pipeline) -> tuple[list[int], dict[int, list[str]]]:
    """Which were held, and what became of each, once there is something of all."""
    until_s = time.monotonic() + DRAINED_S
    while True:
        every = await documents(bootstrap, pipeline.topics.scores)
        scores = [one for one in every if one["event_id"] not in LATER]
        held = [one["event_id"] for one in scores if one["guard"] == "held"]
        decided: dict[int, list[str]] = {}
        for one in scores:
            if one["guard"] in DECIDED:
                decided.setdefault(one["event_id"], []).append(one["guard"])
        if held and decided.keys() == set(held):
            return held, decided
        assert time.monotonic() < until_s, f"{len(held)} were held, {len(decided)} decided"
        await asyncio.sleep(1)
