"""Bytes of models and states, without the generators that nothing uses.

River's distributions seed a generator each from the system's entropy. It serves `sample()`, which no model calls, takes
2.5 kB for each feature and class of GaussianNB and of a tree's leaves, makes the bytes of equal states differ, and
costs most of the time of a copy.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from collections.abc import Iterator
from typing import Any

from river import proba

RESERVE_FRAMES = 250


def pickled(state: Any) -> bytes:
    """What `pickle.loads` makes the state of again.

    Raises:
        PicklingError, AttributeError, TypeError: a part of it cannot be pickled.
    """
    stream = io.BytesIO()
    _Pickler(stream, protocol=5).dump(state)
    return stream.getvalue()


def check_depth(state: Any, frames: int = RESERVE_FRAMES) -> None:
    """Whether a state can be pickled from deeper in the stack too.

    Reading bytes knows no depth, and writing does: what is nested so deep that it can only just be written would stop a
    shard at its next snapshot, which is taken further down.

    Raises:
        RecursionError: it cannot.
    """
    if frames:
        check_depth(state, frames - 1)
    else:
        pickled(state)


def _distributions(base: Any) -> Iterator[type]:
    for kind in base.__subclasses__():
        yield kind
        yield from _distributions(kind)


def _without_generator(distribution: Any) -> Any:
    """How a distribution is kept: without the generator that it seeded from the system's entropy."""
    reduced = distribution.__reduce_ex__(4)
    state = reduced[2]
    if isinstance(state, dict) and state.get("seed", 0) is None:
        state = {name: member for name, member in state.items() if name != "_rng"}
    return (*reduced[:2], state, *reduced[3:])


class _Pickler(pickle.Pickler):
    dispatch_table = {  # noqa: RUF012 - what pickle looks for
        **copyreg.dispatch_table,
        **dict.fromkeys(_distributions(proba.base.Distribution), _without_generator),
    }
