"""A shard as bytes, and back.

`dump` makes one string of bytes of all of it, `dump_rest`, `dump_body` and `dump_marks` make the parts of a snapshot:
what must be taken at once is small, and the ledger's segments follow one by one from a view of it.

The bytes are a pickle, because River's models are plain Python objects and nothing else keeps all of them. A pickle can
run code when it is read, so reading goes through an allowlist: River without what reads files, numpy's arrays, the
containers of the standard library, the classes of our own state, and the package of the user's model factory. Whoever
can write the snapshots topic is further held off by the manifest's HMAC, checked before a byte gets here.
"""

from __future__ import annotations

import io
import pickle
from array import array
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from msgspec import Struct

from app.core.error import SnapshotError
from app.core.join import Ledger, SegmentState, View
from app.core.migration import FORMAT, check_format, migrate
from app.core.pickling import pickled
from app.core.pipeline import Pipeline
from app.core.shard import Shard
from app.core.waiting import Settled

_KEPT = (
    "learner",
    "pending",
    "early",
    "evaluation",
    "monitors",
    "reactor",
    "watermark_ms",
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
)

_MAY_BE_NONE = ("watermark_ms",)

_RIVER = ("river",)
_RIVER_REFUSED = tuple(  # these read files or the network, or run what they are given
    f"river.{module}" for module in ("bandit.datasets", "bandit.envs", "checks", "datasets", "evaluate", "stream")
)
_OWN = frozenset(  # of our own, what a state is made of: other modules import and call what they are told to
    f"app.core.{module}"
    for module in (
        "arrival",
        "calibration",
        "curve",
        "drift",
        "early",
        "episode",
        "evaluate",
        "feature",
        "join",
        "loading",
        "maturity",
        "model",
        "monitor",
        "output",
        "poison",
        "rate",
        "reaction",
        "record",
        "reference",
        "select",
        "trail",
        "waiting",
        "watch",
    )
)
_ARRAY_TYPES = (np.generic, np.dtype, np.random.BitGenerator, np.random.RandomState, np.random.Generator)
_ARRAY_FUNCTIONS = frozenset(
    ["_reconstruct", "_frombuffer", "scalar", "__generator_ctor", "__bit_generator_ctor", "__randomstate_ctor"]
)
_PLAIN = {
    "builtins": "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple type",
    "collections": "Counter OrderedDict defaultdict deque",
    "_codecs": "encode",
    "copy": "deepcopy",
    "copyreg": "_reconstructor",
    "datetime": "date datetime timedelta",
    "fractions": "Fraction",
    "functools": "partial",
    "itertools": "count",
    "operator": "itemgetter",
    "random": "Random",
    "sortedcontainers.sortedlist": "SortedList",
    "statistics": "NormalDist",
}
_TEXT_METHODS = ("casefold", "lower", "strip", "upper")
_NAMES = frozenset((module, name) for module, names in _PLAIN.items() for name in names.split())


class Frozen(Struct, frozen=True):
    """A shard's state in parts.

    Args:
        rest: what `dump_rest` made.
        segments: of each segment of the ledger, in order, what `dump_body` and `dump_marks` made, in chunks.
        made_by: the format of all of them; see `app.core.migration`.
    """

    rest: bytes
    segments: Sequence[tuple[Sequence[bytes], Sequence[bytes]]]
    made_by: int = FORMAT


def dump(shard: Shard) -> bytes:
    """The whole state of a shard.

    Cost: blocks for as long as the pickling takes, 0.2 us an event that waits.
    """
    return pickled({name: getattr(shard, name) for name in _KEPT})


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
    """`load` in steps, of a segment each; returns the shard."""
    if isinstance(frozen, bytes):
        return _shard(pipeline, partition, _read(pipeline, frozen))
    check_format(frozen.made_by)
    state = _read(pipeline, frozen.rest)
    ledger: Ledger | None = None
    for body, marks in frozen.segments:
        yield
        ledger = _taken_up(pipeline, state, ledger, b"".join(body), b"".join(marks))
    if ledger is None:
        ledger = _taken_up(pipeline, state, None, None, None)
    return _shard(pipeline, partition, {**state, "pending": ledger}, frozen.made_by)


