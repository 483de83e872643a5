"""Task `regression`: a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from driftline.core.output import Prediction
from driftline.core.record import LabelValue
from driftline.core.task.base import Draft, Models, Naive, Task, Words, foreign_metric, higher, nothing, value_of
from driftline.core.task.consequence import OF_NUMBERS
from driftline.core.task.label import NUMBER
from driftline.core.task.predict import number
from driftline.core.task.seen import ProfileError, Seen, Target, are_spread, is_number

if TYPE_CHECKING:
    from driftline.core.task import TaskName
    from driftline.core.task.measure import Measure

USUAL = ("MAE", "RMSE")


def distance(y_true: Any, prediction: Prediction) -> float | None:
    """How far a prediction is from the label, in the label's unit; None without one."""
    value = prediction.value
    return None if value is None else abs(y_true - value)


def _suits(last: Any) -> bool:
    from river import base

    return isinstance(last, base.Regressor)


def regression_metrics(task: TaskName) -> Callable[[Any], str | None]:
    """Why a metric does not suit a task whose labels are numbers; None if it does."""

    def refuses(metric: Any) -> str | None:
        from river import metrics

        return None if isinstance(metric, metrics.base.RegressionMetric) else foreign_metric(task, USUAL)

    return refuses


def look(seen: Seen) -> Target:
    """What a column of labels says of the target.

    Raises:
        ProfileError: one is not a number.
    """
    text = next((cell for cell in seen.counts if not is_number(cell)), None)
    if text is not None:
        raise ProfileError(
            f"the label {seen.name!r} holds {text!r:.80}, which is not a number; this task needs numbers: "
            "name another field with --label, or another --task"
        )
    numbers = [float(cell) for cell in seen.known]
    least, most = min(numbers), max(numbers)
    return Target(
        "regression",
        least=least,
        most=most,
        spread=are_spread(numbers),
        seen=f"numbers from {least:g} to {most:g}",
        mostly_zero=least == 0 < most and 2 * numbers.count(0.0) > len(numbers),
    )


def synthetic(signal: float, assumed: LabelValue | None) -> LabelValue:
    """A label for `check` to try a model with."""
    return 20.0 + signal


def _measure() -> Measure:
    from driftline.core.task.measure import OfNumbers

    return OfNumbers()


REGRESSION = Task(
    name="regression",
    labels=NUMBER,
    classes=False,
    probability=False,
    decides=False,
    models=Models(
        wants="a regressor, as in LinearRegression()",
        suits=_suits,
        refuses=nothing,
    ),
    predictor=number("predict_one"),
    error=distance,
    watched=value_of,
    metrics=USUAL,
    refuses_metric=regression_metrics("regression"),
    make_measure=_measure,
    consequences=OF_NUMBERS,
    words=Words("a prediction", "predictions", higher("predictions")),
    draft=Draft(
        looks=lambda seen: seen.numeric,
        look=look,
        prose=True,
        numbers_only=False,
        note="A tree that adapts to changes; it predicts means of labels it has seen, so it cannot diverge.",
        model="HoeffdingAdaptiveTreeRegressor(grace_period=50, leaf_prediction='mean')",
        head="{}",
        threshold=None,
        metrics=lambda rare, labelled: ("MAE", "RMSE", "R2"),
    ),
    naive=Naive("StatisticRegressor(Mean())", "mean of all labels"),
    synthetic=synthetic,
)
