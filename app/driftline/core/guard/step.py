"""A jump from one prediction of a series to the next.

The last value that was accepted says where the series is; so does its last label, which is what lets a series move to
another level: without it, every prediction of the new level would be too far from the last one that passed.
"""

from __future__ import annotations

from math import inf

from msgspec import Struct

from driftline.core.guard.base import Beyond, Case, Limit
from driftline.core.output import Action, Rung
from driftline.core.pipeline import Pipeline
from driftline.core.pipeline.guard import GuardForm


class Step(Struct, frozen=True, gc=False):
    """See `pipeline.guard.Step`. Fallbacks that no model made pass: they are no jump of a model."""

    ratio: float
    difference: float
    tolerance: float
    action: Action
    name: Rung = "step"

    def beyond(self, case: Case) -> Beyond | None:
        value, nearest = case.value, None
        if value is None or case.learned is None:
            return None
        tolerance, difference, ratio = 0.0 if case.moved else self.tolerance, self.difference, self.ratio
        for last in case.near:
            if last is None:
                tolerance = self.tolerance
                continue
            if last - tolerance <= value <= last + tolerance:
                return None
            if last - difference <= value <= last + difference:  # `near`, without a call
                if ratio == inf:
                    return None
                one, other = last * ratio, last / ratio
                if one <= value <= other or other <= value <= one:
                    return None
            found = self._beyond(value, last, tolerance)
            tolerance = self.tolerance
            if found is None:
                return None
            if nearest is None or abs(found.excess) < abs(nearest.excess):
                nearest = found
        return nearest

    def near(self, value: float, last: float, tolerance: float | None = None, /) -> bool:
        """Whether a value is within the limits of another.

        Args:
            tolerance: where it is not that of the limits.
        """
        difference, ratio = self.difference, self.ratio
        if tolerance is None:
            tolerance = self.tolerance
        if last - tolerance <= value <= last + tolerance:
            return True
        if not last - difference <= value <= last + difference:
            return False
        if ratio == inf:
            return True
        one, other = last * ratio, last / ratio
        return one <= value <= other or other <= value <= one

    def _beyond(self, value: float, last: float, tolerance: float) -> Beyond | None:
        """From one of the series' last values."""
        low, high = -inf, inf
        if self.ratio < inf:
            low, high = sorted((last * self.ratio, last / self.ratio))
        low, high = max(low, last - self.difference), min(high, last + self.difference)
        low, high = min(low, last - tolerance), max(high, last + tolerance)
        if value > high:
            return Beyond(high, value - high)
        return Beyond(low, value - low) if value < low else None


def of(guard: GuardForm, pipeline: Pipeline) -> Limit | None:
    """The rung, where the pipeline declares it."""
    form = guard.step
    if form is None:
        return None
    ratio, difference = form.ratio_max, form.difference_max
    return Step(inf if ratio is None else ratio, inf if difference is None else difference, form.tolerance, form.action)
