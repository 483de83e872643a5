"""What becomes of a model's exceptions: each costs the record that caused it, and nothing else.

A model may raise at one record (code of the user's own, a value that it was not made for), and may have changed half
of itself by then: a pipeline's scaler learns before the classifier behind it raises. So the model is put back as it
was (`model.Learner` does it), and the journal names the call that raised: a replay passes it over instead of asking a
model that might not raise again.

Putting a model back costs more than a call, so a storm of such records could stall a shard. After `BURST` exceptions
among `BURST_CALLS` calls the model rests: `REST_CALLS` calls are not made. Events then get an empty prediction
(`withheld`), labels are published as `failed`. The first exception after a rest begins the next one, as long as the
burst is not forgotten.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Mapping
from typing import Literal

from driftline.core.error import DriftlineError
from driftline.core.record import Control

WINDOW_CALLS = 1_000  # of the model: over how many its exceptions are counted for the alert
BURST = 20
BURST_CALLS = 100
REST_CALLS = 200
NOTES_MAX = 200  # of one slice's journal entry; beyond it a replay asks the model again
NOTE_CHARACTERS_MAX = 200


class ModelRaisedError(DriftlineError):
    """The model raised at this call, or rests; the text is its traceback's last line. The model is as it was before."""


class Faults:
    """Exceptions of one shard's model, counted in calls and not in time, so that a replay counts the same.

    Attributes:
        calls: score and learn calls that were made since the first.
        resting: calls that will still be passed over.
        episode: number of the latest episode of too many exceptions, from 1; `open` while it lasts.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.resting = 0
        self.episode = 0
        self.open = False
        self._rested = False
        self._recent: deque[int] = deque(maxlen=WINDOW_CALLS)  # numbers of the calls that raised

    def add(self) -> None:
        """The call just made raised."""
        recent = self._recent
        recent.append(self.calls)
        if len(recent) >= BURST and recent[-BURST] > self.calls - BURST_CALLS:
            self.resting = REST_CALLS

    @property
    def recent_count(self) -> int:
        """Exceptions among the last `WINDOW_CALLS` calls."""
        recent = self._recent
        while recent and recent[0] <= self.calls - WINDOW_CALLS:
            recent.popleft()
        return len(recent)

    def turn(self, error_max: int) -> Literal["opened", "ongoing", "resolved"] | None:
        """What is to be told now: that there are `error_max` exceptions of late, that the model rests because of
        them (once an episode), or that none is left."""
        count = self.recent_count
        if not self.open:
            if count < error_max:
                return None
            self.open, self._rested = True, False
            self.episode += 1
            return "opened"
        if not count:
            self.open = False
            return "resolved"
        if self.resting and not self._rested:
            self._rested = True
            return "ongoing"
        return None


class Notes:
    """Which calls raised, of one slice: written into its journal entry, and read from there at a replay.

    Args:
        known: what the journal says raised, by call; None when the slice is folded for the first time.
        vouch: asked then of each model file that is loaded: why it may not be, or None. A replay does not ask, since
            the answer depends on a key that it may not have: the journal names what was refused.
        admit: asked likewise of each command: why it may not be taken, or None.

    Attributes:
        replays: the journal knows what came of this slice.
        found: the calls that raised now and that the journal is to name.
    """

    def __init__(
        self,
        known: Mapping[str, str] | None = None,
        vouch: Callable[[bytes], str | None] = lambda content: None,
        admit: Callable[[Control], str | None] = lambda control: None,
    ) -> None:
        self.replays = known is not None
        self.known = known or {}
        self.vouch = vouch
        self.admit = admit
        self.found: dict[str, str] = {}

    def add(self, call: str, detail: str) -> None:
        if len(self.found) < NOTES_MAX:
            self.found[call] = detail

    def refusal(self, call: str, control: Control) -> str | None:
        """Why a command is refused, or None: as the journal says, or as is judged now. Every refusal is named, since a
        replay cannot ask again; a slice ends before there are many."""
        detail = self.known.get(call) if self.replays else self.admit(control)
        if detail is not None:
            self.found[call] = detail
        return detail


def last_line(error: BaseException) -> str:
    """A traceback's last line: the exception's type and text. Total, whatever its `__str__` does."""
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines()
    return lines[-1][:NOTE_CHARACTERS_MAX] if lines else type(error).__name__
