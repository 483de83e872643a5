"""The champion: a River model as the core uses it.

`score` asks and does not change the model; `learn` changes it. What the model says is checked before anything else
sees it: a number that is not finite is never served and never learned from. The last good copy of the model, taken
every `COPY_EVERY` learn calls, then takes over as a new generation; without a finite answer from that one either,
the prediction is withheld.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from math import isfinite
from typing import Any

from river import base

from app.core.build import build_model, has_probabilities, last_step
from app.core.error import InvariantError
from app.core.output import Guard, ModelVersion, Prediction
from app.core.pipeline import Pipeline
from app.core.record import FeatureValue, LabelValue

COPY_EVERY = 10_000
_WITHHELD = Prediction()
_PLAIN = frozenset({bool, int, float, str})

Features = dict[str, FeatureValue]


class Learner:
    """A model, its version, and its last good copy.

    Args:
        pipeline: says the task and how to build the model.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        if not isinstance(pipeline, Pipeline):  # a snapshot could name this class with a model of its own
            raise InvariantError("a learner is made of a pipeline only")
        self._pipeline = pipeline
        self.generation = 0
        self.learned = 0
        self._good: bytes | None = None
        supervised = pipeline.task in ("binary", "multiclass")
        self._probabilistic = supervised and has_probabilities(build_model(pipeline))
        self.install(build_model(pipeline))

    def install(self, model: Any) -> None:
        """Put a model to work: its methods are looked up once."""
        self.model = model
        self._predict = _predictor(self._pipeline.task, model, self._probabilistic)
        self._learn_one = model.learn_one
        self._supervised = bool(getattr(model, "_supervised", True))

    def __getstate__(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "generation": self.generation,
            "learned": self.learned,
            "good": self._good,
            "probabilistic": self._probabilistic,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.generation = state["generation"]
        self.learned = state["learned"]
        self._good = state["good"]
        self._probabilistic = state["probabilistic"]
        self.model = state["model"]

    def attach(self, pipeline: Pipeline) -> None:
        """Take up work after unpickling: a pickled learner leaves the pipeline behind."""
        self._pipeline = pipeline
        self.install(self.model)

    @property
    def version(self) -> ModelVersion:
        return ModelVersion(self.generation, self.learned)

    def score(self, features: Features) -> tuple[Prediction, Guard]:
        """What is served for these features, and by whom. May put the last good copy to work."""
        prediction = self._predict(features)
        if _finite(prediction):
            return prediction, "served"
        self._fall_back()
        prediction = self._predict(features)
        if _finite(prediction):
            return prediction, "fallback"
        return _WITHHELD, "withheld"

    def learn(self, features: Features, label: LabelValue | None) -> None:
        """Learn one pair (or, for a model without labels, one event)."""
        if self._supervised:
            self._learn_one(features, label)
        else:
            self._learn_one(features)
        self.learned += 1
        if self.learned % COPY_EVERY == 0 and _finite(self._predict(features)):
            self._good = pickle.dumps(self.model, protocol=5)

    def reset(self) -> None:
        """Start again with an untrained model, as a new generation."""
        self.generation += 1
        self._good = None
        self.install(build_model(self._pipeline))

    def _fall_back(self) -> None:
        self.generation += 1
        good = self._good
        # Bytes that this very object pickled; snapshots check them before they get here.
        self.install(pickle.loads(good) if good is not None else build_model(self._pipeline))


def _finite(prediction: Prediction) -> bool:
    if prediction.value is not None and not isfinite(prediction.value):
        return False
    if prediction.probabilities is None:
        return True
    for probability in prediction.probabilities.values():  # noqa: SIM110 - `all` of two costs twice as much
        if not isfinite(probability):
            return False
    return True


def _predictor(task: str, model: Any, probabilistic: bool) -> Callable[[Features], Prediction]:
    """The function from features to prediction that fits the task and what the model can do."""
    if task == "regression":
        return lambda features: _number(model.predict_one(features))
    if task == "anomaly":
        return lambda features: _number(model.score_one(features))
    if not probabilistic:
        return lambda features: Prediction(label=_plain(model.predict_one(features)))
    binary = task == "binary"
    own_label = _overrides_predict_one(model)

    def classify(features: Features) -> Prediction:
        probabilities = model.predict_proba_one(features)
        if own_label:
            label = _plain(model.predict_one(features))
        else:
            label = _plain(max(probabilities, key=probabilities.get)) if probabilities else None
        if not probabilities:
            return Prediction(label, {})
        return Prediction(label, probabilities, float(probabilities.get(True, 0.0)) if binary else None)

    return classify


def _number(said: Any) -> Prediction:
    return Prediction(value=None if said is None else float(said))


def _plain(label: Any) -> LabelValue | None:
    """numpy scalars (some models return them) as Python's own."""
    if type(label) in _PLAIN:
        return label  # type: ignore[no-any-return]  # just seen
    return label.item() if hasattr(label, "item") else label  # type: ignore[no-any-return]  # River is untyped


def _overrides_predict_one(model: Any) -> bool:
    return type(last_step(model)).predict_one is not base.Classifier.predict_one
