"""Events by index, in segments: what each carries, what became of it, and what is packed when.

An event's *index* is its number since the first; indexes lie in segments of 4,096, in order of arrival, and a segment
whose events are all gone is let go. Nothing here knows of ids, deadlines or rules: that is the `ledger`.

What waits long is packed (`pending`). The newest `LOOSE` events stay as they are, since many a label comes at once.
What is read twice is packed before: so two readings never share an object, whenever a snapshot was taken, and neither
view nor pickle shows what was packed when.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from driftline.core.error import InvariantError
from driftline.core.label.cause import Known
from driftline.core.label.fate import EXPIRED, WAITING, Fate
from driftline.core.label.life import BARE, NOTED
from driftline.core.label.pending import Found, Settled, Waiting, pack, unpack
from driftline.core.label.segment import SEGMENT, Segment
from driftline.core.record import EventId

LOOSE: Final = 1024
SHIFT: Final = 12
SLOT: Final = SEGMENT - 1


class Store:
    """See the module; `Ledger` is built on it."""

    def _begin_store(self) -> None:
        self._segments: dict[int, Segment] = {}
        self._open: Segment | None = None  # the one that gets the next event
        self._end = 0  # the index of the next event
        self._origin_ms = 0  # what times in the segments count from
        self._room = bytearray()  # to pack in
        self._loose = 0  # what waits before this index is packed
        self._oldest = 0  # no event before this index waits; not part of the state

    @property
    def segments(self) -> Sequence[Segment]:
        """In order of arrival."""
        return tuple(self._segments.values())

    def at(self, index: int) -> Found:
        """What is known of the event at an index."""
        segment, slot = self._segments[index >> SHIFT], index & SLOT
        fate, kept = segment.fates[slot], segment.packed[slot]
        waiting = unpack(segment.ids[slot], kept) if isinstance(kept, bytes) else kept
        note = segment.notes.get(slot) if segment.notes else None
        if note is None:
            return Found(BARE[fate], index, waiting)
        if isinstance(note, int):
            return Found(NOTED[fate], index, waiting)
        return Found(NOTED[fate], index, waiting, note, note.label)

    def fate(self, index: int) -> Fate:
        return self._segments[index >> SHIFT].fates[index & SLOT]

    def id_at(self, index: int) -> EventId:
        event_id = self._segments[index >> SHIFT].ids[index & SLOT]
        if event_id is None:
            raise InvariantError(f"the event at index {index} is gone")
        return event_id

    def seen_ms(self, index: int) -> int:
        """The watermark when the event came."""
        return self._segments[index >> SHIFT].seen[index & SLOT] + self._origin_ms

    def waiting(self, index: int) -> Waiting | None:
        """What an event carries; None once it neither waits nor may be corrected."""
        segment, slot = self._segments[index >> SHIFT], index & SLOT
        kept = segment.packed[slot]
        return unpack(segment.ids[slot], kept) if isinstance(kept, bytes) else kept

    def unsettled(self, index: int) -> Waiting | None:
        """What an event carries that waits for its label; None of any other."""
        segment, slot = self._segments[index >> SHIFT], index & SLOT
        if segment.fates[slot] != WAITING:
            return None
        kept = segment.packed[slot]
        return unpack(segment.ids[slot], kept) if isinstance(kept, bytes) else kept

    def settled(self, index: int) -> Settled | None:
        """The label of an event that may still be corrected."""
        note = self._segments[index >> SHIFT].notes.get(index & SLOT)
        return note if isinstance(note, Settled) else None

    def oldest(self) -> EventId | None:
        """The id of the first event that is still known."""
        for segment in self._segments.values():
            for event_id in segment.ids:
                if event_id is not None:
                    return event_id
        return None

    def newest_ms(self) -> int | None:
        """The watermark when the last event came; None where it is forgotten."""
        index = self._end - 1
        return self.seen_ms(index) if index >> SHIFT in self._segments else None

    def latest(self, count: int) -> list[Known]:
        """The newest events that are known, oldest first, those that wait before others; at most so many."""
        waiting: list[Known] = []
        others: list[Known] = []
        for index in range(self._end - 1, max(-1, self._end - 1 - SEGMENT), -1):
            segment, slot = self._segments.get(index >> SHIFT), index & SLOT
            event_id = None if segment is None else segment.ids[slot]
            if segment is None or event_id is None:
                continue
            if (kept := self.unsettled(index)) is not None:
                waiting.append(Known(event_id, kept.key, waits=True))
                if len(waiting) == count:
                    break
            elif len(others) < count:
                others.append(Known(event_id, None, waits=False))
        return [*others[: count - len(waiting)][::-1], *waiting[::-1]]

    def first_waiting(self) -> int | None:
        """The index of the oldest event that waits."""
        index, end, segments = self._oldest, self._end, self._segments
        while index < end:
            segment = segments.get(index >> SHIFT)
            if segment is not None:
                slot = segment.fates.find(WAITING, index & SLOT)
                if slot >= 0:
                    self._oldest = index = (segment.number << SHIFT) + slot
                    return index
                number = (index >> SHIFT) + 1
            else:
                number = self._number_from(index >> SHIFT)
            index = number << SHIFT
        self._oldest = end
        return None

    def _number_from(self, number: int) -> int:
        """The number of the first segment from this one on; beyond the last where there is none."""
        if number in self._segments:
            return number
        return min((one for one in self._segments if one > number), default=((self._end - 1) >> SHIFT) + 1)

    def _changing(self, index: int) -> tuple[Segment, int]:
        """The segment of an event that is about to be changed, and its slot; a view keeps it as it was."""
        segment = self._segments[index >> SHIFT]
        if segment.guarded:
            segment.preserve()
        return segment, index & SLOT

    def _append(self, event_id: EventId, now_ms: int, waiting: Waiting | None) -> int:
        """Put an event behind the others; without `waiting`, it waits for nothing. Returns its index."""
        index = self._end
        segment = self._open
        if segment is None or not index & SLOT:
            segment = self._next_segment()
        elif segment.guarded:
            segment.preserve()
        self._end = index + 1
        segment.ids.append(event_id)
        segment.seen.append(now_ms - self._origin_ms)
        segment.alive += 1
        segment.packed.append(waiting)
        if waiting is None:
            segment.fates.append(EXPIRED)
            return index
        segment.fates.append(WAITING)
        if index - self._loose >= 2 * LOOSE:
            self._pack_before(index - LOOSE)
        return index

    def _pack_before(self, end: int) -> None:
        """Pack what waits and came before this index."""
        first = self.first_waiting()
        for index in range(end if first is None else max(self._loose, first), end):
            segment = self._segments.get(index >> SHIFT)
            if segment is not None:
                self._pack(segment, index & SLOT)
        self._loose = end

    def _pack(self, segment: Segment, slot: int) -> None:
        waiting, event_id = segment.packed[slot], segment.ids[slot]
        if isinstance(waiting, Waiting) and event_id is not None:
            segment.packed[slot] = pack(event_id, waiting, self._room)

    def _next_segment(self) -> Segment:
        last = self._open
        if last is not None and not last.alive:
            del self._segments[last.number]
        segment = Segment(self._end >> SHIFT)
        self._segments[segment.number] = segment
        self._open = segment
        return segment
