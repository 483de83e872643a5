"""What users send in simulations."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Send(Struct, frozen=True, omit_defaults=True):
    """One record that a user sends.

    Args:
        kind: `event`, `label` and `control` go to these topics; what is not well-formed is said by `good`.
        value: None is a tombstone.
        transaction: number of the user's transaction that it is part of, 0 for none.
    """

    at_s: float
    kind: Literal["event", "label", "control"]
    partition: int
    value: str | None
    stamp_ms: int
    event_id: int = -1
    good: bool = True
    transaction: int = 0
