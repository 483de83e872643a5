"""Numbers that spread over several sizes, such as amounts of money, as features and as labels.

What moves them does so by shares, not by sums: a firm pays ten times what a person does, a discount takes a tenth of
either. A model that adds up is right about both if it learns the labels' logarithms, and a debt of 90,000 does not
outweigh all other features if it sees that one's. River's `TargetTransformRegressor` and `FuncTransformer` need
functions, which no expression can name and no state may hold.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from math import expm1, log1p
from typing import Any, Final

from river import base, linear_model


def log_of(number: float) -> float:
    """log(1 + number); below 0 the same with the sign turned."""
    return log1p(number) if number >= 0 else -log1p(-number)


class Logarithms(base.Transformer):
    """log(1 + value) of every number; of those below 0, the same with the sign turned."""

    def transform_one(self, x: dict[Hashable, Any]) -> dict[Hashable, Any]:
        return {name: log_of(value) for name, value in x.items()}


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
        self.regressor.learn_one(x, log_of(y))

    def predict_one(self, x: dict[Hashable, Any]) -> float | None:  # type: ignore[override]  # River says float; None is for what is not known yet
        seen = self.regressor.predict_one(x)
        if seen is None or seen != seen:
            return seen
        size = expm1(min(abs(float(seen)), log1p(self.most)))
        return size if seen >= 0 else -size


AMOUNT_MODELS: Final[dict[str, type]] = {
    "amount.Logarithms": Logarithms,
    "amount.LogTargetRegressor": LogTargetRegressor,
}
"""What an expression can name besides River's classes."""
