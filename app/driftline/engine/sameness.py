"""Whether the topics are still those that positions and state refer to.

A topic that was deleted and recreated holds other records under the same offsets, and another number of partitions
puts keys elsewhere: neither is seen from the records. So the ids and numbers of partitions of inputs and journal stand
in the epoch, and are compared at each start, before anything is read again, and now and then while a worker runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from driftline.codec.inputs import Inputs, other_number
from driftline.codec.journal import TopicIdentity
from driftline.core.error import InputReplacedError, JournalReplacedError, PartitionsChangedError
from driftline.core.pipeline import Pipeline

Identities: TypeAlias = Mapping[str, TopicIdentity]


def watched(pipeline: Pipeline) -> list[str]:
    """The topics that must stay what they are: inputs and journal."""
    return [*Inputs(pipeline).topics, pipeline.topics.journal]


def outputs(pipeline: Pipeline) -> list[str]:
    """The topics that a shard divides what it makes among the partitions of."""
    topics = pipeline.topics
    return [topics.scores, topics.outcomes, topics.rejected, *([topics.review] if topics.review else [])]


def replaced(known: Identities, now: Identities, topics: Iterable[str]) -> list[str]:
    """Those topics that were recreated. Where one of the two knows no id, none is."""
    return [
        topic
        for topic in topics
        if (old := known.get(topic)) is not None
        and (new := now.get(topic)) is not None
        and old.id is not None
        and new.id is not None
        and old.id != new.id
    ]


def check_journal(known: Identities, now: Identities, pipeline: Pipeline) -> None:
    """Raises JournalReplacedError where the journal is another."""
    journal = pipeline.topics.journal
    if replaced(known, now, [journal]):
        raise JournalReplacedError(
            f"{journal} was deleted and recreated: its id was {known[journal].id} and is now {now[journal].id}. "
            "Earlier "
            "results can no longer be verified, and outputs would be written twice. Restore the topic, or restore a "
            "saved state (`driftline state restore`), or start once with --reset-state"
        )


def check_inputs(known: Identities, now: Identities, topics: Iterable[str]) -> None:
    """Raises InputReplacedError where one of these inputs is another."""
    if found := replaced(known, now, topics):
        ids = ", ".join(f"{topic}: id {known[topic].id} before, {now[topic].id} now" for topic in found)
        raise InputReplacedError(
            f"{', '.join(found)}: deleted and recreated ({ids}), so the journal's positions are meaningless there",
            "To read the new topic from its beginning, start once with --on-gap continue (the state is kept if a "
            "snapshot holds it completely)",
        )


def check_shards(known: int | None, now: int, pipeline: Pipeline) -> None:
    """Raises PartitionsChangedError where the journal has another number of partitions, that is, of shards."""
    if known is not None and known != now:
        raise PartitionsChangedError(
            f"{pipeline.topics.journal} has {now} partitions instead of {known}: shards would read again what others "
            "have read",
            other_number(now),
        )


def check_partitions(known: Identities, now: Identities, topics: Iterable[str]) -> None:
    """Raises PartitionsChangedError where these inputs make another number of shards: that of the one with the fewest.

    Partitions that only some of them have are not read, which is reported elsewhere (`transport.obstacle`).
    """
    both = [topic for topic in topics if topic in known and topic in now]
    differing = [
        f"{topic} has {now[topic].partitions} partitions instead of {known[topic].partitions}"
        for topic in both
        if known[topic].partitions != now[topic].partitions
    ]
    if differing and min(known[topic].partitions for topic in both) != min(now[topic].partitions for topic in both):
        raise PartitionsChangedError(
            f"{', '.join(differing)}: keys now map to other partitions, so labels would miss their pending events",
            "Before adding partitions, let all labels arrive. To continue anyway, start once with --on-gap "
            "continue: pending events are kept, but those whose label arrives in another partition will expire",
        )
