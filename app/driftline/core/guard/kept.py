"""What the guard remembers: the last values of each series, and how often each rung tripped.

It is part of a shard's state: bounded (`guard.keys_max` series, the least recently used one is let go), and plain lists
and dicts. Of a series with a season, each of its 24 parts keeps the value of the latest season and of the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from msgspec import structs

from driftline.core.compact import compacted
from driftline.core.guard.distribution import Outputs
from driftline.core.guard.familiar import Known, learn, nothing
from driftline.core.output import Decision, HeldBack, Prediction, Rung
from driftline.core.pipeline.guard import GuardForm
from driftline.core.record import EventId, FeatureValue

PARTS: Final = 24
DECIDED_MAX: Final = 10_000
APART_MAX: Final = 1_000
TENTHS: Final = 10  # of a window of time
BLOCK: Final = 100  # predictions; the latest block and the one that is being filled say how often a rung trips
CLEAN: Final = 100  # predictions in a row that passed, for the model to count as good

Series: TypeAlias = list[Any]
"""Of one series: the last accepted value, the last label (None before the first), and by part of the season the number
of the season, its value, and the value of the season before."""


@dataclass(slots=True)
class Kept:
    """The guard's part of a shard's state.

    Attributes:
        series: by key, the least recently used one first.
        evicted: series that were let go.
        keyless: predictions whose event lacks a field of the key.
        clean: predictions in a row that passed, up to `CLEAN`.
        filled: predictions in the block that is being filled; `trips` are those of its rungs, `trips_before` of the
            block before it.
        turn: how often the fields that tell series apart were changed.
        crowds: of the latest tenths of a window of time: its number, its predictions, and those that are a yes;
            `crowd_all` these two of all tenths together.
        known: what was learned of each feature.
        apart: series of forecasts whose observations lie so far from their level that only a person lets them move,
            by key: how many times as large as the level. Later ones than `APART_MAX` are not noted.
        outputs: predictions that are compared with each other (`guard.distribution`).
        held: predictions that wait for a person, by event, in the order of their deadlines.
        decided: what was served of those that wait for their label. The ledger keeps an event as it was scored: what a
            full segment of it carries is written once.
    """

    series: dict[bytes, Series] = field(default_factory=dict)
    evicted: int = 0
    keyless: int = 0
    clean: int = CLEAN
    filled: int = 0
    trips: dict[str, int] = field(default_factory=dict)
    trips_before: dict[str, int] | None = None
    turn: int = 0
    crowds: list[list[int]] = field(default_factory=list)
    crowd_all: list[int] = field(default_factory=lambda: [0, 0])
    known: list[Known] = field(default_factory=list)
    held: dict[EventId, HeldBack] = field(default_factory=dict)
    decided: dict[EventId, Decision] = field(default_factory=dict)
    apart: dict[bytes, float] = field(default_factory=dict)
    outputs: Outputs = field(default_factory=Outputs)

    def __setstate__(self, state: tuple[None, dict[str, Any]]) -> None:
        """States that were written before there was all of it lack some; of a decision, the class that was served says
        what it was."""
        crowds: list[list[int]] = state[1]["crowds"]
        crowd_all = [sum([one[place] for one in crowds]) for place in (1, 2)]
        for name, part in {"apart": {}, "outputs": Outputs(), "crowd_all": crowd_all, **state[1]}.items():
            setattr(self, name, part)
        self.decided = {event_id: _decision(one) for event_id, one in self.decided.items()}

    # -- reviews

    @property
    def deadline_ms(self) -> int | None:
        """When the next review must be decided: the watermark must pass it."""
        return next(iter(self.held.values())).deadline_ms if self.held else None

    def overdue(self, time_ms: int) -> list[tuple[EventId, HeldBack]]:
        """Those whose deadline has passed, the first first."""
        found = []
        for event_id, held in self.held.items():
            if held.deadline_ms >= time_ms:
                break
            found.append((event_id, held))
        return found

    def decide(self, event_id: EventId, decision: Decision) -> None:
        """A prediction was decided whose label has not come; beyond `DECIDED_MAX`, the oldest is forgotten."""
        self.decided[event_id] = decision
        if len(self.decided) > DECIDED_MAX:
            del self.decided[next(iter(self.decided))]

    def begin_at(self, time_ms: int) -> None:
        """Time begins: what was held before then waits from now on."""
        self.held = {
            event_id: structs.replace(held, deadline_ms=held.deadline_ms + time_ms)
            for event_id, held in self.held.items()
        }

    # -- series

    def accept(self, key: bytes, value: float, time_ms: int, season_ms: int, keys_max: int) -> None:
        """A prediction of the series has passed.

        Args:
            season_ms: 0 without a season.
        """
        series = self.series
        found = series.get(key)
        if found is None:
            found = self._used(key, keys_max)
        elif len(series) > 1:  # it is the most recently used one now
            del series[key]
            series[key] = found
        found[0] = value
        if season_ms:
            _put(found[2], value, time_ms, season_ms)

    def label(self, key: bytes, value: float, time_ms: int, season_ms: int, keys_max: int) -> None:
        """The truth about an event of the series, which stands in place of what was predicted then.

        Args:
            time_ms: of the event.
        """
        found = self._used(key, keys_max)
        found[1] = value
        if season_ms:
            _put(found[2], value, time_ms, season_ms)

    @property
    def mark(self) -> bytes:
        """What the keys of series begin with outside: one of another turn is of no series that is known."""
        return b"\x01%d\x01" % self.turn if self.turn else b""

    def last(self, key: bytes) -> float | None:
        """The last value that was accepted, or else the last label."""
        found = self.series.get(key)
        if found is None:
            return None
        accepted: float | None = found[0]
        labelled: float | None = found[1]
        return labelled if accepted is None else accepted

    def a_season_ago(self, key: bytes, time_ms: int, season_ms: int) -> float | None:
        """The last value of the same part of an earlier season."""
        found = self.series.get(key)
        part = None if found is None else found[2].get(_part(time_ms, season_ms))
        if part is None:
            return None
        latest, value, before = part
        past: float | None = value if latest < time_ms // season_ms else before
        return past

    def bound(self, keys_max: int) -> None:
        """Let go of the least recently used series beyond a maximum."""
        while len(self.series) > keys_max:
            del self.series[next(iter(self.series))]
            self.evicted += 1
            self.series = compacted(self.series, self.evicted, keys_max)

    def adopt(self, before: GuardForm | None, after: GuardForm | None) -> None:
        """Another guard is declared: series that it tells apart otherwise begin anew, and so do its counts lately."""
        self.filled, self.trips, self.trips_before, self.clean = 0, {}, None, CLEAN
        self.apart.clear()
        if after is None or after.unfamiliar is None:
            self.known.clear()
        if before is None or after is None or before.share != after.share:
            self.crowds.clear()
            self.crowd_all = [0, 0]
        if before is None or after is None or before.distribution != after.distribution:
            self.outputs = Outputs()
        if before is None or after is None or before.by != after.by or not after.remembers:
            self.series.clear()
            self.turn += 1
        elif before.season_ms != after.season_ms:
            for found in self.series.values():
                found[2].clear()
        if after is not None:
            self.bound(after.keys_max)

    def _used(self, key: bytes, keys_max: int) -> Series:
        """A series, which is now the most recently used one."""
        found = self.series.pop(key, None)
        self.series[key] = found = [None, None, {}] if found is None else found
        if len(self.series) > keys_max:
            self.bound(keys_max)
        return found

    def crowd(self, positive: bool, time_ms: int, window_ms: int) -> tuple[int, int]:
        """One more prediction; returns how many within the window were a yes, and how many there were."""
        number, crowds, crowd = time_ms * TENTHS // window_ms, self.crowds, self.crowd_all
        if not crowds or number > crowds[-1][0]:
            crowds.append([number, 0, 0])
            while crowds[0][0] <= number - TENTHS:
                crowd[0] -= crowds[0][1]
                crowd[1] -= crowds[0][2]
                del crowds[0]
        latest = crowds[-1]  # an event that is late counts among the latest
        latest[1] += 1
        crowd[0] += 1
        if positive:
            latest[2] += 1
            crowd[1] += 1
        return crowd[1], crowd[0]

    def learn(self, values: Sequence[FeatureValue]) -> None:
        """The model learned from an event."""
        while len(self.known) < len(values):
            self.known.append(nothing())
        learn(self.known, values)

    def part(self, key: bytes, times: float | None) -> None:
        """Note that a series' observations lie far from its level; None: they do not."""
        if times is None:
            self.apart.pop(key, None)
        elif key in self.apart or len(self.apart) < APART_MAX:
            self.apart[key] = times

    # -- counts

    def predicted(self) -> None:
        """One more prediction was judged."""
        if self.filled >= BLOCK:
            self.filled, self.trips_before, self.trips = 0, self.trips, {}
        self.filled += 1

    def trip(self, rung: Rung) -> None:
        """A rung tripped, of the prediction that was judged last."""
        self.trips[rung] = self.trips.get(rung, 0) + 1

    def recent(self, rung: Rung) -> tuple[int, int]:
        """How often a rung tripped lately, of how many predictions."""
        before = self.trips_before
        if before is None:
            return self.trips.get(rung, 0), self.filled
        return self.trips.get(rung, 0) + before.get(rung, 0), self.filled + BLOCK


def _decision(one: Decision | Prediction) -> Decision:
    if isinstance(one, Decision):
        return one
    return Decision(one, one.label if isinstance(one.label, bool) else None)


def _part(time_ms: int, season_ms: int) -> int:
    return time_ms % season_ms * PARTS // season_ms


def _put(parts: dict[int, list[Any]], value: float, time_ms: int, season_ms: int) -> None:
    """Put a value in its part of the season; one that is older than the season before the latest is left out."""
    season, place = time_ms // season_ms, _part(time_ms, season_ms)
    part = parts.get(place)
    if part is None:
        parts[place] = [season, value, None]
    elif season > part[0]:
        part[0], part[1], part[2] = season, value, part[1]
    elif season == part[0]:
        part[1] = value
    elif season == part[0] - 1:
        part[2] = value
