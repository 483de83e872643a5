"""Every score with its label, packed, so that the curves of a backtest or a digest are exact.

Nine bytes a label: a float and a truth value. Beyond `LABELS_MAX` labels of one candidate nothing is kept any more:
then a backtest's curves come from bins (`core.river.curve`), as in each of its parts (its report says so), and a
digest has none.
"""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

TAKEN_BACK = 2  # added to the truth of a label that is taken back
LABELS_MAX = 5_000_000  # 45 MB a candidate


class Scores:
    """The scores of one candidate.

    Attributes:
        count: labels with a score, kept or not; one that was taken back counts twice.
    """

    def __init__(self) -> None:
        self.count = 0
        self._scores = array("d")
        self._positive = bytearray()

    @property
    def whole(self) -> bool:
        """Whether all are here."""
        return len(self._positive) == self.count

    def add(self, scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> None:
        """Take in scores, none of them NaN, and whether each was of a positive."""
        self._take(len(scores), scores.astype(np.float64).tobytes(), positive.astype(np.uint8).tobytes())

    def take_back(self, scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> None:
        """Labels that were added were none, or others."""
        truths = positive.astype(np.uint8) + TAKEN_BACK
        self._take(len(scores), scores.astype(np.float64).tobytes(), truths.astype(np.uint8).tobytes())

    def merge(self, other: Scores) -> None:
        """Add another partition's."""
        if other.whole:
            self._take(other.count, other._scores.tobytes(), other._positive)
        else:
            self._let_go(self.count + other.count)

    def _take(self, count: int, scores: bytes, positive: bytes | bytearray) -> None:
        total = self.count + count
        if not self.whole or total > LABELS_MAX:
            self._let_go(total)
            return
        self.count = total
        self._scores.frombytes(scores)
        self._positive += positive

    def _let_go(self, total: int) -> None:
        self.count, self._scores, self._positive = total, array("d"), bytearray()

    def curve(self) -> NDArray[np.int64] | None:
        """Negatives and positives by score, one column for each score that occurs, in rising order.

        Returns:
            What `measure.roc_auc` and `measure.average_precision` take; None where some are not here.

        Cost: sorts; 0.5 s and 100 bytes a label for a moment at five million.
        """
        if not self.whole:
            return None
        scores = np.frombuffer(self._scores, np.float64)
        order = np.argsort(scores)
        ordered = scores[order]
        truths = np.frombuffer(self._positive, np.uint8)[order].astype(np.int64)
        times = np.where(truths < TAKEN_BACK, 1, -1)
        positive = truths % TAKEN_BACK * times
        first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(ordered) else order
        if not len(first):
            return np.zeros((2, 0), dtype=np.int64)
        positives = np.add.reduceat(positive, first)
        counts = np.add.reduceat(times, first)
        return np.stack([counts - positives, positives])
