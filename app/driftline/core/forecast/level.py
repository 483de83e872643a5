"""Where a series is, by those of its observations that lie within the step limits of the guard.

An observation counts if it is near enough to the latest one of the same time in the season that counted, or to the
latest of all: so neither a promotion nor a unit that changes from pieces to pallets moves what forecasts are measured
against. A series does move to another level at last: after so many observations in a row that did not count, or when a
person approves a forecast that was made of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from math import isnan, nan
from typing import Any

from driftline.core.forecast.series import Series


class Level:
    """See the module.

    Attributes:
        values: by step of the season, the latest observation that counted; NaN before the first.
        last: the latest that counted.
        beyond: observations in a row that did not count.
    """

    __slots__ = ("beyond", "last", "values")

    def __init__(self, values: list[float], last: float, beyond: int = 0) -> None:
        self.values = values
        self.last = last
        self.beyond = beyond

    @classmethod
    def of(cls, series: Series, season: int) -> Level:
        """As if all that is known of a series counted."""
        values = [nan] * season
        count = min(season, len(series.values))
        for back in range(count):
            values[(series.slot - back) % season] = series.values[-1 - back]
        return cls(values, series.values[-1])

    @classmethod
    def load(cls, kept: Sequence[Any]) -> Level:
        values, last, beyond = kept
        return cls(array("d", values).tolist(), last, beyond)

    def dumped(self) -> list[Any]:
        return [array("d", self.values).tobytes(), self.last, self.beyond]

    def at(self, slot: int) -> float | None:
        """The latest observation that counted, of the same time in the season as a step."""
        value = self.values[slot % len(self.values)]
        return None if isnan(value) else value

    def take(self, slot: int, value: float, near: Callable[[float, float], bool]) -> None:
        """An observation has come.

        Args:
            near: whether a value is within the limits of another.
        """
        earlier = self.at(slot)
        if earlier is None or near(value, earlier) or near(value, self.last):
            self.values[slot % len(self.values)] = self.last = value
            self.beyond = 0
        else:
            self.beyond += 1
