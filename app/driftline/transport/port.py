"""What the engine asks of a broker. `kafka.broker` and the one in memory keep the same contract.

A topic here is a name; (topic, partition) is written `Place`. Shard s is partition s of the journal; `core.place` says
which partitions of the inputs it reads. Offsets are as in Kafka: not dense, since commit markers and aborted records
take some.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from driftline.codec.journal import TopicIdentity
from driftline.codec.write import Write
from driftline.core.place import Place as Place  # the word of this contract
from driftline.core.record import Source

EMBEDDED_TOPIC = "driftline.embedded"
"""A topic that the embedded broker has: it takes orders for new topics on it."""


class Assignment(Protocol):
    """What is called with the shards that this worker has. Both calls must return soon: no heartbeat runs in the
    meantime."""

    async def revoked(self) -> None:
        """All shards are taken away (rebalances are eager). Nothing may be committed after it returns."""

    def assigned(self, shards: Iterable[int]) -> None:
        """These shards are ours, that is, partitions of the journal; nothing is read until `Feed.take`."""


class Feed(Protocol):
    """The inputs of a pipeline, and its shards, which the workers of its group share among them."""

    async def start(self, assignment: Assignment) -> None: ...

    def take(self, places: Iterable[Place]) -> None:
        """Read these partitions of the inputs, and no others; each is paused until `begin`."""

    async def poll(self) -> Mapping[Place, Sequence[Source]]:
        """Records of the partitions that are not paused, in order; empty after a short wait without any."""

    async def reached(self) -> bool:
        """Whether the cluster answers now; comes back within a few seconds."""

    def at_end(self, place: Place) -> bool:
        """Whether everything readable of a partition was given out: next offset >= last stable offset, as last
        known."""

    def looks(self, place: Place) -> int:
        """How often the cluster has answered for a partition, with records or with none: its end was known then."""

    def lag(self, place: Place) -> int | None:
        """Offsets between what was given out and the last stable offset, as last known."""

    def lag_to_end(self, place: Place) -> int | None:
        """The same to the high watermark: what lies in transactions that are open, and behind them, is counted."""

    def held_at(self, place: Place) -> int | None:
        """The last stable offset where it is not the end: an open transaction begins there. None where none does."""

    def counts(self) -> Mapping[str, int]:
        """Partitions of each input and of the journal, as last known."""

    async def identities(self, topics: Iterable[str]) -> Mapping[str, TopicIdentity]:
        """Those of these topics that are there, as the cluster has them now.

        Raises:
            UnreachableError: it does not answer.
        """

    def begin(self, positions: Mapping[Place, int]) -> None:
        """Go on reading these partitions from these offsets."""

    def is_paused(self, place: Place) -> bool:
        """Whether a partition is not read for now."""

    def pause(self, place: Place) -> None: ...

    def resume(self, place: Place) -> None: ...

    async def note_positions(self, positions: Mapping[Place, int]) -> None:
        """Tell the group, for lag tools only. What it says is never read again."""

    async def stop(self) -> None: ...


class Publisher(Protocol):
    """The one identity under which a shard writes."""

    async def open(self) -> None:
        """Become the owner: whoever had the identity before can write no more, and what it left open is ended."""

    async def commit(self, writes: Sequence[Write], entry: Write | None) -> int:
        """Write all of it, or (transactions) none of it; the entry last.

        Returns:
            Offset of the entry, -1 without one.

        Raises:
            CommitUnknownError: anything else than a plain success. The publisher is of no more use.
        """

    async def close(self) -> None:
        """Let go, within a bounded time, whatever state it is in."""


class Reader(Protocol):
    """Reads some partitions apart from any group, each from a given offset."""

    async def open(self, starts: Mapping[Place, int]) -> None:
        """Begin: the first offset to read of each.

        Raises:
            InputLostError: an offset lies before the first retained record.
        """

    async def read(self, place: Place, count_max: int, stop: int | None = None) -> Sequence[Source]:
        """The next records of a partition, in order, at least one; none when its end (or offset `stop`) is reached.

        The end is the one after `open`: everything that a publisher opened before has committed is read.
        """

    async def close(self) -> None: ...


class Broker(Protocol):
    """A connection to a cluster, as one pipeline uses it."""

    def feed(self) -> Feed: ...

    def publisher(self, shard: int) -> Publisher: ...

    def reader(self) -> Reader: ...

    async def beginnings(self, places: Iterable[Place]) -> Mapping[Place, int]:
        """First retained offset of each partition."""

    async def offsets_at(self, places: Iterable[Place], time_ms: int) -> Mapping[Place, int]:
        """Of each partition, the first offset whose record has this time or a later one; its end where none has."""

    async def ends(self, places: Iterable[Place], *, readable: bool = True) -> Mapping[Place, int]:
        """Offset after the last record of each partition.

        Args:
            readable: leave out what is behind the last stable offset, where the delivery is exactly once.
        """
