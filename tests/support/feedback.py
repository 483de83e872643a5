"""Streams of events and labels for one shard, in the order in which a worker would read them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import count
from typing import Any

from driftline.core.label.partitioner import places
from driftline.core.output import Alert
from driftline.core.record import Event, EventId, Label, Record, Source
from driftline.core.shard.state import Shard
from tests.support.folding import step
from tests.support.small import NOW_MS, small

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
ALONE = {"features": {"x": "number"}}


def shard(partition: int = 0, **sections: Any) -> Shard:
    """One whose model costs nothing."""
    settled = {"event": ALONE, "model": "NoChangeClassifier()", "drift": "none", "label": {"wait": "7d"}, **sections}
    return Shard(small(**settled), partition)


@dataclass
class Traffic:
    """Events at a rate, and their labels as a test says.

    Args:
        rate: events a second.
        delay_ms: from an event to its label, by the event's number; None where there is none.
        read_ms: when a label is read, by its own time: the two are one where a label is written as it is known.
        ids, label_ids: of the event of a number, and in its label.
        keys, label_keys: likewise.
        events_by, labels_by: the partitioners; None where there is one partition.
        first: the first event that is in the topic: labels of earlier ones come all the same.
        labels_from_ms: labels that are due earlier do not come.
    """

    rate: float = 100.0
    delay_ms: Callable[[int], int | None] = lambda number: 1_000
    read_ms: Callable[[int], int] = lambda time_ms: time_ms
    time_ms: Callable[[int], int] | None = None
    ids: Callable[[int], EventId] = lambda number: number
    label_ids: Callable[[int], EventId] | None = None
    keys: Callable[[int], bytes | None] = lambda number: b"%d" % number
    label_keys: Callable[[int], bytes | None] | None = None
    events_by: str | None = None
    labels_by: str | None = None
    partitions: int = 4
    partition: int = 0
    first: int = 0
    offsets: dict[str, Any] = field(default_factory=lambda: {"e": count(), "l": count()})

    def at_ms(self, number: int) -> int:
        return self.time_ms(number) if self.time_ms is not None else NOW_MS + round(number * 1_000 / self.rate)

    def records(self, begin: int, end: int) -> list[Record]:
        """All that is read of the events of these numbers, in the order of time; labels first at equal time."""
        events = [(self.at_ms(number), 1, number) for number in range(max(begin, self.first), end)]
        labels = []
        for number in range(begin, end):
            delay_ms = self.delay_ms(number)
            if delay_ms is not None and (read_ms := self.read_ms(self.at_ms(number) + delay_ms)) >= self.at_ms(
                self.first
            ):
                labels.append((read_ms, 0, number))
        made: list[Record] = []
        for _, is_event, number in merge(sorted(events), sorted(labels)):
            record = self._event(number) if is_event else self._label(number)
            if record is not None:
                made.append(record)
        return made

    def _event(self, number: int) -> Event | None:
        at_ms, key = self.at_ms(number), self.keys(number)
        if not self._here(self.events_by, key, number):
            return None
        source = Source("p.events", self.partition, next(self.offsets["e"]), at_ms, key, None)
        return Event(source, at_ms, at_ms, self.ids(number), (1.0,))

    def _label(self, number: int) -> Label | None:
        time_ms, key = self.at_ms(number) + (self.delay_ms(number) or 0), (self.label_keys or self.keys)(number)
        if not self._here(self.labels_by or self.events_by, key, number):
            return None
        source = Source("p.labels", self.partition, next(self.offsets["l"]), time_ms, key, None)
        return Label(source, time_ms, time_ms, (self.label_ids or self.ids)(number), number % 3 == 0)

    def _here(self, by: str | None, key: bytes | None, number: int) -> bool:
        if by is None:
            return True
        if by == "none" or key is None:
            return random.Random(number).randrange(self.partitions) == self.partition
        return places(by, self.partitions, key) == self.partition


def alerts(here: Shard, records: Iterable[Record]) -> list[Alert]:
    """The alerts about labels that find no events, or do not come."""
    made: list[Alert] = []
    for record in records:
        made += [one for one in step(here, record) if isinstance(one, Alert) and one.kind == "label_match"]
    return made


def causes(made: Sequence[Alert]) -> list[tuple[str, str]]:
    return [(one.state, str(one.evidence["cause"])) for one in made]
