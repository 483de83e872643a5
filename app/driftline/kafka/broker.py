"""The broker port on Kafka, by aiokafka; committing is `publisher`. What aiokafka does not promise by itself is made
good here:

* `stop()` hangs while the broker is away, so it is bounded, and what it leaves behind is put away (`cleanup`);
* listener errors are swallowed by aiokafka, so they are kept and raised from `poll`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from math import inf
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    IllegalStateError,
    InconsistentGroupProtocolError,
    KafkaError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import OffsetAndMetadata

from driftline.codec.inputs import Inputs
from driftline.codec.journal import TopicIdentity
from driftline.config import Settings
from driftline.core.error import BrokerError, GroupTakenError, InputLostError
from driftline.core.pipeline import Pipeline
from driftline.core.record import Source
from driftline.kafka import cleanup, once, topic_id
from driftline.kafka.client import client_options
from driftline.kafka.explanation import advice
from driftline.kafka.publisher import BATCH_BYTES_MAX, KafkaPublisher
from driftline.kafka.reader import (
    POLL_RECORDS_MAX,
    READ_TIMEOUT_MS,
    KafkaReader,
    lost_text,
    reading_consumer,
    start_client,
    unreachable,
)
from driftline.transport.port import Assignment, Place

log = logging.getLogger(__name__)

FEED_WAIT_MS = 100  # of a fetch with nothing new; also the longest that a resumed partition waits for its next one
ALIVE_EVERY_S = 1.0
SOUGHT_TOGETHER = 1_000
STUMBLE_S = 0.5
STUMBLE_MAX_S = 60.0
REACH_DEADLINE_S = 3.0
BATCH_MARGIN_BYTES = 32 * 1024  # half of what `kafka.topic_rule` allows for keys, headers and the batch's own


class KafkaBroker:
    """A Kafka cluster, as one pipeline uses it."""

    def __init__(self, pipeline: Pipeline, settings: Settings) -> None:
        once.install()
        self._pipeline = pipeline
        self._options = client_options(settings)
        self._exact = pipeline.delivery == "exactly_once"
        self._inputs = Inputs(pipeline).topics
        self.ring = settings.ring  # of who reads and writes here

    def feed(self) -> KafkaFeed:
        group, journal = f"driftline-{self._pipeline.name}", self._pipeline.topics.journal
        return KafkaFeed(self._inputs, journal, group, self._options, self._exact)

    def publisher(self, shard: int) -> KafkaPublisher:
        identity = f"{self._pipeline.name}-{shard}" if self._exact else None
        room = min(BATCH_BYTES_MAX, self._pipeline.limits.output_bytes_max + BATCH_MARGIN_BYTES)
        return KafkaPublisher(identity, self._options, room, alone=self._pipeline.topics.snapshots)

    def reader(self) -> KafkaReader:
        return KafkaReader(self._options, self._exact)

    async def beginnings(self, places: Iterable[Place]) -> Mapping[Place, int]:
        return await self._edges(places, "beginning_offsets", committed=self._exact)

    async def ends(self, places: Iterable[Place], *, readable: bool = True) -> Mapping[Place, int]:
        return await self._edges(places, "end_offsets", committed=readable and self._exact)

    async def offsets_at(self, places: Iterable[Place], time_ms: int) -> Mapping[Place, int]:
        """Of each partition, the first offset whose record has this time or a later one; its end where none has."""
        places = list(places)
        ends = await self.ends(places)
        consumer = AIOKafkaConsumer(**self._options)
        await start_client(consumer, self._options)
        try:
            found = await consumer.offsets_for_times({TopicPartition(*place): time_ms for place in places})
        except KafkaError as error:
            raise unreachable(error) from error
        finally:
            await cleanup.stop(consumer)
        known = {Place(tp.topic, tp.partition): at.offset for tp, at in found.items() if at is not None}
        for place in places:
            if place not in known:
                known[place] = await self._sought(place, ends[place], time_ms)
        return {**ends, **known}

    async def _sought(self, place: Place, end: int, time_ms: int) -> int:
        """Where the broker knows of no record as late: its end, unless the last one is. Then it has no index of times
        (the embedded broker's case), and the records are read instead.
        """
        offset = (await self.beginnings([place]))[place]
        if end <= offset or not [one for one in await self._from(place, end - 1) if one.record_time_ms >= time_ms]:
            return end
        while sources := await self._from(place, offset):
            if late := [one.offset for one in sources if one.record_time_ms >= time_ms]:
                return late[0]
            offset = sources[-1].offset + 1
        return end

    async def _from(self, place: Place, offset: int) -> Sequence[Source]:
        """Some records from an offset on; none at the end."""
        reader = self.reader()
        try:
            await reader.open({place: offset})
            return await reader.read(place, SOUGHT_TOGETHER)
        finally:
            await reader.close()

    async def time_of(self, place: Place, offset: int) -> int | None:
        """The time of the record at an offset, in ms, be its transaction open; None if there is none."""
        reader = KafkaReader(self._options, exact=False)
        try:
            await reader.open({place: offset})
            found = await reader.read(place, 1, offset + 1)
            return found[0].record_time_ms if found else None
        finally:
            await reader.close()

    async def _edges(self, places: Iterable[Place], ask: str, *, committed: bool) -> Mapping[Place, int]:
        isolation = "read_committed" if committed else "read_uncommitted"
        consumer = AIOKafkaConsumer(**self._options, isolation_level=isolation)
        await start_client(consumer, self._options)
        try:
            found = await getattr(consumer, ask)([TopicPartition(*place) for place in places])
            return {Place(tp.topic, tp.partition): offset for tp, offset in found.items()}
        except KafkaError as error:
            raise unreachable(error) from error
        finally:
            await cleanup.stop(consumer)


class ShardAssignor(RangePartitionAssignor):  # type: ignore[misc]  # aiokafka's types are not followed
    """Kafka's range assignor under a name of its own: workers of before shared the inputs, not the journal, and must
    not be in one group with these."""

    name = "driftline-shards"


class KafkaFeed(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types for its base classes
    """A member of the group, which shares the partitions of the journal, and beside it a reader of those partitions of
    the inputs that belong to this worker's shards. One task polls; nothing else may.

    The member fetches nothing. It notes the inputs' offsets in the group all the same, where the usual tools show them.
    """

    def __init__(
        self, topics: Sequence[str], journal: str, group: str, options: Mapping[str, Any], exact: bool
    ) -> None:
        self._topics = topics
        self._journal = journal
        self._options = options
        self._exact = exact
        self._member = AIOKafkaConsumer(
            **options,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            partition_assignment_strategy=(ShardAssignor,),
            session_timeout_ms=10_000,
            heartbeat_interval_ms=1_000,
            max_poll_interval_ms=60_000,
            request_timeout_ms=READ_TIMEOUT_MS,
        )
        self._consumer = reading_consumer(options, exact, FEED_WAIT_MS)
        self._alive_s = -inf  # when the group was last shown that we are
        self._assignment: Assignment | None = None
        self._positions: dict[Place, int] = {}
        self._looks: dict[Place, tuple[int, int]] = {}  # how many, and when the last was
        self._failure: BaseException | None = None
        self._assignments = 0
        self._stumbled_s: float | None = None

    async def start(self, assignment: Assignment) -> None:
        self._assignment = assignment
        await start_client(self._consumer, self._options)
        for topic in (*self._topics, self._journal):
            await self._consumer._client.add_topic(topic)
        await self._consumer._client.force_metadata_update()
        self._member.subscribe(topics=[self._journal], listener=self)
        try:
            await start_client(self._member, self._options)
        except BrokerError as error:
            if isinstance(error.__cause__, InconsistentGroupProtocolError):
                raise GroupTakenError(advice(error.__cause__)) from error
            raise

    def take(self, places: Iterable[Place]) -> None:
        taken = [TopicPartition(*place) for place in places]
        self._consumer.assign(taken)
        self._consumer._client.set_topics({*self._topics, self._journal})  # aiokafka keeps those that are assigned only
        self._consumer.pause(*taken)
        for tp in taken:
            self._consumer.seek(tp, 0)  # a position, any: without one, getmany raises until there is one
        self._positions.clear()
        self._assignments += 1

    async def reached(self) -> bool:
        """Asks for the metadata of our topics: one small request."""
        try:
            async with asyncio.timeout(REACH_DEADLINE_S):
                return bool(await self._consumer._client.force_metadata_update())
        except (KafkaError, TimeoutError):
            return False

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        try:
            if self._assignment is not None and revoked:
                await self._assignment.revoked()
        except Exception as error:  # noqa: BLE001 - aiokafka would swallow it; `poll` raises it
            self._failure = error

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._member.pause(*assigned)
        for tp in assigned:
            self._member.seek(tp, 0)
        try:
            if self._assignment is not None:
                self._assignment.assigned(sorted({tp.partition for tp in assigned}))
        except Exception as error:  # noqa: BLE001 - aiokafka would swallow it; `poll` raises it
            self._failure = error

    async def poll(self) -> Mapping[Place, Sequence[Source]]:
        if self._failure is not None:
            raise self._failure
        try:
            await self._show_life()
            if not self._consumer.assignment():  # aiokafka would wait for one
                await asyncio.sleep(FEED_WAIT_MS / 1000)
                return {}
            fetched = await self._fetched()
        except OffsetOutOfRangeError as error:
            raise InputLostError(lost_text(error)) from error
        except KafkaError as error:
            await self._stumble(error)
            return {}
        self._stumbled_s = None
        known = self._assignments
        positions = {}
        for tp in self._consumer.assignment():
            with suppress(IllegalStateError):  # a rebalance took it away just now
                place = Place(tp.topic, tp.partition)
                positions[place] = await self._consumer.position(tp)
                self._note_look(tp, place)
        if self._assignments != known:
            return {}  # a position is waited for only across a rebalance, and what came before that is read again
        self._positions = positions
        return {Place(tp.topic, tp.partition): records for tp, records in fetched.items()}

    async def _show_life(self) -> None:
        """Poll as a member of the group, which has no records to give; raises what is wrong with the membership."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._alive_s >= ALIVE_EVERY_S:
            self._alive_s = now_s
            await self._member.getmany(timeout_ms=0)

    async def _fetched(self) -> dict[TopicPartition, list[Source]]:
        """What is there, of each partition a share first: a merge goes on only with records of all its inputs in hand.

        aiokafka by itself returns all it has of one partition, a megabyte, before the first record of the next.
        """
        consumer = self._consumer
        assigned = consumer.assignment()
        share = -(-POLL_RECORDS_MAX // len(assigned))
        fetched: dict[TopicPartition, list[Source]] = await consumer.getmany(timeout_ms=FEED_WAIT_MS, max_records=share)
        if sum(map(len, fetched.values())) < share:
            return fetched  # that was all
        for tp in assigned - fetched.keys():
            fetched |= await consumer.getmany(tp, timeout_ms=0, max_records=share)
        if (room := POLL_RECORDS_MAX - sum(map(len, fetched.values()))) > 0:
            for tp, records in (await consumer.getmany(timeout_ms=0, max_records=room)).items():
                fetched.setdefault(tp, []).extend(records)
        return fetched

    def _note_look(self, tp: TopicPartition, place: Place) -> None:
        answered_ms = self._consumer.last_poll_timestamp(tp)
        count, before_ms = self._looks.get(place, (0, 0))
        if answered_ms is not None and answered_ms != before_ms:
            self._looks[place] = (count + 1, answered_ms)

    async def _stumble(self, error: KafkaError) -> None:
        """Reading failed: logged once, and tried again; a fault that stays while Kafka answers is raised.

        What aiokafka had taken of a piece that it could not read to its end is lost to it, so everything is read again
        from where we stand.
        """
        now_s = asyncio.get_running_loop().time()
        if self._stumbled_s is None:
            self._stumbled_s = now_s
            log.warning("cannot read the inputs, retrying: %s", advice(error) or repr(error))
        elif now_s - self._stumbled_s > STUMBLE_MAX_S and await self.reached():
            raise unreachable(error) from error
        for place, offset in self._positions.items():
            with suppress(IllegalStateError):  # a rebalance took it away just now
                self._consumer.seek(TopicPartition(*place), offset)
        await asyncio.sleep(STUMBLE_S)

    def _end(self, place: Place, *, stable: bool = True) -> int | None:
        tp = TopicPartition(*place)
        if tp not in self._consumer.assignment():
            return None
        committed = stable and self._exact
        end = self._consumer.last_stable_offset(tp) if committed else self._consumer.highwater(tp)
        return None if end is None or end < 0 else int(end)

    def at_end(self, place: Place) -> bool:
        end = self._end(place)
        position = self._positions.get(place)
        return end is not None and position is not None and position >= end

    def looks(self, place: Place) -> int:
        return self._looks.get(place, (0, 0))[0]

    def lag(self, place: Place) -> int | None:
        end = self._end(place)
        position = self._positions.get(place)
        return None if end is None or position is None else max(0, end - position)

    def lag_to_end(self, place: Place) -> int | None:
        end = self._end(place, stable=False)
        position = self._positions.get(place)
        return None if end is None or position is None else max(0, end - position)

    def held_at(self, place: Place) -> int | None:
        stable, end = self._end(place), self._end(place, stable=False)
        return stable if stable is not None and end is not None and stable < end else None

    def counts(self) -> Mapping[str, int]:
        found = {topic: self._consumer.partitions_for_topic(topic) for topic in (*self._topics, self._journal)}
        return {topic: len(partitions) for topic, partitions in found.items() if partitions}

    async def identities(self, topics: Iterable[str]) -> Mapping[str, TopicIdentity]:
        try:
            async with asyncio.timeout(REACH_DEADLINE_S):
                return await topic_id.identities(self._consumer._client, topics)
        except (KafkaError, TimeoutError) as error:
            raise unreachable(error) from error

    def begin(self, positions: Mapping[Place, int]) -> None:
        for place, offset in positions.items():
            tp = TopicPartition(*place)
            try:
                self._consumer.seek(tp, offset)
                self._consumer.resume(tp)
            except IllegalStateError as error:
                raise BrokerError(f"{place.topic}-{place.partition} has just been revoked ({error})") from error
            self._positions[place] = offset

    def is_paused(self, place: Place) -> bool:
        return TopicPartition(*place) in self._consumer.paused()

    def pause(self, place: Place) -> None:
        with suppress(IllegalStateError):  # a rebalance took it away just now
            self._consumer.pause(TopicPartition(*place))

    def resume(self, place: Place) -> None:
        with suppress(IllegalStateError):
            self._consumer.resume(TopicPartition(*place))

    async def note_positions(self, positions: Mapping[Place, int]) -> None:
        subscription = self._member._subscription.subscription
        if not positions or subscription is None or subscription.assignment is None:
            return
        offsets = {TopicPartition(*place): OffsetAndMetadata(offset, "") for place, offset in positions.items()}
        try:  # past `commit`, which takes offsets of partitions that the group assigned, and no others
            await self._member._coordinator.commit_offsets(subscription.assignment, offsets)
        except KafkaError as error:
            log.debug("group offsets were not committed: %s", error)

    async def stop(self) -> None:
        await asyncio.gather(cleanup.stop(self._member), cleanup.stop(self._consumer))
