"""Times far ahead: of the neighbours in their own input, or of now. They are kept, and do not move time.

One date of 2099 among those of today would end every wait there is. Whether a time is absurd or the first after a pause
of a month cannot be seen from it alone, but from what follows in the same input: after a pause all is later, after a
slip what follows comes back. So a time more than `ahead_max_ms` beyond the latest one looks `FOLLOWERS` records on:

* at least three in four of them lie more than `ahead_max_ms` before it, and
* it lies further beyond them than they lie apart, four times over: in records that are in no order at all, the latest
  so far is nothing special.

A time that lies beyond now is far ahead whatever follows. What is decided is journaled with the slice
(`codec.journal`), so that a replay need not know what followed, nor when it was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import islice
from math import inf
from typing import TypeVar

from msgspec import structs

from driftline.core.record import Event, InputRecord, Label
from driftline.core.timestamp import written

FOLLOWERS = 8
FOLLOWERS_MIN = 4  # fewer say nothing
NAMED_MAX = 10
_SHARE = 0.75
_APART = 4

Row = TypeVar("Row")


def slips(time_ms: int, followers: Sequence[int], ahead_max_ms: int) -> bool:
    """Whether a time lies far ahead of what follows it.

    Args:
        followers: times of the next records of its input, in their order.
    """
    back = [one for one in followers if one < time_ms - ahead_max_ms]
    if len(followers) < FOLLOWERS_MIN or len(back) < _SHARE * len(followers):
        return False
    return time_ms - max(back) > ahead_max_ms + _APART * (max(back) - min(back))


def in_time(rows: Iterable[Row], time_of: Callable[[Row], int], ahead_max_ms: int) -> Iterator[tuple[Row, int, bool]]:
    """Rows of one input, each with the time at which it stands, and whether its own lies far ahead.

    A row whose time is far ahead stands at the latest time before it, or (the first) at that of the next row.
    """
    source, latest_ms = iter(rows), None
    window = deque(islice(source, FOLLOWERS + 1))
    while window:
        row = window.popleft()
        window.extend(islice(source, 1))
        time_ms = time_of(row)
        if (latest_ms is None or time_ms > latest_ms + ahead_max_ms) and window:
            followers = [time_of(one) for one in islice(window, FOLLOWERS)]
            if slips(time_ms, followers, ahead_max_ms):
                yield row, min(followers) if latest_ms is None else latest_ms, True
                continue
        latest_ms = time_ms if latest_ms is None else max(latest_ms, time_ms)
        yield row, time_ms, False


def _name(record: InputRecord) -> str:
    source = record.source
    place = f"{source.topic}-{source.partition}, offset {source.offset}"
    if isinstance(record, Event | Label):
        return f"{place}: id {record.event_id!r:.80}, time {written(record.time_ms)}"
    return f"{place}: time {written(record.order_ms)}"


class Judge:
    """What of a shard's inputs lies far ahead, as they are merged.

    Args:
        ahead_max_ms: see above; `limits.time_ahead_max`.
        patient: take nothing while too little of what follows is in hand and more will come.

    Attributes:
        latest_ms: latest trusted time so far; -inf before the first.
        led: whoever merges sets `latest_ms` before each take, and knows it anyway.
        limit_ms: what lies beyond it is ahead of now.
        marks: at a replay, what was found then: offsets by lane. None where it is judged for the first time.
        found: offsets by lane of the records that are merged and far ahead, since `begin`.
        named: the first of all of them, as text.
    """

    def __init__(self, ahead_max_ms: int, *, patient: bool = True) -> None:
        self.ahead_max_ms = ahead_max_ms
        self.patient = patient
        self.led = False
        self.named: list[str] = []
        self.latest_ms = -inf
        self.limit_ms = inf
        self.marks: Mapping[int, Set[int]] | None = None
        self.found: dict[int, list[int]] = {}

    def begin(self, watermark_ms: int | None, now_ms: float = inf, marks: Mapping[int, Set[int]] | None = None) -> None:
        """A slice begins.

        Args:
            watermark_ms: of the shard.
            now_ms: on the wall; a replay of files knows of none.
            marks: see above.
        """
        self.latest_ms = -inf if watermark_ms is None else watermark_ms
        self.limit_ms = now_ms + self.ahead_max_ms
        self.marks = marks
        self.found = {}

    @property
    def horizon_ms(self) -> float:
        """Times up to here need no look."""
        if self.marks is not None:
            return -inf if self.marks else inf
        return min(self.latest_ms + self.ahead_max_ms, self.limit_ms)

    def advance(self, taken: Iterable[tuple[int, InputRecord]]) -> None:
        """Records were merged: the latest time moves with those that are trusted."""
        for _, record in taken:
            if isinstance(record, Event | Label) and not record.time_ahead and record.order_ms > self.latest_ms:
                self.latest_ms = record.order_ms

    def is_ahead(self, head: InputRecord, behind: Sequence[InputRecord]) -> bool:
        """Whether a record lies far ahead.

        Args:
            behind: the next records of its input, as far as they are in hand.
        """
        if head.order_ms > self.limit_ms:
            return True
        followers = [
            one.order_ms
            for one in behind
            if isinstance(one, Event | Label) and not one.time_ahead and one.order_ms <= self.limit_ms
        ]
        return slips(head.order_ms, followers[:FOLLOWERS], self.ahead_max_ms)

    def note(self, lane: int, record: InputRecord) -> InputRecord:
        """Count a record as far ahead, and give it as it is folded: at the latest time before it."""
        source = record.source
        self.found.setdefault(lane, []).append(source.offset)
        if len(self.named) < NAMED_MAX:
            self.named.append(_name(record))
        if self.latest_ms > -inf:
            at_ms = int(self.latest_ms)
            if source.record_time_ms > at_ms:
                source = structs.replace(source, record_time_ms=at_ms)
            record = structs.replace(record, source=source, order_ms=at_ms)
        return structs.replace(record, time_ahead=True) if isinstance(record, Event | Label) else record
