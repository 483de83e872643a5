"""What is kept of a backtest: counts and sums, so memory does not grow with the history; and, of the first millions of
labels, the scores themselves (`exact`), for curves that no bin has blurred.

Every breakdown is an array of cells (one a stretch of time, a segment, a label's age), each with the same additive
numbers; sums over cells are again such numbers, which is what lets partitions be added up and blocks of time be drawn
again and again to learn how sure a difference is. Scores are counted in bins that shrink towards 0 and 1, those of
`core.river.curve`.

Time is cut into at most `CELLS_MAX` stretches whose width doubles whenever the history outgrows them; the cuts
stand at multiples of the width, so any two tallies share them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from driftline.backtest.daily import Daily
from driftline.backtest.guarded import Guarded, Held
from driftline.backtest.kpi import KpiTally
from driftline.backtest.trace import Traces
from driftline.core.metric.exact import Scores
from driftline.core.output import Outcome
from driftline.core.pipeline import Pipeline
from driftline.core.river.curve import OCTAVES, PER_OCTAVE
from driftline.core.task import task_of
from driftline.core.task.measure import TOP, Floats, Measure

Ints: TypeAlias = NDArray[np.int64]

CELLS_MAX = 512
SEGMENTS_MAX = 24
VALUES_MAX = 12  # different numbers that are segments of their own
NUMBERS_MAX = 256  # bins of numbers
_NUMBERS = SEGMENTS_MAX + 1  # the first of their cells
PAIRS_MAX = 100_000  # distinct (label, prediction) pairs, where those are counted
COARSER = 8  # bins of a cell, in bins of the total
_GRAIN = 2.0**-53  # between two numbers from 0.5 to 1
SHARES = 20  # equal parts of [0, 1] for calibration and score distribution
REST = "(others)"

AGES_MS = (0, 1_000, 60_000, 3_600_000, 86_400_000, 7 * 86_400_000, 30 * 86_400_000)
AGES = ("at once", "to 1 s", "to 1 min", "to 1 h", "to 1 day", "to 7 days", "to 30 days", "longer", "assumed")


def bins_of(scores: Floats) -> Ints:
    """`core.river.curve.bin_of` for many scores at once.

    Args:
        scores: no NaN among them.
    """
    scores = np.clip(scores, -(2.0**80), 2.0**80)  # all beyond 2**64 is one bin
    low = scores <= 0.5
    outside = (scores <= 0.0) | (scores >= 1.0)
    distance = np.where(low, scores, 1.0 - scores)
    distance = np.where(outside, np.where(low, -scores, scores - 1.0), distance)
    mantissa, exponent = np.frexp(distance)
    inner = (exponent + OCTAVES) * PER_OCTAVE + ((mantissa - 0.5) * (2 * PER_OCTAVE)).astype(np.int64)
    far = exponent > OCTAVES
    outer = np.where((mantissa == 0.0) | (exponent <= -OCTAVES), 0, np.where(far, TOP + PER_OCTAVE, inner))
    inside = np.where(low, np.maximum(inner, 0), TOP - inner)
    return np.where(outside, np.where(low, -outer, TOP + outer), inside)


def score_at(bins: Ints) -> Floats:
    """The least score of each bin of [0, 1]: a score is at least this if and only if its bin is, or a later one.

    A bin above 0.5 ends with the score nearest to 1, and begins just above the last score of the bin before.
    """
    low = bins <= TOP // 2
    depth = np.where(low, bins, TOP - bins + 1)
    octave, part = np.divmod(depth, PER_OCTAVE)
    value = np.ldexp(0.5 + part / (2 * PER_OCTAVE), (octave - OCTAVES).astype(int))
    above = 1.0 - (np.ceil(value / _GRAIN) - 1.0) * _GRAIN
    least = np.where(low, value, above)
    return np.where(bins <= 0, 0.0, np.where(bins >= TOP, 1.0, least))


class Cells:
    """Additive numbers by cell.

    Attributes:
        sums: cell x the `sums` of the task's measure.
        curve: cell x (negatives, positives) x bin of the score, where the task has scores.
    """

    def __init__(self, count: int, sums: int, bins: int) -> None:
        self.sums: Floats = np.zeros((count, sums))
        self.curve: Ints = np.zeros((count, 2, bins), dtype=np.int64)

    def add(self, places: Ints, columns: Floats, bins: Ints | None, positive: NDArray[np.bool_] | None) -> None:
        """Add pairs to the cells at their places.

        Args:
            columns: sums x pairs.
            bins: of each pair, -1 where it has no score.
        """
        if not len(places):
            return
        first, last = int(places.min()), int(places.max()) + 1
        local = places - first
        for number, column in enumerate(columns):
            self.sums[first:last, number] += np.bincount(local, weights=column, minlength=last - first)
        if bins is None or positive is None or not self.curve.shape[2]:
            return
        known = bins >= 0
        size = self.curve.shape[2]
        flat = (local[known] * 2 + positive[known]) * size + bins[known]
        counts = np.bincount(flat, minlength=(last - first) * 2 * size)
        self.curve[first:last] += counts.reshape(last - first, 2, size)

    def merge(self, other: Cells) -> None:
        self.sums += other.sums
        self.curve += other.curve


class Timeline:
    """Cells by time.

    Attributes:
        width_ms: how long a cell lasts; a power of two seconds.
        first: number of the first cell; cell i begins at (first + i) * width_ms.
    """

    def __init__(self, sums: int, bins: int) -> None:
        self.cells = Cells(CELLS_MAX, sums, bins)
        self.width_ms = 1_000
        self.first: int | None = None
        self.last = 0

    def places(self, times_ms: Ints) -> Ints:
        """The cell of each time; makes room."""
        least, most = int(times_ms.min()), int(times_ms.max())
        self.fit(least, most)
        found: Ints = times_ms // self.width_ms - (self.first or 0)
        return found

    def fit(self, least_ms: int, most_ms: int) -> None:
        """Make room for a span of times."""
        if self.first is None:
            while most_ms // self.width_ms - least_ms // self.width_ms >= CELLS_MAX:
                self.width_ms *= 2
            self.first = self.last = least_ms // self.width_ms
        while True:
            first = min(self.first, least_ms // self.width_ms)
            last = max(self.last, most_ms // self.width_ms)
            if last - first < CELLS_MAX:
                break
            self._coarsen()
        if first < self.first:
            for array in (self.cells.sums, self.cells.curve):
                array[:] = np.roll(array, self.first - first, axis=0)
            self.first = first
        self.last = last

    def _coarsen(self) -> None:
        """Two cells become one."""
        old = self.first or 0
        self.width_ms *= 2
        self.first = old // 2
        self.last //= 2
        for array in (self.cells.sums, self.cells.curve):
            begin = old % 2  # an odd first cell is the second half of a wider one
            pairs = (len(array) - begin) // 2
            paired = array[begin : begin + 2 * pairs]
            halves = paired[0::2] + paired[1::2]
            left = array[begin + 2 * pairs :].copy()
            array[begin : begin + pairs] = halves
            array[begin + pairs : begin + pairs + len(left)] = left
            array[begin + pairs + len(left) :] = 0

    def widen(self, width_ms: int) -> None:
        while self.width_ms < width_ms:
            self._coarsen()

    def merge(self, other: Timeline) -> None:
        """Add another one; its own cells are left coarser."""
        if other.first is None:
            return
        width_ms = max(self.width_ms, other.width_ms)
        self.widen(width_ms)
        other.widen(width_ms)
        span = (other.first * width_ms, other.last * width_ms)
        self.fit(*span)
        other.widen(self.width_ms)
        other.fit((self.first or 0) * self.width_ms, self.last * self.width_ms)
        self.widen(other.width_ms)
        self.cells.merge(other.cells)

    @property
    def starts_ms(self) -> list[int]:
        """When each cell that was reached begins."""
        if self.first is None:
            return []
        return [number * self.width_ms for number in range(self.first, self.last + 1)]


class Segments:
    """Cells by the values of one feature.

    A text or truth value is a segment of its own, the first `SEGMENTS_MAX` of them. A number falls into a bin, that of
    all numbers with the same leading bits: at first its own, then, whenever there would be more than `NUMBERS_MAX`, of
    a bit less. So bins of two partitions are equal or lie within each other, and can be added up; cuts are made last.

    Attributes:
        cells: of `SEGMENTS_MAX` words, of all other words, and of the bins.
        words: the cell of each.
        numbers: the cell of each bin, by its leading bits.
        shift: bits of a number that its bin leaves out.
    """

    def __init__(self, name: str, place: int, sums: int, bins: int) -> None:
        self.name = name
        self.place = place
        self.cells = Cells(_NUMBERS + NUMBERS_MAX, sums, bins)
        self.words: dict[str, int] = {}
        self.numbers: dict[int, int] = {}
        self.shift = 0
        self._spelt: dict[int, str] = {}
        self._known: dict[object, int] = {}

    def places(self, values: Sequence[object]) -> Ints:
        """The cell of each value; makes room."""
        found = np.empty(len(values), dtype=np.int64)
        numeric, numbers = [], []
        for place, value in enumerate(values):
            if isinstance(value, int | float) and not isinstance(value, bool) and value == value:
                numeric.append(place)
                numbers.append(value)
            else:
                found[place] = self._place(value)
        if numbers:
            bits = _ordered(np.array(numbers, dtype=np.float64))
            bins, first, inverse = np.unique(bits >> self.shift, return_index=True, return_inverse=True)
            if self.shift == 0 and len(self._spelt) <= VALUES_MAX:
                self._spelt.update(
                    {int(bins[n]): str(numbers[first[n]]) for n in range(min(len(bins), VALUES_MAX + 1))}
                )
            step = self.fit(bins.tolist())
            cells = np.array([self.numbers[place >> step] for place in bins.tolist()], dtype=np.int64)
            found[numeric] = cells[inverse]
        return found

    def fit(self, bins: Sequence[int]) -> int:
        """Make room for bins of the present shift.

        Returns:
            How many bits it has grown by.
        """
        every, step = {*self.numbers, *bins}, 0
        while len(every) > NUMBERS_MAX:
            every, step = {place >> 1 for place in every}, step + 1
        self.coarsen(step)
        for place in bins:
            self.numbers.setdefault(place >> step, _NUMBERS + len(self.numbers))
        return step

    def coarsen(self, step: int) -> None:
        """Leave more bits out."""
        if not step:
            return
        self.shift += step
        before, self.numbers = self.numbers, {}
        old = [array[_NUMBERS:].copy() for array in (self.cells.sums, self.cells.curve)]
        for place in before:
            self.numbers.setdefault(place >> step, _NUMBERS + len(self.numbers))
        for array, kept in zip((self.cells.sums, self.cells.curve), old, strict=True):
            array[_NUMBERS:] = 0
            for place, cell in before.items():
                array[self.numbers[place >> step]] += kept[cell - _NUMBERS]

    def merge(self, other: Segments) -> None:
        """Add another partition's; its own cells are left coarser."""
        self.coarsen(max(0, other.shift - self.shift))
        other.coarsen(max(0, self.shift - other.shift))
        other.coarsen(self.fit(list(other.numbers)))
        pairs = [(self.named(word), cell) for word, cell in other.words.items()]
        pairs += [(self.numbers[place], cell) for place, cell in other.numbers.items()]
        for ours, theirs in [*pairs, (SEGMENTS_MAX, SEGMENTS_MAX)]:
            self.cells.sums[ours] += other.cells.sums[theirs]
            self.cells.curve[ours] += other.cells.curve[theirs]
        self._spelt = {**other._spelt, **self._spelt}

    @property
    def cut(self) -> bool:
        """Whether numbers are shown by quarters: there are more than `VALUES_MAX`."""
        return self.shift > 0 or len(self.numbers) > VALUES_MAX

    def parts(self) -> tuple[list[str], Cells]:
        """The segments by name, numbers between the bins that begin nearest to their quartiles."""
        bins = sorted(self.numbers)
        groups = [(self._spelt.get(place, str(_number(place))), [self.numbers[place]]) for place in bins]
        if self.cut:
            below = np.cumsum([0.0, *(self.cells.sums[self.numbers[place], 0] for place in bins)])
            inner = below[1:-1]
            cuts = sorted({int(abs(inner - share * below[-1]).argmin()) + 1 for share in (0.25, 0.5, 0.75)})
            names = _quarters([_number(bins[cut] << self.shift) for cut in cuts])
            spans = pairwise([0, *cuts, len(bins)])
            groups = [
                (name, [self.numbers[place] for place in bins[low:high]])
                for name, (low, high) in zip(names, spans, strict=True)
            ]
        groups += [(word, [cell]) for word, cell in self.words.items()]
        groups.append((REST, [SEGMENTS_MAX]))
        made = Cells(0, 0, 0)
        made.sums = np.stack([self.cells.sums[cells].sum(axis=0) for _, cells in groups])
        made.curve = np.stack([self.cells.curve[cells].sum(axis=0) for _, cells in groups])
        return [name for name, _ in groups], made

    def _place(self, value: object) -> int:
        known = self._known.get(value)
        if known is None:
            absent = value is None or value != value
            name = "(none)" if absent else str(value).lower() if isinstance(value, bool) else str(value)
            known = self.named(name)
            if len(self._known) < 100_000:
                self._known[value] = known
        return known

    def named(self, name: str) -> int:
        """The cell of a word."""
        if name not in self.words and len(self.words) < SEGMENTS_MAX:
            self.words[name] = len(self.words)
        return self.words.get(name, SEGMENTS_MAX)


