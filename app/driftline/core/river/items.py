"""Models of the reward of many items: one small model an item, all over the features of the request.

`LinearItems` is disjoint Bayesian linear regression, the model under LinUCB and linear Thompson sampling; `Popularity`
is the same without features. River's `bandit.LinUCBDisjoint` keeps a `BayesianLinearRegression` per arm: one dict and
one matrix inversion an arm and request, arms that are never let go, a past that never fades, and a random state that
depends on the order of pulls. Here all items of a request are estimated at once, the past fades by half every
`half_life` requests, and the least recently learned items make room.

Source: L. Li et al., A contextual-bandit approach to personalized news article recommendation (2010), algorithm 1.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from river import base

from driftline.core.compact import compacted

Floats = NDArray[np.float64]

REFRESH: Final = 100  # requests between two fadings; inverses are recomputed then
_ROWS, _COLUMNS = 16, 8  # that arrays begin with
_NOISE, _NOISE_WEIGHT = 0.25, 10.0  # variance of a reward before any was seen, and how many rewards that counts


class Items(base.Estimator):
    """A model of the reward of each item, given the features of a request."""

    @abstractmethod
    def estimate(self, x: Mapping[str, Any], items: Sequence[str]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of each item's expected reward."""

    @abstractmethod
    def learn_many(self, x: Mapping[str, Any], rewards: Mapping[str, float]) -> None:
        """Learn what one request earned, by item."""


def _check(half_life: float | None, l2: float, items_max: int) -> None:
    if half_life is not None and not half_life > 0:
        raise ValueError("half_life must be above 0, or None")
    if not l2 > 0:
        raise ValueError("l2 must be above 0")
    if items_max < 1:
        raise ValueError("items_max must be at least 1")


class LinearItems(Items):
    """One Bayesian linear regression an item.

    The prior of an item's constant is the mean of all rewards, of other weights 0: an item without rewards is expected
    to earn what items do. Numbers and truth values are taken as they are (scale numbers first); a string makes a column
    of its own, 0 or 1.

    Args:
        l2: precision of the prior on every weight.
        half_life: learned requests after which one counts half; None: they count forever.
        items_max: most items; the one that was learned longest ago is let go. See `evicted`.
        columns_max: most columns, the constant included; what would be a further one is ignored. See `ignored`.

    Attributes:
        evicted, ignored: how many items were let go, and values ignored.

    Cost: memory items x columns^2 x 16 bytes; estimating 30 items of 8 columns 30 us, learning 3 of them 60 us.
    """

    def __init__(
        self, l2: float = 1.0, half_life: float | None = 10_000, items_max: int = 1_000, columns_max: int = 32
    ) -> None:
        _check(half_life, l2, items_max)
        if not 1 <= columns_max <= 256:
            raise ValueError("columns_max must be 1 to 256")
        self.l2 = l2
        self.half_life = half_life
        self.items_max = items_max
        self.columns_max = columns_max
        self.evicted = self.ignored = 0
        self._columns: dict[str, int] = {"": 0}
        self._rows: dict[str, int] = {}  # the item that was learned longest ago first
        self._free: list[int] = []
        self._requests = 0
        self._mean, self._weight = 0.0, 0.0  # of all rewards
        self._noise = _NOISE * _NOISE_WEIGHT, _NOISE_WEIGHT  # squared residuals, and how many
        width = min(_COLUMNS, columns_max)
        self._precision: Floats = np.zeros((0, width, width))
        self._inverse: Floats = np.zeros((0, width, width))
        self._moment: Floats = np.zeros((0, width))
        self._weights: Floats = np.zeros((0, width))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for name in ("_precision", "_inverse", "_moment", "_weights"):
            setattr(self, name, np.array(state[name]))  # arrays read from bytes cannot be written to

    @property
    def noise(self) -> float:
        """Variance of a reward around its estimate."""
        squares, count = self._noise
        return squares / count

    def estimate(self, x: Mapping[str, Any], items: Sequence[str]) -> tuple[Floats, Floats]:
        vector = self._vector(x, grow=False)
        rows = np.array([self._rows.get(item, -1) for item in items], dtype=np.intp)
        known = rows >= 0
        means = np.full(len(items), self._mean)
        spread = np.full(len(items), float(vector @ vector) / self.l2)
        if known.any():
            places = rows[known]
            means[known] *= self.l2 * (self._inverse[places, 0] @ vector)
            means[known] += self._weights[places] @ vector
            spread[known] = np.einsum("i,nij,j->n", vector, self._inverse[places], vector)
        return means, np.sqrt(np.maximum(spread, 0.0) * self.noise)

    def learn_many(self, x: Mapping[str, Any], rewards: Mapping[str, float]) -> None:
        vector = self._vector(x, grow=True)
        for item, reward in rewards.items():
            self._weight += 1.0
            self._mean += (reward - self._mean) / self._weight
            self._learn(self._row(item), vector, reward)
        self._requests += 1
        if self._requests % REFRESH == 0:
            self._refresh()

    def _learn(self, row: int, vector: Floats, reward: float) -> None:
        """One step of recursive least squares."""
        inverse, weights = self._inverse[row], self._weights[row]
        gain = inverse @ vector
        scale = 1.0 + float(vector @ gain)
        off = reward - float(weights @ vector)
        residual = off - self._mean * self.l2 * float(gain[0])
        self._precision[row] += np.outer(vector, vector)
        self._moment[row] += reward * vector
        inverse -= np.outer(gain, gain) / scale
        weights += gain * (off / scale)
        squares, count = self._noise
        self._noise = squares + residual * residual / scale, count + 1.0

    def _refresh(self) -> None:
        """Let the past fade towards the prior, and the rounding errors of the inverses go."""
        kept = 1.0 if self.half_life is None else 0.5 ** (REFRESH / self.half_life)
        self._weight *= kept
        squares, count = self._noise
        self._noise = (
            squares * kept + _NOISE * _NOISE_WEIGHT * (1 - kept),
            count * kept + _NOISE_WEIGHT * (1 - kept),
        )
        if not len(self._precision):
            return
        self._precision *= kept
        width = self._precision.shape[1]
        self._precision[:, range(width), range(width)] += (1.0 - kept) * self.l2
        self._moment *= kept
        self._inverse = np.asarray(np.linalg.inv(self._precision), dtype=np.float64)
        self._weights = np.einsum("nij,nj->ni", self._inverse, self._moment)

    def _row(self, item: str) -> int:
        row = self._rows.pop(item, None)
        if row is None:
            if len(self._rows) >= self.items_max:
                self._free.append(self._rows.pop(next(iter(self._rows))))
                self.evicted += 1
                self._rows = compacted(self._rows, self.evicted, self.items_max)
            row = self._free.pop() if self._free else len(self._rows)
            if row >= len(self._precision):
                self._reserve(min(max(2 * row, _ROWS), self.items_max), self._precision.shape[1])
            self._begin(row)
        self._rows[item] = row
        return row

    def _begin(self, row: int) -> None:
        width = self._precision.shape[1]
        self._precision[row] = np.eye(width) * self.l2
        self._inverse[row] = np.eye(width) / self.l2
        self._moment[row] = 0.0
        self._weights[row] = 0.0

    def _reserve(self, rows: int, width: int) -> None:
        """Make room; a new column begins at its prior."""
        old_rows, old_width = self._moment.shape
        for name, diagonal in (("_precision", self.l2), ("_inverse", 1.0 / self.l2)):
            made = np.zeros((rows, width, width))
            made[:, range(width), range(width)] = diagonal
            made[:old_rows, :old_width, :old_width] = getattr(self, name)
            setattr(self, name, made)
        for name in ("_moment", "_weights"):
            wide = np.zeros((rows, width))
            wide[:old_rows, :old_width] = getattr(self, name)
            setattr(self, name, wide)

    def _vector(self, x: Mapping[str, Any], *, grow: bool) -> Floats:
        places: list[tuple[int, float]] = []
        columns = self._columns
        for feature, given in x.items():
            name, value = (f"{feature}={given}", 1.0) if isinstance(given, str) else (feature, given)
            place = columns.get(name)
            if place is None:
                if not grow:
                    continue
                if len(columns) >= self.columns_max:
                    self.ignored += 1
                    continue
                place = columns[name] = len(columns)
            places.append((place, float(value)))
        if len(columns) > self._moment.shape[1]:
            width = min(max(2 * self._moment.shape[1], len(columns)), self.columns_max)
            self._reserve(len(self._moment), width)
        vector = np.zeros(self._moment.shape[1])
        vector[0] = 1.0
        for place, value in places:
            vector[place] = value
        return vector


