"""The two steps of River's that most pipelines are made of, each in one function.

`StandardScaler` and the linear models (`LogisticRegression`, `LinearRegression`) are a dozen calls a record, and the
calls cost more than the arithmetic. Here the same operations are done on the same objects in the same order, so that
every bit is River's own; what is not exactly one of these is left to River. Tests hold the states against River's,
digest by digest.

Source: river 0.26, `preprocessing/scale.py`, `linear_model/base.py`, `optim/losses.py`, `optim/sgd.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp
from typing import Any

from river import linear_model, optim, preprocessing
from river.utils import VectorDict

_FLAT = 18.0  # beyond it `optim.losses.Log` takes the exponential for what it tends to
_CERTAIN = 30  # beyond it `utils.math.sigmoid` is 0 or 1
_MISSES_MAX = 100


class Scaling:
    """A `StandardScaler` whose numbers are taken out of its dicts into lists, by place instead of by name, at half the
    cost.

    They are put back by `settle`, without which nobody else may look at the scaler. Taken are features that it has
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
        scaler, count = self._scaler, self._count
        for name, mean, variance in zip(names or (), self._means, self._variances, strict=False):
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
        if len(counts) != 1:
            self._misses += 1
            return False
        self._names, self._count = names, counts.pop()
        self._means = [scaler.means[name] for name in names]
        self._variances = [scaler.vars[name] for name in names]
        self._roots = [variance**0.5 if variance else 0.0 for variance in self._variances]
        return True


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
    if not _is_linear(model) or model.l1 or type(model.optimizer).look_ahead is not optim.base.Optimizer.look_ahead:
        return None
    loss, optimizer, initializer = model.loss, model.optimizer, model.initializer
    most, least, penalty = model.clip_gradient, -model.clip_gradient, model.l2
    plain, logarithmic = type(optimizer) is optim.SGD, type(loss) is optim.losses.Log
    rate, intercept_rate = _constant(optimizer.lr), _constant(model.intercept_lr)
    scaled = VectorDict.from_scaled

    def learn(features: Any, label: Any) -> None:
        if before is not None:
            features = before(features)
        weights: Any = VectorDict(model._weights, initializer, features)
        raw = weights.dot(features) + model.intercept
        if not logarithmic:
            slope = loss.gradient(label, raw)
        else:
            sign, weight = (-1, loss.weight_neg) if label == 0 else (int(label), loss.weight_pos)
            z = raw * sign
            if z > _FLAT:
                slope = weight * exp(-z) * -sign
            elif z < -_FLAT:
                slope = weight * -sign
            else:
                slope = weight * -sign / (exp(z) + 1.0)
        slope *= 1.0
        if most < slope:
            slope = most
        if least > slope:
            slope = least
        slope = float(slope)
        gradient = scaled(features, slope)
        if penalty:
            gradient.iadd_scaled(weights, penalty)
        count = optimizer.n_iterations
        model.intercept -= (model.intercept_lr.get(count) if intercept_rate is None else intercept_rate) * slope
        if plain:
            weights.isub_scaled(gradient, optimizer.lr.get(count) if rate is None else rate)
            optimizer.n_iterations = count + 1
        else:
            optimizer.step(w=weights, g=gradient)

    return learn


def probability(model: Any, before: Callable[[Any], Any] | None = None) -> Callable[[Any], float] | None:
    """A function that says the probability of True as `LogisticRegression` does, of False it is the rest; else None.

    Args:
        before: see `descend`.
    """
    if not _is_linear(model) or type(model) is not linear_model.LogisticRegression:
        return None
    if type(model.loss).mean_func is not optim.losses.BinaryLoss.mean_func:
        return None

    def ask(features: Any) -> float:
        raw = model._weights.dot(features if before is None else before(features)) + model.intercept
        if raw < -_CERTAIN:
            return 0
        if raw > _CERTAIN:
            return 1
        return 1 / (1 + exp(-raw))

    return ask


def _constant(rate: Any) -> float | None:
    """A learning rate that stays as it is."""
    return rate.learning_rate if type(rate) is optim.schedulers.Constant else None


def _is_linear(model: Any) -> bool:
    return type(model) in (linear_model.LogisticRegression, linear_model.LinearRegression)
