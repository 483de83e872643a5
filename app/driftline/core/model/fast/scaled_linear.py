"""A `StandardScaler` before a linear model: predict and learn in one step.

What most pipelines of numbers are. River keeps every number of the two by its feature's name; here they are taken out,
by the feature's place, and worked with as River does, in the same order, so that every bit is River's own. Tests hold
the states against River's, digest by digest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from river import optim

from driftline.core.model.fast.kernel import constant, descends, link, scaling, slope
from driftline.core.model.fast.weighted import Rates, Sum, Weighted, counts_on

_TRIES_MAX = 100


class Terms(NamedTuple):
    """How a linear model answers, and learns by plain SGD at rates that stay as they are.

    Args:
        link: makes of the weighted sum what the model says.
    """

    link: Callable[[float], float]
    rates: Rates


class OwnWay(NamedTuple):
    """How a scaler and a linear model are asked and taught by themselves, and `settle`: made what River would make."""

    ask: Callable[[Any], float]
    teach: Callable[[Any, Any], None]
    settle: Callable[[], None]


def terms_of(scaler: Any, model: Any) -> Terms | None:
    """The terms on which the two can go this way; None if they cannot."""
    if scaling(scaler) is None or not descends(model) or type(model.optimizer) is not optim.SGD:
        return None
    linked, rate, intercept_rate = link(model), constant(model.optimizer.lr), constant(model.intercept_lr)
    if linked is None or rate is None or intercept_rate is None:
        return None
    return Terms(linked, (rate, intercept_rate, model.l2))


class Line:
    """The two, with their numbers by place.

    Taken are the numbers of features that both have seen, the scaler all of them equally often, the model in declared
    order; until that comes, and where it never does, the two go their own way. It is tried after each of the first
    `_TRIES_MAX` pairs that were learned so, and once it fits, whenever something is asked or taught after a `settle`,
    which puts the numbers back: without it no one else may look at the two.

    Args:
        names: of the features, in declared order.
        terms: of the model.
        own: their own way.
    """

    def __init__(self, scaler: Any, model: Any, names: Sequence[str], terms: Terms, own: OwnWay) -> None:
        self._scaler, self._model, self._names = scaler, model, list(names)
        self._own = own
        self._link, self._rates, self._slope = terms.link, terms.rates, slope(model)
        self._tries = 0
        self._fits = False  # the numbers could be taken when this was last tried
        self._taken: Sum | None = None

    def ask(self, values: Sequence[Any]) -> float:
        """What the model says of values."""
        taken = self._taken
        if taken is None and (taken := self._take()) is None:
            return self._own.ask(values)
        return self._link(taken.ask(values))

    def teach(self, values: Sequence[Any], label: Any) -> None:
        """What `learn_one` does with the values, by their names, and the label."""
        taken = self._taken
        if taken is None and (taken := self._take()) is None:
            self._own.teach(values, label)
            if self._tries < _TRIES_MAX:
                self._tries += 1
                self._fits = True
                self._take()
            return
        taken.descend(self._slope(label, taken.advance(values)))

    def settle(self) -> None:
        """Put back what was taken: the two are what they would be by themselves."""
        self._own.settle()
        taken, self._taken = self._taken, None
        if taken is None:
            return
        scaler, model = self._scaler, self._model
        count, means, variances, weights, intercept = taken.numbers()
        model.optimizer.n_iterations += count - scaler.counts[self._names[0]]
        model.intercept = intercept
        for name, mean, variance, weight in zip(self._names, means, variances, weights, strict=True):
            scaler.counts[name], scaler.means[name], scaler.vars[name] = count, mean, variance
            model._weights[name] = weight

    def _take(self) -> Sum | None:
        """Take the numbers out; None if they do not fit."""
        if not self._fits:
            return None
        self._own.settle()
        scaler, model, names = self._scaler, self._model, self._names
        known = all(name in scaler.vars and name in scaler.means for name in names)
        counts = {scaler.counts[name] for name in names}
        self._fits = known and len(counts) == 1 and all(map(counts_on, counts)) and list(model._weights) == names
        if self._fits:
            means = [float(scaler.means[name]) for name in names]
            variances = [float(scaler.vars[name]) for name in names]
            weights = [float(model._weights[name]) for name in names]
            self._fits = all(variance >= 0 for variance in variances)
            numbers = counts.pop(), means, variances, weights, model.intercept
            self._taken = Weighted(numbers, self._rates) if self._fits else None
        return self._taken
