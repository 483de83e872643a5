"""Curves of scores that are all kept."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from driftline.core.metric.exact import Scores
from driftline.core.task.measure import average_precision, roc_auc


def _scores(pairs: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score for score, _ in pairs], dtype=float), np.array([truth for _, truth in pairs], dtype=bool)


def test_a_curve_counts_every_pair_of_a_positive_and_a_negative() -> None:
    rng = Random(3)
    pairs = [(rng.randrange(20) / 20, rng.random() < 0.3) for _ in range(200)]
    scores = Scores()
    scores.add(*_scores(pairs))
    curve = scores.curve()
    assert curve is not None
    yes, no = ([score for score, truth in pairs if truth is of] for of in (True, False))
    wins = sum((one > other) + (one == other) / 2 for one in yes for other in no)
    assert roc_auc(curve) == pytest.approx(wins / (len(yes) * len(no)))


def test_what_is_taken_back_was_never_there() -> None:
    """Also where it is the only one with its score, and the highest."""
    rng = Random(5)
    pairs = [(rng.randrange(50) / 50, rng.random() < 0.3) for _ in range(100)]
    wrong = [(0.99, True), (0.123, False), pairs[0]]
    plain, other = Scores(), Scores()
    plain.add(*_scores(pairs))
    other.take_back(*_scores(wrong[:1]))
    other.add(*_scores([*wrong, *pairs]))
    other.take_back(*_scores(wrong[1:]))
    first, second = plain.curve(), other.curve()
    assert first is not None
    assert second is not None
    assert (roc_auc(second), average_precision(second)) == (roc_auc(first), average_precision(first))
