"""River's models as forecasters of several horizons at once, for many series.

`Direct` asks a regressor for each horizon (or one regressor, which sees the horizon as a feature). It sees every number
as a distance from the seasonal naive forecast, in units of the series' own scale, and answers so: a model that has
learned nothing gives the seasonal naive forecast, and series of all sizes can be learned by one model.

`PerSeries` keeps a model of River's `time_series` for each series, the least recently observed one let go.

Both look to the learner like one model of River's: `predict_one` for a forecast, `learn_one` for what an observation
teaches.

Source: S. Ben Taieb et al., A review and comparison of strategies for multi-step ahead time series forecasting (2012),
the direct strategy; P. Montero-Manso and R. Hyndman, Principles and algorithms for forecasting groups of time series
(2021), one model over all series.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias

from msgspec import Struct
from river import base, time_series

from driftline.core.compact import compacted
from driftline.core.record import FeatureValue

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Sees: TypeAlias = Literal["rows", "matrix", "series"]
"""What a model is given of a series: a row of features for each horizon, all of them as a matrix, or its values."""

Row: TypeAlias = dict[str, FeatureValue]
FURTHEST: Final = 20.0
"""A regressor's forecast is at most so many scales of its series away from the seasonal naive one."""


class Asked(Struct, frozen=True, gc=False):
    """What a model is asked: the forecast of one series from one slot on.

    Args:
        slot: of the latest observation.
        scale: of the series; bases and answers are in the unit that the model sees.
        level, before: mean of the last season, and of the one before it.
        bases: the seasonal naive forecast, by horizon.
        rows: what the model sees, by horizon; empty for models that see something else.
        matrix: the same for a model that sees a matrix: horizons x columns (`core.forecast.vector`).
    """

    series: bytes
    slot: int
    scale: float
    level: float
    before: float
    bases: tuple[float, ...]
    rows: tuple[Row, ...]
    matrix: NDArray[np.float64] | None = None


class Batch(Struct, frozen=True, gc=False):
    """The pairs of an observation, for a model that sees a matrix.

    Args:
        rows: pairs x columns.
        numbers: the horizon of each, from 0.
        targets: the truth of each.
    """

    rows: NDArray[np.float64]
    numbers: NDArray[np.intp]
    targets: NDArray[np.float64]


class Taught(Struct, frozen=True, gc=False):
    """What an observation teaches.

    Args:
        slot: of the observation.
        values: of the slots since the observation before, filled in where they are missing; the last one is observed.
        pairs: for each horizon at which the slot was forecast: its number from 0, what the model saw, and the truth as
            a distance from the seasonal naive forecast, in units of the series' scale.
        batch: the same for a model that sees a matrix.
    """

    series: bytes
    slot: int
    values: tuple[float, ...]
    pairs: tuple[tuple[int, Row, float], ...]
    batch: Batch | None = None


Given: TypeAlias = Sequence[FeatureValue] | Asked | Taught
"""What a model is given: an event's values in declared order, or what a forecasting one is asked or taught."""


class Ahead(base.Estimator):
    """A model of several horizons.

    Attributes:
        horizons: how many.
        sees: what it is given of a series.
    """

    horizons: int
    sees: ClassVar[Sees] = "series"

    @property
    def _supervised(self) -> bool:
        return True

    @abstractmethod
    def predict_one(self, asked: Asked) -> Sequence[float] | None:
        """The forecast by horizon; None while the model cannot say."""

    @abstractmethod
    def learn_one(self, taught: Taught, y: Any = None) -> None:
        """Learn what an observation teaches."""

    @abstractmethod
    def sound(self, taught: Taught) -> bool:
        """Whether what it answers to what it was just taught is finite."""

    @abstractmethod
    def parts(self) -> Iterator[Any]:
        """River's models in it."""


class Direct(Ahead):
    """Regressors over what all series have in common.

    Args:
        models: one for each horizon, or one for all.
        horizons: how many.
    """

    sees: ClassVar[Sees] = "rows"

    def __init__(self, models: list[Any], horizons: int) -> None:
        self.models = models
        self.horizons = horizons

    def predict_one(self, asked: Asked) -> Sequence[float] | None:
        scale, models = asked.scale, self.models
        if len(models) == 1:
            models = models * len(asked.rows)
        return [
            base + scale * min(max(model.predict_one(row), -FURTHEST), FURTHEST)
            for base, model, row in zip(asked.bases, models, asked.rows, strict=True)
        ]

    def learn_one(self, taught: Taught, y: Any = None) -> None:
        models = self.models
        for number, row, target in taught.pairs:
            models[number if len(models) > 1 else 0].learn_one(row, target)

    def sound(self, taught: Taught) -> bool:
        models = self.models
        return all(
            isfinite(models[number if len(models) > 1 else 0].predict_one(row)) for number, row, _ in taught.pairs
        )

    def parts(self) -> Iterator[Any]:
        yield from self.models


class PerSeries(Ahead):
    """A time series model for each series.

    Args:
        fresh: the model before its first observation.
        horizons: how many.
        series_max: most series; of more, the least recently observed one is let go.

    Attributes:
        kept: by series, the slot of its latest observation and its model, the least recently observed one first.
    """

    _let_go = 0  # how many were, since it was made or read: a new dict is written by it, and no state holds it

    def __init__(self, fresh: Any, horizons: int, series_max: int) -> None:
        self.fresh = fresh
        self.horizons = horizons
        self.series_max = series_max
        self.kept: dict[bytes, tuple[int, Any]] = {}

    def predict_one(self, asked: Asked) -> Sequence[float] | None:
        slot, model = self.kept.get(asked.series, (None, None))
        if model is None or slot != asked.slot or not _begun(model):
            return None
        return [float(value) for value in model.forecast(horizon=self.horizons)]

    def learn_one(self, taught: Taught, y: Any = None) -> None:
        slot, model = self.kept.pop(taught.series, (None, None))
        values = taught.values
        if model is None or slot != taught.slot - len(values):
            model, values = copy.deepcopy(self.fresh), values[-1:]  # it has missed some, and its season is shifted
        for value in values:
            model.learn_one(value)
        self.kept[taught.series] = (taught.slot, model)
        while len(self.kept) > self.series_max:
            del self.kept[next(iter(self.kept))]
            self._let_go += 1
            self.kept = compacted(self.kept, self._let_go, self.series_max)

    def __getstate__(self) -> dict[str, Any]:
        """Without the count of series that were let go."""
        return {name: part for name, part in vars(self).items() if name != "_let_go"}

    def sound(self, taught: Taught) -> bool:
        _, model = self.kept[taught.series]
        return not _begun(model) or all(map(isfinite, model.forecast(horizon=self.horizons)))

    def parts(self) -> Iterator[Any]:
        yield self.fresh
        for _, model in self.kept.values():
            yield model


def _begun(model: Any) -> bool:
    """Whether a model has seen enough to be asked: River's Holt-Winters raises before."""
    if isinstance(model, time_series.HoltWinters):
        return bool(model._initialized)
    return len(model.y_hist) >= model.differencer.n_required_past_values if hasattr(model, "differencer") else True


def keeps_series(model: Any) -> bool:
    """Whether it is a model of one series, which keeps its past itself."""
    return issubclass(type(model), time_series.base.Forecaster)  # not isinstance: River answers for a pipeline too
