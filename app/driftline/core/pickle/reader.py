"""Reads a pickle's bytes into objects without letting the bytes choose how to make them.

A pickle is a program: it names functions and calls them. Python's own reader lets a hook decide about names only, and
what is done with a name that passes is up to the bytes: any arguments, any state set on any object, an endless iterator
read to its end. So this reads the program itself. There is a table of what may be made (`core.pickle.allowlist`), and
for each entry the table says how: what a call may be given, and what state may be put into an object. Whatever stands
in no table is refused before anything of it is made, and nothing is ever imported.

What a reading costs is bounded by the length of the bytes: each instruction makes one object at most, of no more than
the bytes that stand there for it; there are no loops. Three ways around that are closed: keys of dicts and sets
are of plain types whose hashes do not collide at will, tuples that hold one another do not unfold to more than
`UNFOLDED_MAX` parts, which is what hashing or comparing them takes, and what stands in the bytes once and is copied or
looked through again and again, or is large while nothing is in it, counts against `ROOM`.

Source: the instructions are those of protocols 4 and 5 as `pickle` writes them (Python's `pickletools`, PEP 3154, 574).
"""

from __future__ import annotations

import pickle
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Generator
from datetime import date, datetime, timedelta
from functools import partial
from struct import unpack_from
from sys import intern
from typing import Any, Final, TypeAlias

import numpy as np
from msgspec import Struct

from driftline.core.error import SnapshotError
from driftline.core.stepwise import at_once

TURN = 20_000  # instructions between two moments at which others may have the loop
KEY_PARTS_MAX = 64
UNFOLDED_MAX = 1_000_000
INTEGER_BYTES_MAX = 64 * 1024
TREE_DEPTH_MAX = 10_000
CHAIN_MAX = 100
ROOM = 1024 * 1024  # parts that may be copied beyond two for each byte, which no state of ours comes near
WINDOW_SHARE = 256  # numbers of a window that count as a part
EMPTY_COST = 64  # parts that an empty set or deque counts as
ALIKE_MAX = 64  # tuples of equal hash and different value among the keys of one reading

Make: TypeAlias = Callable[[tuple[Any, ...]], Any]
Put: TypeAlias = Callable[[Any, Any], None]


class Admitted:
    """What may be made, and how.

    Attributes:
        names: what a module and a name stand for.
        calls: by the id of what is called: makes the object of the arguments, which it checks.
        news: the same for objects whose class is called without its constructor.
        states: by the id of an object's class: puts a state into it.
        maps, lists: classes that may be filled by key, and at their end.
        trees: by the id of a class: its objects are parts of trees, and who goes down a tree must come to its end.
        loose: by the id of a class: Python frees a long chain of its objects on the C stack, which is not endless.
        costs: by the id of what is called: the parts that a call makes, beside its arguments.
        copiers: by the id of what is called: it copies the dict that it is given.
        windows: by the id of a class: it asks for memory for a window of the size that it is given.
    """

    def __init__(self) -> None:
        self.names: dict[tuple[str, str], Any] = {}
        self.calls: dict[int, Make] = {}
        self.news: dict[int, Make] = {}
        self.states: dict[int, Put] = {}
        self.maps: set[type] = {dict, defaultdict, OrderedDict, Counter}
        self.lists: set[type] = {list, deque}
        self.trees: set[int] = set()
        self.loose: set[int] = {id(defaultdict), id(deque), id(np.ndarray), id(partial)}
        self.costs: dict[int, int] = {id(deque): EMPTY_COST}
        self.copiers: set[int] = {id(Counter)}
        self.windows: set[int] = set()

    def extended(self) -> Admitted:
        """A copy, to which more may be added."""
        other = Admitted()
        for name, table in vars(self).items():
            setattr(other, name, table.copy())
        return other


def refused(text: str) -> SnapshotError:
    """What stands in no table."""
    return SnapshotError(f"its bytes {text}, which is not on the allowlist")


