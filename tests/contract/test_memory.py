"""What is particular to memory: faults at chosen moments, and the cluster's own rules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from driftline.codec.write import Write
from driftline.core.error import BrokerError, CommitUnknownError
from driftline.core.pipeline import Pipeline
from driftline.transport.port import Place
from tests.contract.lab import Member, MemoryLab
from tests.support import memory
from tests.support.cluster import ClusterError, FencedError, MemoryCluster, assign_ranges
from tests.support.memory import AstrayError, MemoryBroker, MemoryPublisher, Moment, RefusedError, Step


class Hook:
    """Does one thing the first time that a step comes up, and keeps a list of all moments."""

    def __init__(self, step: Step, fault: Exception | None = None) -> None:
        self.step = step
        self.fault = fault
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self.moments: list[Moment] = []
        self._done = False

    async def __call__(self, moment: Moment) -> None:
        self.moments.append(moment)
        if moment.step == self.step and not self._done:
            self._done = True
            self.reached.set()
            if self.fault is not None:
                raise self.fault
            await self.go_on.wait()


def cluster_for(delivery: str = "exactly_once", partitions: int = 1) -> tuple[MemoryCluster, Pipeline]:
    lab = MemoryLab()
    pipeline = lab.document(delivery)
    lab.cluster.create_for(pipeline, partitions)
    return lab.cluster, pipeline


def writes(pipeline: Pipeline) -> tuple[list[Write], Write]:
    outputs = [Write(pipeline.topics.scores, 0, None, b"s"), Write(pipeline.topics.outcomes, 0, None, b"o")]
    return outputs, Write(pipeline.topics.journal, 0, None, b"e")


def seen(cluster: MemoryCluster, pipeline: Pipeline, *, committed: bool = True) -> tuple[int, int, int]:
    topics = pipeline.topics
    counts = [
        len(cluster.records(topic, 0, committed=committed))
        for topic in (topics.scores, topics.outcomes, topics.journal)
    ]
    return counts[0], counts[1], counts[2]


async def begun(broker: MemoryBroker, pipeline: Pipeline, hook: Hook) -> tuple[MemoryPublisher, asyncio.Task[int]]:
    """A publisher, and its commit, which has come to the hook's step."""
    publisher = broker.publisher(0)
    await publisher.open()
    committing = asyncio.create_task(publisher.commit(*writes(pipeline)))
    await hook.reached.wait()
    return publisher, committing


async def test_a_request_lost_before_the_commit_commits_nothing() -> None:
    cluster, pipeline = cluster_for()
    publisher = MemoryBroker(cluster, pipeline, hook=Hook("commit", ClusterError("cut off"))).publisher(0)
    await publisher.open()
    with pytest.raises(CommitUnknownError, match="cut off"):
        await publisher.commit(*writes(pipeline))
    assert seen(cluster, pipeline) == (0, 0, 0)
    assert seen(cluster, pipeline, committed=False) == (1, 1, 1)
    successor = MemoryBroker(cluster, pipeline).publisher(0)
    await successor.open()
    assert seen(cluster, pipeline) == (0, 0, 0)
    assert await successor.commit(*writes(pipeline)) == 2  # behind an aborted entry and its marker


async def test_an_answer_lost_after_the_commit_is_a_commit_all_the_same() -> None:
    cluster, pipeline = cluster_for()
    publisher = MemoryBroker(cluster, pipeline, hook=Hook("committed", ClusterError("cut off"))).publisher(0)
    await publisher.open()
    with pytest.raises(CommitUnknownError):
        await publisher.commit(*writes(pipeline))
    successor = MemoryBroker(cluster, pipeline).publisher(0)
    await successor.open()
    assert seen(cluster, pipeline) == (1, 1, 1)


@pytest.mark.parametrize(("step", "committed"), [("commit", True), ("batch", False)])
async def test_what_is_on_its_way_is_shut_out_by_a_new_owner(step: Step, committed: bool) -> None:
    cluster, pipeline = cluster_for()
    hook = Hook(step)
    _, committing = await begun(MemoryBroker(cluster, pipeline, hook=hook), pipeline, hook)
    await MemoryBroker(cluster, pipeline).publisher(0).open()
    hook.go_on.set()
    with pytest.raises(CommitUnknownError, match="newer owner"):
        await committing
    assert seen(cluster, pipeline, committed=committed) == (0, 0, 0)


