"""How long a slice is folded, and when others may run in between: above all the commit of the slice before it.

Both are bounded by CPU time. On a busy machine the wall's passes while others compute, and slices and turns bounded by
it would shrink just when what they cost matters most: every slice has a commit, every turn a round of the event loop.
A model that waits, for a file or another thread, uses no CPU; so a part of the wall's time counts in any case.
"""

from __future__ import annotations

import asyncio

from driftline.transport.clock import Clock

TURN_S = 0.002
WALL_SHARE = 0.1  # of the wall's time, if that is more than the CPU time: what a machine at a load of ten a core leaves


class Turns:
    """Those of one slice.

    Args:
        compute_max_s: CPU time of the slice, or a tenth of its time on the wall if that is more.

    Attributes:
        fold_s: time on the wall in which it was folded.
    """

    def __init__(self, clock: Clock, compute_max_s: float) -> None:
        self._clock = clock
        self._compute_max_s = compute_max_s
        self._computed_s = 0.0  # in the turns before
        self.fold_s = 0.0
        self._begin()

    def _begin(self) -> None:
        self._cpu_s, self._began_s = self._clock.cpu_s(), self._clock.now_s()
        self._turn_s = 0.0  # what of this turn is used up

    def used_up(self) -> bool:
        """Whether the slice has computed for as long as it may; asked after each of its pieces."""
        self._look()
        return self.computed_s > self._compute_max_s

    @property
    def computed_s(self) -> float:
        """What the slice has computed, up to the last piece."""
        return self._computed_s + self._turn_s

    async def give_way(self) -> None:
        """Let others run if it is time."""
        if self._turn_s > TURN_S:
            self.end()
            await asyncio.sleep(0)
            self._begin()

    def end(self) -> None:
        """Nothing more is folded for now."""
        self._look()
        self._computed_s, self._turn_s = self.computed_s, 0.0
        self.fold_s += self._clock.now_s() - self._began_s

    def _look(self) -> None:
        clock = self._clock
        self._turn_s = max(clock.cpu_s() - self._cpu_s, WALL_SHARE * (clock.now_s() - self._began_s))
