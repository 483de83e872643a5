"""Metrics of the forecasts that were judged, by horizon."""

from __future__ import annotations

from typing import Any

import numpy as np

from driftline.core.task.ahead import SUMS, metrics_of
from driftline.core.task.measure import Floats


class Board:
    """Sums by horizon.

    Attributes:
        sums: horizons x `SUMS`.
    """

    def __init__(self, horizons: int) -> None:
        self.sums: Floats = np.zeros((horizons, len(SUMS)))

    def add(self, horizons: tuple[int, ...], added: Floats) -> None:
        """What `core.task.ahead.added` gives of an observation."""
        if not horizons:
            return
        count = len(horizons)
        with np.errstate(over="ignore"):  # of a forecast near the largest number there is
            if horizons == tuple(range(1, count + 1)):
                self.sums[:count] += added
            else:
                self.sums[np.array(horizons) - 1] += added

    def values(self) -> dict[str, Any]:
        """Each metric over all horizons, and by horizon; None where undefined."""
        total, each = metrics_of(self.sums.sum(axis=0)), metrics_of(self.sums)
        return {
            "judged": int(self.sums[:, 0].sum()),
            "metrics": {name: _defined(float(value)) for name, value in total.items()},
            "by_horizon": {
                name: [_defined(value) for value in by_horizon.tolist()] for name, by_horizon in each.items()
            },
        }


def _defined(value: float) -> float | None:
    return value if np.isfinite(value) else None
