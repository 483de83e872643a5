"""Which entries of a journal a worker with keys accepts.

An entry is accepted if one of the keys sealed it, or if a later one that is sealed follows it in the chain: whoever
wrote that had accepted what came before. So a journal that began without a key, or under one that is given up, is whole
as far as it was taken over. Any other entry is passed over if a sealed one goes on from the entry before it: then a
stranger wrote it. Where neither is so, at the journal's end, the keys do not say whether it is ours, and the user has
to: `Unsigned`.
"""

from __future__ import annotations

import logging
from typing import Literal, TypeAlias

from app.codec.journal import Link, decode_link, follows
from app.codec.keyring import KeyRing
from app.codec.seal import has_seal, is_sealed
from app.core.error import InvariantError, UnsignedStateError
from app.core.record import Source
from app.engine.port import Broker, Place

log = logging.getLogger(__name__)

READ_RECORDS_MAX = 1_000

Unsigned: TypeAlias = Literal["refuse", "trust", "ignore"]
"""What becomes of snapshots and of a journal's last entries that no key of the worker signed."""

WAYS = (
    "Where keys were rotated, give the old one too, behind the new one: DRIFTLINE_SNAPSHOT_KEY=NEW,OLD. Where a key is "
    "set for the first time, or the old one is lost, start once with --unsigned-state trust: what is there is taken as "
    "it is, and signed from then on"
)
IGNORE = ". Where a stranger wrote it, start once with --unsigned-state ignore"


def name_of(place: Place) -> str:
    """How a seal names a journal."""
    return f"{place.topic}-{place.partition}"


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
        self._vouched = -1  # entries up to this offset are vouched for by a later one

    async def accepts(self, source: Source, linked: Link, chain: str, *, signed: bool) -> bool:
        """Whether an entry that follows the one before is ours.

        Args:
            chain: of the entry before.
            signed: that one is known to be ours.

        Raises:
            UnsignedStateError: nothing says so.
        """
        if not self._ring or is_sealed(source.value, self._name, self._ring):
            return True
        if source.offset <= self._vouched:
            return True
        found = await self._look_ahead(source, linked, chain)
        if found is not None:
            return found
        if self._unsigned == "trust":
            self._vouched = source.offset
            return True
        if self._unsigned == "ignore" and signed:
            return False
        with_key = "signed with another key than this worker has" if has_seal(source.value) else "not signed"
        ignore = IGNORE if signed else ""
        raise UnsignedStateError(f"entry {source.offset} of the journal {self._name} is {with_key}. {WAYS}{ignore}")

    def passes_over(self, source: Source) -> bool:
        """Whether a record that is no entry, or does not follow, can be nothing but a stranger's."""
        return bool(self._ring) and not is_sealed(source.value, self._name, self._ring)

    async def _look_ahead(self, source: Source, linked: Link, chain: str) -> bool | None:
        """Whether a later entry that is sealed follows this one or, instead, the one before it; None without any."""
        through, beside = linked.chain, chain
        reader = self._broker.reader(self._place.partition)
        try:
            await reader.open({self._place.topic: source.offset + 1})
            while sources := await reader.read(self._place.topic, READ_RECORDS_MAX, self._stop):
                for later in sources:
                    try:
                        found = decode_link(later.value)
                    except InvariantError:
                        continue
                    sealed = is_sealed(later.value, self._name, self._ring)
                    if follows(found, through):
                        through = found.chain
                        if sealed:
                            self._vouched = later.offset
                            return True
                    elif sealed and follows(found, beside):
                        return False
        finally:
            await reader.close()
        return None
