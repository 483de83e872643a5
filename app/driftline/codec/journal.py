"""Journal entries to bytes and back, and the chain that ties each to the one before.

Two kinds. A `slice` says which records were folded together, up to where, and what came out (as a digest). An
`epoch` says under which pipeline, versions and arithmetic the slices after it were folded. Every entry carries
`chain`, a digest over the entry before and its own content: an entry that does not fit was not written by the owner
that wrote the one before, or was tampered with. With a key it also carries a `seal`; see `codec.seal`.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
import orjson
from msgspec import UNSET, Meta, Struct, UnsetType

from driftline.core.error import InvariantError
from driftline.core.place import input_place

NOT_OURS = (TypeError, ValueError, RecursionError)
"""What reading and encoding raise at documents that we never wrote. JSON is read deeper than it is written: what lies
deeper than 254 levels cannot be encoded again, to be chained or signed."""

MERGE_RULE = "time-1"  # named in every slice: a journal is only replayed by the rule that made it
CHAIN_START = "0" * 32

COUNT_MAX: Final = 2**62
Count: TypeAlias = Annotated[int, Meta(ge=0, le=COUNT_MAX)]
"""An offset, a number or a count: all that follow from it can be written again."""
Moment: TypeAlias = Annotated[int, Meta(ge=-COUNT_MAX, le=COUNT_MAX)]
"""Milliseconds of a watermark, to which waits can be added."""


class Range(Struct, frozen=True):
    """Records of one input: offsets from `start` up to and without `stop`, of which `count` were records."""

    start: Count
    stop: Count
    count: Count


class TopicIdentity(Struct, frozen=True):
    """Which topic is meant by a name.

    Args:
        id: Kafka's own (KIP-516); None where the broker gives none.
    """

    id: str | None
    partitions: Count


class SliceEntry(Struct, frozen=True, tag="slice", tag_field="kind"):
    """Records that were folded and committed together.

    Args:
        number: slices count from 1 in each shard and never start again.
        inputs: what was read, by input (named as in `core.place`); those without records are left out.
        tick_ms: the time that passed on idle inputs; a slice has either records or a tick.
        outputs, digest: how many outputs the slice made, and the digest over their bytes.
        epoch: number of the epoch entry that it belongs to.
        raised: calls at which the model raised, and its words: a replay passes them over. Unset without any.
        ahead: offsets of the records whose time lay far ahead when they were merged, by input. Unset without any.
    """

    number: Count
    inputs: dict[str, Range]
    tick_ms: Moment | None
    outputs: Count
    digest: str
    watermark_ms: int | None
    epoch: Count
    merge: str = MERGE_RULE
    raised: dict[str, str] | UnsetType = UNSET
    ahead: dict[str, list[Count]] | UnsetType = UNSET


class EpochEntry(Struct, frozen=True, tag="epoch", tag_field="kind"):
    """From here on, this pipeline on these versions.

    Args:
        number: epochs count from 1.
        reason: why it was opened; `key`: from here on another key signs, or none; `topics`: they are known by their
            ids from here on, or have other partitions.
        state: `fresh` starts with an empty shard, `kept` goes on with the state before, `restored` begins with the one
            that `driftline state restore` put beside the snapshots.
        positions: next offset by input: they say which inputs the shard has.
        slice_number: number of the last slice before it.
        pipeline: the whole resolved pipeline.
        versions, arithmetic: what the state's bits depend on.
        restored: digest of a restored state's manifest, under which it lies in the snapshots topic. Unset for others.
        begun_ms: wall time at which a state started over in a pipeline that had one: commands that were sent before it
            may have been taken by the state before, and are refused. Unset for others.
        topics: inputs and journal, as they were; see `engine.sameness`. Unset where no one looked.
        outputs: partitions of the output topics, among which a shard of several partitions divides what it makes. Unset
            where all goes to the partition that has the shard's number.
    """

    number: Count
    reason: Literal["first", "pipeline", "version", "reset", "gap", "restored", "key", "topics"]
    state: Literal["fresh", "kept", "restored"]
    positions: dict[str, Count]
    slice_number: Count
    pipeline: dict[str, Any]
    versions: dict[str, str]
    arithmetic: str
    restored: str | UnsetType = UNSET
    begun_ms: int | UnsetType = UNSET
    topics: dict[str, TopicIdentity] | UnsetType = UNSET
    outputs: dict[str, Count] | UnsetType = UNSET


Entry: TypeAlias = SliceEntry | EpochEntry


class Link(Struct, frozen=True):
    """An entry in its place in the chain, with a note for people that belongs to neither."""

    entry: Entry
    chain: str
    note: dict[str, Any] | None = None


def link(entry: Entry, previous_chain: str, note: dict[str, Any] | None = None) -> Link:
    """Put an entry behind the one whose chain is given."""
    return Link(entry, chain_of(previous_chain, chained(entry)), note)


def follows(successor: Link, previous_chain: str) -> bool:
    """Whether an entry was written right behind the one whose chain is given."""
    try:
        return successor.chain == chain_of(previous_chain, chained(successor.entry))
    except NOT_OURS:  # it can be read and not be written, so we never did
        return False


def encode_link(linked: Link) -> bytes:
    """The journal record's value: the entry's own keys, `chain`, and `note` if there is one."""
    value = {**_content(linked.entry), "chain": linked.chain}
    if linked.note is not None:
        value["note"] = linked.note
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)


def decode_link(value: bytes | None) -> Link:
    """A journal record's entry.

    Raises:
        InvariantError: it is not a journal entry. The journal topic holds something that Driftline did not write.
    """
    try:
        document = orjson.loads(value or b"")
        chain, note = document.pop("chain"), document.pop("note", None)
        document.pop("seal", None)
        entry: Entry = msgspec.convert(document, Entry)
        _check(entry)
        return Link(entry, chain, note)
    except (*NOT_OURS, KeyError, AttributeError) as error:
        raise InvariantError(
            f"the journal holds a record that is not a journal entry ({error}); only Driftline may write to it. "
            "Restore the topic, or start the pipeline under a new name"
        ) from error


def _check(entry: Entry) -> None:
    """Raises ValueError where an entry says what cannot be."""
    named = entry.positions if isinstance(entry, EpochEntry) else entry.inputs
    for name in named:
        input_place(name, 0)
    if isinstance(entry, SliceEntry):
        for part in entry.inputs.values():
            if not (part.start < part.stop and 0 < part.count <= part.stop - part.start):
                raise ValueError(f"{part.count} records from {part.start} to {part.stop} cannot be")


def _content(entry: Entry) -> dict[str, Any]:
    content: dict[str, Any] = msgspec.to_builtins(entry)
    return content


def chained(entry: Entry) -> bytes:
    """What of an entry is chained.

    Raises:
        TypeError, ValueError, RecursionError: it can be read and not be written, so we never did.
    """
    return orjson.dumps(_content(entry), option=orjson.OPT_SORT_KEYS)


def chain_of(previous_chain: str, content: bytes) -> str:
    """The chain of an entry behind another one, whose chain is given."""
    return hashlib.blake2b(previous_chain.encode() + content, digest_size=16).hexdigest()
