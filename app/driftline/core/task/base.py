"""What the rest of Driftline asks of a task.

A task is data and pure functions; every field is required, so a task that says nothing of one does not type-check.
Parts that tasks share stand beside this file: kinds of labels (`label`), predictions of classes and of numbers
(`predict`), and what is counted of many predictions (`measure`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from driftline.core.output import Prediction
from driftline.core.record import LabelValue
from driftline.core.task import TaskName
from driftline.core.task.consequence import Consequences
from driftline.core.task.label import LabelKind
from driftline.core.task.predict import MakePredictor
from driftline.core.task.seen import Seen, Target

if TYPE_CHECKING:
    from driftline.core.task.measure import Measure

ErrorOf: TypeAlias = Callable[[Any, Prediction], float | None]


@dataclass(frozen=True)
class Models:
    """Which of River's models fit a task.

    Args:
        wants: what the last step must be, as text, with an example.
        suits: whether the last step is of that kind.
        refuses: why a model of that kind cannot be used all the same; None where it can.
    """

    wants: str
    suits: Callable[[Any], bool]
    refuses: Callable[[Any], str | None]


@dataclass(frozen=True)
class Words:
    """How a prediction of the task is called.

    Args:
        score, scores: one that is not a class, with its article, and several of them.
        moved: what happened to them: `True` where they rose; ends where the figures follow.
    """

    score: str
    scores: str
    moved: Callable[[bool], str]


@dataclass(frozen=True)
class Draft:
    """What `driftline init` writes for the task.

    Args:
        looks: whether a field without a stated task looks like a label of this one; asked in the order of `TASK_NAMES`.
        look: what is reported about the label. Raises `ProfileError` where it can be none.
        prose: whether free text can be learned from, as counted words.
        numbers_only: texts cannot be learned from at all.
        note: a sentence about the model.
        model: an expression that takes all features as they are; None: they are encoded by kind for a linear model.
        head: the last step of such a model, with `{}` in place of the linear one.
        threshold: a decision's, as a suggestion; None where the task has none.
        metrics: what to list, given the share of the rarer class (0 where there is none) and whether there are labels.
    """

    looks: Callable[[Seen], bool]
    look: Callable[[Seen], Target]
    prose: bool
    numbers_only: bool
    note: str
    model: str | None
    head: str
    threshold: str | None
    metrics: Callable[[float, bool], tuple[str, ...]]


@dataclass(frozen=True)
class Naive:
    """A model that has learned nothing of the features: its expression, and what it says, as text."""

    model: str
    name: str


@dataclass(frozen=True)
class Task:
    """One task.

    Args:
        labels: of which kind labels are.
        classes: the prediction is a class, with probabilities where the model has them; else it is a number.
        probability: `Prediction.value` is the probability of yes.
        decides: a threshold on `Prediction.value` makes a decision of it.
        models: which of River's models fit.
        predictor: makes the function from values to a prediction.
        error: of a served prediction, for detectors; None without an answer. A task of classes gives 0 or 1, others a
            number of 0 or more. The task has no error where this is None: then it needs no labels and learns from
            events, as they are served.
        watched: what a detector of scores sees of a prediction; None where it sees nothing.
        metrics: of a pipeline that names none, as expressions.
        refuses_metric: why predictions of the task cannot be measured by a metric of River's; None where they can.
        make_measure: what a backtest counts, and what its report shows.
        consequences: the kinds of decision that a KPI prices.
        words: of predictions.
        draft: what `driftline init` writes.
        naive: what `driftline backtest --naive` compares with; None where there is no such model.
        synthetic: a label for the proof of determinism, made of a signal of the features, and of the label that the
            pipeline assumes where none comes.
        slates: it answers a request with several items, and their rewards are gathered until the wait is over; the
            pipeline has a section `recommend`, and its model is put into a `Recommender`.
        ahead: the truth about what is predicted is a later event: there are no labels, and the pipeline has a section
            `forecast`.
    """

    name: TaskName
    labels: LabelKind
    classes: bool
    probability: bool
    decides: bool
    models: Models
    predictor: MakePredictor
    error: ErrorOf | None
    watched: Callable[[Prediction], float | None]
    metrics: tuple[str, ...]
    refuses_metric: Callable[[Any], str | None]
    make_measure: Callable[[], Measure]
    consequences: Consequences
    words: Words
    draft: Draft
    naive: Naive | None
    synthetic: Callable[[float, LabelValue | None], LabelValue]
    slates: bool = False
    ahead: bool = False

    @property
    def judged(self) -> bool:
        """Whether its predictions can be wrong."""
        return self.error is not None

    @property
    def supervised(self) -> bool:
        """Whether it learns from labels, when they come; else from events, when they are served."""
        return self.judged and not self.ahead

    @property
    def measure(self) -> Measure:
        return self.make_measure()

    @property
    def learns_from(self) -> str:
        return "labels" if self.supervised else "events"


def nothing(_: Any) -> None:
    """No objection."""


def wrong_class(y_true: LabelValue, prediction: Prediction) -> float:
    """1 where the served class is not the label, 0 where it is; none served counts as wrong."""
    return 0 if prediction.label == y_true else 1


def value_of(prediction: Prediction) -> float | None:
    return prediction.value


def foreign_metric(name: TaskName, usual: tuple[str, ...]) -> str:
    return f"is not a metric for task {name}; common ones are {', '.join(usual)}"


def higher(scores: str) -> Callable[[bool], str]:
    """How numbers move, as text."""
    return lambda rises: f"given {'higher' if rises else 'lower'} {scores}: "
