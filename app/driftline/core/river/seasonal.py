"""Forecasters of our own, for all series and horizons at once.

`SeasonalRegression` is a ridge regression for each horizon, on what all series have in common (`core.forecast.vector`
says what that is). It is kept as sums, so that nothing drifts numerically however long it runs, and it is solved anew
every few observations for all horizons together. Observations far from what was expected count less (Huber): one that
is ten times too large moves nothing. What it forecasts is mixed with simple forecasts, by how far off each was of late
at that horizon: where the regression is no better than the seasonal naive forecast, that is what is served.

`SeasonalNaive` answers with the seasonal naive forecast itself.

Source: P. Huber, Robust estimation of a location parameter (1964); V. Vovk, A game of prediction with expert advice
(1998), the exponentially weighted mean of experts, here over a past that fades (M. Herbster and M. Warmuth, Tracking
the best expert, 1998).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from driftline.core.river.ahead import FURTHEST, Ahead, Asked, Sees, Taught

Floats = NDArray[np.float64]

BATCH_MAX: Final = 64  # observations, at most, that wait until the weights are solved anew
COLUMNS_MAX: Final = 2_000
_BATCH_SHARE: Final = 0.02  # of all observations so far: a young model is solved at every one
_CLEAR: Final = 200.0  # how many observations with a difference of 1 make one expert e times as heavy as another
_PATIENCE: Final = 400.0  # observations that an expert's mean error looks back on
_ERROR_MAX: Final = 5.0  # scales: further off counts as that far
_SPREAD_MAX: Final = 5.0  # standard deviations from the mean: further counts as that far


class Weighed(Struct, frozen=True):
    """What a forecast of one horizon was added up from, as a linear model: by column, in scales."""

    weights: dict[str, float]
    intercept: float


class SeasonalNaive(Ahead):
    """The seasonal naive forecast: what was observed at the same time of the last season."""

    sees: ClassVar[Sees] = "series"

    def __init__(self) -> None:
        self.horizons = 0

    def begin(self, horizons: int, declared: int) -> None:
        self.horizons = horizons

    def predict_one(self, asked: Asked) -> list[float]:
        return list(asked.bases)

    def learn_one(self, taught: Taught, y: Any = None) -> None:
        """There is nothing to learn."""

    def sound(self, taught: Taught) -> bool:
        return True

    def parts(self) -> Iterator[Any]:
        yield from ()


class SeasonalRegression(Ahead):
    """A robust ridge regression for each horizon, mixed with simple forecasts.

    Args:
        l2: how strongly weights are held at 0, where the forecast is the seasonal naive one.
        huber: errors beyond this, in units of the series' scale, count in proportion to their size and not its square.
        half_life: observations after which one counts half; None: they count forever.
        mixed: whether the simple forecasts are mixed in.

    Attributes:
        errors: horizons x experts, mean error of each of late, in scales: naive, level, usual, regression.
        seen: how many observations each horizon has learned.

    Cost: for 24 horizons and 70 columns 1 MB of sums, and as much for what waits; an observation 0.25 ms.
    """

    sees: ClassVar[Sees] = "matrix"

    def __init__(
        self, l2: float = 20.0, huber: float = 0.7, half_life: float | None = None, mixed: bool = True
    ) -> None:
        if not (l2 > 0 and huber > 0):
            raise ValueError("l2 and huber must be above 0")
        if half_life is not None and not half_life >= 1:
            raise ValueError("half_life must be at least 1, or None")
        self.l2 = l2
        self.huber = huber
        self.half_life = half_life
        self.mixed = mixed
        self.begin(1, 0)

    def begin(self, horizons: int, declared: int) -> None:
        """Before the first observation.

        Args:
            declared: how many columns, the last ones, are features as the event has them.
        """
        self.horizons = horizons
        self.declared = declared
        self.seen: Floats = np.zeros(horizons)
        self.errors: Floats = np.zeros((horizons, 4))
        self._moments: Floats = np.zeros((3, declared))  # of declared columns: count, mean, sum of squared distances
        self._precision: Floats = np.zeros((horizons, 0, 0))
        self._moment: Floats = np.zeros((horizons, 0))
        self.weights: Floats = np.zeros((horizons, 0))
        self._rows: Floats = np.zeros((0, 0))  # what waits: columns, then horizon, target and weight
        self._waiting = 0  # observations

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for name in ("seen", "errors", "_moments", "_precision", "_moment", "weights", "_rows"):
            setattr(self, name, np.array(state[name]))  # arrays read from bytes cannot be written to

    def predict_one(self, asked: Asked) -> list[float] | None:
        if asked.matrix is None:
            return None
        matrix = self._scaled(asked.matrix)
        numbers = np.arange(len(matrix))
        forecasts = self._mixed(numbers, self._experts(numbers, matrix))
        bases = np.array(asked.bases)
        answer: list[float] = (bases + asked.scale * np.clip(forecasts, -FURTHEST, FURTHEST)).tolist()
        return answer

    def explained(self, number: int, names: Sequence[str], row: Floats) -> tuple[Weighed, dict[str, float]]:
        """What moves the forecast of a horizon, from 0, away from the seasonal naive one, and what it sees.

        Args:
            names: of the columns.
            row: of a matrix that was asked.
        """
        seen = self._scaled(row[None, :])[0]
        _, level, usual, regression = self._shares(np.array([number]))[0]
        learned = bool(self.weights.shape[1])
        weights = regression * self.weights[number] if learned else np.zeros(len(seen))
        weights[LEVEL] += level
        weights[USUAL] += usual
        columns = dict(zip(names, seen.tolist(), strict=True))
        constant = names.index(CONSTANT)
        del columns[CONSTANT]
        return Weighed(dict(zip(names, weights.tolist(), strict=True)), float(weights[constant])), columns

    def learn_one(self, taught: Taught, y: Any = None) -> None:
        if taught.batch is None:
            return
        numbers, targets = taught.batch.numbers, taught.batch.targets
        if not self.weights.shape[1]:
            self._grow(taught.batch.rows.shape[1])
        self._look(taught.batch.rows)
        matrix = self._scaled(taught.batch.rows)
        forecasts = self._experts(numbers, matrix)
        self._judge(numbers, np.minimum(abs(forecasts - targets[:, None]), _ERROR_MAX))
        off = abs(targets - forecasts[:, -1])
        counts = self.huber / np.maximum(off, self.huber)
        rows = np.column_stack([matrix, numbers, np.clip(targets, -FURTHEST, FURTHEST), counts])
        self._rows = rows if not len(self._rows) else np.concatenate([self._rows, rows])
        self._waiting += 1
        if self._waiting >= min(BATCH_MAX, 1 + int(_BATCH_SHARE * float(self.seen.max()))):
            self.solve()

    def _look(self, matrix: Floats) -> None:
        """Declared columns are scaled by their own mean and spread: those of the event that is the nearest."""
        if not self.declared:
            return
        count, mean, squares = self._moments
        row = matrix[0, -self.declared :]
        count += 1.0
        distance = row - mean
        mean += distance / count
        squares += distance * (row - mean)

    def _scaled(self, matrix: Floats) -> Floats:
        if not self.declared:
            return matrix
        count, mean, squares = self._moments
        spread = np.sqrt(squares / np.maximum(count, 1.0))
        raw = matrix[:, -self.declared :] - mean
        scaled = np.divide(raw, spread, out=np.zeros_like(raw), where=spread > 0)
        return np.concatenate([matrix[:, : -self.declared], np.clip(scaled, -_SPREAD_MAX, _SPREAD_MAX)], axis=1)

    def _experts(self, numbers: NDArray[np.intp], matrix: Floats) -> Floats:
        """What each expert forecasts, as distances from the seasonal naive forecast."""
        learned = bool(self.weights.shape[1])
        regression = (self.weights[numbers] * matrix).sum(axis=1) if learned else np.zeros(len(matrix))
        return np.stack([np.zeros(len(matrix)), matrix[:, LEVEL], matrix[:, USUAL], regression], axis=1)

    def _mixed(self, numbers: NDArray[np.intp], forecasts: Floats) -> Floats:
        mixed: Floats = (self._shares(numbers) * forecasts).sum(axis=1)
        return mixed

    def _shares(self, numbers: NDArray[np.intp]) -> Floats:
        """How much of a forecast is each expert's."""
        if not self.mixed:
            return np.tile([0.0, 0.0, 0.0, 1.0], (len(numbers), 1))
        errors = self.errors[numbers]
        heavy = np.minimum(self.seen[numbers], _CLEAR)[:, None]
        weights: Floats = np.exp(-heavy * (errors - errors.min(axis=1, keepdims=True)))
        shares: Floats = weights / weights.sum(axis=1, keepdims=True)
        return shares

    def _judge(self, numbers: NDArray[np.intp], off: Floats) -> None:
        self.seen[numbers] += 1.0
        share = 1.0 / np.minimum(self.seen[numbers], _PATIENCE)
        self.errors[numbers] += (off - self.errors[numbers]) * share[:, None]

    def _grow(self, width: int) -> None:
        self._precision = np.zeros((self.horizons, width, width))
        self._moment = np.zeros((self.horizons, width))
        self.weights = np.zeros((self.horizons, width))

    def solve(self) -> None:
        """What waits is added to the sums, and the weights are computed anew."""
        width = self.weights.shape[1]
        order = self._rows[:, width]
        if self.half_life is not None:
            fading = 0.5 ** (self._waiting / self.half_life)
            self._precision *= fading
            self._moment *= fading
        for number in np.unique(order).astype(int).tolist():
            rows = self._rows[order == number]
            seen, weighted = rows[:, :width], rows[:, :width] * rows[:, width + 2 :]
            self._precision[number] += weighted.T @ seen
            self._moment[number] += weighted.T @ rows[:, width + 1]
        ridge: Floats = self._precision + self.l2 * np.eye(width)
        solved: Floats = np.linalg.solve(ridge, self._moment[:, :, None]).astype(np.float64)
        self.weights = solved[:, :, 0]
        self._rows = np.zeros((0, 0))
        self._waiting = 0

    def sound(self, taught: Taught) -> bool:
        return bool(np.isfinite(self.weights).all() and np.isfinite(self.errors).all())

    def parts(self) -> Iterator[Any]:
        yield from ()


LEVEL, USUAL = 1, 4
"""Of the columns of `core.forecast.vector`, those that are simple forecasts themselves."""

CONSTANT: Final = "constant"
"""The name of the column that is always 1."""

FORECASTERS: Final[dict[str, type]] = {
    "seasonal.SeasonalNaive": SeasonalNaive,
    "seasonal.SeasonalRegression": SeasonalRegression,
}
"""What an expression can name besides River's classes."""
