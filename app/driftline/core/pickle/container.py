"""Containers, numbers, generators and arrays read from a state, each with only the arguments it may have.

Each maker takes the arguments that stand in the bytes, and refuses what the class itself would take but its own
`__reduce__` never writes: iterators, sizes without content, names to look up. Of random generators and arrays numpy
believes what it is given, down to reading beyond their memory, so their states are checked here.
"""

from __future__ import annotations

import copy
import functools
import numbers
import operator
import random
import statistics
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from fractions import Fraction
from math import inf, prod
from types import BuiltinMethodType, MethodType
from typing import Any, Final, TypeAlias

import numpy as np
from river.imblearn.hard_sampling import Triplet
from river.utils import VectorDict

from driftline.core.drift.change_point import Change
from driftline.core.pickle.reader import Admitted, Make, check_names, refused

Method: TypeAlias = frozenset[str]

_SIZE_MAX = 1_000_000  # of a window, which holds that much only if it is filled
_RANGE_MAX = 1_000
_FRACTION_BITS = 4_096
_TEXT_METHODS: Final = frozenset({"casefold", "lower", "strip", "upper"})
_RANDOM_METHODS: Final = frozenset({"gauss"})
_ITEM_KINDS: Final = "biufcUSmM"  # of numpy's types, those whose values are all in their bytes
_MT_WORDS: Final = 624
_COSTS: Final = {  # parts of what is as large with a state as without
    "Random": _MT_WORDS, "__bit_generator_ctor": 256, "__randomstate_ctor": 64, "__generator_ctor": 64,
    "__pyx_unpickle_SeedSequence": 64,
}  # fmt: skip
_NATIVE: Final = ("<", "|", "=")


class Token:
    """Stands for what may be called in one way only, and is not a value of its own."""

    def __init__(self, name: str) -> None:
        self.__qualname__ = name


def caller(function: Callable[..., Any]) -> Make:
    """Of what is of our own making, or of the operator's."""
    return lambda given: function(*given)


def bare_maker(kind: Any) -> Make:
    """An object without its constructor."""

    def make(given: tuple[Any, ...]) -> Any:
        if given:
            raise refused(f"make a {kind.__name__} with arguments")
        return kind.__new__(kind)

    return make


def empty_maker(kind: type) -> Make:
    """A container without content."""
    return lambda given: kind() if not given else _not_so(kind, given)


def rust_maker(kind: Any) -> Make:
    """One of River's parts in Rust, which take a few plain numbers."""

    def make(given: tuple[Any, ...]) -> Any:
        if len(given) > 5 or not all(_plain(one, _SIZE_MAX) for one in given):
            return _not_so(kind, given)
        return kind.__new__(kind, *given)

    return make


def put_bytes(target: Any, state: Any) -> None:
    """The state of one of River's parts in Rust."""
    if type(state) is not bytes:
        raise refused(f"put a {type(state).__name__} into a {type(target).__name__}")
    target.__setstate__(state)


def seasonal_maker(kind: Any) -> Make:
    """A component of Holt-Winters, which is a list of numbers."""
    return lambda given: kind(*given) if all(_plain(one, _SIZE_MAX) for one in given) else _not_so(kind, given)


def _not_so(kind: Any, given: tuple[Any, ...]) -> Any:
    raise refused(f"call {getattr(kind, '__qualname__', kind)} with {len(given)} arguments that are never written")


def _plain(one: Any, most: float) -> bool:
    return one is None or type(one) is bool or (type(one) in (int, float) and not abs(one) > most)


# -- Python's own


def _deque(given: tuple[Any, ...]) -> Any:
    match given:
        case ():
            return deque()
        case ((), maxlen) if maxlen is None or (type(maxlen) is int and maxlen >= 0):
            return deque(maxlen=maxlen)
    return _not_so(deque, given)


def _counter(given: tuple[Any, ...]) -> Any:
    return Counter(given[0]) if len(given) == 1 and type(given[0]) is dict else _not_so(Counter, given)


def _defaultdict(given: tuple[Any, ...]) -> Any:
    if len(given) == 1 and (given[0] is None or callable(given[0])):
        return defaultdict(given[0])
    return _not_so(defaultdict, given)


def _partial(given: tuple[Any, ...]) -> Any:
    return functools.partial(given[0]) if len(given) == 1 and _once(given[0]) else _not_so("partial", given)


def _once(function: Any) -> bool:
    """Whether it can be called, and is not a partial: Python frees a long chain of them on the C stack."""
    return callable(function) and type(function) is not functools.partial


def _put_partial(target: Any, state: Any) -> None:
    match state:
        case (function, tuple(args), dict(keywords), attributes) if _once(function) and (
            attributes is None or type(attributes) is dict
        ):
            if not _bounded(function, args, keywords):
                raise refused("ask a function for an array without bound")
            check_names(keywords)
            check_names(attributes or {})
            target.__setstate__((function, args, keywords, attributes))
        case _:
            raise refused("put another state into a partial")


