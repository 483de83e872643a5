"""What `SeasonalRegression` sees of a series, as a matrix: a row for each forecast, computed for all of them at once.

Every number of the past is a distance in units of the series' scale. In order:

* `last`, `level`, `level_before`, `season_2`, `usual`, and each cycle: distances from the seasonal naive forecast of
  the step that is forecast, as in `core.forecast.row`;
* `excess` of the last step, and its mean over the last three steps, over each cycle and over the last season: how far
  values were above what is usual at their own time of the season. It says whether this is a good day;
* each of them times the cosine and the sine of the phase of the first cycle (of the season, where there are none), once
  and twice around, and those cosines and sines: the past says something else at night than at noon;
* calendar features of the step that is forecast, then 1, then the declared numbers of the event, then what the event
  says of the step that is forecast (`forecast.known_ahead`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import pi
from typing import Final

import numpy as np
from numpy.typing import NDArray

from driftline.core.history.calendar import calendar_value
from driftline.core.pipeline import CalendarFeature, ForecastForm, Pipeline
from driftline.core.record import FeatureValue
from driftline.core.river.seasonal import CONSTANT

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

_FADING: Final = 0.7
_HARMONICS: Final = 2
_TIMES_MAX: Final = 4_096
_RECENT: Final = 3  # steps


class Vectors:
    """Makes matrices as the pipeline says."""

    def __init__(self, pipeline: Pipeline, form: ForecastForm) -> None:
        self._season, self._step_ms, self._cycles = form.season, form.step_ms, form.cycles
        self._memory = max(form.memory, 3)
        self._turn = form.cycles[0] if form.cycles else form.season
        self._harmonics = min(_HARMONICS, (self._turn - 1) // 2)
        self._declared = form.declared(pipeline.event.features)
        features = pipeline.event.features
        self._declared_names = [list(features)[place] for place in self._declared]
        places = {name: place for place, name in enumerate(features)}
        self._planned_names = list(form.planned)
        self._planned = np.array([[places[name] for name in names] for names in form.planned.values()], dtype=np.intp)
        self._calendar = [name for name, one in features.items() if isinstance(one, CalendarFeature)]
        calendar = [one for one in features.values() if isinstance(one, CalendarFeature)]
        self._known = lru_cache(_TIMES_MAX)(lambda time_ms: self._known_at(time_ms, calendar))
        self._weights = _FADING ** np.arange(self._memory)
        self._back = self._season * np.arange(self._memory)

    @property
    def names(self) -> list[str]:
        """Of the columns, in order."""
        past = ["last", "level", "level_before", "season_2", "usual", *(f"cycle_{steps}" for steps in self._cycles)]
        past += ["excess", *(f"excess_{steps}" for steps in (_RECENT, *self._cycles, self._season))]
        waves = [f"{wave}_{self._turn}_{n}" for wave in ("cos", "sin") for n in range(1, self._harmonics + 1)]
        turned = [f"{name}_{wave}" for name in past for wave in waves]
        return [*past, *turned, *waves, *self._calendar, CONSTANT, *self._declared_names, *self._planned_names]

    def _known_at(self, time_ms: int, calendar: Sequence[CalendarFeature]) -> tuple[float, ...]:
        """Cosines and sines of the phase of a step, then its calendar features."""
        turn = 2.0 * pi * (time_ms // self._step_ms % self._turn) / self._turn
        turns = turn * np.arange(1, self._harmonics + 1)
        return (*np.cos(turns), *np.sin(turns), *(_number(calendar_value(one, time_ms)) for one in calendar))

    def matrix(
        self, values: Floats, origins: Places, targets: Places, of_origins: Floats, times_ms: Sequence[int],
        features: Sequence[Sequence[FeatureValue]],
    ) -> Floats:  # fmt: skip
        """Rows for forecasts.

        Args:
            values: of the series, as the model sees them.
            origins, targets: places of the steps after which, and of which, something is forecast.
            of_origins: rows of scale, level and level before.
            times_ms: of the targets.
            features: of the events at the origins; one where it is the same for all.
        """
        scale, level, before = of_origins.T
        bases = self.bases(origins, targets)
        base, season = values[bases], self._season
        earlier = np.where(bases >= season, bases - season, bases)
        past = [values[origins], level, before, values[earlier], self._usual(values, bases)]
        past += [values[targets - steps * -(-(targets - origins) // steps)] for steps in self._cycles]
        seen = np.stack([*(one - base for one in past), *self._excess(values, origins)], axis=1) / scale[:, None]
        known = np.array([self._known(time_ms) for time_ms in times_ms])
        waves = known[:, : 2 * self._harmonics]
        turned = (seen[:, :, None] * waves[:, None, :]).reshape(len(seen), -1)
        declared = np.array([[_number(row[place]) for place in self._declared] for row in features])
        declared = np.broadcast_to(declared.reshape(len(features), -1), (len(seen), len(self._declared)))
        planned = self._planned_of(features, targets - origins)
        return np.concatenate([seen, turned, known, np.ones((len(seen), 1)), declared, planned], axis=1)

    def _planned_of(self, features: Sequence[Sequence[FeatureValue]], horizons: Places) -> Floats:
        """What the events at the origins say of each step that is forecast."""
        if not len(self._planned):
            return np.zeros((len(horizons), 0))
        rows = features if len(features) > 1 else [features[0]] * len(horizons)
        made = [
            [_number(row[place]) for place in self._planned[:, horizon - 1].tolist()]
            for row, horizon in zip(rows, horizons.tolist(), strict=True)
        ]
        return np.array(made)

    def bases(self, origins: Places, targets: Places) -> Places:
        """Where the seasonal naive forecasts are taken from: as `core.forecast.row`."""
        places = targets - self._season * -(-(targets - origins) // self._season)
        return np.where(places >= 0, places, origins)

    def _usual(self, values: Floats, places: Places) -> Floats:
        """The mean of the same time in all seasons that are kept, later ones counting more."""
        at = places[:, None] - self._back
        weights = np.where(at >= 0, self._weights, 0.0)
        usual: Floats = (values[at.clip(0)] * weights).sum(axis=1) / weights.sum(axis=1)
        return usual

    def _excess(self, values: Floats, origins: Places) -> list[Floats]:
        """How far the latest values were above what was usual at their time; 0 of what had no season before."""
        first = max(int(origins.min()) - self._season + 1, 0)
        places = np.arange(first, int(origins.max()) + 1)
        at = places[:, None] - self._back[1:-1]
        weights = np.where(at >= 0, self._weights[1:-1], 0.0)
        known = weights.sum(axis=1)
        usual = np.divide((values[at.clip(0)] * weights).sum(axis=1), known, out=values[places].copy(), where=known > 0)
        excess = values[places] - usual
        sums = np.concatenate([[0.0], np.cumsum(excess)])
        ends = origins - first + 1
        spans = (_RECENT, *self._cycles, self._season)
        return [excess[ends - 1], *((sums[ends] - sums[(ends - span).clip(0)]) / span for span in spans)]


def _number(value: FeatureValue) -> float:
    """A declared number; 0 where there is none."""
    return float(value) if isinstance(value, int | float) else 0.0
