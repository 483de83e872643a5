"""What a regressor sees of a series, computed from the series' past at each forecast and each learning.

Every number of the past is a distance from the seasonal naive forecast of the step that is forecast, in units of the
series' scale; so is what is learned. Declared features are those of the event after which the forecast is made;
calendar features are those of the step that is forecast, and so is what that event knows ahead of it.

What the past says of the next step differs within a cycle: at night the last value matters less than at noon. So each
number of the past also comes multiplied by the cosine and the sine of the phase of each cycle, with which a linear
model can weigh it differently at each phase.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import cos, fsum, pi, sin
from operator import mul
from typing import Final

from msgspec import Struct

from driftline.core.history.calendar import calendar_value
from driftline.core.pipeline import CalendarFeature, ForecastForm, Pipeline
from driftline.core.record import FeatureValue
from driftline.core.river.ahead import Row

_WAVES: Final = (("cos", cos), ("sin", sin))
_TIMES_MAX: Final = 4_096
_FADING: Final = 0.7
"""How much less a season counts in `usual` than the one after it."""


class Origin(Struct, gc=False):
    """A step after which something is forecast.

    Args:
        values: of the series, by step, as the model sees them.
        place: of the step.
        scale: of the series.
        level, before: mean of the last season, and of the one before it.
        features: of the event.
    """

    values: Sequence[float]
    place: int
    scale: float
    level: float
    before: float
    features: Sequence[FeatureValue]


class Rows:
    """Makes rows as the pipeline says.

    Args:
        form: the pipeline's `forecast` section.
    """

    def __init__(self, pipeline: Pipeline, form: ForecastForm) -> None:
        self.season, self.step_ms = form.season, form.step_ms
        self._earlier = [(f"season_{number}", (number - 1) * form.season) for number in range(2, form.seasons + 1)]
        self._weights = [_FADING**back for back in range(form.memory)]
        self._cycles = [(steps, f"cycle_{steps}", f"cycle_{steps}_change") for steps in form.cycles]
        self._turning = form.cycles
        self._shared = form.models == "shared"
        features = pipeline.event.features
        places = {name: place for place, name in enumerate(features)}
        self._planned = [(name, [places[one] for one in names]) for name, names in form.planned.items()]
        ahead = {name for names in form.planned.values() for name in names}
        calendar = [(name, one) for name, one in features.items() if isinstance(one, CalendarFeature)]
        self._declared = [
            (name, place)
            for place, (name, one) in enumerate(features.items())
            if not isinstance(one, CalendarFeature) and name != form.target and name not in ahead
        ]
        self._calendar = lru_cache(_TIMES_MAX)(
            lambda time_ms: tuple([(name, calendar_value(one, time_ms)) for name, one in calendar])
        )

        self._phases = lru_cache(_TIMES_MAX)(self._phases_at)
        self._waved = lru_cache(1)(self._waved_names)

    def _phases_at(self, time_ms: int) -> tuple[float, ...]:
        """Cosine and sine of the phase of each cycle."""
        turns = [2.0 * pi * (time_ms // self.step_ms % steps) / steps for steps in self._turning]
        return tuple([wave(turn) for turn in turns for _, wave in _WAVES])

    def _waved_names(self, names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        """Names of products with each number of `_phases_at`."""
        endings = [f"_{name}_{steps}" for steps in self._turning for name, _ in _WAVES]
        return tuple([tuple([name + ending for name in names]) for ending in endings])

    def base_place(self, origin: int, horizon: int) -> int:
        """Where the seasonal naive forecast is taken from: the latest value of the same time in the season."""
        season = self.season
        place = origin + horizon - season * -(-horizon // season)
        return place if place >= 0 else origin  # a series younger than a season: its last value

    def base_places(self, origin: int, horizons: int) -> list[int]:
        """The same of all horizons up to one."""
        season = self.season
        places = [origin + horizon - season * -(-horizon // season) for horizon in range(1, horizons + 1)]
        return places if places[0] >= 0 else [place if place >= 0 else origin for place in places]

    def row(self, origin: Origin, horizon: int, time_ms: int) -> Row:
        """What is seen of one horizon.

        Args:
            time_ms: of the step that is forecast.
        """
        values, here, scale, season = origin.values, origin.place, origin.scale, self.season
        place = self.base_place(here, horizon)
        base = values[place]
        past = {
            "last": (values[here] - base) / scale,
            "change": (values[here] - values[max(here - season, 0)]) / scale,
            "level": (origin.level - base) / scale,
            "level_before": (origin.before - base) / scale,
        }
        for name, back in self._earlier:
            at = place - back
            while at < 0:  # a young series: the oldest there is
                at += season
            past[name] = (values[at] - base) / scale
        past["usual"] = (self._usual(values, place) - base) / scale
        for steps, name, changed in self._cycles:
            at = here + horizon - steps * -(-horizon // steps)
            past[name] = (values[at] - base) / scale
            past[changed] = (values[at] - values[max(at - season, 0)]) / scale
        row: Row = {**past}
        if self._turning:
            numbers = past.values()
            for names, wave in zip(self._waved(tuple(past)), self._phases(time_ms), strict=True):
                row.update(zip(names, [value * wave for value in numbers], strict=True))
        if self._shared:
            row["horizon"] = horizon
        for name, number in self._declared:
            given = origin.features[number]
            if given is not None:
                row[name] = given
        for name, by_horizon in self._planned:
            given = origin.features[by_horizon[horizon - 1]]
            if given is not None:
                row[name] = given
        row.update(self._calendar(time_ms))
        return row

    def _usual(self, values: Sequence[float], place: int) -> float:
        """The mean of the same time in all seasons that are kept, later ones counting more."""
        same = values[place :: -self.season]
        weights = self._weights[: len(same)]
        return fsum(map(mul, same, weights)) / fsum(weights)

    def levels(self, values: Sequence[float], origin: int) -> tuple[float, float]:
        """The mean of the last season, and of the one before; of a young series what there is of them."""
        season, end = self.season, origin + 1
        latest = values[max(end - season, 0) : end]
        level = fsum(latest) / len(latest)
        earlier = values[max(end - 2 * season, 0) : max(end - season, 0)]
        return level, fsum(earlier) / len(earlier) if earlier else level
