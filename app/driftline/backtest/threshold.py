"""Decisions at other thresholds: what they would have been, found and cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from driftline.backtest.tally import Tally, score_at
from driftline.core.task.cost import Cost
from driftline.core.task.measure import Floats

THRESHOLDS_MAX = 200
BUDGETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)  # shares of the events that can be looked at
NEVER = math.nextafter(1.0, 2.0)  # a threshold beyond every score: nothing alarms


class Threshold(Struct, frozen=True):
    """Decisions at this threshold, and their cost per prediction. Above 1 every decision is negative."""

    threshold: float
    tp: int
    fp: int
    fn: int
    tn: int
    cost: float | None


class Budget(Struct, frozen=True):
    """What is found if only a limited number of events can be reviewed, those with the highest scores.

    Args:
        share: maximum share of all predictions; fewer if the next ones have equal scores.
        threshold: lowest score reviewed; above 1 if there are none.
        alarms: number of events reviewed.
        tp: positives among them.
    """

    share: float
    threshold: float
    alarms: int
    tp: int


def thresholds_of(tally: Tally, cost: Cost | None) -> list[Threshold]:
    """Decisions at every threshold that served probabilities distinguish (to about 1% of the odds), at the
    pipeline's own, and at `NEVER`; over all predictions of labelled events."""
    if not tally.measure.probabilities:
        return []
    negatives, positives = tally.total.curve[0]
    touched = np.flatnonzero(negatives + positives)
    if not len(touched):
        return []
    column = dict(zip(tally.measure.sums, map(int, tally.total.sums[0]), strict=True))
    n, came = column["answered"], column["positives"]
    tp, fp = (np.cumsum(array[touched][::-1])[::-1] for array in (positives, negatives))
    alarms = {float(least): (int(tp[place]), int(fp[place])) for place, least in enumerate(score_at(touched))}
    alarms[NEVER] = (0, 0)
    if tally.threshold is not None:
        alarms[tally.threshold] = (column["tp"], column["fp"])
    made = []
    for threshold, (right, wrong) in sorted(alarms.items()):
        counts = (right, wrong, came - right, n - came - wrong)
        price = None
        if cost is not None:
            price = sum(a * b for a, b in zip(counts, (cost.tp, cost.fp, cost.fn, cost.tn), strict=True)) / n
        made.append(Threshold(threshold, *counts, price))
    return made


def scores_of(tally: Tally) -> Floats | None:
    """The least score of each bin; None without probabilities."""
    bins = tally.total.curve.shape[2]
    return score_at(np.arange(bins)) if tally.measure.probabilities else None


def thinned(thresholds: Sequence[Threshold]) -> list[Threshold]:
    """Some of them, the last one always."""
    return [*thresholds[: -1 : max(1, len(thresholds) // THRESHOLDS_MAX)], *thresholds[-1:]]


def best_of(thresholds: Sequence[Threshold]) -> Threshold | None:
    if not thresholds:
        return None
    if thresholds[0].cost is not None:
        return min(thresholds, key=lambda one: one.cost or 0.0)
    return max(thresholds, key=lambda one: 2 * one.tp / max(1, 2 * one.tp + one.fp + one.fn))


def budgets_of(thresholds: Sequence[Threshold]) -> list[Budget]:
    """As many alarms as fit; none if there are no positives."""
    if not thresholds or not thresholds[0].tp + thresholds[0].fn:
        return []
    one = thresholds[0]
    n = one.tp + one.fp + one.fn + one.tn
    made = []
    for share in BUDGETS:
        if share * n >= 1:
            fits = next(one for one in thresholds if one.tp + one.fp <= share * n)
            made.append(Budget(share, fits.threshold, fits.tp + fits.fp, fits.tp))
    return made
