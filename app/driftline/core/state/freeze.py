"""A shard as bytes, and back.

`dump` makes one string of bytes of all of it, `dump_rest`, `dump_body` and `dump_marks` make the parts of a snapshot:
what must be taken at once is small, and the ledger's segments follow one by one from a view of it.

The bytes are a pickle, because River's models are plain Python objects and nothing else keeps all of them. A pickle can
run code when it is read, so these are read by a reader of our own (`core.pickle.reader`), through an allowlist of exact
classes and functions (`core.pickle.allowlist`). Whoever can write the snapshots topic is further held off by the
manifest's HMAC, checked before a byte gets here.
"""

from __future__ import annotations

from array import array
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from driftline.core.error import SnapshotError
from driftline.core.label.ledger import Ledger
from driftline.core.label.pending import Settled
from driftline.core.label.segment import SegmentState, View
from driftline.core.pickle.allowlist import admitted_for, common
from driftline.core.pickle.reader import Thaw
from driftline.core.pickle.writer import check_depth, pickled
from driftline.core.pipeline import Pipeline
from driftline.core.shard.state import Shard
from driftline.core.state.likeness import unlikeness
from driftline.core.state.migration import FORMAT, check_format, migrate

_KEPT = (
    "learner",
    "pending",
    "early",
    "evaluation",
    "monitors",
    "reactor",
    "watermark_ms",
    "begun_ms",
    "stamp_ms",
    "positions",
    "counts",
    "drifts",
    "classes",
    "frozen",
    "episodes",
    "watch",
    "maturity",
    "loading",
    "strays",
    "commands",
)

_MAY_BE_NONE = ("watermark_ms", "begun_ms")


class Frozen(Struct, frozen=True):
    """A shard's state in parts.

    Args:
        rest: what `dump_rest` made.
        segments: of each segment of the ledger, in order, what `dump_body` and `dump_marks` made, in chunks.
        made_by: the format of all of them; see `core.state.migration`.
    """

    rest: bytes
    segments: Sequence[tuple[Sequence[bytes], Sequence[bytes]]]
    made_by: int = FORMAT


def dump(shard: Shard) -> bytes:
    """The whole state of a shard.

    Cost: blocks for as long as the pickling takes, 0.2 us an event that waits.
    """
    return pickled({name: getattr(shard, name) for name in _KEPT})


def without_ledger(shard: Shard) -> bytes:
    """The state of a shard without the events and labels that wait, as `load` reads it.

    Raises:
        RecursionError: it is nested so deep that it could not be written from further down in the stack.
    """
    fresh = Shard(shard.pipeline, shard.partition)
    state = {name: getattr(shard, name) for name in _KEPT} | {"pending": fresh.pending, "early": fresh.early}
    check_depth(state)
    return pickled(state)


def dump_rest(shard: Shard, view: View) -> bytes:
    """The state without the ledger's segments.

    Args:
        view: of the shard's ledger, taken now.

    Cost: blocks for as long as pickling the model, the metrics and the early labels takes.
    """
    state = {name: getattr(shard, name) for name in _KEPT}
    return pickled({**state, "pending": (view.numbers, view.kept)})


def dump_body(state: SegmentState) -> bytes:
    """Of a segment, what does not change once it is full: the events' ids and what they carry. Cost: 1 ms."""
    return pickled((state.number, state.ids, state.seen.tobytes(), state.packed))


def dump_marks(state: SegmentState) -> bytes:
    """Of a segment, what changes: the events' fates, and the labels that may be corrected."""
    notes = {
        slot: note if isinstance(note, int) else (note.until_ms, note.number, note.label, note.label_time_ms)
        for slot, note in state.notes.items()
    }
    return pickled((state.number, state.fates, notes))


def dump_model(model: Any) -> bytes:
    """A model alone, as `load_model` reads it."""
    return pickled(model)


def load(pipeline: Pipeline, partition: int, frozen: bytes | Frozen) -> Shard:
    """A shard from what `dump` made under the same pipeline, or from the parts of a snapshot.

    Raises:
        SnapshotError: the bytes are no such state, or name something outside the allowlist.
    """
    steps = loading(pipeline, partition, frozen)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            shard: Shard = done.value
            return shard


