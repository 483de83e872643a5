"""Labels that come before their event: held until it is scored, in order of their deadlines."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct, structs

from driftline.core.error import InvariantError
from driftline.core.label.life import State
from driftline.core.label.pending import Found
from driftline.core.place import OWN
from driftline.core.record import EventId, LabelValue


class Held(Struct, frozen=True, gc=False, array_like=True):
    """A label, without its bytes; it may come before its event. None as a value takes the event's label back.

    Args:
        partition: as of `Waiting`.
    """

    deadline_ms: int
    event_id: EventId
    offset: int
    key: bytes | None
    time_ms: int
    value: LabelValue | None
    partition: int = OWN


_pack_held = msgspec.msgpack.Encoder().encode
_unpack_held = msgspec.msgpack.Decoder(Held).decode
_pack = msgspec.msgpack.Encoder().encode
_HeldKey: TypeAlias = EventId | tuple[EventId, int]  # the number of a label of an event that has several


LOOSE: Final = 1024
NUMBER_MAX: Final = 2**64
_UNKNOWN: Final = Found(State.UNKNOWN)


class EarlyLabels:
    """Labels whose event has not been scored yet, by event id: at most `early_max`, and `each_max` of one event.

    Beyond the first `LOOSE` of them they are packed. That is not part of the state.
    """

    def __init__(self, early_max: int, each_max: int = 1) -> None:
        self.early_max = early_max
        self.each_max = each_max
        self._held: OrderedDict[_HeldKey, bytes | Held] = OrderedDict()
        self._origin_ms = 0
        self._floor_ms = 0  # no deadline lies before it

    def __getstate__(self) -> dict[str, Any]:
        """For pickle, which takes half the time for two strings of bytes. Cost: 0.2 us a label."""
        self._pack_all()
        held = self.__dict__["_held"]
        return {**self.__dict__, "_held": (_pack(list(held)), _pack(list(held.values())))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        keys, values = (msgspec.msgpack.decode(packed) for packed in state["_held"])
        plain = (tuple(key) if isinstance(key, list) else key for key in keys)
        self.__dict__.update(state, _held=OrderedDict(zip(plain, values, strict=True)))

    def checked(self, like: EarlyLabels) -> Iterator[Held]:
        """Every label, each as it must be: for a state that others may have written.

        Args:
            like: an empty one with the bounds that this must have.

        Raises:
            InvariantError: one is not. What cannot be read raises other exceptions too.
        """
        bounds = (self.early_max, self.each_max) == (like.early_max, like.each_max)
        counted = all(type(one) is int and abs(one) < NUMBER_MAX for one in (self._origin_ms, self._floor_ms))
        if not bounds or not counted or vars(self).keys() != vars(like).keys() or len(self) > self.early_max:
            raise InvariantError("early labels are kept under other bounds")
        for key, kept in self._held.items():
            held = self._read(kept if isinstance(kept, bytes) else self._packed(kept))
            if key not in self._keys(held.event_id) or type(key) not in (str, int, float, tuple):
                raise InvariantError("an early label is kept under another id")
            yield held

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, event_id: EventId) -> bool:
        return any(key in self._held for key in self._keys(event_id))

    def _keys(self, event_id: EventId) -> tuple[_HeldKey, ...]:
        if self.each_max == 1:
            return (event_id,)
        return (event_id, *((event_id, number) for number in range(1, self.each_max)))

    def _read(self, kept: bytes | Held) -> Held:
        if isinstance(kept, Held):
            return kept
        held = _unpack_held(kept)
        return structs.replace(held, deadline_ms=held.deadline_ms + self._origin_ms) if self._origin_ms else held

    def look(self, event_id: EventId) -> Found:
        """What is known of an event that has not come: the first label that is held of it."""
        for key in self._keys(event_id) if self.each_max > 1 else (event_id,):
            if (kept := self._held.get(key)) is not None:
                return Found(State.HELD, label=self._read(kept).value)
        return _UNKNOWN

    def hold(self, held: Held) -> bool:
        """Keep a label; false if as many as may be of its event are held."""
        kept = self._held
        for key in self._keys(held.event_id) if self.each_max > 1 else (held.event_id,):
            if key not in kept:
                if not kept:
                    self._floor_ms = held.deadline_ms
                kept[key] = held if len(kept) < LOOSE else self._packed(held)
                return True
        return False

    def replace(self, held: Held) -> None:
        """Another label instead of the first one held of an event, in its place."""
        for key in self._keys(held.event_id):
            if (kept := self._held.get(key)) is not None:
                instead = structs.replace(held, deadline_ms=self._read(kept).deadline_ms)
                self._held[key] = instead if len(self._held) < LOOSE else self._packed(instead)
                return
        raise InvariantError("no label of the event is held")

    def _packed(self, held: Held) -> bytes:
        return _pack_held(structs.replace(held, deadline_ms=held.deadline_ms - self._origin_ms))

    def _pack_all(self) -> None:
        for key, held in self._held.items():
            if isinstance(held, Held):
                self._held[key] = self._packed(held)

    def crowded(self) -> Held | None:
        """Take out the oldest label, if more are held than may be."""
        return self._read(self._held.popitem(last=False)[1]) if len(self._held) > self.early_max else None

    def take(self, event_id: EventId) -> tuple[Held, ...]:
        """Take out the labels of an event, in the order in which they came."""
        if not self._held:
            return ()
        if self.each_max == 1:
            only = self._held.pop(event_id, None)
            if only is None:
                return ()
            return (only if type(only) is Held else self._read(only),)
        kept = [self._held.pop(key, None) for key in self._keys(event_id)]
        return tuple(self._read(one) for one in kept if one is not None)

    @property
    def next_deadline_ms(self) -> int | None:
        for kept in self._held.values():
            return self._read(kept).deadline_ms
        return None

    def expire(self, watermark_ms: int) -> Sequence[Held]:
        """Take out, oldest first, every label whose deadline lies before the watermark."""
        if not self._held or watermark_ms <= self._floor_ms:
            return ()
        expired = []
        while (deadline_ms := self.next_deadline_ms) is not None:
            if deadline_ms >= watermark_ms:
                self._floor_ms = deadline_ms
                break
            expired.append(self._read(self._held.popitem(last=False)[1]))
        return expired

    def begin_at(self, time_ms: int) -> None:
        """Time begins: what is held since before counts from here."""
        self._pack_all()
        self._origin_ms += time_ms
        self._floor_ms += time_ms

    def postpone(self, by_ms: int) -> None:
        """Move every deadline; a negative number brings them nearer. Their order stays."""
        self.begin_at(by_ms)
