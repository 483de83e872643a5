"""One shard's producer, by aiokafka. What aiokafka does not promise by itself is made good here:

* every batch's own future is awaited before the commit, because `commit_transaction` succeeds without batches that the
  broker refused;
* a commit runs in a task of its own that no one cancels; whatever comes back but success means unknown, and a producer
  that had any error is thrown away;
* a transactional request that is not answered is not sent again at the same epoch (`once`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, KafkaError
from aiokafka.producer import sender

from driftline.codec.write import Write, write_bytes
from driftline.core.error import CommitUnknownError, InvariantError
from driftline.kafka import cleanup, request
from driftline.kafka.explanation import advice
from driftline.kafka.reader import start_client
from driftline.transport.port import Place

# After a commit the next begin meets CONCURRENT_TRANSACTIONS and waits this constant (20 ms as shipped), whatever
# retry_backoff_ms says: it is most of the latency of a transaction.
sender.BACKOFF_OVERRIDE = 0.002

RETRY_BACKOFF_MS = 5
RECONNECT_S = 0.2
TRANSACTION_TIMEOUT_MS = 15_000
REQUEST_TIMEOUT_MS = 10_000  # below the transaction's
COMMIT_DEADLINE_S = 14.0
BATCH_BYTES_MAX = 1_000_000  # the broker's default limit is 1,048,588
SMALL_BYTES_MAX = 256 * 1024  # of records together, in a topic that is to take a chunk of a snapshot and no more
_NO_HEADERS: list[tuple[str, bytes | None]] = []

request.install()


class KafkaPublisher:
    """One shard's producer: transactional with an id, else idempotent.

    Args:
        batch_bytes_max: a batch holds more only if it is one record: `driftline topics check` asks that a topic takes
            one record of the largest size, and no more than that.
        alone: a topic whose records each have a batch of their own, for the same reason, but the small ones.
    """

    def __init__(
        self,
        transactional_id: str | None,
        options: Mapping[str, Any],
        batch_bytes_max: int = BATCH_BYTES_MAX,
        alone: str | None = None,
    ) -> None:
        self._alone = alone
        self._transactional = transactional_id is not None
        self._options = options
        extra: dict[str, Any] = {}
        if transactional_id is not None:
            extra = {"transactional_id": transactional_id, "transaction_timeout_ms": TRANSACTION_TIMEOUT_MS}
        self._producer = AIOKafkaProducer(
            **options,
            **extra,
            enable_idempotence=True,
            acks="all",
            max_batch_size=batch_bytes_max,
            retry_backoff_ms=RETRY_BACKOFF_MS,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            linger_ms=0,
        )
        _be_patient(self._producer.client)
        self._committing: asyncio.Task[int] | None = None

    async def open(self) -> None:
        await start_client(self._producer, self._options)

    async def commit(self, writes: Sequence[Write], entry: Write | None) -> int:
        task = self._committing = asyncio.create_task(self._commit(writes, entry))
        try:
            # Shielded: whoever waits may be cancelled, the commit itself must come to its end.
            async with asyncio.timeout(COMMIT_DEADLINE_S):
                return await asyncio.shield(task)
        except TimeoutError:
            task.cancel()
            raise CommitUnknownError("the commit timed out; recovering") from None
        except (KafkaError, AssertionError, OSError) as error:
            text = advice(error) or f"{error!r:.300}"
            raise CommitUnknownError(f"the commit failed or its result is unknown: {text}; recovering") from error

    async def _commit(self, writes: Sequence[Write], entry: Write | None) -> int:
        if not self._transactional:
            await self._send(writes)
            return await self._send([entry]) if entry is not None else -1
        await self._producer.begin_transaction()
        offset = await self._send([*writes, entry] if entry is not None else writes)
        await self._producer.commit_transaction()
        return offset if entry is not None else -1

    async def _send(self, writes: Sequence[Write]) -> int:
        """Hand all batches over together, then wait for each; returns the offset of the last write."""
        waits: list[asyncio.Future[Any]] = []
        batches = self.batches(writes)
        ended: IllegalOperation | None = None
        try:
            for place, builder in batches:
                wait = await self._producer.send_batch(builder, place.topic, partition=place.partition)
                wait.add_done_callback(cleanup.read)  # the next send_batch may fail, and then no one awaits this one
                waits.append(wait)
        except (
            IllegalOperation
        ) as error:  # the producer failed in the meantime; the batches before this one say of what
            ended = error
        # The broker refuses a batch in its own future only.
        answers = await asyncio.gather(*waits, return_exceptions=True)
        offset = -1
        for (place, _), answer in zip(batches, answers, strict=ended is None):
            if isinstance(answer, KafkaError):
                text = advice(answer, place.topic) or f"{answer!r:.300} for {place.topic}"
                raise CommitUnknownError(f"the commit failed or its result is unknown: {text}; recovering") from answer
            if isinstance(answer, BaseException):
                raise answer
            offset = int(answer.offset)
        if ended is not None:
            raise CommitUnknownError(f"the commit failed or its result is unknown: {ended}; recovering") from ended
        return offset

    def batches(self, writes: Sequence[Write]) -> list[tuple[Place, Any]]:
        """The writes in batches, one partition's together and in order, the last write's partition last."""
        by_place: dict[tuple[str, int], list[Write]] = {}
        for write in writes:
            place = (write.topic, write.partition)
            group = by_place.get(place)
            if group is None:
                group = by_place[place] = []
            group.append(write)
        if writes:  # what is last stays last
            last = (writes[-1].topic, writes[-1].partition)
            by_place[last] = by_place.pop(last)
        made: list[tuple[Place, Any]] = []
        for (topic, partition), group in by_place.items():
            fill = _fill_small if topic == self._alone else _fill
            taken = 0
            while taken < len(group):
                builder = self._producer.create_batch()
                count = fill(builder, group, taken)
                if not count:  # an empty one takes anything
                    raise InvariantError(f"a record for {topic} fits no batch")
                builder.close()
                made.append((Place(topic, partition), builder))
                taken += count
        return made

    async def close(self) -> None:
        await cleanup.stop(self._producer)
        if self._committing is not None and not self._committing.done():
            self._committing.cancel()  # whoever waited for it was cancelled; nothing will answer it any more
            await asyncio.wait({self._committing})


def _fill(builder: Any, writes: Sequence[Write], start: int) -> int:
    """Append the writes from one on to an empty batch while there is room; returns how many.

    What `BatchBuilder.append` does, without a call and its keywords for each record, which cost as much as the record.
    """
    append = builder._builder.append
    count = 0
    for write in islice(writes, start, None) if start else writes:
        headers = list(write.headers) if write.headers else _NO_HEADERS
        if append(count, write.timestamp_ms, write.key, write.value, headers) is None:
            break
        count += 1
    builder._relative_offset = count
    return count


def _fill_small(builder: Any, writes: Sequence[Write], start: int) -> int:
    """The same for a topic whose records each have a batch of their own, but the small ones."""
    count = 0
    for write in islice(writes, start, None):
        if count and builder.size() + write_bytes(write) > SMALL_BYTES_MAX:
            break
        headers = list(write.headers)
        if builder.append(timestamp=write.timestamp_ms, key=write.key, value=write.value, headers=headers) is None:
            break
        count += 1
    return count


def _be_patient(client: Any) -> None:
    """Slow down a client that finds no broker: it would try again after RETRY_BACKOFF_MS, with every shard's."""
    connect = client._get_conn

    async def get_conn(node_id: Any, **options: Any) -> Any:
        connection = await connect(node_id, **options)
        if connection is None:
            await asyncio.sleep(RECONNECT_S)
        return connection

    client._get_conn = get_conn
