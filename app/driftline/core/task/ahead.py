"""Metrics of forecasts: sums that add up, over the horizons of one observation and over observations.

* MAE, RMSE, bias: of the forecast.
* sMAPE: twice the distance over the sum of both sizes, 0 where both are 0; from 0 to 2.
* MASE: the distance over the mean distance of the series' observations so far from those a season before.
* naive MAE, naive MASE: the same of the seasonal naive forecast, over the same observations.
* coverage, width: share of the observations inside their intervals, and how wide those are.
* pinball: mean of the pinball losses of both bounds, as quantiles.

Source: R. Hyndman and A. Koehler, Another look at measures of forecast accuracy (2006); R. Koenker and G. Bassett,
Regression quantiles (1978).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from driftline.core.output import Judged, Outcome
from driftline.core.task.cost import Cost
from driftline.core.task.measure import Columns, Floats, Ints, Measure, Metric

SUMS: Final = (
    *("forecasts", "absolute", "squared", "error", "smape", "naive_absolute"),
    *("scaled_n", "scaled", "naive_scaled"),
    *("bounded", "covered", "width", "pinball"),
)


def answered_of(judged: Judged) -> tuple[int, ...]:
    """The horizons at which something was served."""
    if None not in judged.values:
        return judged.horizons
    return tuple([horizon for horizon, value in zip(judged.horizons, judged.values, strict=True) if value is not None])


def _answered(judged: Judged) -> Judged:
    """What was served: of each horizon at which something was."""
    there = [place for place, value in enumerate(judged.values) if value is not None]
    names = ("values", "lower", "upper", "naive")
    parts = {name: tuple([getattr(judged, name)[place] for place in there]) for name in names}
    return structs.replace(judged, **parts)


def added(y: float, judged: Judged) -> Floats:
    """What one observation adds, for each horizon at which a forecast of it was served: horizons x `SUMS`."""
    if None in judged.values:
        judged = _answered(judged)
    with np.errstate(over="ignore", invalid="ignore"):  # of a forecast near the largest number there is
        return _added(y, judged)


def _added(y: float, judged: Judged) -> Floats:
    values, naive = np.array(judged.values, dtype=np.float64), np.array(judged.naive)
    lower, upper = np.array(judged.lower, dtype=np.float64), np.array(judged.upper, dtype=np.float64)  # None is NaN
    error = values - y
    absolute, naive_absolute = abs(error), abs(naive - y)
    size, scale = abs(values) + abs(y), judged.scale
    bounded = ~np.isnan(lower)
    low, high = np.where(bounded, lower, y), np.where(bounded, upper, y)
    tail = (1.0 - judged.interval) / 2
    made = np.zeros((len(values), len(SUMS)))
    made[:, 0], made[:, 1], made[:, 2], made[:, 3] = 1.0, absolute, error * error, error
    np.divide(2.0 * absolute, size, out=made[:, 4], where=size > 0)
    made[:, 5] = naive_absolute
    if scale:
        made[:, 6], made[:, 7], made[:, 8] = 1.0, absolute / scale, naive_absolute / scale
    made[:, 9], made[:, 10], made[:, 11] = bounded, bounded & (low <= y) & (y <= high), high - low
    made[:, 12] = (_pinball(y, low, tail) + _pinball(y, high, 1.0 - tail)) / 2
    return made


def _pinball(y: float, quantile: Floats, level: float) -> Floats:
    below = y - quantile
    return np.maximum(level * below, (level - 1.0) * below)


def metrics_of(sums: Floats) -> dict[str, Floats]:
    """Each metric, NaN where it is undefined.

    Args:
        sums: ... x `SUMS`.
    """
    column = {name: sums[..., place] for place, name in enumerate(SUMS)}
    with np.errstate(divide="ignore", invalid="ignore"):
        n, scaled, bounded = column["forecasts"], column["scaled_n"], column["bounded"]
        return {
            "MAE": column["absolute"] / n,
            "RMSE": np.sqrt(column["squared"] / n),
            "Bias": column["error"] / n,
            "sMAPE": column["smape"] / n,
            "MASE": column["scaled"] / scaled,
            "NaiveMAE": column["naive_absolute"] / n,
            "NaiveMASE": column["naive_scaled"] / scaled,
            "Coverage": column["covered"] / bounded,
            "Width": column["width"] / bounded,
            "Pinball": column["pinball"] / bounded,
        }


class OfForecasts(Measure):
    """Numbers by horizon. A pair is an observation, with all forecasts that were made of it."""

    sums = ("n", "answered", *SUMS)
    metrics = (
        Metric("MAE", -1, "mean absolute error, over all horizons"),
        Metric("RMSE", -1, "root of the mean squared error"),
        Metric("MASE", -1, "mean absolute error, in units of each series' mean change over a season"),
        Metric("sMAPE", -1, "mean of twice the error over the sum of forecast and truth, 0 to 2"),
        Metric("Bias", 0, "mean error: above 0 is too high"),
        Metric("NaiveMAE", 0, "mean absolute error of the seasonal naive forecast of the same observations"),
        Metric("NaiveMASE", 0, "MASE of the seasonal naive forecast"),
        Metric("Coverage", 0, "share of the observations inside their intervals"),
        Metric("Width", 0, "mean width of the intervals"),
        Metric("Pinball", -1, "mean pinball loss of the intervals' bounds, as quantiles"),
    )
    headline = ("MAE", "MASE")
    decisions = False
    horizons = True

    def columns(self, outcomes: Sequence[Outcome], threshold: float | None) -> Columns:
        made = np.zeros((len(outcomes), len(self.sums)))
        for number, outcome in enumerate(outcomes):
            made[number, 0] = 1.0
            if outcome.judged is not None:
                made[number, 1] = bool(answered_of(outcome.judged))
                made[number, 2:] = added(_truth(outcome), outcome.judged).sum(axis=0)
        return Columns(made.T)

    def by_horizon(self, outcomes: Sequence[Outcome]) -> tuple[Ints, Floats]:
        judged = [one for one in outcomes if one.judged is not None]
        if not judged:
            return super().by_horizon(outcomes)
        places = [horizon - 1 for one in judged if one.judged is not None for horizon in answered_of(one.judged)]
        each = np.concatenate([added(_truth(one), one.judged) for one in judged if one.judged is not None])
        ones = np.ones((len(each), 2))
        return np.array(places, dtype=np.int64), np.concatenate([ones, each], axis=1).T

    def values(self, column: Mapping[str, Floats], curve: NDArray[Any] | None, cost: Cost | None) -> dict[str, Floats]:
        return metrics_of(np.stack([column[name] for name in SUMS], axis=-1))


def _truth(outcome: Outcome) -> float:
    """The observation."""
    label = outcome.label
    return float(label) if isinstance(label, int | float) else float("nan")
