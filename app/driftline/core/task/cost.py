"""What decisions cost."""

from __future__ import annotations

from msgspec import Struct


class Cost(Struct, frozen=True):
    """What each kind of decision costs; less is better, a gain is negative."""

    tp: float = 0.0
    fp: float = 0.0
    fn: float = 0.0
    tn: float = 0.0