def _ordered(numbers: Floats) -> Ints:
    """The bits of numbers as integers that are ordered as they are."""
    bits = numbers.view(np.int64)
    return np.where(bits < 0, -(bits & np.int64(2**63 - 1)), bits)


def _number(bits: int) -> float:
    """The number with these bits; the inverse of `_ordered`."""
    return math.copysign(float(np.array([abs(bits)], dtype=np.int64).view(np.float64)[0]), bits)


def _quarters(edges: Sequence[float]) -> list[str]:
    """Names of what lies between numbers, in as many digits as their distances need."""
    near = min((high - low for low, high in pairwise(edges)), default=math.inf) / 100
    texts = [f"{edge:.4g}" for edge in edges]
    for digits in range(5, 18):
        if any(abs(float(text) - edge) > near for text, edge in zip(texts, edges, strict=True)):
            texts = [f"{edge:.{digits}g}" for edge in edges]
    return [f"below {texts[0]}", *(f"{low} to {high}" for low, high in pairwise(texts)), f"{texts[-1]} and more"]


class Tally:
    """All that is kept of one candidate's labelled predictions.

    Args:
        segment: a feature; None, or one that the pipeline does not have, counts no segments.
        per_day: count what so many alarms a day would find; 0 does not.

    Attributes:
        untrained, untrained_ms: predictions of the first model before it had learned `guard.untrained.labels_min`, and
            the time of the last one's event; comparisons begin behind it.
    """

    def __init__(self, pipeline: Pipeline, segment: str | None, per_day: int = 0) -> None:
        self.measure: Measure = task_of(pipeline.task).measure
        self.threshold = pipeline.decision.threshold if pipeline.decision is not None else None
        self.budget = pipeline.decision.budget if pipeline.decision is not None else None
        sums, fine = len(self.measure.sums), self.measure.bins
        coarse = (fine + COARSER - 1) // COARSER
        self.total = Cells(1, sums, fine)
        self.scores = Scores() if fine else None
        zone_ms = pipeline.decision.offset_ms if pipeline.decision is not None else 0
        self.daily = Daily(per_day, zone_ms) if fine and per_day else None
        self.timeline = Timeline(sums, coarse)
        self.ages = Cells(len(AGES), sums, coarse)
        self.segments: Segments | None = None
        if segment is not None and segment in pipeline.event.features:
            self.segments = Segments(segment, tuple(pipeline.event.features).index(segment), sums, coarse)
        self.horizons: Cells | None = None
        self.traces: Traces | None = None
        if pipeline.forecast is not None:
            self.horizons = Cells(pipeline.forecast.horizons, sums, 0)
            self.traces = Traces(pipeline.forecast.horizons)
        self.shares = np.zeros((SHARES, 3))  # of [0, 1]: pairs, positives, sum of scores
        self.confusion: Counter[tuple[Any, Any]] = Counter()
        self.guarded = None if pipeline.guard is None else Guarded(pipeline)
        form = pipeline.quarantine
        self.held = Held(pipeline) if form is not None and form.action == "hold" else None
        limit = None if pipeline.guard is None else pipeline.guard.untrained
        self.labels_min = 0 if limit is None else limit.labels_min
        self.untrained = 0
        self.untrained_ms: int | None = None
        priced = self.measure.probabilities
        self.kpis = KpiTally(pipeline, fine if priced else 0) if pipeline.kpi else None

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Take in events that have their label."""
        if not outcomes:
            return
        if self.guarded is not None:
            self.guarded.add(outcomes)
        if self.held is not None:
            self.held.add(outcomes)
        judged = self.measure.columns(outcomes, self.threshold)
        columns, scores, positive = judged.sums, judged.scores, judged.positive
        for pair in self.measure.pairs(outcomes):
            if pair in self.confusion or len(self.confusion) < PAIRS_MAX:
                self.confusion[pair] += 1
        bins = None
        if scores is not None:
            known = ~np.isnan(scores)
            bins = np.full(len(scores), -1, dtype=np.int64)
            bins[known] = bins_of(scores[known]) + self.measure.offset
            if self.scores is not None and positive is not None:
                self.scores.add(scores[known], positive[known])
            if self.measure.probabilities and positive is not None:
                self._share(scores[known], positive[known])
        if self.kpis is not None:
            self.kpis.add(outcomes, bins)
        coarse = bins // COARSER if bins is not None else None
        zeros = np.zeros(len(outcomes), dtype=np.int64)
        self.total.add(zeros, columns, bins, positive)
        times = np.array([outcome.event_time_ms for outcome in outcomes], dtype=np.int64)
        self._count_untrained(outcomes)
        if self.daily is not None and scores is not None and positive is not None:
            names = self.measure.sums
            alarms = columns[names.index("tp")] + columns[names.index("fp")] > 0
            self.daily.add(times.tolist(), scores, positive, alarms)
        self.timeline.cells.add(self.timeline.places(times), columns, coarse, positive)
        self.ages.add(_ages(outcomes, times), columns, coarse, positive)
        if self.horizons is not None and self.traces is not None:
            self.horizons.add(*self.measure.by_horizon(outcomes), None, None)
            self.traces.add(outcomes)
        if self.segments is not None:
            place = self.segments.place
            values = [outcome.features[place] if outcome.features else None for outcome in outcomes]
            self.segments.cells.add(self.segments.places(values), columns, coarse, positive)

    def _count_untrained(self, outcomes: Sequence[Outcome]) -> None:
        found = [
            outcome.event_time_ms or 0
            for outcome in outcomes
            if (version := outcome.version) is not None and not version.generation and version.learned < self.labels_min
        ]
        if found:
            self.untrained += len(found)
            self.untrained_ms = max(*found, self.untrained_ms or found[0])

    def _share(self, scores: Floats, positive: NDArray[np.bool_]) -> None:
        places = np.minimum((scores * SHARES).astype(np.int64), SHARES - 1)
        for number, weights in enumerate((np.ones(len(scores)), positive.astype(float), scores)):
            self.shares[:, number] += np.bincount(places, weights=weights, minlength=SHARES)

    def merge(self, other: Tally) -> None:
        """Add the tally of another partition."""
        self.total.merge(other.total)
        if self.scores is not None and other.scores is not None:
            self.scores.merge(other.scores)
        if self.daily is not None and other.daily is not None:
            self.daily.merge(other.daily)
        self.timeline.merge(other.timeline)
        self.ages.merge(other.ages)
        self.untrained += other.untrained
        self.untrained_ms = max((ms for ms in (self.untrained_ms, other.untrained_ms) if ms is not None), default=None)
        self.shares += other.shares
        self.confusion.update(other.confusion)
        if self.kpis is not None and other.kpis is not None:
            self.kpis.merge(other.kpis)
        if self.guarded is not None and other.guarded is not None:
            self.guarded.merge(other.guarded)
        if self.held is not None and other.held is not None:
            self.held.merge(other.held)
        if self.segments is not None and other.segments is not None:
            self.segments.merge(other.segments)
        if self.horizons is not None and other.horizons is not None:
            self.horizons.merge(other.horizons)
        if self.traces is not None and other.traces is not None:
            self.traces.merge(other.traces)


def _ages(outcomes: Sequence[Outcome], times: Ints) -> Ints:
    labelled_ms = [outcome.label_time_ms for outcome in outcomes]
    if None not in labelled_ms:
        return np.searchsorted(np.array(AGES_MS), np.array(labelled_ms, dtype=np.int64) - times, side="left")
    assumed = np.array([time_ms is None for time_ms in labelled_ms])
    came = np.array([time_ms or 0 for time_ms in labelled_ms], dtype=np.int64)
    ages = np.searchsorted(np.array(AGES_MS), came - times, side="left")
    return np.where(assumed, len(AGES) - 1, ages).astype(np.int64)
