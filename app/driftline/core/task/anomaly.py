"""Task `anomaly`: how unusual an event is, learned from the events themselves. Labels, where there are any,
only judge it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from driftline.core.record import LabelValue
from driftline.core.task.base import Draft, Models, Task, Words, foreign_metric, higher, nothing, value_of
from driftline.core.task.consequence import OF_SCORES
from driftline.core.task.label import TRUTH
from driftline.core.task.predict import number
from driftline.core.task.seen import two_values

if TYPE_CHECKING:
    from driftline.core.task.measure import Measure

_USUAL = ("ROCAUC",)


def _suits(last: Any) -> bool:
    from river import base

    if isinstance(last, base.AnomalyFilter):
        return isinstance(last.anomaly_detector, base.AnomalyDetector)
    return isinstance(last, base.AnomalyDetector)


def _refuses_metric(metric: Any) -> str | None:
    from driftline.core.river.curve import Curve

    return None if isinstance(metric, Curve) else foreign_metric("anomaly", _USUAL)


def _metrics(rare: float, labelled: bool) -> tuple[str, ...]:
    return ("ROCAUC", "AveragePrecision") if labelled else ()


def _synthetic(signal: float, assumed: LabelValue | None) -> LabelValue:
    return signal > 1.0


def _measure() -> Measure:
    from driftline.core.task.measure import OfScores

    return OfScores()


ANOMALY = Task(
    name="anomaly",
    labels=TRUTH,
    classes=False,
    probability=False,
    decides=True,
    models=Models(wants="an anomaly detector, as in HalfSpaceTrees()", suits=_suits, refuses=nothing),
    predictor=number("score_one"),
    error=None,
    watched=value_of,
    metrics=_USUAL,
    refuses_metric=_refuses_metric,
    make_measure=_measure,
    consequences=OF_SCORES,
    words=Words("an anomaly score", "anomaly scores", higher("anomaly scores")),
    draft=Draft(
        looks=lambda seen: False,
        look=lambda seen: two_values(seen, "anomaly"),
        prose=False,
        numbers_only=True,
        note="Random trees that learn what is normal, event by event; they need numbers between 0 and 1.",
        model="MinMaxScaler() | HalfSpaceTrees()",
        head="{}",
        threshold="0.9",
        metrics=_metrics,
    ),
    naive=None,
    synthetic=_synthetic,
)
