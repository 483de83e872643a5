"""Whether each part of a state stands in one place only.

A pickle may put one object in two places. Of ours none does so with what changes: where a shard's counts were also its
metrics, each would be of its own form when it is read, and of no form once the other was written to. So a state that no
key vouches for is walked through once, as far as it is of our making; see `core.state.form`.

Cost: 0.5 us a value.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Generator, Iterator
from itertools import count
from typing import Any, Final

from msgspec import Struct

from driftline.core.state.form import Path, Same, UnsoundError, attributes

TURN: Final = 1_000  # values between two pauses
_PLAIN: Final = frozenset({int, float, str, bytes, bool, type(None)})


def check_unshared(parts: dict[str, Any]) -> Generator[None, None, None]:
    """Look for an object that stands in two places, pausing now and then.

    Args:
        parts: by name.

    Raises:
        UnsoundError: there is one; the text says where.
    """
    seen: dict[int, Path] = {}
    todo: list[tuple[Path, Any]] = [((name,), part) for name, part in parts.items()]
    for turn in count(1):
        if not todo:
            return
        if not turn % TURN:
            yield
        path, value = todo.pop()
        if _changes(value) and (first := seen.setdefault(id(value), path)) is not path:
            raise UnsoundError(f"it holds one {type(value).__name__} as {'.'.join(first)} and {'.'.join(path)}")
        todo.extend(((*path, name), inner) for name, inner in _within(value))


def _changes(value: Any) -> bool:
    """Whether it is written to where it stands."""
    kind: Any = type(value)
    if kind in (dict, list, deque, bytearray, array, set):
        return True
    if issubclass(kind, Struct):
        return not kind.__struct_config__.frozen
    if (settings := getattr(kind, "__dataclass_params__", None)) is not None:
        return not settings.frozen
    return attributes(kind) is not None


def _within(value: Any) -> Iterator[tuple[str, Any]]:
    if type(value) is dict:
        yield from ((repr(key)[:40], one) for key, one in value.items() if type(one) not in _PLAIN)
    elif type(value) in (list, deque):
        yield from ((str(place), one) for place, one in enumerate(value) if type(one) not in _PLAIN)
    elif type(value) is tuple:  # what stands in it besides our objects is a value, which no one writes to
        yield from ((str(place), one) for place, one in enumerate(value) if attributes(type(one)) is not None)
    else:
        for name, form in (attributes(type(value)) or {}).items():
            if form is not Any and form is not Same:
                yield name, getattr(value, name)
