"""Some series of a backtest as a person would draw them: what was observed, and what had been forecast of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from msgspec import Struct

from driftline.core.output import Judged, Outcome
from driftline.core.record import LabelValue

SERIES_MAX = 3
POINTS_MAX = 400  # the last ones


class Point(Struct, frozen=True):
    """One observation, and what was forecast of it the shortest and the longest time before.

    Args:
        near, far: forecasts; None where there was none.
        lower, upper: the interval of the near one.
    """

    time_ms: int
    truth: float
    near: float | None
    lower: float | None
    upper: float | None
    far: float | None


class Trace(Struct, frozen=True):
    """One series: its name, and its last observations."""

    series: str
    points: list[Point]


class Traces:
    """The last observations of the first series that come.

    Args:
        horizons: how many a forecast has.
    """

    def __init__(self, horizons: int) -> None:
        self._horizons = horizons
        self._kept: dict[str, deque[Point]] = {}

    def add(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            judged, label = outcome.judged, outcome.label
            if judged is None or label is None:
                continue
            name = " / ".join(map(str, judged.series))
            points = self._kept.get(name)
            if points is None:
                if len(self._kept) >= SERIES_MAX:
                    continue
                points = self._kept[name] = deque(maxlen=POINTS_MAX)
            points.append(_point(judged, label, self._horizons))

    def merge(self, other: Traces) -> None:
        """Add another shard's."""
        for name, points in other._kept.items():
            if name in self._kept or len(self._kept) < SERIES_MAX:
                self._kept[name] = deque(sorted([*self._kept.get(name, ()), *points], key=_time), POINTS_MAX)

    def listed(self) -> list[Trace]:
        return [Trace(name, sorted(points, key=_time)) for name, points in self._kept.items()]


def _time(point: Point) -> int:
    return point.time_ms


def _point(judged: Judged, label: LabelValue, horizons: int) -> Point:
    near = judged.horizons[0] == 1
    far = judged.horizons[-1] == horizons and horizons > 1
    return Point(
        judged.time_ms,
        float(label),
        judged.values[0] if near else None,
        judged.lower[0] if near else None,
        judged.upper[0] if near else None,
        judged.values[-1] if far else None,
    )
