"""Task `binary`: yes or no, with the probability of yes where the model has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from driftline.core.record import LabelValue
from driftline.core.task.base import Draft, Models, Naive, Task, Words, foreign_metric, nothing, value_of, wrong_class
from driftline.core.task.consequence import OF_TWO
from driftline.core.task.label import TRUTH
from driftline.core.task.predict import two_classes
from driftline.core.task.seen import RARE, Seen, Target, refuse_alike, two_values

if TYPE_CHECKING:
    from driftline.core.task.measure import Measure

_USUAL = ("Accuracy", "LogLoss", "ROCAUC")


def _suits(last: Any) -> bool:
    from river import base

    return isinstance(last, base.Classifier)


def _refuses_metric(metric: Any) -> str | None:
    from river import metrics

    return None if isinstance(metric, metrics.base.ClassificationMetric) else foreign_metric("binary", _USUAL)


def _moved(rises: bool) -> str:
    return f"given {'higher' if rises else 'lower'} probabilities: on average "


def _look(seen: Seen) -> Target:
    refuse_alike(seen)
    return two_values(seen, "binary")


def _metrics(rare: float, labelled: bool) -> tuple[str, ...]:
    return ("ROCAUC", "AveragePrecision", "LogLoss") if rare < RARE else ("Accuracy", "ROCAUC", "LogLoss")


def _synthetic(signal: float, assumed: LabelValue | None) -> LabelValue:
    return signal > 1.0


def _measure() -> Measure:
    from driftline.core.task.measure import OfProbabilities

    return OfProbabilities()


BINARY = Task(
    name="binary",
    labels=TRUTH,
    classes=True,
    probability=True,
    decides=True,
    models=Models(
        wants="a classifier, as in LogisticRegression()",
        suits=_suits,
        refuses=nothing,
    ),
    predictor=two_classes,
    error=wrong_class,
    watched=value_of,
    metrics=_USUAL,
    refuses_metric=_refuses_metric,
    make_measure=_measure,
    consequences=OF_TWO,
    words=Words("a probability", "probabilities", _moved),
    draft=Draft(
        looks=lambda seen: len(seen.counts) == 2,
        look=_look,
        prose=True,
        numbers_only=False,
        note="A linear model on scaled numbers: fast, stable from the first label, gives probabilities.",
        model=None,
        head="{}",
        threshold="0.5",
        metrics=_metrics,
    ),
    naive=Naive("NoChangeClassifier()", "same as last label"),
    synthetic=_synthetic,
)
