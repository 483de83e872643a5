"""Several inputs, one order: a k-way merge by time.

Two topics have no common order, and swapping neighbouring event and label changes almost every later score. So the
merge is a pure function of the records that are merged: the same offset ranges always give the same order.

* Heads are compared by (time, rank, offset); rank is the input's place: control, then labels, then events. A label
  before its event at equal time is what equals River's own delayed evaluation: it is held, and learned once the
  event is scored.
* Within one input, offsets rule: a record's time is made monotone, counted from the slice's start only, so the order
  does not depend on where earlier slices were cut.
* An input that has unread records below its end and none in hand holds the others back (KIP-353, KIP-695); one that
  is at its end holds nobody back; control never waits and never holds back, and goes first.

Any prefix of the merge, cut into its ranges and merged again, gives that prefix: each record popped was the least
of the heads, and taking later records away cannot change that. Recovery rests on it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from app.core.record import InputRecord

_NO_TIME = -(2**63)


class Merge:
    """The inputs of one shard, in order of rank; the first is control.

    Invariant: `pop` returns records of one input in the order in which they were pushed.
    """

    def __init__(self, inputs: int) -> None:
        self.queues: list[deque[InputRecord]] = [deque() for _ in range(inputs)]
        self._floor_ms = [_NO_TIME] * inputs

    def start_slice(self) -> None:
        """Forget the times of earlier slices."""
        self._floor_ms = [_NO_TIME] * len(self.queues)

    def push(self, rank: int, record: InputRecord) -> None:
        self.queues[rank].append(record)

    def clear(self) -> None:
        for queue in self.queues:
            queue.clear()

    def ready(self, at_end: Sequence[bool]) -> bool:
        """Whether `pop` would return a record."""
        if self.queues[0]:
            return True
        return any(self.queues[1:]) and all(
            queue or end for queue, end in zip(self.queues[1:], at_end[1:], strict=True)
        )

    def pop(self, at_end: Sequence[bool]) -> tuple[int, InputRecord] | None:
        """The next record in order, with its input's rank.

        Args:
            at_end: for each input, whether there is nothing unread beyond what was pushed.

        Returns:
            None when every queue is empty, or when an input that is not at its end has none in hand.
        """
        queues = self.queues
        if queues[0]:
            return 0, queues[0].popleft()
        best = -1
        best_ms = 0
        for rank in range(1, len(queues)):
            queue = queues[rank]
            if not queue:
                if not at_end[rank]:
                    return None
                continue
            time_ms = queue[0].order_ms
            if time_ms < self._floor_ms[rank]:
                time_ms = self._floor_ms[rank]
            if best < 0 or time_ms < best_ms:
                best, best_ms = rank, time_ms
        if best < 0:
            return None
        self._floor_ms[best] = best_ms
        return best, queues[best].popleft()
