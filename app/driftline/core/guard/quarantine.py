"""Pairs that are held back from learning, and what is needed to undo what was learned before they were suspect.

A model cannot unlearn. So where the pipeline file asks for it, a copy of the model is kept every `STRIDE` pairs, and
the pairs that were learned since the older of two copies: between `STRIDE` and twice as many. A burst that is found
began some pairs ago; the model goes back to the last copy before that, learns again what came between, bit for bit as
it did then, and what came since is held with the rest. A pair is thus in the model, held, or dropped, and never in two
of these places.

What is held waits for a person, for a deadline in event time, or until `quarantine.max` pairs are held, whichever
comes first. If labels are still suspect at the deadline or the maximum, they are no burst but how things are: the
test's reference begins with them, and learning goes on.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct

from driftline.core.guard.suspicion import Suspicion
from driftline.core.model.learner import Learner
from driftline.core.record import EventId, FeatureValue, LabelValue

STRIDE: Final = 1_000  # pairs between two copies of the model
SEEN: Final = 256  # pairs that an alert is worded by


class Pair(Struct, frozen=True, gc=False, array_like=True):
    """An event and its label, as they are learned.

    Args:
        output_id: of the pair's outcome.
        time_ms: of the event.
        number: of the pair in the test, or of the latest one before it that was tested.
    """

    output_id: str
    event_id: EventId
    values: tuple[FeatureValue, ...]
    label: LabelValue
    time_ms: int
    number: int


class Seen(Struct, frozen=True, gc=False, array_like=True):
    """A pair as an alert is worded by it.

    Args:
        number, code: as the test has it.
        partition: of the label.
    """

    number: int
    code: int
    values: tuple[FeatureValue, ...]
    partition: int

    @property
    def cell(self) -> int:
        return self.code >> 1

    @property
    def contradicts(self) -> bool:
        return bool(self.code & 1)


@dataclass(slots=True)
class Copies:
    """Copies of a model to go back to.

    Attributes:
        older, newer: copies, after `older_known` and `newer_known` labels, of the generation `generation`.
        recent: pairs that were learned since `older`; `newer` is a copy after `STRIDE` of them.
    """

    older: bytes | None = None
    newer: bytes | None = None
    older_known: int = 0
    newer_known: int = 0
    generation: int = 0
    recent: deque[Pair] = field(default_factory=deque)

    def learned(self, learner: Learner, pair: Pair) -> None:
        """The model learned a pair; a copy of it is due now and then."""
        if self.older is None or learner.generation != self.generation:
            self.forget()
            self.older, self.older_known, self.generation = learner.copied(), learner.known, learner.generation
            return
        recent = self.recent
        recent.append(pair)
        if len(recent) == STRIDE:
            self.newer, self.newer_known = learner.copied(), learner.known
        elif len(recent) >= 2 * STRIDE:
            for _ in range(STRIDE):
                recent.popleft()
            self.older, self.older_known = self.newer, self.newer_known
            self.newer, self.newer_known = learner.copied(), learner.known

    def go_back(self, learner: Learner, first: int) -> list[Pair]:
        """Make the model as it was before a pair, as far as there is a copy; returns what it knows no more.

        Args:
            first: the number of the pair.
        """
        older = self.older
        if older is None or learner.generation != self.generation:
            self.forget()
            return []
        pairs = list(self.recent)
        place = next((place for place, pair in enumerate(pairs) if pair.number >= first), len(pairs))
        if place == len(pairs):
            return []
        newer = self.newer if place >= STRIDE else None
        if newer is None:
            self.newer = None
            learner.go_back(older, self.older_known, [(one.values, one.label, one.time_ms) for one in pairs[:place]])
        else:
            again = [(one.values, one.label, one.time_ms) for one in pairs[STRIDE:place]]
            learner.go_back(newer, self.newer_known, again)
        self.generation = learner.generation
        self.recent = deque(pairs[:place])
        return pairs[place:]

    def forget(self) -> None:
        """No copy is of use any more: another model serves, or none is kept."""
        self.older = self.newer = None
        self.recent.clear()


@dataclass(slots=True)
class Quarantine(Copies):
    """The learning guard's part of a shard's state, with the copies of the model that serves.

    Attributes:
        held: pairs that are held back, in the order in which they are to be learned.
        deadline_ms: when they are decided by the pipeline file, in event time; also of a dry run, which then believes.
        opened_ms: when labels became suspect.
        seen: the latest pairs that were tested while labels began to look suspect.
    """

    test: Suspicion = field(default_factory=Suspicion)
    held: deque[Pair] = field(default_factory=deque)
    deadline_ms: int | None = None
    opened_ms: int = 0
    seen: deque[Seen] = field(default_factory=lambda: deque(maxlen=SEEN))

    def begin_at(self, time_ms: int) -> None:
        """Time begins: what was held before then waits from now on."""
        if self.deadline_ms is not None:
            self.deadline_ms += time_ms

    def undo(self, learner: Learner) -> list[Pair]:
        """Make the model as it was before the burst began, as far as there is a copy; returns what it knows no more."""
        undone = self.go_back(learner, self.test.first)
        if undone:
            self.test.undone(learner.generation)
        return undone

    def withdraw(self, event_id: EventId) -> int:
        """A label was corrected or retracted: it is not to be learned; returns how many pairs that were."""
        before = len(self.held)
        self.held = deque(pair for pair in self.held if pair.event_id != event_id)
        return before - len(self.held)
