"""What a regressor sees of a series, made anew from the series' past whenever it is asked or taught.

Every number of the past is a distance from the seasonal naive forecast of the step that is forecast, in units of the
series' scale; so is what is learned. Declared features are those of the event after which the forecast is made;
calendar features are those of the step that is forecast, which are known ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import fsum

from driftline.core.history.calendar import calendar_value
from driftline.core.pipeline import CalendarFeature, ForecastForm, Pipeline
from driftline.core.record import FeatureValue
from driftline.core.river.ahead import Row

_TIMES_MAX = 4_096


class Rows:
    """Makes rows as the pipeline says.

    Args:
        form: the pipeline's `forecast` section.
    """

    def __init__(self, pipeline: Pipeline, form: ForecastForm) -> None:
        self.season, self.step_ms = form.season, form.step_ms
        self._earlier = [(f"season_{number}", (number - 1) * form.season) for number in range(2, form.seasons + 1)]
        self._shared = form.models == "shared"
        features = pipeline.event.features
        calendar = [(name, one) for name, one in features.items() if isinstance(one, CalendarFeature)]
        self._declared = [
            (name, place)
            for place, (name, one) in enumerate(features.items())
            if not isinstance(one, CalendarFeature) and name != form.target
        ]
        self._calendar = lru_cache(_TIMES_MAX)(
            lambda time_ms: tuple([(name, calendar_value(one, time_ms)) for name, one in calendar])
        )

    def base(self, values: Sequence[float], origin: int, horizon: int) -> float:
        """The seasonal naive forecast: the latest value of the same time in the season."""
        return values[self._base_place(origin, horizon)]

    def _base_place(self, origin: int, horizon: int) -> int:
        season = self.season
        place = origin + horizon - season * -(-horizon // season)
        return place if place >= 0 else origin  # a series younger than a season: its last value

    def row(
        self,
        values: Sequence[float],
        origin: int,
        horizon: int,
        scale: float,
        features: Sequence[FeatureValue],
        time_ms: int,
    ) -> Row:
        """What is seen of one horizon.

        Args:
            values: of the series, by step.
            origin: place of the step after which it is forecast.
            features: of that event.
            time_ms: of the step that is forecast.
        """
        season, place = self.season, self._base_place(origin, horizon)
        base = values[place]
        level, before = self._levels(values, origin)
        row: Row = {
            "last": (values[origin] - base) / scale,
            "change": (values[origin] - values[max(origin - season, 0)]) / scale,
            "level": (level - base) / scale,
            "level_before": (before - base) / scale,
        }
        for name, back in self._earlier:
            at = place - back
            while at < 0:  # a young series: the oldest there is
                at += season
            row[name] = (values[at] - base) / scale
        if self._shared:
            row["horizon"] = horizon
        for name, number in self._declared:
            value = features[number]
            if value is not None:
                row[name] = value
        row.update(self._calendar(time_ms))
        return row

    def _levels(self, values: Sequence[float], origin: int) -> tuple[float, float]:
        """The mean of the last season, and of the one before."""
        season, end = self.season, origin + 1
        latest = values[max(end - season, 0) : end]
        level = fsum(latest) / len(latest)
        earlier = values[max(end - 2 * season, 0) : max(end - season, 0)]
        return level, fsum(earlier) / len(earlier) if earlier else level
