"""What every feed promises: shards are shared out, and each record comes once from where it was begun."""

from __future__ import annotations

import asyncio
import time

import pytest

from driftline.codec.inputs import Inputs
from driftline.codec.write import Write
from driftline.core.error import InputLostError
from driftline.core.pipeline import Pipeline
from driftline.transport.port import Place
from tests.contract.lab import Lab, Member


def places_of(pipeline: Pipeline, partition: int = 0) -> list[Place]:
    return [Place(topic, partition) for topic in Inputs(pipeline).topics]


async def begun(member: Member, pipeline: Pipeline, *, at: int = 0) -> Place:
    """Wait for the assignment and read every input from an offset; returns the events' place."""
    await member.until(lambda: member.watcher.partitions is not None, "an assignment")
    events = Place(pipeline.topics.events, 0)
    member.feed.take(places_of(pipeline))
    member.feed.begin({place: at if place == events else 0 for place in places_of(pipeline)})
    return events


async def test_nothing_is_given_out_before_it_is_begun(lab: Lab) -> None:
    pipeline = await lab.pipeline()
    await lab.produce(pipeline.topics.events, [b"1", b"2"])
    async with Member(lab.broker(pipeline).feed()) as member:
        await member.until(lambda: member.watcher.partitions == [0], "an assignment")
        await member.polled()
        assert member.got == {}
        events = await begun(member, pipeline)
        await member.until(lambda: len(member.got.get(events, ())) == 2)
        assert member.got == {events: [b"1", b"2"]}


async def test_begins_at_an_offset_and_again_at_another(lab: Lab) -> None:
    pipeline = await lab.pipeline()
    await lab.produce(pipeline.topics.events, [b"%d" % number for number in range(5)])
    async with Member(lab.broker(pipeline).feed()) as member:
        events = await begun(member, pipeline, at=3)
        await member.until(lambda: len(member.got.get(events, ())) == 2)
        member.feed.begin({events: 1})
        await member.until(lambda: len(member.got[events]) == 6)
        await lab.produce(pipeline.topics.events, [b"new"])
        await member.until(lambda: len(member.got[events]) == 7)
        assert member.got[events] == [b"3", b"4", b"1", b"2", b"3", b"4", b"new"]


@pytest.mark.slow
async def test_a_long_backlog_of_one_input_does_not_hold_back_another(lab: Lab) -> None:
    """A merge goes on only with records of all its inputs in hand."""
    lab.need("shares")
    pipeline = await lab.pipeline()
    events, labels = Place(pipeline.topics.events, 0), Place(pipeline.topics.labels or "", 0)
    for _ in range(10):
        await lab.produce(events.topic, [b"1"] * 1_000)
        await lab.produce(labels.topic, [b"1"] * 1_000)
    async with Member(lab.broker(pipeline).feed()) as member:
        await begun(member, pipeline)
        await member.until(lambda: bool(member.got.get(labels)) and bool(member.got.get(events)))
        assert max(map(len, member.got.values())) < 10_000, "neither was read to its end before the other began"
        await member.until(lambda: sum(map(len, member.got.values())) == 20_000)
        assert set(map(len, member.got.values())) == {10_000}


async def test_a_paused_input_gives_nothing_and_loses_nothing(lab: Lab) -> None:
    pipeline = await lab.pipeline()
    labels = Place(pipeline.topics.labels or "", 0)
    async with Member(lab.broker(pipeline).feed()) as member:
        events = await begun(member, pipeline)
        await lab.produce(events.topic, [b"1"])
        await member.until(lambda: events in member.got)
        member.feed.pause(events)
        await member.polled()  # one that was on its way may still come
        await lab.produce(events.topic, [b"2", b"3"])
        await lab.produce(labels.topic, [b"label"])
        await member.until(lambda: labels in member.got)
        await member.polled()
        assert member.got[events] == [b"1"]
        member.feed.resume(events)
        await member.until(lambda: len(member.got[events]) == 3)
        assert member.got[events] == [b"1", b"2", b"3"]


async def test_the_end_is_known_past_control_records(lab: Lab) -> None:
    """Offsets of markers and aborted records are no lag: the last record's offset is not the end."""
    lab.need("isolation")
    pipeline = await lab.pipeline()
    broker, topic = lab.broker(pipeline), pipeline.topics.events
    publisher = broker.publisher(0)
    await publisher.open()
    await publisher.commit([Write(topic, 0, None, b"1"), Write(topic, 0, None, b"2")], None)
    aborted = await lab.begin("stranger", topic, [b"never seen"])
    await aborted.end(commit=False)
    async with Member(broker.feed()) as member:
        events = Place(topic, 0)
        await member.until(lambda: member.watcher.partitions is not None)
        assert not member.feed.at_end(events)  # not known yet
        await begun(member, pipeline)
        await member.until(lambda: member.feed.at_end(events), "the end")
        assert member.got[events] == [b"1", b"2"]
        assert member.feed.lag(events) == 0
        await publisher.commit([Write(topic, 0, None, b"3")], None)
        await member.until(lambda: len(member.got[events]) == 3)
        await member.until(lambda: all(member.feed.at_end(place) for place in places_of(pipeline)), "all ends")
    await publisher.close()


async def test_what_is_not_given_out_yet_is_lag(lab: Lab) -> None:
    pipeline = await lab.pipeline()
    async with Member(lab.broker(pipeline).feed()) as member:
        events = await begun(member, pipeline)
        await lab.produce(events.topic, [b"1", b"2", b"3"])
        await member.until(lambda: len(member.got.get(events, ())) == 3)
        await member.until(lambda: member.feed.at_end(events))
        member.feed.pause(events)
        member.feed.begin({events: 1})
        assert member.feed.lag(events) == 2
        assert not member.feed.at_end(events)
        await member.until(lambda: member.feed.at_end(events))


