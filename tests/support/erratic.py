"""Models of a user's own that answer with anything at all, drawn from a seed that is part of their state."""

from __future__ import annotations

from math import inf, nan
from random import Random
from typing import Any

import numpy as np
from river import base
from river.base.anomaly_detector import AnomalyDetector

SANE = 0.4  # of the answers
_NUMBERS: tuple[Any, ...] = (
    nan, inf, -inf, 0.0, -0.0, 1e308, -1e308, 5e-324, 1e15, -1.0, 1.0, 2.0, -1e-9, 1.0 + 1e-9, 0.5, 1e6, -73_197.0,
    np.float64(0.25), np.float64("nan"), np.float32(1e38), np.int64(7), True, 2**70,
)  # fmt: skip
_NOTHING: tuple[Any, ...] = (None, "0.5", [0.5])
CLASSES: tuple[Any, ...] = (True, False, "a", "b", "never seen", "", "\x00", 7, 2**64 + 1, 0.5, nan)
_NO_CLASSES: tuple[Any, ...] = (None, ("a",))
ODD = 0.02  # of the answers that are no sane ones: no numbers, or no classes


class Erratic(base.Base):
    """Draws its answers; what it learns only moves the level that sane ones are near."""

    def __init__(self, seed: int = 1) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.level = 10.0

    def number(self) -> Any:
        rng = self.rng
        if rng.random() < SANE:
            self.level *= rng.choice((1.0, 1.0, 1.0, 1.0, 3.0, 1 / 3))  # jumps, now and then
            return self.level * rng.gauss(1, 0.1)
        if rng.random() < 0.5:
            return rng.choice((1, -1)) * 10.0 ** rng.uniform(-320, 308)
        return rng.choice(_NOTHING if rng.random() < ODD else _NUMBERS)

    def shares(self) -> Any:
        rng = self.rng
        p = rng.random() if rng.random() < SANE else self.number()
        if rng.random() < SANE:
            return {False: 1 - p if isinstance(p, float) else p, True: p}
        classes = _NO_CLASSES if rng.random() < ODD else CLASSES
        return {rng.choice(classes): self.number() for _ in range(rng.choice((0, 1, 2, 3)))}


class ErraticClassifier(Erratic, base.Classifier):
    """Gives probabilities of any classes, which need not add up to 1, or be numbers."""

    @property
    def _multiclass(self) -> bool:
        return True

    def learn_one(self, x: dict[Any, Any], y: Any, **kwargs: Any) -> None:
        self.level = 10.0

    def predict_proba_one(self, x: dict[Any, Any], **kwargs: Any) -> Any:
        return self.shares()


class ErraticRegressor(Erratic, base.Regressor):
    """Gives any number, or none."""

    def learn_one(self, x: dict[Any, Any], y: Any, **kwargs: Any) -> None:
        self.level = 10.0

    def predict_one(self, x: dict[Any, Any], **kwargs: Any) -> Any:
        return self.number()


class ErraticDetector(Erratic, AnomalyDetector):
    """Gives any score."""

    def learn_one(self, x: dict[Any, Any]) -> None:
        self.level = 10.0

    def score_one(self, x: dict[Any, Any]) -> Any:
        return self.number()


def classifier() -> base.Estimator:
    return ErraticClassifier()


def regressor() -> base.Estimator:
    return ErraticRegressor()


def detector() -> base.Estimator:
    return ErraticDetector()


def second_classifier() -> base.Estimator:
    return ErraticClassifier(seed=2)


def second_regressor() -> base.Estimator:
    return ErraticRegressor(seed=2)


def second_detector() -> base.Estimator:
    return ErraticDetector(seed=2)
