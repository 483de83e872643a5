"""What the model and the intervals see of a number, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        plain: numbers are seen as they are, however small.
    """

    forth: Callable[[float], float]
    back: Callable[[float], float]
    least: float
    forth_all: Callable[[list[float]], list[float]]
    plain: bool = False

    def restored(self, seen: Sequence[float]) -> list[float]:
        """What the model says of some numbers, in the units of the observations."""
        if self.plain:
            return list(seen)
        back, least = self.back, self.least
        return [back(max(value, least)) for value in seen]

    def bounds(
        self, seen: Sequence[float], halves: Sequence[float | None]
    ) -> tuple[list[float | None], list[float | None]]:
        """The lower and the upper bounds of the intervals around some numbers; None where there are none.

        Args:
            halves: half the widths, as the model sees numbers; None or NaN without one.
        """
        back, least, plain = self.back, self.least, self.plain
        lower: list[float | None] = []
        upper: list[float | None] = []
        for value, half in zip(seen, halves, strict=True):
            low = high = None
            if half is not None and half == half:
                low, high = (
                    (value - half, value + half)
                    if plain
                    else (back(max(value - half, least)), back(max(value + half, least)))
                )
                if not (-inf < low and high < inf):
                    low = high = None
            lower.append(low)
            upper.append(high)
        return lower, upper


def transform_of(name: Literal["none", "sqrt", "log"], least: float | None) -> Transform:
    """A transform by its name in the pipeline file.

    Args:
        least: below it nothing is to be forecast.
    """
    if name == "log":
        return Transform(_log, _exp, _log(least or 0.0), _log_all)
    if name == "sqrt":
        return Transform(_sqrt, _square, _sqrt(least or 0.0), _sqrt_all)
    return Transform(_same, _same, -inf if least is None else least, _same_all, plain=least is None)


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
