"""Tasks: what a pipeline predicts. Each is one object in a file of its own; nothing outside this package knows their
names.

To add a task: write its file, a `Task` with every field filled in, and name it here (`TaskName`, `task_of`). Everything
else asks the object: `task_of(pipeline.task).labels`, `.predictor`, `.measure` and so on (`base` says what there is).
Ask once, where something is built, and not at every record.

The names alone load nothing but this file, and a task's file neither River nor numpy: `--help` lists tasks, and
`status` reads pipeline files. What needs those two imports them where it is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Literal, TypeAlias, assert_never, get_args

if TYPE_CHECKING:
    from driftline.core.task.base import Task

TaskName: TypeAlias = Literal["binary", "multiclass", "regression", "anomaly", "recommend", "forecast"]
TASK_NAMES: tuple[TaskName, ...] = get_args(TaskName)
UNLABELLED: TaskName = "anomaly"
"""The task of data in which nothing is to be predicted."""
SLATES: TaskName = "recommend"
"""The task that answers with several items, and its section of the pipeline file."""


@cache
def task_of(name: TaskName) -> Task:
    """The task of this name."""
    match name:
        case "binary":
            from driftline.core.task.binary import BINARY

            return BINARY
        case "multiclass":
            from driftline.core.task.multiclass import MULTICLASS

            return MULTICLASS
        case "regression":
            from driftline.core.task.regression import REGRESSION

            return REGRESSION
        case "anomaly":
            from driftline.core.task.anomaly import ANOMALY

            return ANOMALY
        case "recommend":
            from driftline.core.task.recommend import RECOMMEND

            return RECOMMEND
        case "forecast":
            from driftline.core.task.forecast import FORECAST

            return FORECAST
    assert_never(name)


def tasks() -> Iterator[Task]:
    """All tasks, in the order in which they are listed to a user."""
    return map(task_of, TASK_NAMES)


def find_task(given: object) -> Task | None:
    """The task that a document names, which may name anything; None where there is no such task."""
    return task_of(given) if isinstance(given, str) and given in TASK_NAMES else None
