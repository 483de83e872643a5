"""Where a series is, by those of its observations that lie within the step limits of the guard.

An observation counts if it is near enough to the latest one of the same time in the season that counted, or to the
median of the latest few that did: one odd value moves neither far, and a unit that changes from pieces to pallets moves
nothing. A series does move to another level at last: after so many observations in a row that did not count, if that
level is near enough (`times`), or when a person approves a forecast that was made of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from math import inf, isnan, nan
from typing import Any, Final, Protocol

from driftline.core.forecast.series import Series

RECENT: Final = 9


class Near(Protocol):
    """Whether a value is within the limits of another; the tolerance is that of the limits unless it is given."""

    def __call__(self, value: float, last: float, tolerance: float | None = None, /) -> bool: ...


class Level:
    """See the module.

    Attributes:
        values: by step of the season, the latest observation that counted; NaN before the first.
        recent: the latest `RECENT` that were near their median, or the first of their time in the season; the last one
            last. What is near only to the latest of its time is left out: on quiet days any unit is within the
            tolerance, and the level would follow it day by day.
        beyond: observations in a row that did not count, but for those that were near only to the latest of their time:
            where little is sold on one day, any unit is.
        doubtful: by step of the season, the latest of those. They count once one is near the median, or a season has
            passed, with none beyond the limits of both since.
    """

    __slots__ = ("beyond", "doubtful", "recent", "values")

    def __init__(
        self, values: list[float], recent: list[float], beyond: int = 0, doubtful: dict[int, float] | None = None
    ) -> None:
        self.values = values
        self.recent = recent
        self.beyond = beyond
        self.doubtful = doubtful or {}

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
        values, recent, beyond, *doubtful = kept  # the last is left out where there is none, as it once was never there
        found = dict(zip(array("q", doubtful[0]), array("d", doubtful[1]), strict=True)) if doubtful else {}
        return cls(array("d", values).tolist(), array("d", recent).tolist(), beyond, found)

    def dumped(self) -> list[Any]:
        doubtful = self.doubtful
        more = [array("q", doubtful).tobytes(), array("d", doubtful.values()).tobytes()] if doubtful else []
        return [array("d", self.values).tobytes(), array("d", self.recent).tobytes(), self.beyond, *more]

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

    def take(self, slot: int, value: float, near: Near) -> None:
        """An observation has come.

        Args:
            near: whether a value is within the limits of another.
        """
        earlier, usual, place = self.at(slot), near(value, self.middle), slot % len(self.values)
        if usual or earlier is None:
            self._confirm(usual)
            self.values[place] = value
            self.recent, self.beyond = [*self.recent[1 - RECENT :], value], 0
        elif not near(value, earlier):
            self.beyond += 1
            self.doubtful.clear()
        elif not self.beyond:
            if place in self.doubtful:  # a whole season, and none was beyond
                self._confirm()
            self.doubtful[place] = value

    def _confirm(self, sure: bool = True) -> None:
        """What was doubtful counts."""
        if sure and self.doubtful:
            for place, value in self.doubtful.items():
                self.values[place] = value
            self.doubtful.clear()