class Thaw:
    """One reading.

    Args:
        content: the bytes of one pickle.
        admitted: what may be made.
        what: whose bytes they are, for errors.
    """

    def __init__(self, content: bytes, admitted: Admitted, what: str) -> None:
        self._content = content
        self._admitted = admitted
        self._what = what
        self._at = 0
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: list[Any] = []
        self._unfolded: dict[int, int] = {}  # of tuples that hold tuples
        self._nested: list[tuple[Any, ...]] = []  # they, so that no other object has the id of one
        self._alike: dict[int, list[tuple[Any, ...]]] = {}
        self._nodes: list[Any] = []
        self._loose: list[Any] = []
        self._room = ROOM + 2 * len(content)

    def steps(self) -> Generator[None, None, Any]:
        """Read it, pausing every `TURN` instructions; returns what was read.

        Raises:
            SnapshotError: it holds what is not on the allowlist. Broken bytes raise other exceptions too.
        """
        try:
            return (yield from self._steps())
        except BaseException:  # whatever ended it: what was built must not end the process as it is freed
            self._dismantle()
            raise

    def _dismantle(self) -> None:
        """Take chains apart whose end would be that of the C stack; what is left is freed from the outside inwards."""
        for thing in list(self._loose):
            if isinstance(thing, defaultdict):
                self._loose += thing.values()
                thing.clear()
            elif isinstance(thing, deque):
                self._loose += thing
                thing.clear()
            elif isinstance(thing, np.ndarray) and thing.dtype.hasobject:
                self._loose += thing.ravel().tolist()
                thing.fill(None)

    def _steps(self) -> Generator[None, None, Any]:
        content, memo, stack, at = self._content, self._memo, self._stack, 0
        while True:
            for _ in range(TURN):
                code = content[at]
                at += 1
                if code == _MEMOIZE:
                    memo.append(stack[-1])
                elif code == _BINGET:
                    stack.append(memo[content[at]])
                    at += 1
                elif code == _BINFLOAT:
                    stack.append(unpack_from(">d", content, at)[0])
                    at += 8
                elif code == _BININT1:
                    stack.append(content[at])
                    at += 1
                elif code == _STOP:
                    if len(stack) != 1 or self._marks:
                        raise SnapshotError(f"the {self._what}'s state cannot be read: its bytes end too early")
                    _check_depth(self._nodes, _branches, TREE_DEPTH_MAX)
                    _check_depth(self._loose, _members, CHAIN_MAX)
                    return stack[0]
                else:
                    self._at = at
                    _INSTRUCTIONS[code](self)
                    at, stack = self._at, self._stack
            yield

    def read(self) -> Any:
        """Read it in one go."""
        return at_once(self.steps())

    # -- parts of instructions

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._content):
            raise SnapshotError(f"the {self._what}'s state cannot be read: its bytes end too early")
        taken = self._content[self._at : end]
        self._at = end
        return taken

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "little")

    def _marked(self) -> list[Any]:
        """What was pushed since the last mark."""
        items, self._stack = self._stack, self._marks.pop()
        return items

    def spend(self, parts: int) -> None:
        """Count parts that do not stand in the bytes for themselves."""
        self._room -= parts
        if self._room < 0:
            raise refused("ask for many times what they hold")

    def push_empty_set(self) -> None:
        self.spend(EMPTY_COST)
        self._stack.append(set())

    def push_tuple(self, items: tuple[Any, ...]) -> None:
        """Push a tuple, if it does not unfold to more than it may."""
        parts = [self._parts(item) for item in items if type(item) is tuple]
        if parts:
            self._nested.append(items)
            self._unfolded[id(items)] = unfolded = len(items) + sum(parts)
            if unfolded > UNFOLDED_MAX:
                raise refused(f"hold tuples within tuples of {unfolded:,} parts")
        self._stack.append(items)

    def _parts(self, items: tuple[Any, ...]) -> int:
        return self._unfolded.get(id(items), len(items))

    def check_key(self, key: Any) -> None:
        """Whether something may be a key."""
        kind = type(key)
        if kind in _PLAIN_KEYS:
            return
        if kind is int and -(2**64) < key < 2**64:
            return
        if kind is not tuple or self._parts(key) > KEY_PARTS_MAX:
            raise refused(f"have a {kind.__name__} as a key")
        for part in key:
            self.check_key(part)
        alike = self._alike.setdefault(hash(key), [])
        if key not in alike:
            alike.append(key)
            if len(alike) > ALIKE_MAX:
                raise refused(f"have {ALIKE_MAX} keys of one hash")

    # -- instructions

    def _frame(self) -> None:
        self._take(8)  # frames are for readers of streams

    def _protocol(self) -> None:
        if self._take(1)[0] not in (4, 5):
            raise SnapshotError(f"the {self._what}'s state cannot be read: its protocol is never written")

    def _mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _recall(self) -> None:
        self._stack.append(self._memo[self._number(4)])

    def _integer(self, size: int) -> None:
        self._stack.append(int.from_bytes(self._take(size), "little", signed=size == 4))

    def _long(self, size: int) -> None:
        length = self._number(size)
        if length > INTEGER_BYTES_MAX:
            raise refused(f"hold a number of {length:,} bytes")
        self._stack.append(int.from_bytes(self._take(length), "little", signed=True))

    def _text(self, size: int) -> None:
        try:
            self._stack.append(str(self._take(self._number(size)), "utf-8"))
        except UnicodeDecodeError:  # half of a pair: no input has it, and no output or journal could be written with it
            raise refused("hold a text that is no UTF-8") from None

    def _bytes(self, size: int) -> None:
        self._stack.append(self._take(self._number(size)))

    def _bytearray(self) -> None:
        self._stack.append(bytearray(self._take(self._number(8))))

    def _last(self, count: int) -> None:
        """A tuple of the topmost."""
        items = tuple(self._stack[-count:])
        if len(items) != count:
            raise SnapshotError(f"the {self._what}'s state cannot be read: a tuple misses a part")
        del self._stack[-count:]
        self.push_tuple(items)

    def _tuple(self) -> None:
        self.push_tuple(tuple(self._marked()))

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) not in self._admitted.lists:
            raise refused(f"append to a {type(target).__name__}")
        target.extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) not in self._admitted.maps:
            raise refused(f"fill a {type(target).__name__} by key")
        pairs = iter(items)
        for key, value in zip(pairs, pairs, strict=True):
            if type(key) is not str:
                self.check_key(key)
            target[key] = value

    def _set_item(self) -> None:
        items = self._stack[-2:]
        del self._stack[-2:]
        self._set_items(items)

    def _add_items(self) -> None:
        items = self._marked()
        target = self._stack[-1]
        if type(target) is not set:
            raise refused(f"add to a {type(target).__name__}")
        for item in items:
            self.check_key(item)
        target.update(items)

    def _frozenset(self) -> None:
        items = self._marked()
        for item in items:
            self.check_key(item)
        self._stack.append(frozenset(items))

    def _name(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if type(name) is not str or type(module) is not str:
            raise refused("name what has no name")
        found = self._admitted.names.get((module, name))
        if found is None:
            raise SnapshotError(f"the {self._what} names {module:.100}.{name:.100}, which is not on the allowlist")
        self._stack.append(found)

    def _call(self) -> None:
        given, function = self._stack.pop(), self._stack.pop()
        make = self._admitted.calls.get(id(function))
        if make is None or type(given) is not tuple:
            raise refused(f"call {_named(function)}")
        self.spend(len(given) + self._admitted.costs.get(id(function), 0))
        if id(function) in self._admitted.copiers:
            self.spend(_size(given))
        made = make(given)
        if id(type(made)) in self._admitted.loose:
            self._loose.append(made)
        self._stack.append(made)

    def _new(self) -> None:
        given, kind = self._stack.pop(), self._stack.pop()
        make = self._admitted.news.get(id(kind))
        if make is None or type(given) is not tuple:
            raise refused(f"make a {_named(kind)}")
        if id(kind) in self._admitted.windows:
            size = sum(abs(one) for one in given if type(one) is int)
            self.spend(EMPTY_COST + size // WINDOW_SHARE)  # most of it is not touched until it is filled
        made = make(given)
        if id(kind) in self._admitted.trees:
            self._nodes.append(made)
        self._stack.append(made)

    def _build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        put = self._admitted.states.get(id(type(target)))
        if put is None:
            raise refused(f"put a state into a {type(target).__name__}")
        self.spend(_size(state))
        put(target, state)

    def _unknown(self) -> None:
        code = self._content[self._at - 1]
        raise SnapshotError(f"the {self._what}'s state cannot be read: instruction {code} is never written")


_BELOW = ("children", "_left", "_right", "left", "right", "_root", "_alternate_tree")


def _branches(node: Any) -> list[Any]:
    """What is directly below a part of a tree."""
    found: list[Any] = []
    for name in _BELOW:
        part = getattr(node, name, None)
        if isinstance(part, list | tuple):
            found += part
        else:
            found.append(part)
    return found


def _members(thing: Any) -> list[Any]:
    """What a thing frees itself, before it is freed."""
    if isinstance(thing, defaultdict):
        return [thing.default_factory, *thing.values()]
    if isinstance(thing, deque):
        return list(thing)
    if isinstance(thing, Struct):
        return [getattr(thing, name) for name in thing.__struct_fields__]
    if isinstance(thing, np.ndarray):
        return thing.ravel().tolist() if thing.dtype.hasobject else []
    return [thing.func]


def _check_depth(things: list[Any], members: Callable[[Any], list[Any]], most: int) -> None:
    """Whether no chain of things, each a member of the one before, is longer than it may be, or has no end.

    Cost: 1 us a thing.
    """
    ids = {id(thing) for thing in things}
    below = {id(thing): [id(part) for part in members(thing) if id(part) in ids] for thing in things}
    above = Counter(part for parts in below.values() for part in parts)
    depth = dict.fromkeys(below, 0)
    free = [thing for thing in below if not above[thing]]
    while free:
        thing = free.pop()
        for part in below.pop(thing):
            depth[part] = max(depth[part], depth[thing] + 1)
            above[part] -= 1
            if not above[part]:
                free.append(part)
    if below or max(depth.values(), default=0) > most:
        raise refused("hold a thing that is within itself, or too deep within others")


def _size(state: Any) -> int:
    """Parts of what is put into an object, or given to a call: its own, and those of the containers in it."""
    if type(state) is tuple:
        return len(state) + sum(len(part) for part in state if type(part) in _SIZED)
    return len(state) if type(state) in _SIZED else 1


def _named(thing: Any) -> str:
    return f"{getattr(thing, '__qualname__', type(thing).__name__):.100}"


def fill(target: Any, state: Any) -> None:
    """Put attributes into an object as `pickle` does: by name into its dict, and into its slots."""
    slots: Any = None
    if type(state) is tuple and len(state) == 2:
        state, slots = state
    if state is not None:
        if type(state) is not dict:
            raise refused(f"put a {type(state).__name__} into a {type(target).__name__}")
        check_names(state)
        attributes = target.__dict__
        for name, value in state.items():
            attributes[intern(name)] = value
    if slots is not None:
        if type(slots) is not dict or not slots.keys() <= slots_of(type(target)):
            raise refused(f"put what it has no place for into a {type(target).__name__}")
        for name, value in slots.items():
            object.__setattr__(target, name, value)


def check_names(attributes: dict[Any, Any]) -> None:
    """Whether they are names of attributes, and none that Python itself asks an object for: `__reduce__`, `__module__`.

    An object that had one would say for itself how it is copied and pickled, later.
    """
    for name in attributes:
        if type(name) is not str or name.startswith("__"):
            raise refused(f"set the attribute {name!r:.40}")


def slots_of(kind: type) -> set[str]:
    """Names of the slots of a class and its bases."""
    found: set[str] = set()
    for one in kind.__mro__:
        slots = one.__dict__.get("__slots__", ())
        found.update((slots,) if isinstance(slots, str) else slots)
    return found - {"__dict__", "__weakref__"}


_SIZED = frozenset({dict, list, tuple, bytes, bytearray})
_PLAIN_KEYS = frozenset({str, float, bool, type(None), bytes, date, datetime, timedelta})
_MEMOIZE, _BINGET, _BINFLOAT, _BININT1, _STOP = (
    code[0] for code in (pickle.MEMOIZE, pickle.BINGET, pickle.BINFLOAT, pickle.BININT1, pickle.STOP)
)
_WRITTEN: Final[dict[bytes, Callable[[Thaw], None]]] = {
    pickle.PROTO: Thaw._protocol,
    pickle.FRAME: Thaw._frame,
    pickle.MARK: Thaw._mark,
    pickle.POP: lambda thaw: thaw._stack.pop() and None,
    pickle.POP_MARK: lambda thaw: thaw._marked().clear(),
    pickle.LONG_BINGET: Thaw._recall,
    pickle.NONE: lambda thaw: thaw._stack.append(None),
    pickle.NEWTRUE: lambda thaw: thaw._stack.append(True),
    pickle.NEWFALSE: lambda thaw: thaw._stack.append(False),
    pickle.BININT: lambda thaw: thaw._integer(4),
    pickle.BININT2: lambda thaw: thaw._integer(2),
    pickle.LONG1: lambda thaw: thaw._long(1),
    pickle.LONG4: lambda thaw: thaw._long(4),
    pickle.SHORT_BINUNICODE: lambda thaw: thaw._text(1),
    pickle.BINUNICODE: lambda thaw: thaw._text(4),
    pickle.BINUNICODE8: lambda thaw: thaw._text(8),
    pickle.SHORT_BINBYTES: lambda thaw: thaw._bytes(1),
    pickle.BINBYTES: lambda thaw: thaw._bytes(4),
    pickle.BINBYTES8: lambda thaw: thaw._bytes(8),
    pickle.BYTEARRAY8: Thaw._bytearray,
    pickle.EMPTY_TUPLE: lambda thaw: thaw._stack.append(()),
    pickle.TUPLE1: lambda thaw: thaw._last(1),
    pickle.TUPLE2: lambda thaw: thaw._last(2),
    pickle.TUPLE3: lambda thaw: thaw._last(3),
    pickle.TUPLE: Thaw._tuple,
    pickle.EMPTY_LIST: lambda thaw: thaw._stack.append([]),
    pickle.APPEND: lambda thaw: thaw._append([thaw._stack.pop()]),
    pickle.APPENDS: lambda thaw: thaw._append(thaw._marked()),
    pickle.EMPTY_DICT: lambda thaw: thaw._stack.append({}),
    pickle.SETITEM: Thaw._set_item,
    pickle.SETITEMS: lambda thaw: thaw._set_items(thaw._marked()),
    pickle.EMPTY_SET: Thaw.push_empty_set,
    pickle.ADDITEMS: Thaw._add_items,
    pickle.FROZENSET: Thaw._frozenset,
    pickle.STACK_GLOBAL: Thaw._name,
    pickle.REDUCE: Thaw._call,
    pickle.NEWOBJ: Thaw._new,
    pickle.BUILD: Thaw._build,
}
_INSTRUCTIONS: Final = [_WRITTEN.get(bytes([code]), Thaw._unknown) for code in range(256)]
