"""The guard's second model beside the first, by outcomes: how far off both were where both had an answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from driftline.core.output import MODEL, SECOND, Judged, Outcome, Prediction
from driftline.core.task import TaskName, task_of

INSTEAD: Final[Mapping[str, str]] = {
    "last_good": "the last good model's prediction",
    "last_value": "the last value of the series",
    "seasonal": "the value of a season ago",
    "second_model": "the second model's prediction",
    "value": "the fixed value",
}
"""What takes the place of a prediction, in words."""
_NOTHING: Final = Prediction()


class Beside:
    """Both models' errors, on labels at which both had an answer; of forecasts at each horizon.

    Attributes:
        labels: how many; `first` and `own` are the sums of the errors there.
    """

    def __init__(self, task: TaskName) -> None:
        self._error = task_of(task).error
        self.labels = 0
        self.first = self.own = 0.0

    def add(self, outcome: Outcome, *, times: int = 1) -> None:
        """Take in an event with its label.

        Args:
            times: -1 to take it back.
        """
        label, error = outcome.label, self._error
        if label is None or error is None:
            return
        for first, own, _ in of_both(outcome):
            was, beside = error(label, first), error(label, own)
            if was is not None and beside is not None:
                self.labels += times
                self.first += times * was
                self.own += times * beside

    @property
    def means(self) -> tuple[float, float] | None:
        """The mean errors of the first model and of the second; None before there is a label."""
        return (self.first / self.labels, self.own / self.labels) if self.labels else None


def worded(labels: int, first: float, own: float) -> str:
    """How good the second model was beside the first, in words."""
    return (
        f"The second model's mean error was {own:.4g} and the first one's {first:.4g}, over {labels:,} labels of which "
        "both had an answer."
    )


def of_both(outcome: Outcome) -> Iterator[tuple[Prediction, Prediction, bool]]:
    """What the first model predicted, what the second one did, and whether that was served: where both did."""
    if outcome.judged is not None:
        for first, own, stood_in in ahead_of(outcome.judged):
            yield Prediction(value=first), Prediction(value=own), stood_in
        return
    made, served = {one.name: one.prediction for one in outcome.unserved}, outcome.prediction or _NOTHING
    first_made = made.get(MODEL, served)
    if SECOND in made and _NOTHING not in (first_made, made[SECOND]):
        yield first_made, made[SECOND], MODEL in made and served == made[SECOND]


def ahead_of(judged: Judged) -> Iterator[tuple[float, float, bool]]:
    """What the first model forecast of an observation, what the second one did, and whether that was served: by
    horizon, where both did."""
    made, rungs = judged.made or judged.values, judged.rungs or [""] * len(judged.values)
    for value, unserved, rung, own in zip(judged.values, made, rungs, judged.second, strict=False):
        first = unserved if rung else value
        if first is not None and own is not None:
            yield first, own, bool(rung) and value == own