class Popularity(Items):
    """The mean reward of each item, whatever the request.

    Args:
        prior: rewards that the mean of all items counts for at each.
        half_life, items_max: as of `LinearItems`.

    Attributes:
        evicted: how many items were let go.
    """

    def __init__(self, prior: float = 10.0, half_life: float | None = 10_000, items_max: int = 1_000) -> None:
        _check(half_life, prior, items_max)
        self.prior = prior
        self.half_life = half_life
        self.items_max = items_max
        self.evicted = 0
        self._seen: dict[str, tuple[float, float]] = {}  # rewards and their sum; the one learned longest ago first
        self._requests = 0
        self._all = (0.0, 0.0, 0.0)  # rewards, their sum, the sum of their squares

    def estimate(self, x: Mapping[str, Any], items: Sequence[str]) -> tuple[Floats, Floats]:
        count, total, squares = self._all
        mean = total / count if count else 0.0
        variance = (
            max(squares - total * mean, 0.0) + _NOISE * _NOISE_WEIGHT
        ) / (count + _NOISE_WEIGHT)  # fmt: skip
        seen = np.array([self._seen.get(item, (0.0, 0.0)) for item in items]).reshape(len(items), 2)
        weight = seen[:, 0] + self.prior
        return (seen[:, 1] + self.prior * mean) / weight, np.sqrt(variance / weight)

    def learn_many(self, x: Mapping[str, Any], rewards: Mapping[str, float]) -> None:
        count, total, squares = self._all
        for item, reward in rewards.items():
            number, earned = self._seen.pop(item, (0.0, 0.0))
            if not number and len(self._seen) >= self.items_max:
                del self._seen[next(iter(self._seen))]
                self.evicted += 1
                self._seen = compacted(self._seen, self.evicted, self.items_max)
            self._seen[item] = (number + 1.0, earned + reward)
            count, total, squares = count + 1.0, total + reward, squares + reward * reward
        self._requests += 1
        kept = 1.0
        if self.half_life is not None and self._requests % REFRESH == 0:
            kept = 0.5 ** (REFRESH / self.half_life)
            self._seen = {item: (number * kept, earned * kept) for item, (number, earned) in self._seen.items()}
        self._all = (count * kept, total * kept, squares * kept)


ITEM_MODELS: Final[dict[str, type]] = {"items.LinearItems": LinearItems, "items.Popularity": Popularity}
"""Models of items by the names that expressions use."""
