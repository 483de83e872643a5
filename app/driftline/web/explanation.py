"""`driftline explain` for the page, in a process of its own: to derive a score takes a recovery of its shard.

One at a time, at a low priority, for a bounded time: the worker goes on scoring.
"""

from __future__ import annotations

from collections.abc import Sequence

from driftline.config import Settings
from driftline.core.error import InputFileError
from driftline.core.pipeline import Pipeline
from driftline.operate.apart import PROGRAM, output_of

TIMEOUT_S = 120.0
TEXT_MAX = 40_000  # bytes
CODES = (0, 1)  # it has an answer, also where what it derives is not what was served


class Explainer:
    """See the module.

    Args:
        program: what is run, before its arguments.
    """

    def __init__(self, pipeline: Pipeline, settings: Settings, program: Sequence[str] = PROGRAM) -> None:
        self._pipeline, self._settings = pipeline, settings
        self._program = program
        self._busy = False

    async def explain(self, event_id: str) -> str:
        """What `driftline explain` prints.

        Raises:
            InputFileError: it cannot be, or another one is being explained; the message says which.
        """
        if self._busy:
            raise InputFileError("another score is being explained; try again when it is done")
        self._busy = True
        words = ["explain", f"--event={event_id}"]
        try:
            out = await output_of(self._pipeline, self._settings, words, TIMEOUT_S, program=self._program, codes=CODES)
        finally:
            self._busy = False
        return out[:TEXT_MAX].decode("utf-8", "replace")
