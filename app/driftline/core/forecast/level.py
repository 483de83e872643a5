"""Where a series is, by those of its observations that lie within the step limits of the guard.

An observation counts if it is near enough to the latest one of the same time in the season that counted, or to the
median of the latest few that did: one odd value moves neither far, and a unit that changes from pieces to pallets moves
nothing. A series does move to another level at last: after so many observations in a row that did not count, if that
level is near enough (`times`), or when a person approves a forecast that was made of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from math import inf, isnan, nan
from typing import Any, Final

from driftline.core.forecast.series import Series

RECENT: Final = 9


class Level:
    """See the module.

    Attributes:
        values: by step of the season, the latest observation that counted; NaN before the first.
        recent: the latest `RECENT` that were near their median, or the first of their time in the season; the last one
            last. What is near only to the latest of its time is left out: on quiet days any unit is within the
            tolerance, and the level would follow it day by day.
        beyond: observations in a row that did not count.
    """

    __slots__ = ("beyond", "recent", "values")

    def __init__(self, values: list[float], recent: list[float], beyond: int = 0) -> None:
        self.values = values
        self.recent = recent
        self.beyond = beyond

    @classmethod
    def of(cls, series: Series, season: int, steps: int | None = None) -> Level:
        """As if the latest steps of a series counted, and nothing before them.

        Args:
            steps: how many; None: all that are known.
        """
        known = series.values if steps is None else series.values[-steps:]
        values = [nan] * season
        for back in range(min(season, len(known))):
            values[(series.slot - back) % season] = known[-1 - back]
        return cls(values, known[-RECENT:])

    @classmethod
    def load(cls, kept: Sequence[Any]) -> Level:
        values, recent, beyond = kept
        return cls(array("d", values).tolist(), array("d", recent).tolist(), beyond)

    def dumped(self) -> list[Any]:
        return [array("d", self.values).tobytes(), array("d", self.recent).tobytes(), self.beyond]

    def times(self, series: Series) -> float | None:
        """How many times as large as here the latest observations are, which do not count: the median of each over
        what the level has for it; None where that is 0, or of the other sign, which is no matter of a unit."""
        found = []
        for back in range(min(RECENT, self.beyond, len(series.values))):
            here = self.at(series.slot - back) or self.middle
            if here:
                found.append(series.values[-1 - back] / here)
        times = sorted(found)[len(found) // 2] if found else 0.0
        return times if 0 < times < inf else None

    @property
    def last(self) -> float:
        """The latest observation that was near the median."""
        return self.recent[-1]

    @property
    def middle(self) -> float:
        """The median of those; of an even number of them, the upper one."""
        return sorted(self.recent)[len(self.recent) // 2]

    def at(self, slot: int) -> float | None:
        """The latest observation that counted, of the same time in the season as a step."""
        value = self.values[slot % len(self.values)]
        return None if isnan(value) else value

    def take(self, slot: int, value: float, near: Callable[[float, float], bool]) -> None:
        """An observation has come.

        Args:
            near: whether a value is within the limits of another.
        """
        earlier, usual = self.at(slot), near(value, self.middle)
        if earlier is None or usual or near(value, earlier):
            self.values[slot % len(self.values)] = value
            self.beyond = 0
        else:
            self.beyond += 1
        if usual or earlier is None:
            self.recent = [*self.recent[1 - RECENT :], value]
