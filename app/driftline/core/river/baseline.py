"""Models that answer with a feature: what a real model has to beat.

What the label was last, what it was at this time a week ago, its mean of late: history features know all of these, by
key and bounded. A model that repeats such a feature is the baseline of that name, and it takes the same records, delays
and guards as any other model.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, Final

from river import base, dummy, stats


class EchoRegressor(base.Regressor):
    """Predicts the value of a feature; without it, the mean of all labels so far.

    Args:
        on: the feature, a number.
    """

    def __init__(self, on: str) -> None:
        self.on = on
        self.mean = stats.Mean()

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"on": "x"}

    def learn_one(self, x: dict[Hashable, Any], y: float) -> None:
        self.mean.update(y)

    def predict_one(self, x: dict[Hashable, Any]) -> float | None:  # type: ignore[override]  # River says float; None is for what is not known yet
        value = x.get(self.on)
        if value is not None:
            return float(value)
        return self.mean.get() if self.mean.n else None


class EchoClassifier(base.Classifier):
    """Predicts yes with the value of a feature as its probability; without it, with the share of yes so far.

    Args:
        on: the feature, a number from 0 to 1; others are cut to that.
    """

    def __init__(self, on: str) -> None:
        self.on = on
        self.prior = dummy.PriorClassifier()

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"on": "x"}

    def learn_one(self, x: dict[Hashable, Any], y: base.typing.ClfTarget) -> None:
        self.prior.learn_one(x, y)

    def predict_proba_one(self, x: dict[Hashable, Any], **kwargs: Any) -> dict[base.typing.ClfTarget, float]:
        value = x.get(self.on)
        if value is None:
            return self.prior.predict_proba_one(x)
        share = min(max(float(value), 0.0), 1.0)
        return {False: 1.0 - share, True: share}


OWN_MODELS: Final[dict[str, type]] = {
    "baseline.EchoClassifier": EchoClassifier,
    "baseline.EchoRegressor": EchoRegressor,
}
"""What an expression can name besides River's classes."""
