"""Events that wait for their label, labels that wait for their event, and ids already seen.

All three are first-in first-out by deadline: a deadline is the watermark when the entry came plus a fixed wait, and the
watermark never goes back, so insertion order is deadline order and expiry looks at the head only. All three are
bounded; what happens at the bound is the caller's policy, and is counted there.

What waits is packed: one string of bytes for the two dozen objects that an event with ten features is made of. They
would be spread over memory by the time the label comes, and to fetch them cost more than to unpack.

They are `OrderedDict`s because a plain dict finds its first entry by walking over every one deleted before it: in
steady state that made each event cost 14 us at 100,000 entries, for 0.5 us here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct, structs

from app.core.output import ModelVersion, Prediction
from app.core.record import EventId, FeatureValue, Label


class Waiting(Struct, frozen=True, gc=False, array_like=True):
    """A scored event whose label has not come: what was served, by which model, on which features."""

    deadline_ms: int
    output_id: str
    key: bytes | None
    stamp_ms: int
    time_ms: int
    features: tuple[FeatureValue, ...]
    prediction: Prediction
    version: ModelVersion


class Held(Struct, frozen=True, gc=False):
    """A label that came before its event."""

    deadline_ms: int
    label: Label


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Waiting).decode


def _packed(waiting: Waiting) -> bytes | Waiting:
    try:
        return _pack(waiting)
    except (TypeError, OverflowError):  # a model of the user's own may name classes by what cannot be packed
        return waiting


def _unpacked(kept: bytes | Waiting) -> Waiting:
    return _unpack(kept) if type(kept) is bytes else kept  # type: ignore[return-value]  # not bytes: a Waiting


class Pending:
    """Scored events that wait for their label, by event id. At most `pending_max`."""

    def __init__(self, pending_max: int) -> None:
        self.pending_max = pending_max
        self._waiting: OrderedDict[EventId, bytes | Waiting] = OrderedDict()
        self._floor_ms = 0  # no deadline lies before it

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, event_id: EventId) -> bool:
        return event_id in self._waiting

    def add(self, event_id: EventId, waiting: Waiting) -> tuple[EventId, Waiting] | None:
        """Remember an event; returns the oldest one when it had to make room."""
        if not self._waiting or waiting.deadline_ms < self._floor_ms:
            self._floor_ms = waiting.deadline_ms
        self._waiting[event_id] = _packed(waiting)
        if len(self._waiting) <= self.pending_max:
            return None
        oldest, kept = self._waiting.popitem(last=False)
        return oldest, _unpacked(kept)

    def take(self, event_id: EventId) -> Waiting | None:
        kept = self._waiting.pop(event_id, None)
        return None if kept is None else _unpacked(kept)

    @property
    def next_deadline_ms(self) -> int | None:
        for kept in self._waiting.values():
            return _unpacked(kept).deadline_ms
        return None

    def expire(self, watermark_ms: int) -> Sequence[tuple[EventId, Waiting]]:
        """Take out, oldest first, every event whose deadline lies before the watermark."""
        if watermark_ms <= self._floor_ms:
            return ()
        expired = []
        while self._waiting:
            event_id = next(iter(self._waiting))
            oldest = _unpacked(self._waiting[event_id])
            if oldest.deadline_ms >= watermark_ms:
                self._floor_ms = oldest.deadline_ms
                break
            del self._waiting[event_id]
            expired.append((event_id, oldest))
        return expired

    def begin_at(self, time_ms: int) -> None:
        """Time begins: what waits since before counts from here."""
        self._floor_ms += time_ms
        for event_id, kept in self._waiting.items():
            waiting = _unpacked(kept)
            self._waiting[event_id] = _packed(structs.replace(waiting, deadline_ms=waiting.deadline_ms + time_ms))


class EarlyLabels:
    """Labels whose event has not been scored yet, by event id: one each, at most `early_max`."""

    def __init__(self, early_max: int) -> None:
        self.early_max = early_max
        self._held: OrderedDict[EventId, Held] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, event_id: EventId) -> bool:
        return event_id in self._held

    def hold(self, held: Held) -> Held | None:
        """Keep a label; returns the oldest one when it had to make room."""
        self._held[held.label.event_id] = held
        if len(self._held) <= self.early_max:
            return None
        return self._held.popitem(last=False)[1]

    def take(self, event_id: EventId) -> Held | None:
        return self._held.pop(event_id, None)

    @property
    def next_deadline_ms(self) -> int | None:
        for held in self._held.values():
            return held.deadline_ms
        return None

    def expire(self, watermark_ms: int) -> Sequence[Held]:
        """Take out, oldest first, every label whose deadline lies before the watermark."""
        expired = []
        while self._held:
            event_id = next(iter(self._held))
            if self._held[event_id].deadline_ms >= watermark_ms:
                break
            expired.append(self._held.pop(event_id))
        return expired

    def begin_at(self, time_ms: int) -> None:
        """Time begins: what is held since before counts from here."""
        for event_id, held in self._held.items():
            self._held[event_id] = structs.replace(held, deadline_ms=held.deadline_ms + time_ms)


Fate = Literal["waiting", "labelled", "expired"]
_FATES: tuple[Fate, ...] = ("waiting", "labelled", "expired")


class Seen:
    """Event ids seen within a horizon, and what became of each: repeats and second labels are told by it.

    Forgets ids that are older than `horizon_ms` behind the watermark, and the oldest beyond `id_max`.
    """

    def __init__(self, horizon_ms: int, id_max: int) -> None:
        self.horizon_ms = horizon_ms
        self.id_max = id_max
        self._fates: OrderedDict[EventId, int] = OrderedDict()  # 4 * the time it was seen + its fate's number
        self._floor_ms = 0  # nothing was seen before it

    def __len__(self) -> int:
        return len(self._fates)

    def fate(self, event_id: EventId, now_ms: int) -> Fate | None:
        """What became of an event; None for one not seen, or forgotten."""
        self._forget(now_ms)
        known = self._fates.get(event_id)
        return None if known is None else _FATES[known & 3]

    def add(self, event_id: EventId, now_ms: int) -> None:
        """Remember an event that is not remembered yet."""
        if not self._fates:
            self._floor_ms = now_ms
        self._fates[event_id] = now_ms << 2
        while len(self._fates) > self.id_max:  # more than one where the maximum was lowered
            self._fates.popitem(last=False)

    def _forget(self, now_ms: int) -> None:
        least_ms = now_ms - self.horizon_ms
        if self._floor_ms >= least_ms:
            return
        fates = self._fates
        while fates:
            seen_ms = fates[next(iter(fates))] >> 2
            if seen_ms >= least_ms:
                self._floor_ms = seen_ms
                break
            fates.popitem(last=False)

    def settle(self, event_id: EventId, fate: Fate) -> None:
        known = self._fates.get(event_id)
        if known is not None:
            self._fates[event_id] = known & ~3 | _FATES.index(fate)

    def begin_at(self, time_ms: int) -> None:
        """Time begins: what was seen before counts from here."""
        self._floor_ms += time_ms
        for event_id, known in self._fates.items():
            self._fates[event_id] = known + (time_ms << 2)
