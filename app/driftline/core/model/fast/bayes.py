"""`MultinomialNB`: predict and learn without a `Counter.update` for each word.

The same operations are done on the same counters in the same order, so that every bit is River's own; the sum of
exponentials is SciPy's, as in River. Tests hold the states against River's, digest by digest.

Source: river 0.26, `naive_bayes/multinomial.py`, `naive_bayes/base.py`; Python 3.11, `Counter.update`.
"""

from __future__ import annotations

from math import exp, log
from typing import Any

from river import naive_bayes
from river.naive_bayes import base

_sum_of_exponentials = base.special.logsumexp  # type: ignore[attr-defined]  # what River calls


class Multinomial:
    """A model as it is asked and taught."""

    __slots__ = ("_model",)

    def __init__(self, model: Any) -> None:
        self._model = model

    def settle(self) -> None:
        """It takes nothing out of the model."""

    def ask(self, features: Any) -> Any:
        """What `predict_proba_one` says."""
        model = self._model
        classes, totals, alpha = model.class_counts, model.class_totals, model.alpha
        if not classes:
            return {}
        terms, find = alpha * len(model.feature_counts), model.feature_counts.get
        counted = [(frequency, find(name)) for name, frequency in features.items()]
        everything = sum(classes.values())
        found = {}
        for label, count in classes.items():
            share, rest = log(count / everything), totals[label] + terms
            found[label] = share + sum(
                [
                    frequency * log(((counts.get(label, 0.0) if counts is not None else 0.0) + alpha) / rest)
                    for frequency, counts in counted
                ]
            )
        whole = _sum_of_exponentials(list(found.values()))
        return {label: exp(likelihood - whole) for label, likelihood in found.items()}

    def teach(self, features: Any, label: Any) -> None:
        """What `learn_one` does."""
        model = self._model
        _add(model.class_counts, label, 1)
        counts, totals = model.feature_counts, model.class_totals
        for name, frequency in features.items():
            _add(counts[name], label, frequency)
            _add(totals, label, frequency)


def multinomial(model: Any) -> Multinomial | None:
    """The way of a `MultinomialNB`; None for any other model."""
    return Multinomial(model) if type(model) is naive_bayes.MultinomialNB else None


def _add(counter: Any, label: Any, count: Any) -> None:
    counter[label] = count + counter.get(label, 0) if counter else count
