"""Labels that find no event, or find it too late, and labels that do not come: what is kept of them to judge by.

Labels that find their event, and events without an early label, do not pass through here. A label
that finds no event is counted, and a sample is kept of those that found none yet: one that finds its event after all
is removed again, so what stays in the sample are those that do not. `fold.loss` judges.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct

from driftline.core.label.cause import STRAYS_MIN, Leap, Probe
from driftline.core.label.early import Held
from driftline.core.record import EventId

NEVER: Final = 1 << 62
PROBES: Final = 64  # labels in a sample
GONE: Final = 256  # events in a sample
LOOK_MS: Final = 20_000  # from one look to the next, at least
PATIENCE_MS: Final = 30_000  # that any label may come before its event
STEP_MAX: Final = 4_096  # labels without an event, from one look to the next
LEAP_MS: Final = 3_600_000  # a move of the watermark that is worth remembering; less where waits are shorter
CHECK_EVENTS: Final = 200  # events, between checks whether labels arrive at all


class Mark(Struct, frozen=True, gc=False, array_like=True):
    """Where a window begins.

    Args:
        labels: that had come by then, -1 where it is to be filled in; the others as in `Strays`.
    """

    now_ms: int
    labels: int
    held: int
    met: int
    late: int
    gone: int


class Silence(Struct, array_like=True):
    """Whether labels come at all, asked every `CHECK_EVENTS` events.

    Args:
        labels: that had come at the last check.
        events: that had been scored at the last check that found a new label.
        quiet_ms, quiet_events: when it was seen that no label came of enough events, and how many had been scored then;
            None while labels come.
        gap_ms: the longest such time after which they came again.
        first_ms: when the first label found no event, -1 before that.
        span_ms: from the beginning to each label that found no event, added up.
    """

    labels: int = 0
    events: int = 0
    quiet_ms: int | None = None
    quiet_events: int = 0
    gap_ms: int = 0
    first_ms: int = -1
    span_ms: int = 0


@dataclass(slots=True)
class Strays:
    """What one shard knows of labels without events.

    Attributes:
        began_ms: the watermark when this began: labels of events from before it have no event here.
        first_offset: of the first event after that.
        event_ms: how far events have come: the latest time of one, or of a tick, at which none is left unread.
        held: labels that found no event when they came.
        met: those of them whose event came; `lead_ms` is the longest that one was held until then.
        late: labels that came after their event's wait, `tardy` the last of them: see `cause.late_cause`.
        gone: a sample of events whose wait ended without a label, by when they came: by now they may be forgotten, and
            the `gone_count` labels of theirs that came found no event. They count among `tardy`.
        fresh: the sample for causes that show in a label; `aged` the one for what does not, by how long they are held.
        leap: the watermark's greatest move at once.
        since: where the window began that shares are of.
        step: labels without an event from one look to the next; it grows while looks find nothing.
        look_at: at how many of them to look; `look_ms` at which watermark.
        looked: how many labels had no event, and how many events had been scored, at the last look.
        check_at: at how many scored events to ask whether labels come at all; the first time at the first.
    """

    began_ms: int | None = None
    first_offset: int | None = None
    event_ms: int = 0
    held: int = 0
    met: int = 0
    lead_ms: int = 0
    late: int = 0
    tardy: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=PROBES))
    gone: dict[EventId, int] = field(default_factory=dict)
    gone_count: int = 0
    gone_since_ms: int = 0
    fresh: dict[EventId, Probe] = field(default_factory=dict)
    aged: dict[EventId, Probe] = field(default_factory=dict)
    leap: Leap | None = None
    since: Mark | None = None
    step: int = STRAYS_MIN
    look_at: int = STRAYS_MIN
    look_ms: int = NEVER
    looked: tuple[int, int] = (0, 0)
    check_at: int = 1
    silence: Silence = field(default_factory=Silence)

    @property
    def count(self) -> int:
        """Labels that found no event when they came, or found it too late."""
        return self.held + self.late

    def hold(self, held: Held, now_ms: int) -> None:
        """A label found no event."""
        self._expect_look(now_ms)
        self.held += 1
        silence = self.silence
        if silence.first_ms < 0:
            silence.first_ms = now_ms
        silence.span_ms += now_ms - (now_ms if self.began_ms is None else self.began_ms)
        seen_ms = self.gone.pop(held.event_id, None)
        if seen_ms is not None:
            self.gone_count += 1
            self.tardy.append((held.time_ms - seen_ms, now_ms - held.time_ms))
        if len(self.fresh) < PROBES:
            self.fresh[held.event_id] = Probe(held.event_id, held.key, held.time_ms, now_ms)

    def meet(self, event_id: EventId, held_for_ms: int) -> None:
        """The event of a held label came."""
        self.met += 1
        if held_for_ms > self.lead_ms:
            self.lead_ms = held_for_ms
        self.fresh.pop(event_id, None)
        self.aged.pop(event_id, None)

    def miss(self, delay_ms: int, behind_ms: int, now_ms: int) -> None:
        """A label came after its event's wait.

        Args:
            delay_ms: from the event's arrival to the label's own time.
            behind_ms: from that to the watermark.
        """
        self._expect_look(now_ms)
        self.late += 1
        self.tardy.append((delay_ms, behind_ms))

    def give_up(self, event_id: EventId, seen_ms: int, now_ms: int, wait_ms: int) -> None:
        """An event's wait ended without a label; a sample is kept for as long as a wait, then the next is taken.

        Args:
            seen_ms: the watermark when it came.
        """
        gone = self.gone
        if len(gone) >= GONE:
            if now_ms - self.gone_since_ms <= wait_ms:
                return
            gone.clear()
        if not gone:
            self.gone_since_ms = now_ms
        gone[event_id] = seen_ms

    def _expect_look(self, now_ms: int) -> None:
        if self.look_ms == NEVER:  # all was well: a window begins with this label
            self.look_ms = now_ms + LOOK_MS
            self.look_at, self.step = self.count + STRAYS_MIN, STRAYS_MIN
            self.since = Mark(now_ms, -1, self.held, self.met, self.late, self.gone_count)

    def move(self, from_ms: int, to_ms: int, place: str) -> None:
        """The watermark moved far at once: at least as far as `Terms.leap_ms`."""
        if self.leap is None or to_ms - from_ms >= self.leap.to_ms - self.leap.from_ms:
            self.leap = Leap(from_ms, to_ms, place)

    def begin_again(self) -> None:
        """Events are missing from here on: their labels are not lost. The next look starts over."""
        self.began_ms = self.first_offset = None
        self.silence.first_ms, self.silence.span_ms = -1, 0
        self.check_at = 0
        self.fresh.clear()
        self.aged.clear()
        self.since = None

    def awaits_events(self, now_ms: int) -> bool:
        """Whether it matters that no event is left unread: labels find none, and time has gone on without events."""
        since = self.since
        if since is None or self.look_ms == NEVER or self.count - since.held - since.late < STRAYS_MIN:
            return False
        return now_ms - self.event_ms >= PATIENCE_MS

    def deadline_ms(self, scored: int) -> int | None:
        """When the passing of time alone calls for a look: once after the last record that could show anything."""
        since = self.since
        if self.look_ms == NEVER or since is None or self.count - since.held - since.late < STRAYS_MIN:
            return None
        return None if self.looked == (self.count, scored) else self.look_ms
