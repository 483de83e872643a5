"""What a backtest counts of the labelled predictions of a task, and what its report shows.

A `Measure` turns pairs into columns of numbers that add up, and sums of such columns into metrics; so metrics can be
had of the whole, of any part, and of many random draws of parts at once: sums are arrays whose last axis is the column
(and, of curves, the bin).

Every metric is of the events that the model answered, live and here alike, as River has it: an event without an answer
(a model that has seen no label yet, a prediction that was withheld) is in none of them.

Source: T. Fawcett, An introduction to ROC analysis (2006); average precision as the step-wise sum of scikit-learn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from driftline.core.output import Outcome
from driftline.core.river.curve import OCTAVES, PER_OCTAVE
from driftline.core.task.cost import Cost

Floats: TypeAlias = NDArray[np.float64]
Truths: TypeAlias = NDArray[np.bool_]
Ints: TypeAlias = NDArray[np.int64]
Figure: TypeAlias = Literal["calibration", "scores", "thresholds"]
Pairs: TypeAlias = Counter[tuple[Any, Any]]  # how often each label met each predicted class

TOP = 2 * PER_OCTAVE * OCTAVES  # the bin of 1
BEYOND = PER_OCTAVE * 2 * OCTAVES + PER_OCTAVE  # scores that may lie outside [0, 1]: bins on either side of it
_LEAST, _GREATEST = 1e-15, 1 - 1e-15
_CONFUSIONS_MAX = 100


class Metric(Struct, frozen=True):
    """How to name, read and show a metric.

    Args:
        better: 1 where more is better, -1 where less is.
        about: what it says, in a few words.
    """

    name: str
    better: int
    about: str


ACCURACY = Metric("Accuracy", 1, "share of predictions with the right class, at the pipeline's threshold if it has one")
BALANCED_ACCURACY = Metric("BalancedAccuracy", 1, "mean of the recalls of positives and negatives")
PRECISION = Metric("Precision", 1, "share of positive decisions that were right")
RECALL = Metric("Recall", 1, "share of positives that were found")
F1 = Metric("F1", 1, "harmonic mean of precision and recall")
LOG_LOSS = Metric("LogLoss", -1, "negative log of the probability given to the label")
BRIER = Metric("Brier", -1, "mean squared error of the probability")
ROC_AUC = Metric("ROCAUC", 1, "how often a positive scores higher than a negative")
AVERAGE_PRECISION = Metric("AveragePrecision", 1, "precision averaged over the positives; for rare positives")
MACRO_F1 = Metric("MacroF1", 1, "F1 of each class, averaged")
COST_PER_EVENT = Metric("CostPerEvent", -1, "mean cost per decision, under the given costs")


class Columns(Struct, frozen=True):
    """What pairs add to the sums.

    Args:
        sums: columns x pairs.
        scores: of each pair, NaN where it has none; None where the task has no scores.
        positive: whether the label was yes.
    """

    sums: Floats
    scores: Floats | None = None
    positive: Truths | None = None


class Measure(ABC):
    """What is counted of a task's labelled predictions, and what is shown of it.

    Attributes:
        sums: names of the columns; the first two are `n`, all pairs, and `answered`, those with an answer.
        metrics: in the order in which they are shown.
        headline: those by which a verdict is given, the first one first; `headline_costs` where decisions have costs.
        bins, offset: how many bins of `core.river.curve` scores have, and the place of bin 0; no bins without scores.
        probabilities: scores are probabilities of yes: their calibration, and decisions at other thresholds, are shown.
        decisions: predictions and labels are held against each other class by class.
        figures: further plots of scores and decisions.
        horizons: there are several predictions of each event, made so many steps before it.
        aged: metrics may differ by the label's delay. Not where it is part of the result, as of a reward.
    """

    sums: tuple[str, ...]
    metrics: tuple[Metric, ...]
    headline: tuple[str, ...]
    headline_costs: tuple[str, ...] = (COST_PER_EVENT.name,)
    bins = 0
    offset = 0
    probabilities = False
    decisions = True
    figures: tuple[Figure, ...] = ()
    horizons = False
    aged = True

    @abstractmethod
    def columns(self, outcomes: Sequence[Outcome], threshold: float | None) -> Columns:
        """What each pair adds.

        Args:
            threshold: of the pipeline's decision, if it has one.
        """

    @abstractmethod
    def values(self, column: Mapping[str, Floats], curve: NDArray[Any] | None, cost: Cost | None) -> dict[str, Floats]:
        """Each metric, NaN where it is undefined.

        Args:
            column: the sums by name.
            curve: ... x (negatives, positives) x bin; None leaves the curves out.
        """

    def by_horizon(self, outcomes: Sequence[Outcome]) -> tuple[Ints, Floats]:
        """For each prediction of each event the number of its horizon, from 0, and what it adds: sums x predictions."""
        return np.zeros(0, dtype=np.int64), np.zeros((len(self.sums), 0))

    def pairs(self, outcomes: Sequence[Outcome]) -> Iterator[tuple[Any, Any]]:
        """Labels with predicted classes, where they are to be counted."""
        return iter(())

    def values_of_pairs(self, pairs: Pairs) -> dict[str, float]:
        """Metrics that sums do not give."""
        return {}

    def confusion(self, column: Mapping[str, float], pairs: Pairs) -> list[tuple[str, str, int]]:
        """How often each label met each prediction: label, prediction, count."""
        return []

    def doubt(self, column: Mapping[str, float]) -> str | None:
        """Why the metrics say little or nothing; None where they are what they seem."""
        return None


class _OfTwo(Measure):
    """Yes or no, and a score that says how much yes."""

    sums = ("n", "answered", "positives", "scored", "hits", "log_loss", "brier", "tp", "fp", "fn", "tn")

    @abstractmethod
    def _yes(self, outcomes: Sequence[Outcome], scores: Floats, known: Truths, threshold: float | None) -> Truths:
        """Which pairs were decided as yes."""

    def columns(self, outcomes: Sequence[Outcome], threshold: float | None) -> Columns:
        predictions = [outcome.prediction for outcome in outcomes]
        ones = np.ones(len(outcomes))
        y_true = np.array([bool(outcome.label) for outcome in outcomes])
        scores = np.array([np.nan if p is None or p.value is None else p.value for p in predictions], dtype=float)
        known = ~np.isnan(scores)
        bounded = np.clip(np.where(known, scores, 0.5), _LEAST, _GREATEST)
        loss = np.where(known, -np.log(np.where(y_true, bounded, 1.0 - bounded)), 0.0)
        brier = np.where(known, (bounded - y_true) ** 2, 0.0)
        yes = self._yes(outcomes, scores, known, threshold)
        answered = known
        if not known.all():
            answered = known | np.array([p is not None and p.label is not None for p in predictions])
        no = answered & ~yes
        tp, fp, fn, tn = yes & y_true, yes & ~y_true, no & y_true, no & ~y_true
        columns = [ones, answered, answered & y_true, known, tp | tn, loss, brier, tp, fp, fn, tn]
        return Columns(np.stack([column.astype(float) for column in columns]), scores, y_true)

    def values(self, column: Mapping[str, Floats], curve: NDArray[Any] | None, cost: Cost | None) -> dict[str, Floats]:
        tp, fp, fn, tn = (column[name] for name in ("tp", "fp", "fn", "tn"))
        recall = tp / (tp + fn)
        found = {
            "Accuracy": column["hits"] / column["answered"],
            "BalancedAccuracy": (recall + tn / (tn + fp)) / 2,
            "Precision": tp / (tp + fp),
            "Recall": recall,
            "F1": 2 * tp / (2 * tp + fp + fn),
            "LogLoss": column["log_loss"] / column["scored"],
            "Brier": column["brier"] / column["scored"],
        }
        shown = {metric.name for metric in self.metrics}
        found = {name: value for name, value in found.items() if name in shown}
        if curve is not None:
            found["ROCAUC"] = roc_auc(curve)
            found["AveragePrecision"] = average_precision(curve)
        if cost is not None:
            price = cost.tp * tp + cost.fp * fp + cost.fn * fn + cost.tn * tn
            found["CostPerEvent"] = price / column["answered"]
        return found

    def confusion(self, column: Mapping[str, float], pairs: Pairs) -> list[tuple[str, str, int]]:
        cells = (("yes", "yes", "tp"), ("yes", "no", "fn"), ("no", "yes", "fp"), ("no", "no", "tn"))
        return [(label, predicted, int(column[name])) for label, predicted, name in cells]


class OfProbabilities(_OfTwo):
    """A class of two, and the probability of yes."""

    metrics = (
        *(ACCURACY, BALANCED_ACCURACY, PRECISION, RECALL, F1),
        *(LOG_LOSS, BRIER, ROC_AUC, AVERAGE_PRECISION),
    )
    headline = ("LogLoss", "ROCAUC", "Accuracy")
    headline_costs = ("CostPerEvent", "AveragePrecision", "LogLoss")
    bins = TOP + 1
    probabilities = True
    figures = ("calibration", "scores", "thresholds")

    def _yes(self, outcomes: Sequence[Outcome], scores: Floats, known: Truths, threshold: float | None) -> Truths:
        predictions = [outcome.prediction for outcome in outcomes]
        return np.array([p is not None and p.label is True for p in predictions])


class OfScores(_OfTwo):
    """A score of any size: the threshold decides, or the budget of alarms did."""

    metrics = (ROC_AUC, AVERAGE_PRECISION, PRECISION, RECALL, F1)
    headline = ("ROCAUC", "AveragePrecision")
    headline_costs = ("CostPerEvent", "ROCAUC")
    bins = TOP + 2 * BEYOND + 1
    offset = BEYOND

    def _yes(self, outcomes: Sequence[Outcome], scores: Floats, known: Truths, threshold: float | None) -> Truths:
        if threshold is not None:
            return known & (scores >= threshold)
        predictions = [outcome.prediction for outcome in outcomes]
        decided: Truths = np.array([p is not None and p.label is True for p in predictions])
        return known & decided


class OfClasses(Measure):
    """One of many classes."""

    sums = ("n", "answered", "scored", "hits", "log_loss")
    metrics = (ACCURACY, MACRO_F1, LOG_LOSS)
    headline = ("Accuracy", "LogLoss")

    def columns(self, outcomes: Sequence[Outcome], threshold: float | None) -> Columns:
        answered, known, hits, losses = [], [], [], []
        for outcome in outcomes:
            prediction = outcome.prediction
            label = prediction.label if prediction is not None else None
            answered.append(label is not None)
            hits.append(label == outcome.label)
            probabilities = prediction.probabilities if prediction is not None else None
            known.append(bool(probabilities))
            share = probabilities.get(outcome.label, 0.0) if probabilities and outcome.label is not None else 1.0
            losses.append(-np.log(min(max(share, _LEAST), 1.0)))
        return Columns(np.array([[1.0] * len(outcomes), answered, known, hits, losses], dtype=float))

    def values(self, column: Mapping[str, Floats], curve: NDArray[Any] | None, cost: Cost | None) -> dict[str, Floats]:
        return {"Accuracy": column["hits"] / column["answered"], "LogLoss": column["log_loss"] / column["scored"]}

    def pairs(self, outcomes: Sequence[Outcome]) -> Iterator[tuple[Any, Any]]:
        for outcome in outcomes:
            yield outcome.label, outcome.prediction.label if outcome.prediction is not None else None

    def values_of_pairs(self, pairs: Pairs) -> dict[str, float]:
        return {MACRO_F1.name: macro_f1(pairs)}

    def confusion(self, column: Mapping[str, float], pairs: Pairs) -> list[tuple[str, str, int]]:
        commonest = pairs.most_common(_CONFUSIONS_MAX)
        return [(str(label), str(predicted), count) for (label, predicted), count in commonest]


class OfNumbers(Measure):
    """A number."""

    sums = ("n", "answered", "scored", "absolute", "squared", "error", "y", "y_squared")
    metrics = (
        Metric("MAE", -1, "mean absolute error"),
        Metric("RMSE", -1, "root of the mean squared error"),
        Metric("R2", 1, "share of the variance explained"),
        Metric("Bias", 0, "mean error: above 0 is too high"),
    )
    headline = ("MAE", "RMSE")
    decisions = False

    def columns(self, outcomes: Sequence[Outcome], threshold: float | None) -> Columns:
        predictions = [outcome.prediction for outcome in outcomes]
        ones = np.ones(len(outcomes))
        predicted = np.array([np.nan if p is None or p.value is None else p.value for p in predictions], dtype=float)
        y = np.array([outcome.label for outcome in outcomes], dtype=float)
        known = ~np.isnan(predicted)
        error = np.where(known, predicted - y, 0.0)
        y = np.where(known, y, 0.0)
        return Columns(np.stack([ones, known, known, abs(error), error * error, error, y, y * y]))

    def values(self, column: Mapping[str, Floats], curve: NDArray[Any] | None, cost: Cost | None) -> dict[str, Floats]:
        scored = column["scored"]
        variance = column["y_squared"] - column["y"] ** 2 / scored
        return {
            "MAE": column["absolute"] / scored,
            "RMSE": np.sqrt(column["squared"] / scored),
            "R2": 1.0 - column["squared"] / np.where(variance > 0, variance, np.nan),
            "Bias": column["error"] / scored,
        }


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


def macro_f1(pairs: Pairs) -> float:
    """F1 of each class that was a label or a prediction, averaged, as River has it."""
    tp: dict[Any, int] = {}
    labelled: dict[Any, int] = {}
    predicted: dict[Any, int] = {}
    for (label, prediction), count in pairs.items():
        if prediction is None:
            continue
        labelled[label] = labelled.get(label, 0) + count
        predicted[prediction] = predicted.get(prediction, 0) + count
        if label == prediction:
            tp[label] = tp.get(label, 0) + count
    classes = {**labelled, **predicted}
    if not classes:
        return float("nan")
    return sum(2 * tp.get(c, 0) / (labelled.get(c, 0) + predicted.get(c, 0)) for c in classes) / len(classes)
