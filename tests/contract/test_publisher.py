"""What every publisher promises: all or nothing, in order, and one owner at a time."""

from __future__ import annotations

import asyncio
import time

import pytest

from driftline.codec.write import Write
from driftline.core.error import CommitUnknownError
from driftline.core.pipeline import Pipeline
from driftline.devbroker.kafka import KafkaNode
from tests.contract.lab import SMALL_BYTES, WITHIN_S, Lab, WireLab, read_from, values_of

CLOSE_WITHIN_S = 12.0


def score(pipeline: Pipeline, value: bytes) -> Write:
    return Write(pipeline.topics.scores, 0, b"key", value, int(time.time() * 1000), (("h", b"1"),))


def entry(pipeline: Pipeline, value: bytes) -> Write:
    return Write(pipeline.topics.journal, 0, b"0", value)


async def test_what_is_committed_is_read_back_in_order_and_whole(lab: Lab) -> None:
    pipeline = await lab.pipeline()
    broker = lab.broker(pipeline)
    publisher = broker.publisher(0)
    await publisher.open()
    stamp_ms = int(time.time() * 1000)
    headers = (("a", b"1"), ("a", b""), ("b", b"\xff"))
    scores = [Write(pipeline.topics.scores, 0, b"k%d" % n, b"%d" % n, stamp_ms + n, headers) for n in range(300)]
    alerts = [Write(pipeline.topics.alerts, 0, None, b"alert", stamp_ms), Write(pipeline.topics.alerts, 0, b"k", None)]
    mixed = [*scores[:100], alerts[0], *scores[100:], alerts[1]]
    await publisher.commit(mixed, entry(pipeline, b"first"))
    await publisher.close()

    found = await read_from(broker, pipeline.topics.scores)
    assert values_of(found) == [b"%d" % n for n in range(300)]
    assert [source.offset for source in found] == sorted(source.offset for source in found)
    last = found[-1]
    assert (last.topic, last.partition, last.key, last.record_time_ms) == (
        pipeline.topics.scores,
        0,
        b"k299",
        stamp_ms + 299,
    )
    assert last.headers == headers
    alerted = await read_from(broker, pipeline.topics.alerts)
    assert [(source.key, source.value) for source in alerted] == [(None, b"alert"), (b"k", None)]
    assert abs(alerted[1].record_time_ms - stamp_ms) < 60_000  # no timestamp given: the wall clock


async def test_commit_returns_the_offset_of_the_entry(lab: Lab) -> None:
    pipeline = await lab.pipeline()
    broker = lab.broker(pipeline)
    publisher = broker.publisher(0)
    await publisher.open()
    offsets = [await publisher.commit([score(pipeline, b"s")], entry(pipeline, b"%d" % n)) for n in range(4)]
    without = await publisher.commit([score(pipeline, b"s")], None)
    nothing = await publisher.commit([], None)
    await publisher.close()

    assert (without, nothing) == (-1, -1)
    found = await read_from(broker, pipeline.topics.journal)
    assert [(source.offset, source.value) for source in found] == [(at, b"%d" % n) for n, at in enumerate(offsets)]
    assert len(await read_from(broker, pipeline.topics.scores)) == 5


async def test_a_publisher_shuts_out_the_one_before(lab: Lab) -> None:
    lab.need("isolation")
    pipeline = await lab.pipeline()
    broker = lab.broker(pipeline)
    first, second = broker.publisher(0), broker.publisher(0)
    await first.open()
    await first.commit([score(pipeline, b"by first")], entry(pipeline, b"1"))
    await second.open()
    with pytest.raises(CommitUnknownError):
        await first.commit([score(pipeline, b"too late")], entry(pipeline, b"2"))
    await first.close()
    await second.commit([score(pipeline, b"by second")], entry(pipeline, b"3"))
    await second.close()

    assert values_of(await read_from(broker, pipeline.topics.scores)) == [b"by first", b"by second"]
    assert values_of(await read_from(broker, pipeline.topics.journal)) == [b"1", b"3"]


async def test_publishers_of_other_shards_do_not_shut_each_other_out(lab: Lab) -> None:
    pipeline = await lab.pipeline(partitions=2)
    broker = lab.broker(pipeline)
    first, second = broker.publisher(0), broker.publisher(1)
    await first.open()
    await second.open()
    await first.commit([score(pipeline, b"s")], entry(pipeline, b"e"))
    await second.commit([], Write(pipeline.topics.journal, 1, None, b"e"))
    await first.close()
    await second.close()
    assert len(await read_from(broker, pipeline.topics.scores)) == 1


