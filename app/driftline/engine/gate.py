"""Which commands a worker accepts from the control topic: judged once, when they are first processed.

What it depends on (keys, clock, a flag) is not the same everywhere and later, so a refusal is noted in the slice's
journal entry, and a replay asks the journal.
"""

from __future__ import annotations

from driftline.codec.command import is_signed
from driftline.codec.keyring import KeyRing
from driftline.core.record import Control
from driftline.core.shard.command import WINDOW_MS
from driftline.transport.clock import Clock

AHEAD_MAX_MS = 300_000  # how far the sender's clock may be ahead of the worker's
AGE_MAX_MS = WINDOW_MS


class Gate:
    """See the module.

    Args:
        pipeline: its name.
        unsigned_models: models are taken that no key signed, where there is none.
    """

    def __init__(self, pipeline: str, ring: KeyRing, clock: Clock, *, unsigned_models: bool) -> None:
        self._pipeline = pipeline
        self._ring = ring
        self._clock = clock
        self._unsigned_models = unsigned_models

    def __call__(self, control: Control) -> str | None:
        """Why a command is refused, or None."""
        if self._ring:
            if not is_signed(control.source.value, self._ring):
                return (
                    "it is not signed with a key of this deployment: send it with `driftline control` where "
                    "DRIFTLINE_SNAPSHOT_KEY is set"
                )
            if not (control.pipeline and control.nonce and control.sent_ms):
                return "it is signed but lacks pipeline, nonce or time: send it with `driftline control`"
        elif control.chunk is not None and not self._unsigned_models:
            return (
                "this worker has no key, so it accepts no model over the control topic: set DRIFTLINE_SNAPSHOT_KEY, or "
                "start it with --accept-unsigned-models"
            )
        if control.pipeline and control.pipeline != self._pipeline:
            return f"it is for pipeline {control.pipeline!r:.80}"
        return self._untimely(control)

    def _untimely(self, control: Control) -> str | None:
        now_ms = int(self._clock.wall_s() * 1000)
        begun_ms = int(control.chunk.load[:13]) if control.chunk is not None else control.sent_ms
        if control.chunk is not None and control.sent_ms and control.sent_ms != begun_ms:
            return "its name and sent_ms name different times: send it with `driftline control`"
        if begun_ms - now_ms > AHEAD_MAX_MS:
            return (
                f"its time is {(begun_ms - now_ms) / 1000:,.0f} s ahead of this worker's clock "
                f"(limit: {AHEAD_MAX_MS // 1000} s): correct the clocks"
            )
        if control.sent_ms and now_ms - control.sent_ms > AGE_MAX_MS:
            return f"it was sent more than {AGE_MAX_MS // 86_400_000} days ago: send it again"
        return None
