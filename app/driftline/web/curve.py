"""The past of one shard, thinned to a bounded number of points, and what is marked on it.

A point is what one note in the journal says. When there are too many, every second one of the older half goes: the
curve keeps its whole span, and is finest where it is newest.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from driftline.web.record import NAME_MAX, NAMES_MAX, PARTS, Note, Sum, cut

POINTS_MAX = 6_000  # of all shards
POINTS_MIN = 200  # of a shard, however many there are
EACH_MAX = 2_000  # of a shard, however few
LABELS_MIN = 20  # before a metric is drawn
MARKS_MAX = 300  # of the whole pipeline


class Point(Struct, frozen=True, gc=False):
    """One moment of one shard.

    Args:
        time_ms: event time (the watermark).
        wall_ms: when the note was written.
        window, total: values by metric.
        more: other series by name: `PART NAME` of each KPI, and those of `_LOAD`.
    """

    shard: int
    time_ms: int
    wall_ms: int
    window: dict[str, float | None]
    total: dict[str, float | None]
    more: dict[str, float | None] = {}


class Mark(Struct, frozen=True, gc=False):
    """Something that happened: on the curve, and in the list of what happened.

    Args:
        kind: `alert`, `resolved`, `drift`, `better`, `model`, `guard`, `command`, `worker` or `kafka`.
        time_ms: event time; None where it has none.
        wall_ms: when it was written or noticed.
        from_ms: it happened between this and `time_ms`, and nothing shows when; None where `time_ms` is exact.
    """

    kind: str
    text: str
    wall_ms: int
    time_ms: int | None = None
    shard: int | None = None
    severity: str = ""
    episode: str = ""
    count: int = 1
    from_ms: int | None = None


class Curve:
    """The points of one shard, in order of event time.

    Args:
        most: points that are kept.
    """

    def __init__(self, most: int) -> None:
        self.points: list[Point] = []
        self._most = min(most, EACH_MAX)

    def add(self, point: Point) -> bool:
        """Take the next one; whether it is one: time must go on, or the numbers change."""
        last = self.points[-1] if self.points else None
        if last is not None and point.time_ms <= last.time_ms:
            if point.time_ms < last.time_ms or _values_of(point) == _values_of(last):
                return False
            measured = point.window or point.total
            self.points[-1] = point if measured else replace(point, window=last.window, total=last.total)
            return True
        self.points.append(point)
        if len(self.points) > self._most:
            half = len(self.points) // 2
            self.points = self.points[:half:2] + self.points[half:]
        return True

    def wall_of(self, time_ms: int | None, otherwise: int) -> int:
        """When records of an event time were processed, as near as the points lie."""
        if time_ms is None:
            return otherwise
        at = bisect_left(self.points, time_ms, key=lambda point: point.time_ms)
        return self.points[at].wall_ms if at < len(self.points) else otherwise


def point_of(shard: int, wall_ms: int, note: Note, before: Note | None = None) -> Point | None:
    """The point that a note makes; None while there is no time yet.

    A metric has a value where it was measured anew: with no label since the note before, its curve ends at the last
    one instead of going on flat, as if all were known. So few labels as at the beginning say nothing of it either.
    """
    if note.watermark_ms is None or abs(note.watermark_ms) > 2**53:
        return None
    labels = _measured(note)[1].get("label_count")
    if (labels is not None and labels < LABELS_MIN) or (before is not None and _measured(before) == _measured(note)):
        return Point(shard, note.watermark_ms, wall_ms, {}, {}, _more(note))
    window, total = map(_values, _measured(note))
    return Point(shard, note.watermark_ms, wall_ms, window, total, _more(note))


def _measured(note: Note) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """The metrics over the last labels, and over all of them."""
    return note.window_metrics, note.metrics or (note.forecast.metrics if note.forecast is not None else {})


def _more(note: Note) -> dict[str, float | None]:
    """What else has a curve: each KPI in total, labels, and how full the shard is."""
    more: dict[str, float | None] = {
        "coverage": note.coverage,
        "delay": note.label_delay_ms.get("0.5"),
        "waiting": note.pending,
        "full": note.full,
    }
    for name, kpi in list(note.kpi.items())[:NAMES_MAX]:
        for part in PARTS:
            one: Sum = getattr(kpi.total, part)
            if one.events:
                more[f"{part} {cut(name, NAME_MAX)}"] = one.total
    return more


def _values_of(point: Point) -> tuple[dict[str, float | None], ...]:
    return point.window, point.total, point.more


def _values(metrics: dict[str, float | None]) -> dict[str, float | None]:
    return {cut(name, NAME_MAX): value for name, value in list(metrics.items())[:NAMES_MAX] if name != "label_count"}


def _names(points: Sequence[Iterable[str]]) -> list[str]:
    """The names of the series, in the order in which they were met; of too many those of the latest points."""
    latest = list(dict.fromkeys(name for names in reversed(points) for name in names))
    kept = set(latest[:NAMES_MAX])
    return list(dict.fromkeys(name for names in points for name in names if name in kept))


def rows_of(points: Iterable[Point]) -> dict[str, Any]:
    """Points as the page gets them: the series' names once, and for each point shard, times and values by name.

    A pipeline's series are few and the same at every point. Whoever else writes points may name others at each: of all
    names the latest `NAMES_MAX` are kept.
    """
    points = list(points)
    names = _names([(*point.window, *point.total) for point in points])
    more = _names([tuple(point.more) for point in points])
    return {
        "names": names,
        "more": more,
        "rows": [
            [
                point.shard,
                point.time_ms,
                point.wall_ms,
                [_rounded(point.window.get(name)) for name in names],
                [_rounded(point.total.get(name)) for name in names],
                [_rounded(point.more.get(name)) for name in more],
            ]
            for point in points
        ],
    }


def _rounded(value: float | None) -> float | None:
    """Six digits are more than a curve shows."""
    return None if value is None else float(f"{value:.6g}")
