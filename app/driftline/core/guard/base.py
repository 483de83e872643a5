"""What a rung is, and what it sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from driftline.core.output import Action, Rung
from driftline.core.record import FeatureValue


class Case:
    """One prediction of one event, as the rungs see it.

    Args:
        value: the number or probability that was predicted; None where there is none.
        learned: how many labels its model had learned; None for what no model made.
        near: the last values of its series, where they are known.

    Attributes:
        width: of a forecast's interval; None without one.
        crowd: predictions in the latest window of time that are a yes, and all of them.
        moved: the latest observations of the series do not count: the tolerance is not of the first of `near`.
        distance: of the latest predictions from those of the reference (`distribution`); 0 of what no model made.
        features: of the event; `known` is what was learned of each (`unfamiliar`).
    """

    __slots__ = ("crowd", "distance", "features", "known", "learned", "moved", "near", "value", "width")

    def __init__(self, value: float | None, learned: int | None, near: Sequence[float | None]) -> None:
        self.begin(value, learned, near)

    def begin(self, value: float | None, learned: int | None, near: Sequence[float | None]) -> None:
        """Another prediction in its place; nothing of the one before is left."""
        self.value = value
        self.learned = learned
        self.near = near
        self.moved = False
        self.width: float | None = None
        self.crowd = (0, 0)
        self.distance = 0.0
        self.features: Sequence[FeatureValue] = ()
        self.known: list[list[Any]] = []


class Beyond(NamedTuple):
    """A limit, by how much it is exceeded (negative below a least value), and of which feature, if it is of one.

    Invariant: of a rung that can clip, the limit is the nearest value that passes.
    """

    limit: float
    excess: float
    feature: str = ""


class Limit(Protocol):
    """A rung as a pipeline declares it."""

    @property
    def name(self) -> Rung: ...

    @property
    def action(self) -> Action: ...

    def beyond(self, case: Case) -> Beyond | None:
        """The limit that a prediction is beyond; None where it passes."""
