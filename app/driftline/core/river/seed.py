"""Every random part of a model gets a seed, or is refused.

A model that draws from an unseeded generator cannot be replayed. River's convention is a `seed` parameter that
defaults to None, so seeds are filled in twice: while an expression is built (the constructor may draw at once),
and afterwards in whatever the constructors, or a user's factory, made by themselves. What draws without any
seed is refused with its place.

The first part of a class gets the pipeline's seed itself, so that River alone with `seed=42` gives the same
model; further parts of the same class count on from there, so that two members of an ensemble are not twins.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from river import base, compose, feature_extraction, neighbors, preprocessing, proba

from driftline.core.digest import digest_of
from driftline.core.error import UnseededError
from driftline.core.river.arrival import Arrivals

_SEED_SPAN = 2**32
_OPAQUE = (
    str,
    bytes,
    bool,
    int,
    float,
    type(None),
    type,
    ModuleType,
    FunctionType,
    BuiltinFunctionType,
    MethodType,
)
_GENERATORS = ("_rng", "rng")


class Seeds:
    """Hands out seeds while one model is built.

    Args:
        seed: the pipeline's own, from 0 to 2^32 - 1.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._given: Counter[type] = Counter()

    def next(self, kind: type) -> int:
        """The seed of the next part of this class."""
        seed = (self._seed + self._given[kind]) % _SEED_SPAN
        self._given[kind] += 1
        return seed


def fill_seeds(model: Any, seed: int | Seeds) -> None:
    """Fill every unset seed inside a built object, and give its sets an order, in place.

    Args:
        model: any object; River's objects, containers and plain objects in it are walked.
        seed: the pipeline's seed, or the seeds already in use for this object.

    Raises:
        UnseededError: a part draws random numbers that no seed of its own controls.
    """
    seeds = seed if isinstance(seed, Seeds) else Seeds(seed)
    for path, part in parts(model):
        _refuse_unseedable(path, part)
        if isinstance(part, proba.base.Distribution):
            continue  # draws only when asked for a sample, which no model does
        for name, member in _members(part):
            if type(member) is set and not member:
                setattr(part, name, Arrivals())
        if _member(part, "seed", 0) is None:
            _set_seed(path, part, seeds)


def _refuse_unseedable(path: str, part: Any) -> None:
    kind = type(part)  # not isinstance: River answers for a pipeline as its last step would
    if issubclass(kind, neighbors.SWINN) and part.seed is None:
        raise UnseededError(
            f"{path}: SWINN searches at random; give it a seed, as in "
            "engine=SWINN(seed=42, ...), or use engine=LazySearch(window_size=1000), which searches exactly"
        )
    if issubclass(kind, compose.Select):
        raise UnseededError(
            f"{path}: River's Select keeps its names in a set, so their order differs between runs; "
            "use driftline.core.river.select.Select"
        )
    if issubclass(kind, preprocessing.OneHotEncoder) and part.categories is not None:
        raise UnseededError(
            f"{path}: OneHotEncoder keeps its categories in sets, so results differ between runs; remove them"
        )
    if issubclass(kind, getattr(feature_extraction, "RandomTreesEmbedding", ())):
        raise UnseededError(f"{path}: RandomTreesEmbedding cannot be restored from a snapshot; use RBFSampler instead")


def _set_seed(path: str, part: Any, seeds: Seeds) -> None:
    seed = seeds.next(type(part))
    try:
        part.seed = seed
    except AttributeError:
        raise UnseededError(f"{path}: {type(part).__name__} has no seed; pass one to its constructor") from None
    for name in _GENERATORS:
        generator = _member(part, name, None)
        if isinstance(generator, random.Random):
            setattr(part, name, random.Random(seed))
        elif isinstance(generator, np.random.RandomState):
            setattr(part, name, np.random.RandomState(seed))
        elif isinstance(generator, np.random.Generator):
            setattr(part, name, np.random.default_rng(seed))


def differing_part(model: Any, twin: Any) -> str | None:
    """The way to the innermost part that differs between two models made alike; None when they are equal.

    Raises:
        DigestError: a part cannot be compared.
    """
    if digest_of(model) == digest_of(twin):
        return None
    place = type(model).__name__
    for (path, part), (_, other) in zip(parts(model), parts(twin), strict=False):
        if digest_of(part) != digest_of(other):
            place = path
    return place


def parts(model: Any) -> Iterator[tuple[str, Any]]:
    """Every object inside a model, breadth first in a fixed order, with the way to it."""
    seen: set[int] = set()
    todo: deque[tuple[str, Any]] = deque([(type(model).__name__, model)])
    while todo:
        path, part = todo.popleft()
        if isinstance(part, _OPAQUE) or id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Mapping):
            todo.extend((f"{path}[{key!r}]", value) for key, value in part.items())
        elif isinstance(part, list | tuple | deque):
            todo.extend((f"{path}[{index}]", value) for index, value in enumerate(part))
        elif not isinstance(part, np.ndarray | np.generic | random.Random | np.random.RandomState):
            yield path, part
        if isinstance(part, Mapping | list) and not hasattr(part, "__dict__"):
            continue
        todo.extend((f"{path}.{name}", value) for name, value in _members(part))


def _members(part: Any) -> Iterator[tuple[str, Any]]:
    """Attributes in the order of their names: from the instance's dict and its classes' slots."""
    own = dict(getattr(part, "__dict__", {}))
    for kind in type(part).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in own and name not in {"__dict__", "__weakref__"}:
                value = _member(part, name, _ABSENT)
                if value is not _ABSENT:
                    own[name] = value
    for name in sorted(own):
        yield name, own[name]


_ABSENT = object()


def _member(part: Any, name: str, default: Any) -> Any:
    """An attribute that is really stored in the object, not one that a property computes."""
    if isinstance(getattr(type(part), name, None), property):
        return default
    return getattr(part, name, default) if isinstance(part, base.Base) or hasattr(part, "__dict__") else default
