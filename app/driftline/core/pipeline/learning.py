"""What is learned, as a pipeline file declares it: labels that contradict the model, and alerts that stop learning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, WithJsonSchema, model_serializer

from driftline.core.error import Problem
from driftline.core.notation import Count, Duration
from driftline.core.pipeline.feature import Form
from driftline.core.pipeline.kind import AlertKind
from driftline.core.task import find_task
from driftline.core.task.base import Task

ERROR_RATE: Final = 1e-7
_KINDS: Final = get_args(AlertKind)


class QuarantineForm(Form):
    """What is done with labels that contradict the model far more often than usual."""

    action: Literal["none", "alert", "hold"] = Field(
        default="alert",
        description="alert: learn them all the same; hold: do not learn them, nor what was learned since the burst "
        "began, until a person or the deadline decides; none: do not test labels",
    )
    wait_ms: Annotated[Duration, Field(ge=1)] = Field(
        default=86_400_000,
        alias="wait",
        description="how long pairs are held, in event time; after that, labels that are still suspect count as usual",
    )
    then: Literal["drop", "learn"] = Field(
        default="drop", description="if no one decides in time, or `max` pairs are held: drop them all, or learn them"
    )
    held_max: Count = Field(default=10_000, alias="max", description="most pairs that are held, per shard")
    error_rate: Annotated[float, Field(ge=1e-12, le=0.01)] = Field(
        default=ERROR_RATE, description="false alarms per label, at most, while the stream does not change"
    )


def _read_quarantine(value: object) -> object:
    return {"action": value} if isinstance(value, str) else value


def _read_kinds(value: object) -> object:
    return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, str) else value


class LearningForm(Form):
    """What is learned, and when."""

    quarantine: Annotated[QuarantineForm, BeforeValidator(_read_quarantine)] = Field(
        default=QuarantineForm(),
        description="labels that contradict the model far more often than usual: none, alert, hold, or a mapping",
    )
    freeze_on: Annotated[
        tuple[AlertKind, ...],
        BeforeValidator(_read_kinds),
        WithJsonSchema({"anyOf": [{"enum": list(_KINDS)}, {"type": "array", "items": {"enum": list(_KINDS)}}]}),
    ] = Field(default=(), description="kinds of alert: the model does not learn while one of them is open")

    @model_serializer(mode="wrap")
    def _short(self, write: SerializerFunctionWrapHandler) -> Any:
        """Without the quarantine, where the default is meant: it is for some tasks only."""
        written = write(self)
        if self.quarantine == QuarantineForm():
            del written["quarantine"]
        return written


def check_learning(draft: Mapping[str, Any], _: Any = None) -> Iterator[Problem]:
    """Every fault of the section."""
    form: LearningForm | None = draft.get("learning")
    if form is None:
        return
    quarantine, task = form.quarantine, find_task(draft.get("task"))
    asked = quarantine not in (QuarantineForm(), QuarantineForm(action="none"))
    if task is not None and asked and not tests_labels(task):
        yield Problem("learning.quarantine", quarantine.action, f"is for classes; write none for task {task.name}")
    if quarantine.action != "hold" and quarantine.then != "drop":
        yield Problem("learning.quarantine.then", quarantine.then, "is for action: hold; add that, or remove this")
    for kind in form.freeze_on:
        place = "learning.freeze_on"
        if form.freeze_on.count(kind) > 1:
            yield Problem(place, kind, "is listed twice")
        elif kind == "model_change":
            yield Problem(place, kind, "is over as soon as it is reported, so it would never stop learning; remove it")
        elif kind == "quarantine" and quarantine.action == "hold":
            yield Problem(place, kind, "stops the learning of pairs that are released; quarantine holds them already")


def tests_labels(task: Task) -> bool:
    """Whether the labels of a task can be tested: they are classes, of one prediction each."""
    return task.classes and task.supervised and not task.slates
