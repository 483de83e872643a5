"""A Kafka cluster as far as the engine can tell one, as plain state: no tasks, no clock, no sockets.

Every request is a method that takes effect at once and whole, so that a test or a simulator decides what happens
between two of them; waiting, losing answers and dying are the business of `memory`, which puts the broker ports on top.
What is modelled is what the engine leans on:

* commit markers take an offset, and so do aborted records; neither is ever read;
* a read_committed reader sees nothing at or behind the first record of an open transaction (the last stable offset);
* a transactional id has an epoch: whoever initialises it ends what was open and shuts out every earlier epoch;
* a batch of a partition that its producer has added is taken only while that very transaction is open: if a late commit
  has ended it, the rest is refused (as INVALID_TXN_STATE, KIP-890), and what was in before stays committed;
* nothing tells a commit that was delayed from the next one at the same epoch;
* a commit is decided first and marked in the partitions later: between the two it is irrevocable and not yet readable;
* a batch that is too large, or stamped too far ahead, is refused alone; what was sent beside it is in;
* groups rebalance eagerly (everyone lets go of everything, then rejoins) and partitions are assigned by range.

What is not: replication, segments, compaction and lookup by time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct, structs

from driftline.codec.journal import TopicIdentity
from driftline.codec.write import Write, write_bytes
from driftline.core.pipeline import Pipeline
from driftline.core.record import Source
from driftline.transport.port import Place

BATCH_BYTES_MAX = 1_048_588  # a broker's default
TIMESTAMP_AHEAD_MAX_MS = 3_600_000  # as well (message.timestamp.after.max.ms)
_RECORD_OVERHEAD_BYTES = 70


class ClusterError(Exception):
    """The cluster refuses a request, or (raised by a hook) the request or its answer is lost."""


class FencedError(ClusterError):
    """Another producer has initialised this transactional id since."""


class EndedError(ClusterError):
    """The transaction that a batch is meant for is not open (any more)."""


class RefusedError(ClusterError):
    """One batch is not taken; what was sent beside it is."""


class Identity(Struct, frozen=True):
    """A transactional id at one of its epochs."""

    transactional_id: str
    epoch: int


class Transaction:
    """Records that become readable together, or never.

    Attributes:
        added: partitions that it may have records in.
        first: the first record's offset, by partition that has one.
    """

    __slots__ = ("added", "began_ms", "fate", "first")

    def __init__(self, began_ms: int) -> None:
        self.added: set[Place] = set()
        self.began_ms = began_ms
        self.fate: Literal["open", "committed", "aborted"] = "open"
        self.first: dict[Place, int] = {}


class Entry(Struct, frozen=True):
    """What takes one offset: a record or, with a value of None and `marker` set, the end of a transaction."""

    source: Source
    transaction: Transaction | None = None
    marker: bool = False

    def hidden(self, *, committed: bool) -> bool:
        """Whether readers pass over it; `committed` are those that read committed records only."""
        if self.marker or self.transaction is None:
            return self.marker
        return committed and self.transaction.fate != "committed"


class Log:
    """One partition.

    Attributes:
        start: first retained offset.
        open: first offset of each transaction whose marker is not written yet.
        entries: what is retained, from `start` on.
    """

    def __init__(self, batch_bytes_max: int, timestamp_ahead_max_ms: int | None) -> None:
        self.batch_bytes_max = batch_bytes_max
        self.timestamp_ahead_max_ms = timestamp_ahead_max_ms
        self.start = 0
        self.open: dict[Transaction, int] = {}
        self.entries: list[Entry] = []

    @property
    def end(self) -> int:
        """The high watermark: the offset that comes next."""
        return self.start + len(self.entries)

    def stable_end(self) -> int:
        """The last stable offset: what lies before it will not change any more."""
        return min(self.open.values(), default=self.end)

    def append(self, entry: Entry) -> None:
        self.entries.append(entry)

    def read(self, position: int, count_max: int, *, committed: bool) -> tuple[list[Source], int]:
        """Records from a position on, and the position behind what was looked at.

        Args:
            committed: whether open and aborted transactions are hidden.
        """
        end = self.stable_end() if committed else self.end
        found: list[Source] = []
        while position < end and len(found) < count_max:
            entry = self.entries[position - self.start]
            position += 1
            if not entry.hidden(committed=committed):
                found.append(entry.source)
        return found, position

    def overwrite(self, offset: int, *, marker: bool = False, **fields: Any) -> None:
        """Change a record where it lies, as no client could.

        Args:
            marker: of nothing else: no reader sees it any more.
            fields: of its `Source`.
        """
        entry = self.entries[offset - self.start]
        changed = Entry(structs.replace(entry.source, **fields), entry.transaction, marker or entry.marker)
        self.entries[offset - self.start] = changed

    def decided(self) -> list[Source]:
        """See `MemoryCluster.decided`."""
        return [entry.source for entry in self.entries if not entry.hidden(committed=True)]

    def delete_before(self, offset: int) -> None:
        """Retention: forget a prefix."""
        if self.start < offset:
            offset = min(offset, self.end)
            del self.entries[: offset - self.start]
            self.start = offset


class Producer:
    """What the coordinator knows of one transactional id."""

    __slots__ = ("epoch", "transaction")

    def __init__(self) -> None:
        self.epoch = -1
        self.transaction: Transaction | None = None


class Group:
    """A consumer group: who is in it, and who has which partitions.

    Attributes:
        rebalancing: everyone must let go and join again; goes on until all have.
        noted: offsets that members committed for lag tools.
    """

    def __init__(self, cluster: MemoryCluster) -> None:
        self.rebalancing = False
        self.generation = 0
        self.noted: dict[Place, int] = {}
        self._cluster = cluster
        self._topics: dict[str, tuple[str, ...]] = {}
        self._joined: set[str] = set()
        self._assigned: dict[str, list[Place]] = {}

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(sorted(self._topics))

    def knows(self, member: str) -> bool:
        """Whether a member's last join still counts: it was not put out since, and no other rebalance began."""
        return member in self._joined

    @property
    def missing(self) -> tuple[str, ...]:
        """Members that a rebalance waits for."""
        return tuple(sorted(self._topics.keys() - self._joined)) if self.rebalancing else ()

    def join(self, member: str, topics: Sequence[str]) -> None:
        """Come in, or come back in a rebalance. The last one to join ends it."""
        if not self.rebalancing:
            self._begin()
        self._topics[member] = tuple(topics)
        self._joined.add(member)
        self._end_if_all_joined()

    def leave(self, member: str) -> None:
        """Go, of one's own will or because the session timed out; the others share what is left."""
        if self._topics.pop(member, None) is None:
            return
        self._joined.discard(member)
        if not self.rebalancing:
            self._begin()
        self._end_if_all_joined()
        self._cluster.ring()  # whoever was put out learns it, though the others are still waited for

    def assignment(self, member: str) -> list[Place] | None:
        """The member's partitions; None while a rebalance is on or when it is not in the group."""
        return None if self.rebalancing else self._assigned.get(member)

    def _begin(self) -> None:
        self.rebalancing = True
        self._joined.clear()
        self._assigned.clear()
        self._cluster.ring()

    def _end_if_all_joined(self) -> None:
        if len(self._joined) == len(self._topics):
            self.rebalancing = False
            self.generation += 1
            self._assigned = assign_ranges(self._topics, self._cluster.partitions)
            self._cluster.ring()


