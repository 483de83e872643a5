"""`driftline verify` on a real Kafka, beside a worker and after it, and on the embedded broker."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from driftline.devbroker.embedded import EmbeddedNode
from driftline.devbroker.kafka import KafkaNode
from driftline.kafka.client import admin, client_options, producer
from tests.support.command import Command, driftline, succeed
from tests.support.site import Site
from tests.support.stream import read, settings_of, until_written, weather

COUNT = 3_000
PARTITIONS = 2
DRAINED_S = 90.0


class Audited(Site):
    """And what verify says of it."""

    def __init__(self, bootstrap: str, folder: Path, name: str, **sections: Any) -> None:
        small: dict[str, Any] = {"limits": {"slice_records_max": 50}, "snapshot": {"every_records": 500}}
        super().__init__(bootstrap, folder, name, weather(folder, COUNT), **small, **sections)

    def verify(self, *more: str, code: int = 0) -> dict[str, Any]:
        done = driftline("verify", "-p", self.file, "--bootstrap", self.bootstrap, "--json", *more)
        assert done.returncode == code, done.stdout + done.stderr
        report: dict[str, Any] = orjson.loads(done.stdout)
        return report

    async def add(self, topic: str, value: bytes, partition: int = 0) -> int:
        """Write as a stranger; returns the offset."""
        async with producer(client_options(settings_of(self.bootstrap))) as client:
            return int((await client.send_and_wait(topic, value, partition=partition)).offset)

    async def expire(self, topic: str, offset: int) -> None:
        """As retention does."""
        async with admin(client_options(settings_of(self.bootstrap))) as client:
            await client.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=offset)})


@pytest.fixture
def site(kafka: KafkaNode, tmp_path: Path, request: pytest.FixtureRequest) -> Audited:
    made = Audited(kafka.bootstrap, tmp_path, request.node.name.replace("_", "-"))
    made.create()
    return made


def test_verify_beside_a_worker_and_after_it(site: Audited) -> None:
    topics = site.pipeline.topics
    with site.worker() as worker, Command(site.folder, *site.sending(), "--rate", "400", name="produce") as feed:
        worker.until_ready(PARTITIONS)
        worker.until(lambda: worker.metric("driftline_scores_total") > COUNT / 4, DRAINED_S, "a quarter is scored")
        beside = site.verify("--outputs")
        assert (beside["verdict"], beside["unverifiable"]) == ("PASS", 0)
        assert 0 < beside["outputs"][topics.scores] <= COUNT
        assert worker.process.poll() is None
        assert "recovers" not in worker.log(), "nobody fenced it"
        feed.end(DRAINED_S)
        asyncio.run(until_written(site.bootstrap, topics.outcomes, COUNT, DRAINED_S))
        worker.kill()  # leaves a transaction open, as likely as not
    after = site.verify("--outputs")
    assert after["verdict"] == "PASS"
    assert after["records"] == 2 * COUNT
    assert after["outputs"] == {topics.scores: COUNT, topics.outcomes: COUNT, topics.alerts: 0, topics.rejected: 0} | {
        topics.alerts: len(asyncio.run(read(site.bootstrap, topics.alerts)))
    }
    later = site.verify("--outputs", "--from", "2100-01-01T00:00:00Z")
    assert later["verdict"] == "PASS"
    assert all(shard["start"].startswith("the snapshot after slice") for shard in later["shards"])
    assert 0 < later["slices"] < after["slices"]
    assert 0 <= later["outputs"][topics.scores] < COUNT
    assert site.verify("--to", "2000-01-01T00:00:00Z", "--outputs")["slices"] == 0


def test_verify_names_what_a_stranger_did(site: Audited) -> None:
    topics = site.pipeline.topics
    with site.worker() as worker:
        succeed(*site.sending())
        asyncio.run(until_written(site.bootstrap, topics.outcomes, COUNT, DRAINED_S))
        worker.signal(signal.SIGTERM)
        assert worker.end(30.0) == 0
    for topic in (topics.events, topics.labels or ""):
        asyncio.run(site.expire(topic, 100))
    asyncio.run(site.expire(topics.scores, 30))
    cut = site.verify("--outputs")
    assert cut["verdict"] == "PASS"
    assert cut["shards"][0]["start"].endswith("since retention has removed earlier inputs")
    assert cut["shards"][1]["start"] == "the beginning"

    offset = asyncio.run(site.add(topics.alerts, b'{"output_id": "made-up", "sentence": "all is lost"}', partition=1))
    done = driftline("verify", "-p", site.file, "--bootstrap", site.bootstrap, "--outputs")
    assert done.returncode == 1
    assert f"{topics.alerts}-1-{offset}" in done.stdout
    assert "all is lost" in done.stdout
    assert "not the output of any slice" in done.stdout
    assert site.verify()["verdict"] == "PASS", "the journal is as it was"

    offset = asyncio.run(site.add(topics.journal, b"{}"))
    found = site.verify(code=1)["difference"]
    assert (found["shard"], found["place"], found["field"]) == (0, f"{topics.journal}-0-{offset}", "chain")


def test_verify_on_the_embedded_broker(embedded: EmbeddedNode, tmp_path: Path) -> None:
    site = Audited(embedded.bootstrap, tmp_path, "verify-embedded", delivery="at_least_once")
    site.create(1)
    with site.worker() as worker:
        worker.until_ready(1)
        succeed(*site.sending())
        outcomes = site.pipeline.topics.outcomes
        worker.until(lambda: worker.metric("driftline_labels_joined_total") >= COUNT, DRAINED_S, "all is learned")
        assert worker.stop() == 0
    report = site.verify("--outputs")
    assert (report["verdict"], report["records"], report["outputs"][outcomes]) == ("PASS", 2 * COUNT, COUNT)


def test_verify_says_what_is_missing(kafka: KafkaNode, tmp_path: Path) -> None:
    site = Audited(kafka.bootstrap, tmp_path, "verify-nothing")
    done = driftline("verify", "-p", site.file, "--bootstrap", kafka.bootstrap)
    assert done.returncode == 3
    assert "driftline topics create" in done.stderr
    done = driftline("verify", "-p", site.file, "--bootstrap", "127.0.0.1:1")
    assert done.returncode == 3
    site.create()
    assert site.verify("--outputs")["slices"] == 0
