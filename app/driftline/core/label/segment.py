"""The ledger's segments, and a view of all of them at one moment.

A full segment gets no new entries; only the fates of its events change, and what they carry is dropped. So a snapshot
writes what a segment carries once, and from then on its fates alone, if they changed.
"""

from __future__ import annotations

from array import array
from typing import Any, Final

from msgspec import Struct

from driftline.core.error import InvariantError
from driftline.core.label.fate import GONE, WAITING
from driftline.core.label.pending import Settled, Waiting
from driftline.core.record import EventId
from driftline.core.segment import CopyOnWrite

SEGMENT: Final = 4096  # events
_ID_TYPES: Final = frozenset({str, int, float, type(None)})


class Segment(CopyOnWrite["SegmentState"]):
    """Events in order of arrival, by slot.

    Attributes:
        ids: None where an event is gone.
        seen: the watermark at arrival, from the ledger's origin on.
        packed: what waits, or may be corrected; None for the rest.
        fates: what became of each.
        notes: the label that may be corrected, or how many labels an event got that waits for more, by slot.
        alive: how many events are not gone.
    """

    __slots__ = ("alive", "fates", "ids", "notes", "packed", "seen")

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.ids: list[EventId | None] = []
        self.seen = array("q")
        self.packed: list[bytes | Waiting | None] = []
        self.fates = bytearray()
        self.notes: dict[int, Settled | int] = {}
        self.alive = 0

    @classmethod
    def of(cls, state: SegmentState) -> Segment:
        """A segment as it was; whatever its fates say is gone is passed over.

        Raises:
            InvariantError: it is not whole.
        """
        segment = cls(state.number)
        segment.guarded = True  # unchanged since it was read
        count = len(state.fates)
        segment.fates = bytearray(state.fates)
        segment.seen, segment.notes = state.seen[:count], dict(state.notes)
        segment.ids, segment.packed = state.ids[:count], state.packed[:count]
        if not set(map(type, segment.ids)) <= _ID_TYPES:  # others could take forever to hash
            raise InvariantError(f"segment {state.number} of the ledger has ids that no event has")
        if not (len(segment.ids) == len(segment.packed) == len(segment.seen) == count <= SEGMENT):
            raise InvariantError(f"segment {state.number} of the ledger is not whole")
        for slot, fate in enumerate(state.fates):
            if fate == GONE:
                segment.ids[slot] = segment.packed[slot] = None
                continue
            if segment.ids[slot] is None:
                raise InvariantError(f"segment {state.number} of the ledger has lost an id")
            segment.alive += 1
            if fate != WAITING and slot not in segment.notes:
                segment.packed[slot] = None
        return segment

    @property
    def full(self) -> bool:
        return len(self.fates) == SEGMENT

    def now(self) -> SegmentState:
        return SegmentState(self.number, self.ids, self.seen, self.packed, bytes(self.fates), self.notes)

    def copied(self) -> SegmentState:
        return SegmentState(
            self.number, list(self.ids), self.seen[:], list(self.packed), bytes(self.fates), dict(self.notes)
        )

    def parts(self) -> tuple[Any, ...]:
        """What pickle keeps of it as it is now, for `SegmentState`."""
        return self.number, self.ids, self.seen.tobytes(), self.packed, bytes(self.fates), self.notes


class SegmentState(Struct, frozen=True):
    """A segment at one moment; see `Segment`."""

    number: int
    ids: list[EventId | None]
    seen: array[int]
    packed: list[bytes | Waiting | None]
    fates: bytes
    notes: dict[int, Settled | int]

    @property
    def full(self) -> bool:
        return len(self.fates) == SEGMENT

    @property
    def carried(self) -> int:
        """How many events carry something: they wait, or their label may be corrected."""
        return self.fates.count(WAITING) + sum(isinstance(note, Settled) for note in self.notes.values())


class View(Struct, frozen=True):
    """A ledger at one moment: its numbers, the places whose label may be corrected in order, and its segments.

    Args:
        number: of the view, since the ledger was made.
    """

    number: int
    numbers: dict[str, Any]
    kept: bytes
    segments: tuple[Segment, ...]

    def release(self) -> None:
        """It is needed no more."""
        for segment in self.segments:
            segment.release()
