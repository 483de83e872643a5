"""What people find who look into so many events a day: those with the day's highest scores.

A team that can look into a hundred payments a day is not helped by a threshold: it takes the hundred worst, on quiet
and on busy days alike. Counted over the days of the events' own times, in UTC, among labelled events.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from driftline.core.task.cost import Cost
    from driftline.core.task.measure import Floats, Truths

DAY_MS = 86_400_000
DAYS_MAX = 4_000  # later days are not counted


class DailyReport(Struct, frozen=True):
    """What a number of alarms a day would have found.

    Args:
        per_day: alarms a day, at most.
        days: that had labelled events with a score.
        alarms: over all days; `tp` of them right.
        positives: that there were.
        precision, recall: None where undefined.
        cost_per_day: under the given costs; None without.
    """

    per_day: int
    days: int
    alarms: int
    tp: int
    positives: int
    precision: float | None
    recall: float | None
    cost_per_day: float | None


class Daily:
    """The highest scores of each day.

    Memory: at most `per_day` scores for each of `DAYS_MAX` days.
    """

    def __init__(self, per_day: int) -> None:
        self.per_day = per_day
        self._days: dict[int, list[tuple[float, int, bool]]] = {}  # heaps: the lowest score first, of equals the latest
        self._events = 0
        self._positives = 0

    def add(self, times_ms: Sequence[int], scores: Floats, positive: Truths) -> None:
        """Take in labelled events, NaN where one has no score."""
        for time_ms, score, yes in zip(times_ms, scores.tolist(), positive.tolist(), strict=True):
            if score == score:
                self._put(int(time_ms) // DAY_MS, (score, -int(time_ms), bool(yes)))
                self._events += 1
                self._positives += bool(yes)

    def _put(self, day: int, one: tuple[float, int, bool]) -> None:
        heap = self._days.get(day)
        if heap is None:
            if len(self._days) >= DAYS_MAX:
                return
            heap = self._days[day] = []
        if len(heap) < self.per_day:
            heapq.heappush(heap, one)
        elif one > heap[0]:
            heapq.heapreplace(heap, one)

    def merge(self, other: Daily) -> None:
        """Add another partition's."""
        for day, heap in other._days.items():
            for one in heap:
                self._put(day, one)
        self._events += other._events
        self._positives += other._positives

    def report(self, cost: Cost | None) -> DailyReport:
        """What was found."""
        alarms = sum(map(len, self._days.values()))
        tp = sum(yes for heap in self._days.values() for _, _, yes in heap)
        price = None
        if cost is not None and self._days:
            counts = (tp, alarms - tp, self._positives - tp, self._events - self._positives - alarms + tp)
            costs = (cost.tp, cost.fp, cost.fn, cost.tn)
            price = sum(count * one for count, one in zip(counts, costs, strict=True)) / len(self._days)
        return DailyReport(
            self.per_day,
            len(self._days),
            alarms,
            tp,
            self._positives,
            tp / alarms if alarms else None,
            tp / self._positives if self._positives else None,
            price,
        )
