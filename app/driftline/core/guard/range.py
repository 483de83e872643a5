"""Values that cannot be: a negative demand, a price of a million, a certainty of 1."""

from __future__ import annotations

from math import inf

from msgspec import Struct

from driftline.core.guard.base import Beyond, Case, Limit
from driftline.core.output import Action, Rung
from driftline.core.pipeline import Pipeline
from driftline.core.pipeline.guard import GuardForm


class Range(Struct, frozen=True, gc=False):
    """See `pipeline.guard.Range`. Where nothing is predicted there is nothing to limit."""

    least: float
    most: float
    action: Action
    name: Rung = "range"

    def beyond(self, case: Case) -> Beyond | None:
        value = case.value
        if value is None:
            return None
        if value > self.most:
            return Beyond(self.most, value - self.most)
        if value < self.least:
            return Beyond(self.least, value - self.least)
        return None


def of(guard: GuardForm, pipeline: Pipeline) -> Limit | None:
    """The rung, where the pipeline declares it."""
    form = guard.range
    if form is None:
        return None
    return Range(-inf if form.min is None else form.min, inf if form.max is None else form.max, form.action)
