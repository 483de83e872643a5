"""What people find who look into so many events a day: those with the day's highest scores.

A team that can look into a hundred payments a day is not helped by a threshold: it takes the hundred worst, on quiet
and on busy days alike. Counted over the days of the events' own times, in UTC or in `decision.zone`, among labelled
events.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from driftline.core.pipeline import Pipeline
    from driftline.core.task.cost import Cost
    from driftline.core.task.measure import Floats, Truths

DAY_MS = 86_400_000
DAYS_MAX = 4_000  # later days are not counted


def budget_of(pipelines: Sequence[Pipeline]) -> int:
    """Alarms a day of those that decide under a budget; 0 where none does."""
    decisions = [one.decision for one in pipelines if one.decision is not None]
    return max((one.budget or 0 for one in decisions if one.per_ms == DAY_MS), default=0)


class Decided(Struct, frozen=True):
    """What the candidate's own decisions were on those days, each made when its event came.

    Args:
        alarms: over all days; `tp` of them right; `most` on one day.
        precision, recall: None where undefined.
        cost_per_day: under the given costs; None without.
    """

    alarms: int
    tp: int
    most: int
    precision: float | None
    recall: float | None
    cost_per_day: float | None


class DailyReport(Struct, frozen=True):
    """What a number of alarms a day would have found.

    Args:
        per_day: alarms a day, at most.
        days: that had labelled events with a score.
        alarms: over all days; `tp` of them right.
        positives: that there were.
        precision, recall: None where undefined.
        cost_per_day: under the given costs; None without.
        decided: beside what would have been best in hindsight.
    """

    per_day: int
    days: int
    alarms: int
    tp: int
    positives: int
    precision: float | None
    recall: float | None
    cost_per_day: float | None
    decided: Decided


class Daily:
    """The highest scores of each day, and what was decided.

    Args:
        zone_ms: how much before those of UTC its days begin.

    Memory: at most `per_day` scores for each of `DAYS_MAX` days.
    """

    def __init__(self, per_day: int, zone_ms: int = 0) -> None:
        self.per_day, self._zone_ms = per_day, zone_ms
        self._days: dict[int, list[tuple[float, int, bool]]] = {}  # heaps: the lowest score first, of equals the latest
        self._decided: dict[int, list[int]] = {}  # by day, alarms and those that were right
        self._events = 0
        self._positives = 0

    def add(self, times_ms: Sequence[int], scores: Floats, positive: Truths, decided: Truths) -> None:
        """Take in labelled events, NaN where one has no score.

        Args:
            decided: which were decided as positive.
        """
        rows = zip(times_ms, scores.tolist(), positive.tolist(), decided.tolist(), strict=True)
        for time_ms, score, yes, alarm in rows:
            day = (int(time_ms) + self._zone_ms) // DAY_MS
            if score == score:
                self._put(day, (score, -int(time_ms), bool(yes)))
                self._events += 1
                self._positives += bool(yes)
                if alarm and day in self._days:
                    self._count(day, 1, bool(yes))

    def _count(self, day: int, alarms: int, right: int) -> None:
        found = self._decided.setdefault(day, [0, 0])
        found[0] += alarms
        found[1] += right

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
        for day, (alarms, right) in other._decided.items():
            self._count(day, alarms, right)
        self._events += other._events
        self._positives += other._positives

    def report(self, cost: Cost | None) -> DailyReport:
        """What was found."""
        alarms = sum(map(len, self._days.values()))
        tp = sum(yes for heap in self._days.values() for _, _, yes in heap)
        raised, right = (sum(one[place] for one in self._decided.values()) for place in (0, 1))
        most = max((one[0] for one in self._decided.values()), default=0)
        decided = Decided(raised, right, most, *self._rates(raised, right, cost))
        days = len(self._days)
        return DailyReport(self.per_day, days, alarms, tp, self._positives, *self._rates(alarms, tp, cost), decided)

    def _rates(self, alarms: int, tp: int, cost: Cost | None) -> tuple[float | None, float | None, float | None]:
        """Precision, recall and cost a day of so many alarms."""
        price = None
        if cost is not None and self._days:
            counts = (tp, alarms - tp, self._positives - tp, self._events - self._positives - alarms + tp)
            costs = (cost.tp, cost.fp, cost.fn, cost.tn)
            price = sum(count * one for count, one in zip(counts, costs, strict=True)) / len(self._days)
        return tp / alarms if alarms else None, tp / self._positives if self._positives else None, price
