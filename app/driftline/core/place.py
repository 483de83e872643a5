"""Partitions of topics, and which of them are a shard's.

A shard is one model and its state. Of N shards, shard s reads every partition p of every input with p mod N = s, and
writes the partitions q of every output with q mod N = s: each partition has one reader and one writer. Where there are
as many shards as partitions, shard p is partition p of every topic.

An input of a shard is one partition of one topic, a `Place`. Journals, snapshots and states name it by a text: the
topic alone where the partition has the shard's own number (all that journals had before shards read several), else
`topic:partition`; no topic has a colon in its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

OWN: Final = -1
"""In what a shard keeps: the partition that has the shard's own number."""


class Place(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Layout(NamedTuple):
    """How the partitions of a pipeline's topics are shared among its shards.

    Args:
        shards: how many there are: the partitions of the journal.
        counts: partitions by topic; one that is not known has one for each shard.
    """

    shards: int
    counts: Mapping[str, int] = {}

    def places(self, topics: Iterable[str], shard: int) -> list[Place]:
        """The partitions of some topics that are a shard's."""
        return [
            Place(topic, partition)
            for topic in topics
            for partition in range(shard, self.counts.get(topic, self.shards), self.shards)
        ]

    def shard_of(self, partition: int) -> int:
        """Whose a partition is."""
        return partition % self.shards


def input_name(topic: str, partition: int, shard: int) -> str:
    """How a shard names one of its inputs."""
    return topic if partition == shard else f"{topic}:{partition}"


def input_place(name: str, shard: int) -> Place:
    """The input that a shard names so.

    Raises:
        ValueError: it names none, so none of ours wrote it.
    """
    topic, colon, number = name.partition(":")
    if colon and not (number.isascii() and number.isdigit() and len(number) < 10):
        raise ValueError(f"{name[:100]!r} names no input of a shard")
    return Place(topic, int(number) if colon else shard)


def topic_of(name: str) -> str:
    """The topic of an input, by its name."""
    return name.partition(":")[0]


def output_partition(partition: int, shard: int, shards: int, count: int) -> int:
    """The partition of an output that holds what is about a record of this partition of an input.

    It is the same one where the output has it, and another one of the same shard where it does not.

    Args:
        count: partitions of the output, at least as many as shards.
    """
    own = max(1, (count - shard + shards - 1) // shards)
    return shard + (partition // shards) % own * shards
