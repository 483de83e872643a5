"""Keeps the cost of commits to a small share of a core.

A commit costs this process about 1.5 ms whatever it carries, so a worker with many busy shards that commit back to
back would do little else. All shards of a worker draw on one token bucket: a few commits at once are free, so a
lone event is committed at once; many wait their turn, and their slices grow in the meantime.
"""

from __future__ import annotations

import asyncio

from driftline.transport.clock import REAL, Clock

COMMITS_A_SECOND = 250.0
COMMITS_AT_ONCE = 50.0


class Pacer:
    """A token bucket; one token is one commit."""

    def __init__(self, rate: float = COMMITS_A_SECOND, burst: float = COMMITS_AT_ONCE, clock: Clock = REAL) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._clock = clock
        self._filled_s = clock.now_s()

    async def turn(self) -> None:
        """Wait for a token."""
        now_s = self._clock.now_s()
        self._tokens = min(self._burst, self._tokens + (now_s - self._filled_s) * self._rate) - 1.0
        self._filled_s = now_s
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate)
