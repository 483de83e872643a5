"""One partition of an output topic, read along with a fold: every record must be what the fold makes, byte for byte.

With transactions the topic, as a read_committed reader sees it, is the sequence of what the slices made and nothing
else. Without, records may be repeated (a worker died between outputs and journal entry, or two had the shard for a
moment), so the slices' records are looked for in order, and any between them must carry the id of an input of the
shard.

A fold that begins at a snapshot must find where to begin in the outputs, without an index. Scores, alerts and rejected
records carry an `output_id` that names the input at which they were made, and so show whether that was before the
snapshot. An outcome's names its event, which may have come long before its label did: there the first outcome that the
fold makes is looked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from msgspec import Struct

from driftline.codec.encode import Message
from driftline.core.place import input_name
from driftline.core.record import Headers, Source
from driftline.core.wording import escaped
from driftline.transport.port import Place, Reader

READ_RECORDS_MAX = 500
LOOK_AHEAD = 1_000  # records; whether the one that was expected comes later decides between extra and missing
LOOK_AHEAD_BYTES = 32 * 1024 * 1024  # or so many bytes of them
SHOWN_MAX = 300  # characters of a value in a difference
ID_HEADER = "driftline.output_id"
WRITTEN_DEPTH = 200  # JSON that is nested deeper may not be written again


class Difference(Struct, frozen=True):
    """Where the topics are not what the fold makes.

    Args:
        shard, slice: the slice that was being compared; None where no slice is concerned.
        place: topic-partition-offset of the record, or of where it should be.
        field: what differs.
        expected, found: as text, cut where they are long; None where there is nothing.
        note: what else is known.
    """

    shard: int
    slice: int | None
    place: str
    field: str
    expected: str | None
    found: str | None
    note: str = ""

    def __str__(self) -> str:
        where = f"shard {self.shard}" + ("" if self.slice is None else f", slice {self.slice}")
        text = f"{where}, {self.place}, {self.field}: expected {self.expected or 'nothing'}, found "
        return text + (self.found or "nothing") + (f" ({self.note})" if self.note else "")


@dataclass(frozen=True)
class Edge:
    """A place between two slices.

    Args:
        positions: next offset by input.
        slice_number: of the slice before.
    """

    positions: Mapping[str, int]
    slice_number: int

    def is_past(self, cause: Cause | None) -> bool:
        """Whether what an input caused was made before this place."""
        if cause is None:
            return False
        if cause.name == "tick":
            return cause.number <= self.slice_number
        return cause.number < self.positions.get(cause.name, 0)


class Cause(Struct, frozen=True):
    """The input that an output names: its name and the record's offset, or `tick` and the number of its slice."""

    name: str
    number: int


def id_of(value: bytes | None, headers: Headers) -> str | None:
    """The id that an output carries, in its value or, for rejected records, in its last header of that name."""
    for name, content in reversed(headers):
        if name == ID_HEADER:
            return (content or b"").decode("utf-8", "replace")
    found = (document_of(value) or {}).get("output_id")
    return found if isinstance(found, str) else None


def document_of(value: bytes | None) -> dict[str, Any] | None:
    """The JSON object of a record of an output topic; None where it has none, as others may have written it.

    What is nested deeper than JSON is written is none of ours, and nothing could show or write it.
    """
    document = _object_of(value)
    if document is not None and value is not None and value.count(b"[") + value.count(b"{") > WRITTEN_DEPTH:
        try:
            orjson.dumps(document)
        except TypeError:
            return None
    return document


def _object_of(value: bytes | None) -> dict[str, Any] | None:
    """The JSON object of a value, however deep."""
    try:
        document = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def offset_of(text: str) -> int | None:
    """The offset, or number of a slice, that a text names in digits; None where it names none."""
    return int(text) if len(text) < 20 and text.isascii() and text.isdigit() else None


def output_id_of(source: Source) -> str | None:
    """The id of a published record; None where it is not an output."""
    return id_of(source.value, source.headers)


