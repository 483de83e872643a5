"""What the core reads: events, labels, controls, ticks, what is skipped, and bytes that could be none of them.

A record is immutable and carries its position (topic, partition, offset), so that every output made from it can
name where it came from. Two times matter and are kept apart:

* `time_ms`: event time, from the user's own JSON if the pipeline says where, else the record's own time;
* `order_ms`: the time by which inputs are merged. It is the event time, or the record's own where that lies further
  ahead of it than `limits.time_ahead_max`: one absurd date must neither hold a partition back nor move its neighbours.

Times are milliseconds since 1970-01-01T00:00Z.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, final

from msgspec import Struct

FeatureValue: TypeAlias = float | int | str | bool | None  # None: omitted, the model does not see the feature
EventId: TypeAlias = str | int | float
LabelValue: TypeAlias = bool | int | float | str
Headers: TypeAlias = tuple[tuple[str, bytes | None], ...]


class Source(Struct, frozen=True, gc=False):
    """Where bytes came from, and the bytes themselves.

    Args:
        record_time_ms: the record's own timestamp; -1 when the broker kept none.
        key, value, headers: as received.
    """

    topic: str
    partition: int
    offset: int
    record_time_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@final
class Event(Struct, frozen=True, gc=False):
    """Something to score.

    Args:
        features: the values in the pipeline's declared order, None where one is omitted, or computed from the past or
            the time (until `core.history` has done so).
        time_ahead: `time_ms` lies further ahead of the record's own time than the pipeline allows, so it does
            not move the watermark.
        missing: a bit for each feature that was not there, by its place.
        context: the values of the pipeline's `event.context`, in declared order, None where one is missing.
    """

    source: Source
    order_ms: int
    time_ms: int
    event_id: EventId
    features: tuple[FeatureValue, ...]
    time_ahead: bool = False
    missing: int = 0
    context: tuple[FeatureValue, ...] = ()


@final
class Label(Struct, frozen=True, gc=False):
    """The truth about an event, which may come before the event or long after it; None takes it back."""

    source: Source
    order_ms: int
    time_ms: int
    event_id: EventId
    value: LabelValue | None
    time_ahead: bool = False


class Chunk(Struct, frozen=True, gc=False):
    """A part of a model file on its way into the shards; see `core.shard.upload`.

    Args:
        load: names the load: when it was begun (epoch ms, 13 digits), a hyphen, and 8 random hexadecimal digits. So a
            load that was begun later has the greater name.
        number: of this part, from 0.
        count: of all parts.
        size_bytes, sha256: of the whole file.
        content: this part.
    """

    load: str
    number: int
    count: int
    size_bytes: int
    sha256: str
    content: bytes


CommandName: TypeAlias = Literal[
    "freeze", "unfreeze", "reset", "load", "snapshot", "acknowledge", "silence", "review", "release", "drop"
]


Decision: TypeAlias = Literal["approve", "edit", "refuse"]


class Ruling(Struct, frozen=True, gc=False):
    """What a person decides about predictions that are held.

    Args:
        event_id: of the one that it is about; None for all that `rung` holds.
        value: of `edit`: what is served.
        why: in the person's words.
    """

    decision: Decision
    event_id: EventId | None = None
    rung: str = ""
    value: LabelValue | None = None
    why: str = ""


@final
class Control(Struct, frozen=True, gc=False):
    """A command of an operator: `freeze`, `unfreeze` (learning stops, goes on), `reset` (a new model), `load` (a part
    of a trained model), `snapshot` (leave one now), `acknowledge` and `silence` (of an episode),
    `review` (of predictions that are held), `release` and `drop` (of labels that are: learn them, or do not).

    Args:
        episode: the name of the episode that it is about, where it is about one.
        span_ms: how long to be silent, in event time.
        chunk: what is loaded.
        pipeline, by, sent_ms, nonce: for which pipeline it is, who sent it and when, and what distinguishes it from
            any other; empty or 0 where the command does not say.
        signed: it carries a signature; whether that holds is judged where there is a key.
        why: of `release` and `drop`, in the person's words.
    """

    source: Source
    order_ms: int
    command: CommandName
    episode: str = ""
    span_ms: int = 0
    chunk: Chunk | None = None
    pipeline: str = ""
    by: str = ""
    sent_ms: int = 0
    nonce: str = ""
    signed: bool = False
    ruling: Ruling | None = None
    why: str = ""


@final
class Malformed(Struct, frozen=True, gc=False):
    """Bytes that are not an event, label or control; `reason` is one of a closed list (`codec.reason`)."""

    source: Source
    order_ms: int
    reason: str
    detail: str


@final
class Passed(Struct, frozen=True, gc=False):
    """A record that is neither an event or label nor a fault: counted, and passed over.

    Args:
        order_ms: before all times, so that it holds no one back and what is behind it keeps its own.
        kind: one of `PASSED`.
    """

    source: Source
    order_ms: int
    kind: str


PASSED = ("tombstone", "deleted", "unselected")
"""Why a record is passed over: it has no value, says that a row was deleted, or is not what `select` asks for."""


@final
class Tick(Struct, frozen=True, gc=False):
    """A journaled moment: on idle inputs, time still passes.

    Args:
        shard: its number.
    """

    shard: int
    slice_number: int
    time_ms: int


Record: TypeAlias = Event | Label | Control | Malformed | Passed | Tick
InputRecord: TypeAlias = Event | Label | Control | Malformed | Passed
