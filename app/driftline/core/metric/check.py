"""Which of River's metrics a pipeline may name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from river import base, metrics

from driftline.core.error import ExpressionError
from driftline.core.river.curve import Curve

if TYPE_CHECKING:
    from driftline.core.task.base import Task

_WINDOWED = "write {}: every metric also has a rolling value, over metric_window labels"
_REFUSED: dict[type, str] = {
    metrics.ROCAUC: "write ROCAUC: it is binned and more accurate than River's ten thresholds",
    metrics.RollingROCAUC: _WINDOWED.format("ROCAUC"),
    metrics.RollingPRAUC: _WINDOWED.format("AveragePrecision"),
}


def check_metric(name: str, metric: Any, task: Task) -> None:
    """Hold a built metric against the task.

    Args:
        name: its expression, for the error's text.

    Raises:
        ExpressionError: it is not a metric, gives no single number, or needs what predictions of the task do not
        have.
    """
    instead = _REFUSED.get(type(metric))
    if instead is not None:
        raise ExpressionError(f"{name}: {instead}")
    if isinstance(metric, metrics.base.Metrics):
        raise ExpressionError(f"{name}: list the metrics one by one instead of adding them")
    if not isinstance(metric, Curve) and getattr(metric, "pos_val", True) is not True:
        # River 0.26 translates classes to True and False, and then looks pos_val up among those.
        raise ExpressionError(f"{name}: River gives a wrong value with pos_val; use a Macro or Weighted metric")
    fault = task.refuses_metric(metric)
    if fault is not None:
        raise ExpressionError(f"{name}: {fault}")
    try:
        single = isinstance(metric.get(), float | int)
    except NotImplementedError:  # of a table, as a ClassificationReport is
        single = False
    if not single:
        raise ExpressionError(f"{name}: gives a table instead of a number; use Precision, Recall or F1")
    if isinstance(metric, metrics.MultiFBeta) and type(metric.weights) is not dict:
        raise ExpressionError(f"{name}: needs weights: a dict from class to number")


def needs_probabilities(metric: Any) -> bool:
    """Whether a metric stays empty when the model gives classes without probabilities."""
    return isinstance(metric, base.Base) and getattr(metric, "requires_labels", True) is False
