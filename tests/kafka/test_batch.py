"""Which records go to Kafka in one batch."""

from __future__ import annotations

from aiokafka.record.default_records import DefaultRecordBatch

from driftline.codec.write import Write
from driftline.kafka.publisher import SMALL_BYTES_MAX, KafkaPublisher
from tests.support.small import NOW_MS

CHUNK = b"c" * 512 * 1024


def publisher() -> KafkaPublisher:
    return KafkaPublisher(None, {"bootstrap_servers": "127.0.0.1:9"}, alone="p.snapshots")


async def batched(*writes: Write) -> list[tuple[str, int]]:
    """Topic and number of records of each batch."""
    here = publisher()
    try:
        return [(place.topic, builder.record_count()) for place, builder in here.batches(writes)]
    finally:
        await here.close()


def snapshot(value: bytes | None) -> Write:
    return Write("p.snapshots", 0, b"0/1", value)


async def test_outputs_share_batches_and_chunks_of_snapshots_do_not() -> None:
    """A topic that takes a chunk need not take two."""
    score = Write("p.scores", 0, b"k", b"{}")
    found = await batched(score, snapshot(CHUNK), score, snapshot(CHUNK), score)
    assert found == [("p.snapshots", 1), ("p.snapshots", 1), ("p.scores", 3)]


async def test_small_records_of_snapshots_share_batches_up_to_a_bound() -> None:
    """One transaction would else make a request for each segment's fates."""
    marks, removal = snapshot(b"m" * 4096), snapshot(None)
    assert await batched(*[marks] * 20, *[removal] * 30) == [("p.snapshots", 50)]
    assert await batched(marks, snapshot(CHUNK), marks, marks) == [
        ("p.snapshots", 1),
        ("p.snapshots", 1),
        ("p.snapshots", 2),
    ]
    found = await batched(*[marks] * 200)
    assert sum(count for _, count in found) == 200
    assert max(count for _, count in found) <= SMALL_BYTES_MAX // 4096


def mixed(count: int) -> list[Write]:
    """Records of two partitions by turns, with all that a record may have."""
    return [
        Write(
            "p.scores",
            number % 2,
            None if number % 3 == 0 else b"k%d" % number,
            None if number % 5 == 4 and number % 3 else b"v" * (number * 37 % 900),
            NOW_MS + number,
            (("position", b"3"), ("none", None)) if number % 7 == 0 else (),
        )
        for number in range(count)
    ]


async def test_a_batch_has_the_bytes_that_aiokafka_makes_of_its_records() -> None:
    """It is filled past `BatchBuilder.append`: this holds what we know of the inside of aiokafka's batches."""
    here = publisher()
    try:
        made = here.batches(mixed(200))
        assert [place.partition for place, _ in made] == [0, 1]
        for place, builder in made:
            ours = [write for write in mixed(200) if write.partition == place.partition]
            wanted = here._producer.create_batch()
            for write in ours:
                added = wanted.append(
                    timestamp=write.timestamp_ms, key=write.key, value=write.value, headers=list(write.headers)
                )
                assert added is not None
            assert builder.record_count() == wanted.record_count() == len(ours)
            assert bytes(builder._build()) == bytes(wanted._build())
    finally:
        await here.close()


async def test_what_overflows_a_batch_goes_into_the_next_in_order() -> None:
    here = publisher()
    large = [Write("p.scores", 0, b"%d" % number, b"x" * 300_000, NOW_MS + number) for number in range(7)]
    try:
        made = here.batches([*large, Write("p.journal", 0, b"0", b"{}", NOW_MS)])
        assert [(place.topic, builder.record_count()) for place, builder in made] == [
            ("p.scores", 3),
            ("p.scores", 3),
            ("p.scores", 1),
            ("p.journal", 1),
        ]
        keys = [record.key for _, builder in made[:-1] for record in DefaultRecordBatch(bytes(builder._build()))]
        assert keys == [write.key for write in large]
    finally:
        await here.close()


async def test_the_batch_of_the_last_write_is_last_whatever_came_before() -> None:
    """Its offset is what a commit returns."""
    entry = Write("p.journal", 0, b"0", b"{}")
    assert await batched(entry, Write("p.scores", 0, b"k", b"{}"), entry) == [("p.scores", 1), ("p.journal", 2)]
    assert await batched() == []
