"""Metrics computed from a tally: of the whole, of any cell, and of many random draws of cells at once.

Every metric is of the events that the model answered, live and here alike, as River has it: an event without an answer
(a model that has seen no label yet, a prediction that was withheld) is in none of them, and how many there were stands
beside them. The class that counts is the one that was served: at the pipeline's threshold, or the more probable one.

Everything takes arrays whose last axis is what is summed (and, for curves, the bins), so one function serves a single
number and two thousand draws. What is counted, and how a metric is made of it, is the measure's of the pipeline's task
(`core.task.measure`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftline.backtest.tally import Tally
from driftline.core.task.cost import Cost
from driftline.core.task.measure import COST_PER_EVENT, Floats, Measure, Metric, average_precision, roc_auc

__all__ = ["CURVES", "Metric", "is_exact", "metrics_of", "total_values", "values_of"]


def metrics_of(measure: Measure, cost: Cost | None) -> list[Metric]:
    """The metrics of a task, in the order in which they are shown."""
    return [*measure.metrics] if cost is None else [*measure.metrics, COST_PER_EVENT]


def values_of(measure: Measure, sums: Floats, curve: NDArray[Any] | None, cost: Cost | None) -> dict[str, Floats]:
    """Each metric, NaN where it is undefined.

    Args:
        sums: ... x the measure's `sums`.
        curve: ... x (negatives, positives) x bin; None leaves the curves out.
    """
    column = {name: sums[..., number] for number, name in enumerate(measure.sums)}
    with np.errstate(divide="ignore", invalid="ignore"):
        return measure.values(column, curve, cost)


CURVES: Mapping[str, Callable[[NDArray[Any]], Floats]] = {"ROCAUC": roc_auc, "AveragePrecision": average_precision}
"""Metrics that need every score: exact over everything that was counted, from bins in each part of it."""


def is_exact(tally: Tally) -> bool:
    """Whether the curves over everything that was counted are exact."""
    return tally.scores is None or tally.scores.whole


def total_values(tally: Tally, cost: Cost | None, *, exact: bool = True) -> dict[str, float]:
    """Each metric over everything that was counted.

    Args:
        exact: curves are not to be of bins, where every score is still here.
    """
    found = {
        name: float(value[0])
        for name, value in values_of(tally.measure, tally.total.sums, tally.total.curve, cost).items()
    }
    curve = tally.scores.curve() if tally.scores is not None and exact else None
    if curve is not None:
        found.update({name: float(value_of(curve)) for name, value_of in CURVES.items()})
    return {**found, **tally.measure.values_of_pairs(tally.confusion)}
