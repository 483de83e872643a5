"""Which entries of a journal a worker with keys accepts.

An entry is accepted if one of the keys sealed it, or if a later one that is sealed follows it in the chain: whoever
wrote that had accepted what came before. So a journal that began without a key, or under one that is given up, is whole
as far as it was taken over. Any other entry is skipped if a sealed one goes on from the entry before it: then a
stranger wrote it. Where neither holds, at the journal's end, the keys do not say whether it is ours, and the user has
to: `Unsigned`.

Which entries a sealed one follows is found by going back from it (`Ancestry`): read forwards, a stranger's entry behind
one of ours looks as good as the next of ours. Cost: the journal is read once more, backwards, in pieces of a bounded
size; what is hashed is in proportion to what is read, or the search is given up.
"""

from __future__ import annotations

import logging
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Literal, NamedTuple, TypeAlias

from driftline.codec.journal import NOT_OURS, Entry, chain_of, chained, decode_link
from driftline.codec.keyring import KeyRing
from driftline.codec.seal import has_seal, is_sealed
from driftline.core.error import InvariantError, UnsignedStateError
from driftline.core.record import Source
from driftline.transport.port import Broker, Place

log = logging.getLogger(__name__)

READ_RECORDS_MAX = 1_000
PIECE_OFFSETS = 10_000  # of the journal, read at once on the way back
PIECE_BYTES = 32 * 1024 * 1024  # of their entries in memory
WORK = 32  # bytes hashed on the way back for each that was read: one where no one but us wrote
WORK_FREE = 64 * 1024 * 1024

Unsigned: TypeAlias = Literal["refuse", "trust", "ignore"]
"""What becomes of snapshots and of a journal's last entries that no key of the worker signed."""

WAYS = (
    "After a key rotation, give the old key after the new one: DRIFTLINE_SNAPSHOT_KEY=NEW,OLD. If this is the first "
    "key, "
    "or the old one is lost, start once with --unsigned-state trust: the existing state is accepted, "
    "and signed from then on"
)
IGNORE = ". If an intruder wrote it, start once with --unsigned-state ignore"


def name_of(place: Place) -> str:
    """How a seal names a journal."""
    return f"{place.topic}-{place.partition}"


class Behind(NamedTuple):
    """An entry that may be one of those that led to a sealed one.

    Args:
        content: what of it is chained.
    """

    offset: int
    chain: str
    content: bytes


class Ancestry:
    """The entries that led to one, as those before it are shown latest first.

    The chain of an entry is a digest over its content and the chain before. So what is known of the entry before is its
    chain, and of several that claim to have it, one has the content that makes it of a chain further back: whoever
    writes between ours can lengthen the search, and not mislead it.

    Attributes:
        chain: of the entry whose predecessor is looked for.
        offsets: of the entries found so far, latest first.
        hashed: bytes.
    """

    def __init__(self, last: Behind) -> None:
        self.chain = last.chain
        self.offsets = array("q")
        self.hashed = 0
        self._claims = {last.content: last.offset}  # of this chain: content to where it stands, first of its copies

    def see(self, one: Behind) -> None:
        """The next entry on the way back."""
        for content, offset in self._claims.items():
            self.hashed += len(content)
            if chain_of(one.chain, content) == self.chain:
                self.offsets.append(offset)
                self.chain, self._claims = one.chain, {one.content: one.offset}
                return
        if one.chain == self.chain:
            self._claims[one.content] = one.offset


