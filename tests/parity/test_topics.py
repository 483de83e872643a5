"""Topics that are not what they were: made anew, or with other partitions, while the worker is away or at work."""

from __future__ import annotations

import pytest

from driftline.codec.keyring import KeyRing
from driftline.codec.write import Write
from driftline.core.error import DriftlineError, InputReplacedError, JournalReplacedError, PartitionsChangedError
from driftline.engine.start import Start
from driftline.transport.port import Place
from tests.parity.rig import Life, check_replay, epochs, pipeline, produce, run_through, worked
from tests.support.cluster import MemoryCluster

GO_ON = Start(gap_continue=True)


async def fails(cluster: MemoryCluster, chosen: object, start: Start | None = None) -> BaseException:
    async with Life(cluster, chosen, start=start) as life:  # type: ignore[arg-type]  # a Pipeline
        return await life.fails()


async def test_the_topics_stand_in_the_epoch_and_outlive_a_snapshot() -> None:
    chosen = pipeline()
    cluster = await worked(chosen, 100)
    (first,) = epochs(cluster, chosen)
    assert set(first.topics or {}) == {"parity.events", "parity.labels", "parity.control", "parity.journal"}
    assert all(one.id and one.partitions == 1 for one in (first.topics or {}).values())
    produce(cluster, chosen, 20, first=200)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        await check_replay(cluster, chosen, life)
    assert len(epochs(cluster, chosen)) == 1


@pytest.mark.parametrize("count", [5, 500], ids=["shorter", "longer"])
@pytest.mark.parametrize("has_ids", [True, False])
async def test_an_input_made_anew_is_not_read_from_the_middle(count: int, has_ids: bool) -> None:
    chosen = pipeline()
    cluster = await worked(chosen, 100)
    cluster.has_ids = has_ids
    for topic in (chosen.topics.events, chosen.topics.labels or ""):
        cluster.remake(topic)
    fresh = produce(cluster, chosen, count, first=10_000)
    if not has_ids and count > 100:
        return  # nothing tells: see docs/reliability.md
    error = await fails(cluster, chosen)
    assert isinstance(error, InputReplacedError)
    assert "deleted and recreated" in str(error)
    assert "--on-gap continue" in str(error)
    async with Life(cluster, chosen, start=GO_ON) as life:
        await life.until_done()
        shard = life.shard()
        assert shard.counts["scored"] == 100 + len(fresh)
        assert shard.learner.learned > 100  # what was learned is kept
        assert epochs(cluster, chosen)[-1].reason == "gap"
        await life.kill()
    async with Life(cluster, chosen) as again:  # nothing before the gap is needed any more
        await again.until_done()
        assert again.shard().counts["scored"] == 100 + len(fresh)


async def test_a_journal_made_anew_is_an_error_and_no_first_start() -> None:
    chosen = pipeline()
    cluster = await worked(chosen, 100)
    cluster.remake(chosen.topics.journal)
    error = await fails(cluster, chosen)
    assert isinstance(error, JournalReplacedError)
    async with Life(cluster, chosen, start=Start(reset_state=True)) as life:
        await life.until_done()
        await life.kill()
    async with Life(cluster, chosen) as again:  # the old snapshot is still there, and of no use
        await again.until_done()


@pytest.mark.parametrize("lost", [False, True], ids=["inputs are there", "inputs are cut"])
@pytest.mark.parametrize("count", [None, 2], ids=["all of them", "the first"])
async def test_entries_of_a_journal_that_was_deleted_are_not_taken_in_the_next(count: int | None, lost: bool) -> None:
    """Their seals hold, since they are over the topic's name: whoever kept them could take the shard back in time."""
    ring = KeyRing((b"the key of the deployment",))
    chosen, place = pipeline(), Place("parity.journal", 0)
    cluster = await worked(chosen, 100, start=Start(ring=ring))
    kept = [Write(*place, source.key, source.value) for source in cluster.records(*place)]
    cluster.remake(place.topic)
    cluster.append(place, kept[:count])
    if lost:
        cluster.delete_before(Place(chosen.topics.events, 0), 50)
    error = await fails(cluster, chosen, Start(ring=ring, gap_continue=True))
    assert isinstance(error, JournalReplacedError)
    async with Life(cluster, chosen, start=Start(ring=ring, reset_state=True)) as life:
        await life.until_done()
        await life.kill()
    async with Life(cluster, chosen, start=Start(ring=ring)) as again:
        await again.until_done()


@pytest.mark.parametrize("which", ["journal", "events"])
async def test_a_topic_made_anew_under_a_worker_ends_it(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from driftline.engine import worker

    monkeypatch.setattr(worker, "IDENTIFY_EVERY_S", 0.0)
    monkeypatch.setattr(worker, "WATCH_EVERY_S", 0.01)
    chosen, cluster = pipeline(), MemoryCluster()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, 50)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        await life.until(lambda: life.worker.identified)
        cluster.remake(getattr(chosen.topics, which))
        error = await life.fails()
    assert isinstance(error, DriftlineError)
    assert "recreated" in str(error)


async def test_more_partitions_are_an_error_while_events_may_wait() -> None:
    chosen = pipeline()
    cluster = await worked(chosen, 100, partitions=2)
    for topic in cluster.partitions:
        cluster.widen(topic, 4)
    error = await fails(cluster, chosen)
    assert isinstance(error, PartitionsChangedError)
    assert "parity.labels has 4 partitions instead of 2" in str(error)
    assert "parity.control has 4" in str(error)
    async with Life(cluster, chosen, start=GO_ON) as life:
        await life.until_done()
        assert sorted(life.worker.runners) == [0, 1, 2, 3]
    async with Life(cluster, chosen) as again:
        await again.until_done()


async def test_an_epoch_from_before_takes_the_topics_over() -> None:
    """As where a broker begins to give ids."""
    chosen, cluster = pipeline(), MemoryCluster()
    cluster.has_ids = False
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, 50)
    await run_through(cluster, chosen)
    cluster.has_ids = True
    await run_through(cluster, chosen)
    assert [one.reason for one in epochs(cluster, chosen)] == ["first", "topics"]
    async with Life(cluster, chosen) as third:
        await third.until_done()
        await check_replay(cluster, chosen, third)
    assert len(epochs(cluster, chosen)) == 2
