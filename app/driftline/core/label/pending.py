"""What is kept of a scored event: what it carries while it waits for its label, and the label that it got.

What waits is packed sooner or later: one string of bytes for the two dozen objects that an event with ten features is
made of. By the time the label comes they would be spread over memory, and fetching them costs more than unpacking.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct, structs

from driftline.core.label.life import State
from driftline.core.output import Decision, ModelVersion, Prediction, Stakes, Unserved
from driftline.core.place import OWN
from driftline.core.record import EventId, FeatureValue, LabelValue


class Waiting(Struct, frozen=True, gc=False, array_like=True):
    """A scored event as it waits for its label: what was served, by which model, on which features.

    Args:
        unserved: what else was predicted of it.
        keys: of `core.history`, for histories of labels.
        partition: of the event; `OWN` where it is the shard's own number.
        series: of the guard, that the label is a value of.
        stakes: of KPIs; None where the pipeline has none.
    """

    offset: int
    key: bytes | None
    time_ms: int
    features: tuple[FeatureValue, ...]
    prediction: Prediction
    version: ModelVersion
    unserved: tuple[Unserved, ...] = ()
    keys: tuple[bytes | None, ...] = ()
    partition: int = OWN
    series: bytes | None = None
    stakes: Stakes | None = None


class Settled(Struct, frozen=True, gc=False, array_like=True):
    """The label that an event got and that may still be corrected.

    Args:
        until_ms: in event time, the last moment for that.
        number: of the label in the metrics; 0 once it is retracted.
        label_time_ms: event time of the label; None of one that was assumed.
        decision: what the label was held against, where that is not what the event was served with.
    """

    until_ms: int
    number: int
    label: LabelValue | None
    label_time_ms: int | None
    decision: Decision | None = None


class Found(Struct, frozen=True, gc=False):
    """What a shard knows of an event id.

    Args:
        index: in the ledger; -1 where the event is not there.
        waiting: what the event carries, while it waits or its label may be corrected.
        settled: its label, while that may be corrected.
        label: the label that is known: of `settled`, or the one that is held.
    """

    state: State
    index: int = -1
    waiting: Waiting | None = None
    settled: Settled | None = None
    label: LabelValue | None = None


class _Packed(Struct, frozen=True, gc=False, array_like=True):
    """`Waiting` without what follows from the rest.

    Args:
        key: True where it is the event's id.
        probabilities: True where there are two, of False and True, that add up to 1.
    """

    offset: int
    key: bytes | bool | None
    time_ms: int
    features: tuple[FeatureValue, ...]
    label: LabelValue | None
    probabilities: dict[LabelValue, float] | bool | None
    value: float | None
    generation: int
    learned: int


class _PackedWith(_Packed, frozen=True, gc=False, array_like=True):
    """`_Packed`, with what most events have not: predictions beside the one that was served, keys, another partition
    than the shard's own number, a series, stakes. The bytes end before what there is none of."""

    unserved: tuple[Unserved, ...] = ()
    keys: tuple[bytes | None, ...] = ()
    partition: int = OWN
    series: bytes | None = None
    stakes: Stakes | None = None


_encode_into = msgspec.msgpack.Encoder().encode_into
_decode = msgspec.msgpack.Decoder(_PackedWith).decode
_PLAIN: Final = frozenset({type(None), bool, int, float, str})


def pack(event_id: EventId, waiting: Waiting, room: bytearray) -> bytes | Waiting:
    """The event as bytes, or as it is where bytes could not say all of it.

    Args:
        room: to pack in.
    """
    key: bytes | bool | None = waiting.key
    if type(event_id) is str and event_id.encode("utf-8", "surrogatepass") == key:
        key = True
    label, shares, value = waiting.prediction.label, waiting.prediction.probabilities, waiting.prediction.value
    kept: dict[LabelValue, float] | bool | None = shares
    if shares and value is not None and list(shares.items()) == [(False, 1.0 - value), (True, value)]:
        kept = True
    version, unserved = waiting.version, waiting.unserved
    if type(label) not in _PLAIN or (unserved and any(type(one.prediction.label) not in _PLAIN for one in unserved)):
        return waiting  # of a model of the user's own: it would come back as something else
    try:
        packed = _Packed(
            waiting.offset,
            key,
            waiting.time_ms,
            waiting.features,
            label,
            kept,
            value,
            version.generation,
            version.learned,
        )
        more = _more(waiting)
        _encode_into((*structs.astuple(packed), *more) if more else packed, room)
        return bytes(room)  # of just the size: what `encode` gives takes up to a third more
    except (TypeError, OverflowError):  # a model of the user's own may name classes by what cannot be packed
        return waiting


def unpack(event_id: EventId | None, kept: bytes) -> Waiting:
    """The event that `pack` made bytes of."""
    packed = _decode(kept)
    key, shares, value = packed.key, packed.probabilities, packed.value
    if isinstance(key, bool):
        key = str(event_id).encode("utf-8", "surrogatepass")
    if isinstance(shares, bool):
        shares = {False: 1.0 - value, True: value} if value is not None else None
    prediction = Prediction(packed.label, shares, value)
    version = ModelVersion(packed.generation, packed.learned)
    served, unserved, own = (prediction, version), packed.unserved, packed.partition
    carried = (packed.offset, key, packed.time_ms, packed.features)
    return Waiting(*carried, *served, unserved, packed.keys, own, packed.series, packed.stakes)


def _more(waiting: Waiting) -> tuple[object, ...]:
    """What `_PackedWith` has beside `_Packed`, up to the last that there is."""
    if waiting.stakes is not None:
        return waiting.unserved, waiting.keys, waiting.partition, waiting.series, waiting.stakes
    if waiting.series is not None:
        return waiting.unserved, waiting.keys, waiting.partition, waiting.series
    if waiting.partition != OWN:
        return waiting.unserved, waiting.keys, waiting.partition
    return (waiting.unserved, waiting.keys) if waiting.keys else (waiting.unserved,) if waiting.unserved else ()