def _bounded(function: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
    """Whether what a partial's function is given asks for no more than stands there: it is called at any new key."""
    if function is np.ones:
        return not keywords and len(args) == 1 and _plain(args[0], 10_000)
    if function is np.array:
        return not keywords and len(args) == 1 and type(args[0]) is list and all(_plain(one, inf) for one in args[0])
    if function is bytes:
        return False
    # A class makes an object; anything else, as River's initializers, an array of a shape.
    numbers_only = (one for one in (*args, *keywords.values()) if type(one) is int)
    return isinstance(function, type) or all(abs(one) <= _SIZE_MAX for one in numbers_only)


def _itemgetter(given: tuple[Any, ...]) -> Any:
    if given and all(type(one) in (str, int) for one in given):
        return operator.itemgetter(*given)
    return _not_so("itemgetter", given)


def _range(given: tuple[Any, ...]) -> Any:
    whole = len(given) == 3 and all(type(one) is int and abs(one) <= _SIZE_MAX for one in given) and given[2]
    return made if whole and len(made := range(*given)) <= _RANGE_MAX else _not_so("range", given)


def _random(given: tuple[Any, ...]) -> Any:
    return random.Random(0) if not given else _not_so("Random", given)


def _put_random(target: Any, state: Any) -> None:
    match state:
        case (3, tuple(words), gauss) if (
            len(words) == _MT_WORDS + 1
            and all(type(word) is int and 0 <= word < 2**32 for word in words)
            and (gauss is None or type(gauss) is float)
        ):
            target.setstate((3, words, gauss))
        case _:
            raise refused("put another state into a random generator")


def _put_normal(target: Any, state: Any) -> None:
    if not (type(state) is tuple and len(state) == 2 and all(type(one) in (int, float) for one in state)):
        raise refused("put another state into a normal distribution")
    target.__setstate__(state)


def _datetime(given: tuple[Any, ...]) -> Any:
    if len(given) == 1 and _stamp(given[0], 10):
        return datetime(*given)  # type: ignore[call-arg]  # noqa: DTZ001 - ten bytes, as it pickles itself
    return _not_so("datetime", given)


def _date(given: tuple[Any, ...]) -> Any:
    if len(given) == 1 and _stamp(given[0], 4):
        return date(*given)  # type: ignore[call-arg]  # four bytes, as it pickles itself
    return _not_so("date", given)


def _stamp(one: object, size: int) -> bool:
    return type(one) is bytes and len(one) == size


def _timedelta(given: tuple[Any, ...]) -> Any:
    if len(given) == 3 and all(type(one) is int for one in given):
        return timedelta(*given)
    return _not_so("timedelta", given)


def _fraction(given: tuple[Any, ...]) -> Any:
    if len(given) == 2 and all(type(one) is int and one.bit_length() <= _FRACTION_BITS for one in given):
        return Fraction(*given)
    return _not_so("Fraction", given)


def _complex(given: tuple[Any, ...]) -> Any:
    if len(given) == 2 and all(type(one) is float for one in given):
        return complex(*given)
    return _not_so("complex", given)


def _type(given: tuple[Any, ...]) -> Any:
    return type(None) if given == (None,) else _not_so("type", given)


def _iter(given: tuple[Any, ...]) -> Any:
    return iter(given[0]) if len(given) == 1 and type(given[0]) is list else _not_so("iter", given)


def _put_place(target: Any, state: Any) -> None:
    if type(state) is not int:
        raise refused("put another state into an iterator")
    target.__setstate__(state)


def _tuple_maker(kind: Any, count: int) -> Make:
    return lambda given: kind(*given) if len(given) == count else _not_so(kind, given)


def _vector(given: tuple[Any, ...]) -> Any:
    match given:
        case (dict(content), factory, None, bool(as_it_is)) if factory is None or callable(factory):
            return VectorDict(content, factory, None, as_it_is)
    return _not_so("VectorDict", given)


def _method_maker(methods: Mapping[type, Method]) -> Make:
    """How `pickle` writes a bound method: `getattr` of an object and a name."""

    def make(given: tuple[Any, ...]) -> Any:
        if len(given) == 2 and type(given[1]) is str:
            owner, name = given
            if owner is str and name in _TEXT_METHODS:
                return getattr(str, name)
            names = _RANDOM_METHODS if type(owner) is random.Random else methods.get(type(owner), frozenset())
            if name in names:
                found = getattr(type(owner), name)
                bound = found.__get__(owner)
                if isinstance(bound, MethodType | BuiltinMethodType):
                    return bound
        raise refused(f"ask for a member of a {type(given[0]).__name__ if given else 'thing'}")

    return make


# -- numpy's


def _dtype(given: tuple[Any, ...]) -> Any:
    if len(given) == 3 and type(given[0]) is str and len(given[0]) <= 6 and given[0][0] in _ITEM_KINDS + "O":
        return np.dtype(given[0], copy=True)
    return _not_so("dtype", given)


def _put_dtype(target: Any, state: Any) -> None:
    """Nothing is put: what the state may say is what such a type is anyway."""
    match state:
        case (3, str(order), None, None, None, int(size), int(alignment), int(flags)) if (
            order in _NATIVE
            and size in (-1, target.itemsize)
            and alignment in (-1, target.alignment)
            and flags == target.flags
        ):
            return
    raise refused("put another state into a type of numbers")


def _sized(kind: Any, shape: Any, size: int) -> bool:
    """Whether so many bytes are an array of that type and shape."""
    if not isinstance(kind, np.dtype) or type(shape) is not tuple or len(shape) > 32:
        return False
    if not all(type(side) is int and 0 <= side <= 2**40 for side in shape):
        return False
    return kind.kind in _ITEM_KINDS and kind.itemsize > 0 and prod(shape) * kind.itemsize == size


def _frombuffer(given: tuple[Any, ...]) -> Any:
    match given:
        case (bytes() | bytearray() as content, kind, shape, "C" | "F" as order) if _sized(kind, shape, len(content)):
            return np.frombuffer(content, kind).reshape(shape, order=order)
    return _not_so("_frombuffer", given)


def _scalar(given: tuple[Any, ...]) -> Any:
    match given:
        case (kind, bytes(content)) if _sized(kind, (), len(content)) and content:
            return np.frombuffer(content, kind)[0]
    return _not_so("scalar", given)


def _reconstruct(given: tuple[Any, ...]) -> Any:
    match given:
        case (kind, (0,), b"b") if kind is np.ndarray:
            return np.ndarray((0,), "b")
    return _not_so("_reconstruct", given)


def _put_array(target: Any, state: Any) -> None:
    if target.shape != (0,) or target.base is not None:
        raise refused("put a state into an array that has one")
    match state:
        case (1, shape, kind, bool(), bytes(content)) if _sized(kind, shape, len(content)):
            target.__setstate__(state)
        case (1, tuple(shape), np.dtype(kind="O"), bool(), list(items)) if (
            len(shape) <= 32
            and all(type(side) is int and side >= 0 for side in shape)
            and prod(shape) == len(items)
            and not any(isinstance(item, np.ndarray) for item in items)  # they are freed on the C stack
        ):
            target.__setstate__(state)
        case _:
            raise refused("put another state into an array")


def _bit_generator(given: tuple[Any, ...]) -> Any:
    if len(given) == 1 and (given[0] is np.random.MT19937 or given[0] is np.random.PCG64):
        return given[0](0)
    return _not_so("bit generator", given)


def _generator_maker(kind: Any) -> Make:
    def make(given: tuple[Any, ...]) -> Any:
        if len(given) == 1 and type(given[0]) in (np.random.MT19937, np.random.PCG64):
            return kind(given[0])
        return _not_so(kind, given)

    return make


def _put_bits(target: Any, state: Any) -> None:
    seed = None
    if type(state) is tuple and len(state) == 2:
        state, seed = state
    if (seed is not None and type(seed) is not np.random.SeedSequence) or not _is_bit_state(state):
        raise refused("put another state into a bit generator")
    target.__setstate__((state, seed))


def _put_random_state(target: Any, state: Any) -> None:
    gauss = state.get("gauss") if type(state) is dict else None
    if type(gauss) is not float or state.get("has_gauss") not in (0, 1) or not _is_bit_state(state):
        raise refused("put another state into a random generator")
    target.__setstate__(state)


def _is_bit_state(state: object) -> bool:
    match state:
        case {"bit_generator": "MT19937", "state": {"key": np.ndarray() as key, "pos": int(place), **rest}} if not rest:
            return key.shape == (_MT_WORDS,) and key.dtype == np.uint32 and 0 <= place <= _MT_WORDS
        case {
            "bit_generator": "PCG64",
            "state": {"state": int(first), "inc": int(second), **rest},
            "has_uint32": 0 | 1,
            "uinteger": int(half),
        } if not rest:
            return 0 <= first < 2**128 and 0 <= second < 2**128 and 0 <= half < 2**32
    return False


def _seeds(given: tuple[Any, ...]) -> Any:
    if len(given) == 3 and given[0] is np.random.SeedSequence and given[2] is None:
        return np.random.SeedSequence(0)
    return _not_so("SeedSequence", given)


def _put_seeds(target: Any, state: Any) -> None:
    match state:
        case (entropy, int(spawned), np.ndarray() as pool, 4, ()) if (
            pool.shape == (4,)
            and pool.dtype == np.uint32
            and spawned >= 0
            and (entropy is None or (type(entropy) is int and 0 <= entropy < 2**256))
        ):
            target.__setstate_cython__(state)
        case _:
            raise refused("put another state into a sequence of seeds")


def admit(admitted: Admitted, methods: Mapping[type, Method]) -> None:
    """Add all of these to the tables."""
    for kind in (bool, bytes, dict, float, frozenset, int, list, object, set, str, tuple):
        admitted.names["builtins", kind.__name__] = kind
    admitted.names["numbers", "Number"] = numbers.Number
    admitted.names["copy", "deepcopy"] = copy.deepcopy
    admitted.names["numpy", "ones"], admitted.names["numpy", "array"] = np.ones, np.array
    admitted.names["numpy", "ndarray"] = np.ndarray
    named: dict[tuple[str, str], tuple[Any, Make]] = {
        ("collections", "Counter"): (Counter, _counter),
        ("collections", "OrderedDict"): (OrderedDict, empty_maker(OrderedDict)),
        ("collections", "defaultdict"): (defaultdict, _defaultdict),
        ("collections", "deque"): (deque, _deque),
        ("datetime", "date"): (date, _date),
        ("datetime", "datetime"): (datetime, _datetime),
        ("datetime", "timedelta"): (timedelta, _timedelta),
        ("fractions", "Fraction"): (Fraction, _fraction),
        ("random", "Random"): (random.Random, _random),
        ("river._river_rust.vectordict", "VectorDict"): (VectorDict, _vector),
        ("builtins", "complex"): (complex, _complex),
    }
    tokens: dict[tuple[str, str], Make] = {
        ("builtins", "getattr"): _method_maker(methods),
        ("builtins", "iter"): _iter,
        ("builtins", "range"): _range,
        ("builtins", "type"): _type,
        ("functools", "partial"): _partial,
        ("numpy", "dtype"): _dtype,
        ("numpy.random._pickle", "__bit_generator_ctor"): _bit_generator,
        ("numpy.random._pickle", "__generator_ctor"): _generator_maker(np.random.Generator),
        ("numpy.random._pickle", "__randomstate_ctor"): _generator_maker(np.random.RandomState),
        ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"): _seeds,
        ("operator", "itemgetter"): _itemgetter,
        **{(f"{core}.multiarray", "scalar"): _scalar for core in ("numpy._core", "numpy.core")},
        **{(f"{core}.multiarray", "_reconstruct"): _reconstruct for core in ("numpy._core", "numpy.core")},
        **{(f"{core}.numeric", "_frombuffer"): _frombuffer for core in ("numpy._core", "numpy.core")},
    }
    named |= {name: (Token(name[1]), make) for name, make in tokens.items()}
    for name, (value, make) in named.items():
        admitted.names[name] = value
        admitted.calls[id(value)] = make
        admitted.costs[id(value)] = _COSTS.get(name[1], admitted.costs.get(id(value), 0))
    admitted.copiers.add(id(VectorDict))
    for module, kind in (
        ("numpy.random._mt19937", np.random.MT19937),
        ("numpy.random._pcg64", np.random.PCG64),
        ("numpy.random.bit_generator", np.random.SeedSequence),
    ):
        admitted.names[module, kind.__name__] = kind
    _admit_states(admitted)


def _admit_states(admitted: Admitted) -> None:
    for module, kind, count in (
        ("driftline.core.drift.change_point", Change, 4),
        ("river.imblearn.hard_sampling", Triplet, 3),
    ):
        admitted.names[module, kind.__name__] = kind
        admitted.news[id(kind)] = _tuple_maker(kind, count)
    admitted.names["statistics", "NormalDist"] = statistics.NormalDist
    admitted.news[id(statistics.NormalDist)] = lambda given: statistics.NormalDist()
    states: dict[Any, Callable[[Any, Any], None]] = {
        functools.partial: _put_partial,
        random.Random: _put_random,
        statistics.NormalDist: _put_normal,
        type(iter([])): _put_place,
        np.ndarray: _put_array,
        np.random.MT19937: _put_bits,
        np.random.PCG64: _put_bits,
        np.random.RandomState: _put_random_state,
        np.random.SeedSequence: _put_seeds,
        **{type(np.dtype(code)): _put_dtype for code in ("b1", "O", "U1", "S1", "m8", "M8")},
        **{type(np.dtype(f"{kind}{size}")): _put_dtype for kind in "iu" for size in (1, 2, 4, 8)},
        **{type(np.dtype(code)): _put_dtype for code in ("f2", "f4", "f8", "c8", "c16")},
    }
    admitted.states.update({id(kind): put for kind, put in states.items()})
