"""The arithmetic of a `StandardScaler`, and of one before a linear model: values scaled, weighted, added up.

It is written twice: here, and in `_weighted.pyx`, which is compiled where there is a C compiler and does the same ten
times as fast. `Weighted` and `Scaled` are the compiled ones if they are there and give, on this machine, the bits of
those in Python.

Source: river 0.26, `preprocessing/scale.py`, `linear_model/base.py`, `optim/sgd.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

Numbers: TypeAlias = tuple[int, list[float], list[float], list[float], float]


Moments: TypeAlias = tuple[int, list[float], list[float]]
"""Values seen; then by place means and variances, which are not negative."""


def counts_on(count: Any) -> bool:
    """Whether one can count on from there in 64 bits."""
    return type(count) is int and 0 <= count < 2**62


class Scale(Protocol):
    """A scaler of values by place: numbers, or truth values."""

    def transform(self, row: Sequence[Any]) -> list[float]:
        """These values, scaled."""

    def advance(self, row: Sequence[Any]) -> list[float]:
        """The same, after they were learned."""

    def numbers(self) -> Moments: ...


class PlainScale:
    """The one in Python."""

    def __init__(self, numbers: Moments) -> None:
        self._count, means, variances = numbers
        self._means, self._variances = list(means), list(variances)
        self._roots = [variance**0.5 if variance else 0.0 for variance in variances]

    def transform(self, row: Sequence[Any]) -> list[float]:
        return [
            (value - mean) / root if root else 0.0
            for value, mean, root in zip(row, self._means, self._roots, strict=True)
        ]

    def advance(self, row: Sequence[Any]) -> list[float]:
        self._count = count = self._count + 1
        means, variances, roots = self._means, self._variances, self._roots
        scaled: list[float] = []
        for place, value in enumerate(row):
            mean, variance = means[place], variances[place]
            before = value - mean
            means[place] = mean = mean + before / count
            after = value - mean
            variances[place] = variance = variance + (before * after - variance) / count
            roots[place] = root = variance**0.5 if variance else 0.0
            scaled.append(after / root if root else 0.0)
        return scaled

    def numbers(self) -> Moments:
        return self._count, list(self._means), list(self._variances)


class Sum(Protocol):
    """What both can do."""

    def ask(self, values: Sequence[Any]) -> float:
        """The weighted sum of these values, each scaled, and the intercept.

        Args:
            values: numbers, or truth values; as many as there are weights.
        """

    def advance(self, values: Sequence[Any]) -> float:
        """The same, after the scaler has learned the values."""

    def descend(self, slope: float) -> None:
        """One step of SGD for the values that `advance` saw last; `slope` is that of the loss there."""

    def numbers(self) -> Numbers:
        """Values seen; then by place means, variances and weights; and the intercept."""


Rates: TypeAlias = tuple[float, float, float]
"""Of learning the weights, of learning the intercept, and the L2 penalty."""

Make: TypeAlias = Callable[[Numbers, Rates], Sum]


class PlainSum:
    """The one in Python."""

    def __init__(self, numbers: Numbers, rates: Rates) -> None:
        self._count, means, variances, weights, self._intercept = numbers
        self._means, self._variances, self._weights = list(means), list(variances), list(weights)
        self._rate, self._intercept_rate, self._penalty = rates
        self._roots = [variance**0.5 if variance else 0.0 for variance in variances]
        self._scaled = [0.0] * len(means)
        self._places = range(len(means))

    def ask(self, values: Sequence[Any]) -> float:
        means, roots, weights = self._means, self._roots, self._weights
        total = 0.0
        for place in self._places:
            root = roots[place]
            total += weights[place] * ((values[place] - means[place]) / root if root else 0.0)
        return total + self._intercept

    def advance(self, values: Sequence[Any]) -> float:
        means, variances, roots, weights = self._means, self._variances, self._roots, self._weights
        scaled = self._scaled
        self._count = count = self._count + 1
        total = 0.0
        for place in self._places:
            value, mean, variance = values[place], means[place], variances[place]
            before = value - mean
            means[place] = mean = mean + before / count
            after = value - mean
            variances[place] = variance = variance + (before * after - variance) / count
            roots[place] = root = variance**0.5 if variance else 0.0
            scaled[place] = value = after / root if root else 0.0
            total += weights[place] * value
        return total + self._intercept

    def descend(self, slope: float) -> None:
        weights, scaled, rate, penalty = self._weights, self._scaled, self._rate, self._penalty
        self._intercept -= self._intercept_rate * slope
        if not penalty:
            for place in self._places:
                weights[place] -= scaled[place] * slope * rate
            return
        for place in self._places:
            weight = weights[place]
            weights[place] = weight - (scaled[place] * slope + weight * penalty) * rate

    def numbers(self) -> Numbers:
        return self._count, list(self._means), list(self._variances), list(self._weights), self._intercept


def same_bits(make: Make) -> bool:
    """Whether sums made so give the bits of the one in Python, as far as 400 steps show.

    False, too, of one that cannot be made so: it was built from another source.
    """
    try:
        return _same_bits(make)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, there is another
        return False


def _same_bits(make: Make) -> bool:
    source = random.Random(26)
    start: Numbers = (3, [0.5, 1e-3, -7.0, 2.0], [4.0, 1e-9, 0.0, 1e12], [0.1, -3.0, 0.0, 1e-5], 0.25)
    sums = [(PlainSum(start, rates), make(start, rates)) for rates in ((0.01, 0.02, 0.0), (0.01, 0.02, 0.1))]
    for number in range(400):
        one, other = sums[number % 2]
        values = (source.gauss(5, 2), source.random() * 10.0 ** source.randint(-170, 3), 3, source.gauss(0, 1e6))
        if (one.ask(values), one.advance(values)) != (other.ask(values), other.advance(values)):
            return False
        slope = source.uniform(-1, 1)
        one.descend(slope)
        other.descend(slope)
    return all(one.numbers() == other.numbers() for one, other in sums)


def same_scale(make: Callable[[Moments], Scale]) -> bool:
    """The same of scales."""
    source = random.Random(27)
    start: Moments = (3, [0.5, 1e-3, -7.0, 2.0], [4.0, 1e-9, 0.0, 1e12])
    try:
        one, other = PlainScale(start), make(start)
        for _ in range(400):
            row = [source.gauss(5, 2), source.random() * 10.0 ** source.randint(-170, 3), 3, source.gauss(0, 1e6)]
            if (one.transform(row), one.advance(row)) != (other.transform(row), other.advance(row)):
                return False
        return one.numbers() == other.numbers()
    except Exception:  # noqa: BLE001 - as above
        return False


compiled: Make | None
try:
    from driftline.core.model.fast._weighted import Sum as CompiledSum

    compiled = CompiledSum
except ImportError:  # no compiler was there when it was installed
    compiled = None

compiled_scale: Callable[[Moments], Scale] | None
try:
    from driftline.core.model.fast._weighted import Scale as CompiledScale

    compiled_scale = CompiledScale
except ImportError:  # as above, or it was compiled from an older source
    compiled_scale = None

Scaled = compiled_scale if compiled_scale is not None and same_scale(compiled_scale) else PlainScale
Weighted: Make = compiled if compiled is not None and same_bits(compiled) else PlainSum
arithmetic = "in Python" if Weighted is PlainSum or Scaled is PlainScale else "compiled"
