"""When an input that is at its end holds the others back all the same: the merge's patience.

`core.fold.merge` never waits for an input that is at its end. What is known of an end is as old as the last answer of
its broker, though, and a producer of two topics may be a moment behind with one of them. For a live pipeline that does
no harm: a moment on the wall is a moment in the records, and no wait is that short. Where a backlog is read or history
is replayed, a moment may be days of the records' time, in which labels that are on their way are given up.

So patience follows how fast time passes in the records. Only where it races (`RACE_MS` more than on the wall, in
records that are older than that) an input at its end is waited for: until Kafka has answered for it twice since the
others' records came, and as long as its own last record came less than the patience ago. A broker that does not answer
is waited for no longer than `ASK_MAX_S` and the patience. A live pipeline never waits. What was taken is journaled, so
a replay does not depend on any of this. Kafka Streams' `max.task.idle.ms` is the model (KIP-353, KIP-695).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from driftline.core.fold.merge import Merge
from driftline.core.record import Source
from driftline.transport.clock import Clock
from driftline.transport.port import Feed, Place

PATIENCE_S = 0.5
RACE_MS = 5_000
SPAN_S = 1.0  # over which the pace of the records' time is seen
LOOKS = 2  # the first answer may have been under way when the others' records came
ASK_MAX_S = 2.0


class Patience:
    """What one shard waits for.

    Args:
        places: by lane.
        controls: how many of them are of control; they come first, and are never waited for.
        patience_s: how long an input that had records may be quiet before it is taken to be at its end; with 0 the
            broker's last answer counts.

    Attributes:
        records_max: most records to take now; beyond them an end is not known yet. None without a bound.
    """

    def __init__(
        self, places: Sequence[Place], clock: Clock, patience_s: float = PATIENCE_S, controls: int = 1
    ) -> None:
        self._places = places
        self._controls = controls
        self._clock = clock
        self._patience_s = patience_s
        self.begin()

    def begin(self) -> None:
        """Reading begins, here or again: no end is known."""
        now_s = self._clock.now_s()
        count = len(self._places)
        self.records_max: int | None = None
        self._came_s = [now_s] * count
        self._newest_ms = [-1] * count
        self._received = 0  # of all inputs but control
        self._known = [0] * count  # of the records received, those that came before an end was requested and answered
        self._asked: list[deque[tuple[int, int]]] = [deque() for _ in range(count)]  # of late: answers, received then
        self._pace: list[tuple[float, int | None]] = []  # when, and the watermark then
        self._racing_until_s = 0.0
        self._held_since_s: float | None = None

    def came(self, lane: int, sources: Sequence[Source]) -> None:
        """Records of an input came."""
        if sources and lane >= self._controls:
            self._came_s[lane] = self._clock.now_s()
            self._newest_ms[lane] = sources[-1].record_time_ms
            self._received += len(sources)

    def came_s(self, lane: int) -> float:
        """When a record of an input last came; the beginning, before the first."""
        return self._came_s[lane]

    def at_end(self, at_end: Sequence[bool], merge: Merge[Source], watermark_ms: int | None, feed: Feed) -> list[bool]:
        """Which inputs hold no one back, of those that are at their end as far as the feed knows.

        Args:
            at_end: by lane, as the feed has it.
            watermark_ms: of the shard.
        """
        held = list(at_end)
        self.records_max = None
        if self._patience_s:
            self._note_answers(feed)  # always: what was asked long ago is known when it is needed
        controls = self._controls
        counts = [merge.waiting(lane) for lane in range(len(at_end))]
        quiet = [lane for lane in range(controls, len(at_end)) if at_end[lane] and not counts[lane]]
        waiting = sum(counts[controls:])
        if not self._patience_s or not quiet or not waiting:
            self._held_since_s = None
            return held
        now_s = self._clock.now_s()
        if not self._races(now_s, watermark_ms):
            self._held_since_s = None
            return held
        since_s = self._held_since_s = now_s if self._held_since_s is None else self._held_since_s
        known = min(self._known[lane] for lane in quiet) - (self._received - waiting)
        if known <= 0 and now_s - since_s < ASK_MAX_S + self._patience_s:
            for lane in quiet:
                held[lane] = False
            return held
        for lane in quiet:
            held[lane] = now_s - self._came_s[lane] >= self._patience_s
        if all(held[lane] for lane in quiet):
            self._held_since_s = None
            self.records_max = known + sum(counts[:controls]) if known > 0 else None
        return held

    def _note_answers(self, feed: Feed) -> None:
        """Of each input: what had come when an answer was requested that is there now."""
        for lane, place in enumerate(self._places):
            looks, asked = feed.looks(place), self._asked[lane]
            if asked and asked[-1][0] == looks:
                asked.pop()
            asked.append((looks, self._received))
            while asked[0][0] + LOOKS <= looks:
                self._known[lane] = asked.popleft()[1]

    def _races(self, now_s: float, watermark_ms: int | None) -> bool:
        """Whether time in the records passes faster than on the wall, or will with what is in hand."""
        pace, old_ms = self._pace, self._clock.wall_s() * 1000 - RACE_MS
        newest_ms = [time_ms for time_ms in self._newest_ms[self._controls :] if time_ms >= 0]
        if watermark_ms is None:
            return any(time_ms < old_ms for time_ms in newest_ms)
        if not pace or now_s - pace[-1][0] >= SPAN_S:
            pace.append((now_s, watermark_ms))
            del pace[:-2]
        began_s, began_ms = pace[0]
        passed_ms = (now_s - began_s) * 1000
        if watermark_ms < old_ms and (began_ms is None or watermark_ms - began_ms > passed_ms + RACE_MS):
            self._racing_until_s = now_s + 2 * SPAN_S
        return now_s < self._racing_until_s or any(watermark_ms + RACE_MS < time_ms < old_ms for time_ms in newest_ms)
