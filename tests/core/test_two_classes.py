"""What is served of the probabilities of two classes, in whatever order and of whatever kind a model gives them."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from typing import Any

import pytest
from river import tree

from driftline.core.output import Prediction
from driftline.core.task.predict import two_classes


class Says:
    """A model that says these probabilities."""

    def __init__(self, probabilities: dict[Any, Any]) -> None:
        self._probabilities = probabilities

    def ask(self, method: str) -> Callable[[Any], Any]:
        return lambda values: self._probabilities

    def probability(self) -> None:
        return None


def served(probabilities: dict[Any, Any], threshold: float | None = None) -> Prediction | None:
    return two_classes(Says(probabilities), tree.HoeffdingTreeClassifier(), threshold, True)(())


@pytest.mark.parametrize(
    ("probabilities", "label"),
    [
        ({False: 0.25, True: 0.75}, True),
        ({False: 0.75, True: 0.25}, False),
        ({False: 0.5, True: 0.5}, False),  # of equals the first
        ({True: 0.5, False: 0.5}, True),
        ({0: 0.25, 1: 0.75}, 1),
        ({False: 0, True: 1}, True),
        ({False: 0.25, True: 0.75, "x": 0.0}, True),
        ({True: 1.0}, True),
    ],
)
def test_the_likeliest_is_served_and_of_equals_the_first(probabilities: dict[Any, Any], label: Any) -> None:
    found = served(probabilities)
    assert found is not None
    assert found.label is label
    shares = {name: float(share) for name, share in probabilities.items()}
    assert repr(found.probabilities) == repr(shares)
    assert found.probabilities is not probabilities  # which the model may go on to change
    assert repr(found.value) == repr(shares[True])


@pytest.mark.parametrize(("of_true", "label"), [(0.7, True), (0.6, True), (0.5999, False)])
def test_a_threshold_decides(of_true: float, label: bool) -> None:
    for probabilities in ({False: 1 - of_true, True: of_true}, {True: of_true, False: 1 - of_true}):
        found = served(probabilities, 0.6)
        assert found is not None
        assert found.label is label
        assert found.value == of_true


@pytest.mark.parametrize("share", [nan, inf, -0.1, 1.1])
def test_what_is_no_probability_is_not_served(share: float) -> None:
    assert served({False: share, True: 0.5}) is None
    assert served({False: 0.5, True: share}) is None
