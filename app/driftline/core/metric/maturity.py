"""How many labels have arrived: metrics that allow for late labels, and estimates before they arrive.

A metric over all labels says nothing of the events whose label is still out, and the labels that come early may be of
another kind than those that come late (fraud is reported within days, its absence after weeks). So next to the plain
metrics stand

* coverage: how many of the events whose wait is over had a label, and how late labels come;
* the metrics by age of the label, and by a declared feature, each with a bounded number of parts;
* the metrics over a span of event time;
* for binary probabilities, the accuracy to be expected before any label is there: of a calibrated model, a prediction
  with probability p is right with probability p where yes was served, else 1 - p. It holds as long as the concept
  does, so it is marked unreliable when the model is not calibrated on the labels that came, and for a window of labels
  after each rise of the error.

The estimate is known as confidence-based performance estimation (CBPE).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Sequence
from math import frexp, fsum
from typing import TYPE_CHECKING, Any

from driftline.core.metric.culprit import Errors
from driftline.core.metric.evaluation import Evaluation
from driftline.core.output import Prediction
from driftline.core.record import FeatureValue, LabelValue
from driftline.core.river.calibration import ECE
from driftline.core.task import task_of

if TYPE_CHECKING:
    from driftline.core.pipeline import Pipeline

OTHER, MISSING = "(other)", "(missing)"
QUANTILES = (0.5, 0.9, 0.99)
SPAN_LABELS_MAX = 2_000  # of a span of time, the latest; more would make a read long
CALIBRATION_ERROR_MAX = 0.1  # beyond it, probabilities say too little of how often they are right
_EXACT_MAX = 2**53  # up to here a float is the whole number
_PARTS = 16  # delay bins per doubling: a quantile is right to within 7%


class Delays:
    """Label delays in bins that widen with the delay; negative ones count as 0."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.count = 0

    def add(self, delay_ms: int) -> None:
        counts, place = self.counts, _bin(delay_ms)
        counts[place] = counts.get(place, 0) + 1
        self.count += 1

    def remove(self, delay_ms: int) -> None:
        """Take back a delay that was added."""
        place = _bin(delay_ms)
        self.counts[place] -= 1
        if not self.counts[place]:
            del self.counts[place]
        self.count -= 1

    def quantile_ms(self, share: float) -> float | None:
        """The upper edge of the bin in which the quantile lies; None without delays."""
        left = share * self.count
        for place in sorted(self.counts):
            left -= self.counts[place]
            if left <= 0:
                return _edge_ms(place)
        return None


def _bin(delay_ms: int) -> int:
    if delay_ms <= 0:
        return -1
    if delay_ms < _EXACT_MAX:  # as below, in whole numbers: a third of the time
        bits = delay_ms.bit_length()
        return bits * _PARTS + (delay_ms * 2 * _PARTS >> bits) - _PARTS
    mantissa, exponent = frexp(delay_ms)
    return exponent * _PARTS + int(mantissa * 2 * _PARTS) - _PARTS


def _edge_ms(place: int) -> float:
    if place < 0:
        return 0.0
    exponent, part = divmod(place, _PARTS)
    return float(2.0**exponent * (0.5 + (part + 1) / (2 * _PARTS)))


