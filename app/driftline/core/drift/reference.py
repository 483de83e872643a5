"""Values as ranks in a frozen reference window.

Detectors bound the mean of values in [0, 1]; on raw amounts they fire without a cause (stationary lognormal
values made ADWIN fire 13 to 19 times in 100,000). The share of reference values that lie below a value is in
[0, 1], does not mind units, skew or outliers, and averages one half as long as nothing changes.

What follows the time of day, week or year is compared with values of the same time (`Season`): a period is cut into
slots, each with a window of its own.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence


class Reference:
    """The window that values are ranked in: collected first, then frozen for good.

    Args:
        size: how many values form it, 1 or more.

    Invariant: once frozen, equal values have equal ranks, and greater values never have lower ones.
    Cost: 0.3 us a rank with 2,000 values.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.collected: deque[float] | None = deque(maxlen=size)
        self.ordered: list[float] = []

    @property
    def frozen(self) -> bool:
        return self.collected is None

    def collect(self, value: float, *, settled: bool) -> None:
        """Take a value in while the window is not frozen; it freezes once it is full and settled.

        Args:
            settled: whether what makes the values has come to rest (a model's errors do so after its
            warm-up);
                until then the window slides, so that it holds the latest `size` values when it freezes.
        """
        collected = self.collected
        if collected is None:
            return
        collected.append(value)
        if settled and len(collected) == self.size:
            self.ordered = sorted(collected)
            self.collected = None

    def rank(self, value: float) -> float:
        """Mid-rank of a value: the share of reference values below it plus half the share equal to it.

        Returns:
            Between 0 and 1; in tied references too, 1/2 on average over the reference itself.
        """
        ordered = self.ordered
        low = bisect_left(ordered, value)
        if low < len(ordered) and ordered[low] == value:
            return (low + bisect_right(ordered, value, low)) / (2 * self.size)
        return low / self.size


SLOTS = 24  # of a period: hours of a day, fifteen days of a year
PERIODS_MIN = 2  # whole ones, before a season is known
SLOT_MIN = 10  # fewest values that a slot can rank in


class Season:
    """A reference window for each slot of a period.

    Args:
        period_ms: in event time, 1 or more.
        size: how many values form all windows together, at least `SLOT_MIN` for each slot; the season is known
            once there were as many, over `PERIODS_MIN` whole periods.

    Invariant: at most `size` values are kept, or 2 `SLOT_MIN` a slot; they are spread evenly over the time before
        the season is known: where there are too many, every second one is let go.
    Cost: as `Reference`, and 0.2 us for the slot.
    """

    def __init__(self, period_ms: int, size: int) -> None:
        self.period_ms = period_ms
        self.size = max(size, SLOTS * SLOT_MIN)
        self.slot_max = max(2 * SLOT_MIN, size // SLOTS)
        self.frozen = False
        self.passed = 0  # values of slots that had too few
        self._seen = 0
        self._periods = -1  # how often a later one began; the first is seldom whole
        self._latest: int | None = None
        self._values: list[list[float]] = [[] for _ in range(SLOTS)]
        self._strides = [1] * SLOTS
        self._counts = [0] * SLOTS

    @property
    def window(self) -> Sequence[Sequence[float]]:
        """The values that others are compared with, by slot."""
        return self._values

    def rank(self, value: float, time_ms: int) -> float | None:
        """Rank a value among those of its slot.

        Returns:
            Between 0 and 1; None as long as the season is not known, and where the slot has too few values.
        """
        period, phase = divmod(time_ms, self.period_ms)
        slot = phase * SLOTS // self.period_ms
        if not self.frozen:
            self._collect(value, slot, period)
            return None
        ordered = self._values[slot]
        if len(ordered) < SLOT_MIN:
            self.passed += 1
            return None
        return (bisect_left(ordered, value) + bisect_right(ordered, value)) / (2 * len(ordered))

    def _collect(self, value: float, slot: int, period: int) -> None:
        if self._latest is None or period > self._latest:
            self._latest = period
            self._periods += 1
        if self._periods > PERIODS_MIN and self._seen >= self.size:
            self.frozen = True
            for values in self._values:
                values.sort()
            return
        self._seen += 1
        values = self._values[slot]
        if self._counts[slot] % self._strides[slot] == 0:
            values.append(value)
            if len(values) > self.slot_max:
                del values[1::2]
                self._strides[slot] *= 2
        self._counts[slot] += 1
