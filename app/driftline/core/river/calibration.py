"""How well probabilities are calibrated: the Brier score and the expected calibration error.

River has neither. Both are for binary probabilities and update, revert and read in O(1) or O(bins).

Source: G. Brier, Verification of forecasts expressed in terms of probability (1950); M. Naeini, G. Cooper,
M. Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning (2015), with bins of equal width.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import Any

from river import base, metrics

from driftline.core.river.trait import Trait


class _Calibration(Trait, metrics.base.BinaryMetric):
    """What both share: they take the probability of `True` and are better when smaller."""

    @property
    def bigger_is_better(self) -> bool:
        return False

    def works_with(self, model: base.Estimator) -> bool:
        return isinstance(model, base.Classifier)

    def update(self, y_true: Any, y_pred: Any, w: float = 1.0) -> None:
        """Count one pair: the label, and the probability of each class or of the positive one."""
        self._add(_probability(y_pred), bool(y_true), 1)

    def revert(self, y_true: Any, y_pred: Any, w: float = 1.0) -> None:
        """Take one pair back."""
        self._add(_probability(y_pred), bool(y_true), -1)

    def _add(self, probability: float, positive: bool, count: int) -> None:
        raise NotImplementedError


class Brier(_Calibration):
    """Mean squared difference between the probability and the label as 0 or 1.

    Returns (get): 0 is perfect, 0.25 what a constant 0.5 gets; nan without labels.
    """

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0

    def _add(self, probability: float, positive: bool, count: int) -> None:
        self.count += count
        self.total += count * (probability - positive) ** 2

    def get(self) -> float:
        return self.total / self.count if self.count else nan


class ECE(_Calibration):
    """Expected calibration error: by how much probabilities and shares of positives differ, bin by bin, on average.

    Args:
        bins: of equal width over [0, 1], 2 or more.

    Returns (get): 0 is calibrated; nan without labels.
    """

    def __init__(self, bins: int = 10) -> None:
        if isinstance(bins, bool) or not isinstance(bins, int) or not 2 <= bins <= 1_000:
            raise ValueError("bins must be a whole number from 2 to 1,000")
        self.bins = bins
        self.count = 0
        self.excess: dict[int, float] = {}  # by bin: probabilities minus labels, summed

    def _add(self, probability: float, positive: bool, count: int) -> None:
        place = min(int(probability * self.bins), self.bins - 1)
        self.count += count
        self.excess[place] = self.excess.get(place, 0.0) + count * (probability - positive)

    def update_all(self, pairs: Sequence[tuple[float, bool]]) -> None:
        """Count many pairs, each a probability of the positive class and whether the label was; the same bits."""
        excess, bins, last = [self.excess.get(place, 0.0) for place in range(self.bins)], self.bins, self.bins - 1
        for probability, positive in pairs:
            place = int(probability * bins)
            excess[place if place < last else last] += probability - positive
        self.excess = dict(enumerate(excess))
        self.count += len(pairs)

    def get(self) -> float:
        if not self.count:
            return nan
        return sum(abs(excess) for _, excess in sorted(self.excess.items())) / self.count


CALIBRATION_METRICS: dict[str, type] = {"Brier": Brier, "ECE": ECE}


def _probability(y_pred: Any) -> float:
    return float(y_pred.get(True, 0.0)) if isinstance(y_pred, dict) else float(y_pred)
