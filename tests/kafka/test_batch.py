"""Which records go to Kafka in one batch."""

from __future__ import annotations

from driftline.codec.write import Write
from driftline.kafka.broker import SMALL_BYTES_MAX, KafkaPublisher

CHUNK = b"c" * 512 * 1024


async def batched(*writes: Write) -> list[tuple[str, int]]:
    """Topic and number of records of each batch."""
    publisher = KafkaPublisher(None, {"bootstrap_servers": "127.0.0.1:9"}, alone="p.snapshots")
    try:
        return [(place.topic, builder.record_count()) for place, builder in publisher.batches(writes)]
    finally:
        await publisher.close()


def snapshot(value: bytes | None) -> Write:
    return Write("p.snapshots", 0, b"0/1", value)


async def test_outputs_share_batches_and_chunks_of_snapshots_do_not() -> None:
    """A topic that takes a chunk need not take two."""
    score = Write("p.scores", 0, b"k", b"{}")
    found = await batched(score, snapshot(CHUNK), score, snapshot(CHUNK), score)
    assert found == [("p.scores", 3), ("p.snapshots", 1), ("p.snapshots", 1)]


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
