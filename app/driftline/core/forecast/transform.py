"""What the model and the intervals see of a number, and back."""

from __future__ import annotations

from collections.abc import Callable
from math import expm1, inf, log1p, sqrt
from typing import Final, Literal

import numpy as np
from msgspec import Struct

_MOST: Final = 700.0  # beyond it the exponential overflows
_ROOT_MOST: Final = 1e150


class Transform(Struct, frozen=True, gc=False):
    """A rising function and its inverse.

    Args:
        least: below it nothing is seen.
        forth_all: of many numbers, bit for bit what `forth` makes of each.
    """

    forth: Callable[[float], float]
    back: Callable[[float], float]
    least: float
    forth_all: Callable[[list[float]], list[float]]


def transform_of(name: Literal["none", "sqrt", "log"], least: float | None) -> Transform:
    """A transform by its name in the pipeline file.

    Args:
        least: below it nothing is to be forecast.
    """
    if name == "log":
        return Transform(_log, _exp, _log(least or 0.0), _log_all)
    if name == "sqrt":
        return Transform(_sqrt, _square, _sqrt(least or 0.0), _sqrt_all)
    return Transform(_same, _same, -inf if least is None else least, _same_all)


def _same(value: float) -> float:
    return value


def _same_all(values: list[float]) -> list[float]:
    return values


def _sqrt(value: float) -> float:
    return sqrt(max(value, 0.0))


def _sqrt_all(values: list[float]) -> list[float]:
    seen: list[float] = np.sqrt(np.maximum(values, 0.0)).tolist()  # IEEE 754 rounds roots alike everywhere
    return seen


def _square(value: float) -> float:
    return min(value, _ROOT_MOST) ** 2


def _log(value: float) -> float:
    return log1p(max(value, 0.0))


def _log_all(values: list[float]) -> list[float]:
    return list(map(_log, values))


def _exp(value: float) -> float:
    return expm1(min(value, _MOST))
