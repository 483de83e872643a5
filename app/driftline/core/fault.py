"""Handling of a model's exceptions: each costs the record that caused it, and nothing else.

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
from typing import Literal

from driftline.core.error import DriftlineError

WINDOW_CALLS = 1_000  # of the model: over how many its exceptions are counted for the alert
BURST = 20
BURST_CALLS = 100
REST_CALLS = 200
NOTE_CHARACTERS_MAX = 200
STOPS = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""What no part of River raises of itself. Its parts in Rust panic past Exception: all else is a fault of theirs."""


class ModelRaisedError(DriftlineError):
    """The model raised at this call, or rests; the text is its traceback's last line. The model is as it was before."""


class Faults:
    """Exceptions of one shard's model, counted in calls and not in time, so that a replay counts the same.

    Attributes:
        calls: score and learn calls that were made since the first.
        resting: calls that will still be skipped.
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
    def any(self) -> bool:
        """Whether there is anything to publish or to count: exceptions of late, or an open episode of them."""
        return self.open or bool(self._recent)

    @property
    def recent_count(self) -> int:
        """Exceptions among the last `WINDOW_CALLS` calls."""
        recent = self._recent
        while recent and recent[0] <= self.calls - WINDOW_CALLS:
            recent.popleft()
        return len(recent)

    def turn(self, error_max: int) -> Literal["opened", "ongoing", "resolved"] | None:
        """What is to be published now: that there are `error_max` exceptions of late, that the model rests because of
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


def last_line(error: BaseException) -> str:
    """A traceback's last line: the exception's type and text. Total, whatever its `__str__` does."""
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines()
    return lines[-1][:NOTE_CHARACTERS_MAX] if lines else type(error).__name__
