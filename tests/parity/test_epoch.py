"""What opens an epoch: a changed pipeline file, other versions, another arithmetic; and what a state can follow."""

from __future__ import annotations

import gc
from typing import Any

import orjson
import pytest

from driftline.core.error import StateMismatchError
from driftline.engine.start import Start
from driftline.transport.port import Place
from tests.parity.rig import (
    NOW_MS,
    STEP_MS,
    Life,
    check_exact,
    check_replay,
    documents,
    epochs,
    pipeline,
    produce,
    replay,
    run_through,
    slices,
    state,
    tamper,
)
from tests.parity.test_recovery import COUNT, check_follows, lived
from tests.support.cluster import MemoryCluster
from tests.support.poisonous import BAD, disarmed


async def test_a_change_that_the_state_can_follow_keeps_it() -> None:
    before = pipeline()
    cluster, ids = await lived(before)
    after = pipeline(decision={"threshold": 0.7}, snapshot={"every_records": 123}, dedupe={"max": 50})
    async with Life(cluster, after) as life:
        await life.until_done()
        more = produce(cluster, after, 100, first=1_000)
        await life.until_done()
        check_exact(cluster, after, ids + more)
        assert life.shard().counts["learned"] == len(ids) + len(more)
        assert life.shard().pending.id_max == 50
        await check_replay(cluster, after, life)
        await life.stop()
    first, second = epochs(cluster, after)
    assert (second.number, second.reason, second.state) == (2, "pipeline", "kept")
    assert second.slice_number == max(entry.number for entry in slices(cluster, after) if entry.epoch == 1)
    assert first.pipeline == {**before.resolved(), "shards": 1}
    assert second.pipeline == {**after.resolved(), "shards": 1}
    decided = ["decision" in one for one in documents(cluster, after.topics.scores)]
    assert decided == [False] * len(ids) + [True] * len(more)
    async with Life(cluster, after) as life:  # a snapshot of the second epoch, and the same file: no third
        await life.until_done()
        assert len(epochs(cluster, after)) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"label": {"wait": "2s", "missing": {"assume": 0}}},  # some events wait for longer than that already
        {"label": {"wait": "2h", "early": "1s", "pending_max": 50, "early_max": 5}},
        {"metrics": ["Accuracy", "MacroF1"], "metric_window": 10},
        {"metric_by": {"segment": "word", "ages": ["5s"]}, "metric_span": "1m"},
        {"drift": {"error": "none", "score": ["ADWIN()", "PageHinkley()"], "warmup_labels": 10}},
        {"drift": {"features": {"z": "KSWIN()"}, "reference_size": 50}},
        {"topics": {"alerts": "parity.told"}, "limits": {"slice_records_max": 30, "string_max": 20}},
    ],
)
async def test_a_change_of_one_part_keeps_the_rest(changed: dict[str, Any]) -> None:
    """Live, recovered from a snapshot and folded from the journal's beginning, the state is the same."""
    cluster, ids = await lived(pipeline(), count=150)
    after = pipeline(**changed)
    cluster.create_for(after, 1)
    produce(cluster, after, 40, first=500, labels=False)
    async with Life(cluster, after) as life:
        await life.until_done()
        produce(cluster, after, 100, first=1_000)
        await life.until_done()
        assert life.shard().counts["learned"] >= len(ids) + 100
        assert life.shard().evaluation.label_count >= len(ids) + 100
        await check_replay(cluster, after, life)
        await life.stop()
    assert [entry.reason for entry in epochs(cluster, after)] == ["first", "pipeline"]
    async with Life(cluster, after) as life:
        await life.until_done()
        assert life.runner().tally.recovery_slices == 0
        await check_replay(cluster, after, life)
    assert len(epochs(cluster, after)) == 2


async def test_a_fault_of_every_shard_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    chosen = pipeline()
    cluster = MemoryCluster()
    cluster.create_for(chosen, 3)
    produce(cluster, chosen, 60, partitions=3)
    await run_through(cluster, chosen)
    async with Life(cluster, pipeline(seed=43)) as life:
        assert isinstance(await life.fails(), StateMismatchError)
    del life
    gc.collect()  # asyncio tells of an exception that nobody asked for as its task goes
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "Select('x', 'z') + Select('word') | OneHotEncoder() | LogisticRegression()"},
        {"seed": 43},
        {"label": {"positive": 1}},
        {"event": {"features": {"z": "number", "x": "number", "word": "string"}}},
    ],
)
async def test_any_other_change_is_refused_and_can_start_afresh(changed: dict[str, Any]) -> None:
    cluster, ids = await lived(pipeline(), count=150)
    after = pipeline(**changed)
    async with Life(cluster, after) as life:
        error = await life.fails()
    assert isinstance(error, StateMismatchError)
    assert next(iter(changed)) in str(error)
    assert len(epochs(cluster, after)) == 1
    async with Life(cluster, after, start=Start(reset_state=True)) as life:
        await life.until_done()
        more = produce(cluster, after, 50, first=1_000)
        await life.until_done()
        check_exact(cluster, after, ids + more)
        assert life.shard().counts["learned"] == len(more)
        await check_follows(cluster, after, life)
        await check_replay(cluster, after, life)