async def test_a_decided_commit_holds_though_a_new_owner_comes_before_its_markers() -> None:
    cluster, pipeline = cluster_for()
    hook = Hook("mark")
    publisher = MemoryBroker(cluster, pipeline, hook=hook).publisher(0)
    await publisher.open()
    await publisher.commit(*writes(pipeline))  # the answer may come before the markers
    await hook.reached.wait()
    assert seen(cluster, pipeline) == (0, 0, 0)
    await MemoryBroker(cluster, pipeline).publisher(0).open()
    assert seen(cluster, pipeline) == (1, 1, 1)
    hook.go_on.set()
    await asyncio.sleep(0)
    assert cluster.log(Place(pipeline.topics.scores, 0)).end == 2  # marked once


async def test_one_refused_batch_leaves_the_others_in_and_the_commit_out() -> None:
    cluster, pipeline = cluster_for()
    publisher = MemoryBroker(cluster, pipeline, hook=Hook("batch", RefusedError("too old"))).publisher(0)
    await publisher.open()
    with pytest.raises(CommitUnknownError, match="too old"):
        await publisher.commit(*writes(pipeline))
    assert seen(cluster, pipeline, committed=False) == (0, 1, 1)
    assert seen(cluster, pipeline) == (0, 0, 0)


async def test_without_transactions_what_was_written_stays() -> None:
    cluster, pipeline = cluster_for("at_least_once")
    hook = Hook("appended", ClusterError("cut off"))
    publisher = MemoryBroker(cluster, pipeline, hook=hook).publisher(0)
    await publisher.open()
    with pytest.raises(CommitUnknownError):
        await publisher.commit(*writes(pipeline))
    assert seen(cluster, pipeline) == (1, 0, 0)  # outputs go before the journal


async def test_an_expired_transaction_shuts_out_a_sole_owner() -> None:
    cluster, pipeline = cluster_for()
    hook = Hook("commit")
    publisher, committing = await begun(MemoryBroker(cluster, pipeline, hook=hook), pipeline, hook)
    cluster.expire(f"{pipeline.name}-0")
    hook.go_on.set()
    with pytest.raises(CommitUnknownError):
        await committing
    with pytest.raises(CommitUnknownError):
        await publisher.commit(*writes(pipeline))
    assert await publisher.commit([], None) == -1  # nobody checks an empty one
    assert seen(cluster, pipeline) == (0, 0, 0)


