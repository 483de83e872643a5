"""Limits for the guard of a pipeline, from the values that were seen."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import ceil, floor, inf, isfinite, log10
from typing import Any, Final

from msgspec import Struct

LABELS_MIN = 100  # labels before which `init` has predictions flagged
ODD: Final = 1_000  # a limit lets all labels pass but one in so many
PAIRS_MIN: Final = 100  # of anything, before a limit is made of it
RATIO_MAX: Final = 100  # times, beyond which a limit of a step says nothing
_RATIO_MIN = 1.5
_RECENT = 9
_DIGITS = 2
_EXPONENT_MAX = 300


def around(least: float, most: float) -> tuple[float, float]:
    """Between which values predictions may lie, with a margin as wide as all that was seen.

    What was never negative stays so: a least value of 0 or more becomes 0.

    Args:
        least, most: of the labels that were seen.
    """
    span = (most - least) or abs(most) or 1.0
    if not isfinite(span):
        return least, most
    low = 0.0 if least >= 0 else _rounded(least - span, up=False)
    high = 0.0 if most <= 0 < -least else _rounded(most + span, up=True)
    return low, high


def _rounded(value: float, *, up: bool) -> float:
    """To two digits, away from what was seen."""
    if not value or not isfinite(value):
        return value
    digits = _DIGITS - 1 - floor(log10(abs(value)))
    if digits > _EXPONENT_MAX:  # 10 ** digits would overflow: so near 0 that it need not be rounded
        return value
    rounded = _whole(value, digits, up=up, more=0)
    if (rounded < value) if up else (rounded > value):  # scaling has lost the last bit
        rounded = _whole(value, digits, up=up, more=1)
    return rounded if isfinite(rounded) else value


def _whole(value: float, digits: int, *, up: bool, more: int) -> float:
    """A value to so many digits behind the point, or before it, and `more` units further away."""
    unit = 10.0 ** abs(digits)  # exact, and so is what is divided by it or multiplied with it, as far as it can be
    scaled = value * unit if digits >= 0 else value / unit
    whole = ceil(scaled) + more if up else floor(scaled) - more
    return whole / unit if digits >= 0 else whole * unit


class Jumps(Struct, frozen=True):
    """Limits of a step.

    Args:
        ratio, tolerance: of the section `guard.step`.
    """

    ratio: float
    tolerance: float

    @property
    def why(self) -> str:
        """What they were made from."""
        near = f"all but one in {ODD:,} of the labels are within {self.ratio:g} times their series' last ones"
        return near + (f", or {self.tolerance:g} from them" if self.tolerance else "")


class Seen:
    """What was seen of the values of series, for limits of a step."""

    def __init__(self) -> None:
        self.jumps, self.apart, self.sizes = array("d"), array("d"), array("d")

    def add(self, value: float, near: Sequence[float]) -> None:
        """One more value.

        Args:
            near: where its series lets it be expected; none of the first ones.
        """
        self.sizes.append(abs(value))
        if near:
            self.jumps.append(min([times(value, one) for one in near]))
            self.apart.append(min([abs(value - one) for one in near]))

    def step(self) -> Jumps | None:
        """Limits of a step; None where too little was seen.

        After a 0, and where the sign changes, every other value is beyond any ratio: where that is usual (a demand that
        is mostly 0, amounts of either sign), the tolerance is what lets all of them pass but one in `ODD`.
        """
        count = len(self.jumps)
        if count < PAIRS_MIN:
            return None
        tolerance = _below(quantile(self.sizes, 0.05))
        far_off = sorted(far for jump, far in zip(self.jumps, self.apart, strict=True) if jump == inf)
        if sum(far > tolerance for far in far_off) * ODD > count:
            tolerance = above(far_off[-1 - min(count // ODD, len(far_off) - 1)])
        beyond = [1.0 if far <= tolerance else jump for jump, far in zip(self.jumps, self.apart, strict=True)]
        finite = [jump for jump in beyond if isfinite(jump)]
        if len(finite) < PAIRS_MIN:
            return None
        return Jumps(max(_RATIO_MIN, above(quantile(finite, 1 - 1 / ODD))), tolerance)


class Pasts:
    """Where each series is by its past: its value of the same time in the season, and the median of the latest few."""

    def __init__(self) -> None:
        self._last: dict[Any, tuple[list[float], dict[int, float]]] = {}

    def near(self, key: Any, value: float, phase: int) -> list[float]:
        """Where a value is expected to be, before it is taken in; nothing in the first season.

        Args:
            phase: which step of the season it is of.
        """
        recent, phases = self._last.setdefault(key, ([], {}))
        near = [phases[phase], sorted(recent)[len(recent) // 2]] if phase in phases else []
        recent.append(value)
        del recent[:-_RECENT]
        phases[phase] = value
        return near


def step_of_series(keys: Iterable[Any], values: Iterable[Any], season: int) -> Jumps | None:
    """Limits of a step of forecasts from rows in order of time, without gaps.

    Args:
        keys: which series each row is of.
        values: observations; others than numbers are passed over.
        season: in rows of a series.
    """
    pasts, counts, seen = Pasts(), Counter[Any](), Seen()
    for key, value in zip(keys, values, strict=True):
        if isinstance(value, int | float) and isfinite(value):
            seen.add(value, pasts.near(key, float(value), counts[key] % season))
            counts[key] += 1
    return seen.step()


def step_of_rows(keys: Iterable[Any], labels: Iterable[Any]) -> Jumps | None:
    """Limits of a step from rows in order of time.

    Args:
        keys: which series each row is of.
        labels: numbers; others are passed over.
    """
    last: dict[Any, float] = {}
    seen = Seen()
    for key, label in zip(keys, labels, strict=True):
        if isinstance(label, int | float) and isfinite(label):
            seen.add(label, [last[key]] if key in last else [])
            last[key] = label
    return seen.step()


def times(value: float, other: float) -> float:
    """How many times the larger of two values is as large as the smaller one."""
    small, large = sorted((abs(value), abs(other)))
    if (value < 0) != (other < 0) and small:
        return inf
    return large / small if small else (inf if large else 1.0)


def quantile(numbers: Sequence[float], share: float) -> float:
    """The number below which so many of them are."""
    ordered = sorted(numbers)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def above(value: float) -> float:
    """Two digits, upwards."""
    return _two_digits(value, ceil)


def _below(value: float) -> float:
    """Two digits, downwards."""
    return _two_digits(value, floor)


def _two_digits(value: float, rounding: Callable[[float], int]) -> float:
    if not value or not isfinite(value):
        return value
    digits = 1 - floor(log10(abs(value)))
    return round(rounding(value * 10.0**digits) / 10.0**digits, max(digits, 0))
