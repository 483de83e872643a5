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
    scaled = value * 10.0**digits
    rounded = (ceil(scaled) if up else floor(scaled)) / 10.0**digits
    return float(rounded) if isfinite(rounded) else value
