"""Task `forecast`: the numbers that a series will have at the next steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from driftline.core.output import Prediction
from driftline.core.record import LabelValue
from driftline.core.task.base import Draft, Models, Task, Words, foreign_metric, higher, value_of
from driftline.core.task.label import NUMBER
from driftline.core.task.predict import several
from driftline.core.task.seen import Seen, Target

if TYPE_CHECKING:
    from driftline.core.task.measure import Measure

_USUAL = ("MAE", "RMSE")


def _error(y_true: Any, prediction: Prediction) -> float | None:
    value = prediction.value
    return None if value is None else abs(y_true - value)


def _suits(last: Any) -> bool:
    from river import base

    from driftline.core.river.ahead import keeps_series

    return isinstance(last, base.Regressor) or keeps_series(last)


def _refuses(last: Any) -> str | None:
    return None


def _refuses_metric(metric: Any) -> str | None:
    from river import metrics

    return None if isinstance(metric, metrics.base.RegressionMetric) else foreign_metric("forecast", _USUAL)


def _look(seen: Seen) -> Target:
    from driftline.core.task.regression import REGRESSION

    return REGRESSION.draft.look(seen)


def _synthetic(signal: float, assumed: LabelValue | None) -> LabelValue:
    return 20.0 + signal


def _measure() -> Measure:
    from driftline.core.task.ahead import OfForecasts

    return OfForecasts()


FORECAST = Task(
    name="forecast",
    labels=NUMBER,
    classes=False,
    probability=False,
    decides=False,
    models=Models(
        wants="a regressor, as in StandardScaler() | LinearRegression(), or a model of river.time_series by itself",
        suits=_suits,
        refuses=_refuses,
    ),
    predictor=several,
    error=_error,
    watched=value_of,
    metrics=_USUAL,
    refuses_metric=_refuses_metric,
    make_measure=_measure,
    words=Words("a forecast", "forecasts", higher("forecasts")),
    draft=Draft(
        looks=lambda seen: False,
        look=_look,
        prose=False,
        numbers_only=False,
        note="One linear model for each horizon, over what all series have in common.",
        model="StandardScaler() | LinearRegression()",
        head="{}",
        threshold=None,
        metrics=lambda rare, labelled: ("MAE", "RMSE"),
    ),
    naive=None,
    synthetic=_synthetic,
    ahead=True,
)
