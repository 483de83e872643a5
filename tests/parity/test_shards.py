"""Shards that read many partitions: one model, however many partitions its topics have."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from driftline.backtest.explain import explain
from driftline.codec.keyring import NO_KEYS
from driftline.core.error import InputReplacedError, InvariantError, PartitionsChangedError
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout, output_partition
from driftline.engine import worker as worker_module
from driftline.engine.start import Start
from driftline.operate.verify import Span, audit_shards
from tests.parity.rig import (
    NOW_MS,
    STEP_MS,
    Death,
    Life,
    check_replay,
    documents,
    epochs,
    pipeline,
    run_through,
    slices,
)
from tests.support.cluster import MemoryCluster
from tests.support.memory import MemoryBroker, Moment

COUNT = 400
FACTS = ("output_id", "positions", "opened_at", "episode")  # that name partitions


def site(
    chosen: Pipeline, events: int, labels: int | None = None, shards: int = 1, outputs: int | None = None
) -> MemoryCluster:
    """Topics of these numbers of partitions."""
    cluster, topics = MemoryCluster(), chosen.topics
    cluster.create({topics.events: events, topics.labels or "": labels or events}, timestamp_ahead_max_ms=None)
    cluster.create_for(chosen, outputs or events, shards)
    return cluster


def send(cluster: MemoryCluster, chosen: Pipeline, count: int = COUNT, first: int = 0, shards: int = 1) -> None:
    """Events and their labels, each at a time of its own, without keys and each in any partition of its shard."""
    rng, places = random.Random(first), random.Random(f"{first} {cluster.partitions}")
    topics, sends = chosen.topics, list[tuple[int, str, dict[str, Any]]]()
    for number in range(first, first + count):
        x, z = rng.gauss(0, 2), rng.random()
        event = {"id": number, "x": x, "z": z, "word": rng.choice("abc")}
        label = {"id": number, "y": int((x + 3 * z > rng.gauss(1.5, 1)) != (number > COUNT // 2))}
        delay = rng.randrange(1, 40) if rng.random() < 0.9 else -rng.randrange(1, 10)
        time_ms = NOW_MS + number * STEP_MS
        sends.append((time_ms, topics.events, event))
        if rng.random() < 0.95:
            sends.append((time_ms + delay * STEP_MS + 1 + number % (STEP_MS - 1), topics.labels or "", label))
    for time_ms, topic, value in sorted(sends, key=lambda one: one[0]):
        partition = places.randrange(cluster.partitions[topic])
        partition = partition - partition % shards + value["id"] % shards
        if partition >= cluster.partitions[topic]:
            partition = value["id"] % shards
        cluster.produce(topic, partition, orjson.dumps(value), time_ms)


def made(cluster: MemoryCluster, chosen: Pipeline) -> dict[str, list[Any]]:
    """Everything that users read, but for positions, in an order that does not depend on partitions."""

    def bare(one: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in one.items() if name not in FACTS}

    topics = chosen.topics
    return {
        kind: sorted((bare(one) for one in documents(cluster, topic)), key=orjson.dumps)
        for kind, topic in (("scores", topics.scores), ("outcomes", topics.outcomes), ("alerts", topics.alerts))
    }


async def verified(cluster: MemoryCluster, chosen: Pipeline, shards: int = 1) -> None:
    layout = Layout(shards, cluster.partitions)
    audits = await audit_shards(MemoryBroker(cluster, chosen, client="audit"), chosen, layout, Span(outputs=True))
    assert [audit.difference for audit in audits] == [None] * shards
    assert sum(audit.outputs[chosen.topics.scores] for audit in audits) == len(documents(cluster, chosen.topics.scores))


def drifting(name: str = "parity") -> Pipeline:
    detector = "PageHinkley(min_instances=30, threshold=5)"
    return pipeline(name, drift={"error": detector, "warmup_labels": 20}, alerts={"quiet": "60s"})


async def test_scores_outcomes_and_alerts_do_not_depend_on_the_number_of_partitions() -> None:
    chosen, found = drifting(), []
    for events, labels in ((1, 1), (4, 4), (16, 16), (4, 3), (2, 16)):
        cluster = site(chosen, events, labels)
        send(cluster, chosen)
        async with Life(cluster, chosen) as life:
            await life.until_done()
            await check_replay(cluster, chosen, life)
            await life.stop()
        found.append(made(cluster, chosen))
        await verified(cluster, chosen)
    assert len(found[0]["scores"]) == COUNT
    assert found[0]["alerts"]
    assert len({orjson.dumps(one) for one in found}) == 1


@pytest.mark.parametrize("step", ["commit", "committed", "batch", "read"])
async def test_a_worker_takes_over_all_partitions_of_one_that_died(step: Any) -> None:
    chosen = drifting()
    whole = site(chosen, 1)
    send(whole, chosen)
    await run_through(whole, chosen)
    cluster = site(chosen, 5, 3)
    send(cluster, chosen)
    death = Death(step, 4)
    async with Life(cluster, chosen, hook=death) as life:
        await life.until_dead(death)
    async with Life(cluster, chosen, client="two") as heir:
        await heir.until_done()
        await check_replay(cluster, chosen, heir)
        await heir.stop()
    assert made(cluster, chosen) == made(whole, chosen)
    await verified(cluster, chosen)


async def test_several_shards_share_partitions_and_outputs_by_their_number() -> None:
    chosen = pipeline(shards=3)
    cluster = site(chosen, 7, 7, shards=3, outputs=4)
    send(cluster, chosen, shards=3)
    async with Life(cluster, chosen) as life:
        async with Life(cluster, chosen, client="two") as other:
            await other.until(lambda: bool(other.worker.runners) and other.worker.ready)
            await life.until_done()
            await other.until_done()
            assert sorted([*life.worker.runners, *other.worker.runners]) == [0, 1, 2]
            for one in (life, other):
                for number, runner in one.worker.runners.items():
                    assert {place.partition % 3 for place in runner.places} == {number}
                await check_replay(cluster, chosen, one)
            await other.stop()
        await life.until_done()
        await life.stop()
    for kind in ("scores", "outcomes"):
        topic = getattr(chosen.topics, kind)
        for partition in range(4):
            for source in cluster.records(topic, partition):
                of = int(orjson.loads(source.value or b"{}")["output_id"].split("-")[1])
                assert partition == output_partition(of, of % 3, 3, 4)
    assert len(documents(cluster, chosen.topics.scores)) == COUNT
    await verified(cluster, chosen, 3)


async def test_the_journal_of_one_partition_is_written_as_before() -> None:
    chosen = pipeline()
    cluster = site(chosen, 1)
    send(cluster, chosen, 50)
    await run_through(cluster, chosen)
    (epoch,) = epochs(cluster, chosen)
    assert list(epoch.positions) == [chosen.topics.control, chosen.topics.labels, chosen.topics.events]
    assert not epoch.outputs
    assert {name for entry in slices(cluster, chosen) for name in entry.inputs} <= set(epoch.positions)


async def test_inputs_are_named_with_their_partition_but_the_shards_own() -> None:
    chosen = pipeline()
    cluster = site(chosen, 2, 1, outputs=2)
    send(cluster, chosen, 50)
    await run_through(cluster, chosen)
    (epoch,) = epochs(cluster, chosen)
    events, topics = chosen.topics.events, chosen.topics
    assert list(epoch.positions) == [topics.control, topics.labels, events, f"{events}:1"]
    assert epoch.outputs == {topics.scores: 2, topics.outcomes: 2, topics.rejected: 2}
    assert epoch.pipeline["shards"] == 1


async def test_partitions_that_are_added_are_taken_up_while_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "WATCH_EVERY_S", 0.01)
    chosen = pipeline()
    cluster = site(chosen, 2, 1)
    send(cluster, chosen, 100)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        model = life.shard().summary()
        cluster.widen(chosen.topics.events, 5)
        cluster.widen(chosen.topics.labels or "", 3)
        await life.until(lambda: life.worker.ready and len(life.runner().places) == 1 + 3 + 5)
        assert life.shard().summary() == model
        send(cluster, chosen, 100, first=100)
        await life.until_done()
        assert life.worker.unready() == []
        await check_replay(cluster, chosen, life)
        await life.stop()
    assert [entry.reason for entry in epochs(cluster, chosen)] == ["first", "topics"]
    assert len(documents(cluster, chosen.topics.scores)) == 200
    await verified(cluster, chosen)


async def test_partitions_that_are_added_while_it_recovers_are_taken_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recovery finds them, but the group's assignment did not know of them yet."""
    monkeypatch.setattr(worker_module, "WATCH_EVERY_S", 0.01)
    chosen = pipeline()
    cluster = site(chosen, 1)
    send(cluster, chosen, 50)

    async def add(moment: Moment) -> None:
        if moment.step == "opened" and cluster.partitions[chosen.topics.events] == 1:
            cluster.widen(chosen.topics.events, 3)
            send(cluster, chosen, 50, first=50)

    async with Life(cluster, chosen, hook=add) as life:
        await life.until(lambda: len(documents(cluster, chosen.topics.scores)) == 100)
        await life.until_done()
        assert life.worker.unready() == []
        await life.stop()
    await verified(cluster, chosen)


