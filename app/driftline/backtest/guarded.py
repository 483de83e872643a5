"""What the guard saved and what it cost, by the labels that came: the error of what the model predicted beside the
error of what was served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from msgspec import Struct

from driftline.core.fold.learning import HELD
from driftline.core.guard.beside import of_both
from driftline.core.output import Judged, Outcome, Prediction
from driftline.core.output import Rung as RungName
from driftline.core.pipeline import Pipeline
from driftline.core.record import LabelValue
from driftline.core.task import task_of
from driftline.core.task.base import ErrorOf


class Rung(Struct, frozen=True):
    """One rung of the guard.

    Args:
        actions: how often it tripped, by action.
        replaced: labelled events where another value was served (of forecasts: observations, one for each horizon);
            `model_error` and `served_error` are the mean errors on them of what the model predicted and of what was
            served, `saved` and `cost` the sums by which the served one was better, and worse.
        withheld: labelled events where nothing was served; `withheld_error` is the model's mean error on them.
    """

    name: str
    actions: dict[str, int]
    replaced: int
    model_error: float | None
    served_error: float | None
    saved: float
    cost: float
    withheld: int
    withheld_error: float | None


class Beside(Struct, frozen=True):
    """The guard's second model, beside the first one.

    Args:
        served: how often it was served.
        labels: labelled events of which both had predicted something; `model_error` and `second_error` are the mean
            errors of the first one and of the second on all of them, whatever was served.
        replaced: those of them where it was served; `replaced_error` is its mean error there.
    """

    served: int
    labels: int
    model_error: float | None
    second_error: float | None
    replaced: int
    replaced_error: float | None


class Quarantined(Struct, frozen=True):
    """What the learning guard did.

    Args:
        opened: how often labels became suspect.
        held: pairs that were held back from learning, `undone` those of them that had been learned before.
        released, dropped, withdrawn: of them, what was decided, or that their label was corrected or retracted; the
            others still waited at the end.
        labels: that came while labels were suspect, and were held; `held_error` and `other_error` are the mean errors
            of what was served, on those and on all others.
    """

    opened: int
    held: int
    undone: int
    released: int
    dropped: int
    withdrawn: int
    labels: int
    held_error: float | None
    other_error: float | None


class Held:
    """Errors on labels that were held back from learning, and on all others; those of partitions can be added up."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._error = task_of(pipeline.task).error
        self.sums = [0.0, 0.0, 0.0, 0.0]  # held: count, error; others: count, error

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Take in events that have their label."""
        if self._error is None:
            return
        for outcome in outcomes:
            if outcome.label is None or outcome.prediction is None or outcome.prediction == _NOTHING:
                continue
            error = self._error(outcome.label, outcome.prediction)
            if error is not None:
                place = 0 if outcome.detail == HELD else 2
                self.sums[place] += 1.0
                self.sums[place + 1] += error

    def merge(self, other: Held) -> None:
        """Add another partition's."""
        self.sums = [one + more for one, more in zip(self.sums, other.sums, strict=True)]

    def report(self, counts: Mapping[str, int]) -> Quarantined | None:
        """What was done; None where labels never were suspect.

        Args:
            counts: of the shard.
        """
        done = {name: counts.get(f"quarantine_{name}", 0) for name in _DONE}
        if not any(done.values()):
            return None
        labels, held, others, other = self.sums
        return Quarantined(
            **done, labels=int(labels), held_error=held / labels if labels else None,
            other_error=other / others if others else None,
        )  # fmt: skip


class Guarded:
    """Sums of errors by rung; those of several partitions can be added up."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._error = task_of(pipeline.task).error
        self._second = pipeline.second is not None
        self.beside = [0.0] * 5  # both answered, the first one's error, the second one's; served, its error there
        self.sums: dict[str, list[float]] = {}  # replaced, the model's error, what was served, saved, cost; withheld

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Take in events that have their label."""
        error = self._error
        for outcome in outcomes:
            if outcome.judged is not None and outcome.judged.rungs and error is not None:
                self._add_ahead(outcome.label, outcome.judged, error)
            if self._second and error is not None and outcome.label is not None:
                self._add_second(outcome, outcome.label, error)
            for made in outcome.unserved:
                if made.rung and error is not None and outcome.label is not None and made.prediction != _NOTHING:
                    was = error(outcome.label, made.prediction)
                    unserved = outcome.prediction is None or outcome.prediction == _NOTHING
                    became = None if unserved else error(outcome.label, outcome.prediction or _NOTHING)
                    if was is not None:
                        self._add(made.rung, was, became)

    def _add_second(self, outcome: Outcome, label: LabelValue, error: ErrorOf) -> None:
        for first, own, stood_in in of_both(outcome):
            was, beside = error(label, first), error(label, own)
            if was is not None and beside is not None:
                more = (1.0, was, beside, float(stood_in), beside if stood_in else 0.0)
                self.beside = [one + another for one, another in zip(self.beside, more, strict=True)]

    def _add_ahead(self, label: LabelValue | None, judged: Judged, error: ErrorOf) -> None:
        """Take in the forecasts of an observation, each horizon by itself."""
        for rung, made, value in zip(judged.rungs, judged.made, judged.values, strict=True):
            if rung and made is not None and (was := error(label, Prediction(value=made))) is not None:
                self._add(rung, was, None if value is None else error(label, Prediction(value=value)))

    def _add(self, rung: str, was: float, became: float | None) -> None:
        sums = self.sums.setdefault(rung, [0.0] * 7)
        if became is None:
            more = (0.0, 0.0, 0.0, 0.0, 0.0, 1.0, was)
        else:
            more = (1.0, was, became, max(0.0, was - became), max(0.0, became - was), 0.0, 0.0)
        for place, value in enumerate(more):
            sums[place] += value

    def merge(self, other: Guarded) -> None:
        """Add another partition's."""
        self.beside = [one + more for one, more in zip(self.beside, other.beside, strict=True)]
        for rung, sums in other.sums.items():
            ours = self.sums.setdefault(rung, [0.0] * 7)
            for place, value in enumerate(sums):
                ours[place] += value

    def second(self, counts: Mapping[str, int]) -> Beside | None:
        """How good the second model was; None where there is none.

        Args: as of `rungs`.
        """
        if not self._second:
            return None
        labels, was, beside, replaced, there = self.beside
        return Beside(
            counts.get("instead_second_model", 0), int(labels), was / labels if labels else None,
            beside / labels if labels else None, int(replaced), there / replaced if replaced else None,
        )  # fmt: skip

    def rungs(self, counts: Mapping[str, int]) -> list[Rung]:
        """Every rung that tripped.

        Args:
            counts: of the shard.
        """
        actions: dict[str, dict[str, int]] = {}
        for what, count in sorted(counts.items()):
            if what.startswith("guard_"):
                _, rung, action = what.split("_", 2)
                actions.setdefault(rung, {})[action] = count
        made = []
        for name in sorted({*actions, *self.sums}, key=lambda one: _ORDER.index(one) if one in _ORDER else len(_ORDER)):
            replaced, was, became, saved, cost, withheld, lost = self.sums.get(name, [0.0] * 7)
            made.append(
                Rung(
                    name,
                    actions.get(name, {}),
                    int(replaced),
                    was / replaced if replaced else None,
                    became / replaced if replaced else None,
                    saved,
                    cost,
                    int(withheld),
                    lost / withheld if withheld else None,
                )
            )
        return made


_NOTHING = Prediction()
_DONE = ("opened", "held", "undone", "released", "dropped", "withdrawn")
_ORDER = get_args(RungName)
