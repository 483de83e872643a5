"""A model of a user's own that raises: half way through learning, or while scoring, after it has changed itself.

`armed` makes it not deterministic, as a model is that fails for want of memory: a replay finds it disarmed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from river import base, linear_model, preprocessing

BAD = 1_000.0  # a value of x at which it raises
_switch = {"learn": True, "score": True}
calls = {"learn": 0, "score": 0}


@contextmanager
def disarmed() -> Iterator[None]:
    """Nothing raises in this block."""
    _switch.update(learn=False, score=False)
    try:
        yield
    finally:
        _switch.update(learn=True, score=True)


class Poisonous(base.Classifier):
    """Counts what it is asked into its own predictions, so that a call too many shows."""

    def __init__(self, learn: bool, score: bool) -> None:
        self.learn = learn
        self.score = score
        self.asked = 0
        self.inner = linear_model.LogisticRegression()

    def predict_proba_one(self, x: dict[Any, Any], **kwargs: Any) -> dict[bool | str | int, float]:
        calls["score"] += 1
        if self.score and _switch["score"] and x["x"] == BAD:
            self.asked += 1
            raise ValueError(f"x is {x['x']}\nand that is too much")
        p = (self.inner.predict_proba_one(x)[True] + self.asked) / (1 + self.asked)
        return {False: 1 - p, True: p}

    def learn_one(self, x: dict[Any, Any], y: bool | str | int) -> None:
        calls["learn"] += 1
        if self.learn and _switch["learn"] and x["x"] == BAD:
            self.asked += 1
            raise ValueError(f"x is {x['x']}\nand that is too much")
        self.inner.learn_one(x, y)


class Keeper(preprocessing.StandardScaler):
    """A scaler that shows what is bad to the step behind it as it came."""

    def transform_one(self, x: dict[Any, Any]) -> dict[Any, Any]:
        return {**super().transform_one(x), "x": x["x"]}  # type: ignore[no-untyped-call]  # River is untyped


def learns_badly() -> base.Estimator:
    """Raises as it learns, when the scaler before it has learned already."""
    return Keeper() | Poisonous(learn=True, score=False)


def scores_badly() -> base.Estimator:
    """Raises as it scores."""
    return Keeper() | Poisonous(learn=False, score=True)


def locked_up() -> base.Estimator:
    """Cannot be pickled."""
    model: Any = scores_badly()
    model.lock = lambda: None
    made: base.Estimator = model
    return made
