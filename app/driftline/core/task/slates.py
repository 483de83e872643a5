"""What a backtest counts of slates: what was earned, and what another policy would have earned.

Where the log holds what was shown with its propensities, the candidate's policy did not choose, and its reward is
estimated. Each request adds, over the items that were shown, reward x weight, where the weight of an item is the
probability with which the candidate would have shown it over that with which it was shown (its propensity):

    IPS    mean of the sums: unbiased
    SNIPS  the same, divided by the mean weight: a little bias, much less noise
    doubly robust: what the candidate's model expects of its own policy, plus the weighted errors of the model on what
           was shown; unbiased, and closer the better the model is

They assume that an item's reward depends on the request and the item alone, not on its place or on the items beside
it; and that the log may show whatever the candidate would. The second can be seen: then weights are 1 on average. Where
they are not, the estimates have no value: a log without exploration cannot tell.

Models learn from the log before the request is judged (progressive validation), so estimates are of the policy as it
was at each request.

Sources: D. Horvitz and D. Thompson, A generalization of sampling without replacement (1952); A. Swaminathan and
T. Joachims, The self-normalized estimator for counterfactual learning (2015); M. Dudík, J. Langford and L. Li, Doubly
robust policy evaluation and learning (2011).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from driftline.core.output import Outcome
from driftline.core.river.reward import FEW, unsupported
from driftline.core.slate import POLICY, POPULARITY, Feedback, read_feedback
from driftline.core.task.cost import Cost
from driftline.core.task.measure import Columns, Floats, Measure, Metric

_REWARD: Final = "reward a request of the candidate's policy"


def terms(feedback: Feedback, slate: Mapping[Any, float], name: str) -> tuple[float, float, float, float]:
    """What one request adds to the estimates of a policy.

    Args:
        slate: the propensity of each item that was shown.
        name: of the policy; one that is not beside chose the slate itself.

    Returns:
        Sum of weighted rewards, of weights, of the weights' squares; the doubly robust term.
    """
    other = feedback.policies.get(name)
    if other is None:
        earned = sum(feedback.rewards.values())
        return earned, float(len(slate)), float(len(slate)), earned
    earned = weights = squares = 0.0
    robust = other.expected
    for item, reward in feedback.rewards.items():
        weight = other.shares.get(item, 0.0) / slate[item]
        earned += weight * reward
        weights += weight
        squares += weight * weight
        robust += weight * (reward - feedback.estimates.get(item, 0.0))
    return earned, weights, squares, robust


class OfSlates(Measure):
    """A slate of items and what they earned.

    Sums: `items` shown; `logged`, what they earned; `clicks` and `hits`, items and requests that earned something; of
    the candidate's policy `ips`, `weights`, `squares` and `robust` (`terms`), their squares by request (`..2`) and
    products; the same of the most popular items (`popular_..`).
    """

    sums = (
        *("n", "answered", "items", "logged", "logged2", "clicks", "hits", "ips", "weights", "squares", "robust"),
        *("ips2", "robust2", "weights2", "ips_weights", "weights_items", "items2"),
        *("popular", "popular_weights", "popular_weights2", "popular_weights_items"),
    )
    metrics = (
        Metric("SNIPS", 1, f"{_REWARD}, from self-normalised inverse propensities; - where the log cannot tell"),
        Metric("SNIPSError", 0, "its standard error"),
        Metric("DoublyRobust", 1, f"{_REWARD}, from its model and the model's errors on what was shown"),
        Metric("DoublyRobustError", 0, "its standard error"),
        Metric("IPS", 1, f"{_REWARD}, from inverse propensities"),
        Metric("IPSError", 0, "its standard error"),
        Metric("Logged", 0, "reward a request of what was shown"),
        Metric("Popularity", 0, "reward a request of the most popular items (SNIPS)"),
        Metric("ClickRate", 0, "share of the items shown that earned a reward"),
        Metric("Support", 0, "mean weight of what was shown: 1 where the log may show all that the policy would"),
        Metric("Effective", 0, "items that count, of those shown"),
    )
    headline = ("SNIPS", "DoublyRobust", "IPS")
    headline_costs = headline
    decisions = False
    aged = False  # a request without a reward earned nothing, whatever was shown

    def columns(self, outcomes: Sequence[Outcome], threshold: float | None) -> Columns:
        rows = np.zeros((len(outcomes), len(self.sums)))
        for row, outcome in zip(rows, outcomes, strict=True):
            slate = outcome.prediction.probabilities if outcome.prediction is not None else None
            row[0] = 1.0
            if not slate:
                continue
            feedback = read_feedback(outcome.label)
            rewards, shown = feedback.rewards.values(), float(len(slate))
            clicks, earned = sum(reward > 0 for reward in rewards), sum(rewards)
            ips, weights, squares, robust = terms(feedback, slate, POLICY)
            popular, popular_weights, *_ = terms(feedback, slate, POPULARITY)
            row[1:] = (
                *(1.0, shown, earned, earned * earned, clicks, clicks > 0, ips, weights, squares, robust),
                *(ips * ips, robust * robust, weights * weights, ips * weights, weights * shown, shown * shown),
                *(popular, popular_weights, popular_weights * popular_weights, popular_weights * shown),
            )
        return Columns(np.ascontiguousarray(rows.T))

    def values(self, column: Mapping[str, Floats], curve: NDArray[Any] | None, cost: Cost | None) -> dict[str, Floats]:
        requests, items = column["answered"], column["items"]
        with np.errstate(divide="ignore", invalid="ignore"):
            each = items / requests
            snips = column["ips"] / column["weights"]
            spread = column["ips2"] - 2 * snips * column["ips_weights"] + snips**2 * column["weights2"]
            found = {
                "SNIPS": snips * each,
                "SNIPSError": np.sqrt(np.maximum(spread, 0.0)) / column["weights"] * each,
                "DoublyRobust": column["robust"] / requests,
                "DoublyRobustError": _error(column["robust"], column["robust2"], requests),
                "IPS": column["ips"] / requests,
                "IPSError": _error(column["ips"], column["ips2"], requests),
            }
            blind = _blind(column)
            popular = np.where(_blind(column, "popular_"), np.nan, column["popular"] / column["popular_weights"])
            found = {name: np.where(blind, np.nan, value) for name, value in found.items()}
            return found | {
                "Logged": column["logged"] / requests,
                "Popularity": popular * each,
                "ClickRate": column["clicks"] / items,
                "Support": column["weights"] / items,
                "Effective": column["weights"] ** 2 / column["squares"],
            }

    def doubt(self, column: Mapping[str, float]) -> str | None:
        """Why the log cannot tell, or hardly can, what the policy would have earned."""
        if not column["items"]:
            return None
        support = column["weights"] / column["items"]
        if bool(_blind({name: np.asarray(value) for name, value in column.items()})):
            if support > 1:
                return (
                    f"the log cannot tell what this policy would have earned: its items have weights of {support:.2f} "
                    "on average, where 1 is expected, so the logged propensities are not those with which they were "
                    "shown"
                )
            return (
                f"the log cannot tell what this policy would have earned: {1 - support:.0%} of what it would show was "
                "never shown by the policy that wrote the log. Explore: recommend.epsilon above 0"
            )
        effective = column["weights"] ** 2 / column["squares"] if column["squares"] else 0.0
        if effective < FEW:
            return (
                f"only {effective:,.0f} items count of the {column['items']:,.0f} that were shown: propensities are "
                "too small, or policies too different, to tell what this policy would have earned"
            )
        return None


def _error(total: Floats, squares: Floats, count: Floats) -> Floats:
    """The standard error of a mean."""
    return np.asarray(np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0.0) / count))


def _blind(column: Mapping[str, Floats], policy: str = "") -> NDArray[np.bool_]:
    """Whether the log cannot tell what a policy would have earned."""
    names = (f"{policy}weights", "items", f"{policy}weights2", f"{policy}weights_items", "items2")
    return unsupported(*(np.asarray(column[name], dtype=float) for name in names))
