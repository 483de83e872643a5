"""Metrics of parts: stretches of time, segments, ages of labels, horizons."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from driftline.backtest.compare import finite
from driftline.backtest.measure import values_of
from driftline.backtest.tally import Cells, Tally
from driftline.core.task.cost import Cost

POINTS_MAX = 64
POINT_EVENTS = 60  # a point of a line over time has so many labelled events on average, or more
FEW = 30  # labelled events below which a part's metrics are left out


class Part(Struct, frozen=True):
    """Metrics of one part: a block of time, a segment, a class of label delay.

    Args:
        start_ms: start of a block of time.
        values: each metric; None if undefined, or if the part has fewer than `FEW` events.
    """

    name: str
    n: int
    values: dict[str, float | None]
    start_ms: int | None = None


def parts_of(
    tally: Tally, names: Sequence[str], cells: Cells, cost: Cost | None, starts_ms: Sequence[int] | None = None
) -> list[Part]:
    """The cells with at least one event."""
    values = values_of(tally.measure, cells.sums, cells.curve if cells.curve.shape[2] else None, cost)
    made = []
    for number, name in enumerate(names):
        n = int(cells.sums[number, 0])
        if n:
            enough = cells.sums[number, 1] >= FEW  # answered
            summary = {metric: finite(float(array[number])) if enough else None for metric, array in values.items()}
            made.append(Part(name, n, summary, starts_ms[number] if starts_ms is not None else None))
    return made


def over_time(tally: Tally, cost: Cost | None) -> list[Part]:
    line = tally.timeline
    starts_ms = line.starts_ms
    points = min(POINTS_MAX, max(1, int(tally.total.sums[0, 0]) // POINT_EVENTS))
    together = max(1, -(-len(starts_ms) // points))
    cells = Cells(-(-len(starts_ms) // together), line.cells.sums.shape[1], line.cells.curve.shape[2])
    for number in range(len(starts_ms)):
        cells.sums[number // together] += line.cells.sums[number]
        cells.curve[number // together] += line.cells.curve[number]
    starts_ms = starts_ms[::together]
    return parts_of(tally, [""] * len(starts_ms), cells, cost, starts_ms)


def segments_of(tally: Tally, cost: Cost | None) -> list[Part]:
    """Metrics by the values of the tally's feature, the commonest first; numbers in their order."""
    if tally.segments is None:
        return []
    parts = parts_of(tally, *tally.segments.parts(), cost)
    return parts if tally.segments.cut else sorted(parts, key=lambda part: -part.n)


def horizons_of(tally: Tally, cost: Cost | None) -> list[Part]:
    cells = tally.horizons
    return [] if cells is None else parts_of(tally, [str(1 + number) for number in range(len(cells.sums))], cells, cost)
