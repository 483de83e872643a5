"""One change is one episode: published once, seen by a subscriber, and posted once, whoever is killed between."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.devbroker.kafka import KafkaNode
from driftline.kafka.client import client_options, producer
from driftline.kafka.topic import create
from tests.support.command import Worker, succeed
from tests.support.receiver import Post, Receiver
from tests.support.stream import documents, read, settings_of, until_written

START_MS, STEP_MS = 1_700_000_000_000, 1_000
CHANGE, FOUND, ALL = 1_500, 1_800, 3_000  # the change; by then it is found; by then it is over
WITHIN_S = 90.0


def pipeline(name: str, **rules: Any) -> Pipeline:
    return parse_pipeline(
        {
            "pipeline": name,
            "task": "binary",
            "event": {"id": "id", "time": "t", "features": {"x": "number", "z": "number"}},
            "label": {"id": "id", "value": "y", "time": "t", "wait": "1h"},
            "model": "StandardScaler() | LogisticRegression()",
            "metrics": ["Accuracy"],
            "drift": {"error": "ADWIN(delta=0.002)", "warmup_labels": 500},
            "alerts": {"quiet": "10m", **rules},
        }
    )


async def produce(bootstrap: str, chosen: Pipeline, first: int, last: int) -> None:
    """Events whose concept turns at `CHANGE`, each with its label; two partitions would be two shards, so one."""
    rng = random.Random(first)
    async with producer(client_options(settings_of(bootstrap)), acks="all", linger_ms=20) as sender:
        sent = []
        for number in range(first, last):
            x, z, noise = (rng.gauss(0, 1) for _ in range(3))
            y = int((x if number < CHANGE else -x) + 0.3 * z + 0.3 * noise > 0)
            time_ms = START_MS + number * STEP_MS
            event, label = {"id": number, "t": time_ms, "x": x, "z": z}, {"id": number, "t": time_ms, "y": y}
            for topic, value in ((chosen.topics.events, event), (chosen.topics.labels, label)):
                sent.append(await sender.send(topic, orjson.dumps(value), partition=0, timestamp_ms=time_ms))
        await asyncio.gather(*sent)


def site(folder: Path, chosen: Pipeline, url: str) -> tuple[Path, str]:
    """The pipeline's file and that of its webhooks, whose address is a secret of the environment."""
    file, hooks = folder / "pipeline.yaml", folder / "notify.yaml"
    file.write_bytes(orjson.dumps(chosen.resolved()))
    hooks.write_text(
        "webhooks:\n  on-call:\n    form: json\n    url: ${HOOK}\n    audience: [operations]\n"
        "    severity: critical\n    backoff: 200ms\n    timeout: 30s\n"
    )
    return file, url


def worker(folder: Path, bootstrap: str, file: Path, url: str, name: str) -> Worker:
    return Worker(file, bootstrap, folder, "--notify", str(folder / "notify.yaml"), name=name, changes={"HOOK": url})


