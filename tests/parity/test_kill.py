"""A worker that dies at any moment, and the one after it: one score an event, one lesson a label, the same state."""

from __future__ import annotations

import asyncio

import pytest

from tests.parity.rig import (
    Death,
    Life,
    after,
    check_at_least,
    check_exact,
    check_replay,
    outputs_digest,
    pipeline,
    produce,
    run_through,
    slices,
)
from tests.support.cluster import MemoryCluster
from tests.support.memory import Step

COUNT = 700

DEATHS: list[tuple[Step, int, bool]] = [
    ("open", 1, False),
    ("opened", 1, True),
    ("batch", 1, False),  # the epoch
    ("batch", 2, False),
    ("batch", 14, True),
    ("appended", 9, True),
    ("commit", 1, False),
    ("commit", 1, True),
    ("commit", 6, False),
    ("commit", 6, True),
    ("mark", 5, True),
    ("committed", 1, True),
    ("committed", 7, False),
    ("poll", 3, True),
    ("read", 2, True),
]


@pytest.mark.parametrize(("step", "nth", "arrives"), DEATHS)
async def test_exactly_once_through_a_death(step: Step, nth: int, arrives: bool) -> None:
    cluster, chosen = MemoryCluster(), pipeline(snapshot={"every_records": 700})
    cluster.create_for(chosen, 2)
    ids = produce(cluster, chosen, COUNT, partitions=2)
    async with after(Death(step, nth, arrives=arrives), cluster, chosen) as second:
        check_exact(cluster, chosen, ids)
        assert [second.shard(p).counts["learned"] for p in (0, 1)] == [COUNT // 2, COUNT // 2]
        assert [second.shard(p).learner.version.learned for p in (0, 1)] == [COUNT // 2, COUNT // 2]
        await check_replay(cluster, chosen, second)


@pytest.mark.parametrize("seed_nth", [(3, 2, 4, 9), (8, 1, 2, 3)])
async def test_exactly_once_through_one_death_after_the_other(seed_nth: tuple[int, ...]) -> None:
    """Also in the middle of recovering, and with more coming in meanwhile."""
    cluster, chosen = MemoryCluster(), pipeline(snapshot={"every_records": 300})
    cluster.create_for(chosen, 1)
    ids = produce(cluster, chosen, 600)
    steps: list[Step] = ["commit", "read", "committed", "appended"]
    for number, (step, nth) in enumerate(zip(steps, seed_nth, strict=True)):
        death = Death(step, nth, arrives=number % 2 == 0)
        async with Life(cluster, chosen, client=f"life {number}", hook=death) as life:
            await life.until_dead(death)
        ids += produce(cluster, chosen, 150, first=len(ids) + 10 * number)
    async with Life(cluster, chosen, client="last") as life:
        await life.until_done()
        check_exact(cluster, chosen, ids)
        assert life.shard().counts["learned"] == len(ids)
        await check_replay(cluster, chosen, life)


async def test_a_life_without_a_death_serves_the_same() -> None:
    """Dying changes no bit of what is served: the outputs are those of a worker that never died."""
    digests = set()
    for deaths in ([], [Death("commit", 4, arrives=True)], [Death("batch", 11), Death("committed", 3)]):
        cluster, chosen = MemoryCluster(), pipeline(snapshot={"every_records": 500})
        cluster.create_for(chosen, 1)
        ids = produce(cluster, chosen, 800)
        for death in deaths:
            async with Life(cluster, chosen, hook=death) as life:
                await life.until_dead(death)
        async with Life(cluster, chosen) as life:
            await life.until_done()
        check_exact(cluster, chosen, ids)
        digests.add(outputs_digest(cluster, chosen))
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("step", "nth", "arrives"), [("appended", 3, True), ("batch", 5, False), ("batch", 9, True), ("appended", 12, True)]
)
async def test_at_least_once_through_a_death(step: Step, nth: int, arrives: bool) -> None:
    cluster, chosen = MemoryCluster(), pipeline(delivery="at_least_once", snapshot={"every_records": 300})
    cluster.create_for(chosen, 1)
    ids = produce(cluster, chosen, 800)
    async with after(Death(step, nth, arrives=arrives), cluster, chosen) as second:
        check_at_least(cluster, chosen, ids)
        assert second.shard().counts["learned"] == len(ids)
        await check_replay(cluster, chosen, second)


async def test_a_clean_stop_leaves_nothing_to_fold_again() -> None:
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 2)
    ids = produce(cluster, chosen, 600, partitions=2)
    await run_through(cluster, chosen)
    async with Life(cluster, chosen) as second:
        await second.until_done()
        assert [second.runner(p).tally.recovery_slices for p in (0, 1)] == [0, 0]
        more = produce(cluster, chosen, 200, first=700, partitions=2)
        await second.until_done()
        check_exact(cluster, chosen, ids + more)
        await check_replay(cluster, chosen, second)
        await second.stop()
    assert len(slices(cluster, chosen)) > 3


