"""How full a shard is: the share of the last minute in which it processed records.

One shard is one core. Once it processes all the time it falls behind, so people should know before. This is about the
machine and its load, not about the records: it would differ in every replay, so it can be no alert of the shard, whose
alerts are published and derived again from the journal. It is an operational signal: the log, `/metrics`, a note of
`/health/ready`, and the journal's note for `driftline status`, which no replay reads.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from typing import Final

SPAN_S: Final = 60.0
STEP_S: Final = 5.0
FULL: Final = 0.8  # then it is worth a word
EASED: Final = 0.65  # and below it is over: a share that varies around one limit would be reported all the time
EVERY_S: Final = 600.0  # how often the log repeats it

log = logging.getLogger(__name__)


class Fullness:
    """Of one shard.

    Attributes:
        share: of the last minute, at most; None before the first five seconds have passed.
        whole: a minute has passed: one that has just started may be busy catching up.
    """

    def __init__(self) -> None:
        self.share: float | None = None
        self.whole = False
        self._looks: deque[tuple[float, float]] = deque()

    def look(self, now_s: float, fold_s: float) -> None:
        """Take the time that it has spent processing so far.

        Args:
            now_s: of a clock that never goes back.
        """
        looks = self._looks
        if looks and now_s - looks[-1][0] < STEP_S:
            return
        looks.append((now_s, fold_s))
        while len(looks) > 2 and looks[1][0] <= now_s - SPAN_S:
            looks.popleft()
        then_s, folded_s = looks[0]
        if now_s > then_s:
            self.share = min(1.0, (fold_s - folded_s) / (now_s - then_s))
            self.whole = now_s - then_s >= SPAN_S


def full_text(shard: int, share: float) -> str:
    """What a shard that is nearly full means, and what to do."""
    return (
        f"shard {shard} is {share:.0%} full: it processed records for that share of the last minute, and falls behind "
        "at 100%. Give its worker a core of its own or a faster one, or simplify the model; a new pipeline can have "
        "several shards (`shards: N`)"
    )


class FullnessLog:
    """Reports shards that are nearly full, and when that is over."""

    def __init__(self) -> None:
        self.full: dict[int, float] = {}  # shards that are, and when the log had it last
        self._shares: dict[int, float] = {}

    def look(self, shares: Mapping[int, float | None], now_s: float) -> None:
        """Write down what is new.

        Args:
            shares: by shard, of those of this worker.
        """
        self._shares = {shard: share for shard, share in shares.items() if share is not None}
        self.full = {shard: logged_s for shard, logged_s in self.full.items() if shard in self._shares}
        for shard, share in self._shares.items():
            logged_s = self.full.get(shard)
            if logged_s is not None and share < EASED:
                del self.full[shard]
                log.info("shard %d is %.0f%% full", shard, 100 * share)
            elif share >= FULL and (logged_s is None or now_s - logged_s >= EVERY_S):
                self.full[shard] = now_s
                log.warning("%s", full_text(shard, share))

    def notes(self) -> list[str]:
        """Of each shard that is nearly full, as text."""
        return [full_text(shard, self._shares[shard]) for shard in sorted(self.full)]
