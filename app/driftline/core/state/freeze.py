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
from typing import Any, Final

from msgspec import Struct

from driftline.core.digest import digest_of
from driftline.core.error import SnapshotError
from driftline.core.fault import STOPS
from driftline.core.guard.second import Second
from driftline.core.history.history import History
from driftline.core.history.keys import STORE_SHIFT, KeyState, KeyView
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
from driftline.core.stepwise import at_once

KEPT: Final = (  # the members of a shard that are its state; the others are made from the pipeline
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
    "history",
    "kept",
    "forecasts",
    "kpis",
    "quarantine",
    "second",
    "budget",
)

_MAY_BE_NONE = ("watermark_ms", "begun_ms")


class Frozen(Struct, frozen=True):
    """A shard's state in parts.

    Args:
        rest: what `dump_rest` made.
        segments: of each segment of the ledger, then of the history, in order, what `dump_body` and `dump_marks` made,
            in chunks.
        made_by: the format of all of them; see `core.state.migration`.
    """

    rest: bytes
    segments: Sequence[tuple[Sequence[bytes], Sequence[bytes]]]
    made_by: int = FORMAT


def dump(shard: Shard) -> bytes:
    """The whole state of a shard.

    Cost: blocks for as long as the pickling takes, 0.2 us an event that waits.
    """
    return pickled({**_parts(shard), "history": shard.history.dumped()})


def _parts(shard: Shard) -> dict[str, Any]:
    """The members of a shard that are kept, by name; a second model as bytes, which only its own pipeline reads."""
    parts = {name: getattr(shard, name) for name in KEPT}
    if shard.second is not None:
        parts["second"] = shard.second.dumped()
    return parts


def without_ledger(shard: Shard) -> bytes:
    """The state of a shard without the events and labels that wait, as `load` reads it.

    Raises:
        RecursionError: it is nested so deep that it could not be written from further down in the stack.
    """
    fresh = Shard(shard.pipeline, shard.number)
    state = _parts(shard) | {"pending": fresh.pending, "early": fresh.early}
    state["history"] = fresh.history.dumped()
    check_depth(state)
    return pickled(state)


class StateView(Struct, frozen=True):
    """What of a shard is kept in segments, at one moment."""

    ledger: View
    history: tuple[KeyView, ...]

    @property
    def parts(self) -> tuple[View | KeyView, ...]:
        """In the order in which their segments are written."""
        return (self.ledger, *self.history)

    def release(self) -> None:
        """It is needed no more."""
        for part in self.parts:
            part.release()


def view_of(shard: Shard) -> StateView:
    """A shard's segments as they are now, until the view is released or the next one is taken."""
    return StateView(shard.pending.view(), tuple(shard.history.views()))


def dump_rest(shard: Shard, view: StateView) -> bytes:
    """The state without the segments of the ledger and the history.

    Args:
        view: of the shard, taken now.

    Cost: blocks for as long as pickling the model, the metrics and the early labels takes.
    """
    state = _parts(shard)
    history = [keys.numbers for keys in view.history]
    return pickled({**state, "pending": (view.ledger.numbers, view.ledger.kept), "history": history})


def dump_body(state: SegmentState | KeyState) -> bytes:
    """Of a segment, what does not change once it is full: the events' ids and what they carry, or the keys and their
    past. Cost: 1 ms."""
    if isinstance(state, KeyState):
        return pickled((state.number, state.keys, state.pasts))
    return pickled((state.number, state.ids, state.seen.tobytes(), state.packed))


def dump_marks(state: SegmentState | KeyState) -> bytes:
    """Of a segment, what changes: the events' fates, and the labels that may be corrected, or which keys have left."""
    if isinstance(state, KeyState):
        return pickled((state.number, bytes([key is not None for key in state.keys]), state.full))
    notes = {slot: note if isinstance(note, int) else _written(note) for slot, note in state.notes.items()}
    return pickled((state.number, state.fates, notes))


def _written(note: Settled) -> tuple[Any, ...]:
    """A label that may be corrected; as earlier versions had it where it was held against what was served."""
    fields = (note.until_ms, note.number, note.label, note.label_time_ms)
    return fields if note.decision is None else (*fields, note.decision)


def dump_model(model: Any) -> bytes:
    """A model alone, as `load_model` reads it."""
    return pickled(model)


def load(pipeline: Pipeline, partition: int, frozen: bytes | Frozen) -> Shard:
    """A shard from what `dump` made under the same pipeline, or from the parts of a snapshot.

    Raises:
        SnapshotError: the bytes are not such a state, or name something outside the allowlist.
    """
    return at_once(loading(pipeline, partition, frozen))


def frozen_digest(pipeline: Pipeline, partition: int, frozen: bytes | Frozen) -> bytes:
    """The digest of a frozen state as it is when read, by which equal states are equal.

    Pickles of equal states may differ, and so may states in memory: in which of their parts are one object. The copies
    of the model that the quarantine keeps are such pickles.
    """
    thawed = load(pipeline, partition, frozen)
    held = thawed.quarantine
    held.older, held.newer = [
        None if copy is None else digest_of(load_model(pipeline, copy)) for copy in (held.older, held.newer)
    ]
    if thawed.second is not None:
        copies, own = thawed.second.copies, thawed.second.learner.pipeline
        copies.older, copies.newer = [
            None if copy is None else digest_of(load_model(own, copy)) for copy in (copies.older, copies.newer)
        ]
    return digest_of({name: getattr(thawed, name) for name in KEPT})


