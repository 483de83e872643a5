"""Inputs unlike all that was learned from: a model answers them as well, and knows nothing about them.

Each feature is looked at alone, in constant time and bounded memory. What counts as new is a number beyond those that
were learned from, by more than a tenth of their span, and a text (or truth value) that was not among them. How
surprising that is depends on how often new things have come: of n texts of which s were seen once, the next is a new
one with a probability of about (s + 1) / (n + 1), and of n numbers one beyond both ends with about 2 / (n + 1).

Source: I. J. Good, "The population frequencies of species and the estimation of population parameters", Biometrika 40
(1953); the missing mass is about the share of what was seen once.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from driftline.core.guard.base import Beyond, Case, Limit
from driftline.core.guard.familiar import Known, is_familiar
from driftline.core.output import Action, Rung
from driftline.core.pipeline import Pipeline
from driftline.core.pipeline.guard import GuardForm
from driftline.core.record import FeatureValue

MARGIN: Final = 0.1  # of the span of the numbers


def surprise(known: Known, value: FeatureValue) -> float:
    """How surprising a value is: 0 of what is familiar, else one less the probability of something as new."""
    count: int = known[0]
    if value is None or not count:
        return 0.0
    if type(value) is float or type(value) is int:
        least, most = known[1], known[2]
        if least is None:
            return 0.0
        margin = (most - least) * MARGIN
        return 0.0 if least - margin <= value <= most + margin else max(0.0, 1.0 - 2.0 / (count + 1))
    if known[3] is None or value in known[3]:
        return 0.0
    once: int = known[4]
    return max(0.0, 1.0 - (once + 1.0) / (count + 1))


class Unfamiliar(Struct, frozen=True, gc=False):
    """See `pipeline.guard.Unfamiliar`. What no model made passes: it does not depend on the features."""

    score_max: float
    names: tuple[str, ...]
    action: Action
    name: Rung = "unfamiliar"

    def beyond(self, case: Case) -> Beyond | None:
        if case.learned is None:
            return None
        if is_familiar(case.known, case.features):
            return None
        found = [surprise(known, value) for known, value in zip(case.known, case.features, strict=False)]
        most = max(found)
        if most <= self.score_max:
            return None
        return Beyond(self.score_max, most - self.score_max, self.names[found.index(most)])


def of(guard: GuardForm, pipeline: Pipeline) -> Limit | None:
    """The rung, where the pipeline declares it."""
    form = guard.unfamiliar
    return None if form is None else Unfamiliar(form.score_max, pipeline.event.names, form.action)
