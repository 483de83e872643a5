"""Task `forecast`: the numbers that a series will have at the next steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from driftline.core.task.base import Draft, Models, Task, Words, higher, nothing, value_of
from driftline.core.task.consequence import OF_NUMBERS
from driftline.core.task.label import NUMBER
from driftline.core.task.predict import several
from driftline.core.task.regression import USUAL, distance, look, regression_metrics, synthetic

if TYPE_CHECKING:
    from driftline.core.task.measure import Measure


def _suits(last: Any) -> bool:
    from river import base

    from driftline.core.river.ahead import keeps_series
    from driftline.core.river.seasonal import SeasonalNaive, SeasonalRegression

    return isinstance(last, base.Regressor | SeasonalNaive | SeasonalRegression) or keeps_series(last)


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
        refuses=nothing,
    ),
    predictor=several,
    error=distance,
    watched=value_of,
    metrics=USUAL,
    refuses_metric=regression_metrics("forecast"),
    make_measure=_measure,
    consequences=OF_NUMBERS,
    words=Words("a forecast", "forecasts", higher("forecasts")),
    draft=Draft(
        looks=lambda seen: False,
        look=look,
        prose=False,
        numbers_only=False,
        note="One linear model for each horizon, over what all series have in common.",
        model="StandardScaler() | LinearRegression()",
        head="{}",
        threshold=None,
        metrics=lambda rare, labelled: ("MAE", "RMSE"),
    ),
    naive=None,
    synthetic=synthetic,
    ahead=True,
)
