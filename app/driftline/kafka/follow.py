"""Following the topics of a pipeline for people: their latest records, then all that come, and who is at work.

One consumer without a group reads what is small from a bounded way back (journal, alerts, reviews). What is large
(scores) is glanced at: each look reads a few records before the end and skips the rest, so it costs the same however
fast the topic grows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError

from driftline.core.place import Place
from driftline.kafka.client import admin, answered, consumer, partition_counts, unreachable
from driftline.kafka.reader import KafkaReader

FETCH_WAIT_MS = 200
ANSWER_WAIT_MS = 100  # how long the broker waits for a record before it answers that there is none
RECORDS_MAX = 500  # of one look: how long its records keep the loop
PARTITION_BYTES = 64 * 1024  # of one answer for one partition, unless its first batch is larger


class Seen(NamedTuple):
    """A record that was read; `time_ms` is its own."""

    place: Place
    offset: int
    time_ms: int
    value: bytes | None


class Member(NamedTuple):
    """One member of the workers' group.

    Args:
        name: that the group gave it.
        host: its address, as the broker sees it.
        shards: partitions of the journal that it has.
    """

    name: str
    host: str
    shards: tuple[int, ...]


class Follower:
    """Made by `follow`.

    Attributes:
        counts: partitions by topic, as they were at the start.
        history: of each partition that is followed, the offsets from where it was begun to where it ended then.
    """

    def __init__(
        self, client: Any, broker: Any, counts: Mapping[str, int], reader: Callable[[], KafkaReader], address: str
    ) -> None:
        self.counts = counts
        self._reader = reader
        self.history: dict[Place, range] = {}
        self._client, self._broker, self._address = client, broker, address
        self._steady: list[TopicPartition] = []
        self._resting = False
        self._coordinator: int | None = None  # of the workers' group, once it is known
        self._names_members = True
        self._glanced_ends: dict[TopicPartition, int] = {}
        self._glanced: dict[TopicPartition, int] = {}  # next offset that is new, of what is glanced at

    async def begin(self, followed: Mapping[str, int | None], glanced: Iterable[str]) -> None:
        """Start reading.

        Args:
            followed: by topic, how many offsets before its end to begin, in each partition; None: with the first.
            glanced: topics that are read by `glance` only.
        """
        steady = self._steady = [TopicPartition(*place) for topic in followed for place in self._places(topic)]
        rest = [TopicPartition(*place) for topic in glanced for place in self._places(topic)]
        self._client.assign([*steady, *rest])
        with answered({"bootstrap_servers": self._address}):
            ends = await self._client.end_offsets([*steady, *rest])
            beginnings = await self._client.beginning_offsets(steady)
        for tp in steady:
            back = followed[tp.topic]
            start = beginnings[tp] if back is None else max(beginnings[tp], ends[tp] - back)
            self._client.seek(tp, start)
            self.history[Place(tp.topic, tp.partition)] = range(start, ends[tp])
        for tp in rest:
            self._client.seek(tp, ends[tp])
            self._glanced[tp] = 0
        if rest:
            self._client.pause(*rest)

    def _places(self, topic: str) -> list[Place]:
        return [Place(topic, number) for number in range(self.counts.get(topic, 0))]

    async def next(self) -> Sequence[Seen]:
        """What has come; nothing after a short wait without any.

        Raises:
            UnreachableError: Kafka does not answer.
        """
        if self._resting:
            self._client.resume(*self._steady)
            self._resting = False
        try:
            found = await self._client.getmany(timeout_ms=FETCH_WAIT_MS, max_records=RECORDS_MAX)
        except KafkaError as error:
            raise unreachable(self._address, error) from error
        seen = [
            Seen(Place(tp.topic, tp.partition), one.offset, one.timestamp, one.value)
            for tp, records in found.items()
            for one in records
        ]
        for tp, records in found.items():
            if tp in self._glanced and records:
                self._glanced[tp] = records[-1].offset + 1
                self._client.pause(tp)
        return seen

    async def has_more(self) -> bool:
        """Whether there were more records, at the broker's last answer, than have been read."""
        for tp in self._steady:
            stable, high = self._client.last_stable_offset(tp), self._client.highwater(tp)
            end = stable if stable is not None and stable >= 0 else high
            if end is not None and await self._client.position(tp) < end:
                return True
        return False

    def rest(self) -> None:
        """Ask for nothing until the next look: a client that is left to itself asks all the time."""
        self._client.pause(*self._steady)
        self._resting = True

    async def is_behind(self) -> bool:
        """Whether records are still to come that were there at the start."""
        for place, history in self.history.items():
            if await self._client.position(TopicPartition(*place)) < history.stop:
                return True
        return False

    def skip(self, place: Place, offset: int) -> None:
        """Go on with a later record of a partition."""
        self._client.seek(TopicPartition(*place), offset)

    def glance(self, back: int) -> None:
        """Have the last few records of the topics that are glanced at come with the next ones, as of the last `ends`.

        Args:
            back: how many offsets before the end to begin.
        """
        for tp, end in self._glanced_ends.items():
            if end > (known := self._glanced[tp]):
                self._client.seek(tp, max(known, end - back))
                self._client.resume(tp)

    async def ends(self, places: Iterable[Place]) -> Mapping[Place, int]:
        """Offset after the last readable record of each partition.

        Raises:
            UnreachableError: Kafka does not answer.
        """
        wanted = [TopicPartition(*place) for place in places]
        with answered({"bootstrap_servers": self._address}):
            found = await self._client.end_offsets([*wanted, *self._glanced])
        self._glanced_ends = {tp: found[tp] for tp in self._glanced}
        return {Place(tp.topic, tp.partition): found[tp] for tp in wanted}

    async def firsts(self, lefts: Mapping[Place, range]) -> Mapping[Place, tuple[int, int | None]]:
        """The first record within these offsets of each partition: offset and time; the end and None, where none is.

        Raises:
            BrokerError: Kafka does not answer, or not in time.
        """
        with answered({"bootstrap_servers": self._address}):
            beginnings = await self._client.beginning_offsets([TopicPartition(*place) for place in lefts])
        reader = self._reader()
        found: dict[Place, tuple[int, int | None]] = {}
        try:
            await reader.open(
                {place: max(left.start, beginnings[TopicPartition(*place)]) for place, left in lefts.items()}
            )
            for place, left in lefts.items():
                records = await reader.read(place, 1, left.stop)
                found[place] = (records[0].offset, records[0].record_time_ms) if records else (left.stop, None)
        finally:
            await reader.close()
        return found

    async def members(self, group_id: str, journal: str) -> Sequence[Member] | None:
        """Who shares the shards of a pipeline; None where the broker cannot say."""
        if not self._names_members:
            return None
        try:
            if self._coordinator is None:
                self._coordinator = await self._broker.find_coordinator(group_id)
            answers = await self._broker.describe_consumer_groups([group_id], self._coordinator)
        except IncompatibleBrokerVersion:
            self._names_members = False
            return None
        except (KafkaError, TimeoutError, OSError):
            self._coordinator = None
            return None
        if any(group[0] for answer in answers for group in answer.groups):  # an error: it may have moved
            self._coordinator = None
            return None
        return [
            Member(member, host.lstrip("/"), _shards(assignment, journal))
            for answer in answers
            for group in answer.groups
            for member, _, host, _, assignment in (one[:5] for one in group[5])
        ]


def _shards(assignment: bytes, journal: str) -> tuple[int, ...]:
    """The partitions of the journal in a member's assignment; none while the group shares them anew."""
    if not assignment:
        return ()
    try:
        found = ConsumerProtocolMemberAssignment.decode(assignment)
    except (ValueError, TypeError, KeyError):  # of a program that is no worker
        return ()
    return tuple(sorted(tp.partition for tp in found.partitions() if tp.topic == journal))


@asynccontextmanager
async def follow(options: Mapping[str, Any], *, committed: bool) -> AsyncIterator[Follower]:
    """A follower, connected.

    Args:
        options: from `client_options`.
        committed: leave out records of transactions that are open or aborted.

    Raises:
        UnreachableError: Kafka does not answer.
    """
    isolation = "read_committed" if committed else "read_uncommitted"
    async with (
        admin(options) as broker,
        consumer(
            options,
            isolation_level=isolation,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=PARTITION_BYTES,
            fetch_max_wait_ms=ANSWER_WAIT_MS,
        ) as client,
    ):
        with answered(options):
            counts = await partition_counts(broker)
        address = str(options["bootstrap_servers"])
        yield Follower(client, broker, counts, lambda: KafkaReader(options, committed), address)
