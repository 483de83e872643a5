"""Several inputs, one order: a k-way merge by time.

Two topics have no common order, and swapping neighbouring event and label changes almost every later score. So the
merge is a pure function of the records that are merged: the same offset ranges always give the same order.

* Heads are compared by (time, rank, offset); rank is the input's place: control, then labels, then events. A label
  before its event at equal time is what equals River's own delayed evaluation: it is held, and learned once the
  event is scored.
* Within one input, offsets rule.
* An input that has unread records below its end and none in hand holds the others back (KIP-353, KIP-695); one that
  is at its end holds no one back; control never waits and never holds back, and goes first.

* A record whose time lies far ahead (`core.ahead`) goes behind the one before it in its input, whatever its time: else
  it would hold back its whole input until the others have come up to it. Whether it does is settled when it becomes the
  first of its input; while too little of what follows is in hand to tell, nothing is taken.

Any prefix of the merge, cut into its ranges and merged again, gives that prefix: each record popped was the least
of the heads, and taking later records away cannot change that. Recovery rests on it. A time that goes back within an
input needs no rule of its own: the record before it went ahead of all other heads, so this one does.

Only heads and a few behind them are decoded; what waits stays as it came, a string of bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Generic, TypeVar

from driftline.core.fold.future import FOLLOWERS, Judge
from driftline.core.record import InputRecord

TOGETHER = 32  # records of an input that are decoded together; see `engine.fold`

Unread = TypeVar("Unread")


class Merge(Generic[Unread]):
    """The inputs of one shard, in order of rank; the first is control.

    Args:
        decode: for each input, what makes a record of what is pushed.
        judge: says whose time lies far ahead; without one, no one's does.

    Invariant: `pop` returns records of one input in the order in which they were pushed.
    """

    def __init__(self, decode: Sequence[Callable[[Unread], InputRecord]], judge: Judge | None = None) -> None:
        self.judge = judge
        self._decode = tuple(decode)
        self._heads: list[deque[InputRecord]] = [deque() for _ in decode]
        self._queues: list[deque[Unread]] = [deque() for _ in decode]
        self._settled = [-1] * len(self._heads)  # offset of the first record of an input, once it is known how it goes
        self._ahead = [False] * len(self._heads)  # and whether it lies far ahead
        self._unsettled = [False] * len(self._heads)

    def push(self, rank: int, unread: Sequence[Unread]) -> None:
        """Put what came last behind what waits of its input."""
        self._queues[rank].extend(unread)

    def waiting(self, rank: int) -> int:
        """Records in hand of one input."""
        return len(self._queues[rank]) + len(self._heads[rank])

    def clear(self) -> None:
        for heads, queue in zip(self._heads, self._queues, strict=True):
            heads.clear()
            queue.clear()
        self._settled = [-1] * len(self._heads)

    def ready(self, at_end: Sequence[bool]) -> bool:
        """Whether `pop` would return a record."""
        counts = [self.waiting(rank) for rank in range(len(at_end))]
        if counts[0]:
            return True
        if not any(counts) or not all(count or end for count, end in zip(counts[1:], at_end[1:], strict=True)):
            return False
        times = self._times(at_end)
        return not self._unsettled[times.index(min(times))]

    def pop(self, at_end: Sequence[bool]) -> tuple[int, InputRecord] | None:
        """The next record in order; see `take`."""
        taken = self.take(1, at_end)
        return taken[0] if taken else None

    def take(self, count_max: int, at_end: Sequence[bool]) -> list[tuple[int, InputRecord]]:
        """The next records in order, each with its input's rank.

        Args:
            at_end: for each input, whether there is nothing unread beyond what was pushed.

        Returns:
            At most `count_max`; fewer where nothing more is in hand, or of an input that is not at its end nothing is.
        """
        taken: list[tuple[int, InputRecord]] = []
        heads, judge = self._heads, self.judge
        times, seen = self._times(at_end), 0
        horizon_ms = inf if judge is None else judge.horizon_ms
        while len(taken) < count_max:
            time_ms = min(times)
            rank = times.index(time_ms)
            head = heads[rank]
            if not head or self._unsettled[rank]:  # all are at their end, or this one holds the others back
                break
            record = head.popleft()
            if time_ms == -inf and rank and judge is not None:
                judge.advance(taken[seen:])
                seen = len(taken)
                record = judge.note(rank, record)
            taken.append((rank, record))
            time_ms = head[0].order_ms if head and rank else self._time(rank, at_end[rank])
            if horizon_ms < time_ms < inf and judge is not None:  # rarely: what was taken since moves the horizon first
                judge.advance(taken[seen:])
                seen, horizon_ms = len(taken), judge.horizon_ms
                if time_ms > horizon_ms:
                    time_ms = self._weighed(rank, at_end[rank])
            times[rank] = time_ms
        if judge is not None and not judge.led:
            judge.advance(taken[seen:])
        return taken

    def _times(self, at_end: Sequence[bool]) -> list[float]:
        """Of each input, the time by which its next record goes."""
        horizon_ms = inf if self.judge is None else self.judge.horizon_ms
        times = []
        for rank, end in enumerate(at_end):
            time_ms = self._time(rank, end)
            self._unsettled[rank] = False
            times.append(self._weighed(rank, end) if horizon_ms < time_ms < inf else time_ms)
        return times

    def _time(self, rank: int, at_end: bool) -> float:
        """The time of an input's next record: before all others for control, and for one that holds the others back."""
        heads = self._heads[rank]
        if not heads:
            if not self._queues[rank]:
                return inf if at_end or not rank else -inf
            self._decode_some(rank)
        return heads[0].order_ms if rank else -inf

    def _weighed(self, rank: int, at_end: bool) -> float:
        """The time of an input's next record where it may lie far ahead: before all others if it does, or if that
        cannot be told yet."""
        heads, judge = self._heads[rank], self.judge
        head = heads[0]
        offset = head.source.offset
        if judge is None:
            return head.order_ms
        if judge.marks is not None:
            return -inf if offset in judge.marks.get(rank, ()) else head.order_ms
        if self._settled[rank] != offset:
            while len(heads) <= FOLLOWERS and self._queues[rank]:
                self._decode_some(rank)
            if judge.patient and len(heads) <= FOLLOWERS and not at_end and head.order_ms <= judge.limit_ms:
                self._unsettled[rank] = True
                return -inf
            self._settled[rank], self._ahead[rank] = offset, judge.is_ahead(head, list(heads)[1:])
        self._unsettled[rank] = False
        return -inf if self._ahead[rank] else head.order_ms

    def _decode_some(self, rank: int) -> None:
        queue, decode = self._queues[rank], self._decode[rank]
        self._heads[rank].extend([decode(queue.popleft()) for _ in range(min(TOGETHER, len(queue)))])