async def test_a_request_that_was_sent_arrives_though_its_sender_gave_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit landed after the journal was read without a new owner: this is why there must be one first."""
    monkeypatch.setattr(memory, "COMMIT_DEADLINE_S", 0.01)
    cluster, pipeline = cluster_for()
    hook = Hook("commit")
    publisher = MemoryBroker(cluster, pipeline, hook=hook).publisher(0)
    await publisher.open()
    with pytest.raises(CommitUnknownError, match="timed out"):
        await publisher.commit(*writes(pipeline))
    await publisher.close()
    assert seen(cluster, pipeline) == (0, 0, 0)
    hook.go_on.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert seen(cluster, pipeline) == (1, 1, 1)


async def test_a_commit_that_comes_late_at_the_same_epoch_ends_the_next_transaction() -> None:
    """What Kafka does as well, before transactions have epochs of their own (KIP-890): so none may be sent twice."""
    cluster, pipeline = cluster_for()
    late: list[Callable[[], object]] = []

    async def hook(moment: Moment) -> None:
        if moment.step == "commit" and not late:
            raise AstrayError(late.append)
        if moment.step == "appended" and cluster.records(pipeline.topics.journal, 0):
            late[0]()

    broker = MemoryBroker(cluster, pipeline, hook=hook)
    publisher = broker.publisher(0)
    await publisher.open()
    with pytest.raises(CommitUnknownError, match="on its way"):
        await publisher.commit(*writes(pipeline))
    cluster.decide(publisher.identity, commit=True)  # as a client does that sends it again
    cluster.mark(publisher.identity)
    with pytest.raises(CommitUnknownError, match="no transaction of"):
        await publisher.commit(*writes(pipeline))
    for _ in range(5):
        await asyncio.sleep(0)
    assert seen(cluster, pipeline) == (2, 1, 1), "the second transaction is torn"
    successor = broker.publisher(0)
    await successor.open()
    with pytest.raises(FencedError):
        late[0]()


def test_a_transaction_that_is_open_for_too_long_is_aborted() -> None:
    now_ms = 0
    cluster = MemoryCluster(now_ms=lambda: now_ms)
    cluster.create({"t": 1})
    place = Place("t", 0)
    identity = cluster.initialise("one")
    cluster.add(identity, [place])
    cluster.append_within(identity, place, [Write(*place, None, b"a")])
    now_ms = 14_999
    assert cluster.expire_older(15_000) == []
    now_ms = 15_000
    assert cluster.expire_older(15_000) == ["one"]
    assert cluster.log(place).stable_end() == cluster.log(place).end
    assert cluster.records("t", 0) == []
    with pytest.raises(FencedError):
        cluster.decide(identity, commit=True)
    assert cluster.expire_older(0) == []


async def test_a_killed_client_sends_nothing_more_but_what_is_under_way_arrives() -> None:
    cluster, pipeline = cluster_for()
    hook = Hook("commit")
    broker = MemoryBroker(cluster, pipeline, hook=hook)
    publisher, committing = await begun(broker, pipeline, hook)
    broker.kill()
    with pytest.raises(CommitUnknownError, match="killed"):
        await publisher.commit(*writes(pipeline))
    assert seen(cluster, pipeline, committed=False) == (1, 1, 1)
    hook.go_on.set()
    with pytest.raises(CommitUnknownError, match="killed"):
        await committing  # the answer found nobody
    await asyncio.sleep(0)
    assert seen(cluster, pipeline) == (1, 1, 1)
    with pytest.raises(BrokerError):
        await broker.publisher(0).open()
    with pytest.raises(BrokerError):
        await broker.reader().open({Place(pipeline.topics.journal, 0): 0})


async def test_a_commit_without_an_answer_ends_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "COMMIT_DEADLINE_S", 0.01)
    cluster, pipeline = cluster_for()
    publisher = MemoryBroker(cluster, pipeline, hook=Hook("committed")).publisher(0)
    await publisher.open()
    with pytest.raises(CommitUnknownError, match="timed out"):
        await publisher.commit(*writes(pipeline))
    async with asyncio.timeout(1):
        await publisher.close()


async def test_a_reader_held_back_for_good_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "READ_DEADLINE_S", 0.01)
    cluster, pipeline = cluster_for()
    place = Place(pipeline.topics.journal, 0)
    stranger = cluster.initialise("stranger")
    cluster.add(stranger, [place])
    cluster.append_within(stranger, place, [Write(*place, None, b"open")])
    reader = MemoryBroker(cluster, pipeline).reader()
    await reader.open({place: 0})
    with pytest.raises(BrokerError, match="could not be read"):
        await reader.read(place, 1)


async def test_a_feed_that_cannot_reach_the_cluster_gives_nothing() -> None:
    cluster, pipeline = cluster_for()
    cluster.produce(pipeline.topics.events, 0, b"1")
    hook = Hook("poll", ClusterError("cut off"))
    async with Member(MemoryBroker(cluster, pipeline, hook=hook).feed()) as member:
        await member.until(lambda: member.watcher.partitions == [0])
        member.feed.take([Place(pipeline.topics.events, 0)])
        member.feed.begin({Place(pipeline.topics.events, 0): 0})
        await member.until(lambda: bool(member.got))
    assert hook.reached.is_set()


async def test_a_member_that_was_put_out_lets_go_and_comes_back() -> None:
    """A session time-out: the group gives its partitions away first, and it learns of it later."""
    cluster, pipeline = cluster_for(partitions=2)
    group = cluster.group(f"driftline-{pipeline.name}")
    async with Member(MemoryBroker(cluster, pipeline, client="a").feed()) as a:
        await a.until(lambda: a.watcher.partitions == [0, 1])
        group.leave("a/0")
        await a.until(lambda: a.watcher.diary == ["assigned [0, 1]", "revoked", "assigned [0, 1]"])


async def test_a_member_that_was_put_out_while_it_waited_joins_again() -> None:
    cluster, pipeline = cluster_for(partitions=2)
    group = cluster.group(f"driftline-{pipeline.name}")
    group.join("slow/0", (pipeline.topics.events,))
    async with Member(MemoryBroker(cluster, pipeline, client="a").feed()) as a:
        await a.polled(1)
        assert group.missing == ("slow/0",)  # the rebalance waits for it
        group.leave("a/0")
        await a.until(lambda: "a/0" in group.members)
        group.leave("slow/0")  # it held the rebalance up
        await a.until(lambda: a.watcher.partitions == [0, 1])


async def test_a_rebalance_right_after_another_leaves_nobody_waiting() -> None:
    """A member learns that its assignment is over before it learned what it was."""
    cluster, pipeline = cluster_for(partitions=2)
    group = cluster.group(f"driftline-{pipeline.name}")
    async with Member(MemoryBroker(cluster, pipeline, client="a").feed()) as a:
        await a.until(lambda: a.watcher.partitions == [0, 1])
        for _ in range(3):
            group.join("b/0", (pipeline.topics.events,))
            await a.until(lambda: not group.rebalancing)
            group.leave("b/0")  # before `a` was told its share
        await a.until(lambda: a.watcher.partitions == [0, 1])


async def test_a_killed_member_leaves_its_partitions_to_the_others() -> None:
    cluster, pipeline = cluster_for(partitions=3)
    dying = MemoryBroker(cluster, pipeline, client="a")
    async with Member(dying.feed()) as a, Member(MemoryBroker(cluster, pipeline, client="b").feed()) as b:
        await a.until(lambda: a.watcher.partitions == [0, 1])
        await b.until(lambda: b.watcher.partitions == [2])
        diary = list(a.watcher.diary)
        dying.kill()
        await b.until(lambda: b.watcher.partitions == [0, 1, 2])
        assert a.watcher.diary == diary  # a dead one is told nothing
        assert await a.feed.poll() == {}


async def test_a_rebalance_waits_until_everyone_has_let_go() -> None:
    cluster, pipeline = cluster_for(partitions=2)
    async with Member(MemoryBroker(cluster, pipeline, client="a").feed()) as a:
        await a.until(lambda: a.watcher.partitions == [0, 1])
        let_go = asyncio.Event()

        async def revoked() -> None:
            await let_go.wait()

        a.watcher.revoked = revoked  # type: ignore[method-assign]  # it takes its time
        async with Member(MemoryBroker(cluster, pipeline, client="b").feed()) as b:
            await b.polled(2)
            assert b.watcher.partitions is None
            let_go.set()
            await b.until(lambda: b.watcher.partitions == [1])


async def test_positions_are_noted_for_lag_tools_only() -> None:
    cluster, pipeline = cluster_for()
    place = Place(pipeline.topics.events, 0)
    async with Member(MemoryBroker(cluster, pipeline).feed()) as member:
        await member.feed.note_positions({place: 7})
    assert cluster.group(f"driftline-{pipeline.name}").noted == {place: 7}


def test_ranges_are_contiguous_and_alike_for_every_topic() -> None:
    topics = {"c": ("x", "y"), "a": ("x", "y"), "b": ("x", "y")}
    assigned = assign_ranges(topics, {"x": 4, "y": 4, "z": 4})
    assert assigned == {
        "a": [Place("x", 0), Place("x", 1), Place("y", 0), Place("y", 1)],
        "b": [Place("x", 2), Place("y", 2)],
        "c": [Place("x", 3), Place("y", 3)],
    }
    assert assign_ranges({"a": ("x",), "b": ("x",)}, {"x": 1}) == {"a": [Place("x", 0)], "b": []}


def test_the_last_stable_offset_stays_behind_the_high_watermark() -> None:
    cluster = MemoryCluster()
    place = Place("t", 0)
    cluster.create({"t": 1})
    one, two = cluster.initialise("one"), cluster.initialise("two")
    cluster.add(one, [place])
    cluster.append_within(one, place, [Write(*place, None, b"a")])
    cluster.add(two, [place])
    cluster.append_within(two, place, [Write(*place, None, b"b")])
    log = cluster.log(place)
    assert (log.stable_end(), log.end) == (0, 2)
    cluster.decide(one, commit=True)
    assert log.stable_end() == 0  # decided, and not marked yet
    cluster.mark(one)
    assert (log.stable_end(), log.end) == (1, 3)
    assert [source.value for source in cluster.records("t", 0)] == [b"a"]
    cluster.decide(two, commit=False)
    cluster.mark(two)
    assert (log.stable_end(), log.end) == (4, 4)
    assert [source.value for source in cluster.records("t", 0)] == [b"a"]
    assert [source.value for source in cluster.records("t", 0, committed=False)] == [b"a", b"b"]
    cluster.initialise("one")
    with pytest.raises(FencedError):
        cluster.append_within(one, place, [Write(*place, None, b"late")])


def test_retention_deletes_a_prefix_and_keeps_offsets() -> None:
    cluster = MemoryCluster(now_ms=lambda: 5)
    cluster.create({"t": 1})
    for number in range(4):
        cluster.produce("t", 0, b"%d" % number)
    cluster.delete_before(Place("t", 0), 3)
    cluster.delete_before(Place("t", 0), 1)  # never back
    assert [(source.offset, source.record_time_ms) for source in cluster.records("t", 0)] == [(3, 5)]
    assert cluster.produce("t", 0, b"4") == 4
    cluster.delete_before(Place("t", 0), 99)
    assert cluster.produce("t", 0, b"5") == 5
    with pytest.raises(ClusterError, match="no t-1"):
        cluster.produce("t", 1, b"")
