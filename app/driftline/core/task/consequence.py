"""What a prediction came to once its truth is known: the kinds of decision that a KPI prices, by task.

A size goes with each: 1 for a decision, the distance from the truth for a number, the reward for a slate. What a model
with probabilities says of the kinds before the truth is known is what an estimate is made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import fsum, isfinite
from typing import Any, Final, TypeAlias

from driftline.core.output import Prediction
from driftline.core.slate import read_feedback

Came: TypeAlias = tuple[str, float]
"""A kind of decision, and its size."""


@dataclass(frozen=True)
class Consequences:
    """The kinds of decision of a task.

    Args:
        kinds: by name.
        per: what a price is for, as text.
        of: the kind and size of one, given the truth, the prediction that was served and whether it was decided as
            yes (None where the task, or this prediction, has no decision); None where nothing was served.
        likely: the kinds that it may turn out to be, each with its probability; None where the model does not say.
    """

    kinds: tuple[str, ...]
    per: str
    of: Callable[[Any, Prediction, bool | None], Came | None]
    likely: Callable[[Prediction, bool | None], tuple[Came, ...] | None]


def _unknown(prediction: Prediction, decision: bool | None) -> None:
    """There is no estimate before the truth is known."""


def _of_two(y_true: Any, prediction: Prediction, decision: bool | None) -> Came | None:
    if decision is None:
        return None
    if y_true:
        return ("true_positive" if decision else "false_negative"), 1.0
    return ("false_positive" if decision else "true_negative"), 1.0


def _likely_of_two(prediction: Prediction, decision: bool | None) -> tuple[Came, ...] | None:
    probability = prediction.value
    if decision is None or probability is None:
        return None
    if decision:
        return ("true_positive", probability), ("false_positive", 1.0 - probability)
    return ("false_negative", probability), ("true_negative", 1.0 - probability)


def _of_class(y_true: Any, prediction: Prediction, decision: bool | None) -> Came | None:
    if prediction.label is None:
        return None
    return ("right" if prediction.label == y_true else "wrong"), 1.0


def _likely_of_class(prediction: Prediction, decision: bool | None) -> tuple[Came, ...] | None:
    shares, label = prediction.probabilities, prediction.label
    if label is None or not shares or label not in shares:
        return None
    return ("right", shares[label]), ("wrong", 1.0 - shares[label])


def _of_number(y_true: Any, prediction: Prediction, decision: bool | None) -> Came | None:
    if prediction.value is None:
        return None
    error = prediction.value - y_true
    if not isfinite(error):
        return None
    return ("over", error) if error > 0 else ("under", -error)


def _of_slate(y_true: Any, prediction: Prediction, decision: bool | None) -> Came | None:
    return None if not prediction.probabilities else ("reward", fsum(read_feedback(y_true).rewards.values()))


OF_TWO: Final = Consequences(
    ("true_positive", "false_positive", "false_negative", "true_negative"), "a decision", _of_two, _likely_of_two
)
OF_SCORES: Final = Consequences(OF_TWO.kinds, OF_TWO.per, _of_two, _unknown)
"""As `OF_TWO`, of scores that are no probabilities."""
OF_CLASSES: Final = Consequences(("right", "wrong"), "a decision", _of_class, _likely_of_class)
OF_NUMBERS: Final = Consequences(("over", "under"), "a unit of difference", _of_number, _unknown)
OF_SLATES: Final = Consequences(("reward",), "a unit of reward", _of_slate, _unknown)
