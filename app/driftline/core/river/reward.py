"""Metrics of served slates. Each takes what became of a request (`slate.feedback_text`) and the propensities of its
slate, in order.

The rewards of a live pipeline are those of what it showed, so most metrics are plain means. What another policy would
have earned is estimated from the same requests: each reward is weighed by how much more likely the other policy would
have shown that item (SNIPS, self-normalised inverse propensity scoring).

Source: A. Swaminathan and T. Joachims, The self-normalized estimator for counterfactual learning (2015); K. Järvelin
and J. Kekäläinen, Cumulated gain-based evaluation of IR techniques (2002), for NDCG.
"""

from __future__ import annotations

from abc import abstractmethod
from math import log2, nan
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from driftline.core.river.trait import Trait
from driftline.core.slate import POPULARITY, Feedback, read_feedback

UNSUPPORTED: Final = 0.05  # share of what a policy would show that a log need not show
FEW: Final = 100.0  # items that count, of those that were shown: less says nothing
SURE: Final = 5.0  # standard errors; weights are skewed, so chance goes further than in a normal distribution
_ITEMS_MAX: Final = 100_000  # distinct items that `Coverage` counts


def unsupported(weights: Any, items: Any, weights2: Any, weights_items: Any, items2: Any) -> NDArray[np.bool_]:
    """Whether weights are not 1 on average, beyond chance: then what was shown is not what the policy would show, and
    says nothing of its reward.

    Args:
        weights, items: sums over requests, of the weights and of how many items were shown.
        weights2, weights_items, items2: of the squares and products of a request's.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        support = np.divide(weights, items)
        spread = weights2 - 2 * support * weights_items + support * support * items2
        noise = np.divide(np.sqrt(np.maximum(spread, 0.0)), items)
        return np.asarray(np.abs(support - 1.0) > np.maximum(UNSUPPORTED, SURE * noise))


class SlateMetric(Trait):
    """A ratio of two sums over requests."""

    def __init__(self) -> None:
        self.total = 0.0
        self.count = 0.0

    def update(self, y_true: Any, y_pred: Any) -> None:
        """Take in a request: what became of it, and its slate."""
        self._add(read_feedback(y_true), y_pred, 1)

    def revert(self, y_true: Any, y_pred: Any) -> None:
        """Take a request back."""
        self._add(read_feedback(y_true), y_pred, -1)

    @abstractmethod
    def _add(self, feedback: Feedback, slate: dict[str, float], sign: int) -> None:
        """Add a request, or take it back.

        Args:
            sign: 1 or -1.
        """

    def get(self) -> float:
        return self.total / self.count if self.count else nan


class _Mean(SlateMetric):
    """A mean over requests."""

    def _add(self, feedback: Feedback, slate: dict[str, float], sign: int) -> None:
        self.total += sign * self._gain(feedback)
        self.count += sign

    @abstractmethod
    def _gain(self, feedback: Feedback) -> float:
        """Of one request."""


class Reward(_Mean):
    """Reward a request: the sum over its slate."""

    def _gain(self, feedback: Feedback) -> float:
        return sum(feedback.rewards.values())


class ClickRate(SlateMetric):
    """Share of the items shown that earned a reward."""

    def _add(self, feedback: Feedback, slate: dict[str, float], sign: int) -> None:
        self.total += sign * sum(reward > 0 for reward in feedback.rewards.values())
        self.count += sign * len(feedback.rewards)


class Hit(_Mean):
    """Share of the requests of which at least one item earned a reward."""

    def _gain(self, feedback: Feedback) -> float:
        return float(any(reward > 0 for reward in feedback.rewards.values()))


class NDCG(SlateMetric):
    """Normalised discounted cumulative gain of the slate: 1 where the items that earned most stand first.

    Only requests that earned something count: without, no order is better than another.
    """

    def _add(self, feedback: Feedback, slate: dict[str, float], sign: int) -> None:
        gains = [max(reward, 0.0) for reward in feedback.rewards.values()]
        best = _discounted(sorted(gains, reverse=True))
        if best > 0:
            self.total += sign * _discounted(gains) / best
            self.count += sign


def _discounted(gains: list[float]) -> float:
    return sum(gain / log2(place + 2) for place, gain in enumerate(gains))


class Explored(SlateMetric):
    """Share of the requests whose slate was not the best that was known."""

    def _add(self, feedback: Feedback, slate: dict[str, float], sign: int) -> None:
        if feedback.explored is not None:
            self.total += sign * feedback.explored
            self.count += sign


class Coverage(SlateMetric):
    """Distinct items shown, as a share of the most candidates that a request had."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: dict[str, int] = {}
        self.most = 0

    def _add(self, feedback: Feedback, slate: dict[str, float], sign: int) -> None:
        self.most = max(self.most, feedback.candidates)
        for item in feedback.rewards:
            count = self.shown.get(item, 0) + sign
            if count > 0 and (item in self.shown or len(self.shown) < _ITEMS_MAX):
                self.shown[item] = count
            else:
                self.shown.pop(item, None)

    def get(self) -> float:
        return min(len(self.shown) / self.most, 1.0) if self.most else nan


class PopularityReward(SlateMetric):
    """Reward a request that the most popular items would have earned, estimated from what was shown (SNIPS).

    Undefined where the policy that serves does not explore, and so never shows what the most popular items would earn;
    and while fewer than `FEW` of the items that were shown count.
    """

    def __init__(self) -> None:
        super().__init__()
        self.items = 0.0
        self.requests = 0.0
        self.squares = (0.0, 0.0, 0.0)  # of a request's weights, of them and its items, of its items
        self.each = 0.0  # squares of the weights of items

    def _add(self, feedback: Feedback, slate: dict[str, float], sign: int) -> None:
        other = feedback.policies.get(POPULARITY)
        if other is None:
            return
        weights, items = 0.0, float(len(feedback.rewards))
        for item, reward in feedback.rewards.items():
            weight = other.shares.get(item, 0.0) / slate[item] if slate.get(item) else 0.0
            self.total += sign * weight * reward
            weights += weight
            self.each += sign * weight * weight
        self.count += sign * weights
        self.items += sign * items
        self.requests += sign
        both, cross, own = self.squares
        self.squares = (both + sign * weights * weights, cross + sign * weights * items, own + sign * items * items)

    def get(self) -> float:
        if self.requests <= 0 or self.each <= 0 or self.count * self.count < FEW * self.each:
            return nan
        if unsupported(self.count, self.items, *self.squares):
            return nan
        return self.total / self.count * self.items / self.requests


class Uplift(PopularityReward):
    """Reward as a multiple of `PopularityReward`: above 1 the model earns more than the most popular items would."""

    def __init__(self) -> None:
        super().__init__()
        self.earned = 0.0

    def _add(self, feedback: Feedback, slate: dict[str, float], sign: int) -> None:
        super()._add(feedback, slate, sign)
        self.earned += sign * sum(feedback.rewards.values())

    def get(self) -> float:
        popular = super().get()
        return self.earned / self.requests / popular if self.requests and popular > 0 else nan


SLATE_METRICS: dict[str, type[SlateMetric]] = {
    f"recommend.{kind.__name__}": kind
    for kind in (Reward, ClickRate, Hit, NDCG, Explored, Coverage, PopularityReward, Uplift)
}
