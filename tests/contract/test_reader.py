"""What every reader promises: each record once, in order, to the end that was there when it opened."""

from __future__ import annotations

import asyncio

import pytest

from driftline.codec.write import Write
from driftline.core.error import InputLostError
from driftline.transport.port import Broker, Place
from tests.contract.lab import Lab, read_all, read_from, values_of


async def commit_each(broker: Broker, topic: str, count: int) -> None:
    """Records `0`, `1`, ..., each in a transaction of its own, so that a marker follows it."""
    publisher = broker.publisher(0)
    await publisher.open()
    for number in range(count):
        await publisher.commit([Write(topic, 0, None, b"%d" % number)], None)
    await publisher.close()


async def test_reads_to_the_end_past_control_records_and_aborted_ones(lab: Lab) -> None:
    lab.need("isolation")
    pipeline = await lab.pipeline()
    broker, topic = lab.broker(pipeline), pipeline.topics.scores
    await commit_each(broker, topic, 3)
    aborted = await lab.begin("stranger", topic, [b"never", b"seen"])
    await aborted.end(commit=False)

    # Three records, three markers, two aborted records and their marker: the end is far behind the last record.
    found = await read_from(broker, topic)
    assert [(source.offset, source.value) for source in found] == [(0, b"0"), (2, b"1"), (4, b"2")]
    assert await read_from(broker, topic, 5) == []
    assert await read_from(broker, topic, 9) == []


async def test_stops_before_an_offset(lab: Lab) -> None:
    pipeline = await lab.pipeline()
    broker, topic = lab.broker(pipeline), pipeline.topics.events
    await lab.produce(topic, [b"%d" % number for number in range(10)])
    reader = broker.reader()
    await reader.open({Place(topic, 0): 2})
    assert values_of(await read_all(reader, topic, stop=5)) == [b"2", b"3", b"4"]
    assert not await reader.read(Place(topic, 0), 10, 5)
    assert values_of(await read_all(reader, topic, stop=7)) == [b"5", b"6"]
    assert values_of(await read_all(reader, topic)) == [b"7", b"8", b"9"]
    await reader.close()


async def test_a_stop_between_records_is_an_end(lab: Lab) -> None:
    lab.need("isolation")
    pipeline = await lab.pipeline()
    broker, topic = lab.broker(pipeline), pipeline.topics.scores
    await commit_each(broker, topic, 3)
    reader = broker.reader()
    await reader.open({Place(topic, 0): 0})
    assert values_of(await read_all(reader, topic, stop=2)) == [b"0"]  # a marker is at offset 1
    assert values_of(await read_all(reader, topic, stop=3)) == [b"1"]
    assert values_of(await read_all(reader, topic, stop=4)) == []
    assert values_of(await read_all(reader, topic)) == [b"2"]
    await reader.close()


async def test_takes_as_many_as_asked_for_and_reads_topics_apart(lab: Lab) -> None:
    pipeline = await lab.pipeline()
    broker, events, labels = lab.broker(pipeline), pipeline.topics.events, pipeline.topics.labels
    assert labels is not None
    await lab.produce(events, [b"e%d" % number for number in range(50)])
    await lab.produce(labels, [b"l%d" % number for number in range(5)])
    reader = broker.reader()
    await reader.open({Place(events, 0): 0, Place(labels, 0): 3})
    assert values_of(await read_all(reader, events, count_max=7)) == [b"e%d" % number for number in range(50)]
    assert values_of(await read_all(reader, labels, count_max=1)) == [b"l3", b"l4"]
    await reader.close()


async def test_an_empty_partition_is_at_its_end(lab: Lab) -> None:
    pipeline = await lab.pipeline()
    assert await read_from(lab.broker(pipeline), pipeline.topics.journal) == []


async def test_a_reader_opened_after_a_publisher_sees_all_that_was_committed_before(lab: Lab) -> None:
    """Recovery rests on it: init, then read the journal."""
    lab.need("isolation")
    pipeline = await lab.pipeline()
    broker, journal = lab.broker(pipeline), pipeline.topics.journal
    for number in range(8):
        publisher = broker.publisher(0)
        await publisher.open()
        assert len(await read_from(broker, journal)) == number
        await publisher.commit([], Write(journal, 0, None, b"%d" % number))
        await publisher.close()