async def test_an_open_transaction_is_not_given_out_and_holds_back_what_follows(lab: Lab) -> None:
    lab.need("isolation")
    pipeline = await lab.pipeline()
    events = Place(pipeline.topics.events, 0)
    await lab.produce(events.topic, [b"before"])
    first = await lab.begin("stranger-1", events.topic, [b"of 1"])
    second = await lab.begin("stranger-2", events.topic, [b"of 2"])
    await lab.produce(events.topic, [b"after"])
    async with Member(lab.broker(pipeline).feed()) as member:
        await begun(member, pipeline)
        await member.until(lambda: events in member.got)
        await member.polled()
        assert member.got[events] == [b"before"]
        await member.until(lambda: member.feed.at_end(events), "the last stable offset")
        await second.end(commit=True)
        await member.polled(5)
        assert member.got[events] == [b"before"]
        await first.end(commit=False)
        await member.until(lambda: len(member.got[events]) == 3)
        assert member.got[events] == [b"before", b"of 2", b"after"]


async def test_two_members_share_every_input_alike(lab: Lab) -> None:
    lab.need("groups")
    pipeline = await lab.pipeline(partitions=4)
    for partition in range(4):
        for topic in (pipeline.topics.events, pipeline.topics.labels or ""):
            await lab.produce(topic, [b"%s-%d" % (topic.encode(), partition)], partition)
    async with Member(lab.broker(pipeline, "a").feed()) as a:
        await a.until(lambda: a.watcher.partitions == [0, 1, 2, 3], "all partitions")
        async with Member(lab.broker(pipeline, "b").feed()) as b:
            await b.until(lambda: b.watcher.partitions is not None)
            await a.until(lambda: a.watcher.partitions is not None and len(a.watcher.partitions) == 2)
            shares = [a.watcher.partitions, b.watcher.partitions]
            assert sorted(map(tuple, filter(None, shares))) == [(0, 1), (2, 3)]
            assert a.watcher.diary[:2] == ["assigned [0, 1, 2, 3]", "revoked"]
            for member in (a, b):
                ours = [place for p in member.watcher.partitions or () for place in places_of(pipeline, p)]
                member.feed.take(ours)
                member.feed.begin(dict.fromkeys(ours, 0))
                await member.until(lambda member=member: len(member.got) == 4)  # type: ignore[misc]  # mypy cannot type it
                assert {place.partition for place in member.got} == set(member.watcher.partitions or ())
        await a.until(lambda: a.watcher.partitions == [0, 1, 2, 3], "the partitions of the one that left")


async def test_records_are_not_given_out_twice_through_a_rebalance(lab: Lab) -> None:
    """What was read before a rebalance is not read again from an old buffer after the new begin."""
    lab.need("groups")
    pipeline = await lab.pipeline(partitions=2)
    events = Place(pipeline.topics.events, 0)
    await lab.produce(events.topic, [b"%d" % number for number in range(20)])
    async with Member(lab.broker(pipeline, "a").feed()) as a:
        await a.until(lambda: a.watcher.partitions == [0, 1])
        a.feed.take([place for p in (0, 1) for place in places_of(pipeline, p)])
        a.feed.begin({place: 0 for p in (0, 1) for place in places_of(pipeline, p)})
        await a.until(lambda: len(a.got.get(events, ())) == 20)
        async with Member(lab.broker(pipeline, "b").feed()) as b:
            await b.until(lambda: b.watcher.partitions is not None)
            await a.until(lambda: a.watcher.partitions is not None and len(a.watcher.partitions) == 1)
            owner = a if 0 in (a.watcher.partitions or ()) else b
            before = len(owner.got.get(events, ()))
            await owner.polled()
            assert len(owner.got.get(events, ())) == before  # paused until begun
            owner.feed.take(places_of(pipeline))
            owner.feed.begin({place: 15 if place == events else 0 for place in places_of(pipeline)})
            await owner.until(lambda: len(owner.got.get(events, ())) == before + 5)
            assert owner.offsets[events][-5:] == [15, 16, 17, 18, 19]


async def test_lost_input_is_raised_by_poll(lab: Lab) -> None:
    lab.need("retention")
    pipeline = await lab.pipeline()
    await lab.produce(pipeline.topics.events, [b"%d" % number for number in range(6)])
    await lab.delete_before(Place(pipeline.topics.events, 0), 4)
    async with Member(lab.broker(pipeline).feed()) as member:
        await begun(member, pipeline, at=2)
        with pytest.raises(InputLostError):
            await member.until(lambda: False)


async def test_what_the_assignment_raises_is_raised_by_poll(lab: Lab) -> None:
    """A client library may swallow what its callbacks raise; the worker must see it."""
    pipeline = await lab.pipeline()
    member = Member(lab.broker(pipeline).feed())

    def assigned(_: object) -> None:
        raise ValueError("no such shard")

    member.watcher.assigned = assigned  # type: ignore[method-assign, assignment]  # a fault for this test
    async with member:
        with pytest.raises(ValueError, match="no such shard"):
            await member.until(lambda: False)


async def test_noting_positions_and_stopping_are_bounded(lab: Lab) -> None:
    pipeline = await lab.pipeline()
    member = Member(lab.broker(pipeline).feed())
    async with member:
        events = await begun(member, pipeline)
        await member.feed.note_positions({events: 0})
    started_s = time.monotonic()
    async with asyncio.timeout(12):
        await member.feed.stop()  # once more
    assert time.monotonic() - started_s < 12
