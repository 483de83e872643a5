"""Workers that come and go share the shards, and what they publish together is as if there had been one.

The stream is produced until the last of them has done its part. Each test ends with every event scored once and every
label learned once, as a read_committed subscriber sees it.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from driftline.devbroker.kafka import KafkaNode
from driftline.kafka.topic import create
from tests.support.command import STOP_TIMEOUT_S, Command, Worker
from tests.support.state import kept, replayed
from tests.support.stream import (
    Rows,
    check_exact,
    pipeline_file,
    pipeline_of,
    sent,
    settings_of,
    until_written,
    weather,
)

EVENTS = 30_000  # more than any test takes
RATE = 200  # rows a second
PARTITIONS = 4
DRAINED_S = 60.0


class Stream:
    """A pipeline whose topics are being filled."""

    def __init__(self, bootstrap: str, folder: Path, name: str) -> None:
        self.bootstrap = bootstrap
        self.folder = folder
        self.rows: Rows = weather(folder, EVENTS)
        # Small slices: somebody leaves in the middle of many.
        self.file = pipeline_file(folder, name, self.rows, limits={"slice_records_max": 20})
        self.pipeline = pipeline_of(self.file)
        asyncio.run(create(self.pipeline, settings_of(bootstrap), partitions=PARTITIONS, shards=PARTITIONS))

    def worker(self, name: str) -> Worker:
        return Worker(self.file, self.bootstrap, self.folder, name=name)

    def produce(self) -> Command:
        where = ("-p", self.file, "--bootstrap", self.bootstrap, "--input", self.rows.path, "--label", self.rows.label)
        return Command(self.folder, "produce", *where, "--rate", RATE, name="produce")

    def finish(self, producer: Command, *workers: Worker) -> None:
        """End the stream, wait until all of it is folded, stop the workers, and look at what they left."""
        producer.signal(signal.SIGINT)
        producer.end(STOP_TIMEOUT_S)
        asyncio.run(self._until_folded())
        for worker in workers:
            assert worker.stop() == 0
        asyncio.run(check_exact(self.bootstrap, self.pipeline))
        asyncio.run(self._check_states())

    async def _until_folded(self) -> None:
        events, labelled = await sent(self.bootstrap, self.pipeline)
        await until_written(self.bootstrap, self.pipeline.topics.scores, len(events), DRAINED_S)
        await until_written(self.bootstrap, self.pipeline.topics.outcomes, len(labelled), DRAINED_S)

    async def _check_states(self) -> None:
        for partition in range(PARTITIONS):
            again = await replayed(self.bootstrap, self.pipeline, partition)
            snapshot = await kept(self.bootstrap, self.pipeline, partition)
            assert (snapshot.chain, snapshot.digest) == (again.chain, again.digest), partition


def scored(*workers: Worker) -> float:
    return sum(worker.metric("driftline_scores_total") for worker in workers)


def until_scored_by(worker: Worker, count: int = 100) -> None:
    """Wait until a worker has scored so many more."""
    before = scored(worker)
    worker.until(lambda: scored(worker) >= before + count, DRAINED_S, f"it scores {count} more")


@pytest.fixture
def stream(kafka: KafkaNode, tmp_path: Path, request: pytest.FixtureRequest) -> Stream:
    return Stream(kafka.bootstrap, tmp_path, request.node.name.replace("_", "-"))


def test_workers_come_and_go(stream: Stream) -> None:
    with stream.worker("one") as one, stream.produce() as producer:
        one.until_ready(PARTITIONS)
        until_scored_by(one)
        with stream.worker("two") as two:
            two.until_ready(2)
            one.until_ready(2)
            held, given = set(one.shards), set(two.shards)
            assert held | given == set(range(PARTITIONS))
            for shard in held:
                one.until_said(f"shard {shard}: state kept")
                assert one.log().count(f"shard {shard}: recovered") == 1, "who keeps a shard recovers nothing"
            for shard in given:
                assert one.metric("driftline_scores_total", partition=str(shard)) == 0, "its series are gone"
                assert f"shard {shard}: recovered" in two.log()
            until_scored_by(two)
            assert two.stop() == 0
        one.until_ready(PARTITIONS)
        with stream.worker("three") as three:
            three.until_ready(2)
            one.until_ready(2)
            until_scored_by(three)
            assert one.stop() == 0
            three.until_ready(PARTITIONS)
            stream.finish(producer, three)
        for worker in (one, two, three):
            assert "0 different, 0 not verifiable here" in worker.log()
            warned = [line for line in worker.log().splitlines() if "WARNING" in line]
            assert len(warned) == sum("no key is set" in line for line in warned) == 1, warned


def test_all_come_and_go_at_once(stream: Stream) -> None:
    """Started together they rebalance while they recover; stopped together, while they write their snapshots."""
    with stream.produce() as producer:
        with stream.worker("one") as one, stream.worker("two") as two:
            one.until_ready(2)
            two.until_ready(2)
            until_scored_by(one)
            one.signal(signal.SIGTERM)
            two.signal(signal.SIGTERM)
            assert [one.end(STOP_TIMEOUT_S), two.end(STOP_TIMEOUT_S)] == [0, 0]
        with stream.worker("three") as three, stream.worker("four") as four:
            three.until_ready(2)
            four.until_ready(2)
            recoveries = sum(worker.metric("driftline_recoveries_total") for worker in (three, four))
            assert recoveries <= 2 * PARTITIONS, "they do not shut each other out in a loop"
            stream.finish(producer, three, four)


def test_worker_that_was_away(stream: Stream) -> None:
    """A worker that stands still until others have its shards, and then goes on, can publish nothing more of them."""
    with stream.worker("one") as one, stream.produce() as producer:
        one.until_ready(PARTITIONS)
        until_scored_by(one)
        with stream.worker("two") as two:
            # Stopped while the group rebalances or before it: either way it misses its heartbeats.
            one.signal(signal.SIGSTOP)
            try:
                two.until_ready(PARTITIONS)
                until_scored_by(two)
            finally:
                one.signal(signal.SIGCONT)
            one.until_ready(2)
            two.until_ready(2)
            stream.finish(producer, one, two)
