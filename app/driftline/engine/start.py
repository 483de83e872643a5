"""What the user asked for when the worker was started."""

from __future__ import annotations

from dataclasses import dataclass

from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.engine.patience import PATIENCE_S
from driftline.engine.trust import Unsigned


@dataclass(frozen=True)
class Start:
    """What the user asked for when the worker was started.

    Args:
        reset_state: begin with a fresh state where the inputs stand.
        gap_continue: go on where input was lost.
        ring: keys of the deployment.
        patience_s: see `engine.patience`.
        unsigned: what becomes of a state that they did not sign; for one start.
        unsigned_models: without keys, take models over the control topic all the same.
    """

    reset_state: bool = False
    gap_continue: bool = False
    ring: KeyRing = NO_KEYS
    patience_s: float = PATIENCE_S
    unsigned: Unsigned = "refuse"
    unsigned_models: bool = False
