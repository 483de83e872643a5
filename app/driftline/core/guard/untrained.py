"""A model that has learned next to nothing answers all the same: a logistic regression says .5, a tree 0."""

from __future__ import annotations

from msgspec import Struct

from driftline.core.guard.base import Beyond, Case, Limit
from driftline.core.output import Action, Rung
from driftline.core.pipeline import Pipeline
from driftline.core.pipeline.guard import GuardForm


class Untrained(Struct, frozen=True, gc=False):
    """See `pipeline.guard.Untrained`. What no model made passes."""

    labels_min: int
    action: Action
    name: Rung = "untrained"

    def beyond(self, case: Case) -> Beyond | None:
        learned = case.learned
        if learned is None or learned >= self.labels_min:
            return None
        return Beyond(self.labels_min, learned - self.labels_min)


def of(guard: GuardForm, pipeline: Pipeline) -> Limit | None:
    """The rung, where the pipeline declares it."""
    form = guard.untrained
    return None if form is None else Untrained(form.labels_min, form.action)
