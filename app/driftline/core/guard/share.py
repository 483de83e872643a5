"""Too many yes at once: a model that suddenly blocks every card is broken, however each prediction looks by itself."""

from __future__ import annotations

from math import nextafter

from msgspec import Struct

from driftline.core.guard.base import Beyond, Case, Limit
from driftline.core.output import Action, Rung
from driftline.core.pipeline import Pipeline
from driftline.core.pipeline.guard import GuardForm

EVEN = nextafter(0.5, 1.0)  # of equals, no
EVENTS_MIN = 100  # in the window, before a share says anything


class Share(Struct, frozen=True, gc=False):
    """See `pipeline.guard.Positives`. Of predictions in the window, this one included, whatever was served of them.

    Args:
        threshold: from which a value is a yes.
    """

    most: float
    threshold: float
    action: Action
    name: Rung = "share"

    def beyond(self, case: Case) -> Beyond | None:
        value = case.value
        if value is None or value < self.threshold:
            return None
        positives, events = case.crowd
        if events < EVENTS_MIN:
            return None
        excess = positives / events - self.most
        return Beyond(self.most, excess) if excess > 0 else None


def of(guard: GuardForm, pipeline: Pipeline) -> Limit | None:
    """The rung, where the pipeline declares it."""
    form = guard.share
    if form is None:
        return None
    threshold = None if pipeline.decision is None else pipeline.decision.threshold
    return Share(form.positive_max, EVEN if threshold is None else threshold, form.action)
