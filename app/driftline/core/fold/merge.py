"""Several inputs, one order: a k-way merge by time.

Two topics have no common order, and swapping neighbouring event and label changes almost every later score. So the
merge is a pure function of the records that are merged: the same offset ranges always give the same order.

An input is one partition of one topic, and its lane is its place among the inputs of a shard: those of control, then of
labels, then of events, each in order of their partitions.

* Heads are compared by (time, lane). A label before its event at equal time is what equals River's own delayed
  evaluation: it is held, and learned once the event is scored.
* Within one input, offsets rule.
* An input that has unread records below its end and none in hand holds the others back (KIP-353, KIP-695); one that
  is at its end holds no one back; control never waits and never holds back, and goes first.

* A record whose time lies far ahead (`core.fold.future`) goes behind the one before it in its input, whatever its
  time: else it would hold back its whole input until the others have come up to it. Whether it does is settled when it
  becomes the first of its input; while too little of what follows is in hand to decide, nothing is taken.

Any prefix of the merge, cut into its ranges and merged again, gives that prefix: each record popped was the least
of the heads, and taking later records away cannot change that. Recovery rests on it. A time that goes back within an
input needs no rule of its own: the record before it went ahead of all other heads, so this one does.

Only heads and a few behind them are decoded; what waits stays as it came, a string of bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from heapq import heapify, heapreplace
from math import inf
from typing import Generic, TypeVar

from driftline.core.fold.future import FOLLOWERS, Judge
from driftline.core.record import InputRecord

TOGETHER = 32  # records of an input that are decoded together; see `engine.fold`

Unread = TypeVar("Unread")


class Merge(Generic[Unread]):
    """The inputs of one shard, by lane; the first are control.

    Args:
        decode: for each input, what makes a record of what is pushed.
        judge: says whose time lies far ahead; without one, no one's does.
        controls: how many inputs are control.

    Invariant: `pop` returns records of one input in the order in which they were pushed.
    """

    def __init__(
        self, decode: Sequence[Callable[[Unread], InputRecord]], judge: Judge | None = None, controls: int = 1
    ) -> None:
        self.judge = judge
        self._controls = controls
        self._decode = tuple(decode)
        self._heads: list[deque[InputRecord]] = [deque() for _ in decode]
        self._queues: list[deque[Unread]] = [deque() for _ in decode]
        self._settled = [-1] * len(self._heads)  # offset of the first record of an input, once it is known how it goes
        self._ahead = [False] * len(self._heads)  # and whether it lies far ahead
        self._unsettled = [False] * len(self._heads)

    def push(self, lane: int, unread: Sequence[Unread]) -> None:
        """Put what came last behind what waits of its input."""
        self._queues[lane].extend(unread)

    def waiting(self, lane: int) -> int:
        """Records in hand of one input."""
        return len(self._queues[lane]) + len(self._heads[lane])

    def commands_waiting(self) -> int:
        """Records in hand of control."""
        return sum(self.waiting(lane) for lane in range(self._controls))

    def clear(self) -> None:
        for heads, queue in zip(self._heads, self._queues, strict=True):
            heads.clear()
            queue.clear()
        self._settled = [-1] * len(self._heads)

    def ready(self, at_end: Sequence[bool]) -> bool:
        """Whether `pop` would return a record."""
        counts, controls = [self.waiting(lane) for lane in range(len(at_end))], self._controls
        if any(counts[:controls]):
            return True
        if not any(counts) or not all(
            count or end for count, end in zip(counts[controls:], at_end[controls:], strict=True)
        ):
            return False
        return not self._unsettled[self._order(at_end)[0][1]]

    def pop(self, at_end: Sequence[bool]) -> tuple[int, InputRecord] | None:
        """The next record in order; see `take`."""
        taken = self.take(1, at_end)
        return taken[0] if taken else None

    def take(self, count_max: int, at_end: Sequence[bool]) -> list[tuple[int, InputRecord]]:
        """The next records in order, each with its lane.

        Args:
            at_end: for each input, whether there is nothing unread beyond what was pushed.

        Returns:
            At most `count_max`; fewer where nothing more is in hand, or of an input that is not at its end nothing is.
        """
        taken: list[tuple[int, InputRecord]] = []
        heads, judge, controls, unsettled = self._heads, self.judge, self._controls, self._unsettled
        order, seen = self._order(at_end), 0
        horizon_ms, first = (inf if judge is None else judge.horizon_ms), -inf
        for _ in range(count_max):
            time_ms, lane = order[0]
            head = heads[lane]
            if not head or unsettled[lane]:  # all are at their end, or this one holds the others back
                break
            record = head.popleft()
            if time_ms == first and lane >= controls and judge is not None:
                judge.advance(taken[seen:])
                seen = len(taken)
                record = judge.note(lane, record)
            taken.append((lane, record))
            time_ms = head[0].order_ms if head and lane >= controls else self._time(lane, at_end[lane])
            if time_ms > horizon_ms and time_ms < inf and judge is not None:  # rarely: most is behind what was taken
                judge.advance(taken[seen:])
                seen, horizon_ms = len(taken), judge.horizon_ms
                if time_ms > horizon_ms:
                    time_ms = self._weighed(lane, at_end[lane])
            heapreplace(order, (time_ms, lane))
        if judge is not None and not judge.led:
            judge.advance(taken[seen:])
        return taken

    def _order(self, at_end: Sequence[bool]) -> list[tuple[float, int]]:
        """A heap of the inputs, each by the time by which its next record goes."""
        horizon_ms = inf if self.judge is None else self.judge.horizon_ms
        order: list[tuple[float, int]] = []
        for lane, end in enumerate(at_end):
            time_ms = self._time(lane, end)
            self._unsettled[lane] = False
            order.append((self._weighed(lane, end) if horizon_ms < time_ms < inf else time_ms, lane))
        heapify(order)
        return order

    def _time(self, lane: int, at_end: bool) -> float:
        """The time of an input's next record: before all others for control, and for one that holds the others back."""
        heads = self._heads[lane]
        if not heads:
            if not self._queues[lane]:
                return inf if at_end or lane < self._controls else -inf
            self._decode_some(lane)
        return heads[0].order_ms if lane >= self._controls else -inf

    def _weighed(self, lane: int, at_end: bool) -> float:
        """The time of an input's next record where it may lie far ahead: before all others if it does, or if that
        is not known yet."""
        heads, judge = self._heads[lane], self.judge
        head = heads[0]
        offset = head.source.offset
        if judge is None:
            return head.order_ms
        if judge.marks is not None:
            return -inf if offset in judge.marks.get(lane, ()) else head.order_ms
        if self._settled[lane] != offset:
            while len(heads) <= FOLLOWERS and self._queues[lane]:
                self._decode_some(lane)
            if judge.patient and len(heads) <= FOLLOWERS and not at_end and head.order_ms <= judge.limit_ms:
                self._unsettled[lane] = True
                return -inf
            self._settled[lane], self._ahead[lane] = offset, judge.is_ahead(head, list(heads)[1:])
        self._unsettled[lane] = False
        return -inf if self._ahead[lane] else head.order_ms

    def _decode_some(self, lane: int) -> None:
        queue, decode = self._queues[lane], self._decode[lane]
        self._heads[lane].extend([decode(queue.popleft()) for _ in range(min(TOGETHER, len(queue)))])
