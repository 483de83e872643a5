"""Events that wait for their label or are remembered.

One ledger holds every event that a shard still knows: those that wait for their label, those whose label may still be
corrected, and those whose id alone is remembered, so that repeats are recognized. They lie in a `store`, by index, and
one dict leads from an id to its index. All deadlines are the watermark at arrival plus a span that is the same for
all, and the watermark never goes back: so the order of arrival is the order of every deadline, and each kind of ending
is one pointer that moves over the indexes and never back. Every operation is amortised O(1).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec import structs

from driftline.core.error import InvariantError
from driftline.core.label.fate import GONE, LABELLED, WAITING, Fate
from driftline.core.label.life import BARE
from driftline.core.label.pending import Found, Settled, Waiting
from driftline.core.label.segment import Segment, SegmentState, View
from driftline.core.label.store import SHIFT, SLOT, Store
from driftline.core.output import Decision
from driftline.core.record import EventId, LabelValue


class Ledger(Store):
    """Every event that a shard knows, by event id; `len` is the number of those that wait.

    Args:
        wait_ms: how long an event waits for its label.
        pending_max: most events that wait at once.
        horizon_ms, id_max: how long, and how many, event ids are remembered.
        correct_ms, correct_max: how long after a label came, and of how many events, it may be corrected.
        keep: the fates after which it may.

    Invariant: an event is in the dict while it waits, or may be corrected, or is remembered.
    """

    def __init__(
        self,
        *,
        wait_ms: int = 0,
        pending_max: int = 0,
        horizon_ms: int = 0,
        id_max: int = 1,
        correct_ms: int = 0,
        correct_max: int = 0,
        keep: frozenset[Fate] = frozenset(),
    ) -> None:
        self.wait_ms, self.pending_max = wait_ms, pending_max
        self.horizon_ms, self.id_max = horizon_ms, id_max
        self.correct_ms, self.correct_max = correct_ms, correct_max
        self.keep = keep
        self._begin()

    def _begin(self) -> None:
        self._begin_store()
        self._indexes: dict[EventId, int] = {}
        self._views = 0  # how many were taken
        self._remembered = 0  # ids from this index on are remembered
        self._over = 0  # `ended` has reported the waits of all events before this number
        self._waiting_count = 0
        self._kept: deque[int] = deque()  # indexes whose label may be corrected, in order of `until_ms`
        # Each is a bound that says early on that there is nothing to be done; none is part of the state.
        self._waiting_floor = 0  # none that waits was seen before it
        self._remembered_floor = 0  # none that is remembered was seen before it
        self._kept_floor_ms = 0  # no correction ends before it

    def __len__(self) -> int:
        return self._waiting_count

    def __contains__(self, event_id: EventId) -> bool:
        """Whether the event waits for its label."""
        index = self._indexes.get(event_id)
        return index is not None and self.fate(index) == WAITING

    @property
    def known_count(self) -> int:
        """Events that wait, may be corrected or are remembered."""
        return len(self._indexes)

    @property
    def remembered_count(self) -> int:
        return self._end - self._remembered

    @property
    def kept_count(self) -> int:
        """Events whose label may still be corrected."""
        return len(self._kept)

    # -- events

    def find(self, event_id: EventId, now_ms: int) -> int | None:
        """The index of an event that is known; what is too old is forgotten first."""
        least = now_ms - self.horizon_ms - self._origin_ms
        if least > self._remembered_floor:
            self._forget_before(least)
        return self._indexes.get(event_id)

    def look(self, event_id: EventId, now_ms: int) -> Found | None:
        """What is known of an event; what is too old is forgotten first."""
        least = now_ms - self.horizon_ms - self._origin_ms  # `find`, without a call
        if least > self._remembered_floor:
            self._forget_before(least)
        index = self._indexes.get(event_id)
        if index is None:
            return None
        segment, slot = self._segments[index >> SHIFT], index & SLOT
        if segment.notes or isinstance(waiting := segment.packed[slot], bytes):
            return self.at(index)
        return Found(BARE[segment.fates[slot]], index, waiting)  # as `at` does, without a call

    def add(self, event_id: EventId, now_ms: int, waiting: Waiting | None) -> int:
        """Remember an event that is not known yet; without `waiting`, it waits for nothing. Returns its index."""
        index = self._append(event_id, now_ms, waiting)
        self._indexes[event_id] = index
        if waiting is not None:
            self._waiting_count += 1
        while index - self._remembered >= self.id_max:  # more than one where the maximum was lowered
            self._forget_one()
        return index

    def crowded(self) -> int | None:
        """The index of the oldest event that waits, if more wait than may."""
        return self.first_waiting() if self._waiting_count > self.pending_max else None

    def due(self, watermark_ms: int) -> Sequence[int]:
        """Places, oldest first, of the events whose deadline lies before the watermark. The caller settles each."""
        least = watermark_ms - self.wait_ms - self._origin_ms
        if least <= self._waiting_floor or not self._waiting_count:
            return ()
        found: list[int] = []
        while (index := self.first_waiting()) is not None:
            seen = self._segments[index >> SHIFT].seen[index & SLOT]
            if seen >= least:
                self._waiting_floor = seen
                return found
            found.append(index)
            self._oldest = index + 1
        self._waiting_floor = least
        return found

    def ended(self, watermark_ms: int) -> Sequence[bool]:
        """Of each event whose wait is over since this was last asked, in order of arrival: whether its label came.

        To be asked once what is `due` is settled. An event that was forgotten meanwhile had its label.
        """
        least = watermark_ms - self.wait_ms - self._origin_ms
        index, end, segments = self._over, self._end, self._segments
        found: list[bool] = []
        while index < end:
            segment = segments.get(index >> SHIFT)
            if segment is None:
                after = min(((index >> SHIFT) + 1) << SHIFT, end)
                found += [True] * (after - index)
                index = after
                continue
            slot = index & SLOT
            if segment.seen[slot] >= least:
                break
            found.append(segment.fates[slot] in (LABELLED, GONE))
            index += 1
        self._over = index
        return found

    def young(self, watermark_ms: int) -> int:
        """How many of the events that ever came have a wait that is not over, labelled or not.

        A segment of events that are all forgotten counts as over, as in `ended`. Cost: O(log n).
        """
        least = watermark_ms - self.wait_ms - self._origin_ms
        low, high = next(iter(self._segments), 0), (self._end - 1) >> SHIFT
        first = self._end
        while low <= high:
            middle = (low + high) // 2
            number = self._number_from(middle)  # of those between, all events are gone
            segment = self._segments.get(number) if number <= high else None
            if segment is None or not segment.seen:
                high = middle - 1
            elif segment.seen[-1] < least:
                low = number + 1
            else:
                first = (number << SHIFT) + bisect_left(segment.seen, least)
                high = middle - 1
        return self._end - first

    def pass_over(self, watermark_ms: int) -> None:
        """Let `ended` begin with the events whose wait is not over yet."""
        least = watermark_ms - self.wait_ms - self._origin_ms
        self._over = self._end
        for segment in self._segments.values():
            slot = bisect_left(segment.seen, least)
            if slot < len(segment.seen):
                self._over = (segment.number << SHIFT) + slot
                return

    @property
    def next_deadline_ms(self) -> int | None:
        index = self.first_waiting()
        if index is None:
            return None
        return self._segments[index >> SHIFT].seen[index & SLOT] + self._origin_ms + self.wait_ms

    def begin_at(self, time_ms: int) -> None:
        """Time begins: what came before counts from here."""
        self._origin_ms += time_ms

    def knows(self, event_id: EventId) -> bool:
        """Whether the event is known; nothing is forgotten by asking."""
        return event_id in self._indexes

    # -- what became of them

    def settle(
        self,
        index: int,
        fate: Fate,
        now_ms: int,
        number: int = 0,
        label: LabelValue | None = None,
        label_time_ms: int | None = None,
        decision: Decision | None = None,
    ) -> None:
        """An event waits no longer; what it carries is kept where its label may be corrected.

        Args:
            decision: what its label was held against, where that is not what it was served with.
        """
        segment, slot = self._segments[index >> SHIFT], index & SLOT  # `_changing`, without a call
        if segment.guarded:
            segment.preserve()
        self._waiting_count -= 1
        segment.fates[slot] = fate
        if fate in self.keep and self.correct_max:
            self._pack(segment, slot)
            segment.notes[slot] = Settled(now_ms + self.correct_ms, number, label, label_time_ms, decision)
            self._kept.append(index)
            while len(self._kept) > self.correct_max:  # more than one where the maximum was lowered
                self._let_go_oldest()
            return
        segment.packed[slot] = None
        if segment.notes:
            segment.notes.pop(slot, None)
        if index < self._remembered:
            self._remove(segment, slot)

    def count_label(self, index: int) -> int:
        """One more label for an event that waits for several; returns how many it got."""
        segment, slot = self._changing(index)
        self._pack(segment, slot)
        note = segment.notes.get(slot, 0)
        count = note + 1 if isinstance(note, int) else 1
        segment.notes[slot] = count
        return count

    def gather(self, index: int, text: str, label_time_ms: int) -> None:
        """Keep what an event that waits has earned so far.

        Args:
            text: all of it.
            label_time_ms: event time of the first reward.
        """
        segment, slot = self._changing(index)
        segment.notes[slot] = Settled(0, 0, text, label_time_ms)

    def change(self, index: int, fate: Fate, number: int, label: LabelValue | None, label_time_ms: int | None) -> None:
        """The label of an event was corrected or retracted; how long it may be stays as it was."""
        note = self.settled(index)
        if note is None:
            raise InvariantError(f"the event at index {index} has no label that could be changed")
        segment, slot = self._changing(index)
        segment.fates[slot] = fate
        segment.notes[slot] = Settled(note.until_ms, number, label, label_time_ms, note.decision)

    def correct_for(self, correct_ms: int) -> None:
        """Labels may be corrected so long after they came from now on, those that came before too."""
        longer_ms, self.correct_ms = correct_ms - self.correct_ms, correct_ms
        self._kept_floor_ms = 0
        for index in self._kept if longer_ms else ():
            note = self.settled(index)
            if note is not None:
                segment, slot = self._changing(index)
                segment.notes[slot] = structs.replace(note, until_ms=note.until_ms + longer_ms)

    def let_go_corrected(self, now_ms: int) -> None:
        """End the time for corrections where it is over."""
        if now_ms <= self._kept_floor_ms:
            return
        while self._kept:
            note = self.settled(self._kept[0])
            if note is not None and note.until_ms >= now_ms:
                self._kept_floor_ms = note.until_ms
                return
            self._let_go_oldest()
        self._kept_floor_ms = now_ms

    def _let_go_oldest(self) -> None:
        index = self._kept.popleft()
        segment, slot = self._changing(index)
        segment.packed[slot] = None
        segment.notes.pop(slot, None)
        if index < self._remembered:
            self._remove(segment, slot)

    # -- forgetting

    def _forget_before(self, least: int) -> None:
        """Forget the ids that were seen before."""
        index, end, segments = self._remembered, self._end, self._segments
        while index < end:
            segment, slot = segments[index >> SHIFT], index & SLOT
            seen = segment.seen[slot]
            if seen >= least:
                self._remembered, self._remembered_floor = index, seen
                return
            if segment.packed[slot] is None:
                self._remove(segment, slot)
            index += 1
        self._remembered, self._remembered_floor = index, least

    def _forget_one(self) -> None:
        index = self._remembered
        self._remembered = index + 1
        segment, slot = self._segments[index >> SHIFT], index & SLOT
        if segment.packed[slot] is None:
            self._remove(segment, slot)

    def _remove(self, segment: Segment, slot: int) -> None:
        """Nothing needs the event any more."""
        if segment.guarded:
            segment.preserve()
        event_id = segment.ids[slot]
        if event_id is None:
            raise InvariantError("an event was to be forgotten twice")
        del self._indexes[event_id]
        segment.ids[slot] = None
        segment.fates[slot] = GONE
        segment.alive -= 1
        if not segment.alive and segment is not self._open:
            del self._segments[segment.number]

    # -- all of it

    def entries(self) -> Iterator[tuple[EventId, Waiting]]:
        """Every event that waits, oldest first."""
        for segment in self._segments.values():
            for slot, fate in enumerate(segment.fates):
                index = (segment.number << SHIFT) + slot
                if fate == WAITING and (waiting := self.waiting(index)) is not None:
                    yield self.id_at(index), waiting

    def view(self) -> View:
        """The ledger as it is now, until it is released or the next one is taken.

        Cost: 0.2 us a segment, and 10 ns a label that may be corrected; a segment copies itself at its next change.
        """
        self._pack_before(self._end)
        self._views += 1
        for segment in self._segments.values():
            segment.show(self._views)
        return View(self._views, self._numbers(), array("q", self._kept).tobytes(), tuple(self._segments.values()))

    def _numbers(self) -> dict[str, Any]:
        return {
            "wait_ms": self.wait_ms,
            "pending_max": self.pending_max,
            "horizon_ms": self.horizon_ms,
            "id_max": self.id_max,
            "correct_ms": self.correct_ms,
            "correct_max": self.correct_max,
            "keep": sorted(self.keep),
            "end": self._end,
            "remembered": self._remembered,
            "over": self._over,
            "origin_ms": self._origin_ms,
        }

    @classmethod
    def of(cls, numbers: dict[str, Any], kept: bytes, states: Iterable[SegmentState]) -> Ledger:
        """A ledger from the parts of a view; whatever of a segment its fates say is gone is passed over."""
        ledger = cls.begun(numbers, kept)
        for state in states:
            ledger.take_up(state)
        return ledger

    @classmethod
    def begun(cls, numbers: dict[str, Any], kept: bytes) -> Ledger:
        """A ledger whose segments are still to be taken up, in order."""
        ledger = cls.__new__(cls)
        for name in ("wait_ms", "pending_max", "horizon_ms", "id_max", "correct_ms", "correct_max"):
            setattr(ledger, name, int(numbers[name]))
        ledger.keep = frozenset(numbers["keep"])
        ledger._begin()
        ledger._end, ledger._remembered = int(numbers["end"]), int(numbers["remembered"])
        ledger._over = int(numbers["over"])
        ledger._loose = ledger._end
        ledger._origin_ms = int(numbers["origin_ms"])
        ledger._kept.extend(array("q", kept))
        ledger._waiting_floor = ledger._remembered_floor = ledger._kept_floor_ms = -(2**62)
        return ledger

    def take_up(self, state: SegmentState) -> None:
        """Add a segment as it was."""
        segment = Segment.of(state)
        for slot, event_id in enumerate(segment.ids):
            if event_id is not None:
                self._indexes[event_id] = (segment.number << SHIFT) + slot
        self._waiting_count += segment.fates.count(WAITING)
        self._segments[segment.number] = segment
        self._open = segment if segment.number == (self._end - 1) >> SHIFT else self._open

    def __getstate__(self) -> dict[str, Any]:
        self._pack_before(self._end)
        segments = [segment.parts() for segment in self._segments.values()]
        return {"numbers": self._numbers(), "kept": array("q", self._kept).tobytes(), "segments": segments}

    def __setstate__(self, state: dict[str, Any]) -> None:
        made = Ledger.of(state["numbers"], state["kept"], [_state_of(parts) for parts in state["segments"]])
        self.__dict__.update(made.__dict__)


def _state_of(parts: Sequence[Any]) -> SegmentState:
    number, ids, seen, packed, fates, notes = parts
    return SegmentState(number, ids, array("q", seen), packed, fates, notes)
