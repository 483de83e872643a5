"""A regressor of labels that spread over several sizes, such as amounts of money.

What moves them does so by shares, not by sums: a firm pays ten times what a person does, a discount takes a tenth of
either. A model that adds up is right about both if it learns the labels' logarithms. River's
`TargetTransformRegressor` needs functions, which no expression can name and no state may hold.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from math import expm1, log1p
from typing import Any, Final

from river import base, linear_model


class LogTargetRegressor(base.Wrapper, base.Regressor):  # type: ignore[type-arg]  # River has it generic to itself only
    """Learns log(1 + label), and predicts the label; of labels below 0, the same with the sign turned.

    What a mean is to a regressor is about the median here, so MAE falls and RMSE may rise.

    Args:
        regressor: learns the logarithms.

    Attributes:
        most: the largest label so far, by size; no prediction goes beyond it, however far the regressor's does.
    """

    def __init__(self, regressor: base.Regressor) -> None:
        self.regressor = regressor
        self.most = 0.0

    @property
    def _wrapped_model(self) -> base.Regressor:
        return self.regressor

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"regressor": linear_model.LinearRegression()}

    def learn_one(self, x: dict[Hashable, Any], y: float) -> None:
        self.most = max(self.most, abs(float(y)))
        self.regressor.learn_one(x, log1p(y) if y >= 0 else -log1p(-y))

    def predict_one(self, x: dict[Hashable, Any]) -> float | None:  # type: ignore[override]  # River says float; None is for what is not known yet
        seen = self.regressor.predict_one(x)
        if seen is None or seen != seen:
            return seen
        size = expm1(min(abs(float(seen)), log1p(self.most)))
        return size if seen >= 0 else -size


TARGET_MODELS: Final[dict[str, type]] = {"target.LogTargetRegressor": LogTargetRegressor}
"""What an expression can name besides River's classes."""