async def test_partitions_that_are_added_are_taken_up_at_the_next_start() -> None:
    chosen = pipeline()
    cluster = site(chosen, 1)
    send(cluster, chosen, 100)
    await run_through(cluster, chosen)
    for topic in (chosen.topics.events, chosen.topics.labels or "", chosen.topics.scores):
        cluster.widen(topic, 4)
    send(cluster, chosen, 100, first=100)
    await run_through(cluster, chosen, client="two")
    assert len(documents(cluster, chosen.topics.scores)) == 200
    assert len(cluster.records(chosen.topics.scores, 3)) > 0
    await verified(cluster, chosen)


async def test_several_shards_leave_added_partitions_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "WATCH_EVERY_S", 0.01)
    chosen = pipeline()
    cluster = site(chosen, 4, 4, shards=2)
    send(cluster, chosen, 100, shards=2)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        cluster.widen(chosen.topics.events, 6)
        await life.until(lambda: not life.worker.ready)
        (reason,) = life.worker.unready()
        assert f"{chosen.topics.events} has 6, but the pipeline uses 4" in reason
        send(cluster, chosen, 20, first=1_000, shards=1)  # some of them where nobody reads
        await life.stop()
    await verified(cluster, chosen, 2)


async def test_a_worker_without_shards_has_nothing_to_say_of_added_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its shards went to others, which say it."""
    monkeypatch.setattr(worker_module, "WATCH_EVERY_S", 0.01)
    chosen = pipeline()
    cluster = site(chosen, 4, 4, shards=2)
    async with Life(cluster, chosen, client="z") as last:
        await last.until(lambda: last.worker.ready and len(last.worker.runners) == 2)
        cluster.widen(chosen.topics.events, 6)
        await last.until(lambda: not last.worker.ready)
        async with Life(cluster, chosen, client="a") as one, Life(cluster, chosen, client="b") as other:
            await last.until(lambda: not last.worker.runners)
            await last.until(lambda: last.worker.ready)
            await last.until(lambda: bool(one.worker.unready() and other.worker.unready()))
            await one.stop()
            await other.stop()
        await last.stop()


async def test_a_watch_that_fails_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing would notice an outage, added partitions or recreated topics any more."""

    def look(self: worker_module.Worker) -> None:
        raise InvariantError("the watch is broken")

    chosen = pipeline()
    cluster = site(chosen, 1)
    async with Life(cluster, chosen) as life:
        await life.until(lambda: life.worker.ready)
        monkeypatch.setattr(worker_module, "WATCH_EVERY_S", 0.01)
        monkeypatch.setattr(worker_module.Worker, "_look_at_partitions", look)
        assert "the watch is broken" in str(await life.fails())


