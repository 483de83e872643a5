"""A loaded model serves from one journaled position on, and recovery, verify and backtests find it there."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest

from driftline.codec.command import Sender
from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.codec.parts import parts
from driftline.core.oracle import Oracle
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout
from driftline.engine.start import Start
from driftline.operate.verify import Span, audit_shards
from tests.parity.rig import (
    NOW_MS,
    STEP_MS,
    Death,
    Life,
    check_exact,
    check_replay,
    documents,
    outputs_digest,
    pipeline,
    produce,
    replay,
    run_through,
    slices,
)
from tests.parity.test_backtest import backtest, spec
from tests.support.cluster import MemoryCluster
from tests.support.memory import MemoryBroker, Step
from tests.support.trained import model_file, taught

COUNT = 400
KEY = KeyRing((b"a key that this deployment has",))
OPEN = Start(unsigned_models=True)
FIRST, SECOND = f"{NOW_MS}-00000001", f"{NOW_MS + 1}-00000002"


def load(
    cluster: MemoryCluster,
    chosen: Pipeline,
    content: bytes,
    name: str = FIRST,
    size: int = 700,
    until: int | None = None,
    ring: KeyRing = NO_KEYS,
) -> int:
    """Write a model file to every shard, in parts; returns how many there are. Signed, it is sent now."""
    if ring:
        sent_ms = time.time_ns() // 1_000_000
        sender = Sender(chosen.name, "ann", sent_ms, f"{sent_ms:032d}")
        cut = list(parts(content, f"{sent_ms}-00000001", size, sender=sender, ring=ring))
    else:
        cut = list(parts(content, name, size))
    for value in cut[:until]:
        for partition in range(cluster.partitions[chosen.topics.control]):
            cluster.produce(chosen.topics.control, partition, value, NOW_MS)
    return len(cut)


def generations(cluster: MemoryCluster, chosen: Pipeline) -> list[str]:
    return [one["model_version"].partition(".")[0] for one in documents(cluster, chosen.topics.scores)]


def rejected(cluster: MemoryCluster, chosen: Pipeline, partition: int = 0) -> list[str]:
    found = [dict(source.headers) for source in cluster.records(chosen.topics.rejected, partition)]
    return [(one["driftline.reason"] or b"").decode() for one in found]


async def check_topics(cluster: MemoryCluster, chosen: Pipeline, partitions: int = 1) -> None:
    """What was served can be derived again: by verify, and by a backtest in journal order."""
    broker = MemoryBroker(cluster, chosen, client="audit")
    for audit in await audit_shards(broker, chosen, Layout(partitions), Span(outputs=True)):
        assert audit.difference is None
        assert audit.unverifiable == 0
    for partition in range(partitions):
        (live,), _ = await backtest(cluster, chosen, spec(chosen), partition=partition)
        assert live.failure is None
        assert live.against.differing == live.against.missing == 0
        assert live.against.compared > 0


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
async def test_a_load_before_the_worker_starts_serves_its_first_event(delivery: str) -> None:
    chosen = pipeline(delivery=delivery)
    cluster = MemoryCluster()
    cluster.create_for(chosen, 2)
    count = load(cluster, chosen, model_file(chosen))
    assert count > 3
    ids = produce(cluster, chosen, COUNT, partitions=2)
    async with Life(cluster, chosen, start=OPEN) as life:
        await life.until_done()
        if delivery == "exactly_once":
            check_exact(cluster, chosen, ids)
        await check_replay(cluster, chosen, life)
        await life.kill()
    assert set(generations(cluster, chosen)) == {"1"}
    for partition in (0, 1):
        first = orjson.loads(cluster.records(chosen.topics.scores, partition)[0].value or b"")
        event = orjson.loads(cluster.records(chosen.topics.events, partition)[0].value or b"")
        _, wanted, _ = taught(chosen).score((event["x"], event["z"], event["word"]), "", Oracle())
        assert (first["event_id"], first["model_version"]) == (event["id"], "1.0")
        assert first["probability"] == wanted.value
    told = [one for one in documents(cluster, chosen.topics.alerts) if one["kind"] == "model_change"]
    assert [one["evidence"]["learned"] for one in told] == [60, 60]
    await check_topics(cluster, chosen, 2)


async def disturbed(chosen: Pipeline, death: Death | None, content: bytes) -> tuple[MemoryCluster, str]:
    """A worker that is at work when a model comes, part by part; perhaps it dies, and another goes on."""
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, COUNT)
    cut = list(parts(content, FIRST, 900))
    await run_through(cluster, chosen, client="one", start=OPEN)
    life = Life(cluster, chosen, client="two", hook=death, start=OPEN)
    async with life:
        for value in cut:  # each is a slice of its own, unless the worker is dead
            cluster.produce(chosen.topics.control, 0, value, NOW_MS)
            if death is None or not death.struck.is_set():
                await life.until(
                    lambda: (
                        (death is not None and death.struck.is_set())
                        or (life.worker.ready and life.live().committed[chosen.topics.control] == _end(cluster, chosen))
                    )
                )
        produce(cluster, chosen, COUNT, first=COUNT)
        if death is None:
            await life.until_done()
            await check_replay(cluster, chosen, life)
        else:
            await life.until_dead(death)
    if death is not None:
        async with Life(cluster, chosen, client="three", start=OPEN) as last:
            await last.until_done()
            await check_replay(cluster, chosen, last)
    return cluster, outputs_digest(cluster, chosen)


def _end(cluster: MemoryCluster, chosen: Pipeline) -> int:
    return cluster.records(chosen.topics.control, 0)[-1].offset + 1


DEATHS: list[tuple[Step, int, bool]] = [
    *(("commit", number, False) for number in range(1, 9)),
    *(("commit", number, True) for number in range(1, 9)),
    *(("committed", number, True) for number in (2, 4, 6)),
]


@pytest.mark.parametrize("every", [1, 1_000_000], ids=["snapshots at every slice", "journal alone"])
async def test_a_worker_that_dies_between_the_parts_gives_what_a_survivor_gives(every: int) -> None:
    chosen = pipeline("between", snapshot={"every_records": every})
    content = model_file(chosen)
    assert len(list(parts(content, FIRST, 900))) >= 5
    _, wanted = await disturbed(chosen, None, content)
    for step, nth, arrives in DEATHS:
        cluster, made = await disturbed(chosen, Death(step, nth, arrives=arrives), content)
        assert made == wanted, (step, nth, arrives)
        assert generations(cluster, chosen) == ["0"] * COUNT + ["1"] * COUNT
        await check_topics(cluster, chosen)


async def test_a_second_try_after_a_sender_that_died_halfway() -> None:
    chosen = pipeline("retried", snapshot={"every_records": 50})
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    content = model_file(chosen)
    load(cluster, chosen, content, FIRST, until=2)
    produce(cluster, chosen, COUNT)
    async with Life(cluster, chosen, client="one", start=OPEN) as life:
        await life.until_done()
        assert life.shard().loading.progress == (2, len(list(parts(content, FIRST, 700))))
        await life.stop()
    load(cluster, chosen, content, SECOND)
    ids = produce(cluster, chosen, COUNT, first=COUNT)
    async with Life(cluster, chosen, client="two", start=OPEN) as life:
        await life.until_done()
        check_exact(cluster, chosen, [*range(COUNT), *ids])
        await check_replay(cluster, chosen, life)
        assert life.shard().counts["load_superseded"] == 1
        await life.kill()
    assert generations(cluster, chosen) == ["0"] * COUNT + ["1"] * COUNT
    assert rejected(cluster, chosen) == []
    await check_topics(cluster, chosen)


async def test_a_load_that_never_comes_whole_is_given_up_after_a_day_of_event_time() -> None:
    chosen = pipeline("halfway", label={"wait": "30d"})
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    load(cluster, chosen, model_file(chosen), until=1)
    produce(cluster, chosen, 10)
    async with Life(cluster, chosen, start=OPEN) as life:
        await life.until_done()
        shard = life.shard()
        assert shard.next_deadline_ms == shard.loading.deadline_ms
        assert (shard.loading.deadline_ms or 0) - NOW_MS >= 86_400_000
        late = NOW_MS + 86_400_000 + 10 * STEP_MS
        cluster.produce(chosen.topics.events, 0, orjson.dumps({"id": "late", "x": 1, "z": 1, "word": "a"}), late)
        await life.until_done()
        assert life.shard().counts["load_given_up"] == 1
        await check_replay(cluster, chosen, life)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"key": KeyRing((b"another deployment's",))}, "load_refused"), ({}, "load_refused"), ({"key": KEY}, None)],
    ids=["another key", "unsigned", "signed"],
)
async def test_with_a_key_only_what_it_signed_is_loaded_and_a_replay_needs_no_key(
    changes: dict[str, Any], reason: str | None
) -> None:
    chosen = pipeline("signed", snapshot={"every_records": 1_000_000})
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    load(cluster, chosen, model_file(chosen, **changes), ring=KEY)
    produce(cluster, chosen, COUNT)
    async with Life(cluster, chosen, start=Start(ring=KEY)) as life:
        await life.until_done()
        await check_replay(cluster, chosen, life)
        held = life.shard().summary()
        await life.kill()
    assert rejected(cluster, chosen) == ([] if reason is None else [reason])
    assert set(generations(cluster, chosen)) == {"0" if reason else "1"}
    await check_topics(cluster, chosen)
    later = Start(ring=KeyRing((b"the key of next year",)), unsigned="trust")
    async with Life(cluster, chosen, client="later", start=later) as life:
        await life.until_done()
        assert life.shard().summary() == held
    named = [entry.raised for entry in slices(cluster, chosen) if entry.raised]
    assert bool(named) == (reason is not None)


async def test_a_refusal_for_the_version_holds_in_a_replay_by_any_version(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = pipeline("aged")
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    load(cluster, chosen, model_file(chosen))
    produce(cluster, chosen, COUNT)
    here = {"app": "1", "river": "0.1.0", "python": "3.11.0", "numpy": "2"}
    with monkeypatch.context() as patched:
        patched.setattr("driftline.core.fingerprint.versions", lambda: here)
        async with Life(cluster, chosen, start=OPEN) as life:
            await life.until_done()
            await life.kill()
    assert rejected(cluster, chosen) == ["load_refused"]
    recovered = await replay(cluster, chosen)
    assert recovered.folder is not None
    assert recovered.folder.shard.learner.generation == 0
    await check_topics(cluster, chosen)
