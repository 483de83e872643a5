"""A linear model whose features come and go: predict and learn with its weights taken out of River's dictionaries.

What `init` writes for mixed data and texts ends in one: one-hot columns, hashed values, AdaGrad. Its weights, and the
sums that AdaGrad keeps of each, are taken out by name, and worked with as River does, in the same order, so that every
bit is River's own (`named`). Tests hold the states against River's, digest by digest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from math import isfinite
from typing import Any

from river import optim

from driftline.core.model.fast.kernel import constant, descend, descends, says, slope
from driftline.core.model.fast.named import WHOLE_MAX, Held, Named

_TRIES_MAX = 100


class NamedLinear:
    """The model, with its numbers by name.

    They are put back by `settle`, without which no one else may look at the model; it is also what comes before each
    answer that is River's to give (of features that are no plain numbers, of sums that overflow). Whoever asks for that
    too often, or has numbers that cannot be taken, is left to River for good.

    Args:
        link: makes of the weighted sum what the model says.
    """

    def __init__(self, model: Any, link: Callable[[float], float]) -> None:
        self._model, self._optimizer = model, model.optimizer
        self._link, self._slope = link, slope(model)
        self._own_ask, self._own_teach = says(model, link), descend(model)
        self._rate, self._intercept_rate = constant(model.optimizer.lr), constant(model.intercept_lr)
        self._adapts = type(model.optimizer) is optim.AdaGrad
        self._tries = 0
        self._taken: Named | None = None

    def ask(self, features: Any) -> float:
        """What the model says of features."""
        taken = self._taken
        if taken is None:
            taken = self._take()
        if taken is not None and (total := taken.ask(features)) is not None:
            return self._link(total + self._model.intercept)
        self._leave()
        return self._own_ask(features)

    def teach(self, features: Any, label: Any) -> None:
        """What `learn_one` does."""
        taken, model, optimizer = self._taken, self._model, self._optimizer
        if taken is None:
            taken = self._take()
        if taken is not None and (total := taken.advance(features)) is not None:
            steepness, count = self._slope(label, total + model.intercept), optimizer.n_iterations
            intercept_rate, rate = self._intercept_rate, self._rate
            if rate is None:
                rate = optimizer.lr.get(count)
            if isfinite(steepness) and _is_plain(rate):
                model.intercept -= (
                    model.intercept_lr.get(count) if intercept_rate is None else intercept_rate
                ) * steepness
                taken.descend(steepness, rate)
                optimizer.n_iterations = count + 1
                return
        self._leave()
        self._own_teach(features, label)  # type: ignore[misc]  # `named_linear` has asked whether there is one

    def settle(self) -> None:
        """Put back what was taken: the model is what it would be by itself."""
        taken, self._taken = self._taken, None
        if taken is None:
            return
        names, weights, squares = taken.numbers()
        self._model._weights.update(dict(zip(names, weights, strict=True)))
        if self._adapts:
            self._optimizer.g2.update(zip(names, squares, strict=True))

    def _leave(self) -> None:
        """What follows is River's."""
        if self._taken is not None:
            self._tries += 1
            self.settle()

    def _take(self) -> Named | None:
        """Take the numbers out; None if they cannot be."""
        if self._tries > _TRIES_MAX:
            return None
        weights = self._model._weights.to_dict()
        squares = self._optimizer.g2 if self._adapts else dict.fromkeys(weights, 0.0)
        fits = list(weights) == list(squares) and type(squares) in (dict, defaultdict)
        if fits and all(map(_is_weight, weights.values())) and all(map(_is_sum, squares.values())):
            numbers = list(weights), list(weights.values()), list(squares.values())
            self._taken = Held(numbers, self._optimizer.eps if self._adapts else None)
        else:
            self._tries += 1
        return self._taken


def _is_weight(value: Any) -> bool:
    return type(value) is float and isfinite(value)


def _is_sum(value: Any) -> bool:
    return type(value) is float and 0.0 <= value < float("inf")


def _is_plain(rate: Any) -> bool:
    return (type(rate) is float and isfinite(rate)) or (type(rate) is int and -WHOLE_MAX <= rate <= WHOLE_MAX)


def named_linear(model: Any, link: Callable[[float], float] | None) -> NamedLinear | None:
    """A linear model so; None of any other, or where it has a penalty, an optimizer or weights to begin with that need
    more.

    Args:
        link: of the model, as `kernel.link` has it.
    """
    if link is None or not descends(model) or model.l2 or type(model.initializer) is not optim.initializers.Zeros:
        return None
    optimizer = model.optimizer
    if type(optimizer) is optim.AdaGrad:
        return NamedLinear(model, link) if _is_plain(optimizer.eps) and optimizer.eps >= 0 else None
    return NamedLinear(model, link) if type(optimizer) is optim.SGD else None
