"""The arithmetic of a linear model's weights, by name: of features that come and go, as one-hot and hashed ones do.

It is written twice, as that of `weighted` is: here, and in `_weighted.pyx`. `Held` is the compiled one if it is there
and gives, on this machine, the bits of the one in Python.

Taken are numbers that a float holds exactly, and sums that are finite; of anything else both say None, and it is
River's to answer.

Source: river 0.26, `linear_model/base.py`, `optim/sgd.py`, `optim/ada_grad.py`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, Final, Protocol, TypeAlias

WHOLE_MAX: Final = 2**53  # a float holds it, and whatever is less, exactly

ByName: TypeAlias = tuple[list[Any], list[float], list[float]]
"""Names in the order in which they came; by place their weights, and the sums of their squared gradients."""


class Named(Protocol):
    """What both can do."""

    def ask(self, features: Mapping[Any, Any]) -> float | None:
        """The weighted sum of features; one that was never learned counts nothing."""

    def advance(self, features: Mapping[Any, Any]) -> float | None:
        """The same of features that are learned next: new ones have a weight from now on, which is 0."""

    def descend(self, slope: float, rate: float) -> None:
        """One step of SGD, or of AdaGrad, for the features that `advance` saw last.

        Args:
            slope: of the loss there; finite, as the rate is.

        Raises:
            OverflowError, ZeroDivisionError: as River does.
        """

    def numbers(self) -> ByName: ...


Make: TypeAlias = Callable[[ByName, float | None], Named]
"""From numbers, and what AdaGrad adds under the root; None of SGD, whose squares stay 0."""


class PlainNamed:
    """The one in Python."""

    def __init__(self, numbers: ByName, least: float | None) -> None:
        names, weights, squares = numbers
        self._places = {name: place for place, name in enumerate(names)}
        self._weights, self._squares = list(weights), list(squares)
        self._least = least
        self._shown: list[tuple[int, Any]] = []

    def ask(self, features: Mapping[Any, Any]) -> float | None:
        if type(features) is not dict and type(features) is not Counter:
            return None
        place_of, weights, total = self._places.get, self._weights, 0.0
        for name, value in features.items():
            if type(value) is not float and not _is_exact(value):
                return None
            place = place_of(name)
            total += (0.0 if place is None else weights[place]) * value
        return total if isfinite(total) else None

    def advance(self, features: Mapping[Any, Any]) -> float | None:
        if type(features) is not dict and type(features) is not Counter:
            return None
        places, weights, total = self._places, self._weights, 0.0
        self._shown = shown = []
        for name, value in features.items():
            if type(value) is not float and not _is_exact(value):
                return None
            place = places.get(name)
            if place is None:
                places[name] = place = len(weights)
                weights.append(0.0)
                self._squares.append(0.0)
            shown.append((place, value))
            total += weights[place] * value
        return total if isfinite(total) else None

    def descend(self, slope: float, rate: float) -> None:
        weights, squares, least = self._weights, self._squares, self._least
        if least is None:
            for place, value in self._shown:
                weights[place] -= value * slope * rate
            return
        for place, value in self._shown:
            part = value * slope
            squares[place] = total = squares[place] + part**2
            weights[place] -= rate / (total + least) ** 0.5 * part

    def numbers(self) -> ByName:
        return list(self._places), list(self._weights), list(self._squares)


def _is_exact(value: Any) -> bool:
    return (type(value) is int or type(value) is bool) and -WHOLE_MAX <= value <= WHOLE_MAX


def same_named(make: Make) -> bool:
    """Whether weights kept so give the bits of those in Python, as far as 400 steps show; see `weighted.same_bits`."""
    try:
        return all(_same(make, least) for least in (None, 1e-8, 0.0))
    except Exception:  # noqa: BLE001 - whatever is wrong with it, there is another
        return False


def _same(make: Make, least: float | None) -> bool:
    source = random.Random(28)
    start: ByName = (["a", 3, "b"], [0.5, -1e-3, 7.0], [0.25, 1e-9, 1e12])
    one, other = PlainNamed(start, least), make(start, least)
    for _ in range(400):
        features: dict[Any, Any] = {
            "a": source.gauss(5, 2),
            3: source.choice((1, -1, True)),
            source.choice(("b", "c", f"d{source.randrange(50)}")): 10.0 ** source.randint(-160, 3) + source.random(),
        }
        if one.ask(features) != other.ask(features) or one.advance(features) != other.advance(features):
            return False
        slope, rate = source.uniform(-1, 1), source.uniform(0.001, 0.1)
        one.descend(slope, rate)
        other.descend(slope, rate)
    return one.numbers() == other.numbers()


compiled: Make | None
try:
    from driftline.core.model.fast._weighted import Named as CompiledNamed

    compiled = CompiledNamed
except ImportError:  # no compiler was there when it was installed, or it was compiled from an older source
    compiled = None

Held: Make = compiled if compiled is not None and same_named(compiled) else PlainNamed
is_compiled = Held is not PlainNamed
