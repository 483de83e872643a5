"""What a rung is, and what it sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from driftline.core.output import Action, Rung


class Case:
    """One prediction of one event, as the rungs see it.

    Args:
        value: the number or probability that was predicted; None where there is none.
        learned: how many labels its model had learned; None for what no model made.
        near: the last values of its series, where they are known.
    """

    __slots__ = ("learned", "near", "value")

    def __init__(self, value: float | None, learned: int | None, near: Sequence[float | None]) -> None:
        self.value = value
        self.learned = learned
        self.near = near


class Beyond(NamedTuple):
    """A limit, and by how much it is exceeded; the excess is negative below a least value.

    Invariant: of a rung that can clip, the limit is the nearest value that passes.
    """

    limit: float
    excess: float


class Limit(Protocol):
    """A rung as a pipeline declares it."""

    @property
    def name(self) -> Rung: ...

    @property
    def action(self) -> Action: ...

    def beyond(self, case: Case) -> Beyond | None:
        """The limit that a prediction is beyond; None where it passes."""
