"""An outage is told once when it begins and once when it ends, and counted."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from driftline.core.error import CommitUnknownError
from driftline.engine.outage import Outage
from driftline.engine.worker import Worker
from driftline.kafka.explanation import advice
from driftline.transport.clock import Clock
from driftline.transport.port import Assignment, Feed
from tests.parity.rig import Life, check_exact, pipeline, produce
from tests.support.cluster import ClusterError, MemoryCluster, RefusedError
from tests.support.memory import Moment


class Hands:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.clock = Clock(now_s=lambda: self.now_s)


@pytest.fixture
def hands() -> Hands:
    return Hands()


def test_it_is_told_once_and_counted(hands: Hands, caplog: pytest.LogCaptureFixture) -> None:
    seen = Outage(hands.clock)
    seen.answered()
    for _ in range(50):
        seen.failed("nobody is there")
        hands.now_s += 1
    assert (seen.on, seen.count, seen.total_s) == (True, 1, 50)
    seen.answered()
    seen.answered()
    hands.now_s += 5
    assert (seen.on, seen.count, seen.total_s) == (False, 1, 50)
    said = [record.getMessage() for record in caplog.records]
    assert [line.partition(":")[0] for line in said] == ["Kafka is unavailable", "Kafka is available again after 50 s"]
    assert "nobody is there" in said[0]


def test_a_moment_is_not_worth_a_word(hands: Hands, caplog: pytest.LogCaptureFixture) -> None:
    seen = Outage(hands.clock)
    seen.failed("it restarts")
    hands.now_s += 0.5
    seen.failed("it restarts")
    seen.answered()
    assert caplog.records == []
    assert seen.count == 1


class Away:
    """A hook that lets nothing through while it is on."""

    def __init__(self) -> None:
        self.on = False
        self.refuse_batches = False

    async def __call__(self, moment: Moment) -> None:
        await asyncio.sleep(0)
        if self.on:
            raise ClusterError("nobody answers")
        if self.refuse_batches and moment.step == "batch":
            raise RefusedError("a batch that is too large")


async def test_a_worker_is_not_ready_while_its_cluster_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftline.engine.worker.WATCH_EVERY_S", 0.01)
    cluster, chosen, away = MemoryCluster(), pipeline(), Away()
    cluster.create_for(chosen, 1)
    ids = produce(cluster, chosen, 200)
    async with Life(cluster, chosen, hook=away) as life:
        await life.until_done()
        away.on = True
        await life.until(lambda: not life.worker.ready)  # though its shard is idle
        ids += produce(cluster, chosen, 100, first=1_000)
        await life.until(lambda: life.worker.outage.on)
        away.on = False
        await life.until_done()
        assert not life.worker.outage.on
        assert life.worker.outage.count >= 1
        check_exact(cluster, chosen, ids)


class Waiting:
    """A feed whose start waits for a cluster that went away, as aiokafka's does."""

    def __init__(self, feed: Feed, back: asyncio.Event) -> None:
        self._feed = feed
        self._back = back

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)

    async def start(self, assignment: Assignment) -> None:
        await self._back.wait()
        await self._feed.start(assignment)

    async def reached(self) -> bool:
        return self._back.is_set()


@pytest.mark.parametrize("comes_back", [True, False])
async def test_a_worker_that_waits_for_its_cluster_to_begin_says_so_and_can_be_stopped(
    monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    monkeypatch.setattr("driftline.engine.worker.WATCH_EVERY_S", 0.01)
    cluster, chosen, back = MemoryCluster(), pipeline(), asyncio.Event()
    cluster.create_for(chosen, 1)
    ids = produce(cluster, chosen, 100)
    life = Life(cluster, chosen)
    feed = life.broker.feed
    monkeypatch.setattr(life.broker, "feed", lambda: Waiting(feed(), back))
    life.worker = Worker(life.broker, chosen)
    async with life:
        await life.until(lambda: life.worker.outage.on)
        assert not life.worker.ready
        if comes_back:
            back.set()
            await life.until_done()
            assert not life.worker.outage.on
            check_exact(cluster, chosen, ids)
        life.worker.stop()
        assert life.running is not None
        async with asyncio.timeout(10):
            await life.running


async def test_what_is_tried_again_and_again_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    cluster, chosen, away = MemoryCluster(), pipeline(), Away()
    cluster.create_for(chosen, 1)
    async with Life(cluster, chosen, hook=away) as life:
        await life.until_done()
        away.refuse_batches = True
        ids = produce(cluster, chosen, 100)
        await life.until(lambda: life.runner().tally.failures >= 4)
        await life.until(lambda: any("a batch that is too large" in one for one in life.worker.unready()))
        away.refuse_batches = False
        await life.until_done()
        assert life.worker.ready
        check_exact(cluster, chosen, ids)
    told = [record.getMessage() for record in caplog.records if "a batch that is too large" in record.getMessage()]
    assert len(told) == 1


def test_advice_names_the_topic_and_is_for_kafkas_errors_only() -> None:
    from aiokafka.errors import KafkaError, KafkaStorageError, MessageSizeTooLargeError

    assert "a record is too large for p.scores" in advice(MessageSizeTooLargeError(), "p.scores")
    assert "disk" in advice(KafkaStorageError())
    assert advice(KafkaError()) == advice(CommitUnknownError()) == ""