class MemoryCluster:
    """Topics, transactions and groups in memory.

    Args:
        now_ms: the clock that stamps records written without a timestamp.

    Attributes:
        logs, producers, groups: all there are, by partition, transactional id and group.
    """

    def __init__(self, now_ms: Callable[[], int] = lambda: int(time.time() * 1000)) -> None:
        self.partitions: dict[str, int] = {}
        self._now_ms = now_ms
        self._made = 0  # topics, ever
        self._ids: dict[str, int] = {}
        self.has_ids = True  # false as on the embedded broker
        self.logs: dict[Place, Log] = {}
        self.producers: dict[str, Producer] = {}
        self.groups: dict[str, Group] = {}
        self._changed = asyncio.Event()

    @property
    def changed(self) -> asyncio.Event:
        """Is set at the next change of any kind: take it first, look, then wait for it."""
        return self._changed

    def ring(self) -> None:
        """Something changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    # -- topics and plain records

    def create(
        self,
        topics: Mapping[str, int],
        *,
        batch_bytes_max: int = BATCH_BYTES_MAX,
        timestamp_ahead_max_ms: int | None = TIMESTAMP_AHEAD_MAX_MS,
    ) -> None:
        """Make topics, name to number of partitions; those that are there stay as they are."""
        for topic, count in topics.items():
            if topic not in self.partitions:
                self.partitions[topic] = count
                self._made += 1
                self._ids[topic] = self._made
                for partition in range(count):
                    self.logs[Place(topic, partition)] = Log(batch_bytes_max, timestamp_ahead_max_ms)

    def widen(self, topic: str, count: int) -> None:
        """Add partitions to a topic, so that it has so many; like Kafka, none are taken away."""
        if count <= self.partitions[topic]:
            return
        first = self.logs[Place(topic, 0)]
        for partition in range(self.partitions[topic], count):
            self.logs[Place(topic, partition)] = Log(first.batch_bytes_max, first.timestamp_ahead_max_ms)
        self.partitions[topic] = count
        self.ring()

    def create_for(self, pipeline: Pipeline, partitions: int, shards: int | None = None) -> None:
        """Make every topic of a pipeline, which take any timestamp; by default with a shard for each partition."""
        topics = pipeline.topics
        names = [name for name in topics.model_dump().values() if name is not None]
        counts = dict.fromkeys(names, partitions)
        for name in (topics.journal, topics.snapshots, topics.control, topics.alerts):
            counts[name] = shards or partitions
        self.create(counts, timestamp_ahead_max_ms=None)

    @property
    def identities(self) -> Mapping[str, TopicIdentity]:
        return {
            topic: TopicIdentity(f"{topic}#{self._ids[topic]}" if self.has_ids else None, count)
            for topic, count in self.partitions.items()
        }

    def remake(self, topic: str, partitions: int | None = None) -> None:
        """Delete a topic and make it anew, empty, under another id."""
        count = self.partitions[topic] if partitions is None else partitions
        ahead_ms = self.log(Place(topic, 0)).timestamp_ahead_max_ms
        for partition in range(self.partitions.pop(topic)):
            del self.logs[Place(topic, partition)]
        self.create({topic: count}, timestamp_ahead_max_ms=ahead_ms)
        self.ring()

    def log(self, place: Place) -> Log:
        """Raises ClusterError where there is no such partition."""
        try:
            return self.logs[place]
        except KeyError:
            raise ClusterError(f"there is no {place.topic}-{place.partition}") from None

    def append(self, place: Place, writes: Sequence[Write]) -> int:
        """One batch outside of any transaction; returns the offset of its first record."""
        return self._append(place, writes, None)

    def produce(self, topic: str, partition: int, value: bytes | None, timestamp_ms: int | None = None) -> int:
        """One record, as a user's own producer writes it, keyless; returns its offset."""
        return self.append(Place(topic, partition), [Write(topic, partition, None, value, timestamp_ms)])

    def records(self, topic: str, partition: int, *, committed: bool = True) -> list[Source]:
        """Everything that a reader would read of a partition."""
        log = self.log(Place(topic, partition))
        return log.read(log.start, log.end, committed=committed)[0]

    def decided(self, topic: str, partition: int) -> list[Source]:
        """What readers of committed records will have read, also where a marker that says so is still to be written."""
        return self.log(Place(topic, partition)).decided()

    def delete_before(self, place: Place, offset: int) -> None:
        """Retention takes the records before an offset."""
        self.log(place).delete_before(offset)
        self.ring()

    # -- transactions

    def initialise(self, transactional_id: str) -> Identity:
        """Become the owner of an id: ends what was open, and shuts out whoever had it."""
        producer = self.producers.setdefault(transactional_id, Producer())
        self._close(producer)
        producer.epoch += 1
        return Identity(transactional_id, producer.epoch)

    def add(self, identity: Identity, places: Iterable[Place]) -> None:
        """Add partitions to the transaction, which begins here if none is open.

        Raises:
            FencedError: the identity is not the owner any more.
        """
        producer = self._producer(identity)
        if producer.transaction is None or producer.transaction.fate != "open":
            self._close(producer)  # the client would have waited for the markers of the one before
            producer.transaction = Transaction(self._now_ms())
        producer.transaction.added.update(places)

    def append_within(self, identity: Identity, place: Place, writes: Sequence[Write]) -> int:
        """One batch of a transaction that the partition was added to; returns the offset of its first record.

        Raises:
            FencedError: the identity is not the owner any more.
            EndedError: the transaction is over.
            RefusedError: the batch is too large, or stamped too far ahead.
        """
        transaction = self._producer(identity).transaction
        if transaction is None or transaction.fate != "open" or place not in transaction.added:
            raise EndedError(
                f"no transaction of {identity.transactional_id} is open in {place.topic}-{place.partition}"
            )
        return self._append(place, writes, transaction)

    def decide(self, identity: Identity, *, commit: bool) -> None:
        """End the transaction: from here on its fate is sealed, and `mark` makes it readable.

        Raises:
            FencedError: the identity is not the owner any more.
        """
        transaction = self._producer(identity).transaction
        if transaction is not None and transaction.fate == "open":
            transaction.fate = "committed" if commit else "aborted"

    def mark(self, identity: Identity) -> None:
        """Write the markers of a decided transaction; nothing if another owner's initialisation has done so."""
        producer = self.producers[identity.transactional_id]
        transaction = producer.transaction
        if producer.epoch == identity.epoch and transaction is not None and transaction.fate != "open":
            self._close(producer)

    def expire(self, transactional_id: str) -> None:
        """The transaction time-out: abort what is open, and shut out its owner, which may be the only one there is."""
        self.initialise(transactional_id)

    def expire_older(self, age_ms: int) -> list[str]:
        """Do that for every transaction that has been open for so long; returns their transactional ids."""
        now_ms = self._now_ms()
        old = [
            transactional_id
            for transactional_id, producer in self.producers.items()
            if (one := producer.transaction) is not None and one.fate == "open" and now_ms - one.began_ms >= age_ms
        ]
        for transactional_id in old:
            self.expire(transactional_id)
        return old

    def group(self, name: str) -> Group:
        return self.groups.setdefault(name, Group(self))

    def _producer(self, identity: Identity) -> Producer:
        producer = self.producers[identity.transactional_id]
        if producer.epoch != identity.epoch:
            raise FencedError(f"{identity.transactional_id} has a newer owner")
        return producer

    def _close(self, producer: Producer) -> None:
        """Abort the transaction if nothing was decided, and write its markers."""
        transaction, producer.transaction = producer.transaction, None
        if transaction is None:
            return
        if transaction.fate == "open":
            transaction.fate = "aborted"
        for place in transaction.first:
            log = self.logs[place]
            del log.open[transaction]
            marker = Source(place.topic, place.partition, log.end, self._now_ms(), None, None)
            log.append(Entry(marker, transaction, marker=True))
        self.ring()

    def _append(self, place: Place, writes: Sequence[Write], transaction: Transaction | None) -> int:
        log = self.log(place)
        if (size := batch_bytes(writes)) > log.batch_bytes_max:
            raise RefusedError(f"a batch of {size} bytes; {place.topic} takes {log.batch_bytes_max}")
        now_ms = self._now_ms()
        ahead_ms = log.timestamp_ahead_max_ms
        if ahead_ms is not None and any((write.timestamp_ms or 0) > now_ms + ahead_ms for write in writes):
            raise RefusedError(f"a timestamp more than {ahead_ms} ms ahead")
        first = log.end
        if transaction is not None and place not in transaction.first:
            transaction.first[place] = log.open[transaction] = first
        for offset, write in enumerate(writes, first):
            stamp_ms = now_ms if write.timestamp_ms is None else write.timestamp_ms
            source = Source(*place, offset, stamp_ms, write.key, write.value, write.headers)
            log.append(Entry(source, transaction))
        self.ring()
        return first


def batch_bytes(writes: Iterable[Write]) -> int:
    """About what a batch takes on the wire."""
    return sum(_RECORD_OVERHEAD_BYTES + write_bytes(write) for write in writes)


def assign_ranges(topics: Mapping[str, Sequence[str]], partitions: Mapping[str, int]) -> dict[str, list[Place]]:
    """Partitions by member: of each topic, each member in order of its id gets the next few.

    So partition p of every topic lands alike, where members read the same topics: they are co-located. Partitions that
    not all of the topics have are nobody's.

    Args:
        topics: by member.
        partitions: how many, by topic.
    """
    assigned: dict[str, list[Place]] = {member: [] for member in topics}
    fewest = min(
        (partitions[topic] for chosen in topics.values() for topic in chosen if topic in partitions), default=0
    )
    for topic in sorted({topic for chosen in topics.values() for topic in chosen}):
        members = sorted(member for member, chosen in topics.items() if topic in chosen)
        share, extra = divmod(min(partitions.get(topic, 0), fewest), len(members))
        first = 0
        for place, member in enumerate(members):
            count = share + (place < extra)
            assigned[member] += [Place(topic, partition) for partition in range(first, first + count)]
            first += count
    return assigned
