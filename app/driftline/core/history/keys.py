"""The past by key: packed, in segments in order of last use, the least recent let go.

Each key's past is one string of bytes (msgpack). Keys lie in segments of 4,096; one that is used moves to the end of
the last segment and leaves a gap. So a snapshot writes the segments that were opened since the last one, and of the
others only which keys have left; and the first key of the first segment is the least recently used one. Neighbouring
segments that are mostly gaps are merged.

As with the ledger (`label.ledger`), `view` holds on to the segments as they are at no cost (`core.segment`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from driftline.core.error import InvariantError
from driftline.core.history.plan import Past
from driftline.core.segment import CopyOnWrite

SEGMENT: Final = 4096
TURN: Final = 1_000  # keys between two pauses, when all are looked at
NUMBER_MAX: Final = 2**60
MERGES_MAX: Final = 8  # at once: 0.5 ms each
STORE_SHIFT: Final = 40
"""The numbers of segments begin at the store's shifted by so much: so none is another's, nor one of the ledger's."""

_SHIFT: Final = 12
_SLOT: Final = SEGMENT - 1

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Any]).decode


class KeySegment(CopyOnWrite["KeyState"]):
    """Keys in order of last use, by slot.

    Attributes:
        keys, pasts: None where a key has left.
        alive: how many have not.
        full: no key will be added.
    """

    __slots__ = ("alive", "full", "keys", "pasts")

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.keys: list[bytes | None] = []
        self.pasts: list[bytes | None] = []
        self.alive = 0
        self.full = False

    def now(self) -> KeyState:
        return KeyState(self.number, self.keys, self.pasts, self.full)

    def copied(self) -> KeyState:
        return KeyState(self.number, list(self.keys), list(self.pasts), self.full)


class KeyState(Struct, frozen=True):
    """A segment at one moment; see `KeySegment`."""

    number: int
    keys: list[bytes | None]
    pasts: list[bytes | None]
    full: bool

    @property
    def store(self) -> int:
        """Which `by` it is of, from 1 in the order of the plan."""
        return self.number >> STORE_SHIFT

    @property
    def carried(self) -> int:
        """How many keys have not left."""
        return len(self.keys) - self.keys.count(None)


class KeyView(Struct, frozen=True):
    """The keys at one moment: their numbers and segments."""

    number: int
    numbers: dict[str, Any]
    segments: tuple[KeySegment, ...]

    def release(self) -> None:
        """It is needed no more."""
        for segment in self.segments:
            segment.release()


