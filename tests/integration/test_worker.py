"""The worker as an operator meets it: stops and starts, pages, wrong set-ups, lost input, a broker that goes."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

from driftline.devbroker import kafka as kafka_broker
from driftline.devbroker.kafka import KafkaNode
from driftline.kafka.client import admin, client_options
from driftline.kafka.topic import create_plain
from tests.support.command import Command, Worker, driftline, fetch, free_port, sample, succeed
from tests.support.site import PARTITIONS, Site
from tests.support.state import epochs, kept, replayed, slices
from tests.support.stream import (
    documents,
    read,
    settings_of,
    until_written,
    weather,
)

DRAINED_S = Site.drained_s
STOP_MAX_S = 10.0
BROKERLESS_STOP_MAX_S = 15.0
METRICS = (
    "driftline_records_total",
    "driftline_scores_total",
    "driftline_labels_joined_total",
    "driftline_rejected_total",
    "driftline_alerts_total",
    "driftline_pending",
    "driftline_label_delay_seconds_bucket",
    "driftline_score_latency_seconds_bucket",
    "driftline_score_latency_from_receipt_seconds_bucket",
    "driftline_slice_records_bucket",
    "driftline_commit_seconds_bucket",
    "driftline_snapshot_seconds_bucket",
    "driftline_snapshot_bytes_bucket",
    "driftline_lag",
    "driftline_recovery_seconds",
    "driftline_recovery_slices",
    "driftline_metric",
)


class Watched(Site):
    """As a worker is watched."""

    def produce(self, *flags: str) -> None:
        succeed(*self.sending(), *flags)

    def outcomes(self) -> list[dict[str, Any]]:
        return asyncio.run(documents(self.bootstrap, self.pipeline.topics.outcomes))

    def epochs(self) -> list[list[tuple[str, str]]]:
        """Reason and state of every epoch, by shard."""
        found = [asyncio.run(epochs(self.bootstrap, self.pipeline, partition)) for partition in range(PARTITIONS)]
        return [[(entry.reason, entry.state) for entry in entries] for entries in found]


@pytest.fixture
def site(kafka: KafkaNode, tmp_path: Path, request: pytest.FixtureRequest) -> Watched:
    """600 events with labels are in the topics."""
    made = Watched(kafka.bootstrap, tmp_path, request.node.name.replace("_", "-"), weather(tmp_path, 600))
    made.create()
    made.produce()
    return made


def stop_in_time(worker: Command, most_s: float = STOP_MAX_S) -> None:
    begun_s = time.monotonic()
    assert worker.stop() == 0, worker.log()
    assert time.monotonic() - begun_s < most_s


# -- stopping, starting again, pages


def test_a_clean_stop_leaves_all_to_the_next_start(site: Watched) -> None:
    with site.worker() as worker:
        site.until_joined(600)
        stop_in_time(worker)
        assert worker.log().count("snapshot written") == PARTITIONS
    for partition in range(PARTITIONS):
        snapshot = asyncio.run(kept(site.bootstrap, site.pipeline, partition))
        again = asyncio.run(replayed(site.bootstrap, site.pipeline, partition))
        assert (snapshot.chain, snapshot.digest) == (again.chain, again.digest)
    with site.worker() as worker:
        worker.until_ready(PARTITIONS)
        assert worker.metric("driftline_recoveries_total") == PARTITIONS
        assert worker.metric("driftline_recovery_slices") == 0, "all is in the snapshots"
        assert worker.metric("driftline_labels_learned") == 600
        stop_in_time(worker)
    site.check_exact(600)


def test_pages(site: Watched) -> None:
    with site.worker() as worker:
        seen: list[tuple[int, dict[str, Any]]] = []

        def ready() -> bool:
            page = worker.page("/health/ready")
            if page is not None:
                seen.append((page[0], orjson.loads(page[1])))
            return page is not None and page[0] == 200

        worker.until(ready, 60, "it is ready")
        *before, (_, last) = seen
        assert before, "it can be asked before it is ready"
        assert all(code == 503 and not said["ready"] for code, said in before)
        assert last == {"ready": True, "shards": {"0": True, "1": True}}
        assert worker.page("/health/live") == (200, '{"live":true}')
        site.until_joined(600)
        page = worker.page("/metrics")
        assert page is not None
        assert page[0] == 200
        missing = [name for name in METRICS if f"\n{name}" not in page[1]]
        assert [*missing] == ["driftline_rejected_total", "driftline_alerts_total"], "none so far, so no series"
        worker.until(lambda: worker.metric("driftline_labels_joined_total") == 600, 10, "its counts are there")
        assert worker.metric("driftline_records_total", topic=site.pipeline.topics.events) == 600
        worker.until_read(PARTITIONS, 10)
        stop_in_time(worker)


def test_faust_runs_it_too(site: Watched) -> None:
    port = free_port()
    here = {
        "DRIFTLINE_PIPELINE": str(site.file),
        "DRIFTLINE_BOOTSTRAP": site.bootstrap,
        "DRIFTLINE_WEB_PORT": str(port),
    }
    with Command(site.folder, "-A", "driftline.main", "worker", module="faust", changes=here) as worker:
        site.until_joined(600)
        worker.until(lambda: (fetch(port, "/health/ready") or (0, ""))[0] == 200, 20, "it is ready")
        assert sample((fetch(port, "/metrics") or (0, ""))[1], "driftline_scores_total") == 600
        stop_in_time(worker)
    site.check_exact(600)


def test_what_stops_it_under_faust_is_in_the_log(kafka: KafkaNode, tmp_path: Path) -> None:
    """No command of ours ends with it there."""
    site = Watched(kafka.bootstrap, tmp_path, "faust-missing", weather(tmp_path, 10))
    here = {
        "DRIFTLINE_PIPELINE": str(site.file),
        "DRIFTLINE_BOOTSTRAP": site.bootstrap,
        "DRIFTLINE_WEB_PORT": str(free_port()),
    }
    with Command(site.folder, "-A", "driftline.main", "worker", module="faust", changes=here) as worker:
        worker.until_said("faust-missing.events: is missing; create it with `driftline topics create -p FILE`")


# -- wrong set-ups


def test_missing_topics(kafka: KafkaNode, tmp_path: Path) -> None:
    site = Watched(kafka.bootstrap, tmp_path, "missing-topics", weather(tmp_path, 10))
    done = driftline("worker", "-p", site.file, "--bootstrap", site.bootstrap)
    assert done.returncode == 3
    assert "missing-topics.events: is missing; create it with `driftline topics create -p FILE`" in done.stderr
    assert "Traceback" not in done.stderr


def test_unequal_topics(kafka: KafkaNode, tmp_path: Path) -> None:
    site = Watched(kafka.bootstrap, tmp_path, "unequal-topics", weather(tmp_path, 10))
    create_plain(kafka.bootstrap, {"unequal-topics.labels": 3})
    site.create(2)
    done = driftline("worker", "-p", site.file, "--bootstrap", site.bootstrap)
    assert done.returncode == 3
    assert "unequal-topics.labels: has 3 partitions and unequal-topics.events has 2" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_broker(tmp_path: Path) -> None:
    """It waits, alive and not ready, says so once, and can be stopped; that it goes on is shown in test_faults."""
    site = Watched(f"127.0.0.1:{free_port()}", tmp_path, "no-broker", weather(tmp_path, 10))
    with site.worker() as worker:
        worker.until_said("Kafka is unavailable: cannot reach Kafka at")
        page = worker.page("/health/ready")
        assert page is not None
        assert page[0] == 503
        assert worker.page("/health/live") == (200, '{"live":true}')
        assert worker.metric("driftline_broker_outages_total") == 1
        stop_in_time(worker)
        assert worker.log().count("Kafka is unavailable") == 1
        assert "Traceback" not in worker.log()


# -- time on idle topics


def test_events_without_labels_expire_on_idle_topics(kafka: KafkaNode, tmp_path: Path) -> None:
    wait_s = 3.0
    rows = weather(tmp_path, 20)
    form = {"id": "id", "value": rows.label, "wait": f"{wait_s:.0f}s"}
    site = Watched(kafka.bootstrap, tmp_path, "expiry", rows, label=form)
    site.create()
    header, *lines = rows.path.read_text().splitlines()
    unlabelled = [line.rpartition(",")[0] + "," for line in lines[1:]]
    rows.path.write_text("\n".join([header, lines[0], *unlabelled]))
    with site.worker() as worker:
        worker.until_ready(PARTITIONS)
        sent_s = time.monotonic()
        site.produce("--step", "1ms")  # so that none expires by the time of another
        asyncio.run(until_written(site.bootstrap, site.pipeline.topics.scores, 20, DRAINED_S))
        scored_s = time.monotonic()
        site.until_joined(20)
        joined_s = time.monotonic()
        assert joined_s - sent_s > wait_s, "none expires early, however late the scores were seen"
        assert joined_s - scored_s < wait_s + 5.0, "a tick looks at the clock ten times a second"
        stop_in_time(worker)
    kinds = sorted(one["kind"] for one in site.outcomes())
    assert kinds == ["expired"] * 19 + ["joined"]
    ticks = [
        entry.tick_ms
        for partition in range(PARTITIONS)
        for entry in asyncio.run(slices(site.bootstrap, site.pipeline, partition))
        if entry.tick_ms is not None
    ]
    assert ticks, "what let them expire is journaled"
    with site.worker() as worker:
        worker.until_ready(PARTITIONS)
        assert worker.metric("driftline_pending") == 0, "and folded again"
        stop_in_time(worker)


# -- input that is gone, and files that changed


async def _delete_before(bootstrap: str, topic: str, offset: int) -> None:
    async with admin(client_options(settings_of(bootstrap))) as client:
        before = RecordsToDelete(before_offset=offset)
        places = {TopicPartition(topic, partition): before for partition in range(PARTITIONS)}
        await client.delete_records(places)


def delete_before(site: Watched, offset: int, words: str) -> None:
    """Delete events that a worker needs: it ends, and says in these words which, and what to do."""
    events = site.pipeline.topics.events
    asyncio.run(_delete_before(site.bootstrap, events, offset))
    with site.worker() as worker:
        assert worker.end(DRAINED_S) == 4
        said = worker.log().rpartition("Error: ")[2]
        assert f"{events}-" in said
        assert words in said
        assert "--on-gap continue" in said


def test_input_deleted_unread(site: Watched) -> None:
    with site.worker() as worker:
        site.until_joined(600)
        stop_in_time(worker)
    site.produce()  # the same ids again, and nobody reads them
    delete_before(site, 500, "starts at offset 500, but the shard has read only up to")
    with site.worker("--on-gap", "continue") as worker:
        worker.until_ready(PARTITIONS)
        worker.until_read(PARTITIONS, DRAINED_S)
        rejected = site.pipeline.topics.rejected
        assert all(shard[-1] == ("gap", "kept") for shard in site.epochs())
        stop_in_time(worker)
    reasons = {dict(one.headers)["driftline.reason"] for one in asyncio.run(read(site.bootstrap, rejected))}
    assert reasons == {b"duplicate_event"}, "the state went on: it knows the ids"
    with site.worker() as worker:
        worker.until_ready(PARTITIONS)  # once is enough
        assert all(shard.count(("gap", "kept")) == 1 for shard in site.epochs())
        stop_in_time(worker)


def test_input_deleted_that_the_journal_names(site: Watched) -> None:
    """Killed before its first snapshot, and what it had folded is gone: no state can be derived, a fresh one can."""
    with site.worker() as worker:
        site.until_joined(600)
        worker.kill()
    delete_before(site, 100, "from offset 0")
    with site.worker("--on-gap", "continue") as worker:
        worker.until_ready(PARTITIONS)
        stop_in_time(worker)
        assert "snapshot written" not in worker.log()
    with site.worker() as worker:
        worker.until_ready(PARTITIONS)  # once is enough
        assert worker.metric("driftline_labels_learned") == 0
        stop_in_time(worker)
    assert site.epochs() == [[("first", "fresh"), ("reset", "fresh")]] * PARTITIONS


def test_changed_pipeline(site: Watched) -> None:
    with site.worker() as worker:
        site.until_joined(600)
        stop_in_time(worker)
    changed = ("--set", "model=GaussianNB()")
    with site.worker(*changed) as worker:
        assert worker.end(DRAINED_S) == 4
        said = worker.log().rpartition("Error: ")[2]
        assert "the pipeline file changed in model" in said
        assert "--reset-state" in said
    with site.worker(*changed, "--reset-state") as one:
        one.until_ready(PARTITIONS)
        assert one.metric("driftline_labels_learned") == 0
        site.produce()  # known ids, but to the old state
        site.until_joined(1_200)
        with site.worker(*changed) as two:
            two.until_ready(1)
            one.until_ready(1)
            stop_in_time(two)
        one.until_ready(PARTITIONS)
        assert one.metric("driftline_labels_learned") == 600, "a shard that comes back is not reset again"
        stop_in_time(one)
    assert site.epochs() == [[("first", "fresh"), ("reset", "fresh")]] * PARTITIONS


# -- another writer, and a broker that goes


def test_foreign_record_in_the_journal(site: Watched) -> None:
    with site.worker() as worker:
        site.until_joined(600)
        stop_in_time(worker)
    asyncio.run(_write(site.bootstrap, site.pipeline.topics.journal, b"{}"))
    with site.worker() as worker:
        assert worker.end(DRAINED_S) == 70
        said = worker.log().rpartition("Error: ")[2]
        assert "the journal holds a record that is not a journal entry" in said


async def _write(bootstrap: str, topic: str, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()


def test_broker_that_goes_and_comes(kafka_needs: None, tmp_path: Path) -> None:
    """Killed in the middle of the stream; silent for longer than a commit may take; gone when the worker is to stop."""
    count = 5_000
    with kafka_broker.start(partitions=PARTITIONS) as node:
        site = Watched(node.bootstrap, tmp_path, "outage", weather(tmp_path, count), limits={"slice_records_max": 10})
        site.create()
        site.produce()
        with site.worker() as worker:
            until_scored(worker, 300)
            node.kill()
            gone_s = time.monotonic()
            worker.until(lambda: time.monotonic() - gone_s > 4, 10, "the broker stays away for a while")
            assert scored(worker) < count, "the stream is not through"
            node.start()
            until_scored(worker, scored(worker) + 300)
            recoveries = worker.log().count("; recovering")
            node.pause()
            worker.until_said("; recovering", times=recoveries + 1)  # of whichever request was on its way
            before = scored(worker)
            assert before < count, "the stream is not through"
            node.resume()
            until_scored(worker, before)
            site.until_joined(count)
            site.check_exact(count)
            assert len(worker.log().splitlines()) < 400, "an outage does not fill the disk with log lines"
            node.kill()
            stop_in_time(worker, BROKERLESS_STOP_MAX_S)


def scored(worker: Worker) -> float:
    return worker.metric("driftline_scores_total")


def until_scored(worker: Worker, count: float) -> None:
    worker.until(lambda: scored(worker) > count, DRAINED_S, f"it scores {count:.0f}")
