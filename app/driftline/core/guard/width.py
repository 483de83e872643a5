"""An interval so wide that its forecast says nothing: no one should order by it."""

from __future__ import annotations

from math import inf

from msgspec import Struct

from driftline.core.guard.base import Beyond, Case, Limit
from driftline.core.output import Action, Rung
from driftline.core.pipeline import Pipeline
from driftline.core.pipeline.guard import GuardForm


class Width(Struct, frozen=True, gc=False):
    """See `pipeline.guard.Width`. Where there is no interval there is nothing to limit."""

    most: float
    ratio: float
    tolerance: float
    action: Action
    name: Rung = "width"

    def beyond(self, case: Case) -> Beyond | None:
        width, value = case.width, case.value
        if width is None or value is None or width <= self.tolerance:
            return None
        most = self.most if self.ratio == inf else min(self.most, max(self.ratio * abs(value), self.tolerance))
        return Beyond(most, width - most) if width > most else None


def of(guard: GuardForm, pipeline: Pipeline) -> Limit | None:
    """The rung, where the pipeline declares it."""
    form = guard.width
    if form is None:
        return None
    most, ratio = form.max, form.ratio_max
    return Width(inf if most is None else most, inf if ratio is None else ratio, form.tolerance, form.action)
