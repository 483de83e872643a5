"""What a fold receives besides state and records: verdicts that a replay could not reach again by itself.

Whether a model raises at a call, whether a command may be taken and whether a model file may serve depend on code, keys
and clocks that a replay may not have. They are judged once, when a slice is folded for the first time. What was refused
or raised is written into its journal entry, and a replay takes it from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from driftline.core.record import Control

FOUND_MAX = 200  # calls that raised, of one slice's journal entry; beyond it a replay asks the model again


class Oracle:
    """The verdicts of one slice.

    Args:
        known: at a replay, what the journal says was refused or raised, by call; None when the slice is folded for the
            first time.
        vouch: asked then of each model file that is loaded: why it may not be, or None. A replay does not ask, since
            the answer depends on a key that it may not have.
        admit: asked likewise of each command: why it may not be taken, or None.

    Attributes:
        replays: the journal knows what came of this slice.
        found: what was refused or raised now, by call: what the journal is to name.
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
        """A call raised, or was refused."""
        if len(self.found) < FOUND_MAX:
            self.found[call] = detail

    def refusal(self, call: str, control: Control) -> str | None:
        """Why a command is refused, or None: as the journal says, or as is judged now. Every refusal is named, since a
        replay cannot ask again; a slice ends before there are many."""
        detail = self.known.get(call) if self.replays else self.admit(control)
        if detail is not None:
            self.found[call] = detail
        return detail
