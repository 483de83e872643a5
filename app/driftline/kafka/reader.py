"""Reading partitions without a group, and what the readers and the group's member share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from driftline.core.error import BrokerError, InputLostError, UnreachableError
from driftline.core.record import Source
from driftline.kafka import cleanup
from driftline.kafka.client import explain
from driftline.kafka.explanation import advice
from driftline.transport.obstacle import open_text
from driftline.transport.port import Place

FETCH_WAIT_MS = 25  # how long the broker waits for something new: so long does it take to see that there is nothing
READ_AHEAD_MAX = 10_000  # records of a topic that a reader holds while others of its topics are read
READ_AHEAD_BYTES = 32 * 1024 * 1024  # and of their values
POLL_RECORDS_MAX = 2_000  # bounds how long one poll keeps the loop
READ_DEADLINE_S = 60.0
READ_TIMEOUT_MS = 20_000  # of a request


class KafkaReader:
    """Reads partitions without a group."""

    def __init__(self, options: Mapping[str, Any], exact: bool) -> None:
        self._options = options
        self._consumer = reading_consumer(options, exact)
        self._ready: dict[Place, list[Source]] = {}
        self._bytes: dict[Place, int] = {}  # of the values of what is ready

    async def open(self, starts: Mapping[Place, int]) -> None:
        await start_client(self._consumer, self._options)
        self._consumer.assign([TopicPartition(*place) for place in starts])
        for place, start in starts.items():
            self._consumer.seek(TopicPartition(*place), start)
            self._ready[place] = []
            self._bytes[place] = 0

    async def read(self, place: Place, count_max: int, stop: int | None = None) -> Sequence[Source]:
        ready = self._ready[place]
        deadline = asyncio.get_running_loop().time() + READ_DEADLINE_S
        while not ready:
            if await self._finished(TopicPartition(*place), stop):
                return ()
            if asyncio.get_running_loop().time() > deadline:
                raise BrokerError(self._late_text(place))
            await self._fetch()
        taken = ready[:count_max]
        if stop is not None:
            taken = [source for source in taken if source.offset < stop]
        del ready[: len(taken)]
        self._bytes[place] -= _bytes_of(taken)
        return taken

    async def _fetch(self) -> None:
        """Take what any partition has: data left in aiokafka's buffer would hold back fetches of all the others."""
        for place, ready in self._ready.items():
            tp = TopicPartition(*place)
            if len(ready) > READ_AHEAD_MAX or self._bytes[place] > READ_AHEAD_BYTES:
                self._consumer.pause(tp)
            elif tp in self._consumer.paused():
                self._consumer.resume(tp)
        try:
            fetched = await self._consumer.getmany(timeout_ms=200, max_records=POLL_RECORDS_MAX)
        except OffsetOutOfRangeError as error:
            raise InputLostError(lost_text(error)) from error
        except KafkaError as error:
            raise unreachable(error) from error
        for tp, records in fetched.items():
            place = Place(tp.topic, tp.partition)
            self._ready[place] += records
            self._bytes[place] += _bytes_of(records)

    def _late_text(self, place: Place) -> str:
        tp = TopicPartition(*place)
        stable, end = self._consumer.last_stable_offset(tp), self._consumer.highwater(tp)
        if stable is not None and end is not None and 0 <= stable < end:
            return open_text(place, stable, None, end - stable)
        return (
            f"{place.topic}-{place.partition} could not be read for {READ_DEADLINE_S:.0f} s; check that its broker "
            "is reachable"
        )

    async def _finished(self, tp: TopicPartition, stop: int | None) -> bool:
        position = await self._consumer.position(tp)
        if stop is not None and position >= stop:
            return True
        # The high watermark, not the last stable offset: our own commit may have returned before the latter moved.
        end = self._consumer.highwater(tp)
        return end is not None and end >= 0 and position >= end

    async def close(self) -> None:
        await cleanup.stop(self._consumer)


def _bytes_of(records: Iterable[Source]) -> int:
    return sum(len(record.value or b"") for record in records)


# -- shared with the broker


def reading_consumer(options: Mapping[str, Any], exact: bool, wait_ms: int = FETCH_WAIT_MS) -> AIOKafkaConsumer:
    """One that is in no group, and reads what it is assigned; a fetch waits so long at the end."""
    return AIOKafkaConsumer(
        **options,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed" if exact else "read_uncommitted",
        fetch_max_wait_ms=wait_ms,
        request_timeout_ms=READ_TIMEOUT_MS,
    )


async def start_client(client: Any, options: Mapping[str, Any]) -> None:
    try:
        await client.start()
    except BaseException as error:  # also when cancelled: no one else stops what did not start
        await cleanup.stop(client)
        # A broker that just woke up names no node, and aiokafka asserts that there is one.
        if isinstance(error, KafkaError | OSError | AssertionError):
            raise await explain(options, error) from error
        raise


def unreachable(error: Exception) -> BrokerError:
    if advised := advice(error):
        return BrokerError(f"Kafka refused: {advised}")
    return UnreachableError(
        f"Kafka did not answer ({error!r:.300}); check DRIFTLINE_BOOTSTRAP and that the broker runs"
    )


def lost_text(error: OffsetOutOfRangeError) -> str:
    (asked,) = error.args or ({},)
    where = ", ".join(f"{tp.topic}-{tp.partition} from offset {offset}" for tp, offset in asked.items())
    return f"records of {where or 'an input'} have been deleted: retention is too short"
