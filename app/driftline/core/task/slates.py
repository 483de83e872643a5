"""What a backtest counts of slates: what was earned, and what another policy would have earned (off-policy)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftline.core.output import Outcome
from driftline.core.slate import POLICY, POPULARITY, Feedback, read_feedback
from driftline.core.task.cost import Cost
from driftline.core.task.measure import Columns, Floats, Measure, Metric

_IPS = "reward a request of the candidate's policy, estimated from the slates of another (inverse propensities)"


def terms(feedback: Feedback, slate: Mapping[Any, float], name: str) -> tuple[float, float, float, float, float]:
    """What one request adds to the estimates of a policy beside.

    Args:
        slate: the propensity of each item that was shown.
        name: of the policy.

    Returns:
        Sum of weighted rewards, of weights, of their squares; the doubly robust term; the greatest weight.
    """
    other = feedback.policies.get(name)
    if other is None:  # it chose the slate itself
        earned = sum(feedback.rewards.values())
        return earned, float(len(slate)), float(len(slate)), earned, 1.0
    earned = weights = squares = most = 0.0
    robust = other.expected
    for item, reward in feedback.rewards.items():
        weight = other.shares.get(item, 0.0) / slate[item]
        earned += weight * reward
        weights += weight
        squares += weight * weight
        robust += weight * (reward - feedback.estimates.get(item, 0.0))
        most = max(most, weight)
    return earned, weights, squares, robust, most


class OfSlates(Measure):
    """A slate of items and what they earned.

    Sums: `items` shown, `logged` the reward of what was shown; `ips`, `weights`, `squares` and `robust` of the
    candidate's policy, `popular` and `popular_weights` of the most popular items.
    """

    sums = (
        *("n", "answered", "items", "logged", "clicks", "hits"),
        *("ips", "weights", "squares", "robust", "popular", "popular_weights", "ips2", "robust2"),
    )
    metrics = (
        Metric("SNIPS", 1, _IPS + ", normalised by the sum of its weights"),
        Metric("IPS", 1, _IPS),
        Metric("DoublyRobust", 1, "the same, with the model's estimates of what was not shown"),
        Metric("Logged", 0, "reward a request of what was shown"),
        Metric("Popularity", 0, "reward a request of the most popular items, estimated likewise (SNIPS)"),
        Metric("ClickRate", 0, "share of the items shown that earned a reward"),
        Metric("Support", 0, "mean weight of what was shown: 1 if all that the policy would show could be shown"),
        Metric("Effective", 0, "items that count, of those shown: few if the log shows other items than the policy"),
    )
    headline = ("SNIPS", "DoublyRobust", "IPS")
    headline_costs = headline
    decisions = False

    def columns(self, outcomes: Sequence[Outcome], threshold: float | None) -> Columns:
        rows = np.zeros((len(outcomes), len(self.sums)))
        for row, outcome in zip(rows, outcomes, strict=True):
            slate = outcome.prediction.probabilities if outcome.prediction is not None else None
            row[0] = 1.0
            if not slate:
                continue
            feedback = read_feedback(outcome.label)
            rewards = feedback.rewards.values()
            clicks = sum(reward > 0 for reward in rewards)
            ips, weights, squares, robust, _ = terms(feedback, slate, POLICY)
            popular, popular_weights, *_ = terms(feedback, slate, POPULARITY)
            row[1:] = (
                *(1.0, len(slate), sum(rewards), clicks, clicks > 0),
                *(ips, weights, squares, robust, popular, popular_weights, ips * ips, robust * robust),
            )
        return Columns(np.ascontiguousarray(rows.T))

    def values(self, column: Mapping[str, Floats], curve: NDArray[Any] | None, cost: Cost | None) -> dict[str, Floats]:
        requests, items = column["answered"], column["items"]
        with np.errstate(divide="ignore", invalid="ignore"):
            each = items / requests
            return {
                "SNIPS": column["ips"] / column["weights"] * each,
                "IPS": column["ips"] / requests,
                "DoublyRobust": column["robust"] / requests,
                "Logged": column["logged"] / requests,
                "Popularity": column["popular"] / column["popular_weights"] * each,
                "ClickRate": column["clicks"] / items,
                "Support": column["weights"] / items,
                "Effective": column["weights"] ** 2 / column["squares"],
            }