def cause_of(output_id: str | None, shard: int, shards: int, inputs: Collection[str]) -> Cause | None:
    """What an id names; None where it is not an id of this shard."""
    topic, *numbers = (output_id or "").rsplit("-", 3)
    partition, number, ordinal = [offset_of(text) for text in numbers] if len(numbers) == 3 else (None, None, None)
    if partition is None or number is None or ordinal is None or numbers[0] != str(partition):
        return None
    if topic == "tick":
        return Cause(topic, number) if partition == shard else None
    ours = topic in inputs and partition % shards == shard
    return Cause(input_name(topic, partition, shard), number) if ours else None


class Published:
    """See the module.

    Args:
        reader: opened at the first retained record, after the journal's end was asked for.
        place: one partition of an output topic.
        shard, shards: whose it is, of how many.
        end: what lies before this offset must be accounted for.
        beginning: first retained offset.
        timely: the ids name the inputs at which the records were made.

    Attributes:
        compared, repeats: records that are what the fold made, and those that came once more.
        removed: outputs that the broker no longer has.
    """

    def __init__(
        self,
        reader: Reader,
        place: Place,
        shard: int,
        shards: int,
        *,
        exact: bool,
        inputs: Collection[str],
        beginning: int,
        end: int,
        timely: bool,
    ) -> None:
        self.compared = self.repeats = self.removed = 0
        self._reader = reader
        self._place = place
        self._shard, self._shards = shard, shards
        self._exact = exact
        self._inputs = inputs
        self._cut = beginning > 0
        self._end = end
        self._timely = timely
        self._beginning = beginning
        self._seeking = False  # the next output that the fold makes may lie anywhere further on
        self._ahead: deque[Source] = deque()
        self._ahead_bytes = 0
        self._next = beginning
        self._kept: set[str | None] | None = None  # where retention cut the topic: ids of the first records left

    async def begin(self, start: Edge | None) -> Difference | None:
        """Pass over what was made before the fold's start (None: nothing was)."""
        passed = 0
        if start is not None and not self._timely:
            self._seeking = True
            return None
        while start is not None and (head := await self._head(self._end)) is not None:
            cause = self._cause(head)
            if cause is None:
                return self._extra(head, None)
            if not start.is_past(cause):
                break
            self._pop()
            passed += 1
        if self._cut and not passed:
            await self._look(1 if self._exact else LOOK_AHEAD, self._end)
            self._kept = {output_id_of(source) for source in self._ahead} if self._ahead else set()
        return None

    async def expect(self, message: Message, slice_number: int) -> Difference | None:
        """The next output that the fold made."""
        if self._kept is None and not self._seeking and self._ahead and _same(message, self._ahead[0]):
            self._pop()
            self.compared += 1
            return None
        output_id = id_of(message.value, message.headers)
        if self._kept is not None:
            if output_id not in self._kept:
                self.removed += 1
                return None
            self._kept = None
        if self._seeking and await self._was_removed(message, output_id):
            self.removed += 1
            return None
        like: Source | None = None  # the first record with this id and another content
        while (head := await self._head()) is not None:
            if _same(message, head):
                self._pop()
                self.compared += 1
                return None
            if like is None and output_id_of(head) == output_id:
                like = head
            if self._exact:
                if like is None and await self._comes_later(output_id):
                    return self._extra(head, slice_number)
                break
            if self._cause(head) is None:
                return self._extra(head, slice_number)
            self._pop()
            self.repeats += 1
        if like is not None:
            return self._other(message, like, slice_number)
        return Difference(
            self._shard,
            slice_number,
            self._named(self._next if head is None else head.offset),
            f"output {output_id}",
            _text(message.value),
            None if head is None else f"{output_id_of(head)} there",
            note="missing",
        )

    async def _was_removed(self, message: Message, output_id: str | None) -> bool:
        """Look for an output further on. Where retention cut the topic it may have been there, before what is left."""
        stamp_ms = message.timestamp_ms or 0
        while (head := await self._head()) is not None and output_id_of(head) != output_id:
            cut_here = self._cut and self._next == self._beginning and head.record_time_ms >= stamp_ms
            if cut_here and not await self._comes_later(output_id):
                return True
            self._pop()
        self._seeking = False
        return False

    async def pass_to(self, edge: Edge) -> None:
        """Pass over what was made before a place and cannot be compared."""
        if not self._timely:
            self._seeking = True
            return
        while (head := await self._head()) is not None and edge.is_past(self._cause(head)):
            self._pop()
            self._kept = None

    async def finish(self, edge: Edge, *, whole: bool) -> Difference | None:
        """Nothing must be left but what later slices made.

        Args:
            edge: up to where was folded.
            whole: that was the end of a journal without open transactions, so whatever was readable has its slice.
        """
        while (head := await self._head(self._end)) is not None and head.offset < self._end:
            cause = self._cause(head)
            past = self._timely and edge.is_past(cause)
            if cause is None or (self._exact and not self._seeking and (whole or past)):
                return self._extra(head, None)
            if self._exact:
                return None
            self._pop()
            self.repeats += past
        return None

    async def _head(self, stop: int | None = None) -> Source | None:
        await self._look(1, stop)
        return self._ahead[0] if self._ahead else None

    async def _look(self, count: int, stop: int | None = None) -> None:
        """Have so many records in hand, if there are and they are not too large together; without `stop` this waits
        for what is not yet readable."""
        while len(self._ahead) < count and not (self._ahead and self._ahead_bytes > LOOK_AHEAD_BYTES):
            sources = await self._reader.read(self._place, READ_RECORDS_MAX, stop)
            if not sources:
                return
            self._ahead += sources
            self._ahead_bytes += sum(len(source.value or b"") for source in sources)

    async def _comes_later(self, output_id: str | None) -> bool:
        await self._look(LOOK_AHEAD)
        return any(output_id_of(source) == output_id for source in self._ahead)

    def _pop(self) -> None:
        source = self._ahead.popleft()
        self._next = source.offset + 1
        self._ahead_bytes -= len(source.value or b"")

    def _cause(self, source: Source) -> Cause | None:
        return cause_of(output_id_of(source), self._shard, self._shards, self._inputs)

    def _named(self, offset: int) -> str:
        return f"{self._place.topic}-{self._place.partition}-{offset}"

    def _extra(self, source: Source, slice_number: int | None) -> Difference:
        return Difference(
            self._shard,
            slice_number,
            self._named(source.offset),
            "record",
            None,
            _text(source.value),
            note="not the output of any slice",
        )

    def _other(self, message: Message, source: Source, slice_number: int) -> Difference:
        """Which field of a record differs first."""
        name, expected, found = next(
            one
            for one in (
                ("key", _text(message.key), _text(source.key)),
                ("headers", str(message.headers)[:SHOWN_MAX], str(source.headers)[:SHOWN_MAX]),
                value_field(message.value, source.value),
            )
            if one[1] != one[2]
        )
        return Difference(self._shard, slice_number, self._named(source.offset), name, expected, found)


def _same(message: Message, source: Source) -> bool:
    """All but the timestamp: a topic may be set to stamp records itself."""
    return (
        message.value == source.value and message.key == source.key and tuple(message.headers) == tuple(source.headers)
    )


def value_field(expected: bytes | None, found: bytes | None) -> tuple[str, str | None, str | None]:
    """The first key whose content differs where both are JSON objects, else the whole value."""
    one, other = _object_of(expected), _object_of(found)
    if one is not None and other is not None:
        for key in (*one, *(key for key in other if key not in one)):
            if one.get(key) != other.get(key) or (key in one) != (key in other):
                return f"value.{escaped(key)}", _json(one, key), _json(other, key)
    return "value", _text(expected), _text(found)


def _json(document: Mapping[str, Any], key: str) -> str | None:
    try:
        return orjson.dumps(document[key]).decode()[:SHOWN_MAX] if key in document else None
    except TypeError:
        return "JSON nested too deeply to be written"


def _text(content: bytes | None) -> str | None:
    if content is None:
        return None
    return escaped(content[: SHOWN_MAX * 4].decode("utf-8", "backslashreplace"))[:SHOWN_MAX]
