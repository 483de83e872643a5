"""What one record makes, collected and numbered."""

from __future__ import annotations

from app.core.output import Output
from app.core.pipeline import Topics


class Outbox:
    """Collects what one record makes, and numbers it.

    Ordinal 0 is what became of the record itself, 1 how the wait of that event ended, whenever and by whatever it did;
    from 2 on come alerts. So an id does not depend on what else happened to end at the same record: a slice that is
    folded again after other records (which at_least_once may do) gives the same thing the same id.
    """

    __slots__ = ("_alerts", "_number", "_partition", "_topic", "made")

    def __init__(self, topic: str, partition: int, number: int) -> None:
        self._topic = topic
        self._partition = partition
        self._number = number
        self._alerts = 0
        self.made: list[Output] = []

    def own_id(self) -> str:
        return f"{self._topic}-{self._partition}-{self._number}-0"

    def alert_id(self) -> str:
        self._alerts += 1
        return f"{self._topic}-{self._partition}-{self._number}-{1 + self._alerts}"

    def place(self, topics: Topics) -> str:
        """The record as an episode's name has it."""
        letter = {topics.events: "e", topics.labels: "l", topics.control: "c"}.get(self._topic, "t")
        return f"{letter}{self._number}"
