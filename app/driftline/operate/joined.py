"""What became of labels that were just sent, if a worker runs, by the counts in its journal.

The journal counts all labels of the pipeline, so those that others send in the meantime are among them.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct

from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout, topic_of
from driftline.kafka.broker import KafkaBroker
from driftline.operate.status import ShardStatus, read_status

LOOK_EVERY_S = 0.5
STILL_S = 3.0  # without a new journal entry: no one reads on
WAIT_MAX_S = 20.0
_ENDS = ("joined", "late", "orphan", "expired", "duplicate", "assumed", "failed")


class Met(Struct, frozen=True):
    """How waits ended in the meantime.

    Args:
        ends: outcomes by kind.
        early: labels that wait for their event.
        behind: records of events and labels that the worker has not read yet.
    """

    ends: Mapping[str, int]
    early: int
    behind: int

    @property
    def joined(self) -> int:
        return self.ends.get("joined", 0)


class Meeting:
    """Looks before and after."""

    def __init__(self, broker: KafkaBroker, pipeline: Pipeline, layout: Layout) -> None:
        self._broker = broker
        self._pipeline = pipeline
        self._layout = layout
        self._before: Sequence[ShardStatus] = ()

    async def begin(self) -> bool:
        """Look for the first time; whether a worker has ever been there."""
        self._before = await self._look()
        return any(shard.epoch for shard in self._before)

    async def end(self) -> Met | None:
        """What came of it, once a worker has read all or stands still; None where none reads."""
        begun_s = moved_s = time.monotonic()
        last = self._before
        while True:
            shards = await self._look()
            now_s = time.monotonic()
            if _slices(shards) != _slices(last):
                last, moved_s = shards, now_s
            if not self._behind(shards) or now_s - moved_s > STILL_S or now_s - begun_s > WAIT_MAX_S:
                break
            await asyncio.sleep(LOOK_EVERY_S)
        if _slices(last) == _slices(self._before):
            return None
        ends = _counts(shards)
        ends.subtract(_counts(self._before))
        early = sum((shard.note or {}).get("early", 0) for shard in shards)
        return Met({kind: count for kind, count in ends.items() if count > 0}, early, self._behind(shards))

    async def _look(self) -> Sequence[ShardStatus]:
        return await read_status(self._broker, self._pipeline, self._layout)

    def _behind(self, shards: Sequence[ShardStatus]) -> int:
        topics = (self._pipeline.topics.events, self._pipeline.topics.labels)
        return sum(lag or 0 for shard in shards for name, lag in shard.lag.items() if topic_of(name) in topics)


def _slices(shards: Sequence[ShardStatus]) -> list[int]:
    return [shard.slice_number for shard in shards]


def _counts(shards: Sequence[ShardStatus]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for shard in shards:
        counts = (shard.note or {}).get("counts", {})
        counted.update({kind: counts.get(kind, 0) for kind in _ENDS})
    return counted
