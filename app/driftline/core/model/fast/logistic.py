"""The logistic function, and the slope of its loss.

Written twice, as the arithmetic of `weighted` is: here, and in `_weighted.pyx`. `sigmoid` and `slope_of` are the
compiled ones if they are there and give, on this machine, the bits of those in Python.

Source: river 0.26, `optim/losses.py`, `utils/math.py`.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from math import exp
from typing import Any, Final, TypeAlias

from river import optim

_FLAT: Final = 18.0  # beyond it `optim.losses.Log` takes the exponential for what it tends to
_CERTAIN: Final = 30  # beyond it `utils.math.sigmoid` is 0 or 1

SlopeOf: TypeAlias = Callable[[Any, float], float]
"""From a label and what a model says before its link to the clipped gradient of the loss."""


def plain_sigmoid(raw: float) -> float:
    """What `utils.math.sigmoid` says."""
    if raw < -_CERTAIN:
        return 0
    if raw > _CERTAIN:
        return 1
    return 1 / (1 + exp(-raw))


def plain_slope(loss: Any, most: float) -> SlopeOf:
    """The slope of any loss.

    Args:
        most: size of a gradient that is not clipped.
    """
    least = -most
    logarithmic = type(loss) is optim.losses.Log
    positive, negative = (loss.weight_pos, loss.weight_neg) if logarithmic else (1, 1)

    def slope_of(label: Any, raw: float) -> float:
        if not logarithmic or (label != 1 and label != 0):
            found = loss.gradient(label, raw)
        else:
            sign, weight = (1, positive) if label else (-1, negative)
            z = raw * sign  # and not -raw: that would turn the sign of a NaN
            if z > _FLAT:
                found = weight * exp(-z) * -sign
            elif z < -_FLAT:
                found = weight * -sign
            else:
                found = weight * -sign / (exp(z) + 1.0)
        found *= 1.0
        if most < found:
            found = most
        if least > found:  # after the other, as River has it: a bound may be negative
            found = least
        return float(found)

    return slope_of


def slope_of(loss: Any, most: float) -> SlopeOf:
    """The same, compiled where the loss is the logistic one and both classes count alike."""
    plain = plain_slope(loss, most)
    alike = type(loss) is optim.losses.Log and loss.weight_pos == loss.weight_neg == 1
    return _slope(_FLAT, most, plain) if _slope is not None and alike and type(most) is float else plain


def _bits(numbers: list[float]) -> bytes:
    return struct.pack(f"{len(numbers)}d", *numbers)


def same_logistic(sigmoid: Callable[[float], float], slope: Callable[[float, float, SlopeOf], SlopeOf]) -> bool:
    """Whether these give the bits of those in Python, as far as some 800 numbers show; see `weighted.same_bits`."""
    source = random.Random(29)
    raws = [0.0, -0.0, 17.9, 18.5, -18.5, 29.9, 30.1, -30.1, 700.0, -700.0, *map(float, ("nan", "-nan", "inf", "-inf"))]
    raws += [source.gauss(0, 1) * 10.0 ** source.randint(-9, 2) for _ in range(800)]
    try:
        if any(repr(sigmoid(raw)) != repr(plain_sigmoid(raw)) for raw in raws):
            return False
        for most in (1e12, 0.3, 0.0, -1.0):
            one = plain_slope(optim.losses.Log(), most)
            other = slope(_FLAT, most, one)
            for label in (True, False, 1, 0.0):
                if _bits([one(label, raw) for raw in raws]) != _bits([other(label, raw) for raw in raws]):
                    return False
        return True
    except Exception:  # noqa: BLE001 - whatever is wrong with them, there are others
        return False


sigmoid: Callable[[float], float] = plain_sigmoid
_slope: Callable[[float, float, SlopeOf], SlopeOf] | None = None
try:
    from driftline.core.model.fast._weighted import Slope as _CompiledSlope
    from driftline.core.model.fast._weighted import sigmoid as _compiled_sigmoid

    if same_logistic(_compiled_sigmoid, _CompiledSlope):
        sigmoid, _slope = _compiled_sigmoid, _CompiledSlope
except ImportError:  # no compiler was there when it was installed, or it was compiled from an older source
    pass
is_compiled = _slope is not None
