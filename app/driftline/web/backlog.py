"""What a shard still has to read, and how long it has been silent about it.

Kafka says nothing of when a worker last showed that it lives; it drops the worker after a session without a word, some
ten seconds. What a worker writes to the journal shows at once that it is there, but one that has nothing to do writes
nothing. So silence counts only while a record is known to wait, and only up to where the page itself has read the
journal: what the page has not read yet is not the silence of others. Times are those of the page, whose clock may
differ from that of the worker.

Offsets alone do not show that a record waits: markers of transactions and aborted records take some too. Before a shard
is called silent, the page looks for the first record that can be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from driftline.core.place import topic_of

SILENT_MS = 5_000  # without a word while a record waits; longer for a shard that is slow anyway
SILENT_MAX_MS = 30_000
PACE = 2.0  # of its longest pause of late
CALMED = 0.9  # what is left of that pause after each shorter one


class Left(NamedTuple):
    """Offsets of one input that a shard has not read."""

    position: int
    end: int


class First(NamedTuple):
    """The first record at or after a position: its offset and its time; the end and None, where there is none."""

    position: int
    offset: int
    time_ms: int | None


class Backlog:
    """See the module.

    Attributes:
        since_ms: since when something seems to wait; None while nothing does.
        heard_ms: when the shard was last heard from; 0 before.
    """

    def __init__(self) -> None:
        self.since_ms: int | None = None
        self.heard_ms = 0
        self._positions: Mapping[str, int] = {}
        self._ends: dict[str, int] = {}
        self._firsts: dict[str, First] = {}
        self._pause_ms = 0.0

    def hear(self, read_ms: int) -> None:
        """The shard wrote."""
        if (pause_ms := self._since(read_ms)) > 0:
            self._pause_ms = max(pause_ms, self._pause_ms * CALMED)
        self.heard_ms = max(self.heard_ms, read_ms)

    def take_positions(self, positions: Mapping[str, int]) -> None:
        """Where it goes on."""
        self._positions = positions
        if not any(self._left.values()):
            self.since_ms = None

    def take_ends(self, ends: Mapping[str, int], read_ms: int) -> None:
        """Where its inputs end."""
        self._ends = dict(ends)
        if not any(self._left.values()):
            self.since_ms = None
        elif self.since_ms is None:
            self.since_ms = read_ms

    def take_firsts(self, firsts: Mapping[str, First]) -> None:
        """What was found where it goes on."""
        self._firsts |= firsts
        if not any(self._left.values()):
            self.since_ms = None

    @property
    def behind(self) -> dict[str, int]:
        """Offsets to read, by topic; empty while no end is known."""
        found: dict[str, int] = {}
        for name, left in self._left.items():
            found[topic_of(name)] = found.get(topic_of(name), 0) + left
        return found

    def unsure(self) -> dict[str, Left]:
        """Inputs of which it is not known whether a record waits there."""
        found = {name: Left(self._positions[name], self._ends[name]) for name, left in self._left.items() if left}
        return {name: left for name, left in found.items() if not self._is_known(name, left)}

    def silent_ms(self, read_ms: int) -> int:
        """How long nothing has been written although a record waits; 0 where none is known to."""
        return self._since(read_ms) if self._waiting() else 0

    def is_silent(self, read_ms: int) -> bool:
        """Whether that is longer than this shard usually needs."""
        return self.silent_ms(read_ms) >= min(SILENT_MAX_MS, max(SILENT_MS, PACE * self._pause_ms))

    def waiting_since_ms(self) -> int:
        """Time of the first record that waits, as it says itself; 0 where none is known."""
        return min((one.time_ms or 0 for one in self._waiting()), default=0)

    def _since(self, read_ms: int) -> int:
        return 0 if self.since_ms is None else max(0, read_ms - max(self.heard_ms, self.since_ms))

    def _waiting(self) -> list[First]:
        return [
            first
            for name, first in self._firsts.items()
            if first.time_ms is not None
            and (left := self._left.get(name))
            and self._ends[name] - left <= first.offset < self._ends[name]
        ]

    def _is_known(self, name: str, left: Left) -> bool:
        first = self._firsts.get(name)
        return (
            first is not None
            and first.time_ms is not None
            and first.position <= left.position <= first.offset < left.end
        )

    @property
    def _left(self) -> dict[str, int]:
        """By input; what holds no record is left out where that is known."""
        return {name: max(0, end - self._start(name, end)) for name, end in self._ends.items()}

    def _start(self, name: str, end: int) -> int:
        position = self._positions.get(name, end)
        first = self._firsts.get(name)
        return first.offset if first is not None and first.position <= position <= first.offset else position
