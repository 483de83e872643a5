"""The two River steps that most pipelines consist of, each in one function.

`StandardScaler` and the linear models (`LogisticRegression`, `LinearRegression`) are a dozen calls a record, and the
calls cost more than the arithmetic. Here the same operations are done on the same objects in the same order, so that
every bit is River's own; what is not exactly one of these is left to River. Tests hold the states against River's,
digest by digest.

Source: river 0.26, `preprocessing/scale.py`, `linear_model/base.py`, `optim/losses.py`, `optim/sgd.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from river import linear_model, optim, preprocessing
from river.utils import VectorDict

from driftline.core.model.fast.logistic import SlopeOf, sigmoid, slope_of
from driftline.core.model.fast.weighted import Moments, Scale, Scaled, counts_on

_MISSES_MAX = 100
_MEAN_OF_BITS = optim.losses.BinaryLoss.mean_func


class Scaling:
    """A `StandardScaler` whose numbers are taken out of its dicts into lists, by place instead of by name, at half the
    cost.

    They are put back by `settle`, without which no one else may look at the scaler. Taken are features that it has
    seen, all of them equally often; whatever else comes goes River's way, and whoever sends now these, now others is
    left to it for good.
    """

    __slots__ = ("_count", "_means", "_misses", "_names", "_roots", "_scaler", "_variances")

    def __init__(self, scaler: Any) -> None:
        self._scaler = scaler
        self._names: tuple[Any, ...] | None = None
        self._count = 0
        self._means: list[float] = []
        self._variances: list[float] = []
        self._roots: list[float] = []
        self._misses = 0

    def transform(self, features: Any) -> Any:
        """What `transform_one` returns."""
        if tuple(features) != self._names and not self._take(features):
            return self._scaler.transform_one(features)
        means, roots = self._means, self._roots
        scaled, place = {}, 0
        for name, value in features.items():
            root = roots[place]
            scaled[name] = (value - means[place]) / root if root else 0.0
            place += 1  # noqa: SIM113 - `enumerate` costs a tenth more
        return scaled

    def advance(self, features: Any) -> Any:
        """Let it learn features, and return them scaled: `learn_one`, then `transform_one`."""
        if tuple(features) != self._names and not self._take(features):
            self._scaler.learn_one(features)
            return self._scaler.transform_one(features)
        self._count = count = self._count + 1
        means, variances, roots = self._means, self._variances, self._roots
        scaled, place = {}, 0
        for name, value in features.items():
            mean = means[place]
            before = value - mean
            means[place] = mean = mean + before / count
            after = value - mean
            variance = variances[place]
            variances[place] = variance = variance + (before * after - variance) / count
            roots[place] = root = variance**0.5 if variance else 0.0
            scaled[name] = after / root if root else 0.0
            place += 1  # noqa: SIM113 - `enumerate` costs a tenth more
        return scaled

    def settle(self) -> None:
        """Put back what was taken: the scaler is what it would be by itself."""
        names, self._names = self._names, None
        if names is None:
            return
        scaler, (count, means, variances) = self._scaler, self._held()
        for name, mean, variance in zip(names, means, variances, strict=True):
            scaler.counts[name], scaler.means[name], scaler.vars[name] = count, mean, variance

    def _take(self, features: Any) -> bool:
        """Take the numbers of these features, in place of others; false if they cannot be."""
        if self._names is not None:
            self._misses += 1
            self.settle()
        names, scaler = tuple(features), self._scaler
        if self._misses > _MISSES_MAX or not all(name in scaler.vars and name in scaler.means for name in names):
            return False
        counts = {scaler.counts[name] for name in names}
        if len(counts) != 1 or not all(map(counts_on, counts)):
            self._misses += 1
            return False
        means, variances = [scaler.means[name] for name in names], [scaler.vars[name] for name in names]
        if not self._hold((counts.pop(), means, variances)):
            return False
        self._names = names
        return True

    def _hold(self, numbers: Moments) -> bool:
        """Hold what was taken; false of what cannot be."""
        self._count, self._means, self._variances = numbers
        self._roots = [variance**0.5 if variance else 0.0 for variance in self._variances]
        return True

    def _held(self) -> Moments:
        return self._count, self._means, self._variances


class RowScaling(Scaling):
    """The same for the values of an event, by place: floats, whole numbers and truth values only."""

    __slots__ = ("_row",)

    _row: Scale

    def transform_row(self, names: tuple[Any, ...], row: Sequence[Any]) -> Sequence[Any]:
        """What `transform_one` returns of features with these names and values, without the names."""
        if names != self._names and not self._take(names):
            return list(self._scaler.transform_one(dict(zip(names, row, strict=True))).values())
        return self._row.transform(row)

    def advance_row(self, names: tuple[Any, ...], row: Sequence[Any]) -> Sequence[Any]:
        """The same, once it has learned them: `learn_one`, then `transform_one`."""
        if names != self._names and not self._take(names):
            features = dict(zip(names, row, strict=True))
            self._scaler.learn_one(features)
            return list(self._scaler.transform_one(features).values())
        return self._row.advance(row)

    def _hold(self, numbers: Moments) -> bool:
        _, means, variances = numbers
        if not all(type(number) is float for number in (*means, *variances)) or min(variances, default=0.0) < 0.0:
            return False
        self._row = Scaled(numbers)
        return True

    def _held(self) -> Moments:
        return self._row.numbers()


def row_scaling(scaler: Any) -> RowScaling | None:
    """As `scaling`, by place."""
    return None if scaling(scaler) is None else RowScaling(scaler)


def scaling(scaler: Any) -> Scaling | None:
    """The scaling of a `StandardScaler`; None for any other step, and where it has a window or no variances."""
    if type(scaler) is not preprocessing.StandardScaler or scaler.window_size is not None or not scaler.with_std:
        return None
    return Scaling(scaler)


def descend(model: Any, before: Callable[[Any], Any] | None = None) -> Callable[[Any, Any], None] | None:
    """A function that does what `learn_one` of a linear model does; None for any other, or where it has a penalty or
    an optimizer that needs more.

    Args:
        before: makes of the features what the model sees; a call of its own would cost a tenth more.
    """
    if not descends(model):
        return None
    optimizer, initializer, penalty = model.optimizer, model.initializer, model.l2
    slope_of, plain, adaptive = slope(model), type(optimizer) is optim.SGD, type(optimizer) is optim.AdaGrad
    rate, intercept_rate = constant(getattr(optimizer, "lr", None)), constant(model.intercept_lr)
    scaled = VectorDict.from_scaled

    def learn(features: Any, label: Any) -> None:
        if before is not None:
            features = before(features)
        weights: Any = VectorDict(model._weights, initializer, features)
        steepness = slope_of(label, weights.dot(features) + model.intercept)
        gradient = scaled(features, steepness)
        if penalty:
            gradient.iadd_scaled(weights, penalty)
        count = optimizer.n_iterations
        model.intercept -= (model.intercept_lr.get(count) if intercept_rate is None else intercept_rate) * steepness
        if plain:
            weights.isub_scaled(gradient, optimizer.lr.get(count) if rate is None else rate)
            optimizer.n_iterations = count + 1
        elif adaptive:
            squares, step, least = optimizer.g2, optimizer.lr.get(count) if rate is None else rate, optimizer.eps
            for name, part in gradient.items():
                squares[name] = total = squares[name] + part**2
                weights[name] -= step / (total + least) ** 0.5 * part
            optimizer.n_iterations = count + 1
        else:
            optimizer.step(w=weights, g=gradient)

    return learn


def descends(model: Any) -> bool:
    """Whether `learn_one` is one step down the slope of the loss: a linear model without what needs more."""
    linear = type(model) in (linear_model.LogisticRegression, linear_model.LinearRegression)
    return linear and not model.l1 and type(model.optimizer).look_ahead is optim.base.Optimizer.look_ahead


def slope(model: Any) -> SlopeOf:
    """A function from a label and what a linear model says before its link to the clipped gradient of the loss."""
    return slope_of(model.loss, model.clip_gradient)


def link(model: Any) -> Callable[[float], float] | None:
    """What makes of a linear model's weighted sum the probability of True, of False it is the rest of 1, or the number
    that it says; None of a model that does something else."""
    if type(model) is linear_model.LinearRegression:
        return model.loss.mean_func  # type: ignore[no-any-return]  # River is untyped
    if type(model) is linear_model.LogisticRegression and type(model.loss).mean_func is _MEAN_OF_BITS:
        return sigmoid
    return None


def says(
    model: Any, linked: Callable[[float], float], before: Callable[[Any], Any] | None = None
) -> Callable[[Any], float]:
    """A function from features to what a linear model with this `link` says.

    Args:
        before: see `descend`.
    """

    def ask(features: Any) -> float:
        return linked(model._weights.dot(features if before is None else before(features)) + model.intercept)

    return ask


def constant(rate: Any) -> float | None:
    """A learning rate that stays as it is."""
    return rate.learning_rate if type(rate) is optim.schedulers.Constant else None
