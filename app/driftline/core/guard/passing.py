"""Counts a prediction, and says whether nothing trips, as of nearly all: the limits of all rungs in one go.

`Rungs` asks one rung after the other, and each says by how much its limit is exceeded. `Passing` only knows when none
of them would object; where it is not sure, they are asked. So a rung that it does not know makes it never sure, and
what is served is always what the rungs let pass.

Each event goes through here, so it is written twice: here, and in `_passing.pyx`, which is compiled where there is a C
compiler. `Passing` is the compiled one if it is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from driftline.core.guard.base import Limit
from driftline.core.guard.familiar import is_familiar
from driftline.core.guard.kept import BLOCK, CLEAN, TENTHS, Kept, Series
from driftline.core.guard.range import Range
from driftline.core.guard.share import EVENTS_MIN, Share
from driftline.core.guard.step import Step
from driftline.core.guard.unfamiliar import Unfamiliar
from driftline.core.guard.untrained import Untrained
from driftline.core.record import FeatureValue


class Limits:
    """The limits of a pipeline's rungs, side by side; what is not declared lets everything pass.

    Args:
        rungs: of the pipeline.
        window_ms: of the share of positives; 0 without one.
        plain: remembering a prediction that passes takes no more than its series' last value.

    Attributes:
        known: there is no rung beside those of which the limits are here, and remembering is plain.
    """

    def __init__(self, rungs: Sequence[Limit], window_ms: int, *, plain: bool) -> None:
        self.known = plain and all(isinstance(one, Untrained | Range | Step | Unfamiliar | Share) for one in rungs)
        self.window_ms = window_ms
        self.learned_min, self.least, self.most = 0, -inf, inf
        self.tolerance = self.difference = self.ratio = inf
        self.yes_from, self.positive_max = inf, 1.0
        self.steps = self.familiar = False
        for one in rungs:
            if isinstance(one, Untrained):
                self.learned_min = one.labels_min
            elif isinstance(one, Range):
                self.least, self.most = one.least, one.most
            elif isinstance(one, Step):
                self.steps, self.tolerance, self.difference, self.ratio = True, one.tolerance, one.difference, one.ratio
            elif isinstance(one, Unfamiliar):
                self.familiar = True
            elif isinstance(one, Share):
                self.yes_from, self.positive_max = one.threshold, one.most


class PlainPassing:
    """`Passing`, in Python; see the module."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def count(self, kept: Kept, value: float | None, time_ms: int) -> None:
        """One more prediction, whatever becomes of it.

        Args:
            value: None where there is none.
        """
        if kept.filled < BLOCK:
            kept.filled += 1
        else:
            kept.predicted()
        limits = self._limits
        if not limits.window_ms or value is None:
            return
        crowds, yes = kept.crowds, value >= limits.yes_from
        if not crowds or time_ms * TENTHS // limits.window_ms > crowds[-1][0]:
            kept.crowd(yes, time_ms, limits.window_ms)
            return
        latest, crowd = crowds[-1], kept.crowd_all
        latest[1] += 1
        crowd[0] += 1
        if yes:
            latest[2] += 1
            crowd[1] += 1

    def take(
        self,
        kept: Kept,
        key: bytes | None,
        features: Sequence[FeatureValue],
        value: float | None,
        learned: int,
        time_ms: int,
    ) -> bool:
        """One more prediction; whether certainly no rung trips: then it is remembered, and all is done.

        Args:
            key: of its series; None where it belongs to none, and where none are remembered.
            learned: labels by its model.
        """
        self.count(kept, value, time_ms)
        limits = self._limits
        if not limits.known or learned < limits.learned_min:
            return False
        series: Series | None = None
        if value is not None:
            if type(value) is not float or not limits.least <= value <= limits.most:
                return False
            if value >= limits.yes_from:
                events, yes = kept.crowd_all
                if events >= EVENTS_MIN and yes / events - limits.positive_max > 0:
                    return False
            if key is not None:
                series = kept.series.get(key)
                if series is None or (limits.steps and not self._near(value, series)):
                    return False
        if limits.familiar and not is_familiar(kept.known, features):
            return False
        if kept.clean < CLEAN:
            kept.clean += 1
        if series is not None and key is not None:
            if len(kept.series) > 1:  # it is the most recently used one now
                del kept.series[key]
                kept.series[key] = series
            series[0] = value
        return True

    def _near(self, value: float, series: Series) -> bool:
        """Whether a value is near the last one that was accepted, or the last label."""
        limits = self._limits
        for last in (series[0], series[1]):
            if type(last) is not float:
                continue
            if last - limits.tolerance <= value <= last + limits.tolerance:
                return True
            if last - limits.difference <= value <= last + limits.difference:
                one, other = last * limits.ratio, last / limits.ratio
                if limits.ratio == inf or one <= value <= other or other <= value <= one:
                    return True
        return False


Passing: type[PlainPassing]
is_compiled = True
try:
    from driftline.core.guard._passing import Passing
except ImportError:  # no compiler was there when it was installed
    Passing, is_compiled = PlainPassing, False
