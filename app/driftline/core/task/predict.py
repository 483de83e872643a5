"""From a model's output to a prediction: of a number, and of a class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, isfinite
from typing import Any, Protocol, TypeAlias

from driftline.core.output import Prediction, Several
from driftline.core.record import FeatureValue, LabelValue

_PLAIN = frozenset({bool, int, float, str})
PROBABILITY_LEAST, PROBABILITY_MOST = -1e-9, 1.0 + 1e-9  # with what the rounding of sums may add
_CLASSES = (bool, int, float, str)  # what a label can be, and numpy's kinds of it
_LEAST, _MOST = -(2**63), 2**64 - 1  # of whole numbers in JSON, and so of labels
_TOO_LARGE = "the model names a class by a whole number beyond 64 bits, which no label can be"

Values: TypeAlias = Sequence[FeatureValue]
Predict: TypeAlias = Callable[[Any], Prediction | None]  # of what `core.river.ahead.Given` is for the task


class Asked(Protocol):
    """A model that answers to an event's values; see `core.model.dispatch.Walk`."""

    def ask(self, method: str) -> Callable[[Values], Any]: ...

    def probability(self) -> Callable[[Values], float] | None: ...


class MakePredictor(Protocol):
    """Makes the function from values to prediction that fits the task and what the model can do.

    That one returns None where the model gives a number that is not finite, or a probability that is not from 0 to 1.
    Where a pipeline of two classes declares a threshold, the class that is served is the one that the threshold
    decides: probability, prediction and decision of a score agree.

    Args:
        asked: the model, to be asked.
        model: the same as River has it.
        threshold: of the pipeline's decision, if it has one.
        probabilistic: the model is a classifier that gives probabilities.
    """

    def __call__(self, asked: Asked, model: Any, threshold: float | None, probabilistic: bool, /) -> Predict: ...


def number(method: str) -> MakePredictor:
    """Of a number that the model's method says."""

    def predictor(asked: Asked, model: Any, threshold: float | None, probabilistic: bool, /) -> Predict:
        say = asked.ask(method)
        return lambda values: _number(say(values))

    return predictor


def several(asked: Asked, model: Any, threshold: float | None, probabilistic: bool, /) -> Predict:
    """Of numbers by horizon (`core.river.ahead`)."""
    say = asked.ask("predict_one")

    def forecast(values: Values) -> Prediction | None:
        answer = say(values)
        if answer is None:
            return Prediction()
        ahead = tuple([float(value) for value in answer])
        return Several(value=ahead[0], ahead=ahead) if all(map(isfinite, ahead)) else None

    return forecast


def classes(asked: Asked, model: Any, threshold: float | None, probabilistic: bool, /) -> Predict:
    """Of one of many classes, with their probabilities where the model has them."""
    return _classes(asked, model, probabilistic, of_two=False, threshold=None)


def two_classes(asked: Asked, model: Any, threshold: float | None, probabilistic: bool, /) -> Predict:
    """Of yes or no; the value is the probability of yes."""
    probability = asked.probability()
    if probability is None:
        return _classes(asked, model, probabilistic, of_two=True, threshold=threshold)

    def decide(values: Values) -> Prediction | None:
        of_true = float(probability(values))  # River says 0 and 1 where they are certain
        of_false = 1.0 - of_true
        if not PROBABILITY_LEAST <= of_true <= PROBABILITY_MOST:
            return None
        # Of equals the first, False, as River's own `predict_one` has it.
        label = of_true > of_false if threshold is None else of_true >= threshold
        return Prediction(label, {False: of_false, True: of_true}, of_true)

    return decide


def of_two(of_true: float, threshold: float | None) -> Prediction:
    """Yes or no by a probability of yes, as `two_classes` makes it."""
    of_false = 1.0 - of_true
    label = of_true > of_false if threshold is None else of_true >= threshold
    return Prediction(label, {False: of_false, True: of_true}, of_true)


def _classes(asked: Asked, model: Any, probabilistic: bool, *, of_two: bool, threshold: float | None) -> Predict:
    predict_one = asked.ask("predict_one")
    if not probabilistic:
        return lambda values: Prediction(label=_plain(predict_one(values)))
    predict_proba_one = asked.ask("predict_proba_one")
    own_label = _overrides_predict_one(model)
    usual = of_two and not own_label

    def classify(values: Values) -> Prediction | None:
        probabilities = predict_proba_one(values)
        if usual and len(probabilities) == 2 and (known := _yes_or_no(probabilities, threshold)) is not None:
            return known
        label, most, plain = predict_one(values) if own_label else None, -inf, True
        for name, probability in probabilities.items():
            if not PROBABILITY_LEAST <= probability <= PROBABILITY_MOST:
                return None
            if not isinstance(name, _CLASSES) or not isinstance(probability, float | int):
                raise TypeError(
                    f"the model gives a {type(name).__name__} a {type(probability).__name__} as probability"
                )
            if isinstance(name, int) and not _LEAST <= name <= _MOST:
                raise TypeError(_TOO_LARGE)
            if type(probability) is not float:  # an int or a bool: what waits would come back as a float
                plain = False
            if probability > most and not own_label:  # of equals the first, as River's own `predict_one` has it
                label, most = name, probability
        if label is not True and label is not False:
            label = _plain(label)
        value = float(probabilities.get(True, 0.0)) if of_two and probabilities else None
        if value is not None and threshold is not None:
            label = value >= threshold
        shares = dict(probabilities) if plain else {name: float(share) for name, share in probabilities.items()}
        return Prediction(label, shares, value)  # a copy: a model may hand out what it goes on to change

    return classify


def _yes_or_no(probabilities: Any, threshold: float | None) -> Prediction | None:
    """Of probabilities of False and True, in this order, as most models of two classes give them; None of others."""
    (first, of_false), (second, of_true) = probabilities.items()
    if not (first is False and second is True and type(of_false) is type(of_true) is float):
        return None
    if not PROBABILITY_LEAST <= of_false <= PROBABILITY_MOST or not PROBABILITY_LEAST <= of_true <= PROBABILITY_MOST:
        return None
    label = of_true > of_false if threshold is None else of_true >= threshold
    return Prediction(label, {False: of_false, True: of_true}, of_true)


def _number(answer: Any) -> Prediction | None:
    if answer is None:
        return Prediction()
    value = float(answer)
    return Prediction(value=value) if isfinite(value) else None


def _plain(label: Any) -> LabelValue | None:
    """numpy scalars (some models return them) as Python's own."""
    if type(label) in _PLAIN and type(label) is not int:
        return label  # type: ignore[no-any-return]  # just seen
    plain = label.item() if hasattr(label, "item") else label
    if plain is not None and not isinstance(plain, _CLASSES):
        raise TypeError(f"the model says a {type(plain).__name__}, which is no class")
    if isinstance(plain, int) and not _LEAST <= plain <= _MOST:
        raise TypeError(_TOO_LARGE)
    return plain


def _overrides_predict_one(model: Any) -> bool:
    from river import base

    from driftline.core.river.building import last_step

    return type(last_step(model)).predict_one is not base.Classifier.predict_one
