"""Limits for the guard of a pipeline, from the values that were seen."""

from __future__ import annotations

from math import ceil, floor, isfinite, log10

LABELS_MIN = 100  # labels before which `init` has predictions flagged
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
