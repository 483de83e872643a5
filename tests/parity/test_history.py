"""A worker with history features: killed, recovered, replayed, exported, explained; the same bits everywhere."""

from __future__ import annotations

from typing import Any

from driftline.backtest.topic import state_digest
from driftline.transport.port import Place
from tests.parity.rig import Death, Life, check_exact, check_replay, documents, pipeline, produce, run_through
from tests.parity.test_backtest import backtest, spec
from tests.support.cluster import MemoryCluster

FEATURES: dict[str, Any] = {
    "x": "number",
    "count": {"history": "count", "by": "word", "over": "5m"},
    "mean": {"history": "mean(z)", "by": "word", "over": "5m"},
    "risk": {"history": "label_mean", "by": "word", "over": "5m"},
    "minute": {"calendar": "minute"},
}
CHOSEN = pipeline(
    "past",
    event={"id": "id", "context": {"word": "key", "z": "number"}, "features": FEATURES, "keys_max": 2},
    model="StandardScaler() | LogisticRegression()",
    drift={"score": "ADWIN()", "features": {"count": "ADWIN()"}},
    snapshot={"every_records": 300},
)


async def test_a_worker_that_dies_goes_on_with_the_same_past() -> None:
    cluster = MemoryCluster()
    cluster.create_for(CHOSEN, 1)
    ids = produce(cluster, CHOSEN, 600)
    for client, death in (("one", Death("committed", 3, arrives=True)), ("two", Death("batch", 4))):
        async with Life(cluster, CHOSEN, client=client, hook=death) as life:
            await life.until_dead(death)
    async with Life(cluster, CHOSEN, client="last") as life:
        await life.until_done()
        check_exact(cluster, CHOSEN, ids)
        await check_replay(cluster, CHOSEN, life)
        held = life.shard(0).summary()["history"]["word"]
        assert (held["keys"], held["keys_max"]) == (2, 2)
        assert held["evicted"] > 0
        digest = state_digest(life.shard(0))
        await life.stop()
    (live,), _ = await backtest(cluster, CHOSEN, spec(CHOSEN))
    assert live.state == {0: digest}
    assert (live.against.differing, live.against.missing) == (0, 0)
    outcomes = documents(cluster, CHOSEN.topics.outcomes)
    assert all(list(one["features"]) == list(FEATURES) for one in outcomes)
    assert {one["features"]["risk"] for one in outcomes} - {0, 1}


async def test_a_window_may_be_longer_than_retention() -> None:
    """The past is state: it outlives the records, also where a worker starts again from its snapshot."""
    cluster = MemoryCluster()
    cluster.create_for(CHOSEN, 1)
    whole, topics = MemoryCluster(), CHOSEN.topics
    whole.create_for(CHOSEN, 1)
    for one in (cluster, whole):
        produce(one, CHOSEN, 300)
        await run_through(one, CHOSEN)
    for topic in (topics.events, topics.labels or ""):
        place = Place(topic, 0)
        cluster.delete_before(place, cluster.log(place).end)
    for one in (cluster, whole):
        produce(one, CHOSEN, 50, first=300)
        await run_through(one, CHOSEN, client="two")
    kept, all_there = (
        [(score["event_id"], score["prediction"]) for score in documents(one, topics.scores)]
        for one in (cluster, whole)
    )
    assert len(kept) == 350
    assert kept == all_there
