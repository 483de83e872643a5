"""What one record makes, collected and numbered."""

from __future__ import annotations

from typing import TypeAlias, final

from msgspec import Struct

from driftline.core.oracle import Oracle
from driftline.core.output import Output
from driftline.core.pipeline import Topics


@final
class TakeSnapshot(Struct, frozen=True, gc=False):
    """An operator wants a snapshot, now."""


Request: TypeAlias = TakeSnapshot
"""What the shell is to do because of a record. A replay made it before, and asks for nothing."""


class Made(Struct, gc=False):
    """What one record makes.

    Args:
        outputs: what is published, in order.
        requests: what the shell is to do, in order.
    """

    outputs: list[Output]
    requests: tuple[Request, ...]


class Outbox(Made, gc=False):
    """Collects what one record makes, and numbers it.

    Ordinal 0 is what became of the record itself, 1 how the wait of that event ended, whenever and by whatever it did;
    from 2 on come alerts. So an id does not depend on what else happened to end at the same record: a slice that is
    replayed after other records (which at_least_once may do) gives the same thing the same id.

    Args:
        topic, partition, number: of the record: its topic and offset, or `tick` and the number of the slice.
        oracle: of the slice that the record is in.
        shard: its number.
        begin: what the ids of its outputs begin with.
        alerts: among the outputs.
    """

    topic: str
    partition: int
    number: int
    oracle: Oracle
    shard: int
    begin: str
    alerts: int = 0

    @property
    def record(self) -> str:
        """The record's place."""
        return f"{self.begin}{self.number}"

    def own_id(self) -> str:
        return f"{self.begin}{self.number}-0"

    def alert_id(self) -> str:
        self.alerts += 1
        return f"{self.begin}{self.number}-{1 + self.alerts}"

    def place(self, topics: Topics) -> str:
        """The record as an episode's name has it."""
        letter = {topics.events: "e", topics.labels: "l", topics.control: "c"}.get(self.topic, "t")
        return f"{letter}{self.number}" if self.partition == self.shard else f"{letter}{self.partition}.{self.number}"
