"""Which candidate is better, by how much, and how sure that is.

Both candidates saw the same events, so their results are compared pair by pair: a hard week is hard for both. Results
that are near in time depend on each other (a drift lasts, a model remembers), so it is not events that are drawn
again, but runs of neighbouring stretches of time: the circular block bootstrap, the same draw for both candidates.
Each draw gives every metric of both, curves included, and their difference; the interval holds their middle.
With several rivals each interval is widened (Bonferroni), so that the chance that any of them misleads stays one in
twenty.

What it does not know: it takes the future to be like the stretches seen, drawn in another order.

Source: D. N. Politis and J. P. Romano, A circular block-resampling procedure for stationary data (1992).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

import numpy as np
from msgspec import Struct

from driftline.backtest.measure import CURVES, Metric, is_exact, metrics_of, total_values, values_of
from driftline.backtest.tally import Ints, Tally
from driftline.core.task.cost import Cost
from driftline.core.task.measure import Floats

DRAWS = 2_000
DRAWN_TOGETHER = 100
BLOCKS_MIN = 16
BLOCKS_MAX = 128
MISS = 0.05
ANSWERED = 1  # its place in every task's sums
UNEQUAL_MAX = 0.02  # of the answers in a stretch of time, the share that one candidate may have more than the other
SEED = 20_240_229
METHOD = (
    "Paired circular block bootstrap over time: {draws:,} draws of runs of {run} adjacent blocks out of "
    "{blocks} ({width} each), the same for both candidates; confidence {level:.4g}% per interval, so that all "
    "{rivals} together have 95%"
)


class Difference(Struct, frozen=True):
    """Candidate minus baseline, for one metric.

    Args:
        low, high: the confidence interval; None if there is too little data.
        verdict: `better`, `worse`, `no clear difference` or `too little data`; empty for metrics without a better side.
        won: share of the blocks of time in which the candidate was better, ties counted half; None if undefined.
    """

    metric: str
    baseline: float | None
    candidate: float | None
    difference: float | None
    low: float | None
    high: float | None
    verdict: str
    won: float | None


class Comparison(Struct, frozen=True):
    """One candidate against the baseline.

    Args:
        events: number of labelled events compared.
        left_out: number of others: in blocks of time in which one of the two had over `UNEQUAL_MAX` more predictions
            than the other (a model that has not learned yet has none), so they cannot be compared, and in those at the
            beginning with predictions of a model that had learned too little (`Tally.untrained`).
        method: how the intervals were made.
        binned: metrics whose values here are computed from binned scores: those that need every score, if not
        everything that
            was counted is compared. Their intervals always are.
    """

    baseline: str
    candidate: str
    events: int
    left_out: int
    blocks: int
    method: str
    binned: list[str]
    differences: list[Difference]


def compare(
    baseline: tuple[str, Tally], rivals: Mapping[str, Tally], cost: Cost | None, row_ms: int | None = None
) -> list[Comparison]:
    """Each rival against the baseline; all of the same task.

    Args:
        row_ms: where times were only counted, how far apart: stretches of time are then given in rows.
    """
    name, base = baseline
    return [_compare(name, base, rival, tally, cost, len(rivals), row_ms) for rival, tally in rivals.items()]


def _compare(
    name: str, base: Tally, rival: str, tally: Tally, cost: Cost | None, rivals: int, row_ms: int | None
) -> Comparison:
    first, second, width_ms = _aligned(base, tally)
    blocks = len(first[0])
    metrics = metrics_of(base.measure, cost)
    events = int(first[0][:, 0].sum())
    exact = all(side.total.sums[0, 0] == events and is_exact(side) for side in (base, tally))
    ours, theirs = _whole(base, first, cost, exact=exact), _whole(tally, second, cost, exact=exact)
    intervals: dict[str, tuple[float, float]] = {}
    run = max(1, ceil(blocks ** (1 / 3)))
    if blocks >= BLOCKS_MIN:
        intervals = _intervals(base, first, second, cost, run, MISS / rivals)
    won = _won(base, first, second, metrics, cost)
    differences = [
        _difference(metric, ours.get(metric.name), theirs.get(metric.name), intervals.get(metric.name), won)
        for metric in metrics
    ]
    method = METHOD.format(
        draws=DRAWS,
        run=run,
        blocks=blocks,
        width=_width(width_ms) if row_ms is None else f"{width_ms / row_ms:,.0f} rows",
        level=100 * (1 - MISS / rivals),
        rivals=rivals,
    )
    if not intervals:
        method = f"No intervals: {BLOCKS_MIN} blocks of time with labels are needed, and there are {blocks}"
    left_out = max(int(base.total.sums[0, 0]), int(tally.total.sums[0, 0])) - events
    binned = [] if exact else [metric.name for metric in metrics if metric.name in CURVES]
    return Comparison(name, rival, events, left_out, blocks, method, binned, differences)


def _whole(tally: Tally, side: tuple[Floats, Ints], cost: Cost | None, *, exact: bool) -> dict[str, float]:
    """Each metric over the stretches that are compared; of the whole tally where those are all."""
    sums, curve = side[0].sum(axis=0), side[1].sum(axis=0)
    if sums[0] == tally.total.sums[0, 0]:
        return total_values(tally, cost, exact=exact)
    found = values_of(tally.measure, sums, curve if curve.shape[1] else None, cost)
    return {name: float(value) for name, value in found.items()}


def _aligned(base: Tally, tally: Tally) -> tuple[tuple[Floats, Ints], tuple[Floats, Ints], int]:
    """The same stretches of time of both, at most `BLOCKS_MAX`, those left out in which they cannot be compared."""
    width_ms = max(base.timeline.width_ms, tally.timeline.width_ms)
    spans = [line for line in (base.timeline, tally.timeline) if line.first is not None]
    if not spans:
        return _folded(base, width_ms, 0, 0), _folded(tally, width_ms, 0, 0), width_ms
    least_ms = min((line.first or 0) * line.width_ms for line in spans)
    most_ms = max((line.last + 1) * line.width_ms for line in spans)
    while ceil(most_ms / width_ms) - least_ms // width_ms > BLOCKS_MAX:
        width_ms *= 2
    first, count = least_ms // width_ms, ceil(most_ms / width_ms) - least_ms // width_ms
    one, other = _folded(base, width_ms, first, count), _folded(tally, width_ms, first, count)
    ours, theirs = one[0][:, ANSWERED], other[0][:, ANSWERED]
    reached = (np.minimum(ours, theirs) > 0) & (abs(ours - theirs) <= UNEQUAL_MAX * np.maximum(ours, theirs))
    untrained_ms = max((ms for ms in (base.untrained_ms, tally.untrained_ms) if ms is not None), default=None)
    if untrained_ms is not None:
        reached &= first + np.arange(count) > untrained_ms // width_ms
    return (one[0][reached], one[1][reached]), (other[0][reached], other[1][reached]), width_ms


def _folded(tally: Tally, width_ms: int, first: int, count: int) -> tuple[Floats, Ints]:
    """Sums and curves by stretch of the given width."""
    line = tally.timeline
    sums = np.zeros((count, line.cells.sums.shape[1]))
    curve = np.zeros((count, *line.cells.curve.shape[1:]), dtype=np.int64)
    for number, start_ms in enumerate(line.starts_ms):
        place = start_ms // width_ms - first
        sums[place] += line.cells.sums[number]
        curve[place] += line.cells.curve[number]
    return sums, curve


def _intervals(
    base: Tally, first: tuple[Floats, Ints], second: tuple[Floats, Ints], cost: Cost | None, run: int, miss: float
) -> dict[str, tuple[float, float]]:
    """The middle of the differences that the draws give."""
    random = np.random.default_rng(SEED)
    blocks = len(first[0])
    starts = random.integers(0, blocks, size=(DRAWS, ceil(blocks / run)))
    drawn = (starts[:, :, None] + np.arange(run)) % blocks
    drawn = drawn.reshape(DRAWS, -1)[:, :blocks]
    weights = np.zeros((DRAWS, blocks))
    np.add.at(weights, (np.arange(DRAWS)[:, None], drawn), 1.0)
    touched = (first[1].sum(axis=(0, 1)) > 0) | (second[1].sum(axis=(0, 1)) > 0)
    found: dict[str, list[Floats]] = {}
    for low in range(0, DRAWS, DRAWN_TOGETHER):
        some = weights[low : low + DRAWN_TOGETHER]
        one, other = (_drawn(base, side, some, touched, cost) for side in (first, second))
        for name, values in one.items():
            found.setdefault(name, []).append(other[name] - values)
    intervals = {}
    for name, parts in found.items():
        differences = np.concatenate(parts)
        differences = differences[~np.isnan(differences)]
        if len(differences) >= DRAWS // 2:
            low_end, high_end = np.quantile(differences, [miss / 2, 1 - miss / 2])
            intervals[name] = (float(low_end), float(high_end))
    return intervals


def _drawn(
    base: Tally, side: tuple[Floats, Ints], weights: Floats, touched: Ints, cost: Cost | None
) -> dict[str, Floats]:
    sums = weights @ side[0]
    curve = None
    if side[1].shape[2]:
        bins = side[1][:, :, touched].astype(float)
        curve = np.tensordot(weights, bins, axes=(1, 0))
    return values_of(base.measure, sums, curve, cost)


def _won(
    base: Tally, first: tuple[Floats, Ints], second: tuple[Floats, Ints], metrics: list[Metric], cost: Cost | None
) -> dict[str, float]:
    ours, theirs = (
        values_of(base.measure, side[0], side[1] if side[1].shape[2] else None, cost) for side in (first, second)
    )
    won = {}
    for metric in metrics:
        if metric.name not in ours or not metric.better:
            continue
        difference = (theirs[metric.name] - ours[metric.name]) * metric.better
        difference = difference[~np.isnan(difference)]
        if len(difference):
            won[metric.name] = float(((difference > 0) + 0.5 * (difference == 0)).mean())
    return won


def _difference(
    metric: Metric,
    ours: float | None,
    theirs: float | None,
    interval: tuple[float, float] | None,
    won: Mapping[str, float],
) -> Difference:
    ours, theirs = finite(ours), finite(theirs)
    apart = theirs - ours if ours is not None and theirs is not None else None
    low, high = interval or (None, None)
    verdict = ""
    if metric.better:
        verdict = "too little data"
        if low is not None and high is not None:
            verdict = "no clear difference"
            if low > 0 or high < 0:
                verdict = "better" if (low > 0) == (metric.better > 0) else "worse"
    return Difference(metric.name, ours, theirs, apart, low, high, verdict, won.get(metric.name))


def finite(value: float | None) -> float | None:
    """None for what JSON has no number for."""
    return value if value is not None and np.isfinite(value) else None


def _width(width_ms: int) -> str:
    for unit_ms, unit in ((86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes"), (1_000, "seconds")):
        if width_ms >= unit_ms:
            return f"{width_ms / unit_ms:.3g} {unit}"
    return f"{width_ms} ms"
