"""Records exactly as the pipeline declares them: a scalar under each declared key, and no other key.

They are read in one go, at less than half the cost. Any other record is left to the reader that can tell what is wrong
with it; these it would read to the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import astuple

from driftline.core.notation import Path

SURPLUS_MAX, REST = 100, 10_000
EXACT_MAX = 2**53  # up to here every reader makes the same of a whole number

Kind: TypeAlias = Any  # a type as msgspec takes it
Read: TypeAlias = Callable[[bytes | None], tuple[Any, ...] | None]


class Declared(NamedTuple):
    """An input whose records can be read in one go.

    Args:
        form: a struct of a record: its id, its time where it is `timed`, and what else is declared, in order.
        bytes_max: of a record.
        ahead_max_ms: how far its time may lie ahead of the record's own.
    """

    form: type[Struct]
    bytes_max: int
    timed: bool
    ahead_max_ms: int


def usual(places: Sequence[tuple[Path, Kind]], bytes_max: int) -> Read:
    """A function from a record's bytes to the values at its places, in their order; to None for any other record.

    Args:
        places: the path to each value, and what it may be.
        bytes_max: of a record.
    """
    form = form_of(places)
    if form is None:
        return lambda value: None
    return _Reader(msgspec.json.Decoder(form).decode, bytes_max).read


def form_of(places: Sequence[tuple[Path, Kind]]) -> type[Struct] | None:
    """A struct of a record with values at these places; None where it cannot be read so."""
    keys = [str(path[0]) for path, _ in places if len(path) == 1]
    if not len(set(keys)) == len(keys) == len(places):
        return None
    fields = [(f"at{place}", kind) for place, (_, kind) in enumerate(places)]
    names = {field: key for (field, _), key in zip(fields, keys, strict=True)}
    try:
        return msgspec.defstruct("Usual", fields, rename=names, forbid_unknown_fields=True, gc=False)
    except ValueError:  # a key with a sign that JSON must escape
        return None


class _Reader:
    """Where it fails more often than not, by `SURPLUS_MAX` records, it lets `REST` of them pass without a try."""

    def __init__(self, decode: Callable[[bytes], Any], bytes_max: int) -> None:
        self._decode = decode
        self._bytes_max = bytes_max
        self._surplus = 0  # of those it could not read over those it could, never below 0
        self._rest = 0

    def read(self, value: bytes | None) -> tuple[Any, ...] | None:
        if self._rest:
            self._rest -= 1
            return None
        if value is None or len(value) > self._bytes_max:
            return None
        try:
            found = self._decode(value)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._surplus += 1
            if self._surplus >= SURPLUS_MAX:
                self._surplus, self._rest = 0, REST
            return None
        if self._surplus:
            self._surplus -= 1
        return astuple(found)


_EXACT = Annotated[int, Meta(ge=-EXACT_MAX, le=EXACT_MAX)]
SCALAR: Kind = str | bool | float | _EXACT
MOMENT: Kind = str | float | _EXACT


def name_of(length_max: int) -> Kind:
    """An id: text, or a whole number that is exact."""
    return text_of(length_max) | _EXACT


def key_of(length_max: int) -> Kind:
    """What a history is kept by: as an id, and not empty."""
    return Annotated[str, Meta(min_length=1, max_length=length_max)] | _EXACT


def text_of(length_max: int) -> Kind:
    """Text of so many characters at most."""
    return Annotated[str, Meta(max_length=length_max)]


def number_of(most: float) -> Kind:
    """A number from -most to most."""
    whole = min(int(most), EXACT_MAX)
    return Annotated[int, Meta(ge=-whole, le=whole)] | Annotated[float, Meta(ge=-most, le=most)]


reader: Callable[..., Any] | None = None
try:
    from driftline.codec._declared import Reader

    reader = Reader
except ImportError:  # no compiler was there when it was installed
    pass
is_compiled = reader is not None
