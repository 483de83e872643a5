"""Commands that a shard has accepted and their senders, so that none is accepted twice.

Each command of `driftline control` carries when it was sent and a nonce. Nonces are kept for `WINDOW_MS` behind the
latest command, and at most `TAKEN_MAX` of them; what was sent before that is refused, since it is no longer known
whether it was taken. Those of unsigned commands are kept apart, and the oldest is dropped for each beyond
`TAKEN_MAX`: where they are accepted at all, there is no key, and whoever could repeat one could as well write another.
So a flood of them can have nothing refused.

Whether a command is signed, and whether its time may be, is judged once, where it is folded first (`engine.gate`);
a refusal stands in the slice's journal entry, and a replay does as it says.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from msgspec import Struct

from driftline.core.record import Control

WINDOW_MS = 7 * 86_400_000
SILENCE_MAX_MS = 365 * 86_400_000  # of `silence`
TAKEN_MAX = 1_000
LATEST_MAX = 5


class Refused(Struct, frozen=True, gc=False):
    """Why a command is of no use: a reason as rejected records carry it, and what to do."""

    reason: str
    detail: str


class Commands:
    """What one shard knows of its commands.

    Attributes:
        floor_ms: commands sent up to then are refused.
        crowded_ms: the same, of signed ones: there were too many since.
        latest: command, sender and time of the last few, for people.
    """

    crowded_ms = 0  # in the class until it is needed, as is the next: states that were kept before have neither
    _unsigned: dict[str, int] | None = None  # nonce to when it was sent, in the order in which they came

    def __init__(self) -> None:
        self.floor_ms = 0
        self.latest: deque[tuple[str, str, int]] = deque(maxlen=LATEST_MAX)
        self._taken: dict[str, int] = {}  # nonce to when it was sent

    def __len__(self) -> int:
        """How many commands are known to be executed."""
        return len(self._taken) + len(self._unsigned or ())

    def take(self, control: Control, load: str) -> Refused | None:
        """Take a command, or say why not.

        Args:
            load: the load that is under way or was the last, whose parts share a nonce.
        """
        nonce, sent_ms, chunk = control.nonce, control.sent_ms, control.chunk
        if not nonce:  # of a hand-written command, or of one that was written before there were nonces
            self._note(control)
            return None
        unsigned = self._unsigned or {}
        if nonce in self._taken or nonce in unsigned:
            if chunk is not None and chunk.load == load:
                return None
            return Refused("control_repeated", f"this {control.command} (nonce {nonce}) was already executed")
        if sent_ms <= (max(self.floor_ms, self.crowded_ms) if control.signed else self.floor_ms):
            return Refused("control_repeated", "it was sent so long ago that it may have been executed; send it again")
        self.floor_ms = max(self.floor_ms, sent_ms - WINDOW_MS)
        if control.signed:
            self._taken[nonce] = sent_ms
            if len(self._taken) > TAKEN_MAX:
                self.crowded_ms = max(self.crowded_ms, min(self._taken.values()))
        else:
            unsigned[nonce] = sent_ms
            if len(unsigned) > TAKEN_MAX:
                del unsigned[next(iter(unsigned))]
            self._unsigned = unsigned
        until_ms = max(self.floor_ms, self.crowded_ms)
        self._taken = {one: at_ms for one, at_ms in self._taken.items() if at_ms > until_ms}
        self._note(control)
        return None

    def _note(self, control: Control) -> None:
        if control.chunk is None or control.chunk.number == 0:
            self.latest.append((control.command, control.by, control.sent_ms or control.order_ms))

    def values(self) -> list[dict[str, Any]]:
        """The last few, for people."""
        return [{"command": command, "by": by, "time_ms": time_ms} for command, by, time_ms in self.latest]