class Keys:
    """The past of every key of one `by`; `len` is the number of keys.

    Args:
        store: which `by` it is, from 1 in the order of the plan.
        keys_max: most keys.

    Attributes:
        evicted: how many keys were let go.
        late: how often an event, or a label, was too old for a window.
        keyless: how many events had no key.
    """

    def __init__(self, store: int, by: Sequence[str], keys_max: int) -> None:
        self.store = store
        self.by = tuple(by)
        self.keys_max = keys_max
        self.evicted = self.late = self.keyless = 0
        self._places: dict[bytes, int] = {}
        self._segments: dict[int, KeySegment] = {}
        self._next = store << STORE_SHIFT
        self._from = 0  # slot of the first segment before which all have left
        self._views = 0
        self._open = self._new()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def find(self, key: bytes) -> Past | None:
        """A key's past; a copy, which counts once it is kept."""
        place = self._places.get(key)
        if place is None:
            return None
        kept = self._segments[place >> _SHIFT].pasts[place & _SLOT]
        if kept is None:
            raise InvariantError(f"the past of key {key!r} is gone")
        return _unpack(kept)

    def keep(self, key: bytes, past: Past) -> None:
        """Put a key's past in place of what was there; the key is now the most recently used one."""
        packed, place, segment = _pack(past), self._places.get(key), self._open
        if place is not None:
            left, slot = self._segments[place >> _SHIFT], place & _SLOT
            if left.guarded or left.alive == 1:
                self._leave(place)
            else:  # mostly, without a call
                left.keys[slot] = left.pasts[slot] = None
                left.alive -= 1
        if segment.full:
            segment = self._turn()
        if segment.guarded:
            segment.preserve()
        self._places[key] = (segment.number << _SHIFT) + len(segment.keys)
        segment.keys.append(key)
        segment.pasts.append(packed)
        segment.alive += 1
        segment.full = len(segment.keys) == SEGMENT
        while len(self._places) > self.keys_max:
            self._evict()

    def _new(self) -> KeySegment:
        segment = self._segments[self._next] = KeySegment(self._next)
        self._next += 1
        return segment

    def _turn(self) -> KeySegment:
        """A new open segment, now that the last one is full; one that all keys have left (as one key had all the
        traffic) goes."""
        if not self._open.alive:
            self._drop(self._open)
        self._merge()
        self._open = self._new()
        return self._open

    def _leave(self, place: int) -> None:
        segment, slot = self._segments[place >> _SHIFT], place & _SLOT
        if segment.guarded:
            segment.preserve()
        segment.keys[slot] = segment.pasts[slot] = None
        segment.alive -= 1
        if not segment.alive and segment is not self._open:
            self._drop(segment)

    def _drop(self, segment: KeySegment) -> None:
        if next(iter(self._segments)) == segment.number:
            self._from = 0
        del self._segments[segment.number]

    def _evict(self) -> None:
        """Let the least recently used key go."""
        segment = next(iter(self._segments.values()))
        slot = self._from
        while (key := segment.keys[slot]) is None:
            slot += 1
        self._from = slot + 1
        self.evicted += 1
        del self._places[key]
        self._leave((segment.number << _SHIFT) + slot)

    def _merge(self) -> None:
        """Neighbours that together are half full at most become one."""
        merges, kept = 0, list[KeySegment]()
        for segment in self._segments.values():
            if kept and kept[-1].alive + segment.alive <= SEGMENT // 2 and merges < MERGES_MAX:
                kept.append(self._merged(kept.pop(), segment))
                merges += 1
            else:
                kept.append(segment)
        if merges:
            self._from = 0
            self._segments = {segment.number: segment for segment in kept}

    def _merged(self, earlier: KeySegment, later: KeySegment) -> KeySegment:
        """Under a number of its own: what a snapshot has under theirs is something else."""
        made = KeySegment(self._next)
        self._next += 1
        made.full = True
        for segment in (earlier, later):
            if segment.guarded:
                segment.preserve()
            for key, past in zip(segment.keys, segment.pasts, strict=True):
                if key is not None:
                    self._places[key] = (made.number << _SHIFT) + len(made.keys)
                    made.keys.append(key)
                    made.pasts.append(past)
        made.alive = len(made.keys)
        return made

    # -- all of it

    def view(self) -> KeyView:
        """The keys as they are now, until the view is released or the next one is taken. Cost: 0.2 us a segment."""
        self._views += 1
        for segment in self._segments.values():
            segment.show(self._views)
        return KeyView(self._views, self.numbers(), tuple(self._segments.values()))

    @property
    def segments(self) -> Sequence[KeySegment]:
        """In order of last use."""
        return tuple(self._segments.values())

    def numbers(self) -> dict[str, Any]:
        """What is kept beside the segments."""
        return {
            "by": list(self.by),
            "evicted": self.evicted,
            "late": self.late,
            "keyless": self.keyless,
            "next": self._next,
            "open": self._open.number,
        }

    def begin(self, numbers: dict[str, Any]) -> None:
        """Take over the numbers of a state; its segments are to be taken up in order.

        Raises:
            InvariantError: they are of another `by`.
        """
        if tuple(numbers["by"]) != self.by:
            raise InvariantError(f"the state keeps a history by {numbers['by']}, not by {list(self.by)}")
        self.evicted, self.late, self.keyless = (int(numbers[name]) for name in ("evicted", "late", "keyless"))
        self._places, self._segments, self._from = {}, {}, 0
        self._next = int(numbers["next"])
        self._open = KeySegment(int(numbers["open"]))  # until it is taken up

    def take_up(self, state: KeyState) -> None:
        """Add a segment as it was.

        Raises:
            InvariantError: it is not whole.
        """
        if not len(state.keys) == len(state.pasts) <= SEGMENT or not state.number < self._next:
            raise InvariantError(f"segment {state.number} of the history is not whole")
        segment = KeySegment(state.number)
        segment.guarded = True  # unchanged since it was read
        segment.full = bool(state.full)
        for slot, (key, past) in enumerate(zip(state.keys, state.pasts, strict=True)):
            if (key is None) != (past is None) or (key is not None and not (type(key) is type(past) is bytes)):
                raise InvariantError(f"segment {state.number} of the history has keys without a past")
            segment.keys.append(key)
            segment.pasts.append(past)
            if key is not None:
                self._places[key] = (segment.number << _SHIFT) + slot
                segment.alive += 1
        is_open = segment.number == self._open.number
        if segment.alive or is_open:
            self._segments[segment.number] = segment
        if is_open:
            self._open = segment

    def whole(self) -> None:
        """All segments were taken up.

        Raises:
            InvariantError: the one to which keys are added is not among them.
        """
        if self._segments.get(self._open.number) is not self._open:
            raise InvariantError(f"the history lacks segment {self._open.number}, to which keys are added")

    def check(self, fits: Callable[[Past], bool] | None) -> Iterator[None]:
        """Look at every key's past, pausing now and then: for a state that others may have written.

        Args:
            fits: whether a list is the past of a key; None where any may be.

        Raises:
            InvariantError: one is not as it must be. What cannot be read raises other exceptions too.
        """
        numbers = (self.evicted, self.late, self.keyless)
        first, last = self.store << STORE_SHIFT, self._next
        if not all(0 <= one < NUMBER_MAX for one in numbers) or not first < last < first + (1 << STORE_SHIFT) // 2:
            raise InvariantError("the history has impossible counts")
        if sum(segment.alive for segment in self._segments.values()) != len(self._places):
            raise InvariantError("the history has two pasts of one key")
        if self._open.full != (len(self._open.keys) == SEGMENT):
            raise InvariantError(f"segment {self._open.number} of the history has no end")
        for segment in self._segments.values():
            for number, past in enumerate(segment.pasts):
                if past is not None and fits is not None and not fits(_unpack(past)):
                    raise InvariantError(f"the past of key {segment.keys[number]!r:.80} is none that is kept")
                if number % TURN == 0:
                    yield

    def __getstate__(self) -> dict[str, Any]:
        return {"numbers": self.numbers(), "segments": [_parts(one) for one in self._segments.values()]}


def _parts(segment: KeySegment) -> tuple[int, list[bytes | None], list[bytes | None], bool]:
    return segment.number, segment.keys, segment.pasts, segment.full
