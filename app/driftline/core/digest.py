"""A digest of state that is equal when the state is.

Pickle's bytes differ between processes that hold the same state: they depend on which strings are one object,
on the order of sets, on what was computed lazily. So states are compared by a walk over what pickle would keep:
floats by their bits (but every NaN alike), dicts in their order, sets sorted, arrays by type, shape and bytes,
objects by their class and the state that they give to pickle. References to an object met before are written as its
number, so cycles end and shared parts differ from equal copies.

What cannot be walked (functions without a name, generators, open files) raises, with the way to it: no part is
skipped silently.
"""

from __future__ import annotations

import hashlib
import math
import random
import struct
from collections import deque
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
from pydantic import BaseModel
from river import proba

from driftline.core.error import DriftlineError
from driftline.core.moved import lasting_name

_DIGEST_BYTES = 16
_PART_BYTES = 80  # an object's head, and the place in the container that holds it


class DigestError(DriftlineError):
    """State holds something that cannot be compared; the text names where."""


def digest_of(state: Any) -> bytes:
    """Sixteen bytes that two states share when they are equal bit for bit.

    Raises:
        DigestError: a member cannot be walked.

    Cost: 1 to 2 us a number or text inside.
    """
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in _Walk().encode(state):
        digest.update(part)
    return digest.digest()


def size_of(state: Any) -> int:
    """How many bytes a state takes in memory, about: a number that is the same for equal states.

    What `sys.getsizeof` says is another for a model than for its copy from a snapshot.

    Raises:
        DigestError: a member cannot be walked.
    """
    return sum(_PART_BYTES + len(part) for part in _Walk().encode(state))


class _Walk:
    """One pass over one state; the stack is our own, since trees are deeper than Python's."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # what pickle makes on the fly must not be freed, or its id() comes again

    def encode(self, state: Any) -> Iterator[bytes]:
        stack: list[tuple[str, Any]] = [("state", state)]
        while stack:
            path, member = stack.pop()
            plain = _plain(member)
            if plain is not None:
                yield plain
                continue
            if type(member) is not tuple:  # equal tuples may be one object or two: Python decides
                known = self._numbers.get(id(member))
                if known is not None:
                    yield b"&%d;" % known
                    continue
                self._numbers[id(member)] = len(self._numbers)
                self._alive.append(member)
            head, parts = _opened(path, member)
            yield head + b":%d(" % len(parts)
            stack.extend(reversed(parts))


def _plain(member: Any) -> bytes | None:
    """The bytes of what has no parts; None for the rest."""
    if member is None:
        return b"N;"
    kind = type(member)
    if kind is float:
        # The sign of a sum of two NaNs depends on how often Python ran the line before: it is no part of a state.
        return struct.pack(">cd", b"f", math.nan if math.isnan(member) else member)
    if kind is bool:
        return b"T;" if member else b"F;"
    if kind is int:
        return b"i%d;" % member
    if kind is str:
        text = str.encode(member, "utf-8", "surrogatepass")
        return b"s%d:" % len(text) + text
    if kind is bytes or kind is bytearray:
        return b"b%d:" % len(member) + bytes(member)
    if isinstance(member, np.ndarray) and member.dtype.hasobject:
        return None
    if isinstance(member, np.ndarray | np.generic):
        head = f"a{member.dtype.str}{member.shape};".encode()
        if member.dtype.kind == "f" and (missing := np.isnan(member)).any():
            member = np.where(missing, np.asarray(np.nan, member.dtype), member)
        return head + bytes(member.tobytes())
    return None


def _opened(path: str, member: Any) -> tuple[bytes, list[tuple[str, Any]]]:
    """What stands for a member, and its parts in order, each with the way to it."""
    kind = type(member)
    if isinstance(member, type):
        return _named(path, b"class", member), []
    if isinstance(member, FunctionType | BuiltinFunctionType):
        return _named(path, b"function", member), []
    if isinstance(member, MethodType):
        return b"method", [(path, member.__func__), (f"{path}.__self__", member.__self__)]
    if kind in (list, tuple, deque):
        head = f"{kind.__name__}{getattr(member, 'maxlen', None)}".encode()
        return head, [(f"{path}[{index}]", part) for index, part in enumerate(member)]
    if kind is dict:
        return b"dict", _pairs(path, member.items())
    if kind in (set, frozenset):
        return kind.__name__.encode(), [(path, digest) for digest in sorted(map(digest_of, member))]
    if isinstance(member, np.ndarray):
        return f"array{member.shape}".encode(), [(path, member.ravel().tolist())]
    if isinstance(member, random.Random):
        return b"random", [(path, member.getstate())]
    if isinstance(member, np.random.RandomState):
        return b"random-state", [(path, member.get_state(legacy=False))]
    if isinstance(member, BaseModel):
        return _class(kind), _pairs(path, {name: getattr(member, name) for name in kind.model_fields}.items())
    return _reduced(path, member)


def _reduced(path: str, member: Any) -> tuple[bytes, list[tuple[str, Any]]]:
    """An object as pickle sees it: how it is made, and the state that it gets."""
    try:
        reduced = member.__reduce_ex__(4)
    except (TypeError, AttributeError, NotImplementedError) as error:
        raise DigestError(
            f"{path} is a {type(member).__name__}, which cannot be compared or kept in a snapshot ({error}); "
            "use another model or detector"
        ) from error
    if isinstance(reduced, str):
        return _class(type(member)) + reduced.encode(), []
    make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    parts: list[tuple[str, Any]] = [(path, make), (path, arguments)]
    if isinstance(state, tuple) and len(state) == 2 and all(part is None or isinstance(part, dict) for part in state):
        state = {**(state[0] or {}), **(state[1] or {})}  # the instance's dict and its slots
    if isinstance(state, dict):
        own = {name: state[name] for name in sorted(state, key=str) if not _unused(member, name)}
        parts += [part for name, value in own.items() for part in ((path, name), (f"{path}.{name}", value))]
    else:
        parts.append((f"{path}.__state__", state))
    parts += [(f"{path}[{index}]", item) for index, item in enumerate(items or ())]
    parts += _pairs(path, pairs or ())
    return _class(type(member)), parts


def _unused(member: Any, name: str) -> bool:
    """Generators of distributions that no seed was given for: they serve `sample()`, which no model calls."""
    return name == "_rng" and isinstance(member, proba.base.Distribution) and member.seed is None


def _pairs(path: str, pairs: Any) -> list[tuple[str, Any]]:
    return [part for key, value in pairs for part in ((path, key), (f"{path}[{key!r:.60}]", value))]


def _class(kind: type) -> bytes:
    return lasting_name(kind).encode()


def _named(path: str, what: bytes, member: Any) -> bytes:
    name = lasting_name(member)
    if "<" in name:
        raise DigestError(f"{path} is {name}, which has no importable name; define it at module level")
    return what + b" " + name.encode()
