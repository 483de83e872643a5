"""Ledgers and histories in segments of a few events or keys, so that a short stream fills many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from driftline.core.history import keys
from driftline.core.label import ledger, segment, store
from driftline.core.shard.state import Shard
from driftline.core.state import soundness
from driftline.core.state.freeze import Frozen, dump_body, dump_marks, dump_rest, view_of


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


def in_parts(shard: Shard) -> Frozen:
    """A shard as a snapshot keeps it: its ledger and history segment by segment."""
    view = view_of(shard)
    rest = dump_rest(shard, view)
    segments = [([dump_body(one.state())], [dump_marks(one.state())]) for part in view.parts for one in part.segments]
    view.release()
    return Frozen(rest, segments)