async def test_opening_ends_what_the_owner_before_left_open(lab: Lab) -> None:
    lab.need("isolation")
    pipeline = await lab.pipeline()
    broker = lab.broker(pipeline)
    left = await lab.begin(f"{pipeline.name}-0", pipeline.topics.scores, [b"left open"])
    publisher = broker.publisher(0)
    await publisher.open()
    # The open transaction would hold back every read_committed reader.
    assert await read_from(broker, pipeline.topics.scores) == []
    await publisher.commit([score(pipeline, b"after")], entry(pipeline, b"1"))
    await publisher.close()
    assert values_of(await read_from(broker, pipeline.topics.scores)) == [b"after"]
    with pytest.raises(Exception, match=r"(?i)fence|newer|epoch"):  # each broker's own error
        await left.end(commit=True)


async def test_a_refused_batch_fails_the_commit_and_nothing_of_it_is_seen(lab: Lab) -> None:
    lab.need("isolation", "size limit")
    pipeline = await lab.pipeline(small=True)
    broker = lab.broker(pipeline)
    publisher = broker.publisher(0)
    await publisher.open()
    await publisher.commit([score(pipeline, b"good")], entry(pipeline, b"1"))
    large = Write(pipeline.topics.outcomes, 0, None, b"x" * (2 * SMALL_BYTES))
    with pytest.raises(CommitUnknownError):
        await publisher.commit([score(pipeline, b"beside it"), large], entry(pipeline, b"2"))
    await publisher.close()
    successor = broker.publisher(0)
    await successor.open()
    await successor.commit([score(pipeline, b"next")], entry(pipeline, b"3"))
    await successor.close()

    assert values_of(await read_from(broker, pipeline.topics.scores)) == [b"good", b"next"]
    assert values_of(await read_from(broker, pipeline.topics.journal)) == [b"1", b"3"]
    assert await read_from(broker, pipeline.topics.outcomes) == []


async def test_a_stamp_too_far_ahead_is_refused_and_fails_the_commit(lab: Lab) -> None:
    """The broker refuses that one batch, and would commit what came beside it."""
    lab.need("isolation", "size limit")
    pipeline = await lab.pipeline(small=True)  # its outcomes topic is as a stranger makes one; ours take any stamp
    broker = lab.broker(pipeline)
    publisher = broker.publisher(0)
    await publisher.open()
    ahead_ms = int(time.time() * 1000) + 2 * 3_600_000
    ahead = Write(pipeline.topics.outcomes, 0, None, b"ahead", ahead_ms)
    with pytest.raises(CommitUnknownError):
        await publisher.commit([score(pipeline, b"beside"), ahead], entry(pipeline, b"1"))
    await publisher.close()
    successor = broker.publisher(0)
    await successor.open()
    await successor.commit([score(pipeline, b"after")], entry(pipeline, b"2"))
    await successor.close()
    assert values_of(await read_from(broker, pipeline.topics.scores)) == [b"after"]
    assert values_of(await read_from(broker, pipeline.topics.outcomes)) == []
    assert values_of(await read_from(broker, pipeline.topics.journal)) == [b"2"]


async def test_a_commit_that_is_given_up_may_land_and_its_successor_learns_which(lab: Lab) -> None:
    """What was sent is on its way, whatever becomes of who sent it: only a new owner can tell."""
    lab.need("isolation")
    pipeline = await lab.pipeline()
    broker = lab.broker(pipeline)
    publisher = broker.publisher(0)
    await publisher.open()
    committing = asyncio.create_task(publisher.commit([score(pipeline, b"s")], entry(pipeline, b"1")))
    await asyncio.sleep(0)
    committing.cancel()
    successor = broker.publisher(0)
    await successor.open()
    seen = [values_of(await read_from(broker, topic)) for topic in (pipeline.topics.scores, pipeline.topics.journal)]
    assert seen in ([[], []], [[b"s"], [b"1"]])
    await successor.commit([score(pipeline, b"t")], entry(pipeline, b"2"))
    await successor.close()
    await publisher.close()
    after = [values_of(await read_from(broker, topic)) for topic in (pipeline.topics.scores, pipeline.topics.journal)]
    assert after == [[*seen[0], b"t"], [*seen[1], b"2"]]


