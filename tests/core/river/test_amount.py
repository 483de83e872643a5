"""Numbers that spread over several sizes."""

from __future__ import annotations

from math import expm1, inf, log1p, nan
from typing import Any

import pytest
from river import base, dummy, stats

from driftline.core.river.amount import Logarithms, LogTargetRegressor


class Answers(base.Regressor):
    """Answers as told, and keeps what it learned."""

    def __init__(self, answer: float | None) -> None:
        self.answer = answer
        self.learned: list[float] = []

    def learn_one(self, x: dict[Any, Any], y: float) -> None:
        self.learned.append(y)

    def predict_one(self, x: dict[Any, Any]) -> float | None:  # type: ignore[override]  # no answer is one too
        return self.answer


def test_it_learns_logarithms_and_answers_in_the_unit_of_the_label() -> None:
    model = LogTargetRegressor(dummy.StatisticRegressor(stats.Mean()))
    for label in (1.0, 10.0, 100.0):
        model.learn_one({}, label)
    assert model.predict_one({}) == pytest.approx(expm1((log1p(1) + log1p(10) + log1p(100)) / 3))


def test_labels_below_zero_keep_their_sign() -> None:
    inner = Answers(-log1p(5.0))
    model = LogTargetRegressor(inner)
    model.learn_one({}, -8.0)
    assert inner.learned == [-log1p(8.0)]
    assert model.predict_one({}) == pytest.approx(-5.0)


@pytest.mark.parametrize(("answer", "served"), [(9_000.0, 40.0), (-9_000.0, -40.0), (inf, 40.0), (None, None)])
def test_no_answer_goes_beyond_the_labels(answer: float | None, served: float | None) -> None:
    model = LogTargetRegressor(Answers(answer))
    for label in (40.0, 3.0, -7.0):
        model.learn_one({}, label)
    assert model.predict_one({}) == (None if served is None else pytest.approx(served))


def test_what_is_no_number_stays_so() -> None:
    answer = LogTargetRegressor(Answers(nan)).predict_one({})
    assert answer is not None
    assert answer != answer


def test_features_become_logarithms_and_keep_their_sign() -> None:
    assert Logarithms().transform_one({"a": 0, "b": expm1(2), "c": -expm1(3)}) == pytest.approx(
        {"a": 0, "b": 2, "c": -3}
    )