def _read(pipeline: Pipeline, frozen: bytes, what: str = "snapshot") -> Any:
    with _refusing(what):
        return _Unpickler(io.BytesIO(frozen), _factory_package(pipeline), what).load()


@contextmanager
def _refusing(what: str = "snapshot") -> Iterator[None]:
    try:
        yield
    except SnapshotError:
        raise
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # broken pickles raise nearly anything; River's parts in Rust panic past Exception
        raise SnapshotError(f"the {what}'s state cannot be read ({type(error).__name__}: {error})") from error


def _taken_up(pipeline: Pipeline, state: Any, ledger: Ledger | None, body: bytes | None, marks: bytes | None) -> Ledger:
    """The ledger with one segment more; begun with the first."""
    with _refusing():
        if ledger is None:
            numbers, kept = state["pending"]
            ledger = Ledger.begun(numbers, kept)
        if body is not None and marks is not None:
            number, ids, seen, packed = _read(pipeline, body)
            marked, fates, plain = _read(pipeline, marks)
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
    for name in _KEPT:
        fresh = getattr(shard, name)
        if name not in _MAY_BE_NONE and type(state[name]) is not type(fresh):
            raise SnapshotError(f"the snapshot's {name} is a {type(state[name]).__name__}")
        setattr(shard, name, state[name])
    good = shard.learner.good
    if good is not None:  # a pickle within the pickle: it is read again, without this list, when it is needed
        load_model(pipeline, good, "snapshot")
    try:
        shard.learner.attach(pipeline)
    except Exception as error:
        raise SnapshotError(f"the snapshot's model cannot be put to work ({error})") from error
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
    return _read(pipeline, frozen, what)


def _factory_package(pipeline: Pipeline) -> str | None:
    module, colon, _ = pipeline.model.strip().partition(":")
    plain = colon and all(part.isidentifier() for part in module.split("."))
    return module.partition(".")[0] if plain else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, package: str | None, what: str = "snapshot") -> None:
        super().__init__(stream)
        self._what = what
        self._packages = _RIVER if package is None else (*_RIVER, package)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):
            return _method  # how pickle writes a bound method
        if (module, name) in _NAMES:
            return super().find_class(module, name)
        if module in _OWN or _within(module, (*self._packages, "numpy", "scipy")):
            found = super().find_class(module, name)
            if self._allows(module, name, found):
                return found
        raise SnapshotError(f"the {self._what} names {module}.{name}, which is not on the allowlist")

    def _allows(self, module: str, name: str, found: Any) -> bool:
        home = getattr(found, "__module__", None) or ""
        if module in _OWN:
            return isinstance(found, type) and home == module
        if _within(module, ("numpy",)):
            if name in _ARRAY_FUNCTIONS:
                return True
            return isinstance(found, type) and (found is np.ndarray or issubclass(found, _ARRAY_TYPES))
        if _within(module, ("scipy",)):
            return isinstance(found, type) and _within(home, ("scipy.sparse", "scipy.stats", "scipy.special"))
        # A dotted name could walk into what a module imports; GaussianNB._make_gaussian says that it is of this place.
        if "." in name and (home, getattr(found, "__qualname__", None)) != (module, name):
            return False
        return _within(home, self._packages) and not _within(home, _RIVER_REFUSED)


def _method(owner: object, name: str) -> Any:
    """A bound method of one of River's objects, or of text as its text steps use it; nothing else."""
    if owner is str and name in _TEXT_METHODS:
        return getattr(str, name)
    found = getattr(type(owner), name, None) if isinstance(name, str) and not name.startswith("__") else None
    if not callable(found) or not _within(type(owner).__module__, _RIVER):
        raise SnapshotError(f"its bytes ask for {name!r} of a {type(owner).__name__}: not on the allowlist")
    return getattr(owner, name)


def _within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)
