"""Metrics from what a tally keeps: of the whole, of any cell, and of many random draws of cells at once.

Every metric is of the events that the model answered, live and here alike, as River has it: an event without an answer
(a model that has seen no label yet, a prediction that was withheld) is in none of them, and how many there were stands
beside them. The class that counts is the one that was served: at the pipeline's threshold, or the more probable one.

Everything takes arrays whose last axis is what is summed (and, for curves, the bins), so one function serves a single
number and two thousand draws.

Source: T. Fawcett, An introduction to ROC analysis (2006); average precision as the step-wise sum of scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from app.backtest.cost import Cost
from app.backtest.tally import SUMS, Floats, Tally
from app.core.pipeline import Task


class Metric(Struct, frozen=True):
    """How to name, read and show a metric.

    Args:
        better: 1 where more is better, -1 where less is.
        about: what it says, in a few words.
    """

    name: str
    better: int
    about: str


_METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "Accuracy",
            1,
            "share of answered events whose class was right, at the pipeline's threshold if it has one",
        ),
        Metric("BalancedAccuracy", 1, "mean of the shares found among positives and among negatives"),
        Metric("Precision", 1, "share of alarms that were right"),
        Metric("Recall", 1, "share of positives that were found"),
        Metric("F1", 1, "harmonic mean of precision and recall"),
        Metric("LogLoss", -1, "surprise at the label, given the probability"),
        Metric("Brier", -1, "mean squared error of the probability"),
        Metric("ROCAUC", 1, "how often a positive scores higher than a negative"),
        Metric("AveragePrecision", 1, "precision at each positive, averaged: for rare positives"),
        Metric("MacroF1", 1, "F1 of each class, averaged"),
        Metric("MAE", -1, "mean absolute error"),
        Metric("RMSE", -1, "root of the mean squared error"),
        Metric("R2", 1, "share of the variance explained"),
        Metric("Bias", 0, "mean error: above 0 is too high"),
        Metric("CostPerEvent", -1, "mean cost of the decisions on answered events, under the cost matrix"),
    )
}

_OF_TASK: Mapping[Task, tuple[str, ...]] = {
    "binary": (
        *("Accuracy", "BalancedAccuracy", "Precision", "Recall", "F1"),
        *("LogLoss", "Brier", "ROCAUC", "AveragePrecision"),
    ),
    "multiclass": ("Accuracy", "MacroF1", "LogLoss"),
    "regression": ("MAE", "RMSE", "R2", "Bias"),
    "anomaly": ("ROCAUC", "AveragePrecision", "Precision", "Recall", "F1"),
}


def metrics_of(task: Task, cost: Cost | None) -> list[Metric]:
    """The metrics of a task, in the order in which they are shown."""
    names = [*_OF_TASK[task]]
    if cost is not None:
        names.append("CostPerEvent")
    return [_METRICS[name] for name in names]


def values_of(task: Task, sums: Floats, curve: NDArray[Any] | None, cost: Cost | None) -> dict[str, Floats]:
    """Each metric, NaN where it is undefined.

    Args:
        sums: ... x `SUMS` of the task.
        curve: ... x (negatives, positives) x bin; None leaves the curves out.
    """
    column = {name: sums[..., number] for number, name in enumerate(SUMS[task])}
    answered, scored = column["answered"], column["scored"]
    with np.errstate(divide="ignore", invalid="ignore"):
        if task == "regression":
            variance = column["y_squared"] - column["y"] ** 2 / scored
            return {
                "MAE": column["absolute"] / scored,
                "RMSE": np.sqrt(column["squared"] / scored),
                "R2": 1.0 - column["squared"] / np.where(variance > 0, variance, np.nan),
                "Bias": column["error"] / scored,
            }
        if task == "multiclass":
            return {"Accuracy": column["hits"] / answered, "LogLoss": column["log_loss"] / scored}
        tp, fp, fn, tn = (column[name] for name in ("tp", "fp", "fn", "tn"))
        recall = tp / (tp + fn)
        found = {
            "Accuracy": column["hits"] / answered,
            "BalancedAccuracy": (recall + tn / (tn + fp)) / 2,
            "Precision": tp / (tp + fp),
            "Recall": recall,
            "F1": 2 * tp / (2 * tp + fp + fn),
            "LogLoss": column["log_loss"] / scored,
            "Brier": column["brier"] / scored,
        }
        if task == "anomaly":
            found = {name: found[name] for name in ("Precision", "Recall", "F1")}
        if curve is not None:
            found["ROCAUC"] = roc_auc(curve)
            found["AveragePrecision"] = average_precision(curve)
        if cost is not None:
            found["CostPerEvent"] = (cost.tp * tp + cost.fp * fp + cost.fn * fn + cost.tn * tn) / answered
        return found


def roc_auc(curve: NDArray[Any]) -> Floats:
    """Area under the ROC curve, ties counting half."""
    negatives, positives = curve[..., 0, :].astype(float), curve[..., 1, :].astype(float)
    below = np.cumsum(negatives, axis=-1) - negatives
    ordered = (positives * (2 * below + negatives)).sum(axis=-1)
    pairs = 2 * positives.sum(axis=-1) * negatives.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(ordered / pairs)


def average_precision(curve: NDArray[Any]) -> Floats:
    """Precision at each positive, from the highest score down, averaged."""
    negatives, positives = curve[..., 0, ::-1].astype(float), curve[..., 1, ::-1].astype(float)
    hits = np.cumsum(positives, axis=-1)
    alarms = hits + np.cumsum(negatives, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(positives > 0, hits / alarms, 0.0)
        return np.asarray((positives * precision).sum(axis=-1) / positives.sum(axis=-1))


def macro_f1(tally: Tally) -> float:
    """F1 of each class that was seen or said, averaged, as River has it."""
    tp: dict[Any, int] = {}
    seen: dict[Any, int] = {}
    said: dict[Any, int] = {}
    for (label, prediction), count in tally.confusion.items():
        if prediction is None:
            continue
        seen[label] = seen.get(label, 0) + count
        said[prediction] = said.get(prediction, 0) + count
        if label == prediction:
            tp[label] = tp.get(label, 0) + count
    classes = {**seen, **said}
    if not classes:
        return float("nan")
    return sum(2 * tp.get(c, 0) / (seen.get(c, 0) + said.get(c, 0)) for c in classes) / len(classes)


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
        for name, value in values_of(tally.task, tally.total.sums, tally.total.curve, cost).items()
    }
    curve = tally.scores.curve() if tally.scores is not None and exact else None
    if curve is not None:
        found.update({name: float(value_of(curve)) for name, value_of in CURVES.items()})
    if tally.task == "multiclass":
        found["MacroF1"] = macro_f1(tally)
    return found