def loading(pipeline: Pipeline, partition: int, frozen: bytes | Frozen) -> Generator[None, None, Shard]:
    """`load` in steps, of a segment or some thousand objects each; returns the shard."""
    if isinstance(frozen, bytes):
        return _shard(pipeline, partition, (yield from _reading(pipeline, frozen)))
    check_format(frozen.made_by)
    state = yield from _reading(pipeline, frozen.rest)
    ledger: Ledger | None = None
    for body, marks in frozen.segments:
        yield
        ledger = _taken_up(state, ledger, b"".join(body), b"".join(marks))
    if ledger is None:
        ledger = _taken_up(state, None, None, None)
    return _shard(pipeline, partition, {**state, "pending": ledger}, frozen.made_by)


def _reading(pipeline: Pipeline, frozen: bytes) -> Generator[None, None, Any]:
    with _refusing():
        return (yield from Thaw(frozen, admitted_for(pipeline), "snapshot").steps())


@contextmanager
def _refusing(what: str = "snapshot") -> Iterator[None]:
    try:
        yield
    except (SnapshotError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # broken pickles raise nearly anything; River's parts in Rust panic past Exception
        raise SnapshotError(f"the {what}'s state cannot be read ({type(error).__name__}: {error})") from error


def _taken_up(state: Any, ledger: Ledger | None, body: bytes | None, marks: bytes | None) -> Ledger:
    """The ledger with one segment more; begun with the first."""
    with _refusing():
        if ledger is None:
            numbers, kept = state["pending"]
            ledger = Ledger.begun(numbers, kept)
        if body is not None and marks is not None:
            number, ids, seen, packed = Thaw(body, common(), "snapshot").read()
            marked, fates, plain = Thaw(marks, common(), "snapshot").read()
            if number != marked:
                raise SnapshotError(f"the snapshot has the marks of segment {marked} for segment {number}")
            notes = {slot: note if isinstance(note, int) else Settled(*note) for slot, note in plain.items()}
            ledger.take_up(SegmentState(number, ids, array("q", seen), packed, fates, notes))
        return ledger


def _shard(pipeline: Pipeline, partition: int, state: Any, made_by: int = FORMAT) -> Shard:
    shard = Shard(pipeline, partition)
    if isinstance(state, dict):
        with _refusing():
            migrate(state, made_by, shard)
    if not isinstance(state, dict) or set(state) != set(_KEPT):
        raise SnapshotError("the snapshot's state has not the parts that this version keeps")
    own = shard.learner.model
    for name in _KEPT:
        fresh = getattr(shard, name)
        if name not in _MAY_BE_NONE and type(state[name]) is not type(fresh):
            raise SnapshotError(f"the snapshot's {name} is a {type(state[name]).__name__}")
        setattr(shard, name, state[name])
    good = shard.learner.good
    copy = None if good is None else load_model(pipeline, good, "snapshot")  # it must be readable when it is needed
    background = shard.reactor.background
    try:
        for model in (shard.learner.model, copy, background.model if background is not None else None):
            if model is not None and (other := unlikeness(model, own)):
                raise SnapshotError(f"the snapshot holds a model that {other}")
        shard.learner.attach(pipeline)
    except SnapshotError:
        raise
    except Exception as error:
        raise SnapshotError(f"the snapshot's model cannot be put to work ({type(error).__name__}: {error})") from error
    return shard


def load_model(pipeline: Pipeline, frozen: bytes, what: str = "model") -> Any:
    """A model from what `dump_model` made under the same pipeline.

    Args:
        what: whose bytes they are, for errors.

    Raises:
        SnapshotError: the bytes cannot be read, or name something outside the allowlist.
    """
    if not isinstance(frozen, bytes):
        raise SnapshotError(f"the {what} holds a {type(frozen).__name__} where a copy of the model should be")
    with _refusing(what):
        return Thaw(frozen, admitted_for(pipeline), what).read()
