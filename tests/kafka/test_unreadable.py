"""A header whose name is no UTF-8 stops no partition, and changes nothing of what is read around it."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from aiokafka import codec as codecs
from aiokafka.consumer import fetcher
from aiokafka.record.control_record import ABORT_MARKER
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from driftline.kafka import packed, unreadable

PLACE = TopicPartition("events", 0)
unreadable.install()


def batch(
    base: int, values: list[bytes], *, bad: int | None = None, codec: int = 0, producer: int = -1, control: bool = False
) -> bytes:
    """A batch as the broker keeps it; record `bad` has a header whose name begins with two bytes that are no text."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=int(producer >= 0),
        producer_id=producer,
        producer_epoch=0,
        base_sequence=0,
        batch_size=10**6,
    )
    for number, value in enumerate(values):
        key = struct.pack(">hh", 0, ABORT_MARKER.type_) if control else b"key"
        headers = [("good", b"1"), ("XXname", b"2"), ("none", None)] if number == bad else []
        builder.append(number, timestamp=1_000 + number, key=key, value=value, headers=headers)
    content = bytearray(builder.build())
    if (at := content.find(b"XXname")) >= 0:
        content[at : at + 2] = b"\xff\xfe"
    if control:
        struct.pack_into(">h", content, 21, struct.unpack_from(">h", content, 21)[0] | 0x20)
    if codec:
        content = compressed(content, codec)
    struct.pack_into(">q", content, 0, base)
    struct.pack_into(">I", content, 17, calc_crc32c(bytes(content[21:])))
    return bytes(content)


def compressed(content: bytearray, codec: int) -> bytearray:
    encode = {1: codecs.gzip_encode, 2: codecs.snappy_encode, 3: codecs.lz4_encode, 4: codecs.zstd_encode}[codec]
    made: bytearray = content[:61] + encode(bytes(content[61:]))
    struct.pack_into(">h", made, 21, struct.unpack_from(">h", made, 21)[0] | codec)
    struct.pack_into(">i", made, 8, len(made) - 12)
    return made


def fetched(content: bytes, start: int, aborted: list[tuple[int, int]] | None = None) -> Any:
    """What aiokafka makes of the bytes of one fetch."""
    records = fetcher.MemoryRecords(content)
    return fetcher.PartitionRecords(PLACE, records, aborted or [], start, None, None, True, fetcher.READ_COMMITTED)


def offsets(records: Any) -> list[int]:
    return [record.offset for record in records]


VALUES = [b"a", b"b", b"c"]


def test_what_can_be_read_is_read_by_the_fast_reader() -> None:
    found = fetched(batch(10, VALUES) + batch(13, VALUES), 11)
    assert offsets(found) == [11, 12, 13, 14, 15]
    assert not isinstance(found._records, unreadable.SlowRecords)


@pytest.mark.parametrize("codec", range(5))
@pytest.mark.parametrize("bad", range(3))
def test_every_record_is_there_once(bad: int, codec: int) -> None:
    content = batch(10, VALUES, codec=codec) + batch(13, VALUES, bad=bad, codec=codec) + batch(16, VALUES, codec=codec)
    for start in range(10, 13):  # a fetch begins with the batch that holds its offset
        found = fetched(content, start)
        records = list(found)
        assert [record.offset for record in records] == list(range(start, 19))
        assert [record.value for record in records] == [VALUES[(offset - 10) % 3] for offset in range(start, 19)]
        assert found.next_fetch_offset == 19
        for record in records:
            assert (record.timestamp, record.key) == (1_000 + (record.offset - 10) % 3, b"key")
            names = [("good", b"1"), ("\\xff\\xfename", b"2"), ("none", None)] if record.offset == 13 + bad else []
            assert list(record.headers) == names


def test_aborted_records_stay_hidden() -> None:
    """Producer 5 gave up what it wrote at 10 and 16; what lies between is another's, and cannot be read at first."""
    content = (
        batch(10, VALUES, producer=5)
        + batch(13, [b""], producer=5, control=True)
        + batch(14, VALUES[:2], producer=6, bad=1)
        + batch(16, VALUES, producer=5)
        + batch(19, [b""], producer=5, control=True)
        + batch(20, VALUES, producer=5)
    )
    assert offsets(fetched(content, 10, [(5, 10), (5, 16)])) == [14, 15, 20, 21, 22]


def test_a_batch_that_is_damaged_is_an_error_still() -> None:
    content = bytearray(batch(10, VALUES, bad=1))
    content[-1] ^= 1
    with pytest.raises(fetcher.Errors.CorruptRecordException):
        list(fetched(bytes(content), 10))


# -- compressed batches that nothing should unpack


def with_tail(content: bytes, tail: bytes) -> bytes:
    """A batch with more bytes behind what was compressed, as Kafka's brokers take it of gzip and lz4."""
    made = bytearray(content + tail)
    struct.pack_into(">i", made, 8, len(made) - 12)
    struct.pack_into(">I", made, 17, calc_crc32c(bytes(made[21:])))
    return bytes(made)


@pytest.mark.parametrize("bad", [None, 0])  # by the fast reader and by the slow one
@pytest.mark.parametrize("codec", range(1, 5))
def test_a_batch_that_holds_too_much_is_passed_over(
    codec: int, bad: int | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(packed, "UNPACKED_MAX", 100_000)
    bomb = batch(13, [bytes(101_000)], codec=codec, bad=bad)
    found = fetched(batch(10, VALUES, codec=codec, bad=bad) + bomb + batch(14, VALUES, codec=codec), 10)
    assert offsets(found) == [10, 11, 12, 14, 15, 16]
    assert found.next_fetch_offset == 17
    assert "events-0: the batch that ends at offset 13 is skipped: it holds more than" in caplog.text


@pytest.mark.parametrize("codec", range(1, 5))
def test_what_a_batch_may_hold_is_read(codec: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "UNPACKED_MAX", 1_000_000)
    values = [bytes(400_000), bytes(500_000)]
    assert [record.value for record in fetched(batch(10, values, codec=codec), 10)] == values


@pytest.mark.parametrize("codec", range(1, 5))
def test_a_batch_that_cannot_be_unpacked_stops_nothing(codec: int) -> None:
    damaged = bytearray(batch(13, VALUES, codec=codec))
    damaged[61:-1] = b"\x00" * len(damaged[61:-1])
    struct.pack_into(">I", damaged, 17, calc_crc32c(bytes(damaged[21:])))
    content = batch(10, VALUES) + bytes(damaged) + batch(16, VALUES)
    assert offsets(fetched(content, 10)) == [10, 11, 12, 16, 17, 18]


def test_what_stands_behind_a_gzip_stream_is_passed_over_as_java_does() -> None:
    content = with_tail(batch(10, VALUES, codec=1), b"garbage") + with_tail(batch(13, VALUES, codec=1), bytes(9))
    assert offsets(fetched(content, 10)) == [10, 11, 12, 13, 14, 15]


def test_messages_of_older_formats_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "UNPACKED_MAX", 100_000)
    for magic in (0, 1):
        builder = LegacyRecordBatchBuilder(magic=magic, compression_type=1, batch_size=10**6)
        builder.append(0, timestamp=1_000, key=b"key", value=bytes(50_000))
        assert [record.value for record in fetched(bytes(builder.build()), 0)] == [bytes(50_000)]
        builder = LegacyRecordBatchBuilder(magic=magic, compression_type=1, batch_size=10**6)
        builder.append(0, timestamp=1_000, key=b"key", value=bytes(200_000))
        assert offsets(fetched(bytes(builder.build()), 0)) == []