def loading(pipeline: Pipeline, partition: int, frozen: bytes | Frozen) -> Generator[None, None, Shard]:
    """`load` in steps, of a segment or some thousand objects each; returns the shard."""
    if isinstance(frozen, bytes):
        return _shard(pipeline, partition, (yield from _reading(pipeline, frozen)))
    check_format(frozen.made_by)
    state = yield from _reading(pipeline, frozen.rest)
    with _refusing():
        ledger, keys = Ledger.begun(*state["pending"]), list[KeyState]()
    for body, marks in frozen.segments:
        yield
        _take_up(ledger, keys, b"".join(body), b"".join(marks))
    return _shard(pipeline, partition, {**state, "pending": ledger}, frozen.made_by, keys)


def _reading(pipeline: Pipeline, frozen: bytes) -> Generator[None, None, Any]:
    with _refusing():
        return (yield from Thaw(frozen, admitted_for(pipeline), "snapshot").steps())


@contextmanager
def _refusing(what: str = "snapshot") -> Iterator[None]:
    try:
        yield
    except (SnapshotError, *STOPS):
        raise
    except BaseException as error:  # broken pickles raise nearly anything; River's parts in Rust panic past Exception
        raise SnapshotError(f"the {what}'s state cannot be read ({type(error).__name__}: {error})") from error


def _take_up(ledger: Ledger, history: list[KeyState], body: bytes, marks: bytes) -> None:
    """Put one segment more to the ledger, or to the history, whichever it is of."""
    with _refusing():
        number, *carried = Thaw(body, common(), "snapshot").read()
        marked, alive, more = Thaw(marks, common(), "snapshot").read()
        if number != marked:
            raise SnapshotError(f"the snapshot has the marks of segment {marked} for segment {number}")
        if number >> STORE_SHIFT:
            keys, pasts = carried
            kept = [key if here else None for key, here in zip(keys, alive, strict=True)]
            pasts = [past if here else None for past, here in zip(pasts, alive, strict=True)]
            history.append(KeyState(number, kept, pasts, bool(more)))
            return
        ids, seen, packed = carried
        notes = {slot: note if isinstance(note, int) else Settled(*note) for slot, note in more.items()}
        ledger.take_up(SegmentState(number, ids, array("q", seen), packed, alive, notes))


def _shard(
    pipeline: Pipeline, partition: int, state: Any, made_by: int = FORMAT, keys: Sequence[KeyState] = ()
) -> Shard:
    """A shard of its parts.

    Args:
        keys: the segments of the history, where the state does not hold them itself.
    """
    shard = Shard(pipeline, partition)
    if isinstance(state, dict):
        with _refusing():
            migrate(state, made_by, shard)
    if not isinstance(state, dict) or set(state) != set(KEPT):
        raise SnapshotError("the snapshot's state has not the parts that this version keeps")
    own = shard.learner.model
    with _refusing():
        _take_over(shard.history, state.pop("history"), keys)
        second = state.pop("second")
    for name, kept in state.items():
        fresh = getattr(shard, name)
        if name not in _MAY_BE_NONE and type(kept) is not type(fresh):
            raise SnapshotError(f"the snapshot's {name} is a {type(kept).__name__}")
        setattr(shard, name, kept)
    try:
        good, background = shard.learner.good, shard.reactor.background
        copies = (good, shard.quarantine.older, shard.quarantine.newer)
        readable = [load_model(pipeline, one, "snapshot") for one in copies if one is not None]  # when they are needed
        for model in (shard.learner.model, *readable, background.model if background is not None else None):
            if model is not None and (other := unlikeness(model, own)):
                raise SnapshotError(f"the snapshot holds a model that {other}")
        shard.learner.attach(pipeline)
        if shard.second is not None:
            shard.second = _second(shard.second, second)
        if shard.forecasts is not None:
            shard.forecasts.attach(pipeline)
        shard.kpis.attach(pipeline)
    except (SnapshotError, *STOPS):
        raise
    except BaseException as error:  # as in `_refusing`
        raise SnapshotError(f"the snapshot's model cannot be put to work ({type(error).__name__}: {error})") from error
    return shard


def _second(fresh: Second, kept: Any) -> Second:
    """The second model as it was kept, ready to work."""
    pipeline, own = fresh.learner.pipeline, fresh.learner.model
    with _refusing():
        made = fresh.loaded(kept)
    if made is not fresh:
        for model in (made.learner.model, *(load_model(pipeline, copy, "snapshot") for copy in made.frozen.values())):
            if other := unlikeness(model, own):
                raise SnapshotError(f"the snapshot holds a second model that {other}")
        made.learner.attach(pipeline)
    return made


def _take_over(history: History, kept: Any, keys: Sequence[KeyState]) -> None:
    """A history from what `dump` kept of it, or `dump_rest` and the segments."""
    if any("segments" in one for one in kept):
        history.load(kept)
        return
    history.begin(kept)
    for segment in keys:
        history.take_up(segment)
    history.whole()


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