async def test_other_versions_are_not_verifiable_here_and_open_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal of another River: its digests say nothing here, and that is no failure."""
    chosen = pipeline()
    with monkeypatch.context() as other:
        for module in ("epoch", "recovered", "snapshot"):
            other.setattr(
                f"driftline.engine.{module}.versions", lambda: {"app": "0", "river": "0", "python": "3", "numpy": "1"}
            )
        cluster, ids = await lived(chosen, clean=True)
    tamper(cluster, Place(chosen.topics.events, 0), 5, b"other outputs than the journal says")
    every = len(slices(cluster, chosen))
    async with Life(cluster, chosen) as life:
        await life.until_done()
        tally = life.runner().tally
        assert tally.recovery_slices == every
        assert 0 < tally.recovery_unverifiable <= every
        more = produce(cluster, chosen, 50, first=1_000)
        await life.until_done()
        check_exact(cluster, chosen, ids + more)
    assert [(entry.reason, entry.state) for entry in epochs(cluster, chosen)] == [
        ("first", "fresh"),
        ("version", "kept"),
    ]


async def test_another_arithmetic_is_not_verifiable_here(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = pipeline()
    with monkeypatch.context() as other:
        for module in ("epoch", "recovered", "snapshot"):
            other.setattr(f"driftline.engine.{module}.arithmetic_fingerprint", lambda: "another machine")
        cluster, ids = await lived(chosen)
    tamper(cluster, Place(chosen.topics.events, 0), 5, b"other outputs than the journal says")
    async with Life(cluster, chosen) as life:
        await life.until_done()
        assert life.runner().tally.recovery_unverifiable > 0
        check_exact(cluster, chosen, ids)
    assert [entry.reason for entry in epochs(cluster, chosen)] == ["first", "version"]


async def test_an_epoch_that_carries_on_unverifiable_bits_is_not_verifiable_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bits of another machine's arithmetic stay in the state when the shard moves here: no failure, only counted."""
    chosen = pipeline()
    with monkeypatch.context() as there:
        for module in ("epoch", "snapshot"):
            there.setattr(f"driftline.engine.{module}.arithmetic_fingerprint", lambda: "another")
        cluster, _ = await lived(chosen)
    async with Life(cluster, chosen) as life:
        produce(cluster, chosen, COUNT, first=1_000)
        await life.until_done()
        await life.kill()
    assert [(entry.reason, entry.state) for entry in epochs(cluster, chosen)] == [
        ("first", "fresh"),
        ("version", "kept"),
    ]
    source = cluster.records(chosen.topics.events, 0)[100]  # a change stands for the other machine's bits
    tamper(
        cluster, Place(chosen.topics.events, 0), 100, orjson.dumps({**orjson.loads(source.value or b""), "z": 0.123})
    )
    async with Life(cluster, chosen) as life:
        await life.until_done()
        assert life.runner().tally.recovery_unverifiable > COUNT // 100, "slices of both epochs"


@pytest.mark.parametrize("factory", ["learns_badly", "scores_badly"])
async def test_what_the_model_raised_is_passed_over_at_a_replay(factory: str) -> None:
    """A model that fails for want of memory does not fail again: the journal, not the model, says what happened."""
    chosen = pipeline(
        "poison",
        model=f"tests.support.poisonous:{factory}",
        event={"features": {"x": "number"}},
        snapshot={"every_records": 100_000},
    )
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    assert chosen.topics.labels is not None
    for number in range(120):
        x = BAD if number in (30, 77, 78) else number / 120
        time_ms = NOW_MS + number * STEP_MS
        cluster.produce(chosen.topics.events, 0, orjson.dumps({"id": number, "x": x}), time_ms)
        cluster.produce(chosen.topics.labels, 0, orjson.dumps({"id": number, "y": number % 2}), time_ms)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        lived = life.shard()
        await life.kill()
    raised = [entry.raised for entry in slices(cluster, chosen) if entry.raised]
    assert sum(len(calls) for calls in raised) == 3
    with disarmed():
        again = await replay(cluster, chosen)
        assert again.folder is not None
        assert state(again.folder.shard) == state(lived)
        async with Life(cluster, chosen) as life:
            await life.until_done()
            assert life.runner().tally.recovery_slices > 0
            await check_replay(cluster, chosen, life)