class Trust:
    """What one reading of a journal accepts.

    Args:
        stop: read no further than this offset.
    """

    def __init__(self, broker: Broker, place: Place, ring: KeyRing, unsigned: Unsigned, stop: int | None) -> None:
        self._broker = broker
        self._place = place
        self._name = name_of(place)
        self._ring = ring
        self._unsigned = unsigned
        self._stop = stop
        self._until = -1  # up to this offset it is known which entries are vouched for
        self._vouched = array("q")  # their offsets
        self._alone = False  # no later entry vouches for any

    async def accepts(self, source: Source, chain: str, reached: Mapping[type[Entry], int], *, signed: bool) -> bool:
        """Whether an entry that follows the one before is ours.

        Args:
            chain: of the entry before.
            reached: the numbers of the last slice and epoch up to there.
            signed: that one is known to be ours.

        Raises:
            UnsignedStateError: nothing says so.
        """
        if not self._ring or is_sealed(source.value, self._name, self._ring):
            self._alone = False
            return True
        if source.offset > self._until and not self._alone:
            self._alone = not await self.look_ahead(source.offset, chain, reached)
        if source.offset <= self._until:
            place = bisect_left(self._vouched, source.offset)
            return place < len(self._vouched) and self._vouched[place] == source.offset
        if self._unsigned == "trust":
            return True
        if self._unsigned == "ignore" and signed:
            return False
        with_key = "signed with a key that this worker does not have" if has_seal(source.value) else "not signed"
        ignore = IGNORE if signed else ""
        raise UnsignedStateError(f"entry {source.offset} of the journal {self._name} is {with_key}. {WAYS}{ignore}")

    def passes_over(self, source: Source) -> bool:
        """Whether a record that is not an entry, or does not follow, can only be a stranger's."""
        return bool(self._ring) and not is_sealed(source.value, self._name, self._ring)

    async def look_ahead(self, start: int, chain: str, reached: Mapping[type[Entry], int]) -> bool:
        """Whether a sealed entry goes on from the one whose chain is given, and which entries from `start` on led to
        it."""
        read = hashed = 0
        async with aclosing(self._read(start, self._stop)) as sources:
            async for source in sources:
                read += len(source.value or b"")
                if not is_sealed(source.value, self._name, self._ring):
                    continue
                last = _behind(source, reached)
                if last is None:
                    continue
                ancestry = Ancestry(last)
                async with aclosing(self.backwards(start, source.offset)) as entries:
                    async for one in entries:
                        ancestry.see(one)
                        if ancestry.chain == chain or hashed + ancestry.hashed > WORK * read + WORK_FREE:
                            break
                ancestry.see(Behind(-1, chain, b""))
                if ancestry.chain == chain:
                    self._vouched, self._until = array("q", reversed(ancestry.offsets)), source.offset
                    return True
                hashed += ancestry.hashed
                if hashed > WORK * read + WORK_FREE:
                    log.warning("%s: too many unsigned records to find the signed ones", self._name)
                    return False
        return False

    async def backwards(self, start: int, stop: int) -> AsyncGenerator[Behind, None]:
        """The entries from `start` up to and without `stop`, latest first."""
        while stop > start:
            first = max(start, stop - PIECE_OFFSETS)
            kept: deque[Behind] = deque()
            size = 0
            async with aclosing(self._read(first, stop)) as sources:
                async for source in sources:
                    if (one := _behind(source)) is not None:
                        kept.append(one)
                        size += len(one.content)
                    while size > PIECE_BYTES and len(kept) > 1:
                        size -= len(kept[0].content)
                        first = kept.popleft().offset + 1
            stop = first
            while kept:
                yield kept.pop()

    async def _read(self, start: int, stop: int | None) -> AsyncGenerator[Source, None]:
        reader = self._broker.reader()
        try:
            await reader.open({self._place: start})
            while sources := await reader.read(self._place, READ_RECORDS_MAX, stop):
                for source in sources:
                    yield source
        finally:
            await reader.close()


def _behind(source: Source, reached: Mapping[type[Entry], int] | None = None) -> Behind | None:
    """A record as an entry that may be chained; None if it is none, or has a number that was reached before."""
    try:
        linked = decode_link(source.value)
        if reached is not None and linked.entry.number <= reached[type(linked.entry)]:
            return None  # a copy
        if type(linked.chain) is not str:
            return None
        return Behind(source.offset, linked.chain, chained(linked.entry))
    except (InvariantError, *NOT_OURS):
        return None
