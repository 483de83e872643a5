"""What a label means to the model: a boolean, a class or a number, by the pipeline's task."""

from __future__ import annotations

from driftline.core.pipeline import LabelForm, Pipeline
from driftline.core.record import LabelValue
from driftline.core.task import task_of
from driftline.core.task.label import TargetError, shown

__all__ = ["Target", "TargetError", "shown"]


class Target:
    """Reads labels for one pipeline.

    Args:
        form: the pipeline's label section.
        pipeline: says the task and the limits.
    """

    def __init__(self, form: LabelForm, pipeline: Pipeline) -> None:
        self._missing = form.missing
        self.read = task_of(pipeline.task).labels.reader(form, pipeline.limits)

    @property
    def assumed(self) -> LabelValue | None:
        """What an event is taken to be when no label came; None to drop it."""
        return None if self._missing == "drop" else self.read(self._missing.assume)
