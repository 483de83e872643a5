"""The rungs of a guard in order, and what may be served where one trips: of one number, whatever it is of.

`ladder` asks them of the prediction of an event, `ahead` of each horizon of a forecast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from driftline.core.guard import distribution as distribution_rung
from driftline.core.guard import range as range_rung
from driftline.core.guard import share as share_rung
from driftline.core.guard import step as step_rung
from driftline.core.guard import unfamiliar as unfamiliar_rung
from driftline.core.guard import untrained as untrained_rung
from driftline.core.guard import width as width_rung
from driftline.core.guard.base import Beyond, Case, Limit
from driftline.core.output import Action, Trip
from driftline.core.pipeline import Pipeline
from driftline.core.pipeline.guard import Fallback, GuardForm

RUNGS: Final[tuple[Callable[[GuardForm, Pipeline], Limit | None], ...]] = (
    untrained_rung.of,
    range_rung.of,
    step_rung.of,
    width_rung.of,
    unfamiliar_rung.of,
    share_rung.of,
    distribution_rung.of,
)
"""In the order in which they are asked; `finite`, the first of all, is the learner's."""


class Rungs:
    """The rungs of one pipeline.

    Args:
        pipeline: with a guard.

    Attributes:
        case: what they see of a number; whoever asks fills it in.
        limits: in order; `beyond` asks each of them.
        fallbacks: in the order of the file.
        range, step, width, share: the rungs of these names; `range` and `width` where they are no mere flags.
    """

    def __init__(self, pipeline: Pipeline, guard: GuardForm) -> None:
        self.case = Case(None, None, ())
        self.limits = tuple([made for of in RUNGS if (made := of(guard, pipeline)) is not None])
        self.beyond = tuple([limit.beyond for limit in self.limits])
        self.fallbacks = guard.fallback
        self._strict = tuple([limit for limit in self.limits if limit.action != "flag"])
        self._good_first: tuple[Fallback, ...] = ("last_good", *[one for one in guard.fallback if one != "last_good"])
        self._then: Action = "withhold" if guard.hold is None else guard.hold.then
        self.range = next((limit for limit in self._strict if isinstance(limit, range_rung.Range)), None)
        self.step = next((limit for limit in self.limits if isinstance(limit, step_rung.Step)), None)
        self.width: Limit | None = next((limit for limit in self._strict if limit.name == "width"), None)
        self.share = next((limit for limit in self.limits if isinstance(limit, share_rung.Share)), None)

    def climb(self, trips: list[Trip]) -> bool:
        """Rung by rung, until one ends it; returns whether what is in the case then may be served."""
        case, clipped = self.case, False
        for limit in self.limits:
            found = limit.beyond(case)
            if found is None:
                continue
            trips.append(_trip(limit, found))
            if limit.action == "clip":
                case.value, clipped = found.limit, True
            elif limit.action != "flag":
                return False
        return not clipped or self.allows()

    def allows(self) -> bool:
        """Whether every rung that is no mere flag lets it pass."""
        case = self.case
        return all(limit.beyond(case) is None for limit in self._strict)

    def order(self, action: Action) -> tuple[Fallback, ...]:
        """Which fallbacks are asked after an action; after a clip to where another rung trips, those of the file.

        Of what is held, they say what is served at the deadline.
        """
        match self._then if action == "hold" else action:
            case "withhold":
                return ()
            case "last_good":
                return self._good_first
            case _:
                return self.fallbacks


def _trip(limit: Limit, found: Beyond) -> Trip:
    return Trip(limit.name, limit.action, found.limit, found.excess, found.feature)
