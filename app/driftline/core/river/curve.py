"""ROC AUC and average precision over all labels so far, from counts in bins.

The exact values need every score ever served. River's `ROCAUC` counts at ten thresholds spread evenly over
[0, 1], where a rare class has nearly all of its scores below the first. Here each score falls into one of
some thousand bins whose width shrinks towards 0 and towards 1 (64 bins per halving of the distance, so about
1% of the odds, as on a logit scale), and positives and negatives are counted per bin. An update is two
lookups, a revert takes it back exactly, and a read sorts the bins that were touched. Scores in one bin count
as ties, which is the only error made; `bounds` says how large it can be.

Scores outside [0, 1] (anomaly scores) fall into bins that widen away from 0 and from 1 in the same manner.
Bins are found by exact arithmetic (`frexp`), not by `log`: the same bins on every machine.

Source: T. Fawcett, An introduction to ROC analysis (2006), for both curves; average precision is the
step-wise sum of scikit-learn, without interpolation.
"""

from __future__ import annotations

from math import frexp, nan
from typing import Any

from river import base, metrics

from driftline.core.river.trait import Trait

PER_OCTAVE = 64  # bins per halving of the distance to 0 or to 1
OCTAVES = 64  # a score closer to 0 than 2**-65 counts as 0
_HALF = PER_OCTAVE * OCTAVES
_TOP = 2 * _HALF


def bin_of(score: float) -> int:
    """The bin of a score; a higher score never has a lower bin.

    Args:
        score: any number, infinities included.

    Returns:
        An integer; 0 to 8,192 for scores in [0, 1].

    Raises:
        ValueError: the score is not a number.
    """
    if 0.0 < score <= 0.5:
        mantissa, exponent = frexp(score)
        found = (exponent + OCTAVES) * PER_OCTAVE + int((mantissa - 0.5) * (2 * PER_OCTAVE))
        return found if found > 0 else 0
    if 0.5 < score < 1.0:
        mantissa, exponent = frexp(1.0 - score)
        return _TOP - (exponent + OCTAVES) * PER_OCTAVE - int((mantissa - 0.5) * (2 * PER_OCTAVE))
    if score >= 1.0:
        return _TOP + _distance(score - 1.0)
    if score <= 0.0:
        return -_distance(-score)
    raise ValueError("a score that is not a number has no bin")


def _distance(magnitude: float) -> int:
    """The bin of a distance of 0 or more; the last one holds all from 2**64 on."""
    mantissa, exponent = frexp(magnitude)
    if mantissa == 0.0 or exponent <= -OCTAVES:
        return 0
    if exponent > OCTAVES or mantissa >= 1.0:  # frexp gives infinity back as its own mantissa
        return _TOP + PER_OCTAVE
    return (exponent + OCTAVES) * PER_OCTAVE + int((mantissa - 0.5) * (2 * PER_OCTAVE))