async def noted(bootstrap: str, chosen: Pipeline, count: int) -> None:
    """Wait until the group of the webhook has that place in the alerts."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        async with asyncio.timeout(WITHIN_S):
            while True:
                places = await client.list_consumer_group_offsets(f"{chosen.name}.notify.on-call")
                if any(place.offset >= count for place in places.values()):
                    return
                await asyncio.sleep(0.05)
    finally:
        await client.close()


@pytest.mark.timeout(400)
async def test_one_change_is_one_episode_posted_once_although_workers_are_killed(
    kafka: KafkaNode, tmp_path: Path
) -> None:
    chosen = pipeline("one-change")
    bootstrap = kafka.bootstrap
    await create(chosen, settings_of(bootstrap), partitions=1, shards=1, retention_ms=-1)
    async with Receiver(lambda _: 503) as receiver:
        file, url = site(tmp_path, chosen, receiver.url)
        await produce(bootstrap, chosen, 0, FOUND)
        with worker(tmp_path, bootstrap, file, url, "first") as first:
            await receiver.until(lambda: len(receiver.posts) >= 2, "the alert is posted, and not taken")
            first.kill()  # between the alert and its delivery
        receiver.answer = lambda _: 200
        with worker(tmp_path, bootstrap, file, url, "second") as second:
            await receiver.until(lambda: len(receiver.taken) == 1, "another worker posts it")
            await noted(bootstrap, chosen, 1)
            second.kill()  # between its beginning and its end
        await produce(bootstrap, chosen, FOUND, ALL)
        with worker(tmp_path, bootstrap, file, url, "third") as third:
            await receiver.until(lambda: len(receiver.taken) == 3, "that it lasts, and the end, are posted")
            await until_written(bootstrap, chosen.topics.outcomes, ALL, WITHIN_S)
            await noted(bootstrap, chosen, 3)
            assert third.metric("driftline_notifications_total", result="delivered") == 2
            assert await asyncio.to_thread(third.stop) == 0
    opened, stays, over = await documents(bootstrap, chosen.topics.alerts)  # three, and no more
    assert (opened["state"], stays["state"], over["state"]) == ("opened", "ongoing", "resolved")
    assert opened["episode"] == stays["episode"] == over["episode"]
    assert CHANGE < int(opened["episode"].rpartition("-")[2][1:]) < FOUND
    assert {one.key for one in await read(bootstrap, chosen.topics.alerts)} == {opened["episode"].encode()}
    assert [told(post) for post in receiver.taken] == [opened, stays, over]
    keys = {f"{opened['episode']}:{step}" for step in ("opened:1", "ongoing:2", "resolved:3")}
    assert {post.key for post in receiver.posts} == keys


def told(post: Post) -> dict[str, Any]:
    return {name: value for name, value in post.document.items() if name != "idempotency_key"}


@pytest.mark.timeout(400)
async def test_an_operator_acknowledges_and_silences_an_episode(kafka: KafkaNode, tmp_path: Path) -> None:
    chosen = pipeline("operated")
    bootstrap = kafka.bootstrap
    await create(chosen, settings_of(bootstrap), partitions=1, shards=1, retention_ms=-1)
    async with Receiver() as receiver:
        file, url = site(tmp_path, chosen, receiver.url)
        await produce(bootstrap, chosen, 0, FOUND)
        with worker(tmp_path, bootstrap, file, url, "worker") as running:
            await receiver.until(lambda: len(receiver.taken) == 1, "it is posted")
            episode = receiver.taken[0].document["episode"]
            where = ("-p", file, "--bootstrap", bootstrap)
            said = await asyncio.to_thread(succeed, "control", *where, "acknowledge", episode)
            assert said == f"acknowledge {episode}: accepted by 1 shard of operated\n"
            await receiver.until(lambda: len(receiver.taken) == 2, "that somebody cares is posted")
            assert await asyncio.to_thread(succeed, "control", *where, "silence", episode, "--for", "1h")
            await until_written(bootstrap, chosen.topics.alerts, 3, WITHIN_S)
            await produce(bootstrap, chosen, FOUND, ALL)
            await receiver.until(lambda: len(receiver.taken) == 3, "its end is posted")
            await asyncio.to_thread(succeed, "control", *where, "snapshot")
            await asyncio.to_thread(
                running.until, lambda: running.metric("driftline_snapshot_bytes_count") >= 1, WITHIN_S, "a snapshot"
            )
            assert await asyncio.to_thread(running.stop) == 0
    published = await documents(bootstrap, chosen.topics.alerts)
    assert [(one["state"], one["acknowledged"], one["silenced"]) for one in published] == [
        ("opened", False, False),
        ("ongoing", True, False),
        ("ongoing", True, True),
        ("ongoing", True, True),  # the error has not come back to where it was
        ("resolved", True, True),
    ]
    assert [post.document["state"] for post in receiver.taken] == ["opened", "ongoing", "resolved"]
    shown = await asyncio.to_thread(
        succeed, "tail", "alerts", "--pretty", "--from-beginning", "--limit", "4", "-p", file, "--bootstrap", bootstrap
    )
    assert max(map(len, shown.splitlines())) <= 80
    assert "! 2023-11-14" in shown
    assert "has been wrong more often" in " ".join(shown.split())
