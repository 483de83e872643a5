"""Which segment's errors moved most: a drift of the whole is seldom one of all stores, countries or products alike.

The errors of the latest labels are kept with their segment (`metric_by.segment`), in order. A detector says how many
labels ago its signal changed; the means of each segment on both sides of that place say which one moved.
"""

from __future__ import annotations

from collections import deque
from math import sqrt

from msgspec import Struct

LABELS_MAX = 4_000
LEAST = 20  # labels of a segment on each side, for its means to say something
MORE = 1.5  # times the move of the whole, for a segment to be worth naming


class Culprit(Struct, frozen=True, gc=False):
    """The segment that moved most.

    Args:
        before, after: its mean error on both sides of the change.
        count: its labels after it.
    """

    segment: str
    before: float
    after: float
    count: int


class Errors:
    """The errors of the latest labels, by segment."""

    def __init__(self) -> None:
        self.latest: deque[tuple[str, float]] = deque(maxlen=LABELS_MAX)

    def add(self, segment: str, error: float) -> None:
        self.latest.append((segment, error))

    def culprit(self, count: int) -> Culprit | None:
        """The segment whose mean error rose most, in units of its own noise; None where all moved alike.

        Args:
            count: how many labels ago the change was.
        """
        parts: tuple[dict[str, list[float]], dict[str, list[float]]] = ({}, {})
        edge = len(self.latest) - count
        for place, (segment, error) in enumerate(self.latest):
            sums = parts[place >= edge].setdefault(segment, [0.0, 0.0])
            sums[0] += 1
            sums[1] += error
        early, late = ({name: (int(n), total / n) for name, (n, total) in part.items()} for part in parts)
        if len({*early, *late}) < 2 or not early or not late:
            return None
        whole = _mean(late) - _mean(early)
        best, found = 0.0, None
        for name, (after_count, after) in late.items():
            before_count, before = early.get(name, (0, 0.0))
            if min(before_count, after_count) < LEAST or after - before < MORE * whole:
                continue
            weight = (after - before) * sqrt(after_count * before_count / (after_count + before_count))
            if weight > best:
                best, found = weight, Culprit(name, before, after, after_count)
        return found


def _mean(part: dict[str, tuple[int, float]]) -> float:
    return sum(count * mean for count, mean in part.values()) / sum(count for count, _ in part.values())