class Curve(Trait, metrics.base.BinaryMetric):
    """Counts of positives and negatives by bin of their score; subclasses make a number of them.

    Args:
        pos_val: the class that counts as positive.

    Invariant: a state depends only on the multiset of pairs it holds and on the order in which bins were
    first touched.
    Cost: 0.5 us an update or revert; a read sorts the touched bins, about 0.2 us each.
    """

    def __init__(self, pos_val: Any = True) -> None:
        self.pos_val = pos_val
        self.positives: dict[int, int] = {}
        self.negatives: dict[int, int] = {}
        self.positive_count = 0
        self.negative_count = 0

    def works_with(self, model: base.Estimator) -> bool:
        return isinstance(model, base.Classifier | base.AnomalyDetector | base.AnomalyFilter)

    def score_of(self, y_pred: Any) -> float:
        """The positive class's probability, from a dict of all classes or as it is."""
        return y_pred.get(self.pos_val, 0.0) if isinstance(y_pred, dict) else y_pred  # type: ignore[no-any-return]  # River gives floats

    def update(self, y_true: Any, y_pred: Any, w: float = 1.0) -> None:
        """Count one pair.

        Args:
            y_true: its class.
            y_pred: probability of each class by class, or of the positive one alone, or an anomaly score.
            w: must be 1; whole counts are what makes reverting exact.

        Raises:
            ValueError: the score is not a number, or the weight is not 1.
        """
        _whole(w)
        self.add(bin_of(self.score_of(y_pred)), y_true == self.pos_val)

    def revert(self, y_true: Any, y_pred: Any, w: float = 1.0) -> None:
        """Take one pair back.

        Raises:
            ValueError: the pair was never counted.
        """
        _whole(w)
        place, positive = bin_of(self.score_of(y_pred)), y_true == self.pos_val
        counts = self.positives if positive else self.negatives
        count = counts.get(place, 0)
        if count == 0:
            raise ValueError("only a pair that was counted can be reverted")
        if count == 1:
            del counts[place]
        else:
            counts[place] = count - 1
        if positive:
            self.positive_count -= 1
        else:
            self.negative_count -= 1

    def add(self, place: int, positive: bool) -> None:
        """Count one pair whose bin is known."""
        if positive:
            self.positives[place] = self.positives.get(place, 0) + 1
            self.positive_count += 1
        else:
            self.negatives[place] = self.negatives.get(place, 0) + 1
            self.negative_count += 1

    def bins(self, *, descending: bool = False) -> list[tuple[int, int]]:
        """Positives and negatives of each touched bin, in order of score."""
        positives, negatives = self.positives, self.negatives
        places = sorted({**positives, **negatives}, reverse=descending)
        return [(positives.get(place, 0), negatives.get(place, 0)) for place in places]


class ROCAUC(Curve):
    """Area under the ROC curve: how often a positive scores higher than a negative, ties counting half.

    Returns (get): between 0 and 1; nan without both classes.
    """

    def get(self) -> float:
        pairs = 2 * self.positive_count * self.negative_count
        if pairs == 0:
            return nan
        below = ordered = 0
        for positive, negative in self.bins():
            ordered += positive * (2 * below + negative)
            below += negative
        return ordered / pairs

    def bounds(self) -> tuple[float, float]:
        """Least and greatest value that the scores themselves, not their bins, could give."""
        pairs = 2 * self.positive_count * self.negative_count
        if pairs == 0:
            return nan, nan
        below = ordered = tied = 0
        for positive, negative in self.bins():
            ordered += 2 * positive * below
            tied += 2 * positive * negative
            below += negative
        return ordered / pairs, (ordered + tied) / pairs


class AveragePrecision(Curve):
    """Average precision: the precision at each positive, from the highest score down, averaged.

    `AP = sum over thresholds of (recall - recall before) * precision`; the share of positives is what a
    random score reaches.

    Returns (get): between 0 and 1; nan without positives.
    """

    def get(self) -> float:
        if self.positive_count == 0:
            return nan
        hits = false_alarms = 0
        total = 0.0
        for positive, negative in self.bins(descending=True):
            hits += positive
            false_alarms += negative
            if positive:
                total += positive * (hits / (hits + false_alarms))
        return total / self.positive_count

    def bounds(self) -> tuple[float, float]:
        """Bounds on what the scores themselves could give.

        A positive of a bin stands after all positives above the bin, and with at most all of the bin's, and
        the negatives likewise; so its precision lies between the two quotients below.
        """
        if self.positive_count == 0:
            return nan, nan
        hits = false_alarms = 0
        least = greatest = 0.0
        for positive, negative in self.bins(descending=True):
            if positive:
                first = hits + 1
                least += positive * (first / (first + false_alarms + negative))
                hits += positive
                greatest += positive * (hits / (hits + false_alarms))
            false_alarms += negative
        return least / self.positive_count, greatest / self.positive_count


OWN_METRICS: dict[str, type] = {"ROCAUC": ROCAUC, "AveragePrecision": AveragePrecision}


def _whole(weight: float) -> None:
    if weight != 1.0:
        raise ValueError("a binned curve counts pairs and takes no weights")
