"""Ledgers and histories in segments of a few events or keys, so that a short stream fills many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from driftline.core.history import keys
from driftline.core.label import ledger, segment, store
from driftline.core.state import soundness


@contextmanager
def segments_of(shift: int) -> Iterator[None]:
    """Segments of 2 ** shift, for every ledger and history that is made and used within."""
    with ExitStack() as stack:
        for name, value in (("SHIFT", shift), ("SLOT", (1 << shift) - 1)):
            for module in (ledger, store):
                stack.enter_context(patch.object(module, name, value))
        for module in (keys, segment, soundness, store):
            stack.enter_context(patch.object(module, "SEGMENT", 1 << shift))
        yield
