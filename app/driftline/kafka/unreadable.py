"""Reads records that aiokafka cannot read, and skips batches that nothing can read.

Kafka's brokers take a record whose header has a name that is not UTF-8; aiokafka raises UnicodeDecodeError when it
comes
to it, and would again after every restart: one such record stops a partition forever. Headers are nothing to the
model, so such a record is an event like any other; each byte of the name that is not UTF-8 is shown as \\xNN where the
record is passed on (only rejected ones are).

The fast reader stays in charge. Only a fetched piece that it fails on is read again, by the slow one. What it gives are
the core's own sources, which costs half as much as aiokafka's records, and half again as making the ones of the others.

Compressed batches are unpacked by `packed`, which bounds what they may hold.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

from driftline.core.record import Source
from driftline.kafka.packed import LENGTH_AT, LENGTH_FROM, MAGIC_AT, PackedError, checked, codec_of

log = logging.getLogger(__name__)


class Record(Source, frozen=True, gc=False):
    """A record as our clients read it: a source, which also goes by aiokafka's name for its time."""

    @property
    def timestamp(self) -> int:
        """The record's own time, in ms; -1 when the broker kept none."""
        return self.record_time_ms


class _Text(bytearray):
    """Bytes whose slices decode whatever they hold."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return _Text(found) if isinstance(place, slice) else found

    def decode(self, *_: str) -> str:
        return super().decode("utf-8", "backslashreplace")


class _Batch(_DefaultRecordBatchPy):  # type: ignore[misc]  # aiokafka's types are not followed
    """A batch read in Python."""

    _buffer: Any

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _Text(self._buffer)


class _Packed:
    """A compressed batch, unpacked when its records are requested; it has none if that cannot be done.

    Args:
        made: the batch as aiokafka has it.
        content: its bytes.
        read: makes a batch of bytes.
        place: names the partition in the log.
    """

    def __init__(self, made: Any, content: bytes, read: Callable[[bytes], Any], place: object) -> None:
        self._made = made
        self._content = content
        self._read = read
        self._place = place

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(self._unpacked())
        except PackedError as error:
            last = self._made.next_offset - 1
            log.error("%s: the batch that ends at offset %d is skipped: %s", self._place, last, error)
            return iter(())

    def _unpacked(self) -> Any:
        content = checked(self._content)
        return self._made if content is self._content else self._read(content)


class _Fetched(MemoryRecords):  # type: ignore[misc]  # aiokafka's types are not followed
    """What was fetched of one partition, and the bytes of it.

    Attributes:
        place: names the partition in the log.
    """

    place: object = "a partition"

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.content = content
        self._at = 0

    def next_batch(self, *_: Any) -> Any:
        made = super().next_batch()
        if made is None:
            return None
        start = self._at
        self._at = start + LENGTH_FROM + int.from_bytes(self.content[start + LENGTH_AT : start + LENGTH_FROM])
        content = self.content[start : self._at]
        if not codec_of(content) or made.is_control_batch:
            return made
        return _Packed(made, bytes(content), DefaultRecordBatch, self.place)


class SlowRecords(_MemoryRecordsPy):  # type: ignore[misc]  # aiokafka's types are not followed
    """The same batches, each as a `_Batch`."""

    def __init__(self, content: bytes, place: object) -> None:
        super().__init__(content)
        self._place = place

    def next_batch(self, *_: Any) -> Any:
        here = self._next_slice
        made = super().next_batch()
        if codec_of(here) and not made.is_control_batch:
            return _Packed(made, bytes(here), _Batch, self._place)
        return _Batch(here) if here[MAGIC_AT] >= 2 else made  # older formats have no headers


class _Records(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka's types are not followed
    """aiokafka's iterator over what was fetched of one partition, which begins again where it fails on a text."""

    _records: Any

    def __init__(self, tp: Any, records: Any, aborted: Any, *rest: Any) -> None:
        self._aborted_again = list(aborted or ())
        records.place = f"{tp.topic}-{tp.partition}"
        super().__init__(tp, records, aborted, *rest)

    def __iter__(self) -> Iterator[Any]:
        return self._records_iterator  # type: ignore[no-any-return]  # without a call of `__next__` for each record

    def _consumer_record(self, tp: Any, record: Any) -> Record:
        time_ms = record.timestamp
        return Record(
            tp.topic,
            tp.partition,
            record.offset,
            -1 if time_ms is None else time_ms,
            record.key,
            record.value,
            tuple(record.headers),
        )

    def _unpack_records(self) -> Iterator[Any]:
        try:
            yield from super()._unpack_records()
            return
        except UnicodeDecodeError:
            pass
        except fetcher.Errors.CorruptRecordException as error:
            if not isinstance(error.__cause__, UnicodeDecodeError):
                raise
        goes_on = self.next_fetch_offset
        self._records = SlowRecords(self._records.content, self._records.place)
        self._aborted_transactions = sorted(self._aborted_again, key=lambda one: one[1])
        self._aborted_producers.clear()
        for record in super()._unpack_records():
            if record.offset >= goes_on:
                yield record


def install() -> None:
    """Put the readers above in place of aiokafka's, in this process."""
    fetcher.MemoryRecords = _Fetched
    fetcher.PartitionRecords = _Records