class Expected:
    """Accuracy to be expected of the last binary predictions, and whether that can be relied on.

    Args:
        window: predictions, and labels of the check, that are looked back on.

    Attributes:
        sureness: of the last predictions: the probability of the class that was served.
        pairs: of the last labels: the probability that was served, and whether the event was positive.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.sureness: deque[float] = deque(maxlen=window)
        self.pairs: deque[tuple[float, bool]] = deque(maxlen=window)
        self.labels_until_reliable = window

    def joined(self, probability: float, positive: bool) -> None:
        self.pairs.append((probability, positive))
        if self.labels_until_reliable:
            self.labels_until_reliable -= 1

    def drifted(self) -> None:
        """The error rose: what the model says of itself holds no more."""
        self.labels_until_reliable = self.window

    def values(self) -> dict[str, Any]:
        error = self.calibration_error()
        reliable = error is not None and error <= CALIBRATION_ERROR_MAX and not self.labels_until_reliable
        accuracy = fsum(self.sureness) / len(self.sureness) if self.sureness else None
        return {
            "accuracy": accuracy,
            "events": len(self.sureness),
            "calibration_error": error,
            "reliable": reliable,
        }

    def calibration_error(self) -> float | None:
        """Expected calibration error over the last labels."""
        metric = ECE()
        metric.update_all(self.pairs)
        return metric.get() if self.pairs else None


class Maturity:
    """See the module.

    Args:
        pipeline: says the metrics and how to split them.

    Attributes:
        scored, joined, unlabelled: events served; events whose label came; events whose wait ended without one.

        errors: of the latest labels, by segment; None without segments.

    Cost: 0.7 us a pair without splits; a split costs what the metrics cost, once more.
    """

    errors: Errors | None = None  # of states that were written before they were kept

    def __init__(self, pipeline: Pipeline) -> None:
        split = pipeline.metric_by
        self.scored = self.joined = self.unlabelled = 0
        self.delays = Delays()
        self.expected = Expected(pipeline.metric_window) if task_of(pipeline.task).probability else None
        self._ages_ms = split.ages_ms
        self.ages = [Evaluation.of(pipeline) for _ in range(len(split.ages_ms) + 1)] if split.ages_ms else []
        self._ages_since = self._segments_since = 0  # number of the latest label before the split began
        self._feature = pipeline.event.names.index(split.segment) if split.segment is not None else None
        self._segment_max = split.segment_max
        self.segments: dict[str, Evaluation] = {}
        if self._feature is not None and task_of(pipeline.task).judged:
            self.errors = Errors()
        self._span_ms = pipeline.metric_span_ms
        self.span: deque[tuple[int, LabelValue, Prediction]] = deque(maxlen=SPAN_LABELS_MAX)

    def keep(self, old: Maturity, carried: Callable[[Evaluation], Evaluation], taken: int) -> None:
        """Go on from another one's past, made for the same features; what is split otherwise now begins empty.

        Args:
            old: is used up, not copied.
            carried: makes an evaluation of this pipeline of one of the other's.
            taken: number of the latest label, which what begins now knows nothing of.
        """
        self.scored, self.joined, self.unlabelled, self.delays = old.scored, old.joined, old.unlabelled, old.delays
        if self.expected is not None and old.expected is not None:
            self.expected.sureness.extend(old.expected.sureness)
            self.expected.pairs.extend(old.expected.pairs)
            self.expected.labels_until_reliable = min(old.expected.labels_until_reliable, self.expected.window)
        self._ages_since = self._segments_since = taken
        if self._ages_ms == old._ages_ms:
            self.ages, self._ages_since = [carried(part) for part in old.ages], old._ages_since
        if self._feature == old._feature:
            self.segments = {name: carried(part) for name, part in old.segments.items()}
            self.errors = self.errors if old.errors is None else old.errors
            # With other bounds, a value that had no segment may get one, which did not see its earlier labels.
            self._segments_since = old._segments_since if self._segment_max == old._segment_max else taken
        if self._span_ms is not None:
            self.span.extend(old.span)

    def on_score(self, prediction: Prediction) -> None:
        self.scored += 1
        value, expected = prediction.value, self.expected
        if expected is not None and value is not None:
            expected.sureness.append(value if prediction.label is True else 1 - value)

    def on_label(
        self,
        pipeline: Pipeline,
        label: LabelValue,
        delay_ms: int,
        prediction: Prediction,
        features: tuple[FeatureValue, ...],
        now_ms: int,
        *,
        first: bool = True,
    ) -> None:
        """A label came, and its event waited for it.

        Args:
            first: of this event's, where several may come.
            pipeline: to build the metrics of a new segment.
            delay_ms: event time from the event to the label.
            now_ms: the watermark.
        """
        if first:
            self.joined += 1
        delays, place = self.delays, _bin(delay_ms)
        counts = delays.counts  # `Delays.add`, without a call
        counts[place] = counts.get(place, 0) + 1
        delays.count += 1
        value, expected = prediction.value, self.expected
        if expected is not None and value is not None:
            expected.joined(value, bool(label))
        if self.ages:
            self.ages[bisect_right(self._ages_ms, delay_ms)].update(label, prediction)
        if self._feature is not None:
            self._segment(pipeline, features[self._feature]).update(label, prediction)
            if first and self.errors is not None:
                self._err(pipeline, label, prediction, features)
        if self._span_ms is not None:
            span = self.span
            span.append((now_ms, label, prediction))
            while span and span[0][0] <= now_ms - self._span_ms:
                span.popleft()

    def on_truth(
        self,
        pipeline: Pipeline,
        label: LabelValue,
        delays_ms: Sequence[int],
        predictions: Sequence[Prediction],
        features: tuple[FeatureValue, ...],
        now_ms: int,
    ) -> None:
        """`on_label` with each of some predictions of the same label, the first of which counts.

        Args:
            delays_ms: of each prediction.
        """
        if self.expected is None and not self.ages and self._feature is None and self._span_ms is None:
            self.joined += bool(predictions)
            for delay_ms in delays_ms:
                self.delays.add(delay_ms)
            return
        first = True
        for delay_ms, prediction in zip(delays_ms, predictions, strict=True):
            self.on_label(pipeline, label, delay_ms, prediction, features, now_ms, first=first)
            first = False

    def revert(
        self,
        label: LabelValue,
        delay_ms: int,
        prediction: Prediction,
        features: tuple[FeatureValue, ...],
        number: int,
    ) -> None:
        """Take back what `on_label` was given, as far as it is still in there.

        Args:
            number: that the shard's metrics took the label in under.
        """
        self.joined -= 1
        self.delays.remove(delay_ms)
        if self.expected is not None and prediction.value is not None:
            pair = (prediction.value, bool(label))
            if pair in self.expected.pairs:
                self.expected.pairs.remove(pair)
        if self.ages and number > self._ages_since:
            part = self.ages[bisect_right(self._ages_ms, delay_ms)]
            part.revert(label, prediction, number, windows=False)
        if self._feature is not None and number > self._segments_since:
            name = MISSING if (value := features[self._feature]) is None else str(value)
            part = self.segments[name if name in self.segments else OTHER]
            part.revert(label, prediction, number, windows=False)
        for place in range(len(self.span) - 1, -1, -1):
            if self.span[place][1:] == (label, prediction):
                del self.span[place]
                break

    def on_expiry(self) -> None:
        """A wait ended without a label."""
        self.unlabelled += 1

    def on_drift(self) -> None:
        """The error or the loss rose."""
        if self.expected is not None:
            self.expected.drifted()

    def _segment(self, pipeline: Pipeline, value: FeatureValue) -> Evaluation:
        name = MISSING if value is None else str(value)
        found = self.segments.get(name)
        if found is None:
            if len(self.segments) >= self._segment_max:
                name = OTHER
                found = self.segments.get(OTHER)
            if found is None:
                found = self.segments[name] = Evaluation.of(pipeline)
        return found

    def _err(
        self, pipeline: Pipeline, label: LabelValue, prediction: Prediction, features: tuple[FeatureValue, ...]
    ) -> None:
        """Note how far off a prediction was, by segment."""
        error_of = task_of(pipeline.task).error
        error = None if error_of is None else error_of(label, prediction)
        segment = self.segment_of(features, self.segments)
        if error is not None and segment is not None and self.errors is not None:
            self.errors.add(segment, float(error))

    def segment_of(self, features: tuple[FeatureValue, ...], known: Collection[str]) -> str | None:
        """The segment of an event, by the same rules, for what is split beside the metrics; None without segments.

        Args:
            known: the segments that there are.
        """
        if self._feature is None:
            return None
        value = features[self._feature]
        name = MISSING if value is None else str(value)
        return name if name in known or len(known) < self._segment_max else OTHER

    @property
    def coverage(self) -> float | None:
        """Share of the events with a label, of those that have one or whose wait ended without; None before those."""
        over = self.joined + self.unlabelled
        return self.joined / over if over else None

    def covered(self, young: int) -> float | None:
        """Share of the events whose wait is over that had a label; None before any wait is over.

        Args:
            young: events whose wait is not over.

        Those whose label was retracted, or that were crowded out, count as soon as that happens.
        """
        over = self.scored - young
        return max(0.0, 1 - self.unlabelled / over) if over > 0 else None

    def values(self, pipeline: Pipeline, *, young: int = 0, drifting: bool = False) -> dict[str, Any]:
        """Everything, for people and for a scrape; an evaluation as its metrics' values.

        Args:
            young: events whose wait is not over.
            drifting: the concept has drifted, and has not settled yet: no estimate without labels can be relied on.
        """
        made: dict[str, Any] = {
            "coverage": self.covered(young),
            "label_delay_ms": {str(share): self.delays.quantile_ms(share) for share in QUANTILES},
        }
        if self.expected is not None:
            expected = self.expected.values()
            made["expected"] = {**expected, "reliable": expected["reliable"] and not drifting}
        if self.ages:
            names = [f"< {age_ms} ms" for age_ms in self._ages_ms] + [f">= {self._ages_ms[-1]} ms"]
            made["by_age"] = {name: part.values() for name, part in zip(names, self.ages, strict=True)}
        if self._feature is not None:
            made["by_segment"] = {name: part.values() for name, part in self.segments.items()}
        if self._span_ms is not None:
            evaluation = Evaluation.of(pipeline)
            for _, label, prediction in self.span:
                evaluation.update(label, prediction)
            made["span"] = evaluation.values()
        return made