async def test_a_stop_in_the_middle_loses_and_repeats_nothing() -> None:
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 1)
    ids = produce(cluster, chosen, 1_500)
    for number in range(4):
        async with Life(cluster, chosen, client=f"life {number}") as life:
            seen = len(cluster.records(chosen.topics.scores, 0))
            await life.until(lambda seen=seen: len(cluster.records(chosen.topics.scores, 0)) > seen)  # type: ignore[misc]  # mypy cannot type it
            await life.stop()
    async with Life(cluster, chosen) as life:
        await life.until_done()
        check_exact(cluster, chosen, ids)
        await check_replay(cluster, chosen, life)


async def test_workers_that_come_and_go_share_the_work_and_repeat_nothing() -> None:
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 4)
    ids = produce(cluster, chosen, 1_600, partitions=4)
    async with Life(cluster, chosen, client="a") as a:
        await a.until(lambda: bool(cluster.records(chosen.topics.scores, 0)))
        async with Life(cluster, chosen, client="b") as b:
            await b.until(lambda: b.worker.ready and len(b.worker.runners) == 2)
            await a.until(lambda: a.worker.ready and len(a.worker.runners) == 2)
            ids += produce(cluster, chosen, 400, first=1_700, partitions=4)
            async with Life(cluster, chosen, client="c") as c:
                await c.until(lambda: c.worker.ready and len(c.worker.runners) == 1)
                await b.stop()
                await c.until(lambda: c.worker.ready and len(c.worker.runners) == 2)
                await c.kill()
            await a.until(lambda: a.worker.ready and len(a.worker.runners) == 4)
        await a.until_done()
        check_exact(cluster, chosen, ids)
        await check_replay(cluster, chosen, a)


async def test_a_rebalance_that_gives_a_shard_back_keeps_its_memory() -> None:
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 2)
    ids = produce(cluster, chosen, 400, partitions=2)
    async with Life(cluster, chosen, client="a") as a:
        await a.until_done()
        kept = a.shard(0)
        async with Life(cluster, chosen, client="b") as b:
            await b.until(lambda: b.worker.ready and list(b.worker.runners) == [1])
            await a.until(lambda: a.worker.ready and list(a.worker.runners) == [0])
            assert a.shard(0) is kept
            ids += produce(cluster, chosen, 200, first=500, partitions=2)
            await a.until_done()
            await b.until_done()
            check_exact(cluster, chosen, ids)
            await b.stop()
        await a.until(lambda: a.worker.ready and list(a.worker.runners) == [0, 1])
        assert a.shard(0) is kept
        assert a.runner(0).tally.recoveries == 1
        await check_replay(cluster, chosen, a)


async def test_a_shard_put_out_of_the_group_with_a_commit_under_way_lands_nowhere() -> None:
    """A zombie: its commit is on its way while the group gives its shard to another."""

    class Slow:
        def __init__(self) -> None:
            self.reached = asyncio.Event()
            self.go_on = asyncio.Event()

        async def __call__(self, moment: object) -> None:
            if moment.step == "commit" and len(cluster.records(chosen.topics.scores, 0)) > 200:  # type: ignore[attr-defined]  # a Moment
                self.reached.set()
                await self.go_on.wait()

    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 1)
    ids = produce(cluster, chosen, 800)
    slow = Slow()
    async with Life(cluster, chosen, client="b", hook=slow) as zombie:
        await zombie.until(slow.reached.is_set)
        async with Life(cluster, chosen, client="a") as heir:  # goes before it in the order of members
            group = cluster.group(f"driftline-{chosen.name}")
            group.leave("b/0")
            await heir.until_done()
            check_exact(cluster, chosen, ids)
            slow.go_on.set()
            await heir.until(lambda: zombie.runner(0).live is None if zombie.worker.runners else True)
            await asyncio.sleep(0)
            check_exact(cluster, chosen, ids)
            await check_replay(cluster, chosen, heir)