@pytest.mark.parametrize("asked", [1, 4])
async def test_another_number_of_shards_than_the_journal_has_is_refused(asked: int) -> None:
    chosen = pipeline(shards=2)
    cluster = site(chosen, 4, shards=2)
    send(cluster, chosen, 100, shards=2)
    await run_through(cluster, chosen)
    async with Life(cluster, pipeline(shards=asked)) as other:
        error = await other.fails()
    assert isinstance(error, PartitionsChangedError)
    assert f"says `shards: {asked}`, and parity has 2" in str(error)
    assert "Say `shards: 2`" in str(error)
    cluster.widen(chosen.topics.journal, 4)
    for topic in (chosen.topics.snapshots, chosen.topics.control, chosen.topics.alerts):
        cluster.widen(topic, 4)
    for start in (Start(), Start(gap_continue=True), Start(reset_state=True)):
        async with Life(cluster, pipeline(), start=start) as other:
            error = await other.fails()
        assert isinstance(error, PartitionsChangedError)
        assert "has 4 partitions instead of 2: shards would read again" in str(error)


@pytest.mark.parametrize("has_ids", [True, False])
async def test_a_topic_made_anew_with_fewer_partitions_is_refused(has_ids: bool) -> None:
    """By its id; where the broker has none, by the partitions that are gone."""
    chosen = pipeline()
    cluster = site(chosen, 4, 2)
    cluster.has_ids = has_ids
    send(cluster, chosen, 100)
    await run_through(cluster, chosen)
    cluster.remake(chosen.topics.events, 2)
    async with Life(cluster, chosen, client="two") as again:
        error = await again.fails()
    assert isinstance(error, InputReplacedError)
    text = "deleted and recreated" if has_ids else "has 2 partitions, and the shard has read partition"
    assert text in str(error)
    assert len(documents(cluster, chosen.topics.scores)) == 100


