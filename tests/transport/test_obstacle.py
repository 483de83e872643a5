"""Partitions that nobody reads and transactions of others are seen, told once, and told once when they are over."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import cast

import pytest

from driftline.codec.write import Write
from driftline.core.error import InputLostError
from driftline.engine import worker as worker_module
from driftline.transport.clock import Clock
from driftline.transport.obstacle import HELD_S, SILENT_S, Lookout
from driftline.transport.port import Feed, Place
from tests.operate.test_metric import page, value
from tests.parity.rig import NOW_MS, Life, check_exact, pipeline, produce
from tests.support.cluster import ClusterError, MemoryCluster
from tests.support.memory import Moment

PLACE = Place("payments", 0)


class Inputs:
    """A feed that says what a test has it say, and a clock that the test turns."""

    def __init__(self) -> None:
        self.now_s = 50.0
        self.held: int | None = None
        self.looks, self.answers, self.paused = 0, True, False
        self.clock = Clock(now_s=lambda: self.now_s, wall_s=lambda: 1_700_000_000.0)
        self.feed = cast(
            "Feed",
            SimpleNamespace(
                held_at=lambda place: self.held,
                lag_to_end=lambda place: 1_234,
                looks=lambda place: self.looks,
                is_paused=lambda place: self.paused,
            ),
        )
        self.lookout = Lookout(self.clock)

    def look(self, seconds: float = 0.0) -> None:
        self.now_s += seconds
        self.looks += self.answers
        self.lookout.look(self.feed, [PLACE])

    def trouble(self) -> str | None:
        return self.lookout.trouble


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_partition_that_is_not_answered_for_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """A user who lost the right to read one input: the worker stayed ready, and read the others."""
    inputs = Inputs()
    inputs.look()
    inputs.answers = False
    inputs.look(SILENT_S / 2)
    assert inputs.trouble() is None
    for _ in range(5):
        inputs.look(SILENT_S / 2)
    (line,) = said(caplog)
    assert line == inputs.trouble()
    assert line.startswith("Kafka answers, but not for payments-0: nothing of it is read. This user may not read it")
    inputs.answers = True
    inputs.look(1.0)
    assert inputs.trouble() is None
    assert said(caplog)[1:] == ["every partition that is read is answered for again"]


def test_a_partition_that_is_not_asked_for_is_not_silent() -> None:
    """As with more in hand than is folded; nor while Kafka is away, nor just after it."""
    inputs = Inputs()
    inputs.look()
    inputs.answers, inputs.paused = False, True
    for _ in range(5):
        inputs.look(SILENT_S)
    assert inputs.trouble() is None
    inputs.paused = False
    inputs.lookout.away()
    inputs.look(10 * SILENT_S)
    assert inputs.trouble() is None
    inputs.look(SILENT_S)
    assert inputs.trouble() is not None


def test_a_transaction_that_stays_open_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    inputs = Inputs()
    inputs.held = 17
    inputs.look()
    inputs.look(HELD_S / 2)
    assert said(caplog) == []
    for _ in range(5):
        inputs.look(HELD_S / 2)
    (line,) = said(caplog)
    assert line.startswith(
        "a transaction of another producer is open in payments-0 since 2023-11-14 22:13:20 UTC, from offset 17:"
    )
    assert "1,234 offsets are waiting" in line
    assert "abort --topic payments --partition 0 --start-offset 17" in line
    assert inputs.lookout.open_s(PLACE) == 3 * HELD_S
    inputs.held = None
    inputs.look(1)
    assert said(caplog)[1:] == ["the transaction in payments-0 has ended, reading continues"]
    assert inputs.lookout.open_s(PLACE) is None


def test_transactions_that_follow_each_other_are_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    inputs = Inputs()
    for offset in range(20):
        inputs.held = offset
        inputs.look(HELD_S * 0.9)
    assert said(caplog) == []
    assert inputs.lookout.open_s(PLACE) is None


def test_partitions_that_were_added_are_told_with_the_remedy(caplog: pytest.LogCaptureFixture) -> None:
    lookout = Inputs().lookout
    lookout.note_unread({}, 2)
    assert said(caplog) == []
    for _ in range(2):
        lookout.note_unread({"payments": 4}, 2)
    (line,) = said(caplog)
    assert line == lookout.trouble
    assert line.startswith("partitions were added: payments has 4, but the pipeline uses 2.")
    assert "driftline topics check" in line
    lookout.note_unread({"payments": 4, "chargebacks": 4}, 2)
    assert "chargebacks has 4, payments has 4" in said(caplog)[-1]


async def test_a_worker_goes_on_and_is_not_ready_when_inputs_are_widened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "WATCH_EVERY_S", 0.01)
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 2)
    ids = produce(cluster, chosen, 60, partitions=2)
    events, labels = chosen.topics.events, chosen.topics.labels or ""
    async with Life(cluster, chosen) as life:
        await life.until_done()
        assert life.worker.unready() == []
        cluster.widen(events, 4)
        cluster.widen(labels, 4)
        await life.until(lambda: not life.worker.ready)
        (reason,) = life.worker.unready()
        assert "partitions were added" in reason
        samples = page(life)
        assert value(samples, "driftline_ready") == 0
        assert value(samples, "driftline_partitions_unread", topic=events) == 2
        assert value(samples, "driftline_partitions_unread", topic=labels) == 2
        for partition in range(2):
            cluster.produce(chosen.topics.control, partition, b'{"command":"freeze"}', NOW_MS)
        async with Life(cluster, chosen, client="two") as other:
            await other.until(lambda: len(other.worker.runners) == 1 and other.runner(1).ready)
            await life.until(lambda: list(life.worker.runners) == [0] and life.runner(0).ready)
            await life.until(lambda: life.shard(0).frozen)
            await other.until(lambda: other.shard(1).frozen)
            await other.stop()
    check_exact(cluster, chosen, ids)


async def test_lag_counts_what_an_open_transaction_holds_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "WATCH_EVERY_S", 0.01)
    monkeypatch.setattr("driftline.transport.obstacle.HELD_S", 0.0)
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, 20)
    events = chosen.topics.events
    async with Life(cluster, chosen) as life:
        await life.until_done()
        place = Place(events, 0)
        stranger = cluster.initialise("stranger")
        cluster.add(stranger, [place])
        cluster.append_within(stranger, place, [Write(*place, None, b"{}"), Write(*place, None, b"{}")])
        cluster.produce(events, 0, b"{}", NOW_MS)
        await life.until(lambda: life.worker.lookout.open_s(place) is not None)
        samples = page(life)
        assert value(samples, "driftline_lag", partition="0", topic=events) == 0
        assert value(samples, "driftline_lag_to_end", partition="0", topic=events) == 3
        assert value(samples, "driftline_transaction_open_seconds", partition="0", topic=events) >= 0
        cluster.decide(stranger, commit=False)
        cluster.mark(stranger)
        await life.until(lambda: life.worker.lookout.open_s(place) is None)
        await life.until_done()
        await life.until(lambda: life.worker.lag_to_end(place) == 0)


async def test_lag_counts_what_was_read_ahead_and_is_not_processed() -> None:
    """A worker that was stopped at a lag of 0 had left a hundred events unscored: they were in its hand."""
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, 20)
    events, through = Place(chosen.topics.events, 0), asyncio.Event()
    through.set()

    async def hook(moment: Moment) -> None:
        if moment.step == "commit":
            await through.wait()

    async with Life(cluster, chosen, hook=hook) as life:
        await life.until_done()
        through.clear()
        produce(cluster, chosen, 20, first=100)
        await life.until(lambda: life.live(0).busy and not life.runner(0).in_hand(events))
        produce(cluster, chosen, 20, first=200)
        await life.until(lambda: life.runner(0).in_hand(events) > 0)
        lag = life.worker.lag(events)
        assert lag == life.worker.lag_to_end(events) == life.runner(0).in_hand(events)
        assert value(page(life), "driftline_lag", partition="0", topic=events.topic) == lag
        through.set()
        await life.until_done()
        await life.until(lambda: life.worker.lag(events) == 0)


async def test_lag_is_not_known_while_the_cluster_is_away() -> None:
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, 20)
    away = False

    async def hook(moment: Moment) -> None:
        if away and moment.step == "poll":
            raise ClusterError("cut off")

    async with Life(cluster, chosen, hook=hook) as life:
        await life.until_done()
        assert value(page(life), "driftline_lag", partition="0", topic=chosen.topics.events) == 0
        away = True
        await life.until(lambda: life.worker.outage.on)
        assert not [name for name, _ in page(life) if name.startswith("driftline_lag")]
        assert life.worker.unready() == ["Kafka is unavailable"]
        away = False
        produce(cluster, chosen, 20, first=100)
        life.worker.outage.answered()  # nothing has been read since: the ends are those of before
        assert not [name for name, _ in page(life) if name.startswith("driftline_lag")]
        await life.until_done()
        await life.until(lambda: life.worker.lag(Place(chosen.topics.events, 0)) == 0)


async def test_a_worker_that_is_leaving_is_not_ready_and_says_why() -> None:
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 1)
    async with Life(cluster, chosen) as life:
        assert life.worker.unready() == ["the consumer group has not assigned any shards yet"]
        await life.until_done()
        assert life.worker.ready
        life.worker.stop()
        assert life.worker.unready() == ["it is stopping"]
        await life.stop()
        assert life.worker.runners == {}
        assert not life.worker.ready


async def test_a_worker_that_failed_is_not_ready_and_says_why() -> None:
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, 20)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        await life.kill()
    cluster.delete_before(Place(chosen.topics.events, 0), 10)
    cluster.delete_before(Place(chosen.topics.snapshots, 0), 1_000)
    async with Life(cluster, chosen, client="two") as life:
        error = await life.fails()
        assert isinstance(error, InputLostError)
        (reason,) = life.worker.unready()
        assert reason.startswith("it failed and is stopping: ")
        assert "retention" in reason
        assert not life.worker.ready
