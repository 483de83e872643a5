"""Task `multiclass`: one of many classes, which need not be known beforehand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from driftline.core.output import Prediction
from driftline.core.record import LabelValue
from driftline.core.task.base import Draft, Models, Naive, Task, Words, foreign_metric, wrong_class
from driftline.core.task.consequence import OF_CLASSES
from driftline.core.task.label import CLASS
from driftline.core.task.predict import classes
from driftline.core.task.seen import Seen, Target, are_classes

if TYPE_CHECKING:
    from driftline.core.task.measure import Measure

_USUAL = ("Accuracy", "MacroF1")


def _suits(last: Any) -> bool:
    from river import base

    return isinstance(last, base.Classifier)


def _refuses(last: Any) -> str | None:
    if last._multiclass:
        return None
    wrapped = f"OneVsRestClassifier({type(last).__name__}(...))"
    return f"{type(last).__name__} is for two classes; write {wrapped}, or use a multiclass model"


def _watched(prediction: Prediction) -> float | None:
    """The greatest probability."""
    return max(prediction.probabilities.values()) if prediction.probabilities else None


def _refuses_metric(metric: Any) -> str | None:
    from river import metrics

    from driftline.core.river.curve import Curve

    if not isinstance(metric, metrics.base.ClassificationMetric):
        return foreign_metric("multiclass", _USUAL)
    if not isinstance(metric, metrics.base.BinaryMetric) or (isinstance(metric, Curve) and metric.pos_val is not True):
        return None
    return "is for two classes; for more, use a Macro or Weighted metric"


def _look(seen: Seen) -> Target:
    more = ", ..." if len(seen.counts) > 5 else ""
    return Target("multiclass", seen=f"{len(seen.counts)} classes ({seen.shown()}{more})")


def _synthetic(signal: float, assumed: LabelValue | None) -> LabelValue:
    number = int(abs(signal)) % 4
    whole = assumed is not None and not isinstance(assumed, str)
    return number if whole else f"class-{number}"


def _measure() -> Measure:
    from driftline.core.task.measure import OfClasses

    return OfClasses()


MULTICLASS = Task(
    name="multiclass",
    labels=CLASS,
    classes=True,
    probability=False,
    decides=False,
    models=Models(
        wants="a classifier, as in HoeffdingTreeClassifier()",
        suits=_suits,
        refuses=_refuses,
    ),
    predictor=classes,
    error=wrong_class,
    watched=_watched,
    metrics=_USUAL,
    refuses_metric=_refuses_metric,
    make_measure=_measure,
    consequences=OF_CLASSES,
    words=Words(
        "a class",
        "classes",
        lambda rises: f"been {'more' if rises else 'less'} confident in its predictions: ",
    ),
    draft=Draft(
        looks=are_classes,
        look=_look,
        prose=True,
        numbers_only=False,
        note="One linear model per class, on scaled numbers: fast, and stable from the first label.",
        model=None,
        head="OneVsRestClassifier({})",
        threshold=None,
        metrics=lambda rare, labelled: _USUAL,
    ),
    naive=Naive("NoChangeClassifier()", "same as last label"),
    synthetic=_synthetic,
)