async def test_a_score_of_any_partition_is_explained() -> None:
    chosen = pipeline()
    cluster = site(chosen, 3, 2, outputs=2)
    send(cluster, chosen, 120)
    await run_through(cluster, chosen)
    broker, layout = MemoryBroker(cluster, chosen, client="explainer"), Layout(1, cluster.partitions)
    for event_id in (3, 50, 117):
        found = await explain(broker, chosen, layout, [0, 1], str(event_id), NO_KEYS)
        assert found.same
        assert found.outcome is None or found.outcome["event_id"] == event_id


@pytest.mark.parametrize("event_id", ['a"b', "a\\b", "\x1b[2J", "a\nb", "\u00e9", "\x7f", "\u2028"])
async def test_a_score_is_explained_whatever_signs_its_id_has(event_id: str) -> None:
    """JSON writes some of them otherwise than they are."""
    chosen = pipeline()
    cluster = site(chosen, 1, 1)
    cluster.produce(chosen.topics.events, 0, orjson.dumps({"id": event_id, "x": 1.0, "z": 0.5, "word": "a"}), NOW_MS)
    await run_through(cluster, chosen)
    broker = MemoryBroker(cluster, chosen, client="explainer")
    found = await explain(broker, chosen, Layout(1, cluster.partitions), [0], event_id, NO_KEYS)
    assert found.served["event_id"] == event_id


async def test_time_passes_on_idle_partitions() -> None:
    """A tick ends waits whose events came from several partitions; each outcome lies beside its score."""
    chosen = pipeline(label={"id": "id", "value": "y", "wait": "1h"})
    cluster = site(chosen, 3, 1, outputs=3)
    for number in range(6):
        value = orjson.dumps({"id": number, "x": 1.0, "z": 0.5, "word": "a"})
        cluster.produce(chosen.topics.events, number % 3, value, NOW_MS + number)
    later = orjson.dumps({"id": 9, "x": 1.0, "z": 0.5, "word": "a"})
    async with Life(cluster, chosen) as life:
        await life.until_done()
        cluster.produce(chosen.topics.events, 1, later, NOW_MS + 7_200_000)
        await life.until_done()
        await life.stop()
    outcomes = documents(cluster, chosen.topics.outcomes)
    assert [one["kind"] for one in outcomes] == ["expired"] * 6
    for partition in range(3):
        told = [
            orjson.loads(one.value or b"")["event_id"] for one in cluster.records(chosen.topics.outcomes, partition)
        ]
        assert told == [partition, partition + 3]
    await verified(cluster, chosen)
