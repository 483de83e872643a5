"""Kinds of labels: yes or no, a class, a number. A task says which kind it learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Protocol, TypeAlias

from driftline.core.record import LabelValue

_EXACT_MAX = 2**53  # up to here every whole number is a float; beyond 64 bits JSON has no integer to answer with

Read: TypeAlias = Callable[[object], LabelValue]


class TargetError(ValueError):
    """A label that the task cannot learn; the text says what is allowed."""


class Rules(Protocol):
    """What a pipeline says of its labels."""

    @property
    def positive(self) -> LabelValue | None: ...

    @property
    def negative(self) -> LabelValue | None: ...


class Bounds(Protocol):
    """What a pipeline allows at most."""

    @property
    def number_max(self) -> float: ...

    @property
    def string_max(self) -> int: ...


@dataclass(frozen=True)
class LabelKind:
    """A kind of label.

    Args:
        numeric: it is a number, and nothing else.
        textual: any text is a class of its own, words for numbers, truth values among them.
        two_valued: it is yes or no, as the pipeline's `positive` and `negative` say.
        reader: makes the function that reads a label of a record; that raises `TargetError`.
        assumable: makes the function that says whether a value in the pipeline file can be a label.
        allowed: what can be, as text.
    """

    numeric: bool
    textual: bool
    two_valued: bool
    reader: Callable[[Rules, Bounds], Read]
    assumable: Callable[[Rules], Callable[[LabelValue], bool]]
    allowed: Callable[[Rules], str]


def shown(value: object) -> str:
    """A wrong value as a reason quotes it: short, and not walked into, since nesting may be deeper than the stack."""
    if isinstance(value, str):
        return f"{value[:80]!r:.80}"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    return "an array" if isinstance(value, list) else "an object"


# -- yes or no


def _truth_reader(rules: Rules, _: Bounds) -> Read:
    positive, negative = rules.positive, rules.negative

    def read(value: object) -> LabelValue:
        if positive is None:
            if isinstance(value, (bool, int, float)) and value in (0, 1):  # a union type costs twice as much
                return bool(value)
            raise TargetError(f"a label must be true, false, 1 or 0, not {shown(value)} (or set label.positive)")
        if _type_of(value) != _type_of(positive):
            raise TargetError(f"a label must be {_type_of(positive)} like {positive!r}, not {shown(value)}")
        if value == positive:
            return True
        if negative is None or value == negative:
            return False
        raise TargetError(f"a label must be {positive!r} or {negative!r}, not {shown(value)}")

    return read


def _type_of(value: object) -> str:
    if isinstance(value, bool | int | float):
        return "a number or boolean"
    return "a string" if isinstance(value, str) else "neither string nor number"


def _assumable_truth(rules: Rules) -> Callable[[LabelValue], bool]:
    positive, negative = rules.positive, rules.negative
    if positive is None:
        return lambda value: not isinstance(value, str) and value in (0, 1)
    if negative is None:
        return lambda value: isinstance(value, str) == isinstance(positive, str)
    return lambda value: isinstance(value, str) == isinstance(positive, str) and value in (positive, negative)


def _truth_words(rules: Rules) -> str:
    if rules.positive is None:
        return "true, false, 1 or 0"
    other = repr(rules.negative) if rules.negative is not None else "another such value"
    return f"{rules.positive!r} or {other}"


# -- classes


def _class_reader(_: Rules, bounds: Bounds) -> Read:
    string_max = bounds.string_max

    def read(value: object) -> LabelValue:
        if isinstance(value, str):
            if len(value) > string_max:
                raise TargetError(f"a class has at most {string_max} characters")
            return value
        if isinstance(value, bool | int):
            return value
        if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT_MAX:
            return int(value)
        raise TargetError(f"a class must be a string, a whole number or a boolean, not {shown(value)}")

    return read


# -- numbers


def _number_reader(_: Rules, bounds: Bounds) -> Read:
    number_max = bounds.number_max

    def read(value: object) -> LabelValue:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TargetError(f"a label must be a number, not {shown(value)}")
        if not isfinite(value) or abs(value) > number_max:
            raise TargetError(f"a label must be a number of at most {number_max:g}, not {shown(value)}")
        return value

    return read


TRUTH = LabelKind(
    numeric=False,
    textual=False,
    two_valued=True,
    reader=_truth_reader,
    assumable=_assumable_truth,
    allowed=_truth_words,
)
CLASS = LabelKind(
    numeric=False,
    textual=True,
    two_valued=False,
    reader=_class_reader,
    assumable=lambda _: lambda value: not isinstance(value, float) or value.is_integer(),
    allowed=lambda _: "a string, a whole number, true or false",
)
NUMBER = LabelKind(
    numeric=True,
    textual=False,
    two_valued=False,
    reader=_number_reader,
    assumable=lambda _: lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    allowed=lambda _: "a number",
)
