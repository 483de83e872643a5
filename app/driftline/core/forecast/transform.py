"""What the model and the intervals see of a number, and back."""

from __future__ import annotations

from collections.abc import Callable
from math import expm1, inf, log1p, sqrt
from typing import Final, Literal

from msgspec import Struct

_MOST: Final = 700.0  # beyond it the exponential overflows
_ROOT_MOST: Final = 1e150


class Transform(Struct, frozen=True, gc=False):
    """A rising function and its inverse.

    Args:
        least: below it nothing is seen.
    """

    forth: Callable[[float], float]
    back: Callable[[float], float]
    least: float


def transform_of(name: Literal["none", "sqrt", "log"], least: float | None) -> Transform:
    """A transform by its name in the pipeline file.

    Args:
        least: below it nothing is to be forecast.
    """
    if name == "log":
        return Transform(_log, _exp, _log(least or 0.0))
    if name == "sqrt":
        return Transform(_sqrt, _square, _sqrt(least or 0.0))
    return Transform(_same, _same, -inf if least is None else least)


def _same(value: float) -> float:
    return value


def _sqrt(value: float) -> float:
    return sqrt(max(value, 0.0))


def _square(value: float) -> float:
    return min(value, _ROOT_MOST) ** 2


def _log(value: float) -> float:
    return log1p(max(value, 0.0))


def _exp(value: float) -> float:
    return expm1(min(value, _MOST))