async def test_a_record_larger_than_the_broker_takes_fails_the_commit(lab: Lab) -> None:
    lab.need("isolation", "size limit")
    pipeline = await lab.pipeline()
    broker = lab.broker(pipeline)
    publisher = broker.publisher(0)
    await publisher.open()
    with pytest.raises(CommitUnknownError):
        await publisher.commit([score(pipeline, b"x" * 1_100_000)], entry(pipeline, b"1"))
    await publisher.close()
    await publisher.close()
    successor = broker.publisher(0)
    await successor.open()
    assert await read_from(broker, pipeline.topics.journal) == []
    await successor.close()


async def test_more_than_a_batch_of_one_partition_is_one_commit(lab: Lab) -> None:
    pipeline = await lab.pipeline()
    broker = lab.broker(pipeline)
    publisher = broker.publisher(0)
    await publisher.open()
    sizes = [300_000] * 7
    await publisher.commit([score(pipeline, bytes([n]) * size) for n, size in enumerate(sizes)], entry(pipeline, b"1"))
    await publisher.close()
    found = await read_from(broker, pipeline.topics.scores)
    assert [(source.value or b"")[:1] for source in found] == [bytes([n]) for n in range(7)]


async def test_a_commit_that_nobody_waits_for_comes_to_its_end(lab: Lab) -> None:
    pipeline = await lab.pipeline()
    broker = lab.broker(pipeline)
    publisher = broker.publisher(0)
    await publisher.open()
    waiting = asyncio.create_task(publisher.commit([score(pipeline, b"s")], entry(pipeline, b"1")))
    await asyncio.sleep(0)  # it has begun
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(WITHIN_S):
        while not await read_from(broker, pipeline.topics.journal):
            pass  # polled: nobody is told
    await publisher.close()
    assert len(await read_from(broker, pipeline.topics.scores)) == 1


async def test_without_transactions_nobody_is_shut_out_and_offsets_tell(lab: Lab) -> None:
    pipeline = await lab.pipeline("at_least_once")
    broker = lab.broker(pipeline)
    first, second = broker.publisher(0), broker.publisher(0)
    await first.open()
    assert await first.commit([score(pipeline, b"a")], entry(pipeline, b"1")) == 0
    await second.open()
    assert await first.commit([score(pipeline, b"b")], entry(pipeline, b"2")) == 1
    assert await second.commit([score(pipeline, b"c")], entry(pipeline, b"3")) == 2
    assert await first.commit([], entry(pipeline, b"4")) == 3  # not the 2 that its owner expected
    await first.close()
    await second.close()
    assert values_of(await read_from(broker, pipeline.topics.scores)) == [b"a", b"b", b"c"]


async def test_closing_is_bounded_whatever_went_before(lab: Lab) -> None:
    pipeline = await lab.pipeline()
    broker = lab.broker(pipeline)
    never_opened, opened, committed = (broker.publisher(0) for _ in range(3))
    await opened.open()
    await committed.open()
    await committed.commit([score(pipeline, b"s")], entry(pipeline, b"1"))
    for publisher in (never_opened, opened, committed, committed):
        async with asyncio.timeout(CLOSE_WITHIN_S):
            await publisher.close()


async def test_closing_is_bounded_while_the_broker_stalls(lab: Lab) -> None:
    lab.need("stall")
    assert isinstance(lab, WireLab)
    node = lab.node
    assert isinstance(node, KafkaNode)
    pipeline = await lab.pipeline()
    broker = lab.broker(pipeline)
    publisher = broker.publisher(0)
    await publisher.open()
    node.pause()
    try:
        committing = asyncio.create_task(publisher.commit([score(pipeline, b"s")], entry(pipeline, b"1")))
        await asyncio.sleep(0)
        async with asyncio.timeout(CLOSE_WITHIN_S):
            await publisher.close()
    finally:
        node.resume()
    committing.cancel()  # it would come back at its own deadline
    await asyncio.wait({committing})
    successor = broker.publisher(0)
    await successor.open()
    await successor.commit([score(pipeline, b"after")], entry(pipeline, b"2"))
    await successor.close()
    assert values_of(await read_from(broker, pipeline.topics.scores))[-1] == b"after"
