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


def scale_and_learn(scaler: Any) -> Callable[[Any], Any] | None:
    """A function that lets a `StandardScaler` learn features and returns them scaled; None for any other step."""
    if type(scaler) is not preprocessing.StandardScaler or scaler.window_size is not None or not scaler.with_std:
        return None

    def advance(features: Any) -> Any:
        counts, means, variances = scaler.counts, scaler.means, scaler.vars
        scaled = {}
        for name, value in features.items():
            counts[name] = count = counts[name] + 1
            mean = means[name]
            before = value - mean
            means[name] = mean = mean + before / count
            after = value - mean
            variance = variances[name]
            variances[name] = variance = variance + (before * after - variance) / count
            scaled[name] = after / variance**0.5 if variance else 0.0
        return scaled

    return advance


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