async def test_records_that_expired_are_an_error_and_not_a_gap(lab: Lab) -> None:
    lab.need("retention")
    pipeline = await lab.pipeline()
    broker, topic = lab.broker(pipeline), pipeline.topics.events
    await lab.produce(topic, [b"%d" % number for number in range(6)])
    await lab.delete_before(Place(topic, 0), 4)
    with pytest.raises(InputLostError):
        await read_from(broker, topic, 3)
    assert values_of(await read_from(broker, topic, 4)) == [b"4", b"5"]


async def test_records_that_expire_while_reading_are_an_error(lab: Lab) -> None:
    lab.need("retention")
    pipeline = await lab.pipeline()
    broker, topic = lab.broker(pipeline), pipeline.topics.events
    large = b"x" * 400_000  # more than a reader takes at once
    await lab.produce(topic, [large] * 12)
    reader = broker.reader()
    await reader.open({Place(topic, 0): 0})
    assert len(await reader.read(Place(topic, 0), 1)) == 1
    await lab.delete_before(Place(topic, 0), 12)
    with pytest.raises(InputLostError):
        await read_all(reader, topic)
    await reader.close()


async def test_beginnings_are_the_first_retained_offsets(lab: Lab) -> None:
    pipeline = await lab.pipeline(partitions=2)
    broker, topic = lab.broker(pipeline), pipeline.topics.events
    places = [Place(topic, 0), Place(topic, 1), Place(pipeline.topics.control, 1)]
    assert await broker.beginnings(places) == dict.fromkeys(places, 0)
    lab.need("retention")
    await lab.produce(topic, [b"1", b"2", b"3"], partition=1)
    await lab.delete_before(places[1], 2)
    assert await broker.beginnings(places) == {places[0]: 0, places[1]: 2, places[2]: 0}


async def test_offsets_of_a_time_are_of_the_first_record_that_is_as_late(lab: Lab) -> None:
    pipeline = await lab.pipeline(partitions=2)
    broker, topic = lab.broker(pipeline), pipeline.topics.events
    places = [Place(topic, 0), Place(topic, 1)]
    await lab.produce(topic, [b"1", b"2", b"3"])
    assert await broker.offsets_at(places, 2**41) == {places[0]: 3, places[1]: 0}
    assert await broker.offsets_at(places, 1) == {places[0]: 0, places[1]: 0}


async def test_ends_are_those_of_a_reader_unless_asked_for_all(lab: Lab) -> None:
    pipeline = await lab.pipeline(partitions=2)
    broker, topic = lab.broker(pipeline), pipeline.topics.events
    places = [Place(topic, 0), Place(topic, 1)]
    await lab.produce(topic, [b"1", b"2", b"3"])
    assert await broker.ends(places) == {places[0]: 3, places[1]: 0}
    lab.need("isolation")
    open_one = await lab.begin("stranger", topic, [b"open"])
    assert await broker.ends(places) == {places[0]: 3, places[1]: 0}
    assert await broker.ends(places, readable=False) == {places[0]: 4, places[1]: 0}
    await open_one.end(commit=True)


async def test_a_read_uncommitted_reader_waits_for_nobody(lab: Lab) -> None:
    lab.need("isolation")
    pipeline = await lab.pipeline("at_least_once")
    broker, topic = lab.broker(pipeline), pipeline.topics.events
    open_one = await lab.begin("stranger", topic, [b"open"])
    await lab.produce(topic, [b"plain"])
    assert values_of(await read_from(broker, topic)) == [b"open", b"plain"]
    await open_one.end(commit=False)
    assert values_of(await read_from(broker, topic)) == [b"open", b"plain"]


async def test_a_reader_waits_for_a_transaction_that_is_open_before_its_end(lab: Lab) -> None:
    lab.need("isolation")
    pipeline = await lab.pipeline()
    broker, topic = lab.broker(pipeline), pipeline.topics.events
    open_one = await lab.begin("stranger", topic, [b"open"])
    await lab.produce(topic, [b"plain"])
    reading = asyncio.create_task(read_from(broker, topic))
    done, _ = await asyncio.wait({reading}, timeout=0.5)
    assert not done
    await open_one.end(commit=True)
    assert values_of(await reading) == [b"open", b"plain"]
